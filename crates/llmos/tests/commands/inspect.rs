//! `inspect`, `models` and `doctor`: what is there.

use crate::program::{llmos, repository, stories};

#[test]
fn what_the_bundled_model_is() {
    let report = llmos(&["inspect", &stories(), "--json"]).json();
    // The figures of the llama2.c checkpoint: dim 64, 5 layers, 8 heads, 4 of keys, vocabulary 512.
    assert_eq!(report["architecture"], "llama");
    assert_eq!(report["n_layer"], 5);
    assert_eq!(report["d_model"], 64);
    assert_eq!(report["vocab_size"], 512);
    assert_eq!(report["context_length"], 512);
    let tensors = report["tensors"].as_array().unwrap();
    let sum: u64 = tensors.iter().map(|tensor| tensor["parameters"].as_u64().unwrap()).sum();
    assert_eq!(report["parameters"], sum);
    assert_eq!(sum, 260_032);
    let memory = &report["memory"];
    let parts = ["weights", "kv_cache", "workspace"].map(|part| memory[part].as_u64().unwrap());
    assert_eq!(memory["total"], parts.iter().sum::<u64>());
    assert_eq!(report["two_files"]["parameters_bytes"], report["file_bytes"]);
    assert!(report["two_files"]["program_lines"].as_u64().unwrap() <= 500);
    assert_eq!(report["two_files"]["program_runs_it"], true);
}

#[test]
fn the_small_program_is_said_to_run_what_it_runs() {
    let runs = |model: &str| {
        let model = repository("testdata").join(model).display().to_string();
        llmos(&["inspect", &model, "--json"]).json()["two_files"]["program_runs_it"].clone()
    };
    assert_eq!(runs("two-files/llama-q8_0.gguf"), true);
    assert_eq!(runs("two-files/qwen3-f16.gguf"), true);
    assert_eq!(runs("split/part-00001-of-00003.gguf"), false);
    assert_eq!(runs("architectures/llama"), false);
}

#[test]
fn memory_follows_context_and_cache() {
    let cache = |more: &[&str]| {
        let given = ["inspect", &stories(), "--json"];
        let report = llmos(&[&given[..], more].concat()).json();
        report["memory"]["kv_cache"].as_u64().unwrap()
    };
    let half = cache(&["--context", "256"]);
    assert_eq!(2 * half, cache(&[]));
    assert_eq!(2 * cache(&[]), cache(&["--cache-type", "f32"]));
    assert!(cache(&["--cache-type", "q8"]) < cache(&[]));
    llmos(&["inspect", &stories(), "--context", "513"]).is_error("1 to 512");
}

#[test]
fn a_page_for_people() {
    let page = |more: &[&str]| llmos(&[&["inspect", &stories()], more].concat()).text();
    for (flags, words) in [
        (&[][..], "260.0 K"),
        (&[], "two files"),
        (&[], "blk.*.attn_q.weight"),
        (&[], "5 of 64 × 64"),
        (&["--tensors"], "blk.4.ffn_down.weight"),
        (&["--metadata"], "general.architecture"),
    ] {
        assert!(page(flags).contains(words), "{words} not in {}", page(flags));
    }
}

#[test]
fn every_architecture_is_inspected() {
    let mut seen = 0;
    for entry in std::fs::read_dir(repository("testdata/architectures")).unwrap() {
        let path = entry.unwrap().path();
        if !path.join("config.json").is_file() {
            continue;
        }
        let report = llmos(&["inspect", &path.display().to_string(), "--json"]).json();
        assert!(report["architecture"].is_string(), "{path:?}: {}", report["cannot_run"]);
        assert!(report["parameters"].as_u64().unwrap() > 0);
        seen += 1;
    }
    assert!(seen >= 15);
}

#[test]
fn the_doctor_finds_that_the_bundled_model_is_right() {
    let report = llmos(&["doctor", "--json"]).json();
    assert_eq!(report["works"], true);
    assert!(report["threads"].as_u64().unwrap() >= 1);
    let kernels = report["kernels"].as_array().unwrap();
    assert!(kernels.contains(&"scalar".into()) && kernels.contains(&report["chosen"]));
    let scalar = llmos(&["doctor", "--isa", "scalar"]).text();
    assert!(scalar.contains("runs and is right"), "{scalar}");
}

#[test]
fn an_empty_registry_is_an_empty_list() {
    assert_eq!(llmos(&["models", "--json"]).json(), serde_json::json!([]));
    llmos(&["rm", "nothing"]).is_error("nothing");
}

#[test]
fn shells_get_their_completion() {
    for shell in ["bash", "zsh", "fish"] {
        let script = llmos(&["completions", shell]).text();
        assert!(script.contains("llmos") && script.contains("tokenize"), "{shell}");
    }
}
