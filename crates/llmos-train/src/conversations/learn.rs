//! From a conversation to token ids, and which of them are learnt: what the assistant says, its end
//! token included.

use std::ops::Range;

use llmos_agent::Guard;
use llmos_agent::messages::{role, shaped};
use llmos_tokenizer::chat::{Extra, render, render_marked};
use llmos_tokenizer::{Special, Tokenizer};
use serde_json::Value;

use super::Fault;
use super::form::{Conversation, SAME, pair};
use super::turns;

/// A row as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Whether each of them is learnt, from those before it.
    pub learnt: Vec<bool>,
}

impl Example {
    /// Tokens that are learnt. The first token of all is predicted from nothing, so never learnt.
    pub fn n_learnt(&self) -> usize {
        self.learnt_ids().count()
    }
}

impl Example {
    /// The ids that are learnt.
    pub(crate) fn learnt_ids(&self) -> impl Iterator<Item = u32> {
        let after_first = self.ids.iter().zip(&self.learnt).skip(1);
        after_first.filter(|(_, learnt)| **learnt).map(|(&id, _)| id)
    }

    /// This row's prompt with the other row's answer, cut to `most` tokens.
    pub(crate) fn answered_as(&self, other: &Example, most: usize) -> Example {
        let (own, theirs) = (self.prompt().len(), other.prompt().len());
        let mut ids = [&self.ids[..own], &other.ids[theirs..]].concat();
        let mut learnt = [&self.learnt[..own], &other.learnt[theirs..]].concat();
        ids.truncate(most);
        learnt.truncate(most);
        Example { ids, learnt }
    }

    /// What comes before the first that is learnt.
    pub(crate) fn prompt(&self) -> &[u32] {
        let end =
            self.learnt.iter().skip(1).position(|&learnt| learnt).map_or(self.ids.len(), |i| i + 1);
        &self.ids[..end]
    }
}

/// A model's words and manners.
pub struct Learner<'a> {
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// What of others' words is no control token.
    pub guard: Guard,
    /// Its chat template, where it has one.
    pub template: Option<&'a str>,
    /// What the template is given besides.
    pub extra: Extra,
    /// Tokens of a row at most.
    pub context: usize,
}

