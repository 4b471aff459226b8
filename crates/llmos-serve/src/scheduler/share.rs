//! How much of each step an owner gets, where several want one.
//!
//! Whoever has the least to do does all of it in each step. The others together may make the step as
//! much longer again as there are others: with two owners each has half of the machine's time, with
//! three a third. What one does not use stays good for a while, so that a prompt is read in
//! pieces worth reading.
//!
//! A step's time is a fixed part (the weights are read once) and one that grows with its rows. Where
//! the fixed part is large, as for models that memory cannot bring fast enough, others' rows come
//! nearly for free and are let in. Both parts are measured as steps go by.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use llmos_model::engine::{Capacity, DecodeFirst, Policy, SequenceId, Waiting};

/// Shares steps between owners.
#[derive(Default)]
pub(super) struct Share {
    /// Rows that an owner may still have.
    credit: HashMap<u64, f64>,
    /// The step in which a sequence was last advanced.
    advanced: HashMap<SequenceId, u64>,
    step: u64,
    /// Rows of the last plan.
    rows: usize,
    cost: Cost,
}

/// Rows of a prompt that are worth a part in a step: with fewer, reading the weights dominates.
const PIECE: usize = 32;

/// Credit beyond this is lost: about what one step holds.
const MOST_CREDIT: f64 = 256.0;

impl Share {
    /// Notes how long the last step took.
    pub(super) fn note(&mut self, time: Duration) {
        if self.rows > 0 {
            self.cost.note(self.rows as f64, time.as_secs_f64());
        }
    }

    /// Forgets owners that want nothing, and sequences that have not been advanced for long.
    fn forget(&mut self, waiting: &[Waiting]) {
        let step = self.step;
        self.advanced.retain(|_, last| step - *last < 1000);
        self.credit.retain(|owner, _| waiting.iter().any(|w| w.owner == *owner));
    }

    fn shared(&mut self, waiting: &[Waiting], capacity: Capacity) -> Vec<(SequenceId, usize)> {
        let mut owners: BTreeMap<u64, Vec<Waiting>> = BTreeMap::new();
        for one in waiting {
            owners.entry(one.owner).or_default().push(*one);
        }
        let work = |of: &[Waiting]| of.iter().map(|one| one.pending).sum::<usize>();
        let Some((&least, _)) = owners.iter().min_by_key(|(owner, of)| (work(of), **owner)) else {
            return Vec::new();
        };
        let own = owners.remove(&least).unwrap_or_default();
        let mut plan = DecodeFirst.plan(&own, capacity);
        let taken: usize = plan.iter().map(|(_, rows)| rows).sum();
        let mut left = Capacity { rows: capacity.rows - taken, ..capacity };
        // What takes as long as this step would take without the others.
        let unit = taken as f64 + self.cost.fixed_rows();
        for (owner, mut of) in owners {
            let credit = self.credit.entry(owner).or_default();
            *credit = (*credit + unit).min(MOST_CREDIT.max(unit));
            // Those that waited longest come first: all of an owner's answers go on.
            of.sort_by_key(|one| self.advanced.get(&one.sequence).copied().unwrap_or(0));
            let mut may = (*credit as usize).min(left.rows);
            for one in of {
                let rows = one.pending.min(may);
                if rows == 0 || rows < one.pending.min(PIECE) {
                    continue;
                }
                plan.push((one.sequence, rows));
                may -= rows;
                left.rows -= rows;
                *credit -= rows as f64;
            }
        }
        plan
    }
}

impl Policy for Share {
    fn plan(&mut self, waiting: &[Waiting], capacity: Capacity) -> Vec<(SequenceId, usize)> {
        self.step += 1;
        let is_alone = waiting.windows(2).all(|pair| pair[0].owner == pair[1].owner);
        let plan = match is_alone {
            true => DecodeFirst.plan(waiting, capacity),
            false => self.shared(waiting, capacity),
        };
        self.rows = plan.iter().map(|(_, rows)| rows).sum();
        for (sequence, _) in &plan {
            self.advanced.insert(*sequence, self.step);
        }
        self.forget(waiting);
        plan
    }
}

/// A line through the times of steps by their rows; what was long ago counts less and less.
#[derive(Default)]
struct Cost {
    weight: f64,
    rows: f64,
    seconds: f64,
    rows_rows: f64,
    rows_seconds: f64,
}

/// What a step counts for after the next one.
const DECAY: f64 = 0.99;

