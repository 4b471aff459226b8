//! Broken and hostile input: an error or a defined meaning, never a panic, never endless work.
//!
//! The bodies take any bytes, so that a fuzz target can call the same code; here they run over
//! golden files with mutations from fixed seeds.

use std::path::PathBuf;

use llmos_tokenizer::{GgufVocab, Special, Tokenizer, chat};

fn data(name: &str) -> Vec<u8> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tokenizer").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A xorshift generator.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % limit.max(1)
    }
    fn mutate(&mut self, bytes: &mut Vec<u8>, tokens: &[&str]) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes[at] = self.below(256) as u8,
                1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes.truncate(at + 1),
                3 => {
                    let end = (at + self.below(40)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
                4 => {
                    let end = (at + 1 + self.below(20)).min(bytes.len());
                    bytes.drain(at..end);
                }
                _ => {
                    let token = tokens[self.below(tokens.len())];
                    let end = (at + token.len()).min(bytes.len());
                    bytes.splice(at..end, token.bytes());
                }
            }
            if bytes.is_empty() {
                bytes.push(b' ');
            }
        }
    }
}

const TEXTS: [&[u8]; 6] = [
    b"",
    b"Hello  world, it's 12345!\n\n",
    b"\xff\xfe\xe4\xbd",
    "你好 é\u{301} 😀 <mark> word".as_bytes(),
    b"                    ",
    b"<s></s><|x|>[CLS]",
];

/// Uses a tokenizer in every way; what comes of it is free, that something comes is not.
fn exercise(tokenizer: &Tokenizer) {
    for text in TEXTS {
        for special in [Special::None, Special::Parse] {
            let ids = tokenizer.encode(text, special);
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
            tokenizer.decode(&ids);
            tokenizer.decode_text(&ids, true);
        }
        tokenizer.encode_prompt(text);
    }
    tokenizer.decode(&[0, u32::MAX, tokenizer.vocab_size() as u32]);
    tokenizer.token_text(u32::MAX);
    tokenizer.end_ids();
}

fn check_json(json: &[u8]) {
    if let Ok(tokenizer) = Tokenizer::from_json(json, None) {
        exercise(&tokenizer);
        tokenizer.to_json();
        tokenizer.to_gguf();
    }
}

fn check_sentencepiece(model: &[u8]) {
    if let Ok(tokenizer) = Tokenizer::from_sentencepiece(model) {
        exercise(&tokenizer);
    }
}

fn check_chat(template: &[u8]) {
    let messages = serde_json::json!([{"role": "user", "content": "hi"}]);
    let template = String::from_utf8_lossy(template);
    let _ = chat::render(&template, &messages, None, true, &chat::Extra::default());
}

#[test]
fn mutated_tokenizer_json() {
    let tokens =
        ["null", "-1", "4294967295", "1e999", "\"\"", "[]", "{}", "\"Regex\"", "[[[[[[", "\\u0000"];
    let names = ["bert", "byte-level", "llama3-like", "metaspace-unk", "unigram-nmt", "wordlevel"];
    for name in names {
        let file = data(&format!("hf/{name}.json"));
        for seed in 0..60 {
            let mut random = Random::new(seed);
            let mut bytes = file.clone();
            random.mutate(&mut bytes, &tokens);
            check_json(&bytes);
        }
        // The small parts before the model are where the structure is.
        let head = file.windows(8).position(|window| window == b"\"model\":").unwrap();
        for seed in 0..300 {
            let mut random = Random::new(seed + 1000);
            let mut bytes = file[..head].to_vec();
            random.mutate(&mut bytes, &tokens);
            bytes.extend_from_slice(&file[head..]);
            check_json(&bytes);
        }
    }
}

#[test]
fn mutated_sentencepiece_models() {
    for name in ["bpe", "bpe-bytes", "unigram-bytes", "unigram"] {
        let file = data(&format!("sp/{name}.model"));
        for seed in 0..150 {
            let mut bytes = file.clone();
            Random::new(seed)
                .mutate(&mut bytes, &["\u{1}\u{7f}", "\u{0}\u{0}\u{0}\u{0}", "\n\u{8}"]);
            check_sentencepiece(&bytes);
        }
    }
}

#[test]
fn mutated_chat_templates() {
    let tokens = ["{{", "}}", "{%", "%}", "endfor", "(((((", "~", "loop", "namespace()", "-%}"];
    for name in ["Qwen-Qwen3-0.6B", "microsoft-Phi-3.5-mini-instruct", "HuggingFaceTB-SmolLM3-3B"] {
        let file = data(&format!("chat/{name}.jinja"));
        for seed in 0..200 {
            let mut bytes = file.clone();
            Random::new(seed).mutate(&mut bytes, &tokens);
            check_chat(&bytes);
        }
    }
}

