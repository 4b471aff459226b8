//! Settings in layers: flags beat `LLMOS_*`, which beat `llmos.toml`, which beats the defaults.
//!
//! Every flag that is a matter of taste has a variable, `LLMOS_TOP_P` for `--top-p`, and a key in
//! `llmos.toml`, `top-p`, at the top for all commands or in the section of one: `[run]`.

use std::path::Path;

use anyhow::Context;
use clap::builder::FalseyValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Id, ValueHint};
use toml::{Table, Value};

use crate::failure::{Explain, failure};
use crate::places;

/// Flags that say what one call is about: they have neither variable nor key.
const PER_CALL: [&str; 60] = [
    "again",
    "all",
    "char",
    "count",
    "data",
    "days",
    "decode",
    "decontaminate",
    "dollars",
    "each",
    "echo",
    "end",
    "field",
    "file",
    "force",
    "gpu",
    "gpus",
    "help",
    "histogram",
    "ids",
    "json",
    "json-schema",
    "lark",
    "lens",
    "licence",
    "like",
    "messages",
    "metadata",
    "mfu",
    "minutes",
    "mix",
    "off",
    "once",
    "out",
    "owner",
    "params",
    "prompt",
    "random",
    "regex",
    "requests-per-minute",
    "resume",
    "scope",
    "set",
    "shape",
    "show-mask",
    "special",
    "steps",
    "stepwise",
    "tensors",
    "text",
    "token",
    "tokenizer",
    "tokens-per-day",
    "tokens-per-minute",
    "toml",
    "url",
    "validation",
    "verbatim",
    "version",
    "words",
];

/// Commands whose values are a run's: they stand in its recipe, and beside it nothing else does.
const TRAINING: [&str; 5] = ["plan", "pretrain", "finetune", "prefer", "reward"];

/// Commands that have a store: their `--data` is where it is, and a matter of taste; that of others
/// is what a run learns from.
const STORING: [&str; 3] = ["serve", "keys", "chats"];

/// Flags of [`TRAINING`] that mean something else than they do in other commands, or decide what a
/// run computes.
const PER_RUN: [&str; 10] =
    ["batch", "dora", "dtype", "epochs", "full", "lora", "model", "seed", "template", "tokens"];

/// The command with variables and settings files behind its flags.
///
/// # Errors
/// A settings file that cannot be read, or that sets what no command has.
pub(crate) fn apply(command: Command) -> anyhow::Result<Command> {
    let mut layers = Vec::new();
    for path in places::settings_files() {
        if let Some(table) = read(&path)? {
            check(&command, &table).with_context(|| path.display().to_string())?;
            layers.push(table);
        }
    }
    let given = command.clone().ignore_errors(true).try_get_matches().ok();
    Ok(with_layers(command, &layers, given.as_ref()))
}

/// `layers` are parsed settings files, the strongest first; `given` is what stands on the command
/// line.
fn with_layers(command: Command, layers: &[Table], given: Option<&ArgMatches>) -> Command {
    let beaten = beaten(&command, given);
    let top = command.mut_args(|arg| layered(arg, None, &beaten, layers));
    top.mut_subcommands(|sub| {
        let name = sub.get_name().to_string();
        let given = within(given, &name);
        let beaten = self::beaten(&sub, given);
        let sub = sub.mut_args(|arg| layered(arg, Some(&name), &beaten, layers));
        // `bench machine`
        sub.mut_subcommands(|inner| {
            let beaten = self::beaten(&inner, within(given, inner.get_name()));
            inner.mut_args(|arg| layered(arg, Some(&name), &beaten, layers))
        })
    })
}

/// What is given of the subcommand of that name.
fn within<'a>(given: Option<&'a ArgMatches>, name: &str) -> Option<&'a ArgMatches> {
    given?.subcommand().filter(|(found, _)| *found == name).map(|(_, matches)| matches)
}

/// Arguments that do not go together with what is given on the command line, and so take nothing
/// from elsewhere.
fn beaten(command: &Command, given: Option<&ArgMatches>) -> Vec<Id> {
    let is_given = |arg: &&Arg| {
        let id = arg.get_id().as_str();
        let has = |matches: &ArgMatches| {
            matches.ids().any(|other| other == id)
                && matches.value_source(id) == Some(ValueSource::CommandLine)
        };
        given.is_some_and(has)
    };
    let mut beaten = Vec::new();
    for arg in command.get_arguments() {
        for other in command.get_arg_conflicts_with(arg) {
            // Who declares that two do not go together makes no difference.
            match (is_given(&arg), is_given(&other)) {
                (true, false) => beaten.push(other.get_id().clone()),
                (false, true) => beaten.push(arg.get_id().clone()),
                _ => {}
            }
        }
    }
    beaten
}

