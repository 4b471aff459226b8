//! Pieces into streams: start and end tokens, caps, and what is held out.

use std::path::Path;

use super::held_out::{Draw, HeldOut, Piece, Verdict};
use super::manifest::{Part, Span};
use super::source::Source;
use super::stream::{Entry, EntryWriter, StreamWriter};
use crate::Error;

/// The tokens around documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// The ids before each document, (n).
    pub(super) start: Vec<u32>,
    /// The id after each document.
    pub(super) end: Option<u32>,
}

/// One of the two streams, with its list of documents.
struct Side {
    stream: StreamWriter,
    entries: EntryWriter,
    index: String,
    frame: Frame,
    /// Whether the last document goes on.
    is_open: bool,
    /// What the current source has given.
    span: Span,
    n_document: u64,
    n_byte: u64,
}

impl Side {
    fn create(
        folder: &Path,
        name: &str,
        index: &str,
        is_sharded: bool,
        vocab_size: u64,
        n_file: usize,
        frame: Frame,
    ) -> Result<Side, Error> {
        Ok(Side {
            stream: StreamWriter::create(folder, name, is_sharded, vocab_size)?,
            entries: EntryWriter::create(&folder.join(index), n_file)?,
            index: index.into(),
            frame,
            is_open: false,
            span: Span::default(),
            n_document: 0,
            n_byte: 0,
        })
    }

    fn add(&mut self, piece: &Piece) -> Result<(), Error> {
        if piece.is_start {
            self.close()?;
        }
        let begins = !self.is_open;
        let (start, at, skip) = (self.stream.n_token(), piece.at, piece.skip);
        self.entries.write(Entry { start, at, skip, is_continued: !begins })?;
        if begins {
            self.stream.write(&self.frame.start)?;
        }
        self.stream.write(&piece.ids)?;
        self.is_open = true;
        self.span.documents += 1;
        self.span.bytes += piece.n_byte;
        if piece.is_end { self.close() } else { Ok(()) }
    }

    /// Ends the document that goes on, if one does.
    fn close(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.is_open)
            && let Some(end) = self.frame.end
        {
            self.stream.write(&[end])?;
        }
        Ok(())
    }

    fn end_source(&mut self) -> Result<Span, Error> {
        self.close()?;
        self.span.tokens = self.stream.n_token() - self.span.start;
        self.n_document += self.span.documents;
        self.n_byte += self.span.bytes;
        let next = Span { start: self.stream.n_token(), ..Span::default() };
        Ok(std::mem::replace(&mut self.span, next))
    }

    fn finish(self) -> Result<Part, Error> {
        Ok(Part {
            tokens: self.stream.n_token(),
            documents: self.n_document,
            bytes: self.n_byte,
            shards: self.stream.finish()?,
            index: self.index,
            index_checksum: self.entries.finish()?,
        })
    }
}

/// The two streams of a data set in the making.
pub(super) struct Sink<'a> {
    train: Side,
    validation: Side,
    frame: Frame,
    held_out: HeldOut,
    n_byte_of: &'a dyn Fn(u32) -> u64,
    /// The draw of the current source; none between sources.
    draw: Option<Draw>,
    cap_tokens: u64,
    cap_bytes: u64,
    taken_tokens: u64,
    taken_bytes: u64,
    is_capped: bool,
}

/// What a source has become.
pub(super) struct Written {
    pub(super) train: Span,
    pub(super) validation: Span,
    pub(super) is_capped: bool,
}

