//! The page Chat as a person uses it.

use serde_json::{Value, json};

use crate::browser::{CTRL, SHIFT, Tab};
use crate::exchange::stored;
use crate::house::House;

const LAST: &str = ".message.assistant:last-of-type";

/// Waits until nothing is being written, and gives the last answer.
pub(crate) fn answer(tab: &mut Tab) -> String {
    tab.wait(
        "!document.querySelector('[aria-busy=true]') && document.querySelector('#send')
            && document.querySelector('.message.assistant')",
    );
    let text = tab.evaluate(
        "[...document.querySelectorAll('.message.assistant .markdown')].at(-1)?.innerText",
    );
    text.as_str().unwrap_or_default().to_string()
}

/// Sets how tokens are drawn, so that an answer is the same each time.
pub(crate) fn be_greedy(tab: &mut Tab) {
    tab.click("#settings");
    tab.wait("document.querySelector('dialog[open]')");
    tab.is_accessible();
    tab.evaluate(
        "(() => { const it = document.querySelector('dialog .slider input[type=number]');
            it.value = '0'; it.dispatchEvent(new Event('change', { bubbles: true })); })()",
    );
    tab.press("Escape", 0);
    tab.wait("!document.querySelector('dialog')");
}

#[test]
fn a_question_is_answered_edited_asked_again_and_rated() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/chat") else { return };
    be_greedy(&mut tab);
    tab.fill("#composer", "Who are you?");
    tab.press("Enter", 0);
    let first = answer(&mut tab);
    assert!(!first.is_empty());
    assert_eq!(tab.text(".message.user .said"), "Who are you?");
    assert!(tab.text(&format!("{LAST} .speed")).contains("tokens/s"));
    assert_eq!(tab.text("h1"), "Who are you?");

    // Another wording is another branch, and the first one is still there.
    tab.click(".message.user [data-action=edit]");
    tab.wait("document.activeElement.matches('.message textarea')");
    tab.press("a", CTRL);
    tab.insert("What is your name?");
    tab.press("Enter", 0);
    tab.wait("document.querySelector('.message.user .said')?.innerText === 'What is your name?'");
    answer(&mut tab);
    assert_eq!(tab.text(".message.user .branches").trim(), "2/2");
    tab.click(".message.user .branches button");
    tab.wait("document.querySelector('.message.user .said').innerText === 'Who are you?'");
    assert_eq!(answer(&mut tab), first);
    tab.wait("document.activeElement.matches('.message.user .branches')");
    // The arrow keys go through branches as well.
    tab.press("ArrowRight", 0);
    tab.wait("document.querySelector('.message.user .said').innerText === 'What is your name?'");

    // Another try is a sibling of the first answer.
    tab.click(&format!("{LAST} [data-action=retry]"));
    tab.wait("document.querySelector('.message.assistant .branches')?.innerText.trim() === '2/2'");
    answer(&mut tab);

    tab.click(&format!("{LAST} [data-action=down]"));
    tab.fill(".rating [name=reason]", "It did not say it.");
    tab.fill(".rating [name=ideal]", "I am the assistant.");
    tab.is_accessible();
    tab.click(".rating .primary");
    tab.wait("!document.querySelector('.rating')");
    tab.wait("document.querySelector('[data-action=down]').ariaPressed === 'true'");
    tab.is_accessible();
    tab.close();
}

#[test]
fn an_answer_streams_and_stops_where_it_is_told_to() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/chat") else { return };
    be_greedy(&mut tab);
    tab.fill("#composer", "Tell me a long story about a cat");
    // Shift+Enter is a new line, and sends nothing.
    tab.press("Enter", SHIFT);
    tab.insert("and a kite.");
    assert_eq!(tab.count(".message"), 0);
    // So small a model writes thousands of tokens a second: over a slow line one sees them come.
    slow(&mut tab, 3000);
    tab.press("Enter", 0);
    tab.wait("document.querySelector('.message.assistant[aria-busy=true] .markdown')?.innerText.length > 10");
    tab.press("Escape", 0);
    slow(&mut tab, -1);
    let stopped = answer(&mut tab);
    assert!(stopped.len() > 10, "{stopped:?}: {}", stored(&mut tab));
    // What was said until then is part of the conversation, and another question follows it.
    tab.fill("#composer", "Who are you?");
    tab.press("Enter", 0);
    tab.wait("document.querySelectorAll('.message.user').length === 2");
    answer(&mut tab);
    assert_eq!(tab.count(".message.assistant"), 2);
    tab.close();
}

