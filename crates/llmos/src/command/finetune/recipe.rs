//! The recipe of finetuning: the base's shape, what was asked for, and a habit for everything else.

use std::sync::Arc;

use llmos_tensor::Device;
use llmos_train::Error;
use llmos_train::plan::LessonPlan;
use llmos_train::preference::Judgement;
use llmos_train::recipe::{Draft, Dtype, Facts, ModelShape, Resolved};
use llmos_train::run::{Lesson, Preference};

use super::{Arguments, again, longest};
use crate::command::pretrain;
use crate::failure::failure;
use crate::processors;

/// Sequences are at least this long where the model's context allows, so that short rows are packed
/// into products of a good size.
const ROOM: usize = 256;

/// The learning rate of full finetuning, where none was given.
const RATE: f64 = 5e-5;

/// The learning rate of an adapter, where none was given.
const LORA_RATE: f64 = 2e-4;

/// The learning rate of a reward model, where none was given: TRL's.
const REWARD_RATE: f64 = 1e-4;

/// Readings of the rows, where nothing else was said.
const EPOCHS: f64 = 3.0;

/// Refuses values for keys that a flag, the base or the rows decide.
///
/// # Errors
/// The first of them, with what says it.
pub(super) fn check_assignments(assignments: &[String]) -> anyhow::Result<()> {
    for assignment in assignments {
        let key = assignment.split('=').next().unwrap_or_default().trim();
        if let Some(hint) = decided(key) {
            let problem = format!("--set {key}: finetuning has no such key");
            return Err(failure(problem, hint));
        }
    }
    Ok(())
}

/// What decides a key, where that is no --set.
fn decided(key: &str) -> Option<&'static str> {
    Some(match key {
        "train.steps" | "train.tokens" | "train.minutes" => {
            "--steps, --epochs or --minutes says how long the run is"
        }
        "train.batch" => "--batch says how many rows a step has",
        "train.seed" => "--seed says it",
        "train.dtype" => "--dtype says it",
        "train.document_attention" => "a row always sees itself alone: leave the key out",
        "data" | "data.path" => "--data says what is learnt from",
        "data.held_out" => "--held-out says it",
        key if key.starts_with("data.") => "rows are no running text: leave the key out",
        key if key.starts_with("model.") => "the model is what BASE is: leave the key out",
        _ => return None,
    })
}

/// An error of a run with what can be done about it: the flag that says what is wrong, where there is
/// one.
pub(super) fn explained(error: Error) -> anyhow::Error {
    let hint = match &error {
        Error::Setting { key, .. } if key == "optimizer.lr" => Some("--lr says it"),
        Error::Setting { key, .. } if key == "targets" => {
            Some("--lora r=16,targets=q_proj+v_proj names some of these, each once")
        }
        Error::Setting { key, .. } if key == "save_every" => Some("--save-every says it"),
        Error::Setting { key, .. } if key == "eval_every" => Some("--eval-every says it"),
        Error::Setting { key, .. } => decided(key),
        _ => None,
    };
    match hint {
        Some(hint) => failure(error, hint),
        None => pretrain::explained(error),
    }
}

