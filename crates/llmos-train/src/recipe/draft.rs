//! What a person gave of a recipe: a file, a shape, flags, and `--set key=value`, the last one
//! counting.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use toml::{Table, Value};

use super::keys::{self, KEYS, LENGTHS, MINUTES, setting};
use super::resolve::FIXED;
use super::write::reasons;
use super::{Recipe, Shape};
use crate::Error;

/// A value and the reason for it.
#[derive(Clone, Debug, PartialEq)]
struct Given {
    value: Value,
    reason: String,
}

impl Given {
    /// A value that was given somewhere, such as in a file or with a flag.
    fn at(value: Value, origin: &str) -> Given {
        Given { value, reason: format!("given: {origin}") }
    }
}

/// A recipe with gaps. Each value has passed the range of its key; whether they go together shows
/// when the draft is resolved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    given: BTreeMap<&'static str, Given>,
}

/// A recipe is some kilobytes of text; what is larger is another file.
const LARGEST_FILE: u64 = 1 << 20;

impl Draft {
    /// The draft in a file.
    ///
    /// # Errors
    /// As [`Draft::from_toml`]; [`Error::Io`] where the file cannot be read; [`Error::Format`] where
    /// it is not a text of a recipe's size.
    pub fn read(path: &Path) -> Result<Draft, Error> {
        Draft::from_toml(&text_of(path)?, path)
    }

    /// The recipe of a run, in which each value keeps the reason that stands beside it.
    ///
    /// # Errors
    /// As [`Draft::read`].
    pub fn stored(path: &Path) -> Result<Draft, Error> {
        let text = text_of(path)?;
        let mut draft = Draft::from_toml(&text, path)?;
        for (key, reason) in reasons(&text) {
            if let Some(given) = draft.given.get_mut(key.as_str()) {
                given.reason = reason;
            }
        }
        Ok(draft)
    }

    /// The draft that `text` is, the contents of the file at `path`.
    ///
    /// # Errors
    /// [`Error::Format`] where it is not TOML; [`Error::Setting`] for a key that does not exist or a
    /// value that cannot be, with the nearest that can, and for a run whose length is given twice.
    pub fn from_toml(text: &str, path: &Path) -> Result<Draft, Error> {
        let table = text.parse::<Table>().map_err(|error| Error::Format {
            path: path.to_path_buf(),
            what: "recipe".to_string(),
            expected: "TOML".to_string(),
            got: error.to_string().trim_end().to_string(),
        })?;
        let origin = path.display().to_string();
        let mut draft = Draft::default();
        for (name, value) in table {
            match value {
                Value::Table(section) => {
                    for (key, value) in section {
                        draft.put(&format!("{name}.{key}"), value, &origin)?;
                    }
                }
                value => draft.put(&name, value, &origin)?,
            }
        }
        let lengths: Vec<&str> =
            LENGTHS.into_iter().filter(|key| draft.given.contains_key(key)).collect();
        if let [first, .., last] = lengths[..] {
            let problem = format!("{origin} gives {first} too: one of them says how long a run is");
            return Err(setting(last, problem));
        }
        Ok(draft)
    }

