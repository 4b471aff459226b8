//! Rotary tables of all lengths that a decoder is trained on.

use llmos_model::Config;
use llmos_tensor::ops::Pairing;
use llmos_tensor::ops::train::RopeTable;

/// A table for each rotary encoding of a decoder. Pairs lie half a head apart, whatever its files have.
pub(super) struct Positions {
    tables: Vec<Tables>,
    /// The batch has a document beyond the context that angles were first made for.
    is_long: bool,
}

struct Tables {
    short: RopeTable,
    /// The original context, and the table for documents beyond it (Phi-3 longrope).
    long: Option<(usize, RopeTable)>,
}

impl Positions {
    /// Tables of `time` positions.
    pub(super) fn new(config: &Config, time: usize) -> Positions {
        let tables = config.ropes.iter().map(|rope| {
            let table =
                |angles: &[f32]| RopeTable::new(angles, rope.magnitude, time, Pairing::Halves);
            Tables {
                short: table(&rope.inverse_frequencies),
                long: rope
                    .long
                    .as_ref()
                    .filter(|long| time > long.original_context)
                    .map(|long| (long.original_context, table(&long.inverse_frequencies))),
            }
        });
        Positions { tables: tables.collect(), is_long: false }
    }

    /// Chooses tables for a batch of rows of `time` tokens, by its longest document.
    pub(super) fn choose(&mut self, starts: Option<&[u32]>, time: usize) {
        let original = self.tables.iter().find_map(|tables| Some(tables.long.as_ref()?.0));
        let Some(original) = original else { return };
        let longest = starts.map_or(time, |starts| {
            let lengths = starts.iter().enumerate();
            lengths.map(|(i, &start)| i % time + 1 - start as usize).max().unwrap_or(0)
        });
        self.is_long = longest > original;
    }

    /// The table of encoding `rope`.
    pub(super) fn table(&self, rope: usize) -> &RopeTable {
        let Tables { short, long } = &self.tables[rope];
        match long {
            Some((_, long)) if self.is_long => long,
            _ => short,
        }
    }
}
