//! Names of tensors: Hugging Face's and GGUF's.

use crate::architecture::Architecture;

/// What a Hugging Face tensor is in GGUF's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A tensor of its own.
    Whole(String),
    /// One expert's matrix, to be stacked under this name.
    Expert(String, usize),
    /// Gates and ups of all experts, (expert, 2 * d_ff, d_model), to be split into these two.
    GateUpExperts(String, String),
    /// Not needed to run the text model.
    Unused,
}

impl Meaning {
    /// The name of a tensor of its own.
    pub(crate) fn whole(self) -> Option<String> {
        match self {
            Meaning::Whole(name) => Some(name),
            _ => None,
        }
    }
}

/// Parts of a layer that are spelt alike in every architecture: (Hugging Face, GGUF).
const LAYER: [(&str, &str); 17] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate", "ffn_gate_inp"),
    ("block_sparse_moe.gate", "ffn_gate_inp"),
    ("mlp.experts.down_proj", "ffn_down_exps"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

/// One expert's matrices: (Hugging Face, GGUF).
const EXPERT: [(&str, &str); 6] = [
    ("gate_proj", "ffn_gate_exps"),
    ("up_proj", "ffn_up_exps"),
    ("down_proj", "ffn_down_exps"),
    ("w1", "ffn_gate_exps"),
    ("w3", "ffn_up_exps"),
    ("w2", "ffn_down_exps"),
];

/// The head of a reward model, (1, C), as llama.cpp names it: it scores a text, and predicts no token.
pub const SCORE_HEAD: &str = "cls.output.weight";

/// The meaning of a Hugging Face name; none if it is unknown, which a reader must not pass over.
pub(crate) fn from_hugging_face(architecture: Architecture, name: &str) -> Option<Meaning> {
    // Gemma 3 with eyes keeps its text model one level further in, in two spellings.
    let unused = ["vision_tower.", "multi_modal_projector.", "model.vision_tower."];
    if unused.iter().any(|prefix| name.starts_with(prefix))
        || name.starts_with("model.multi_modal_projector.")
        || name.ends_with("rotary_emb.inv_freq")
    {
        return Some(Meaning::Unused);
    }
    let name = name.strip_prefix("language_model.").unwrap_or(name);
    let whole = |name: &str| Some(Meaning::Whole(name.to_owned()));
    if name == "lm_head.weight" {
        return whole("output.weight");
    }
    if name == "lm_head.bias" {
        return whole("output.bias");
    }
    // The head of a sequence classifier, such as a reward model.
    if name == "score.weight" {
        return whole(SCORE_HEAD);
    }
    let name = name.strip_prefix("model.").unwrap_or(name);
    let name = name.strip_prefix("language_model.").unwrap_or(name);
    match name {
        "embed_tokens.weight" => return whole("token_embd.weight"),
        "norm.weight" => return whole("output_norm.weight"),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("layers.")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let named = |part: &str| format!("blk.{layer}.{part}");

    if part == "mlp.experts.gate_up_proj" {
        let (gate, up) = (named("ffn_gate_exps.weight"), named("ffn_up_exps.weight"));
        return Some(Meaning::GateUpExperts(gate, up));
    }
    if part == "mlp.experts.down_proj" {
        return Some(Meaning::Whole(named("ffn_down_exps.weight")));
    }
    let experts =
        part.strip_prefix("mlp.experts.").or(part.strip_prefix("block_sparse_moe.experts."));
    if let Some((expert, matrix)) = experts.and_then(|rest| rest.split_once('.')) {
        let matrix = matrix.strip_suffix(".weight")?;
        let (_, ours) = EXPERT.iter().find(|(theirs, _)| *theirs == matrix)?;
        return Some(Meaning::Expert(named(&format!("{ours}.weight")), expert.parse().ok()?));
    }
    let (part, kind) = part.rsplit_once('.')?;
    if !matches!(kind, "weight" | "bias") {
        return None;
    }
    let ours = if part == "post_attention_layernorm" {
        // Where the residual branch is normed on its way out, this norm belongs to attention.
        if architecture.post_norm() { "post_attention_norm" } else { "ffn_norm" }
    } else {
        LAYER.iter().find(|(theirs, _)| *theirs == part)?.1
    };
    Some(Meaning::Whole(named(&format!("{ours}.{kind}"))))
}

/// The Hugging Face name of one of GGUF's; an expert's number stands as `{expert}`.
pub(crate) fn to_hugging_face(
    architecture: Architecture,
    mixtral: bool,
    name: &str,
) -> Option<String> {
    match name {
        "token_embd.weight" => return Some("model.embed_tokens.weight".to_owned()),
        "output_norm.weight" => return Some("model.norm.weight".to_owned()),
        "output.weight" => return Some("lm_head.weight".to_owned()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    let theirs = match part {
        "ffn_norm" if !architecture.post_norm() => "post_attention_layernorm",
        "post_attention_norm" => "post_attention_layernorm",
        "ffn_up" if architecture.fused() => "mlp.gate_up_proj",
        "ffn_gate_inp" if mixtral => "block_sparse_moe.gate",
        "ffn_gate_exps" | "ffn_up_exps" | "ffn_down_exps" => {
            let of_part = |theirs: &&(&str, &str)| theirs.1 == part;
            // Mixtral's three names follow the others'.
            let found = EXPERT.iter().filter(of_part).nth(usize::from(mixtral))?.0;
            let experts = if mixtral { "block_sparse_moe" } else { "mlp" };
            return Some(format!(
                "model.layers.{layer}.{experts}.experts.{{expert}}.{found}.{kind}"
            ));
        }
        _ => LAYER.iter().find(|(_, ours)| *ours == part)?.0,
    };
    Some(format!("model.layers.{layer}.{theirs}.{kind}"))
}
