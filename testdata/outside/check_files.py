#!/usr/bin/env python3
"""Prove that the files llmos writes load in llama.cpp and in transformers, and give the same text there.

    pip install -r requirements.txt
    python check_files.py LLMOS [--only WORD] [--stories FILE.gguf] [--keep FOLDER]

LLMOS is the built program. One line a check; exit code 1 if one fails. --only runs the checks whose name contains the
word. Models: the tiny llama and qwen3 of ../architectures, two wider ones made on the fly (K-quants need rows of 256),
the bundled stories260K, and a model of each other architecture.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

import sources
from sources import ARCHITECTURES, MODELS, NOT_IN_LLAMA_CPP, SET_ASIDE

TYPES = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_m", "q5_k_m", "q6_k"]
# The greatest difference of a log-probability, in nats. Both sides round activations in their own way: llama.cpp to
# float16, bfloat16 or 8 bits before it multiplies by a weight of that type. Measured on these models: llama.cpp with
# Q8_0 and Q4_K_M is up to 0.04 away from transformers, which does not round them, with the same weights.
TOLERANCE = {"f32": 2e-3, "f16": 2e-2, "bf16": 1e-1} | dict.fromkeys(TYPES[3:], 1.5e-1)
# The tensor types that must be present in a wide model's file.
PRESENT = {
    "f32": {"F32"},
    "f16": {"F16"},
    "bf16": {"BF16"},
    "q8_0": {"Q8_0"},
    "q4_0": {"Q4_0"},
    "q4_k_m": {"Q4_K", "Q6_K"},
    "q5_k_m": {"Q5_K", "Q6_K"},
    "q6_k": {"Q6_K"},
}
N_NEW = 20
TIMEOUT_S = 120


class Failed(Exception):
    """A check that did not hold."""


class Llmos:
    """The program under test."""

    def __init__(self, path):
        self.path = str(Path(path).resolve())
        # Exact where there is a choice: the files are checked here, not the kernels.
        self.environment = os.environ | {"LLMOS_CACHE_TYPE": "f32", "LLMOS_PRECISION": "exact"}

    def __call__(self, *arguments, stdin=b""):
        command = [self.path, *map(str, arguments)]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=TIMEOUT_S, env=self.environment)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command[1:])}: exit {done.returncode}: {done.stderr.decode()[-400:].strip()}")
        return done.stdout

    def convert(self, source, out, kind=None):
        self("convert", source, out, *(("--type", kind) if kind else ()))
        if not Path(out).exists():
            raise Failed(f"convert {source}: exit 0, but {out} is missing")

    def score(self, model, ids):
        """The log-probabilities of ids[1:] (T - 1)."""
        scored = json.loads(self("score", model, "--ids", " ".join(map(str, ids)), "--each", "--json"))
        each = scored["each"]
        if [one["id"] for one in each] != ids or each[0]["logprob"] is not None:
            raise Failed(f"score: ids or the first null differ: {each[:2]}")
        return np.array([one["logprob"] for one in each[1:]])

    def write(self, model, prompt):
        """The greedy continuation of a prompt."""
        return self("run", model, "-p", prompt, "-n", N_NEW, "--temp", "0").decode(errors="replace")


class LlamaCpp:
    """A GGUF file in llama.cpp, with a float32 KV cache."""

    def __init__(self, path):
        f32 = llama_cpp.GGML_TYPE_F32
        self.model = llama_cpp.Llama(
            str(path), n_ctx=128, logits_all=True, type_k=f32, type_v=f32, n_threads=1, verbose=False
        )

    def logits(self, ids):
        """ids (T) -> logits (T, V)."""
        self.model.reset()
        self.model.eval(ids)
        return np.array(self.model.scores[: len(ids)], dtype=np.float64)

    def encode(self, text, special=False):
        return self.model.tokenize(text.encode(), add_bos=special, special=special)

    def decode(self, ids):
        return self.model.detokenize(ids, special=False).decode(errors="replace")

    def stops(self):
        vocabulary = llama_cpp.llama_model_get_vocab(self.model.model)
        return {id for id in range(self.model.n_vocab()) if llama_cpp.llama_vocab_is_eog(vocabulary, id)}


class Transformers:
    """A Hugging Face folder in transformers, float32."""

    def __init__(self, folder):
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def logits(self, ids):
        """ids (T) -> logits (T, V)."""
        with torch.no_grad():
            return self.model(torch.tensor([ids])).logits[0].double().numpy()

    def encode(self, text, special=False):
        return self.tokenizer.encode(text, add_special_tokens=special)

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def stops(self):
        eos = self.model.config.eos_token_id
        return set(eos) if isinstance(eos, list) else {eos}


def logprobs(logits, ids):
    """logits (T, V), ids (T) -> log-probabilities of ids[1:] (T - 1)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    normal = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normal[np.arange(len(ids) - 1), ids[1:]]


