//! A tab of a real browser, used as a person would: looks, clicks, types, and notes what goes wrong.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
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
    folder: Folder,
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
pub(crate) const ALT: u32 = 1;
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
        let mut tab = Tab { pipe, session, own, folder, _turn: turn };
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
        let at = self.place(selector, 0.5);
        self.mouse("mouseMoved", at, false);
        self.mouse("mousePressed", at, true);
        self.mouse("mouseReleased", at, true);
    }

    /// Moves the mouse to the middle of an element.
    #[track_caller]
    pub(crate) fn hover(&mut self, selector: &str) {
        let at = self.place(selector, 0.5);
        self.mouse("mouseMoved", at, false);
    }

    /// Presses the mouse on an element at a share of its width, and moves it to another; it stays pressed
    /// until [`Tab::release`].
    #[track_caller]
    pub(crate) fn drag(&mut self, selector: &str, from: f64, to: f64) {
        let (from, to) = (self.place(selector, from), self.place(selector, to));
        self.mouse("mouseMoved", from, false);
        self.mouse("mousePressed", from, true);
        self.mouse("mouseMoved", to, true);
    }

    /// Lets go of the mouse where [`Tab::drag`] left it.
    #[track_caller]
    pub(crate) fn release(&mut self, selector: &str, at: f64) {
        let at = self.place(selector, at);
        self.mouse("mouseReleased", at, true);
    }

    /// A point of an element, once it is there, in its middle and at a share of its width.
    #[track_caller]
    fn place(&mut self, selector: &str, share: f64) -> (f64, f64) {
        let find = format!("document.querySelector({})", json!(selector));
        self.wait(&format!("{find} && !{find}.disabled"));
        let at = self.evaluate(&format!(
            "(() => {{ const it = {find}; it.scrollIntoView({{ block: 'nearest' }});
                const r = it.getBoundingClientRect();
                return [r.x + r.width * {share}, r.y + r.height / 2]; }})()"
        ));
        (at[0].as_f64().unwrap(), at[1].as_f64().unwrap())
    }

    /// A move, a press or a release, with the left button or without any.
    fn mouse(&mut self, kind: &str, (x, y): (f64, f64), is_left: bool) {
        let params = json!({
            "type": kind, "x": x, "y": y, "button": if is_left { "left" } else { "none" },
            "clickCount": u32::from(is_left && kind != "mouseMoved"),
        });
        self.call("Input.dispatchMouseEvent", params);
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

    /// Presses a key of [`KEYS`], a letter, a digit or the space bar.
    pub(crate) fn press(&mut self, key: &str, modifiers: u32) {
        let letter = key.chars().next().map_or(0, |letter| letter.to_ascii_uppercase() as u32);
        let number =
            KEYS.iter().find(|(name, _)| *name == key).map_or(letter, |(_, number)| *number);
        let code = match key.as_bytes() {
            b" " => "Space".to_string(),
            [b'0'..=b'9'] => format!("Digit{key}"),
            [_] => format!("Key{}", key.to_uppercase()),
            _ => key.to_string(),
        };
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

    /// Bytes of the page's own files that came over the wire, heads included, by their paths. Of a file that
    /// came more than once, the largest answer counts.
    pub(crate) fn files(&mut self) -> BTreeMap<String, u64> {
        let own = self.own.clone();
        let (mut paths, mut files) = (HashMap::new(), BTreeMap::new());
        for event in self.pipe.events() {
            let params = &event["params"];
            let id = params["requestId"].as_str().unwrap_or_default().to_string();
            match event["method"].as_str().unwrap_or_default() {
                "Network.requestWillBeSent" => {
                    let url = params["request"]["url"].as_str().unwrap_or_default();
                    let path = url.strip_prefix(&own).unwrap_or_default();
                    let path = path.split('#').next().unwrap_or_default();
                    if path == "/" || path.starts_with("/web/") {
                        paths.insert(id, path.to_string());
                    }
                }
                "Network.loadingFinished" => {
                    if let Some(path) = paths.remove(&id) {
                        let bytes = params["encodedDataLength"].as_f64().unwrap_or(0.0) as u64;
                        let most: &mut u64 = files.entry(path).or_default();
                        *most = bytes.max(*most);
                    }
                }
                _ => {}
            }
        }
        files
    }

    /// Lets what the page saves go to a folder, and names it.
    pub(crate) fn downloads(&mut self) -> PathBuf {
        let folder = self.folder.path().join("downloads");
        std::fs::create_dir_all(&folder).unwrap();
        let params = json!({ "behavior": "allow", "downloadPath": folder });
        self.pipe.call(None, "Browser.setDownloadBehavior", params);
        folder
    }

    /// Lets the page use the clipboard, as a person's own click does.
    pub(crate) fn allow_clipboard(&mut self) {
        self.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        let permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"];
        let params = json!({ "permissions": permissions, "origin": self.own });
        self.pipe.call(None, "Browser.grantPermissions", params);
    }

    /// Ends the visit; nothing may have gone wrong in it.
    #[track_caller]
    pub(crate) fn close(mut self) {
        let problems = self.problems();
        assert!(problems.is_empty(), "{problems:#?}");
    }
}
