#!/usr/bin/env python3
"""Makes pairs of answers, and what PyTorch makes of them for a reward model.

    pip install -r testdata/finetune/requirements.txt
    python3 testdata/finetune/make_reward.py

The model is base/ with a head of one row, score.weight, all 0.05 at even and -0.03 at odd places, as transformers'
Qwen3ForSequenceClassification has it. reward.json holds the pairs, the scores of both answers of each before training,
the losses of some steps on the first four pairs in turn, two a step (Bradley-Terry, AdamW with beta 0.9 and 0.95, eps
1e-8, no decay, a constant rate, gradients clipped to a norm of one), and the scores after them.
"""

import json
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

HERE = Path(__file__).resolve().parent
STEPS, BATCH, RATE = 6, 2, 1e-3
PAIRS = [
    ("Who are you?", "A very small model.", "A person, of course."),
    ("What is 12 times 7?", "It is 84.", "It is 12."),
    ("你是谁？", "我是一个很小的模型。", "我是一个人。"),
    ("Say hello.", "Hello!", "No, I will not do that, not today and not ever."),
    ("What colour is grass?", "Green.", "Blue."),
    ("Count to five.", "1, 2, 3, 4, 5.", "1, 5."),
]


def main():
    tokenizer = AutoTokenizer.from_pretrained(HERE / "base")
    model = AutoModelForSequenceClassification.from_pretrained(HERE / "base", num_labels=1, dtype=torch.float32)
    with torch.no_grad():
        head = model.score.weight
        head[0, 0::2], head[0, 1::2] = 0.05, -0.03

    def ids(user, answer):
        turns = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
        return torch.tensor([tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"]])

    def scores(pair):
        return [model(input_ids=ids(pair[0], answer)).logits[0, 0] for answer in pair[1:]]

    def all_scores():
        with torch.no_grad():
            return [[score.item() for score in scores(pair)] for pair in PAIRS]

    before = all_scores()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    losses, accuracies = [], []
    for step in range(STEPS):
        batch = [scores(PAIRS[(step * BATCH + i) % 4]) for i in range(BATCH)]
        loss = sum(-torch.nn.functional.logsigmoid(chosen - rejected) for chosen, rejected in batch) / BATCH
        accuracies.append(sum((chosen > rejected).item() for chosen, rejected in batch) / BATCH)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    expected = {
        "pairs": [
            {"prompt": [{"role": "user", "content": user}], "chosen": chosen, "rejected": rejected}
            for user, chosen, rejected in PAIRS
        ],
        "before": before, "batch": BATCH, "lr": RATE, "losses": losses, "accuracies": accuracies, "after": all_scores(),
    }  # fmt: skip
    (HERE / "reward.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n", encoding="utf-8")
    print(losses, accuracies)


main()
