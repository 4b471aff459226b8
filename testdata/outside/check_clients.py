#!/usr/bin/env python3
"""Prove that the clients which people have talk to `llmos serve` unchanged: OpenAI's library, and EleutherAI's lm_eval.

    pip install openai "lm_eval[api]"
    python check_clients.py LLMOS [--only WORD]

LLMOS is the built program; it serves the bundled models on a free port of this machine. One line a check, exit code 1 if
one fails. What is not installed is said, and its checks are left out.
"""

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS = ROOT / "models"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}


class Server:
    """`llmos serve` on a free port, until the end of the block."""

    def __init__(self, llmos, *arguments):
        self.command = [llmos, "serve", *arguments, "--port", "0"]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), self.url
        return self

    def __exit__(self, *_):
        self.process.terminate()
        assert self.process.wait(60) == 0, "the server ends in good order"


def user(text):
    return [{"role": "user", "content": text}]


def check_chat(openai, url, _llmos):
    client = openai.OpenAI(base_url=url + "/v1", api_key="none")
    asked = dict(model="assistant", messages=user("Who are you?"), temperature=0, max_tokens=60)
    whole = client.chat.completions.create(**asked)
    text = whole.choices[0].message.content
    assert text and whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens and not chunks[-1].choices
    assert len({chunk.id for chunk in chunks}) == 1

    async def several():
        many = openai.AsyncOpenAI(base_url=url + "/v1", api_key="none")
        answers = await asyncio.gather(*(many.chat.completions.create(**asked) for _ in range(8)))
        return [answer.choices[0].message.content for answer in answers]

    assert asyncio.run(several()) == [text] * 8
    seeded = dict(model="assistant", messages=user("Tell me something."), temperature=1, seed=3, max_tokens=30, n=3)
    first, second = (client.chat.completions.create(**seeded) for _ in range(2))
    said = [choice.message.content for choice in first.choices]
    assert said == [choice.message.content for choice in second.choices] and len(set(said)) > 1
    stopped = client.chat.completions.create(**asked, stop=[text[4:9]])
    assert stopped.choices[0].message.content == text[: text.index(text[4:9])].rstrip()
    short = client.chat.completions.create(**{**asked, "max_tokens": 1})
    assert short.choices[0].finish_reason == "length"


def check_logprobs(openai, url, _llmos):
    client = openai.OpenAI(base_url=url + "/v1", api_key="none")
    answer = client.chat.completions.create(
        model="assistant", messages=user("Who are you?"), temperature=0, max_tokens=20, logprobs=True, top_logprobs=5
    )
    for entry in answer.choices[0].logprobs.content:
        assert entry.logprob == max(top.logprob for top in entry.top_logprobs)
        assert sum(math.exp(top.logprob) for top in entry.top_logprobs) <= 1 + 1e-9


def check_schema(openai, url, _llmos):
    import pydantic

    class Animal(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=20)
        legs: int = pydantic.Field(ge=0, le=9)
        tags: list[str] = pydantic.Field(max_length=2)

    client = openai.OpenAI(base_url=url + "/v1", api_key="none")
    answer = client.chat.completions.parse(
        model="assistant", messages=user("Describe a cat."), response_format=Animal, temperature=0, max_tokens=300
    )
    assert isinstance(answer.choices[0].message.parsed, Animal)
    for seed in range(10):
        answer = client.chat.completions.create(
            model="assistant",
            messages=user("Some JSON, please."),
            response_format={"type": "json_object"},
            seed=seed,
            temperature=0.5,
            max_tokens=400,
        )
        if answer.choices[0].finish_reason == "stop":
            assert isinstance(json.loads(answer.choices[0].message.content), dict)


