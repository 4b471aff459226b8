#!/usr/bin/env python3
"""Make a GGUF model in three parts, and the same in one, with the gguf package's own splitting.

    pip install gguf numpy
    python make.py            # writes whole.gguf and part-0000?-of-00003.gguf beside itself
"""

from pathlib import Path

import gguf
import numpy as np

HERE = Path(__file__).resolve().parent
VOCAB_SIZE, C, N_HEAD, D_FF = 16, 8, 2, 12


def write(path, split_max_tensors):
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=split_max_tensors)
    writer.add_vocab_size(VOCAB_SIZE)
    writer.add_context_length(32)
    writer.add_embedding_length(C)
    writer.add_block_count(1)
    writer.add_feed_forward_length(D_FF)
    writer.add_head_count(N_HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(C // N_HEAD)
    writer.add_tokenizer_model("none")
    random = np.random.default_rng(1)
    shapes = {
        "token_embd": (VOCAB_SIZE, C),
        "output_norm": (C,),
        "blk.0.attn_norm": (C,),
        "blk.0.attn_q": (C, C),
        "blk.0.attn_k": (C, C),
        "blk.0.attn_v": (C, C),
        "blk.0.attn_output": (C, C),
        "blk.0.ffn_norm": (C,),
        "blk.0.ffn_gate": (D_FF, C),
        "blk.0.ffn_up": (D_FF, C),
        "blk.0.ffn_down": (C, D_FF),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.standard_normal(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


write(HERE / "whole.gguf", 0)
write(HERE / "part.gguf", 4)
