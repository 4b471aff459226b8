//! Adapters beside packed weights, not merged: each sequence may have its own.
//!
//! A row's low-rank addition is made by the kernels that make everything else, row by row, so that
//! neither the rows beside it nor their adapters change a bit of it.

use std::ops::Range;
use std::path::Path;

use llmos_tensor::{DType, Device, Matrix, matmul, ops};

use super::rows::add_rows;
use super::workspace::sized;
use super::{Chunk, Model};
use crate::config::{Mlp, Pairing};
use crate::file::{PeftAdapter, PeftPart};
use crate::{Dialect, Error};

/// A product of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Q,
    K,
    V,
    Output,
    Gate,
    Up,
    Down,
}

/// A low-rank adapter, packed for the device, of one model.
pub struct Adapter {
    /// One of each [`Slot`].
    layers: Vec<[Option<Low>; 7]>,
    model: u32,
    fingerprint: u64,
}

/// What is added to a product: `scale * x A^T B^T`.
struct Low {
    /// (rank, in)
    a: Matrix,
    /// (out, rank), the scale in it.
    b: Matrix,
    /// (out): what rows are multiplied with in the end, of DoRA.
    gains: Option<Vec<f32>>,
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Adapter {:016x} of model {:08x}", self.fingerprint, self.model)
    }
}

/// Memory of the additions, reused by every batch.
#[derive(Default)]
pub(super) struct Rooms {
    /// (rows, rank)
    low: Vec<f32>,
    /// (rows, out)
    out: Vec<f32>,
    /// Both (rows, F)
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
}

/// Rows of a batch that have an adapter.
pub(super) struct Adapted<'a> {
    pub(super) rows: Range<usize>,
    pub(super) adapter: &'a Adapter,
}

/// The rows that have adapters, `count` of each chunk.
pub(super) fn adapted<'a>(
    chunks: &[Chunk<'a>],
    count: impl Fn(&Chunk<'a>) -> usize,
) -> Vec<Adapted<'a>> {
    let mut end = 0;
    let rows = chunks.iter().filter_map(|chunk| {
        let start = end;
        end += count(chunk);
        let adapter = chunk.adapter.filter(|_| start < end)?;
        Some(Adapted { rows: start..end, adapter })
    });
    rows.collect()
}

impl Adapted<'_> {
    /// Whether one of these products is adapted in layer `layer`.
    pub(super) fn has(&self, layer: usize, slots: &[Slot]) -> bool {
        slots.iter().any(|&slot| self.adapter.layers[layer][slot as usize].is_some())
    }

    /// Adds to `y` (n, out) what the adapter makes of `x` (n, in), both these rows alone.
    pub(super) fn add(
        &self,
        device: &Device,
        (layer, slot): (usize, Slot),
        x: &[f32],
        y: &mut [f32],
        rooms: &mut Rooms,
    ) {
        let Some(low) = &self.adapter.layers[layer][slot as usize] else { return };
        let (n, n_out) = (self.rows.len(), low.b.rows());
        let inner = sized(&mut rooms.low, n * low.a.rows());
        matmul(device, x, n, &mut [(&low.a, &mut *inner)]);
        let out = sized(&mut rooms.out, n * n_out);
        matmul(device, inner, n, &mut [(&low.b, &mut *out)]);
        add_rows(device, y, out, n_out);
        if let Some(gains) = &low.gains {
            for row in y.chunks_exact_mut(n_out) {
                row.iter_mut().zip(gains).for_each(|(y, gain)| *y *= gain);
            }
        }
    }
}

