#!/usr/bin/env python3
"""Prove that what `llmos pretrain` writes is a standard model: transformers and llama.cpp load it, and say the same.

    pip install -r requirements.txt
    python check_run.py LLMOS [--only WORD] [--keep FOLDER]

LLMOS is the built program. One line a check; exit code 1 if one fails. --only runs the checks whose name contains the
word, and the training that they need. The models are trained here, for seconds, on a text that is made here.
"""

import functools
import json
import math
import random
import re
import struct
import subprocess
import sys

import numpy as np

from check_files import (
    N_NEW,
    TOLERANCE,
    Checks,
    Failed,
    LlamaCpp,
    Transformers,
    compare,
    compare_greedy,
    logprobs,
    tensor_types,
)

CONTEXT = 64
N_STEP = 150
SHAPE = ["--set", "model.n_layer=4", "--set", "model.d_model=64", "--set", f"train.context={CONTEXT}"]
TRAINING = ["--set", "train.batch=8", "--steps", N_STEP, "--save-every", 25, "--eval-every", 50, "--threads", 2]
BPE = ["--set", "model.vocab_size=512"]
LLAMA = ["--set", "model.qk_norm=false", "--set", "model.tied_head=false"]
# What differs between the runs; all are 4 layers of width 64.
RUNS = {
    "qwen3": BPE,
    # Two query heads share a key: rows of heads change their places on the way to GGUF.
    "llama": [*BPE, *LLAMA, "--set", "model.n_head=4", "--set", "model.n_kv_head=2"],
    "char": ["--set", "data.tokenizer=char"],
}
# Nats: weights and products are float32 on both sides, summed in another order.
CLOSE = 1e-3
PROMPTS = ["Anna ", "The old baker asked Tom", "“What a fine day!” said "]
# Characters that the text lacks, spaces in a row, what a tokenizer may take for something else.
TEXTS = [
    *PROMPTS,
    "",
    "Look!  Two   spaces,\n\n\ttabs and\r\nlines \n",
    "the naïve fox — 3,141.59 café’s!!!",
    "Übermut, 你好, мир, 🙂, #hash @at <0x0A> ▁mark <s> \\n",
]

NAMES = "Anna Tom Lily Ben Zoë René Mia Jack".split()
PEOPLE = "baker,naïve fox,old teacher,little girl,tired king,clever cat".split(",")
THINGS = "apple,red ball,wooden boat,warm coat,letter from the sea,piece of cake,silver key,café’s table".split(",")
PLACES = "in the garden,by the river,under a tree,at school,on the hill,near the old mill".split(",")
DEEDS = "found,lost,carried,wanted,painted,hid,gave away,looked for".split(",")
SAYINGS = "What a fine day,Look at this,Please help me,I am not afraid,Come and play,Let us go home".split(",")


def make_text(n_byte):
    """English of about so many bytes, always the same: documents of simple sentences."""
    draw = random.Random(1)
    pick = draw.choice

    def sentence():
        who = pick([pick(NAMES), f"the {pick(PEOPLE)}", f"{pick(NAMES)} and {pick(NAMES)}"])
        who = who[0].upper() + who[1:]
        mark = pick("..!?")
        return pick(
            [
                f"{who} {pick(DEEDS)} the {pick(THINGS)} {pick(PLACES)}.",
                f"“{pick(SAYINGS)}!” said {pick(NAMES)}.",
                f"{who} counted {draw.randrange(2, 1000):,} steps — {pick(PLACES)}{mark}",
                f"{who} asked {pick(NAMES)}: “Who {pick(DEEDS)} my {pick(THINGS)}?”",
                f"Then {pick(NAMES)} {pick(DEEDS)} it again{mark}",
            ]
        )

    documents, size = [], 0
    while size < n_byte:
        paragraphs = [" ".join(sentence() for _ in range(draw.randrange(3, 9))) for _ in range(40)]
        documents.append("\n\n".join(paragraphs) + "\n")
        size += len(documents[-1].encode())
    return "<|endoftext|>".join(documents)


