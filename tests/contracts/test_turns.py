"""What a turn promises, whatever the model does: record first, one end, what came is kept, and who may run it.

The models are scripted (a product, and a fake), or dictated chunk by chunk.
"""

import asyncio
import json
import time

import msgspec
import pytest

from manent import engine
from manent.engine.clock import new_id
from manent.engine.errors import (
    BudgetTooSmall,
    EngineError,
    IdempotencyMismatch,
    Invalid,
    NothingToAnswer,
    Overloaded,
    SessionArchived,
    SessionNotFound,
    ShuttingDown,
    ToolCallNotFound,
    ToolResultsMissing,
    TurnAlreadyOpen,
    TurnNotFound,
    UnknownModel,
    VersionConflict,
)
from manent.engine.events.blocks import read_blocks
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended
from tests.support import (
    Dictated,
    assert_rebuilds,
    audit,
    begin,
    chatting,
    dump,
    explained,
    frames_of,
    offered,
    says,
    shown,
    text_of,
    texts_of,
    told,
    until,
)

HANG = {"hang": True}
TRUNCATE = {"truncate": True}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


def raw(*blocks):
    return tuple(msgspec.Raw(json.dumps(block).encode()) for block in blocks)


def result(call, text="done", **fields):
    return {"type": "tool_result", "tool_use_id": call, "content": text, **fields}


def call(name, **fields):
    return {"tool": {"id": name, "name": f"do_{name}", **fields}}


OURS = offered("do_a", "do_b")
"""The tools that ``call`` asks for."""


def data(frame):
    return json.loads(frame.data)


async def types_of(chat, session):
    return [event.type for event in (await chat.events(session)).items]


def asked(chat, number=-1):
    """What the model was asked: (role, text) of each message."""
    return [(message["role"], message["text"]) for message in json.loads(chat.script.requests[number])["messages"]]


# --- what comes is what is recorded and shown -------------------------------------------------------------------------

ANSWERS = {
    "text": (
        ["Hello, ", "world."],
        ["block.started", "delta", "delta"],
        [("text", "Hello, world.")],
        "end_turn",
    ),
    "pieces": (
        [{"text": "abcdefg", "chunk_chars": 3, "every_ms": 1}],
        ["block.started", "delta", "delta", "delta"],
        [("text", "abcdefg")],
        "end_turn",
    ),
    "thinking, then text": (
        [{"thinking": "Hm."}, "Yes."],
        ["block.started", "delta", "block.started", "delta"],
        [("thinking", "Hm."), ("text", "Yes.")],
        "end_turn",
    ),
    "a call": (
        [call("a", input={"x": 1})],
        ["block.started", "delta"],
        [("tool_use", '{"x":1}')],
        "tool_use",
    ),
    "text around two calls": (
        ["One.", call("a"), "Two.", call("b", input_text="{broken")],
        ["block.started", "delta"] * 4,
        [("text", "One."), ("tool_use", "{}"), ("text", "Two."), ("tool_use", "{broken")],
        "tool_use",
    ),
    "strange text": (
        ["a\x00b\r\n\t\x1b[0m \u2028\u2029\x85 \u202eabc\u202c é 👩‍👩‍👧 \ufeff\uffff"],
        ["block.started", "delta"],
        [("text", "a\x00b\r\n\t\x1b[0m \u2028\u2029\x85 \u202eabc\u202c é 👩‍👩‍👧 \ufeff\uffff")],
        "end_turn",
    ),
    "another reason": (["Cut", {"end": "max_tokens"}], ["block.started", "delta"], [("text", "Cut")], "max_tokens"),
    "nothing": ([], [], [], "end_turn"),
    "an empty block": ([""], ["block.started"], [("text", "")], "end_turn"),
}


