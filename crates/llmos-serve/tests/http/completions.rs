//! Texts that go on: greedily as the engine alone, streamed, stopped, measured.

use llmos_model::EngineOptions;
use serde_json::{Value, json};

use crate::client::{get, post, send_post};
use crate::house::{Kind, alone, load, options, serve, simple};

const PATH: &str = "/v1/completions";

/// Prompts that take different ways.
const PROMPTS: [&str; 8] = [
    "Once upon a time",
    "Lily and Ben",
    "The dog",
    "One day, a little girl named Anna went to the park. She saw",
    "Tom had a red ball.",
    "\"Hello\", said the cat",
    "It was dark",
    "A bird",
];

fn ask(prompt: &str, most: usize) -> Value {
    json!({ "model": "test", "prompt": prompt, "max_tokens": most, "temperature": 0 })
}

#[test]
fn answers_are_the_engine_s_alone_however_many_ask_at_once() {
    let mut model = load(Kind::Stories, EngineOptions::default());
    let expected: Vec<(String, bool)> =
        PROMPTS.iter().map(|prompt| alone(&mut model, prompt, 100)).collect();
    // A cache of a hundred and more blocks for eight; then one that holds three of them, so that
    // the youngest have to go away and come back, once to be written out and once to be computed again.
    let tight = Some(model.engine.cache_bytes(32) * 12);
    for (cache_bytes, spare_bytes) in [(Some(64 << 20), 1 << 20), (tight, 64 << 20), (tight, 0)] {
        let engine = EngineOptions { cache_bytes, ..EngineOptions::default() };
        let server =
            serve(Kind::Stories, llmos_serve::ServerOptions { spare_bytes, ..options() }, engine);
        let sent: Vec<_> = PROMPTS
            .iter()
            .map(|prompt| send_post(server.address, PATH, &ask(prompt, 100)))
            .collect();
        for (connection, (text, ended)) in sent.into_iter().zip(&expected) {
            let answer = connection.finish().json();
            let choice = &answer["choices"][0];
            assert_eq!(choice["text"], text.as_str(), "{cache_bytes:?} {spare_bytes}");
            assert_eq!(choice["finish_reason"], if *ended { "stop" } else { "length" });
        }
    }
}

#[test]
fn a_stream_joins_to_the_whole() {
    let server = simple(Kind::Stories);
    let mut body = ask("Once upon a time", 60);
    body["logprobs"] = 2.into();
    body["echo"] = true.into();
    let whole = post(server.address, PATH, &body).json();
    body["stream"] = true.into();
    body["stream_options"] = json!({ "include_usage": true });
    let mut events = post(server.address, PATH, &body).events();
    let usage = events.pop().unwrap();
    assert_eq!(usage["choices"], json!([]));
    // What was computed before is found again.
    assert_eq!(usage["usage"]["total_tokens"], whole["usage"]["total_tokens"]);
    let (mut text, mut logprobs, mut offsets) = (String::new(), Vec::new(), Vec::new());
    for event in &events {
        assert_eq!(event["object"], "text_completion");
        assert_eq!(event["id"], events[0]["id"]);
        let choice = &event["choices"][0];
        text += choice["text"].as_str().unwrap();
        logprobs.extend(choice["logprobs"]["token_logprobs"].as_array().unwrap().clone());
        offsets.extend(choice["logprobs"]["text_offset"].as_array().unwrap().clone());
    }
    let choice = &whole["choices"][0];
    assert_eq!(text, choice["text"].as_str().unwrap());
    assert_eq!(Value::from(logprobs), choice["logprobs"]["token_logprobs"]);
    assert_eq!(Value::from(offsets), choice["logprobs"]["text_offset"]);
    let last = events.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], choice["finish_reason"]);
}

