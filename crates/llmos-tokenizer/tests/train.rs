//! Training against golden files: a reference vocabulary of Stanford's CS336, vocabularies that
//! `testdata/tokenizer-train/make.py` learnt by the definition, and the ids that Hugging Face
//! tokenizers gives with the files that are written.
#![allow(clippy::unwrap_used, reason = "golden files have the shape that their generator gives")]

use std::num::NonZero;
use std::path::{Path, PathBuf};

use llmos_tokenizer::train::{BpeOptions, BpeTrainer, CharOptions, CharTrainer, Trained};
use llmos_tokenizer::{Error, Special, Tokenizer};
use serde_json::Value;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tokenizer-train").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn json(name: &str) -> Value {
    serde_json::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn options(vocab_size: usize, pattern: &str, special: &[&str]) -> BpeOptions {
    BpeOptions {
        vocab_size,
        pattern: pattern.into(),
        special: special.iter().map(|&text| text.into()).collect(),
        threads: NonZero::new(2).expect("not zero"),
        memory: 512 << 20,
    }
}

fn train(options: BpeOptions, text: &str) -> Trained {
    let mut trainer = BpeTrainer::new(options).expect("the options are sound");
    trainer.push(text);
    trainer.train(&mut |_, _| {}).expect("there is a text")
}

#[test]
fn the_reference_of_cs336_is_reproduced() {
    let trained = train(options(500, "gpt2", &["<|endoftext|>"]), &read("corpus.en"));
    let file: Value = serde_json::from_str(&trained.json).expect("JSON");
    let merges: Vec<String> = file["model"]["merges"]
        .as_array()
        .expect("merges")
        .iter()
        .map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
        .collect();
    let expected = read("train-bpe-reference-merges.txt");
    assert_eq!(merges, expected.lines().collect::<Vec<_>>());
    let vocab = json("train-bpe-reference-vocab.json");
    let vocab = vocab.as_object().expect("a map");
    assert_eq!(vocab.len(), trained.tokenizer.vocab_size());
    for (name, id) in vocab {
        assert_eq!(&trained.tokenizer.token_name(id.as_u64().unwrap() as u32), name);
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn files_are_the_golden_ones_and_ids_are_those_of_hugging_face() {
    let golden = json("golden/ids.json");
    let texts = strings(&golden["texts"]);
    for (name, case) in golden["cases"].as_object().expect("cases") {
        let corpus = read(case["corpus"].as_str().unwrap());
        let special = strings(&case["special"]);
        let trained = match case["pattern"].as_str() {
            Some(pattern) => {
                let special: Vec<&str> = special.iter().map(String::as_str).collect();
                let vocab_size = case["vocab_size"].as_u64().unwrap() as usize;
                train(options(vocab_size, pattern, &special), &corpus)
            }
            None => {
                let mut trainer =
                    CharTrainer::new(CharOptions { vocab_size: None, special }).unwrap();
                trainer.push(&corpus);
                trainer.train().unwrap()
            }
        };
        assert!(trained.json == read(&format!("golden/{name}.json")), "{name}: another file");
        let again = Tokenizer::from_json(trained.tokenizer.to_json().as_bytes(), None).unwrap();
        let cases = case["ids"].as_array().unwrap().iter().zip(strings(&case["decoded"]));
        for ((ids, decoded), text) in cases.zip(&texts) {
            let ids: Vec<u32> =
                ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            assert_eq!(trained.tokenizer.encode(text, Special::Parse), ids, "{name}: {text:?}");
            assert_eq!(trained.tokenizer.decode_text(&ids, false), decoded, "{name}: {text:?}");
            assert_eq!(again.encode(text, Special::Parse), ids, "{name}, written again: {text:?}");
        }
    }
}

/// Sentences of Chinese and English that differ from each other; `n` of them.
fn sentences(n: usize) -> String {
    let words =
        ["一只", "敏捷的", "棕色", "狐狸", "跳过了", "那条", "懒狗", "因为", "天气", "很好"];
    let mut text = String::new();
    // A linear congruence (Knuth's MMIX constants).
    let mut state = 1u64;
    for number in 0..n {
        for _ in 0..12 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text += words[(state >> 33) as usize % words.len()];
        }
        text += "。";
        text += &format!(" sentence {number}, it's the end<|endoftext|>\n");
    }
    text
}

#[test]
fn neither_threads_nor_parts_change_the_vocabulary() {
    // More than a round, and more distinct words than the memory holds.
    let text = sentences(120_000);
    let special = &["<|endoftext|>"];
    let with = |threads: usize, part: usize| {
        let threads = NonZero::new(threads).expect("not zero");
        let options = BpeOptions { threads, memory: 128 << 20, ..options(700, "qwen2", special) };
        let mut trainer = BpeTrainer::new(options).unwrap();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.ceil_char_boundary(part.min(rest.len())));
            trainer.push(now);
            rest = later;
        }
        trainer.train(&mut |_, _| {}).unwrap()
    };
    let expected = with(1, text.len());
    assert!(expected.is_cut, "the test means to run out of memory");
    for (threads, part) in [(1, 1 << 16), (2, 1 << 20), (3, 12_345), (7, 1 << 22)] {
        let trained = with(threads, part);
        assert!(trained.json == expected.json, "{threads} threads, parts of {part}");
        assert_eq!(trained.bytes_per_token, expected.bytes_per_token);
    }
    // Pairs within the words are learnt although hardly a sentence occurs twice.
    let names: Vec<String> =
        (0..700).map(|id| expected.tokenizer.token_text(id)).filter(|t| t.len() > 5).collect();
    for word in ["狐狸", "敏捷的", "天气", "sentence"] {
        assert!(names.iter().any(|name| name.contains(word)), "{word} not in {names:?}");
    }
}

