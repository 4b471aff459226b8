//! The page Next word as a person uses it; what it shows is what the API says.

use serde_json::{Value, json};

use crate::browser::{CTRL, Tab};
use crate::house::House;

/// Puts a text in the place of the one that is there.
#[track_caller]
fn write(tab: &mut Tab, text: &str) {
    tab.click("main textarea");
    tab.press("a", CTRL);
    tab.insert(text);
    settled(tab);
}

/// Waits until the tables are those of the text.
#[track_caller]
pub(crate) fn settled(tab: &mut Tab) {
    tab.wait(
        "document.querySelector('.column .word') && !document.querySelector('.column[aria-busy=true]')
            && document.querySelector('.surprise')
            && [...document.querySelectorAll('.surprise .seen')].map((unit) => unit.textContent).join('')
                .replaceAll('↵', '').includes(document.querySelector('main textarea').value.trim())",
    );
}

/// Sets a number beside a slider, by the name of its label.
#[track_caller]
pub(crate) fn set_number(tab: &mut Tab, label: &str, value: f64) {
    let label = json!(label);
    tab.evaluate(&format!(
        "(() => {{ const it = [...document.querySelectorAll('.slider')]
                .find((one) => one.querySelector('label').innerText.startsWith({label}))
                .querySelector('input[type=range]');
            it.value = {value}; it.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()"
    ));
}

/// What the server answers to a call of the page's own.
#[track_caller]
pub(crate) fn ask(tab: &mut Tab, path: &str, body: &Value) -> Value {
    tab.evaluate(&format!(
        "fetch({}, {{ method: 'POST', headers: {{ 'content-type': 'application/json' }},
            body: JSON.stringify({body}) }}).then((answer) => answer.json())",
        json!(path)
    ))
}

/// Rows of the first table that are not cut off.
fn kept(tab: &mut Tab) -> u64 {
    tab.click(".column:first-child [aria-expanded=false]");
    let kept = tab.count(".column:first-child .word:not(.is-cut)");
    tab.click(".column:first-child [aria-expanded=true]");
    kept
}

#[test]
fn the_table_follows_the_text_and_is_the_api_s() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/next") else { return };
    settled(&mut tab);
    assert_eq!(tab.evaluate("document.querySelector('main textarea').value"), "cat sat on a");
    let model = tab.evaluate("document.querySelector('main select').value");
    for text in ["The little girl went to the", "从前有一只小"] {
        write(&mut tab, text);
        let body = json!({ "model": model, "prompt": text, "top": 3 });
        let next = ask(&mut tab, "/v1/next", &body);
        for (row, expected) in next["next"].as_array().unwrap().iter().enumerate() {
            let share = expected["probability"].as_f64().unwrap();
            let shown = tab.text(&format!(".words li:nth-child({}) .share.dim", row + 1));
            let shown: f64 = shown.trim_end_matches('%').parse().unwrap();
            assert!((shown - 100.0 * share).abs() < 0.06, "{text}, row {row}: {shown} for {share}");
        }
        let score = ask(&mut tab, "/v1/score", &json!({ "model": model, "text": text }));
        let expected = score["bits_per_byte"].as_f64().unwrap();
        let shown: f64 = tab.text(".facts div:nth-child(2) dd").parse().unwrap();
        assert!((shown - expected).abs() < 0.006, "{text}: {shown} for {expected} bits a byte");
        tab.is_accessible();
    }
    tab.close();
}

#[test]
fn what_was_typed_last_is_what_is_shown() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/next") else { return };
    settled(&mut tab);
    tab.click("main textarea");
    tab.press("a", CTRL);
    for letter in "Once upon a time there was a dog".chars() {
        tab.insert(&letter.to_string());
    }
    settled(&mut tab);
    let model = tab.evaluate("document.querySelector('main select').value");
    let body = json!({ "model": model, "prompt": "Once upon a time there was a dog", "top": 1 });
    let share = ask(&mut tab, "/v1/next", &body)["next"][0]["probability"].as_f64().unwrap();
    let shown: f64 = tab.text(".word .share.dim").trim_end_matches('%').parse().unwrap();
    assert!((shown - 100.0 * share).abs() < 0.06, "{shown} for {share}");
    tab.close();
}

