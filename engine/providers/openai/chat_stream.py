"""The answer of OpenAI Chat Completions, from events to chunks. Synchronous and pure: it never waits.

It tolerates the differences of servers (fields that are null, missing or unknown; thinking as ``reasoning_content`` or
``reasoning``; calls without an index or an id; an end without usage), and is strict about mistakes that would go on
record: broken JSON, invalid names, a stream that just stops.

A refusal is a text with the vendor's form of it beside the common one, because it goes back as a refusal. Annotations
are kept beside the text, though the protocol does not take them back. Audio and log probabilities are never asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from ...events.usage import Usage
from ..base import BlockStarted, BlockStopped, BlockType, Chunk, Delta, Ended, UsageReported, VendorBlock
from ..wire.failures import UPSTREAM_BYTES, vendor_id, vendor_word
from ..wire.sse import SseEvent
from ..wire.surrogates import Halves, read_with_halves
from ..wire.vendor import AnswerStream

MAX_NAME_CHARS = 128
DONE = "[DONE]"

_NAME = re.compile(rf"[A-Za-z0-9_.:-]{{1,{MAX_NAME_CHARS}}}")
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}

Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None  # the form before tools


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    id: str | int | None = None
    object: str | None = None
    type: str | None = None
    usage: Any = None
    error: Any = None


class _WithUsage(msgspec.Struct, gc=False):
    usage: msgspec.Raw


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: Tokens | None = None
    cache_write_tokens: Tokens | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Tokens | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


_encode = msgspec.json.Encoder().encode
_read_event = msgspec.json.Decoder(_Event).decode
_read_raw_usage = msgspec.json.Decoder(_WithUsage).decode
_read_usage = msgspec.json.Decoder(_Usage).decode


class OpenBlock:
    """An open block. ``said``: it has a delta. ``arguments`` are a call's, as far as they have come, ``refusal`` the
    text of a refusal.
    """

    __slots__ = ("arguments", "halves", "id", "number", "refusal", "said", "type")

    def __init__(self, number: int, block_type: BlockType, call_id: str | None) -> None:
        self.number = number
        self.type = block_type
        self.id = call_id
        self.said = False
        self.arguments: list[str] = []
        self.refusal: list[str] | None = None
        self.halves = Halves()


class OpenAIStream(AnswerStream):
    """An answer of one of OpenAI's protocols: its blocks are numbered, made valid, and all stopped."""

    def __init__(self, provider: str) -> None:
        super().__init__(provider)
        self._begun = 0
        self._under_way: dict[int, OpenBlock] = {}
        self._calls: list[OpenBlock] = []
        self._refused = False
        self._halved = False  # whether the answer has had half a character: only then must more be looked for

    def read_again(self, data: str) -> Any:
        """Read an event that the fast decoder refused for its syntax: it may hold half a character."""
        self._halved = True
        try:
            return read_with_halves(data)
        except ValueError:
            raise self.malformed("an event that is not JSON") from None

    def start(self, block_type: BlockType, chunks: list[Chunk]) -> OpenBlock:
        return self._start(block_type, None, None, chunks)

    def start_call(self, call_id: str, name: str, chunks: list[Chunk]) -> OpenBlock:
        if not (_NAME.fullmatch(call_id) and _NAME.fullmatch(name)):
            raise self.malformed("a tool call with an invalid id or name")
        if any(call_id == other.id for other in self._calls):
            raise self.malformed("two tool calls with the same id")
        call = self._start("tool_use", call_id, name, chunks)
        self._calls.append(call)
        return call

    def next_number(self) -> int:
        """The number of a block that comes whole."""
        self._begun += 1
        return self._begun - 1

    def extend(self, block: OpenBlock, text: str, chunks: list[Chunk]) -> None:
        block.said = True
        if self._halved:
            text = block.halves.feed(text)
        if block.refusal is not None:
            block.refusal.append(text)
        if text:
            chunks.append(Delta(block.number, text))

    def stop(self, block: OpenBlock, chunks: list[Chunk]) -> None:
        """Stop a block; it may have been stopped already."""
        if self._under_way.pop(block.number, None) is None:
            return
        left = block.halves.close()
        if left:
            chunks.append(Delta(block.number, left))
        if block.refusal is not None:
            form = {"type": "refusal", "refusal": "".join([*block.refusal, left])}
            chunks.append(VendorBlock(block.number, "refusal", _encode(form)))
        chunks.append(BlockStopped(block.number))

    def end(self, stop_reason: str, vendor_stop_reason: str, chunks: list[Chunk]) -> list[Chunk]:
        """End the answer. The blocks count more than the vendor's word: a turn waits for results if there are calls,
        and only then.
        """
        for block in [*self._under_way.values()]:
            self.stop(block, chunks)
        if stop_reason in {"end_turn", "tool_use"}:
            stop_reason = "tool_use" if self._calls else "refusal" if self._refused else "end_turn"
        self.ended = True
        chunks.append(Ended(stop_reason, vendor_stop_reason, self._response_id, self.request_id))
        return chunks

    def _start(self, block_type: BlockType, call_id: str | None, name: str | None, chunks: list[Chunk]) -> OpenBlock:
        block = OpenBlock(self.next_number(), block_type, call_id)
        self._under_way[block.number] = block
        chunks.append(BlockStarted(block.number, block_type, call_id, name))
        return block


