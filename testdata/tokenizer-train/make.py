#!/usr/bin/env python3
"""Make the golden files of this folder: what training must give, and what Hugging Face makes of it.

    pip install tokenizers regex transformers
    python make.py LLMOS [--pairs PAIRS.jsonl]

LLMOS is the built program. It writes a tokenizer.json a case (golden/NAME.json); this script learns the same
vocabulary by the definition, in a few lines of Python over the `regex` module, and stops if they differ. Then Hugging
Face tokenizers reads each file, and its ids of some texts go to golden/ids.json. Versions go to golden/VERSIONS.txt.

--pairs makes mixed.txt anew, from classical texts of NiuTrans' Classical-Modern ({"book", "classical": [...]} a line).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import regex
import tokenizers
import transformers

HERE = Path(__file__).resolve().parent
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
WORDS = r"\w+|[^\w\s]+|\s+"
# name: corpus, --pattern, the same for Python, --vocab, --special
CASES = {
    "gpt2": ("corpus.en", "gpt2", GPT2, 500, ["<|endoftext|>"]),
    "qwen2": ("mixed.txt", "qwen2", QWEN2, 1500, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
    "llama3": ("mixed.txt", "llama3", LLAMA3, 700, ["<s>", "</s>"]),
    "words": ("mixed.txt", WORDS, WORDS, 600, []),
    "characters": ("mixed.txt", None, None, None, []),
    "characters-unknown": ("corpus.en", None, None, None, ["<unk>", "<|endoftext|>"]),
}
EMOJI = "Smile 🙂, 👍🏽 and 🎉🎉! 🇫🇷 👨‍👩‍👧 ✈️ → ½ ≠ 1/2 — “quoted”, naïve café, Ελλάδα, Москва, 日本語 한국어"
TEXTS = [
    "",
    " ",
    "Hello world",
    "The quick brown fox jumps over the lazy dog. It's 1234 o'clock, isn't it? WE'LL see.",
    "translator Internet is a Toolbar for MS Internet Explorer .",
    "  two  spaces,\ttabs\t\tand\n\nlines \n  end \r\n",
    "子曰：「学而时习之，不亦说乎？有朋自远方来，不亦乐乎？」",
    "天下大势，分久必合，合久必分。孟子见梁惠王，王曰：何以利吾国？2024年1月1日",
    "我是一个大语言模型。Mixed 中英文 text，with 标点。",
    EMOJI,
    "def f(x: int) -> int:\n    return x * 2  # double\n\nfor i in range(10):\n\tprint(f(i), end='')\n",
    "let v: Vec<u32> = (0..10).map(|i| i * 2).collect(); // 注释\n",
    "https://example.org/a?b=c&d=%20e#f aGVsbG8gd29ybGQ= 3.14159e-10 0xDEADBEEF",
    "<|endoftext|>start<|im_start|>user\nhi<|im_end|><s> x</s><unk>",
    "a" * 300,
    "e\u0301 é \u00a0\u3000\u2028 ﬁ ﷺ \u200b",
]


def make_mixed(pairs):
    """English, classical Chinese, code and emoji."""
    english = (HERE / "corpus.en").read_text()[:30_000].rsplit("\n", 1)[0]
    chinese = []
    for line in open(pairs, encoding="utf-8"):
        pair = json.loads(line)
        if pair["book"] == "三国志" and sum(map(len, chinese)) < 20_000:
            chinese += pair["classical"]
    code = Path(__file__).read_text().split("TEXTS = [")[0]
    emoji = "\n".join(EMOJI[at:] + " " + EMOJI[:at] for at in range(0, len(EMOJI), 9))
    parts = [english, "\n".join(chinese), code, emoji]
    (HERE / "mixed.txt").write_text("<|endoftext|>".join(parts) + "\n")


def alphabet():
    """GPT-2's printable character of each byte."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {byte: chr(byte) for byte in own} | {byte: chr(0x100 + n) for n, byte in enumerate(others)}


ALPHABET = alphabet()


def name(token):
    return "".join(ALPHABET[byte] for byte in token)


def is_allowed(left, right):
    """Whether no part of a character is joined with another character."""

    def kind(token):
        if 0x80 <= token[0] < 0xC0:
            return "tail"
        try:
            token.decode()
            return "whole"
        except UnicodeDecodeError:
            return "head"

    return (kind(left), kind(right)) in [("whole", "whole"), ("head", "tail"), ("tail", "tail")]


