//! PEFT's adapter folders: read, and made part of the model that they belong to.

use std::path::Path;
use std::sync::Arc;

use llmos_model::ModelFiles;
use llmos_model::file::read_safetensors;
use llmos_tensor::Device;
use llmos_tensor::gemm::Precision;
use llmos_tokenizer::Tokenizer;
use serde::Deserialize;

use crate::model::{Frozen, Layout, Lora, Network, TARGETS, read_weights};
use crate::{Error, disk, run};

/// The files of an adapter.
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// What of `adapter_config.json` decides what is computed.
#[derive(Deserialize)]
struct Config {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    target_modules: Targets,
}

/// Names, or a pattern of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Targets {
    Names(Vec<String>),
    Pattern(String),
}

/// True for a folder that holds an adapter.
pub fn is_adapter(folder: &Path) -> bool {
    folder.join(CONFIG).is_file() && folder.join(WEIGHTS).is_file()
}

/// Reads what an adapter is.
///
/// # Errors
/// It is none, or of a kind that is not computed here.
pub fn read_lora(folder: &Path) -> Result<Lora, Error> {
    let path = folder.join(CONFIG);
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let format = |what: &str, expected: &str, got: String| Error::Format {
        path: path.clone(),
        what: what.into(),
        expected: expected.into(),
        got,
    };
    let config: Config = serde_json::from_slice(&bytes)
        .map_err(|error| format("adapter", "PEFT's words", error.to_string()))?;
    if config.peft_type != "LORA" {
        return Err(format("peft_type", "LORA", config.peft_type));
    }
    if config.bias.as_deref().is_some_and(|bias| bias != "none") {
        return Err(format("bias", "none", config.bias.unwrap_or_default()));
    }
    if config.modules_to_save.as_ref().is_some_and(|modules| !modules.is_empty()) {
        let got = config.modules_to_save.unwrap_or_default().join(", ");
        return Err(format("modules_to_save", "none", got));
    }
    let targets = match config.target_modules {
        Targets::Names(names) => names,
        Targets::Pattern(pattern) if pattern == "all-linear" => {
            TARGETS.map(str::to_string).to_vec()
        }
        Targets::Pattern(pattern) => return Err(format("target_modules", "names", pattern)),
    };
    if let Some(other) = targets.iter().find(|name| !TARGETS.contains(&name.as_str())) {
        return Err(format("target_modules", &TARGETS.join(", "), other.clone()));
    }
    if config.r == 0 || config.r > 1 << 16 || !config.lora_alpha.is_finite() {
        let got = format!("r {} and lora_alpha {}", config.r, config.lora_alpha);
        return Err(format("adapter", "a rank above 0 and a number", got));
    }
    Ok(Lora {
        rank: config.r,
        alpha: config.lora_alpha,
        rank_stabilised: config.use_rslora,
        dora: config.use_dora,
        targets,
    })
}

/// Reads an adapter's numbers: (parameters of `layout`).
///
/// # Errors
/// A matrix is missing, has another shape, or is one that the layout does not have: it is another
/// model's adapter.
fn read_values(folder: &Path, layout: &Layout) -> Result<Vec<f32>, Error> {
    let path = folder.join(WEIGHTS);
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let format = |what: &str, expected: String, got: String| Error::Format {
        path: path.clone(),
        what: what.into(),
        expected,
        got,
    };
    let entries = read_safetensors(&bytes, &path)
        .map_err(|error| format("tensors", "safetensors".into(), error.to_string()))?;
    let mut values = vec![0.0; layout.len()];
    for tensor in layout.tensors() {
        let entry = entries.iter().find(|entry| entry.name == tensor.name);
        let expected = match tensor.kind.is_vector() {
            true => vec![tensor.cols],
            false => vec![tensor.rows, tensor.cols],
        };
        let entry = entry.filter(|entry| entry.shape == expected).ok_or_else(|| {
            let got = entry.map_or("none".into(), |entry| format!("one of {:?}", entry.shape));
            format(&tensor.name, format!("a matrix {expected:?} of this base"), got)
        })?;
        let to = &mut values[tensor.range()];
        llmos_tensor::quant::dequantize(entry.dtype, &bytes[entry.range.clone()], to)
            .map_err(|error| format(&tensor.name, "numbers".into(), error.to_string()))?;
    }
    if entries.len() != layout.tensors().len() {
        let known = |name: &str| layout.tensors().iter().any(|tensor| tensor.name == name);
        let other = entries.iter().find(|entry| !known(&entry.name));
        let name = other.map_or("", |entry| &entry.name);
        return Err(format(name, "no such matrix in this base".into(), "one".into()));
    }
    Ok(values)
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
    let lora = read_lora(adapter)?;
    let blueprint = run::blueprint(base)?;
    let config = run::config_of(base, tokenizer)?;
    let network = Network::new(&blueprint, device, Precision::F32, 1, 1);
    let model = network.layout().clone();
    let frozen = read_weights(base, &blueprint, &model)?;
    let network = network.with_adapter(Frozen::Whole(frozen), &lora);
    let values = read_values(adapter, network.layout())?;
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
