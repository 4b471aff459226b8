//! Chat templates: the model's own Jinja program from messages to one text.

use crate::Error;

/// What a template is given besides the messages.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// Variables such as `bos_token`, `eos_token`, `enable_thinking`.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// The local time as seconds since 1970-01-01 00:00, for `strftime_now`: this crate has no
    /// clock. `None` leaves the function out.
    pub now: Option<i64>,
}

/// Renders `template` over `messages` (a JSON array of `{"role", "content", …}`) and `tools` (a
/// JSON array of tool schemas).
///
/// # Errors
/// [`Error::Template`]: the template does not parse, raised an exception, or ran over the limits
/// on steps, recursion or output.
pub fn render(
    template: &str,
    messages: &serde_json::Value,
    tools: Option<&serde_json::Value>,
    add_generation_prompt: bool,
    extra: &Extra,
) -> Result<String, Error> {
    let _ = (template, messages, tools, add_generation_prompt, extra);
    Err(Error::Template { message: "not there yet".into() })
}
