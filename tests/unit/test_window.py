"""The choice of a window, case by case.

A history is written as words: ``U A S`` are messages of user, assistant and system, ``A+2`` is a call with two results.
Every message costs one token and no overhead unless a case says otherwise. ``!`` pins a message's unit, ``-`` leaves it
out. A window is written as the versions in it.
"""

import msgspec
import pytest

from manent.engine.context.window import POLICY, Measure, choose
from manent.engine.errors import BudgetTooSmall
from manent.engine.sessions.state import Row

ROLES = {"U": "user", "A": "assistant", "S": "system"}


def measure(budget_tokens, **changes):
    plain = Measure(
        factor_permille=1000,
        overhead=0,
        fixed_base_tokens=0,
        fixed_messages=0,
        budget_tokens=budget_tokens,
        reserve_tokens=0,
    )
    return msgspec.structs.replace(plain, **changes)


def history(words):
    """Rows, oldest first."""
    rows = []
    for word in words.split():
        unit = len(rows) + 1
        results = int(word[2]) if "+" in word else 0
        for role in [ROLES[word[0]], *["tool"] * results]:
            version = len(rows) + 1
            rows.append(Row(version, 100 + version, role, 1, unit, pinned=role != "tool" and "!" in word))
        if "-" in word:
            rows[-1] = msgspec.structs.replace(rows[-1], left_out=True)
    return rows


def window(rows, limits):
    """What the caller does: the stream, the last user message, and the units that are pinned."""
    users = [row for row in rows if row.role == "user" and not row.left_out]
    pinned = {row.unit for row in rows if row.pinned}
    return choose(reversed(rows), users[-1] if users else None, [row for row in rows if row.unit in pinned], limits)


def versions(chosen):
    return [row.version for row in chosen.rows]


def test_what_was_read_with_its_content_is_kept():
    """Where a message is required and reached too, the window has the row that was read, which has its content."""
    rows = history("U! A U A")
    again = [msgspec.structs.replace(row) for row in rows]
    chosen = choose(reversed(rows), again[2], again[:1], measure(4))
    assert [id(row) for row in chosen.rows] == [id(row) for row in rows]


