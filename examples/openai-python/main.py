"""The OpenAI Python SDK, unmodified, against Partywall.

Each function below shows one thing and checks it; the script ends with a count and fails if
anything did. The SDK itself reads OPENAI_BASE_URL and OPENAI_API_KEY.
"""

import argparse
import asyncio
import json
import os
import sys
import traceback
import urllib.request
import uuid

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

MODEL = os.environ.get("PARTYWALL_MODEL", "sim-small")
EMBEDDING_MODEL = os.environ.get("PARTYWALL_EMBEDDING_MODEL", "sim-embed")

# One red pixel.
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8Dwn4EIwDiqkL4K"
    "AH4fBAHRFwAAAABJRU5ErkJggg=="
)

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}

client = OpenAI(max_retries=0, timeout=60)


def ask(content="Say something short.", **options):
    """One chat of at most 16 tokens, which is enough for every check and quick on any engine."""
    options.setdefault("max_tokens", 16)
    return client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": content}], **options
    )


def refusal(expected, call):
    """The error of this class that `call` must raise."""
    try:
        answer = call()
    except expected as error:
        return error
    raise AssertionError(f"expected {expected.__name__}, got {answer!r}")


def chat():
    answer = ask()
    assert answer.object == "chat.completion", answer
    assert answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason in ("stop", "length"), answer
    usage = answer.usage
    assert usage.prompt_tokens > 0 and 0 < usage.completion_tokens <= 16, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage
    return f"{usage.total_tokens} tokens"


def stream():
    chunks = list(ask(stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text, chunks
    assert chunks[-1].choices[0].finish_reason in ("stop", "length"), chunks[-1]
    # Who does not ask for the usage does not get it, although the gateway asks the engine for it.
    assert all(chunk.usage is None for chunk in chunks), chunks[-1]
    return f"{len(chunks)} chunks"


def stream_with_usage():
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [], chunks[-1]
    assert 0 < chunks[-1].usage.completion_tokens <= 16, chunks[-1]
    assert all(chunk.usage is None for chunk in chunks[:-1]), chunks
    return f"{chunks[-1].usage.total_tokens} tokens"


def stream_left_early():
    with ask(stream=True, max_tokens=400) as events:
        first = next(iter(events))
    assert first.choices, first
    # The connection was closed in mid-answer; the next call is served as if nothing happened.
    assert ask().choices
    return "left after one chunk"


def several_choices():
    answer = ask(n=3)
    assert sorted(choice.index for choice in answer.choices) == [0, 1, 2], answer
    return "3 choices"


def log_probabilities():
    answer = ask(logprobs=True, top_logprobs=2)
    tokens = answer.choices[0].logprobs.content
    assert tokens and all(token.logprob <= 0 for token in tokens), tokens
    assert len(tokens[0].top_logprobs) == 2, tokens[0]
    return f"{len(tokens)} tokens"


def tools():
    options = {
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "max_tokens": 64,
    }
    question = "What is the weather in Oslo? Use the tool."
    answer = ask(question, **options)
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "weather", call
    assert isinstance(json.loads(call.function.arguments)["city"], str), call
    result = client.chat.completions.create(
        model=MODEL,
        max_tokens=16,
        tools=[WEATHER],
        messages=[
            {"role": "user", "content": question},
            answer.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "Four degrees, rain."},
        ],
    )
    assert result.choices[0].message.role == "assistant", result
    pieces = [
        piece
        for chunk in ask(question, stream=True, **options)
        for piece in chunk.choices[0].delta.tool_calls or []
    ]
    streamed = "".join(piece.function.arguments or "" for piece in pieces)
    assert isinstance(json.loads(streamed)["city"], str), pieces
    return call.function.arguments


class City(BaseModel):
    """What the model has to fill in."""

    name: str
    people: int
    is_capital: bool


def json_schema():
    parsed = client.chat.completions.parse(
        model=MODEL,
        max_tokens=200,
        response_format=City,
        messages=[{"role": "user", "content": "Describe Oslo as JSON: name, people, is_capital."}],
    )
    city = parsed.choices[0].message.parsed
    assert isinstance(city, City), parsed
    return city.model_dump_json()


def image():
    answer = ask(
        [
            {"type": "text", "text": "What colour is this?"},
            {"type": "image_url", "image_url": {"url": PIXEL}},
        ]
    )
    without = ask("What colour is this?")
    assert answer.usage.prompt_tokens > without.usage.prompt_tokens, answer.usage
    return f"{answer.usage.prompt_tokens} tokens in"


def completions():
    answer = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=12)
    assert answer.object == "text_completion" and answer.choices[0].text, answer
    events = client.completions.create(
        model=MODEL, prompt="Once upon a time", max_tokens=12, stream=True
    )
    text = "".join(event.choices[0].text for event in events if event.choices)
    assert text
    return repr(text[:30])


