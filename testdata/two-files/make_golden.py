"""Makes the golden files of two-files/run.rs: two tiny random models and what they must write.

    pip install torch transformers tokenizers sentencepiece protobuf gguf numpy
    python make_golden.py ../../models/stories260K.gguf .

The oracles are transformers (logits, greedy tokens), tokenizers and sentencepiece (tokens, text).
A golden file is a list of cases: the prompt, its tokens, the greedy tokens after it, their text,
and the five highest logits after the prompt. A case is refused where two logits come so near that
another order of summation could choose another token.
"""

import io
import json
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import sentencepiece
import tokenizers
import torch
import transformers
from sentencepiece import sentencepiece_model_pb2

N_TOKENS = 48
NEAREST = 2e-4  # the least distance between the two highest logits

TEXT = """The fox ran over the hill and the hills were green. It's a small fox, isn't it? They'll say
it ran 12 miles in 34 minutes, or 5678 steps, and we've heard that before; I'm sure he'd run again.
  Indented lines,\ttabs, and \"quoted words\" are part of the text (as are brackets).

The naïve café owner said: Füchse laufen über die Hügel. Лиса бежит. 狐狸跑过山。
fn main() { println!("hello, world"); }
The fox and the owner and the hills and the green fox ran and ran and ran over and over again.
"""

PROMPTS = [
    "The fox ran over the hill",
    "It's 5678 steps,\n\n  isn't it?\tWE'LL see  ",
    "naïve 狐狸 🦊 über\r\n café",
]


def permuted(weight, n_head):
    """Query and key rows from transformers' halves (i, i + D/2) to GGUF's pairs (2i, 2i + 1)."""
    rows, cols = weight.shape
    return weight.reshape(n_head, 2, rows // n_head // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def unpermuted(weight, n_head):
    rows, cols = weight.shape
    return weight.reshape(n_head, rows // n_head // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    name = name.removesuffix(".weight")
    if name.startswith("model.layers."):
        _, _, layer, rest = name.split(".", 3)
        return f"blk.{layer}.{NAMES[rest]}.weight"
    return NAMES[name] + ".weight"


def randomise(model, seed):
    """Weights that make the model talk: larger than those that training begins with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if "norm" in name else 0.15 * noise)
    return model.eval()


def write_tensors(writer, model, config, kind, permute):
    """Writes the weights as `kind` and gives the model the values that the file now holds."""
    done = set()
    for name, parameter in model.named_parameters():
        array = parameter.detach().numpy()
        out = gguf_name(name)
        if out in done:
            continue
        done.add(out)
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
        n_head = heads.get(out.split(".")[-2]) if permute else None
        if n_head:
            array = permuted(array, n_head)
        if array.ndim == 1:
            writer.add_tensor(out, array)
            continue
        packed = gguf.quants.quantize(array, kind)
        writer.add_tensor(out, packed, raw_dtype=kind)
        array = gguf.quants.dequantize(packed, kind)
        if n_head:
            array = unpermuted(array, n_head)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(array))


def write_config(writer, config):
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def cases(model, encode, decode, prompts, ends):
    found = []
    for prompt in prompts:
        ids = encode(prompt)
        logits = []
        written = []
        with torch.no_grad():
            for _ in range(N_TOKENS):
                logits.append(model(torch.tensor([ids + written])).logits[0, -1])
                top = torch.topk(logits[-1], 2).values
                assert top[0] - top[1] > NEAREST, f"too near: {top.tolist()} in {prompt!r}"
                token = int(logits[-1].argmax())
                if token in ends:
                    break
                written.append(token)
        top = torch.topk(logits[0], 5)
        found.append(
            {
                "prompt": prompt,
                "prompt_ids": ids,
                "ids": written,
                "text": decode(ids, written),
                "top_logits": [[int(i), float(x)] for i, x in zip(top.indices, top.values)],
            }
        )
    return found


def write_json(path, model, source, goldens):
    lines = ",\n".join(json.dumps(golden, ensure_ascii=False) for golden in goldens)
    text = f'{{"model": {json.dumps(model)}, "oracle": {json.dumps(source)}, "cases": [\n{lines}\n]}}\n'
    path.write_text(text)


def qwen3(folder):
    """Byte-level BPE, heads wider than C / H, query and key norms, tied head, F16."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    split = tokenizers.pre_tokenizers.Split(
        tokenizers.Regex(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        "isolated",
    )
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=335,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    end = tokenizer.get_vocab_size()
    pieces = [tokenizer.id_to_token(i) for i in range(end)] + ["<|endoftext|>"]
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    config = transformers.Qwen3Config(
        vocab_size=end + 1, hidden_size=48, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=128,
        tie_word_embeddings=True, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    )
    model = randomise(transformers.Qwen3ForCausalLM(config).float(), seed=3)
    path = folder / "qwen3-f16.gguf"
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name("random Qwen3 for tests")
    write_config(writer, config)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(pieces)
    writer.add_token_types([gguf.TokenType.NORMAL] * end + [gguf.TokenType.CONTROL])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)
    write_tensors(writer, model, config, gguf.GGMLQuantizationType.F16, permute=False)
    finish(writer)
    goldens = cases(
        model, lambda text: tokenizer.encode(text).ids, lambda _, ids: tokenizer.decode(ids), PROMPTS, [end]
    )
    write_json(folder / "qwen3-f16.json", path.name, "transformers, tokenizers", goldens)


def pieces_of(processor):
    pieces, scores, types = [], [], []
    for i in range(processor.get_piece_size()):
        pieces.append(processor.id_to_piece(i))
        scores.append(processor.get_score(i))
        if processor.is_unknown(i):
            types.append(gguf.TokenType.UNKNOWN)
        elif processor.is_control(i):
            types.append(gguf.TokenType.CONTROL)
        elif processor.is_byte(i):
            types.append(gguf.TokenType.BYTE)
        else:
            types.append(gguf.TokenType.NORMAL)
    return pieces, scores, types


def sentencepiece_cases(model, processor, prompts):
    """SentencePiece's text of all tokens, less its text of the prompt's."""

    def decode(ids, written):
        before = processor.decode(ids[1:])
        both = processor.decode(ids[1:] + written)
        assert both.startswith(before)
        return both[len(before) :]

    encode = lambda text: [processor.bos_id()] + processor.encode(text)
    return cases(model, encode, decode, prompts, [processor.eos_id()])


def llama(folder):
    """SentencePiece with byte fallback, grouped heads, Llama 3's RoPE factors, own head, Q8_0."""
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.split("\n")), model_writer=trained, vocab_size=352,
        model_type="bpe", byte_fallback=True, character_coverage=0.98, normalization_rule_name="identity",
        remove_extra_whitespaces=False, add_dummy_prefix=True, num_threads=1, minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    pieces, scores, types = pieces_of(processor)
    scaling = {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
    }
    config = transformers.LlamaConfig(
        vocab_size=len(pieces), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=128,
        tie_word_embeddings=False, rms_norm_eps=1e-5, rope_parameters=scaling,
    )
    model = randomise(transformers.LlamaForCausalLM(config).float(), seed=5)
    path = folder / "llama-q8_0.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random Llama for tests")
    write_config(writer, config)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_unk_token_id(processor.unk_id())
    writer.add_bos_token_id(processor.bos_id())
    writer.add_eos_token_id(processor.eos_id())
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    plain = 10000.0 ** (-np.arange(0, config.head_dim, 2) / config.head_dim)
    factors = plain / model.model.rotary_emb.inv_freq.numpy()
    writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))
    write_tensors(writer, model, config, gguf.GGMLQuantizationType.Q8_0, permute=True)
    finish(writer)
    goldens = sentencepiece_cases(model, processor, PROMPTS)
    write_json(folder / "llama-q8_0.json", path.name, "transformers, sentencepiece", goldens)


