//! The shape of a `tokenizer.json`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::Error;

/// Parses a file, with serde's own limit on depth.
pub(super) fn parse<T: for<'a> Deserialize<'a>>(
    operation: &'static str,
    json: &[u8],
) -> Result<T, Error> {
    serde_json::from_slice(json)
        .map_err(|error| Error::malformed(operation, "the file's schema", error.to_string()))
}

/// The whole file.
#[derive(Debug, Deserialize)]
pub(super) struct TokenizerFile {
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedTokenFile>,
    #[serde(default)]
    pub(super) normalizer: Value,
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    #[serde(default)]
    pub(super) post_processor: Value,
    #[serde(default)]
    pub(super) decoder: Value,
    pub(super) model: ModelFile,
}

/// One added token.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct AddedTokenFile {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    pub(super) normalized: Option<bool>,
    #[serde(default)]
    pub(super) special: bool,
}

/// The model.
#[derive(Debug, Deserialize)]
pub(super) struct ModelFile {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) vocab: VocabFile,
    pub(super) merges: Option<MergesFile>,
    pub(super) unk_token: Option<String>,
    pub(super) unk_id: Option<u32>,
    pub(super) continuing_subword_prefix: Option<String>,
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) fuse_unk: bool,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
    pub(super) max_input_chars_per_word: Option<usize>,
}

/// Tokens with ids, or in the order of their ids with scores.
#[derive(Debug)]
pub(super) enum VocabFile {
    Ids(Vec<(String, u32)>),
    Scores(Vec<(String, f64)>),
}

impl Default for VocabFile {
    fn default() -> Self {
        VocabFile::Ids(Vec::new())
    }
}

impl<'de> Deserialize<'de> for VocabFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = VocabFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tokens to ids, or a list of tokens with scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VocabFile, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    list.push(entry);
                }
                Ok(VocabFile::Ids(list))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<VocabFile, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    list.push(entry);
                }
                Ok(VocabFile::Scores(list))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Merges as `"left right"` or `["left", "right"]`.
#[derive(Debug)]
pub(super) struct MergesFile(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for MergesFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Merge {
            Text(String),
            Pair(String, String),
        }
        let list = Vec::<Merge>::deserialize(deserializer)?;
        let pairs = list.into_iter().filter_map(|merge| match merge {
            Merge::Pair(left, right) => Some(Ok((left, right))),
            Merge::Text(text) if text.starts_with("#version") => None,
            Merge::Text(text) => Some(match text.split_once(' ') {
                Some((left, right)) if !right.contains(' ') => {
                    Ok((left.to_owned(), right.to_owned()))
                }
                _ => Err(serde::de::Error::custom(format!("merge `{text}` is not two tokens"))),
            }),
        });
        pairs.collect::<Result<Vec<_>, _>>().map(MergesFile)
    }
}
