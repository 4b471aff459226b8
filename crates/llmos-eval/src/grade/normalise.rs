//! One spelling for what readers take as the same.

use unicode_normalization::UnicodeNormalization;

/// A text in the spelling in which phrases are looked for: NFKC, lower case, straight apostrophes and
/// hyphens, no quotation marks and Markdown marks, white space as one space and none beside a Chinese
/// character, "can not" as "cannot".
pub(super) fn normalise(text: &str) -> Vec<char> {
    let lower = text.nfkc().collect::<String>().to_lowercase();
    let straight: Vec<char> = lower.chars().map(straight).collect();
    let bare = without_quotes(&without_marks(&straight));
    cannot(&without_cjk_spaces(&single_spaces(&bare)))
}

fn straight(c: char) -> char {
    match c {
        '’' | '‘' | 'ʼ' => '\'',
        '‐' | '‑' | '‒' | '–' | '—' | '−' => '-',
        '。' => '.',
        c => c,
    }
}

/// Without Markdown's marks and quotation marks; a single star becomes a space.
fn without_marks(text: &[char]) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&c, after)) = rest.split_first() {
        rest = match (c, after.first()) {
            ('*', Some('*')) | ('_', Some('_')) => &after[1..],
            ('"' | '“' | '”' | '「' | '」' | '『' | '』' | '《' | '》' | '〈' | '〉' | '`', _) => {
                after
            }
            _ => {
                out.push(if c == '*' { ' ' } else { c });
                after
            }
        };
    }
    out
}

/// Keeps apostrophes inside a word alone.
fn without_quotes(text: &[char]) -> Vec<char> {
    let is_word = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(is_ascii_word);
    let keeps =
        |at: usize, c: char| c != '\'' || is_word(at.checked_sub(1)) && is_word(Some(at + 1));
    text.iter().enumerate().filter(|&(at, &c)| keeps(at, c)).map(|(_, &c)| c).collect()
}

/// A lower-case ASCII letter or a digit.
pub(super) fn is_ascii_word(c: &char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// White space as Python's `str` has it.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn single_spaces(text: &[char]) -> Vec<char> {
    let words = text.split(|&c| is_space(c)).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&' ')
}

fn without_cjk_spaces(text: &[char]) -> Vec<char> {
    let is_cjk = |at: Option<usize>| {
        let c = at.and_then(|at| text.get(at));
        c.is_some_and(|c| matches!(c, '\u{3000}'..='\u{303f}' | '\u{4e00}'..='\u{9fff}'))
    };
    let keeps =
        |at: usize, c: char| c != ' ' || !is_cjk(at.checked_sub(1)) && !is_cjk(Some(at + 1));
    text.iter().enumerate().filter(|&(at, &c)| keeps(at, c)).map(|(_, &c)| c).collect()
}

/// "can not", between the ends of words, as one word.
fn cannot(text: &[char]) -> Vec<char> {
    const APART: [char; 7] = ['c', 'a', 'n', ' ', 'n', 'o', 't'];
    let is_word = |c: Option<&char>| c.is_some_and(|c| c.is_alphanumeric() || *c == '_');
    let mut out: Vec<char> = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let is_here = text[at..].starts_with(&APART)
            && !is_word(at.checked_sub(1).and_then(|at| text.get(at)))
            && !is_word(text.get(at + APART.len()));
        if is_here {
            out.extend(APART.into_iter().filter(|&c| c != ' '));
            at += APART.len();
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}
