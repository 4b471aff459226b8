//! Forms of words: articles, plurals, capitals, letters.

/// `a` or `an` before a word, by its sound.
pub(super) fn article(word: &str) -> &'static str {
    const CONSONANT: [&str; 5] = ["uni", "use", "one", "eu", "uk"];
    const VOWEL: [&str; 3] = ["hour", "honest", "heir"];
    let word = word.to_lowercase();
    let begins = |parts: &[&str]| parts.iter().any(|part| word.starts_with(part));
    let is_vowel = word.starts_with(['a', 'e', 'i', 'o', 'u']);
    if begins(&VOWEL) || (is_vowel && !begins(&CONSONANT)) { "an" } else { "a" }
}

/// The regular plural of a noun; of several words the last one changes.
pub(super) fn plural(noun: &str) -> String {
    const SIBILANT: [&str; 5] = ["s", "x", "z", "ch", "sh"];
    let before_y = noun.strip_suffix('y').and_then(|stem| stem.chars().last());
    match before_y {
        Some(letter) if !"aeiou".contains(letter) => format!("{}ies", &noun[..noun.len() - 1]),
        _ if SIBILANT.iter().any(|end| noun.ends_with(end)) => format!("{noun}es"),
        _ => format!("{noun}s"),
    }
}

/// The first letter as a capital.
pub(super) fn capital(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}

/// The characters of a word with `between` between them, spaces aside.
pub(super) fn spelled(word: &str, between: &str) -> String {
    let letters = word.chars().filter(|c| !c.is_whitespace()).map(String::from);
    letters.collect::<Vec<_>>().join(between)
}

/// The characters of a word from its end.
pub(super) fn reversed(word: &str) -> String {
    word.chars().rev().collect()
}

/// True of the characters that Chinese is written with, their punctuation aside.
pub(super) fn is_chinese(c: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let check = |noun, expected: &str, many: &str| {
            assert_eq!(format!("{} {noun}", article(noun)), expected);
            assert_eq!(plural(noun), many);
        };
        check("apple", "an apple", "apples");
        check("umbrella", "an umbrella", "umbrellas");
        check("uniform", "a uniform", "uniforms");
        check("hour", "an hour", "hours");
        check("house", "a house", "houses");
        check("berry", "a berry", "berries");
        check("toy", "a toy", "toys");
        check("box", "a box", "boxes");
        check("paintbrush", "a paintbrush", "paintbrushes");
        check("old watch", "an old watch", "old watches");
        assert_eq!(capital("élan"), "Élan");
        assert_eq!(spelled("cat", "-"), "c-a-t");
        assert_eq!(reversed("苹果"), "果苹");
    }
}