def learn(text, pattern, special, n_merge):
    """The definition: merge the most frequent pair, of equals the one with the greatest bytes."""
    texts = regex.split("|".join(map(regex.escape, special)), text) if special else [text]
    counts = Counter(found.group().encode() for part in texts for found in regex.finditer(pattern, part))
    words = [([bytes([byte]) for byte in word], count) for word, count in counts.items()]
    tokens = {bytes([byte]) for byte in range(256)}
    merges = []
    while len(merges) < n_merge:
        pairs = Counter()
        for word, count in words:
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        allowed = (
            (count, pair)
            for pair, count in pairs.items()
            if count >= 2 and pair[0] + pair[1] not in tokens and is_allowed(*pair)
        )
        best = max(allowed, default=None)
        if best is None:
            break
        left, right = best[1]
        merges.append([left, right])
        tokens.add(left + right)
        for word, _ in words:
            at = 0
            while at + 1 < len(word):
                if word[at] == left and word[at + 1] == right:
                    word[at : at + 2] = [left + right]
                at += 1
    return merges


def expected(case):
    """Names in the order of their ids, and merges."""
    corpus, _, pattern, size, special = case
    text = (HERE / corpus).read_text()
    if pattern is None:
        return sorted(set(text)) + special, []
    merges = learn(text, pattern, special, size - 256 - len(special))
    names = special + sorted(ALPHABET.values()) + [name(left + right) for left, right in merges]
    return names, [[name(left), name(right)] for left, right in merges]


def in_transformers(llmos, command, case, encoded):
    """A folder loads by itself, with the same ids."""
    _, pattern, _, _, special = case
    with tempfile.TemporaryDirectory() as folder:
        at = command.index("--out") + 1
        command = [*command[:at], f"{folder}/t", *command[at + 1 :]]
        subprocess.run([*command, "--special", *special], check=True)
        loaded = transformers.AutoTokenizer.from_pretrained(f"{folder}/t")
        for text, ids in zip(TEXTS, encoded):
            if loaded.encode(text, add_special_tokens=False) != ids or loaded.encode(text) != ids:
                sys.exit(f"{command}: transformers encodes {text!r} otherwise")
            # Without <unk>, characters that a vocabulary lacks are left out.
            if pattern is not None and loaded.decode(ids) != text:
                sys.exit(f"{command}: {text!r} does not come back in transformers")
            own = subprocess.run(
                [llmos, "tokenize", f"{folder}/t", "--ids", "--special"],
                input=text.encode(),
                capture_output=True,
                check=True,
            )
            if own.stdout.split() != [str(id).encode() for id in ids]:
                sys.exit(f"{command}: llmos encodes {text!r} otherwise")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("llmos")
    parser.add_argument("--pairs")
    arguments = parser.parse_args()
    if arguments.pairs:
        make_mixed(arguments.pairs)
    golden = HERE / "golden"
    golden.mkdir(exist_ok=True)
    ids = {"texts": TEXTS, "cases": {}}
    for label, case in CASES.items():
        corpus, pattern, _, size, special = case
        path = golden / f"{label}.json"
        kind = ["--char"] if pattern is None else ["--pattern", pattern, "--vocab", str(size)]
        command = [arguments.llmos, "tokenizer", "train", HERE / corpus, *kind, "--out", path, "--force", "-q"]
        subprocess.run([*command, "--special", *special], check=True)
        file = json.loads(path.read_text())
        names, merges = expected(case)
        vocab = file["model"]["vocab"]
        if sorted(vocab, key=vocab.get) != names or file["model"]["merges"] != merges:
            sys.exit(f"{label}: the definition gives another vocabulary")
        outside = tokenizers.Tokenizer.from_file(str(path))
        outside.no_padding()
        encoded = [outside.encode(text, add_special_tokens=False).ids for text in TEXTS]
        if outside.get_vocab_size() != len(names):
            sys.exit(f"{label}: {outside.get_vocab_size()} ids in Hugging Face tokenizers")
        decoded = [outside.decode(row, skip_special_tokens=False) for row in encoded]
        if pattern is not None and decoded != TEXTS:
            sys.exit(f"{label}: a text does not come back")
        ids["cases"][label] = {
            "corpus": corpus,
            "pattern": pattern,
            "vocab_size": size,
            "special": special,
            "ids": encoded,
            "decoded": decoded,
        }
        in_transformers(arguments.llmos, command, case, encoded)
        print(label, len(names))
    (golden / "ids.json").write_text(json.dumps(ids, ensure_ascii=True, separators=(",", ":")) + "\n")
    version = subprocess.run([arguments.llmos, "--version"], capture_output=True, text=True, check=True)
    versions = [f"tokenizers {tokenizers.__version__}", f"transformers {transformers.__version__}", f"regex {regex.__version__}", version.stdout.strip()]
    (golden / "VERSIONS.txt").write_text("\n".join(versions) + "\n")


if __name__ == "__main__":
    main()
