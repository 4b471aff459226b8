//! Writing a sequence out and reading it in again, on another day, with the same logits to the bit.
//!
//! An image: a header that tells the model and the cache's layout, the tokens and notes, the blocks,
//! the kept logits, and a CRC-32 of all before it. All numbers are little-endian.

use std::io::{Read, Write};

use super::pages::{BLOCK, Root};
use super::sequence::{Label, Rows, Sequence};
use super::{Engine, SequenceId, SequenceOptions};
use crate::Error;
use crate::decoder::is_long;

/// First bytes of an image, the version last.
const MAGIC: [u8; 8] = *b"llmosq\x00\x02";

const OUT: &str = "page out";
const IN: &str = "page in";

/// Writes and keeps the check value.
struct Writer<'a> {
    stream: &'a mut dyn Write,
    check: crc32fast::Hasher,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.check.update(bytes);
        self.stream.write_all(bytes).map_err(|source| Error::Stream { operation: OUT, source })
    }

    fn number(&mut self, number: u64) -> Result<(), Error> {
        self.bytes(&number.to_le_bytes())
    }
}

/// Reads and keeps the check value.
struct Reader<'a> {
    stream: &'a mut dyn Read,
    check: crc32fast::Hasher,
}

impl Reader<'_> {
    fn bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.stream.read_exact(bytes).map_err(|source| Error::Stream { operation: IN, source })?;
        self.check.update(bytes);
        Ok(())
    }

    fn number(&mut self) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        self.bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A count that is at most `most`.
    fn count(&mut self, what: &str, most: usize) -> Result<usize, Error> {
        let number = self.number()?;
        match usize::try_from(number) {
            Ok(count) if count <= most => Ok(count),
            _ => Err(Error::request(IN, format!("{what} of at most {most}"), number)),
        }
    }

    /// A number that must be `expected`.
    fn same(&mut self, what: &str, expected: u64) -> Result<(), Error> {
        let number = self.number()?;
        if number == expected {
            return Ok(());
        }
        Err(Error::request(IN, format!("{what} {expected}"), number))
    }
}

impl Engine {
    /// Writes a sequence to `stream` and removes it. If writing fails the sequence stays.
    ///
    /// # Errors
    /// [`Error::Stream`] if the stream fails; [`Error::Request`] for an unknown sequence.
    pub fn page_out(&mut self, id: SequenceId, stream: &mut dyn Write) -> Result<(), Error> {
        let sequence = self.sequence(id)?;
        let mut out = Writer { stream, check: crc32fast::Hasher::new() };
        out.bytes(&MAGIC)?;
        for number in self.layout_numbers() {
            out.number(number)?;
        }
        let options = &sequence.options;
        for number in [
            options.owner,
            options.salt,
            sequence.root.adapter,
            options.priority as i64 as u64,
            sequence.limit as u64,
            u64::from(sequence.paused),
            sequence.wanted.min(self.context) as u64,
            sequence.tokens.len() as u64,
            sequence.computed as u64,
            sequence.labels.len() as u64,
            sequence.rows.start as u64,
            sequence.rows.values.len() as u64,
        ] {
            out.number(number)?;
        }
        out.bytes(&numbers_to_bytes(sequence.tokens.iter().map(|token| token.to_le_bytes())))?;
        for label in &sequence.labels {
            for number in [label.span.start as u64, label.span.end as u64, label.value] {
                out.number(number)?;
            }
        }
        for &block in sequence.blocks.iter().take(sequence.computed.div_ceil(BLOCK)) {
            out.bytes(self.pages.blocks().block(block))?;
        }
        out.bytes(&numbers_to_bytes(sequence.rows.values.iter().map(|x| x.to_le_bytes())))?;
        let check = out.check.finalize();
        let stream = out.stream;
        stream
            .write_all(&check.to_le_bytes())
            .and_then(|()| stream.flush())
            .map_err(|source| Error::Stream { operation: OUT, source })?;
        self.remove(id)
    }

    /// Reads a sequence that [`Engine::page_out`] wrote, for the same model and kind of cache. Its
    /// blocks are not shared with others: nothing proves that they are what its tokens give.
    ///
    /// # Errors
    /// [`Error::Stream`] if the stream fails or ends early, [`Error::Request`] for an image of another
    /// model or cache, a damaged one, one beyond this engine's context, or one that was made with an
    /// adapter which neither the engine nor one of its sequences has, nor [`Engine::introduce`] knows; [`Error::CacheFull`].
    pub fn page_in(&mut self, stream: &mut dyn Read) -> Result<SequenceId, Error> {
        let mut input = Reader { stream, check: crc32fast::Hasher::new() };
        let mut magic = [0; 8];
        input.bytes(&mut magic)?;
        if magic != MAGIC {
            return Err(Error::request(IN, "an image of a sequence", format!("{magic:02x?}")));
        }
        let names = ["model", "cache type", "block bytes", "vocabulary"];
        for (name, expected) in names.iter().zip(self.layout_numbers()) {
            input.same(name, expected)?;
        }
        let (mut sequence, values) = self.read_sequence(&mut input)?;
        let result = self.read_rest(&mut input, &mut sequence, values);
        if let Err(error) = result {
            sequence.blocks.into_iter().rev().for_each(|block| self.pages.release(block));
            return Err(error);
        }
        Ok(self.insert(sequence))
    }

