"""The transcript of a turn: its frames from its recorded events, the same live, later, and after a restart. Pure.

A recorded frame carries its number in the event's facts. The deltas between two recorded frames are in the journal
while their round runs, and afterwards in the message's cuts, from which ``deltas_of`` makes them again with the same
numbers. After an erasure there are no deltas, and the other frames keep their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from uuid import UUID

import msgspec
from msgspec import UNSET

from ..events.base import Facts
from ..events.blocks import Block, Content, TextBlock, ThinkingBlock, ToolUseBlock, read_blocks
from ..events.cuts import unpack_cuts
from ..events.turn_types import (
    AttemptEnded,
    AttemptEndedWords,
    DecisionWords,
    ToolApproved,
    ToolCalled,
    ToolRefused,
    ToolReturned,
    TurnFailed,
    TurnStarted,
)
from ..events.types import BlockStart, MessageAppended, MessageWords
from ..events.upcasts import facts_of, words_left, words_of
from ..log.base import RecordedEvent
from ..sessions import turn_state as turns
from ..sessions.calls import CallIds, block_of
from ..sessions.turn_state import OpenCall, TurnState
from ..sessions.turn_views import Turn, turn_view
from ..sessions.views import Message, answer_of, message_view
from .frames import Frame, Opening, delta_frame, delta_head, start_frame

_encode = msgspec.json.Encoder().encode


class CallData(msgspec.Struct, frozen=True):
    """The data of a ``tool.called`` frame; its input stands in the message. Id and name are erased with that."""

    tool_use_id: str | None
    name: str | None
    message_id: UUID
    runner: str


class ReturnedData(msgspec.Struct, frozen=True):
    """The data of a ``tool.returned`` frame; the tool's output is in the message that follows."""

    tool_use_id: str | None
    name: str | None
    outcome: str
    is_error: bool
    duration_ms: int | None


class DecisionData(msgspec.Struct, frozen=True):
    """The data of a ``tool.approved`` or ``tool.refused`` frame."""

    tool_use_id: str | None
    approve: bool
    reason: str | None
    actor: str


class AttemptFailedData(msgspec.Struct, frozen=True):
    """The data of an ``attempt.failed`` frame: another attempt follows."""

    round: int
    attempt: int
    code: str


