//! What a decoder that is trained is made from: the description that the running one has, and the
//! numbers in it that are the same for all blocks.

use llmos_model::config::{Activation, Layer, Mlp, QkNorm};
use llmos_model::{Config, Dialect};
use llmos_tensor::ops;

use crate::recipe::ModelShape;

/// A decoder that can be trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    config: Config,
    sizes: Sizes,
}

/// What is the same for all blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sizes {
    pub(super) n_layer: usize,
    pub(super) n_head: usize,
    pub(super) n_kv_head: usize,
    pub(super) head_dim: usize,
    pub(super) d_model: usize,
    pub(super) d_ff: usize,
    pub(super) vocab_size: usize,
    pub(super) activation: ops::Activation,
    pub(super) qk_norm: QkNorm,
    pub(super) pre_norm: bool,
    pub(super) post_norm: bool,
    /// Norms are parameters less one, as Gemma's files have them.
    pub(super) norm_offsets: bool,
    pub(super) norm_eps: f32,
    pub(super) embedding_scale: f32,
    pub(super) logit_softcap: Option<f32>,
}

impl Sizes {
    /// H D
    pub(super) fn q_width(&self) -> usize {
        self.n_head * self.head_dim
    }

    /// H_kv D
    pub(super) fn kv_width(&self) -> usize {
        self.n_kv_head * self.head_dim
    }

    /// (H + H_kv) D
    pub(super) fn qk_width(&self) -> usize {
        self.q_width() + self.kv_width()
    }

    /// (H + 2 H_kv) D
    pub(super) fn qkv_width(&self) -> usize {
        self.qk_width() + self.kv_width()
    }

    /// How queries and keys are normed: rows of a token, and their size.
    pub(super) fn qk_rows(&self) -> Option<[(usize, usize); 2]> {
        match self.qk_norm {
            QkNorm::None => None,
            QkNorm::PerHead => {
                Some([(self.n_head, self.head_dim), (self.n_kv_head, self.head_dim)])
            }
            QkNorm::Full => Some([(1, self.q_width()), (1, self.kv_width())]),
        }
    }

    /// The longest row that is normed.
    pub(super) fn widest_norm(&self) -> usize {
        let of_heads = self.qk_rows().map_or(self.head_dim, |rows| rows[0].1.max(rows[1].1));
        self.d_model.max(of_heads)
    }
}

impl Blueprint {
    /// The blueprint of a decoder that runs.
    ///
    /// # Errors
    /// What it has that training does not.
    pub fn of(config: &Config) -> Result<Blueprint, String> {
        let first = config.layers.first().ok_or("it has no layers")?;
        let (d_ff, activation) = match first.mlp {
            Mlp::Dense { d_ff, activation } => (d_ff, activation),
            Mlp::Experts { .. } => return Err("a mixture of experts".into()),
        };
        let is_mixed = |layer: &Layer| matches!(layer.mlp, Mlp::Experts { .. });
        if config.layers.iter().any(is_mixed) {
            return Err("a mixture of experts".into());
        }
        // What may differ from block to block: the window, the cap, the scale and the positions.
        let same = |layer: &Layer| {
            let Layer { window, attention_softcap, attention_scale, rope, .. } = *first;
            Layer { window, attention_softcap, attention_scale, rope, ..layer.clone() } == *first
        };
        if !config.layers.iter().all(same) {
            return Err("blocks of different sizes".into());
        }
        let sizes = Sizes {
            n_layer: config.layers.len(),
            n_head: first.n_head,
            n_kv_head: first.n_kv_head,
            head_dim: first.head_dim,
            d_model: config.d_model,
            d_ff,
            vocab_size: config.vocab_size,
            activation: match activation {
                Activation::Silu => ops::Activation::Silu,
                Activation::Gelu => ops::Activation::Gelu,
                Activation::GeluTanh => ops::Activation::GeluTanh,
                Activation::Relu2 => ops::Activation::Relu2,
            },
            qk_norm: first.qk_norm,
            pre_norm: first.pre_norm,
            post_norm: first.post_norm,
            norm_offsets: Dialect::of(config).norms_are_offsets(),
            norm_eps: config.norm_eps,
            embedding_scale: config.embedding_scale,
            logit_softcap: config.logit_softcap,
        };
        Ok(Blueprint { config: config.clone(), sizes })
    }

    /// The description.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// How its tensors are called in Hugging Face's files.
    pub(super) fn dialect(&self) -> Dialect {
        Dialect::of(&self.config)
    }

    /// Some block, for what is the same in all.
    pub(super) fn block(&self) -> &Layer {
        &self.config.layers[0]
    }

    /// Its numbers as a recipe has them. What a recipe cannot say is left out.
    pub fn shape(&self) -> ModelShape {
        let Sizes { n_layer, n_head, n_kv_head, head_dim, d_model, d_ff, vocab_size, .. } =
            self.sizes;
        let angles = self.config.ropes.first().map_or(&[][..], |rope| &rope.inverse_frequencies);
        // The second pair's angle is that of the first over base^(1 / pairs); a base is a round
        // number, and within what a recipe may have.
        let ratio = match angles {
            [first, second, ..] => f64::from(second / first),
            _ => 1.0,
        };
        let base = ratio.powf(-(angles.len() as f64)).clamp(1.0, 1e12);
        let round = base.round();
        let eps = self.config.norm_eps;
        ModelShape {
            n_layer,
            n_head,
            n_kv_head,
            head_dim,
            d_model,
            d_ff,
            vocab_size,
            tied_head: self.config.tied_head,
            qk_norm: self.sizes.qk_norm != QkNorm::None,
            rope_base: if (base / round - 1.0).abs() < 1e-3 { round } else { base },
            // The shortest decimal number that is this one in single precision.
            norm_eps: eps.to_string().parse().unwrap_or(f64::from(eps)),
        }
    }
}

impl ModelShape {
    /// The decoder of this shape, for contexts up to `context` tokens.
    pub fn blueprint(&self, context: usize) -> Blueprint {
        let Ok(blueprint) = Blueprint::of(&self.config(context)) else {
            unreachable!("a shape is that of a dense decoder");
        };
        blueprint
    }
}
