"""LangChain's client of Anthropic."""

import anthropic
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel
from steps import KEY, LINE, URL, look, play, refused


class Sum(BaseModel):
    """A sum."""

    answer: int


def client(model, **options):
    return ChatAnthropic(model=model, base_url=URL, api_key=KEY, max_retries=0, **options)


def text():
    chat = eval(LINE)
    said = [HumanMessage("one")]
    said += [chat.invoke(said), HumanMessage("two")]
    return [said[1].content, chat.invoke(said).content]


def stream():
    return [chunk.text for chunk in client("echo/paced").stream("Once more, in pieces.") if chunk.text]


def tools():
    looker = tool(look)
    chat = client("scripted/tools").bind_tools([looker])
    said = [HumanMessage("Is it dry?")]
    said.append(chat.invoke(said))
    said.append(looker.invoke(said[-1].tool_calls[0]))
    return [said[1].tool_calls[0]["args"], chat.invoke(said).content]


def structured():
    by_call = client("scripted/sum").with_structured_output(Sum).invoke("2 + 2?")
    by_schema = client("claude-json").with_structured_output(Sum, method="json_schema").invoke("2 + 2?")
    assert by_call == by_schema, (by_call, by_schema)
    return by_call.model_dump()


def error():
    return refused(anthropic.NotFoundError, lambda: client("nothing").invoke("x"))


play(text=text, stream=stream, tools=tools, structured=structured, error=error)
