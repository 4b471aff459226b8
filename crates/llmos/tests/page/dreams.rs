//! The page Dreams as a person uses it.

use std::time::Instant;

use crate::browser::Tab;
use crate::house::House;
use crate::next::set_number;
use crate::pipe::PATIENCE;

const DONE: &str =
    "document.querySelector('.dream') && !document.querySelector('.dream .badge.good')";

/// Fills in the form and begins.
#[track_caller]
fn dream(tab: &mut Tab, style: &str, seed: &str, count: f64, tokens: f64) {
    tab.evaluate(&format!(
        "(() => {{
            const set = (it, value, kind) => {{ it.value = value; it.dispatchEvent(new Event(kind, {{ bubbles: true }})); }};
            set(document.querySelectorAll('main form select')[1], '{style}', 'change');
            set(document.querySelector('main form [name=seed]'), '{seed}', 'input');
        }})()"
    ));
    for (name, value) in [("Dreams at once", count), ("Most tokens", tokens)] {
        set_number(tab, name, value);
    }
    tab.click("main form .primary");
}

fn texts(tab: &mut Tab) -> Vec<String> {
    let texts =
        tab.evaluate("[...document.querySelectorAll('.dream pre')].map((it) => it.textContent)");
    texts.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_string()).collect()
}

#[test]
fn several_dreams_grow_and_one_can_be_dreamt_again() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/dreams") else { return };
    tab.is_accessible();
    dream(&mut tab, "story", "7", 3.0, 60.0);
    tab.wait(DONE);
    let first = texts(&mut tab);
    assert_eq!(first.len(), 3);
    assert!(
        first.iter().all(|text| text.starts_with("Once upon a time") && text.len() > 40),
        "{first:?}"
    );
    assert!(first[0] != first[1] && first[1] != first[2]);
    assert!(tab.text(".dream:nth-child(2)").contains("seed 8"));
    tab.is_accessible();
    tab.pictures("dreams");
    // The second alone, by its own seed.
    tab.click(".dream:nth-child(2) footer button");
    tab.wait("document.querySelectorAll('.dream').length === 1");
    tab.wait(DONE);
    assert_eq!(texts(&mut tab), [first[1].clone()]);
    tab.close();
}

#[test]
fn a_dream_begins_with_nothing_or_like_a_kind_of_document() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/dreams") else { return };
    for (style, beginning) in [
        ("nothing", ""),
        ("code", "import java.util"),
        ("product", "Product details"),
        ("encyclopedia", "From Wikipedia"),
        ("story", "Once upon a time"),
    ] {
        dream(&mut tab, style, "3", 1.0, 20.0);
        tab.wait(&format!(
            "{DONE} && document.querySelector('.dream pre').textContent.startsWith('{beginning}')"
        ));
        let (given, all) = (tab.text(".dream pre b"), tab.text(".dream pre"));
        assert!(given.starts_with(beginning) && all.len() > given.len(), "{style}: {all}");
        assert_eq!(given.is_empty(), style == "nothing", "{given}");
    }
    tab.close();
}

#[test]
fn a_dream_is_stopped_and_kept() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/dreams") else { return };
    // Hot, so that few end early; one that has ended cannot be stopped, and others are dreamt.
    set_number(&mut tab, "Temperature", 2.0);
    let stop = "(() => {
        const [one] = document.querySelectorAll('.dream');
        const grows = one.querySelector('.badge.good') !== null;
        if (grows) one.querySelector('footer button').click();
        return grows;
    })()";
    loop {
        dream(&mut tab, "story", "", 2.0, 1000.0);
        tab.wait("document.querySelector('.dream pre')?.textContent.length > 40");
        if tab.evaluate(stop) == true {
            break;
        }
    }
    tab.wait("!document.querySelector('.dream').querySelector('.badge.good')");
    let stopped = texts(&mut tab)[0].clone();
    // All the others, if there are any.
    tab.evaluate("document.querySelector('main form .row button:nth-child(2)')?.click()");
    tab.wait(DONE);
    assert_eq!(texts(&mut tab)[0], stopped);
    tab.click(".dream footer button:nth-child(2)");
    tab.wait("document.querySelectorAll('.dreams').length === 2");
    // It is there after the page was closed, and nothing is left of the server's work.
    tab.call("Page.reload", serde_json::json!({}));
    tab.wait("document.querySelector('.dream pre')");
    assert_eq!(texts(&mut tab), [stopped]);
    let in_flight = "fetch('/readyz').then((it) => it.json()).then((it) => it.in_flight)";
    let deadline = Instant::now() + PATIENCE;
    while tab.evaluate(in_flight) != 0 {
        assert!(Instant::now() < deadline, "the server goes on with dreams that nobody sees");
    }
    tab.click(".dream .danger");
    tab.wait("!document.querySelector('.dream')");
    tab.close();
}
