//! Messages as chat templates take them, whatever shape they were given in.

use serde_json::{Map, Value, json};

use crate::Error;
use crate::call::as_object;

/// The role of a message.
pub fn role(message: &Value) -> &str {
    message.get("role").and_then(Value::as_str).unwrap_or_default()
}

/// The text of a message; empty where it has none.
pub fn content(message: &Value) -> &str {
    message.get("content").and_then(Value::as_str).unwrap_or_default()
}

/// A message that is text alone.
pub fn message(role: &str, content: impl Into<String>) -> Value {
    json!({ "role": role, "content": content.into() })
}

/// Messages in one shape: contents are texts (parts of text are joined), arguments of calls are
/// objects. All else in them stays.
///
/// # Errors
/// [`Error::Message`] for what is no message, a role that is not known, or content that is no text.
pub fn shaped(messages: &[Value]) -> Result<Vec<Value>, Error> {
    let numbered = messages.iter().enumerate();
    numbered
        .map(|(i, given)| one(given).map_err(|problem| Error::Message { number: i + 1, problem }))
        .collect()
}

/// The same of messages of which the last is to be answered.
///
/// # Errors
/// As [`shaped`]; [`Error::Message`] for a last message that is the assistant's own;
/// [`Error::NoMessage`].
pub fn normalized(messages: &[Value]) -> Result<Vec<Value>, Error> {
    let normal = shaped(messages)?;
    match normal.last().map(role) {
        None => Err(Error::NoMessage),
        Some("user" | "tool" | "function" | "ipython") => Ok(normal),
        Some(role) => Err(Error::Message {
            number: normal.len(),
            problem: format!("is the last, and the {role}'s: there is nothing to answer"),
        }),
    }
}

fn one(message: &Value) -> Result<Value, String> {
    let object = message.as_object().ok_or("is no object")?;
    let role = object.get("role").and_then(Value::as_str).ok_or("has no role")?;
    const ROLES: [&str; 7] =
        ["system", "developer", "user", "assistant", "tool", "function", "ipython"];
    if !ROLES.contains(&role) {
        return Err(format!("has the role {role:?}, expected one of {}", ROLES.join(", ")));
    }
    let mut object = object.clone();
    let content = match object.get("content") {
        None | Some(Value::Null) if role == "assistant" => String::new(),
        None | Some(Value::Null) => return Err("has no content".to_string()),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => joined(parts)?,
        Some(_) => return Err("has content that is no text".to_string()),
    };
    object.insert("content".to_string(), content.into());
    if let Some(calls) = object.get_mut("tool_calls") {
        match calls {
            Value::Null => drop(object.remove("tool_calls")),
            Value::Array(calls) => calls.iter_mut().try_for_each(call)?,
            _ => return Err("has tool_calls that are no list".to_string()),
        }
    }
    Ok(Value::Object(object))
}

/// The text of OpenAI's parts of a message.
fn joined(parts: &[Value]) -> Result<String, String> {
    let texts: Result<Vec<&str>, String> = parts.iter().map(part).collect();
    Ok(texts?.concat())
}

fn part(part: &Value) -> Result<&str, String> {
    if let Value::String(text) = part {
        return Ok(text);
    }
    let of = |name: &str| part.get(name).and_then(Value::as_str);
    let kind = of("type").unwrap_or("text");
    // What an assistant said instead of what it was asked for.
    let text = if kind == "refusal" { of("refusal") } else { of("text") };
    text.ok_or_else(|| match kind {
        "text" => "has content that is no text".to_string(),
        kind => format!("has a part of the type {kind:?}, which is no text"),
    })
}

/// Gives a call's arguments as an object.
fn call(call: &mut Value) -> Result<(), String> {
    let function = match call.get_mut("function") {
        Some(function) => function,
        None => call,
    };
    let function = function.as_object_mut().ok_or("has a tool call that is no object")?;
    if !function.get("name").is_some_and(Value::is_string) {
        return Err("has a tool call without a name".to_string());
    }
    let arguments = as_object(function.remove("arguments"));
    let arguments = arguments.ok_or("has a tool call whose arguments are no object")?;
    function.insert("arguments".to_string(), arguments);
    Ok(())
}

/// The message in which an assistant says something, thinks and calls.
pub(crate) fn spoken(content: &str, reasoning: &str, calls: &[Value]) -> Value {
    let mut message = Map::new();
    message.insert("role".to_string(), "assistant".into());
    message.insert("content".to_string(), content.into());
    if !reasoning.is_empty() {
        message.insert("reasoning_content".to_string(), reasoning.into());
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_string(), calls.to_vec().into());
    }
    Value::Object(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_get_one_shape() {
        let given = [
            json!({ "role": "system", "content": [{ "type": "text", "text": "Be " }, "brief."] }),
            json!({ "role": "user", "content": "Hi", "name": "Ann" }),
            json!({ "role": "assistant", "content": null, "tool_calls": [
                { "id": "1", "function": { "name": "f", "arguments": "{\"x\": 1}" } }
            ] }),
            json!({ "role": "tool", "content": "2" }),
        ];
        let normal = normalized(&given).unwrap();
        assert_eq!(content(&normal[0]), "Be brief.");
        assert_eq!(normal[1], given[1]);
        let arguments = &normal[2]["tool_calls"][0]["function"]["arguments"];
        assert_eq!((content(&normal[2]), arguments), ("", &json!({ "x": 1 })));
        let refusal =
            json!({ "role": "assistant", "content": [{ "type": "refusal", "refusal": "No." }] });
        let normal = normalized(&[refusal, json!({ "role": "user", "content": "Why?" })]).unwrap();
        assert_eq!(content(&normal[0]), "No.");
    }

    #[test]
    fn what_cannot_be_answered_is_said() {
        let check = |messages: Value, expected: &str| {
            let error = normalized(messages.as_array().unwrap()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        let user = json!({ "role": "user", "content": "Hi" });
        check(json!([]), "no message");
        check(json!(["Hi"]), "message 1 is no object");
        check(json!([{ "content": "Hi" }]), "message 1 has no role");
        check(
            json!([user, { "role": "alien", "content": "Hi" }]),
            "message 2 has the role \"alien\"",
        );
        check(json!([user, { "role": "assistant", "content": "Hi" }]), "the assistant's: there is");
        check(json!([{ "role": "user" }]), "has no content");
        check(json!([{ "role": "user", "content": 3 }]), "no text");
        check(
            json!([{ "role": "user", "content": [{ "type": "text" }] }]),
            "content that is no text",
        );
        let image =
            json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA" } });
        check(
            json!([{ "role": "user", "content": [{ "type": "text", "text": "Hi" }, image] }]),
            "message 1 has a part of the type \"image_url\", which is no text",
        );
        let call = json!({ "function": { "name": "f", "arguments": "x" } });
        check(
            json!([{ "role": "assistant", "tool_calls": [call] }, user]),
            "arguments are no object",
        );
    }
}
