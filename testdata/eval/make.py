#!/usr/bin/env python3
"""Writes what SciPy and NLTK make of the numbers and texts that llmos-eval is tested with.

    pip install -r testdata/eval/requirements.txt
    python3 testdata/eval/make.py

intervals.json: Wilson's intervals and exact tests of pairs, by scipy.stats.binomtest; percentile bootstraps of a ratio
and of the difference of two, by scipy.stats.bootstrap. ngrams.json: natural logarithms of the probabilities of
characters by NLTK's interpolated Kneser-Ney model. NLTK has one discount and ends at the distribution of continuations;
here each order has the discount n1 / (n1 + 2 n2), and under the first order all Unicode characters are as likely.
"""
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
from nltk.lm import NgramCounter, Vocabulary
from nltk.lm.models import InterpolatedLanguageModel
from nltk.lm.smoothing import KneserNey
from scipy import stats

HERE = Path(__file__).resolve().parent
ALPHABET = 1_112_064
BLANK = "<blank>"
TEXTS = [
    "Once upon a time there was a little dog. The dog had a red ball. He liked the ball very much.\n",
    "One day the dog could not find his ball. \"Where is my ball?\" said the dog. A bird said, \"It is in the tree!\"\n",
    "The little dog and the bird were friends. They played with the red ball all day.\n",
    "从前有一只小狗。小狗有一个红色的球。它很喜欢这个球。\n",
    "有一天，小狗找不到它的球。“我的球在哪里？”小狗说。小鸟说：“在树上！”\n",
    "小狗和小鸟是好朋友。它们一整天都在玩球。\n",
]
HELD_OUT = ["The bird had a little red tree. The dog said, \"Where?\"\n", "小鸟有一个红色的球。小猫说：“在哪里？”\n", "zebra 斑马 éé", "a"]


class Smoothing(KneserNey):
    """NLTK's counts and continuations, with a discount an order and an end below the first one."""

    def __init__(self, vocabulary, counter, order):
        super().__init__(vocabulary, counter, order)
        self.discounts = {}
        for n in range(1, order + 1):
            once_twice = Counter(c for c in self.all_counts(n) if c in (1, 2))
            once, twice = once_twice[1], once_twice[2]
            self.discounts[n] = once / (once + 2 * twice) if once and twice else 0.5

    def all_counts(self, n):
        """Of every gram of n characters, as this order counts it."""
        if n == self._order:
            if n == 1:
                return list(self.counts.unigrams.values())
            return [count for following in self.counts[n].values() for count in following.values()]
        before = Counter()
        for context, following in self.counts[n + 1].items():
            for word in following:
                before[context[1:] + (word,)] += 1
        return list(before.values())

    def unigram_score(self, word):
        if self._order == 1:
            counts = self.counts.unigrams
            count, total, kinds = counts[word], counts.N(), len(counts)
        else:
            (count, total), kinds = self._continuation_counts(word), len(self.counts.unigrams)
        discount = self.discounts[1]
        return (max(count - discount, 0) + discount * kinds / ALPHABET) / total

    def alpha_gamma(self, word, context):
        self.discount = self.discounts[len(context) + 1]
        return super().alpha_gamma(word, context)


class Model(InterpolatedLanguageModel):
    def __init__(self, order, texts):
        grams = []
        for text in texts:
            padded = [BLANK] * (order - 1) + list(text)
            for end in range(order, len(padded) + 1):
                grams += [tuple(padded[end - n : end]) for n in range(1, order + 1)]
        counter = NgramCounter([grams])
        vocabulary = Vocabulary([c for text in texts for c in text] + [BLANK])
        super().__init__(Smoothing, order, params={"order": order}, vocabulary=vocabulary, counter=counter)

    def logs(self, text):
        padded = [BLANK] * (self.order - 1) + list(text)
        return [
            math.log(self.unmasked_score(padded[end - 1], tuple(padded[end - self.order : end - 1])))
            for end in range(self.order, len(padded) + 1)
        ]


def ngrams():
    for order in (1, 2, 3, 5):
        model = Model(order, TEXTS)
        yield {"order": order, "learnt": TEXTS, "texts": [{"text": t, "logs": model.logs(t)} for t in HELD_OUT + TEXTS[:1]]}


def intervals():
    cases = [(0, 1), (1, 1), (0, 50), (50, 50), (25, 50), (194, 200), (97, 100), (1, 3), (449, 472), (1990, 2000)]
    wilson = []
    for right, count in cases:
        interval = stats.binomtest(right, count).proportion_ci(method="wilson")
        wilson.append([right, count, float(interval.low), float(interval.high)])
    pairs = [(0, 0), (1, 0), (0, 5), (3, 9), (30, 12), (100, 180), (7, 7), (400, 700)]
    mcnemar = [[a, b, 1.0 if a + b == 0 else float(stats.binomtest(a, a + b).pvalue)] for a, b in pairs]
    random = np.random.default_rng(3)
    under = random.integers(200, 2000, 60).astype(float)
    over = np.round(under * random.normal(0.9, 0.12, 60), 3)
    other = np.round(over * random.normal(1.05, 0.04, 60), 3)

    def bootstrap(data, statistic):
        found = stats.bootstrap(
            data, statistic, paired=True, vectorized=False, method="percentile", n_resamples=20000, random_state=1
        )
        interval = found.confidence_interval
        return [float(statistic(*data)), float(interval.low), float(interval.high)]

    return {
        "wilson": wilson,
        "mcnemar": mcnemar,
        "parts": [[float(a), float(b)] for a, b in zip(over, under)],
        "other": [[float(a), float(b)] for a, b in zip(other, under)],
        "ratio": bootstrap((over, under), lambda a, b: a.sum() / b.sum()),
        "difference": bootstrap((other, over, under), lambda c, a, b: c.sum() / b.sum() - a.sum() / b.sum()),
    }


def write(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


write("ngrams.json", list(ngrams()))
write("intervals.json", intervals())