#[test]
fn a_prompt_s_probabilities_are_those_of_score_as_lm_eval_asks_for_them() {
    let mut model = load(Kind::Stories, EngineOptions::default());
    let texts = ["Once upon a time there was a dog.", "Lily went home, and it rained."];
    let ids: Vec<Vec<u32>> = texts.iter().map(|text| model.tokenizer.encode_prompt(text)).collect();
    let server = simple(Kind::Stories);
    let answer = post(
        server.address,
        PATH,
        &json!({
            "model": "test", "prompt": ids, "temperature": 0, "max_tokens": 1, "logprobs": 1,
            "seed": 1234, "echo": true,
        }),
    )
    .json();
    for (index, ids) in ids.iter().enumerate() {
        let choice = &answer["choices"][index];
        assert_eq!(choice["index"], index);
        let found = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        let top = choice["logprobs"]["top_logprobs"].as_array().unwrap();
        assert_eq!((found.len(), top.len()), (ids.len() + 1, ids.len() + 1));
        assert!(found[0].is_null() && top[0].is_null());
        let mut expected = Vec::new();
        model.engine.score(ids, false, &mut |_, logprob| expected.push(logprob)).unwrap();
        for (i, logprob) in expected.iter().enumerate() {
            // To the bit: whether a token was the likeliest is decided by equality.
            assert_eq!(found[i + 1].as_f64(), Some(*logprob), "{i}");
            let best = top[i + 1].as_object().unwrap().values().filter_map(Value::as_f64);
            assert!(best.fold(f64::NEG_INFINITY, f64::max) >= *logprob);
        }
        // The last token was drawn greedily, so it is the likeliest.
        let drawn = found[ids.len()].as_f64().unwrap();
        let best = top[ids.len()].as_object().unwrap().values().filter_map(Value::as_f64);
        assert_eq!(best.fold(f64::NEG_INFINITY, f64::max), drawn);
        assert!(choice["text"].as_str().unwrap().starts_with(texts[index]));
    }
    assert_eq!(answer["usage"]["completion_tokens"], 2);
}

#[test]
fn score_and_next_are_those_of_the_commands() {
    let mut model = load(Kind::Stories, EngineOptions::default());
    let server = simple(Kind::Stories);
    // One is longer than the context of 512 tokens.
    for text in ["Once upon a time there was a dog.".to_string(), "The cat sat. ".repeat(200)] {
        let found = post(server.address, "/v1/score", &json!({ "text": text })).json();
        let mut tokens = model.tokenizer.start_ids().to_vec();
        tokens.extend(model.tokenizer.encode(&text, llmos_tokenizer::Special::None));
        let expected = llmos_eval::bits::log_probabilities(
            &mut model.engine,
            &tokens,
            None,
            false,
            &mut |_| {},
        )
        .unwrap();
        let each = found["each"].as_array().unwrap();
        assert_eq!(each.len(), tokens.len());
        for ((each, id), expected) in each.iter().zip(&tokens).zip(&expected) {
            assert_eq!(
                (each["id"].as_u64(), each["logprob"].as_f64()),
                (Some((*id).into()), *expected)
            );
        }
        let nats: f64 = -expected.iter().flatten().sum::<f64>();
        assert_eq!(found["nats_per_token"], nats / (tokens.len() - 1) as f64);
        assert_eq!(found["bytes"], text.len());
        let bits = nats / std::f64::consts::LN_2 / text.len() as f64;
        assert_eq!(found["bits_per_byte"], bits);
    }
    let found =
        post(server.address, "/v1/next", &json!({ "prompt": "The cat sat on the", "top": 3 }))
            .json();
    let tokens = model.tokenizer.encode_prompt("The cat sat on the");
    assert_eq!(found["prompt_tokens"], tokens.len());
    let next = found["next"].as_array().unwrap();
    assert_eq!(next.len(), 3);
    let id = model.engine.add(&tokens, Default::default()).unwrap();
    while !model.engine.is_ready(id).unwrap() {
        model.engine.step().unwrap();
    }
    let logits = model.engine.logits(id).unwrap();
    for (next, (id, p)) in next.iter().zip(llmos_model::sampler::most_likely(logits, 3)) {
        assert_eq!((next["id"].as_u64(), next["probability"].as_f64()), (Some(id.into()), Some(p)));
        assert_eq!(next["text"], model.tokenizer.token_text(id));
    }
}

