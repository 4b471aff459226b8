//! A turn: from a question to its answer, tools in between, one token at a time.

use std::ops::ControlFlow;

use llmos_model::Engine;
use llmos_model::engine::{Event as EngineEvent, SequenceId, SequenceOptions};
use llmos_model::grammar::Grammar;
use llmos_model::sampler::Sampler;
use llmos_tokenizer::{Special, StreamDecoder};
use serde_json::{Value, json};

use crate::Error;
use crate::assistant::{Assistant, Thread};
use crate::call::Call;
use crate::messages::{normalized, role, spoken};
use crate::reader::{Piece, Reader};
use crate::tool::{self, Called};

/// How a turn may go.
#[derive(Clone, Debug)]
pub struct TurnOptions {
    /// Most tokens to draw, all rounds together; none is as many as fit.
    pub tokens: Option<usize>,
    /// Most rounds of calls.
    pub rounds: usize,
    /// Whether the oldest messages are left out where the context is full; else that is an error.
    pub forgets: bool,
    /// The sequence's owner, salt, priority and flag.
    pub sequence: SequenceOptions,
}

impl Default for TurnOptions {
    fn default() -> TurnOptions {
        TurnOptions {
            tokens: None,
            rounds: 8,
            forgets: false,
            sequence: SequenceOptions::default(),
        }
    }
}

/// Something that happens in a turn.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The prompt goes through the model.
    Reading {
        /// Tokens that have.
        computed: usize,
        /// All of them.
        tokens: usize,
    },
    /// A token was drawn.
    Token,
    /// A part of the answer.
    Text(&'a str),
    /// A part of what the model thinks to itself.
    Reasoning(&'a str),
    /// The model begins to call a tool.
    Begun,
    /// A tool was called and has answered.
    Called(&'a Called),
    /// The answer is complete, after so many tokens.
    End(usize),
}

/// Why a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model ended it.
    End,
    /// As many tokens as were asked for.
    Tokens,
    /// The context is full.
    Context,
    /// The caller, or the engine's stop flag.
    Stopped,
    /// The model called tools in more rounds than it may.
    Rounds,
}

impl Ending {
    /// One word: `end`, `tokens`, `context`, `stopped`, `rounds`.
    pub fn name(self) -> &'static str {
        match self {
            Ending::End => "end",
            Ending::Tokens => "tokens",
            Ending::Context => "context",
            Ending::Stopped => "stopped",
            Ending::Rounds => "rounds",
        }
    }
}

/// What came of a turn.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was said in the end.
    pub answer: String,
    /// What was thought before it, all rounds together.
    pub reasoning: String,
    /// The calls, in order.
    pub tool_calls: Vec<Called>,
    /// The messages that the turn adds to the conversation.
    pub messages: Vec<Value>,
    /// Why it ended.
    pub ending: Ending,
    /// Tokens of the first prompt.
    pub prompt_tokens: usize,
    /// Tokens of all prompts that had not gone through the model before.
    pub read_tokens: usize,
    /// Tokens that were drawn.
    pub tokens: usize,
}

/// A turn that is under way. Whoever drives it steps the engine, and calls [`Turn::go_on`] whenever
/// the logits of [`Turn::sequence`] are there; [`Assistant::answer`] does so for one turn.
pub struct Turn {
    options: TurnOptions,
    /// The whole conversation, what this turn adds included.
    messages: Vec<Value>,
    n_given: usize,
    thread: Thread,
    sequence: SequenceId,
    sampler: Sampler,
    logits: Vec<f32>,
    /// Reads this round.
    reader: Reader,
    decoder: StreamDecoder,
    constraint: Constraint,
    round: usize,
    /// This round's text, thoughts and calls.
    text: String,
    reasoning: String,
    calls: Vec<Call>,
    called: Vec<Called>,
    thoughts: String,
    ending: Option<Ending>,
    prompt_tokens: usize,
    read_tokens: usize,
    n_token: usize,
}

/// The grammar of the call that is being written.
enum Constraint {
    /// No call is being written.
    None,
    /// It is held to the grammar.
    Held(Box<Grammar>),
    /// It is not: there is no grammar, or the call began as none that it allows.
    Free,
}

/// Whoever is asked after each event.
type Each<'a> = dyn FnMut(Event<'_>) -> ControlFlow<()> + 'a;