/// Adds to `y` (T, out) what each adapter makes of its rows of `x` (T, in).
pub(super) fn adapt(
    device: &Device,
    at: (usize, Slot),
    adapted: &[Adapted<'_>],
    x: &[f32],
    n_in: usize,
    y: &mut [f32],
    rooms: &mut Rooms,
) {
    for of in adapted {
        let n_out = match &of.adapter.layers[at.0][at.1 as usize] {
            Some(low) => low.b.rows(),
            None => continue,
        };
        let x = &x[of.rows.start * n_in..of.rows.end * n_in];
        let y = &mut y[of.rows.start * n_out..of.rows.end * n_out];
        of.add(device, at, x, y, rooms);
    }
}

impl Adapter {
    /// Packs the adapter in a PEFT folder for `model`; what it adds is multiplied with `strength`, 1
    /// for what was learnt.
    ///
    /// # Errors
    /// As [`PeftAdapter::open`] and [`PeftAdapter::check_base`]; [`Error::Format`] where a matrix has
    /// another shape than the model's: it is another model's adapter. [`Error::Unsupported`] for
    /// magnitudes beside a model without files.
    pub fn open(
        folder: &Path,
        model: &Model,
        device: &Device,
        strength: f32,
    ) -> Result<Adapter, Error> {
        let config = model.config();
        let read = PeftAdapter::open(folder, Dialect::of(config))?;
        if let Some(files) = model.files() {
            read.check_base(files)?;
        }
        let scale = read.settings.scale() as f32 * strength;
        let mut packing = Packing {
            read: &read,
            model,
            device,
            scale,
            layers: (0..config.layers.len()).map(|_| Default::default()).collect(),
            fingerprint: crc32fast::Hasher::new(),
        };
        packing.fingerprint.update(&scale.to_le_bytes());
        for (name, part) in &read.parts {
            packing.part(name, part)?;
        }
        let Packing { layers, fingerprint, .. } = packing;
        // Never 0, which means none.
        let fingerprint = 1 << 32 | u64::from(fingerprint.finalize());
        Ok(Adapter { layers, model: model.fingerprint(), fingerprint })
    }

    /// The fingerprint of the model that it belongs to.
    pub fn model(&self) -> u32 {
        self.model
    }

    /// A number that other adapters almost surely do not have, never 0.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

struct Packing<'a> {
    read: &'a PeftAdapter,
    model: &'a Model,
    device: &'a Device,
    scale: f32,
    layers: Vec<[Option<Low>; 7]>,
    fingerprint: crc32fast::Hasher,
}

impl Packing<'_> {
    /// Packs what belongs to the matrix `name`.
    fn part(&mut self, name: &str, part: &PeftPart) -> Result<(), Error> {
        let config = self.model.config();
        let found = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let found = found.and_then(|(index, rest)| Some((index.parse::<usize>().ok()?, rest)));
        let Some((index, rest)) = found.filter(|(index, _)| *index < config.layers.len()) else {
            let expected = format!("a matrix of one of {} layers", config.layers.len());
            return Err(self.wrong(name, expected, "another".into()));
        };
        let layer = &config.layers[index];
        let Mlp::Dense { d_ff, .. } = layer.mlp else {
            let expected = "matrices of attention alone beside experts".to_string();
            return Err(self.wrong(name, expected, "one of an MLP".into()));
        };
        let (c, q) = (config.d_model, layer.n_head * layer.head_dim);
        let kv = layer.n_kv_head * layer.head_dim;
        let (slots, n_in): (&[(Slot, usize)], usize) = match rest.trim_end_matches(".weight") {
            "attn_q" => (&[(Slot::Q, q)], c),
            "attn_k" => (&[(Slot::K, kv)], c),
            "attn_v" => (&[(Slot::V, kv)], c),
            "attn_qkv" => (&[(Slot::Q, q), (Slot::K, kv), (Slot::V, kv)], c),
            "attn_output" => (&[(Slot::Output, c)], q),
            "ffn_gate" => (&[(Slot::Gate, d_ff)], c),
            "ffn_up" if Dialect::of(config).is_fused() => {
                (&[(Slot::Gate, d_ff), (Slot::Up, d_ff)], c)
            }
            "ffn_up" => (&[(Slot::Up, d_ff)], c),
            "ffn_down" => (&[(Slot::Down, c)], d_ff),
            _ => return Err(self.wrong(name, "a matrix of a layer".into(), "another".into())),
        };
        let rank = self.read.settings.rank;
        let rows: usize = slots.iter().map(|(_, rows)| rows).sum();
        let got = [part.b.len() / rank, part.a.len() / rank];
        if got != [rows, n_in] {
            let expected = format!("one beside a matrix {:?} of this model", [rows, n_in]);
            return Err(self.wrong(name, expected, format!("beside {got:?}")));
        }
        self.fingerprint.update(name.as_bytes());
        for values in [&part.a, &part.b].into_iter().chain(&part.magnitude) {
            self.fingerprint.update(&to_bytes(values));
        }
        let mut first = 0;
        for &(slot, rows) in slots {
            let adjacent = matches!(slot, Slot::Q | Slot::K)
                && config.ropes.first().is_some_and(|rope| rope.pairing == Pairing::Adjacent);
            // The adapter's row that belongs to a row of the model's.
            let from = |row: usize| {
                let (head, i) = (row / layer.head_dim, row % layer.head_dim);
                match adjacent {
                    true => first + head * layer.head_dim + i % 2 * (layer.head_dim / 2) + i / 2,
                    false => first + row,
                }
            };
            let b: Vec<f32> = (0..rows)
                .flat_map(|row| &part.b[from(row) * rank..][..rank])
                .map(|b| b * self.scale)
                .collect();
            let gains = part.magnitude.as_ref().map(|magnitude| {
                let magnitude: Vec<f32> = (0..rows).map(|row| magnitude[from(row)]).collect();
                self.gains(name, first, &part.a, &b, &magnitude)
            });
            let pack = |rows: usize, cols: usize, values: &[f32]| {
                Matrix::pack(self.device, DType::F32, rows, cols, &to_bytes(values))
            };
            let low = Low {
                a: pack(rank, n_in, &part.a)?,
                b: pack(rows, rank, &b)?,
                gains: gains.transpose()?,
            };
            self.layers[index][slot as usize] = Some(low);
            first += rows;
        }
        Ok(())
    }

    /// (rows): magnitudes over the lengths of the rows of `W + B A`, where W are rows of the matrix
    /// `name` from `first` on.
    fn gains(
        &self,
        name: &str,
        first: usize,
        a: &[f32],
        b: &[f32],
        magnitude: &[f32],
    ) -> Result<Vec<f32>, Error> {
        let (rank, n_in) = (self.read.settings.rank, a.len() / self.read.settings.rank);
        let files = self.model.files().ok_or_else(|| {
            let what = "an adapter with magnitudes beside a model without files";
            Error::unsupported(&self.read.path, what, "a model from files")
        })?;
        let mut row = vec![0.0f32; n_in];
        let isa = self.device.isa();
        let gains = magnitude.iter().zip(b.chunks_exact(rank)).enumerate();
        gains
            .map(|(i, (magnitude, b))| {
                let at = first + i;
                if let Some(stored) = files.rows(name, at..at + 1)? {
                    llmos_tensor::quant::dequantize(stored.dtype, &stored.bytes, &mut row)?;
                }
                for (b, a) in b.iter().zip(a.chunks_exact(n_in)) {
                    ops::add_scaled_forward(isa, &mut row, a, *b);
                }
                let square: f64 = row.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
                Ok((f64::from(*magnitude) / square.max(f64::MIN_POSITIVE).sqrt()) as f32)
            })
            .collect()
    }

    fn wrong(&self, name: &str, expected: String, got: String) -> Error {
        Error::format(&self.read.path, name, expected, got)
    }
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
