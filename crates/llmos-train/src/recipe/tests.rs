//! Recipes as a whole: what is derived, that it reads back, and that every key is written.

use std::collections::BTreeSet;
use std::path::Path;

use toml::{Table, Value};

use super::keys::{KEYS, Kind, MINUTES, TOKENS};
use super::*;
use crate::plan::{Flops, Parameters};

fn draft(text: &str) -> Draft {
    Draft::from_toml(text, Path::new("r.toml")).unwrap()
}

fn facts(bytes: u64, flops_per_s: f64) -> Facts {
    Facts {
        text: Some(Text { bytes, ..Text::default() }),
        speed: Some(Speed { flops_per_s, startup_seconds: 1.0, source: "a test".into() }),
        memory_bytes: None,
    }
}

/// The recipes of the repository's runs; stages of several runs and mixes of texts lie beside them.
fn recipes() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts =
        paths.map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap()));
    texts.filter(|(_, text)| !text.contains("\n[[")).collect()
}

#[test]
fn every_key_is_a_field_and_every_field_a_key() {
    let table = Table::try_from(&draft("").resolve(&Facts::default()).unwrap().recipe).unwrap();
    let mut fields = BTreeSet::new();
    for (name, value) in &table {
        match value {
            Value::Table(section) => {
                fields.extend(section.keys().map(|key| format!("{name}.{key}")))
            }
            _ => {
                fields.insert(name.clone());
            }
        }
    }
    // The other two lengths of a run become steps.
    fields.extend([TOKENS, MINUTES].map(str::to_string));
    let keys: BTreeSet<String> = KEYS.iter().map(|key| key.name.to_string()).collect();
    assert_eq!(keys, fields);
}

#[test]
fn every_choice_is_one_of_its_type() {
    for key in &KEYS {
        let Kind::Choice(names) = key.kind else { continue };
        for name in names {
            let mut draft = Draft::default();
            draft.set(key.name, *name, "test").unwrap();
            let recipe = draft.resolve(&Facts::default()).unwrap().recipe;
            let got = match key.name {
                "train.dtype" => recipe.train.dtype.name(),
                "optimizer.name" => recipe.optimizer.name.name(),
                "schedule.name" => recipe.schedule.name.name(),
                "data.order" => recipe.data.order.name(),
                other => panic!("{other} is not in this test"),
            };
            assert_eq!(got, *name);
        }
    }
}

#[test]
fn a_resolved_recipe_reads_back_as_itself() {
    let texts = [
        "".to_string(),
        "[train]\nminutes = 30".to_string(),
        "data = ['a \"b\"', 'c\\d']\n[optimizer]\nlr = 1e-5\n[model]\nhead_dim = 20".to_string(),
        "save_every = 7\n[schedule]\nname = 'cosine'\nwarmup = 0.1\n[train]\nsteps = 70"
            .to_string(),
    ];
    let facts = facts(20_000_000, 1e11);
    for text in texts.into_iter().chain(recipes().into_iter().map(|(_, text)| text)) {
        let resolved = draft(&text).resolve(&facts).unwrap();
        let written = resolved.to_toml();
        let again = draft(&written).resolve(&Facts::default()).unwrap();
        assert_eq!(again.recipe, resolved.recipe, "{text}\n{written}");
        assert_eq!(again.derived().count(), 0, "{written}");
        // A reason stands beside every value.
        for line in written.lines().filter(|line| line.contains(" = ")) {
            assert!(line.contains(" # "), "{line}");
        }
    }
}

#[test]
fn the_repository_s_recipes_are_what_they_say() {
    let names = recipes();
    assert!(names.len() >= 2, "{names:?}");
    for (name, text) in &names {
        let recipe = draft(text).resolve(&Facts::default()).unwrap().recipe;
        let parameters = Parameters::of(&recipe.model).total();
        if name.ends_with("shakespeare-char.toml") {
            assert_eq!(recipe.train.tokens(), 2000 * 12 * 64);
            let of_text = ModelShape { vocab_size: 65, ..recipe.model.clone() };
            let count = Parameters::of(&of_text).total();
            // nanoGPT's, without its positions: 4 * 12 * 128^2 matrices, norms, 65 * 128 for the table.
            assert_eq!(count, 787_968);
            assert!(count < 786_432 + 9 * 128 + 65 * 128);
        }
        if name.ends_with("tiny.toml") {
            assert!((900_000..1_200_000).contains(&parameters), "{parameters}");
        }
    }
}

