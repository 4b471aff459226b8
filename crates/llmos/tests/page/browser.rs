//! A tab of a real browser, used as a person would: looks, clicks, types, and notes what goes wrong.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::house::{Folder, House, repository};
use crate::pipe::{PATIENCE, Pipe};

/// One browser at a time: they take the processors from each other.
static TURN: Mutex<()> = Mutex::new(());

/// A tab. What a script or the page's policy complains of, and whatever is asked of another host, is
/// remembered; [`Tab::close`] fails if there is any.
pub(crate) struct Tab {
    pipe: Pipe,
    session: String,
    own: String,
    _folder: Folder,
    _turn: MutexGuard<'static, ()>,
}

/// Keys that are no text: name, code, number.
const KEYS: [(&str, u32); 10] = [
    ("Enter", 13),
    ("Escape", 27),
    ("Tab", 9),
    ("Backspace", 8),
    ("ArrowLeft", 37),
    ("ArrowUp", 38),
    ("ArrowRight", 39),
    ("ArrowDown", 40),
    ("Home", 36),
    ("End", 35),
];

/// Modifiers of a key.
pub(crate) const CTRL: u32 = 2;
pub(crate) const SHIFT: u32 = 8;

impl Tab {
    /// Opens the page at an address such as `#/chat`. None where there is no Chromium.
    pub(crate) fn open(house: &House, place: &str) -> Option<Tab> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = Folder::new();
        let mut pipe = Pipe::start(folder.path())?;
        let target = pipe.call(None, "Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = pipe.call(None, "Target.attachToTarget", attach);
        let session = attached["sessionId"].as_str().unwrap().to_string();
        let own = house.url.clone();
        let mut tab = Tab { pipe, session, own, _folder: folder, _turn: turn };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            tab.call(&format!("{domain}.enable"), json!({}));
        }
        tab.size(1280, 800);
        tab.call("Page.navigate", json!({ "url": format!("{}/{place}", house.url) }));
        tab.wait("document.querySelector('h1') && !document.querySelector('.loading')");
        Some(tab)
    }

    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.pipe.call(Some(&self.session), method, params)
    }

    /// The value of an expression; a promise is waited for.
    #[track_caller]
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut result = self.call("Runtime.evaluate", params);
        let problem = &result["exceptionDetails"];
        assert!(problem.is_null(), "{expression}: {problem}");
        result["result"]["value"].take()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn wait(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        // What is not there yet is no reason to stop.
        let test =
            format!("(() => {{ try {{ return !!({expression}); }} catch {{ return false; }} }})()");
        while self.evaluate(&test) != true {
            if Instant::now() > deadline {
                let text = self.evaluate("document.body.innerText");
                let problems = self.problems();
                panic!("waited in vain for {expression}\n{text}\n{problems:#?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The text of the first element of a selector.
    #[track_caller]
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let selector = json!(selector);
        let text = self.evaluate(&format!("document.querySelector({selector})?.innerText"));
        text.as_str().unwrap_or_else(|| panic!("there is no {selector}")).to_string()
    }

    /// How many elements a selector finds.
    pub(crate) fn count(&mut self, selector: &str) -> u64 {
        let found =
            self.evaluate(&format!("document.querySelectorAll({}).length", json!(selector)));
        found.as_u64().unwrap()
    }

    /// Clicks the middle of an element, once it is there, with the mouse.
    #[track_caller]
    pub(crate) fn click(&mut self, selector: &str) {
        let find = format!("document.querySelector({})", json!(selector));
        self.wait(&format!("{find} && !{find}.disabled"));
        let at = self.evaluate(&format!(
            "(() => {{ const it = {find}; it.scrollIntoView({{ block: 'nearest' }});
                const r = it.getBoundingClientRect();
                return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            let params =
                json!({ "type": kind, "x": at[0], "y": at[1], "button": button, "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", params);
        }
    }

    /// Types text where the focus is, as an input method does.
    pub(crate) fn insert(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Clicks into a field and types.
    #[track_caller]
    pub(crate) fn fill(&mut self, selector: &str, text: &str) {
        self.click(selector);
        self.insert(text);
    }

    /// Presses a key of [`KEYS`], or a letter.
    pub(crate) fn press(&mut self, key: &str, modifiers: u32) {
        let letter = key.chars().next().map_or(0, |letter| letter.to_ascii_uppercase() as u32);
        let number =
            KEYS.iter().find(|(name, _)| *name == key).map_or(letter, |(_, number)| *number);
        let code = if key.len() == 1 { format!("Key{}", key.to_uppercase()) } else { key.into() };
        for kind in ["rawKeyDown", "keyUp"] {
            let mut params = json!({
                "type": kind, "key": key, "code": code, "modifiers": modifiers,
                "windowsVirtualKeyCode": number,
            });
            if kind == "rawKeyDown" && (key, modifiers) == ("a", CTRL) {
                params["commands"] = json!(["selectAll"]);
            }
            if kind == "rawKeyDown" && key == "Enter" {
                params["type"] = "keyDown".into();
                params["text"] = "\r".into();
            }
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// The window's size in CSS pixels.
    pub(crate) fn size(&mut self, width: u32, height: u32) {
        let params = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", params);
    }

    /// Writes what is seen to `docs/pictures/NAME.png`, where pictures are asked for.
    pub(crate) fn picture(&mut self, name: &str) {
        if std::env::var("LLMOS_PICTURES").as_deref() != Ok("1") {
            return;
        }
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let bytes = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        let folder = repository("docs/pictures");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    /// The three pictures of a page: light, dark, and as wide as a phone. It is left light and wide.
    pub(crate) fn pictures(&mut self, name: &str) {
        self.theme("light");
        self.picture(&format!("{name}-light"));
        self.theme("dark");
        self.picture(&format!("{name}-dark"));
        self.theme("light");
        self.size(390, 844);
        self.picture(&format!("{name}-phone"));
        self.size(1280, 800);
    }

    /// Presses the switch of colours until it says so.
    pub(crate) fn theme(&mut self, theme: &str) {
        let now = "document.documentElement.dataset.theme";
        for _ in 0..3 {
            let before = self.evaluate(now);
            if before == theme {
                return;
            }
            self.click("#theme");
            self.wait(&format!("{now} !== {before}"));
        }
        if self.evaluate(now) == theme {
            return;
        }
        panic!("there is no theme {theme}");
    }

    /// What scripts, the policy and the network complained of, and requests to other hosts.
    pub(crate) fn problems(&mut self) -> Vec<String> {
        let own = self.own.clone();
        let is_own = |url: &str| {
            ["data:", "blob:", "about:"].iter().any(|scheme| url.starts_with(scheme))
                || url
                    .strip_prefix(&own)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut problems = Vec::new();
        for event in self.pipe.events() {
            let params = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Runtime.exceptionThrown" => problems.push(params["exceptionDetails"].to_string()),
                "Runtime.consoleAPICalled"
                    if ["error", "warning", "assert"]
                        .contains(&params["type"].as_str().unwrap()) =>
                {
                    problems.push(params["args"].to_string());
                }
                "Log.entryAdded"
                    if ["error", "warning"]
                        .contains(&params["entry"]["level"].as_str().unwrap()) =>
                {
                    problems.push(params["entry"].to_string());
                }
                "Network.requestWillBeSent" => {
                    let url = params["request"]["url"].as_str().unwrap_or_default();
                    if !is_own(url) {
                        problems.push(format!("a request to {url}"));
                    }
                }
                _ => {}
            }
        }
        problems
    }

    /// Bytes of the page's own files that came over the wire: (path, bytes), each path once.
    pub(crate) fn files(&mut self) -> Vec<(String, u64)> {
        let own = self.own.clone();
        let (mut paths, mut files) = (std::collections::BTreeMap::new(), Vec::new());
        for event in self.pipe.events() {
            let params = &event["params"];
            let id = params["requestId"].as_str().unwrap_or_default().to_string();
            match event["method"].as_str().unwrap_or_default() {
                "Network.requestWillBeSent" => {
                    let url = params["request"]["url"].as_str().unwrap_or_default();
                    let path = url.strip_prefix(&own).unwrap_or_default();
                    if path == "/" || path.starts_with("/#") || path.starts_with("/web/") {
                        paths.insert(id, path.to_string());
                    }
                }
                "Network.loadingFinished" => {
                    if let Some(path) = paths.remove(&id) {
                        files.push((
                            path,
                            params["encodedDataLength"].as_f64().unwrap_or(0.0) as u64,
                        ));
                    }
                }
                _ => {}
            }
        }
        files.sort();
        files.dedup_by(|a, b| a.0 == b.0);
        files
    }

    /// Ends the visit; nothing may have gone wrong in it.
    #[track_caller]
    pub(crate) fn close(mut self) {
        let problems = self.problems();
        assert!(problems.is_empty(), "{problems:#?}");
    }
}
