"""The tiny models: what each sets beyond the shared shape, and which settings its golden file must tell apart."""

# Dimensions shared by all, unless a model says otherwise. Rows are multiples of 32, so that each tensor can also be
# quantised to Q8_0 and Q4_0.
SHAPE = dict(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    rms_norm_eps=1e-3,  # a hundred times the usual, so that a wrong one shows
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)

WITH_TEXT = ("llama", "qwen3")  # the models that have a tokenizer


def rope(rope_type="default", theta=10000.0, **rest):
    return dict(rope_type=rope_type, rope_theta=theta, **rest)


# folder name -> (model_type, what differs from SHAPE)
MODELS = {
    "llama": ("llama", dict(vocab_size=352, rope_parameters=rope())),
    # Head size 16 and an original context of 16: one frequency is kept, some are blended, the rest divided by 8.
    "llama3": (
        "llama",
        dict(
            num_attention_heads=2,
            num_key_value_heads=1,
            
            rope_parameters=rope(
                "llama3",
                500000.0,
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=16,
            ),
        ),
    ),
    "llama-linear": ("llama", dict(rope_parameters=rope("linear", factor=4.0))),
    "llama-bias": (
        "llama",
        dict(attention_bias=True, mlp_bias=True, head_dim=16, rope_parameters=rope()),
    ),
    "mistral": ("mistral", dict(sliding_window=8, rope_parameters=rope())),
    "qwen2": ("qwen2", dict(tie_word_embeddings=True, rope_parameters=rope(theta=1e6))),
    "qwen3": (
        "qwen3",
        dict(
            vocab_size=320,
            head_dim=16,
            tie_word_embeddings=True,
            bos_token_id=313,
            eos_token_id=315,
            pad_token_id=313,
            rope_parameters=rope(theta=1e6),
        ),
    ),
    "gemma2": (
        "gemma2",
        dict(
            num_hidden_layers=3,
            head_dim=16,
            query_pre_attn_scalar=24,
            attn_logit_softcapping=4.0,
            final_logit_softcapping=6.0,
            sliding_window=8,
            bos_token_id=2,
            eos_token_id=1,
            rope_parameters=rope(),
        ),
    ),
    # Real Gemma 3 has five local layers before each global one; here two, so that four layers show the pattern.
    "gemma3": (
        "gemma3_text",
        dict(
            num_hidden_layers=4,
            intermediate_size=32,
            num_key_value_heads=1,
            head_dim=16,
            query_pre_attn_scalar=24,
            sliding_window=8,
            layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
            bos_token_id=2,
            eos_token_id=1,
            rope_parameters=dict(
                sliding_attention=rope(theta=10000.0),
                full_attention=rope("linear", 1000000.0, factor=8.0),
            ),
        ),
    ),
    "phi3": ("phi3", dict(original_max_position_embeddings=128, sliding_window=24, rope_parameters=rope())),
    # Rotates the first three quarters of each head (as Phi-4-mini does), with one factor per rotated pair.
    "phi3-longrope": (
        "phi3",
        dict(
            num_attention_heads=2,
            num_key_value_heads=1,
            original_max_position_embeddings=16,
            rope_parameters=rope(
                "longrope",
                partial_rotary_factor=0.75,
                short_factor=[1.0, 1.05, 1.1, 1.3, 1.4, 1.5],
                long_factor=[1.1, 1.5, 2.0, 3.0, 5.0, 8.0],
            ),
        ),
    ),
    "smollm": ("llama", dict(num_attention_heads=4, tie_word_embeddings=True, rope_parameters=rope(theta=100000.0))),
    "smollm3": (
        "smollm3",
        dict(num_hidden_layers=4, intermediate_size=32, no_rope_layer_interval=4, rope_parameters=rope(theta=5e6)),
    ),
    "olmo2": ("olmo2", dict(rope_parameters=rope(theta=500000.0))),
    "mixtral": (
        "mixtral",
        dict(intermediate_size=32, num_local_experts=4, num_experts_per_tok=2, rope_parameters=rope(theta=1e6)),
    ),
    "qwen3moe": (
        "qwen3_moe",
        dict(
            head_dim=16,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            norm_topk_prob=True,
            rope_parameters=rope(theta=1e6),
        ),
    ),
    # The first layer is dense, and the chosen experts' probabilities do not sum to one.
    "qwen3moe-mixed": (
        "qwen3_moe",
        dict(
            head_dim=16,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            norm_topk_prob=False,
            mlp_only_layers=[0],
            rope_parameters=rope(theta=1e6),
        ),
    ),
    # Head size 16 and an original context of 1024: the ramp runs over the pairs 1 to 5 of 8.
    "yarn": (
        "qwen2",
        dict(
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=4096,
            rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=1024),
        ),
    ),
}


# folder name -> changes of the config, each of which must move the logits: what the golden file can tell apart.
DEFAULT_ROPE = rope()
TELLS_APART = {
    "llama": [dict(rms_norm_eps=1e-5), dict(rope_parameters=rope(theta=20000.0))],
    "llama3": [
        dict(rope_parameters=rope(theta=500000.0)),
        dict(rope_parameters=MODELS["llama3"][1]["rope_parameters"] | dict(high_freq_factor=3.0)),
        dict(rope_parameters=MODELS["llama3"][1]["rope_parameters"] | dict(original_max_position_embeddings=32)),
    ],
    "llama-linear": [dict(rope_parameters=DEFAULT_ROPE)],
    "mistral": [dict(sliding_window=None), dict(sliding_window=7), dict(sliding_window=9)],
    "gemma2": [
        dict(sliding_window=7),
        dict(sliding_window=9),
        dict(layer_types=["full_attention", "sliding_attention", "full_attention"]),
        dict(query_pre_attn_scalar=16),
        dict(attn_logit_softcapping=None),
        dict(final_logit_softcapping=None),
    ],
    "gemma3": [
        dict(sliding_window=7),
        dict(sliding_window=9),
        dict(layer_types=["full_attention", "sliding_attention", "sliding_attention", "full_attention"]),
        dict(query_pre_attn_scalar=16),
        dict(rope_parameters=dict(sliding_attention=rope(), full_attention=rope(theta=1e6))),
        dict(rope_parameters=dict(sliding_attention=rope(), full_attention=rope("linear", factor=8.0))),
        dict(
            rope_parameters=dict(
                sliding_attention=rope("linear", factor=8.0), full_attention=rope("linear", 1e6, factor=8.0)
            )
        ),
        dict(hidden_activation="silu"),
    ],
    "phi3": [dict(sliding_window=23), dict(sliding_window=None)],
    "smollm3": [dict(no_rope_layers=[1, 1, 1, 1]), dict(no_rope_layers=[0, 1, 1, 1])],
    "mixtral": [dict(num_experts_per_tok=1)],
    "qwen3moe": [dict(norm_topk_prob=False)],
    "qwen3moe-mixed": [dict(norm_topk_prob=True)],
    "yarn": [
        dict(rope_parameters=DEFAULT_ROPE),
        dict(rope_parameters=MODELS["yarn"][1]["rope_parameters"] | dict(attention_factor=1.0)),
        dict(rope_parameters=MODELS["yarn"][1]["rope_parameters"] | dict(beta_fast=16.0)),
        dict(rope_parameters=MODELS["yarn"][1]["rope_parameters"] | dict(factor=5.0, attention_factor=1.138629)),
    ],
}
