#!/usr/bin/env python3
"""Prove that `llmos finetune`, `prefer` and `reward` learn as PEFT and TRL do, and that what they write is theirs.

    pip install -r requirements.txt
    python check_finetune.py LLMOS [--only WORD]

LLMOS is the built program. One line a check; exit code 1 if one fails. The model and the conversations are those of
testdata/finetune; everything runs in seconds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

GOLDEN = Path(__file__).resolve().parent.parent / "finetune"
BASE, CHATS = GOLDEN / "base", GOLDEN / "chats.jsonl"
ROWS = json.loads((GOLDEN / "expected.json").read_text())["rows"]
STEPS, BATCH, RATE = 6, 4, 1e-2
# Nats: sums in another order, over some steps.
CLOSE = 1e-4


class Failed(Exception):
    pass


def finetune(llmos, out, *more, steps=STEPS, rate=RATE, base=BASE):
    subprocess.run(
        [llmos, "finetune", base, "--data", CHATS, "--out", out, "--threads", "2", "--steps", str(steps), "--batch",
         str(BATCH), "--no-shuffle", "--lr", str(rate), "--set", "schedule.name=constant", "--set",
         "schedule.warmup=0", "--set", "optimizer.beta2=0.95", "-q", *more],
        check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(model, steps, rate=RATE):
    """PyTorch's losses of the same batches, with AdamW and clipping as llmos has them."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    found = []
    for step in range(steps):
        nats, count = 0.0, 0
        for i in range(BATCH):
            row = ROWS[(step * BATCH + i) % len(ROWS)]
            ids = torch.tensor([row["ids"]])
            labels = torch.tensor([i if m else -100 for i, m in zip(row["ids"], row["learnt"])])
            logits = model(input_ids=ids).logits[0]
            nats = nats + torch.nn.functional.cross_entropy(logits[:-1], labels[1:], reduction="sum")
            count += int((labels[1:] != -100).sum())
        loss = nats / count
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        found.append(loss.item())
    return found


def compare(got, expected):
    worst = max(abs(a - b) for a, b in zip(got, expected, strict=True))
    if worst > CLOSE:
        raise Failed(f"{got} beside {expected}")
    return f"within {worst:.1e} nats"


def lora(llmos, folder, spec):
    """The same beginning, the same steps."""
    finetune(llmos, folder / "start", "--lora", spec, steps=1, rate=0.0)
    got = finetune(llmos, folder / "run", "--lora", spec)
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, folder / "start", is_trainable=True)
    return compare(got, losses(model, STEPS))


def merged(llmos, folder, spec):
    """PEFT runs the adapter that llmos trained, and says what llmos's merged model says."""
    finetune(llmos, folder / "run", "--lora", spec)
    subprocess.run([llmos, "merge", BASE, folder / "run", "--out", folder / "merged", "-q"], check=True)
    ids = torch.tensor([ROWS[3]["ids"]])
    base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    ours = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32)
    with torch.no_grad():
        plain = base(ids).logits
        theirs = PeftModel.from_pretrained(base, folder / "run")(ids).logits
        worst = (theirs - ours(ids).logits).abs().max().item()
        moved = (theirs - plain).abs().max().item()
    if worst > CLOSE or moved < 0.1:
        raise Failed(f"logits differ by {worst}, and the adapter moved them by {moved}")
    return f"logits within {worst:.1e}; the adapter moved them by {moved:.1f}"


