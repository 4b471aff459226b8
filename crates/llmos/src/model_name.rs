//! What the word MODEL on the command line stands for: a path, a name in the registry, a bundled
//! model.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use llmos_model::ModelFiles;
use strsim::levenshtein;

use crate::failure::failure;
use crate::load;
use crate::places;
use crate::registry::{self, Registry};
use crate::terminal::Terminal;

/// The bundled assistant's name.
pub(crate) const ASSISTANT: &str = "assistant";

/// A bundled model, see `models/`: its name and its file.
struct Bundled {
    name: &'static str,
    bytes: &'static [u8],
}

const BUNDLED: [Bundled; 2] = [
    Bundled { name: ASSISTANT, bytes: include_bytes!("../../../models/assistant.gguf") },
    Bundled { name: "stories260K", bytes: include_bytes!("../../../models/stories260K.gguf") },
];

/// The bundled assistant, opened where it lies in the program.
///
/// # Errors
/// As [`ModelFiles::embedded`].
pub(crate) fn assistant() -> anyhow::Result<ModelFiles> {
    BUNDLED[0].open()
}

/// The bundled teller of stories, likewise.
///
/// # Errors
/// As [`ModelFiles::embedded`].
pub(crate) fn stories() -> anyhow::Result<ModelFiles> {
    BUNDLED[1].open()
}

/// The bytes of the bundled model of that name.
pub(crate) fn embedded(name: &str) -> Option<&'static [u8]> {
    BUNDLED.iter().find(|bundled| bundled.name == name).map(|bundled| bundled.bytes)
}

/// The path that MODEL stands for.
///
/// # Errors
/// Neither a path nor a name in the registry.
pub(crate) fn resolve(name: &str, terminal: &Terminal) -> anyhow::Result<PathBuf> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    let registry = Registry::open()?;
    match registry.find(name)?.as_slice() {
        [model] => {
            let path = registry.path_of(model);
            terminal.detail(format_args!("{} is {}", model.name, path.display()));
            Ok(path)
        }
        [] => match BUNDLED.iter().find(|bundled| name.eq_ignore_ascii_case(bundled.name)) {
            Some(bundled) => bundled.path(),
            None => Err(unknown(name, &registry)),
        },
        several => {
            let names: Vec<&str> = several.iter().map(|model| model.name.as_str()).collect();
            Err(failure(
                format!("{name} can be {} models", several.len()),
                format!("give one of {}", names.join(", ")),
            ))
        }
    }
}

impl Bundled {
    fn open(&self) -> anyhow::Result<ModelFiles> {
        ModelFiles::embedded(self.name, self.bytes).map_err(load::explained)
    }

    /// The model's file, written to the data folder when it is first needed.
    ///
    /// # Errors
    /// No folder can be written.
    fn path(&self) -> anyhow::Result<PathBuf> {
        let name = format!("bundled/{}-{}.gguf", self.name, env!("CARGO_PKG_VERSION"));
        let same = |path: &Path| std::fs::read(path).is_ok_and(|bytes| bytes == self.bytes);
        let write = |folder: PathBuf| -> anyhow::Result<PathBuf> {
            let path = folder.join(&name);
            if !same(&path) {
                registry::write_whole(&path, self.bytes)?;
            }
            Ok(path)
        };
        // A read-only home is no reason not to run.
        places::data_folder().and_then(write).or_else(|_| write(std::env::temp_dir().join("llmos")))
    }
}

/// There is no such model: an error with the nearest names.
pub(crate) fn unknown(name: &str, registry: &Registry) -> anyhow::Error {
    let looks_like_path = name.contains(['/', '\\'])
        || [".gguf", ".bin", ".safetensors", ".json", ".model"]
            .iter()
            .any(|end| name.ends_with(end));
    let mut known: BTreeSet<String> =
        BUNDLED.iter().map(|bundled| bundled.name.to_string()).collect();
    for model in registry.models().map(|(models, _)| models).unwrap_or_default() {
        known.insert(registry::short_name(&model.name).to_string());
    }
    if looks_like_path {
        let folder = Path::new(name).parent().unwrap_or(Path::new("."));
        let entries =
            std::fs::read_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        let beside = entries.into_iter().flatten().flatten();
        known.extend(beside.map(|entry| folder.join(entry.file_name()).display().to_string()));
    }
    let mut near: Vec<(usize, &String)> = known
        .iter()
        .map(|known| (levenshtein(&known.to_lowercase(), &name.to_lowercase()), known))
        .filter(|(distance, known)| {
            *distance <= name.len().div_ceil(3)
                || known.to_lowercase().contains(&name.to_lowercase())
        })
        .collect();
    near.sort();
    let near: Vec<&str> = near.iter().take(3).map(|(_, known)| known.as_str()).collect();
    let hint = if name.starts_with("hf:") {
        format!("bring it first: llmos pull {name}")
    } else if near.is_empty() {
        "`llmos models` lists what is here; `llmos pull hf:OWNER/REPO` brings more".to_string()
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    failure(format!("there is no file and no model {name:?}"), hint)
}

/// A path's or a name's last part without its ending.
pub(crate) fn short_name(name: &str) -> String {
    let path = Path::new(name);
    let keeps_ending = !["gguf", "bin", "safetensors"]
        .iter()
        .any(|ending| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending)));
    let part = if keeps_ending { path.file_name() } else { path.file_stem() };
    part.map_or_else(|| name.to_string(), |part| part.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models() {
        for (path, expected) in [
            ("models/stories260K.gguf", "stories260K"),
            ("Llama-3.2-1B", "Llama-3.2-1B"),
            ("o/r:x-Q4_0", "r:x-Q4_0"),
            ("dir/", "dir"),
        ] {
            assert_eq!(short_name(path), expected);
        }
    }
}
