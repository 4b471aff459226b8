//! Stop texts: found wherever the borders of tokens lie, and never shown.

/// Lets a text through up to the first of its stops.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stops {
    strings: Vec<String>,
    /// What could still become a stop.
    held: String,
    /// Bytes that were let through.
    passed: usize,
}

impl Stops {
    /// Empty strings stop nothing.
    pub(crate) fn new(strings: Vec<String>) -> Stops {
        Stops { strings, held: String::new(), passed: 0 }
    }

    /// Bytes that were let through.
    pub(crate) fn passed(&self) -> usize {
        self.passed
    }

    /// Bytes that were let through or are held back.
    pub(crate) fn seen(&self) -> usize {
        self.passed + self.held.len()
    }

    /// What of the text is certain to be shown now, and the number of the stop that ended it.
    pub(crate) fn push(&mut self, text: &str) -> (String, Option<usize>) {
        self.held.push_str(text);
        // The one that ends first, so that it does not matter in which pieces the text comes.
        let found = self.stops().filter_map(|(number, string)| {
            let start = self.held.find(string)?;
            Some((start + string.len(), start, number))
        });
        let (keep, stop) = match found.min() {
            Some((_, start, number)) => (start, Some(number)),
            None => (self.held.len() - self.open(), None),
        };
        let rest = self.held.split_off(keep);
        let shown = std::mem::replace(&mut self.held, rest);
        if stop.is_some() {
            self.held.clear();
        }
        self.passed += shown.len();
        (shown, stop)
    }

    /// The stops with their numbers.
    fn stops(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.strings.iter().map(String::as_str).enumerate();
        numbered.filter(|(_, string)| !string.is_empty())
    }

    /// The text is over without a stop: what was held back.
    pub(crate) fn finish(&mut self) -> String {
        self.passed += self.held.len();
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of what is held that could be the beginning of a stop.
    fn open(&self) -> usize {
        let open = |(_, string): (usize, &str)| {
            let longest = (string.len() - 1).min(self.held.len());
            (1..=longest)
                .rev()
                .find(|&n| string.is_char_boundary(n) && self.held.ends_with(&string[..n]))
        };
        self.stops().filter_map(open).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of a text that comes in these pieces, and whether it was stopped.
    fn shown(strings: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut stops = Stops::new(strings.iter().map(ToString::to_string).collect());
        let mut shown = String::new();
        for piece in pieces {
            let (part, stop) = stops.push(piece);
            shown += &part;
            assert_eq!(stops.passed(), shown.len());
            if let Some(stop) = stop {
                assert!(pieces.concat().contains(strings[stop]));
                return (shown, true);
            }
        }
        let rest = stops.finish();
        (shown + &rest, false)
    }

    #[test]
    fn a_stop_is_found_across_pieces_and_nothing_of_it_is_shown() {
        for (strings, text, expected, stopped) in [
            (&["\n\n"][..], "one\ntwo\n\nthree", "one\ntwo", true),
            (&["END"], "the EN and EEND of it", "the EN and E", true),
            (&["ab", "xabc"], "xabc", "x", true),
            (&["世界"], "你好世界!", "你好", true),
            (&["世界"], "世间世", "世间世", false),
            (&["", "never"], "nev", "nev", false),
            (&["aaa"], "aabaa", "aabaa", false),
            (&[], "all of it", "all of it", false),
        ] {
            assert_eq!(shown(strings, &[text]), (expected.to_string(), stopped), "{text}");
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(shown(strings, &letters), (expected.to_string(), stopped), "{text}");
            for (at, _) in text.char_indices() {
                let halves = [&text[..at], &text[at..]];
                assert_eq!(shown(strings, &halves), (expected.to_string(), stopped), "{text}");
            }
        }
    }

    #[test]
    fn what_cannot_become_a_stop_is_shown_at_once() {
        let mut stops = Stops::new(vec!["STOP".into()]);
        assert_eq!(stops.push("go on S"), ("go on ".to_string(), None));
        assert_eq!(stops.seen(), 7);
        assert_eq!(stops.push("o"), ("So".to_string(), None));
    }
}
