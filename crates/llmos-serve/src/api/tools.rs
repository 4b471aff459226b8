//! Tools that a client offers: a model may call them, and the client answers the calls.

use llmos_agent::{Assistant, CallFormat, Tool};
use llmos_model::grammar::GrammarSource;
use serde_json::{Value, json};

use crate::fields::Fields;
use crate::models::Resident;
use crate::refusal::Refusal;
use crate::scheduler::Dialogue;

/// Most tools, and the longest name of one, as in OpenAI's API.
const TOOLS: usize = 128;
const NAME: usize = 64;

/// What may or must be called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Choice {
    /// Nothing.
    None,
    /// What the model wants.
    Auto,
    /// Any one, but one.
    Required,
    /// This one.
    Named(String),
}

/// The tools of a call.
pub(crate) fn tools(fields: Fields<'_>) -> Result<Vec<Tool>, Refusal> {
    for name in ["functions", "function_call"] {
        if let Some(old) = fields.get(name) {
            return Err(Refusal::field(name, "nothing", old, "use tools and tool_choice"));
        }
    }
    let Some(items) = fields.list("tools")? else { return Ok(Vec::new()) };
    if items.len() > TOOLS {
        let expected = format!("at most {TOOLS} tools");
        return Err(Refusal::field("tools", expected, &items.len().into(), "leave some out"));
    }
    let mut tools: Vec<Tool> = Vec::with_capacity(items.len());
    for item in items {
        let tool = tool(item)?;
        if tools.iter().any(|other| other.name() == tool.name()) {
            let name = Value::from(tool.name());
            return Err(wrong("tools with names of their own", &name));
        }
        tools.push(tool);
    }
    Ok(tools)
}

fn wrong(expected: &str, got: &Value) -> Refusal {
    let hint = "a tool is {\"type\": \"function\", \"function\": {\"name\", \"description\", \
                \"parameters\"}}";
    Refusal::field("tools", expected, got, hint)
}

fn tool(item: &Value) -> Result<Tool, Refusal> {
    let function = item.get("function").and_then(Value::as_object);
    let is_function = item.get("type").is_none_or(|kind| kind == "function");
    let Some(function) = function.filter(|_| is_function) else {
        return Err(wrong("tools that are functions", item));
    };
    let fields = Fields::new(function);
    let name = fields.text("name")?.unwrap_or_default();
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > NAME || !name.chars().all(is_letter) {
        let expected = format!("names of 1 to {NAME} letters, digits, _ and -");
        return Err(wrong(&expected, function.get("name").unwrap_or(&Value::Null)));
    }
    let description = fields.text("description")?.unwrap_or_default();
    let parameters = match fields.get("parameters") {
        None => json!({ "type": "object", "properties": {} }),
        Some(schema) if schema.is_object() => schema.clone(),
        Some(other) => return Err(wrong("parameters that are a schema, an object", other)),
    };
    // The client answers calls; nobody here does.
    let run = |_: &Value| Err("it is the client's".to_string());
    Ok(Tool::new(name, description, parameters, run))
}

/// What may or must be called of `tools`; those that are not allowed are left out of them.
pub(crate) fn choice(fields: Fields<'_>, tools: &mut Vec<Tool>) -> Result<Choice, Refusal> {
    let wrong = |got: &Value| {
        Refusal::field(
            "tool_choice",
            "none, auto, required, or one of the tools",
            got,
            "{\"type\": \"function\", \"function\": {\"name\": NAME}} names one",
        )
    };
    let choice = match fields.get("tool_choice") {
        None => Choice::Auto,
        Some(Value::String(word)) => match word.as_str() {
            "none" => Choice::None,
            "auto" => Choice::Auto,
            "required" | "any" => Choice::Required,
            _ => return Err(wrong(&Value::from(word.as_str()))),
        },
        Some(value) if value.get("type").is_some_and(|kind| kind == "allowed_tools") => {
            let allowed = value.pointer("/allowed_tools/tools").and_then(Value::as_array);
            let names: Option<Vec<&str>> =
                allowed.and_then(|allowed| allowed.iter().map(named).collect());
            let names = names.ok_or_else(|| wrong(value))?;
            tools.retain(|tool| names.contains(&tool.name()));
            match value.pointer("/allowed_tools/mode").and_then(Value::as_str) {
                Some("required") => Choice::Required,
                Some("auto") | None => Choice::Auto,
                Some(_) => return Err(wrong(value)),
            }
        }
        Some(value) => {
            let name = named(value);
            let name = name.filter(|name| tools.iter().any(|tool| tool.name() == *name));
            Choice::Named(name.ok_or_else(|| wrong(value))?.to_string())
        }
    };
    match (&choice, tools.is_empty()) {
        (Choice::Required, true) => Err(wrong(&Value::from("required, without tools"))),
        (_, true) => Ok(Choice::None),
        _ => Ok(choice),
    }
}

