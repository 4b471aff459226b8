//! The tables of a report, before they are Markdown or HTML.

use super::figure;
use crate::card::{Card, Cell, Measure};

/// A table under a heading.
pub(super) struct Table {
    pub(super) heading: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

/// All tables of a card, those without a row left out.
pub(super) fn tables(card: &Card) -> Vec<Table> {
    let of = |names: &[&str]| -> Vec<&Measure> {
        card.measures.iter().filter(|measure| names.contains(&measure.set())).collect()
    };
    let mut tables = vec![
        figures("Predicting text: less is better", "parts", &of(&["stories", "chinese"]), card),
        figures("Generated questions", "rows", &of(&["generated"]), card),
        figures("Questions written by hand", "rows", &of(&["hand"]), card),
        changes(card),
        languages(card),
        sizes(card),
    ];
    tables.retain(|table| !table.rows.is_empty());
    tables
}

/// What is said under the tables: what the figures are.
pub(super) const NOTES: [&str; 6] = [
    "In brackets: 95 % intervals. Those of shares are Wilson's; those of bits and of changes are \
     bootstraps over parts of the text or over rows, paired where two models are compared. p is \
     McNemar's exact test.",
    "Bits count every character of texts that were never trained on, each text read from its \
     beginning. Baselines are characters predicted from up to four before them (5-gram) or none \
     (unigram), with interpolated Kneser-Ney smoothing, learnt from the training text.",
    "Tool routing counts every row: the right tool first, or none. Arithmetic with the calculator \
     counts sums for which the calculator gave the result and the answer says it; without, the same \
     sums asked with no tool at hand.",
    "Other answers are right if they say one of the phrases that the row accepts and none that it \
     forbids. That an answer admits or declines is counted, not how well it is put.",
    "Generated questions come of templates and words that training does not use; those written by \
     hand come of people's own phrasing.",
    "The bar is what a finished assistant must reach: ✓ does, ✗ does not. What was not measured is \
     left empty.",
];

fn cell(measure: &Measure, cell: &Cell) -> String {
    let mark = match measure.reaches(cell.estimate.value) {
        Some(true) => " ✓",
        Some(false) => " ✗",
        None => "",
    };
    format!("{}{mark}", figure::estimate(measure.unit, &cell.estimate))
}

fn bar(measure: &Measure) -> String {
    let sign = if measure.unit == crate::card::Unit::Share { "≥" } else { "≤" };
    let value = |value: f64| match measure.unit {
        crate::card::Unit::Share => format!("{:.0} %", 100.0 * value),
        _ => format!("{value:.2}"),
    };
    let bar = measure.bar.map_or(String::new(), |bar| format!("{sign} {}", value(bar)));
    match measure.aim {
        Some(aim) => format!("{bar}, aim {}", value(aim)),
        None => bar,
    }
}

fn figures(heading: &str, counted: &str, measures: &[&Measure], card: &Card) -> Table {
    let has_bar = measures.iter().any(|measure| measure.bar.is_some());
    let mut baselines: Vec<&str> = Vec::new();
    for cell in measures.iter().flat_map(|measure| &measure.baselines) {
        if !baselines.contains(&cell.name.as_str()) {
            baselines.push(&cell.name);
        }
    }
    let models: Vec<&String> = card
        .models
        .iter()
        .filter(|name| {
            measures.iter().any(|measure| measure.cells.iter().any(|cell| cell.name == **name))
        })
        .collect();
    let mut columns = vec![String::new(), counted.to_string()];
    columns.extend(has_bar.then(|| "bar".to_string()));
    columns.extend(models.iter().map(|name| name.to_string()));
    columns.extend(baselines.iter().map(|name| name.to_string()));
    let rows = measures.iter().map(|measure| {
        let most = measure.cells.iter().map(|cell| cell.count).max().unwrap_or(0);
        let mut row = vec![measure.title.clone(), figure::count(most as u64)];
        row.extend(has_bar.then(|| bar(measure)));
        for name in &models {
            let own = measure.cells.iter().find(|cell| cell.name == **name);
            row.push(own.map_or(String::new(), |own| cell(measure, own)));
        }
        for name in &baselines {
            let own = measure.baselines.iter().find(|cell| cell.name == *name);
            row.push(
                own.map_or(String::new(), |own| figure::estimate(measure.unit, &own.estimate)),
            );
        }
        row
    });
    Table { heading: heading.to_string(), rows: rows.collect(), columns }
}

/// What stands before a title where several sets are in one table.
fn set_title(measure: &Measure) -> String {
    match measure.set() {
        "generated" => format!("{} (generated)", measure.title),
        "hand" => format!("{} (by hand)", measure.title),
        _ => measure.title.clone(),
    }
}

fn changes(card: &Card) -> Table {
    let has_p = card.measures.iter().flat_map(|m| &m.comparisons).any(|c| c.p.is_some());
    let mut columns = vec![String::new(), "from".into(), "to".into(), "change".into()];
    columns.extend(has_p.then(|| "p".to_string()));
    let mut rows = Vec::new();
    for measure in &card.measures {
        for change in &measure.comparisons {
            let mut row = vec![
                set_title(measure),
                change.from.clone(),
                change.to.clone(),
                figure::change(measure.unit, &change.estimate),
            ];
            row.extend(has_p.then(|| change.p.map_or(String::new(), figure::probability)));
            rows.push(row);
        }
    }
    Table { heading: "Changes from model to model".to_string(), columns, rows }
}

fn languages(card: &Card) -> Table {
    let columns = ["", "model", "language", "right"].map(String::from).to_vec();
    let mut rows = Vec::new();
    for measure in &card.measures {
        for cell in &measure.cells {
            for (language, share) in &cell.languages {
                rows.push(vec![
                    set_title(measure),
                    cell.name.clone(),
                    language.clone(),
                    format!(
                        "{}, {} of {}",
                        figure::estimate(measure.unit, &share.estimate),
                        figure::count(share.right as u64),
                        figure::count(share.count as u64)
                    ),
                ]);
            }
        }
    }
    Table { heading: "By language".to_string(), columns, rows }
}

fn sizes(card: &Card) -> Table {
    let columns = ["", "rows", "parts", "bytes", "characters"].map(String::from).to_vec();
    let number = |n: Option<u64>| n.map_or(String::new(), figure::count);
    let rows = card.sets.iter().map(|set| {
        let size = |n: Option<usize>| number(n.map(|n| n as u64));
        let name = match set.name.as_str() {
            "stories" => "English stories",
            "chinese" => "Chinese stories",
            "stories-baseline" => "English text that the baselines learnt",
            "chinese-baseline" => "Chinese text that the baselines learnt",
            "generated" => "Generated questions",
            "hand" => "Questions written by hand",
            other => other,
        };
        vec![
            name.to_string(),
            size(set.rows),
            size(set.parts),
            number(set.bytes),
            number(set.characters),
        ]
    });
    Table { heading: "What was measured on".to_string(), columns, rows: rows.collect() }
}
