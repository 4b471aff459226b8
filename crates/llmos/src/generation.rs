//! Generation for a person: text to stdout as it is drawn, figures to stderr when it ends.

use std::io::{IsTerminal, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use llmos_model::engine::{Ending, Event, GenerateOptions, Generated, SequenceId};
use llmos_model::sampler::Sampler;
use llmos_tokenizer::Tokenizer;

use crate::failure::{Explain, failure};
use crate::load::{self, Loaded};
use crate::terminal::{Terminal, number_of};

/// How long the parts of a generation took.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Tokens that went in.
    pub(crate) prompt_tokens: usize,
    /// From the start to the first token.
    pub(crate) first: Duration,
    /// From the first token to the last.
    pub(crate) rest: Duration,
    /// What was drawn.
    pub(crate) generated: Generated,
}

/// Shorter prompts are over before a rate means anything.
const RATED_PROMPT: usize = 32;

impl Figures {
    /// One line for people.
    pub(crate) fn line(&self, seed: Option<u64>) -> String {
        let count = self.generated.tokens.len();
        let rate = |tokens: usize, time: Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
        let mut line = number_of(count, "token");
        if count > 1 {
            line += &format!(", {:.1} tok/s", rate(count - 1, self.rest));
        }
        line += &format!("; prompt {}", number_of(self.prompt_tokens, "token"));
        if self.prompt_tokens >= RATED_PROMPT {
            line += &format!(", {:.1} tok/s", rate(self.prompt_tokens, self.first));
        }
        line += &format!(", first token after {:.2} s", self.first.as_secs_f64());
        if self.generated.drafted > 0 {
            let Generated { drafted, accepted, .. } = self.generated;
            line += &format!("; {accepted} of {drafted} guesses came true");
        }
        line += match self.generated.ending {
            Ending::End(_) => "; the text ended",
            Ending::Tokens | Ending::Caller => "",
            Ending::Context => "; the context is full",
            Ending::Grammar => "; the grammar is complete",
        };
        match seed {
            Some(seed) => format!("{line}; seed {seed}"),
            None => line,
        }
    }
}

/// Draws tokens after where a sequence stands, and writes their text to stdout as it comes. A
/// character is written when all of its bytes are there; a control token has no text.
///
/// # Errors
/// The engine's, and those of standard output.
pub(crate) fn stream(
    loaded: &mut Loaded,
    id: SequenceId,
    sampler: &mut Sampler,
    options: &mut GenerateOptions<'_>,
    terminal: &Terminal,
) -> anyhow::Result<Figures> {
    let tokenizer = loaded.tokenizer()?.clone();
    let mut decoder = tokenizer.decoder().skip_special();
    let prompt = loaded.engine.tokens(id).map_err(load::explained)?;
    let prompt_tokens = prompt.len();
    // A text does not begin with the space that some vocabularies put before its first word.
    let at_start = prompt.iter().all(|&token| tokenizer.is_special(token));
    let start = Instant::now();
    prefill(loaded, id, terminal)?;
    let (mut first, mut last) = (None, start);
    let mut written = Ok(());
    let mut is_first = true;
    let result = loaded.engine.go_on(id, sampler, options, &mut |token| {
        last = Instant::now();
        first.get_or_insert(last);
        let piece = decoder.push(token);
        let piece = match is_first && at_start {
            true => piece.strip_prefix(' ').unwrap_or(&piece),
            false => &piece,
        };
        is_first &= piece.is_empty();
        if !piece.is_empty() {
            written = terminal.print(piece);
        }
        match written.is_ok() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    });
    written?;
    let generated = result.map_err(load::explained)?;
    terminal.print(decoder.flush())?;
    let first = first.unwrap_or_else(Instant::now);
    Ok(Figures {
        prompt_tokens,
        first: first - start,
        rest: last.saturating_duration_since(first),
        generated,
    })
}

/// Takes a sequence through the model up to the logits after its last token, with a bar for a long
/// one.
///
/// # Errors
/// The engine's.
pub(crate) fn prefill(
    loaded: &mut Loaded,
    id: SequenceId,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let engine = &mut loaded.engine;
    let tokens = engine.tokens(id).map_err(load::explained)?.len();
    let bar = terminal.step_bar(Some(tokens as u64), "reading");
    while !engine.is_ready(id).map_err(load::explained)? {
        for event in engine.step().map_err(load::explained)? {
            if let Event::Advanced { computed, .. } = event {
                bar.set_position(computed as u64);
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// What ends a document: an end token, or the start of another, which is all that separates
/// documents in the training of llama2.c's models.
pub(crate) fn document_ends(tokenizer: &Tokenizer) -> Vec<u32> {
    tokenizer.end_ids().iter().copied().chain(tokenizer.bos()).collect()
}

/// The text that a command begins with: of the flag, a file, or standard input; none where nothing
/// was given and standard input is a terminal.
///
/// # Errors
/// The file or standard input cannot be read.
pub(crate) fn input(prompt: Option<&str>, file: Option<&Path>) -> anyhow::Result<Option<Vec<u8>>> {
    match (prompt, file) {
        (Some(text), _) => Ok(Some(text.as_bytes().to_vec())),
        (None, Some(path)) if path.as_os_str() == "-" => stdin().map(Some),
        (None, Some(path)) => std::fs::read(path).map(Some).explain(
            || format!("cannot read {}", path.display()),
            || "check the path; - is standard input".into(),
        ),
        (None, None) if std::io::stdin().is_terminal() => Ok(None),
        (None, None) => stdin().map(Some),
    }
}

/// All of standard input, byte for byte.
///
/// # Errors
/// It cannot be read, or is more than a context could ever hold.
pub(crate) fn stdin() -> anyhow::Result<Vec<u8>> {
    /// A gigabyte of text is some 250 million tokens.
    const MOST: u64 = 1 << 30;
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MOST + 1).read_to_end(&mut bytes);
    read.explain(|| "cannot read standard input".into(), || "give the text with -p or -f".into())?;
    if bytes.len() as u64 > MOST {
        return Err(failure("standard input has more than 1 GiB", "split it into parts"));
    }
    Ok(bytes)
}
