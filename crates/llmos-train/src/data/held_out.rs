//! Which texts are held out for validation.
//!
//! A document is drawn by the hash of its text, so the same document is held out whatever stands
//! beside it. How many are needed is known only when a source is at its end; until then candidates
//! wait in a file. A source that is one text gives its end.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::read::Location;
use crate::Error;

/// How much text is held out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum HeldOut {
    /// Of a single text the last 10 %, or where that is more than 2 MiB, 2 MiB or 1 %; of a source
    /// of documents 1 %, at least 16 KiB but no more than 10 %; at most 8 MiB of a source.
    #[default]
    Default,
    /// This share of each source; 0 for nothing.
    Share(f64),
    /// So many bytes of text in all.
    Bytes(u64),
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl HeldOut {
    /// Bytes of a single text of `n_byte` that are held out, if the source has this share of all.
    pub(super) fn of_text(self, n_byte: u64, source_share: f64) -> u64 {
        match self {
            HeldOut::Default => {
                let most = (2 * MIB).max(n_byte / 100).min(8 * MIB);
                n_byte.div_ceil(10).min(most).min(n_byte / 2)
            }
            other => other.of_documents(n_byte, source_share),
        }
    }

    /// Bytes of a source of documents that are held out.
    pub(super) fn of_documents(self, n_byte: u64, source_share: f64) -> u64 {
        match self {
            HeldOut::Default => (n_byte / 100).max((16 * KIB).min(n_byte / 10)).min(8 * MIB),
            HeldOut::Share(share) => (n_byte as f64 * share) as u64,
            HeldOut::Bytes(bytes) => ((bytes as f64 * source_share) as u64).min(n_byte / 2),
        }
    }

    /// Share of a source's documents that wait as candidates: more than are needed.
    fn candidates(self, source_bytes: u64, source_share: f64) -> f64 {
        let wanted = self.of_documents(source_bytes, source_share) as f64;
        (wanted / (source_bytes as f64).max(1.0) * 3.0).clamp(0.05, 1.0)
    }

    /// Whether nothing is held out.
    pub(super) fn is_nothing(self) -> bool {
        matches!(self, HeldOut::Bytes(0)) || self == HeldOut::Share(0.0)
    }
}

/// A document's tokens, or those of a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) at: Location,
    /// What it is drawn by.
    pub(super) hash: u64,
    /// Ids, (n).
    pub(super) ids: Vec<u32>,
    /// Bytes of its text.
    pub(super) n_byte: u64,
    /// Whether a document begins with it.
    pub(super) is_start: bool,
    /// Whether a document ends with it.
    pub(super) is_end: bool,
    /// Tokens of the same text before it.
    pub(super) skip: u32,
}

/// The draw of one source.
pub(super) struct Draw {
    held_out: HeldOut,
    source_share: f64,
    /// Pieces whose hash is below it wait.
    bound: u64,
    /// Pieces that wait, without their ids, and how many ids each has.
    waiting: Vec<(Piece, u64)>,
    /// The piece of the least hash of all that do not wait: it is drawn where none waits.
    reserve: Option<Piece>,
    file: BufWriter<File>,
    path: PathBuf,
    n_piece: u64,
    n_byte: u64,
}

/// Where a piece goes at once.
pub(super) enum Verdict {
    /// Into the training stream.
    Train(Piece),
    /// Nowhere yet.
    Waits,
}

impl Draw {
    /// A draw over a source with `source_bytes` in its files, which are `source_share` of all.
    pub(super) fn new(
        folder: &Path,
        held_out: HeldOut,
        source_bytes: u64,
        source_share: f64,
    ) -> Result<Draw, Error> {
        let path = folder.join("candidates");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let share = held_out.candidates(source_bytes, source_share);
        Ok(Draw {
            held_out,
            source_share,
            bound: (share * u64::MAX as f64) as u64,
            waiting: Vec::new(),
            reserve: None,
            file: BufWriter::new(file.map_err(Error::io("write", &path))?),
            path,
            n_piece: 0,
            n_byte: 0,
        })
    }

