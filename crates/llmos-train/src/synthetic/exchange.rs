//! One question, the tools that it takes, and the answer.

use super::Split;
use super::book::{Declaration, Topic};
use llmos_agent::calculator;

use super::clock::Moment;
use super::draw::Draw;
use super::number::grouped;
use super::row::{Arguments, Expect, Function, Message, Tool, ToolCall};
use super::template::Scope;

/// What a person says and what comes of it.
pub(super) struct Exchange {
    pub(super) user: String,
    /// In their order, with what they answer.
    pub(super) calls: Vec<Call>,
    pub(super) answer: String,
    pub(super) expect: Expect,
    /// The topic, for what refers back to it.
    pub(super) topic: &'static str,
}

/// A tool that is called.
pub(super) struct Call {
    tool: Tool,
    expression: Option<String>,
    result: String,
}

impl Call {
    fn calculator(expression: String) -> Call {
        let result = calculator::reply(&expression);
        Call { tool: Tool::Calculator, expression: Some(expression), result }
    }
}

impl Exchange {
    /// A question that is answered without a tool.
    pub(super) fn plain(user: String, answer: String, answer_any: Vec<String>) -> Exchange {
        let expect = Expect { tool: None, result: None, answer_any, answer_none: Vec::new() };
        Exchange { user, calls: Vec::new(), answer, expect, topic: "" }
    }

    /// The whole number that was computed, for questions that go on with it.
    pub(super) fn whole_result(&self) -> Option<&str> {
        let result = &self.calls.last().filter(|call| call.tool == Tool::Calculator)?.result;
        let is_whole = result.len() <= 7 && result.bytes().all(|byte| byte.is_ascii_digit());
        is_whole.then_some(result)
    }

    /// Its turns.
    pub(super) fn messages(self, messages: &mut Vec<Message>) {
        messages.push(Message::text("user", self.user));
        for Call { tool, expression, result } in self.calls {
            let (name, arguments) = (tool.name(), Arguments { expression });
            let function = Function { name, arguments };
            let tool_calls = vec![ToolCall { kind: "function", function }];
            messages.push(Message { tool_calls, ..Message::text("assistant", "") });
            messages.push(Message { name: Some(name), ..Message::text("tool", result) });
        }
        messages.push(Message::text("assistant", self.answer));
    }
}

/// A question of a topic, in the words of the scope's split.
pub(super) fn play(topic: &Topic, scope: &mut Scope<'_>, draw: &mut Draw) -> Exchange {
    let moment = declare(&topic.declarations, scope, draw);
    let question = draw.pick(&topic.questions[scope.split as usize]);
    let user = scope.expand(question, draw);
    let mut calls: Vec<Call> = Vec::new();
    calls.extend(moment.map(|moment| Call {
        tool: Tool::Clock,
        expression: None,
        result: moment.reply(),
    }));
    if let Some(expression) = topic.call {
        let call = Call::calculator(scope.expand(expression, draw));
        scope.bind("r", call.result.clone());
        calls.push(call);
    }
    let answer = scope.expand(draw.pick(&topic.answers), draw);
    let mut answer_any: Vec<String> = topic.any.iter().map(|any| scope.expand(any, draw)).collect();
    if let (true, Some(r)) = (answer_any.is_empty() && topic.call.is_some(), scope.get("r")) {
        answer_any = vec![r.text.clone(), grouped(&r.text)];
    }
    answer_any.dedup();
    let answer_none = topic.none.iter().map(|none| scope.expand(none, draw)).collect();
    let first = calls.first();
    let expect = Expect {
        tool: first.map(|call| call.tool.name()),
        result: first.map(|call| call.result.clone()),
        answer_any,
        answer_none,
    };
    Exchange { user, calls, answer, expect, topic: topic.name }
}

