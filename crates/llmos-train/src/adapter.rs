//! PEFT's adapter folders: read, and made part of the model that they belong to.

use std::path::Path;
use std::sync::Arc;

use llmos_model::file::{PeftAdapter, PeftSettings, PeftTargets};
use llmos_model::{Dialect, ModelFiles};
use llmos_tensor::Device;
use llmos_tensor::gemm::Precision;
use llmos_tokenizer::Tokenizer;

use crate::model::{Frozen, Kind, Layout, Lora, Network, TARGETS, read_weights};
use crate::{Error, disk, run};

/// True for a folder that holds an adapter.
pub fn is_adapter(folder: &Path) -> bool {
    PeftAdapter::is_one(folder)
}

/// What an adapter is, in a trainer's words.
fn lora_of(settings: &PeftSettings, folder: &Path) -> Result<Lora, Error> {
    let format = |expected: &str, got: String| Error::Format {
        path: folder.to_path_buf(),
        what: "target_modules".into(),
        expected: expected.into(),
        got,
    };
    let targets = match &settings.targets {
        PeftTargets::Names(names) => names.clone(),
        PeftTargets::Pattern(pattern) if pattern == "all-linear" => {
            TARGETS.map(str::to_string).to_vec()
        }
        PeftTargets::Pattern(pattern) => return Err(format("names", pattern.clone())),
    };
    if let Some(other) = targets.iter().find(|name| !TARGETS.contains(&name.as_str())) {
        return Err(format(&TARGETS.join(", "), other.clone()));
    }
    Ok(Lora {
        rank: settings.rank,
        alpha: settings.alpha,
        rank_stabilised: settings.rank_stabilised,
        dora: settings.dora,
        targets,
    })
}

/// An adapter's numbers in a layout: (parameters of `layout`).
///
/// # Errors
/// A matrix is missing, has another shape, or is one that the layout does not have: it is another
/// model's adapter.
fn values_in(adapter: &PeftAdapter, layout: &Layout) -> Result<Vec<f32>, Error> {
    let format = |what: &str, expected: String, got: String| Error::Format {
        path: adapter.path.clone(),
        what: what.into(),
        expected,
        got,
    };
    let mut values = vec![0.0; layout.len()];
    for tensor in layout.tensors() {
        let expected =
            format!("numbers beside a matrix of this base, {:?}", [tensor.rows, tensor.cols]);
        let part = adapter.parts.get(&tensor.stored);
        let found = part.and_then(|part| match tensor.kind {
            Kind::AdapterIn => Some(&part.a),
            Kind::AdapterOut => Some(&part.b),
            _ => part.magnitude.as_ref(),
        });
        let Some(found) = found else { return Err(format(&tensor.name, expected, "none".into())) };
        let to = &mut values[tensor.range()];
        if found.len() != to.len() {
            return Err(format(&tensor.name, expected, format!("{} of them", found.len())));
        }
        to.copy_from_slice(found);
    }
    let is_known = |name: &String| layout.tensors().iter().any(|tensor| tensor.stored == *name);
    match adapter.parts.keys().find(|name| !is_known(name)) {
        Some(name) => Err(format(name, "no such matrix in this base".into(), "one".into())),
        None => Ok(values),
    }
}

/// Writes the model that `base` and an adapter make together: a Hugging Face folder in single
/// precision, which appears whole or not at all. `files` are the tokenizer's.
///
/// # Errors
/// The adapter is another model's; the folder exists; the system refuses.
pub fn merge(
    base: &ModelFiles,
    adapter: &Path,
    tokenizer: &Tokenizer,
    files: &[(String, Vec<u8>)],
    device: &Arc<Device>,
    out: &Path,
) -> Result<(), Error> {
    if out.symlink_metadata().is_ok() {
        let problem = format!("{} exists; a new folder is written", out.display());
        return Err(Error::Setting { key: "out".into(), problem });
    }
    let blueprint = run::blueprint(base)?;
    let read = PeftAdapter::open(adapter, Dialect::of(blueprint.config()))
        .and_then(|read| read.check_base(base).map(|()| read));
    let read = read.map_err(|error| match error {
        llmos_model::Error::Format { path, field, expected, got } => {
            Error::Format { path, what: field, expected, got }
        }
        other => Error::Format {
            path: adapter.to_path_buf(),
            what: "adapter".into(),
            expected: "one of this base".into(),
            got: other.to_string(),
        },
    })?;
    let lora = lora_of(&read.settings, adapter)?;
    let config = run::config_of(base, tokenizer)?;
    let network = Network::new(&blueprint, device, Precision::F32, 1, 1);
    let model = network.layout().clone();
    let frozen = read_weights(base, &blueprint, &model)?;
    let network = network.with_adapter(Frozen::Whole(frozen), &lora);
    let values = values_in(&read, network.layout())?;
    let merged = network.merged(values);
    let aside = disk::aside(out);
    let written = (|| {
        std::fs::create_dir_all(&aside).map_err(Error::io("make the folder", &aside))?;
        disk::write_bytes(&aside.join("config.json"), &config)?;
        for (name, contents) in files {
            disk::write_bytes(&aside.join(name), contents)?;
        }
        run::write_model(&aside, &model, &merged)?;
        std::fs::rename(&aside, out).map_err(Error::io("write", out))
    })();
    if written.is_err() {
        let _ = std::fs::remove_dir_all(&aside);
    }
    written
}
