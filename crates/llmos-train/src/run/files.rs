//! The small files of a finished model: what makes a folder of weights one that transformers and
//! everyone else load.

use std::path::Path;

use serde_json::json;

use super::checkpoint::Files;
use crate::Error;
use crate::data::Dataset;
use crate::model::{Layout, Lora};
use crate::recipe::ModelShape;
use llmos_model::ModelFiles;
use llmos_model::file::NormGains;
use llmos_tokenizer::Tokenizer;

/// The tokenizer's files, which lie in the folder of the data.
const TOKENIZER: [&str; 2] = ["tokenizer.json", "tokenizer_config.json"];

/// The tokenizer of a data set, and its files.
///
/// # Errors
/// A file cannot be read, or is not the tokenizer that made the ids.
pub(super) fn tokenizer(dataset: &Dataset) -> Result<(Tokenizer, Files), Error> {
    let mut files = Files::new();
    for name in TOKENIZER {
        let path = dataset.folder().join(name);
        match std::fs::read(&path) {
            Ok(bytes) => files.push((name.to_string(), bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && name != TOKENIZER[0] => {}
            Err(error) => return Err(Error::io("read", path)(error)),
        }
    }
    let config = files.get(1).map(|(_, bytes)| &bytes[..]);
    let json = files.first().map_or(&[][..], |(_, bytes)| bytes);
    let refuse = |expected: String, got: String| Error::Format {
        path: dataset.folder().join(TOKENIZER[0]),
        what: "tokenizer".into(),
        expected,
        got,
    };
    let tokenizer = Tokenizer::from_json(json, config)
        .map_err(|error| refuse("one that can be read".into(), error.to_string()))?;
    let (ids, own) = (dataset.vocab_size(), tokenizer.vocab_size());
    if ids != own {
        return Err(refuse(format!("{ids} ids, as the manifest has"), own.to_string()));
    }
    Ok((tokenizer, files))
}

/// `config.json` in the words of transformers 4, which version 5 reads as well.
pub(crate) fn config(shape: &ModelShape, context: usize, tokenizer: &Tokenizer) -> Vec<u8> {
    let (class, model_type) = match shape.qk_norm {
        true => ("Qwen3ForCausalLM", "qwen3"),
        false => ("LlamaForCausalLM", "llama"),
    };
    let mut config = json!({
        "architectures": [class],
        "model_type": model_type,
        "torch_dtype": "float32",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.d_model,
        "intermediate_size": shape.d_ff,
        "num_hidden_layers": shape.n_layer,
        "num_attention_heads": shape.n_head,
        "num_key_value_heads": shape.n_kv_head,
        "head_dim": shape.head_dim,
        "max_position_embeddings": context,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_base,
        "rope_scaling": null,
        "tie_word_embeddings": shape.tied_head,
        "hidden_act": "silu",
        "attention_bias": false,
        "attention_dropout": 0.0,
        "use_cache": true,
        "bos_token_id": tokenizer.bos(),
        "eos_token_id": tokenizer.eos(),
        "pad_token_id": tokenizer.pad(),
    });
    if shape.qk_norm {
        config["use_sliding_window"] = false.into();
        config["sliding_window"] = serde_json::Value::Null;
        config["max_window_layers"] = shape.n_layer.into();
    } else {
        config["mlp_bias"] = false.into();
    }
    format!("{config:#}\n").into_bytes()
}

/// `config.json` of a model that was made of another: the same but for its type of numbers.
///
/// # Errors
/// The base is one that a folder cannot describe.
pub(crate) fn config_of(base: &ModelFiles, tokenizer: &Tokenizer) -> Result<Vec<u8>, Error> {
    let ids = [tokenizer.bos(), tokenizer.eos(), tokenizer.pad()];
    let config = llmos_model::convert::config_in_single_precision(base, ids);
    config.map(String::into_bytes).map_err(|error| Error::Format {
        path: base.path().to_path_buf(),
        what: "model".into(),
        expected: "one that a folder can describe".into(),
        got: error.to_string(),
    })
}

/// What an adapter's base is known again by.
///
/// # Errors
/// A norm of the base cannot be read.
pub(super) fn norm_gains(base: &ModelFiles) -> Result<Vec<u8>, Error> {
    let gains = NormGains::of(base).map_err(|error| Error::Format {
        path: base.path().to_path_buf(),
        what: "norms".into(),
        expected: "numbers".into(),
        got: error.to_string(),
    })?;
    Ok(format!("{}\n", json!(gains)).into_bytes())
}

/// `adapter_config.json`, PEFT's, of an adapter beside a model of this layout.
pub(crate) fn adapter_config(lora: &Lora, layout: &Layout, base: &Path) -> Vec<u8> {
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.display().to_string(),
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "use_rslora": lora.rank_stabilised,
        "use_dora": lora.dora,
        "target_modules": lora.targets_in(layout),
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "modules_to_save": null,
    });
    format!("{config:#}\n").into_bytes()
}