fn layered(arg: Arg, command: Option<&str>, beaten: &[Id], layers: &[Table]) -> Arg {
    let Some(long) = configurable(command, &arg).filter(|_| !beaten.contains(arg.get_id())) else {
        return arg;
    };
    let variable = format!("LLMOS_{}", long.to_uppercase().replace('-', "_"));
    let value = layers.iter().find_map(|table| {
        let section = command.and_then(|name| table.get(name)?.as_table());
        section.and_then(|section| lookup(section, &long)).or_else(|| lookup(table, &long))
    });
    let mut arg = arg.env(variable).hide_env(true);
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        // `LLMOS_QUIET=1` as well as `=true`.
        arg = arg.value_parser(FalseyValueParser::new());
    }
    match value {
        Some(Value::Array(items)) => {
            arg.default_values(items.iter().map(plain).collect::<Vec<_>>())
        }
        Some(value) => arg.default_value(plain(value)),
        None => arg,
    }
}

/// The long name of a flag that settings may set: not one that is declared to name a file.
fn configurable(command: Option<&str>, arg: &Arg) -> Option<String> {
    let is_run_s = |long: &str| {
        command.is_some_and(|name| TRAINING.contains(&name)) && PER_RUN.contains(&long)
    };
    if arg.get_value_hint() == ValueHint::FilePath || arg.get_long().is_some_and(is_run_s) {
        return None;
    }
    let is_store_s =
        |long: &str| long == "data" && command.is_some_and(|name| STORING.contains(&name));
    let long = arg.get_long().filter(|long| !PER_CALL.contains(long) || is_store_s(long))?;
    Some(long.to_string())
}

/// Keys may be written with `-` or `_`.
fn lookup<'a>(table: &'a Table, long: &str) -> Option<&'a Value> {
    table.get(long).or_else(|| table.get(&long.replace('-', "_"))).filter(|value| !value.is_table())
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(time) => time.to_string(),
        // A flag that takes no list says what is wrong with this.
        Value::Array(_) | Value::Table(_) => format!("{value:?}"),
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Table>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let table = text.parse::<Table>().explain(
        || format!("{} is not TOML", path.display()),
        || "write lines such as `threads = 2`, and sections such as [run]".into(),
    )?;
    Ok(Some(table))
}

/// Every key must belong to a flag, so that a misspelt one is not passed over.
fn check(command: &Command, table: &Table) -> anyhow::Result<()> {
    let flags = |name: Option<&str>, command: &Command| -> Vec<String> {
        command.get_arguments().filter_map(|arg| configurable(name, arg)).collect()
    };
    let with_inner = |sub: &Command| -> Vec<String> {
        let name = Some(sub.get_name());
        let inner = sub.get_subcommands().flat_map(|inner| flags(name, inner));
        flags(name, sub).into_iter().chain(inner).collect()
    };
    let mut everywhere = flags(None, command);
    everywhere.extend(command.get_subcommands().flat_map(with_inner));
    let known = |names: &[String], key: &str| names.contains(&key.replace('_', "-"));
    for (key, value) in table {
        if let (Some(section), Some(sub)) = (value.as_table(), command.find_subcommand(key)) {
            let mut names = with_inner(sub);
            names.extend(flags(None, command));
            if let Some(key) = section.keys().find(|key| !known(&names, key)) {
                return Err(unknown(&format!("[{}] {key}", sub.get_name()), names));
            }
        } else if value.is_table() || !known(&everywhere, key) {
            return Err(unknown(key, everywhere));
        }
    }
    Ok(())
}

fn unknown(key: &str, mut names: Vec<String>) -> anyhow::Error {
    names.sort();
    names.dedup();
    failure(format!("{key} is not a setting"), format!("there are {}", names.join(", ")))
}

