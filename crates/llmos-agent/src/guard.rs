//! What a stranger wrote stays text: control tokens in it are not read as such.

use llmos_tokenizer::Tokenizer;
use serde_json::Value;

use crate::messages::{content, role};

/// Knows the control tokens of a vocabulary.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Their texts.
    control: Vec<String>,
}

/// Stands between two texts that are encoded by themselves: the last character of a private plane,
/// which no font and no standard gives a meaning.
const GAP: char = '\u{10FFFD}';

impl Guard {
    /// For a vocabulary.
    pub fn new(tokenizer: &Tokenizer) -> Guard {
        let ids = 0..tokenizer.vocab_size() as u32;
        let control = ids.filter(|&id| tokenizer.is_special(id)).map(|id| tokenizer.token_name(id));
        Guard { control: control.filter(|name| name.len() > 1).collect() }
    }

    /// The message with a gap in every control token that a person or a tool wrote.
    pub fn disarmed(&self, message: &Value) -> Value {
        let text = content(message);
        let strange = !matches!(role(message), "assistant" | "system" | "developer");
        if !strange || !self.control.iter().any(|token| text.contains(token.as_str())) {
            return message.clone();
        }
        let mut text = text.to_string();
        for token in &self.control {
            let first = token.chars().next().map_or(0, char::len_utf8);
            let broken = format!("{}{GAP}{}", &token[..first], &token[first..]);
            text = text.replace(token.as_str(), &broken);
        }
        let mut message = message.clone();
        message["content"] = text.into();
        message
    }

    /// The parts of a text with gaps, and where they begin in it, in bytes. Each is encoded by itself.
    pub fn parts(text: &str) -> impl Iterator<Item = (usize, &str)> {
        let start = text.as_ptr() as usize;
        text.split(GAP).map(move |part| (part.as_ptr() as usize - start, part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_know_where_they_begin() {
        let text = format!("a<{GAP}|end|>é{GAP}b");
        let parts: Vec<(usize, &str)> = Guard::parts(&text).collect();
        assert_eq!(parts, [(0, "a<"), (6, "|end|>é"), (18, "b")]);
        assert!(parts.iter().all(|(at, part)| text[*at..].starts_with(part)));
    }
}
