//! From a model's vocabulary files to its tokenizer: `model` reads files, `tokenizer` knows text,
//! and neither knows the other.

use std::path::Path;

use llmos_model::{GgufVocabulary, ModelFiles, Vocabulary};
use llmos_tokenizer::{GgufVocab, Tokenizer};

use crate::failure::{Explain, failure};
use crate::load;
use crate::model_name;
use crate::terminal::Terminal;

/// The tokenizer of a model; none for ids alone.
///
/// # Errors
/// The vocabulary is not sound.
pub(crate) fn read(vocabulary: &Vocabulary) -> anyhow::Result<Option<Tokenizer>> {
    let broken = || "the vocabulary cannot be used".to_string();
    let hint =
        || "fetch the model's files again; `llmos score --ids` needs no vocabulary".to_string();
    let mut more_ends = Vec::new();
    let mut tokenizer = match vocabulary {
        Vocabulary::None => None,
        Vocabulary::Gguf(gguf) => match gguf.model.as_str() {
            "none" | "no_vocab" => None,
            _ => Some(Tokenizer::from_gguf(&of_gguf(gguf)).explain(broken, hint)?),
        },
        Vocabulary::HuggingFace {
            tokenizer_json,
            tokenizer_config,
            generation_config,
            config,
            ..
        } => {
            for text in generation_config.iter().chain([config]) {
                more_ends.extend(end_ids(text));
            }
            let config = tokenizer_config.as_deref().map(str::as_bytes);
            Some(Tokenizer::from_json(tokenizer_json.as_bytes(), config).explain(broken, hint)?)
        }
        Vocabulary::SentencePiece { model, config, .. } => {
            more_ends.extend(end_ids(config));
            Some(Tokenizer::from_sentencepiece(model).explain(broken, hint)?)
        }
        Vocabulary::Llama2c { path, vocab_size } => Some(of_llama2c(path, *vocab_size)?),
    };
    if let Some(tokenizer) = &mut tokenizer {
        tokenizer.add_end_ids(more_ends);
    }
    Ok(tokenizer)
}

/// A llama2.c tokenizer file.
///
/// # Errors
/// It cannot be read, or is not one.
pub(crate) fn of_llama2c(path: &Path, vocab_size: usize) -> anyhow::Result<Tokenizer> {
    let hint = || "llama2.c's tokenizer.bin must have as many tokens as its model".to_string();
    let bytes = std::fs::read(path).explain(|| format!("cannot read {}", path.display()), hint)?;
    Tokenizer::from_llama2c(&bytes, vocab_size).explain(|| path.display().to_string(), hint)
}

/// `eos_token_id` of a configuration: one id or a list.
fn end_ids(text: &str) -> Vec<u32> {
    let Ok(json) = serde_json::from_str::<serde_json::Value>(text) else { return Vec::new() };
    let id = |value: &serde_json::Value| value.as_u64()?.try_into().ok();
    match &json["eos_token_id"] {
        serde_json::Value::Array(list) => list.iter().filter_map(id).collect(),
        one => id(one).into_iter().collect(),
    }
}

/// The tokenizer that MODEL names where only text matters: a model, a vocabulary-only GGUF, a
/// folder, or a bare `tokenizer.json` or `tokenizer.model`.
///
/// # Errors
/// There is no such file, or no vocabulary in it.
pub(crate) fn of_name(name: &str, terminal: &Terminal) -> anyhow::Result<Tokenizer> {
    let path = model_name::resolve(name, terminal)?;
    let read = |path: &Path| {
        std::fs::read(path)
            .explain(|| format!("cannot read {}", path.display()), || "check the path".into())
    };
    let what = || path.display().to_string();
    let hint = || "give a tokenizer.json, a GGUF, or a Hugging Face folder".to_string();
    let json = if path.is_dir() { path.join("tokenizer.json") } else { path.clone() };
    if json.extension().is_some_and(|ending| ending == "json") && json.is_file() {
        let config = json.with_file_name("tokenizer_config.json");
        let config = config.is_file().then(|| read(&config)).transpose()?;
        return Tokenizer::from_json(&read(&json)?, config.as_deref()).explain(what, hint);
    }
    let pieces = if path.is_dir() { path.join("tokenizer.model") } else { path.clone() };
    if pieces.extension().is_some_and(|ending| ending == "model") && pieces.is_file() {
        return Tokenizer::from_sentencepiece(&read(&pieces)?).explain(what, hint);
    }
    let files = ModelFiles::open(&path).map_err(load::explained)?;
    let tokenizer = self::read(&files.vocabulary().map_err(load::explained)?)?;
    tokenizer.ok_or_else(|| failure(format!("{} has no vocabulary", path.display()), hint()))
}

