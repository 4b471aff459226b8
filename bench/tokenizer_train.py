#!/usr/bin/env python3
"""Measure tokenizer training beside Hugging Face tokenizers and rustbpe: the same text, in turns, medians.

    pip install tokenizers rustbpe
    python3 bench/tokenizer_train.py TEXT --llmos target/release/llmos [--vocab 8192] [--rounds 5] [--threads 2] [--write]

TEXT is a file; the figures in RESULTS.md are of the first 20,000,000 bytes of 755 books of
mlschmitt/classic-books-markdown (public domain), joined in the order of their paths, a newline after each. Every
program runs as a process of its own. llmos' time is that of the whole process; a peer's goes from before it reads the
file to the trained vocabulary, without Python's start and imports. rustbpe is given the text in parts of 64 KiB and to
the line's end, which is faster than lines; Hugging Face tokenizers reads the file, which takes less memory than parts
do, but line by line, so that it learns no words across ends of lines. All cut words by the same pattern: GPT-2's, which
Hugging Face's byte-level pre-tokenizer has built in, and Qwen2's. Memory is the process's peak. Bytes a token is of the
whole text; llmos' vocabulary is loaded in Hugging Face tokenizers for it.

--write puts the table into RESULTS.md, in its own section. Standard library only, beside the two peers.
"""

import argparse
import os
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

PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
}
HEADING = "## Tokenizer training"

# Each prints seconds; with an argument more, also bytes a token of the whole text.
RUSTBPE = """
import sys, time, rustbpe
path, vocab, pattern, rate = sys.argv[1], int(sys.argv[2]), sys.argv[3], len(sys.argv) > 4
def parts(file):
    while text := file.read(1 << 16):
        yield text + file.readline()
start = time.monotonic()
tokenizer = rustbpe.Tokenizer()
with open(path, encoding="utf-8", newline="") as file:
    tokenizer.train_from_iterator(parts(file), vocab_size=vocab - 1, pattern=pattern)
print(time.monotonic() - start)
if rate:
    text = open(path, encoding="utf-8", newline="").read()
    print(len(text.encode()) / len(tokenizer.encode(text)))
"""
TOKENIZERS = """
import sys, time
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
path, vocab, pattern, rate = sys.argv[1], int(sys.argv[2]), sys.argv[3], len(sys.argv) > 4
start = time.monotonic()
tokenizer = Tokenizer(models.BPE())
own = pattern.startswith("'(?:")
byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=own)
split = pre_tokenizers.Split(Regex(pattern), "isolated")
tokenizer.pre_tokenizer = byte_level if own else pre_tokenizers.Sequence([split, byte_level])
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(
    vocab_size=vocab, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
)
tokenizer.train([path], trainer)
print(time.monotonic() - start)
if rate:
    text = open(path, encoding="utf-8", newline="").read()
    print(len(text.encode()) / len(tokenizer.encode(text, add_special_tokens=False).ids))
"""


# Bytes a token of llmos' vocabulary.
RATE = """
import sys
from tokenizers import Tokenizer
text = open(sys.argv[2], encoding="utf-8", newline="").read()
print(len(text.encode()) / len(Tokenizer.from_file(sys.argv[1]).encode(text, add_special_tokens=False).ids))
"""


def llmos(arguments, pattern, threads, rate):
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/t.json"
        command = [arguments.llmos, "tokenizer", "train", arguments.text, "--vocab", arguments.vocab]
        command += ["--pattern", pattern, "--threads", threads, "--out", file, "-q"]
        _, seconds, peak = peers.execute(command, 600)
        more = peers.execute([sys.executable, "-c", RATE, file, arguments.text], 600)[0] if rate else "nan"
        return seconds, peak, float(more)


def peer(program, arguments, pattern, threads, rate):
    """Both peers' threads are rayon's."""
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    more = ["rate"] if rate else []
    command = [sys.executable, "-c", program, arguments.text, arguments.vocab, PATTERNS[pattern], *more]
    out, _, peak = peers.execute(command, 600)
    figures = [float(line) for line in out.split()]
    return figures[0], peak, figures[-1]


