//! Models with random weights in the shapes of known ones: what a benchmark needs, without a file.

use half::f16;
use llmos_tensor::{DType, Device, Matrix, quant};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::model::{EMBEDDING, Embedding, Model};
use super::weights::Source;
use crate::config::{Layer, Pairing, Rope};
use crate::convert::FileType;
use crate::{Config, Error};

/// A known model's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// TinyLlama 1.1B.
    Llama1_1B,
    /// SmolLM 135M: 134 million parameters, the embedding counted once.
    Llama134M,
}

impl Preset {
    /// All presets.
    pub const ALL: [Preset; 2] = [Preset::Llama1_1B, Preset::Llama134M];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Llama1_1B => "llama-1.1b",
            Preset::Llama134M => "llama-134m",
        }
    }

    /// The preset of that name.
    pub fn from_name(name: &str) -> Option<Preset> {
        Preset::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// Its description.
    pub fn config(self) -> Config {
        match self {
            Preset::Llama1_1B => Shape {
                d_model: 2048,
                n_layer: 22,
                n_head: 32,
                n_kv_head: 4,
                d_ff: 5632,
                vocab_size: 32_000,
                tied_head: false,
            },
            Preset::Llama134M => Shape {
                d_model: 576,
                n_layer: 30,
                n_head: 9,
                n_kv_head: 3,
                d_ff: 1536,
                vocab_size: 49_152,
                tied_head: true,
            },
        }
        .config(self.name())
    }
}

/// What tells one Llama from another.
struct Shape {
    d_model: usize,
    n_layer: usize,
    n_head: usize,
    n_kv_head: usize,
    d_ff: usize,
    vocab_size: usize,
    tied_head: bool,
}

impl Shape {
    fn config(&self, name: &str) -> Config {
        let head_dim = self.d_model / self.n_head;
        let frequency = |i: usize| 10_000f32.powf(-2.0 * i as f32 / head_dim as f32);
        let layer = Layer::llama(self.n_head, self.n_kv_head, head_dim, self.d_ff);
        Config {
            architecture: "llama".into(),
            name: Some(name.into()),
            vocab_size: self.vocab_size,
            d_model: self.d_model,
            context_length: 8192,
            norm_eps: 1e-5,
            embedding_scale: 1.0,
            logit_softcap: None,
            tied_head: self.tied_head,
            ropes: vec![Rope {
                n_rot: head_dim,
                pairing: Pairing::Adjacent,
                inverse_frequencies: (0..head_dim / 2).map(frequency).collect(),
                long: None,
                magnitude: 1.0,
            }],
            layers: vec![layer; self.n_layer],
        }
    }
}

impl Model {
    /// A model with random weights of standard deviation 0.02, in the formats that a file of this
    /// type has. The same seed gives the same model.
    ///
    /// # Errors
    /// [`Error::Numbers`] if a row does not divide into blocks.
    pub fn random(
        config: Config,
        file_type: FileType,
        seed: u64,
        device: &Device,
    ) -> Result<Model, Error> {
        let generator = ChaCha8Rng::seed_from_u64(seed);
        let description = config.clone();
        let mut source = RandomSource { device, file_type, config: &description, generator };
        let (rows, cols) = (config.vocab_size, config.d_model);
        let (dtype, bytes) = source.bytes(EMBEDDING, rows, cols)?;
        let fingerprint = seed as u32;
        Model::from_source(&mut source, config, Embedding::Bytes { dtype, bytes }, fingerprint)
    }
}

struct RandomSource<'a> {
    device: &'a Device,
    file_type: FileType,
    config: &'a Config,
    generator: ChaCha8Rng,
}

/// Values that are drawn and encoded a matrix; the rest of it repeats pieces of them.
const DRAWN: usize = 64 << 10;

