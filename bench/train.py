#!/usr/bin/env python3
"""Measure steps of training beside PyTorch: the same model, in turns, medians, peak memory.

    pip install torch
    python3 bench/train.py [--llmos target/release/llmos] [--threads 2] [--rounds 3] [--shapes s m l] [--write]

The model is a Llama whose head is its embedding, in three shapes; a step is gradients of one batch of random tokens,
their norm clipped at 1, and AdamW. PyTorch's way is its fastest that we know: fused projections of queries, keys and
values and of gate and up, `scaled_dot_product_attention`, `rms_norm`, fused AdamW; eager and through torch.compile, in
single precision and with bfloat16 autocast, where llmos rounds operands of products to bfloat16. A figure is the median
step of a process, of at least --repeat steps and --seconds, after one that is not counted (which compiles); tables hold
medians over rounds. Memory is the highest resident size of the process, imports and compiler included; torch.compile
compiles in processes of its own, which do not count. Without --llmos only PyTorch is measured.

PyTorch gives memory back to the system after each use and takes it anew, in pages that the kernel has to clear:
`--allocator` sets MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ to 4 GB for it (glibc), so that it keeps what it
had. That is faster for PyTorch, and the default; `--no-allocator` measures it as it comes.

--json FILE writes every run; --write puts the table into RESULTS.md, in its own section. Standard library only, beside
PyTorch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import peers  # noqa: E402

HEADING = "## Training"
# Width, layers, heads, inner width, vocabulary, tokens of a row, rows of a batch.
SHAPES = {
    "s": (128, 4, 4, 344, 2048, 256, 32),
    "m": (288, 6, 6, 768, 4096, 256, 16),
    "l": (512, 8, 8, 1376, 8192, 512, 4),
}
MODES = ["eager", "compile"]
TYPES = ["f32", "bf16"]


def torch_step(shape, mode, kind, threads):
    """A function that does one step and gives its loss, and the tokens of a step."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    width, layers, heads, inner, vocabulary, time_, batch = SHAPES[shape]
    size = width // heads

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = nn.ParameterList([torch.ones(width), torch.ones(width)])
            self.qkv = nn.Linear(width, 3 * width, bias=False)
            self.out = nn.Linear(width, width, bias=False)
            self.gate_up = nn.Linear(width, 2 * inner, bias=False)
            self.down = nn.Linear(inner, width, bias=False)

        def forward(self, x, cos, sin):
            qkv = self.qkv(F.rms_norm(x, (width,), self.norms[0], 1e-5))
            q, k, v = (part.view(batch, time_, heads, size).transpose(1, 2) for part in qkv.chunk(3, -1))

            def turn(y):
                a, b = y.chunk(2, -1)
                return y * cos + torch.cat((-b, a), -1) * sin

            y = F.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(batch, time_, width))
            gate, up = self.gate_up(F.rms_norm(x, (width,), self.norms[1], 1e-5)).chunk(2, -1)
            return x + self.down(F.silu(gate) * up)

    class Llama(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(vocabulary, width)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.norm = nn.Parameter(torch.ones(width))
            angles = torch.outer(torch.arange(time_), 1e4 ** -(torch.arange(0, size, 2) / size)).repeat(1, 2)
            self.register_buffer("cos", angles.cos())
            self.register_buffer("sin", angles.sin())

        def forward(self, ids, targets):
            x = self.table(ids)
            cos, sin = (t.to(x.dtype) for t in (self.cos, self.sin))
            for block in self.blocks:
                x = block(x, cos, sin)
            logits = F.linear(F.rms_norm(x, (width,), self.norm, 1e-5), self.table.weight)
            return F.cross_entropy(logits.view(-1, vocabulary).float(), targets.view(-1))

    model = Llama()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, fused=True)
    loss_of = torch.compile(model) if mode == "compile" else model
    ids = torch.randint(vocabulary, (batch, time_ + 1))
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
            loss = loss_of(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step, batch * time_


def one(shape, mode, kind, threads, repeat, seconds):
    """What a process of its own does: prints a figure of PyTorch."""
    import resource

    step, tokens = torch_step(shape, mode, kind, threads)
    step()
    times, began = [], time.perf_counter()
    while len(times) < repeat or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rate = tokens / statistics.median(times)
    print(json.dumps({"tokens_per_s": rate, "peak_bytes": peak, "loss": loss, "steps": len(times)}))


def run_torch(options, shape, mode, kind):
    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads))
    if options.allocator:
        environment |= {"MALLOC_TRIM_THRESHOLD_": str(4 << 30), "MALLOC_MMAP_THRESHOLD_": str(4 << 30)}
    case = ["--case", shape, mode, kind, "--threads", options.threads, "--repeat", options.repeat]
    command = [sys.executable, __file__, *case, "--seconds", options.seconds]
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise peers.Failed(done.stderr[-500:])
    return json.loads(done.stdout.splitlines()[-1])


