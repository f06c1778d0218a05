"""A session's and a turn's state, folded from their events."""

import msgspec
import pytest

from manent.engine.clock import new_id
from manent.engine.events.session_types import SessionArchived, SessionRestored, SessionStarted, SessionUpdated
from manent.engine.events.turn_types import (
    AttemptEnded,
    AttemptStarted,
    FailureWords,
    ToolCalled,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnInterrupted,
    TurnStarted,
)
from manent.engine.events.types import BlockStart, MessageAppended
from manent.engine.events.usage import Usage
from manent.engine.sessions.state import LastMessage, SessionState, SystemPrompt, evolve
from manent.engine.sessions.turn_state import ERASED_DETAIL, TurnState, add_usage
from tests.support import SESSION, folded, recorded

TURN, OTHER = new_id(), new_id()
STARTED = SessionStarted("echo/echo", 500, 50, 3)
TURN_STARTED = (TurnStarted("a/b", "a"), TURN)
ATTEMPT = AttemptStarted(TURN, 1, 1, "a", "b", "r/1", (2, 3), "00", "c", 1000, 4, 77, 500, 50, "p", system=1)


def appended(role, tokens=5, **fields):
    return MessageAppended(**{"role": role, "tokens": tokens, "counter": "c", "complete": True, "turn": None} | fields)


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_a_session_begins_with_its_first_event():
    """The facts of ``session.started``, the event's place and time, and nothing else."""
    assert folded(STARTED) == SessionState(
        id=SESSION,
        version=1,
        position=1,
        model="echo/echo",
        created_at=1000,
        updated_at=1000,
        budget_tokens=500,
        max_output_tokens=50,
        system=SystemPrompt(1, 3),
    )
    assert folded(SessionStarted("echo/echo")).system is None


def test_nothing_else_begins_a_session():
    """A session that begins with another event is a mistake of ours, and stops there."""
    with pytest.raises(TypeError):
        folded(appended("user"))


def test_every_event_moves_the_session_on():
    """Version, position and time are those of the last event, whatever it was; the beginning stays."""
    state = folded(STARTED, appended("user"), SessionArchived(), SessionRestored())
    assert (state.version, state.position, state.created_at, state.updated_at) == (4, 4, 1000, 4000)
    assert state.status == "active"
    assert folded(STARTED, SessionArchived()).status == "archived"


UPDATES = [
    (SessionUpdated(("model",), model="a/b"), {"model": "a/b", "set_at": {"model": 2}}),
    (SessionUpdated(("budget_tokens",), budget_tokens=7), {"budget_tokens": 7}),
    (SessionUpdated(("budget_tokens",)), {"budget_tokens": None}),
    (SessionUpdated(("max_output_tokens",)), {"max_output_tokens": None}),
    (SessionUpdated(("system",), system_tokens=9), {"system": SystemPrompt(2, 9), "set_at": {"system": 2}}),
    (SessionUpdated(("system",)), {"system": None, "set_at": {"system": 2}}),
    (SessionUpdated(("title",), model="not named", budget_tokens=1, system_tokens=8), {"set_at": {"title": 2}}),
    (SessionUpdated(()), {}),
]


@pytest.mark.parametrize(("facts", "changes"), UPDATES, ids=repr)
def test_an_update_sets_what_it_names(facts, changes):
    """Only the named fields change, also to null; a prompt stands where it was last set."""
    before, after = folded(STARTED), folded(STARTED, facts)
    assert after == msgspec.structs.replace(before, version=2, position=2, updated_at=2000, **changes)


def test_messages_are_counted():
    """Number and tokens run on, incomplete ones included."""
    state = folded(STARTED, appended("user", 5), appended("assistant", 7, complete=False), appended("user", 1))
    assert (state.message_count, state.base_tokens) == (3, 13)
    assert state.last == LastMessage(4, 4, "user", 4, 1)
    assert state.last_user == state.last
    state = folded(STARTED, appended("user", 5), appended("assistant", 7, complete=False))
    assert (state.last, state.last_user.version) == (LastMessage(3, 3, "assistant", 3, 7, complete=False), 2)