    /// Takes the numbers of a named shape: of the model, and of a step.
    pub fn shape(&mut self, shape: Shape) {
        let origin = format!("--shape {}", shape.name());
        let mut put = |key: &'static str, value: Value| {
            self.given.insert(key, Given::at(value, &origin));
        };
        for (key, count) in shape.counts() {
            put(key, Value::Integer(count));
        }
        put("model.tied_head", Value::Boolean(true));
        put("model.qk_norm", Value::Boolean(false));
        put("model.norm_eps", Value::Float(1e-5));
        put("model.rope_base", Value::Float(1e4));
    }

    /// Takes `key=value`, as `--set` has it. The value is TOML; a bare word is a text.
    ///
    /// # Errors
    /// [`Error::Setting`], as [`Draft::set`].
    pub fn assign(&mut self, assignment: &str) -> Result<(), Error> {
        let parts = assignment.split_once('=').filter(|(key, _)| !key.trim().is_empty());
        let (key, text) = parts.ok_or_else(|| {
            let what = "expected key=value, such as optimizer.lr=3e-4".to_string();
            setting(assignment, what)
        })?;
        let text = text.trim();
        let parsed = format!("value = {text}").parse::<Table>().ok();
        let alone = parsed.filter(|table| table.len() == 1);
        let value = alone.and_then(|mut table| table.remove("value"));
        self.set(key, value.unwrap_or_else(|| Value::String(text.to_string())), "--set")
    }

    /// Sets a key; `origin` says where it was given, such as `--steps`. Of the lengths of a run the
    /// last one counts.
    ///
    /// # Errors
    /// [`Error::Setting`] for a key that does not exist or a value that cannot be, with the nearest
    /// that can.
    pub fn set(&mut self, key: &str, value: impl Into<Value>, origin: &str) -> Result<(), Error> {
        let key = keys::find(key)?.name;
        self.put(key, value.into(), origin)?;
        if LENGTHS.contains(&key) {
            self.given.retain(|other, _| *other == key || !LENGTHS.contains(other));
        }
        Ok(())
    }

    /// Sets a key that nobody gave; `reason` says why it has this value.
    ///
    /// # Errors
    /// As [`Draft::set`].
    pub fn derive(
        &mut self,
        key: &str,
        value: impl Into<Value>,
        reason: &str,
    ) -> Result<(), Error> {
        self.set(key, value, "")?;
        if let Some(given) = self.given.get_mut(keys::find(key)?.name) {
            reason.clone_into(&mut given.reason);
        }
        Ok(())
    }

    /// Keeps the model and the step of a recipe that was derived, so that its speed can be measured
    /// and the rest derived again from that.
    pub fn fix(&mut self, recipe: &Recipe) {
        let table = Table::try_from(recipe).unwrap_or_default();
        for key in &KEYS {
            let Some((section, name)) = key.name.split_once('.') else { continue };
            let step = ["context", "batch", "accumulation"].contains(&name);
            if section != "model" && !step || self.given.contains_key(key.name) {
                continue;
            }
            if let Some(value) = table.get(section).and_then(|section| section.get(name)) {
                self.given.insert(key.name, Given::at(value.clone(), FIXED));
            }
        }
    }

    /// This draft's values over those of a recipe that was resolved before. A time is left out: the
    /// steps that it came to are there already.
    pub fn over(&self, earlier: &Draft) -> Draft {
        let mut draft = earlier.clone();
        for (key, given) in self.given.iter().filter(|(key, _)| **key != MINUTES) {
            if LENGTHS.contains(key) {
                draft.given.retain(|other, _| !LENGTHS.contains(other));
            }
            draft.given.insert(key, given.clone());
        }
        draft
    }

    /// The minutes that were given for the whole run.
    pub fn minutes(&self) -> Option<f64> {
        self.length().filter(|(key, _)| *key == MINUTES).map(|(_, minutes)| minutes)
    }

    /// Whether a key was given.
    pub fn has(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// The paths that are learnt from, as they were given.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let paths = self.given.get("data.path").and_then(|given| given.value.as_array());
        paths.into_iter().flatten().filter_map(Value::as_str)
    }

    /// The text of a key that was given and holds one.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.given.get(key)?.value.as_str()
    }

    /// The number of a key that was given and holds one.
    pub fn number(&self, key: &str) -> Option<f64> {
        let value = &self.given.get(key)?.value;
        value.as_float().or(value.as_integer().map(|count| count as f64))
    }

    fn put(&mut self, key: &str, value: Value, origin: &str) -> Result<(), Error> {
        let key = keys::find(key)?;
        let value = key.accept(value)?;
        self.given.insert(key.name, Given::at(value, origin));
        Ok(())
    }

    /// The value of a key and the reason for it.
    pub(super) fn value(&self, key: &str) -> Option<(&Value, String)> {
        let given = self.given.get(key)?;
        Some((&given.value, given.reason.clone()))
    }

    /// The length of the run, with the key that gives it.
    pub(super) fn length(&self) -> Option<(&'static str, f64)> {
        LENGTHS.into_iter().find_map(|key| Some((key, self.number(key)?)))
    }
}

