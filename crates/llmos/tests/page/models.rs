//! The page Models as a person uses it.

use crate::browser::Tab;
use crate::house::House;

#[test]
fn models_are_shown_loaded_and_let_go() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/models") else { return };
    tab.wait("document.querySelectorAll('.model').length >= 2");
    let listed =
        tab.evaluate("fetch('/v1/models').then((it) => it.json()).then((it) => it.data.length)");
    assert_eq!(tab.count(".model"), listed.as_u64().unwrap());
    tab.is_accessible();
    let first = ".model:first-child";
    let name = tab.text(&format!("{first} h2"));
    let is_loaded = tab.count(&format!("{first} .badge.good")) == 1;
    let card = format!(
        "[...document.querySelectorAll('.model')].find((it) => it.innerText.includes({name:?}))"
    );
    for expected in [!is_loaded, is_loaded] {
        tab.evaluate(&format!("{card}.querySelector('.toolbar button').click()"));
        tab.wait(&format!("!!{card}.querySelector('.badge.good') === {expected}"));
        tab.wait("!document.querySelector('.model[aria-busy=true]')");
        assert_eq!(tab.count(".error-note"), 0);
    }
    if tab.count(".model summary") > 0 {
        tab.click(".model summary");
        tab.wait("document.querySelector('.model details .markdown')");
        tab.is_accessible();
        tab.click(".model summary");
    }
    tab.pictures("models");
    tab.close();
}

#[test]
fn what_cannot_be_pulled_says_why() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/models") else { return };
    tab.fill("main form [name=name]", "no such model");
    tab.press("Enter", 0);
    tab.wait("document.querySelector('.job .error-note')");
    tab.is_accessible();
    // The refusal itself is in the browser's log, and nothing else is.
    let problems = tab.problems();
    assert!(problems.iter().all(|it| it.contains("/v1/models/pull")), "{problems:#?}");
}
