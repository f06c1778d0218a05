"""Calls that need a person's yes: the turn waits, however long and across restarts, until somebody has decided.

Every file is audited, and its projections are derived again, when its test is over.
"""

import asyncio
import json

import msgspec
import pytest

from manent import engine
from manent.engine.clock import new_id
from manent.engine.errors import (
    EngineError,
    IdempotencyMismatch,
    Invalid,
    NoDecisionAwaited,
    Overloaded,
    ShuttingDown,
    TooLarge,
    ToolResultsMissing,
    TurnAlreadyOpen,
    TurnNotFound,
)
from manent.engine.sessions.turn_commands import TurnPlace, TurnStop
from tests.support import (
    assert_rebuilds,
    audit,
    awaited,
    begin,
    call_ids,
    chatting,
    dump,
    execute,
    frames_of,
    query,
    says,
    snapshot,
    text_of,
    told,
    until,
)

ANN = engine.Caller("default", "key:ann", "request-ann")
BOB = engine.Caller("default", "key:bob", "request-bob")
LOOKUP = engine.ToolSchema("lookup", "Looks something up.", {"type": "object", "properties": {}})


@pytest.fixture
def path(tmp_path):
    """A file that holds together when the test is over."""
    path = tmp_path / "chat.db"
    yield path
    audit(path)
    assert_rebuilds(path, tmp_path / "copy.db")


@pytest.fixture
def paid():
    """What was paid."""
    return []


@pytest.fixture
def tools(paid):
    """One that needs nobody, and two that need a person."""

    @engine.tool
    async def price(of: str) -> str:
        """What a thing costs."""
        paid.append(f"priced {of}")
        return f"{of} costs 5"

    @engine.tool(approval=True)
    async def pay(amount: int) -> str:
        """Pays."""
        paid.append(amount)
        return f"paid {amount}"

    @engine.tool(approval=True)
    async def wait() -> str:
        """Waits for ever."""
        paid.append("waiting")
        await asyncio.Event().wait()

    return [price, pay, wait]


NAMES = ("price", "pay", "wait")


def rounds(*answers):
    """A model that says one of these after the other, one for each answer of its own that it is sent."""
    return [answer for steps in answers for answer in says(*steps)]


def call(name, number="a", /, **given):
    return {"tool": {"id": number, "name": name, "input": given}}


def data(frame):
    return json.loads(frame.data)


def facts(event):
    return json.loads(bytes(event.facts))


async def events_of(chat, session, *types):
    return (await chat.events(session, types=types, limit=1000)).items


async def outcomes(chat, session):
    """(call, outcome) of every return on record, in order."""
    returned = map(facts, await events_of(chat, session, "tool.returned"))
    ids = await call_ids(chat, session)
    return [(ids[each["call"]], each["outcome"]) for each in returned]


def results(turn):
    """(call, content, is_error) of every result that a turn made, in order."""
    blocks = [message.blocks() for message in turn.messages if message.role == "tool"]
    return [(block.tool_use_id, block.content, block.is_error) for (block,) in blocks]


def asked(chat, number=-1):
    """What the model was asked: (role, text) of each message."""
    return [(message["role"], message["text"]) for message in json.loads(chat.script.requests[number])["messages"]]


async def paused(chat, **options):
    """A turn that waits for a person: its session, its id, and its frames so far."""
    session = (await chat.create_session(model="scripted/main")).id
    turn = await begin(chat, session, "Buy it.", **{"tools": NAMES} | options)
    async with asyncio.timeout(5):
        frames = await frames_of(chat, turn)
    assert frames[-1].type == "turn.paused"
    return session, turn, frames


async def decided(chat, turn, number="a", approve=True, reason=None, caller=ANN, **options):
    return await chat.decide(turn, number, approve=approve, reason=reason, caller=caller, **options)


async def assert_told_again(chat, turn, live):
    """The frames are numbered densely, and from every cursor what follows is what it was live."""
    assert [frame.number for frame in live] == [*range(1, len(live) + 1)]
    for after in range(len(live) + 1):
        assert await frames_of(chat, turn, after) == live[after:]


async def assert_can_go_on(chat, session, model="scripted/other"):
    """The next turn needs nothing but a word."""
    assert (await chat.session(session)).open_turn_id is None
    assert (await chat.say(session, "And now?", model=model)).status == "completed"


# --- the pause --------------------------------------------------------------------------------------------------------


