//! `/v1/embeddings` and `/v1/rerank`.

use llmos_serve::Models;
use serde_json::{Value, json};

use crate::client::{Connection, post, send_post};
use crate::house::{Kind, Running, offer, options, repository, run, simple};

const PATH: &str = "/v1/embeddings";

fn vectors(answer: &Value) -> Vec<Vec<f64>> {
    let data = answer["data"].as_array().unwrap();
    let vector = |(index, entry): (usize, &Value)| {
        assert_eq!((&entry["object"], &entry["index"]), (&json!("embedding"), &json!(index)));
        let numbers = entry["embedding"].as_array().unwrap();
        numbers.iter().map(|x| x.as_f64().unwrap()).collect()
    };
    data.iter().enumerate().map(vector).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn texts_are_points_of_length_one_near_those_of_texts_like_them() {
    let server = simple(Kind::Stories);
    let texts = [
        "The dog ran to the park.",
        "The dog ran to the park!",
        "Once upon a time there was a princess who lived in a castle.",
    ];
    let answer = post(server.address, PATH, &json!({ "input": texts })).json();
    assert_eq!((&answer["object"], &answer["pooling"]), (&json!("list"), &json!("mean")));
    let points = vectors(&answer);
    assert!(points.iter().all(|point| (dot(point, point) - 1.0).abs() < 1e-5));
    assert!(dot(&points[0], &points[1]) > dot(&points[0], &points[2]));
    // Alone and beside others, as text and as ids, whole and packed: the same to the bit.
    let ids = post(server.address, "/tokenize", &json!({ "prompt": texts[2] })).json();
    assert!(answer["usage"]["prompt_tokens"].as_u64() > ids["count"].as_u64());
    let crowd: Vec<Connection> =
        (0..6).map(|_| send_post(server.address, PATH, &json!({ "input": texts[2] }))).collect();
    let text = post(server.address, PATH, &json!({ "input": texts[2] })).json();
    let alone = vectors(&text);
    assert_eq!(alone[0], points[2]);
    for connection in crowd {
        assert_eq!(vectors(&connection.finish().json())[0], points[2]);
    }
    let of_ids = post(server.address, PATH, &json!({ "input": [ids["tokens"]] })).json();
    assert_eq!(vectors(&of_ids)[0], points[2]);
    let packed = json!({ "input": texts[2], "encoding_format": "base64" });
    let packed = post(server.address, PATH, &packed).json();
    let bytes = decoded(packed["data"][0]["embedding"].as_str().unwrap());
    let numbers: Vec<f64> = bytes
        .chunks_exact(4)
        .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
        .collect();
    assert_eq!(numbers.len(), points[2].len());
    assert!(numbers.iter().zip(&points[2]).all(|(a, b)| (a - b).abs() < 1e-6));
    // The same direction, in fewer numbers.
    let short = post(server.address, PATH, &json!({ "input": texts[2], "dimensions": 8 })).json();
    let short = &vectors(&short)[0];
    assert!(short.len() == 8 && (dot(short, short) - 1.0).abs() < 1e-5);
    let part = &points[2][..8];
    assert!((dot(short, part) / dot(part, part).sqrt() - 1.0).abs() < 1e-5);
    // The mean of one token is the last one.
    let pooled = |pooling: &str| {
        vectors(&post(server.address, PATH, &json!({ "input": [5], "pooling": pooling })).json())
    };
    assert_eq!(pooled("mean"), pooled("last"));
    let ollama = json!({ "model": "test", "input": texts[2] });
    let ollama = post(server.address, "/api/embed", &ollama).json();
    assert_eq!(ollama["embeddings"][0], text["data"][0]["embedding"]);
    let older = json!({ "model": "test", "prompt": texts[2] });
    let older = post(server.address, "/api/embeddings", &older).json();
    assert_eq!(older["embedding"], text["data"][0]["embedding"]);
    let none = json!({ "model": "test", "input": [] });
    assert_eq!(post(server.address, "/api/embed", &none).json()["embeddings"], json!([]));
}

/// Base64, by its definition.
fn decoded(text: &str) -> Vec<u8> {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String = text
        .trim_end_matches('=')
        .chars()
        .map(|letter| format!("{:06b}", LETTERS.find(letter).unwrap()))
        .collect();
    let bytes = bits.as_bytes().chunks_exact(8);
    bytes.map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap()).collect()
}