/// A line for each value that `command` goes by, with where it comes from.
pub(crate) fn resolved(command: &Command, matches: &ArgMatches) -> Vec<String> {
    let mut lines = Vec::new();
    let mut level = Some((command, matches));
    while let Some((command, matches)) = level {
        // Neither groups, nor what was said of the whole program before.
        let is_own = |id: &&Id| command.get_arguments().any(|arg| arg.get_id() == *id);
        for id in matches.ids().filter(is_own) {
            let source = match matches.value_source(id.as_str()) {
                Some(ValueSource::CommandLine) => "flag",
                Some(ValueSource::EnvVariable) => "environment",
                Some(ValueSource::DefaultValue) => "default or llmos.toml",
                _ => continue,
            };
            let Ok(Some(values)) = matches.try_get_raw(id.as_str()) else { continue };
            // A key is nobody's business, whoever looks over the shoulder, and a URL may hold a password.
            let shown = |value: &std::ffi::OsStr| match id.as_str() {
                "key" => "…".to_string(),
                "database" => "postgres://…".to_string(),
                _ => value.to_string_lossy().into_owned(),
            };
            let values = values.map(shown).collect::<Vec<String>>().join(" ");
            let values =
                if values.contains(char::is_control) { format!("{values:?}") } else { values };
            lines.push(format!("{id} = {values} ({source})"));
        }
        let inner = matches.subcommand();
        level = inner.and_then(|(name, inner)| Some((command.find_subcommand(name)?, inner)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Command {
        let threads = || Arg::new("threads").long("threads").default_value("1");
        Command::new("llmos")
            .arg(Arg::new("quiet").long("quiet").action(ArgAction::SetTrue))
            .subcommand(Command::new("run").arg(threads()).arg(Arg::new("top_p").long("top-p")))
            .subcommand(Command::new("score").arg(threads()))
    }

    #[test]
    fn files_change_defaults_and_flags_beat_them() {
        let own: Table = "threads = 3\n[run]\nthreads = 4\ntop_p = 0.5".parse().unwrap();
        let person: Table = "threads = 8\nquiet = true".parse().unwrap();
        let check = |words: &[&str], key: &str, expected: &str| {
            let command = with_layers(sample(), &[own.clone(), person.clone()], None);
            let matches = command.get_matches_from([&["llmos"], words].concat());
            assert!(matches.get_flag("quiet"));
            let (_, matches) = matches.subcommand().unwrap();
            assert_eq!(matches.get_one::<String>(key).unwrap(), expected, "{words:?}");
        };
        check(&["run"], "threads", "4");
        check(&["run"], "top_p", "0.5");
        check(&["score"], "threads", "3");
        check(&["run", "--threads", "6"], "threads", "6");
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        for (text, sound) in [
            ("threads = 1", true),
            ("thread = 1", false),
            ("[run]\ntop-p = 1", true),
            ("[run]\ntop_k = 1", false),
            ("[ru]\nthreads = 1", false),
        ] {
            assert_eq!(check(&sample(), &text.parse().unwrap()).is_ok(), sound, "{text}");
        }
    }
    #[test]
    fn a_flag_beats_what_does_not_go_together_with_it() {
        let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
        let sample = || {
            let chat =
                Command::new("chat").args([flag("tools"), flag("bare").conflicts_with("tools")]);
            Command::new("llmos").subcommand(chat)
        };
        let layer: Table = "bare = true".parse().unwrap();
        let check = |words: &[&str], [tools, bare]: [bool; 2]| {
            let words = [&["llmos", "chat"], words].concat();
            let given = sample().get_matches_from(&words);
            let command = with_layers(sample(), std::slice::from_ref(&layer), Some(&given));
            let matches = command.get_matches_from(&words);
            let (_, matches) = matches.subcommand().unwrap();
            assert_eq!([matches.get_flag("tools"), matches.get_flag("bare")], [tools, bare]);
        };
        check(&[], [false, true]);
        check(&["--tools"], [true, false]);
    }

    #[test]
    fn a_run_s_values_are_no_settings() {
        // `batch` is rows of a step there, and tokens at once elsewhere.
        for flag in ["tokens", "batch", "dtype"] {
            let sample = || {
                let flag = || Arg::new(flag).long(flag);
                let commands = ["run", "finetune"].map(|name| Command::new(name).arg(flag()));
                Command::new("llmos").subcommands(commands)
            };
            let layer: Table = format!("{flag} = 640").parse().unwrap();
            for (name, expected) in [("run", Some("640")), ("finetune", None)] {
                let matches = with_layers(sample(), std::slice::from_ref(&layer), None)
                    .get_matches_from(["llmos", name]);
                let (_, matches) = matches.subcommand().unwrap();
                assert_eq!(matches.get_one::<String>(flag).map(String::as_str), expected);
            }
            let section = format!("[finetune]\n{flag} = 3").parse().unwrap();
            assert!(check(&sample(), &section).is_err());
        }
    }
}
