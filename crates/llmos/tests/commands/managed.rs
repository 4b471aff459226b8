//! Models that come, are copied and go while a server runs: the registry on the disk follows.
#![cfg(unix)]

use serde_json::{Value, json};

use crate::interrupt::interrupt;
use crate::program::{Folder, collect, command, finish};
use crate::pull::{Hub, Mood, honest, model};
use crate::serve::{address, ask, send};

/// The names in the registry.
fn listed(home: &Folder) -> Vec<String> {
    let models = finish(command(home.path(), &["models", "--json"]), b"").json();
    let names = models.as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap());
    names.filter(|name| name.contains('/')).map(str::to_string).collect()
}

#[test]
fn a_model_is_pulled_copied_and_deleted_and_the_registry_follows() {
    let hub = Hub::new(&[("tiny-Q8_0.gguf", model())], Mood::Fine, honest);
    let home = Folder::new();
    let own = home.join("own.gguf");
    std::fs::write(&own, model()).unwrap();
    let mut child = hub.command(&home, &["serve", &own, "--port", "0", "-q"]).spawn().unwrap();
    let address = address(&mut child);
    let status = |method: &str, path: &str, body: Value| {
        send(&address, method, path, &[], &body).expect("an answer")
    };
    let pulled = json!({ "model": "hf.co/o/r:Q8_0", "stream": false });
    assert_eq!(ask(&address, "POST", "/api/pull", &pulled)["status"], "success");
    let copy = json!({ "source": "tiny-Q8_0", "destination": "mine" });
    assert_eq!(status("POST", "/api/copy", copy).0, 200);
    assert_eq!(listed(&home), ["copied/mine:mine", "o/r:tiny-Q8_0"]);
    let complete = |model: &str| {
        let body = json!({ "model": model, "prompt": "Once", "max_tokens": 5, "temperature": 0 });
        status("POST", "/v1/completions", body)
    };
    let expected = complete("own").1["choices"][0]["text"].clone();
    // The copy shares its file with the first, and outlives it.
    let (code, gone) = status("DELETE", "/api/delete", json!({ "model": "tiny-Q8_0" }));
    assert_eq!(code, 200, "{gone}");
    assert_eq!(listed(&home), ["copied/mine:mine"]);
    assert_eq!(complete("tiny-Q8_0").0, 404);
    assert_eq!(complete("mine").1["choices"][0]["text"], expected);
    let entry = ask(&address, "GET", "/v1/models/mine", &Value::Null);
    assert_eq!(entry["digest"], format!("sha256:{}", honest(&model())));
    // What the registry does not have is left alone.
    let (code, refused) = status("DELETE", "/api/delete", json!({ "model": "own" }));
    assert_eq!(code, 400, "{refused}");
    let message = refused["error"].as_str().unwrap();
    assert!(
        message.contains("not of the registry") && !message.contains(home.path().to_str().unwrap())
    );
    assert!(std::fs::read(&own).is_ok());
    // The last one's file goes with it.
    assert_eq!(status("DELETE", "/v1/models/mine", Value::Null).0, 200);
    assert!(listed(&home).is_empty());
    let blobs = std::fs::read_dir(home.path().join("models/blobs")).unwrap().count();
    assert_eq!(blobs, 0);
    interrupt(&child);
    assert_eq!(collect(child).code, Some(0));
}

#[test]
fn what_is_part_of_the_program_is_neither_copied_nor_deleted() {
    let home = Folder::new();
    let mut child = command(home.path(), &["serve", "--port", "0", "-q"]).spawn().unwrap();
    let address = address(&mut child);
    for (method, path, body) in [
        ("DELETE", "/api/delete", json!({ "model": "assistant" })),
        ("POST", "/api/copy", json!({ "source": "assistant", "destination": "mine" })),
        ("DELETE", "/v1/models/stories260K", Value::Null),
    ] {
        let (status, refused) = send(&address, method, path, &[], &body).unwrap();
        assert_eq!(status, 400, "{path}: {refused}");
        assert!(refused.to_string().contains("part of the program"), "{refused}");
    }
    let list = ask(&address, "GET", "/v1/models", &Value::Null);
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    interrupt(&child);
    assert_eq!(collect(child).code, Some(0));
}
