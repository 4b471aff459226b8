//! An answer as it is written: text on stdout, thoughts and tool cards on stderr.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use llmos_agent::{Answer, Called, Ending, Event};
use serde_json::Value;

use super::conversation::Chat;
use crate::terminal::{Style, Terminal, number_of, plain};

/// Prompts of which fewer tokens are new are read before anyone sees a bar.
const LONG: usize = 512;

/// Shows one answer.
pub(super) struct Show<'a> {
    terminal: &'a Terminal,
    bar: Option<ProgressBar>,
    start: Instant,
    first: Option<Instant>,
    last: Instant,
    /// Something was said, and its line is open.
    is_open: bool,
    /// A thought is open.
    is_thinking: bool,
    failed: Option<anyhow::Error>,
}

/// An answer that was shown.
pub(super) struct Said {
    pub(super) answer: Answer,
    /// From the question to the first token.
    pub(super) first: Duration,
    /// From the first token to the last, tools included.
    pub(super) rest: Duration,
}

impl Said {
    /// One line of figures for people.
    pub(super) fn line(&self, chat: &Chat) -> String {
        let Answer { tokens, prompt_tokens, read_tokens, ending, .. } = self.answer;
        let mut line = number_of(tokens, "token");
        if tokens > 1 {
            let rate = (tokens - 1) as f64 / self.rest.as_secs_f64().max(1e-9);
            line += &format!(", {rate:.1} tok/s");
        }
        line += &format!("; prompt {}", number_of(prompt_tokens, "token"));
        if read_tokens < prompt_tokens {
            line += &format!(", {read_tokens} of them new");
        }
        line += &format!(", first token after {:.2} s", self.first.as_secs_f64());
        line += match ending {
            Ending::End => "",
            Ending::Tokens => "; cut at --tokens",
            Ending::Context => "; the context is full",
            Ending::Stopped => "; stopped",
            Ending::Rounds => "; too many tool calls",
        };
        if !chat.sampling.is_greedy() {
            let seed = chat.seed.wrapping_add(chat.n_answer.saturating_sub(1));
            line += &format!("; seed {seed}");
        }
        line
    }
}

impl<'a> Show<'a> {
    pub(super) fn new(terminal: &'a Terminal) -> Show<'a> {
        let now = Instant::now();
        Show {
            terminal,
            bar: None,
            start: now,
            first: None,
            last: now,
            is_open: false,
            is_thinking: false,
            failed: None,
        }
    }

    /// Shows an event; a reader that went away ends the answer.
    pub(super) fn event(&mut self, event: Event<'_>) -> ControlFlow<()> {
        let shown = match event {
            Event::Reading { computed, tokens } => {
                self.reading(computed, tokens);
                Ok(())
            }
            Event::Token => {
                self.last = Instant::now();
                self.first.get_or_insert(self.last);
                self.clear_bar();
                Ok(())
            }
            Event::Text(text) => self.text(text),
            Event::Reasoning(text) => {
                self.clear_bar();
                self.is_thinking = true;
                self.terminal.murmur(self.terminal.talk_style(Style::Dim, text));
                Ok(())
            }
            Event::Begun => self.close_line(),
            Event::Called(called) => self.card(called),
            _ => Ok(()),
        };
        match shown {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// The answer is over.
    ///
    /// # Errors
    /// What could not be shown.
    pub(super) fn end(mut self, answer: Answer) -> anyhow::Result<Said> {
        self.clear_bar();
        self.close_line()?;
        if let Some(error) = self.failed {
            return Err(error);
        }
        let first = self.first.unwrap_or_else(Instant::now);
        Ok(Said {
            answer,
            first: first - self.start,
            rest: self.last.saturating_duration_since(first),
        })
    }

    fn reading(&mut self, computed: usize, tokens: usize) {
        if tokens - computed > LONG && self.bar.is_none() {
            self.bar = Some(self.terminal.step_bar(Some(tokens as u64), "reading"));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(computed as u64);
        }
    }

    fn clear_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn text(&mut self, text: &str) -> anyhow::Result<()> {
        self.clear_bar();
        if std::mem::take(&mut self.is_thinking) {
            self.terminal.murmur("\n\n");
        }
        self.is_open = true;
        match self.terminal.is_interactive() {
            true => self.terminal.print(text.split('\n').map(plain).collect::<Vec<_>>().join("\n")),
            false => self.terminal.print(text),
        }
    }

    fn close_line(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.is_thinking) {
            self.terminal.murmur("\n");
        }
        if std::mem::take(&mut self.is_open) {
            self.terminal.print("\n")?;
        }
        Ok(())
    }

    fn card(&mut self, called: &Called) -> anyhow::Result<()> {
        self.close_line()?;
        self.terminal.say(card(called, &|style, text| self.terminal.talk_style(style, text)));
        Ok(())
    }
}

/// A call and its result in a box.
fn card(called: &Called, paint: &dyn Fn(Style, String) -> String) -> String {
    let edge = |sign: &str| paint(Style::Dim, sign.to_string());
    let mut lines = vec![format!("{} {}", edge("╭─"), paint(Style::Cyan, called.name.clone()))];
    for (name, value) in called.arguments.as_object().into_iter().flatten() {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        for line in format!("{name}: {value}").lines() {
            lines.push(format!("{} {}", edge("│"), plain(line)));
        }
    }
    let mut result = called.result.lines().peekable();
    while let Some(line) = result.next() {
        let sign = if result.peek().is_some() { "│" } else { "╰─" };
        lines.push(format!("{} {}", edge(sign), paint(Style::Bold, plain(line))));
    }
    if called.result.is_empty() {
        lines.push(edge("╰─"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_card_has_name_arguments_and_result() {
        let check = |arguments: Value, result: &str, expected: &str| {
            let called = Called { name: "f".into(), arguments, result: result.into() };
            assert_eq!(card(&called, &|_, text| text), expected);
        };
        check(json!({ "x": "1 + 1", "n": 2 }), "2", "╭─ f\n│ x: 1 + 1\n│ n: 2\n╰─ 2");
        check(json!({}), "a\nb", "╭─ f\n│ a\n╰─ b");
        check(json!({ "x": "\u{1b}[2J" }), "", "╭─ f\n│ x: \u{FFFD}[2J\n╰─");
    }
}
