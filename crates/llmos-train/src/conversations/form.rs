//! The forms that people keep conversations in, found out by looking at a row.

use llmos_agent::messages::role;
use serde_json::{Map, Value, json};

use super::Fault;

/// A form of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{"messages": [{"role", "content", "weight"?}], "system"?, "tools"?}`, OpenAI's.
    Messages,
    /// `{"conversations": [{"from", "value"}], "system"?, "tools"?}`.
    ShareGpt,
    /// `{"instruction", "input"?, "output", "system"?, "history"?}`, or Dolly's names for them.
    Alpaca,
    /// `{"prompt", "completion"}`, as plain texts or lists of messages.
    Completion,
    /// `{"prompt"?, "chosen", "rejected"}`.
    Preference,
    /// `{"prompt", "completion", "label"}`: liked or not.
    Tagged,
}

/// What is learnt from, in one form.
#[derive(Clone, Debug, PartialEq)]
pub enum Conversation {
    /// Messages for the model's template. Assistant turns are learnt from message `first` on.
    Messages {
        /// `{"role", "content", …}`
        messages: Vec<Value>,
        /// Schemas of tools.
        tools: Option<Value>,
        /// The first message that may be learnt.
        first: usize,
    },
    /// A text as it is, of which the second part is learnt.
    Plain {
        /// What is given.
        prompt: String,
        /// What is learnt, followed by an end token.
        completion: String,
    },
}

/// What is wrong with a pair of which nothing can be learnt.
pub(super) const SAME: &str = "both answers are the same";

/// Names that data sets give to a prompt and to what follows it.
const COMPLETIONS: [(&str, &str); 5] = [
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("instruction", "response"),
];

/// Names that data sets give to Alpaca's instruction, input and output: its own, Dolly's, and those of
/// questions about a text.
const ALPACA: [(&str, &str, &str); 3] = [
    ("instruction", "input", "output"),
    ("instruction", "context", "response"),
    ("question", "context", "answer"),
];

impl Form {
    /// All forms.
    pub const ALL: [Form; 6] = [
        Form::Messages,
        Form::ShareGpt,
        Form::Alpaca,
        Form::Completion,
        Form::Preference,
        Form::Tagged,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Form::Messages => "messages",
            Form::ShareGpt => "sharegpt",
            Form::Alpaca => "alpaca",
            Form::Completion => "prompt-completion",
            Form::Preference => "preference",
            Form::Tagged => "tagged",
        }
    }

    /// The form of that name.
    pub fn from_name(name: &str) -> Option<Form> {
        Form::ALL.into_iter().find(|form| form.name() == name)
    }

    /// The form of a row; none that is known.
    pub fn of(row: &Value) -> Option<Form> {
        let row = row.as_object()?;
        let has = |key: &str| row.get(key).is_some_and(|value| !value.is_null());
        if has("chosen") && has("rejected") {
            return Some(Form::Preference);
        }
        if has("label") && completion_keys(row).is_some() {
            return Some(Form::Tagged);
        }
        if let Some(turns) = turns_of(row) {
            let says_from = turns.iter().any(|turn| turn.get("from").is_some());
            return Some(if says_from { Form::ShareGpt } else { Form::Messages });
        }
        // Where a row has what belongs to its question beside it, that is part of what is asked.
        let is_alpaca = |&(instruction, input, output): &(&str, &str, &str)| {
            has(instruction) && has(output) && (output == "output" || row.contains_key(input))
        };
        if ALPACA.iter().any(is_alpaca) {
            return Some(Form::Alpaca);
        }
        completion_keys(row).map(|_| Form::Completion)
    }

    /// What a row of this form says, to be learnt from.
    ///
    /// # Errors
    /// [`Fault::OtherForm`] where it has not this form; [`Fault::Broken`].
    pub fn conversation(self, row: &Value) -> Result<Conversation, Fault> {
        let row = row.as_object().ok_or(Fault::OtherForm)?;
        match self {
            Form::Messages => messages(row),
            Form::ShareGpt => share_gpt(row),
            Form::Alpaca => alpaca(row),
            Form::Completion | Form::Tagged => completion(row),
            Form::Preference => {
                Err(Fault::Broken("a pair of answers is learnt from by `llmos prefer`".to_string()))
            }
        }
    }
}

