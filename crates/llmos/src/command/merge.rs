//! `llmos merge`: an adapter becomes part of its model.

use std::path::PathBuf;
use std::sync::Arc;

use llmos_tensor::{Device, Isa};
use llmos_train::adapter;
use llmos_train::run::RewardModel;

use super::finetune::trainable;
use crate::failure::{failure, is_full};
use crate::terminal::{Terminal, quoted};
use crate::{Outcome, load, processors, vocabulary};

/// Make an adapter part of its model, which then runs without it.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The model that the adapter was trained beside.
    #[arg(value_name = "BASE")]
    base: String,
    /// A PEFT adapter folder, such as a run of `finetune --lora`.
    #[arg(value_name = "ADAPTER")]
    adapter: PathBuf,
    /// The folder of the merged model, in single precision; `convert` makes a smaller file of it.
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let Arguments { base, adapter, out } = &arguments;
    if !adapter::is_adapter(adapter) {
        return Err(failure(
            format!("{} is no adapter", adapter.display()),
            "an adapter is a folder with adapter_config.json and adapter_model.safetensors",
        ));
    }
    let files = load::open(base, terminal)?;
    trainable(&files)?;
    if RewardModel::is_in(&files) {
        return Err(failure(
            format!("{base} is a reward model, which no adapter belongs to"),
            "merge with the model that the adapter was trained beside",
        ));
    }
    let mut words = vocabulary::whole(&files)?.ok_or_else(|| {
        failure(format!("{base} has no vocabulary"), "merge beside the model's whole folder")
    })?;
    // How the adapter was taught to be spoken to is how the merged model is.
    for name in [vocabulary::TEMPLATE, vocabulary::GENERATION] {
        if let Ok(bytes) = std::fs::read(adapter.join(name)) {
            words.files.retain(|(of, _)| of != name);
            words.files.push((name.into(), bytes));
        }
    }
    let device = Arc::new(Device::new(Isa::detect(), processors::physical_cores()));
    let spinner = terminal.spinner("merging");
    let merged = adapter::merge(&files, adapter, &words.tokenizer, &words.files, &device, out);
    spinner.finish_and_clear();
    merged.map_err(|error| {
        let hint = match &error {
            llmos_train::Error::Io { source, .. } if is_full(source) => {
                "the disk is full, or a limit on files is reached: make room (`llmos rm`) or write \
                 elsewhere"
            }
            llmos_train::Error::Format { .. } => {
                "BASE is the model that the adapter was trained beside"
            }
            llmos_train::Error::Setting { .. } => "--out names a new folder",
            _ => "check the path, and who may write there",
        };
        failure(error, hint)
    })?;
    let speaks = words.files.iter().any(|(name, _)| name == vocabulary::TEMPLATE);
    let talk = if speaks { "chat" } else { "run" };
    terminal.say(format_args!("{} is a model: llmos {talk} {}", out.display(), quoted(out)));
    Ok(Outcome::Success)
}
