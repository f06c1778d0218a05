"""Old shapes of events to the newest, one pure step per version, and from there to typed facts and words.

A step takes the JSON object of one schema version and returns that of the next; stored bytes are never rewritten.
``Reader``, and what goes through it (``facts_of``, ``meaning_of`` and ``words_of``), is the only way from stored bytes
to types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from ..errors import EngineError, RecordDamaged, StoreCorrupt, StoreNewer
from .base import Facts, Words
from .turn_types import AttemptEnded, AttemptEndedWords
from .types import EVENT_TYPES, BodyErased, ErasureWords, MessageAppended, MessageWords

Step = Callable[[dict[str, Any]], dict[str, Any]]

FACTS_STEPS: Mapping[tuple[str, int], Step] = {}
"""(type, schema) -> the step from that schema's facts to the next's. None is needed yet: the fields of schema 1 keep
their places, and say in their docstrings what stood in them."""
WORDS_STEPS: Mapping[tuple[str, int], Step] = {}

F = TypeVar("F", bound=Facts)
W = TypeVar("W", bound=Words)


def _like_now(steps: Mapping[tuple[str, int], Step], kind: type[Facts]) -> int:
    """The oldest schema that is read as the newest is."""
    return max((schema + 1 for name, schema in steps if name == kind.event_type), default=1)


class Reader(Generic[F, W]):
    """How the events of one type are read, from columns of their rows.

    Both raise StoreNewer for a schema that this version does not know, StoreCorrupt for bytes that are not of their
    shape.
    """

    def __init__(self, kind: type[F], words: type[W] | None) -> None:
        self.type = kind.event_type
        self.schema = kind.schema
        self._like_now = _like_now(FACTS_STEPS, kind), _like_now(WORDS_STEPS, kind)
        self.has_words = words is not None
        self._kinds = kind, words
        self._facts = msgspec.json.Decoder(kind).decode
        self._words: Callable[[bytes], Any] = msgspec.json.Decoder(words or Any).decode

    def facts(self, position: int, schema: int, data: bytes) -> F:
        """The typed facts."""
        try:
            if self._like_now[0] <= schema <= self.schema:
                return self._facts(data)
            older: F = self._older(FACTS_STEPS, self._kinds[0], position, schema, data)
        except msgspec.MsgspecError as error:
            raise self._unreadable(position, error) from error
        return older

    def words(self, position: int, schema: int, data: bytes) -> W:
        """The typed words, of a type that has any."""
        try:
            if self._like_now[1] <= schema <= self.schema:
                found: W = self._words(data)
            else:
                found = self._older(WORDS_STEPS, self._kinds[1], position, schema, data)
        except msgspec.MsgspecError as error:
            raise self._unreadable(position, error) from error
        return found

    def _older(self, steps: Mapping[tuple[str, int], Step], kind: Any, position: int, schema: int, data: bytes) -> Any:
        if schema > self.schema:
            raise _unknown(position, self.type, schema)
        return msgspec.convert(upcast(steps, self.type, schema, self.schema, data), kind)

    def _unreadable(self, position: int, error: Exception) -> StoreCorrupt:
        return StoreCorrupt(f"event {position} ({self.type}) cannot be read: {error}")


_READERS: dict[str, Reader[Facts, Words]] = {name: Reader(kind, kind.words) for name, kind in EVENT_TYPES.items()}

MESSAGES = Reader(MessageAppended, MessageWords)
"""For those who read many messages and make no event of each."""


ERASURES = Reader(BodyErased, ErasureWords)
ATTEMPT_ENDS = Reader(AttemptEnded, AttemptEndedWords)


def facts_of(event: Stored) -> Facts:
    """The typed facts of a recorded event.

    Raises StoreNewer for a type or schema that this version does not know, StoreCorrupt for facts that are not of
    their shape.
    """
    if event.meaning is not None:
        known: Facts = event.meaning
        return known
    return _reader(event).facts(event.position, event.schema, event.facts)


def meaning_of(kind: str, schema: int, facts: bytes) -> Facts | None:
    """The decoder of stores (``log.base.Decoder``): the typed facts of an event; None for facts that ``facts_of``
    refuses, and says why.
    """
    reader = _READERS.get(kind)
    try:
        return None if reader is None else reader.facts(0, schema, facts)
    except (EngineError, ValueError, RecursionError):
        return None


def words_of(event: Stored) -> Words | None:
    """The typed words of a recorded event; None if it has none, they are erased, or they were not read. Raises as
    ``facts_of``, and RecordDamaged.
    """
    if event.damaged:
        raise RecordDamaged.at(event.position)
    return words_left(event)


def words_left(event: Stored) -> Words | None:
    """As ``words_of``, for what is derived from an event and must go on without its words: None where they are
    damaged.
    """
    reader = _reader(event)
    if not (event.body and reader.has_words):
        return None
    return reader.words(event.position, event.schema, event.body)


def upcast(steps: Mapping[tuple[str, int], Step], kind: str, schema: int, to: int, data: bytes) -> dict[str, Any]:
    """Carry a stored JSON object from one schema version to a later one; a version without a step is unchanged."""
    value: dict[str, Any] = msgspec.json.decode(data)
    for version in range(schema, to):
        step = steps.get((kind, version))
        value = step(value) if step else value
    return value


def _reader(event: Stored) -> Reader[Facts, Words]:
    reader = _READERS.get(event.type)
    if reader is None or event.schema > reader.schema:
        raise _unknown(event.position, event.type, event.schema)
    return reader


def _unknown(position: int, kind: str, schema: int) -> StoreNewer:
    return StoreNewer(f"event {position} is a {kind}/{schema}, which this version does not know")


class Stored(Protocol):
    """As much of an event as its meaning is read from; ``body`` None: not read, erased or damaged. ``meaning``: its
    facts, if they were decoded before.
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
    @property
    def damaged(self) -> bool: ...
