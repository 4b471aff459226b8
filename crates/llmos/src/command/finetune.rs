//! `llmos finetune`: a model learns from conversations.

mod again;
mod judged;
mod lesson;
mod mask;
mod moved;
mod place;
mod recipe;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use llmos_tensor::{Device, Isa};
use llmos_train::journal::Row;
use llmos_train::plan::{Forecast, ForecastFile, LessonPlan, amount};
use llmos_train::preference::Judgement;
use llmos_train::recipe::{Draft, Dtype, Facts, Recipe, Resolved};
use llmos_train::run::{Ending, Lesson, Material, RewardModel, Run, RunFolder};
use serde::Serialize;

use super::pretrain::{report, train};
use crate::failure::failure;
use crate::recipe::parse_dtype;
use crate::terminal::{Terminal, number_of, quoted};
use crate::{Outcome, load, model_name, processors, vocabulary};
pub(super) use judged::{BETA, LOSS, Pairwise, REWARD};
use lesson::Order;
pub(super) use lesson::{Speech, trainable};
use llmos_train::model::Lora;
use moved::Identity;
use recipe::explained;
pub(super) use rows::read;

/// Teach a model from conversations: all of its weights learn what the assistant says, or an adapter.
///
/// Rows are messages, ShareGPT, Alpaca or prompts with completions, in JSONL or JSON, plain or
/// compressed (gzip, Zstandard), or Parquet; which of them is found out by looking, and said. Learnt is
/// what the assistant says, but for messages with `"weight": 0`; `--show-mask FILE --model BASE` shows
/// it. RUN is a run's folder like that of `pretrain`, and a model in the end.
#[derive(clap::Args, Debug)]
#[group(id = "teaching")]
pub(crate) struct Arguments {
    /// The model that is begun with: a name, a folder or a GGUF file.
    #[arg(value_name = "BASE")]
    base: Option<String>,
    /// Files of conversations.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
    /// The run's folder; runs/BASE-finetuned, -preferred or -reward where left out, with a number
    /// after it where that is taken.
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Go on with a run that was stopped, of which this command or its folder is enough.
    #[arg(long, value_name = "RUN", num_args = 0..=1)]
    resume: Option<Option<PathBuf>>,
    /// Show what is learnt of a file's first rows, and train nothing.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "resume"])]
    show_mask: Option<PathBuf>,
    /// The model whose template and tokenizer --show-mask uses.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Rows that --show-mask shows.
    #[arg(long, value_name = "N", default_value_t = 10)]
    rows: usize,
    /// The form of the rows: messages, sharegpt, alpaca, prompt-completion, preference, tagged.
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    /// A chat template in place of the model's own: a file of Jinja, or `plain` for a model that was
    /// only pretrained.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Train all weights: the default.
    #[arg(long, conflicts_with = "lora")]
    full: bool,
    /// Train small matrices beside the weights, which stay: r=16, or
    /// r=16,alpha=32,targets=q_proj+v_proj,rslora,dora. RUN is then a PEFT adapter folder. The weights
    /// stay as BASE has them, quantised or not.
    #[arg(long, value_name = "r=16", num_args = 0..=1, default_missing_value = "r=16",
        value_parser = lesson::parse_lora)]
    lora: Option<Lora>,
    /// LoRA whose rows have lengths that learn as well (DoRA); the same as --lora ...,dora.
    #[arg(long, conflicts_with = "full")]
    dora: bool,
    /// The time for the training; steps are derived from it.
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["steps", "epochs"],
        value_parser = lesson::parse_amount)]
    minutes: Option<f64>,
    /// Steps of the run.
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    steps: Option<u64>,
    /// Readings of all rows; where nothing is said 3, and 1 of judged answers.
    #[arg(long, value_name = "N", value_parser = lesson::parse_amount)]
    epochs: Option<f64>,
    /// Rows of a step.
    #[arg(long, value_name = "ROWS", default_value_t = again::BATCH, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// The learning rate at its peak.
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Seed of the rows' order.
    #[arg(long, value_name = "SEED", default_value_t = again::SEED)]
    seed: u32,
    /// What matrix products are computed in: f32, or bf16 where the CPU has it; f32 where it is left
    /// out.
    #[arg(long, value_name = "TYPE", value_parser = parse_dtype)]
    dtype: Option<Dtype>,
    /// Several rows lie in a sequence, each seeing itself alone: the default.
    #[arg(long, overrides_with = "no_pack")]
    pack: bool,
    /// Each row lies in a sequence of its own; the loss is the same.
    #[arg(long)]
    no_pack: bool,
    /// Rows come in the files' order.
    #[arg(long)]
    no_shuffle: bool,
    /// Leave out rows that cannot be learnt from, and list them, instead of refusing all.
    #[arg(long)]
    skip_bad_rows: bool,
    /// Share of the rows, the last ones, that is not learnt but measured.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, allow_negative_numbers = true)]
    held_out: f64,
    /// Steps between two checkpoints, beside the one before each evaluation; 0 for none but those and
    /// the last.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    save_every: Option<i64>,
    /// Steps between two evaluations of the rows that --held-out keeps back; 0 for one at the end
    /// alone.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    eval_every: Option<i64>,
    /// Checkpoints that are kept, the best one aside.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep: Option<i64>,
    /// Another value for a key of the recipe, such as optimizer.weight_decay=0.1; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// Threads; the physical cores where it is left out.
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The weights of a finished adapter.
const ADAPTER: &str = "adapter_model.safetensors";

