//! The sampler against transformers and llama.cpp (`testdata/sampler/make.py`), and against
//! definitions worked out by hand.

use std::path::Path;

use serde_json::Value as Json;

use super::*;

#[test]
fn what_is_left_agrees_with_transformers_and_llama_cpp() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/sampler/cases.json");
    let golden: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let numbers = |value: &Json| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let history: Vec<u32> = numbers(&golden["history"]).iter().map(|&id| id as u32).collect();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 50);
    for case in cases {
        let name = case["logits"].as_str().unwrap();
        let logits = numbers(&golden["logits"][name]);
        let mut logits: Vec<f32> = logits.iter().map(|&logit| logit as f32).collect();
        // What a case does not name is off.
        let mut options = serde_json::to_value(SamplerOptions::plain()).unwrap();
        for (key, value) in case["options"].as_object().unwrap() {
            options[key] = value.clone();
        }
        let options: SamplerOptions = serde_json::from_value(options).unwrap();
        let mut sampler = Sampler::new(options, 1).unwrap();
        let mut left = sampler.distribution(&mut logits, &history).unwrap();
        left.sort_by_key(|&(id, _)| id);
        let mut expected: Vec<(u32, f64)> = case["kept"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (pair[0].as_u64().unwrap() as u32, pair[1].as_f64().unwrap()))
            .collect();
        expected.sort_by_key(|&(id, _)| id);
        let what = format!("{} of {} on {name}", case["options"], case["source"]);
        // Below the file's eight decimals there is nothing to compare.
        left.retain(|&(id, p)| p > 1e-7 || expected.iter().any(|e| e.0 == id));
        let ids = |pairs: &[(u32, f64)]| pairs.iter().map(|pair| pair.0).collect::<Vec<_>>();
        let left: Vec<(u32, f64)> = left.iter().map(|&(id, p)| (id, f64::from(p))).collect();
        assert_eq!(ids(&left), ids(&expected), "{what}");
        for (left, expected) in left.iter().zip(&expected) {
            assert!((left.1 - expected.1).abs() < 2e-6, "{what}: {left:?} {expected:?}");
        }
    }
}

fn draw(options: SamplerOptions, seed: u64, logits: &[f32], count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(options, seed).unwrap();
    (0..count).map(|_| sampler.sample(&mut logits.to_vec(), &[]).unwrap()).collect()
}

#[test]
fn frequencies_are_the_probabilities() {
    let logits = [0.0f32, 1.0, 2.0, f32::NEG_INFINITY];
    let draws = draw(SamplerOptions::plain(), 7, &logits, 20_000);
    let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    for (id, &logit) in logits.iter().enumerate() {
        let expected = f64::from(logit).exp() / total;
        let got = draws.iter().filter(|&&drawn| drawn == id as u32).count() as f64 / 20_000.0;
        // Four standard deviations.
        let bound = 4.0 * (expected * (1.0 - expected) / 20_000.0).sqrt();
        assert!((got - expected).abs() <= bound, "token {id}: {got}, expected {expected}");
    }
}

#[test]
fn a_seed_repeats_and_another_differs() {
    let logits: Vec<f32> = (0..500).map(|i| ((i * 37) % 101) as f32 / 20.0).collect();
    let first = draw(SamplerOptions::default(), 1, &logits, 50);
    assert_eq!(first, draw(SamplerOptions::default(), 1, &logits, 50));
    assert_ne!(first, draw(SamplerOptions::default(), 2, &logits, 50));
}

#[test]
fn greedy_takes_the_lowest_id_of_equals_and_follows_the_bias() {
    let logits = [1.0, 3.0, 3.0, 2.0];
    assert_eq!(draw(SamplerOptions::greedy(), 0, &logits, 1), [1]);
    let biased = SamplerOptions { logit_bias: vec![(3, 1.5)], ..SamplerOptions::greedy() };
    assert_eq!(draw(biased, 0, &logits, 1), [3]);
    let banned = f32::NEG_INFINITY;
    let banned = SamplerOptions { logit_bias: vec![(1, banned)], ..SamplerOptions::greedy() };
    assert_eq!(draw(banned, 0, &logits, 1), [2]);
    let unknown = SamplerOptions { logit_bias: vec![(99, 9.0)], ..SamplerOptions::greedy() };
    assert_eq!(draw(unknown, 0, &logits, 1), [1]);
}

