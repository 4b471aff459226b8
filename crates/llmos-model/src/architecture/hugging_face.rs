//! `config.json` to [`Hyperparameters`], in the words of transformers 4 and 5.
//!
//! Source: transformers' `models/*/configuration_*.py`; a key that is absent has the default that
//! its class gives it, because published files leave such keys out.

use serde_json::Value as Json;

use super::rope::{Scaling, yarn_magnitude};
use super::{Architecture, Experts, Hyperparameters};
use crate::Error;
use crate::config::{Activation, Pairing};
use crate::file::ModelFiles;

/// Keys of the text model.
struct Keys<'a> {
    files: &'a ModelFiles,
    json: &'a Json,
}

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Json> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, expected: &str, got: impl ToString) -> Error {
        Error::format(&self.files.path().join("config.json"), key, expected, got)
    }

    fn optional_count(&self, key: &str) -> Result<Option<usize>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|count| usize::try_from(count).ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(self.wrong(key, "a count", value)),
        }
    }

    /// A count; `default` where the class has one.
    fn count(&self, key: &str, default: Option<usize>) -> Result<usize, Error> {
        let count = self.optional_count(key)?.or(default);
        count.ok_or_else(|| self.wrong(key, "a count", "no such key"))
    }

    fn real(&self, key: &str) -> Result<Option<f64>, Error> {
        real(self.json, key).map_err(|value| self.wrong(key, "a number", value))
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(Json::as_bool)
    }
}

/// A number of an object; the value that is none as an error.
fn real(json: &Json, key: &str) -> Result<Option<f64>, String> {
    match json.get(key).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| value.to_string()),
    }
}

/// Defaults of a model_type for keys that published files leave out.
struct Defaults {
    norm_eps: f64,
    rope_theta: f64,
    n_head: Option<usize>,
    n_kv_head: Option<usize>,
    head_dim: Option<usize>,
    window: Option<usize>,
    context_length: Option<usize>,
    tied: bool,
}

fn defaults(model_type: &str) -> Defaults {
    let gemma = model_type.starts_with("gemma");
    Defaults {
        norm_eps: if matches!(model_type, "mixtral" | "phi3" | "olmo2") { 1e-5 } else { 1e-6 },
        rope_theta: match model_type {
            "gemma3" | "gemma3_text" | "mixtral" => 1e6,
            "smollm3" => 2e6,
            _ => 1e4,
        },
        n_head: gemma.then_some(8),
        n_kv_head: gemma.then_some(4),
        head_dim: match model_type {
            "qwen3" => Some(128),
            _ => gemma.then_some(256),
        },
        window: match model_type {
            "mistral" => Some(4096),
            _ => gemma.then_some(4096),
        },
        context_length: match model_type {
            "gemma3" | "gemma3_text" => Some(131_072),
            "gemma2" => Some(8192),
            _ => None,
        },
        tied: gemma || model_type == "smollm3",
    }
}

/// Whether the config, or its class's default, makes the head the embedding.
pub(crate) fn says_tied(config: &Json) -> bool {
    let model_type = config.get("model_type").and_then(Json::as_str).unwrap_or_default();
    let stated = config.get("text_config").into_iter().chain([config]);
    stated
        .filter_map(|json| json.get("tie_word_embeddings")?.as_bool())
        .next()
        .unwrap_or(defaults(model_type).tied)
}

