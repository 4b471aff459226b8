//! The digests of models: from the registry's manifest where it has them, else found out once, in the
//! background, and kept.
//!
//! A model of one file has the SHA-256 of that file. One of several has that of their list, a line
//! `SHA-256  PATH` a file in the order of paths, as `sha256sum` writes it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use llmos_model::ModelFiles;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::command::pull::CARD;
use crate::places;
use crate::registry::{Manifest, hexadecimal, write_whole};

/// A model whose digest is wanted, and where.
struct Wanted {
    what: What,
    digest: Arc<OnceLock<String>>,
}

/// What a digest is of.
#[derive(Clone)]
pub(super) enum What {
    /// Files of a folder.
    Files { folder: PathBuf, files: Vec<PathBuf> },
    /// One that lies in the program.
    Embedded(&'static [u8]),
}

impl What {
    /// The files of a model.
    pub(super) fn of(files: &ModelFiles) -> What {
        let path = files.path();
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
        let files = files.paths().map(Path::to_path_buf).collect();
        What::Files { folder: folder.to_path_buf(), files }
    }

    /// The digest, found out here and now; none where a file cannot be read.
    pub(super) fn find(&self) -> Option<String> {
        self.look(&mut BTreeMap::new()).0
    }

    /// The digest, and whether something had to be read for it that was not known.
    fn look(&self, known: &mut BTreeMap<PathBuf, Known>) -> (Option<String>, bool) {
        let (folder, files) = match self {
            What::Embedded(bytes) => return (Some(hexadecimal(&Sha256::digest(bytes))), false),
            What::Files { folder, files } => (folder, files),
        };
        let mut is_new = false;
        let each = files.iter().map(|path| {
            let shown = path.strip_prefix(folder).unwrap_or(path).display().to_string();
            let (sha256, is_read) = of_file(path, known)?;
            is_new |= is_read;
            Some((shown, sha256))
        });
        let all: Option<Vec<_>> = each.collect();
        (all.and_then(of_all), is_new)
    }
}

/// Finds digests out, one model after the other.
pub(super) struct Digests {
    sender: Sender<Wanted>,
}

/// What was found out of a file, as long as it is the same one.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    bytes: u64,
    /// Nanoseconds since 1970 when it was last written.
    modified: u64,
    sha256: String,
}

impl Digests {
    /// Begins to wait for work.
    pub(super) fn start() -> Digests {
        let (sender, receiver) = mpsc::channel();
        let kept = places::data_folder().ok().map(|folder| folder.join("digests.json"));
        // Without a thread no digest is found out; everything else works.
        let _ = std::thread::Builder::new()
            .name("digests".into())
            .spawn(move || work(&receiver, kept.as_deref()));
        Digests { sender }
    }

    /// Wants a digest in that place.
    pub(super) fn want(&self, what: What, digest: Arc<OnceLock<String>>) {
        // The thread ends with the program alone.
        let _ = self.sender.send(Wanted { what, digest });
    }
}

/// The digest of a model of the registry; its card is no part of it.
pub(super) fn of_manifest(manifest: &Manifest) -> Option<String> {
    let files = manifest.files.iter().filter(|file| file.path != CARD);
    of_all(files.map(|file| (file.path.clone(), file.sha256.hex().to_string())).collect())
}

/// The digest of all of (path, digest).
fn of_all(mut files: Vec<(String, String)>) -> Option<String> {
    files.sort();
    if let [(_, only)] = files.as_slice() {
        return Some(only.clone());
    }
    let lines: String = files.iter().map(|(path, sha256)| format!("{sha256}  {path}\n")).collect();
    (!files.is_empty()).then(|| hexadecimal(&Sha256::digest(lines.as_bytes())))
}

fn work(wanted: &Receiver<Wanted>, kept: Option<&Path>) {
    let text = kept.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    let mut known: BTreeMap<PathBuf, Known> = serde_json::from_slice(&text).unwrap_or_default();
    for Wanted { what, digest } in wanted {
        // Whoever loads the model may have been first.
        if digest.get().is_some() {
            continue;
        }
        let (found, is_new) = what.look(&mut known);
        match found {
            Some(found) => drop(digest.set(found)),
            None => tracing::warn!("a model's digest is not known: its files cannot be read"),
        }
        if is_new {
            known.retain(|path, _| path.exists());
            if let (Some(path), Ok(text)) = (kept, serde_json::to_vec_pretty(&known)) {
                // It is found out again the next time.
                let _ = write_whole(path, &text);
            }
        }
    }
}

/// The digest of a file, and whether it had to be read for it.
fn of_file(path: &Path, known: &mut BTreeMap<PathBuf, Known>) -> Option<(String, bool)> {
    let path = path.canonicalize().ok()?;
    let about = path.metadata().ok()?;
    let modified = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let (bytes, modified) = (about.len(), u64::try_from(modified.as_nanos()).ok()?);
    if let Some(found) = known.get(&path).filter(|k| k.bytes == bytes && k.modified == modified) {
        return Some((found.sha256.clone(), false));
    }
    let sha256 = read(&path).ok()?;
    known.insert(path, Known { bytes, modified, sha256: sha256.clone() });
    Some((sha256, true))
}

/// Reads a file for its digest.
pub(super) fn read(path: &Path) -> std::io::Result<String> {
    let (mut file, mut sha256) = (File::open(path)?, Sha256::new());
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hexadecimal(&sha256.finalize())),
            Ok(count) => sha256.update(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_s_digest_is_read_once_and_again_when_it_changes() {
        let path = std::env::temp_dir().join(format!("llmos-digest-{}", std::process::id()));
        std::fs::write(&path, "hello\n").unwrap();
        let mut known = BTreeMap::new();
        // `printf 'hello\n' | sha256sum`
        let sum = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(of_file(&path, &mut known), Some((sum.to_string(), true)));
        for entry in known.values_mut() {
            entry.sha256 = "kept".into();
        }
        assert_eq!(of_file(&path, &mut known), Some(("kept".to_string(), false)));
        std::fs::write(&path, "hello").unwrap();
        assert!(of_file(&path, &mut known).unwrap().1);
        assert_eq!(known.len(), 1);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(of_file(&path, &mut known), None);
    }

    #[test]
    fn several_files_have_the_digest_of_their_list() {
        let file = |name: &str, sum: &str| (name.to_string(), sum.to_string());
        assert_eq!(of_all(vec![file("m.gguf", "aa")]).as_deref(), Some("aa"));
        // `printf 'bb  a\naa  b\n' | sha256sum`
        let listed = hexadecimal(&Sha256::digest(b"bb  a\naa  b\n"));
        assert_eq!(of_all(vec![file("b", "aa"), file("a", "bb")]), Some(listed));
        assert_eq!(of_all(Vec::new()), None);
    }
}
