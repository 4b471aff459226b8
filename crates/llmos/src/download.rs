//! One file over HTTP: resumed where it stopped, and kept only if its digest is right.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use crate::failure::{Explain, failure, is_full};
use crate::hub::Hub;
use crate::registry::{Digest, Registry, hexadecimal};
use crate::terminal::Terminal;

/// Attempts in a row that may bring no byte.
const FRUITLESS_ATTEMPTS: u32 = 5;

/// What is known of a file before it is fetched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// The digest of its bytes.
    pub(crate) sha256: Option<Digest>,
    /// Its name in git: the SHA-1 of `blob LENGTH\0` and its bytes.
    pub(crate) git_id: Option<String>,
    /// Its length.
    pub(crate) bytes: Option<u64>,
}

/// Longest time that one answer may take: after it the next request goes on where it stopped, so a
/// slow line loses nothing, and a connection that has gone silent is given up.
const ANSWER: Duration = Duration::from_secs(120);

/// A client that follows redirects. It trusts Mozilla's roots, or those of `SSL_CERT_FILE`, which a
/// company with its own proxy sets.
///
/// # Errors
/// That file cannot be read or holds no certificate.
pub(crate) fn agent() -> anyhow::Result<Agent> {
    let mut tls = TlsConfig::builder();
    if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
        let what = || format!("SSL_CERT_FILE {}", Path::new(&path).display());
        let hint = || "set it to a PEM file with certificates, or unset it".to_string();
        let pem = std::fs::read(&path).explain(what, hint)?;
        let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if certificates.is_empty() {
            return Err(failure(format!("{}: no certificate in it", what()), hint()));
        }
        tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates)));
    }
    let config = Agent::config_builder()
        .user_agent(concat!("llmos/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_recv_body(Some(ANSWER))
        .tls_config(tls.build())
        .http_status_as_error(false);
    Ok(config.build().into())
}

/// Fetches `url` into the registry and returns the digest and length of what came. `watch` is told of
/// the bytes that are here, and says whether to go on.
///
/// # Errors
/// The server refuses, the connection breaks again and again, the disk is full, `watch` ended it, or the
/// bytes are not the expected ones. What has come so far stays for the next attempt, unless it is wrong.
pub(crate) fn fetch(
    registry: &Registry,
    hub: &Hub,
    url: &str,
    expected: &Expected,
    watch: Watch<'_>,
    terminal: &Terminal,
    what: &str,
) -> anyhow::Result<(Digest, u64)> {
    if let Some(digest) = &expected.sha256
        && let Ok(metadata) = registry.blob(digest).metadata()
    {
        terminal.detail(format_args!("{what} is here already"));
        return Ok((digest.clone(), metadata.len()));
    }
    let identity = match (&expected.sha256, &expected.git_id) {
        (Some(digest), _) => digest.hex().to_string(),
        (None, Some(git_id)) => git_id.clone(),
        (None, None) => url.to_string(),
    };
    let partial = registry.partial(&identity)?;
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&partial)
        .with_context(|| format!("cannot open {}", partial.display()))?;
    if matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)) {
        terminal.say(format_args!("another llmos is fetching {what}; waiting for it"));
        file.lock().with_context(|| format!("cannot lock {}", partial.display()))?;
        drop(file);
        // The other one has most likely moved the file to where the first lines look for it.
        return fetch(registry, hub, url, expected, watch, terminal, what);
    }
    if expected.sha256.is_none() && expected.git_id.is_none() {
        // Nothing says that the bytes from last time belong to the same file.
        file.set_len(0)?;
    }
    let bar = terminal.byte_bar(expected.bytes, what);
    let mut watch = |bytes: u64| {
        bar.set_position(bytes);
        watch(bytes)
    };
    let mut fetching = Fetching { file: &mut file, have: 0, written: 0 };
    let result = fetching.all(hub, url, expected, &mut watch, &bar, terminal);
    bar.finish_and_clear();
    result?;
    let (digest, bytes) = match check(&mut file, expected) {
        Ok(found) => found,
        Err(error) => {
            drop(file);
            std::fs::remove_file(&partial)?;
            return Err(error.context(format!("{what} is damaged")));
        }
    };
    file.sync_all().with_context(|| format!("cannot write {}", partial.display()))?;
    let blob = registry.blob(&digest);
    std::fs::rename(&partial, &blob)
        .with_context(|| format!("cannot move {} to {}", partial.display(), blob.display()))?;
    Ok((digest, bytes))
}

/// Hears how many bytes are here, and says whether to go on.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// A file that grows.
struct Fetching<'a> {
    file: &'a mut File,
    /// Bytes in the file.
    have: u64,
    /// Bytes that came in the current attempt.
    written: u64,
}

