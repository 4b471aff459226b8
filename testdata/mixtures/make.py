#!/usr/bin/env python3
"""Record which format llama.cpp gives each tensor of a file: the oracle of the mixtures.

    pip install gguf llama-cpp-python numpy
    python make.py            # writes types.json beside itself

The models hold zeros; only names, shapes and the few keys that llama.cpp's rules look at matter.
"""

import ctypes
import json
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

HERE = Path(__file__).resolve().parent
FILE_TYPES = {"q8_0": 7, "q4_0": 2, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18}
VOCAB_SIZE = 32

# name -> (architecture, layers, width, heads, kv heads, inner width, experts, tied)
MODELS = {
    "untied": ("llama", 10, 256, 4, 2, 512, 0, False),
    "tied": ("qwen3", 17, 256, 4, 2, 512, 0, True),
    "narrow": ("llama", 3, 96, 3, 3, 160, 0, False),
    "odd": ("llama", 2, 24, 2, 2, 40, 0, True),
    "fused": ("phi3", 9, 256, 4, 4, 512, 0, False),
    "four-experts": ("llama", 8, 256, 4, 2, 256, 4, False),
    "eight-experts": ("llama", 9, 256, 4, 2, 256, 8, False),
    "70b": ("llama", 80, 256, 4, 2, 256, 0, False),
}


def shapes(architecture, n_layer, c, n_head, n_kv_head, d_ff, n_expert, tied):
    kv = c // n_head * n_kv_head
    tensors = {"token_embd.weight": (VOCAB_SIZE, c), "output_norm.weight": (c,)}
    if not tied:
        tensors["output.weight"] = (VOCAB_SIZE, c)
    for i in range(n_layer):
        layer = {"attn_norm": (c,), "ffn_norm": (c,), "attn_output": (c, c)}
        if architecture == "phi3":
            layer |= {"attn_qkv": (c + 2 * kv, c), "ffn_up": (2 * d_ff, c), "ffn_down": (c, d_ff)}
        else:
            layer |= {"attn_q": (c, c), "attn_k": (kv, c), "attn_v": (kv, c)}
            if n_expert:
                layer |= {
                    "ffn_gate_inp": (n_expert, c),
                    "ffn_gate_exps": (n_expert, d_ff, c),
                    "ffn_up_exps": (n_expert, d_ff, c),
                    "ffn_down_exps": (n_expert, c, d_ff),
                }
            else:
                layer |= {"ffn_gate": (d_ff, c), "ffn_up": (d_ff, c), "ffn_down": (c, d_ff)}
        if architecture == "qwen3":
            layer |= {"attn_q_norm": (c // n_head,), "attn_k_norm": (c // n_head,)}
        tensors |= {f"blk.{i}.{part}.weight": shape for part, shape in layer.items()}
    return tensors


def write(path, model):
    architecture, n_layer, c, n_head, n_kv_head, d_ff, n_expert, _ = model
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_vocab_size(VOCAB_SIZE)
    writer.add_context_length(64)
    writer.add_embedding_length(c)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(d_ff)
    writer.add_head_count(n_head)
    writer.add_head_count_kv(n_kv_head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(c // n_head)
    writer.add_file_type(0)
    if n_expert:
        writer.add_expert_count(n_expert)
        writer.add_expert_used_count(2)
    writer.add_tokenizer_model("none")
    for name, shape in shapes(*model).items():
        writer.add_tensor(name, np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    described = {"made with": f"llama-cpp-python {llama_cpp.__version__}", "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, model in MODELS.items():
            source, target = f"{folder}/{name}.gguf", f"{folder}/out.gguf"
            write(source, model)
            tensors = {tensor: {"shape": list(shape)} for tensor, shape in shapes(*model).items()}
            for file_type, number in FILE_TYPES.items():
                params = llama_cpp.llama_model_quantize_default_params()
                params.ftype, params.nthread = number, 1
                code = llama_cpp.llama_model_quantize(source.encode(), target.encode(), params)
                assert code == 0, (name, file_type)
                for tensor in gguf.GGUFReader(target).tensors:
                    tensors[tensor.name][file_type] = tensor.tensor_type.name.lower()
            keys = ("architecture", "n_layer", "d_model", "n_head", "n_kv_head", "d_ff", "n_expert", "tied")
            described["models"][name] = dict(zip(keys, model)) | {"tensors": tensors}
            print(name)
    lines = json.dumps(described, separators=(",", ":")).replace('"blk.', '\n"blk.')
    (HERE / "types.json").write_text(lines + "\n")


if __name__ == "__main__":
    main()
