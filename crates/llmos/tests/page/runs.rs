//! The page Runs as a person uses it.

use std::fmt::Write;
use std::path::Path;

use crate::browser::Tab;
use crate::house::{Folder, House};

/// A run's folder as `llmos pretrain` leaves it: `rows` of `steps` steps.
fn run(folder: &Path, name: &str, steps: u64, rows: u64, scale: f64) {
    let path = folder.join(name);
    std::fs::create_dir_all(&path).unwrap();
    let recipe = format!("[train]\nsteps = {steps}\n[model]\nn_layer = 2\nd_model = 64\n");
    std::fs::write(path.join("recipe.toml"), recipe).unwrap();
    let forecast = r#"{"forecast":{"seconds":60,"memory_bytes":1000000,"val_bits_per_byte":1.6,"low":1.5,"high":1.7}}"#;
    std::fs::write(path.join("forecast.json"), forecast).unwrap();
    std::fs::write(path.join("metrics.jsonl"), metrics(1..=rows, scale)).unwrap();
    let dreams = "{\"step\":10,\"prompt\":\"Once\",\"text\":\" the the\"}\n{\"step\":20,\"prompt\":\"Once\",\"text\":\" upon a time\"}\n";
    std::fs::write(path.join("dreams.jsonl"), dreams).unwrap();
}

fn metrics(steps: std::ops::RangeInclusive<u64>, scale: f64) -> String {
    let mut text = String::new();
    for step in steps {
        let loss = scale * (1.5 + 4.0 / (1.0 + step as f64 / 8.0));
        let (tokens, seconds) = (step * 1000, step as f64 * 0.5);
        write!(text, "{{\"step\":{step},\"tokens\":{tokens},\"loss\":{loss},\"lr\":0.001,\"tokens_per_s\":2000.0,\"step_ms\":500.0,\"seconds\":{seconds}").unwrap();
        if step % 10 == 0 {
            write!(text, ",\"val_loss\":{},\"val_bits_per_byte\":{}", loss + 0.1, loss / 1.5)
                .unwrap();
        }
        text += "}\n";
    }
    text
}

/// A server beside a run that is going on and one that is over.
pub(crate) fn two_runs(folder: &Folder) -> House {
    run(folder.path(), "first", 60, 30, 1.0);
    run(folder.path(), "second", 40, 40, 1.2);
    House::start(&["--runs", &folder.path().display().to_string()])
}

#[test]
fn a_run_is_followed_and_others_are_laid_over_it() {
    let folder = Folder::new();
    let house = two_runs(&folder);
    let Some(mut tab) = Tab::open(&house, "#/runs") else { return };
    tab.wait("document.querySelectorAll('main tbody tr').length === 2");
    tab.is_accessible();
    tab.click("a[href='#/runs/first']");
    tab.wait("document.querySelector('.facts')?.innerText.includes('30')");
    assert!(tab.count(".chart > svg path.line") >= 3);
    assert!(tab.text(".charts").contains("Held-out"));
    let label = tab.evaluate("document.querySelector('.chart > svg').getAttribute('aria-label')");
    assert!(label.as_str().unwrap().contains("lowest"), "{label}");
    // The values are read by keys, and stand in a table.
    tab.evaluate("document.querySelector('.chart > svg').focus()");
    tab.press("End", 0);
    tab.wait("document.querySelector('.reading').innerText.includes('30')");
    tab.press("Escape", 0);
    tab.click(".chart summary");
    tab.wait("document.querySelectorAll('.chart details[open] tbody tr').length > 10");
    tab.is_accessible();
    tab.click(".chart summary");
    // The forecast stands beside what is there.
    assert!(tab.text("main").contains("Forecast beside actual"));
    assert!(tab.text("main pre").contains("upon a time"));
    // It is followed: what is written appears, dreams too.
    let path = folder.path().join("first/dreams.jsonl");
    let before = std::fs::read_to_string(&path).unwrap();
    let dream = "{\"step\":40,\"prompt\":\"Once\",\"text\":\" there was a zebra\"}\n";
    std::fs::write(&path, before + dream).unwrap();
    let path = folder.path().join("first/metrics.jsonl");
    let text = metrics(1..=45, 1.0);
    std::fs::write(path, text).unwrap();
    tab.wait("document.querySelector('.facts').innerText.includes('45')");
    for chart in ["Loss", "Speed"] {
        tab.wait(&format!("[...document.querySelectorAll('.chart figcaption b')].some((it) => it.innerText === '{chart}')"));
    }
    // What it wrote before can be looked at again.
    assert!(tab.text("main pre").contains("zebra"));
    tab.evaluate("document.querySelector('main .panel input[type=range]').focus()");
    tab.press("Home", 0);
    tab.wait("document.querySelector('main pre').innerText.includes('the the')");
    tab.press("End", 0);
    tab.wait("document.querySelector('main pre').innerText.includes('zebra')");
    tab.pictures("runs");

    tab.click("main tbody tr:last-child input[type=checkbox]");
    tab.wait("document.querySelectorAll('.chart').length >= 3 && document.querySelectorAll('.chart > svg path.slot-1').length >= 1");
    tab.evaluate(
        "(() => { const it = document.querySelector('main select'); it.value = 'time';
            it.dispatchEvent(new Event('change', { bubbles: true })); })()",
    );
    tab.wait(
        "[...document.querySelectorAll('.chart text')].some((it) => it.textContent === 'time')",
    );
    tab.is_accessible();
    tab.pictures("runs-compared");
    tab.close();
}

#[test]
fn without_runs_the_page_says_where_they_come_from() {
    let folder = Folder::new();
    let place = folder.path().display().to_string();
    let house = House::start(&["--runs", &place]);
    let Some(mut tab) = Tab::open(&house, "#/runs") else { return };
    tab.wait("document.querySelector('main').innerText.includes('llmos pretrain')");
    tab.is_accessible();
    tab.close();
}
