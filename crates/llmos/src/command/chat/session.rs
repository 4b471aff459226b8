//! A chat in a terminal.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use llmos_agent::messages::{content, message, role};
use serde_json::Value;

use super::commands::{self, COMMANDS, Command, Line};
use super::conversation::{Chat, set_thinking};
use super::editor::{Prompt, Typed};
use super::saved;
use crate::Outcome;
use crate::failure::{OutputClosed, failure, hint_of, message_of};
use crate::terminal::{Style, Terminal, number_of, plain};

/// A chat that is going on.
struct Session<'a> {
    chat: Chat,
    terminal: &'a Terminal,
    prompt: Prompt,
    /// Files that this chat wrote, which it may write again.
    written: HashSet<PathBuf>,
    /// Figures of the last answer.
    figures: String,
}

/// What follows a line.
enum Next {
    /// Another prompt.
    Prompt,
    /// An answer to the last message.
    Answer,
    /// A prompt that begins with this text, whose answer takes the place of the message at the
    /// index and of all after it.
    Edit(usize, String),
    End,
}

pub(super) fn run(chat: Chat, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let prompt = Prompt::new(terminal)?;
    let tools = match chat.assistant.tools() {
        [] => "no tools".to_string(),
        tools => tools.iter().map(|tool| tool.name()).collect::<Vec<_>>().join(", "),
    };
    terminal.say(terminal.talk_style(
        Style::Dim,
        format_args!("{} ({tools}); /help, Ctrl-C stops an answer, Ctrl-D ends", chat.loaded.name),
    ));
    let (written, figures) = (HashSet::new(), String::new());
    let mut session = Session { chat, terminal, prompt, written, figures };
    session.talk()?;
    Ok(Outcome::Success)
}

