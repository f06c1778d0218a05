"""The calls of a session: their ordinals, which facts hold, and the ids that vendors give them, which messages hold.

A call's ordinal counts the calls of the session (``c17``), so that it means one call for ever; a vendor's id is words,
and may come again. Schema 1 of events had the ids in facts: calls of then are named by their ids. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import ToolCallNotFound, ToolResultsMissing
from ..events.blocks import Content, ToolUseBlock, calls_of, results_of
from .state import SessionState
from .turn_state import OpenCall

CallIds = Mapping[str, str]
"""The vendor's id of each call, by its ordinal."""

NONE_READ: CallIds = {}


def ordinals(after: int, count: int) -> tuple[str, ...]:
    """The ordinals of the next calls of a session that has had ``after``."""
    return tuple([f"c{after + number}" for number in range(1, count + 1)])


def calls_in(content: Content) -> list[ToolUseBlock]:
    return [block for block in content if isinstance(block, ToolUseBlock)]


def block_of(call: OpenCall, content: Content) -> ToolUseBlock | None:
    """The block in which the model makes a call; None if the content, or what is left of it, has none."""
    calls = calls_in(content)
    if call.index is not None:
        return calls[call.index] if call.index < len(calls) else None
    return next((block for block in calls if block.id == call.id), None)


def ids_of(calls: Iterable[OpenCall], contents: Mapping[int, Content]) -> dict[str, str]:
    """The vendor's ids of calls, from the contents of the messages that make them, by their positions."""
    found = ((call.id, block_of(call, contents.get(call.message, ()))) for call in calls)
    return {ordinal: block.id for ordinal, block in found if block is not None}


class CallCount:
    """The calls of a session while messages are added to it. ``count``: ordinals given so far; ``open_calls``: the ids
    of the open calls by their ordinals. One whose id was not read (None) is answered by nothing.
    """

    def __init__(self, count: int = 0, open_calls: Mapping[str, str | None] | None = None) -> None:
        self._count = count
        self._open = dict(open_calls or {})

    @classmethod
    def of(cls, state: SessionState, ids: CallIds = NONE_READ) -> CallCount:
        """The calls of a session; ``ids``: those of its open calls, as far as they were read."""
        named = state.asked is None  # calls of schema 1
        return cls(state.call_count, {call: call if named else ids.get(call) for call in state.open_calls})

    @property
    def open_ids(self) -> list[str]:
        """The ids of the open calls; the ordinal of one whose id was not read."""
        return [call_id or ordinal for ordinal, call_id in self._open.items()]

    def make(self, content: Content) -> tuple[str, ...]:
        """The ordinals of the calls in a message. They are open from now on, and those before are not any more."""
        ids = calls_of(content)
        made = ordinals(self._count, len(ids))
        self._count += len(ids)
        self._open = dict(zip(made, ids, strict=True))
        return made

    def answer(self, content: Content) -> tuple[str, ...]:
        """The ordinals of the calls that a message answers. Raises ToolCallNotFound for one that is not open."""
        return tuple([self._close(call_id) for call_id in results_of(content)])

    def check_answered(self) -> None:
        """Raises ToolResultsMissing while calls are open."""
        if self._open:
            detail = "the last assistant message asked for tools; their results must come next"
            raise ToolResultsMissing(detail, tool_use_ids=self.open_ids)

    def _close(self, call_id: str) -> str:
        found = next((ordinal for ordinal, known in self._open.items() if known == call_id), None)
        if found is None:
            raise ToolCallNotFound(f"no open call has the id {call_id!r}", tool_use_id=call_id, field="content")
        del self._open[found]
        return found
