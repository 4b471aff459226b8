//! Batches by seed and step: which tokens a row has depends on these two numbers, the data and the
//! options alone, so a run that goes on, or one of many machines, asks for any row that it wants.
//!
//! Rows are numbered over the whole run: batch `step` has the rows from `step · batch` on. Where
//! sources are mixed, each run of [`BLOCK`] rows has a fixed number of rows of each source, in
//! random order, and each source counts its own rows: so it goes through its text once before it
//! begins again, whatever its weight.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Split};
use super::manifest::Span;
use super::packing::{Packing, Stretch};
use super::shuffle::{Permutation, below, hash};
use crate::Error;

/// Rows over which sources are mixed in exact proportion: the smallest weight is one of them.
const BLOCK: u64 = 1 << 16;

/// How a source's text is cut into rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Windows that lie side by side, in a new random order and at a new offset each epoch: each
    /// token is a target once an epoch, but for less than a window of them.
    #[default]
    Epochs,
    /// Windows at random places, as nanoGPT draws them.
    Random,
    /// Rows that begin with documents, packed by best fit, in a new random order each epoch.
    Packed,
}

impl Order {
    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Order::Epochs => "epochs",
            Order::Random => "random",
            Order::Packed => "packed",
        }
    }
}

/// What batches are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Targets of a row, T.
    pub context: usize,
    /// Rows of a batch, B.
    pub batch: usize,
    /// What every random choice depends on.
    pub seed: u64,
    /// How text is cut into rows.
    pub order: Order,
    /// Whether [`Batch::starts`] says where documents begin, for attention that ends there.
    pub documents: bool,
}

/// Rows of tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Ids, (B, T + 1): the inputs of a row are its first T, the targets its last T.
    pub tokens: Vec<u32>,
    /// Of each row, (B), the places at which another document begins, from 0 on, sorted. Just 0
    /// for each row where documents were not asked for.
    pub starts: Vec<Vec<u32>>,
}

/// Sources that are drawn from as one text.
#[derive(Debug)]
struct Pool {
    name: String,
    span: Span,
    /// The first of its places in a block, and how many it has.
    first_slot: u64,
    n_slot: u64,
    /// How often it may be seen.
    epochs: Option<f64>,
    packing: Option<Packing>,
    /// Rows of an epoch.
    n_row: u64,
}

/// Batches of a data set.
#[derive(Debug)]
pub struct Batches {
    dataset: Arc<Dataset>,
    options: BatchOptions,
    pools: Vec<Pool>,
    /// Where training documents begin, if that was asked for.
    starts: Arc<[u64]>,
}

impl Batches {
    /// Batches of the training stream.
    ///
    /// # Errors
    /// [`Error::Setting`] for a context or batch of 0, or a context longer than a source's text;
    /// otherwise as [`Dataset::read`].
    pub fn new(dataset: Arc<Dataset>, options: BatchOptions) -> Result<Batches, Error> {
        let refuse = |key: &str, problem: String| Error::Setting { key: key.into(), problem };
        for (key, value) in [("train.context", options.context), ("train.batch", options.batch)] {
            if value == 0 || value > 1 << 30 {
                return Err(refuse(key, format!("{value} is not 1 to a billion")));
            }
        }
        let is_packed = options.order == Order::Packed;
        let starts = match options.documents || is_packed {
            true => dataset.document_starts(Split::Train)?,
            false => Arc::default(),
        };
        let mut pools = pools_of(&dataset);
        for pool in &mut pools {
            let Span { start, tokens, .. } = pool.span;
            let context = options.context as u64;
            if is_packed {
                let end = start + tokens;
                let inside = starts.iter().filter(|&&at| start < at && at < end);
                let places = [start].iter().chain(inside).copied().chain([end]).collect();
                let packing = Packing::new(places, options.context + 1);
                pool.n_row = packing.n_row();
                pool.packing = Some(packing);
            } else if tokens <= context {
                let most = tokens.saturating_sub(1);
                let name = &pool.name;
                return Err(refuse(
                    "train.context",
                    format!(
                        "{context} is longer than {name}, which has {tokens} tokens: at most {most}"
                    ),
                ));
            } else {
                pool.n_row = (tokens - 1) / context;
            }
        }
        if pools.iter().any(|pool| pool.n_row == 0) || pools.is_empty() {
            return Err(refuse("data", "there is nothing to train on".into()));
        }
        Ok(Batches { dataset, options, pools, starts })
    }

