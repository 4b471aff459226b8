#!/usr/bin/env python3
"""Measure finetuning beside TRL: the same model, the same rows, tokens a second and peak memory.

    pip install torch transformers trl peft datasets
    python3 bench/finetune.py [--llmos target/release/llmos] [--threads 2] [--rounds 1] [--steps 8] [--write]

The model is a Qwen3 of random weights (width 512, 8 layers, 8 heads of 64, inner width 1376, vocabulary 8192, tied
head: 30 million parameters) with the tokenizer of testdata/finetune. Rows are conversations of 60 to 500 tokens, 16 a
step; all weights learn, or LoRA of rank 16 beside every linear layer. A figure counts tokens without padding: the
median step of a process, the first left out. TRL runs its SFTTrainer in float32 with its defaults, gradient
checkpointing off, which is faster. Memory is the highest resident size of the process.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import peers  # noqa: E402

HEADING = "## Finetuning"
GOLDEN = HERE.parent / "testdata" / "finetune"
BATCH = 16


def make(folder):
    """The model and the rows."""
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "base")
    config = Qwen3Config(
        vocab_size=8192, hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=8, head_dim=64, max_position_embeddings=1024, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    words = "the a cat dog tree sun red small runs sees likes house water bread and then with over under".split()
    draw = random.Random(1)
    with open(folder / "chats.jsonl", "w", encoding="utf-8") as file:
        for _ in range(1024):
            text = lambda n: " ".join(draw.choice(words) for _ in range(n))  # noqa: E731
            messages = []
            for _ in range(draw.choice([1, 1, 2, 3])):
                messages.append({"role": "user", "content": text(draw.randint(4, 20))})
                messages.append({"role": "assistant", "content": text(draw.randint(4, 40))})
            file.write(json.dumps({"messages": messages}) + "\n")


def trl(folder, kind, threads, steps):
    """Run in a process of its own; prints tokens a second and bytes."""
    import resource

    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(threads)
    rows = [json.loads(line) for line in (folder / "chats.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    tokenizer.chat_template = (GOLDEN / "marked.jinja").read_text()
    config = SFTConfig(
        output_dir=str(folder / "trl"), per_device_train_batch_size=BATCH, max_steps=steps, learning_rate=1e-4,
        assistant_only_loss=True, logging_steps=1000, report_to=[], use_cpu=True, save_strategy="no", max_length=None,
        bf16=False, gradient_checkpointing=False, disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    seen = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.start = time.perf_counter()

        def on_step_end(self, *_, **__):
            seen.append(time.perf_counter() - self.start)

    counts = []

    class Counting(SFTTrainer):
        def training_step(self, model, inputs, *rest, **more):
            counts.append(int(inputs["attention_mask"].sum()))
            return super().training_step(model, inputs, *rest, **more)

    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear") if kind == "lora" else None
    trainer = Counting(
        model=AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32), args=config,
        train_dataset=Dataset.from_list(rows), processing_class=tokenizer, peft_config=adapter, callbacks=[Clock()],
    )  # fmt: skip
    trainer.train()
    speeds = [n / s for n, s in zip(counts, seen)][1:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"tokens_per_s": statistics.median(speeds), "peak_memory_bytes": peak}))


def llmos(program, folder, kind, threads, steps):
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        done = subprocess.run(
            [program, "finetune", folder / "base", "--data", folder / "chats.jsonl", "--out", out, "--batch", str(BATCH),
             "--steps", str(steps), "--threads", str(threads), "--lr", "1e-4", "--json", "-q", "--save-every", "0",
             "--eval-every", "0", *(["--lora", "r=16"] if kind == "lora" else [])],
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    speed = statistics.median(row["tokens_per_s"] for row in rows[1:])
    return {"tokens_per_s": speed, "peak_memory_bytes": json.loads(done.stdout)["peak_memory_bytes"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llmos", type=Path, default=Path("target/release/llmos"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    parser.add_argument("--trl", nargs=2, metavar=("FOLDER", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trl:
        trl(Path(options.trl[0]), options.trl[1], options.threads, options.steps)
        return
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(folder)
        for _ in range(options.rounds):
            for kind in ("full", "lora"):
                environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(options.threads)}
                done = subprocess.run(
                    [sys.executable, __file__, "--trl", folder, kind, "--threads", str(options.threads), "--steps",
                     str(options.steps)],
                    check=True, stdout=subprocess.PIPE, text=True, env=environment,
                )  # fmt: skip
                theirs = json.loads(done.stdout.splitlines()[-1])
                ours = llmos(options.llmos.resolve(), folder, kind, options.threads, options.steps)
                for name, figure in (("llmos", ours), ("TRL", theirs)):
                    found.setdefault((kind, name), []).append(figure)
                    megabytes = figure["peak_memory_bytes"] / 1e6
                    print(f"{kind} {name} {figure['tokens_per_s']:.0f} tokens/s, {megabytes:.0f} MB", flush=True)
    lines = ["| what learns | program | tokens/s | llmos is faster by | peak memory, MB | times llmos' |", "|-|-|-|-|-|-|"]
    for (kind, name), figures in sorted(found.items(), key=lambda item: (item[0][0], item[0][1] != "llmos")):
        speed = statistics.median(figure["tokens_per_s"] for figure in figures)
        memory = max(figure["peak_memory_bytes"] for figure in figures) / 1e6
        ours = found[(kind, "llmos")]
        own_speed = statistics.median(figure["tokens_per_s"] for figure in ours)
        own_memory = max(figure["peak_memory_bytes"] for figure in ours) / 1e6
        ratios = ("-", "-") if name == "llmos" else (f"{own_speed / speed:.2f}", f"{memory / own_memory:.2f}")
        lines.append(f"| {kind} | {name} | {speed:,.0f} | {ratios[0]} | {memory:,.0f} | {ratios[1]} |")
    import peft
    import torch
    import trl as trl_package

    text = "\n".join([
        HEADING, "", "Made by `bench/finetune.py`, which says what is measured.", "",
        f"- **Machine.** {peers.cpu()[0]}, {os.cpu_count()} logical cores; Linux {platform.release()}; {date.today()}.",
        f"- **Programs.** PyTorch {torch.__version__.split('+')[0]}, TRL {trl_package.__version__}, PEFT "
        f"{peft.__version__}; {options.threads} threads; Python {platform.python_version()}.",
        f"- **How.** Medians of {options.rounds} rounds in turns; peak memory is the highest.", "", *lines, "",
    ])  # fmt: skip
    print(text)
    if options.write:
        peers.put_section(HEADING, text)


if __name__ == "__main__":
    main()
