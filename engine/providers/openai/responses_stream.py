"""The answer of OpenAI Responses, from events to chunks. Synchronous and pure: it never waits.

An answer is a list of items. A message's parts and a reasoning item's text become blocks with their first text, a
function call when it begins; the item's end stops them. What a server did not send in pieces is taken from the item's
end, and an item that was never sent is taken from the answer's end. A reasoning item is kept as it came, beside its
text if it has any, since the vendor wants it back, and so is a message that says more than its text: annotations, a
refusal, a phase. An item of an unknown type is kept instead of a block.

``output_index`` identifies an item, or, if a server sends none, the item's id. Events of unknown types are ignored, and
so are sequence numbers: some servers send none, and a stream over TCP has no gaps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from ...events.usage import Usage
from ..base import Chunk, Delta, VendorBlock
from ..wire.failures import vendor_id, vendor_word
from ..wire.sse import SseEvent
from .chat_stream import DONE, OpenAIStream, OpenBlock, Tokens, mended, usage_reported

REASONING = "reasoning"
MAX_ITEMS = 10_000

_TEXT = "response.output_text.delta"
_PLAIN = frozenset({None, "text", "output_text"})
_COMMON_TYPES = frozenset({"text", "image", "tool_use", "tool_result", "thinking"})
_STOP_REASONS = {"completed": "end_turn", "max_output_tokens": "max_tokens", "content_filter": "refusal"}
_BETWEEN_PARTS = "\n\n"

_Form = TypeVar("_Form")


class _Type(msgspec.Struct, gc=False):
    type: str | None = None
    error: Any = None


class _Piece(msgspec.Struct, gc=False):
    """A piece of an item's text. ``content_index`` counts its parts, ``summary_index`` those of a summary."""

    type: str
    delta: str
    item_id: str | None = None
    output_index: int | None = None
    content_index: int = 0
    summary_index: int = 0


class _ItemEvent(msgspec.Struct, gc=False):
    item: msgspec.Raw
    output_index: int | None = None


class _Part(msgspec.Struct, gc=False):
    """A part of a message or of a reasoning item; a part without text is ignored."""

    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    annotations: Any = None
    logprobs: Any = None


class _Item(msgspec.Struct, gc=False):
    type: str
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None


class _WithContent(msgspec.Struct, gc=False):
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    phase: Any = None

    @property
    def says_more(self) -> bool:
        """True if it says more than the text of its parts."""
        return bool(self.phase) or any(
            part.annotations or part.logprobs or part.type not in _PLAIN for part in self.content or ()
        )


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class _Response(msgspec.Struct, gc=False):
    id: str | None = None
    output: list[msgspec.Raw] | None = None
    incomplete_details: _Incomplete | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


class _ResponseEvent(msgspec.Struct, gc=False):
    response: _Response


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: Tokens | None = None
    cache_write_tokens: Tokens | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Tokens | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


_read_piece = msgspec.json.Decoder(_Piece).decode
_read_usage = msgspec.json.Decoder(_Usage).decode


class _ItemState:
    """An item: its blocks by part (one for all parts of a reasoning item), and the part that spoke last."""

    __slots__ = ("blocks", "done", "item", "part")

    def __init__(self, item: _Item) -> None:
        self.item = item
        self.done = False
        self.blocks: dict[int, OpenBlock] = {}
        self.part: tuple[str, int, int] | None = None


