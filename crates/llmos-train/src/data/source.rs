//! What is to be prepared: sources, by name or from a mix file.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Error;

/// One source of text: a file, or a folder with everything in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// The file or folder.
    pub path: PathBuf,
    /// Share of the rows that training draws, relative to the other sources' weights. Without
    /// weights, sources are drawn by their tokens times their epochs.
    pub weight: Option<f64>,
    /// How often a text may be seen: a limit beside a weight, else a factor of the share.
    pub epochs: Option<f64>,
    /// Training tokens at most.
    pub cap_tokens: Option<u64>,
    /// Bytes of training text at most.
    pub cap_bytes: Option<u64>,
    /// What its licence is called.
    pub licence: Option<String>,
    /// The field of a row that holds its text.
    pub field: Option<String>,
}

impl Source {
    /// A source without wishes.
    pub fn new(path: impl Into<PathBuf>) -> Source {
        Source { path: path.into(), ..Source::default() }
    }
}

/// A mix file: one `[[source]]` table a source.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mix {
    source: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: PathBuf,
    weight: Option<f64>,
    epochs: Option<f64>,
    cap_tokens: Option<u64>,
    cap_bytes: Option<u64>,
    #[serde(alias = "license")]
    licence: Option<String>,
    field: Option<String>,
}

/// Reads a mix file. Relative paths in it begin at its folder.
///
/// # Errors
/// The file cannot be read, is not TOML, or has a key that a source has not.
pub fn read_mix(path: &Path) -> Result<Vec<Source>, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let mix: Mix = toml::from_str(&text).map_err(|error| Error::Format {
        path: path.to_path_buf(),
        what: "mix".into(),
        expected: "[[source]] tables with path, weight, epochs, cap_tokens, cap_bytes, licence, \
                   field"
            .into(),
        got: error.message().to_string(),
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let sources = mix.source.into_iter().map(|entry| Source {
        path: folder.join(entry.path),
        weight: entry.weight,
        epochs: entry.epochs,
        cap_tokens: entry.cap_tokens,
        cap_bytes: entry.cap_bytes,
        licence: entry.licence,
        field: entry.field,
    });
    Ok(sources.collect())
}

/// Checks that weights and epochs make a mixture.
///
/// # Errors
/// A number that is not above zero, weights for some sources alone, or no source.
pub(super) fn check(sources: &[Source]) -> Result<(), Error> {
    let refuse = |key: &str, problem: String| Err(Error::Setting { key: key.into(), problem });
    if sources.is_empty() {
        return refuse("source", "there is none".into());
    }
    for source in sources {
        let name = source.path.display();
        for (key, value) in [("weight", source.weight), ("epochs", source.epochs)] {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                return refuse(key, format!("{value} for {name} is not above zero"));
            }
        }
        for (key, cap) in [("cap_tokens", source.cap_tokens), ("cap_bytes", source.cap_bytes)] {
            if cap == Some(0) {
                return refuse(key, format!("0 leaves nothing of {name}"));
            }
        }
    }
    let without = sources.iter().find(|source| source.weight.is_none());
    if let Some(without) = without.filter(|_| sources.iter().any(|source| source.weight.is_some()))
    {
        let name = without.path.display();
        return refuse("weight", format!("{name} has none; give one to every source, or to none"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Source>, Error> {
        let path = std::env::temp_dir().join(format!("llmos-mix-{}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let read = read_mix(&path);
        std::fs::remove_file(&path).unwrap();
        read
    }

    #[test]
    fn a_mix_says_what_each_source_is() {
        let sources = read(
            "[[source]]\npath = \"a\"\nweight = 2\nlicense = \"MIT\"\n\
             [[source]]\npath = \"/b\"\nweight = 0.5\ncap_tokens = 10_000\nepochs = 4",
        )
        .unwrap();
        assert_eq!(sources[0].path, std::env::temp_dir().join("a"));
        assert_eq!((sources[0].weight, sources[0].licence.as_deref()), (Some(2.0), Some("MIT")));
        assert_eq!(sources[1].path, Path::new("/b"));
        assert_eq!((sources[1].cap_tokens, sources[1].epochs), (Some(10_000), Some(4.0)));
        check(&sources).unwrap();
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let error = read("[[source]]\npath = \"a\"\nwieght = 2").unwrap_err().to_string();
        assert!(error.contains("wieght") && error.contains("cap_tokens"), "{error}");
    }

    #[test]
    fn what_is_no_mixture_is_refused() {
        let source = |weight, epochs| Source { weight, epochs, ..Source::new("a") };
        for (sources, key) in [
            (vec![], "source"),
            (vec![source(Some(1.0), None), source(None, None)], "weight"),
            (vec![source(Some(0.0), None)], "weight"),
            (vec![source(Some(f64::NAN), None)], "weight"),
            (vec![source(None, Some(-1.0))], "epochs"),
            (vec![Source { cap_bytes: Some(0), ..Source::new("a") }], "cap_bytes"),
        ] {
            let error = check(&sources).unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        }
        check(&[source(None, Some(2.0)), source(None, None)]).unwrap();
    }
}
