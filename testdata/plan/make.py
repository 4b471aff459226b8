#!/usr/bin/env python3
"""Count parameters and operations of decoders in transformers and torch: shapes.json, the oracle of `llmos plan`.

    pip install -r requirements.txt
    python make.py

Models live on the meta device: nothing is computed, every product is counted. Attention is the eager one, which
multiplies all pairs of positions; ours counts those that the causal mask leaves, (T + 1) / 2 of T keys.
"""

import json
from pathlib import Path

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

HERE = Path(__file__).resolve().parent
BATCH = 2

# (name, norms of queries and keys, layers, heads, key-value heads, size of a head, width, MLP, vocabulary, tied, T)
SHAPES = [
    ("s", False, 4, 4, 4, 32, 128, 344, 2048, True, 256),
    ("m", False, 6, 6, 6, 48, 288, 768, 4096, True, 256),
    ("l", False, 8, 8, 8, 64, 512, 1376, 8192, True, 512),
    ("shakespeare-char", True, 4, 4, 4, 32, 128, 336, 65, True, 64),
    ("grouped heads wider than the model", True, 3, 6, 2, 40, 96, 200, 500, False, 48),
    ("Qwen3 0.6B", True, 28, 16, 8, 128, 1024, 3072, 151936, True, 64),
    ("Qwen3 8B", True, 36, 32, 8, 128, 4096, 12288, 151936, False, 64),
]


def part(module):
    """The part of a plan that a module's products belong to."""
    if module.endswith("_proj"):
        return "mlp" if ".mlp." in module else "attention_projections"
    if module.endswith("lm_head"):
        return "head"
    if module.endswith(".self_attn"):
        return "self_attn"
    return None


def flops(model, ids):
    """Products of forward by part, and all of forward and backward."""
    # A ready mask: making one would look at values, which do not exist.
    mask = torch.zeros((ids.shape[0], 1, ids.shape[1], ids.shape[1]), device="meta")
    with FlopCounterMode(display=False) as counter:
        model(ids, attention_mask=mask, use_cache=False)
    parts = {}
    for module, operations in counter.get_flop_counts().items():
        name = part(module)
        if name:
            parts[name] = parts.get(name, 0) + sum(operations.values())
    # What a block's attention has beside its projections.
    parts["attention_scores_full"] = parts.pop("self_attn") - parts["attention_projections"]
    assert counter.get_total_flops() == sum(parts.values())
    with FlopCounterMode(display=False) as counter:
        model(ids, attention_mask=mask, use_cache=False).logits.logsumexp(-1).sum().backward()
    return parts, counter.get_total_flops()


def describe(name, qk_norm, n_layer, n_head, n_kv_head, head_dim, d_model, d_ff, vocab_size, tied, context):
    kind = Qwen3Config if qk_norm else LlamaConfig
    config = kind(
        num_hidden_layers=n_layer,
        num_attention_heads=n_head,
        num_key_value_heads=n_kv_head,
        head_dim=head_dim,
        hidden_size=d_model,
        intermediate_size=d_ff,
        vocab_size=vocab_size,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    counts = {"embedding": 0, "head": 0, "attention": 0, "mlp": 0, "norms": 0}
    for weight_name, weight in model.named_parameters():
        if "norm" in weight_name:
            counts["norms"] += weight.numel()
        elif "self_attn" in weight_name:
            counts["attention"] += weight.numel()
        elif "mlp" in weight_name:
            counts["mlp"] += weight.numel()
        else:
            counts["head" if "lm_head" in weight_name else "embedding"] += weight.numel()
    assert sum(counts.values()) == model.num_parameters()
    ids = torch.zeros((BATCH, context), dtype=torch.long, device="meta")
    forward, training = flops(model, ids)
    return {
        "name": name,
        "model": {
            "n_layer": n_layer,
            "n_head": n_head,
            "n_kv_head": n_kv_head,
            "head_dim": head_dim,
            "d_model": d_model,
            "d_ff": d_ff,
            "vocab_size": vocab_size,
            "tied_head": tied,
            "qk_norm": qk_norm,
            "rope_base": 10000.0,
            "norm_eps": 1e-6,
        },
        "parameters": counts,
        "batch": BATCH,
        "context": context,
        "forward": forward,
        "training": training,
    }


def main():
    shapes = [describe(*shape) for shape in SHAPES]
    versions = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    text = json.dumps({"versions": versions, "shapes": shapes}, indent=1)
    (HERE / "shapes.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
