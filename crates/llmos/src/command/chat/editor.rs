//! The line that is typed: editing, history, completion, several lines.

use std::path::PathBuf;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Behavior, Cmd, CompletionType, Config, Context, Editor, Helper, KeyCode, KeyEvent, Modifiers,
};

use super::commands::COMMANDS;
use crate::places;
use crate::registry;
use crate::terminal::Terminal;

/// Lines of history that are kept.
const HISTORY: usize = 1000;

/// What came of a prompt.
pub(super) enum Typed {
    /// Some text, fences and backslashes at ends of lines resolved.
    Text(String),
    /// Ctrl-C: the line is dropped.
    Dropped,
    /// Ctrl-D, or the terminal is gone.
    End,
}

/// Reads lines from the terminal.
pub(super) struct Prompt {
    editor: Editor<Words, FileHistory>,
    history: Option<PathBuf>,
}

impl Prompt {
    /// # Errors
    /// The terminal cannot be used.
    pub(super) fn new(terminal: &Terminal) -> anyhow::Result<Prompt> {
        // Prompts are no data: where answers go to a file, they stay on the terminal.
        let behavior = match terminal.is_interactive() {
            true => Behavior::Stdio,
            false => Behavior::PreferTerm,
        };
        let config = Config::builder()
            .max_history_size(HISTORY)?
            .completion_type(CompletionType::List)
            .auto_add_history(false)
            .behavior(behavior)
            .build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Words { files: FilenameCompleter::new() }));
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
        let history = places::data_folder().map(|folder| folder.join("history/chat.txt"));
        let history = history.and_then(|path| {
            registry::make_folder(path.parent().unwrap_or(&path))?;
            Ok(path)
        });
        let history = match history {
            Ok(path) => Some(path),
            Err(error) => {
                terminal.detail(format_args!("what is typed is not kept: {error}"));
                None
            }
        };
        if let Some(path) = &history {
            // There is none the first time.
            let _ = editor.load_history(path);
        }
        Ok(Prompt { editor, history })
    }

    /// Reads what is typed after `prompt`, beginning with `initial`.
    ///
    /// # Errors
    /// The terminal cannot be read.
    pub(super) fn read(&mut self, prompt: &str, initial: &str) -> anyhow::Result<Typed> {
        match self.editor.readline_with_initial(prompt, (initial, "")) {
            Ok(text) => {
                if !text.trim().is_empty() {
                    let _ = self.editor.add_history_entry(text.as_str());
                    if let Some(path) = &self.history {
                        // A full disk is no reason to stop talking.
                        let _ = self.editor.append_history(path);
                    }
                }
                Ok(Typed::Text(resolved(&text)))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Dropped),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a text goes on in another line: a backslash at its end, or a fence that is not closed.
fn is_open(text: &str) -> bool {
    for fence in ["\"\"\"", "```"] {
        if text.trim_start().starts_with(fence) {
            return text.matches(fence).count() % 2 == 1;
        }
    }
    text.ends_with('\\') || text.matches("```").count() % 2 == 1
}

/// The text without the signs that only say where it ends: `"""` around it, backslashes at ends of
/// lines. A fence of backquotes is part of the text.
fn resolved(text: &str) -> String {
    let trimmed = text.trim();
    if let Some(inner) = trimmed.strip_prefix("\"\"\"").and_then(|rest| rest.strip_suffix("\"\"\""))
    {
        return inner.trim_matches('\n').to_string();
    }
    if trimmed.contains("```") {
        return text.to_string();
    }
    text.replace("\\\n", "\n")
}

/// What the editor knows about words.
struct Words {
    files: FilenameCompleter,
}

impl Helper for Words {}
impl Highlighter for Words {}

impl Hinter for Words {
    type Hint = String;
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_open(context.input()) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..at];
        if typed.starts_with("/save ") || typed.starts_with("/load ") {
            return self.files.complete(line, at, context);
        }
        Ok((0, completions(typed)))
    }
}

/// The commands that begin with what was typed.
fn completions(typed: &str) -> Vec<Pair> {
    let Some(begun) = typed.strip_prefix('/') else { return Vec::new() };
    let known = COMMANDS.iter().filter(|(_, name, ..)| name.starts_with(begun));
    known
        .map(|(_, name, argument, _)| {
            let space = if argument.is_empty() { "" } else { " " };
            Pair { display: format!("/{name}"), replacement: format!("/{name}{space}") }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_may_have_several_lines() {
        let check = |text: &str, open: bool, expected: &str| {
            assert_eq!(is_open(text), open, "{text}");
            if !open {
                assert_eq!(resolved(text), expected, "{text}");
            }
        };
        check("Hello", false, "Hello");
        check("Hello\\", true, "");
        check("Hello\\\nworld", false, "Hello\nworld");
        check("\"\"\"", true, "");
        check("\"\"\"a \\\nb\n\n\"\"\"", false, "a \\\nb");
        check("What is this?\n```", true, "");
        check("```\nx \\\ny\n```", false, "```\nx \\\ny\n```");
        check("say \"\"\" please", false, "say \"\"\" please");
    }

    #[test]
    fn commands_are_completed() {
        let check = |typed: &str, expected: &[&str]| {
            let found: Vec<String> =
                completions(typed).into_iter().map(|pair| pair.replacement).collect();
            assert_eq!(found, expected, "{typed}");
        };
        check("/st", &["/stats"]);
        check("/te", &["/temp "]);
        check("/s", &["/system ", "/save ", "/stats"]);
        check("s", &[]);
    }
}
