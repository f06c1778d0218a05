"""The prompt of a recorded attempt again, from what its event says and points to; and why each message was in its
window or not. Pure: the same record gives the same prompt, for ever.

The prompt is made of the recorded positions, whatever a choice would give today. The reasons are found by going through
the window's policy once more, on the messages as they were then: each policy that was ever recorded keeps its way to
explain (``LOOKS``), as each renderer is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Protocol

import msgspec

from ..errors import StoreNewer
from ..events.blocks import Content, ToolSchema, read_blocks, without_calls_and_thinking
from ..events.turn_types import AttemptStarted, AttemptWords
from ..events.types import MessageAppended, MessageWords, Role
from ..events.upcasts import Stored, facts_of, words_of
from ..providers.base import Prompt, PromptMessage
from ..providers.tokens import figure
from ..sessions.prompt_views import BUDGET, Reason
from .recorded import parameters_of
from .window import AS_RECORDED, POLICY, WHOLE

MOST_ITEMS = 100
"""So many of the messages that were left out are listed, the nearest to the window's end."""


# --- the prompt -------------------------------------------------------------------------------------------------------


def prompt_again(
    facts: AttemptStarted,
    words: AttemptWords,
    system: str | None,
    messages: Iterable[Stored],
    tools: tuple[ToolSchema, ...],
) -> Prompt:
    """The prompt of an attempt. ``messages``: the events at its positions, in their order."""
    said, changed = [], {each.at: read_blocks(each.content) for each in words.contents}
    for number, event in enumerate(messages):
        content = changed[number] if number in changed else content_to_send(event)
        if content:
            marks = () if words.marks is None else words.marks.of_message(number)
            said.append(PromptMessage(role_of(event), content, marks))
    model, parameters = words.model or facts.model, parameters_of(facts, words)
    return Prompt(model, tuple(said), system, tools, parameters, words.marks)


def role_of(event: Stored) -> Role:
    """The role of a recorded message."""
    facts = facts_of(event)
    assert isinstance(facts, MessageAppended)
    return facts.role


def content_to_send(event: Stored) -> Content:
    """The content of a recorded message as it is sent."""
    facts, words = facts_of(event), words_of(event)
    assert isinstance(facts, MessageAppended)
    assert isinstance(words, MessageWords)
    return to_send(words, complete=facts.complete)


def to_send(words: MessageWords, *, complete: bool) -> Content:
    """The content of a message as it is sent: of an incomplete one without open calls and thinking."""
    blocks = read_blocks(words.content)
    return blocks if complete else without_calls_and_thinking(blocks)


# --- the window -------------------------------------------------------------------------------------------------------


class Past(Protocol):
    """A message as the choice saw it then; ``superseded`` is one of the ways to be ``left_out``."""

    @property
    def position(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def role(self) -> Role: ...
    @property
    def tokens(self) -> int: ...
    @property
    def unit(self) -> int: ...
    @property
    def pinned(self) -> bool: ...
    @property
    def left_out(self) -> bool: ...
    @property
    def superseded(self) -> bool: ...


class LookBack(msgspec.Struct):
    """A window explained. ``included``: a reason by position. ``omitted``: the nearest of those left out, newest first.
    ``passed``: count and tokens by reason of all that were passed over before the budget ended the choice; what else is
    missing is missing for the budget.
    """

    included: dict[int, Reason] = {}
    omitted: list[tuple[Past, Reason]] = []
    passed: dict[Reason, tuple[int, int]] = {}


Look = Callable[[AttemptStarted, int | None, Iterable[Past]], LookBack]


def look_back(facts: AttemptStarted, last_user: int | None, newest_first: Iterable[Past]) -> LookBack:
    """Explain the window of an attempt. ``last_user``: the position of the newest message of a user that it holds;
    ``newest_first``: the session's messages as they were at the attempt, read no further than is needed.

    Raises StoreNewer for a policy that this version does not know.
    """
    look = LOOKS.get(facts.policy)
    if look is None:
        raise StoreNewer(f"the window was chosen by {facts.policy}, which this version does not know")
    return look(facts, last_user, newest_first)


class _NewestUnits:
    """``newest-units/1``, gone through once more. The choice has ended at the first unit that did not fit beside what
    is sent; whatever lies before that was never looked at, and is missing for the budget.
    """

    def __init__(self, facts: AttemptStarted, last_user: int | None) -> None:
        self.found = LookBack()
        self._facts = facts
        self._sent = frozenset(facts.positions)
        self._last_user = last_user
        self._base_tokens = facts.base_tokens
        self._messages = messages_sent(facts)
        self._over = False

    def look(self, newest_first: Iterable[Past]) -> LookBack:
        for _, rows in groupby(newest_first, key=lambda row: row.unit):
            unit = list(rows)
            if unit[0].position in self._sent:
                self._include(unit)
            else:
                self._omit(unit)
            if self._over and len(self.found.omitted) >= MOST_ITEMS:
                break
        for position in self._sent - self.found.included.keys():  # so far back reach only these two
            self.found.included[position] = "last_user" if position == self._last_user else "pinned"
        del self.found.omitted[MOST_ITEMS:]
        return self.found

    def _include(self, unit: Sequence[Past]) -> None:
        reason: Reason = "newest_that_fits"
        if any(row.pinned for row in unit):
            reason = "pinned"
        elif unit[0].position == self._last_user:
            reason = "last_user"
        elif not self.found.included:
            reason = "last_unit"
        self.found.included |= dict.fromkeys([row.position for row in unit], reason)

    def _omit(self, unit: Sequence[Past]) -> None:
        reason = self._reason(unit)
        self.found.omitted += [(row, reason) for row in unit]
        if reason != BUDGET:
            count, tokens = self.found.passed.get(reason, (0, 0))
            self.found.passed[reason] = count + len(unit), tokens + sum(row.tokens for row in unit)

    def _reason(self, unit: Sequence[Past]) -> Reason:
        if self._over:
            return BUDGET
        out = next((row for row in unit if row.left_out), None)
        if out is not None:
            return "superseded" if out.superseded else "erased" if out.tokens else "empty"
        self._base_tokens += sum(row.tokens for row in unit)
        self._messages += len(unit)
        if used(self._facts, self._base_tokens, self._messages) <= available(self._facts):
            return "incomplete"  # it was taken, and dropped: a run begins at a user message
        self._over = True
        return BUDGET


def _newest_units(facts: AttemptStarted, last_user: int | None, newest_first: Iterable[Past]) -> LookBack:
    return _NewestUnits(facts, last_user).look(newest_first)


LOOKS: Mapping[str, Look] = {POLICY: _newest_units, AS_RECORDED: _newest_units, WHOLE: _newest_units}
"""How the windows of each policy are explained; none is ever taken away. What was sent as another attempt was sent it
is explained as it was there."""


def messages_sent(facts: AttemptStarted) -> int:
    """The messages of a request, as they are counted: the system prompt is one."""
    return len(facts.positions) + (facts.system is not None)


def available(facts: AttemptStarted) -> int:
    """The tokens that the window might use."""
    return facts.budget_tokens - facts.reserve_tokens


def used(facts: AttemptStarted, base_tokens: int, messages: int) -> int:
    """Tokens of so many messages, counted as the attempt counted."""
    return figure(base_tokens, messages, facts.factor_permille, facts.overhead)
