//! What can be typed beside talking: `/name` and its argument.

use strsim::levenshtein;

/// A command of the chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    System,
    Think,
    Retry,
    Edit,
    Undo,
    History,
    Save,
    Load,
    Clear,
    Tools,
    Temp,
    Stats,
    Quit,
}

/// Name, argument and meaning of each, in the order of /help.
pub(super) const COMMANDS: [(Command, &str, &str, &str); 14] = [
    (Command::Help, "help", "", "this list"),
    (Command::System, "system", "TEXT", "what the model is told first; without TEXT nothing"),
    (Command::Think, "think", "[on|off]", "whether it thinks before it answers"),
    (Command::Retry, "retry", "", "answer my last message again"),
    (Command::Edit, "edit", "[N]", "change my last message, or number N, and answer it"),
    (Command::Undo, "undo", "", "take back my last message and its answer"),
    (Command::History, "history", "", "all that was said"),
    (Command::Save, "save", "FILE", "write the conversation: Markdown in .md, else a row of JSONL"),
    (Command::Load, "load", "FILE", "go on with the last row of a JSONL file"),
    (Command::Clear, "clear", "", "begin anew"),
    (Command::Tools, "tools", "", "what the model may call"),
    (Command::Temp, "temp", "[T]", "another temperature; 0 takes the likeliest token"),
    (Command::Stats, "stats", "", "tokens, and how full the context is"),
    (Command::Quit, "quit", "", "end; so does Ctrl-D"),
];

/// What a line is.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    /// Nothing.
    Empty,
    /// Something to say.
    Message(&'a str),
    /// A command and its argument.
    Command(Command, &'a str),
    /// No command: the name, and the one that was perhaps meant.
    Unknown(&'a str, Option<&'static str>),
}

/// Reads what was typed. A blank before the slash makes it a message.
pub(super) fn read(line: &str) -> Line<'_> {
    if line.trim().is_empty() {
        return Line::Empty;
    }
    let Some(command) = line.strip_prefix('/') else { return Line::Message(line.trim()) };
    let (name, argument) =
        command.split_once(char::is_whitespace).unwrap_or((command.trim_end(), ""));
    let wanted = match name {
        "exit" | "bye" | "q" => "quit",
        "?" => "help",
        name => name,
    };
    match COMMANDS.iter().find(|(_, known, ..)| *known == wanted) {
        Some((command, ..)) => Line::Command(*command, argument.trim()),
        None => Line::Unknown(name, nearest(name)),
    }
}

/// The command whose name is nearest, if it is near.
fn nearest(name: &str) -> Option<&'static str> {
    let begins = |known: &&str| !name.is_empty() && known.starts_with(name);
    let names = COMMANDS.iter().map(|(_, known, ..)| *known);
    let near = names.clone().map(|known| (levenshtein(known, name), known)).min();
    let near = near.filter(|(distance, _)| *distance <= 2).map(|(_, known)| known);
    names.clone().find(begins).or(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        let check = |line: &str, expected: Line<'_>| assert_eq!(read(line), expected, "{line}");
        check("  ", Line::Empty);
        check(" Hello\n", Line::Message("Hello"));
        check(" /usr/bin is a folder", Line::Message("/usr/bin is a folder"));
        check("/system Be brief.\nVery.", Line::Command(Command::System, "Be brief.\nVery."));
        check("/edit 2", Line::Command(Command::Edit, "2"));
        check("/exit", Line::Command(Command::Quit, ""));
        check("/retyr", Line::Unknown("retyr", Some("retry")));
        check("/hist", Line::Unknown("hist", Some("history")));
        check("/usr/bin", Line::Unknown("usr/bin", None));
        check("/", Line::Unknown("", None));
    }
}
