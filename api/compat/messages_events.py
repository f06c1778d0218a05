"""Streams of Anthropic's Messages: the frames of a turn as the events of a message while it runs.

A thought's signature is due at the thought's end, and a block that no frame shows before the block that follows it
(``vendor_frames``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from ...engine import Frame, Usage
from ..http.errors import Problem
from .common import TurnTold, failed_in_stream, turn_told
from .frame_data import Delta, Started, read_delta, read_start
from .messages_answers import (
    call_told,
    citations,
    message_id,
    other_told,
    signature,
    stop_reason,
    stop_sequence,
    usage_told,
    whole_usage,
)
from .vendor_frames import forms_in, read_forms

PING = b'event: ping\ndata: {"type":"ping"}\n\n'

_encode = msgspec.json.Encoder().encode


class _Appended(msgspec.Struct, frozen=True):
    """The data of a ``message.appended`` frame."""

    id: UUID
    role: str
    content: tuple[msgspec.Raw, ...]


_read_appended = msgspec.json.Decoder(_Appended).decode


class Events:
    """Encodes the frames of one turn as the events of a message. ``model``: its name in the request; ``stops``: the
    request's stop sequences; ``input_tokens``: an estimate; ``error`` gives the JSON of an error.

    Usage is known at the end, and told there whole. The first event has the estimate, for clients that read no other.
    """

    def __init__(self, model: str, stops: Sequence[str], input_tokens: int, error: Callable[[Problem], bytes]) -> None:
        self._model = model
        self._stops = stops
        self._input_tokens = input_tokens
        self._error = error
        self._forms: Mapping[int, msgspec.Raw] = {}
        self._begun = False
        self._next = 0
        self._indices: dict[int, int] = {}
        self._open: Started | None = None
        self._index = 0

    def encode(self, frame: Frame) -> bytes:
        """The events of a frame."""
        match frame.type:
            case "delta":
                return self._delta(read_delta(frame.data))
            case "block.started":
                return self._start(read_start(frame.data))
            case "block.vendor":
                self._forms = read_forms(frame.data)
            case "message.appended":
                return self._appended(_read_appended(frame.data))
            case "turn.completed":
                return self._end(turn_told(frame))
            case "turn.failed" | "turn.cancelled" | "turn.interrupted":
                return self.failed(failed_in_stream(turn_told(frame)))
        return b""

    def failed(self, problem: Problem) -> bytes:
        """An error in the stream, after which there is no more."""
        return b"event: error\ndata: %b\n\n" % self._error(problem)

    def _begin(self, message: UUID) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        head: dict[str, Any] = {
            "id": message_id(message.hex),
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
            "context_management": None,
            "usage": whole_usage(Usage(input_tokens=self._input_tokens)),
        }
        return _event("message_start", message=head)

    def _start(self, block: Started) -> bytes:
        before = self._begin(block.message_id) + self._close() + self._hidden(block.block)
        self._open, self._index = block, len(self._indices)
        self._indices[block.block] = self._index
        self._next = block.block + 1
        return before + self._started(_opening(block))

    def _started(self, block: object) -> bytes:
        return _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: Delta) -> bytes:
        index, text = self._indices[delta.block], _encode(delta.text)
        kind, field = _DELTAS[delta.type]
        return _DELTA % (index, kind, field, text)

    def _close(self) -> bytes:
        """The end of the open block, with what its vendor has to say of it."""
        if self._open is None:
            return b""
        block, self._open = self._open, None
        form = self._forms.get(block.block)
        more = b""
        if block.type == "thinking":
            more = self._last({"type": "signature_delta", "signature": signature(form and bytes(form))})
        elif block.type == "text":
            found = citations(form and bytes(form))
            more = b"".join(self._last({"type": "citations_delta", "citation": citation}) for citation in found)
        return more + self._stopped()

    def _last(self, delta: object) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _stopped(self) -> bytes:
        return _event("content_block_stop", index=self._index)

    def _hidden(self, up_to: int) -> bytes:
        """The blocks before a number that came whole, and were in no frame."""
        events = []
        for number in range(self._next, up_to):
            form = self._forms.get(number)
            told = None if form is None else other_told(bytes(form))
            if told is not None:
                self._index = len(self._indices)
                self._indices[number] = self._index
                events.append(self._started(told) + self._stopped())
        self._next = max(self._next, up_to)
        return b"".join(events)

    def _appended(self, message: _Appended) -> bytes:
        """The end of the answer's blocks: all of them are known now."""
        if message.role != "assistant":
            return b""
        self._forms = forms_in(message.content)
        return self._begin(message.id) + self._close() + self._hidden(len(message.content))

    def _end(self, turn: TurnTold) -> bytes:
        reason = stop_reason(turn.stop_reason, turn.vendor_stop_reason)
        delta = {
            "stop_reason": reason,
            "stop_sequence": stop_sequence(reason, self._stops, turn.stop_sequence),
            "stop_details": None,
            "container": None,
        }
        usage = usage_told(turn.usage)
        return _event("message_delta", delta=delta, usage=usage, context_management=None) + _event("message_stop")


_DELTAS = {
    "text": (b"text_delta", b"text"),
    "thinking": (b"thinking_delta", b"thinking"),
    "tool_input": (b"input_json_delta", b"partial_json"),
}
_DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":%b}}\n\n'
)


def _event(kind: str, **fields: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind} | fields))


def _opening(block: Started) -> dict[str, Any]:
    if block.type == "tool_use":
        return call_told(block.id, block.name, {})
    if block.type == "thinking":
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": "", "citations": None}
