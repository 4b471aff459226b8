//! How the learning rate goes: up, level, and down again.

use serde::{Deserialize, Serialize};

/// The learning rate over the steps, as a share of its peak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The form of the way down.
    pub name: ScheduleName,
    /// Steps in which the rate rises in a straight line to its peak.
    pub warmup: usize,
    /// Share of all steps, the last ones, in which the rate falls.
    pub cooldown: f64,
    /// Where it falls to, as a share of the peak.
    pub floor: f64,
}

/// The form of the way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleName {
    /// No way down.
    Constant,
    /// A straight line.
    Linear,
    /// Half a cosine.
    Cosine,
}

impl ScheduleName {
    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            ScheduleName::Constant => "constant",
            ScheduleName::Linear => "linear",
            ScheduleName::Cosine => "cosine",
        }
    }
}

impl Schedule {
    /// The rate at `step`, from 0, of `steps`, as a share of the peak. The last step has the floor.
    pub fn share(&self, step: usize, steps: usize) -> f64 {
        if step < self.warmup {
            return (step + 1) as f64 / self.warmup as f64;
        }
        let falling = (self.cooldown * steps as f64).round() as usize;
        let falling = falling.min(steps.saturating_sub(self.warmup));
        let level = steps - falling;
        if self.name == ScheduleName::Constant || step < level {
            return 1.0;
        }
        let way = ((step - level + 1) as f64 / falling as f64).min(1.0);
        let left = match self.name {
            ScheduleName::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * way).cos()),
            _ => 1.0 - way,
        };
        self.floor + (1.0 - self.floor) * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: ScheduleName, cooldown: f64, expected: &[(usize, f64)]) {
        let schedule = Schedule { name, warmup: 10, cooldown, floor: 0.1 };
        for &(step, share) in expected {
            let got = schedule.share(step, 100);
            assert!((got - share).abs() < 1e-12, "{name:?} at {step}: {got} instead of {share}");
        }
    }

    #[test]
    fn up_level_and_down() {
        let rise = [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0)];
        check(ScheduleName::Constant, 0.5, &[&rise[..], &[(60, 1.0), (99, 1.0)]].concat());
        // The fall takes steps 50 to 99.
        let level = [(49, 1.0), (74, 0.55), (99, 0.1)];
        check(ScheduleName::Linear, 0.5, &[&rise[..], &level, &[(59, 0.82)]].concat());
        check(ScheduleName::Cosine, 0.5, &[&rise[..], &level].concat());
    }

    #[test]
    fn a_fall_over_everything_begins_after_the_rise() {
        check(ScheduleName::Linear, 1.0, &[(9, 1.0), (10, 0.99), (54, 0.55), (99, 0.1)]);
    }

    #[test]
    fn a_run_shorter_than_its_rise_only_rises() {
        let schedule =
            Schedule { name: ScheduleName::Linear, warmup: 10, cooldown: 1.0, floor: 0.0 };
        assert_eq!(schedule.share(4, 5), 0.5);
        // A run that goes on after its planned end stays at the floor.
        assert_eq!(schedule.share(200, 100), 0.0);
    }
}
