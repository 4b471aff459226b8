//! Pictures read back as XML: points, ends, labels, and nothing that is not a number.

use super::*;
use roxmltree::{Document, Node};

fn row(step: u64, loss: f64) -> Row {
    Row { step, loss: Some(loss), lr: Some(3e-4), tokens_per_s: Some(40_000.0), ..Row::default() }
}

/// A loss that falls from 8 to nearly 3.
fn falling(steps: u64) -> Vec<Row> {
    (1..=steps)
        .map(|step| row(step, 3.0 + 5.0 * (-6.0 * step as f64 / steps as f64).exp()))
        .collect()
}

fn drawn(runs: &[Run<'_>]) -> String {
    let text = svg(runs).unwrap();
    for word in ["NaN", "nan", "inf"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
    text
}

fn nodes<'a>(document: &'a Document<'_>, name: &str) -> Vec<Node<'a, 'a>> {
    document.descendants().filter(|node| node.has_tag_name(name)).collect()
}

fn nodes_of<'a>(document: &'a Document<'_>, name: &str, color: theme::Hue) -> Vec<Node<'a, 'a>> {
    let hex = format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2);
    let has = |node: &Node<'_, '_>| {
        ["stroke", "fill"].iter().any(|key| node.attribute(*key) == Some(hex.as_str()))
    };
    nodes(document, name).into_iter().filter(has).collect()
}

fn points(node: Node<'_, '_>) -> Vec<(f64, f64)> {
    let pairs = node.attribute("points").unwrap().split_whitespace();
    let number = |text: &str| text.parse::<f64>().unwrap();
    pairs.map(|pair| pair.split_once(',').unwrap()).map(|(x, y)| (number(x), number(y))).collect()
}

/// The lines of a run in this colour that are not the legend's, 18 pixels long.
fn lines(document: &Document<'_>, color: theme::Hue) -> Vec<Vec<(f64, f64)>> {
    let is_legend = |points: &[(f64, f64)]| points[1].0 - points[0].0 == f64::from(18 * FINE);
    let all = nodes_of(document, "polyline", color).into_iter().map(points);
    all.filter(|points| points.len() != 2 || !is_legend(points)).collect()
}

fn labels(document: &Document<'_>) -> Vec<String> {
    let text = |node: Node<'_, '_>| node.text().unwrap_or_default().trim().to_string();
    nodes(document, "text").into_iter().map(text).collect()
}

