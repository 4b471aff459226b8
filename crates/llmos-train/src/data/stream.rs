//! Streams of token ids over shards, and the list of documents in one.

use std::path::{Path, PathBuf};

use super::manifest::Shard;
use super::read::Location;
use super::records::{Kind, RecordFile, RecordWriter};
use crate::Error;

/// Tokens of a shard: 128 MiB of u16.
const SHARD: u64 = 1 << 26;

/// A stream that is being written.
pub(super) struct StreamWriter {
    folder: PathBuf,
    name: String,
    /// Whether the stream is cut into shards.
    is_sharded: bool,
    width: u32,
    vocab_size: u64,
    shard: RecordWriter,
    written: Vec<Shard>,
    n_token: u64,
    bytes: Vec<u8>,
}

impl StreamWriter {
    /// `name` of the only file, without its ending, or of each shard, without its number.
    pub(super) fn create(
        folder: &Path,
        name: &str,
        is_sharded: bool,
        vocab_size: u64,
    ) -> Result<StreamWriter, Error> {
        let width = if vocab_size <= 1 << 16 { 2 } else { 4 };
        let path = folder.join(file_name(name, is_sharded, 0));
        Ok(StreamWriter {
            folder: folder.to_path_buf(),
            name: name.into(),
            is_sharded,
            width,
            vocab_size,
            shard: RecordWriter::create(&path, Kind::Tokens, width, vocab_size, 0)?,
            written: Vec::new(),
            n_token: 0,
            bytes: Vec::new(),
        })
    }

    /// Tokens that are written.
    pub(super) fn n_token(&self) -> u64 {
        self.n_token
    }

    /// Appends ids, (n), each below the vocabulary's size.
    pub(super) fn write(&mut self, mut ids: &[u32]) -> Result<(), Error> {
        while !ids.is_empty() {
            let room = if self.is_sharded { SHARD - self.shard.count() } else { u64::MAX };
            if room == 0 {
                self.next_shard()?;
                continue;
            }
            let (now, later) = ids.split_at(ids.len().min(room.min(1 << 20) as usize));
            self.bytes.clear();
            match self.width {
                2 => self.bytes.extend(now.iter().flat_map(|&id| (id as u16).to_le_bytes())),
                _ => self.bytes.extend(now.iter().flat_map(|&id| id.to_le_bytes())),
            }
            self.shard.write(&self.bytes)?;
            self.n_token += now.len() as u64;
            ids = later;
        }
        Ok(())
    }

    fn next_shard(&mut self) -> Result<(), Error> {
        let path = self.folder.join(file_name(&self.name, self.is_sharded, self.written.len() + 1));
        let (width, bound) = (self.width, self.vocab_size);
        let next = RecordWriter::create(&path, Kind::Tokens, width, bound, self.n_token)?;
        let full = std::mem::replace(&mut self.shard, next);
        let name = file_name(&self.name, self.is_sharded, self.written.len());
        self.written.push(finish_shard(full, name)?);
        Ok(())
    }

    /// Brings all to the disk and says which files there are.
    pub(super) fn finish(self) -> Result<Vec<Shard>, Error> {
        let StreamWriter { name, is_sharded, shard, mut written, .. } = self;
        let name = file_name(&name, is_sharded, written.len());
        written.push(finish_shard(shard, name)?);
        Ok(written)
    }
}

fn finish_shard(shard: RecordWriter, file: String) -> Result<Shard, Error> {
    let header = shard.finish()?;
    Ok(Shard { file, tokens: header.count, checksum: format!("{:016x}", header.checksum) })
}

fn file_name(name: &str, is_sharded: bool, number: usize) -> String {
    if is_sharded { format!("{name}-{number:05}.bin") } else { format!("{name}.bin") }
}

/// A stream to read from.
#[derive(Debug)]
pub(super) struct Stream {
    shards: Vec<RecordFile>,
    n_token: u64,
    vocab_size: u64,
}

