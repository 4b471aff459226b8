//! How a model writes that it calls a tool, found out from its chat template.

use llmos_tokenizer::Tokenizer;
use serde_json::{Map, Value};

use crate::tool::Tool;

/// A call of a tool, as a model wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The tool.
    pub name: String,
    /// An object.
    pub arguments: Value,
}

/// A way of writing calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFormat {
    /// Hermes, Qwen 2.5 and 3, SmolLM3, and ours:
    /// `<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>`, one or several.
    Tags,
    /// Llama 3.1 and later: the answer is `{"name": …, "parameters": {…}}`.
    Bare,
    /// Mistral: `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`.
    List,
}

/// Opens a call of [`CallFormat::Tags`].
pub(crate) const OPEN: &str = "<tool_call>";
/// Closes it.
pub(crate) const CLOSE: &str = "</tool_call>";
/// Opens the calls of [`CallFormat::List`].
pub(crate) const LIST: &str = "[TOOL_CALLS]";
/// May open the call of [`CallFormat::Bare`].
pub(crate) const PYTHON: &str = "<|python_tag|>";
/// Opens what a model thinks to itself.
pub(crate) const THINK: &str = "<think>";
/// Closes what a model thinks to itself.
pub const THOUGHT: &str = "</think>";

/// What is read as text even where the vocabulary has it as a control token.
pub(crate) const TAGS: [&str; 6] = [OPEN, CLOSE, LIST, PYTHON, THINK, THOUGHT];

impl CallFormat {
    /// The format that a chat template speaks of; none where it knows no tools, or writes calls in a
    /// way that is not known here (XML in the tags, a name before the arguments).
    pub fn of_template(template: &str) -> Option<CallFormat> {
        let has = |text: &str| template.contains(text);
        if has(OPEN) {
            let other = has("<function=") || has("<arg_key>") || has("<parameter");
            return (!other).then_some(CallFormat::Tags);
        }
        if has(LIST) {
            return (!has("[ARGS]")).then_some(CallFormat::List);
        }
        let bare = has("\"parameters\"") && has("ipython") && has("tools");
        bare.then_some(CallFormat::Bare)
    }

    /// What opens a call, which nobody has to draw where a call is wanted; empty where nothing does.
    pub fn opening(self) -> &'static str {
        match self {
            CallFormat::Tags => OPEN,
            CallFormat::List => LIST,
            CallFormat::Bare => "",
        }
    }

    /// The control token that closes a call, where one does.
    pub fn closing_token(self, tokenizer: &Tokenizer) -> Option<u32> {
        let id = tokenizer.token_id(CLOSE).filter(|&id| tokenizer.is_special(id));
        id.filter(|_| self == CallFormat::Tags)
    }

    /// The key before a call's arguments.
    pub(crate) fn arguments_key(self) -> &'static str {
        match self {
            CallFormat::Bare => "parameters",
            CallFormat::Tags | CallFormat::List => "arguments",
        }
    }

    /// A grammar in llguidance's Lark of all that may follow the opening of a call. `is_token` says
    /// that what closes it is a token of its own, which then is no part of the grammar.
    pub fn grammar(self, tools: &[Tool], is_token: bool) -> String {
        let key = self.arguments_key();
        let mut rules = String::new();
        let mut names = Vec::new();
        for (i, tool) in tools.iter().enumerate() {
            let head = format!("{{\"name\": {}, \"{key}\": ", Value::from(tool.name()));
            let tail = match self {
                CallFormat::List => r#"(", \"id\": \"" /[a-zA-Z0-9]{9}/ "\"")? "}""#,
                CallFormat::Tags | CallFormat::Bare => r#""}""#,
            };
            let schema = canonical(tool.parameters());
            rules += &format!("c{i}: {} a{i} {tail}\na{i}: %json {schema}\n", Value::from(head));
            names.push(format!("c{i}"));
        }
        let start = match self {
            CallFormat::Tags if is_token => r#"("\n" | " ")? call "\n""#,
            CallFormat::Tags => r#"("\n" | " ")? call "\n</tool_call>""#,
            CallFormat::Bare => "call",
            CallFormat::List => r#"("\n" | " ")? "[" call (", " call)* "]""#,
        };
        format!("start: {start}\ncall: {}\n{rules}", names.join(" | "))
    }
}

