//! Stories: plots with gaps, told or asked about.

use super::book::Plot;
use super::draw::Draw;
use super::exchange::{Exchange, declare};
use super::template::Scope;

/// A story in the question and something that is asked about it, or a story as the answer; some go
/// on with a second question about the same story.
pub(super) fn play(scope: &mut Scope<'_>, draw: &mut Draw) -> Vec<Exchange> {
    let split = scope.split;
    let plots: Vec<&Plot> = scope.book.plots.iter().filter(|plot| plot.split == split).collect();
    let plot = draw.pick(&plots);
    bind_hero(scope, draw);
    declare(&plot.declarations, scope, draw);
    let mut sentences: Vec<String> =
        plot.sentences.iter().map(|sentence| scope.expand(sentence, draw)).collect();
    // A sentence may be left out by having nothing as one of its choices.
    sentences.retain(|sentence| !sentence.is_empty());
    let story = sentences.join(if scope.is_chinese { "" } else { " " });
    scope.bind("story", story.clone());
    let is_told = draw.chance(35);
    let mut exchanges = Vec::new();
    if is_told {
        let wish = draw.pick(scope.list("wish"));
        let user = scope.expand(wish, draw);
        let graded = scope.expand("{graded}", draw);
        let graded = graded.split('|').map(String::from).collect();
        exchanges.push(Exchange::plain(user, story, graded));
    }
    if !is_told || draw.chance(30) {
        let at = draw.below(plot.questions.len());
        let is_asked_twice = !is_told && draw.chance(25);
        exchanges.push(ask(plot, at, is_told, scope, draw));
        if is_asked_twice {
            let next = (at + 1) % plot.questions.len();
            exchanges.push(ask(plot, next, true, scope, draw));
        }
    }
    exchanges
}

/// A question about the story, which comes with it unless it was told.
fn ask(plot: &Plot, at: usize, is_told: bool, scope: &mut Scope<'_>, draw: &mut Draw) -> Exchange {
    let [question, answer, any] = plot.questions[at].map(|template| scope.expand(template, draw));
    let user = if is_told {
        question
    } else {
        scope.bind("question", question);
        let frame = draw.pick(scope.list("frame"));
        scope.expand(frame, draw).replace("\\n", "\n")
    };
    let any = any.split('|').map(String::from).collect();
    Exchange { topic: plot.name, ..Exchange::plain(user, answer, any) }
}

/// A child and a friend of it, with their pronouns.
fn bind_hero(scope: &mut Scope<'_>, draw: &mut Draw) {
    for prefix in ["", "friend_"] {
        let is_girl = draw.chance(50);
        let name = scope.word(if is_girl { "girls" } else { "boys" }, draw);
        let pronouns: [(&str, &str); 5] = match (scope.is_chinese, is_girl) {
            (false, true) => [
                ("she", "she"),
                ("her", "her"),
                ("him", "her"),
                ("herself", "herself"),
                ("child", "girl"),
            ],
            (false, false) => [
                ("she", "he"),
                ("her", "his"),
                ("him", "him"),
                ("herself", "himself"),
                ("child", "boy"),
            ],
            (true, true) => [
                ("she", "她"),
                ("her", "她的"),
                ("him", "她"),
                ("herself", "她自己"),
                ("child", "小女孩"),
            ],
            (true, false) => [
                ("she", "他"),
                ("her", "他的"),
                ("him", "他"),
                ("herself", "他自己"),
                ("child", "小男孩"),
            ],
        };
        scope.bind_value(if prefix.is_empty() { "name" } else { "friend" }, name);
        for (form, pronoun) in pronouns {
            scope.bind(&format!("{prefix}{form}"), pronoun);
        }
    }
}
