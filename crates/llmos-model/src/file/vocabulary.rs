//! A model's vocabulary, as its files hold it. What it means is the tokenizer's business.

use std::path::PathBuf;

use super::metadata::{Array, Metadata, Value};

/// Where a model's tokens come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Vocabulary {
    /// GGUF's `tokenizer.ggml.*`.
    Gguf(Box<GgufVocabulary>),
    /// A Hugging Face folder's files, as text.
    HuggingFace {
        /// `tokenizer.json`.
        tokenizer_json: String,
        /// `tokenizer_config.json`.
        tokenizer_config: Option<String>,
        /// `chat_template.jinja`, or the template in `chat_template.json`.
        chat_template: Option<String>,
        /// `generation_config.json`, whose `eos_token_id` may be a list.
        generation_config: Option<String>,
        /// `config.json`.
        config: String,
    },
    /// A Hugging Face folder that has only a SentencePiece model.
    SentencePiece {
        /// `tokenizer.model`.
        model: Vec<u8>,
        /// `tokenizer_config.json`.
        tokenizer_config: Option<String>,
        /// `config.json`.
        config: String,
    },
    /// llama2.c's `tokenizer.bin`.
    Llama2c {
        /// The file beside the model.
        path: PathBuf,
        /// Tokens in it: the model's own number.
        vocab_size: usize,
    },
    /// Ids alone.
    None,
}

