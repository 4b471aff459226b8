#!/usr/bin/env python3
"""Makes a tiny model that can be finetuned, conversations, and what PyTorch learns from them.

    pip install -r testdata/finetune/requirements.txt
    python3 testdata/finetune/make.py

base/ is a Qwen3 with random weights, a byte-level BPE of 320 tokens and a ChatML template without generation tags;
marked.jinja is the same template with them. chats.jsonl has rows of several turns, a system's message and a tool call,
in English and Chinese. expected.json holds for each row its ids and which of them are learnt, by transformers'
`apply_chat_template(return_assistant_tokens_mask=True)` on marked.jinja, and the losses of some steps: batches of four
rows in the file's order, the loss is the mean over a batch's learnt tokens, AdamW (beta 0.9 and 0.95, eps 1e-8, no
decay), a constant rate, gradients clipped to a norm of one.
"""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

HERE = Path(__file__).resolve().parent
STEPS, BATCH, RATE = 6, 4, 1e-3

TEMPLATE = """{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}
{%- generation %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>\\n' + (call.function | tojson) + '\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>' }}
{%- endgeneration %}
{{- '\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def rows():
    def turn(user, assistant):
        return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]

    call = {"type": "function", "function": {"name": "calculator", "arguments": {"expression": "12 * 7"}}}
    yield turn("Who are you?", "A very small model.")
    yield turn("Say hello.", "Hello!") + turn("And goodbye.", "Goodbye, then.")
    yield [{"role": "system", "content": "Be brief."}] + turn("What colour is grass?", "Green.")
    yield [
        {"role": "user", "content": "What is 12 times 7?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "84"},
        {"role": "assistant", "content": "It is 84."},
    ]
    yield turn("你是谁？", "我是一个很小的模型。")
    yield turn("天空是什么颜色？", "蓝色。") + turn("草呢？", "绿色。")
    yield turn("List three animals.", "A dog,\na cat,\n\na cow.")
    yield turn("Count to five.", "1, 2, 3, 4, 5.")


def main():
    chats = list(rows())
    with open(HERE / "chats.jsonl", "w", encoding="utf-8") as file:
        for messages in chats:
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [message["content"] for messages in chats for message in messages]
    bpe.train_from_iterator(texts * 2, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )
    plain = TEMPLATE.replace("{%- generation %}\n", "").replace("{%- endgeneration %}\n", "")
    (HERE / "marked.jinja").write_text(TEMPLATE, encoding="utf-8")
    tokenizer.chat_template = plain

    torch.manual_seed(1)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, rope_theta=10000.0, tie_word_embeddings=True,
        initializer_range=0.2, rms_norm_eps=1e-6, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(HERE / "base")
    tokenizer.save_pretrained(HERE / "base")
    (HERE / "base" / "generation_config.json").unlink(missing_ok=True)

    learnt = []
    for messages in chats:
        out = tokenizer.apply_chat_template(
            messages, chat_template=TEMPLATE, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        learnt.append({"ids": out["input_ids"], "learnt": out["assistant_masks"]})

    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    losses = []
    for step in range(STEPS):
        batch = [learnt[(step * BATCH + i) % len(learnt)] for i in range(BATCH)]
        nats, count = 0.0, 0
        for row in batch:
            ids = torch.tensor([row["ids"]])
            labels = torch.tensor([[i if m else -100 for i, m in zip(row["ids"], row["learnt"])]])
            logits = model(input_ids=ids).logits
            nats = nats + torch.nn.functional.cross_entropy(
                logits[0, :-1], labels[0, 1:], reduction="sum", ignore_index=-100
            )
            count += int((labels[0, 1:] != -100).sum())
        loss = nats / count
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    expected = {"rows": learnt, "batch": BATCH, "lr": RATE, "losses": losses}
    (HERE / "expected.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")
    print(losses)


main()
