//! Prompts that no cache knows, of a length that is known.

/// Makes prompts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prompts {
    /// Another seed gives other prompts, and another shared prefix.
    pub(super) seed: u64,
    /// Tokens that the model knows.
    pub(super) vocab_size: usize,
    /// Tokens that all prompts begin with.
    pub(super) prefix: usize,
    /// Tokens of each prompt's own.
    pub(super) own: usize,
}

impl Prompts {
    /// The tokens of prompt `number`.
    pub(super) fn prompt(&self, number: u64) -> Vec<u32> {
        let mut tokens = self.tokens(u64::MAX, self.prefix);
        tokens.extend(self.tokens(number, self.own));
        tokens
    }

    /// Tokens from the middle half of the vocabulary: control tokens stand at its ends.
    fn tokens(&self, stream: u64, count: usize) -> Vec<u32> {
        let (from, range) = (self.vocab_size / 4, (self.vocab_size / 2).max(1));
        let mut state = mix(mix(self.seed) ^ stream);
        let next = || {
            state = state.wrapping_add(GOLDEN);
            from as u32 + (mix(state) % range as u64) as u32
        };
        std::iter::repeat_with(next).take(count).collect()
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): its step, and its function of the state.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Words for servers that take no ids: most vocabularies have each, with its blank, as one token.
const WORDS: [&str; 32] = [
    " time",
    " year",
    " people",
    " way",
    " day",
    " man",
    " thing",
    " woman",
    " life",
    " child",
    " world",
    " school",
    " state",
    " family",
    " student",
    " group",
    " country",
    " problem",
    " hand",
    " part",
    " place",
    " case",
    " week",
    " company",
    " system",
    " program",
    " question",
    " work",
    " number",
    " night",
    " point",
    " home",
];

/// A text of as many words as there are tokens.
pub(super) fn words(tokens: &[u32]) -> String {
    tokens.iter().map(|&token| WORDS[token as usize % WORDS.len()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_share_their_prefix_and_nothing_else() {
        let prompts = Prompts { seed: 7, vocab_size: 512, prefix: 100, own: 20 };
        let (one, other) = (prompts.prompt(0), prompts.prompt(1));
        assert_eq!((one.len(), prompts.prompt(0)), (120, one.clone()));
        assert_eq!(one[..100], other[..100]);
        assert_ne!(one[100..], other[100..]);
        assert!(one.iter().all(|token| (128..384).contains(token)));
        let fresh = Prompts { seed: 8, ..prompts };
        assert_ne!(fresh.prompt(0)[..100], one[..100]);
        assert_ne!(fresh.prompt(0)[0..4], fresh.prompt(0)[4..8]);
        assert_eq!(words(&one).split_whitespace().count(), 120);
    }
}
