"""The answer of OpenAI Chat Completions, from events to chunks. Synchronous and pure: it never waits.

Tolerant where servers of the protocol differ (fields that are null, missing or unknown; thinking as
``reasoning_content`` or ``reasoning``; an end without usage), strict where a mistake would go on record: broken JSON,
names that are no names, a stream that just stops.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import msgspec

from engine.errors import ProviderMalformed, ProviderTruncated
from engine.events import Usage
from engine.providers.base import BlockStarted, BlockStopped, BlockType, Chunk, Delta, Ended, UsageReported
from engine.providers.failures import UPSTREAM_BYTES, failure_in_stream, vendor_id, vendor_word
from engine.providers.sse import SseEvent
from engine.providers.surrogates import Halves, read_with_halves

MAX_NAME_CHARS = 128

_DONE = "[DONE]"
_NAME = re.compile(rf"[A-Za-z0-9_.:-]{{1,{MAX_NAME_CHARS}}}")
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_NOTHING = msgspec.Raw()


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None  # the form before tools


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    id: str | int | None = None
    object: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING


Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _InputDetails(msgspec.Struct):
    cached_tokens: Tokens | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: Tokens | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


_read_event = msgspec.json.Decoder(_Event).decode
_read_usage = msgspec.json.Decoder(_Usage).decode


class _Open(msgspec.Struct):
    """A block under way."""

    number: int
    id: str | None
    halves: Halves


class ChatStream:
    """One answer. Feed it every event; it is over when ``ended``, and broken off if the events end before that."""

    def __init__(self, provider: str) -> None:
        self.ended = False
        self.request_id: str | None = None
        self._provider = provider
        self._response_id: str | None = None
        self._blocks = 0
        self._speech: _Open | None = None  # text or thinking: one at a time
        self._speech_type: BlockType = "text"
        self._calls: dict[int, _Open] = {}  # by index: fragments of parallel calls may alternate
        self._all_calls: list[_Open] = []
        self._refused = False
        self._finish: str | None = None

    def feed(self, event: SseEvent) -> list[Chunk]:
        """The chunks of one event. Raises ProviderMalformed, or what an error in the stream means."""
        if event.data.strip() == _DONE:
            return self._end()
        read = self._read(event.data)
        if event.event == "error" or read.object == "error" or _is_given(read.error):
            raise failure_in_stream(self._provider, event.data.encode(errors="replace"), request_id=self.request_id)
        if self._response_id is None:
            self._response_id = vendor_id(read.id)
        chunks: list[Chunk] = []
        for choice in read.choices or ():
            if choice.index == 0:
                self._choose(choice, chunks)
        if _is_given(read.usage):
            chunks.append(_usage(bytes(read.usage)))
        return chunks

    def broken_off(self) -> ProviderTruncated:
        """What it means that no more events come."""
        return ProviderTruncated(
            f"the stream of {self._provider} ended without its end marker", request_id=self.request_id
        )

    def _malformed(self, what: str) -> ProviderMalformed:
        return ProviderMalformed(f"{self._provider} sent {what}", request_id=self.request_id)

    def _read(self, data: str) -> _Event:
        try:
            return _read_event(data)
        except (msgspec.ValidationError, RecursionError):
            raise self._malformed("an event of another form") from None
        except msgspec.DecodeError:
            pass
        try:
            read = read_with_halves(data)
            return msgspec.convert(_with_raw(read, "usage", "error"), _Event)
        except msgspec.ValidationError:
            raise self._malformed("an event of another form") from None
        except ValueError:
            raise self._malformed("an event that is not JSON") from None

    def _choose(self, choice: _Choice, chunks: list[Chunk]) -> None:
        delta = choice.delta
        if delta is not None:
            if thinking := delta.reasoning_content or delta.reasoning:  # some send the same in both
                self._say("thinking", thinking, chunks)
            if delta.content:
                self._say("text", delta.content, chunks)
            if delta.refusal:
                self._refused = True
                self._say("text", delta.refusal, chunks)
            for call in delta.tool_calls or ():
                self._call(call, chunks)
            if delta.function_call is not None:
                self._call(_ToolCall(function=delta.function_call), chunks)
        if choice.finish_reason:
            self._finish = vendor_word(choice.finish_reason)
            if self._finish is None:
                raise self._malformed("a finish reason that is no word")

    def _say(self, block_type: BlockType, text: str, chunks: list[Chunk]) -> None:
        speech = self._speech
        if speech is None or self._speech_type != block_type:
            self._stop_speech(chunks)
            speech = self._speech = self._start(None)
            self._speech_type = block_type
            chunks.append(BlockStarted(speech.number, block_type))
        _extend(speech, text, chunks)

    def _call(self, fragment: _ToolCall, chunks: list[Chunk]) -> None:
        index = fragment.index or 0
        call = self._calls.get(index)
        function = fragment.function or _Function()
        # Some servers give every call the index 0: there a new id is what tells them apart.
        if call is None or (fragment.id and function.name and fragment.id != call.id):
            call = self._calls[index] = self._start_call(fragment.id, function.name, chunks)
        if function.arguments:
            _extend(call, function.arguments, chunks)

    def _start_call(self, given: str | None, name: str | None, chunks: list[Chunk]) -> _Open:
        call_id = given or f"call_{len(self._all_calls)}"
        if not (_NAME.fullmatch(call_id) and _NAME.fullmatch(name or "")):
            raise self._malformed("a tool call whose id or name is none")
        if any(call_id == other.id for other in self._all_calls):
            raise self._malformed("two tool calls of one id")
        self._stop_speech(chunks)
        call = self._start(call_id)
        self._all_calls.append(call)
        chunks.append(BlockStarted(call.number, "tool_use", call_id, name))
        return call

    def _start(self, call_id: str | None) -> _Open:
        self._blocks += 1
        return _Open(self._blocks - 1, call_id, Halves())

    def _stop_speech(self, chunks: list[Chunk]) -> None:
        if self._speech is not None:
            _stop(self._speech, chunks)
            self._speech = None

    def _end(self) -> list[Chunk]:
        if self._finish is None:
            raise self.broken_off()
        chunks: list[Chunk] = []
        still_open = [*self._all_calls, *([self._speech] if self._speech else [])]
        for block in sorted(still_open, key=lambda block: block.number):
            _stop(block, chunks)
        self.ended = True
        chunks.append(Ended(self._stop_reason(self._finish), self._finish, self._response_id, self.request_id))
        return chunks

    def _stop_reason(self, finish: str) -> str:
        """What the blocks show goes before the vendor's word: a turn waits for results if there are calls, not else."""
        reason = _STOP_REASONS.get(finish, finish)
        if reason in {"end_turn", "tool_use"}:
            if self._all_calls:
                return "tool_use"
            return "refusal" if self._refused else "end_turn"
        return reason