#[test]
fn a_run_has_a_point_a_step_between_the_values_at_its_ends() {
    let rows = falling(101);
    let text = drawn(&[Run { name: "shakespeare", rows: &rows }]);
    let document = Document::parse(&text).unwrap();
    let line = &lines(&document, theme::color(0))[0];
    assert_eq!(line.len(), 101);
    assert!(line.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
    // The two ends are 5 % of the range away from the panel's, whose frame is the plot.
    let (first, last) = (line[0], line[100]);
    let middle = line[50];
    let share = (middle.1 - first.1) / (last.1 - first.1);
    let loss = |at: usize| rows[at].loss.unwrap();
    let expected = (loss(0) - loss(50)) / (loss(0) - loss(100));
    assert!((share - expected).abs() < 2e-3, "{share} {expected}");
    assert!((middle.0 - (first.0 + last.0) / 2.0).abs() <= 1.0);
    let labels = labels(&document);
    for label in
        ["loss", "loss, nats a token", "learning rate", "tokens a second", "step", "20", "7"]
    {
        assert!(labels.contains(&label.to_string()), "{label:?} not in {labels:?}");
    }
    assert_eq!(
        nodes(&document, "title")[0].text(),
        Some("Loss, learning rate and speed of shakespeare")
    );
    assert!(text.contains("prefers-color-scheme:dark"));
    for color in [theme::GREEN, theme::PURPLE] {
        assert_eq!(lines(&document, color)[0].len(), 101);
    }
}

#[test]
fn thousands_of_steps_are_thinned_under_a_band() {
    let mut rows = falling(20_000);
    rows[10_000].loss = Some(7.5);
    let text = drawn(&[Run { name: "long", rows: &rows }]);
    assert!(text.len() < 100_000, "{} bytes", text.len());
    let document = Document::parse(&text).unwrap();
    let line = &lines(&document, theme::color(0))[0];
    assert_eq!(line.len(), COLUMNS);
    // The one spike is in the band, as high as it was.
    let band = points(nodes_of(&document, "polygon", theme::color(0))[0]);
    assert_eq!(band.len(), 2 * COLUMNS);
    let highest = band[COLUMNS / 4..COLUMNS].iter().map(|point| point.1).fold(f64::MAX, f64::min);
    let mean = line[COLUMNS / 4..].iter().map(|point| point.1).fold(f64::MAX, f64::min);
    assert!(highest < mean - 100.0, "{highest} {mean}");
}

#[test]
fn held_out_losses_are_dots() {
    let mut rows = falling(50);
    for at in [9, 29, 49] {
        rows[at].val_loss = Some(4.0);
    }
    let text = drawn(&[Run { name: "r", rows: &rows }]);
    let document = Document::parse(&text).unwrap();
    // Three evaluations and the legend's.
    let dots = nodes_of(&document, "circle", theme::ORANGE);
    assert_eq!(dots.len(), 4);
    let line = &lines(&document, theme::color(0))[0];
    let x = |node: &Node<'_, '_>| node.attribute("cx").unwrap().parse::<f64>().unwrap();
    assert_eq!([x(&dots[0]), x(&dots[2])], [line[9].0, line[49].0]);
    assert!(labels(&document).contains(&"held-out loss".to_string()));
}

#[test]
fn several_runs_have_a_colour_each_and_share_the_axes() {
    let (long, short) = (falling(100), falling(50));
    let name = "a<b>&\"c\"\u{1}";
    let runs = [Run { name, rows: &long }, Run { name: "short", rows: &short }];
    let text = drawn(&runs);
    let document = Document::parse(&text).unwrap();
    let (first, second) = (lines(&document, theme::color(0)), lines(&document, theme::color(1)));
    // Loss, learning rate and speed.
    assert_eq!([first.len(), second.len()], [3, 3]);
    assert_eq!((first[0][49].0, second[0].len()), (second[0][49].0, 50));
    let labels = labels(&document);
    assert!(labels.contains(&"a<b>&\"c\"\u{fffd}".to_string()), "{labels:?}");
    assert!(labels.contains(&"short".to_string()));
}

#[test]
fn what_is_missing_leaves_gaps() {
    let nan = f64::NAN;
    let bare = |step| Row { step, ..Row::default() };
    let mut gap = falling(30);
    gap[10].loss = Some(nan);
    gap[20].tokens_per_s = Some(f64::INFINITY);
    for (rows, expected) in [
        (vec![], 0),
        (vec![bare(1)], 0),
        (vec![row(1, 7.0)], 0),
        (vec![row(0, 7.0)], 0),
        (vec![row(1, nan), row(2, nan)], 0),
        (vec![row(u64::MAX, 1e300), row(u64::MAX, -1e300)], 0),
        (vec![row(1, 1e99), row(2, -1e99), row(3, 0.0)], 1),
        (vec![row(1, 2.0), row(2, 2.0), row(3, 2.0)], 1),
        (vec![row(1, 0.0), row(2, 0.0), row(3, 0.0)], 1),
        (vec![row(5, -1e-30), row(6, 1e-30), row(1 << 60, 0.0)], 1),
        (gap, 2),
    ] {
        let text = drawn(&[Run { name: "r", rows: &rows }]);
        let document = Document::parse(&text).unwrap();
        assert_eq!(lines(&document, theme::color(0)).len(), expected, "{rows:?}");
    }
    let text = drawn(&[]);
    assert!(Document::parse(&text).is_ok());
}