#[test]
fn the_shapes_are_those_of_the_benchmark() {
    for (shape, expected, tokens) in
        [(Shape::S, 1_053_824, 8192), (Shape::M, 7_155_360, 4096), (Shape::L, 29_499_904, 2048)]
    {
        let mut draft = draft("[model]\nd_model = 64\nn_head = 2");
        draft.shape(shape);
        draft.set("train.steps", 10, "--steps").unwrap();
        let resolved = draft.resolve(&Facts::default()).unwrap();
        assert_eq!(Parameters::of(&resolved.recipe.model).total(), expected, "{shape:?}");
        assert_eq!(resolved.recipe.train.tokens_per_step(), tokens);
        assert_eq!(resolved.recipe.model.architecture(), "llama");
        assert!(resolved.reason("model.d_model").contains("--shape"));
        assert_eq!(Shape::from_name(shape.name()), Some(shape));
    }
}

#[test]
fn time_decides_the_size() {
    let mut widths = Vec::new();
    for minutes in [0.5, 5.0, 30.0, 240.0, 1440.0] {
        let facts = facts(10_000_000_000, 1e11);
        let mut draft = Draft::default();
        draft.set("train.minutes", minutes, "--minutes").unwrap();
        let resolved = draft.resolve(&facts).unwrap();
        let recipe = &resolved.recipe;
        widths.push(recipe.model.d_model);
        let per_parameter =
            recipe.train.tokens() as f64 / Parameters::of(&recipe.model).total() as f64;
        assert!(
            (12.0..36.0).contains(&per_parameter),
            "{minutes}: {per_parameter}\n{}",
            resolved.to_toml()
        );
        // The steps take the time that was given, less what evaluations need.
        let flops = Flops::of(&recipe.model, recipe.train.context).training();
        let seconds = recipe.train.tokens() as f64 * flops / 1e11;
        assert!((0.9..0.97).contains(&(seconds / (minutes * 60.0))), "{minutes}: {seconds}");
        assert!(resolved.reason("model.d_model").contains(&format!("{minutes} min")));
    }
    assert!(widths.is_sorted() && widths[0] < widths[4], "{widths:?}");
}

#[test]
fn a_short_text_is_read_four_times_at_most() {
    let facts = facts(1_000_000, 1e11);
    let mut draft = Draft::default();
    draft.set("train.minutes", 600.0, "--minutes").unwrap();
    let resolved = draft.resolve(&facts).unwrap();
    let text = facts.text.unwrap().likely_tokens(resolved.recipe.model.vocab_size) as f64;
    let epochs = resolved.recipe.train.tokens() as f64 / text;
    assert!((3.8..4.05).contains(&epochs), "{epochs}");
    assert!(resolved.reason("train.steps").contains("readings"), "{}", resolved.to_toml());
    // The time that is left over goes into a larger model, within reason.
    let parameters = Parameters::of(&resolved.recipe.model).total() as f64;
    let per_parameter = resolved.recipe.train.tokens() as f64 / parameters;
    assert!((4.9..10.0).contains(&per_parameter), "{per_parameter}");
    assert!(resolved.reason("model.d_model").contains("there is time"), "{}", resolved.to_toml());
    // What is given is kept: a person may read a text as often as they like.
    draft.set("train.steps", 100_000, "--steps").unwrap();
    assert_eq!(draft.resolve(&facts_of(1_000_000)).unwrap().recipe.train.steps, 100_000);
}

fn facts_of(bytes: u64) -> Facts {
    Facts { text: Some(Text { bytes, ..Text::default() }), ..Facts::default() }
}

