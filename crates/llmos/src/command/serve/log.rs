//! What the server notes while it runs, on standard error: a line a request, and what else happens to
//! models and connections. No line has text of a conversation.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How it is written, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Log {
    is_json: bool,
    /// None goes by `-q` and `-v`.
    level: Option<LevelFilter>,
}

/// `text`, `json`, a level, or both with a comma between.
impl FromStr for Log {
    type Err = String;

    fn from_str(text: &str) -> Result<Log, String> {
        let mut log = Log { is_json: false, level: None };
        for part in text.split(',') {
            match part.trim().to_ascii_lowercase().as_str() {
                "text" => log.is_json = false,
                "json" => log.is_json = true,
                level => {
                    let known = LevelFilter::from_str(level).ok().filter(|_| !level.is_empty());
                    log.level = Some(known.ok_or_else(|| {
                        "text or json, and off, error, warn, info, debug or trace: json,debug"
                            .to_string()
                    })?);
                }
            }
        }
        Ok(log)
    }
}

impl Log {
    /// Begins to write. A second server in one process goes on with the first one's.
    pub(super) fn begin(self, quiet: bool, verbose: bool) {
        let level = self.level.unwrap_or(match (quiet, verbose) {
            (true, _) => LevelFilter::ERROR,
            (_, true) => LevelFilter::DEBUG,
            _ => LevelFilter::INFO,
        });
        let colours = std::io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let layer = match self.is_json {
            true => layer.json().flatten_event(true).with_span_list(false).boxed(),
            false => layer.with_ansi(colours).with_target(false).compact().boxed(),
        };
        // What the libraries below say of their own work is nobody's business by default.
        let ours = tracing_subscriber::filter::Targets::new()
            .with_target("llmos", level)
            .with_target("llmos_serve", level)
            .with_default(level.min(LevelFilter::WARN));
        let _ = tracing_subscriber::registry().with(layer.with_filter(ours)).try_init();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_and_a_level() {
        let check = |text: &str, expected: Option<(bool, Option<LevelFilter>)>| {
            let found = Log::from_str(text).ok().map(|log| (log.is_json, log.level));
            assert_eq!(found, expected, "{text}");
        };
        check("text", Some((false, None)));
        check("json", Some((true, None)));
        check("debug", Some((false, Some(LevelFilter::DEBUG))));
        check("json,WARN", Some((true, Some(LevelFilter::WARN))));
        check("off", Some((false, Some(LevelFilter::OFF))));
        check("", None);
        check("xml", None);
    }
}
