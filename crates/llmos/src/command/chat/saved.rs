//! Conversations in files: a row of JSONL that `finetune` and `--batch` take as well, or Markdown.

use std::path::Path;

use llmos_agent::messages::{content, role, shaped};
use serde_json::{Value, json};

use crate::failure::{Explain, failure};
use crate::registry::write_whole;

/// Writes a conversation: Markdown where the name ends in .md, else one row.
///
/// # Errors
/// The file cannot be written.
pub(super) fn save(path: &Path, messages: &[Value]) -> anyhow::Result<()> {
    let is_markdown = path.extension().is_some_and(|ending| ending == "md" || ending == "markdown");
    let text = match is_markdown {
        true => markdown(messages),
        false => json!({ "messages": messages }).to_string() + "\n",
    };
    write_whole(path, text.as_bytes())
}

/// The messages of the last row of a file.
///
/// # Errors
/// The file cannot be read, or holds no conversation that a model could go on with.
pub(super) fn load(path: &Path) -> anyhow::Result<Vec<Value>> {
    let hint = || "`/save FILE.jsonl` writes what can be loaded: {\"messages\": [...]}".to_string();
    let text = std::fs::read_to_string(path)
        .explain(|| format!("cannot read {}", path.display()), hint)?;
    let none = || failure(format!("{} holds no conversation", path.display()), hint());
    // A whole document, or its last row.
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).ok_or_else(none)?;
    let value: Value =
        serde_json::from_str(&text).or_else(|_| serde_json::from_str(last)).map_err(|_| none())?;
    let messages = match value {
        Value::Array(messages) => messages,
        Value::Object(mut row) => match row.remove("messages") {
            Some(Value::Array(messages)) => messages,
            _ => return Err(none()),
        },
        _ => return Err(none()),
    };
    if messages.is_empty() {
        return Err(none());
    }
    shaped(&messages).map_err(|error| failure(format!("{}: {error}", path.display()), hint()))
}

/// For people: who said what, calls and their results in quotes.
pub(super) fn markdown(messages: &[Value]) -> String {
    let mut text = String::new();
    for message in messages {
        let who = match role(message) {
            "user" => "You",
            "assistant" => "Assistant",
            "system" | "developer" => "System",
            _ => "Tool",
        };
        let mut parts = Vec::new();
        if !content(message).is_empty() {
            parts.push(match who {
                "Tool" => format!("> {}", content(message).replace('\n', "\n> ")),
                _ => content(message).to_string(),
            });
        }
        for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            let function = call.get("function").unwrap_or(call);
            let name = function.get("name").and_then(Value::as_str).unwrap_or_default();
            let arguments = function.get("arguments").unwrap_or(&Value::Null);
            parts.push(format!("> `{name}({arguments})`"));
        }
        text += &format!("**{who}:** {}\n\n", parts.join("\n\n"));
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_is_for_people() {
        let messages = [
            json!({ "role": "user", "content": "What is 6 * 7?" }),
            json!({ "role": "assistant", "content": "", "tool_calls": [
                { "function": { "name": "calculator", "arguments": { "expression": "6 * 7" } } }
            ] }),
            json!({ "role": "tool", "content": "42" }),
            json!({ "role": "assistant", "content": "42." }),
        ];
        assert_eq!(
            markdown(&messages),
            "**You:** What is 6 * 7?\n\n**Assistant:** > `calculator({\"expression\":\"6 * 7\"})`\n\n\
             **Tool:** > 42\n\n**Assistant:** 42.\n"
        );
    }
}
