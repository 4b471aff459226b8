//! The components of a `tokenizer.json`: normalisers, pre-tokenizers, decoders, post-processors.

use base64::Engine;
use serde_json::Value;

use super::file::TokenizerFile;
use crate::charsmap::Charsmap;
use crate::gguf::{bert_pre_tokenizer, byte_token};
use crate::normalizer::{BertRule, Normalize};
use crate::split::{
    Behavior, CharClass, Pattern, PreTokenizer, Prepend, SPACE_MARK, Step, Words, known_name,
};
use crate::vocabulary::GgufVocab;
use crate::{Error, alphabet};

const OPERATION: &str = "tokenizer.json";

fn kind(value: &Value) -> &str {
    value["type"].as_str().unwrap_or("")
}

fn flag(value: &Value, name: &str, default: bool) -> bool {
    value[name].as_bool().unwrap_or(default)
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str, Error> {
    value[name].as_str().ok_or_else(|| {
        Error::malformed(OPERATION, format!("a text `{name}` in {}", kind(value)), "none")
    })
}

/// The parts of a `Sequence` under `name`, or the component itself.
fn parts<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    match kind(value) {
        "Sequence" => value[name].as_array().map_or(&[], Vec::as_slice),
        _ if value.is_null() => &[],
        _ => std::slice::from_ref(value),
    }
}

/// `{"String": …}` or `{"Regex": …}`.
fn pattern(value: &Value) -> Result<Pattern, Error> {
    let pattern = &value["pattern"];
    match (pattern["String"].as_str().or(pattern.as_str()), pattern["Regex"].as_str()) {
        (Some(literal), _) => Ok(Pattern::Literal(literal.as_bytes().to_vec())),
        (None, Some(regex)) => Pattern::regex(regex),
        (None, None) => Err(Error::malformed(OPERATION, "a pattern", pattern.to_string())),
    }
}

/// The normalisers, and whether one writes the byte alphabet.
pub(super) fn normalizers(value: &Value) -> Result<(Vec<Normalize>, bool), Error> {
    let mut steps = Vec::new();
    let mut byte_level = false;
    add_normalizers(value, &mut steps, &mut byte_level)?;
    Ok((steps, byte_level))
}

fn add_normalizers(
    value: &Value,
    steps: &mut Vec<Normalize>,
    byte_level: &mut bool,
) -> Result<(), Error> {
    for part in parts(value, "normalizers") {
        steps.push(match kind(part) {
            "Sequence" => {
                add_normalizers(part, steps, byte_level)?;
                continue;
            }
            "ByteLevel" => {
                *byte_level = true;
                continue;
            }
            "NFC" => Normalize::Nfc,
            "NFD" => Normalize::Nfd,
            "NFKC" => Normalize::Nfkc,
            "NFKD" => Normalize::Nfkd,
            "Nmt" => Normalize::Nmt,
            "Lowercase" => Normalize::Lowercase,
            "StripAccents" => Normalize::StripAccents,
            "Strip" => Normalize::Strip {
                left: flag(part, "strip_left", true),
                right: flag(part, "strip_right", true),
            },
            "Prepend" => Normalize::Prepend(text(part, "prepend")?.as_bytes().to_vec()),
            "Replace" => Normalize::Replace {
                pattern: pattern(part)?,
                content: text(part, "content")?.as_bytes().to_vec(),
            },
            "BertNormalizer" => {
                let lowercase = flag(part, "lowercase", true);
                Normalize::Bert(BertRule {
                    clean_text: flag(part, "clean_text", true),
                    handle_chinese_chars: flag(part, "handle_chinese_chars", true),
                    strip_accents: flag(part, "strip_accents", lowercase),
                    lowercase,
                })
            }
            "Precompiled" => {
                let blob = base64::engine::general_purpose::STANDARD
                    .decode(text(part, "precompiled_charsmap")?)
                    .map_err(|error| Error::malformed(OPERATION, "base64", error.to_string()))?;
                Normalize::Precompiled(Charsmap::new(&blob)?)
            }
            other => return Err(Error::unsupported(OPERATION, format!("normalizer `{other}`"))),
        });
    }
    Ok(())
}