#[test]
fn a_stop_text_ends_it_across_tokens_and_nothing_of_it_is_told() {
    let mut model = load(Kind::Stories, EngineOptions::default());
    let (text, _) = alone(&mut model, "Once upon a time", 60);
    let server = simple(Kind::Stories);
    // From the middle of one word to the middle of the next but one.
    let at = text.char_indices().nth(20).unwrap().0;
    let stop = &text[at..text.char_indices().nth(29).unwrap().0];
    let mut body = ask("Once upon a time", 60);
    body["stop"] = json!(["never to be found", stop]);
    body["logprobs"] = 1.into();
    let whole = post(server.address, PATH, &body).json();
    let choice = &whole["choices"][0];
    let expected = &text[..text.find(stop).unwrap()];
    assert_eq!(choice["text"], expected);
    assert_eq!(choice["finish_reason"], "stop");
    let told: String = choice["logprobs"]["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token.as_str().unwrap())
        .collect();
    assert!(expected.starts_with(&told), "{told:?} {expected:?}");
    body["stream"] = true.into();
    let events = post(server.address, PATH, &body).events();
    let joined: String =
        events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(joined, expected);
}

#[test]
fn a_seed_gives_its_answer_again_and_choices_differ() {
    let server = simple(Kind::Stories);
    let body = json!({ "prompt": "The", "max_tokens": 30, "temperature": 1, "seed": 7, "n": 3 });
    let texts = |body: &Value| -> Vec<String> {
        let answer = post(server.address, PATH, body).json();
        let choices = answer["choices"].as_array().unwrap().clone();
        choices.iter().map(|choice| choice["text"].as_str().unwrap().to_string()).collect()
    };
    let first = texts(&body);
    assert_eq!(first, texts(&body));
    assert!(first[0] != first[1] && first[1] != first[2]);
    let mut other = body.clone();
    other["seed"] = 8.into();
    // Choices count on from the seed.
    assert_eq!(texts(&other)[..2], first[1..]);
}

#[test]
fn biases_penalties_and_grammars_are_heeded() {
    let server = simple(Kind::Stories);
    let plain = post(server.address, PATH, &ask("Once upon a time", 40)).json();
    let text = plain["choices"][0]["text"].as_str().unwrap().to_string();
    let tokens =
        post(server.address, "/tokenize", &json!({ "prompt": text, "add_special_tokens": false }));
    let first = tokens.json()["tokens"][0].as_u64().unwrap();
    let mut body = ask("Once upon a time", 40);
    body["logit_bias"] = json!({ first.to_string(): -100 });
    let other = post(server.address, PATH, &body).json();
    assert_ne!(other["choices"][0]["text"], text.as_str());
    let mut body = ask("Once upon a time", 200);
    body["frequency_penalty"] = 2.into();
    let varied = post(server.address, PATH, &body).json();
    let usual = post(server.address, PATH, &ask("Once upon a time", 200)).json();
    assert_ne!(varied["choices"][0]["text"], usual["choices"][0]["text"]);
    let mut body = ask("My number is", 40);
    body["response_format"] = json!({ "type": "regex", "regex": "[0-9]{3}-[0-9]{2}" });
    let number = post(server.address, PATH, &body).json();
    let number = number["choices"][0]["text"].as_str().unwrap().to_string();
    let (three, two) = number.split_once('-').unwrap();
    assert!(three.len() == 3 && two.len() == 2, "{number}");
    assert!(three.chars().chain(two.chars()).all(|c| c.is_ascii_digit()), "{number}");
}

#[test]
fn the_vocabulary_can_be_asked() {
    let server = simple(Kind::Stories);
    let found = post(server.address, "/tokenize", &json!({ "prompt": "Hello there" })).json();
    assert_eq!(found["count"], found["tokens"].as_array().unwrap().len());
    assert_eq!(found["max_model_len"], 512);
    let back = post(server.address, "/detokenize", &json!({ "tokens": found["tokens"] })).json();
    assert!(back["prompt"].as_str().unwrap().ends_with("Hello there"), "{back}");
    let info = get(server.address, "/tokenizer_info").json();
    assert_eq!(
        (info["bos_token"].as_str(), info["eos_token"].as_str()),
        (Some("<s>"), Some("</s>"))
    );
}
