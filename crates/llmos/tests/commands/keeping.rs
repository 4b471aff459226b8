//! What a server keeps: conversations beside it (`llmos chats`), keys (`llmos keys`), and stores that
//! cannot be had.

use std::path::Path;
use std::time::{Duration, Instant};

use llmos_store::{Options, Place, Purpose, Store};
use serde_json::{Value, json};

use crate::program::{Folder, Output, collect, command, finish, repository, stories};
use crate::serve::{address, ask, send};

/// Runs with a home.
fn run(home: &Folder, arguments: &[&str]) -> Output {
    finish(command(home.path(), arguments), b"")
}

#[cfg(unix)]
#[test]
fn conversations_are_seen_changed_and_deleted_beside_a_running_server() {
    let home = Folder::new();
    let model = repository("testdata/agent/base").display().to_string();
    let mut child = command(home.path(), &["serve", &model, "--port", "0"]).spawn().unwrap();
    let address = address(&mut child);
    let head = ask(&address, "POST", "/v1/conversations", &json!({ "title": "Cats 猫" }));
    let id = head["id"].as_str().unwrap();
    let said = json!({ "role": "user", "content": "Who are you? 你是谁" });
    ask(&address, "POST", &format!("/v1/conversations/{id}/messages"), &said);
    let body = json!({ "conversation": { "id": id }, "temperature": 0 });
    let answer = ask(&address, "POST", "/v1/chat/completions", &body);
    assert_eq!(answer["message"]["number"], 2, "{answer}");
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    let list = run(&home, &["chats", "list", "--json"]).json();
    assert_eq!((&list[0]["id"], &list[0]["messages"]), (&json!(id), &json!(2)));
    assert!(run(&home, &["chats", "list"]).text().contains("Cats 猫"));
    let shown = run(&home, &["chats", "show", id]).text();
    assert!(shown.contains("Who are you? 你是谁") && shown.contains(text), "{shown}");
    let shown = run(&home, &["chats", "show", id, "--json"]).json();
    assert_eq!(shown, ask(&address, "GET", &format!("/v1/conversations/{id}"), &Value::Null));
    let origin = &shown["messages"][1]["origin"];
    let digest = origin["digest"].as_str().unwrap();
    assert!(digest.starts_with("sha256:") && digest.len() == 71, "{origin}");
    let hits = run(&home, &["chats", "search", "是谁", "--json"]).json();
    assert_eq!((hits.as_array().unwrap().len(), &hits[0]["message"]), (1, &json!(1)));
    assert_eq!(run(&home, &["chats", "search", "nothing", "like", "it"]).code, Some(1));
    let (file, plain) = (home.join("chats.jsonl"), home.join("rows.jsonl"));
    run(&home, &["chats", "export", "--out", &file]).text();
    run(&home, &["chats", "export", id, "--messages", "--out", &plain]).text();
    let row: Value = serde_json::from_str(&std::fs::read_to_string(&plain).unwrap()).unwrap();
    assert_eq!(row["messages"][1], json!({ "role": "assistant", "content": text }));
    assert_eq!(run(&home, &["chats", "export"]).stdout, std::fs::read(&file).unwrap());
    run(&home, &["chats", "delete", id]).text();
    let gone = ask(&address, "GET", &format!("/v1/conversations/{id}"), &Value::Null);
    assert_eq!(gone["error"]["code"], "conversation_not_found");
    let imported = run(&home, &["chats", "import", &file, "--json"]);
    let words = "1 conversation with 2 messages taken in; 0 were there already";
    assert!(imported.stderr.contains(words), "{}", imported.stderr);
    let counts = imported.json();
    assert_eq!((&counts["conversations"], &counts["messages"]), (&json!(1), &json!(2)));
    assert_eq!(shown, ask(&address, "GET", &format!("/v1/conversations/{id}"), &Value::Null));
    // Somebody else's are apart, and where they are is said.
    let others = run(&home, &["chats", "list", "--owner", "ann"]);
    assert!(others.text().is_empty() && others.stderr.contains("this machine has 1"));
    run(&home, &["chats", "show", id, "--owner", "ann"]).is_error("there is no conversation");
    let deleted = run(&home, &["chats", "delete", "--all"]);
    assert!(deleted.stderr.contains("1 conversation deleted"), "{}", deleted.stderr);
    assert_eq!(run(&home, &["chats", "list", "--limit", "0"]).code, Some(2));
    assert_eq!(run(&home, &["chats", "list", "--json"]).json(), json!([]));
    crate::interrupt::interrupt(&child);
    assert_eq!(collect(child).code, Some(0));
}