    /// Takes the next piece; of a document in parts only the last may be drawn, so that what is
    /// left still begins with its beginning.
    pub(super) fn add(&mut self, piece: Piece) -> Result<Verdict, Error> {
        self.n_piece += 1;
        self.n_byte += piece.n_byte;
        if self.held_out.is_nothing() || !piece.is_end {
            return Ok(Verdict::Train(piece));
        }
        if piece.hash <= self.bound {
            let bytes: Vec<u8> = piece.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            self.file.write_all(&bytes).map_err(Error::io("write", &self.path))?;
            let n_id = piece.ids.len() as u64;
            self.waiting.push((Piece { ids: Vec::new(), ..piece }, n_id));
            return Ok(Verdict::Waits);
        }
        Ok(match &mut self.reserve {
            Some(reserve) if reserve.hash <= piece.hash => Verdict::Train(piece),
            reserve => match reserve.replace(piece) {
                Some(former) => Verdict::Train(former),
                None => Verdict::Waits,
            },
        })
    }

    /// Decides. `take` is called with each piece that waited and whether it is held out;
    /// `n_byte_of` says how many bytes a token stands for.
    pub(super) fn finish(
        mut self,
        n_byte_of: &dyn Fn(u32) -> u64,
        take: &mut dyn FnMut(Piece, bool) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let is_one_text = self.n_piece == 1;
        let wanted = match is_one_text {
            true => self.held_out.of_text(self.n_byte, self.source_share),
            false => self.held_out.of_documents(self.n_byte, self.source_share),
        };
        let mut order: Vec<usize> = (0..self.waiting.len()).collect();
        order.sort_by_key(|&index| (self.waiting[index].0.hash, index));
        // Bytes to take of each piece; the last may be far longer than what is missing.
        let mut share = vec![0; self.waiting.len()];
        let mut missing = wanted;
        for index in order {
            if missing == 0 {
                break;
            }
            share[index] = part_of(self.waiting[index].0.n_byte, missing, is_one_text);
            missing -= share[index].min(missing);
        }
        let mut emit = |piece: Piece, share: u64| -> Result<(), Error> {
            match share {
                0 => take(piece, false),
                n if n >= piece.n_byte => take(piece, true),
                n => {
                    let (head, tail) = split(piece, n, n_byte_of);
                    if !head.ids.is_empty() {
                        take(head, false)?;
                    }
                    if !tail.ids.is_empty() {
                        take(tail, true)?;
                    }
                    Ok(())
                }
            }
        };
        let file = self.file.into_inner().map_err(|error| error.into_error());
        let mut file = file.map_err(Error::io("write", &self.path))?;
        file.seek(SeekFrom::Start(0)).map_err(Error::io("read", &self.path))?;
        let mut file = BufReader::with_capacity(1 << 17, file);
        for ((piece, n_id), share) in self.waiting.drain(..).zip(&share) {
            let mut bytes = vec![0; n_id as usize * 4];
            file.read_exact(&mut bytes).map_err(Error::io("read", &self.path))?;
            let ids =
                bytes.chunks_exact(4).map(|id| u32::from_le_bytes([id[0], id[1], id[2], id[3]]));
            emit(Piece { ids: ids.collect(), ..piece }, *share)?;
        }
        if let Some(reserve) = self.reserve.take() {
            let is_drawn = share.is_empty() && wanted > 0;
            let part = if is_drawn { part_of(reserve.n_byte, wanted, is_one_text) } else { 0 };
            emit(reserve, part)?;
        }
        drop(file);
        std::fs::remove_file(&self.path).map_err(Error::io("remove", &self.path))
    }
}

/// Bytes of a piece that are held out where so many are missing: all, unless it is far longer.
fn part_of(n_byte: u64, missing: u64, is_one_text: bool) -> u64 {
    let is_far_longer = n_byte > 64 * KIB && n_byte / 4 > missing;
    if is_one_text || is_far_longer { missing.min(n_byte) } else { n_byte }
}

