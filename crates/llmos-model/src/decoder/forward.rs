//! The forward pass: rows of several sequences through all layers, then logits.
//!
//! **Invariant.** A row's result depends on its own sequence alone: not on the rows beside it, on how
//! a prompt was cut, or on the number of threads. Everything here works row by row, or calls kernels
//! that promise the same.

use std::ops::Range;
use std::sync::Mutex;

use llmos_tensor::{
    AttentionOptions, CacheShape, Device, Matrix, Span, attention, attention_weights, cache_store,
    matmul, matmul_gated, ops,
};

use super::adapter::{Adapted, Adapter, Rooms, Slot, adapt, adapted};
use super::experts::{Routing, experts_forward};
use super::hook::{Hook, Place, Rows, visit};
use super::rows::{
    PARALLEL, add_bias, add_rows, gate_rows, in_parallel, keep_wanted, norm_rows,
    norm_rows_in_place,
};
use super::weights::{LayerWeights, MlpWeights};
use super::workspace::{Workspace, sized};
use super::{BlockId, CacheBlocks, Model};
use crate::Error;
use crate::config::{Activation, Layer, Mlp, Pairing};

/// Consecutive tokens of one sequence in a batch.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// What a hook is told of whose rows these are; means nothing here.
    pub sequence: u64,
    /// The tokens.
    pub tokens: &'a [u32],
    /// Position of the first.
    pub position: usize,
    /// The sequence's cache blocks, covering all positions up to its last token here.
    pub blocks: &'a [BlockId],
    /// The rotary angles for long contexts are used.
    pub long: bool,
    /// The last tokens whose logits can be asked for afterwards.
    pub wanted: usize,
    /// What is added to the products of these rows.
    pub adapter: Option<&'a Adapter>,
}

impl Chunk<'_> {
    fn rows(&self) -> Rows {
        let Chunk { sequence, position, tokens, .. } = *self;
        Rows { sequence, position, count: tokens.len() }
    }
}

/// What goes along with a batch.
pub struct Pass<'a> {
    /// Sees and changes what flows; none costs nothing.
    pub hook: Option<&'a mut dyn Hook>,
    /// Asked before each layer.
    pub cancelled: &'a dyn Fn() -> bool,
}

/// Bytes of logits that exist at a time when rows are passed on block by block.
const LOGITS_BYTES: usize = 16 << 20;

/// Positions of a cache page.
const BLOCK: usize = CacheShape::BLOCK;

impl Model {
    /// Takes the chunks' tokens through all layers, writing keys and values to `cache`; the final
    /// states of the wanted rows stay in `workspace`, chunk after chunk, for [`Model::logits`].
    ///
    /// # Errors
    /// [`Error::Cancelled`] when `pass` says so; the cache then holds nothing new before the chunks'
    /// positions. [`Error::Request`] for a token outside the vocabulary.
    ///
    /// # Panics
    /// If a chunk's blocks do not cover its positions, or it wants more rows than it has tokens.
    pub fn forward(
        &self,
        device: &Device,
        workspace: &mut Workspace,
        cache: &mut CacheBlocks,
        chunks: &[Chunk<'_>],
        mut pass: Pass<'_>,
    ) -> Result<(), Error> {
        let config = &self.config;
        let mut rows: usize = chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        for chunk in chunks {
            let end = chunk.position + chunk.tokens.len();
            assert!(end.div_ceil(BLOCK) <= chunk.blocks.len(), "blocks cover the positions");
            assert!(chunk.wanted <= chunk.tokens.len(), "wanted rows are rows of the chunk");
        }
        self.embed_chunks(workspace, chunks)?;
        let c = config.d_model;
        if let Some(hook) = &mut pass.hook {
            hook.begin(&chunks.iter().map(Chunk::rows).collect::<Vec<Rows>>());
        }
        visit(&mut pass.hook, Place::Embedding, &mut workspace.x[..rows * c], c);
        workspace.ropes.resize_with(config.ropes.len(), Default::default);
        for (rope, tables) in config.ropes.iter().zip(&mut workspace.ropes) {
            let positions = chunks.iter().flat_map(|chunk| {
                (0..chunk.tokens.len()).map(|i| (chunk.position + i, chunk.long))
            });
            tables.fill(rope, positions);
        }
        // After the last layer's keys and values only wanted rows matter, but a hook sees all.
        let all = pass.hook.is_some();
        let last = config.layers.len() - 1;
        let mut with_adapter = adapted(chunks, |chunk| chunk.tokens.len());
        for (index, (layer, weights)) in config.layers.iter().zip(&self.layers).enumerate() {
            if (pass.cancelled)() {
                return Err(Error::Cancelled);
            }
            let only_wanted = index == last && !all;
            let branch = Attention { model: self, device, index, layer, weights };
            rows = branch.forward(workspace, cache, chunks, rows, only_wanted, &mut pass.hook);
            if rows == 0 {
                return Ok(());
            }
            if only_wanted {
                with_adapter = adapted(chunks, |chunk| chunk.wanted);
            }
            self.mlp(device, workspace, (index, layer, weights), rows, &with_adapter);
            let branch = &mut workspace.branch[..rows * c];
            visit(&mut pass.hook, Place::Mlp(index), branch, c);
            let x = &mut workspace.x[..rows * c];
            add_rows(device, x, branch, c);
            visit(&mut pass.hook, Place::Residual(index), x, c);
        }
        if all {
            keep_wanted(&mut workspace.x, c, chunks);
            rows = chunks.iter().map(|chunk| chunk.wanted).sum();
        }
        let hidden = sized(&mut workspace.hidden, rows * c);
        norm_rows(device, &workspace.x[..rows * c], &self.output_norm, config.norm_eps, hidden);
        Ok(())
    }

    /// The final states (rows, C) of the wanted rows `rows` of the last batch, normed: what the head
    /// reads.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn states<'a>(&self, workspace: &'a Workspace, rows: Range<usize>) -> &'a [f32] {
        let c = self.config.d_model;
        &workspace.hidden[rows.start * c..rows.end * c]
    }

