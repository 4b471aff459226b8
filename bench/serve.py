#!/usr/bin/env python3
"""Measure `llmos serve` beside llama-server: the same files, the same requests, one after another, medians.

    cargo build --release
    python3 bench/serve.py --llmos target/release/llmos --llama-server PATH --models FOLDER [--write]

Both are asked by `llmos bench serve`, which speaks OpenAI's API with token ids: each of N clients asks as soon as it is
answered, prompts of --prompt tokens of which no two are alike, answers of --answer tokens. Tokens a second are those of
answers, all clients together; times are the client's. A figure is the median over rounds, in which each program's
server is started anew, warmed up by a short request, and asked for each number of clients; who begins turns round.

llama-server has as many slots as there are clients at most, a cache for each, with which it is faster here than with one
for all of them, and no copies of prompts in memory beside it (--cache-ram 0), which cost time and find nothing here;
batches and flash attention are its own choice. llmos has as many slots, and all else as it comes.

Two more figures: the time to the first token behind a prefix of --prefix tokens that the server has read, beside one
that it has not; and what the server costs llmos at one client: seconds a request beside those that `llmos bench` takes
for the same prompt and answer in its own process, without HTTP. As machines change their speed by more than that within
a minute, the two are measured in turns of seconds, and the cost is the median over --pairs of such turns.

Models are those of make_models.py. --json FILE writes every run; --write puts the tables into RESULTS.md, in their own
section. Without --llama-server llmos alone is measured. Standard library only.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import peers  # noqa: E402

HEADING = "## Serving"
TYPES = ["q8_0", "q4_0"]
NAMES = {"llmos": "llmos", "llama_server": "llama-server"}
# Seconds for a server to load its model, and for all requests of one number of clients.
LOADING, ASKING = 300, 3600


class Server:
    """A server of one model, until the block ends."""

    def __init__(self, options, program, model):
        most = max(options.clients)
        # Room for all sequences at their longest, and for the prefix.
        own = options.prompt + options.answer + 32
        one = max(own, options.prefix + own + 64)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        threads = ["--threads", options.threads]
        if program == "llmos":
            self.command = [options.llmos, "serve", model, "--port", port, "--slots", most, *threads, "--context", one]
        else:
            self.command = [options.llama_server, "-m", model, "--host", "127.0.0.1", "--port", port, *threads]
            self.command += ["-tb", options.threads, "-c", most * one, "-np", most, "--cache-ram", 0, "--no-ui"]
            self.command += options.llama_server_options.split()

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        command = [str(part) for part in self.command]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        try:
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait(self):
        """Until it has its model: llama-server says 503 at /health meanwhile, llmos loads before the first answer."""
        deadline = time.monotonic() + LOADING
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise peers.Failed(f"exit {self.process.returncode}: {self.said()}")
            for path in ("/health", "/readyz"):
                try:
                    with urllib.request.urlopen(self.url + path, timeout=5) as reply:
                        if reply.status == 200:
                            return
                except (urllib.error.URLError, OSError):
                    pass
            time.sleep(0.1)
        raise peers.Failed(f"not ready in {LOADING} s: {self.said()}")

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-500:].strip()

    def peak_bytes(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def ask(options, url, clients, *more):
    """
    A row of `llmos bench serve`, which exits with 1 if a request was not answered as asked. The answers of random models
    may be bytes that are no text, of which some servers send nothing: then other prompts are taken.
    """
    for _ in range(3):
        command = [options.llmos, "bench", "serve", "--url", url, "--clients", clients, "--json", *more]
        try:
            [row] = json.loads(peers.execute(command, ASKING)[0])
            return row
        except peers.Failed as failure:
            print(f"not answered as asked: {failure}", file=sys.stderr, flush=True)
    raise peers.Failed(f"{clients} clients were not answered as asked")


def measure_server(options, program, model):
    """All figures of one start of a server."""
    with Server(options, program, model) as server:
        size = ["--prompt", options.prompt, "--answer", options.answer]
        rows = []
        for clients in options.clients:
            requests = max(options.requests * clients, options.least)
            rows.append(ask(options, server.url, clients, *size, "--requests", requests))
        prefix = None
        if options.prefix:
            few = ["--prompt", 16, "--answer", 8, "--requests", 1]
            prefix = ask(options, server.url, 1, "--shared-prefix", options.prefix, *few)
        return {"rows": rows, "prefix": prefix, "peak_bytes": server.peak_bytes()}


def measure_engine(options, model):
    """Seconds that a request takes without a server."""
    command = [options.llmos, "--quiet", "bench", model, "--threads", options.threads, "--prompt", options.prompt]
    command += ["--generate", options.answer, "--depth", options.prompt, "--repeat", 3, "--json"]
    report = json.loads(peers.execute(command, ASKING)[0])
    # The first token is drawn from the prompt's own logits.
    decoded = (options.answer - 1) / report["decode_tokens_per_s"]
    return options.prompt / report["prefill_tokens_per_s"] + decoded


def measure_cost(options, model):
    """Pairs of seconds that a request takes: without a server, and at one that has nothing else to do."""
    size = ["--prompt", options.prompt, "--answer", options.answer, "--requests", options.least]
    pairs = []
    with Server(options, "llmos", model) as server:
        ask(options, server.url, 1, *size)
        for _ in range(options.pairs):
            engine = measure_engine(options, model)
            served = options.answer / ask(options, server.url, 1, *size)["tokens_per_s"]
            print("without a server", engine, "served", served, file=sys.stderr, flush=True)
            pairs.append((engine, served))
    return pairs


def measure(options):
    """Runs by (shape, type, program), and pairs of what a request costs by (shape, type)."""
    programs = ["llmos"] + (["llama_server"] if options.llama_server else [])
    runs, costs = {}, {}
    for shape in options.shapes:
        for kind in options.types:
            model = peers.find(options.models, shape, kind)
            if model is None:
                sys.exit(f"{options.models} has no {shape}-{kind}.gguf: make_models.py writes it")
            peers.touch(model)
            for turn in range(options.rounds):
                for program in programs[turn % 2 :] + programs[: turn % 2]:
                    run = measure_server(options, program, model)
                    runs.setdefault((shape, kind, program), []).append(run)
                    for row in run["rows"]:
                        print(shape, kind, program, json.dumps(row), file=sys.stderr, flush=True)
                write_json(options, runs, costs)
            if options.pairs:
                costs[shape, kind] = measure_cost(options, model)
                write_json(options, runs, costs)
    return runs, costs


def write_json(options, runs, costs):
    if options.json:
        cells = [dict(zip(("shape", "type", "program"), cell), runs=of) for cell, of in runs.items()]
        pairs = [dict(zip(("shape", "type"), cell), engine_and_served=of) for cell, of in costs.items()]
        options.json.write_text(json.dumps({"servers": cells, "cost": pairs}, indent=1) + "\n")


def median(runs, number, key):
    """Of one number of clients, over rounds."""
    values = [run["rows"][number][key] for run in runs]
    return statistics.median(values) if None not in values else None


def figure(value):
    return "-" if value is None else f"{value:,.1f}"


def load_table(options, runs):
    lines = [
        "| shape | type | clients | program | tokens/s | llmos is faster by | first token, ms: median | 99 % "
        "| between tokens, ms: median | 99 % |",
        "|-|-|-|-|-|-|-|-|-|-|",
    ]
    for shape in options.shapes:
        for kind in options.types:
            own = runs[shape, kind, "llmos"]
            for number, clients in enumerate(options.clients):
                for program, name in NAMES.items():
                    these = runs.get((shape, kind, program))
                    if not these:
                        continue
                    rate = median(these, number, "tokens_per_s")
                    ratio = "-" if program == "llmos" else f"{median(own, number, 'tokens_per_s') / rate:.2f}"
                    keys = ["ttft_ms_p50", "ttft_ms_p99", "inter_token_ms_p50", "inter_token_ms_p99"]
                    times = " | ".join(figure(median(these, number, key)) for key in keys)
                    lines.append(f"| {shape} | {kind} | {clients} | {name} | {rate:,.1f} | {ratio} | {times} |")
    return "\n".join(lines) + "\n"


def prefix_table(options, runs):
    lines = ["| shape | type | program | unknown prefix, ms | known prefix, ms | share | peak memory, MB |", "|-|-|-|-|-|-|-|"]
    for (shape, kind, program), these in runs.items():
        cold, shared = (statistics.median(run["prefix"][key] for run in these) for key in ("ttft_cold_ms", "ttft_shared_ms"))
        peak = max(run["peak_bytes"] for run in these) / 1e6
        lines.append(f"| {shape} | {kind} | {NAMES[program]} | {cold:,.0f} | {shared:,.0f} | {shared / cold:.1%} | {peak:,.0f} |")
    return "\n".join(lines) + "\n"


def cost_table(options, costs):
    lines = ["| shape | type | bare engine, s a request | served, s a request | more | ms a token |", "|-|-|-|-|-|-|"]
    for (shape, kind), pairs in costs.items():
        engine, served = (statistics.median(side) for side in zip(*pairs))
        more = statistics.median(served / engine - 1 for engine, served in pairs)
        token = statistics.median(1e3 * (served - engine) / options.answer for engine, served in pairs)
        lines.append(f"| {shape} | {kind} | {engine:.3f} | {served:.3f} | {more:+.1%} | {token:+.2f} |")
    return "\n".join(lines) + "\n"


def section(options, runs, costs):
    programs = [f"llmos {peers.Llmos(options.llmos).version()}"]
    if options.llama_server:
        done = subprocess.run([options.llama_server, "--version"], capture_output=True, text=True)
        said = (done.stdout + done.stderr).splitlines()
        programs.append("llama-server " + next((line for line in said if "version" in line), "of an unknown version"))
    parts = [
        HEADING,
        "",
        "Made by `bench/serve.py`, which says what is measured.",
        "",
        f"- **Machine.** {peers.cpu()[0]}, {os.cpu_count()} logical cores; Linux {os.uname().release}; {date.today()}.",
        f"- **Programs.** {'; '.join(programs)}; {options.threads} threads; clients on the same machine. llmos' commit: "
        f"{peers.commit() or '-'}.",
        f"- **How.** Prompts of {options.prompt} tokens, answers of {options.answer}; {options.requests} requests a client, "
        f"at least {options.least}; medians of {options.rounds} rounds in turns. All were answered as asked.",
        "",
        load_table(options, runs),
    ]
    if options.prefix:
        parts += [f"Time to the first token behind a prefix of {options.prefix} tokens, one client:", "", prefix_table(options, runs)]
    if costs:
        parts += ["What serving costs llmos at one client:", "", cost_table(options, costs)]
    return "\n".join(parts)


def numbers(text):
    return [int(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llmos", default="target/release/llmos")
    parser.add_argument("--llama-server", help="without it llmos alone is measured")
    parser.add_argument("--llama-server-options", default="", help="more of its flags, such as '-fa on'")
    parser.add_argument("--models", type=Path, required=True, help="folder of make_models.py's files")
    parser.add_argument("--shapes", nargs="+", default=peers.SHAPES)
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--clients", type=numbers, default=[1, 4, 16, 64], help="comma-separated")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--prefix", type=int, default=1024, help="tokens of the shared prefix; 0 leaves it out")
    parser.add_argument("--requests", type=int, default=2, help="requests a client")
    parser.add_argument("--least", type=int, default=6, help="requests, at least")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=10, help="turns without and with a server at one client; 0 leaves it out")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    runs, costs = measure(options)
    text = section(options, runs, costs)
    print(text)
    if options.write:
        peers.put_section(HEADING, text)


if __name__ == "__main__":
    main()
