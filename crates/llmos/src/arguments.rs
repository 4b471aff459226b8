//! What can be typed: the doc comments are the help.

use clap::{Args, Parser, Subcommand};

use crate::command::{
    bench, chat, chats, completions, convert, data, doctor, dream, eval, finetune, inspect, keys,
    merge, models, next, plan, prefer, pretrain, pull, reward, rm, run, score, serve, speedrun,
    tokenize, tokenizer, top, watch,
};

/// The whole life of a language model in one program.
///
/// Without a command the bundled assistant talks with you. MODEL is a path (a .gguf file, a Hugging
/// Face folder, a llama2.c .bin) or the name of a model that was pulled.
#[derive(Parser, Debug)]
#[command(name = "llmos", version, max_term_width = 100, after_help = SETTINGS)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) talk: Talk,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const SETTINGS: &str = "Settings: a flag such as --top-p can also be given as LLMOS_TOP_P, or as \
    `top-p = 0.9` in llmos.toml, in this folder or in ~/.config/llmos. LLMOS_HOME is where models \
    are kept; HF_ENDPOINT and HF_TOKEN are honoured by `pull`.\n\
    Exit codes: 0 success, 1 a negative result, 2 an error, 130 interrupted.";

/// How much is said on stderr.
#[derive(Args, Debug)]
pub(crate) struct Talk {
    /// Say nothing but errors.
    #[arg(long, short, global = true, conflicts_with = "verbose", display_order = 900)]
    pub(crate) quiet: bool,
    /// Say what is chosen and why: settings, kernels, memory.
    #[arg(long, short, global = true, display_order = 901)]
    pub(crate) verbose: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Run(run::Arguments),
    Chat(Box<chat::Arguments>),
    Serve(Box<serve::Arguments>),
    Keys(keys::Arguments),
    Chats(chats::Arguments),
    Top(top::Arguments),
    Next(next::Arguments),
    Dream(dream::Arguments),
    Score(score::Arguments),
    Tokenize(tokenize::Arguments),
    Tokenizer(tokenizer::Arguments),
    Data(data::Arguments),
    Plan(plan::Arguments),
    Pretrain(Box<pretrain::Arguments>),
    Finetune(Box<finetune::Arguments>),
    Prefer(Box<prefer::Arguments>),
    Reward(reward::Arguments),
    Merge(merge::Arguments),
    Eval(eval::Arguments),
    Speedrun(speedrun::Arguments),
    Watch(watch::Arguments),
    Inspect(inspect::Arguments),
    Convert(convert::Arguments),
    Pull(pull::Arguments),
    Models(models::Arguments),
    Rm(rm::Arguments),
    Bench(bench::Arguments),
    Doctor(doctor::Arguments),
    Completions(completions::Arguments),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_declaration_is_consistent() {
        Arguments::command().debug_assert();
    }
}
