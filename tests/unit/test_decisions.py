"""Commands as given, when, then: what has happened, what is asked for, and the events or the refusal that follow."""

import msgspec
import pytest

from manent.engine.clock import new_id
from manent.engine.errors import (
    EmptyMessage,
    Invalid,
    LegalHold,
    NothingToAnswer,
    Refused,
    SessionArchived,
    SessionNotFound,
    ToolCallNotFound,
    ToolResultsMissing,
    TurnAlreadyOpen,
)
from manent.engine.events.blocks import (
    Base64Source,
    ImageBlock,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from manent.engine.events.session_types import SessionArchived as Archived
from manent.engine.events.session_types import SessionRestored, SessionStarted, SessionUpdated, SessionWords
from manent.engine.events.turn_types import AttemptStarted, AttemptWords, TurnFailed, TurnStarted, TurnWords
from manent.engine.events.types import BodyErased, ErasureWords, MessageAppended, NewMessage
from manent.engine.sessions.decisions import (
    Changes,
    StartTurn,
    append_messages,
    check_shape,
    check_turn,
    erase_words,
    message_draft,
    start_session,
    start_turn,
    superseded,
    update_session,
)
from manent.engine.sessions.turn_commands import StartAttempt
from tests.support import folded

STARTED = SessionStarted(model="echo/echo")
TURN = new_id()


def appended(role, tokens=1, **fields):
    return MessageAppended(**{"role": role, "tokens": tokens, "counter": "c", "complete": True, "turn": None} | fields)


def said(role="user", *blocks, tokens=1):
    return NewMessage(role, blocks or (TextBlock("x"),), tokens, "c")


def result(call="a"):
    return ToolResultBlock(call, "done")


USER, ASSISTANT, SYSTEM = appended("user"), appended("assistant"), appended("system")
PARTIAL = appended("assistant", complete=False)
EMPTY_PARTIAL = appended("assistant", tokens=0, complete=False)
CALLS = appended("assistant", calls=("c1", "c2"))
IDS = {"c1": "a", "c2": "b"}
OPEN = (TurnStarted("echo/echo", "echo"), TURN)
GIVEN_UP = TurnStarted("echo/echo", "echo", supersedes=3)
ENDED = TurnFailed(TURN, 2, "provider_truncated")


# --- messages ---------------------------------------------------------------------------------------------------------

MESSAGES = {
    "to a new session": ([STARTED], [said()], None),
    "of every role": ([STARTED], [said("system"), said("user"), said("assistant"), said("user")], None),
    "after a turn": ([STARTED, OPEN, ENDED], [said()], None),
    "after a restart from the archive": ([STARTED, Archived(), SessionRestored()], [said()], None),
    "calls and their results at once": (
        [STARTED],
        [said("assistant", ToolUseBlock("a", "f")), said("tool", result()), said("user")],
        None,
    ),
    "a result": ([STARTED, CALLS], [said("tool", result("b"))], None),
    "all results in one": ([STARTED, CALLS], [said("tool", result("b"), result("a"))], None),
    "all results in two": ([STARTED, CALLS], [said("tool", result("b")), said("tool", result("a")), said()], None),
    "no session": ([], [said()], SessionNotFound),
    "archived": ([STARTED, Archived()], [said()], SessionArchived),
    "while a turn runs": ([STARTED, OPEN], [said()], TurnAlreadyOpen),
    "empty": ([STARTED], [said(tokens=0)], EmptyMessage),
    "the second is empty": ([STARTED], [said(), said(tokens=0)], EmptyMessage),
    "results missing": ([STARTED, CALLS], [said()], ToolResultsMissing),
    "results missing half way": ([STARTED, CALLS], [said("tool", result("a")), said()], ToolResultsMissing),
    "calls while calls are open": ([STARTED, CALLS], [said("assistant", ToolUseBlock("c", "f"))], ToolResultsMissing),
    "a result of nothing": ([STARTED], [said("tool", result())], ToolCallNotFound),
    "a result of another call": ([STARTED, CALLS], [said("tool", result("c"))], ToolCallNotFound),
    "a result twice": ([STARTED, CALLS], [said("tool", result(), result())], ToolCallNotFound),
    "a result again": ([STARTED, CALLS, appended("tool", results=("c1",))], [said("tool", result())], ToolCallNotFound),
    "calls that broke off are not open": (
        [STARTED, appended("assistant", calls=("a",), complete=False)],
        [said("tool", result())],
        ToolCallNotFound,
    ),
}


@pytest.mark.parametrize(("given", "messages", "refusal"), MESSAGES.values(), ids=MESSAGES)
def test_messages_are_appended_or_refused(given, messages, refusal):
    """Given what happened, messages may be appended, or are refused for one reason."""
    state = folded(*given)
    if refusal is None:
        append_messages(state, messages, IDS)
        return
    with pytest.raises(
        Refused if refusal is not SessionNotFound and refusal is not TurnAlreadyOpen else refusal
    ) as error:
        append_messages(state, messages, IDS)
    assert type(error.value) is refusal


def test_calls_get_the_next_ordinals_and_results_theirs():
    """Facts name a call by its ordinal along the session, whatever ids the messages have; an id may come again."""
    asks, answers = said("assistant", ToolUseBlock("a", "f"), ToolUseBlock("x", "f")), said("tool", result("x"))
    facts = append_messages(folded(STARTED, CALLS), [said("tool", result("b"), result("a")), asks, answers], IDS)
    assert [(each.calls, each.results) for each in facts] == [
        ((), ("c2", "c1")),
        (("c3", "c4"), ()),
        ((), ("c4",)),
    ]


def test_an_open_call_whose_id_was_not_read_is_answered_by_nothing():
    """Neither by the ordinal, which is no id, nor by any other word."""
    for answer in ("c1", "a"):
        with pytest.raises(ToolCallNotFound):
            append_messages(folded(STARTED, CALLS), [said("tool", result(answer))])


def test_open_calls_of_the_first_schema_are_named_by_their_ids():
    """A session in which a caller still has to answer goes on after the upgrade."""
    old = folded(STARTED, CALLS, of_schema=1)
    assert old.call_count == 0
    (facts,) = append_messages(old, [said("tool", result("c2"), result("c1"))])
    assert facts.results == ("c2", "c1")
    with pytest.raises(ToolResultsMissing) as missing:
        append_messages(old, [said()])
    assert missing.value.extra == {"tool_use_ids": ["c1", "c2"]}


def test_refusals_name_what_is_missing():
    """Open calls are listed in order; the result without a call and the open turn are named."""
    with pytest.raises(ToolResultsMissing) as missing:
        append_messages(folded(STARTED, CALLS), [said()], IDS)
    assert missing.value.extra == {"tool_use_ids": ["a", "b"]}
    with pytest.raises(ToolCallNotFound) as unknown:
        append_messages(folded(STARTED, CALLS), [said("tool", result("c"))], IDS)
    assert unknown.value.extra["tool_use_id"] == "c"
    with pytest.raises(TurnAlreadyOpen) as running:
        append_messages(folded(STARTED, OPEN), [said()])
    assert running.value.extra == {"turn_id": str(TURN)}


BLOCKS = {
    "text": TextBlock("x"),
    "thinking": ThinkingBlock("x"),
    "image": ImageBlock(Base64Source("image/png", "AAAA")),
    "other": OtherBlock("x", b'{"type":"x"}'),
    "tool_use": ToolUseBlock("a", "f"),
    "tool_result": result(),
}
NO_PLACE = {
    ("user", "tool_use"),
    ("user", "tool_result"),
    ("user", "thinking"),
    ("assistant", "tool_result"),
    ("assistant", "image"),
    ("system", "tool_use"),
    ("system", "tool_result"),
    ("system", "thinking"),
    ("system", "image"),
}


@pytest.mark.parametrize("role", ["user", "assistant", "system", "tool"])
@pytest.mark.parametrize("kind", BLOCKS)
def test_each_block_has_its_place(role, kind):
    """Calls and thoughts are the assistant's, images the user's, results the tools', and tools give only results; the
    refusal names the block.
    """
    first = result() if role == "tool" else TextBlock("x")
    message = said(role, first, BLOCKS[kind])
    if (role, kind) in NO_PLACE or (role == "tool" and kind != "tool_result"):
        with pytest.raises(Invalid) as refused:
            check_shape(message)
        assert refused.value.extra["field"] == "content[1]"
    else:
        check_shape(message)


def test_two_calls_of_one_id_are_refused():
    """A result could not say which of them it answers."""
    with pytest.raises(Invalid):
        check_shape(said("assistant", ToolUseBlock("a", "f"), ToolUseBlock("a", "g")))


def test_a_messages_event_says_what_it_is():
    """Facts hold role, count and the ordinals that they are given; the words are the blocks; the id is the caller's."""
    blocks = (TextBlock("x"), ToolUseBlock("b", "f"), ToolUseBlock("a", "f"))
    message = msgspec.structs.replace(said("assistant", *blocks, tokens=9), id=new_id())
    draft = message_draft(message)
    assert (draft.facts.calls, draft.facts.results, draft.facts.tokens, draft.id) == ((), (), 9, message.id)
    assert (draft.facts.complete, draft.facts.turn) == (True, None)
    assert len(draft.words.content) == 3
    numbered = msgspec.structs.replace(draft.facts, calls=("c1", "c2"))
    assert message_draft(message, numbered) == msgspec.structs.replace(draft, facts=numbered)


# --- turns ------------------------------------------------------------------------------------------------------------

TURNS = {
    "on a new message": ([STARTED], said(), False, None),
    "on results": ([STARTED, CALLS], said("tool", result("a"), result("b")), False, None),
    "on the last results": (
        [STARTED, CALLS, appended("tool", results=("c2",))],
        said("tool", result("a")),
        False,
        None,
    ),
    "on what a user said": ([STARTED, USER], None, False, None),
    "on results that are there": ([STARTED, CALLS, appended("tool", results=("c1", "c2"))], None, False, None),
    "on a partial answer, anew": ([STARTED, USER, PARTIAL], None, False, None),
    "on an empty partial answer, anew": ([STARTED, USER, EMPTY_PARTIAL], None, False, None),
    "on a partial answer, going on": ([STARTED, USER, PARTIAL], None, True, None),
    "on a new message after a partial answer": ([STARTED, USER, PARTIAL], said(), False, None),
    "no session": ([], said(), False, SessionNotFound),
    "archived": ([STARTED, USER, Archived()], None, False, SessionArchived),
    "while a turn runs": ([STARTED, USER, OPEN], said(), False, TurnAlreadyOpen),
    "nothing there": ([STARTED], None, False, NothingToAnswer),
    "after an answer": ([STARTED, USER, ASSISTANT], None, False, NothingToAnswer),
    "after a system message": ([STARTED, USER, SYSTEM], None, False, NothingToAnswer),
    "calls without results": ([STARTED, USER, CALLS], None, False, ToolResultsMissing),
    "calls with half of the results": (
        [STARTED, CALLS, appended("tool", results=("c1",))],
        None,
        False,
        ToolResultsMissing,
    ),
    "a message while calls are open": ([STARTED, CALLS], said(), False, ToolResultsMissing),
    "half of the results": ([STARTED, CALLS], said("tool", result("a")), False, ToolResultsMissing),
    "a result of nothing": ([STARTED, USER], said("tool", result("a")), False, ToolCallNotFound),
    "an empty message": ([STARTED], said(tokens=0), False, EmptyMessage),
    "an assistant's message": ([STARTED], said("assistant"), False, Invalid),
    "a system message": ([STARTED], said("system"), False, Invalid),
    "going on with content": ([STARTED, USER, PARTIAL], said(), True, Invalid),
    "going on with a user's message": ([STARTED, USER], None, True, Invalid),
    "going on with a whole answer": ([STARTED, USER, ASSISTANT], None, True, NothingToAnswer),
    "going on with nothing": ([STARTED, USER, EMPTY_PARTIAL], None, True, Invalid),
    "going on with what was given up": ([STARTED, USER, PARTIAL, GIVEN_UP, ENDED], None, True, Invalid),
    "anew what was given up": ([STARTED, USER, PARTIAL, (GIVEN_UP, TURN), ENDED], None, False, None),
}


@pytest.mark.parametrize(("given", "message", "continues", "refusal"), TURNS.values(), ids=TURNS)
def test_a_turn_starts_or_is_refused(given, message, continues, refusal):
    """Given what happened, a turn may start with this input, or is refused for one reason."""
    given = [(each, TURN) if each is GIVEN_UP else each for each in given]
    state = folded(*given)
    if refusal is None:
        checked, facts = check_turn(state, message, IDS, continues=continues)
        assert checked is state
        assert len(facts) == (message is not None)
        return
    with pytest.raises(refusal) as error:
        check_turn(state, message, IDS, continues=continues)
    assert type(error.value) is refusal


@pytest.mark.parametrize(
    ("given", "message", "continues", "position"),
    [
        ([STARTED, USER, PARTIAL], None, False, 3),
        ([STARTED, USER, EMPTY_PARTIAL], None, False, 3),
        ([STARTED, USER, PARTIAL], None, True, None),
        ([STARTED, USER, PARTIAL], said(), False, None),
        ([STARTED, USER], None, False, None),
        ([STARTED, USER, CALLS, appended("tool", results=("c1", "c2"))], None, False, None),
    ],
)
def test_what_a_new_turn_leaves_out(given, message, continues, position):
    """Only a partial answer, and only where a turn without new content answers anew."""
    assert superseded(folded(*given), message, continues=continues) == position


ATTEMPT = StartAttempt(
    AttemptStarted(TURN, 1, 1, "echo", "echo", "r/1", (1,), "00", "c", 1000, 0, 7, 500, 50, "p"), AttemptWords(b"salt")
)


def turn_on(message=None, **fields):
    return StartTurn(TURN, "echo/echo", "echo", ATTEMPT, message, **fields)


def test_a_turn_starts_with_its_message_and_its_first_attempt():
    """Three events in one append: the message led to the turn, and the turn to the attempt."""
    message = msgspec.structs.replace(said(), id=new_id())
    command = turn_on(message, on_disconnect="cancel", words=TurnWords(client_tools=("theirs",)))
    appended_, started, attempt = start_turn(folded(STARTED), command)
    assert appended_ == message_draft(message)
    assert started.facts == TurnStarted("echo/echo", "echo", on_disconnect="cancel")
    assert started.words == TurnWords(client_tools=("theirs",))
    assert (started.id, started.causation) == (TURN, message.id)
    assert (attempt.facts, attempt.words, attempt.causation) == (ATTEMPT.facts, ATTEMPT.words, TURN)


@pytest.mark.parametrize(
    ("given", "continues", "facts"),
    [
        ([STARTED, USER], False, TurnStarted("echo/echo", "echo")),
        ([STARTED, USER, PARTIAL], False, TurnStarted("echo/echo", "echo", supersedes=3)),
        ([STARTED, USER, PARTIAL], True, TurnStarted("echo/echo", "echo", continues=True)),
    ],
    ids=["on what is there", "anew", "going on"],
)
def test_a_turn_starts_without_new_content(given, continues, facts):
    """Two events; the start names the partial answer that it answers anew, or says that it goes on with it."""
    started, attempt = start_turn(folded(*given), turn_on(continues=continues))
    assert (started.facts, started.causation, attempt.facts) == (facts, None, ATTEMPT.facts)


def test_a_start_is_decided_on_the_state_as_it_is():
    """What a turn may not start on is refused by the command itself, whoever has checked it before."""
    with pytest.raises(TurnAlreadyOpen):
        start_turn(folded(STARTED, USER, OPEN), turn_on(said()))
    with pytest.raises(SessionNotFound):
        start_turn(None, turn_on(said()))


# --- erasure ----------------------------------------------------------------------------------------------------------

HELD = SessionUpdated(("legal_hold",), legal_hold=True)


def test_words_are_erased_by_an_event():
    """It names what is erased and why, and closes those open calls whose asking message is among it."""
    (draft,) = erase_words(folded(STARTED, USER, CALLS), [2, 3], {"c2", "c9"}, ErasureWords("by request"))
    assert (draft.facts, draft.words) == (BodyErased((2, 3), ("c2",)), ErasureWords("by request"))
    (draft,) = erase_words(folded(STARTED, USER), [2], set(), ErasureWords("by request"))
    assert draft.facts == BodyErased((2,))
    (draft,) = erase_words(folded(STARTED, USER, Archived()), [2], set(), ErasureWords("by request"))
    assert draft.facts == BodyErased((2,))


@pytest.mark.parametrize(
    ("given", "refusal"),
    [([], SessionNotFound), ([STARTED, USER, HELD], LegalHold), ([STARTED, USER, OPEN], TurnAlreadyOpen)],
)
def test_an_erasure_is_refused(given, refusal):
    """Nothing is erased under a legal hold, while a turn runs, or where there is no session."""
    with pytest.raises(refusal):
        erase_words(folded(*given), [2], set(), ErasureWords("by request"))


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_a_session_starts_with_one_event():
    """Its facts and words are what the caller gave."""
    words = SessionWords("title", "system", {"k": 1})
    (draft,) = start_session(STARTED, words)
    assert (draft.facts, draft.words, draft.id) == (STARTED, words, None)


UPDATES = {
    "a title": (
        [STARTED],
        {"title": "t"},
        [(SessionUpdated(("title",)), SessionWords(title="t"))],
    ),
    "null": (
        [STARTED],
        {"title": None, "budget_tokens": None},
        [(SessionUpdated(("budget_tokens", "title")), SessionWords())],
    ),
    "numbers only have no words": (
        [STARTED],
        {"budget_tokens": 5, "max_output_tokens": 6, "model": "a/b"},
        [(SessionUpdated(("budget_tokens", "max_output_tokens", "model"), "a/b", 5, 6), None)],
    ),
    "a title while a turn runs": (
        [STARTED, OPEN],
        {"title": "t"},
        [(SessionUpdated(("title",)), SessionWords(title="t"))],
    ),
    "archive": ([STARTED], {"status": "archived"}, [(Archived(), None)]),
    "restore": ([STARTED, Archived()], {"status": "active"}, [(SessionRestored(), None)]),
    "archive with a last word": (
        [STARTED],
        {"status": "archived", "title": "t"},
        [(SessionUpdated(("title",)), SessionWords(title="t")), (Archived(), None)],
    ),
    "restore with a new title": (
        [STARTED, Archived()],
        {"status": "active", "title": "t"},
        [(SessionRestored(), None), (SessionUpdated(("title",)), SessionWords(title="t"))],
    ),
    "nothing": ([STARTED], {}, []),
    "the status it has": ([STARTED], {"status": "active"}, []),
    "archived already": ([STARTED, Archived()], {"status": "archived"}, []),
}


@pytest.mark.parametrize(("given", "values", "drafts"), UPDATES.values(), ids=UPDATES)
def test_a_session_is_updated(given, values, drafts):
    """Fields that were given are set, also to null; a status is an event of its own, at the right end."""
    made = update_session(folded(*given), Changes(values))
    assert [(draft.facts, draft.words) for draft in made] == drafts


@pytest.mark.parametrize(
    ("given", "values", "refusal"),
    [
        ([], {"title": "t"}, SessionNotFound),
        ([STARTED, Archived()], {"title": "t"}, SessionArchived),
        ([STARTED, Archived()], {"status": "archived", "title": "t"}, SessionArchived),
        *(
            ([STARTED, OPEN], {field: value, "title": "t"}, TurnAlreadyOpen)
            for field, value in {
                "model": "a/b",
                "system": "x",
                "budget_tokens": 1,
                "max_output_tokens": 1,
                "status": "archived",
            }.items()
        ),
    ],
)
def test_an_update_is_refused_as_a_whole(given, values, refusal):
    """Of an archived session nothing is set, and while a turn runs nothing that it was started with."""
    with pytest.raises(refusal):
        update_session(folded(*given), Changes(values))


def test_a_system_prompt_is_counted_as_it_is_set():
    """The count of the prompt stands in the facts; the words hold the prompt."""
    (draft,) = update_session(folded(STARTED), Changes({"system": "Be brief."}, 3))
    assert (draft.facts.changed, draft.facts.system_tokens, draft.words.system) == (("system",), 3, "Be brief.")
