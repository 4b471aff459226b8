//! The words of a text as numbers, for whatever compares texts.
//!
//! A word is a run of letters and digits, in lower case; in scripts that set no spaces between
//! words, each character is one. What lies between does not count.

use twox_hash::XxHash3_64;

/// The words of `text`, each as its XXH3 hash.
pub(super) fn words(text: &str) -> Vec<u64> {
    let mut hashes = Vec::with_capacity(text.len() / 6);
    each_word(text, |hash, _, _| hashes.push(hash));
    hashes
}

/// Calls `take` with each word's hash, and the bytes at which it begins and ends.
pub(super) fn each_word(text: &str, mut take: impl FnMut(u64, usize, usize)) {
    let mut lower = String::new();
    let mut hash = |word: &str| {
        lower.clear();
        if word.is_ascii() {
            lower.push_str(word);
            lower.make_ascii_lowercase();
        } else {
            lower.extend(word.chars().flat_map(char::to_lowercase));
        }
        XxHash3_64::oneshot(lower.as_bytes())
    };
    let mut begun: Option<usize> = None;
    for (at, c) in text.char_indices() {
        if c.is_ascii_alphanumeric() || !c.is_ascii() && c.is_alphanumeric() && !is_word(c) {
            begun.get_or_insert(at);
            continue;
        }
        if let Some(from) = begun.take() {
            take(hash(&text[from..at]), from, at);
        }
        if !c.is_ascii() && is_word(c) {
            let end = at + c.len_utf8();
            take(XxHash3_64::oneshot(&text.as_bytes()[at..end]), at, end);
        }
    }
    if let Some(from) = begun {
        take(hash(&text[from..]), from, text.len());
    }
}

/// Whether a character is a word by itself: Han, kana, Thai, Lao, Burmese, Khmer.
fn is_word(c: char) -> bool {
    is_han(c)
        || is_kana(c)
        || matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
            && c.is_alphabetic()
}

/// Chinese characters, as Unicode 17's blocks have them.
pub(super) fn is_han(c: char) -> bool {
    matches!(c, '\u{3007}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Japanese syllables.
pub(super) fn is_kana(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{31f0}'..='\u{31ff}'
        | '\u{ff66}'..='\u{ff9d}')
}

/// An odd multiplier without a pattern in its bits (Knuth's MMIX generator).
const FACTOR: u64 = 6_364_136_223_846_793_005;

/// A hash of each run of `n` words, by a rolling polynomial. Fewer words than that make none.
pub(super) fn runs(words: &[u64], n: usize) -> impl Iterator<Item = u64> {
    let mut hash = 0u64;
    let power = (0..n).fold(1u64, |power, _| power.wrapping_mul(FACTOR));
    words.iter().enumerate().filter_map(move |(at, &word)| {
        hash = hash.wrapping_mul(FACTOR).wrapping_add(word);
        if at >= n {
            hash = hash.wrapping_sub(words[at - n].wrapping_mul(power));
        }
        (at + 1 >= n).then(|| scramble(hash))
    })
}

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): each bit of the result depends on all.
pub(super) fn scramble(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_what_lies_between_do_not_count() {
        assert_eq!(words("Hello, World!"), words(" hello\n\nworld"));
        assert_ne!(words("hello world"), words("helloworld"));
        assert_eq!(words("ÉTÉ"), words("été"));
        assert_eq!(words("你好，世界").len(), 4);
        assert_eq!(words("GPT4模型").len(), 3);
        assert_eq!(words("한국어 문장").len(), 2);
        assert_eq!(words("...").len(), 0);
        let mut places = Vec::new();
        each_word("Ab, 语c. d", |_, from, to| places.push((from, to)));
        assert_eq!(places, [(0, 2), (4, 7), (7, 8), (10, 11)]);
    }

    #[test]
    fn runs_depend_on_their_words_alone() {
        let one = words("a b c d e");
        let other = words("x y b c d z");
        let (one, other): (Vec<u64>, Vec<u64>) =
            (runs(&one, 3).collect(), runs(&other, 3).collect());
        assert_eq!((one.len(), other.len()), (3, 4));
        assert_eq!(one[1], other[2]);
        assert_eq!(one.iter().filter(|run| other.contains(run)).count(), 1);
        assert_eq!(runs(&words("a b"), 3).count(), 0);
    }
}