/// The function that a description names.
fn named(value: &Value) -> Option<&str> {
    value.pointer("/function/name").and_then(Value::as_str)
}

/// How the answer of an assistant with tools is read, and what the prompt has to end in.
pub(crate) fn dialogue(
    assistant: &Assistant,
    is_thinking: bool,
    choice: &Choice,
    only_one: bool,
    resident: &Resident,
) -> Result<(Dialogue, String), Refusal> {
    let names = assistant.tools().iter().map(|tool| tool.name().to_string()).collect();
    let mut dialogue = Dialogue {
        format: assistant.call_format(),
        names,
        is_thinking,
        grammar: None,
        closing: None,
        is_required: false,
        only_one: only_one || matches!(choice, Choice::Named(_)),
        begun: String::new(),
    };
    let Some(format) = dialogue.format else { return Ok((dialogue, String::new())) };
    dialogue.closing = format.closing_token(&resident.tokenizer);
    let source = match choice {
        Choice::Named(name) => {
            let named = assistant.tools().iter().find(|tool| tool.name() == name);
            let named: Vec<Tool> = named.into_iter().map(copy).collect();
            format.grammar(&named, dialogue.closing.is_some())
        }
        _ => format.grammar(assistant.tools(), dialogue.closing.is_some()),
    };
    let grammar = resident.grammar(&GrammarSource::Lark(&source));
    dialogue.grammar = Some(grammar.map_err(|refusal| refusal.within("tools"))?);
    dialogue.is_required = matches!(choice, Choice::Required | Choice::Named(_));
    let opening = match dialogue.is_required {
        false => String::new(),
        true => opening(format, is_thinking),
    };
    Ok((dialogue, opening))
}

/// What a prompt ends in where the answer is a call.
fn opening(format: CallFormat, is_thinking: bool) -> String {
    let thought = match is_thinking {
        true => format!("{}\n\n", llmos_agent::THOUGHT),
        false => String::new(),
    };
    thought + format.opening()
}

fn copy(tool: &Tool) -> Tool {
    let run = |_: &Value| Err("it is the client's".to_string());
    Tool::new(tool.name(), tool.description(), tool.parameters().clone(), run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &Value) -> Result<(Vec<Tool>, Choice), Refusal> {
        let fields = Fields::new(value.as_object().unwrap());
        let mut tools = tools(fields)?;
        let choice = choice(fields, &mut tools)?;
        Ok((tools, choice))
    }

    #[test]
    fn tools_and_choices_are_read() {
        let f = json!({ "type": "function", "function": { "name": "f" } });
        let g = json!({ "type": "function", "function": { "name": "g", "parameters": {} } });
        let named = json!({ "type": "function", "function": { "name": "g" } });
        let check = |choice: Value, expected: Choice| {
            let value = json!({ "tools": [f, g], "tool_choice": choice });
            assert_eq!(read(&value).unwrap().1, expected);
        };
        check(json!(null), Choice::Auto);
        check(json!("none"), Choice::None);
        check(json!("required"), Choice::Required);
        check(named.clone(), Choice::Named("g".into()));
        let allowed = json!({ "mode": "required", "tools": [named] });
        let allowed = json!({ "type": "allowed_tools", "allowed_tools": allowed });
        let (tools, choice) = read(&json!({ "tools": [f, g], "tool_choice": allowed })).unwrap();
        assert_eq!((tools.len(), tools[0].name(), choice), (1, "g", Choice::Required));
        assert_eq!(read(&json!({ "tools": [] })).unwrap().1, Choice::None);
        assert_eq!(read(&json!({})).unwrap().1, Choice::None);
    }

    #[test]
    fn broken_tools_are_refused() {
        let f = json!({ "type": "function", "function": { "name": "f" } });
        let other = json!({ "type": "function", "function": { "name": "h" } });
        for value in [
            json!({ "tools": "f" }),
            json!({ "tools": ["f"] }),
            json!({ "tools": [{ "type": "custom", "custom": { "name": "f" } }] }),
            json!({ "tools": [{ "type": "function", "function": {} }] }),
            json!({ "tools": [{ "type": "function", "function": { "name": "a b" } }] }),
            json!({ "tools": [{ "type": "function", "function": { "name": "x".repeat(65) } }] }),
            json!({ "tools": [{ "type": "function", "function": { "name": "f", "parameters": 3 } }] }),
            json!({ "tools": [f, f] }),
            json!({ "tools": vec![f.clone(); 129] }),
            json!({ "tools": [f], "tool_choice": "sometimes" }),
            json!({ "tools": [f], "tool_choice": other }),
            json!({ "tool_choice": "required" }),
            json!({ "functions": [] }),
            json!({ "function_call": "auto" }),
        ] {
            let refusal = read(&value).unwrap_err();
            assert!(refusal.param.is_some(), "{value}");
        }
    }
}
