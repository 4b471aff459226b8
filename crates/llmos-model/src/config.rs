//! What a decoder is: one description that every architecture is written in.
//!
//! An architecture is a function from a file's metadata to a [`Config`]
//! (`architecture/`), never a copy of the forward pass.

use serde::Serialize;

/// A decoder: token ids in, logits out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// The family's name, as GGUF spells it: `llama`, `qwen3`, `gemma3`.
    pub architecture: String,
    /// The model's own name, where its file gives one.
    pub name: Option<String>,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream (C).
    pub d_model: usize,
    /// The longest context that the model was made for.
    pub context_length: usize,
    /// Added to the mean square in every norm.
    pub norm_eps: f32,
    /// The embedding is multiplied by this (Gemma: sqrt of `d_model`; others 1).
    pub embedding_scale: f32,
    /// Logits become `cap * tanh(logits / cap)` (Gemma 2).
    pub logit_softcap: Option<f32>,
    /// The head is the embedding.
    pub tied_head: bool,
    /// The distinct rotary encodings that layers refer to.
    pub ropes: Vec<Rope>,
    /// One description a layer, in order.
    pub layers: Vec<Layer>,
}

/// One block of the decoder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    /// Query heads (H).
    pub n_head: usize,
    /// Key and value heads; each serves `n_head / n_kv_head` query heads.
    pub n_kv_head: usize,
    /// Size of a head (D), of queries, keys and values alike.
    pub head_dim: usize,
    /// Scores are multiplied by this before softmax.
    pub attention_scale: f32,
    /// Scores become `cap * tanh(scores / cap)` (Gemma 2).
    pub attention_softcap: Option<f32>,
    /// A query sees itself and the `window - 1` positions before it.
    pub window: Option<usize>,
    /// Index into [`Config::ropes`]; none is a layer without position (SmolLM3).
    pub rope: Option<usize>,
    /// Norms of queries and keys before rotation.
    pub qk_norm: QkNorm,
    /// Query, key and value projections have biases (Qwen 2).
    pub qkv_bias: bool,
    /// The output projection has a bias.
    pub output_bias: bool,
    /// The MLP's three projections have biases (Llama with `mlp_bias`); never those of experts.
    pub mlp_bias: bool,
    /// The residual branch is normed on its way in (all but OLMo 2).
    pub pre_norm: bool,
    /// The residual branch is normed on its way out (OLMo 2, Gemma 2 and 3).
    pub post_norm: bool,
    /// What follows attention.
    pub mlp: Mlp,
}

impl Layer {
    /// A block of the first Llama (arXiv:2302.13971), with grouped heads.
    pub fn llama(n_head: usize, n_kv_head: usize, head_dim: usize, d_ff: usize) -> Layer {
        Layer {
            n_head,
            n_kv_head,
            head_dim,
            attention_scale: (head_dim as f32).powf(-0.5),
            attention_softcap: None,
            window: None,
            rope: Some(0),
            qk_norm: QkNorm::None,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            pre_norm: true,
            post_norm: false,
            mlp: Mlp::Dense { d_ff, activation: Activation::Silu },
        }
    }
}

/// Norms of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// None.
    None,
    /// Over each head of size D (Qwen 3, Gemma 3).
    PerHead,
    /// Over all heads at once, (H * D) wide (OLMo 2).
    Full,
}

/// The feed-forward half of a block.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mlp {
    /// `down(activation(gate(x)) * up(x))`.
    Dense {
        /// Inner width.
        d_ff: usize,
        /// Applied to the gate.
        activation: Activation,
    },
    /// A router sends each token to `n_expert_used` of `n_expert` gated MLPs.
    Experts {
        /// Inner width of one expert.
        d_ff: usize,
        /// Applied to the gate.
        activation: Activation,
        /// Experts in all.
        n_expert: usize,
        /// Experts a token visits.
        n_expert_used: usize,
        /// The weights of the chosen experts are divided by their sum.
        norm_topk: bool,
    },
}

/// Applied to the gate of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(x)` (SwiGLU).
    Silu,
    /// GELU by its tanh approximation (GeGLU).
    GeluTanh,
    /// GELU by the error function.
    Gelu,
    /// `max(x, 0)^2`.
    Relu2,
}

/// A rotary position encoding (arXiv 2104.09864), its scaling already folded in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rope {
    /// Dimensions that are rotated, at most D; the rest pass through.
    pub n_rot: usize,
    /// Which dimensions form a pair.
    pub pairing: Pairing,
    /// Angle a position for each pair, `n_rot / 2` of them.
    pub inverse_frequencies: Vec<f32>,
    /// Angles for contexts longer than the original one, where they differ (Phi-3 longrope).
    pub long: Option<LongRope>,
    /// Cosines and sines are multiplied by this (YaRN, longrope).
    pub magnitude: f32,
}

/// The second set of angles of longrope, used once a context exceeds `original_context`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LongRope {
    /// The context length that the first set was trained for.
    pub original_context: usize,
    /// Angle a position for each pair.
    pub inverse_frequencies: Vec<f32>,
}

/// Which two dimensions of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// `(2i, 2i + 1)`: GGUF's `llama`, llama2.c.
    Adjacent,
    /// `(i, i + n_rot / 2)`: Hugging Face files, GGUF's `qwen`, `gemma`, `phi3`, `olmo2`.
    Halves,
}
