//! Templates, schemas and files that are made to take time and memory without end.

use std::time::{Duration, Instant};

use llmos_model::{EngineOptions, ModelFiles};
use llmos_serve::{Models, Offer};
use serde_json::{Value, json};

use crate::client::{get, post, send_post};
use crate::house::{Kind, load, offer, options, repository, run, simple};

const CHAT: &str = "/v1/chat/completions";

/// Far more than any of these takes, and far less than what they ask for.
const PATIENCE: Duration = Duration::from_secs(60);

fn question(model: &str) -> Value {
    json!({
        "model": model, "messages": [{ "role": "user", "content": "Who are you?" }], "temperature": 0,
        "max_tokens": 20,
    })
}

/// CVE-2024-34359, CVE-2026-5760: a model's template is a program of a stranger.
#[test]
fn a_template_can_do_nothing_and_not_for_long() {
    let templates = [
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ i * j }}{% endfor %}{% endfor %}",
        "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}",
        "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s|length }}",
        "{{ 'x' * 100000000000 }}",
        "{{ ([1] * 1000000000)|length }}{{ ([1] * 1000000000)|join('xxxxxxxxxx') }}",
        "{{ 'x'.ljust(100000000000) }}{{ 'x'.replace('', 'x' * 100000) }}",
        "{{ '%0100000000d' % 1 }}{{ '{:>100000000000}'.format(1) }}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.system('true') }}",
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ raise_exception('x' * 1000000) }}",
        "{{ 2 ** 9999999999 }}{{ 10 ** 40 * 10 ** 40 }}",
        "{{ strftime_now('%Y' * 1000000) }}",
        "{% for",
    ];
    let models = Models::new(None);
    models.offer(offer("test", 0, Kind::Parrot, EngineOptions::default()));
    for (number, &template) in templates.iter().enumerate() {
        let load = Box::new(move || {
            let mut loaded = load(Kind::Parrot, EngineOptions::default());
            loaded.template = Some(template.to_string());
            Ok(loaded)
        });
        models.offer(Offer {
            load,
            ..offer(&format!("bomb-{number}"), 0, Kind::Parrot, EngineOptions::default())
        });
    }
    let server = run(options(), models);
    for (number, template) in templates.iter().enumerate() {
        let start = Instant::now();
        let reply = post(server.address, CHAT, &question(&format!("bomb-{number}")));
        // One that ends in nothing is a prompt of nothing.
        assert!(reply.status == 400 || reply.status == 200, "{template}: {reply:?}");
        assert!(start.elapsed() < PATIENCE, "{template}");
        assert!(reply.body.len() < 5000 && !reply.body.contains("root:"), "{template}: {reply:?}");
    }
    let sound = post(server.address, CHAT, &question("test")).json();
    assert_eq!(sound["choices"][0]["message"]["content"], "A very small model.");
    // Nobody else's is taken.
    let mut mine = question("test");
    mine["chat_template"] = "{{ 1 }}".into();
    post(server.address, CHAT, &mine).is_refusal(400, "chat_template");
}

/// Grammars are compiled within limits, and others are served meanwhile.
#[test]
fn a_schema_is_compiled_within_limits_while_others_are_served() {
    let server = simple(Kind::Parrot);
    let chain = |levels: usize, rule: &dyn Fn(String) -> Value| {
        let mut rules = json!({});
        for level in 0..levels {
            rules[format!("a{level}")] = rule(format!("#/$defs/a{}", level + 1));
        }
        rules[format!("a{levels}")] = json!({ "type": "string", "maxLength": 3 });
        json!({ "$ref": "#/$defs/a0", "$defs": rules })
    };
    let twice = |next: String| json!({ "anyOf": [{ "$ref": next }, { "$ref": next }] });
    let pair = |next: String| json!({ "type": "array", "prefixItems": [{ "$ref": next }, { "$ref": next }], "items": false, "minItems": 2 });
    let many: Vec<String> = (0..4000).map(|i| format!("value {i}")).collect();
    let properties: Value = (0..1500)
        .map(|i| (format!("p{i}"), json!({ "type": "integer" })))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let ones: Vec<Value> = (0..200).map(|i| json!({ "pattern": format!("^.*{i}.*$") })).collect();
    let schemas = [
        json!({ "type": "array", "minItems": 1_000_000_000, "items": { "type": "integer" } }),
        json!({ "type": "array", "maxItems": 1_000_000_000, "items": { "type": "integer" } }),
        json!({ "type": "string", "maxLength": 1_000_000_000 }),
        json!({ "type": "string", "minLength": 1_000_000_000 }),
        json!({ "type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}$" }),
        json!({ "type": "string", "pattern": "^(a+)+b(.*a){30}$" }),
        json!({ "type": "string", "pattern": "^(.*)(.*)(.*)(.*)(.*)\\1$" }),
        json!({ "type": "string", "enum": many }),
        json!({ "type": "object", "properties": properties }),
        json!({ "type": "string", "allOf": ones[..40] }),
        json!({ "type": "string", "allOf": ones }),
        json!({ "$ref": "#" }),
        json!({ "anyOf": [{ "$ref": "#" }, { "$ref": "#" }] }),
        json!({ "allOf": [{ "$ref": "#" }] }),
        json!({ "not": { "not": { "$ref": "#" } } }),
        chain(40, &twice),
        chain(20, &pair),
        json!({ "type": "number", "multipleOf": 1e-300 }),
        json!({ "type": "integer", "multipleOf": 0 }),
        json!({ "type": "integer", "minimum": -1e308, "maximum": 1e308 }),
        json!({ "type": "integer", "minimum": 10, "maximum": 1 }),
        json!({ "type": "object", "minProperties": 1_000_000_000 }),
        json!({ "type": "object", "patternProperties": { "(a{1,1000}){1,1000}": {} } }),
    ];
    let formats = schemas.into_iter().map(
        |schema| json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } }),
    );
    let others = [
        json!({ "type": "regex", "regex": "((((a?){100}){100}){100}){100}" }),
        json!({ "type": "regex", "regex": format!("{}b", "a?".repeat(8000)) }),
        json!({ "type": "lark", "grammar": "start: start start | \"a\"" }),
        json!({ "type": "lark", "grammar": "start: a\na: b\nb: a" }),
        json!({ "type": "lark", "grammar": "start: \"a\"{1,1000000000}" }),
        json!({ "type": "lark", "grammar": format!("start: {}", "\"a\"?".repeat(5000)) }),
        json!({ "type": "lark", "grammar": format!("start: A\nA: /.*1.*/{}", " & /.*2.*/".repeat(40)) }),
        json!({ "type": "lark", "grammar": format!("start: A\nA: /.*1.*/{}", " & /.*2.*/".repeat(2000)) }),
    ];
    for format in formats.chain(others) {
        let mut body = question("test");
        body["response_format"] = format.clone();
        let start = Instant::now();
        let bomb = send_post(server.address, CHAT, &body);
        assert_eq!(post(server.address, CHAT, &question("test")).status, 200);
        let reply = bomb.finish();
        let took = start.elapsed();
        assert!(reply.status == 200 || reply.status == 400, "{format:.300}: {reply:?}");
        assert!(took < PATIENCE, "{format:.300}: {took:?}");
    }
    #[cfg(target_os = "linux")]
    {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kilobytes < 4 << 20, "{kilobytes} kB");
    }
}

