"""The view of a prompt as it was sent, in the shape that API.md fixes. ``views`` has all others."""

from __future__ import annotations

from typing import Final, Literal
from uuid import UUID

import msgspec

from ..events.blocks import ToolSchema
from ..providers.base import Parameters
from .views import View

Reason = Literal[
    "system",
    "pinned",
    "last_user",
    "last_unit",
    "newest_that_fits",
    "budget",
    "erased",
    "empty",
    "superseded",
    "incomplete",
]
BUDGET: Final = "budget"


class WindowMessage(View, frozen=True):
    """A message that was in a window, or was not, and why. ``tokens``: base tokens.

    In it: ``system`` (the system prompt), ``pinned`` (with its unit), ``last_user`` (the newest message of a user),
    ``last_unit``, or ``newest_that_fits``; the first of these that is true. Not in it: ``erased``, ``empty`` or
    ``superseded`` at that time (with its unit); ``incomplete`` if it would have fitted, but the user's message that
    begins its exchange is not there; and ``budget``: it, or one that is newer, did not fit any more.
    """

    position: int
    version: int
    role: str
    tokens: int
    reason: Reason


class MessageCount(View, frozen=True):
    """Messages, and their base tokens."""

    count: int
    tokens: int


class LeftOut(View, frozen=True):
    """The messages that a window left out. ``by_reason`` adds up to ``count`` and ``tokens`` (base tokens); ``items``
    are the nearest 100, the newest first.
    """

    count: int
    tokens: int
    by_reason: dict[str, MessageCount]
    items: tuple[WindowMessage, ...]


class SentWindow(View, frozen=True):
    """The window of a request, as it was recorded. ``base_tokens`` are those of ``included`` and ``tool_tokens``, the
    schemas of the tools and of the answer. ``used_tokens`` is that times ``factor_permille`` / 1000, rounded up, and
    ``overhead`` for each of ``included``; it is at most ``budget_tokens`` less ``reserve_tokens``.
    """

    policy: str
    budget_tokens: int
    reserve_tokens: int
    base_tokens: int
    tool_tokens: int
    factor_permille: int
    overhead: int
    used_tokens: int
    included: tuple[WindowMessage, ...]
    omitted: LeftOut


class SentPrompt(View, frozen=True):
    """The request of one attempt, derived from the record again. ``attempt`` counts all attempts of the turn from 1,
    along its rounds. ``request`` is the request as a JSON object (None, where a renderer makes something else), and
    ``request_bytes`` what was sent to the byte. ``matches``: ``commitment``, the SHA-256 over the recorded salt and
    these bytes, is the ``recorded_commitment``.
    """

    turn_id: UUID
    attempt: int
    request: msgspec.Raw | None
    request_bytes: bytes = msgspec.field(name="request_bytes_base64")
    renderer: str
    counter: str
    model: str
    parameters: Parameters
    tools: tuple[ToolSchema, ...]
    commitment: str
    recorded_commitment: str
    matches: bool
    window: SentWindow