class ChatStream(OpenAIStream):
    """One answer of Chat Completions."""

    def __init__(self, provider: str) -> None:
        super().__init__(provider)
        self._speech: OpenBlock | None = None  # text or thinking: one at a time
        self._by_index: dict[int, OpenBlock] = {}  # fragments of parallel calls may alternate
        self._finish: str | None = None
        self._annotations: list[Any] = []

    def feed(self, event: SseEvent) -> list[Chunk]:
        try:
            read = _read_event(event.data)
        except (msgspec.MsgspecError, RecursionError) as error:
            if event.data.strip() == DONE:
                return self._end()
            read = self._read_again(event.data, error)
        if read.error is not None or event.event == "error" or (not read.choices and _is_error(read)):
            raise self.failed(event.data.encode(errors="replace"))
        if self._response_id is None:
            self._response_id = vendor_id(read.id)
        chunks: list[Chunk] = []
        for choice in read.choices or ():
            if choice.index == 0:
                self._choose(choice, chunks)
        if read.usage is not None:
            chunks.append(usage_reported(_raw_usage(event.data, read.usage), _chat_usage))
        return chunks

    def _read_again(self, data: str, error: Exception) -> _Event:
        try:
            if isinstance(error, msgspec.DecodeError) and not isinstance(error, msgspec.ValidationError):
                return msgspec.convert(self.read_again(data), _Event)
        except (msgspec.ValidationError, UnicodeEncodeError):
            pass
        raise self.malformed("a malformed event") from None

    def _choose(self, choice: _Choice, chunks: list[Chunk]) -> None:
        delta = choice.delta
        if delta is not None:
            if thinking := delta.reasoning_content or delta.reasoning:  # some send the same in both
                self._say("thinking", thinking, chunks)
            if delta.content:
                speech = self._speech
                if speech is not None and speech.type == "text" and speech.refusal is None and not self._halved:
                    chunks.append(Delta(speech.number, delta.content))  # nearly every event, so two calls are saved
                else:
                    self._say("text", delta.content, chunks)
            self._note_more(delta, chunks)
            if delta.tool_calls:
                for fragment in delta.tool_calls:
                    self._call(fragment, chunks)
            if delta.function_call is not None:
                self._call(_ToolCall(index=0, function=delta.function_call), chunks)
        if choice.finish_reason:
            self._note_finish(choice.finish_reason)

    def _note_more(self, delta: _Delta, chunks: list[Chunk]) -> None:
        """A refusal, and annotations."""
        if delta.refusal:
            self._refused = True
            self._say("text", delta.refusal, chunks, refuses=True)
        if delta.annotations:
            self._annotations += delta.annotations

    def _note_finish(self, reason: str) -> None:
        self._finish = vendor_word(reason)
        if self._finish is None:
            raise self.malformed("an invalid finish reason")

    def _say(self, block_type: BlockType, text: str, chunks: list[Chunk], *, refuses: bool = False) -> None:
        speech = self._speech
        if speech is None or speech.type != block_type or (speech.refusal is not None) != refuses:
            self._stop_speech(chunks)
            speech = self._speech = self.start(block_type, chunks)
            speech.refusal = [] if refuses else None
        self.extend(speech, text, chunks)

    def _call(self, fragment: _ToolCall, chunks: list[Chunk]) -> None:
        function = fragment.function or _Function()
        call = self._call_of(fragment)
        if call is None or _is_another(call, fragment.id, function.name):
            self._stop_speech(chunks)
            call = self.start_call(fragment.id or f"call_{len(self._calls)}", function.name or "", chunks)
        self._by_index[self._calls.index(call) if fragment.index is None else fragment.index] = call
        if function.arguments:
            call.arguments.append(function.arguments)
            self.extend(call, function.arguments, chunks)

    def _call_of(self, fragment: _ToolCall) -> OpenBlock | None:
        """The open call that a fragment belongs to: by its index, else by its id, else the last one; None if it begins
        a call.
        """
        if fragment.index is not None:
            return self._by_index.get(fragment.index)
        if fragment.id:
            return next((call for call in self._calls if call.id == fragment.id), None)
        return self._calls[-1] if self._calls else None

    def _stop_speech(self, chunks: list[Chunk]) -> None:
        if self._speech is not None:
            self.stop(self._speech, chunks)
            self._speech = None

    def _end(self) -> list[Chunk]:
        if self._finish is None:
            raise self.broken_off()
        chunks: list[Chunk] = []
        if self._annotations:
            text = self._speech
            beside = text is not None and text.type == "text" and text.refusal is None
            number = text.number if text is not None and beside else self.next_number()
            form = {"type": "annotations", "annotations": self._annotations}
            chunks.append(VendorBlock(number, "annotations", mended(form)))
        return self.end(_STOP_REASONS.get(self._finish, self._finish), self._finish, chunks)


