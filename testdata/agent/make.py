#!/usr/bin/env python3
"""Makes a tiny assistant that knows a dozen conversations by heart, and what transformers makes of it.

    pip install -r testdata/agent/requirements.txt
    python3 testdata/agent/make.py [TEMPLATES]

base/ is a Qwen3 of 2 layers with weights of 16 bits, trained for a minute until it says every answer and every call below by itself. Its
ChatML template writes calls as Hermes and Qwen do; `<tool_call>` and the like are control tokens. chats.jsonl has the
conversations, expected.json what `generate` of transformers draws greedily after each prompt: the ids of each turn of
the assistant's.

calls.json has the calls that chat templates of other models render, as texts: of those in testdata/tokenizer/chat, and,
where TEMPLATES names llama.cpp's folder models/templates, of Llama's. It stays as it is without that folder.
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).resolve().parent
STEPS, RATE = 400, 3e-3
NOW = "Friday, 27 November 2026, 10:39"

TEMPLATE = """{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}
{%- generation %}
{%- if message.reasoning_content %}
{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}
{%- endif %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}
{%- if not loop.first or message.content %}
{{- '\\n' }}
{%- endif %}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>' }}
{%- endgeneration %}
{{- '\\n' }}
{%- elif message.role == 'tool' %}
{%- if loop.first or loop.previtem.role != 'tool' %}
{{- '<|im_start|>user' }}
{%- endif %}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- if loop.last or loop.nextitem.role != 'tool' %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<tool_response>",
           "</tool_response>", "<think>", "</think>"]  # fmt: skip


def user(text):
    return {"role": "user", "content": text}


def says(text, reasoning=None):
    message = {"role": "assistant", "content": text}
    return {**message, "reasoning_content": reasoning} if reasoning else message


def calls(*named, content=""):
    """An assistant's calls: (name, arguments)."""
    written = [{"type": "function", "function": {"name": name, "arguments": given}} for name, given in named]
    return {"role": "assistant", "content": content, "tool_calls": written}


def tool(name, content):
    return {"role": "tool", "name": name, "content": content}


def chats():
    calculator = lambda text: ("calculator", {"expression": text})  # noqa: E731
    clock = ("clock", {})
    now = tool("clock", NOW)
    yield [user("Who are you?"), says("A very small model.")]
    yield [user("Say hello."), says("Hello!"), user("And goodbye."), says("Goodbye, then.")]
    yield [{"role": "system", "content": "Be brief."}, user("What colour is grass?"), says("Green.")]
    yield [user("你是谁？"), says("我是一个很小的模型。")]
    yield [user("What is 12 times 7?"), calls(calculator("12 * 7")), tool("calculator", "84"), says("It is 84.")]
    yield [user("What time is it?"), calls(clock), now, says("It is 10:39.")]
    yield [user("Add 1 and 2, and tell the day."), calls(calculator("1 + 2"), clock), tool("calculator", "3"), now,
           says("3, on a Friday.")]  # fmt: skip
    yield [user("How old is what was made in 1990?"), calls(clock), now, calls(calculator("2026 - 1990")),
           tool("calculator", "36"), says("36 years.")]  # fmt: skip
    yield [user("Divide 1 by 0."), calls(calculator("1 / 0")), tool("calculator", "error: division by zero"),
           says("That cannot be computed.")]  # fmt: skip
    yield [user("Is it late? Say that you look."), calls(clock, content="Let me look."), now, says("No.")]
    yield [user("Think, then answer yes."), says("Yes.", reasoning="It is asked for.")]
    yield [user("Call for ever.")] + [calls(clock), now] * 10
    yield [user("Count to twelve."), says("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12.")]


def write_json(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")


def make_model(folder):
    rows = list(chats())
    with open(HERE / "chats.jsonl", "w", encoding="utf-8") as file:
        for messages in rows:
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=[AddedToken(text, special=True) for text in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [json.dumps(message, ensure_ascii=False) for messages in rows for message in messages]
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )
    torch.manual_seed(1)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=1024, rope_theta=10000.0, tie_word_embeddings=True,
        rms_norm_eps=1e-6, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    batch = []
    for messages in rows:
        out = tokenizer.apply_chat_template(
            messages, chat_template=TEMPLATE, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        batch.append((out["input_ids"], out["assistant_masks"]))
    longest = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in batch])
    labels = torch.tensor(
        [[i if m else -100 for i, m in zip(ids, mask)] + [-100] * (longest - len(ids)) for ids, mask in batch]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for step in range(STEPS):
        logits = model(input_ids=ids).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    print("loss", loss.item())
    model = model.to(torch.float16).to(torch.float32).eval()
    tokenizer.chat_template = TEMPLATE.replace("{%- generation %}\n", "").replace("{%- endgeneration %}\n", "")
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    model = model.to(torch.float32)
    expected = []
    for messages in rows:
        turns = []
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = tokenizer.apply_chat_template(
                messages[:i], tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
            out = model.generate(**prompt, max_new_tokens=80, do_sample=False)
            n = prompt["input_ids"].shape[1]
            turns.append({"prompt": out[0, :n].tolist(), "answer": out[0, n:].tolist()})
        expected.append(turns)
    write_json("expected.json", expected)


def make_calls(folder):
    """What follows the prompt where the assistant calls, as each template writes it."""
    chat = HERE.parent / "tokenizer" / "chat"
    templates = {
        "Qwen3": chat / "Qwen-Qwen3-0.6B.jinja",
        "Qwen2.5": chat / "Qwen-Qwen2.5-7B-Instruct.jinja",
        "Mistral-Nemo": chat / "mistralai-Mistral-Nemo-Instruct-2407.jinja",
        "Llama-3.1": Path(folder) / "meta-llama-Llama-3.1-8B-Instruct.jinja",
        "Llama-3.2": Path(folder) / "meta-llama-Llama-3.2-3B-Instruct.jinja",
        "Hermes-2-Pro": Path(folder) / "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja",
    }
    parameters = {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]}
    tools = [
        {"type": "function", "function": {"name": "calculator", "description": "Computes", "parameters": parameters}},
        {"type": "function", "function": {"name": "clock", "description": "Tells the time",
                                          "parameters": {"type": "object", "properties": {}}}},
    ]  # fmt: skip
    cases = []
    for name, path in templates.items():
        template = path.read_text(encoding="utf-8")
        for named in (
            [("calculator", {"expression": "(47 + 36) * 2"})],
            [("clock", {})],
            [("calculator", {"expression": "\"é\" 世界\\n"})],
            [("clock", {}), ("calculator", {"expression": "1 / 3"})],
        ):
            message = calls(*named)
            for i, call in enumerate(message["tool_calls"]):
                call["id"] = f"call0000{i}"
            asked = [user("Go.")]
            variables = {"bos_token": "<s>", "eos_token": "</s>", "tools": tools, "chat_template": template}
            try:
                whole, _ = render_jinja_template([asked + [message]], **variables)
                before, _ = render_jinja_template([asked], **variables, add_generation_prompt=True)
            except Exception as error:  # Llama's templates refuse more than one call.
                print(name, named, error)
                continue
            assert whole[0].startswith(before[0]), name
            text = whole[0][len(before[0]) :]
            cases.append({"template": name, "text": text, "calls": message["tool_calls"]})
    write_json("calls.json", cases)


if __name__ == "__main__":
    make_model(HERE / "base")
    if len(sys.argv) > 1:
        make_calls(sys.argv[1])
