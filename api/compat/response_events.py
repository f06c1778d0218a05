"""Streams of OpenAI's Responses: the frames of a turn as the events of an answer.

Events are numbered from 0. They depend on the frames alone, so an answer that is read again, at any age, has the same
events with the same numbers, and a client that comes back with the last number that it has seen gets what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import msgspec

from ...engine import Frame, Message, TextBlock
from ..http.errors import Problem, invalid
from .frame_data import Started, read_delta, read_start
from .response_forms import ENCRYPTED
from .response_items import (
    THOUGHTS,
    answer_part,
    answer_parts,
    call_item,
    hidden_item,
    items_of,
    message_item,
    said_id,
    thought_item,
)
from .response_told import Status, Told, TurnSeen, response
from .vendor_frames import forms_in, read_forms

DONE = b"data: [DONE]\n\n"
NO_PREFIX = b"no delta begins so"
NO_STATUSES: Mapping[str, str] = {}
NOT_YET = -1
"""The number before the first event's."""

_encode = msgspec.json.Encoder().encode
_read_texts = msgspec.json.Decoder(list[str]).decode
_read_turn = msgspec.json.Decoder(TurnSeen).decode


class _Appended(msgspec.Struct, frozen=True):
    """As much of the data of a ``message.appended`` frame as is asked first."""

    role: str
    content: tuple[msgspec.Raw, ...] | None


class _Typed(msgspec.Struct, frozen=True):
    type: str


_read_appended = msgspec.json.Decoder(_Appended).decode
_read_message = msgspec.json.Decoder(Message).decode
_read_type = msgspec.json.Decoder(_Typed).decode


def beyond(count: int) -> Problem:
    """The refusal of a number from which nothing can follow."""
    return invalid("starting_after", f"must be below {count}: the answer has {count} events, numbered from 0")


class _Part:
    """A block that is being said: its text so far, in JSON, and what its deltas begin with up to their number."""

    __slots__ = ("block", "head", "pieces", "started")

    def __init__(self, started: Started, head: bytes) -> None:
        self.started = started
        self.block = started.block
        self.head = head
        self.pieces: list[bytes] = []

    @property
    def text(self) -> str:
        return "".join(_read_texts(b"[%b]" % b",".join(self.pieces)))


class _Item:
    """An item that is being said: its place in the answer, its id, and its parts."""

    __slots__ = ("index", "kind", "message", "name", "parts")

    def __init__(self, kind: str, index: int, name: str, message: UUID) -> None:
        self.kind = kind
        self.index = index
        self.name = name
        self.message = message
        self.parts: list[_Part] = []


