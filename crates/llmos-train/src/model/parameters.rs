//! All parameters as one row of numbers, and where each tensor lies in it.
//!
//! Gradients and the optimizer's means have the same layout. Matrices that read the same input lie
//! one after another (queries, keys, values; gate, up) and are multiplied as one.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::recipe::ModelShape;

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
    /// LoRA's A: (rank, in).
    AdapterIn,
    /// LoRA's B: (out, rank).
    AdapterOut,
}

/// A tensor's name and place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// As Hugging Face files name it.
    pub name: String,
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

/// The head of a reward model.
pub(crate) const SCORE: &str = "score.weight";

/// One block's places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayerAt {
    /// (C)
    pub(super) attention_norm: Range<usize>,
    /// ((H + 2 H_kv) D, C)
    pub(super) qkv: Range<usize>,
    /// Both (D)
    pub(super) qk_norm: Option<[Range<usize>; 2]>,
    /// (C, H D)
    pub(super) output: Range<usize>,
    /// (C)
    pub(super) mlp_norm: Range<usize>,
    /// (2 F, C)
    pub(super) gate_up: Range<usize>,
    /// (C, F)
    pub(super) down: Range<usize>,
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

impl Layout {
    /// The layout of a shape with a head of one row, as transformers' sequence classifiers have it.
    pub(super) fn scalar(shape: &ModelShape) -> Layout {
        let mut layout = Layout::new(&ModelShape { tied_head: true, ..shape.clone() });
        let (start, c) = (layout.len, shape.d_model);
        let name = SCORE.to_string();
        layout.tensors.push(Tensor { name, kind: Kind::Head, rows: 1, cols: c, start });
        layout.len += c;
        layout.head = start..layout.len;
        layout
    }

    /// The layout of a shape.
    pub fn new(shape: &ModelShape) -> Layout {
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut len = 0;
        let mut add = |name: String, kind: Kind, rows: usize, cols: usize| {
            tensors.push(Tensor { name, kind, rows, cols, start: len });
            let start = len;
            len += rows * cols;
            start..len
        };
        let (c, d, f, v) = (shape.d_model, shape.head_dim, shape.d_ff, shape.vocab_size);
        let (q, kv) = (shape.n_head * d, shape.n_kv_head * d);
        let embedding = add("model.embed_tokens.weight".into(), Kind::Embedding, v, c);
        let layers = (0..shape.n_layer)
            .map(|l| {
                let mut add = |name: &str, kind: Kind, rows: usize, cols: usize| {
                    add(format!("model.layers.{l}.{name}.weight"), kind, rows, cols)
                };
                let attention_norm = add("input_layernorm", Kind::Norm, 1, c);
                let start = add("self_attn.q_proj", Kind::Matrix, q, c).start;
                add("self_attn.k_proj", Kind::Matrix, kv, c);
                let end = add("self_attn.v_proj", Kind::Matrix, kv, c).end;
                let qk_norm = shape.qk_norm.then(|| {
                    [("self_attn.q_norm"), ("self_attn.k_norm")]
                        .map(|name| add(name, Kind::Norm, 1, d))
                });
                let output = add("self_attn.o_proj", Kind::Output, c, q);
                let mlp_norm = add("post_attention_layernorm", Kind::Norm, 1, c);
                let gate = add("mlp.gate_proj", Kind::Matrix, f, c).start;
                let up = add("mlp.up_proj", Kind::Matrix, f, c).end;
                let down = add("mlp.down_proj", Kind::Output, c, f);
                LayerAt {
                    attention_norm,
                    qkv: start..end,
                    qk_norm,
                    output,
                    mlp_norm,
                    gate_up: gate..up,
                    down,
                }
            })
            .collect();
        let norm = add("model.norm.weight".into(), Kind::Norm, 1, c);
        let head = if shape.tied_head {
            embedding.clone()
        } else {
            add("lm_head.weight".into(), Kind::Head, v, c)
        };
        Layout { tensors, layers, embedding, norm, head, len }
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

    /// Starting values: norms one, matrices normal with the variance that keeps an activation's
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
                Kind::Output | Kind::AdapterOut => 0.0,
                Kind::Norm => {
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
