//! The report card: what several models were measured at, side by side, with error bars.
//!
//! [`Card::new`] takes what was found of each model, [`Subject`]: parts of texts with their bits, and
//! answered rows. It serialises to JSON whose form has a [`VERSION`].

mod measure;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bits::Part;
use crate::conversation::{Answered, Set};
use crate::interval::Estimate;

/// The form of a card's JSON. It changes where a key changes its meaning or goes away.
pub const VERSION: u32 = 1;

/// What says that a JSON file is a report card.
pub const SCHEMA: &str = "llmos report card";

/// A text that models predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Text {
    /// English stories.
    Stories,
    /// Chinese stories.
    Chinese,
}

impl Text {
    /// Both.
    pub const ALL: [Text; 2] = [Text::Stories, Text::Chinese];

    /// `stories` or `chinese`.
    pub fn name(self) -> &'static str {
        match self {
            Text::Stories => "stories",
            Text::Chinese => "chinese",
        }
    }
}

/// What was found of a model.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// What it is called.
    pub name: String,
    /// The parts of the texts that it predicted.
    pub texts: BTreeMap<Text, Vec<Part>>,
    /// What it answered with the tools at hand.
    pub answers: Vec<Answered>,
    /// What it answered without tools.
    pub without_tools: Vec<Answered>,
}

/// What a text takes by something simpler than a model.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// What it is called, such as `5-gram`.
    pub name: String,
    /// Which text.
    pub text: Text,
    /// The same parts as the models'.
    pub parts: Vec<Part>,
    /// Characters that it was learnt from.
    pub learnt: u64,
}

/// A report card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// [`SCHEMA`].
    pub schema: String,
    /// [`VERSION`].
    pub version: u32,
    /// Seed of the error bars.
    pub seed: u64,
    /// The models, in the order in which each came of the one before.
    pub models: Vec<String>,
    /// What they were measured on.
    pub sets: Vec<SetSize>,
    /// The figures.
    pub measures: Vec<Measure>,
}

/// How much of a set there was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetSize {
    /// A text's or a set's name.
    pub name: String,
    /// Graded rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Parts of a text, by which its error bars are drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<usize>,
    /// Bytes of a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Characters of a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub characters: Option<u64>,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Right answers of all: more is better.
    Share,
    /// Less is better.
    BitsPerCharacter,
    /// Less is better.
    BitsPerByte,
}

/// One thing that is measured, of every model that it was measured of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// The set or the text, then what of it: `hand/routing`.
    pub key: String,
    /// For people.
    pub title: String,
    /// What the figures count.
    pub unit: Unit,
    /// What a finished assistant must reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bar: Option<f64>,
    /// What it would be good to reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim: Option<f64>,
    /// Figures by model; of models that were not measured there are none.
    pub cells: Vec<Cell>,
    /// What is to be beaten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub baselines: Vec<Cell>,
    /// One model beside another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
}

/// A model's figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The model, or the baseline.
    pub name: String,
    /// The figure and its error bar.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Rows, or parts of a text.
    pub count: usize,
    /// Rows that were right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<usize>,
    /// The same of each language alone, where rows are of several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub languages: BTreeMap<String, Share>,
}

/// A share of some rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The figure and its error bar.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Rows.
    pub count: usize,
    /// Rows that were right.
    pub right: usize,
}

/// One model beside another, on the rows or parts that both were measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The model that is compared with.
    pub from: String,
    /// The model that is compared.
    pub to: String,
    /// By how much its figure is larger, and the error bar of that.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Rows or parts that both have.
    pub count: usize,
    /// Of rows: how likely so one-sided a change is if there is none (McNemar, exact).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
}

impl Measure {
    /// Whether a figure reaches the bar; none where there is no bar.
    pub fn reaches(&self, value: f64) -> Option<bool> {
        self.bar.map(|bar| match self.unit {
            Unit::Share => value >= bar,
            Unit::BitsPerCharacter | Unit::BitsPerByte => value <= bar,
        })
    }

    /// The set or the text.
    pub fn set(&self) -> &str {
        self.key.split('/').next().unwrap_or_default()
    }
}

impl Card {
    /// The card of some models. Rows that a model answered twice count once, as they were answered
    /// last; what was measured of no model is left out.
    pub fn new(subjects: &[Subject], baselines: &[Baseline], seed: u64) -> Card {
        Card {
            schema: SCHEMA.to_string(),
            version: VERSION,
            seed,
            models: subjects.iter().map(|subject| subject.name.clone()).collect(),
            sets: sets(subjects, baselines),
            measures: measure::all(subjects, baselines, seed),
        }
    }

    /// The measure of that key.
    pub fn measure(&self, key: &str) -> Option<&Measure> {
        self.measures.iter().find(|measure| measure.key == key)
    }
}

/// What there was to be measured on: the most that any model was given.
fn sets(subjects: &[Subject], baselines: &[Baseline]) -> Vec<SetSize> {
    let bare = |name: &str| SetSize {
        name: name.to_string(),
        rows: None,
        parts: None,
        bytes: None,
        characters: None,
    };
    let texts = Text::ALL.into_iter().filter_map(|text| {
        let parts = subjects.iter().filter_map(|subject| subject.texts.get(&text));
        let parts = parts.max_by_key(|parts| parts.len()).filter(|parts| !parts.is_empty())?;
        Some(SetSize {
            parts: Some(parts.len()),
            bytes: Some(parts.iter().map(|part| part.bytes).sum()),
            characters: Some(parts.iter().map(|part| part.characters).sum()),
            ..bare(text.name())
        })
    });
    let rows = Set::ALL.into_iter().filter_map(|set| {
        let of = |subject: &Subject| {
            let rows = subject.answers.iter().filter(|answered| answered.row.set() == set);
            rows.map(|answered| &answered.row.id).collect::<std::collections::BTreeSet<_>>().len()
        };
        let rows = subjects.iter().map(of).max().filter(|&rows| rows > 0)?;
        Some(SetSize { rows: Some(rows), ..bare(set.name()) })
    });
    let learnt = Text::ALL.into_iter().filter_map(|text| {
        let of = baselines.iter().filter(|baseline| baseline.text == text);
        let characters = Some(of.map(|baseline| baseline.learnt).max()?);
        Some(SetSize { characters, ..bare(&format!("{}-baseline", text.name())) })
    });
    texts.chain(learnt).chain(rows).collect()
}

#[cfg(test)]
pub(crate) mod tests;
