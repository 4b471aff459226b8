//! The tokens that may still be drawn, and the steps that leave fewer of them.

use std::cmp::Ordering;

use super::options::{DynamicTemperature, Xtc};

/// A token and what speaks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) id: u32,
    pub(super) logit: f32,
    /// Set by [`Candidates::softmax`].
    pub(super) probability: f32,
}

/// Never empty; logits are neither NaN nor plus infinity, and one at least is finite.
#[derive(Default)]
pub(super) struct Candidates {
    items: Vec<Candidate>,
    /// Likeliest first.
    sorted: bool,
    scratch: Vec<f32>,
}

/// Likeliest first, the lower id among equals: a total order, so that results do not depend on how
/// the sort works.
fn order(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

impl Candidates {
    pub(super) fn items(&self) -> &[Candidate] {
        &self.items
    }

    /// All tokens, or the `top_k` likeliest (0 is all), found in one pass over `logits` (V) with a
    /// small buffer of those above a rising threshold.
    pub(super) fn fill(&mut self, logits: &[f32], top_k: usize) {
        self.items.clear();
        self.sorted = false;
        let candidate =
            |(id, &logit): (usize, &f32)| Candidate { id: id as u32, logit, probability: 0.0 };
        if top_k == 0 || top_k >= logits.len() / 4 {
            self.items.extend(logits.iter().enumerate().map(candidate));
            if top_k != 0 {
                self.keep_top(top_k);
            }
            return;
        }
        let capacity = (4 * top_k).max(256);
        let mut threshold = f32::NEG_INFINITY;
        for (index, group) in logits.chunks(64).enumerate() {
            // Equal logits come later with higher ids, which lose anyway once the buffer was cut.
            let above = group.iter().fold(false, |above, &logit| above | (logit > threshold));
            if !above && self.items.len() >= top_k {
                continue;
            }
            let whole = group.iter().enumerate().map(|(i, logit)| (64 * index + i, logit));
            self.items.extend(whole.map(candidate));
            if self.items.len() >= capacity {
                self.select(top_k);
                threshold = self.items[top_k - 1].logit;
            }
        }
        self.keep_top(top_k);
    }

    /// The `k` likeliest; 0 is all.
    pub(super) fn keep(&mut self, k: usize) {
        if k != 0 {
            self.keep_top(k);
        }
    }

    /// The `k` likeliest, sorted.
    fn keep_top(&mut self, k: usize) {
        self.select(k);
        self.items.sort_unstable_by(order);
        self.sorted = true;
    }

    /// The `k` likeliest, the last of them at `k - 1`.
    fn select(&mut self, k: usize) {
        if k < self.items.len() {
            self.items.select_nth_unstable_by(k - 1, order);
            self.items.truncate(k);
        }
    }

    pub(super) fn sort(&mut self) {
        if !self.sorted {
            self.items.sort_unstable_by(order);
            self.sorted = true;
        }
    }

    /// Sorts the likeliest `k` into the front; returns how many are in place.
    fn sort_front(&mut self, k: usize) -> usize {
        if self.sorted || k >= self.items.len() {
            self.sort();
            return self.items.len();
        }
        self.items.select_nth_unstable_by(k - 1, order);
        self.items[..k].sort_unstable_by(order);
        k
    }

    fn max_logit(&self) -> f32 {
        if self.sorted {
            return self.items[0].logit;
        }
        self.items.iter().fold(f32::NEG_INFINITY, |max, item| max.max(item.logit))
    }

    /// Sets the probabilities.
    pub(super) fn softmax(&mut self) {
        let max = self.max_logit();
        let mut sum = 0.0f64;
        for item in &mut self.items {
            item.probability = (item.logit - max).exp();
            sum += f64::from(item.probability);
        }
        let scale = (1.0 / sum) as f32;
        for item in &mut self.items {
            item.probability *= scale;
        }
    }

    /// Nats; of the probabilities that [`Candidates::softmax`] set.
    fn entropy(&self) -> f64 {
        let terms = self.items.iter().map(|item| f64::from(item.probability));
        terms.filter(|&p| p > 0.0).map(|p| -p * p.ln()).sum()
    }

    pub(super) fn typical(&mut self, mass: f32) {
        if mass >= 1.0 {
            return;
        }
        self.sort();
        self.softmax();
        let entropy = self.entropy();
        let distance =
            |item: &Candidate| ((-f64::from(item.probability).ln() - entropy).abs()) as f32;
        self.items.sort_by(|a, b| distance(a).total_cmp(&distance(b)).then_with(|| order(a, b)));
        self.sorted = false;
        let mut sum = 0.0;
        let kept = self.items.iter().position(|item| {
            sum += item.probability;
            sum > mass
        });
        self.items.truncate(kept.map_or(self.items.len(), |last| last + 1));
    }

    pub(super) fn top_p(&mut self, mass: f32) {
        if mass >= 1.0 {
            return;
        }
        self.softmax();
        let (mut front, mut sum, mut next) = (0, 0.0, 0);
        let mut wanted = 256;
        loop {
            if next == front {
                if front == self.items.len() {
                    return;
                }
                front = self.sort_front(wanted);
                wanted *= 8;
            }
            sum += self.items[next].probability;
            next += 1;
            if sum >= mass {
                self.items.truncate(next);
                self.sorted = true;
                return;
            }
        }
    }

    pub(super) fn min_p(&mut self, fraction: f32) {
        if fraction > 0.0 {
            let least = self.max_logit() + fraction.ln();
            self.retain(|item| item.logit >= least);
        }
    }

    pub(super) fn top_n_sigma(&mut self, n: f32) {
        if n <= 0.0 {
            return;
        }
        self.scratch.clear();
        self.scratch.extend(self.items.iter().map(|i| i.logit).filter(|l| l.is_finite()));
        let count = self.scratch.len() as f64;
        let mean = self.scratch.iter().map(|&l| f64::from(l)).sum::<f64>() / count;
        let squares = self.scratch.iter().map(|&l| (f64::from(l) - mean).powi(2)).sum::<f64>();
        let least = self.max_logit() - n * (squares / count).sqrt() as f32;
        self.retain(|item| item.logit >= least);
    }

    /// Keeps those that pass; the likeliest always must.
    fn retain(&mut self, pass: impl Fn(&Candidate) -> bool) {
        if self.sorted {
            let kept = self.items.iter().position(|item| !pass(item));
            self.items.truncate(kept.unwrap_or(self.items.len()).max(1));
        } else {
            self.items.retain(pass);
        }
    }

    /// `chance` is uniform in 0 to 1.
    pub(super) fn xtc(&mut self, xtc: Xtc, chance: f32) {
        if xtc.threshold > 0.5 || self.items.len() < 2 || chance > xtc.probability {
            return;
        }
        self.sort();
        self.softmax();
        let above = self.items.iter().take_while(|i| i.probability >= xtc.threshold).count();
        self.items.drain(..above.saturating_sub(1));
    }

    /// Divides the logits; 0 leaves the likeliest alone.
    pub(super) fn temperature(&mut self, temperature: f32) {
        if temperature <= 0.0 {
            self.select(1);
            return;
        }
        // A temperature so small that a quotient overflows: distances from the largest go to minus
        // infinity, the largest itself stays.
        let max = self.max_logit();
        for item in &mut self.items {
            item.logit = (item.logit - max) / temperature;
        }
    }

    pub(super) fn dynamic_temperature(&mut self, temperature: f32, dynamic: DynamicTemperature) {
        if dynamic.range <= 0.0 {
            return self.temperature(temperature);
        }
        if self.items.len() < 2 {
            return;
        }
        let least = (temperature - dynamic.range).max(0.0);
        let most = temperature + dynamic.range;
        let possible = (self.items.len() as f64).ln();
        self.softmax();
        let relative = (self.entropy() / possible) as f32;
        self.temperature(least + (most - least) * relative.powf(dynamic.exponent));
    }

    /// Keeps those with a surprise of at most `mu` bits, or the likeliest alone.
    pub(super) fn surprise_at_most(&mut self, mu: f32) {
        self.sort();
        self.softmax();
        let kept = self.items.iter().position(|item| -item.probability.log2() > mu);
        self.items.truncate(kept.unwrap_or(self.items.len()).max(1));
    }

    /// Draws one; `chance` is uniform in 0 to 1.
    pub(super) fn draw(&mut self, chance: f64) -> Candidate {
        self.softmax();
        let total: f64 = self.items.iter().map(|item| f64::from(item.probability)).sum();
        let target = chance * total;
        let mut sum = 0.0;
        let mut last = self.items[0];
        for item in self.items.iter().filter(|item| item.probability > 0.0) {
            sum += f64::from(item.probability);
            last = *item;
            if sum > target {
                break;
            }
        }
        last
    }
}
