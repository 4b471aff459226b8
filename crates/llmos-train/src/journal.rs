//! What a run writes as it goes, read while it is being written: metrics and samples, a JSON object
//! a line.

mod pace;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::Error;
pub use pace::Pace;

/// The metrics' name in a run's folder.
pub const METRICS: &str = "metrics.jsonl";

/// The samples' name in a run's folder.
pub const DREAMS: &str = "dreams.jsonl";

/// A line that is longer is no entry.
const LONGEST_LINE: usize = 1 << 20;

/// What was measured of a step. A value that is none was not written; one that is not a number
/// (JSON has `null` for it) is NaN. Other keys are passed over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Which step, from 1.
    pub step: u64,
    /// Tokens that the run has learned from so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Nats a token.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Learning rate.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Norm of the gradient before it was clipped.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    /// Tokens a second.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// Milliseconds that the step took.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub step_ms: Option<f64>,
    /// Nats a token of held-out text, after an evaluation.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// Bits a byte of held-out text, after an evaluation.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub val_bits_per_byte: Option<f64>,
    /// Of held-out judged answers, after an evaluation: as `reward_margin`.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub val_reward_margin: Option<f64>,
    /// Of held-out judged answers, after an evaluation: as `reward_accuracy`.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub val_reward_accuracy: Option<f64>,
    /// Of pairs: how much more the better answer gained beside the reference than the worse one,
    /// times beta; of scores, how much higher it is.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub reward_margin: Option<f64>,
    /// Of pairs: the share with a margin above zero; of answers with tags, the share that moved the
    /// right way.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub reward_accuracy: Option<f64>,
    /// Nats a token by which the better answers of pairs moved from the reference; of answers with
    /// tags, those to other questions.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// Seconds of the run until this row was written, what is measured after the step included and
    /// interruptions left out.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Batches that were left out so far, because their loss was none or leapt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<u64>,
}

/// A text that the model wrote while it learned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dream {
    /// After which step.
    pub step: u64,
    /// What it was given to begin with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// What it wrote.
    pub text: String,
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    Ok(Some(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN)))
}

/// An entry of a journal.
pub trait Entry: DeserializeOwned {
    /// After which step it was written.
    fn step(&self) -> u64;
}

impl Entry for Row {
    fn step(&self) -> u64 {
        self.step
    }
}

impl Entry for Dream {
    fn step(&self) -> u64 {
        self.step
    }
}

/// A file of entries that another process may be writing, with steps in rising order.
///
/// A run that goes on from a checkpoint repeats steps: an entry takes the place of those of its step
/// and later ones that came before it. (Several entries of one step stay if nothing lies between.)
/// Lines that are no entry are counted and passed over; a line without its line break is still being
/// written, and waits.
#[derive(Debug)]
pub struct Journal<T> {
    path: PathBuf,
    entries: Vec<T>,
    /// Bytes of the file that have been read.
    offset: u64,
    /// What follows the last line break.
    pending: Vec<u8>,
    /// Whether `pending` is the rest of a line that is too long.
    is_skipped: bool,
    /// The last bytes that were read, by which a file that was replaced is known.
    mark: Vec<u8>,
    n_damaged: u64,
}

/// Bytes of a file's end that are compared.
const MARK: usize = 256;

