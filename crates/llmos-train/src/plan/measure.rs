//! How fast this machine trains, by training: a few real steps on random tokens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use llmos_tensor::Device;

use super::flops::Flops;
use super::run::RunPlan;
use crate::Error;
use crate::recipe::{Draft, Facts, Recipe, Resolved, Shape, Speed};
use crate::{Rehearsal, Rehearsed};

/// Tokens that are worked on at once while measuring: enough to fill products, and soon done.
const MOST_TOKENS: usize = 8192;

/// Time that is spent on one recipe, unless a single round takes longer: other programs come and go
/// within seconds, and a few short steps say little.
const ENOUGH: Duration = Duration::from_secs(3);

/// Rounds that are counted at most.
const MOST_ROUNDS: usize = 1000;

/// A speed that differs by this much asks for another model.
const CLOSE: f64 = 0.15;

/// Seconds that a step of the recipe takes: the mean of some rounds of its pieces, and of its
/// optimizer.
///
/// A recipe must have passed [`RunPlan::check`], since its weights and buffers are made here.
pub fn step_seconds(recipe: &Recipe, device: &Arc<Device>) -> f64 {
    let train = &recipe.train;
    let rows = (MOST_TOKENS / train.context).clamp(1, train.micro_batch());
    let mut rehearsal = Rehearsal::new(recipe, rows, device);
    let start = Instant::now();
    let (mut pieces, mut updates) = (Vec::new(), Vec::new());
    for round in 0..=MOST_ROUNDS.min(train.steps) {
        let Rehearsed { gradients, update, .. } = rehearsal.step();
        let is_last = start.elapsed() > ENOUGH;
        // The first round finds cold caches and untouched pages; it counts where it is the only one.
        if round > 0 || is_last {
            pieces.push(gradients);
            updates.push(update);
        }
        if is_last {
            break;
        }
    }
    let sequences = train.batch as f64 / rows as f64;
    mean(&pieces) * sequences + mean(&updates)
}

/// The mean, not the median: a run pays for its slow steps too.
fn mean(times: &[f64]) -> f64 {
    times.iter().sum::<f64>() / times.len().max(1) as f64
}

/// The recipe that a draft stands for on this machine, whose speed is measured with the recipe's own
/// steps, and the facts with that speed. Where the time decides the model it is measured first with
/// a small one, and chosen again if the one it leads to runs at another speed. Takes some seconds;
/// all that has passed since `start` counts as the run's.
///
/// # Errors
/// As [`Draft::resolve`] and [`RunPlan::check`].
pub fn derive(
    draft: &Draft,
    facts: &Facts,
    device: &Arc<Device>,
    start: Instant,
) -> Result<(Resolved, Facts), Error> {
    let mut facts = facts.clone();
    let dial = draft.has("train.minutes");
    if dial && facts.speed.is_none() {
        let mut small = Draft::default();
        small.shape(Shape::S);
        if let Some(dtype) = draft.text("train.dtype") {
            small.set("train.dtype", dtype, "the same")?;
        }
        facts.speed = Some(measured(&small.resolve(&Facts::default())?.recipe, device, start));
    }
    let mut draft = draft.clone();
    let mut resolved = draft.resolve(&facts)?;
    // The speed depends on the shape and the shape on the speed: a second look is enough.
    for attempt in 0..2 {
        RunPlan::of(&resolved.recipe, &facts, None).check(&resolved.recipe, &facts, None)?;
        let speed = measured(&resolved.recipe, device, start);
        let before = facts.speed.replace(speed.clone());
        if !dial {
            return Ok((resolved, facts));
        }
        let change = before.map_or(1.0, |before| speed.flops_per_s / before.flops_per_s);
        if attempt == 1 || (change - 1.0).abs() < CLOSE {
            break;
        }
        resolved = draft.resolve(&facts)?;
    }
    // What was measured is what runs: only the number of steps follows once more.
    draft.fix(&resolved.recipe);
    let last = draft.resolve(&facts)?;
    Ok((last.with_reasons_of(&resolved), facts))
}

/// The speed at which a recipe's steps go; all that has passed since `start` is before the first.
fn measured(recipe: &Recipe, device: &Arc<Device>, start: Instant) -> Speed {
    let seconds = step_seconds(recipe, device);
    let flops = recipe.train.tokens_per_step() as f64
        * Flops::of(&recipe.model, recipe.train.context).training();
    let threads = match device.threads().count() {
        1 => "1 thread".to_string(),
        threads => format!("{threads} threads"),
    };
    Speed {
        flops_per_s: flops / seconds,
        startup_seconds: start.elapsed().as_secs_f64(),
        source: format!("measured, {threads}"),
    }
}

#[cfg(test)]
mod tests {
    use llmos_tensor::Isa;

    use super::*;
    use crate::recipe::Text;

    #[test]
    fn a_time_leads_to_a_run_that_takes_it() {
        let device = Arc::new(Device::new(Isa::detect(), 1));
        let text = Text { bytes: 1_000_000_000, ..Text::default() };
        let facts = Facts { text: Some(text), ..Facts::default() };
        let mut draft = Draft::default();
        draft.set("train.minutes", 1.0, "--minutes").unwrap();
        let (resolved, facts) = derive(&draft, &facts, &device, Instant::now()).unwrap();
        let plan = RunPlan::of(&resolved.recipe, &facts, None);
        let seconds = plan.seconds.unwrap().total();
        assert!((40.0..66.0).contains(&seconds), "{seconds}: {:?}", facts.speed);
        assert!(resolved.reason("model.d_model").contains("1 min at"), "{}", resolved.to_toml());
        assert!(resolved.reason("train.steps").contains("measured"), "{}", resolved.to_toml());
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_measured() {
        let device = Arc::new(Device::new(Isa::detect(), 1));
        let facts = Facts { memory_bytes: Some(1 << 20), ..Facts::default() };
        let error = derive(&Draft::default(), &facts, &device, Instant::now());
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("memory: "), "{error}");
    }
}
