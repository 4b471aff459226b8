//! A model that was loaded to be talked with, and what was said.

use std::ops::ControlFlow;
use std::time::Instant;

use llmos_agent::messages::message;
use llmos_agent::{Answer, Assistant, Event, Thread, Tool, TurnOptions, tool};
use llmos_model::ModelFiles;
use serde_json::{Value, json};

use super::show::{Said, Show};
use super::{Arguments, Manner, Think, ToolName};
use crate::failure::failure;
use crate::load::{self, Adapting, Compute, Loaded, Memory};
use crate::sampling::Sampling;
use crate::terminal::Terminal;
use crate::{interrupt, local_time, model_name, vocabulary};

/// A chat: the model, and the conversation so far.
pub(super) struct Chat {
    pub(super) loaded: Loaded,
    pub(super) assistant: Assistant,
    pub(super) sampling: Sampling,
    /// The system's message first, where there is one.
    pub(super) messages: Vec<Value>,
    pub(super) thread: Thread,
    pub(super) tokens: Option<usize>,
    /// The seed of the first answer; each next one has the next.
    pub(super) seed: u64,
    /// Answers so far, given up ones included.
    pub(super) n_answer: u64,
}

impl Chat {
    pub(super) fn open(arguments: &Arguments, terminal: &Terminal) -> anyhow::Result<Chat> {
        let Arguments { model, manner, sampling, adapting, memory, compute, .. } = arguments;
        Chat::new(model.as_deref(), manner, sampling, adapting, memory, compute, terminal)
    }

    /// A chat with MODEL, or with the bundled assistant.
    ///
    /// # Errors
    /// The model or its adapter cannot be loaded, or has no chat template.
    pub(super) fn new(
        model: Option<&str>,
        manner: &Manner,
        sampling: &Sampling,
        adapting: &Adapting,
        memory: &Memory,
        compute: &Compute,
        terminal: &Terminal,
    ) -> anyhow::Result<Chat> {
        let mut loaded = load(model, sampling, memory.options(), compute, terminal)?;
        adapting.give(&mut loaded.engine, &loaded.device)?;
        let assistant = assistant(&loaded, adapting, manner)?;
        let system = manner.system.iter().map(|text| message("system", text.as_str()));
        Ok(Chat {
            loaded,
            assistant,
            messages: system.collect(),
            thread: Thread::default(),
            tokens: manner.tokens,
            seed: sampling.seed(),
            sampling: sampling.clone(),
            n_answer: 0,
        })
    }

    /// Adds a question.
    pub(super) fn ask(&mut self, text: &str) {
        self.messages.push(message("user", text));
    }

    /// Answers the last message on the terminal, and adds what was said to the conversation. Ctrl-C
    /// stops the answer.
    ///
    /// # Errors
    /// As [`Assistant::answer`]; the conversation is as it was.
    pub(super) fn answer(&mut self, terminal: &Terminal) -> anyhow::Result<Said> {
        let raising = interrupt::raises(self.loaded.engine.stop_flag());
        let mut show = Show::new(terminal);
        let forgotten = self.thread.forgotten();
        let answer = self.turn(&mut |event| show.event(event));
        drop(raising);
        // An interrupt that came after the last token is none of the next answer's.
        self.loaded.engine.stop_flag().store(false, std::sync::atomic::Ordering::Relaxed);
        let said = show.end(answer?)?;
        if self.thread.forgotten() > forgotten {
            terminal.say(format_args!(
                "the context is full: the oldest {} messages are left out from here on",
                self.thread.forgotten()
            ));
        }
        Ok(said)
    }

    /// Answers the last message, as one JSON object.
    ///
    /// # Errors
    /// As [`Chat::answer`].
    pub(super) fn answer_json(&mut self) -> anyhow::Result<Value> {
        let start = Instant::now();
        let answer = self.turn(&mut |_| ControlFlow::Continue(()))?;
        let calls: Vec<Value> = answer.tool_calls.iter().map(|called| called.to_json()).collect();
        let seed = (!self.sampling.is_greedy()).then_some(self.seed);
        Ok(json!({
            "model": self.loaded.name,
            "answer": answer.answer,
            "reasoning": answer.reasoning,
            "tool_calls": calls,
            "messages": self.messages,
            "ending": answer.ending.name(),
            "prompt_tokens": answer.prompt_tokens,
            "tokens": answer.tokens,
            "seconds": start.elapsed().as_secs_f64(),
            "seed": seed,
        }))
    }

