//! Ids back to text: the bytes of each token, and the stream that never splits a character.

use std::sync::Arc;

use crate::symbols::Strings;

/// The bytes that each token stands for, and what is done where they meet.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pub(crate) bytes: Strings,
    /// For each token, whether it is a control token, (V).
    pub(crate) special: Vec<bool>,
    /// A text loses the space that it begins with: encoding put it there.
    pub(crate) strip_first_space: bool,
    /// Spaces before punctuation and contractions go (WordPiece's `cleanup`).
    pub(crate) cleanup: bool,
    /// The last token loses its space (`</w>` of the older BPE models).
    pub(crate) strip_last_space: bool,
}

impl Pieces {
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }

    /// The bytes of a whole text.
    pub(crate) fn decode(&self, ids: &[u32], skip_special: bool) -> Vec<u8> {
        let mut text = Vec::with_capacity(ids.len() * 5);
        for &id in ids {
            if skip_special && self.is_special(id) {
                continue;
            }
            let bytes = self.bytes.get(id);
            if self.cleanup {
                text.extend_from_slice(clean_up(&String::from_utf8_lossy(bytes)).as_bytes());
            } else {
                text.extend_from_slice(bytes);
            }
        }
        if self.strip_first_space && text.first() == Some(&b' ') {
            text.remove(0);
        }
        if self.strip_last_space && text.last() == Some(&b' ') {
            text.pop();
        }
        text
    }
}

/// Hugging Face's `cleanup`, token by token.
fn clean_up(token: &str) -> String {
    let mut text = token.to_owned();
    for (from, to) in [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" do not", " don't"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ] {
        text = text.replace(from, to);
    }
    text
}

/// Turns a stream of ids into text, never splitting a character.
///
/// It is the middle of a text: nothing is stripped from the first token. Invalid bytes come out
/// as U+FFFD once it is certain that no later token completes them.
#[derive(Debug, Clone, Default)]
pub struct StreamDecoder {
    pub(crate) pieces: Arc<Pieces>,
    pending: Vec<u8>,
    skip_special: bool,
}

impl StreamDecoder {
    pub(crate) fn new(pieces: Arc<Pieces>) -> Self {
        StreamDecoder { pieces, ..StreamDecoder::default() }
    }

    /// Control tokens give no text from here on.
    #[must_use]
    pub fn skip_special(mut self) -> Self {
        self.skip_special = true;
        self
    }

    /// The text that `id` completes; empty while a character is still open.
    pub fn push(&mut self, id: u32) -> String {
        if self.skip_special && self.pieces.is_special(id) {
            return String::new();
        }
        self.pending.extend_from_slice(self.pieces.bytes.get(id));
        let mut text = String::new();
        let mut open = 0;
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            if chunk.invalid().is_empty() {
                continue;
            }
            if chunks.peek().is_none() && is_open(chunk.invalid()) {
                open = chunk.invalid().len();
            } else {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..self.pending.len() - open);
        text
    }

    /// What is left of an open character, as U+FFFD; the stream starts anew.
    pub fn flush(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }
}

/// Whether later bytes can complete an invalid stretch at the end of a text.
fn is_open(invalid: &[u8]) -> bool {
    std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(tokens: &[&[u8]]) -> (Vec<String>, String) {
        let mut pieces = Pieces::default();
        tokens.iter().for_each(|token| pieces.bytes.push(token));
        let mut decoder = StreamDecoder::new(Arc::new(pieces));
        let texts = (0..tokens.len() as u32).map(|id| decoder.push(id)).collect();
        (texts, decoder.flush())
    }

    #[test]
    fn characters_are_never_split() {
        let (texts, rest) = stream(&[b"a\xf0\x9f", b"\x98", b"\x80b", b"\xe4\xbd"]);
        assert_eq!(texts, ["a", "", "😀b", ""]);
        assert_eq!(rest, "\u{fffd}");
    }

    #[test]
    fn what_cannot_be_completed_comes_at_once() {
        let (texts, rest) = stream(&[b"\xff", b"\xe4", b"a", b"\x80"]);
        assert_eq!(texts, ["\u{fffd}", "", "\u{fffd}a", "\u{fffd}"]);
        assert_eq!(rest, "");
    }

    /// Whatever the cut, the stream gives what the standard library makes of the whole.
    #[test]
    fn a_stream_of_single_bytes_equals_the_lossy_whole() {
        let whole: &[u8] = b"\xf0\x9f\x98\x80\xe4\xbd\xa0\xe4\xbdx\xff\xc3\xa9\xf0\x9f";
        let tokens: Vec<&[u8]> = whole.chunks(1).collect();
        let (texts, rest) = stream(&tokens);
        assert_eq!(texts.concat() + &rest, String::from_utf8_lossy(whole));
    }
}