async def test_a_call_that_needs_a_person_pauses_the_turn(path, tools, paid):
    """Nothing is run; the stream ends with what is waited for, nobody runs the turn, and it is still the session's."""
    async with chatting(path, tools=tools, main=rounds([call("pay", amount=5)], ["Done."])) as chat:
        session, turn, frames = await paused(chat)
        kinds = ["turn.started", "block.started", "delta", "message.appended", "tool.called", "turn.paused"]
        assert told(frames) == [*enumerate(kinds, 1)]
        shown = data(frames[-1])
        assert (shown["status"], awaited(shown), shown["ended_at"]) == ("requires_action", ["a"], None)
        view = await chat.ended(turn)
        assert (view.status, awaited(view), view.ended_at) == ("requires_action", ("a",), None)
        assert (view.attempts[-1].outcome, paid) == ("completed", [])
        assert (await chat.session(session)).open_turn_id == turn
        assert query(path, "SELECT count(*) FROM runs") == query(path, "SELECT count(*) FROM journal") == [(0,)]
        assert await chat.serving.read_to_end(turn, 6)
        assert not await chat.serving.read_to_end(turn, 5)
        await assert_told_again(chat, turn, frames)


async def test_a_paused_turn_outlives_the_engine(path, tools, paid):
    """After any number of starts it waits as it did, and nothing was written; decided, it goes on to its end."""
    async with chatting(path, tools=tools, main=rounds([call("pay", amount=5)], ["Done."])) as chat:
        session, turn, frames = await paused(chat)
    before = dump(path)
    for _ in range(2):
        async with chatting(path, tools=tools) as chat:
            assert (await chat.turn(turn)).status == "requires_action"
            await assert_told_again(chat, turn, frames)
        assert dump(path) == before
    async with chatting(path, tools=tools, main=rounds([call("pay", amount=5)], ["Done."])) as chat:
        await decided(chat, turn)
        view = await chat.ended(turn)
        assert (view.status, text_of(view.message), paid) == ("completed", "Done.", [5])
        after = await frames_of(chat, turn)
        assert after[: len(frames)] == frames
        await assert_told_again(chat, turn, after)
        assert query(path, "SELECT count(*) FROM runs") == [(0,)]
        await assert_can_go_on(chat, session, "scripted/main")


CLOSED = {
    "a turn": lambda chat, session: begin(chat, session, "Me too."),
    "a turn on what is there": begin,
    "a message": lambda chat, session: chat.append_message(session, "And me."),
    "a result": lambda chat, session: chat.append_messages(session, [result_of("a")]),
    "another model": lambda chat, session: chat.update_session(session, model="echo/echo"),
    "another list of tools": lambda chat, session: chat.update_session(session, allowed_tools=[]),
    "another fallback": lambda chat, session: chat.update_session(session, fallback_model="echo/echo"),
    "the archive": lambda chat, session: chat.update_session(session, status="archived"),
}


def result_of(number, text="done"):
    block = {"type": "tool_result", "tool_use_id": number, "content": text}
    return engine.MessageIn((msgspec.Raw(json.dumps(block).encode()),), "tool")


@pytest.mark.parametrize("attempt", CLOSED.values(), ids=CLOSED)
async def test_a_paused_turn_is_open(path, tools, attempt):
    """Whatever another turn or message would change is refused with its id, and nothing is written."""
    async with chatting(path, tools=tools, main=rounds([call("pay", amount=5)])) as chat:
        session, turn, _ = await paused(chat)
        before = dump(path)
        with pytest.raises(TurnAlreadyOpen) as refused:
            await attempt(chat, session)
        assert refused.value.extra == {"turn_id": str(turn)}
        assert dump(path) == before


NOT_ASKED = {
    "arguments do not fit": (call("pay", amount="5"), "invalid_arguments"),
    "arguments are broken": ({"tool": {"id": "a", "name": "pay", "input_text": "{"}}, "invalid_arguments"),
    "it is not offered": (call("wait"), "tool_not_allowed"),
    "it is unknown": (call("nothing"), "unknown_tool"),
}


@pytest.mark.parametrize(("step", "outcome"), NOT_ASKED.values(), ids=NOT_ASKED)
async def test_nobody_is_asked_about_a_call_that_cannot_be_made(path, tools, paid, step, outcome):
    """The model is told what is wrong, and no person is bothered."""
    async with chatting(path, tools=tools, main=rounds([step], ["I see."])) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        view = await chat.say(session, "Go.", tools=("price", "pay"))
        assert (view.status, await outcomes(chat, session), paid) == ("completed", [("a", outcome)], [])


