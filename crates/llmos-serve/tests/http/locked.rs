//! A database that another program is writing to: said, with everybody else undisturbed and nothing
//! lost.

use std::time::{Duration, Instant};

use llmos_model::EngineOptions;
use llmos_serve::{Archive, ServerOptions};
use llmos_store::{Options, Purpose, Store};
use serde_json::{Value, json};

use crate::client::{get, post};
use crate::house::{Kind, options, serve};
use crate::kept::{Folder, add, ask, begin, user};

#[test]
fn a_locked_store_says_so_disturbs_nobody_and_loses_nothing() {
    let folder = Folder::new();
    let mut impatient = Options::new(Purpose::Serve);
    impatient.patience = Duration::from_millis(100);
    let archive = Archive::start(Store::open(&folder.place(), impatient).unwrap()).unwrap();
    let options = ServerOptions { archive: Some(archive), ..options() };
    let server = serve(Kind::Parrot, options, EngineOptions::default());
    let id = begin(&server, &json!({ "title": "kept" }));
    add(&server, &id, &user("Who are you?"));
    let path = format!("/v1/conversations/{id}");
    let messages = format!("{path}/messages");
    let chat = |body: Value| post(server.address, "/v1/chat/completions", &body);
    let plain = || chat(json!({ "messages": [user("Who are you?")], "temperature": 0 }));
    let into = || chat(json!({ "conversation": { "id": id, "parent": 1 }, "temperature": 0 }));
    let mut other = folder.visit();
    let held = other.keep_still(|| {
        for (method, path, body) in [
            ("POST", messages.as_str(), user("lost?")),
            ("POST", "/v1/conversations", json!({})),
            ("PATCH", path.as_str(), json!({ "title": "changed" })),
            ("DELETE", path.as_str(), Value::Null),
            ("POST", &format!("{messages}/1/rating"), json!({ "thumb": "up" })),
        ] {
            let start = Instant::now();
            let reply = ask(&server, method, path, &[], &body);
            let error = reply.is_refusal(503, "another program has been writing");
            assert_eq!(
                (&error["code"], &error["type"]),
                (&json!("store_busy"), &json!("server_error"))
            );
            assert!(error["hint"].as_str().unwrap().contains("nothing was changed"), "{error}");
            assert!(reply.header("retry-after").is_some(), "{reply:?}");
            assert!(!reply.body.contains(folder.path().to_str().unwrap()), "{}", reply.body);
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        // An answer that cannot be stored is none, whole or in events.
        into().is_refusal(503, "another program");
        let streamed = chat(json!({
            "conversation": { "id": id, "parent": 1 }, "temperature": 0, "stream": true,
        }));
        let last = streamed.body.trim_end().rsplit("data: ").next().unwrap();
        let last: Value = serde_json::from_str(last).unwrap();
        assert_eq!(last["error"]["code"], "store_busy");
        // Whoever reads, or stores nothing, is answered.
        assert_eq!(plain().json()["choices"][0]["message"]["content"], "A very small model.");
        assert_eq!(get(server.address, &path).json()["title"], "kept");
        assert_eq!(get(server.address, "/v1/models").status, 200);
        assert_eq!(get(server.address, "/readyz").status, 200);
    });
    held.unwrap();
    let found = get(server.address, &path).json();
    let kept: Vec<&Value> =
        found["messages"].as_array().unwrap().iter().map(|message| &message["content"]).collect();
    assert_eq!(kept, ["Who are you?"]);
    assert!(found["messages"][0]["rating"].is_null(), "{found}");
    // The same again is done.
    assert_eq!(into().json()["message"], json!({ "number": 2, "parent": 1 }));
    assert_eq!(add(&server, &id, &user("And?"))["number"], 3);
    assert_eq!(ask(&server, "DELETE", &path, &[], &Value::Null).status, 200);
}
