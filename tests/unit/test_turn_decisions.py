"""Commands on a turn as given, when, then: what has happened, what is commanded, and what follows of it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manent.engine.clock import new_id
from manent.engine.errors import (
    EngineError,
    NoDecisionAwaited,
    Overloaded,
    ProviderRejected,
    ProviderUnavailable,
    StoreFull,
    TurnLimitReached,
    TurnNotOpen,
)
from manent.engine.events.blocks import TextBlock, ToolOutcome, ToolResultBlock, ToolUseBlock, read_blocks
from manent.engine.events.session_types import SessionStarted
from manent.engine.events.turn_types import (
    AttemptEnded,
    AttemptEndedWords,
    AttemptStarted,
    AttemptWords,
    CompletionWords,
    DecisionWords,
    ToolApproved,
    ToolCalled,
    ToolRefused,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnInterrupted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
    TurnWords,
)
from manent.engine.events.types import BlockStart, MessageAppended
from manent.engine.events.usage import Usage
from manent.engine.providers import tokens
from manent.engine.sessions.turn_commands import (
    AttemptResult,
    Decision,
    ReceivedMessage,
    StartAttempt,
    TurnEnd,
    TurnPlace,
    TurnStop,
)
from manent.engine.sessions.turn_decisions import (
    MAX_RETRY_AFTER_S,
    cancel_paused,
    decide_call,
    end_round,
    end_turn,
    estimated_usage,
    open_turn_of,
    pause_turn,
    retry_attempt,
    return_tool,
    start_attempt,
)
from tests.support import folded

TURN, OTHER, MESSAGE = new_id(), new_id(), new_id()
STARTED = SessionStarted("a/b")
OPEN = (TurnStarted("a/b", "a"), TURN, TurnWords(client_tools=("theirs",)))
ATTEMPT = AttemptStarted(TURN, 1, 1, "a", "b", "r/1", (1,), "00", "c", 1500, 4, 77, 500, 50, "p", tools="0" * 64)
ASKED = AttemptEnded(TURN, 1, 1, "completed")
CALLED = ToolCalled(TURN, "a", "ours", 5, 10, "server")
CALLED_TOO = ToolCalled(TURN, "b", "ours", 5, 11, "server")
THEIRS = ToolCalled(TURN, "c", "theirs", 5, 12, "client")
PAUSED = TurnPaused(TURN, 13, ("a", "b"))
RUNNING = (STARTED, OPEN, ATTEMPT)
CALLING = (*RUNNING, ASKED, CALLED, CALLED_TOO)
WAITING = (*CALLING, PAUSED)
PLACE = TurnPlace(frame=20, position=31, calls=7)
TEXT = (TextBlock("Hello é"),)
MIXED = (*TEXT, ToolUseBlock("a", "ours", {"x": 1}, '{"x":1}'), ToolUseBlock("c", "theirs", {}, "{}"))
WORDS = AttemptEndedWords(response_id="r")


def turn_after(*given):
    return folded(*given).open_turn


def said(content=TEXT, starts=()):
    return ReceivedMessage(MESSAGE, content, starts, b"cuts")


def of(kind, drafts):
    """The facts of the only event of this kind."""
    (facts,) = [draft.facts for draft in drafts if isinstance(draft.facts, kind)]
    return facts


def kinds(drafts):
    return [draft.facts.event_type for draft in drafts]


# --- rounds -----------------------------------------------------------------------------------------------------------


def test_an_attempt_starts_with_one_event():
    """Its facts and words as they were planned; the turn led to it and acts in it, whoever started the turn."""
    words = AttemptWords(b"salt", ("stop",))
    (draft,) = start_attempt(StartAttempt(ATTEMPT, words))
    assert (draft.facts, draft.words, draft.causation, draft.actor) == (ATTEMPT, words, TURN, f"turn:{TURN}")


def test_a_round_ends_with_its_message_and_its_calls():
    """Attempt, message, each call in order: frames are numbered on, calls point to their message and name who runs
    them.
    """
    starts = (BlockStart(2, 0, "text"),)
    result = AttemptResult("completed", 5, said(MIXED, starts), 3, usage=Usage(1, output_tokens=2), words=WORDS)
    drafts = end_round(turn_after(*RUNNING), PLACE, result, ["ours"])
    ended, message, *called = (draft.facts for draft in drafts)
    assert ended == AttemptEnded(
        TURN, 1, 1, "completed", duration_ms=5, first_chunk_ms=3, usage=Usage(1, output_tokens=2)
    )
    assert message == MessageAppended(
        "assistant",
        tokens.count_content(MIXED),
        tokens.COUNTER,
        True,
        TURN,
        ("c8", "c9"),
        frame=21,
        blocks=starts,
        model="a/b",
    )
    assert called == [
        ToolCalled(TURN, "c8", "ours", 32, 22, "server", 0),
        ToolCalled(TURN, "c9", None, 32, 23, "client", 1),
    ]
    assert (drafts[0].words, drafts[1].id, drafts[1].words.cuts) == (WORDS, MESSAGE, b"cuts")
    assert read_blocks(drafts[1].words.content) == MIXED
    assert {draft.causation for draft in drafts} == {TURN}


def test_a_call_of_a_tool_that_was_not_offered_is_the_servers():
    """Nobody else would answer it: the model gets a result that says so."""
    started = (TurnStarted("a/b", "a"), TURN)
    drafts = end_round(turn_after(STARTED, started, ATTEMPT), PLACE, AttemptResult("completed", 5, said(MIXED)))
    assert [draft.facts.runner for draft in drafts[2:]] == ["server", "server"]


def test_an_answer_that_broke_off_opens_no_call():
    """What came is kept as an incomplete message without calls; its words are the blocks as they stood."""
    error = ProviderUnavailable("gone", status=529, vendor_code="overloaded")
    drafts = end_round(turn_after(*RUNNING), PLACE, AttemptResult(error.code, 5, said(MIXED), error=error))
    ended, message = (draft.facts for draft in drafts)
    assert (message.complete, message.calls, message.frame) == (False, (), 21)
    assert (ended.outcome, ended.status, ended.vendor_code) == ("provider_unavailable", 529, None)
    assert ended.retryable
    assert read_blocks(drafts[1].words.content) == MIXED


def test_an_attempt_that_is_retried_is_told_to_readers():
    """One event with a frame, and no message: nothing of the answer was shown."""
    error = ProviderUnavailable("gone", status=529)
    (draft,) = retry_attempt(turn_after(*RUNNING), PLACE, AttemptResult(error.code, 5, error=error, words=WORDS))
    assert (draft.facts.frame, draft.facts.outcome, draft.words) == (21, "provider_unavailable", WORDS)
    assert draft.facts.usage == Usage(input_tokens=0, output_tokens=0)


def test_a_tool_returns_with_a_message():
    """The return names the message that follows it, which answers the call with the tool's output."""
    call, outcome = turn_after(*CALLING).open_calls[0], ToolOutcome("tool_failed", "It broke.", True, 7, 9)
    returned, message = return_tool(turn_after(*CALLING), PLACE, call, outcome)
    assert returned.facts == ToolReturned(TURN, "a", "ours", 32, 21, "tool_failed", True, 7, 9)
    content = (ToolResultBlock("a", "It broke.", is_error=True),)
    assert message.facts == MessageAppended(
        "tool", tokens.count_content(content), tokens.COUNTER, True, TURN, results=("a",), frame=22
    )
    assert read_blocks(message.words.content) == content
    assert returned.causation == message.causation == TURN


