//! What a run learns from: a text, or conversations beside a model that exists.

use std::sync::Arc;

use llmos_model::ModelFiles;
use llmos_tokenizer::Tokenizer;

use super::checkpoint::Files;
use super::{files, reward};
use crate::Error;
use crate::conversations::{Deal, Example, Examples};
use crate::data::Dataset;
use crate::model::{Layout, Lora, Network, read_weights};
use crate::preference::{Judgement, Options};
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
    /// How judged answers are learnt from, where rows are such.
    pub preference: Option<Preference>,
    /// What the model is compared with; what it begins as where there is nothing else. It has the
    /// same vocabulary.
    pub reference: Option<ModelFiles>,
}

/// What judged answers cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preference {
    /// What they are judged by.
    pub judgement: Judgement,
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
        if self.is_scalar() {
            return Ok(network.with_scalar_head());
        }
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
            Material::Lesson(lesson) if self.is_scalar() => {
                reward::initial(&lesson.base, recipe, layout)
            }
            Material::Lesson(lesson) => read_weights(&lesson.base, &recipe.model, layout),
        }
    }

    /// Whether the model gives a score instead of the next token.
    pub(super) fn is_scalar(&self) -> bool {
        match self {
            Material::Lesson(lesson) => lesson.preference.is_some_and(Preference::is_scalar),
            Material::Text(_) => false,
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
