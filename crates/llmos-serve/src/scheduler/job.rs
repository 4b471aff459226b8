//! A request that has its place in the engine: first its prompt is read, then its choices are
//! written side by side, or some of them after others where there are not places enough for all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use llmos_model::engine::{SequenceId, SequenceOptions};
use llmos_model::{Engine, Error};
use llmos_tokenizer::Tokenizer;

use super::place::{Again, Place};
use super::request::{Event, Finish, Pooling, Read, Request, Score};
use super::writer::{Writer, score};
use crate::refusal::Refusal;

/// A request under way.
pub(super) struct Job {
    pub(super) request: Request,
    /// Its number in order of arrival.
    pub(super) number: u64,
    /// Most of its sequences that are in the engine at once, at least one.
    limit: usize,
    choices: Vec<Choice>,
    /// What is known while the prompt is read; none afterwards.
    reading: Option<Reading>,
}

/// How far the prompt is.
struct Reading {
    /// The sequence that reads.
    place: Place,
    /// Tokens that are in the sequence.
    entered: usize,
    /// Tokens that have gone through the model, as far as was told.
    computed: usize,
    /// Of the prompt's tokens, where they are wanted.
    scores: Vec<Option<Score>>,
}

/// One answer.
struct Choice {
    place: Place,
    writer: Writer,
}

/// Memory for rows of logits while the prompt's scores are taken: 32 MiB are 55 rows of a vocabulary of
/// 150,000.
const ROWS_BYTES: usize = 32 << 20;

impl Job {
    /// Begins to read; later at most `limit` of its choices are written at once.
    ///
    /// # Errors
    /// The engine's, and those of sampler options.
    pub(super) fn begin(
        request: Request,
        number: u64,
        limit: usize,
        engine: &mut Engine,
        tokenizer: &Arc<Tokenizer>,
    ) -> Result<Job, Box<(Error, Request)>> {
        match Job::prepare(&request, engine, tokenizer) {
            Ok((choices, reading)) => {
                let reading = Some(reading);
                Ok(Job { request, number, limit: limit.max(1), choices, reading })
            }
            Err(error) => Err(Box::new((error, request))),
        }
    }

    fn prepare(
        request: &Request,
        engine: &mut Engine,
        tokenizer: &Arc<Tokenizer>,
    ) -> Result<(Vec<Choice>, Reading), Error> {
        let writers: Result<Vec<Writer>, Error> =
            (0..request.choices).map(|i| Writer::new(request, tokenizer, i)).collect();
        let choices = writers?.into_iter().map(|writer| Choice { place: Place::Over, writer });
        let entered = chunk(request, engine);
        let id = engine.add(&request.tokens[..entered], options(request, engine))?;
        if request.prompt_scores.is_some() {
            engine.keep_rows(id, entered)?;
        }
        if request.pooling.is_some() {
            engine.keep_states(id)?;
        }
        let place = Place::Engine(id);
        let reading = Reading { place, entered, computed: 0, scores: Vec::new() };
        Ok((choices.collect(), reading))
    }

    /// Sequences that it has in the engine, or will have.
    pub(super) fn width(&self) -> usize {
        self.left().min(self.limit)
    }

    /// Sequences that could be in the engine beside those, if it had places for them.
    pub(super) fn parked(&self) -> usize {
        self.left() - self.width()
    }

    /// Choices that are not complete.
    fn left(&self) -> usize {
        match self.reading {
            Some(_) => self.request.choices,
            None => self.places().filter(|place| !place.is_over()).count(),
        }
    }

    /// Sequences that are in the engine.
    pub(super) fn present(&self) -> usize {
        self.places().filter(|place| place.is_in_engine()).count()
    }

    /// Nobody listens any more.
    pub(super) fn is_deserted(&self) -> bool {
        self.request.cancel.load(Ordering::Relaxed) || self.request.events.is_closed()
    }

    /// All of its choices are complete.
    pub(super) fn is_over(&self) -> bool {
        self.left() == 0
    }

    /// Tokens of the prompt that have not gone through the model yet.
    pub(super) fn unread(&self) -> usize {
        self.reading
            .as_ref()
            .map_or(0, |reading| self.request.tokens.len().saturating_sub(reading.computed))
    }

    /// Notes how far a sequence has come.
    pub(super) fn note(&mut self, sequence: SequenceId, computed: usize) {
        if let Some(reading) = &mut self.reading
            && matches!(reading.place, Place::Engine(id) if id == sequence)
        {
            reading.computed = computed;
        }
    }

    /// Tells something; a client that does not take it is gone.
    pub(super) fn tell(&self, event: Event) {
        tell(&self.request, event);
    }

    /// Does what can be done wherever logits are there.
    ///
    /// # Errors
    /// The engine's, the sampler's and the grammar's.
    pub(super) fn go_on(&mut self, engine: &mut Engine) -> Result<(), Error> {
        if self.reading.is_some() && !self.read(engine)? {
            return Ok(());
        }
        for index in 0..self.choices.len() {
            let Place::Engine(id) = self.choices[index].place else { continue };
            if engine.is_ready(id)? {
                self.write(engine, index, id)?;
            }
        }
        Ok(())
    }