impl<T: Entry> Journal<T> {
    /// A journal of which nothing has been read. The file need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Journal<T> {
        Journal {
            path: path.into(),
            entries: Vec::new(),
            offset: 0,
            pending: Vec::new(),
            is_skipped: false,
            mark: Vec::new(),
            n_damaged: 0,
        }
    }

    /// Reads all that is there now.
    ///
    /// # Errors
    /// As [`Journal::refresh`].
    pub fn read(path: impl Into<PathBuf>) -> Result<Journal<T>, Error> {
        let mut journal = Journal::new(path);
        journal.refresh()?;
        Ok(journal)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entries, steps rising.
    pub fn entries(&self) -> &[T] {
        &self.entries
    }

    /// Lines that were no entry.
    pub fn n_damaged(&self) -> u64 {
        self.n_damaged
    }

    /// Reads what has been written since, and says how many entries came: the last ones of
    /// [`Journal::entries`]. A file that became shorter or was replaced is read anew; entries whose
    /// steps begin it as they began the old one have not come.
    ///
    /// # Errors
    /// [`Error::Io`] where the file is there and cannot be read.
    pub fn refresh(&mut self) -> Result<usize, Error> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                *self = Journal::new(std::mem::take(&mut self.path));
                return Ok(0);
            }
            Err(error) => return Err(Error::io("read", &self.path)(error)),
        };
        let mut came = 0;
        let read = self.take(&mut file, &mut came);
        let old = read.map_err(Error::io("read", &self.path))?;
        let pairs = self.entries.iter().zip(&old);
        let known = pairs.take_while(|(new, old)| new.step() == old.step()).count();
        Ok(came.min(self.entries.len() - known))
    }

    /// Reads to the end, and gives what was read before from a file that was replaced.
    fn take(&mut self, file: &mut File, came: &mut usize) -> std::io::Result<Vec<T>> {
        let begin = self.offset - self.mark.len() as u64;
        file.seek(SeekFrom::Start(begin))?;
        let mut mark = Vec::with_capacity(self.mark.len());
        file.by_ref().take(self.mark.len() as u64).read_to_end(&mut mark)?;
        let mut old = Vec::new();
        if mark != self.mark {
            old = std::mem::take(&mut self.entries);
            *self = Journal::new(std::mem::take(&mut self.path));
            file.seek(SeekFrom::Start(0))?;
        }
        let mut piece = vec![0; 1 << 16];
        loop {
            let n = match file.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.offset += n as u64;
            self.mark.extend(&piece[..n]);
            self.mark.drain(..self.mark.len().saturating_sub(MARK));
            for part in piece[..n].split_inclusive(|&byte| byte == b'\n') {
                self.push(part, came);
            }
        }
        Ok(old)
    }

    /// Takes a line or a part of one.
    fn push(&mut self, part: &[u8], came: &mut usize) {
        let (line, ends) = match part.split_last() {
            Some((b'\n', line)) => (line, true),
            _ => (part, false),
        };
        if self.pending.len() + line.len() > LONGEST_LINE {
            self.is_skipped = true;
            self.pending.clear();
        }
        if !self.is_skipped {
            self.pending.extend(line);
        }
        if !ends {
            return;
        }
        let blank = !self.is_skipped && self.pending.trim_ascii().is_empty();
        match serde_json::from_slice::<T>(&self.pending) {
            _ if blank => {}
            Ok(entry) if !self.is_skipped => self.put(entry, came),
            _ => self.n_damaged += 1,
        }
        self.pending.clear();
        self.is_skipped = false;
    }

    fn put(&mut self, entry: T, came: &mut usize) {
        let goes_back = self.entries.last().is_some_and(|last| last.step() > entry.step());
        if goes_back {
            let kept = self.entries.partition_point(|other| other.step() < entry.step());
            let old = self.entries.len() - *came;
            self.entries.truncate(kept);
            *came = kept.saturating_sub(old);
        }
        self.entries.push(entry);
        *came += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let file = format!("llmos-journal-{}-{name}", std::process::id());
            Place(std::env::temp_dir().join(file))
        }

        fn append(&self, text: &str) {
            let mut file = File::options().create(true).append(true).open(&self.0).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn steps(journal: &Journal<Row>) -> Vec<u64> {
        journal.entries().iter().map(|row| row.step).collect()
    }

    #[test]
    fn lines_come_whole_however_they_are_written() {
        let place = Place::new("torn");
        let mut journal = Journal::<Row>::new(&place.0);
        assert_eq!(journal.refresh().unwrap(), 0);
        place.append("{\"step\":1,\"loss\":7.5,\"new\":[1]}\n{\"step\":2,\"lo");
        assert_eq!(journal.refresh().unwrap(), 1);
        assert_eq!(journal.refresh().unwrap(), 0);
        place.append("ss\":7.25}");
        assert_eq!(journal.refresh().unwrap(), 0);
        place.append("\n\n");
        assert_eq!(journal.refresh().unwrap(), 1);
        assert_eq!(journal.refresh().unwrap(), 0);
        assert_eq!(steps(&journal), [1, 2]);
        assert_eq!(journal.entries()[1].loss, Some(7.25));
        assert_eq!((journal.entries()[1].lr, journal.n_damaged()), (None, 0));
    }

    #[test]
    fn what_is_no_number_is_not_what_is_missing() {
        let row: Row = serde_json::from_str(r#"{"step":3,"loss":null}"#).unwrap();
        assert!(row.loss.unwrap().is_nan());
        assert_eq!(row.val_loss, None);
    }

    #[test]
    fn damaged_lines_are_passed_over() {
        let place = Place::new("damaged");
        let long = format!("{{\"step\":2,\"x\":\"{}\"}}\n", "y".repeat(LONGEST_LINE));
        place
            .append(&format!("no\n{{\"step\":1}}\n{long}{{\"step\":-4}}\n{{\"step\":3}}\n\u{0}\n"));
        let journal = Journal::<Row>::read(&place.0).unwrap();
        assert_eq!(steps(&journal), [1, 3]);
        assert_eq!(journal.n_damaged(), 4);
    }

    #[test]
    fn steps_that_are_done_again_replace_the_first_ones() {
        let place = Place::new("again");
        place.append("{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
        let mut journal = Journal::<Row>::read(&place.0).unwrap();
        place.append("{\"step\":2,\"loss\":1}\n");
        assert_eq!(journal.refresh().unwrap(), 1);
        assert_eq!(steps(&journal), [1, 2]);
        assert_eq!(journal.entries()[1].loss, Some(1.0));
    }

    #[test]
    fn a_file_that_was_replaced_is_read_anew() {
        let place = Place::new("replaced");
        place.append("{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
        let mut journal = Journal::<Row>::read(&place.0).unwrap();
        for (text, came, expected) in [
            // The run went back: what is left is known.
            ("{\"step\":1}\n", 0, vec![1]),
            ("{\"step\":8}\n{\"step\":9}\n", 2, vec![8, 9]),
            ("", 0, vec![]),
            ("{\"step\":4}\n", 1, vec![4]),
        ] {
            std::fs::write(&place.0, text).unwrap();
            assert_eq!(journal.refresh().unwrap(), came, "{text}");
            assert_eq!(steps(&journal), expected);
        }
        std::fs::remove_file(&place.0).unwrap();
        assert_eq!(journal.refresh().unwrap(), 0);
        assert!(journal.entries().is_empty());
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_in_pieces_is_read_as_at_once(
            pieces in proptest::collection::vec("([0-9]|[{}\\[\\]\",: \n]|\"step\":|null|\\{\"step\":[0-9]\\}\n|.){0,12}", 0..9)
        ) {
            let (whole, parts) = (Place::new("whole"), Place::new("parts"));
            whole.append(&pieces.concat());
            let mut followed = Journal::<Row>::new(&parts.0);
            let mut came = 0;
            for piece in &pieces {
                parts.append(piece);
                let before = followed.entries().len();
                let new = followed.refresh().unwrap();
                proptest::prop_assert!(new <= followed.entries().len() && followed.entries().len() <= before + new);
                came += new;
            }
            let read = Journal::<Row>::read(&whole.0).unwrap();
            // Debug, because NaN is not itself.
            let (followed_rows, read_rows) = (followed.entries(), read.entries());
            proptest::prop_assert_eq!(format!("{followed_rows:?}"), format!("{read_rows:?}"));
            proptest::prop_assert_eq!(followed.n_damaged(), read.n_damaged());
            proptest::prop_assert!(came >= read.entries().len());
        }
    }
}
