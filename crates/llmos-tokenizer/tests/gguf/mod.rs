//! A reader of the metadata that a vocabulary-only GGUF file holds; for tests alone.

use llmos_tokenizer::GgufVocab;

/// The vocabulary of a GGUF file that is known to be sound.
pub(crate) fn read_vocab(file: &[u8]) -> GgufVocab {
    let mut reader = Reader { file, at: 0 };
    assert_eq!(reader.take(4), b"GGUF", "magic");
    let version = reader.u32();
    assert!((2..=3).contains(&version), "version {version}");
    let _n_tensors = reader.u64();
    let n_keys = reader.u64();
    let mut vocab = GgufVocab::default();
    for _ in 0..n_keys {
        let key = reader.string();
        let kind = reader.u32();
        let value = reader.value(kind);
        fill(&mut vocab, &key, value);
    }
    vocab
}

enum Value {
    Number(f64),
    Text(String),
    Numbers(Vec<f64>),
    Texts(Vec<String>),
}

impl Value {
    fn number(self) -> f64 {
        match self {
            Value::Number(number) => number,
            _ => panic!("a number was expected"),
        }
    }
    fn text(self) -> String {
        match self {
            Value::Text(text) => text,
            _ => panic!("a text was expected"),
        }
    }
    fn numbers(self) -> Vec<f64> {
        match self {
            Value::Numbers(numbers) => numbers,
            _ => panic!("numbers were expected"),
        }
    }
    fn texts(self) -> Vec<String> {
        match self {
            Value::Texts(texts) => texts,
            _ => panic!("texts were expected"),
        }
    }
}

fn fill(vocab: &mut GgufVocab, key: &str, value: Value) {
    let id = |value: Value| Some(value.number() as u32);
    let flag = |value: Value| Some(value.number() != 0.0);
    match key {
        "general.name" => vocab.model_name = Some(value.text()),
        "tokenizer.chat_template" => vocab.chat_template = Some(value.text()),
        "tokenizer.ggml.model" => vocab.model = value.text(),
        "tokenizer.ggml.pre" => vocab.pre = Some(value.text()),
        "tokenizer.ggml.tokens" => vocab.tokens = value.texts(),
        "tokenizer.ggml.merges" => vocab.merges = Some(value.texts()),
        "tokenizer.ggml.scores" => {
            vocab.scores = Some(value.numbers().into_iter().map(|n| n as f32).collect());
        }
        "tokenizer.ggml.token_type" => {
            vocab.token_types = Some(value.numbers().into_iter().map(|n| n as i32).collect());
        }
        "tokenizer.ggml.precompiled_charsmap" => {
            vocab.precompiled_charsmap =
                Some(value.numbers().into_iter().map(|n| n as i64 as u8).collect());
        }
        "tokenizer.ggml.bos_token_id" => vocab.bos = id(value),
        "tokenizer.ggml.eos_token_id" => vocab.eos = id(value),
        "tokenizer.ggml.eot_token_id" => vocab.eot = id(value),
        "tokenizer.ggml.eom_token_id" => vocab.eom = id(value),
        "tokenizer.ggml.unknown_token_id" => vocab.unk = id(value),
        "tokenizer.ggml.seperator_token_id" => vocab.sep = id(value),
        "tokenizer.ggml.padding_token_id" => vocab.pad = id(value),
        "tokenizer.ggml.cls_token_id" => vocab.cls = id(value),
        "tokenizer.ggml.mask_token_id" => vocab.mask = id(value),
        "tokenizer.ggml.add_bos_token" => vocab.add_bos = flag(value),
        "tokenizer.ggml.add_eos_token" => vocab.add_eos = flag(value),
        "tokenizer.ggml.add_sep_token" => vocab.add_sep = flag(value),
        "tokenizer.ggml.add_space_prefix" => vocab.add_space_prefix = flag(value),
        "tokenizer.ggml.remove_extra_whitespaces" => {
            vocab.remove_extra_whitespaces = flag(value);
        }
        _ => {}
    }
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        self.at += len;
        &self.file[self.at - len..self.at]
    }
    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("N bytes")
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
    fn string(&mut self) -> String {
        let len = self.u64() as usize;
        String::from_utf8_lossy(self.take(len)).into_owned()
    }
    fn number(&mut self, kind: u32) -> f64 {
        match kind {
            0 | 7 => f64::from(self.take(1)[0]),
            1 => f64::from(self.take(1)[0] as i8),
            2 => f64::from(u16::from_le_bytes(self.array())),
            3 => f64::from(i16::from_le_bytes(self.array())),
            4 => f64::from(self.u32()),
            5 => f64::from(i32::from_le_bytes(self.array())),
            6 => f64::from(f32::from_le_bytes(self.array())),
            10 => self.u64() as f64,
            11 => i64::from_le_bytes(self.array()) as f64,
            12 => f64::from_le_bytes(self.array()),
            other => panic!("value type {other}"),
        }
    }
    fn value(&mut self, kind: u32) -> Value {
        match kind {
            8 => Value::Text(self.string()),
            9 => {
                let (kind, count) = (self.u32(), self.u64());
                if kind == 8 {
                    Value::Texts((0..count).map(|_| self.string()).collect())
                } else {
                    Value::Numbers((0..count).map(|_| self.number(kind)).collect())
                }
            }
            kind => Value::Number(self.number(kind)),
        }
    }
}
