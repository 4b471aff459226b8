//! A model in memory: its description and its packed weights.

use llmos_tensor::{DType, Device, Matrix, quant};

use super::weights::{FileSource, LayerWeights, Source};
use crate::config::Mlp;
use crate::{Config, Error, ModelFiles, SCORE_HEAD};

/// An immutable decoder, shared among engines.
pub struct Model {
    pub(super) config: Config,
    pub(super) layers: Vec<LayerWeights>,
    /// (C)
    pub(super) output_norm: Vec<f32>,
    /// (V, C)
    pub(super) head: Matrix,
    embedding: Embedding,
    fingerprint: u32,
}

/// Where rows of the embedding (V, C) are read: never packed, a token needs one row.
pub(super) enum Embedding {
    /// In the mapped files.
    Files(Box<ModelFiles>),
    /// In memory.
    Bytes { dtype: DType, bytes: Vec<u8> },
}

pub(super) const EMBEDDING: &str = "token_embd.weight";

impl Model {
    /// Packs the weights of opened files for `device`, tensor by tensor.
    ///
    /// # Errors
    /// [`Error::NoModel`] if the files describe no decoder; [`Error::MissingTensor`] and
    /// [`Error::Format`] for tensors that do not fit the description; [`Error::Unsupported`] for a
    /// reward model, which predicts no tokens.
    pub fn load(files: ModelFiles, device: &Device) -> Result<Model, Error> {
        let config = files.config()?.clone();
        if files.info(SCORE_HEAD).is_some() {
            let supported = "models that predict tokens; this one scores texts";
            return Err(Error::unsupported(files.path(), "a reward model".to_owned(), supported));
        }
        let mut source = FileSource::new(&files, device);
        let (layers, output_norm, head) = load(&mut source, &config)?;
        let shape = [config.vocab_size, config.d_model];
        if files.info(EMBEDDING).is_none_or(|info| info.shape != shape) {
            let got = files.info(EMBEDDING).map_or("none".to_owned(), |i| format!("{:?}", i.shape));
            return Err(Error::format(files.path(), EMBEDDING, format!("shape {shape:?}"), got));
        }
        let mut fingerprint = source.fingerprint;
        fingerprint.update(format!("{config:?}").as_bytes());
        let fingerprint = fingerprint.finalize();
        let embedding = Embedding::Files(Box::new(files));
        Ok(Model { config, layers, output_norm, head, embedding, fingerprint })
    }

    /// A model of parts that were made, not read.
    pub(super) fn from_source(
        source: &mut impl Source,
        config: Config,
        embedding: Embedding,
        fingerprint: u32,
    ) -> Result<Model, Error> {
        let (layers, output_norm, head) = load(source, &config)?;
        Ok(Model { config, layers, output_norm, head, embedding, fingerprint })
    }

    /// The description.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The opened files; none for a random model.
    pub fn files(&self) -> Option<&ModelFiles> {
        match &self.embedding {
            Embedding::Files(files) => Some(files),
            Embedding::Bytes { .. } => None,
        }
    }

    /// A number that other models almost surely do not have: a check value of the description and
    /// of parts of the weights, not a digest against forgery.
    pub fn fingerprint(&self) -> u32 {
        self.fingerprint
    }

    /// Bytes of packed weights that decoding one token reads.
    pub fn bytes_per_token(&self) -> usize {
        let layers = self.layers.iter().zip(&self.config.layers);
        let layers = layers.map(|(weights, layer)| {
            weights.bytes_per_token(match layer.mlp {
                Mlp::Dense { .. } => 0,
                Mlp::Experts { n_expert_used, .. } => n_expert_used,
            })
        });
        layers.sum::<usize>() + self.head.bytes()
    }

    /// Writes the embedding of `token` to `out` (C).
    pub(super) fn embed(&self, token: u32, out: &mut [f32]) -> Result<(), Error> {
        let token = token as usize;
        match &self.embedding {
            Embedding::Files(files) => {
                if let Some(row) = files.rows(EMBEDDING, token..token + 1)? {
                    quant::dequantize(row.dtype, &row.bytes, out)?;
                }
            }
            Embedding::Bytes { dtype, bytes } => {
                let row = bytes.len() / self.config.vocab_size;
                quant::dequantize(*dtype, &bytes[token * row..][..row], out)?;
            }
        }
        Ok(())
    }
}

fn load(
    source: &mut impl Source,
    config: &Config,
) -> Result<(Vec<LayerWeights>, Vec<f32>, Matrix), Error> {
    let mut layers = Vec::with_capacity(config.layers.len());
    for (index, layer) in config.layers.iter().enumerate() {
        layers.push(LayerWeights::load(source, config, index, layer)?);
    }
    let output_norm = source.vector("output_norm.weight", config.d_model)?;
    let head = if config.tied_head { EMBEDDING } else { "output.weight" };
    let head = source.matrix(head, config.vocab_size, config.d_model)?;
    Ok((layers, output_norm, head))
}
