//! Tools: what a model may call, and what becomes of a call.

use std::fmt;

use serde_json::{Value, json};

use crate::call::Call;
use crate::{calculator, clock};

/// What runs when a tool is called: arguments in, an answer or a reason for none out.
type Run = Box<dyn Fn(&Value) -> Result<String, String> + Send + Sync>;

/// A tool that a model may call.
pub struct Tool {
    name: String,
    description: String,
    parameters: Value,
    run: Run,
}

impl Tool {
    /// A tool. `parameters` is a JSON schema of an object; `run` gets an object that a model wrote,
    /// which fits the schema where the call was held to a grammar, and is anything where it was
    /// not.
    pub fn new(
        name: impl Into<String>,
        description: impl Into<String>,
        parameters: Value,
        run: impl Fn(&Value) -> Result<String, String> + Send + Sync + 'static,
    ) -> Tool {
        let (name, description) = (name.into(), description.into());
        Tool { name, description, parameters, run: Box::new(run) }
    }

    /// What a call names.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the model is told about it.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The JSON schema of its arguments.
    pub fn parameters(&self) -> &Value {
        &self.parameters
    }

    /// As chat templates take it: OpenAI's description of a function.
    pub fn schema(&self) -> Value {
        json!({
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": self.parameters,
            },
        })
    }

    /// Runs it.
    ///
    /// # Errors
    /// The reason why there is no answer, in words for the model.
    pub fn call(&self, arguments: &Value) -> Result<String, String> {
        (self.run)(arguments)
    }
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The calculator: one argument, `expression`. What cannot be computed is answered as in training
/// data, `error: ` and the reason.
pub fn calculator() -> Tool {
    let parameters = json!({
        "type": "object",
        "properties": {
            "expression": {
                "type": "string",
                "description": "Arithmetic with + - * / ^ % and parentheses, such as (47 + 36) * 2",
                "maxLength": calculator::LONGEST,
            },
        },
        "required": ["expression"],
        "additionalProperties": false,
    });
    let description = "Computes an arithmetic expression exactly";
    Tool::new("calculator", description, parameters, |arguments| {
        let expression = arguments.get("expression").and_then(Value::as_str);
        let expression = expression.ok_or("expected one argument, expression, a text")?;
        calculator::calculate(expression).map_err(|error| error.to_string())
    })
}

/// The clock: no arguments. `now` gives the local time as seconds since 1970-01-01 00:00.
pub fn clock(now: impl Fn() -> i64 + Send + Sync + 'static) -> Tool {
    let parameters = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    let description = "Tells the local weekday, date and time";
    Tool::new("clock", description, parameters, move |_| Ok(clock::reply(now())))
}

/// A call that was run, and what came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Called {
    /// The tool.
    pub name: String,
    /// What it was given.
    pub arguments: Value,
    /// What it answered; `error: ` and a reason where it could not.
    pub result: String,
}

impl Called {
    /// `{"name", "arguments", "result"}`.
    pub fn to_json(&self) -> Value {
        json!({ "name": self.name, "arguments": self.arguments, "result": self.result })
    }
}

/// Runs a call with the tool that it names.
pub fn run(tools: &[Tool], call: Call) -> Called {
    let Call { name, arguments } = call;
    let result = match tools.iter().find(|tool| tool.name == name) {
        Some(tool) => tool.call(&arguments),
        None => Err(format!("there is no tool {name}")),
    };
    let result = result.unwrap_or_else(|reason| format!("error: {reason}"));
    Called { name, arguments, result }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_answered() {
        let tools = [calculator(), clock(|| 1_795_775_940)];
        let check = |name: &str, arguments: Value, expected: &str| {
            let called = run(&tools, Call { name: name.into(), arguments });
            assert_eq!(called.result, expected);
        };
        check("calculator", json!({ "expression": "58 * 37" }), "2146");
        check("calculator", json!({ "expression": "1 / 0" }), "error: division by zero");
        let missing = "error: expected one argument, expression, a text";
        check("calculator", json!({}), missing);
        check("calculator", json!({ "expression": 3 }), missing);
        check("calculator", json!([1]), missing);
        check("clock", json!({}), "Friday, 27 November 2026, 10:39");
        check("clock", json!({ "zone": "CET" }), "Friday, 27 November 2026, 10:39");
        check("weather", json!({}), "error: there is no tool weather");
    }
}