/// What the order is kept as in the run's folder.
const ORDER: &str = RunFolder::ORDER;

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    teach(arguments, None, terminal)
}

/// Finetunes, on pairs where `pairwise` says how.
pub(super) fn teach(
    arguments: Arguments,
    pairwise: Option<Pairwise>,
    terminal: &Terminal,
) -> anyhow::Result<Outcome> {
    if let Some(data) = &arguments.show_mask {
        let model = arguments.model.as_ref().or(arguments.base.as_ref()).ok_or_else(|| {
            failure("--show-mask needs a model's template", "--model BASE names the model")
        })?;
        let (format, template) = (arguments.format.as_deref(), arguments.template.as_deref());
        return mask::show(data, model, format, template, arguments.rows, arguments.json, terminal);
    }
    recipe::check_assignments(&arguments.assignments)?;
    let device = device(&arguments)?;
    let command = match &pairwise {
        None => "finetune",
        Some(pairwise) if pairwise.loss == REWARD => "reward train",
        Some(_) => "prefer",
    };
    let out = place::out(&arguments, command)?;
    let is_begun = RunFolder::is_begun(&out);
    if is_begun && arguments.resume.is_none() {
        return Err(failure(
            format!("{} is a run already", out.display()),
            "--resume RUN goes on with it; --out takes another folder",
        ));
    }
    let folder = RunFolder::take(&out).map_err(explained)?;
    let begun = match is_begun {
        false => begin(&arguments, pairwise.clone(), &folder, &device, terminal),
        true => go_on(&arguments, pairwise.as_ref(), &folder, terminal),
    };
    let Begun { resolved, lesson, said } = match begun {
        Ok(begun) => begun,
        Err(error) => {
            if !is_begun {
                folder.abandon();
            }
            return Err(error);
        }
    };
    let judgement = lesson.preference.map(|preference| preference.judgement);
    let base = match &arguments.base {
        Some(base) => PathBuf::from(base),
        None => lesson.base.path().to_path_buf(),
    };
    let text = resolved.to_toml();
    terminal.say(format_args!("{}", text.trim_end()));
    let recipe = &resolved.recipe;
    let start = Instant::now();
    let said = match forecast(recipe, &lesson, &device, terminal) {
        // What was said when it began is what it is measured by.
        Ok(forecast) => said.unwrap_or(ForecastFile { forecast, outcome: None }),
        Err(error) => {
            if !is_begun {
                folder.abandon();
            }
            return Err(error);
        }
    };
    processors::forget_peak_memory();
    // Judged answers are measured by what the model is compared with.
    let spinner = terminal.spinner("getting ready");
    let run = Run::new(folder, recipe, &text, &Material::Lesson(Arc::new(lesson)), &device);
    spinner.finish_and_clear();
    let mut run = run.map_err(explained)?;
    report::write_forecast(run.folder(), &said)?;
    run.count_seconds(start.elapsed().as_secs_f64() - run.seconds_here());
    let (ending, last) = train(&mut run, recipe, terminal)?;
    report::draw(&run, terminal);
    if ending == Ending::Stopped {
        terminal.say(format_args!(
            "stopped after step {}; llmos {command} --resume {} goes on",
            run.step(),
            quoted(&out)
        ));
        return Ok(Outcome::Interrupted);
    }
    let outcome = report::conclude(&run, &said, last.as_ref(), terminal)?;
    let speaks = run.folder().join(vocabulary::TEMPLATE).is_file();
    let time = amount::duration(outcome.seconds.unwrap_or_default());
    let talk = if speaks { "chat" } else { "run" };
    let (shown, out, base) = (out.display(), quoted(&out), quoted(&base));
    match run.folder().join(ADAPTER).is_file() {
        _ if judgement == Some(Judgement::Scores) => terminal.say(format_args!(
            "{shown} is a reward model, after {time}: llmos reward score {out} --data FILE"
        )),
        false => terminal.say(format_args!("{shown} is a model, after {time}: llmos {talk} {out}")),
        true => terminal.say(format_args!(
            "{shown} is an adapter, after {time}: llmos {talk} {base} --lora {out}, or llmos merge \
             {base} {out} --out MODEL"
        )),
    }
    if arguments.json {
        terminal.json(&Report {
            run: shown.to_string(),
            steps: run.step(),
            seconds: outcome.seconds,
            peak_memory_bytes: outcome.memory_bytes,
            forecast: &said.forecast,
            last: last.as_ref(),
        })?;
    }
    Ok(Outcome::Success)
}

