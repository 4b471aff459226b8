//! Runs as a whole, on a small text: interrupted ones, threads, pieces, bad batches, damage.

use std::cell::Cell;

use llmos_model::{Engine, EngineOptions, Model, ModelFiles};
use llmos_tensor::Isa;
use llmos_tokenizer::train::{BpeOptions, BpeTrainer};

use super::*;
use crate::data::scratch::Scratch;
use crate::data::{Dataset, Place, Preparation, Source, prepare};
use crate::journal::{Journal, Pace};
use crate::recipe::{Draft, Facts, Text};

/// A text with some order in it.
fn story() -> String {
    let (who, what) = (["Tom", "Lily", "the dog", "a bird"], ["ran", "sat", "saw a ball", "fell"]);
    (0..400).map(|i| format!("{} {}. ", who[i * 7 % 4], what[(i * i + i / 3) % 4])).collect()
}

struct Ground {
    scratch: Scratch,
    dataset: Arc<Dataset>,
}

impl Ground {
    fn new() -> Ground {
        let scratch = Scratch::new();
        let raw = scratch.write("story.txt", story().as_bytes());
        let mut trainer = BpeTrainer::new(BpeOptions {
            vocab_size: 280,
            pattern: "qwen2".into(),
            special: vec!["<|endoftext|>".into()],
            threads: std::num::NonZero::<usize>::MIN,
            memory: BpeOptions::least_memory(280),
        })
        .unwrap();
        trainer.push(&story());
        let trained = trainer.train(&mut |_, _| {}).unwrap();
        let files = vec![("tokenizer.json".to_string(), trained.json.into_bytes())];
        let data = scratch.path().join("data");
        let place = Place::new(&data, false).unwrap();
        let preparation = Preparation::new(vec![Source::new(raw)]);
        prepare(&preparation, &trained.tokenizer, files, place, &mut |_| {}).unwrap();
        let dataset = Arc::new(Dataset::open(&data).unwrap());
        Ground { scratch, dataset }
    }

    fn run(&self, name: &str, threads: usize, more: &[&str]) -> Result<Run, Error> {
        let mut draft = Draft::from_toml(RECIPE, Path::new("r.toml"))?;
        more.iter().try_for_each(|assignment| draft.assign(assignment))?;
        let facts = Facts { text: Some(Text::from(&*self.dataset)), ..Facts::default() };
        let resolved = draft.resolve(&facts)?;
        let folder = RunFolder::take(&self.scratch.path().join(name))?;
        let device = Arc::new(Device::new(Isa::detect(), threads));
        Run::new(
            folder,
            &resolved.recipe,
            &resolved.to_toml(),
            &Material::Text(self.dataset.clone()),
            &device,
        )
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.scratch.path().join(name)).unwrap()
    }

    fn rows(&self, run: &str) -> Vec<Row> {
        let path = self.scratch.path().join(run).join(RunFolder::METRICS);
        Journal::read(path).unwrap().entries().to_vec()
    }
}

const RECIPE: &str = "eval_every = 8\nsave_every = 4\nkeep = 2\n\
    [model]\nn_layer = 2\nn_head = 2\nn_kv_head = 1\nd_model = 16\nd_ff = 24\nvocab_size = 280\n\
    [train]\nsteps = 20\ncontext = 16\nbatch = 6\n";

fn finish(mut run: Run) {
    assert_eq!(run.go(&|| false, &mut |_| {}).unwrap(), Ending::Finished);
}

fn loss(row: &Row) -> f64 {
    row.loss.unwrap()
}

/// What a run has learnt and measured, its times left out.
fn learnt(ground: &Ground, run: &str) -> (Vec<u8>, Vec<u8>, Vec<Row>) {
    let timeless = |row: Row| Row { tokens_per_s: None, step_ms: None, seconds: None, ..row };
    (
        ground.bytes(&format!("{run}/model.safetensors")),
        ground.bytes(&format!("{run}/checkpoints/step-20/optimizer.safetensors")),
        ground.rows(run).into_iter().map(timeless).collect(),
    )
}

