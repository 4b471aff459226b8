//! Plain text: documents between separators, in parts where they are long.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::input::{Input, Stream};
use super::{Document, LONGEST_PART, Location, Reading, Row, Rows};
use crate::Error;
use crate::data::files::RawFile;
use crate::data::removal::Reason;

/// Bytes read at once.
const BLOCK: usize = 1 << 20;

/// What stands for a byte that is no text until its document is given without it: as long as the
/// byte, so that places stay what they are in the file.
const SUBSTITUTE: char = '\u{1a}';

/// How long a file's text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data) struct Measure {
    pub(in crate::data) n_char: u64,
    pub(in crate::data) n_byte: u64,
}

/// The length of a file that is one text; none where separators stand in it. `tick` is called now
/// and then.
///
/// # Errors
/// As reading it.
pub(in crate::data) fn measure(
    file: &RawFile,
    reading: &Reading,
    done: &Arc<AtomicU64>,
    tick: &mut dyn FnMut(),
) -> Result<Option<Measure>, Error> {
    let input = Input::open(&file.path, done)?;
    let mut texts = Texts::new(input.stream(), file, 0, reading);
    let mut measure = Measure { n_char: 0, n_byte: 0 };
    while let Some(row) = texts.next()? {
        tick();
        if texts.is_separated {
            return Ok(None);
        }
        if let Row::Document(document) = row {
            measure.n_char += document.text.chars().count() as u64;
            measure.n_byte += document.text.len() as u64;
        }
    }
    Ok(Some(measure))
}

/// The documents of a text file.
pub(super) struct Texts {
    stream: Stream,
    path: PathBuf,
    number: u32,
    separator: Option<String>,
    lossy: bool,
    chosen: Option<u64>,
    /// The start of a character whose end is not read yet.
    cut: Vec<u8>,
    /// Text that is read; what lies before `start` is given.
    pending: String,
    start: usize,
    /// No separator begins before this place of `pending`.
    searched: usize,
    /// The file's byte at which `pending` begins.
    offset: u64,
    is_ended: bool,
    is_separated: bool,
    row: u64,
    part: u32,
    /// Characters that are given.
    n_char: u64,
}

impl Texts {
    pub(super) fn new(stream: Stream, file: &RawFile, number: u32, reading: &Reading) -> Texts {
        Texts {
            stream,
            path: file.path.clone(),
            number,
            separator: reading.separator.clone().filter(|_| reading.chosen.is_none()),
            lossy: reading.lossy,
            chosen: reading.chosen,
            cut: Vec::new(),
            pending: String::new(),
            start: 0,
            searched: 0,
            offset: 0,
            is_ended: false,
            is_separated: false,
            row: 0,
            part: 0,
            n_char: 0,
        }
    }

