//! What goes out of a chat and what stays with it: files, the clipboard, files that go along, settings and
//! ratings.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::browser::{CTRL, Tab};
use crate::chat::{answer, be_greedy, conversation, import, upload};
use crate::house::House;
use crate::pipe::PATIENCE;

/// The text of the only file of a folder that ends so, once it is whole. The file goes.
#[track_caller]
fn saved(folder: &Path, ending: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let found = files.find(|path| path.extension().is_some_and(|it| it == ending));
        let text = found.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        if let (Some(path), Some(text)) = (&found, text.filter(|text| text.ends_with('\n'))) {
            std::fs::remove_file(path).unwrap();
            return text;
        }
        assert!(Instant::now() < deadline, "no .{ending} was saved");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// What the server has of the conversation that is shown.
pub(crate) fn stored(tab: &mut Tab) -> Value {
    tab.evaluate(
        "fetch('/v1/conversations/' + location.hash.split('/')[2]).then((it) => it.json())",
    )
}

#[test]
fn a_conversation_is_saved_for_people_and_for_programs() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/chat") else { return };
    let folder = tab.downloads();
    let call = json!({ "id": "call", "type": "function",
        "function": { "name": "calculator", "arguments": "{\"expression\": \"6 * 7\"}" } });
    // Two wordings of a question; the second is shown.
    let tree = json!([
        { "number": 1, "parent": null, "created": 1, "role": "user", "content": "What is six?" },
        { "number": 2, "parent": 1, "created": 2, "role": "assistant", "content": "Half a dozen." },
        { "number": 3, "parent": null, "created": 3, "role": "user", "content": "What is 6 * 7?",
          "attachments": [{ "name": "notes.md", "media": "text/markdown", "text": "```\nsix\n```" }] },
        { "number": 4, "parent": 3, "created": 4, "role": "assistant", "content": "", "tool_calls": [call] },
        { "number": 5, "parent": 4, "created": 5, "role": "tool", "content": "42", "tool_call_id": "call", "name": "calculator" },
        { "number": 6, "parent": 5, "created": 6, "role": "assistant", "content": "- **42**" },
    ]);
    let row = json!({ "id": "two-wordings", "title": "Six: by seven", "created": 1, "updated": 6, "leaf": 6,
        "settings": { "system": "Be brief." }, "tree": tree });
    import(&mut tab, &house, &[row, conversation("other", "Another")]);
    tab.evaluate("location.hash = '#/chat/two-wordings'");
    tab.wait("document.querySelector('.message.tool')");
    tab.click("#export");
    tab.wait("document.querySelector('dialog[open]')");
    tab.is_accessible();
    tab.click("[data-form=markdown]");
    assert_eq!(
        saved(&folder, "md"),
        "# Six: by seven\n\n**System:**\n\nBe brief.\n\n**You:**\n\nWhat is 6 * 7?\n\nnotes.md:\n\n\
         ````\n```\nsix\n```\n````\n\n**Assistant:**\n\n> `calculator({\"expression\": \"6 * 7\"})`\n\n\
         **Tool:**\n\n> 42\n\n**Assistant:**\n\n- **42**\n"
    );
    tab.wait("!document.querySelector('dialog')");
    tab.click("#export");
    tab.click("[data-form=lines]");
    let line = saved(&folder, "jsonl");
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["tree"].as_array().unwrap().len(), 6);
    let said =
        tab.evaluate("fetch('/v1/conversations/two-wordings/export').then((it) => it.text())");
    assert_eq!(said, line);

    tab.click(".list > .row:last-child button");
    let lines = saved(&folder, "jsonl");
    assert_eq!(lines.lines().count(), 2);
    assert!(lines.contains(&line));
    tab.close();
}

#[test]
fn code_and_messages_are_copied() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/chat") else { return };
    tab.allow_clipboard();
    let mut row = conversation("code", "Code");
    let text = "Look:\n\n```rust\nfn main() {\n    let x = \"<b>\";\n}\n```";
    row["messages"][1]["content"] = text.into();
    import(&mut tab, &house, &[row]);
    tab.click(".entries a");
    for (button, expected) in [
        (".markdown .code figcaption button", "fn main() {\n    let x = \"<b>\";\n}"),
        (".message.assistant .actions button", text),
    ] {
        tab.click(button);
        tab.wait(&format!("document.querySelector('{button}').innerText.includes('Copied')"));
        assert_eq!(tab.evaluate("navigator.clipboard.readText()"), expected);
    }
    tab.close();
}

