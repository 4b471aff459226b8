#!/usr/bin/env python3
"""Make the golden quantised blocks.

    pip install -r requirements.txt
    python make.py

Reading: for each type, TYPE.bin holds blocks and TYPE.f32 what gguf-py makes of them (little-endian float32, exact).
Writing: input.f32 (rows, columns) holds values as weights have them, and TYPE.quantized what llama.cpp makes of them.
index.json describes both.
"""

import ctypes
import json
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

HERE = Path(__file__).resolve().parent
SEED = 20240611

# type -> byte offsets, within a block, of its float16 scales
HALF_SCALES = {
    "F16": [],
    "BF16": [],
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
    "IQ4_NL": [0],
    "IQ4_XS": [0],
    "MXFP4": [],
}
# Those that gguf-py can quantise: some of their blocks come from values, not from random bytes.
FROM_VALUES = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4"]
# Zero of both signs, the least and the greatest subnormal, the least normal, plain, negative, great.
EDGE_SCALES = [0.0, -0.0, 2.0**-24, 1023 * 2.0**-24, 2.0**-14, 0.0123, -0.0123, -(2.0**-20), 57.5, -300.0]
# Every edge of float16 and of bfloat16, as bits. NaN is left out: its payload is not a value.
EDGE_F16 = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x3555, 0x83FF]
EDGE_BF16 = [0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x0080, 0x3F80, 0xBF80, 0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x3EAB, 0x807F]
# MXFP4's scale is a power of two, 2^(e - 127), of which the elements take half: 0 and 1 give subnormal float32.
EDGE_E8M0 = [0, 1, 2, 3, 100, 126, 127, 128, 140, 252]
QUANTISED = ["Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K"]
# Those of QUANTISED that a second implementation must reproduce to the byte.
EXACT = ["Q8_0", "Q4_0"]
N_ROW, N_COLUMN = 8, 512


def blocks_of(name, rng):
    """Valid blocks of a type: uint8 (n_block, bytes a block)."""
    n_value, n_byte = GGML_QUANT_SIZES[Type[name]]
    if name in ("F16", "BF16"):
        edges = EDGE_F16 if name == "F16" else EDGE_BF16
        random = rng.integers(0, 0x7B00, 50, dtype=np.uint16) | (rng.integers(0, 2, 50, dtype=np.uint16) << 15)
        return np.concatenate([np.array(edges, np.uint16), random]).view(np.uint8).reshape(-1, 2)
    edges = EDGE_E8M0 if name == "MXFP4" else EDGE_SCALES
    n_block = max(len(edges), 4) if n_value == 256 else 16
    blocks = rng.integers(0, 256, (n_block, n_byte), dtype=np.uint8)
    for i, block in enumerate(blocks):
        if name == "MXFP4":
            block[0] = edges[i] if i < len(edges) else rng.integers(110, 135)
        for k, at in enumerate(HALF_SCALES[name]):
            # The second scale (the minimum) takes the edges in another order.
            scale = edges[(i + 3 * k) % len(edges)] if i < len(edges) else rng.normal(0, 0.02)
            block[at : at + 2] = np.array([scale], np.float16).view(np.uint8)
    if name in FROM_VALUES:
        values = rng.normal(0, 0.05, (4, n_value)).astype(np.float32)
        blocks = np.concatenate([blocks, quantize(values, Type[name]).reshape(-1, n_byte)])
    return blocks


def weights(rng):
    """Values (N_ROW, N_COLUMN) as weights have them: gaussian, outliers, rows of other widths, zeros, ties."""
    x = rng.normal(0, 0.02, (N_ROW, N_COLUMN)).astype(np.float32)
    x[1] *= 50.0
    x[2] *= 1e-4
    x[3, rng.integers(0, N_COLUMN, 12)] *= 40.0
    x[4] = rng.standard_t(3, N_COLUMN) * 0.02
    x[5, :256] = 0.0
    x[5, 256:288] = -0.25
    x[5, 288:320] = np.linspace(-1.0, 1.0, 32)
    x[6] = np.abs(x[6])
    x[7] = rng.laplace(0.01, 0.02, N_COLUMN)
    return x


def ggml_library():
    """llama.cpp's ggml-base, as the wheel of llama-cpp-python carries it."""
    import llama_cpp

    folder = Path(llama_cpp.__file__).parent / "lib"
    library = ctypes.CDLL(str(next(folder.glob("libggml-base.*"))))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    ]
    return library


def ggml_dequantize(library, name, blocks, n):
    """What llama.cpp makes of the blocks: float32 (n)."""
    rows = {"F16": "ggml_fp16_to_fp32_row", "BF16": "ggml_bf16_to_fp32_row"}
    function = getattr(library, rows.get(name) or "dequantize_row_" + name.lower().replace("_k", "_K"))
    function.restype = None
    out = np.zeros(n, "<f4")
    function(ctypes.c_void_p(blocks.ctypes.data), ctypes.c_void_p(out.ctypes.data), ctypes.c_int64(n))
    return out


def main():
    library = ggml_library()
    rng = np.random.default_rng(SEED)
    index = {
        "made_by": {name: version(name) for name in ("gguf", "numpy", "llama-cpp-python")},
        "dequantize": [],
        "quantize": {"input": "input.f32", "rows": N_ROW, "columns": N_COLUMN, "types": []},
    }
    for name in HALF_SCALES:
        n_value, n_byte = GGML_QUANT_SIZES[Type[name]]
        blocks = blocks_of(name, rng)
        with np.errstate(over="ignore"):
            values = dequantize(blocks.reshape(-1), Type[name]).astype("<f4")
        assert not np.isnan(values).any() and values.size == len(blocks) * n_value
        theirs = ggml_dequantize(library, name, blocks, values.size)
        assert theirs.tobytes() == values.tobytes(), f"{name}: gguf-py and llama.cpp differ"
        (HERE / f"{name}.bin").write_bytes(blocks.tobytes())
        (HERE / f"{name}.f32").write_bytes(values.tobytes())
        index["dequantize"].append(
            {
                "type": name,
                "ggml_type": Type[name].value,
                "blocks": len(blocks),
                "values_per_block": n_value,
                "bytes_per_block": n_byte,
            }
        )

    x = weights(rng)
    (HERE / "input.f32").write_bytes(x.astype("<f4").tobytes())
    for name in QUANTISED:
        n_value, n_byte = GGML_QUANT_SIZES[Type[name]]
        out = np.zeros((N_ROW, N_COLUMN // n_value * n_byte), np.uint8)
        written = library.ggml_quantize_chunk(
            Type[name].value, x.ctypes.data, out.ctypes.data, 0, N_ROW, N_COLUMN, None
        )
        assert written == out.nbytes
        back = dequantize(out, Type[name]).reshape(x.shape)
        if name in EXACT:
            differing = int((quantize(x, Type[name]).reshape(out.shape) != out).sum())
            print(f"{name}: {differing} of {out.size} bytes differ between gguf-py and llama.cpp")
        (HERE / f"{name}.quantized").write_bytes(out.tobytes())
        rms = np.sqrt(((back.astype(np.float64) - x) ** 2).mean(axis=1))
        index["quantize"]["types"].append(
            {"type": name, "exact": name in EXACT, "rms_error_per_row": [float(f"{e:.9g}") for e in rms]}
        )
    (HERE / "index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
