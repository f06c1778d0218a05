"""OpenAI's Agents, over Chat Completions."""

import asyncio

import openai
from agents import Agent, OpenAIChatCompletionsModel, Runner, SQLiteSession, function_tool, set_tracing_disabled
from openai import AsyncOpenAI
from pydantic import BaseModel
from steps import KEY, LINE, PNG, URL, look, play, refused

set_tracing_disabled(disabled=True)


class Sum(BaseModel):
    answer: int


def agent(model, **options):
    client = AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
    return Agent(name="Agent", model=OpenAIChatCompletionsModel(model, client), **options)


def text():
    first, session = Agent(name="Agent", instructions="Be brief.", model=eval(LINE)), SQLiteSession("one")
    return [Runner.run_sync(first, words, session=session).final_output for words in ("one", "two")]


def stream():
    async def main():
        running = Runner.run_streamed(agent("echo/paced"), "Once more, in pieces.")
        events = [event.data async for event in running.stream_events() if event.type == "raw_response_event"]
        return [event.delta for event in events if event.type == "response.output_text.delta"]

    return asyncio.run(main())


def tools():
    called = []

    def noted(city: str) -> str:
        """Looks at the sky."""
        called.append({"city": city})
        return look(city)

    looker = function_tool(noted, name_override="look")
    answer = Runner.run_sync(agent("scripted/tools", tools=[looker]), "Is it dry?").final_output
    return [*called, answer]


def image():
    parts = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"},
    ]
    return Runner.run_sync(agent("openai/gpt-test"), [{"role": "user", "content": parts}]).final_output


def edited():
    chat = agent("echo/echo")
    said = Runner.run_sync(chat, "Edit me.").to_input_list()
    asked = [[*said, {"role": "user", "content": words}] for words in ("as it was", "as it is now")]
    return [Runner.run_sync(chat, each).final_output for each in asked]


def structured():
    return Runner.run_sync(agent("openai/json", output_type=Sum), "2 + 2?").final_output.model_dump()


def error():
    return refused(openai.NotFoundError, lambda: Runner.run_sync(agent("nothing"), "x"))


play(text=text, stream=stream, tools=tools, structured=structured, image=image, edited=edited, error=error)
