//! Answers that were judged: pairs, tags, and what they are learnt by.

use std::path::PathBuf;

use llmos_model::ModelFiles;
use llmos_tokenizer::Tokenizer;
use llmos_train::conversations::{self, Example, Examples, Fault, Form, Learner};
use llmos_train::preference::{Judgement, Options};
use llmos_train::run::{Preference, RewardModel, score_example};
use serde::{Deserialize, Serialize};

use super::lesson::{Speech, trainable};
use crate::failure::failure;
use crate::{load, vocabulary};

/// How judged answers are learnt from, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::command) struct Pairwise {
    /// The loss's name; `reward` for scores.
    pub(in crate::command) loss: String,
    pub(in crate::command) beta: f64,
    pub(in crate::command) label_smoothing: f64,
    /// What liked answers and others count for.
    #[serde(default = "evenly")]
    pub(in crate::command) weights: [f64; 2],
    /// What the model is compared with, where that is not what it begins as.
    #[serde(default)]
    pub(in crate::command) reference: Option<PathBuf>,
}

fn evenly() -> [f64; 2] {
    [1.0; 2]
}

/// The loss of pairs where none is named, and how strongly a model is held to its reference.
pub(in crate::command) const LOSS: &str = "dpo";
pub(in crate::command) const BETA: f64 = 0.1;

pub(in crate::command) use crate::resume::REWARD;

impl Pairwise {
    pub(super) fn preference(&self) -> anyhow::Result<Preference> {
        let judgement = match self.loss.as_str() {
            REWARD => Judgement::Scores,
            name => Judgement::from_name(name).ok_or_else(|| {
                failure(
                    format!("there is no loss `{name}`"),
                    format!("losses are dpo, {}", Judgement::names().join(", ")),
                )
            })?,
        };
        let Pairwise { beta, label_smoothing, weights, .. } = *self;
        if !(beta > 0.0 && beta.is_finite()) {
            return Err(failure(format!("--beta {beta}"), "beta is a number above 0, such as 0.1"));
        }
        if !(0.0..0.5).contains(&label_smoothing) {
            return Err(failure(
                format!("--label-smoothing {label_smoothing}"),
                "a share is from 0 to below 0.5",
            ));
        }
        for (flag, weight) in [("--liked-weight", weights[0]), ("--disliked-weight", weights[1])] {
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(failure(
                    format!("{flag} {weight}"),
                    "a weight is 0 or more, such as 1",
                ));
            }
        }
        let has_reference = judgement.has_reference();
        if let Some(reference) = self.reference.as_ref().filter(|_| !has_reference) {
            return Err(failure(
                format!(
                    "--reference {}, but {} compares with nothing",
                    reference.display(),
                    self.loss
                ),
                "leave the flag out, or take another --loss",
            ));
        }
        Ok(Preference { judgement, options: Options { beta, label_smoothing, weights } })
    }

    /// Whether this asks for another run than one that has `has`; defaults ask for nothing.
    pub(super) fn differs(&self, has: &Pairwise) -> bool {
        let is_other = |asked: f64, default: f64, has: f64| asked != default && asked != has;
        (self.loss == REWARD) != (has.loss == REWARD)
            || self.loss != LOSS && self.loss != has.loss
            || is_other(self.beta, BETA, has.beta)
            || is_other(self.label_smoothing, 0.0, has.label_smoothing)
            || self.weights != evenly() && self.weights != has.weights
            || self.reference.is_some() && self.reference != has.reference
    }

    /// The reference's files, which must have the vocabulary of the model.
    pub(super) fn reference(&self, own: &Tokenizer) -> anyhow::Result<Option<ModelFiles>> {
        let Some(path) = &self.reference else { return Ok(None) };
        let files = load::open_at(path)?;
        trainable(&files)?;
        if RewardModel::is_in(&files) {
            return Err(failure(
                format!(
                    "{} is a reward model, which gives scores instead of words",
                    path.display()
                ),
                "--reference takes a model that answers",
            ));
        }
        let other = Speech::of(&files, None)?.tokenizer;
        match vocabulary::are_same(own, &other) {
            true => Ok(Some(files)),
            false => Err(failure(
                format!("{} has another vocabulary than the model", path.display()),
                "--reference takes a model with the same tokenizer, such as what this one came of",
            )),
        }
    }
}

