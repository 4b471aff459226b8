//! What is measured, the bars that a finished assistant must reach, and how figures come of answers
//! and bits.

use std::collections::BTreeMap;

use super::{Baseline, Cell, Comparison, Measure, Share, Subject, Text, Unit};
use crate::bits::Part;
use crate::conversation::{Answered, Row, Set};
use crate::grade::{Grade, grade};
use crate::interval;

/// What of answers is measured.
#[derive(Clone, Copy)]
enum Question {
    /// Whether the right tool is called, or none, in every row.
    Routing,
    /// Whether the calculator gave the result and the answer says it.
    Calculator,
    /// Whether the answer says the result when there is no calculator.
    Head,
    /// Whether the answer to rows of a skill says what it should.
    Skill(&'static str),
}

/// Name, title, bars of the generated and of the hand-written set, and what is asked.
const QUESTIONS: [(&str, &str, [Option<f64>; 2], Question); 11] = [
    ("routing", "Tool routing", [Some(0.95), Some(0.80)], Question::Routing),
    (
        "arithmetic",
        "Arithmetic with the calculator",
        [Some(0.97), Some(0.85)],
        Question::Calculator,
    ),
    ("arithmetic-alone", "Arithmetic without the calculator", [None, None], Question::Head),
    ("identity", "Says who it is", [Some(0.95), Some(0.85)], Question::Skill("identity")),
    ("limits", "Says what it does not know", [Some(0.95), Some(0.85)], Question::Skill("limits")),
    ("refusal", "Refuses what harms", [None, None], Question::Skill("refusal")),
    ("stories", "Answers about a story", [None, None], Question::Skill("stories")),
    ("spelling", "Spells, counts, orders", [None, None], Question::Skill("spelling")),
    ("translation", "Translates", [None, None], Question::Skill("translation")),
    ("routed", "Answers beside routing", [None, None], Question::Skill("routing")),
    ("small-talk", "Small talk", [None, None], Question::Skill("small-talk")),
];

/// Most bits a character of English stories, and what is aimed at.
const STORIES: (f64, f64) = (0.95, 0.80);

/// All measures that any model has a figure of.
pub(super) fn all(subjects: &[Subject], baselines: &[Baseline], seed: u64) -> Vec<Measure> {
    let mut measures = Vec::new();
    for text in Text::ALL {
        for unit in [Unit::BitsPerCharacter, Unit::BitsPerByte] {
            measures.push(of_text(subjects, baselines, text, unit, seed));
        }
    }
    for (at, set) in Set::ALL.into_iter().enumerate() {
        for (name, title, bars, question) in QUESTIONS {
            let marks: Vec<Marks> =
                subjects.iter().map(|subject| marks(subject, set, question)).collect();
            measures.push(Measure {
                key: format!("{}/{name}", set.name()),
                title: title.to_string(),
                unit: Unit::Share,
                bar: bars[at],
                aim: None,
                cells: subjects.iter().zip(&marks).filter_map(|(s, m)| m.cell(&s.name)).collect(),
                baselines: Vec::new(),
                comparisons: compared(subjects, |from, to| {
                    let both: Vec<[bool; 2]> = marks[from].beside(&marks[to]);
                    let estimate = interval::difference_of_shares(&both, seed)?;
                    let of = |change: [bool; 2]| both.iter().filter(|&&row| row == change).count();
                    let p = interval::mcnemar(of([false, true]), of([true, false]));
                    Some((estimate, both.len(), Some(p)))
                }),
            });
        }
    }
    measures.retain(|measure| !measure.cells.is_empty());
    measures
}

/// Each model beside the one before it, and the last beside the first.
fn compared(
    subjects: &[Subject],
    compare: impl Fn(usize, usize) -> Option<(interval::Estimate, usize, Option<f64>)>,
) -> Vec<Comparison> {
    let n = subjects.len();
    let mut pairs: Vec<(usize, usize)> = (1..n).map(|to| (to - 1, to)).collect();
    if n > 2 {
        pairs.push((0, n - 1));
    }
    let of = |(from, to): (usize, usize)| {
        let (estimate, count, p) = compare(from, to)?;
        let name = |at: usize| subjects[at].name.clone();
        Some(Comparison { from: name(from), to: name(to), estimate, count, p })
    };
    pairs.into_iter().filter_map(of).collect()
}

fn of_text(
    subjects: &[Subject],
    baselines: &[Baseline],
    text: Text,
    unit: Unit,
    seed: u64,
) -> Measure {
    let under = |part: &Part| match unit {
        Unit::BitsPerByte => part.bytes as f64,
        _ => part.characters as f64,
    };
    let ratios = |parts: &[Part]| -> Vec<(f64, f64)> {
        parts.iter().map(|part| (part.bits, under(part))).collect()
    };
    let cell = |name: &str, parts: &[Part]| {
        let estimate = interval::ratio(&ratios(parts), seed)?;
        let name = name.to_string();
        let languages = BTreeMap::new();
        Some(Cell { name, estimate, count: parts.len(), right: None, languages })
    };
    let (language, what) = match text {
        Text::Stories => ("English", "stories"),
        Text::Chinese => ("Chinese", "chinese"),
    };
    let (key, each) = match unit {
        Unit::BitsPerByte => ("bits-per-byte", "byte"),
        _ => ("bits-per-character", "character"),
    };
    let has_bar = text == Text::Stories && unit == Unit::BitsPerCharacter;
    let of = |subject: &Subject| subject.texts.get(&text).cloned().unwrap_or_default();
    Measure {
        key: format!("{what}/{key}"),
        title: format!("{language} stories, bits a {each}"),
        unit,
        bar: has_bar.then_some(STORIES.0),
        aim: has_bar.then_some(STORIES.1),
        cells: subjects.iter().filter_map(|subject| cell(&subject.name, &of(subject))).collect(),
        baselines: baselines
            .iter()
            .filter(|baseline| baseline.text == text)
            .filter_map(|baseline| cell(&baseline.name, &baseline.parts))
            .collect(),
        comparisons: compared(subjects, |from, to| {
            let (from, to) = (of(&subjects[from]), of(&subjects[to]));
            let is_same = from.len() == to.len()
                && from.iter().zip(&to).all(|(from, to)| from.bytes == to.bytes);
            let pairs = ratios(&to).into_iter().zip(ratios(&from)).map(|(to, from)| [to, from]);
            let pairs: Vec<_> = pairs.filter(|_| is_same).collect();
            Some((interval::difference_of_ratios(&pairs, seed)?, pairs.len(), None))
        }),
    }
}

/// Right or wrong by a row's id, with the row's language.
struct Marks<'a>(BTreeMap<&'a str, (&'a str, bool)>);

fn marks<'a>(subject: &'a Subject, set: Set, question: Question) -> Marks<'a> {
    let answers: &[Answered] = match question {
        Question::Head => &subject.without_tools,
        _ => &subject.answers,
    };
    let of = |Answered { row, answer }: &'a Answered| {
        let grade = grade(&row.expect, answer);
        Some((row.id.as_str(), (row.language.as_str(), mark(row, grade, question)?)))
    };
    Marks(answers.iter().filter(|answered| answered.row.set() == set).filter_map(of).collect())
}

