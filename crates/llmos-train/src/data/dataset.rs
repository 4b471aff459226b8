//! A prepared folder, opened for training.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::manifest::{Manifest, Part, TOKENIZER};
use super::read::hex;
use super::stream::{Entries, Entry, Stream};
use crate::Error;

/// A prepared folder. Files are read by position: any number of threads may do so at once.
#[derive(Debug)]
pub struct Dataset {
    folder: PathBuf,
    manifest: Manifest,
    sha256: String,
    train: Stream,
    train_entries: Entries,
    validation: Stream,
    validation_entries: Entries,
}

/// Where a token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The source's path, as it was given.
    pub source: String,
    /// The source's licence, where that is known.
    pub licence: Option<String>,
    /// The file's path within the source.
    pub file: String,
    /// The row of the file, from 0: the document of a text, the value of JSON, the row of Parquet.
    pub row: u64,
    /// The byte of the file at which the document, or the part of one, or the row's line begins.
    pub offset: u64,
    /// The token's number in the text that begins there, from 0; tokens before and after a
    /// document count.
    pub token: u64,
    /// Tokens of that text that are not in the stream, before those that are.
    pub skip: u64,
    /// The tokens of the stream that were made of that text.
    pub span: Range<u64>,
}

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// What is trained on.
    Train,
    /// What is held out.
    Validation,
}

impl Dataset {
    /// Opens a folder and reads all of it once, so that a damaged byte is found before training.
    ///
    /// # Errors
    /// A file is missing, damaged, of another version, or does not belong to the others.
    pub fn open(folder: &Path) -> Result<Dataset, Error> {
        Dataset::open_with(folder, &mut |_, _| {})
    }

