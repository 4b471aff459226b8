//! The local registry: models by name, files by digest.
//!
//! `blobs/sha256-…` holds each file once, `manifests/*.json` says which files a model has, and
//! `views/*/` gives them the names that a reader of model files expects, as hard links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::failure::{Explain, failure};
use crate::hub::is_safe_path;
use crate::interrupt::Unfinished;
use crate::places;

/// A model in the registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The whole name: `OWNER/REPO:FILE`, or `OWNER/REPO` for a folder of safetensors.
    pub(crate) name: String,
    /// Where it was pulled from.
    pub(crate) source: String,
    /// The commit that it was at.
    pub(crate) revision: Option<String>,
    /// Seconds since 1970 when it was pulled.
    pub(crate) pulled: u64,
    /// The file to open in the view; none opens the folder.
    pub(crate) entry: Option<String>,
    /// Its files.
    pub(crate) files: Vec<Stored>,
}

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// Its path in the view.
    pub(crate) path: String,
    /// The digest of its bytes.
    pub(crate) sha256: Digest,
    /// Its length.
    pub(crate) bytes: u64,
}

/// A SHA-256 in 64 lower-case hexadecimal digits; nothing else can stand in a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest(String);

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Digest, String> {
        Digest::parse(&text).ok_or_else(|| format!("{text:?} is not a SHA-256"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl Digest {
    /// The digest that `text` spells, in either case.
    pub(crate) fn parse(text: &str) -> Option<Digest> {
        let valid = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        valid.then(|| Digest(text.to_ascii_lowercase()))
    }

    /// The 64 digits.
    pub(crate) fn hex(&self) -> &str {
        &self.0
    }
}

/// The registry's folder.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    folder: PathBuf,
}

/// Held while the registry changes; other programs wait.
pub(crate) struct Lock {
    _file: File,
}

impl Registry {
    /// The person's registry, which need not exist yet.
    ///
    /// # Errors
    /// No home folder is known.
    pub(crate) fn open() -> anyhow::Result<Registry> {
        Ok(Registry { folder: places::data_folder()?.join("models") })
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Locks the registry: shared to add to it, exclusive to take away from it.
    ///
    /// # Errors
    /// The folder cannot be written, or another llmos holds the lock and `exclusive` is asked for.
    pub(crate) fn lock(&self, exclusive: bool) -> anyhow::Result<Lock> {
        make_folder(&self.folder)?;
        let path = self.folder.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        if exclusive {
            if let Err(error) = file.try_lock() {
                return match error {
                    std::fs::TryLockError::WouldBlock => Err(failure(
                        "the registry is in use by another llmos",
                        "wait until its pull has ended",
                    )),
                    std::fs::TryLockError::Error(error) => Err(error.into()),
                };
            }
        } else {
            file.lock_shared().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(Lock { _file: file })
    }

    /// All models, by name. A manifest that does not parse is left out and named in the second list.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn models(&self) -> anyhow::Result<(Vec<Manifest>, Vec<PathBuf>)> {
        let folder = self.folder.join("manifests");
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Default::default());
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", folder.display()));
            }
        };
        let (mut models, mut broken) = (BTreeMap::new(), Vec::new());
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let manifest = std::fs::read(&path).ok().and_then(|text| {
                let manifest: Manifest = serde_json::from_slice(&text).ok()?;
                manifest.files.iter().all(|file| is_safe_path(&file.path)).then_some(manifest)
            });
            match manifest {
                Some(manifest) => {
                    models.insert(manifest.name.clone(), manifest);
                }
                None => broken.push(path),
            }
        }
        Ok((models.into_values().collect(), broken))
    }

    /// The models that `name` can mean: its whole name, or the part after the last `/` or `:`.
    ///
    /// # Errors
    /// As [`Registry::models`].
    pub(crate) fn find(&self, name: &str) -> anyhow::Result<Vec<Manifest>> {
        let name = name.strip_prefix("hf:").unwrap_or(name);
        let (models, _) = self.models()?;
        if let Some(exact) = models.iter().find(|model| model.name == name) {
            return Ok(vec![exact.clone()]);
        }
        let matches = |model: &Manifest| {
            let (repository, file) = split_name(&model.name);
            model.name.eq_ignore_ascii_case(name)
                || short_name(&model.name).eq_ignore_ascii_case(name)
                || (file.is_some() && repository.eq_ignore_ascii_case(name))
        };
        Ok(models.into_iter().filter(matches).collect())
    }

    /// The path that opens a model.
    pub(crate) fn path_of(&self, model: &Manifest) -> PathBuf {
        let view = self.view(&model.name);
        match &model.entry {
            Some(entry) => view.join(entry),
            None => view,
        }
    }

    /// Where the file of that digest is, or will be.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs").join(format!("sha256-{}", digest.hex()))
    }

    /// The file that a download is written to until it is whole. `identity` is anything that stays
    /// the same while the file at the other end does.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(crate) fn partial(&self, identity: &str) -> anyhow::Result<PathBuf> {
        use sha2::{Digest as _, Sha256};
        make_folder(&self.folder.join("blobs"))?;
        let folder = self.folder.join("partial");
        make_folder(&folder)?;
        Ok(folder.join(hexadecimal(&Sha256::digest(identity.as_bytes()))))
    }

    /// Makes a model known: its view first, then its manifest.
    ///
    /// # Errors
    /// The files cannot be written; nothing of the model is visible then.
    pub(crate) fn add(&self, model: &Manifest) -> anyhow::Result<PathBuf> {
        let view = self.view(&model.name);
        let aside = Unfinished::new(view.with_extension(format!("{}.tmp", std::process::id())));
        make_folder(aside.path())?;
        for file in &model.files {
            if !is_safe_path(&file.path) {
                return Err(failure(
                    format!("{:?} is not a path inside a model", file.path),
                    "the repository is broken or hostile: take another one",
                ));
            }
            let path = aside.path().join(&file.path);
            if let Some(parent) = path.parent() {
                make_folder(parent)?;
            }
            link(&self.blob(&file.sha256), &path)?;
        }
        if view.exists() {
            std::fs::remove_dir_all(&view)
                .with_context(|| format!("cannot replace {}", view.display()))?;
        }
        std::fs::rename(aside.path(), &view)
            .with_context(|| format!("cannot make {}", view.display()))?;
        aside.keep();
        let mut text = serde_json::to_vec_pretty(model)?;
        text.push(b'\n');
        write_whole(&self.manifest(&model.name), &text)?;
        Ok(self.path_of(model))
    }

    /// Forgets a model and deletes the files that no other model has; returns the bytes freed.
    ///
    /// # Errors
    /// A file cannot be deleted.
    pub(crate) fn remove(&self, model: &Manifest) -> anyhow::Result<u64> {
        let delete = |path: &Path| match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot delete {}", path.display()))
            }
            _ => Ok(()),
        };
        delete(&self.manifest(&model.name))?;
        let view = self.view(&model.name);
        if view.exists() {
            std::fs::remove_dir_all(&view)
                .with_context(|| format!("cannot delete {}", view.display()))?;
        }
        let (others, _) = self.models()?;
        let kept: BTreeSet<&Digest> =
            others.iter().flat_map(|other| &other.files).map(|file| &file.sha256).collect();
        let mine: BTreeMap<&Digest, u64> =
            model.files.iter().map(|file| (&file.sha256, file.bytes)).collect();
        let mut freed = 0;
        for (digest, bytes) in mine.into_iter().filter(|(digest, _)| !kept.contains(digest)) {
            delete(&self.blob(digest))?;
            freed += bytes;
        }
        Ok(freed)
    }

    fn view(&self, name: &str) -> PathBuf {
        self.folder.join("views").join(file_name(name))
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.folder.join("manifests").join(format!("{}.json", file_name(name)))
    }
}

