#!/usr/bin/env python3
"""Make the golden tiny models: random Hugging Face folders and the logits that transformers computes for them.

    pip install -r requirements.txt
    python make.py            # every folder
    python make.py gemma2     # one folder

Each model is far smaller than any real one, yet uses every oddity of its architecture: scalings that begin within
the test's context, windows shorter than it, norm weights and biases away from their initial values. Weights are wide
(unit gain), so that attention is sharp and a wrong position, mask or scale shows far above the tolerance of 1e-4.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

from models import MODELS, SHAPE, TELLS_APART, WITH_TEXT
from text_models import make_tokenizer, write_text

HERE = Path(__file__).resolve().parent
N_TOKEN = 40  # T: above every sliding window and original context below
TOLERANCE = 1e-5  # prefill against token-by-token decoding, both in transformers


def randomise(model, generator):
    """Wide random weights: a matrix with unit gain, a norm weight or a bias 0.3 away from where training starts."""
    gemma = model.config.model_type.startswith("gemma")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name:
                # Gemma stores the distance from one.
                weight.copy_(0.3 * noise if gemma else 1.0 + 0.3 * noise)
            elif name.endswith("bias"):
                weight.copy_(0.3 * noise)
            elif "embed" in name or "lm_head" in name:
                # A tied embedding is also the head: there the gain of a head, or rounding outgrows the tolerance.
                is_head = "lm_head" in name or model.config.tie_word_embeddings
                weight.copy_(noise * (weight.shape[-1] ** -0.5 if is_head else 1.0))
            else:
                # (out, in), or (expert, out, in): q and k wider, so that scores spread beyond a nat.
                gain = 1.2 if "q_proj" in name or "k_proj" in name or "qkv" in name else 1.0
                weight.copy_(noise * gain * weight.shape[-1] ** -0.5)


def prefill(model, ids):
    """ids (T) -> logits (T, V) float32, all tokens at once."""
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def stepwise(model, ids, n_first=1):
    """ids (T) -> logits (T, V) float32: n_first tokens at once, then one at a time through the cache."""
    with torch.no_grad():
        out = model(torch.tensor([ids[:n_first]]), use_cache=True)
        logits = [out.logits[0]]
        for token in ids[n_first:]:
            out = model(torch.tensor([[token]]), cache=out.past_key_values, use_cache=True)
            logits.append(out.logits[0])
    return torch.cat(logits).float()


def router_margin(model, ids):
    """The least gap, over tokens and layers, between the last chosen and the first refused expert's logit."""
    gaps, hooks = [float("inf")], []
    top_k = getattr(model.config, "num_experts_per_tok", None)
    for module in model.modules():
        if type(module).__name__.endswith("TopKRouter"):

            def record(module, inputs, output):
                score = torch.nn.functional.linear(inputs[0].reshape(-1, module.weight.shape[1]), module.weight)
                score = score.sort(dim=-1, descending=True).values
                gaps.append((score[:, top_k - 1] - score[:, top_k]).min().item())

            hooks.append(module.register_forward_hook(record))
    prefill(model, ids)
    for hook in hooks:
        hook.remove()
    return min(gaps)