#[test]
fn who_the_model_is_and_how_it_draws_are_the_conversation_s() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/chat") else { return };
    be_greedy(&mut tab);
    tab.click("#settings");
    tab.fill("dialog textarea", "You are a parrot.");
    tab.fill("dialog .split label:nth-child(1) input", "9");
    tab.fill("dialog .split label:nth-child(2) input", "77");
    tab.press("Tab", 0);
    tab.press("Escape", 0);
    tab.wait("!document.querySelector('dialog')");
    tab.fill("#composer", "Tell me a story about a cat and a kite.");
    tab.press("Enter", 0);
    answer(&mut tab);
    let kept = stored(&mut tab);
    let settings = &kept["settings"];
    assert_eq!((&settings["system"], &settings["seed"]), (&json!("You are a parrot."), &json!(77)));
    let origin = &kept["messages"][1]["origin"];
    assert_eq!((&origin["seed"], &origin["sampling"]["temperature"]), (&json!(77), &json!(0)));
    assert_eq!((&origin["tokens"], &origin["finish"]), (&json!(9), &json!("length")));
    assert_eq!(origin["sampling"]["conversation"]["system"], "You are a parrot.");
    // They are there again, and a new conversation has its own.
    tab.call("Page.reload", json!({}));
    tab.wait("document.querySelector('.message.assistant')");
    let system = "document.querySelector('dialog textarea')?.value";
    tab.click("#settings");
    tab.wait(&format!("{system} === 'You are a parrot.'"));
    tab.press("Escape", 0);
    tab.wait("!document.querySelector('dialog')");
    tab.click("#new");
    tab.wait("!document.querySelector('.message')");
    tab.click("#settings");
    tab.wait(&format!("{system} === ''"));
    tab.close();
}

#[test]
fn what_went_along_and_what_was_thought_of_it_are_kept() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/chat") else { return };
    be_greedy(&mut tab);
    let path = house.home.path().join("notes.txt");
    std::fs::write(&path, "The cat is called Tom.\n").unwrap();
    upload(&mut tab, ".composer input[type=file]", &path.display().to_string());
    tab.wait("document.querySelector('.composer .attachment')");
    tab.fill("#composer", "Who are you?");
    tab.press("Enter", 0);
    answer(&mut tab);
    let thumb =
        |tab: &mut Tab, name: &str| tab.click(&format!(".message.assistant [data-action={name}]"));
    thumb(&mut tab, "up");
    tab.fill(".rating [name=reason]", "It is true.");
    tab.press("Enter", 0);
    tab.wait("!document.querySelector('.rating')");
    let deadline = Instant::now() + PATIENCE;
    let rating = loop {
        let kept = stored(&mut tab);
        let message = &kept["messages"][0];
        let file = json!([{ "name": "notes.txt", "media": "text/plain", "text": "The cat is called Tom.\n" }]);
        assert_eq!((&message["content"], &message["attachments"]), (&json!("Who are you?"), &file));
        let rating = kept["messages"][1]["rating"].clone();
        if rating["reason"].is_string() {
            break rating;
        }
        assert!(Instant::now() < deadline, "{kept}");
    };
    assert_eq!((&rating["thumb"], &rating["reason"]), (&json!("up"), &json!("It is true.")));
    // The reason is there to be changed, and a second press takes the rating back.
    tab.call("Page.reload", json!({}));
    tab.wait("document.querySelector('[data-action=up][aria-pressed=true]')");
    tab.evaluate(
        "[...document.querySelectorAll('.message.assistant .actions button')].at(-1).click()",
    );
    tab.wait("document.querySelector('.rating [name=reason]').value === 'It is true.'");
    tab.press("a", CTRL);
    tab.press("Escape", 0);
    tab.wait("!document.querySelector('.rating')");
    thumb(&mut tab, "up");
    tab.wait("document.querySelector('[data-action=up][aria-pressed=false]')");
    tab.close();
}
