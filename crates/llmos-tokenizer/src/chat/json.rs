//! JSON as Python's `json.dumps` writes it.

use serde_json::Value;

/// The options of `json.dumps`.
#[derive(Debug, Clone, Default)]
pub(super) struct Style {
    /// One level of indentation; `None` writes one line.
    pub(super) indent: Option<String>,
    /// Between items and after keys.
    pub(super) separators: Option<(String, String)>,
    pub(super) ensure_ascii: bool,
    pub(super) sort_keys: bool,
}

impl Style {
    /// Values nest at most as deep as the template engine's serialiser lets them.
    pub(super) fn write(&self, value: &Value) -> String {
        let (item, key) = match (&self.separators, &self.indent) {
            (Some((item, key)), _) => (item.as_str(), key.as_str()),
            (None, Some(_)) => (",", ": "),
            (None, None) => (", ", ": "),
        };
        let mut out = String::new();
        self.value(value, 0, item, key, &mut out);
        out
    }

    fn value(&self, value: &Value, depth: usize, item: &str, key: &str, out: &mut String) {
        match value {
            Value::Null => out.push_str("null"),
            Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => out.push_str(&python_float(float)),
                None => out.push_str(&number.to_string()),
            },
            Value::String(text) => self.string(text, out),
            Value::Array(list) => {
                out.push('[');
                for (at, element) in list.iter().enumerate() {
                    self.between(at, depth + 1, item, out);
                    self.value(element, depth + 1, item, key, out);
                }
                self.close(list.len(), depth, ']', out);
            }
            Value::Object(map) => {
                out.push('{');
                let mut entries: Vec<_> = map.iter().collect();
                if self.sort_keys {
                    entries.sort_by_key(|entry| entry.0);
                }
                for (at, (name, element)) in entries.into_iter().enumerate() {
                    self.between(at, depth + 1, item, out);
                    self.string(name, out);
                    out.push_str(key);
                    self.value(element, depth + 1, item, key, out);
                }
                self.close(map.len(), depth, '}', out);
            }
        }
    }

    fn between(&self, at: usize, depth: usize, item: &str, out: &mut String) {
        if at > 0 {
            out.push_str(item);
        }
        self.newline(depth, out);
    }

    fn close(&self, len: usize, depth: usize, bracket: char, out: &mut String) {
        if len > 0 {
            self.newline(depth, out);
        }
        out.push(bracket);
    }

    fn newline(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 || self.ensure_ascii && !c.is_ascii() => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// A float as Python's `repr` writes it.
fn python_float(float: f64) -> String {
    let size = float.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, number) = match exponent.strip_prefix('-') {
            Some(number) => ('-', number),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{number:0>2}");
    }
    let text = float.to_string();
    if text.contains('.') { text } else { text + ".0" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Each expected text is what CPython 3.11's `json.dumps` prints.
    #[test]
    fn as_json_dumps() {
        let value = json!({"b": [1, 2.5, "é\n\u{1}"], "a": {}, "c": [1e20, 1e-7, 1e16, 100.0]});
        let style = Style::default();
        assert_eq!(
            style.write(&value),
            r#"{"b": [1, 2.5, "é\n\u0001"], "a": {}, "c": [1e+20, 1e-07, 1e+16, 100.0]}"#
        );
        let style = Style {
            indent: Some("  ".into()),
            ensure_ascii: true,
            sort_keys: true,
            ..Style::default()
        };
        assert_eq!(
            style.write(&json!({"b": ["é😀"], "a": []})),
            "{\n  \"a\": [],\n  \"b\": [\n    \"\\u00e9\\ud83d\\ude00\"\n  ]\n}"
        );
        let style = Style { separators: Some((",".into(), ":".into())), ..Style::default() };
        assert_eq!(style.write(&json!({"a": [1, 2]})), r#"{"a":[1,2]}"#);
    }
}
