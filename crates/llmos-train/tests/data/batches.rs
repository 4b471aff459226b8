//! Batches by seed and step.

use std::collections::BTreeMap;
use std::sync::Arc;

use llmos_train::data::{Batch, BatchOptions, Batches, Dataset, Order, Preparation, Source, Split};

use crate::scratch::Scratch;
use crate::{bytes, everything, ids, json_lines, run, story};

const OPTIONS: BatchOptions =
    BatchOptions { context: 32, batch: 4, seed: 1, order: Order::Epochs, documents: false };

const ORDERS: [Order; 3] = [Order::Epochs, Order::Random, Order::Packed];

fn dataset(scratch: &Scratch) -> Arc<Dataset> {
    let path = scratch.write("a.jsonl", &json_lines((0..300).map(story)));
    Arc::new(run(scratch, &everything(&path), &bytes()).unwrap().1)
}

/// Two sources of ids that tell them apart, one with three times the weight.
fn mixed(scratch: &Scratch, weights: [Option<f64>; 2], epochs: [Option<f64>; 2]) -> Arc<Dataset> {
    let source = |index: usize, letter: &str, n: usize| {
        let path = scratch.write(&format!("{letter}.txt"), letter.repeat(n).as_bytes());
        Source { weight: weights[index], epochs: epochs[index], ..Source::new(path) }
    };
    let preparation = Preparation::new(vec![source(0, "a", 4000), source(1, "b", 20_000)]);
    let tokenizer = crate::characters("ab");
    Arc::new(run(scratch, &preparation, &tokenizer).unwrap().1)
}

fn batches(dataset: &Arc<Dataset>, options: BatchOptions) -> Batches {
    Batches::new(dataset.clone(), options).unwrap()
}

fn batch(batches: &Batches, step: u64) -> Batch {
    let mut batch = Batch::default();
    batches.fill(step, &mut batch).unwrap();
    batch
}

#[test]
fn a_batch_is_named_by_seed_and_step() {
    let scratch = Scratch::new();
    let dataset = dataset(&scratch);
    for order in ORDERS {
        for documents in [false, true] {
            let options = BatchOptions { order, documents, ..OPTIONS };
            let one = batches(&dataset, options);
            let steps: Vec<Batch> = (0..50).map(|step| batch(&one, step)).collect();
            // Another reader, opened again, in another order: what resuming asks for.
            let opened = Arc::new(Dataset::open_unread(dataset.folder()).unwrap());
            let other = batches(&opened, options);
            for step in (0..50).rev() {
                assert_eq!(batch(&other, step), steps[step as usize], "{order:?} {step}");
            }
            // Parts of a step are the step.
            let mut part = Batch::default();
            one.fill_rows(7 * 4 + 1, 2, &mut part).unwrap();
            assert_eq!(part.tokens, steps[7].tokens[33..99]);
            assert_eq!(part.starts, steps[7].starts[1..3]);
            let seeds = batches(&dataset, BatchOptions { seed: 2, ..options });
            assert_ne!(batch(&seeds, 0), steps[0]);
            assert_ne!(steps[0].tokens, steps[1].tokens);
            // Far on, and never a panic.
            batch(&one, u64::MAX / 8);
        }
    }
}

#[test]
fn an_epoch_has_every_window_once() {
    let scratch = Scratch::new();
    let dataset = dataset(&scratch);
    let all = ids(&dataset, Split::Train);
    let n_row = (all.len() as u64 - 1) / 32;
    let one = batches(&dataset, OPTIONS);
    for epoch in 0..2 {
        let mut rows = Batch::default();
        one.fill_rows(epoch * n_row, n_row as usize, &mut rows).unwrap();
        let mut windows: Vec<&[u32]> = rows.tokens.chunks_exact(33).collect();
        windows.sort_unstable();
        let found = (0..all.len() - n_row as usize * 32).find(|&offset| {
            let windows_of = all[offset..].windows(33).step_by(32).take(n_row as usize);
            let mut expected: Vec<&[u32]> = windows_of.collect();
            expected.sort_unstable();
            expected == windows
        });
        assert!(found.is_some(), "epoch {epoch}");
    }
    let epochs = one.epochs(2 * n_row);
    assert_eq!(epochs, [("the text".to_string(), 2.0)]);
    assert_eq!(one.row_limit(), None);
}