def run_llmos(options, shape, kind, repeat):
    """Steps are as many as PyTorch's were: its processes decide by time."""
    command = [options.llmos, "bench", "train", "--shape", shape, "--dtype", kind, "--threads", options.threads]
    report = json.loads(peers.execute([*command, "--repeat", repeat, "--json"], 600)[0])
    return {
        "tokens_per_s": report["tokens_per_s"],
        "peak_bytes": report["peak_memory_bytes"],
        "loss": report["loss"],
        "bound": report["gemm_bound_tokens_per_s"],
    }


def measure(options):
    """Runs by (shape, type, program), one after another in each round."""
    runs = {}
    for turn in range(options.rounds):
        for shape in options.shapes:
            for kind in options.types:
                programs = list(options.modes)
                if options.llmos:
                    programs.insert(turn % (len(programs) + 1), "llmos")
                for program in programs:
                    if program == "llmos":
                        result = run_llmos(options, shape, kind, options.repeat)
                    else:
                        result = run_torch(options, shape, program, kind)
                    runs.setdefault((shape, kind, program), []).append(result)
                    figures = f"{result['tokens_per_s']:,.0f} tokens/s, {result['peak_bytes'] / 1e6:.0f} MB"
                    print(shape, kind, program, figures, file=sys.stderr, flush=True)
    return runs


def table(options, runs):
    """Medians, and ratios to llmos' where it was measured."""
    lines = [
        "| shape | type | program | tokens/s | llmos is faster by | peak memory, MB | times llmos' |",
        "|-|-|-|-|-|-|-|",
    ]
    middle = lambda of, key: statistics.median(run[key] for run in of)  # noqa: E731
    for shape in options.shapes:
        for kind in options.types:
            own = runs.get((shape, kind, "llmos"))
            for program in (["llmos"] if own else []) + options.modes:
                these = runs[shape, kind, program]
                rate, peak = middle(these, "tokens_per_s"), max(run["peak_bytes"] for run in these)
                name = program if program == "llmos" else f"PyTorch {program}"
                ratios = ("-", "-")
                if own and program != "llmos":
                    most = max(run["peak_bytes"] for run in own)
                    ratios = (f"{middle(own, 'tokens_per_s') / rate:.2f}", f"{peak / most:.2f}")
                lines.append(f"| {shape} | {kind} | {name} | {rate:,.0f} | {ratios[0]} | {peak / 1e6:.0f} | {ratios[1]} |")
    return "\n".join(lines) + "\n"


def section(options, runs):
    version = "from importlib.metadata import version; print(version('torch'))"
    programs = [f"PyTorch {peers.execute([sys.executable, '-c', version], 60)[0].strip()}"]
    if options.llmos:
        programs.insert(0, f"llmos {peers.execute([options.llmos, '--version'], 20)[0].split()[-1]}")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    shapes = "; ".join(
        f"{name}: width {w}, {n} layers, {h} heads, inner width {f}, vocabulary {v}, {b} rows of {t} tokens"
        for name, (w, n, h, f, v, t, b) in SHAPES.items()
        if name in options.shapes
    )
    allocator = "keeps memory (see the script)" if options.allocator else "as it comes"
    return "\n".join(
        [
            HEADING,
            "",
            "Made by `bench/train.py`, which says what is measured.",
            "",
            f"- **Machine.** {peers.cpu()[0]}, {os.cpu_count()} logical cores; Linux {os.uname().release}; {date.today()}.",
            f"- **Programs.** {'; '.join(programs)}; {options.threads} threads; PyTorch's allocator {allocator}. llmos' "
            f"commit: {commit.stdout.strip() or '-'}.",
            f"- **Shapes.** {shapes}.",
            f"- **How.** Medians of {options.rounds} rounds in turns; peak memory is the highest.",
            "",
            table(options, runs),
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llmos", help="the program; without it only PyTorch is measured")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--types", nargs="+", default=TYPES, choices=TYPES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=5, help="steps of a process, at least")
    parser.add_argument("--seconds", type=float, default=3, help="seconds of PyTorch's steps, at least")
    parser.add_argument("--allocator", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--case", nargs=3, metavar=("SHAPE", "MODE", "TYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        return one(*options.case, options.threads, options.repeat, options.seconds)
    runs = measure(options)
    if options.json:
        flat = [dict(zip(("shape", "type", "program"), cell)) | run for cell, of in runs.items() for run in of]
        options.json.write_text(json.dumps(flat, indent=1) + "\n")
    text = section(options, runs)
    print(text)
    if options.write:
        peers.put_section(HEADING, text)


if __name__ == "__main__":
    main()
