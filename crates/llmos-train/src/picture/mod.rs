//! A picture of runs: loss, learning rate and speed over steps, as SVG.
//!
//! One file without scripts or fonts, for a page or a report. It follows the reader's light or dark
//! scheme where the viewer knows one.

mod panel;
mod series;
mod theme;

use std::ops::Range;

use plotters::prelude::{DrawingArea, IntoDrawingArea, SVGBackend};

use crate::Error;
use crate::journal::Row;
use panel::{Line, Panel};

pub use series::{Point, thinned};

/// Width of the picture, in CSS pixels.
const WIDTH: u32 = 960;

/// Heights of the panels: of the loss, and of each other one.
const HEIGHTS: (u32, u32) = (420, 150);

/// The drawing library places things on whole numbers; so many stand for a pixel.
const FINE: u32 = 4;

/// Places of a line: more would lie closer together than two pixels.
const COLUMNS: usize = 420;

/// A run and what it is called in the legend.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The name.
    pub name: &'a str,
    /// What was measured, steps rising.
    pub rows: &'a [Row],
}

/// An SVG document with a panel for the loss, held-out loss as dots, and panels for the learning rate
/// and the tokens a second as far as any run has them.
///
/// One run shows quantities by colour, several runs a colour each. Thousands of steps are thinned to
/// their means; a band behind the loss of a single run reaches from the least to the greatest. Values
/// that are not numbers leave gaps. Without a row the axes alone are drawn.
///
/// # Errors
/// [`Error::Drawing`] where the drawing library refuses.
pub fn svg(runs: &[Run<'_>]) -> Result<String, Error> {
    let mut panels = vec![loss_panel(runs)];
    let lr = quantity(runs, |row| row.lr, "learning rate", theme::PURPLE);
    let speed = quantity(runs, |row| row.tokens_per_s, "tokens a second", theme::GREEN);
    panels.extend([lr, speed].into_iter().filter(|panel| !panel.is_empty()));
    let steps = steps(runs);
    let height = HEIGHTS.0 + HEIGHTS.1 * (panels.len() as u32 - 1);
    let mut body = String::new();
    {
        let backend = SVGBackend::with_string(&mut body, (WIDTH * FINE, height * FINE));
        let root = backend.into_drawing_area();
        draw(&root, &panels, &steps).map_err(|error| Error::Drawing(error.to_string()))?;
        root.present().map_err(|error| Error::Drawing(error.to_string()))?;
    }
    Ok(theme::dressed(&body, &title(runs), WIDTH, height, FINE))
}

fn draw<'a>(
    root: &DrawingArea<SVGBackend<'a>, plotters::coord::Shift>,
    panels: &[Panel],
    steps: &Range<f64>,
) -> Result<(), panel::Refused<'a>> {
    let mut rest = root.clone();
    for (at, panel) in panels.iter().enumerate() {
        let height = if at == 0 { HEIGHTS.0 } else { HEIGHTS.1 };
        let (area, below) = rest.split_vertically(height * FINE);
        panel.draw(&area, steps, at + 1 == panels.len())?;
        rest = below;
    }
    Ok(())
}

fn title(runs: &[Run<'_>]) -> String {
    let names: Vec<&str> = runs.iter().map(|run| run.name).collect();
    format!("Loss, learning rate and speed of {}", names.join(", "))
}

/// The range of the steps, which is never empty.
fn steps(runs: &[Run<'_>]) -> Range<f64> {
    let ends = runs.iter().flat_map(|run| run.rows.first().into_iter().chain(run.rows.last()));
    let ends = ends.map(|row| row.step as f64);
    let (first, last) =
        ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), step| (a.min(step), b.max(step)));
    match last - first {
        span if span > 0.0 => first..last,
        0.0 => first - 1.0..last + 1.0,
        _ => 0.0..1.0,
    }
}

fn loss_panel(runs: &[Run<'_>]) -> Panel {
    let mut panel = Panel::new("loss, nats a token", false);
    for (at, run) in runs.iter().enumerate() {
        let is_alone = runs.len() == 1;
        let color = theme::color(at);
        let lines = thinned(run.rows, |row| row.loss, COLUMNS);
        let held_out = thinned(run.rows, |row| row.val_loss, COLUMNS);
        let name = if is_alone { "loss" } else { run.name };
        panel.lines.push(Line { name: name.to_string(), color, lines, has_band: is_alone });
        if held_out.is_empty() {
            continue;
        }
        let (name, color) = match is_alone {
            true => ("held-out loss".to_string(), theme::ORANGE),
            false => (format!("{}, held-out", run.name), color),
        };
        panel.dots.push(Line { name, color, lines: held_out, has_band: false });
    }
    panel.has_legend = true;
    panel
}

fn quantity(
    runs: &[Run<'_>],
    value: impl Fn(&Row) -> Option<f64>,
    name: &'static str,
    own_color: theme::Hue,
) -> Panel {
    let mut panel = Panel::new(name, true);
    for (at, run) in runs.iter().enumerate() {
        let color = if runs.len() == 1 { own_color } else { theme::color(at) };
        let lines = thinned(run.rows, &value, COLUMNS);
        panel.lines.push(Line { name: name.to_string(), color, lines, has_band: false });
    }
    panel
}

#[cfg(test)]
mod tests;