pub(super) fn read(files: &ModelFiles, config: &Json) -> Result<Hyperparameters, Error> {
    let path = files.path().join("config.json");
    let architecture = Architecture::of_hugging_face(config, &path)?;
    let model_type = config.get("model_type").and_then(Json::as_str).unwrap_or_default();
    let defaults = defaults(model_type);
    let keys = Keys { files, json: config.get("text_config").unwrap_or(config) };

    let n_layer = keys.count("num_hidden_layers", None)?;
    if n_layer > files.tensors().len() {
        return Err(keys.wrong("num_hidden_layers", "fewer layers than tensors", n_layer));
    }
    let d_model = keys.count("hidden_size", None)?;
    let n_head = keys.count("num_attention_heads", defaults.n_head)?;
    if n_head == 0 {
        return Err(keys.wrong("num_attention_heads", "at least 1", 0));
    }
    let n_kv_head = keys.count("num_key_value_heads", defaults.n_kv_head.or(Some(n_head)))?;
    let head_dim = keys.count("head_dim", defaults.head_dim.or(Some(d_model / n_head)))?;
    let context_length = keys.count("max_position_embeddings", defaults.context_length)?;
    let d_ff = keys.count("intermediate_size", None)?;
    let Some(embedding) = files.info("token_embd.weight") else {
        return Err(Error::MissingTensor {
            path: files.path().to_owned(),
            name: "token_embd.weight (model.embed_tokens.weight)".to_owned(),
        });
    };
    // A folder's vocab_size may be absent (Gemma 3) and then is the embedding's.
    let vocab_size = keys.count("vocab_size", Some(embedding.shape[0]))?;
    let has = |layer: usize, part: &str| files.info(&format!("blk.{layer}.{part}")).is_some();
    let experts = experts(&keys, architecture, d_ff)?;
    let (window, windowed) = window(&keys, architecture, model_type, n_layer, defaults.window)?;
    let rope = rope(&keys, architecture, context_length, defaults.rope_theta)?;
    let gemma = matches!(architecture, Architecture::Gemma2 | Architecture::Gemma3);
    let scalar = keys.real("query_pre_attn_scalar")?.or(gemma.then_some(256.0));
    let attention_scale = match scalar {
        Some(scalar) if gemma => scalar.powf(-0.5) as f32,
        _ => (head_dim as f32).powf(-0.5),
    };
    let n_rot = match rope.partial {
        Some(part) => (head_dim as f64 * part) as usize,
        None => head_dim,
    };
    let cap = |key: &str, default: f64| -> Result<Option<f32>, Error> {
        if keys.json.get(key).is_some_and(Json::is_null) {
            return Ok(None);
        }
        Ok(keys.real(key)?.or((architecture == Architecture::Gemma2).then_some(default)))
            .map(|cap| cap.map(|cap| cap as f32))
    };
    Ok(Hyperparameters {
        architecture,
        name: None,
        vocab_size,
        d_model,
        n_layer,
        n_head,
        n_kv_head,
        head_dim,
        d_ff,
        context_length,
        norm_eps: keys.real("rms_norm_eps")?.unwrap_or(defaults.norm_eps) as f32,
        activation: activation(&keys, gemma)?,
        pairing: Pairing::Halves,
        n_rot,
        rope_theta: rope.theta,
        scaling: rope.scaling,
        local_theta: rope.local_theta.filter(|_| window.is_some()),
        window,
        windowed,
        rotated: rotated(&keys, architecture, n_layer)?,
        attention_scale,
        attention_softcap: if architecture == Architecture::Gemma2 {
            cap("attn_logit_softcapping", 50.0)?
        } else {
            None
        },
        logit_softcap: if gemma { cap("final_logit_softcapping", 30.0)? } else { None },
        tied_head: says_tied(config) || files.info("output.weight").is_none(),
        qkv_bias: has(0, "attn_q.bias") || has(0, "attn_qkv.bias"),
        output_bias: has(0, "attn_output.bias"),
        mlp_bias: has(0, "ffn_down.bias"),
        expert_layers: (0..n_layer)
            .map(|layer| experts.is_some() && has(layer, "ffn_gate_inp.weight"))
            .collect(),
        experts,
    })
}

fn activation(keys: &Keys<'_>, gemma: bool) -> Result<Activation, Error> {
    // Gemma's older key names the exact GELU; the models were trained with the approximation.
    let (key, default) =
        if gemma { ("hidden_activation", "gelu_pytorch_tanh") } else { ("hidden_act", "silu") };
    match keys.get(key).and_then(Json::as_str).unwrap_or(default) {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Activation::GeluTanh),
        "gelu" => Ok(Activation::Gelu),
        "relu2" => Ok(Activation::Relu2),
        other => Err(keys.wrong(key, "silu, gelu, gelu_pytorch_tanh or relu2", other)),
    }
}

fn experts(
    keys: &Keys<'_>,
    architecture: Architecture,
    d_ff: usize,
) -> Result<Option<Experts>, Error> {
    if !matches!(architecture, Architecture::Llama | Architecture::Qwen3Moe) {
        return Ok(None);
    }
    let n_expert = match keys.optional_count("num_local_experts")? {
        Some(n_expert) => Some(n_expert),
        None => keys.optional_count("num_experts")?,
    };
    let Some(n_expert) = n_expert else { return Ok(None) };
    let mixtral = architecture == Architecture::Llama;
    Ok(Some(Experts {
        n_expert,
        n_expert_used: keys.count("num_experts_per_tok", Some(if mixtral { 2 } else { 8 }))?,
        d_ff: if mixtral { d_ff } else { keys.count("moe_intermediate_size", Some(768))? },
        norm_topk: mixtral || keys.flag("norm_topk_prob").unwrap_or(false),
    }))
}

