//! `llmos` alone: the bundled assistant, ready to talk.

use std::io::IsTerminal;

use super::super::serve;
use super::conversation::Chat;
use super::{Manner, session};
use crate::Outcome;
use crate::generation;
use crate::load::{Adapting, Compute, Memory};
use crate::sampling::Sampling;
use crate::terminal::{Style, Terminal};

/// What is asked where nobody asks anything: questions that the bundled assistant answers rightly at
/// every minute of the day. (Asked for the weekday it looks at the clock and says another one.)
const DEMO: [&str; 4] = [
    "Hello! Who are you?",
    "What is 58 times 37?",
    "Can you tell me what time it is?",
    "一盒鸡蛋有12个，7盒有多少个？",
];

#[derive(clap::Parser)]
struct Defaults {
    #[command(flatten)]
    manner: Manner,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    memory: Memory,
    #[command(flatten)]
    compute: Compute,
}

/// Talks in a terminal; without one it answers what standard input holds, or plays a short
/// conversation where that is empty.
pub(in crate::command) fn run(terminal: &Terminal) -> anyhow::Result<Outcome> {
    let is_interactive = std::io::stdin().is_terminal();
    let given = if is_interactive { Vec::new() } else { generation::stdin()? };
    let Defaults { manner, mut sampling, memory, compute } = clap::Parser::parse_from(["llmos"]);
    if !is_interactive {
        // The likeliest answers: the same each time.
        sampling.set_temperature(0.0);
    }
    if is_interactive {
        match serve::beside(terminal) {
            Ok(address) => terminal.say(format_args!("Web page: http://{address}")),
            Err(error) => terminal.detail(format_args!("there is no web page: {error:#}")),
        }
    }
    let adapting = Adapting::default();
    let mut chat = Chat::new(None, &manner, &sampling, &adapting, &memory, &compute, terminal)?;
    if is_interactive {
        terminal.say(
            "The assistant that comes with llmos: small, offline, and often wrong.\n\
             For a bigger one: llmos pull hf:OWNER/REPO, llmos chat MODEL.",
        );
        return session::run(chat, terminal);
    }
    let text = String::from_utf8_lossy(&given);
    if !text.trim().is_empty() {
        chat.ask(text.trim_end());
        chat.answer(terminal)?;
        return Ok(Outcome::Success);
    }
    for (i, question) in DEMO.iter().enumerate() {
        let gap = if i > 0 { "\n" } else { "" };
        let sign = terminal.style(Style::Green, ">");
        terminal.print(format!("{gap}{sign} {question}\n"))?;
        chat.ask(question);
        chat.answer(terminal)?;
    }
    Ok(Outcome::Success)
}
