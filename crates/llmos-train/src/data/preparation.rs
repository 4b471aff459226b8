//! What is prepared, and how.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;

use super::held_out::HeldOut;
use super::language::Language;
use super::quality::Quality;
use super::source::Source;

/// What is prepared, and how.
#[derive(Clone, Debug)]
pub struct Preparation {
    /// The texts, in order.
    pub sources: Vec<Source>,
    /// The field of a row that holds its text, where a source names no other.
    pub field: String,
    /// What stands between the documents of a text file; none where a file is one document.
    pub separator: Option<String>,
    /// Endings of further files in folders that are plain text, such as `rs`.
    pub endings: Vec<String>,
    /// Leave out what cannot be read, rather than stop: bytes that are no UTF-8, broken rows.
    pub lossy: bool,
    /// Whether texts are brought into one form.
    pub normalize: bool,
    /// Languages that are kept; all, if there are none.
    pub languages: Vec<Language>,
    /// What documents must look like. A text file that is named, and is one document, is kept
    /// whatever it looks like.
    pub quality: Quality,
    /// From which similarity on documents count as duplicates; none for equal ones alone.
    pub near_duplicates: Option<f64>,
    /// Evaluation sets whose passages are not trained on.
    pub evaluations: Vec<PathBuf>,
    /// What is held out for validation.
    pub held_out: HeldOut,
    /// The licence of sources that say none.
    pub licence: Option<String>,
    /// The token after each document, by name; by default the vocabulary's own.
    pub end: Option<String>,
    /// Longest row of JSON, in bytes: it is held in memory as a whole.
    pub longest_row: usize,
    /// Threads.
    pub threads: NonZero<usize>,
    /// Most memory for what duplicates are found by, in bytes.
    pub memory: usize,
}

impl Preparation {
    /// These sources with the defaults.
    pub fn new(sources: Vec<Source>) -> Preparation {
        Preparation {
            sources,
            field: "text".into(),
            separator: Some("<|endoftext|>".into()),
            endings: Vec::new(),
            lossy: false,
            normalize: true,
            languages: Vec::new(),
            quality: Quality::default(),
            near_duplicates: Some(0.8),
            evaluations: Vec::new(),
            held_out: HeldOut::Default,
            licence: None,
            end: None,
            longest_row: 64 << 20,
            threads: NonZero::<usize>::MIN,
            memory: 1 << 30,
        }
    }

    /// The settings that decide what is in the folder, for its manifest.
    pub(super) fn options(&self) -> BTreeMap<String, String> {
        let languages: Vec<&str> = self.languages.iter().map(|language| language.name()).collect();
        let evaluations: Vec<String> =
            self.evaluations.iter().map(|path| path.display().to_string()).collect();
        let near = self.near_duplicates.map_or("off".into(), |threshold| threshold.to_string());
        let quality = &self.quality;
        [
            ("field", self.field.clone()),
            ("separator", self.separator.clone().unwrap_or_default()),
            ("lossy", self.lossy.to_string()),
            ("normalize", self.normalize.to_string()),
            ("languages", languages.join(", ")),
            ("min_bytes", quality.min_bytes.to_string()),
            ("min_letters", quality.min_letters.to_string()),
            ("max_word", quality.max_word.to_string()),
            ("max_repeat", quality.max_repeat.to_string()),
            ("near_duplicates", near),
            ("decontaminate", evaluations.join(", ")),
            ("validation", format!("{:?}", self.held_out)),
        ]
        .map(|(key, value)| (key.to_string(), value))
        .into()
    }
}
