//! The lens: what a model would say after each of its layers, what its heads look at, and what becomes
//! of its answer without some of them.

use std::ops::Range;
use std::sync::Mutex;

use super::{Engine, SequenceOptions};
use crate::Error;
use crate::decoder::{Ablation, Both, Hook, Part, Place, Rows};
use crate::sampler::most_likely;

/// What is looked at.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Parts that are switched off.
    pub off: Vec<Part>,
    /// Of the last so many tokens the states are kept.
    pub states: usize,
    /// Layers of which the attention is kept.
    pub attention: Vec<usize>,
}

/// What was seen of a text of T tokens.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Layers of the model, L.
    n_layer: usize,
    /// Tokens of which there are states, N.
    n_state: usize,
    /// (L, N, C): the residual stream after each layer.
    states: Vec<f32>,
    /// Of each layer that was asked for (H, T (T + 1) / 2), row after row within a head.
    attention: Vec<(usize, Vec<f32>)>,
    /// (V): the logits after the last token.
    logits: Vec<f32>,
}

/// A token with its probability.
pub type Likely = (u32, f64);

impl Sight {
    /// Rows of states: those of the first layer, then those of the second, and so on.
    pub fn rows(&self) -> usize {
        self.n_layer * self.n_state
    }

    /// The residual stream (N, C) after a layer, of the tokens whose states were asked for.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn states(&self, layer: usize) -> &[f32] {
        let width = self.states.len() / self.n_layer;
        &self.states[layer * width..][..width]
    }

    /// What a head looked at from each token: T rows, that of token t of t + 1 weights. None of a layer
    /// that was not asked for, or without such a head.
    pub fn attention(&self, layer: usize, head: usize, n_token: usize) -> Option<Vec<&[f32]>> {
        let (_, weights) = self.attention.iter().find(|(of, _)| *of == layer)?;
        let row = |t: usize| weights.get(at(n_token, head, t)..)?.get(..t + 1);
        (0..n_token).map(row).collect()
    }

    /// The logits (V) after the last token.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }
}

/// Where the weights of a head from token `t` on begin: before them stand those of the heads and the
/// tokens before.
fn at(n_token: usize, head: usize, t: usize) -> usize {
    head * (n_token * (n_token + 1) / 2) + t * (t + 1) / 2
}

impl Engine {
    /// Looks at `tokens` as they go through the model. [`Engine::beside`] makes an engine for it where
    /// others are at work in this one. Takes memory for L * N * C states and for the weights.
    ///
    /// # Errors
    /// As [`Engine::observe`], and [`Error::Request`] for parts, layers or tokens that are not there.
    pub fn look(
        &mut self,
        tokens: &[u32],
        options: SequenceOptions,
        view: &View,
    ) -> Result<Sight, Error> {
        let config = self.config();
        let (n_layer, n_token, c) = (config.layers.len(), tokens.len(), config.d_model);
        if view.states > n_token {
            let expected = format!("states of at most {n_token} tokens");
            return Err(Error::request("look", expected, view.states));
        }
        let mut ablation = Ablation::new(config, &view.off)?;
        let mut attention = Vec::with_capacity(view.attention.len());
        for &layer in &view.attention {
            let Some(shape) = config.layers.get(layer) else {
                let expected = format!("a layer of 0 to {}", n_layer - 1);
                return Err(Error::request("look", expected, layer));
            };
            attention.push((layer, vec![0.0; at(n_token, shape.n_head, 0)]));
        }
        let mut recorder = Recorder {
            n_token,
            from: n_token - view.states,
            rows: 0..0,
            sight: Sight {
                n_layer,
                n_state: view.states,
                states: vec![0.0; n_layer * view.states * c],
                attention,
                logits: Vec::new(),
            },
        };
        let logits = self.observe(tokens, options, &mut Both(&mut ablation, &mut recorder))?;
        Ok(Sight { logits, ..recorder.sight })
    }

    /// The `top` likeliest next tokens by each of the rows `rows` of what was seen: what the model
    /// would say if its layers ended there. However many rows, only some rows of logits exist at a
    /// time.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn read_out(&mut self, sight: &Sight, rows: Range<usize>, top: usize) -> Vec<Vec<Likely>> {
        let (c, vocab_size) = (self.config().d_model, self.config().vocab_size);
        let states = &sight.states[rows.start * c..rows.end * c];
        let mut found = Vec::with_capacity(rows.len());
        let threads = self.device.threads();
        self.model.read_out(&self.device, &mut self.workspace, states, &mut |_, block| {
            let block = &*block;
            let parts: Vec<Mutex<Vec<Likely>>> =
                block.chunks_exact(vocab_size).map(|_| Mutex::default()).collect();
            threads.for_each(parts.len(), &|row| {
                let logits = &block[row * vocab_size..][..vocab_size];
                if let Ok(mut part) = parts[row].lock() {
                    *part = most_likely(logits, top);
                }
            });
            found.extend(parts.into_iter().map(|part| part.into_inner().unwrap_or_default()));
        });
        found
    }
}

/// Keeps what it is shown of one sequence.
struct Recorder {
    n_token: usize,
    /// The first token whose states are kept.
    from: usize,
    /// Tokens of the batch.
    rows: Range<usize>,
    sight: Sight,
}

impl Hook for Recorder {
    fn begin(&mut self, rows: &[Rows]) {
        self.rows = rows.first().map_or(0..0, |row| row.position..row.position + row.count);
    }

    fn visit(&mut self, place: Place, values: &mut [f32], width: usize) {
        let Place::Residual(layer) = place else { return };
        // Of the batch those from `from` on.
        let first = self.from.max(self.rows.start);
        let Some(count) = self.rows.end.checked_sub(first) else { return };
        let values = &values[(first - self.rows.start) * width..][..count * width];
        let at = layer * self.sight.n_state + first - self.from;
        self.sight.states[at * width..][..values.len()].copy_from_slice(values);
    }

    fn wants_attention(&self, layer: usize) -> bool {
        self.sight.attention.iter().any(|(of, _)| *of == layer)
    }

    fn attention(&mut self, layer: usize, head: usize, row: usize, weights: &[f32]) {
        let t = self.rows.start + row;
        let kept = self.sight.attention.iter_mut().filter(|(of, _)| *of == layer);
        for (_, kept) in kept {
            kept[at(self.n_token, head, t)..][..weights.len()].copy_from_slice(weights);
        }
    }
}
