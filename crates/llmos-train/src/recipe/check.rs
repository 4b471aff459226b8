//! What goes together in a recipe and what does not, with the nearest value that does.

use super::Facts;
use toml::{Table, Value};

use super::keys::{KEYS, setting};
use super::write::literal;
use super::{Draft, Recipe};
use crate::Error;

/// Checks what the ranges of single keys cannot.
///
/// # Errors
/// [`Error::Setting`], naming the key and the nearest value that can be.
pub(super) fn check(recipe: &Recipe, draft: &Draft, facts: &Facts) -> Result<(), Error> {
    shape(recipe, draft)?;
    let train = &recipe.train;
    if !train.batch.is_multiple_of(train.accumulation) {
        let problem = format!(
            "{} sequences do not divide into {} pieces; the nearest number that divides them is {}",
            train.batch,
            train.accumulation,
            nearest_divisor(train.batch, train.accumulation)
        );
        return Err(setting("train.accumulation", problem));
    }
    if recipe.schedule.warmup > train.steps {
        let problem = format!(
            "{} steps of warm-up are more than the run's {}; the nearest is {}",
            recipe.schedule.warmup, train.steps, train.steps
        );
        return Err(setting("schedule.warmup", problem));
    }
    if recipe.train.tokens() > 1 << 53 {
        let most = ((1u64 << 53) / train.tokens_per_step().max(1)).max(1);
        let problem = format!("more tokens than can be counted; the nearest is {most}");
        return Err(setting("train.steps", problem));
    }
    ranges(recipe)?;
    let Some(text) = &facts.text else { return Ok(()) };
    if let Some(needed) = text.vocab_size.filter(|&needed| needed > recipe.model.vocab_size) {
        let problem = format!(
            "{} is less than the tokenizer's {needed} ids; the nearest is {needed}",
            recipe.model.vocab_size
        );
        return Err(setting("model.vocab_size", problem));
    }
    // A token stands for a byte at least.
    let tokens = text.tokens.unwrap_or(text.bytes);
    if tokens < train.context as u64 + 1 {
        // A sequence's last token is only predicted, so that one more is needed.
        let most = tokens.saturating_sub(1);
        let problem = match most {
            2.. => format!(
                "the text has {tokens} tokens, a sequence of {} needs {}; the nearest is {most}",
                train.context,
                train.context + 1
            ),
            _ => format!("the text has {tokens} tokens; a run needs 3 at least"),
        };
        return Err(setting("train.context", problem));
    }
    Ok(())
}

/// Keys that may change where a run goes on; all others would make it another run.
const CHANGEABLE: [&str; 7] = [
    "save_every",
    "eval_every",
    "eval_tokens",
    "keep",
    "train.steps",
    "train.accumulation",
    "data.path",
];

impl Recipe {
    /// Whether a run of this recipe can go on as `later`.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first key that would make it another run.
    pub fn goes_on_as(&self, later: &Recipe) -> Result<(), Error> {
        let table = |recipe: &Recipe| Table::try_from(recipe).unwrap_or_default();
        let (own, later) = (table(self), table(later));
        for key in KEYS.iter().filter(|key| !CHANGEABLE.contains(&key.name)) {
            let (own, later) = (value_of(&own, key.name), value_of(&later, key.name));
            if let (Some(own), Some(later)) = (own, later)
                && own != later
            {
                let problem = format!(
                    "the run has {}, and cannot go on with {}",
                    literal(own),
                    literal(later)
                );
                return Err(setting(key.name, problem));
            }
        }
        Ok(())
    }
}

/// The value of a key in a recipe's table.
fn value_of<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        Some((section, name)) => table.get(section).and_then(|section| section.get(name)),
        None => table.get(key),
    }
}

/// What was derived is held to the ranges as well as what was given.
fn ranges(recipe: &Recipe) -> Result<(), Error> {
    let table = Table::try_from(recipe).unwrap_or_default();
    for key in &KEYS {
        if let Some(value) = value_of(&table, key.name) {
            key.accept(value.clone())?;
        }
    }
    Ok(())
}