def check_tools(openai, url, _llmos):
    client = openai.OpenAI(base_url=url + "/v1", api_key="none")
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", named):
        messages = user("What is the weather in Oslo?")
        answer = client.chat.completions.create(
            model="assistant", messages=messages, tools=[WEATHER], tool_choice=choice, temperature=0, max_tokens=200
        )
        message = answer.choices[0].message
        call = message.tool_calls[0]
        arguments = json.loads(call.function.arguments)
        assert answer.choices[0].finish_reason == "tool_calls" and call.function.name == "get_weather"
        assert set(arguments) == {"city", "unit"} and arguments["unit"] in ("C", "F"), arguments
        messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
        answer = client.chat.completions.create(
            model="assistant", messages=messages, tools=[WEATHER], temperature=0, max_tokens=60
        )
        assert answer.choices[0].finish_reason in ("stop", "length", "tool_calls")
    with client.chat.completions.stream(
        model="assistant", messages=user("Oslo?"), tools=[WEATHER], tool_choice="required", temperature=0, max_tokens=200
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.name == "get_weather"


def check_completions(openai, url, llmos):
    client = openai.OpenAI(base_url=url + "/v1", api_key="none")
    text = "Once upon a time there was a dog."
    score = subprocess.run(
        [llmos, "score", MODELS / "stories260K.gguf", "--each", "--json"], input=text, capture_output=True, text=True
    )
    each = json.loads(score.stdout)["each"]
    ids = [row["id"] for row in each]
    answer = client.completions.create(
        model="stories260K", prompt=[ids], echo=True, max_tokens=1, logprobs=1, temperature=0, seed=1234
    )
    logprobs = answer.choices[0].logprobs
    assert len(logprobs.token_logprobs) == len(ids) + 1
    assert logprobs.token_logprobs[:-1] == [row["logprob"] for row in each], "to the last digit"
    prompts = ["Once upon a time", "The dog"]
    both = client.completions.create(model="stories260K", prompt=prompts, max_tokens=10, temperature=0)
    for prompt, choice in zip(prompts, both.choices):
        alone = client.completions.create(model="stories260K", prompt=prompt, max_tokens=10, temperature=0)
        assert choice.text == alone.choices[0].text
        chunks = client.completions.create(model="stories260K", prompt=prompt, max_tokens=10, temperature=0, stream=True)
        assert "".join(chunk.choices[0].text for chunk in chunks) == choice.text


def check_errors(openai, url, _llmos):
    client = openai.OpenAI(base_url=url + "/v1", api_key="none")

    def fails(kind, words, **asked):
        try:
            client.chat.completions.create(**{"model": "assistant", "messages": user("Hi"), **asked})
        except kind as error:
            assert words in str(error), error
        else:
            raise AssertionError(f"{asked} was answered")

    fails(openai.NotFoundError, "did you mean assistant?", model="asistant")
    fails(openai.BadRequestError, "temperature", temperature=-1)
    fails(openai.BadRequestError, "the last", messages=[{"role": "assistant", "content": "Hi"}])
    fails(openai.BadRequestError, "the context holds", messages=user("word " * 100_000))
    assert {model.id for model in client.models.list()} >= {"assistant", "stories260K"}
    assert client.models.retrieve("assistant").id == "assistant"


def check_lm_eval(lm_eval, url, llmos):
    """Log-likelihoods and greedy marks of a task of our own are those of `llmos score`."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    os.environ.setdefault("OPENAI_API_KEY", "none")
    pairs = [("Once upon a time there was a", " dog"), ("Lily and Ben went to the", " park"), ("The cat sat on", " a")]
    for parallel in (1, 4):
        model = LocalCompletionsAPI(
            model="stories260K",
            base_url=url + "/v1/completions",
            tokenizer_backend="remote",
            num_concurrent=parallel,
            max_length=512,
        )
        requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
        for (context, continuation), (logprob, _greedy) in zip(pairs, model.loglikelihood(requests)):
            ids = model.tok_encode(context + continuation)
            n_context = len(model.tok_encode(context))
            score = subprocess.run(
                [llmos, "score", MODELS / "stories260K.gguf", "--ids", " ".join(map(str, ids)), "--each", "--json"],
                capture_output=True,
                text=True,
                check=True,
            )
            expected = sum(row["logprob"] for row in json.loads(score.stdout)["each"][n_context:])
            assert math.isclose(logprob, expected, rel_tol=1e-12), (logprob, expected)


CHECKS = {
    "openai chat": ("openai", check_chat),
    "openai logprobs": ("openai", check_logprobs),
    "openai schema": ("openai", check_schema),
    "openai tools": ("openai", check_tools),
    "openai completions": ("openai", check_completions),
    "openai errors": ("openai", check_errors),
    "lm_eval log-likelihoods": ("lm_eval", check_lm_eval),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("llmos", type=Path)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    llmos = arguments.llmos.resolve()
    failed = False
    with tempfile.TemporaryDirectory() as home:
        os.environ["LLMOS_HOME"] = home
        with Server(llmos, MODELS / "assistant.gguf", MODELS / "stories260K.gguf") as server:
            for name, (library, check) in CHECKS.items():
                if arguments.only not in name:
                    continue
                try:
                    module = __import__(library)
                except ImportError:
                    print(f"skip  {name}: {library} is not installed")
                    continue
                try:
                    check(module, server.url, llmos)
                    print(f"ok    {name}")
                except Exception as error:  # noqa: BLE001
                    failed = True
                    print(f"FAIL  {name}: {type(error).__name__}: {error}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
