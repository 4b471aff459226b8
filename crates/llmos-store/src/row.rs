//! Rows of JSONL: a conversation a line, with all its branches or as plain messages.
//!
//! A row of ours has `tree`, a list of messages with `number` and `parent`, and comes back as it
//! was. A row of anybody's has `messages`, OpenAI's list, and becomes a tree of one branch.

use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use crate::conversation::{Body, Conversation, Message, Role, Tree};
use crate::random::hex;

/// Fields of a row of ours.
const FIELDS: [&str; 7] = ["id", "title", "settings", "leaf", "created", "updated", "tree"];
/// Fields of a message in it.
const MESSAGE_FIELDS: [&str; 12] = [
    "number",
    "parent",
    "created",
    "role",
    "content",
    "reasoning_content",
    "tool_calls",
    "tool_call_id",
    "name",
    "attachments",
    "origin",
    "rating",
];
/// Characters of a title that is made of the first thing that a person said.
const TITLE: usize = 60;

impl Tree {
    /// Reads a line. What it does not say, such as the time of plain messages, is `now`
    /// (milliseconds since 1970). The same plain line has the same id each time.
    ///
    /// # Errors
    /// What is wrong with the line, in words. A field of a tree that is not known is wrong: it would
    /// be lost.
    pub fn parse(line: &str, now: i64) -> Result<Tree, String> {
        let row: Json = serde_json::from_str(line).map_err(|error| format!("no JSON: {error}"))?;
        let Json::Object(mut row) = row else { return Err("is no object".into()) };
        let tree = match row.remove("tree") {
            Some(messages) => whole(row, messages)?,
            None => plain(row, now)?,
        };
        tree.check().map_err(|error| error.to_string())?;
        Ok(tree)
    }

    /// The row of the whole tree, ratings included.
    pub fn to_json(&self) -> Json {
        let mut row = Map::new();
        let head = &self.conversation;
        row.insert("id".into(), head.id.as_str().into());
        row.insert("title".into(), head.title.as_str().into());
        if !head.settings.is_null() {
            row.insert("settings".into(), head.settings.clone());
        }
        row.insert("leaf".into(), head.leaf.into());
        row.insert("created".into(), head.created.into());
        row.insert("updated".into(), head.updated.into());
        row.insert("tree".into(), json!(self.messages));
        Json::Object(row)
    }

    /// The row of the branch to the leaf, as plain messages: what models are trained on.
    pub fn to_plain_json(&self) -> Json {
        let messages = self.branch().into_iter().map(|message| {
            let body = &message.body;
            let mut object = Map::new();
            object.insert("role".into(), body.role.name().into());
            object.insert("content".into(), with_attachments(body).into());
            if let Some(reasoning) = &body.reasoning_content {
                object.insert("reasoning_content".into(), reasoning.as_str().into());
            }
            if !body.tool_calls.is_empty() {
                object.insert("tool_calls".into(), body.tool_calls.clone().into());
            }
            for (field, value) in [("tool_call_id", &body.tool_call_id), ("name", &body.name)] {
                if let Some(value) = value {
                    object.insert(field.into(), value.as_str().into());
                }
            }
            Json::Object(object)
        });
        json!({ "id": self.conversation.id, "messages": messages.collect::<Vec<Json>>() })
    }
}

/// A text with what was given along, each file under its name.
fn with_attachments(body: &Body) -> String {
    let mut text = body.content.clone();
    for file in &body.attachments {
        text.push_str(&format!("\n\n{}:\n{}", file.name, file.text));
    }
    text
}

/// A row of ours.
fn whole(row: Map<String, Json>, messages: Json) -> Result<Tree, String> {
    known("the row", &row, &FIELDS)?;
    let Json::Array(messages) = messages else { return Err("tree is no list".into()) };
    let mut read = Vec::with_capacity(messages.len());
    for (number, message) in (1..).zip(messages) {
        let what = format!("message {number}");
        if let Json::Object(object) = &message {
            known(&what, object, &MESSAGE_FIELDS)?;
        }
        let message: Message =
            serde_json::from_value(message).map_err(|error| format!("{what}: {error}"))?;
        read.push(message);
    }
    let mut conversation: Conversation =
        serde_json::from_value(Json::Object(row)).map_err(|error| error.to_string())?;
    conversation.messages = u32::try_from(read.len()).map_err(|_| "has too many messages")?;
    Ok(Tree { conversation, messages: read })
}