#[test]
fn each_keystroke_has_a_table_of_its_own() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/next") else { return };
    settled(&mut tab);
    let model = tab.evaluate("document.querySelector('main select').value");
    tab.click("main textarea");
    tab.press("a", CTRL);
    let mut text = String::new();
    for letter in "Once upon".chars() {
        tab.insert(&letter.to_string());
        text.push(letter);
        let body = json!({ "model": model, "prompt": text, "top": 1 });
        let share =
            100.0 * ask(&mut tab, "/v1/next", &body)["next"][0]["probability"].as_f64().unwrap();
        tab.wait(&format!(
            "Math.abs(parseFloat(document.querySelector('.word .share.dim').innerText) - {share}) < 0.06"
        ));
    }
    tab.close();
}

#[test]
fn the_bars_change_as_a_knob_is_dragged() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/next") else { return };
    write(&mut tab, "Once upon a time, there was a");
    let slider = ".knobs .slider:nth-of-type(3) input[type=range]";
    assert_eq!(tab.count(".word.is-cut"), 0);
    tab.drag(slider, 0.97, 0.3);
    tab.wait("document.querySelector('.word.is-cut')");
    let value = tab.evaluate(&format!("Number(document.querySelector('{slider}').value)"));
    assert!((value.as_f64().unwrap() - 0.3).abs() < 0.1, "{value}");
    tab.release(slider, 0.3);
    tab.close();
}

#[test]
fn the_knobs_reshape_the_bars_as_the_sampler_would() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/next") else { return };
    write(&mut tab, "Once upon a time, there was a");
    let model = tab.evaluate("document.querySelector('main select').value");
    let body = json!({ "model": model, "prompt": "Once upon a time, there was a", "top": 200 });
    let next = ask(&mut tab, "/v1/next", &body);
    let shares: Vec<f64> = next["next"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["probability"].as_f64().unwrap())
        .collect();

    // Within the second word: the page shows a dozen, whatever the model makes of them.
    let top_p = (100.0 * (shares[0] + shares[1] / 2.0)).round() / 100.0;
    set_number(&mut tab, "Top-p", top_p);
    tab.wait("document.querySelector('.word.is-cut')");
    let mut sum = 0.0;
    let expected = shares.iter().take_while(|&share| {
        let before = sum;
        sum += share;
        before < top_p
    });
    let expected = expected.count();
    assert_eq!(kept(&mut tab), expected as u64);
    let sum: f64 = shares[..expected].iter().sum();
    let shown: f64 = tab.text(".word .share").trim_end_matches('%').parse().unwrap();
    assert!((shown - 100.0 * shares[0] / sum).abs() < 0.06, "{shown}");
    assert!(tab.text(".word.is-cut .share").contains("Top-p"));
    tab.is_accessible();

    set_number(&mut tab, "Top-p", 1.0);
    set_number(&mut tab, "Min-p", 0.1);
    tab.wait("document.querySelector('.word.is-cut')?.innerText.includes('Min-p')");
    let expected = shares.iter().filter(|&&share| share >= 0.1 * shares[0]).count();
    assert_eq!(kept(&mut tab), expected as u64);

    set_number(&mut tab, "Min-p", 0.0);
    set_number(&mut tab, "Top-k", 3.0);
    tab.wait("document.querySelectorAll('.word:not(.is-cut)').length === 3");

    set_number(&mut tab, "Top-k", 0.0);
    set_number(&mut tab, "Temperature", 0.0);
    tab.wait("document.querySelectorAll('.word:not(.is-cut)').length === 1");
    assert_eq!(tab.text(".word .share"), "100%");

    set_number(&mut tab, "Temperature", 0.5);
    tab.wait("!document.querySelector('.word.is-cut')");
    // Squares, by their sum: what lies beyond the first hundred adds nothing that could be seen.
    let sum: f64 = shares.iter().map(|share| share * share).sum();
    let shown: f64 = tab.text(".word .share").trim_end_matches('%').parse().unwrap();
    assert!((shown - 100.0 * shares[0] * shares[0] / sum).abs() < 0.06, "{shown}");
    tab.close();
}

