"""Give two of the tiny models a tokenizer, and write what transformers makes of a few texts (text.json).

llama: a SentencePiece BPE with byte fallback, in the form of the published Llama 2 folders (tokenizer.model and
tokenizer.json). qwen3: a byte-level BPE with added tokens, special and not, and a chat template.
"""

import io
import json

import sentencepiece
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

# Written for this file: what both tokenizers learn from.
CORPUS = """
the cat sat on the mat and looked at the rain. the rain ran down the window and the cat ran after it.
a small model reads a small text and learns a small part of it, one token after another token.
once upon a time there was a machine that could read and write, and it wrote to the people of the town.
in the morning the sun rose over the hills, and the birds in the trees sang as if they had not sung before.
what is a word? a word is what the reader makes of it: the letters stand still and the meaning moves.
they went to the river, they went to the sea, and there they saw the other side of the water.
"""

TEXTS = [
    "the cat sat on the mat",
    "Once upon a time, there was a Machine.",
    "  two  spaces\tand a tab\nand a line",
    "naïve café, 12345 — 北京 🙂",
    "",
]
CHAT = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "what is a word?"},
    {"role": "assistant", "content": "what the reader makes of it"},
    {"role": "user", "content": "and a token?"},
]
N_NEW = 20  # greedy tokens
MARGIN = 0.02  # nats between the first and the second choice: beyond what rounding may change

# The split of Qwen 2 and 3 (a fact of those models: their tokenizer.json holds it).
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)
# In the order of their ids, after the last merge; the last four are not special: decoding keeps them.
QWEN_ADDED = [
    ("<|endoftext|>", True),
    ("<|im_start|>", True),
    ("<|im_end|>", True),
    ("<tool_call>", False),
    ("</tool_call>", False),
    ("<think>", False),
    ("</think>", False),
]


def llama_tokenizer(folder, vocab_size):
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.strip().split("\n")),
        model_writer=trained,
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(trained.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    vocab = {pieces.id_to_piece(i): i for i in range(vocab_size)}
    # Every way to make a piece of two pieces, best piece first: what published conversions list as merges.
    learned = {piece for piece, i in vocab.items() if not (pieces.is_byte(i) or pieces.is_control(i) or pieces.is_unknown(i))}
    merges = []
    for piece in sorted(learned, key=vocab.get):
        ways = [(piece[:k], piece[k:]) for k in range(1, len(piece))]
        ways = [(left, right) for left, right in ways if left in learned and right in learned]
        merges += sorted(ways, key=lambda way: (vocab[way[0]], vocab[way[1]]))
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    for text in TEXTS:
        assert tokenizer.encode(text, add_special_tokens=False).ids == pieces.encode(text), text
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "legacy": False,
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def qwen_tokenizer(folder, vocab_size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(QWEN_ADDED),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS.strip().split("\n"), trainer)
    tokenizer.add_tokens([AddedToken(t, special=special, normalized=False) for t, special in QWEN_ADDED])
    assert tokenizer.get_vocab_size() == vocab_size
    tokenizer.save(str(folder / "tokenizer.json"))
    first = vocab_size - len(QWEN_ADDED)
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(first + i): {
                "content": text,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": special,
            }
            for i, (text, special) in enumerate(QWEN_ADDED)
        },
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def make_tokenizer(name, folder, vocab_size):
    """Writes the folder's tokenizer -> the ids that are no readable text on their own."""
    (llama_tokenizer if name == "llama" else qwen_tokenizer)(folder, vocab_size)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == vocab_size
    special = set(tokenizer.all_special_ids)
    texts = {i: tokenizer.decode([i]) for i in range(vocab_size)}
    return [i for i, text in texts.items() if i in special or "\ufffd" in text or not text.isprintable()]


def greedy(model, ids):
    """N_NEW ids after ids, and the least gap between the first and the second choice."""
    new, margin = [], float("inf")
    with torch.no_grad():
        while len(new) < N_NEW:
            logits = model(torch.tensor([ids + new])).logits[0, -1]
            best = logits.topk(2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            new.append(best.indices[0].item())
    return new, margin


def write_text(folder, model):
    """Writes text.json: texts as ids, greedy continuations, and a conversation through the template."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    golden = {"encode": [], "greedy": []}
    for text in TEXTS:
        plain = tokenizer.encode(text, add_special_tokens=False)
        golden["encode"].append(
            {
                "text": text,
                "ids": plain,
                "ids_with_special": tokenizer.encode(text),
                "decoded": tokenizer.decode(plain, skip_special_tokens=False),
            }
        )
    # Prompts whose continuation is decided beyond rounding and does not stop.
    for prompt in CORPUS.strip().replace("\n", " ").split(". "):
        prompt = prompt[:40].strip()
        ids = tokenizer.encode(prompt)
        new, margin = greedy(model, ids)
        if margin > MARGIN and model.config.eos_token_id not in new and len(golden["greedy"]) < 2:
            text = tokenizer.decode(ids + new)[len(tokenizer.decode(ids)) :]
            golden["greedy"].append({"prompt": prompt, "prompt_ids": ids, "new_ids": new, "text": text})
    assert golden["greedy"]
    if tokenizer.chat_template:
        golden["chat"] = []
        for options in ({"add_generation_prompt": False}, {"add_generation_prompt": True, "enable_thinking": False}):
            text = tokenizer.apply_chat_template(CHAT, tokenize=False, **options)
            golden["chat"].append({"messages": CHAT, **options, "text": text, "ids": tokenizer.encode(text)})
    (folder / "text.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
