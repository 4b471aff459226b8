//! A PostgreSQL server for a test, in a folder of its own, reached by a socket in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::ground::Folder;

pub(crate) struct Server {
    binaries: PathBuf,
    folder: Folder,
    is_running: bool,
}

impl Server {
    /// Starts one. Without PostgreSQL's programs the test is skipped, which is a failure where
    /// oracles are required.
    #[expect(clippy::print_stdout, reason = "a skipped test says so")]
    pub(crate) fn start() -> Option<Server> {
        let Some(binaries) = binaries() else {
            println!("skipped: no PostgreSQL");
            assert!(
                std::env::var("LLMOS_REQUIRE_ORACLES").as_deref() != Ok("1"),
                "LLMOS_REQUIRE_ORACLES=1, and neither PATH nor /usr/lib/postgresql has initdb"
            );
            return None;
        };
        let mut server = Server { binaries, folder: Folder::new(), is_running: false };
        if let Some((user, group)) = other_user() {
            use std::os::unix::fs::chown;
            chown(server.folder.path(), Some(user), Some(group)).expect("a folder of its own");
        }
        let arguments = ["-A", "trust", "-U", "llmos", "-E", "UTF8", "--locale=C", "--no-sync"];
        server.run("initdb", &[&["-D", &server.data()], &arguments[..]].concat());
        server.resume();
        Some(server)
    }

    /// Makes a database; gives its URL.
    pub(crate) fn database(&self, name: &str) -> String {
        let mut client = postgres::Client::connect(&self.url("postgres"), postgres::NoTls)
            .expect("the server answers");
        client.batch_execute(&format!("CREATE DATABASE {name}")).expect("a database");
        self.url(name)
    }

    /// Ends it without a farewell.
    pub(crate) fn crash(&mut self) {
        let data = self.data();
        self.run("pg_ctl", &["-D", &data, "-w", "-m", "immediate", "stop"]);
        self.is_running = false;
    }

    /// Starts it, and waits until it answers.
    pub(crate) fn resume(&mut self) {
        let data = self.data();
        let socket = self.folder.path().display().to_string();
        let log = format!("{socket}/log");
        let options = format!("-k {socket} -c listen_addresses='' -c max_connections=20");
        self.run("pg_ctl", &["-D", &data, "-w", "-l", &log, "-o", &options, "start"]);
        self.is_running = true;
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn url(&self, database: &str) -> String {
        let socket = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://llmos@{socket}/{database}")
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(self.binaries.join(program));
        command.args(arguments).stdin(Stdio::null()).current_dir(self.folder.path());
        if let Some((user, group)) = other_user() {
            use std::os::unix::process::CommandExt;
            command.uid(user).gid(group);
        }
        // The server inherits what it is given, so that a pipe would stay open.
        let log = self.folder.path().join(format!("{program}.out"));
        let file = std::fs::File::create(&log).expect("a log");
        command.stdout(file.try_clone().expect("a log")).stderr(file);
        let status = command.status().expect("a program");
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        assert!(status.success(), "{program}: {status}\n{said}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_running {
            self.crash();
        }
    }
}

/// Where PostgreSQL's programs are: Debian keeps them off the PATH.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let all = ["initdb", "pg_ctl", "postgres"];
    let is_whole = |folder: &PathBuf| all.iter().all(|name| folder.join(name).exists());
    std::env::split_paths(&path).chain(debian).find(is_whole)
}

/// PostgreSQL does not run as root: who runs it then, by user and group id.
fn other_user() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    let is_root = Path::new("/proc/self").metadata().is_ok_and(|metadata| metadata.uid() == 0);
    if !is_root {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody"))
}
