//! What can be watched: metrics in a format that is parsed strictly, readiness, the numbers of requests,
//! and what is reported of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use llmos_model::EngineOptions;
use llmos_serve::{Key, Keys, Models, Offer, Report, Scope, ServerOptions};
use serde_json::json;

use crate::client::{Connection, PLAIN, get, post, request, send_post};
use crate::house::{Kind, Running, load, offer, options, run, serve, simple};

const PATH: &str = "/v1/completions";

type Labels = BTreeMap<String, String>;

/// A family of samples as Prometheus' documentation of its text format has them.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    samples: Vec<(String, Labels, f64)>,
}

/// Parses all of a page, and lets nothing pass that the format does not say.
#[track_caller]
fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n') && !text.contains('\r'));
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
    };
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut open, mut helped, mut seen) = (String::new(), BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && !help.is_empty() && helped.insert(name), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(helped.contains(name), "HELP comes first: {line}");
            let family = Family { kind: kind.to_string(), ..Family::default() };
            assert!(families.insert(name.to_string(), family).is_none(), "twice: {line}");
            open = name.to_string();
        } else {
            let end = line.find(['{', ' ']).unwrap();
            let name = &line[..end];
            let (labels, value) = match line[end..].strip_prefix('{') {
                Some(rest) => labels(rest),
                None => (Labels::new(), &line[end..]),
            };
            let value = value.strip_prefix(' ').unwrap();
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            let family = families.get_mut(&open).unwrap();
            let ending = name.strip_prefix(open.as_str()).unwrap_or_else(|| panic!("{line}"));
            let known: &[&str] = match family.kind.as_str() {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(is_name(name) && known.contains(&ending), "{line}");
            assert!(labels.keys().all(|label| is_name(label) && !label.contains(':')), "{line}");
            assert!(seen.insert((name.to_string(), labels.clone())), "twice: {line}");
            assert!(family.kind != "counter" || name.ends_with("_total"), "{line}");
            family.samples.push((ending.to_string(), labels, value));
        }
    }
    families.iter().filter(|(_, family)| family.kind == "histogram").for_each(check_histogram);
    families
}

/// Labels up to the brace, and what follows it.
fn labels(text: &str) -> (Labels, &str) {
    let (mut found, mut rest) = (Labels::new(), text);
    loop {
        let (name, after) = rest.split_once("=\"").unwrap();
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    other => panic!("\\{other} is no escape"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(found.insert(name.to_string(), value).is_none());
        rest = &after[end + 1..];
        match rest.split_at(1) {
            ("}", rest) => return (found, rest),
            (",", more) => rest = more,
            _ => panic!("{rest}"),
        }
    }
}

/// Buckets rise in their bounds and counts, the last has all, and each histogram has a sum and a count.
fn check_histogram((name, family): (&String, &Family)) {
    /// Buckets, sum and count.
    type One = (Vec<(f64, f64)>, Option<f64>, Option<f64>);
    let mut by: BTreeMap<Labels, One> = BTreeMap::new();
    for (ending, labels, value) in &family.samples {
        let mut labels = labels.clone();
        let le = labels.remove("le");
        let entry = by.entry(labels).or_default();
        match ending.as_str() {
            "_bucket" => {
                let le = le.unwrap();
                let bound = if le == "+Inf" { f64::INFINITY } else { le.parse().unwrap() };
                entry.0.push((bound, *value));
            }
            "_sum" => entry.1 = Some(*value),
            _ => entry.2 = Some(*value),
        }
    }
    for (labels, (buckets, sum, count)) in by {
        let rises = buckets.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1);
        assert!(rises, "{name} {labels:?}");
        let last = buckets.last().unwrap();
        assert_eq!((last.0, Some(last.1)), (f64::INFINITY, count), "{name} {labels:?}");
        assert!(sum.unwrap() >= 0.0);
    }
}

fn metrics(server: &Running) -> BTreeMap<String, Family> {
    let reply = get(server.address, "/metrics");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    parse(&reply.body)
}

