//! PEFT's adapter folders: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llmos_tensor::quant;
use serde::Deserialize;
use serde_json::Value as Json;

use super::{ModelFiles, NormGains, read_safetensors};
use crate::{Dialect, Error};

/// An adapter of low rank (LoRA, arXiv:2106.09685), and its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct PeftAdapter {
    /// Its folder.
    pub path: PathBuf,
    /// How it was trained.
    pub settings: PeftSettings,
    /// The adapted matrices, by GGUF's names of them.
    pub parts: BTreeMap<String, PeftPart>,
    /// What it was trained beside, where that is known.
    pub base: Option<NormGains>,
}

/// What of `adapter_config.json` decides what is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct PeftSettings {
    /// Columns of B (r).
    pub rank: usize,
    /// `lora_alpha`.
    pub alpha: f64,
    /// The scale is `alpha / sqrt(rank)`, not `alpha / rank` (arXiv:2312.03732).
    pub rank_stabilised: bool,
    /// Rows of the sum have lengths of their own (DoRA, arXiv:2402.09353).
    pub dora: bool,
    /// Last parts of the names of adapted matrices.
    pub targets: PeftTargets,
}

/// Which matrices are adapted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum PeftTargets {
    /// The last parts of their names.
    Names(Vec<String>),
    /// A pattern of whole names, or `all-linear`.
    Pattern(String),
}

/// What is learnt beside a matrix (out, in).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeftPart {
    /// (rank, in), in the order of a Hugging Face folder.
    pub a: Vec<f32>,
    /// (out, rank)
    pub b: Vec<f32>,
    /// (out), of DoRA.
    pub magnitude: Option<Vec<f32>>,
}

/// The file as it is written.
#[derive(Deserialize)]
struct Written {
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
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    lora_bias: bool,
    #[serde(default)]
    rank_pattern: Option<Json>,
    #[serde(default)]
    alpha_pattern: Option<Json>,
    target_modules: PeftTargets,
}

/// The files of an adapter.
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// No adapter has a larger rank.
const MOST_RANK: usize = 1 << 16;

impl PeftSettings {
    /// Reads the settings of the adapter in `folder`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] where it is no adapter; [`Error::Unsupported`] for one that
    /// computes something else.
    pub fn read(folder: &Path) -> Result<PeftSettings, Error> {
        let path = folder.join(CONFIG);
        let bytes = std::fs::read(&path).map_err(|error| Error::io("read", &path, error))?;
        let written: Written = serde_json::from_slice(&bytes)
            .map_err(|error| Error::format(&path, "adapter", "PEFT's words", error))?;
        let is_set = |pattern: &Option<Json>| {
            pattern.as_ref().and_then(Json::as_object).is_some_and(|pattern| !pattern.is_empty())
        };
        let other_bias = written.bias.as_deref().is_some_and(|bias| bias != "none");
        let saved = written.modules_to_save.as_ref().is_some_and(|modules| !modules.is_empty());
        for (key, is_other) in [
            ("peft_type", written.peft_type != "LORA"),
            ("bias", other_bias || written.lora_bias),
            ("modules_to_save", saved),
            ("fan_in_fan_out", written.fan_in_fan_out),
            ("rank_pattern", is_set(&written.rank_pattern)),
            ("alpha_pattern", is_set(&written.alpha_pattern)),
        ] {
            if is_other {
                let what = format!("an adapter with this {key}");
                return Err(Error::unsupported(
                    &path,
                    what,
                    "LoRA and DoRA of one rank, no biases",
                ));
            }
        }
        let (rank, alpha) = (written.r, written.lora_alpha);
        if rank == 0 || rank > MOST_RANK || !alpha.is_finite() {
            let got = format!("r {rank} and lora_alpha {alpha}");
            return Err(Error::format(&path, "adapter", "a rank above 0 and a number", got));
        }
        Ok(PeftSettings {
            rank,
            alpha,
            rank_stabilised: written.use_rslora,
            dora: written.use_dora,
            targets: written.target_modules,
        })
    }

    /// What `B A` is multiplied with.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }
}

