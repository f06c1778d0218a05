"""The text of an answer while it is written: one delta after the other, each of them on record before it is given."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from uuid import UUID

import msgspec

from ..errors import EngineError, Invalid, VersionConflict
from ..sessions.turn_views import Turn
from ..streams.frames import DeltaData, Frame
from ..turns.start import Started

Start = Callable[[], Awaitable[Started]]
Frames = Callable[[UUID], AsyncGenerator[list[Frame], None]]
Read = Callable[[UUID], Awaitable[Turn]]


class _Unrecorded(msgspec.Struct):
    """The data of a frame that is not part of the record: why no more can be told."""

    code: str
    detail: str


class _Progress(msgspec.Struct):
    """The progress of the turn. The stream has it, and not the generator the stream: else both would stay until
    somebody looked for such circles, and with them the turn's reader.
    """

    turn_id: UUID | None = None
    turn: Turn | None = None


class TextStream:
    """The text deltas of a turn's answers; the turn is started when the first is asked for.

    Ends when the turn has ended (completed, cancelled, interrupted: see ``turn``), or waits for a decision. In a turn
    with several rounds the text of every round comes.

    Raises what starting a turn raises; and, when the turn has failed, its error: the EngineError with the ``code`` of
    ``turn.error``, a ProviderUnavailable for example. ``aclose``, or leaving the loop, leaves the turn running, unless
    it was started with ``on_disconnect="cancel"``.
    """

    def __init__(self, start: Start, frames: Frames, read: Read) -> None:
        self._progress = _Progress()
        self._deltas = _deltas(start, frames, read, self._progress)

    @property
    def turn_id(self) -> UUID:
        """The turn's id. Raises RuntimeError until the turn is started."""
        if self._progress.turn_id is None:
            raise RuntimeError("the turn is not started yet: it is when the first delta is asked for")
        return self._progress.turn_id

    @property
    def turn(self) -> Turn:
        """The turn as it ended, also where its error was raised. Raises RuntimeError until the stream has ended."""
        if self._progress.turn is None:
            raise RuntimeError("the turn is at hand when the stream has ended")
        return self._progress.turn

    def __aiter__(self) -> TextStream:
        return self

    async def __anext__(self) -> str:
        return await anext(self._deltas)

    async def aclose(self) -> None:
        """Stop reading."""
        await self._deltas.aclose()


async def _deltas(start: Start, frames: Frames, read: Read, progress: _Progress) -> AsyncGenerator[str, None]:
    turn_id = progress.turn_id = (await start()).turn
    async with aclosing(frames(turn_id)) as batches:
        async for batch in batches:
            for frame in batch:
                if frame.type == "delta":
                    delta = msgspec.json.decode(frame.data, type=DeltaData)
                    if delta.type == "text":
                        yield delta.text
                elif frame.type == "error":
                    told = msgspec.json.decode(frame.data, type=_Unrecorded)
                    raise error_of(told.code, told.detail)
    turn = progress.turn = await read(turn_id)
    if turn.error is not None:
        raise error_of(turn.error.code, turn.error.detail or f"the turn {turn.status}", turn_id=str(turn_id))


def error_of(code: str, detail: str, **extra: object) -> EngineError:
    """The error with this code. One that is known by its code alone is an EngineError with that code."""
    error = _KINDS.get(code, EngineError)(detail)
    error.code = code
    error.extra |= extra
    return error


def _kinds(kind: type[EngineError]) -> Iterator[type[EngineError]]:
    """Those errors that a code and a sentence are enough for."""
    if not issubclass(kind, Invalid | VersionConflict):
        yield kind
        for child in kind.__subclasses__():
            yield from _kinds(child)


_KINDS = {kind.code: kind for kind in _kinds(EngineError)}
