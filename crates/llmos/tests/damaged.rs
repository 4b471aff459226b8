//! The bodies of the fuzz targets over damaged seeds: no panic, on the stable toolchain too.
//!
//! `LLMOS_FUZZ_CORPUS=DIR` writes the undamaged seeds there, for the fuzzer to start from.

#[allow(unreachable_pub, dead_code, reason = "a library of its own, in fuzz/")]
#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

use std::time::{Duration, Instant};

/// Damaged inputs of a target. A long run belongs to the fuzzer.
const ROUNDS: u64 = 400;
/// Time after which a target stops, rounds left or not: a debug build of a grammar is slow.
const ENOUGH: Duration = Duration::from_secs(4);

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// Near the beginning more often than not: that is where headers are.
    fn place(&mut self, length: usize) -> usize {
        let reach = length.min(1 << self.below(16));
        self.below(reach)
    }

    /// One change: bits, numbers at the edges, pieces lost, doubled, moved, or the end cut off.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        const EDGES: [u64; 6] = [0, 1, u64::MAX, 1 << 31, 1 << 62, 0x7fc0_0000];
        let at = self.place(bytes.len());
        let some = self.below(24).min(bytes.len() - at);
        match self.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = self.next() as u8,
            2 => {
                let edge = EDGES[self.below(EDGES.len())].to_le_bytes();
                let some = some.min([4, 8][self.below(2)]);
                bytes[at..at + some].copy_from_slice(&edge[..some]);
            }
            3 => {
                bytes.drain(at..at + some);
            }
            4 => {
                let piece = bytes[at..at + some].to_vec();
                let to = self.place(bytes.len());
                bytes.splice(to..to, piece);
            }
            5 => {
                const MARKS: &[u8] = b"{}[]()\"'\\:,%*+?.0-";
                bytes.insert(at, MARKS[self.below(MARKS.len())]);
            }
            _ => bytes.truncate(at),
        }
    }
}

fn check(name: &str) {
    let target = fuzz::TARGETS.iter().find(|target| target.name == name).expect("a known target");
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    if let Some(folder) = std::env::var_os("LLMOS_FUZZ_CORPUS") {
        let folder = std::path::Path::new(&folder).join(name);
        std::fs::create_dir_all(&folder).expect("the corpus can be written");
        for (index, seed) in seeds.iter().enumerate() {
            let path = folder.join(format!("seed-{index}"));
            std::fs::write(path, seed).expect("the corpus can be written");
        }
    }
    assert!((target.body)(&seeds[0]), "{name} refuses its first seed");
    for seed in seeds.iter().skip(1) {
        (target.body)(seed);
    }
    (target.body)(&[]);
    let start = Instant::now();
    let mut random = Random(1);
    for _ in 0..ROUNDS {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        for _ in 0..1 + random.below(4) {
            random.damage(&mut bytes);
        }
        (target.body)(&bytes);
        if start.elapsed() > ENOUGH {
            return;
        }
    }
}

/// One test a target.
macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_target_is_run() {
            let run = [$(stringify!($name)),*];
            assert!(fuzz::TARGETS.iter().map(|target| target.name).eq(run));
        }
    };
}

targets! {
    chat_template config_json dequantize gguf grammar llama2c page_image safetensors sentencepiece
    tokenizer_json
}
