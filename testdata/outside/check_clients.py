#!/usr/bin/env python3
"""Prove that the clients which people have talk to `llmos serve` unchanged: the libraries of OpenAI, Anthropic and
Ollama, and EleutherAI's lm_eval.

    pip install -r requirements-clients.txt
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
import threading
import time
import urllib.request
from pathlib import Path
from typing import Annotated

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


ANIMAL = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "legs": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["name", "legs"],
    "additionalProperties": False,
}


class Server:
    """`llmos serve` on a free port, until the end of the block."""

    def __init__(self, llmos, *arguments):
        # Two servers share no folder.
        self.data = tempfile.TemporaryDirectory()
        self.command = [llmos, "serve", *arguments, "--port", "0", "--data", self.data.name]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), self.url
        return self

    def __exit__(self, *_):
        self.process.terminate()
        assert self.process.wait(60) == 0, "the server ends in good order"
        self.data.cleanup()


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
        tags: list[Annotated[str, pydantic.Field(max_length=12)]] = pydantic.Field(max_length=2)

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


def post(url, path, body):
    """The answer to a JSON body, without a library."""
    request = urllib.request.Request(
        url + path, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


def fails_with(kind, words, ask):
    try:
        ask()
    except kind as error:
        assert words in str(error), error
        return error
    raise AssertionError(f"{words}: it was answered")


def check_logit_bias(openai, url, _llmos):
    client = openai.OpenAI(base_url=url + "/v1", api_key="none")
    ids = post(url, "/tokenize", {"model": "stories260K", "prompt": " the", "add_special_tokens": False})["tokens"]
    asked = dict(model="stories260K", prompt="Once upon a time", max_tokens=8, temperature=0)
    forced = client.completions.create(**asked, logit_bias={str(ids[0]): 100}, logprobs=0)
    assert len(set(forced.choices[0].logprobs.tokens)) == 1, "at 100 nothing else comes"
    plain = client.completions.create(**asked, logprobs=0)
    first = plain.choices[0].logprobs.tokens[0]
    first = post(url, "/v1/next", {"model": "stories260K", "prompt": "Once upon a time", "top": 1})["next"][0]["id"]
    banned = client.completions.create(**asked, logit_bias={str(first): -100}, logprobs=0)
    assert banned.choices[0].logprobs.tokens[0] != plain.choices[0].logprobs.tokens[0], "at -100 it does not come"
    penal = client.chat.completions.create(
        model="assistant", messages=user("Hi"), frequency_penalty=2, presence_penalty=2, temperature=0, max_tokens=20
    )
    assert penal.choices[0].message.content


def check_responses(openai, url, _llmos):
    import pydantic

    client = openai.OpenAI(base_url=url + "/v1", api_key="none")
    asked = dict(model="assistant", temperature=0, max_output_tokens=40)
    first = client.responses.create(**asked, input="My name is Ann.", instructions="Be brief.", metadata={"a": "b"})
    assert first.output_text and first.metadata == {"a": "b"} and first.instructions == "Be brief."
    second = client.responses.create(**asked, input="What is my name?", previous_response_id=first.id)
    third = client.responses.create(**asked, input=user("And yours?"), previous_response_id=second.id)
    # The same conversation sent whole: what is read is the same, so what is said is.
    whole = [*user("My name is Ann."), {"role": "assistant", "content": first.output_text}, *user("What is my name?")]
    alone = client.responses.create(**asked, input=whole, store=False)
    assert alone.usage.input_tokens == second.usage.input_tokens and alone.output_text == second.output_text
    assert client.responses.retrieve(third.id).output_text == third.output_text
    items = client.responses.input_items.list(third.id)
    assert [item.content[0].text for item in items] == ["And yours?"]
    assert client.responses.delete(third.id) is None
    fails_with(openai.NotFoundError, "no response", lambda: client.responses.retrieve(third.id))
    fails_with(openai.NotFoundError, "no response", lambda: client.responses.retrieve(alone.id))
    counted = client.responses.input_tokens.count(model="assistant", input="My name is Ann.", instructions="Be brief.")
    assert counted.input_tokens == first.usage.input_tokens
    # Answered at once, and asked for until it is there; one that has ended is not cancelled any more.
    begun = client.responses.create(**asked, input="My name is Ann.", instructions="Be brief.", background=True)
    assert begun.status == "queued" and begun.background and begun.output_text == ""
    found = begun
    while found.status in ("queued", "in_progress"):
        time.sleep(0.05)
        found = client.responses.retrieve(begun.id)
    assert found.output_text == first.output_text and client.responses.cancel(begun.id).status == found.status
    said = [{"role": "developer", "content": "Be brief."}, *user("My name is Ann.")]
    assert client.responses.create(**asked, input=said).output_text == first.output_text
    with client.responses.stream(**asked, input="Who are you?") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    plain = client.responses.create(**asked, input="Who are you?")
    assert final.output_text == plain.output_text and kinds[0] == "response.created"
    assert kinds[-1] in ("response.completed", "response.incomplete") and "response.output_text.delta" in kinds

    class Animal(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=20)
        legs: int = pydantic.Field(ge=0, le=9)

    parsed = client.responses.parse(
        model="assistant", input="Describe a cat.", text_format=Animal, temperature=0, max_output_tokens=300
    )
    assert isinstance(parsed.output_parsed, Animal)
    tool = {"type": "function", **WEATHER["function"], "strict": True}
    asked["max_output_tokens"] = 200
    called = client.responses.create(**asked, input="Oslo?", tools=[tool], tool_choice="required")
    call = next(item for item in called.output if item.type == "function_call")
    assert call.name == "get_weather" and set(json.loads(call.arguments)) == {"city", "unit"}
    output = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
    after = client.responses.create(**asked, input=output, previous_response_id=called.id, tools=[tool])
    assert after.status in ("completed", "incomplete")
    with client.responses.stream(**asked, input="Oslo?", tools=[tool], tool_choice="required") as stream:
        final = stream.get_final_response()
    assert any(item.type == "function_call" for item in final.output)


def check_embeddings(openai, url, llmos):
    client = openai.OpenAI(base_url=url + "/v1", api_key="none")
    texts = ["The dog ran to the park.", "The dog ran to a park.", "Once upon a time there was a princess."]
    packed = client.embeddings.create(model="stories260K", input=texts)
    floats = client.embeddings.create(model="stories260K", input=texts, encoding_format="float")
    points = [entry.embedding for entry in packed.data]
    for point, entry in zip(points, floats.data):
        assert all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(point, entry.embedding))
    dot = lambda a, b: sum(x * y for x, y in zip(a, b))  # noqa: E731
    assert all(math.isclose(dot(point, point), 1, rel_tol=1e-5) for point in points)
    assert dot(points[0], points[1]) > dot(points[0], points[2])
    short = client.embeddings.create(model="stories260K", input=texts[0], dimensions=8).data[0].embedding
    assert len(short) == 8 and math.isclose(dot(short, short), 1, rel_tol=1e-5)
    try:
        import llama_cpp
    except ImportError:
        return
    model = llama_cpp.Llama(
        str(MODELS / "stories260K.gguf"), embedding=True, pooling_type=llama_cpp.LLAMA_POOLING_TYPE_MEAN, verbose=False
    )
    for text, point in zip(texts, points):
        other = model.embed(text, normalize=True)
        assert dot(other, point) > 0.9999, ("llama.cpp", dot(other, point))


def check_busy(openai, _url, llmos):
    """A server that is full says when to come again, and OpenAI's client does."""
    with Server(llmos, MODELS / "assistant.gguf", "--slots", "1", "--queue", "0") as server:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
        ends = {str(i): -100 for i in range(3)}
        long = dict(model="assistant", messages=user("Tell me a story."), stream=True, logit_bias=ends)
        short = dict(model="assistant", messages=user("Hi"), max_tokens=2)
        stream = client.chat.completions.create(**long)
        next(iter(stream))
        error = fails_with(openai.RateLimitError, "in flight", lambda: client.chat.completions.create(**short))
        assert 1 <= float(error.response.headers["retry-after"]) <= 60 and error.request_id
        threading.Timer(0.3, stream.close).start()
        patient = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=3)
        assert patient.chat.completions.create(**short).choices[0].finish_reason in ("stop", "length")