def held_out(run):
    """The held-out ids (T), and the bytes of text that they stand for."""
    part = json.loads((run / "data" / "manifest.json").read_text())["validation"]
    ids = []
    for shard in part["shards"]:
        blob = (run / "data" / shard["file"]).read_bytes()
        magic, version, width, bound, first, count = struct.unpack("<8sIIQQQ", blob[:40])
        if (magic, version, first, count) != (b"LLMOSTOK", 1, len(ids), shard["tokens"]):
            raise Failed(f"{shard['file']}: header {magic} {version} {first} {count}, manifest {shard}")
        ids += np.frombuffer(blob, f"<u{width}", count, 64).tolist()
        if max(ids) >= bound:
            raise Failed(f"{shard['file']}: id {max(ids)}, and the bound is {bound}")
    return ids, part["bytes"]


def rows(run):
    """The rows of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


class Runs(Checks):
    """The checks of one folder of runs."""

    def __init__(self, llmos, only, work):
        super().__init__(llmos, only, work)
        self.text = work / "text.txt"
        self.text.write_text(make_text(200_000), encoding="utf-8", newline="")

    def command(self, name, out):
        return ["pretrain", "--data", self.text, *SHAPE, *TRAINING, *RUNS[name], "--out", out]

    @functools.cache
    def trained(self, name):
        """The folder of a run, which is trained when it is first asked for."""
        out = self.work / name
        self.llmos(*self.command(name, out))
        return out

    def tokenize(self, model, text):
        return [int(id) for id in self.llmos("tokenize", model, "--ids", stdin=text.encode()).split()]

    def check_texts(self, peer, model, texts):
        for text in texts:
            ours, theirs = self.tokenize(model, text), peer.encode(text)
            if ours != theirs:
                raise Failed(f"{model.name} encodes {text!r} as {ours}, not {theirs}")
        return f"{len(texts)} texts"

    def check_numbers(self, peer, model, tolerance):
        """Log-probabilities of held-out text, and what is written after each prompt."""
        ids = held_out(self.trained(model.stem.split("-")[0]))[0][:CONTEXT]
        said = [compare("log-probabilities", self.llmos.score(model, ids), logprobs(peer.logits(ids), ids), tolerance)]
        for prompt in PROMPTS:
            said.append(compare_greedy(peer, prompt, self.llmos.write(model, prompt), tolerance))
        return ", ".join(said)

    def in_transformers(self, name):
        run = self.trained(name)
        peer = Transformers(run)
        said = [type(peer.model).__name__, self.check_texts(peer, run, TEXTS), self.check_numbers(peer, run, CLOSE)]
        # A vocabulary of characters has no token from which a dream begins.
        if start := peer.tokenizer.bos_token:
            dream = self.llmos("dream", run, "-n", N_NEW, "--temp", "0").decode()
            said.append("dream " + compare_greedy(peer, start, dream, CLOSE))
        return ", ".join(said)

    def in_llama_cpp(self, name, kind):
        run = self.trained(name)
        out = self.work / f"{name}-{kind}.gguf"
        self.llmos.convert(run, out, kind)
        peer, theirs = LlamaCpp(out), Transformers(run)
        if peer.stops() != theirs.stops() - {None}:
            raise Failed(f"texts end with {peer.stops()}, in transformers with {theirs.stops()}")
        known = set(self.text.read_text(encoding="utf-8"))
        # What a vocabulary of characters lacks is no token for llama.cpp, or an endless loop.
        texts = [text for text in TEXTS if name != "char" or set(text) <= known]
        said = [f"{len(tensor_types(out))} types", self.check_texts(peer, run, texts)]
        if kind == "f32":
            self.check_texts(peer, out, texts)
            ids = theirs.encode(PROMPTS[1])
            said.append("logits " + compare("logits", peer.logits(ids), theirs.logits(ids), CLOSE))
            # Its own loop, with what it takes for the start and the end of a text.
            for prompt in PROMPTS:
                choices = peer.model.create_completion(prompt, max_tokens=N_NEW, temperature=0)["choices"]
                ours = self.llmos.write(run, prompt)
                if choices[0]["text"].rstrip("\n") != ours.rstrip("\n"):
                    raise Failed(f"after {prompt!r} it writes {choices[0]['text']!r}, and llmos {ours!r}")
        return ", ".join([*said, self.check_numbers(peer, out, CLOSE if kind == "f32" else TOLERANCE[kind])])

    def back(self, name):
        """Run -> f32 GGUF -> folder: as in transformers before, and as llmos reads the GGUF."""
        run = self.trained(name)
        middle, out = self.work / f"{name}-back.gguf", self.work / f"{name}-back"
        self.llmos.convert(run, middle, "f32")
        self.llmos.convert(middle, out)
        before, after = Transformers(run), Transformers(out)
        said = [self.check_texts(after, model, TEXTS) for model in (run, middle)]
        if (before.stops(), before.tokenizer.bos_token) != (after.stops(), after.tokenizer.bos_token):
            raise Failed(f"texts end with {before.stops()}, and then with {after.stops()}")
        ids = before.encode(PROMPTS[1])
        return f"{said[0]}, {compare('logits', after.logits(ids), before.logits(ids), 1e-5)}"

    def held_out_loss(self, name):
        """The last row's bits per byte are what transformers makes of the same ids."""
        run = self.trained(name)
        (ids, n_byte), peer = held_out(run), Transformers(run)
        nats = 0.0
        for first in range(0, len(ids) - 1, CONTEXT):
            nats -= logprobs(peer.logits(window := ids[first : first + CONTEXT + 1]), window).sum()
        theirs = nats / math.log(2) / n_byte
        ours = rows(run)[-1]["val_bits_per_byte"]
        if not abs(ours / theirs - 1) <= 1e-4:
            raise Failed(f"{ours} bits per byte, and {theirs} in transformers")
        return f"{ours:.5f} bits per byte of {n_byte} bytes, {abs(ours / theirs - 1):.1e} from transformers"

    def resumed(self, name):
        """A run that is killed in the middle and gone on with ends in the same bytes."""
        run, out = self.trained(name), self.work / f"{name}-killed"
        command = [self.llmos.path, *map(str, self.command(name, out))]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
            for line in process.stderr:
                if (step := re.match(r"step 0*(\d+)/", line)) and int(step[1]) > N_STEP // 2:
                    break
            process.kill()
        if process.returncode != -9 or (out / "model.safetensors").exists():
            raise Failed(f"ended by itself, with {process.returncode}")
        killed = len(rows(out))
        self.llmos("pretrain", "--resume", out)
        for file in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
            if (out / file).read_bytes() != (run / file).read_bytes():
                raise Failed(f"{file} differs")
        timeless = lambda row: {key: row[key] for key in row if key not in ("tokens_per_s", "step_ms", "seconds")}
        if [timeless(row) for row in rows(out)] != [timeless(row) for row in rows(run)]:
            raise Failed("metrics.jsonl differs in more than times")
        return f"killed after step {killed}, the same bytes after {N_STEP}"


def every(checks, _options):
    for name in RUNS:
        checks.run(f"run {name} in transformers", lambda: checks.in_transformers(name))
        for kind in ("f32", "q8_0"):
            checks.run(f"run {name} to {kind} in llama.cpp", lambda: checks.in_llama_cpp(name, kind))
        checks.run(f"run {name} to GGUF and back in transformers", lambda: checks.back(name))
        checks.run(f"run {name} predicts held-out text as in transformers", lambda: checks.held_out_loss(name))
        checks.run(f"run {name} killed and resumed", lambda: checks.resumed(name))


if __name__ == "__main__":
    sys.exit(Runs.main(__doc__, every))
