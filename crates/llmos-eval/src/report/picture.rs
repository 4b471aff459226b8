//! A card as a picture: a bar a model, grouped by what was measured, with error bars and the bar that
//! must be reached. SVG without scripts or fonts, in the reader's light or dark scheme.

use std::fmt::Write;

use super::figure;
use super::html::escaped;
use crate::card::{Card, Cell, Measure, Unit};

/// Hues of middle lightness, which are told apart on white and on black; baselines are grey.
const COLORS: [&str; 8] =
    ["#2F81F7", "#E06C10", "#209653", "#985CF0", "#E5484D", "#0D94A8", "#B08200", "#D6409F"];
const GRAY: &str = "#808890";

const STYLE: &str = "\
.ground{fill:#ffffff}.ink{fill:#1f2328}.soft{fill:#57606a}.whisker{stroke:#1f2328}\
.goal{stroke:#1f2328;stroke-dasharray:3 2}.grid{stroke:#808080;stroke-opacity:.25}\
@media (prefers-color-scheme:dark){.ground{fill:#0d1117}.ink{fill:#e6edf3}.soft{fill:#9198a1}\
.whisker,.goal{stroke:#e6edf3}}";

/// CSS pixels.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 290.0;
const RIGHT: f64 = 150.0;
const BAR: f64 = 13.0;
const GAP: f64 = 12.0;

/// The picture, a document of its own, which can also stand inside a page.
pub fn svg(card: &Card) -> String {
    let mut body = String::new();
    let mut y = legend(&mut body, card);
    for (heading, sets) in [
        ("Predicting text: less is better", &["stories", "chinese"][..]),
        ("Generated questions: right answers", &["generated"]),
        ("Questions written by hand: right answers", &["hand"]),
    ] {
        // Bytes say the same as characters, in other words.
        let of = card.measures.iter().filter(|m| m.unit != Unit::BitsPerByte);
        let measures: Vec<&Measure> = of.filter(|m| sets.contains(&m.set())).collect();
        if !measures.is_empty() {
            y = panel(&mut body, heading, &measures, card, y);
        }
    }
    let (width, height) = (WIDTH, y + 12.0);
    let title = format!("Report card of {}", card.models.join(", "));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"system-ui, sans-serif\" \
         font-size=\"13\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n",
        escaped(&title)
    )
}

fn color(card: &Card, name: &str) -> &'static str {
    let at = card.models.iter().position(|model| model == name);
    at.map_or(GRAY, |at| COLORS[at % COLORS.len()])
}

/// The models' colours in a line, or several; gives where it ends.
fn legend(body: &mut String, card: &Card) -> f64 {
    let (mut x, mut y) = (LEFT, 26.0);
    for name in &card.models {
        // Some seven pixels a character, twice as many for those of Chinese.
        let wide = name.chars().filter(|c| !c.is_ascii()).count();
        let width = 40.0 + 7.5 * (name.chars().count() + wide) as f64;
        if x + width > WIDTH && x > LEFT {
            (x, y) = (LEFT, y + 20.0);
        }
        let _ = writeln!(
            body,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{}\"/>\
             <text class=\"ink\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            y - 11.0,
            color(card, name),
            x + 18.0,
            escaped(name)
        );
        x += width;
    }
    if card.measures.iter().any(|measure| measure.bar.is_some()) {
        let _ = writeln!(
            body,
            "<line class=\"goal\" x1=\"20\" y1=\"14\" x2=\"20\" y2=\"28\" stroke-width=\"1.5\"/>\
             <text class=\"soft\" x=\"28\" y=\"26\">what must be reached</text>"
        );
    }
    y + 14.0
}

