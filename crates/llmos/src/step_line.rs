//! The line that a training step is told in.

use llmos_train::plan::amount::duration;
use llmos_train::run::Row;

/// `step 00100/05000 | loss 3.2141 | lr 3.0e-4 | norm 0.81 | 812 ms | 40,332 tok/s | left 1 h 02 m`,
/// with held-out loss and bits per byte where they were measured.
pub(crate) fn step_line(row: &Row, steps: u64, seconds_left: Option<f64>) -> String {
    let width = steps.to_string().len().max(5);
    let mut line = format!(
        "step {:0width$}/{steps:0width$} | loss {:.4} | lr {:.1e} | norm {:.2} | {:.0} ms | {} tok/s",
        row.step,
        row.loss,
        row.lr,
        row.grad_norm,
        row.step_ms,
        thousands(row.tokens_per_s),
    );
    if let (Some(loss), Some(bits)) = (row.val_loss, row.val_bits_per_byte) {
        line += &format!(" | held out {loss:.4}, {bits:.4} bits/byte");
    }
    if let Some(seconds) = seconds_left.filter(|_| row.step < steps) {
        line += &format!(" | left {}", duration(seconds));
    }
    line
}

/// A whole number with commas.
fn thousands(number: f64) -> String {
    llmos_train::plan::amount::figures(number.round(), 20)
}
