"""The leaf of a recorded event, from what was read of it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine import codec
from engine.store.base import RecordedEvent


def leaf_of(event: RecordedEvent, origin: str) -> bytes:
    """The bytes that were hashed; ``origin`` is the log's name at the event's position.

    Raises msgspec.MsgspecError or ValueError for columns that cannot have been in a leaf.
    """
    leaf = codec.Leaf(
        actor=event.actor,
        causation=event.causation,
        commitment=event.commitment.hex(),
        correlation=event.correlation,
        facts=msgspec.Raw(event.facts),
        format=codec.FORMAT,
        id=event.id,
        length=event.length,
        origin=origin,
        position=event.position,
        recorded_at=event.recorded_at,
        schema=event.schema,
        session=event.session,
        tenant=event.tenant,
        type=event.type,
        version=event.version,
    )
    return codec.leaf_bytes(leaf)


def name_at(names: Sequence[tuple[int, str]], position: int) -> str:
    """The name of a log at a position, of its names (first position, name), oldest first.

    Raises ValueError where the log had none.
    """
    found = [name for first, name in names if first <= position]
    if not found:
        raise ValueError(f"the log has no name at position {position}")
    return found[-1]