async def test_what_was_cut_short_is_not_asked_about(path, tools, paid):
    """A call in an answer that ran out of tokens is neither made nor waited for."""
    answers = [[call("pay", amount=5), {"end": "max_tokens"}]]
    async with chatting(path, tools=tools, main=rounds(*answers), other=says("Yes.")) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        view = await chat.say(session, "Go.", tools=NAMES)
        assert (view.status, view.stop_reason, paid) == ("completed", "max_tokens", [])
        await assert_can_go_on(chat, session)


# --- the decision -----------------------------------------------------------------------------------------------------

YES = ["tool.approved", "turn.resumed", "tool.returned", "message.appended"]
NO = ["tool.refused", *YES[1:]]
END = ["block.started", "delta", "message.appended", "turn.completed"]


@pytest.mark.parametrize("approve", [True, False], ids=["yes", "no"])
@pytest.mark.parametrize("reason", [None, "It is 5 \u20ac \U0001f600."], ids=["without a reason", "with a reason"])
async def test_a_decision_is_on_record_with_who_and_why(path, tools, paid, approve, reason):
    """Before anything runs; a yes runs the call once, a no is a result that the model reads; frames are numbered on."""
    async with chatting(path, tools=tools, main=rounds([call("pay", amount=5)], ["I see."])) as chat:
        session, turn, frames = await paused(chat)
        view = await decided(chat, turn, approve=approve, reason=reason)
        assert view.status in {"running", "completed"}
        assert awaited(view) == ()
        live = frames + await frames_of(chat, turn, after=len(frames))
        assert told(live[len(frames) :]) == [*enumerate([*(YES if approve else NO), *END], len(frames) + 1)]
        said = {"tool_use_id": "a", "approve": approve, "reason": reason, "actor": "key:ann"}
        assert data(live[len(frames)]) == said
        resumed = data(live[len(frames) + 1])
        assert (resumed["status"], awaited(resumed)) == ("running", [])
        view = await chat.turn(turn)
        assert (view.status, text_of(view.message)) == ("completed", "I see.")
        ((_, content, is_error),) = results(view)
        if approve:
            assert (content, is_error, paid) == ("paid 5", False, [5])
        else:
            assert (is_error, paid) == (True, [])
            assert content.startswith("Not called: a person refused this call")
            assert (reason or "") in content
        assert asked(chat)[-1] == ("tool", content)
        assert await outcomes(chat, session) == [("a", "completed" if approve else "refused")]
        (event,) = await events_of(chat, session, "tool.approved", "tool.refused")
        assert (event.actor, event.correlation_id, str(event.causation_id)) == ("key:ann", "request-ann", str(turn))
        assert facts(event) == {"turn": str(turn), "call": "c1", "frame": 7}
        assert (event.body and json.loads(bytes(event.body))) == (reason and {"reason": reason})
        await assert_told_again(chat, turn, live)
    async with chatting(path) as chat:
        await assert_told_again(chat, turn, live)


async def test_a_decision_is_committed_before_the_tool_runs(path):
    """The tool that was approved finds the yes in the file, and no return of its own."""
    seen = []

    @engine.tool(approval=True)
    def look() -> str:
        """Looks into the file."""
        seen.extend(kind for (kind,) in query(path, "SELECT type FROM events ORDER BY position DESC LIMIT 4"))
        return "seen"

    async with chatting(path, tools=[look], main=rounds([call("look")], ["I see."])) as chat:
        _, turn, _ = await paused(chat, tools=("look",))
        await decided(chat, turn)
        assert (await chat.ended(turn)).status == "completed"
    assert seen == ["turn.resumed", "tool.approved", "turn.paused", "tool.called"]


async def test_several_calls_are_decided_on_one_by_one(path, tools, paid):
    """What needs nobody runs at once; the rest waits until everything is decided, and is answered in the order of the
    calls, whoever decided first.
    """
    steps = [call("pay", "a", amount=1), call("price", "b", of="it"), call("pay", "c", amount=3)]
    async with chatting(path, tools=tools, main=rounds([*steps, call("pay", "d", amount=4)], ["I see."])) as chat:
        session, turn, frames = await paused(chat)
        assert (paid, await outcomes(chat, session)) == (["priced it"], [("b", "completed")])
        assert awaited(await chat.turn(turn)) == ("a", "c", "d")
        view = await decided(chat, turn, "d", caller=BOB)
        assert (view.status, awaited(view)) == ("requires_action", ("a", "c"))
        one_more = await frames_of(chat, turn)
        assert told(one_more[len(frames) :]) == [(len(frames) + 1, "tool.approved")]
        view = await decided(chat, turn, "a", approve=False, reason="Too much.")
        assert (view.status, awaited(view), paid) == ("requires_action", ("c",), ["priced it"])
    async with chatting(path, tools=tools, main=rounds([], ["I see."])) as chat:
        await assert_told_again(chat, turn, await frames_of(chat, turn))
        await decided(chat, turn, "c")
        view = await chat.ended(turn)
        assert (view.status, sorted(paid[1:])) == ("completed", [3, 4])
        assert await outcomes(chat, session) == [
            ("b", "completed"),
            ("a", "refused"),
            ("c", "completed"),
            ("d", "completed"),
        ]
        decisions = await events_of(chat, session, "tool.approved", "tool.refused")
        ids = await call_ids(chat, session)
        assert [(ids[facts(each)["call"]], each.type, each.actor) for each in decisions] == [
            ("d", "tool.approved", "key:bob"),
            ("a", "tool.refused", "key:ann"),
            ("c", "tool.approved", "key:ann"),
        ]
        live = await frames_of(chat, turn)
        assert live[: len(one_more)] == one_more
        await assert_told_again(chat, turn, live)


