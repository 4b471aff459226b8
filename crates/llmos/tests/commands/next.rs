//! `next`: tokens and words with probabilities.

use crate::program::{llmos, stories};
use serde_json::Value;

fn next(more: &[&str]) -> Value {
    let given = ["next", &stories(), "-p", "Once upon a time, there was a", "--json"];
    llmos(&[&given[..], more].concat()).json()
}

#[test]
fn the_table_is_a_distribution_in_order() {
    let report = next(&["--top", "512"]);
    assert_eq!(report["prompt_tokens"], 9);
    let rows = report["next"].as_array().unwrap();
    assert_eq!(rows.len(), 512);
    let probabilities: Vec<f64> =
        rows.iter().map(|row| row["probability"].as_f64().unwrap()).collect();
    assert!(probabilities.is_sorted_by(|a, b| a >= b));
    assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6);
    assert_eq!((&rows[0]["id"], &rows[0]["text"]), (&376.into(), &" little".into()));
}

#[test]
fn top_says_how_many() {
    assert_eq!(next(&["--top", "3"])["next"].as_array().unwrap().len(), 3);
    assert_eq!(next(&[])["next"].as_array().unwrap().len(), 20);
}

#[test]
fn probabilities_agree_with_score() {
    let report = next(&["--top", "512"]);
    let scored = llmos(&[
        "score",
        &stories(),
        "--json",
        "--each",
        "--ids",
        "1 403 407 261 378 432 383 286 261 376",
    ])
    .json();
    let logprob = scored["each"][9]["logprob"].as_f64().unwrap();
    let probability = report["next"][0]["probability"].as_f64().unwrap();
    assert!((logprob - probability.ln()).abs() < 1e-3, "{logprob} {probability}");
}

#[test]
fn whole_words_add_up_to_their_first_tokens() {
    let words = next(&["--words", "--top", "5"]);
    let rows = words["next"].as_array().unwrap();
    let text: Vec<&str> = rows.iter().map(|row| row["text"].as_str().unwrap()).collect();
    assert_eq!(text[..3], [" little", " big", " boy"]);
    assert_eq!(words["exact"], true);
    // " little" is one token here; as a word it is as likely as that token and no likelier.
    let tokens = next(&["--top", "1"]);
    let token = tokens["next"][0]["probability"].as_f64().unwrap();
    let word = rows[0]["probability"].as_f64().unwrap();
    assert!(word <= token + 1e-6 && word > 0.99 * token, "{word} {token}");
    let known: f64 = rows.iter().map(|row| row["probability"].as_f64().unwrap()).sum();
    assert!(known <= 1.0);
}

#[test]
fn a_word_of_several_tokens_is_at_most_as_likely_as_its_tokens_together() {
    let words = next(&["--words", "--top", "8"]);
    let rows = words["next"].as_array().unwrap();
    let boy = rows.iter().find(|row| row["text"] == " boy").unwrap();
    let ids = boy["ids"].as_array().unwrap();
    assert!(ids.len() > 1, "{ids:?}");
    let mut all = "1 403 407 261 378 432 383 286 261".to_string();
    ids.iter().for_each(|id| all += &format!(" {id}"));
    let scored = llmos(&["score", &stories(), "--json", "--each", "--ids", &all]).json();
    let each = scored["each"].as_array().unwrap();
    let together: f64 = each[9..].iter().map(|each| each["logprob"].as_f64().unwrap()).sum();
    let word = boy["probability"].as_f64().unwrap();
    // After " boy" a new word nearly always begins.
    assert!(word <= together.exp() + 1e-3 && word > 0.9 * together.exp(), "{word} {together}");
}

#[test]
fn the_table_has_bars_for_people() {
    let text = llmos(&["next", &stories(), "-p", "Once upon a", "--top", "2"]).text();
    assert!(text.contains('█') && text.contains("·time") && text.contains(" %"), "{text}");
    assert!(!text.contains('\x1b'), "colours only in a terminal");
}
