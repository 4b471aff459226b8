//! The `tokenizer.json` of a trained vocabulary.

use serde_json::{Map, Value, json};

use super::merges::Learnt;
use crate::json::step_values;
use crate::split::PreTokenizer;
use crate::{Error, Tokenizer, alphabet};

/// The special token that stands for characters which a vocabulary lacks.
const UNKNOWN: &str = "<unk>";

/// Special tokens first, then bytes, then merges.
pub(super) fn of_bpe(special: &[String], learnt: &Learnt, pre_tokenizer: &PreTokenizer) -> String {
    let name = |token: u32| alphabet::to_text(learnt.tokens.bytes(token));
    let mut vocab = Map::new();
    // Bytes in the order of their characters, as GPT-2 numbers them.
    let mut bytes: Vec<String> = (0..256).map(name).collect();
    bytes.sort_unstable();
    let merged = (256..learnt.tokens.len() as u32).map(name);
    for text in special.iter().cloned().chain(bytes).chain(merged) {
        let id = vocab.len();
        vocab.insert(text, json!(id));
    }
    let merges: Vec<Value> =
        learnt.merges.iter().map(|&(left, right)| json!([name(left), name(right)])).collect();
    let byte_level = |add_prefix_space: bool, use_regex: bool| {
        json!({
            "type": "ByteLevel",
            "add_prefix_space": add_prefix_space,
            "trim_offsets": true,
            "use_regex": use_regex,
        })
    };
    let mut steps = step_values(&pre_tokenizer.steps);
    steps.push(byte_level(false, false));
    let pre_tokenizer = json!({"type": "Sequence", "pretokenizers": steps});
    whole(special, 0, pre_tokenizer, byte_level(true, true), model(vocab, merges, None))
}

/// Characters first, then special tokens. A text is one word without merges.
pub(super) fn of_characters(characters: &[char], special: &[String]) -> String {
    let mut vocab = Map::new();
    for text in characters.iter().map(char::to_string).chain(special.iter().cloned()) {
        let id = vocab.len();
        vocab.insert(text, json!(id));
    }
    let unknown = special.iter().find(|text| *text == UNKNOWN).map(String::as_str);
    let model = model(vocab, Vec::new(), unknown);
    whole(special, characters.len(), Value::Null, json!({"type": "Fuse"}), model)
}

/// A tokenizer of a file that was made here.
pub(super) fn read(json: &str, special: &[String]) -> Result<Tokenizer, Error> {
    let config = config(special).to_string();
    Tokenizer::from_json(json.as_bytes(), Some(config.as_bytes()))
}

/// What the special tokens are for, by their names. Without a name that says so the first one ends
/// a text, and a text begins after the end of another.
fn config(special: &[String]) -> Value {
    let find = |names: &[&str]| special.iter().find(|text| names.contains(&text.as_str()));
    let ends = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[EOS]", "<|eos|>"];
    let starts = ["<s>", "<bos>", "[BOS]", "<|begin_of_text|>", "<|bos|>"];
    let unknown = [UNKNOWN];
    let pads = ["<pad>", "[PAD]", "<|pad|>"];
    let rest =
        || special.iter().find(|text| find(&unknown) != Some(text) && find(&pads) != Some(text));
    let end = find(&ends).or_else(rest);
    json!({
        "bos_token": find(&starts).or(end),
        "eos_token": end,
        "pad_token": find(&pads),
        "unk_token": find(&unknown),
    })
}

fn model(vocab: Map<String, Value>, merges: Vec<Value>, unknown: Option<&str>) -> Value {
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unknown,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": false,
        "vocab": vocab,
        "merges": merges,
    })
}

/// The file around a model; special tokens have ids from `first` on.
fn whole(
    special: &[String],
    first: usize,
    pre_tokenizer: Value,
    decoder: Value,
    model: Value,
) -> String {
    let added: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({
                "id": first + index,
                "content": text,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": true,
            })
        })
        .collect();
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": decoder,
        "model": model,
    });
    format!("{file:#}\n")
}