impl Fetching<'_> {
    fn all(
        &mut self,
        hub: &Hub,
        url: &str,
        expected: &Expected,
        watch: Watch<'_>,
        bar: &indicatif::ProgressBar,
        terminal: &Terminal,
    ) -> anyhow::Result<()> {
        let mut fruitless = 0;
        loop {
            self.have = self.file.seek(SeekFrom::End(0))?;
            if expected.bytes.is_some_and(|bytes| self.have > bytes) {
                self.file.set_len(0)?;
                self.have = 0;
            }
            if self.have > 0 && Some(self.have) == expected.bytes {
                return Ok(());
            }
            go_on(watch(self.have))?;
            bar.reset_eta();
            self.written = 0;
            let error = match self.once(hub, url, watch) {
                Ok(()) => {
                    let whole = expected.bytes.is_none_or(|bytes| self.have >= bytes);
                    if whole {
                        return Ok(());
                    }
                    anyhow::anyhow!("the connection ended after {} bytes", self.have)
                }
                Err(Stop::Final(error)) => return Err(error),
                Err(Stop::Again(error)) => error,
            };
            fruitless = if self.written > 0 { 0 } else { fruitless + 1 };
            if fruitless >= FRUITLESS_ATTEMPTS {
                return Err(error).explain(
                    || format!("cannot fetch {url}"),
                    || "run the same pull again: it goes on where this one stopped".into(),
                );
            }
            terminal.detail(format_args!("{error:#}; going on at byte {}", self.have));
            let pause = if self.written > 0 { 100 } else { 250 << fruitless };
            std::thread::sleep(Duration::from_millis(pause));
        }
    }

    /// One request; appends what it brings.
    fn once(&mut self, hub: &Hub, url: &str, watch: Watch<'_>) -> Result<(), Stop> {
        let mut response = hub.get(url, self.have)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if starts_at(&response) == Some(self.have) => {}
            StatusCode::OK => self.restart()?,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                self.restart()?;
                return Err(Stop::Again(anyhow::anyhow!("the server has another range")));
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Stop::Again(anyhow::anyhow!("the server answers {status}")));
            }
            status => return Err(Stop::Final(refusal(url, status, hub.token.is_some()))),
        }
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stop::Again(error.into())),
            };
            let written = self.file.write_all(&buffer[..count]);
            written.map_err(|error| Stop::Final(not_written(&error)))?;
            self.have += count as u64;
            self.written += count as u64;
            go_on(watch(self.have)).map_err(Stop::Final)?;
        }
    }

    fn restart(&mut self) -> Result<(), Stop> {
        let result = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        self.have = result.map_err(|error| Stop::Final(error.into()))?;
        Ok(())
    }
}

fn go_on(said: ControlFlow<()>) -> anyhow::Result<()> {
    match said {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => {
            Err(failure("the download was ended", "pull it again: it goes on where it stopped"))
        }
    }
}

/// Why an attempt ended early.
pub(crate) enum Stop {
    /// Another attempt may do better.
    Again(anyhow::Error),
    /// It would not.
    Final(anyhow::Error),
}

fn not_written(error: &std::io::Error) -> anyhow::Error {
    let hint = if is_full(error) {
        "make room (`llmos rm`), then run the same pull again: it goes on here"
    } else {
        "set LLMOS_HOME to a folder that can be written"
    };
    failure(format!("cannot write the download: {error}"), hint)
}

/// Where a partial answer begins: `Content-Range: bytes 100-199/200`.
fn starts_at(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// What a status that is not going to change means for the person.
pub(crate) fn refusal(url: &str, status: StatusCode, with_token: bool) -> anyhow::Error {
    let message = format!("{url}: the server answers {status}");
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if with_token => {
            "accept the model's licence on its page, and check that HF_TOKEN may read it"
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "check the name; a private or gated model needs HF_TOKEN"
        }
        StatusCode::NOT_FOUND => "check the spelling of OWNER/REPO:FILE",
        _ => "try again later, or set HF_ENDPOINT to a mirror",
    };
    failure(message, hint)
}

/// Reads the whole file once and compares it with what was promised.
fn check(file: &mut File, expected: &Expected) -> anyhow::Result<(Digest, u64)> {
    let bytes = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let (mut sha256, mut git) = (Sha256::new(), Sha1::new());
    git.update(format!("blob {bytes}\0"));
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        sha256.update(&buffer[..count]);
        if expected.git_id.is_some() {
            git.update(&buffer[..count]);
        }
    }
    let found = hexadecimal(&sha256.finalize());
    let wrong = |kind: &str, promised: &str, found: &str| {
        failure(
            format!("{kind} is {found}, the hub says {promised}; it is deleted"),
            "run the same pull again; if it happens twice, the server or a proxy changes the file",
        )
    };
    if let Some(promised) = expected.bytes.filter(|promised| *promised != bytes) {
        return Err(wrong("its length", &promised.to_string(), &bytes.to_string()));
    }
    if let Some(promised) = expected.sha256.as_ref().filter(|promised| promised.hex() != found) {
        return Err(wrong("its SHA-256", promised.hex(), &found));
    }
    if let Some(promised) = &expected.git_id {
        let found = hexadecimal(&git.finalize());
        if *promised != found {
            return Err(wrong("its git id", promised, &found));
        }
    }
    let digest = Digest::parse(&found).context("a SHA-256 has 64 digits")?;
    Ok((digest, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_ids_are_those_of_git() {
        // `printf 'hello\n' | git hash-object --stdin`
        let path = std::env::temp_dir().join(format!("llmos-git-id-{}", std::process::id()));
        std::fs::write(&path, "hello\n").unwrap();
        let expected = Expected {
            git_id: Some("ce013625030ba8dba906f756967f9e9ca394464a".into()),
            bytes: Some(6),
            ..Expected::default()
        };
        let (digest, bytes) = check(&mut File::open(&path).unwrap(), &expected).unwrap();
        // `printf 'hello\n' | sha256sum`
        let sum = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!((digest.hex(), bytes), (sum, 6));
        let other = Expected { sha256: Digest::parse(&"0".repeat(64)), ..Expected::default() };
        assert!(check(&mut File::open(&path).unwrap(), &other).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
