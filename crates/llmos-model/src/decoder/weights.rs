//! A layer's weights, from the model's files to packed matrices.

use llmos_tensor::{DType, Device, Matrix};

use crate::config::{Layer, Mlp, QkNorm};
use crate::{Config, Error, ModelFiles};

/// One block of the decoder. Norm weights and biases are f32.
pub(super) struct LayerWeights {
    /// (C)
    pub(super) attention_norm: Option<Vec<f32>>,
    /// (H * D, C)
    pub(super) q: Matrix,
    /// (H_kv * D, C)
    pub(super) k: Matrix,
    /// (H_kv * D, C)
    pub(super) v: Matrix,
    pub(super) qkv_bias: Option<[Vec<f32>; 3]>,
    /// Both (D) or as wide as all heads.
    pub(super) qk_norm: Option<[Vec<f32>; 2]>,
    /// (C, H * D)
    pub(super) output: Matrix,
    /// (C)
    pub(super) output_bias: Option<Vec<f32>>,
    /// (C)
    pub(super) attention_post_norm: Option<Vec<f32>>,
    /// (C)
    pub(super) mlp_norm: Option<Vec<f32>>,
    pub(super) mlp: MlpWeights,
    /// (C)
    pub(super) mlp_post_norm: Option<Vec<f32>>,
}

pub(super) enum MlpWeights {
    Dense { weights: Gated, bias: Option<[Vec<f32>; 3]> },
    Experts { router: Matrix, experts: Vec<Gated> },
}

/// `down(activation(gate(x)) * up(x))`.
pub(super) struct Gated {
    /// (F, C)
    pub(super) gate: Matrix,
    /// (F, C)
    pub(super) up: Matrix,
    /// (C, F)
    pub(super) down: Matrix,
}

impl Gated {
    pub(super) fn bytes(&self) -> usize {
        self.gate.bytes() + self.up.bytes() + self.down.bytes()
    }
}

/// Where weights come from: files, or a generator of random ones.
pub(super) trait Source {
    /// A packed matrix of this name.
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix, Error>;

    /// Rows of a stored matrix, one packed matrix for each of `parts`, which are all its rows.
    fn parts(&mut self, name: &str, parts: &[usize], cols: usize) -> Result<Vec<Matrix>, Error>;

    /// Stacked matrices (experts, rows, cols), each packed.
    fn stack(
        &mut self,
        name: &str,
        count: usize,
        rows: usize,
        cols: usize,
    ) -> Result<Vec<Matrix>, Error>;

    /// A vector as f32.
    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, Error>;

    /// True if there is a tensor of this name.
    fn has(&self, name: &str) -> bool;
}

/// Packs what opened files hold, giving the pages of each tensor back once it is packed.
pub(super) struct FileSource<'a> {
    files: &'a ModelFiles,
    device: &'a Device,
    /// Tells models apart; a damaged or exchanged file almost surely changes it.
    pub(super) fingerprint: crc32fast::Hasher,
}

impl<'a> FileSource<'a> {
    pub(super) fn new(files: &'a ModelFiles, device: &'a Device) -> FileSource<'a> {
        FileSource { files, device, fingerprint: crc32fast::Hasher::new() }
    }

    /// Checks the shape of a tensor and notes the tensor in the fingerprint.
    fn check(&mut self, name: &str, shape: &[usize]) -> Result<(), Error> {
        /// Enough of a tensor to tell it from another; all of it would read the whole file.
        const SAMPLE_ROWS: usize = 1;
        let Some(info) = self.files.info(name) else {
            let path = self.files.path().to_owned();
            return Err(Error::MissingTensor { path, name: name.to_owned() });
        };
        if info.shape != shape {
            let (expected, got) = (format!("shape {shape:?}"), format!("{:?}", info.shape));
            return Err(Error::format(self.files.path(), name, expected, got));
        }
        self.fingerprint.update(name.as_bytes());
        self.fingerprint.update(info.dtype.name().as_bytes());
        let sample = if shape.len() == 2 { self.files.rows(name, 0..SAMPLE_ROWS)? } else { None };
        if let Some(tensor) = sample {
            self.fingerprint.update(&tensor.bytes);
        }
        Ok(())
    }

    fn pack(&self, dtype: DType, rows: usize, cols: usize, bytes: &[u8]) -> Result<Matrix, Error> {
        Ok(Matrix::pack(self.device, dtype, rows, cols, bytes)?)
    }
}

impl Source for FileSource<'_> {
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix, Error> {
        let mut parts = self.parts(name, &[rows], cols)?;
        Ok(parts.remove(0))
    }

    fn parts(&mut self, name: &str, parts: &[usize], cols: usize) -> Result<Vec<Matrix>, Error> {
        self.check(name, &[parts.iter().sum(), cols])?;
        let mut matrices = Vec::with_capacity(parts.len());
        let mut row = 0;
        for &rows in parts {
            if let Some(tensor) = self.files.rows(name, row..row + rows)? {
                matrices.push(self.pack(tensor.dtype, rows, cols, &tensor.bytes)?);
            }
            row += rows;
        }
        self.files.release(name);
        Ok(matrices)
    }

    fn stack(
        &mut self,
        name: &str,
        count: usize,
        rows: usize,
        cols: usize,
    ) -> Result<Vec<Matrix>, Error> {
        self.check(name, &[count, rows, cols])?;
        let mut matrices = Vec::with_capacity(count);
        for index in 0..count {
            if let Some(tensor) = self.files.rows(name, index..index + 1)? {
                matrices.push(self.pack(tensor.dtype, rows, cols, &tensor.bytes)?);
            }
        }
        self.files.release(name);
        Ok(matrices)
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        self.check(name, &[len])?;
        match self.files.tensor(name)? {
            Some(tensor) => tensor.to_f32(),
            None => Ok(Vec::new()),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.files.info(name).is_some()
    }
}

