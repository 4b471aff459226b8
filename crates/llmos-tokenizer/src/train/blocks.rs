//! A stream of text in blocks that can be counted apart.
//!
//! Where a block ends depends on the text alone: not on the size of the caller's chunks, nor on
//! the number of threads. It ends where no pre-tokenizer of ours lets a piece go on, so that the
//! pieces of the blocks are those of the whole.

/// Longest block, in bytes.
pub(super) const BLOCK: usize = 256 << 10;

/// Text that has arrived and has not been counted.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Bytes of a round.
    round: usize,
    text: String,
    /// Ends of texts, ascending places in `text`.
    text_ends: Vec<usize>,
    /// No block may end inside one of these.
    special: Vec<String>,
}

impl Blocks {
    pub(super) fn new(round: usize, special: Vec<String>) -> Blocks {
        Blocks { round, text: String::new(), text_ends: Vec::new(), special }
    }

    /// Takes as much of `text` as there is room for, and returns the rest.
    pub(super) fn fill<'t>(&mut self, text: &'t str) -> &'t str {
        let room = (self.round + BLOCK).saturating_sub(self.text.len());
        // A character more than there is room for, rather than none.
        let len = if text.len() <= room { text.len() } else { text.ceil_char_boundary(room) };
        self.text.push_str(&text[..len]);
        &text[len..]
    }

    /// What follows belongs to another text.
    pub(super) fn end_text(&mut self) {
        if self.text_ends.last() != Some(&self.text.len()) {
            self.text_ends.push(self.text.len());
        }
    }

    /// Whether there is enough for a round.
    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= self.round + BLOCK
    }

    /// The blocks of the next round, in order; with `all`, of everything that is there.
    pub(super) fn next_round(&self, all: bool) -> Vec<&str> {
        let mut blocks = Vec::new();
        let mut text_ends = self.text_ends.iter().copied().peekable();
        let mut start = 0;
        while start < self.text.len() && (all || start < self.round) {
            while text_ends.next_if(|&end| end <= start).is_some() {}
            let end = text_ends.peek().copied().unwrap_or(self.text.len());
            let rest = &self.text[start..end];
            let len = if rest.len() > BLOCK { self.cut(rest) } else { rest.len() };
            blocks.push(&rest[..len]);
            start += len;
        }
        blocks
    }

    /// Forgets the first `len` bytes.
    pub(super) fn drop_front(&mut self, len: usize) {
        self.text.drain(..len);
        self.text_ends.retain_mut(|end| {
            let kept = *end > len;
            *end = end.saturating_sub(len);
            kept
        });
    }

    /// The length of the first block of `text`, which is longer than a block.
    fn cut(&self, text: &str) -> usize {
        let whole = text.as_bytes();
        let places = |byte: u8| {
            let range = BLOCK / 2..BLOCK;
            range.rev().filter(move |&at| whole[at] == byte)
        };
        let spaced = |at: usize| text[..at].chars().next_back().is_none_or(char::is_whitespace);
        // After a line's end that stands between two other characters: every pattern in use has a
        // piece end there, those that look at whole lines too.
        let line = places(b'\n').find(|&at| {
            let next = text[at + 1..].chars().next();
            !spaced(at) && next.is_some_and(|c| !c.is_whitespace()) && self.is_free(text, at + 1)
        });
        // Before a space that follows another character: words end there.
        let word = || places(b' ').find(|&at| !spaced(at) && self.is_free(text, at));
        // A quarter of a megabyte without either: one piece is cut.
        let hard = || {
            let from = text.floor_char_boundary(BLOCK);
            let mut places = (1..=from).rev().filter(|&at| text.is_char_boundary(at));
            places.find(|&at| self.is_free(text, at)).unwrap_or(from)
        };
        line.map(|at| at + 1).or_else(word).unwrap_or_else(hard)
    }

    /// Whether no special token stands across the place.
    fn is_free(&self, text: &str, at: usize) -> bool {
        self.special.iter().map(|special| special.as_bytes()).all(|special| {
            let from = at.saturating_sub(special.len() - 1);
            let to = (at + special.len() - 1).min(text.len());
            let around = &text.as_bytes()[from..to];
            around.len() < special.len() || !around.windows(special.len()).any(|w| w == special)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: usize = 1 << 20;

    /// All blocks of a text that arrives in chunks of `chunk` bytes.
    fn blocks(text: &str, chunk: usize, special: &[&str]) -> Vec<String> {
        let mut stream = Blocks::new(ROUND, special.iter().map(|&text| text.to_owned()).collect());
        let mut list = Vec::new();
        let mut take = |stream: &mut Blocks, all: bool| {
            let round = stream.next_round(all);
            let len = round.iter().map(|block| block.len()).sum();
            list.extend(round.into_iter().map(str::to_owned));
            stream.drop_front(len);
        };
        let mut rest = text;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.ceil_char_boundary(chunk.min(rest.len())));
            let mut now = now;
            while !now.is_empty() {
                now = stream.fill(now);
                if stream.is_full() {
                    take(&mut stream, false);
                }
            }
            rest = later;
        }
        stream.end_text();
        take(&mut stream, true);
        list
    }

    #[test]
    fn blocks_do_not_depend_on_chunks() {
        let line = "The quick brown fox, 123 of them.\n一只敏捷的狐狸。\n\n  indented\r\n";
        let text = line.repeat(3 * ROUND / line.len());
        let expected = blocks(&text, text.len(), &[]);
        assert_eq!(expected.concat(), text);
        assert!(expected.iter().all(|block| block.len() <= BLOCK));
        for chunk in [1 << 10, 65_537, BLOCK, 5 * ROUND / 4] {
            assert!(blocks(&text, chunk, &[]) == expected, "chunks of {chunk}");
        }
    }

    #[test]
    fn a_block_ends_at_a_line_a_word_or_where_it_must() {
        let check = |text: String, end: &str, start: &str| {
            let list = blocks(&text, text.len(), &["<a b>"]);
            assert_eq!(list.concat(), text);
            assert!(list[0].ends_with(end) && list[1].starts_with(start), "{:?}", &list[1][..9]);
        };
        check("word word\nword\n\n".repeat(BLOCK / 8), "word\n", "word\n\n");
        check("word, word  ".repeat(BLOCK / 8), "word", "  word");
        check("汉字".repeat(BLOCK / 3), "汉", "字");
        check("<a b>".repeat(BLOCK / 2), "<a b>", "<a b>");
        let lines = ["x".repeat(BLOCK - 2), "<a b>".repeat(BLOCK)].concat();
        check(lines, "x", "<a b>");
    }

    #[test]
    fn texts_end_blocks() {
        let mut stream = Blocks::new(ROUND, Vec::new());
        for text in ["one", "", "two", "three"] {
            assert!(stream.fill(text).is_empty());
            stream.end_text();
        }
        stream.fill("fo");
        stream.fill("ur");
        assert_eq!(stream.next_round(true), ["one", "two", "three", "four"]);
        stream.drop_front(3);
        assert_eq!(stream.next_round(true), ["two", "three", "four"]);
    }
}
