//! A large language model is two files: the parameters, and a program that runs them. This is the
//! second one, with nothing but the standard library:
//!
//!     rustc -O run.rs
//!     ./run MODEL.gguf "Once upon a time" [TOKENS [TEMPERATURE [TOP_P [SEED]]]]
//!
//! It reads GGUF files of the Llama and Qwen3 families with F32, F16 or Q8_0 tensors. It computes
//! in f32 and naively, so that it can be believed: faster programs are checked against this one.
//! Chapters: 1 the file, 2 the tokenizer, 3 the transformer, 4 the sampler, 5 the loop.
//!
//! Shapes in comments: C channels of the model, F of the feed-forward network, H heads, K key-value
//! heads, D channels of a head, T tokens so far, V vocabulary. Matrices are (out, in), row by row.

use std::{collections::HashMap, io::Write};

type Result<T> = std::result::Result<T, String>;

// Chapter 1. The file ---------------------------------------------------------------------------
// GGUF is a header, named metadata (numbers, texts, lists), a table of named tensors, and the bytes
// of those tensors. A file may be cut short or lie: each size is checked against what is there.

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(n).ok_or("the file ends before its contents do")?;
    *rest = after;
    Ok(taken)
}

/// A number of one of GGUF's types, as f64: exact for whatever a sound file counts.
fn value(rest: &mut &[u8], kind: usize) -> Result<f64> {
    let size = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8].get(kind).copied().unwrap_or(0);
    let mut bytes = [0; 8];
    bytes[..size].copy_from_slice(take(rest, size)?);
    let bits = u64::from_le_bytes(bytes);
    match kind {
        0 | 2 | 4 | 7 | 10 => Ok(bits as f64),
        1 | 3 | 5 | 11 => Ok(((bits << (64 - 8 * size)) as i64 >> (64 - 8 * size)) as f64),
        6 => Ok(f32::from_bits(bits as u32).into()),
        12 => Ok(f64::from_bits(bits)),
        _ => Err(format!("the file has a number of the unknown type {kind}")),
    }
}

fn size(rest: &mut &[u8], kind: usize) -> Result<usize> {
    Ok(value(rest, kind)? as usize)
}

fn text(rest: &mut &[u8]) -> Result<String> {
    let length = size(rest, 10)?;
    Ok(String::from_utf8_lossy(take(rest, length)?).into_owned())
}

#[derive(Default)] // in the metadata, a single value is a list of one
struct Gguf<'a> {
    numbers: HashMap<String, Vec<f64>>,
    texts: HashMap<String, Vec<String>>,
    tensors: HashMap<String, Tensor<'a>>,
}

