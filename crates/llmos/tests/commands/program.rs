//! Runs the binary away from the person's own settings and models.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The bundled model's file.
pub(crate) fn stories() -> String {
    repository("models/stories260K.gguf").display().to_string()
}

/// A folder that is removed with the value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("llmos-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Output {
    /// Standard output as text, of a run that succeeded.
    pub(crate) fn text(&self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        String::from_utf8(self.stdout.clone()).expect("standard output is UTF-8")
    }

    /// Standard output as one JSON value, of a run that succeeded.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text()).expect("standard output is one JSON value")
    }

    /// An error for a person: exit code 2, a hint, no panic, and `words` in the message.
    pub(crate) fn is_error(&self, words: &str) {
        assert_eq!(self.code, Some(2), "{words}: {self:?}");
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert!(self.stderr.contains("error:") && self.stderr.contains("hint:"), "{}", self.stderr);
        assert!(self.stderr.contains(words), "{words:?} not in {}", self.stderr);
        assert!(self.stdout.is_empty(), "{self:?}");
    }
}

/// The binary with these arguments, and a home of its own.
pub(crate) fn command(home: &Path, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmos"));
    command.args(arguments);
    at_home(command, home)
}

/// As [`command`], started by a script of sh: `"$@"` is the binary with its arguments.
#[cfg(unix)]
pub(crate) fn scripted(home: &Path, script: &[&str], arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(script[0]);
    command.args(&script[1..]).args(["sh", env!("CARGO_BIN_EXE_llmos")]).args(arguments);
    at_home(command, home)
}

fn at_home(mut command: Command, home: &Path) -> Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("LLMOS_")
            || text.starts_with("HF_")
            || text.to_lowercase().ends_with("_proxy")
        {
            command.env_remove(&name);
        }
    }
    command.env("LLMOS_HOME", home).env("XDG_CONFIG_HOME", home).env("HOME", home);
    command.current_dir(home);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end with `input` on standard input.
pub(crate) fn finish(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.spawn().unwrap();
    // A command that does not read its input closes it.
    let _ = child.stdin.take().unwrap().write_all(input);
    collect(child)
}

/// Waits for the end.
pub(crate) fn collect(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    Output {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs with `input` on standard input, in a new home.
pub(crate) fn llmos_with(arguments: &[impl AsRef<OsStr>], input: &[u8]) -> Output {
    let home = Folder::new();
    finish(command(home.path(), arguments), input)
}

/// Runs with nothing on standard input, in a new home.
pub(crate) fn llmos(arguments: &[impl AsRef<OsStr>]) -> Output {
    llmos_with(arguments, b"")
}
