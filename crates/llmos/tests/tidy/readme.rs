//! The two front pages say the same: their sections, what is typed, and what comes of it.

use crate::source::read;

/// A page's headings counted, and all that is the same in every language: lines of code blocks without
/// their comments, and the tables' first cells that are code.
fn outline(page: &str) -> (usize, Vec<String>) {
    let (mut n_heading, mut lines, mut is_code) = (0, Vec::new(), false);
    for line in page.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if is_code {
            lines.push(line.split("  #").next().unwrap_or(line).trim_end().to_string());
        } else if line.starts_with("## ") {
            n_heading += 1;
        } else if let Some(row) = line.strip_prefix("| `") {
            lines.push(row.split('|').next().unwrap_or(row).trim_end().to_string());
        }
    }
    (n_heading, lines)
}

#[test]
fn both_languages_have_the_same_sections_and_commands() {
    let (headings, lines) = outline(&read("README.md"));
    let (chinese_headings, chinese) = outline(&read("README.zh.md"));
    assert!(headings > 5 && lines.len() > 50, "{headings} headings, {} lines", lines.len());
    for (line, other) in lines.iter().zip(&chinese) {
        assert_eq!(line, other, "README.md beside README.zh.md");
    }
    assert_eq!((lines.len(), headings), (chinese.len(), chinese_headings));
}
