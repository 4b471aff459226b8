//! JSON Lines: one value a line.

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::PathBuf;

use super::input::Stream;
use super::{Location, Reading, Row, Rows, row_of};
use crate::Error;
use crate::data::files::RawFile;
use crate::data::removal::Reason;

/// The rows of a JSON Lines file.
pub(super) struct Lines {
    stream: BufReader<Stream>,
    path: PathBuf,
    number: u32,
    field: String,
    lossy: bool,
    longest: usize,
    row: u64,
    /// Lines read, blank ones too.
    n_line: u64,
    offset: u64,
    line: Vec<u8>,
}

/// How a line ended.
enum Ending {
    /// There is a line.
    Line,
    /// It is longer than it may be, and `line` holds its start.
    TooLong,
    /// There is none.
    File,
}

impl Lines {
    pub(super) fn new(stream: Stream, file: &RawFile, number: u32, reading: &Reading) -> Lines {
        Lines {
            stream: BufReader::with_capacity(1 << 17, stream),
            path: file.path.clone(),
            number,
            field: reading.field.clone(),
            lossy: reading.lossy,
            longest: reading.longest_row,
            row: 0,
            n_line: 0,
            offset: 0,
            line: Vec::new(),
        }
    }

    /// Reads a line, its break included; returns its length, of which `line` holds no more than
    /// the longest row.
    fn read_line(&mut self) -> Result<(Ending, u64), Error> {
        self.line.clear();
        let mut length = 0;
        loop {
            let block = match self.stream.fill_buf() {
                Ok(block) => block,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("read", &self.path)(error)),
            };
            let n = block.iter().position(|&byte| byte == b'\n').map_or(block.len(), |at| at + 1);
            let has_ended = block[..n].ends_with(b"\n") || block.is_empty();
            let room = self.longest.saturating_sub(self.line.len());
            self.line.extend_from_slice(&block[..n.min(room)]);
            self.stream.consume(n);
            length += n as u64;
            if has_ended {
                let ending = match length {
                    0 => Ending::File,
                    n if n > self.longest as u64 => Ending::TooLong,
                    _ => Ending::Line,
                };
                return Ok((ending, length));
            }
            if length > self.longest as u64 && !self.lossy {
                return Ok((Ending::TooLong, length));
            }
        }
    }

    fn refuse(&self, offset: u64, problem: impl std::fmt::Display) -> Error {
        let problem = format!("line {}: {problem}", self.n_line);
        Error::Text { path: self.path.clone(), offset, problem }
    }
}

impl Rows for Lines {
    fn next(&mut self) -> Result<Option<Row>, Error> {
        loop {
            let offset = self.offset;
            let (ending, length) = self.read_line()?;
            self.offset += length;
            self.n_line += 1;
            let at = Location { file: self.number, row: self.row, offset };
            let refused = |reason| Ok(Some(Row::refused(at, length, reason)));
            match ending {
                Ending::File => return Ok(None),
                Ending::TooLong if self.lossy => {
                    self.row += 1;
                    return refused(Reason::TooLong);
                }
                Ending::TooLong => {
                    let limit = self.longest >> 20;
                    return Err(self.refuse(offset, format_args!("longer than {limit} MiB")));
                }
                Ending::Line => {}
            }
            let mark = if offset == 0 { &b"\xef\xbb\xbf"[..] } else { b"" };
            let line = self.line.strip_prefix(mark).unwrap_or(&self.line).trim_ascii();
            if line.is_empty() {
                continue;
            }
            self.row += 1;
            let value = match serde_json::from_slice(line) {
                Ok(value) => value,
                Err(_) if self.lossy => return refused(Reason::Unreadable),
                Err(error) => {
                    let at = offset + (error.column().saturating_sub(1)) as u64;
                    return Err(self.refuse(at, format_args!("no JSON ({error})")));
                }
            };
            return Ok(Some(row_of(value, &self.field, at, length)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::read::testing::{read, reading, texts};

    #[test]
    fn rows_are_numbered_and_placed() {
        let bytes = b"\xef\xbb\xbf{\"text\": \"a\"}\r\n\n  \n{\"text\": \"b\\n\"}\n\"c\"";
        let rows = texts("a.jsonl", bytes, &reading());
        let rows: Vec<_> =
            rows.iter().map(|row| (row.text.as_str(), row.at.row, row.at.offset)).collect();
        assert_eq!(rows, [("a", 0, 0), ("b\n", 1, 22), ("c", 2, 38)]);
    }

    #[test]
    fn rows_without_text_are_counted() {
        let rows = read("a.jsonl", b"{\"text\": 1}\n{\"t\": \"a\"}\n[]\n", &reading()).unwrap();
        let missing = |row: &Row| matches!(row, Row::Refused { reason: Reason::NoText, .. });
        assert!(rows.len() == 3 && rows.iter().all(missing), "{rows:?}");
    }

    #[test]
    fn a_broken_row_is_named_or_left_out() {
        let bytes = b"{\"text\": \"a\"}\n{\"text\": \"b\n{\"text\": \"c\"}\n";
        let error = read("a.jsonl", bytes, &reading()).unwrap_err().to_string();
        assert!(error.contains("line 2: no JSON") && error.contains("at byte 2"), "{error}");
        let lossy = Reading { lossy: true, ..reading() };
        let rows = read("a.jsonl", bytes, &lossy).unwrap();
        assert!(matches!(rows[1], Row::Refused { reason: Reason::Unreadable, n_byte: 12, .. }));
        assert!(matches!(&rows[2], Row::Document(row) if row.text == "c" && row.at.row == 2));
        let error = read("a.jsonl", b"{\"text\": \"\xff\"}", &reading()).unwrap_err().to_string();
        assert!(error.contains("line 1: no JSON"), "{error}");
    }

    #[test]
    fn a_line_beyond_the_limit_is_refused_without_being_held() {
        let long =
            [b"{\"text\": \"", &vec![b'a'; 100 << 20][..], b"\"}\n{\"text\": \"b\"}"].concat();
        let error = read("a.jsonl", &long, &reading()).unwrap_err().to_string();
        assert!(error.contains("line 1: longer than 64 MiB, at byte 0"), "{error}");
        let lossy = Reading { lossy: true, ..reading() };
        let rows = read("a.jsonl", &long, &lossy).unwrap();
        assert!(matches!(rows[0], Row::Refused { reason: Reason::TooLong, .. }));
        assert!(matches!(&rows[1], Row::Document(row) if row.text == "b"));
    }
}