fn shape(recipe: &Recipe, draft: &Draft) -> Result<(), Error> {
    let model = &recipe.model;
    let free_heads = draft.has("model.head_dim");
    if !free_heads && !model.d_model.is_multiple_of(model.n_head) {
        let unit = 2 * model.n_head;
        let problem = format!(
            "a width of {} does not divide into {} heads; the nearest that does is {} (or set \
             model.head_dim)",
            model.d_model,
            model.n_head,
            nearest_multiple(model.d_model, unit)
        );
        return Err(setting("model.d_model", problem));
    }
    if !model.head_dim.is_multiple_of(2) {
        if free_heads {
            let problem = format!(
                "{} is odd, and dimensions rotate in pairs; the nearest that can be is {}",
                model.head_dim,
                model.head_dim + 1
            );
            return Err(setting("model.head_dim", problem));
        }
        let problem = format!(
            "a width of {} gives {} heads of {}, and dimensions rotate in pairs; the nearest width \
             that can be is {}",
            model.d_model,
            model.n_head,
            model.head_dim,
            nearest_multiple(model.d_model, 2 * model.n_head)
        );
        return Err(setting("model.d_model", problem));
    }
    if !model.n_head.is_multiple_of(model.n_kv_head) {
        let problem = format!(
            "{} does not divide {} heads; the nearest that does is {}",
            model.n_kv_head,
            model.n_head,
            nearest_divisor(model.n_head, model.n_kv_head)
        );
        return Err(setting("model.n_kv_head", problem));
    }
    Ok(())
}

/// The divisor of `number` that is nearest to `wanted`, the smaller of two.
fn nearest_divisor(number: usize, wanted: usize) -> usize {
    let small = (1..).take_while(|small| small * small <= number);
    let divisors = small.filter(|small| number.is_multiple_of(*small));
    let pairs = divisors.flat_map(|small| [small, number / small]);
    pairs.min_by_key(|&divisor| (divisor.abs_diff(wanted), divisor)).unwrap_or(1)
}

/// The positive multiple of `unit` that is nearest to `number`, the smaller of two.
fn nearest_multiple(number: usize, unit: usize) -> usize {
    let below = number / unit * unit;
    let above = below + unit;
    if below > 0 && number - below <= above - number { below } else { above }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::recipe::Text;

    #[test]
    fn what_cannot_be_names_the_nearest_that_can() {
        let check = |text: &str, key: &str, nearest: &str| {
            let draft = Draft::from_toml(text, Path::new("r.toml")).unwrap();
            let error = draft.resolve(&Facts::default()).unwrap_err().to_string();
            let (named, problem) = error.split_once(": ").unwrap();
            assert_eq!(named, key, "{text}: {error}");
            assert!(problem.contains(&format!("is {nearest}")), "{text}: {error}");
        };
        check("[model]\nd_model = 100\nn_head = 3", "model.d_model", "102");
        check("[model]\nd_model = 3\nn_head = 1", "model.d_model", "2");
        check("[model]\nd_model = 127", "model.d_model", "126");
        check("[model]\nhead_dim = 31\nn_head = 4", "model.head_dim", "32");
        check("[model]\nn_head = 8\nd_model = 128\nn_kv_head = 3", "model.n_kv_head", "2");
        check("[model]\nn_head = 4\nd_model = 128\nn_kv_head = 9", "model.n_kv_head", "4");
        check("[train]\nbatch = 12\naccumulation = 5", "train.accumulation", "4");
        check("[train]\nsteps = 10\n[schedule]\nwarmup = 20", "schedule.warmup", "10");
        check(
            "[train]\nsteps = 9007199254740992\nbatch = 4\ncontext = 64",
            "train.steps",
            "35184372088832",
        );
    }

    #[test]
    fn a_text_that_does_not_fit_is_refused() {
        let check = |text: &str, facts: Text, expected: &str| {
            let draft = Draft::from_toml(text, Path::new("r.toml")).unwrap();
            let facts = Facts { text: Some(facts), ..Facts::default() };
            let error = draft.resolve(&facts).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        let text = |tokens, vocab_size| Text {
            bytes: 4 * tokens,
            tokens: Some(tokens),
            held_out_tokens: None,
            vocab_size: Some(vocab_size),
            pilot: None,
        };
        check("[model]\nvocab_size = 60", text(1000, 65), "model.vocab_size: 60 is less than");
        check("[train]\ncontext = 64", text(50, 65), "the nearest is 49");
        check("[train]\ncontext = 64", text(1, 65), "train.context: the text has 1 tokens");
    }

    #[test]
    fn nearest_numbers() {
        for (number, wanted, expected) in [(12, 5, 4), (12, 100, 12), (7, 3, 1), (1, 9, 1)] {
            assert_eq!(nearest_divisor(number, wanted), expected, "{number} {wanted}");
        }
        for (number, unit, expected) in [(100, 6, 102), (99, 6, 96), (1, 6, 6), (12, 6, 12)] {
            assert_eq!(nearest_multiple(number, unit), expected, "{number} {unit}");
        }
    }
}
