//! The shape of a decoder that is trained: Qwen3's, or Llama's where queries and keys have no norm.

use llmos_model::Config;
use llmos_model::config::{Layer, Pairing, QkNorm, Rope};
use serde::{Deserialize, Serialize};

/// The numbers that make a decoder of the Qwen3 family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Blocks.
    pub n_layer: usize,
    /// Query heads (H).
    pub n_head: usize,
    /// Key and value heads; each serves `n_head / n_kv_head` query heads.
    pub n_kv_head: usize,
    /// Size of a head (D).
    pub head_dim: usize,
    /// Width of the residual stream (C).
    pub d_model: usize,
    /// Inner width of the MLP.
    pub d_ff: usize,
    /// Rows of the embedding (V).
    pub vocab_size: usize,
    /// The head is the embedding.
    pub tied_head: bool,
    /// Queries and keys are normed, each head by itself (Qwen3); without it this is a Llama.
    pub qk_norm: bool,
    /// Base of the rotary encoding.
    pub rope_base: f64,
    /// Added to the mean square in every norm.
    pub norm_eps: f64,
}

impl ModelShape {
    /// The family whose files have this shape.
    pub fn architecture(&self) -> &'static str {
        if self.qk_norm { "qwen3" } else { "llama" }
    }

    /// The description that the decoder runs by, with contexts up to `context` tokens.
    pub fn config(&self, context: usize) -> Config {
        let head_dim = self.head_dim;
        let angle = |pair: usize| {
            // As transformers has it: the exponent in single precision.
            let exponent = (2 * pair) as f32 / head_dim as f32;
            1.0 / (self.rope_base as f32).powf(exponent)
        };
        let layer = Layer {
            qk_norm: if self.qk_norm { QkNorm::PerHead } else { QkNorm::None },
            ..Layer::llama(self.n_head, self.n_kv_head, head_dim, self.d_ff)
        };
        Config {
            architecture: self.architecture().to_string(),
            name: None,
            vocab_size: self.vocab_size,
            d_model: self.d_model,
            context_length: context,
            norm_eps: self.norm_eps as f32,
            embedding_scale: 1.0,
            logit_softcap: None,
            tied_head: self.tied_head,
            ropes: vec![Rope {
                n_rot: head_dim,
                pairing: Pairing::Halves,
                inverse_frequencies: (0..head_dim / 2).map(angle).collect(),
                long: None,
                magnitude: 1.0,
            }],
            layers: vec![layer; self.n_layer],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use llmos_model::ModelFiles;

    use super::*;

    /// The golden models that transformers wrote have, read from their files, the config that their
    /// shape gives.
    #[test]
    fn the_config_is_that_of_a_file_of_this_shape() {
        let shape = ModelShape {
            n_layer: 2,
            n_head: 4,
            n_kv_head: 2,
            head_dim: 16,
            d_model: 32,
            d_ff: 64,
            vocab_size: 320,
            tied_head: true,
            qk_norm: true,
            rope_base: 1e6,
            norm_eps: 1e-3,
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/architectures");
        let files = ModelFiles::open(&folder.join("qwen3")).unwrap();
        let mut expected = files.config().unwrap().clone();
        expected.name = None;
        let got = shape.config(128);
        for (a, b) in
            got.ropes[0].inverse_frequencies.iter().zip(&expected.ropes[0].inverse_frequencies)
        {
            assert!((a / b - 1.0).abs() < 1e-6, "{a} {b}");
        }
        let angles = std::mem::take(&mut expected.ropes[0].inverse_frequencies);
        let got = Config {
            ropes: vec![Rope { inverse_frequencies: Vec::new(), ..got.ropes[0].clone() }],
            ..got
        };
        assert_eq!(angles.len(), 8);
        assert_eq!(got, expected);
    }
}