async def test_a_turn_may_pause_again(path, tools, paid):
    """Each round may wait for a person; a reason given in one does not stand for a refusal in another."""
    answers = [[call("pay", "a", amount=number)] for number in range(3)]
    async with chatting(path, tools=tools, main=rounds(*answers, ["I see."])) as chat:
        _, turn, _ = await paused(chat)
        for approve, reason in ((False, "Too much."), (False, None), (True, None)):
            assert (await chat.ended(turn)).status == "requires_action"
            await decided(chat, turn, approve=approve, reason=reason)
        view = await chat.ended(turn)
        assert (view.status, paid) == ("completed", [2])
        assert [content for _, content, _ in results(view)] == [
            "Not called: a person refused this call (Too much.).",
            "Not called: a person refused this call.",
            "paid 2",
        ]
        await assert_told_again(chat, turn, await frames_of(chat, turn))


REFUSED = {
    "no call of this id": (lambda chat, turn: decided(chat, turn, "b"), NoDecisionAwaited),
    "a call that needs nobody": (lambda chat, turn: decided(chat, turn, "free"), NoDecisionAwaited),
    "no such turn": (lambda chat, turn: decided(chat, new_id()), TurnNotFound),
    "another tenant's": (lambda chat, turn: decided(chat, turn, caller=engine.Caller("other")), TurnNotFound),
    "a reason with a NUL": (lambda chat, turn: decided(chat, turn, reason="a\0b"), Invalid),
    "half a character": (lambda chat, turn: decided(chat, turn, reason="\ud800"), Invalid),
    "a reason without end": (lambda chat, turn: decided(chat, turn, reason="x" * 2001), TooLarge),
}


@pytest.mark.parametrize(("attempt", "error"), REFUSED.values(), ids=REFUSED)
async def test_a_decision_that_nobody_waits_for_changes_nothing(path, tools, attempt, error):
    """It is refused, and the turn waits as before."""
    async with chatting(
        path, tools=tools, main=rounds([call("price", "free", of="it"), call("pay", amount=5)])
    ) as chat:
        _, turn, _ = await paused(chat)
        before = dump(path)
        with pytest.raises(error):
            await attempt(chat, turn)
        assert dump(path) == before
        assert awaited(await chat.turn(turn)) == ("a",)


async def test_a_turn_that_does_not_wait_takes_no_decision(path, tools, paid):
    """Neither while it runs, nor the same decision twice, nor after its end."""
    steps = [call("pay", "a", amount=5), call("wait", "b")]
    async with chatting(path, tools=tools, main=rounds(steps), other=says("Yes.")) as chat:
        session, turn, _ = await paused(chat)
        await decided(chat, turn, "a")
        for approve in (True, False):
            with pytest.raises(NoDecisionAwaited):
                await decided(chat, turn, "a", approve=approve)
        await decided(chat, turn, "b")
        with pytest.raises(NoDecisionAwaited) as refused:
            await decided(chat, turn, "b")
        assert refused.value.extra == {"turn_status": "running"}

        async def waiting():
            return "waiting" in paid

        await until(waiting)
        await chat.cancel(turn)
        with pytest.raises(NoDecisionAwaited) as refused:
            await decided(chat, turn, "b")
        assert refused.value.extra == {"turn_status": "cancelled"}
        assert paid == [5, "waiting"]
        assert len(await events_of(chat, session, "tool.approved")) == 2
        await assert_can_go_on(chat, session)


def key(body=b"yes", name="k"):
    return engine.RequestKey("local", "POST decisions", name, body)


