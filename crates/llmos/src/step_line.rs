//! One line a step: what `pretrain` says as it goes, and `watch` without a terminal.

use llmos_train::journal::Row;
use llmos_train::plan::amount::figures;

/// The line of a step of `steps` (0 where the end is not known), with the time that is left if that
/// is known: `step 00100/05000 | loss 3.2141 | lr 3.0e-4 | norm 0.81 | 812 ms | 40,332 tok/s |
/// left 1 h 02 m`. What was not measured is left out; after an evaluation the held-out loss stands
/// beside the loss.
pub(crate) fn step_line(row: &Row, steps: u64, seconds_left: Option<f64>) -> String {
    let digits = steps.max(row.step).to_string().len().max(5);
    let step = row.step;
    let mut parts = vec![match steps {
        0 => format!("step {step:0digits$}"),
        steps => format!("step {step:0digits$}/{steps:0digits$}"),
    }];
    let mut part = |value: Option<f64>, text: &dyn Fn(f64) -> String| {
        parts.extend(value.map(text));
    };
    part(row.loss, &|loss| format!("loss {}", nats(loss)));
    part(row.val_loss, &|loss| format!("held-out {}", nats(loss)));
    part(row.val_bits_per_byte, &|bits| format!("{} bits a byte", nats(bits)));
    part(row.val_reward_accuracy, &|share| format!("held-out right {:.0} %", 100.0 * share));
    part(row.val_reward_margin, &|margin| format!("held-out margin {}", nats(margin)));
    part(row.reward_accuracy, &|share| format!("right {:.0} %", 100.0 * share));
    part(row.reward_margin, &|margin| format!("margin {}", nats(margin)));
    part(row.kl, &|kl| format!("kl {}", nats(kl)));
    part(row.lr, &|lr| format!("lr {lr:.1e}"));
    part(row.grad_norm, &|norm| format!("norm {}", norm_text(norm)));
    part(row.step_ms, &milliseconds);
    part(row.tokens_per_s, &|rate| format!("{} tok/s", rate_text(rate)));
    part(seconds_left, &|seconds| format!("left {}", time_text(seconds)));
    parts.join(" | ")
}

/// A loss with four decimals, or `nan`.
pub(crate) fn nats(loss: f64) -> String {
    match loss {
        loss if loss.is_nan() => "nan".to_string(),
        // Nothing has no sign.
        loss if loss.abs() < 0.00005 => "0.0000".to_string(),
        loss => format!("{loss:.4}"),
    }
}

/// Tokens a second: whole, three figures where they are few.
pub(crate) fn rate_text(rate: f64) -> String {
    match rate {
        rate if rate.is_nan() => "nan".to_string(),
        rate if rate < 100.0 => figures(rate, 3),
        rate => figures(rate.round(), 15),
    }
}

fn norm_text(norm: f64) -> String {
    match norm {
        norm if norm.is_nan() => "nan".to_string(),
        norm if norm < 1000.0 => format!("{norm:.2}"),
        norm => format!("{norm:.1e}"),
    }
}

fn milliseconds(time: f64) -> String {
    match time {
        time if time < 9.95 => format!("{time:.1} ms"),
        time if time < 9999.5 => format!("{time:.0} ms"),
        time => format!("{:.1} s", time / 1000.0),
    }
}

/// A time in two units at most: `12 s`, `2 m 05 s`, `1 h 02 m`, `3 d 04 h`.
pub(crate) fn time_text(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "unknown".to_string();
    }
    let seconds = seconds.max(0.0).round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_on_one_line() {
        let row = Row {
            step: 100,
            loss: Some(3.21408),
            lr: Some(3e-4),
            grad_norm: Some(0.8099),
            step_ms: Some(812.3),
            tokens_per_s: Some(40_332.4),
            ..Row::default()
        };
        assert_eq!(
            step_line(&row, 5000, Some(3_725.0)),
            "step 00100/05000 | loss 3.2141 | lr 3.0e-4 | norm 0.81 | 812 ms | 40,332 tok/s | \
             left 1 h 02 m"
        );
        let evaluated =
            Row { val_loss: Some(3.5), val_bits_per_byte: Some(1.25), ..Row::default() };
        assert_eq!(
            step_line(&Row { step: 7, loss: Some(f64::NAN), ..evaluated }, 0, None),
            "step 00007 | loss nan | held-out 3.5000 | 1.2500 bits a byte"
        );
        let judged = Row {
            step: 3,
            reward_accuracy: Some(0.75),
            reward_margin: Some(0.125),
            kl: Some(-1e-7),
            ..Row::default()
        };
        assert_eq!(
            step_line(&judged, 0, None),
            "step 00003 | right 75 % | margin 0.1250 | kl 0.0000"
        );
        let long = Row { step: 1_234_567, ..Row::default() };
        assert_eq!(step_line(&long, 2_000_000, None), "step 1234567/2000000");
    }

    #[test]
    fn times_and_rates() {
        for (seconds, expected) in [
            (-1.0, "0 s"),
            (59.4, "59 s"),
            (125.0, "2 m 05 s"),
            (3599.6, "1 h 00 m"),
            (3725.0, "1 h 02 m"),
            (273_600.0, "3 d 04 h"),
            (f64::INFINITY, "unknown"),
        ] {
            assert_eq!(time_text(seconds), expected);
        }
        for (rate, expected) in [(0.0, "0"), (3.215, "3.21"), (40_332.4, "40,332")] {
            assert_eq!(rate_text(rate), expected);
        }
    }
}
