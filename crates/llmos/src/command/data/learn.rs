//! The tokenizer of texts that come without one.

use llmos_tokenizer::Tokenizer;
use llmos_tokenizer::train::{BpeOptions, CharOptions, Trained};
use llmos_train::data::{Preparation, TokenizerFiles, read_texts};

use super::{explained, no_text, show};
use crate::failure::Explain;
use crate::terminal::{Terminal, size};
use crate::trainer::Trainer;

/// What ends a document.
const END: &str = "<|endoftext|>";

/// Ids for texts of up to so many bytes: small models do best with few, since each costs a row of
/// the embedding.
const SIZES: [(u64, usize); 4] =
    [(2_000_000, 1024), (20_000_000, 2048), (200_000_000, 4096), (u64::MAX, 8192)];

/// Learns a vocabulary from the texts of a preparation, with `vocab_size` ids if they give so many.
pub(super) fn learn(
    preparation: &Preparation,
    vocab_size: Option<usize>,
    characters: bool,
    terminal: &Terminal,
) -> anyhow::Result<(Tokenizer, TokenizerFiles)> {
    let hint = || "check --vocab and --char; or give --tokenizer".to_string();
    let what = || "no tokenizer can be learnt from these texts".to_string();
    let trainer = if characters {
        Trainer::characters(CharOptions { vocab_size, ..CharOptions::default() })
    } else {
        let vocab_size = vocab_size.map_or_else(|| size_of(preparation, terminal), Ok)?;
        Trainer::bpe(BpeOptions {
            vocab_size,
            pattern: "qwen2".into(),
            special: vec![END.into()],
            threads: preparation.threads,
            memory: (preparation.memory / 2).max(BpeOptions::least_memory(vocab_size)),
        })
    };
    let mut trainer = trainer.explain(what, hint)?;
    // A vocabulary of characters has no token that ends a document.
    let line_ends = characters;
    let bar = terminal.byte_bar(Some(1), "learning words");
    let mut is_empty = true;
    let mut take = |part: Option<&str>| {
        is_empty &= part.is_none_or(str::is_empty);
        trainer.take(part);
    };
    let read = read_texts(preparation, line_ends, &mut take, &mut |progress| show(&bar, progress));
    bar.finish_and_clear();
    read.map_err(explained)?;
    if is_empty {
        return Err(no_text(preparation.sources.iter().map(|source| &*source.path)));
    }
    let trained = trainer.train(terminal).explain(what, hint)?;
    let Trained { tokenizer, json, .. } = trained;
    terminal.say(format_args!("tokenizer: {} ids, learnt from the texts", tokenizer.vocab_size()));
    let config = tokenizer.to_json_config().into_bytes();
    let files = vec![
        ("tokenizer.json".to_string(), json.into_bytes()),
        ("tokenizer_config.json".to_string(), config),
    ];
    Ok((tokenizer, files))
}

/// The number of ids for so much text, which is said.
fn size_of(preparation: &Preparation, terminal: &Terminal) -> anyhow::Result<usize> {
    let n_byte = llmos_train::data::n_byte(preparation).map_err(explained)?;
    let fitting = SIZES.iter().find(|(most, _)| n_byte <= *most);
    let ids = fitting.map_or(SIZES[0].1, |&(_, ids)| ids);
    terminal.detail(format_args!("--vocab {ids}, for {} of files", size(n_byte)));
    Ok(ids)
}
