//! GGUF's metadata to [`Hyperparameters`].
//!
//! Source: ggml's `docs/gguf.md`, and llama.cpp's `load_hparams` for defaults.

use super::rope::{Scaling, yarn_magnitude};
use super::{Architecture, Experts, Hyperparameters};
use crate::Error;
use crate::config::Activation;
use crate::file::{Array, Metadata, ModelFiles, Value};

/// Keys of one architecture.
struct Keys<'a> {
    files: &'a ModelFiles,
    metadata: &'a Metadata,
    prefix: &'static str,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(&format!("{}.{key}", self.prefix))
    }

    fn wrong(&self, key: &str, expected: &str, got: impl ToString) -> Error {
        Error::format(self.files.path(), format!("{}.{key}", self.prefix), expected, got)
    }

    /// A count; an array counts as its value where all its entries agree.
    fn optional_count(&self, key: &str) -> Result<Option<usize>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let count = match value.as_array().map(Array::as_counts) {
            None => value.as_count(),
            Some(Some(list)) if !list.is_empty() && list.iter().all(|x| *x == list[0]) => {
                Some(list[0])
            }
            Some(_) => return Err(self.wrong(key, "one number for all layers", value)),
        };
        match count.and_then(|count| usize::try_from(count).ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(self.wrong(key, "a count", value)),
        }
    }

    fn count(&self, key: &str) -> Result<usize, Error> {
        self.optional_count(key)?.ok_or_else(|| self.wrong(key, "a count", "no such key"))
    }

    fn real(&self, key: &str) -> Result<Option<f64>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.wrong(key, "a number", value))
    }

    /// A float that is positive; zero means the same as its absence.
    fn cap(&self, key: &str) -> Result<Option<f32>, Error> {
        Ok(self.real(key)?.filter(|&x| x != 0.0).map(|x| x as f32))
    }

    /// A small float tensor, such as the divisors of frequencies; at most `limit` values.
    fn factors(&self, name: &str, limit: usize) -> Result<Option<Vec<f32>>, Error> {
        match self.files.info(name) {
            None => Ok(None),
            Some(info) if info.len() > limit => {
                let expected = format!("at most {limit} values");
                Err(Error::format(self.files.path(), name, expected, info.len()))
            }
            Some(_) => self.files.tensor(name)?.map(|tensor| tensor.to_f32()).transpose(),
        }
    }
}

pub(super) fn read(files: &ModelFiles, metadata: &Metadata) -> Result<Hyperparameters, Error> {
    let path = files.path();
    let name = metadata.get("general.architecture").and_then(Value::as_str);
    let Some(name) = name else {
        return Err(Error::format(path, "general.architecture", "a name", "no such key"));
    };
    let architecture = Architecture::of_gguf(name, path)?;
    let keys = Keys { files, metadata, prefix: architecture.name() };
    let Some(embedding) = files.info("token_embd.weight") else {
        return Err(Error::MissingTensor {
            path: path.to_owned(),
            name: "token_embd.weight".to_owned(),
        });
    };
    let vocab_size = embedding.shape[0];
    let n_layer = keys.count("block_count")?;
    // Each layer has tensors; a count beyond them must not become a list.
    if n_layer > files.tensors().len() {
        return Err(keys.wrong("block_count", "fewer layers than tensors", n_layer));
    }
    let d_model = keys.count("embedding_length")?;
    let n_head = keys.count("attention.head_count")?;
    let n_kv_head = keys.optional_count("attention.head_count_kv")?.unwrap_or(n_head);
    if n_head == 0 {
        return Err(keys.wrong("attention.head_count", "at least 1", 0));
    }
    let head_dim = keys.optional_count("attention.key_length")?.unwrap_or(d_model / n_head);
    if keys.optional_count("attention.value_length")?.is_some_and(|value| value != head_dim) {
        return Err(keys.wrong("attention.value_length", "the key length", "another"));
    }
    let n_rot = keys.optional_count("rope.dimension_count")?.unwrap_or(head_dim);
    let context_length = keys.count("context_length")?;
    let Some(norm_eps) = keys.real("attention.layer_norm_rms_epsilon")? else {
        let key = "attention.layer_norm_rms_epsilon";
        return Err(keys.wrong(key, "a number", "no such key"));
    };
    let experts = experts(&keys, architecture)?;
    let d_ff = match keys.optional_count("feed_forward_length")? {
        Some(d_ff) => d_ff,
        None if experts.is_some() => 0,
        None => return Err(keys.wrong("feed_forward_length", "a count", "no such key")),
    };
    let has = |layer: usize, part: &str| files.info(&format!("blk.{layer}.{part}")).is_some();

    let (window, windowed) = window(&keys, architecture, n_layer)?;
    let gemma = matches!(architecture, Architecture::Gemma2 | Architecture::Gemma3);
    let attention_scale = match keys.cap("attention.scale")? {
        Some(scale) => scale,
        // The 27B models, told by their layers, scale by the width a head would have without a
        // head size of its own: llama.cpp's rule, since GGUF keeps no such number.
        None if gemma && n_layer == gemma_27b_layers(architecture) => {
            ((d_model / n_head) as f32).powf(-0.5)
        }
        None => (head_dim as f32).powf(-0.5),
    };
    Ok(Hyperparameters {
        architecture,
        name: metadata.get("general.name").and_then(Value::as_str).map(str::to_owned),
        vocab_size,
        d_model,
        n_layer,
        n_head,
        n_kv_head,
        head_dim,
        d_ff,
        context_length,
        norm_eps: norm_eps as f32,
        activation: if gemma { Activation::GeluTanh } else { Activation::Silu },
        pairing: architecture.gguf_pairing(),
        n_rot,
        rope_theta: keys.real("rope.freq_base")?.unwrap_or(10_000.0),
        scaling: scaling(&keys, context_length)?,
        local_theta: match architecture {
            Architecture::Gemma3 if window.is_some() => {
                Some(keys.real("rope.freq_base_swa")?.unwrap_or(10_000.0))
            }
            _ => None,
        },
        window,
        windowed,
        rotated: (0..n_layer)
            .map(|layer| architecture != Architecture::SmolLm3 || (layer + 1) % 4 != 0)
            .collect(),
        attention_scale,
        attention_softcap: if architecture == Architecture::Gemma2 {
            keys.cap("attn_logit_softcapping")?.or(Some(50.0))
        } else {
            None
        },
        logit_softcap: match architecture {
            Architecture::Gemma2 => keys.cap("final_logit_softcapping")?.or(Some(30.0)),
            Architecture::Gemma3 => keys.cap("final_logit_softcapping")?,
            _ => None,
        },
        tied_head: files.info("output.weight").is_none(),
        qkv_bias: has(0, "attn_q.bias") || has(0, "attn_qkv.bias"),
        output_bias: has(0, "attn_output.bias"),
        mlp_bias: has(0, "ffn_down.bias"),
        expert_layers: (0..n_layer)
            .map(|layer| experts.is_some() && has(layer, "ffn_gate_inp.weight"))
            .collect(),
        experts,
    })
}

