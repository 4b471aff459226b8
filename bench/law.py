#!/usr/bin/env python3
"""Fit the scaling law by which `llmos plan` forecasts bits per byte.

    python law.py run LLMOS RUNS.jsonl DATA...     train a grid of small models on prepared folders; one row a run
    python law.py fit RUNS.jsonl                   print law.toml (needs numpy and scipy)

A run that is in RUNS.jsonl already is not trained again. The law is crates/llmos-train/src/plan/law.toml: bits per byte
in proportion to what the planner's own small model (the pilot: 2 layers of width 64, 300,000 tokens in rows of 128)
reached on the same text. So each DATA's first row is the pilot.
"""

import argparse
import datetime
import json
import subprocess
import tempfile
from pathlib import Path

# (layers, width, heads, tokens, context); the first is the pilot of crates/llmos-train/src/plan/pilot.rs.
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
KEYS = ["e", "a", "alpha", "b", "beta", "c", "gamma"]


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
    if point == GRID[0]:
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
    """What a run's end depends on: parameters, bytes that are read, bytes of a sequence. As `Size::of` in plan/law.rs."""
    import numpy as np

    epochs = row["tokens"] / row["text_tokens"]
    again = max(epochs - 1, 0)
    worth = min(epochs, 1 + READINGS * (1 - np.exp(-again / READINGS)))
    per_token = row["text_bytes"] / row["text_tokens"]
    return row["parameters"], worth * row["text_bytes"], row["context"] * per_token


def fit(rows):
    """The law's numbers and the spread of ln(actual / predicted) over the runs that are no pilots."""
    import numpy as np
    from scipy.optimize import minimize

    pilots = {row["text"]: row for row in rows if tuple(row["grid"]) == GRID[0]}
    rest = [row for row in rows if tuple(row["grid"]) != GRID[0] and row["text"] in pilots]
    n, d, t = (np.array(column) for column in zip(*map(size, rest)))
    n0, d0, t0 = (np.array(column) for column in zip(*(size(pilots[row["text"]]) for row in rest)))
    actual = np.log([row["val_bits_per_byte"] / pilots[row["text"]]["val_bits_per_byte"] for row in rest])

    def law(x, n, d, t):
        """Terms are 1 at a million parameters, a megabyte, a context of 256 bytes; the data's has weight 1."""
        e, a, c = np.exp(x[:3])
        alpha, beta, gamma = np.exp(x[3:])
        return e + a * (n / 1e6) ** -alpha + (d / 1e6) ** -beta + c * (t / 256) ** -gamma

    def residuals(x):
        return actual - np.log(law(x, n, d, t) / law(x, n0, d0, t0))

    def loss(x):
        r = np.abs(residuals(x))
        huber = np.where(r < 0.02, 0.5 * r**2, 0.02 * (r - 0.01)).sum()
        # Exponents near those of arXiv 2203.15556 where the runs do not say otherwise.
        prior = ((x[3:] - np.log([0.34, 0.28, 0.5])) ** 2).sum()
        return huber + 1e-3 * prior

    starts = [np.log([e, a, c, 0.3, 0.3, 0.5]) for e in (0.5, 2) for a in (0.3, 1) for c in (0.1, 0.5)]
    tries = [minimize(loss, x, method="Nelder-Mead", options={"maxiter": 20000, "fatol": 1e-12}) for x in starts]
    x = min(tries, key=lambda found: found.fun).x
    e, a, c = np.exp(x[:3])
    alpha, beta, gamma = np.exp(x[3:])
    values = [e, a * 1e6**alpha, alpha, 1e6**beta, beta, c * 256**gamma, gamma]
    # Parameters that were fitted count against the degrees of freedom.
    spread = np.sqrt((residuals(x) ** 2).sum() / max(len(rest) - len(x), 1))
    return dict(zip(KEYS, values)), spread, rest, residuals(x)


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
    values, spread, rest, errors = fit(rows)
    if arguments.each:
        for row, error in zip(rest, errors):
            print(f"# {row['text']:12} {row['grid']} {row['val_bits_per_byte']:.4f} {100 * error:+.1f} %")
    print("[law]")
    for key, value in values.items():
        print(f"{key} = {value:.6g}")
    print(f"spread = {spread:.4f}")
    print(f'texts = "{", ".join(sorted({row["text"] for row in rows}))}"')
    print(f"runs = {len(rows)}")
    print(f'fitted = "{datetime.date.today()}, bench/law.py fit bench/{arguments.rows.name}"')


if __name__ == "__main__":
    main()