/// Whether two tokenizers have the same tokens under the same ids.
pub(crate) fn are_same(one: &Tokenizer, other: &Tokenizer) -> bool {
    let ids = 0..one.vocab_size() as u32;
    one.vocab_size() == other.vocab_size()
        && ids.into_iter().all(|id| one.token_bytes(id) == other.token_bytes(id))
}

/// A chat template in a folder of its own file.
pub(crate) const TEMPLATE: &str = "chat_template.jinja";

/// The name of the template that is there without a file.
pub(crate) const PLAIN: &str = "plain";

/// What `--template` names: a file, or the plain template where there is no file of that name.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn given_template(path: &Path) -> anyhow::Result<String> {
    if is_plain(path) {
        return Ok(include_str!("plain.jinja").to_string());
    }
    std::fs::read_to_string(path).explain(
        || format!("cannot read {}", path.display()),
        || format!("--template names a Jinja file, or is `{PLAIN}`"),
    )
}

/// Whether `--template` means the plain template.
pub(crate) fn is_plain(path: &Path) -> bool {
    path == Path::new(PLAIN) && !path.exists()
}

/// What ends an answer, for transformers and vLLM.
pub(crate) const GENERATION: &str = "generation_config.json";

/// The text of [`GENERATION`]: a template's end of turn is seldom the vocabulary's end token.
pub(crate) fn generation_config(tokenizer: &Tokenizer) -> String {
    let config = serde_json::json!({
        "bos_token_id": tokenizer.bos(),
        "eos_token_id": tokenizer.end_ids(),
        "pad_token_id": tokenizer.pad(),
    });
    format!("{config:#}\n")
}

/// A model's chat template: in a file of its own, or of its vocabulary; none where it has none.
///
/// # Errors
/// The files cannot be read.
pub(crate) fn template(
    files: &ModelFiles,
    tokenizer: &Tokenizer,
) -> anyhow::Result<Option<String>> {
    let own = match files.vocabulary().map_err(load::explained)? {
        Vocabulary::HuggingFace { chat_template, .. } => chat_template,
        _ => None,
    };
    Ok(own.or_else(|| tokenizer.chat_template().map(str::to_string)))
}

/// A model's vocabulary with all that belongs into a folder of the same one.
pub(crate) struct Whole {
    pub(crate) tokenizer: Tokenizer,
    /// The chat template, which may lie in a file of its own.
    pub(crate) template: Option<String>,
    /// The files of a Hugging Face folder.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

/// The vocabulary of a model and its files; none for ids alone.
///
/// # Errors
/// The vocabulary cannot be read or is not sound.
pub(crate) fn whole(files: &ModelFiles) -> anyhow::Result<Option<Whole>> {
    let own = files.vocabulary().map_err(load::explained)?;
    let Some(tokenizer) = read(&own)? else { return Ok(None) };
    let mut texts: Vec<(&str, String)> = Vec::new();
    let mut template = None;
    match own {
        Vocabulary::HuggingFace {
            tokenizer_json,
            tokenizer_config,
            chat_template,
            generation_config,
            ..
        } => {
            texts.push(("tokenizer.json", tokenizer_json));
            texts.extend(tokenizer_config.map(|text| ("tokenizer_config.json", text)));
            texts.extend(generation_config.map(|text| ("generation_config.json", text)));
            template = chat_template;
        }
        _ => {
            texts.push(("tokenizer.json", tokenizer.to_json()));
            texts.push(("tokenizer_config.json", tokenizer.to_json_config()));
        }
    }
    texts.extend(template.clone().map(|text| (TEMPLATE, text)));
    let template = template.or_else(|| tokenizer.chat_template().map(str::to_string));
    let files = texts.into_iter().map(|(name, text)| (name.into(), text.into_bytes())).collect();
    Ok(Some(Whole { tokenizer, template, files }))
}

/// The two crates' types hold the same words under the same names; a word that one lacks does not
/// compile.
macro_rules! same_words {
    ($($word:ident)*) => {
        fn of_gguf(vocabulary: &GgufVocabulary) -> GgufVocab {
            let GgufVocabulary { $($word),* } = vocabulary.clone();
            GgufVocab { $($word),* }
        }

        /// The words of a tokenizer for a file that is written.
        pub(crate) fn to_gguf(vocabulary: GgufVocab) -> GgufVocabulary {
            let GgufVocab { $($word),* } = vocabulary;
            GgufVocabulary { $($word),* }
        }
    };
}

same_words! {
    model pre tokens scores token_types merges bos eos eot eom unk sep pad cls mask fim_pre
    fim_suf fim_mid fim_pad fim_rep fim_sep add_bos add_eos add_sep add_space_prefix
    remove_extra_whitespaces precompiled_charsmap lowercase strip_accents chat_template model_name
}
