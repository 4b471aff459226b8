//! Names of models: those of the hub, as `llmos pull` and a server's admins give them, and those that
//! clients ask a server by.

#[path = "../../crates/llmos/src/hub/address.rs"]
mod address;

use std::path::{Component, Path};

use address::{Address, is_safe_path};

use super::request::named;

/// A name is read as an address of the hub, and asked for by every route of a server that takes one.
pub fn model_name(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if is_safe_path(text) {
        stays_below(text);
    }
    named(text);
    let Ok(found) = text.parse::<Address>() else { return false };
    let Address { repository, revision, file } = &found;
    let parts: Vec<&str> = repository.split('/').collect();
    assert_eq!(parts.len(), 2, "{repository:?}");
    for part in parts.iter().chain([&revision.as_str()]) {
        assert!(!part.contains(['/', '\\', ':', '@', '?', '#', '%', '\0']), "{part:?}");
        stays_below(part);
    }
    file.iter().for_each(|file| stays_below(file));
    let file = file.as_ref().map_or(String::new(), |file| format!(":{file}"));
    let written = format!("hf:{repository}@{revision}{file}");
    assert_eq!(written.parse().as_ref(), Ok(&found), "{written:?}");
    true
}

/// Below whatever folder it is put, a path stays there.
fn stays_below(path: &str) {
    let is_name = |part: Component<'_>| matches!(part, Component::Normal(_));
    assert!(!path.is_empty() && Path::new(path).components().all(is_name), "{path:?}");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "hf:owner/repo@v1.0:folder/model-Q4_K_M.gguf",
        "https://huggingface.co/owner/repo:Q8_0",
        "hf://owner/repo/",
        "hf.co/owner/repo:latest",
        "test:latest",
        "TEST",
        "test:poet",
        "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "../../etc/passwd",
        "名:模型",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
