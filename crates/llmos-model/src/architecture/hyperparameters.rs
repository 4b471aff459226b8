//! The numbers that make a model of an architecture, before they are folded into a [`Config`].
//!
//! They are kept beside the config because a converter has to write them: from folded angles the
//! base and the scaling could not be told.

use std::path::Path;

use super::Architecture;
use super::rope::Scaling;
use crate::config::{Activation, Layer, LongRope, Mlp, Pairing, QkNorm, Rope};
use crate::file::Llama2cHeader;
use crate::{Config, Error};

/// What a file says about its model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hyperparameters {
    pub(crate) architecture: Architecture,
    pub(crate) name: Option<String>,
    pub(crate) vocab_size: usize,
    pub(crate) d_model: usize,
    pub(crate) n_layer: usize,
    pub(crate) n_head: usize,
    pub(crate) n_kv_head: usize,
    pub(crate) head_dim: usize,
    /// Inner width of dense MLPs.
    pub(crate) d_ff: usize,
    pub(crate) context_length: usize,
    pub(crate) norm_eps: f32,
    pub(crate) activation: Activation,
    pub(crate) pairing: Pairing,
    pub(crate) n_rot: usize,
    pub(crate) rope_theta: f64,
    pub(crate) scaling: Scaling,
    /// Base of the windowed layers' rotation, unscaled, where it differs (Gemma 3).
    pub(crate) local_theta: Option<f64>,
    pub(crate) window: Option<usize>,
    /// (n_layer): the window holds in this layer.
    pub(crate) windowed: Vec<bool>,
    /// (n_layer): this layer rotates queries and keys.
    pub(crate) rotated: Vec<bool>,
    pub(crate) attention_scale: f32,
    pub(crate) attention_softcap: Option<f32>,
    pub(crate) logit_softcap: Option<f32>,
    pub(crate) tied_head: bool,
    pub(crate) qkv_bias: bool,
    pub(crate) output_bias: bool,
    pub(crate) mlp_bias: bool,
    pub(crate) experts: Option<Experts>,
    /// (n_layer): this layer has experts.
    pub(crate) expert_layers: Vec<bool>,
}

/// What a mixture of experts adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Experts {
    pub(crate) n_expert: usize,
    pub(crate) n_expert_used: usize,
    /// Inner width of one expert.
    pub(crate) d_ff: usize,
    pub(crate) norm_topk: bool,
}

/// The largest head that is believed; the largest known has 512.
const MAX_HEAD_DIM: usize = 1 << 16;

impl Hyperparameters {
    /// llama2.c's models are Llamas with a base of 10,000 (its `run.c`).
    pub(crate) fn of_llama2c(header: &Llama2cHeader) -> Hyperparameters {
        let head_dim = header.d_model / header.n_head;
        Hyperparameters {
            architecture: Architecture::Llama,
            name: None,
            vocab_size: header.vocab_size,
            d_model: header.d_model,
            n_layer: header.n_layer,
            n_head: header.n_head,
            n_kv_head: header.n_kv_head,
            head_dim,
            d_ff: header.d_ff,
            context_length: header.context_length,
            norm_eps: 1e-5,
            activation: Activation::Silu,
            pairing: Pairing::Adjacent,
            n_rot: head_dim,
            rope_theta: 10_000.0,
            scaling: Scaling::None,
            local_theta: None,
            window: None,
            windowed: vec![false; header.n_layer],
            rotated: vec![true; header.n_layer],
            attention_scale: (head_dim as f32).powf(-0.5),
            attention_softcap: None,
            logit_softcap: None,
            tied_head: header.tied_head,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            experts: None,
            expert_layers: vec![false; header.n_layer],
        }
    }

