//! What the server tells of a model without loading it: size, licence, card, and where they come from.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use llmos_model::{ModelFiles, file};
use llmos_serve::About;

use super::{Found, Source};
use crate::command::pull::CARD;
use crate::model_name;

/// A card that is longer is no card.
const LONGEST_CARD: u64 = 1 << 20;

/// The card of the bundled assistant.
const ASSISTANT_CARD: &str = include_str!("../../../../../models/MODEL_CARD.md");

/// What is known of a model's files. Their digest is not, but where the registry has it.
pub(super) fn about(found: &Found, files: &ModelFiles) -> About {
    let (id, manifest) = (found.id.as_str(), found.manifest.as_ref());
    let is_bundled = is_bundled(found);
    let card = match (is_bundled, id) {
        (true, model_name::ASSISTANT) => Some(ASSISTANT_CARD.to_string()),
        _ => card(files.path(), manifest.is_some()),
    };
    let own = files.gguf_metadata().and_then(|metadata| metadata.get("general.license"));
    let own = own.and_then(file::Value::as_str).map(str::to_string);
    let license = own.or_else(|| card.as_deref().and_then(license_of)).or_else(|| {
        let bundled = if id == model_name::ASSISTANT { "MIT OR Apache-2.0" } else { "MIT" };
        is_bundled.then(|| bundled.to_string())
    });
    let config = files.config().ok();
    let digest = Arc::new(OnceLock::new());
    if let Some(known) = manifest.and_then(super::digest::of_manifest) {
        // Nobody else has the cell yet.
        let _ = digest.set(known);
    }
    About {
        size: files.file_bytes(),
        architecture: config.map(|config| config.architecture.clone()).unwrap_or_default(),
        quantization: files.type_name().to_string(),
        parameters: files.tensors().map(|tensor| tensor.len() as u64).sum(),
        context: config.map_or(0, |config| config.context_length as u64),
        license,
        card,
        digest,
    }
}

/// Seconds since 1970 when a model came here: when it was pulled, or when its file was last written; of
/// a bundled one, when the program was.
pub(super) fn created(found: &Found, files: &ModelFiles) -> u64 {
    if let Some(manifest) = &found.manifest {
        return manifest.pulled;
    }
    let written = |path: &Path| std::fs::metadata(path).ok()?.modified().ok();
    let program = || written(&std::env::current_exe().ok()?);
    let time = if is_bundled(found) { program() } else { written(files.path()) };
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok();
    time.and_then(since).map_or(0, |since| since.as_secs())
}

/// One that lies in the program, or where [`model_name`] puts it when it is asked for by name.
fn is_bundled(found: &Found) -> bool {
    let Source::Path(path) = &found.source else { return true };
    let version = format!("-{}.gguf", env!("CARGO_PKG_VERSION"));
    path.parent().and_then(Path::file_name).is_some_and(|name| name == "bundled")
        && path.to_string_lossy().ends_with(&version)
}

/// The card beside a model: README.md in a folder of its own, else `NAME.md` beside `NAME.gguf`.
fn card(path: &Path, is_in_registry: bool) -> Option<String> {
    let beside: PathBuf = match (path.is_dir(), is_in_registry) {
        (true, _) => path.join(CARD),
        (false, true) => path.with_file_name(CARD),
        (false, false) => path.with_extension("md"),
    };
    let is_short = beside.metadata().is_ok_and(|about| about.len() <= LONGEST_CARD);
    let bytes = is_short.then(|| std::fs::read(&beside).ok())??;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The licence that a card's front matter names: `license: mit` between lines of `---`.
fn license_of(card: &str) -> Option<String> {
    let front = card.strip_prefix("---")?;
    let (front, _) = front.split_once("\n---")?;
    let line = front.lines().find_map(|line| line.strip_prefix("license:"))?;
    let name = line.trim().trim_matches(['"', '\'']);
    (!name.is_empty() && name.len() < 100).then(|| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_names_its_licence_in_front() {
        for (card, expected) in [
            ("---\nlicense: apache-2.0\nlanguage: en\n---\n# Model", Some("apache-2.0")),
            ("---\nlanguage: en\nlicense: \"mit\"\n---\n", Some("mit")),
            ("# Model\nlicense: mit\n", None),
            ("---\nlicense:\n---\n", None),
            ("---\nlicense: mit\n", None),
        ] {
            assert_eq!(license_of(card).as_deref(), expected, "{card}");
        }
    }

    #[test]
    fn bundled_models_have_a_licence_and_the_assistant_a_card() {
        let assistant = model_name::assistant().unwrap();
        let (id, source) = (model_name::ASSISTANT.to_string(), Source::Bundled);
        let found = Found { id, source: source(model_name::assistant), manifest: None };
        let about = about(&found, &assistant);
        assert!(about.card.unwrap().starts_with("# The bundled assistant"));
        assert_eq!(
            (about.license.as_deref(), about.architecture.as_str()),
            (Some("MIT OR Apache-2.0"), "qwen3")
        );
        assert_eq!((about.context, about.size), (512, assistant.file_bytes()));
        assert!(created(&found, &assistant) > 1_700_000_000);
    }
}