#[test]
fn words_end_where_texts_do() {
    let texts = |texts: &[&str]| {
        let mut trainer = BpeTrainer::new(options(300, "gpt2", &[])).unwrap();
        for text in texts {
            trainer.push(text);
            trainer.end_text();
        }
        trainer.train(&mut |_, _| {}).unwrap().tokenizer.vocab_size()
    };
    assert_eq!(texts(&["ab", "", "ab"]), 257);
    assert_eq!(texts(&["a", "b", "a", "b"]), 256);
}

#[test]
fn special_tokens_have_their_uses() {
    let trained = |special: &[&str]| train(options(300, "qwen2", special), "hello hello").tokenizer;
    let tokenizer = trained(&["<pad>", "<|endoftext|>", "<|user|>"]);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.pad()), (Some(1), Some(1), Some(0)));
    assert!(tokenizer.is_end(1) && tokenizer.is_special(2));
    let tokenizer = trained(&["<s>", "</s>"]);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.pad()), (Some(0), Some(1), None));
    let tokenizer = trained(&["<doc>"]);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(0), Some(0)));
    assert_eq!(trained(&[]).eos(), None);
    // Nothing is put around a text.
    assert_eq!(trained(&["<s>"]).encode_with_start("hello", Special::None).len(), 1);
}

#[test]
fn patterns_have_gguf_names_or_none() {
    let pre = |pattern: &str| {
        let trained = train(options(300, pattern, &[]), "hello hello 12");
        trained.tokenizer.to_gguf().pre
    };
    for (pattern, name) in
        [("qwen2", "qwen2"), ("gpt2", "gpt-2"), ("o200k", "gpt-4o"), ("deepseek-v3", "deepseek-v3")]
    {
        assert_eq!(pre(pattern).as_deref(), Some(name));
    }
    assert_eq!(pre(r"\w+|\W+"), None);
}

#[test]
fn characters_of_a_text_come_back_from_gguf_too() {
    let text = "To be, or not to be:\n\tthat is the \\question! 你好 ▁\u{1}\r";
    let mut trainer = CharTrainer::new(CharOptions::default()).unwrap();
    trainer.push(text);
    let trained = trainer.train().unwrap();
    let mut expected: Vec<char> = text.chars().collect();
    expected.sort_unstable();
    expected.dedup();
    let index = |c: char| expected.iter().position(|&other| other == c).unwrap() as u32;
    let ids: Vec<u32> = text.chars().map(index).collect();
    let written = trained.tokenizer.to_gguf();
    let gguf = Tokenizer::from_gguf(&written).unwrap();
    let folder = Tokenizer::from_json(gguf.to_json().as_bytes(), None).unwrap();
    for tokenizer in [&trained.tokenizer, &gguf, &folder] {
        assert_eq!(tokenizer.encode(text, Special::None), ids);
        assert_eq!(tokenizer.encode("Xo?é吗", Special::None), [index('o')]);
        assert_eq!(tokenizer.decode_text(&ids, false), text);
        assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.end_ids()), (None, None, &[][..]));
    }
    // By llama.cpp's rules too no character begins or ends a text, and none is unknown.
    assert_eq!((written.model.as_str(), written.bos, written.eos), ("rwkv", None, None));
    assert_eq!(written.tokens[index('\n') as usize], r"\n");
    assert_eq!(written.tokens[index('\\') as usize], r"\\");
    assert_eq!(written.tokens[index('\u{1}') as usize], r"\x01");
    assert_eq!(gguf.to_gguf(), written);

    // An embedding with more rows than there are characters.
    let mut padded = written.clone();
    padded.tokens.push("[PAD25]".into());
    padded.token_types.as_mut().unwrap().push(5);
    let gguf = Tokenizer::from_gguf(&padded).unwrap();
    let folder = Tokenizer::from_json(gguf.to_json().as_bytes(), None).unwrap();
    for tokenizer in [&gguf, &folder] {
        assert_eq!(tokenizer.encode(text, Special::None), ids);
        assert_eq!(tokenizer.decode_text(&ids, false), text);
    }
    assert_eq!(gguf.to_gguf(), padded);
}