impl<'a> Sink<'a> {
    /// Streams in `folder` of ids below `vocab_size`, from `n_file` files. `n_byte_of` says how
    /// many bytes an id stands for.
    pub(super) fn create(
        folder: &Path,
        vocab_size: u64,
        n_file: usize,
        frame: Frame,
        held_out: HeldOut,
        n_byte_of: &'a dyn Fn(u32) -> u64,
    ) -> Result<Sink<'a>, Error> {
        let side = |name, index, is_sharded| {
            Side::create(folder, name, index, is_sharded, vocab_size, n_file, frame.clone())
        };
        Ok(Sink {
            train: side("train", "documents.bin", true)?,
            validation: side("validation", "validation-documents.bin", false)?,
            frame,
            held_out,
            n_byte_of,
            draw: None,
            cap_tokens: 0,
            cap_bytes: 0,
            taken_tokens: 0,
            taken_bytes: 0,
            is_capped: false,
        })
    }

    /// Tokens that went into the streams or wait.
    pub(super) fn n_token(&self) -> u64 {
        self.train.span.start + self.validation.span.start + self.taken_tokens
    }

    /// Begins a source that has `source_bytes` in its files, `source_share` of all.
    pub(super) fn begin_source(
        &mut self,
        folder: &Path,
        source: &Source,
        source_bytes: u64,
        source_share: f64,
    ) -> Result<(), Error> {
        self.draw = Some(Draw::new(folder, self.held_out, source_bytes, source_share)?);
        self.cap_tokens = source.cap_tokens.unwrap_or(u64::MAX);
        self.cap_bytes = source.cap_bytes.unwrap_or(u64::MAX);
        (self.taken_tokens, self.taken_bytes, self.is_capped) = (0, 0, false);
        Ok(())
    }

    /// Whether the current source has all that it may have.
    pub(super) fn is_full(&self) -> bool {
        self.is_capped
    }

    /// Takes the next piece of the source. `held_out` says where it belongs, if that is known.
    pub(super) fn take(&mut self, mut piece: Piece, held_out: Option<bool>) -> Result<(), Error> {
        if held_out == Some(true) {
            // What is held out does not count against a cap.
            return self.validation.add(&piece);
        }
        if !self.fit(&mut piece) {
            return Ok(());
        }
        if held_out == Some(false) {
            return self.train.add(&piece);
        }
        let Some(draw) = &mut self.draw else { return Ok(()) };
        match draw.add(piece)? {
            Verdict::Train(piece) => self.train.add(&piece),
            Verdict::Waits => Ok(()),
        }
    }

    /// Cuts a piece to what the caps leave; false if that is nothing.
    fn fit(&mut self, piece: &mut Piece) -> bool {
        if self.is_capped {
            return false;
        }
        let around = self.frame.start.len() as u64 + u64::from(self.frame.end.is_some());
        let room = self.cap_tokens.saturating_sub(self.taken_tokens + around);
        let room_bytes = self.cap_bytes - self.taken_bytes;
        if piece.ids.len() as u64 > room || piece.n_byte > room_bytes {
            self.is_capped = true;
            let (mut n, mut n_byte) = (0, 0);
            for &id in piece.ids.iter().take(room as usize) {
                let more = n_byte + (self.n_byte_of)(id);
                if more > room_bytes {
                    break;
                }
                (n, n_byte) = (n + 1, more);
            }
            piece.ids.truncate(n);
            piece.n_byte = n_byte.min(piece.n_byte);
            piece.is_end = true;
        }
        self.taken_tokens += piece.ids.len() as u64 + around;
        self.taken_bytes += piece.n_byte;
        !piece.ids.is_empty()
    }

    /// Ends the source.
    pub(super) fn end_source(&mut self) -> Result<Written, Error> {
        if let Some(draw) = self.draw.take() {
            let (train, validation) = (&mut self.train, &mut self.validation);
            draw.finish(self.n_byte_of, &mut |piece, is_held| {
                if is_held { validation.add(&piece) } else { train.add(&piece) }
            })?;
        }
        Ok(Written {
            train: self.train.end_source()?,
            validation: self.validation.end_source()?,
            is_capped: std::mem::take(&mut self.is_capped),
        })
    }

    /// Brings all to the disk: the training stream, and the one that is held out.
    pub(super) fn finish(self) -> Result<(Part, Part), Error> {
        Ok((self.train.finish()?, self.validation.finish()?))
    }
}
