//! The bodies of the fuzz targets over damaged seeds: no panic, on the stable toolchain too.
//!
//! `LLMOS_FUZZ_CORPUS=DIR` writes the undamaged seeds there, for the fuzzer to start from.

#[allow(unreachable_pub, dead_code, reason = "a library of its own, in fuzz/")]
#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

#[path = "../../llmos-model/tests/damage/mod.rs"]
mod damage;

use std::time::{Duration, Instant};

use damage::Random;

/// Damaged inputs of a target. A long run belongs to the fuzzer.
const ROUNDS: u64 = 400;
/// Time after which a target stops, rounds left or not: a debug build of a grammar is slow.
const ENOUGH: Duration = Duration::from_secs(4);

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
    let mut random = Random::new(1);
    for _ in 0..ROUNDS {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        random.damage(&mut bytes);
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
    answer calculator chat_body chat_template completions_body config_json conversation_rows
    dequantize gguf grammar host_header http_request llama2c metrics_text model_name page_image peft
    prepared raw_text recipe safetensors sentencepiece stored_rows tokenizer_json
}
