//! The bytes of a file: hashed and counted as they pass, decompressed where they are compressed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest, Sha256};

use crate::Error;

/// A file that is hashed by whoever reads it.
struct Tap {
    file: File,
    hash: Sha256,
    done: Option<Arc<AtomicU64>>,
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.hash.update(&buffer[..n]);
        if let Some(done) = &self.done {
            done.fetch_add(n as u64, Ordering::Relaxed);
        }
        Ok(n)
    }
}

/// The stream side of a tap, which decoders own.
struct Spout(Arc<Mutex<Tap>>);

impl Read for Spout {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        lock(&self.0).read(buffer)
    }
}

fn lock(tap: &Mutex<Tap>) -> MutexGuard<'_, Tap> {
    // A hash that a panic left half-fed is never asked for: the panic goes on.
    tap.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An opened file.
pub(super) struct Input {
    path: PathBuf,
    tap: Arc<Mutex<Tap>>,
    /// Its first bytes, as they lie on the disk.
    start: Vec<u8>,
}

/// A stream of decompressed bytes.
pub(super) type Stream = Box<dyn Read + Send>;

impl Input {
    pub(super) fn open(path: &Path, done: &Arc<AtomicU64>) -> Result<Input, Error> {
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let mut start = Vec::new();
        let mut first = (&mut file).take(4);
        first.read_to_end(&mut start).map_err(Error::io("read", path))?;
        let file = File::open(path).map_err(Error::io("read", path))?;
        let tap = Tap { file, hash: Sha256::new(), done: Some(done.clone()) };
        Ok(Input { path: path.to_path_buf(), tap: Arc::new(Mutex::new(tap)), start })
    }

    pub(super) fn starts_with(&self, magic: &[u8]) -> bool {
        self.start.starts_with(magic)
    }

    /// Whether the file begins as a compressed one does.
    pub(super) fn is_compressed(&self) -> bool {
        Compression::of(&self.start).is_some()
    }

    /// Another reader of the file counts what is done.
    pub(super) fn count_elsewhere(&mut self) {
        lock(&self.tap).done = None;
    }

    /// The bytes, decompressed if they begin as gzip or Zstandard do.
    pub(super) fn stream(&self) -> Stream {
        let spout = Spout(self.tap.clone());
        match Compression::of(&self.start) {
            Some(compression) => compression.unpack(BufReader::with_capacity(1 << 17, spout)),
            None => Box::new(spout),
        }
    }

    /// Reads what is left, and gives the hash of all.
    pub(super) fn sha256(self) -> Result<String, Error> {
        let mut tap = lock(&self.tap);
        let mut buffer = vec![0; 1 << 18];
        loop {
            match tap.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", &self.path)(error)),
            }
        }
        Ok(hex(&std::mem::take(&mut tap.hash).finalize()))
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a file is compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstandard,
}

impl Compression {
    /// What a file is compressed with that begins like this; four bytes tell.
    pub(crate) fn of(start: &[u8]) -> Option<Compression> {
        match *start {
            [0x1f, 0x8b, ..] => Some(Compression::Gzip),
            // A skippable frame may come first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Some(Compression::Zstandard)
            }
            _ => None,
        }
    }

    /// The bytes of all members or frames of `packed`, one after another. Reading them fails where
    /// they are cut off or damaged.
    pub(crate) fn unpack<'a>(self, packed: impl BufRead + Send + 'a) -> Box<dyn Read + Send + 'a> {
        match self {
            Compression::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Compression::Zstandard => Box::new(Frames::new(packed)),
        }
    }
}

/// All frames of a Zstandard file.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R) -> Frames<R> {
        Frames { source, decoder: FrameDecoder::new(), in_frame: false }
    }

    /// Reads the next frame's header; false at the end of the file.
    fn begin(&mut self) -> std::io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => {
                    self.in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped =
                        std::io::copy(&mut (&mut self.source).take(length), &mut std::io::sink())?;
                    if skipped < length {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(std::io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.in_frame || self.begin()? {
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let decoded = self.decoder.decode_blocks(&mut self.source, one);
                decoded.map_err(std::io::Error::other)?;
            }
            let n = self.decoder.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            self.in_frame = false;
            let stored = self.decoder.get_checksum_from_data();
            if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
                return Err(std::io::Error::other("the checksum of the Zstandard frame is wrong"));
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;
    use std::io::Write;

    fn read(bytes: &[u8]) -> std::io::Result<(Vec<u8>, String, u64)> {
        let scratch = Scratch::new();
        let done = Arc::new(AtomicU64::new(0));
        let input = Input::open(&scratch.write("a", bytes), &done).unwrap();
        let mut text = Vec::new();
        input.stream().read_to_end(&mut text)?;
        let hash = input.sha256().unwrap();
        Ok((text, hash, done.load(Ordering::Relaxed)))
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn whatever_the_compression_the_text_comes_out_and_the_file_is_hashed() {
        let text = "once upon a time ".repeat(10_000).into_bytes();
        let skippable = [&[0x52, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let twice = [&text[..], &text].concat();
        for (bytes, expected) in [
            (text.clone(), &text),
            (gzip(&text), &text),
            ([gzip(&text), gzip(&text)].concat(), &twice),
            (zstd(&text), &text),
            ([&zstd(&text)[..], &skippable, &zstd(&text)].concat(), &twice),
            ([&skippable[..], &zstd(&text)].concat(), &text),
        ] {
            let (read, hash, done) = read(&bytes).unwrap();
            assert!(read == *expected);
            assert_eq!(hash, hex(&Sha256::digest(&bytes)));
            assert_eq!(done, bytes.len() as u64);
        }
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_an_error() {
        let text: Vec<u8> = (0..40_000u32).flat_map(|i| (i * i % 251).to_le_bytes()).collect();
        for whole in [gzip(&text), zstd(&text)] {
            assert!(read(&whole[..whole.len() - 9]).is_err());
            let mut damaged = whole.clone();
            *damaged.last_mut().unwrap() ^= 1;
            assert!(read(&damaged).is_err());
        }
    }
}
