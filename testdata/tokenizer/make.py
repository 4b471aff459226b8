#!/usr/bin/env python3
"""Makes the golden files of this folder, with programs that are not ours.

    python3 make.py VOCAB_DIR CORPUS

VOCAB_DIR is llama.cpp's folder `models` (vocabularies, token lists, chat templates); CORPUS is a
text to train small SentencePiece and Hugging Face models on (SentencePiece's data/botchan.txt).
Needs: tokenizers, sentencepiece, transformers, jinja2, zstd on the path. Versions used are written
to VERSIONS.txt.
"""
import datetime
import json
import os
import random
import subprocess
import sys

import jinja2
import sentencepiece
import tokenizers
import transformers
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)
from transformers.utils import chat_template_utils

VOCABULARIES = ["gpt-2", "bert-bge", "phi-3", "mpt", "falcon"]
TEMPLATES = ["Qwen-Qwen3-0.6B", "Qwen-Qwen2.5-7B-Instruct", "HuggingFaceTB-SmolLM3-3B",
             "microsoft-Phi-3.5-mini-instruct", "mistralai-Mistral-Nemo-Instruct-2407"]
NOW = 1_700_000_000

vocab_dir, corpus = sys.argv[1:]
here = os.path.dirname(os.path.abspath(__file__))


def path(*parts):
    full = os.path.join(here, *parts)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    return full


def write_json(name, value):
    with open(path(name), "w") as file:
        json.dump(value, file, ensure_ascii=True, separators=(",", ":"))
        file.write("\n")


def make_texts():
    """Texts with what tokenizers disagree on; the same in every run."""
    rng = random.Random(20240501)
    lines = [line.strip() for line in open(corpus) if len(line) > 40]
    alphabets = ["abcXYZ'sStTlLdDmMrReEvV ", " \t\n\r\u00a0\u3000", "0123456789½Ⅷ٣",
                 "!-/:.,?()[]{}<>@#$%^&*_=+`~|\\\"'", "àéîõüßÅǅʰªаЯёひらカタ漢字한국어你好",
                 "\u0300\u0301\u0327\u093e\u0bcd\u200d\u200b\ufeff\ufe0f", "😀🎉👍🏽🇫🇷",
                 "\u0001\u001f\u007f\u0085\u2028", "▁Ġ", "<s></s><mark><|x|>"]
    texts = ["", " ", "  ", "\n", "Hello world", " Hello  world ", "\t\tx\n\n y",
             "I'M don't we'LL 'sſ K", "e\u0301\u0301 é", "你好，世界！１２３", "1234567890 12 3",
             "a\u200db 👨\u200d👩\u200d👧\u200d👦", "<s> </s> <unk> <mark> a<mark> b", "ﬁ ① Å ﷺ",
             "\u00a0\u3000x\u2028y\u0085z", "word wording ward", "x  <|x|>  y<|x|>z"]
    while len(texts) < 200:
        if rng.random() < 0.4:
            line = rng.choice(lines)
            start = rng.randrange(len(line))
            texts.append(line[start:start + rng.randrange(1, 120)])
        else:
            text = ""
            for _ in range(rng.randrange(1, 9)):
                alphabet = rng.choice(alphabets)
                text += "".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 6)))
            texts.append(text)
    return texts


def copy_vocabularies():
    for name in VOCABULARIES:
        source = os.path.join(vocab_dir, f"ggml-vocab-{name}.gguf")
        target = path("vocab", f"ggml-vocab-{name}.gguf")
        subprocess.run(["zstd", "-q", "-f", "--ultra", "-20", source, "-o", target + ".zst"], check=True)
        for end in (".inp", ".out"):
            with open(source + end, "rb") as file, open(target + end, "wb") as copy:
                copy.write(file.read())