@pytest.mark.parametrize(("steps", "frames", "blocks", "stop_reason"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_shown_as_it_comes_and_recorded_as_it_was_shown(path, steps, frames, blocks, stop_reason):
    """Frames are numbered densely from 1, the deltas of each block joined are the recorded block, and the turn
    completes with the model's reason.
    """
    async with chatting(path, main=says(*steps)) as chat:
        session = await chat.create_session(model="scripted/main")
        turn = await begin(chat, session.id, "Go.", client_tools=OURS)
        live = await frames_of(chat, turn)
        calls = [name for name, _ in blocks].count("tool_use")
        kinds = ["turn.started", *frames, "message.appended", *["tool.called"] * calls, "turn.completed"]
        assert told(live) == [*enumerate(kinds, 1)]
        view = await chat.turn(turn)
        assert (view.status, view.stop_reason, view.vendor_stop_reason) == ("completed", stop_reason, stop_reason)
        assert [streamed(block) for block in view.message.blocks()] == blocks
        assert texts_of(live) == {number: text for number, (_, text) in enumerate(blocks) if text}
        assert view.message.complete
        assert view.message.turn_id == turn
        assert await frames_of(chat, turn) == live
    audit(path)
    assert_rebuilds(path, path.with_suffix(".copy"))


def streamed(block):
    kind = block.__struct_config__.tag
    return kind, block.input_text if kind == "tool_use" else block.text


async def test_frames_say_what_they_mean(path):
    """The data of each frame: turn, block with its call's id and name, delta with its kind, message, call."""
    async with chatting(path, main=says({"thinking": "Hm."}, "Hi.", call("a", input={}))) as chat:
        session = await chat.create_session(model="scripted/main")
        frames = await frames_of(chat, turn := await begin(chat, session.id, "Go.", client_tools=OURS))
    by_type = {frame.type: data(frame) for frame in frames}
    started = data(frames[0])
    assert (started["id"], started["status"], started["message_ids"], started["ended_at"]) == (
        str(turn),
        "running",
        [],
        None,
    )
    opened = [data(frame) for frame in frames if frame.type == "block.started"]
    message = by_type["message.appended"]["id"]
    assert opened == [
        {"message_id": message, "block": 0, "type": "thinking"},
        {"message_id": message, "block": 1, "type": "text"},
        {"message_id": message, "block": 2, "type": "tool_use", "id": "a", "name": "do_a"},
    ]
    deltas = [data(frame) for frame in frames if frame.type == "delta"]
    assert [(delta["block"], delta["type"], delta["text"]) for delta in deltas] == [
        (0, "thinking", "Hm."),
        (1, "text", "Hi."),
        (2, "tool_input", "{}"),
    ]
    assert by_type["tool.called"] == {"tool_use_id": "a", "name": "do_a", "message_id": message, "runner": "client"}
    end = by_type["turn.completed"]
    assert (end["id"], end["status"], end["message_ids"]) == (str(turn), "completed", [message])
    assert not {"messages", "message"} & (started.keys() | end.keys())


async def test_the_record_of_a_turn(path):
    """A turn's events, in order; who wrote each, on whose request, and what caused it."""
    caller = engine.Caller("acme", "key:7", "request-1")
    async with chatting(path, main=says("Hi.", call("a"))) as chat:
        session = await chat.create_session(caller=caller, model="scripted/main")
        message = "Go."
        started = await chat.start_turn(session.id, message, client_tools=OURS, caller=caller)
        await chat.ended(started.turn, caller=caller)
        events = (await chat.events(session.id, caller=caller)).items
    turn = str(started.turn)
    assert [(event.type, event.actor, str(event.causation_id)) for event in events[1:]] == [
        ("message.appended", "key:7", "None"),
        ("turn.started", "key:7", str(events[1].id)),
        ("attempt.started", f"turn:{turn}", turn),
        ("attempt.ended", f"turn:{turn}", turn),
        ("message.appended", f"turn:{turn}", turn),
        ("tool.called", f"turn:{turn}", turn),
        ("turn.completed", f"turn:{turn}", turn),
    ]
    assert events[2].id == started.turn
    assert {event.correlation_id for event in events} == {"request-1"}
    facts = json.loads(bytes(events[6].facts))
    assert facts["message"] == events[5].position
    audit(path)


async def test_usage_is_the_vendors_or_an_estimate(path):
    """What the model reports is kept, also raw; what it does not report is counted here and marked so."""
    reported = {"input_tokens": 9, "output_tokens": 4, "cache_read_tokens": 2}
    async with chatting(path, told=says("Hi.", {"usage": reported}), silent=says("Hi there.")) as chat:
        one, other = [await chat.create_session(model=f"scripted/{name}") for name in ("told", "silent")]
        usage = (await chat.say(one.id, "Go.")).usage
        assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (9, 4, 2)
        assert (usage.reasoning_tokens, usage.estimated) == (None, False)
        estimate = (await chat.say(other.id, "Go.")).usage
        assert estimate.estimated
        assert estimate.input_tokens > 0 < estimate.output_tokens
        total = (await chat.session(one.id)).usage
        assert total == usage
        await chat.say(one.id, "Again.")
        assert (await chat.session(one.id)).usage.input_tokens == 18


# --- failures ---------------------------------------------------------------------------------------------------------


def fails(code="provider_rejected", **fields):
    return {"fail": {"code": code, "status": 418, "vendor_code": "teapot", "detail": "no", **fields}}


FAILURES = {
    "before anything": ([fails()], None, "provider_rejected", False),
    "unavailable": ([fails("provider_unavailable")], None, "provider_unavailable", True),
    "after text": (["Half an an", fails("provider_unavailable")], "Half an an", "provider_unavailable", True),
    "broken off at once": ([TRUNCATE], None, "provider_truncated", True),
    "broken off in text": (["Half", TRUNCATE], "Half", "provider_truncated", True),
    "broken off in a call": ([call("a", input_text='{"x'), TRUNCATE], "", "provider_truncated", True),
    "malformed after thinking": ([{"thinking": "Hm"}, fails("provider_malformed")], "", "provider_malformed", False),
}


@pytest.mark.parametrize(("steps", "text", "code", "retryable"), FAILURES.values(), ids=FAILURES)
async def test_a_failed_turn_keeps_what_came(path, steps, text, code, retryable):
    """A failure after the start is an event: what came is a message marked incomplete, and no call of it is open."""
    async with chatting(path, main=says(*steps), other=says("Fine.")) as chat:
        session = await chat.create_session(model="scripted/main")
        turn = await begin(chat, session.id, "Go.")
        frames = await frames_of(chat, turn)
        view = await chat.turn(turn)
        assert (view.status, view.error.code, view.error.retryable) == ("failed", code, retryable)
        assert frames[-1].type == "turn.failed"
        assert data(frames[-1])["error"] == {"code": code, "detail": view.error.detail, "retryable": retryable}
        assert "tool.called" not in {frame.type for frame in frames}
        if text is None:
            assert view.message is None
            assert "message.appended" not in {frame.type for frame in frames}
        else:
            assert (view.message.complete, text_of(view.message)) == (False, text)
        (attempt,) = view.attempts
        assert attempt.outcome == code
        assert await frames_of(chat, turn) == frames
        assert (await chat.say(session.id, "Again.", model="scripted/other")).status == "completed"
    audit(path)
    assert_rebuilds(path, path.with_suffix(".copy"))


async def test_what_upstream_said_is_for_the_record_only(path):
    """The status is a fact of the attempt, the vendor's code stands in its body; no frame shows either's words."""
    async with chatting(path, main=says("x", fails(retry_after_s=2))) as chat:
        session = await chat.create_session(model="scripted/main")
        await frames_of(chat, await begin(chat, session.id, "Go."))
        (ended,) = (await chat.events(session.id, types=("attempt.ended",))).items
    facts, words = json.loads(bytes(ended.facts)), json.loads(bytes(ended.body))
    assert (facts["status"], facts["outcome"], "vendor_code" in facts) == (418, "provider_rejected", False)
    assert words["vendor_code"] == "teapot"


@pytest.mark.parametrize("error", [ZeroDivisionError(), RuntimeError("secret"), ValueError("secret")], ids=repr)
async def test_a_mistake_of_ours_fails_the_turn_and_says_little(path, error):
    """An error that nobody foresaw ends the turn like any other, and does not tell the client what it was."""
    provider = Dictated(BlockStarted(0, "text"), Delta(0, "Half"), error)
    async with chatting(path, providers=(provider,)) as chat:
        session = await chat.create_session(model="dictated/model")
        view = await chat.say(session.id, "Go.")
        assert (view.status, text_of(view.message), view.message.complete) == ("failed", "Half", False)
        assert "secret" not in view.error.detail
        assert (await chat.session(session.id)).open_turn_id is None


async def test_a_provider_that_is_cancelled_from_within_has_not_completed(path):
    """An answer without its end marker is never complete, whatever it was that ended it."""
    provider = Dictated(BlockStarted(0, "text"), Delta(0, "Half"), asyncio.CancelledError())
    async with chatting(path, providers=(provider,)) as chat:
        session = await chat.create_session(model="dictated/model")
        view = await chat.say(session.id, "Go.")
        assert (view.status, view.message.complete) == ("failed", False)


async def test_text_for_a_block_that_was_not_begun_is_malformed(path):
    """A provider that breaks its contract fails its turn."""
    provider = Dictated(BlockStarted(0, "text"), Delta(0, "a"), Delta(1, "b"), Ended("end_turn"))
    async with chatting(path, providers=(provider,)) as chat:
        session = await chat.create_session(model="dictated/model")
        view = await chat.say(session.id, "Go.")
        assert (view.error.code, text_of(view.message)) == ("provider_malformed", "a")


async def test_the_end_of_a_turn_is_recorded_whatever_the_vendor_reports(path):
    """Figures that no leaf can hold do not keep a turn from ending."""
    async with chatting(path, main=says("Hi.", {"usage": {"input_tokens": 2**60}})) as chat:
        session = await chat.create_session(model="scripted/main")
        view = await chat.say(session.id, "Go.")
        assert view.status != "running"
        assert (await chat.session(session.id)).open_turn_id is None


TIMEOUTS = {
    "first chunk": ([HANG], {"first_chunk_timeout_s": 0.05}, None),
    "between chunks": (["Half", HANG], {"idle_timeout_s": 0.05}, "Half"),
    "the whole turn": ([{"text": "ab" * 500, "chunk_chars": 2, "every_ms": 10}], {"turn_timeout_s": 0.1}, "ab"),
}


@pytest.mark.parametrize(("steps", "limits", "text"), TIMEOUTS.values(), ids=TIMEOUTS)
async def test_a_model_has_only_so_much_time(path, steps, limits, text):
    """Silence before the first chunk or between two, and a turn without end, are each ended in time, and what came is
    kept.
    """
    async with chatting(path, main=says(*steps), **limits) as chat:
        session = await chat.create_session(model="scripted/main")
        started = time.monotonic()
        view = await chat.say(session.id, "Go.")
        assert time.monotonic() - started < 3
        assert (view.status, view.error.code, view.error.retryable) == ("failed", "provider_timed_out", True)
        assert text is None or text_of(view.message).startswith(text)


async def test_an_endless_answer_is_cut(path):
    """An answer over ``max_answer_bytes`` fails the turn; what was shown is recorded, and the provider is let go."""
    provider = Dictated(BlockStarted(0, "text"), *[Delta(0, "é" * 50)] * 1000, BlockStopped(0), Ended("end_turn"))
    async with chatting(path, providers=(provider,), max_answer_bytes=1000) as chat:
        session = await chat.create_session(model="dictated/model")
        turn = await begin(chat, session.id, "Go.")
        frames = await frames_of(chat, turn)
        view = await chat.turn(turn)
        assert (view.status, view.error.code) == ("failed", "provider_too_large")
        assert (view.error.limit, view.error.maximum, view.error.retryable) == ("max_answer_bytes", 1000, False)
        assert texts_of(frames)[0] == text_of(view.message)
        assert 1000 < len(text_of(view.message).encode()) <= 1100
        assert provider.left == 1


# --- cancelling -------------------------------------------------------------------------------------------------------

CANCELS = {
    "before the first chunk": ([HANG], 1, None),
    "in the middle": (["Half an an", HANG], 3, "Half an an"),
    "in thinking": ([{"thinking": "Hm"}, HANG], 3, ""),
    "in a call": ([call("a", input_text='{"x'), HANG], 3, ""),
}


@pytest.mark.parametrize(("steps", "count", "text"), CANCELS.values(), ids=CANCELS)
async def test_a_turn_can_be_cancelled_at_any_moment(path, steps, count, text):
    """Cancelling ends the turn, lets the provider go, keeps what came, and says who did it; again is no harm."""
    caller = engine.Caller("default", "key:9", "request-9")
    async with chatting(path, main=says(*steps), other=says("Fine.")) as chat:
        session = await chat.create_session(model="scripted/main")
        turn = await begin(chat, session.id, "Go.")
        await shown(chat, turn, count)
        reader = asyncio.ensure_future(frames_of(chat, turn))
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            view = await chat.cancel(turn, caller=caller)
            frames = await reader
        assert view.status == "cancelled"
        assert view.error is None
        assert (view.message and text_of(view.message)) == text
        assert view.message is None or not view.message.complete
        assert frames[-1].type == "turn.cancelled"
        events = (await chat.events(session.id)).items
        assert (events[-1].type, events[-1].actor) == ("turn.cancelled", "key:9")
        assert view.attempts[0].outcome == "cancelled"
        assert (await chat.cancel(turn)).status == "cancelled"
        assert len((await chat.events(session.id)).items) == len(events)
        assert await frames_of(chat, turn) == frames
        assert (await chat.say(session.id, "Again.", model="scripted/other")).status == "completed"
    audit(path)
    assert_rebuilds(path, path.with_suffix(".copy"))


async def test_cancelling_what_has_ended_changes_nothing(path):
    """A turn that has completed stays completed; one that does not exist is not found, nor is another tenant's."""
    async with chatting(path, main=says("Hi.")) as chat:
        session = await chat.create_session(model="scripted/main")
        turn = await chat.say(session.id, "Go.")
        before = dump(path)
        assert await chat.cancel(turn.id) == turn
        assert dump(path) == before
        for missing, caller in ((new_id(), engine.LOCAL), (turn.id, engine.Caller("other"))):
            with pytest.raises(TurnNotFound):
                await chat.cancel(missing, caller=caller)


async def test_cancelling_closes_the_connection_upstream(path):
    """The provider's stream is closed at once, not when it next says something."""
    waiting = asyncio.Event()
    provider = Dictated(BlockStarted(0, "text"), Delta(0, "a"), waiting.wait)
    async with chatting(path, providers=(provider,)) as chat:
        session = await chat.create_session(model="dictated/model")
        turn = await begin(chat, session.id, "Go.")
        await shown(chat, turn, 3)
        assert provider.left == 0
        await chat.cancel(turn)
        assert provider.left == 1


async def test_cancelling_a_turn_that_is_just_ending_gives_one_end(path):
    """Whoever comes first wins: the turn is completed or cancelled, with exactly one end, and both callers see it."""
    for pause_ms in range(12):
        async with chatting(path, main=says("Hi", {"pause_ms": pause_ms})) as chat:
            session = await chat.create_session(model="scripted/main")
            turn = await begin(chat, session.id, "Go.")
            await asyncio.sleep(0.006)
            view = await chat.cancel(turn)
            assert view.status in {"completed", "cancelled"}
            ends = [kind for kind in await types_of(chat, session.id) if kind in {"turn.completed", "turn.cancelled"}]
            assert ends == [f"turn.{view.status}"]
    audit(path)


async def test_many_cancel_at_once(path):
    """Everybody who cancels is answered; one of them is on record."""
    async with chatting(path, main=says("Half", HANG)) as chat:
        session = await chat.create_session(model="scripted/main")
        turn = await begin(chat, session.id, "Go.")
        callers = [engine.Caller("default", f"key:{number}") for number in range(8)]
        views = await asyncio.gather(*(chat.cancel(turn, caller=caller) for caller in callers))
        assert {view.status for view in views} == {"cancelled"}
        events = (await chat.events(session.id)).items
        (actor,) = [event.actor for event in events if event.type == "turn.cancelled"]
        assert actor in {caller.actor for caller in callers}


# --- shutdown ---------------------------------------------------------------------------------------------------------


async def test_a_shutdown_waits_for_turns_that_end_in_time(path):
    """Turns that run may end within ``drain_s``; no new one is taken, and reading goes on."""
    async with chatting(path, slow=says("Almost", {"pause_ms": 150}, " done."), drain_s=5) as chat:
        session, other = [await chat.create_session(model="scripted/slow") for _ in range(2)]
        turn = await begin(chat, session.id, "Go.")
        reader = asyncio.ensure_future(frames_of(chat, turn))
        draining = asyncio.ensure_future(chat.serving.drain())
        await asyncio.sleep(0.02)
        assert not await chat.serving.ready()
        with pytest.raises(ShuttingDown):
            await begin(chat, other.id, "Me too.")
        await draining
        assert (await reader)[-1].type == "turn.completed"
        assert text_of((await chat.turn(turn)).message) == "Almost done."


async def test_a_shutdown_interrupts_the_rest(path):
    """What does not end in time is interrupted, kept, and can be gone on with after the start."""
    async with chatting(path, slow=says("Half", HANG), drain_s=0) as chat:
        sessions = [await chat.create_session(model="scripted/slow") for _ in range(3)]
        turns = [await begin(chat, session.id, "Go.") for session in sessions]
        for turn in turns:
            await shown(chat, turn, 3)
        started = time.monotonic()
        reader = asyncio.ensure_future(frames_of(chat, turns[0]))
        await asyncio.sleep(0)
    assert time.monotonic() - started < 3
    assert (await reader)[-1].type == "turn.interrupted"
    async with chatting(path, slow=says(" and the rest.")) as chat:
        for session, turn in zip(sessions, turns, strict=True):
            view = await chat.turn(turn)
            assert (view.status, text_of(view.message), view.message.complete) == ("interrupted", "Half", False)
            end = (await chat.events(session.id, types=("turn.interrupted",))).items[0]
            assert (json.loads(bytes(end.facts))["reason"], end.actor) == ("shutdown", "system")
            assert (await chat.ended(await begin(chat, session.id, continues=True))).status == "completed"
    audit(path)
    assert_rebuilds(path, path.with_suffix(".copy"))


async def test_a_shutdown_lets_go_of_those_who_follow(path):
    """Who follows a log, which has no end, is let go."""
    async with chatting(path) as chat:
        session = await chat.create_session()
        seen = []

        async def follow(what):
            async for batch in chat.follow(what, after=0):
                seen.extend(event.type for event in batch)

        following = [asyncio.ensure_future(follow(what)) for what in (session.id, None)]
        await until(lambda: asyncio.sleep(0, len(seen) == 2))
        await chat.serving.drain()
        async with asyncio.timeout(2):
            await asyncio.gather(*following)


# --- who may start a turn ---------------------------------------------------------------------------------------------


async def test_a_session_has_one_turn_at_a_time(path):
    """While a turn runs another is refused with its id, and so is what would change what it was asked; a title may."""
    async with chatting(path, main=says("Half", HANG)) as chat:
        session = await chat.create_session(model="scripted/main")
        turn = await begin(chat, session.id, "Go.")
        before = (await chat.session(session.id)).version
        changes = [
            {"model": "echo/echo"},
            {"system": "x"},
            {"budget_tokens": 9},
            {"max_output_tokens": 9},
            {"status": "archived"},
        ]
        attempts = [
            begin(chat, session.id, "Me too."),
            begin(chat, session.id),
            chat.append_message(session.id, "And me."),
            *(chat.update_session(session.id, **change) for change in changes),
        ]
        for attempt in attempts:
            with pytest.raises(TurnAlreadyOpen) as refused:
                await attempt
            assert refused.value.extra == {"turn_id": str(turn)}
        assert (await chat.session(session.id)).version == before
        assert (await chat.session(session.id)).open_turn_id == turn
        assert (await chat.update_session(session.id, title="Meanwhile")).title == "Meanwhile"
        view = await chat.cancel(turn)
        assert text_of(view.message) == "Half"
        assert told(await frames_of(chat, turn))[-1] == (5, "turn.cancelled")
    audit(path)
    assert_rebuilds(path, path.with_suffix(".copy"))


async def test_of_two_turns_that_race_one_wins(path):
    """Of many that start a turn on one session at once, one runs; the others learn which, and add nothing."""
    async with chatting(path, main=says("Half", HANG)) as chat:
        session = await chat.create_session(model="scripted/main")
        racers = [begin(chat, session.id, f"I am {number}.") for number in range(8)]
        results = await asyncio.gather(*racers, return_exceptions=True)
        (winner,) = [result for result in results if not isinstance(result, Exception)]
        lost = [result for result in results if isinstance(result, Exception)]
        assert [type(error) for error in lost] == [TurnAlreadyOpen] * 7
        assert {error.extra["turn_id"] for error in lost} == {str(winner)}
        assert (await types_of(chat, session.id)).count("message.appended") == 1
        await shown(chat, winner, 3)
        assert len(chat.script.requests) == 1
        await chat.cancel(winner)
    audit(path)


async def test_a_turn_on_what_the_session_no_longer_is_is_refused(path):
    """With an expected version a turn starts at that version or not at all."""
    async with chatting(path, main=says("Hi.")) as chat:
        session = await chat.create_session(model="scripted/main")
        message = "Go."
        for version in (0, 2, 99):
            with pytest.raises(VersionConflict) as refused:
                await chat.start_turn(session.id, message, expected=version)
            assert refused.value.current_version == 1
        await chat.ended((await chat.start_turn(session.id, message, expected=1)).turn)


def key(body=b"{}", name="k"):
    return engine.RequestKey("local", "POST turns", name, body)


async def test_one_key_is_one_turn(path):
    """The same request many times at once, and again later and after a restart, is one turn with one model call."""
    async with chatting(path, main=says({"pause_ms": 30}, "Hi.")) as chat:
        session = await chat.create_session(model="scripted/main")
        started = await asyncio.gather(*(chat.start_turn(session.id, "Go.", request=key()) for _ in range(6)))
        (turn,) = {each.turn for each in started}
        assert sum(not each.replayed for each in started) == 1
        with pytest.raises(IdempotencyMismatch):
            await chat.start_turn(session.id, "Go.", request=key(b"other"))
        assert (await chat.ended(turn)).status == "completed"
        assert len(chat.script.requests) == 1
        size = len(await types_of(chat, session.id))
    async with chatting(path, main=says("Hi.")) as chat:
        again = await chat.start_turn(session.id, "Go.", expected=77, request=key())
        assert (again.turn, again.session, again.replayed) == (turn, session.id, True)
        assert len(await types_of(chat, session.id)) == size
        assert chat.script.requests == []
        await chat.update_session(session.id, status="archived")
        assert (await chat.start_turn(session.id, "Go.", request=key())).replayed


async def test_a_refused_turn_does_not_use_up_its_key(path):
    """A turn that was refused changes nothing, and its key is free."""
    async with chatting(path, main=says("Hi.")) as chat:
        session = await chat.create_session(model="scripted/main")
        with pytest.raises(NothingToAnswer):
            await chat.start_turn(session.id, request=key(b"first"))
        message = "Go."
        started = await chat.start_turn(session.id, message, request=key(b"second"))
        assert not started.replayed
        await chat.ended(started.turn)


async def test_only_so_many_turns_run_at_once(path):
    """Beyond ``max_open_turns`` a turn is refused with when to come again, also when all come at once."""
    async with chatting(path, main=says("Half", HANG), max_open_turns=2) as chat:
        sessions = [await chat.create_session(model="scripted/main") for _ in range(6)]
        results = await asyncio.gather(*(begin(chat, each.id, "Go.") for each in sessions), return_exceptions=True)
        turns = [result for result in results if not isinstance(result, Exception)]
        assert len(turns) == 2
        assert {(type(error), error.extra["limit"]) for error in results if error not in turns} == {
            (Overloaded, "max_open_turns")
        }
        await chat.cancel(turns[0])
        await begin(chat, sessions[results.index(next(e for e in results if e not in turns))].id, "Now.")


REFUSALS = {
    "no such session": (lambda chat, session: begin(chat, new_id(), "x"), SessionNotFound),
    "another tenant's": (
        lambda chat, session: chat.start_turn(session, caller=engine.Caller("other")),
        SessionNotFound,
    ),
    "nothing to answer": (begin, NothingToAnswer),
    "nothing to continue": (lambda chat, session: begin(chat, session, continues=True), NothingToAnswer),
    "continue with content": (lambda chat, session: begin(chat, session, "x", continues=True), Invalid),
    "unknown model": (lambda chat, session: begin(chat, session, "x", model="nobody/nothing"), UnknownModel),
    "temperature": (lambda chat, session: begin(chat, session, "x", temperature=2.5), Invalid),
    "stop": (lambda chat, session: begin(chat, session, "x", stop=("",)), Invalid),
    "a negative budget": (lambda chat, session: begin(chat, session, "x", budget_tokens=-1), Invalid),
    "a small budget": (
        lambda chat, session: begin(chat, session, "many words " * 50, budget_tokens=20),
        BudgetTooSmall,
    ),
}


@pytest.mark.parametrize(("attempt", "error"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refused_turn_changes_nothing(path, attempt, error):
    """Before its start a turn fails with an exception, and not a row of the database is another."""
    async with chatting(path, main=says("Hi.")) as chat:
        session = await chat.create_session(model="scripted/main")
        before = dump(path)
        with pytest.raises(error):
            await attempt(chat, session.id)
        assert dump(path) == before
        assert chat.script.requests == []


async def test_a_budget_that_is_too_small_says_by_how_much(path):
    """The refusal names what is needed and what there is, in the model's tokens."""
    async with chatting(path, main=says("Hi.")) as chat:
        session = await chat.create_session(model="scripted/main", system="Be brief.")
        with pytest.raises(BudgetTooSmall) as refused:
            await begin(chat, session.id, "many words " * 50, budget_tokens=40, max_output_tokens=10)
        extra = refused.value.extra
        assert extra["available_tokens"] == 30 < extra["required_tokens"]
        assert (extra["budget_tokens"], extra["reserve_tokens"]) == (40, 10)


async def test_an_archived_session_takes_no_turn(path):
    """Archived, it refuses turns and messages; restored, it takes them."""
    async with chatting(path, main=says("Hi.")) as chat:
        session = await chat.create_session(model="scripted/main")
        await chat.update_session(session.id, status="archived")
        for attempt in (begin(chat, session.id, "x"), chat.append_message(session.id, "x")):
            with pytest.raises(SessionArchived):
                await attempt
        await chat.update_session(session.id, status="active")
        assert (await chat.say(session.id, "x")).status == "completed"


async def test_a_caller_who_is_gone_before_the_start_is_answered_leaves_no_open_turn(path):
    """A start whose caller was cancelled while it was written runs or never was: the session is not locked."""
    async with chatting(path, main=says("Hi.")) as chat:
        for _ in range(10):
            session = await chat.create_session(model="scripted/main")
            starting = asyncio.ensure_future(begin(chat, session.id, "Go."))
            while chat._parts.store._writer._waiting == 0:  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait([starting])
            await until(lambda session=session: can_be_used(chat, session.id), timeout_s=2)


async def test_nothing_of_an_engine_runs_when_it_is_closed(path):
    """A start that is under way when the engine is closed is ended with it, or at the next start."""
    others = asyncio.all_tasks()
    for pauses in range(8):
        async with chatting(path, main=says("Hi.")) as chat:
            session = await chat.create_session(model="scripted/main")
            starting = asyncio.ensure_future(begin(chat, session.id, "Go."))
            while chat._parts.store._writer._waiting == 0:  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0)
            for _ in range(pauses):
                await asyncio.sleep(0)
            starting.cancel()
        await asyncio.wait([starting])
        await asyncio.sleep(0.02)
        left = asyncio.all_tasks() - others
        for task in left:
            task.cancel()
        assert left == set()
    async with chatting(path) as chat:
        assert [session.open_turn_id for session in (await chat.sessions()).items] == [None] * 8


async def can_be_used(chat, session):
    """Whether a turn can be run to its end; not while another runs."""
    try:
        return (await chat.say(session, "Again.")).status == "completed"
    except TurnAlreadyOpen:
        return False


async def not_open(chat, session):
    return (await chat.session(session)).open_turn_id is None


async def test_the_end_of_a_turn_is_recorded_however_busy_the_writer_is(path):
    """An end that finds the writer's queue full is recorded when there is room."""
    async with chatting(path, main=says("Hi.", {"pause_ms": 100}), queue_writes=3) as chat:
        session = await chat.create_session(model="scripted/main")
        turn = await begin(chat, session.id, "Go.")
        await shown(chat, turn, 3)
        busy = [chat._parts.store.submit(lambda _: time.sleep(0.1)) for _ in range(3)]
        await asyncio.gather(*busy)
        async with asyncio.timeout(4):
            await until(lambda: not_open(chat, session.id), timeout_s=3)


# --- after a failed turn ----------------------------------------------------------------------------------------------


async def failed_first(chat, *steps):
    session = await chat.create_session(model="scripted/first")
    view = await chat.say(session.id, "Tell me.")
    assert view.status == "failed"
    return session.id


async def test_a_new_turn_without_content_leaves_the_partial_answer_out(path):
    """The same question is answered anew: the partial answer stays in the record and in no window from then on."""
    async with chatting(path, first=says("Half an an", TRUNCATE), other=says("Whole.")) as chat:
        session = await failed_first(chat)
        view = await chat.ended(await begin(chat, session, model="scripted/other"))
        assert (view.status, asked(chat)) == ("completed", [("user", "Tell me.")])
        await chat.say(session, "Thanks.", model="scripted/other")
        assert asked(chat) == [("user", "Tell me."), ("assistant", "Whole."), ("user", "Thanks.")]
        assert [text_of(message) for message in (await chat.messages(session)).items] == [
            "Tell me.",
            "Half an an",
            "Whole.",
            "Thanks.",
            "Whole.",
        ]
    assert_rebuilds(path, path.with_suffix(".copy"))


async def test_a_new_turn_may_continue_the_partial_answer(path):
    """With ``continues`` the partial answer is sent along, as the assistant's last word."""
    async with chatting(path, first=says("Half an an", TRUNCATE), other=says("swer.")) as chat:
        session = await failed_first(chat)
        view = await chat.ended(await begin(chat, session, model="scripted/other", continues=True))
        assert asked(chat) == [("user", "Tell me."), ("assistant", "Half an an")]
        assert text_of(view.message) == "swer."
        await chat.say(session, "Thanks.", model="scripted/other")
        assert asked(chat)[:3] == [("user", "Tell me."), ("assistant", "Half an an"), ("assistant", "swer.")]


async def test_new_content_goes_on_after_the_partial_answer(path):
    """A new message after a failed turn is sent with the text that came before it broke off."""
    async with chatting(path, first=says({"thinking": "Hm"}, "Half", call("a"), TRUNCATE), other=says("Yes.")) as chat:
        session = await failed_first(chat)
        await chat.say(session, "Are you there?", model="scripted/other")
        assert asked(chat) == [("user", "Tell me."), ("assistant", "Half"), ("user", "Are you there?")]


async def test_a_turn_that_failed_before_a_word_can_be_tried_again(path):
    """There is nothing partial: the same question is asked again."""
    async with chatting(path, first=says(fails()), other=says("Yes.")) as chat:
        session = await failed_first(chat)
        with pytest.raises(Invalid):
            await begin(chat, session, continues=True)
        assert (await chat.ended(await begin(chat, session, model="scripted/other"))).status == "completed"
        assert asked(chat) == [("user", "Tell me.")]
        with pytest.raises(NothingToAnswer):
            await begin(chat, session)


async def test_a_partial_answer_that_was_given_up_is_not_continued(path):
    """After an attempt to answer anew, the partial answer is out: to continue it is refused, or it is sent along."""
    async with chatting(path, first=says("Half", TRUNCATE), bad=says(fails()), other=says("Yes.")) as chat:
        session = await failed_first(chat)
        await chat.ended(await begin(chat, session, model="scripted/bad"))
        try:
            await chat.ended(await begin(chat, session, model="scripted/other", continues=True))
        except Invalid:
            return
        assert asked(chat) == [("user", "Tell me."), ("assistant", "Half")]


# --- tools that the caller runs ---------------------------------------------------------------------------------------

TOOLS = [
    {"match": "both", "steps": [{"text": "Let me look."}, call("a", input={"x": 1}), call("b")]},
    {"match": "both", "steps": [{"text": "Done."}]},
    {"steps": [{"text": "Hello."}]},
]


async def open_calls(chat):
    session = await chat.create_session(model="scripted/main")
    view = await chat.say(session.id, "Do both.", client_tools=OURS)
    assert (view.status, view.stop_reason) == ("completed", "tool_use")
    return session.id


async def tool_message(chat, *blocks):
    return engine.MessageIn(raw(*blocks), "tool")


async def test_a_turn_with_calls_waits_for_their_results(path):
    """After ``tool_use`` any other input is refused with the calls that are open, for turns and for messages."""
    async with chatting(path, main=TOOLS) as chat:
        session = await open_calls(chat)
        before = dump(path)
        for attempt in (
            begin(chat, session, "Never mind."),
            begin(chat, session),
            chat.append_message(session, "Never mind."),
            chat.append_message(session, "I answer myself.", role="assistant"),
        ):
            with pytest.raises(ToolResultsMissing) as refused:
                await attempt
            assert refused.value.extra["tool_use_ids"] == ["a", "b"]
        assert dump(path) == before


async def test_results_are_the_input_of_the_next_turn(path):
    """The results of all calls start the next turn, and the model is sent them."""
    async with chatting(path, main=TOOLS) as chat:
        session = await open_calls(chat)
        message = await tool_message(chat, result("b", "two"), result("a", "one", is_error=True))
        started = await chat.start_turn(session, message)
        view = await chat.ended(started.turn)
        assert text_of(view.message) == "Done."
        assert asked(chat) == [("user", "Do both."), ("assistant", "Let me look."), ("tool", "twoone")]
        await chat.say(session, "Thank you both.")
    audit(path)
    assert_rebuilds(path, path.with_suffix(".copy"))


async def test_results_may_be_appended_one_by_one(path):
    """Each result closes its call; when all are there a turn without content answers them."""
    async with chatting(path, main=TOOLS) as chat:
        session = await open_calls(chat)
        await chat.append_messages(session, [engine.MessageIn(raw(result("a")), "tool")])
        with pytest.raises(ToolResultsMissing) as refused:
            await begin(chat, session)
        assert refused.value.extra["tool_use_ids"] == ["b"]
        await chat.append_messages(session, [engine.MessageIn(raw(result("b")), "tool")])
        assert text_of((await chat.ended(await begin(chat, session))).message) == "Done."
        assert [role for role, _ in asked(chat)] == ["user", "assistant", "tool", "tool"]


async def test_a_turn_does_not_start_on_half_of_the_results(path):
    """A message that answers one of two calls does not start a turn: the model would be sent a call without result."""
    async with chatting(path, main=TOOLS) as chat:
        session = await open_calls(chat)
        message = await tool_message(chat, result("a"))
        with pytest.raises(ToolResultsMissing) as refused:
            await chat.start_turn(session, message)
        assert refused.value.extra["tool_use_ids"] == ["b"]


@pytest.mark.parametrize("blocks", [[result("c")], [result("a"), result("a")], [result("a"), result("c")]], ids=str)
async def test_a_result_without_its_call_is_refused(path, blocks):
    """A result must answer an open call, each once, and a refused one is not half taken."""
    async with chatting(path, main=TOOLS) as chat:
        session = await open_calls(chat)
        before = dump(path)
        with pytest.raises(ToolCallNotFound):
            await chat.append_messages(session, [engine.MessageIn(raw(*blocks), "tool")])
        message = await tool_message(chat, *blocks)
        with pytest.raises(ToolCallNotFound):
            await chat.start_turn(session, message)
        assert dump(path) == before


async def test_a_call_that_broke_off_is_not_open(path):
    """After a failure in the middle of a call nothing is waited for."""
    async with chatting(path, first=says("x", call("a"), TRUNCATE), other=says("Yes.")) as chat:
        session = await failed_first(chat)
        assert (await chat.say(session, "And now?", model="scripted/other")).status == "completed"


# --- a vendor's own blocks --------------------------------------------------------------------------------------------

SIGNED = {"vendor": {"type": "thinking", "signature": "c2ln"}, "beside": True}
OWN = {"vendor": {"type": "citation", "n": [1, 2.5, None]}}


async def test_a_vendors_form_of_a_block_is_kept_beside_it(path):
    """A signed thought is recorded with its signature, read again, and does not keep the session from going on."""
    async with chatting(path, main=says({"thinking": "Hm."}, SIGNED, "Hi.")) as chat:
        session = await chat.create_session(model="scripted/main")
        turn = await begin(chat, session.id, "Go.")
        live = await frames_of(chat, turn)
        thought, text = (await chat.turn(turn)).message.blocks()
        assert (thought.text, text.text) == ("Hm.", "Hi.")
        assert json.loads(bytes(thought.vendor)) == SIGNED["vendor"]
        assert await frames_of(chat, turn) == live
        assert (await chat.say(session.id, "Again.")).status == "completed"


async def test_a_block_of_an_unknown_type_is_kept_as_it_came(path):
    """It stands in its place among the others, byte for byte, and frames and later turns are as ever."""
    async with chatting(path, main=says("One.", OWN, "Two.")) as chat:
        session = await chat.create_session(model="scripted/main")
        turn = await begin(chat, session.id, "Go.")
        live = await frames_of(chat, turn)
        content = (await chat.turn(turn)).message.content
        assert [json.loads(bytes(block))["type"] for block in content] == ["text", "citation", "text"]
        assert bytes(content[1]) == msgspec.json.encode(OWN["vendor"])
        assert texts_of(live) == {0: "One.", 2: "Two."}
        assert await frames_of(chat, turn) == live
        assert (await chat.say(session.id, "Again.")).status == "completed"


# --- what the model was sent can be derived again ---------------------------------------------------------------------


async def assert_derivable(chat, session, requests):
    """Every attempt of a session, explained, is what was sent, and what was committed to."""
    assert [prompt.request_bytes for prompt in await explained(chat, session)] == requests


async def test_every_request_can_be_derived_from_the_record(path):
    """Rendering the recorded window gives the bytes that were sent, whose salted commitment is in the facts: with
    system prompts, parameters, tools, partial answers, and windows that leave things out.
    """
    models = {"main": TOOLS, "bad": says("Half", TRUNCATE), "other": says("Yes.")}
    async with chatting(path, **models) as chat:
        session = (await chat.create_session(model="scripted/main", system="Be brief.")).id
        await chat.say(session, "Do both.", temperature=0.7, stop=("END", "\n\n"), client_tools=OURS)
        message = await tool_message(chat, result("a", "one"), result("b"))
        await chat.ended((await chat.start_turn(session, message)).turn)
        await chat.update_session(session, system="Be kind. \u2028 é", title="A title")
        await chat.say(session, "And you?", model="scripted/bad")
        await chat.ended(await begin(chat, session, model="scripted/other", continues=True))
        await chat.update_session(session, system=None)
        await chat.say(session, "Fails.", model="scripted/bad")
        await chat.ended(await begin(chat, session, model="scripted/other"))
        await chat.say(session, "A small window.", budget_tokens=40, max_output_tokens=10, model="scripted/other")
        requests = list(chat.script.requests)
        assert len(requests) == 7
        await assert_derivable(chat, session, requests)
    async with chatting(path, **models) as chat:
        await assert_derivable(chat, session, requests)


async def test_an_empty_system_prompt_is_none(path):
    """To set the system prompt to nothing takes it away, and what is then sent can be derived."""
    async with chatting(path, main=says("Hi.")) as chat:
        session = (await chat.create_session(model="scripted/main", system="Be brief.")).id
        assert (await chat.update_session(session, system="")).system is None
        await chat.say(session, "Go.")
        await assert_derivable(chat, session, chat.script.requests)


async def test_an_attempt_says_how_it_was_counted(path):
    """Its facts name the policy, the counter, the factor and the budget, and the figures add up."""
    async with chatting(path, main=says("Hi.")) as chat:
        session = await chat.create_session(model="scripted/main", system="Be brief.", budget_tokens=500)
        await chat.say(session.id, "Hello there.", max_output_tokens=77)
        (event,) = (await chat.events(session.id, types=("attempt.started",))).items
        facts = json.loads(bytes(event.facts))
        window = await chat.window(session.id, version=2)
    assert (facts["provider"], facts["model"], facts["round"], facts["attempt"]) == ("scripted", "main", 1, 1)
    assert (facts["budget_tokens"], facts["reserve_tokens"], facts["max_output_tokens"]) == (500, 77, 77)
    assert (facts["system"], facts["positions"]) == (1, [2])
    assert (facts["policy"], facts["counter"]) == (window.policy, window.counter)
    assert facts["base_tokens"] == window.used_tokens


# --- messages ---------------------------------------------------------------------------------------------------------


async def test_an_import_may_be_repeated(path):
    """Messages with ids of their own are appended once, however often they are sent; other words are refused."""
    messages = [engine.MessageIn("One.", id=new_id()), engine.MessageIn("Two.", "assistant", id=new_id())]
    async with chatting(path) as chat:
        session = await chat.create_session()
        first = await chat.append_messages(session.id, messages)
        before = dump(path)
        assert await chat.append_messages(session.id, messages) == first
        assert await chat.append_messages(session.id, messages, expected=1) == first
        with pytest.raises(IdempotencyMismatch):
            await chat.append_messages(session.id, [engine.MessageIn("Other.", id=messages[0].id)])
        assert dump(path) == before
    async with chatting(path) as chat:
        assert await chat.append_messages(session.id, messages) == first


IMPORTS = {
    "an id twice": lambda known, fresh: [engine.MessageIn("a", id=fresh), engine.MessageIn("b", id=fresh)],
    "one known, one new": lambda known, fresh: [engine.MessageIn("Known.", id=known), engine.MessageIn("b", id=fresh)],
    "some without an id": lambda known, fresh: [engine.MessageIn("Known.", id=known), engine.MessageIn("b")],
}


@pytest.mark.parametrize("make", IMPORTS.values(), ids=IMPORTS)
async def test_an_import_that_cannot_be_is_refused_as_such(path, make):
    """Ids that come twice in a request, or exist beside messages without one, are refused, and no failing disk."""
    known = new_id()
    async with chatting(path) as chat:
        session = await chat.create_session()
        await chat.append_messages(session.id, [engine.MessageIn("Known.", id=known)])
        with pytest.raises(EngineError) as refused:
            await chat.append_messages(session.id, make(known, new_id()))
        assert not isinstance(refused.value, engine.StoreError)


async def test_what_was_streamed_reads_as_typed_blocks(path):
    """A recorded message is read back as the blocks that it was made of."""
    async with chatting(path, main=says({"thinking": "Hm."}, "Hi.", call("a", input={"x": [1]}))) as chat:
        session = await chat.create_session(model="scripted/main")
        message = (await chat.say(session.id, "Go.", client_tools=OURS)).message
    thinking, text, use = read_blocks(message.content)
    assert (thinking.text, text.text, use.id, use.name, use.input, use.input_text) == (
        "Hm.",
        "Hi.",
        "a",
        "do_a",
        {"x": [1]},
        '{"x":[1]}',
    )
