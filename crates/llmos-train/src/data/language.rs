//! Which language a text is in, by its script and its commonest words.

use serde::{Deserialize, Serialize};

use super::words::{is_han, is_kana};

/// A language, as far as it is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// English.
    En,
    /// Chinese.
    Zh,
    /// Any other, and texts without letters.
    Other,
}

/// English words that few other languages share, none longer than [`LONGEST`] letters.
const ENGLISH: [&str; 32] = [
    "are", "as", "at", "be", "but", "by", "for", "from", "had", "have", "he", "her", "his", "is",
    "it", "not", "of", "said", "she", "that", "the", "their", "there", "they", "this", "to", "and",
    "were", "which", "with", "would", "you",
];

/// Letters of the longest of these words.
const LONGEST: usize = 5;

/// The share of the words that these are in English, at least: prose has 25 to 35 %, and German,
/// French, Spanish, Italian and Dutch prose below 5 %.
const ENGLISH_SHARE: f64 = 0.1;

/// Texts with fewer words are judged by their letters alone.
const ENOUGH_WORDS: usize = 20;

/// Characters that are looked at.
const SAMPLE: usize = 20_000;

impl Language {
    /// `en`, `zh` or `other`.
    pub fn name(self) -> &'static str {
        match self {
            Language::En => "en",
            Language::Zh => "zh",
            Language::Other => "other",
        }
    }

    /// The language of that name.
    pub fn from_name(name: &str) -> Option<Language> {
        [Language::En, Language::Zh, Language::Other].into_iter().find(|l| l.name() == name)
    }

    /// The language of a text. Chinese with some English in it, such as names, is Chinese.
    pub fn of(text: &str) -> Language {
        let (mut n_letter, mut n_ascii, mut n_latin, mut n_han, mut n_kana) = (0, 0, 0, 0, 0);
        let mut end = text.len();
        for (count, (at, c)) in text.char_indices().enumerate() {
            if count == SAMPLE {
                end = at;
                break;
            }
            if c.is_ascii_alphabetic() {
                (n_letter, n_ascii, n_latin) = (n_letter + 1, n_ascii + 1, n_latin + 1);
            } else if !c.is_ascii() && c.is_alphabetic() {
                n_letter += 1;
                n_han += usize::from(is_han(c));
                n_kana += usize::from(is_kana(c));
                n_latin += usize::from(matches!(c, '\u{c0}'..='\u{24f}'));
            }
        }
        // One Chinese character says as much as some three letters.
        if n_han * 3 > n_latin && n_han * 2 > n_letter - n_latin && n_kana * 10 < n_han {
            return Language::Zh;
        }
        if n_letter == 0 || n_latin * 10 < n_letter * 9 {
            return Language::Other;
        }
        let mut n_word = 0;
        let mut n_english = 0;
        let is_letter = |c: char| c.is_alphabetic() || c == '\'';
        for word in text[..end].split(|c| !is_letter(c)).filter(|word| !word.is_empty()) {
            n_word += 1;
            n_english += usize::from(is_english(word));
        }
        let is_like_english = if n_word < ENOUGH_WORDS {
            n_ascii == n_letter
        } else {
            n_english as f64 >= ENGLISH_SHARE * n_word as f64
        };
        if is_like_english { Language::En } else { Language::Other }
    }
}

/// Whether a word is one of the English ones, in capitals or not.
fn is_english(word: &str) -> bool {
    /// The words as numbers, sorted: comparing text by text took a sixth of a preparation.
    const KEYS: [u64; ENGLISH.len()] = {
        let mut keys = [0; ENGLISH.len()];
        let mut index = 0;
        while index < keys.len() {
            let key = key(ENGLISH[index].as_bytes());
            let mut place = index;
            while place > 0 && keys[place - 1] > key {
                keys[place] = keys[place - 1];
                place -= 1;
            }
            keys[place] = key;
            index += 1;
        }
        keys
    };
    word.len() <= LONGEST && KEYS.binary_search(&key(word.as_bytes())).is_ok()
}

/// The letters of a short word in lower case, as a number.
const fn key(word: &[u8]) -> u64 {
    let mut key = 0;
    let mut index = 0;
    while index < word.len() {
        key = key << 8 | (word[index] | 0x20) as u64;
        index += 1;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_told_apart() {
        for (text, expected) in [
            (
                "Once upon a time, there was a little girl named Lily. She loved to play outside \
                 in the park. One day, she saw a big, red ball.",
                Language::En,
            ),
            (
                "Es war einmal ein kleines Mädchen, das hieß Lily und spielte gern draußen im \
                 Park. Eines Tages sah es einen großen roten Ball, und der war zu hoch.",
                Language::Other,
            ),
            (
                "Il était une fois une petite fille qui aimait jouer dehors dans le parc, et un \
                 jour elle a vu un gros ballon rouge qui était trop haut pour elle.",
                Language::Other,
            ),
            (
                "Había una vez una niña que se llamaba Lily y que jugaba en el parque con su \
                 perro, y un día vio una pelota roja que estaba muy alta.",
                Language::Other,
            ),
            ("从前，有一个小女孩叫莉莉。她喜欢在公园里玩耍。", Language::Zh),
            ("使用 Python 3 的 Transformers 库加载 Qwen 模型", Language::Zh),
            ("昔々、あるところに、おじいさんとおばあさんが住んでいました。", Language::Other),
            ("옛날 옛적에 작은 소녀가 살았습니다.", Language::Other),
            ("Жила-была маленькая девочка.", Language::Other),
            ("Run!", Language::En),
            ("Über", Language::Other),
            ("12 + 34", Language::Other),
            ("", Language::Other),
        ] {
            assert_eq!(Language::of(text), expected, "{text}");
        }
    }

    #[test]
    fn english_words_are_known() {
        for word in ENGLISH {
            assert!(word.len() <= LONGEST && is_english(word) && is_english(&word.to_uppercase()));
        }
        for word in ["a", "th", "thee", "wouldn", "été", "", "t"] {
            assert!(!is_english(word), "{word}");
        }
    }
}