/// The sum of samples of that ending with these labels.
fn value(
    families: &BTreeMap<String, Family>,
    name: &str,
    ending: &str,
    with: &[(&str, &str)],
) -> f64 {
    let family = families.get(name).unwrap_or_else(|| panic!("{name} in {families:#?}"));
    let matches = |labels: &Labels| {
        with.iter().all(|(key, value)| labels.get(*key).is_some_and(|found| found == value))
    };
    let samples = family.samples.iter();
    samples.filter(|(e, labels, _)| e == ending && matches(labels)).map(|(_, _, value)| value).sum()
}

fn short() -> serde_json::Value {
    json!({ "prompt": "Once upon a time there was ".repeat(16), "max_tokens": 9, "temperature": 0 })
}

/// A page on which a request that is just over is counted: its last byte is out before it is noted.
fn metrics_after(server: &Running, requests: f64) -> BTreeMap<String, Family> {
    let start = Instant::now();
    loop {
        let found = metrics(server);
        let is_over = value(&found, "llmos_sequences_running", "", &[]) == 0.0;
        if is_over && value(&found, "llmos_requests_total", "", &[("route", PATH)]) >= requests {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{found:#?}");
    }
}

#[test]
fn what_was_asked_is_counted_in_a_format_that_is_parsed_strictly() {
    let server = simple(Kind::Stories);
    // Before anybody asked it parses as well.
    let before = metrics(&server);
    assert_eq!(value(&before, "llmos_models_loaded", "", &[]), 0.0);
    let usage = post(server.address, PATH, &short()).json()["usage"].clone();
    let again = post(server.address, PATH, &short()).json()["usage"].clone();
    let number = |usage: &serde_json::Value, key: &str| usage[key].as_f64().unwrap();
    let cached = again["prompt_tokens_details"]["cached_tokens"].as_f64().unwrap();
    assert!(cached > 0.0);
    let found = metrics_after(&server, 2.0);
    let labels = [
        ("gen_ai_operation_name", "text_completion"),
        ("gen_ai_request_model", "test"),
        ("gen_ai_provider_name", "llmos"),
    ];
    for name in [
        "gen_ai_server_request_duration_seconds",
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai_server_time_per_output_token_seconds",
    ] {
        assert_eq!(value(&found, name, "_count", &labels), 2.0, "{name}");
        assert!(value(&found, name, "_sum", &labels) > 0.0, "{name}");
    }
    for (kind, key) in [("input", "prompt_tokens"), ("output", "completion_tokens")] {
        let labels = [("gen_ai_token_type", kind)];
        let sum = number(&usage, key) + number(&again, key);
        assert_eq!(value(&found, "gen_ai_client_token_usage", "_sum", &labels), sum, "{kind}");
    }
    let model = [("model", "test")];
    let prompt = number(&usage, "prompt_tokens") + number(&again, "prompt_tokens");
    for (name, expected) in [
        ("llmos_prompt_tokens_total", prompt),
        ("llmos_cached_tokens_total", cached),
        ("llmos_cache_hits_total", 1.0),
        ("llmos_generated_tokens_total", 18.0),
        ("llmos_model_loaded", 1.0),
        ("llmos_requests_waiting", 0.0),
        ("llmos_sequences_running", 0.0),
    ] {
        assert_eq!(value(&found, name, "", &model), expected, "{name}");
    }
    assert!(value(&found, "llmos_cache_blocks", "", &model) > 0.0);
    assert_eq!(
        value(&found, "llmos_cache_blocks", "", &model),
        value(&found, "llmos_cache_blocks_free", "", &model)
    );
    assert_eq!(value(&found, "llmos_slots", "", &[]), 16.0);
    // Everything is refused under its reason, and no route is invented by who asks.
    post(server.address, PATH, &json!({ "model": "x" })).is_refusal(404, "no model");
    get(server.address, "/v1/secret-canary").is_refusal(404, "nothing at this path");
    get(server.address, PATH).is_refusal(405, "method");
    let body = get(server.address, "/metrics").body;
    assert!(!body.contains("canary"), "{body}");
    let found = parse(&body);
    for (reason, expected) in [("model_not_found", 1.0), ("unknown_url", 1.0)] {
        assert_eq!(value(&found, "llmos_refusals_total", "", &[("reason", reason)]), expected);
    }
    let labels = [("route", "-"), ("status", "404")];
    assert_eq!(value(&found, "llmos_requests_total", "", &labels), 1.0);
}

#[test]
fn queues_and_clients_that_leave_are_seen() {
    let engine = EngineOptions { cache_bytes: Some(64 << 20), ..EngineOptions::default() };
    let options = ServerOptions { slots: 1, queue: 1, ..options() };
    let server = serve(Kind::Endless, options, engine);
    let endless = json!({
        "prompt": "Once", "max_tokens": 1_000_000, "temperature": 1, "stream": true,
        "logit_bias": { "0": -100, "1": -100, "2": -100 },
    });
    let mut first = send_post(server.address, PATH, &endless);
    first.wait_for("data: ");
    let second = send_post(server.address, PATH, &endless);
    let start = Instant::now();
    loop {
        let found = metrics(&server);
        let waiting = value(&found, "llmos_requests_waiting", "", &[]);
        let running = value(&found, "llmos_sequences_running", "", &[]);
        if (waiting, running) == (1.0, 1.0) {
            let used = value(&found, "llmos_cache_blocks", "", &[])
                - value(&found, "llmos_cache_blocks_free", "", &[]);
            assert!(used > 0.0);
            assert_eq!(value(&found, "llmos_requests_in_flight", "", &[]), 2.0);
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{waiting} {running}");
    }
    post(server.address, PATH, &short()).is_refusal(429, "in flight");
    drop((first, second));
    let found = metrics_after(&server, 3.0);
    let refusals = |reason| value(&found, "llmos_refusals_total", "", &[("reason", reason)]);
    assert_eq!((refusals("rate_limit_exceeded"), refusals("client_left")), (1.0, 2.0));
    let labels = [("error_type", "client_left")];
    let name = "gen_ai_server_request_duration_seconds";
    assert_eq!(value(&found, name, "_count", &labels), 2.0);
    // Times of answers that were left are no times of answers.
    let name = "gen_ai_server_time_to_first_token_seconds";
    assert_eq!(value(&found, name, "_count", &[]), 0.0);
}

#[test]
fn a_server_is_ready_once_its_models_are_there() {
    let (release, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let models = Models::new(None);
    let slow = move || {
        wait.lock().unwrap().recv().map_err(|_| "nobody let it".to_string())?;
        Ok(load(Kind::Stories, EngineOptions::default()))
    };
    let about = offer("slow", 0, Kind::Stories, EngineOptions::default());
    models.offer(Offer { load: Box::new(slow), ..about });
    let options = || ServerOptions { preload: vec!["slow".into()], ..options() };
    let server = run(options(), models);
    get(server.address, "/readyz").is_refusal(503, "slow");
    assert_eq!(get(server.address, "/healthz").json(), json!({ "status": "ok" }));
    release.send(()).unwrap();
    let start = Instant::now();
    while get(server.address, "/readyz").status != 200 {
        assert!(start.elapsed() < Duration::from_secs(30));
    }
    // One that cannot be loaded never is.
    let models = Models::new(None);
    let about = offer("slow", 0, Kind::Stories, EngineOptions::default());
    models.offer(Offer { load: Box::new(|| Err("it is broken".into())), ..about });
    let broken = run(options(), models);
    post(broken.address, PATH, &short()).is_refusal(503, "it is broken");
    get(broken.address, "/readyz").is_refusal(503, "slow");
    assert_eq!(get(broken.address, "/healthz").status, 200);
}

#[test]
fn every_answer_has_a_number_of_its_own() {
    let keys = Keys::new(vec![Key::of("ann", "llmos-secret", Scope::Chat)]);
    let server =
        serve(Kind::Stories, ServerOptions { keys, ..options() }, EngineOptions::default());
    let key = "x-api-key: llmos-secret";
    let body = short().to_string();
    let mut streamed = short();
    streamed["stream"] = true.into();
    let streamed = streamed.to_string();
    let mut seen = BTreeSet::new();
    for (method, path, with_key, body, status) in [
        ("GET", "/healthz", false, "", 200),
        ("GET", "/v1/models", false, "", 401),
        ("GET", "/v1/models", true, "", 200),
        ("GET", "/nothing", true, "", 404),
        ("GET", PATH, true, "", 405),
        ("POST", PATH, true, body.as_str(), 200),
        ("POST", PATH, true, streamed.as_str(), 200),
        ("POST", PATH, true, "{", 400),
        ("HEAD", "/v1/models", true, "", 200),
    ] {
        let mut headers = PLAIN.to_vec();
        headers.extend(with_key.then_some(key));
        // What a client calls its request does not become ours.
        headers.push("x-request-id: mine\"} evil");
        let bytes = request(method, path, &headers, body.as_bytes());
        let reply = Connection::send(server.address, &bytes).finish();
        assert_eq!(reply.status, status, "{method} {path}");
        let id = reply.header("x-request-id").unwrap();
        let digits = id.strip_prefix("req_").unwrap();
        assert!(digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        assert!(seen.insert(id.to_string()), "{id} twice");
    }
}

#[test]
fn each_request_is_reported_once_without_its_text() {
    let reports: Arc<Mutex<Vec<Report>>> = Arc::default();
    let heard = reports.clone();
    let report = move |report: &Report| heard.lock().unwrap().push(report.clone());
    let keys = Keys::new(vec![Key::of("ann", "llmos-secret", Scope::Chat)]);
    let options = ServerOptions { keys, report: Some(Arc::new(report)), ..options() };
    let server = serve(Kind::Stories, options, EngineOptions::default());
    let ask = |body: &str, more: &str| {
        let mut headers = PLAIN.to_vec();
        headers.extend(["x-api-key: llmos-secret", more]);
        let bytes = request("POST", PATH, &headers, body.as_bytes());
        Connection::send(server.address, &bytes).finish()
    };
    let last = |count: usize| {
        let start = Instant::now();
        loop {
            let reports = reports.lock().unwrap();
            if reports.len() >= count {
                assert_eq!(reports.len(), count);
                return reports[count - 1].clone();
            }
            drop(reports);
            assert!(start.elapsed() < Duration::from_secs(30));
        }
    };
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let body = json!({ "prompt": "canary upon a time", "max_tokens": 5, "temperature": 0, "n": 2 });
    let reply = ask(&body.to_string(), &parent);
    let report = last(1);
    assert_eq!(Some(report.id.as_str()), reply.header("x-request-id"));
    assert_eq!((report.method.as_str(), report.route.as_str(), report.status), ("POST", PATH, 200));
    assert_eq!((report.trace.as_str(), report.operation), (trace, "text_completion"));
    assert_eq!(report.parent.as_deref(), Some("00f067aa0ba902b7"));
    assert_eq!((report.model.as_deref(), report.key.as_deref()), (Some("test"), Some("ann")));
    assert_eq!((report.tokens, report.finishes.as_slice()), (10, &["length", "length"][..]));
    let usage = &reply.json()["usage"];
    assert_eq!(report.prompt_tokens as u64, usage["prompt_tokens"].as_u64().unwrap());
    assert!(report.first_token.unwrap() <= report.took && report.error.is_none());
    let streamed =
        ask(&json!({ "prompt": "canary", "max_tokens": 3, "stream": true }).to_string(), "a: b");
    assert_eq!(streamed.status, 200);
    let report = last(2);
    assert_eq!((report.tokens, &report.parent, report.error.as_deref()), (3, &None, None));
    ask("{\"prompt\": \"canary\", \"temperature\": 9}", "a: b").is_refusal(400, "temperature");
    let report = last(3);
    assert_eq!((report.status, report.error.as_deref()), (400, Some("invalid_request_error")));
    assert!(!format!("{:?}", reports.lock().unwrap()).contains("canary"));
}