    fn turn(
        &mut self,
        each: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> anyhow::Result<Answer> {
        let seed = self.seed.wrapping_add(self.n_answer);
        self.n_answer += 1;
        let sampler = self.sampling.sampler(Some(self.assistant.tokenizer()), seed)?;
        let options = TurnOptions { tokens: self.tokens, forgets: true, ..TurnOptions::default() };
        let engine = &mut self.loaded.engine;
        let messages = &self.messages;
        let answer =
            self.assistant.answer(engine, &mut self.thread, messages, sampler, options, each);
        let answer = answer.map_err(explained)?;
        self.messages.extend(answer.messages.iter().cloned());
        Ok(answer)
    }
}

/// Loads MODEL, or the bundled assistant. The likeliest answer is one answer, which other programs
/// give too.
///
/// # Errors
/// As [`load::load`].
pub(super) fn load(
    model: Option<&str>,
    sampling: &Sampling,
    options: llmos_model::EngineOptions,
    compute: &Compute,
    terminal: &Terminal,
) -> anyhow::Result<Loaded> {
    let compute = match sampling.is_greedy() {
        true => compute.exact_by_default(),
        false => compute.clone(),
    };
    let device = compute.device(terminal)?;
    let (name, files) = open(model, terminal)?;
    load::load_files(name, files, &device, options, terminal)
}

/// Opens MODEL, or the bundled assistant, without reading its weights.
///
/// # Errors
/// As [`load::open`].
pub(super) fn open<'a>(
    model: Option<&'a str>,
    terminal: &Terminal,
) -> anyhow::Result<(&'a str, ModelFiles)> {
    Ok(match model {
        Some(name) => (name, load::open(name, terminal)?),
        None => (model_name::ASSISTANT, model_name::assistant()?),
    })
}

/// The assistant that a model is, with its adapter.
///
/// # Errors
/// It has no tokenizer or no chat template, or the file of one cannot be read.
pub(super) fn assistant(
    loaded: &Loaded,
    adapting: &Adapting,
    manner: &Manner,
) -> anyhow::Result<Assistant> {
    let tokenizer = loaded.tokenizer()?.clone();
    let template = match &manner.template {
        Some(path) => Some(vocabulary::given_template(path)?),
        None => match (adapting.template(), loaded.engine.model().files()) {
            (Some(template), _) => Some(template),
            (None, Some(files)) => vocabulary::template(files, &tokenizer)?,
            (None, None) => None,
        },
    };
    let template = template.ok_or_else(|| {
        failure(
            format!("{} has no chat template: it was not made to be talked with", loaded.name),
            "`llmos run` goes on with a text; --template FILE gives a template",
        )
    })?;
    let names = match (manner.no_tools, manner.tools.is_empty()) {
        (true, _) => &[][..],
        (false, true) => &[ToolName::Calculator, ToolName::Clock],
        (false, false) => &manner.tools,
    };
    let tools: Vec<Tool> = names
        .iter()
        .map(|name| match name {
            ToolName::Calculator => tool::calculator(),
            ToolName::Clock => tool::clock(local_time::seconds),
        })
        .collect();
    let mut assistant =
        Assistant::new(tokenizer, template).with_tools(tools).with_clock(local_time::seconds);
    if let Some(think) = manner.think {
        let hint = "its template does not ask for enable_thinking: leave --think out";
        set_thinking(&mut assistant, &loaded.name, think == Think::On, hint)?;
    }
    Ok(assistant)
}

/// Whether the model thinks before it answers.
///
/// # Errors
/// Its template has no switch for that.
pub(super) fn set_thinking(
    assistant: &mut Assistant,
    name: &str,
    thinks: bool,
    hint: &'static str,
) -> anyhow::Result<()> {
    if !assistant.template().contains("enable_thinking") {
        return Err(failure(format!("{name} has no switch for thinking"), hint));
    }
    assistant.set_variable("enable_thinking", Some(thinks.into()));
    Ok(())
}

/// The agent's error with a hint for its kind.
pub(super) fn explained(error: llmos_agent::Error) -> anyhow::Error {
    use llmos_agent::Error;
    let hint = match error {
        Error::Model(error) => return load::explained(error),
        Error::Template(_) => {
            "the template refuses this conversation; --template FILE gives another"
        }
        Error::TooLong { .. } => {
            "shorten it, or change --context; `llmos inspect MODEL` shows the model's own"
        }
        _ => {
            "a message is {\"role\": \"user\", \"content\": TEXT}; what is answered is the last one, \
             a user's or a tool's"
        }
    };
    failure(error, hint)
}
