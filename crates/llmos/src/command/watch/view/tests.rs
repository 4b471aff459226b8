//! The view drawn on terminals of every size, from folders made by hand.

use super::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::fmt::Write;
use std::path::PathBuf;

/// A run's folder that is removed with the value.
struct Place(PathBuf);

impl Place {
    /// A run of so many steps, of 200.
    fn new(name: &str, steps: u64) -> Place {
        let unique = format!("llmos-view-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(unique).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut metrics = String::new();
        for step in 1..=steps {
            let loss = 3.0 + 5.0 / step as f64;
            let held_out = if step % 50 == 0 { ",\"val_loss\":3.25" } else { "" };
            let bits = if step % 50 == 0 { ",\"val_bits_per_byte\":1.5" } else { "" };
            let measured = "\"lr\":3e-4,\"grad_norm\":0.8,\"tokens_per_s\":40332,\"step_ms\":203.1";
            let tokens = step * 8192;
            let line = format!("\"step\":{step},\"tokens\":{tokens},\"loss\":{loss},{measured}");
            let seconds = step as f64 * 0.2031;
            writeln!(metrics, "{{{line}{held_out}{bits},\"seconds\":{seconds}}}").unwrap();
        }
        std::fs::write(folder.join("metrics.jsonl"), metrics).unwrap();
        let recipe = "[model]\nn_layer = 4\nd_model = 128\n[train]\nsteps = 200\n";
        std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
        Place(folder)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn open(&self) -> RunFolder {
        RunFolder::open(&self.0).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

/// The view as lines of text.
fn shown(runs: &[RunFolder], looks: &Looks, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, runs, looks)).unwrap();
    terminal.backend().to_string()
}

fn has(view: &str, words: &[&str]) {
    for word in words {
        assert!(view.contains(word), "{word:?} not in\n{view}");
    }
}

#[test]
fn a_living_run_shows_all_of_it() {
    let place = Place::new("shakespeare", 100);
    let dreams = "{\"step\":50,\"text\":\"early\"}\n\
                  {\"step\":100,\"prompt\":\"To be\",\"text\":\", or not\\n\\u001b[31mto see\"}\n";
    place.write("dreams.jsonl", dreams);
    place.write(
        "forecast.json",
        "{\"forecast\":{\"seconds\":30,\"val_bits_per_byte\":1.4,\"low\":1.3,\"high\":1.6}}",
    );
    place.write("lock", "");
    let lock = std::fs::File::open(place.0.join("lock")).unwrap();
    lock.lock().unwrap();
    let run = place.open();
    let view = shown(std::slice::from_ref(&run), &Looks::default(), 100, 40);
    has(
        &view,
        &[
            "● shakespeare  running",
            "4 layers of width 128",
            "50 %   step 100 of 200   left 20 s",
            "loss 3.0500  held-out 3.2500  bits a byte 1.5000",
            "tok/s 40,332  lr 3.0e-4  norm 0.80  tokens 819 K",
            "• held-out",
            "tokens a second 40,332",
            "learning rate 3.0e-4",
            "forecast 30 s, now 41 s   1.400 (1.300 to 1.600) bits a byte, now 1.500",
            "what it wrote after step 100",
            "To be, or not",
            "to see",
            "q: leave, the run goes on",
        ],
    );
    assert!(!view.contains("early") && !view.contains('\u{1b}'), "{view}");
    // The axis ends where the run does.
    let axis = view.lines().find(|line| line.contains("51")).unwrap_or_default();
    assert!(axis.starts_with("\"    1 ") && axis.ends_with(" 100\""), "{view}");
    // The curve, in braille, and the evaluations.
    assert!(view.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count() > 40, "{view}");
    drop(lock);
    let mut run = run;
    run.refresh().unwrap();
    has(&shown(&[run], &Looks::default(), 100, 40), &["shakespeare  stopped"]);
}

#[test]
fn several_runs_stand_side_by_side() {
    let (first, second) = (Place::new("small", 200), Place::new("large", 20));
    let runs = [first.open(), second.open()];
    let looks = Looks { run: 1, zoom: Zoom::LastHalf };
    let view = shown(&runs, &looks, 100, 30);
    has(
        &view,
        &[
            "● small  finished  100 %  loss 3.0250  held-out 3.2500",
            "▶ large  stopped ",
            "10 %   step 20 of 200",
            "z: the last half   Tab: next run",
        ],
    );
}

#[test]
fn a_run_without_a_step_and_a_terminal_of_any_size() {
    let place = Place::new("empty", 0);
    let long = Place::new("long", 150);
    long.write("dreams.jsonl", "{\"step\":50,\"text\":\"a dream\"}\n");
    let runs = [place.open(), long.open()];
    has(&shown(&runs[..1], &Looks::default(), 80, 24), &["empty  stopped", "no step yet"]);
    for (width, height) in [(1, 1), (2, 9), (9, 2), (20, 5), (40, 12), (79, 13), (300, 100)] {
        for run in [0, 1] {
            for zoom in [Zoom::All, Zoom::LastHalf, Zoom::LastTenth] {
                shown(&runs, &Looks { run, zoom }, width, height);
                shown(&runs[run..=run], &Looks { run: 0, zoom }, width, height);
            }
        }
    }
    // On a small terminal the chart and how far it is remain.
    has(&shown(&runs[1..], &Looks::default(), 60, 10), &["long  stopped", "step 150 of 200"]);
}

#[test]
fn a_zoom_shows_the_end() {
    let place = Place::new("zoom", 101);
    let run = place.open();
    for (zoom, expected) in [(Zoom::All, 101), (Zoom::LastHalf, 51), (Zoom::LastTenth, 11)] {
        assert_eq!(zoom.of(run.rows()).len(), expected);
    }
    assert!(Zoom::LastTenth.of(&[]).is_empty());
}
