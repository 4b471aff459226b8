//! A model that exists already, as the beginning of a run: its shape, and its weights as one row.

use llmos_model::config::{Activation, Layer, Mlp, Pairing, QkNorm};
use llmos_model::{Config, ModelFiles};

use super::parameters::{Layout, Tensor};
use crate::Error;
use crate::recipe::ModelShape;

impl ModelShape {
    /// The shape of a model that runs, where it is one that can be trained.
    ///
    /// # Errors
    /// What the model has that training does not.
    pub fn of(config: &Config) -> Result<ModelShape, String> {
        let layer = config.layers.first().ok_or("it has no layers")?;
        let rope = match (layer.rope, &config.ropes[..]) {
            (Some(0), [rope]) => rope,
            _ => return Err("layers with different rotary encodings, or without".into()),
        };
        let d_ff = match layer.mlp {
            Mlp::Dense { d_ff, activation: Activation::Silu } => d_ff,
            Mlp::Dense { .. } => return Err("an activation other than SiLU".into()),
            Mlp::Experts { .. } => return Err("a mixture of experts".into()),
        };
        let pairs = layer.head_dim / 2;
        // The second pair's angle is 1 / base^(1 / pairs); a base is a round number.
        let second = rope.inverse_frequencies.get(1).copied().unwrap_or(1.0);
        let base = f64::from(second).powf(-(pairs as f64));
        let round = base.round();
        let shape = ModelShape {
            n_layer: config.layers.len(),
            n_head: layer.n_head,
            n_kv_head: layer.n_kv_head,
            head_dim: layer.head_dim,
            d_model: config.d_model,
            d_ff,
            vocab_size: config.vocab_size,
            tied_head: config.tied_head,
            qk_norm: layer.qk_norm == QkNorm::PerHead,
            rope_base: if (base / round - 1.0).abs() < 1e-3 { round } else { base },
            // The shortest decimal number that is this one in single precision.
            norm_eps: config.norm_eps.to_string().parse().unwrap_or(f64::from(config.norm_eps)),
        };
        let ours = shape.config(config.context_length);
        let plain: &Layer = ours.layers.first().ok_or("it has no layers")?;
        for (what, differs) in [
            ("attention with a window", layer.window.is_some()),
            ("capped scores or logits", layer.attention_softcap.or(config.logit_softcap).is_some()),
            ("biases", layer.qkv_bias || layer.output_bias || layer.mlp_bias),
            ("norms behind a block's branches", layer.post_norm || !layer.pre_norm),
            ("norms over all heads", layer.qk_norm == QkNorm::Full),
            ("a scaled embedding", config.embedding_scale != 1.0),
            ("a part of each head rotated", rope.n_rot != layer.head_dim),
            (
                "another scale of attention",
                (layer.attention_scale / plain.attention_scale - 1.0).abs() > 1e-5,
            ),
            ("layers of different kinds", config.layers.iter().any(|other| other != layer)),
        ] {
            if differs {
                return Err(what.into());
            }
        }
        let angles = ours.ropes[0].inverse_frequencies.iter().zip(&rope.inverse_frequencies);
        let is_scaled = rope.long.is_some()
            || rope.magnitude != 1.0
            || angles.into_iter().any(|(a, b)| (a / b - 1.0).abs() > 1e-4);
        if is_scaled {
            return Err("a scaled rotary encoding".into());
        }
        Ok(shape)
    }
}

/// Reads the weights of a model of this layout: (parameters).
///
/// # Errors
/// A tensor is missing, has another shape, or cannot be decoded.
pub(crate) fn read_weights(
    files: &ModelFiles,
    shape: &ModelShape,
    layout: &Layout,
) -> Result<Vec<f32>, Error> {
    let format = |what: &str, expected: String, got: String| Error::Format {
        path: files.path().to_path_buf(),
        what: what.to_string(),
        expected,
        got,
    };
    let config = files
        .config()
        .map_err(|error| format("model", "one that runs".into(), error.to_string()))?;
    let adjacent = config.ropes.first().is_some_and(|rope| rope.pairing == Pairing::Adjacent);
    let mut weights = vec![0.0; layout.len()];
    for tensor in layout.tensors() {
        let name = gguf_name(tensor);
        let found = files
            .tensor(&name)
            .and_then(|found| found.map(|found| found.to_f32()).transpose())
            .map_err(|error| format(&name, "values".into(), error.to_string()))?;
        let values = found.ok_or_else(|| format(&name, "this tensor".into(), "none".into()))?;
        let expected = tensor.rows * tensor.cols;
        if values.len() != expected {
            return Err(format(&name, format!("{expected} values"), values.len().to_string()));
        }
        let to = &mut weights[tensor.range()];
        let is_rotated = name.ends_with("attn_q.weight") || name.ends_with("attn_k.weight");
        if adjacent && is_rotated {
            for (row, from) in values.chunks_exact(tensor.cols).enumerate() {
                let row = halves(row, shape.head_dim);
                to[row * tensor.cols..][..tensor.cols].copy_from_slice(from);
            }
        } else {
            to.copy_from_slice(&values);
        }
        files.release(&name);
    }
    Ok(weights)
}

/// The place of a row whose pairs lie side by side, where pairs lie half a head apart.
fn halves(row: usize, head_dim: usize) -> usize {
    let (head, i) = (row / head_dim, row % head_dim);
    head * head_dim + i / 2 + i % 2 * (head_dim / 2)
}

/// A tensor's name in [`ModelFiles`], which are those of GGUF.
fn gguf_name(tensor: &Tensor) -> String {
    let name = tensor.name.trim_end_matches(".weight");
    let mapped = match name {
        "model.embed_tokens" => "token_embd".to_string(),
        "model.norm" => "output_norm".to_string(),
        "lm_head" => "output".to_string(),
        _ => {
            let rest = name.trim_start_matches("model.layers.");
            let (layer, part) = rest.split_once('.').unwrap_or((rest, ""));
            let part = match part {
                "input_layernorm" => "attn_norm",
                "self_attn.q_proj" => "attn_q",
                "self_attn.k_proj" => "attn_k",
                "self_attn.v_proj" => "attn_v",
                "self_attn.q_norm" => "attn_q_norm",
                "self_attn.k_norm" => "attn_k_norm",
                "self_attn.o_proj" => "attn_output",
                "post_attention_layernorm" => "ffn_norm",
                "mlp.gate_proj" => "ffn_gate",
                "mlp.up_proj" => "ffn_up",
                _ => "ffn_down",
            };
            format!("blk.{layer}.{part}")
        }
    };
    format!("{mapped}.weight")
}
