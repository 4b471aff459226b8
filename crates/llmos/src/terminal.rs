//! The two streams: stdout carries data, stderr carries talk.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::OutputClosed;

/// Where a command prints, and how much.
pub(crate) struct Terminal {
    quiet: bool,
    verbose: bool,
    /// Colours on stderr.
    color_talk: bool,
    /// Colours on stdout.
    color_data: bool,
}

/// How a piece of text stands out where there are colours.
#[derive(Clone, Copy)]
pub(crate) enum Style {
    /// Errors.
    Red,
    /// Warnings.
    Yellow,
    /// What counts.
    Green,
    /// Hints and bars.
    Cyan,
    /// What can be overlooked.
    Dim,
    /// Headings.
    Bold,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Red => "1;31",
            Style::Yellow => "33",
            Style::Green => "32",
            Style::Cyan => "36",
            Style::Dim => "2",
            Style::Bold => "1",
        }
    }
}

impl Terminal {
    /// Quiet: errors alone on stderr. Verbose: details too.
    pub(crate) fn new(quiet: bool, verbose: bool) -> Terminal {
        // https://no-color.org: any value but the empty one.
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = !no_color && !dumb;
        Terminal {
            quiet,
            verbose: verbose && !quiet,
            color_talk: color && io::stderr().is_terminal(),
            color_data: color && io::stdout().is_terminal(),
        }
    }

    /// Writes bytes to stdout at once.
    ///
    /// # Errors
    /// [`OutputClosed`] where the reader has gone, otherwise what the system says.
    pub(crate) fn bytes(&self, data: &[u8]) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(data).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
            Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
        }
    }

    /// Writes text to stdout at once.
    ///
    /// # Errors
    /// As [`Terminal::bytes`].
    pub(crate) fn print(&self, text: impl AsRef<str>) -> anyhow::Result<()> {
        self.bytes(text.as_ref().as_bytes())
    }

    /// Writes one JSON value and a newline to stdout.
    ///
    /// # Errors
    /// As [`Terminal::bytes`].
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(value)?;
        text.push('\n');
        self.print(text)
    }

    /// A line of talk, unless `-q`. What becomes of it does not matter to the command.
    pub(crate) fn say(&self, line: impl Display) {
        if !self.quiet {
            let _ = writeln!(io::stderr().lock(), "{line}");
        }
    }

    /// Talk without an end of line, unless `-q`.
    pub(crate) fn murmur(&self, text: impl Display) {
        if !self.quiet {
            let mut err = io::stderr().lock();
            let _ = write!(err, "{text}").and_then(|()| err.flush());
        }
    }

    /// A line that only `-v` shows.
    pub(crate) fn detail(&self, line: impl Display) {
        if self.verbose {
            let _ = writeln!(io::stderr().lock(), "{}", self.talk_style(Style::Dim, line));
        }
    }

    /// Something that the person should know, although the command goes on.
    pub(crate) fn warn(&self, line: impl Display) {
        self.say(format_args!("{} {line}", self.talk_style(Style::Yellow, "warning:")));
    }

    /// An error and its hint; `-q` does not silence it.
    pub(crate) fn error(&self, message: &str, hint: &str) {
        let mut err = io::stderr().lock();
        let _ = writeln!(err, "{} {message}", self.talk_style(Style::Red, "error:"));
        let _ = writeln!(err, "{} {hint}", self.talk_style(Style::Cyan, "hint:"));
    }

    /// Text for stdout, coloured where stdout is a terminal.
    pub(crate) fn style(&self, style: Style, text: impl Display) -> String {
        paint(self.color_data, style, text)
    }

    /// Text for stderr, coloured where stderr is a terminal.
    pub(crate) fn talk_style(&self, style: Style, text: impl Display) -> String {
        paint(self.color_talk, style, text)
    }

    /// True if nothing but errors is said.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// True if details are said.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// True where text for stdout is coloured.
    pub(crate) fn has_colour(&self) -> bool {
        self.color_data
    }

    /// True where stdout is a terminal.
    pub(crate) fn is_interactive(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Columns of the terminal, 80 where there is none.
    pub(crate) fn width(&self) -> usize {
        std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            terminal_size::terminal_size_of(io::stdout())
                .map_or(80, |(terminal_size::Width(columns), _)| usize::from(columns))
        })
    }

    /// A bar over `total` bytes, invisible without a terminal or with `-q`.
    pub(crate) fn byte_bar(&self, total: Option<u64>, what: &str) -> ProgressBar {
        self.bar(total, what, "{binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}")
    }

    /// A bar over `total` steps of any kind.
    pub(crate) fn step_bar(&self, total: Option<u64>, what: &str) -> ProgressBar {
        self.bar(total, what, "{pos}/{len} {per_sec}")
    }

    /// A sign of life while something of unknown length goes on.
    pub(crate) fn spinner(&self, what: &str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.target()).with_message(what.to_string());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    fn bar(&self, total: Option<u64>, what: &str, figures: &str) -> ProgressBar {
        let bar =
            ProgressBar::with_draw_target(total, self.target()).with_message(what.to_string());
        let template = match total {
            Some(_) => format!("{{msg}} {{wide_bar}} {figures} left {{eta}}"),
            None => "{spinner} {msg} {binary_bytes}".to_string(),
        };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar
    }

    fn target(&self) -> ProgressDrawTarget {
        if self.quiet || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(10)
        }
    }
}

fn paint(color: bool, style: Style, text: impl Display) -> String {
    if color { format!("\x1b[{}m{text}\x1b[0m", style.code()) } else { text.to_string() }
}

/// A text without signs that would steer the terminal.
pub(crate) fn plain(text: &str) -> String {
    let steers = |c: char| c.is_control() && c != '\t' && c != '\n';
    text.chars().map(|c| if steers(c) { '\u{FFFD}' } else { c }).collect()
}

/// A path or word as it is typed in a shell: in quotes where that is needed.
pub(crate) fn quoted(word: impl AsRef<std::ffi::OsStr>) -> String {
    let word = word.as_ref().to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A size for people: `1.1 MB`, in powers of 1000.
pub(crate) fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// A count for people: `1.1 B`, `260.0 K`.
pub(crate) fn count(number: u64) -> String {
    let value = number as f64;
    match number {
        0..1_000 => format!("{number}"),
        1_000..1_000_000 => format!("{:.1} K", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", value / 1e6),
        _ => format!("{:.2} B", value / 1e9),
    }
}

/// A number of things: `1 token`, `2 tokens`.
pub(crate) fn number_of(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A bar of `share` (0 to 1) of `width` columns, in eighths of a column.
pub(crate) fn bar(share: f64, width: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        for (bytes, expected) in
            [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (637_000_000, "637.0 MB")]
        {
            assert_eq!(size(bytes), expected);
        }
        for (number, expected) in [(512, "512"), (260_032, "260.0 K"), (1_100_048_384, "1.10 B")] {
            assert_eq!(count(number), expected);
        }
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, expected) in [
            ("runs/模型-1.5", "runs/模型-1.5"),
            ("a b", "'a b'"),
            ("<|end|>", "'<|end|>'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn a_bar_has_eighths() {
        assert_eq!(bar(0.0, 4), "");
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(1.0 / 32.0, 4), "▏");
        assert_eq!(bar(7.0, 4), "████");
    }
}
