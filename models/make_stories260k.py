"""Makes stories260K.gguf from the llama2.c checkpoint and its tokenizer.

    pip install gguf numpy
    python make_stories260k.py stories260K.bin tok512.bin stories260K.gguf

Nothing is lost on the way: the parameters stay 32-bit floats. llama2.c turns the channels
(2i, 2i + 1) of a head together, as the architecture "llama" of GGUF does, so the query and key
matrices keep their order. The file is the same, byte for byte, each time.
"""

import struct
import sys
from pathlib import Path

import gguf
import numpy as np

UNKNOWN, BOS, EOS, FIRST_BYTE = 0, 1, 2, 3


def read_checkpoint(path):
    """The configuration and the tensors of a llama2.c version 0 checkpoint."""
    data = Path(path).read_bytes()
    keys = ("d_model", "d_ffn", "n_layer", "n_head", "n_kv_head", "vocab_size", "context")
    config = dict(zip(keys, struct.unpack("<7i", data[:28])))
    assert config["vocab_size"] > 0, "a negative vocabulary size means a head of its own"
    c, f, n, v = (config[key] for key in ("d_model", "d_ffn", "n_layer", "vocab_size"))
    kv = c // config["n_head"] * config["n_kv_head"]
    shapes = {  # in the order of the file; (n, ...) is one a layer
        "token_embd": (v, c),
        "attn_norm": (n, c),
        "attn_q": (n, c, c),
        "attn_k": (n, kv, c),
        "attn_v": (n, kv, c),
        "attn_output": (n, c, c),
        "ffn_norm": (n, c),
        "ffn_gate": (n, f, c),
        "ffn_down": (n, c, f),
        "ffn_up": (n, f, c),
        "output_norm": (c,),
    }
    tensors, at = {}, 28
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        tensors[name] = np.frombuffer(data, "<f4", size, at).reshape(shape)
        at += 4 * size
    # Two tables of RoPE's sines and cosines follow, which nobody reads any more.
    assert at + 4 * config["context"] * (c // config["n_head"]) == len(data)
    return config, tensors


def read_tokenizer(path, vocab_size):
    """The pieces with their scores and types, in SentencePiece's spelling."""
    data = Path(path).read_bytes()
    at, pieces, scores, types = 4, [], [], []  # the first number is the longest piece's length
    for token in range(vocab_size):
        score, length = struct.unpack_from("<fi", data, at)
        text = data[at + 8 : at + 8 + length].decode()
        at += 8 + length
        kind = gguf.TokenType.NORMAL
        if token == UNKNOWN:
            kind = gguf.TokenType.UNKNOWN
        elif token in (BOS, EOS):
            text, kind = text.strip("\n"), gguf.TokenType.CONTROL
        elif token < FIRST_BYTE + 256:
            kind = gguf.TokenType.BYTE
        pieces.append(text.replace(" ", "\u2581"))
        scores.append(score)
        types.append(kind)
    assert at == len(data)
    return pieces, scores, types


def main(checkpoint, tokenizer, out):
    config, tensors = read_checkpoint(checkpoint)
    pieces, scores, types = read_tokenizer(tokenizer, config["vocab_size"])
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name("stories260K")
    writer.add_author("Andrej Karpathy")
    writer.add_license("mit")
    writer.add_description("Writes short stories for children; trained on TinyStories.")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["context"])
    writer.add_embedding_length(config["d_model"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(config["d_ffn"])
    writer.add_head_count(config["n_head"])
    writer.add_head_count_kv(config["n_kv_head"])
    writer.add_rope_dimension_count(config["d_model"] // config["n_head"])
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)
    for name in ("token_embd", "output_norm"):
        writer.add_tensor(f"{name}.weight", tensors.pop(name))
    for layer in range(config["n_layer"]):
        for name, stacked in tensors.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ascontiguousarray(stacked[layer]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
