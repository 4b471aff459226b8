//! `llmos chat --batch`: a file of conversations is answered, several at once.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llmos_agent::{Answer, Assistant, Thread, Turn, TurnOptions};
use llmos_model::decoder::CacheLayout;
use llmos_model::engine::SequenceOptions;
use llmos_model::{Adapter, EngineOptions, Error as ModelError, ModelFiles};
use llmos_tensor::CacheShape;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::rows::{self, Answers, Row, Rows};
use super::{Arguments, conversation};
use crate::adapters;
use crate::load::{self, Loaded};
use crate::registry::hexadecimal;
use crate::step_line::time_text;
use crate::terminal::{Terminal, number_of, size};
use crate::{Outcome, processors};

/// Rows that may be answered before one that takes long, for each that is answered at once.
const AHEAD: usize = 64;

/// Time between lines of progress where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

pub(super) fn run(
    arguments: &Arguments,
    batch: &Path,
    out: &Path,
    terminal: &Terminal,
) -> anyhow::Result<Outcome> {
    let total = Rows::count(batch)?;
    let mut rows = Rows::open(batch, arguments.again)?;
    let Arguments { model, manner, sampling, adapting, memory, compute, .. } = arguments;
    let at_once = usize::from(arguments.parallel).min(total.max(1));
    let (_, files) = conversation::open(model.as_deref(), terminal)?;
    let options = room(&files, memory.options(), at_once, terminal);
    drop(files);
    let mut loaded = conversation::load(model.as_deref(), sampling, options, compute, terminal)?;
    adapting.give(&mut loaded.engine, &loaded.device)?;
    let assistant = conversation::assistant(&loaded, adapting, manner)?;
    let mut flags = format!("{manner:?} {sampling:?} {adapting:?} {}", arguments.again);
    if !arguments.adapters.is_empty() {
        flags += &format!(" {:?}", arguments.adapters);
    }
    let origin = Sha256::digest(flags + assistant.template());
    let mut speakers = vec![Speaker { name: None, adapter: None, assistant }];
    adapters::check(&arguments.adapters)?;
    for named in &arguments.adapters {
        speakers.push(Speaker {
            name: Some(named.name.clone()),
            adapter: named.adapting.open(loaded.engine.model(), &loaded.device)?,
            assistant: conversation::assistant(&loaded, &named.adapting, manner)?,
        });
    }
    let fingerprint = loaded.engine.model().fingerprint();
    let origin = format!("{fingerprint:08x} {}\n", hexadecimal(&origin));
    let answers = Answers::open(out, &mut rows, &origin, arguments.force)?;
    let kept = answers.written();
    if kept > 0 {
        let kept = number_of(kept, "row");
        terminal.say(format_args!("{}: {kept} of {total} answered already", out.display()));
    }
    let mut pool = Pool {
        arguments,
        seed: sampling.seed(),
        loaded,
        speakers,
        rows,
        n_refused: answers.refused(),
        answers,
        again: VecDeque::new(),
        running: Vec::new(),
        at_once,
        progress: Progress::new(kept, total, terminal),
        n_token: 0,
    };
    pool.run()?;
    pool.end(out, kept, terminal)
}

/// Memory for the keys and values of so many rows at once, where nobody said how much: their longest
/// contexts, but at most half of what is free.
fn room(
    files: &ModelFiles,
    mut options: EngineOptions,
    at_once: usize,
    terminal: &Terminal,
) -> EngineOptions {
    let (Ok(config), None) = (files.config(), options.cache_bytes) else { return options };
    let block = CacheLayout::new(config, options.cache_type).block_bytes();
    let context = options.context.unwrap_or(config.context_length);
    let blocks = context.div_ceil(CacheShape::BLOCK) + 1;
    let wanted = blocks.saturating_mul(block).saturating_mul(at_once);
    let free = processors::memory().map_or(u64::MAX, |memory| memory.available);
    let spare = usize::try_from(free.saturating_sub(files.file_bytes()) / 2).unwrap_or(usize::MAX);
    let bytes = wanted.min(spare).max(block.saturating_mul(2));
    terminal.detail(format_args!("keys and values take at most {}", size(bytes as u64)));
    options.cache_bytes = Some(bytes);
    options
}

