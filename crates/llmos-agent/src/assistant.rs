//! An assistant: a model's words and manners, and the tools that it may call.

use std::sync::{Arc, OnceLock};

use llmos_model::engine::SequenceId;
use llmos_model::grammar::{Grammar, GrammarSource, GrammarVocabulary};
use llmos_model::sampler::Sampler;
use llmos_model::{Engine, Error as ModelError};
use llmos_tokenizer::chat::{Extra, render};
use llmos_tokenizer::{Special, Tokenizer};
use serde_json::{Map, Value};

use crate::Error;
use crate::call::{CallFormat, THINK};
use crate::guard::Guard;
use crate::tool::Tool;
use crate::turn::{Answer, Event, Turn, TurnOptions};

/// How a model is spoken to, and what it may do. One serves any number of conversations at once.
pub struct Assistant {
    tokenizer: Arc<Tokenizer>,
    template: String,
    /// How it calls tools; none where it has none to call.
    format: Option<CallFormat>,
    tools: Vec<Tool>,
    /// The tools for the template; null where there are none.
    schemas: Value,
    variables: Map<String, Value>,
    now: Option<Box<dyn Fn() -> i64 + Send + Sync>>,
    guard: Guard,
    /// What calls must look like, compiled when the first is made; none where that is not possible.
    grammar: OnceLock<Option<Grammar>>,
}

/// A conversation's place in an engine: what has gone through the model stays for the next turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thread {
    /// The sequence that holds it.
    pub(crate) sequence: Option<SequenceId>,
    /// Messages after the system's that no longer fit the context and are left out.
    pub(crate) forgotten: usize,
}

impl Thread {
    /// How many of the oldest messages are left out because the context is full.
    pub fn forgotten(&self) -> usize {
        self.forgotten
    }

    /// Gives the memory back.
    ///
    /// # Errors
    /// The engine's, for a sequence of another engine.
    pub fn close(self, engine: &mut Engine) -> Result<(), Error> {
        if let Some(sequence) = self.sequence {
            engine.remove(sequence)?;
        }
        Ok(())
    }
}

/// What a template is given of a vocabulary: `bos_token`, `eos_token`, `pad_token`, where it has them.
pub fn token_variables(tokenizer: &Tokenizer) -> Map<String, Value> {
    let tokens = [
        ("bos_token", tokenizer.bos()),
        ("eos_token", tokenizer.eos()),
        ("pad_token", tokenizer.pad()),
    ];
    let named = |(name, id): (&str, Option<u32>)| {
        Some((name.to_string(), tokenizer.token_name(id?).into()))
    };
    tokens.into_iter().filter_map(named).collect()
}

impl Assistant {
    /// An assistant without tools. `template` is the model's own chat template.
    pub fn new(tokenizer: Arc<Tokenizer>, template: impl Into<String>) -> Assistant {
        let variables = token_variables(&tokenizer);
        Assistant {
            guard: Guard::new(&tokenizer),
            tokenizer,
            template: template.into(),
            format: None,
            tools: Vec::new(),
            schemas: Value::Null,
            variables,
            now: None,
            grammar: OnceLock::new(),
        }
    }

    /// Offers tools, if the template knows how they are called; else there are none.
    #[must_use]
    pub fn with_tools(mut self, tools: Vec<Tool>) -> Assistant {
        self.format = CallFormat::of_template(&self.template).filter(|_| !tools.is_empty());
        if self.format.is_some() {
            self.schemas = tools.iter().map(Tool::schema).collect();
            self.tools = tools;
        }
        self
    }

    /// The local time, as seconds since 1970-01-01 00:00, for templates that tell it.
    #[must_use]
    pub fn with_clock(mut self, now: impl Fn() -> i64 + Send + Sync + 'static) -> Assistant {
        self.now = Some(Box::new(now));
        self
    }