fn known(what: &str, object: &Map<String, Json>, fields: &[&str]) -> Result<(), String> {
    match object.keys().find(|field| !fields.contains(&field.as_str())) {
        Some(field) => Err(format!("{what} has the field {field:?}, which is not known")),
        None => Ok(()),
    }
}

/// A row of plain messages. Tools that it offers go to the settings.
fn plain(mut row: Map<String, Json>, now: i64) -> Result<Tree, String> {
    let digest = Sha256::digest(Json::Object(row.clone()).to_string());
    let messages = match row.remove("messages") {
        Some(Json::Array(messages)) => messages,
        Some(_) => return Err("messages is no list".into()),
        None => return Err("has neither tree nor messages".into()),
    };
    let mut read: Vec<Message> = Vec::with_capacity(messages.len());
    for (number, message) in (1..).zip(messages) {
        let body = body(message).map_err(|problem| format!("message {number} {problem}"))?;
        let parent = read.last().map(|message| message.number);
        read.push(Message { number, parent, created: now, body, rating: None });
    }
    let title = match row.get("title").and_then(Json::as_str) {
        Some(title) => title.to_string(),
        None => title_of(&read),
    };
    let conversation = Conversation {
        id: hex(&digest[..16]),
        title,
        settings: row.remove("tools").map_or(Json::Null, |tools| json!({ "tools": tools })),
        leaf: read.last().map(|message| message.number),
        messages: u32::try_from(read.len()).map_err(|_| "has too many messages")?,
        created: now,
        updated: now,
    };
    Ok(Tree { conversation, messages: read })
}

/// A title for messages that came without one: how the first thing begins that a person says.
fn title_of(messages: &[Message]) -> String {
    let said = messages.iter().find(|message| message.body.role == Role::User);
    let line = said.and_then(|message| message.body.content.lines().find(|l| !l.trim().is_empty()));
    line.unwrap_or_default().trim().chars().take(TITLE).collect()
}

/// A message of OpenAI's form.
fn body(message: Json) -> Result<Body, String> {
    let Json::Object(mut object) = message else { return Err("is no object".into()) };
    let role = object.get("role").and_then(Json::as_str).ok_or("has no role")?;
    let role = Role::of(role).ok_or_else(|| {
        let names = Role::ALL.map(Role::name).join(", ");
        format!("has the role {role:?}, expected one of {names}")
    })?;
    let content = match object.remove("content") {
        Some(Json::String(text)) => text,
        Some(Json::Array(parts)) => joined(&parts)?,
        None | Some(Json::Null) if role == Role::Assistant => String::new(),
        None | Some(Json::Null) => return Err("has no content".into()),
        Some(_) => return Err("has content that is no text".into()),
    };
    let mut text = |names: &[&str]| -> Result<Option<String>, String> {
        for name in names {
            match object.remove(*name) {
                None | Some(Json::Null) => {}
                Some(Json::String(text)) => return Ok(Some(text)),
                Some(_) => return Err(format!("has {name} that is no text")),
            }
        }
        Ok(None)
    };
    let mut body = Body::text(role, content);
    body.reasoning_content = text(&["reasoning_content", "reasoning", "thinking"])?;
    body.tool_call_id = text(&["tool_call_id"])?;
    body.name = text(&["name"])?;
    body.tool_calls = match object.remove("tool_calls") {
        None | Some(Json::Null) => Vec::new(),
        Some(Json::Array(calls)) => calls,
        Some(_) => return Err("has tool_calls that are no list".into()),
    };
    Ok(body)
}

