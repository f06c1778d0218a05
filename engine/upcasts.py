"""Old shapes of events to the newest, one pure step per version, and from there to typed facts and words.

A step takes the JSON object of one schema version and returns that of the next; stored bytes are never rewritten.
``facts_of`` and ``words_of`` are the only way from stored bytes to types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

from engine.errors import StoreCorrupt, StoreNewer
from engine.events import EVENT_TYPES, Facts, Words
from engine.store.base import Stored

T = TypeVar("T")
Step = Callable[[dict[str, Any]], dict[str, Any]]

FACTS_STEPS: Mapping[tuple[str, int], Step] = {}
"""(type, schema) -> the step from that schema's facts to the next's. None is needed yet: every type is at 1."""
WORDS_STEPS: Mapping[tuple[str, int], Step] = {}


def facts_of(event: Stored) -> Facts:
    """The typed facts of a recorded event.

    Raises StoreNewer for a type or schema that this version does not know, StoreCorrupt for facts that are not of
    their shape.
    """
    kind = _known(event)
    if event.schema == kind.schema:
        return _decode(event, kind, event.facts)
    return _convert(event, kind, upcast(FACTS_STEPS, event.type, event.schema, kind.schema, event.facts))


def words_of(event: Stored) -> Words | None:
    """The typed words of a recorded event; None if it has none, they are erased, or they were not read."""
    kind = _known(event)
    if kind.words is None or not event.body:
        return None
    if event.schema == kind.schema:
        return _decode(event, kind.words, event.body)
    return _convert(event, kind.words, upcast(WORDS_STEPS, event.type, event.schema, kind.schema, event.body))


def upcast(steps: Mapping[tuple[str, int], Step], kind: str, schema: int, to: int, data: bytes) -> dict[str, Any]:
    """Carry a stored JSON object from one schema version to a later one; a version without a step is unchanged."""
    value: dict[str, Any] = msgspec.json.decode(data)
    for version in range(schema, to):
        step = steps.get((kind, version))
        value = step(value) if step else value
    return value


def _known(event: Stored) -> type[Facts]:
    kind = EVENT_TYPES.get(event.type)
    if kind is None or event.schema > kind.schema:
        raise StoreNewer(f"event {event.position} is a {event.type}/{event.schema}, which this version does not know")
    return kind


def _decode(event: Stored, kind: type[T], data: bytes) -> T:
    try:
        return cast("T", _decoder(cast("Any", kind)).decode(data))
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(f"event {event.position} ({event.type}) cannot be read: {error}") from error


def _convert(event: Stored, kind: type[T], value: dict[str, Any]) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise StoreCorrupt(f"event {event.position} ({event.type}) cannot be read: {error}") from error


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
