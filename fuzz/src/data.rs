//! Raw texts and prepared folders: what training reads.

use std::num::NonZero;
use std::sync::{Arc, LazyLock};

use llmos_tokenizer::Tokenizer;
use llmos_tokenizer::train::{CharOptions, CharTrainer};
use llmos_train::data::{
    Batch, BatchOptions, Batches, Dataset, Order, Place, Preparation, Quality, Source, Split,
    prepare, read_texts,
};

use super::scratch::Scratch;

/// Names of raw files: the first byte of an input says which, and whether broken rows are left out.
const NAMES: [&str; 6] = ["a.txt", "a.jsonl", "a.json", "a.txt.gz", "a.jsonl.zst", "a.md"];

/// A raw file of any kind but Parquet, whose library's panics on damage are caught.
pub fn raw_text(bytes: &[u8]) -> bool {
    let Some((&first, bytes)) = bytes.split_first() else { return false };
    // A Parquet file is known by its first bytes.
    if bytes.starts_with(b"PAR1") {
        return false;
    }
    let scratch = Scratch::new();
    let path = scratch.write(NAMES[first as usize / 2 % NAMES.len()], bytes);
    let preparation =
        Preparation { lossy: first % 2 == 1, ..Preparation::new(vec![Source::new(path)]) };
    let mut n_byte = 0;
    let mut take = |part: Option<&str>| n_byte += part.map_or(0, str::len);
    let read = read_texts(&preparation, true, &mut take, &mut |_| {}).is_ok();
    // Compressed bytes may be of any file, and expand; others hardly grow.
    let is_plain = ![&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd"].iter().any(|m| bytes.starts_with(m));
    let is_skippable = bytes.get(1..4) == Some(b"\x2a\x4d\x18");
    assert!(n_byte <= 4 * bytes.len() + 64 || !is_plain || is_skippable, "{n_byte} bytes");
    read
}

pub(crate) fn raw_text_seeds() -> Vec<Vec<u8>> {
    let seed = |first: u8, bytes: &[u8]| [&[first][..], bytes].concat();
    vec![
        seed(0, b"once upon\r\na time<|endoftext|>\n\xe4\xbd\xa0\xe5\xa5\xbd e\xcc\x81"),
        seed(1, b"once \xff upon\0"),
        seed(2, b"{\"text\": \"a\"}\n\n{\"text\": [\"b\", \"c\"]}\n\"d\"\n{\"t\": 1}"),
        seed(3, b"{\"text\": \"a\n{\"text\": \"b\"}\n"),
        seed(4, b"[{\"text\": \"a]\\\"\"}, {\"text\": {\"b\": []}}, \"c\"]"),
        seed(5, b"{\"text\": \"a\"}{\"text\":\n\"b\"} 1 null"),
        seed(
            6,
            b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xcb\xcfKNU(-\xc8\xcfSHT(\xc9\xccM\xe5\xca'(\x00\
              \x00G\x1e@\xb43\x00\x00\x00",
        ),
        seed(9, b"(\xb5/\xfd\x04X\xbd\x00\x00\x88once upon a time\n\x01\x00\xc9\x99K\xd9\xed\xbc\r"),
    ]
}

/// A tokenizer of letters.
fn tokenizer() -> Tokenizer {
    let mut trainer = CharTrainer::new(CharOptions::default()).expect("no options");
    trainer.push("abcdefghijklmnopqrstuvwxyz \n");
    trainer.train().expect("a text").tokenizer
}

/// The files of a small prepared folder, by name.
static FILES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let scratch = Scratch::new();
    let row = |n: usize| format!("{{\"text\": \"a text of the number {}\"}}\n", "x".repeat(n));
    let one: String = (0..20).map(row).collect();
    let sources = vec![
        Source { weight: Some(1.0), ..Source::new(scratch.write("a.jsonl", one.as_bytes())) },
        Source { weight: Some(2.0), ..Source::new(scratch.write("b.txt", b"once upon a time")) },
    ];
    let preparation = Preparation {
        quality: Quality::NONE,
        near_duplicates: None,
        threads: NonZero::<usize>::MIN,
        ..Preparation::new(sources)
    };
    let out = scratch.path().join("data");
    let place = Place::new(&out, false).expect("an empty place");
    prepare(&preparation, &tokenizer(), Vec::new(), place, &mut |_| {}).expect("sound texts");
    const NAMES: [&str; 6] = [
        "manifest.json",
        "train-00000.bin",
        "documents.bin",
        "validation.bin",
        "validation-documents.bin",
        "tokenizer.json",
    ];
    let read = |name: &str| std::fs::read(out.join(name)).expect("a prepared file");
    NAMES.map(|name| (name.to_string(), read(name))).to_vec()
});

/// A file of a prepared folder (the first byte says which) beside the others of a sound one.
pub fn prepared(bytes: &[u8]) -> bool {
    let Some((&first, bytes)) = bytes.split_first() else { return false };
    let scratch = Scratch::new();
    let damaged = first as usize % FILES.len();
    for (index, (name, sound)) in FILES.iter().enumerate() {
        scratch.write(name, if index == damaged { bytes } else { sound });
    }
    let Ok(dataset) = Dataset::open_unread(scratch.path()) else { return false };
    let dataset = Arc::new(dataset);
    let mut ids = [0; 5];
    for split in [Split::Train, Split::Validation] {
        for row in 0..dataset.n_row(split, 4).min(20) {
            let _ = dataset.read_row(split, row, &mut ids);
        }
        for token in 0..20 {
            let _ = dataset.origin(split, token);
        }
    }
    for order in [Order::Epochs, Order::Random, Order::Packed] {
        let options = BatchOptions { context: 4, batch: 3, seed: 1, order, documents: true };
        let Ok(batches) = Batches::new(dataset.clone(), options) else { continue };
        let mut batch = Batch::default();
        for step in [0, 1, 1 << 40] {
            if batches.fill(step, &mut batch).is_ok() {
                assert!(batch.tokens.iter().all(|&id| (id as usize) < dataset.vocab_size()));
            }
        }
        batches.epochs(100);
        batches.row_limit();
    }
    Dataset::open(scratch.path()).is_ok()
}

pub(crate) fn prepared_seeds() -> Vec<Vec<u8>> {
    let seed =
        |(index, (_, bytes)): (usize, &(String, Vec<u8>))| [&[index as u8][..], bytes].concat();
    FILES.iter().enumerate().map(seed).collect()
}