/// The text of OpenAI's parts of a message.
fn joined(parts: &[Json]) -> Result<String, String> {
    let texts = parts.iter().map(|part| match part {
        Json::String(text) => Some(text.as_str()),
        part => part.get("text").and_then(Json::as_str),
    });
    let texts: Option<Vec<&str>> = texts.collect();
    texts.map(|texts| texts.concat()).ok_or_else(|| "has content that is no text".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_messages_become_a_branch() {
        let line = r#"{"tools":[{"a":1}],"messages":[
            {"role":"system","content":"Be brief."},
            {"role":"user","content":[{"type":"text","text":"\n What "},"is\nit?"]},
            {"role":"assistant","content":null,"thinking":"Hm.","tool_calls":[{"id":"1"}]},
            {"role":"tool","content":"42","tool_call_id":"1","name":"f"}]}"#;
        let tree = Tree::parse(line, 7).unwrap();
        let head = &tree.conversation;
        assert_eq!((head.title.as_str(), head.leaf, head.created), ("What is", Some(4), 7));
        assert_eq!(head.settings, json!({ "tools": [{ "a": 1 }] }));
        assert_eq!(tree.branch().len(), 4);
        let answer = &tree.messages[2];
        assert_eq!((answer.parent, answer.body.content.as_str()), (Some(2), ""));
        assert_eq!(answer.body.reasoning_content.as_deref(), Some("Hm."));
        assert_eq!(answer.body.tool_calls, [json!({ "id": "1" })]);
        assert_eq!(tree.messages[3].body.name.as_deref(), Some("f"));
        assert_eq!(Tree::parse(line, 9).unwrap().conversation.id, head.id);
        let plain = tree.to_plain_json();
        assert_eq!(plain["messages"][2]["reasoning_content"], "Hm.");
        assert_eq!(plain["messages"][3]["tool_call_id"], "1");
        assert_eq!(Tree::parse("{\"messages\":[]}", 0).unwrap().messages.len(), 0);
    }

    #[test]
    fn a_tree_comes_back() {
        let line = r#"{"id":"a","title":"T","leaf":3,"created":1,"updated":2,"tree":[
            {"number":1,"parent":null,"created":1,"role":"user","content":"Hi"},
            {"number":2,"parent":1,"created":1,"role":"assistant","content":"Ho",
             "origin":{"model":"m","digest":"d","prompt_hash":"p","prompt_tokens":3,"tokens":1,
                       "seed":18446744073709551615,"sampling":{"temperature":0.7}},
             "rating":{"thumb":"down","reason":"rude","ideal":"Hello","created":2}},
            {"number":3,"parent":1,"created":2,"role":"assistant","content":"Hello",
             "attachments":[{"name":"a.txt","media":"text/plain","text":"x"}]}]}"#;
        let tree = Tree::parse(line, 0).unwrap();
        assert_eq!(Tree::parse(&tree.to_json().to_string(), 0).unwrap(), tree);
        let branch: Vec<u32> = tree.branch().iter().map(|message| message.number).collect();
        assert_eq!(branch, [1, 3]);
        let plain = tree.to_plain_json();
        assert_eq!(plain["messages"][1]["content"], "Hello\n\na.txt:\nx");
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        let check = |line: &str, expected: &str| {
            let problem = Tree::parse(line, 0).unwrap_err();
            assert!(problem.contains(expected), "{line}: {problem}");
        };
        check("", "no JSON");
        check("{\"messages\":[", "no JSON");
        check("[]", "is no object");
        check("{}", "has neither tree nor messages");
        check(r#"{"messages":{}}"#, "messages is no list");
        check(r#"{"messages":[3]}"#, "message 1 is no object");
        check(r#"{"messages":[{"content":"a"}]}"#, "message 1 has no role");
        check(r#"{"messages":[{"role":"alien","content":"a"}]}"#, "the role \"alien\"");
        check(r#"{"messages":[{"role":"user"}]}"#, "has no content");
        check(r#"{"messages":[{"role":"user","content":3}]}"#, "no text");
        check(r#"{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#, "no text");
        check(r#"{"messages":[{"role":"user","content":"a","name":3}]}"#, "name that is no text");
        check(r#"{"messages":[{"role":"user","content":"a","tool_calls":3}]}"#, "no list");
        let tree = |leaf: &str, messages: &str| {
            format!(
                r#"{{"id":"a","title":"","leaf":{leaf},"created":0,"updated":0,"tree":{messages}}}"#
            )
        };
        let message = |number: &str, parent: &str, more: &str| {
            format!(
                r#"{{"number":{number},"parent":{parent},"created":0,"role":"user","content":""{more}}}"#
            )
        };
        check(&tree("null", "3"), "tree is no list");
        check(&tree("1", "[]"), "leaf: is no message");
        check(&tree("null", &format!("[{}]", message("1", "null", ""))), "leaf: is missing");
        check(&tree("1", &format!("[{}]", message("2", "null", ""))), "has number 2");
        check(&tree("1", &format!("[{}]", message("1", "1", ""))), "no message before it");
        check(&tree("1", &format!("[{}]", message("1", "null", ",\"mood\":1"))), "\"mood\"");
        check(r#"{"id":"a b","title":"","created":0,"updated":0,"tree":[]}"#, "conversation id");
        check(r#"{"id":"a","created":0,"updated":0,"tree":[]}"#, "title");
        let deep = format!("{}{}", "[".repeat(70), "]".repeat(70));
        let row =
            format!(r#"{{"messages":[{{"role":"user","content":"a","tool_calls":[{deep}]}}]}}"#);
        check(&row, "nested");
    }
}
