#!/usr/bin/env python3
"""Makes expected.json: final states of texts as transformers computes them.

    pip install -r testdata/agent/requirements.txt
    python3 testdata/embeddings/make.py

The model is testdata/agent/base. A row has the ids of a text, the mean of the states after the final norm, and the last of them.
"""

import json
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

HERE = Path(__file__).resolve().parent
BASE = HERE.parent / "agent" / "base"
TEXTS = ["Who are you?", "What is 12 times 7?", "你是谁？", "Count to twelve. " * 8]


def main():
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    model = AutoModel.from_pretrained(BASE, dtype=torch.float32)
    rows = []
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            states = model(torch.tensor([ids])).last_hidden_state[0]
        rounded = lambda state: [round(x, 6) for x in state.tolist()]  # noqa: E731
        rows.append({"ids": ids, "mean": rounded(states.mean(0)), "last": rounded(states[-1])})
    text = ",\n".join(json.dumps(row) for row in rows)
    (HERE / "expected.json").write_text(f"[\n{text}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
