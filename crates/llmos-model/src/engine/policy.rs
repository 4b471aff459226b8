//! Who advances in the next step, and by how much.

use super::sequence::SequenceId;

/// A sequence that could advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub sequence: SequenceId,
    /// Its owner.
    pub owner: u64,
    /// Its priority; more is sooner.
    pub priority: i32,
    /// Tokens in the cache.
    pub computed: usize,
    /// Tokens that have to go through the model before its logits can be had, at least 1.
    pub pending: usize,
    /// It had logits before: it writes; until then it reads its prompt.
    pub begun: bool,
}

impl Waiting {
    /// True if its next logits are few rows away because it goes on token by token (speculative ones
    /// included), false while it reads a prompt or what entered from outside.
    pub fn writes(&self) -> bool {
        self.begun && self.pending <= 32
    }
}

/// What a step can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Rows of a batch.
    pub rows: usize,
    /// Cache blocks that can be had.
    pub blocks: usize,
}

/// Decides, step by step, which sequences advance. Rows beyond the capacity or a sequence's
/// pending tokens are cut off.
pub trait Policy {
    /// Sequences with rows for each; those left out wait. `waiting` is in order of arrival.
    fn plan(&mut self, waiting: &[Waiting], capacity: Capacity) -> Vec<(SequenceId, usize)>;
}

impl<F: FnMut(&[Waiting], Capacity) -> Vec<(SequenceId, usize)>> Policy for F {
    fn plan(&mut self, waiting: &[Waiting], capacity: Capacity) -> Vec<(SequenceId, usize)> {
        self(waiting, capacity)
    }
}

/// Higher priorities first, and within one priority those that write: conversations go on while a
/// long prompt fills what is left of each batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct DecodeFirst;

impl Policy for DecodeFirst {
    fn plan(&mut self, waiting: &[Waiting], capacity: Capacity) -> Vec<(SequenceId, usize)> {
        let mut order: Vec<&Waiting> = waiting.iter().collect();
        // Prompts go by arrival.
        order.sort_by_key(|w| (-i64::from(w.priority), !w.writes(), w.sequence));
        let mut rows = capacity.rows;
        let mut plan = Vec::new();
        for waiting in order {
            let taken = waiting.pending.min(rows);
            if taken == 0 {
                break;
            }
            rows -= taken;
            plan.push((waiting.sequence, taken));
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_goes_on_while_a_prompt_fills_the_rest() {
        let waiting = |id, priority, pending| Waiting {
            sequence: SequenceId(id),
            owner: 0,
            priority,
            computed: 0,
            pending,
            begun: pending < 5,
        };
        let check = |all: &[Waiting], expected: &[(u64, usize)]| {
            let plan = DecodeFirst.plan(all, Capacity { rows: 100, blocks: 9 });
            let plan: Vec<(u64, usize)> = plan.iter().map(|(id, rows)| (id.0, *rows)).collect();
            assert_eq!(plan, expected);
        };
        check(
            &[waiting(0, 0, 500), waiting(1, 0, 1), waiting(2, 0, 4)],
            &[(1, 1), (2, 4), (0, 95)],
        );
        check(&[waiting(0, 0, 1), waiting(1, 5, 300), waiting(2, 0, 1)], &[(1, 100)]);
        check(&[waiting(0, 0, 60), waiting(1, 0, 60)], &[(0, 60), (1, 40)]);
    }
}