async def test_one_key_is_one_decision(path, tools, paid):
    """The same decision many times at once, after the end and after a restart is one decision; another under the same
    key is refused.
    """
    async with chatting(path, tools=tools, main=rounds([call("pay", amount=5)], ["Done."])) as chat:
        session, turn, _ = await paused(chat)
        views = await asyncio.gather(*(decided(chat, turn, request=key()) for _ in range(6)))
        assert {view.id for view in views} == {turn}
        assert (await chat.ended(turn)).status == "completed"
        assert (await decided(chat, turn, request=key())).status == "completed"
        with pytest.raises(IdempotencyMismatch):
            await decided(chat, turn, approve=False, request=key(b"no"))
        assert len(await events_of(chat, session, "tool.approved", "turn.resumed")) == 2
        size = len(await events_of(chat, session))
    async with chatting(path, tools=tools) as chat:
        assert (await decided(chat, turn, request=key())).status == "completed"
        assert len(await events_of(chat, session)) == size
    assert paid == [5]


async def test_of_decisions_that_race_each_is_taken_once(path, tools, paid):
    """Many who decide on the same calls at once: one word on each is on record, everything runs once."""
    steps = [call("pay", str(number), amount=number) for number in range(4)]
    async with chatting(path, tools=tools, main=rounds(steps, ["Done."])) as chat:
        session, turn, _ = await paused(chat)
        attempts = [decided(chat, turn, str(number), caller=who) for number in range(4) for who in (ANN, BOB)]
        answers = await asyncio.gather(*attempts, return_exceptions=True)
        assert {type(answer) for answer in answers if isinstance(answer, Exception)} == {NoDecisionAwaited}
        assert sum(isinstance(answer, Exception) for answer in answers) == 4
        assert (await chat.ended(turn)).status == "completed"
        assert sorted(paid) == [0, 1, 2, 3]
        assert len(await events_of(chat, session, "tool.approved")) == 4
        assert len(await events_of(chat, session, "turn.resumed")) == 1


async def test_a_title_may_change_while_somebody_decides(path, tools, paid):
    """What moves the session on without touching the turn does not get in a decision's way."""
    async with chatting(path, tools=tools, main=rounds([call("pay", amount=5)], ["Done."])) as chat:
        session, turn, _ = await paused(chat)
        titles = [chat.update_session(session, title=str(number)) for number in range(4)]
        await asyncio.gather(decided(chat, turn), *titles)
        assert ((await chat.ended(turn)).status, paid) == ("completed", [5])
        await assert_told_again(chat, turn, await frames_of(chat, turn))


# --- reading along ----------------------------------------------------------------------------------------------------


async def test_a_stream_that_ended_with_the_pause_is_taken_up_after_the_decision(path, tools):
    """Whoever comes back with the last number they saw gets what followed, live, whichever number that was."""
    answers = [[call("pay", amount=5)], [{"text": "abcdef" * 3, "chunk_chars": 2, "every_ms": 1}]]
    async with chatting(path, tools=tools, tail_frames=3, main=rounds(*answers)) as chat:
        _, turn, frames = await paused(chat)
        await decided(chat, turn)
        readers = [frames_of(chat, turn, after) for after in range(len(frames) + 3)]
        read = await asyncio.gather(*readers)
        live = read[0]
        assert live[: len(frames)] == frames
        assert live[-1].type == "turn.completed"
        for after, rest in enumerate(read):
            assert rest == live[after:]
        await assert_told_again(chat, turn, live)


async def test_a_long_turn_that_waits_is_read_in_pieces(path, tools):
    """More frames than are read at once: from any cursor all that follows, from the record of a turn that is open."""
    steps = [{"text": "0123456789" * 110, "chunk_chars": 1}, call("pay", amount=5)]
    async with chatting(path, tools=tools, tail_frames=10, main=rounds(steps, ["Done."])) as chat:
        _, turn, frames = await paused(chat)
        assert [frame.number for frame in frames] == [*range(1, len(frames) + 1)]
        assert len(frames) > 1024
        for after in (0, 1, 2, 511, 512, 513, 1023, 1024, 1025, len(frames) - 2, len(frames) - 1, len(frames)):
            assert await frames_of(chat, turn, after) == frames[after:]
        await decided(chat, turn)
        live = await frames_of(chat, turn)
        assert live[: len(frames)] == frames
        assert live[-1].type == "turn.completed"