impl Stream {
    /// Opens the shards and checks that they follow one another.
    pub(super) fn open(folder: &Path, shards: &[Shard], vocab_size: u64) -> Result<Stream, Error> {
        let mut stream = Stream { shards: Vec::new(), n_token: 0, vocab_size };
        for entry in shards {
            let shard = RecordFile::open(&folder.join(&entry.file), Kind::Tokens)?;
            let header = &shard.header;
            let checksum = format!("{:016x}", header.checksum);
            for (what, expected, got) in [
                ("first token", stream.n_token.to_string(), header.first.to_string()),
                ("tokens", entry.tokens.to_string(), header.count.to_string()),
                ("vocabulary size", vocab_size.to_string(), header.bound.to_string()),
                ("checksum in the header", entry.checksum.clone(), checksum),
            ] {
                if expected != got {
                    return Err(shard.refuse(
                        what,
                        format_args!("{expected}, as in manifest.json"),
                        got,
                    ));
                }
            }
            stream.n_token += header.count;
            stream.shards.push(shard);
        }
        Ok(stream)
    }

    pub(super) fn n_token(&self) -> u64 {
        self.n_token
    }

    /// Reads every byte and compares the checksums.
    pub(super) fn verify(&self, done: &mut dyn FnMut(u64)) -> Result<(), Error> {
        for shard in &self.shards {
            shard.read_all(&mut |bytes| {
                done(bytes.len() as u64 / u64::from(shard.header.width));
                self.decode(shard, bytes, |_, _| {})
            })?;
        }
        Ok(())
    }

    /// Reads ids from number `start` of the stream on, (n).
    ///
    /// # Errors
    /// The file cannot be read, or holds an id that the vocabulary has not.
    ///
    /// # Panics
    /// The stream ends before `start + ids.len()`.
    pub(super) fn read(&self, start: u64, ids: &mut [u32]) -> Result<(), Error> {
        let end = start + ids.len() as u64;
        assert!(end <= self.n_token, "tokens {start} to {end} of {}", self.n_token);
        let mut bytes = Vec::new();
        let (mut start, mut ids) = (start, ids);
        while !ids.is_empty() {
            let index = self.shards.partition_point(|shard| shard.header.first <= start) - 1;
            let shard = &self.shards[index];
            let from = start - shard.header.first;
            let n = ((shard.header.count - from) as usize).min(ids.len());
            bytes.resize(n * shard.header.width as usize, 0);
            shard.read(from, &mut bytes)?;
            let (now, later) = ids.split_at_mut(n);
            self.decode(shard, &bytes, |at, id| now[at] = id)?;
            start += n as u64;
            ids = later;
        }
        Ok(())
    }

    fn decode(
        &self,
        shard: &RecordFile,
        bytes: &[u8],
        mut take: impl FnMut(usize, u32),
    ) -> Result<(), Error> {
        let mut most = 0;
        let mut one = |at: usize, id: u32| {
            most = most.max(id);
            take(at, id);
        };
        match shard.header.width {
            2 => bytes
                .chunks_exact(2)
                .enumerate()
                .for_each(|(at, id)| one(at, u16::from_le_bytes([id[0], id[1]]).into())),
            _ => bytes.chunks_exact(4).enumerate().for_each(|(at, id)| {
                one(at, u32::from_le_bytes([id[0], id[1], id[2], id[3]]));
            }),
        }
        if !bytes.is_empty() && u64::from(most) >= self.vocab_size {
            let expected = format_args!("ids below {}", self.vocab_size);
            return Err(shard.refuse("tokens", expected, most));
        }
        Ok(())
    }
}

/// A document of a stream, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The number of its first token.
    pub(super) start: u64,
    /// Where its text comes from.
    pub(super) at: Location,
    /// Tokens of that text that lie elsewhere, before it.
    pub(super) skip: u32,
    /// Whether it goes on with the document before it.
    pub(super) is_continued: bool,
}