impl PeftAdapter {
    /// True for a folder that holds an adapter.
    pub fn is_one(folder: &Path) -> bool {
        folder.join(CONFIG).is_file() && folder.join(WEIGHTS).is_file()
    }

    /// Reads an adapter of a model that is written in this dialect.
    ///
    /// # Errors
    /// As [`PeftSettings::read`]; [`Error::Format`] where a tensor is none that such a model has, or
    /// does not come whole.
    pub fn open(folder: &Path, dialect: Dialect) -> Result<PeftAdapter, Error> {
        let settings = PeftSettings::read(folder)?;
        let path = folder.join(WEIGHTS);
        let bytes = std::fs::read(&path).map_err(|error| Error::io("read", &path, error))?;
        let mut parts: BTreeMap<String, PeftPart> = BTreeMap::new();
        for entry in read_safetensors(&bytes, &path)? {
            let named = meaning(&entry.name).and_then(|(module, kind)| {
                Some((dialect.gguf_name(&format!("{module}.weight"))?, kind))
            });
            let Some((name, kind)) = named else {
                let expected = "a matrix of such a model, A, B or a magnitude";
                return Err(Error::format(&path, &entry.name, expected, "something else"));
            };
            let mut values = vec![0.0; entry.shape.iter().product()];
            quant::dequantize(entry.dtype, &bytes[entry.range.clone()], &mut values)?;
            let part = parts.entry(name).or_default();
            let (rank, shape) = (settings.rank, &entry.shape[..]);
            let is_sound = match kind {
                Kind::A => matches!(shape, [rows, _] if *rows == rank),
                Kind::B => matches!(shape, [_, cols] if *cols == rank),
                Kind::Magnitude => shape.len() == 1,
            };
            if !is_sound {
                let expected = format!("the shape that rank {rank} gives");
                return Err(Error::format(&path, &entry.name, expected, format!("{shape:?}")));
            }
            match kind {
                Kind::A => part.a = values,
                Kind::B => part.b = values,
                Kind::Magnitude => part.magnitude = Some(values),
            }
        }
        let is_whole = |part: &PeftPart| {
            let magnitude = part.magnitude.as_ref().map(Vec::len);
            let rows = part.b.len() / settings.rank;
            !part.a.is_empty() && !part.b.is_empty() && magnitude == settings.dora.then_some(rows)
        };
        if let Some((name, _)) = parts.iter().find(|(_, part)| !is_whole(part)) {
            let expected = match settings.dora {
                true => "A, B and a magnitude a row",
                false => "A and B alone",
            };
            return Err(Error::format(&path, name, expected, "something else"));
        }
        if parts.is_empty() {
            return Err(Error::format(&path, "tensors", "an adapted matrix", "none"));
        }
        let base = NormGains::read(folder)?;
        Ok(PeftAdapter { path: folder.to_path_buf(), settings, parts, base })
    }

    /// Refuses another model than the one that it was trained beside, as far as that is known. One
    /// type of numbers or another makes no difference.
    ///
    /// # Errors
    /// [`Error::Format`]; as [`NormGains::of`].
    pub fn check_base(&self, files: &ModelFiles) -> Result<(), Error> {
        let Some(base) = &self.base else { return Ok(()) };
        if base.are_of(&NormGains::of(files)?) {
            return Ok(());
        }
        let expected = "the base that it was trained beside";
        let got = format!("{}, whose norms are others", files.path().display());
        Err(Error::format(&self.path, "base", expected, got))
    }
}

#[derive(Clone, Copy)]
enum Kind {
    A,
    B,
    Magnitude,
}

/// The module that a tensor of an adapter belongs to, and what it is of it.
fn meaning(name: &str) -> Option<(&str, Kind)> {
    let name = name.strip_prefix("base_model.model.")?;
    let kinds = [
        (".lora_A.weight", Kind::A),
        (".lora_B.weight", Kind::B),
        (".lora_magnitude_vector", Kind::Magnitude),
        (".lora_magnitude_vector.weight", Kind::Magnitude),
    ];
    kinds.into_iter().find_map(|(ending, kind)| Some((name.strip_suffix(ending)?, kind)))
}