/// However many schemas are compiled, who has none is not behind them.
#[test]
fn many_schemas_at_once_hold_up_nobody_else() {
    const BOMBS: usize = 20;
    let server = simple(Kind::Parrot);
    assert_eq!(post(server.address, CHAT, &question("test")).status, 200);
    let properties = (0..1500).map(|i| (format!("p{i}"), json!({ "type": "integer" })));
    let properties: Value = properties.collect::<serde_json::Map<_, _>>().into();
    let mut body = question("test");
    body["response_format"] = json!({ "type": "json_schema", "json_schema": {
        "name": "x", "schema": { "type": "object", "properties": properties },
    } });
    let bombs: Vec<_> = (0..BOMBS).map(|_| send_post(server.address, CHAT, &body)).collect();
    let in_flight =
        || get(server.address, "/readyz").json()["in_flight"].as_u64().unwrap() as usize;
    let start = Instant::now();
    while in_flight() < BOMBS {
        assert!(start.elapsed() < PATIENCE);
    }
    assert_eq!(post(server.address, CHAT, &question("test")).status, 200);
    assert!(in_flight() > BOMBS / 2, "{} of {BOMBS} are left", in_flight());
    for bomb in bombs {
        let reply = bomb.finish();
        assert!(reply.status == 200 || reply.status == 400, "{reply:?}");
    }
}

/// What is done to a file.
type Damage = fn(&mut Vec<u8>);

/// CVE-2025-53630, CVE-2025-49847, CVE-2026-27940, CVE-2026-7482: files that lie about themselves. That each
/// lie is found is tested in llmos-model (tests/file_hostile.rs); here, that nobody else is disturbed.
#[test]
fn a_damaged_model_is_an_error_and_the_others_are_served() {
    let bytes = std::fs::read(repository("models/stories260K.gguf")).unwrap();
    let folder = std::env::temp_dir().join(format!("llmos-bombs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let models = Models::new(None);
    models.offer(offer("test", 0, Kind::Stories, EngineOptions::default()));
    let damaged: [(&str, Damage); 5] = [
        ("cut", |bytes| bytes.truncate(bytes.len() / 2)),
        ("counts", |bytes| bytes[8..16].fill(0xff)),
        ("entries", |bytes| bytes[16..24].fill(0xff)),
        ("pickle", |bytes| *bytes = b"\x80\x02cos\nsystem\n(S'true'\ntR.".to_vec()),
        ("empty", |bytes| bytes.clear()),
    ];
    for (name, damage) in damaged {
        let mut bytes = bytes.clone();
        damage(&mut bytes);
        let path = folder.join(format!("{name}.gguf"));
        std::fs::write(&path, bytes).unwrap();
        let load = Box::new(move || match ModelFiles::open(&path) {
            Ok(_) => panic!("a damaged file was opened"),
            Err(error) => Err(error.to_string()),
        });
        models.offer(Offer { load, ..offer(name, 0, Kind::Parrot, EngineOptions::default()) });
    }
    let server = run(options(), models);
    for (name, _) in damaged {
        let body = json!({ "model": name, "prompt": "Once", "max_tokens": 2 });
        post(server.address, "/v1/completions", &body).is_refusal(503, "cannot be loaded");
    }
    let body = json!({ "model": "test", "prompt": "Once", "max_tokens": 2 });
    assert_eq!(post(server.address, "/v1/completions", &body).status, 200);
    std::fs::remove_dir_all(&folder).unwrap();
}
