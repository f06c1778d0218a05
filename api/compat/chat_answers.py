"""Answers of OpenAI's Chat Completions: a turn as a completion, or as chunks while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ...engine import Block, Content, Frame, Message, TextBlock, ToolUseBlock, Turn, Usage, text_of
from ..http.errors import Problem
from .common import TurnTold, failed_in_stream, seconds_of, turn_told
from .frame_data import Delta, Started, read_delta, read_start

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "content_filter": "content_filter",
}
"""Why an answer ended; any other reason is told as ``stop``, and stands on record."""

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


class _VendorForm(msgspec.Struct, frozen=True):
    """OpenAI's form of a text block: a refusal, or annotations."""

    type: str = ""
    annotations: tuple[Any, ...] = ()


_NOTHING = _VendorForm()


def completion(turn: Turn) -> dict[str, Any]:
    """A completed turn as ``chat.completion``."""
    assert turn.message is not None, "it was completed"
    choice = {
        "index": 0,
        "message": answer(turn.message.blocks()),
        "logprobs": None,
        "finish_reason": finish_reason(turn.stop_reason, turn.vendor_stop_reason),
    }
    found = {
        "id": completion_id(turn.id.hex),
        "object": "chat.completion",
        "created": seconds_of(turn.started_at),
        "model": turn.model,
        "choices": [choice],
        "service_tier": "default",
    }
    usage = usage_told(turn.usage)
    return found if usage is None else found | {"usage": usage}


def completion_id(turn_hex: str) -> str:
    """The name of a turn in this protocol."""
    return f"chatcmpl-{turn_hex}"


def answer(blocks: Content) -> dict[str, Any]:
    """An assistant's message, with the refusal and the annotations that a vendor of this protocol has given."""
    calls = [_call(block) for block in blocks if isinstance(block, ToolUseBlock)]
    refused = [block for block in blocks if _vendors(block).type == "refusal"]
    text, refusal = text_of(tuple(block for block in blocks if block not in refused)), text_of(tuple(refused))
    said: dict[str, Any] = {
        "role": "assistant",
        "content": text if text or not (calls or refusal) else None,
        "refusal": refusal or None,
        "annotations": [each for block in blocks for each in _vendors(block).annotations],
    }
    return said | ({"tool_calls": calls} if calls else {})


def _vendors(block: Block) -> _VendorForm:
    """What a vendor says beside a text, as far as this protocol has words for it."""
    if not isinstance(block, TextBlock) or block.vendor is msgspec.UNSET:
        return _NOTHING
    try:
        return msgspec.json.decode(block.vendor, type=_VendorForm)
    except msgspec.MsgspecError:
        return _NOTHING


def _call(block: ToolUseBlock) -> dict[str, Any]:
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments(block)}}


def arguments(block: ToolUseBlock) -> str:
    """The arguments of a call as the model wrote them."""
    return block.input_text or _encode(block.input or {}).decode()


def finish_reason(stop_reason: str | None, vendors: str | None) -> str:
    """Why an answer ended. A refusal that the vendor ended with its own ``stop`` is told so: its message says it."""
    return "stop" if vendors == "stop" and stop_reason == "refusal" else FINISH.get(stop_reason or "", "stop")


def usage_told(usage: Usage) -> dict[str, Any] | None:
    """The usage of a turn; None where the vendor reported none."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens or 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens or 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


class Chunks:
    """Encodes the frames of one turn as the chunks of a completion. ``error`` gives the JSON of an error.

    A client is sent no ids of events: it could not resume with them, and OpenAI's own library raises for some.
    """

    def __init__(self, error: Callable[[Problem], bytes], *, include_usage: bool) -> None:
        self._error = error
        self._include_usage = include_usage
        self._calls: dict[int, int] = {}
        self._bare: int | None = None
        self._head, self._tail = b"", b""

    def encode(self, frame: Frame) -> bytes:
        """The chunks of a frame of the record."""
        match frame.type:
            case "delta":
                return self._delta(read_delta(frame.data))
            case "block.started":
                return self._block(read_start(frame.data))
            case "message.appended":
                return self._completed() + self._annotations(frame)
            case "turn.started":
                return self._begin(turn_told(frame))
            case "turn.completed":
                return self._end(turn_told(frame))
            case "turn.failed" | "turn.cancelled" | "turn.interrupted":
                return self.failed(failed_in_stream(turn_told(frame)))
        return b""

    def failed(self, problem: Problem) -> bytes:
        """An error in the stream, after which there is no more."""
        return b"data: %b\n\n" % self._error(problem)

    def _begin(self, turn: TurnTold) -> bytes:
        head = {
            "id": completion_id(turn.id.hex),
            "object": "chat.completion.chunk",
            "created": turn.created,
            "model": turn.model,
            "service_tier": "default",
        }
        self._head = b"data: %b" % _encode(head)[:-1]
        self._tail = b',"usage":null}\n\n' if self._include_usage else b"}\n\n"
        return self._chunk(_encode({"role": "assistant", "content": "", "refusal": None}))

    def _block(self, block: Started) -> bytes:
        before = self._completed()
        if block.type != "tool_use":
            return before
        index = self._bare = self._calls[block.block] = len(self._calls)
        function = {"name": block.name, "arguments": ""}
        call = {"index": index, "id": block.id, "type": "function", "function": function}
        return before + self._chunk(_encode({"tool_calls": [call]}))

    def _completed(self) -> bytes:
        """The arguments of a call for which a model has written none: clients parse what they were sent."""
        index, self._bare = self._bare, None
        return b"" if index is None else self._arguments(index, "{}")

    def _arguments(self, index: int, text: str) -> bytes:
        call = b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}'
        return self._chunk(call % (index, _encode(text)))

    def _delta(self, delta: Delta) -> bytes:
        if delta.type == "text":
            return self._chunk(b'{"content":%b}' % _encode(delta.text))
        if delta.type != "tool_input" or not delta.text:
            return b""
        self._bare = None
        return self._arguments(self._calls[delta.block], delta.text)

    def _annotations(self, frame: Frame) -> bytes:
        """The annotations of an answer: they are known when it is whole."""
        if b'"annotations"' not in frame.data:
            return b""
        blocks = msgspec.json.decode(frame.data, type=Message).blocks()
        found = [each for block in blocks for each in _vendors(block).annotations]
        return self._chunk(_encode({"annotations": found})) if found else b""

    def _end(self, turn: TurnTold) -> bytes:
        last = self._chunk(b"{}", _encode(finish_reason(turn.stop_reason, turn.vendor_stop_reason)))
        usage = usage_told(turn.usage) if self._include_usage else None
        if usage is None:
            return last + DONE
        return b'%b%b,"choices":[],"usage":%b}\n\n%b' % (last, self._head, _encode(usage), DONE)

    def _chunk(self, delta: bytes, finish: bytes = b"null") -> bytes:
        choice = b',"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}]' % (delta, finish)
        return self._head + choice + self._tail
