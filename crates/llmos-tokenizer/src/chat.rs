//! Chat templates: the model's own Jinja program from messages to one text.
//!
//! The environment is that of Hugging Face's `apply_chat_template`: trimmed blocks, `tojson` as
//! `json.dumps` writes, `raise_exception`, `strftime_now`, `{% generation %}`, and Python's methods
//! on strings and mappings. A template comes from a model file, so it is not trusted: steps and
//! memory, recursion and output are bounded.

mod generation;
mod json;
mod time;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{Environment, ErrorKind, context};

use crate::Error;
use generation::Marks;
pub use time::strftime;

/// What a template is given besides the messages.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// Variables such as `bos_token`, `eos_token`, `enable_thinking`.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// The local time as seconds since 1970-01-01 00:00, for `strftime_now`: this crate has no
    /// clock. `None` leaves the function out.
    pub now: Option<i64>,
}

/// Steps of one rendering; a step also pays for 64 bytes of data, so that this bounds memory to
/// some 250 MB. A conversation of a thousand messages takes about a hundredth.
const FUEL: u64 = 4_000_000;
/// Nesting of loops, macros and includes.
const RECURSION: usize = 200;
/// Bytes of output at most.
const OUTPUT_BYTES: usize = 64 << 20;
/// Bytes of template at most; the largest known is a tenth of it.
const TEMPLATE_BYTES: usize = 1 << 20;

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
    Ok(render_marked(template, messages, tools, add_generation_prompt, extra)?.text)
}

/// A rendering, and what of it the assistant wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// The whole text.
    pub text: String,
    /// The stretches inside `{% generation %}`, in bytes of the text, in order; `None` where the
    /// template has no such blocks.
    pub generated: Option<Vec<Range<usize>>>,
}

/// As [`render`]; says also what lies in the template's `{% generation %}` blocks.
///
/// # Errors
/// As [`render`].
pub fn render_marked(
    template: &str,
    messages: &serde_json::Value,
    tools: Option<&serde_json::Value>,
    add_generation_prompt: bool,
    extra: &Extra,
) -> Result<Marked, Error> {
    if template.len() > TEMPLATE_BYTES {
        return Err(Error::Template {
            message: format!("{} bytes are over the limit of {TEMPLATE_BYTES}", template.len()),
        });
    }
    let (source, has_marks) = generation::replace_tags(template);
    let marks = Marks::default();
    let mut environment = environment(extra.now).map_err(describe)?;
    marks.add_to(&mut environment);
    environment.add_template("chat", &source).map_err(describe)?;
    let base = context! {
        messages => Value::from(Serde(messages)),
        tools => tools.map(|tools| Value::from(Serde(tools))),
        documents => Value::from(()),
        add_generation_prompt,
    };
    let variables = Value::from(Serde(&extra.variables));
    let mut output = Bounded { bytes: Vec::new(), written: marks.written() };
    environment
        .get_template("chat")
        .and_then(|chat| {
            chat.render_captured_to(context! { ..variables, ..base }, &mut output).map(drop)
        })
        .map_err(describe)?;
    let text = String::from_utf8(output.bytes)
        .map_err(|_| Error::Template { message: "no UTF-8".into() })?;
    Ok(Marked { generated: has_marks.then(|| marks.ranges(text.len())), text })
}

/// A writer that refuses to grow over the limit.
struct Bounded {
    bytes: Vec<u8>,
    /// Their number, for who marks places.
    written: Arc<AtomicUsize>,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > OUTPUT_BYTES {
            return Err(std::io::Error::other(format!("over {OUTPUT_BYTES} bytes of output")));
        }
        self.bytes.extend_from_slice(bytes);
        self.written.store(self.bytes.len(), Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn describe(error: minijinja::Error) -> Error {
    let mut message = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => {
            format!("more than {FUEL} steps: it loops, or the messages are too long")
        }
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    if let Some(line) = error.line() {
        message.push_str(&format!(" (line {line})"));
    }
    Error::Template { message }
}

fn environment(now: Option<i64>) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_test("iterable", is_iterable);
    environment.add_filter("tojson", to_json);
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_function("raise_exception", |message: String| -> Result<Value, _> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    if let Some(now) = now {
        environment.add_function("strftime_now", move |format: &str| time::strftime(format, now));
    }
    Ok(environment)
}

/// In Python a string can be iterated over, and templates ask for that.
fn is_iterable(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable
    )
}

/// Escapes as MarkupSafe does.
fn escape(value: &Value) -> Value {
    let text = value.to_string();
    if text.contains(['&', '<', '>', '"', '\'']) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        Value::from(text.replace('"', "&#34;").replace('\'', "&#39;"))
    } else {
        Value::from(text)
    }
}

