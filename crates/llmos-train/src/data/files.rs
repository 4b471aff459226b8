//! The files of a source, in order, and what kind each is.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use super::manifest::{MANIFEST, Manifest};
use super::read::is_packed;
use super::source::Source;
use crate::Error;
use crate::run::RunFolder;

/// How the rows of a file are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Plain text and markdown.
    Text,
    /// One JSON value a line.
    Lines,
    /// One JSON array, or JSON values one after another.
    Json,
    /// Apache Parquet.
    Parquet,
}

/// A file to be read.
#[derive(Clone, Debug)]
pub(super) struct RawFile {
    pub(super) path: PathBuf,
    /// Its path within the source's folder, with `/`; the file's own name where it is the source.
    pub(super) name: String,
    pub(super) format: Format,
    /// Whether it was named itself, not found in a folder.
    pub(super) is_named: bool,
    /// As it lies on the disk.
    pub(super) n_byte: u64,
}

/// Endings of files in folders that are read, with their formats.
const ENDINGS: [(&str, Format); 10] = [
    ("txt", Format::Text),
    ("text", Format::Text),
    ("md", Format::Text),
    ("markdown", Format::Text),
    ("jsonl", Format::Lines),
    ("ndjson", Format::Lines),
    ("json", Format::Json),
    ("parquet", Format::Parquet),
    ("pq", Format::Parquet),
    ("pqt", Format::Parquet),
];

/// What the files of a folder are called that say something about it.
const ABOUT: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "SOURCE.json"];

/// The files of a source, and how many others a folder has, by ending.
///
/// `more` are endings of further text files that are taken from folders.
///
/// # Errors
/// There is no such file, a folder cannot be listed, or has nothing to read.
pub(super) fn list(
    source: &Source,
    more: &[String],
) -> Result<(Vec<RawFile>, BTreeMap<String, u64>), Error> {
    let path = &source.path;
    let metadata = path.metadata().map_err(Error::io("read", path))?;
    let mut skipped = BTreeMap::new();
    if !metadata.is_dir() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let format = format_of(&name, &[]).unwrap_or(Format::Text);
        let file =
            RawFile { path: path.clone(), name, format, is_named: true, n_byte: metadata.len() };
        return Ok((vec![file], skipped));
    }
    let mut files = Vec::new();
    walk(path, "", more, &mut files, &mut skipped)?;
    if files.is_empty() {
        let kinds: Vec<&str> = skipped.keys().map(String::as_str).collect();
        return Err(Error::Format {
            path: path.clone(),
            what: "folder".into(),
            expected: "files that end in .txt, .md, .jsonl, .json or .parquet".into(),
            got: if kinds.is_empty() { "none".into() } else { kinds.join(", ") },
        });
    }
    Ok((files, skipped))
}

/// The files of these paths as a preparation reads them, if all are plain text; none where some must
/// be unpacked or taken apart.
///
/// # Errors
/// There is no such file, a folder cannot be listed, or has nothing to read.
pub fn plain_texts(paths: &[PathBuf]) -> Result<Option<Vec<PathBuf>>, Error> {
    let mut plain = Vec::new();
    for path in paths {
        for file in list(&Source::new(path), &[])?.0 {
            if file.format != Format::Text || is_packed(&file.path)? {
                return Ok(None);
            }
            plain.push(file.path);
        }
    }
    Ok(Some(plain))
}

fn walk(
    folder: &Path,
    prefix: &str,
    more: &[String],
    files: &mut Vec<RawFile>,
    skipped: &mut BTreeMap<String, u64>,
) -> Result<(), Error> {
    let listed =
        std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut entries = listed.map_err(Error::io("list", folder))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let own = entry.file_name().to_string_lossy().into_owned();
        if own.starts_with('.') || ABOUT.iter().any(|about| own.starts_with(about)) {
            continue;
        }
        let name = format!("{prefix}{own}");
        let kind = entry.file_type().map_err(Error::io("read", &path))?;
        // A link to a folder may lead in a circle; a link to a file does not.
        if kind.is_dir() {
            match is_written_by_llmos(&path) {
                true => *skipped.entry("folder that llmos wrote".into()).or_default() += 1,
                false => walk(&path, &format!("{name}/"), more, files, skipped)?,
            }
            continue;
        }
        let Ok(metadata) = path.metadata() else { continue };
        if !metadata.is_file() {
            continue;
        }
        match format_of(&own, more) {
            Some(format) => {
                let n_byte = metadata.len();
                files.push(RawFile { path, name, format, is_named: false, n_byte });
            }
            None => {
                let ending = own.rsplit_once('.').map_or("no ending", |(_, ending)| ending);
                *skipped.entry(ending.to_string()).or_default() += 1;
            }
        }
    }
    Ok(())
}

