#!/usr/bin/env python3
"""Make golden distributions of the sampler: what transformers and llama.cpp leave of given logits.

    pip install llama-cpp-python==0.3.36 transformers torch numpy
    python make.py MODEL.gguf        # any model: llama.cpp's DRY sampler asks for a vocabulary

Each case of cases.json holds logits (V), the tokens before, options as `SamplerOptions` spells them, and the
probabilities left, likeliest first. Where a library leaves the logits as they are the case says so by keeping all.
"""

import ctypes
import json
import sys
from pathlib import Path

import llama_cpp
import numpy as np
import torch
from transformers.generation import logits_process

HERE = Path(__file__).resolve().parent
HISTORY = [3, 7, 1, 4, 9, 2, 3, 7, 1, 4, 9, 9, 5, 3, 7, 1]


def logits(seed, size, spread):
    """(V) four decimals, so that the file is short and every reader gets the same numbers."""
    values = np.random.default_rng(seed).normal(0.0, spread, size)
    return np.round(values, 4).astype(np.float32)


def left(ids, values):
    """[(id, probability)], likeliest first, those without any left out."""
    values = np.asarray(values, dtype=np.float64)
    weights = np.exp(values - values.max())
    pairs = sorted(zip(ids, weights / weights.sum()), key=lambda pair: (-pair[1], pair[0]))
    return [[int(i), round(float(p), 8)] for i, p in pairs if p > 0.0]


def by_transformers(values, history, processors):
    scores = torch.tensor(values)[None]
    for processor in processors:
        scores = processor(torch.tensor([history]), scores)
    return left(range(len(values)), scores[0].numpy())


def by_llama_cpp(values, history, samplers):
    """Applies samplers one after another, all having seen the history."""
    data = (llama_cpp.llama_token_data * len(values))()
    for i, value in enumerate(values):
        data[i] = llama_cpp.llama_token_data(i, float(value), 0.0)
    array = llama_cpp.llama_token_data_array(data, len(values), -1, False)
    for sampler in samplers:
        for token in history:
            llama_cpp.llama_sampler_accept(sampler, token)
        llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))
        llama_cpp.llama_sampler_free(sampler)
    # XTC moves the pointer, so the array's own is read.
    kept = [array.data[i] for i in range(array.size)]
    return left([token.id for token in kept], [token.logit for token in kept])


def transformers_cases():
    p = logits_process
    plans = [
        (dict(top_p=0.9), [p.TopPLogitsWarper(0.9)]),
        (dict(top_p=0.3), [p.TopPLogitsWarper(0.3)]),
        (dict(min_p=0.1), [p.MinPLogitsWarper(0.1)]),
        (dict(top_k=5), [p.TopKLogitsWarper(5)]),
        (dict(typical_p=0.6), [p.TypicalLogitsWarper(0.6)]),
        (dict(typical_p=0.9), [p.TypicalLogitsWarper(0.9)]),
        (dict(temperature=0.5), [p.TemperatureLogitsWarper(0.5)]),
        (
            dict(repetition_penalty=1.3, penalty_window=1000),
            [p.RepetitionPenaltyLogitsProcessor(1.3)],
        ),
        (
            dict(repetition_penalty=1.5, penalty_window=1000, top_k=20, top_p=0.8, min_p=0.02, temperature=1.7),
            [
                p.RepetitionPenaltyLogitsProcessor(1.5),
                p.TopKLogitsWarper(20),
                p.TopPLogitsWarper(0.8),
                p.MinPLogitsWarper(0.02),
                p.TemperatureLogitsWarper(1.7),
            ],
        ),
    ]
    for options, processors in plans:
        yield options, lambda values, processors=processors: by_transformers(values, HISTORY, processors)


def llama_cpp_cases(vocab):
    c = llama_cpp
    plans = [
        (dict(top_n_sigma=1.0), lambda: [c.llama_sampler_init_top_n_sigma(1.0)]),
        (dict(typical_p=0.7), lambda: [c.llama_sampler_init_typical(0.7, 1)]),
        (dict(top_p=0.75), lambda: [c.llama_sampler_init_top_p(0.75, 1)]),
        (dict(min_p=0.05), lambda: [c.llama_sampler_init_min_p(0.05, 1)]),
        (dict(xtc=dict(probability=1.0, threshold=0.08)), lambda: [c.llama_sampler_init_xtc(1.0, 0.08, 1, 0)]),
        (dict(xtc=dict(probability=1.0, threshold=0.6)), lambda: [c.llama_sampler_init_xtc(1.0, 0.6, 1, 0)]),
        (
            dict(temperature=0.9, dynamic_temperature=dict(range=0.5, exponent=1.2)),
            lambda: [c.llama_sampler_init_temp_ext(0.9, 0.5, 1.2)],
        ),
        (
            dict(penalty_window=6, repetition_penalty=1.4, frequency_penalty=0.3, presence_penalty=0.2),
            lambda: [c.llama_sampler_init_penalties(96, 6, 1.4, 0.3, 0.2)],
        ),
        (
            dict(dry=dict(multiplier=0.8, base=1.75, allowed_length=2, window=1000)),
            lambda: [c.llama_sampler_init_dry(vocab, 0.8, 1.75, 2, 1000, None, 0)],
        ),
        (
            dict(dry=dict(multiplier=1.1, base=1.3, allowed_length=1, window=12)),
            lambda: [c.llama_sampler_init_dry(vocab, 1.1, 1.3, 1, 12, None, 0)],
        ),
        (
            # Without typical: after top-n-sigma llama.cpp takes 0 * log 0 there, and its entropy is not a number.
            dict(
                repetition_penalty=1.2,
                penalty_window=64,
                top_n_sigma=1.5,
                top_k=30,
                top_p=0.9,
                min_p=0.03,
                xtc=dict(probability=1.0, threshold=0.2),
                temperature=0.7,
            ),
            lambda: [
                c.llama_sampler_init_penalties(96, 64, 1.2, 0.0, 0.0),
                c.llama_sampler_init_top_n_sigma(1.5),
                c.llama_sampler_init_top_k(30),
                c.llama_sampler_init_top_p(0.9, 1),
                c.llama_sampler_init_min_p(0.03, 1),
                c.llama_sampler_init_xtc(1.0, 0.2, 1, 0),
                c.llama_sampler_init_temp(0.7),
            ],
        ),
    ]
    for options, make in plans:
        yield options, lambda values, make=make: by_llama_cpp(values, HISTORY, make())


def main():
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(sys.argv[1].encode(), parameters)
    vocab = llama_cpp.llama_model_get_vocab(model)
    inputs = {"sharp": logits(1, 48, 2.5), "flat": logits(2, 64, 0.7), "wide": logits(3, 2000, 2.0)}
    plans = list(transformers_cases())
    sources = ["transformers"] * len(plans)
    plans += list(llama_cpp_cases(vocab))
    sources += ["llama.cpp"] * (len(plans) - len(sources))
    cases = []
    for source, (options, apply) in zip(sources, plans):
        for name, values in inputs.items():
            kept = apply(values)
            # A wide distribution of which nearly all is left says little and fills the file.
            if name == "wide" and len(kept) > 400:
                continue
            cases.append(dict(source=source, logits=name, options=options, kept=kept))
    out = dict(
        history=HISTORY,
        logits={name: [round(float(v), 4) for v in values] for name, values in inputs.items()},
        cases=cases,
    )
    text = json.dumps(out, separators=(",", ":")).replace('{"source"', '\n{"source"')
    (HERE / "cases.json").write_text(text + "\n")
    print(len(cases), "cases", len(text) // 1024, "KiB")


if __name__ == "__main__":
    main()
