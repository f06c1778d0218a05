"""The choice of a window: which messages of a session a model is sent, chosen from rows without a word of content.

A *unit* is a message alone, or an assistant message that calls tools and all the tool messages that follow it. Units
are taken whole or not at all. A unit in which one message is left out (empty, erased, superseded) is left out whole: it
costs nothing, and what stands before it is still reached.

``newest-units/1``:

* *Required* are the pinned units however far back, the last user message and the newest unit, beside the system prompt
  and the tools' schemas (the fixed part). If they do not fit, ``BudgetTooSmall`` says by how much.
* Then units are taken from the newest backwards while they fit, without a gap, and sent in their original order. So
  what is dropped is older than what is kept, apart from the required.
* Inside the last exchange (after the last user message) the oldest units are therefore the first to go; the user
  message that opened it stays, and nothing before it is taken unless the whole exchange fits.
* Before the last user message the run begins at a user message: assistant and tool units that it reached before its
  first user message are dropped. System messages that it reached are kept also there: what they say is still in force.
* Without any user message there is no exchange to begin, and nothing is dropped in front.

The run is a suffix and costs only add up, so a larger budget never takes a message away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, takewhile

import msgspec

from ..errors import BudgetTooSmall
from ..providers.tokens import figure
from ..sessions.state import Row

POLICY = "newest-units/1"
"""Recorded with every attempt. A rule that chooses otherwise for any session is a new name."""

AS_RECORDED = "recorded-messages/1"
"""Recorded with an attempt that was sent the messages of another, by a replay: nothing was chosen."""


WHOLE = "all/1"
"""Recorded with an attempt of a client that keeps its own history: it is sent all of it."""

REQUIRED = "system prompt, tools, pinned messages, last user message and last unit"


class Measure(msgspec.Struct, frozen=True):
    """The cost of messages for a model, and the tokens that may be spent.

    The fixed part is sent with every window: system prompt and tool schemas in base tokens, and the number of messages
    that the system prompt makes (1 or 0). ``reserve_tokens`` of the budget are kept for the reply. ``policy``: the one
    by which the window is chosen.
    """

    factor_permille: int
    overhead: int
    fixed_base_tokens: int
    fixed_messages: int
    budget_tokens: int
    reserve_tokens: int
    policy: str = POLICY

    @property
    def available_tokens(self) -> int:
        """Negative if the reserve is larger than the budget: then nothing fits."""
        return self.budget_tokens - self.reserve_tokens

    def used(self, base_tokens: int, messages: int) -> int:
        """The model's count of so many messages and the fixed part, rounded up once."""
        return figure(
            base_tokens + self.fixed_base_tokens, messages + self.fixed_messages, self.factor_permille, self.overhead
        )


class ChosenRows(msgspec.Struct, frozen=True):
    """A window, oldest first. ``base_tokens`` and ``used_tokens`` are of its rows and the fixed part together."""

    rows: tuple[Row, ...]
    base_tokens: int
    used_tokens: int


