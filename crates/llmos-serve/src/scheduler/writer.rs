//! One answer as it is drawn: from logits to tokens to text, thoughts and calls.

use std::collections::VecDeque;
use std::sync::Arc;

use llmos_agent::{Piece, Reader};
use llmos_model::Error;
use llmos_model::grammar::Grammar;
use llmos_model::sampler::{Sampler, log_sum_exp, most_likely};
use llmos_tokenizer::{Special, StreamDecoder, Tokenizer};

use super::request::{Dialogue, Finish, Part, Request, Score};
use super::stops::Stops;

/// Writes one choice of a request.
pub(super) struct Writer {
    tokenizer: Arc<Tokenizer>,
    sampler: Sampler,
    /// The penalties look at what was drawn alone, as OpenAI's do.
    own_history: bool,
    decoder: StreamDecoder,
    stops: Stops,
    reader: Option<Reader>,
    constraint: Constraint,
    /// A call must come, and has not yet.
    awaits_call: bool,
    n_call: usize,
    n_token: usize,
    n_thought: usize,
    /// Tokens that are not told yet, each with the bytes of text up to its end.
    untold: VecDeque<(usize, Score)>,
    logits: Vec<f32>,
}

/// What the next token is held to.
enum Constraint {
    /// Nothing.
    None,
    /// A grammar of the whole answer, thoughts apart.
    Answer(Box<Grammar>),
    /// A grammar of the call that is being written.
    Call(Box<Grammar>),
    /// Nothing, although a call is being written: no grammar could be had, or it was left.
    Free,
}

/// What came of a token.
pub(super) struct Drawn {
    /// The token, to be appended; none where the answer is over.
    pub(super) token: Option<u32>,
    /// What was written.
    pub(super) parts: Vec<Part>,
    /// The tokens that may be told now.
    pub(super) scores: Vec<Score>,
    /// Why the answer is over.
    pub(super) finish: Option<Finish>,
}

impl Writer {
    /// The writer of the request's choice `number`.
    ///
    /// # Errors
    /// Sampler options outside their definitions.
    pub(super) fn new(
        request: &Request,
        tokenizer: &Arc<Tokenizer>,
        number: usize,
    ) -> Result<Writer, Error> {
        let seed = request.seed.wrapping_add(number as u64);
        let mut writer = Writer {
            tokenizer: tokenizer.clone(),
            sampler: Sampler::new(request.sampler.clone(), seed)?,
            own_history: request.sampler.repetition_penalty == 1.0,
            decoder: tokenizer.decoder().skip_special(),
            stops: Stops::new(request.stops.clone()),
            reader: None,
            constraint: match &request.grammar {
                Some(grammar) => Constraint::Answer(Box::new(grammar.clone())),
                None => Constraint::None,
            },
            awaits_call: false,
            n_call: 0,
            n_token: 0,
            n_thought: 0,
            untold: VecDeque::new(),
            logits: Vec::new(),
        };
        if let Some(dialogue) = &request.dialogue {
            writer.read_as(dialogue);
        }
        Ok(writer)
    }

    fn read_as(&mut self, dialogue: &Dialogue) {
        let is_thinking = dialogue.is_thinking && !dialogue.is_required;
        let mut reader = Reader::new(dialogue.format, dialogue.names.clone(), is_thinking);
        reader.push(&dialogue.begun);
        if dialogue.is_required {
            reader.push(dialogue.format.map_or("", |format| format.opening()));
            self.awaits_call = true;
            self.constraint = match &dialogue.grammar {
                Some(grammar) => Constraint::Call(Box::new(grammar.clone())),
                None => Constraint::Free,
            };
        }
        self.reader = Some(reader);
    }

    /// Tokens that were drawn.
    pub(super) fn tokens(&self) -> usize {
        self.n_token
    }

    /// Of those, the ones that are thoughts.
    pub(super) fn thoughts(&self) -> usize {
        self.n_thought
    }

