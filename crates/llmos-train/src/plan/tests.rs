//! The planner against transformers' counts, the published slide, and itself.

use std::path::Path;

use serde::Deserialize;

use super::*;
use crate::recipe::{Draft, Dtype, Facts, ModelShape, OptimizerName, Recipe, Speed, Text};

#[derive(Deserialize)]
struct Golden {
    shapes: Vec<GoldenShape>,
}

#[derive(Deserialize)]
struct GoldenShape {
    name: String,
    model: ModelShape,
    parameters: GoldenParameters,
    batch: f64,
    context: usize,
    forward: GoldenFlops,
    training: f64,
}

#[derive(Debug, Deserialize, PartialEq)]
struct GoldenParameters {
    embedding: u64,
    head: u64,
    attention: u64,
    mlp: u64,
    norms: u64,
}

#[derive(Deserialize)]
struct GoldenFlops {
    attention_projections: f64,
    mlp: f64,
    head: f64,
    attention_scores_full: f64,
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/plan/shapes.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn recipe(text: &str) -> Recipe {
    let draft = Draft::from_toml(text, Path::new("r.toml")).unwrap();
    draft.resolve(&Facts::default()).unwrap().recipe
}

#[test]
fn parameters_are_those_that_transformers_counts() {
    for shape in golden().shapes {
        let Parameters { embedding, head, attention, mlp, norms } = Parameters::of(&shape.model);
        let got = GoldenParameters { embedding, head, attention, mlp, norms };
        assert_eq!(got, shape.parameters, "{}", shape.name);
    }
}

#[test]
fn operations_are_those_that_torch_counts() {
    for shape in golden().shapes {
        let got = Flops::of(&shape.model, shape.context);
        let tokens = shape.batch * shape.context as f64;
        // Torch multiplies all pairs: T keys a token instead of (T + 1) / 2.
        let causal = (shape.context as f64 + 1.0) / 2.0 / shape.context as f64;
        let pairs = [
            (got.attention_projections, shape.forward.attention_projections),
            (got.attention_scores, shape.forward.attention_scores_full * causal),
            (got.mlp, shape.forward.mlp),
            (got.head, shape.forward.head),
        ];
        for (got, expected) in pairs {
            assert!((got * tokens / expected - 1.0).abs() < 1e-12, "{}: {pairs:?}", shape.name);
        }
        let masked = 3.0 * shape.forward.attention_scores_full * (1.0 - causal);
        let expected = shape.training - masked;
        assert!((got.training() * tokens / expected - 1.0).abs() < 1e-12, "{}", shape.name);
    }
}

#[test]
fn a_run_s_operations_add_up() {
    let text =
        "[model]\nd_model = 128\n[train]\nsteps = 100\nbatch = 8\n[optimizer]\nname = 'adamw'";
    let adamw = recipe(text);
    let flops = RunFlops::of(&adamw);
    let token = Flops::of(&adamw.model, adamw.train.context);
    assert_eq!(flops.model, token.training() * 100.0 * 8.0 * 256.0);
    let again = 0.5 * token.attention_scores * adamw.train.tokens() as f64;
    assert!((flops.hardware - flops.model - again - flops.optimizer).abs() < 1.0);
    // Without scores, and with the head's table counted once, 6 * N * D is all but norms.
    let ratio = (flops.model / adamw.train.tokens() as f64 - 3.0 * token.attention_scores)
        / (flops.six_n_d / adamw.train.tokens() as f64);
    assert!((0.99..1.0).contains(&ratio), "{ratio}");
    // Newton–Schulz on a square matrix of side 128: five times six products of 2 * 128^3 halves.
    let muon = optimizer_step(&adamw.model, OptimizerName::Muon);
    let square = 5.0 * 6.0 * 128f64.powi(3);
    let wide = 5.0 * (4.0 * 128.0 * 128.0 * 352.0 + 2.0 * 128f64.powi(3));
    let parameters = Parameters::of(&adamw.model);
    let rest = 14.0 * (parameters.total() - parameters.matrices()) as f64;
    assert_eq!(muon, 4.0 * (4.0 * square + 3.0 * wide) + rest);
}

#[test]
fn memory_by_purpose() {
    let text = "[model]\nd_model = 128\nvocab_size = 2048\n[train]\nbatch = 8\nsteps = 1\n";
    let with = |more: &str| recipe(&format!("{text}{more}"));
    let adamw = Memory::of(&with("[optimizer]\nname = 'adamw'"), &|_, _, _, _| 1000);
    let parameters = Parameters::of(&with("").model);
    let total = parameters.total();
    assert_eq!(
        (adamw.weights, adamw.gradients, adamw.optimizer),
        (4 * total, 4 * total, 8 * total)
    );
    assert_eq!(adamw.total(), 16 * total + 1000 + adamw.program);
    // Muon keeps one number for a matrix's, and works on the largest of 352 * 128 numbers.
    let muon = Memory::of(&with(""), &|_, _, _, _| 0);
    let scratch = 4 * (2 * 352 * 128 + 2 * 128 * 128);
    assert_eq!(muon.optimizer, 8 * total - 4 * parameters.matrices() + scratch);
    let bf16 =
        Memory::of(&with("dtype = 'bf16'"), &|_, _, _, dtype| u64::from(dtype == Dtype::Bf16));
    assert_eq!((bf16.weights, bf16.activations), (4 * total, 1));
    // 1,024 tokens go through at once, four rows; only smaller pieces take less.
    let held = |more: &str| Memory::of(&with(more), &activations).activations;
    assert_eq!(held("accumulation = 2"), held(""));
    // Beside buffers there is the largest operand that a product packs: the head, or an input.
    let packed = |tokens: u64| 4 * (2048 * 128).max(tokens * 352);
    assert_eq!(2 * (held("accumulation = 4") - packed(512)), held("") - packed(1024));
}

fn order() -> Order {
    Order { params: 70e9, tokens: 2e12, peak: 312e12, ..Order::default() }
}

fn near(got: f64, expected: f64, tolerance: f64) {
    assert!((got / expected - 1.0).abs() < tolerance, "{got} instead of {expected}");
}

#[test]
fn the_slide() {
    let order = Order { gpus: Some(6000.0), price: Some(1.157), ..order() };
    let plan = order.solve().unwrap();
    near(plan.flops, 8.4e23, 1e-12);
    near(plan.days.unwrap(), 12.0, 0.01);
    near(plan.dollars.unwrap(), 2.0e6, 0.01);
    near(plan.gpu_hours, 1_728_000.0, 0.01);
    assert_eq!((plan.parameter_bytes, plan.corpus_bytes), (140e9, 10e12));
    assert!(plan.mfu_is_assumed && plan.mfu == 0.43);
    // What twelve days sharp imply, and what Meta's own hours do.
    let days = Order { days: Some(12.0), ..order }.solve().unwrap();
    near(days.mfu, 0.4328, 1e-3);
    assert!(!days.mfu_is_assumed);
    let hours = Order { dollars: Some(1_720_320.0), price: Some(1.0), ..self::order() };
    near(hours.solve().unwrap().mfu, 0.4347, 1e-3);
}

#[test]
fn whatever_is_unknown_is_solved_for() {
    let full = Order {
        gpus: Some(6000.0),
        days: Some(12.0),
        mfu: Some(0.4328),
        dollars: Some(2e6),
        price: Some(1.157),
        ..order()
    };
    assert!(full.solve().is_ok());
    let check = |order: Order| {
        let plan = order.solve().unwrap();
        near(plan.gpus.unwrap(), 6000.0, 2e-3);
        near(plan.days.unwrap(), 12.0, 2e-3);
        near(plan.mfu, 0.4328, 2e-3);
        near(plan.dollars.unwrap(), 2e6, 2e-3);
        near(plan.price.unwrap(), 1.157, 2e-3);
    };
    let Order { gpus, days, mfu, dollars, price, .. } = full;
    check(Order { gpus, days, price, ..order() });
    check(Order { gpus, days, dollars, ..order() });
    check(Order { gpus, mfu, price, ..order() });
    check(Order { gpus, mfu, dollars, ..order() });
    check(Order { days, mfu, price, ..order() });
    check(Order { gpus, dollars, price, ..order() });
    check(Order { days, dollars, price, ..order() });
    // Money alone fixes neither number of accelerators nor days.
    let plan = Order { dollars, price, ..order() }.solve().unwrap();
    assert_eq!((plan.gpus, plan.days), (None, None));
    near(plan.mfu, 0.4328, 2e-3);
    let plan = order().solve().unwrap();
    assert_eq!((plan.gpus, plan.dollars, plan.mfu), (None, None, 0.43));
    // A part of an accelerator is a whole one, which is done sooner.
    let small = Order { params: 1e9, tokens: 1e9, days: Some(1.0), peak: 312e12, ..order() };
    let plan = small.solve().unwrap();
    assert_eq!(plan.gpus, Some(1.0));
    near(plan.days.unwrap(), plan.gpu_hours / 24.0, 1e-12);
    assert!(plan.days.unwrap() < 1.0);
}

#[test]
fn contradictions_are_refused_with_the_numbers() {
    let check = |order: Order, expected: &[&str]| {
        let error = order.solve().unwrap_err().to_string();
        for words in expected {
            assert!(error.contains(words), "{words}: {error}");
        }
    };
    let (gpus, days, price) = (Some(6000.0), Some(12.0), Some(1.157));
    check(
        Order { gpus, days, mfu: Some(0.6), ..order() },
        &["--mfu", "1,728,000", "1,246,439", "--gpus and --days"],
    );
    check(
        Order { gpus, days, dollars: Some(4e6), price, ..order() },
        &["--dollars and --price", "1,728,000", "3,457,217"],
    );
    check(
        Order { dollars: Some(1e6), price, mfu: Some(0.43), ..order() },
        &["--dollars and --price", "--mfu"],
    );
    // More than the peak: what would do instead.
    let error = Order { gpus, days: Some(2.0), price, ..order() };
    check(error, &["288,000", "747,863", "36,234 GPUs", "12.1 days", "$2,012,274", "tokens"]);
    check(Order { mfu: Some(43.0), ..order() }, &["--mfu", "nearest is 0.43"]);
    check(Order { mfu: Some(1.5), ..order() }, &["--mfu", "nearest is 1"]);
    check(Order { gpus: Some(1.5), ..order() }, &["--gpus", "nearest is 2"]);
    check(Order { gpus: Some(0.0), ..order() }, &["--gpus", "nearest is 1"]);
    check(Order { days: Some(-1.0), ..order() }, &["--days", "not above 0"]);
    check(Order { params: f64::NAN, ..order() }, &["--params"]);
}

#[test]
fn numbers_within_rounding_are_no_contradiction() {
    let rounded = Order {
        gpus: Some(6000.0),
        days: Some(12.0),
        mfu: Some(0.43),
        dollars: Some(2e6),
        price: Some(1.157),
        ..order()
    };
    // What comes out multiplies out.
    let plan = rounded.solve().unwrap();
    near(plan.gpu_hours, plan.gpus.unwrap() * plan.days.unwrap() * 24.0, 1e-12);
    near(plan.flops, plan.gpu_hours * 3600.0 * 312e12 * plan.mfu, 1e-12);
    near(plan.dollars.unwrap(), plan.gpu_hours * plan.price.unwrap(), 1e-12);
}

#[test]
fn what_is_trained_must_fit_into_memory() {
    let memory = Some(80e9);
    let few = Order { memory, gpus: Some(13.0), ..order() }.solve().unwrap_err().to_string();
    for words in ["--gpus: 13 x 80 GB", "1.12 TB", "16 bytes a parameter", "holds them is 14"] {
        assert!(few.contains(words), "{words}: {few}");
    }
    let plan = Order { memory, gpus: Some(14.0), ..order() }.solve().unwrap();
    assert_eq!((plan.training_bytes, plan.fewest_gpus), (1.12e12, Some(14.0)));
    // Days for which fewer would do.
    let plan = Order { memory, days: Some(1e6), ..order() }.solve().unwrap();
    assert_eq!(plan.gpus, Some(14.0));
    near(plan.days.unwrap() * 24.0 * 14.0, plan.gpu_hours, 1e-12);
}

#[test]
fn what_is_beyond_all_numbers_is_refused() {
    for (params, tokens) in [(1e300, 1e300), (1e308, 1.0), (1.0, 1e308)] {
        let error = Order { params, tokens, ..order() }.solve().unwrap_err().to_string();
        assert!(error.contains("beyond all numbers"), "{error}");
    }
}

fn facts() -> Facts {
    Facts {
        text: Some(Text {
            bytes: 1_000_000,
            tokens: Some(250_000),
            held_out_tokens: Some(30_000),
            vocab_size: Some(1000),
            ..Text::default()
        }),
        speed: Some(Speed {
            flops_per_s: 1e10,
            startup_seconds: 2.0,
            source: "a test".to_string(),
        }),
        memory_bytes: Some(1 << 30),
    }
}

#[test]
fn a_run_s_time_is_that_of_its_parts() {
    let text = "save_every = 50\neval_every = 20\neval_tokens = 3000\n[model]\nd_model = 64\n\
                vocab_size = 1000\n[train]\nsteps = 100\nbatch = 4\ncontext = 128";
    let recipe = recipe(text);
    let plan = RunPlan::of(&recipe, &facts(), None);
    let token = Flops::of(&recipe.model, 128);
    let seconds = plan.seconds.unwrap();
    assert_eq!(seconds.startup, 2.0);
    near(seconds.steps, 51_200.0 * token.training() / 1e10, 1e-12);
    // At steps 20, 40, 60 and 80, and all that is held out at the end.
    near(seconds.evaluations, 42_000.0 * token.forward() / 1e10, 1e-12);
    near(seconds.total(), 2.0 + seconds.steps + seconds.evaluations, 1e-12);
    assert_eq!((plan.tokens, plan.text_tokens), (51_200, Some(250_000)));
    near(plan.epochs.unwrap(), 0.2048, 1e-12);
    near(plan.text_bytes.unwrap(), 204_800.0, 1e-12);
    assert_eq!(plan.prediction, None);
    assert!(plan.check(&recipe, &facts(), None).is_ok());
}

#[test]
fn what_this_machine_cannot_do_names_what_it_can() {
    let text = "[model]\nd_model = 512\nvocab_size = 8192\n[train]\nsteps = 1000\nbatch = 32\n\
                context = 256\naccumulation = 1";
    let recipe = recipe(text);
    let plan = RunPlan::of(&recipe, &facts(), None);
    // Room for two rows at once, not for four.
    let mut two_rows = recipe.clone();
    two_rows.train.accumulation = 16;
    let room = RunPlan::of(&two_rows, &facts(), None).memory.total();
    let tight = Facts { memory_bytes: Some(room), ..facts() };
    let error = plan.check(&recipe, &tight, None).unwrap_err().to_string();
    assert!(error.starts_with("memory: "), "{error}");
    let pieces = error.split("train.accumulation = ").nth(1).unwrap();
    let mut smaller = recipe.clone();
    smaller.train.accumulation = pieces.parse().unwrap();
    let fitting = RunPlan::of(&smaller, &tight, None);
    assert!(fitting.check(&smaller, &tight, None).is_ok());
    smaller.train.accumulation /= 2;
    assert!(RunPlan::of(&smaller, &tight, None).check(&smaller, &tight, None).is_err());
    // So little memory that the model must be another.
    let little = Facts { memory_bytes: Some(200 << 20), ..facts() };
    let error = plan.check(&recipe, &little, None).unwrap_err().to_string();
    assert!(error.contains("model.n_layer = ") || error.contains("train.context"), "{error}");
    let tiny = Facts { memory_bytes: Some(1 << 20), ..facts() };
    assert!(plan.check(&recipe, &tiny, None).unwrap_err().to_string().contains("--shape s"));
    // Too little time.
    let roomy = Facts { memory_bytes: None, ..facts() };
    let error = plan.check(&recipe, &roomy, Some(60.0)).unwrap_err().to_string();
    let steps: usize = error
        .split("train.steps = ")
        .nth(1)
        .and_then(|rest| rest.split(',').next()?.parse().ok())
        .unwrap();
    let mut shorter = recipe.clone();
    shorter.train.steps = steps;
    assert!(RunPlan::of(&shorter, &roomy, None).check(&shorter, &roomy, Some(60.0)).is_ok());
}

#[test]
fn forecast_stands_beside_what_came() {
    let forecast = Forecast {
        seconds: Some(100.0),
        memory_bytes: Some(1000),
        val_bits_per_byte: Some(2.0),
        low: Some(1.9),
        high: Some(2.1),
    };
    let outcome =
        Outcome { seconds: Some(110.0), memory_bytes: None, val_bits_per_byte: Some(2.2) };
    let rows = forecast.beside(&outcome);
    assert_eq!(rows.len(), 2);
    near(rows[0].error, 0.1, 1e-9);
    assert_eq!((rows[0].inside, rows[1].inside), (None, Some(false)));
    assert_eq!(Forecast::default().beside(&outcome), []);
}