def test_calls_are_open_until_their_results_are_there():
    """Calls open in the order they were made; each result closes its own; what broke off opened none."""
    calls = appended("assistant", calls=("a", "b", "c"))
    assert folded(STARTED, calls).open_calls == ("a", "b", "c")
    assert folded(STARTED, calls, appended("tool", results=("b",))).open_calls == ("a", "c")
    assert (
        folded(STARTED, calls, appended("tool", results=("b",)), appended("tool", results=("c", "a"))).open_calls == ()
    )
    assert folded(STARTED, appended("assistant", calls=("a",), complete=False)).open_calls == ()


def test_results_belong_to_the_unit_of_their_call():
    """A unit is named by the version of its first message; every other message is its own."""
    state = folded(STARTED, appended("assistant", calls=("a", "b")))
    assert state.last.unit == 2
    for number in (3, 4):
        facts = appended("tool", results=("ab"[number - 3],))
        state = evolve(state, recorded(facts, number), facts)
        assert state.last.unit == 2
    assert evolve(state, recorded(appended("user"), 5), appended("user")).last.unit == 5


def test_a_partial_answer_that_is_answered_anew_is_remembered_as_such():
    """``turn.started`` names it; another position names another."""
    partial = appended("assistant", complete=False)
    anew = TurnStarted("a/b", "a", supersedes=3)
    assert folded(STARTED, appended("user"), partial, anew).last.superseded
    other = TurnStarted("a/b", "a", supersedes=2)
    assert not folded(STARTED, appended("user"), partial, other).last.superseded


def test_usage_adds_up_over_a_sessions_attempts():
    """What is not reported stays unknown, and one estimate makes the sum an estimate."""
    one = AttemptEnded(TURN, 1, 1, "completed", 5, usage=Usage(10, None, None, 4, None))
    two = AttemptEnded(TURN, 1, 2, "completed", 5, usage=Usage(1, 2, None, None, None, estimated=True))
    state = folded(STARTED, TURN_STARTED, ATTEMPT, one, ATTEMPT, two)
    assert state.usage == Usage(11, 2, None, 4, None, estimated=True)


@pytest.mark.parametrize(
    ("one", "other", "total"),
    [
        (None, None, None),
        (Usage(1), None, Usage(1)),
        (None, Usage(1), Usage(1)),
        (Usage(1, 2, 3, 4, 5), Usage(10, 20, 30, 40, 50), Usage(11, 22, 33, 44, 55)),
        (Usage(), Usage(0), Usage(0)),
        (Usage(estimated=True), Usage(2), Usage(2, estimated=True)),
    ],
)
def test_usages_are_added(one, other, total):
    """Field by field; unknown and something is something."""
    assert add_usage(one, other) == total


# --- turns ------------------------------------------------------------------------------------------------------------


def test_a_turn_is_open_from_its_start_to_its_end():
    """The session knows its open turn; an ended one is kept until the next event, and then forgotten."""
    state = folded(STARTED, TURN_STARTED)
    assert state.open_turn == state.turn == TurnState(TURN, SESSION, 2, "a/b", "a", 2000)
    state = folded(STARTED, TURN_STARTED, TurnCompleted(TURN, 2, "end_turn"))
    assert state.open_turn is None
    assert state.turn.id == TURN
    assert folded(STARTED, TURN_STARTED, TurnCompleted(TURN, 2, "end_turn"), appended("user")).turn is None
    state = folded(STARTED, TURN_STARTED, TurnCompleted(TURN, 2, "end_turn"), (TurnStarted("c/d", "c"), OTHER))
    assert (state.open_turn.id, state.open_turn.model) == (OTHER, "c/d")


ENDS = [
    (
        TurnCompleted(TURN, 9, "max_tokens", "length"),
        None,
        {"status": "completed", "stop_reason": "max_tokens", "vendor_stop_reason": "length"},
    ),
    (
        TurnFailed(TURN, 9, "x", retryable=True),
        FailureWords("so"),
        {"status": "failed", "error_code": "x", "error_detail": "so", "error_retryable": True},
    ),
    (TurnFailed(TURN, 9, "x"), None, {"status": "failed", "error_code": "x", "error_detail": ERASED_DETAIL}),
    (TurnCancelled(TURN, 9), None, {"status": "cancelled"}),
    (TurnInterrupted(TURN, 9, "shutdown"), None, {"status": "interrupted"}),
]


