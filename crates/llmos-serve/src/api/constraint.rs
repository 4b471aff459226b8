//! What an answer must look like: `response_format`.

use llmos_model::grammar::{Grammar, GrammarSource};
use serde_json::{Value, json};

use crate::fields::Fields;
use crate::models::Resident;
use crate::refusal::Refusal;

/// The grammar that `response_format` asks for: `json_object`, `json_schema`, and two of our own,
/// `{"type": "regex", "regex": …}` and `{"type": "lark", "grammar": …}`.
pub(crate) fn of_format(
    fields: Fields<'_>,
    resident: &Resident,
) -> Result<Option<Grammar>, Refusal> {
    let Some(format) = fields.object("response_format")? else { return Ok(None) };
    let wrong = |expected: &str, got: Option<&Value>| {
        let hint = "{\"type\": \"json_schema\", \"json_schema\": {\"name\": …, \"schema\": {…}}}";
        Refusal::field("response_format", expected, got.unwrap_or(&Value::Null), hint)
    };
    let schema;
    let source = match format.text("type")? {
        Some("text") => return Ok(None),
        Some("json_object") => {
            schema = with_little_space(&json!({ "type": "object" }));
            GrammarSource::JsonSchema(&schema)
        }
        Some("json_schema") => {
            let given = format.object("json_schema")?.and_then(|inner| inner.get("schema"));
            let given = given.filter(|schema| schema.is_object() || schema.is_boolean());
            let given = given.ok_or_else(|| wrong("a schema, an object", None))?;
            schema = with_little_space(given);
            GrammarSource::JsonSchema(&schema)
        }
        Some("regex") => match format.text("regex")? {
            Some(regex) => GrammarSource::Regex(regex),
            None => return Err(wrong("a regular expression", None)),
        },
        Some("lark") => match format.text("grammar")? {
            Some(grammar) => GrammarSource::Lark(grammar),
            None => return Err(wrong("a Lark grammar", None)),
        },
        _ => {
            let kinds = "a type of text, json_object, json_schema, regex or lark";
            return Err(wrong(kinds, format.get("type")));
        }
    };
    resident.grammar(&source).map(Some).map_err(|refusal| refusal.within("response_format"))
}

/// The schema with a bound on the blanks between JSON's signs, unless it has a rule of its own: small
/// models otherwise go on with blanks for ever. The pattern is that of llama.cpp's schemas.
fn with_little_space(schema: &Value) -> String {
    let Value::Object(object) = schema else { return schema.to_string() };
    let mut object = object.clone();
    object
        .entry("x-guidance")
        .or_insert_with(|| json!({ "whitespace_pattern": r"( |\n{1,2}[ \t]{0,20})?" }));
    Value::Object(object).to_string()
}