    /// What an image must have been written with.
    fn layout_numbers(&self) -> [u64; 4] {
        let layout = self.pages.blocks().layout();
        let kind = match layout.kind() {
            llmos_tensor::CacheType::F32 => 0,
            llmos_tensor::CacheType::F16 => 1,
            llmos_tensor::CacheType::Q8 => 2,
        };
        [
            u64::from(self.model.fingerprint()),
            kind,
            layout.block_bytes() as u64,
            self.config().vocab_size as u64,
        ]
    }

    /// All but blocks and logits, and how many logits there are.
    fn read_sequence(&self, input: &mut Reader<'_>) -> Result<(Sequence, usize), Error> {
        let vocab_size = self.config().vocab_size;
        let owner = input.number()?;
        let salt = input.number()?;
        let adapter = input.number()?;
        let priority = input.number()? as i64 as i32;
        let limit = input.count("a length", self.context)?;
        let paused = input.count("a flag", 1)? == 1;
        let wanted = input.count("rows", self.context)?.max(1);
        let count = input.count("tokens", limit)?;
        let computed = input.count("computed tokens", count)?;
        let labels = input.count("labels", MAX_LABELS)?;
        let start = input.count("a first row", count)?;
        let values = input.count("logits", (count - start) * vocab_size)?;
        if values % vocab_size != 0 || start + values / vocab_size > computed || count == 0 {
            return Err(Error::request(IN, "logits of computed tokens", values));
        }
        let mut bytes = vec![0; 4 * count];
        input.bytes(&mut bytes)?;
        let tokens: Vec<u32> =
            bytes.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
        self.check_tokens(IN, &tokens, 0, limit)?;
        let mut notes = Vec::new();
        for _ in 0..labels {
            let first = input.count("a label", count)?;
            let end = input.count("a label", count)?;
            let value = input.number()?;
            if first >= end {
                return Err(Error::request(IN, "a label's span", format!("{first}..{end}")));
            }
            notes.push(Label { span: first..end, value });
        }
        let root = Root { salt, adapter, long: is_long(self.config(), limit) };
        let known =
            self.sequences.values().filter_map(|sequence| sequence.options.adapter.as_ref());
        let mut known = self.adapter.iter().chain(&self.known).chain(known);
        let adapter = match adapter {
            0 => None,
            _ => Some(known.find(|known| known.fingerprint() == adapter).cloned().ok_or_else(
                || Error::request(IN, "a known adapter", format!("adapter {adapter:016x}")),
            )?),
        };
        let length = Some(limit);
        let sequence = Sequence {
            options: SequenceOptions {
                owner,
                priority,
                salt,
                is_private: false,
                length,
                adapter,
                cancel: None,
            },
            tokens,
            computed,
            adopted: 0,
            blocks: Vec::new(),
            nodes: Vec::new(),
            labels: notes,
            wanted,
            rows: Rows { values: Vec::new(), start },
            states: None,
            paused,
            shares: false,
            root,
            limit,
        };
        Ok((sequence, values))
    }

    /// Blocks, logits and the check value.
    fn read_rest(
        &mut self,
        input: &mut Reader<'_>,
        sequence: &mut Sequence,
        values: usize,
    ) -> Result<(), Error> {
        for _ in 0..sequence.computed.div_ceil(BLOCK) {
            let block = self.pages.take()?;
            sequence.blocks.push(block);
            input.bytes(self.pages.blocks_mut().block_mut(block))?;
        }
        // Memory grows with what the stream really holds.
        let mut left = values;
        while left > 0 {
            let mut bytes = vec![0; 4 * left.min(1 << 14)];
            input.bytes(&mut bytes)?;
            left -= bytes.len() / 4;
            let values = bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b));
            sequence.rows.values.extend(values);
        }
        let expected = input.check.clone().finalize();
        let mut check = [0; 4];
        input
            .stream
            .read_exact(&mut check)
            .map_err(|source| Error::Stream { operation: IN, source })?;
        let got = u32::from_le_bytes(check);
        if got != expected {
            let expected = format!("check value {expected:08x}");
            return Err(Error::request(IN, expected, format!("{got:08x}: the image is damaged")));
        }
        Ok(())
    }
}

/// More notes than a real sequence has; a bound on what a hostile image can ask for.
const MAX_LABELS: usize = 1 << 20;

fn numbers_to_bytes<const N: usize>(numbers: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    numbers.flatten().collect()
}
