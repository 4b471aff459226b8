#!/usr/bin/env python3
"""Fit the scaling law by which `llmos plan` forecasts bits per byte.

    python law.py run LLMOS RUNS.jsonl DATA...     train a grid of small models on prepared folders; one row a run
    python law.py fit RUNS.jsonl                   print law.toml (needs scipy)

A run that is in RUNS.jsonl already is not trained again. The law is crates/llmos-train/src/plan/law.toml:

    bits per byte = factor * (e + a / N^alpha + 1 / D^beta) * T^delta

with N in millions of parameters, D in megabytes that are read and T in 128 tokens of context. The factor and e are the
text's: the law goes through what the planner's own small model reached on it in two runs, the first two of the grid.
"""

import argparse
import datetime
import json
import math
import subprocess
import tempfile
from pathlib import Path

# (layers, width, heads, tokens, context); the first two are those of crates/llmos-train/src/plan/pilot.rs.
GRID = [
    (2, 64, 2, 300_000, 128),
    (2, 64, 2, 1_000_000, 128),
    (3, 96, 3, 500_000, 128),
    (4, 128, 4, 300_000, 128),
    (3, 96, 3, 500_000, 64),
    (3, 96, 3, 500_000, 256),
    (3, 96, 3, 2_000_000, 128),
    (4, 128, 4, 1_000_000, 128),
    (2, 64, 2, 3_000_000, 128),
    (4, 128, 4, 2_000_000, 128),
]
# Readings after which a text has taught most of what more of them would (arXiv 2305.16264); as in plan/law.rs.
READINGS = 15.4
KEYS = ["a", "alpha", "beta", "delta"]
# Share of what more parameters and text would save that may be taken off for good; as in plan/law.rs.
MOST_SAVED = 0.8


def run(llmos, rows, folders):
    """Train what is missing, the cheap runs of every text first."""
    done = {(row["text"], *row["grid"]) for row in read(rows)}
    for point in GRID:
        for folder in folders:
            if (folder.name, *point) not in done:
                row = train(llmos, folder, point)
                with rows.open("a") as out:
                    out.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


def train(llmos, folder, point):
    """One run's row."""
    layers, width, heads, tokens, context = point
    sets = [f"model.n_layer={layers}", f"model.d_model={width}", f"model.n_head={heads}", f"train.context={context}"]
    if point in GRID[:2]:
        sets.append("train.batch=8")
    with tempfile.TemporaryDirectory() as scratch:
        command = [llmos, "pretrain", "--data", folder, "--out", Path(scratch) / "run", "--tokens", str(tokens)]
        command += [word for assignment in sets for word in ("--set", assignment)]
        command += ["--eval-every", "0", "--save-every", "0", "--keep", "1", "--json", "--quiet"]
        report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    part = json.loads((folder / "manifest.json").read_text())["train"]
    return {
        "text": folder.name,
        "grid": point,
        "parameters": report["parameters"],
        "tokens": report["tokens"],
        "text_tokens": part["tokens"],
        "text_bytes": part["bytes"],
        "context": context,
        "val_bits_per_byte": report["val_bits_per_byte"],
    }


def read(path):
    """The rows of a file of runs."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def size(row):
    """What a run's end depends on, as `Size::of` in plan/law.rs, in the law's units."""
    epochs = row["tokens"] / row["text_tokens"]
    again = max(epochs - 1, 0)
    worth = min(epochs, 1 + READINGS * (1 - math.exp(-again / READINGS)))
    return row["parameters"] / 1e6, worth * row["text_bytes"] / 1e6, row["context"] / 128


def predict(law, row, pilots):
    """Bits a byte of a run on the text of these two."""
    a, alpha, beta, delta = law

    def saved(row):
        n, d, _ = size(row)
        return a * n**-alpha + d**-beta

    def context(row):
        return size(row)[2] ** delta

    first, second = pilots
    start, end = (pilot["val_bits_per_byte"] for pilot in pilots)
    ratio = end / start * context(first) / context(second)
    before, after = saved(first), saved(second)
    e = max((ratio * before - after) / (1 - ratio), -MOST_SAVED * min(before, after))
    return end * (e + saved(row)) * context(row) / ((e + after) * context(second))


def fit(rows):
    """The law's numbers, the spread of ln(actual / predicted), and runs that are no pilots with theirs."""
    from scipy.optimize import minimize

    texts = {}
    for row in rows:
        texts.setdefault(row["text"], {})[tuple(row["grid"])] = row
    cases = []
    for runs in texts.values():
        if all(point in runs for point in GRID[:2]):
            pilots = [runs[point] for point in GRID[:2]]
            cases += [(row, pilots) for point, row in runs.items() if point not in GRID[:2]]

    def errors(x):
        law = *(math.exp(value) for value in x[:3]), x[3]
        return [math.log(row["val_bits_per_byte"] / predict(law, row, pilots)) for row, pilots in cases]

    def loss(x):
        # Exponents near those of arXiv 2203.15556 where the runs do not say otherwise.
        prior = (x[1] - math.log(0.34)) ** 2 + (x[2] - math.log(0.28)) ** 2
        return sum(error**2 for error in errors(x)) + 1e-3 * prior

    starts = [[math.log(a), math.log(0.3), math.log(beta), 0.03] for a in (0.1, 0.3, 1) for beta in (0.2, 0.5)]
    tries = [minimize(loss, x, method="Nelder-Mead", options={"maxiter": 20000}) for x in starts]
    x = min(tries, key=lambda found: found.fun).x
    found = errors(x)
    # Parameters that were fitted count against the degrees of freedom.
    spread = math.sqrt(sum(error**2 for error in found) / max(len(found) - len(x), 1))
    values = dict(zip(KEYS, [*(math.exp(value) for value in x[:3]), x[3]]))
    return values, spread, [(row, error) for (row, _), error in zip(cases, found)]


def main():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run")
    runner.add_argument("llmos")
    runner.add_argument("rows", type=Path)
    runner.add_argument("folders", type=Path, nargs="+")
    fitter = commands.add_parser("fit")
    fitter.add_argument("rows", type=Path)
    fitter.add_argument("--each", action="store_true", help="print each run's error")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.llmos, arguments.rows, arguments.folders)
        return
    rows = read(arguments.rows)
    values, spread, cases = fit(rows)
    if arguments.each:
        for row, error in cases:
            print(f"# {row['text']:12} {row['grid']} {row['val_bits_per_byte']:.4f} {100 * error:+.1f} %")
    print("[law]")
    for key, value in values.items():
        print(f"{key} = {value:.6g}")
    print(f"spread = {spread:.4f}")
    for name, values in zip(["parameters", "bytes"], zip(*(size(row) for row in rows))):
        print(f"{name} = [{min(values):.3g}, {max(values):.3g}]")
    print(f'texts = "{", ".join(sorted({row["text"] for row in rows}))}"')
    print(f"runs = {len(rows)}")
    print(f'fitted = "{datetime.date.today()}, bench/law.py fit bench/{arguments.rows.name}"')


if __name__ == "__main__":
    main()