/// The better and the worse answer of a row of [`Form::Preference`], each with what comes before it.
///
/// # Errors
/// [`Fault::OtherForm`]; [`Fault::Broken`], also where both answers are the same.
pub fn pair(row: &Value) -> Result<(Conversation, Conversation), Fault> {
    let row = row.as_object().ok_or(Fault::OtherForm)?;
    let (Some(chosen), Some(rejected)) = (row.get("chosen"), row.get("rejected")) else {
        return Err(Fault::OtherForm);
    };
    if chosen == rejected {
        return Err(Fault::Broken(SAME.to_string()));
    }
    let both =
        |of: &dyn Fn(&Value) -> Result<Conversation, Fault>| Ok((of(chosen)?, of(rejected)?));
    let tools = tools(row)?;
    // Whole conversations, alike up to where they part; what else the row has says the same again.
    if let (Value::Array(_), Value::Array(_)) = (chosen, rejected) {
        let (a, b) = (answer(chosen)?, answer(rejected)?);
        let is_whole = |turns: &[Value]| {
            turns.first().is_some_and(|turn| matches!(role(turn), "user" | "system"))
        };
        if is_whole(&a) && is_whole(&b) {
            let (a, b) = (after_system(row, a)?, after_system(row, b)?);
            let first = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            let whole = |messages| Conversation::Messages { messages, tools: tools.clone(), first };
            return Ok((whole(a), whole(b)));
        }
    }
    // What comes before both: messages, turns of ShareGPT, or a text.
    let before = match (row.get("prompt"), turns_of(row)) {
        (Some(Value::Array(messages)), _) => Some(messages.clone()),
        (_, Some(turns)) if turns.iter().any(|turn| turn.get("from").is_some()) => {
            match share_gpt(row)? {
                Conversation::Messages { messages, .. } => Some(messages),
                Conversation::Plain { .. } => None,
            }
        }
        (_, Some(turns)) => Some(turns.clone()),
        _ => None,
    };
    if let Some(before) = before {
        let before = after_system(row, before)?;
        return both(&|value| {
            let messages = before.iter().cloned().chain(answer(value)?).collect();
            Ok(Conversation::Messages { messages, tools: tools.clone(), first: before.len() })
        });
    }
    match (row.get("prompt"), chosen, rejected) {
        (Some(Value::String(prompt)), Value::String(_), Value::String(_)) => both(&|value| {
            check_plain(row)?;
            let completion = value.as_str().unwrap_or_default().to_string();
            Ok(Conversation::Plain { prompt: prompt.clone(), completion })
        }),
        (Some(Value::String(prompt)), ..) => both(&|value| {
            let user = json!({ "role": "user", "content": prompt });
            let before = after_system(row, vec![user])?;
            let first = before.len();
            let messages = before.into_iter().chain(answer(value)?).collect();
            Ok(Conversation::Messages { messages, tools: tools.clone(), first })
        }),
        (_, Value::Array(_), Value::Array(_)) => {
            Err(Fault::Broken("answers to nothing: there is no prompt".to_string()))
        }
        (_, Value::String(a), Value::String(b)) => {
            check_plain(row)?;
            if let Some(name) = QUESTIONS.into_iter().find(|name| row.contains_key(*name)) {
                let problem = format!("answers to nothing: rename `{name}` to `prompt`");
                return Err(Fault::Broken(problem));
            }
            let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b);
            let same: usize = same.map(|(a, _)| a.len_utf8()).sum();
            // Anthropic's: the answer is what follows the last speaker's name that both have.
            const SPEAKER: &str = "\n\nAssistant:";
            let end = a[..same].rfind(SPEAKER).map_or(0, |at| at + SPEAKER.len());
            both(&|value| {
                let text = value.as_str().unwrap_or_default();
                let (prompt, completion) = text.split_at(end);
                Ok(Conversation::Plain { prompt: prompt.into(), completion: completion.into() })
            })
        }
        _ => Err(Fault::Broken("`chosen` and `rejected` are of two kinds".to_string())),
    }
}

