//! The type of a whole file, and which format each of its tensors gets.
//!
//! Source: llama.cpp's `llama-quant.cpp`; a `_k_m` type is a mixture that spends more bits where
//! errors hurt most.

use llmos_tensor::DType;

use crate::Config;
use crate::config::Mlp;

/// The type of a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub enum FileType {
    /// All in single precision.
    F32,
    /// Matrices in half precision.
    F16,
    /// Matrices in bfloat16.
    BF16,
    /// 8.5 bits a weight.
    Q8_0,
    /// 4.5 bits a weight.
    Q4_0,
    /// 4.5 bits a weight, 6.6 where it matters most.
    Q4_K_M,
    /// 5.5 bits a weight, 6.6 where it matters most.
    Q5_K_M,
    /// 6.6 bits a weight.
    Q6_K,
}

impl FileType {
    /// Every type, from the most exact.
    pub const ALL: [FileType; 8] = [
        FileType::F32,
        FileType::F16,
        FileType::BF16,
        FileType::Q8_0,
        FileType::Q6_K,
        FileType::Q5_K_M,
        FileType::Q4_K_M,
        FileType::Q4_0,
    ];

    /// The name on the command line: `q4_k_m`.
    pub const fn name(self) -> &'static str {
        match self {
            FileType::F32 => "f32",
            FileType::F16 => "f16",
            FileType::BF16 => "bf16",
            FileType::Q8_0 => "q8_0",
            FileType::Q4_0 => "q4_0",
            FileType::Q4_K_M => "q4_k_m",
            FileType::Q5_K_M => "q5_k_m",
            FileType::Q6_K => "q6_k",
        }
    }

    /// The type of that name, in any case.
    pub fn from_name(name: &str) -> Option<FileType> {
        FileType::ALL.into_iter().find(|file_type| file_type.name().eq_ignore_ascii_case(name))
    }

    /// GGUF's `general.file_type` (`enum llama_ftype`).
    pub(super) const fn number(self) -> u32 {
        match self {
            FileType::F32 => 0,
            FileType::F16 => 1,
            FileType::Q4_0 => 2,
            FileType::Q8_0 => 7,
            FileType::Q4_K_M => 15,
            FileType::Q5_K_M => 17,
            FileType::Q6_K => 18,
            FileType::BF16 => 32,
        }
    }

    /// The format of most matrices.
    pub(super) const fn base(self) -> DType {
        match self {
            FileType::F32 => DType::F32,
            FileType::F16 => DType::F16,
            FileType::BF16 => DType::BF16,
            FileType::Q8_0 => DType::Q8_0,
            FileType::Q4_0 => DType::Q4_0,
            FileType::Q4_K_M => DType::Q4_K,
            FileType::Q5_K_M => DType::Q5_K,
            FileType::Q6_K => DType::Q6_K,
        }
    }

    /// The format of a GGUF tensor.
    pub(crate) fn dtype(self, name: &str, shape: &[usize], config: &Config) -> DType {
        // Vectors, norms and routers are small, and everything passes through them.
        let exact = shape.len() < 2
            || !name.ends_with("weight")
            || name.contains("_norm.weight")
            || name.contains("ffn_gate_inp.weight");
        if exact {
            return DType::F32;
        }
        let cols = shape.last().copied().unwrap_or(0);
        if !self.base().is_quantised() {
            return self.base();
        }
        fitting(self.mixed(name, cols, config), cols)
    }

    fn mixed(self, name: &str, cols: usize, config: &Config) -> DType {
        let base = self.base();
        let mixture = matches!(self, FileType::Q4_K_M | FileType::Q5_K_M);
        let n_layer = config.layers.len();
        let n_expert = config.layers.iter().map(|layer| match layer.mlp {
            Mlp::Experts { n_expert, .. } => n_expert,
            Mlp::Dense { .. } => 0,
        });
        let eight_experts = n_expert.max() == Some(8);
        let (layer, part) = layer_and_part(name);
        match part {
            // The head, or the embedding that serves as one.
            "output.weight" | "token_embd.weight"
                if part == "output.weight" || config.tied_head =>
            {
                match base {
                    DType::Q8_0 => DType::Q8_0,
                    _ if !cols.is_multiple_of(base.block_len()) => DType::Q8_0,
                    _ => DType::Q6_K,
                }
            }
            // With eight experts attention is a small part of the model: llama.cpp's rule.
            "attn_v.weight" | "attn_k.weight" if eight_experts => DType::Q8_0,
            "attn_output.weight" if eight_experts && self == FileType::Q4_K_M => DType::Q5_K,
            "attn_v.weight" | "attn_qkv.weight" => {
                let first = config.layers.first();
                // In the 70B shape one value head serves eight query heads.
                let shared = config.architecture == "llama"
                    && n_layer == 80
                    && first.is_some_and(|layer| layer.n_head != layer.n_kv_head);
                match base {
                    _ if mixture && use_more_bits(layer, n_layer) => DType::Q6_K,
                    DType::Q4_K if shared => DType::Q5_K,
                    _ => base,
                }
            }
            "ffn_down.weight" | "ffn_down_exps.weight"
                if mixture && use_more_bits(layer, n_layer) =>
            {
                DType::Q6_K
            }
            _ => base,
        }
    }
}

