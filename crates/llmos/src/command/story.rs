//! `llmos` alone: the bundled model writes a story and goes on with what you type.

use std::io::{BufRead, IsTerminal, Write};

use llmos_model::engine::{Ending, GenerateOptions, SequenceId, SequenceOptions};
use llmos_tokenizer::{Special, Tokenizer};

use crate::Outcome;
use crate::generation;
use crate::load::{self, Compute, Loaded};
use crate::model_name;
use crate::sampling::Sampling;
use crate::terminal::Terminal;

/// How every story of the model's training set begins, or nearly so.
const BEGINNING: &str = "Once upon a time";

/// Most new tokens of a turn; it ends with the first sentence after half of them.
const TURN: usize = 200;

#[derive(clap::Parser)]
struct Defaults {
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    compute: Compute,
}

pub(crate) fn run(terminal: &Terminal) -> anyhow::Result<Outcome> {
    let Defaults { sampling, compute } = clap::Parser::parse_from(["llmos"]);
    let path = model_name::bundled()?.display().to_string();
    let options = llmos_model::EngineOptions::default();
    let loaded = load::load(&path, &compute, options, terminal)?;
    let tokenizer = loaded.tokenizer()?.clone();
    let mut story = Story { loaded, sampling, turn: 0, sequence: None };
    if !std::io::stdin().is_terminal() {
        let given = generation::stdin()?;
        let text = String::from_utf8_lossy(&given);
        let text = text.trim();
        story.say(if text.is_empty() { BEGINNING } else { text }, &tokenizer, terminal)?;
        terminal.print("\n")?;
        return Ok(Outcome::Success);
    }
    terminal.say(
        "stories260K writes children's stories; it is small enough to come with the program.\n\
         Type how the story goes on; Enter alone lets the model go on; Ctrl-D ends.\n\
         For a real model: llmos pull hf:OWNER/REPO, llmos run MODEL -p TEXT.\n",
    );
    story.say(BEGINNING, &tokenizer, terminal)?;
    let mut lines = std::io::stdin().lock().lines();
    loop {
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "\n> ").and_then(|()| err.flush());
        drop(err);
        let Some(line) = lines.next() else { break };
        story.say(line?.trim_end(), &tokenizer, terminal)?;
    }
    terminal.say("");
    Ok(Outcome::Success)
}

/// A story that a person and the model tell in turns.
struct Story {
    loaded: Loaded,
    sampling: Sampling,
    /// Counts turns: each has its own random numbers.
    turn: u64,
    /// What was told so far; none before the beginning and after an end.
    sequence: Option<SequenceId>,
}

impl Story {
    /// Adds `text`, and lets the model go on.
    fn say(
        &mut self,
        text: &str,
        tokenizer: &Tokenizer,
        terminal: &Terminal,
    ) -> anyhow::Result<()> {
        let engine = &mut self.loaded.engine;
        let context = engine.context();
        let id = match self.sequence {
            Some(id) if text.is_empty() => id,
            Some(id) => {
                let more = tokenizer.encode(format!("\n{text}"), Special::None);
                let room =
                    context.saturating_sub(engine.tokens(id).map_err(load::explained)?.len());
                if more.len() + TURN / 2 > room {
                    engine.remove(id).map_err(load::explained)?;
                    self.begin(text, tokenizer)?
                } else {
                    engine.force(id, &more).map_err(load::explained)?;
                    id
                }
            }
            None => self.begin(if text.is_empty() { BEGINNING } else { text }, tokenizer)?,
        };
        if self.sequence.is_none() && text.is_empty() {
            terminal.print(BEGINNING)?;
        } else if self.turn == 0 || !std::io::stdin().is_terminal() {
            terminal.print(text)?;
        }
        let seed = self.sampling.seed().wrapping_add(self.turn);
        self.turn += 1;
        let mut sampler = self.sampling.sampler(Some(tokenizer), seed)?;
        let enough =
            |tokens: usize, text: &str| tokens >= TURN / 2 && text.ends_with(['.', '!', '?']);
        let ends = generation::document_ends(tokenizer);
        let mut options =
            GenerateOptions { tokens: Some(TURN), end: &ends, ..GenerateOptions::default() };
        let figures = generation::stream(
            &mut self.loaded,
            id,
            &mut sampler,
            &mut options,
            &enough,
            terminal,
        )?;
        terminal.detail(figures.line(Some(seed)));
        self.sequence = match figures.generated.ending {
            Ending::End(_) | Ending::Context => {
                self.loaded.engine.remove(id).map_err(load::explained)?;
                None
            }
            _ => Some(id),
        };
        Ok(())
    }

    /// A new story that begins with `text`, cut to what the context holds.
    fn begin(&mut self, text: &str, tokenizer: &Tokenizer) -> anyhow::Result<SequenceId> {
        self.sequence = None;
        let mut tokens = tokenizer.encode_prompt(text);
        let most = self.loaded.engine.context().saturating_sub(TURN).max(1);
        if tokens.len() > most {
            let start = load::start_tokens(tokenizer);
            let kept = tokens.split_off(tokens.len() - most.saturating_sub(start.len()));
            tokens = [start, kept].concat();
        }
        self.loaded.engine.add(&tokens, SequenceOptions::default()).map_err(load::explained)
    }
}
