//! Translation: pairs of sentences with the same gaps, filled from a lexicon of both languages.
//!
//! The lexicon is in both splits, since nobody can know a word that was never met; sentences and
//! requests differ. Its entries are `English/Chinese`, then a measure word and an irregular plural.

use super::book::Pairs;
use super::draw::Draw;
use super::exchange::{Exchange, declare};
use super::template::{Scope, Value};

/// A sentence to translate; some go on with a second one.
pub(super) fn play(scope: &mut Scope<'_>, draw: &mut Draw) -> Vec<Exchange> {
    let is_to_chinese = draw.chance(50);
    let (request, next) = match is_to_chinese {
        true => ("to_chinese", "more_chinese"),
        false => ("to_english", "more_english"),
    };
    let mut exchanges = vec![translate(request, is_to_chinese, scope, draw)];
    if draw.chance(20) {
        exchanges.push(translate(next, is_to_chinese, scope, draw));
    }
    exchanges
}

fn translate(request: &str, is_to_chinese: bool, scope: &Scope<'_>, draw: &mut Draw) -> Exchange {
    let (english, chinese) = sentences(scope, draw);
    let (source, mut targets) =
        if is_to_chinese { (english, chinese) } else { (chinese[0].clone(), vec![english]) };
    let mut scope = scope.clone();
    // In the middle of a request a sentence stands without its full stop, as people write it.
    let stop = source.strip_suffix(['.', '。']).filter(|_| draw.chance(40));
    scope.bind("sentence", stop.unwrap_or(&source));
    let request = draw.pick(scope.list(request));
    let user = scope.expand(request, draw).replace("\\n", "\n");
    let answer = targets[0].clone();
    for target in &mut targets {
        *target = target.trim_end_matches(['.', '。', '?', '？', '!', '！']).to_string();
    }
    if !is_to_chinese {
        targets.extend(english_variants(&targets[0]));
    }
    Exchange::plain(user, answer, targets)
}

/// Other good English sentences: Chinese tells older from younger brothers and sisters where English
/// need not, and English has short forms.
fn english_variants(sentence: &str) -> Vec<String> {
    const OTHER: [(&str, &str); 7] = [
        ("older ", ""),
        ("younger ", ""),
        ("y sister", "y older sister"),
        ("y brother", "y older brother"),
        ("oes not", "oesn't"),
        ("o not", "on't"),
        ("t is", "t's"),
    ];
    let fitting = OTHER.iter().filter(|(usual, _)| sentence.contains(usual));
    fitting.map(|(usual, other)| sentence.replace(usual, other)).collect()
}

/// A sentence in English, and in Chinese in the ways that are good.
fn sentences(scope: &Scope<'_>, draw: &mut Draw) -> (String, Vec<String>) {
    let split = scope.split;
    let groups: Vec<&Pairs> =
        scope.book.pairs.iter().filter(|pairs| pairs.split == split).collect();
    let all: Vec<(&Pairs, usize)> = groups
        .into_iter()
        .flat_map(|pairs| (0..pairs.sentences.len()).map(move |at| (pairs, at)))
        .collect();
    let (pairs, at) = draw.pick(&all);
    let (english, chinese) = &pairs.sentences[at];
    let mut english_scope = Scope::new(scope.book, split, false);
    declare(&pairs.declarations, &mut english_scope, draw);
    let mut chinese_scope = english_scope.clone();
    chinese_scope.is_chinese = true;
    for name in names(english) {
        if english_scope.get(&name).is_some() {
            continue;
        }
        let list = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let Value { text, extra } = english_scope.word(list, draw);
        let mut fields = extra.split('/');
        let chinese = fields.next().unwrap_or_default().to_string();
        let measure = fields.next().unwrap_or_default().to_string();
        let plural = fields.next().unwrap_or_default().to_string();
        english_scope.bind_value(&name, Value { text, extra: plural });
        chinese_scope.bind_value(&name, Value { text: chinese, extra: measure });
    }
    let english = english_scope.expand(english, draw);
    let chinese = chinese.iter().map(|chinese| chinese_scope.expand(chinese, draw)).collect();
    (english, chinese)
}

/// The names in the gaps of a template, in their order.
fn names(template: &str) -> Vec<String> {
    let gaps = template.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    gaps.map(|gap| gap.rsplit(' ').next().unwrap_or_default().to_lowercase()).collect()
}