impl RandomSource<'_> {
    /// As a file of the type has it. Where a row does not divide into blocks of 256 this takes what
    /// llama.cpp takes, so that a benchmark beside it reads as many bytes.
    fn format(&self, name: &str, rows: usize, cols: usize) -> DType {
        let whole = cols.next_multiple_of(256);
        let wanted = self.file_type.dtype(name, &[rows, whole], self.config);
        let smaller = match wanted {
            DType::Q4_K => DType::Q5_0,
            DType::Q5_K => DType::Q5_1,
            DType::Q6_K => DType::Q8_0,
            other => other,
        };
        let fits = |dtype: &DType| cols.is_multiple_of(dtype.block_len());
        [wanted, smaller].into_iter().find(fits).unwrap_or(DType::F16)
    }

    /// A matrix in its format. Drawing and encoding each value would take minutes on a billion of
    /// them, so blocks of a small drawn part are laid out at random.
    fn bytes(&mut self, name: &str, rows: usize, cols: usize) -> Result<(DType, Vec<u8>), Error> {
        let dtype = self.format(name, rows, cols);
        let block = dtype.block_len();
        let row_bytes = dtype.row_bytes(cols).ok_or(llmos_tensor::Error::Row {
            operation: "random model",
            dtype,
            cols,
            block,
        })?;
        let drawn = self.drawn(dtype, (rows * cols).min(DRAWN).div_ceil(block))?;
        let total = rows * row_bytes;
        let mut bytes = Vec::with_capacity(total);
        let blocks = (drawn.len() / dtype.block_bytes()) as u64;
        while bytes.len() < total {
            let start = (self.generator.next_u64() % blocks) as usize * dtype.block_bytes();
            let end = drawn.len().min(start + total - bytes.len());
            bytes.extend_from_slice(&drawn[start..end]);
        }
        Ok((dtype, bytes))
    }

    /// Blocks of normally distributed values.
    fn drawn(&mut self, dtype: DType, blocks: usize) -> Result<Vec<u8>, Error> {
        let mut drawn = Vec::new();
        if matches!(dtype, DType::Q5_0 | DType::Q5_1) {
            // Formats that nothing encodes: random quants under a fixed scale, and with Q5_1 a
            // minimum that centres them.
            let (scale, minimum) = (f16::from_f32(0.002), f16::from_f32(-0.031));
            for _ in 0..blocks {
                let start = drawn.len();
                drawn.extend_from_slice(&scale.to_le_bytes());
                if dtype == DType::Q5_1 {
                    drawn.extend_from_slice(&minimum.to_le_bytes());
                }
                let end = start + dtype.block_bytes();
                while drawn.len() < end {
                    drawn.extend_from_slice(&self.generator.next_u32().to_le_bytes());
                }
            }
            return Ok(drawn);
        }
        let count = blocks * dtype.block_len();
        let values: Vec<f32> = (0..count).map(|_| 0.02 * normal(&mut self.generator)).collect();
        quant::quantize(dtype, &values, &mut drawn)?;
        Ok(drawn)
    }
}

/// Normally distributed (Box and Muller, 1958).
fn normal(generator: &mut ChaCha8Rng) -> f32 {
    let mut uniform = || (f64::from(generator.next_u32()) + 0.5) / 4_294_967_296.0;
    let (radius, angle) = (uniform(), uniform());
    ((-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
}

impl Source for RandomSource<'_> {
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix, Error> {
        let (dtype, bytes) = self.bytes(name, rows, cols)?;
        Ok(Matrix::pack(self.device, dtype, rows, cols, &bytes)?)
    }

    fn parts(&mut self, name: &str, parts: &[usize], cols: usize) -> Result<Vec<Matrix>, Error> {
        parts.iter().map(|&rows| self.matrix(name, rows, cols)).collect()
    }

    fn stack(
        &mut self,
        name: &str,
        count: usize,
        rows: usize,
        cols: usize,
    ) -> Result<Vec<Matrix>, Error> {
        (0..count).map(|_| self.matrix(name, rows, cols)).collect()
    }

    fn vector(&mut self, _name: &str, len: usize) -> Result<Vec<f32>, Error> {
        Ok((0..len).map(|_| 1.0 + 0.1 * normal(&mut self.generator)).collect())
    }

    fn has(&self, _name: &str) -> bool {
        true
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::Mlp;

    /// Small enough for tests of the engine, with more than one block of context.
    pub(crate) fn tiny() -> Config {
        let shape = Shape {
            d_model: 32,
            n_layer: 2,
            n_head: 4,
            n_kv_head: 2,
            d_ff: 80,
            vocab_size: 61,
            tied_head: false,
        };
        shape.config("tiny")
    }

    /// Wide enough that a batch of some hundred rows is shared among threads.
    pub(crate) fn wide() -> Config {
        let shape = Shape {
            d_model: 256,
            n_layer: 1,
            n_head: 8,
            n_kv_head: 4,
            d_ff: 272,
            vocab_size: 61,
            tied_head: true,
        };
        shape.config("wide")
    }

    #[test]
    fn presets_have_the_parameters_that_their_names_say() {
        let count = |preset: Preset| {
            let config = preset.config();
            let layer = |layer: &Layer| {
                let Mlp::Dense { d_ff, .. } = layer.mlp else { return 0 };
                let heads = 2 * layer.n_head + 2 * layer.n_kv_head;
                config.d_model * (heads * layer.head_dim + 3 * d_ff)
            };
            let tables = if config.tied_head { 1 } else { 2 };
            config.layers.iter().map(layer).sum::<usize>()
                + tables * config.vocab_size * config.d_model
        };
        assert_eq!(count(Preset::Llama1_1B) / 1_000_000, 1_099);
        assert_eq!(count(Preset::Llama134M) / 1_000_000, 134);
    }
}