#[test]
fn documents_are_put_in_order_by_a_method_that_is_told() {
    let models = Models::new(None);
    models.offer(offer("test", 0, Kind::Stories, Default::default()));
    models.offer(offer("parrot-rerank", 0, Kind::Parrot, Default::default()));
    models.offer(offer("assistant-Reranker", 0, Kind::Assistant, Default::default()));
    let server = run(options(), models);
    let documents = json!(["The princess lived in a castle.", "The dog ran.", { "text": "A dog ran in the park." }]);
    let mut body = json!({ "query": "The dog ran.", "documents": documents });
    let ranked = post(server.address, "/v1/rerank", &body).json();
    assert_eq!(ranked["method"], "cosine");
    let results = ranked["results"].as_array().unwrap();
    assert_eq!((&results[0]["index"], results.len()), (&json!(1), 3));
    assert!((results[0]["relevance_score"].as_f64().unwrap() - 1.0).abs() < 1e-5);
    assert_eq!(results[0]["document"]["text"], "The dog ran.");
    // By the points of /v1/embeddings.
    let texts = json!({ "input": ["The dog ran.", "The princess lived in a castle."] });
    let points = vectors(&post(server.address, PATH, &texts).json());
    let score = results.iter().find(|result| result["index"] == 0).unwrap();
    let expected = dot(&points[0], &points[1]);
    assert!((score["relevance_score"].as_f64().unwrap() - expected).abs() < 1e-5);
    body["top_n"] = 1.into();
    body["return_documents"] = false.into();
    let best = post(server.address, "/rerank", &body).json();
    assert_eq!(best["results"].as_array().unwrap().len(), 1);
    assert!(best["results"][0].get("document").is_none());
    // A reranker is asked for a yes or a no.
    body["model"] = "parrot-rerank".into();
    post(server.address, "/v1/rerank", &body).is_refusal(400, "no token");
    body["model"] = "assistant-Reranker".into();
    body["top_n"] = 0.into();
    let ranked = post(server.address, "/v1/rerank", &body).json();
    assert_eq!(
        (&ranked["method"], ranked["results"].as_array().unwrap().len()),
        (&json!("yes"), 3)
    );
    for result in ranked["results"].as_array().unwrap() {
        let text = &documents[result["index"].as_u64().unwrap() as usize];
        let text = text.as_str().or(text["text"].as_str()).unwrap();
        let expected = yes(&server, "assistant-Reranker", "The dog ran.", text);
        let score = result["relevance_score"].as_f64().unwrap();
        assert!((score - expected).abs() < 1e-9 && (0.0..=1.0).contains(&score), "{text}");
    }
    for (field, value) in [
        ("query", json!(3)),
        ("query", json!("")),
        ("documents", json!([])),
        ("documents", json!([3])),
        ("documents", json!("x")),
        ("top_n", json!(-1)),
        ("top_n", json!("1")),
        ("pooling", json!("max")),
    ] {
        let mut body = json!({ "model": "test", "query": "a", "documents": ["b"] });
        body[field] = value;
        assert_eq!(post(server.address, "/v1/rerank", &body).is_refusal(400, "")["param"], field);
    }
}

/// The probability of "Yes" beside "No" where Qwen3-Reranker's question is asked.
fn yes(server: &Running, model: &str, query: &str, document: &str) -> f64 {
    let system = "Judge whether the Document meets the requirements based on the Query and the Instruct \
                  provided. Note that the answer can only be \"yes\" or \"no\".";
    let user = format!(
        "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n\
         <Query>: {query}\n<Document>: {document}"
    );
    let messages =
        json!([{ "role": "system", "content": system }, { "role": "user", "content": user }]);
    let asked = json!({ "model": model, "messages": messages, "reasoning_effort": "none" });
    let tokens = post(server.address, "/tokenize", &asked).json()["tokens"].clone();
    let asked = json!({ "model": model, "prompt": tokens, "top": 1000 });
    let next = post(server.address, "/v1/next", &asked).json();
    let of = |word: &str| {
        let found = next["next"].as_array().unwrap().iter().find(|token| token["text"] == word);
        found.map_or(0.0, |token| token["probability"].as_f64().unwrap())
    };
    let (yes, no) = (of("Yes"), of("No"));
    assert!(yes + no > 0.0);
    yes / (yes + no)
}

#[test]
fn wrong_inputs_are_named() {
    let server = simple(Kind::Stories);
    for (field, value) in [
        ("input", json!(null)),
        ("input", json!("")),
        ("input", json!([])),
        ("input", json!(["a", ""])),
        ("input", json!([[512]])),
        ("input", json!([{ "image": "x" }])),
        ("input", json!(vec!["a"; 1001])),
        ("dimensions", json!(0)),
        ("dimensions", json!(1_000_000)),
        ("encoding_format", json!("hex")),
        ("pooling", json!(3)),
    ] {
        let mut body = json!({ "input": "a" });
        body[field] = value;
        let error = post(server.address, PATH, &body).is_refusal(400, "");
        assert_eq!(error["param"], field);
    }
    let long = json!({ "input": "word ".repeat(2000) });
    post(server.address, PATH, &long).is_refusal(400, "the context holds");
}

#[test]
fn points_are_those_of_transformers() {
    let server = simple(Kind::Parrot);
    let expected =
        std::fs::read_to_string(repository("testdata/embeddings/expected.json")).unwrap();
    let expected: Vec<Value> = serde_json::from_str(&expected).unwrap();
    let inputs: Vec<&Value> = expected.iter().map(|row| &row["ids"]).collect();
    for pooling in ["mean", "last"] {
        let body = json!({ "input": inputs, "pooling": pooling });
        let answer = post(server.address, PATH, &body).json();
        assert_eq!(answer["pooling"], pooling);
        for (point, row) in vectors(&answer).iter().zip(&expected) {
            let state = row[pooling].as_array().unwrap();
            let state: Vec<f64> = state.iter().map(|x| x.as_f64().unwrap()).collect();
            let cosine = dot(point, &state) / dot(&state, &state).sqrt();
            assert!(cosine > 0.9999, "{pooling} {}: {cosine}", row["ids"]);
        }
    }
}