#[test]
fn stopped_anywhere_and_on_other_threads_it_ends_with_the_same_bits() {
    let ground = Ground::new();
    finish(ground.run("whole", 1, &[]).unwrap());
    let expected = learnt(&ground, "whole");
    let steps: Vec<u64> = expected.2.iter().map(|row| row.step).collect();
    assert_eq!(steps, (1..=20).collect::<Vec<u64>>());
    assert!(loss(&expected.2[19]) < loss(&expected.2[0]) - 0.5, "{:?}", expected.2);
    let measured = expected.2.iter().filter(|row| row.val_bits_per_byte.is_some());
    assert_eq!(measured.map(|row| row.step).collect::<Vec<u64>>(), [8, 16, 20]);
    finish(ground.run("threads", 3, &[]).unwrap());
    assert!(learnt(&ground, "threads") == expected, "three threads change bits");
    // Stopped after every second step, each time in another process as far as it can tell.
    loop {
        let mut run = ground.run("pieces", 2, &[]).unwrap();
        let asked = Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) == 1;
        if run.go(&stop, &mut |_| {}).unwrap() == Ending::Finished {
            break;
        }
    }
    assert!(learnt(&ground, "pieces") == expected, "interruptions change bits");
    // As if killed after its checkpoint and before its row: the row is written when it goes on.
    let text = String::from_utf8(ground.bytes("whole/metrics.jsonl")).unwrap();
    let cut = text.lines().take(15).map(|line| format!("{line}\n")).collect::<String>();
    let path =
        ground.scratch.write("whole/metrics.jsonl", format!("{cut}{{\"step\":16").as_bytes());
    std::fs::remove_dir_all(path.with_file_name("checkpoints/step-20")).unwrap();
    finish(ground.run("whole", 1, &[]).unwrap());
    assert!(learnt(&ground, "whole") == expected, "the row of the checkpoint");
}

#[test]
fn the_time_that_is_left_is_what_whoever_reads_the_rows_finds() {
    let ground = Ground::new();
    let mut told = Vec::new();
    let (asked, mut seconds) = (Cell::new(0), 0.0);
    let stop = || asked.replace(asked.get() + 1) == 5;
    for ending in [Ending::Stopped, Ending::Finished] {
        let mut run = ground.run("run", 1, &[]).unwrap();
        let ended = run.go(&stop, &mut |event| {
            if let Event::Step { left, .. } = event {
                told.push(left);
            }
        });
        assert_eq!(ended.unwrap(), ending);
        seconds = run.seconds();
    }
    let rows = ground.rows("run");
    let found = (1..=rows.len()).map(|n| Pace::of(&rows[..n], 20).seconds_left());
    assert_eq!(told, found.collect::<Vec<_>>());
    assert_eq!((told.len(), told[19]), (20, Some(0.0)));
    // Each row counts what was measured after its step, so nothing but the end comes after the last.
    let times: Vec<f64> = rows.iter().map(|row| row.seconds.unwrap()).collect();
    assert!(times.is_sorted() && times[19] <= seconds, "{times:?} {seconds}");
}

#[test]
fn pieces_add_up_to_the_batch() {
    let ground = Ground::new();
    finish(ground.run("one", 1, &[]).unwrap());
    finish(ground.run("three", 1, &["train.accumulation=3"]).unwrap());
    for (one, three) in ground.rows("one").iter().zip(ground.rows("three")) {
        assert!((loss(one) - loss(&three)).abs() < 1e-4, "{one:?} {three:?}");
        assert!(
            (one.grad_norm.unwrap() / three.grad_norm.unwrap() - 1.0).abs() < 1e-3,
            "{one:?} {three:?}"
        );
    }
}

#[test]
fn documents_and_packing_are_trained() {
    let ground = Ground::new();
    let more = ["train.document_attention=true", "data.order=packed"];
    finish(ground.run("packed", 2, &more).unwrap());
    let rows = ground.rows("packed");
    assert!(loss(&rows[19]) < loss(&rows[0]) - 0.5);
}

#[test]
fn the_last_checkpoints_and_the_best_are_kept() {
    let ground = Ground::new();
    let mut run = ground.run("run", 1, &["keep=1"]).unwrap();
    let asked = Cell::new(0);
    let stop = || asked.replace(asked.get() + 1) == 11;
    assert_eq!(run.go(&stop, &mut |_| {}).unwrap(), Ending::Stopped);
    drop(run);
    let kept = || -> Vec<u64> {
        checkpoint::list(&ground.scratch.path().join("run/checkpoints"))
            .into_iter()
            .map(|(step, _)| step)
            .collect()
    };
    assert_eq!(kept(), [8, 12]);
    // As if step 8 had been the best of all.
    let mut text = String::new();
    for mut row in ground.rows("run") {
        row.val_bits_per_byte = row.val_bits_per_byte.map(|_| 0.1);
        text += &(serde_json::to_string(&row).unwrap() + "\n");
    }
    ground.scratch.write("run/metrics.jsonl", text.as_bytes());
    finish(ground.run("run", 1, &["keep=1"]).unwrap());
    assert_eq!(kept(), [8, 20]);
}

