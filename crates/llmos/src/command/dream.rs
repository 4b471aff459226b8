//! `llmos dream`: documents from nothing but the start token.

use llmos_model::engine::{GenerateOptions, SequenceOptions};
use llmos_tokenizer::Special;

use crate::Outcome;
use crate::failure::failure;
use crate::generation;
use crate::load::{self, Cache, Compute};
use crate::sampling::Sampling;
use crate::terminal::{Style, Terminal};

/// Dream documents from nothing but the start token.
///
/// A base model dreams what it was trained on. --like gives the first words of a kind of document.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A model: a path or a name.
    model: String,
    /// The kind of document.
    #[arg(long, value_name = "KIND")]
    like: Option<Kind>,
    /// How many documents.
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: usize,
    /// Most tokens of a document.
    #[arg(long = "tokens", short = 'n', value_name = "N", default_value_t = 400)]
    tokens: usize,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    compute: Compute,
}

/// Kinds of documents that the web is made of.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Kind {
    /// A web page.
    Web,
    /// A source file.
    Code,
    /// A shop's product page.
    Product,
    /// An article of an encyclopaedia.
    Encyclopedia,
    /// A story.
    Story,
    /// A news report.
    News,
    /// A recipe.
    Recipe,
    /// A letter.
    Letter,
    /// A question with answers.
    Question,
    /// A poem.
    Poem,
}

impl Kind {
    /// The first words of such a document.
    fn seed(self) -> &'static str {
        match self {
            Kind::Web => "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<title>",
            Kind::Code => "import java.util.*;\n\n/**\n * ",
            Kind::Product => "Product details\nTitle: ",
            Kind::Encyclopedia => "From Wikipedia, the free encyclopedia\n\n",
            Kind::Story => "Once upon a time",
            Kind::News => "LONDON (Reuters) - ",
            Kind::Recipe => "Ingredients:\n- ",
            Kind::Letter => "Dear ",
            Kind::Question => "Q: ",
            Kind::Poem => "A Poem\n\n",
        }
    }
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let mut loaded =
        load::load(&arguments.model, &arguments.compute, arguments.cache.options(), terminal)?;
    let tokenizer = loaded.tokenizer()?.clone();
    let seed_text = arguments.like.map_or("", Kind::seed);
    let mut tokens = load::start_tokens(&tokenizer);
    tokens.extend(tokenizer.encode(seed_text, Special::None));
    if tokens.is_empty() {
        return Err(failure(
            format!("{} has no start token", loaded.name),
            "give the first words with --like, or with `llmos run -p`",
        ));
    }
    let ends = generation::document_ends(&tokenizer);
    let seed = arguments.sampling.seed();
    for number in 0..arguments.count {
        if number > 0 {
            terminal.print(format!("\n{}\n", terminal.style(Style::Dim, "---")))?;
        }
        let id = loaded.engine.add(&tokens, SequenceOptions::default()).map_err(load::explained)?;
        let seed = seed.wrapping_add(number as u64);
        let mut sampler = arguments.sampling.sampler(Some(&tokenizer), seed)?;
        let mut options = GenerateOptions {
            tokens: Some(arguments.tokens),
            end: &ends,
            ..GenerateOptions::default()
        };
        terminal.print(seed_text)?;
        let figures = generation::stream(&mut loaded, id, &mut sampler, &mut options, terminal)?;
        loaded.engine.remove(id).map_err(load::explained)?;
        terminal.print("\n")?;
        terminal.say(figures.line((!arguments.sampling.is_greedy()).then_some(seed)));
    }
    Ok(Outcome::Success)
}
