//! What the engine promises: whatever is shared, moved, cut or put side by side, no bit of a logit
//! changes.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use llmos_tensor::Isa;

use super::*;
use crate::ModelFiles;
use crate::convert::FileType;
use crate::decoder::{Place, Rows, preset_for_tests};
use crate::sampler::{Sampler, SamplerOptions, log_probability};

const KINDS: [CacheType; 3] = [CacheType::F32, CacheType::F16, CacheType::Q8];

fn device() -> Arc<Device> {
    static DEVICE: LazyLock<Arc<Device>> =
        LazyLock::new(|| Arc::new(Device::new(Isa::detect(), 1)));
    DEVICE.clone()
}

/// One of two random models.
fn model_of(seed: u64) -> Arc<Model> {
    static MODELS: LazyLock<[Arc<Model>; 2]> = LazyLock::new(|| {
        [1, 2].map(|seed| {
            let model = Model::random(preset_for_tests(), FileType::F32, seed, &device());
            Arc::new(model.unwrap())
        })
    });
    MODELS[seed as usize - 1].clone()
}

fn options(cache_type: CacheType) -> EngineOptions {
    EngineOptions { context: Some(256), cache_bytes: Some(4 << 20), cache_type, prefill_chunk: 48 }
}

fn engine(cache_type: CacheType) -> Engine {
    Engine::new(model_of(1), device(), options(cache_type)).unwrap()
}

fn tokens(count: u32, seed: u32) -> Vec<u32> {
    (0..count).map(|i| (i * i * 7 + i * seed + seed) % 61).collect()
}

fn plain() -> SequenceOptions {
    SequenceOptions::default()
}

/// Steps until the logits of `id` are there.
fn ready(engine: &mut Engine, id: SequenceId) -> Vec<f32> {
    while !engine.is_ready(id).unwrap() {
        engine.step().unwrap();
    }
    engine.logits(id).unwrap().to_vec()
}

/// The logits after `tokens` in an engine of their own.
fn alone(cache_type: CacheType, tokens: &[u32]) -> Vec<f32> {
    let mut engine = engine(cache_type);
    let id = engine.add(tokens, plain()).unwrap();
    ready(&mut engine, id)
}

#[test]
fn an_engine_may_move_between_threads_and_a_model_be_shared() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Engine>();
    send::<Model>();
    sync::<Model>();
    send::<Sampler>();
    send::<crate::grammar::Grammar>();
    sync::<crate::grammar::GrammarVocabulary>();
}

#[test]
fn sequences_side_by_side_are_as_alone() {
    for kind in KINDS {
        let prompts = [tokens(1, 3), tokens(40, 5), tokens(100, 11), tokens(33, 2)];
        let mut engine = engine(kind);
        let ids = prompts.each_ref().map(|prompt| engine.add(prompt, plain()).unwrap());
        for round in 0..5 {
            for (id, prompt) in ids.iter().zip(&prompts) {
                let mut text = prompt.clone();
                text.extend((0..round).map(|i| i * 3));
                assert_eq!(ready(&mut engine, *id), alone(kind, &text), "{kind:?}");
                engine.force(*id, &[round * 3]).unwrap();
            }
        }
    }
}

#[test]
fn a_fork_goes_its_own_way() {
    for kind in KINDS {
        let past = tokens(50, 5);
        let mut engine = engine(kind);
        let a = engine.add(&past, plain()).unwrap();
        let logits = ready(&mut engine, a);
        let (free, _) = engine.blocks();
        let b = engine.fork(a).unwrap();
        assert_eq!(engine.blocks().0, free, "a fork takes no memory");
        assert_eq!(engine.logits(b).unwrap(), logits);
        for (id, seed) in [(a, 3), (b, 4), (a, 8)] {
            engine.force(id, &tokens(9, seed)).unwrap();
            let text = engine.tokens(id).unwrap().to_vec();
            assert_eq!(ready(&mut engine, id), alone(kind, &text), "{kind:?}");
        }
        engine.remove(a).unwrap();
        engine.force(b, &[1]).unwrap();
        let text = engine.tokens(b).unwrap().to_vec();
        assert_eq!(ready(&mut engine, b), alone(kind, &text), "{kind:?}");
    }
}

