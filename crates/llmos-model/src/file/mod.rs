//! Opens a model, whatever its format: tensors under GGUF's names, a [`Config`], a vocabulary.
//!
//! Nothing but headers is read on opening; weights are mapped and come from disk when touched.

mod gains;
mod gguf;
mod hugging_face;
mod llama2c;
mod map;
mod metadata;
mod names;
mod peft;
mod safetensors;
mod tensor;
mod vocabulary;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llmos_tensor::DType;
use serde_json::Value as Json;

use crate::architecture::{self, Hyperparameters};
use crate::{Config, Error};
use map::Map;
use tensor::Piece;

pub use gains::NormGains;
pub use gguf::Header as GgufHeader;
pub(crate) use gguf::code_of;
pub(crate) use llama2c::Header as Llama2cHeader;
pub use metadata::{Array, Metadata, Value};
pub use names::SCORE_HEAD;
pub(crate) use names::{from_hugging_face, to_hugging_face};
pub use peft::{PeftAdapter, PeftPart, PeftSettings, PeftTargets};
pub use safetensors::read as read_safetensors;
pub(crate) use tensor::{Change, shape_bytes};
pub use tensor::{Entry, Tensor, TensorInfo};
pub use vocabulary::{GgufVocabulary, Vocabulary};

/// An opened model.
#[derive(Debug)]
pub struct ModelFiles {
    path: PathBuf,
    maps: Vec<Map>,
    source: Source,
    tensors: Vec<TensorInfo>,
    /// Name -> index into `tensors`.
    index: HashMap<String, usize>,
    model: Result<(Hyperparameters, Config), Arc<Error>>,
}

/// What the files are, and their description of the model.
#[derive(Debug)]
pub(crate) enum Source {
    Gguf { version: u32, metadata: Metadata },
    HuggingFace { config: Json },
    Llama2c { header: llama2c::Header },
}

