//! From gradients to changed weights: Muon for the matrices inside the blocks with AdamW for the
//! rest, or AdamW alone.
//!
//! Muon (Keller Jordan, <https://kellerjordan.github.io/posts/muon/>) takes the momentum of a
//! matrix's gradients to the nearest orthogonal matrix, about, by five steps of a Newton–Schulz
//! iteration. AdamW's steps are PyTorch's.

use std::ops::Range;

use llmos_tensor::Device;
use llmos_tensor::gemm::{Precision, View, ViewMut, gemm};
use llmos_tensor::ops::train::{AdamW, adamw_step, muon_momentum, scale_in_place, sum_of_squares};

use crate::model::{Kind, Layout, Tensor};
use crate::recipe::{self, OptimizerName};

/// Coefficients of the iteration `x = a x + (b s + c s^2) x` with `s = x x^T`, chosen by Jordan to
/// rise fast near zero; singular values end between 0.7 and 1.2.
const NEWTON_SCHULZ: (f32, f32, f32) = (3.4445, -4.7750, 2.0315);

/// Steps of the iteration (Jordan's choice).
pub const NEWTON_SCHULZ_STEPS: usize = 5;

/// What an optimizer remembers between steps.
pub struct Optimizer {
    /// Tensors that Muon changes, the others in ranges that AdamW changes at once.
    muon: Vec<Tensor>,
    adam: Vec<AdamRange>,
    /// As long as the parameters: Muon's momentum, or AdamW's mean gradient.
    mean: Vec<f32>,
    /// AdamW's mean squares; as long as the parameters that are AdamW's.
    square: Vec<f32>,
    /// Steps done.
    steps: u64,
    work: Work,
}

/// Neighbouring tensors that are treated alike.
struct AdamRange {
    range: Range<usize>,
    /// Where the mean squares begin.
    square: usize,
    decays: bool,
}

/// Matrices of the iteration, of the largest tensor's size.
#[derive(Default)]
struct Work {
    x: Vec<f32>,
    next: Vec<f32>,
    square: Vec<f32>,
    polynomial: Vec<f32>,
}

/// A step's rates.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// AdamW's learning rate.
    pub adam: f64,
    /// Muon's.
    pub muon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// What gradients are multiplied with: clipping.
    pub gradient_scale: f32,
}

impl Optimizer {
    /// An optimizer that remembers nothing yet.
    pub fn new(name: OptimizerName, layout: &Layout) -> Optimizer {
        let is_muon = |tensor: &Tensor| {
            name == OptimizerName::Muon && matches!(tensor.kind, Kind::Matrix | Kind::Output)
        };
        let mut adam: Vec<AdamRange> = Vec::new();
        let mut squares = 0;
        for tensor in layout.tensors().iter().filter(|tensor| !is_muon(tensor)) {
            let (range, decays) = (tensor.range(), !tensor.kind.is_vector());
            match adam.last_mut() {
                Some(last) if last.range.end == range.start && last.decays == decays => {
                    last.range.end = range.end;
                }
                _ => adam.push(AdamRange { range: range.clone(), square: squares, decays }),
            }
            squares += range.len();
        }
        let muon: Vec<Tensor> =
            layout.tensors().iter().filter(|tensor| is_muon(tensor)).cloned().collect();
        let largest = muon.iter().map(|tensor| tensor.range().len()).max().unwrap_or(0);
        let side = muon.iter().map(|tensor| tensor.rows.min(tensor.cols)).max().unwrap_or(0);
        let work = Work {
            x: vec![0.0; largest],
            next: vec![0.0; largest],
            square: vec![0.0; side * side],
            polynomial: vec![0.0; side * side],
        };
        Optimizer {
            muon,
            adam,
            mean: vec![0.0; layout.len()],
            square: vec![0.0; squares],
            steps: 0,
            work,
        }
    }