/// The window, and the layers in which it holds.
fn window(
    keys: &Keys<'_>,
    architecture: Architecture,
    model_type: &str,
    n_layer: usize,
    default: Option<usize>,
) -> Result<(Option<usize>, Vec<bool>), Error> {
    let none = Ok((None, vec![false; n_layer]));
    let switchable = matches!(
        architecture,
        Architecture::Qwen2 | Architecture::Qwen3 | Architecture::Qwen3Moe | Architecture::SmolLm3
    );
    let window = match keys.json.get("sliding_window") {
        Some(Json::Null) => None,
        Some(_) => keys.optional_count("sliding_window")?,
        None => default,
    };
    let off = switchable && !keys.flag("use_sliding_window").unwrap_or(false);
    let Some(window) = window.filter(|_| !off && model_type != "llama") else { return none };

    if let Some(types) = keys.get("layer_types") {
        let types = types.as_array().filter(|types| types.len() == n_layer);
        let windowed = types.and_then(|types| {
            types
                .iter()
                .map(|kind| match kind.as_str()? {
                    "sliding_attention" => Some(true),
                    "full_attention" => Some(false),
                    _ => None,
                })
                .collect::<Option<Vec<bool>>>()
        });
        let Some(windowed) = windowed else {
            let expected = format!("{n_layer} of sliding_attention and full_attention");
            return Err(keys.wrong("layer_types", &expected, "something else"));
        };
        let window = windowed.contains(&true).then_some(window);
        return Ok((window, windowed));
    }
    let windowed: Vec<bool> = match architecture {
        Architecture::Gemma2 => (0..n_layer).map(|layer| layer % 2 == 0).collect(),
        Architecture::Gemma3 => {
            let period = match keys.optional_count("sliding_window_pattern")? {
                Some(period) => period,
                None => keys.count("_sliding_window_pattern", Some(6))?,
            };
            (0..n_layer).map(|layer| period == 0 || (layer + 1) % period != 0).collect()
        }
        Architecture::Qwen2 | Architecture::Qwen3 => {
            let first = keys.count("max_window_layers", Some(28))?;
            (0..n_layer).map(|layer| layer >= first).collect()
        }
        Architecture::SmolLm3 => {
            rotated(keys, architecture, n_layer)?.into_iter().map(|rotated| !rotated).collect()
        }
        _ => vec![true; n_layer],
    };
    Ok((Some(window).filter(|_| windowed.contains(&true)), windowed))
}

/// (n_layer): whether a layer has a position; SmolLM3 leaves it out of every fourth.
fn rotated(
    keys: &Keys<'_>,
    architecture: Architecture,
    n_layer: usize,
) -> Result<Vec<bool>, Error> {
    if architecture != Architecture::SmolLm3 {
        return Ok(vec![true; n_layer]);
    }
    if let Some(list) = keys.get("no_rope_layers") {
        // One means, in spite of the name, that the layer rotates.
        let list = list.as_array().filter(|list| list.len() == n_layer);
        let list: Option<Vec<u64>> = list.and_then(|list| list.iter().map(Json::as_u64).collect());
        let list = list.ok_or_else(|| {
            keys.wrong("no_rope_layers", &format!("{n_layer} of 0 and 1"), "something else")
        })?;
        return Ok(list.into_iter().map(|flag| flag != 0).collect());
    }
    let interval = keys.count("no_rope_layer_interval", Some(4))?.max(1);
    Ok((0..n_layer).map(|layer| (layer + 1) % interval != 0).collect())
}

/// What a config says about rotation.
struct RopeKeys {
    theta: f64,
    local_theta: Option<f64>,
    scaling: Scaling,
    /// The part of a head that rotates.
    partial: Option<f64>,
}

