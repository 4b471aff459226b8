//! From files of conversations to what a run learns from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llmos_agent::{Guard, token_variables};
use llmos_model::ModelFiles;
use llmos_tokenizer::Tokenizer;
use llmos_tokenizer::chat::Extra;
use llmos_train::conversations::{Deal, Example, Fault, Learner};
use llmos_train::model::{Blueprint, Lora, TARGETS};
use llmos_train::preference::Judgement;
use llmos_train::run::Lesson;
use serde::{Deserialize, Serialize};

use super::judged::{Answers, Pairwise, check_form, collected};
use super::moved::Identity;
use super::rows::read;
use crate::failure::failure;
use crate::terminal::{Terminal, number_of};
use crate::{load, vocabulary};

/// What is learnt, by whom and how: kept in the run's folder, so that it can go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// The model that is begun with.
    pub(super) base: PathBuf,
    /// Files of rows.
    pub(super) data: Vec<PathBuf>,
    /// What form they have; found out by looking where it is left out.
    pub(super) format: Option<String>,
    /// A template in a file of its own.
    pub(super) template: Option<PathBuf>,
    /// Several rows lie in a sequence.
    pub(super) pack: bool,
    /// Each reading of the rows has an order of its own.
    pub(super) shuffle: bool,
    /// Share of the rows that is only measured.
    pub(super) held_out: f64,
    /// Rows that cannot be learnt from are left out, and said so, instead of refused.
    pub(super) skip_bad_rows: bool,
    /// What learns beside the base, instead of all of it.
    pub(super) lora: Option<Lora>,
    /// How pairs are learnt from; rows are conversations where there is nothing.
    pub(super) preference: Option<Pairwise>,
    /// What the base and the rows are known again by, wherever they lie.
    #[serde(default)]
    pub(super) identity: Option<Identity>,
}

/// Longest list of faulty rows that is shown.
const SHOWN: usize = 10;

/// A model's words, and how it is spoken to.
pub(in crate::command) struct Speech {
    pub(super) tokenizer: Arc<Tokenizer>,
    template: Option<String>,
    files: Vec<(String, Vec<u8>)>,
}

impl Speech {
    pub(in crate::command) fn of(
        files: &ModelFiles,
        template: Option<&Path>,
    ) -> anyhow::Result<Speech> {
        let own = vocabulary::whole(files)?.ok_or_else(|| {
            failure(
                format!("{} has no vocabulary", files.path().display()),
                "finetuning needs the model's tokenizer beside it",
            )
        })?;
        let template = match template {
            Some(path) => Some(vocabulary::given_template(path)?),
            None => own.template,
        };
        let mut files = own.files;
        if let Some(template) = &template {
            files.retain(|(name, _)| name != vocabulary::TEMPLATE);
            files.push((vocabulary::TEMPLATE.into(), template.clone().into_bytes()));
        }
        if !files.iter().any(|(name, _)| name == vocabulary::GENERATION) {
            let config = vocabulary::generation_config(&own.tokenizer);
            files.push((vocabulary::GENERATION.into(), config.into_bytes()));
        }
        Ok(Speech { tokenizer: Arc::new(own.tokenizer), template, files })
    }

    pub(in crate::command) fn learner(&self, context: usize) -> Learner<'_> {
        let variables = token_variables(&self.tokenizer);
        let extra = Extra { variables, ..Extra::default() };
        Learner {
            tokenizer: &self.tokenizer,
            guard: Guard::new(&self.tokenizer),
            template: self.template.as_deref(),
            extra,
            context,
        }
    }
}

/// Everything that a run learns from.
pub(super) fn prepare(
    order: &Order,
    files: ModelFiles,
    batch: usize,
    seed: u64,
    terminal: &Terminal,
) -> anyhow::Result<Lesson> {
    let config = files.config().map_err(load::explained)?;
    let context = config.context_length;
    let speech = Speech::of(&files, order.template.as_deref())?;
    let preference = order.preference.as_ref().map(Pairwise::preference).transpose()?;
    let rows = read(&order.data, order.format.as_deref())?;
    let judgement = preference.map(|preference| preference.judgement);
    for form in rows.forms() {
        check_form(form, judgement)?;
    }
    // A scored row has a token more.
    let learner = speech.learner(context - usize::from(judgement == Some(Judgement::Scores)));
    let mut learnable: Vec<Answers> = Vec::new();
    let mut faults: Vec<(String, Fault)> = Vec::new();
    for i in 0..rows.len() {
        let answers =
            rows.row(i).and_then(|(row, form)| Answers::of(row, form, judgement, &learner));
        match answers {
            Ok(answers) => learnable.push(answers),
            Err(fault) => faults.push((rows.place(i), fault)),
        }
    }
    let (names, sha256) = (rows.names(), rows.sha256().to_string());
    drop(rows);
    check_template(&faults, learnable.is_empty())?;
    say_faults(&faults, order.skip_bad_rows, terminal)?;
    if learnable.is_empty() {
        return Err(failure("no row is left to learn from", "give more rows, or others"));
    }
    let all = || learnable.iter().flat_map(Answers::examples);
    let tokens: usize = all().map(|example| example.ids.len()).sum();
    let learnt: usize = all().map(Example::n_learnt).sum();
    terminal.say(format_args!(
        "{names}: {}, {} tokens, of which {} are learnt ({:.0} %)",
        number_of(learnable.len(), "row"),
        tokens,
        learnt,
        100.0 * learnt as f64 / tokens.max(1) as f64,
    ));
    let n_held_out = (learnable.len() as f64 * order.held_out).round() as usize;
    let held_out = learnable.split_off(learnable.len() - n_held_out.min(learnable.len() - 1));
    if let (Some(Judgement::Tags(_)), 1) = (judgement, batch) {
        return Err(failure(
            "a step of one answer cannot measure how far the model has drifted",
            "--batch 2 or more: each answer is compared with that to another question",
        ));
    }
    let examples = |answers: Vec<Answers>| collected(answers, batch, context, &sha256);
    let reference = match &order.preference {
        Some(pairwise) => pairwise.reference(&speech.tokenizer)?,
        None => None,
    };
    Ok(Lesson {
        tokenizer: speech.tokenizer.clone(),
        files: speech.files,
        train: examples(learnable),
        held_out: examples(held_out),
        deal: Deal { batch, pack: order.pack, shuffle: order.shuffle, seed },
        lora: order.lora.clone(),
        preference,
        reference,
        base: Arc::new(files),
    })
}

