"""Where a turn that was done again first differs from the one on record: in the bytes of a request, in a frame, or in
an answer that was not used or is missing.

Ids, positions and times are others in a temporary log. An id is known by the order in which it first comes, and the
rest is passed over; every other byte counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any
from uuid import UUID

import msgspec

from ...context.derive import prompt_again
from ...errors import EngineError
from ...log import codec
from ...log.base import Connection
from ...log.sql import reads
from ...providers.registry import Providers
from ...providers.renderers import find_renderer
from ...streams.frames import Frame
from .recorded_run import Rerun
from .recorded_session import system_prompt
from .recorded_turn import RecordedAttempt, RecordedTurn
from .results import FirstDifference

SHOWN_CHARS = 80
"""So much of a text is shown from where it differs."""
OTHERS = frozenset(
    {"started_at", "ended_at", "created_at", "first_chunk_ms", "duration_ms", "position", "version", "session_id"}
)
"""Members of frames that tell of a time or a place."""
_ID_AT = slice(len('{"message_id":"'), len('{"message_id":"') + 36)
"""Where the data of a delta has the id of its message."""

ENDED_BY_NEXT_START = "system"
"""The actor of what a start writes of the turns that it finds open."""

ABSENT = object()
"""Stands where one side has nothing."""

Found = tuple[str, Any, Any]
"""A path, and what stands there on record and now."""


class UnlikeError(Exception):
    """Requests differ, and what was sent then is not known any more."""


# --- requests ---------------------------------------------------------------------------------------------------------


def first_other_request(record: RecordedTurn, rerun: Rerun) -> int | None:
    """The number of the first attempt, from 0, whose request is another; None: all that were sent are the same."""
    for number, (attempt, request) in enumerate(zip(record.attempts, rerun.script.sent, strict=False)):
        if codec.commitment(attempt.words.salt, request).hex() != attempt.facts.request:
            return number
    return None


def request_difference(
    connection: Connection, *, providers: Providers, record: RecordedTurn, rerun: Rerun, number: int
) -> tuple[FirstDifference, str]:
    """Where the request of an attempt differs, and in words."""
    attempt, now = record.attempts[number], rerun.script.sent[number]
    tenant, place = attempt.event.tenant, f"attempts[{number}].request" if len(record.attempts) > 1 else "request"
    then = _request_then(connection, tenant, providers, attempt)
    if codec.commitment(attempt.words.salt, then).hex() != attempt.facts.request:
        committed = codec.commitment(attempt.words.salt, now).hex()
        reason = (
            f"our prompt changed: what was sent then cannot be made again with {attempt.facts.renderer}, so that it is "
            "not known where"
        )
        return FirstDifference("request", place, attempt.facts.request, committed), reason
    path, recorded, found = _in_bytes(then, now)
    at = f"message {_number(path)}" if _number(path) is not None else path or "its form"
    prefix = f"attempts[{number}]." if number else ""
    return FirstDifference("request", f"{prefix}{path}", recorded, found), f"our prompt changed, at {at}"


def _request_then(connection: Connection, tenant: str, providers: Providers, attempt: RecordedAttempt) -> bytes:
    facts = attempt.facts
    system = None if facts.system is None else reads.event_at_position(connection, tenant, facts.system)
    messages = reads.events_at_positions(connection, tenant, facts.positions)
    prompt = prompt_again(facts, attempt.words, system_prompt(system), messages, attempt.tools)
    return find_renderer(providers, facts.provider, facts.renderer)(prompt)


def _in_bytes(recorded: bytes, now: bytes) -> Found:
    """Where two requests differ: by a path in their JSON, or by a byte where they are none."""
    try:
        found = difference(msgspec.json.decode(recorded), msgspec.json.decode(now), "")
    except (msgspec.MsgspecError, RecursionError):
        found = None
    if found is not None:
        return found
    at = _first_place(recorded, now)
    then, other = (each[at : at + SHOWN_CHARS].decode(errors="replace") for each in (recorded, now))
    return f"bytes[{at}]", then, other


def _number(path: str) -> int | None:
    """The number of the message that a path leads into: of ``messages``, or of a protocol's ``input``."""
    name, bracket, rest = path.partition("[")
    number = rest.partition("]")[0]
    return int(number) if bracket and name in {"messages", "input"} and number.isdigit() else None


# --- answers ----------------------------------------------------------------------------------------------------------


def answer_difference(record: RecordedTurn, rerun: Rerun) -> tuple[FirstDifference, str] | None:
    """What is missing on record, or was left unused; None: every answer and every result was used once."""
    sent, known = len(rerun.script.sent), len(record.attempts)
    if rerun.script.missing:
        place = FirstDifference("request", f"attempts[{known}]", None, _shown(rerun.script.sent[known]))
        return place, "a request was sent for which no answer is on record"
    if sent < known:
        outcome = record.attempts[sent].ended.outcome
        return FirstDifference("request", f"attempts[{sent}]", outcome, None), "an answer on record is left unused"
    if rerun.missing_calls:
        path = f"calls[{rerun.missing_calls[0]}]"
        return FirstDifference("tool_calls", path, None, rerun.missing_calls[0]), "a call has no result on record"
    if rerun.unused:
        path = f"calls[{rerun.unused[0]}]"
        return FirstDifference("tool_calls", path, rerun.unused[0], None), "a result on record is left unused"
    return None


