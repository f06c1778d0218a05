"""The answer object of OpenAI's Responses: a turn, and what the client is given back of its request.

That is recorded with the turn, so the object is the same while the turn runs, when it has ended and after a restart. It
has every key always: clients read them without asking.
"""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

import msgspec

from ...engine import ClientAnswer, Turn, Usage
from .common import TurnError, seconds_of
from .response_forms import ENCRYPTED
from .response_ids import response_id
from .response_items import items_of

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]

_INCOMPLETE = {"max_tokens": "max_output_tokens", "content_filter": "content_filter", "refusal": "content_filter"}
"""Why an answer is not whole, though its turn was completed, by the reason why the model stopped."""
_REFUSED_ALOUD = frozenset({"stop", "completed"})
"""Vendors' own words for an end that is whole: the model has refused in words of its own."""
_STATUSES: dict[str, Status] = {"completed": "completed", "cancelled": "cancelled", "running": "in_progress"}
_CODES = {"rate_limited": "rate_limit_exceeded", "provider_rejected": "invalid_prompt"}

_encode = msgspec.json.Encoder().encode


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """The request as it is given back with its answer. ``include``: what was asked to be told besides."""

    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str | dict[str, Any] = "auto"
    text: dict[str, Any] = msgspec.field(default_factory=lambda: {"format": {"type": "text"}})
    parallel_tool_calls: bool = True
    temperature: float = 1.0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    reasoning: dict[str, Any] = msgspec.field(default_factory=lambda: {"effort": None, "summary": None})
    max_output_tokens: int | None = None
    store: bool = True
    background: bool = False
    metadata: dict[str, str] = {}
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    truncation: str = "disabled"
    include: tuple[str, ...] = ()

    def encoded(self) -> bytes:
        """Its JSON, as it is recorded."""
        return _encode(self)


NOTHING_TOLD = Told()
_read_told = msgspec.json.Decoder(Told).decode


class TurnSeen(msgspec.Struct, frozen=True):
    """A turn, as much of it as an answer tells; times are RFC 3339 text. The first and the last frame of a turn have
    it, too.
    """

    id: UUID
    status: str
    model: str
    started_at: str
    ended_at: str | None
    stop_reason: str | None
    vendor_stop_reason: str | None
    usage: Usage
    error: TurnError | None = None

    @property
    def told_status(self) -> Status:
        """The status of the response."""
        if self.status == "completed" and self.cut is not None:
            return "incomplete"
        return _STATUSES.get(self.status, "failed")

    @property
    def cut(self) -> str | None:
        """Why the answer is not whole; None: it is, or there is another reason for it."""
        if self.status != "completed" or (self.stop_reason == "refusal" and self.vendor_stop_reason in _REFUSED_ALOUD):
            return None
        return _INCOMPLETE.get(self.stop_reason or "")


def read_told(raw: bytes | None) -> Told:
    """What was recorded of a request; where it is erased, as if nothing had been asked."""
    return NOTHING_TOLD if raw is None else _read_told(raw)


def answered(answer: ClientAnswer, *, include: tuple[str, ...] = ()) -> dict[str, Any]:
    """A recorded answer as it is now. ``include``: what is asked to be told besides."""
    told = read_told(answer.told)
    return turn_told(answer.turn, msgspec.structs.replace(told, include=(*told.include, *include)))


def turn_told(turn: Turn, told: Told, status: Status | None = None) -> dict[str, Any]:
    """A turn as it is now. ``status``: another than its own."""
    seen = TurnSeen(**{name: getattr(turn, name) for name in TurnSeen.__struct_fields__})
    output = [
        placed.item
        for message in turn.messages
        if message.role == "assistant"
        for placed in items_of(message, encrypted=ENCRYPTED in told.include)
    ]
    return response(seen, told, output, status)


def response(turn: TurnSeen, told: Told, output: list[Any], status: Status | None = None) -> dict[str, Any]:
    """The object. ``status``: another than the turn's."""
    status = status or turn.told_status
    ended = turn.ended_at is not None
    found: dict[str, Any] = {
        "id": response_id(turn.id),
        "object": "response",
        "created_at": seconds_of(turn.started_at),
        "completed_at": seconds_of(turn.ended_at) if turn.ended_at and status == "completed" else None,
        "status": status,
        "incomplete_details": {"reason": turn.cut} if status == "incomplete" else None,
        "model": turn.model,
        "previous_response_id": told.previous_response_id,
        "instructions": told.instructions,
        "output": output,
        "error": _error(turn) if status == "failed" else None,
        "tools": told.tools,
        "tool_choice": told.tool_choice,
        "truncation": told.truncation,
        "parallel_tool_calls": told.parallel_tool_calls,
        "text": told.text,
        "top_p": told.top_p,
        "presence_penalty": told.presence_penalty,
        "frequency_penalty": told.frequency_penalty,
        "top_logprobs": 0,
        "temperature": told.temperature,
        "reasoning": told.reasoning,
        "usage": usage_told(turn.usage) if ended else None,
        "max_output_tokens": told.max_output_tokens,
        "max_tool_calls": None,
        "store": told.store,
        "background": told.background,
        "service_tier": "default",
        "metadata": told.metadata,
        "safety_identifier": told.safety_identifier,
        "prompt_cache_key": told.prompt_cache_key,
    }
    if told.conversation is not None:
        found["conversation"] = {"id": told.conversation}
    return found if told.user is None else found | {"user": told.user}


def _error(turn: TurnSeen) -> dict[str, Any]:
    """Why a turn has failed, with one of the protocol's codes."""
    error = turn.error
    if error is None:
        return {"code": "server_error", "message": f"the turn was {turn.status}"}
    return {"code": _CODES.get(error.code, "server_error"), "message": error.detail or error.code}


def usage_told(usage: Usage) -> dict[str, Any]:
    """The usage of a turn; what was not reported is 0."""
    given, answered_with = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "input_tokens": given,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "output_tokens": answered_with,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": given + answered_with,
    }
