#!/usr/bin/env python3
"""Write the models that peers.py measures: random weights in the two shapes, F16, then quantised by llmos.

    pip install gguf numpy
    python3 bench/make_models.py target/release/llmos FOLDER [--shapes llama-134m]

Speed does not depend on what the weights are; all programs are given the same files. 5.3 GB in all.
"""

import argparse
import subprocess
from pathlib import Path

import gguf
import numpy as np

# d_model, n_layer, n_head, n_kv_head, d_ff, vocab_size, tied head. TinyLlama 1.1B and SmolLM 135M.
SHAPES = {
    "llama-1.1b": (2048, 22, 32, 4, 5632, 32000, False),
    "llama-134m": (576, 30, 9, 3, 1536, 49152, True),
}
TYPES = ["q8_0", "q4_0", "q4_k_m"]
CONTEXT = 8192


def vocabulary(writer, vocab_size):
    """SentencePiece's special tokens and bytes, then words that no text has."""
    n_word = vocab_size - 259
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokens += [f"\u2581t{word}" for word in range(n_word)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * n_word
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(word) for word in range(n_word)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def write(path, name, shape):
    d_model, n_layer, n_head, n_kv_head, d_ff, vocab_size, tied = shape
    d_head = d_model // n_head
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"random {name}")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(d_model)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(d_ff)
    writer.add_head_count(n_head)
    writer.add_head_count_kv(n_kv_head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(d_head)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    vocabulary(writer, vocab_size)
    random = np.random.default_rng(1)

    def matrix(name, rows, cols):
        values = random.standard_normal((rows, cols), dtype=np.float32) * 0.02
        writer.add_tensor(name, values.astype(np.float16))

    matrix("token_embd.weight", vocab_size, d_model)
    if not tied:
        matrix("output.weight", vocab_size, d_model)
    writer.add_tensor("output_norm.weight", np.ones(d_model, np.float32))
    for layer in range(n_layer):
        block = f"blk.{layer}"
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}.{norm}.weight", np.ones(d_model, np.float32))
        for part, rows, cols in [
            ("attn_q", d_model, d_model),
            ("attn_k", n_kv_head * d_head, d_model),
            ("attn_v", n_kv_head * d_head, d_model),
            ("attn_output", d_model, d_model),
            ("ffn_gate", d_ff, d_model),
            ("ffn_up", d_ff, d_model),
            ("ffn_down", d_model, d_ff),
        ]:
            matrix(f"{block}.{part}.weight", rows, cols)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("llmos", help="path of the built llmos")
    parser.add_argument("folder", type=Path, help="where the models go")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="comma-separated")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.shapes.split(","):
        source = options.folder / f"{name}-f16.gguf"
        if not source.exists():
            print(source, flush=True)
            aside = source.with_suffix(".tmp")
            write(aside, name, SHAPES[name])
            aside.rename(source)
        for kind in TYPES:
            out = options.folder / f"{name}-{kind}.gguf"
            if not out.exists():
                print(out, flush=True)
                subprocess.run([options.llmos, "--quiet", "convert", source, out, "--type", kind], check=True)


if __name__ == "__main__":
    main()
