//! JSON files: an array of rows, or values one after another.

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::PathBuf;

use super::input::Stream;
use super::{Location, Reading, Row, Rows, row_of};
use crate::Error;
use crate::data::files::RawFile;
use crate::data::removal::Reason;

/// The rows of a JSON file. Each is parsed on its own, so that an array may be of any size.
pub(super) struct Values {
    stream: BufReader<Stream>,
    path: PathBuf,
    number: u32,
    field: String,
    lossy: bool,
    longest: usize,
    state: State,
    row: u64,
    offset: u64,
    value: Vec<u8>,
}

/// Where in the file the reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first character.
    Start,
    /// In an array; after a value, where a comma is due, or before one.
    Array { is_comma_due: bool },
    /// Between values that stand one after another.
    Sequence,
    /// After the array.
    End,
}

/// What a scan for the end of a value has seen.
#[derive(Default)]
struct Scan {
    depth: u64,
    in_string: bool,
    is_escaped: bool,
}

impl Scan {
    /// Whether the value ends with this byte (true) or before it (false); none if it goes on.
    fn ends(&mut self, byte: u8, is_first: bool) -> Option<bool> {
        if self.in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => {
                    self.in_string = false;
                    return (self.depth == 0).then_some(true);
                }
                _ => {}
            }
            return None;
        }
        match byte {
            b'"' if self.depth > 0 || is_first => self.in_string = true,
            b'{' | b'[' if self.depth > 0 || is_first => self.depth += 1,
            b'}' | b']' if self.depth > 0 => {
                self.depth -= 1;
                return (self.depth == 0).then_some(true);
            }
            b',' | b'}' | b']' | b'{' | b'[' | b'"' if self.depth == 0 => return Some(false),
            _ if self.depth == 0 && byte.is_ascii_whitespace() => return Some(false),
            _ => {}
        }
        None
    }
}

impl Values {
    pub(super) fn new(stream: Stream, file: &RawFile, number: u32, reading: &Reading) -> Values {
        Values {
            stream: BufReader::with_capacity(1 << 17, stream),
            path: file.path.clone(),
            number,
            field: reading.field.clone(),
            lossy: reading.lossy,
            longest: reading.longest_row,
            state: State::Start,
            row: 0,
            offset: 0,
            value: Vec::new(),
        }
    }

    fn block(&mut self) -> Result<&[u8], Error> {
        loop {
            match self.stream.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", &self.path)(error)),
            }
        }
        Ok(self.stream.buffer())
    }

    fn skip(&mut self, n: usize) {
        self.stream.consume(n);
        self.offset += n as u64;
    }

    /// The next byte that is no white space, which stays; none at the end.
    fn peek(&mut self) -> Result<Option<u8>, Error> {
        loop {
            let block = self.block()?;
            let n = block.iter().position(|byte| !byte.is_ascii_whitespace());
            let (found, empty, length) = (n.map(|n| block[n]), block.is_empty(), block.len());
            self.skip(n.unwrap_or(length));
            if found.is_some() || empty {
                return Ok(found);
            }
        }
    }

    fn refuse(&self, offset: u64, problem: impl std::fmt::Display) -> Error {
        let problem = format!("row {}: {problem}", self.row);
        Error::Text { path: self.path.clone(), offset, problem }
    }

    /// Walks to the next value; false at the end.
    fn find(&mut self) -> Result<bool, Error> {
        if self.state == State::Start {
            if self.block()?.starts_with(b"\xef\xbb\xbf") {
                self.skip(3);
            }
            self.state = State::Sequence;
            if self.peek()? == Some(b'[') {
                self.skip(1);
                self.state = State::Array { is_comma_due: false };
            }
        }
        loop {
            let byte = self.peek()?;
            match (self.state, byte) {
                (State::Sequence | State::End, None) => return Ok(false),
                (State::Sequence, Some(_)) => return Ok(true),
                (State::Array { .. }, Some(b']')) => {
                    self.skip(1);
                    self.state = State::End;
                }
                (State::Array { is_comma_due: true }, Some(b',')) => {
                    self.skip(1);
                    self.state = State::Array { is_comma_due: false };
                }
                (State::Array { is_comma_due: false }, Some(_)) => return Ok(true),
                (State::Array { .. }, None) if self.lossy => return Ok(false),
                (State::Array { .. }, None) => {
                    return Err(self.refuse(self.offset, "the array does not end"));
                }
                (State::Array { .. } | State::End, Some(byte)) => {
                    let byte = byte.escape_ascii();
                    let expected = if self.state == State::End { "the end" } else { "a comma" };
                    return Err(
                        self.refuse(self.offset, format_args!("`{byte}` where {expected} belongs"))
                    );
                }
                (State::Start, _) => return Ok(false),
            }
        }
    }

    /// Reads the value that begins here; returns its length, of which `value` holds no more than
    /// the longest row.
    fn read_value(&mut self) -> Result<u64, Error> {
        self.value.clear();
        let mut scan = Scan::default();
        let mut length = 0;
        loop {
            let block = self.block()?;
            let mut end = None;
            for (index, &byte) in block.iter().enumerate() {
                if let Some(is_part) = scan.ends(byte, length == 0 && index == 0) {
                    end = Some(index + usize::from(is_part));
                    break;
                }
            }
            let n = end.unwrap_or(block.len());
            let is_over = end.is_some() || block.is_empty();
            let value = &mut self.value;
            let room = self.longest.saturating_sub(value.len());
            value.extend_from_slice(&self.stream.buffer()[..n.min(room)]);
            self.skip(n);
            length += n as u64;
            if is_over || length > self.longest as u64 && !self.lossy {
                return Ok(length);
            }
        }
    }
}

