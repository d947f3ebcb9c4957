"""The Anthropic Python SDK, unmodified, against Partywall.

Each function below shows one thing and checks it; the script ends with a count and fails if
anything did. The SDK itself reads ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY. The model behind it may
be anybody's.
"""

import os
import sys
import traceback

import anthropic
from anthropic import Anthropic

MODEL = os.environ.get("PARTYWALL_MODEL", "sim-small")

WEATHER = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}

client = Anthropic(max_retries=0, timeout=60)


def ask(content="Say something short.", **options):
    options.setdefault("max_tokens", 16)
    return client.messages.create(
        model=MODEL, messages=[{"role": "user", "content": content}], **options
    )


def refusal(expected, call):
    """The error of this class that `call` must raise."""
    try:
        answer = call()
    except expected as error:
        return error
    raise AssertionError(f"expected {expected.__name__}, got {answer!r}")


def message():
    answer = ask(system="Be brief.")
    assert answer.type == "message" and answer.content[0].text, answer
    assert answer.stop_reason in ("end_turn", "max_tokens"), answer
    assert answer.usage.input_tokens > 0 and 0 < answer.usage.output_tokens <= 16, answer.usage
    return f"{answer.usage.output_tokens} tokens"


def stream():
    options = {"model": MODEL, "max_tokens": 16}
    with client.messages.stream(
        messages=[{"role": "user", "content": "Say something short."}], **options
    ) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    assert text and text == final.content[0].text, (text, final)
    assert final.usage.output_tokens > 0, final.usage
    return repr(text[:30])


def tools():
    options = {"tools": [WEATHER], "max_tokens": 64}
    question = "What is the weather in Oslo? Use the tool."
    answer = ask(question, tool_choice={"type": "tool", "name": "weather"}, **options)
    call = next(block for block in answer.content if block.type == "tool_use")
    assert answer.stop_reason == "tool_use" and isinstance(call.input["city"], str), answer
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Four degrees, rain."}
    final = client.messages.create(
        model=MODEL,
        messages=[
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer.content},
            {"role": "user", "content": [result]},
        ],
        **options,
    )
    assert final.role == "assistant", final
    return call.input["city"]


def models():
    names = [model.id for model in client.models.list(limit=1)]
    assert MODEL in names, names
    assert client.models.retrieve(MODEL).type == "model"
    return ", ".join(names)


def wrong_key():
    stranger = client.with_options(api_key="pw_nobody")
    error = refusal(anthropic.AuthenticationError, stranger.models.list)
    assert error.body["error"]["type"] == "authentication_error", error.body
    assert error.response.headers["x-request-id"], error.response.headers
    return error.status_code


def unknown_model():
    error = refusal(
        anthropic.NotFoundError,
        lambda: client.messages.create(
            model="no-such-model", max_tokens=4, messages=[{"role": "user", "content": "hello"}]
        ),
    )
    assert error.body["error"]["type"] == "not_found_error", error.body
    return error.body["error"]["type"]


def headers():
    raw = client.messages.with_raw_response.create(
        model=MODEL, max_tokens=4, messages=[{"role": "user", "content": "hello"}]
    )
    for unit in ("requests", "tokens"):
        for name in ("limit", "remaining", "reset"):
            assert f"anthropic-ratelimit-{unit}-{name}" in raw.headers, dict(raw.headers)
    return raw.headers["x-request-id"]


CHECKS = [message, stream, tools, models, wrong_key, unknown_model, headers]


def main():
    failed = 0
    for check in CHECKS:
        try:
            print(f"ok      {check.__name__}: {check()}")
        except Exception:
            failed += 1
            print(f"FAILED  {check.__name__}")
            traceback.print_exc(file=sys.stdout)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