def stories(source, folder):
    """The bundled model; its tokenizer is given to SentencePiece piece by piece."""
    reader = gguf.GGUFReader(source)
    field = lambda key: reader.fields[key].contents()
    proto = sentencepiece_model_pb2.ModelProto()
    for key in ("tokens", "scores", "token_type"):
        assert len(field(f"tokenizer.ggml.{key}")) == 512
    for piece, score, kind in zip(*(field(f"tokenizer.ggml.{k}") for k in ("tokens", "scores", "token_type"))):
        proto.pieces.add(piece=piece, score=score, type=kind)
    proto.trainer_spec.model_type = sentencepiece_model_pb2.TrainerSpec.BPE
    proto.trainer_spec.byte_fallback = True
    proto.trainer_spec.vocab_size = 512
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = True
    proto.normalizer_spec.remove_extra_whitespaces = False
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    config = transformers.LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=172, num_hidden_layers=5,
        num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=512,
        tie_word_embeddings=True, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    model = transformers.LlamaForCausalLM(config).float().eval()
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            out = gguf_name(name)
            array = tensors[out]
            if "attn_q." in out or "attn_k." in out:
                array = unpermuted(array, 8 if "attn_q." in out else 4)
            parameter.copy_(torch.from_numpy(array.copy()))
    prompts = ["", "Once upon a time", "Tom said: \"I'm 7!\"\nHis mum", "The café 狐"]
    goldens = sentencepiece_cases(model, processor, prompts)
    write_json(folder / "stories260K.json", "../../models/stories260K.gguf", "transformers, sentencepiece", goldens)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    folder = Path(sys.argv[2])
    stories(sys.argv[1], folder)
    qwen3(folder)
    llama(folder)
