//! What a document is, looked at by itself: any thread may do it, in any order.

use super::duplicates::{Signature, identity};
use super::evaluation::Evaluation;
use super::language::Language;
use super::normalize::normalize;
use super::quality::Quality;
use super::read::{Document, Row};
use super::removal::Reason;
use super::words::words;

/// What documents are held against.
pub(super) struct Examiner {
    pub(super) normalize: bool,
    /// Languages that are kept; all, if there are none.
    pub(super) languages: Vec<Language>,
    pub(super) quality: Quality,
    /// Whether near-duplicates are looked for.
    pub(super) near_duplicates: bool,
    pub(super) evaluation: Evaluation,
}

/// A row with what was found.
pub(super) enum Examined {
    /// It has no text.
    Refused(Row),
    /// It has one.
    Document(Box<Findings>),
}

/// What was found about a document.
pub(super) struct Findings {
    /// The document, normalised.
    pub(super) document: Document,
    pub(super) language: Language,
    pub(super) identity: u128,
    pub(super) signature: Option<Box<Signature>>,
    /// Why it is not kept, and the figure that says so.
    pub(super) fault: Option<(Reason, String)>,
    /// Passages of evaluation sets that were cut out of it.
    pub(super) cuts: Vec<String>,
}

impl Examiner {
    /// Looks at a row.
    pub(super) fn examine(&self, row: Row) -> Examined {
        let Row::Document(mut document) = row else { return Examined::Refused(row) };
        if self.normalize
            && let std::borrow::Cow::Owned(text) = normalize(&document.text)
        {
            document.text = text;
        }
        let text = &document.text;
        if document.is_chosen {
            return self.examine_chosen(document);
        }
        if document.part == 0 && text.trim().is_empty() {
            let (at, n_byte) = (document.at, text.len() as u64);
            return Examined::Refused(Row::refused(at, n_byte, Reason::Empty));
        }
        let language = Language::of(text);
        let identity = identity(text, document.part);
        let words = words(text);
        let fault = self.fault(text, &words, language).or_else(|| {
            let at = self.evaluation.find(&words)?;
            Some((Reason::Contaminated, format!("from its word {}", at + 1)))
        });
        let is_compared = self.near_duplicates && fault.is_none();
        let signature = if is_compared { Signature::of(&words) } else { None };
        let cuts = Vec::new();
        Examined::Document(Box::new(Findings {
            document,
            language,
            identity,
            signature,
            fault,
            cuts,
        }))
    }

    /// A text that a person named is kept, but for passages of evaluation sets.
    fn examine_chosen(&self, mut document: Document) -> Examined {
        let language = Language::of(&document.text);
        let mut cuts = Vec::new();
        if !self.evaluation.is_empty()
            && let Some((left, passages)) = self.evaluation.cut(&document.text)
        {
            cuts = passages.into_iter().map(String::from).collect();
            document.text = left;
        }
        let identity = identity(&document.text, document.part);
        let (signature, fault) = (None, None);
        Examined::Document(Box::new(Findings {
            document,
            language,
            identity,
            signature,
            fault,
            cuts,
        }))
    }

    fn fault(&self, text: &str, words: &[u64], language: Language) -> Option<(Reason, String)> {
        if !self.languages.is_empty() && !self.languages.contains(&language) {
            return Some((Reason::Language, language.name().into()));
        }
        self.quality.fault(text, words)
    }
}