def busy():
    """Seconds that all processors have worked, and those that this process's children have."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    user, nice, system, _, _, irq, softirq, steal = fields
    all_seconds = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    times = os.times()
    return all_seconds, times.children_user + times.children_system


def undisturbed(run, limit):
    """Runs until others have taken at most `limit` of a processor meanwhile."""
    while True:
        before, start = busy(), time.monotonic()
        result = run()
        after, seconds = busy(), time.monotonic() - start
        others = (after[0] - before[0]) - (after[1] - before[1])
        if others <= limit * seconds + 0.02:
            return result
        time.sleep(3)


PROGRAMS = {
    "llmos": llmos,
    "rustbpe": lambda *rest: peer(RUSTBPE, *rest),
    "tokenizers": lambda *rest: peer(TOKENIZERS, *rest),
}


def measure(arguments, pattern):
    """Rows of (program, threads, median seconds, highest peak, bytes a token)."""
    threads = sorted({1, arguments.threads})
    cells = [(name, n) for n in threads for name in PROGRAMS]
    runs = {cell: [] for cell in cells}
    for turn in range(arguments.rounds):
        for name, n in cells[turn % len(cells) :] + cells[: turn % len(cells)]:
            run = lambda: PROGRAMS[name](arguments, pattern, n, False)  # noqa: B023, E731
            runs[name, n].append(undisturbed(run, arguments.others))
            print(pattern, name, n, *[f"{value:.4g}" for value in runs[name, n][-1][:2]], file=sys.stderr)
    rates = {name: PROGRAMS[name](arguments, pattern, arguments.threads, True)[2] for name in PROGRAMS}
    rows = []
    for name, n in cells:
        seconds = statistics.median(run[0] for run in runs[name, n])
        rows.append((name, n, seconds, max(run[1] for run in runs[name, n]), rates[name]))
    return rows


def section(arguments, results):
    versions = [f"llmos {peers.execute([arguments.llmos, '--version'], 20)[0].split()[-1]}"]
    for name in ("rustbpe", "tokenizers"):
        code = f"from importlib.metadata import version; print(version({name!r}))"
        versions.append(f"{name} {peers.execute([sys.executable, '-c', code], 20)[0].strip()}")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    size = Path(arguments.text).stat().st_size
    lines = [
        HEADING,
        "",
        "Made by `bench/tokenizer_train.py`, which says what is measured.",
        "",
        f"- **Machine.** {peers.cpu()[0]}, {os.cpu_count()} logical cores; Linux {os.uname().release}; {date.today()}.",
        f"- **Programs.** {'; '.join(versions)}. llmos' commit: {commit.stdout.strip() or '-'}.",
        f"- **Text.** {size:,} bytes of English, vocabulary {int(arguments.vocab):,}; medians of {arguments.rounds} "
        f"rounds in turns. Runs are repeated where other programs took more than {arguments.others} of a processor.",
        "",
        "| pattern | program | threads | seconds | times llmos' | peak memory, MB | times llmos' | bytes a token |",
        "|-|-|-|-|-|-|-|-|",
    ]
    for pattern, rows in results.items():
        own = {n: (seconds, peak) for name, n, seconds, peak, _ in rows if name == "llmos"}
        for name, n, seconds, peak, rate in rows:
            lines.append(
                f"| {pattern} | {name} | {n} | {seconds:.3f} | {seconds / own[n][0]:.1f} | {peak / 1e6:.0f} "
                f"| {peak / own[n][1]:.1f} | {rate:.4f} |"
            )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--llmos", default=str(HERE.parent / "target/release/llmos"))
    parser.add_argument("--vocab", default="8192")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--others", type=float, default=0.1, help="processors that others may use during a run")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    text = section(arguments, {pattern: measure(arguments, pattern) for pattern in PATTERNS})
    print(text)
    if arguments.write:
        peers.put_section(HEADING, text)


if __name__ == "__main__":
    main()
