//! Whether messages make a conversation that something can be learnt from.

use llmos_agent::messages::role;
use serde_json::Value;

use super::Fault;

/// Looks at the order of turns: a system's message comes first, a user speaks before the assistant,
/// nobody speaks twice in a row but tools, a tool answers a call, and the assistant has the last word.
/// A message's `weight` says whether it is learnt, as OpenAI's finetuning has it.
///
/// # Errors
/// [`Fault::Broken`] with the message's number, from 1.
pub(super) fn check(messages: &[Value]) -> Result<(), Fault> {
    let broken =
        |number: usize, problem: &str| Err(Fault::Broken(format!("message {number} {problem}")));
    if messages.is_empty() {
        return Err(Fault::Broken("no messages".to_string()));
    }
    let mut before = "";
    for (i, message) in messages.iter().enumerate() {
        let (number, role) = (i + 1, role(message));
        let calls =
            message.get("tool_calls").and_then(Value::as_array).is_some_and(|c| !c.is_empty());
        let content = message.get("content");
        let is_content = content.is_some_and(|c| c.is_string() || c.is_array());
        if !is_content && !calls {
            return broken(number, "has no content");
        }
        let weight = message.get("weight").filter(|weight| !weight.is_null());
        if weight.is_some_and(|weight| ![Some(0.0), Some(1.0)].contains(&weight.as_f64())) {
            return broken(number, "has a weight that is neither 0 nor 1");
        }
        match role {
            "system" | "developer" if i == 0 => {}
            "system" | "developer" => return broken(number, "is the system's, but not the first"),
            "user" if before == "user" => {
                return broken(number, "is the user's, as is the one before it");
            }
            "user" => {}
            "assistant" if before == "assistant" => {
                return broken(number, "is the assistant's, as is the one before it");
            }
            "assistant" if matches!(before, "" | "system" | "developer") => {
                return broken(number, "is the assistant's before any of the user's");
            }
            "assistant" => {}
            "tool" | "function" | "ipython"
                if matches!(before, "assistant" | "tool" | "function" | "ipython") => {}
            "tool" | "function" | "ipython" => {
                return broken(number, "is a tool's answer to nothing");
            }
            "" => return broken(number, "has no role"),
            other => return broken(number, &format!("has the unknown role `{other}`")),
        }
        before = role;
    }
    if before == "user" {
        return broken(messages.len(), "is the user's, and the last: nothing answers it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn turns_alternate() {
        let check = |roles: &str| {
            let messages: Vec<Value> =
                roles.split(' ').map(|role| json!({ "role": role, "content": "x" })).collect();
            check(&messages)
        };
        for roles in [
            "user assistant",
            "system user assistant user assistant",
            "user assistant tool tool assistant",
        ] {
            assert_eq!(check(roles), Ok(()), "{roles}");
        }
        for (roles, problem) in [
            ("user user assistant", "message 2 is the user's, as is the one before it"),
            ("assistant", "message 1 is the assistant's before any of the user's"),
            ("user assistant user", "message 3 is the user's, and the last: nothing answers it"),
            ("user tool", "message 2 is a tool's answer to nothing"),
            ("user alien", "message 2 has the unknown role `alien`"),
        ] {
            assert_eq!(check(roles), Err(Fault::Broken(problem.to_string())), "{roles}");
        }
        let weighed = |weight: Value| {
            let answer = json!({ "role": "assistant", "content": "x", "weight": weight });
            super::check(&[json!({ "role": "user", "content": "x" }), answer])
        };
        assert_eq!(
            (weighed(json!(0)), weighed(json!(1.0)), weighed(Value::Null)),
            (Ok(()), Ok(()), Ok(()))
        );
        assert!(weighed(json!(0.5)).is_err() && weighed(json!("0")).is_err());
        assert!(super::check(&[]).is_err());
        assert!(super::check(&[json!({ "role": "user" })]).is_err());
    }
}