/// Says what the run will take.
///
/// # Errors
/// It does not fit into memory.
fn forecast(
    recipe: &Recipe,
    lesson: &Lesson,
    device: &Arc<Device>,
    terminal: &Terminal,
) -> anyhow::Result<Forecast> {
    let mut plan = LessonPlan::of(recipe, lesson).map_err(explained)?;
    let available = processors::memory().map(|memory| memory.available);
    // Rows lie in memory already, and what reading them took does not all go back to the system.
    let held = processors::held_memory().unwrap_or(0);
    plan.memory.program += held;
    if let Some(available) = available {
        plan.check(available.saturating_add(held)).map_err(|error| {
            let hint = match &lesson.lora {
                None => "--lora r=16 learns beside weights that stay as BASE has them",
                Some(_) => "shorter rows, or a BASE in fewer bits: `llmos convert --type q4_k_m`",
            };
            failure(error, hint)
        })?;
    }
    if lesson.lora.is_none() && lesson.base.tensors().any(|info| info.dtype.is_quantised()) {
        terminal
            .say("the quantised weights of BASE become single precision, and all of them learn");
    }
    let seconds = plan.seconds(recipe, lesson, device).map_err(explained)?.total();
    let memory = plan.memory.total();
    terminal.say(format_args!(
        "forecast: {} of about {:.0} tokens, {} in all; {} of {} parameters learn; {}, {} of memory",
        number_of(plan.steps as usize, "step"),
        plan.tokens_per_step,
        amount::shown(plan.tokens()),
        amount::shown(plan.learnt as f64),
        amount::shown(plan.parameters as f64),
        amount::duration(seconds),
        amount::bytes(memory as f64),
    ));
    Ok(Forecast { seconds: Some(seconds), memory_bytes: Some(memory), ..Forecast::default() })
}

/// A finished run as JSON.
#[derive(Serialize)]
struct Report<'a> {
    run: String,
    steps: u64,
    seconds: Option<f64>,
    peak_memory_bytes: Option<u64>,
    /// What was said before.
    forecast: &'a Forecast,
    /// The last step's row.
    last: Option<&'a Row>,
}

/// What learns beside the base, if that is an adapter.
fn lora(arguments: &Arguments) -> Option<Lora> {
    let lora = arguments.lora.clone();
    match arguments.dora {
        true => Some(Lora { dora: true, ..lora.unwrap_or_else(|| Lora::new(lesson::RANK)) }),
        false => lora,
    }
}

fn device(arguments: &Arguments) -> anyhow::Result<Arc<Device>> {
    let isa = Isa::detect();
    if arguments.dtype == Some(Dtype::Bf16) && !isa.has_bf16() {
        return Err(failure(
            "this CPU has no instructions for bfloat16",
            "train in f32; `llmos doctor` shows what the CPU has",
        ));
    }
    let threads = arguments.threads.map_or_else(processors::physical_cores, usize::from);
    Ok(Arc::new(Device::new(isa, threads)))
}

/// A run whose recipe is settled.
struct Begun {
    resolved: Resolved,
    lesson: Lesson,
    /// What was said of it before, if that is as long.
    said: Option<ForecastFile>,
}