    /// Writes the logits of the wanted rows `rows` of the last batch to `out` (rows, V).
    ///
    /// # Panics
    /// If there are no such rows, or `out` has another length.
    pub fn logits(
        &self,
        device: &Device,
        workspace: &mut Workspace,
        rows: Range<usize>,
        out: &mut [f32],
    ) {
        let c = self.config.d_model;
        let hidden = &workspace.hidden[rows.start * c..rows.end * c];
        matmul(device, hidden, rows.len(), &mut [(&self.head, &mut *out)]);
        if let Some(cap) = self.config.logit_softcap {
            let isa = device.isa();
            let vocab_size = self.config.vocab_size;
            in_parallel(device, out, vocab_size, |_, rows| {
                // Row by row: where a vector ends must not depend on the rows before it.
                rows.chunks_exact_mut(vocab_size)
                    .for_each(|row| ops::softcap_forward(isa, row, cap));
            });
        }
    }

    /// Passes the logits of the wanted rows `rows` of the last batch to `each` in blocks of some
    /// rows: the index of the first, and (some, V) logits. However many rows, the memory is bounded.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn logits_by_blocks(
        &self,
        device: &Device,
        workspace: &mut Workspace,
        rows: Range<usize>,
        each: &mut dyn FnMut(usize, &mut [f32]),
    ) {
        let vocab_size = self.config.vocab_size;
        let at_once = (LOGITS_BYTES / (4 * vocab_size)).clamp(4, 256);
        let mut logits = std::mem::take(&mut workspace.logits);
        for start in rows.clone().step_by(at_once) {
            let block = start..(start + at_once).min(rows.end);
            let out = sized(&mut logits, block.len() * vocab_size);
            self.logits(device, workspace, block, out);
            each(start, out);
        }
        workspace.logits = logits;
    }

    fn embed_chunks(&self, workspace: &mut Workspace, chunks: &[Chunk<'_>]) -> Result<(), Error> {
        let (c, vocab_size) = (self.config.d_model, self.config.vocab_size);
        let tokens = || chunks.iter().flat_map(|chunk| chunk.tokens);
        let x = sized(&mut workspace.x, tokens().count() * c);
        for (&token, row) in tokens().zip(x.chunks_exact_mut(c)) {
            if token as usize >= vocab_size {
                return Err(Error::request("forward", format!("ids below {vocab_size}"), token));
            }
            self.embed(token, row)?;
            if self.config.embedding_scale != 1.0 {
                row.iter_mut().for_each(|x| *x *= self.config.embedding_scale);
            }
        }
        Ok(())
    }

    /// From `x` to `branch`, both (rows, C).
    fn mlp(
        &self,
        device: &Device,
        workspace: &mut Workspace,
        (index, layer, weights): (usize, &Layer, &LayerWeights),
        rows: usize,
        adapted: &[Adapted<'_>],
    ) {
        let (c, eps, isa) = (self.config.d_model, self.config.norm_eps, device.isa());
        let x = &workspace.x[..rows * c];
        let input = match &weights.mlp_norm {
            Some(weight) => {
                let normed = sized(&mut workspace.normed, rows * c);
                norm_rows(device, x, weight, eps, normed);
                normed
            }
            None => x,
        };
        let branch = sized(&mut workspace.branch, rows * c);
        let rooms = &mut workspace.adapters;
        match (&weights.mlp, &layer.mlp) {
            (MlpWeights::Dense { weights, bias }, mlp) => {
                let activation = activation_of(mlp);
                let width = weights.gate.rows();
                let inner = sized(&mut workspace.inner, rows * width);
                match bias {
                    None => {
                        let (gate, up) = (&weights.gate, &weights.up);
                        matmul_gated(device, activation, input, rows, gate, up, inner);
                        for of in adapted {
                            gate_again(
                                device,
                                activation,
                                (index, gate, up),
                                of,
                                input,
                                inner,
                                rooms,
                            );
                        }
                        matmul(device, inner, rows, &mut [(&weights.down, &mut *branch)]);
                        adapt(device, (index, Slot::Down), adapted, inner, width, branch, rooms);
                    }
                    Some([gate_bias, up_bias, down_bias]) => {
                        let up = sized(&mut workspace.inner_up, rows * width);
                        let jobs = &mut [(&weights.gate, &mut *inner), (&weights.up, &mut *up)];
                        matmul(device, input, rows, jobs);
                        adapt(device, (index, Slot::Gate), adapted, input, c, inner, rooms);
                        adapt(device, (index, Slot::Up), adapted, input, c, up, rooms);
                        add_bias(isa, inner, gate_bias);
                        add_bias(isa, up, up_bias);
                        gate_rows(device, activation, inner, up, width);
                        matmul(device, inner, rows, &mut [(&weights.down, &mut *branch)]);
                        adapt(device, (index, Slot::Down), adapted, inner, width, branch, rooms);
                        add_bias(isa, branch, down_bias);
                    }
                }
            }
            (MlpWeights::Experts { router, experts }, mlp) => {
                let (n_expert_used, norm_topk) = match *mlp {
                    Mlp::Experts { n_expert_used, norm_topk, .. } => (n_expert_used, norm_topk),
                    Mlp::Dense { .. } => (1, true),
                };
                let activation = activation_of(mlp);
                let routing = Routing { n_expert_used, norm_topk, activation };
                let buffers = &mut workspace.experts;
                experts_forward(device, router, experts, &routing, input, rows, buffers, branch);
            }
        }
        if let Some(weight) = &weights.mlp_post_norm {
            norm_rows_in_place(device, branch, weight, eps);
        }
    }
}

/// The attention half of one layer.
struct Attention<'a> {
    model: &'a Model,
    device: &'a Device,
    index: usize,
    layer: &'a Layer,
    weights: &'a LayerWeights,
}