#[test]
fn a_time_that_holds_no_step_is_refused_with_one_that_does() {
    let mut draft = Draft::default();
    draft.shape(Shape::L);
    draft.set("train.minutes", 0.1, "--minutes").unwrap();
    let facts = facts(10_000_000_000, 1e11);
    let error = draft.resolve(&facts).unwrap_err().to_string();
    assert!(error.starts_with("train.minutes: ") && error.contains("nearest"), "{error}");
    let minutes: f64 = error
        .split("nearest that can be is ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap();
    draft.set("train.minutes", minutes, "--minutes").unwrap();
    assert!(draft.resolve(&facts).unwrap().recipe.train.steps >= 10);
    assert!(draft.resolve(&Facts::default()).unwrap_err().to_string().contains("speed"));
}

#[test]
fn a_derived_model_can_be_kept_while_its_speed_is_measured() {
    let mut draft = Draft::default();
    draft.set("train.minutes", 10.0, "--minutes").unwrap();
    let first = draft.resolve(&facts(1_000_000_000, 1e11)).unwrap().recipe;
    draft.fix(&first);
    let second = draft.resolve(&facts(1_000_000_000, 5e10)).unwrap().recipe;
    assert_eq!(second.model, first.model);
    assert_eq!(second.train.batch, first.train.batch);
    let ratio = first.train.steps as f64 / second.train.steps as f64;
    assert!((ratio - 2.0).abs() < 0.02, "{ratio}");
}

#[test]
fn memory_decides_the_pieces() {
    let mut draft = Draft::default();
    draft.shape(Shape::M);
    let facts = Facts { memory_bytes: Some(200_000_000), ..Facts::default() };
    let recipe = draft.resolve(&facts).unwrap().recipe;
    let pieces = recipe.train.accumulation;
    assert!(pieces > 1 && recipe.train.batch.is_multiple_of(pieces), "{pieces}");
    let bytes = |pieces| {
        let micro_batch = recipe.train.batch / pieces;
        crate::plan::activations(&recipe.model, micro_batch, recipe.train.context, Dtype::F32)
    };
    assert!(bytes(pieces) <= 100_000_000 && bytes(pieces / 2) > 100_000_000);
}

#[test]
fn weight_decay_goes_in_a_straight_line() {
    let optimizer = draft("").resolve(&Facts::default()).unwrap().recipe.optimizer;
    let optimizer = Optimizer { weight_decay: 0.1, final_weight_decay: 0.02, ..optimizer };
    for (step, expected) in [(0, 0.1), (50, 0.06), (100, 0.02), (200, 0.02)] {
        let got = optimizer.weight_decay_at(step, 101);
        assert!((got - expected).abs() < 1e-12, "{step}: {got}");
    }
    assert_eq!(optimizer.weight_decay_at(0, 1), 0.1);
}

/// Whatever the keys hold, alone or together: an answer, or an error that names a key.
#[test]
fn nothing_that_a_recipe_may_hold_is_too_much() {
    let extremes = |key: &super::keys::Key| -> Vec<Value> {
        match key.kind {
            Kind::Count(least, most) => vec![least.into(), most.into()],
            Kind::Real(least, most) => vec![least.into(), most.into()],
            Kind::Flag => vec![true.into(), false.into()],
            Kind::Choice(names) => names.iter().map(|name| (*name).into()).collect(),
            Kind::Text => vec!["".into(), "char".into()],
            Kind::Texts => vec![Value::Array(Vec::new())],
        }
    };
    let all = [facts(0, 1e9), facts(u64::MAX / 2, 1e18), Facts::default()];
    let try_all = |draft: &Draft| {
        for facts in &all {
            match draft.resolve(facts) {
                Ok(resolved) => {
                    let recipe = &resolved.recipe;
                    let plan = crate::plan::RunPlan::of(recipe, facts, None);
                    let little = Facts { memory_bytes: Some(1 << 20), ..facts.clone() };
                    assert!(plan.check(recipe, &little, None).is_err());
                    assert_eq!(draft_of(&resolved.to_toml()).unwrap(), *recipe);
                }
                Err(error) => assert!(matches!(error, crate::Error::Setting { .. }), "{error}"),
            }
        }
    };
    for end in [0, usize::MAX] {
        let mut together = Draft::default();
        for key in &KEYS {
            let values = extremes(key);
            for value in &values {
                let mut draft = Draft::default();
                draft.set(key.name, value.clone(), "test").unwrap();
                try_all(&draft);
            }
            together.set(key.name, values[end.min(values.len() - 1)].clone(), "test").unwrap();
            try_all(&together);
        }
    }
}

fn draft_of(text: &str) -> Result<Recipe, crate::Error> {
    Ok(Draft::from_toml(text, Path::new("r.toml"))?.resolve(&Facts::default())?.recipe)
}
