//! The page Models as a person uses it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::browser::Tab;
use crate::house::{Folder, House};
use crate::hub::Hub;
use crate::pipe::PATIENCE;

/// The server's own list.
fn list(tab: &mut Tab) -> Vec<Value> {
    let list = tab.evaluate("fetch('/v1/models').then((it) => it.json()).then((it) => it.data)");
    list.as_array().unwrap().clone()
}

#[test]
fn models_are_shown_loaded_and_let_go() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/models") else { return };
    tab.wait("document.querySelectorAll('.model').length >= 2");
    let listed = list(&mut tab);
    assert_eq!(tab.count(".model"), listed.len() as u64);
    for model in &listed {
        let id = &model["id"];
        let text = tab.evaluate(&format!(
            "[...document.querySelectorAll('.model')].find((it) => it.querySelector('h2').innerText === {id}).innerText"
        ));
        let text = text.as_str().unwrap();
        for name in ["architecture", "license", "digest"] {
            // A digest is shown by its beginning, and may not be known yet.
            let Some(value) = model[name].as_str() else { continue };
            let beginning: String = value.chars().take(19).collect();
            assert!(text.contains(&beginning), "{id}: no {name} {beginning} in {text}");
        }
        let megabytes = format!("{:.1}", model["size"].as_f64().unwrap() / 1e6);
        let megabytes = format!("{} MB", megabytes.trim_end_matches(".0"));
        assert!(text.contains(&megabytes), "{id}: no {megabytes} in {text}");
    }
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

/// Begins to pull, and lets pieces come until a part is there, and not all.
#[track_caller]
fn pull(tab: &mut Tab, hub: &Hub) {
    tab.fill("main form [name=name]", "hf:o/r");
    tab.press("Enter", 0);
    tab.wait("document.querySelector('.job progress')");
    let share = "document.querySelector('.job progress').value";
    let deadline = Instant::now() + PATIENCE;
    // The server tells at most ten times a second, when a piece comes.
    while tab.evaluate(&format!("{share} > 0.15")) != true {
        assert!(Instant::now() < deadline, "{}", tab.text(".job"));
        hub.go_on();
        std::thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(tab.evaluate(&format!("{share} < 1")), true);
}

#[test]
fn a_model_is_pulled_and_converted_while_one_watches() {
    let mut hub = Hub::start();
    let house = House::start_beside(&hub.url, Folder::new(), &[]);
    let Some(mut tab) = Tab::open(&house, "#/models") else { return };
    pull(&mut tab, &hub);
    assert!(tab.text(".job").contains("tiny.gguf"), "{}", tab.text(".job"));
    tab.is_accessible();
    hub.finish();
    tab.wait("document.querySelector('.job .badge.good')");
    let card = "[...document.querySelectorAll('.model')].find((it) => it.querySelector('h2').innerText === 'tiny')";
    tab.wait(card);
    // Another type of it.
    tab.evaluate(&format!(
        "(() => {{ const it = {card}; const select = it.querySelector('select'); select.value = 'q4_0';
            select.dispatchEvent(new Event('change', {{ bubbles: true }})); }})()"
    ));
    tab.wait(&format!("{card}.querySelector('select').value === 'q4_0'"));
    tab.evaluate(&format!("{card}.querySelector('.toolbar button:last-child').click()"));
    tab.wait("document.querySelectorAll('.job .badge.good').length === 2");
    let made = list(&mut tab);
    assert!(made.iter().any(|model| model["id"] == "tiny-Q4_0"), "{made:#?}");
    tab.wait(
        "[...document.querySelectorAll('.model h2')].some((it) => it.innerText === 'tiny-Q4_0')",
    );
    assert_eq!(tab.count(".error-note"), 0);
    tab.close();
}

#[test]
fn a_pull_is_given_up() {
    let hub = Hub::start();
    let house = House::start_beside(&hub.url, Folder::new(), &[]);
    let Some(mut tab) = Tab::open(&house, "#/models") else { return };
    pull(&mut tab, &hub);
    tab.click(".job button");
    tab.wait("document.querySelector('.job [role=status]').innerText === 'cancelled'");
    tab.click(".job button");
    tab.wait("!document.querySelector('.job')");
    assert!(list(&mut tab).iter().all(|model| model["id"] != "tiny"));
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
