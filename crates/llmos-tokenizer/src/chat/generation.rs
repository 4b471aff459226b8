//! `{% generation %}` blocks: what the assistant wrote, for training.
//!
//! To a rendering such a block is one that always holds. Where it begins and ends in the output is
//! noted by a function that the block's condition calls: tags replace tags, so that no white space
//! is treated otherwise than by the original.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::Environment;

/// The function's name, which no template has.
const FUNCTION: &str = "__llmos_generation";

/// Replaces the tags of generation blocks; true if there were any.
pub(super) fn replace_tags(template: &str) -> (String, bool) {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    let mut found = false;
    while let Some(start) = rest.find("{%") {
        let Some(len) = rest[start + 2..].find("%}").map(|len| len + 2) else { break };
        let tag = &rest[start + 2..start + len];
        let trimmed = tag.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']);
        out.push_str(&rest[..start + 2]);
        let left = &tag[..tag.len() - tag.trim_start_matches(['-', '+']).len()];
        let right = &tag[tag.trim_end_matches(['-', '+']).len()..];
        match trimmed.trim() {
            "generation" => {
                found = true;
                out.push_str(&format!("{left} if {FUNCTION}(true) {right}"));
            }
            "endgeneration" => {
                out.push_str(&format!(
                    "{left} endif %}}{{% if {FUNCTION}(false) %}}{{% endif {right}"
                ));
            }
            _ => out.push_str(tag),
        }
        rest = &rest[start + len..];
    }
    out.push_str(rest);
    (out, found)
}

/// Places in the output where blocks begin and end.
#[derive(Default)]
pub(super) struct Marks {
    written: Arc<AtomicUsize>,
    places: Arc<Mutex<Vec<(bool, usize)>>>,
}

impl Marks {
    /// Bytes of output so far, to be kept up to date by who writes.
    pub(super) fn written(&self) -> Arc<AtomicUsize> {
        self.written.clone()
    }

    /// Gives templates the function that the replaced tags call.
    pub(super) fn add_to(&self, environment: &mut Environment<'_>) {
        let (written, places) = (self.written.clone(), self.places.clone());
        environment.add_function(FUNCTION, move |begins: bool| {
            let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
            places.push((begins, written.load(Ordering::Relaxed)));
            begins
        });
    }

    /// What lay in blocks, in an output of `len` bytes.
    pub(super) fn ranges(&self, len: usize) -> Vec<Range<usize>> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ranges = Vec::new();
        let mut begin = None;
        for &(begins, at) in &*places {
            match (begins, begin) {
                (true, None) => begin = Some(at),
                (false, Some(from)) => {
                    ranges.push(from..at);
                    begin = None;
                }
                _ => {}
            }
        }
        ranges.extend(begin.map(|from| from..len));
        ranges.retain(|range| !range.is_empty());
        ranges
    }
}
