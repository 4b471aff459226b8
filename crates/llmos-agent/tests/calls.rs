//! Calls as the chat templates of other models write them, rendered by transformers:
//! testdata/agent/make.py.
#![allow(clippy::unwrap_used, reason = "a test's own files must be there")]

use llmos_agent::{Call, CallFormat, Piece, Reader, tool};
use llmos_model::grammar::{GrammarSource, GrammarVocabulary};
use serde_json::Value;

struct Case {
    format: CallFormat,
    /// What the assistant writes, up to its end token.
    text: String,
    calls: Vec<Call>,
}

fn cases() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/agent/calls.json");
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let case = |case: &Value| {
        let format = match case["template"].as_str().unwrap() {
            name if name.starts_with("Llama") => CallFormat::Bare,
            name if name.starts_with("Mistral") => CallFormat::List,
            _ => CallFormat::Tags,
        };
        let text = case["text"].as_str().unwrap().trim_end();
        let end = ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "</s>"]
            .iter()
            .find_map(|end| text.strip_suffix(end));
        let calls = case["calls"].as_array().unwrap().iter().map(|call| Call {
            name: call["function"]["name"].as_str().unwrap().to_string(),
            arguments: call["function"]["arguments"].clone(),
        });
        Case { format, text: end.unwrap_or(text).to_string(), calls: calls.collect() }
    };
    cases.iter().map(case).collect()
}

fn reader(format: CallFormat) -> Reader {
    Reader::new(Some(format), vec!["calculator".into(), "clock".into()], false)
}

#[test]
fn calls_of_other_models_are_read() {
    let cases = cases();
    assert!(cases.len() >= 20, "{}", cases.len());
    for case in cases {
        let mut reader = reader(case.format);
        let mut pieces: Vec<Piece> =
            case.text.chars().flat_map(|c| reader.push(&c.to_string())).collect();
        pieces.extend(reader.finish());
        let calls: Vec<Call> = pieces
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Call(call) => Some(call),
                Piece::Begun => None,
                said => panic!("{said:?} of {}", case.text),
            })
            .collect();
        assert_eq!(calls, case.calls, "{}", case.text);
    }
}

#[test]
fn the_grammar_allows_what_other_models_write() {
    // A vocabulary of bytes.
    let mut bytes: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    bytes.push(Vec::new());
    let vocabulary = GrammarVocabulary::new(&bytes, 256).unwrap();
    let tools = [tool::calculator(), tool::clock(|| 0)];
    for case in cases() {
        let source = case.format.grammar(&tools, false);
        let grammar = vocabulary.compile(&GrammarSource::Lark(&source)).unwrap();
        let mut reader = reader(case.format);
        let mut held: Option<llmos_model::grammar::Grammar> = None;
        let mut n_held = 0;
        // From where each call opens.
        let mut rest = case.text.as_str();
        while !rest.is_empty() {
            let first = rest.chars().next().map_or(0, char::len_utf8);
            let (next, after) = rest.split_at(first);
            reader.push(next);
            rest = after;
            match (&mut held, reader.open_call()) {
                (Some(grammar), _) => {
                    for byte in next.bytes() {
                        grammar.commit(u32::from(byte)).unwrap_or_else(|error| {
                            panic!("{error}: {next:?} before {rest:?} of {}", case.text)
                        });
                    }
                    if grammar.is_complete() {
                        held = None;
                    }
                }
                (None, Some(written)) if n_held == 0 || case.format == CallFormat::Tags => {
                    let mut begun = grammar.clone();
                    for byte in written.bytes() {
                        begun.commit(u32::from(byte)).unwrap();
                    }
                    held = Some(begun);
                    n_held += 1;
                }
                _ => {}
            }
        }
        let complete = held.is_none_or(|mut grammar| grammar.may_end().unwrap());
        assert!(complete && n_held > 0, "{}", case.text);
    }
}
