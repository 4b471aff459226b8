//! Inside of a model: its layers, its heads, its parameters.

use llmos_model::decoder::Part;
use llmos_model::engine::{SequenceOptions, View};
use llmos_model::parameters::Distribution;
use llmos_model::sampler::most_likely;
use llmos_model::{EngineOptions, ModelFiles};
use serde_json::{Value, json};

use crate::client::{get, post, send_post};
use crate::house::{Kind, load, offer, options, repository, run, serve, simple};

const PATH: &str = "/v1/lens";
const PROMPT: &str = "Once upon a time, there was a";

#[test]
fn what_each_layer_would_say() {
    let server = simple(Kind::Stories);
    let mut model = load(Kind::Stories, EngineOptions::default());
    let tokens = model.tokenizer.encode_prompt(PROMPT);
    let body = json!({
        "model": "test", "prompt": PROMPT, "top": 3, "attention": true,
        "off": [{ "layer": 1 }, { "layer": 2, "head": 0 }],
    });
    let answer = post(server.address, PATH, &body).json();
    assert_eq!(answer["model"], "test");
    let ids: Vec<u64> =
        answer["tokens"].as_array().unwrap().iter().filter_map(|t| t["token"].as_u64()).collect();
    assert_eq!(ids, tokens.iter().map(|&id| u64::from(id)).collect::<Vec<_>>());
    assert_eq!(answer["tokens"][1]["text"], " Once");
    let row = |likely: Vec<(u32, f64)>| -> Value {
        let next = |(id, probability)| json!({ "token": id, "text": model.tokenizer.token_text(id), "probability": probability });
        likely.into_iter().map(next).collect::<Vec<_>>().into()
    };
    let view = View {
        off: vec![Part::Layer(1), Part::Head { layer: 2, head: 0 }],
        states: tokens.len(),
        attention: (0..5).collect(),
    };
    let sight = model.engine.look(&tokens, SequenceOptions::default(), &view).unwrap();
    let rows = model.engine.read_out(&sight, 0..sight.rows(), 3);
    for (layer, expected) in rows.chunks(tokens.len()).enumerate() {
        assert_eq!(answer["layers"][layer]["layer"], layer);
        let expected: Vec<Value> = expected.iter().map(|likely| row(likely.clone())).collect();
        assert_eq!(answer["layers"][layer]["positions"], Value::from(expected));
        for head in 0..8 {
            let found = answer["attention"][layer][head].as_array().unwrap();
            let expected = sight.attention(layer, head, tokens.len()).unwrap();
            assert_eq!(found.len(), tokens.len());
            for (found, expected) in found.iter().zip(expected) {
                let found = found.as_array().unwrap();
                assert_eq!(found.len(), expected.len());
                for (found, &expected) in found.iter().zip(expected) {
                    let found = found.as_f64().unwrap();
                    assert!((found - f64::from(expected)).abs() < 6e-6, "{found} {expected}");
                }
            }
        }
    }
    assert_eq!(answer["layers"].as_array().unwrap().len(), 5);
    assert_eq!(answer["next"], row(most_likely(sight.logits(), 3)));
    // What nobody switched off is what `/v1/next` says.
    let next = post(server.address, "/v1/next", &json!({ "prompt": PROMPT, "top": 3 })).json();
    for (mine, its) in
        answer["next_unchanged"].as_array().unwrap().iter().zip(next["next"].as_array().unwrap())
    {
        assert_eq!((&mine["token"], &mine["probability"]), (&its["id"], &its["probability"]));
    }
    assert_ne!(answer["next"], answer["next_unchanged"]);
    // Ids, the usual number of predictions, one layer's attention alone.
    let body = json!({ "tokens": tokens, "attention": [3] });
    let answer = post(server.address, PATH, &body).json();
    assert_eq!(answer["layers"][0]["positions"][0].as_array().unwrap().len(), 5);
    assert_eq!((&answer["attention"][2], &answer["next"]), (&json!([]), &answer["next_unchanged"]));
    assert_eq!(answer["attention"][3][7][8].as_array().unwrap().len(), 9);
    let plain = post(server.address, PATH, &json!({ "prompt": "" })).json();
    assert!(plain.get("attention").is_none() && plain["tokens"].as_array().unwrap().len() == 1);
}

