"""The answers of a turn, read for comparing and showing: whatever stands in a message, reading it does not fail."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, Final, Literal

import msgspec

from ...errors import Invalid
from ...events.blocks import Content, OtherBlock, ToolUseBlock, read_block, text_of
from ...sessions.turn_views import Turn
from ...sessions.views import Message

UNREADABLE: Final = "unreadable"
"""The type that is given to a block of no known shape."""


class Answer(msgspec.Struct, frozen=True):
    """A message of the assistant. ``index``: its place among the turn's messages."""

    index: int
    message: Message
    content: Content

    @property
    def calls(self) -> list[ToolUseBlock]:
        """Its tool calls, in order."""
        return [block for block in self.content if isinstance(block, ToolUseBlock)]

    @property
    def text(self) -> str:
        """The text that a person reads."""
        return text_of(self.content)


def answers_of(turn: Turn | None) -> list[Answer]:
    """The assistant's messages of a turn; none of a turn that is not there."""
    if turn is None:
        return []
    return [
        Answer(index, message, content_of(message))
        for index, message in enumerate(turn.messages)
        if message.role == "assistant"
    ]


def content_of(message: Message) -> Content:
    """The blocks of a message. One of no known shape becomes an OtherBlock of the type ``unreadable``."""
    return tuple([_block(raw) for raw in message.content])


def pairs(recorded: Turn | None, now: Turn | None) -> Iterator[tuple[int, Answer | None, Answer | None]]:
    """The answers of both turns, one beside the other, each with its index: the recorded turn's, where it has one."""
    for old, new in zip_longest(answers_of(recorded), answers_of(now)):
        yield (old or new).index, old, new


def what_is_gone(turn: Turn) -> Literal["erased", "damaged"] | None:
    """What happened to words of the turn's answers; None if all are there."""
    for answer in answers_of(turn):
        if answer.message.erased is not None:
            return "erased"
        if answer.message.damaged is True:
            return "damaged"
    return None


def kind_of(block: Any) -> str:
    """The type of a block."""
    return block.type if isinstance(block, OtherBlock) else str(block.__struct_config__.tag)


def arguments_of(call: ToolUseBlock) -> Any:
    """The arguments of a call as JSON; the text as the model wrote it, where it is no JSON."""
    if call.input is not None or call.input_text is None:
        return call.input
    try:
        return msgspec.json.decode(call.input_text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return call.input_text


def _block(raw: msgspec.Raw) -> Any:
    try:
        return read_block(raw)
    except Invalid:
        return OtherBlock(UNREADABLE, bytes(raw))