def compare(name, ours, theirs, tolerance):
    difference = float(np.abs(ours - theirs).max())
    if not difference <= tolerance:
        raise Failed(f"{name} differ by {difference:.2e}, more than {tolerance:.0e}")
    return f"{difference:.1e}"


def compare_greedy(peer, prompt, ours, tolerance):
    """Ours is the peer's greedy continuation, or leaves it where the peer's own choice is within the tolerance."""
    ids = peer.encode(prompt, special=True)
    begun = peer.decode(ids)
    new = []
    while len(new) < N_NEW:
        best = np.sort(logits := peer.logits(ids + new)[-1])[-2:]
        token = int(logits.argmax())
        text = peer.decode(ids + new + [token])[len(begun) :]
        stop = token in peer.stops()
        done = peer.decode(ids + new)[len(begun) :]
        same = ours.rstrip("\n") == done.rstrip("\n") if stop else ours.startswith(text.rstrip("\ufffd"))
        if not same:
            margin = float(best[1] - best[0])
            if margin > 2 * tolerance:
                raise Failed(f"greedy text leaves at token {len(new)} (margin {margin:.3f}): {ours!r}, not {text!r}")
            return f"{len(new)} tokens, then a choice within {margin:.3f}"
        if stop:
            return f"{len(new)} tokens and the end"
        new.append(token)
    if len(ours.rstrip("\n")) > len(text):
        raise Failed(f"greedy text is longer than {N_NEW} tokens: {ours!r}")
    return f"{len(new)} tokens"


def texts(folder):
    return json.loads((folder / "text.json").read_text())


def check_same_text(peer, golden):
    for one in golden["encode"]:
        ids = peer.encode(one["text"])
        if one["text"] and ids != one["ids"]:
            raise Failed(f"encodes {one['text']!r} as {ids}, not {one['ids']}")


def tensor_types(path):
    return Counter(tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors)