    /// Draws a token. `logits` (V) are the model's own, `history` the tokens so far, of which the
    /// first `n_prompt` are the prompt.
    ///
    /// # Errors
    /// The sampler's and the grammar's.
    pub(super) fn draw(
        &mut self,
        request: &Request,
        logits: &[f32],
        history: &[u32],
        n_prompt: usize,
    ) -> Result<Drawn, Error> {
        let Some(token) = self.next(request, logits, history, n_prompt)? else {
            return Ok(self.end(Finish::Stop));
        };
        if request.ends.contains(&token) {
            return Ok(self.end(Finish::Stop));
        }
        self.n_token += 1;
        let is_thinking = self.is_thinking();
        self.n_thought += usize::from(is_thinking);
        if let (Constraint::Answer(grammar), false) = (&mut self.constraint, is_thinking) {
            grammar.commit(token)?;
        }
        let text = match &self.reader {
            Some(reader) => reader.text_of(&self.tokenizer, &mut self.decoder, token),
            None => self.decoder.push(token),
        };
        let (shown, stop) = self.stops.push(&text);
        let is_stopped = stop.is_some();
        if let Some(top) = request.scores {
            let end = self.stops.seen().max(self.stops.passed() + usize::from(is_stopped));
            self.untold.push_back((end, score(logits, token, top)));
        }
        let mut parts = self.read(shown);
        if let Some(stop) = stop {
            // Bytes of a character that began behind the stop.
            self.decoder.flush();
            let mut drawn = self.end(Finish::StopText(stop));
            parts.append(&mut drawn.parts);
            return Ok(Drawn { parts, ..drawn });
        }
        self.hold(request, token);
        let only_one = request.dialogue.as_ref().is_some_and(|dialogue| dialogue.only_one);
        let finish = match request.most {
            _ if only_one && self.n_call > 0 => Some(Finish::ToolCalls),
            Some(most) if self.n_token >= most => Some(Finish::Length),
            _ => None,
        };
        match finish {
            None => Ok(Drawn { token: Some(token), parts, scores: self.told(), finish: None }),
            Some(finish) => {
                let mut drawn = self.end(finish);
                parts.append(&mut drawn.parts);
                Ok(Drawn { parts, ..drawn })
            }
        }
    }

    /// The answer is over.
    pub(super) fn end(&mut self, finish: Finish) -> Drawn {
        let is_natural = finish != Finish::Length;
        let rest = self.decoder.flush();
        let (mut rest, stop) = self.stops.push(&rest);
        if stop.is_none() {
            rest += &self.stops.finish();
        }
        let mut parts = self.read(rest);
        if let Some(reader) = &mut self.reader
            // A call that was cut off is nothing.
            && (is_natural || reader.open_call().is_none())
        {
            let pieces = reader.finish();
            parts.extend(pieces.into_iter().filter_map(|piece| self.part(piece)));
        }
        let finish = match finish {
            Finish::Stop | Finish::StopText(_) if self.n_call > 0 => Finish::ToolCalls,
            other => other,
        };
        let scores = self.told();
        self.untold.clear();
        Drawn { token: None, parts, scores, finish: Some(finish) }
    }

    fn is_thinking(&self) -> bool {
        self.reader.as_ref().is_some_and(Reader::is_thinking)
    }

    /// The next token; none where the grammar allows nothing more.
    fn next(
        &mut self,
        request: &Request,
        logits: &[f32],
        history: &[u32],
        n_prompt: usize,
    ) -> Result<Option<u32>, Error> {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        let is_thinking = self.is_thinking();
        match &mut self.constraint {
            Constraint::Answer(grammar) if !is_thinking => {
                if grammar.is_complete() {
                    return Ok(None);
                }
                grammar.mask(&mut self.logits)?;
            }
            Constraint::Call(grammar) if grammar.is_complete() => {
                self.constraint = Constraint::Free;
                if self.reader.as_ref().is_some_and(Reader::ends_with_call) {
                    return Ok(None);
                }
                let closing = request.dialogue.as_ref().and_then(|dialogue| dialogue.closing);
                if closing.is_some() {
                    return Ok(closing);
                }
            }
            Constraint::Call(grammar) => {
                let is_masked = grammar.mask(&mut self.logits).is_ok();
                // Beyond the grammar's own limits, no mask is applied.
                if !is_masked {
                    self.constraint = Constraint::Free;
                }
            }
            _ => {}
        }
        let history = if self.own_history { &history[n_prompt..] } else { history };
        self.sampler.sample(&mut self.logits, history).map(Some)
    }