#[test]
fn top_k_in_one_pass_is_top_k_by_sorting() {
    let mut state = 1u32;
    let mut logits: Vec<f32> = (0..20_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Coarse, so that equals are many.
            (state >> 24) as f32
        })
        .collect();
    logits[17] = f32::NEG_INFINITY;
    let mut sorted: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    for k in [1, 5, 40, 1000, 4999, 6000] {
        let options = SamplerOptions { top_k: k, ..SamplerOptions::plain() };
        let mut sampler = Sampler::new(options, 0).unwrap();
        sampler.narrow(&mut logits.clone(), &[]).unwrap();
        sampler.candidates.sort();
        let ids: Vec<u32> = sampler.candidates.items().iter().map(|item| item.id).collect();
        let expected: Vec<u32> = sorted[..k].iter().map(|pair| pair.0).collect();
        assert_eq!(ids, expected, "top {k}");
    }
}

#[test]
fn mirostat_follows_its_definition() {
    // Probabilities 1/2, 1/4, 1/8, 1/8: surprises 1, 2, 3, 3 bits.
    let logits: Vec<f32> = [0.5f32, 0.25, 0.125, 0.125].iter().map(|p| p.ln()).collect();
    let options = SamplerOptions {
        mirostat: Some(Mirostat { tau: 1.25, eta: 0.5 }),
        ..SamplerOptions::plain()
    };
    let mut sampler = Sampler::new(options, 3).unwrap();
    // The bound starts at 2 tau = 2.5 bits: two tokens are left, with 2/3 and 1/3.
    let left = sampler.distribution(&mut logits.clone(), &[]).unwrap();
    assert_eq!(left.iter().map(|pair| pair.0).collect::<Vec<_>>(), [0, 1]);
    assert!((left[0].1 - 2.0 / 3.0).abs() < 1e-6);
    let drawn = sampler.sample(&mut logits.clone(), &[]).unwrap();
    let surprise = if drawn == 0 { 1.5f32.log2() } else { 3f32.log2() };
    assert!((sampler.mu - (2.5 - 0.5 * (surprise - 1.25))).abs() < 1e-5);
}

#[test]
fn logits_without_a_distribution_are_errors() {
    for bad in [vec![1.0, f32::NAN], vec![f32::INFINITY, 0.0], vec![f32::NEG_INFINITY; 3], vec![]] {
        for options in [SamplerOptions::greedy(), SamplerOptions::default()] {
            let mut sampler = Sampler::new(options, 0).unwrap();
            assert!(sampler.sample(&mut bad.clone(), &[]).is_err(), "{bad:?}");
        }
    }
}

#[test]
fn options_outside_their_definitions_are_errors() {
    let with = |change: &dyn Fn(&mut SamplerOptions)| {
        let mut options = SamplerOptions::default();
        change(&mut options);
        Sampler::new(options, 0)
    };
    assert!(with(&|_| {}).is_ok());
    assert!(with(&|o| o.temperature = -1.0).is_err());
    assert!(with(&|o| o.temperature = f32::NAN).is_err());
    assert!(with(&|o| o.top_p = 1.1).is_err());
    assert!(with(&|o| o.repetition_penalty = 0.0).is_err());
    assert!(with(&|o| o.logit_bias = vec![(0, f32::NAN)]).is_err());
    assert!(with(&|o| o.dry = Some(Dry { base: 0.5, ..Dry::default() })).is_err());
    let unknown = serde_json::from_str::<SamplerOptions>(r#"{"top_kk": 3}"#);
    assert!(unknown.is_err());
}

#[test]
fn extremes_still_draw() {
    let logits = [f32::MAX, f32::MIN, 0.0, -0.0];
    for options in [
        SamplerOptions { temperature: 1e-30, ..SamplerOptions::plain() },
        SamplerOptions { temperature: f32::MAX, ..SamplerOptions::plain() },
        SamplerOptions { top_p: 0.0, ..SamplerOptions::plain() },
        SamplerOptions { min_p: 1.0, ..SamplerOptions::plain() },
        SamplerOptions { typical_p: 0.0, ..SamplerOptions::plain() },
        SamplerOptions { top_n_sigma: 1e-6, ..SamplerOptions::plain() },
        SamplerOptions {
            xtc: Some(Xtc { probability: 1.0, threshold: 0.0 }),
            ..SamplerOptions::plain()
        },
    ] {
        let mut sampler = Sampler::new(options.clone(), 0).unwrap();
        let drawn = sampler.sample(&mut logits.to_vec(), &[0, 1, 2, 3]).unwrap();
        assert!((drawn as usize) < logits.len(), "{options:?}");
    }
}
