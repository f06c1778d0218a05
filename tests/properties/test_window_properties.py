"""Windows of any history, against a reference that is slow and plain."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manent.engine.context.window import Measure, choose
from manent.engine.errors import BudgetTooSmall
from manent.engine.sessions.state import Row

TOKENS = st.integers(0, 30)


@st.composite
def histories(draw):
    """Rows, oldest first: messages, calls with their results, some pinned, some left out."""
    rows = []
    for _ in range(draw(st.integers(0, 14))):
        unit = len(rows) + 1
        role = draw(st.sampled_from(["user", "user", "assistant", "assistant", "system"]))
        results = draw(st.integers(0, 3)) if role == "assistant" else 0
        for each in [role, *["tool"] * results]:
            version = len(rows) + 1
            pinned, left_out = draw(st.integers(0, 9)) == 0, draw(st.integers(0, 9)) == 0
            rows.append(Row(version, 3 * version, each, draw(TOKENS), unit, pinned, left_out))
    return rows


MEASURES = st.builds(
    Measure,
    factor_permille=st.integers(500, 6000),
    overhead=st.integers(0, 12),
    fixed_base_tokens=st.integers(0, 40),
    fixed_messages=st.integers(0, 1),
    budget_tokens=st.integers(0, 900),
    reserve_tokens=st.integers(0, 60),
)


class Setting:
    """A history as its caller hands it over, and how much of it was read."""

    def __init__(self, rows):
        self.rows = rows
        self.read = []
        units = {}
        for row in rows:
            units.setdefault(row.unit, []).append(row)
        self.units = [unit for unit in units.values() if not any(row.left_out for row in unit)]
        users = [row for row in rows if row.role == "user" and not row.left_out]
        self.last_user = users[-1] if users else None
        pinned_units = {row.unit for row in rows if row.pinned}
        self.pinned = [row for row in rows if row.unit in pinned_units]

    def stream(self):
        for row in reversed(self.rows):
            self.read.append(row)
            yield row

    def choose(self, measure):
        self.read.clear()
        return choose(self.stream(), self.last_user, self.pinned, measure)

    def required(self):
        """Versions that every window holds."""
        return {
            row.version
            for unit in self.units
            if unit is self.units[-1] or unit[0] == self.last_user or any(each.pinned for each in unit)
            for row in unit
        }

    def run(self, first):
        """Versions of the required and of all units from the one numbered ``first`` on."""
        return self.required() | {row.version for unit in self.units[first:] for row in unit}

    def trimmed(self, first):
        """The same, without the assistant and tool messages before the run's first user message, if there is one."""
        run = self.run(first)
        if self.last_user is None:
            return run
        for unit in self.units[first:]:
            if unit[0].role == "user":
                break
            if unit[0].role != "system" and unit[0].version < self.last_user.version:
                run -= {row.version for row in unit} - self.required()
        return run

    def cost(self, versions, measure):
        """The model's count, as the issue states it: exact, rounded up once."""
        base = sum(row.tokens for row in self.rows if row.version in versions) + measure.fixed_base_tokens
        quotient, rest = divmod(base * measure.factor_permille, 1000)
        return quotient + (rest > 0) + measure.overhead * (len(versions) + measure.fixed_messages)

    def reference(self, measure):
        """The longest run that fits with the required; None if these alone do not."""
        available = measure.budget_tokens - measure.reserve_tokens
        fitting = [first for first in range(len(self.units)) if self.cost(self.run(first), measure) <= available]
        return self.trimmed(fitting[0]) if fitting else None


def versions(chosen):
    return [row.version for row in chosen.rows]


@given(histories(), MEASURES)
def test_the_window_is_the_reference_window(rows, measure):
    """Lazy and plain choose alike, and refuse alike."""
    setting = Setting(rows)
    if not setting.units:
        assert setting.choose(measure).rows == ()
        return
    expected = setting.reference(measure)
    if expected is None:
        with pytest.raises(BudgetTooSmall) as refusal:
            setting.choose(measure)
        assert refusal.value.extra["required_tokens"] == setting.cost(setting.required(), measure)
        assert refusal.value.extra["required_tokens"] > refusal.value.extra["available_tokens"]
    else:
        assert versions(setting.choose(measure)) == sorted(expected)


@given(histories(), MEASURES)
def test_a_window_keeps_its_promises(rows, measure):
    """In order, whole units, nothing left out, what is required, within the budget, and a run without a gap."""
    setting = Setting(rows)
    try:
        chosen = setting.choose(measure)
    except BudgetTooSmall:
        return
    found = versions(chosen)
    assert found == sorted(set(found))
    assert bool(found) == bool(setting.units)
    assert set(found) >= (setting.required() if setting.units else set())
    for unit in setting.units:
        assert len({row.version for row in unit} & set(found)) in {0, len(unit)}
    assert set(found) <= {row.version for unit in setting.units for row in unit}
    assert chosen.base_tokens == sum(row.tokens for row in chosen.rows) + measure.fixed_base_tokens
    assert chosen.used_tokens == setting.cost(set(found), measure)
    if found:
        assert chosen.used_tokens <= measure.budget_tokens - measure.reserve_tokens
    assert any(found == sorted(setting.trimmed(first)) for first in range(len(setting.units))) or not found


@given(histories(), MEASURES)
def test_only_one_unit_beyond_the_window_is_read(rows, measure):
    """What was read is what the run holds, what was left out on the way, and the unit that did not fit."""
    setting = Setting(rows)
    try:
        setting.choose(measure)
    except BudgetTooSmall:
        in_run = setting.units[-1:]
    else:
        available = measure.budget_tokens - measure.reserve_tokens
        in_run = [
            unit for first, unit in enumerate(setting.units) if setting.cost(setting.run(first), measure) <= available
        ]
    sendable = {row.version for unit in setting.units for row in unit}
    read = [row for row in setting.read if row.version in sendable]
    beyond = {row.unit for row in read} - {unit[0].unit for unit in in_run}
    assert len(beyond) <= 1


@given(histories(), MEASURES, st.integers(0, 300))
def test_a_larger_budget_takes_no_message_away(rows, measure, more):
    """What was in the window stays in it."""
    setting = Setting(rows)
    larger = msgspec.structs.replace(measure, budget_tokens=measure.budget_tokens + more)
    try:
        before = versions(setting.choose(measure))
    except BudgetTooSmall:
        return
    assert set(before) <= set(versions(setting.choose(larger)))
