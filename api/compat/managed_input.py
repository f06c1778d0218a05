"""What a client of Anthropic's Managed Agents sends a session: the forms of its events, and what they become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ...engine import Base64Source, Block, ImageBlock, MessageIn, TextBlock, ToolResultBlock, UrlSource
from ..http.errors import Problem, invalid
from .fields import HONOURED, KEPT, REFUSED, Table, not_here, read_part

EVENTS: Mapping[str, Table] = {
    "user.message": {"content": HONOURED, "type": HONOURED},
    "user.interrupt": {"session_thread_id": KEPT, "type": HONOURED},
    "user.tool_confirmation": {
        "deny_message": HONOURED,
        "result": HONOURED,
        "tool_use_id": HONOURED,
        "type": HONOURED,
    },
    "user.custom_tool_result": {
        "content": HONOURED,
        "custom_tool_use_id": HONOURED,
        "is_error": HONOURED,
        "type": HONOURED,
    },
    "user.tool_result": {"content": HONOURED, "is_error": HONOURED, "tool_use_id": HONOURED, "type": HONOURED},
    "user.define_outcome": dict.fromkeys(("description", "max_iterations", "rubric", "type"), REFUSED),
    "system.message": dict.fromkeys(("content", "type"), REFUSED),
}
"""What becomes of each field of an event that a client may send: the types whose fields are refused are."""

Content = tuple[msgspec.Raw, ...]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    content: Annotated[Content, Meta(min_length=1)]


class Interrupt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``session_thread_id``: a session has one thread here, which is what is meant."""

    type: str
    session_thread_id: str | None = None


class Confirmation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    tool_use_id: str
    result: Literal["allow", "deny"]
    deny_message: str | None = None


class CustomResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    custom_tool_use_id: str
    content: Content = ()
    is_error: bool | None = None

    @property
    def call(self) -> str:
        """The name of the call that it answers."""
        return self.custom_tool_use_id


class ToolResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    tool_use_id: str
    content: Content = ()
    is_error: bool | None = None

    @property
    def call(self) -> str:
        """The name of the call that it answers."""
        return self.tool_use_id


class _Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    text: str


class _Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["base64", "url"]
    media_type: str = ""
    data: str = ""
    url: str = ""


class _Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    source: _Source


class _Typed(msgspec.Struct, frozen=True):
    type: str


Result = CustomResult | ToolResult
Sent = Message | Interrupt | Confirmation | Result
_KINDS: Mapping[str, Any] = {
    "user.message": Message,
    "user.interrupt": Interrupt,
    "user.tool_confirmation": Confirmation,
    "user.custom_tool_result": CustomResult,
    "user.tool_result": ToolResult,
}


class Input(msgspec.Struct, frozen=True):
    """What was sent. ``interrupts``: what runs is stopped first; then there are decisions, or results and messages,
    each with the number of its event.
    """

    interrupts: int
    decisions: tuple[tuple[int, Confirmation], ...]
    results: tuple[tuple[int, Result], ...]
    messages: tuple[tuple[int, Message], ...]


def read_input(raws: Sequence[msgspec.Raw], most: int) -> Input:
    """Read the events of a body. Raises Problem, which names the event, for what there is not, and for an order in
    which they cannot be taken.
    """
    if not raws:
        raise invalid("events", "must hold at least one event")
    if len(raws) > most:
        raise Problem(
            400, "array_above_max_length", f"events: {len(raws)}, and at most {most} are taken at once", field="events"
        )
    sent = [_event(raw, f"events[{number}]") for number, raw in enumerate(raws)]
    last = 0
    for number, each in enumerate(sent):
        if _rank(each) < last:
            order = "interrupts, confirmations, results, messages"
            raise invalid(f"events[{number}].type", f"comes too late: the order is {order}")
        last = _rank(each)
    numbered = [*enumerate(sent)]
    found = Input(
        sum(isinstance(each, Interrupt) for each in sent),
        tuple((number, each) for number, each in numbered if isinstance(each, Confirmation)),
        tuple((number, each) for number, each in numbered if isinstance(each, CustomResult | ToolResult)),
        tuple((number, each) for number, each in numbered if isinstance(each, Message)),
    )
    if found.decisions and len(found.decisions) != len(sent):
        raise invalid("events", "confirmations are sent by themselves: with the last of them the turn goes on")
    return found


def _rank(sent: Sent) -> int:
    match sent:
        case Interrupt():
            return 0
        case Confirmation():
            return 1
        case CustomResult() | ToolResult():
            return 2
        case _:
            return 3


def _event(raw: msgspec.Raw, where: str) -> Sent:
    kind = read_part(raw, _Typed, where).type
    if kind not in EVENTS:
        detail = f"{where}.type: there is no event {kind[:100]!r} to send; there are {', '.join(_KINDS)}"
        raise Problem(400, "invalid_value", detail, field=f"{where}.type")
    if kind not in _KINDS:
        raise not_here(f"{where}.type", f", {kind}")
    read: Sent = read_part(raw, _KINDS[kind], where)
    return read


def messages_of(given: Input, calls: Mapping[str, str]) -> tuple[list[MessageIn], list[str]]:
    """The messages to append, and where each stands in the body. Results are one message. ``calls``: the vendor's ids
    of open calls, by the names of their events. Raises Problem.
    """
    found: list[MessageIn] = []
    places: list[str] = []
    blocks = [_result(each, f"events[{number}]", calls) for number, each in given.results]
    if blocks:
        found.append(MessageIn(tuple(blocks), "tool"))
        places.append(f"events[{given.results[0][0]}]")
    for number, each in given.messages:
        found.append(MessageIn(tuple(_blocks(each.content, f"events[{number}].content"))))
        places.append(f"events[{number}]")
    return found, places


def decoded(raws: Content) -> list[Any]:
    """The blocks of a content as they were given."""
    return [msgspec.json.decode(raw) for raw in raws]


def call_of(name: str, calls: Mapping[str, str], where: str) -> str:
    """The vendor's id of an open call. Raises Problem."""
    if name not in calls:
        raise Problem(400, "tool_call_not_found", f"{where}: names no call that waits for this", field=where)
    return calls[name]


def _result(each: Result, where: str, calls: Mapping[str, str]) -> ToolResultBlock:
    field = "custom_tool_use_id" if isinstance(each, CustomResult) else "tool_use_id"
    call = call_of(each.call, calls, f"{where}.{field}")
    content = [*_blocks(each.content, f"{where}.content")]
    only = content[0] if len(content) == 1 else None
    told = only.text if isinstance(only, TextBlock) else tuple(content)
    return ToolResultBlock(call, told or "", is_error=bool(each.is_error))


def _blocks(raws: Content, where: str) -> Iterable[Any]:
    for number, raw in enumerate(raws):
        yield _block(raw, f"{where}[{number}]")


def _block(raw: msgspec.Raw, where: str) -> Block:
    match read_part(raw, _Typed, where).type:
        case "text":
            return TextBlock(read_part(raw, _Text, where).text)
        case "image":
            source: _Source = read_part(raw, _Image, where).source
            if source.type == "url":
                return ImageBlock(UrlSource(source.url))
            return ImageBlock(Base64Source(source.media_type, source.data))
        case kind:
            raise not_here(f"{where}.type", f", {kind[:100]!r}: there are text and image")