def check_anthropic(anthropic, url, _llmos):
    client = anthropic.Anthropic(base_url=url, api_key="none")
    greedy = {"temperature": 0}
    asked = dict(model="assistant", max_tokens=60, messages=user("Who are you?"), extra_body=greedy)
    whole = client.messages.create(**asked)
    assert whole.content[0].text and whole.stop_reason in ("end_turn", "max_tokens") and whole._request_id
    usage = whole.usage
    counted = client.messages.count_tokens(model="assistant", messages=user("Who are you?"))
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens
    with client.messages.stream(**asked) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert said == whole.content[0].text == final.content[0].text
    assert final.usage.output_tokens == usage.output_tokens
    stop = said[3:6]
    stopped = client.messages.create(**asked, stop_sequences=[stop])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", stop)
    assert said.startswith(stopped.content[0].text) and stop not in stopped.content[0].text
    thought = client.messages.create(**asked, thinking={"type": "enabled", "budget_tokens": 1024}, system="Be brief.")
    assert thought.content
    function = WEATHER["function"]
    tool = {"name": function["name"], "description": function["description"], "input_schema": function["parameters"]}
    asked["max_tokens"] = 200
    for choice in ({"type": "any"}, {"type": "tool", "name": "get_weather"}):
        messages = user("What is the weather in Oslo?")
        answer = client.messages.create(**{**asked, "messages": messages}, tools=[tool], tool_choice=choice)
        call = answer.content[-1]
        assert answer.stop_reason == "tool_use" and call.name == "get_weather" and set(call.input) == {"city", "unit"}
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
        messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
        answer = client.messages.create(**{**asked, "messages": messages}, tools=[tool])
        assert answer.stop_reason in ("end_turn", "max_tokens", "tool_use")
        with client.messages.stream(**asked, tools=[tool], tool_choice=choice) as stream:
            final = stream.get_final_message()
        assert set(final.content[-1].input) == {"city", "unit"}
    schema = {"format": {"type": "json_schema", "schema": ANIMAL}}
    answer = client.messages.create(**{**asked, "max_tokens": 300}, output_config=schema)
    assert set(json.loads(answer.content[0].text)) == {"name", "legs"}
    assert {model.id for model in client.models.list()} >= {"assistant", "stories260K"}
    assert client.models.retrieve("assistant").id == "assistant"
    error = fails_with(anthropic.NotFoundError, "did you mean", lambda: client.messages.create(**{**asked, "model": "asistant"}))
    assert error.type == "not_found_error"
    fails_with(anthropic.BadRequestError, "temperature", lambda: client.messages.create(**{**asked, "extra_body": {"temperature": 2}}))
    fails_with(anthropic.BadRequestError, "the context holds", lambda: client.messages.create(**{**asked, "messages": user("word " * 100_000)}))

    async def several():
        many = anthropic.AsyncAnthropic(base_url=url, api_key="none")
        answers = await asyncio.gather(*(many.messages.create(**{**asked, "max_tokens": 60}) for _ in range(4)))
        return [answer.content[0].text for answer in answers]

    assert asyncio.run(several()) == [whole.content[0].text] * 4