    /// Changes `weights` by one step against `gradients`.
    pub fn step(
        &mut self,
        device: &Device,
        precision: Precision,
        options: &recipe::Optimizer,
        rates: Rates,
        weights: &mut [f32],
        gradients: &[f32],
    ) {
        self.steps += 1;
        for AdamRange { range, square, decays } in &self.adam {
            let options = AdamW {
                learning_rate: rates.adam,
                beta1: options.beta1,
                beta2: options.beta2,
                eps: options.eps,
                weight_decay: if *decays { rates.weight_decay } else { 0.0 },
                step: self.steps,
            };
            adamw_step(
                device,
                &mut weights[range.clone()],
                &gradients[range.clone()],
                &mut self.mean[range.clone()],
                &mut self.square[*square..][..range.len()],
                options,
                rates.gradient_scale,
            );
        }
        for tensor in &self.muon {
            let range = tensor.range();
            let x = &mut self.work.x[..range.len()];
            muon_momentum(
                device,
                &gradients[range.clone()],
                &mut self.mean[range.clone()],
                options.muon_momentum,
                true,
                rates.gradient_scale,
                x,
            );
            self.work.orthogonalise(device, precision, tensor.rows, tensor.cols);
            // A tall matrix's update is longer, so that its outputs change as much.
            let longer = (tensor.rows as f64 / tensor.cols as f64).max(1.0).sqrt();
            let (keep, rate) =
                ((1.0 - rates.muon * rates.weight_decay) as f32, (rates.muon * longer) as f32);
            for (weight, x) in weights[range.clone()].iter_mut().zip(&self.work.x) {
                *weight = *weight * keep - rate * x;
            }
        }
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What must be kept to go on: means and mean squares.
    pub fn state(&self) -> (&[f32], &[f32]) {
        (&self.mean, &self.square)
    }

    /// Numbers of means and of mean squares.
    pub fn state_len(&self) -> (usize, usize) {
        (self.mean.len(), self.square.len())
    }

    /// Goes on from what was kept after `steps` steps.
    ///
    /// # Panics
    /// If the lengths are not those of [`Optimizer::state_len`].
    pub fn restore(&mut self, steps: u64, mean: Vec<f32>, square: Vec<f32>) {
        assert_eq!((mean.len(), square.len()), self.state_len(), "the state of this optimizer");
        (self.steps, self.mean, self.square) = (steps, mean, square);
    }
}

impl Work {
    /// Takes `x` (rows, cols) near to the orthogonal matrix that is nearest to it.
    fn orthogonalise(&mut self, device: &Device, precision: Precision, rows: usize, cols: usize) {
        let (a, b, c) = NEWTON_SCHULZ;
        let len = rows * cols;
        let norm = sum_of_squares(device, &self.x[..len]).sqrt();
        scale_in_place(device, &mut self.x[..len], (1.0 / (norm + 1e-7)) as f32);
        let side = rows.min(cols);
        for _ in 0..NEWTON_SCHULZ_STEPS {
            let x = View::dense(&self.x[..len], rows, cols);
            // The smaller of the two products of x with its transpose.
            let (left, right) =
                if rows <= cols { (x, x.transposed()) } else { (x.transposed(), x) };
            let square = ViewMut::dense(&mut self.square, side, side);
            gemm(device, precision, left, right, square, false);
            let square = View::dense(&self.square, side, side);
            let polynomial = ViewMut::dense(&mut self.polynomial, side, side);
            gemm(device, precision, square, square, polynomial, false);
            for (p, s) in self.polynomial[..side * side].iter_mut().zip(&self.square) {
                *p = b * s + c * *p;
            }
            for d in 0..side {
                self.polynomial[d * side + d] += a;
            }
            let polynomial = View::dense(&self.polynomial, side, side);
            let next = ViewMut::dense(&mut self.next[..len], rows, cols);
            if rows <= cols {
                gemm(device, precision, polynomial, x, next, false);
            } else {
                gemm(device, precision, x, polynomial, next, false);
            }
            std::mem::swap(&mut self.x, &mut self.next);
        }
    }
}