impl<'a> Gguf<'a> {
    fn read(bytes: &'a [u8]) -> Result<Gguf<'a>> {
        let (rest, mut file, mut table) = (&mut &*bytes, Gguf::default(), Vec::new());
        if take(rest, 4)? != b"GGUF" || !matches!(size(rest, 4)?, 2 | 3) {
            return Err("this is not a GGUF file of version 2 or 3".into());
        }
        let (n_tensors, n_values) = (size(rest, 10)?, size(rest, 10)?);
        for _ in 0..n_values {
            let (key, kind) = (text(rest)?, size(rest, 4)?);
            let groups = ["llama.", "qwen3.", "tokenizer.ggml."];
            let key = groups.iter().fold(&*key, |key, group| key.trim_start_matches(group)).into();
            let (kind, n) = if kind == 9 { (size(rest, 4)?, size(rest, 10)?) } else { (kind, 1) };
            // Lists grow as they are read: a length that lies meets the end of the file.
            if kind == 8 {
                file.texts.insert(key, (0..n).map(|_| text(rest)).collect::<Result<_>>()?);
            } else {
                file.numbers.insert(key, (0..n).map(|_| value(rest, kind)).collect::<Result<_>>()?);
            }
        }
        for _ in 0..n_tensors {
            let (name, n_dims) = (text(rest)?, size(rest, 4)?);
            let mut dims = [1; 2]; // (columns, rows): what lies side by side is named first
            for i in 0..n_dims {
                *dims.get_mut(i).ok_or("a tensor has three dimensions")? = size(rest, 10)?;
            }
            table.push((name, dims, size(rest, 4)?, size(rest, 10)?));
        }
        let alignment = file.count("general.alignment", Some(32))?.max(1);
        let start = (bytes.len() - rest.len()).next_multiple_of(alignment);
        for (name, [cols, rows], kind, offset) in table {
            let row_bytes = match kind {
                0 => cols.saturating_mul(4),
                1 => cols.saturating_mul(2),
                8 if cols % 32 == 0 => (cols / 32).saturating_mul(34),
                _ => return Err(format!("{name} is of type {kind}, not F32, F16 or Q8_0")),
            };
            let from = start.saturating_add(offset);
            let to = from.saturating_add(rows.saturating_mul(row_bytes));
            let data = bytes.get(from..to).filter(|data| !data.is_empty());
            let data = data.ok_or_else(|| format!("{name} ({rows}, {cols}) is not in the file"))?;
            file.tensors.insert(name, Tensor { kind, rows, cols, data });
        }
        Ok(file)
    }

    fn number(&self, key: &str, default: Option<f64>) -> Result<f64> {
        match (self.numbers.get(key).map(Vec::as_slice), default) {
            (Some(&[number]), _) | (None, Some(number)) => Ok(number),
            _ => Err(format!("the metadata has no single number {key}")),
        }
    }

    fn count(&self, key: &str, default: Option<usize>) -> Result<usize> {
        let number = self.number(key, default.map(|n| n as f64))?;
        let count = Some(number as usize).filter(|n| *n as f64 == number && *n < 1 << 30);
        count.ok_or_else(|| format!("{key} cannot be {number}"))
    }

    fn texts(&self, key: &str) -> Result<&[String]> {
        self.texts.get(key).map(Vec::as_slice).ok_or_else(|| format!("the metadata lacks {key}"))
    }

    fn tensor(&self, name: &str, rows: usize, cols: usize) -> Result<&Tensor<'a>> {
        match self.tensors.get(name) {
            Some(tensor) if (tensor.rows, tensor.cols) == (rows, cols) => Ok(tensor),
            Some(t) => Err(format!("{name} is ({}, {}), not ({rows}, {cols})", t.rows, t.cols)),
            None => Err(format!("the file lacks the tensor {name}")),
        }
    }
}

/// A matrix as it lies in the file, decoded row by row when it is needed.
struct Tensor<'a> {
    kind: usize, // 0: F32, 1: F16, 8: Q8_0, which is blocks of an F16 scale and 32 signed bytes
    rows: usize,
    cols: usize,
    data: &'a [u8],
}

impl Tensor<'_> {
    fn row(&self, row: usize) -> Vec<f32> {
        let data = self.data.chunks_exact(self.data.len() / self.rows).nth(row).unwrap_or(&[]);
        let mut values = Vec::with_capacity(self.cols);
        let f32_bytes = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        match self.kind {
            0 => values.extend(data.chunks_exact(4).map(f32_bytes)),
            1 => values.extend(data.chunks_exact(2).map(f16_to_f32)),
            _ => data.chunks_exact(34).for_each(|block| {
                let scale = f16_to_f32(block);
                values.extend(block[2..].iter().map(|byte| scale * f32::from(*byte as i8)));
            }),
        }
        values
    }

    /// This matrix times x: (rows, cols) and (cols) give (rows).
    fn times(&self, x: &[f32]) -> Vec<f32> {
        (0..self.rows).map(|i| dot(&self.row(i), x)).collect()
    }
}

/// Half precision has 5 bits of exponent for f32's 8, and 10 of fraction for its 23.
fn f16_to_f32(bytes: &[u8]) -> f32 {
    let bits = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let (sign, digits) = ((bits & 0x8000) << 16, bits & 0x7fff);
    // Exponents count from -127 instead of -15: times 2^112, which is right for subnormals too.
    let finite = f32::from_bits(digits << 13) * f32::from_bits((127 + 112) << 23);
    let infinite = 0x7f80_0000 | digits << 13; // or not a number
    f32::from_bits(sign | if digits < 0x7c00 { finite.to_bits() } else { infinite })
}