def count_difference(record: RecordedTurn, rerun: Rerun) -> FirstDifference | None:
    """Where the tokens of a window are counted otherwise."""
    now = rerun.turn.transcript.state.attempts
    for number, (attempt, state) in enumerate(zip(record.attempts, now, strict=False)):
        if attempt.facts.base_tokens != state.base_tokens:
            path = f"attempts[{number}].base_tokens"
            return FirstDifference("request", path, attempt.facts.base_tokens, state.base_tokens)
    return None


# --- frames -----------------------------------------------------------------------------------------------------------


def frame_difference(record: RecordedTurn, recorded: Sequence[Frame], rerun: Rerun) -> FirstDifference | None:
    """Where the frames differ that were shown; None: they are the same."""
    then = _told(recorded, record.state.id, ENDED_BY_NEXT_START if _died(record) else "")
    now = _told(rerun.frames, rerun.turn.id)
    for number, (one, other) in enumerate(zip_longest(then, now, fillvalue=ABSENT), 1):
        found = difference(one, other, f"frames[{number}]") if one != other else None
        if found is not None:
            return FirstDifference("frames", *found)
    return None


def _died(record: RecordedTurn) -> bool:
    """True if the server died under a turn, so that the next start ended it. Here the turn ends itself."""
    return record.stop is not None and any(event.actor == ENDED_BY_NEXT_START for event in record.events[:-1])


def _told(frames: Sequence[Frame], turn_id: UUID, also: str = "") -> Iterator[Any]:
    """Frames as they can be compared; ``also``: an actor that stands for the turn."""
    ids = {str(turn_id): "#turn"}
    for frame in frames:
        if frame.type == "delta":
            message = frame.data[_ID_AT].decode()
            yield frame.number, frame.type, ids.get(message, message), frame.data[_ID_AT.stop :].decode()
            continue
        data = msgspec.json.decode(frame.data)
        message = data.get("id") if frame.type == "message.appended" else data.get("message_id")
        if also and data.get("actor") == also:
            data["actor"] = f"turn:{turn_id}"
        if message is not None:
            ids.setdefault(message, f"#{len(ids)}")
        yield {"number": frame.number, "type": frame.type, "data": _plain(data, ids)}


def _plain(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, str):
        return ids.get(value.removeprefix("turn:"), value)
    if isinstance(value, dict):
        return {name: _plain(each, ids) for name, each in value.items() if name not in OTHERS}
    return [_plain(each, ids) for each in value] if isinstance(value, list) else value


# --- values -----------------------------------------------------------------------------------------------------------


def difference(recorded: Any, now: Any, path: str) -> Found | None:
    """Where two values of JSON first differ, be it in the order of members; None: they are the same."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        names = [*recorded, *(name for name in now if name not in recorded)]
        places = (
            (f"{path}.{name}" if path else name, recorded.get(name, ABSENT), now.get(name, ABSENT)) for name in names
        )
        found = _first(places)
        in_order = found is not None or [*recorded] == [*now]
        return found if in_order else (path, _shown([*recorded]), _shown([*now]))
    if isinstance(recorded, list | tuple) and isinstance(now, list | tuple):
        pairs = zip_longest(recorded, now, fillvalue=ABSENT)
        return _first((f"{path}[{at}]", one, other) for at, (one, other) in enumerate(pairs))
    if recorded == now and type(recorded) is type(now):
        return None
    if isinstance(recorded, str) and isinstance(now, str):
        at = _first_place(recorded, now)
        return f"{path}[{at}]", recorded[at : at + SHOWN_CHARS], now[at : at + SHOWN_CHARS]
    return path, _shown(recorded), _shown(now)


def _first(places: Iterable[Found]) -> Found | None:
    found = (difference(one, other, place) for place, one, other in places)
    return next((each for each in found if each is not None), None)


def _first_place(one: Sequence[Any], other: Sequence[Any]) -> int:
    """The first place at which two sequences differ."""
    at = next((at for at, (this, that) in enumerate(zip(one, other, strict=False)) if this != that), None)
    return min(len(one), len(other)) if at is None else at


def _shown(value: Any) -> Any:
    """A value as it is shown: one that is long only in part."""
    if value is ABSENT:
        return None
    if value is None or isinstance(value, bool | int | float):
        return value
    text = (
        value if isinstance(value, str) else bytes(value).decode(errors="replace") if isinstance(value, bytes) else None
    )
    return (msgspec.json.encode(value).decode() if text is None else text)[:SHOWN_CHARS]


def failure_in_words(error: Exception) -> str:
    """Why a turn could not be done again. An error that is not one of ours is named by its type only."""
    said = f"{error.code}: {error.detail}" if isinstance(error, EngineError) else type(error).__name__
    return f"it could not be done again: {said}"
