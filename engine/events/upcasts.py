"""Old shapes of events to the newest, one pure step per version, and from there to typed facts and words.

A step takes the JSON object of one schema version and returns that of the next; stored bytes are never rewritten.
``facts_of``, ``meaning_of`` and ``words_of`` are the only way from stored bytes to types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from ..errors import StoreCorrupt, StoreNewer
from .types import EVENT_TYPES, Facts, Words

Step = Callable[[dict[str, Any]], dict[str, Any]]

FACTS_STEPS: Mapping[tuple[str, int], Step] = {}
"""(type, schema) -> the step from that schema's facts to the next's. None is needed yet: every type is at 1."""
WORDS_STEPS: Mapping[tuple[str, int], Step] = {}


class _Reader:
    """How events of one type are read."""

    def __init__(self, kind: type[Facts]) -> None:
        self.kind = kind
        self.schema = kind.schema
        self.facts = msgspec.json.Decoder(kind)
        self.words = None if kind.words is None else msgspec.json.Decoder(kind.words)


_READERS = {name: _Reader(kind) for name, kind in EVENT_TYPES.items()}


def facts_of(event: Stored) -> Facts:
    """The typed facts of a recorded event.

    Raises StoreNewer for a type or schema that this version does not know, StoreCorrupt for facts that are not of
    their shape.
    """
    if event.meaning is not None:
        known: Facts = event.meaning
        return known
    reader = _reader(event)
    try:
        return _decoded(reader, event.type, event.schema, event.facts)
    except msgspec.MsgspecError as error:
        raise _unreadable(event, error) from error


def meaning_of(kind: str, schema: int, facts: bytes) -> Facts | None:
    """The decoder of stores (``log.base.Decoder``): the typed facts of an event; None for facts that ``facts_of``
    refuses, and says why.
    """
    reader = _READERS.get(kind)
    if reader is None or schema > reader.schema:
        return None
    try:
        return _decoded(reader, kind, schema, facts)
    except (ValueError, RecursionError):
        return None


def words_of(event: Stored) -> Words | None:
    """The typed words of a recorded event; None if it has none, they are erased, or they were not read."""
    reader = _reader(event)
    if reader.words is None or not event.body:
        return None
    try:
        if event.schema == reader.schema:
            return reader.words.decode(event.body)
        words = upcast(WORDS_STEPS, event.type, event.schema, reader.schema, event.body)
        return msgspec.convert(words, reader.words.type)
    except msgspec.MsgspecError as error:
        raise _unreadable(event, error) from error


def _decoded(reader: _Reader, kind: str, schema: int, facts: bytes) -> Facts:
    if schema == reader.schema:
        return reader.facts.decode(facts)
    return msgspec.convert(upcast(FACTS_STEPS, kind, schema, reader.schema, facts), reader.kind)


def upcast(steps: Mapping[tuple[str, int], Step], kind: str, schema: int, to: int, data: bytes) -> dict[str, Any]:
    """Carry a stored JSON object from one schema version to a later one; a version without a step is unchanged."""
    value: dict[str, Any] = msgspec.json.decode(data)
    for version in range(schema, to):
        step = steps.get((kind, version))
        value = step(value) if step else value
    return value


def _reader(event: Stored) -> _Reader:
    reader = _READERS.get(event.type)
    if reader is None or event.schema > reader.schema:
        raise StoreNewer(f"event {event.position} is a {event.type}/{event.schema}, which this version does not know")
    return reader


def _unreadable(event: Stored, error: Exception) -> StoreCorrupt:
    return StoreCorrupt(f"event {event.position} ({event.type}) cannot be read: {error}")


class Stored(Protocol):
    """As much of an event as its meaning is read from; ``body`` None: not read, or erased. ``meaning``: its facts, if
    they were decoded before.
    """

    @property
    def position(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def schema(self) -> int: ...
    @property
    def facts(self) -> bytes: ...
    @property
    def body(self) -> bytes | None: ...
    @property
    def meaning(self) -> Any: ...
