//! Rows of a table and the table's gradient.

use super::*;
use crate::ops::train::{embedding_backward, embedding_forward};

#[test]
fn forward_and_backward() {
    for (n, vocab_size, n_channel) in [(0, 3, 5), (1, 1, 1), (50, 9, 7), (700, 31, 200)] {
        let ids: Vec<u32> = noise(1, n, 1.0)
            .iter()
            // Squared, so that some ids are common and some never come.
            .map(|x| (x * x * 0.9 * vocab_size as f32) as u32)
            .collect();
        let (table, dout) = (noise(2, vocab_size * n_channel, 1.0), noise(3, n * n_channel, 1.0));
        let before = noise(4, table.len(), 1.0);
        let place = |token: usize, i: usize| ids[token] as usize * n_channel + i;
        // In the order of tokens, so that the sums are the same to the bit.
        let mut gradient = before.clone();
        let out: Vec<f32> =
            (0..n * n_channel).map(|at| table[place(at / n_channel, at % n_channel)]).collect();
        for (at, d) in dout.iter().enumerate() {
            gradient[place(at / n_channel, at % n_channel)] += d;
        }
        // out is linear in the table, so that this is the derivative of dot(out, dout).
        let loss = |table: &[f32]| -> f64 {
            (0..n * n_channel)
                .map(|at| f64::from(table[place(at / n_channel, at % n_channel)] * dout[at]))
                .sum()
        };
        let mut ahead = table.clone();
        ahead[0] += 1.0;
        let slope = f64::from(gradient[0]) - f64::from(before[0]);
        assert!((loss(&ahead) - loss(&table) - slope).abs() < 1e-4);
        on_every_device(
            |device| {
                let (mut rows, mut dtable) = (vec![f32::NAN; n * n_channel], before.clone());
                embedding_forward(device, &ids, &table, n_channel, &mut rows);
                embedding_backward(device, &ids, &dout, n_channel, &mut dtable);
                vec![rows, dtable]
            },
            |isa, got| {
                assert!(got[0] == out, "{isa} ({n}, {n_channel}): out");
                assert!(got[1] == gradient, "{isa} ({n}, {n_channel}): gradient");
            },
        );
    }
}

#[test]
#[should_panic(expected = "id Some(3) of 3 rows")]
fn an_id_beyond_the_table_is_refused() {
    let device = Device::new(Isa::SCALAR, 1);
    embedding_forward(&device, &[1, 3], &[0.0; 6], 2, &mut [0.0; 4]);
}
