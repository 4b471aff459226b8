//! Lengths of the rows of adapted matrices, for DoRA: their squares are `|W|^2 + 2 s W (B A)^T + s^2 (B
//! A)^2`, row by row, without ever making the sum of both matrices.

use llmos_tensor::gemm::{Precision, View, ViewMut, gemm};

use super::Network;
use super::adapter::Adapter;
use super::weights::Model;

impl Network {
    /// (rows of all adapted matrices): the squared lengths of the frozen matrices' rows.
    pub(super) fn frozen_squares(&self, model: Model<'_>, adapter: &Adapter) -> Vec<f32> {
        let mut squares = vec![0.0; adapter.n_row];
        for part in adapter.parts() {
            let n_in = part.a.len() / adapter.rank;
            let to = &mut squares[part.lengths.clone()];
            let square =
                |row: &[f32]| row.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>() as f32;
            match model {
                Model::Whole(weights) => {
                    let rows = weights[part.matrix.clone()].chunks_exact(n_in);
                    to.iter_mut().zip(rows).for_each(|(to, row)| *to = square(row));
                }
                Model::Stored(stored) => stored.tiles(&self.device, &part.matrix, |rows, w| {
                    let rows = to[rows].iter_mut().zip(w.chunks_exact(n_in));
                    rows.for_each(|(to, row)| *to = square(row));
                }),
            }
        }
        squares
    }

    /// Writes the lengths (rows of all adapted matrices) of the rows of `W + scale * B A`.
    pub(super) fn row_lengths(
        &self,
        model: Model<'_>,
        (adapter, values): (&Adapter, &[f32]),
        squares: &[f32],
        lengths: &mut [f32],
    ) {
        let (rank, scale) = (adapter.rank, f64::from(adapter.scale));
        for part in adapter.parts() {
            let (count, n_in) = (part.columns.len(), part.a.len() / rank);
            let (a, b) = (&values[part.a.clone()], &values[part.b.clone()]);
            // (rank, out): A W^T.
            let mut across = vec![0.0; rank * count];
            self.linear(a, model, &part.matrix, n_in, &mut across, false);
            let a = View::dense(a, rank, n_in);
            let (mut gram, mut turned) = (vec![0.0; rank * rank], vec![0.0; count * rank]);
            let to = ViewMut::dense(&mut gram, rank, rank);
            gemm(&self.device, Precision::F32, a, a.transposed(), to, false);
            // (out, rank): B A A^T.
            let to = ViewMut::dense(&mut turned, count, rank);
            let of_b = View::dense(b, count, rank);
            gemm(&self.device, Precision::F32, of_b, View::dense(&gram, rank, rank), to, false);
            let rows = b.chunks_exact(rank).zip(turned.chunks_exact(rank)).enumerate();
            for (o, (b, turned)) in rows {
                let sum: f64 = (0..rank)
                    .map(|r| {
                        let mixed = 2.0 * f64::from(across[r * count + o]);
                        f64::from(b[r]) * (mixed + scale * f64::from(turned[r]))
                    })
                    .sum();
                let square = f64::from(squares[part.lengths.start + o]) + scale * sum;
                // A row of nothing has no direction to be brought to a length.
                let length = square.max(f64::from(f32::MIN_POSITIVE)).sqrt();
                lengths[part.lengths.start + o] = length as f32;
            }
        }
    }
}
