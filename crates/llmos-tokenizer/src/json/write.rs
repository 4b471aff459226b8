//! Writing a `tokenizer.json` that Hugging Face tokenizers loads with the same ids.

use base64::Engine;
use serde_json::{Value, json};

use crate::alphabet;
use crate::bpe::{Bpe, Unit, Unknown};
use crate::gguf::byte_token;
use crate::merge::ABSENT;
use crate::normalizer::{Normalize, SentencePieceRule};
use crate::split::{Behavior, Pattern, Prepend, Step};
use crate::spm::Spm;
use crate::tokenizer::{Model, Tokenizer};
use crate::vocabulary::{VocabKind, token_type};

/// `{"type": "Sequence", name: parts}`, or the one part, or null.
fn sequence(name: &str, mut parts: Vec<Value>) -> Value {
    match parts.len() {
        0 => Value::Null,
        1 => parts.remove(0),
        _ => json!({"type": "Sequence", name: parts}),
    }
}

fn replace(pattern: Value, content: &str) -> Value {
    json!({"type": "Replace", "pattern": pattern, "content": content})
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pattern_value(pattern: &Pattern) -> Value {
    match (pattern, pattern.source()) {
        (Pattern::Literal(literal), _) => json!({"String": lossy(literal)}),
        (_, source) => json!({"Regex": source}),
    }
}

impl Tokenizer {
    /// The vocabulary as a `tokenizer.json`. RWKV's greedy kind, which Hugging Face tokenizers
    /// lacks, is written as a list of words.
    pub fn to_json(&self) -> String {
        let file = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added_values(),
            "normalizer": sequence("normalizers", self.normalizer_values()),
            "pre_tokenizer": sequence("pretokenizers", self.pre_tokenizer_values()),
            "post_processor": self.post_processor_value(),
            "decoder": self.decoder_value(),
            "model": self.model_value(),
        });
        file.to_string()
    }

    /// A `tokenizer_config.json` to lie beside [`Tokenizer::to_json`].
    pub fn to_json_config(&self) -> String {
        let mut config = serde_json::Map::new();
        config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        config.insert("clean_up_tokenization_spaces".into(), json!(false));
        config.insert("add_bos_token".into(), json!(!self.before.is_empty()));
        for (name, id) in [
            ("bos_token", self.meta.bos),
            ("eos_token", self.meta.eos),
            ("unk_token", self.meta.unk),
            ("pad_token", self.meta.pad),
            ("sep_token", self.meta.sep),
            ("cls_token", self.meta.cls),
            ("mask_token", self.meta.mask),
        ] {
            if let Some(id) = id {
                config.insert(name.into(), json!(self.token_name(id)));
            }
        }
        if let Some(template) = self.chat_template() {
            config.insert("chat_template".into(), json!(template));
        }
        format!("{:#}\n", Value::Object(config))
    }

    fn added_values(&self) -> Vec<Value> {
        let mut list: Vec<_> = self.added.list.iter().collect();
        list.sort_by_key(|token| token.id);
        list.into_iter()
            .map(|token| {
                json!({
                    "id": token.id,
                    "content": lossy(&token.text),
                    "single_word": token.single_word,
                    "lstrip": token.lstrip,
                    "rstrip": token.rstrip,
                    "normalized": token.normalized,
                    "special": token.special,
                })
            })
            .collect()
    }

    fn normalizer_values(&self) -> Vec<Value> {
        let mut list = Vec::new();
        for step in &self.normalizers {
            list.push(match step {
                Normalize::Nfc => json!({"type": "NFC"}),
                Normalize::Nfd => json!({"type": "NFD"}),
                Normalize::Nfkc => json!({"type": "NFKC"}),
                Normalize::Nfkd => json!({"type": "NFKD"}),
                Normalize::Nmt => json!({"type": "Nmt"}),
                Normalize::Lowercase => json!({"type": "Lowercase"}),
                Normalize::StripAccents => json!({"type": "StripAccents"}),
                Normalize::Strip { left, right } => {
                    json!({"type": "Strip", "strip_left": left, "strip_right": right})
                }
                Normalize::Prepend(text) => json!({"type": "Prepend", "prepend": lossy(text)}),
                Normalize::Replace { pattern, content } => {
                    replace(pattern_value(pattern), &lossy(content))
                }
                Normalize::Bert(rule) => json!({
                    "type": "BertNormalizer",
                    "clean_text": rule.clean_text,
                    "handle_chinese_chars": rule.handle_chinese_chars,
                    "strip_accents": rule.strip_accents,
                    "lowercase": rule.lowercase,
                }),
                Normalize::Precompiled(map) => precompiled(&map.to_blob()),
                Normalize::SentencePiece(rule) => {
                    list.extend(self.sentencepiece_values(rule));
                    continue;
                }
            });
        }
        list
    }

    /// SentencePiece's normaliser out of the parts that Hugging Face has.
    fn sentencepiece_values(&self, rule: &SentencePieceRule) -> Vec<Value> {
        let mut list = Vec::new();
        list.extend(rule.charsmap.as_ref().map(|map| precompiled(&map.to_blob())));
        if rule.remove_extra_whitespaces {
            list.push(replace(json!({"Regex": r"\A +| +\z"}), ""));
            list.push(replace(json!({"Regex": " {2,}"}), " "));
        }
        if !matches!(self.model, Model::Unigram(_)) {
            if rule.add_dummy_prefix {
                list.push(json!({"type": "Prepend", "prepend": "\u{2581}"}));
            }
            list.push(replace(json!({"String": " "}), "\u{2581}"));
        }
        list
    }

    fn pre_tokenizer_values(&self) -> Vec<Value> {
        let mut list = step_values(&self.pre_tokenizer.steps);
        match &self.model {
            Model::Bpe(bpe) if bpe.unit == Unit::Bytes => list.push(json!({
                "type": "ByteLevel",
                "add_prefix_space": false,
                "trim_offsets": true,
                "use_regex": false,
            })),
            Model::Unigram(_) if list.is_empty() => list.push(json!({
                "type": "Metaspace",
                "replacement": "\u{2581}",
                "prepend_scheme": if self.pieces.strip_first_space { "always" } else { "never" },
                "split": true,
            })),
            _ => {}
        }
        list
    }

    fn post_processor_value(&self) -> Value {
        if self.before.is_empty() && self.after.is_empty() {
            return Value::Null;
        }
        let special =
            |&id: &u32| json!({"SpecialToken": {"id": self.token_name(id), "type_id": 0}});
        let text = |name: &str, kind: u32| json!({"Sequence": {"id": name, "type_id": kind}});
        let around = |inner: Vec<Value>| -> Vec<Value> {
            let before = self.before.iter().map(special);
            before.chain(inner).chain(self.after.iter().map(special)).collect()
        };
        let mut names = serde_json::Map::new();
        for &id in self.before.iter().chain(&self.after) {
            let name = self.token_name(id);
            names.insert(name.clone(), json!({"id": name, "ids": [id], "tokens": [name]}));
        }
        json!({
            "type": "TemplateProcessing",
            "single": around(vec![text("A", 0)]),
            "pair": around(vec![text("A", 0), text("B", 1)]),
            "special_tokens": names,
        })
    }

    fn decoder_value(&self) -> Value {
        match &self.model {
            Model::Bpe(bpe) if bpe.unit == Unit::Bytes => json!({
                "type": "ByteLevel",
                "add_prefix_space": true,
                "trim_offsets": true,
                "use_regex": true,
            }),
            Model::Bpe(_) if self.is_of_characters() => json!({"type": "Fuse"}),
            Model::Bpe(_) | Model::Spm(_) => {
                let mut parts = vec![
                    replace(json!({"String": "\u{2581}"}), " "),
                    json!({"type": "ByteFallback"}),
                    json!({"type": "Fuse"}),
                ];
                if self.pieces.strip_first_space {
                    parts.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
                }
                sequence("decoders", parts)
            }
            Model::Unigram(unigram) if unigram.byte_fallback() => sequence(
                "decoders",
                vec![json!({"type": "ByteFallback"}), self.metaspace_decoder()],
            ),
            Model::Unigram(_) => self.metaspace_decoder(),
            Model::WordPiece(_) => {
                json!({"type": "WordPiece", "prefix": "##", "cleanup": self.pieces.cleanup})
            }
            Model::WordLevel(_) | Model::Greedy(_) | Model::None => Value::Null,
        }
    }

    fn metaspace_decoder(&self) -> Value {
        json!({
            "type": "Metaspace",
            "replacement": "\u{2581}",
            "prepend_scheme": if self.pieces.strip_first_space { "always" } else { "never" },
            "split": true,
        })
    }

    /// Number of tokens that are the model's: added ones at the end of the ids are not, and would
    /// be made inside of words if they were. The unknown token is what the model itself gives.
    fn model_size(&self) -> usize {
        let added: std::collections::HashSet<u32> =
            self.added.list.iter().map(|token| token.id).collect();
        let is_tail = |id: &u32| added.contains(id) && Some(*id) != self.meta.unk;
        let tail = (0..self.texts.len() as u32).rev().take_while(is_tail).count();
        self.texts.len() - tail
    }

    /// The names of the model's tokens with their ids.
    fn vocab_value(&self) -> Value {
        let marks_opening = self.kind == VocabKind::WordPiece
            && !self.texts.iter().any(|text| text.starts_with(b"##"));
        let mut map = serde_json::Map::new();
        for (id, text) in self.texts.iter().enumerate().take(self.model_size()) {
            let mut name = lossy(text);
            if marks_opening && self.types[id] == token_type::NORMAL {
                name = match name.strip_prefix('\u{2581}') {
                    Some(word) => word.to_owned(),
                    None => format!("##{name}"),
                };
            }
            if !name.is_empty() && !map.contains_key(&name) {
                map.insert(name, json!(id));
            }
        }
        Value::Object(map)
    }

    fn unk_name(&self) -> Value {
        self.meta.unk.map_or(Value::Null, |id| json!(self.token_name(id)))
    }

    fn model_value(&self) -> Value {
        match &self.model {
            Model::Bpe(bpe) => {
                let (unk, fuse) = match bpe.unknown {
                    Unknown::Token { id, fuse } => (json!(self.token_name(id)), fuse),
                    Unknown::Nothing => (Value::Null, false),
                };
                self.bpe_value(unk, fuse, byte_fallback(bpe), bpe.ignore_merges, bpe_merges(bpe))
            }
            Model::Spm(spm) => {
                let fallback =
                    self.texts.iter().filter(|text| byte_token(text).is_some()).count() >= 256;
                self.bpe_value(self.unk_name(), true, fallback, false, spm_merges(spm))
            }
            Model::Unigram(unigram) => {
                let vocab: Vec<Value> = self
                    .texts
                    .iter()
                    .enumerate()
                    .take(self.model_size())
                    .map(|(id, text)| {
                        let score = self.scores.get(id).copied().filter(|score| score.is_finite());
                        json!([lossy(text), score.unwrap_or(0.0)])
                    })
                    .collect();
                json!({
                    "type": "Unigram",
                    "unk_id": self.meta.unk,
                    "vocab": vocab,
                    "byte_fallback": unigram.byte_fallback(),
                })
            }
            Model::WordPiece(pieces) => json!({
                "type": "WordPiece",
                "unk_token": self.unk_name(),
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": pieces.longest_word.min(100),
                "vocab": self.vocab_value(),
            }),
            Model::WordLevel(_) | Model::Greedy(_) | Model::None => json!({
                "type": "WordLevel",
                "vocab": self.vocab_value(),
                "unk_token": self.unk_name().as_str().unwrap_or(""),
            }),
        }
    }

    fn bpe_value(
        &self,
        unk: Value,
        fuse_unk: bool,
        byte_fallback: bool,
        ignore_merges: bool,
        merges: Vec<Value>,
    ) -> Value {
        json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": unk,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": fuse_unk,
            "byte_fallback": byte_fallback,
            "ignore_merges": ignore_merges,
            "vocab": self.vocab_value(),
            "merges": merges,
        })
    }
}

