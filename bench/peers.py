#!/usr/bin/env python3
"""Measure llmos beside llama.cpp and ik_llama.cpp: the same files, in turns, medians, ratios.

    python3 bench/peers.py --llmos target/release/llmos --models FOLDER \\
        --llama-bench PATH --ik-llama-bench PATH

Writes bench/results.json after every run and bench/RESULTS.md from it, which ends with notes.md, what no table says;
started again, it goes on where it stopped. --render writes RESULTS.md alone, --readme the short table in both README
files too. Nothing is fetched or built: bench/README.md says where the programs and models come from. Standard library
only.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SHAPES = ["llama-1.1b", "llama-134m"]
TYPES = ["f16", "q8_0", "q4_0", "q4_k_m"]
# Tokens decoded, by shape: long enough for a second or so.
GENERATE = {"llama-1.1b": 64, "llama-134m": 128}
# What is compared: key in a run's result, and the heading.
FIGURES = [("prefill", "prefill"), ("decode", "decode"), ("deep", "decode at depth")]
NAMES = {"llmos": "llmos", "llama_cpp": "llama.cpp", "ik_llama_cpp": "ik_llama.cpp"}
FEATURES = "avx2 fma f16c avx_vnni avx512f avx512bw avx512_vnni avx512_bf16 asimd asimddp i8mm".split()


class Failed(Exception):
    """A program that did not give a figure."""


def touch(path):
    """Brings a file into the page cache, piece by piece: a child's peak memory begins with ours."""
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def execute(command, limit_s):
    """Runs a command: (standard output, seconds, peak resident bytes)."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=err)
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() - start > limit_s:
                process.kill()
                os.wait4(process.pid, 0)
                raise Failed(f"no answer in {limit_s} s: {command}")
            time.sleep(0.002)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode != 0:
            raise Failed(f"exit {process.returncode}: {err.read().decode(errors='replace')[-500:].strip()}")
        return out.read().decode(), seconds, usage.ru_maxrss * 1024


def put_section(heading, text):
    """Puts a section into RESULTS.md in the place of the one with that heading, or at the end."""
    path = HERE / "RESULTS.md"
    before, _, after = path.read_text().partition(heading + "\n")
    rest = after.partition("\n## ")
    path.write_text(before.rstrip("\n") + "\n\n" + text + ("\n## " + rest[2] if rest[1] else ""))


class Llmos:
    """`llmos bench` of one file."""

    def __init__(self, path):
        self.path = path

    def version(self):
        return execute([self.path, "--version"], 20)[0].split()[-1]

    def command(self, model, threads, prompt, generate, depth):
        options = ["--threads", threads, "--prompt", prompt, "--generate", generate, "--depth", depth]
        return [self.path, "bench", model, *options, "--repeat", 1, "--json"]

    def measure(self, command, limit_s):
        out, _, peak = execute(command, limit_s)
        report = json.loads(out)
        return {
            "prefill": report["prefill_tokens_per_s"],
            "decode": report["decode_tokens_per_s"],
            "bandwidth_fraction": report["bandwidth_fraction"],
            "bytes_per_token": report["bytes_per_token"],
            "isa": report.get("isa"),
            "peak_bytes": peak,
        }


class LlamaBench:
    """llama.cpp's or ik_llama.cpp's `llama-bench` of one file."""

    def __init__(self, path, repack):
        self.path, self.repack, self.said = path, repack, "not run"

    def version(self):
        return self.said

    def command(self, model, threads, prompt, generate, depth):
        command = [self.path, "-m", model, "-t", threads, "-r", 1, "-o", "json"]
        if self.repack:
            command += ["-rtr", 1]
        if depth == 0:
            return [*command, "-p", prompt, "-n", generate]
        if self.repack:  # its way to say: decode after a prompt of that length
            return [*command, "-p", 0, "-n", 0, "-gp", f"{depth},{generate}"]
        return [*command, "-p", 0, "-n", generate, "-d", depth]

    def measure(self, command, limit_s):
        out, _, peak = execute(command, limit_s)
        result = {"prefill": None, "decode": None, "peak_bytes": peak}
        for test in json.loads(out[out.index("[") :]):
            self.said = f"build {test.get('build_number')} ({test.get('build_commit')})"
            result["decode" if test["n_gen"] else "prefill"] = test["avg_ts"]
        return result


def cpu():
    """Model and the features that kernels are chosen by."""
    text = Path("/proc/cpuinfo").read_text()
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    model = fields.get("model name", platform.machine())
    detail = " ".join(f"{key} {fields[key]}" for key in ("cpu family", "model", "stepping") if key in fields)
    return f"{model} ({detail})" if detail else model, [name for name in FEATURES if name in flags]


def machine():
    model, features = cpu()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "features": features,
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "kernel": platform.release(),
        "date": date.today().isoformat(),
    }


def find(models, shape, kind):
    """The file of a shape and type, upper case or lower."""
    name = f"{shape}-{kind}.gguf".lower()
    return next((path for path in sorted(models.iterdir()) if path.name.lower() == name), None)


def commit():
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def median(runs, key):
    values = [run[key] for run in runs if run.get(key) is not None]
    return statistics.median(values) if values else None


class Results:
    """results.json: every run, and what it was made with."""

    def __init__(self, path):
        self.path = path
        empty = {"machine": {}, "versions": {}, "bounds": [], "runs": [], "start": []}
        self.data = json.loads(path.read_text()) if path.exists() else empty

    def save(self):
        aside = self.path.with_suffix(".tmp")
        aside.write_text(json.dumps(self.data, indent=1) + "\n")
        aside.replace(self.path)

    def runs(self, **wanted):
        matches = lambda run: all(run[key] == value for key, value in wanted.items())
        return [run for run in self.data["runs"] if matches(run)]


def measure(options, programs, results):
    """All cells: in each round every program once, in turns, the order turned round each time."""
    cells = []
    for shape in options.shapes:
        for kind in options.types:
            for threads in options.threads:
                cells += [(shape, kind, threads, depth) for depth in options.depths]
    cells = [cell for cell in cells if cell[3] == 0 or cell[0] in options.deep_shapes]
    cells.sort(key=lambda cell: (cell[3], cell[0], options.types.index(cell[1]), cell[2]))
    for shape, kind, threads, depth in cells:
        model = find(options.models, options.prefix.get(shape, shape), kind)
        if model is None:
            print(f"no {shape}-{kind}.gguf in {options.models}", file=sys.stderr)
            continue
        touch(model)
        prompt = options.prompt if depth == 0 else 0
        generate = options.generate or GENERATE.get(shape, 64)
        rounds = options.rounds if depth == 0 else options.deep_rounds
        for turn in range(rounds):
            order = list(programs) if turn % 2 == 0 else list(programs)[::-1]
            for name in order:
                cell = dict(shape=shape, type=kind, threads=threads, depth=depth, program=name)
                if len(results.runs(**cell)) > turn:
                    continue
                program = programs[name]
                command = program.command(model, threads, prompt, generate, depth)
                try:
                    result = program.measure(command, options.limit)
                except (Failed, ValueError, KeyError) as error:
                    print(f"{name} {shape} {kind}: {error}", file=sys.stderr)
                    continue
                shown = " ".join(model.name if part == model else str(part) for part in command[1:])
                sizes = dict(prompt=prompt, generate=generate, file_bytes=model.stat().st_size)
                results.data["runs"].append(cell | sizes | result | {"command": shown, "round": turn})
                results.data["versions"][name] = program.version()
                results.save()
                said = ", ".join(f"{key} {result[key]:.1f}" for key in ("prefill", "decode") if result[key])
                print(f"{shape} {kind} {threads} threads, depth {depth}: {name}: {said}", file=sys.stderr, flush=True)


def measure_bounds(options, results):
    """What the machine can do at best, by `llmos bench machine`."""
    if not results.data["bounds"]:
        out, _, _ = execute([options.llmos, "bench", "machine", "--json"], options.limit)
        results.data["bounds"] = json.loads(out)
        results.save()


def measure_start(options, results):
    """Seconds from the start of the process to the end of two tokens, with the file in the page cache."""
    for shape in options.shapes:
        for kind in options.types:
            model = find(options.models, options.prefix.get(shape, shape), kind)
            known = any(one["shape"] == shape and one["type"] == kind for one in results.data["start"])
            if model is None or known:
                continue
            touch(model)
            command = [options.llmos, "score", model, "--ids", "1 5", "--json"]
            times = [execute(command, options.limit)[1:] for _ in range(5)]
            seconds = statistics.median(seconds for seconds, _ in times)
            peak = max(peak for _, peak in times)
            size = model.stat().st_size
            results.data["start"].append(
                dict(shape=shape, type=kind, seconds=seconds, peak_bytes=peak, file_bytes=size)
            )
            results.save()
            print(f"{shape} {kind}: first token after {seconds:.2f} s", file=sys.stderr, flush=True)


def number(value, digits=1):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.{digits}f}"


def row(results, figure, **cell):
    """One line of a table: medians by program and llmos over the better peer."""
    key = "decode" if figure == "deep" else figure
    speeds = {name: median(results.runs(program=name, **cell), key) for name in NAMES}
    peers = [speeds[name] for name in NAMES if name != "llmos" and speeds[name]]
    ratio = speeds["llmos"] / max(peers) if speeds["llmos"] and peers else None
    return speeds, ratio


def tables(results):
    lines = []
    cells = {}
    for run in results.data["runs"]:
        cells.setdefault((run["shape"], run["depth"]), set()).add((run["type"], run["threads"]))
    for (shape, depth), rows in sorted(cells.items(), key=lambda item: (item[0][1], item[0][0])):
        for figure, heading in FIGURES:
            if (figure == "deep") != (depth > 0):
                continue
            sample = results.runs(shape=shape, depth=depth)[0]
            count = sample["prompt"] if figure == "prefill" else sample["generate"]
            where = f" {depth}" if figure == "deep" else ""
            lines += [f"### {shape}: {heading}{where}, {count} tokens", ""]
            decodes = figure != "prefill"
            head = "| type | threads | " + " | ".join(NAMES.values()) + " | llmos / better peer |"
            head += " of bandwidth |" if decodes else ""
            head += " of depth 0 |" if figure == "deep" else ""
            lines += [head, "|-" * (head.count("|") - 1) + "|"]
            for kind, threads in sorted(rows, key=lambda item: (TYPES.index(item[0]), item[1])):
                cell = dict(shape=shape, type=kind, threads=threads, depth=depth)
                speeds, ratio = row(results, figure, **cell)
                line = f"| {kind} | {threads} | " + " | ".join(number(speeds[name]) for name in NAMES)
                line += f" | {number(ratio, 2)} |"
                if decodes:
                    fraction = median(results.runs(program="llmos", **cell), "bandwidth_fraction")
                    line += f" {100 * fraction:.0f} % |" if fraction else " - |"
                if figure == "deep":
                    shallow, _ = row(results, "decode", **(cell | {"depth": 0}))
                    both = speeds["llmos"] and shallow["llmos"]
                    line += f" {100 * speeds['llmos'] / shallow['llmos']:.0f} % |" if both else " - |"
                lines.append(line)
            lines.append("")
    return lines


def memory_table(results):
    lines = ["### Start and memory", "", "| shape | type | file, MB | first token, s | llmos' peak over the file, MB |"]
    lines.append("|-|-|-|-|-|")
    for one in results.data["start"]:
        over = (one["peak_bytes"] - one["file_bytes"]) / 1e6
        size = one["file_bytes"] / 1e6
        lines.append(f"| {one['shape']} | {one['type']} | {size:,.0f} | {one['seconds']:.2f} | {over:,.0f} |")
    lines += ["", "Peak resident memory of a whole measurement (weights, cache and, where it is mapped, the file), MB:", ""]
    lines += ["| shape | type | " + " | ".join(NAMES.values()) + " |", "|-|-|-|-|-|"]
    seen = sorted({(run["shape"], TYPES.index(run["type"])) for run in results.data["runs"]})
    for shape, index in seen:
        peaks = []
        for name in NAMES:
            runs = results.runs(shape=shape, type=TYPES[index], program=name, depth=0)
            peaks.append(number(max((run["peak_bytes"] for run in runs), default=0) / 1e6, 0) if runs else "-")
        lines.append(f"| {shape} | {TYPES[index]} | " + " | ".join(peaks) + " |")
    return lines + [""]


def bounds_table(results):
    """`llmos bench machine`'s report, whatever it holds, as it is."""
    if not results.data["bounds"]:
        return []
    return ["### Bounds of the machine", "", "```", json.dumps(results.data["bounds"], indent=1), "```", ""]


