//! Golden files of `testdata/tokenizer`, each made by its `make.py` from programs that are not
//! ours: llama.cpp's token lists, Hugging Face tokenizers, SentencePiece, transformers.

mod gguf;

use std::io::Read;
use std::path::PathBuf;

use llmos_tokenizer::{GgufVocab, Special, Tokenizer, chat};
use serde_json::Value;

fn data(name: &str) -> Vec<u8> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tokenizer").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&data(name)).expect("JSON")
}

fn texts() -> Vec<String> {
    serde_json::from_value(json("texts.json")).expect("texts")
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("ids")
}

const VOCABULARIES: [&str; 5] = ["gpt-2", "bert-bge", "phi-3", "mpt", "falcon"];

fn vocab(name: &str) -> GgufVocab {
    let packed = data(&format!("vocab/ggml-vocab-{name}.gguf.zst"));
    let mut file = Vec::new();
    let mut unpacked = ruzstd::decoding::StreamingDecoder::new(&packed[..]).expect("zstd");
    unpacked.read_to_end(&mut file).expect("zstd");
    gguf::read_vocab(&file)
}

#[test]
fn llama_cpp_vocabularies() {
    for name in VOCABULARIES {
        let tokenizer = Tokenizer::from_gguf(&vocab(name)).unwrap();
        let inp = String::from_utf8(data(&format!("vocab/ggml-vocab-{name}.gguf.inp"))).unwrap();
        let out = String::from_utf8(data(&format!("vocab/ggml-vocab-{name}.gguf.out"))).unwrap();
        let texts: Vec<&str> = inp.split("\n__ggml_vocab_test__\n").collect();
        assert_eq!(out.lines().count(), 46, "{name}");
        for (text, line) in texts.iter().zip(out.lines()) {
            let expected: Vec<u32> =
                line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(tokenizer.encode(text, Special::None), expected, "{name}: {text:?}");
        }
    }
}

#[test]
fn hugging_face_components() {
    let (golden, texts) = (json("hf.json"), texts());
    for (name, expected) in golden.as_object().unwrap() {
        let tokenizer = Tokenizer::from_json(&data(&format!("hf/{name}.json")), None)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let file: Value = serde_json::from_slice(&data(&format!("hf/{name}.json"))).unwrap();
        let normalized: Vec<u32> = file["added_tokens"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|added| added["normalized"] == true)
            .map(|added| added["id"].as_u64().unwrap() as u32)
            .collect();
        for (at, text) in texts.iter().enumerate() {
            let parsed = tokenizer.encode(text, Special::Parse);
            assert_eq!(parsed, ids(&expected["parse"][at]), "{name}: {text:?}");
            let plain = tokenizer.encode(text, Special::None);
            assert_eq!(plain, ids(&expected["none"][at]), "{name}, plain: {text:?}");
            // Hugging Face decodes an added token that is looked for in normalised text to its
            // normal form; ours gives the token itself.
            if parsed.iter().any(|id| normalized.contains(id)) {
                continue;
            }
            let decoded = tokenizer.decode_text(&parsed, true);
            assert_eq!(decoded, expected["decoded"][at], "{name}: {parsed:?} of {text:?}");
        }
        for (text, start) in texts[4..].iter().zip(expected["start"].as_array().unwrap()) {
            // A text with its own start token is given no second one, unlike in Hugging Face.
            if !tokenizer.encode(text, Special::Parse).starts_with(tokenizer.start_ids())
                || tokenizer.start_ids().is_empty()
            {
                assert_eq!(tokenizer.encode_prompt(text), ids(start), "{name}: {text:?}");
            }
        }
    }
}

#[test]
fn sentencepiece_models() {
    let (golden, texts) = (json("sp.json"), texts());
    for (name, expected) in golden.as_object().unwrap() {
        let tokenizer = Tokenizer::from_sentencepiece(&data(&format!("sp/{name}.model")))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        for (text, expected) in texts.iter().zip(expected.as_array().unwrap()) {
            assert_eq!(tokenizer.encode(text, Special::None), ids(expected), "{name}: {text:?}");
        }
    }
}