// Chapter 2. The tokenizer ----------------------------------------------------------------------
// A model reads and writes the numbers of pieces of text. A piece is built by joining neighbours:
// SentencePiece ("llama") first joins what gives the piece with the best score; byte-level BPE
// ("gpt2") spells bytes as letters, splits text into words, and joins in the order of a list.

struct Tokenizer<'a> {
    pieces: &'a [String],         // (V), as the vocabulary spells them
    kinds: Vec<usize>,            // (V): 2 unknown, 3 control, 4 user's, 6 byte, others normal
    ids: HashMap<&'a str, usize>, // piece to its number
    joins: HashMap<&'a str, f64>, // a joined piece to its score; byte-level: "left right" to -rank
    letters: Vec<char>,           // (256): how bytes are spelt; empty for SentencePiece
    digits: usize,                // in a word: 3 in Llama 3, 1 in Qwen 2, no limit in GPT-2
    space: bool,                  // text begins with a space that nobody wrote
    start: Option<usize>,         // the token that comes before every text
    ends: [usize; 2],             // tokens that end a text
}

impl<'a> Tokenizer<'a> {
    fn read(file: &'a Gguf) -> Result<Tokenizer<'a>> {
        let model = file.texts("model")?.concat();
        let pre = file.texts("pre").unwrap_or(&[]).concat();
        let (digits, starts) = match (&*model, &*pre) {
            ("llama", _) => (0, 1),
            ("gpt2", "gpt-2" | "default" | "") => (usize::MAX, 0),
            ("gpt2", "llama-bpe") => (3, 1),
            ("gpt2", "qwen2") => (1, 0),
            _ => return Err(format!("this program has no tokenizer {model:?} with rule {pre:?}")),
        };
        let pieces = file.texts("tokens")?;
        let n = pieces.len();
        let wrong = "the tokenizer has no token_type or no scores, one for each of its tokens";
        let list = |name| file.numbers.get(name).filter(|list| list.len() == n).ok_or(wrong);
        let kinds: Vec<_> = list("token_type")?.iter().map(|kind| *kind as usize).collect();
        let (mut joins, mut letters) = (HashMap::new(), Vec::new());
        if model == "llama" {
            let scores = list("scores")?;
            let normal = (0..n).filter(|id| !matches!(kinds[*id], 2 | 3 | 6));
            joins.extend(normal.map(|id| (&*pieces[id], scores[id])));
        } else {
            let merges = file.texts("merges")?;
            joins.extend(merges.iter().zip(0..).map(|(join, i)| (&**join, -f64::from(i))));
            let visible = |b| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
            let mut others = '\u{100}'..;
            let spell = |b: u8| if visible(b) { Some(b.into()) } else { others.next() };
            letters.extend((0..=255).filter_map(spell));
        }
        let ids = pieces.iter().map(|piece| &**piece).zip(0..).collect();
        let count = |name, default| file.count(name, Some(default));
        let ends = [count("eos_token_id", n)?, count("eot_token_id", n)?];
        let starts = count("add_bos_token", starts)? != 0;
        let start = Some(count("bos_token_id", n)?).filter(|id| starts && *id < n);
        let space = count("add_space_prefix", usize::from(model == "llama"))? != 0;
        Ok(Tokenizer { pieces, kinds, ids, joins, letters, digits, space, start, ends })
    }

    fn encode(&self, text: &str) -> Result<Vec<usize>> {
        let mut tokens: Vec<usize> = self.start.into_iter().collect();
        let space = if self.space && !text.is_empty() { " " } else { "" };
        let text: Vec<char> = space.chars().chain(text.chars()).collect();
        let mut rest = &text[..];
        while !rest.is_empty() {
            let byte_level = !self.letters.is_empty();
            let length = if byte_level { self.first_word(rest) } else { rest.len() };
            let mut word: String = rest[..length].iter().collect();
            rest = &rest[length..];
            word = match byte_level {
                true => word.bytes().map(|byte| self.letters[usize::from(byte)]).collect(),
                false => word.replace(' ', "▁"),
            };
            // Llama 3 takes a word whole, if the vocabulary has it, whatever the list says.
            let whole = self.digits == 3 && self.ids.contains_key(&*word);
            for piece in if whole { vec![word] } else { self.join(&word) } {
                if let Some(id) = self.ids.get(&*piece) {
                    tokens.push(*id);
                    continue;
                }
                for byte in piece.bytes() {
                    let id = self.ids.get(&*format!("<0x{byte:02X}>")).copied();
                    let id = id.or_else(|| self.kinds.iter().position(|kind| *kind == 2));
                    tokens.push(id.ok_or_else(|| format!("no token writes {piece:?}"))?);
                }
            }
        }
        Ok(tokens)
    }

    /// Joins neighbours, the best scored first (of equals the leftmost), while any may be joined.
    fn join(&self, word: &str) -> Vec<String> {
        let glue = if self.letters.is_empty() { "" } else { " " };
        let score = |pair: &[String]| self.joins.get(&*pair.join(glue)).copied();
        let mut pieces: Vec<String> = word.chars().map(String::from).collect();
        loop {
            let scores = pieces.windows(2).map(score).zip(0..).filter_map(|(s, i)| Some((s?, i)));
            let Some((_, i)) = scores.min_by(|a, b| b.0.total_cmp(&a.0)) else { return pieces };
            let right = pieces.remove(i + 1);
            pieces[i] += &right;
        }
    }

    /// The length of the first word: the branches of the original's regular expression, in order.
    fn first_word(&self, text: &[char]) -> usize {
        let class = |c: &char| match c {
            '\r' | '\n' => 'n',
            c if c.is_whitespace() => 's',
            c if c.is_numeric() => 'd',
            c if c.is_alphabetic() => 'l', // close to \p{L}: it counts Indic vowel signs too
            _ => 'p',
        };
        let run = |from: usize, classes: &str| {
            from + text[from..].iter().take_while(|c| classes.contains(class(c))).count()
        };
        let newer = self.digits <= 3; // knows no case in 's and 'll, and cares about lines
        let lower = |c: &char| if newer { c.to_ascii_lowercase() } else { *c };
        let head: String = text.iter().take(3).map(lower).collect();
        let tails = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];
        if let Some(tail) = tails.iter().find(|tail| head.starts_with(**tail)) {
            return tail.len();
        }
        let space = usize::from(text[0] == ' ');
        let sign = usize::from("sp".contains(class(&text[0])));
        let (sign, digit) = if newer { (sign, 0) } else { (space, space) };
        let (letters, digits) = (run(sign, "l"), run(digit, "d"));
        let (signs, blanks) = (run(space, "p"), run(0, "sn"));
        match text[..blanks].iter().rposition(|c| newer && class(c) == 'n') {
            _ if letters > sign => letters,
            _ if digits > digit => digits.min(self.digits),
            _ if signs > space => run(signs, if newer { "n" } else { "" }),
            Some(newline) => newline + 1,
            None if blanks == text.len() || blanks == 1 => blanks,
            None => blanks - 1, // the last one belongs to the next word
        }
    }

