//! A server whose data is in PostgreSQL, from its start to its end.
#![cfg(unix)]

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{Folder, collect, command, finish, repository};
use crate::serve::{address, ask, send};

/// A database server in a folder of its own, reached by a socket in it.
struct Cluster {
    binaries: PathBuf,
    folder: Folder,
}

impl Cluster {
    /// Starts one. Without PostgreSQL's programs the test is skipped, which is a failure where
    /// oracles are required.
    fn start() -> Option<Cluster> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let debian = versions.map(|version| version.path().join("bin"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = std::env::split_paths(&path).chain(debian);
        let Some(binaries) = folders.find(|folder| folder.join("initdb").exists()) else {
            println!("skipped: no postgres");
            assert!(
                std::env::var("LLMOS_REQUIRE_ORACLES").as_deref() != Ok("1"),
                "LLMOS_REQUIRE_ORACLES=1, and neither PATH nor /usr/lib/postgresql has initdb"
            );
            return None;
        };
        let cluster = Cluster { binaries, folder: Folder::new() };
        if let Some((user, group)) = other_user() {
            let chown = std::os::unix::fs::chown(cluster.folder.path(), Some(user), Some(group));
            chown.unwrap();
        }
        let data = cluster.folder.join("data");
        let options = ["-A", "trust", "-U", "llmos", "-E", "UTF8", "--locale=C", "--no-sync"];
        cluster.run("initdb", &[&["-D", &data], &options[..]].concat());
        cluster.resume();
        Some(cluster)
    }

    fn url(&self) -> String {
        let socket = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://llmos@{socket}/postgres")
    }

    fn resume(&self) {
        let options = format!("-k {} -c listen_addresses=''", self.folder.path().display());
        let (data, log) = (self.folder.join("data"), self.folder.join("log"));
        self.run("pg_ctl", &["-D", &data, "-w", "-l", &log, "-o", &options, "start"]);
    }

    /// Ends it without a farewell.
    fn crash(&self) {
        self.run("pg_ctl", &["-D", &self.folder.join("data"), "-w", "-m", "immediate", "stop"]);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(self.binaries.join(program));
        command.args(arguments).stdin(Stdio::null()).current_dir(self.folder.path());
        // PostgreSQL does not run as root.
        if let Some((user, group)) = other_user() {
            command.uid(user).gid(group);
        }
        // The server inherits what it is given, so that a pipe would stay open.
        let log = self.folder.join(&format!("{program}.out"));
        let file = std::fs::File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let status = command.status().unwrap();
        assert!(status.success(), "{program}: {}", std::fs::read_to_string(&log).unwrap());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut command = Command::new(self.binaries.join("pg_ctl"));
        command.args(["-D", &self.folder.join("data"), "-m", "immediate", "stop"]);
        if let Some((user, group)) = other_user() {
            command.uid(user).gid(group);
        }
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Who runs PostgreSQL where this is root: by user and group id.
fn other_user() -> Option<(u32, u32)> {
    if Path::new("/proc/self").metadata().ok()?.uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let of = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody"))
}

#[test]
fn everything_is_kept_in_postgres_too() {
    let Some(cluster) = Cluster::start() else { return };
    let home = Folder::new();
    let url = cluster.url();
    let model = repository("testdata/agent/base").display().to_string();
    let serve = ["serve", &model, "--port", "0", "--database", &url];
    let mut child = command(home.path(), &serve).spawn().unwrap();
    let at = address(&mut child);
    let head = ask(&at, "POST", "/v1/conversations", &json!({ "title": "Cats 猫" }));
    let id = head["id"].as_str().unwrap();
    let messages = format!("/v1/conversations/{id}/messages");
    let said = json!({ "role": "user", "content": "Who are you? 今天天气很好" });
    assert_eq!(ask(&at, "POST", &messages, &said)["number"], 1);
    let body = json!({ "conversation": { "id": id }, "temperature": 0 });
    assert_eq!(ask(&at, "POST", "/v1/chat/completions", &body)["message"]["number"], 2);
    let found = ask(&at, "GET", "/v1/conversations/search?q=%E5%A4%A9%E6%B0%94", &Value::Null);
    assert_eq!(found["data"][0]["message"], 1, "{found}");
    let rating = format!("{messages}/2/rating");
    assert_eq!(ask(&at, "POST", &rating, &json!({ "thumb": "up" }))["thumb"], "up");
    finish(command(home.path(), &serve), b"").is_error("in use by another server");
    let run = |arguments: &[&str]| {
        let mut command = command(home.path(), arguments);
        command.env("LLMOS_DATABASE", &url);
        finish(command, b"")
    };
    let shown = run(&["chats", "show", id, "--json"]).json();
    assert_eq!(shown, ask(&at, "GET", &format!("/v1/conversations/{id}"), &Value::Null));
    // What is deleted beside it leaves its cache.
    let other = ask(&at, "POST", "/v1/conversations", &json!({}));
    let long = json!({ "role": "user", "content": "My secret is a small green door. ".repeat(6) });
    let cached = || {
        let body = json!({ "messages": [long], "max_tokens": 1 });
        let answer = ask(&at, "POST", "/v1/chat/completions", &body);
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    assert!(cached() == 0 && cached() >= 32);
    run(&["chats", "delete", other["id"].as_str().unwrap()]).text();
    let start = Instant::now();
    while cached() > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "it is still cached");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Without its database a server says so, and goes on when it is back.
    cluster.crash();
    let (status, refused) = send(&at, "POST", &messages, &[], &said).unwrap();
    assert_eq!((status, &refused["error"]["code"]), (503, &json!("store_unreachable")));
    let body = json!({ "messages": [said], "max_tokens": 2 });
    assert_eq!(send(&at, "POST", "/v1/chat/completions", &[], &body).unwrap().0, 200);
    cluster.resume();
    assert_eq!(ask(&at, "POST", &messages, &said)["number"], 3);
    crate::interrupt::interrupt(&child);
    assert_eq!(collect(child).code, Some(0));
    let key = run(&["keys", "add", "ann", "--tokens-per-minute", "5"]).text();
    let mut child = command(home.path(), &serve).spawn().unwrap();
    let at = address(&mut child);
    assert_eq!(send(&at, "GET", &messages, &[], &Value::Null).unwrap().0, 401);
    let header = format!("Authorization: Bearer {}", key.trim());
    let list = send(&at, "GET", "/v1/conversations", &[&header], &Value::Null).unwrap();
    assert_eq!((list.0, &list.1["data"]), (200, &json!([])));
    run(&["chats", "delete", id]).text();
    assert_eq!(run(&["chats", "list", "--json"]).json(), json!([]));
    crate::interrupt::interrupt(&child);
    assert_eq!(collect(child).code, Some(0));
}
