//! `llmos run`: a text goes on.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use llmos_model::Model;
use llmos_model::engine::{Drafter, GenerateOptions, ModelDrafter, NgramDrafter, SequenceOptions};

use crate::Outcome;
use crate::failure::failure;
use crate::generation;
use crate::load::{self, Adapting, Cache, Compute, Loaded};
use crate::sampling::{GrammarFlags, Sampling};
use crate::terminal::Terminal;

/// Go on with a text.
///
/// Only the generated text is written to standard output. Without -p and -f the prompt is read from
/// standard input.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A model: a path or a name.
    model: String,
    /// The text to go on with.
    #[arg(long, short, value_name = "TEXT", conflicts_with = "file", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// A file with the text to go on with; - is standard input.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Most new tokens; as many as fit the context where it is left out.
    #[arg(long = "tokens", short = 'n', alias = "n-predict", value_name = "N")]
    tokens: Option<usize>,
    /// Write the prompt too.
    #[arg(long)]
    echo: bool,
    /// Go on after end tokens.
    #[arg(long)]
    ignore_end: bool,
    /// A smaller model of the same vocabulary that guesses ahead; the text stays the same.
    #[arg(long, value_name = "MODEL", conflicts_with = "lookup")]
    draft: Option<String>,
    /// Guess ahead from what was said before; the text stays the same.
    #[arg(long)]
    lookup: bool,
    /// Most guesses at once.
    #[arg(long, value_name = "N", default_value_t = 8)]
    draft_tokens: usize,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    grammar: GrammarFlags,
    #[command(flatten)]
    adapting: Adapting,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    compute: Compute,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let prompt = generation::input(arguments.prompt.as_deref(), arguments.file.as_deref())?
        .ok_or_else(|| {
            failure("there is no prompt", "give one with -p TEXT, -f FILE or on standard input")
        })?;
    // The likeliest text is one text, which other programs give too.
    let compute = match arguments.sampling.is_greedy() {
        true => arguments.compute.exact_by_default(),
        false => arguments.compute.clone(),
    };
    let mut loaded = load::load(&arguments.model, &compute, arguments.cache.options(), terminal)?;
    arguments.adapting.give(&mut loaded.engine, &loaded.device)?;
    let mut grammar = arguments.grammar.grammar(&loaded)?;
    let tokenizer = loaded.tokenizer()?.clone();
    let mut tokens = tokenizer.encode_prompt(&prompt);
    if tokens.is_empty() {
        tokens = load::start_tokens(&tokenizer);
    }
    if tokens.is_empty() {
        return Err(failure("the prompt has no token", "give some text with -p"));
    }
    let id = loaded.engine.add(&tokens, SequenceOptions::default()).map_err(load::explained)?;
    let mut drafter = drafter(&arguments, &loaded, terminal)?;
    let seed = arguments.sampling.seed();
    let mut sampler = arguments.sampling.sampler(Some(&tokenizer), seed)?;
    let mut options = GenerateOptions {
        tokens: arguments.tokens,
        end: if arguments.ignore_end { &[] } else { tokenizer.end_ids() },
        grammar: grammar.as_mut(),
        drafter: drafter.as_mut().map(|drafter| &mut **drafter as &mut dyn Drafter),
        draft_tokens: arguments.draft_tokens,
        sequence: SequenceOptions::default(),
    };
    if arguments.echo {
        terminal.bytes(&prompt)?;
    }
    let figures = generation::stream(&mut loaded, id, &mut sampler, &mut options, terminal)?;
    if terminal.is_interactive() {
        terminal.print("\n")?;
    }
    let seed = (!arguments.sampling.is_greedy()).then_some(seed);
    terminal.say(figures.line(seed));
    Ok(Outcome::Success)
}

/// What guesses ahead, if anything was asked to.
fn drafter(
    arguments: &Arguments,
    loaded: &Loaded,
    terminal: &Terminal,
) -> anyhow::Result<Option<Box<dyn Drafter>>> {
    if arguments.lookup {
        return Ok(Some(Box::new(NgramDrafter::default())));
    }
    let Some(name) = &arguments.draft else { return Ok(None) };
    let files = load::open(name, terminal)?;
    let device = arguments.compute.device(terminal)?;
    let model = Model::load(files, &device).map_err(load::explained)?;
    let context = loaded.engine.context();
    let vocab_size = loaded.engine.config().vocab_size;
    let drafter = ModelDrafter::with_model(Arc::new(model), device, context, vocab_size)
        .map_err(load::explained)
        .with_context(|| format!("{name} cannot guess for {}", arguments.model))?;
    Ok(Some(Box::new(drafter)))
}
