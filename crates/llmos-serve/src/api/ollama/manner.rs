//! How a client of Ollama's wants its answer: options, format, thought, in OpenAI's words.

use serde_json::{Value, json};

use crate::api::asked::{self, Asked};
use crate::fields::Fields;
use crate::refusal::Refusal;

/// Our names of fields beside Ollama's.
pub(super) const NAMES: [(&str, &str); 6] = [
    ("max_completion_tokens", "num_predict"),
    ("max_tokens", "num_predict"),
    ("repetition_penalty", "repeat_penalty"),
    ("response_format", "format"),
    ("reasoning_effort", "think"),
    ("min_p", "min_p"),
];

/// Sets what is said beside the text: `options`, `format`, `think`, `logprobs`.
///
/// # Errors
/// Fields that hold what they cannot.
pub(super) fn set(fields: Fields<'_>, asked: &mut Asked) -> Result<(), Refusal> {
    options(fields, asked)?;
    match fields.get("format") {
        None => {}
        Some(Value::String(word)) if word.is_empty() => {}
        Some(Value::String(word)) if word == "json" => {
            asked.set("response_format", Some(json!({ "type": "json_object" })));
        }
        Some(schema) if schema.is_object() => {
            let format = json!({ "type": "json_schema", "json_schema": { "schema": schema } });
            asked.set("response_format", Some(format));
        }
        Some(other) => {
            return Err(Refusal::field(
                "format",
                "json, or a JSON schema",
                other,
                "or leave it out",
            ));
        }
    }
    let effort = match fields.get("think") {
        None => None,
        Some(Value::Bool(thinks)) => Some(if *thinks { "medium" } else { "none" }),
        Some(Value::String(word)) if ["low", "medium", "high", "max"].contains(&word.as_str()) => {
            Some(word.as_str())
        }
        Some(other) => {
            let expected = "true, false, low, medium, high or max";
            return Err(Refusal::field("think", expected, other, "or leave it out"));
        }
    };
    asked.set("reasoning_effort", effort);
    let top = fields.integer("top_logprobs", 0..=20)?;
    if fields.flag("logprobs")? {
        asked.set("logprobs", Some(true));
        asked.set("top_logprobs", top);
    }
    Ok(())
}

/// Ollama's options with its defaults. Those that say how a machine is used are not ours to follow.
fn options(fields: Fields<'_>, asked: &mut Asked) -> Result<(), Refusal> {
    let empty = serde_json::Map::new();
    let options = fields.object("options")?.unwrap_or(Fields::new(&empty));
    let or = |name: &str, otherwise: Value| options.get(name).cloned().unwrap_or(otherwise);
    asked.set("temperature", Some(or("temperature", 0.8.into())));
    asked.set("top_k", Some(or("top_k", 40.into())));
    asked.set("top_p", Some(or("top_p", 0.9.into())));
    for name in ["min_p", "typical_p", "presence_penalty", "frequency_penalty", "stop"] {
        asked.set(name, options.get(name).cloned());
    }
    asked.set("repetition_penalty", options.get("repeat_penalty").cloned());
    // A negative number means all, or any, or without an end.
    let is_negative = |value: &&Value| value.as_f64().is_some_and(|number| number < 0.0);
    asked.set(
        "repeat_last_n",
        match options.get("repeat_last_n") {
            Some(value) if is_negative(&value) => Some(json!(1 << 30)),
            given => given.cloned(),
        },
    );
    for (name, theirs) in [("seed", "seed"), ("max_completion_tokens", "num_predict")] {
        asked.set(name, options.get(theirs).filter(|value| !is_negative(value)).cloned());
    }
    Ok(())
}

