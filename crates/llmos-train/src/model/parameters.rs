//! All parameters as one row of numbers, and where each tensor lies in it.
//!
//! Gradients and the optimizer's means have the same layout. Matrices that read the same input lie
//! one after another (queries, keys, values; gate, up) and are multiplied as one.

use std::ops::Range;

use llmos_model::{Dialect, SCORE_HEAD};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::blueprint::Blueprint;

/// What a tensor is, for optimizers and for starting values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// (V, C), also the head where that is tied.
    Embedding,
    /// (V, C), where it is not.
    Head,
    /// (out, in), inside a block.
    Matrix,
    /// The same, where a block's branch returns to the residual stream.
    Output,
    /// (1, n)
    Norm,
    /// (1, out)
    Bias,
    /// LoRA's A: (rank, in).
    AdapterIn,
    /// LoRA's B: (out, rank).
    AdapterOut,
    /// DoRA's magnitudes: (1, out).
    Magnitude,
}

impl Kind {
    /// Of one dimension.
    pub fn is_vector(self) -> bool {
        matches!(self, Kind::Norm | Kind::Bias | Kind::Magnitude)
    }
}

/// A tensor's name and place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// As Hugging Face files name it.
    pub name: String,
    /// As GGUF's files name it; nothing for a part of an adapter.
    pub stored: String,
    /// What it is.
    pub kind: Kind,
    /// Rows, 1 for a vector.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// The first number.
    pub start: usize,
}

impl Tensor {
    /// Its numbers.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.rows * self.cols
    }
}

/// The head of a reward model, as transformers names it.
pub(crate) const SCORE: &str = "score.weight";

/// One block's places. Matrices that read the same input lie one after another, and so do their
/// biases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayerAt {
    /// (C)
    pub(super) attention_norm: Option<Range<usize>>,
    /// ((H + 2 H_kv) D, C)
    pub(super) qkv: Range<usize>,
    /// ((H + 2 H_kv) D)
    pub(super) qkv_bias: Option<Range<usize>>,
    /// Both (D), or as wide as all heads.
    pub(super) qk_norm: Option<[Range<usize>; 2]>,
    /// (C, H D)
    pub(super) output: Range<usize>,
    /// (C)
    pub(super) output_bias: Option<Range<usize>>,
    /// (C): on the branch's way out.
    pub(super) attention_post_norm: Option<Range<usize>>,
    /// (C)
    pub(super) mlp_norm: Option<Range<usize>>,
    /// (2 F, C)
    pub(super) gate_up: Range<usize>,
    /// (2 F)
    pub(super) gate_up_bias: Option<Range<usize>>,
    /// (C, F)
    pub(super) down: Range<usize>,
    /// (C)
    pub(super) down_bias: Option<Range<usize>>,
    /// (C): on the branch's way out.
    pub(super) mlp_post_norm: Option<Range<usize>>,
}

/// Where everything lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<Tensor>,
    pub(super) layers: Vec<LayerAt>,
    /// (V, C)
    pub(super) embedding: Range<usize>,
    /// (C)
    pub(super) norm: Range<usize>,
    /// (V, C), the embedding where tied
    pub(super) head: Range<usize>,
    len: usize,
}

/// Tensors as they are laid one after another.
struct Laying {
    dialect: Dialect,
    tensors: Vec<Tensor>,
    len: usize,
}

impl Laying {
    /// Lays a tensor of GGUF's name.
    fn add(&mut self, stored: String, kind: Kind, rows: usize, cols: usize) -> Range<usize> {
        let name = self.dialect.name(&stored).unwrap_or_else(|| stored.clone());
        let start = self.len;
        self.tensors.push(Tensor { name, stored, kind, rows, cols, start });
        self.len += rows * cols;
        start..self.len
    }

    /// Lays tensors of a block side by side: (GGUF's name, rows).
    fn side_by_side(
        &mut self,
        layer: usize,
        parts: &[(&str, usize)],
        kind: Kind,
        cols: usize,
    ) -> Range<usize> {
        let start = self.len;
        for (part, rows) in parts {
            match kind {
                Kind::Bias => self.add(format!("blk.{layer}.{part}.bias"), kind, 1, *rows),
                _ => self.add(format!("blk.{layer}.{part}.weight"), kind, *rows, cols),
            };
        }
        start..self.len
    }

    /// Lays a block's norm.
    fn norm(&mut self, layer: usize, part: &str, size: usize) -> Range<usize> {
        self.add(format!("blk.{layer}.{part}.weight"), Kind::Norm, 1, size)
    }
}