    fn read(&mut self, text: String) -> Vec<Part> {
        if text.is_empty() {
            return Vec::new();
        }
        match &mut self.reader {
            None => vec![Part::Text(text)],
            Some(reader) => {
                let pieces = reader.push(&text);
                pieces.into_iter().filter_map(|piece| self.part(piece)).collect()
            }
        }
    }

    fn part(&mut self, piece: Piece) -> Option<Part> {
        match piece {
            Piece::Text(text) => Some(Part::Text(text)),
            Piece::Reasoning(text) => Some(Part::Reasoning(text)),
            Piece::Begun => None,
            Piece::Call(call) => {
                self.n_call += 1;
                self.awaits_call = false;
                Some(Part::Call(call))
            }
        }
    }

    /// Holds a call to its grammar from where it opens to where it closes.
    fn hold(&mut self, request: &Request, token: u32) {
        let (Some(reader), Some(dialogue)) = (&self.reader, &request.dialogue) else { return };
        let open = reader.open_call();
        match (&mut self.constraint, open) {
            (Constraint::Answer(_), _) => {}
            (Constraint::Call(grammar), open) if open.is_some() || self.awaits_call => {
                if grammar.commit(token).is_err() {
                    self.constraint = Constraint::Free;
                }
            }
            (constraint, None) => *constraint = Constraint::None,
            (Constraint::None, Some(written)) => {
                let grammar = dialogue.grammar.clone().and_then(|mut grammar| {
                    // The last token may hold more than what opens the call.
                    let begun = self.tokenizer.encode(written, Special::None);
                    begun.into_iter().try_for_each(|token| grammar.commit(token)).ok()?;
                    Some(grammar)
                });
                self.constraint = match grammar {
                    Some(grammar) => Constraint::Call(Box::new(grammar)),
                    None => Constraint::Free,
                };
            }
            (Constraint::Free | Constraint::Call(_), Some(_)) => {}
        }
    }

    /// The tokens whose text has been let through.
    fn told(&mut self) -> Vec<Score> {
        let passed = self.stops.passed();
        let mut told = Vec::new();
        while let Some((_, score)) = self.untold.pop_front_if(|(end, _)| *end <= passed) {
            told.push(score);
        }
        told
    }
}

/// How likely `token` was by these logits (V), beside the `top` likeliest.
pub(super) fn score(logits: &[f32], token: u32, top: usize) -> Score {
    let total = log_sum_exp(logits);
    // The same operations for both, so that the likeliest token equals itself to the bit.
    let logprob = |id: u32| logits.get(id as usize).map_or(f64::NAN, |&x| f64::from(x) - total);
    let top = most_likely(logits, top).into_iter().map(|(id, _)| (id, logprob(id))).collect();
    Score { id: token, logprob: logprob(token), top }
}

#[cfg(test)]
mod tests {
    use llmos_model::sampler::log_probability;

    use super::*;

    #[test]
    fn the_likeliest_token_is_as_likely_as_itself() {
        let logits: Vec<f32> = (0..500).map(|i| ((i * 7919) % 503) as f32 / 37.0).collect();
        let best = (0..500u32).max_by(|&a, &b| logits[a as usize].total_cmp(&logits[b as usize]));
        let best = best.unwrap();
        let found = score(&logits, best, 3);
        assert_eq!(found.top[0], (best, found.logprob));
        assert_eq!(found.logprob, log_probability(&logits, best));
        assert_eq!(score(&logits, 3, 0).top, []);
    }
}