/// Whether an answer is right; none where the question is not about its row.
fn mark(row: &Row, grade: Grade, question: Question) -> Option<bool> {
    match question {
        Question::Routing => Some(grade.routing),
        Question::Calculator if row.is_sum() => {
            Some(grade.result == Some(true) && grade.answer != Some(false))
        }
        Question::Head if row.is_sum() => grade.answer,
        Question::Calculator | Question::Head => None,
        Question::Skill(skill) => grade.answer.filter(|_| row.skill() == skill),
    }
}

impl Marks<'_> {
    fn share(&self, language: Option<&str>) -> Option<Share> {
        let of = self.0.values().filter(|(of, _)| language.is_none_or(|language| *of == language));
        let (count, right) =
            of.fold((0, 0), |(count, right), (_, mark)| (count + 1, right + usize::from(*mark)));
        Some(Share { estimate: interval::share(right, count)?, count, right })
    }

    fn cell(&self, name: &str) -> Option<Cell> {
        let Share { estimate, count, right } = self.share(None)?;
        let mut languages: Vec<&str> = self.0.values().map(|(language, _)| *language).collect();
        languages.sort_unstable();
        languages.dedup();
        let of = |language: &&str| Some((language.to_string(), self.share(Some(language))?));
        let languages = languages.iter().filter(|_| languages.len() > 1).filter_map(of).collect();
        Some(Cell { name: name.to_string(), estimate, count, right: Some(right), languages })
    }

    /// The marks of both on the rows that both have.
    fn beside(&self, other: &Marks<'_>) -> Vec<[bool; 2]> {
        let both = self.0.iter().filter_map(|(id, (_, own))| Some([*own, other.0.get(id)?.1]));
        both.collect()
    }
}