class Transcript:
    """The transcript of one turn. Feed it the session's events in order, from ``turn.started`` on; it ignores events of
    other turns.
    """

    def __init__(self, turn_id: UUID) -> None:
        self._turn_id = turn_id
        self._state: TurnState | None = None
        self._failed: TurnFailed | None = None
        self._calls: dict[str, tuple[str | None, str | None]] = {}
        self._ended: AttemptEnded | None = None
        self._stop_sequence: str | None = None
        self.messages: list[Message] = []
        self.reasons: dict[str, str] = {}

    @property
    def state(self) -> TurnState:
        assert self._state is not None
        return self._state

    def call_ids(self) -> CallIds:
        """The vendor's ids of the turn's calls, as far as they are there."""
        return {ordinal: call_id for ordinal, (call_id, _) in self._calls.items() if call_id is not None}

    def view(self) -> Turn:
        """The turn as it is now."""
        stopped_at = self._stop_sequence if self.state.stop_reason == "stop_sequence" else None
        return turn_view(self.state, tuple(self.messages), self._failed, stopped_at)

    def add(self, event: RecordedEvent, *, deltas_after: int | None = None) -> list[Frame]:
        """The frames of one event; with ``deltas_after`` also those deltas of a message whose numbers are above it.
        They precede the message's own frame.
        """
        facts = facts_of(event)
        deltas = [] if deltas_after is None else list(self.deltas(event, deltas_after))
        if isinstance(facts, TurnStarted):
            if event.id != self._turn_id:
                return []
            self._state = turns.begin(event, facts)
            return [self._frame(facts.frame, event.type, self._told())]
        if self._state is None or getattr(facts, "turn", None) != self._turn_id:
            return []
        self._state = turns.evolve(self._state, event, facts)
        return deltas + self._shown(event, facts)

    def deltas(self, event: RecordedEvent, after: int) -> Iterator[Frame]:
        """The deltas of the next event, one by one: those whose numbers are above ``after``. Call it
        before ``add``.
        """
        facts = facts_of(event)
        if self._state is None or not isinstance(facts, MessageAppended) or facts.turn != self._turn_id:
            return
        for frame in deltas_of(event, facts, self._state.frame + 1):
            if frame.number > after:
                yield frame

    def _shown(self, event: RecordedEvent, facts: Facts) -> list[Frame]:
        number = getattr(facts, "frame", None)
        if isinstance(facts, TurnFailed):
            words_of(event)  # which refuses what is damaged: the turn's detail is told from it
            self._failed = facts
        if isinstance(facts, AttemptEnded):
            self._ended = facts
            words = words_left(event)
            self._stop_sequence = words.stop_sequence if isinstance(words, AttemptEndedWords) else None
        if isinstance(facts, MessageAppended):
            message = message_view(event)
            if message.role == "assistant" and self._ended is not None:
                message = answer_of(message, self.state.attempts[-1].full_name, self._ended)
            self.messages.append(message)
            return [] if number is None else [self._frame(number, event.type, message)]
        if number is None:
            return []
        if isinstance(facts, ToolReturned):
            named = self._calls.get(facts.call, (None, facts.name))
            returned = ReturnedData(*named, facts.outcome, facts.is_error, facts.duration_ms)
            return [self._frame(number, event.type, returned)]
        if isinstance(facts, ToolApproved | ToolRefused):
            return [self._frame(number, event.type, self._decision(event, facts))]
        if isinstance(facts, ToolCalled):
            return [self._frame(number, event.type, self._called(facts))]
        if isinstance(facts, AttemptEnded):
            return [self._frame(number, "attempt.failed", AttemptFailedData(facts.round, facts.attempt, facts.outcome))]
        return [self._frame(number, event.type, self._told())]

    def _told(self) -> dict[str, object]:
        """The turn in a frame: the ids of its messages in their stead, for frames have shown them."""
        turn = self.view()
        fields = {name: getattr(turn, name) for name in turn.__struct_fields__ if name not in {"messages", "message"}}
        if turn.stop_sequence is UNSET:
            del fields["stop_sequence"]
        return fields | {"message_ids": [message.id for message in turn.messages]}

    def _called(self, facts: ToolCalled) -> CallData:
        message = self.messages[-1]
        call = OpenCall(facts.call, facts.name, facts.message, index=facts.index)
        block = block_of(call, message.blocks())
        by_id = facts.call if facts.index is None else None  # schema 1
        self._calls[facts.call] = (by_id, facts.name) if block is None else (block.id, block.name)
        return CallData(*self._calls[facts.call], message.id, facts.runner)

    def _decision(self, event: RecordedEvent, facts: ToolApproved | ToolRefused) -> DecisionData:
        words = words_of(event)
        reason = words.reason if isinstance(words, DecisionWords) else None
        self.reasons.pop(facts.call, None)  # a call of an earlier round may have had the same id
        if reason is not None:
            self.reasons[facts.call] = reason
        call_id, _ = self._calls.get(facts.call, (None, None))
        return DecisionData(call_id, isinstance(facts, ToolApproved), reason, event.actor)

    def _frame(self, number: int, kind: str, data: object) -> Frame:
        return Frame(number, kind, _encode(data))


def deltas_of(event: RecordedEvent, facts: MessageAppended, first: int) -> Iterator[Frame]:
    """The block and delta frames of a recorded message: numbers from ``first`` up to its own."""
    words = words_of(event)
    blocks: Content = ()
    pieces: Iterator[tuple[int, str]] = iter(())
    if isinstance(words, MessageWords):
        blocks = read_blocks(words.content)
        pieces = _pieces(blocks, words.cuts)
    heads: dict[int, bytes] = {}
    starts = {start.frame: start for start in facts.blocks}
    for number in range(first, facts.frame or first):
        start = starts.get(number)
        if start is not None:
            yield start_frame(event.id, number, start.block, _opening(start, blocks))
            continue
        for block, text in islice(pieces, 1):
            if block not in heads:
                heads[block] = delta_head(event.id, block, _TYPES[type(blocks[block])])
            yield delta_frame(heads[block], number, text)


_TYPES: dict[type, str] = {TextBlock: "text", ThinkingBlock: "thinking", ToolUseBlock: "tool_use"}


def _pieces(blocks: Content, cuts: bytes) -> Iterator[tuple[int, str]]:
    """The deltas of a message from its cuts: block and text of each."""
    read: dict[int, int] = {}
    for cut in unpack_cuts(cuts):
        at = read.get(cut.block, 0)
        read[cut.block] = at + cut.length
        yield cut.block, _streamed_text(blocks[cut.block])[at : at + cut.length]


def _streamed_text(block: Block) -> str:
    if isinstance(block, ToolUseBlock):
        return block.input_text or ""
    return block.text if isinstance(block, TextBlock | ThinkingBlock) else ""


def _opening(start: BlockStart, blocks: Content) -> Opening:
    block = blocks[start.block] if blocks else None
    if isinstance(block, ToolUseBlock):
        return Opening(start.type, block.id, block.name)
    return Opening(start.type)