    /// Sets what the template is given besides the messages, such as `enable_thinking`.
    pub fn set_variable(&mut self, name: &str, value: Option<Value>) {
        match value {
            Some(value) => drop(self.variables.insert(name.to_string(), value)),
            None => drop(self.variables.remove(name)),
        }
    }

    /// The template.
    pub fn template(&self) -> &str {
        &self.template
    }

    /// The tools that are offered.
    pub fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// How calls are written; none without tools.
    pub fn call_format(&self) -> Option<CallFormat> {
        self.format
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Answers the last of `messages` (`{"role", "content", …}`, as [`crate::messages::normalized`]
    /// takes them), tool calls included. `each` sees what happens as it happens, and may break off;
    /// so may whoever raises the engine's stop flag, which is lowered then. What was said so far is
    /// the answer in both cases.
    ///
    /// # Errors
    /// Messages that cannot be answered, a template that refuses them, and the engine's. The thread
    /// can be used again.
    pub fn answer(
        &self,
        engine: &mut Engine,
        thread: &mut Thread,
        messages: &[Value],
        sampler: Sampler,
        options: TurnOptions,
        each: &mut dyn FnMut(Event<'_>) -> std::ops::ControlFlow<()>,
    ) -> Result<Answer, Error> {
        let mut turn = Turn::begin(self, engine, *thread, messages, sampler, options)?;
        *thread = turn.thread();
        while !turn.is_over() {
            while !engine.is_ready(turn.sequence())? {
                match engine.step() {
                    Ok(events) => turn.note(&events, each),
                    Err(ModelError::Cancelled) => {
                        engine.stop_flag().store(false, std::sync::atomic::Ordering::Relaxed);
                        turn.stop(each);
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if !turn.is_over() {
                turn.go_on(self, engine, each)?;
                *thread = turn.thread();
            }
        }
        Ok(turn.into_answer())
    }

    /// The tokens of a prompt for an answer to these messages, and whether the answer begins inside a
    /// thought.
    ///
    /// # Errors
    /// [`Error::Template`].
    pub fn prompt(&self, messages: &[Value]) -> Result<(Vec<u32>, bool), Error> {
        let extra =
            Extra { variables: self.variables.clone(), now: self.now.as_ref().map(|now| now()) };
        let messages = messages.iter().map(|message| self.guard.disarmed(message)).collect();
        let tools = Some(&self.schemas).filter(|schemas| !schemas.is_null());
        let text = render(&self.template, &Value::Array(messages), tools, true, &extra)?;
        let mut tokens = Vec::new();
        for (_, part) in Guard::parts(&text) {
            tokens.extend(self.tokenizer.encode(part, Special::Parse));
        }
        Ok((tokens, text.trim_end().ends_with(THINK)))
    }

    /// What must follow the opening of a call; none where no grammar can be had.
    pub(crate) fn call_grammar(&self, vocab_size: usize) -> Option<Grammar> {
        self.grammar.get_or_init(|| self.compile(vocab_size)).clone()
    }

    fn compile(&self, vocab_size: usize) -> Option<Grammar> {
        let tokenizer = &self.tokenizer;
        let end = *tokenizer.end_ids().first()?;
        let mut pieces: Vec<Vec<u8>> = (0..tokenizer.vocab_size() as u32)
            .map(|id| match tokenizer.is_special(id) {
                true => Vec::new(),
                false => tokenizer.token_bytes(id).to_vec(),
            })
            .collect();
        // A model may have more rows than its tokenizer has tokens.
        pieces.resize(vocab_size.max(pieces.len()), Vec::new());
        let source = self.format?.grammar(&self.tools, self.closing_token().is_some());
        let vocabulary = GrammarVocabulary::new(&pieces, end).ok()?;
        vocabulary.compile(&GrammarSource::Lark(&source)).ok()
    }

    /// The control token that closes a call, where one does.
    pub(crate) fn closing_token(&self) -> Option<u32> {
        self.format?.closing_token(&self.tokenizer)
    }
}
