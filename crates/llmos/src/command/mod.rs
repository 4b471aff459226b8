//! One file a command.

pub(crate) mod bench;
mod bench_machine;
mod bench_serve;
mod bench_train;
pub(crate) mod chat;
pub(crate) mod chats;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod data;
pub(crate) mod doctor;
pub(crate) mod dream;
pub(crate) mod eval;
pub(crate) mod finetune;
pub(crate) mod inspect;
pub(crate) mod keys;
pub(crate) mod merge;
pub(crate) mod models;
pub(crate) mod next;
pub(crate) mod plan;
pub(crate) mod prefer;
pub(crate) mod pretrain;
pub(crate) mod pull;
pub(crate) mod reward;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod score;
pub(crate) mod serve;
pub(crate) mod speedrun;
pub(crate) mod tokenize;
pub(crate) mod tokenizer;
pub(crate) mod top;
pub(crate) mod watch;

use crate::Outcome;
use crate::arguments::Command;
use crate::terminal::Terminal;

/// Runs a command, or talks with the bundled assistant where there is none.
pub(crate) fn run(command: Option<Command>, terminal: &Terminal) -> anyhow::Result<Outcome> {
    match command {
        None => chat::start(terminal),
        Some(Command::Run(arguments)) => run::run(arguments, terminal),
        Some(Command::Chat(arguments)) => chat::run(*arguments, terminal),
        Some(Command::Serve(arguments)) => serve::run(*arguments, terminal),
        Some(Command::Keys(arguments)) => keys::run(arguments, terminal),
        Some(Command::Chats(arguments)) => chats::run(arguments, terminal),
        Some(Command::Next(arguments)) => next::run(arguments, terminal),
        Some(Command::Dream(arguments)) => dream::run(arguments, terminal),
        Some(Command::Score(arguments)) => score::run(arguments, terminal),
        Some(Command::Tokenize(arguments)) => tokenize::run(arguments, terminal),
        Some(Command::Tokenizer(arguments)) => tokenizer::run(arguments, terminal),
        Some(Command::Data(arguments)) => data::run(arguments, terminal),
        Some(Command::Inspect(arguments)) => inspect::run(arguments, terminal),
        Some(Command::Convert(arguments)) => convert::run(arguments, terminal),
        Some(Command::Plan(arguments)) => plan::run(arguments, terminal),
        Some(Command::Pretrain(arguments)) => pretrain::run(*arguments, terminal),
        Some(Command::Finetune(arguments)) => finetune::run(*arguments, terminal),
        Some(Command::Prefer(arguments)) => prefer::run(*arguments, terminal),
        Some(Command::Reward(arguments)) => reward::run(arguments, terminal),
        Some(Command::Eval(arguments)) => eval::run(arguments, terminal),
        Some(Command::Merge(arguments)) => merge::run(arguments, terminal),
        Some(Command::Speedrun(arguments)) => speedrun::run(&arguments, terminal),
        Some(Command::Top(arguments)) => top::run(arguments, terminal),
        Some(Command::Watch(arguments)) => watch::run(arguments, terminal),
        Some(Command::Pull(arguments)) => pull::run(arguments, terminal),
        Some(Command::Models(arguments)) => models::run(arguments, terminal),
        Some(Command::Rm(arguments)) => rm::run(arguments, terminal),
        Some(Command::Bench(arguments)) => bench::run(arguments, terminal),
        Some(Command::Doctor(arguments)) => doctor::run(arguments, terminal),
        Some(Command::Completions(arguments)) => completions::run(arguments, terminal),
    }
}
