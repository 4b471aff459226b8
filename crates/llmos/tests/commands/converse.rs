//! `chat` in a terminal: a pseudo-terminal whose other end is the test.
#![cfg(target_os = "linux")]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::chat::assistant;
use crate::program::{Folder, scripted};

/// A chat that is typed to.
struct Typist {
    child: Child,
    /// The typist's end of the terminal. It stays open until the program is gone, because a terminal
    /// that goes away hangs up.
    terminal: File,
    /// All that the terminal showed.
    shown: String,
    /// How much of it was looked at.
    seen: usize,
}

impl Typist {
    fn new(home: &Path, model: &str, more: &[&str]) -> Typist {
        Typist::of(home, &[&["chat", model, "--temp", "0"], more].concat())
    }

    /// Of the program with any arguments.
    fn of(home: &Path, arguments: &[&str]) -> Typist {
        Typist::begun(home, arguments, None)
    }

    /// Of the program with any arguments, whose standard output goes to a file.
    fn written_to(home: &Path, arguments: &[&str], out: &str) -> Typist {
        Typist::begun(home, arguments, Some(File::create(out).unwrap()))
    }

    fn begun(home: &Path, arguments: &[&str], out: Option<File>) -> Typist {
        let terminal = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap());
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let side = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let size = Winsize { ws_row: 40, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&side, size).unwrap();
        // What does not come is a failure, not a wait.
        let script = "exec timeout 60 setsid --ctty \"$@\"";
        let mut command = scripted(home, &["sh", "-c", script], arguments);
        command.env("NO_COLOR", "1").env("TERM", "xterm");
        let out = out.unwrap_or_else(|| side.try_clone().unwrap());
        command.stdin(side.try_clone().unwrap()).stdout(out).stderr(side);
        let child = command.spawn().unwrap();
        Typist { child, terminal, shown: String::new(), seen: 0 }
    }

    /// Reads on until the terminal shows `text`.
    fn expect(&mut self, text: &str) {
        let mut bytes = Vec::new();
        loop {
            if let Some(at) = self.shown[self.seen..].find(text) {
                self.seen += at + text.len();
                return;
            }
            let mut buffer = [0; 4096];
            let n = self.terminal.read(&mut buffer).unwrap_or(0);
            assert!(n > 0, "{text:?} did not come: {}", self.shown);
            bytes.extend_from_slice(&buffer[..n]);
            // A character may come in two parts.
            let whole = match std::str::from_utf8(&bytes) {
                Ok(_) => bytes.len(),
                Err(error) => error.valid_up_to(),
            };
            let rest = bytes.split_off(whole);
            self.shown.push_str(std::str::from_utf8(&bytes).unwrap());
            bytes = rest;
        }
    }

    fn type_in(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    /// Types a line once there is a prompt, and waits for what it brings.
    fn line(&mut self, line: &str, expected: &str) {
        self.expect("> ");
        self.type_in(&format!("{line}\r"));
        self.expect(expected);
    }

    fn end(mut self, typed: &str) {
        self.expect("> ");
        self.type_in(typed);
        // A terminal whose program is gone gives an error in the place of an end.
        let mut rest = Vec::new();
        let _ = self.terminal.read_to_end(&mut rest);
        self.shown.push_str(&String::from_utf8_lossy(&rest));
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status:?}: {}", self.shown);
    }
}

#[test]
fn a_conversation_in_a_terminal() {
    let home = Folder::new();
    let (saved, page) = (home.join("chat.jsonl"), home.join("chat.md"));
    let mut chat = Typist::new(home.path(), &assistant(), &[]);
    chat.expect("calculator, clock");
    chat.line("Say hello.", "Hello!");
    chat.expect("4 tokens");
    chat.line("And goodbye.", "Goodbye, then.");
    chat.expect("of them new");
    chat.line("/history", "2 > And goodbye.");
    chat.line("/retry", "Goodbye, then.");
    chat.expect("first token");
    chat.line(&format!("/save {saved}"), "4 messages");
    chat.line(&format!("/save {page}"), "4 messages");
    chat.line("/retyr", "did you mean /retry?");
    chat.line("/clear", "a new conversation");
    chat.line("What is 12 times 7?", "│ expression: 12 * 7");
    chat.expect("╰─ 84");
    chat.expect("It is 84.");
    chat.expect("first token");
    chat.line("/undo", "0 messages left");
    chat.line("/system Be brief.", "system: Be brief.");
    chat.line("What colour is grass?", "Green.");
    chat.expect("first token");
    chat.line("/think on", "no switch for thinking");
    chat.line("/temp warm", "a temperature is a number");
    chat.line("/temp", "temperature 0");
    chat.line("/load", "/load needs a file");
    let strange = home.join("strange.jsonl");
    std::fs::write(&strange, "{\"messages\": [{\"role\": \"user\", \"content\": 5}]}\n").unwrap();
    chat.line(&format!("/load {strange}"), "message 1 has content that is no text");
    chat.line("/tools", "clock: Tells");
    chat.line(&format!("/load {saved}"), "4 messages");
    // The first message, with other words at its beginning.
    chat.line("/edit 1", "> Say hello.");
    chat.type_in("\u{1}\u{b}Who are you?\r");
    chat.expect("A very small model.");
    chat.expect("first token");
    chat.line("/stats", "2 messages");
    chat.end("/quit\r");
    let row: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(saved).unwrap()).unwrap();
    assert_eq!(row["messages"][3]["content"], "Goodbye, then.");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.ends_with("**You:** And goodbye.\n\n**Assistant:** Goodbye, then.\n"), "{page}");
    let history = std::fs::read_to_string(home.join("history/chat.txt")).unwrap();
    assert!(history.contains("Who are you?"), "{history}");
}

