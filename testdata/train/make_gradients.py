#!/usr/bin/env python3
"""Write gradients.safetensors: a tiny Qwen3 of transformers, its gradients, and ten AdamW steps of PyTorch.

    pip install torch transformers safetensors
    python3 testdata/train/make_gradients.py

Tensors: `weight/NAME` before the first step, `gradient/NAME` of the mean loss, `logits`, `inputs` and `targets`
(B, T) as int32, `losses` of ten steps of AdamW on the same batch (lr 1e-3, betas 0.9 and 0.95, eps 1e-8, weight
decay 0.1 on all but norms).
"""

from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
B, T = 3, 7


def main():
    torch.manual_seed(1)
    torch.use_deterministic_algorithms(True)
    config = transformers.Qwen3Config(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=6, max_position_embeddings=T, rms_norm_eps=1e-5,
        tie_word_embeddings=True, rope_theta=10000.0, attn_implementation="eager",
    )
    model = transformers.Qwen3ForCausalLM(config).float()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, 1.0, 0.2)
        else:
            torch.nn.init.normal_(parameter, 0.0, 0.2)
    inputs = torch.randint(0, 40, (B, T))
    targets = torch.randint(0, 40, (B, T))
    out = {"inputs": inputs.int(), "targets": targets.int()}
    out |= {f"weight/{name}": p.detach().clone() for name, p in model.named_parameters()}

    def loss():
        logits = model(input_ids=inputs).logits
        return logits, torch.nn.functional.cross_entropy(logits.reshape(-1, 40), targets.reshape(-1))

    logits, first = loss()
    first.backward()
    out["logits"] = logits.detach().clone()
    out |= {f"gradient/{name}": p.grad.clone() for name, p in model.named_parameters()}
    decayed = [p for name, p in model.named_parameters() if "norm" not in name]
    plain = [p for name, p in model.named_parameters() if "norm" in name]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=1e-3, betas=(0.9, 0.95), eps=1e-8,
    )
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        _, value = loss()
        losses.append(value.item())
        value.backward()
        optimizer.step()
    out["losses"] = torch.tensor(losses)
    save_file(out, HERE / "gradients.safetensors")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}: {losses[0]:.6f} to {losses[-1]:.6f}")


if __name__ == "__main__":
    main()