/// The schema with JSON's signs spaced as Python writes them, which is what models learnt from.
fn canonical(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(object) = &mut schema {
        let spacing = serde_json::json!({
            "item_separator": ", ",
            "key_separator": ": ",
            "whitespace_flexible": false,
        });
        object.insert("x-guidance".to_string(), spacing);
    }
    schema
}

/// The calls in a text of JSON: an object, several after each other, or a list of them. None where it
/// is anything else.
pub(crate) fn calls_in(text: &str) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next()?.ok()? {
            Value::Array(items) => {
                for item in items {
                    calls.push(call_of(item)?);
                }
            }
            value => calls.push(call_of(value)?),
        }
        // Llama separates calls by a semicolon.
        rest = rest[values.byte_offset()..].trim_start_matches([';', ' ', '\n', '\t', '\r']);
    }
    (!calls.is_empty()).then_some(calls)
}

/// The call that an object is: `{"name", "arguments" or "parameters"}`, with whatever else.
fn call_of(value: Value) -> Option<Call> {
    let Value::Object(mut object) = value else { return None };
    if let Some(Value::Object(function)) = object.remove("function") {
        object = function;
    }
    let Some(Value::String(name)) = object.remove("name") else { return None };
    let arguments = object.remove("arguments").or_else(|| object.remove("parameters"));
    Some(Call { name, arguments: as_object(arguments)? })
}

/// Arguments as an object; some write it as a text of JSON, or leave out an empty one.
pub(crate) fn as_object(arguments: Option<Value>) -> Option<Value> {
    match arguments {
        None | Some(Value::Null) => Some(Value::Object(Map::new())),
        Some(Value::Object(object)) => Some(Value::Object(object)),
        Some(Value::String(text)) => {
            serde_json::from_str(&text).ok().filter(|value: &Value| value.is_object())
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_say_how_calls_are_written() {
        let template = |name: &str| {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/");
            std::fs::read_to_string(format!("{path}{name}.jinja")).unwrap()
        };
        for (name, expected) in [
            ("tokenizer/chat/Qwen-Qwen3-0.6B", Some(CallFormat::Tags)),
            ("tokenizer/chat/Qwen-Qwen2.5-7B-Instruct", Some(CallFormat::Tags)),
            ("tokenizer/chat/mistralai-Mistral-Nemo-Instruct-2407", Some(CallFormat::List)),
            ("tokenizer/chat/microsoft-Phi-3.5-mini-instruct", None),
            ("finetune/base/chat_template", Some(CallFormat::Tags)),
        ] {
            assert_eq!(CallFormat::of_template(&template(name)), expected, "{name}");
        }
        for (text, expected) in [
            ("<tool_call>\n<function=f>", None),
            ("[TOOL_CALLS]f[ARGS]{}", None),
            (
                "{% if tools %}{\"name\": n, \"parameters\": p}{% endif %}ipython",
                Some(CallFormat::Bare),
            ),
            ("{{ messages }}", None),
        ] {
            assert_eq!(CallFormat::of_template(text), expected, "{text}");
        }
    }

    #[test]
    fn json_holds_calls() {
        let check = |text: &str, expected: &[(&str, Value)]| {
            let calls = calls_in(text).unwrap_or_default();
            let calls: Vec<(&str, Value)> =
                calls.iter().map(|call| (call.name.as_str(), call.arguments.clone())).collect();
            assert_eq!(calls, expected, "{text}");
        };
        let x = json!({ "x": 1 });
        check(r#" {"name": "f", "arguments": {"x": 1}} "#, &[("f", x.clone())]);
        check(r#"{"parameters": {"x": 1}, "name": "f"}"#, &[("f", x.clone())]);
        check(r#"{"name": "f", "arguments": "{\"x\": 1}"}"#, &[("f", x.clone())]);
        check(r#"{"type": "function", "function": {"name": "f"}}"#, &[("f", json!({}))]);
        check(
            r#"{"name": "f", "arguments": {}}; {"name": "g", "arguments": {"x": 1}}"#,
            &[("f", json!({})), ("g", x.clone())],
        );
        check(r#"[{"name": "f", "arguments": {"x": 1}, "id": "a"}]"#, &[("f", x)]);
        for text in [
            "",
            "[]",
            "{}",
            "f(1)",
            r#"{"name": 3}"#,
            r#"{"name": "f", "arguments": [1]}"#,
            "{\"name\"",
        ] {
            check(text, &[]);
        }
    }
}
