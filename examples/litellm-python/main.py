"""The LiteLLM SDK, unmodified, with Partywall as its provider: `openai/…` and `anthropic/…`.

Each function below shows one thing and checks it; the script ends with a count and fails if
anything did. It reads OPENAI_BASE_URL and OPENAI_API_KEY.
"""

import json
import os
import sys
import traceback

# Its table of prices comes with the package: nothing else is fetched.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm
from pydantic import BaseModel

MODEL = os.environ.get("PARTYWALL_MODEL", "sim-small")
EMBEDDING_MODEL = os.environ.get("PARTYWALL_EMBEDDING_MODEL", "sim-embed")
BASE = os.environ["OPENAI_BASE_URL"]
KEY = os.environ["OPENAI_API_KEY"]

litellm.suppress_debug_info = True

# LiteLLM adds `/v1/messages` for Anthropic by itself.
CLIENTS = {
    "openai/": {"model": f"openai/{MODEL}", "api_base": BASE, "api_key": KEY},
    "anthropic/": {"model": f"anthropic/{MODEL}", "api_base": BASE.removesuffix("/v1"), "api_key": KEY},
}

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


class City(BaseModel):
    name: str
    people: int
    is_capital: bool


def ask(client, content="Say something short.", **options):
    options.setdefault("max_tokens", 64)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
    return litellm.completion(messages=messages, num_retries=0, **client, **options)


def completion(client):
    answer = ask(client)
    assert answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason in ("stop", "length"), answer
    assert answer.usage.prompt_tokens > 0 and 0 < answer.usage.completion_tokens <= 64, answer.usage
    return f"{answer.usage.total_tokens} tokens"


def stream(client):
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    whole = litellm.stream_chunk_builder(chunks)
    assert whole.choices[0].message.content, chunks
    assert any(getattr(chunk, "usage", None) for chunk in chunks), chunks[-1]
    return f"{len(chunks)} chunks"


def tools(client):
    choice = {"type": "function", "function": {"name": "weather"}}
    answer = ask(client, "What is the weather in Oslo?", tools=[WEATHER], tool_choice=choice)
    call = answer.choices[0].message.tool_calls[0]
    assert isinstance(json.loads(call.function.arguments)["city"], str), answer
    return call.function.arguments


def structured_output(client):
    schema = {"name": "city", "schema": City.model_json_schema(), "strict": True}
    schema["schema"]["additionalProperties"] = False
    answer = ask(
        client,
        "Describe Oslo as JSON: name, people, is_capital.",
        max_tokens=400,
        response_format={"type": "json_schema", "json_schema": schema},
    )
    return City.model_validate_json(answer.choices[0].message.content).model_dump_json()


def wrong_key(client):
    try:
        ask({**client, "api_key": "pw_nobody"})
    except litellm.AuthenticationError as error:
        return type(error).__name__
    raise AssertionError("a wrong key was good")


def unknown_model(client):
    provider, _, _ = client["model"].partition("/")
    try:
        ask({**client, "model": f"{provider}/no-such-model"})
    except litellm.NotFoundError as error:
        return type(error).__name__
    raise AssertionError("an unknown model answered")


def responses():
    answer = litellm.responses(input="Say something short.", max_output_tokens=16, **CLIENTS["openai/"])
    assert answer.output[0].content[0].text, answer
    return f"{answer.usage.output_tokens} tokens"


def embeddings():
    client = {**CLIENTS["openai/"], "model": f"openai/{EMBEDDING_MODEL}"}
    answer = litellm.embedding(input=["one", "two"], **client)
    assert len(answer.data) == 2 and answer.data[0]["embedding"], answer
    return f"{len(answer.data[0]['embedding'])} dimensions"


def main():
    checks = {
        f"{check.__name__}, {prefix}": (check, (client,))
        for check in [completion, stream, tools, structured_output, wrong_key, unknown_model]
        for prefix, client in CLIENTS.items()
    }
    checks |= {check.__name__: (check, ()) for check in [responses, embeddings]}
    failed = 0
    for name, (check, arguments) in checks.items():
        try:
            print(f"ok      {name}: {check(*arguments)}")
        except Exception:
            failed += 1
            print(f"FAILED  {name}")
            traceback.print_exc(file=sys.stdout)
    print(f"{len(checks) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