def hugging_face_models(charsmap):
    """Small trained tokenizers that use each component of the format."""
    def train(model, trainer, normalizer=None, pre=None, decoder=None, post=None, added=()):
        tokenizer = Tokenizer(model)
        if normalizer:
            tokenizer.normalizer = normalizer
        if pre:
            tokenizer.pre_tokenizer = pre
        if decoder:
            tokenizer.decoder = decoder
        tokenizer.train([corpus], trainer)
        tokenizer.add_tokens([token for token in added if not token.special])
        tokenizer.add_special_tokens([token for token in added if token.special])
        if post:
            tokenizer.post_processor = post
        return tokenizer

    size = 500
    marks = [AddedToken("<mark>", lstrip=True, rstrip=True), AddedToken("word", single_word=True),
             AddedToken("<|x|>", special=True, rstrip=True), AddedToken("É", normalized=True)]
    llama3 = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                   r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    byte_alphabet = pre_tokenizers.ByteLevel.alphabet()
    yield "byte-level", train(
        models.BPE(), trainers.BpeTrainer(vocab_size=size, initial_alphabet=byte_alphabet,
                                          special_tokens=["<s>", "</s>"]),
        pre=pre_tokenizers.ByteLevel(add_prefix_space=True), decoder=decoders.ByteLevel(),
        post=processors.RobertaProcessing(("</s>", 1), ("<s>", 0)), added=marks)
    yield "llama3-like", train(
        models.BPE(ignore_merges=True),
        trainers.BpeTrainer(vocab_size=size, initial_alphabet=byte_alphabet, special_tokens=["<s>"]),
        normalizer=normalizers.NFC(),
        pre=pre_tokenizers.Sequence([
            pre_tokenizers.Split(llama3, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        decoder=decoders.ByteLevel(),
        post=processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 0)]), added=marks)
    yield "starcoder-like", train(
        models.BPE(), trainers.BpeTrainer(vocab_size=size, initial_alphabet=byte_alphabet),
        pre=pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                     pre_tokenizers.Punctuation("contiguous"),
                                     pre_tokenizers.ByteLevel(add_prefix_space=False)]),
        decoder=decoders.ByteLevel(), added=marks)
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    yield "llama2-like", train(
        models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
        trainers.BpeTrainer(vocab_size=size + 300, special_tokens=["<unk>", "<s>", "</s>"] + bytes_,
                            limit_alphabet=80),
        normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        decoder=decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                   decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
        post=processors.TemplateProcessing("<s> $A", None, [("<s>", 1)]), added=marks)
    yield "metaspace-unk", train(
        models.BPE(unk_token="<unk>"),
        trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>"], limit_alphabet=60),
        pre=pre_tokenizers.Metaspace(prepend_scheme="first"), decoder=decoders.Metaspace(),
        added=marks)
    yield "bert", train(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=size, special_tokens=["[UNK]", "[CLS]", "[SEP]"]),
        normalizer=normalizers.BertNormalizer(), pre=pre_tokenizers.BertPreTokenizer(),
        decoder=decoders.WordPiece(),
        post=processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1)), added=marks)
    yield "wordpiece-cased", train(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=size, special_tokens=["[UNK]"]),
        normalizer=normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(),
                                         normalizers.Strip(), normalizers.Lowercase()]),
        pre=pre_tokenizers.Whitespace(), decoder=decoders.WordPiece(cleanup=False))
    yield "unigram", train(
        models.Unigram(), trainers.UnigramTrainer(vocab_size=size, unk_token="<unk>",
                                                  special_tokens=["<unk>", "</s>"]),
        normalizer=normalizers.Sequence([normalizers.Precompiled(charsmap),
                                         normalizers.Replace(Regex(" {2,}"), " ")]),
        pre=pre_tokenizers.Metaspace(), decoder=decoders.Metaspace(),
        post=processors.TemplateProcessing("$A </s>", None, [("</s>", 1)]), added=marks)
    yield "unigram-nmt", train(
        models.Unigram(), trainers.UnigramTrainer(vocab_size=size, unk_token="<unk>",
                                                  special_tokens=["<unk>"]),
        normalizer=normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()]),
        pre=pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(),
                                     pre_tokenizers.Metaspace(prepend_scheme="always")]),
        decoder=decoders.Metaspace())
    yield "wordlevel", train(
        models.WordLevel(unk_token="<unk>"),
        trainers.WordLevelTrainer(vocab_size=size, special_tokens=["<unk>"]),
        normalizer=normalizers.NFKD(),
        pre=pre_tokenizers.Sequence([
            pre_tokenizers.Split(",", "merged_with_previous"),
            pre_tokenizers.Split(Regex(r"\s+"), "removed"),
            pre_tokenizers.Split("-", "merged_with_next"),
            pre_tokenizers.CharDelimiterSplit("."),
            pre_tokenizers.Digits(individual_digits=False)]))