/// `OWNER/REPO` and the file of a name.
fn split_name(name: &str) -> (&str, Option<&str>) {
    match name.split_once(':') {
        Some((repository, file)) => (repository, Some(file)),
        None => (name, None),
    }
}

/// The last part of a name: the file, or the repository.
pub(crate) fn short_name(name: &str) -> &str {
    name.rsplit(['/', ':']).next().unwrap_or(name)
}

/// A name as one file name. The hub allows no `--` in names, so this cannot merge two of them.
fn file_name(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) { c.to_string() } else { "--".into() }
        })
        .collect()
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a folder of the registry and those above it.
///
/// # Errors
/// The system refuses.
pub(crate) fn make_folder(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path).explain(
        || format!("cannot make the folder {}", path.display()),
        || "set LLMOS_HOME to a folder that can be written".into(),
    )
}

/// Writes a file aside and renames it, so that it is there whole or not at all.
///
/// # Errors
/// The system refuses.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).explain(
        || format!("cannot make the folder {}", folder.display()),
        || "check the path, and who may write there".into(),
    )?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let aside = Unfinished::new(folder.join(name));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(aside.path())?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(aside.path(), path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    aside.keep();
    Ok(())
}

/// A second name for a file: a hard link, or a symbolic one where the file system has none.
fn link(blob: &Path, path: &Path) -> anyhow::Result<()> {
    let Err(error) = std::fs::hard_link(blob, path) else { return Ok(()) };
    #[cfg(unix)]
    if std::os::unix::fs::symlink(blob, path).is_ok() {
        return Ok(());
    }
    Err(error).with_context(|| format!("cannot link {} to {}", path.display(), blob.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(name: &str) -> Registry {
        let folder =
            std::env::temp_dir().join(format!("llmos-registry-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Registry { folder }
    }

    fn digest(fill: char) -> Digest {
        Digest::parse(&fill.to_string().repeat(64)).expect("64 hexadecimal digits")
    }

    fn model(name: &str, entry: &str, digest: &Digest) -> Manifest {
        Manifest {
            name: name.into(),
            source: format!("hf:{name}"),
            revision: None,
            pulled: 1,
            entry: Some(entry.into()),
            files: vec![Stored { path: entry.into(), sha256: digest.clone(), bytes: 3 }],
        }
    }

    #[test]
    fn a_shared_file_outlives_the_first_of_its_models() {
        let registry = registry("shared");
        let shared = digest('a');
        let blob = registry.blob(&shared);
        make_folder(blob.parent().unwrap()).unwrap();
        std::fs::write(&blob, b"abc").unwrap();
        let one = model("o/one:x-Q4_0", "x.gguf", &shared);
        let two = model("o/two:y-Q4_0", "y.gguf", &shared);
        for model in [&one, &two] {
            let path = registry.add(model).unwrap();
            assert_eq!(std::fs::read(path).unwrap(), b"abc");
        }
        assert_eq!(registry.models().unwrap().0, [one.clone(), two.clone()]);
        for name in ["x-q4_0", "hf:o/one:x-Q4_0", "o/one", "O/ONE:X-q4_0"] {
            assert_eq!(registry.find(name).unwrap(), std::slice::from_ref(&one), "{name}");
        }
        assert!(registry.find("one").unwrap().is_empty());
        assert_eq!(registry.remove(&one).unwrap(), 0);
        assert!(blob.exists());
        assert_eq!(registry.remove(&two).unwrap(), 3);
        assert!(!blob.exists());
        assert!(registry.models().unwrap().0.is_empty());
        std::fs::remove_dir_all(registry.folder()).unwrap();
    }

    #[test]
    fn a_place_that_cannot_be_written_is_no_matter_of_the_home_folder() {
        let registry = registry("elsewhere");
        let file = registry.folder().join("file");
        write_whole(&file, b"abc").unwrap();
        let error = write_whole(&file.join("inside"), b"abc").unwrap_err();
        assert_eq!(crate::failure::hint_of(&error), "check the path, and who may write there");
        std::fs::remove_dir_all(registry.folder()).unwrap();
    }

    #[test]
    fn paths_and_digests_from_outside_stay_inside() {
        for path in ["", "/etc/passwd", "../x", "a/../b", "a//b", "c:\\x", "a\\b", "."] {
            assert!(!is_safe_path(path), "{path}");
        }
        assert!(is_safe_path("onnx/model.safetensors"));
        for text in ["", "../../etc", &"g".repeat(64), &"a".repeat(63)] {
            assert_eq!(Digest::parse(text), None, "{text}");
        }
        let lying = format!(r#"{{"path":"x","sha256":"{}","bytes":1}}"#, "/".repeat(64));
        assert!(serde_json::from_str::<Stored>(&lying).is_err());
    }

    #[test]
    fn a_broken_manifest_is_named_and_hides_nothing() {
        let registry = registry("broken");
        let path = registry.manifest("o/bad");
        write_whole(&path, b"{").unwrap();
        assert_eq!(registry.models().unwrap(), (Vec::new(), vec![path]));
        std::fs::remove_dir_all(registry.folder()).unwrap();
    }
}