/// A heading, an axis and the measures; gives where it ends.
fn panel(body: &mut String, heading: &str, measures: &[&Measure], card: &Card, top: f64) -> f64 {
    let is_share = measures.iter().all(|measure| measure.unit == Unit::Share);
    let all = || measures.iter().flat_map(|m| m.cells.iter().chain(&m.baselines));
    let most = if is_share {
        1.0
    } else {
        let goals = measures.iter().filter_map(|measure| measure.bar);
        all().map(|cell| cell.estimate.high).chain(goals).fold(0.0, f64::max).max(1e-9)
    };
    let step = if is_share { 0.25 } else { step(most) };
    let end = (most / step).ceil() * step;
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * (value / end).clamp(0.0, 1.0);
    let first = top + 26.0;
    let height = |m: &Measure| BAR * (m.cells.len() + m.baselines.len()) as f64 + GAP;
    let last = first + measures.iter().map(|m| height(m)).sum::<f64>();
    let _ = writeln!(
        body,
        "<text class=\"ink\" x=\"14\" y=\"{:.1}\" font-weight=\"600\">{}</text>",
        top + 16.0,
        escaped(heading)
    );
    for tick in 0..=(end / step).round() as usize {
        let value = tick as f64 * step;
        let text = match is_share {
            true => format!("{:.0} %", 100.0 * value),
            false => format!("{}", (value * 1000.0).round() / 1000.0),
        };
        let _ = writeln!(
            body,
            "<line class=\"grid\" x1=\"{0:.1}\" y1=\"{first:.1}\" x2=\"{0:.1}\" y2=\"{last:.1}\"/>\
             <text class=\"soft\" x=\"{0:.1}\" y=\"{1:.1}\" font-size=\"11\" \
             text-anchor=\"middle\">{text}</text>",
            x(value),
            last + 14.0
        );
    }
    let mut y = first;
    for measure in measures {
        let begin = y + GAP / 2.0;
        let bars = height(measure) - GAP;
        let _ = writeln!(
            body,
            "<text class=\"ink\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 12.0,
            begin + bars / 2.0 + 4.5,
            escaped(&measure.title)
        );
        let cells = measure.cells.iter().chain(&measure.baselines);
        for (at, cell) in cells.enumerate() {
            let is_baseline = at >= measure.cells.len();
            let fill = if is_baseline { GRAY } else { color(card, &cell.name) };
            bar(body, measure.unit, cell, (&x, begin + BAR * at as f64), fill, is_baseline);
        }
        if let Some(goal) = measure.bar {
            let _ = writeln!(
                body,
                "<line class=\"goal\" x1=\"{0:.1}\" y1=\"{1:.1}\" x2=\"{0:.1}\" y2=\"{2:.1}\" \
                 stroke-width=\"1.5\"/>",
                x(goal),
                begin - 2.0,
                begin + bars + 2.0
            );
        }
        y += height(measure);
    }
    last + 26.0
}

/// One bar with its whisker and its figure.
fn bar(
    body: &mut String,
    unit: Unit,
    cell: &Cell,
    (x, y): (&dyn Fn(f64) -> f64, f64),
    fill: &str,
    is_baseline: bool,
) {
    let estimate = &cell.estimate;
    let (low, high, middle) = (x(estimate.low), x(estimate.high), y + BAR / 2.0);
    let name = if is_baseline { format!(" {}", cell.name) } else { String::new() };
    let _ = writeln!(
        body,
        "<g><title>{}: {}</title>\
         <rect x=\"{LEFT:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{fill}\"/>\
         <path class=\"whisker\" stroke-width=\"1.2\" fill=\"none\" d=\"M{low:.1} {middle:.1}H{high:.1}\
         M{low:.1} {:.1}v6M{high:.1} {:.1}v6\"/>\
         <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\">{}{}</text></g>",
        escaped(&cell.name),
        escaped(&figure::estimate(unit, estimate)),
        y + 1.0,
        (x(estimate.value) - LEFT).max(0.0),
        BAR - 2.0,
        middle - 3.0,
        middle - 3.0,
        WIDTH - RIGHT + 14.0,
        middle + 4.0,
        figure::value(unit, estimate.value),
        escaped(&name),
    );
}

/// A round distance of ticks, of which four to ten reach `most`.
fn step(most: f64) -> f64 {
    let scale = 10f64.powf((most / 4.0).log10().floor());
    let fits = |step: &f64| most / (step * scale) <= 10.0;
    [1.0, 2.0, 2.5, 5.0]
        .into_iter()
        .rev()
        .find(|s| most / (s * scale) >= 4.0 && fits(s))
        .unwrap_or(1.0)
        * scale
}