def test_events_are_appended_to_an_open_turn_only():
    """To the turn that is open, and to no other; not to one that has ended."""
    assert open_turn_of(folded(*RUNNING), TURN).id == TURN
    for state, turn in ((folded(*RUNNING), OTHER), (folded(STARTED), TURN), (folded(*RUNNING, TURN_ENDED), TURN)):
        with pytest.raises(TurnNotOpen):
            open_turn_of(state, turn)


TURN_ENDED = TurnCompleted(TURN, 2, "end_turn")


# --- pauses -----------------------------------------------------------------------------------------------------------


def test_a_turn_pauses_for_the_calls_that_wait():
    """One event, in a frame of its own, names them."""
    (draft,) = pause_turn(turn_after(*CALLING), PLACE, ("a", "b"))
    assert (draft.facts, draft.causation) == (TurnPaused(TURN, 21, ("a", "b")), TURN)


DECISIONS = {
    "yes": (WAITING, Decision("a", approve=True), [ToolApproved(TURN, "a", 14)]),
    "no": (WAITING, Decision("b", approve=False), [ToolRefused(TURN, "b", 14)]),
    "the last one": (
        (*WAITING, ToolApproved(TURN, "a", 14)),
        Decision("b", approve=True),
        [ToolApproved(TURN, "b", 15), TurnResumed(TURN, 16)],
    ),
    "the last one is no": (
        (*WAITING, ToolApproved(TURN, "b", 14)),
        Decision("a", approve=False),
        [ToolRefused(TURN, "a", 15), TurnResumed(TURN, 16)],
    ),
}


