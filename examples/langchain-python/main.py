"""LangChain, unmodified, against Partywall: through OpenAI's dialects and through Anthropic's.

Each function below shows one thing and checks it; the script ends with a count and fails if
anything did. LangChain's packages read OPENAI_BASE_URL, OPENAI_API_KEY, ANTHROPIC_BASE_URL and
ANTHROPIC_API_KEY.
"""

import asyncio
import os
import sys
import traceback

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

MODEL = os.environ.get("PARTYWALL_MODEL", "sim-small")
EMBEDDING_MODEL = os.environ.get("PARTYWALL_EMBEDDING_MODEL", "sim-embed")

# LangChain's clients share their connections, which belong to one loop.
LOOP = asyncio.new_event_loop()

# The model behind either client may be anybody's.
CLIENTS = {
    "chat": ChatOpenAI(model=MODEL, max_tokens=64, max_retries=0, stream_usage=True),
    "responses": ChatOpenAI(
        model=MODEL, max_tokens=64, max_retries=0, use_responses_api=True, output_version="responses/v1"
    ),
    "messages": ChatAnthropic(model=MODEL, max_tokens=64, max_retries=0),
}


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"Four degrees and rain in {city}."


class City(BaseModel):
    """A city."""

    name: str
    people: int
    is_capital: bool


def said(message):
    """The text of a message, whichever way its client puts it."""
    return message.text if isinstance(message.text, str) else message.text()


def invoke(client):
    answer = client.invoke([SystemMessage("Be brief."), HumanMessage("Say something short.")])
    assert said(answer), answer
    usage = answer.usage_metadata
    assert usage["input_tokens"] > 0 and 0 < usage["output_tokens"] <= 64, usage
    return f"{usage['total_tokens']} tokens"


def stream(client):
    whole = None
    for chunk in client.stream("Say something short."):
        whole = chunk if whole is None else whole + chunk
    assert said(whole), whole
    assert whole.usage_metadata["output_tokens"] > 0, whole
    return repr(said(whole)[:30])


def in_a_chain(client):
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "About {topic}.")])
    chain = prompt | client | StrOutputParser()
    texts = chain.batch([{"topic": "walls"}, {"topic": "doors"}, {"topic": "roofs"}])
    assert len(texts) == 3 and all(texts), texts
    return f"{len(texts)} at once"


def asynchronous(client):
    async def ask():
        return await asyncio.gather(*(client.ainvoke(f"Number {n}.") for n in range(5)))

    answers = LOOP.run_until_complete(ask())
    assert all(said(answer) for answer in answers), answers
    return f"{len(answers)} at once"


def tools(client):
    bound = client.bind_tools([weather], tool_choice="weather")
    question = HumanMessage("What is the weather in Oslo? Use the tool.")
    answer = bound.invoke([question])
    call = answer.tool_calls[0]
    assert call["name"] == "weather" and isinstance(call["args"]["city"], str), answer
    result = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
    final = client.bind_tools([weather]).invoke([question, answer, result])
    assert final.type == "ai", final
    streamed = None
    for chunk in bound.stream([question]):
        streamed = chunk if streamed is None else streamed + chunk
    assert isinstance(streamed.tool_calls[0]["args"]["city"], str), streamed
    return str(call["args"])


def structured_output(client):
    city = client.with_structured_output(City).invoke("Describe Oslo.")
    assert isinstance(city, City), city
    return city.model_dump_json()


def embeddings():
    # An engine has its own tokenizer: texts go as texts.
    client = OpenAIEmbeddings(model=EMBEDDING_MODEL, check_embedding_ctx_length=False, max_retries=0)
    vectors = client.embed_documents(["one", "two", "three"])
    assert len(vectors) == 3 and len(vectors[0]) == len(client.embed_query("one")), vectors
    return f"{len(vectors[0])} dimensions"


def main():
    checks = {
        f"{check.__name__}, {dialect}": (check, (client,))
        for check in [invoke, stream, in_a_chain, asynchronous, tools, structured_output]
        for dialect, client in CLIENTS.items()
    }
    checks["embeddings"] = (embeddings, ())
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