impl Layout {
    /// The layout of a decoder.
    pub fn new(blueprint: &Blueprint) -> Layout {
        let (s, block, dialect) = (blueprint.sizes(), blueprint.block(), blueprint.dialect());
        let (c, f, v) = (s.d_model, s.d_ff, s.vocab_size);
        let (q, kv) = (s.q_width(), s.kv_width());
        let qkv: &[(&str, usize)] = match dialect.is_fused() {
            true => &[("attn_qkv", q + 2 * kv)],
            false => &[("attn_q", q), ("attn_k", kv), ("attn_v", kv)],
        };
        let gate_up: &[(&str, usize)] = match dialect.is_fused() {
            true => &[("ffn_up", 2 * f)],
            false => &[("ffn_gate", f), ("ffn_up", f)],
        };
        let mut lay = Laying { dialect, tensors: Vec::new(), len: 0 };
        let embedding = lay.add("token_embd.weight".into(), Kind::Embedding, v, c);
        let layers = (0..s.n_layer)
            .map(|l| LayerAt {
                attention_norm: s.pre_norm.then(|| lay.norm(l, "attn_norm", c)),
                qkv: lay.side_by_side(l, qkv, Kind::Matrix, c),
                qkv_bias: block.qkv_bias.then(|| lay.side_by_side(l, qkv, Kind::Bias, c)),
                qk_norm: s.qk_rows().map(|[q, k]| {
                    [lay.norm(l, "attn_q_norm", q.1), lay.norm(l, "attn_k_norm", k.1)]
                }),
                output: lay.side_by_side(l, &[("attn_output", c)], Kind::Output, q),
                output_bias: block
                    .output_bias
                    .then(|| lay.side_by_side(l, &[("attn_output", c)], Kind::Bias, c)),
                attention_post_norm: s.post_norm.then(|| lay.norm(l, "post_attention_norm", c)),
                mlp_norm: s.pre_norm.then(|| lay.norm(l, "ffn_norm", c)),
                gate_up: lay.side_by_side(l, gate_up, Kind::Matrix, c),
                gate_up_bias: block.mlp_bias.then(|| lay.side_by_side(l, gate_up, Kind::Bias, c)),
                down: lay.side_by_side(l, &[("ffn_down", c)], Kind::Output, f),
                down_bias: block
                    .mlp_bias
                    .then(|| lay.side_by_side(l, &[("ffn_down", c)], Kind::Bias, c)),
                mlp_post_norm: s.post_norm.then(|| lay.norm(l, "post_ffw_norm", c)),
            })
            .collect();
        let norm = lay.add("output_norm.weight".into(), Kind::Norm, 1, c);
        let head = match blueprint.config().tied_head {
            true => embedding.clone(),
            false => lay.add("output.weight".into(), Kind::Head, v, c),
        };
        let Laying { tensors, len, .. } = lay;
        Layout { tensors, layers, embedding, norm, head, len }
    }

    /// The layout of a decoder with a head of one row in place of its own, as transformers' sequence
    /// classifiers have it.
    pub(super) fn scalar(blueprint: &Blueprint) -> Layout {
        let Layout { mut tensors, layers, embedding, norm, mut len, .. } = Layout::new(blueprint);
        if let Some(own) = tensors.pop_if(|last| last.kind == Kind::Head) {
            len = own.start;
        }
        let (start, cols) = (len, blueprint.sizes().d_model);
        let (name, stored) = (SCORE.to_string(), SCORE_HEAD.to_string());
        tensors.push(Tensor { name, stored, kind: Kind::Head, rows: 1, cols, start });
        len += cols;
        Layout { tensors, layers, embedding, norm, head: start..len, len }
    }

    /// The tensors within a range.
    pub(super) fn within(&self, range: &Range<usize>) -> &[Tensor] {
        let first = self.tensors.partition_point(|tensor| tensor.start < range.start);
        let last = self.tensors.partition_point(|tensor| tensor.start < range.end);
        &self.tensors[first..last]
    }

    /// Tensors that are no whole model, `len` numbers in all.
    pub(super) fn of(tensors: Vec<Tensor>, len: usize) -> Layout {
        let nothing = 0..0;
        let (embedding, norm, head) = (nothing.clone(), nothing.clone(), nothing);
        Layout { tensors, layers: Vec::new(), embedding, norm, head, len }
    }

    /// All tensors, in the order in which they lie.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Numbers in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a shape of nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Starting values: norms one, biases zero, matrices normal with the variance that keeps an activation's
    /// size, and zeros where a branch returns to the residual stream, so that at first each block
    /// passes on what it is given (as Muon's speed runs have it). The embedding is small because it
    /// is the head as well.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut values = vec![0.0; self.len];
        let mut random = Normal { random: ChaCha8Rng::seed_from_u64(seed), second: None };
        for tensor in &self.tensors {
            let deviation = match tensor.kind {
                Kind::Embedding | Kind::Head => 0.02,
                Kind::Matrix => (1.0 / tensor.cols as f64).sqrt(),
                // PEFT draws evenly up to 1 / sqrt(in), which has this deviation.
                Kind::AdapterIn => (1.0 / (3.0 * tensor.cols as f64)).sqrt(),
                Kind::Output | Kind::AdapterOut | Kind::Bias => 0.0,
                Kind::Norm | Kind::Magnitude => {
                    values[tensor.range()].fill(1.0);
                    continue;
                }
            };
            if deviation > 0.0 {
                values[tensor.range()]
                    .iter_mut()
                    .for_each(|value| *value = (random.next() * deviation) as f32);
            }
        }
        values
    }
}

/// Normal numbers by pairs (Box and Muller, 1958).
struct Normal {
    random: ChaCha8Rng,
    second: Option<f64>,
}

impl Normal {
    fn next(&mut self) -> f64 {
        if let Some(second) = self.second.take() {
            return second;
        }
        // Above 0 and up to 1, so that the logarithm is finite.
        let uniform = |bits: u64| ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let radius = (-2.0 * uniform(self.random.next_u64()).ln()).sqrt();
        let angle = std::f64::consts::TAU * uniform(self.random.next_u64());
        self.second = Some(radius * angle.sin());
        radius * angle.cos()
    }
}