/// The rank of an adapter, where none is given.
pub(super) const RANK: usize = 16;

/// A number above 0 of something that is counted: minutes, readings.
pub(super) fn parse_amount(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|&number: &f64| number > 0.0 && number <= 1e6);
    number.ok_or_else(|| "a number above 0, such as 1.5".to_string())
}

/// Reads `r=16`, `r=16,alpha=32,targets=q_proj+v_proj,rslora`: what LoRA is to be.
pub(super) fn parse_lora(text: &str) -> Result<Lora, String> {
    let mut lora = Lora::new(RANK);
    let mut alpha = None;
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("r" | "rank", rank)) => {
                lora.rank = rank
                    .parse()
                    .ok()
                    .filter(|rank| (1..=4096).contains(rank))
                    .ok_or_else(|| format!("a rank is a number from 1 to 4096, not {rank}"))?;
            }
            Some(("alpha", value)) => {
                let number =
                    value.parse().ok().filter(|alpha: &f64| alpha.is_finite() && *alpha > 0.0);
                alpha =
                    Some(number.ok_or_else(|| format!("alpha is a number above 0, not {value}"))?);
            }
            Some(("targets", names)) => {
                lora.targets = names.split('+').map(str::to_string).collect();
                let unknown = lora.targets.iter().find(|name| !TARGETS.contains(&name.as_str()));
                if let Some(unknown) = unknown {
                    return Err(format!("`{unknown}` is none of {}", TARGETS.join(", ")));
                }
            }
            None if part == "rslora" => lora.rank_stabilised = true,
            None if part == "dora" => lora.dora = true,
            None if part.parse::<usize>().is_ok() => return Err(format!("say r={part}")),
            _ => return Err(format!("`{part}` is none of r=, alpha=, targets=, rslora, dora")),
        }
    }
    lora.alpha = alpha.unwrap_or(2.0 * lora.rank as f64);
    Ok(lora)
}

/// LoRA as [`parse_lora`] reads it, what is usual left out.
pub(super) fn lora_text(lora: &Lora) -> String {
    let mut text = format!("r={},alpha={}", lora.rank, lora.alpha);
    if lora.targets != TARGETS {
        text += &format!(",targets={}", lora.targets.join("+"));
    }
    for (is_so, word) in [(lora.rank_stabilised, "rslora"), (lora.dora, "dora")] {
        if is_so {
            text += &format!(",{word}");
        }
    }
    text
}

/// Refuses a template that is none for these rows, which is no fault of theirs.
pub(super) fn check_template(faults: &[(String, Fault)], all_faulty: bool) -> anyhow::Result<()> {
    let lacks = faults.iter().find(|(_, fault)| *fault == Fault::NoTemplate);
    if let Some((_, fault)) = lacks {
        return Err(failure(
            fault,
            format!(
                "--template FILE gives one; --template {} is one for any vocabulary with an end token",
                vocabulary::PLAIN
            ),
        ));
    }
    let refuses = |(_, fault): &(String, Fault)| matches!(fault, Fault::Template(_));
    match faults.first() {
        Some((row, fault)) if all_faulty && faults.iter().all(refuses) => Err(failure(
            format!("the template can write none of the rows; {row}: {fault}"),
            "mend the template, or give another one with --template FILE",
        )),
        _ => Ok(()),
    }
}

/// Counts and lists rows that cannot be learnt from, and refuses them unless they are to be skipped.
fn say_faults(faults: &[(String, Fault)], skip: bool, terminal: &Terminal) -> anyhow::Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    let mut list = String::new();
    for (row, fault) in faults.iter().take(SHOWN) {
        list.push_str(&format!("\n  {row}: {fault}"));
    }
    if faults.len() > SHOWN {
        list.push_str(&format!("\n  and {} more", faults.len() - SHOWN));
    }
    let count = number_of(faults.len(), "row");
    if skip {
        terminal.warn(format_args!("{count} left out{list}"));
        return Ok(());
    }
    Err(failure(
        format!("{count} cannot be learnt from{list}"),
        "mend them, or leave them out with --skip-bad-rows",
    ))
}

/// The blueprint of a base model.
pub(in crate::command) fn trainable(files: &ModelFiles) -> anyhow::Result<Blueprint> {
    let config = files.config().map_err(load::explained)?;
    Blueprint::of(config).map_err(|what| {
        failure(
            format!("{} has {what}, which cannot be trained", files.path().display()),
            "every dense model that llmos runs can be finetuned: Llama, Mistral, Qwen, Gemma, Phi, \
             SmolLM, OLMo",
        )
    })
}
