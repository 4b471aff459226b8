//! Files of records of one size: a header that says what they are, and a checksum of all.
//!
//! | byte | what, little-endian |
//! |-|-|
//! | 0 | `LLMOSTOK` for tokens, `LLMOSDOC` for documents |
//! | 8 | version, u32: 1 |
//! | 12 | bytes of a record, u32: 2 or 4 for tokens (u16 or u32), 32 for documents |
//! | 16 | bound of what a record holds, u64: ids of the vocabulary, or files |
//! | 24 | number of the file's first record in its stream, u64 |
//! | 32 | records, u64 |
//! | 40 | XXH3-64 of the records |
//! | 48 | 0, u64 |
//! | 56 | XXH3-64 of bytes 0 to 55 |
//! | 64 | the records |

use std::fs::File;
use std::hash::Hasher;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use twox_hash::XxHash3_64;

use crate::Error;

/// Bytes of a header.
pub const HEADER_LENGTH: usize = 64;

const VERSION: u32 = 1;

/// What the records of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Token ids.
    Tokens,
    /// Where documents begin, and where they come from.
    Documents,
}

impl Kind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Kind::Tokens => b"LLMOSTOK",
            Kind::Documents => b"LLMOSDOC",
        }
    }
}

/// The header of a file of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the records are.
    pub kind: Kind,
    /// Bytes of a record.
    pub width: u32,
    /// All numbers in records are below it: ids below the vocabulary's size, files below their
    /// number.
    pub bound: u64,
    /// The number of the first record in its stream.
    pub first: u64,
    /// Records.
    pub count: u64,
    /// XXH3-64 of all records' bytes.
    pub checksum: u64,
}

impl Header {
    /// The header as it is stored.
    pub fn to_bytes(&self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[..8].copy_from_slice(self.kind.magic());
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.width.to_le_bytes());
        let words = [self.bound, self.first, self.count, self.checksum];
        for (place, word) in bytes[16..48].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let check = XxHash3_64::oneshot(&bytes[..56]);
        bytes[56..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads the header of a file of `length` bytes, of which `bytes` are the first.
    ///
    /// # Errors
    /// The file is of another kind or version, damaged, or longer or shorter than its header says.
    pub fn read(kind: Kind, bytes: &[u8], length: u64, path: &Path) -> Result<Header, Error> {
        let refuse = |what: &str, expected: String, got: String| Error::Format {
            path: path.to_path_buf(),
            what: what.into(),
            expected,
            got,
        };
        let Some(bytes) = bytes.first_chunk::<HEADER_LENGTH>() else {
            return Err(refuse("length", "at least 64 bytes".into(), bytes.len().to_string()));
        };
        if !bytes.starts_with(kind.magic()) {
            let magic = |bytes: &[u8]| bytes.escape_ascii().to_string();
            return Err(refuse("first bytes", magic(kind.magic()), magic(&bytes[..8])));
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let [version, width] = [word(8) as u32, (word(8) >> 32) as u32];
        if version != VERSION {
            return Err(refuse("version", VERSION.to_string(), version.to_string()));
        }
        if word(56) != XxHash3_64::oneshot(&bytes[..56]) {
            return Err(refuse("header", "its checksum".into(), "another".into()));
        }
        let header = Header {
            kind,
            width,
            bound: word(16),
            first: word(24),
            count: word(32),
            checksum: word(40),
        };
        let widths: &[u32] = match kind {
            Kind::Tokens => &[2, 4],
            Kind::Documents => &[32],
        };
        if !widths.contains(&width) {
            return Err(refuse("bytes of a record", format!("{widths:?}"), width.to_string()));
        }
        let whole = header.count.checked_mul(width.into());
        let whole = whole.and_then(|bytes| bytes.checked_add(HEADER_LENGTH as u64));
        if whole != Some(length) {
            let expected = whole.map_or("less".into(), |whole| whole.to_string());
            return Err(refuse("length in bytes", expected, length.to_string()));
        }
        if header.first.checked_add(header.count).is_none() {
            return Err(refuse("first record", "a number".into(), header.first.to_string()));
        }
        Ok(header)
    }
}

/// A file of records that is being written.
pub(super) struct RecordWriter {
    path: PathBuf,
    file: BufWriter<File>,
    header: Header,
    hash: XxHash3Stream,
}

type XxHash3Stream = twox_hash::xxhash3_64::Hasher;

impl RecordWriter {
    /// Creates the file, with room for its header.
    pub(super) fn create(
        path: &Path,
        kind: Kind,
        width: u32,
        bound: u64,
        first: u64,
    ) -> Result<RecordWriter, Error> {
        let file = File::create(path).map_err(Error::io("write", path))?;
        let header = Header { kind, width, bound, first, count: 0, checksum: 0 };
        let mut file = BufWriter::with_capacity(1 << 18, file);
        file.write_all(&[0; HEADER_LENGTH]).map_err(Error::io("write", path))?;
        Ok(RecordWriter { path: path.to_path_buf(), file, header, hash: XxHash3Stream::new() })
    }

    /// Records that are written.
    pub(super) fn count(&self) -> u64 {
        self.header.count
    }

    /// Appends whole records.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))?;
        self.hash.write(bytes);
        self.header.count += bytes.len() as u64 / u64::from(self.header.width);
        Ok(())
    }

    /// Writes the header and brings all to the disk.
    pub(super) fn finish(mut self) -> Result<Header, Error> {
        self.header.checksum = self.hash.finish();
        let mut finish = || -> std::io::Result<()> {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&self.header.to_bytes())?;
            self.file.flush()?;
            self.file.get_ref().sync_all()
        };
        finish().map_err(Error::io("write", &self.path))?;
        Ok(self.header)
    }
}