    /// Reads the next block.
    fn fill(&mut self) -> Result<(), Error> {
        self.offset += self.start as u64;
        self.searched -= self.start;
        self.pending.drain(..self.start);
        self.start = 0;
        let mut bytes = std::mem::take(&mut self.cut);
        let offset = self.offset + self.pending.len() as u64;
        let kept = bytes.len();
        bytes.resize(kept + BLOCK, 0);
        let n = loop {
            match self.stream.read(&mut bytes[kept..]) {
                Ok(n) => break n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", &self.path)(error)),
            }
        };
        bytes.truncate(kept + n);
        self.is_ended = n == 0;
        let mut bytes = &bytes[..];
        if offset == 0 && self.pending.is_empty() {
            if !self.lossy && (bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")) {
                return Err(refuse(&self.path, 0, "UTF-16, where UTF-8 was expected"));
            }
            // A byte order mark is no part of the text.
            if let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf") {
                bytes = rest;
                self.offset = 3;
            }
        }
        self.take(bytes)
    }

    /// Adds bytes to the text, all but the start of a character that more bytes may complete.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
            if self.lossy {
                let substitute = |&byte: &u8| if byte == 0 { SUBSTITUTE as u8 } else { byte };
                return self.take_text(&bytes.iter().map(substitute).collect::<Vec<u8>>());
            }
            let offset = self.offset + (self.pending.len() + at) as u64;
            // What comes before may be wrong already.
            self.take_text(&bytes[..at])?;
            return Err(refuse(&self.path, offset, "a zero byte: this is no text"));
        }
        self.take_text(bytes)
    }

    fn take_text(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let error = match std::str::from_utf8(bytes) {
                Ok(text) => {
                    self.pending.push_str(text);
                    break;
                }
                Err(error) => error,
            };
            let (valid, rest) = bytes.split_at(error.valid_up_to());
            self.pending.push_str(std::str::from_utf8(valid).unwrap_or_default());
            if error.error_len().is_none() && !self.is_ended {
                self.cut = rest.to_vec();
                break;
            }
            if !self.lossy {
                let at = self.offset + self.pending.len() as u64;
                return Err(refuse(&self.path, at, "a byte that is no UTF-8"));
            }
            let n = error.error_len().unwrap_or(rest.len());
            self.pending.extend(std::iter::repeat_n(SUBSTITUTE, n));
            bytes = &rest[n..];
        }
        Ok(())
    }

    /// Gives the text up to `end`, or to where the held-out rest begins, and goes on `skip` bytes
    /// after it.
    fn give(&mut self, mut end: usize, skip: usize, mut is_last_part: bool) -> Document {
        let mut held_out = None;
        if let Some(from) = self.chosen {
            held_out = Some(self.n_char >= from);
            let text = &self.pending[self.start..end];
            let left = from.saturating_sub(self.n_char);
            // Bytes are no fewer than characters, so that most parts need no look.
            if left > 0
                && left < text.len() as u64
                && let Some((place, _)) =
                    text.char_indices().filter(|&(_, c)| self.is_text(c)).nth(left as usize)
            {
                end = self.start + place;
                is_last_part = false;
            }
            let part = &self.pending[self.start..end];
            self.n_char += part.chars().filter(|&c| self.is_text(c)).count() as u64;
        }
        let (mut text, mut from) = (&self.pending[self.start..end], self.start);
        if self.is_separated && self.part == 0 {
            from += text.len() - text.trim_start().len();
            text = text.trim_start();
        }
        if self.is_separated && is_last_part {
            text = text.trim_end();
        }
        let whole = text.len();
        let text: String = match self.lossy && text.contains(SUBSTITUTE) {
            true => text.chars().filter(|&c| self.is_text(c)).collect(),
            false => text.to_string(),
        };
        let document = Document {
            lost: (whole - text.len()) as u64,
            text,
            at: Location { file: self.number, row: self.row, offset: self.offset + from as u64 },
            part: self.part,
            is_last_part,
            is_chosen: self.chosen.is_some(),
            held_out,
        };
        self.start = end + skip;
        self.searched = self.searched.max(self.start);
        (self.row, self.part) =
            if is_last_part { (self.row + 1, 0) } else { (self.row, self.part + 1) };
        document
    }

    /// Whether a character stands for itself.
    fn is_text(&self, c: char) -> bool {
        !self.lossy || c != SUBSTITUTE
    }

    /// Where the next separator begins, as far as text is read.
    fn find_separator(&mut self) -> Option<(usize, usize)> {
        let separator = self.separator.as_deref()?;
        if let Some(at) = self.pending[self.searched..].find(separator) {
            return Some((self.searched + at, separator.len()));
        }
        let end = self.pending.len().saturating_sub(separator.len() - 1);
        self.searched = self.searched.max(self.pending.floor_char_boundary(end));
        None
    }
}

