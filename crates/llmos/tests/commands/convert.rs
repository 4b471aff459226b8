//! `convert`: what is written reads back as the same model.

use crate::program::{Folder, llmos, repository, stories};

fn nats(model: &str) -> f64 {
    let ids = "1 403 407 261 378 432 383 286 261 376 298 315 421";
    let report = llmos(&["score", model, "--ids", ids, "--json", "--cache-type", "f32"]).json();
    report["nats_per_token"].as_f64().unwrap()
}

#[test]
fn every_type_is_written_and_read() {
    let home = Folder::new();
    let original = nats(&stories());
    for (kind, tolerance) in [
        ("f32", 1e-6),
        ("f16", 1e-3),
        ("bf16", 2e-2),
        ("q8_0", 2e-2),
        ("q6_k", 2e-2),
        ("q5_k_m", 2e-2),
        ("q4_k_m", 2e-2),
        ("q4_0", 0.5),
    ] {
        let out = home.join(&format!("{kind}.gguf"));
        assert_eq!(llmos(&["convert", &stories(), &out, "--type", kind]).code, Some(0));
        let written = nats(&out);
        assert!((written - original).abs() < tolerance, "{kind}: {written} {original}");
    }
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert_eq!(left.len(), 8, "{left:?}");
}

#[test]
fn a_folder_and_back_is_the_same_model() {
    let home = Folder::new();
    let (folder, back) = (home.join("folder"), home.join("back.gguf"));
    assert_eq!(llmos(&["convert", &stories(), &folder]).code, Some(0));
    assert_eq!(llmos(&["convert", &folder, &back, "--type", "f32"]).code, Some(0));
    let run = |model: &str| {
        llmos(&["run", model, "-p", "Once upon a time", "-n", "60", "--temp", "0"]).text()
    };
    let original = run(&stories());
    assert_eq!(run(&folder), original);
    assert_eq!(run(&back), original);
}

#[test]
fn a_hugging_face_folder_becomes_a_gguf_with_its_tokenizer() {
    let home = Folder::new();
    for name in ["llama", "qwen3"] {
        let folder = repository("testdata/architectures").join(name).display().to_string();
        let out = home.join(&format!("{name}.gguf"));
        assert_eq!(llmos(&["convert", &folder, &out, "--type", "f32"]).code, Some(0), "{name}");
        let run = |model: &str| {
            llmos(&["run", model, "-p", "Hello world", "-n", "16", "--temp", "0"]).text()
        };
        assert_eq!(run(&out), run(&folder), "{name}");
    }
}

#[test]
fn nothing_is_replaced_without_being_asked() {
    let home = Folder::new();
    let out = home.join("out.gguf");
    std::fs::write(&out, "mine").unwrap();
    llmos(&["convert", &stories(), &out]).is_error("exists");
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    assert_eq!(llmos(&["convert", &stories(), &out, "--force"]).code, Some(0));
    llmos(&["convert", &out, &out, "--force"]).is_error("is the input");
    llmos(&["convert", &stories(), &home.join("no/such/x.gguf")]).is_error("no/such");
    assert_eq!(llmos(&["convert", &stories(), &out, "--type", "q3"]).code, Some(2));
}
