//! Reads a Hugging Face folder: `config.json` and safetensors, in one file or many.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::map::Map;
use super::names::{Meaning, from_hugging_face};
use super::safetensors;
use super::tensor::{Change, Entry, Piece, TensorInfo, shape_bytes};
use crate::Error;
use crate::architecture::{self, Architecture};
use llmos_tensor::DType;

/// A folder's config and weights.
pub(crate) struct Folder {
    pub(crate) config: Json,
    pub(crate) maps: Vec<Map>,
    pub(crate) tensors: Vec<TensorInfo>,
}

/// Text files of a model folder are read no further than this; the largest tokenizer.json known
/// has 33 MB.
const MAX_TEXT: u64 = 1 << 28;

/// Reads a text file of the folder; none if it is not there.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, Error> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path, error)),
    };
    let mut text = String::new();
    let read = file.take(MAX_TEXT + 1).read_to_string(&mut text);
    read.map_err(|error| Error::io("read", path, error))?;
    if text.len() as u64 > MAX_TEXT {
        return Err(Error::format(path, "file", format!("at most {MAX_TEXT} bytes"), "more"));
    }
    Ok(Some(text))
}

/// Reads a JSON file; none if it is not there.
fn read_json(path: &Path) -> Result<Option<Json>, Error> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let json = serde_json::from_str(&text);
    json.map(Some).map_err(|error| Error::format(path, "file", "JSON", error))
}

impl Folder {
    /// Opens the folder at `path`.
    pub(crate) fn open(path: &Path) -> Result<Folder, Error> {
        let config_path = path.join("config.json");
        let Some(config) = read_json(&config_path)? else {
            let got = "a folder without one";
            return Err(Error::format(path, "folder", "a Hugging Face folder's config.json", got));
        };
        if config.get("quantization_config").is_some_and(|value| !value.is_null()) {
            let what = "a folder with quantization_config (GPTQ, AWQ, bitsandbytes, FP8)";
            return Err(Error::unsupported(&config_path, what, "float weights, or a GGUF file"));
        }
        let files = weight_files(path)?;
        let mut maps = Vec::with_capacity(files.len());
        // (file, entry)
        let mut entries: Vec<(usize, Entry)> = Vec::new();
        for (i, (file, wanted)) in files.iter().enumerate() {
            let map = Map::open(file)?;
            for entry in safetensors::read(map.bytes(), file)? {
                // An index decides which file a tensor comes from.
                if wanted.as_ref().is_none_or(|names| names.contains(&entry.name)) {
                    entries.push((i, entry));
                }
            }
            maps.push(map);
        }
        let tensors = match Architecture::of_hugging_face(&config, &config_path) {
            Ok(architecture) => gather(architecture, &config, entries, path)?,
            // Still good for `inspect`; opening its config gives the error.
            Err(_) => {
                entries.into_iter().map(|(file, entry)| TensorInfo::as_it_is(file, entry)).collect()
            }
        };
        Ok(Folder { config, maps, tensors })
    }
}

/// A file, and the tensors that are to be taken from it where an index says so.
type WeightFile = (PathBuf, Option<std::collections::HashSet<String>>);

/// The safetensors files of a folder.
fn weight_files(folder: &Path) -> Result<Vec<WeightFile>, Error> {
    let index_path = folder.join("model.safetensors.index.json");
    if let Some(index) = read_json(&index_path)? {
        let Some(map) = index.get("weight_map").and_then(Json::as_object) else {
            return Err(Error::format(&index_path, "weight_map", "an object", "something else"));
        };
        let mut files: BTreeMap<&str, std::collections::HashSet<String>> = BTreeMap::new();
        for (name, file) in map {
            // A plain file name: an index must not lead out of its folder.
            let plain = file.as_str().filter(|file| {
                Path::new(file).file_name().is_some_and(|name| name == *file)
                    && file.ends_with(".safetensors")
            });
            let Some(file) = plain else {
                let expected = "the name of a safetensors file beside it";
                return Err(Error::format(&index_path, name, expected, file));
            };
            files.entry(file).or_default().insert(name.clone());
        }
        return Ok(files
            .into_iter()
            .map(|(file, names)| (folder.join(file), Some(names)))
            .collect());
    }
    let single = folder.join("model.safetensors");
    if single.exists() {
        return Ok(vec![(single, None)]);
    }
    let mut files = Vec::new();
    let list = std::fs::read_dir(folder).map_err(|error| Error::io("list", folder, error))?;
    for item in list {
        let path = item.map_err(|error| Error::io("list", folder, error))?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push((path, None));
        }
    }
    files.sort_by(|a: &WeightFile, b| a.0.cmp(&b.0));
    if files.is_empty() {
        let got = if folder.join("pytorch_model.bin").exists() {
            "PyTorch pickles, which can run code and are not read"
        } else {
            "none"
        };
        return Err(Error::format(folder, "folder", "safetensors files", got));
    }
    Ok(files)
}

