//! Items of a response's input and output, as messages of chats.

use serde_json::{Value, json};

use crate::api::asked;
use crate::refusal::Refusal;
use crate::server::Ids;

const HINT: &str = "an item is {\"role\": \"user\", \"content\": TEXT}, a function_call, a \
                    function_call_output or a reasoning";

fn wrong(at: &str, expected: &str, got: &Value) -> Refusal {
    Refusal::field(at, expected, got, HINT)
}

/// The items of `input`, each with its type and a name: a text is a user's message.
///
/// # Errors
/// What is neither a text nor a list of objects.
pub(super) fn of_input(input: &Value, ids: &Ids) -> Result<Vec<Value>, Refusal> {
    let given = match input {
        Value::String(text) => vec![json!({ "role": "user", "content": text })],
        Value::Array(items) => items.clone(),
        other => return Err(wrong("input", "a text or a list of items", other)),
    };
    let named = given.into_iter().enumerate().map(|(number, item)| {
        let Value::Object(mut object) = item else {
            return Err(wrong(&format!("input.{number}"), "an object", &item));
        };
        if !object.contains_key("type") && object.contains_key("role") {
            object.insert("type".to_string(), "message".into());
        }
        let kind = object.get("type").and_then(Value::as_str).unwrap_or_default().to_string();
        let prefix = match kind.as_str() {
            "message" => "msg_",
            "function_call" => "fc_",
            "function_call_output" => "fco_",
            "reasoning" => "rs_",
            _ => {
                let got = object.get("type").unwrap_or(&Value::Null);
                return Err(wrong(&format!("input.{number}"), "an item that can be read", got));
            }
        };
        if !object.get("id").is_some_and(Value::is_string) {
            object.insert("id".to_string(), ids.name(prefix).into());
        }
        if kind == "message"
            && let Some(Value::String(text)) = object.get("content").cloned()
        {
            let is_said = object.get("role").is_some_and(|role| role == "assistant");
            let part = if is_said { "output_text" } else { "input_text" };
            let content = json!([{ "type": part, "text": text }]);
            object.insert("content".to_string(), content);
        }
        Ok(Value::Object(object))
    });
    named.collect()
}

/// Adds the messages that the items are to those before them.
///
/// # Errors
/// Items that lack something, or hold what nobody here can read.
pub(super) fn read(items: &[Value], messages: &mut Vec<Value>) -> Result<(), Refusal> {
    for (number, item) in items.iter().enumerate() {
        let at = format!("input.{number}");
        match item["type"].as_str().unwrap_or_default() {
            "message" => message(item, &at, messages)?,
            "function_call" => {
                let arguments = &item["arguments"];
                if !item["name"].is_string() || !item["call_id"].is_string() {
                    return Err(wrong(&at, "a call_id, a name and arguments", item));
                }
                let call = asked::call(&item["call_id"], &item["name"], arguments);
                let last = said(messages);
                match last.get_mut("tool_calls").and_then(Value::as_array_mut) {
                    Some(calls) => calls.push(call),
                    None => last["tool_calls"] = json!([call]),
                }
            }
            "function_call_output" => {
                let id = &item["call_id"];
                if !id.is_string() {
                    return Err(wrong(&at, "a call_id and an output", item));
                }
                let output = text_of(&item["output"], &format!("{at}.output"))?;
                let mut result = json!({ "role": "tool", "tool_call_id": id, "content": output });
                if let Some(name) = asked::name_of_call(messages, id) {
                    result["name"] = name;
                }
                messages.push(result);
            }
            _ => {
                let parts = ["content", "summary"].map(|key| item[key].as_array());
                let parts = parts.into_iter().flatten().find(|parts| !parts.is_empty());
                let texts = parts.into_iter().flatten().filter_map(|part| part["text"].as_str());
                let thought: String = texts.collect();
                if !thought.is_empty() {
                    messages.push(json!({ "role": "assistant", "content": "" }));
                    said(messages)["reasoning_content"] = thought.into();
                }
            }
        }
    }
    Ok(())
}

