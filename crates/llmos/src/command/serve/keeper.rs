//! Pulling, converting, copying and deleting for the server: in the registry, and on offer at once.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use llmos_model::convert::{Conversion, FileType, convert};
use llmos_serve::{Keeper, Offer, Progress, Trouble, TroubleKind, Watch};

use super::{Found, House, Source, digest, own_name};
use crate::command::convert::{output_vocabulary, parse_type};
use crate::command::pull;
use crate::failure::{hint_of, message_of};
use crate::hub::{self, Hub};
use crate::interrupt::Unfinished;
use crate::registry::{Digest, Manifest, Registry, Stored};
use crate::terminal::Terminal;
use crate::{download, load, model_name};

impl Keeper for House {
    fn pull(&self, name: &str, watch: Watch<'_>) -> Result<Offer, Trouble> {
        let asked = |error: anyhow::Error| trouble(TroubleKind::Asked, &error);
        hub::address(name).map_err(asked)?;
        listened(watch, |watch| {
            let hub = Hub::from_environment(download::agent()?).bounded();
            let registry = Registry::open()?;
            let mut each = |what: &str, done: u64, total: Option<u64>| {
                watch(Progress { done, total, what: format!("pulling {what}") })
            };
            let (manifest, path) = pull::bring(name, &hub, &registry, &mut each, &quiet())?;
            self.offer_of(manifest, &path)
        })
    }

    fn convert(&self, model: &str, kind: &str, watch: Watch<'_>) -> Result<Offer, Trouble> {
        let kind = parse_type(kind).map_err(|hint| Trouble {
            kind: TroubleKind::Asked,
            message: format!("there is no type {kind:?}"),
            hint,
        })?;
        let source = self.source(model).ok_or_else(|| missing(model))?;
        listened(watch, |watch| self.converted(model, &source, kind, watch))
    }

    fn copy(&self, model: &str, name: &str) -> Result<Offer, Trouble> {
        let manifest = self.owned(model)?;
        let copied = || {
            let registry = Registry::open()?;
            let _lock = registry.lock(false)?;
            let name = match manifest.entry {
                Some(_) => format!("copied/{name}:{name}"),
                None => format!("copied/{name}"),
            };
            let source = format!("{}, copied", manifest.name);
            let manifest = Manifest { name, source, ..manifest };
            let path = registry.add(&manifest)?;
            self.offer_of(manifest, &path)
        };
        copied().map_err(|error| trouble(TroubleKind::Outside, &error))
    }

    fn delete(&self, model: &str) -> Result<(), Trouble> {
        let manifest = self.owned(model)?;
        let removed = || {
            let registry = Registry::open()?;
            let _lock = registry.lock(true)?;
            registry.remove(&manifest)
        };
        removed().map_err(|error| trouble(TroubleKind::Outside, &error))?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(model);
        Ok(())
    }
}

impl House {
    /// What the registry knows of a model on offer: one whose files are the registry's own.
    fn owned(&self, model: &str) -> Result<Manifest, Trouble> {
        let foreign = |what: &str, hint: &str| Trouble {
            kind: TroubleKind::Asked,
            message: format!("{model:?} {what}"),
            hint: hint.to_string(),
        };
        let path = match self.source(model) {
            Some(Source::Path(path)) => path,
            Some(Source::Bundled(_)) => {
                let hint = "models that were pulled, converted or copied can be; `llmos models` lists them";
                return Err(foreign("is part of the program, not of the registry", hint));
            }
            None => return Err(missing(model)),
        };
        let found = || -> anyhow::Result<Option<Manifest>> {
            let registry = Registry::open()?;
            let (models, _) = registry.models()?;
            Ok(models.into_iter().find(|model| registry.path_of(model) == path))
        };
        let found = found().map_err(|error| trouble(TroubleKind::Outside, &error))?;
        found.ok_or_else(|| {
            let hint =
                "it is whoever started the server who has the file, and may move or delete it";
            foreign("is a file of its own, not of the registry", hint)
        })
    }

    /// A model of the registry on offer: another file under a known id takes its place.
    fn offer_of(&self, manifest: Manifest, path: &Path) -> anyhow::Result<Offer> {
        let own = model_name::short_name(own_name(&manifest.name));
        let is_other = match self.source(&own) {
            Some(Source::Path(known)) => known != path,
            Some(Source::Bundled(_)) => true,
            None => false,
        };
        let id = if is_other { manifest.name.clone() } else { own };
        self.offer(Found { id, source: Source::Path(path.to_path_buf()), manifest: Some(manifest) })
    }