/// Bytes of an entry.
const ENTRY: usize = 32;

/// The bit of the file's number that says `is_continued`.
const CONTINUED: u32 = 1 << 31;

impl Entry {
    fn to_bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        let file = self.at.file | if self.is_continued { CONTINUED } else { 0 };
        bytes[..8].copy_from_slice(&self.start.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.at.row.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.at.offset.to_le_bytes());
        bytes[24..28].copy_from_slice(&file.to_le_bytes());
        bytes[28..].copy_from_slice(&self.skip.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Entry {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let file = word(24) as u32;
        Entry {
            start: word(0),
            at: Location { file: file & !CONTINUED, row: word(8), offset: word(16) },
            skip: (word(24) >> 32) as u32,
            is_continued: file & CONTINUED != 0,
        }
    }
}

/// A list of documents that is being written.
pub(super) struct EntryWriter(RecordWriter);

impl EntryWriter {
    pub(super) fn create(path: &Path, n_file: usize) -> Result<EntryWriter, Error> {
        let width = ENTRY as u32;
        RecordWriter::create(path, Kind::Documents, width, n_file as u64, 0).map(EntryWriter)
    }

    pub(super) fn write(&mut self, entry: Entry) -> Result<(), Error> {
        self.0.write(&entry.to_bytes())
    }

    /// The checksum of the list, in hexadecimal.
    pub(super) fn finish(self) -> Result<String, Error> {
        Ok(format!("{:016x}", self.0.finish()?.checksum))
    }
}

/// A list of documents to read from.
#[derive(Debug)]
pub(super) struct Entries {
    file: RecordFile,
    n_token: u64,
}

impl Entries {
    /// Opens the list of a stream of `n_token` tokens.
    pub(super) fn open(path: &Path, n_token: u64, checksum: &str) -> Result<Entries, Error> {
        let file = RecordFile::open(path, Kind::Documents)?;
        let got = format!("{:016x}", file.header.checksum);
        if got != checksum {
            let expected = format_args!("{checksum}, as in manifest.json");
            return Err(file.refuse("checksum in the header", expected, got));
        }
        Ok(Entries { file, n_token })
    }

    pub(super) fn count(&self) -> u64 {
        self.file.header.count
    }

    /// One entry.
    pub(super) fn get(&self, number: u64) -> Result<Entry, Error> {
        let mut bytes = [0; ENTRY];
        self.file.read(number, &mut bytes)?;
        Ok(Entry::from_bytes(&bytes))
    }

    /// Reads all entries, and checks them.
    pub(super) fn read_all(&self, take: &mut dyn FnMut(Entry)) -> Result<(), Error> {
        let mut least = 0;
        self.file.read_all(&mut |bytes| {
            for bytes in bytes.chunks_exact(ENTRY) {
                let entry = Entry::from_bytes(bytes);
                if entry.start < least || entry.start > self.n_token {
                    let expected = format_args!("{least} to {}", self.n_token);
                    return Err(self.file.refuse("a document's start", expected, entry.start));
                }
                if u64::from(entry.at.file) >= self.file.header.bound {
                    let expected = format_args!("below {}", self.file.header.bound);
                    return Err(self.file.refuse("a file's number", expected, entry.at.file));
                }
                least = entry.start;
                take(entry);
            }
            Ok(())
        })
    }

    /// The entry that holds a token, the last that begins at or before it, and the token at which the
    /// next one begins.
    pub(super) fn find(&self, token: u64) -> Result<Option<(Entry, u64)>, Error> {
        let (mut from, mut to) = (0, self.count());
        while from < to {
            let middle = from + (to - from) / 2;
            if self.get(middle)?.start <= token {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        if from == 0 {
            return Ok(None);
        }
        let end = if from < self.count() { self.get(from)?.start } else { self.n_token };
        Ok(Some((self.get(from - 1)?, end)))
    }
}
