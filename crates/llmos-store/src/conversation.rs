//! Conversations: trees of messages, each with what is needed to make its answer again.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Who sets the scene.
    System,
    /// OpenAI's newer name for it.
    Developer,
    /// A person.
    User,
    /// The model.
    Assistant,
    /// What a tool answered.
    Tool,
    /// The same, under an older name.
    Function,
    /// The same, as Llama's templates call it.
    Ipython,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 7] = [
        Role::System,
        Role::Developer,
        Role::User,
        Role::Assistant,
        Role::Tool,
        Role::Function,
        Role::Ipython,
    ];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::Function => "function",
            Role::Ipython => "ipython",
        }
    }

    /// The role of a name.
    pub fn of(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// A file that was given along with a message, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// The file's name.
    pub name: String,
    /// Its media type, such as `text/plain`.
    pub media: String,
    /// What it says.
    pub text: String,
}

/// How an answer came about: with the branch that it ends, enough to make it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The model's name.
    pub model: String,
    /// The digest of its file.
    pub digest: String,
    /// A hash of the prompt's token ids: whether a prompt that was built again is the same.
    pub prompt_hash: String,
    /// How many tokens the prompt had.
    pub prompt_tokens: u64,
    /// The prompt's token ids, where whoever asked wants them kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Vec<u32>>,
    /// How many tokens were drawn.
    pub tokens: u64,
    /// Why it ended: `stop`, `length`, `tool_calls`, or `cancelled` where nobody listened any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
    /// The seed of the draws.
    pub seed: u64,
    /// Everything else that was asked for: sampling, tools, a schema, the template's own settings.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub sampling: Value,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Who speaks.
    pub role: Role,
    /// The text.
    pub content: String,
    /// What was thought before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Calls of tools, as OpenAI's API has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    /// Which call a tool's message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The speaker's or the tool's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Files that were given along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// How an answer came about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl Body {
    /// A message that is text alone.
    pub fn text(role: Role, content: impl Into<String>) -> Body {
        Body {
            role,
            content: content.into(),
            reasoning_content: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
            attachments: Vec::new(),
            origin: None,
        }
    }
}

/// Up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thumb {
    /// A good answer.
    Up,
    /// A bad one.
    Down,
}

/// What a person thinks of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rating {
    /// Up or down.
    pub thumb: Thumb,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What should have been said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ideal: Option<String>,
    /// When, in milliseconds since 1970.
    pub created: i64,
}

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// From 1, in the order in which messages came.
    pub number: u32,
    /// The message before it, whose number is smaller; none at the beginning of a branch.
    pub parent: Option<u32>,
    /// When, in milliseconds since 1970.
    pub created: i64,
    /// What it says.
    #[serde(flatten)]
    pub body: Body,
    /// What was thought of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<Rating>,
}

/// A conversation without its messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// Unique in the store.
    pub id: String,
    /// What it is called.
    pub title: String,
    /// What whoever leads it wants kept: a system prompt, a model, sampling. Null where nothing is.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub settings: Value,
    /// The last message of the branch that was looked at last.
    pub leaf: Option<u32>,
    /// How many messages all branches have together; their numbers are 1 to this.
    #[serde(default)]
    pub messages: u32,
    /// When it began, in milliseconds since 1970.
    pub created: i64,
    /// When something was last added or changed.
    pub updated: i64,
}

/// A conversation with all its branches.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// Its head.
    pub conversation: Conversation,
    /// Its messages by number.
    pub messages: Vec<Message>,
}

impl Tree {
    /// The messages from the beginning to the leaf.
    pub fn branch(&self) -> Vec<&Message> {
        let mut branch = Vec::new();
        let mut at = self.conversation.leaf;
        while let Some(message) = at.and_then(|number| self.message(number)) {
            branch.push(message);
            // A parent's number is smaller, so this ends even in a tree that was never checked.
            at = message.parent.filter(|parent| *parent < message.number);
        }
        branch.reverse();
        branch
    }

    fn message(&self, number: u32) -> Option<&Message> {
        self.messages.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// Checks that it is a tree, and that all in it can be stored.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the place in it.
    pub fn check(&self) -> Result<(), Error> {
        let head = &self.conversation;
        check_id(&head.id)?;
        check_json("settings", &head.settings)?;
        let n_message = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        if head.messages != n_message {
            let problem = format!("says {} messages, and has {n_message}", head.messages);
            return Err(Error::invalid("conversation", problem));
        }
        for (index, message) in (1..).zip(&self.messages) {
            let what = format!("message {index}");
            if message.number != index {
                let problem = format!("has number {}: numbers count from 1", message.number);
                return Err(Error::invalid(what, problem));
            }
            if message.parent.is_some_and(|parent| parent == 0 || parent >= index) {
                return Err(Error::invalid(what, "its parent is no message before it"));
            }
            check_body(&what, &message.body)?;
        }
        if head.leaf.is_some_and(|leaf| leaf == 0 || leaf > n_message) {
            return Err(Error::invalid("leaf", "is no message of the conversation"));
        }
        if head.leaf.is_none() && n_message > 0 {
            return Err(Error::invalid("leaf", "is missing"));
        }
        Ok(())
    }
}

/// Longest id, in characters.
const LONGEST_ID: usize = 64;
/// Deepest JSON. What reads it back, serde_json, goes 128 deep, and an export wraps it up further.
const DEEPEST: usize = 64;

/// Checks an id that comes from outside.
pub(crate) fn check_id(id: &str) -> Result<(), Error> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if id.is_empty() || id.len() > LONGEST_ID || !id.chars().all(is_plain) {
        let problem = format!("expected 1 to {LONGEST_ID} letters, digits, - and _");
        return Err(Error::invalid("conversation id", problem));
    }
    Ok(())
}

/// Checks that a message can be read back.
pub(crate) fn check_body(what: &str, body: &Body) -> Result<(), Error> {
    for call in &body.tool_calls {
        check_json(&format!("{what}: tool_calls"), call)?;
    }
    match &body.origin {
        Some(origin) => check_json(&format!("{what}: sampling"), &origin.sampling),
        None => Ok(()),
    }
}

/// Checks that JSON is not deeper than what can be read back.
pub(crate) fn check_json(what: &str, json: &Value) -> Result<(), Error> {
    let mut level = vec![json];
    for _ in 0..DEEPEST {
        level = level
            .into_iter()
            .flat_map(|value| -> Box<dyn Iterator<Item = &Value>> {
                match value {
                    Value::Array(list) => Box::new(list.iter()),
                    Value::Object(object) => Box::new(object.values()),
                    _ => Box::new(std::iter::empty()),
                }
            })
            .collect();
        if level.is_empty() {
            return Ok(());
        }
    }
    Err(Error::invalid(what, format!("is nested more than {DEEPEST} deep")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_the_names_that_serde_gives_them() {
        for role in Role::ALL {
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
            assert_eq!(Role::of(role.name()), Some(role));
        }
        assert_eq!(Role::of("alien"), None);
    }

    #[test]
    fn ids_and_depths_are_checked() {
        assert!(check_id("3f_-Z").is_ok());
        for id in ["", "a b", "é", "../x", &"a".repeat(65)] {
            assert!(check_id(id).is_err(), "{id}");
        }
        let nested = |depth: usize| (1..depth).fold(Value::Array(vec![]), |v, _| vec![v].into());
        assert!(check_json("x", &nested(DEEPEST)).is_ok());
        assert!(check_json("x", &nested(DEEPEST + 1)).is_err());
    }
}
