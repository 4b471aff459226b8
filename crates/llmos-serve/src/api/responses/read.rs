//! What a client asks a response for, in the words of chats.

use serde_json::{Map, Value, json};

use super::items;
use crate::api::asked::{self, Asked};
use crate::fields::Fields;
use crate::refusal::Refusal;
use crate::server::Ids;

/// A step of a conversation.
pub(super) struct Step {
    pub(super) asked: Asked,
    /// The items of its own input.
    pub(super) input: Vec<Value>,
    /// All messages up to it, without the instructions, which are for one step alone.
    pub(super) messages: Vec<Value>,
    pub(super) previous: Option<String>,
    pub(super) is_kept: bool,
    /// It is answered at once, and asked for by its id.
    pub(super) is_background: bool,
}

/// What is asked for after the messages `before`.
///
/// # Errors
/// Fields that hold what they cannot, and what is not done here.
pub(super) fn step(fields: Fields<'_>, before: Vec<Value>, ids: &Ids) -> Result<Step, Refusal> {
    for (name, hint) in [
        ("conversation", "go on with previous_response_id"),
        ("prompt", "send input and instructions"),
        ("max_tool_calls", "set parallel_tool_calls to false for one call"),
    ] {
        if let Some(value) = fields.get(name).filter(|value| **value != json!(false)) {
            return Err(Refusal::field(name, "nothing", value, hint));
        }
    }
    if let Some(metadata) = fields.get("metadata") {
        let is_sound = metadata
            .as_object()
            .is_some_and(|pairs| pairs.len() <= 16 && pairs.values().all(Value::is_string));
        if !is_sound {
            let hint = "{\"topic\": \"demo\"}";
            return Err(Refusal::field("metadata", "at most 16 texts by name", metadata, hint));
        }
    }
    let is_kept = fields.flag_or("store", true)?;
    let is_background = fields.flag("background")?;
    if is_background && !is_kept {
        let hint = "what is written in the background is asked for by its id: leave store out";
        return Err(Refusal::field("store", "true with background", &false.into(), hint));
    }
    if is_background && fields.flag("stream")? {
        let hint = "leave stream out, and GET /v1/responses/ID until its status is completed";
        return Err(Refusal::field("stream", "false with background", &true.into(), hint));
    }
    let input = fields.get("input").ok_or_else(|| {
        Refusal::bad("there is no input", "send {\"input\": TEXT}, or a list of items")
            .about("input")
    })?;
    let input = items::of_input(input, ids)?;
    let mut messages = before;
    items::read(&input, &mut messages)?;
    let mut asked = Asked::default();
    let mut all = messages.clone();
    if let Some(instructions) = fields.text("instructions")? {
        instruct(&mut all, instructions);
    }
    asked.set("messages", Some(all));
    for (name, theirs) in [
        ("max_completion_tokens", "max_output_tokens"),
        ("temperature", "temperature"),
        ("top_p", "top_p"),
    ] {
        asked.set(name, fields.get(theirs).cloned());
    }
    // Ours beside OpenAI's.
    for name in
        ["top_k", "min_p", "seed", "stop", "logit_bias", "ignore_eos", "chat_template_kwargs"]
    {
        asked.set(name, fields.get(name).cloned());
    }
    asked.set("parallel_tool_calls", fields.get("parallel_tool_calls").cloned());
    if let Some(reasoning) = fields.object("reasoning")? {
        let effort = reasoning.text("effort").map_err(|refusal| refusal.within("reasoning"))?;
        asked.set("reasoning_effort", effort);
    }
    asked.truncates = match fields.text("truncation")? {
        None | Some("disabled") => false,
        Some("auto") => true,
        Some(other) => {
            let hint = "auto leaves the oldest turns out where not all fit";
            return Err(Refusal::field("truncation", "auto or disabled", &other.into(), hint));
        }
    };
    scores(fields, &mut asked)?;
    format(fields, &mut asked)?;
    tools(fields, &mut asked)?;
    Ok(Step {
        asked,
        input,
        messages,
        previous: fields.text("previous_response_id")?.map(str::to_string),
        is_kept,
        is_background,
    })
}

/// Puts the instructions before all messages; a template may allow one message of the system's, so
/// they join one that is there.
fn instruct(messages: &mut Vec<Value>, instructions: &str) {
    if let Some(first) = messages.first_mut()
        && (first["role"] == "system" || first["role"] == "developer")
    {
        let text = first["content"].as_str().unwrap_or_default();
        first["content"] = format!("{instructions}\n\n{text}").into();
        return;
    }
    messages.insert(0, json!({ "role": "system", "content": instructions }));
}

fn scores(fields: Fields<'_>, asked: &mut Asked) -> Result<(), Refusal> {
    let wanted = fields.list("include")?.unwrap_or_default();
    let wanted = wanted.iter().any(|what| what == "message.output_text.logprobs");
    let top = fields.integer("top_logprobs", 0..=20)?;
    if wanted || top.is_some_and(|top| top > 0) {
        asked.set("logprobs", Some(true));
        asked.set("top_logprobs", top);
    }
    Ok(())
}

