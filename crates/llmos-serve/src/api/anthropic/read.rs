//! What a client of Anthropic's asks for, in OpenAI's words.

use serde_json::{Value, json};

use crate::api::asked::{self, Asked};
use crate::fields::Fields;
use crate::refusal::Refusal;

/// The conversation, its tools and its manner; not how long the answer may be.
///
/// # Errors
/// Fields that hold what they cannot, and what nobody here can read: images, documents that are no
/// text, tools that a server of Anthropic's would run.
pub(super) fn asked(fields: Fields<'_>) -> Result<Asked, Refusal> {
    let mut asked = Asked::default();
    let mut messages = Vec::new();
    if let Some(system) = fields.get("system") {
        let text = text_of(system, "system")?;
        messages.push(json!({ "role": "system", "content": text }));
    }
    let given = fields.list("messages")?.filter(|given| !given.is_empty()).ok_or_else(|| {
        let hint = "send [{\"role\": \"user\", \"content\": TEXT}]";
        Refusal::bad("there are no messages", hint).about("messages")
    })?;
    for (number, message) in given.iter().enumerate() {
        read(message, &format!("messages.{number}"), &mut messages)?;
    }
    // What the assistant says last is what its answer begins with.
    if messages.last().is_some_and(|last| last["role"] == "assistant")
        && let Some(last) = messages.pop()
    {
        if last.get("tool_calls").is_some() {
            let hint = "send a user's message with tool_result blocks after it";
            return Err(wrong("messages", "results of the calls at its end", &last, hint));
        }
        asked.begun = last["content"].as_str().unwrap_or_default().trim_end().to_string();
        // It has thought already.
        asked.set("reasoning_effort", Some("none"));
    }
    asked.set("messages", Some(messages));
    for (name, range) in [("temperature", 0.0..=1.0), ("top_p", 0.0..=1.0)] {
        asked.set(name, fields.number(name, range)?);
    }
    asked.set("top_k", fields.integer("top_k", 0..=1 << 20)?);
    let stops = fields.list("stop_sequences")?;
    asked.set("stop", stops.map(|stops| Value::Array(stops.to_vec())));
    if let Some(thinks) = thinks(fields)? {
        asked.set("reasoning_effort", Some(if thinks { "medium" } else { "none" }));
    } else if asked.begun.is_empty() {
        asked.set("reasoning_effort", Some("none"));
    }
    if let Some(format) = fields.object("output_config")?.and_then(|config| config.get("format")) {
        let schema = format.get("schema").filter(|_| format["type"] == "json_schema");
        let hint = "{\"format\": {\"type\": \"json_schema\", \"schema\": {…}}}";
        let schema = schema.ok_or_else(|| wrong("output_config", "a JSON schema", format, hint))?;
        let format = json!({ "type": "json_schema", "json_schema": { "schema": schema } });
        asked.set("response_format", Some(format));
    }
    tools(fields, &mut asked)?;
    Ok(asked)
}

fn wrong(at: &str, expected: &str, got: &Value, hint: &str) -> Refusal {
    Refusal::field(at, expected, got, hint)
}

/// Whether the model is to think; none where nothing is said.
fn thinks(fields: Fields<'_>) -> Result<Option<bool>, Refusal> {
    let Some(thinking) = fields.object("thinking")? else { return Ok(None) };
    let within = |refusal: Refusal| refusal.within("thinking");
    thinking.integer("budget_tokens", 0..=1 << 30).map_err(within)?;
    match thinking.text("type").map_err(within)? {
        Some("enabled" | "adaptive" | "between_tools") => Ok(Some(true)),
        Some("disabled") => Ok(Some(false)),
        _ => {
            let got = thinking.get("type").unwrap_or(&Value::Null);
            let hint = "{\"type\": \"enabled\", \"budget_tokens\": N}";
            Err(wrong("thinking", "a type of enabled, adaptive or disabled", got, hint))
        }
    }
}

