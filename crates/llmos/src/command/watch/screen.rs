//! The terminal while a view has it: drawing, keys, and giving it back however the view ends.

use std::time::Instant;

use anyhow::Context;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;

use super::INTERVAL;
use super::run_folder::RunFolder;
use super::view::{self, Looks};
use crate::interrupt;
use crate::terminal::Terminal;

/// Whether there is a terminal that a view can be drawn on.
pub(crate) fn is_possible(terminal: &Terminal) -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    terminal.is_interactive() && !is_dumb
}

/// What a key does.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Leave,
    NextRun,
    PreviousRun,
    Zoom,
    Nothing,
}

/// Gives the terminal back when it is dropped; a panic and a signal do so too.
pub(crate) struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        interrupt::before_end(None);
        give_back();
    }
}

fn give_back() {
    ratatui::restore();
    // Where the terminal is gone there is no cursor to show.
    let _ = execute!(std::io::stdout(), Show);
}

/// Takes the terminal for a view; it is given back when the first value is dropped.
///
/// # Errors
/// The terminal refuses.
pub(crate) fn take() -> anyhow::Result<(Restore, ratatui::DefaultTerminal)> {
    // Before the first change: what is half set up is given back as well.
    interrupt::before_end(Some(give_back));
    let restore = Restore;
    let screen = ratatui::try_init().context("cannot draw on this terminal")?;
    Ok((restore, screen))
}

/// Shows the runs until a key ends it.
///
/// # Errors
/// The terminal refuses, or a run's file cannot be read.
pub(super) fn show(runs: &mut [RunFolder]) -> anyhow::Result<()> {
    let (_restore, mut screen) = take()?;
    let mut looks = Looks::default();
    let mut read = Instant::now();
    loop {
        screen.draw(|frame| view::draw(frame, runs, &looks)).context("cannot draw the view")?;
        if event::poll(INTERVAL.saturating_sub(read.elapsed())).context("cannot wait for a key")? {
            match action(&event::read().context("cannot read a key")?) {
                Action::Leave => return Ok(()),
                Action::NextRun => looks.run = (looks.run + 1) % runs.len(),
                Action::PreviousRun => looks.run = (looks.run + runs.len() - 1) % runs.len(),
                Action::Zoom => looks.zoom = looks.zoom.next(),
                Action::Nothing => {}
            }
        }
        if read.elapsed() >= INTERVAL {
            for run in &mut *runs {
                run.refresh()?;
            }
            read = Instant::now();
        }
    }
}

fn action(event: &Event) -> Action {
    let Event::Key(key) = event else { return Action::Nothing };
    if key.kind != KeyEventKind::Press {
        return Action::Nothing;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'd') if control => Action::Leave,
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Action::Leave,
        KeyCode::Char('z' | 'Z') => Action::Zoom,
        KeyCode::Tab | KeyCode::Down | KeyCode::Right => Action::NextRun,
        KeyCode::BackTab | KeyCode::Up | KeyCode::Left => Action::PreviousRun,
        _ => Action::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::crossterm::event::KeyEvent;

    #[test]
    fn keys_that_leave_and_keys_that_do_not() {
        let check = |code, modifiers, expected| {
            assert_eq!(action(&Event::Key(KeyEvent::new(code, modifiers))), expected);
        };
        check(KeyCode::Char('q'), KeyModifiers::NONE, Action::Leave);
        check(KeyCode::Esc, KeyModifiers::NONE, Action::Leave);
        check(KeyCode::Char('c'), KeyModifiers::CONTROL, Action::Leave);
        check(KeyCode::Char('c'), KeyModifiers::NONE, Action::Nothing);
        check(KeyCode::Tab, KeyModifiers::NONE, Action::NextRun);
        assert_eq!(action(&Event::Resize(3, 2)), Action::Nothing);
    }
}
