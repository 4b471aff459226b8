//! Reward models: what they begin as, the words by which transformers knows one, and their scores.

use std::sync::Arc;

use llmos_model::{ModelFiles, SCORE_HEAD};
use llmos_tensor::Device;
use llmos_tensor::gemm::Precision;
use llmos_tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::Error;
use crate::conversations::{Example, lay};
use crate::model::{Blueprint, Network, SCORE, read_tensors, read_weights};
use crate::recipe::Recipe;

/// The weights that a reward model begins with: the base's, and a head that was drawn unless the base
/// is a reward model already.
///
/// # Errors
/// The base's weights cannot be read.
pub(super) fn initial(
    base: &ModelFiles,
    recipe: &Recipe,
    network: &Network,
) -> Result<Vec<f32>, Error> {
    let (blueprint, layout) = (network.blueprint(), network.layout());
    let is_begun = RewardModel::is_in(base);
    let mut weights = network.initial(recipe.train.seed);
    let found = layout.tensors().iter().filter(|tensor| is_begun || tensor.name != SCORE);
    read_tensors(base, blueprint, found, &mut weights)?;
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
    let family = match config["model_type"].as_str() {
        Some("mistral") => "Mistral",
        Some("qwen2") => "Qwen2",
        Some("qwen3") => "Qwen3",
        Some("gemma2") => "Gemma2",
        Some("gemma3_text") => "Gemma3Text",
        Some("phi3") => "Phi3",
        Some("smollm3") => "SmolLM3",
        Some("olmo2") => "Olmo2",
        _ => "Llama",
    };
    config["architectures"] = json!([format!("{family}ForSequenceClassification")]);
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
        blueprint: &Blueprint,
        context: usize,
        device: &Arc<Device>,
    ) -> Result<RewardModel, Error> {
        let network = Network::new(blueprint, device, Precision::F32, 1, context);
        let network = network.with_scalar_head();
        let weights = read_weights(files, blueprint, network.layout())?;
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
