"""Talking to a database file: the engine runs in this process, on a thread of its own, while the user thinks."""

from __future__ import annotations

import asyncio
import shlex
import threading
from collections.abc import Coroutine, Iterator
from contextlib import aclosing, suppress
from queue import SimpleQueue
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from .... import engine
from ....engine import Ask, Caller, Conversation, Decision, EngineError, Frame, MessageIn, Settings
from ..database import find_session
from ..terminal import notice
from .client import Wishes

T = TypeVar("T")

Batches = SimpleQueue[list[Frame] | Exception | None]


class Direct:
    """See ``base.Talk``. Raises StoreLocked where a server has the file."""

    def __init__(self, settings: Settings, caller: Caller) -> None:
        self.address = f"--database {shlex.quote(settings.database)}"
        # Who leaves does not want to wait for an answer; it is interrupted, and what came of it is on record.
        self._settings = msgspec.structs.replace(settings, drain_s=0)
        self._caller = caller
        self._opened: SimpleQueue[Conversation | BaseException] = SimpleQueue()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="manent-engine", daemon=True)
        self._thread.start()
        opened = self._opened.get()
        if isinstance(opened, BaseException):
            self._thread.join()
            raise opened
        self._conversation = opened

    def resume(self, session: str) -> UUID:
        return self._call(find_session(self._conversation, session, self._caller)).id

    def begin(self, model: str | None, system: str | None) -> UUID:
        return self._call(self._conversation.create_session(self._caller, model=model, system=system)).id

    def start(self, session: UUID, text: str, wishes: Wishes) -> UUID:
        return self._call(self._start(session, text, wishes))

    def frames(self, turn: UUID, after: int) -> Iterator[Frame]:
        batches: Batches = SimpleQueue()
        reading = asyncio.run_coroutine_threadsafe(self._read(turn, after, batches), self._loop)
        try:
            while (batch := batches.get()) is not None:
                if isinstance(batch, Exception):
                    raise batch
                yield from batch
        finally:
            reading.cancel()

    def open_turn(self, session: UUID) -> UUID | None:
        return self._call(self._conversation.session(session, self._caller)).open_turn_id

    def decide(self, turn: UUID, call: str, *, approve: bool) -> None:
        self._call(self._conversation.decide(turn, Decision(call, approve), self._caller))

    def cancel(self, session: UUID) -> None:
        turn = self.open_turn(session)
        if turn is not None:
            self._call(self._conversation.cancel(turn, self._caller))

    def close(self) -> None:
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    # --- on the engine's thread ---------------------------------------------------------------------------------------

    async def _live(self) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with engine.open(self._settings, notice=notice) as conversation:
                self._opened.put(conversation)
                await self._closing.wait()
        except EngineError as error:
            self._opened.put(error)
        except BaseException as error:
            self._opened.put(error)
            raise

    async def _start(self, session: UUID, text: str, wishes: Wishes) -> UUID:
        message = await self._conversation.new_message(MessageIn(text))
        ask = Ask(message=message, model=wishes.model, tools=wishes.tools)
        return (await self._conversation.start_turn(session, ask, self._caller)).turn

    async def _read(self, turn: UUID, after: int, batches: Batches) -> None:
        try:
            async with aclosing(self._conversation.frames(turn, self._caller, after=after)) as frames:
                async for batch in frames:
                    batches.put(batch)
            batches.put(None)
        except Exception as error:  # noqa: BLE001 - whatever it was, the reader may not be left waiting
            batches.put(error)