class _GrowingWindow:
    """A window as it grows: its rows, each once, and the sum of their tokens."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.rows: dict[int, Row] = {}
        self.base_tokens = 0

    @property
    def used_tokens(self) -> int:
        return self.measure.used(self.base_tokens, len(self.rows))

    def add(self, rows: Iterable[Row]) -> None:
        """Add a row; a later one of the same version takes its place: it may have been read with its content."""
        for row in rows:
            if row.version not in self.rows:
                self.base_tokens += row.tokens
            self.rows[row.version] = row

    def drop(self, row: Row) -> None:
        del self.rows[row.version]
        self.base_tokens -= row.tokens

    def take(self, units: Iterable[Sequence[Row]]) -> list[Row]:
        """Add units while they fit; all rows that were reached."""
        run: list[Row] = []
        rows, measure = self.rows, self.measure
        base, sent, available_tokens = measure.fixed_base_tokens, measure.fixed_messages, measure.available_tokens
        factor_permille, overhead = measure.factor_permille, measure.overhead
        for unit in units:
            tokens, messages = self.base_tokens, len(rows)
            for row in unit:
                if row.version not in rows:
                    tokens += row.tokens
                    messages += 1
            # As ``Measure.used``, which is asked once for each message that is looked at.
            if figure(tokens + base, messages + sent, factor_permille, overhead) > available_tokens:
                break
            self.base_tokens = tokens
            for row in unit:
                rows[row.version] = row
            run += unit
        return run

    def chosen(self) -> ChosenRows:
        rows = tuple([self.rows[version] for version in sorted(self.rows)])
        return ChosenRows(rows, self.base_tokens + self.measure.fixed_base_tokens, self.used_tokens)


def choose(newest_first: Iterable[Row], last_user: Row | None, pinned: Sequence[Row], measure: Measure) -> ChosenRows:
    """Choose a window by ``POLICY``.

    ``newest_first`` holds all messages of the session, the newest first and those of a unit without another between
    them; units that are left out may be missing. It is read only as far as the window reaches, and the one unit further
    that did not fit: the choice costs what the window holds, not what the session holds. ``last_user`` is the newest
    user message that is not left out, None if there is none. ``pinned`` holds every message of every unit in which one
    is pinned, in any order.

    Raises BudgetTooSmall if what is required does not fit. The window is empty only if all messages are left out.
    """
    assert last_user is None or not last_user.left_out, "the last user message must be one that can be sent"
    window = _GrowingWindow(measure)
    units = _units_to_send(newest_first)
    newest = next(units, None)
    if newest is None:
        return window.chosen()
    window.add(_pinned_to_send(pinned))
    if last_user is not None:
        window.add((last_user,))
    window.add(newest)
    _refuse_unless_it_fits(window)
    required = frozenset(window.rows)
    run = window.take(units)
    for row in _before_first_user(reversed(run), last_user):
        if row.role != "system" and row.version not in required:
            window.drop(row)
    return window.chosen()


def take_all(newest_first: Iterable[Row], _: Row | None, __: Sequence[Row], measure: Measure) -> ChosenRows:
    """Take every message that is not left out. Raises BudgetTooSmall if they do not fit: of the reply's reserve, if
    that alone is too large.
    """
    window = _GrowingWindow(measure)
    window.add(row for row in newest_first if not row.left_out)
    field = "max_output_tokens" if measure.available_tokens <= 0 else "budget_tokens"
    _refuse_unless_it_fits(window, "the prompt is too long: system prompt, tools and all messages", field)
    return window.chosen()


Choose = Callable[[Iterable[Row], Row | None, Sequence[Row], Measure], ChosenRows]

POLICIES: Mapping[str, Choose] = {POLICY: choose, WHOLE: take_all}
"""How a window is chosen by each policy; none is ever taken away, so that a recorded window can be chosen again."""


def _units_to_send(newest_first: Iterable[Row]) -> Iterator[list[Row]]:
    """Whole units that are not left out, newest first. A unit ends with its first message, and nothing beyond is read;
    one whose first message is missing is not whole.
    """
    unit: list[Row] = []
    for row in newest_first:
        first = row.unit
        if row.version != first:
            if unit and first != unit[0].unit:
                unit = []
            unit.append(row)
        elif unit and first == unit[0].unit:
            unit.append(row)
            if not any(each.left_out for each in unit):
                yield unit
            unit = []
        else:  # nearly every unit is one message
            if not row.left_out:
                yield [row]
            unit = []


def _pinned_to_send(pinned: Sequence[Row]) -> Iterator[Row]:
    for _, rows in groupby(sorted(pinned, key=lambda row: row.unit), key=lambda row: row.unit):
        unit = list(rows)
        if not any(row.left_out for row in unit):
            yield from unit


def _before_first_user(oldest_first: Iterable[Row], last_user: Row | None) -> Iterator[Row]:
    """The rows before the last exchange with which the run would begin without a user message."""
    if last_user is None:
        return iter(())
    return takewhile(lambda row: row.role != "user" and row.version < last_user.version, oldest_first)


def _refuse_unless_it_fits(window: _GrowingWindow, what: str = REQUIRED, field: str = "budget_tokens") -> None:
    measure, required = window.measure, window.used_tokens
    if required <= measure.available_tokens:
        return
    detail = (
        f"{what} need {required} tokens; {max(0, measure.available_tokens)} are available: "
        f"the budget of {measure.budget_tokens} tokens minus {measure.reserve_tokens} reserved for the reply"
    )
    raise BudgetTooSmall(
        detail,
        required_tokens=required,
        available_tokens=measure.available_tokens,
        budget_tokens=measure.budget_tokens,
        reserve_tokens=measure.reserve_tokens,
        field=field,
    )