/// The text of a recipe's file.
fn text_of(path: &Path) -> Result<String, Error> {
    let io = |source| Error::Io { operation: "read", path: path.to_path_buf(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
    let format = |expected: &str, got: String| Error::Format {
        path: path.to_path_buf(),
        what: "recipe".to_string(),
        expected: expected.to_string(),
        got,
    };
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(format("a file of at most 1 MiB", "more".to_string()));
    }
    String::from_utf8(bytes)
        .map_err(|error| format("text in UTF-8", format!("other bytes ({error})")))
}

#[cfg(test)]
mod tests {
    use super::super::write::literal;
    use super::*;
    use crate::recipe::Facts;

    fn draft(text: &str) -> Result<Draft, Error> {
        Draft::from_toml(text, Path::new("r.toml"))
    }

    #[test]
    fn bad_files_are_errors() {
        let check = |text: &str, expected: &str| {
            let error = draft(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("a b", "r.toml: recipe: expected TOML");
        check("[model]\nn_layers = 3", "model.n_layers: no such key; the nearest is model.n_layer");
        check("[optimiser]\nlr = 1e-3", "the nearest is optimizer.lr");
        check("model = 3", "model: no such key");
        check("[train]\nbatch = 0", "train.batch: 0 is not");
        check("[train]\nsteps = 5\nminutes = 5", "r.toml gives train.steps too");
        check("[model.n_layer]\nx = 1", "model.n_layer: expected a whole number");
        assert!(matches!(Draft::read(Path::new("no/such.toml")), Err(Error::Io { .. })));
    }

    #[test]
    fn a_run_s_recipe_keeps_its_reasons() {
        let scratch = crate::data::scratch::Scratch::new();
        let text = "[model]\nd_model = 64\n[data]\npath = [\"a # b\"]\n[train]\nsteps = 5";
        let first = draft(text).unwrap().resolve(&Facts::default()).unwrap();
        let path = scratch.write("recipe.toml", first.to_toml().as_bytes());
        let mut stored = Draft::stored(&path).unwrap();
        assert_eq!(stored.resolve(&Facts::default()).unwrap(), first);
        stored.set("train.steps", 9, "--steps").unwrap();
        let later = stored.resolve(&Facts::default()).unwrap();
        assert_eq!(later.reason("train.steps"), "given: --steps");
        assert_eq!(later.reason("model.d_model"), "given: r.toml");
        assert_eq!(later.reason("model.n_layer"), first.reason("model.n_layer"));
    }

    #[test]
    fn the_last_length_counts() {
        let mut draft = draft("[train]\nsteps = 5").unwrap();
        draft.assign("train.minutes=2").unwrap();
        assert_eq!(draft.length(), Some(("train.minutes", 2.0)));
        draft.set("train.tokens", "3M", "--tokens").unwrap();
        assert_eq!(draft.length(), Some(("train.tokens", 3e6)));
    }

    #[test]
    fn assignments_are_toml_or_words() {
        let mut draft = Draft::default();
        for assignment in [
            "optimizer.lr=3e-4",
            "optimizer.name=adamw",
            "data = some/folder",
            "model.tied_head=false",
            "train.tokens=2e6",
        ] {
            draft.assign(assignment).unwrap();
        }
        for (key, expected) in [
            ("optimizer.lr", "0.0003"),
            ("optimizer.name", "\"adamw\""),
            ("data.path", "[\"some/folder\"]"),
            ("model.tied_head", "false"),
            ("train.tokens", "2000000"),
        ] {
            let value = draft.value(key).map(|(value, _)| literal(value));
            assert_eq!(value.as_deref(), Some(expected), "{key}");
        }
        for bad in ["optimizer.lr", "=3", " = 3"] {
            assert!(draft.assign(bad).unwrap_err().to_string().contains("key=value"), "{bad}");
        }
        // A line break does not smuggle in another key.
        assert!(draft.assign("optimizer.lr=1\nx=2").is_err());
    }
}