/// Names that data sets give to what both answers of a pair answer; ours is `prompt`.
const QUESTIONS: [&str; 4] = ["question", "instruction", "query", "input"];

/// Messages after the row's `system`, where they do not begin with one of their own.
fn after_system(row: &Map<String, Value>, mut messages: Vec<Value>) -> Result<Vec<Value>, Fault> {
    let system = text(row, "system")?;
    let has_own =
        messages.first().is_some_and(|first| matches!(role(first), "system" | "developer"));
    if !system.is_empty() && !has_own {
        messages.insert(0, json!({ "role": "system", "content": system }));
    }
    Ok(messages)
}

/// Refuses a row of plain texts that has what only messages have a place for.
fn check_plain(row: &Map<String, Value>) -> Result<(), Fault> {
    match text(row, "system")?.is_empty() {
        true => Ok(()),
        false => Err(Fault::Broken(
            "`system` has no place beside plain texts: write them as messages".to_string(),
        )),
    }
}

/// The messages of an answer.
fn answer(value: &Value) -> Result<Vec<Value>, Fault> {
    let turns = match value {
        Value::Array(turns) => turns.clone(),
        Value::Object(_) => vec![value.clone()],
        Value::String(text) => vec![json!({ "role": "assistant", "content": text })],
        _ => return Err(Fault::Broken("an answer is a text or messages".to_string())),
    };
    if turns.iter().all(|turn| turn.get("from").is_none()) {
        return Ok(turns);
    }
    match share_gpt(&Map::from_iter([("conversations".to_string(), turns.into())]))? {
        Conversation::Messages { messages, .. } => Ok(messages),
        Conversation::Plain { .. } => Err(Fault::OtherForm),
    }
}

fn turns_of(row: &Map<String, Value>) -> Option<&Vec<Value>> {
    ["messages", "conversations", "conversation", "dialog"]
        .into_iter()
        .find_map(|key| row.get(key)?.as_array())
}

fn completion_keys(row: &Map<String, Value>) -> Option<(&'static str, &'static str)> {
    COMPLETIONS
        .into_iter()
        .find(|(prompt, completion)| row.contains_key(*prompt) && row.contains_key(*completion))
}

fn text(row: &Map<String, Value>, key: &str) -> Result<String, Fault> {
    match row.get(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(Fault::Broken(format!("`{key}` is no text"))),
    }
}

/// Schemas of tools, which some data sets keep as a text.
fn tools(row: &Map<String, Value>) -> Result<Option<Value>, Fault> {
    match row.get("tools") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) => serde_json::from_str(text)
            .map(Some)
            .map_err(|error| Fault::Broken(format!("`tools` is no JSON: {error}"))),
        Some(tools) => {
            Ok(Some(tools.clone()).filter(|tools| tools.as_array().is_none_or(|t| !t.is_empty())))
        }
    }
}

fn messages(row: &Map<String, Value>) -> Result<Conversation, Fault> {
    let messages = after_system(row, turns_of(row).ok_or(Fault::OtherForm)?.clone())?;
    Ok(Conversation::Messages { messages, tools: tools(row)?, first: 0 })
}