@pytest.mark.parametrize(("given", "decision", "facts"), DECISIONS.values(), ids=DECISIONS)
def test_a_call_is_decided_on(given, decision, facts):
    """A decision is an event; with the last that it waits for, the turn is resumed."""
    drafts = decide_call(turn_after(*given), decision)
    assert [draft.facts for draft in drafts] == facts
    assert {draft.causation for draft in drafts} == {TURN}
    assert [draft.words for draft in drafts] == [None] * len(facts)
    drafts = decide_call(turn_after(*given), msgspec.structs.replace(decision, reason="Because."))
    assert [draft.words for draft in drafts][:1] == [DecisionWords("Because.")]


@pytest.mark.parametrize(
    ("given", "call", "extra"),
    [
        (CALLING, "a", {"turn_status": "running"}),
        (WAITING, "c", {"field": "tool_use_id"}),
        ((*WAITING, ToolApproved(TURN, "a", 14)), "a", {"field": "tool_use_id"}),
        ((*WAITING, ToolApproved(TURN, "a", 14), ToolApproved(TURN, "b", 15), TurnResumed(TURN, 16)), "b", None),
    ],
    ids=["it runs", "another call", "decided already", "resumed"],
)
def test_a_decision_that_nobody_waits_for_is_refused(given, call, extra):
    """The refusal says whether the turn waits at all, or for other calls."""
    with pytest.raises(NoDecisionAwaited) as refused:
        decide_call(turn_after(*given), Decision(call, approve=True))
    assert refused.value.extra == (extra or {"turn_status": "running"})


def test_a_paused_turn_is_cancelled():
    """Its calls get a result each, and its end says who cancelled it; frames go on from its own."""
    drafts = cancel_paused(turn_after(*WAITING), TURN, "key:1", position=31)
    returned = ["tool.returned", "message.appended"]
    assert kinds(drafts) == [*returned, *returned, "turn.cancelled"]
    assert [draft.facts.frame for draft in drafts] == [14, 15, 16, 17, 18]
    assert [draft.facts.message for draft in drafts if isinstance(draft.facts, ToolReturned)] == [32, 34]
    assert drafts[-1].actor == "key:1"


@pytest.mark.parametrize("given", [CALLING, (STARTED,), (*WAITING, TurnCancelled(TURN, 14))])
def test_a_turn_that_does_not_wait_is_left_alone(given):
    """One that was resumed, or has ended, before it could be cancelled gets no event."""
    assert cancel_paused(turn_after(*given), TURN, "key:1", position=31) == []
    assert cancel_paused(turn_after(*WAITING), OTHER, "key:1", position=31) == []


# --- ends -------------------------------------------------------------------------------------------------------------


def test_a_whole_answer_ends_its_turn():
    """Attempt, message, the callers' call, the turn's end: the calls are theirs to make now."""
    content = (*TEXT, ToolUseBlock("c", "theirs", {}, "{}"))
    result = AttemptResult("completed", 5, said(content), stop_reason="tool_use", vendor_stop_reason="tool_calls")
    drafts = end_turn(turn_after(*RUNNING), PLACE, TurnEnd.with_attempt(result))
    assert kinds(drafts) == ["attempt.ended", "message.appended", "tool.called", "turn.completed"]
    assert drafts[-1].facts == TurnCompleted(TURN, 23, "tool_use", "tool_calls")
    assert (drafts[-1].actor, drafts[-1].causation) == (None, TURN)