/// Who answers rows: the model, or the model with an adapter.
struct Speaker {
    /// The adapter's name; none for the model as it is.
    name: Option<String>,
    adapter: Option<Arc<Adapter>>,
    assistant: Assistant,
}

/// A row that is being answered.
struct Job {
    row: Row,
    /// Which speaker answers it.
    speaker: usize,
    messages: Vec<Value>,
    turn: Turn,
}

/// All that is being answered.
struct Pool<'a> {
    arguments: &'a Arguments,
    seed: u64,
    loaded: Loaded,
    /// The model as it is comes first.
    speakers: Vec<Speaker>,
    rows: Rows,
    answers: Answers,
    /// Rows that had to give their memory to others.
    again: VecDeque<Row>,
    running: Vec<Job>,
    at_once: usize,
    progress: Progress<'a>,
    n_refused: usize,
    n_token: usize,
}

impl Pool<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        loop {
            self.admit()?;
            if self.running.is_empty() {
                return Ok(());
            }
            match self.loaded.engine.step() {
                Ok(_) => {}
                Err(ModelError::CacheFull { .. }) if self.running.len() > 1 => {
                    // The youngest gives its memory to the others, and begins anew after them.
                    if let Some(job) = self.running.pop() {
                        job.turn
                            .thread()
                            .close(&mut self.loaded.engine)
                            .map_err(conversation::explained)?;
                        self.again.push_back(job.row);
                        self.at_once = self.running.len();
                    }
                    continue;
                }
                Err(error @ ModelError::CacheFull { .. }) => {
                    let job = self.running.remove(0);
                    let error = error.to_string();
                    job.turn
                        .thread()
                        .close(&mut self.loaded.engine)
                        .map_err(conversation::explained)?;
                    self.refuse(job.row, &error)?;
                    continue;
                }
                Err(error) => return Err(load::explained(error)),
            }
            self.draw()?;
        }
    }

    /// Begins rows while there is room.
    fn admit(&mut self) -> anyhow::Result<()> {
        while self.running.len() < self.at_once {
            let row = match self.again.pop_front() {
                Some(row) => row,
                None => {
                    let first = self.running.iter().map(|job| job.row.number).min();
                    let newest = self.running.iter().map(|job| job.row.number).max();
                    let ahead = newest
                        .zip(first)
                        .is_some_and(|(newest, first)| newest - first >= AHEAD * self.at_once);
                    match if ahead { None } else { self.rows.next()? } {
                        Some(Ok(row)) => row,
                        Some(Err((number, error))) => {
                            self.n_refused += 1;
                            self.answers
                                .add(number, &rows::refused(Default::default(), number, &error))?;
                            self.progress.advance(self.n_token);
                            continue;
                        }
                        None => return Ok(()),
                    }
                }
            };
            self.begin(row)?;
        }
        Ok(())
    }

    fn begin(&mut self, row: Row) -> anyhow::Result<()> {
        let Arguments { manner, sampling, .. } = self.arguments;
        // Each row has its own random numbers, whatever runs beside it.
        let seed = self.seed.wrapping_add(row.number as u64 - 1);
        let speaker = match self.speaker(&row) {
            Ok(speaker) => speaker,
            Err(error) => return self.refuse(row, &error),
        };
        let Speaker { adapter, assistant, .. } = &self.speakers[speaker];
        let sampler = sampling.sampler(Some(assistant.tokenizer()), seed)?;
        let sequence = SequenceOptions { adapter: adapter.clone(), ..SequenceOptions::default() };
        let options = TurnOptions { tokens: manner.tokens, sequence, ..TurnOptions::default() };
        let messages = match rows::messages(&row, manner.system.as_deref()) {
            Ok(messages) => messages,
            Err(error) => return self.refuse(row, &error),
        };
        let engine = &mut self.loaded.engine;
        let thread = Thread::default();
        match Turn::begin(assistant, engine, thread, &messages, sampler, options) {
            Ok(turn) => {
                self.running.push(Job { row, speaker, messages, turn });
                Ok(())
            }
            Err(error) => self.refuse(row, &error.to_string()),
        }
    }

    /// Who is to answer a row.
    fn speaker(&self, row: &Row) -> Result<usize, String> {
        let name = match row.fields.get("adapter") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name.as_str()),
            Some(_) => return Err(format!("row {}: adapter is no text", row.number)),
        };
        let found = self.speakers.iter().position(|speaker| speaker.name.as_deref() == name);
        found.ok_or_else(|| {
            let name = name.unwrap_or_default();
            format!(
                "row {}: there is no adapter {name:?}: give --adapter {name}=FOLDER",
                row.number
            )
        })
    }

    /// Draws a token for each row whose logits are there.
    fn draw(&mut self) -> anyhow::Result<()> {
        let mut at = 0;
        while at < self.running.len() {
            let engine = &mut self.loaded.engine;
            let job = &mut self.running[at];
            let mut failed = None;
            if engine.is_ready(job.turn.sequence()).map_err(load::explained)? {
                let before = job.turn.tokens();
                let assistant = &self.speakers[job.speaker].assistant;
                let drawn = job.turn.go_on(assistant, engine, &mut |_| ControlFlow::Continue(()));
                self.n_token += job.turn.tokens() - before;
                failed = drawn.err();
            }
            if !job.turn.is_over() && failed.is_none() {
                at += 1;
                continue;
            }
            let Job { row, messages, turn, .. } = self.running.remove(at);
            turn.thread().close(engine).map_err(conversation::explained)?;
            match failed {
                Some(error) => self.refuse(row, &error.to_string())?,
                None => self.answer(row, messages, turn.into_answer())?,
            }
        }
        Ok(())
    }

    fn answer(&mut self, row: Row, messages: Vec<Value>, answer: Answer) -> anyhow::Result<()> {
        let number = row.number;
        self.answers.add(number, &rows::answered(row, messages, answer))?;
        self.progress.advance(self.n_token);
        Ok(())
    }

    fn refuse(&mut self, row: Row, error: &str) -> anyhow::Result<()> {
        self.n_refused += 1;
        let number = row.number;
        self.answers.add(number, &rows::refused(row.fields, number, error))?;
        self.progress.advance(self.n_token);
        Ok(())
    }

    fn end(self, out: &Path, kept: usize, terminal: &Terminal) -> anyhow::Result<Outcome> {
        let n_row = self.answers.written() - kept;
        let seconds = self.progress.start.elapsed().as_secs_f64();
        self.progress.bar.finish_and_clear();
        self.answers.finish()?;
        let seed = match self.arguments.sampling.is_greedy() {
            true => String::new(),
            false => format!("; seed {}", self.seed),
        };
        terminal.say(format_args!(
            "{}: {} in {}, {} tokens, {:.1} tok/s{seed}",
            out.display(),
            number_of(n_row, "row"),
            time_text(seconds),
            self.n_token,
            self.n_token as f64 / seconds.max(1e-9),
        ));
        if self.n_refused == 0 {
            return Ok(Outcome::Success);
        }
        terminal.warn(format_args!(
            "{} could not be answered: \"error\" says why",
            number_of(self.n_refused, "row")
        ));
        Ok(Outcome::Negative)
    }
}

/// How far it is.
struct Progress<'a> {
    terminal: &'a Terminal,
    bar: indicatif::ProgressBar,
    start: Instant,
    said: Instant,
    kept: usize,
    done: usize,
    total: usize,
}

impl<'a> Progress<'a> {
    fn new(kept: usize, total: usize, terminal: &'a Terminal) -> Progress<'a> {
        let bar = terminal.step_bar(Some(total as u64), "answering");
        bar.set_position(kept as u64);
        bar.reset_eta();
        let now = Instant::now();
        Progress { terminal, bar, start: now, said: now, kept, done: 0, total }
    }

    fn advance(&mut self, tokens: usize) {
        self.done += 1;
        self.bar.inc(1);
        if std::io::stderr().is_terminal() || self.said.elapsed() < EVERY {
            return;
        }
        self.said = Instant::now();
        let seconds = self.start.elapsed().as_secs_f64();
        let left = self.total.saturating_sub(self.kept + self.done) as f64;
        self.terminal.say(format_args!(
            "row {}/{} | {:.1} tok/s | left {}",
            self.kept + self.done,
            self.total,
            tokens as f64 / seconds,
            time_text(left * seconds / self.done as f64),
        ));
    }
}