impl Rows for Texts {
    fn next(&mut self) -> Result<Option<Row>, Error> {
        loop {
            if let Some((at, length)) = self.find_separator()
                && at - self.start <= LONGEST_PART
            {
                self.is_separated = true;
                return Ok(Some(row_of(self.give(at, length, true))));
            }
            let length = self.pending.len() - self.start;
            if length > LONGEST_PART {
                let place = cut_place(&self.pending[self.start..]);
                return Ok(Some(Row::Document(self.give(self.start + place, 0, false))));
            }
            if self.is_ended {
                let rest = &self.pending[self.start..];
                // What comes after the last separator is often nothing but a line's end.
                if self.part == 0 && self.row > 0 && rest.trim().is_empty() {
                    return Ok(None);
                }
                let end = self.pending.len();
                return Ok(Some(row_of(self.give(end, 0, true))));
            }
            self.fill()?;
        }
    }
}

fn row_of(document: Document) -> Row {
    if document.part == 0 && document.text.is_empty() {
        let reason = if document.lost > 0 { Reason::Unreadable } else { Reason::Empty };
        return Row::refused(document.at, document.lost, reason);
    }
    Row::Document(document)
}

fn refuse(path: &Path, offset: u64, problem: &str) -> Error {
    Error::Text { path: path.to_path_buf(), offset, problem: problem.into() }
}