    /// The data set.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// Fills `batch` with the rows of a step.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn fill(&self, step: u64, batch: &mut Batch) -> Result<(), Error> {
        let n = self.options.batch;
        self.fill_rows(step.wrapping_mul(n as u64), n, batch)
    }

    /// Fills `batch` with `n` rows from row `first` of the run on: part of a step, for a machine
    /// or an accumulation of its own.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn fill_rows(&self, first: u64, n: usize, batch: &mut Batch) -> Result<(), Error> {
        let width = self.options.context + 1;
        batch.tokens.resize(n * width, 0);
        batch.starts.resize_with(n, Vec::new);
        let rows = batch.tokens.chunks_exact_mut(width).zip(&mut batch.starts);
        for (row, (tokens, starts)) in (0..).zip(rows) {
            self.fill_row(first.wrapping_add(row), tokens, starts)?;
        }
        Ok(())
    }

    fn fill_row(&self, row: u64, tokens: &mut [u32], starts: &mut Vec<u32>) -> Result<(), Error> {
        starts.clear();
        let (pool, number) = self.pool_of(row);
        if let Some(packing) = &self.pools[pool].packing {
            let mut at = 0;
            for Stretch { start, length } in self.packed(packing, pool, number) {
                if at == 0 || self.options.documents {
                    starts.push(at as u32);
                }
                self.dataset.read(Split::Train, start, &mut tokens[at..at + length])?;
                at += length;
            }
            return Ok(());
        }
        let start = self.window(pool, number);
        self.dataset.read(Split::Train, start, tokens)?;
        starts.push(0);
        if self.options.documents {
            let from = self.starts.partition_point(|&at| at <= start);
            let inside = self.starts[from..].iter().map(|at| at - start);
            starts.extend(inside.take_while(|&at| at < tokens.len() as u64).map(|at| at as u32));
        }
        Ok(())
    }

    /// The pool of a row, and the row's number within it.
    fn pool_of(&self, row: u64) -> (usize, u64) {
        if self.pools.len() == 1 {
            return (0, row);
        }
        let block = row / BLOCK;
        let order = Permutation::new(BLOCK, hash(&[self.options.seed, 1, block]));
        let slot = order.at(row % BLOCK);
        let pool = self.pools.partition_point(|pool| pool.first_slot <= slot) - 1;
        let Pool { first_slot, n_slot, .. } = self.pools[pool];
        (pool, block * n_slot + slot - first_slot)
    }

    /// The first token of a window.
    fn window(&self, pool: usize, number: u64) -> u64 {
        let Pool { span, n_row, .. } = &self.pools[pool];
        let (seed, context) = (self.options.seed, self.options.context as u64);
        if self.options.order == Order::Random {
            let random = hash(&[seed, 2, pool as u64, number]);
            return span.start + below(span.tokens - context, random);
        }
        let (epoch, place) = (number / n_row, number % n_row);
        let key = hash(&[seed, 3, pool as u64, epoch]);
        // The windows do not fill the text; where they begin changes from epoch to epoch.
        let offset = below(span.tokens - n_row * context, hash(&[key, 4]));
        span.start + offset + Permutation::new(*n_row, key).at(place) * context
    }

    /// The stretches of a packed row.
    fn packed(&self, packing: &Packing, pool: usize, number: u64) -> Vec<Stretch> {
        let (epoch, place) = (number / packing.n_row(), number % packing.n_row());
        let key = hash(&[self.options.seed, 3, pool as u64, epoch]);
        packing.row(Permutation::new(packing.n_row(), key).at(place))
    }

    /// How often `n_row` rows go through each source, by name; all sources as one where they are
    /// not mixed.
    pub fn epochs(&self, n_row: u64) -> Vec<(String, f64)> {
        let all: u64 = self.pools.iter().map(|pool| pool.n_slot).sum();
        let epochs = self.pools.iter().map(|pool| {
            let rows = n_row as f64 * pool.n_slot as f64 / all as f64;
            (pool.name.clone(), rows / pool.n_row as f64)
        });
        epochs.collect()
    }

    /// Rows that can be drawn before a source is seen more often than its `epochs` allow, and that
    /// source; none where no source has such a limit.
    pub fn row_limit(&self) -> Option<(u64, String)> {
        let limits =
            self.epochs(1).into_iter().zip(&self.pools).filter_map(|((name, each), pool)| {
                Some(((pool.epochs? / each).round() as u64, name))
            });
        limits.min()
    }
}

