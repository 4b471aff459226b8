//! `llmos convert`: a model in another format or type.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use llmos_model::convert::{Conversion, FileType, OutputVocabulary, convert};
use llmos_model::{ModelFiles, Vocabulary};
use llmos_train::run::RunFolder;

use crate::Outcome;
use crate::failure::failure;
use crate::interrupt::Unfinished;
use crate::load::{self};
use crate::processors;
use crate::terminal::{Terminal, size};
use crate::vocabulary;

/// Write a model in another format or type.
///
/// OUT is a GGUF file where it ends in .gguf, else a new Hugging Face folder. It appears whole or
/// not at all.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The model: a GGUF, a Hugging Face folder, a llama2.c .bin, or a name.
    #[arg(value_name = "IN")]
    input: String,
    /// Where to write it.
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// f32, f16, bf16, q8_0, q4_0, q4_k_m, q5_k_m or q6_k; the input's own where it can be written.
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    kind: Option<FileType>,
    /// The tokenizer to write: a llama2.c tokenizer.bin, a tokenizer.json, or another model.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<String>,
    /// Replace OUT if it exists.
    #[arg(long)]
    force: bool,
    /// Threads that quantise.
    #[arg(long, short, value_name = "N")]
    threads: Option<NonZero<usize>>,
}

/// The type of that name, with the names there are where there is none.
pub(crate) fn parse_type(text: &str) -> Result<FileType, String> {
    FileType::from_name(text).ok_or_else(|| {
        let names = FileType::ALL.map(FileType::name);
        format!("types that are written are {}", names.join(", "))
    })
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let output = &arguments.output;
    let files = load::open(&arguments.input, terminal)?;
    let to_gguf = output.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
    let in_the_way = in_the_way(output, to_gguf, arguments.force, &files)?;
    let file_type = match arguments.kind {
        Some(file_type) => file_type,
        None => own_type(&files, to_gguf),
    };
    let threads = arguments.threads.or(NonZero::new(processors::physical_cores()));
    let conversion = Conversion {
        file_type,
        vocabulary: output_vocabulary(&files, arguments.tokenizer.as_deref(), to_gguf, terminal)?,
        threads: threads.unwrap_or(NonZero::<usize>::MIN),
    };
    // What stands in the way stays until there is something to put in its place.
    let written = if in_the_way { beside(output, "new") } else { output.clone() };
    let _new = in_the_way.then(|| Unfinished::new(&written));
    // `model` writes under this name; only an interrupt finds it still there.
    let mut partial = std::ffi::OsString::from(".");
    partial.push(written.file_name().unwrap_or_default());
    partial.push(format!(".partial-{}", std::process::id()));
    let _unfinished = Unfinished::new(written.with_file_name(partial));
    let bar = terminal.byte_bar(Some(1), "writing");
    let converted = convert(&files, &written, &conversion, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    let converted = converted.map_err(load::explained)?;
    if in_the_way {
        let replaced = replace(output, &written);
        replaced.with_context(|| format!("cannot replace {}", output.display()))?;
    }
    for warning in &converted.warnings {
        terminal.warn(warning);
    }
    terminal.say(format_args!(
        "{}: {}, {} of weights, {:.1} s",
        output.display(),
        file_type.name(),
        size(converted.tensor_bytes),
        start.elapsed().as_secs_f64()
    ));
    Ok(Outcome::Success)
}

/// True if something stands at the output's path that a rename does not replace. What holds anything
/// stays unless it was said to go, and always if it is no model, a run, or the input is read from it.
fn in_the_way(
    output: &Path,
    to_gguf: bool,
    force: bool,
    files: &ModelFiles,
) -> anyhow::Result<bool> {
    let Ok(place) = output.canonicalize() else { return Ok(false) };
    let read = |path: &Path| path.canonicalize().is_ok_and(|path| path.starts_with(&place));
    if files.paths().any(read) {
        return Err(failure(
            format!("{} is the input", output.display()),
            "write to another path: a model is not changed in place",
        ));
    }
    let is_empty = match std::fs::read_dir(&place) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => place.metadata().is_ok_and(|metadata| metadata.len() == 0),
    };
    if !force && !is_empty {
        return Err(failure(
            format!("{} exists", output.display()),
            "--force replaces it; or give another path",
        ));
    }
    if RunFolder::is_begun(&place) || RunFolder::is_alive(&place) {
        return Err(failure(
            format!("{} is a run, whose checkpoints and metrics would go", output.display()),
            "--force replaces a file or a model's folder: give another path",
        ));
    }
    if place.is_dir() && !is_empty && !place.join("config.json").is_file() {
        return Err(failure(
            format!("{} is a folder without a model", output.display()),
            "--force replaces a file or a model's folder: give another path",
        ));
    }
    Ok(place.is_dir() || !to_gguf)
}