/// The first and last eighth of the layers, and every third between.
fn use_more_bits(layer: usize, n_layer: usize) -> bool {
    let eighth = n_layer / 8;
    layer < eighth || layer >= 7 * n_layer / 8 || (layer - eighth) % 3 == 2
}

/// `blk.3.attn_v.weight` is part `attn_v.weight` of layer 3.
fn layer_and_part(name: &str) -> (usize, &str) {
    let layered = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    match layered.and_then(|(layer, part)| Some((layer.parse().ok()?, part))) {
        Some((layer, part)) => (layer, part),
        None => (0, name),
    }
}

/// The format itself where rows divide into its blocks, else one with smaller blocks and at least
/// as many bits. llama.cpp takes Q5_0 and Q5_1 for Q4_K and Q5_K; those are read here but not
/// written, so Q8_0 stands in for them too.
fn fitting(dtype: DType, cols: usize) -> DType {
    if cols.is_multiple_of(dtype.block_len()) {
        dtype
    } else if dtype.block_len() == 256 && cols.is_multiple_of(DType::Q8_0.block_len()) {
        DType::Q8_0
    } else {
        DType::F16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Activation;
    use crate::decoder::Preset;
    use serde_json::Value as Json;

    /// A config with what the rules look at.
    fn config(model: &Json) -> Config {
        let count = |key: &str| model[key].as_u64().unwrap() as usize;
        let activation = Activation::Silu;
        let mlp = match count("n_expert") {
            0 => Mlp::Dense { d_ff: count("d_ff"), activation },
            n_expert => Mlp::Experts {
                d_ff: count("d_ff"),
                activation,
                n_expert,
                n_expert_used: 2,
                norm_topk: true,
            },
        };
        let mut config = Preset::Llama134M.config();
        let mut layer = config.layers.remove(0);
        (layer.n_head, layer.n_kv_head) = (count("n_head"), count("n_kv_head"));
        layer.head_dim = count("d_model") / layer.n_head;
        layer.mlp = mlp;
        config.architecture = model["architecture"].as_str().unwrap().to_owned();
        config.d_model = count("d_model");
        config.tied_head = model["tied"].as_bool().unwrap();
        config.layers = vec![layer; count("n_layer")];
        config
    }

    #[test]
    fn mixtures_are_those_of_llama_cpp() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/mixtures/types.json");
        let golden: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut compared = 0;
        for (model_name, model) in golden["models"].as_object().unwrap() {
            let config = config(model);
            for (name, tensor) in model["tensors"].as_object().unwrap() {
                let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone()).unwrap();
                for file_type in FileType::ALL {
                    let Some(theirs) = tensor[file_type.name()].as_str() else { continue };
                    let expected = match theirs {
                        // Read but not written here.
                        "q5_0" | "q5_1" => DType::Q8_0,
                        other => DType::from_name(other).unwrap(),
                    };
                    let got = file_type.dtype(name, &shape, &config);
                    assert_eq!(got, expected, "{model_name} {name} as {}", file_type.name());
                    compared += 1;
                }
            }
        }
        assert!(compared > 5000, "{compared}");
    }
}
