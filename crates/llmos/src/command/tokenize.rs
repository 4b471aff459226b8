//! `llmos tokenize`: text to tokens and back.

use llmos_tokenizer::Special;
use serde::Serialize;

use crate::Outcome;
use crate::failure::{Explain, failure};
use crate::generation;
use crate::terminal::{Style, Terminal, number_of};
use crate::vocabulary;

/// Turn the text on standard input into tokens, or tokens into text.
///
/// Standard input is read byte for byte, and no special tokens are added.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A model or a tokenizer: a path, a name, a tokenizer.json, a GGUF with a vocabulary alone.
    model: String,
    /// Print the ids on one line.
    #[arg(long, conflicts_with = "decode")]
    ids: bool,
    /// Read ids and write their text, special tokens included.
    #[arg(long)]
    decode: bool,
    /// Turn the names of special tokens in the text, such as <|im_end|>, into these tokens.
    #[arg(long)]
    special: bool,
    /// Print JSON.
    #[arg(long, conflicts_with_all = ["ids", "decode"])]
    json: bool,
}

#[derive(Serialize)]
struct Token {
    id: u32,
    text: String,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let tokenizer = vocabulary::of_name(&arguments.model, terminal)?;
    let input = generation::stdin()?;
    if arguments.decode {
        let text = String::from_utf8_lossy(&input);
        let ids: Vec<u32> = text
            .split(|c: char| c.is_whitespace() || c == ',')
            .filter(|word| !word.is_empty())
            .map(|word| {
                word.parse().explain(
                    || format!("{word:?} is not a token id"),
                    || "--decode reads numbers between spaces".into(),
                )
            })
            .collect::<anyhow::Result<_>>()?;
        let size = tokenizer.vocab_size();
        if let Some(id) = ids.iter().find(|&&id| id as usize >= size) {
            return Err(failure(
                format!("there is no token {id}"),
                format!("the vocabulary has ids below {size}"),
            ));
        }
        terminal.bytes(&tokenizer.decode(&ids))?;
        return Ok(Outcome::Success);
    }
    let special = if arguments.special { Special::Parse } else { Special::None };
    let ids = tokenizer.encode(&input, special);
    if arguments.ids {
        let words: Vec<String> = ids.iter().map(u32::to_string).collect();
        terminal.print(words.join(" ") + "\n")?;
        return Ok(Outcome::Success);
    }
    if arguments.json {
        let tokens: Vec<Token> =
            ids.iter().map(|&id| Token { id, text: tokenizer.token_text(id) }).collect();
        terminal.json(&serde_json::json!({ "count": tokens.len(), "tokens": tokens }))?;
        return Ok(Outcome::Success);
    }
    let mut lines = String::new();
    for &id in &ids {
        let text = format!("{:?}", tokenizer.token_text(id));
        lines += &format!("{id:>8}  {}\n", terminal.style(Style::Cyan, text));
    }
    terminal.print(lines)?;
    let rate = input.len() as f64 / ids.len().max(1) as f64;
    terminal.say(format_args!("{}, {rate:.2} bytes a token", number_of(ids.len(), "token")));
    Ok(Outcome::Success)
}
