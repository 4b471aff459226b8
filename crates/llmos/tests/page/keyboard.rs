//! Each page by keys alone, and where one is at every step can be seen.

use serde_json::json;

use crate::browser::{ALT, CTRL, Tab};
use crate::chat::answer;
use crate::house::{Folder, House};
use crate::next::settled;
use crate::runs::two_runs;

/// More tab stops than any way through a page has.
const FAR: usize = 150;

impl Tab {
    /// Goes to `selector` by Tab alone and presses Enter there.
    #[track_caller]
    fn enter(&mut self, selector: &str) {
        self.reach(selector);
        self.press("Enter", 0);
    }

    /// Presses Tab until an element of a selector has the focus. Whatever has it on the way lies in the
    /// window and is marked.
    #[track_caller]
    fn reach(&mut self, selector: &str) {
        let look = format!(
            "(() => {{ const it = document.activeElement; const box = it.getBoundingClientRect();
                const {{ outlineStyle }} = getComputedStyle(it);
                return {{ isThere: it.matches({}), name: it.outerHTML.slice(0, 120),
                    isNowhere: it === document.body || it === document.documentElement,
                    isMarked: it.matches(':focus-visible') && (outlineStyle !== 'none' || !!it.closest('.composer')),
                    isSeen: box.width > 0 && box.bottom > 0 && box.right > 0
                        && box.top < innerHeight && box.left < innerWidth }}; }})()",
            json!(selector)
        );
        let mut way = Vec::new();
        for _ in 0..FAR {
            self.press("Tab", 0);
            let now = self.evaluate(&look);
            if now["isNowhere"] == true {
                continue;
            }
            let name = now["name"].as_str().unwrap().to_string();
            assert!(now["isMarked"] == true && now["isSeen"] == true, "{now}");
            if now["isThere"] == true {
                return;
            }
            way.push(name);
        }
        panic!("no way by Tab to {selector}: {way:#?}");
    }

    /// Waits until an element of a selector has the focus.
    #[track_caller]
    fn is_at(&mut self, selector: &str) {
        self.wait(&format!("document.activeElement.matches({})", json!(selector)));
    }

    /// Puts a text in the place of what stands in the field that has the focus.
    fn replace(&mut self, text: &str) {
        self.press("a", CTRL);
        self.insert(text);
    }
}

#[test]
fn a_conversation_by_keys() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/chat") else { return };
    tab.is_at("#composer");
    tab.enter("#settings");
    tab.reach("dialog .slider input[type=number]");
    tab.replace("0");
    tab.press("Tab", 0);
    tab.press("Escape", 0);
    tab.is_at("#settings");
    tab.reach("#composer");
    tab.insert("Who are you?");
    tab.press("Enter", 0);
    answer(&mut tab);

    tab.enter(".message.user [data-action=edit]");
    tab.is_at(".message textarea");
    tab.press("Escape", 0);
    tab.is_at(".message.user [data-action=edit]");
    tab.press("Enter", 0);
    tab.is_at(".message textarea");
    tab.replace("What is your name?");
    tab.press("Enter", 0);
    tab.wait("document.querySelector('.message.user .branches')?.innerText.trim() === '2/2'");
    answer(&mut tab);
    tab.enter(".message.user .branches button");
    tab.wait("document.querySelector('.message.user .branches').innerText.trim() === '1/2'");
    tab.enter(".message.assistant [data-action=retry]");
    tab.wait("document.querySelector('.message.assistant .branches')?.innerText.trim() === '2/2'");
    answer(&mut tab);

    tab.enter(".message.assistant [data-action=up]");
    tab.is_at(".rating [name=reason]");
    tab.insert("It is short.");
    tab.press("Enter", 0);
    tab.is_at(".message.assistant [data-action=up][aria-pressed=true]");

    tab.enter("#export");
    tab.reach("[data-form=lines]");
    tab.press("Escape", 0);
    tab.is_at("#export");

    // The list: found, renamed, deleted and taken back.
    tab.press("k", CTRL);
    tab.is_at("#search");
    tab.press("ArrowDown", 0);
    tab.is_at(".entries a");
    tab.enter(".entries button");
    tab.is_at("input.rename");
    tab.replace("By keys");
    tab.press("Enter", 0);
    tab.is_at(".entries a");
    tab.wait("document.querySelector('h1').innerText === 'By keys'");
    tab.enter("#new");
    tab.wait("!document.querySelector('.message') && document.activeElement.id === 'composer'");
    tab.press("k", CTRL);
    tab.is_at("#search");
    tab.press("ArrowDown", 0);
    tab.enter(".entries button ~ button");
    tab.is_at(".toast button");
    tab.press("Enter", 0);
    tab.wait("document.querySelector('.entries a')?.innerText === 'By keys'");
    tab.close();
}

#[test]
fn the_list_of_a_phone_by_keys() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/chat") else { return };
    tab.size(320, 640);
    tab.enter("#list");
    tab.is_at("#new");
    tab.is_accessible();
    tab.press("Escape", 0);
    tab.is_at("#list[aria-expanded=false]");
    tab.close();
}