/// GGUF's `tokenizer.ggml.*`; a `None` is an absent key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocabulary {
    /// `tokenizer.ggml.model`: `llama`, `gpt2`, `t5`, `bert`, `rwkv`, `none`.
    pub model: String,
    /// `tokenizer.ggml.pre`.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`, (V).
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`, (V).
    pub scores: Option<Vec<f32>>,
    /// `tokenizer.ggml.token_type`, (V).
    pub token_types: Option<Vec<i32>>,
    /// `tokenizer.ggml.merges`, by rank.
    pub merges: Option<Vec<String>>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk: Option<u32>,
    /// `tokenizer.ggml.seperator_token_id` (spelt so in the format).
    pub sep: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad: Option<u32>,
    /// `tokenizer.ggml.cls_token_id`.
    pub cls: Option<u32>,
    /// `tokenizer.ggml.mask_token_id`.
    pub mask: Option<u32>,
    /// `tokenizer.ggml.fim_pre_token_id`, or the older `prefix_token_id`.
    pub fim_pre: Option<u32>,
    /// `tokenizer.ggml.fim_suf_token_id`, or the older `suffix_token_id`.
    pub fim_suf: Option<u32>,
    /// `tokenizer.ggml.fim_mid_token_id`, or the older `middle_token_id`.
    pub fim_mid: Option<u32>,
    /// `tokenizer.ggml.fim_pad_token_id`.
    pub fim_pad: Option<u32>,
    /// `tokenizer.ggml.fim_rep_token_id`.
    pub fim_rep: Option<u32>,
    /// `tokenizer.ggml.fim_sep_token_id`.
    pub fim_sep: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_sep_token`.
    pub add_sep: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.ggml.remove_extra_whitespaces`.
    pub remove_extra_whitespaces: Option<bool>,
    /// `tokenizer.ggml.precompiled_charsmap`.
    pub precompiled_charsmap: Option<Vec<u8>>,
    /// `tokenizer.ggml.normalizer.lowercase`.
    pub lowercase: Option<bool>,
    /// `tokenizer.ggml.normalizer.strip_accents`.
    pub strip_accents: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
    /// `general.name`.
    pub model_name: Option<String>,
}

impl GgufVocabulary {
    /// Reads the keys; none without `tokenizer.ggml.model`. A value of the wrong type is absent.
    pub fn read(metadata: &Metadata) -> Option<GgufVocabulary> {
        let get = |key: &str| metadata.get(&format!("tokenizer.ggml.{key}"));
        let text = |key: &str| get(key).and_then(Value::as_str).map(str::to_owned);
        let flag = |key: &str| get(key).and_then(Value::as_bool);
        let id = |key: &str| get(key).and_then(Value::as_count).and_then(|x| x.try_into().ok());
        let strings = |key: &str| match get(key)?.as_array()? {
            Array::String(list) => Some(list.clone()),
            _ => None,
        };
        Some(GgufVocabulary {
            model: text("model")?,
            pre: text("pre"),
            tokens: strings("tokens").unwrap_or_default(),
            scores: match get("scores").and_then(Value::as_array) {
                Some(Array::F32(list)) => Some(list.clone()),
                Some(Array::F64(list)) => Some(list.iter().map(|&x| x as f32).collect()),
                _ => None,
            },
            token_types: get("token_type").and_then(Value::as_array).and_then(|list| {
                list.as_counts()?.into_iter().map(|x| i32::try_from(x).ok()).collect()
            }),
            merges: strings("merges"),
            bos: id("bos_token_id"),
            eos: id("eos_token_id"),
            eot: id("eot_token_id"),
            eom: id("eom_token_id"),
            unk: id("unknown_token_id"),
            sep: id("seperator_token_id"),
            pad: id("padding_token_id"),
            cls: id("cls_token_id"),
            mask: id("mask_token_id"),
            fim_pre: id("fim_pre_token_id").or(id("prefix_token_id")),
            fim_suf: id("fim_suf_token_id").or(id("suffix_token_id")),
            fim_mid: id("fim_mid_token_id").or(id("middle_token_id")),
            fim_pad: id("fim_pad_token_id"),
            fim_rep: id("fim_rep_token_id"),
            fim_sep: id("fim_sep_token_id"),
            add_bos: flag("add_bos_token"),
            add_eos: flag("add_eos_token"),
            add_sep: flag("add_sep_token"),
            add_space_prefix: flag("add_space_prefix"),
            remove_extra_whitespaces: flag("remove_extra_whitespaces"),
            precompiled_charsmap: match get("precompiled_charsmap").and_then(Value::as_array) {
                Some(Array::Bytes(list)) => Some(list.clone()),
                Some(Array::Signed(list)) => Some(list.iter().map(|&x| x as u8).collect()),
                _ => None,
            },
            lowercase: flag("normalizer.lowercase"),
            strip_accents: flag("normalizer.strip_accents"),
            chat_template: metadata
                .get("tokenizer.chat_template")
                .and_then(Value::as_str)
                .map(str::to_owned),
            model_name: metadata.get("general.name").and_then(Value::as_str).map(str::to_owned),
        })
    }
}

/// The vocabulary files of a Hugging Face folder.
pub(crate) fn of_folder(folder: &std::path::Path) -> Result<Vocabulary, crate::Error> {
    use super::hugging_face::read_text;
    let read = |name: &str| read_text(&folder.join(name));
    let tokenizer_config = read("tokenizer_config.json")?;
    let config = read("config.json")?.unwrap_or_default();
    if let Some(tokenizer_json) = read("tokenizer.json")? {
        let chat_template = match read("chat_template.jinja")? {
            Some(template) => Some(template),
            None => read("chat_template.json")?.and_then(|text| {
                let json: serde_json::Value = serde_json::from_str(&text).ok()?;
                Some(json.get("chat_template")?.as_str()?.to_owned())
            }),
        };
        let generation_config = read("generation_config.json")?;
        return Ok(Vocabulary::HuggingFace {
            tokenizer_json,
            tokenizer_config,
            chat_template,
            generation_config,
            config,
        });
    }
    let path = folder.join("tokenizer.model");
    match std::fs::read(&path) {
        Ok(model) => Ok(Vocabulary::SentencePiece { model, tokenizer_config, config }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vocabulary::None),
        Err(error) => Err(crate::Error::io("read", &path, error)),
    }
}