    /// Converts a model into the registry.
    fn converted(
        &self,
        model: &str,
        source: &Source,
        kind: FileType,
        watch: Watch<'_>,
    ) -> anyhow::Result<Offer> {
        let registry = Registry::open()?;
        let _lock = registry.lock(false)?;
        let files = source.open()?;
        let conversion = Conversion {
            file_type: kind,
            vocabulary: output_vocabulary(&files, None, true, &quiet())?,
            threads: self.threads,
        };
        let stem = stem(model, kind);
        // Beside the other files that are on their way, on the registry's own disk.
        let place = registry.partial(&stem)?;
        let written = place.with_file_name(format!("{}-{stem}.gguf", std::process::id()));
        let unfinished = Unfinished::new(&written);
        let what = format!("converting {model} to {}", kind.name());
        let mut each =
            |done, total| watch(Progress { done, total: Some(total), what: what.clone() });
        let converted = convert(&files, &written, &conversion, &mut each);
        converted.map_err(load::explained)?;
        let about = written.metadata().with_context(|| format!("cannot read {stem}"))?;
        let sha256 = digest::read(&written).with_context(|| format!("cannot read {stem}"))?;
        let sha256 = Digest::parse(&sha256).context("a SHA-256 has 64 digits")?;
        let blob = registry.blob(&sha256);
        std::fs::rename(&written, &blob)
            .with_context(|| format!("cannot move the converted model to {}", blob.display()))?;
        unfinished.keep();
        let entry = format!("{stem}.gguf");
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let manifest = Manifest {
            name: format!("converted/{}:{stem}", base(model)),
            source: format!("{model}, converted to {}", kind.name()),
            revision: None,
            pulled: now.map_or(0, |since| since.as_secs()),
            entry: Some(entry.clone()),
            files: vec![Stored { path: entry, sha256, bytes: about.len() }],
        };
        let path = registry.add(&manifest)?;
        self.offer_of(manifest, &path)
    }
}

/// Work that `watch` can end: whether it did is known afterwards.
fn listened<T>(
    watch: Watch<'_>,
    work: impl FnOnce(Watch<'_>) -> anyhow::Result<T>,
) -> Result<T, Trouble> {
    let mut is_ended = false;
    let mut listening = |progress: Progress| {
        let said = watch(progress);
        is_ended |= said.is_break();
        if is_ended { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let result = work(&mut listening);
    result.map_err(|error| match is_ended {
        true => Trouble {
            kind: TroubleKind::Stopped,
            message: "it was ended".to_string(),
            hint: "ask again: a pull goes on where it stopped".to_string(),
        },
        false => trouble(TroubleKind::Outside, &error),
    })
}

fn missing(model: &str) -> Trouble {
    Trouble {
        kind: TroubleKind::Missing,
        message: format!("there is no model {model:?}"),
        hint: "GET /v1/models lists them".to_string(),
    }
}

fn trouble(kind: TroubleKind, error: &anyhow::Error) -> Trouble {
    Trouble { kind, message: message_of(error), hint: hint_of(error) }
}

fn quiet() -> Terminal {
    Terminal::new(true, false)
}

/// The last part of an id, in signs that any file may have.
fn base(model: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let base: String = own_name(model).chars().map(plain).collect();
    base.trim_start_matches('.').to_string()
}

/// What a model of another type is called: `NAME-Q8_0`, in the place of the type that was in the name.
fn stem(model: &str, kind: FileType) -> String {
    let base = base(model);
    let bare = FileType::ALL.iter().find_map(|known| {
        let ending = format!("-{}", known.name());
        let at = base.len().checked_sub(ending.len())?;
        (base.is_char_boundary(at) && base[at..].eq_ignore_ascii_case(&ending)).then(|| &base[..at])
    });
    format!("{}-{}", bare.unwrap_or(&base), kind.name().to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_converted_model_is_called_after_its_type() {
        for (model, expected) in [
            ("stories260K", "stories260K-Q8_0"),
            ("tiny-q4_0", "tiny-Q8_0"),
            ("tiny-Q4_K_M", "tiny-Q8_0"),
            ("o/r:x-F16", "x-Q8_0"),
            ("../..", "-Q8_0"),
            ("世界", "世界-Q8_0"),
        ] {
            assert_eq!(stem(model, FileType::Q8_0), expected, "{model}");
        }
    }
}