def _is_error(read: _Event) -> bool:
    return "error" in {read.object, read.type}


def _is_another(call: OpenBlock, call_id: str | None, name: str | None) -> bool:
    """True if a fragment that names a function begins a new call, although its place is taken.

    Some servers give every call the index 0, or none: there a new call is known by its id, or, without ids, by the
    arguments so far, which are complete.
    """
    if not name:
        return False
    if call_id:
        return call_id != call.id
    # Looked at first: joining the arguments for each fragment would take quadratic time.
    if not (call.arguments and call.arguments[-1].rstrip().endswith("}")):
        return False
    try:
        msgspec.json.decode("".join(call.arguments), type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        return False
    return True


def usage_reported(raw: bytes, read: Callable[[bytes], Usage]) -> UsageReported:
    """The usage from the vendor's object. Invalid figures count as not reported: an answer does not fail because of its
    usage.
    """
    kept = raw if len(raw) <= UPSTREAM_BYTES else b"{}"
    try:
        return UsageReported(read(raw), kept)
    except (msgspec.MsgspecError, RecursionError):
        return UsageReported(Usage(), kept)


def _chat_usage(raw: bytes) -> Usage:
    read = _read_usage(raw)
    inputs = read.prompt_tokens_details or _InputDetails()
    outputs = read.completion_tokens_details or _OutputDetails()
    return Usage(
        input_tokens=read.prompt_tokens,
        cache_read_tokens=inputs.cached_tokens,
        cache_write_tokens=inputs.cache_write_tokens,
        output_tokens=read.completion_tokens,
        reasoning_tokens=outputs.reasoning_tokens,
    )


def _raw_usage(data: str, read: Any) -> bytes:
    """The usage object as it came; encoded again if the event holds half a character."""
    try:
        return bytes(_read_raw_usage(data).usage)
    except msgspec.MsgspecError:
        return mended(read)


def mended(read: Any) -> bytes:
    """JSON of a value with half characters: neighbouring halves are joined, others become U+FFFD."""
    text = json.dumps(read, ensure_ascii=False)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