impl Rows for Values {
    fn next(&mut self) -> Result<Option<Row>, Error> {
        if !self.find()? {
            return Ok(None);
        }
        let offset = self.offset;
        let length = self.read_value()?;
        let at = Location { file: self.number, row: self.row, offset };
        let refused = |reason| Ok(Some(Row::refused(at, length, reason)));
        if let State::Array { is_comma_due } = &mut self.state {
            *is_comma_due = true;
        }
        if length > self.longest as u64 {
            if self.lossy {
                self.row += 1;
                return refused(Reason::TooLong);
            }
            let limit = self.longest >> 20;
            return Err(self.refuse(offset, format_args!("longer than {limit} MiB")));
        }
        let value = match serde_json::from_slice(&self.value) {
            Ok(value) => value,
            Err(_) if self.lossy && length > 0 => {
                self.row += 1;
                return refused(Reason::Unreadable);
            }
            Err(error) => return Err(self.refuse(offset, format_args!("no JSON ({error})"))),
        };
        self.row += 1;
        Ok(Some(row_of(value, &self.field, at, length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::read::testing::{read, reading, texts};
    use proptest::prelude::*;

    #[test]
    fn arrays_and_sequences() {
        for (text, expected) in [
            (r#"[{"text": "a"}, {"text": "b]\"}"}]"#, &["a", "b]\"}"][..]),
            ("\u{feff} [ ]\n", &[]),
            (r#"{"text": "a"}{"text": "b"} "c""#, &["a", "b", "c"]),
            ("{\n  \"text\": \"a\"\n}\n{\"text\":\n\"b\"}", &["a", "b"]),
            (r#"["a","b"]"#, &["a", "b"]),
            ("", &[]),
        ] {
            let rows = texts("a.json", text.as_bytes(), &reading());
            let rows: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
            assert_eq!(rows, expected, "{text}");
        }
        let rows = texts("a.json", br#" [ {"text": "a"} , "b" ]"#, &reading());
        let places: Vec<u64> = rows.iter().map(|row| row.at.offset).collect();
        assert_eq!(places, [3, 19]);
        let rows = read("a.json", br#"[1, null, {"a": 2}]"#, &reading()).unwrap();
        assert_eq!(rows.len(), 3);
    }

    #[test]
    fn what_is_broken_is_named_with_its_place() {
        for (text, words) in [
            (r#"[{"text": "a"}"#, "the array does not end, at byte 14"),
            (r#"[{"text": "a"} {"#, "`{` where a comma belongs, at byte 15"),
            (r#"[{"text": "a"}] 1"#, "`1` where the end belongs, at byte 16"),
            (r#"[{"text": "a"}, {"text": }]"#, "row 1: no JSON"),
            (r#"{"text": "a"} {"text": "#, "row 1: no JSON"),
            ("[,]", "row 0: no JSON"),
            ("}", "row 0: no JSON"),
        ] {
            let error = read("a.json", text.as_bytes(), &reading()).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let deep = "[".repeat(100_000);
        assert!(read("a.json", deep.as_bytes(), &reading()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end(text in "[\\[\\]{}\",:a1 \\\\\n]{0,40}", lossy in any::<bool>()) {
            let _ = read("a.json", text.as_bytes(), &Reading { lossy, ..reading() });
        }

        #[test]
        fn what_was_written_is_read(list in proptest::collection::vec(".{0,20}", 0..8)) {
            let value: Vec<_> =
                list.iter().map(|text| serde_json::json!({"a": [{}], "text": text})).collect();
            for text in [
                serde_json::to_string(&value).unwrap(),
                serde_json::to_string_pretty(&value).unwrap(),
            ] {
                let rows = texts("a.json", text.as_bytes(), &reading());
                let rows: Vec<String> = rows.into_iter().map(|row| row.text).collect();
                prop_assert_eq!(&rows, &list);
            }
        }
    }
}
