//! What a run learns from: a prepared folder, or raw texts that are prepared on the way; for `pretrain`
//! and for `plan`.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use llmos_tensor::Device;
use llmos_train::data::{Dataset, HeldOut, MANIFEST, Place, Preparation, Source, Split};
use llmos_train::plan::{Law, RunFlops, derive, pilot, pilot_flops};
use llmos_train::recipe::{Draft, Facts, Recipe, Text};
use llmos_train::run::RunFolder;

use crate::command::data::{self, TokenizerChoice};
use crate::command::plan::explained;
use crate::failure::failure;
use crate::recipe::RecipeArguments;
use crate::terminal::{Terminal, count};
use crate::{resume, vocabulary};

/// The paths of a draft from the root, so that the run goes on from wherever llmos is started.
///
/// # Errors
/// There is none, or nothing lies there.
pub(crate) fn absolute(draft: &Draft) -> anyhow::Result<toml::Value> {
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

/// Refuses paths that are no texts, or that cannot be learnt from together.
///
/// # Errors
/// One of them is a run, or a prepared folder beside others.
pub(crate) fn check_paths(paths: &[PathBuf]) -> anyhow::Result<()> {
    for path in paths {
        let shown = path.display();
        if RunFolder::is_begun(path) {
            let command = resume::command_of(path);
            let text = match path.join(RunFolder::DATA).join(MANIFEST).is_file() {
                true => {
                    format!("; --data {shown}/{} is the text that it learnt from", RunFolder::DATA)
                }
                false => String::new(),
            };
            return Err(failure(
                format!("{shown} is a run, where texts were expected"),
                format!("`llmos {command} --resume {shown}` goes on with it{text}"),
            ));
        }
        if paths.len() > 1 && path.join(MANIFEST).is_file() {
            return Err(failure(
                format!("{shown} is prepared, and cannot be learnt from beside other texts"),
                "prepare all of them together: `llmos data prepare RAW… --out DATA`",
            ));
        }
    }
    Ok(())
}

/// Refuses keys that ask for another preparation than that of a prepared folder.
///
/// # Errors
/// The folder has another tokenizer, or holds out another share.
fn check_prepared(draft: &Draft, path: &Path, terminal: &Terminal) -> anyhow::Result<()> {
    let shown = path.display();
    let hint = "give the raw texts, or `llmos data prepare` them so; or leave the key out";
    if let Some(name) = draft.text("data.tokenizer").filter(|name| *name != "bpe") {
        let own = vocabulary::of_name(&shown.to_string(), terminal)?;
        let is_so = match name {
            "char" => {
                let ids = 0..own.vocab_size() as u32;
                let text = |id| String::from_utf8_lossy(own.token_bytes(id)).chars().count();
                ids.into_iter().all(|id| text(id) <= 1)
            }
            name => vocabulary::are_same(&own, &vocabulary::of_name(name, terminal)?),
        };
        if !is_so {
            let problem =
                format!("{shown} is prepared with a tokenizer of its own, not with {name}");
            return Err(failure(format!("data.tokenizer: {problem}"), hint));
        }
    }
    if let Some(asked) = draft.number("data.held_out").filter(|share| *share > 0.0) {
        let dataset = Dataset::open_unread(path).map_err(data::explained)?;
        let tokens = |split| dataset.n_token(split) as f64;
        let held_out = tokens(Split::Validation);
        let share = held_out / (held_out + tokens(Split::Train)).max(1.0);
        // Documents are held out whole.
        if (share / asked - 1.0).abs() > SHARE_TOLERANCE {
            let problem = format!("of {shown} {:.1} % are held out already", 100.0 * share);
            return Err(failure(format!("data.held_out: {problem}"), hint));
        }
    }
    Ok(())
}

/// A share that is held out is met up to a document.
const SHARE_TOLERANCE: f64 = 0.2;

/// The prepared folder that a draft names.
pub(crate) fn prepared(draft: &Draft) -> Option<PathBuf> {
    let paths: Vec<&Path> = draft.paths().map(Path::new).collect();
    match paths[..] {
        [path] if path.join(MANIFEST).is_file() => Some(path.to_path_buf()),
        _ => None,
    }
}

/// Opens a prepared folder, all of which is read once.
pub(crate) fn open(path: &Path, terminal: &Terminal) -> anyhow::Result<Arc<Dataset>> {
    let bar = terminal.step_bar(Some(1), "checking the text");
    let dataset = Dataset::open_with(path, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    Ok(Arc::new(dataset.map_err(data::explained)?))
}

/// Whether it is tried how hard a text is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Try {
    /// Always; where it takes longer than a run would, it does not count as the run's time.
    Always,
    /// Where it takes less than half of what the run will, or a fifth of the time that was given.
    IfSmall,
}

/// Makes a text ready: opens what is prepared, prepares what is not in the folder `into`, `most` bytes
/// of each path at most, and tries how hard it is. What is known of it stands in the facts.
///
/// # Errors
/// The text cannot be read, nothing of it is left, or its tokenizer does not fit.
pub(crate) fn ready(
    run: &RecipeArguments,
    draft: &Draft,
    into: &Path,
    most: Option<u64>,
    device: &Arc<Device>,
    start: &mut Instant,
    tried: Try,
    terminal: &Terminal,
) -> anyhow::Result<(Facts, Arc<Dataset>)> {
    let mut facts = run.facts(draft)?;
    let dataset = match prepared(draft) {
        Some(path) => {
            check_prepared(draft, &path, terminal)?;
            open(&path, terminal)?
        }
        None => {
            // The text's tokenizer has as many ids as the model that is derived first.
            let spinner = terminal.spinner("measuring some steps");
            let first = match draft.has("train.minutes") {
                true => derive(draft, &facts, device, *start),
                false => draft.resolve(&facts).map(|resolved| (resolved, facts.clone())),
            };
            spinner.finish_and_clear();
            let (resolved, measured) = first.map_err(explained)?;
            facts.speed = measured.speed;
            let threads = device.threads().count();
            let dataset = prepare(&resolved.recipe, into, most, threads, terminal)?;
            if let (Some(asked), "bpe") =
                (draft.number("model.vocab_size"), resolved.recipe.data.tokenizer.as_str())
            {
                data::warn_of_fewer(asked as usize, dataset.manifest(), terminal);
            }
            dataset
        }
    };
    let mut text = Text::from(&*dataset);
    let whole = facts.text.map_or(0, |text| text.bytes);
    if most.is_some_and(|most| whole > most) && prepared(draft).is_none() {
        // The rest is taken to be like the part.
        let per_byte = text.tokens.unwrap_or(0) as f64 / text.bytes.max(1) as f64;
        text.tokens = Some((whole as f64 * per_byte) as u64);
        (text.bytes, text.held_out_tokens) = (whole, None);
    }
    facts.text = Some(text.clone());
    let share = draft.minutes().map(|minutes| Duration::from_secs_f64(TRIAL * 60.0 * minutes));
    let is_small = match share {
        Some(_) => true,
        None => is_small(draft, &facts, &text).map_err(explained)?,
    };
    if Law::fitted().is_some() && (is_small || tried == Try::Always) {
        let clock = Instant::now();
        let most = share.filter(|_| tried == Try::IfSmall).unwrap_or(Duration::MAX);
        let spinner = terminal.spinner("trying how hard the text is");
        let pilot = pilot(&dataset, device, most);
        spinner.finish_and_clear();
        text.pilot = pilot.map_err(explained)?;
        // What a run would leave out does not count as its time.
        if !is_small || share.is_some_and(|share| clock.elapsed() > share) {
            *start += clock.elapsed();
        }
    }
    facts.text = Some(text);
    Ok((facts, dataset))
}

/// Share of a time that was given in which it may be tried how hard a text is.
const TRIAL: f64 = 0.2;

/// Whether trying a text takes less than half of what a run on it will.
fn is_small(draft: &Draft, facts: &Facts, text: &Text) -> Result<bool, llmos_train::Error> {
    let run = RunFlops::of(&draft.resolve(facts)?.recipe).model;
    Ok(2.0 * pilot_flops(text)? < run)
}

/// Ids of the smallest vocabulary of byte-level BPE that is learnt from a text.
const LEAST_VOCABULARY: usize = 258;

/// Prepares the recipe's raw texts.
fn prepare(
    recipe: &Recipe,
    into: &Path,
    most: Option<u64>,
    threads: usize,
    terminal: &Terminal,
) -> anyhow::Result<Arc<Dataset>> {
    let source = |path| Source { cap_bytes: most, ..Source::new(path) };
    let mut preparation = Preparation::new(recipe.data.path.iter().map(source).collect());
    preparation.threads = NonZero::new(threads).unwrap_or(NonZero::<usize>::MIN);
    if recipe.data.held_out > 0.0 {
        preparation.held_out = HeldOut::Share(recipe.data.held_out);
    }
    let choice = match recipe.data.tokenizer.as_str() {
        "bpe" if recipe.model.vocab_size < LEAST_VOCABULARY => {
            return Err(failure(
                format!(
                    "model.vocab_size: {} ids have no room for the 256 bytes, an end and a merge; \
                     the nearest is {LEAST_VOCABULARY}",
                    recipe.model.vocab_size
                ),
                "--set data.tokenizer=char takes an id a character",
            ));
        }
        "bpe" => TokenizerChoice::Bpe(Some(recipe.model.vocab_size)),
        "char" => TokenizerChoice::Characters(None),
        name => TokenizerChoice::Given(name.to_string()),
    };
    let place = Place::new(into, true).map_err(data::explained)?;
    let prepared = data::prepare_with(&preparation, &choice, place, terminal)?;
    let manifest = &prepared.manifest;
    terminal.say(format_args!(
        "text: {} tokens to learn from, {} held out",
        count(manifest.train.tokens),
        count(manifest.validation.tokens)
    ));
    open(into, terminal)
}