def v4_config(config):
    """The same config.json in the words of transformers 4, in which most published folders are written."""
    old = dict(config)
    old["transformers_version"] = "4.51.0"
    old["torch_dtype"] = old.pop("dtype", "float32")
    parameters = old.pop("rope_parameters", None) or {}
    if old["model_type"] == "gemma3_text":
        full = dict(parameters["full_attention"])
        old["rope_theta"] = full.pop("rope_theta")
        old["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        old["rope_scaling"] = full if full["rope_type"] != "default" else None
        # Google's own files give the period and leave the list of layers out.
        old["sliding_window_pattern"] = 3
        old.pop("layer_types", None)
        old.pop("_sliding_window_pattern", None)
        return old
    scaling = dict(parameters)
    old["rope_theta"] = scaling.pop("rope_theta")
    if "partial_rotary_factor" in scaling:
        factor = scaling.pop("partial_rotary_factor")
        if factor != 1.0:
            old["partial_rotary_factor"] = factor
    rope_type = scaling.pop("rope_type")
    if rope_type == "longrope":
        # Phi-3 keeps the original context outside.
        scaling.pop("original_max_position_embeddings", None)
    if old["model_type"] == "qwen3_moe":
        # transformers 5 calls Qwen's experts num_local_experts when it saves.
        old["num_experts"] = old.pop("num_local_experts")
    if rope_type == "default":
        old["rope_scaling"] = None
    else:
        # Before 4.43 the key was "type"; Llama 3.1 and later files have "rope_type".
        key = "rope_type" if rope_type == "llama3" else "type"
        old["rope_scaling"] = {key: rope_type, **scaling}
    if old["model_type"] in ("gemma2", "qwen2", "qwen3", "smollm3"):
        old.pop("layer_types", None)
    if old["model_type"] == "qwen2":
        # A window that the second key switches off, as in every published Qwen 2.5.
        old.update(use_sliding_window=False, sliding_window=8, max_window_layers=1)
    return old


def write_logits(folder, stem, ids, logits):
    assert torch.isfinite(logits).all()
    (folder / f"{stem}logits.f32").write_bytes(logits.numpy().astype("<f4").tobytes())
    described = {"ids": ids, "logits": f"{stem}logits.f32", "shape": list(logits.shape)}
    (folder / f"{stem}ids.json").write_text(json.dumps(described) + "\n")


def shard(folder, source):
    """The source's weights again, in two files with an index."""
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "ids.json", "logits.f32"):
        (folder / name).write_bytes((source / name).read_bytes())
    tensors = load_file(source / "model.safetensors")
    names = sorted(tensors)
    # Split by name, so that one layer's tensors lie in both files.
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {
        "metadata": {"total_size": total},
        "weight_map": {name: file for file, part in parts.items() for name in part},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


def embed_in_vision_model(folder, source):
    """The text model again, as the language half of a Gemma 3 that also sees: other names, a nested config."""
    text = load(source)
    text_config = {key: value for key, value in text.config.to_dict().items() if key != "_name_or_path"}
    config = Gemma3Config(
        text_config=text_config,
        vision_config=dict(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=1,
            image_size=28,
            patch_size=14,
        ),
        mm_tokens_per_image=4,
        boi_token_index=93,
        eoi_token_index=94,
        image_token_index=95,
    )
    config._attn_implementation = "eager"
    torch.manual_seed(1000)
    model = Gemma3ForConditionalGeneration(config).eval()
    model.model.language_model.load_state_dict(text.model.state_dict())
    model.tie_weights()
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    (folder / "generation_config.json").unlink(missing_ok=True)
    ids = json.loads((source / "ids.json").read_text())["ids"]
    old = json.loads((folder / "config.json").read_text())
    old["torch_dtype"] = old.pop("dtype")
    old["transformers_version"] = "4.51.0"
    old["text_config"] = v4_config(old["text_config"])
    (folder / "config.v4.json").write_text(json.dumps(old, indent=2, sort_keys=True) + "\n")
    for file in ("config.v4.json", "config.json"):
        again = Gemma3ForConditionalGeneration.from_pretrained(
            folder,
            config=Gemma3Config.from_pretrained(folder / file),
            dtype=torch.float32,
            attn_implementation="eager",
        )
        logits = prefill(again.eval(), ids)
        assert (logits - prefill(text, ids)).abs().max() < TOLERANCE
    write_logits(folder, "", ids, logits)


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def make(name):
    model_type, differs = MODELS[name]
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    config = AutoConfig.for_model(model_type, **{**SHAPE, **differs})
    config._attn_implementation = "eager"
    unreadable = make_tokenizer(name, folder, config.vocab_size) if name in WITH_TEXT else []
    # The first seed whose routers are decided beyond rounding (models without experts: the first).
    for seed in range(100):
        generator = torch.Generator().manual_seed(1000 + seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
        randomise(model, generator)
        with torch.no_grad():
            # What the model writes should be text: bytes that are no character get a weak head.
            model.get_output_embeddings().weight[unreadable] *= 0.2
        model.tie_weights()
        ids = torch.randint(3, min(config.vocab_size, 96), (N_TOKEN,), generator=generator).tolist()
        ids[0] = config.bos_token_id
        if router_margin(model, ids) > 1e-3:
            break
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    (folder / "generation_config.json").unlink(missing_ok=True)

    # What is checked is what was stored.
    model = load(folder)
    logits = prefill(model, ids)
    n_first = 1
    if name == "phi3-longrope":
        # Beyond the original context the long factors hold for every position, also in a prefill; transformers, when
        # stepping, leaves the keys that it cached before that point with the short ones. So the long case starts
        # with one chunk, and a second case stays within the original context.
        n_first = config.rope_parameters["original_max_position_embeddings"] + 1
        short = ids[: n_first - 1]
        within = prefill(model, short)
        assert (within - stepwise(load(folder), short)).abs().max() < TOLERANCE
        assert (within - logits[: len(short)]).abs().max() > 0.1
        write_logits(folder, "short-", short, within)
    steps = stepwise(load(folder), ids, n_first)
    difference = (logits - steps).abs().max().item()
    assert difference < TOLERANCE, f"{name}: prefill and decoding differ by {difference}"
    write_logits(folder, "", ids, logits)

    old = v4_config(json.loads((folder / "config.json").read_text()))
    (folder / "config.v4.json").write_text(json.dumps(old, indent=2, sort_keys=True) + "\n")
    again = AutoModelForCausalLM.from_pretrained(
        folder,
        config=AutoConfig.from_pretrained(folder / "config.v4.json"),
        dtype=torch.float32,
        attn_implementation="eager",
    )
    difference_v4 = (logits - prefill(again.eval(), ids)).abs().max().item()
    assert difference_v4 == 0.0, f"{name}: the old-style config differs by {difference_v4}"

    for changes in TELLS_APART.get(name, []):
        changed = AutoConfig.from_pretrained(folder)
        for key, value in changes.items():
            setattr(changed, key, value)
        other = AutoModelForCausalLM.from_pretrained(
            folder, config=changed, dtype=torch.float32, attn_implementation="eager"
        )
        moved = (logits - prefill(other.eval(), ids)).abs().max().item()
        assert moved > 100 * TOLERANCE, f"{name}: {changes} moves the logits by only {moved}"

    if name in WITH_TEXT:
        write_text(folder, load(folder))
    if name == "smollm":
        shard(HERE / "llama-sharded", folder)
    if name == "gemma3":
        embed_in_vision_model(HERE / "gemma3-vision", folder)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(
        f"{name:15} {size / 1024:6.0f} KiB  |logit| {logits.abs().max():5.2f}  "
        f"step {difference:.1e}  seed {1000 + seed}"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, numpy {np.__version__}")
    for wanted in sys.argv[1:] or MODELS:
        make(wanted)
