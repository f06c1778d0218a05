"""LangChain's client of OpenAI's, over Responses."""

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from steps import KEY, URL, play
from steps import look as look_outside


class Sum(BaseModel):
    """A sum."""

    answer: int


def model(name, **options):
    options = {"use_responses_api": True, "max_retries": 0} | options
    return ChatOpenAI(model=name, base_url=f"{URL}/v1", api_key=KEY, **options)


def said(message):
    return message.text if isinstance(message.text, str) else message.text()


def text():
    """State kept here: the client sends what is new."""
    chat = model("echo/echo", use_previous_response_id=True)
    first = chat.invoke([HumanMessage("one")])
    second = chat.invoke([HumanMessage("one"), first, HumanMessage("two")])
    return [said(first), said(second)]


def kept():
    """State kept by the client."""
    chat = model("echo/echo", store=False, include=["reasoning.encrypted_content"])
    first = chat.invoke([HumanMessage("one")])
    return [said(first), said(chat.invoke([HumanMessage("one"), first, HumanMessage("two")]))]


def stream():
    return "".join(said(chunk) for chunk in model("echo/paced").stream("Once more, in pieces."))


def tools():
    @tool
    def look(city: str) -> str:
        """Looks at the sky."""
        return look_outside(city)

    chat = model("scripted/tools").bind_tools([look])
    asked = [HumanMessage("Is it dry?")]
    called = chat.invoke(asked)
    call = called.tool_calls[0]
    result = ToolMessage(look.invoke(call["args"]), tool_call_id=call["id"])
    return [call["args"], said(chat.invoke([*asked, called, result]))]


def structured():
    return model("openai/json").with_structured_output(Sum, method="json_schema").invoke("2 + 2?").answer


play(text=text, kept=kept, stream=stream, tools=tools, structured=structured)