def hugging_face(texts, charsmap):
    golden = {}
    for name, tokenizer in hugging_face_models(charsmap):
        tokenizer.save(path("hf", f"{name}.json"), pretty=False)
        tokenizer = Tokenizer.from_file(path("hf", f"{name}.json"))
        plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        tokenizer.encode_special_tokens = True
        golden[name] = {
            "parse": plain,
            "none": [tokenizer.encode(text, add_special_tokens=False).ids for text in texts],
            "decoded": [tokenizer.decode(ids, skip_special_tokens=True) for ids in plain],
        }
        tokenizer.encode_special_tokens = False
        golden[name]["start"] = [tokenizer.encode(text).ids for text in texts[4:20]]
    write_json("hf.json", golden)


def sentencepiece_models(texts):
    golden = {}
    for name, options in {
        "unigram": dict(model_type="unigram", normalization_rule_name="nfkc"),
        "unigram-bytes": dict(model_type="unigram", byte_fallback=True,
                              normalization_rule_name="identity", remove_extra_whitespaces=False,
                              add_dummy_prefix=False),
        "bpe": dict(model_type="bpe", normalization_rule_name="identity",
                    user_defined_symbols=["<mark>", "word"]),
        "bpe-bytes": dict(model_type="bpe", byte_fallback=True, split_digits=True,
                          normalization_rule_name="identity", remove_extra_whitespaces=False),
        "bpe-suffix": dict(model_type="bpe", treat_whitespace_as_suffix=True,
                           normalization_rule_name="identity"),
    }.items():
        prefix = path("sp", name)
        sentencepiece.SentencePieceTrainer.train(
            input=corpus, model_prefix=prefix, vocab_size=600, character_coverage=0.9995,
            hard_vocab_limit=False, minloglevel=2, **options)
        os.remove(prefix + ".vocab")
        model = sentencepiece.SentencePieceProcessor(model_file=prefix + ".model")
        golden[name] = [model.encode(text) for text in texts]
    write_json("sp.json", golden)
    from sentencepiece import sentencepiece_model_pb2 as pb
    proto = pb.ModelProto()
    proto.ParseFromString(open(path("sp", "unigram.model"), "rb").read())
    return proto.normalizer_spec.precompiled_charsmap


def chats():
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)

    chat_template_utils.datetime = Clock
    tools = [{"type": "function", "function": {
        "name": "get_weather", "description": "Get <weather> & more",
        "parameters": {"type": "object", "required": ["city"], "properties": {
            "city": {"type": "string"}, "n": {"type": "integer", "default": 3, "scale": 0.5}}}}}]
    conversations = [
        [{"role": "user", "content": "Hi é 你好"}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " Hello\n"},
         {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYo"},
         {"role": "user", "content": "And?"}],
        [{"role": "user", "content": "weather?"},
         {"role": "assistant", "content": "", "tool_calls": [
             {"id": "abcdefghi", "type": "function", "function": {
                 "name": "get_weather", "arguments": {"city": "Paris", "n": 2}}}]},
         {"role": "tool", "tool_call_id": "abcdefghi", "content": "{\"t\": 20}"},
         {"role": "assistant", "content": "20"}, {"role": "user", "content": "ok"}],
        [{"role": "assistant", "content": "first"}, {"role": "user", "content": "x"}],
    ]
    variables = {"bos_token": "<s>", "eos_token": "</s>"}
    cases = []
    for name in TEMPLATES:
        with open(os.path.join(vocab_dir, "templates", name + ".jinja")) as file:
            template = file.read()
        with open(path("chat", name + ".jinja"), "w") as file:
            file.write(template)
        compiled = chat_template_utils._compile_jinja_template(template)
        for messages in conversations:
            for given, prompt in ((None, True), (tools, True), (None, False)):
                case = {"template": name, "messages": messages, "tools": given,
                        "add_generation_prompt": prompt, "variables": variables}
                try:
                    case["text"] = compiled.render(messages=messages, tools=given, documents=None,
                                                   add_generation_prompt=prompt, **variables)
                except jinja2.exceptions.TemplateError as error:
                    case["error"] = str(error)
                cases.append(case)
    write_json("chat.json", {"now": NOW, "cases": cases})


texts = make_texts()
write_json("texts.json", texts)
copy_vocabularies()
hugging_face(texts, sentencepiece_models(texts))
chats()
with open(path("VERSIONS.txt"), "w") as file:
    for module in (tokenizers, sentencepiece, transformers, jinja2):
        file.write(f"{module.__name__} {module.__version__}\n")