/// Where a long text is cut: after a blank line, a line, or a word, whatever comes late enough.
fn cut_place(text: &str) -> usize {
    /// How far before the limit a better place is looked for.
    const REACH: usize = 1 << 16;
    let end = text.floor_char_boundary(LONGEST_PART);
    let from = text.floor_char_boundary(end - REACH);
    let tail = &text[from..end];
    let after = |at: Option<usize>, length: usize| at.map(|at| from + at + length);
    after(tail.rfind("\n\n"), 2)
        .or_else(|| after(tail.rfind('\n'), 1))
        .or_else(|| after(tail.rfind(' '), 1))
        .unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::read::testing::{read, reading, texts};

    #[test]
    fn a_text_is_one_document_and_separators_make_more() {
        let check = |bytes: &[u8], expected: &[(&str, u64)]| {
            let rows = texts("a.txt", bytes, &reading());
            let rows: Vec<(&str, u64)> =
                rows.iter().map(|row| (row.text.as_str(), row.at.offset)).collect();
            assert_eq!(rows, expected);
        };
        check(b" once\n\n\nupon \n", &[(" once\n\n\nupon \n", 0)]);
        check(b"\xef\xbb\xbfonce", &[("once", 3)]);
        check(b"a\n<|endoftext|>\nb\n<|endoftext|>\n", &[("a", 0), ("b", 16)]);
        check("é<|endoftext|>é".as_bytes(), &[("é", 0), ("é", 15)]);
        let rows = read("a.txt", b"a<|endoftext|>\n\n<|endoftext|>c\n", &reading()).unwrap();
        assert!(matches!(&rows[0], Row::Document(row) if row.text == "a"));
        assert!(matches!(rows[1], Row::Refused { reason: Reason::Empty, .. }));
        assert!(matches!(&rows[2], Row::Document(row) if row.text == "c" && row.at.offset == 29));
    }

    #[test]
    fn an_empty_file_is_noted() {
        for bytes in [&b""[..], b"\xef\xbb\xbf"] {
            let rows = read("a.txt", bytes, &reading()).unwrap();
            assert!(matches!(rows[..], [Row::Refused { reason: Reason::Empty, .. }]), "{rows:?}");
        }
    }

    #[test]
    fn what_is_no_text_is_named_with_its_place() {
        let late = [vec![b'a'; 3 << 20], b"\xc3(".to_vec()].concat();
        for (bytes, words) in [
            (&b"abc\xffdef"[..], "no UTF-8, at byte 3"),
            (b"abc\xe4\xb8", "no UTF-8, at byte 3"),
            (b"\xff\xfea\0", "UTF-16, where UTF-8 was expected, at byte 0"),
            (b"PNG\0", "zero byte: this is no text, at byte 3"),
            (b"\x89PNG\0", "no UTF-8, at byte 0"),
            (&late, "at byte 3145728"),
        ] {
            let error = read("a.txt", bytes, &reading()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            let lossy = Reading { lossy: true, ..reading() };
            assert!(read("a.txt", bytes, &lossy).is_ok());
        }
        let lossy = Reading { lossy: true, ..reading() };
        let rows = texts("a.txt", b"ab\xff\xfe\xe4c<|endoftext|>\xe4\xb8d", &lossy);
        // Bytes that cannot be read are left out and counted, and move nothing.
        assert_eq!((rows[0].text.as_str(), rows[0].lost), ("abc", 3));
        assert_eq!((rows[1].text.as_str(), rows[1].lost, rows[1].at.offset), ("d", 2, 19));
        let (bytes, whole) = (b"a\0b\xffcdef", "abcdef");
        let measured = texts("a.txt", bytes, &lossy);
        assert_eq!((measured[0].text.as_str(), measured[0].lost), (whole, 2));
        for from in 0..=6 {
            let parts = texts("a.txt", bytes, &Reading { chosen: Some(from), ..lossy.clone() });
            let held_out: String = parts
                .iter()
                .filter(|part| part.held_out == Some(true))
                .map(|part| part.text.as_str())
                .collect();
            assert_eq!(held_out, whole[from as usize..], "{from}");
        }
    }

    #[test]
    fn long_texts_come_in_parts_that_join_to_the_whole() {
        let lines: String = (0..700_000).map(|i| format!("line {i}\n")).collect();
        let one_line = "语".repeat(LONGEST_PART);
        for (text, n_part) in [(&lines, 2), (&one_line, 4)] {
            let parts = texts("a.txt", text.as_bytes(), &reading());
            assert!(parts.len() >= n_part, "{}", parts.len());
            let joined: String = parts.iter().map(|part| part.text.as_str()).collect();
            assert!(joined == *text);
            for (index, part) in parts.iter().enumerate() {
                assert!(part.text.len() <= LONGEST_PART);
                assert_eq!((part.part as usize, part.at.row), (index, 0));
                assert_eq!(part.is_last_part, index + 1 == parts.len());
                assert!(text[part.at.offset as usize..].starts_with(&part.text));
                let ends_line = part.text.ends_with('\n') || !text.contains('\n');
                assert!(part.is_last_part || ends_line);
            }
        }
    }

    #[test]
    fn the_held_out_rest_begins_at_its_character() {
        let text = "0123456789语".repeat(600_000);
        let n_char = text.chars().count() as u64;
        for from in [0, 1, 5_999_999, n_char - 1, n_char] {
            let reading = Reading { chosen: Some(from), ..reading() };
            let parts = texts("a.txt", text.as_bytes(), &reading);
            let count = |held_out: bool| -> usize {
                let parts = parts.iter().filter(|part| part.held_out == Some(held_out));
                parts.map(|part| part.text.chars().count()).sum()
            };
            assert_eq!((count(false) as u64, count(true) as u64), (from, n_char - from));
            let joined: String = parts.iter().map(|part| part.text.as_str()).collect();
            assert!(joined == text);
        }
    }

    #[test]
    fn a_file_is_measured_unless_it_has_separators() {
        let scratch = crate::data::scratch::Scratch::new();
        let measured = |text: &str| {
            let path = scratch.write("a.txt", text.as_bytes());
            let file = RawFile {
                path,
                name: "a.txt".into(),
                format: crate::data::files::Format::Text,
                is_named: true,
                n_byte: 0,
            };
            measure(&file, &reading(), &Arc::default(), &mut || {}).unwrap()
        };
        assert_eq!(measured("né语"), Some(Measure { n_char: 3, n_byte: 6 }));
        assert_eq!(measured(""), Some(Measure { n_char: 0, n_byte: 0 }));
        assert_eq!(measured("a<|endoftext|>"), None);
    }
}
