//! What a run learns from: a text, or conversations beside a model that exists.

use std::sync::Arc;

use llmos_model::ModelFiles;
use llmos_tokenizer::Tokenizer;

use super::checkpoint::Files;
use super::{files, reward, trainer};
use crate::Error;
use crate::conversations::{Deal, Example, Examples};
use crate::data::Dataset;
use crate::model::{Blueprint, Frozen, Lora, Network, Stored, TARGETS, read_weights};
use crate::preference::{Judgement, Options};
use crate::recipe::Recipe;
use llmos_tensor::Device;

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
    pub base: Arc<ModelFiles>,
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
    /// Refuses a run that reads a source of a mix more often than the mix allows: `epochs` beside a
    /// weight.
    ///
    /// # Errors
    /// [`Error::Setting`] with the most steps that are allowed; as
    /// [`Batches::new`](crate::data::Batches::new).
    pub fn check(&self, recipe: &Recipe) -> Result<(), Error> {
        let Material::Text(dataset) = self else { return Ok(()) };
        let sources = &dataset.manifest().sources;
        if !sources.iter().any(|source| source.weight.is_some() && source.epochs.is_some()) {
            return Ok(());
        }
        let batches = trainer::batches(recipe, dataset)?;
        let (steps, batch) = (recipe.train.steps as u64, recipe.train.batch as u64);
        let Some((most, name)) = batches.row_limit() else { return Ok(()) };
        if steps.saturating_mul(batch) <= most {
            return Ok(());
        }
        let nearest = match most / batch {
            0 => "a smaller train.batch".to_string(),
            most => most.to_string(),
        };
        let problem = format!(
            "{steps} steps read {name} more often than its mix allows; the nearest is {nearest}"
        );
        Err(Error::Setting { key: "train.steps".into(), problem })
    }

    /// Its hash, by which a run knows it again.
    pub(super) fn sha256(&self) -> &str {
        match self {
            Material::Text(dataset) => dataset.sha256(),
            Material::Lesson(lesson) => lesson.train.sha256(),
        }
    }

    /// The conversations.
    pub(super) fn lesson(&self) -> Option<&Lesson> {
        match self {
            Material::Lesson(lesson) => Some(lesson),
            Material::Text(_) => None,
        }
    }

    /// The weights that a run begins with: (parameters of what learns in `network`).
    ///
    /// # Errors
    /// The base model's cannot be read.
    pub(super) fn initial(&self, recipe: &Recipe, network: &Network) -> Result<Vec<f32>, Error> {
        match self {
            Material::Lesson(lesson) if self.is_scalar() => {
                reward::initial(&lesson.base, recipe, network)
            }
            Material::Lesson(lesson) if lesson.lora.is_none() => {
                read_weights(&lesson.base, network.blueprint(), network.layout())
            }
            _ => Ok(network.initial(recipe.train.seed)),
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

    /// The adapter that learns, and what it belongs to.
    pub(super) fn lora(&self) -> Option<(&Lora, &ModelFiles)> {
        match self {
            Material::Lesson(lesson) => Some((lesson.lora.as_ref()?, &lesson.base)),
            Material::Text(_) => None,
        }
    }

    /// `config.json` of the finished model.
    ///
    /// # Errors
    /// The base is one that a folder cannot describe.
    pub(super) fn config(&self, recipe: &Recipe, tokenizer: &Tokenizer) -> Result<Vec<u8>, Error> {
        match self {
            Material::Text(_) => Ok(files::config(&recipe.model, recipe.train.context, tokenizer)),
            Material::Lesson(lesson) => {
                let config = files::config_of(&lesson.base, tokenizer)?;
                Ok(match self.is_scalar() {
                    true => reward::config(&config, tokenizer),
                    false => config,
                })
            }
        }
    }
}

/// The decoder that learns: that of the recipe, or the one that a lesson begins with, with an adapter
/// where that is what learns, and a head of one row where that gives scores.
///
/// # Errors
/// The base is none that can be trained, or its weights cannot be read.
pub(crate) fn network(
    recipe: &Recipe,
    lesson: Option<&Lesson>,
    device: &Arc<Device>,
    rows: usize,
) -> Result<Network, Error> {
    let (context, precision) = (recipe.train.context, recipe.train.dtype.precision());
    let make = |blueprint: &Blueprint| Network::new(blueprint, device, precision, rows, context);
    let Some(lesson) = lesson else { return Ok(make(&recipe.model.blueprint(context))) };
    let blueprint = blueprint(&lesson.base)?;
    if blueprint.shape() != recipe.model {
        let problem = "the base has another shape, and keeps it".to_string();
        return Err(Error::Setting { key: "model".into(), problem });
    }
    let network = make(&blueprint);
    if lesson.preference.is_some_and(Preference::is_scalar) {
        return Ok(network.with_scalar_head());
    }
    let Some(lora) = &lesson.lora else { return Ok(network) };
    let layout = network.layout();
    let found = lora.targets_in(layout);
    if found.is_empty() || lora.targets.len() < TARGETS.len() && found.len() < lora.targets.len() {
        let has = Lora::new(1).targets_in(layout).join(", ");
        let problem = format!("{} are asked for; this base has {has}", lora.targets.join(", "));
        return Err(Error::Setting { key: "targets".into(), problem });
    }
    let frozen = match Stored::saves(&lesson.base) {
        true => Frozen::Stored(Stored::open(&lesson.base, &blueprint, layout)?),
        false => Frozen::Whole(read_weights(&lesson.base, &blueprint, layout)?),
    };
    Ok(network.with_adapter(frozen, lora))
}

/// What a base model is.
///
/// # Errors
/// [`Error::Format`] where it cannot be trained.
pub(crate) fn blueprint(base: &ModelFiles) -> Result<Blueprint, Error> {
    let made = base.config().map_err(|error| error.to_string()).and_then(Blueprint::of);
    made.map_err(|got| Error::Format {
        path: base.path().to_path_buf(),
        what: "model".into(),
        expected: "one that can be trained".into(),
        got,
    })
}
