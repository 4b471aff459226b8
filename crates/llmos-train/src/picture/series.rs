//! A quantity over steps, thinned to what a picture can show.

use crate::journal::Row;

/// One place of a line: a step's value, or those of several steps together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The step, or the mean of several.
    pub step: f64,
    /// The value, or the mean.
    pub mean: f64,
    /// The least value.
    pub low: f64,
    /// The greatest.
    pub high: f64,
    /// How many values stand behind it.
    pub count: usize,
}

impl Point {
    fn add(&mut self, other: Point) {
        let (own, more) = (self.count as f64, other.count as f64);
        self.step = (self.step * own + other.step * more) / (own + more);
        self.mean = (self.mean * own + other.mean * more) / (own + more);
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.count += other.count;
    }
}

/// Larger numbers are no measurement, and their differences would overflow.
const LARGEST: f64 = 1e100;

/// The values of `rows`, in at most `columns` places of as many steps each.
///
/// A row of which `value` gives none is passed over; a value that is not a number breaks the line
/// unless others stand in its place. Each line of the answer has a point at least.
pub fn thinned(
    rows: &[Row],
    value: impl Fn(&Row) -> Option<f64>,
    columns: usize,
) -> Vec<Vec<Point>> {
    let mut lines: Vec<Vec<Point>> = Vec::new();
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return lines };
    let span = (last.step.saturating_sub(first.step) + 1) as f64;
    let columns = columns.max(1) as f64;
    let column = |step: u64| {
        let from = step.saturating_sub(first.step) as f64;
        if span <= columns { from } else { (from * columns / span).floor() }
    };
    // The column of the last point, and whether something that is no number came after it.
    let (mut at, mut is_broken) = (None, true);
    for row in rows {
        let Some(value) = value(row) else { continue };
        let here = column(row.step);
        if value.is_nan() || value.abs() > LARGEST {
            is_broken |= at != Some(here);
            continue;
        }
        let point = Point { step: row.step as f64, mean: value, low: value, high: value, count: 1 };
        match lines.last_mut() {
            Some(line) if !is_broken => match line.last_mut() {
                Some(last) if at == Some(here) => last.add(point),
                _ => line.push(point),
            },
            _ => lines.push(vec![point]),
        }
        (at, is_broken) = (Some(here), false);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(losses: &[Option<f64>]) -> Vec<Row> {
        let row = |(at, &loss)| Row { step: at as u64 + 1, loss, ..Row::default() };
        losses.iter().enumerate().map(row).collect()
    }

    #[test]
    fn few_steps_stay_as_they_are() {
        let lines = thinned(&rows(&[Some(3.0), None, Some(2.0)]), |row| row.loss, 10);
        let values: Vec<_> = lines[0].iter().map(|point| (point.step, point.mean)).collect();
        assert_eq!((lines.len(), values), (1, vec![(1.0, 3.0), (3.0, 2.0)]));
    }

    #[test]
    fn many_steps_share_places_and_none_is_lost() {
        let losses: Vec<_> = (0..10_007).map(|at| Some(f64::from(at % 7))).collect();
        let lines = thinned(&rows(&losses), |row| row.loss, 100);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].len(), 100);
        assert_eq!(lines[0].iter().map(|point| point.count).sum::<usize>(), losses.len());
        for point in &lines[0] {
            assert_eq!((point.low, point.high), (0.0, 6.0));
            assert!((point.mean - 3.0).abs() < 0.1, "{point:?}");
        }
        let sum: f64 = lines[0].iter().map(|point| point.mean * point.count as f64).sum();
        assert!((sum - losses.iter().flatten().sum::<f64>()).abs() < 1e-6);
    }

    #[test]
    fn what_is_no_number_breaks_a_line() {
        let nan = Some(f64::NAN);
        for (losses, expected) in [
            (vec![], vec![]),
            (vec![nan, Some(f64::INFINITY)], vec![]),
            (vec![Some(1.0)], vec![1]),
            (vec![Some(1.0), nan, Some(2.0), Some(3.0)], vec![1, 2]),
            (vec![nan, Some(1.0), Some(1e200)], vec![1]),
        ] {
            let lines = thinned(&rows(&losses), |row| row.loss, 10);
            let lengths: Vec<_> = lines.iter().map(Vec::len).collect();
            assert_eq!(lengths, expected, "{losses:?}");
        }
        // One among many steps of its place does not.
        let mut losses = vec![Some(1.0); 1000];
        losses[501] = nan;
        assert_eq!(thinned(&rows(&losses), |row| row.loss, 10).len(), 1);
    }
}