/// More rows than this are never given away for the fixed part.
const MOST_FIXED: f64 = 16.0;

impl Cost {
    fn note(&mut self, rows: f64, seconds: f64) {
        let add = |sum: &mut f64, value: f64| *sum = *sum * DECAY + value;
        add(&mut self.weight, 1.0);
        add(&mut self.rows, rows);
        add(&mut self.seconds, seconds);
        add(&mut self.rows_rows, rows * rows);
        add(&mut self.rows_seconds, rows * seconds);
    }

    /// How many rows take as long as the fixed part; 0 where nothing is known.
    fn fixed_rows(&self) -> f64 {
        let spread = self.weight * self.rows_rows - self.rows * self.rows;
        // Steps of one size tell nothing of the slope.
        if self.weight < 8.0 || spread <= 0.01 * self.rows * self.rows {
            return 0.0;
        }
        let each = (self.weight * self.rows_seconds - self.rows * self.seconds) / spread;
        let fixed = (self.seconds - each * self.rows) / self.weight;
        if each <= 0.0 { MOST_FIXED } else { (fixed / each).clamp(0.0, MOST_FIXED) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use llmos_model::convert::FileType;
    use llmos_model::engine::SequenceOptions;
    use llmos_model::{Device, Engine, EngineOptions, Isa, Model, ModelFiles};

    use super::*;

    const STORIES: &[u8] = include_bytes!("../../../../models/stories260K.gguf");

    /// Names of sequences can be had of an engine alone.
    fn sequences(count: usize) -> Vec<SequenceId> {
        let device = Arc::new(Device::new(Isa::detect(), 1));
        let files = ModelFiles::embedded("stories", STORIES).unwrap();
        let config = files.config().unwrap().clone();
        let model = Model::random(config, FileType::F16, 1, &device).unwrap();
        let mut engine = Engine::new(Arc::new(model), device, EngineOptions::default()).unwrap();
        (0..count).map(|_| engine.add(&[1], SequenceOptions::default()).unwrap()).collect()
    }

    /// Rows by owner over so many steps, where each owner has sequences of some pending tokens.
    fn run(share: &mut Share, owners: &[(usize, usize)], steps: usize) -> Vec<usize> {
        let ids = sequences(owners.iter().map(|(count, _)| count).sum());
        let mut waiting = Vec::new();
        for (owner, &(count, pending)) in (1..).zip(owners) {
            for _ in 0..count {
                let sequence = ids[waiting.len()];
                waiting.push(Waiting { sequence, owner, priority: 0, computed: 9, pending });
            }
        }
        let mut rows = vec![0; owners.len()];
        for _ in 0..steps {
            let plan = share.plan(&waiting, Capacity { rows: 256, blocks: 99 });
            assert!(plan.iter().map(|(_, rows)| rows).sum::<usize>() <= 256);
            for (sequence, n) in plan {
                let one = waiting.iter().find(|one| one.sequence == sequence).unwrap();
                rows[one.owner as usize - 1] += n;
            }
        }
        rows
    }

    #[test]
    fn owners_have_equal_parts_of_the_time() {
        let check = |owners: &[(usize, usize)], expected: &[usize]| {
            assert_eq!(run(&mut Share::default(), owners, 64), expected, "{owners:?}");
        };
        // Alone: everything at once.
        check(&[(16, 1)], &[1024]);
        // Sixteen answers beside one: as many tokens as the one.
        check(&[(16, 1), (1, 1)], &[64, 64]);
        check(&[(16, 1), (1, 1), (4, 1)], &[64, 64, 64]);
        // Long prompts beside an answer: as many rows, in pieces.
        check(&[(16, 500), (1, 1)], &[64, 64]);
        // An answer beside a prompt: all that it can.
        check(&[(1, 1), (1, 200)], &[64, 64]);
    }

    #[test]
    fn where_rows_are_cheap_others_come_along() {
        let mut share = Share::default();
        for rows in (1..=16).cycle().take(200) {
            share.cost.note(rows as f64, 0.010 + 0.001 * rows as f64);
        }
        assert!((share.cost.fixed_rows() - 10.0).abs() < 0.01, "{}", share.cost.fixed_rows());
        assert_eq!(run(&mut share, &[(16, 1), (1, 1)], 10), [110, 10]);
        let mut flat = Cost::default();
        (0..100).for_each(|_| flat.note(4.0, 0.01));
        assert_eq!(flat.fixed_rows(), 0.0);
    }
}
