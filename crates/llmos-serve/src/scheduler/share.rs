//! How much of each step an owner gets, where several want one.
//!
//! Whoever has the least to do does all of it in each step. The others together may make the step as
//! much longer again as there are others: with two owners each has half of the machine's time, with
//! three a third. What one does not use stays good for a while, so that a prompt is read in
//! pieces worth reading.
//!
//! While answers are written, prompts are read in pieces: a step takes at most about twice as long as
//! the answers alone would make it, or as long as the least piece worth reading.
//!
//! A step's time is a fixed part (the weights are read once) and one that grows with its work: rows,
//! each with what it looks back at. Where the fixed part is large, as for models that memory cannot
//! bring fast enough, others' rows come nearly for free and are let in. Both parts are measured as
//! steps go by.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use llmos_model::Config;
use llmos_model::config::Mlp;
use llmos_model::engine::{Capacity, DecodeFirst, Policy, SequenceId, Waiting};

/// Shares steps between owners.
#[derive(Default)]
pub(super) struct Share {
    /// Work that an owner may still have done. A row without a past is 1.
    credit: HashMap<u64, f64>,
    /// The step in which a sequence was last advanced.
    advanced: HashMap<SequenceId, u64>,
    step: u64,
    /// Work of the last plan.
    work: f64,
    /// Work of a token that a row looks back at.
    past: f64,
    cost: Cost,
}

/// Rows of a prompt that are worth a part in a step: with fewer, reading the weights dominates. On an
/// AMD EPYC with two threads 134 million parameters in Q4_0 are read at 1,210 tokens/s in pieces of 8
/// and at 1,380 in pieces of 256.
const PIECE: usize = 8;

/// Credit beyond this is lost: about what one step holds.
const MOST_CREDIT: f64 = 256.0;

impl Share {
    /// Shares the steps of a model: by its shape, what a row multiplies and what each token of its
    /// past adds to that.
    pub(super) fn of(config: &Config) -> Share {
        let d_model = config.d_model as f64;
        let (mut row, mut past) = (config.vocab_size as f64 * d_model, 0.0);
        for layer in &config.layers {
            let width = (layer.n_head * layer.head_dim) as f64;
            let narrow = (layer.n_kv_head * layer.head_dim) as f64;
            let inner = match layer.mlp {
                Mlp::Dense { d_ff, .. } => d_ff,
                Mlp::Experts { d_ff, n_expert_used, .. } => d_ff * n_expert_used,
            };
            // Queries, output, keys and values; then the three matrices of the MLP.
            row += d_model * (2.0 * width + 2.0 * narrow + 3.0 * inner as f64);
            past += 2.0 * width;
        }
        Share { past: past / row.max(1.0), ..Share::default() }
    }

    /// Notes how long the last plan took.
    pub(super) fn note(&mut self, time: Duration) {
        if self.work > 0.0 {
            self.cost.note(self.work, time.as_secs_f64());
        }
    }

    /// The work of so many rows of a sequence.
    fn work(&self, one: &Waiting, rows: usize) -> f64 {
        let before = one.computed as f64 + rows as f64 / 2.0;
        rows as f64 * (1.0 + self.past * before)
    }

    /// Forgets owners that want nothing, and sequences that have not been advanced for long.
    fn forget(&mut self, waiting: &[Waiting]) {
        let step = self.step;
        self.advanced.retain(|_, last| step - *last < 1000);
        self.credit.retain(|owner, _| waiting.iter().any(|w| w.owner == *owner));
    }

    /// What a step may hold so that answers go on evenly beside prompts.
    fn paced(&self, waiting: &[Waiting], capacity: Capacity) -> Capacity {
        let written = || waiting.iter().filter(|one| one.writes());
        let rows: usize = written().map(|one| one.pending).sum();
        if rows == 0 {
            return capacity;
        }
        let work: f64 = written().map(|one| self.work(one, one.pending)).sum();
        let piece = (work + self.cost.fixed) as usize;
        Capacity { rows: capacity.rows.min(rows + piece.max(PIECE)), ..capacity }
    }

    fn shared(&mut self, waiting: &[Waiting], capacity: Capacity) -> Vec<(SequenceId, usize)> {
        let mut owners: BTreeMap<u64, Vec<Waiting>> = BTreeMap::new();
        for one in waiting {
            owners.entry(one.owner).or_default().push(*one);
        }
        let work = |of: &[Waiting]| -> f64 {
            of.iter().map(|one| self.work(one, one.pending.min(capacity.rows))).sum()
        };
        let works = owners.iter().map(|(owner, of)| (work(of), *owner));
        let Some((_, least)) = works.min_by(|one, other| one.0.total_cmp(&other.0)) else {
            return Vec::new();
        };
        let own = owners.remove(&least).unwrap_or_default();
        let mut plan = DecodeFirst.plan(&own, capacity);
        let mut left = capacity.rows - plan.iter().map(|(_, rows)| rows).sum::<usize>();
        // What takes as long as this step would take without the others.
        let unit = self.planned(&own, &plan) + self.cost.fixed;
        for (owner, mut of) in owners {
            let credit = self.credit.get(&owner).copied().unwrap_or_default();
            let mut credit = (credit + unit).min(MOST_CREDIT.max(unit));
            // Those that waited longest come first: all of an owner's answers go on.
            of.sort_by_key(|one| self.advanced.get(&one.sequence).copied().unwrap_or(0));
            for one in of {
                let affordable = credit / self.work(&one, 1);
                let rows = one.pending.min(affordable as usize).min(left);
                if rows == 0 || rows < one.pending.min(PIECE) {
                    continue;
                }
                plan.push((one.sequence, rows));
                left -= rows;
                credit -= self.work(&one, rows);
            }
            self.credit.insert(owner, credit);
        }
        plan
    }

