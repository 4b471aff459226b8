//! How the memory of a training is divided.
//!
//! While words are counted their table grows; while merges are learnt the words are cells, and
//! pairs take what is left. So the words are limited by what their cells and places will need, and
//! pairs by what is left then. Where a text is cut, and what is learnt, follows from the memory and
//! the texts alone.

use super::cells::MOST_CELLS;
use super::pairs::Room;

/// The program and its libraries, in bytes: 11 MB were measured.
const PROGRAM: usize = 16 << 20;

/// What a token of the vocabulary takes while merges are learnt, in bytes.
const TOKEN: usize = 128;

/// What a token takes while `tokenizer.json` is written and read, in bytes: 1,200 were measured,
/// on Chinese.
const TOKEN_OF_FILE: usize = 1280;

/// Bytes for each byte that words cost: four of its cell, and four of a place.
const CELL: usize = 8;

/// The memory that a training may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// In bytes.
    memory: usize,
    vocab_size: usize,
}

impl Budget {
    pub(super) fn new(memory: usize, vocab_size: usize) -> Budget {
        Budget { memory, vocab_size }
    }

    /// The least that a training with so many ids takes, in bytes.
    pub(super) fn least(vocab_size: usize) -> usize {
        (40 << 20) + vocab_size.saturating_mul(TOKEN_OF_FILE)
    }

    /// Text that is counted between two looks at the size of the table, in bytes.
    pub(super) fn round(self) -> usize {
        (self.memory / 128).clamp(512 << 10, 8 << 20)
    }

    /// What all words may cost: see [`WordTable::cost`](super::words::WordTable::cost).
    pub(super) fn words(self) -> usize {
        let fixed = PROGRAM + (48 << 20).min(self.memory / 8 * 3);
        ((self.memory - fixed) / (CELL + 1)).min(MOST_CELLS / 2)
    }

    /// What the words that threads count apart may cost.
    pub(super) fn apart(self) -> usize {
        self.memory / 64
    }

    /// Threads that count words at most: each has a table.
    pub(super) fn threads(self) -> usize {
        self.memory / (16 << 20)
    }

    /// The room for pairs beside words of so many cells. Other threads held `apart` bytes: what a
    /// thread frees may be of no use to others.
    pub(super) fn room(self, n_cell: usize, apart: usize) -> Room {
        // A sixteenth may be lost in gaps between what is held.
        let taken = PROGRAM + self.memory / 16 + TOKEN * self.vocab_size + CELL * n_cell;
        let rest = self.memory.saturating_sub(taken + 2 * apart);
        let places = (n_cell + rest / 2 / size_of::<u32>()).min(MOST_CELLS);
        Room { pairs: (rest / 2 / Room::PAIR).max(1 << 10), places }
    }
}