ERROR = ProviderUnavailable("gone", status=529, vendor_code="overloaded")
ENDS = {
    "completed": (TurnEnd(), TurnCompleted(TURN, 21, "end_turn"), None),
    "completed for a reason": (
        TurnEnd(stop_reason="tool_use", vendor_stop_reason="tool_calls"),
        TurnCompleted(TURN, 21, "tool_use", "tool_calls"),
        None,
    ),
    "failed": (TurnEnd(error=ERROR), TurnFailed(TURN, 21, ERROR.code, retryable=True), None),
    "failed at a limit": (
        TurnEnd(error=TurnLimitReached("too long", limit="max_rounds", maximum=3)),
        TurnFailed(TURN, 21, "turn_limit_reached", limit="max_rounds", maximum=3),
        None,
    ),
    "failed for a while": (
        TurnEnd(error=ProviderUnavailable("gone", retry_after_s=6.2)),
        TurnFailed(TURN, 21, ERROR.code, retryable=True, retry_after_s=7),
        None,
    ),
    "failed at a limit of ours": (
        TurnEnd(error=Overloaded("full", limit="max_provider_waiting", retry_after_s=5)),
        TurnFailed(TURN, 21, "overloaded", retryable=True, limit="max_provider_waiting", retry_after_s=5),
        None,
    ),
    "cancelled": (TurnEnd(TurnStop("cancelled", "key:1")), TurnCancelled(TURN, 21), "key:1"),
    "shut down": (TurnEnd(TurnStop("shutdown", "system")), TurnInterrupted(TURN, 21, "shutdown"), "system"),
    "lost": (TurnEnd(TurnStop("server_lost", "system")), TurnInterrupted(TURN, 21, "server_lost"), "system"),
}


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=True))
def test_a_delay_that_a_vendor_asks_for_is_told_in_whole_seconds(asked_s):
    """It is never told shorter than it is, but for one of days; and always a whole number."""
    (draft,) = end_turn(
        turn_after(*RUNNING, ASKED), PLACE, TurnEnd(error=ProviderUnavailable("x", retry_after_s=asked_s))
    )
    told_s = draft.facts.retry_after_s
    assert isinstance(told_s, int)
    assert min(asked_s, MAX_RETRY_AFTER_S) <= told_s <= min(asked_s, MAX_RETRY_AFTER_S) + 1


def test_reasons_that_stand_on_no_list_are_words():
    """What a vendor invents is ``other`` in facts; its own word stands in the body, where it can be erased."""
    result = AttemptResult("completed", 5, said(TEXT), stop_reason="for fun", vendor_stop_reason="for_fun")
    ended, _, completed = end_turn(turn_after(*RUNNING), PLACE, TurnEnd.with_attempt(result))
    assert (ended.facts.stop_reason, ended.facts.vendor_stop_reason) == ("other", None)
    assert completed.facts == TurnCompleted(TURN, 22, "other")
    assert completed.words == CompletionWords("for_fun")


@pytest.mark.parametrize(("end", "facts", "actor"), ENDS.values(), ids=ENDS)
def test_a_turn_ends_in_one_of_four_ways(end, facts, actor):
    """Between attempts its end is one event, which says why, and by whom it was stopped."""
    (draft,) = end_turn(turn_after(*RUNNING, ASKED), PLACE, end)
    assert (draft.facts, draft.actor, draft.causation) == (facts, actor, TURN)
    assert draft.words is None or draft.words.detail == end.error.detail


@pytest.mark.parametrize(
    ("end", "outcome", "kind"),
    [
        (TurnEnd(TurnStop("cancelled", "key:1")), "cancelled", TurnCancelled),
        (TurnEnd(TurnStop("shutdown", "system")), "shutdown", TurnInterrupted),
        (TurnEnd(TurnStop("server_lost", "system")), "server_lost", TurnInterrupted),
        (TurnEnd(error=EngineError("a mistake")), "engine_error", TurnFailed),
        (TurnEnd(error=ProviderRejected("no")), "provider_rejected", TurnFailed),
    ],
)
def test_an_end_breaks_off_the_attempt_that_runs(end, outcome, kind):
    """A turn that ends before anything came: two events, and the attempt's outcome is the reason of the end."""
    ended, last = end_turn(turn_after(*RUNNING), PLACE, end)
    assert (ended.facts.outcome, ended.facts.frame, last.facts.frame) == (outcome, None, 21)
    assert isinstance(last.facts, kind)


