//! How well a model predicts texts: nats a token, and bits a byte and a character.

use llmos_model::Engine;
use llmos_tokenizer::{Special, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::Error;

/// A stretch of tokens, of which those from `first` on are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The first token that goes through the model.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// The first token that is scored.
    pub first: usize,
}

/// How a text of `tokens` goes through a context: at once, or `stride` tokens further each time, by
/// default half of the context, so that each token has a past of at least the context less the stride.
///
/// # Errors
/// [`Error::Setting`] where a stride is none or longer than the context.
pub fn pieces(tokens: usize, context: usize, stride: Option<usize>) -> Result<Vec<Piece>, Error> {
    // The last token is only predicted, so it needs no place.
    let most = context + 1;
    if tokens <= most {
        return Ok(vec![Piece { start: 0, end: tokens, first: 1 }]);
    }
    let stride = stride.unwrap_or((context / 2).max(1));
    if stride == 0 || stride > context {
        let (expected, got) = (format!("1 to {context}, the context"), stride.to_string());
        return Err(Error::Setting { key: "--stride", expected, got });
    }
    let mut pieces = vec![Piece { start: 0, end: most, first: 1 }];
    let mut scored = most;
    while scored < tokens {
        let end = (scored + stride).min(tokens);
        pieces.push(Piece { start: end - most, end, first: scored });
        scored = end;
    }
    Ok(pieces)
}

/// The natural logarithm of the probability of each of `tokens` but the first, which has none. A text
/// longer than the context goes through it in [`pieces`]; `progress` is told how far.
///
/// # Errors
/// The engine's, and those of [`pieces`].
pub fn log_probabilities(
    engine: &mut Engine,
    tokens: &[u32],
    stride: Option<usize>,
    stepwise: bool,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Option<f64>>, Error> {
    let mut found: Vec<Option<f64>> = vec![None; tokens.len()];
    for Piece { start, end, first } in pieces(tokens.len(), engine.context(), stride)? {
        engine.score(&tokens[start..end], stepwise, &mut |index, log_probability| {
            if start + index >= first {
                found[start + index] = Some(log_probability);
                progress(start + index);
            }
        })?;
    }
    Ok(found)
}

/// A part of a text, and what it took to predict it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Bits of information.
    pub bits: f64,
    /// Its bytes in UTF-8.
    pub bytes: u64,
    /// Its characters.
    pub characters: u64,
}

/// Bytes of a part, about: longer texts are cut, so that few texts have error bars too.
const PART: usize = 2048;

/// Where a text is cut: behind which byte each part ends, none of them far longer than the others. It
/// follows from the text alone, so that the parts of several models are the same.
fn cuts(text: &str) -> Vec<usize> {
    let n = (text.len() / PART).max(1);
    let cut = |i: usize| (i * text.len() / n..).find(|&at| text.is_char_boundary(at));
    (1..=n).map(|i| if i == n { text.len() } else { cut(i).unwrap_or(text.len()) }).collect()
}

/// The parts of a text whose pieces, (bytes, bits) each in their order, are known. A piece belongs to
/// the part in which it begins; where pieces have other bytes than the text, as those of vocabularies
/// that change it have, they are spread over it evenly.
pub fn parts(text: &str, pieces: impl Iterator<Item = (usize, f64)> + Clone) -> Vec<Part> {
    let all: usize = pieces.clone().map(|(bytes, _)| bytes).sum();
    let cuts = cuts(text);
    let mut parts: Vec<Part> = Vec::with_capacity(cuts.len());
    let mut start = 0;
    for &end in &cuts {
        let part = &text[start..end];
        let characters = part.chars().count() as u64;
        parts.push(Part { bits: 0.0, bytes: part.len() as u64, characters });
        start = end;
    }
    let (mut at, mut part) = (0, 0);
    for (bytes, bits) in pieces {
        let place = if all == text.len() { at } else { at * text.len() / all.max(1) };
        while part + 1 < cuts.len() && place >= cuts[part] {
            part += 1;
        }
        parts[part].bits += bits;
        at += bytes;
    }
    parts
}