/// The message of an assistant that may still have calls added to it: the last, or a new one.
fn said(messages: &mut Vec<Value>) -> &mut Value {
    if messages.last().is_none_or(|last| last["role"] != "assistant") {
        messages.push(json!({ "role": "assistant", "content": "" }));
    }
    let last = messages.len() - 1;
    &mut messages[last]
}

fn message(item: &Value, at: &str, messages: &mut Vec<Value>) -> Result<(), Refusal> {
    let role = match item["role"].as_str() {
        Some(role @ ("user" | "assistant" | "system" | "developer")) => role,
        _ => {
            return Err(wrong(at, "a role of user, assistant, system or developer", &item["role"]));
        }
    };
    let text = text_of(&item["content"], &format!("{at}.content"))?;
    // What was thought before it belongs to it.
    if role == "assistant"
        && let Some(last) = messages.last_mut()
        && last["role"] == "assistant"
        && last["content"] == ""
        && last.get("tool_calls").is_none()
    {
        last["content"] = text.into();
        return Ok(());
    }
    messages.push(json!({ "role": role, "content": text }));
    Ok(())
}

/// The text of a text, or of a list of parts that are text.
fn text_of(content: &Value, at: &str) -> Result<String, Refusal> {
    let Value::Array(parts) = content else {
        let text = content.as_str().map(str::to_string);
        return text.ok_or_else(|| wrong(at, "a text or a list of parts", content));
    };
    let texts = parts.iter().enumerate().map(|(i, part)| {
        let text = match part["type"].as_str() {
            Some("input_text" | "output_text" | "text") => part["text"].as_str(),
            Some("refusal") => part["refusal"].as_str(),
            _ => None,
        };
        text.ok_or_else(|| wrong(&format!("{at}.{i}"), "a part that is text", part))
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages_of(input: Value) -> Result<Vec<Value>, Refusal> {
        let mut messages = Vec::new();
        read(&of_input(&input, &Ids::default())?, &mut messages)?;
        Ok(messages)
    }

    #[test]
    fn items_become_messages() {
        let user = json!({ "role": "user", "content": "Hi" });
        assert_eq!(Value::Array(messages_of(json!("Hi")).unwrap()), json!([user]));
        let items = json!([
            user,
            { "type": "reasoning", "id": "rs_1", "summary": [],
              "content": [{ "type": "reasoning_text", "text": "hm" }] },
            { "type": "message", "role": "assistant",
              "content": [{ "type": "output_text", "text": "So", "annotations": [] }] },
            { "type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}" },
            { "type": "function_call", "call_id": "c2", "name": "g", "arguments": "{\"x\":1}" },
            { "type": "function_call_output", "call_id": "c2", "output": "2" },
        ]);
        let call = |id: &str, name: &str, arguments: &str| {
            asked::call(&json!(id), &json!(name), &json!(arguments))
        };
        let expected = [
            json!({ "role": "user", "content": "Hi" }),
            json!({ "role": "assistant", "content": "So", "reasoning_content": "hm",
                "tool_calls": [call("c1", "f", "{}"), call("c2", "g", "{\"x\":1}")] }),
            json!({ "role": "tool", "tool_call_id": "c2", "content": "2", "name": "g" }),
        ];
        assert_eq!(messages_of(items).unwrap(), expected);
    }

    #[test]
    fn what_is_no_item_is_named() {
        let image = json!({ "type": "input_image", "image_url": "http://x" });
        for (input, at) in [
            (json!(3), "input"),
            (json!(["Hi"]), "input.0"),
            (json!([{ "type": "item_reference", "id": "x" }]), "input.0"),
            (json!([{ "role": "alien", "content": "Hi" }]), "input.0"),
            (json!([{ "role": "user", "content": 3 }]), "input.0.content"),
            (json!([{ "role": "user", "content": [image] }]), "input.0.content.0"),
            (json!([{ "type": "function_call", "name": "f" }]), "input.0"),
            (json!([{ "type": "function_call_output", "output": "x" }]), "input.0"),
        ] {
            let refusal = messages_of(input.clone()).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(at), "{input}");
        }
    }
}