#[test]
fn a_model_that_calls_a_tool_gets_its_answer() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/chat") else { return };
    be_greedy(&mut tab);
    tab.fill("#composer", "What is 58 * 37?");
    tab.press("Enter", 0);
    let said = answer(&mut tab);
    assert_eq!(tab.text("div.tool code"), "58 * 37");
    assert_eq!(tab.text("div.tool.result code"), "2146");
    assert!(said.contains("2146") || said.contains("2,146"), "{said}");
    tab.pictures("chat");
    tab.close();
}

#[test]
fn conversations_are_found_renamed_and_deleted_with_a_way_back() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/chat") else { return };
    import(&mut tab, &house, &[conversation("one", "The zebra"), conversation("two", "A walrus")]);
    tab.wait("document.querySelectorAll('.entries li').length === 2");
    tab.press("k", CTRL);
    tab.wait("document.activeElement.id === 'search'");
    tab.insert("zebra");
    tab.wait("document.querySelectorAll('.entries .hit').length >= 1");
    assert_eq!(tab.text(".entries mark").to_lowercase(), "zebra");
    tab.press("ArrowDown", 0);
    tab.press("Enter", 0);
    tab.wait("location.hash.startsWith('#/chat/') && document.querySelector('.message')");
    tab.evaluate(
        "(() => { const it = document.querySelector('#search'); it.value = '';
            it.dispatchEvent(new Event('input', { bubbles: true })); })()",
    );
    tab.wait("document.querySelectorAll('.entries li').length === 2");
    tab.click(".entries a[aria-current] ~ button");
    tab.wait("document.activeElement.matches('input.rename')");
    tab.press("a", CTRL);
    tab.insert("Striped");
    tab.press("Enter", 0);
    tab.wait("document.querySelector('h1').innerText === 'Striped'");
    tab.click(".entries a[aria-current] ~ button ~ button");
    tab.wait("document.querySelectorAll('.entries li').length === 1");
    tab.click(".toast button");
    tab.wait("document.querySelectorAll('.entries li').length === 2");
    tab.close();
}

#[test]
fn markdown_is_shown_and_nothing_in_it_acts() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/chat") else { return };
    let text = "## Title\n\n- one\n- **two**\n\n| a | b |\n|-|-|\n| 1 | 2 |\n\n```rust\nfn main() {}\n```\n\n\
        Euler: $e^{i\\pi} + 1 = 0$, and it costs $5 or $6.\n\n$$\\sum_{i=1}^n i = \\frac{n(n+1)}{2}$$\n\n\
        ![a picture](https://evil.example/x.png) [link](javascript:alert(1)) [good](https://example.org/)\n\n\
        <img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\n\n\
        <style>body { display: none }</style>";
    let mut row = conversation("markdown", "Markdown");
    row["messages"][1]["content"] = text.into();
    row["messages"][1]["reasoning_content"] = "Let me think.".into();
    import(&mut tab, &house, &[row]);
    tab.click(".entries a");
    tab.wait("document.querySelector('.markdown math')");
    for (selector, expected) in [
        (".markdown h4", 1),
        (".markdown li", 2),
        (".markdown table td", 2),
        (".markdown pre code", 1),
        (".markdown math", 2),
        (".markdown mfrac", 1),
        (".markdown img", 0),
        (".markdown script, .markdown style", 0),
        (".markdown a[href^='https:']", 2),
        (".markdown a:not([href^='https:'])", 0),
        (".reasoning:not([open])", 1),
    ] {
        assert_eq!(tab.count(selector), expected, "{selector}");
    }
    assert!(tab.text(".markdown").contains("it costs $5 or $6"));
    assert!(tab.text(".markdown").contains("<script>"));
    assert_ne!(tab.evaluate("document.title"), "owned");
    assert!(
        tab.evaluate("document.querySelector('math').getBoundingClientRect().width")
            .as_f64()
            .unwrap()
            > 20.0
    );
    tab.is_accessible();
    tab.theme("dark");
    tab.is_accessible();
    tab.pictures("chat-markdown");
    tab.close();
}