/// Binds what is declared; returns what the clock will say, if it is asked.
pub(super) fn declare(
    declarations: &[Declaration],
    scope: &mut Scope<'_>,
    draw: &mut Draw,
) -> Option<Moment> {
    let mut moment = None;
    for declaration in declarations {
        match *declaration {
            Declaration::Number { name, low, high, step, decimals, unlike } => {
                let mut text = String::new();
                for _ in 0..12 {
                    let number = step * draw.number(low.div_euclid(step), high / step, scope.split);
                    text = with_point(number, decimals);
                    let same = unlike.and_then(|other| scope.get(other));
                    if same.is_none_or(|value| value.text != text) {
                        break;
                    }
                }
                scope.bind(name, text);
            }
            Declaration::Computed { name, expression } => {
                let expression = scope.expand(expression, draw);
                scope.bind(name, calculator::reply(&expression));
            }
            Declaration::Let { name, template } => {
                let text = scope.expand(template, draw);
                scope.bind(name, text);
            }
            Declaration::Pick { name, low, high, list } => {
                let n = low + draw.below(high - low + 1);
                let mut words: Vec<String> = Vec::with_capacity(n);
                while words.len() < n {
                    let word = scope.word(list, draw).text;
                    if !words.contains(&word) {
                        words.push(word);
                    }
                }
                bind_items(name, &words, scope);
                words.sort();
                scope.bind(&format!("{name}_sorted"), joined(&words, scope.is_chinese));
            }
            Declaration::Numbers { name, low, high, range } => {
                let n = low + draw.below(high - low + 1);
                let mut numbers: Vec<i64> = Vec::with_capacity(n);
                while numbers.len() < n {
                    let number = draw.number(range.0, range.1, scope.split);
                    if !numbers.contains(&number) {
                        numbers.push(number);
                    }
                }
                let texts = |numbers: &[i64]| -> Vec<String> {
                    numbers.iter().map(i64::to_string).collect()
                };
                bind_items(name, &texts(&numbers), scope);
                numbers.sort_unstable();
                scope.bind(&format!("{name}_up"), joined(&texts(&numbers), scope.is_chinese));
                scope.bind("least", numbers[0].to_string());
                scope.bind("most", numbers[n - 1].to_string());
                numbers.reverse();
                scope.bind(&format!("{name}_down"), joined(&texts(&numbers), scope.is_chinese));
            }
            Declaration::Occurrences { name, template } => {
                let text = scope.expand(template, draw);
                let (text, letter) = text.rsplit_once(' ').unwrap_or((&text, ""));
                let count = text.matches(letter).count();
                scope.bind(
                    name,
                    match (scope.is_chinese, count) {
                        (true, _) => count.to_string(),
                        (false, 1) => "1 time".to_string(),
                        (false, _) => format!("{count} times"),
                    },
                );
            }
            Declaration::Sequence => {
                let (sequence, next) = sequence(draw, scope.split);
                scope.bind("sequence", joined(&sequence, scope.is_chinese));
                scope.bind("next", next);
            }
            Declaration::Clock { hours } => {
                let drawn = scope.moment.unwrap_or_else(|| Moment::draw(hours, draw));
                scope.moment = Some(drawn);
                for (name, text) in drawn.words(scope.is_chinese) {
                    scope.bind(name, text);
                }
                moment = Some(drawn);
            }
        }
    }
    moment
}

fn bind_items(name: &str, words: &[String], scope: &mut Scope<'_>) {
    scope.bind(name, joined(words, scope.is_chinese));
    scope.bind(&format!("{name}_count"), words.len().to_string());
    scope.bind(&format!("{name}_first"), words[0].clone());
    scope.bind(&format!("{name}_last"), words[words.len() - 1].clone());
}

fn joined(words: &[String], is_chinese: bool) -> String {
    words.join(if is_chinese { "、" } else { ", " })
}

/// A whole number in units of ten to the minus `decimals`, with its point.
fn with_point(number: i64, decimals: u32) -> String {
    match decimals {
        0 => number.to_string(),
        _ => {
            let unit = 10i64.pow(decimals);
            format!("{}.{:0width$}", number / unit, number % unit, width = decimals as usize)
        }
    }
}

/// Three to five numbers of an even row, and the one that follows.
fn sequence(draw: &mut Draw, split: Split) -> (Vec<String>, String) {
    let n = 3 + draw.below(3) as i64;
    let step = 1 + draw.below(10) as i64;
    let start = draw.number(1, 60, split);
    let term = |at: i64| match step {
        // Down to what is not below zero, where it goes that far.
        1..=3 if start >= step * n => start - step * at,
        _ => start + step * at,
    };
    ((0..n).map(|at| term(at).to_string()).collect(), term(n).to_string())
}