    /// The bytes that a token writes; they may be a part of a character.
    fn decode(&self, token: usize) -> Vec<u8> {
        let piece = &self.pieces[token];
        let unspell = |c| self.letters.iter().position(|l| *l == c).map(|byte| byte as u8);
        match self.kinds[token] {
            2 | 3 => Vec::new(),
            6 => u8::from_str_radix(piece.get(3..5).unwrap_or(""), 16).into_iter().collect(),
            kind if kind == 4 || self.letters.is_empty() => piece.replace('▁', " ").into_bytes(),
            _ => piece.chars().filter_map(unspell).collect(),
        }
    }
}

// Chapter 3. The transformer --------------------------------------------------------------------
// A token becomes a vector; each layer adds to it what attention finds among the tokens before, and
// what the feed-forward network makes of that; the head compares it with every token there is.

/// Reads one token more and gives the logits (V) of the token after it. The memory holds, for each
/// layer, the keys and the values of the tokens so far, (T, K*D) each.
fn forward(file: &Gguf, memory: &mut Vec<[Vec<f32>; 2]>, token: usize) -> Result<Vec<f32>> {
    let family = file.texts("general.architecture")?.concat();
    let qwen = family == "qwen3";
    let (c, f) = (file.count("embedding_length", None)?, file.count("feed_forward_length", None)?);
    let (v, h) = (file.texts("tokens")?.len(), file.count("attention.head_count", None)?);
    let k = file.count("attention.head_count_kv", Some(h))?;
    let d = file.count("attention.key_length", c.checked_div(h))?;
    let fits = h * k > 0 && h % k + d % 2 == 0 && file.count("rope.dimension_count", Some(d))? == d;
    // What this program does not know must not be left out in silence.
    let bias = file.tensors.keys().find(|name| !name.ends_with(".weight"));
    let scaling = file.texts("rope.scaling.type").unwrap_or(&[]).concat();
    let known = (qwen || family == "llama") && bias.is_none() && matches!(&*scaling, "" | "none");
    let window = file.count("attention.sliding_window", Some(0))?;
    if !fits || !known || window > 0 {
        let heads = format!("{h}/{k} heads of {d}, window {window}");
        return Err(format!("cannot run {family}, {heads}, {scaling:?} RoPE, {bias:?}"));
    }
    let epsilon = file.number("attention.layer_norm_rms_epsilon", None)? as f32;
    let base = file.number("rope.freq_base", Some(1e4))? as f32;
    let slower = match file.tensors.contains_key("rope_freqs.weight") {
        true => file.tensor("rope_freqs.weight", 1, d / 2)?.row(0), // (D/2), Llama 3
        false => Vec::new(),
    };
    let embedding = file.tensor("token_embd.weight", v, c)?;
    let mut x = embedding.row(token); // (C)
    for i in 0..file.count("block_count", None)? {
        let weight = |name, out, cols| file.tensor(&format!("blk.{i}.{name}.weight"), out, cols);
        let norm = |name, x: &[f32]| weight(name, 1, x.len()).map(|w| rmsnorm(x, w, epsilon));
        let inner = norm("attn_norm", &x)?; // (C)
        let mut query = weight("attn_q", h * d, c)?.times(&inner); // (H*D)
        let mut key = weight("attn_k", k * d, c)?.times(&inner); // (K*D)
        memory.resize(memory.len().max(i + 1), Default::default());
        let [keys, values] = &mut memory[i];
        let position = keys.len() / (k * d); // T
        for (heads, name) in [(&mut query, "attn_q_norm"), (&mut key, "attn_k_norm")] {
            for head in heads.chunks_mut(d) {
                if qwen {
                    head.copy_from_slice(&norm(name, head)?);
                }
                rotate(head, position as f32, base, &slower, qwen);
            }
        }
        keys.extend(key);
        values.extend(weight("attn_v", k * d, c)?.times(&inner));
        let mut found = vec![0.0; h * d]; // (H*D)
        for (i, (query, found)) in query.chunks(d).zip(found.chunks_mut(d)).enumerate() {
            let shared = i / (h / k) * d; // where the keys and values of this head begin
            let near = |key: &[f32]| dot(query, &key[shared..][..d]) / (d as f32).sqrt();
            let mut weights: Vec<f32> = keys.chunks(k * d).map(near).collect(); // (T)
            softmax(&mut weights);
            for (weight, value) in weights.iter().zip(values.chunks(k * d)) {
                add(found, &value[shared..][..d], *weight);
            }
        }
        add(&mut x, &weight("attn_output", c, h * d)?.times(&found), 1.0);
        let inner = norm("ffn_norm", &x)?; // (C)
        let mut gate = weight("ffn_gate", f, c)?.times(&inner); // (F)
        let up = weight("ffn_up", f, c)?.times(&inner); // (F)
        gate.iter_mut().zip(up).for_each(|(g, u)| *g = *g / (1.0 + (-*g).exp()) * u); // SwiGLU
        add(&mut x, &weight("ffn_down", c, f)?.times(&gate), 1.0);
    }
    let tied = !file.tensors.contains_key("output.weight");
    let head = if tied { embedding } else { file.tensor("output.weight", v, c)? };
    Ok(head.times(&rmsnorm(&x, file.tensor("output_norm.weight", 1, c)?, epsilon)))
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 16]; // side by side, for the processor to add at once
    for (a, b) in a.chunks(16).zip(b.chunks(16)) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum()
}