/// The data set's sources as one pool, or one for each where they have weights or epochs.
fn pools_of(dataset: &Dataset) -> Vec<Pool> {
    let sources = &dataset.manifest().sources;
    let pool = |name: &str, span: Span| Pool {
        name: name.into(),
        span,
        first_slot: 0,
        n_slot: BLOCK,
        epochs: None,
        packing: None,
        n_row: 0,
    };
    if sources.iter().all(|source| source.weight.is_none() && source.epochs.is_none()) {
        let tokens = dataset.n_token(Split::Train);
        return vec![pool("the text", Span { tokens, ..Span::default() })];
    }
    let mut pools = Vec::new();
    let mut shares = Vec::new();
    for source in sources.iter().filter(|source| source.train.tokens > 0) {
        let epochs = source.weight.and(source.epochs);
        pools.push(Pool { epochs, ..pool(&source.path, source.train) });
        shares.push(source.share);
    }
    let mut first = 0;
    for (pool, n_slot) in pools.iter_mut().zip(slots(&shares)) {
        (pool.first_slot, pool.n_slot) = (first, n_slot);
        first += n_slot;
    }
    pools
}

/// Places of a block for each share, at least one, [`BLOCK`] in all: the largest remainders are
/// rounded up.
fn slots(shares: &[f64]) -> Vec<u64> {
    let total: f64 = shares.iter().sum();
    // One for each is set aside first.
    let rest = BLOCK.saturating_sub(shares.len() as u64);
    let exact: Vec<f64> =
        shares.iter().map(|share| (share / total * BLOCK as f64 - 1.0).max(0.0)).collect();
    let scale = rest as f64 / exact.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let exact: Vec<f64> = exact.iter().map(|exact| exact * scale).collect();
    let mut slots: Vec<u64> = exact.iter().map(|exact| exact.floor() as u64 + 1).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()).then(a.cmp(&b)));
    let missing = BLOCK.saturating_sub(slots.iter().sum());
    for index in
        order.into_iter().cycle().take(if shares.is_empty() { 0 } else { missing as usize })
    {
        slots[index] += 1;
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_shares_and_fill_a_block() {
        for shares in [&[0.7, 0.2, 0.1][..], &[1.0, 1e-9], &[1.0; 7], &[1e-12, 1e-12, 1.0], &[3.0]]
        {
            let slots = slots(shares);
            assert_eq!(slots.iter().sum::<u64>(), BLOCK, "{shares:?}");
            let total: f64 = shares.iter().sum();
            for (&slot, share) in slots.iter().zip(shares) {
                assert!(slot >= 1);
                let exact = share / total * BLOCK as f64;
                assert!((slot as f64 - exact).abs() < 3.0, "{slot} for {exact}");
            }
        }
    }
}