/// The conversation of `messages`, and the tools.
///
/// # Errors
/// Messages that are none, and images.
pub(super) fn converse(fields: Fields<'_>, asked: &mut Asked) -> Result<(), Refusal> {
    let mut messages: Vec<Value> = Vec::new();
    for (number, message) in fields.list("messages")?.unwrap_or_default().iter().enumerate() {
        let at = format!("messages.{number}");
        let Some(given) = message.as_object() else {
            let hint = "a message is {\"role\": \"user\", \"content\": TEXT}";
            return Err(Refusal::field(&at, "an object", message, hint));
        };
        let mut read = json!({ "role": given.get("role"), "content": given.get("content") });
        if read["content"].is_null() {
            read["content"] = "".into();
        }
        no_images(message, &format!("{at}.images"))?;
        if let Some(thought) = given.get("thinking").filter(|thought| thought.is_string()) {
            read["reasoning_content"] = thought.clone();
        }
        if let Some(calls) = given.get("tool_calls").and_then(Value::as_array)
            && !calls.is_empty()
        {
            let calls = calls.iter().map(|call| {
                let function = &call["function"];
                asked::call(&call["id"], &function["name"], &function["arguments"])
            });
            read["tool_calls"] = calls.collect();
        }
        if read["role"] == "tool" {
            let id = given.get("tool_call_id").cloned();
            let name = given.get("tool_name").or_else(|| given.get("name")).cloned();
            let known = id.as_ref().and_then(|id| asked::name_of_call(&messages, id));
            read["name"] = name.or(known).unwrap_or_default();
            read["tool_call_id"] = id.unwrap_or_default();
        }
        messages.push(read);
    }
    asked.set("messages", Some(messages));
    // Clients send an empty list where there are none.
    let tools = fields.list("tools")?.filter(|tools| !tools.is_empty());
    asked.set("tools", tools.map(<[Value]>::to_vec));
    asked.truncates = fields.flag_or("truncate", true)?;
    Ok(())
}

/// Refuses images, which no model here sees.
pub(super) fn no_images(message: &Value, at: &str) -> Result<(), Refusal> {
    match message.get("images") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(images)) if images.is_empty() => Ok(()),
        Some(images) => Err(Refusal::field(at, "none", images, "models here read text alone")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &Value) -> Result<Asked, Refusal> {
        let fields = Fields::new(body.as_object().unwrap());
        let mut asked = Asked::default();
        set(fields, &mut asked)?;
        converse(fields, &mut asked)?;
        Ok(asked)
    }

    #[test]
    fn options_become_fields_of_chats() {
        let body = &read(&json!({})).unwrap().body;
        assert_eq!((&body["temperature"], &body["top_k"]), (&json!(0.8), &json!(40)));
        let body = read(&json!({
            "options": {
                "temperature": 0, "num_predict": -1, "seed": -1, "repeat_last_n": -1,
                "repeat_penalty": 1.1, "num_ctx": 4096, "num_thread": 8,
            },
            "format": "json",
            "think": false,
        }))
        .unwrap()
        .body;
        assert_eq!((&body["temperature"], &body["top_p"]), (&json!(0), &json!(0.9)));
        assert!(!body.contains_key("max_completion_tokens") && !body.contains_key("seed"));
        assert_eq!(body["repeat_last_n"], 1 << 30);
        assert_eq!(body["repetition_penalty"], 1.1);
        assert_eq!(body["response_format"], json!({ "type": "json_object" }));
        assert_eq!(body["reasoning_effort"], "none");
    }

    #[test]
    fn messages_become_those_of_chats() {
        let call = json!({ "function": { "name": "f", "arguments": { "x": 1 } } });
        let asked = read(&json!({ "messages": [
            { "role": "user", "content": "Hi", "images": [] },
            { "role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call] },
            { "role": "tool", "content": "2", "tool_name": "f" },
        ], "tools": [] }))
        .unwrap();
        let messages = &asked.body["messages"];
        assert_eq!(messages[1]["tool_calls"][0]["function"], call["function"]);
        assert_eq!(messages[1]["reasoning_content"], "hm");
        assert_eq!((&messages[2]["name"], &messages[2]["content"]), (&json!("f"), &json!("2")));
        assert!(!asked.body.contains_key("tools") && asked.truncates);
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (body, at) in [
            (json!({ "format": "xml" }), "format"),
            (json!({ "format": 3 }), "format"),
            (json!({ "think": "much" }), "think"),
            (json!({ "options": 3 }), "options"),
            (json!({ "top_logprobs": 21 }), "top_logprobs"),
            (json!({ "messages": "Hi" }), "messages"),
            (json!({ "messages": ["Hi"] }), "messages.0"),
            (json!({ "messages": [{ "role": "user", "images": ["x"] }] }), "messages.0.images"),
            (json!({ "truncate": 3 }), "truncate"),
        ] {
            assert_eq!(read(&body).unwrap_err().param.as_deref(), Some(at), "{body}");
        }
    }
}
