//! Writes a Hugging Face folder that transformers 4 and 5 load.

use std::ops::ControlFlow;
use std::path::Path;

use llmos_tensor::DType;
use serde_json::{Map, Value as Json, json};

use super::partial::{Output, Partial};
use super::{Conversion, Converted, Copied, Data, OutputVocabulary, Planned, Source, stream};
use crate::Error;
use crate::architecture::{Architecture, Scaling, llama3_factors};
use crate::config::{Activation, Pairing};
use crate::file::{ModelFiles, Source as FileSource, Vocabulary, to_hugging_face};

pub(super) fn write(
    source: &Source<'_>,
    output: &Path,
    conversion: &Conversion,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Converted, Error> {
    let dtype = conversion.file_type.base();
    if dtype.is_quantised() {
        let got = conversion.file_type.name();
        return Err(Error::request("convert", "f32, f16 or bf16 for a folder (or OUT.gguf)", got));
    }
    if output.exists() {
        let got = format!("{} exists", output.display());
        return Err(Error::request("convert", "a new folder", got));
    }
    let model_type = model_type(source);
    let planned = plan(source, model_type, dtype)?;
    let config = config(source, model_type, dtype, &conversion.vocabulary)?;
    let mut warnings = Vec::new();

    let partial = Partial::beside(output)?;
    let folder = partial.path();
    std::fs::create_dir(folder).map_err(|error| Error::io("create", folder, error))?;
    let text = |name: &str, text: &str| -> Result<(), Error> {
        let mut file = Output::create(&folder.join(name))?;
        file.write(text.as_bytes())?;
        file.finish()
    };
    text("config.json", &format!("{config:#}\n"))?;
    write_vocabulary(source, &conversion.vocabulary, &text, &mut warnings)?;

    let (head, total) = header(&planned)?;
    let mut file = Output::create(&folder.join("model.safetensors"))?;
    file.write(&head)?;
    let mut done = 0;
    for tensor in &planned {
        stream::tensor(source.files, tensor, conversion.threads, &mut file, &mut |bytes| {
            done += bytes as u64;
            progress(done, total)
        })?;
    }
    file.finish()?;
    partial.commit()?;
    Ok(Converted { warnings, tensor_bytes: done })
}

/// `config.json` of a folder that holds the model of `files` in single precision: the files' own where
/// they are such a folder, and otherwise in the words of transformers 4, which version 5 reads as well,
/// with the ids of the start, end and padding tokens.
///
/// # Errors
/// [`Error::NoModel`] for files without a model, [`Error::Unsupported`] for one that a folder cannot
/// describe.
pub fn config_in_single_precision(
    files: &ModelFiles,
    [bos, eos, pad]: [Option<u32>; 3],
) -> Result<String, Error> {
    let source =
        Source { files, hyperparameters: files.hyperparameters()?, config: files.config()? };
    let own = match files.source() {
        FileSource::HuggingFace { config } if config.get("text_config").is_none() => Some(config),
        _ => None,
    };
    let config = match own {
        Some(own) => {
            let mut own = own.clone();
            // Version 4 says it in the first key, version 5 in the second.
            let said = ["torch_dtype", "dtype"].into_iter().find(|key| own.get(key).is_some());
            own[said.unwrap_or("torch_dtype")] = "float32".into();
            own
        }
        None => {
            let vocabulary = OutputVocabulary::HuggingFace {
                tokenizer_json: String::new(),
                tokenizer_config: None,
                chat_template: None,
                generation_config: None,
                bos,
                eos,
                pad,
            };
            config(&source, model_type(&source), DType::F32, &vocabulary)?
        }
    };
    Ok(format!("{config:#}\n"))
}

/// transformers' name of the class: three of them are Llamas to GGUF.
fn model_type(source: &Source<'_>) -> &'static str {
    let model = source.hyperparameters;
    match model.architecture {
        Architecture::Llama if model.experts.is_some() => "mixtral",
        Architecture::Llama if model.window.is_some() => "mistral",
        Architecture::Llama => "llama",
        Architecture::Qwen2 => "qwen2",
        Architecture::Qwen3 => "qwen3",
        Architecture::Qwen3Moe => "qwen3_moe",
        Architecture::Gemma2 => "gemma2",
        Architecture::Gemma3 => "gemma3_text",
        Architecture::Phi3 => "phi3",
        Architecture::SmolLm3 => "smollm3",
        Architecture::Olmo2 => "olmo2",
    }
}

fn class(model_type: &str) -> &'static str {
    match model_type {
        "mixtral" => "MixtralForCausalLM",
        "mistral" => "MistralForCausalLM",
        "qwen2" => "Qwen2ForCausalLM",
        "qwen3" => "Qwen3ForCausalLM",
        "qwen3_moe" => "Qwen3MoeForCausalLM",
        "gemma2" => "Gemma2ForCausalLM",
        "gemma3_text" => "Gemma3ForCausalLM",
        "phi3" => "Phi3ForCausalLM",
        "smollm3" => "SmolLM3ForCausalLM",
        "olmo2" => "Olmo2ForCausalLM",
        _ => "LlamaForCausalLM",
    }
}

fn plan<'a>(
    source: &Source<'a>,
    model_type: &str,
    dtype: DType,
) -> Result<Vec<Planned<'a>>, Error> {
    let mut planned = Vec::new();
    let mixtral = model_type == "mixtral";
    for info in source.tensors() {
        let Some(name) = to_hugging_face(source.architecture(), mixtral, &info.name) else {
            let what = format!("tensor {:?} in a Hugging Face folder", info.name);
            return Err(Error::unsupported(source.files.path(), what, "tensors with a name there"));
        };
        let offset = source.architecture().norms_are_offsets() && name.ends_with("norm.weight");
        let copied = source.copied(info, Pairing::Halves, if offset { -1.0 } else { 0.0 });
        if !name.contains("{expert}") {
            let shape = info.shape.clone();
            planned.push(Planned { name, dtype, shape, data: Data::Copied(copied) });
            continue;
        }
        for expert in 0..info.shape[0] {
            planned.push(Planned {
                name: name.replace("{expert}", &expert.to_string()),
                dtype,
                shape: info.shape[1..].to_vec(),
                data: Data::Copied(Copied { first: expert, ..copied.clone() }),
            });
        }
    }
    Ok(planned)
}

