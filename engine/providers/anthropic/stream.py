"""The answer of Anthropic's Messages API, from events to chunks. Synchronous and pure: it never waits.

A block of an unknown type is kept as it came, whole, when it stops; only the input of a tool that ran at the vendor
comes in pieces, and is inserted. A text with citations is kept in the vendor's form, beside the common one.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from ...events.usage import Usage
from ..base import BlockStarted, BlockStopped, Chunk, Delta, Ended, UsageReported, VendorBlock
from ..wire.failures import UPSTREAM_BYTES, vendor_id, vendor_word
from ..wire.sse import EVENT_LIMIT_BYTES, SseEvent
from ..wire.surrogates import Halves
from ..wire.vendor import AnswerStream
from . import events as wire

MAX_NAME_CHARS = 128
MAX_SEQUENCE_CHARS = 1024
"""The longest stop sequence that is recorded as the one at which an answer stopped."""

_NAME = re.compile(rf"[A-Za-z0-9_.:-]{{1,{MAX_NAME_CHARS}}}")
_STOP_REASONS = {"model_context_window_exceeded": "max_tokens"}
_CALL_FIELDS = frozenset({"type", "id", "name", "input"})

Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _OutputDetails(msgspec.Struct):
    thinking_tokens: Tokens | None = None


class _Usage(msgspec.Struct):
    input_tokens: Tokens | None = None
    cache_creation_input_tokens: Tokens | None = None
    cache_read_input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    output_tokens_details: _OutputDetails | None = None


_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_object = msgspec.json.Decoder(dict[str, Any]).decode
_read_usage = msgspec.json.Decoder(_Usage).decode
_encode = msgspec.json.Encoder().encode


class _Open(msgspec.Struct):
    """An open block. ``raw`` is its beginning as it came, ``pieces`` its text or its input since then; ``citations``:
    those of a text.
    """

    number: int
    start: wire.BlockHead
    raw: bytes
    halves: Halves
    pieces: list[str]
    signature: str = ""
    stopped: bool = False
    citations: list[bytes] = []


class MessageStream(AnswerStream):
    """One answer of the Messages API."""

    def __init__(self, provider: str) -> None:
        super().__init__(provider)
        self._blocks: dict[int, _Open] = {}  # by the vendor's index
        self._calls: set[str] = set()
        self._usage: dict[str, msgspec.Raw] = {}
        self._first_usage: UsageReported | None = None
        self._kept_back = 0  # characters of blocks that are passed on only when they stop
        self._stop: str | None = None
        self._stop_sequence: str | None = None

    def feed(self, event: SseEvent) -> list[Chunk]:
        chunks: list[Chunk] = []
        match self._read(event):
            case wire.ContentBlockDelta(index, piece):
                self._extend(self._under_way(index), piece, chunks)
            case wire.ContentBlockStart(index, raw):
                self._begin(index, bytes(raw), chunks)
            case wire.ContentBlockStop(index):
                self._finish(self._under_way(index), chunks)
            case wire.MessageStart(message):
                self._response_id = vendor_id(message.id)
                self._first_usage = self._count(message.usage, final=False)
            case wire.MessageDelta(end, usage):
                self._note_stop(end)
                if usage_now := self._count(usage, final=True):
                    chunks.append(usage_now)
            case wire.MessageStop():
                self._end(chunks)
            case wire.Error():
                raise self.failed(event.data.encode(errors="replace"))
        return chunks

    def _read(self, event: SseEvent) -> wire.StreamEvent | None:
        try:
            return wire.read_event(event)
        except ValueError:
            raise self.malformed("a malformed event") from None

    # --- blocks -------------------------------------------------------------------------------------------------------

    def _under_way(self, index: int) -> _Open:
        block = self._blocks.get(index)
        if block is None or block.stopped:
            raise self.malformed("more of a block that is not open")
        return block

    def _begin(self, index: int, raw: bytes, chunks: list[Chunk]) -> None:
        if index in self._blocks:
            raise self.malformed("the same block twice")
        try:
            start, raw = wire.read_block(raw)
        except ValueError:
            raise self.malformed("a malformed block") from None
        if not 0 < len(start.type) <= MAX_NAME_CHARS:
            raise self.malformed("a block with an invalid type")
        if self._first_usage is not None:
            # Only now has the answer begun: until here an attempt that fails can be retried.
            chunks.append(self._first_usage)
            self._first_usage = None
        if type(start) is wire.BlockHead:
            self._keep_back(raw)
        block = self._blocks[index] = _Open(len(self._blocks), start, raw, Halves(), [])
        match start:
            case wire.TextHead():
                chunks.append(BlockStarted(block.number, "text"))
                _say(block, start.text or "", chunks)
            case wire.ThinkingHead():
                chunks.append(BlockStarted(block.number, "thinking"))
                _say(block, start.thinking or "", chunks)
                block.signature = start.signature or ""
            case wire.CallHead():
                self._note_call(start)
                chunks.append(BlockStarted(block.number, "tool_use", start.id, start.name))

    def _note_call(self, call: wire.CallHead) -> None:
        if not (_NAME.fullmatch(call.id) and _NAME.fullmatch(call.name)):
            raise self.malformed("a tool call with an invalid id or name")
        if call.id in self._calls:
            raise self.malformed("two tool calls with the same id")
        self._calls.add(call.id)

    def _extend(self, block: _Open, piece: wire.BlockPiece, chunks: list[Chunk]) -> None:
        match block.start, piece:
            case wire.TextHead(), wire.TextDelta(text):
                _say(block, text, chunks)
            case wire.TextHead(), wire.CitationsDelta(citation):
                self._keep_back(bytes(citation))
                block.citations.append(bytes(citation))
            case wire.ThinkingHead(), wire.ThinkingDelta(text):
                _say(block, text, chunks)
            case wire.CallHead(), wire.InputDelta(text):
                _say(block, text, chunks)
            case wire.ThinkingHead(), wire.SignatureDelta(signature):
                block.signature = wire.whole(signature)  # comes in one piece, and the vendor's client takes it so
            case wire.TextHead() | wire.ThinkingHead() | wire.CallHead(), _:
                raise self.malformed("a piece of one type for a block of another")
            case _, wire.InputDelta(text):
                self._keep_back(text)
                block.pieces.append(block.halves.feed(text))

    def _keep_back(self, text: str | bytes) -> None:
        self._kept_back += len(text)
        if self._kept_back > EVENT_LIMIT_BYTES:
            raise self.too_large("blocks without end")

    def _finish(self, block: _Open, chunks: list[Chunk]) -> None:
        block.stopped = True
        left = block.halves.close()
        if left:
            block.pieces.append(left)
        if type(block.start) is wire.BlockHead:
            self._kept_back -= len(block.raw) + sum(map(len, block.pieces))
            chunks.append(VendorBlock(block.number, block.start.type, _with_input(block) or block.raw))
            return
        self._kept_back -= sum(map(len, block.citations))
        if left:
            chunks.append(Delta(block.number, left))
        if isinstance(block.start, wire.CallHead) and not any(block.pieces):
            block.pieces.append(_encode(block.start.input or {}).decode())
            chunks.append(Delta(block.number, block.pieces[-1]))
        vendor = _vendor_form(block)
        if vendor is not None:
            chunks.append(VendorBlock(block.number, block.start.type, vendor))
        chunks.append(BlockStopped(block.number))

    # --- the end ------------------------------------------------------------------------------------------------------

    def _note_stop(self, end: wire.End) -> None:
        if end.stop_reason is None:
            return
        self._stop = vendor_word(end.stop_reason)
        if self._stop is None:
            raise self.malformed("an invalid stop reason")
        self._stop_sequence = _sequence(end) if self._stop == "stop_sequence" else None

    def _count(self, raw: msgspec.Raw, *, final: bool) -> UsageReported | None:
        """The usage so far. Figures are totals: a later one replaces an earlier one, and one that is left out changes
        nothing. So the report, raw too, is all that has come, as one object.
        """
        try:
            _read_object(raw)  # it goes on record, so every value must be readable
            fields = _read_fields(raw)
        except (msgspec.MsgspecError, RecursionError):
            return None  # an answer does not fail because of its usage
        self._usage |= {name: value for name, value in fields.items() if bytes(value) != b"null"}
        return _usage(_encode(self._usage), final=final) if self._usage else None

    def _end(self, chunks: list[Chunk]) -> None:
        for block in self._blocks.values():
            if not block.stopped:
                self._finish(block, chunks)
        self.ended = True
        ended = Ended(self._stop_reason(), self._stop, self._response_id, self.request_id, self._stop_sequence)
        chunks.append(ended)

    def _stop_reason(self) -> str:
        """The stop reason. The blocks count more than the vendor's word: a turn waits for results if there are calls,
        and only then.
        """
        reason = _STOP_REASONS.get(self._stop or "", self._stop or "end_turn")
        if reason in {"end_turn", "tool_use"}:
            return "tool_use" if self._calls else "end_turn"
        return reason


def _sequence(end: wire.End) -> str | None:
    """The sequence at which the answer stopped; an answer does not fail because of one that can be none."""
    given = end.stop_sequence
    return wire.whole(given) if isinstance(given, str) and 0 < len(given) <= MAX_SEQUENCE_CHARS else None


def _say(block: _Open, text: str, chunks: list[Chunk]) -> None:
    whole = block.halves.feed(text)
    if whole:
        block.pieces.append(whole)
        chunks.append(Delta(block.number, whole))


def _vendor_form(block: _Open) -> bytes | None:
    """A known block in the vendor's own form, if the common form lacks something that has to go back."""
    if isinstance(block.start, wire.TextHead):
        return _cited(block, block.start)
    if isinstance(block.start, wire.ThinkingHead) and block.signature:
        fields: dict[str, Any] = {**_read_fields(block.raw)}
        return _encode(fields | {"thinking": "".join(block.pieces), "signature": block.signature})
    if isinstance(block.start, wire.CallHead):
        given = {name for name, value in _read_fields(block.raw).items() if bytes(value) != b"null"}
        return _with_input(block) if given - _CALL_FIELDS else None
    return None