fn format(fields: Fields<'_>, asked: &mut Asked) -> Result<(), Refusal> {
    let Some(text) = fields.object("text")? else { return Ok(()) };
    let Some(format) = text.get("format") else { return Ok(()) };
    let format = match format["type"].as_str() {
        Some("json_schema") => json!({ "type": "json_schema", "json_schema": format }),
        Some(_) => format.clone(),
        None => {
            let hint = "{\"format\": {\"type\": \"json_schema\", \"name\": …, \"schema\": {…}}}";
            return Err(Refusal::field("text", "a format with a type", format, hint));
        }
    };
    asked.set("response_format", Some(format));
    Ok(())
}

fn tools(fields: Fields<'_>, asked: &mut Asked) -> Result<(), Refusal> {
    if let Some(tools) = fields.list("tools")? {
        let tool = |tool: &Value| {
            let name = tool.get("name").filter(|_| tool["type"] == "function");
            let hint = "a tool is {\"type\": \"function\", \"name\", \"description\", \"parameters\"}, \
                        and the client runs it";
            let name = name
                .ok_or_else(|| Refusal::field("tools", "tools that are functions", tool, hint))?;
            Ok(asked::function(name, tool.get("description"), tool.get("parameters")))
        };
        let tools: Result<Vec<Value>, Refusal> = tools.iter().map(tool).collect();
        asked.set("tools", Some(tools?));
    }
    let nested =
        |choice: &Value| json!({ "type": "function", "function": { "name": choice["name"] } });
    let choice = match fields.get("tool_choice") {
        Some(choice) if choice["type"] == "function" => nested(choice),
        Some(choice) if choice["type"] == "allowed_tools" => {
            let tools = choice["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
            let tools: Vec<Value> = tools.iter().map(nested).collect();
            json!({
                "type": "allowed_tools",
                "allowed_tools": { "mode": choice["mode"], "tools": tools },
            })
        }
        Some(other) => other.clone(),
        None => return Ok(()),
    };
    asked.set("tool_choice", Some(choice));
    Ok(())
}

/// What was asked for, as a response tells it back.
pub(super) fn told(fields: Fields<'_>, previous: Option<String>) -> Map<String, Value> {
    let mut told = Map::new();
    told.insert("previous_response_id".to_string(), previous.into());
    for (name, otherwise) in [
        ("background", false.into()),
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", true.into()),
        ("reasoning", json!({ "effort": null, "summary": null })),
        ("store", true.into()),
        ("temperature", 1.0.into()),
        ("text", json!({ "format": { "type": "text" } })),
        ("tool_choice", "auto".into()),
        ("tools", json!([])),
        ("top_p", 1.0.into()),
        ("truncation", "disabled".into()),
    ] {
        told.insert(name.to_string(), fields.get(name).cloned().unwrap_or(otherwise));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &Value) -> Result<Step, Refusal> {
        step(Fields::new(body.as_object().unwrap()), Vec::new(), &Ids::default())
    }

    #[test]
    fn a_response_is_asked_for_as_a_chat() {
        let named = json!({ "type": "function", "name": "f" });
        let step = read(&json!({
            "input": [{ "role": "developer", "content": "Be brief." }, { "role": "user", "content": "Hi" }],
            "instructions": "Speak.",
            "tools": [{ "type": "function", "name": "f", "parameters": { "type": "object" }, "strict": true }],
            "tool_choice": named,
            "text": { "format": { "type": "json_schema", "name": "x", "schema": {} } },
            "reasoning": { "effort": "low" },
            "max_output_tokens": 20,
            "include": ["message.output_text.logprobs"],
            "store": false,
        }))
        .unwrap();
        let body = &step.asked.body;
        assert_eq!(body["messages"][0]["content"], "Speak.\n\nBe brief.");
        assert_eq!(step.messages[0]["content"], "Be brief.");
        assert_eq!(body["tools"][0]["function"]["name"], "f");
        assert_eq!(body["tool_choice"]["function"]["name"], "f");
        assert_eq!(body["response_format"]["json_schema"]["name"], "x");
        assert_eq!((&body["reasoning_effort"], &body["logprobs"]), (&json!("low"), &json!(true)));
        assert_eq!(body["max_completion_tokens"], 20);
        assert!(!step.is_kept);
    }

    #[test]
    fn what_is_not_done_here_is_named() {
        for (field, value) in [
            ("input", json!(3)),
            ("instructions", json!(3)),
            ("background", json!("yes")),
            ("conversation", json!("x")),
            ("metadata", json!({ "a": 1 })),
            ("reasoning", json!("much")),
            ("truncation", json!("some")),
            ("top_logprobs", json!(21)),
            ("text", json!({ "format": 3 })),
            ("tools", json!([{ "type": "web_search" }])),
            ("store", json!("yes")),
            ("previous_response_id", json!(3)),
        ] {
            let mut body = json!({ "input": "Hi" });
            body[field] = value;
            let refusal = read(&body).err().unwrap();
            assert_eq!(refusal.param.as_deref(), Some(field), "{body}");
        }
        assert_eq!(read(&json!({})).err().unwrap().param.as_deref(), Some("input"));
        for (field, value) in [("stream", json!(true)), ("store", json!(false))] {
            let body = json!({ "input": "Hi", "background": true, field: value });
            assert_eq!(read(&body).err().unwrap().param.as_deref(), Some(field));
        }
    }
}
