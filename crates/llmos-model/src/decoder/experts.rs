//! Mixture of experts: a router sends each token to some of many MLPs (arXiv 2401.04088).

use llmos_tensor::{Device, Matrix, matmul, ops};

use super::rows::gate_rows;
use super::weights::Gated;
use super::workspace::sized;

/// What the routing of a layer is, from its config.
pub(super) struct Routing {
    pub(super) n_expert_used: usize,
    pub(super) norm_topk: bool,
    pub(super) activation: ops::Activation,
}

/// Memory of the experts, reused by every batch.
#[derive(Default)]
pub(super) struct Buffers {
    /// (T, experts)
    scores: Vec<f32>,
    /// (T, used): expert and weight, the heaviest first.
    chosen: Vec<(usize, f32)>,
    /// Rows of one expert, (rows, C).
    gathered: Vec<f32>,
    /// (rows, F)
    gate: Vec<f32>,
    /// (rows, F)
    up: Vec<f32>,
    /// (rows, C)
    down: Vec<f32>,
    /// The output of each choice, (T, used, C).
    outputs: Vec<f32>,
}

/// Writes to `out` (T, C) the weighted sum of the chosen experts' outputs for `x` (T, C).
///
/// A row's result does not depend on the rows beside it: outputs are summed in the order of the
/// row's own choices.
pub(super) fn experts_forward(
    device: &Device,
    router: &Matrix,
    experts: &[Gated],
    routing: &Routing,
    x: &[f32],
    rows: usize,
    buffers: &mut Buffers,
    out: &mut [f32],
) {
    let isa = device.isa();
    let n_channel = router.cols();
    let used = routing.n_expert_used;
    let scores = sized(&mut buffers.scores, rows * experts.len());
    matmul(device, x, rows, &mut [(router, scores)]);
    ops::softmax_forward(isa, scores, experts.len());
    buffers.chosen.clear();
    for scores in scores.chunks_exact(experts.len()) {
        choose(scores, routing, &mut buffers.chosen);
    }
    let outputs = sized(&mut buffers.outputs, rows * used * n_channel);
    for (index, expert) in experts.iter().enumerate() {
        let choices = || {
            let chosen = buffers.chosen.iter().enumerate();
            chosen.filter(|(_, choice)| choice.0 == index).map(|(choice, _)| choice)
        };
        let count = choices().count();
        if count == 0 {
            continue;
        }
        let gathered = sized(&mut buffers.gathered, count * n_channel);
        for (choice, row) in choices().zip(gathered.chunks_exact_mut(n_channel)) {
            row.copy_from_slice(&x[choice / used * n_channel..][..n_channel]);
        }
        let inner = expert.gate.rows();
        let gate = sized(&mut buffers.gate, count * inner);
        let up = sized(&mut buffers.up, count * inner);
        matmul(device, gathered, count, &mut [(&expert.gate, &mut *gate), (&expert.up, &mut *up)]);
        gate_rows(device, routing.activation, gate, up, inner);
        let down = sized(&mut buffers.down, count * n_channel);
        matmul(device, gate, count, &mut [(&expert.down, &mut *down)]);
        for (choice, row) in choices().zip(down.chunks_exact(n_channel)) {
            outputs[choice * n_channel..][..n_channel].copy_from_slice(row);
        }
    }
    out.fill(0.0);
    for (choice, output) in outputs.chunks_exact(n_channel).enumerate() {
        let row = &mut out[choice / used * n_channel..][..n_channel];
        ops::add_scaled_forward(isa, row, output, buffers.chosen[choice].1);
    }
}

/// Appends a row's experts, the likeliest first, the lower index among equals.
fn choose(scores: &[f32], routing: &Routing, chosen: &mut Vec<(usize, f32)>) {
    let start = chosen.len();
    for _ in 0..routing.n_expert_used {
        let taken = &chosen[start..];
        let free = scores.iter().enumerate().filter(|(i, _)| taken.iter().all(|t| t.0 != *i));
        // `max_by` keeps the last of equals, so the order is turned round.
        let best = free.rev().max_by(|a, b| a.1.total_cmp(b.1));
        let Some((index, &score)) = best else { return };
        chosen.push((index, score));
    }
    if routing.norm_topk {
        let sum: f32 = chosen[start..].iter().map(|choice| choice.1).sum();
        chosen[start..].iter_mut().for_each(|choice| choice.1 /= sum);
    }
}
