//! Reports are read back: Markdown line by line, pages and pictures as XML.

use roxmltree::{Document, ParsingOptions};

use super::*;
use crate::bits::Part;
use crate::card::tests::subject;
use crate::card::{Baseline, Card, Subject, Text};

fn card() -> Card {
    let mut subjects =
        [subject("base", 2, 1), subject("a|<b>&\"c\"\u{1}", 19, 9), subject("preferred", 20, 9)];
    subjects[0].without_tools.clear();
    let part = Part { bits: 2000.0, bytes: 1200, characters: 1000 };
    let baseline = Baseline {
        name: "5-gram".into(),
        text: Text::Stories,
        parts: vec![part; 40],
        learnt: 7000,
    };
    Card::new(&subjects, &[baseline], 1)
}

#[test]
fn markdown_tables_are_whole() {
    let page = markdown(&card(), Some("card.svg"));
    assert!(page.starts_with("# Report card\n\n![") && page.contains("](card.svg)"));
    let mut columns = None;
    for line in page.lines() {
        let cells = line.replace("\\|", "").matches('|').count();
        match (cells, columns) {
            (0, _) => columns = None,
            (cells, None) => columns = Some(cells),
            (cells, Some(columns)) => assert_eq!(cells, columns, "{line}"),
        }
    }
    for words in [
        "| Arithmetic with the calculator | 40 | ≥ 85 % | 10.0 % (4.0 to 23.1) ✗ |",
        "| English stories, bits a character | 40 | ≤ 0.95, aim 0.80 | 1.018",
        "| 2.000 (2.000 to 2.000) |",
        "+90.0 points",
        "below 0.001",
        "| English stories | | 40 | 48,000 | 40,000 |",
        "a\\|<b>",
    ] {
        assert!(page.replace("|  |", "| |").contains(words), "{words}\n{page}");
    }
    // The base answered nothing without tools.
    let alone = page.lines().find(|line| line.contains("without the calculator |")).unwrap();
    assert!(alone.contains("|  | 25.0 %") || alone.contains("|  |  | 25.0 %"), "{alone}");
}

#[test]
fn the_page_is_one_file_without_scripts() {
    let page = html(&card());
    for word in ["<script", "http:", "https:", "@import", "url(", "NaN", "inf"] {
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("prefers-color-scheme:dark"));
    // With the empty elements closed it is XML.
    let body = page.split_once("<body>").unwrap().1.split_once("</body>").unwrap().0;
    let document = Document::parse_with_options(body, ParsingOptions::default()).unwrap();
    let count = |name: &str| document.descendants().filter(|node| node.has_tag_name(name)).count();
    assert_eq!(count("table"), 6);
    let svg = document.descendants().filter(|n| n.tag_name().name() == "svg").count();
    assert_eq!(svg, 1);
    for table in document.descendants().filter(|node| node.has_tag_name("table")) {
        let rows = table.descendants().filter(|node| node.has_tag_name("tr"));
        let widths: Vec<usize> =
            rows.map(|row| row.children().filter(|node| node.is_element()).count()).collect();
        assert!(widths.len() > 1 && widths.iter().all(|width| *width == widths[0]), "{widths:?}");
    }
}

#[test]
fn bars_are_as_long_as_the_figures_and_have_whiskers() {
    let text = svg(&card());
    let document = Document::parse(&text).unwrap();
    let name = |node: &roxmltree::Node<'_, '_>, name: &str| node.tag_name().name() == name;
    let bars: Vec<_> = document.descendants().filter(|node| name(node, "g")).collect();
    // Four bars of stories, three each of four measures, two without the calculator.
    assert_eq!(bars.len(), 4 + 12 + 2);
    let number = |node: roxmltree::Node<'_, '_>, key: &str| -> f64 {
        node.attribute(key).unwrap().parse().unwrap()
    };
    let full = 960.0 - 290.0 - 150.0;
    let mut seen = 0;
    for bar in &bars {
        let rect = bar.children().find(|node| name(node, "rect")).unwrap();
        let title = bar.children().find(|node| name(node, "title")).unwrap().text().unwrap();
        if let Some((share, _)) = title.rsplit_once(" % (") {
            let share: f64 = share.rsplit(' ').next().unwrap().parse().unwrap();
            assert!((number(rect, "width") - full * share / 100.0).abs() < 0.6, "{title}");
            seen += 1;
        }
        assert!(bar.children().any(|node| node.attribute("class") == Some("whisker")));
    }
    assert_eq!(seen, 14);
    let goals = document.descendants().filter(|n| n.attribute("class") == Some("goal")).count();
    // Stories, routing and identity, routing and arithmetic; and what they mean.
    assert_eq!(goals, 5 + 1);
    for word in ["NaN", "inf", "<script"] {
        assert!(!text.contains(word), "{word}");
    }
}

#[test]
fn an_empty_card_is_no_trouble() {
    let card = Card::new(&[Subject::default()], &[], 1);
    assert!(markdown(&card, None).starts_with("# Report card"));
    assert!(html(&card).ends_with("</html>\n"));
    assert!(Document::parse(&svg(&card)).is_ok());
}