class Events:
    """Encodes the frames of one turn as the events of an answer. ``told``: its request; ``error`` gives the JSON of an
    error; ``after``: the number of the last event that the client has; ``silent``: they are only counted.

    A client is sent no ids of events: it could not resume with them, and OpenAI's own library raises for some.
    """

    def __init__(
        self, told: Told, error: Callable[[Problem], bytes], *, after: int = NOT_YET, silent: bool = False
    ) -> None:
        self._told = told
        self._error = error
        self._after = after
        self._silent = silent
        self._encrypted = ENCRYPTED in told.include
        self._next = 0
        self._index = 0
        self._forms: Mapping[int, msgspec.Raw] = {}
        self._blocks = 0
        self._said = False
        self._open: _Item | None = None
        self._calls: list[_Item] = []
        self._parts: dict[int, _Part] = {}
        self._part: _Part
        self._prefix = NO_PREFIX
        self._output: list[dict[str, Any]] = []

    def encode(self, frame: Frame) -> bytes:
        """The events of a frame."""
        match frame.type:
            case "delta":
                return self._delta(frame.data)
            case "block.started":
                return self._start(read_start(frame.data))
            case "block.vendor":
                self._forms = read_forms(frame.data)
            case "message.appended":
                return self._appended(frame)
            case "turn.started":
                return self._begin(_read_turn(frame.data))
            case "turn.completed" | "turn.failed" | "turn.cancelled" | "turn.interrupted":
                return self._end(_read_turn(frame.data))
        return b""

    def failed(self, problem: Problem) -> bytes:
        """An error in the stream, in both forms that clients know, after which there is no more."""
        body: dict[str, Any] = msgspec.json.decode(self._error(problem))
        error = body["error"]
        flat = {name: error[name] for name in ("code", "message", "param")}
        return self._event("error", **flat, error=error) + DONE

    @property
    def count(self) -> int:
        """How many events there have been."""
        return self._next

    # --- the answer ---------------------------------------------------------------------------------------------------

    def _begin(self, turn: TurnSeen) -> bytes:
        """A background response waits before it is answered: its clients are told so."""
        if not self._told.background:
            return self._state("response.created", turn, "in_progress") + self._state(
                "response.in_progress", turn, "in_progress"
            )
        return (
            self._state("response.created", turn, "queued")
            + self._state("response.queued", turn, "queued")
            + self._state("response.in_progress", turn, "in_progress")
        )

    def _state(self, kind: str, turn: TurnSeen, status: Status) -> bytes:
        return self._event(kind, response=response(turn, self._told, [], status))

    def _end(self, turn: TurnSeen) -> bytes:
        """The end of the stream. A client that has more than there is came with a number of its own."""
        status = turn.told_status
        kind = f"response.{status}" if status in {"completed", "incomplete"} else "response.failed"
        last = self._close_all() + self._event(kind, response=response(turn, self._told, self._output))
        return last + DONE if self._next > self._after else self.failed(beyond(self._next))

    def _appended(self, frame: Frame) -> bytes:
        """The end of the answer's blocks: all of them are known now."""
        appended = _read_appended(frame.data)
        if appended.role != "assistant" or appended.content is None:
            return b""
        content = appended.content
        self._forms = forms_in(content)
        message = _read_message(frame.data)
        placed = items_of(message, encrypted=self._encrypted)
        last = self._close_all({each.item["id"]: each.item.get("status", "") for each in placed})
        events = last + self._hidden(message.id, len(content))
        self._output += [each.item for each in placed]
        return events

    # --- items --------------------------------------------------------------------------------------------------------

    def _start(self, block: Started) -> bytes:
        before = self._make_way(block) + self._hidden(block.message_id, block.block)
        self._blocks = block.block + 1
        if block.type == "tool_use":
            return before + self._call(block)
        if block.type == "thinking":
            return before + self._think(block)
        return before + self._speak(block)

    def _make_way(self, block: Started) -> bytes:
        """End what was said before a block: a text that another follows is only a part of a message."""
        item = self._open
        if item is None:
            return b""
        if item.kind == "message" and block.type == "text" and block.block == item.parts[-1].block + 1:
            return self._part_done(item, len(item.parts) - 1)
        self._open = None
        return self._close(item)

    def _speak(self, block: Started) -> bytes:
        item, added = self._open, b""
        if item is None:
            name = said_id(block.message_id, block.block, first=not self._said)
            self._said = True
            item = self._open = self._new("message", name, block.message_id)
            added = self._added(item, message_item(name, "in_progress", []))
        place = {"item_id": item.name, "output_index": item.index, "content_index": len(item.parts)}
        self._say(item, block, "response.output_text.delta", place, b'"logprobs":[],')
        return added + self._event("response.content_part.added", **place, part=answer_part(""))

    def _think(self, block: Started) -> bytes:
        shown = thought_item(block.message_id, block.block, None)
        item = self._open = self._new("reasoning", shown["id"], block.message_id)
        place = {"item_id": item.name, "output_index": item.index, "summary_index": 0}
        self._say(item, block, "response.reasoning_summary_text.delta", place)
        part = {"type": "summary_text", "text": ""}
        return self._added(item, shown) + self._event("response.reasoning_summary_part.added", **place, part=part)

    def _call(self, block: Started) -> bytes:
        """A call stays open up to the end of the answer: the pieces of several may alternate."""
        shown = call_item(block.message_id, block.block, block.id, block.name, "in_progress")
        item = self._new("function_call", shown["id"], block.message_id)
        self._calls.append(item)
        place = {"item_id": item.name, "output_index": item.index}
        self._say(item, block, "response.function_call_arguments.delta", place)
        return self._added(item, shown)

    def _new(self, kind: str, name: str, message: UUID) -> _Item:
        self._index += 1
        return _Item(kind, self._index - 1, name, message)

    def _say(self, item: _Item, block: Started, kind: str, place: dict[str, Any], more: bytes = b"") -> None:
        """Make a block's deltas ready: all of each but its number and its text."""
        head = _encode({"type": kind} | place)[:-1] + b"," + more + b'"sequence_number":'
        part = self._parts[block.block] = _Part(block, b"event: %b\ndata: %b" % (kind.encode(), head))
        item.parts.append(part)

    def _delta(self, data: bytes) -> bytes:
        """A piece of a text. It is passed on as it stands in its frame: nearly all that is sent are pieces."""
        if not data.startswith(self._prefix):
            delta = read_delta(data)
            self._part = self._parts[delta.block]
            self._prefix = data[: -len(_encode(delta.text)) - 1]
        part, text = self._part, data[len(self._prefix) : -1]
        part.pieces.append(text)
        number = self._next
        self._next = number + 1
        if number <= self._after or self._silent:
            return b""
        return b'%b%d,"delta":%b}\n\n' % (part.head, number, text)

    def _hidden(self, message: UUID, up_to: int) -> bytes:
        """The items of blocks before a number that came whole, and were in no frame."""
        events = []
        for number in range(self._blocks, up_to):
            form = self._forms.get(number)
            if form is None or _read_type(form).type not in THOUGHTS:
                continue
            shown = hidden_item(message, number, bytes(form), encrypted=self._encrypted)
            item = self._new("reasoning", shown["id"], message)
            events.append(self._added(item, shown) + self._finished(item, shown))
        self._blocks = max(self._blocks, up_to)
        return b"".join(events)

    # --- ends of items ------------------------------------------------------------------------------------------------

    def _close_all(self, statuses: Mapping[str, str] = NO_STATUSES) -> bytes:
        """End what is open, in the order of the answer. ``statuses``: of its items, by their ids."""
        found = sorted([*self._calls, *([self._open] if self._open else [])], key=lambda item: item.index)
        self._calls, self._open = [], None
        return b"".join(self._close(item, statuses.get(item.name, "incomplete")) for item in found)

    def _close(self, item: _Item, status: str = "completed") -> bytes:
        if item.kind == "message":
            return self._close_message(item, status)
        if item.kind == "reasoning":
            return self._close_thought(item)
        part = item.parts[0]
        given = part.text or "{}"
        shown = call_item(item.message, part.block, part.started.id, part.started.name, status, given)
        place = {"item_id": item.name, "output_index": item.index}
        before = b"" if part.pieces else self._event("response.function_call_arguments.delta", **place, delta=given)
        name = part.started.name
        done = self._event("response.function_call_arguments.done", **place, name=name, arguments=given)
        return before + done + self._finished(item, shown)

    def _close_message(self, item: _Item, status: str) -> bytes:
        last = self._part_done(item, len(item.parts) - 1)
        content = answer_parts([self._text_block(part) for part in item.parts])
        return last + self._finished(item, message_item(item.name, status, content))

    def _part_done(self, item: _Item, number: int) -> bytes:
        """The end of a text; of a refusal, where its vendor says that it was one."""
        part = item.parts[number]
        shown = answer_parts([self._text_block(each) for each in item.parts])[number]
        place = {"item_id": item.name, "output_index": item.index, "content_index": number}
        if shown["type"] == "refusal":
            done = self._event("response.refusal.done", **place, refusal=part.text)
        else:
            done = self._event("response.output_text.done", **place, text=part.text, logprobs=[])
        return done + self._event("response.content_part.done", **place, part=shown)

    def _text_block(self, part: _Part) -> TextBlock:
        form = self._forms.get(part.block)
        return TextBlock(part.text) if form is None else TextBlock(part.text, form)

    def _close_thought(self, item: _Item) -> bytes:
        part = item.parts[0]
        form = self._forms.get(part.block)
        raw = bytes(form) if form is not None and self._encrypted else None
        place = {"item_id": item.name, "output_index": item.index, "summary_index": 0}
        return (
            self._event("response.reasoning_summary_text.done", **place, text=part.text)
            + self._event(
                "response.reasoning_summary_part.done", **place, part={"type": "summary_text", "text": part.text}
            )
            + self._finished(item, thought_item(item.message, part.block, part.text, raw))
        )

    # --- events -------------------------------------------------------------------------------------------------------

    def _added(self, item: _Item, shown: dict[str, Any]) -> bytes:
        return self._event("response.output_item.added", output_index=item.index, item=shown)

    def _finished(self, item: _Item, shown: dict[str, Any]) -> bytes:
        return self._event("response.output_item.done", output_index=item.index, item=shown)

    def _event(self, kind: str, **fields: object) -> bytes:
        number = self._next
        self._next = number + 1
        if number <= self._after or self._silent:
            return b""
        return b"event: %b\ndata: %b\n\n" % (
            kind.encode(),
            _encode({"type": kind, "sequence_number": number} | fields),
        )