/// Predicts a text that follows `start`, such as a vocabulary's token for the beginning of a text, and
/// gives its parts. Without a start the first token is not predicted. `progress` is told the share of the
/// text that is done.
///
/// # Errors
/// The engine's; [`Error::NotANumber`].
pub fn text_parts(
    engine: &mut Engine,
    tokenizer: &Tokenizer,
    start: &[u32],
    text: &str,
    progress: &mut dyn FnMut(f64),
) -> Result<Vec<Part>, Error> {
    let mut tokens = start.to_vec();
    tokens.extend(tokenizer.encode(text, Special::None));
    if tokens.len() < 2 {
        return Ok(Vec::new());
    }
    let count = tokens.len() as f64;
    let found = log_probabilities(engine, &tokens, None, false, &mut |token| {
        progress((token + 1) as f64 / count);
    })?;
    if found.iter().flatten().any(|nats| !nats.is_finite()) {
        return Err(Error::NotANumber);
    }
    let pieces = tokens.iter().zip(&found).skip(start.len()).map(|(&id, nats)| {
        (tokenizer.token_bytes(id).len(), -nats.unwrap_or(0.0) / std::f64::consts::LN_2)
    });
    Ok(parts(text, pieces))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_but_the_first_is_scored_once() {
        for (tokens, context, stride) in [
            (5, 8, None),
            (9, 8, None),
            (40, 8, None),
            (5, 1, None),
            (40, 8, Some(3)),
            (10, 8, Some(8)),
        ] {
            let mut seen = vec![0; tokens];
            for piece in pieces(tokens, context, stride).unwrap() {
                assert!(piece.end - piece.start <= context + 1 && piece.first > piece.start);
                (piece.first..piece.end).for_each(|i| seen[i] += 1);
            }
            assert_eq!(seen[0], 0);
            assert!(seen[1..].iter().all(|&times| times == 1), "{tokens} {context} {stride:?}");
        }
        assert!(pieces(10, 8, Some(9)).is_err());
        assert!(pieces(10, 8, Some(0)).is_err());
    }

    #[test]
    fn the_pieces_of_a_long_text_are_half_a_context_apart() {
        let given = pieces(40, 8, None).unwrap();
        assert_eq!(given, pieces(40, 8, Some(4)).unwrap());
        assert!(given[1..].iter().all(|piece| piece.first - piece.start >= 4), "{given:?}");
    }

    #[test]
    fn parts_hold_all_bits_bytes_and_characters() {
        let text = "一二三四五abcde".repeat(1000);
        let of = |size: usize| {
            let n = text.len() / size;
            parts(&text, (0..n).map(move |_| (size, 1.5)))
        };
        for parts in [of(1), of(5), of(7)] {
            assert_eq!(parts.len(), text.len() / PART);
            let bits: f64 = parts.iter().map(|part| part.bits).sum();
            assert_eq!(parts.iter().map(|part| part.bytes).sum::<u64>(), text.len() as u64);
            assert_eq!(parts.iter().map(|part| part.characters).sum::<u64>(), 10_000);
            assert!((bits / 1.5).fract() == 0.0 && bits > 4000.0);
            let each: Vec<f64> = parts.iter().map(|part| part.bits / part.bytes as f64).collect();
            assert!(each.iter().all(|bits| (bits / each[0] - 1.0).abs() < 0.05), "{each:?}");
        }
        // A vocabulary that adds a byte at the beginning.
        let more = parts(&text, std::iter::repeat_n((1, 1.0), text.len() + 1));
        assert_eq!(more.iter().map(|part| part.bits).sum::<f64>(), text.len() as f64 + 1.0);
        assert_eq!(parts("ab", [(1, 1.0), (1, 2.0)].into_iter())[0].bits, 3.0);
    }
}