impl Learner<'_> {
    /// The tokens of a conversation.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn example(&self, conversation: &Conversation) -> Result<Example, Fault> {
        let example = match conversation {
            Conversation::Plain { prompt, completion } => self.plain(prompt, completion),
            Conversation::Messages { messages, tools, first } => {
                turns::check(messages)?;
                // As a chat writes them: what is learnt is what will be asked.
                let messages =
                    shaped(messages).map_err(|error| Fault::Broken(error.to_string()))?;
                let messages: Vec<Value> =
                    messages.iter().map(|message| self.guard.disarmed(message)).collect();
                let (text, learnt) = self.rendered(&messages, tools.as_ref(), *first)?;
                self.parts(&text, &learnt)
            }
        };
        if example.ids.len() > self.context {
            return Err(Fault::TooLong { tokens: example.ids.len(), most: self.context });
        }
        if example.n_learnt() == 0 {
            return Err(Fault::NothingLearnt);
        }
        Ok(example)
    }

    /// The better and the worse answer of a row of pairs, each with what comes before it.
    ///
    /// # Errors
    /// What is wrong with it; [`Fault::Broken`] also where both become the same tokens, as a text and
    /// a message of the same words do.
    pub fn pair(&self, row: &Value) -> Result<[Example; 2], Fault> {
        let (chosen, rejected) = pair(row)?;
        let both = [self.example(&chosen)?, self.example(&rejected)?];
        match both[0] == both[1] {
            true => Err(Fault::Broken(SAME.to_string())),
            false => Ok(both),
        }
    }

    /// A text whose second part is learnt, with the start that the vocabulary's rule asks for and an
    /// end token.
    fn plain(&self, prompt: &str, completion: &str) -> Example {
        let tokenizer = self.tokenizer;
        let text = format!("{prompt}{completion}");
        let completion = prompt.len()..text.len();
        let mut example = self.tokens(&text, std::slice::from_ref(&completion));
        let start = tokenizer.start_ids();
        if !example.ids.starts_with(start) {
            example.ids.splice(0..0, start.iter().copied());
            example.learnt.splice(0..0, start.iter().map(|_| false));
        }
        if let Some(end) = tokenizer.eos().filter(|end| example.ids.last() != Some(end)) {
            example.ids.push(end);
            example.learnt.push(true);
        }
        example
    }

    /// The conversation as the template writes it, and what is learnt of it, in bytes.
    fn rendered(
        &self,
        messages: &[Value],
        tools: Option<&Value>,
        first: usize,
    ) -> Result<(String, Vec<Range<usize>>), Fault> {
        let template = self.template.ok_or(Fault::NoTemplate)?;
        let broken = |error: llmos_tokenizer::Error| Fault::Template(error.to_string());
        let part = |end: usize| Value::Array(messages[..end].to_vec());
        let marked = render_marked(template, &part(messages.len()), tools, false, &self.extra)
            .map_err(broken)?;
        let text = marked.text;
        let prompt =
            |end: usize| render(template, &part(end), tools, true, &self.extra).map_err(broken);
        if let Some(mut learnt) = marked.generated {
            if first > 0 {
                let start = common(&text, &prompt(first)?);
                learnt.retain(|range| range.start >= start);
            }
            for (i, _) in messages.iter().enumerate().filter(|(_, m)| is_weightless(m)) {
                let whole = render(template, &part(i + 1), tools, false, &self.extra);
                let turn = common(&text, &prompt(i)?)..common(&text, &whole.map_err(broken)?);
                learnt.retain(|range| !turn.contains(&range.start));
            }
            return Ok((text, learnt));
        }
        let mut learnt = Vec::new();
        let is_learnt = |message: &Value| role(message) == "assistant" && !is_weightless(message);
        for (i, _) in messages.iter().enumerate().skip(first).filter(|(_, m)| is_learnt(m)) {
            let before = prompt(i)?;
            let Some(after) = text.strip_prefix(&before) else {
                let problem =
                    format!("the template writes what comes before message {} in two ways", i + 1);
                return Err(Fault::Template(problem));
            };
            learnt
                .push(before.len()..before.len() + self.turn(after, messages, tools, i, &before)?);
        }
        Ok((text, learnt))
    }

    /// Bytes of the turn that `after` begins with: up to its end token, or to where the template would
    /// go on.
    fn turn(
        &self,
        after: &str,
        messages: &[Value],
        tools: Option<&Value>,
        i: usize,
        before: &str,
    ) -> Result<usize, Fault> {
        let ends = self.tokenizer.end_ids().iter().filter_map(|&id| {
            let name = self.tokenizer.token_name(id);
            let at = if name.is_empty() { None } else { after.find(&name) }?;
            Some(at + name.len())
        });
        if let Some(end) = ends.min() {
            return Ok(end);
        }
        let template = self.template.unwrap_or_default();
        let part = Value::Array(messages[..=i].to_vec());
        let whole = render(template, &part, tools, false, &self.extra)
            .map_err(|error| Fault::Template(error.to_string()))?;
        Ok(common(after, whole.get(before.len()..).unwrap_or_default()))
    }

    /// The ids of a text with gaps, of which `learnt` is learnt.
    fn parts(&self, text: &str, learnt: &[Range<usize>]) -> Example {
        let mut example = Example { ids: Vec::new(), learnt: Vec::new() };
        for (start, part) in Guard::parts(text) {
            let end = start + part.len();
            let within = learnt.iter().filter(|range| range.start < end && start < range.end);
            let within =
                within.map(|range| range.start.max(start) - start..range.end.min(end) - start);
            let tokens = self.tokens(part, &within.collect::<Vec<_>>());
            example.ids.extend(tokens.ids);
            example.learnt.extend(tokens.learnt);
        }
        example
    }

    /// The ids of `text`, and those of them that overlap `learnt`.
    fn tokens(&self, text: &str, learnt: &[Range<usize>]) -> Example {
        let tokenizer = self.tokenizer;
        let ids = tokenizer.encode(text, Special::Parse);
        if let Some(ends) = self.ends(&ids, text) {
            let mut start = 0;
            let learnt = ends
                .into_iter()
                .map(|end| {
                    let token = std::mem::replace(&mut start, end)..end;
                    learnt.iter().any(|range| range.start < token.end && token.start < range.end)
                })
                .collect();
            return Example { ids, learnt };
        }
        // A vocabulary that does not keep every byte of a text: each stretch by itself.
        let mut example = Example { ids: Vec::new(), learnt: Vec::new() };
        let mut at = 0;
        let mut push = |range: Range<usize>, is_learnt: bool| {
            let ids = tokenizer.encode(&text[range], Special::Parse);
            example.learnt.extend(ids.iter().map(|_| is_learnt));
            example.ids.extend(ids);
        };
        for range in learnt {
            push(at..range.start, false);
            push(range.clone(), true);
            at = range.end;
        }
        push(at..text.len(), false);
        example
    }

    /// Where each token ends in `text`; none if tokens are not the text cut into pieces.
    fn ends(&self, ids: &[u32], text: &str) -> Option<Vec<usize>> {
        let mut rest = text.as_bytes();
        let ends = ids.iter().map(|&id| {
            let name = self.tokenizer.token_name(id);
            let bytes = self.tokenizer.token_bytes(id);
            let bytes = if self.tokenizer.is_special(id) || bytes.is_empty() {
                name.as_bytes()
            } else {
                bytes
            };
            rest = rest.strip_prefix(bytes)?;
            Some(text.len() - rest.len())
        });
        let ends: Option<Vec<usize>> = ends.collect();
        ends.filter(|ends| ends.last().is_none_or(|&end| end == text.len()))
    }
}

/// Whether a message is there to be read alone: OpenAI's `weight` of 0.
fn is_weightless(message: &Value) -> bool {
    message.get("weight").and_then(Value::as_f64) == Some(0.0)
}

/// Bytes that both begin with, in whole characters.
fn common(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}