/// The safetensors header, padded to eight bytes, and the bytes of all tensors.
fn header(planned: &[Planned<'_>]) -> Result<(Vec<u8>, u64), Error> {
    let mut entries = Map::new();
    entries.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut at = 0u64;
    for tensor in planned {
        let end = at + super::planned_bytes(tensor)? as u64;
        let dtype = match tensor.dtype {
            DType::F16 => "F16",
            DType::BF16 => "BF16",
            _ => "F32",
        };
        let entry = json!({ "dtype": dtype, "shape": tensor.shape, "data_offsets": [at, end] });
        entries.insert(tensor.name.clone(), entry);
        at = end;
    }
    let mut text = Json::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut head = (text.len() as u64).to_le_bytes().to_vec();
    head.extend(text);
    Ok((head, at))
}

fn write_vocabulary(
    source: &Source<'_>,
    vocabulary: &OutputVocabulary,
    text: &dyn Fn(&str, &str) -> Result<(), Error>,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let optional = |name: &str, content: &Option<String>| match content {
        Some(content) => text(name, content),
        None => Ok(()),
    };
    match vocabulary {
        OutputVocabulary::Gguf(_) => {
            Err(Error::request("convert", "a Hugging Face vocabulary", "a GGUF one"))
        }
        OutputVocabulary::HuggingFace {
            tokenizer_json,
            tokenizer_config,
            chat_template,
            generation_config,
            ..
        } => {
            text("tokenizer.json", tokenizer_json)?;
            optional("tokenizer_config.json", tokenizer_config)?;
            optional("chat_template.jinja", chat_template)?;
            optional("generation_config.json", generation_config)
        }
        OutputVocabulary::AsInput => match source.files.vocabulary()? {
            Vocabulary::HuggingFace {
                tokenizer_json,
                tokenizer_config,
                chat_template,
                generation_config,
                ..
            } => {
                text("tokenizer.json", &tokenizer_json)?;
                optional("tokenizer_config.json", &tokenizer_config)?;
                optional("chat_template.jinja", &chat_template)?;
                optional("generation_config.json", &generation_config)
            }
            _ => {
                warnings.push("the folder has no tokenizer".to_owned());
                Ok(())
            }
        },
    }
}

/// `config.json` in the words of transformers 4, which version 5 reads as well.
fn config(
    source: &Source<'_>,
    model_type: &str,
    dtype: DType,
    vocabulary: &OutputVocabulary,
) -> Result<Json, Error> {
    let model = source.hyperparameters;
    let gemma = model_type.starts_with("gemma");
    let activation = match model.activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
        Activation::Gelu => "gelu",
        Activation::Relu2 => "relu2",
    };
    let mut config = json!({
        "architectures": [class(model_type)],
        "model_type": model_type,
        "torch_dtype": match dtype {
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            _ => "float32",
        },
        "vocab_size": model.vocab_size,
        "hidden_size": model.d_model,
        "intermediate_size": model.d_ff,
        "num_hidden_layers": model.n_layer,
        "num_attention_heads": model.n_head,
        "num_key_value_heads": model.n_kv_head,
        "max_position_embeddings": model.context_length,
        "rms_norm_eps": shortest(model.norm_eps),
        "rope_theta": model.rope_theta,
        "rope_scaling": rope_scaling(source)?,
        "tie_word_embeddings": model.tied_head,
        "use_cache": true,
    });
    let mut set = |key: &str, value: Json| config[key] = value;
    set(if gemma { "hidden_activation" } else { "hidden_act" }, activation.into());
    // A class that has no such key derives the head's size from the width.
    let derived = model.head_dim.checked_mul(model.n_head) == Some(model.d_model);
    match model_type {
        "qwen2" | "phi3" | "olmo2" | "smollm3" if derived => {}
        "qwen2" | "phi3" | "olmo2" | "smollm3" => {
            let what = format!("{model_type} with heads of {} in a folder", model.head_dim);
            let supported = format!("heads of {}", model.d_model / model.n_head);
            return Err(Error::unsupported(source.files.path(), what, supported));
        }
        _ => set("head_dim", model.head_dim.into()),
    }
    // A class that cannot say it would leave biases out silently: (query to value, output, MLP).
    let biases = (model.qkv_bias, model.output_bias, model.mlp_bias);
    let sayable = match model_type {
        "llama" | "smollm3" => {
            set("attention_bias", model.qkv_bias.into());
            set("mlp_bias", model.mlp_bias.into());
            model.qkv_bias == model.output_bias
        }
        "qwen3" | "qwen3_moe" | "gemma2" | "gemma3_text" | "olmo2" => {
            set("attention_bias", model.qkv_bias.into());
            model.qkv_bias == model.output_bias && !model.mlp_bias
        }
        "qwen2" => biases == (true, false, false),
        _ => biases == (false, false, false),
    };
    if !sayable {
        let what = format!("{model_type} with these biases in a folder");
        return Err(Error::unsupported(source.files.path(), what, "the class's own biases"));
    }
    window_keys(source, model_type, &mut set);
    if gemma {
        let scale = f64::from(model.attention_scale);
        set("query_pre_attn_scalar", (scale.powi(-2).round() as u64).into());
        set("final_logit_softcapping", json!(model.logit_softcap.map(shortest)));
        set("attn_logit_softcapping", json!(model.attention_softcap.map(shortest)));
    }
    if let Some(theta) = model.local_theta {
        set("rope_local_base_freq", theta.into());
    }
    match &model.scaling {
        Scaling::LongRope { original_context, .. } => {
            set("original_max_position_embeddings", (*original_context).into());
        }
        _ if model_type == "phi3" => {
            set("original_max_position_embeddings", model.context_length.into());
        }
        _ => {}
    }
    if model.n_rot != model.head_dim {
        set("partial_rotary_factor", (model.n_rot as f64 / model.head_dim as f64).into());
    }
    if model_type == "smollm3" {
        let rotated: Vec<u8> = model.rotated.iter().map(|&rotated| u8::from(rotated)).collect();
        set("no_rope_layers", rotated.into());
    }
    if let Some(experts) = model.experts {
        set("num_experts_per_tok", experts.n_expert_used.into());
        if model_type == "mixtral" {
            set("num_local_experts", experts.n_expert.into());
            set("intermediate_size", experts.d_ff.into());
        } else {
            set("num_experts", experts.n_expert.into());
            set("moe_intermediate_size", experts.d_ff.into());
            set("norm_topk_prob", experts.norm_topk.into());
            set("decoder_sparse_step", 1.into());
            let dense = (0..model.n_layer).filter(|&layer| !model.expert_layers[layer]);
            set("mlp_only_layers", dense.collect::<Vec<_>>().into());
        }
    }
    for (key, id) in token_ids(source, vocabulary) {
        set(key, id);
    }
    Ok(config)
}