/// The recipe of a lesson.
///
/// # Errors
/// A value cannot be.
pub(super) fn resolve(
    arguments: &Arguments,
    lesson: &Lesson,
    shape: &ModelShape,
    device: &Arc<Device>,
) -> Result<Resolved, Error> {
    let mut draft = Draft::default();
    let longest = longest(lesson);
    let most = lesson.base.config().map_or(ROOM, |config| config.context_length);
    let context = longest.max(ROOM.min(most)).next_multiple_of(16);
    let count = |n: usize| toml::Value::Integer(n as i64);
    for (key, value) in [
        ("model.n_layer", count(shape.n_layer)),
        ("model.n_head", count(shape.n_head)),
        ("model.n_kv_head", count(shape.n_kv_head)),
        ("model.head_dim", count(shape.head_dim)),
        ("model.d_model", count(shape.d_model)),
        ("model.d_ff", count(shape.d_ff)),
        ("model.vocab_size", count(shape.vocab_size)),
        ("model.tied_head", shape.tied_head.into()),
        ("model.qk_norm", shape.qk_norm.into()),
        ("model.rope_base", shape.rope_base.into()),
        ("model.norm_eps", shape.norm_eps.into()),
    ] {
        draft.derive(key, value, "as BASE has it")?;
    }
    draft.derive(
        "train.context",
        count(context),
        "the longest row, and room to pack short ones",
    )?;
    draft.derive("train.document_attention", true, "a row sees itself alone")?;
    let mut put = |key: &str, value: toml::Value, flag: &str, habit: Option<&str>| match habit {
        Some(habit) => draft.derive(key, value, habit),
        None => draft.set(key, value, flag),
    };
    let batch = Some("what --batch says where it is left out");
    let batch = batch.filter(|_| arguments.batch == again::BATCH);
    put("train.batch", count(arguments.batch as usize), "--batch", batch)?;
    let seed = Some("any; the same one gives the same run");
    let seed = seed.filter(|_| arguments.seed == again::SEED);
    put("train.seed", i64::from(arguments.seed).into(), "--seed", seed)?;
    let dtype = arguments.dtype.unwrap_or(Dtype::F32);
    let exact = Some("exact; bf16 has to be asked for").filter(|_| arguments.dtype.is_none());
    put("train.dtype", dtype.name().into(), "--dtype", exact)?;
    let (rate, epochs) = habit(lesson);
    let usual = match lesson.lora.is_some() {
        true => "usual for an adapter",
        false => "usual for all weights of a model",
    };
    let usual = Some(usual).filter(|_| arguments.lr.is_none());
    put("optimizer.lr", arguments.lr.unwrap_or(rate).into(), "--lr", usual)?;
    for (key, value) in [
        ("optimizer.name", "adamw".into()),
        ("optimizer.weight_decay", toml::Value::Float(0.0)),
        ("optimizer.final_weight_decay", 0.0.into()),
        ("optimizer.clip", 1.0.into()),
        ("optimizer.z_loss", 0.0.into()),
        ("schedule.name", "cosine".into()),
        ("schedule.warmup", 0.03.into()),
    ] {
        draft.derive(key, value, "usual for finetuning")?;
    }
    for (key, value, flag) in [
        ("save_every", arguments.save_every, "--save-every"),
        ("eval_every", arguments.eval_every, "--eval-every"),
        ("keep", arguments.keep, "--keep"),
    ] {
        if let Some(value) = value {
            draft.set(key, value, flag)?;
        }
    }
    for assignment in &arguments.assignments {
        draft.assign(assignment)?;
    }
    let paths = arguments.data.iter().map(|path| path.display().to_string().into());
    draft.set("data.path", paths.collect::<Vec<toml::Value>>(), "--data")?;
    match arguments.held_out > 0.0 {
        true => draft.set("data.held_out", arguments.held_out, "--held-out")?,
        false => draft.derive("data.held_out", 0.0, "all rows are learnt")?,
    }
    draft.derive("data.tokenizer", "bpe", "BASE's own; this key is of pretraining alone")?;
    let order = match lesson.deal.shuffle {
        true => "every row once before any comes again, in an order of its own each time",
        false => "every row once before any comes again, in the files' order",
    };
    draft.derive("data.order", "epochs", order)?;
    let epoch = lesson.train.n_group() as f64 / f64::from(arguments.batch);
    let steps = |epochs: f64| ((epochs * epoch).ceil().max(1.0)) as i64;
    match (arguments.steps, arguments.minutes, arguments.epochs) {
        (Some(steps), ..) => draft.set("train.steps", steps as i64, "--steps")?,
        (None, Some(minutes), _) => {
            let steps = steps_of(minutes, &draft, lesson, device)?;
            draft.set("train.steps", steps as i64, &format!("--minutes {minutes}"))?;
        }
        (None, None, Some(epochs)) => {
            draft.set("train.steps", steps(epochs), &format!("--epochs {epochs}"))?;
        }
        (None, None, None) => {
            draft.derive("train.steps", steps(epochs), &readings(epochs))?;
        }
    }
    draft.resolve(&Facts::default())
}

/// Why a run has its steps, where nobody said how long it is.
pub(super) fn readings(epochs: f64) -> String {
    match epochs == 1.0 {
        true => "one reading of all rows".to_string(),
        false => format!("{epochs} readings of all rows"),
    }
}

/// The learning rate and the readings of the rows where none were given.
fn habit(lesson: &Lesson) -> (f64, f64) {
    let is_scored = |preference: Preference| preference.judgement == Judgement::Scores;
    let (rate, epochs) = match (lesson.lora.is_some(), lesson.preference.is_some()) {
        (false, false) => (RATE, EPOCHS),
        (true, false) => (LORA_RATE, EPOCHS),
        // A preference is a small change of what is there already.
        (false, true) => (RATE / 10.0, 1.0),
        (true, true) => (LORA_RATE / 10.0, 1.0),
    };
    (if lesson.preference.is_some_and(is_scored) { REWARD_RATE } else { rate }, epochs)
}

/// Steps that so many minutes allow, by the speed of a few steps.
fn steps_of(
    minutes: f64,
    draft: &Draft,
    lesson: &Lesson,
    device: &Arc<Device>,
) -> Result<u64, Error> {
    let mut draft = draft.clone();
    draft.set("train.steps", 1, "a measurement")?;
    let recipe = draft.resolve(&Facts::default())?.recipe;
    let plan = LessonPlan::of(&recipe, lesson)?;
    if let Some(memory) = processors::memory() {
        plan.check(memory.available)?;
    }
    let seconds = plan.seconds(&recipe, lesson, device)?;
    let left = 60.0 * minutes - (seconds.total() - seconds.steps);
    Ok((left / seconds.steps).floor().max(1.0) as u64)
}