/// A file of records to read from, at any place.
#[derive(Debug)]
pub(super) struct RecordFile {
    path: PathBuf,
    file: File,
    pub(super) header: Header,
}

impl RecordFile {
    /// Opens the file and checks its header.
    pub(super) fn open(path: &Path, kind: Kind) -> Result<RecordFile, Error> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let mut bytes = [0; HEADER_LENGTH];
        let start = &mut bytes[..HEADER_LENGTH.min(length as usize)];
        read_at(&file, start, 0).map_err(Error::io("read", path))?;
        let start = start.len();
        let header = Header::read(kind, &bytes[..start], length, path)?;
        Ok(RecordFile { path: path.to_path_buf(), file, header })
    }

    /// Reads whole records from number `from` of the file on.
    pub(super) fn read(&self, from: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let offset = HEADER_LENGTH as u64 + from * u64::from(self.header.width);
        read_at(&self.file, bytes, offset).map_err(Error::io("read", &self.path))
    }

    /// Reads all records, calling `take` with some at a time.
    ///
    /// # Errors
    /// Their checksum is not the header's, or `take` refuses.
    pub(super) fn read_all(
        &self,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let width = self.header.width as usize;
        let mut buffer = vec![0; (1 << 18) * width.min(4)];
        let mut hash = XxHash3Stream::new();
        let mut from = 0;
        while from < self.header.count {
            let n = ((buffer.len() / width) as u64).min(self.header.count - from);
            let bytes = &mut buffer[..n as usize * width];
            self.read(from, bytes)?;
            hash.write(bytes);
            take(bytes)?;
            from += n;
        }
        if hash.finish() != self.header.checksum {
            return Err(self.refuse("checksum", "the header's", "another: the file is damaged"));
        }
        Ok(())
    }

    pub(super) fn refuse(
        &self,
        what: impl Into<String>,
        expected: impl ToString,
        got: impl ToString,
    ) -> Error {
        Error::Format {
            path: self.path.clone(),
            what: what.into(),
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                bytes = &mut bytes[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;
    use proptest::prelude::*;

    fn write(path: &Path, records: &[u16]) -> Header {
        let mut writer = RecordWriter::create(path, Kind::Tokens, 2, 1000, 5).unwrap();
        for record in records {
            writer.write(&record.to_le_bytes()).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_was_written_is_read_and_each_flipped_bit_is_found() {
        let scratch = Scratch::new();
        let path = scratch.path().join("a.bin");
        let records: Vec<u16> = (0..600).collect();
        let header = write(&path, &records);
        assert_eq!((header.count, header.first, header.bound), (600, 5, 1000));
        let file = RecordFile::open(&path, Kind::Tokens).unwrap();
        assert_eq!(file.header, header);
        let mut bytes = [0; 4];
        file.read(300, &mut bytes).unwrap();
        assert_eq!(bytes, [44, 1, 45, 1]);
        let mut all = Vec::new();
        let mut take = |bytes: &[u8]| {
            all.extend_from_slice(bytes);
            Ok(())
        };
        file.read_all(&mut take).unwrap();
        let sound = std::fs::read(&path).unwrap();
        assert!(all == sound[HEADER_LENGTH..]);
        for at in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(&path, &damaged).unwrap();
            let opened = RecordFile::open(&path, Kind::Tokens);
            let read = opened.and_then(|file| file.read_all(&mut |_| Ok(())));
            assert!(read.is_err(), "byte {at}");
        }
        for length in [0, 63, sound.len() - 1] {
            std::fs::write(&path, &sound[..length]).unwrap();
            assert!(RecordFile::open(&path, Kind::Tokens).is_err());
        }
        std::fs::write(&path, &sound).unwrap();
        let error = RecordFile::open(&path, Kind::Documents).unwrap_err().to_string();
        assert!(error.contains("LLMOSDOC") && error.contains("LLMOSTOK"), "{error}");
    }

    proptest! {
        #[test]
        fn a_header_is_read_back_or_refused(
            bound: u64, first: u64, count: u64, checksum: u64, width: u32, length: u64,
            flips in proptest::collection::vec((0..HEADER_LENGTH, any::<u8>()), 0..4),
        ) {
            let header =
                Header { kind: Kind::Documents, width, bound, first, count, checksum };
            let mut bytes = header.to_bytes();
            for (at, flip) in flips {
                bytes[at] ^= flip;
            }
            if let Ok(read) = Header::read(Kind::Documents, &bytes, length, Path::new("a")) {
                prop_assert_eq!(read, header);
                prop_assert_eq!(64 + u128::from(count) * u128::from(width), length.into());
            }
        }
    }
}