#[test]
fn a_sequence_comes_back_as_it_left() {
    for kind in KINDS {
        let past = tokens(77, 5);
        let mut first = engine(kind);
        let id = first.add(&past, SequenceOptions { owner: 7, priority: -2, ..plain() }).unwrap();
        first.label(id, Label { span: 3..9, value: 42 }).unwrap();
        let logits = ready(&mut first, id);
        let mut image = Vec::new();
        first.page_out(id, &mut image).unwrap();
        assert!(first.tokens(id).is_err());
        let mut second = engine(kind);
        let id = second.page_in(&mut &image[..]).unwrap();
        assert_eq!(second.logits(id).unwrap(), logits);
        assert_eq!(second.tokens(id).unwrap(), past);
        assert_eq!(second.labels(id).unwrap(), [Label { span: 3..9, value: 42 }]);
        second.force(id, &tokens(20, 9)).unwrap();
        let text = second.tokens(id).unwrap().to_vec();
        assert_eq!(ready(&mut second, id), alone(kind, &text), "{kind:?}");
    }
}

#[test]
fn a_damaged_or_foreign_image_is_refused_and_leaves_nothing() {
    let mut first = engine(CacheType::Q8);
    let id = first.add(&tokens(40, 5), plain()).unwrap();
    ready(&mut first, id);
    let mut image = Vec::new();
    first.page_out(id, &mut image).unwrap();
    let mut second = engine(CacheType::Q8);
    let before = second.blocks();
    for cut in (0..image.len()).step_by(97) {
        assert!(second.page_in(&mut &image[..cut]).is_err(), "cut at {cut}");
    }
    for at in (0..image.len()).step_by(61).chain(0..200) {
        let mut damaged = image.clone();
        damaged[at] ^= 0x41;
        assert!(second.page_in(&mut &damaged[..]).is_err(), "byte {at}");
    }
    assert_eq!(second.blocks(), before);
    assert_eq!(second.sequences().count(), 0);
    let mut other = Engine::new(model_of(2), device(), options(CacheType::Q8)).unwrap();
    assert!(other.page_in(&mut &image[..]).is_err(), "another model");
    assert!(engine(CacheType::F16).page_in(&mut &image[..]).is_err(), "another cache");
    assert!(second.page_in(&mut &image[..]).is_ok());
}

#[test]
fn a_prefix_is_computed_once_for_each_tenant() {
    for kind in KINDS {
        let mut shared = tokens(70, 5);
        let mut engine = engine(kind);
        let a = engine.add(&shared, plain()).unwrap();
        ready(&mut engine, a);
        // While the first is still there, and after it has gone.
        for gone in [false, true] {
            if gone {
                engine.remove(a).unwrap();
            }
            shared.truncate(64);
            shared.extend([5, 6, 7 + u32::from(gone)]);
            let b = engine.add(&shared, plain()).unwrap();
            let events = engine.step().unwrap();
            assert_eq!(events, [Event::Ready(b)]);
            assert_eq!(engine.logits(b).unwrap(), alone(kind, &shared), "{kind:?}");
            engine.remove(b).unwrap();
        }
        // 67 tokens do not fit a batch of 48, so a tenant without blocks needs two steps.
        let other = engine.add(&shared, SequenceOptions { salt: 1, ..plain() }).unwrap();
        let progress = Event::Advanced { sequence: other, computed: 48, tokens: 67 };
        assert_eq!(engine.step().unwrap(), [progress]);
        engine.remove(other).unwrap();
        engine.forget_prefixes();
        let (free, all) = engine.blocks();
        assert_eq!(free, all);
    }
}

