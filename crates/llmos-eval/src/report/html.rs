//! A card as one page of HTML: no script, nothing beside it, light or dark as the reader has it.

use std::fmt::Write;

use super::picture;
use super::table::{NOTES, Table, tables};
use crate::card::Card;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{margin:2rem auto;padding:0 1rem;max-width:62rem;font:16px/1.5 system-ui,sans-serif;\
background:#fff;color:#1f2328}\
h1{font-size:1.7rem}h2{font-size:1.15rem;margin-top:2rem}\
svg{max-width:100%;height:auto}\
.wide{overflow-x:auto}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.3rem .7rem;text-align:left;border-bottom:1px solid #8883;white-space:nowrap}\
th{font-weight:600}\
ul{padding-left:1.2rem;color:#57606a}\
@media (prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}ul{color:#9198a1}}";

/// The card as a page.
pub fn html(card: &Card) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Report card</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>Report card</h1>\n"
    );
    if !card.measures.is_empty() {
        let _ = writeln!(page, "{}", picture::svg(card));
    }
    tables(card).iter().for_each(|table| push_table(&mut page, table));
    page.push_str("<h2>What the figures are</h2>\n<ul>\n");
    NOTES.iter().for_each(|note| {
        let _ = writeln!(page, "<li>{}</li>", escaped(note));
    });
    page + "</ul>\n</main>\n</body>\n</html>\n"
}

fn push_table(page: &mut String, table: &Table) {
    let _ = write!(
        page,
        "<h2>{}</h2>\n<div class=\"wide\"><table>\n<thead><tr>",
        escaped(&table.heading)
    );
    for column in &table.columns {
        let _ = write!(page, "<th scope=\"col\">{}</th>", escaped(column));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        page.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let cell = escaped(cell);
            let _ = match at {
                0 => write!(page, "<th scope=\"row\">{cell}</th>"),
                _ => write!(page, "<td>{cell}</td>"),
            };
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table></div>\n");
}

/// A text as HTML and XML hold it: without what XML 1.0 (section 2.2) has no place for.
pub(super) fn escaped(text: &str) -> String {
    let fits = |c: char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    let clean: String = text.chars().map(|c| if fits(c) { c } else { '\u{fffd}' }).collect();
    clean.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
