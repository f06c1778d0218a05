"""What a streamed delta costs where: the same streams from the same upstream, done in part.

``decode`` reads them through the OpenAI adapter and throws them away; ``record`` runs turns on an engine, with nobody
who reads along. Each prints the CPU seconds that its process used, all threads together. What a real server uses more
is what showing costs.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import msgspec
import uvloop

from manent import engine
from manent.engine import Settings
from manent.engine.clock import SystemClock
from manent.engine.events.blocks import TextBlock
from manent.engine.providers.base import Delta, Parameters, Prompt, PromptMessage
from manent.engine.providers.openai.chat import OpenAIProvider
from manent.engine.providers.wire.vendor import Endpoint
from texts import answer

POLL_S = 0.2
SETTLE_S = 0.5

RunAll = Callable[[str], Awaitable[None]]


@asynccontextmanager
async def decoding(base_url: str, streams: int, _: Path) -> AsyncGenerator[RunAll, None]:
    endpoint = Endpoint(clock=SystemClock(), connect_timeout_s=5, base_url=base_url)
    provider = OpenAIProvider(endpoint, legacy_max_tokens=True)

    async def read(model: str, tag: str) -> None:
        prompt = Prompt(model, (PromptMessage("user", (TextBlock(tag),)),), None, parameters=Parameters())
        request = provider.renderers[provider.renderer](prompt)
        text = [chunk.text async for chunk in provider.stream(request) if isinstance(chunk, Delta)]
        assert "".join(text) == answer(tag, _count(model))

    async def run_all(model: str) -> None:
        await asyncio.gather(*(read(model, f"s{number}") for number in range(streams)))

    yield run_all
    await provider.aclose()


@asynccontextmanager
async def recording(base_url: str, streams: int, folder: Path) -> AsyncGenerator[RunAll, None]:
    settings = Settings(database=str(folder / "recording.db"), model="echo/echo", openai_base_url=base_url)
    async with engine.open(settings) as chat:

        async def start(session: UUID, model: str, number: int) -> None:
            tag = f"s{number}"
            started = await chat.start_turn(session, tag, model=f"openai/{model}")
            await asyncio.sleep(_seconds(model))
            # Not chat.ended, for that would be a reader.
            while (turn := await chat.turn(started.turn)).status == "running":  # noqa: ASYNC110 - as above
                await asyncio.sleep(POLL_S)
            assert turn.message is not None
            assert engine.text_of(turn.message.blocks()) == answer(tag, _count(model))

        async def run_all(model: str) -> None:
            sessions = [(await chat.create_session()).id for _ in range(streams)]
            await asyncio.gather(*(start(session, model, number) for number, session in enumerate(sessions)))

        yield run_all


async def main(variant: str, base_url: str, streams: int, folder: Path) -> None:
    """Reads a model's name a line, runs the streams, prints the CPU seconds."""
    opened = {"decode": decoding, "record": recording}[variant]
    async with opened(base_url, streams, folder) as run_all:
        await run_all("2x0")
        while model := (await asyncio.to_thread(sys.stdin.readline)).strip():
            begun = time.process_time()
            await run_all(model)
            print(msgspec.json.encode(time.process_time() - begun).decode(), flush=True)


def _count(model: str) -> int:
    return int(model.partition("x")[0])


def _seconds(model: str) -> float:
    """How long a stream takes."""
    return _count(model) * int(model.partition("x")[2]) / 1000 + SETTLE_S


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