def _cited(block: _Open, start: wire.TextHead) -> bytes | None:
    """A text with its citations, each as it came; None if it has none."""
    citations = [*(start.citations or ()), *map(msgspec.Raw, block.citations)]
    if not citations:
        return None
    fields: dict[str, Any] = {**_read_fields(block.raw)}
    return _encode(fields | {"text": "".join(block.pieces), "citations": citations})


def _with_input(block: _Open) -> bytes | None:
    """A call with the input that came in pieces; None if none came, or if it is not a JSON object."""
    text = "".join(block.pieces)
    try:
        _read_object(text)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return _encode(_read_fields(block.raw) | {"input": msgspec.Raw(text.encode())})


def _usage(raw: bytes, *, final: bool) -> UsageReported:
    """The usage from the vendor's object. An invalid figure counts as not reported. The output tokens that are reported
    when an answer begins are not those of the answer: they stay in ``raw``, but the usage of a stream that breaks off
    then is unknown.
    """
    kept = raw if len(raw) <= UPSTREAM_BYTES else b"{}"
    try:
        read = _read_usage(raw)
    except (msgspec.MsgspecError, RecursionError):
        return UsageReported(Usage(), kept)
    read_tokens, write_tokens = read.cache_read_input_tokens, read.cache_creation_input_tokens
    total = None if read.input_tokens is None else read.input_tokens + (read_tokens or 0) + (write_tokens or 0)
    details = read.output_tokens_details or _OutputDetails()
    usage = Usage(
        input_tokens=total,
        cache_read_tokens=read_tokens,
        cache_write_tokens=write_tokens,
        output_tokens=read.output_tokens if final else None,
        reasoning_tokens=details.thinking_tokens if final else None,
    )
    return UsageReported(usage, kept)