#[test]
fn a_file_goes_along_as_text() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/chat") else { return };
    let path = house.home.path().join("notes.txt");
    std::fs::write(&path, "The cat is called Tom.").unwrap();
    upload(&mut tab, ".composer input[type=file]", &path.display().to_string());
    tab.wait("document.querySelector('.composer .attachment')?.innerText.includes('notes.txt')");
    let binary = house.home.path().join("x.bin");
    std::fs::write(&binary, [0xff, 0, 1]).unwrap();
    upload(&mut tab, ".composer input[type=file]", &binary.display().to_string());
    tab.wait("document.querySelector('.error-note')?.innerText.includes('x.bin')");
    tab.fill("#composer", "What is the cat called?");
    tab.press("Enter", 0);
    answer(&mut tab);
    assert!(tab.text(".message.user .attachment").contains("notes.txt"));
    assert_eq!(tab.count(".composer .attachment"), 0);
    tab.close();
}

#[test]
fn a_phone_has_the_list_behind_a_button() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/chat") else { return };
    tab.size(390, 844);
    let hidden = "getComputedStyle(document.querySelector('.sidebar')).visibility === 'hidden'";
    tab.wait(hidden);
    tab.click("#list");
    tab.wait(&format!("!({hidden})"));
    tab.is_accessible();
    tab.press("Escape", 0);
    tab.wait(hidden);
    tab.fill("#composer", "Who are you?");
    tab.click("#send");
    assert!(!answer(&mut tab).is_empty());
    assert_eq!(tab.evaluate("document.documentElement.scrollWidth"), 390);
    tab.close();
}

/// Lets so many bytes a second come; all there are at -1.
fn slow(tab: &mut Tab, bytes: i64) {
    let line = json!({ "offline": false, "latency": 0, "downloadThroughput": bytes, "uploadThroughput": -1 });
    tab.call("Network.emulateNetworkConditions", line);
}

/// A conversation of two messages, as anybody writes them down.
pub(crate) fn conversation(id: &str, title: &str) -> Value {
    json!({ "id": id, "title": title, "messages": [
        { "role": "user", "content": format!("{title} speaks") },
        { "role": "assistant", "content": format!("{title} listens") },
    ] })
}

pub(crate) fn import(tab: &mut Tab, house: &House, rows: &[Value]) {
    let path = house.home.path().join("rows.jsonl");
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(&path, lines).unwrap();
    tab.wait("document.querySelector('#new:not([disabled])')");
    upload(tab, ".list input[type=file]", &path.display().to_string());
    tab.wait("document.querySelector('.entries a')");
}

/// Chooses a file.
pub(crate) fn upload(tab: &mut Tab, selector: &str, path: &str) {
    let find = json!({ "expression": format!("document.querySelector({})", json!(selector)) });
    let found = tab.call("Runtime.evaluate", find);
    let object = &found["result"]["objectId"];
    assert!(object.is_string(), "{selector}");
    tab.call("DOM.setFileInputFiles", json!({ "files": [path], "objectId": object }));
}

#[test]
fn the_page_s_tools_answer_as_the_command_s_do() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "#/chat") else { return };
    for expression in [
        "58 * 37",
        "0.1 + 0.2",
        "-2^2",
        "2^-1",
        "2^3^2",
        "7 % -3",
        "-7 % 3",
        "(47 + 36) * 2",
        "1 / 3",
        "-1 / 8000000",
        "2 ^ 0.5",
        "10 ^ 20",
        "--3",
        ".5 + .5",
        "1 / 0",
        "(0 - 4) ^ 0.5",
    ] {
        let call = json!(json!({ "expression": expression }).to_string());
        let said = tab.evaluate(&format!(
            "import('/web/pages/chat/tools.js').then(({{ run }}) => run('calculator', {call}))"
        ));
        assert_eq!(said, llmos_agent::calculator::reply(expression), "{expression}");
    }
    let said = tab.evaluate(
        "import('/web/pages/chat/tools.js').then(({ clock }) => clock(new Date(2026, 10, 27, 10, 39)))",
    );
    assert_eq!(said, "Friday, 27 November 2026, 10:39");
    tab.close();
}
