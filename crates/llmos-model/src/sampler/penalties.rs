//! What a token loses for having been said before.

use std::collections::HashMap;

use super::options::{Dry, SamplerOptions};

/// Repetition, frequency and presence penalties over the last tokens of `history`.
pub(super) fn penalise(logits: &mut [f32], history: &[u32], options: &SamplerOptions) {
    let (repetition, frequency, presence) =
        (options.repetition_penalty, options.frequency_penalty, options.presence_penalty);
    if repetition == 1.0 && frequency == 0.0 && presence == 0.0 {
        return;
    }
    let window = &history[history.len().saturating_sub(options.penalty_window)..];
    let mut counts: HashMap<u32, u32> = HashMap::new();
    for &token in window {
        *counts.entry(token).or_default() += 1;
    }
    for (token, count) in counts {
        let Some(logit) = logits.get_mut(token as usize) else { continue };
        // Dividing a negative logit would make its token likelier.
        *logit = if *logit <= 0.0 { *logit * repetition } else { *logit / repetition };
        *logit -= count as f32 * frequency + presence;
    }
}

/// Beyond this `base.powi` is infinite, and an infinite penalty on all tokens leaves none.
const MAX_LOG: f32 = 88.0;

/// The DRY penalty over the last tokens of `history`.
pub(super) fn dry(logits: &mut [f32], history: &[u32], dry: &Dry) {
    let window = &history[history.len().saturating_sub(dry.window)..];
    if dry.multiplier == 0.0 || window.len() <= dry.allowed_length {
        return;
    }
    // From here on backwards: the newest token first.
    let tokens: Vec<u32> = window.iter().rev().copied().collect();
    let limit = repetition_limit(&tokens, &dry.breakers);
    if limit < dry.allowed_length {
        return;
    }
    // For each token, the longest repetition that it would go on with.
    let mut longest: HashMap<u32, usize> = HashMap::new();
    for (start, length) in common_prefixes(&tokens).into_iter().enumerate().skip(1) {
        let length = length.min(limit);
        if length >= dry.allowed_length {
            let entry = longest.entry(tokens[start - 1]).or_default();
            *entry = length.max(*entry);
        }
    }
    let max_exponent = if dry.base > 1.000_001 { MAX_LOG / dry.base.ln() } else { f32::MAX };
    for (token, length) in longest {
        let breaks = dry.breakers.iter().any(|breaker| breaker.as_slice() == [token]);
        let Some(logit) = logits.get_mut(token as usize).filter(|_| !breaks) else { continue };
        let exponent = ((length - dry.allowed_length) as f32).min(max_exponent);
        *logit = (*logit - dry.multiplier * dry.base.powf(exponent)).max(f32::MIN);
    }
}

/// How far back a repetition may reach: to the newest breaker. `tokens` are newest first.
fn repetition_limit(tokens: &[u32], breakers: &[Vec<u32>]) -> usize {
    for (age, &token) in tokens.iter().enumerate() {
        let complete = breakers.iter().filter(|breaker| {
            let Some((&head, tail)) = breaker.split_first() else { return false };
            head == token
                && tail.len() <= age
                && tail.iter().rev().eq(&tokens[age - tail.len()..age])
        });
        if let Some(longest) = complete.map(Vec::len).max() {
            return age + 1 - longest;
        }
    }
    tokens.len()
}

/// The Z function: for each start, how many tokens from there on equal those from the beginning.
fn common_prefixes(tokens: &[u32]) -> Vec<usize> {
    let mut lengths = vec![0; tokens.len()];
    // The match that reaches furthest.
    let (mut left, mut right) = (0, 0);
    for start in 1..tokens.len() {
        let mut length =
            if start < right { lengths[start - left].min(right - start) } else { 0usize };
        while start + length < tokens.len() && tokens[length] == tokens[start + length] {
            length += 1;
        }
        lengths[start] = length;
        if start + length > right {
            (left, right) = (start, start + length);
        }
    }
    lengths
}

