//! What a prepared folder holds, and where it comes from: `manifest.json`.
//!
//! The same texts, options and tokenizer give the same manifest to the byte: it names no time and
//! no machine.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::language::Language;
use super::removal::{Example, Reason, Removed};
use crate::Error;

/// The manifest's name in its folder.
pub const MANIFEST: &str = "manifest.json";

/// The tokenizer's name in its folder.
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// The name of what is to be known of the tokenizer beside itself.
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// What the manifest says that it is.
const FORMAT: &str = "llmos-data";

/// The version of the format.
const VERSION: u32 = 1;

/// Longest manifest that is read, in bytes: a million files are listed in some 200 MB.
const LONGEST: u64 = 1 << 30;

/// The manifest of a prepared folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// `llmos-data`.
    pub format: String,
    /// The version of the format.
    pub version: u32,
    /// The version of the program that wrote it.
    pub program: String,
    /// The tokenizer, which lies beside the manifest.
    pub tokenizer: TokenizerEntry,
    /// The training stream.
    pub train: Part,
    /// The held-out stream.
    pub validation: Part,
    /// Where the texts come from, in the order of the streams.
    pub sources: Vec<SourceEntry>,
    /// What was taken out of all sources, by reason.
    pub removed: BTreeMap<Reason, Removed>,
    /// A few documents of each reason.
    pub examples: Vec<Example>,
    /// How the texts were prepared: flags and their values.
    pub options: BTreeMap<String, String>,
}

/// The tokenizer that made the ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenizerEntry {
    /// Ids.
    pub vocab_size: u64,
    /// SHA-256 of `tokenizer.json`.
    pub sha256: String,
    /// The ids before each document.
    pub start: Vec<u32>,
    /// The id after each document; none where a line's end stands for it.
    pub end: Option<u32>,
    /// Share of the bytes that the vocabulary could not express.
    pub lost: f64,
}

/// A stream of tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Token ids.
    pub tokens: u64,
    /// Documents, and parts of long ones.
    pub documents: u64,
    /// Bytes of text: what bits per byte are counted by.
    pub bytes: u64,
    /// The files of the stream, in order.
    pub shards: Vec<Shard>,
    /// The file that lists the documents.
    pub index: String,
    /// XXH3-64 of its records, in hexadecimal.
    pub index_checksum: String,
}

/// A file of token ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its name.
    pub file: String,
    /// Its ids.
    pub tokens: u64,
    /// XXH3-64 of its ids, in hexadecimal.
    pub checksum: String,
}

/// A source of texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceEntry {
    /// The path that was given.
    pub path: String,
    /// SHA-256: of the file, or for a folder of a line for each file, "HASH  NAME\n".
    pub sha256: String,
    /// Its licence; none where nothing says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The file that says the licence; none where a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence_from: Option<String>,
    /// Its weight beside the other sources, where weights were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// How often it may be seen, where that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Share of the rows that training draws from it.
    pub share: f64,
    /// Rows that were read.
    pub rows: u64,
    /// Whether it has more text than its cap let in.
    pub is_capped: bool,
    /// What went into the training stream: its documents lie one after another.
    pub train: Span,
    /// What went into the held-out stream.
    pub validation: Span,
    /// Documents by language, before they were filtered.
    pub languages: BTreeMap<Language, u64>,
    /// What was taken out, by reason.
    pub removed: BTreeMap<Reason, Removed>,
    /// The number of its first file over all sources, which the index counts by.
    pub first_file: u32,
    /// Its files.
    pub files: Vec<FileEntry>,
    /// Files of the folder that are of no kind that is read, by ending.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<String, u64>,
}

/// A source's part of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The number of the first token.
    pub start: u64,
    /// Tokens.
    pub tokens: u64,
    /// Documents, and parts of long ones.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
}

/// A file of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its path within the source.
    pub name: String,
    /// SHA-256 of the file as it lies on the disk.
    pub sha256: String,
    /// Its bytes.
    pub bytes: u64,
}

impl Manifest {
    /// A manifest of this program.
    pub(super) fn new(tokenizer: TokenizerEntry) -> Manifest {
        Manifest {
            format: FORMAT.into(),
            version: VERSION,
            program: concat!("llmos ", env!("CARGO_PKG_VERSION")).into(),
            tokenizer,
            train: Part::default(),
            validation: Part::default(),
            sources: Vec::new(),
            removed: BTreeMap::new(),
            examples: Vec::new(),
            options: BTreeMap::new(),
        }
    }

