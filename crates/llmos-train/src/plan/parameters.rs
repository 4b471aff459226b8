//! How many parameters a shape has, by part.

use serde::Serialize;

use crate::recipe::{ModelShape, OptimizerName};

/// Parameters by part. The numbers are those that transformers counts for the same configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parameters {
    /// The table of token vectors: V * C.
    pub embedding: u64,
    /// The head, where it is not the embedding: V * C.
    pub head: u64,
    /// Query, key, value and output projections of all blocks.
    pub attention: u64,
    /// Gates, and projections up and down, of all blocks.
    pub mlp: u64,
    /// Weights of norms, those of queries and keys included.
    pub norms: u64,
}

impl Parameters {
    /// The parameters of a shape. Counts saturate; no recipe reaches that far.
    pub fn of(model: &ModelShape) -> Parameters {
        let [n_layer, n_head, n_kv_head, head_dim, d_model, d_ff, vocab_size] = [
            model.n_layer,
            model.n_head,
            model.n_kv_head,
            model.head_dim,
            model.d_model,
            model.d_ff,
            model.vocab_size,
        ]
        .map(|count| count as u64);
        let table = vocab_size.saturating_mul(d_model);
        let heads = 2 * (n_head + n_kv_head) * head_dim;
        let qk_norms = if model.qk_norm { 2 * head_dim } else { 0 };
        let blocks = |each: u64| n_layer.saturating_mul(each);
        Parameters {
            embedding: table,
            head: if model.tied_head { 0 } else { table },
            attention: blocks(heads * d_model),
            mlp: blocks(3 * d_model * d_ff),
            norms: blocks(2 * d_model + qk_norms) + d_model,
        }
    }

    /// All of them (N).
    pub fn total(&self) -> u64 {
        [self.embedding, self.head, self.attention, self.mlp, self.norms]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Without the tables of the vocabulary.
    pub fn non_embedding(&self) -> u64 {
        self.attention.saturating_add(self.mlp).saturating_add(self.norms)
    }

    /// Matrices inside the blocks: what Muon works on.
    pub fn matrices(&self) -> u64 {
        self.attention.saturating_add(self.mlp)
    }

    /// f32 numbers that an optimizer keeps: two a parameter with AdamW, one a parameter where Muon
    /// is in charge.
    pub fn optimizer_numbers(&self, optimizer: OptimizerName) -> u64 {
        match optimizer {
            OptimizerName::Adamw => self.total().saturating_mul(2),
            OptimizerName::Muon => {
                let rest = self.total() - self.matrices();
                self.matrices().saturating_add(rest.saturating_mul(2))
            }
        }
    }
}
