//! What a run learns from: a prepared folder, or raw texts that are prepared on the way.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use llmos_train::data::{Dataset, HeldOut, MANIFEST, Place, Preparation, Source};
use llmos_train::recipe::{Draft, Recipe};
use llmos_train::run::RunFolder;

use crate::command::data::{self, TokenizerChoice};
use crate::failure::failure;
use crate::terminal::{Terminal, count};

/// The paths of a draft from the root, so that the run goes on from wherever llmos is started.
///
/// # Errors
/// There is none, or nothing lies there.
pub(super) fn absolute(draft: &Draft) -> anyhow::Result<toml::Value> {
    let paths: Vec<toml::Value> = draft
        .paths()
        .map(|path| {
            let full = Path::new(path).canonicalize();
            let full = full.with_context(|| format!("cannot read {path}"))?;
            Ok(full.display().to_string().into())
        })
        .collect::<anyhow::Result<_>>()?;
    if paths.is_empty() {
        return Err(failure(
            "there is nothing to learn from",
            "--data takes text files, folders of them, or what `llmos data prepare` made",
        ));
    }
    Ok(paths.into())
}

/// The prepared folder that a draft names.
pub(super) fn prepared(draft: &Draft) -> Option<PathBuf> {
    let paths: Vec<&Path> = draft.paths().map(Path::new).collect();
    match paths[..] {
        [path] if path.join(MANIFEST).is_file() => Some(path.to_path_buf()),
        _ => None,
    }
}

/// Opens a prepared folder, all of which is read once.
pub(super) fn open(path: &Path, terminal: &Terminal) -> anyhow::Result<Arc<Dataset>> {
    let bar = terminal.step_bar(Some(1), "checking the text");
    let dataset = Dataset::open_with(path, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    Ok(Arc::new(dataset.map_err(data::explained)?))
}

/// Prepares the recipe's raw texts in the run's folder.
pub(super) fn prepare(
    recipe: &Recipe,
    folder: &RunFolder,
    threads: usize,
    terminal: &Terminal,
) -> anyhow::Result<Arc<Dataset>> {
    let mut preparation = Preparation::new(recipe.data.path.iter().map(Source::new).collect());
    preparation.threads = NonZero::new(threads).unwrap_or(NonZero::<usize>::MIN);
    if recipe.data.held_out > 0.0 {
        preparation.held_out = HeldOut::Share(recipe.data.held_out);
    }
    let choice = match recipe.data.tokenizer.as_str() {
        "bpe" => TokenizerChoice::Bpe(Some(recipe.model.vocab_size)),
        "char" => TokenizerChoice::Characters(None),
        name => TokenizerChoice::Given(name.to_string()),
    };
    let place = Place::new(&folder.join(RunFolder::DATA), true).map_err(data::explained)?;
    let prepared = data::prepare_with(&preparation, &choice, place, terminal)?;
    let manifest = &prepared.manifest;
    terminal.say(format_args!(
        "text: {} tokens to learn from, {} held out",
        count(manifest.train.tokens),
        count(manifest.validation.tokens)
    ));
    open(&folder.join(RunFolder::DATA), terminal)
}
