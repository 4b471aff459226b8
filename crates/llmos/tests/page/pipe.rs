//! Chromium's DevTools protocol over a pair of pipes: JSON messages, each ended by a zero byte.
//!
//! Source: <https://chromedevtools.github.io/devtools-protocol/>; `--remote-debugging-pipe` reads from
//! descriptor 3 and writes to 4.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take before it counts as lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running Chromium; it ends when this is dropped.
pub(crate) struct Pipe {
    process: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    last: u64,
    events: Vec<Value>,
}

/// Where Chromium is, if it is anywhere.
fn program() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file())
}

impl Pipe {
    /// Starts Chromium with a profile in `folder`. None, with a word about it, where there is none.
    pub(crate) fn start(folder: &Path) -> Option<Pipe> {
        let Some(program) = program() else {
            println!("skipped: no chromium");
            assert!(
                std::env::var("LLMOS_REQUIRE_ORACLES").as_deref() != Ok("1"),
                "LLMOS_REQUIRE_ORACLES=1, and PATH has no chromium"
            );
            return None;
        };
        let profile = format!("--user-data-dir={}", folder.join("profile").display());
        // The shell moves our pipes to where Chromium looks for them.
        let script = r#"exec "$@" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null"#;
        let mut process = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(program)
            .args(["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync", "--disable-extensions"])
            .args(["--no-first-run", "--no-default-browser-check", "--hide-scrollbars"])
            .args(["--force-color-profile=srgb", "--lang=en-US"])
            // Nothing but this machine can be found.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .args([&profile, "about:blank"])
            .env("HOME", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            while output.read_until(0, &mut bytes).is_ok_and(|n| n > 0) {
                bytes.pop();
                let Ok(message) = serde_json::from_slice(&bytes) else { break };
                bytes.clear();
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        Some(Pipe { process, commands, messages, last: 0, events: Vec::new() })
    }

    /// Calls a method, of a tab's session where one is given, and waits for its result.
    #[track_caller]
    pub(crate) fn call(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let bytes = [message.to_string().as_bytes(), &[0]].concat();
        self.commands.write_all(&bytes).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut message = match self.messages.recv_timeout(left) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => panic!("{method}: no answer"),
                Err(RecvTimeoutError::Disconnected) => panic!("{method}: Chromium has ended"),
            };
            if message["id"] == self.last {
                assert!(message.get("error").is_none(), "{method} {params}: {}", message["error"]);
                return message["result"].take();
            }
            self.events.push(message);
        }
    }

    /// What happened so far.
    pub(crate) fn events(&mut self) -> &[Value] {
        self.events.extend(self.messages.try_iter());
        &self.events
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // Asked first, so that it has closed its profile when that is removed.
        self.last += 1;
        let message = json!({ "id": self.last, "method": "Browser.close" }).to_string();
        let _ = self.commands.write_all(&[message.as_bytes(), &[0]].concat());
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && self.process.try_wait().is_ok_and(|end| end.is_none()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