@pytest.mark.parametrize(
    ("facts", "words", "changes"), ENDS, ids=["completed", "failed", "failed and erased", "cancelled", "interrupted"]
)
def test_a_turn_ends_in_one_of_four_ways(facts, words, changes):
    """Its status and what belongs to it; the last frame, the version and the time of the end. An erased detail is said
    to be erased.
    """
    before = folded(STARTED, TURN_STARTED).turn
    after = folded(STARTED, TURN_STARTED, (facts, new_id(), words)).turn
    assert after == msgspec.structs.replace(before, ended_at=3000, end_version=3, frame=9, **changes)


def test_an_attempt_is_part_of_its_turn():
    """What it was sent, as counted; how it ended; when the first chunk came, from the turn's start."""
    turn = folded(STARTED, TURN_STARTED, ATTEMPT).turn
    (attempt,) = turn.attempts
    assert (attempt.messages, attempt.base_tokens, attempt.started_at, attempt.outcome) == (3, 77, 3000, None)
    ended = AttemptEnded(TURN, 1, 1, "completed", 8, first_chunk_ms=6, usage=Usage(10, output_tokens=2))
    turn = folded(STARTED, TURN_STARTED, ATTEMPT, ended).turn
    assert (turn.attempts[0].outcome, turn.attempts[0].duration_ms, turn.attempts[0].first_chunk_ms) == (
        "completed",
        8,
        6,
    )
    assert turn.first_chunk_ms == 1 + 6
    assert turn.usage == turn.attempts[0].usage == Usage(10, output_tokens=2)
    assert turn.status == "running"


def test_a_second_attempt_goes_on_with_the_turn():
    """Usage adds up, the first first chunk counts, and a frame of a failed attempt moves the turn on."""
    failed = AttemptEnded(TURN, 1, 1, "provider_unavailable", 8, usage=Usage(1), frame=2)
    second = msgspec.structs.replace(ATTEMPT, attempt=2)
    ended = AttemptEnded(TURN, 1, 2, "completed", 8, first_chunk_ms=4, usage=Usage(2))
    turn = folded(STARTED, TURN_STARTED, ATTEMPT, failed, second, ended).turn
    assert [attempt.outcome for attempt in turn.attempts] == ["provider_unavailable", "completed"]
    assert (turn.usage.input_tokens, turn.frame, turn.first_chunk_ms) == (3, 2, 3 + 4)


def test_frames_are_counted_by_what_has_one():
    """The turn's last recorded frame is that of its last event with a frame."""
    message = appended("assistant", turn=TURN, calls=("a",), frame=6, blocks=(BlockStart(2, 0, "text"),))
    called = ToolCalled(TURN, "a", "f", 4, 7)
    assert folded(STARTED, TURN_STARTED, message).turn.frame == 6
    assert folded(STARTED, TURN_STARTED, message, called).turn.frame == 7


def test_what_is_not_the_turns_does_not_touch_it():
    """Updates of the session, and events that name another turn, leave a running turn as it is."""
    before = folded(STARTED, TURN_STARTED).turn
    for facts in (
        SessionUpdated(("title",)),
        appended("user"),
        appended("assistant", turn=OTHER, frame=5),
        TurnCompleted(OTHER, 9, "end_turn"),
        msgspec.structs.replace(ATTEMPT, turn=OTHER),
        ToolCalled(OTHER, "a", "f", 4, 7),
    ):
        assert folded(STARTED, TURN_STARTED, facts).turn == before


def test_states_are_json_and_come_back():
    """A state is stored as JSON; read again it is the same."""
    partial = appended("assistant", turn=TURN, complete=False, frame=3)
    state = folded(STARTED, appended("user"), TURN_STARTED, ATTEMPT, partial, (TurnFailed(TURN, 4, "x"), new_id()))
    assert msgspec.json.decode(msgspec.json.encode(state), type=SessionState) == state
    assert msgspec.json.decode(msgspec.json.encode(state.turn), type=TurnState) == state.turn


def test_states_hold_no_words():
    """Of what somebody wrote only the detail of a failure is in a state, and it is ours."""
    history = [STARTED, (SessionUpdated(("title",)), new_id()), appended("user"), TURN_STARTED, ATTEMPT]
    names = set(msgspec.to_builtins(folded(*history)))
    assert names.isdisjoint({"title", "metadata", "content", "words"})