/// A hidden name beside the output, with the same ending.
fn beside(output: &Path, what: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(format!(".{what}-{}-", std::process::id()));
    name.push(output.file_name().unwrap_or_default());
    output.with_file_name(name)
}

/// Puts `new` in the place of `output`.
fn replace(output: &Path, new: &Path) -> std::io::Result<()> {
    let old = beside(output, "old");
    std::fs::rename(output, &old)?;
    if let Err(error) = std::fs::rename(new, output) {
        std::fs::rename(&old, output)?;
        return Err(error);
    }
    if old.symlink_metadata()?.is_dir() {
        std::fs::remove_dir_all(&old)
    } else {
        std::fs::remove_file(&old)
    }
}

/// The input's own type where it can be written, else half precision.
fn own_type(files: &ModelFiles, to_gguf: bool) -> FileType {
    let named = FileType::from_name(files.type_name());
    let own =
        named.or_else(|| files.majority().and_then(|dtype| FileType::from_name(dtype.name())));
    let float = |kind: &FileType| matches!(kind, FileType::F32 | FileType::F16 | FileType::BF16);
    own.filter(|kind| to_gguf || float(kind)).unwrap_or(FileType::F16)
}

/// The vocabulary in the output's format: the input's own, or the one that was given.
pub(crate) fn output_vocabulary(
    files: &ModelFiles,
    given: Option<&str>,
    to_gguf: bool,
    terminal: &Terminal,
) -> anyhow::Result<OutputVocabulary> {
    let own = files.vocabulary().map_err(load::explained)?;
    let same_format = match own {
        Vocabulary::Gguf(_) => to_gguf,
        Vocabulary::HuggingFace { .. } => !to_gguf,
        Vocabulary::SentencePiece { .. } | Vocabulary::Llama2c { .. } => false,
        Vocabulary::None => given.is_none(),
    };
    if same_format && given.is_none() {
        return Ok(OutputVocabulary::AsInput);
    }
    let tokenizer = match given {
        Some(name) if name.ends_with(".bin") => {
            let vocab_size = files.config().map_err(load::explained)?.vocab_size;
            vocabulary::of_llama2c(Path::new(name), vocab_size)?
        }
        Some(name) => vocabulary::of_name(name, terminal)?,
        None => match vocabulary::read(&own)? {
            Some(tokenizer) => tokenizer,
            None => return Ok(OutputVocabulary::AsInput),
        },
    };
    // In a file of its own it beats the tokenizer's, which the tokenizer writes itself.
    let template = match own {
        Vocabulary::HuggingFace { chat_template, .. } => chat_template,
        _ => None,
    };
    if to_gguf {
        let mut gguf = vocabulary::to_gguf(tokenizer.to_gguf());
        gguf.chat_template = template.or(gguf.chat_template);
        return Ok(OutputVocabulary::Gguf(Box::new(gguf)));
    }
    Ok(OutputVocabulary::HuggingFace {
        tokenizer_json: tokenizer.to_json(),
        tokenizer_config: Some(tokenizer.to_json_config()),
        chat_template: template,
        generation_config: Some(vocabulary::generation_config(&tokenizer)),
        bos: tokenizer.bos(),
        eos: tokenizer.eos(),
        pad: tokenizer.pad(),
    })
}