def _extend(block: _Open, text: str, chunks: list[Chunk]) -> None:
    whole = block.halves.feed(text)
    if whole:
        chunks.append(Delta(block.number, whole))


def _stop(block: _Open, chunks: list[Chunk]) -> None:
    left = block.halves.close()
    if left:
        chunks.append(Delta(block.number, left))
    chunks.append(BlockStopped(block.number))


def _is_given(raw: msgspec.Raw) -> bool:
    return raw is not _NOTHING and bytes(raw) != b"null"


def _with_raw(read: Any, *names: str) -> Any:
    """Encode again what the typed form keeps as bytes."""
    if not isinstance(read, dict):
        return read
    return read | {name: msgspec.Raw(json.dumps(read[name]).encode()) for name in names if name in read}


def _usage(raw: bytes) -> UsageReported:
    """Figures that are none count as not reported: an answer does not fail for its bill."""
    kept = raw if len(raw) <= UPSTREAM_BYTES else b"{}"
    try:
        read = _read_usage(raw)
    except (msgspec.MsgspecError, RecursionError):
        return UsageReported(Usage(), kept)
    inputs = read.prompt_tokens_details or _InputDetails()
    outputs = read.completion_tokens_details or _OutputDetails()
    usage = Usage(
        input_tokens=read.prompt_tokens,
        cache_read_tokens=inputs.cached_tokens,
        output_tokens=read.completion_tokens,
        reasoning_tokens=outputs.reasoning_tokens,
    )
    return UsageReported(usage, kept)