impl Attention<'_> {
    /// Adds attention to `x` (rows, C). Returns how many rows go on: with `only_wanted` those alone,
    /// moved to the front.
    fn forward(
        &self,
        workspace: &mut Workspace,
        cache: &mut CacheBlocks,
        chunks: &[Chunk<'_>],
        mut rows: usize,
        only_wanted: bool,
        hook: &mut Option<&mut dyn Hook>,
    ) -> usize {
        let config = &self.model.config;
        let (c, eps, isa) = (config.d_model, config.norm_eps, self.device.isa());
        let (layer, weights) = (self.layer, self.weights);
        let q_width = layer.n_head * layer.head_dim;
        self.project(workspace, chunks, rows);
        self.store(workspace, cache, chunks);
        if only_wanted && chunks.iter().all(|chunk| chunk.wanted == 0) {
            return 0;
        }
        self.attend(workspace, cache, chunks, only_wanted, hook);
        if only_wanted {
            keep_wanted(&mut workspace.heads, q_width, chunks);
            keep_wanted(&mut workspace.x, c, chunks);
            rows = chunks.iter().map(|chunk| chunk.wanted).sum();
        }
        let heads = &mut workspace.heads[..rows * q_width];
        visit(hook, Place::Heads(self.index), heads, q_width);
        let branch = sized(&mut workspace.branch, rows * c);
        matmul(self.device, heads, rows, &mut [(&weights.output, &mut *branch)]);
        let with_adapter = match only_wanted {
            true => adapted(chunks, |chunk| chunk.wanted),
            false => adapted(chunks, |chunk| chunk.tokens.len()),
        };
        let (at, rooms) = ((self.index, Slot::Output), &mut workspace.adapters);
        adapt(self.device, at, &with_adapter, heads, q_width, branch, rooms);
        if let Some(bias) = &weights.output_bias {
            add_bias(isa, branch, bias);
        }
        if let Some(weight) = &weights.attention_post_norm {
            norm_rows_in_place(self.device, branch, weight, eps);
        }
        visit(hook, Place::Attention(self.index), branch, c);
        add_rows(self.device, &mut workspace.x[..rows * c], branch, c);
        rows
    }

    /// Queries, keys and values, normed and rotated.
    fn project(&self, workspace: &mut Workspace, chunks: &[Chunk<'_>], rows: usize) {
        let config = &self.model.config;
        let (c, eps, isa) = (config.d_model, config.norm_eps, self.device.isa());
        let (layer, weights) = (self.layer, self.weights);
        let (q_width, kv_width) = (layer.n_head * layer.head_dim, layer.n_kv_head * layer.head_dim);
        let x = &workspace.x[..rows * c];
        let input = match &weights.attention_norm {
            Some(weight) => {
                let normed = sized(&mut workspace.normed, rows * c);
                norm_rows(self.device, x, weight, eps, normed);
                normed
            }
            None => x,
        };
        let q = sized(&mut workspace.q, rows * q_width);
        let k = sized(&mut workspace.k, rows * kv_width);
        let v = sized(&mut workspace.v, rows * kv_width);
        let jobs = &mut [(&weights.q, &mut *q), (&weights.k, &mut *k), (&weights.v, &mut *v)];
        matmul(self.device, input, rows, jobs);
        let with_adapter = adapted(chunks, |chunk| chunk.tokens.len());
        let rooms = &mut workspace.adapters;
        for (slot, y) in [(Slot::Q, &mut *q), (Slot::K, &mut *k), (Slot::V, &mut *v)] {
            adapt(self.device, (self.index, slot), &with_adapter, input, c, y, rooms);
        }
        if let Some([q_bias, k_bias, v_bias]) = &weights.qkv_bias {
            add_bias(isa, q, q_bias);
            add_bias(isa, k, k_bias);
            add_bias(isa, v, v_bias);
        }
        if let Some([q_norm, k_norm]) = &weights.qk_norm {
            norm_rows_in_place(self.device, q, q_norm, eps);
            norm_rows_in_place(self.device, k, k_norm, eps);
        }
        let Some(rope) = layer.rope else { return };
        let tables = &workspace.ropes[rope];
        let rope = &config.ropes[rope];
        let pairing = match rope.pairing {
            Pairing::Adjacent => ops::Pairing::Adjacent,
            Pairing::Halves => ops::Pairing::Halves,
        };
        let half = rope.n_rot / 2;
        for (x, n_head) in [(q, layer.n_head), (k, layer.n_kv_head)] {
            let head_dim = layer.head_dim;
            in_parallel(self.device, x, n_head * head_dim, |first, x| {
                let count = x.len() / (n_head * head_dim);
                let table = first * half..(first + count) * half;
                let (cos, sin) = (&tables.cos[table.clone()], &tables.sin[table]);
                ops::rope_forward(isa, x, cos, sin, pairing, n_head, head_dim, rope.n_rot);
            });
        }
    }

    /// Writes keys and values to the cache, on several threads where there are many.
    fn store(&self, workspace: &Workspace, cache: &mut CacheBlocks, chunks: &[Chunk<'_>]) {
        let shape = cache.layout().shapes[self.index];
        let width = shape.n_kv_head * shape.head_dim;
        let store = |page: &mut [u8], position: usize, row: usize| {
            let k = &workspace.k[row * width..][..width];
            let v = &workspace.v[row * width..][..width];
            cache_store(self.device.isa(), &shape, page, position % BLOCK, k, v);
        };
        let rows: usize = chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        // The block, first position, first row and rows of each part of a block.
        let mut parts = Vec::new();
        let mut row = 0;
        for chunk in chunks {
            let (mut position, end) = (chunk.position, chunk.position + chunk.tokens.len());
            while position < end {
                let count = (BLOCK - position % BLOCK).min(end - position);
                parts.push((chunk.blocks[position / BLOCK], position, row, count));
                position += count;
                row += count;
            }
        }
        if rows * width < PARALLEL || self.device.threads().count() == 1 {
            for (block, position, row, count) in parts {
                let page = cache.page_mut(block, self.index);
                (0..count).for_each(|i| store(page, position + i, row + i));
            }
            return;
        }
        // Writable blocks belong to one sequence each, so no block has two parts.
        parts.sort_unstable();
        let pages = cache.pages_mut(self.index, parts.iter().map(|part| part.0));
        let tasks: Vec<Mutex<&mut [u8]>> = pages.into_iter().map(Mutex::new).collect();
        assert_eq!(tasks.len(), parts.len(), "a block is written by one sequence");
        self.device.threads().for_each(parts.len(), &|index| {
            let (_, position, row, count) = parts[index];
            if let Ok(mut page) = tasks[index].lock() {
                (0..count).for_each(|i| store(&mut page, position + i, row + i));
            }
        });
    }

    /// From queries and cache to `heads`.
    fn attend(
        &self,
        workspace: &mut Workspace,
        cache: &CacheBlocks,
        chunks: &[Chunk<'_>],
        only_wanted: bool,
        hook: &mut Option<&mut dyn Hook>,
    ) {
        let layer = self.layer;
        let width = layer.n_head * layer.head_dim;
        let rows: usize = chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        let pages: Vec<Vec<&[u8]>> = chunks
            .iter()
            .map(|chunk| chunk.blocks.iter().map(|&id| cache.page(id, self.index)).collect())
            .collect();
        let mut row = 0;
        let mut spans = Vec::with_capacity(chunks.len());
        for (chunk, pages) in chunks.iter().zip(&pages) {
            let skipped = if only_wanted { chunk.tokens.len() - chunk.wanted } else { 0 };
            spans.push(Span {
                row: row + skipped,
                n_rows: chunk.tokens.len() - skipped,
                position: chunk.position + skipped,
                pages,
            });
            row += chunk.tokens.len();
        }
        let options = AttentionOptions {
            n_head: layer.n_head,
            scale: layer.attention_scale,
            softcap: layer.attention_softcap,
            window: layer.window,
        };
        let shape = cache.layout().shapes[self.index];
        let heads = sized(&mut workspace.heads, rows * width);
        let q = &workspace.q[..rows * width];
        attention(self.device, &shape, &options, &spans, q, heads);
        let Some(hook) = hook.as_mut().filter(|hook| hook.wants_attention(self.index)) else {
            return;
        };
        for span in &spans {
            attention_weights(&shape, &options, span, q, &mut |head, row, weights| {
                hook.attention(self.index, head, row, weights);
            });
        }
    }
}

/// Gate and up once more for the rows of an adapter that changes one of them: apart, so that its share
/// can be added before the activation. The rows of others stay what one product made them.
fn gate_again(
    device: &Device,
    activation: ops::Activation,
    (index, gate, up): (usize, &Matrix, &Matrix),
    of: &Adapted<'_>,
    input: &[f32],
    inner: &mut [f32],
    rooms: &mut Rooms,
) {
    if !of.has(index, &[Slot::Gate, Slot::Up]) {
        return;
    }
    let (n, c, width) = (of.rows.len(), gate.cols(), gate.rows());
    let x = &input[of.rows.start * c..of.rows.end * c];
    let [mut gates, mut ups] = [std::mem::take(&mut rooms.gate), std::mem::take(&mut rooms.up)];
    let (g, u) = (sized(&mut gates, n * width), sized(&mut ups, n * width));
    matmul(device, x, n, &mut [(gate, &mut *g), (up, &mut *u)]);
    of.add(device, (index, Slot::Gate), x, g, rooms);
    of.add(device, (index, Slot::Up), x, u, rooms);
    gate_rows(device, activation, g, u, width);
    inner[of.rows.start * width..of.rows.end * width].copy_from_slice(g);
    (rooms.gate, rooms.up) = (gates, ups);
}

fn activation_of(mlp: &Mlp) -> ops::Activation {
    let (Mlp::Dense { activation, .. } | Mlp::Experts { activation, .. }) = mlp;
    match activation {
        Activation::Silu => ops::Activation::Silu,
        Activation::GeluTanh => ops::Activation::GeluTanh,
        Activation::Gelu => ops::Activation::Gelu,
        Activation::Relu2 => ops::Activation::Relu2,
    }
}