impl Turn {
    /// Begins to answer `messages` where `thread` stands.
    ///
    /// # Errors
    /// As [`Assistant::answer`].
    pub fn begin(
        assistant: &Assistant,
        engine: &mut Engine,
        thread: Thread,
        messages: &[Value],
        sampler: Sampler,
        options: TurnOptions,
    ) -> Result<Turn, Error> {
        let messages = normalized(messages)?;
        let mut thread = thread;
        let prompt = fitted(assistant, engine, &mut thread, &messages, options.forgets)?;
        let (sequence, read) = place(engine, thread.sequence, &prompt.tokens, &options)?;
        thread.sequence = Some(sequence);
        Ok(Turn {
            n_given: messages.len(),
            messages,
            thread,
            sequence,
            sampler,
            logits: Vec::new(),
            reader: reader(assistant, prompt.is_thinking),
            decoder: assistant.tokenizer().decoder().skip_special(),
            constraint: Constraint::None,
            round: 0,
            text: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            called: Vec::new(),
            thoughts: String::new(),
            ending: None,
            prompt_tokens: prompt.tokens.len(),
            read_tokens: read,
            n_token: 0,
            options,
        })
    }

    /// The sequence whose logits the turn waits for.
    pub fn sequence(&self) -> SequenceId {
        self.sequence
    }

    /// Where the conversation stands, for its next turn.
    pub fn thread(&self) -> Thread {
        self.thread
    }

    /// True once there is an answer.
    pub fn is_over(&self) -> bool {
        self.ending.is_some()
    }

    /// Tokens drawn so far.
    pub fn tokens(&self) -> usize {
        self.n_token
    }

    /// Passes on how far the engine has read.
    pub(crate) fn note(&mut self, events: &[EngineEvent], each: &mut Each<'_>) {
        for event in events {
            if let EngineEvent::Advanced { sequence, computed, tokens } = *event
                && sequence == self.sequence
                && each(Event::Reading { computed, tokens }).is_break()
            {
                self.stop(each);
                return;
            }
        }
    }

    /// Draws one token, and does what follows from it. The engine's logits must be there.
    ///
    /// # Errors
    /// As [`Assistant::answer`].
    pub fn go_on(
        &mut self,
        assistant: &Assistant,
        engine: &mut Engine,
        each: &mut Each<'_>,
    ) -> Result<(), Error> {
        if self.ending.is_some() {
            return Ok(());
        }
        if self.options.tokens.is_some_and(|most| self.n_token >= most) {
            self.end(Ending::Tokens, each);
            return Ok(());
        }
        let token = match self.next(assistant, engine)? {
            Some(token) if !assistant.tokenizer().is_end(token) => token,
            _ => return self.end_round(assistant, engine, each),
        };
        self.n_token += 1;
        let text = self.reader.text_of(assistant.tokenizer(), &mut self.decoder, token);
        if self.read(&text, each).is_break() || each(Event::Token).is_break() {
            self.stop(each);
            return Ok(());
        }
        self.hold(assistant, engine, token);
        if engine.tokens(self.sequence)?.len() >= engine.context() {
            self.end(Ending::Context, each);
            return Ok(());
        }
        engine.force(self.sequence, &[token])?;
        Ok(())
    }

    /// Ends the turn with what was said so far.
    pub fn stop(&mut self, each: &mut Each<'_>) {
        if self.ending.is_none() {
            self.end(Ending::Stopped, each);
        }
    }

    /// The answer. One that is not over counts as stopped.
    pub fn into_answer(mut self) -> Answer {
        self.stop(&mut |_| ControlFlow::Continue(()));
        let messages = self.messages.split_off(self.n_given);
        let answer = messages.last().map(crate::messages::content).unwrap_or_default().to_string();
        Answer {
            answer,
            reasoning: self.thoughts,
            tool_calls: self.called,
            messages,
            ending: self.ending.unwrap_or(Ending::Stopped),
            prompt_tokens: self.prompt_tokens,
            read_tokens: self.read_tokens,
            tokens: self.n_token,
        }
    }

    /// The next token; none where the call that was written is the end of the round.
    fn next(&mut self, assistant: &Assistant, engine: &Engine) -> Result<Option<u32>, Error> {
        self.logits.clear();
        self.logits.extend_from_slice(engine.logits(self.sequence)?);
        if let Constraint::Held(grammar) = &mut self.constraint {
            if grammar.is_complete() {
                self.constraint = Constraint::Free;
                if self.reader.ends_with_call() {
                    return Ok(None);
                }
                if let Some(token) = assistant.closing_token() {
                    return Ok(Some(token));
                }
            } else if grammar.mask(&mut self.logits).is_err() {
                // Beyond the grammar's own limits; the mask was not applied.
                self.constraint = Constraint::Free;
            }
        }
        let history = engine.tokens(self.sequence)?;
        Ok(Some(self.sampler.sample(&mut self.logits, history)?))
    }

