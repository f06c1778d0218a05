"""LangChain's client of OpenAI."""

import openai
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from steps import KEY, LINE, PNG, URL, look, play, refused


class Sum(BaseModel):
    answer: int


def client(model):
    return ChatOpenAI(model=model, base_url=f"{URL}/v1", api_key=KEY, max_retries=0)


def text():
    chat = eval(LINE)
    said = [HumanMessage("one")]
    said += [chat.invoke(said), HumanMessage("two")]
    return [said[1].content, chat.invoke(said).content]


def stream():
    return [chunk.content for chunk in client("echo/paced").stream("Once more, in pieces.") if chunk.content]


def tools():
    looker = tool(look)
    chat = client("scripted/tools").bind_tools([looker])
    said = [HumanMessage("Is it dry?")]
    said.append(chat.invoke(said))
    said.append(looker.invoke(said[-1].tool_calls[0]))
    return [said[1].tool_calls[0]["args"], chat.invoke(said).content]


def image():
    shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    return client("openai/gpt-test").invoke([HumanMessage([{"type": "text", "text": "What is it?"}, shown])]).text


def edited():
    chat = client("echo/echo")
    said = [HumanMessage("Edit me.")]
    said.append(chat.invoke(said))
    return [chat.invoke([*said, HumanMessage(words)]).text for words in ("as it was", "as it is now")]


def structured():
    return client("openai/json").with_structured_output(Sum).invoke("2 + 2?").model_dump()


def error():
    return refused(openai.NotFoundError, lambda: client("nothing").invoke("x"))


play(text=text, stream=stream, tools=tools, structured=structured, image=image, edited=edited, error=error)
