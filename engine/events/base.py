"""What every event type is made of: facts, kept for ever and hashed, and words, which can be erased."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Words(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The body of an event: erasable."""


class Facts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The facts of an event: a small object without a word of anybody's text."""

    event_type: ClassVar[str]
    schema: ClassVar[int] = 1
    words: ClassVar[type[Words] | None] = None
