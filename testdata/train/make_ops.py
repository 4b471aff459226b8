#!/usr/bin/env python3
"""Make the golden numbers of training operations.

    pip install -r requirements.txt
    python make_ops.py

Forward and backward passes are computed by PyTorch in float64 from inputs that are exact float32, and rounded once.
The optimizers' steps are PyTorch's own float32 ones, single-tensor, on one CPU thread.

ops.bin is a sequence of entries, little-endian: length of the name (uint32), name, count (uint32), that many float32.
"""

import struct
from pathlib import Path

import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
SEED = 20250309
entries = []


def keep(name, tensor):
    entries.append((name, tensor.detach().to(torch.float32, copy=True).flatten()))


def leaf(name, *shape, factor=1.0):
    """A random input: kept as float32, handed on in float64 to be differentiated."""
    values = (torch.randn(*shape) * factor).to(torch.float32)
    keep(name, values)
    return values.to(torch.float64).requires_grad_()


def given(name, *shape, factor=1.0):
    return leaf(name, *shape, factor=factor).detach()


def rmsnorm():
    """(150, 40): more rows than are summed in one chunk."""
    x, weight, dout = leaf("rmsnorm.x", 150, 40, factor=2), leaf("rmsnorm.weight", 40), given("rmsnorm.dout", 150, 40)
    out = F.rms_norm(x, (40,), weight, eps=1e-5)
    out.backward(dout)
    keep("rmsnorm.out", out)
    keep("rmsnorm.dx", x.grad)
    keep("rmsnorm.dweight", weight.grad)


def head_norm():
    """The query heads of a fused buffer (T, 3 + 2 * 1 heads, D): the other heads pass through."""
    tokens, heads, size = 9, 5, 24
    qkv, weight = leaf("head_norm.qkv", tokens, heads, size), leaf("head_norm.weight", size)
    dout = given("head_norm.dout", tokens, heads, size)
    out = torch.cat([F.rms_norm(qkv[:, :3], (size,), weight, eps=1e-6), qkv[:, 3:]], dim=1)
    out.backward(dout)
    keep("head_norm.out", out)
    keep("head_norm.dqkv", qkv.grad)
    keep("head_norm.dweight", weight.grad)


def rope():
    """Two sequences of 7 tokens, 3 heads of 20, of which 16 dimensions turn; as Llama of transformers writes it."""
    sequences, tokens, heads, size, turning = 2, 7, 3, 20, 16
    x, dout = leaf("rope.x", sequences, tokens, heads, size), given("rope.dout", sequences, tokens, heads, size)
    frequencies = 1.0 / 10000.0 ** (torch.arange(0, turning, 2, dtype=torch.float32) / turning)
    keep("rope.frequencies", frequencies)
    angles = torch.outer(torch.arange(tokens, dtype=torch.float32), frequencies).to(torch.float64)
    cos, sin = (torch.cat([f(angles)] * 2, dim=-1)[None, :, None] for f in (torch.cos, torch.sin))
    part = x[..., :turning]
    half = torch.cat([-part[..., turning // 2 :], part[..., : turning // 2]], dim=-1)
    out = torch.cat([part * cos + half * sin, x[..., turning:]], dim=-1)
    out.backward(dout)
    keep("rope.out", out)
    keep("rope.dx", x.grad)


def swiglu():
    gate, up = leaf("swiglu.gate", 11, 37, factor=3), leaf("swiglu.up", 11, 37)
    dout = given("swiglu.dout", 11, 37)
    out = F.silu(gate) * up
    out.backward(dout)
    keep("swiglu.out", out)
    keep("swiglu.dgate", gate.grad)
    keep("swiglu.dup", up.grad)


def cross_entropy():
    """(8, 1100): a vocabulary of more than one run. Targets are kept as float32, -1 is ignored."""
    z_loss = 1e-2
    logits = leaf("cross_entropy.logits", 8, 1100, factor=4)
    targets = torch.randint(0, 1100, (8,))
    targets[2] = targets[7] = -1
    keep("cross_entropy.targets", targets)
    losses = F.cross_entropy(logits, targets, ignore_index=-1, reduction="none")
    counted = targets >= 0
    total = losses + z_loss * counted * torch.logsumexp(logits, dim=-1) ** 2
    (total.sum() / counted.sum()).backward()
    keep("cross_entropy.losses", losses)
    keep("cross_entropy.dlogits", logits.grad)


def adamw():
    """5 steps, with gradients that were scaled as clipping scales them."""
    n, scale = 203, 0.37
    weights = torch.nn.Parameter(torch.randn(n) * 0.5)
    keep("adamw.weights", weights)
    optimizer = torch.optim.AdamW([weights], lr=3e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, foreach=False)
    for step in range(1, 6):
        gradient = torch.randn(n) * 10.0 ** -torch.randint(0, 9, (n,))
        keep(f"adamw.gradient.{step}", gradient)
        weights.grad = gradient * scale
        optimizer.step()
        keep(f"adamw.weights.{step}", weights)
        keep(f"adamw.m.{step}", optimizer.state[weights]["exp_avg"])
        keep(f"adamw.v.{step}", optimizer.state[weights]["exp_avg_sq"])


def muon():
    """Keller Jordan's momentum, 3 steps: the buffer moves to the gradient, and the update is a look ahead."""
    n, beta = 203, 0.95
    momentum = torch.zeros(n)
    for step in range(1, 4):
        gradient = torch.randn(n)
        keep(f"muon.gradient.{step}", gradient)
        momentum.lerp_(gradient, 1 - beta)
        keep(f"muon.momentum.{step}", momentum)
        keep(f"muon.update.{step}", gradient.lerp(momentum, beta))


def main():
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    for make in (rmsnorm, head_norm, rope, swiglu, cross_entropy, adamw, muon):
        make()
    with open(HERE / "ops.bin", "wb") as file:
        for name, values in entries:
            file.write(struct.pack("<I", len(name)) + name.encode())
            file.write(struct.pack("<I", values.numel()) + values.numpy().astype("<f4").tobytes())


if __name__ == "__main__":
    main()