def render(results, path):
    """Writes the tables; sections of other measurements, from the first `##` on, stay."""
    data = results.data
    others = ("\n## " + path.read_text().partition("\n## ")[2]) if path.exists() else ""
    others = others if len(others) > 4 else ""
    lines = ["# Results", "", "Made by `bench/peers.py`; every run is in `results.json`.", ""]
    if not data["runs"]:
        path.write_text("\n".join([*lines, "Not measured yet.", ""]) + others)
        return
    about = data["machine"]
    lines += [
        f"- **Machine.** {about['cpu']}, {about['cores']} logical cores, {about['memory_bytes'] / 1e9:.0f} GB, "
        f"{' '.join(about['features'])}; Linux {about['kernel']}; {about['date']}.",
        "- **Programs.** " + "; ".join(f"{NAMES[name]} {data['versions'].get(name, '-')}" for name in NAMES) + ".",
        f"- **llmos' commit.** {about.get('commit', '-')}.",
        "- **How.** In each round every program runs once, one after another, in an order that turns round; the same "
        "file, in the page cache. Figures are tokens a second, medians over rounds. A ratio is llmos over the better "
        "of the others.",
        "",
    ]
    lines += tables(results) + memory_table(results) + bounds_table(results)
    lines += ["### Commands", "", "```"]
    commands = {}
    for run in data["runs"]:
        commands.setdefault((run["program"], run["depth"]), f"{NAMES[run['program']]}: {run['command']}")
    lines += [*commands.values(), "```", ""]
    notes = path.parent / "notes.md"
    if notes.exists():
        lines += [notes.read_text()]
    path.write_text("\n".join(lines) + others)


