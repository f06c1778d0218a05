"""The ``llm`` of Datasette's house, over its plugin for servers that speak OpenAI's protocol."""

import os
import tempfile
from pathlib import Path

HOME = Path(tempfile.mkdtemp())
os.environ |= {"LLM_USER_PATH": str(HOME), "OPENAI_API_KEY": "none"}

import llm  # noqa: E402 - it reads its folder's name when it is imported
import openai  # noqa: E402
from pydantic import BaseModel  # noqa: E402
from steps import LINE, URL, look, play, refused  # noqa: E402

MODELS = {"paced": "echo/paced", "tools": "scripted/tools", "json": "openai/json", "none": "nothing"}
WITH = "supports_tools: true, supports_schema: true"
LINES = [f'- {{model_id: {name}, model_name: {model}, api_base: "{URL}/v1", {WITH}}}' for name, model in MODELS.items()]
(HOME / "extra-openai-models.yaml").write_text("\n".join([LINE, *LINES]), encoding="utf-8")


class Sum(BaseModel):
    answer: int


def text():
    conversation = llm.get_model("manent").conversation()
    return [conversation.prompt(words, stream=False).text() for words in ("one", "two")]


def stream():
    return [piece for piece in llm.get_model("paced").prompt("Once more, in pieces.") if piece]


def tools():
    called = []

    def noted(city: str) -> str:
        """Looks at the sky."""
        called.append({"city": city})
        return look(city)

    looker = llm.Tool.function(noted, name="look")
    chain = llm.get_model("tools").chain("Is it dry?", tools=[looker], stream=False)
    *_, last = chain.responses()
    return [*called, last.text()]


def structured():
    answer = llm.get_model("json").prompt("2 + 2?", schema=Sum, stream=False)
    return Sum.model_validate_json(answer.text()).model_dump()


def error():
    return refused(openai.NotFoundError, lambda: llm.get_model("none").prompt("x", stream=False).text())


play(text=text, stream=stream, tools=tools, structured=structured, error=error)