fn window_keys(source: &Source<'_>, model_type: &str, set: &mut dyn FnMut(&str, Json)) {
    let model = source.hyperparameters;
    let types = || -> Json {
        let name = |&windowed: &bool| {
            if windowed { "sliding_attention" } else { "full_attention" }
        };
        model.windowed.iter().map(name).collect::<Vec<_>>().into()
    };
    match model_type {
        "llama" | "olmo2" => {}
        "mistral" | "mixtral" | "phi3" => set("sliding_window", json!(model.window)),
        "gemma2" | "gemma3_text" => {
            set("sliding_window", json!(model.window.unwrap_or(model.context_length)));
            set("layer_types", types());
            // What transformers 4.50 to 4.52 read instead of the list.
            let global = model.windowed.iter().position(|windowed| !windowed);
            if let Some(global) = global.filter(|_| model_type == "gemma3_text") {
                set("sliding_window_pattern", (global + 1).into());
            }
        }
        _ => {
            set("use_sliding_window", model.window.is_some().into());
            set("sliding_window", json!(model.window));
            if model_type != "qwen3_moe" {
                set("layer_types", types());
            }
            if matches!(model_type, "qwen2" | "qwen3") {
                let first = model.windowed.iter().position(|&windowed| windowed);
                set("max_window_layers", first.unwrap_or(model.n_layer).into());
            }
        }
    }
}

