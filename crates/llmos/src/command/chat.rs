//! `llmos chat`: talk with a model, answer one question, or a file of them.

mod batch;
mod commands;
mod conversation;
mod demo;
mod editor;
mod rows;
mod saved;
mod session;
mod show;

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum, ValueHint};
use llmos_agent::Ending;

use crate::Outcome;
use crate::adapters::{self, Named};
use crate::failure::failure;
use crate::generation;
use crate::load::{Adapting, Compute, Memory};
use crate::sampling::Sampling;
use crate::terminal::Terminal;
pub(super) use demo::run as start;
pub(super) use rows::origin_of;

/// Talk with a model.
///
/// In a terminal it is a chat: /help lists what can be done beside talking, Ctrl-C stops an answer,
/// Ctrl-D ends. With -p or with text on standard input it is one question, whose answer alone is
/// written to standard output. With --batch it answers a file of conversations.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A model: a path or a name; the bundled assistant where it is left out.
    model: Option<String>,
    /// Answer this and end.
    #[arg(long, short, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Print the answer to -p as one JSON object, tool calls and figures included.
    #[arg(long)]
    json: bool,
    /// Answer each row of this JSONL file: {"messages": [...]} or {"prompt": TEXT}.
    #[arg(
        long,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        requires = "out",
        conflicts_with_all = ["prompt", "json"]
    )]
    batch: Option<PathBuf>,
    /// Where --batch writes its rows, each with "answer", "messages" and "tool_calls" added; what is
    /// there already is gone on with.
    #[arg(long, value_name = "FILE", requires = "batch")]
    out: Option<PathBuf>,
    /// Begin the file of --out anew.
    #[arg(long, requires = "batch")]
    force: bool,
    /// Answer the last question of each row again where what it was answered stands after it.
    #[arg(long, requires = "batch")]
    again: bool,
    /// Rows of --batch that are answered at once.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,
    /// An adapter beside the model, for rows of --batch with "adapter": NAME. May be given several
    /// times.
    #[arg(
        long = "adapter",
        value_name = "NAME=FOLDER",
        value_parser = adapters::parse,
        requires = "batch"
    )]
    adapters: Vec<Named>,
    #[command(flatten)]
    manner: Manner,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    adapting: Adapting,
    #[command(flatten)]
    memory: Memory,
    #[command(flatten)]
    compute: Compute,
}

/// How the model is spoken to.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Conversation")]
pub(super) struct Manner {
    /// What the model is told first.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Whether it thinks before it answers, where its template can say so.
    #[arg(long, value_name = "WHETHER")]
    think: Option<Think>,
    /// Most new tokens of an answer; as many as fit the context where it is left out.
    #[arg(long = "tokens", short = 'n', alias = "n-predict", value_name = "N")]
    tokens: Option<usize>,
    /// Tools that it may call: calculator, clock; both where it is left out.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    tools: Vec<ToolName>,
    /// It may call none.
    #[arg(long, conflicts_with = "tools")]
    no_tools: bool,
    /// A chat template in place of the model's own: a file of Jinja, or `plain`.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Think {
    /// It does.
    On,
    /// It answers at once.
    Off,
}

/// A built-in tool.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToolName {
    /// Arithmetic.
    Calculator,
    /// The local time.
    Clock,
}

/// Answers a file of conversations with their likeliest answers, as `--batch` does with these flags
/// besides; what `out` holds already is gone on with.
///
/// # Errors
/// As `llmos chat --batch`.
pub(super) fn answer_file(
    model: &str,
    rows: &Path,
    out: &Path,
    flags: &[String],
    terminal: &Terminal,
) -> anyhow::Result<Outcome> {
    /// The flags alone, with their defaults.
    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        arguments: Arguments,
    }
    let (rows_flag, out_flag) = (rows.as_os_str(), out.as_os_str());
    let own = ["chat", model, "--temp", "0", "--batch"].map(OsStr::new);
    let words = own.into_iter().chain([rows_flag, OsStr::new("--out"), out_flag]);
    let words = words.chain(flags.iter().map(OsStr::new));
    let Flags { arguments } = Flags::try_parse_from(words)?;
    batch::run(&arguments, rows, out, terminal)
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    if let (Some(batch), Some(out)) = (&arguments.batch, &arguments.out) {
        return batch::run(&arguments, batch, out, terminal);
    }
    let question = match &arguments.prompt {
        Some(text) => Some(text.clone()),
        None if std::io::stdin().is_terminal() => None,
        None => Some(String::from_utf8_lossy(&generation::stdin()?).into_owned()),
    };
    let Some(question) = question else {
        if arguments.json {
            return Err(failure("--json answers one question", "give it with -p TEXT"));
        }
        let chat = conversation::Chat::open(&arguments, terminal)?;
        return session::run(chat, terminal);
    };
    if question.trim().is_empty() {
        return Err(failure(
            "there is no question",
            "give one with -p TEXT or on standard input; in a terminal `llmos chat` alone is a chat",
        ));
    }
    let mut chat = conversation::Chat::open(&arguments, terminal)?;
    chat.ask(question.trim_end());
    if arguments.json {
        let json = chat.answer_json()?;
        terminal.json(&json)?;
    } else {
        let said = chat.answer(terminal)?;
        terminal.say(said.line(&chat));
        if said.answer.ending == Ending::Stopped {
            return Ok(Outcome::Interrupted);
        }
    }
    Ok(Outcome::Success)
}