/// Layers of the 27B model of Gemma 2 and 3.
pub(crate) const fn gemma_27b_layers(architecture: Architecture) -> usize {
    match architecture {
        Architecture::Gemma2 => 46,
        _ => 62,
    }
}

fn experts(keys: &Keys<'_>, architecture: Architecture) -> Result<Option<Experts>, Error> {
    let n_expert = keys.optional_count("expert_count")?.filter(|&n| n > 0);
    if !matches!(architecture, Architecture::Llama | Architecture::Qwen3Moe) {
        return match n_expert {
            Some(n) => Err(keys.wrong("expert_count", "a model without experts", n)),
            None => Ok(None),
        };
    }
    let Some(n_expert) = n_expert else { return Ok(None) };
    let d_ff = match keys.optional_count("expert_feed_forward_length")? {
        Some(d_ff) => d_ff,
        None => keys.count("feed_forward_length")?,
    };
    let norm = keys.get("expert_weights_norm").and_then(Value::as_bool);
    Ok(Some(Experts {
        n_expert,
        n_expert_used: keys.count("expert_used_count")?,
        d_ff,
        norm_topk: norm.unwrap_or(true),
    }))
}

/// The window, and the layers in which it holds.
fn window(
    keys: &Keys<'_>,
    architecture: Architecture,
    n_layer: usize,
) -> Result<(Option<usize>, Vec<bool>), Error> {
    let window = keys.optional_count("attention.sliding_window")?.filter(|&window| window > 0);
    let window = match (window, architecture) {
        (None, Architecture::Gemma2) => Some(4096),
        (window, _) => window,
    };
    if window.is_none() {
        return Ok((None, vec![false; n_layer]));
    }
    // Of how many layers one sees everything; without a pattern every layer is windowed.
    let period = match architecture {
        Architecture::Gemma2 => 2,
        Architecture::Gemma3 => 6,
        _ => 0,
    };
    let key = "attention.sliding_window_pattern";
    let windowed = match keys.get(key) {
        Some(Value::Array(Array::Bool(list))) if list.len() == n_layer => list.clone(),
        Some(Value::Array(list)) => {
            return Err(keys.wrong(key, &format!("{n_layer} bools"), list.len()));
        }
        _ => {
            let period = keys.optional_count(key)?.unwrap_or(period);
            (0..n_layer).map(|layer| period == 0 || layer % period != period - 1).collect()
        }
    };
    Ok((window, windowed))
}

fn scaling(keys: &Keys<'_>, context_length: usize) -> Result<Scaling, Error> {
    // No more than the largest believable head has pairs.
    const LIMIT: usize = 1 << 16;
    let original_context =
        keys.optional_count("rope.scaling.original_context_length")?.unwrap_or(context_length);
    let attention_factor = keys.real("rope.scaling.attn_factor")?.unwrap_or(1.0);
    if let Some(factors) = keys.factors("rope_freqs.weight", LIMIT)? {
        return Ok(Scaling::Factors(factors));
    }
    let short = keys.factors("rope_factors_short.weight", LIMIT)?;
    let long = keys.factors("rope_factors_long.weight", LIMIT)?;
    if let (Some(short), Some(long)) = (short, long) {
        return Ok(Scaling::LongRope {
            short,
            long,
            original_context,
            magnitude: attention_factor,
        });
    }
    let factor = match keys.real("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.real("rope.scale_linear")?,
    };
    let factor = factor.filter(|&factor| factor != 0.0);
    let kind = keys.get("rope.scaling.type").and_then(Value::as_str).unwrap_or("linear");
    Ok(match (kind, factor) {
        ("none" | "longrope", _) | ("linear" | "yarn", None) => Scaling::None,
        ("linear", Some(1.0)) => Scaling::None,
        ("linear", Some(factor)) => Scaling::Linear { factor },
        ("yarn", Some(factor)) => Scaling::Yarn {
            factor,
            original_context,
            beta_fast: keys.real("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: keys.real("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            truncate: true,
            magnitude: yarn_magnitude(factor, 1.0) * attention_factor,
        },
        (other, _) => {
            return Err(keys.wrong("rope.scaling.type", "none, linear, yarn or longrope", other));
        }
    })
}