#[test]
fn random_windows_are_windows_of_the_text() {
    let scratch = Scratch::new();
    let dataset = dataset(&scratch);
    let all = ids(&dataset, Split::Train);
    let one = batches(&dataset, BatchOptions { order: Order::Random, ..OPTIONS });
    for step in 0..20 {
        for row in batch(&one, step).tokens.chunks_exact(33) {
            assert!(all.windows(33).any(|window| window == row));
        }
    }
}

#[test]
fn packed_rows_begin_with_documents() {
    let scratch = Scratch::new();
    let dataset = dataset(&scratch);
    let all = ids(&dataset, Split::Train);
    let starts = dataset.document_starts(Split::Train).unwrap();
    let options = BatchOptions { context: 300, order: Order::Packed, documents: true, ..OPTIONS };
    let one = batches(&dataset, options);
    let documents: Vec<&[u32]> = (0..starts.len())
        .map(|index| {
            let end = starts.get(index + 1).map_or(all.len(), |&end| end as usize);
            &all[starts[index] as usize..end]
        })
        .collect();
    let mut whole = BTreeMap::new();
    let n_row = (1.0 / one.epochs(1)[0].1).round() as u64;
    let mut rows = Batch::default();
    one.fill_rows(0, n_row as usize, &mut rows).unwrap();
    for (row, starts) in rows.tokens.chunks_exact(301).zip(&rows.starts) {
        assert_eq!(starts[0], 0);
        for (index, &start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).map_or(301, |&end| end as usize);
            let piece = &row[start as usize..end];
            let document = documents.iter().find(|document| document.starts_with(piece));
            assert!(document.is_some(), "each piece is the beginning of a document");
            if piece.ends_with(&[0]) {
                *whole.entry(piece).or_insert(0) += 1;
            }
        }
    }
    // Every document is there as a whole: none is longer than a row.
    assert!(documents.iter().all(|document| whole.contains_key(document)));
    let without = batches(&dataset, BatchOptions { documents: false, ..options });
    assert_eq!(batch(&without, 3).tokens, batch(&one, 3).tokens);
    assert!(batch(&without, 3).starts.iter().all(|starts| starts == &[0]));
}

#[test]
fn documents_in_windows_are_marked() {
    let scratch = Scratch::new();
    let dataset = dataset(&scratch);
    for order in [Order::Epochs, Order::Random] {
        let options = BatchOptions { context: 200, documents: true, order, ..OPTIONS };
        let one = batches(&dataset, options);
        let mut n_start = 0;
        for step in 0..20 {
            let batch = batch(&one, step);
            for (row, starts) in batch.tokens.chunks_exact(201).zip(&batch.starts) {
                let ends = (0..200).filter(|&at| row[at] == 0).map(|at| at as u32 + 1);
                let expected: Vec<u32> = [0].into_iter().chain(ends).collect();
                assert_eq!(starts, &expected);
                n_start += starts.len() - 1;
            }
        }
        assert!(n_start > 40, "{n_start}");
    }
}