    /// Reads a text that was drawn.
    fn read(&mut self, text: &str, each: &mut Each<'_>) -> ControlFlow<()> {
        let pieces = self.reader.push(text);
        pieces.into_iter().try_for_each(|piece| self.take(piece, each))
    }

    fn take(&mut self, piece: Piece, each: &mut Each<'_>) -> ControlFlow<()> {
        match piece {
            Piece::Text(text) => {
                if !self.calls.is_empty() && !self.text.is_empty() {
                    self.text.push('\n');
                }
                self.text.push_str(&text);
                each(Event::Text(&text))
            }
            Piece::Reasoning(text) => {
                self.reasoning.push_str(&text);
                each(Event::Reasoning(&text))
            }
            Piece::Begun => each(Event::Begun),
            Piece::Call(call) => {
                self.calls.push(call);
                ControlFlow::Continue(())
            }
        }
    }

    /// Holds a call to its grammar from where it opens to where it closes: other text is drawn
    /// freely, at no cost.
    fn hold(&mut self, assistant: &Assistant, engine: &Engine, token: u32) {
        match (&mut self.constraint, self.reader.open_call()) {
            (constraint, None) => *constraint = Constraint::None,
            (Constraint::Held(grammar), Some(_)) => {
                if grammar.commit(token).is_err() {
                    self.constraint = Constraint::Free;
                }
            }
            (Constraint::Free, Some(_)) => {}
            (Constraint::None, Some(written)) => {
                let grammar = assistant.call_grammar(engine.config().vocab_size);
                let grammar = grammar.and_then(|mut grammar| {
                    // The last token may hold more than what opens the call.
                    let begun = assistant.tokenizer().encode(written, Special::None);
                    begun.into_iter().try_for_each(|token| grammar.commit(token)).ok()?;
                    Some(grammar)
                });
                self.constraint = match grammar {
                    Some(grammar) => Constraint::Held(Box::new(grammar)),
                    None => Constraint::Free,
                };
            }
        }
    }