def test_a_round_that_could_not_be_recorded_ends_its_turn():
    """The answer was whole, and is recorded so with the turn's failure; its calls were not made."""
    result = AttemptResult("completed", 5, said(MIXED), stop_reason="tool_use")
    drafts = end_turn(turn_after(*RUNNING), PLACE, TurnEnd(error=StoreFull("no room"), attempt=result))
    returned = ["tool.returned", "message.appended"]
    start = ["attempt.ended", "message.appended", "tool.called", "tool.called"]
    assert kinds(drafts) == [*start, *returned, *returned, "turn.failed"]
    assert of(AttemptEnded, drafts).outcome == "completed"
    assert of(TurnFailed, drafts) == TurnFailed(TURN, 28, "store_full")
    outcomes = {draft.facts.outcome for draft in drafts if isinstance(draft.facts, ToolReturned)}
    assert outcomes == {"interrupted"}


LEFT = {
    "completed": (TurnEnd(stop_reason="tool_use"), [("a", "not_run")]),
    "cut short": (TurnEnd(stop_reason="max_tokens"), [("a", "not_run"), ("c", "not_run")]),
    "refused by the model": (TurnEnd(stop_reason="refusal"), [("a", "not_run"), ("c", "not_run")]),
    "failed": (TurnEnd(error=ERROR), [("a", "interrupted"), ("c", "interrupted")]),
    "cancelled": (TurnEnd(TurnStop("cancelled", "key:1")), [("a", "cancelled"), ("c", "cancelled")]),
    "lost": (TurnEnd(TurnStop("server_lost", "system")), [("a", "interrupted"), ("c", "interrupted")]),
}


@pytest.mark.parametrize(("end", "outcomes"), LEFT.values(), ids=LEFT)
def test_no_call_is_left_without_a_result(end, outcomes):
    """What nobody makes any more gets a result that is an error; only a whole answer leaves the callers theirs."""
    drafts = end_turn(turn_after(*RUNNING, ASKED, CALLED, THEIRS), PLACE, end)
    returned = [draft.facts for draft in drafts if isinstance(draft.facts, ToolReturned)]
    assert [(each.call, each.outcome) for each in returned] == outcomes
    assert all(each.is_error for each in returned)
    assert [draft.facts.frame for draft in drafts] == [*range(21, 21 + len(drafts))]


def test_what_a_call_had_come_to_is_kept():
    """A call that had returned when the turn was stopped keeps its output; the other is cancelled."""
    finished = {"b": ToolOutcome("completed", "sunny", duration_ms=4, output_bytes=5)}
    drafts = end_turn(turn_after(*CALLING), PLACE, TurnEnd(TurnStop("cancelled", "key:1")), finished)
    returned = [draft.facts for draft in drafts if isinstance(draft.facts, ToolReturned)]
    assert [(each.call, each.outcome, each.duration_ms) for each in returned] == [
        ("a", "cancelled", None),
        ("b", "completed", 4),
    ]


# --- usage ------------------------------------------------------------------------------------------------------------


def usage_of(result):
    return of(AttemptEnded, end_round(turn_after(*RUNNING), PLACE, result)).usage


def test_usage_that_nobody_reported_is_estimated():
    """By the attempt's own factor: what was sent, and what came."""
    usage = estimated_usage(turn_after(*RUNNING).attempts[0], TEXT)
    received = -(-tokens.count_content(TEXT) * 3 // 2)
    assert usage == Usage(input_tokens=116 + 4, output_tokens=received, estimated=True)
    assert usage_of(AttemptResult("completed", 5, said())) == usage
    assert usage_of(AttemptResult("x", 5, said(), usage=Usage(7))) == msgspec.structs.replace(usage, input_tokens=7)


def test_usage_that_was_reported_stands():
    """Of a whole answer one figure is enough; of one that broke off both must be there."""
    for reported in (Usage(1), Usage(1, output_tokens=2)):
        assert usage_of(AttemptResult("completed", 5, said(), usage=reported)) == reported
    assert usage_of(AttemptResult("x", 5, said(), usage=Usage(1, output_tokens=2))) == Usage(1, output_tokens=2)


@pytest.mark.parametrize("error", [Overloaded("busy"), ProviderRejected("no"), ERROR])
def test_an_attempt_that_was_not_answered_costs_nothing(error):
    """A provider that was not asked, refused or was not there has used no tokens."""
    assert usage_of(AttemptResult(error.code, 5, error=error)) == Usage(input_tokens=0, output_tokens=0)
    assert usage_of(AttemptResult(error.code, 5, said(), error=error)).estimated
