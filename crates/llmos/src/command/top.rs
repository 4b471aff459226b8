//! `llmos top`: how a running server stands.

mod look;
mod standing;
mod view;

use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ureq::Agent;
use ureq::http::{StatusCode, Uri};

use crate::Outcome;
use crate::command::watch::screen;
use crate::download;
use crate::failure::{Explain, failure};
use crate::terminal::Terminal;
use look::Look;
use standing::Standing;

/// Watch a running server: requests, speed, times to the first token, queue, cache, memory, models.
///
/// In a terminal it is a view; q, Esc or Ctrl-C leaves it. Without one it is a line a second. What is
/// shown comes from the server's /metrics.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The server's address.
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = parse_url)]
    url: String,
    /// A key, where the server asks for one. LLMOS_KEY keeps it out of the list of processes.
    #[arg(long, value_name = "KEY", hide_env_values = true)]
    key: Option<String>,
    /// Look once, and leave.
    #[arg(long)]
    once: bool,
    /// A JSON object a look.
    #[arg(long)]
    json: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_pace)]
    every: Duration,
}

fn parse_url(text: &str) -> Result<String, String> {
    let hint = "an address is http://127.0.0.1:8080".to_string();
    let whole = if text.contains("://") { text.to_string() } else { format!("http://{text}") };
    let url: Uri = whole.parse().map_err(|_| hint.clone())?;
    let is_server = matches!(url.scheme_str(), Some("http" | "https"))
        && url.host().is_some_and(|host| !host.is_empty());
    if is_server { Ok(whole.trim_end_matches('/').to_string()) } else { Err(hint) }
}

fn parse_pace(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.05..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "0.05 to 3600 seconds".to_string())
}

/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A page of metrics that is longer is something else's.
const LONGEST: u64 = 16 << 20;

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let server = Server { agent: download::agent()?, url: arguments.url, key: arguments.key };
    let first = server.look()?;
    if !arguments.once && !arguments.json && screen::is_possible(terminal) {
        show(&server, first, arguments.every)?;
        return Ok(Outcome::Success);
    }
    let mut before = first;
    loop {
        // What is said of speed is of the time between two looks.
        std::thread::sleep(arguments.every);
        let now = server.look()?;
        let standing = Standing::of(&server.url, &before, &now);
        match arguments.json {
            true => terminal.json(&standing)?,
            false => terminal.print(standing.lines(arguments.once))?,
        }
        if arguments.once {
            return Ok(Outcome::Success);
        }
        before = now;
    }
}

/// A server that is watched.
struct Server {
    agent: Agent,
    url: String,
    key: Option<String>,
}

impl Server {
    /// What it says of itself now.
    fn look(&self) -> anyhow::Result<Look> {
        let url = format!("{}/metrics", self.url);
        let mut request = self.agent.get(&url).config().timeout_global(Some(PATIENCE)).build();
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = request.call().explain(
            || format!("no server answers at {}", self.url),
            || "`llmos serve` starts one, and says its address".into(),
        )?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            let hint = match status {
                StatusCode::FORBIDDEN => {
                    "its figures are for a key of the scope admin: --key or LLMOS_KEY"
                }
                _ => "give a key that it knows, by --key or LLMOS_KEY",
            };
            return Err(failure(format!("{} does not let us look: {status}", self.url), hint));
        }
        let hint = "give the address of a running `llmos serve`";
        if status != StatusCode::OK {
            return Err(failure(format!("{url} answers {status}"), hint));
        }
        let text = response.body_mut().with_config().limit(LONGEST).read_to_string();
        let text = text.explain(|| format!("{url}: the answer broke off"), || hint.into())?;
        let look = Look::parse(&text);
        let look = look.map_err(|problem| failure(format!("{url}: {problem}"), hint))?;
        match look.value("llmos_slots") {
            Some(_) => Ok(look),
            None => Err(failure(format!("{} is no server of llmos", self.url), hint)),
        }
    }
}

/// Shows it until a key ends it.
fn show(server: &Server, first: Look, every: Duration) -> anyhow::Result<()> {
    let (_restore, mut screen) = screen::take()?;
    let (mut before, mut looked) = (first, Instant::now());
    let mut standing = Standing::of(&server.url, &before, &before);
    let mut speeds: Vec<f64> = Vec::new();
    loop {
        screen
            .draw(|frame| view::draw(frame, &standing, &speeds))
            .context("cannot draw the view")?;
        if event::poll(every.saturating_sub(looked.elapsed())).context("cannot wait for a key")?
            && leaves(&event::read().context("cannot read a key")?)
        {
            return Ok(());
        }
        if looked.elapsed() >= every {
            let now = server.look()?;
            standing = Standing::of(&server.url, &before, &now);
            speeds.push(standing.tokens_per_s);
            let most = usize::from(screen.size().map_or(80, |size| size.width));
            speeds.drain(..speeds.len().saturating_sub(most));
            (before, looked) = (now, Instant::now());
        }
    }
}

fn leaves(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Char('c' | 'd') => control,
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_paces() {
        for (text, expected) in [
            ("127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("https://box.example/", Some("https://box.example")),
            ("ftp://box.example", None),
            ("http://", None),
            ("", None),
        ] {
            assert_eq!(parse_url(text).ok().as_deref(), expected, "{text}");
        }
        assert_eq!(parse_pace("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "nan", "inf", "x", "1e9"] {
            assert!(parse_pace(bad).is_err(), "{bad}");
        }
    }
}