fn to_json(value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<Value> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let style = json::Style {
        indent: indent.and_then(|indent| match indent.as_str() {
            Some(text) => Some(text.to_owned()),
            None => usize::try_from(indent).ok().map(|width| " ".repeat(width.min(64))),
        }),
        separators: match separators.as_deref() {
            Some([item, key]) => Some((item.clone(), key.clone())),
            _ => None,
        },
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    if value.is_undefined() {
        return Err(minijinja::Error::new(ErrorKind::UndefinedError, "tojson of undefined"));
    }
    let value = serde_json::to_value(value)
        .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(style.write(&value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(template: &str, expected: &str) {
        let messages = json!([
            {"role": "user", "content": "Hi é"},
            {"role": "assistant", "content": "Yo"},
        ]);
        let tools = json!([{"name": "f", "b": 1, "a": [1.0, true, null]}]);
        let extra = Extra {
            variables: [("bos_token".to_owned(), json!("<s>"))].into_iter().collect(),
            now: Some(1_700_000_000),
        };
        let got = render(template, &messages, Some(&tools), true, &extra);
        assert_eq!(got.as_deref(), Ok(expected), "{template}");
    }

    fn fails(template: &str) -> String {
        match render(template, &json!([]), None, false, &Extra::default()) {
            Err(Error::Template { message }) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn python_is_spoken() {
        check(
            "{% for m in messages %}\n  {% if m.role == 'user' %}\n{{ m.content }}|\n  {% endif %}\n{% endfor %}",
            "Hi é|\n",
        );
        check(
            "{{ bos_token }}{{ tools | tojson }}",
            "<s>[{\"name\": \"f\", \"b\": 1, \"a\": [1.0, true, null]}]",
        );
        check("{{ messages[0].content is iterable }}{{ none }}", "TrueNone");
        check("{{ ' a b '.strip().split(' ')[-1].upper() }}", "B");
        check("{{ strftime_now('%d %b %Y') }}", "14 Nov 2023");
        check(
            "{%- generation -%} x {%- endgeneration %}{% generation %}y{% endgeneration %}",
            "xy",
        );
        check("{{ messages[1:] | length }}{{ messages[0].get('x', 'd') }}", "1d");
        check(
            "{% set ns = namespace(a=1) %}{% for m in messages %}{% set ns.a = ns.a + 1 %}{% endfor %}{{ ns.a }}",
            "3",
        );
        check("{{ \"<'a'>\" | e }}", "&lt;&#39;a&#39;&gt;");
        check("{{ add_generation_prompt and tools is not none }}", "True");
    }

    #[test]
    fn what_the_assistant_wrote_is_marked() {
        let messages = json!([
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yö"},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "No."},
        ]);
        let template = "{%- for m in messages %}\n<{{ m.role }}>\n\
            {%- if m.role == 'assistant' %}\n    {% generation %}\n{{ m.content }}</s>\n    \
            {%- endgeneration %}\n{% else %}{{ m.content }}\n{% endif %}\n{% endfor %}";
        let marked = render_marked(template, &messages, None, false, &Extra::default()).unwrap();
        let ranges = marked.generated.unwrap();
        let learnt: Vec<&str> = ranges.into_iter().map(|range| &marked.text[range]).collect();
        assert_eq!(learnt, ["Yö</s>", "No.</s>"]);
        let plain = render(template, &messages, None, false, &Extra::default()).unwrap();
        assert_eq!(plain, marked.text);
        let without = render_marked("{{ 1 }}", &messages, None, false, &Extra::default()).unwrap();
        assert_eq!(without, Marked { text: "1".into(), generated: None });
    }

    #[test]
    fn hostile_templates_end_with_an_error() {
        assert_eq!(fails("{{ raise_exception('no system role') }}"), "no system role (line 1)");
        let endless = fails(
            "{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}",
        );
        assert_eq!(
            endless,
            "more than 4000000 steps: it loops, or the messages are too long (line 1)"
        );
        fails(
            "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        );
        fails("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}");
        fails("{{ 'x' * 99999999999 }}");
        fails("{% if %}");
        fails(&"(".repeat(100_000).replace('(', "{{ ("));
        fails(&" ".repeat(TEMPLATE_BYTES + 1));
        fails("{{ messages.nothing.at.all }}");
        fails("{{ strftime_now('%Y') }}");
    }
}