fn rope(
    keys: &Keys<'_>,
    architecture: Architecture,
    context_length: usize,
    default_theta: f64,
) -> Result<RopeKeys, Error> {
    // Version 5 has one object (Gemma 3: one for each kind of layer); version 4 spreads it out.
    let parameters = keys.get("rope_parameters");
    let nested = parameters.and_then(|json| json.get("full_attention"));
    let local = parameters.and_then(|json| json.get("sliding_attention"));
    let object = nested.or(parameters).or(keys.get("rope_scaling"));
    let number = |json: Option<&Json>, key: &str| -> Result<Option<f64>, Error> {
        let Some(json) = json else { return Ok(None) };
        real(json, key).map_err(|value| keys.wrong(key, "a number", value))
    };
    let theta = match number(nested.or(parameters), "rope_theta")? {
        Some(theta) => theta,
        None => keys.real("rope_theta")?.unwrap_or(default_theta),
    };
    let local_theta = if architecture == Architecture::Gemma3 {
        let theta = match number(local, "rope_theta")? {
            Some(theta) => Some(theta),
            None => keys.real("rope_local_base_freq")?,
        };
        let scaled = local.and_then(|json| json.get("rope_type")).and_then(Json::as_str);
        if scaled.is_some_and(|kind| kind != "default") {
            return Err(keys.wrong("rope_parameters", "unscaled local layers", "a scaling"));
        }
        Some(theta.unwrap_or(10_000.0))
    } else {
        None
    };
    let partial = match number(object, "partial_rotary_factor")? {
        Some(part) => Some(part),
        None => keys.real("partial_rotary_factor")?,
    };
    let scaling = match object {
        None => Scaling::None,
        Some(object) => scaling(keys, object, architecture, context_length)?,
    };
    Ok(RopeKeys { theta, local_theta, scaling, partial })
}

fn scaling(
    keys: &Keys<'_>,
    object: &Json,
    architecture: Architecture,
    context_length: usize,
) -> Result<Scaling, Error> {
    let kind = object.get("rope_type").or(object.get("type")).and_then(Json::as_str);
    let number = |key: &str| real(object, key).map_err(|value| keys.wrong(key, "a number", value));
    let needed = |key: &str| -> Result<f64, Error> {
        number(key)?.ok_or_else(|| keys.wrong(key, "a number", "no such key"))
    };
    let original = match number("original_max_position_embeddings")? {
        Some(context) => Some(context as usize),
        None => keys.optional_count("original_max_position_embeddings")?,
    };
    let original_context = original.unwrap_or(context_length);
    let kind = match kind.unwrap_or("default") {
        // What older Phi-3 files called it.
        "su" => "longrope",
        "yarn" if architecture == Architecture::Phi3 => "longrope",
        other => other,
    };
    Ok(match kind {
        // Dynamic scaling begins beyond the context length, where no sequence goes.
        "default" | "dynamic" => Scaling::None,
        "linear" => Scaling::Linear { factor: needed("factor")? },
        "llama3" => Scaling::Llama3 {
            factor: needed("factor")?,
            low_freq_factor: needed("low_freq_factor")?,
            high_freq_factor: needed("high_freq_factor")?,
            original_context,
        },
        "yarn" => {
            let factor = match number("factor")? {
                Some(factor) => factor,
                None => context_length as f64 / original_context as f64,
            };
            let magnitude = match number("attention_factor")? {
                Some(magnitude) => magnitude,
                None => match (number("mscale")?, number("mscale_all_dim")?) {
                    (Some(mscale), Some(all)) if mscale != 0.0 && all != 0.0 => {
                        yarn_magnitude(factor, mscale) / yarn_magnitude(factor, all)
                    }
                    _ => yarn_magnitude(factor, 1.0),
                },
            };
            Scaling::Yarn {
                factor,
                original_context,
                beta_fast: number("beta_fast")?.filter(|&x| x != 0.0).unwrap_or(32.0),
                beta_slow: number("beta_slow")?.filter(|&x| x != 0.0).unwrap_or(1.0),
                truncate: object.get("truncate").and_then(Json::as_bool).unwrap_or(true),
                magnitude,
            }
        }
        "longrope" => {
            let list = |key: &str| -> Result<Vec<f32>, Error> {
                let list = object.get(key).and_then(Json::as_array);
                let list: Option<Vec<f32>> = list
                    .and_then(|list| list.iter().map(|x| x.as_f64().map(|x| x as f32)).collect());
                list.ok_or_else(|| keys.wrong(key, "a list of numbers", "something else"))
            };
            let factor = match number("factor")? {
                Some(factor) => factor,
                None => context_length as f64 / original_context as f64,
            };
            let magnitude = match number("attention_factor")? {
                Some(magnitude) => magnitude,
                None if factor <= 1.0 => 1.0,
                None => (1.0 + factor.ln() / (original_context as f64).ln()).sqrt(),
            };
            Scaling::LongRope {
                short: list("short_factor")?,
                long: list("long_factor")?,
                original_context,
                magnitude,
            }
        }
        other => {
            let expected = "default, linear, dynamic, llama3, yarn or longrope";
            return Err(keys.wrong("rope_type", expected, other));
        }
    })
}
