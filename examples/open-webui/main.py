"""Open WebUI, unmodified, with Partywall as its only provider: what its page does in a browser.

Each function below shows one thing and checks it; the script ends with a count and fails if
anything did. It reads OPEN_WEBUI_URL: an Open WebUI without sign-in, whose OPENAI_API_BASE_URL is
Partywall's. `run` starts one.
"""

import json
import os
import sys
import time
import traceback
import urllib.error
import urllib.request
import uuid

URL = os.environ["OPEN_WEBUI_URL"].rstrip("/")
MODEL = os.environ.get("PARTYWALL_MODEL", "sim-small")
EMBEDDING_MODEL = os.environ.get("PARTYWALL_EMBEDDING_MODEL", "sim-embed")
token = None


def call(method, path, body=None):
    """One call of Open WebUI's own API. Gives the body as text."""
    request = urllib.request.Request(
        URL + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    if token:
        request.add_header("authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


def sign_in():
    global token
    token = json.loads(call("POST", "/api/v1/auths/signin", {"email": "", "password": ""}))["token"]
    return "without a password"


def models():
    names = [model["id"] for model in json.loads(call("GET", "/api/models"))["data"]]
    assert MODEL in names, names
    return ", ".join(names)


def stream():
    body = {
        "model": MODEL,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "Say something short."}],
    }
    text = call("POST", "/api/chat/completions", body)
    frames = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert frames[-1] == "[DONE]", frames[-1]
    chunks = [json.loads(frame) for frame in frames[:-1]]
    said = "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )
    assert said and chunks[-1]["usage"]["completion_tokens"] > 0, chunks[-1]
    return repr(said[:30])


def whole():
    messages = [{"role": "user", "content": "Say something short."}]
    answer = json.loads(call("POST", "/api/chat/completions", {"model": MODEL, "messages": messages}))
    assert answer["choices"][0]["message"]["content"], answer
    return f"{answer['usage']['total_tokens']} tokens"


def a_chat_of_the_page():
    """As the page sends it: the answer is made in the background and kept in the chat, and so are
    its title, tags and what one may ask next, by calls of their own."""
    question, answer = str(uuid.uuid4()), str(uuid.uuid4())
    now = int(time.time())
    asked = {
        "id": question, "parentId": None, "childrenIds": [answer], "role": "user",
        "content": "What is a party wall?", "timestamp": now, "models": [MODEL],
    }
    empty = {
        "id": answer, "parentId": question, "childrenIds": [], "role": "assistant", "content": "",
        "model": MODEL, "modelName": MODEL, "modelIdx": 0, "timestamp": now,
    }
    history = {"messages": {question: asked, answer: empty}, "currentId": answer}
    new = {
        "id": "", "title": "New Chat", "models": [MODEL], "params": {}, "history": history,
        "messages": [asked, empty], "tags": [], "timestamp": now * 1000,
    }
    chat = json.loads(call("POST", "/api/v1/chats/new", {"chat": new}))["id"]
    body = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "model": MODEL,
        "messages": [{"role": "user", "content": asked["content"]}],
        "params": {},
        "tool_servers": [],
        "features": {"image_generation": False, "code_interpreter": False, "web_search": False},
        "variables": {},
        "session_id": uuid.uuid4().hex[:20],
        "chat_id": chat,
        "id": answer,
        "parent_id": question,
        "background_tasks": {
            "title_generation": True, "tags_generation": True, "follow_up_generation": True,
        },
    }
    begun = json.loads(call("POST", "/api/chat/completions", body))
    assert begun["status"] is True, begun
    for _ in range(100):
        kept = json.loads(call("GET", f"/api/v1/chats/{chat}"))
        message = kept["chat"]["history"]["messages"][answer]
        assert not message.get("error"), message
        if message.get("done") and kept["title"] != "New Chat":
            assert message["content"] and message["usage"]["output_tokens"] > 0, message
            return repr(message["content"][:30])
        time.sleep(0.2)
    raise AssertionError(f"no answer and title within 20 seconds: {kept}")


def embeddings():
    body = {"model": EMBEDDING_MODEL, "input": ["one", "two"]}
    data = json.loads(call("POST", "/api/embeddings", body))["data"]
    assert len(data) == 2 and data[0]["embedding"], data
    return f"{len(data[0]['embedding'])} dimensions"


def unknown_model():
    messages = [{"role": "user", "content": "hello"}]
    try:
        call("POST", "/api/chat/completions", {"model": "no-such-model", "messages": messages})
    except urllib.error.HTTPError as error:
        assert error.code in (400, 404), error
        return error.code
    raise AssertionError("an unknown model answered")


def main():
    checks = [sign_in, models, stream, whole, a_chat_of_the_page, embeddings, unknown_model]
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
