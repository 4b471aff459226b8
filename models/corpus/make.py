#!/usr/bin/env python3
"""Makes the texts of this folder from the collections that they come from.

    python3 models/corpus/make.py SOURCES

SOURCES holds the folders tinystories-samples, storybooks-pb, storybooks-asp, classic-books,
tiny-chinese-stories, classical-modern-zh and tatoeba-en-zh as NOTICE.md describes them, in any
depth. Standard library and the program zstd. The same sources give the same bytes.

What is done: text that was UTF-8, read as Windows-1252 and written again, is mended; page marks,
headings and hard line breaks are taken out; equal documents are taken once; Chinese rows with a
character outside GB 2312 (traditional writing) are left out. A twentieth of the stories, chosen by
their SHA-256, goes into files named held-out, which nothing is trained on.
"""
import csv
import hashlib
import json
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
HELD_OUT = 20  # one document in so many


def folder(sources, name):
    found = sorted(path for path in sources.rglob(name) if path.is_dir())
    if not found:
        sys.exit(f"{name} is not in {sources}")
    return found[0]


def mended(text):
    def back(match):
        try:
            return match.group().encode("cp1252").decode("utf-8")
        except UnicodeError:
            return match.group()

    text = re.sub("â€[^\x9d ]", back, text.replace("\r", "").replace("\ufeff", ""))
    return re.sub("â€\x9d?", "”", text)


def paragraphs(text):
    """Paragraphs without hard line breaks, headings and page marks."""
    parts = re.split(r"\n\s*\n", re.sub(r"(?m)^(#.*|-+|\* .*)$", "\n", text))
    parts = (re.sub(r"\s+", " ", re.sub(r"[*_]{1,2}(\S[^*_]*)[*_]{1,2}", r"\1", part)) for part in parts)
    return "\n\n".join(part.strip() for part in parts if part.strip())


def tiny_stories(sources):
    home = folder(sources, "tinystories-samples")
    # The two smaller files of that collection are beginnings of tiny_stories.txt.
    for name, split in [
        ("tinystories_10k.txt", r"<\|endoftext\|>"),
        ("tiny_stories.txt", r"(?<!\n)\n(?!\n)"),
        ("cautionary.txt", r"\n{3,}"),
    ]:
        text = mended((home / name).read_text(encoding="utf-8", errors="replace"))
        for part in re.split(split, text):
            part = re.sub(r"[ \t]+\n", "\n", part).strip()
            if len(part) >= 200:
                yield {"text": part}


def storybooks(sources):
    for name in ("storybooks-pb", "storybooks-asp"):
        for path in sorted(folder(sources, name).rglob("*.md")):
            text = mended(path.read_text(encoding="utf-8", errors="replace"))
            licence = re.search(r"\* License: \[(.*?)\]", text)
            if not licence or licence.group(1) not in ("CC-BY", "Public Domain"):
                continue
            title = re.search(r"(?m)^# (.*)$", text)
            author = re.search(r"\* Text: (.*)", text)
            yield {
                "text": paragraphs(text),
                "title": title.group(1).strip() if title else "",
                "author": author.group(1).strip() if author else "",
                "licence": licence.group(1),
            }


CLASSICS = (
    "Aesop's Fables", "Grimms' Fairy Tales", "Andersen's Fairy Tales",
    "Great Big Treasury of Beatrix Potter", "Alice's Adventures in Wonderland",
    "The Wonderful Wizard of Oz", "The Adventures of Pinocchio", "The Book of Dragons",
    "Heidi", "The Secret Garden",
)


def classics(sources):
    home = folder(sources, "classic-books")
    for title in CLASSICS:
        for path in sorted(home.rglob(f"{title}.md")):
            text = mended(path.read_text(encoding="utf-8", errors="replace"))
            for chapter in re.split(r"(?m)^##.*$", text)[1:]:
                chapter = paragraphs(chapter)
                if len(chapter) >= 500:
                    yield {"text": chapter, "title": title}


def is_simplified(text):
    try:
        text.encode("gb2312", errors="strict")
        return True
    except UnicodeError:
        # Dashes, dots and a few marks of modern print are outside it.
        rest = re.sub(r"[—…·“”‘’～\u3000-\u303f\uff00-\uffef]", "", text)
        try:
            rest.encode("gb2312")
            return True
        except UnicodeError:
            return False


def chinese_stories(sources):
    path = folder(sources, "tiny-chinese-stories") / "stories-simplified.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        text = json.loads(line)["story"].strip()
        if len(text) >= 80 and is_simplified(text):
            yield {"text": text}


MODERN_BYTES = 3_000_000


def modern_chinese(sources):
    """The modern half of translated classics: every so many'th chapter, up to a limit."""
    path = folder(sources, "classical-modern-zh") / "pairs-sample.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows.sort(key=lambda row: hashlib.sha256(row["path"].encode()).digest())
    total = 0
    for row in rows:
        text = "".join(row["modern"]).strip()
        if 200 <= len(text) <= 6000 and is_simplified(text):
            total += len(text.encode())
            if total > MODERN_BYTES:
                return
            yield {"text": text, "title": row["path"]}


def sentence_pairs(sources):
    text = (folder(sources, "tatoeba-en-zh") / "cmn.txt").read_text(encoding="utf-8-sig")
    seen = set()
    for line in text.splitlines():
        english, chinese = line.split("\t")[:2]
        chinese = re.sub(r"\s+", "", chinese)
        if english not in seen and is_simplified(chinese) and len(english) <= 80:
            seen.add(english)
            yield {"text": f"{english.strip()}\n{chinese}"}


def write(name, rows):
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    out = HERE / f"{name}.jsonl.zst"
    packed = subprocess.run(
        ["zstd", "--ultra", "-22", "--no-progress", "-c"], input=data, stdout=subprocess.PIPE, check=True
    ).stdout
    out.write_bytes(packed)
    print(f"{name}: {len(rows)} rows, {len(data)} bytes, {len(packed)} compressed")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sources = pathlib.Path(sys.argv[1])
    for name, rows, held_out in [
        ("tiny-stories", tiny_stories(sources), True),
        ("storybooks", storybooks(sources), False),
        ("classics", classics(sources), False),
        ("chinese-stories", chinese_stories(sources), True),
        ("modern-chinese", modern_chinese(sources), False),
        ("sentence-pairs", sentence_pairs(sources), False),
    ]:
        kept, apart, seen = [], [], set()
        for row in rows:
            key = re.sub(r"\W+", " ", row["text"]).strip()
            if not key or key in seen:
                continue
            seen.add(key)
            digest = hashlib.sha256(key.encode()).digest()
            part = apart if held_out and int.from_bytes(digest[:8], "big") % HELD_OUT == 0 else kept
            part.append(row)
        write(name, kept)
        if apart:
            write(f"{name}-held-out", apart)


if __name__ == "__main__":
    main()