    /// Reads and checks the manifest of a folder, and gives the bytes that it was read from.
    ///
    /// # Errors
    /// There is none, or it is not one of this version.
    pub(super) fn read(folder: &Path) -> Result<(Manifest, Vec<u8>), Error> {
        let path = folder.join(MANIFEST);
        let refuse = |what: &str, expected: String, got: String| Error::Format {
            path: path.clone(),
            what: what.into(),
            expected,
            got,
        };
        let length = path.metadata().map_err(Error::io("read", &path))?.len();
        if length > LONGEST {
            return Err(refuse("length", "a gigabyte at most".into(), length.to_string()));
        }
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| refuse("manifest", FORMAT.into(), error.to_string()))?;
        if manifest.format != FORMAT || manifest.version != VERSION {
            let got = format!("{} {}", manifest.format, manifest.version);
            return Err(refuse("format", format!("{FORMAT} {VERSION}"), got));
        }
        for part in [&manifest.train, &manifest.validation] {
            let names = part.shards.iter().map(|shard| &shard.file).chain([&part.index]);
            for name in names {
                // A manifest of a stranger names no file elsewhere.
                if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', ':']) {
                    return Err(refuse("a file's name", "one in the folder".into(), name.clone()));
                }
            }
        }
        manifest.check_spans(&refuse)?;
        Ok((manifest, bytes))
    }

    /// Whether a file of that name belongs to the folder.
    pub(super) fn names(&self, name: &str) -> bool {
        let is_part =
            |part: &Part| part.index == name || part.shards.iter().any(|shard| shard.file == name);
        [MANIFEST, TOKENIZER, TOKENIZER_CONFIG].contains(&name)
            || [&self.train, &self.validation].into_iter().any(is_part)
    }

    /// Checks that the sources' spans make up the streams.
    fn check_spans(&self, refuse: &dyn Fn(&str, String, String) -> Error) -> Result<(), Error> {
        type Get = fn(&SourceEntry) -> &Span;
        let parts: [(&str, &Part, Get); 2] = [
            ("train", &self.train, |source| &source.train),
            ("validation", &self.validation, |source| &source.validation),
        ];
        for (name, part, span) in parts {
            let mut end = 0u64;
            for source in &self.sources {
                let span = span(source);
                if span.start != end {
                    let what = format!("{name} span of {}", source.path);
                    return Err(refuse(&what, end.to_string(), span.start.to_string()));
                }
                end = end.saturating_add(span.tokens);
            }
            if end != part.tokens {
                let what = format!("tokens of {name}");
                return Err(refuse(&what, end.to_string(), part.tokens.to_string()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::scratch::Scratch;

    #[test]
    fn a_manifest_is_checked() {
        let entry = TokenizerEntry {
            vocab_size: 10,
            sha256: "0".into(),
            start: vec![],
            end: Some(0),
            lost: 0.0,
        };
        let mut sound = Manifest::new(entry);
        sound.train.index = "documents.bin".into();
        sound.validation.index = "validation-documents.bin".into();
        let scratch = Scratch::new();
        let read = |manifest: &Manifest| {
            let json = serde_json::to_vec(manifest).unwrap();
            scratch.write(MANIFEST, &json);
            Manifest::read(scratch.path()).map(|(manifest, _)| manifest)
        };
        assert_eq!(read(&sound).unwrap(), sound);
        let change = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = sound.clone();
            change(&mut manifest);
            read(&manifest).unwrap_err().to_string()
        };
        assert!(change(&|m| m.version = 2).contains("llmos-data 2"));
        assert!(change(&|m| m.train.index = "../x".into()).contains("../x"));
        assert!(change(&|m| m.train.tokens = 3).contains("tokens of train"));
        let span = |start, tokens| Span { start, tokens, ..Span::default() };
        let source = |train| SourceEntry { train, ..SourceEntry::default() };
        assert!(change(&|m| m.sources = vec![source(span(1, 2))]).contains("train span"),);
        scratch.write(MANIFEST, b"{}");
        assert!(Manifest::read(scratch.path()).is_err());
    }
}
