//! The page Look inside as a person uses it.

use serde_json::{Value, json};

use crate::browser::{CTRL, Tab};
use crate::house::House;
use crate::next::ask;

const TEXT: &str = "Once upon a time there was a little";

#[track_caller]
fn look(tab: &mut Tab) -> String {
    tab.click("main [name=text]");
    tab.press("a", CTRL);
    tab.insert(TEXT);
    tab.press("Enter", 0);
    tab.evaluate("document.querySelector('main select').value").as_str().unwrap().to_string()
}

#[test]
fn every_layer_says_what_comes_next() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/inside") else { return };
    let model = look(&mut tab);
    tab.wait(
        "document.querySelector('.grid tbody tr:last-child th')?.innerText.includes('little')",
    );
    let lens = ask(&mut tab, "/v1/lens", &json!({ "model": model, "prompt": TEXT, "top": 1 }));
    let layers = lens["layers"].as_array().unwrap().len() as u64;
    let tokens = lens["tokens"].as_array().unwrap().len() as u64;
    assert_eq!(tab.count(".grid .cell"), layers * tokens);
    // The last layer's word is the one that the model would say.
    let next = ask(&mut tab, "/v1/next", &json!({ "model": model, "prompt": TEXT, "top": 1 }));
    let word = next["next"][0]["text"].as_str().unwrap().trim().to_string();
    let last = tab.text(".grid tbody tr:last-child td:last-child .seen");
    assert_eq!(last.trim_matches('␣'), word);
    // The arrow keys lead through the grid; Enter shows a cell's list.
    tab.evaluate("document.querySelector('[data-cell=\"0,0\"]').focus()");
    tab.press("ArrowDown", 0);
    tab.press("ArrowRight", 0);
    assert_eq!(tab.evaluate("document.activeElement.dataset.cell"), "1,1");
    tab.press("Enter", 0);
    tab.wait("document.querySelector('[data-cell=\"1,1\"][aria-pressed=true]')");
    assert_eq!(tab.count(".list tbody tr"), 10);
    tab.is_accessible();
    tab.pictures("inside-layers");
    tab.close();
}

#[test]
fn heads_show_where_they_look() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/inside/attention") else { return };
    let model = look(&mut tab);
    tab.wait("document.querySelector('.words')?.innerText.includes('little')");
    let body = json!({ "model": model, "prompt": TEXT, "top": 1, "attention": true });
    let attention = ask(&mut tab, "/v1/lens", &body)["attention"].clone();
    let heads: usize =
        attention.as_array().unwrap().iter().map(|l| l.as_array().unwrap().len()).sum();
    assert_eq!(tab.count(".thumb"), heads as u64);
    // Another head, and another token that looks.
    tab.click("[data-cell='1,2']");
    tab.evaluate("document.querySelectorAll('.words .word')[4].focus()");
    let row = attention[1][2][4].as_array().unwrap().clone();
    let most = row.iter().map(|weight| weight.as_f64().unwrap()).fold(0.0, f64::max);
    tab.wait("document.querySelector('.words .word:nth-child(5)[aria-pressed=true]')");
    let shown: f64 = tab.text(".list tbody .right").trim_end_matches('%').parse().unwrap();
    assert!((shown - 100.0 * most).abs() < 0.06, "{shown} for {most}");
    // The pictures are drawn: a causal one has nothing above its diagonal.
    let drawn = "(() => { const it = document.querySelector('.map canvas'); const n = it.width;
        const data = it.getContext('2d').getImageData(0, 0, n, n).data;
        return n > 4 && data[3] > 200 && data[4 * (n - 1) + 3] === 0; })()";
    tab.wait(drawn);
    tab.is_accessible();
    tab.pictures("inside-attention");
    tab.close();
}

/// The likeliest word is as likely as the server says that it is without these parts.
#[track_caller]
fn is_without(tab: &mut Tab, model: &str, off: &Value) {
    let body = json!({ "model": model, "prompt": TEXT, "top": 20, "off": off });
    let next = ask(tab, "/v1/lens", &body)["next"].clone();
    let most = 100.0 * next[0]["probability"].as_f64().unwrap();
    tab.wait(&format!(
        "Math.abs(Math.max(...[...document.querySelectorAll('.paired tbody tr')].map((row) =>
            parseFloat(row.children[2].innerText)).filter((share) => share >= 0)) - {most}) < 0.06"
    ));
}

#[test]
fn what_is_switched_off_is_missed() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/inside/off") else { return };
    let model = look(&mut tab);
    tab.wait("document.querySelector('.paired tbody tr') && document.querySelector('.switch')");
    tab.wait("!document.querySelector('section[aria-busy=true]')");
    let same = "[...document.querySelectorAll('.paired tbody tr')].every((row) =>
        row.children[1].innerText === row.children[2].innerText)";
    assert_eq!(tab.evaluate(same), true);
    tab.click("[data-cell='0,0']");
    tab.wait(&format!(
        "document.querySelector('[data-cell=\"0,0\"][aria-pressed=true]') && !({same})"
    ));
    is_without(&mut tab, &model, &json!([{ "layer": 0 }]));
    // A single head instead.
    tab.click("[data-cell='0,0']");
    tab.click("[data-cell='1,2']");
    tab.wait("document.querySelectorAll('.switch[aria-pressed=true]').length === 1");
    is_without(&mut tab, &model, &json!([{ "layer": 1, "head": 1 }]));
    tab.click("main .panel .primary");
    tab.wait("document.querySelector('main ol li') && !document.querySelector('progress')");
    assert_eq!(tab.count("main ol li"), 10);
    tab.is_accessible();
    tab.pictures("inside-off");
    tab.close();
}

#[test]
fn the_numbers_of_every_tensor_are_shown() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/inside/parameters") else { return };
    tab.wait("document.querySelector('.tensors tbody tr')");
    let model = tab.evaluate("document.querySelector('main select').value");
    let tensors = tab.evaluate(&format!(
        "fetch('/v1/parameters?model=' + {model}).then((it) => it.json()).then((it) => it.tensors.length)"
    ));
    assert_eq!(tab.count(".tensors tbody tr"), tensors.as_u64().unwrap());
    tab.fill("main [type=search]", "attn_q");
    tab.wait("[...document.querySelectorAll('.tensors tbody th')].every((it) => it.innerText.includes('attn_q'))");
    assert!(tab.count(".tensors tbody tr") > 0);
    tab.click(".tensors tbody tr:last-child button");
    tab.wait("document.querySelector('main .panel h2').innerText.includes('attn_q')");
    // Its histogram has a step for each of its 64 counts.
    let steps = "document.querySelector('.histogram .fill').getAttribute('d').match(/V/g).length";
    assert_eq!(tab.evaluate(steps), 64 + 1);
    tab.is_accessible();
    tab.pictures("inside-parameters");
    tab.close();
}