    /// The work of a plan.
    fn planned(&self, waiting: &[Waiting], plan: &[(SequenceId, usize)]) -> f64 {
        let work = |(sequence, rows): &(SequenceId, usize)| {
            let one = waiting.iter().find(|one| one.sequence == *sequence);
            one.map_or(0.0, |one| self.work(one, *rows))
        };
        plan.iter().map(work).sum()
    }
}

impl Policy for Share {
    fn plan(&mut self, waiting: &[Waiting], capacity: Capacity) -> Vec<(SequenceId, usize)> {
        self.step += 1;
        let capacity = self.paced(waiting, capacity);
        let is_alone = waiting.windows(2).all(|pair| pair[0].owner == pair[1].owner);
        let plan = match is_alone {
            true => DecodeFirst.plan(waiting, capacity),
            false => self.shared(waiting, capacity),
        };
        self.work = self.planned(waiting, &plan);
        for (sequence, _) in &plan {
            self.advanced.insert(*sequence, self.step);
        }
        self.forget(waiting);
        plan
    }
}

/// A line through the times of steps by their work; what was long ago counts less and less.
#[derive(Default)]
struct Cost {
    weight: f64,
    work: f64,
    seconds: f64,
    work_work: f64,
    work_seconds: f64,
    /// How much work takes as long as the fixed part; 0 while nothing is known.
    fixed: f64,
}

/// What a step counts for after the next one.
const DECAY: f64 = 0.99;

/// More work than this is never given away for the fixed part.
const MOST_FIXED: f64 = 16.0;

impl Cost {
    fn note(&mut self, work: f64, seconds: f64) {
        let add = |sum: &mut f64, value: f64| *sum = *sum * DECAY + value;
        add(&mut self.weight, 1.0);
        add(&mut self.work, work);
        add(&mut self.seconds, seconds);
        add(&mut self.work_work, work * work);
        add(&mut self.work_seconds, work * seconds);
        let spread = self.weight * self.work_work - self.work * self.work;
        // Steps of one size tell nothing of the slope; what was known stays.
        if self.weight < 8.0 || spread <= 0.01 * self.work * self.work {
            return;
        }
        let each = (self.weight * self.work_seconds - self.work * self.seconds) / spread;
        let fixed = (self.seconds - each * self.work) / self.weight;
        self.fixed = if each <= 0.0 { MOST_FIXED } else { (fixed / each).clamp(0.0, MOST_FIXED) };
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
                waiting.push(Waiting {
                    sequence,
                    owner,
                    priority: 0,
                    computed: 9,
                    pending,
                    begun: pending == 1,
                });
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
    fn answers_go_on_evenly_beside_prompts() {
        let ids = sequences(65);
        let rows = |fixed: f64, answers: usize| {
            let mut share = Share::default();
            share.cost.fixed = fixed;
            let one = |(i, &sequence): (usize, &SequenceId)| Waiting {
                sequence,
                owner: 0,
                priority: 0,
                computed: 0,
                pending: if i < answers { 1 } else { 500 },
                begun: i < answers,
            };
            let waiting: Vec<_> = ids[..=answers].iter().enumerate().map(one).collect();
            let plan = share.plan(&waiting, Capacity { rows: 256, blocks: 99 });
            plan.iter().find(|(id, _)| *id == ids[answers]).unwrap().1
        };
        assert_eq!(rows(0.0, 0), 256);
        assert_eq!(rows(0.0, 4), 8);
        assert_eq!(rows(16.0, 4), 20);
        assert_eq!(rows(16.0, 64), 80);
    }

    #[test]
    fn a_long_past_counts() {
        let ids = sequences(2);
        let waiting = [(1, 1000), (2, 0)].map(|(owner, computed)| Waiting {
            sequence: ids[owner as usize - 1],
            owner,
            priority: 0,
            computed,
            pending: 1,
            begun: true,
        });
        // A row with that past is as much work as two without one.
        let mut share = Share { past: 0.001, ..Share::default() };
        let capacity = Capacity { rows: 256, blocks: 99 };
        let plans = (0..100).map(|_| share.plan(&waiting, capacity));
        let rows = plans.map(|plan| plan.iter().any(|(id, _)| *id == ids[0]) as usize);
        assert!((48..=50).contains(&rows.sum::<usize>()));
        let files = ModelFiles::embedded("stories", STORIES).unwrap();
        let past = Share::of(files.config().unwrap()).past;
        assert!((0.001..0.01).contains(&past), "{past}");
    }

    #[test]
    fn where_rows_are_cheap_others_come_along() {
        let mut share = Share::default();
        for rows in (1..=16).cycle().take(200) {
            share.cost.note(f64::from(rows), 0.0101 + 0.001 * f64::from(rows));
        }
        assert!((share.cost.fixed - 10.1).abs() < 0.01, "{}", share.cost.fixed);
        assert_eq!(run(&mut share, &[(16, 1), (1, 1)], 10), [110, 10]);
        let mut flat = Cost::default();
        (0..100).for_each(|_| flat.note(4.0, 0.01));
        assert_eq!(flat.fixed, 0.0);
    }
}