    /// Reads on; true once the prompt is read.
    fn read(&mut self, engine: &mut Engine) -> Result<bool, Error> {
        let Some(reading) = &mut self.reading else { return Ok(true) };
        let Place::Engine(id) = reading.place else { return Ok(false) };
        if !engine.is_ready(id)? {
            return Ok(false);
        }
        reading.computed = reading.entered;
        let request = &self.request;
        if let Some(top) = request.prompt_scores {
            if reading.scores.is_empty() {
                reading.scores.push(None);
            }
            // After token i come the logits of token i + 1.
            for index in reading.scores.len() - 1..reading.entered {
                let target = request.tokens.get(index + 1).copied().or(request.target);
                let Some(target) = target else { break };
                reading.scores.push(Some(score(engine.logits_after(id, index)?, target, top)));
            }
            let from = reading.entered;
            if from < request.tokens.len() {
                let end = (from + chunk(request, engine)).min(request.tokens.len());
                engine.keep_rows(id, end - from)?;
                engine.force(id, &request.tokens[from..end])?;
                reading.entered = end;
                return Ok(false);
            }
            engine.keep_rows(id, 1)?;
        }
        let next = match request.next {
            Some(count) => llmos_model::sampler::most_likely(engine.logits(id)?, count),
            None => Vec::new(),
        };
        let state = match request.pooling {
            Some(Pooling::Mean) => engine.states(id)?.mean(),
            Some(Pooling::Last) => engine.states(id)?.last().to_vec(),
            None => Vec::new(),
        };
        let read = Read {
            first: request.first,
            tokens: request.tokens.len(),
            cached: engine.adopted(id)?,
            scores: std::mem::take(&mut reading.scores),
            next,
            state,
        };
        self.tell(Event::Read(read));
        self.reading = None;
        self.part_ways(engine, id)?;
        Ok(true)
    }

    /// The prompt is read: each choice goes on from there.
    fn part_ways(&mut self, engine: &mut Engine, id: SequenceId) -> Result<(), Error> {
        let (first, more) = match self.choices.split_first_mut() {
            Some((first, more)) => (first, more),
            None => return engine.remove(id),
        };
        first.place = Place::Engine(id);
        for (number, choice) in (1..).zip(more) {
            choice.place = match number < self.limit {
                true => Place::Engine(engine.fork(id)?),
                false => Place::Tokens(self.request.tokens.clone()),
            };
        }
        if self.request.most == Some(0) {
            for index in 0..self.choices.len() {
                let drawn = self.choices[index].writer.end(Finish::Length);
                self.end(engine, index, drawn.finish, drawn.scores)?;
            }
        }
        Ok(())
    }

    /// Draws a token of a choice.
    fn write(&mut self, engine: &mut Engine, index: usize, id: SequenceId) -> Result<(), Error> {
        let choice = &mut self.choices[index];
        let history = engine.tokens(id)?;
        let n_prompt = self.request.tokens.len().min(history.len());
        let logits = engine.logits(id)?;
        let mut drawn = choice.writer.draw(&self.request, logits, history, n_prompt)?;
        let limit = length(&self.request, engine).unwrap_or(engine.context());
        let mut parts = std::mem::take(&mut drawn.parts);
        let mut scores = std::mem::take(&mut drawn.scores);
        let mut finish = drawn.finish;
        if let Some(token) = drawn.token {
            if history.len() < limit {
                engine.force(id, &[token])?;
            } else {
                let mut last = choice.writer.end(Finish::Length);
                parts.append(&mut last.parts);
                scores.append(&mut last.scores);
                finish = last.finish;
            }
        }
        let number = self.request.first + index;
        // With several parts, the tokens come with the first.
        for part in parts {
            let scores = std::mem::take(&mut scores);
            self.tell(Event::Part { index: number, part, scores });
        }
        match finish {
            Some(finish) => self.end(engine, index, Some(finish), scores),
            None if scores.is_empty() => Ok(()),
            None => {
                let part = super::request::Part::Text(String::new());
                self.tell(Event::Part { index: number, part, scores });
                Ok(())
            }
        }
    }

    fn end(
        &mut self,
        engine: &mut Engine,
        index: usize,
        finish: Option<Finish>,
        scores: Vec<Score>,
    ) -> Result<(), Error> {
        let choice = &mut self.choices[index];
        if let Place::Engine(id) = std::mem::replace(&mut choice.place, Place::Over) {
            engine.remove(id)?;
        }
        let (tokens, thoughts) = (choice.writer.tokens(), choice.writer.thoughts());
        let finish = finish.unwrap_or(Finish::Stop);
        let index = self.request.first + index;
        self.tell(Event::End { index, finish, tokens, thoughts, scores });
        Ok(())
    }