def embeddings():
    answer = client.embeddings.create(model=EMBEDDING_MODEL, input=["one text", "another"])
    assert [item.index for item in answer.data] == [0, 1], answer
    assert answer.data[0].embedding != answer.data[1].embedding
    assert answer.usage.prompt_tokens > 0, answer.usage
    # The SDK asks for base64 unless it is told otherwise; both say the same.
    plain = client.embeddings.create(
        model=EMBEDDING_MODEL, input="one text", encoding_format="float"
    )
    pairs = zip(plain.data[0].embedding, answer.data[0].embedding, strict=True)
    assert all(abs(left - right) < 1e-6 for left, right in pairs)
    short = client.embeddings.create(model=EMBEDDING_MODEL, input="one text", dimensions=64)
    assert len(short.data[0].embedding) == 64, short
    return f"{len(plain.data[0].embedding)} dimensions"


def responses():
    answer = client.responses.create(
        model=MODEL, input="Say something short.", max_output_tokens=16, metadata={"topic": "walls"}
    )
    assert answer.id.startswith("resp_") and answer.output_text, answer
    assert answer.metadata == {"topic": "walls"} and answer.usage.output_tokens <= 16, answer
    # It is stored in the tenant, and the next one goes on from it.
    following = client.responses.create(
        model=MODEL, input="And then?", max_output_tokens=16, previous_response_id=answer.id
    )
    assert following.previous_response_id == answer.id, following
    assert following.usage.input_tokens > answer.usage.input_tokens, following.usage
    assert client.responses.retrieve(answer.id).output_text == answer.output_text
    items = list(client.responses.input_items.list(answer.id))
    assert items[0].content[0].text == "Say something short.", items
    client.responses.delete(answer.id)
    error = refusal(openai.NotFoundError, lambda: client.responses.retrieve(answer.id))
    return error.code


def conversations():
    conversation = client.conversations.create(
        metadata={"topic": "walls"},
        items=[{"role": "user", "content": "My name is Ada."}],
    )
    assert conversation.metadata == {"topic": "walls"}, conversation
    asked = {"model": MODEL, "max_output_tokens": 16, "conversation": conversation.id}
    first = client.responses.create(input="What is my name?", **asked)
    assert first.conversation.id == conversation.id, first
    *_, last = client.responses.create(input="And again?", stream=True, **asked)
    # A short bound: it may well be cut there.
    assert last.type in ("response.completed", "response.incomplete"), last
    second = last.response
    assert second.usage.input_tokens > first.usage.input_tokens, second.usage
    # All pages of it, the oldest first.
    items = list(client.conversations.items.list(conversation.id, order="asc", limit=2))
    assert [item.role for item in items] == ["user", "user", "assistant", "user", "assistant"], items
    assert items[2].id == first.output[0].id and items[2].content[0].text == first.output_text
    added = client.conversations.items.create(
        conversation.id, items=[{"role": "user", "content": "Goodbye."}]
    )
    client.conversations.items.delete(added.data[0].id, conversation_id=conversation.id)
    found = client.conversations.items.retrieve(items[0].id, conversation_id=conversation.id)
    assert found.content[0].text == "My name is Ada.", found
    changed = client.conversations.update(conversation.id, metadata={"topic": "doors"})
    assert client.conversations.retrieve(conversation.id).metadata == changed.metadata
    assert client.conversations.delete(conversation.id).deleted
    error = refusal(openai.NotFoundError, lambda: client.responses.create(input="?", **asked))
    return f"{len(items)} items, then {error.code}"


def responses_stream():
    with client.responses.stream(
        model=MODEL, input="Say something short.", max_output_tokens=400, store=False
    ) as events:
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        final = events.get_final_response()
    assert text and text == final.output_text, (text, final)
    assert final.status == "completed" and final.store is False, final
    refusal(openai.NotFoundError, lambda: client.responses.retrieve(final.id))
    return repr(text[:30])


def responses_parse():
    parsed = client.responses.parse(
        model=MODEL,
        max_output_tokens=200,
        text_format=City,
        input="Describe Oslo as JSON: name, people, is_capital.",
    )
    assert isinstance(parsed.output_parsed, City), parsed
    return parsed.output_parsed.model_dump_json()


def models():
    names = [model.id for model in client.models.list()]
    assert MODEL in names, names
    assert client.models.retrieve(MODEL).id == MODEL
    return ", ".join(names)


def wrong_key():
    stranger = client.with_options(api_key="pw_nobody")
    error = refusal(openai.AuthenticationError, stranger.models.list)
    assert error.status_code == 401 and error.code == "invalid_api_key", error
    assert error.request_id, error.response.headers
    return error.code


def unknown_model():
    error = refusal(
        openai.NotFoundError,
        lambda: client.chat.completions.create(
            model="no-such-model", messages=[{"role": "user", "content": "hello"}]
        ),
    )
    assert error.code == "model_not_found", error
    return error.code


def malformed():
    error = refusal(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model=MODEL, messages="not a list"),
    )
    assert error.type == "invalid_request_error", error
    return error.type


def admin(method, path, body):
    """One call of the admin API, as the operator."""
    call = urllib.request.Request(
        os.environ["PARTYWALL_ADMIN_URL"] + path,
        method=method,
        data=json.dumps(body).encode(),
        headers={
            "authorization": "Bearer " + os.environ["PARTYWALL_OPERATOR_KEY"],
            "content-type": "application/json",
        },
    )
    with urllib.request.urlopen(call, timeout=30) as answer:
        return json.load(answer)


