"""The data of a turn's frames, as much of it as the dialects read."""

from __future__ import annotations

from uuid import UUID

import msgspec


class Started(msgspec.Struct, frozen=True):
    """The data of a ``block.started`` frame."""

    message_id: UUID
    block: int
    type: str
    id: str | None = None
    name: str | None = None


class Delta(msgspec.Struct, frozen=True, gc=False):
    """The data of a ``delta`` frame."""

    block: int
    type: str
    text: str


read_start = msgspec.json.Decoder(Started).decode
read_delta = msgspec.json.Decoder(Delta).decode