#[test]
fn chat_templates() {
    let golden = json("chat.json");
    let cases = golden["cases"].as_array().unwrap();
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let template = String::from_utf8(data(&format!("chat/{name}.jinja"))).unwrap();
        let extra = chat::Extra {
            variables: case["variables"].as_object().unwrap().clone(),
            now: golden["now"].as_i64(),
        };
        let tools = Some(&case["tools"]).filter(|tools| !tools.is_null());
        let prompt = case["add_generation_prompt"].as_bool().unwrap();
        match (chat::render(&template, &case["messages"], tools, prompt, &extra), &case["text"]) {
            (Ok(text), Value::String(expected)) => assert_eq!(text, *expected, "{name}"),
            (Err(error), Value::Null) => {
                let raised = case["error"].as_str().unwrap();
                assert!(error.to_string().contains(raised), "{name}: {error}, not {raised}");
            }
            (got, expected) => panic!("{name}: {got:?}, not {expected:?}"),
        }
    }
    assert!(cases.len() >= 60);
}

/// GPT-2's tokens in the order of their ranks are a tiktoken file.
#[test]
fn tiktoken_ranks_give_the_ids_of_the_merges() {
    use base64::Engine;
    let by_merges = Tokenizer::from_gguf(&vocab("gpt-2")).unwrap();
    let ranks: String = (0..50_256)
        .map(|id| {
            let token = base64::engine::general_purpose::STANDARD.encode(by_merges.token_bytes(id));
            format!("{token} {id}\n")
        })
        .collect();
    let pattern =
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s";
    let special = [("<|endoftext|>", 50_256)];
    let by_ranks = Tokenizer::from_tiktoken(ranks.as_bytes(), pattern, &special).unwrap();
    for text in texts() {
        let expected = by_merges.encode(&text, Special::Parse);
        assert_eq!(by_ranks.encode(&text, Special::Parse), expected, "{text:?}");
    }
    assert!(by_ranks.is_end(50_256));
}

/// What is written loads again and gives the same ids and bytes.
#[test]
fn written_vocabularies_give_the_same_ids() {
    let mut all: Vec<(String, Tokenizer)> = VOCABULARIES
        .iter()
        .map(|name| (name.to_string(), Tokenizer::from_gguf(&vocab(name)).unwrap()))
        .collect();
    for name in json("sp.json").as_object().unwrap().keys().filter(|name| !name.contains("suffix"))
    {
        let model = Tokenizer::from_sentencepiece(&data(&format!("sp/{name}.model"))).unwrap();
        all.push((name.clone(), model));
    }
    for name in ["llama2-like", "bert", "llama3-like"] {
        let file = Tokenizer::from_json(&data(&format!("hf/{name}.json")), None).unwrap();
        all.push((name.to_owned(), file));
    }
    let texts: Vec<String> = texts().into_iter().filter(|text| !text.contains('<')).collect();
    for (name, tokenizer) in &all {
        let config = tokenizer.to_json_config();
        let by_json =
            Tokenizer::from_json(tokenizer.to_json().as_bytes(), Some(config.as_bytes())).unwrap();
        let mut written = vec![("json", by_json)];
        // GGUF has no field for a normaliser other than SentencePiece's and BERT's, nor for a
        // user-defined token inside a word, nor for the rules of single words.
        if !matches!(
            name.as_str(),
            "llama3-like" | "bpe" | "bert" | "unigram-bytes" | "llama2-like"
        ) {
            written.push(("gguf", Tokenizer::from_gguf(&tokenizer.to_gguf()).unwrap()));
        }
        for (form, again) in &written {
            assert_eq!(again.vocab_size(), tokenizer.vocab_size(), "{name} as {form}");
            assert_eq!(again.end_ids(), tokenizer.end_ids(), "{name} as {form}");
            // Hugging Face maps characters by grapheme, SentencePiece by longest prefix. It also
            // looks for a user-defined token with the space that `Prepend` puts before it.
            let by_grapheme = name == "unigram" && *form == "json";
            let user_defined = name == "bpe";
            let same = |text: &&String| {
                !(by_grapheme && !text.is_ascii()
                    || user_defined && (text.contains("word") || text.contains('▁')))
            };
            for text in texts.iter().filter(same) {
                let expected = tokenizer.encode(text, Special::None);
                assert_eq!(
                    again.encode(text, Special::None),
                    expected,
                    "{name} as {form}: {text:?}"
                );
                assert_eq!(
                    again.decode(&expected),
                    tokenizer.decode(&expected),
                    "{name} as {form}"
                );
            }
        }
    }
}