#[test]
fn several_lines_are_one_message() {
    let home = Folder::new();
    let mut chat = Typist::new(home.path(), &assistant(), &[]);
    chat.expect("> ");
    chat.type_in("Say\\\rhello.\r");
    chat.expect("first token");
    chat.expect("> ");
    chat.type_in("\"\"\"\rOne.\r\rTwo.\"\"\"\r");
    chat.expect("first token");
    let saved = home.join("chat.jsonl");
    chat.line(&format!("/save {saved}"), " messages");
    chat.end("\u{4}");
    let row: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(saved).unwrap()).unwrap();
    let mine = row["messages"].as_array().unwrap().iter().filter(|m| m["role"] == "user");
    let mine: Vec<&str> = mine.map(|message| message["content"].as_str().unwrap()).collect();
    assert_eq!(mine, ["Say\nhello.", "One.\n\nTwo."]);
}

#[test]
fn an_interrupt_stops_the_answer_alone() {
    let home = Folder::new();
    // A context so long that nobody waits for its end, and no end token.
    let model = home.join("model");
    std::fs::create_dir(&model).unwrap();
    for entry in std::fs::read_dir(assistant()).unwrap() {
        let entry = entry.unwrap();
        let target = Path::new(&model).join(entry.file_name());
        match entry.file_name() == "config.json" {
            true => {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                std::fs::write(target, text.replace("1024", "400000")).unwrap();
            }
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
    let mut chat =
        Typist::new(home.path(), &model, &["--logit-bias", "2=-inf", "--logit-bias", "0=-inf"]);
    chat.line("Count to twelve.", "1, 2");
    chat.type_in("\u{3}");
    chat.expect("; stopped");
    // At the prompt it drops the line.
    chat.expect("> ");
    chat.type_in("Nonsense\u{3}");
    chat.line("/stats", "2 messages");
    chat.end("\u{4}");
}

#[test]
fn prompts_stay_on_the_terminal_where_answers_go_to_a_file() {
    let home = Folder::new();
    let out = home.join("answers.txt");
    let mut chat = Typist::written_to(home.path(), &["chat", &assistant(), "--temp", "0"], &out);
    chat.line("Say hello.", "4 tokens");
    chat.end("/quit\r");
    assert_eq!(std::fs::read_to_string(out).unwrap(), "Hello!\n");
}

#[test]
fn what_is_asked_for_is_shown_where_nobody_wants_talk() {
    let home = Folder::new();
    let mut chat = Typist::new(home.path(), &assistant(), &["--quiet"]);
    chat.line("/help", "what the model is told first");
    chat.line("/system", "no system message");
    chat.line("/stats", "0 messages");
    chat.line("/tools", "clock: Tells");
    chat.line("/tools off", "/tools lists what the model may call");
    chat.end("\u{4}");
}

#[test]
fn without_arguments_the_first_line_says_where_the_page_is() {
    let home = Folder::new();
    let mut chat = Typist::of(home.path(), &[]);
    chat.expect("Web page: http://");
    assert!(chat.shown.trim_start().starts_with("Web page: "), "{}", chat.shown);
    chat.expect("\n");
    let address =
        chat.shown[..chat.seen].trim().trim_start_matches("Web page: http://").to_string();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let mut page = TcpStream::connect(&address).unwrap();
    write!(page, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("<html"), "{text}");
    chat.line("/help", "what the model is told first");
    chat.end("\u{4}");
}