/// A new run: conversations become tokens, and what was not given is derived.
fn begin(
    arguments: &Arguments,
    pairwise: Option<Pairwise>,
    folder: &RunFolder,
    device: &Arc<Device>,
    terminal: &Terminal,
) -> anyhow::Result<Begun> {
    let usage = match &pairwise {
        None => "llmos finetune BASE --data chats.jsonl",
        Some(Pairwise { loss, .. }) if loss == REWARD => {
            "llmos reward train MODEL --data pairs.jsonl"
        }
        Some(_) => "llmos prefer MODEL --data pairs.jsonl",
    };
    let base = arguments
        .base
        .as_deref()
        .ok_or_else(|| failure("there is no model to begin with", usage))?;
    if arguments.data.is_empty() {
        return Err(failure("there is nothing to learn from", usage));
    }
    let is_scored = pairwise.as_ref().is_some_and(|pairwise| pairwise.loss == REWARD);
    if is_scored && lora(arguments).is_some() {
        return Err(failure(
            "a reward model learns with all of its weights, not with an adapter",
            "leave --lora and --dora out",
        ));
    }
    if !(0.0..1.0).contains(&arguments.held_out) {
        return Err(failure(
            format!("--held-out {}", arguments.held_out),
            "a share is from 0 to below 1, such as 0.02",
        ));
    }
    let order = Order {
        base: absolute(model_name::resolve(base, terminal)?),
        data: arguments.data.iter().map(absolute).collect(),
        format: arguments.format.clone(),
        template: arguments.template.as_deref().map(template_path),
        pack: !arguments.no_pack,
        shuffle: !arguments.no_shuffle,
        held_out: arguments.held_out,
        skip_bad_rows: arguments.skip_bad_rows,
        lora: lora(arguments),
        preference: pairwise,
        identity: None,
    };
    let files = load::open_at(&order.base)?;
    let shape = trainable(&files)?.shape();
    if !is_scored && RewardModel::is_in(&files) {
        return Err(failure(
            format!("{base} is a reward model, which gives scores instead of words"),
            "begin with the model that it was made of",
        ));
    }
    let (batch, seed) = (arguments.batch as usize, u64::from(arguments.seed));
    let lesson = lesson::prepare(&order, files, batch, seed, terminal)?;
    check_measured(arguments, &lesson)?;
    let resolved = recipe::resolve(arguments, &lesson, &shape, device).map_err(explained)?;
    check_length(&resolved.recipe, &lesson)?;
    let order = Order { identity: Some(Identity::of(&lesson.base, &lesson)?), ..order };
    folder.write(ORDER, &serde_json::to_vec_pretty(&order)?).map_err(explained)?;
    Ok(Begun { resolved, lesson, said: None })
}

/// A template's file from the root; the plain one keeps its name.
fn template_path(path: &Path) -> PathBuf {
    if vocabulary::is_plain(path) { path.to_path_buf() } else { absolute(path) }
}

fn absolute(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// A run that was begun before.
fn go_on(
    arguments: &Arguments,
    pairwise: Option<&Pairwise>,
    folder: &RunFolder,
    terminal: &Terminal,
) -> anyhow::Result<Begun> {
    let order = std::fs::read(folder.join(ORDER)).ok();
    let order: Option<Order> = order.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let order = order.ok_or_else(|| {
        failure(
            format!("{} is no finetuning run", folder.path().display()),
            "its finetune.json is damaged: begin another run",
        )
    })?;
    let stored = Draft::stored(&folder.recipe()).map_err(explained)?;
    let before = stored.resolve(&Facts::default()).map_err(explained)?;
    let now = moved::now(arguments, &order, terminal)?;
    again::check(arguments, pairwise, &order, (&stored, &before.recipe))?;
    again::say_length(arguments, &before, terminal);
    let mut changed = again::changed(&stored, arguments)?;
    if now.data != order.data {
        let paths = now.data.iter().map(|path| path.display().to_string().into());
        let paths = paths.collect::<Vec<toml::Value>>();
        changed.set("data.path", paths, "--data").map_err(explained)?;
    }
    let resolved = changed.resolve(&Facts::default()).map_err(explained)?;
    let files = load::open_at(&now.base)?;
    let train = &resolved.recipe.train;
    let lesson = lesson::prepare(&now, files, train.batch, train.seed, terminal)?;
    check_length(&resolved.recipe, &lesson)?;
    check_measured(arguments, &lesson)?;
    if order.identity.is_some() {
        moved::check(&order, &now, &Identity::of(&lesson.base, &lesson)?)?;
    }
    if now != order {
        folder.write(ORDER, &serde_json::to_vec_pretty(&now)?).map_err(explained)?;
    }
    let is_as_long = before.recipe.train.steps == train.steps;
    let said = report::read_forecast(folder).filter(|_| is_as_long);
    Ok(Begun { resolved, lesson, said })
}

/// Refuses flags about rows that are only measured where there are none.
fn check_measured(arguments: &Arguments, lesson: &Lesson) -> anyhow::Result<()> {
    let flag = match arguments.eval_every {
        _ if !lesson.held_out.rows().is_empty() => return Ok(()),
        _ if arguments.held_out > 0.0 => format!("--held-out {}", arguments.held_out),
        Some(steps @ 1..) => format!("--eval-every {steps}"),
        _ => return Ok(()),
    };
    Err(failure(
        format!("{flag} measures nothing: no row is held out"),
        "--held-out 0.1 holds out the last tenth of the rows; leave both flags out to learn from all",
    ))
}

/// Refuses sequences that are shorter than a row.
fn check_length(recipe: &Recipe, lesson: &Lesson) -> anyhow::Result<()> {
    let (longest, context) = (longest(lesson), recipe.train.context);
    if longest > context {
        return Err(failure(
            format!("train.context: a row has {longest} tokens, a sequence {context}"),
            "leave the key out: sequences are as long as the longest row",
        ));
    }
    Ok(())
}

fn longest(lesson: &Lesson) -> usize {
    lesson.train.longest().max(lesson.held_out.longest())
}