async def test_who_leaves_a_paused_turn_does_not_cancel_it(path, tools):
    """A turn that is cancelled when its last reader leaves waits all the same: its stream has ended by itself."""
    async with chatting(path, tools=tools, main=rounds([call("pay", amount=5)], ["Done."])) as chat:
        _, turn, frames = await paused(chat, on_disconnect="cancel")
        assert await frames_of(chat, turn) == frames
        assert (await chat.turn(turn)).status == "requires_action"
        await decided(chat, turn)
        assert (await chat.ended(turn)).status == "completed"


# --- cancelling and stopping ------------------------------------------------------------------------------------------

WAITING = {
    "one": [call("pay", amount=5)],
    "several": [call("pay", "a", amount=5), call("pay", "b", amount=6)],
    "the caller's beside it": [call("lookup", "a"), call("pay", "b", amount=6)],
}


@pytest.mark.parametrize("restarted", [False, True], ids=["at once", "after a restart"])
@pytest.mark.parametrize("steps", WAITING.values(), ids=WAITING)
async def test_a_paused_turn_can_be_cancelled(path, tools, paid, steps, restarted):
    """Each call has the result ``cancelled``, the end says who did it, and the session goes on; again is no harm."""
    async with chatting(path, tools=tools, main=rounds(steps), other=says("Yes.")) as chat:
        session, turn, frames = await paused(chat, client_tools=(LOOKUP,))
        if not restarted:
            view = await chat.cancel(turn, caller=BOB)
    async with chatting(path, tools=tools, other=says("Yes.")) as chat:
        if restarted:
            view = await chat.cancel(turn, caller=BOB)
        assert (view.status, paid) == ("cancelled", [])
        assert sorted(await outcomes(chat, session)) == [(step["tool"]["id"], "cancelled") for step in steps]
        events = await events_of(chat, session)
        assert (events[-1].type, events[-1].actor) == ("turn.cancelled", "key:bob")
        assert await chat.cancel(turn, caller=ANN) == view
        assert len(await events_of(chat, session)) == len(events)
        after = await frames_of(chat, turn)
        assert after[: len(frames)] == frames
        await assert_told_again(chat, turn, after)
        await assert_can_go_on(chat, session)


async def test_a_cancel_and_a_decision_that_race_give_one_end(path, tools):
    """Whoever comes first: the turn ends, is cancelled in the end if its call was approved and cannot return, and
    nothing of it stays open.
    """
    for number in range(8):
        async with chatting(path, tools=tools, main=rounds([call("wait")]), other=says("Yes.")) as chat:
            session, turn, _ = await paused(chat)
            first = [decided(chat, turn), chat.cancel(turn, caller=BOB)]
            async with asyncio.timeout(5):
                await asyncio.gather(*(first if number % 2 else first[::-1]), return_exceptions=True)
                if (await chat.turn(turn)).status == "running":
                    await chat.cancel(turn, caller=BOB)
            assert (await chat.turn(turn)).status == "cancelled"
            assert await outcomes(chat, session) == [("a", "cancelled")]
            await assert_told_again(chat, turn, await frames_of(chat, turn))
            await assert_can_go_on(chat, session)


async def test_a_cancel_that_comes_while_a_turn_is_about_to_pause_is_not_forgotten(path, tools):
    """Whenever it is answered, the turn is cancelled."""
    for pause_ms in range(16):
        steps = [call("pay", amount=5), {"pause_ms": pause_ms}]
        async with chatting(path, tools=tools, main=rounds(steps)) as chat:
            session = (await chat.create_session(model="scripted/main")).id
            turn = await begin(chat, session, "Go.", tools=NAMES)
            await asyncio.sleep(0.008)
            async with asyncio.timeout(5):
                assert (await chat.cancel(turn)).status == "cancelled"
            assert (await chat.session(session)).open_turn_id is None


@pytest.mark.parametrize("moment", ["turn.paused", "message.appended"])
async def test_a_cancel_between_two_commits_is_not_forgotten(path, tools, moment):
    """A wish that is on record when the pause, or the round before it, is being committed is fulfilled."""
    cancels = []
    async with chatting(path, tools=tools, main=rounds([call("pay", amount=5)])) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        turn = await begin(chat, session, "Go.", tools=NAMES)
        running = chat._parts.supervisor.find(turn)
        append = running._append

        async def wishing(decide, **options):
            found = decide(running.transcript.state, TurnPlace(99, 99))
            if moment in {draft.facts.event_type for draft in found} and not cancels:
                cancels.append(asyncio.ensure_future(chat.cancel(turn, caller=BOB)))
                await asyncio.sleep(0.03)
            await append(decide, **options)

        running._append = wishing
        await until(lambda: asyncio.sleep(0, bool(cancels)))
        async with asyncio.timeout(5):
            assert (await cancels[0]).status == "cancelled"
        events = await events_of(chat, session)
        assert (events[-1].type, events[-1].actor) == ("turn.cancelled", "key:bob")
        assert ("turn.paused" in {event.type for event in events}) == (moment == "turn.paused")
        await assert_told_again(chat, turn, await frames_of(chat, turn))