def check_ollama(ollama, url, _llmos):
    client = ollama.Client(host=url)
    greedy = {"temperature": 0, "num_predict": 60}
    asked = dict(model="assistant", messages=user("Who are you?"), options=greedy)
    whole = client.chat(**asked)
    assert whole.message.content and whole.done and whole.eval_count > 0
    said = "".join(part.message.content for part in client.chat(**asked, stream=True))
    assert said == whole.message.content

    async def several():
        many = ollama.AsyncClient(host=url)
        answers = await asyncio.gather(*(many.chat(**asked) for _ in range(4)))
        streamed = [part.message.content async for part in await many.chat(**asked, stream=True)]
        return [answer.message.content for answer in answers] + ["".join(streamed)]

    assert asyncio.run(several()) == [said] * 5
    story = client.generate("stories260K", "Once upon a time", options={"temperature": 0, "num_predict": 12})
    streamed = client.generate("stories260K", "Once upon a time", options={"temperature": 0, "num_predict": 12}, stream=True)
    assert "".join(part.response for part in streamed) == story.response and story.done_reason == "length"
    stopped = client.chat(**{**asked, "options": {**greedy, "stop": [said[3:6]], "seed": 1}})
    assert said.startswith(stopped.message.content)
    answer = client.chat(**{**asked, "options": {"temperature": 0, "num_predict": 300}}, format=ANIMAL)
    assert set(json.loads(answer.message.content)) == {"name", "legs"}
    assert client.chat(**asked, think=False).message.content == said
    call = None
    for seed in range(20):
        # It calls when it wants to: nothing can demand it here.
        asked_for = user("What is 12 times 7?")
        calculator = {
            "type": "function",
            "function": {
                "name": "calculator",
                "description": "Computes an arithmetic expression exactly",
                "parameters": {
                    "type": "object",
                    "properties": {"expression": {"type": "string", "maxLength": 200}},
                    "required": ["expression"],
                    "additionalProperties": False,
                },
            },
        }
        answer = client.chat(model="assistant", messages=asked_for, tools=[calculator], options={"seed": seed, "num_predict": 100})
        if answer.message.tool_calls:
            call = answer.message.tool_calls[0]
            break
    assert call and set(call.function.arguments) == {"expression"}
    asked_for += [answer.message, {"role": "tool", "tool_name": "calculator", "content": "84"}]
    assert client.chat(model="assistant", messages=asked_for, tools=[calculator], options=greedy).message.content
    points = client.embed("stories260K", ["The dog ran.", "The cat sat."]).embeddings
    assert len(points) == 2 and all(math.isclose(sum(x * x for x in point), 1, rel_tol=1e-5) for point in points)
    alone = client.embeddings("stories260K", "The dog ran.").embedding
    assert all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(points[0], alone))
    assert {model.model for model in client.list().models} >= {"assistant", "stories260K"}
    shown = client.show("assistant")
    assert "tools" in shown.capabilities and shown.template and shown.modelinfo
    assert "assistant" in {model.model for model in client.ps().models}
    client.generate("assistant", keep_alive=0)
    assert "assistant" not in {model.model for model in client.ps().models}
    client.generate("assistant", keep_alive=-1)
    assert "assistant" in {model.model for model in client.ps().models}
    fails_with(ollama.ResponseError, "a file of its own", lambda: client.delete("assistant"))
    fails_with(ollama.ResponseError, "a file of its own", lambda: client.copy("assistant", "mine"))
    fails_with(ollama.ResponseError, "begins with hf:", lambda: client.pull("llama3.2"))
    fails_with(ollama.ResponseError, "Modelfile", lambda: client.create("mine", from_="assistant"))
    error = fails_with(ollama.ResponseError, "did you mean", lambda: client.chat("asistant", user("Hi")))
    assert error.status_code == 404
    fails_with(ollama.ResponseError, "temperature", lambda: client.chat("assistant", user("Hi"), options={"temperature": 9}))


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


