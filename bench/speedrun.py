#!/usr/bin/env python3
"""Pretraining within a time, beside PyTorch: the same model, text, recipe and minutes; who predicts better?

    pip install torch safetensors
    python3 bench/speedrun.py --out FOLDER [--llmos target/release/llmos] [--minutes 20] [--threads 2] [--write]

`llmos speedrun --minutes N --until pretrain` goes first; its recipe gives pretraining half of the time. Then PyTorch
trains the model of that run on that run's tokens for the seconds that llmos' process took, its own measuring of speed and
compiling left out, which is in its favour. Everything that the recipe says holds for both: batch, Muon and AdamW with
their rates, decay, clipping, schedule. PyTorch's steps are as many as its speed allows, measured beforehand, and its
schedule ends with them. Its way is the fastest that we know: torch.compile, `scaled_dot_product_attention`, `rms_norm`,
fused AdamW, `torch.optim.Muon`, bfloat16 autocast where llmos takes bfloat16. Both models are folders in the end, and
`llmos eval card` measures bits per byte of the same held-out stories.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
import tomllib
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import peers  # noqa: E402

HEADING = "## Pretraining within a time"
CORPUS = HERE.parent / "models" / "corpus"
# Bytes before the ids of a shard.
SHARD_HEADER = 64


def build(model, context):
    """The model of a recipe: Qwen3's layers, with Hugging Face's names where state_dict is taken."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    width, size, eps = model["d_model"], model["head_dim"], model["norm_eps"]
    heads, kv_heads, inner = model["n_head"], model["n_kv_head"], model["d_ff"]

    def linear(n_in, n_out, zero=False):
        layer = nn.Linear(n_in, n_out, bias=False)
        nn.init.zeros_(layer.weight) if zero else nn.init.normal_(layer.weight, std=n_in**-0.5)
        return layer

    class Norm(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(n))

        def forward(self, x):
            return F.rms_norm(x, self.weight.shape, self.weight, eps)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q_proj, self.o_proj = linear(width, heads * size), linear(heads * size, width, zero=True)
            self.k_proj, self.v_proj = linear(width, kv_heads * size), linear(width, kv_heads * size)
            self.q_norm, self.k_norm = Norm(size), Norm(size)

        def forward(self, x, cos, sin):
            split = lambda y: y.unflatten(-1, (-1, size)).transpose(1, 2)  # noqa: E731
            turn = lambda y: y * cos + torch.cat((-y[..., size // 2 :], y[..., : size // 2]), -1) * sin  # noqa: E731
            q, k = turn(self.q_norm(split(self.q_proj(x)))), turn(self.k_norm(split(self.k_proj(x))))
            v = split(self.v_proj(x))
            k, v = (y.repeat_interleave(heads // kv_heads, 1) for y in (k, v))
            y = F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), is_causal=True)
            return self.o_proj(y.transpose(1, 2).flatten(-2))

    class Mlp(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_proj, self.up_proj = linear(width, inner), linear(width, inner)
            self.down_proj = linear(inner, width, zero=True)

        def forward(self, x):
            return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.input_layernorm, self.post_attention_layernorm = Norm(width), Norm(width)
            self.self_attn, self.mlp = Attention(), Mlp()

        def forward(self, x, cos, sin):
            x = x + self.self_attn(self.input_layernorm(x), cos, sin)
            return x + self.mlp(self.post_attention_layernorm(x))

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed_tokens = nn.Embedding(model["vocab_size"], width)
            nn.init.normal_(self.embed_tokens.weight, std=0.02)
            self.layers = nn.ModuleList([Layer() for _ in range(model["n_layer"])])
            self.norm = Norm(width)
            angles = torch.arange(context)[:, None] * model["rope_base"] ** -(torch.arange(0, size, 2) / size)
            self.register_buffer("cos", angles.repeat(1, 2).cos(), persistent=False)
            self.register_buffer("sin", angles.repeat(1, 2).sin(), persistent=False)

        def forward(self, ids, targets):
            x = self.embed_tokens(ids)
            for layer in self.layers:
                x = layer(x, self.cos, self.sin)
            logits = F.linear(self.norm(x), self.embed_tokens.weight)
            return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    return Decoder()


def share(schedule, step, steps):
    """The rate at a step as a share of its peak."""
    if step < schedule["warmup"]:
        return (step + 1) / schedule["warmup"]
    falling = min(round(schedule["cooldown"] * steps), steps - schedule["warmup"])
    if schedule["name"] == "constant" or step < steps - falling:
        return 1.0
    way = min((step - (steps - falling) + 1) / falling, 1.0)
    left = 0.5 * (1 + math.cos(math.pi * way)) if schedule["name"] == "cosine" else 1 - way
    return schedule["floor"] + (1 - schedule["floor"]) * left


class Trainer:
    """PyTorch's side of a recipe."""

    def __init__(self, recipe, tokens):
        import torch

        torch.manual_seed(recipe["train"]["seed"])
        self.recipe, self.tokens, self.torch = recipe, tokens, torch
        self.context, self.batch = recipe["train"]["context"], recipe["train"]["batch"]
        self.model = build(recipe["model"], self.context)
        self.loss_of = torch.compile(self.model)
        matrices = [p for name, p in self.model.named_parameters() if p.dim() == 2 and "embed" not in name]
        tables = [self.model.embed_tokens.weight]
        vectors = [p for p in self.model.parameters() if p.dim() == 1]
        options = recipe["optimizer"]
        self.optimizers = []
        if options["name"] == "muon":
            muon = torch.optim.Muon(matrices, lr=options["muon_lr"], momentum=options["muon_momentum"])
            self.optimizers.append((muon, options["muon_lr"]))
        else:
            tables += matrices
        groups = [{"params": tables}, {"params": vectors, "decays": False}]
        betas = (options["beta1"], options["beta2"])
        adam = torch.optim.AdamW(groups, lr=options["lr"], betas=betas, eps=options["eps"], fused=True)
        self.optimizers.append((adam, options["lr"]))
        self.autocast = recipe["train"]["dtype"] == "bf16"
        # Rows by their places, each once in a reading.
        self.order = torch.empty(0, dtype=torch.int64)

    def rows(self):
        torch, n = self.torch, (len(self.tokens) - 1) // self.context
        while len(self.order) < self.batch:
            self.order = torch.cat((self.order, torch.randperm(n)))
        chosen, self.order = self.order[: self.batch], self.order[self.batch :]
        starts = chosen[:, None] * self.context + torch.arange(self.context + 1)
        ids = self.tokens[starts]
        return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def step(self, rate, decay):
        torch = self.torch
        for optimizer, peak in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * peak
                group["weight_decay"] = decay if group.get("decays", True) else 0.0
            optimizer.zero_grad(set_to_none=True)
        inputs, targets = self.rows()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            loss = self.loss_of(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe["optimizer"]["clip"])
        for optimizer, _ in self.optimizers:
            optimizer.step()
        return loss.item()


def train_torch(run, out, seconds, threads):
    """Trains the model of the run in the folder `run` for so long; the folder `out` gets the model."""
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(threads)
    recipe = tomllib.loads((run / "base" / "recipe.toml").read_text())
    manifest = json.loads((run / "data" / "manifest.json").read_text())
    shards = [run / "data" / shard["file"] for shard in manifest["train"]["shards"]]
    pieces = [torch.frombuffer(bytearray(p.read_bytes()[SHARD_HEADER:]), dtype=torch.uint16) for p in shards]
    tokens = torch.cat([piece.to(torch.int64) for piece in pieces])
    assert len(tokens) == manifest["train"]["tokens"], "ids of two bytes"
    # Compiling and measuring, on a model that is thrown away.
    trainer = Trainer(recipe, tokens)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        trainer.step(0.01, 0.0)
        times.append(time.perf_counter() - start)
    steps = int(seconds / (sum(times[3:]) / len(times[3:])))
    trainer.model.load_state_dict(build(recipe["model"], trainer.context).state_dict())
    for optimizer, _ in trainer.optimizers:
        optimizer.state.clear()
    options, losses = recipe["optimizer"], []
    start = time.perf_counter()
    for step in range(steps):
        decay = options["weight_decay"] + (options["final_weight_decay"] - options["weight_decay"]) * step / steps
        losses.append(trainer.step(share(recipe["schedule"], step, steps), decay))
        if step % 50 == 0:
            print(f"step {step}/{steps} loss {losses[-1]:.4f}", file=sys.stderr, flush=True)
    took = time.perf_counter() - start
    out.mkdir(parents=True, exist_ok=True)
    weights = {f"model.{name}": value.contiguous() for name, value in trainer.model.state_dict().items()}
    save_file(weights, str(out / "model.safetensors"), metadata={"format": "pt"})
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"]:
        (out / name).write_bytes((run / "base" / name).read_bytes())
    done = {"steps": steps, "seconds": took, "tokens": steps * trainer.batch * trainer.context, "loss": losses[-1]}
    (out / "report.json").write_text(json.dumps(done) + "\n")


def measure(options):
    run, out = options.out / "run", options.out / "torch"
    command = [options.llmos, "speedrun", HERE.parent / "recipes" / "speedrun.toml", "--out", run]
    command += ["--minutes", options.minutes, "--until", "pretrain"]
    subprocess.run([str(part) for part in command], check=True)
    parts = json.loads((run / "speedrun.json").read_text())["parts"]
    seconds = next(part["seconds"] for part in parts if part["stage"] == "pretrain")
    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads))
    environment |= {"MALLOC_TRIM_THRESHOLD_": str(4 << 30), "MALLOC_MMAP_THRESHOLD_": str(4 << 30)}
    command = [sys.executable, __file__, "--out", options.out, "--threads", options.threads, "--case", seconds]
    subprocess.run([str(part) for part in command], check=True, env=environment)
    card = options.out / "card"
    command = [options.llmos, "eval", "card", f"{run / 'base'}=llmos", f"{out}=PyTorch", "--out", card]
    for flag, name in [("--stories", "tiny-stories"), ("--chinese", "chinese-stories")]:
        command += [flag, CORPUS / f"{name}-held-out.jsonl.zst"]
    subprocess.run([str(part) for part in command], check=True)
    rows = [json.loads(line) for line in (run / "base" / "metrics.jsonl").read_text().splitlines()]
    recipe = tomllib.loads((run / "base" / "recipe.toml").read_text())
    batch = recipe["train"]["batch"] * recipe["train"]["context"]
    own = {"steps": rows[-1]["step"], "seconds": seconds, "tokens": rows[-1]["step"] * batch}
    other = json.loads((out / "report.json").read_text())
    return recipe, {"llmos": own, "PyTorch": other}, json.loads((card / "card.json").read_text())


def section(options, recipe, runs, card):
    measures = {measure["key"]: measure["cells"] for measure in card["measures"]}
    bits = lambda key, name: next(cell["value"] for cell in measures[key] if cell["name"] == name)  # noqa: E731
    model = recipe["model"]
    version = "from importlib.metadata import version; print(version('torch'))"
    lines = [
        HEADING,
        "",
        "Made by `bench/speedrun.py`, which says what is measured.",
        "",
        f"- **Machine.** {peers.cpu()[0]}, {os.cpu_count()} logical cores; Linux {os.uname().release}; {date.today()}.",
        f"- **Programs.** PyTorch {peers.execute([sys.executable, '-c', version], 60)[0].strip()}; {options.threads} threads.",
        f"- **What.** `llmos speedrun --minutes {options.minutes:g}`: {model['n_layer']} layers of width "
        f"{model['d_model']}, vocabulary {model['vocab_size']}, {recipe['train']['batch']} rows of "
        f"{recipe['train']['context']} tokens a step, {recipe['train']['dtype']}; bits per byte of held-out stories. One run.",
        "",
        "| program | seconds | steps | tokens | English | Chinese |",
        "|-|-|-|-|-|-|",
    ]
    for name, run in runs.items():
        english, chinese = bits("stories/bits-per-byte", name), bits("chinese/bits-per-byte", name)
        figures = f"{run['seconds']:,.0f} | {run['steps']:,} | {run['tokens']:,} | {english:.3f} | {chinese:.3f}"
        lines.append(f"| {name} | {figures} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llmos", default=HERE.parent / "target" / "release" / "llmos", help="the program")
    parser.add_argument("--out", type=Path, required=True, help="a new folder for everything")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    parser.add_argument("--case", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        return train_torch(options.out / "run", options.out / "torch", options.case, options.threads)
    text = section(options, *measure(options))
    print(text)
    if options.write:
        peers.put_section(HEADING, text)


if __name__ == "__main__":
    main()