impl LayerWeights {
    /// The weights of layer `index`, each shape checked against the config.
    pub(super) fn load(
        source: &mut impl Source,
        config: &Config,
        index: usize,
        layer: &Layer,
    ) -> Result<LayerWeights, Error> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let c = config.d_model;
        let (q_rows, kv_rows) = (layer.n_head * layer.head_dim, layer.n_kv_head * layer.head_dim);
        let norm = |source: &mut dyn Source, present: bool, part: &str| {
            present.then(|| source.vector(&name(part), c)).transpose()
        };
        let attention_norm = norm(source, layer.pre_norm, "attn_norm.weight")?;
        let [q, k, v] = if source.has(&name("attn_q.weight")) {
            [
                source.matrix(&name("attn_q.weight"), q_rows, c)?,
                source.matrix(&name("attn_k.weight"), kv_rows, c)?,
                source.matrix(&name("attn_v.weight"), kv_rows, c)?,
            ]
        } else {
            three(source.parts(&name("attn_qkv.weight"), &[q_rows, kv_rows, kv_rows], c)?)
        };
        let qkv_bias = if !layer.qkv_bias {
            None
        } else if source.has(&name("attn_q.bias")) {
            Some([
                source.vector(&name("attn_q.bias"), q_rows)?,
                source.vector(&name("attn_k.bias"), kv_rows)?,
                source.vector(&name("attn_v.bias"), kv_rows)?,
            ])
        } else {
            let mut q = source.vector(&name("attn_qkv.bias"), q_rows + 2 * kv_rows)?;
            let mut k = q.split_off(q_rows);
            let v = k.split_off(kv_rows);
            Some([q, k, v])
        };
        let qk_norm = match layer.qk_norm {
            QkNorm::None => None,
            QkNorm::PerHead => Some([layer.head_dim, layer.head_dim]),
            QkNorm::Full => Some([q_rows, kv_rows]),
        };
        let qk_norm = match qk_norm {
            None => None,
            Some([q, k]) => Some([
                source.vector(&name("attn_q_norm.weight"), q)?,
                source.vector(&name("attn_k_norm.weight"), k)?,
            ]),
        };
        let output = source.matrix(&name("attn_output.weight"), c, q_rows)?;
        let output_bias = norm(source, layer.output_bias, "attn_output.bias")?;
        Ok(LayerWeights {
            attention_norm,
            q,
            k,
            v,
            qkv_bias,
            qk_norm,
            output,
            output_bias,
            attention_post_norm: norm(source, layer.post_norm, "post_attention_norm.weight")?,
            mlp_norm: norm(source, layer.pre_norm, "ffn_norm.weight")?,
            mlp: MlpWeights::load(source, index, layer, c)?,
            mlp_post_norm: norm(source, layer.post_norm, "post_ffw_norm.weight")?,
        })
    }

    /// Bytes of the matrices that one token reads.
    pub(super) fn bytes_per_token(&self, n_expert_used: usize) -> usize {
        let attention = self.q.bytes() + self.k.bytes() + self.v.bytes() + self.output.bytes();
        attention
            + match &self.mlp {
                MlpWeights::Dense { weights, .. } => weights.bytes(),
                MlpWeights::Experts { router, experts } => {
                    router.bytes()
                        + experts.iter().take(n_expert_used).map(Gated::bytes).sum::<usize>()
                }
            }
    }
}

impl MlpWeights {
    fn load(
        source: &mut impl Source,
        index: usize,
        layer: &Layer,
        c: usize,
    ) -> Result<MlpWeights, Error> {
        let name = |part: &str| format!("blk.{index}.{part}");
        match layer.mlp {
            Mlp::Dense { d_ff, .. } => {
                let [gate, up] = if source.has(&name("ffn_gate.weight")) {
                    [
                        source.matrix(&name("ffn_gate.weight"), d_ff, c)?,
                        source.matrix(&name("ffn_up.weight"), d_ff, c)?,
                    ]
                } else {
                    two(source.parts(&name("ffn_up.weight"), &[d_ff, d_ff], c)?)
                };
                let down = source.matrix(&name("ffn_down.weight"), c, d_ff)?;
                let bias = if layer.mlp_bias {
                    Some([
                        source.vector(&name("ffn_gate.bias"), d_ff)?,
                        source.vector(&name("ffn_up.bias"), d_ff)?,
                        source.vector(&name("ffn_down.bias"), c)?,
                    ])
                } else {
                    None
                };
                Ok(MlpWeights::Dense { weights: Gated { gate, up, down }, bias })
            }
            Mlp::Experts { d_ff, n_expert, .. } => {
                let router = source.matrix(&name("ffn_gate_inp.weight"), n_expert, c)?;
                let gates = source.stack(&name("ffn_gate_exps.weight"), n_expert, d_ff, c)?;
                let ups = source.stack(&name("ffn_up_exps.weight"), n_expert, d_ff, c)?;
                let downs = source.stack(&name("ffn_down_exps.weight"), n_expert, c, d_ff)?;
                let experts = gates.into_iter().zip(ups).zip(downs);
                let experts = experts.map(|((gate, up), down)| Gated { gate, up, down }).collect();
                Ok(MlpWeights::Experts { router, experts })
            }
        }
    }
}

fn two(matrices: Vec<Matrix>) -> [Matrix; 2] {
    let Ok(two) = matrices.try_into() else { unreachable!("a source gives one matrix a part") };
    two
}

fn three(matrices: Vec<Matrix>) -> [Matrix; 3] {
    let Ok(three) = matrices.try_into() else { unreachable!("a source gives one matrix a part") };
    three
}