#[test]
fn the_next_word_by_keys() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/next") else { return };
    settled(&mut tab);
    tab.reach("main textarea");
    tab.replace("Once upon a");
    settled(&mut tab);
    let text = "document.querySelector('main textarea').value";
    tab.press("1", ALT);
    tab.wait(&format!("{text}.length > 'Once upon a '.length"));
    settled(&mut tab);
    // The third slider is the one of top-p; at its least a single word is left.
    tab.reach(".knobs .slider:nth-of-type(3) input[type=range]");
    tab.press("Home", 0);
    tab.wait("document.querySelectorAll('.word:not(.is-cut)').length === 1");
    tab.reach(".word");
    let before = tab.evaluate(text);
    tab.press("ArrowDown", 0);
    tab.press("Enter", 0);
    tab.wait(&format!("{text} !== {before}"));
    settled(&mut tab);
    tab.reach(".surprise .unit");
    tab.press("ArrowRight", 0);
    tab.press("ArrowRight", 0);
    tab.wait("document.querySelector('.alternatives .others button:not(:disabled)')");
    let before = tab.evaluate(text);
    tab.enter(".alternatives .others button[aria-pressed=false]");
    tab.wait(&format!("{text} !== {before}"));
    settled(&mut tab);
    tab.close();
}

#[test]
fn dreams_by_keys() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/dreams") else { return };
    tab.reach("main form label:nth-of-type(2) select");
    tab.press("ArrowDown", 0);
    tab.press("ArrowDown", 0);
    tab.reach("main form [name=seed]");
    tab.insert("7");
    for slider in [2, 3] {
        tab.reach(&format!(".knobs .slider:nth-of-type({slider}) input[type=range]"));
        tab.press("Home", 0);
    }
    tab.enter("main form .primary");
    let done = "document.querySelector('.dream') && !document.querySelector('.dream .badge.good')";
    tab.wait(done);
    let text = "document.querySelector('.dream pre').textContent";
    assert!(tab.evaluate(text).as_str().unwrap().starts_with("import java.util"));
    let first = tab.evaluate(text);
    // Again, kept, and let go. That it has begun again may last a moment only.
    tab.evaluate(
        "new MutationObserver(() => { window.again ||= !!document.querySelector('.dream .badge.good') })\
         .observe(document.body, { subtree: true, childList: true, attributes: true })",
    );
    tab.enter(".dream footer button");
    tab.wait(&format!("window.again && {done} && {text} === {first}"));
    tab.enter(".dream footer button:nth-of-type(2):not(:disabled)");
    tab.enter(".dream .danger");
    tab.wait("document.querySelectorAll('.dreams').length === 1");
    tab.close();
}

#[test]
fn the_inside_by_keys() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/inside") else { return };
    tab.reach("main [name=text]");
    tab.replace("Once upon a time there was a little");
    tab.press("Enter", 0);
    tab.wait(
        "document.querySelector('.grid tbody tr:last-child th')?.innerText.includes('little')",
    );
    tab.reach("[data-cell]");
    tab.press("ArrowDown", 0);
    tab.press("ArrowRight", 0);
    tab.press("Enter", 0);
    tab.wait("document.querySelector('[data-cell=\"1,1\"][aria-pressed=true]')");
    // Four views behind one tab stop.
    for (name, there) in
        [("attention", ".thumb"), ("off", ".switch"), ("parameters", ".tensors button")]
    {
        tab.reach("[role=tab]");
        tab.press("ArrowRight", 0);
        tab.wait(&format!(
            "location.hash === '#/inside/{name}' && document.querySelector('{there}')"
        ));
        tab.is_at("[role=tab][aria-selected=true]");
        tab.reach(there);
        tab.press("Enter", 0);
        if name == "off" {
            tab.wait("document.querySelector('.switch[aria-pressed=true]')");
            tab.reach("main .panel .row button");
            tab.press("Enter", 0);
            tab.wait("!document.querySelector('.switch[aria-pressed=true]')");
        }
    }
    tab.reach("main [type=search]");
    tab.insert("norm");
    tab.wait("[...document.querySelectorAll('.tensors tbody th')].every((it) => it.innerText.includes('norm'))");
    tab.close();
}

#[test]
fn models_by_keys() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/models") else { return };
    tab.wait("document.querySelector('.model')");
    let loaded = "document.querySelectorAll('.model .badge.good').length";
    let before = tab.evaluate(loaded);
    tab.enter(".model .toolbar button");
    tab.wait(&format!(
        "{loaded} !== {before} && !document.querySelector('.model[aria-busy=true]')"
    ));
    // Where it was pressed one can go on.
    tab.reach(".model .toolbar button:nth-of-type(2)");
    tab.reach(".model select");
    tab.press("ArrowDown", 0);
    assert_eq!(tab.evaluate("document.activeElement.value"), "q4_0");
    tab.reach("main form [name=name]");
    tab.insert("hf:no");
    tab.reach("main form button");
    tab.close();
}

#[test]
fn runs_by_keys() {
    let folder = Folder::new();
    let house = two_runs(&folder);
    let Some(mut tab) = Tab::open(&house, "#/runs") else { return };
    tab.wait("document.querySelectorAll('main tbody tr').length === 2");
    tab.enter("a[href='#/runs/first']");
    tab.wait("document.querySelector('.chart > svg')");
    tab.reach(".chart > svg");
    tab.press("End", 0);
    tab.wait("document.querySelector('.reading').innerText.includes('30')");
    tab.enter(".chart summary");
    tab.wait("document.querySelector('.chart details[open]')");
    tab.reach("main tbody input[type=checkbox]:not(:checked)");
    tab.press(" ", 0);
    tab.wait("document.querySelector('.chart > svg path.slot-1')");
    tab.reach("main .toolbar select");
    tab.press("ArrowDown", 0);
    tab.wait(
        "[...document.querySelectorAll('.chart text')].some((it) => it.textContent === 'tokens')",
    );
    tab.close();
}