class ResponsesStream(OpenAIStream):
    """One answer of the Responses API."""

    def __init__(self, provider: str) -> None:
        super().__init__(provider)
        self._items: dict[int | str | None, _ItemState] = {}
        self._handlers: dict[str, Callable[[str, str, list[Chunk]], None]] = {
            "response.created": self._note,
            "response.in_progress": self._note,
            "response.output_item.added": self._item_added,
            "response.output_item.done": self._item_done,
            _TEXT: self._speak,
            "response.refusal.delta": self._speak,
            "response.function_call_arguments.delta": self._argue,
            "response.reasoning_summary_text.delta": self._think,
            "response.reasoning_text.delta": self._think,
            "response.completed": self._end,
            "response.incomplete": self._end,
            "response.failed": self._end,
        }

    def feed(self, event: SseEvent) -> list[Chunk]:
        data = event.data
        if event.event == _TEXT and not self._halved:  # nearly every event, so its type is not decoded first
            delta = self._plain_text(data)
            if delta is not None:
                return [delta]
        if data.strip() == DONE:  # some servers send it after the end; alone it is not one
            raise self.broken_off()
        read = self._decode(data, _Type)
        if event.event == "error" or read.type == "error" or (read.type is None and read.error is not None):
            raise self.failed(data.encode(errors="replace"))
        chunks: list[Chunk] = []
        handler = self._handlers.get(read.type or "")
        if handler is not None:
            handler(read.type or "", data, chunks)
        return chunks

    def _plain_text(self, data: str) -> Delta | None:
        """A piece of a text that has begun; None for anything else."""
        try:
            piece = _read_piece(data)
        except (msgspec.MsgspecError, RecursionError):
            return None
        state = self._items.get(piece.item_id if piece.output_index is None else piece.output_index)
        if state is None or state.done or state.item.type != "message" or not piece.delta or piece.type != _TEXT:
            return None
        block = state.blocks.get(piece.content_index)
        return Delta(block.number, piece.delta) if block is not None else None

    def _decode(self, data: str, form: type[_Form]) -> _Form:
        try:
            return msgspec.json.decode(data, type=form)
        except (msgspec.ValidationError, RecursionError):
            raise self.malformed("a malformed event") from None
        except msgspec.DecodeError:
            pass
        read = self.read_again(data)
        try:
            # Half a character of a text may be completed by the next piece; anything else has to be whole.
            return msgspec.convert(read, form) if form is _Piece else msgspec.json.decode(mended(read), type=form)
        except (msgspec.MsgspecError, UnicodeEncodeError):
            raise self.malformed("a malformed event") from None

    # --- the answer ---------------------------------------------------------------------------------------------------

    def _note(self, _: str, data: str, __: list[Chunk]) -> None:
        self._response_id = self._response_id or vendor_id(self._decode(data, _ResponseEvent).response.id)

    def _end(self, kind: str, data: str, chunks: list[Chunk]) -> None:
        response = self._decode(data, _ResponseEvent).response
        self._response_id = self._response_id or vendor_id(response.id)
        if _is_given(response.usage):
            chunks.append(usage_reported(bytes(response.usage), _usage))
        if kind == "response.failed":
            # Not the whole event: it repeats the request.
            self.failure = self.failed(bytes(response.error) if _is_given(response.error) else b"{}")
            return
        for index, raw in enumerate(response.output or ()):
            item = self._decode(bytes(raw).decode(), _Item)
            state = self._state_at_end(index, item, chunks)
            if state is not None:
                self._finish(state, item, bytes(raw), chunks)
        reason = response.incomplete_details.reason if response.incomplete_details else None
        word = "completed" if kind == "response.completed" else vendor_word(reason) or "incomplete"
        self.end(_STOP_REASONS.get(word, word), word, chunks)

    def _state_at_end(self, index: int, item: _Item, chunks: list[Chunk]) -> _ItemState | None:
        """The state of an item in the whole answer; None if it may have come before without an index and under another
        id.
        """
        if index in self._items:
            return self._items[index]
        known = next((state for state in self._items.values() if item.id and state.item.id == item.id), None)
        is_counted = all(isinstance(key, int) for key in self._items)
        return known or (self._begin(index, item, chunks) if is_counted else None)

    # --- items --------------------------------------------------------------------------------------------------------

    def _item_added(self, _: str, data: str, chunks: list[Chunk]) -> None:
        event = self._decode(data, _ItemEvent)
        item = self._decode(bytes(event.item).decode(), _Item)
        key = item.id if event.output_index is None else event.output_index
        if key is None or key not in self._items:
            self._begin(key, item, chunks)

    def _item_done(self, _: str, data: str, chunks: list[Chunk]) -> None:
        event = self._decode(data, _ItemEvent)
        item = self._decode(bytes(event.item).decode(), _Item)
        key = item.id if event.output_index is None else event.output_index
        state = self._items.get(key) or self._begin(key, item, chunks)
        self._finish(state, item, bytes(event.item), chunks)

    def _begin(self, key: int | str | None, item: _Item, chunks: list[Chunk]) -> _ItemState:
        if len(self._items) >= MAX_ITEMS:
            raise self.too_large("items without end")
        state = self._items[key] = _ItemState(item)
        if item.type == "function_call":
            state.blocks[0] = self.start_call(item.call_id or f"call_{len(self._calls)}", item.name or "", chunks)
        return state

    def _finish(self, state: _ItemState, item: _Item, raw: bytes, chunks: list[Chunk]) -> None:
        if state.item.type != item.type:
            raise self.malformed("an item whose type changes")
        if state.done:
            return
        state.done = True
        if item.type == "message":
            self._fill_message(state, raw, chunks)
        elif item.type == REASONING:
            self._fill_reasoning(state, raw, chunks)
        elif item.type == "function_call":
            if item.arguments and not state.blocks[0].said:
                self.extend(state.blocks[0], item.arguments, chunks)
        else:
            kind = vendor_word(item.type)
            if kind is None or kind in _COMMON_TYPES:
                raise self.malformed("an item with an invalid type")
            chunks.append(VendorBlock(self.next_number(), kind, raw))
        for block in state.blocks.values():
            self.stop(block, chunks)

    def _fill_message(self, state: _ItemState, raw: bytes, chunks: list[Chunk]) -> None:
        read = self._decode(raw.decode(), _WithContent)
        for place, part in enumerate(read.content or ()):
            text = part.text or part.refusal
            self._refused = self._refused or part.type == "refusal"
            if text and place not in state.blocks:
                state.blocks[place] = self.start("text", chunks)
                self.extend(state.blocks[place], text, chunks)
        if read.says_more and state.blocks:
            chunks.append(VendorBlock(state.blocks[min(state.blocks)].number, "message", raw))

    def _fill_reasoning(self, state: _ItemState, raw: bytes, chunks: list[Chunk]) -> None:
        if not state.blocks:
            read = self._decode(raw.decode(), _WithContent)
            text = _BETWEEN_PARTS.join(part.text for part in read.summary or read.content or () if part.text)
            if text:
                state.blocks[0] = self.start("thinking", chunks)
                self.extend(state.blocks[0], text, chunks)
        block = state.blocks.get(0)
        chunks.append(VendorBlock(block.number if block else self.next_number(), REASONING, raw))

    # --- pieces of items ----------------------------------------------------------------------------------------------

    def _speak(self, kind: str, data: str, chunks: list[Chunk]) -> None:
        piece = self._decode(data, _Piece)
        state = self._state_of(piece, "message")
        self._refused = self._refused or kind != _TEXT
        if not piece.delta:
            return
        block = state.blocks.get(piece.content_index)
        if block is None:
            block = state.blocks[piece.content_index] = self.start("text", chunks)
        self.extend(block, piece.delta, chunks)

    def _think(self, kind: str, data: str, chunks: list[Chunk]) -> None:
        """Add to a thinking block. The parts of a summary become one text, with a blank line between them."""
        piece = self._decode(data, _Piece)
        state = self._state_of(piece, REASONING)
        if not piece.delta:
            return
        block = state.blocks.get(0)
        if block is None:
            block = state.blocks[0] = self.start("thinking", chunks)
        part = (kind, piece.summary_index, piece.content_index)
        between = _BETWEEN_PARTS if state.part not in {None, part} else ""
        state.part = part
        self.extend(block, between + piece.delta, chunks)

    def _argue(self, _: str, data: str, chunks: list[Chunk]) -> None:
        piece = self._decode(data, _Piece)
        state = self._state_of(piece, "function_call")
        if piece.delta:
            self.extend(state.blocks[0], piece.delta, chunks)

    def _state_of(self, piece: _Piece, item_type: str) -> _ItemState:
        """The item of a piece, which may begin with it unless it has to have a name."""
        key = piece.item_id if piece.output_index is None else piece.output_index
        state = self._items.get(key) or self._begin(key, _Item(item_type, piece.item_id), [])
        if state.item.type != item_type or state.done:
            raise self.malformed("a piece of an unknown item")
        return state


def _is_given(raw: msgspec.Raw) -> bool:
    return bytes(raw) != b"null"


def _usage(raw: bytes) -> Usage:
    read = _read_usage(raw)
    inputs = read.input_tokens_details or _InputDetails()
    outputs = read.output_tokens_details or _OutputDetails()
    return Usage(
        input_tokens=read.input_tokens,
        cache_read_tokens=inputs.cached_tokens,
        cache_write_tokens=inputs.cache_write_tokens,
        output_tokens=read.output_tokens,
        reasoning_tokens=outputs.reasoning_tokens,
    )
