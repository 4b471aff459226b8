//! Which tokens end a generation.
//!
//! Few vocabularies say so in full; like llama.cpp, this goes by the names that models use.

use crate::symbols::Strings;
use crate::vocabulary::{GgufVocab, token_type};

/// End of a turn.
const END_OF_TURN: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];

/// Every name that ends a generation, those of [`END_OF_TURN`] included.
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Fill-in-the-middle tokens after which there is nothing more to write.
const FIM_ENDS: [&[&str]; 3] = [
    &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    &["<|file_sep|>"],
];

/// The ids that end a generation, sorted. Tokens found by name become control tokens, and the
/// end-of-turn and end-of-message ids that `meta` lacks are filled in.
pub(crate) fn find(texts: &Strings, types: &mut [i32], meta: &mut GgufVocab) -> Vec<u32> {
    let mut ends = Vec::new();
    let mut by_name = std::collections::HashMap::new();
    let names = ENDS.iter().chain(FIM_ENDS.iter().copied().flatten());
    let wanted: std::collections::HashSet<&str> = names.copied().collect();
    for (id, text) in texts.iter().enumerate() {
        if let Ok(text) = std::str::from_utf8(text)
            && wanted.contains(text)
        {
            by_name.insert(text.to_owned(), id as u32);
        }
    }
    let first = |names: &[&str]| names.iter().find_map(|&name| by_name.get(name).copied());
    let mut fim = [meta.fim_pad, meta.fim_rep, meta.fim_sep];
    for (id, names) in fim.iter_mut().zip(FIM_ENDS) {
        *id = id.or_else(|| first(names));
    }
    [meta.fim_pad, meta.fim_rep, meta.fim_sep] = fim;
    meta.eot = meta.eot.or_else(|| first(END_OF_TURN));
    meta.eom = meta.eom.or_else(|| first(&["<|eom_id|>"]));
    ends.extend(ENDS.iter().filter_map(|&name| by_name.get(name).copied()));
    ends.extend(fim.into_iter().flatten());
    for &id in &ends {
        if let Some(kind) = types.get_mut(id as usize) {
            *kind = token_type::CONTROL;
        }
    }
    ends.extend([meta.eos, meta.eot, meta.eom].into_iter().flatten());
    // In these vocabularies the name ends a message inside a turn, or is ordinary text.
    let has = |name: &str| by_name.contains_key(name);
    let calls = has("<|call|>") || has("<|calls|>");
    let mut drop = |name: &str, kind: i32| {
        if let Some(&id) = by_name.get(name) {
            ends.retain(|&end| end != id);
            if let Some(slot) = types.get_mut(id as usize) {
                *slot = kind;
            }
        }
    };
    if calls && (has("<|return|>") || has("<|flush|>")) {
        drop("<|end|>", token_type::USER_DEFINED);
    }
    let plamo = texts.iter().any(|text| text == b"<|plamo:eos|>");
    if has("<|tool_response>") || plamo {
        drop("</s>", token_type::NORMAL);
    }
    ends.retain(|&id| (id as usize) < types.len());
    ends.sort_unstable();
    ends.dedup();
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tokens: &[&str], eos: Option<u32>, expected: &[u32]) {
        let mut texts = Strings::default();
        tokens.iter().for_each(|token| texts.push(token.as_bytes()));
        let mut types = vec![token_type::NORMAL; tokens.len()];
        let mut meta = GgufVocab { eos, ..GgufVocab::default() };
        assert_eq!(find(&texts, &mut types, &mut meta), expected, "{tokens:?}");
    }

    #[test]
    fn ends_by_name_and_by_number() {
        check(&["a", "<|im_end|>", "<|endoftext|>"], Some(2), &[1, 2]);
        check(&["a", "b"], Some(1), &[1]);
        check(&["a", "b"], Some(7), &[]);
        check(&["<|end|>", "<|return|>", "<|call|>"], None, &[1, 2]);
        check(&["</s>", "<|tool_response>"], None, &[1]);
        check(&["<eos>", "<end_of_turn>"], Some(0), &[0, 1]);
    }
}