/// The pre-tokenizer, and whether it writes the byte alphabet.
pub(super) fn pre_tokenizer(value: &Value) -> Result<(PreTokenizer, bool), Error> {
    let mut steps = Vec::new();
    let mut byte_level = false;
    add_pre_tokenizers(value, &mut steps, &mut byte_level)?;
    Ok((PreTokenizer { steps }, byte_level))
}

fn add_pre_tokenizers(
    value: &Value,
    steps: &mut Vec<Step>,
    byte_level: &mut bool,
) -> Result<(), Error> {
    let split = |pattern, behavior| Step::Split { pattern, behavior, invert: false };
    for part in parts(value, "pretokenizers") {
        match kind(part) {
            "Sequence" => add_pre_tokenizers(part, steps, byte_level)?,
            "ByteLevel" => {
                *byte_level = true;
                if flag(part, "add_prefix_space", true) {
                    steps.push(Step::PrefixSpace);
                }
                if flag(part, "use_regex", true) {
                    steps.push(Step::Words(Words::Gpt2));
                }
            }
            "Split" => {
                let behavior = behavior(part["behavior"].as_str().unwrap_or(""))?;
                let invert = flag(part, "invert", false);
                steps.push(match (pattern(part)?, behavior) {
                    // A pattern without gaps: its matches are all there is.
                    (Pattern::Words(words), Behavior::Isolated) => Step::Words(words),
                    (Pattern::Words(words), Behavior::Removed) if invert => Step::Words(words),
                    (pattern, behavior) => Step::Split { pattern, behavior, invert },
                });
            }
            "Metaspace" => {
                let prepend =
                    match (part["prepend_scheme"].as_str(), part["add_prefix_space"].as_bool()) {
                        (Some("never"), _) | (None, Some(false)) => Prepend::Never,
                        (Some("first"), _) => Prepend::First,
                        _ => Prepend::Always,
                    };
                let replacement = part["replacement"].as_str().map_or(SPACE_MARK, str::as_bytes);
                steps.push(Step::Metaspace {
                    replacement: replacement.to_vec(),
                    prepend,
                    split: flag(part, "split", true),
                });
            }
            "Digits" => {
                let pattern = if flag(part, "individual_digits", false) {
                    Pattern::Class(CharClass::Number)
                } else {
                    Pattern::Run(CharClass::Number)
                };
                steps.push(split(pattern, Behavior::Isolated));
            }
            "Whitespace" => steps.push(Step::Split {
                pattern: Pattern::regex(r"\w+|[^\w\s]+")?,
                behavior: Behavior::Removed,
                invert: true,
            }),
            "WhitespaceSplit" => {
                steps.push(split(Pattern::Class(CharClass::Space), Behavior::Removed));
            }
            "BertPreTokenizer" => steps.extend(bert_pre_tokenizer().steps),
            "Punctuation" => {
                let behavior = part["behavior"].as_str().map_or(Ok(Behavior::Isolated), behavior);
                steps.push(split(Pattern::Class(CharClass::Punctuation), behavior?));
            }
            "CharDelimiterSplit" => {
                let delimiter = text(part, "delimiter")?.as_bytes().to_vec();
                steps.push(split(Pattern::Literal(delimiter), Behavior::Removed));
            }
            other => {
                return Err(Error::unsupported(OPERATION, format!("pre-tokenizer `{other}`")));
            }
        }
    }
    Ok(())
}