    /// As [`Dataset::open`]; `progress` is called with the tokens read and those to read.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_with(folder: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Dataset, Error> {
        let dataset = Dataset::open_unread(folder)?;
        dataset.check_tokenizer()?;
        let total = dataset.train.n_token() + dataset.validation.n_token();
        let mut done = 0;
        for stream in [&dataset.train, &dataset.validation] {
            stream.verify(&mut |n_token| {
                done += n_token;
                progress(done, total);
            })?;
        }
        dataset.train_entries.read_all(&mut |_| {})?;
        dataset.validation_entries.read_all(&mut |_| {})?;
        Ok(dataset)
    }

    /// Opens a folder and reads the manifest and headers alone.
    ///
    /// # Errors
    /// As [`Dataset::open`], but for damage within a file.
    pub fn open_unread(folder: &Path) -> Result<Dataset, Error> {
        let (manifest, bytes) = Manifest::read(folder)?;
        let vocab_size = manifest.tokenizer.vocab_size;
        let open = |part: &Part| -> Result<(Stream, Entries), Error> {
            let stream = Stream::open(folder, &part.shards, vocab_size)?;
            if stream.n_token() != part.tokens {
                return Err(Error::Format {
                    path: folder.to_path_buf(),
                    what: "tokens of the shards".into(),
                    expected: part.tokens.to_string(),
                    got: stream.n_token().to_string(),
                });
            }
            let index = folder.join(&part.index);
            let entries = Entries::open(&index, stream.n_token(), &part.index_checksum)?;
            Ok((stream, entries))
        };
        let (train, train_entries) = open(&manifest.train)?;
        let (validation, validation_entries) = open(&manifest.validation)?;
        Ok(Dataset {
            folder: folder.to_path_buf(),
            sha256: hex(&Sha256::digest(&bytes)),
            manifest,
            train,
            train_entries,
            validation,
            validation_entries,
        })
    }

    /// Checks that the tokenizer is the one that made the ids.
    fn check_tokenizer(&self) -> Result<(), Error> {
        let path = self.folder.join(TOKENIZER);
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let (got, expected) = (hex(&Sha256::digest(&bytes)), &self.manifest.tokenizer.sha256);
        if got != *expected {
            return Err(Error::Format {
                path,
                what: "tokenizer".into(),
                expected: format!("the one that made the ids, of SHA-256 {expected}"),
                got,
            });
        }
        Ok(())
    }

    /// The folder; the tokenizer's files lie in it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the manifest, which names the checksums of all other files: it stands for the
    /// whole data set.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Ids that tokens may have.
    pub fn vocab_size(&self) -> usize {
        self.manifest.tokenizer.vocab_size as usize
    }

    /// Tokens of a stream.
    pub fn n_token(&self, split: Split) -> u64 {
        self.stream(split).n_token()
    }

    /// Bytes of text of a stream: nats over all its tokens, divided by ln 2 and by these, are bits
    /// per byte.
    pub fn n_byte(&self, split: Split) -> u64 {
        match split {
            Split::Train => self.manifest.train.bytes,
            Split::Validation => self.manifest.validation.bytes,
        }
    }

    /// Reads ids, (n), from token `start` of a stream on.
    ///
    /// # Errors
    /// A file cannot be read, or holds an id that the vocabulary has not.
    ///
    /// # Panics
    /// The stream ends before that.
    pub fn read(&self, split: Split, start: u64, ids: &mut [u32]) -> Result<(), Error> {
        self.stream(split).read(start, ids)
    }

    /// Rows of `context` targets that a stream is cut into, the last of them shorter as a rule.
    /// Each row's first token is the last of the row before, so that every token but the stream's
    /// first is a target once.
    pub fn n_row(&self, split: Split, context: usize) -> u64 {
        self.n_token(split).saturating_sub(1).div_ceil(context as u64)
    }

    /// Reads row `row` of [`Dataset::n_row`] into `ids`, (context + 1), and returns how many of
    /// them there are: one more than targets.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    ///
    /// # Panics
    /// There is no such row.
    pub fn read_row(&self, split: Split, row: u64, ids: &mut [u32]) -> Result<usize, Error> {
        let start = row * (ids.len() as u64 - 1);
        let n = (self.n_token(split) - start).min(ids.len() as u64) as usize;
        self.read(split, start, &mut ids[..n])?;
        Ok(n)
    }

    /// Where documents of a stream begin, (n): what the per-document attention and packing need.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn document_starts(&self, split: Split) -> Result<Arc<[u64]>, Error> {
        let mut starts = Vec::new();
        self.entries(split).read_all(&mut |entry: Entry| {
            if !entry.is_continued {
                starts.push(entry.start);
            }
        })?;
        Ok(starts.into())
    }

    /// Where a token of a stream comes from; none where the stream has no such token.
    ///
    /// # Errors
    /// The list of documents cannot be read, or names a file that the manifest has not.
    pub fn origin(&self, split: Split, token: u64) -> Result<Option<Origin>, Error> {
        if token >= self.n_token(split) {
            return Ok(None);
        }
        let Some((entry, end)) = self.entries(split).find(token)? else { return Ok(None) };
        let sources = &self.manifest.sources;
        let number = entry.at.file;
        let found = sources.iter().find_map(|source| {
            let index = number.checked_sub(source.first_file)?;
            Some((source, source.files.get(index as usize)?))
        });
        let (source, file) = found.ok_or_else(|| Error::Format {
            path: self.folder.clone(),
            what: "file of a document".into(),
            expected: "one of the manifest's".into(),
            got: number.to_string(),
        })?;
        Ok(Some(Origin {
            source: source.path.clone(),
            licence: source.licence.clone(),
            file: file.name.clone(),
            row: entry.at.row,
            offset: entry.at.offset,
            token: token - entry.start + u64::from(entry.skip),
            skip: entry.skip.into(),
            span: entry.start..end.clamp(token + 1, self.n_token(split)),
        }))
    }

    fn stream(&self, split: Split) -> &Stream {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
        }
    }

    fn entries(&self, split: Split) -> &Entries {
        match split {
            Split::Train => &self.train_entries,
            Split::Validation => &self.validation_entries,
        }
    }
}