/// Puts the files' tensors together under GGUF's names.
fn gather(
    architecture: Architecture,
    config: &Json,
    entries: Vec<(usize, Entry)>,
    path: &Path,
) -> Result<Vec<TensorInfo>, Error> {
    let tied = architecture::says_tied(config);
    let mut tensors: Vec<TensorInfo> = Vec::new();
    // Name -> experts, each (number, file, entry).
    let mut experts: BTreeMap<String, Vec<(usize, usize, Entry)>> = BTreeMap::new();
    for (file, entry) in entries {
        match from_hugging_face(architecture, &entry.name) {
            Some(Meaning::Unused) => {}
            // Some folders store the head that they tie.
            Some(Meaning::Whole(name)) if tied && name == "output.weight" => {}
            Some(Meaning::Whole(name)) => {
                let change = if architecture.norms_are_offsets() && name.ends_with("norm.weight") {
                    Change::AddOne(entry.dtype)
                } else {
                    Change::None
                };
                let mut tensor = TensorInfo::as_it_is(file, entry);
                tensor.name = name;
                tensor.change = change;
                if change != Change::None {
                    tensor.dtype = DType::F32;
                }
                tensors.push(tensor);
            }
            Some(Meaning::Expert(name, number)) => {
                experts.entry(name).or_default().push((number, file, entry));
            }
            Some(Meaning::GateUpExperts(gate, up)) => {
                tensors.extend(split_gate_up(gate, up, file, entry, path)?);
            }
            None => {
                let what = format!("tensor {:?} in {}", entry.name, architecture.name());
                return Err(Error::unsupported(path, what, "the tensors that transformers saves"));
            }
        }
    }
    for (name, list) in experts {
        tensors.push(stack(name, list, path)?);
    }
    let mut seen = HashMap::new();
    for tensor in &tensors {
        if seen.insert(&tensor.name, ()).is_some() {
            return Err(Error::format(path, &tensor.name, "a tensor once", "twice"));
        }
    }
    Ok(tensors)
}

/// All experts' matrices of one kind as one (expert, out, in) tensor.
fn stack(
    name: String,
    mut list: Vec<(usize, usize, Entry)>,
    path: &Path,
) -> Result<TensorInfo, Error> {
    list.sort_by_key(|(number, ..)| *number);
    let (dtype, shape) = (list[0].2.dtype, list[0].2.shape.clone());
    for (i, (number, _, entry)) in list.iter().enumerate() {
        if *number != i || entry.dtype != dtype || entry.shape != shape {
            let expected = format!("expert {i} as {dtype} {shape:?}");
            let got = format!("expert {number} as {} {:?}", entry.dtype, entry.shape);
            return Err(Error::format(path, name, expected, got));
        }
    }
    let shape: Vec<usize> = std::iter::once(list.len()).chain(shape).collect();
    if shape_bytes(dtype, &shape).is_none() {
        return Err(Error::format(path, name, "a shape that fits memory", format!("{shape:?}")));
    }
    let pieces =
        list.into_iter().map(|(_, file, entry)| Piece { file, range: entry.range }).collect();
    Ok(TensorInfo { name, dtype, shape, pieces, change: Change::None })
}

/// (expert, 2 * d_ff, d_model) as two tensors of (expert, d_ff, d_model): gates come first.
fn split_gate_up(
    gate: String,
    up: String,
    file: usize,
    entry: Entry,
    path: &Path,
) -> Result<[TensorInfo; 2], Error> {
    let &[n_expert, rows, cols] = entry.shape.as_slice() else {
        let got = format!("{:?}", entry.shape);
        return Err(Error::format(path, entry.name, "(expert, 2 * d_ff, d_model)", got));
    };
    if !rows.is_multiple_of(2) {
        return Err(Error::format(path, entry.name, "an even number of rows", rows));
    }
    let half = entry.range.len() / n_expert / 2;
    let part = |name: String, second: usize| TensorInfo {
        name,
        dtype: entry.dtype,
        shape: vec![n_expert, rows / 2, cols],
        pieces: (0..n_expert)
            .map(|expert| {
                let start = entry.range.start + (2 * expert + second) * half;
                Piece { file, range: start..start + half }
            })
            .collect(),
        change: Change::None,
    };
    Ok([part(gate, 0), part(up, 1)])
}