fn share_gpt(row: &Map<String, Value>) -> Result<Conversation, Fault> {
    let turns = turns_of(row).ok_or(Fault::OtherForm)?;
    let mut messages = Vec::new();
    for turn in turns {
        let from = turn.get("from").and_then(Value::as_str).ok_or(Fault::OtherForm)?;
        let value = turn.get("value").and_then(Value::as_str);
        let value = value.ok_or_else(|| Fault::Broken("a turn without `value`".to_string()))?;
        messages.push(match from {
            "human" | "user" => json!({ "role": "user", "content": value }),
            "gpt" | "assistant" | "chatgpt" | "model" => {
                json!({ "role": "assistant", "content": value })
            }
            "system" => json!({ "role": "system", "content": value }),
            "observation" | "tool" => json!({ "role": "tool", "content": value }),
            "function_call" => call(value)?,
            other => return Err(Fault::Broken(format!("nobody is called `{other}`"))),
        });
    }
    let messages = after_system(row, messages)?;
    Ok(Conversation::Messages { messages, tools: tools(row)?, first: 0 })
}

/// A call as ShareGPT's data sets have it: `{"name", "arguments"}` in a text.
fn call(text: &str) -> Result<Value, Fault> {
    let call: Value = serde_json::from_str(text)
        .map_err(|error| Fault::Broken(format!("a call that is no JSON: {error}")))?;
    let calls: Vec<Value> = match call {
        Value::Array(calls) => calls,
        call => vec![call],
    };
    let calls: Vec<Value> =
        calls.into_iter().map(|call| json!({ "type": "function", "function": call })).collect();
    Ok(json!({ "role": "assistant", "content": "", "tool_calls": calls }))
}

fn alpaca(row: &Map<String, Value>) -> Result<Conversation, Fault> {
    let has = |key: &str| row.contains_key(key);
    let keys = ALPACA.into_iter().find(|&(instruction, _, output)| has(instruction) && has(output));
    let (instruction, input, output) = keys.ok_or(Fault::OtherForm)?;
    let mut messages = Vec::new();
    for pair in row.get("history").and_then(Value::as_array).into_iter().flatten() {
        let says = |i: usize| pair.get(i).and_then(Value::as_str);
        let (Some(user), Some(assistant)) = (says(0), says(1)) else {
            return Err(Fault::Broken("`history` holds pairs of texts".to_string()));
        };
        messages.push(json!({ "role": "user", "content": user }));
        messages.push(json!({ "role": "assistant", "content": assistant }));
    }
    let (instruction, input) = (text(row, instruction)?, text(row, input)?);
    let user = if input.is_empty() { instruction } else { format!("{instruction}\n\n{input}") };
    messages.push(json!({ "role": "user", "content": user }));
    messages.push(json!({ "role": "assistant", "content": text(row, output)? }));
    let messages = after_system(row, messages)?;
    Ok(Conversation::Messages { messages, tools: None, first: 0 })
}

fn completion(row: &Map<String, Value>) -> Result<Conversation, Fault> {
    let (prompt, completion) = completion_keys(row).ok_or(Fault::OtherForm)?;
    match (&row[prompt], &row[completion]) {
        (Value::String(prompt), Value::String(completion)) => {
            check_plain(row)?;
            Ok(Conversation::Plain { prompt: prompt.clone(), completion: completion.clone() })
        }
        (Value::Array(prompt), Value::Array(completion)) => {
            let mut messages = after_system(row, prompt.clone())?;
            let first = messages.len();
            messages.extend(completion.iter().cloned());
            Ok(Conversation::Messages { messages, tools: tools(row)?, first })
        }
        _ => Err(Fault::Broken(format!(
            "`{prompt}` and `{completion}` are both texts or both messages"
        ))),
    }
}

