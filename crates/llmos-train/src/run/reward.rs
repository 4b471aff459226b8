//! Reward models: what they begin as, the words by which transformers knows one, and their scores.

use std::sync::Arc;

use llmos_model::{ModelFiles, SCORE_HEAD};
use llmos_tensor::Device;
use llmos_tensor::gemm::Precision;
use llmos_tokenizer::Tokenizer;
use serde_json::{Value, json};

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
    if RewardModel::is_in(base) {
        return read(base, &recipe.model, layout);
    }
    let drawn = layout.initial(recipe.train.seed);
    with_body(base, &recipe.model, layout, drawn)
}

/// Weights of this layout with those of the model in `files` in their places, the head left alone.
fn with_body(
    files: &ModelFiles,
    shape: &ModelShape,
    layout: &Layout,
    mut weights: Vec<f32>,
) -> Result<Vec<f32>, Error> {
    let whole = Layout::new(&ModelShape { tied_head: true, ..shape.clone() });
    let read = read_weights(files, shape, &whole)?;
    for tensor in layout.tensors() {
        if let Some(from) = whole.tensors().iter().find(|from| from.name == tensor.name) {
            weights[tensor.range()].copy_from_slice(&read[from.range()]);
        }
    }
    Ok(weights)
}

/// The weights of a reward model: (parameters).
fn read(files: &ModelFiles, shape: &ModelShape, layout: &Layout) -> Result<Vec<f32>, Error> {
    let format = |expected: String, got: String| Error::Format {
        path: files.path().to_path_buf(),
        what: SCORE.into(),
        expected,
        got,
    };
    let mut weights = with_body(files, shape, layout, vec![0.0; layout.len()])?;
    let found = files
        .tensor(SCORE_HEAD)
        .and_then(|found| found.map(|found| found.to_f32()).transpose())
        .map_err(|error| format("values".into(), error.to_string()))?
        .unwrap_or_default();
    for tensor in layout.tensors().iter().filter(|tensor| tensor.name == SCORE) {
        if found.len() != tensor.cols {
            return Err(format(format!("{} numbers", tensor.cols), found.len().to_string()));
        }
        weights[tensor.range()].copy_from_slice(&found);
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

/// A reward model that gives scores.
pub struct RewardModel {
    network: Network,
    /// (parameters)
    weights: Vec<f32>,
}

impl RewardModel {
    /// Whether files hold one.
    pub fn is_in(files: &ModelFiles) -> bool {
        files.tensor(SCORE_HEAD).is_ok_and(|found| found.is_some())
    }

    /// Reads a reward model, for rows of `context` tokens at most.
    ///
    /// # Errors
    /// [`Error::Format`] where a tensor is missing, has another shape, or cannot be decoded.
    pub fn read(
        files: &ModelFiles,
        shape: &ModelShape,
        context: usize,
        device: &Arc<Device>,
    ) -> Result<RewardModel, Error> {
        let network = Network::new(shape, device, Precision::F32, 1, context).with_scalar_head();
        let weights = read(files, shape, network.layout())?;
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