#[cfg(unix)]
#[test]
fn keys_are_made_listed_and_revoked_beside_a_running_server() {
    let home = Folder::new();
    let mut child = command(home.path(), &["serve", &stories(), "--port", "0"]).spawn().unwrap();
    let address = address(&mut child);
    let status = |key: &str| {
        let header = format!("x-api-key: {key}");
        send(&address, "GET", "/v1/models", &[&header], &Value::Null).unwrap().0
    };
    let wait_for = |key: &str, expected: u16| {
        let start = Instant::now();
        while status(key) != expected {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    assert_eq!(status("none"), 200);
    let made = run(&home, &["keys", "add", "laptop"]);
    let key = made.text();
    let key = key.strip_suffix('\n').unwrap();
    assert!(key.starts_with("sk-llmos-") && !key.contains('\n'), "{key}");
    assert!(made.stderr.contains("the key of laptop (chat)"), "{}", made.stderr);
    wait_for("none", 401);
    assert_eq!(status(key), 200);
    let flags =
        ["--requests-per-minute", "9", "--tokens-per-minute", "99", "--tokens-per-day", "7"];
    let add = ["keys", "add", "root", "--scope", "admin", "--json"];
    let made = run(&home, &[&add[..], &flags[..]].concat());
    let row = made.json();
    let limits = ["requests_per_minute", "tokens_per_minute", "tokens_per_day"];
    assert_eq!(limits.map(|limit| row[limit].as_u64().unwrap()), [9, 99, 7]);
    assert_eq!((&row["name"], &row["scope"]), (&json!("root"), &json!("admin")));
    let root = row["key"].as_str().unwrap();
    let list = run(&home, &["keys", "list", "--json"]);
    let rows = list.json();
    assert_eq!((rows.as_array().unwrap().len(), &rows[1]["tokens_per_day"]), (2, &json!(7)));
    let text = run(&home, &["keys", "list"]).text();
    assert!(text.contains("laptop") && text.contains("99 tokens a minute"), "{text}");
    for shown in [list.text(), text] {
        assert!(!shown.contains(key) && !shown.contains(root), "{shown}");
    }
    run(&home, &["keys", "revoke", "laptop"]).text();
    wait_for(key, 401);
    wait_for(root, 200);
    run(&home, &["keys", "add", "laptop"]).is_error("there is a key laptop already");
    let renewed = run(&home, &["keys", "renew", "laptop"]).text();
    assert_ne!(renewed.trim(), key);
    wait_for(renewed.trim(), 200);
    assert_eq!(status(key), 401);
    run(&home, &["keys", "renew", "desktop"]).is_error("there is no key desktop");
    run(&home, &["keys", "revoke", "desktop"]).is_error("there is no key desktop");
    run(&home, &["keys", "add", ""]).is_error("key name");
    for flags in [["--scope", "all"], ["--requests-per-minute", "0"], ["--tokens-per-day", "-1"]] {
        let output = run(&home, &[&["keys", "add", "x"][..], &flags[..]].concat());
        assert_eq!(output.code, Some(2), "{flags:?}");
    }
    crate::interrupt::interrupt(&child);
    assert_eq!(collect(child).code, Some(0));
    // With a key others can be served.
    let everywhere = ["serve", &stories(), "--host", "0.0.0.0", "--port", "0"];
    let mut child = command(home.path(), &everywhere).spawn().unwrap();
    let address = crate::serve::address(&mut child);
    let port = address.rsplit(':').next().unwrap();
    let at = format!("127.0.0.1:{port}");
    let header = format!("Authorization: Bearer {root}");
    assert_eq!(send(&at, "GET", "/v1/models", &[&header], &Value::Null).unwrap().0, 200);
    assert_eq!(send(&at, "GET", "/v1/models", &[], &Value::Null).unwrap().0, 401);
    crate::interrupt::interrupt(&child);
    assert_eq!(collect(child).code, Some(0));
}

#[cfg(unix)]
#[test]
fn one_folder_is_one_server_s() {
    let home = Folder::new();
    let data = home.join("data");
    let serve = ["serve", &stories(), "--port", "0", "--data", &data];
    let mut child = command(home.path(), &serve).spawn().unwrap();
    let address = address(&mut child);
    let second = run(&home, &serve);
    second.is_error("in use by another server");
    assert!(second.stderr.contains(&child.id().to_string()), "{}", second.stderr);
    for words in ["--no-store", "--data", "stop the other server"] {
        assert!(second.stderr.contains(words), "{}", second.stderr);
    }
    let mut third = command(home.path(), &["serve", &stories(), "--port", "0", "--no-store"]);
    let mut third = third.spawn().unwrap();
    let other = crate::serve::address(&mut third);
    let refused = ask(&other, "GET", "/v1/conversations", &Value::Null);
    assert_eq!(refused["error"]["code"], "no_store");
    let kept = ask(&address, "GET", "/v1/conversations", &Value::Null);
    assert_eq!(kept["data"], json!([]));
    // Settings say where as well as flags.
    let output = finish(
        {
            let mut command = command(home.path(), &["serve", &stories(), "--port", "0"]);
            command.env("LLMOS_DATA", &data);
            command
        },
        b"",
    );
    output.is_error("in use by another server");
    std::fs::write(home.join("llmos.toml"), format!("[chats]\ndata = {data:?}\n")).unwrap();
    let head = ask(&address, "POST", "/v1/conversations", &json!({ "title": "by settings" }));
    assert_eq!(run(&home, &["chats", "list", "--json"]).json()[0]["id"], head["id"]);
    for child in [child, third] {
        crate::interrupt::interrupt(&child);
        assert_eq!(collect(child).code, Some(0));
    }
}

#[test]
fn stores_that_cannot_be_had_are_said_and_left_alone() {
    let home = Folder::new();
    let check = |place: &[&str], words: &str| {
        let serve = ["serve", &stories(), "--port", "0"];
        for arguments in [&serve[..], &["keys", "list"], &["chats", "list"]] {
            run(&home, &[arguments, place].concat()).is_error(words);
        }
    };
    let damaged = |name: &str, content: &[u8], words: &str| {
        let data = home.join(name);
        std::fs::create_dir(&data).unwrap();
        let file = Path::new(&data).join("llmos.sqlite");
        std::fs::write(&file, content).unwrap();
        check(&["--data", &data], words);
        assert_eq!(std::fs::read(&file).unwrap(), content, "{name}");
    };
    damaged("corrupt", b"no database at all", "is damaged");
    // A later program's, and another program's, by the two numbers of SQLite's header.
    let sound = home.join("sound");
    drop(Store::open(&Place::Folder((&sound).into()), Options::new(Purpose::Visit)).unwrap());
    let mut bytes = std::fs::read(Path::new(&sound).join("llmos.sqlite")).unwrap();
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    damaged("newer", &bytes, "has version 99");
    bytes[68..72].copy_from_slice(&7_u32.to_be_bytes());
    damaged("foreign", &bytes, "another program's");
    let file = home.join("file");
    std::fs::write(&file, "x").unwrap();
    check(&["--data", &format!("{file}/data")], "make the folder");
    check(&["--database", "postgres://nobody:secret@127.0.0.1:1/x"], "cannot be reached");
    let output =
        run(&home, &["keys", "list", "--database", "postgres://nobody:secret@127.0.0.1:1/x"]);
    assert!(!output.stderr.contains("secret"), "{}", output.stderr);
    let mut verbose = command(home.path(), &["chats", "list", "-v"]);
    verbose.env("LLMOS_DATABASE", "postgres://nobody:secret@127.0.0.1:1/x");
    let output = finish(verbose, b"");
    output.is_error("cannot be reached");
    assert!(!output.stderr.contains("secret"), "{}", output.stderr);
    let both = ["keys", "list", "--data", &sound, "--database", "postgres://127.0.0.1/x"];
    assert_eq!(run(&home, &both).code, Some(2));
    assert_eq!(run(&home, &["keys", "list", "--database", "mysql://127.0.0.1/x"]).code, Some(2));
    let rows = home.join("rows.jsonl");
    std::fs::write(&rows, "{\"messages\":[]}\n{\"tree\":3}\n").unwrap();
    run(&home, &["chats", "import", &rows]).is_error("line");
    run(&home, &["chats", "import", &home.join("none")]).is_error("cannot read");
    run(&home, &["chats", "delete", "none"]).is_error("there is no conversation none");
    assert_eq!(run(&home, &["chats", "delete"]).code, Some(2));
}