fn rope_scaling(source: &Source<'_>) -> Result<Json, Error> {
    let model = source.hyperparameters;
    Ok(match &model.scaling {
        Scaling::None => Json::Null,
        Scaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_context,
        }),
        Scaling::Factors(factors) => {
            let found = as_llama3(factors, model.rope_theta, model.n_rot);
            let Some((factor, original_context)) = found else {
                let what = "rope factors other than Llama 3's in a folder";
                return Err(Error::unsupported(source.files.path(), what, "a GGUF file as output"));
            };
            json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": original_context,
            })
        }
        Scaling::Yarn { factor, original_context, beta_fast, beta_slow, truncate, magnitude } => {
            json!({
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original_context,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "truncate": truncate,
                "attention_factor": magnitude,
            })
        }
        Scaling::LongRope { short, long, magnitude, .. } => json!({
            "rope_type": "longrope",
            "short_factor": short.iter().copied().map(shortest).collect::<Vec<_>>(),
            "long_factor": long.iter().copied().map(shortest).collect::<Vec<_>>(),
            "attention_factor": magnitude,
        }),
    })
}

/// Llama 3's factor and original context from the divisors they give, if they give these. All its
/// models blend between one and four turns, and their original contexts are powers of two.
fn as_llama3(factors: &[f32], theta: f64, n_rot: usize) -> Option<(f64, usize)> {
    let factor = f64::from(factors.iter().copied().fold(1.0, f32::max));
    (4..24).map(|power| 1usize << power).find_map(|context| {
        let expected = llama3_factors(theta, n_rot, factor, 1.0, 4.0, context);
        let equal =
            expected.iter().zip(factors).all(|(x, &y)| (x / f64::from(y) - 1.0).abs() < 1e-4);
        equal.then_some((factor, context))
    })
}

fn token_ids(source: &Source<'_>, vocabulary: &OutputVocabulary) -> Vec<(&'static str, Json)> {
    const KEYS: [&str; 3] = ["bos_token_id", "eos_token_id", "pad_token_id"];
    match vocabulary {
        OutputVocabulary::HuggingFace { bos, eos, pad, .. } => {
            KEYS.into_iter().zip([json!(bos), json!(eos), json!(pad)]).collect()
        }
        // Absent, a class would fill in the ids of its first model.
        _ => {
            let stated = source.files.metadata();
            let find = |keys: [&str; 2]| {
                let found = stated.iter().find(|(key, _)| keys.contains(&key.as_str()));
                found.map_or(Json::Null, |(_, id)| id.clone())
            };
            vec![
                (KEYS[0], find([KEYS[0], "tokenizer.ggml.bos_token_id"])),
                (KEYS[1], find([KEYS[1], "tokenizer.ggml.eos_token_id"])),
                (KEYS[2], find([KEYS[2], "tokenizer.ggml.padding_token_id"])),
            ]
        }
    }
}

/// The float as people wrote it: 1e-6 and not 9.999999974752427e-7.
fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}