TASKS = {
    "choice": """output_type: multiple_choice
doc_to_text: "{{q}}"
target_delimiter: ""
doc_to_choice: "{{c}}"
doc_to_target: "{{a}}"
metric_list: [{metric: acc}]
""",
    "rolling": """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{q}}"
metric_list: [{metric: bits_per_byte}]
""",
    "until": """output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: "x"
generation_kwargs: {until: ["."], max_gen_toks: 12}
metric_list: [{metric: exact_match}]
""",
}
ROWS = [
    {"q": "Once upon a time there was a", "c": [" dog", " storm"], "a": 0},
    {"q": "The cat sat on the", "c": [" mat", " moon"], "a": 1},
]


def check_lm_eval_tasks(lm_eval, url, llmos):
    """Tasks of lm_eval's own kinds, over rows of ours: log-likelihoods are those of `llmos score`."""
    from lm_eval.tasks import TaskManager

    os.environ.setdefault("OPENAI_API_KEY", "none")
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = folder
        rows = Path(folder) / "rows.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        for name, text in TASKS.items():
            data = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {rows}}}}}\ntest_split: test\n"
            (Path(folder) / f"{name}.yaml").write_text(f"task: llmos_{name}\n{data}{text}")
        for parallel, batch in ((1, 1), (8, 4)):
            results = lm_eval.simple_evaluate(
                model="local-completions",
                model_args=f"model=stories260K,base_url={url}/v1/completions,tokenizer_backend=remote,"
                f"num_concurrent={parallel},max_length=512",
                tasks=[f"llmos_{name}" for name in TASKS],
                task_manager=TaskManager(include_path=folder),
                batch_size=batch,
                bootstrap_iters=0,
            )
            for sample in results["samples"]["llmos_choice"]:
                row = sample["doc"]
                for choice, reply in zip(row["c"], sample["filtered_resps"]):
                    texts = (row["q"], row["q"] + choice)
                    # As lm_eval asks: without a start token.
                    asked = [{"model": "stories260K", "prompt": text, "add_special_tokens": False} for text in texts]
                    ids = [post(url, "/tokenize", body)["tokens"] for body in asked]
                    score = post(url, "/v1/score", {"model": "stories260K", "ids": ids[1]})
                    expected = sum(each["logprob"] for each in score["each"][len(ids[0]) :])
                    assert math.isclose(float(reply[0]), expected, rel_tol=1e-9), (reply, expected)
            assert results["results"]["llmos_rolling"]["bits_per_byte,none"] > 0
            for sample in results["samples"]["llmos_until"]:
                asked = {"model": "stories260K", "prompt": sample["doc"]["q"], "max_tokens": 12, "temperature": 0}
                asked |= {"stop": ["."], "add_special_tokens": False}
                expected = post(url, "/v1/completions", asked)["choices"][0]["text"]
                assert sample["resps"][0][0] == expected, (sample["resps"], expected)
        chat = lm_eval.simple_evaluate(
            model="local-chat-completions",
            model_args=f"model=assistant,base_url={url}/v1/chat/completions",
            tasks=["llmos_until"],
            task_manager=TaskManager(include_path=folder),
            apply_chat_template=True,
            bootstrap_iters=0,
        )
        assert all(sample["resps"][0][0] for sample in chat["samples"]["llmos_until"])


