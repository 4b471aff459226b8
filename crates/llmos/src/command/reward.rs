//! `llmos reward`: a model that says how good an answer is.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use llmos_tensor::{Device, Isa};
use llmos_train::conversations::{Example, Fault, Form, Learner};
use llmos_train::run::{RewardModel, score_example};
use serde::Serialize;

use super::finetune::{self, Pairwise, REWARD, Speech, read, teach, trainable};
use super::pretrain::explained;
use crate::failure::failure;
use crate::terminal::{Terminal, number_of};
use crate::{Outcome, load, processors};

/// Train a model that scores answers, and score with it.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Learn to score answers from pairs of a better and a worse one (Bradley-Terry).
    ///
    /// Rows are those of `llmos prefer`. RUN is a run's folder like that of `finetune`, with the share
    /// of held-out pairs that are scored rightly in metrics.jsonl, and in the end a model that
    /// transformers loads as AutoModelForSequenceClassification.
    Train(Box<finetune::Arguments>),
    Score(Score),
}

/// Score answers: a number a row, more for better ones.
///
/// Of pairs both answers are scored, the better one first, and the share is said in which it has the
/// higher score.
#[derive(clap::Args, Debug)]
struct Score {
    /// A reward model's folder.
    model: String,
    /// Files of conversations or pairs.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// The form of the rows: messages, sharegpt, alpaca, prompt-completion, preference, tagged.
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    /// A chat template in place of the model's own.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Threads; the physical cores where it is left out.
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print JSON, an object a row.
    #[arg(long)]
    json: bool,
}

/// A row's scores as JSON.
#[derive(Serialize)]
#[serde(untagged)]
enum Scored {
    One { row: usize, score: f64 },
    Pair { row: usize, chosen: f64, rejected: f64 },
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    match arguments.action {
        Action::Train(teaching) => {
            let pairwise = Pairwise {
                loss: REWARD.to_string(),
                beta: 1.0,
                label_smoothing: 0.0,
                weights: [1.0; 2],
                reference: None,
            };
            teach(*teaching, Some(pairwise), terminal)
        }
        Action::Score(arguments) => score(&arguments, terminal),
    }
}

fn score(arguments: &Score, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let files = load::open(&arguments.model, terminal)?;
    if !RewardModel::is_in(&files) {
        return Err(failure(
            format!("{} is no reward model: it has no score.weight", files.path().display()),
            "`llmos reward train` makes one out of pairs of answers",
        ));
    }
    let blueprint = trainable(&files)?;
    let context = files.config().map_err(load::explained)?.context_length;
    let speech = Speech::of(&files, arguments.template.as_deref())?;
    let rows = read(&arguments.data, arguments.format.as_deref())?;
    let learner = speech.learner(context.saturating_sub(1));
    let mut examples: Vec<Vec<Example>> = Vec::with_capacity(rows.len());
    for i in 0..rows.len() {
        let of_row = rows.row(i).and_then(|(row, form)| examples_of(row, form, &learner));
        let of_row = of_row.map_err(|fault| {
            let hint = "every row is scored: mend it, or take it out of the file";
            failure(format!("{}: {fault}", rows.place(i)), hint)
        })?;
        examples.push(of_row);
    }
    let longest = examples.iter().flatten().map(|row| row.ids.len()).max().unwrap_or(1);
    let threads = arguments.threads.map_or_else(processors::physical_cores, usize::from);
    let device = Arc::new(Device::new(Isa::detect(), threads));
    let time = longest.next_multiple_of(16);
    let mut model = RewardModel::read(&files, &blueprint, time, &device).map_err(explained)?;
    let bar = terminal.step_bar(Some(examples.len() as u64), "scoring");
    let (mut pairs, mut right) = (0, 0);
    for (i, of_row) in examples.iter().enumerate() {
        let scores = model.scores(&of_row.iter().collect::<Vec<_>>());
        let row = i + 1;
        let scored = match scores[..] {
            [chosen, rejected] => {
                pairs += 1;
                right += usize::from(chosen > rejected);
                Scored::Pair { row, chosen, rejected }
            }
            _ => Scored::One { row, score: scores.first().copied().unwrap_or(f64::NAN) },
        };
        match (&scored, arguments.json) {
            (_, true) => terminal.json(&scored)?,
            (Scored::One { score, .. }, _) => terminal.print(format!("{score:.6}\n"))?,
            (Scored::Pair { chosen, rejected, .. }, _) => {
                terminal.print(format!("{chosen:.6}\t{rejected:.6}\n"))?;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if pairs > 0 {
        let share = 100.0 * right as f64 / pairs as f64;
        let pairs = number_of(pairs, "pair");
        terminal.say(format_args!("{share:.1} % of {pairs} have the better answer ahead"));
    }
    Ok(Outcome::Success)
}

/// The answers of a row: two of a pair.
fn examples_of(
    row: &serde_json::Value,
    form: Form,
    learner: &Learner<'_>,
) -> Result<Vec<Example>, Fault> {
    if form == Form::Preference {
        return Ok(learner.pair(row)?.map(score_example).to_vec());
    }
    Ok(vec![score_example(learner.example(&form.conversation(row)?)?)])
}
