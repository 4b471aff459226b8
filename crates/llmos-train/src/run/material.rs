//! What a run learns from: a text, or conversations beside a model that exists.

use std::sync::Arc;

use llmos_model::ModelFiles;
use llmos_tokenizer::Tokenizer;

use super::checkpoint::Files;
use super::files;
use crate::Error;
use crate::conversations::{Deal, Example, Examples};
use crate::data::Dataset;
use crate::model::{Layout, Lora, Network, read_weights};
use crate::preference::{Loss, Options};
use crate::recipe::Recipe;

/// What is learnt from.
#[derive(Clone)]
pub enum Material {
    /// A text, by a model that begins with nothing.
    Text(Arc<Dataset>),
    /// Conversations, by a model that can speak.
    Lesson(Arc<Lesson>),
}

/// Conversations, and the model that learns them.
pub struct Lesson {
    /// The model that is begun with.
    pub base: ModelFiles,
    /// Its longest context.
    pub context: usize,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The tokenizer's files for the finished model's folder.
    pub files: Vec<(String, Vec<u8>)>,
    /// What is learnt.
    pub train: Examples,
    /// What is only measured; may be empty.
    pub held_out: Examples,
    /// How rows make steps.
    pub deal: Deal,
    /// What learns beside the base, whose weights stay as they are; the whole base where there is
    /// none.
    pub lora: Option<Lora>,
    /// How pairs are learnt from, where rows are pairs.
    pub preference: Option<Preference>,
}

/// What a pair of answers costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preference {
    /// Which loss.
    pub loss: Loss,
    /// What it is adjusted by.
    pub options: Options,
}

impl Lesson {
    /// Rows by their places.
    pub(super) fn rows(&self, places: &[usize]) -> Vec<&Example> {
        places.iter().map(|&place| &self.train.rows()[place]).collect()
    }
}

impl Material {
    /// Its hash, by which a run knows it again.
    pub(super) fn sha256(&self) -> &str {
        match self {
            Material::Text(dataset) => dataset.sha256(),
            Material::Lesson(lesson) => lesson.train.sha256(),
        }
    }

    /// The decoder that learns: with an adapter, where that is what learns.
    ///
    /// # Errors
    /// The base model's weights cannot be read.
    pub(super) fn network(&self, recipe: &Recipe, network: Network) -> Result<Network, Error> {
        let Material::Lesson(lesson) = self else { return Ok(network) };
        let Some(lora) = &lesson.lora else { return Ok(network) };
        let frozen = read_weights(&lesson.base, &recipe.model, network.layout())?;
        Ok(network.with_adapter(frozen, lora))
    }

    /// The weights that a run begins with: (parameters).
    ///
    /// # Errors
    /// The base model's cannot be read.
    pub(super) fn initial(&self, recipe: &Recipe, layout: &Layout) -> Result<Vec<f32>, Error> {
        match self {
            Material::Text(_) => Ok(layout.initial(recipe.train.seed)),
            Material::Lesson(lesson) if lesson.lora.is_some() => {
                Ok(layout.initial(recipe.train.seed))
            }
            Material::Lesson(lesson) => read_weights(&lesson.base, &recipe.model, layout),
        }
    }

    /// The tokenizer, and its files.
    ///
    /// # Errors
    /// A text's cannot be read.
    pub(super) fn tokenizer(&self) -> Result<(Arc<Tokenizer>, Files), Error> {
        match self {
            Material::Text(dataset) => {
                files::tokenizer(dataset).map(|(tokenizer, files)| (Arc::new(tokenizer), files))
            }
            Material::Lesson(lesson) => Ok((lesson.tokenizer.clone(), lesson.files.clone())),
        }
    }

    /// The adapter that learns, and the path of what it belongs to.
    pub(super) fn lora(&self) -> Option<(&Lora, &std::path::Path)> {
        match self {
            Material::Lesson(lesson) => Some((lesson.lora.as_ref()?, lesson.base.path())),
            Material::Text(_) => None,
        }
    }

    /// The context that the finished model says it has.
    pub(super) fn context(&self, recipe: &Recipe) -> usize {
        match self {
            Material::Text(_) => recipe.train.context,
            Material::Lesson(lesson) => lesson.context,
        }
    }
}