#[test]
fn weights_are_kept_over_a_block_and_nearly_everywhere() {
    let scratch = Scratch::new();
    let dataset = mixed(&scratch, [Some(3.0), Some(1.0)], [Some(4.0), None]);
    for order in ORDERS {
        let one = batches(&dataset, BatchOptions { batch: 1024, order, ..OPTIONS });
        let count = |step: u64| {
            let batch = batch(&one, step);
            let rows = batch.tokens.chunks_exact(33);
            rows.filter(|row| row.contains(&0)).count()
        };
        let counts: Vec<usize> = (0..64).map(count).collect();
        assert_eq!(counts.iter().sum::<usize>(), 3 * 65_536 / 4, "{order:?}");
        // 768 of 1024, with a standard deviation of 14.
        assert!(counts.iter().all(|count| (690..850).contains(count)), "{counts:?}");
    }
    let one = batches(&dataset, OPTIONS);
    let n_row = [3600 - 1, 18_000 - 1].map(|tokens| (tokens / 32) as f64);
    let epochs = one.epochs(1000);
    assert!((epochs[0].1 - 750.0 / n_row[0]).abs() < 1e-9, "{epochs:?}");
    assert!((epochs[1].1 - 250.0 / n_row[1]).abs() < 1e-9, "{epochs:?}");
    let (limit, name) = one.row_limit().unwrap();
    assert_eq!(limit, (4.0 * n_row[0] / 0.75).round() as u64);
    assert!(name.ends_with("a.txt"), "{name}");
}

#[test]
fn each_source_goes_through_its_text_before_it_begins_again() {
    let scratch = Scratch::new();
    // Letters by place, so that windows are told apart.
    let text: String = (0..4000u32).map(|i| char::from_u32(0x4e00 + i).unwrap()).collect();
    let tokenizer = crate::characters(&(text.clone() + "ab"));
    let path = scratch.write("places.txt", text.as_bytes());
    let other = scratch.write("b.txt", "ab".repeat(5000).as_bytes());
    let weighted = |path, weight| Source { weight: Some(weight), ..Source::new(path) };
    let sources = vec![weighted(path, 0.01), weighted(other, 0.99)];
    let dataset = Arc::new(run(&scratch, &Preparation::new(sources), &tokenizer).unwrap().1);
    let one = batches(&dataset, BatchOptions { batch: 65_536, ..OPTIONS });
    let batch = batch(&one, 0);
    let n_row = (3600 - 1) / 32;
    // The order within a block is random, so windows are counted over whole epochs: 655 rows are
    // 5.8 of them, and no window may be drawn more than once more often than another.
    let mut counts = BTreeMap::new();
    for row in batch.tokens.chunks_exact(33).filter(|row| row[0] > 1) {
        *counts.entry((row[0] as usize + 16) / 32).or_insert(0) += 1;
    }
    let total: usize = counts.values().sum();
    assert_eq!(total, 655);
    assert!(counts.len() >= n_row && counts.values().all(|&count| count <= 7), "{counts:?}");
}

#[test]
fn unweighted_sources_are_one_text_and_epochs_are_factors() {
    let scratch = Scratch::new();
    let plain = mixed(&scratch, [None, None], [None, None]);
    assert_eq!(batches(&plain, OPTIONS).epochs(1).len(), 1);
    let twice = mixed(&scratch, [None, None], [Some(5.0), None]);
    let one = batches(&twice, OPTIONS);
    let epochs = one.epochs(100_000);
    // Five times as often as the other, within the slots' rounding and windows.
    assert!((epochs[0].1 / epochs[1].1 - 5.0).abs() < 0.05, "{epochs:?}");
    assert_eq!(one.row_limit(), None);
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let scratch = Scratch::new();
    let dataset = mixed(&scratch, [Some(1.0), Some(1.0)], [None, None]);
    let check = |options: BatchOptions, words: &str| {
        let error = Batches::new(dataset.clone(), options).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    check(BatchOptions { context: 0, ..OPTIONS }, "train.context");
    check(BatchOptions { batch: 0, ..OPTIONS }, "train.batch");
    check(BatchOptions { context: 3600, ..OPTIONS }, "a.txt, which has 3600 tokens: at most 3599");
    batches(&dataset, BatchOptions { context: 3599, ..OPTIONS });
    // Packed rows are filled, however little there is.
    let packed = BatchOptions { context: 30_000, order: Order::Packed, ..OPTIONS };
    assert_eq!(batch(&batches(&dataset, packed), 0).tokens.len(), 4 * 30_001);
}