fn add(x: &mut [f32], y: &[f32], weight: f32) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += weight * y);
}

fn softmax(x: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    x.iter_mut().for_each(|x| *x = (*x - max).exp());
    let sum: f32 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= sum);
}

fn rmsnorm(x: &[f32], weight: &Tensor, epsilon: f32) -> Vec<f32> {
    let scale = 1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt();
    x.iter().zip(weight.row(0)).map(|(x, w)| x * scale * w).collect()
}

/// RoPE: turns pairs of channels, Llama's (2i, 2i + 1) or Qwen's (i, i + D/2), by their angles.
fn rotate(head: &mut [f32], position: f32, base: f32, slower: &[f32], qwen: bool) {
    let half = head.len() / 2;
    for i in 0..half {
        let frequency = base.powf(-(i as f32) / half as f32) / slower.get(i).unwrap_or(&1.0);
        let (sin, cos) = (position * frequency).sin_cos();
        let (a, b) = if qwen { (i, i + half) } else { (2 * i, 2 * i + 1) };
        (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
    }
}

// Chapter 4. The sampler ------------------------------------------------------------------------
// Temperature sharpens (below 1) or flattens the distribution, and 0 takes the likeliest token;
// top-p draws among the likeliest, as few as have this probability together.

fn sample(mut logits: Vec<f32>, temperature: f32, top_p: f32, seed: &mut u64) -> Result<usize> {
    if logits.iter().any(|logit| !logit.is_finite()) {
        return Err("the logits are not finite numbers: broken parameters".into());
    }
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a])); // stable: of equals the first
    logits.iter_mut().for_each(|logit| *logit /= temperature.max(1e-6));
    softmax(&mut logits); // now probabilities
    let (mut n, mut kept) = (0, 0.0);
    while n < order.len() && kept < top_p && temperature > 0.0 {
        kept += logits[order[n]];
        n += 1;
    }
    // SplitMix64 (Steele, Lea, Flood 2014); its upper 24 bits are a fraction of one.
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let mut left = ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32 * kept;
    let drawn = order[..n].iter().find(|id| {
        left -= logits[**id];
        left < 0.0
    });
    Ok(*drawn.unwrap_or(&order[n.saturating_sub(1)]))
}

