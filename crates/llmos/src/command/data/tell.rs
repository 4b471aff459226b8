//! `llmos data tell`: stories become conversations.

use std::path::{Path, PathBuf};

use llmos_train::data::{Preparation, Source, read_texts};
use llmos_train::synthetic::tell;
use serde::Serialize;

use super::{explained, refuse_existing};
use crate::failure::failure;
use crate::terminal::{Terminal, number_of};
use crate::{Outcome, registry};

/// Write conversations in which somebody asks for a story, and is told one.
///
/// TEXTS are documents as `data prepare` takes them, English or Chinese. A story is asked for by what
/// comes in it, or by nothing in particular; texts that are too short or too long to be told are left
/// out. The same flags give the same bytes on any machine.
#[derive(clap::Args, Debug)]
pub(super) struct Tell {
    /// Files of stories.
    #[arg(required = true)]
    texts: Vec<PathBuf>,
    /// The file to write.
    #[arg(long, value_name = "CHATS")]
    out: PathBuf,
    /// Seed of the questions.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    out: &'a Path,
    seed: u64,
    texts: u64,
    rows: usize,
}

pub(super) fn run(arguments: &Tell, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let Tell { texts, out, seed, .. } = arguments;
    refuse_existing(out, arguments.force)?;
    let preparation = Preparation::new(texts.iter().map(Source::new).collect());
    let mut report = Report { out, seed: *seed, texts: 0, rows: 0 };
    let (mut lines, mut story) = (Vec::new(), String::new());
    let mut take = |part: Option<&str>| match part {
        Some(part) => story.push_str(part),
        None => {
            if let Some(row) = tell(&story, *seed, report.texts)
                && serde_json::to_writer(&mut lines, &row).is_ok()
            {
                lines.push(b'\n');
                report.rows += 1;
            }
            report.texts += 1;
            story.clear();
        }
    };
    read_texts(&preparation, false, &mut take, &mut |_| ()).map_err(explained)?;
    if report.rows == 0 {
        return Err(failure(
            "no text is a story that can be told",
            "stories have 200 to 1,500 English letters, or 60 to 500 Chinese characters",
        ));
    }
    registry::write_whole(out, &lines)?;
    if arguments.json {
        terminal.json(&report)?;
    } else {
        let rows = number_of(report.rows, "conversation");
        terminal.say(format_args!("{}: {rows} of {} texts", out.display(), report.texts));
    }
    Ok(Outcome::Success)
}