    /// Refuses numbers that no model can have, so that what follows may divide and allocate.
    pub(crate) fn check(&self, path: &Path) -> Result<(), Error> {
        let fail = |field: &str, expected: &str, got: String| -> Result<(), Error> {
            Err(Error::format(path, field, expected, got))
        };
        let counts = [
            ("vocabulary size", self.vocab_size),
            ("model width", self.d_model),
            ("layers", self.n_layer),
            ("heads", self.n_head),
            ("key-value heads", self.n_kv_head),
            ("head size", self.head_dim),
            ("context length", self.context_length),
        ];
        for (field, count) in counts {
            if count == 0 || count > i32::MAX as usize {
                return fail(field, "1 to 2147483647", count.to_string());
            }
        }
        if self.head_dim > MAX_HEAD_DIM {
            return fail("head size", "at most 65536", self.head_dim.to_string());
        }
        if !self.n_head.is_multiple_of(self.n_kv_head) {
            let got = format!("{} of {}", self.n_kv_head, self.n_head);
            return fail("key-value heads", "a divisor of the heads", got);
        }
        if self.n_rot == 0 || self.n_rot > self.head_dim || !self.n_rot.is_multiple_of(2) {
            let got = format!("{} of {}", self.n_rot, self.head_dim);
            return fail("rotated dimensions", "an even part of the head", got);
        }
        let positive = [
            ("norm epsilon", Some(f64::from(self.norm_eps))),
            ("rope base", Some(self.rope_theta)),
            ("local rope base", self.local_theta),
            ("attention scale", Some(f64::from(self.attention_scale))),
            ("attention soft cap", self.attention_softcap.map(f64::from)),
            ("logit soft cap", self.logit_softcap.map(f64::from)),
        ];
        for (field, number) in positive {
            if number.is_some_and(|number| !number.is_finite() || number <= 0.0) {
                return fail(field, "a positive number", format!("{number:?}"));
            }
        }
        if self.window == Some(0) {
            return fail("sliding window", "at least 1", "0".to_owned());
        }
        if let Some(experts) = self.experts
            && (experts.n_expert_used == 0 || experts.n_expert_used > experts.n_expert)
        {
            let got = format!("{} of {}", experts.n_expert_used, experts.n_expert);
            return fail("experts used", "1 to all experts", got);
        }
        self.scaling.check(self.n_rot, path)
    }

    /// The decoder. The numbers have passed [`Hyperparameters::check`].
    pub(crate) fn config(&self) -> Config {
        let architecture = self.architecture;
        let mut ropes = vec![self.rope(self.rope_theta, &self.scaling)];
        if let Some(theta) = self.local_theta {
            ropes.push(self.rope(theta, &Scaling::None));
        }
        let layers = (0..self.n_layer).map(|layer| {
            let windowed = self.windowed[layer];
            let local = usize::from(windowed && self.local_theta.is_some());
            let mlp = match self.experts {
                Some(experts) if self.expert_layers[layer] => Mlp::Experts {
                    d_ff: experts.d_ff,
                    activation: self.activation,
                    n_expert: experts.n_expert,
                    n_expert_used: experts.n_expert_used,
                    norm_topk: experts.norm_topk,
                },
                _ => Mlp::Dense { d_ff: self.d_ff, activation: self.activation },
            };
            Layer {
                n_head: self.n_head,
                n_kv_head: self.n_kv_head,
                head_dim: self.head_dim,
                attention_scale: self.attention_scale,
                attention_softcap: self.attention_softcap,
                window: self.window.filter(|_| windowed),
                rope: self.rotated[layer].then_some(local),
                qk_norm: match architecture {
                    Architecture::Qwen3 | Architecture::Qwen3Moe | Architecture::Gemma3 => {
                        QkNorm::PerHead
                    }
                    Architecture::Olmo2 => QkNorm::Full,
                    _ => QkNorm::None,
                },
                qkv_bias: self.qkv_bias,
                output_bias: self.output_bias,
                mlp_bias: self.mlp_bias,
                pre_norm: architecture.pre_norm(),
                post_norm: architecture.post_norm(),
                mlp,
            }
        });
        let scaled = matches!(architecture, Architecture::Gemma2 | Architecture::Gemma3);
        Config {
            architecture: architecture.name().to_owned(),
            name: self.name.clone(),
            vocab_size: self.vocab_size,
            d_model: self.d_model,
            context_length: self.context_length,
            norm_eps: self.norm_eps,
            embedding_scale: if scaled { (self.d_model as f32).sqrt() } else { 1.0 },
            logit_softcap: self.logit_softcap,
            tied_head: self.tied_head,
            layers: layers.collect(),
            ropes,
        }
    }

    fn rope(&self, theta: f64, scaling: &Scaling) -> Rope {
        let (inverse_frequencies, long, magnitude) = scaling.fold(theta, self.n_rot);
        Rope {
            n_rot: self.n_rot,
            pairing: self.pairing,
            inverse_frequencies,
            long: long.map(|(original_context, inverse_frequencies)| LongRope {
                original_context,
                inverse_frequencies,
            }),
            magnitude,
        }
    }
}