fn tools(fields: Fields<'_>, asked: &mut Asked) -> Result<(), Refusal> {
    if let Some(tools) = fields.list("tools")? {
        let tool = |tool: &Value| {
            let is_ours = tool.get("type").is_none_or(|kind| kind == "custom" || kind.is_null());
            let name = tool.get("name").filter(|_| is_ours);
            let hint =
                "a tool is {\"name\", \"description\", \"input_schema\"}, and the client runs it";
            let name = name.ok_or_else(|| wrong("tools", "tools of the client's", tool, hint))?;
            Ok(asked::function(name, tool.get("description"), tool.get("input_schema")))
        };
        let tools: Result<Vec<Value>, Refusal> = tools.iter().map(tool).collect();
        asked.set("tools", Some(tools?));
    }
    let Some(choice) = fields.object("tool_choice")? else { return Ok(()) };
    let word = match choice.text("type")? {
        Some("auto") => json!("auto"),
        Some("any") => json!("required"),
        Some("none") => json!("none"),
        Some("tool") => json!({ "type": "function", "function": { "name": choice.get("name") } }),
        _ => {
            let got = choice.get("type").unwrap_or(&Value::Null);
            let hint = "{\"type\": \"tool\", \"name\": NAME} names one";
            return Err(wrong("tool_choice", "a type of auto, any, tool or none", got, hint));
        }
    };
    asked.set("tool_choice", Some(word));
    if choice.flag("disable_parallel_tool_use")? {
        asked.set("parallel_tool_calls", Some(false));
    }
    Ok(())
}

/// The text of a text, or of a list of blocks that are text.
fn text_of(content: &Value, at: &str) -> Result<String, Refusal> {
    let hint = "a text, or a list of {\"type\": \"text\", \"text\": TEXT}";
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(blocks) => {
            let texts = blocks.iter().enumerate().map(|(i, block)| {
                text_block(block)
                    .ok_or_else(|| wrong(&format!("{at}.{i}"), "a block of text", block, hint))
            });
            let texts: Result<Vec<&str>, Refusal> = texts.collect();
            Ok(texts?.join("\n"))
        }
        other => Err(wrong(at, "a text or a list of blocks", other, hint)),
    }
}

/// The text of a block, or of a document that is text.
fn text_block(block: &Value) -> Option<&str> {
    match block["type"].as_str()? {
        "text" => block["text"].as_str(),
        "document" if block.pointer("/source/type")? == "text" => {
            block.pointer("/source/data")?.as_str()
        }
        _ => None,
    }
}

/// Adds a message, of which several may come: results of tools stand in a user's message here.
fn read(message: &Value, at: &str, messages: &mut Vec<Value>) -> Result<(), Refusal> {
    let hint = "a message is {\"role\": \"user\", \"content\": TEXT}";
    let Some(content) = message.get("content") else {
        return Err(wrong(at, "a role and content", message, hint));
    };
    let within = format!("{at}.content");
    match message["role"].as_str() {
        Some("system") => {
            let text = text_of(content, &within)?;
            messages.push(json!({ "role": "system", "content": text }));
            Ok(())
        }
        Some("user") => user(content, &within, messages),
        Some("assistant") => assistant(content, &within, messages),
        _ => Err(wrong(at, "a role of user, assistant or system", &message["role"], hint)),
    }
}

fn user(content: &Value, at: &str, messages: &mut Vec<Value>) -> Result<(), Refusal> {
    let Value::Array(blocks) = content else {
        let text = text_of(content, at)?;
        messages.push(json!({ "role": "user", "content": text }));
        return Ok(());
    };
    let mut texts = Vec::new();
    for (i, block) in blocks.iter().enumerate() {
        let at = format!("{at}.{i}");
        if block["type"] == "tool_result" {
            let id = &block["tool_use_id"];
            let result = match block.get("content") {
                None | Some(Value::Null) => String::new(),
                Some(content) => text_of(content, &format!("{at}.content"))?,
            };
            let mut message = json!({ "role": "tool", "tool_call_id": id, "content": result });
            if let Some(name) = asked::name_of_call(messages, id) {
                message["name"] = name;
            }
            messages.push(message);
            continue;
        }
        let hint = "text, tool_result, and documents whose source is text are read";
        let text = text_block(block);
        texts.push(text.ok_or_else(|| wrong(&at, "a block that is text", block, hint))?);
    }
    if !texts.is_empty() {
        messages.push(json!({ "role": "user", "content": texts.join("\n") }));
    }
    Ok(())
}