/// The token sequences over which a breaker string lies: tokens that hold it, and tokens that end
/// with the beginning of it, followed by the tokens of its rest.
///
/// `pieces` (V) are the bytes of each token; `encode` tokenises bytes without special tokens.
pub fn dry_breakers(
    strings: &[&str],
    pieces: &[Vec<u8>],
    encode: &dyn Fn(&[u8]) -> Vec<u32>,
) -> Vec<Vec<u32>> {
    /// llama.cpp's limits: they keep the search for breakers linear in the history.
    const MAX_BYTES: usize = 40;
    const MAX_TAIL: usize = 20;
    let mut breakers = Vec::new();
    for string in strings {
        let string = &string.as_bytes()[..string.len().min(MAX_BYTES)];
        if string.is_empty() {
            continue;
        }
        for (id, piece) in pieces.iter().enumerate() {
            if piece.windows(string.len()).any(|part| part == string) {
                breakers.push(vec![id as u32]);
                continue;
            }
            for overlap in (1..string.len()).filter(|&n| piece.ends_with(&string[..n])) {
                let mut breaker = vec![id as u32];
                breaker.extend(encode(&string[overlap..]).into_iter().take(MAX_TAIL));
                breakers.push(breaker);
            }
        }
    }
    breakers.sort();
    breakers.dedup();
    breakers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_dry(history: &[u32], breakers: &[&[u32]], expected: &[f32]) {
        let mut logits = vec![0.0; expected.len()];
        let breakers = breakers.iter().map(|b| b.to_vec()).collect();
        let options = Dry { multiplier: 1.0, base: 2.0, allowed_length: 1, window: 100, breakers };
        dry(&mut logits, history, &options);
        assert_eq!(logits, expected, "{history:?}");
    }

    #[test]
    fn dry_follows_its_definition() {
        // a b c c b c y a b c: c would make 4 of 3, b 2 of 1, y 3 of 2 (llama.cpp's example).
        check_dry(&[0, 1, 2, 2, 1, 2, 3, 0, 1, 2], &[], &[0.0, -1.0, -4.0, -2.0]);
        check_dry(&[0, 1, 2, 3], &[], &[0.0, 0.0, 0.0, 0.0]);
        // All the same: the first three repeat as the last three.
        check_dry(&[1, 1, 1, 1], &[], &[0.0, -4.0]);
        // A breaker two tokens back leaves one token to repeat, and is itself free.
        check_dry(&[0, 1, 2, 2, 1, 2, 3, 0, 1, 2], &[&[1]], &[0.0, 0.0, -1.0, -1.0]);
        // A breaker of two tokens.
        check_dry(&[0, 1, 2, 3, 0, 1, 2], &[&[0, 1]], &[0.0, 0.0, 0.0, -1.0]);
    }

    #[test]
    fn penalties_follow_their_definitions() {
        let options = SamplerOptions {
            penalty_window: 3,
            repetition_penalty: 2.0,
            frequency_penalty: 0.5,
            presence_penalty: 0.25,
            ..SamplerOptions::plain()
        };
        let mut logits = [4.0, 4.0, -4.0, 4.0];
        penalise(&mut logits, &[0, 1, 1, 2], &options);
        assert_eq!(logits, [4.0, 2.0 - 1.25, -8.0 - 0.75, 4.0]);
    }

    #[test]
    fn breakers_are_found_inside_and_across_tokens() {
        let pieces = ["a", "\n", "b\n", "x<", "/s>", "<"].map(|s| s.as_bytes().to_vec());
        let encode = |bytes: &[u8]| if bytes == b"/s>" { vec![4] } else { vec![99] };
        assert_eq!(dry_breakers(&["\n"], &pieces, &encode), [vec![1], vec![2]]);
        assert_eq!(dry_breakers(&["</s>"], &pieces, &encode), [vec![3, 4], vec![5, 4]]);
    }
}
