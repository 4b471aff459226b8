"""Models for the outside checks, made on the fly: wide enough for the K-quants' blocks of 256, with a tokenizer."""

import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

ARCHITECTURES = Path(__file__).resolve().parent.parent / "architectures"
sys.path.insert(0, str(ARCHITECTURES))

from make import randomise  # noqa: E402
from models import MODELS, SHAPE, rope  # noqa: E402
from text_models import make_tokenizer, write_text  # noqa: E402

# Rows of 256 and 512: what Q4_K, Q5_K and Q6_K need.
WIDE = dict(hidden_size=256, intermediate_size=512, num_attention_heads=4, num_key_value_heads=2, head_dim=64)

# What llama.cpp does not do, or takes from the size of the model instead of the file: set aside, so that the rest of
# the architecture is compared.
SET_ASIDE = {
    "mistral": dict(sliding_window=None),  # read as llama, which has no window there
    "phi3": dict(sliding_window=None),  # windows are switched off for Phi-3
    "gemma2": dict(query_pre_attn_scalar=16),  # the square root of the head size, whatever the file says
    # A global layer after every five local ones, unless the file has gemma3.attention.sliding_window_pattern.
    "gemma3": dict(
        query_pre_attn_scalar=16,
        num_hidden_layers=7,
        layer_types=["sliding_attention"] * 5 + ["full_attention", "sliding_attention"],
    ),
}
# A dense layer among those with experts: llama.cpp has no such Qwen 3.
NOT_IN_LLAMA_CPP = {"qwen3moe-mixed"}


def write_model(folder, name, tokenizer, vocab_size, **differs):
    """The random model MODELS[name] with a tokenizer ("llama" or "qwen3") in folder -> the model."""
    folder.mkdir(parents=True)
    model_type, odd = MODELS[name]
    settings = {**SHAPE, **odd, **differs, "vocab_size": vocab_size}
    if tokenizer == "qwen3":
        settings.update(bos_token_id=313, eos_token_id=315, pad_token_id=313)
    else:
        settings.update(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    config = AutoConfig.for_model(model_type, **settings)
    unreadable = make_tokenizer(tokenizer, folder, vocab_size)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    randomise(model, torch.Generator().manual_seed(7))
    with torch.no_grad():
        model.get_output_embeddings().weight[unreadable] *= 0.2
    model.save_pretrained(folder)
    write_text(folder, model)
    return model


def wide_models(folder):
    """name -> folder of the two wide models."""
    write_model(folder / "llama-wide", "llama", "llama", 352, **WIDE)
    write_model(folder / "qwen3-wide", "qwen3", "qwen3", 320, **WIDE, rope_parameters=rope(theta=1e6))
    return {name: folder / name for name in ("llama-wide", "qwen3-wide")}