/// Whether a folder is a run's or a prepared text's. Where `runs` lies beside the texts, no run learns
/// from what an earlier one dreamt.
fn is_written_by_llmos(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    let is_run = has(RunFolder::RECIPE) && (has(RunFolder::METRICS) || has(RunFolder::LOCK));
    is_run || has(MANIFEST) && Manifest::read(folder).is_ok()
}

/// The format that a name says, compressed or not.
fn format_of(name: &str, more: &[String]) -> Option<Format> {
    let name = name.to_lowercase();
    let bare = [".gz", ".zst"].iter().find_map(|ending| name.strip_suffix(ending));
    let (_, ending) = bare.unwrap_or(&name).rsplit_once('.')?;
    let known = ENDINGS.iter().find(|(known, _)| *known == ending).map(|&(_, format)| format);
    known.or_else(|| more.iter().any(|more| more == ending).then_some(Format::Text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;

    #[test]
    fn names_say_the_format() {
        for (name, expected) in [
            ("a.txt", Some(Format::Text)),
            ("A.MD", Some(Format::Text)),
            ("a.jsonl.zst", Some(Format::Lines)),
            ("a.json.gz", Some(Format::Json)),
            ("a.parquet", Some(Format::Parquet)),
            ("a.rs", Some(Format::Text)),
            ("a.png", None),
            ("gz", None),
            ("a.gz", None),
        ] {
            assert_eq!(format_of(name, &["rs".into()]), expected, "{name}");
        }
    }

    #[test]
    fn folders_are_walked_in_the_order_of_names() {
        let scratch = Scratch::new();
        for name in ["b/z.txt", "b/a.md", "a.jsonl", ".hidden.txt", "LICENSE.txt", "c.png", "b/d"] {
            scratch.write(name, b"x");
        }
        let (files, skipped) = list(&Source::new(scratch.path()), &[]).unwrap();
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a.jsonl", "b/a.md", "b/z.txt"]);
        assert!(files.iter().all(|file| !file.is_named && file.n_byte == 1));
        assert_eq!(skipped, BTreeMap::from([("png".into(), 1), ("no ending".into(), 1)]));
    }

    #[test]
    fn what_llmos_wrote_among_texts_is_no_text() {
        let scratch = Scratch::new();
        for name in [
            "a.txt",
            "metrics/metrics.jsonl",
            "runs/a/recipe.toml",
            "runs/a/metrics.jsonl",
            "runs/a/dreams.jsonl",
            "runs/b/recipe.toml",
            "runs/b/lock",
            "runs/b/notes.txt",
            "runs/c.txt",
        ] {
            scratch.write(name, b"x");
        }
        let (files, skipped) = list(&Source::new(scratch.path()), &[]).unwrap();
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a.txt", "metrics/metrics.jsonl", "runs/c.txt"]);
        assert_eq!(skipped, BTreeMap::from([("folder that llmos wrote".into(), 2)]));
    }

    #[test]
    fn plain_texts_are_those_that_need_no_reader() {
        let scratch = Scratch::new();
        for name in ["b/z.txt", "a.md", "LICENSE.txt", "NOTICE", "c.png"] {
            scratch.write(name, b"x");
        }
        let plain = || plain_texts(&[scratch.path().to_path_buf()]).unwrap();
        assert_eq!(plain(), Some(["a.md", "b/z.txt"].map(|n| scratch.path().join(n)).to_vec()));
        scratch.write("d.txt", b"\x1f\x8b\x08");
        assert_eq!(plain(), None);
        std::fs::remove_file(scratch.path().join("d.txt")).unwrap();
        scratch.write("e.jsonl", b"{}");
        assert_eq!(plain(), None);
        assert!(plain_texts(&[scratch.path().join("none")]).is_err());
    }

    #[test]
    fn a_folder_without_text_says_what_it_has() {
        let scratch = Scratch::new();
        scratch.write("c.png", b"x");
        let error = list(&Source::new(scratch.path()), &[]).unwrap_err().to_string();
        assert!(error.contains("got png"), "{error}");
        let error = list(&Source::new(scratch.path().join("none")), &[]).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }
}