fn behavior(name: &str) -> Result<Behavior, Error> {
    Ok(match name {
        "Removed" => Behavior::Removed,
        "Isolated" => Behavior::Isolated,
        "MergedWithPrevious" => Behavior::MergedWithPrevious,
        "MergedWithNext" => Behavior::MergedWithNext,
        "Contiguous" => Behavior::Contiguous,
        other => return Err(Error::unsupported(OPERATION, format!("behavior `{other}`"))),
    })
}

/// What the decoders do to each token and to the whole.
#[derive(Debug, Default)]
pub(super) struct Decoding {
    byte_level: bool,
    pub(super) byte_fallback: bool,
    /// Texts to replace, in order.
    replace: Vec<(String, String)>,
    strip_start: bool,
    /// WordPiece: the prefix of tokens that go on with a word, and its cleanup.
    wordpiece: Option<(String, bool)>,
    /// The older BPE's mark of a word's end.
    word_end: Option<String>,
    /// There is no decoder: tokens are words.
    absent: bool,
}

impl Decoding {
    pub(super) fn read(value: &Value) -> Result<Decoding, Error> {
        let mut decoding = Decoding { absent: value.is_null(), ..Decoding::default() };
        decoding.add(value)?;
        Ok(decoding)
    }

    fn add(&mut self, value: &Value) -> Result<(), Error> {
        for part in parts(value, "decoders") {
            match kind(part) {
                "Sequence" => self.add(part)?,
                "ByteLevel" => self.byte_level = true,
                "ByteFallback" => self.byte_fallback = true,
                "Fuse" => {}
                "Replace" => {
                    if let Pattern::Literal(from) = pattern(part)? {
                        let from = String::from_utf8_lossy(&from).into_owned();
                        self.replace.push((from, text(part, "content")?.to_owned()));
                    }
                }
                "Strip" => self.strip_start |= part["start"].as_u64().unwrap_or(0) > 0,
                "Metaspace" => {
                    let replacement = part["replacement"].as_str().unwrap_or("\u{2581}");
                    self.replace.push((replacement.to_owned(), " ".to_owned()));
                    let never = part["prepend_scheme"] == "never"
                        || part["prepend_scheme"].is_null() && part["add_prefix_space"] == false;
                    self.strip_start |= !never;
                }
                "WordPiece" => {
                    let prefix = part["prefix"].as_str().unwrap_or("##").to_owned();
                    self.wordpiece = Some((prefix, flag(part, "cleanup", true)));
                }
                "BPEDecoder" => {
                    self.word_end = Some(part["suffix"].as_str().unwrap_or("</w>").to_owned());
                }
                other => return Err(Error::unsupported(OPERATION, format!("decoder `{other}`"))),
            }
        }
        Ok(())
    }

    /// The bytes of one token.
    pub(super) fn piece(&self, token: &str) -> Vec<u8> {
        if self.byte_level
            && let Some(bytes) = alphabet::to_bytes(token)
        {
            return bytes;
        }
        if self.byte_fallback
            && let Some(byte) = byte_token(token.as_bytes())
        {
            return vec![byte];
        }
        let mut text = token.to_owned();
        for (from, to) in self.replace.iter().filter(|(from, _)| !from.is_empty()) {
            text = text.replace(from, to);
        }
        if let Some((prefix, _)) = &self.wordpiece {
            text = match text.strip_prefix(prefix.as_str()) {
                Some(rest) => rest.to_owned(),
                None => format!(" {text}"),
            };
        }
        if let Some(end) = &self.word_end {
            text = text.replace(end, " ");
        }
        if self.absent {
            text.insert(0, ' ');
        }
        text.into_bytes()
    }

    /// The bytes of an added token: what it says, as a word of its own where tokens are words.
    pub(super) fn added_piece(&self, token: &str) -> Vec<u8> {
        if self.wordpiece.is_some() || self.absent {
            format!(" {token}").into_bytes()
        } else {
            token.as_bytes().to_vec()
        }
    }

    pub(super) fn strip_first_space(&self) -> bool {
        self.strip_start || self.wordpiece.is_some() || self.absent
    }

