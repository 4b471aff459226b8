//! How fast a run goes, and how long the rest of it takes: one answer for whoever trains and whoever
//! watches.

use std::collections::VecDeque;

use super::Row;

/// Steps that are looked back on are a fifth of the run, in which evaluations and checkpoints come
/// about as often as in all of it, and not fewer than these.
const FEWEST: usize = 50;

/// The pace of a run by its last steps, with what was done between them.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// Steps of the run; 0 where that is not known.
    steps: u64,
    /// The last steps, and the run's seconds when each was over.
    last: VecDeque<(u64, f64)>,
    /// Milliseconds of the last step.
    step_ms: Option<f64>,
}

impl Pace {
    /// The pace of a run of `steps` that wrote `rows` so far.
    pub fn of(rows: &[Row], steps: u64) -> Pace {
        let mut pace = Pace { steps, ..Pace::default() };
        rows[rows.len().saturating_sub(pace.window())..].iter().for_each(|row| pace.push(row));
        pace
    }

    fn window(&self) -> usize {
        usize::try_from(self.steps / 5).unwrap_or(usize::MAX).max(FEWEST)
    }

    /// Takes the next row. One without its time says nothing.
    pub fn push(&mut self, row: &Row) {
        let Some(seconds) = row.seconds.filter(|seconds| seconds.is_finite()) else { return };
        if self.last.len() >= self.window() {
            self.last.pop_front();
        }
        self.last.push_back((row.step, seconds));
        self.step_ms = row.step_ms;
    }

    /// Seconds that the steps which are missing take; none where no row or no end is known.
    pub fn seconds_left(&self) -> Option<f64> {
        let ((first, began), &(step, now)) = (*self.last.front()?, self.last.back()?);
        let per_step = match step.saturating_sub(first) {
            0 => self.step_ms? / 1000.0,
            done => (now - began) / done as f64,
        };
        let is_time = self.steps > 0 && per_step >= 0.0 && per_step.is_finite();
        is_time.then(|| per_step * self.steps.saturating_sub(step) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64, seconds: f64) -> Row {
        Row { step, seconds: Some(seconds), step_ms: Some(125.0), ..Row::default() }
    }

    /// Seconds left of a run of 1000 steps after these rows, read at once and one by one.
    fn left(rows: &[Row]) -> Option<f64> {
        let mut pace = Pace::of(&[], 1000);
        rows.iter().for_each(|row| pace.push(row));
        let left = pace.seconds_left();
        assert_eq!(left, Pace::of(rows, 1000).seconds_left());
        left
    }

    #[test]
    fn what_lies_between_steps_is_part_of_their_time() {
        assert_eq!(left(&[]), None);
        // What came before the first step says nothing of the others.
        assert_eq!(left(&[row(1, 60.0)]), Some(124.875));
        assert_eq!(left(&[row(1, 60.0), row(2, 60.25)]), Some(249.5));
        // An evaluation of 5 s after every 50th step of 0.125 s: 0.225 s a step.
        let seconds = |step: u64| 60.0 + 0.125 * step as f64 + 5.0 * (step / 50) as f64;
        let rows: Vec<Row> = (1..=500).map(|step| row(step, seconds(step))).collect();
        let left_then = left(&rows).unwrap();
        assert!((left_then / (500.0 * 0.225) - 1.0).abs() < 0.02, "{left_then}");
        // It became four times as slow a fifth of the run ago.
        let slow = (501..=700).map(|step| row(step, seconds(500) + 0.5 * (step - 500) as f64));
        let rows: Vec<Row> = rows.into_iter().chain(slow).collect();
        assert_eq!(left(&rows), Some(150.0));
    }

    #[test]
    fn what_says_nothing_is_passed_over() {
        let (begun, ended) = (row(1, 1.0), row(9, 2.0));
        let silent = Row { seconds: None, ..row(5, 0.0) };
        let broken = row(6, f64::NAN);
        assert_eq!(left(&[begun.clone(), silent, broken, ended.clone()]), Some(123.875));
        assert_eq!(Pace::of(&[begun, ended.clone()], 0).seconds_left(), None);
        assert_eq!(Pace::of(&[row(1, 1.0), ended], 5).seconds_left(), Some(0.0));
        assert_eq!(Pace::of(&[row(1, 2.0), row(2, 1.0)], 5).seconds_left(), None);
    }
}