#[test]
fn what_is_forgotten_is_computed_anew_and_who_runs_goes_on() {
    for kind in KINDS {
        let mut engine = engine(kind);
        let text = tokens(100, 5);
        let of = |salt: u64| SequenceOptions { salt, ..plain() };
        let adopted = |engine: &mut Engine, salt: u64| {
            let id = engine.add(&text, of(salt)).unwrap();
            assert_eq!(ready(engine, id), alone(kind, &text), "{kind:?}");
            let adopted = engine.adopted(id).unwrap();
            engine.remove(id).unwrap();
            adopted
        };
        let running = engine.add(&text, of(1)).unwrap();
        ready(&mut engine, running);
        for (salt, expected) in [(1, 96), (2, 0), (2, 96)] {
            assert_eq!(adopted(&mut engine, salt), expected, "{salt}");
        }
        engine.forget_salt(1);
        engine.force(running, &tokens(40, 9)).unwrap();
        let whole = engine.tokens(running).unwrap().to_vec();
        assert_eq!(ready(&mut engine, running), alone(kind, &whole), "{kind:?}");
        engine.remove(running).unwrap();
        // One that keeps to itself leaves nothing either.
        let private = engine.add(&text, SequenceOptions { is_private: true, ..of(1) }).unwrap();
        assert_eq!(ready(&mut engine, private), alone(kind, &text), "{kind:?}");
        engine.remove(private).unwrap();
        // Neither what was there nor what came since is found, and another's is.
        for (salt, expected) in [(2, 96), (1, 0), (1, 96)] {
            assert_eq!(adopted(&mut engine, salt), expected, "{salt}");
        }
        let private = engine.add(&text, SequenceOptions { is_private: true, ..of(2) }).unwrap();
        assert_eq!(ready(&mut engine, private), alone(kind, &text), "{kind:?}");
        assert_eq!(engine.adopted(private).unwrap(), 0);
        engine.remove(private).unwrap();
        let (free, all) = engine.blocks();
        assert_eq!(free, all);
    }
}

#[test]
fn cutting_back_and_going_another_way_is_as_if_never_gone() {
    for kind in KINDS {
        let mut engine = engine(kind);
        let id = engine.add(&tokens(90, 5), plain()).unwrap();
        ready(&mut engine, id);
        for length in [64, 63, 33, 32, 1] {
            engine.truncate(id, length).unwrap();
            let text = engine.tokens(id).unwrap().to_vec();
            assert_eq!(ready(&mut engine, id), alone(kind, &text), "{kind:?} {length}");
            engine.force(id, &tokens(7, length as u32)).unwrap();
            let text = engine.tokens(id).unwrap().to_vec();
            assert_eq!(ready(&mut engine, id), alone(kind, &text), "{kind:?} {length}");
            engine.truncate(id, length).unwrap();
        }
        assert!(engine.truncate(id, 0).is_err());
        assert!(engine.truncate(id, 9).is_err());
    }
}

