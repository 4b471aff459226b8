//! Every tensor that a config asks for is there, in its shape, and none is left over.

use std::collections::HashSet;

use super::Architecture;
use crate::config::{Layer, Mlp, QkNorm};
use crate::file::{ModelFiles, SCORE_HEAD};
use crate::{Config, Error};

/// Tensors that files carry and the config already holds (or never needs).
const PASSED_OVER: [&str; 4] = [
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
    "attn_rot_embd.weight",
];

/// Checks names and shapes.
///
/// # Errors
/// [`Error::MissingTensor`], [`Error::Format`] for a shape that differs, [`Error::Unsupported`] for
/// a tensor that the decoder would not use: a weight passed over would give other words silently.
pub(super) fn tensors(
    files: &ModelFiles,
    config: &Config,
    architecture: Architecture,
) -> Result<(), Error> {
    let mut needed = Needed { files, seen: HashSet::new() };
    let (v, c) = (config.vocab_size, config.d_model);
    needed.tensor("token_embd.weight", &[v, c])?;
    needed.tensor("output_norm.weight", &[c])?;
    // A reward model has this head besides, or instead.
    if files.info(SCORE_HEAD).is_some() {
        needed.tensor(SCORE_HEAD, &[1, c])?;
    }
    if !config.tied_head {
        needed.tensor("output.weight", &[v, c])?;
    }
    for (i, layer) in config.layers.iter().enumerate() {
        layer_tensors(&mut needed, i, layer, c, architecture)?;
    }
    for tensor in files.tensors() {
        let part = tensor.name.rsplit_once("blk.").map_or(tensor.name.as_str(), |(_, part)| {
            part.split_once('.').map_or(part, |(_, part)| part)
        });
        if !needed.seen.contains(&tensor.name) && !PASSED_OVER.contains(&part) {
            let what = format!("tensor {:?} in {}", tensor.name, architecture.name());
            let supported = "the tensors that the architecture's published models have";
            return Err(Error::unsupported(files.path(), what, supported));
        }
    }
    Ok(())
}

struct Needed<'a> {
    files: &'a ModelFiles,
    seen: HashSet<String>,
}

impl Needed<'_> {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<(), Error> {
        let Some(info) = self.files.info(name) else {
            let path = self.files.path().to_owned();
            return Err(Error::MissingTensor { path, name: name.to_owned() });
        };
        if info.shape != shape {
            let (expected, got) = (format!("{shape:?}"), format!("{:?}", info.shape));
            return Err(Error::format(self.files.path(), name, expected, got));
        }
        self.seen.insert(name.to_owned());
        Ok(())
    }
}

fn layer_tensors(
    needed: &mut Needed<'_>,
    i: usize,
    layer: &Layer,
    c: usize,
    architecture: Architecture,
) -> Result<(), Error> {
    let mut part = |part: &str, shape: &[usize]| needed.tensor(&format!("blk.{i}.{part}"), shape);
    // Head counts are below 2^31 and head sizes below 2^17, so these products fit 64 bits.
    let q = layer.n_head * layer.head_dim;
    let kv = layer.n_kv_head * layer.head_dim;
    if layer.pre_norm {
        part("attn_norm.weight", &[c])?;
        part("ffn_norm.weight", &[c])?;
    }
    if layer.post_norm {
        part("post_attention_norm.weight", &[c])?;
        part("post_ffw_norm.weight", &[c])?;
    }
    if architecture.fused() {
        part("attn_qkv.weight", &[q + 2 * kv, c])?;
        if layer.qkv_bias {
            part("attn_qkv.bias", &[q + 2 * kv])?;
        }
    } else {
        for (name, rows) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
            part(&format!("{name}.weight"), &[rows, c])?;
            if layer.qkv_bias {
                part(&format!("{name}.bias"), &[rows])?;
            }
        }
    }
    part("attn_output.weight", &[c, q])?;
    if layer.output_bias {
        part("attn_output.bias", &[c])?;
    }
    match layer.qk_norm {
        QkNorm::None => {}
        QkNorm::PerHead => {
            part("attn_q_norm.weight", &[layer.head_dim])?;
            part("attn_k_norm.weight", &[layer.head_dim])?;
        }
        QkNorm::Full => {
            part("attn_q_norm.weight", &[q])?;
            part("attn_k_norm.weight", &[kv])?;
        }
    }
    match layer.mlp {
        Mlp::Dense { d_ff, .. } if architecture.fused() => {
            part("ffn_up.weight", &[d_ff.saturating_mul(2), c])?;
            part("ffn_down.weight", &[c, d_ff])?;
        }
        Mlp::Dense { d_ff, .. } => {
            part("ffn_gate.weight", &[d_ff, c])?;
            part("ffn_up.weight", &[d_ff, c])?;
            part("ffn_down.weight", &[c, d_ff])?;
            if layer.mlp_bias {
                part("ffn_gate.bias", &[d_ff])?;
                part("ffn_up.bias", &[d_ff])?;
                part("ffn_down.bias", &[c])?;
            }
        }
        Mlp::Experts { d_ff, n_expert, .. } => {
            part("ffn_gate_inp.weight", &[n_expert, c])?;
            part("ffn_gate_exps.weight", &[n_expert, d_ff, c])?;
            part("ffn_up_exps.weight", &[n_expert, d_ff, c])?;
            part("ffn_down_exps.weight", &[n_expert, c, d_ff])?;
        }
    }
    Ok(())
}