def peft_to_llmos(llmos, folder, dora=False):
    """llmos merges an adapter that PEFT wrote."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    config = LoraConfig(
        r=2, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False, use_dora=dora
    )
    model = get_peft_model(model, config)
    model.save_pretrained(folder / "adapter")
    subprocess.run([llmos, "merge", BASE, folder / "adapter", "--out", folder / "merged", "-q"], check=True)
    ours = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32)
    ids = torch.tensor([ROWS[0]["ids"]])
    with torch.no_grad():
        worst = (model(ids).logits - ours(ids).logits).abs().max().item()
    if worst > CLOSE:
        raise Failed(f"logits differ by {worst}")
    return f"logits within {worst:.1e}"


def trl_first_loss(llmos, folder):
    """The loss of the first batch, as TRL's SFTTrainer computes it."""
    got = finetune(llmos, folder / "run", steps=1, rate=0.0)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.chat_template = (GOLDEN / "marked.jinja").read_text()
    rows = [json.loads(line)["messages"] for line in CHATS.read_text().splitlines()][:BATCH]
    rows = [[{"tool_calls": None, **message} for message in messages] for messages in rows]
    config = SFTConfig(
        output_dir=str(folder / "trl"), per_device_train_batch_size=BATCH, max_steps=1, learning_rate=0.0,
        assistant_only_loss=True, logging_steps=1, report_to=[], use_cpu=True, save_strategy="no", packing=False,
        max_length=None, shuffle_dataset=False, bf16=False, gradient_checkpointing=False, disable_tqdm=True,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    trainer = SFTTrainer(
        model=model, args=config, train_dataset=Dataset.from_list([{"messages": row} for row in rows]),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    expected = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    return compare(got, [expected])


# Tiny models of other architectures, which get the tokenizer of the base. Mistral's window is shorter than the rows.
OTHERS = [
    "qwen2", "llama3", "llama-bias", "mistral", "smollm", "smollm3", "phi3", "gemma2", "gemma3", "olmo2", "yarn",
]  # fmt: skip


def other_base(folder, name):
    """A random model of an architecture: that of testdata/architectures with the base's vocabulary."""
    source = GOLDEN.parent / "architectures" / name
    base = folder / "base"
    config = AutoConfig.from_pretrained(source)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    config.vocab_size, config.max_position_embeddings = len(tokenizer), 256
    config.eos_token_id, config.bos_token_id = tokenizer.eos_token_id, None
    config.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(5)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" not in parameter_name:
                parameter.copy_(0.2 * torch.randn(parameter.shape))
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    (base / "generation_config.json").unlink(missing_ok=True)
    return base


def eager(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def other_full(llmos, folder, name):
    """All weights of another architecture learn as in PyTorch, and transformers loads what was written."""
    base = other_base(folder, name)
    got = finetune(llmos, folder / "run", "--full", base=base, rate=1e-3)
    model = eager(base)
    model.get_input_embeddings().padding_idx = None
    said = compare(got, losses(model, STEPS, rate=1e-3))
    ids = torch.tensor([ROWS[3]["ids"]])
    with torch.no_grad():
        ours, loading = AutoModelForCausalLM.from_pretrained(
            folder / "run", dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
        if any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")):
            raise Failed(f"{loading}")
        worst = (ours(ids).logits - model(ids).logits).abs().max().item()
    kept = [json.loads((path / "config.json").read_text()) for path in (base, folder / "run")]
    if {**kept[0], "dtype": "float32"} != {**kept[1], "dtype": "float32"}:
        raise Failed(f"config.json changed: {kept}")
    if worst > 1e-3:
        raise Failed(f"logits after {STEPS} steps differ by {worst}")
    written = exported(llmos, folder, base, ids)
    return f"{said}; logits after {STEPS} steps within {worst:.1e}, of the folder alone within {written:.1e}"


def exported(llmos, folder, base, ids):
    """A folder whose weights have not moved says what its base says."""
    finetune(llmos, folder / "still", "--full", base=base, steps=1, rate=0.0)
    with torch.no_grad():
        worst = (eager(folder / "still")(ids).logits - eager(base)(ids).logits).abs().max().item()
    if worst > CLOSE:
        raise Failed(f"the written folder's logits differ by {worst}")
    return worst


def other_lora(llmos, folder, name, spec):
    """An adapter beside another architecture learns as in PEFT."""
    base = other_base(folder, name)
    finetune(llmos, folder / "start", "--lora", spec, base=base, steps=1, rate=0.0)
    got = finetune(llmos, folder / "run", "--lora", spec, base=base)
    model = PeftModel.from_pretrained(eager(base), folder / "start", is_trainable=True)
    return compare(got, losses(model, STEPS))


PAIRS = [
    ("Who are you? ", "A very small model.", "A person, of course."),
    ("What is 12 times 7? ", "It is 84.", "It is 12."),
    ("你是谁？", "我是一个很小的模型。", "我是一个人。"),
    ("Say hello. ", "Hello!", "No, I will not do that, not today and not ever."),
    ("What colour is grass? ", "Green.", "Blue."),
    ("Count to five. ", "1, 2, 3, 4, 5.", "1, 5."),
]


def trl_curve(llmos, folder, loss, *more, smoothing=0.0):
    """The losses of twenty steps, as TRL's DPOTrainer computes them."""
    steps, batch, rate, beta = 20, 2, 1e-3, 0.3
    rows = [dict(zip(("prompt", "chosen", "rejected"), pair)) for pair in PAIRS]
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    subprocess.run(
        [llmos, "prefer", BASE, "--data", data, "--out", folder / "run", "--threads", "2", "--steps", str(steps),
         "--batch", str(batch), "--no-shuffle", "--lr", str(rate), "--loss", loss, "--beta", str(beta),
         "--label-smoothing", str(smoothing), "--set", "schedule.name=constant", "--set", "schedule.warmup=0", "--set",
         "optimizer.beta2=0.999", "-q", *more],
        check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    got = [json.loads(line) for line in lines]
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.chat_template = None
    config = DPOConfig(
        output_dir=str(folder / "trl"), per_device_train_batch_size=batch, max_steps=steps, learning_rate=rate,
        loss_type=[loss], beta=beta, label_smoothing=smoothing, logging_steps=1, report_to=[], use_cpu=True,
        save_strategy="no", max_length=None, bf16=False, gradient_checkpointing=False, disable_tqdm=True,
        lr_scheduler_type="constant", warmup_steps=0, max_grad_norm=1.0, weight_decay=0.0,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)

    class InOrder(DPOTrainer):
        def _get_train_sampler(self, dataset=None):
            return torch.utils.data.SequentialSampler(dataset or self.train_dataset)

    trainer = InOrder(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    worst = max(abs(a["loss"] - b["loss"]) for a, b in zip(got, log, strict=True))
    if worst > 1e-3:
        raise Failed(f"{[row['loss'] for row in got]} beside {[entry['loss'] for entry in log]}")
    for ours, theirs in [("reward_margin", "rewards/margins"), ("reward_accuracy", "rewards/accuracies")]:
        off = max(abs(a[ours] - b[theirs]) for a, b in zip(got, log, strict=True))
        if off > 1e-3:
            raise Failed(f"{ours} is off by {off}")
    return f"{steps} losses from {got[0]['loss']:.4f} to {got[-1]['loss']:.4f} within {worst:.1e}"


def judged(llmos, folder, rows, command, steps, batch, rate, *more):
    """The rows of metrics.jsonl of a run on judged answers, in the file's order."""
    data = folder / "judged.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    subprocess.run(
        [llmos, *command, "--data", data, "--out", folder / "run", "--threads", "2", "--steps", str(steps), "--batch",
         str(batch), "--no-shuffle", "--lr", str(rate), "--set", "schedule.name=constant", "--set",
         "schedule.warmup=0", "--set", "optimizer.beta2=0.999", "-q", *more],
        check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


def settings(folder, steps, batch, rate):
    """What TRL's trainers are told alike."""
    return dict(
        output_dir=str(folder / "trl"), per_device_train_batch_size=batch, max_steps=steps, learning_rate=rate,
        logging_steps=1, report_to=[], use_cpu=True, save_strategy="no", max_length=None, bf16=False,
        gradient_checkpointing=False, disable_tqdm=True, lr_scheduler_type="constant", warmup_steps=0,
        max_grad_norm=1.0, weight_decay=0.0,
    )  # fmt: skip


def in_order(trainer):
    class InOrder(trainer):
        def _get_train_sampler(self, dataset=None):
            return torch.utils.data.SequentialSampler(dataset or self.train_dataset)

    return InOrder


def curve(trainer, got, more=()):
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    for ours, theirs in [("loss", "loss"), *more]:
        off = max(abs(a[ours] - b[theirs]) for a, b in zip(got, log, strict=True))
        if off > 1e-3:
            raise Failed(f"{ours}: {[row[ours] for row in got]} beside {[entry[theirs] for entry in log]}")
    return f"{len(got)} losses from {got[0]['loss']:.4f} to {got[-1]['loss']:.4f}"


def trl_kto(llmos, folder, loss, weights=(1.0, 1.0)):
    """The losses of twenty steps, as TRL's KTOTrainer computes them."""
    steps, batch, rate, beta = 20, 3, 1e-3, 0.3
    answers = [(prompt, pair[i % 2], i % 2 == 0) for i, (prompt, *pair) in enumerate(PAIRS)]
    rows = [dict(zip(("prompt", "completion", "label"), answer)) for answer in answers]
    flags = ["--loss", loss, "--beta", str(beta), "--liked-weight", str(weights[0]), "--disliked-weight", str(weights[1])]
    got = judged(llmos, folder, rows, ["prefer", BASE], steps, batch, rate, *flags)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.chat_template = None
    config = KTOConfig(
        **settings(folder, steps, batch, rate), loss_type=loss, beta=beta, desirable_weight=weights[0],
        undesirable_weight=weights[1], train_sampling_strategy="sequential",
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    trainer = in_order(KTOTrainer)(
        model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    return curve(trainer, got, [("reward_margin", "rewards/margins")])


def trl_reward(llmos, folder):
    """TRL's RewardTrainer goes on from a reward model of llmos's as llmos does, and scores alike in the end."""
    steps, batch, rate = 10, 2, 1e-3
    rows = [
        {
            "prompt": [{"role": "user", "content": prompt.strip()}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for prompt, chosen, rejected in PAIRS
    ]
    (folder / "start").mkdir()
    judged(llmos, folder / "start", rows, ["reward", "train", BASE], 1, batch, 0.0)
    start = folder / "start" / "run"
    got = judged(llmos, folder, rows, ["reward", "train", start], steps, batch, rate)
    model = AutoModelForSequenceClassification.from_pretrained(start, dtype=torch.float32)
    if model.config.num_labels != 1:
        raise Failed(f"{model.config.num_labels} labels")
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    trainer = in_order(RewardTrainer)(
        model=model, args=RewardConfig(**settings(folder, steps, batch, rate)), train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )  # fmt: skip
    said = curve(trainer, got, [("reward_margin", "margin"), ("reward_accuracy", "accuracy")])
    finished = AutoModelForSequenceClassification.from_pretrained(folder / "run", dtype=torch.float32)
    scores = subprocess.run(
        [llmos, "reward", "score", folder / "run", "--data", folder / "judged.jsonl", "--json", "-q"],
        check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    ).stdout.splitlines()  # fmt: skip
    worst = 0.0
    for row, score in zip(rows, map(json.loads, scores), strict=True):
        for key in ("chosen", "rejected"):
            turns = row["prompt"] + row[key]
            ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"]
            with torch.no_grad():
                worst = max(worst, abs(finished(input_ids=torch.tensor([ids])).logits.item() - score[key]))
    if worst > CLOSE:
        raise Failed(f"scores differ by {worst}")
    return f"{said}; transformers' scores within {worst:.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("llmos", type=Path)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    llmos = arguments.llmos.resolve()
    n_run = n_failed = 0
    for name, check in [
        ("lora, every matrix", lambda folder: lora(llmos, folder, "r=4")),
        ("lora, some matrices", lambda folder: lora(llmos, folder, "r=2,alpha=3,targets=v_proj+up_proj")),
        ("lora, rank-stabilised", lambda folder: lora(llmos, folder, "r=4,rslora")),
        ("dora, every matrix", lambda folder: lora(llmos, folder, "r=4,dora")),
        ("dora, some matrices", lambda folder: lora(llmos, folder, "r=2,alpha=3,targets=k_proj+down_proj,dora")),
        ("llmos's adapter in peft, and merged", lambda folder: merged(llmos, folder, "r=4,alpha=6,rslora")),
        ("llmos's dora in peft, and merged", lambda folder: merged(llmos, folder, "r=4,dora")),
        ("peft's adapter merged", lambda folder: peft_to_llmos(llmos, folder)),
        ("peft's dora merged", lambda folder: peft_to_llmos(llmos, folder, dora=True)),
        *[(f"{name} in full", lambda folder, name=name: other_full(llmos, folder, name)) for name in OTHERS],
        ("phi3 with lora", lambda folder: other_lora(llmos, folder, "phi3", "r=4")),
        ("gemma3 with lora", lambda folder: other_lora(llmos, folder, "gemma3", "r=4")),
        ("qwen2 with dora", lambda folder: other_lora(llmos, folder, "qwen2", "r=4,dora")),
        ("trl's first loss", lambda folder: trl_first_loss(llmos, folder)),
        ("trl's curve, dpo", lambda folder: trl_curve(llmos, folder, "sigmoid")),
        ("trl's curve, ipo, not packed", lambda folder: trl_curve(llmos, folder, "ipo", "--no-pack")),
        ("trl's curve, robust", lambda folder: trl_curve(llmos, folder, "robust", smoothing=0.1)),
        ("trl's curve, apo_down", lambda folder: trl_curve(llmos, folder, "apo_down")),
        ("trl's curve, sigmoid_norm", lambda folder: trl_curve(llmos, folder, "sigmoid_norm")),
        ("trl's curve, kto", lambda folder: trl_kto(llmos, folder, "kto")),
        ("trl's curve, kto with weights", lambda folder: trl_kto(llmos, folder, "kto", (1.5, 0.5))),
        ("trl's curve, apo_zero_unpaired", lambda folder: trl_kto(llmos, folder, "apo_zero_unpaired")),
        ("trl's curve, a reward model", lambda folder: trl_reward(llmos, folder)),
    ]:
        if arguments.only not in name:
            continue
        n_run += 1
        with tempfile.TemporaryDirectory() as folder:
            try:
                print(f"ok      {name}: {check(Path(folder))}", flush=True)
            except Exception as error:  # whatever a peer raises is this check's failure, and the next one runs
                n_failed += 1
                print(f"FAILED  {name}: {type(error).__name__}: {error}", flush=True)
    print(f"{n_run - n_failed} of {n_run} checks hold")
    return 1 if n_failed or not n_run else 0


if __name__ == "__main__":
    sys.exit(main())