def spent_budget():
    tenant = "/admin/v1/tenants/" + os.environ["PARTYWALL_TENANT"]
    admin("PUT", tenant + "/features/example-tiny", {"description": "has almost no money"})
    budget = {"subject": "feature:example-tiny", "limit": "0.000000000001", "window": "total"}
    admin("PUT", tenant + "/budgets/example-tiny", budget)
    patient = client.with_options(max_retries=2)
    error = refusal(
        openai.RateLimitError,
        lambda: patient.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "hello"}],
            extra_headers={"partywall-feature": "example-tiny"},
        ),
    )
    assert error.code == "insufficient_quota", error
    # A budget does not come back in a second, so the SDK is told not to try again.
    assert error.response.headers["x-should-retry"] == "false", error.response.headers
    assert "x-stainless-retry-count" not in error.response.request.headers or (
        error.response.request.headers["x-stainless-retry-count"] == "0"
    ), error.response.request.headers
    return error.code


def failure_in_mid_stream():
    received = []

    def read():
        for chunk in ask("[[fault:error=3]] [[tokens:10]]", stream=True):
            received.append(chunk)

    error = refusal(openai.APIError, read)
    assert received, "nothing came before the error"
    return f"{len(received)} chunks, then {type(error).__name__}"


def idempotency():
    key = {"idempotency-key": str(uuid.uuid4())}
    first = ask("Once.", extra_headers=key)
    again = ask("Once.", extra_headers=key)
    assert again.id == first.id and again.choices == first.choices, (first, again)
    error = refusal(openai.APIStatusError, lambda: ask("Twice.", extra_headers=key))
    assert 400 <= error.status_code < 500, error
    return f"same answer; another body is {error.status_code}"


def headers():
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, max_tokens=4, messages=[{"role": "user", "content": "hello"}]
    )
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    for name in ("limit", "remaining", "reset"):
        for unit in ("requests", "tokens"):
            assert f"x-ratelimit-{name}-{unit}" in raw.headers, dict(raw.headers)
    return raw.headers["x-request-id"]


def unknown_fields():
    answer = ask(extra_body={"x_unknown": {"kept": [1, 2.5, None]}})
    # What the engine says beside OpenAI's own fields arrives too.
    assert answer.system_fingerprint, answer
    assert "x_sim" in answer.model_extra, answer.model_extra
    return json.dumps(answer.model_extra["x_sim"])


def salt():
    # The engine is shared by all tenants, so each call carries its tenant's own cache salt, and a
    # client cannot choose one, at whatever depth it hides it.
    assert ask().model_extra["x_sim"]["salted"] is True
    for body in ({"cache_salt": "x"}, {"metadata": {"cache_salt": "x"}}):
        error = refusal(openai.BadRequestError, lambda body=body: ask(extra_body=body))
        assert "cache_salt" in error.message, error
    return "the gateway's own"


def attribution():
    headers = {"partywall-session": "session-1", "partywall-turn": "turn-1"}
    answer = ask(extra_headers=headers, user="ada")
    assert answer.choices, answer
    return "session and turn"


def concurrency():
    async def together():
        async with AsyncOpenAI(max_retries=2, timeout=60) as many:
            calls = (
                many.chat.completions.create(
                    model=MODEL,
                    messages=[{"role": "user", "content": f"[[say:number {number}]]"}],
                )
                for number in range(20)
            )
            return await asyncio.gather(*calls)

    answers = asyncio.run(together())
    for number, answer in enumerate(answers):
        # Each answer belongs to its own question.
        assert answer.choices[0].message.content == f"number {number}", answer
    assert len({answer.id for answer in answers}) == 20
    return "20 at once"


# What any OpenAI-compatible engine can do.
EVERYWHERE = [
    chat,
    stream,
    stream_with_usage,
    stream_left_early,
    several_choices,
    log_probabilities,
    json_schema,
    completions,
    responses,
    conversations,
    responses_stream,
    responses_parse,
    models,
    wrong_key,
    unknown_model,
    malformed,
    idempotency,
    headers,
    attribution,
]

# What needs the built-in simulator, which does as it is told, or the operator's key.
SIMULATED = [
    tools,
    image,
    embeddings,
    spent_budget,
    failure_in_mid_stream,
    unknown_fields,
    salt,
    concurrency,
]


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--any-engine", action="store_true", help="leave out what needs the simulator")
    options.add_argument("only", nargs="*", help="names of checks")
    chosen = options.parse_args()
    checks = EVERYWHERE + ([] if chosen.any_engine else SIMULATED)
    if chosen.only:
        checks = [check for check in checks if check.__name__ in chosen.only]
        assert len(checks) == len(chosen.only), f"not all of {chosen.only} are checks"
    failed = 0
    for check in checks:
        try:
            print(f"ok      {check.__name__}: {check()}")
        except Exception:
            failed += 1
            print(f"FAILED  {check.__name__}")
            traceback.print_exc(file=sys.stdout)
    print(f"{len(checks) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