/// Whether the answer of a row of [`Form::Tagged`] was liked.
///
/// # Errors
/// [`Fault::OtherForm`] without a label; [`Fault::Broken`] where it is neither true nor false.
pub fn liked(row: &Value) -> Result<bool, Fault> {
    match row.get("label") {
        None | Some(Value::Null) => Err(Fault::OtherForm),
        Some(Value::Bool(liked)) => Ok(*liked),
        Some(Value::Number(number)) if number.as_i64() == Some(1) => Ok(true),
        Some(Value::Number(number)) if number.as_i64() == Some(0) => Ok(false),
        Some(other) => Err(Fault::Broken(format!("`label` is true or false, not {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_true_or_false() {
        let of = |label: Value| liked(&json!({"prompt": "a", "completion": "b", "label": label}));
        assert_eq!((of(json!(true)), of(json!(0))), (Ok(true), Ok(false)));
        assert!(matches!(of(json!("yes")), Err(Fault::Broken(_))));
        assert!(matches!(of(json!(2)), Err(Fault::Broken(_))));
        assert_eq!(of(Value::Null), Err(Fault::OtherForm));
    }

    fn check(row: Value, form: Form, expected: Value) {
        assert_eq!(Form::of(&row), Some(form), "{row}");
        let Conversation::Messages { messages, .. } = form.conversation(&row).unwrap() else {
            panic!("{row}: no messages");
        };
        assert_eq!(Value::Array(messages), expected, "{row}");
    }

    #[test]
    fn forms_are_found_and_become_messages() {
        let two = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
        check(json!({"messages": two}), Form::Messages, two.clone());
        let turns = json!([{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]);
        check(json!({"conversations": turns}), Form::ShareGpt, two.clone());
        check(json!({"instruction": "a", "input": "", "output": "b"}), Form::Alpaca, two.clone());
        check(
            json!({"instruction": "a", "input": "x", "output": "b"}),
            Form::Alpaca,
            json!([{"role": "user", "content": "a\n\nx"}, {"role": "assistant", "content": "b"}]),
        );
        for row in [
            json!({"instruction": "a", "context": "x", "response": "b", "category": "c"}),
            json!({"question": "a", "context": "x", "answer": "b"}),
        ] {
            let user = json!({"role": "user", "content": "a\n\nx"});
            check(row, Form::Alpaca, json!([user, two[1]]));
        }
        let call = json!([
            {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
            {"from": "observation", "value": "2"},
        ]);
        check(
            json!({"conversations": call, "tools": "[]"}),
            Form::ShareGpt,
            json!([
                {"role": "assistant", "content": "", "tool_calls":
                    [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]},
                {"role": "tool", "content": "2"},
            ]),
        );
        check(json!({"prompt": [two[0]], "completion": [two[1]]}), Form::Completion, two.clone());
        let plain = json!({"prompt": "a", "completion": "b"});
        assert_eq!(
            Form::Completion.conversation(&plain),
            Ok(Conversation::Plain { prompt: "a".into(), completion: "b".into() })
        );
        let form = |row: Value| Form::of(&row);
        assert_eq!(
            form(json!({"prompt": "a", "chosen": "b", "rejected": "c"})),
            Some(Form::Preference)
        );
        assert_eq!(
            form(json!({"prompt": "a", "completion": "b", "label": true})),
            Some(Form::Tagged)
        );
        assert_eq!(form(json!({"question": "a", "answer": "b"})), Some(Form::Completion));
        assert_eq!(form(json!({"text": "a"})), None);
        assert_eq!(form(json!("a")), None);
    }

    #[test]
    fn pairs_share_what_comes_before_them() {
        let message = |role: &str, content: &str| json!({ "role": role, "content": content });
        let (user, good, bad) =
            (message("user", "a"), message("assistant", "b"), message("assistant", "c"));
        let check = |row: Value| {
            let (chosen, rejected) = pair(&row).unwrap();
            let messages = |answer: &Value| Conversation::Messages {
                messages: vec![user.clone(), answer.clone()],
                tools: None,
                first: 1,
            };
            assert_eq!((chosen, rejected), (messages(&good), messages(&bad)), "{row}");
        };
        check(json!({"prompt": [user], "chosen": [good], "rejected": [bad]}));
        check(json!({"prompt": "a", "chosen": [good], "rejected": [bad]}));
        check(json!({"chosen": [user, good], "rejected": [user, bad]}));
        check(json!({
            "prompt": "a", "messages": [user, good],
            "chosen": [user, good], "rejected": [user, bad],
        }));
        let turns = |answer: &str| json!([{"from": "human", "value": "a"}, {"from": "gpt", "value": answer}]);
        check(json!({"chosen": turns("b"), "rejected": turns("c")}));
        check(json!({
            "conversations": [{"from": "human", "value": "a"}],
            "chosen": {"from": "gpt", "value": "b"}, "rejected": {"from": "gpt", "value": "c"},
        }));
        let plain = |prompt: &str, completion: &str| Conversation::Plain {
            prompt: prompt.into(),
            completion: completion.into(),
        };
        let row = json!({"prompt": "a", "chosen": "b", "rejected": "c"});
        assert_eq!(pair(&row), Ok((plain("a", "b"), plain("a", "c"))));
        let text = |answer: &str| format!("\n\nHuman: a\n\nAssistant: {answer}");
        let row = json!({"chosen": text("b"), "rejected": text("c")});
        let before = "\n\nHuman: a\n\nAssistant:";
        assert_eq!(pair(&row), Ok((plain(before, " b"), plain(before, " c"))));
        let same = json!({"prompt": "a", "chosen": "b", "rejected": "b"});
        assert_eq!(pair(&same), Err(Fault::Broken(SAME.into())));
    }

    #[test]
    fn a_system_s_text_beside_the_messages_comes_first() {
        let message = |role: &str, content: &str| json!({ "role": role, "content": content });
        let (system, user) = (message("system", "s"), message("user", "a"));
        let (good, bad) = (message("assistant", "b"), message("assistant", "c"));
        let all = json!([system, user, good]);
        check(json!({"system": "s", "messages": [user, good]}), Form::Messages, all.clone());
        check(json!({"system": "t", "messages": all}), Form::Messages, all.clone());
        let row = json!({"system": "s", "prompt": [user], "completion": [good]});
        check(row.clone(), Form::Completion, all.clone());
        let Ok(Conversation::Messages { first, .. }) = Form::Completion.conversation(&row) else {
            panic!("{row}");
        };
        assert_eq!(first, 2);
        for row in [
            json!({"system": "s", "prompt": "a", "chosen": [good], "rejected": [bad]}),
            json!({"system": "s", "prompt": [user], "chosen": [good], "rejected": [bad]}),
            json!({"system": "s", "chosen": [user, good], "rejected": [user, bad]}),
        ] {
            let (chosen, _) = pair(&row).unwrap();
            let messages = all.as_array().unwrap().clone();
            assert_eq!(chosen, Conversation::Messages { messages, tools: None, first: 2 }, "{row}");
        }
        let plain = json!({"system": "s", "prompt": "a", "completion": "b"});
        assert!(matches!(Form::Completion.conversation(&plain), Err(Fault::Broken(_))));
        let asked = json!({"question": "a", "chosen": "b", "rejected": "c"});
        let problem = "answers to nothing: rename `question` to `prompt`";
        assert_eq!(pair(&asked), Err(Fault::Broken(problem.into())));
    }

    #[test]
    fn broken_rows_say_what_is_wrong() {
        let broken = |form: Form, row: Value| match form.conversation(&row) {
            Err(Fault::Broken(problem)) => problem,
            other => panic!("{other:?}"),
        };
        let turns = json!([{"from": "alien", "value": "a"}]);
        assert_eq!(
            broken(Form::ShareGpt, json!({"conversations": turns})),
            "nobody is called `alien`"
        );
        let row = json!({"instruction": 3, "output": "b"});
        assert_eq!(broken(Form::Alpaca, row), "`instruction` is no text");
        let other = Form::Alpaca.conversation(&json!({"messages": []}));
        assert_eq!(other, Err(Fault::OtherForm));
    }
}
