//! What stands behind the question mark of a path.

use std::ops::RangeInclusive;

use axum::http::Uri;
use serde_json::Value;

use crate::refusal::Refusal;

/// Names with values, in the order that they were given.
#[derive(Debug)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Those of an address.
    ///
    /// # Errors
    /// What is no UTF-8 once its percent signs are read.
    pub(crate) fn of(uri: &Uri) -> Result<Query, Refusal> {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((read(name)?, read(value)?))
        });
        let pairs = pairs.collect::<Option<Vec<_>>>().ok_or_else(|| {
            let hint = "write characters of UTF-8 as %XX, as curl --data-urlencode does";
            Refusal::bad("the query is no UTF-8", hint)
        })?;
        Ok(Query { pairs })
    }

    /// A text; the first of several.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let pair = self.pairs.iter().find(|(found, _)| found == name)?;
        Some(&pair.1)
    }

    /// A whole number in a range.
    ///
    /// # Errors
    /// Something else.
    pub(crate) fn integer(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, Refusal> {
        let Some(text) = self.text(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            let expected = format!("a whole number from {} to {}", range.start(), range.end());
            Refusal::field(name, expected, &Value::from(text), "change it or leave it out")
        })
    }
}

/// A name or value as it was meant: `+` is a space, `%XX` a byte.
fn read(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let byte = digit()? * 16 + digit()?;
                u8::try_from(byte).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_read() {
        let query = |text: &str| Query::of(&text.parse().unwrap());
        let found = query("/a?q=%E6%A8%A1%e5%9e%8B+x&limit=3&&empty=&flag").unwrap();
        assert_eq!(found.text("q"), Some("模型 x"));
        assert_eq!(found.integer("limit", 1..=9).unwrap(), Some(3));
        assert_eq!(found.integer("empty", 1..=9).unwrap(), None);
        assert_eq!((found.text("flag"), found.text("other")), (Some(""), None));
        assert!(found.integer("q", 1..=9).is_err() && found.integer("limit", 4..=9).is_err());
        for wrong in ["/a?q=%", "/a?q=%4", "/a?q=%zz", "/a?q=%FF", "/a?%C3=1", "/a?q=%+4"] {
            assert!(query(wrong).is_err(), "{wrong}");
        }
        assert_eq!(query("/a").unwrap().text("q"), None);
    }
}