// Chapter 5. The loop ---------------------------------------------------------------------------
// Read the prompt; then draw a token, write it, read it, and so on.

fn run() -> Result<()> {
    let args: Vec<_> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let [_, path, prompt, options @ ..] = &args[..] else {
        return Err("usage: run MODEL.gguf PROMPT [TOKENS [TEMPERATURE [TOP_P [SEED]]]]".into());
    };
    let option = |i: usize, default| {
        let text = options.get(i).map_or(default, String::as_str);
        text.parse::<f64>().map_err(|error| format!("{text:?}: {error}"))
    };
    let (n_tokens, temperature) = (option(0, "256")? as usize, option(1, "0.8")? as f32);
    let (top_p, mut seed) = (option(2, "0.95")? as f32, option(3, "0")? as u64);
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let file = Gguf::read(&bytes)?;
    let tokenizer = Tokenizer::read(&file)?;
    let mut tokens = tokenizer.encode(prompt)?;
    let (context, n) = (file.count("context_length", None)?, tokens.len());
    if n == 0 || n > context {
        return Err(format!("the prompt has {n} tokens, the model reads 1 to {context}"));
    }
    let (start, mut out, mut memory) = (std::time::Instant::now(), std::io::stdout(), Vec::new());
    eprint!("{prompt}");
    for i in 0..context.min(n.saturating_add(n_tokens)) - 1 {
        let logits = forward(&file, &mut memory, tokens[i])?;
        if i + 1 < tokens.len() {
            continue; // still reading the prompt
        }
        let token = sample(logits, temperature, top_p, &mut seed)?;
        if tokenizer.ends.contains(&token) {
            break;
        }
        let text = tokenizer.decode(token);
        let skip = i == 0 && prompt.is_empty() && tokenizer.space && text.starts_with(b" ");
        let done = out.write_all(&text[usize::from(skip)..]).and_then(|()| out.flush());
        done.map_err(|error| format!("standard output: {error}"))?;
        tokens.push(token);
    }
    eprintln!("\n{:.1} tokens a second", tokens.len() as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

fn main() {
    if let Err(error) = run() {
        eprintln!("run: {error}");
        std::process::exit(2);
    }
}