/// Which rows a judgement is about.
fn form_of(judgement: Judgement) -> Form {
    match judgement {
        Judgement::Tags(_) => Form::Tagged,
        Judgement::Pairs(_) | Judgement::Scores => Form::Preference,
    }
}

/// What a row of judged answers becomes.
pub(super) enum Answers {
    Plain(Example),
    Pair([Example; 2]),
    Tagged(Example, bool),
}

impl Answers {
    pub(super) fn examples(&self) -> &[Example] {
        match self {
            Answers::Plain(example) | Answers::Tagged(example, _) => std::slice::from_ref(example),
            Answers::Pair(pair) => pair,
        }
    }

    pub(super) fn of(
        row: &serde_json::Value,
        form: Form,
        judgement: Option<Judgement>,
        learner: &Learner<'_>,
    ) -> Result<Answers, Fault> {
        let example = |row: &serde_json::Value| learner.example(&form.conversation(row)?);
        match judgement {
            None => Ok(Answers::Plain(example(row)?)),
            Some(Judgement::Tags(_)) => {
                let liked = conversations::liked(row)?;
                Ok(Answers::Tagged(example(row)?, liked))
            }
            Some(judgement) => {
                let pair = learner.pair(row)?;
                Ok(Answers::Pair(match judgement {
                    Judgement::Scores => pair.map(score_example),
                    _ => pair,
                }))
            }
        }
    }
}

/// Refuses rows of another form than what is to be learnt from.
pub(super) fn check_form(form: Form, judgement: Option<Judgement>) -> anyhow::Result<()> {
    let wanted = judgement.map(form_of);
    let is_judged = matches!(form, Form::Preference | Form::Tagged);
    if wanted == Some(form) || wanted.is_none() && !is_judged {
        return Ok(());
    }
    Err(match wanted {
        None if form == Form::Tagged => failure(
            "the rows are answers that were liked or not",
            "`llmos prefer --loss kto` learns from both; --format prompt-completion takes all as good",
        ),
        None => failure(
            "the rows are pairs of a better and a worse answer",
            "`llmos prefer` learns from pairs",
        ),
        Some(Form::Tagged) => failure(
            format!("the rows have no tags, but are {}", form.name()),
            "kto learns from rows with `prompt`, `completion` and `label`: true or false",
        ),
        Some(_) if form == Form::Tagged => failure(
            "the rows are no pairs, but single answers that were liked or not",
            match judgement {
                Some(Judgement::Scores) => {
                    "`llmos prefer --loss kto` learns from these; pairs are rows with `chosen` and \
                     `rejected`"
                }
                _ => "--loss kto learns from these; pairs are rows with `chosen` and `rejected`",
            },
        ),
        Some(_) => failure(
            format!("the rows are no pairs, but {}", form.name()),
            "pairs are rows with `chosen` and `rejected`; `llmos finetune` learns from others",
        ),
    })
}

/// Rows as they are dealt out.
pub(super) fn collected(
    answers: Vec<Answers>,
    batch: usize,
    context: usize,
    sha256: &str,
) -> Examples {
    let (mut plain, mut pairs, mut tagged) = (Vec::new(), Vec::new(), Vec::new());
    for answers in answers {
        match answers {
            Answers::Plain(example) => plain.push(example),
            Answers::Pair(pair) => pairs.extend(pair),
            Answers::Tagged(example, liked) => tagged.push((example, liked)),
        }
    }
    let sha256 = sha256.to_string();
    match (pairs.is_empty(), tagged.is_empty()) {
        (false, _) => Examples::pairs(pairs, sha256),
        (true, false) => Examples::tagged(tagged, batch, context, sha256),
        (true, true) => Examples::new(plain, sha256),
    }
}