/// The components of a pre-tokenizer's steps.
pub(crate) fn step_values(steps: &[Step]) -> Vec<Value> {
    let split = |pattern: Value, behavior: Behavior, invert: bool| {
        json!({
            "type": "Split",
            "pattern": pattern,
            "behavior": format!("{behavior:?}"),
            "invert": invert,
        })
    };
    let isolated = |regex: &str| split(json!({"Regex": regex}), Behavior::Isolated, false);
    let mut list = Vec::new();
    for step in steps {
        list.push(match step {
            Step::Words(words) => isolated(words.pattern().unwrap_or(r"[\s\S]+")),
            Step::Split { pattern, behavior, invert } => {
                split(pattern_value(pattern), *behavior, *invert)
            }
            Step::DigitGroups { at_boundary: true } => isolated(r"\d{1,3}(?=(?:\d{3})*\b)"),
            Step::DigitGroups { at_boundary: false } => isolated(r"\d{1,3}(?=(?:\d{3})*(?!\d))"),
            Step::PrefixSpace => json!({
                "type": "ByteLevel",
                "add_prefix_space": true,
                "trim_offsets": true,
                "use_regex": false,
            }),
            Step::Metaspace { replacement, prepend, split } => json!({
                "type": "Metaspace",
                "replacement": lossy(replacement),
                "prepend_scheme": match prepend {
                    Prepend::Never => "never",
                    Prepend::First => "first",
                    Prepend::Always => "always",
                },
                "split": split,
            }),
            // It changes no id, only the time.
            Step::SpaceMarks => continue,
        });
    }
    list
}

