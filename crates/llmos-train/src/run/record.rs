//! What a run remembers beside what its trainer holds: its rows, its dreams, and where it stands among
//! its checkpoints.

use std::path::Path;

use super::checkpoint::{self, Parent, State};
use super::folder::RunFolder;
use super::guard::Guard;
use super::log::Log;
use super::material::Material;
use super::trainer::Trainer;
use crate::Error;
use crate::journal::{Dream, Pace, Row};

/// The record of a run.
pub(super) struct Record {
    /// The last checkpoint.
    pub(super) parent: Option<Parent>,
    pub(super) metrics: Log,
    pub(super) pace: Pace,
    pub(super) dreams: Log,
    /// The last step's row, where it is not among the metrics yet.
    pub(super) pending: Option<Row>,
    /// The step with the fewest bits a byte or the least held-out loss, and these.
    pub(super) best: Option<(u64, f64)>,
}

impl Record {
    /// Brings a trainer to the last checkpoint, or to the beginning, and gives the record up to there
    /// and the seconds that led there.
    ///
    /// # Errors
    /// A checkpoint is damaged or another run's; the system refuses.
    pub(super) fn restore(
        folder: &RunFolder,
        trainer: &mut Trainer,
        material: &Material,
    ) -> Result<(Record, f64), Error> {
        let (mut row, mut parent, mut seconds) = (None, None, 0.0);
        match checkpoint::latest(&folder.join(RunFolder::CHECKPOINTS)) {
            Some((_, path)) => {
                let Trainer { network, weights, optimizer, .. } = trainer;
                let state = checkpoint::load(&path, network.layout(), weights, optimizer)?;
                check(&path, &state, trainer, material)?;
                trainer.step = state.step;
                trainer.skipped = state.skipped;
                trainer.guard = Guard::new(state.losses);
                trainer.tokens = state.row.tokens.unwrap_or_default();
                parent = Some(Parent::of(&path)?);
                row = Some(state.row);
                seconds = state.seconds;
            }
            None => trainer.begin(material)?,
        }
        let step = trainer.step;
        let (metrics, rows) = Log::open::<Row>(&folder.join(RunFolder::METRICS), step)?;
        // The row counts the writing of its checkpoint too.
        let seconds = rows.last().and_then(|row| row.seconds).unwrap_or(0.0).max(seconds);
        let pending = row.filter(|_| rows.last().is_none_or(|row| row.step < step));
        let dreamt = step - u64::from(pending.is_some());
        let (dreams, _) = Log::open::<Dream>(&folder.join(RunFolder::DREAMS), dreamt)?;
        // Of judged answers there are no bits.
        let value = |row: &Row| row.val_bits_per_byte.or(row.val_loss);
        let measured = rows.iter().filter_map(|row| Some((row.step, value(row)?)));
        let best = measured.min_by(|a, b| a.1.total_cmp(&b.1));
        let pace = Pace::of(&rows, trainer.recipe.train.steps as u64);
        Ok((Record { parent, metrics, pace, dreams, pending, best }, seconds))
    }
}

/// A checkpoint must be of this seed and of these data.
fn check(path: &Path, state: &State, trainer: &Trainer, material: &Material) -> Result<(), Error> {
    let format = |what: &str, expected: String, got: String| Error::Format {
        path: path.to_path_buf(),
        what: what.to_string(),
        expected,
        got,
    };
    let data = material.sha256();
    if state.data != data {
        return Err(format("data", format!("the data of the run, {}", state.data), data.into()));
    }
    let seed = trainer.recipe.train.seed;
    if state.seed != seed {
        return Err(format("seed", state.seed.to_string(), seed.to_string()));
    }
    Ok(())
}
