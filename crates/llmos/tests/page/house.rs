//! The binary's server on a free port, with a home of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A folder that is removed with the value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("llmos-page-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server of the bundled models; it ends when this is dropped.
pub(crate) struct House {
    process: Child,
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    pub(crate) home: Folder,
}

impl House {
    pub(crate) fn start(arguments: &[&str]) -> House {
        House::start_in(Folder::new(), arguments)
    }

    /// As [`House::start`], where something has been kept before.
    pub(crate) fn start_in(home: Folder, arguments: &[&str]) -> House {
        House::start_beside("http://127.0.0.1:9", home, arguments)
    }

    /// As [`House::start_in`], where models are pulled from this address.
    pub(crate) fn start_beside(hub: &str, home: Folder, arguments: &[&str]) -> House {
        let mut command = program(&home, &["serve", "--port", "0", "-q"]);
        command.env("HF_ENDPOINT", hub).args(arguments);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().to_string();
        assert!(url.starts_with("http://"), "{url:?}");
        House { process, url, home }
    }
}

/// The binary, away from the person's own settings and models.
pub(crate) fn program(home: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmos"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LLMOS_") {
            command.env_remove(&name);
        }
    }
    command.args(arguments).current_dir(home.path());
    for name in ["LLMOS_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HOME"] {
        command.env(name, home.path());
    }
    command
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