    /// Gives its memory back for a while: written out where `spare` bytes hold it, else to be computed
    /// again. The bytes that were written are taken off `spare`.
    ///
    /// # Errors
    /// The engine's.
    pub(super) fn page_out(&mut self, engine: &mut Engine, spare: &mut usize) -> Result<(), Error> {
        let may_be_written = self.may_be_written();
        self.places_mut().try_for_each(|place| place.leave(engine, spare, may_be_written))
    }

    /// States that were kept so far are in no image.
    fn may_be_written(&self) -> bool {
        self.request.pooling.is_none()
    }

    /// Has at most so many sequences in the engine from now on: the last ones leave it.
    ///
    /// # Errors
    /// The engine's.
    pub(super) fn narrow(
        &mut self,
        engine: &mut Engine,
        spare: &mut usize,
        limit: usize,
    ) -> Result<(), Error> {
        self.limit = limit.max(1);
        let (limit, may_be_written) = (self.limit, self.may_be_written());
        let present = self.places_mut().filter(|place| place.is_in_engine());
        present.skip(limit).try_for_each(|place| place.leave(engine, spare, may_be_written))
    }

    /// May have one sequence more in the engine.
    pub(super) fn widen(&mut self) {
        self.limit += 1;
    }

    /// Brings sequences into the engine until it has as many there as it may; true if there was memory
    /// for all of them.
    ///
    /// # Errors
    /// The engine's.
    pub(super) fn page_in(
        &mut self,
        engine: &mut Engine,
        spare: &mut usize,
    ) -> Result<bool, Error> {
        let room = self.width().saturating_sub(self.present());
        if room == 0 || !self.places().any(Place::is_away) {
            return Ok(true);
        }
        let again = self.again(engine);
        for place in self.places_mut().filter(|place| place.is_away()).take(room) {
            if !place.come_back(engine, spare, &again)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn again(&self, engine: &Engine) -> Again {
        let reading = self.reading.as_ref().filter(|_| self.request.prompt_scores.is_some());
        // The rows after the tokens that have no score yet.
        let rows = reading.map(|Reading { entered, scores, .. }| {
            let done = scores.len().saturating_sub(1).min(entered.saturating_sub(1));
            entered - done
        });
        let keeps_states = self.request.pooling.is_some();
        Again { options: options(&self.request, engine), rows, keeps_states }
    }

    /// Tokens of all its sequences, wherever they are.
    pub(super) fn held(&self, engine: &Engine) -> Vec<usize> {
        let drawn = |choice: &Choice| self.request.tokens.len() + choice.writer.tokens();
        match &self.reading {
            Some(_) => vec![self.request.tokens.len()],
            None => {
                let live = self.choices.iter().filter(|choice| !choice.place.is_over());
                live.map(|choice| match choice.place {
                    Place::Engine(id) => {
                        engine.tokens(id).map_or_else(|_| drawn(choice), <[u32]>::len)
                    }
                    _ => drawn(choice),
                })
                .collect()
            }
        }
    }

    /// Gives all memory back.
    pub(super) fn close(mut self, engine: &mut Engine) {
        for place in self.places_mut() {
            if let Place::Engine(id) = *place {
                // The engine knows all that it gave a name to.
                let _ = engine.remove(id);
            }
        }
    }

    /// Nothing more will come.
    pub(super) fn fail(self, engine: &mut Engine, refusal: Refusal) {
        self.tell(Event::Failed(refusal));
        self.close(engine);
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        let reading = self.reading.iter().map(|reading| &reading.place);
        reading.chain(self.choices.iter().map(|choice| &choice.place))
    }

    fn places_mut(&mut self) -> impl Iterator<Item = &mut Place> {
        let reading = self.reading.iter_mut().map(|reading| &mut reading.place);
        reading.chain(self.choices.iter_mut().map(|choice| &mut choice.place))
    }
}

/// Tells something; a client that does not take it is gone.
pub(super) fn tell(request: &Request, event: Event) {
    if request.events.try_send(event).is_err() {
        request.cancel.store(true, Ordering::Relaxed);
    }
}

/// Tokens of the prompt that enter at once: all, or as many as their rows of logits may take.
fn chunk(request: &Request, engine: &Engine) -> usize {
    let all = request.tokens.len();
    match request.prompt_scores {
        None => all,
        Some(_) => (ROWS_BYTES / (4 * engine.config().vocab_size)).max(1).min(all),
    }
}

/// The longest that its sequences may become, where that is known.
fn length(request: &Request, engine: &Engine) -> Option<usize> {
    let length = request.tokens.len().saturating_add(request.most?);
    Some(length.min(engine.context()))
}

fn options(request: &Request, engine: &Engine) -> SequenceOptions {
    SequenceOptions {
        owner: request.owner,
        salt: request.salt,
        is_private: request.is_private,
        length: length(request, engine),
        adapter: request.adapter.clone(),
        cancel: Some(request.cancel.clone()),
        ..SequenceOptions::default()
    }
}