/// A xorshift generator: the same bytes in every run.
fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

#[test]
fn byte_level_bpe_gives_every_byte_back() {
    // MPT's and Falcon's vocabularies lack some bytes.
    let gpt2 = Tokenizer::from_gguf(&vocab("gpt-2")).unwrap();
    for seed in 0..200 {
        let bytes = random_bytes(seed, (seed * 7 % 600) as usize);
        assert_eq!(gpt2.decode(&gpt2.encode(&bytes, Special::None)), bytes, "seed {seed}");
    }
    let phi = Tokenizer::from_gguf(&vocab("phi-3")).unwrap();
    for seed in 0..200 {
        let bytes = random_bytes(seed, 300);
        assert_eq!(phi.decode(&phi.encode(&bytes, Special::None)), bytes, "byte fallback, {seed}");
    }
}

/// A megabyte without a place to cut: quadratic work would take hours.
#[test]
fn a_megabyte_of_one_character_is_encoded() {
    for name in VOCABULARIES {
        let tokenizer = Tokenizer::from_gguf(&vocab(name)).unwrap();
        for unit in ["a", " ", "\n", "1", "!", "\u{301}", "你", " a", "<"] {
            let text = unit.repeat((1 << 20) / unit.len());
            let ids = tokenizer.encode(&text, Special::Parse);
            if tokenizer.kind() != llmos_tokenizer::VocabKind::WordPiece {
                assert_eq!(tokenizer.decode(&ids), text.as_bytes(), "{name}, {unit:?}");
            }
        }
    }
}

#[test]
fn a_stream_gives_the_text_of_the_whole() {
    let tokenizer = Tokenizer::from_gguf(&vocab("gpt-2")).unwrap();
    for text in texts() {
        let mut decoder = tokenizer.decoder();
        let mut streamed = String::new();
        for id in tokenizer.encode(&text, Special::None) {
            streamed.push_str(&decoder.push(id));
        }
        streamed.push_str(&decoder.flush());
        assert_eq!(streamed, text);
    }
}

#[test]
fn start_tokens_and_ends() {
    let phi = Tokenizer::from_gguf(&vocab("phi-3")).unwrap();
    assert_eq!(phi.encode_prompt("<|user|>\n hi<|end|>"), [1, 32010, 7251, 32007]);
    assert_eq!(phi.encode_prompt("<s>hi"), phi.encode_prompt("hi"));
    assert!(phi.is_end(32000) && phi.is_end(32007) && !phi.is_end(1));
    assert!(phi.is_special(1) && !phi.is_special(7251));
    let bert = Tokenizer::from_gguf(&vocab("bert-bge")).unwrap();
    assert_eq!(bert.encode_prompt("hello"), [101, 7592, 102]);
    assert_eq!(bert.decode_text(&[101, 7592, 1010, 2088, 102], true), "hello, world");
    let gpt2 = Tokenizer::from_gguf(&vocab("gpt-2")).unwrap();
    assert_eq!(gpt2.encode_prompt("hello"), [31373]);
    assert_eq!(gpt2.token_id("<|endoftext|>"), Some(50_256));
}
