//! A run that goes on: what is asked for again must be what it is.

use llmos_train::recipe::{Draft, Facts, Recipe, Resolved};

use super::lesson::{Order, lora_text};
use super::moved::refuse;
use super::recipe::readings;
use super::{Arguments, Pairwise, lora};
use crate::failure::failure;
use crate::terminal::Terminal;

/// Flags' defaults, which nobody need have meant.
pub(super) const BATCH: u32 = 16;
pub(super) const SEED: u32 = 1;

/// The key of a run's length.
const STEPS: &str = "train.steps";

/// The run's recipe with what may change of it: its length, and how often it saves and evaluates.
///
/// # Errors
/// A value cannot be.
pub(super) fn changed(stored: &Draft, arguments: &Arguments) -> anyhow::Result<Draft> {
    let mut draft = stored.clone();
    let steps = arguments.steps.map(|steps| steps as i64);
    for (key, value, flag) in [
        (STEPS, steps, "--steps"),
        ("save_every", arguments.save_every, "--save-every"),
        ("eval_every", arguments.eval_every, "--eval-every"),
        ("keep", arguments.keep, "--keep"),
    ] {
        if let Some(value) = value {
            draft.set(key, value, flag).map_err(super::explained)?;
        }
    }
    Ok(draft)
}

/// Says that the run keeps its steps where a time or readings are asked for that they were not derived
/// from. The same command again asks for the same ones.
pub(super) fn say_length(arguments: &Arguments, before: &Resolved, terminal: &Terminal) {
    let (asked, is_usual) = match (arguments.minutes, arguments.epochs) {
        (Some(minutes), _) => (format!("--minutes {minutes}"), false),
        (None, Some(epochs)) => {
            (format!("--epochs {epochs}"), before.reason(STEPS) == readings(epochs))
        }
        (None, None) => return,
    };
    if !is_usual && before.reason(STEPS) != format!("given: {asked}") {
        terminal.warn(format_args!(
            "the run goes on to its {} steps, whatever {asked}; --steps N changes them",
            before.recipe.train.steps
        ));
    }
}

/// Refuses flags that ask for another run than this one, of the same command.
///
/// # Errors
/// The first of them, with what the run has.
pub(super) fn check(
    arguments: &Arguments,
    pairwise: Option<&Pairwise>,
    order: &Order,
    stored: (&Draft, &Recipe),
) -> anyhow::Result<()> {
    let (draft, recipe) = stored;
    if arguments.format.is_some() && arguments.format != order.format {
        let is = match &order.format {
            Some(form) => format!("rows of the form {form}"),
            None => "rows whose form was found out by looking".to_string(),
        };
        return refuse("--format", is);
    }
    let asked = lora(arguments);
    if asked.is_some() && asked != order.lora {
        let is = match &order.lora {
            Some(lora) => format!("the adapter {}", lora_text(lora)),
            None => "no adapter".to_string(),
        };
        return refuse(if arguments.lora.is_some() { "--lora" } else { "--dora" }, is);
    }
    for (flag, is_given, is_so, is) in [
        ("--full", arguments.full, order.lora.is_none(), "an adapter"),
        ("--pack", arguments.pack, order.pack, "rows each by itself"),
        ("--no-pack", arguments.no_pack, !order.pack, "packed rows"),
        ("--no-shuffle", arguments.no_shuffle, !order.shuffle, "shuffled rows"),
        ("--skip-bad-rows", arguments.skip_bad_rows, order.skip_bad_rows, "no row left out"),
    ] {
        if is_given && !is_so {
            return refuse(flag, is.to_string());
        }
    }
    let (train, optimizer) = (&recipe.train, &recipe.optimizer);
    if arguments.held_out > 0.0 && arguments.held_out != order.held_out {
        return refuse("--held-out", format!("held out {}", order.held_out));
    }
    if arguments.batch != BATCH && arguments.batch as usize != train.batch {
        return refuse("--batch", format!("a batch of {}", train.batch));
    }
    if arguments.seed != SEED && u64::from(arguments.seed) != train.seed {
        return refuse("--seed", format!("the seed {}", train.seed));
    }
    if arguments.lr.is_some_and(|rate| rate != optimizer.lr) {
        return refuse("--lr", format!("a rate of {}", optimizer.lr));
    }
    if arguments.dtype.is_some_and(|dtype| dtype != train.dtype) {
        return refuse("--dtype", train.dtype.name().to_string());
    }
    if let (Some(asked), Some(has)) = (pairwise, &order.preference)
        && asked.differs(has)
    {
        let is = format!("the loss {} with beta {}", has.loss, has.beta);
        return refuse("another loss, beta, weight or reference", is);
    }
    let mut given = Draft::default();
    for assignment in &arguments.assignments {
        given.assign(assignment).map_err(super::explained)?;
    }
    let given = given.over(draft).resolve(&Facts::default()).map_err(super::explained)?;
    recipe
        .goes_on_as(&given.recipe)
        .map_err(|error| failure(error, "leave the flag out to go on; --out begins another run"))
}