def check_lm_eval_greedy(lm_eval, url, _llmos):
    """A continuation counts as greedy exactly where it is the likeliest token."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    os.environ.setdefault("OPENAI_API_KEY", "none")
    model = LocalCompletionsAPI(
        model="stories260K", base_url=url + "/v1/completions", tokenizer_backend="remote", num_concurrent=4, max_length=512
    )
    text = "Once upon a time there was a little girl named Lily. She loved to play outside in the park with her dog."
    ids = model.tok_encode(text)
    asked, expected = [], []
    for end in range(2, len(ids)):
        likely = post(url, "/v1/next", {"model": "stories260K", "prompt": ids[:end], "top": 5})["next"]
        for rank in (0, 1, 4):
            asked.append((("", ""), ids[:end], [likely[rank]["id"]]))
            expected.append(rank == 0)
    answers = model._loglikelihood_tokens(asked)
    assert len(asked) > 60 and [is_greedy for _, is_greedy in answers] == expected


def beside_stories(check):
    """Runs a check at a server whose first model tells stories: lm_eval's tokenizer names none."""

    def run(library, _url, llmos):
        with Server(llmos, MODELS / "stories260K.gguf", MODELS / "assistant.gguf") as server:
            check(library, server.url, llmos)

    return run


CHECKS = {
    "openai chat": ("openai", check_chat),
    "openai logprobs": ("openai", check_logprobs),
    "openai schema": ("openai", check_schema),
    "openai tools": ("openai", check_tools),
    "openai completions": ("openai", check_completions),
    "openai errors": ("openai", check_errors),
    "openai biases and penalties": ("openai", check_logit_bias),
    "openai responses": ("openai", check_responses),
    "openai embeddings": ("openai", check_embeddings),
    "openai when busy": ("openai", check_busy),
    "anthropic": ("anthropic", check_anthropic),
    "ollama": ("ollama", check_ollama),
    "lm_eval log-likelihoods": ("lm_eval", beside_stories(check_lm_eval)),
    "lm_eval tasks": ("lm_eval", beside_stories(check_lm_eval_tasks)),
    "lm_eval greedy marks": ("lm_eval", beside_stories(check_lm_eval_greedy)),
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