impl ModelFiles {
    /// Opens a GGUF file (any part of a split one opens all), a Hugging Face folder, or a llama2.c
    /// checkpoint.
    ///
    /// # Errors
    /// Where the files cannot be read or do not add up. A sound file without a model that can run
    /// (a vocabulary alone, an unknown architecture) opens; its [`ModelFiles::config`] is an error.
    pub fn open(path: &Path) -> Result<ModelFiles, Error> {
        let metadata = std::fs::metadata(path).map_err(|error| Error::io("open", path, error))?;
        if metadata.is_dir() {
            return ModelFiles::open_folder(path);
        }
        let map = Map::open(path)?;
        if map.bytes().starts_with(b"GGUF") {
            return ModelFiles::open_gguf(path, map);
        }
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            return ModelFiles::open_folder(folder.unwrap_or(Path::new(".")));
        }
        if map.bytes().starts_with(b"PK\x03\x04") {
            let what = "a PyTorch pickle, which can run code,";
            return Err(Error::unsupported(path, what, "safetensors, GGUF, llama2.c"));
        }
        let extension = path.extension().is_some_and(|extension| extension == "bin");
        if extension || llama2c::recognises(map.bytes()) {
            return ModelFiles::open_llama2c(path, map);
        }
        let first = &map.bytes()[..map.bytes().len().min(4)];
        let expected = "a model (GGUF, a folder with config.json, llama2.c)";
        Err(Error::format(path, "file", expected, format!("a file that begins {first:02x?}")))
    }

    /// Opens a GGUF file that is part of the program; `name` stands for its path.
    ///
    /// # Errors
    /// As [`ModelFiles::open`].
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Result<ModelFiles, Error> {
        let path = Path::new(name);
        ModelFiles::open_gguf(path, Map::embedded(path, bytes))
    }

    fn open_folder(path: &Path) -> Result<ModelFiles, Error> {
        let folder = hugging_face::Folder::open(path)?;
        let source = Source::HuggingFace { config: folder.config };
        ModelFiles::new(path, folder.maps, source, folder.tensors)
    }

    fn open_llama2c(path: &Path, map: Map) -> Result<ModelFiles, Error> {
        let header = llama2c::Header::read(map.bytes(), path)?;
        ModelFiles::new(path, vec![map], Source::Llama2c { header }, header.tensors())
    }

    fn open_gguf(path: &Path, map: Map) -> Result<ModelFiles, Error> {
        let header = GgufHeader::read(map.bytes(), path)?;
        let count = |header: &GgufHeader, key: &str| -> Option<u64> {
            header.metadata.get(key).and_then(Value::as_count)
        };
        let parts = count(&header, "split.count").unwrap_or(1);
        if parts <= 1 {
            let GgufHeader { version, metadata, tensors } = header;
            let tensors = tensors.into_iter().map(|entry| TensorInfo::as_it_is(0, entry)).collect();
            return ModelFiles::new(path, vec![map], Source::Gguf { version, metadata }, tensors);
        }
        // NAME-00002-of-00005.gguf
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let suffix = |part: u64| format!("-{part:05}-of-{parts:05}.gguf");
        let this = count(&header, "split.no").and_then(|no| no.checked_add(1));
        let stem = this.filter(|_| parts <= 99_999).and_then(|no| name.strip_suffix(&suffix(no)));
        let Some(stem) = stem else {
            let expected = format!("a name ending {}", suffix(this.unwrap_or(1)));
            return Err(Error::format(path, "file name of a split GGUF", expected, name));
        };
        let mut maps = Vec::new();
        let mut tensors = Vec::new();
        let mut first: Option<(u32, Metadata)> = None;
        for part in 1..=parts {
            let part_path = path.with_file_name(format!("{stem}{}", suffix(part)));
            let map = Map::open(&part_path)?;
            let header = GgufHeader::read(map.bytes(), &part_path)?;
            let said = (count(&header, "split.no"), count(&header, "split.count"));
            if said != (Some(part - 1), Some(parts)) {
                let expected = format!("part {part} of {parts}");
                return Err(Error::format(&part_path, "split", expected, format!("{said:?}")));
            }
            let file = maps.len();
            tensors
                .extend(header.tensors.into_iter().map(|entry| TensorInfo::as_it_is(file, entry)));
            maps.push(map);
            first.get_or_insert((header.version, header.metadata));
        }
        let Some((version, metadata)) = first else {
            return Err(Error::format(path, "split.count", "at least one part", parts));
        };
        let total = metadata.get("split.tensors.count").and_then(Value::as_count);
        if total.is_some_and(|total| total != tensors.len() as u64) {
            let expected = format!("{total:?} tensors");
            return Err(Error::format(path, "split.tensors.count", expected, tensors.len()));
        }
        ModelFiles::new(path, maps, Source::Gguf { version, metadata }, tensors)
    }

    fn new(
        path: &Path,
        maps: Vec<Map>,
        source: Source,
        tensors: Vec<TensorInfo>,
    ) -> Result<ModelFiles, Error> {
        let mut index = HashMap::with_capacity(tensors.len());
        for (i, tensor) in tensors.iter().enumerate() {
            if index.insert(tensor.name.clone(), i).is_some() {
                return Err(Error::format(path, &tensor.name, "a tensor once", "twice"));
            }
        }
        let unread = Error::unsupported(path, "no model", "");
        let model = Err(Arc::new(unread));
        let mut files = ModelFiles { path: path.to_owned(), maps, source, tensors, index, model };
        files.model = architecture::read(&files).map_err(Arc::new);
        Ok(files)
    }

    /// The decoder that these files describe, its tensors checked against it.
    ///
    /// # Errors
    /// [`Error::NoModel`] where the file opened but no decoder can be made of it.
    pub fn config(&self) -> Result<&Config, Error> {
        match &self.model {
            Ok((_, config)) => Ok(config),
            Err(error) => Err(Error::NoModel(error.clone())),
        }
    }

    pub(crate) fn hyperparameters(&self) -> Result<&Hyperparameters, Error> {
        match &self.model {
            Ok((hyperparameters, _)) => Ok(hyperparameters),
            Err(error) => Err(Error::NoModel(error.clone())),
        }
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mapped files, in the order that [`TensorInfo::location`] counts them.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.maps.iter().map(Map::path)
    }

    /// All tensors, in the files' order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter()
    }

    /// The tensor of that name, without its data.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// The tensor of that name: `token_embd.weight`, `blk.0.attn_q.weight`.
    ///
    /// # Errors
    /// [`Error::Numbers`] where stored values cannot be decoded (Gemma's norms in a folder).
    pub fn tensor(&self, name: &str) -> Result<Option<Tensor<'_>>, Error> {
        self.info(name).map(|info| self.slice(info, 0..info.shape[0])).transpose()
    }

    /// Entries `rows` of the tensor's outermost dimension, the rest untouched: rows of a matrix,
    /// matrices of stacked experts.
    ///
    /// # Errors
    /// [`Error::Format`] where there are not that many, and as [`ModelFiles::tensor`].
    pub fn rows(&self, name: &str, rows: Range<usize>) -> Result<Option<Tensor<'_>>, Error> {
        let Some(info) = self.info(name) else { return Ok(None) };
        if rows.start > rows.end || rows.end > info.shape[0] {
            let expected = format!("rows within {}", info.shape[0]);
            return Err(Error::format(&self.path, name, expected, format!("{rows:?}")));
        }
        self.slice(info, rows).map(Some)
    }

    fn slice(&self, info: &TensorInfo, rows: Range<usize>) -> Result<Tensor<'_>, Error> {
        let stored: usize = info.pieces.iter().map(|piece| piece.range.len()).sum();
        // A vector's entry may be part of a block; vectors are always read whole or unquantised.
        let (numerator, denominator) = (stored, info.shape[0]);
        let at = |row: usize| (numerator as u128 * row as u128 / denominator as u128) as usize;
        let bytes = self.gather(&info.pieces, at(rows.start)..at(rows.end));
        let mut shape = info.shape.clone();
        shape[0] = rows.len();
        let bytes = match info.change {
            Change::None => bytes,
            Change::AddOne(dtype) => {
                let mut values = vec![0.0f32; shape.iter().product()];
                llmos_tensor::quant::dequantize(dtype, &bytes, &mut values)?;
                Cow::Owned(values.iter().flat_map(|x| (x + 1.0).to_le_bytes()).collect())
            }
        };
        Ok(Tensor { dtype: info.dtype, shape, bytes })
    }

    /// Bytes `range` of the pieces laid end to end.
    fn gather(&self, pieces: &[Piece], range: Range<usize>) -> Cow<'_, [u8]> {
        let mut owned = Vec::new();
        let mut at = 0;
        for piece in pieces {
            let len = piece.range.len();
            let from = range.start.max(at) - at;
            let to = range.end.min(at + len).saturating_sub(at);
            at += len;
            if from >= to {
                continue;
            }
            let start = piece.range.start;
            let bytes = &self.maps[piece.file].bytes()[start + from..start + to];
            if bytes.len() == range.len() {
                return Cow::Borrowed(bytes);
            }
            owned.extend_from_slice(bytes);
        }
        Cow::Owned(owned)
    }

    /// Tells the operating system that the tensor's pages are no longer needed, so that a packed
    /// copy does not double resident memory. Reading it again works, from the page cache or disk.
    pub fn release(&self, name: &str) {
        for piece in self.info(name).into_iter().flat_map(|info| &info.pieces) {
            self.maps[piece.file].release(piece.range.clone());
        }
    }

    /// The vocabulary beside or inside the weights.
    ///
    /// # Errors
    /// [`Error::Io`] where a file is there but cannot be read.
    pub fn vocabulary(&self) -> Result<Vocabulary, Error> {
        match &self.source {
            Source::Gguf { metadata, .. } => Ok(GgufVocabulary::read(metadata)
                .map_or(Vocabulary::None, |vocabulary| Vocabulary::Gguf(Box::new(vocabulary)))),
            Source::HuggingFace { .. } => vocabulary::of_folder(&self.path),
            Source::Llama2c { header } => {
                let vocab_size = header.vocab_size;
                let own = format!("tok{vocab_size}.bin");
                let beside = [own.as_str(), "tokenizer.bin"];
                let found = beside.map(|name| self.path.with_file_name(name));
                Ok(found
                    .into_iter()
                    .find(|path| path.is_file())
                    .map_or(Vocabulary::None, |path| Vocabulary::Llama2c { path, vocab_size }))
            }
        }
    }

    /// What the files say about the model, for people: keys and values in the files' order.
    pub fn metadata(&self) -> Vec<(String, Json)> {
        const LONGEST: usize = 16;
        match &self.source {
            Source::Gguf { metadata, .. } => metadata
                .iter()
                .map(|(key, value)| (key.to_owned(), value.to_json(LONGEST)))
                .collect(),
            Source::HuggingFace { config } => config
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            Source::Llama2c { header } => [
                ("dim", header.d_model),
                ("hidden_dim", header.d_ff),
                ("n_layers", header.n_layer),
                ("n_heads", header.n_head),
                ("n_kv_heads", header.n_kv_head),
                ("vocab_size", header.vocab_size),
                ("seq_len", header.context_length),
            ]
            .map(|(key, value)| (key.to_owned(), value.into()))
            .to_vec(),
        }
    }

    /// Bytes `range` of a tensor as the files store it, before any change.
    pub(crate) fn stored(&self, info: &TensorInfo, range: Range<usize>) -> Cow<'_, [u8]> {
        self.gather(&info.pieces, range)
    }

    /// A GGUF metadata value, its type before it, as the file encodes it.
    pub(crate) fn raw_value(&self, key: &str) -> Option<&[u8]> {
        let range = self.gguf_metadata()?.encoded(key)?;
        self.maps.first()?.bytes().get(range)
    }

    /// GGUF's metadata with its types; none in other formats.
    pub fn gguf_metadata(&self) -> Option<&Metadata> {
        match &self.source {
            Source::Gguf { metadata, .. } => Some(metadata),
            _ => None,
        }
    }

    /// The format: `GGUF v3`, `safetensors`, `llama2.c`.
    pub fn format(&self) -> &'static str {
        match &self.source {
            Source::Gguf { version: 2, .. } => "GGUF v2",
            Source::Gguf { .. } => "GGUF v3",
            Source::HuggingFace { .. } => "safetensors",
            Source::Llama2c { .. } => "llama2.c",
        }
    }

    /// The mixture of formats, as on the command line: `q4_k_m`, `f16`. From `general.file_type`
    /// where the file gives it, else the format that most values have.
    pub fn type_name(&self) -> &'static str {
        let stated = self
            .gguf_metadata()
            .and_then(|metadata| metadata.get("general.file_type"))
            .and_then(Value::as_count)
            .and_then(file_type_name);
        stated.unwrap_or_else(|| self.majority().map_or("none", DType::name))
    }

    /// The format that most values have; none without tensors.
    pub fn majority(&self) -> Option<DType> {
        let mut values: HashMap<DType, usize> = HashMap::new();
        for tensor in &self.tensors {
            let count = values.entry(tensor.dtype).or_default();
            *count = count.saturating_add(tensor.len());
        }
        DType::ALL
            .into_iter()
            .max_by_key(|dtype| values.get(dtype).copied())
            .filter(|dtype| values.contains_key(dtype))
    }

    /// Bytes of all mapped files.
    pub fn file_bytes(&self) -> u64 {
        self.maps.iter().map(|map| map.bytes().len() as u64).sum()
    }
}

/// The name of a `general.file_type` (`enum llama_ftype`).
fn file_type_name(file_type: u64) -> Option<&'static str> {
    Some(match file_type {
        0 => "f32",
        1 => "f16",
        2 => "q4_0",
        3 => "q4_1",
        7 => "q8_0",
        8 => "q5_0",
        9 => "q5_1",
        10 => "q2_k",
        11 => "q3_k_s",
        12 => "q3_k_m",
        13 => "q3_k_l",
        14 => "q4_k_s",
        15 => "q4_k_m",
        16 => "q5_k_s",
        17 => "q5_k_m",
        18 => "q6_k",
        21 => "q2_k_s",
        25 => "iq4_nl",
        30 => "iq4_xs",
        32 => "bf16",
        38 => "mxfp4",
        _ => return None,
    })
}