async def test_a_turn_that_went_on_can_be_cancelled_and_shut_down(path, tools, paid):
    """A call that was approved and runs is given up like any other."""
    for kind in ("cancelled", "shutdown"):
        async with chatting(path, tools=tools, drain_s=0, main=rounds([call("wait")]), other=says("Yes.")) as chat:
            session, turn, _ = await paused(chat)
            await decided(chat, turn)

            async def waiting():
                return bool(paid)

            await until(waiting)
            paid.clear()
            chat._parts.supervisor.find(turn).stop(TurnStop(kind, "key:bob"))
            view = await chat.ended(turn)
            expected = {"cancelled": ("cancelled", "cancelled"), "shutdown": ("interrupted", "interrupted")}[kind]
            assert (view.status, (await outcomes(chat, session))[-1][1]) == expected
            await assert_told_again(chat, turn, await frames_of(chat, turn))
            await assert_can_go_on(chat, session)


async def test_a_server_that_dies_after_a_decision_leaves_nothing_open(path, tmp_path, tools, paid):
    """The power goes while an approved call runs: at the next start it has the result ``interrupted``, and is not made
    again.
    """
    dead = tmp_path / "dead.db"
    async with chatting(path, tools=tools, drain_s=0, main=rounds([call("wait")])) as chat:
        session, turn, _ = await paused(chat)
        await decided(chat, turn)

        async def waiting():
            return bool(paid)

        await until(waiting)
        snapshot(path, dead)
    for wish in (None, "key:bob"):
        copy = tmp_path / f"{wish}.db"
        snapshot(dead, copy)
        execute(copy, "UPDATE runs SET cancelled_by = ?", (wish,))
        async with chatting(copy, tools=tools, other=says("Yes.")) as chat:
            assert (await chat.turn(turn)).status == ("cancelled" if wish else "interrupted")
            assert await outcomes(chat, session) == [("a", "cancelled" if wish else "interrupted")]
            await assert_told_again(chat, turn, await frames_of(chat, turn))
            await assert_can_go_on(chat, session)
        assert paid == ["waiting"]
        audit(copy)


async def test_no_decision_is_taken_in_a_shutdown(path, tools, paid):
    """It is refused with when to come again, the turn waits on, and after the start it is taken."""
    async with chatting(path, tools=tools, main=rounds([call("pay", amount=5)], ["Done."])) as chat:
        _, turn, _ = await paused(chat)
        await chat.serving.drain()
        with pytest.raises(ShuttingDown):
            await decided(chat, turn)
    async with chatting(path, tools=tools, main=rounds([call("pay", amount=5)], ["Done."])) as chat:
        await decided(chat, turn)
        assert ((await chat.ended(turn)).status, paid) == ("completed", [5])


async def test_a_paused_turn_takes_no_room(path, tools, paid):
    """Turns that wait do not count among those that run; going on needs room, and a refusal leaves it waiting."""
    models = {"main": rounds([call("pay", amount=5)], ["Done."]), "slow": says("Half", {"hang": True})}
    async with chatting(path, tools=tools, max_open_turns=1, **models) as chat:
        _, turn, _ = await paused(chat)
        other = (await chat.create_session(model="scripted/slow")).id
        running = await begin(chat, other, "Go.")
        with pytest.raises(Overloaded):
            await decided(chat, turn)
        assert awaited(await chat.turn(turn)) == ("a",)
        await chat.cancel(running)
        await decided(chat, turn)
        assert ((await chat.ended(turn)).status, paid) == ("completed", [5])


# --- what may be gone -------------------------------------------------------------------------------------------------


async def test_a_tool_that_is_gone_is_a_result_that_says_so(path, tools, paid):
    """Approved after a restart without the tool: nothing is run, the model is told, and the turn goes on."""
    async with chatting(path, tools=tools, main=rounds([call("pay", amount=5)])) as chat:
        session, turn, _ = await paused(chat)
    async with chatting(path, main=rounds([], ["I see."])) as chat:
        assert awaited(await chat.turn(turn)) == ("a",)
        await decided(chat, turn)
        view = await chat.ended(turn)
        assert (view.status, await outcomes(chat, session), paid) == ("completed", [("a", "unknown_tool")], [])
        assert results(view)[0][2]
        await assert_told_again(chat, turn, await frames_of(chat, turn))