fn precompiled(blob: &[u8]) -> Value {
    let blob = base64::engine::general_purpose::STANDARD.encode(blob);
    json!({"type": "Precompiled", "precompiled_charsmap": blob})
}

fn byte_fallback(bpe: &Bpe) -> bool {
    bpe.unit == Unit::Chars && bpe.byte_ids.iter().all(|&id| id != ABSENT)
}

/// Merges as pairs of names. Those that pass through strings that are no tokens are left out: the
/// format has no way to say them.
fn bpe_merges(bpe: &Bpe) -> Vec<Value> {
    let name = |id: u32| match bpe.unit {
        Unit::Bytes => alphabet::to_text(bpe.symbols.bytes(id)),
        Unit::Chars => lossy(bpe.symbols.bytes(id)),
    };
    let merges = if bpe.merges.is_empty() { &bpe.merges_of_ranks() } else { &bpe.merges };
    let token = |id: u32| id < bpe.n_tokens();
    merges
        .iter()
        .filter(|&&(left, right)| token(left) && token(right))
        .filter(|&&(left, right)| {
            let joined = [bpe.symbols.bytes(left), bpe.symbols.bytes(right)].concat();
            bpe.symbols.get(&joined).is_some_and(token)
        })
        .map(|&(left, right)| json!([name(left), name(right)]))
        .collect()
}

fn spm_merges(spm: &Spm) -> Vec<Value> {
    let name = |id: u32| lossy(spm.symbols.bytes(id));
    spm.merges().into_iter().map(|(left, right)| json!([name(left), name(right)])).collect()
}