#[test]
fn what_cannot_be_looked_at_is_told() {
    let server = simple(Kind::Stories);
    let check = |body: Value, words: &str| {
        post(server.address, PATH, &body).is_refusal(400, words);
    };
    for (name, values) in [
        ("top", [json!(0), json!(21), json!("x"), json!(1.5)]),
        ("attention", [json!(3), json!("all"), json!([5]), json!([-1])]),
        ("off", [json!("all"), json!([{}]), json!([{ "layer": 5 }]), json!([3])]),
        ("off", [json!([{ "layer": 0, "head": 8 }]), json!([{ "head": 1 }]), json!({}), json!(1)]),
        ("tokens", [json!("a"), json!([512]), json!([1.5]), json!({})]),
        ("prompt", [json!(3), json!([512]), json!(["a"]), json!({})]),
    ] {
        for value in values {
            let mut body = json!({ "prompt": "a" });
            body[name] = value;
            check(body, name);
        }
    }
    check(json!({ "prompt": "word ".repeat(200) }), "expected 1 to 256");
    check(json!({ "prompt": "a", "off": vec![json!({ "layer": 0 }); 1025] }), "at most 1024");
    let long: Vec<u32> = vec![300; 256];
    // 5 layers of 8 heads with 256 · 257 / 2 weights are within the limit, and so are all predictions.
    let answer = post(server.address, PATH, &json!({ "tokens": long, "attention": true })).json();
    assert_eq!(answer["attention"][4][7][255].as_array().unwrap().len(), 256);
    post(server.address, PATH, &json!({ "model": "tset" })).is_refusal(404, "did you mean test?");
    get(server.address, PATH).is_refusal(405, "method");
}

#[test]
fn who_looks_disturbs_nobody_and_stops_when_the_client_goes() {
    let server = serve(
        Kind::Endless,
        options(),
        EngineOptions { cache_bytes: Some(64 << 20), ..EngineOptions::default() },
    );
    let endless = json!({
        "prompt": "Once", "max_tokens": 1_000_000, "temperature": 1, "stream": true,
        "logit_bias": { "0": -100, "1": -100, "2": -100 },
    });
    let mut writes = send_post(server.address, "/v1/completions", &endless);
    writes.wait_for("data: ");
    // Those who look and go, several at once; then one who stays, while somebody is written for.
    let body = json!({ "tokens": vec![300; 60], "attention": true });
    for _ in 0..5 {
        drop(send_post(server.address, PATH, &body));
    }
    let answers: Vec<_> = (0..3).map(|_| send_post(server.address, PATH, &body)).collect();
    let mut answers = answers.into_iter().map(|answer| answer.finish().json());
    let first = answers.next().unwrap();
    assert!(answers.all(|answer| answer == first));
    writes.wait_for("data: ");
    drop(writes);
    let start = std::time::Instant::now();
    while get(server.address, "/readyz").json()["in_flight"] != 0 {
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "places are given back");
    }
}

#[test]
fn what_takes_too_long_is_given_up() {
    let options = llmos_serve::ServerOptions {
        request_time: std::time::Duration::ZERO,
        preload: vec!["test".to_string()],
        ..options()
    };
    let server = serve(Kind::Stories, options, EngineOptions::default());
    let start = std::time::Instant::now();
    while get(server.address, "/readyz").status != 200 {
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "it is loaded");
    }
    let body = json!({ "prompt": "Once upon a time ".repeat(40), "attention": true });
    post(server.address, PATH, &body).is_refusal(504, "longer than");
}

#[test]
fn how_parameters_are_distributed() {
    let models = llmos_serve::Models::new(None);
    for (id, kind) in [("own/stories", Kind::Stories), ("made", Kind::Endless)] {
        models.offer(offer(
            id,
            0,
            kind,
            EngineOptions { cache_bytes: Some(1 << 20), ..Default::default() },
        ));
    }
    let server = run(options(), models);
    let files = ModelFiles::open(&repository("models/stories260K.gguf")).unwrap();
    let expected: Vec<Value> = files
        .tensors()
        .map(|info| Distribution::of(&files, info, &|| false).unwrap())
        .map(|found| serde_json::from_str(&serde_json::to_string(&found).unwrap()).unwrap())
        .collect();
    // All at once: the file is read by one, and all are answered.
    let asked: Vec<_> = (0..6)
        .map(|_| {
            let request = crate::client::request(
                "GET",
                "/v1/parameters?model=own%2Fstories",
                &["Host: localhost"],
                b"",
            );
            crate::client::Connection::send(server.address, &request)
        })
        .collect();
    for connection in asked {
        let answer = connection.finish().json();
        assert_eq!(answer["model"], "own/stories");
        assert_eq!(answer["tensors"], Value::from(expected.clone()));
    }
    // The first model is the one of who names none.
    assert_eq!(get(server.address, "/v1/parameters").json()["model"], "own/stories");
    get(server.address, "/v1/parameters?model=made").is_refusal(400, "has no file");
    get(server.address, "/v1/parameters?model=nothing").is_refusal(404, "no model");
}