#[test]
fn a_bad_batch_is_left_out_and_said() {
    let ground = Ground::new();
    let mut run = ground.run("run", 1, &[]).unwrap();
    run.trainer.poison = Some(9);
    let mut said = Vec::new();
    let ending = run.go(&|| false, &mut |event| {
        if let Event::SteppedBack { from, to, problem } = event {
            said.push((from, to, problem.to_string()));
        }
    });
    assert_eq!(ending.unwrap(), Ending::Finished);
    assert_eq!(said, [(10, 8, "the loss is NaN".to_string())]);
    drop(run);
    let rows = ground.rows("run");
    assert_eq!(rows.iter().map(|row| row.step).collect::<Vec<u64>>(), (1..=20).collect::<Vec<_>>());
    assert_eq!((rows[7].skipped, rows[8].skipped, rows[19].skipped), (None, Some(1), Some(1)));
    // What the checkpoint remembers, a run that goes on leaves out as well.
    std::fs::remove_dir_all(ground.scratch.path().join("run/checkpoints/step-20")).unwrap();
    let expected = loss(rows.last().unwrap());
    finish(ground.run("run", 1, &[]).unwrap());
    assert_eq!(loss(ground.rows("run").last().unwrap()).to_bits(), expected.to_bits());
}

#[test]
fn batch_after_batch_is_too_much() {
    let ground = Ground::new();
    let mut run = ground.run("run", 1, &["train.steps=200"]).unwrap();
    // Beyond all bounds: whatever the batch, the weights are no numbers afterwards.
    run.trainer.recipe.optimizer.lr = f64::INFINITY;
    let error = run.go(&|| false, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("after 5 batches were left out"), "{error}");
}

#[test]
fn damage_and_other_runs_are_errors() {
    let ground = Ground::new();
    finish(ground.run("run", 1, &[]).unwrap());
    let check = |expected: &str, run: Result<Run, Error>| {
        let Err(error) = run else { panic!("no error, {expected}") };
        assert!(error.to_string().contains(expected), "{error}");
    };
    let recipe = ground.bytes("run/recipe.toml");
    check("train.steps: 20 are done already", ground.run("run", 1, &["train.steps=19"]));
    check("expected 1, got 2", ground.run("run", 1, &["train.seed=2"]));
    check("model.safetensors: bytes of this model", ground.run("run", 1, &["model.d_ff=32"]));
    assert!(ground.bytes("run/recipe.toml") == recipe, "the run is still what it was");
    let held = ground.run("run", 1, &[]).unwrap();
    check("is being written by another process", ground.run("run", 1, &[]));
    assert!(RunFolder::is_alive(held.folder().path()));
    drop(held);
    for name in ["model.safetensors", "optimizer.safetensors", "state.json", "SHA256SUMS"] {
        let file = format!("run/checkpoints/step-20/{name}");
        let whole = ground.bytes(&file);
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 4;
        ground.scratch.write(&file, &flipped);
        check("step-20", ground.run("run", 1, &[]));
        ground.scratch.write(&file, &whole);
    }
    std::fs::remove_file(ground.scratch.path().join("run/checkpoints/step-20/state.json")).unwrap();
    check("state.json", ground.run("run", 1, &[]));
    ground.scratch.write("other/notes.txt", b"mine");
    check("is no run", ground.run("other", 1, &[]));
}

/// What the trainer computes is what the engine serves from the file that was written.
#[test]
fn logits_in_training_are_logits_in_serving() {
    let ground = Ground::new();
    for (name, more) in
        [("qwen3", &[][..]), ("llama", &["model.qk_norm=false", "model.tied_head=false"])]
    {
        let mut run = ground.run(name, 2, more).unwrap();
        assert_eq!(run.go(&|| false, &mut |_| {}).unwrap(), Ending::Finished);
        let ids: Vec<u32> = (0..16).map(|i| i * 37 % 280).collect();
        let mut trained = vec![0.0_f32; 280];
        let device = Arc::new(Device::new(Isa::detect(), 2));
        let files = ModelFiles::open(&ground.scratch.path().join(name)).unwrap();
        let model = Arc::new(Model::load(files, &device).unwrap());
        let mut engine = Engine::new(model, device, EngineOptions::default()).unwrap();
        let mut logprobs = [0.0; 16];
        engine.score(&ids, false, &mut |index, logprob| logprobs[index] = logprob).unwrap();
        for at in 1..16 {
            let Trainer { network, weights, .. } = &mut run.trainer;
            network.next_logits(weights, &ids[..at], &mut trained);
            let sum: f64 = trained.iter().map(|&logit| f64::from(logit).exp()).sum();
            let expected = f64::from(trained[ids[at] as usize]) - sum.ln();
            assert!(
                (logprobs[at] - expected).abs() < 2e-3,
                "{name} {at}: {expected} {}",
                logprobs[at]
            );
        }
    }
}
