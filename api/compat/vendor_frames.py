"""The vendor's forms of an answer's blocks among the frames of its turn.

Some protocols tell of a block's form at the block's end, or show blocks that are in no frame. So the forms are read
wherever another block begins, and come as frames of their own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from uuid import UUID

import msgspec

from ...engine import Frame
from .frame_data import read_start

VENDORS = "block.vendor"
"""A frame that only this file makes: the vendor's forms of the blocks of an answer, as far as they have come."""

Forms = Callable[[UUID], Awaitable[Mapping[int, bytes]]]
"""Reads the vendor's forms of a message's blocks, by their number."""

read_forms = msgspec.json.Decoder(dict[int, msgspec.Raw]).decode
"""The forms in the data of such a frame."""

_encode = msgspec.json.Encoder().encode
_KNOWN = frozenset({b'"text"', b'"thinking"', b'"tool_use"'})


async def with_forms(batches: AsyncGenerator[list[Frame], None], forms: Forms) -> AsyncGenerator[list[Frame], None]:
    """Frames with the vendor's forms of blocks before each block that follows another: a thought's signature is due at
    the thought's end, and a block that no frame shows before the next.
    """
    try:
        async for batch in batches:
            starts = [read_start(frame.data) for frame in batch if frame.type == "block.started"]
            if not any(start.block for start in starts):
                yield batch
                continue
            found = await forms(starts[0].message_id)
            known = _encode({str(number): msgspec.Raw(raw) for number, raw in found.items()})
            yield [each for frame in batch for each in _with_known(frame, known)]
    finally:
        await batches.aclose()


def _with_known(frame: Frame, known: bytes) -> tuple[Frame, ...]:
    return (Frame(frame.number, VENDORS, known), frame) if frame.type == "block.started" else (frame,)


def forms_in(content: Sequence[msgspec.Raw]) -> dict[int, msgspec.Raw]:
    """The vendor's forms in a recorded message: beside a block of a known type, else the block itself."""
    found = {}
    for number, raw in enumerate(content):
        block = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        if bytes(block["type"]) not in _KNOWN:
            found[number] = raw
        elif "vendor" in block:
            found[number] = block["vendor"]
    return found