#[test]
fn characters_with_an_end_are_written_as_pieces() {
    let special = vec!["<|endoftext|>".into()];
    let mut trainer = CharTrainer::new(CharOptions { vocab_size: None, special }).unwrap();
    trainer.push("a b!");
    let written = trainer.train().unwrap().tokenizer.to_gguf();
    assert_eq!((written.model.as_str(), written.bos, written.eos), ("llama", Some(4), Some(4)));
}

#[test]
fn what_cannot_be_is_an_error() {
    let bpe = |options: BpeOptions| BpeTrainer::new(options).map(|_| ());
    let malformed = |result: Result<(), Error>, words: &str| match result {
        Err(error @ (Error::Malformed { .. } | Error::Unsupported { .. })) => {
            assert!(error.to_string().contains(words), "{words:?} not in {error}");
        }
        other => panic!("{words}: {other:?}"),
    };
    malformed(bpe(options(257, "qwen2", &["<|endoftext|>"])), "more than 257");
    malformed(bpe(options(500, "qwen3000", &[])), "qwen3000");
    malformed(bpe(options(500, "", &[])), "pattern");
    malformed(bpe(options(500, "(", &[])), "regular expression");
    let least = BpeOptions::least_memory(500);
    let with = |memory| BpeOptions { memory, ..options(500, "qwen2", &[]) };
    malformed(bpe(with(least - 1)), "memory of 41 MiB or more");
    assert!(bpe(with(least)).is_ok());
    malformed(bpe(options(500, "gemma4", &[])), "gemma4");
    malformed(bpe(options(500, "qwen2", &[""])), "not empty");
    malformed(bpe(options(500, "qwen2", &["<a>", "<a>"])), "<a>");
    malformed(bpe(options(500, "qwen2", &["a"])), "named like");
    malformed(bpe(options(500, "qwen2", &["Ġthe"])), "named like");
    assert!(bpe(options(500, "qwen2", &["<｜end▁of▁sentence｜>", "the"])).is_ok());
    let nothing = BpeTrainer::new(options(500, "qwen2", &[])).unwrap().train(&mut |_, _| {});
    malformed(nothing.map(|_| ()), "a text");
    let characters = |vocab_size, special: &[&str], text: &str| {
        let special = special.iter().map(|&text| text.into()).collect();
        let mut trainer = CharTrainer::new(CharOptions { vocab_size, special })?;
        trainer.push(text);
        trainer.train().map(|_| ())
    };
    malformed(characters(None, &[], ""), "a text");
    malformed(characters(Some(4), &["<unk>"], "abcd"), "4 different characters, 1 special");
    malformed(characters(None, &["x"], "abc"), "more than one character");
    assert!(characters(Some(5), &["<unk>"], "abcd").is_ok());
}

#[test]
fn of_words_that_occur_once_some_stand_for_all() {
    // One word, which is counted in parts of a kilobyte: many times what the memory holds.
    let mut state = 1u64;
    let letters = (0..12 << 20).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005);
        state = state.wrapping_add(1_442_695_040_888_963_407);
        // The square favours some letters.
        char::from(b'a' + (((state >> 56).pow(2) * 26) >> 16) as u8)
    });
    let text: String = letters.collect();
    let all = train(options(1000, "qwen2", &[]), &text);
    let memory = BpeOptions::least_memory(1000);
    let some = train(BpeOptions { memory, ..options(1000, "qwen2", &[]) }, &text);
    assert_eq!((all.is_cut, some.is_cut), (false, true));
    let loss = all.bytes_per_token / some.bytes_per_token;
    assert!((0.99..1.01).contains(&loss), "{} and {}", all.bytes_per_token, some.bytes_per_token);
}

#[test]
fn lines_without_an_end_take_time_and_memory_in_proportion() {
    for line in ["a", "ab", "汉字", "\u{0}", "aGVsbGgdybGQ", " "] {
        let text = line.repeat((4 << 20) / line.len());
        let trained = train(options(400, "qwen2", &[]), &text);
        assert!(trained.bytes_per_token > 100.0, "{line:?}: {}", trained.bytes_per_token);
    }
}