CASES = {
    "all of it fits": ("U A U A U", 5, [1, 2, 3, 4, 5]),
    "one less, and the run begins at the next user message": ("U A U A U", 4, [3, 4, 5]),
    "a leading assistant message is dropped": ("U A U A U", 2, [5]),
    "only the last user message": ("U A U A U", 1, [5]),
    "an assistant's greeting is dropped": ("A U A U", 4, [2, 3, 4]),
    "leading calls and results are dropped together": ("U A+2 U A U", 6, [5, 6, 7]),
    "a unit is taken whole or not at all": ("U A+3 A U", 5, [7]),
    "the same unit with room for it": ("U A+3 A U", 7, [1, 2, 3, 4, 5, 6, 7]),
    "in the last exchange the oldest calls go first": ("U A U A+1 A+1 A+1", 5, [3, 6, 7, 8, 9]),
    "in the last exchange nothing before a gap is taken": ("U A U A+3 A+1", 5, [3, 8, 9]),
    "the user message stays with the last unit": ("U A U A+1 A+1 A+1", 3, [3, 8, 9]),
    "the whole exchange, and then what is before it": ("U A U A+1 A+1", 7, [1, 2, 3, 4, 5, 6, 7]),
    "an assistant's answer after the last user message": ("U A U A", 2, [3, 4]),
    "pinned however far back": ("U A! U A U", 2, [2, 5]),
    "pinned with its whole unit": ("U A+2! U A U A U", 4, [2, 3, 4, 9]),
    "pinned inside the run costs once": ("U A U! A U", 5, [1, 2, 3, 4, 5]),
    "a pinned user message that the run reached begins it": ("U! A U A U", 5, [1, 2, 3, 4, 5]),
    "a pinned user message beyond the run does not": ("U! A U A U A U", 4, [1, 5, 6, 7]),
    "a pinned assistant message in front stays alone": ("A! A U A U", 5, [1, 3, 4, 5]),
    "two pinned": ("U! A U A! U A U", 3, [1, 4, 7]),
    "the last user message is pinned": ("U A U!", 1, [3]),
    "left out costs nothing and does not stop the run": ("U A U- A- U", 3, [1, 2, 5]),
    "a unit with one message left out is left out whole": ("U A+2- U A U", 4, [1, 5, 6, 7]),
    "the newest units are left out": ("U A U A- A+1-", 3, [1, 2, 3]),
    "the last user message is left out, and the one before is the last": ("U A U A+1 U- A+1", 5, [3, 4, 5, 7, 8]),
    "pinned and left out": ("U- A+1-! U A U", 3, [4, 5, 6]),
    "a system message in front is kept": ("S U A U", 4, [1, 2, 3, 4]),
    "a system message before a dropped greeting is kept": ("S A U A U", 5, [1, 3, 4, 5]),
    "a system message that the run did not reach is dropped": ("S U A U", 3, [2, 3, 4]),
    "only a system message before the last user message": ("S U", 2, [1, 2]),
    "no user message at all": ("A A A", 2, [2, 3]),
    "system and assistant messages alone": ("S A", 2, [1, 2]),
    "the last message is a system message": ("U A U S", 2, [3, 4]),
    "one message": ("U", 1, [1]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_window_holds_the_newest_units_that_fit(name):
    """The policy's rules, each where it decides."""
    words, budget_tokens, expected = CASES[name]
    chosen = window(history(words), measure(budget_tokens))
    assert versions(chosen) == expected
    assert chosen.base_tokens == chosen.used_tokens == len(expected)


@pytest.mark.parametrize("words", ["", "U-", "U- A+2- U-", "U-! A-!"])
def test_nothing_to_send_is_an_empty_window(words):
    """Whoever asked for it says that there is nothing to answer."""
    assert window(history(words), measure(100, fixed_base_tokens=7)).rows == ()


TOO_SMALL = {
    "the last user message": ("U A U", measure(0), 1),
    "the last unit with the user message": ("U A+2", measure(3), 4),
    "pinned": ("U! A! U A U", measure(2), 3),
    "a pinned unit's results": ("U A+3! U A U", measure(4), 5),
    "system prompt and tools": ("U", measure(10, fixed_base_tokens=10), 11),
    "the system prompt's overhead": ("U", measure(9, fixed_base_tokens=1, fixed_messages=1, overhead=4), 10),
    "factor": ("U", measure(1, factor_permille=1001), 2),
    "reserve": ("U A", measure(10, reserve_tokens=9), 2),
    "reserve above the budget": ("U A", measure(10, reserve_tokens=11), 2),
}


@pytest.mark.parametrize("name", TOO_SMALL)
def test_a_required_set_that_does_not_fit_is_refused_with_figures(name):
    """Never an empty window, and never a silent cut of what must be there."""
    words, limits, required_tokens = TOO_SMALL[name]
    with pytest.raises(BudgetTooSmall) as refusal:
        window(history(words), limits)
    assert refusal.value.extra == {
        "required_tokens": required_tokens,
        "available_tokens": limits.budget_tokens - limits.reserve_tokens,
        "budget_tokens": limits.budget_tokens,
        "reserve_tokens": limits.reserve_tokens,
        "field": "budget_tokens",
    }
    assert str(required_tokens) in refusal.value.detail
    assert versions(window(history(words), msgspec.structs.replace(limits, budget_tokens=limits.budget_tokens + 20)))


def test_the_measure_rounds_once():
    """Three messages of one token at 1.5 are five tokens, and not six."""
    limits = measure(5, factor_permille=1500)
    assert versions(window(history("U A U"), limits)) == [1, 2, 3]
    assert limits.used(3, 3) == 5


def test_used_tokens_hold_the_fixed_part_and_leave_the_reserve():
    """System prompt, tools and overhead are in the figure; the reply's reserve is not."""
    limits = measure(100, factor_permille=1250, overhead=8, fixed_base_tokens=10, fixed_messages=1, reserve_tokens=50)
    chosen = window(history("U A U A U"), limits)
    assert versions(chosen) == [3, 4, 5]
    assert chosen.base_tokens == 13
    assert chosen.used_tokens == 17 + 4 * 8
    assert limits.used(3, 3) <= limits.available_tokens < limits.used(4, 4)


def test_pinned_rows_may_come_in_any_order():
    """The window is in order, however its parts came."""
    rows = history("U A+1! U! A U A U")
    pinned = [rows[3], rows[2], rows[1]]
    chosen = choose(reversed(rows), rows[-1], pinned, measure(4))
    assert versions(chosen) == [2, 3, 4, 8]


@pytest.mark.parametrize("missing", ["the call", "call and results"])
def test_a_unit_that_the_stream_lacks_is_left_out(missing):
    """Results without their call are not sent, nor joined to the unit before them."""
    rows = history("U A U A+2 U A U")
    gone = [4] if missing == "the call" else [4, 5, 6]
    stream = (row for row in reversed(rows) if row.version not in gone)
    assert versions(choose(stream, rows[-1], (), measure(100))) == [1, 2, 3, 7, 8, 9]


def test_a_long_session_costs_what_the_window_holds():
    """Of 100,000 messages, those of the window and one unit more are read."""
    rows = history("U A " * 50_000)[:-1]
    read = []

    def stream():
        for row in reversed(rows):
            read.append(row.version)
            yield row

    chosen = choose(stream(), rows[-1], (), measure(41))
    assert len(chosen.rows) == 41
    assert len(read) == 42


def test_a_last_user_message_that_is_left_out_is_a_mistake():
    """The caller names one that can be sent."""
    rows = history("U-")
    with pytest.raises(AssertionError):
        choose(reversed(rows), rows[0], (), measure(10))


def test_the_policy_has_a_name_and_a_version():
    """It is recorded with every attempt, and rules that change change it."""
    assert POLICY == "newest-units/1"