class Checks:
    def __init__(self, llmos, only, work):
        self.llmos, self.only, self.work = llmos, only, work
        self.n_run = self.n_failed = 0

    @classmethod
    def main(cls, doc, every, **more):
        """Reads the command line, runs every(checks, options) and gives the exit code. more: flag -> default path."""
        parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("llmos", help="path of the built llmos")
        parser.add_argument("--only", default="", help="run the checks whose name contains this")
        parser.add_argument("--keep", type=Path, help="write the files here and leave them (must not exist)")
        for flag, default in more.items():
            parser.add_argument(f"--{flag}", default=default, type=Path)
        options = parser.parse_args()
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as scratch:
            work = options.keep or Path(scratch) / "work"
            work.mkdir(parents=True)
            checks = cls(Llmos(options.llmos), options.only, work)
            every(checks, options)
        print(f"{checks.n_run - checks.n_failed} of {checks.n_run} checks hold")
        return 1 if checks.n_failed or not checks.n_run else 0

    def run(self, name, body):
        """Runs one check and prints its line. body() -> what to say of it."""
        if self.only not in name:
            return
        self.n_run += 1
        try:
            print(f"ok      {name}: {body()}", flush=True)
        except Exception as error:  # whatever a peer raises is this check's failure, and the next one runs
            self.n_failed += 1
            print(f"FAILED  {name}: {type(error).__name__}: {error}", flush=True)

    def folder_to_gguf(self, name, folder, kind, wide):
        """Folder -> GGUF of a type: llama.cpp loads it, encodes, scores and writes as llmos does."""
        out = self.work / f"{name}-{kind}.gguf"
        self.llmos.convert(folder, out, kind)
        types = tensor_types(out)
        if wide and not PRESENT[kind] <= set(types):
            raise Failed(f"tensor types {dict(types)}, expected {PRESENT[kind]}")
        peer, golden = LlamaCpp(out), texts(folder)
        check_same_text(peer, golden)
        said = []
        for one in golden["greedy"]:
            ids = one["prompt_ids"] + one["new_ids"]
            theirs = logprobs(peer.logits(ids), ids)
            said.append(compare("log-probabilities", self.llmos.score(out, ids), theirs, TOLERANCE[kind]))
            ours = self.llmos.write(out, one["prompt"])
            said.append(compare_greedy(peer, one["prompt"], ours, TOLERANCE[kind]))
            if kind == "f32" and ours.rstrip("\n") != one["text"]:
                raise Failed(f"writes {ours!r}, and transformers {one['text']!r}")
        return ", ".join(said)

    def gguf_to_folder(self, name, source, prompts, kind):
        """GGUF -> folder: transformers loads it, scores and writes as llmos does from the GGUF."""
        out = self.work / f"{name}-folder"
        self.llmos.convert(source, out)
        peer, origin = Transformers(out), LlamaCpp(source)
        said = []
        for prompt in prompts:
            ids = peer.encode(prompt, special=True)
            if ids != origin.encode(prompt, special=True):
                raise Failed(f"the folder encodes {prompt!r} as {ids}, the file as {origin.encode(prompt, True)}")
            theirs = logprobs(peer.logits(ids), ids)
            for model in (source, out):
                said.append(compare("log-probabilities", self.llmos.score(model, ids), theirs, TOLERANCE[kind]))
            said.append(compare_greedy(peer, prompt, self.llmos.write(out, prompt), TOLERANCE["f32"]))
        return ", ".join(said)

    def round_trip(self, name, folder):
        """Folder -> f32 GGUF -> folder: the same logits and ids in transformers as before."""
        middle, out = self.work / f"{name}-round.gguf", self.work / f"{name}-round"
        self.llmos.convert(folder, middle, "f32")
        self.llmos.convert(middle, out)
        before, after = Transformers(folder), Transformers(out)
        check_same_text(after, texts(folder))
        ids = json.loads((ARCHITECTURES / "llama" / "ids.json").read_text())["ids"]
        return compare("logits", after.logits(ids), before.logits(ids), 1e-5)

    def architecture(self, name):
        """A model of an architecture -> f32 GGUF: llama.cpp's logits are those of transformers."""
        # A plain name: where general.name contains "phi3", llama.cpp looks for that model's own special tokens.
        plain = f"model-{sorted(MODELS).index(name)}"
        folder, out = self.work / plain, self.work / f"{plain}.gguf"
        sources.write_model(folder, name, "llama", 352, **SET_ASIDE.get(name, {}))
        self.llmos.convert(folder, out, "f32")
        ids = json.loads((ARCHITECTURES / "llama" / "ids.json").read_text())["ids"]
        said = compare("logits", LlamaCpp(out).logits(ids), Transformers(folder).logits(ids), 5e-3)
        theirs = logprobs(Transformers(folder).logits(ids), ids)
        return f"logits {said}, {compare('log-probabilities', self.llmos.score(out, ids), theirs, 2e-4)}"

    def stories(self, path):
        prompts = ["Once upon a time", "Lily and Tom went to the park."]
        for kind in TYPES:

            def requantised(kind=kind):
                out = self.work / f"stories260K-{kind}.gguf"
                self.llmos.convert(path, out, kind)
                peer, said = LlamaCpp(out), []
                for prompt in prompts:
                    ids = peer.encode(prompt, special=True)
                    theirs = logprobs(peer.logits(ids), ids)
                    said.append(compare("log-probabilities", self.llmos.score(out, ids), theirs, TOLERANCE[kind]))
                    said.append(compare_greedy(peer, prompt, self.llmos.write(out, prompt), TOLERANCE[kind]))
                return ", ".join(said)

            self.run(f"stories260K to {kind} in llama.cpp", requantised)
        self.run(
            "stories260K to a folder in transformers",
            lambda: self.gguf_to_folder("stories260K", path, prompts, "f32"),
        )


def every(checks, options):
    tiny = {name: ARCHITECTURES / name for name in ("llama", "qwen3")}
    wide = sources.wide_models(checks.work)
    for name, folder in {**tiny, **wide}.items():
        for kind in TYPES:
            checks.run(
                f"{name} to {kind} in llama.cpp",
                lambda: checks.folder_to_gguf(name, folder, kind, name in wide),
            )
        checks.run(f"{name} to GGUF and back in transformers", lambda: checks.round_trip(name, folder))
        for kind in ("q8_0", "q4_k_m"):

            def quantised_folder():
                source = checks.work / f"{name}-{kind}-source.gguf"
                checks.llmos.convert(folder, source, kind)
                prompts = [one["prompt"] for one in texts(folder)["greedy"]]
                return checks.gguf_to_folder(f"{name}-{kind}", source, prompts, kind)

            checks.run(f"{name} from {kind} to a folder in transformers", quantised_folder)
    checks.stories(options.stories)
    for name in sorted(MODELS.keys() - NOT_IN_LLAMA_CPP):
        checks.run(f"architecture {name} in llama.cpp", lambda: checks.architecture(name))


if __name__ == "__main__":
    stories = ARCHITECTURES.parent.parent / "models" / "stories260K.gguf"
    sys.exit(Checks.main(__doc__, every, stories=stories))