def write_readme(results):
    """The short table between the marks in both README files: the most threads, the larger shape first."""
    runs = [run for run in results.data["runs"] if run["depth"] == 0]
    if not runs:
        return
    threads = max(run["threads"] for run in runs)
    shapes = [shape for shape in SHAPES if any(run["shape"] == shape for run in runs)]
    about = results.data["machine"]
    words = {
        "README.md": ("shape", "prefill", "decode", f"{about['cpu']}, {threads} threads, {about['date']}:", "ratio"),
        "README.zh.md": ("模型", "预填充", "解码", f"{about['cpu']}，{threads} 线程，{about['date']}：", "倍数"),
    }
    for name, (shape_word, prefill, decode, caption, ratio_word) in words.items():
        head = [shape_word, *(f"{part} {peer}" for part in (prefill, decode) for peer in [*NAMES.values(), ratio_word])]
        lines = [caption, "", "| " + " | ".join(head) + " |", "|-" * len(head) + "|"]
        for shape in shapes:
            for kind in [kind for kind in TYPES if any((run["shape"], run["type"]) == (shape, kind) for run in runs)]:
                cells = [f"{shape} {kind}"]
                for figure in ("prefill", "decode"):
                    speeds, ratio = row(results, figure, shape=shape, type=kind, threads=threads, depth=0)
                    cells += [*(number(speeds[peer]) for peer in NAMES), number(ratio, 2)]
                lines.append("| " + " | ".join(cells) + " |")
        path = ROOT / name
        text = path.read_text()
        begin = text.index("-->", text.index("<!-- speed:")) + len("-->")
        end = text.index("<!-- /speed -->")
        path.write_text(text[:begin] + "\n" + "\n".join(lines) + "\n" + text[end:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    split = lambda text: text.split(",")
    numbers = lambda text: [int(part) for part in text.split(",")]
    parser.add_argument("--llmos", default=ROOT / "target" / "release" / "llmos", type=Path)
    parser.add_argument("--llama-bench", type=Path, help="llama.cpp's")
    parser.add_argument("--ik-llama-bench", type=Path, help="ik_llama.cpp's")
    parser.add_argument("--models", type=Path, help="folder of SHAPE-TYPE.gguf files (bench/make_models.py)")
    parser.add_argument("--shapes", type=split, default=SHAPES, help="SHAPE or SHAPE=FILE_PREFIX, comma-separated")
    parser.add_argument("--types", type=split, default=TYPES)
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--depths", type=numbers, default=[0, 4096])
    parser.add_argument("--deep-shapes", type=split, default=["llama-1.1b"], help="shapes measured at depth")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, help="tokens decoded; 64 for llama-1.1b, 128 for llama-134m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--deep-rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=1800, help="seconds for one run")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results.json and RESULTS.md")
    parser.add_argument("--render", action="store_true", help="write RESULTS.md from results.json, measure nothing")
    parser.add_argument("--readme", action="store_true", help="write the short table in the README files too")
    options = parser.parse_args()
    pairs = [part.partition("=") for part in options.shapes]
    options.shapes = [shape for shape, _, _ in pairs]
    options.prefix = {shape: prefix for shape, _, prefix in pairs if prefix}

    results = Results(options.out / "results.json")
    if not options.render:
        if options.models is None:
            parser.error("--models is needed to measure")
        programs = {"llmos": Llmos(options.llmos)}
        if options.llama_bench:
            programs["llama_cpp"] = LlamaBench(options.llama_bench, repack=False)
        if options.ik_llama_bench:
            programs["ik_llama_cpp"] = LlamaBench(options.ik_llama_bench, repack=True)
        results.data["machine"] = machine() | {"commit": commit()}
        measure_bounds(options, results)
        measure_start(options, results)
        measure(options, programs, results)
    render(results, options.out / "RESULTS.md")
    if options.readme:
        write_readme(results)


if __name__ == "__main__":
    main()