async def test_a_tool_that_takes_other_arguments_now_is_not_called_with_the_old(path, tools, paid):
    """What was approved is checked again when it is made."""
    async with chatting(path, tools=tools, main=rounds([call("pay", amount=5)])) as chat:
        session, turn, _ = await paused(chat)

    @engine.tool(approval=True)
    async def pay(amount: str) -> str:
        """Pays."""
        paid.append(amount)

    async with chatting(path, tools=[pay], main=rounds([], ["I see."])) as chat:
        await decided(chat, turn)
        assert (await chat.ended(turn)).status == "completed"
        assert (await outcomes(chat, session), paid) == ([("a", "invalid_arguments")], [])


async def test_a_model_that_is_gone_leaves_the_turn_waiting(path, tools, paid):
    """A decision that cannot be followed is refused and not taken; the turn can be cancelled."""
    async with chatting(path, tools=tools, main=rounds([call("pay", amount=5)])) as chat:
        session, turn, _ = await paused(chat)
    async with chatting(path, tools=tools, other=says("Yes.")) as chat:
        with pytest.raises(EngineError) as refused:
            await decided(chat, turn)
        assert refused.value.code == "unknown_model"
        assert awaited(await chat.turn(turn)) == ("a",)
        assert (await chat.cancel(turn)).status == "cancelled"
        await assert_can_go_on(chat, session)


async def test_the_callers_calls_come_after_the_decision(path, tools, paid):
    """An answer that also asks for the caller's tools waits first, and then completes with ``tool_use``."""
    steps = [call("lookup", "a"), call("pay", "b", amount=5)]
    async with chatting(path, tools=tools, main=rounds(steps, ["Done."])) as chat:
        session, turn, _ = await paused(chat, client_tools=(LOOKUP,))
        await decided(chat, turn, "b")
        view = await chat.ended(turn)
        assert (view.status, view.stop_reason, paid) == ("completed", "tool_use", [5])
        with pytest.raises(ToolResultsMissing) as refused:
            await chat.say(session, "Never mind.")
        assert refused.value.extra["tool_use_ids"] == ["a"]
        await chat.append_messages(session, [result_of("a", "found")])
        assert text_of((await chat.ended(await begin(chat, session))).message) == "Done."
        await assert_told_again(chat, turn, await frames_of(chat, turn))


@pytest.mark.parametrize("name", ["price", "pay"], ids=["without a pause", "with a pause"])
async def test_the_model_that_was_asked_for_is_asked_first_also_after_a_pause(path, tools, name):
    """A fallback that answered one round does not take the turn over, whether or not it was paused."""
    given = {"price": {"of": "it"}, "pay": {"amount": 5}}[name]
    models = {
        "main": says({"fail": {"code": "provider_unavailable"}}),
        "other": rounds([call(name, **given)], ["Done."]),
    }
    async with chatting(path, tools=tools, **models) as chat:
        session = (await chat.create_session(model="scripted/main", fallback_model="scripted/other")).id
        turn = await begin(chat, session, "Go.", tools=NAMES)
        await chat.ended(turn)
    async with chatting(path, tools=tools, **models) as chat:
        if name == "pay":
            await decided(chat, turn)
        view = await chat.ended(turn)
        assert view.status == "completed"
        asked_models = [(each.round, each.attempt, each.model) for each in view.attempts]
        assert asked_models == [(1, 1, "main"), (1, 2, "other"), (2, 1, "main"), (2, 2, "other")]
        await assert_told_again(chat, turn, await frames_of(chat, turn))


async def test_rounds_and_tokens_are_counted_across_a_pause(path, tools):
    """A turn that was paused has no more rounds and tokens than any other."""
    usage = {"usage": {"input_tokens": 60, "output_tokens": 40}}
    answers = [[call("pay", amount=number), usage] for number in range(5)]
    for limits in ({"max_rounds": 2}, {"max_turn_tokens": 150}):
        async with chatting(path, tools=tools, main=rounds(*answers), other=says("Yes."), **limits) as chat:
            session, turn, _ = await paused(chat)
            await decided(chat, turn)
            assert (await chat.ended(turn)).status == "requires_action"
        async with chatting(path, tools=tools, main=rounds(*answers), other=says("Yes."), **limits) as chat:
            await decided(chat, turn)
            view = await chat.ended(turn)
            assert (view.status, view.error.code) == ("failed", "turn_limit_reached")
            assert {view.error.limit: view.error.maximum} == limits
            assert await outcomes(chat, session) == [("a", "completed")] * 2
            await assert_can_go_on(chat, session)
