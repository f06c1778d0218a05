"""Event <-> stored bytes: canonical facts, the commitment over a body, the leaf and its hash.

What is hashed is hashed for ever, so this file changes only by adding a new ``format``. A leaf is the RFC 8785
(JCS) form of one event's envelope and facts. JCS differs from sorted JSON for floats, integers above 2^53 and keys
above U+FFFF; none of the three may occur here, and ``canonical`` refuses them. ``tests/golden/leaves.json`` holds
vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from .base import RecordedEvent

FORMAT = "manent/1"
MAX_SAFE_INTEGER = 1 << 53
LEAF_COLUMNS = 14
"""So many fields of an event are in its leaf, the first."""

_PLAIN = frozenset({str, bool, type(None)})
_sorted = msgspec.json.Encoder(order="sorted")
_plain = msgspec.json.Encoder()


class Leaf(msgspec.Struct, frozen=True, gc=False):
    """The envelope and facts of an event, fields in canonical order; absent is null."""

    actor: str
    causation: UUID | None
    commitment: str
    correlation: str | None
    facts: msgspec.Raw
    format: str
    id: UUID
    length: int
    origin: str
    position: int
    recorded_at: int
    schema: int
    session: UUID
    tenant: str
    type: str
    version: int


def canonical(facts: object) -> bytes:
    """Facts as canonical JSON.

    Raises ValueError for a float, an integer beyond 2^53 or a key that is not ASCII: they have no place in a leaf.
    """
    _check(msgspec.to_builtins(facts))
    return _sorted.encode(facts)


def encode_body(words: object | None) -> bytes:
    """The body of an event as it is stored and committed to; empty where there are no words."""
    return b"" if words is None else _plain.encode(words)


def commitment(salt: bytes, body: bytes) -> bytes:
    """SHA-256 over a 16-byte salt and the plain body: stands in the leaf in the body's stead."""
    return hashlib.sha256(salt + body).digest()


def leaf_bytes(origin: str, columns: Sequence[Any]) -> bytes:
    """The bytes that are hashed: of the log's name at the event's position, and the first ``LEAF_COLUMNS`` fields of a
    ``RecordedEvent``. Its facts must come from ``canonical``.

    Raises msgspec.MsgspecError, or what else comes of values that cannot have been in a leaf.
    """
    tenant, position, session, version, event_id, kind, schema, actor, recorded_at, causation, *rest = columns
    correlation, facts, length, committed = rest
    leaf = Leaf(  # its fields in their order: naming sixteen of them takes longer than hashing them
        actor,
        causation,
        committed.hex(),
        correlation,
        msgspec.Raw(facts),
        FORMAT,
        event_id,
        length,
        origin,
        position,
        recorded_at,
        schema,
        session,
        tenant,
        kind,
        version,
    )
    return _plain.encode(leaf)


def leaf_hash(data: bytes) -> bytes:
    """RFC 6962 section 2.1: ``SHA-256(0x00 || leaf)``."""
    return hashlib.sha256(b"\x00" + data).digest()


def _check(value: object) -> None:
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise ValueError(f"{value} is beyond 2^53 and has no canonical JSON form")
    elif isinstance(value, dict):
        for key in value:
            if not (isinstance(key, str) and key.isascii()):
                raise ValueError(f"key {key!r} of facts is not ASCII text")
        _check_all(value.values())
    elif isinstance(value, list | tuple):
        _check_all(value)
    elif type(value) not in _PLAIN:
        raise ValueError(f"facts cannot hold a {type(value).__name__}")


def _check_all(values: Iterable[object]) -> None:
    for value in values:  # every event is checked, and most of it is plain
        if type(value) in _PLAIN or (type(value) is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER):
            continue
        _check(value)


def leaf_of(event: RecordedEvent, origin: str) -> bytes:
    """The bytes that were hashed; ``origin`` is the log's name at the event's position. Raises as ``leaf_bytes``."""
    return leaf_bytes(origin, msgspec.structs.astuple(event)[:LEAF_COLUMNS])


def name_at(names: Sequence[tuple[int, str]], position: int) -> str:
    """The name of a log at a position, of its names (first position, name), oldest first.

    Raises ValueError where the log had none.
    """
    found = [name for first, name in names if first <= position]
    if not found:
        raise ValueError(f"the log has no name at position {position}")
    return found[-1]