#[test]
fn the_budget_is_an_error_not_a_hope() {
    let model = model_of(1);
    let layout = CacheLayout::new(model.config(), CacheType::F16);
    let budget =
        EngineOptions { cache_bytes: Some(3 * layout.block_bytes()), ..options(CacheType::F16) };
    let mut engine = Engine::new(model, device(), budget).unwrap();
    let a = engine.add(&tokens(40, 5), plain()).unwrap();
    let logits = ready(&mut engine, a);
    let b = engine.add(&tokens(40, 6), plain()).unwrap();
    let error = loop {
        match engine.step() {
            Ok(_) => assert!(!engine.is_ready(b).unwrap()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::CacheFull { total: 3, .. }), "{error}");
    assert_eq!(engine.logits(a).unwrap(), logits);
    engine.remove(a).unwrap();
    let text = engine.tokens(b).unwrap().to_vec();
    assert_eq!(ready(&mut engine, b), alone(CacheType::F16, &text));
    let none = EngineOptions { cache_bytes: Some(10), ..options(CacheType::F16) };
    assert!(Engine::new(model_of(1), device(), none).is_err());
}

#[test]
fn what_cannot_be_given_is_said_clearly() {
    let long = EngineOptions { context: Some(8193), ..options(CacheType::F16) };
    let Err(error) = Engine::new(model_of(1), device(), long) else { panic!("too long") };
    let message = error.to_string();
    assert!(message.contains("8192") && message.contains("8193"), "{message}");
    let mut engine = engine(CacheType::F16);
    assert!(engine.add(&[], plain()).is_err());
    assert!(engine.add(&[61], plain()).is_err());
    assert!(engine.add(&tokens(257, 1), plain()).is_err());
    let id = engine.add(&tokens(250, 1), plain()).unwrap();
    assert!(engine.force(id, &tokens(7, 1)).is_err());
    assert!(engine.force(id, &tokens(6, 1)).is_ok());
    assert!(engine.logits(id).is_err());
    assert!(engine.label(id, Label { span: 0..257, value: 0 }).is_err());
    engine.remove(id).unwrap();
    assert!(engine.remove(id).is_err());
    assert!(engine.step().unwrap().is_empty());
}

#[test]
fn a_flag_stops_the_work_and_nothing_is_lost() {
    let mut engine = engine(CacheType::F16);
    let id = engine.add(&tokens(100, 5), plain()).unwrap();
    engine.step().unwrap();
    let stop = engine.stop_flag();
    stop.store(true, Ordering::Relaxed);
    assert!(matches!(engine.step(), Err(Error::Cancelled)));
    stop.store(false, Ordering::Relaxed);
    assert_eq!(ready(&mut engine, id), alone(CacheType::F16, &tokens(100, 5)));
    let cancel = Arc::new(AtomicBool::new(false));
    let with_flag = SequenceOptions { cancel: Some(cancel.clone()), ..plain() };
    let other = engine.add(&tokens(100, 6), with_flag).unwrap();
    engine.step().unwrap();
    cancel.store(true, Ordering::Relaxed);
    assert_eq!(engine.step().unwrap(), [Event::Cancelled(other)]);
    engine.remove(other).unwrap();
}

#[test]
fn a_policy_decides_who_advances() {
    let mut engine = engine(CacheType::F16);
    let a = engine.add(&tokens(30, 5), SequenceOptions { owner: 1, ..plain() }).unwrap();
    let b = engine.add(&tokens(30, 6), SequenceOptions { owner: 2, ..plain() }).unwrap();
    let mut second_owner = |waiting: &[Waiting], _: Capacity| {
        let own = waiting.iter().filter(|w| w.owner == 2);
        own.map(|w| (w.sequence, 10)).collect::<Vec<_>>()
    };
    let events = engine.step_with(&mut second_owner).unwrap();
    assert_eq!(events, [Event::Advanced { sequence: b, computed: 10, tokens: 30 }]);
    engine.set_paused(b, true).unwrap();
    assert_eq!(engine.step().unwrap(), [Event::Ready(a)]);
    assert!(engine.step().unwrap().is_empty());
    engine.set_paused(b, false).unwrap();
    assert_eq!(engine.step().unwrap(), [Event::Ready(b)]);
    assert_eq!(engine.logits(b).unwrap(), alone(CacheType::F16, &tokens(30, 6)));
}

#[test]
fn scores_are_log_probabilities_in_bulk_and_step_by_step() {
    let text = tokens(130, 5);
    let score = |stepwise| {
        let mut scores = Vec::new();
        let mut engine = engine(CacheType::F16);
        engine.score(&text, stepwise, &mut |index, score| scores.push((index, score))).unwrap();
        assert_eq!(engine.sequences().count(), 0);
        scores
    };
    let bulk = score(false);
    assert_eq!(bulk, score(true));
    assert_eq!(bulk.len(), text.len() - 1);
    for (index, value) in bulk.into_iter().step_by(17) {
        let logits = alone(CacheType::F16, &text[..index]);
        assert_eq!(value, log_probability(&logits, text[index]), "token {index}");
    }
    let mut engine = engine(CacheType::F16);
    let mut none = |_, _| panic!("a single token has no past");
    engine.score(&[4], false, &mut none).unwrap();
    assert!(engine.score(&[], false, &mut none).is_err());
    assert!(engine.score(&[61], false, &mut none).is_err());
    // The last token is only predicted, so one more than the context can be scored.
    let mut count = 0;
    engine.score(&tokens(257, 1), false, &mut |_, _| count += 1).unwrap();
    assert_eq!(count, 256);
    assert!(engine.score(&tokens(258, 1), false, &mut |_, _| ()).is_err());
}

#[test]
fn continuations_are_scored_side_by_side_as_alone() {
    let past = tokens(70, 5);
    let all = [tokens(3, 1), Vec::new(), tokens(90, 2), tokens(1, 7), tokens(3, 9)];
    let mut engine = engine(CacheType::F16);
    let id = engine.add(&past, plain()).unwrap();
    let continuations = all.each_ref().map(Vec::as_slice);
    let scores = engine.score_continuations(id, &continuations).unwrap();
    assert_eq!(engine.sequences().count(), 1);
    for (continuation, scores) in all.iter().zip(scores) {
        let text = [&past[..], continuation].concat();
        let mut expected = Vec::new();
        engine.score(&text, false, &mut |_, score| expected.push(score)).unwrap();
        assert_eq!(scores, expected[past.len() - 1..]);
    }
    assert_eq!(engine.logits(id).unwrap(), alone(CacheType::F16, &past));
    assert!(engine.score_continuations(id, &[&tokens(187, 1)]).is_ok());
    assert!(engine.score_continuations(id, &[&tokens(188, 1)]).is_err());
    assert!(engine.score_continuations(id, &[&[61]]).is_err());
}

fn generate(
    sampling: &SamplerOptions,
    drafter: Option<&mut dyn Drafter>,
    prompt: &[u32],
    count: usize,
) -> Generated {
    let mut engine = engine(CacheType::F16);
    let mut sampler = Sampler::new(sampling.clone(), 11).unwrap();
    let generate = GenerateOptions { tokens: Some(count), drafter, ..GenerateOptions::default() };
    let mut seen = Vec::new();
    let generated = engine
        .generate(prompt, &mut sampler, generate, &mut |token| {
            seen.push(token);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, generated.tokens);
    assert_eq!(engine.sequences().count(), 0);
    generated
}

#[test]
fn guesses_change_nothing_but_the_time() {
    // A repetition penalty makes what is drawn depend on the history as well.
    let warm = SamplerOptions { repetition_penalty: 1.1, ..SamplerOptions::default() };
    for sampling in [SamplerOptions::greedy(), warm, SamplerOptions::plain()] {
        for prompt in [tokens(1, 3), [tokens(9, 2), tokens(9, 2)].concat()] {
            for count in [1, 2, 40] {
                let expected = generate(&sampling, None, &prompt, count);
                assert_eq!(expected.tokens.len(), count);
                let mut ngram = NgramDrafter { longest: 3, shortest: 1 };
                let got = generate(&sampling, Some(&mut ngram), &prompt, count);
                assert_eq!(got.tokens, expected.tokens);
                for seed in [1, 2] {
                    // The model itself, which guesses right when greedy, and another.
                    let own = Engine::new(model_of(seed), device(), options(CacheType::F16));
                    let mut drafter = ModelDrafter::new(own.unwrap(), 61).unwrap();
                    let got = generate(&sampling, Some(&mut drafter), &prompt, count);
                    assert_eq!(got.tokens, expected.tokens);
                    if seed == 1 && sampling == SamplerOptions::greedy() {
                        assert_eq!(got.accepted, got.drafted);
                        assert!(count < 40 || got.accepted >= 30, "{got:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_text_ends_for_a_reason() {
    let run = |generate: GenerateOptions<'_>, stop_after: usize| {
        let mut engine = engine(CacheType::F16);
        let mut sampler = Sampler::new(SamplerOptions::greedy(), 0).unwrap();
        let mut count = 0;
        let mut each = |_| {
            count += 1;
            if count == stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        engine.generate(&tokens(9, 4), &mut sampler, generate, &mut each).unwrap()
    };
    let free = run(GenerateOptions { tokens: Some(5), ..GenerateOptions::default() }, 0);
    assert_eq!((free.tokens.len(), free.ending), (5, Ending::Tokens));
    let broken = run(GenerateOptions::default(), 3);
    assert_eq!((&broken.tokens[..], broken.ending), (&free.tokens[..3], Ending::Caller));
    let full = run(GenerateOptions::default(), 0);
    // The last token is drawn from the logits of a full context.
    assert_eq!((full.tokens.len(), full.ending), (256 - 9 + 1, Ending::Context));
    let first = free.tokens[2];
    let ended = run(GenerateOptions { end: &[first], ..GenerateOptions::default() }, 0);
    let before = free.tokens.iter().position(|&token| token == first).unwrap();
    assert_eq!((&ended.tokens[..], ended.ending), (&free.tokens[..before], Ending::End(first)));
    let limited = GenerateOptions {
        sequence: SequenceOptions { length: Some(20), ..plain() },
        drafter: Some(&mut NgramDrafter { longest: 2, shortest: 1 }),
        ..GenerateOptions::default()
    };
    assert_eq!(run(limited, 0).tokens, full.tokens[..12]);
}

#[test]
fn a_grammar_holds_with_and_without_guesses() {
    let mut words: Vec<Vec<u8>> = (0..60u8).map(|i| vec![b'0' + i]).collect();
    words.push(Vec::new());
    let vocabulary = crate::grammar::GrammarVocabulary::new(&words, 60).unwrap();
    let run = |drafter: Option<&mut dyn Drafter>| {
        let source = crate::grammar::GrammarSource::Regex("(12|345)+[A-C]9");
        let mut grammar = vocabulary.compile(&source).unwrap();
        let mut engine = engine(CacheType::F16);
        let mut sampler = Sampler::new(SamplerOptions::plain(), 5).unwrap();
        let generate = GenerateOptions {
            tokens: Some(200),
            end: &[60],
            grammar: Some(&mut grammar),
            drafter: drafter.map(|drafter| drafter as &mut dyn Drafter),
            ..GenerateOptions::default()
        };
        let mut each = |_| ControlFlow::Continue(());
        engine.generate(&[1, 2, 3, 1, 2], &mut sampler, generate, &mut each).unwrap()
    };
    let generated = run(None);
    let text: String = generated.tokens.iter().map(|&id| (b'0' + id as u8) as char).collect();
    let body = text.strip_suffix('9').and_then(|text| text.strip_suffix(['A', 'B', 'C'])).unwrap();
    assert_eq!(body.replace("345", "").replace("12", ""), "", "{text}");
    assert!(matches!(generated.ending, Ending::End(60) | Ending::Grammar), "{generated:?}");
    let mut drafter = NgramDrafter { longest: 2, shortest: 1 };
    assert_eq!(run(Some(&mut drafter)).tokens, generated.tokens);
}

#[test]
fn hooks_see_every_layer_and_change_what_they_replace() {
    let text = tokens(70, 5);
    let expected = alone(CacheType::F16, &text);
    let mut seen = engine(CacheType::F16);
    let counts: Arc<std::sync::Mutex<HashMap<Place, usize>>> = Arc::default();
    let count = counts.clone();
    seen.set_hook(Some(Box::new(move |place, values: &mut [f32], width: usize| {
        *count.lock().unwrap().entry(place).or_default() += values.len() / width;
    })));
    let id = seen.add(&text, plain()).unwrap();
    assert_eq!(ready(&mut seen, id), expected, "reading changes nothing");
    let counts = counts.lock().unwrap();
    assert_eq!(counts.len(), 1 + 4 * seen.config().layers.len());
    assert!(counts.values().all(|&rows| rows == text.len()), "{counts:?}");

    let mut changed = engine(CacheType::F16);
    changed.set_hook(Some(Box::new(|place, values: &mut [f32], _: usize| {
        if place == Place::Mlp(1) {
            values.fill(0.0);
        }
    })));
    let id = changed.add(&text, plain()).unwrap();
    assert_ne!(ready(&mut changed, id), expected);
    // Nobody else begins with what was computed under a hook.
    changed.set_hook(None);
    let id = changed.add(&text, plain()).unwrap();
    assert_eq!(ready(&mut changed, id), expected);
}

/// Adds to one sequence after the first layer, and measures all in a direction after the second.
struct Steering {
    steered: u64,
    rows: Vec<Rows>,
    found: Arc<std::sync::Mutex<HashMap<u64, f32>>>,
}

impl Hook for Steering {
    fn begin(&mut self, rows: &[Rows]) {
        self.rows = rows.to_vec();
    }

    fn visit(&mut self, place: Place, values: &mut [f32], width: usize) {
        let mut rest = values.chunks_exact_mut(width);
        for rows in &self.rows {
            for row in rest.by_ref().take(rows.count) {
                match place {
                    Place::Residual(0) if rows.sequence == self.steered => row[3] += 10.0,
                    Place::Residual(1) => {
                        self.found.lock().unwrap().insert(rows.sequence, row[3]);
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn one_sequence_is_steered_among_others_and_all_are_measured() {
    let (one, other) = (tokens(50, 5), tokens(61, 9));
    let [expected, untouched] = [&one, &other].map(|text| alone(CacheType::F16, text));
    let mut engine = engine(CacheType::F16);
    let [steered, free] = [&one, &other].map(|text| engine.add(text, plain()).unwrap());
    let found = Arc::default();
    let hook = Steering { steered: steered.number(), rows: Vec::new(), found: Arc::clone(&found) };
    engine.set_hook(Some(Box::new(hook)));
    let logits = [steered, free].map(|id| ready(&mut engine, id));
    assert_ne!(logits[0], expected);
    assert_eq!(logits[1], untouched, "the others' bits stay");
    let measured = found.lock().unwrap().clone();
    assert!(measured[&steered.number()] > measured[&free.number()] + 5.0, "{measured:?}");
    // Who looks sees what the engine's own hook leaves.
    let view = View { states: 1, ..View::default() };
    let before = engine.look(&one, plain(), &view).unwrap();
    let hook = engine.set_hook(None);
    let after = engine.look(&one, plain(), &view).unwrap();
    assert!(hook.is_some() && before.logits() == after.logits() && after.logits() == expected);
}

/// The pieces of a llama2.c tokenizer: a length, then score, length and bytes of each.
fn pieces(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let (_, mut rest) = bytes.split_at(4);
    let mut pieces = Vec::new();
    while let Some((head, tail)) = rest.split_at_checked(8) {
        let length = u32::from_le_bytes(head[4..].try_into().unwrap()) as usize;
        pieces.push(tail[..length].to_vec());
        rest = &tail[length..];
    }
    pieces
}

#[test]
fn stories260k_tells_its_story() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/llama2c");
    let pieces = pieces(&folder.join("tok512.bin"));
    // The beginning that the model's author shows for temperature 0.
    let expected = "Once upon a time, there was a little girl named Lily. She loved to play outside \
                    in the park. One day, she saw a big, red ball. She wanted to play with it, but it \
                    was too high";
    let files = [folder.join("stories260K.bin"), folder.join("../../models/stories260K.gguf")];
    for (isa, path) in
        Isa::available().into_iter().flat_map(|isa| files.each_ref().map(|f| (isa, f)))
    {
        let device = Arc::new(Device::new(isa, 1));
        let files = ModelFiles::open(path).unwrap();
        let model = Arc::new(Model::load(files, &device).unwrap());
        let mut engine = Engine::new(model, device, EngineOptions::default()).unwrap();
        let mut sampler = Sampler::new(SamplerOptions::greedy(), 0).unwrap();
        let generate = GenerateOptions { tokens: Some(100), ..GenerateOptions::default() };
        let mut text = Vec::new();
        engine
            .generate(&[1], &mut sampler, generate, &mut |token| {
                text.extend_from_slice(&pieces[token as usize]);
                ControlFlow::Continue(())
            })
            .unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.trim_start().starts_with(expected), "{isa}: {text}");
    }
}

#[test]
fn states_are_kept_of_every_token_and_do_not_depend_on_what_runs_beside() {
    let text = tokens(100, 3);
    let kept = |engine: &mut Engine, tokens: &[u32]| {
        let id = engine.add(tokens, plain()).unwrap();
        engine.keep_states(id).unwrap();
        assert!(engine.states(id).is_err());
        while !engine.is_ready(id).unwrap() {
            engine.step().unwrap();
        }
        let states = engine.states(id).unwrap().clone();
        engine.remove(id).unwrap();
        states
    };
    let mut alone = engine(CacheType::F32);
    let expected = kept(&mut alone, &text);
    assert_eq!(expected.count(), 100);
    // What lies in the cache by now has no states, so that all goes through the model again.
    let again = kept(&mut alone, &text);
    assert_eq!((again.mean(), again.last()), (expected.mean(), expected.last()));
    // The mean is that of the last states of all beginnings.
    let d_model = expected.last().len();
    let mut sum = vec![0.0f64; d_model];
    for end in 1..=text.len() {
        let part = kept(&mut alone, &text[..end]);
        sum.iter_mut().zip(part.last()).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let mean: Vec<f32> = sum.iter().map(|x| (x / 100.0) as f32).collect();
    assert_eq!(expected.mean(), mean);
    // Beside others, whose logits stay what they are.
    let other = tokens(70, 5);
    let logits = self::alone(CacheType::F32, &other);
    let mut crowd = engine(CacheType::F32);
    let first = crowd.add(&other, plain()).unwrap();
    let with = crowd.add(&text, plain()).unwrap();
    let last = crowd.add(&other[..69], plain()).unwrap();
    crowd.keep_states(with).unwrap();
    crowd.keep_rows(last, 2).unwrap();
    for id in [first, with, last] {
        while !crowd.is_ready(id).unwrap() {
            crowd.step().unwrap();
        }
    }
    let states = crowd.states(with).unwrap();
    assert_eq!((states.mean(), states.last()), (expected.mean(), expected.last()));
    assert_eq!(crowd.logits(first).unwrap(), logits);
    crowd.force(last, &other[69..]).unwrap();
    assert_eq!(ready(&mut crowd, last), logits);
    assert!(crowd.states(first).is_err() && crowd.keep_states(first).is_err());
    // One that is cut has none any more.
    crowd.truncate(with, 50).unwrap();
    assert!(crowd.states(with).is_err());
}