    /// The model ended its text: the answer, or calls that are to be answered.
    fn end_round(
        &mut self,
        assistant: &Assistant,
        engine: &mut Engine,
        each: &mut Each<'_>,
    ) -> Result<(), Error> {
        let rest = self.decoder.flush();
        let broken = self.read(&rest, each).is_break() || self.finish_reading(each).is_break();
        if broken {
            self.stop(each);
            return Ok(());
        }
        if self.calls.is_empty() {
            self.end(Ending::End, each);
            return Ok(());
        }
        if self.round >= self.options.rounds {
            self.calls.clear();
            self.end(Ending::Rounds, each);
            return Ok(());
        }
        self.round += 1;
        if self.call(assistant, each).is_break() {
            // What was called and answered stays; the assistant has not said anything yet.
            self.stop(each);
            return Ok(());
        }
        let forgets = self.options.forgets;
        let prompt = match fitted(assistant, engine, &mut self.thread, &self.messages, forgets) {
            Ok(prompt) => prompt,
            Err(Error::TooLong { .. }) => {
                self.end(Ending::Context, each);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let (sequence, read) = place(engine, Some(self.sequence), &prompt.tokens, &self.options)?;
        self.sequence = sequence;
        self.thread.sequence = Some(sequence);
        self.read_tokens += read;
        self.reader = reader(assistant, prompt.is_thinking);
        self.constraint = Constraint::None;
        Ok(())
    }

    fn finish_reading(&mut self, each: &mut Each<'_>) -> ControlFlow<()> {
        let pieces = self.reader.finish();
        pieces.into_iter().try_for_each(|piece| self.take(piece, each))
    }

    /// Runs this round's calls, and adds them and their answers to the conversation.
    fn call(&mut self, assistant: &Assistant, each: &mut Each<'_>) -> ControlFlow<()> {
        let calls = std::mem::take(&mut self.calls);
        let ids: Vec<String> = (0..calls.len())
            // Nine letters and digits, which Mistral's templates insist on.
            .map(|i| format!("call{:05}", (self.called.len() + self.n_given + i) % 100_000))
            .collect();
        let written: Vec<Value> = calls
            .iter()
            .zip(&ids)
            .map(|(call, id)| {
                let function = json!({ "name": call.name, "arguments": call.arguments });
                json!({ "id": id, "type": "function", "function": function })
            })
            .collect();
        self.say(&written);
        let mut flow = ControlFlow::Continue(());
        for (call, id) in calls.into_iter().zip(ids) {
            let called = tool::run(assistant.tools(), call);
            self.messages.push(json!({
                "role": "tool",
                "name": called.name,
                "tool_call_id": id,
                "content": called.result,
            }));
            if flow.is_continue() {
                flow = each(Event::Called(&called));
            }
            self.called.push(called);
        }
        flow
    }

    /// Adds what the assistant said in this round to the conversation.
    fn say(&mut self, calls: &[Value]) {
        self.messages.push(spoken(&self.text, &self.reasoning, calls));
        if !self.thoughts.is_empty() && !self.reasoning.is_empty() {
            self.thoughts.push_str("\n\n");
        }
        self.thoughts.push_str(&self.reasoning);
        self.text.clear();
        self.reasoning.clear();
    }

    fn end(&mut self, ending: Ending, each: &mut Each<'_>) {
        self.ending = Some(ending);
        // What was held back is text now. Calls that nobody answers are no part of a conversation.
        if self.reader.open_call().is_none() {
            let _ = self.finish_reading(each);
        }
        self.calls.clear();
        self.say(&[]);
        let _ = each(Event::End(self.n_token));
    }
}

/// A prompt that fits.
struct Prompt {
    tokens: Vec<u32>,
    is_thinking: bool,
}

fn reader(assistant: &Assistant, is_thinking: bool) -> Reader {
    let names = assistant.tools().iter().map(|tool| tool.name().to_string()).collect();
    Reader::new(assistant.call_format(), names, is_thinking)
}

/// Room that is kept for an answer: a quarter of the context, at most this many tokens.
const ROOM: usize = 256;

/// The prompt of a conversation, without its oldest messages where it would not fit and may forget:
/// then it is cut to half of the context, so that it is not cut anew in every turn.
fn fitted(
    assistant: &Assistant,
    engine: &Engine,
    thread: &mut Thread,
    messages: &[Value],
    forgets: bool,
) -> Result<Prompt, Error> {
    let context = engine.context();
    let most = match forgets {
        true => context - ROOM.min(context / 4),
        // One token of an answer.
        false => context - 1,
    };
    let n_system =
        messages.iter().take_while(|m| matches!(role(m), "system" | "developer")).count();
    // Where a conversation may begin: its later questions.
    let begins = |from: usize| {
        let mut later = (from + 1..messages.len()).filter(|&i| role(&messages[i]) == "user");
        later.next()
    };
    if n_system + thread.forgotten >= messages.len() {
        thread.forgotten = 0;
    }
    let mut limit = most;
    loop {
        let start = n_system + thread.forgotten;
        let kept: Vec<Value> =
            messages[..n_system].iter().chain(&messages[start..]).cloned().collect();
        let (tokens, is_thinking) = assistant.prompt(&kept)?;
        if tokens.is_empty() {
            return Err(Error::NoMessage);
        }
        if tokens.len() <= limit {
            return Ok(Prompt { tokens, is_thinking });
        }
        match begins(start).filter(|_| forgets) {
            Some(next) => thread.forgotten = next - n_system,
            None if tokens.len() <= most || (forgets && tokens.len() < context) => {
                return Ok(Prompt { tokens, is_thinking });
            }
            None => return Err(Error::TooLong { tokens: tokens.len(), context }),
        }
        limit = most / 2;
    }
}

/// Lets a sequence hold exactly these tokens; what it has in common with them stays in the cache.
/// Returns it, and how many tokens are new to it.
fn place(
    engine: &mut Engine,
    sequence: Option<SequenceId>,
    tokens: &[u32],
    options: &TurnOptions,
) -> Result<(SequenceId, usize), Error> {
    if let Some(id) = sequence {
        let held = engine.tokens(id)?;
        let shared = held.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        if shared > 0 {
            engine.truncate(id, shared)?;
            engine.force(id, &tokens[shared..])?;
            return Ok((id, tokens.len() - shared));
        }
        let new = engine.add(tokens, options.sequence.clone())?;
        engine.remove(id)?;
        return Ok((new, tokens.len()));
    }
    Ok((engine.add(tokens, options.sequence.clone())?, tokens.len()))
}
