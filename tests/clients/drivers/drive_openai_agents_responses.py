"""OpenAI's Agents, over Responses."""

import asyncio

from agents import Agent, OpenAIResponsesModel, Runner, SQLiteSession, function_tool, set_tracing_disabled
from openai import AsyncOpenAI
from pydantic import BaseModel
from steps import KEY, URL, look, play

set_tracing_disabled(disabled=True)


class Sum(BaseModel):
    answer: int


def agent(model, **options):
    client = AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
    return Agent(name="Agent", model=OpenAIResponsesModel(model, client), **options)


def text():
    """State kept here: each run goes on from the response of the one before."""
    first = Runner.run_sync(agent("echo/echo", instructions="Be brief."), "one")
    second = Runner.run_sync(agent("echo/echo"), "two", previous_response_id=first.last_response_id)
    return [first.final_output, second.final_output]


def kept():
    """State kept by the client."""
    session = SQLiteSession("one")
    return [Runner.run_sync(agent("echo/echo"), words, session=session).final_output for words in ("one", "two")]


def stream():
    async def main():
        running = Runner.run_streamed(agent("echo/paced"), "Once more, in pieces.")
        events = [event.data async for event in running.stream_events() if event.type == "raw_response_event"]
        return "".join(event.delta for event in events if event.type == "response.output_text.delta")

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


def structured():
    return Runner.run_sync(agent("openai/json", output_type=Sum), "2 + 2?").final_output.answer


play(text=text, kept=kept, stream=stream, tools=tools, structured=structured)
