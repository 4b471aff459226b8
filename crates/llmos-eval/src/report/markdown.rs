//! A card as Markdown.

use std::fmt::Write;

use super::table::{NOTES, tables};
use crate::card::Card;

/// The card as a page of Markdown. `picture` is the picture's file beside it, where there is one.
pub fn markdown(card: &Card, picture: Option<&str>) -> String {
    let mut page = String::from("# Report card\n\n");
    if let Some(picture) = picture {
        let _ = writeln!(page, "![The figures as bars, with their error bars]({picture})\n");
    }
    for table in tables(card) {
        let _ = writeln!(page, "## {}\n", table.heading);
        line(&mut page, &table.columns);
        page.push_str(&"|-".repeat(table.columns.len()));
        page.push_str("|\n");
        table.rows.iter().for_each(|row| line(&mut page, row));
        page.push('\n');
    }
    page.push_str("## What the figures are\n\n");
    NOTES.iter().for_each(|note| {
        let _ = writeln!(page, "- {note}");
    });
    page
}

fn line(page: &mut String, cells: &[String]) {
    for cell in cells {
        // What would end a cell or the line.
        let cell = cell.replace('|', "\\|").replace(['\n', '\r'], " ");
        let _ = write!(page, "| {cell} ");
    }
    page.push_str("|\n");
}
