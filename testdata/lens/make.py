#!/usr/bin/env python3
"""Writes what transformers and NumPy see inside of the tiny models, for `Engine::look` and `Distribution`.

    pip install -r testdata/lens/requirements.txt
    python3 testdata/lens/make.py

NAME.f32, of the model in ../architectures/NAME, little-endian float32, row-major, one array after another:
- lens (L, T, V): the logits that the final norm and the head make of the residual stream after each layer;
- attention (L, H, T, T): output_attentions of the eager implementation;
- for each entry of `off`, the logits (V) after the last token without those parts: a head's columns of o_proj are
  zeroed, a layer gives back what it was given.
NAME.json: `ids` (T), the dimensions, and `off`.

distributions.json: for each tensor of some GGUF files, decoded by the gguf package, its mean, standard deviation, least
and largest value, zeros, and numpy.histogram in 64 bins.
"""
import copy
import json
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
ARCHITECTURES = HERE.parent / "architectures"
# A window or none, soft-caps, norms before or after a branch, norms of queries and keys, biases, fused and shared
# matrices, experts.
MODELS = ("llama", "llama-bias", "qwen3", "mistral", "gemma2", "gemma3", "phi3", "olmo2", "qwen3moe")
N_TOKEN = 20  # T: above the windows of all but phi3
OFF = [
    [{"layer": 0}],
    [{"layer": 1, "head": 2}],
    [{"layer": 0, "head": 0}, {"layer": 1, "head": 1}],
]
FILES = ("two-files/llama-q8_0.gguf", "two-files/qwen3-f16.gguf", "split/whole.gguf")


def load(name):
    return AutoModelForCausalLM.from_pretrained(
        ARCHITECTURES / name, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def read_out(model, states):
    """(T, C) of the residual stream -> (T, V)."""
    logits = model.lm_head(model.model.norm(states))
    cap = getattr(model.config, "final_logit_softcapping", None)
    return cap * torch.tanh(logits / cap) if cap else logits


def first(output):
    return output[0] if isinstance(output, tuple) else output


def seen(name, ids):
    """lens (L, T, V) and attention (L, H, T, T)."""
    model = load(name)
    after = []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda module, inputs, output: after.append(first(output)[0]))
    with torch.no_grad():
        out = model(
            torch.tensor([ids]), use_cache=False, output_hidden_states=True, output_attentions=True
        )
        lens = torch.stack([read_out(model, states) for states in after])
    # What transformers itself keeps: the stream before each layer, and the normed one at the end.
    kept = out.hidden_states
    for states, given in zip(after, kept[1:]):
        assert (states - given[0]).abs().max() < 1e-6 or given is kept[-1]
    assert (model.model.norm(after[-1]) - kept[-1][0]).abs().max() < 1e-6
    assert (lens[-1] - out.logits[0]).abs().max() < 1e-5
    attention = torch.stack([weights[0] for weights in out.attentions])
    assert (attention.sum(-1) - 1).abs().max() < 1e-5
    return lens, attention


def without(name, ids, parts):
    """(V) after the last token."""
    model = load(name)
    for part in parts:
        layer = model.model.layers[part["layer"]]
        if "head" in part:
            projection = layer.self_attn.o_proj.weight
            size = model.model.layers[0].self_attn.head_dim
            with torch.no_grad():
                projection[:, part["head"] * size : (part["head"] + 1) * size] = 0
        else:

            def passes(module, inputs, kwargs, output):
                states = inputs[0] if inputs else kwargs["hidden_states"]
                return (states, *output[1:]) if isinstance(output, tuple) else states

            layer.register_forward_hook(passes, with_kwargs=True)
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0, -1]


def write_lens(name):
    ids = json.loads((ARCHITECTURES / name / "ids.json").read_text())["ids"][:N_TOKEN]
    lens, attention = seen(name, ids)
    logits = [without(name, ids, parts) for parts in OFF]
    for parts, changed in zip(OFF, logits):
        moved = (changed - lens[-1, -1]).abs().max().item()
        assert moved > 1e-2, f"{name}: {parts} moves the logits by only {moved}"
    arrays = [lens, attention, *logits]
    assert all(torch.isfinite(array).all() for array in arrays)
    (HERE / f"{name}.f32").write_bytes(b"".join(array.detach().numpy().astype("<f4").tobytes() for array in arrays))
    described = {
        "ids": ids,
        "lens": list(lens.shape),
        "attention": list(attention.shape),
        "off": copy.deepcopy(OFF),
    }
    (HERE / f"{name}.json").write_text(json.dumps(described) + "\n")
    print(f"{name:11} lens {tuple(lens.shape)} attention {tuple(attention.shape)}")


def distribution(tensor):
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).ravel()
    counts, edges = np.histogram(values.astype(np.float64), bins=64)
    return {
        "name": tensor.name,
        "type": tensor.tensor_type.name,
        "count": int(values.size),
        "mean": float(values.mean(dtype=np.float64)),
        "std": float(values.std(dtype=np.float64)),
        "min": float(values.min()),
        "max": float(values.max()),
        "zeros": int((values == 0).sum()),
        "from": float(edges[0]),
        "to": float(edges[-1]),
        "counts": counts.tolist(),
    }


def write_distributions():
    files = {
        file: [distribution(tensor) for tensor in gguf.GGUFReader(HERE.parent / file).tensors] for file in FILES
    }
    lines = [
        f" {json.dumps(file)}: [\n  " + ",\n  ".join(json.dumps(tensor) for tensor in tensors) + "\n ]"
        for file, tensors in files.items()
    ]
    (HERE / "distributions.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, gguf, numpy {np.__version__}")
    for wanted in MODELS:
        write_lens(wanted)
    write_distributions()