fn bpe_vocab() -> GgufVocab {
    GgufVocab {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens: ["a", "b", "ab", "Ġ", "<e>"].map(String::from).to_vec(),
        merges: Some(vec!["a b".into()]),
        token_types: Some(vec![1, 1, 1, 1, 3]),
        ..GgufVocab::default()
    }
}

#[test]
fn lying_metadata() {
    let change = |edit: &dyn Fn(&mut GgufVocab)| {
        let mut vocab = bpe_vocab();
        edit(&mut vocab);
        Tokenizer::from_gguf(&vocab)
    };
    assert!(change(&|_| {}).is_ok());
    for (name, error) in [
        ("no tokens", change(&|v| v.tokens.clear())),
        ("no merges", change(&|v| v.merges = None)),
        ("short types", change(&|v| v.token_types = Some(vec![1]))),
        ("short scores", change(&|v| v.scores = Some(vec![0.0]))),
        ("unknown model", change(&|v| v.model = "?".into())),
        ("unknown pre", change(&|v| v.pre = Some("?".into()))),
        (
            "charsmap",
            change(&|v| {
                v.model = "t5".into();
                v.precompiled_charsmap = Some(vec![1, 2, 3]);
            }),
        ),
    ] {
        assert!(error.is_err(), "{name}");
    }
    for tokenizer in [
        change(&|v| {
            v.merges = Some(["x y", "", " ", "a", "ab ab", "a b"].map(String::from).to_vec())
        }),
        change(&|v| v.tokens[1] = "a".into()),
        change(&|v| v.tokens.iter_mut().for_each(String::clear)),
        change(&|v| v.token_types = Some(vec![-7, i32::MAX, 0, 6, 2])),
        change(&|v| (v.bos, v.eos, v.unk) = (Some(u32::MAX), Some(9), Some(5))),
        change(&|v| (v.add_bos, v.add_eos) = (Some(true), Some(true))),
        change(&|v| v.pre = None),
    ] {
        exercise(&tokenizer.unwrap());
    }
    for model in ["llama", "t5", "bert", "rwkv", "none"] {
        for score in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0] {
            let tokenizer = change(&|v| {
                v.model = model.into();
                v.scores = Some(vec![score; 5]);
                v.token_types = None;
            });
            exercise(&tokenizer.unwrap());
        }
    }
}

#[test]
fn broken_json_is_named() {
    let fails = |json: &str, expected: &str| {
        let error = Tokenizer::from_json(json.as_bytes(), None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    fails("", "EOF");
    fails("[]", "tokenizer.json");
    fails(&"[".repeat(100_000), "tokenizer.json");
    fails(&format!("{{\"normalizer\":{}", "[".repeat(100_000)), "recursion");
    fails(r#"{"model":{"type":"BPE","vocab":{},"merges":[]}}"#, "at least one");
    fails(r#"{"model":{"type":"BPE","vocab":{"a":4294967295},"merges":[]}}"#, "ids below");
    fails(r#"{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}}"#, "-1");
    fails(r#"{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}"#, "merge 0");
    fails(r#"{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b c"]}}"#, "two tokens");
    fails(r#"{"model":{"type":"Magic","vocab":{"a":0}}}"#, "`Magic`");
    fails(r#"{"pre_tokenizer":{"type":"X"},"model":{"vocab":{"a":0}}}"#, "`X`");
    fails(
        r#"{"normalizer":{"type":"Replace","pattern":{"Regex":"("},"content":""},"model":{"vocab":{"a":0}}}"#,
        "regular expression",
    );
    fails(
        r#"{"normalizer":{"type":"Precompiled","precompiled_charsmap":"////"},"model":{"vocab":{"a":0}}}"#,
        "character map",
    );
    fails(
        r#"{"post_processor":{"type":"BertProcessing","sep":["x",9],"cls":["y",0]},"model":{"vocab":{"a":0}}}"#,
        "post-processor",
    );
}

#[test]
fn gaps_in_ids_are_empty_tokens() {
    let json = br#"{"added_tokens":[{"id":9,"content":"<e>","special":true}],
        "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},
        "decoder":{"type":"ByteLevel"},
        "model":{"type":"BPE","vocab":{"a":3,"b":5,"ab":7},"merges":[["a","b"]]}}"#;
    let tokenizer = Tokenizer::from_json(json, None).unwrap();
    assert_eq!(tokenizer.vocab_size(), 10);
    assert_eq!(tokenizer.encode("aab<e>", Special::Parse), [3, 7, 9]);
    assert_eq!(tokenizer.decode(&[4, 3, 6, 7, 9]), b"aab<e>");
    let written = tokenizer.to_gguf();
    assert_eq!(written.tokens.len(), 10);
    assert_eq!(written.tokens[4], "[PAD4]");
    exercise(&Tokenizer::from_gguf(&written).unwrap());
}