fn assistant(content: &Value, at: &str, messages: &mut Vec<Value>) -> Result<(), Refusal> {
    let text;
    let blocks = match content {
        Value::Array(blocks) => blocks.as_slice(),
        other => {
            text = [json!({ "type": "text", "text": other })];
            text.as_slice()
        }
    };
    let (mut said, mut thought, mut calls) = (String::new(), String::new(), Vec::new());
    for (i, block) in blocks.iter().enumerate() {
        let words = |key: &str| block[key].as_str();
        let known = match words("type") {
            Some("text") => words("text").map(|text| said += text),
            Some("thinking") => words("thinking").map(|text| thought += text),
            // Nobody can read it.
            Some("redacted_thinking") => Some(()),
            Some("tool_use") => words("name").filter(|_| block["input"].is_object()).map(|_| {
                calls.push(asked::call(&block["id"], &block["name"], &block["input"]));
            }),
            _ => None,
        };
        let hint = "text, thinking, and tool_use with a name and an input are read";
        let at = format!("{at}.{i}");
        known.ok_or_else(|| wrong(&at, "a block of an assistant's", block, hint))?;
    }
    let mut message = json!({ "role": "assistant", "content": said });
    if !thought.is_empty() {
        message["reasoning_content"] = thought.into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    messages.push(message);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_body(body: &Value) -> Result<Asked, Refusal> {
        asked(Fields::new(body.as_object().unwrap()))
    }

    #[test]
    fn a_round_of_tools_becomes_messages_of_chats() {
        let call = json!({ "type": "tool_use", "id": "t1", "name": "f", "input": { "x": 1 } });
        let result = json!({ "type": "tool_result", "tool_use_id": "t1", "content": [
            { "type": "text", "text": "2" },
        ] });
        let thought = json!({ "type": "thinking", "thinking": "hm", "signature": "s" });
        let asked = read_body(&json!({
            "system": [{ "type": "text", "text": "Be brief.", "cache_control": {} }],
            "messages": [
                { "role": "user", "content": "Hi" },
                { "role": "assistant", "content": [thought, { "type": "text", "text": "So:" }, call] },
                { "role": "user", "content": [result, { "type": "text", "text": "And?" }] },
            ],
            "tools": [{ "name": "f", "input_schema": { "type": "object" } }],
            "tool_choice": { "type": "any", "disable_parallel_tool_use": true },
            "stop_sequences": ["x"],
        }))
        .unwrap();
        let expected = json!([
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": "Hi" },
            { "role": "assistant", "content": "So:", "reasoning_content": "hm", "tool_calls": [
                { "id": "t1", "type": "function", "function": { "name": "f", "arguments": { "x": 1 } } },
            ] },
            { "role": "tool", "tool_call_id": "t1", "content": "2", "name": "f" },
            { "role": "user", "content": "And?" },
        ]);
        assert_eq!(asked.body["messages"], expected);
        assert_eq!(asked.body["tool_choice"], "required");
        assert_eq!(asked.body["parallel_tool_calls"], false);
        assert_eq!(asked.body["tools"][0]["function"]["parameters"], json!({ "type": "object" }));
        assert_eq!((&asked.body["stop"], asked.begun.as_str()), (&json!(["x"]), ""));
    }

    #[test]
    fn what_the_assistant_says_last_begins_its_answer() {
        let messages = json!([
            { "role": "user", "content": "Hi" }, { "role": "assistant", "content": "Hello " },
        ]);
        let asked = read_body(&json!({ "messages": messages })).unwrap();
        assert_eq!(asked.begun, "Hello");
        assert_eq!(asked.body["messages"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let image = json!({ "type": "image", "source": { "type": "url", "url": "http://x" } });
        let user = |content: Value| json!([{ "role": "user", "content": content }]);
        let fine = user(json!("Hi"));
        for (body, at) in [
            (json!({}), "messages"),
            (json!({ "messages": [] }), "messages"),
            (json!({ "messages": ["Hi"] }), "messages.0"),
            (json!({ "messages": [{ "role": "alien", "content": "Hi" }] }), "messages.0"),
            (json!({ "messages": user(json!(3)) }), "messages.0.content"),
            (json!({ "messages": user(json!([image])) }), "messages.0.content.0"),
            (json!({ "messages": fine, "system": 3 }), "system"),
            (json!({ "messages": fine, "temperature": 1.5 }), "temperature"),
            (json!({ "messages": fine, "stop_sequences": "x" }), "stop_sequences"),
            (json!({ "messages": fine, "thinking": { "type": "much" } }), "thinking"),
            (json!({ "messages": fine, "tools": [{ "type": "bash_20250124" }] }), "tools"),
            (json!({ "messages": fine, "tool_choice": { "type": "some" } }), "tool_choice"),
            (json!({ "messages": fine, "output_config": { "format": {} } }), "output_config"),
        ] {
            let refusal = read_body(&body).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(at), "{body}");
        }
    }
}
