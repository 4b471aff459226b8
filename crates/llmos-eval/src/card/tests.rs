//! Cards of made-up answers whose figures are known.

use super::*;
use crate::conversation::{Answer, Expect, Row, ToolCall};
use serde_json::json;

fn row(id: &str, skill: &str, tool: Option<&str>) -> Row {
    let is_arithmetic = tool == Some("calculator");
    Row {
        id: id.into(),
        language: if id.contains("-zh-") { "zh".into() } else { "en".into() },
        skill: skill.into(),
        messages: vec![json!({"role": "user", "content": "?"})],
        expect: Expect {
            tool: tool.map(String::from),
            result: is_arithmetic.then(|| "84".into()),
            answer_any: vec![if is_arithmetic { "84".into() } else { "yes".into() }],
            answer_none: vec![],
        },
    }
}

fn answered(row: &Row, answer: &str, tools: &[(&str, &str)]) -> Answered {
    let call = |&(name, result): &(&str, &str)| ToolCall {
        name: name.into(),
        arguments: json!({}),
        result: result.into(),
    };
    let tool_calls = tools.iter().map(call).collect();
    Answered {
        row: row.clone(),
        answer: Answer { answer: answer.into(), tool_calls, ..Answer::default() },
    }
}

/// Twenty sums and ten questions in either language; the model is right in the first `sums` and
/// `questions` of each.
pub(crate) fn subject(name: &str, sums: usize, questions: usize) -> Subject {
    let mut subject = Subject { name: name.into(), ..Subject::default() };
    for language in ["en", "zh"] {
        for at in 0..20 {
            let row = row(&format!("hand-{language}-sum-{at}"), "arithmetic", Some("calculator"));
            subject.answers.push(match at < sums {
                true => answered(&row, "It is 84.", &[("calculator", "84")]),
                false => answered(&row, "It is 84.", &[("calculator", "48")]),
            });
            subject.without_tools.push(answered(&row, if at < 5 { "84" } else { "85" }, &[]));
        }
        for at in 0..10 {
            let row = row(&format!("gen-test-{language}-identity-{at}"), "identity", None);
            let answer = if at < questions { "Yes." } else { "No." };
            let tools: &[_] = if at == 9 { &[("clock", "10:39")] } else { &[] };
            subject.answers.push(answered(&row, answer, tools));
        }
    }
    let part =
        |at: usize| Part { bits: 1000.0 - sums as f64 + at as f64, bytes: 1200, characters: 1000 };
    subject.texts.insert(Text::Stories, (0..40).map(part).collect());
    subject
}

#[test]
fn a_card_has_what_was_measured_and_nothing_else() {
    let subjects =
        [subject("base", 2, 1), subject("finetuned", 19, 9), subject("preferred", 20, 9)];
    let baselines = [Baseline {
        name: "5-gram".into(),
        text: Text::Stories,
        parts: vec![Part { bits: 2000.0, bytes: 1200, characters: 1000 }; 40],
        learnt: 7000,
    }];
    let card = Card::new(&subjects, &baselines, 1);
    let keys: Vec<&str> = card.measures.iter().map(|measure| measure.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "stories/bits-per-character",
            "stories/bits-per-byte",
            "generated/routing",
            "generated/identity",
            "hand/routing",
            "hand/arithmetic",
            "hand/arithmetic-alone",
        ]
    );
    let shares = |key: &str| -> Vec<(usize, usize)> {
        let cells = &card.measure(key).unwrap().cells;
        cells.iter().map(|cell| (cell.right.unwrap(), cell.count)).collect()
    };
    assert_eq!(shares("hand/arithmetic"), [(4, 40), (38, 40), (40, 40)]);
    assert_eq!(shares("hand/arithmetic-alone"), [(10, 40); 3]);
    assert_eq!(shares("hand/routing"), [(40, 40); 3]);
    assert_eq!(shares("generated/routing"), [(18, 20); 3]);
    assert_eq!(shares("generated/identity"), [(2, 20), (18, 20), (18, 20)]);
    let arithmetic = card.measure("hand/arithmetic").unwrap();
    assert_eq!(
        (arithmetic.bar, arithmetic.reaches(0.85), arithmetic.reaches(0.84)),
        (Some(0.85), Some(true), Some(false))
    );
    assert_eq!(arithmetic.cells[0].languages["zh"].count, 20);
    let change = &arithmetic.comparisons;
    assert_eq!(
        (change.len(), change[2].from.as_str(), change[2].to.as_str()),
        (3, "base", "preferred")
    );
    assert!((change[2].estimate.value - 0.9).abs() < 1e-12 && change[2].p.unwrap() < 1e-9);
    assert!(change[1].p.unwrap() > 0.4 && change[1].estimate.low >= 0.0);
    let stories = card.measure("stories/bits-per-character").unwrap();
    assert!((stories.cells[0].estimate.value - 1.0175).abs() < 1e-12);
    assert_eq!((stories.baselines[0].estimate.value, stories.reaches(0.95)), (2.0, Some(true)));
    // Paired, the difference is known far better than either figure.
    let change = stories.comparisons[0].estimate;
    assert!((change.value + 0.017).abs() < 1e-12 && change.high - change.low < 1e-12, "{change:?}");
    let again: Card = serde_json::from_str(&serde_json::to_string(&card).unwrap()).unwrap();
    assert_eq!(again, card);
    assert_eq!(
        card.sets.iter().map(|set| set.name.as_str()).collect::<Vec<_>>(),
        ["stories", "stories-baseline", "generated", "hand"]
    );
}

#[test]
fn models_that_were_measured_on_different_things_are_compared_on_what_both_have() {
    let (mut first, mut second) = (subject("a", 10, 5), subject("b", 10, 5));
    first.answers.retain(|answered| !answered.row.id.starts_with("gen-"));
    first.texts.clear();
    first.without_tools.clear();
    second.answers.retain(|answered| answered.row.language == "en");
    let card = Card::new(&[first, second], &[], 1);
    let arithmetic = card.measure("hand/arithmetic").unwrap();
    assert_eq!(arithmetic.comparisons[0].count, 20);
    assert!(arithmetic.cells[1].languages.is_empty());
    let identity = card.measure("generated/identity").unwrap();
    assert_eq!((identity.cells.len(), identity.comparisons.len()), (1, 0));
    assert!(card.measure("hand/arithmetic-alone").unwrap().comparisons.is_empty());
    assert!(Card::new(&[Subject::default()], &[], 1).measures.is_empty());
}
