//! Reward models: what they begin as, the words by which transformers knows one, and their scores.

use std::path::Path;
use std::sync::Arc;

use llmos_model::ModelFiles;
use llmos_model::file::read_safetensors;
use llmos_tensor::Device;
use llmos_tensor::gemm::Precision;
use llmos_tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::checkpoint::MODEL;
use crate::Error;
use crate::conversations::{Example, lay};
use crate::model::{Layout, Network, SCORE, read_weights};
use crate::recipe::{ModelShape, Recipe};

/// The weights that a reward model begins with: the base's, and a head that was drawn unless the base
/// is a reward model already.
///
/// # Errors
/// The base's weights cannot be read.
pub(super) fn initial(
    base: &ModelFiles,
    recipe: &Recipe,
    layout: &Layout,
) -> Result<Vec<f32>, Error> {
    if RewardModel::is_at(base.path()) {
        return read(base.path(), layout);
    }
    let whole = Layout::new(&recipe.model);
    let read = read_weights(base, &recipe.model, &whole)?;
    let mut weights = layout.initial(recipe.train.seed);
    for tensor in layout.tensors() {
        if let Some(from) = whole.tensors().iter().find(|from| from.name == tensor.name) {
            weights[tensor.range()].copy_from_slice(&read[from.range()]);
        }
    }
    Ok(weights)
}

/// The token after which nothing counts, where a vocabulary has none of its own: its first one, for
/// classifiers need another than the end token.
fn pad(tokenizer: &Tokenizer) -> u32 {
    tokenizer.pad().filter(|pad| Some(*pad) != tokenizer.eos()).unwrap_or(0)
}

/// `config.json` of a sequence classifier with one label, out of that of a language model.
pub(super) fn config(config: &[u8], tokenizer: &Tokenizer) -> Vec<u8> {
    let mut config: Value = serde_json::from_slice(config).unwrap_or_default();
    let class = match config["model_type"].as_str() {
        Some("qwen3") => "Qwen3ForSequenceClassification",
        _ => "LlamaForSequenceClassification",
    };
    config["architectures"] = json!([class]);
    config["id2label"] = json!({ "0": "LABEL_0" });
    config["label2id"] = json!({ "LABEL_0": 0 });
    config["num_labels"] = 1.into();
    // There is no other head whose tensor could be missing.
    config["tie_word_embeddings"] = true.into();
    config["pad_token_id"] = pad(tokenizer).into();
    format!("{config:#}\n").into_bytes()
}

/// Reads the weights of a reward model's folder: (parameters).
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] where a tensor is missing or has another shape.
fn read(folder: &Path, layout: &Layout) -> Result<Vec<f32>, Error> {
    let path = folder.join(MODEL);
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let format = |what: &str, expected: String, got: String| Error::Format {
        path: path.clone(),
        what: what.into(),
        expected,
        got,
    };
    let entries = read_safetensors(&bytes, &path)
        .map_err(|error| format("tensors", "safetensors".into(), error.to_string()))?;
    let mut weights = vec![0.0; layout.len()];
    for tensor in layout.tensors() {
        let entry = entries.iter().find(|entry| entry.name == tensor.name);
        let expected = tensor.rows * tensor.cols;
        let is_whole = |shape: &[usize]| shape.iter().product::<usize>() == expected;
        let entry = entry.filter(|entry| is_whole(&entry.shape)).ok_or_else(|| {
            let got = entry.map_or("none".into(), |entry| format!("one of {:?}", entry.shape));
            format(&tensor.name, format!("{expected} numbers"), got)
        })?;
        let to = &mut weights[tensor.range()];
        llmos_tensor::quant::dequantize(entry.dtype, &bytes[entry.range.clone()], to)
            .map_err(|error| format(&tensor.name, "numbers".into(), error.to_string()))?;
    }
    Ok(weights)
}

/// A reward model that gives scores.
pub struct RewardModel {
    network: Network,
    /// (parameters)
    weights: Vec<f32>,
}

impl RewardModel {
    /// Whether a folder holds one.
    pub fn is_at(folder: &Path) -> bool {
        let bytes = std::fs::read(folder.join(MODEL)).unwrap_or_default();
        read_safetensors(&bytes, folder)
            .is_ok_and(|entries| entries.iter().any(|entry| entry.name == SCORE))
    }

    /// Reads the reward model of a folder, for rows of `context` tokens at most.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] where a tensor is missing or has another shape.
    pub fn read(
        folder: &Path,
        shape: &ModelShape,
        context: usize,
        device: &Arc<Device>,
    ) -> Result<RewardModel, Error> {
        let network = Network::new(shape, device, Precision::F32, 1, context).with_scalar_head();
        let weights = read(folder, network.layout())?;
        Ok(RewardModel { network, weights })
    }

    /// The score of each row, at its last token. Rows are such as [`score_example`] makes.
    pub fn scores(&mut self, rows: &[&Example]) -> Vec<f64> {
        let sequences = lay(rows, true, self.network.longest());
        super::pairs::values(&mut self.network, &self.weights, &sequences, true, &mut Vec::new())
    }
}

/// A row whose last token goes through the model as well: nothing is predicted of a scored row, and a
/// row's last token is otherwise only predicted.
pub fn score_example(mut row: Example) -> Example {
    row.ids.push(0);
    row.learnt.push(false);
    row
}