#[test]
fn words_are_appended_by_hand_and_by_keys() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/next") else { return };
    write(&mut tab, "Once upon a");
    let text = "document.querySelector('main textarea').value";
    tab.click(".word");
    settled(&mut tab);
    let first = tab.evaluate(text).as_str().unwrap().to_string();
    assert!(first.starts_with("Once upon a ") && first.len() > 12, "{first:?}");
    // The focus stays in the table, where the arrows move and digits and Enter choose.
    assert_eq!(tab.evaluate("document.activeElement.className.trim()"), "word");
    tab.press("ArrowDown", 0);
    tab.press("Enter", 0);
    tab.wait(&format!("{text}.length > {}", first.chars().count()));
    settled(&mut tab);
    let second = tab.evaluate(text).as_str().unwrap().to_string();
    tab.press("1", 0);
    tab.wait(&format!("{text}.length > {}", second.chars().count()));
    settled(&mut tab);
    assert!(tab.evaluate(text).as_str().unwrap().starts_with(&second));

    // Half a Chinese character waits until the rest of it is chosen.
    write(&mut tab, "从前有一只");
    for _ in 0..12 {
        let before = tab.evaluate(text);
        tab.press("Escape", 0);
        tab.click(".word");
        tab.wait(&format!(
            "{text} !== {before} || document.querySelector('.badge.warn') || document.querySelector('.error-note')"
        ));
        tab.wait("!document.querySelector('.column[aria-busy=true]')");
        assert_eq!(tab.count(".error-note"), 0);
        assert!(!tab.evaluate(text).as_str().unwrap().contains('\u{fffd}'));
    }
    tab.close();
}

#[test]
fn each_word_of_the_text_shows_what_else_was_expected() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/next") else { return };
    write(&mut tab, "Once upon a time, there was a giraffe.");
    // The more bits, the deeper the colour; the words themselves say how many.
    let units = tab.evaluate(
        "[...document.querySelectorAll('.surprise .unit:not(.is-first)')].map((it) =>
            [Number(/([\\d.]+) bits$/.exec(it.innerText)[1]), Number(/shade-(\\d)/.exec(it.className)[1])])
            .sort((a, b) => a[0] - b[0])",
    );
    let units = units.as_array().unwrap();
    assert!(units.windows(2).all(|pair| pair[0][1].as_u64() <= pair[1][1].as_u64()), "{units:?}");
    assert!(units[0][1].as_u64() < units[units.len() - 1][1].as_u64(), "{units:?}");
    tab.hover(".surprise .unit:nth-child(3)");
    tab.wait("document.querySelectorAll('.alternatives .others button').length >= 10");
    let hovered = tab.text(".alternatives b");
    tab.hover(".surprise .unit:nth-child(5)");
    tab.wait(&format!(
        "document.querySelector('.alternatives b').innerText !== {}",
        json!(hovered)
    ));
    tab.evaluate("document.querySelector('.surprise [tabindex=\"0\"]').focus()");
    for _ in 0..3 {
        tab.press("ArrowRight", 0);
    }
    tab.wait("document.querySelectorAll('.alternatives .others button').length >= 10");
    assert!(tab.text(".alternatives").contains("bit"));
    tab.is_accessible();
    // The text goes on from another word.
    let other = ".alternatives li button[aria-pressed=false]:not(:disabled)";
    let word = tab.text(&format!("{other} .token")).replace('␣', " ");
    tab.click(other);
    tab.wait(&format!("document.querySelector('main textarea').value.endsWith({})", json!(word)));
    settled(&mut tab);
    let written = tab.evaluate("document.querySelector('main textarea').value");
    assert!(!written.as_str().unwrap().contains("giraffe"), "{written}");
    tab.close();
}

#[test]
fn two_models_stand_side_by_side() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/next") else { return };
    write(&mut tab, "Once upon a time there was a");
    tab.evaluate(
        "(() => { const it = document.querySelectorAll('main select')[1]; it.selectedIndex = 1;
            it.dispatchEvent(new Event('change', { bubbles: true })); })()",
    );
    tab.wait("document.querySelectorAll('.column .surprise').length === 2");
    tab.wait("!document.querySelector('.column[aria-busy=true]')");
    let names =
        tab.evaluate("[...document.querySelectorAll('.column h2')].map((it) => it.innerText)");
    assert_ne!(names[0], names[1]);
    tab.is_accessible();
    set_number(&mut tab, "Top-p", 0.8);
    tab.wait("document.querySelector('.word.is-cut')");
    tab.evaluate("document.querySelector('.surprise .unit:nth-child(4)').focus()");
    tab.wait("document.querySelector('.alternatives .others')");
    tab.evaluate("document.querySelector('main').scrollTo(0, 0)");
    tab.pictures("next");
    tab.close();
}

#[test]
fn it_goes_on_by_itself_until_it_is_stopped() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/next") else { return };
    write(&mut tab, "Once upon a time");
    tab.click(".knobs .primary");
    tab.wait("document.querySelector('main textarea').value.length > 60");
    tab.press("Escape", 0);
    tab.wait("document.querySelector('.knobs .primary[aria-pressed=false]')");
    tab.close();
}
