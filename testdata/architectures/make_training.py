#!/usr/bin/env python3
"""Write training.json into the folders of dense models: losses and gradients that PyTorch computes.

    pip install -r requirements.txt
    python make_training.py [FOLDER...]

The batch has two rows: the ids of ids.json, and the same backwards. The loss is the mean cross-entropy of each row's
next tokens. Of each parameter's gradient there are its norm, three of its values, and its sum with signs: number i
counts as minus where bit 15 of i * 40503 is set. A sum with signs moves with every number of the gradient.
"""

import json
import sys
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).resolve().parent
# Mixtures of experts are not trained; llama-sharded and gemma3-vision hold the weights of other folders.
LEFT_OUT = {"mixtral", "qwen3moe", "qwen3moe-mixed", "llama-sharded", "gemma3-vision"}


def short(x):
    return float(f"{x:.8e}")


def described(gradient):
    flat = gradient.detach().double().flatten()
    i = torch.arange(flat.numel())
    signs = 1.0 - 2.0 * ((i * 40503) >> 15 & 1).double()
    at = [0, flat.numel() // 2, flat.numel() - 1]
    return {
        "norm": short(flat.norm().item()),
        "signed": short((flat * signs).sum().item()),
        "values": [short(flat[k].item()) for k in at],
    }


def make(name):
    folder = HERE / name
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).train()
    # PyTorch would leave the padding token's row out of the gradient, though its logits are learnt.
    model.get_input_embeddings().padding_idx = None
    ids = json.loads((folder / "ids.json").read_text())["ids"]
    batch = torch.tensor([ids, ids[::-1]])
    logits = model(input_ids=batch).logits
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), batch[:, 1:], reduction="none")
    loss = losses.mean()
    loss.backward()
    out = {
        "loss": short(loss.item()),
        "gradients": {name: described(p.grad) for name, p in model.named_parameters()},
    }
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in out["gradients"].items())
    text = f'{{"loss": {out["loss"]}, "gradients": {{\n{lines}\n}}}}\n'
    assert json.loads(text) == out
    (folder / "training.json").write_text(text)
    print(f"{name:15} loss {out['loss']:.5f}, {len(out['gradients'])} gradients, {len(text)} bytes")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    everyone = sorted(path.parent.name for path in HERE.glob("*/ids.json"))
    for wanted in sys.argv[1:] or everyone:
        if wanted not in LEFT_OUT:
            make(wanted)