/// Cuts a piece before its last `wanted` bytes, as near as tokens allow.
fn split(piece: Piece, wanted: u64, n_byte_of: &dyn Fn(u32) -> u64) -> (Piece, Piece) {
    let mut n_byte = 0;
    let mut from = piece.ids.len();
    while from > 0 && n_byte < wanted {
        from -= 1;
        n_byte += n_byte_of(piece.ids[from]);
    }
    let mut head = piece;
    let tail = Piece {
        ids: head.ids.split_off(from),
        n_byte: n_byte.min(head.n_byte),
        is_start: false,
        skip: head.skip + from as u32,
        ..head.clone()
    };
    head.n_byte -= tail.n_byte;
    head.is_end = false;
    (head, tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;
    use crate::data::words::scramble;

    /// Draws from documents of one-byte tokens of these lengths; gives (trained, held out).
    fn draw(held_out: HeldOut, lengths: &[usize]) -> (Vec<Piece>, Vec<Piece>) {
        let scratch = Scratch::new();
        let total: usize = lengths.iter().sum();
        let mut draw = Draw::new(scratch.path(), held_out, total as u64, 1.0).unwrap();
        let (mut train, mut held) = (Vec::new(), Vec::new());
        for (row, &length) in lengths.iter().enumerate() {
            let piece = Piece {
                at: Location { file: 0, row: row as u64, offset: 0 },
                hash: scramble(row as u64 + 1),
                ids: (0..length as u32).collect(),
                n_byte: length as u64,
                is_start: true,
                is_end: true,
                skip: 0,
            };
            if let Verdict::Train(piece) = draw.add(piece).unwrap() {
                train.push(piece);
            }
        }
        let mut take = |piece: Piece, is_held: bool| {
            if is_held {
                held.push(piece)
            } else {
                train.push(piece)
            }
            Ok(())
        };
        draw.finish(&|_| 1, &mut take).unwrap();
        assert!(!scratch.path().join("candidates").exists());
        let ids = |pieces: &[Piece]| pieces.iter().map(|piece| piece.ids.len()).sum::<usize>();
        assert_eq!(ids(&train) + ids(&held), total);
        (train, held)
    }

    fn bytes(pieces: &[Piece]) -> u64 {
        pieces.iter().map(|piece| piece.n_byte).sum()
    }

    #[test]
    fn a_share_of_documents_is_drawn() {
        let lengths = vec![1000; 5000];
        let (_, held) = draw(HeldOut::Default, &lengths);
        assert_eq!(held.len(), 50);
        let (_, held) = draw(HeldOut::Share(0.2), &lengths);
        assert_eq!(held.len(), 1000);
        let (_, held) = draw(HeldOut::Bytes(10_000), &lengths);
        assert_eq!(held.len(), 10);
        assert!(held.iter().all(|piece| piece.is_start && piece.is_end && piece.skip == 0));
        let (train, held) = draw(HeldOut::Share(0.0), &lengths);
        assert_eq!((train.len(), held.len()), (5000, 0));
        // The same documents are drawn from fewer, and few give no less than a tenth.
        let (_, fewer) = draw(HeldOut::Default, &lengths[..100]);
        assert_eq!(fewer.len(), 10);
    }

    #[test]
    fn few_documents_give_one_and_one_gives_its_end() {
        for n in 2..9 {
            let (train, held) = draw(HeldOut::Default, &vec![1000; n]);
            assert_eq!((train.len(), held.len()), (n - 1, 1));
        }
        let (train, held) = draw(HeldOut::Default, &[1000]);
        assert_eq!((bytes(&train), bytes(&held)), (900, 100));
        assert_eq!((held[0].ids[0], held[0].skip), (900, 900));
        assert!(train[0].is_start && !train[0].is_end && !held[0].is_start && held[0].is_end);
    }

    #[test]
    fn a_long_document_gives_no_more_than_is_wanted() {
        let (_, held) = draw(HeldOut::Default, &[1_000_000, 2_000_000, 1_500_000]);
        assert_eq!(held.len(), 1);
        assert_eq!(bytes(&held), 45_000);
    }

    #[test]
    fn figures_of_the_default() {
        let held = HeldOut::Default;
        assert_eq!(held.of_text(1_115_394, 1.0), 111_540);
        assert_eq!(held.of_text(100 << 20, 1.0), 2 << 20);
        assert_eq!(held.of_text(400 << 20, 1.0), 4 << 20);
        assert_eq!(held.of_documents(1000, 1.0), 100);
        assert_eq!(held.of_documents(1 << 20, 1.0), 16 << 10);
        assert_eq!(held.of_documents(10 << 30, 1.0), 8 << 20);
    }
}