    pub(super) fn strip_last_space(&self) -> bool {
        self.word_end.is_some()
    }

    pub(super) fn cleanup(&self) -> bool {
        self.wordpiece.as_ref().is_some_and(|&(_, cleanup)| cleanup)
    }
}

/// What the post-processor puts before and after a single text.
pub(super) fn around(value: &Value) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let id = |value: &Value| -> Result<u32, Error> {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            Error::malformed(OPERATION, "a token id in the post-processor", value.to_string())
        })
    };
    for part in parts(value, "processors") {
        match kind(part) {
            "Sequence" => {
                let (inner_before, inner_after) = around(part)?;
                before.splice(0..0, inner_before);
                after.extend(inner_after);
            }
            "ByteLevel" => {}
            "BertProcessing" | "RobertaProcessing" => {
                before.insert(0, id(&part["cls"][1])?);
                after.push(id(&part["sep"][1])?);
            }
            "TemplateProcessing" => {
                let (mut front, mut in_front) = (Vec::new(), true);
                for piece in part["single"].as_array().map_or(&[][..], Vec::as_slice) {
                    if piece.get("Sequence").is_some() {
                        in_front = false;
                        continue;
                    }
                    let name = piece["SpecialToken"]["id"].as_str().unwrap_or("");
                    let ids = &part["special_tokens"][name]["ids"];
                    for value in ids.as_array().map_or(&[][..], Vec::as_slice) {
                        if in_front {
                            front.push(id(value)?);
                        } else {
                            after.push(id(value)?);
                        }
                    }
                }
                before.splice(0..0, front);
            }
            other => {
                return Err(Error::unsupported(OPERATION, format!("post-processor `{other}`")));
            }
        }
    }
    Ok((before, after))
}

/// Fills in what GGUF's metadata would say of this file.
pub(super) fn describe_for_gguf(
    file: &TokenizerFile,
    normalizers: &[Normalize],
    byte_level: bool,
    meta: &mut GgufVocab,
) {
    let model = &file.model;
    let is_bpe = model.merges.is_some();
    if let Some(rule) = normalizers.iter().find_map(|step| match step {
        Normalize::Bert(rule) => Some(rule),
        _ => None,
    }) {
        meta.lowercase = Some(rule.lowercase);
        meta.strip_accents = Some(rule.strip_accents);
    }
    if is_bpe && byte_level {
        meta.model = "gpt2".into();
        let patterns = patterns(&file.pre_tokenizer);
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        meta.pre = known_name(&patterns, model.ignore_merges).map(str::to_owned);
    } else if is_bpe {
        meta.model = "llama".into();
        let prepends = normalizers.iter().any(|step| matches!(step, Normalize::Prepend(_)));
        let metaspace = parts(&file.pre_tokenizer, "pretokenizers")
            .iter()
            .any(|part| kind(part) == "Metaspace" && part["prepend_scheme"] != "never");
        meta.add_space_prefix = Some(prepends || metaspace);
    } else if model.kind.as_deref() == Some("Unigram") || model.unk_id.is_some() {
        meta.model = "t5".into();
    } else {
        meta.model = "bert".into();
    }
}

/// The patterns that a byte-level pre-tokenizer cuts by, as GGUF's named ones list them.
fn patterns(value: &Value) -> Vec<String> {
    let mut list = Vec::new();
    for part in parts(value, "pretokenizers") {
        match kind(part) {
            "Sequence" => list.extend(patterns(part)),
            "ByteLevel" if flag(part, "use_regex", true) => {
                list.extend(Words::Gpt2.pattern().map(str::to_owned));
            }
            "Digits" if flag(part, "individual_digits", false) => list.push(r"\p{N}".into()),
            "Digits" => list.push(r"\p{N}+".into()),
            "Split" => list.extend(part["pattern"]["Regex"].as_str().map(str::to_owned)),
            _ => {}
        }
    }
    list
}