impl Session<'_> {
    fn talk(&mut self) -> anyhow::Result<()> {
        let (mut initial, mut edited) = (String::new(), None);
        loop {
            let sign = self.terminal.style(Style::Green, ">") + " ";
            let typed = match self.prompt.read(&sign, &std::mem::take(&mut initial))? {
                Typed::Text(text) => text,
                Typed::Dropped => {
                    edited = None;
                    continue;
                }
                Typed::End => return Ok(()),
            };
            let before = self.chat.messages.clone();
            let next = match edited.take() {
                Some(index) if !typed.trim().is_empty() => {
                    self.chat.messages.truncate(index);
                    self.chat.ask(typed.trim());
                    Ok(Next::Answer)
                }
                Some(_) => Ok(Next::Prompt),
                None => self.line(&typed),
            };
            // What went wrong is said, and nothing that was said before is lost.
            match next {
                Ok(Next::Prompt) => {}
                Ok(Next::Edit(index, text)) => {
                    initial = text;
                    edited = Some(index);
                }
                Ok(Next::Answer) => self.answer(before)?,
                Ok(Next::End) => return Ok(()),
                Err(error) => self.complain(error)?,
            }
        }
    }

    fn complain(&self, error: anyhow::Error) -> anyhow::Result<()> {
        if error.is::<OutputClosed>() {
            return Err(error);
        }
        self.terminal.error(&message_of(&error), &hint_of(&error));
        Ok(())
    }

    /// Answers the last message. Where that cannot be, the conversation is what it was `before`.
    fn answer(&mut self, before: Vec<Value>) -> anyhow::Result<()> {
        match self.chat.answer(self.terminal) {
            Ok(said) => {
                self.figures = said.line(&self.chat);
                self.terminal.say(self.terminal.talk_style(Style::Dim, &self.figures));
                Ok(())
            }
            Err(error) => {
                self.chat.messages = before;
                self.complain(error)
            }
        }
    }

    fn line(&mut self, typed: &str) -> anyhow::Result<Next> {
        let (command, argument) = match commands::read(typed) {
            Line::Empty => return Ok(Next::Prompt),
            Line::Message(text) => {
                self.chat.ask(text);
                return Ok(Next::Answer);
            }
            Line::Command(command, argument) => (command, argument),
            Line::Unknown(name, near) => {
                let near = near.map_or_else(String::new, |near| format!("did you mean /{near}? "));
                return Err(failure(
                    format!("there is no command /{name}"),
                    format!("{near}/help lists them; a blank before / makes it a message"),
                ));
            }
        };
        self.command(command, argument)
    }

    fn command(&mut self, command: Command, argument: &str) -> anyhow::Result<Next> {
        let terminal = self.terminal;
        match command {
            Command::Quit => return Ok(Next::End),
            Command::Help => self.help()?,
            Command::System => self.system(argument)?,
            Command::Think => self.think(argument)?,
            Command::Retry => {
                self.back_to_question()?;
                return Ok(Next::Answer);
            }
            Command::Edit => {
                let (index, text) = self.mine(argument)?;
                return Ok(Next::Edit(index, text));
            }
            Command::Undo => {
                let index = self.back_to_question()?;
                self.chat.messages.truncate(index);
                terminal.say(format_args!("taken back; {} left", self.n_said()));
            }
            Command::History => self.history()?,
            Command::Save => self.save(argument)?,
            Command::Load => {
                if argument.is_empty() {
                    return Err(failure("/load needs a file", "/load chat.jsonl"));
                }
                self.chat.messages = saved::load(Path::new(argument))?;
                terminal.say(format_args!("{argument}: {}", self.n_said()));
                if self.chat.messages.last().is_some_and(|last| role(last) == "user") {
                    return Ok(Next::Answer);
                }
            }
            Command::Clear => {
                self.chat.messages.retain(is_system);
                terminal.say("a new conversation");
            }
            Command::Tools => self.tools(argument)?,
            Command::Temp => self.temperature(argument)?,
            Command::Stats => self.stats()?,
        }
        Ok(Next::Prompt)
    }

    /// Answers what was asked, even where nobody wants talk.
    fn tell(&self, line: impl std::fmt::Display) -> anyhow::Result<()> {
        self.terminal.print(format!("{line}\n"))
    }

    fn help(&self) -> anyhow::Result<()> {
        for (_, name, argument, meaning) in COMMANDS {
            let usage = format!("/{name} {argument}");
            self.tell(format_args!("{usage:<18}{meaning}"))?;
        }
        self.tell(
            "Several lines: Alt-Enter, a backslash at the end of a line, or lines between \"\"\" or ```.",
        )
    }

    fn system(&mut self, text: &str) -> anyhow::Result<()> {
        self.chat.messages.retain(|message| !is_system(message));
        if text.is_empty() {
            return self.tell("no system message");
        }
        self.chat.messages.insert(0, message("system", text));
        self.tell(format_args!("system: {text}"))
    }

    fn think(&mut self, argument: &str) -> anyhow::Result<()> {
        let value = match argument {
            "" | "on" => true,
            "off" => false,
            _ => {
                return Err(failure(format!("/think {argument}"), "it is /think on or /think off"));
            }
        };
        let Chat { assistant, loaded, .. } = &mut self.chat;
        let hint = "its template does not ask for enable_thinking";
        set_thinking(assistant, &loaded.name, value, hint)?;
        self.terminal.say(if value { "it thinks first" } else { "it answers at once" });
        Ok(())
    }

    /// Cuts the conversation after my last message; returns where that is.
    fn back_to_question(&mut self) -> anyhow::Result<usize> {
        let index = self.mine("")?.0;
        self.chat.messages.truncate(index + 1);
        Ok(index)
    }

    /// My message of that number from 1, or the last: its place and its text.
    fn mine(&self, number: &str) -> anyhow::Result<(usize, String)> {
        let messages = self.chat.messages.iter().enumerate();
        let mine: Vec<(usize, &Value)> = messages.filter(|(_, m)| role(m) == "user").collect();
        let found = match (number, number.parse::<usize>()) {
            ("", _) => mine.last(),
            (_, Ok(number)) => number.checked_sub(1).and_then(|index| mine.get(index)),
            (_, Err(_)) => None,
        };
        let found = found.map(|(index, message)| (*index, plain(content(message))));
        found.ok_or_else(|| {
            failure(
                match mine.len() {
                    0 => "nothing was said yet".to_string(),
                    n => format!("there is no message {number} of yours, but 1 to {n}"),
                },
                "/history shows their numbers",
            )
        })
    }

    fn history(&self) -> anyhow::Result<()> {
        if self.chat.messages.is_empty() {
            return self.tell("nothing was said yet");
        }
        let mut number = 0;
        for message in &self.chat.messages {
            let who = match role(message) {
                "user" => {
                    number += 1;
                    format!("{number} >")
                }
                role => format!("{role}:"),
            };
            let who = self.terminal.style(Style::Green, who);
            let mut text = content(message).to_string();
            for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
                let function = &call["function"];
                let name = function["name"].as_str().unwrap_or_default();
                text += &format!("{name}({})", function["arguments"]);
            }
            self.tell(format_args!("{who} {}", plain(&text)))?;
        }
        Ok(())
    }

    fn save(&mut self, argument: &str) -> anyhow::Result<()> {
        if argument.is_empty() {
            return Err(failure("/save needs a file", "/save chat.jsonl, or /save chat.md"));
        }
        if self.chat.messages.is_empty() {
            return Err(failure("nothing was said yet", "/save writes what was said so far"));
        }
        let path = PathBuf::from(argument);
        if path.exists() && !self.written.contains(&path) {
            return Err(failure(format!("{argument} exists"), "give another name"));
        }
        saved::save(&path, &self.chat.messages)?;
        self.terminal.say(format_args!("{argument}: {}", self.n_said()));
        self.written.insert(path);
        Ok(())
    }

    fn tools(&self, argument: &str) -> anyhow::Result<()> {
        if !argument.is_empty() {
            return Err(failure(
                format!("/tools {argument}"),
                "/tools lists what the model may call; `llmos chat --tools` and --no-tools choose",
            ));
        }
        let tools = self.chat.assistant.tools();
        if tools.is_empty() {
            self.tell("none: --no-tools, or the model's template knows none")?;
        }
        for tool in tools {
            self.tell(format_args!("{}: {}", tool.name(), tool.description()))?;
        }
        Ok(())
    }

    fn temperature(&mut self, argument: &str) -> anyhow::Result<()> {
        if argument.is_empty() {
            return self.tell(format_args!("temperature {}", self.chat.sampling.temperature()));
        }
        let value = argument.parse().ok().filter(|value: &f32| (0.0..=100.0).contains(value));
        let value = value.ok_or_else(|| {
            failure(
                format!("/temp {argument}"),
                "a temperature is a number from 0 to 100, such as 0.8",
            )
        })?;
        self.chat.sampling.set_temperature(value);
        self.terminal.say(format_args!("temperature {value}"));
        Ok(())
    }

    fn stats(&self) -> anyhow::Result<()> {
        let Chat { messages, assistant, loaded, thread, sampling, .. } = &self.chat;
        let tokens = match messages.is_empty() {
            true => 0,
            false => assistant.prompt(messages).map_err(super::conversation::explained)?.0.len(),
        };
        let context = loaded.engine.context();
        self.tell(format_args!(
            "{}, {tokens} of {context} tokens of context; temperature {}",
            self.n_said(),
            sampling.temperature()
        ))?;
        if thread.forgotten() > 0 {
            self.tell(format_args!("the oldest {} are left out", thread.forgotten()))?;
        }
        if !self.figures.is_empty() {
            self.tell(format_args!("last answer: {}", self.figures))?;
        }
        Ok(())
    }

    fn n_said(&self) -> String {
        number_of(self.chat.messages.len(), "message")
    }
}

fn is_system(message: &Value) -> bool {
    matches!(role(message), "system" | "developer")
}
