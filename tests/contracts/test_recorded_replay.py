"""Recorded turns are done again by today's code: the same requests to the byte, the same frames, every answer used.

And what is not so is found, and its place is named.
"""

import asyncio
import gzip
import json
from pathlib import Path

import msgspec
import pytest

from manent import engine
from manent.engine.clock import SystemClock
from manent.engine.context import window
from manent.engine.errors import TurnAlreadyOpen, TurnNotFound
from manent.engine.events.upcasts import meaning_of
from manent.engine.log.store import open_reading
from manent.engine.providers import echo, renderers, tokens
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended, UsageReported, VendorBlock
from manent.engine.providers.registry import Providers
from manent.engine.service.replay.recorded import recorded_results
from manent.engine.service.replay.recorded_session import history_then
from manent.engine.service.replay.recorded_turn import read_recorded_turn
from manent.engine.sessions import turn_decisions
from manent.engine.turns.turn import RunningTurn
from tests.contracts.test_tamper import attack, rehash
from tests.support import Dictated, awaited, begin, chatting, dump, offered, says, shown, snapshot, until

GOLDEN = Path(__file__).parents[1] / "golden"
ECHO = "echo/echo"
TRUNCATE = {"truncate": True}
BUSY = {"fail": {"code": "provider_unavailable", "retry_after_s": 0.001}}
IMAGE = b'{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}'
CLAUDES = b'{"type":"thinking","thinking":"Hm.","signature":"c2ln"}'


def call(name="timestamp", call_id="c", **given):
    """A step that calls a tool."""
    return {"tool": {"id": call_id, "name": name, "input": given}}


@engine.tool(approval=True)
def unlock(door: str) -> str:
    """Unlocks a door."""
    return f"the {door} door is open"


@engine.tool
async def hangs() -> str:
    """Never returns."""
    await asyncio.Event().wait()
    return ""


@engine.tool
async def much() -> str:
    """Says much."""
    return "word " * 200


@engine.tool
async def fails() -> str:
    """Fails."""
    raise engine.ToolError("it is broken")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


async def replayed(path, *, sessions=(), turns=(), renderer="recorded", providers=None):
    """The results: of these sessions and turns, or of every session. The record is opened for reading only."""
    async with open_reading(path, engine.Settings(), meaning_of) as store:
        if not (sessions or turns):
            async with engine.open_beside(path) as beside:
                sessions = [session.id async for session in beside.iter_sessions()]
        found = recorded_results(
            store,
            providers or Providers(),
            SystemClock(),
            tenant="default",
            sessions=sessions,
            turns=turns,
            renderer=renderer,
        )
        return [result async for result in found]


async def assert_same(path, count, **options):
    """So many turns, and each of them is the same: with its session, and alone."""
    results = await replayed(path, **options)
    assert [(each.verdict, each.reason, each.first_difference) for each in results] == [("same", None, None)] * count
    assert all(each.layers.request and each.layers.frames for each in results)
    for each in results:
        (alone,) = await replayed(path, turns=[each.turn_id])
        assert alone.same, alone
    return results


async def only(path, **options):
    (result,) = await replayed(path, **options)
    return result


# --- what is the same -------------------------------------------------------------------------------------------------


async def test_a_conversation_is_the_same(path):
    """Of plain words, with a system prompt that changes, and what callers have appended between."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO, system="Be brief.")).id
        for number in range(5):
            await chat.say(session, f"number {number}")
            await chat.append_messages(session, [engine.MessageIn("Indeed.", "assistant"), engine.MessageIn("So.")])
        await chat.update_session(session, system="Be long.")
        await chat.say(session, "And now?", temperature=0.5, stop=("END",), max_output_tokens=9)
        await chat.update_session(session, system=None)
        await chat.say(session, "And then?")
    results = await assert_same(path, 7)
    assert {each.session_id for each in results} == {session}
    assert {(each.new_session_id, each.new_turn_id) for each in results} == {(None, None)}


async def test_answers_of_every_kind_are_the_same(path):
    """Thinking and vendors' blocks, calls, usage, stop reasons that stand on no list, answers without a word."""
    chunks = (
        *(BlockStarted(0, "thinking"), Delta(0, "H"), Delta(0, "m."), VendorBlock(0, "thinking", CLAUDES)),
        *(BlockStopped(0), VendorBlock(1, "redacted_thinking", b'{"type":"redacted_thinking","data":"c2ln"}')),
        *(BlockStarted(2, "text"), Delta(2, "Grüße "), Delta(2, "😀")),
        *(BlockStarted(3, "tool_use", "x", "look"), Delta(3, '{"a'), Delta(2, "!"), Delta(3, '":1}')),
        *(BlockStopped(2), BlockStopped(3), UsageReported(engine.Usage(7, 1, 2, 3, 4), b'{"in":7}')),
        Ended("tool_use", "gave_up", "resp", "req"),
    )
    silent = (BlockStarted(0, "text"), BlockStopped(0), Ended("strange", "odd"))
    for number, steps in enumerate((chunks, silent)):
        async with chatting(path, providers=(Dictated(*steps),)) as chat:
            session = (await chat.create_session(model="dictated/model")).id
            await chat.say(session, "Go.", client_tools=offered("look"), tool_choice="look")
            if not number:
                result = engine.ToolResultBlock("x", "Seen.")
                await chat.say(session, engine.MessageIn((result,), "tool"), client_tools=offered("look"))
    await assert_same(path, 3)


async def test_images_are_the_same(path):
    """A model was sent one, whatever is known of it today."""
    async with chatting(
        path, providers=(Dictated(BlockStarted(0, "text"), Delta(0, "A cat."), Ended("end_turn")),)
    ) as chat:
        session = (await chat.create_session(model="dictated/model")).id
        await chat.say(session, engine.MessageIn((IMAGE, b'{"type":"text","text":"What?"}')))
        await chat.say(session, "Sure?")
    await assert_same(path, 2)


async def test_tools_answer_from_the_record(path):
    """They are not run: what ran, what failed, what does not exist, and calls whose arguments are none."""
    calls = [
        *(call(call_id="a"), call("fails", "b"), call("nobody", "d")),
        {"tool": {"id": "e", "name": "timestamp", "input_text": "{broken"}},
    ]
    script = [{"steps": calls}, {"steps": [call(call_id="a")]}, {"steps": [{"text": "Done."}]}]
    async with chatting(path, main=script, tools=(fails, hangs)) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        turn = await chat.say(session, "Go.", tools=["timestamp", "fails"], tool_choice="any")
        assert turn.text == "Done."
        await chat.say(session, "Again.")
    await assert_same(path, 2)


async def test_what_was_tried_again_is_tried_again(path):
    """At the same model and at the fallback model, without waiting; and what failed for good fails as it did."""
    script = {
        "main": [{"steps": [call()]}, {"steps": [{"text": "Done."}]}],
        "busy": says(BUSY),
        "bad": says("Hal", TRUNCATE),
    }
    async with chatting(path, **script, max_attempts=2, retry_base_ms=1) as chat:
        session = (await chat.create_session(model="scripted/busy", fallback_model="scripted/main")).id
        turn = await chat.say(session, "Go.", tools=["timestamp"])
        assert len(turn.attempts) == 6
        assert (await chat.say(session, "Go.", model="scripted/bad")).error.code == "provider_truncated"
        await chat.ended(await begin(chat, session))
        await chat.say(session, "On.", model="scripted/bad")
        await chat.ended(await begin(chat, session, continues=True))
        await chat.update_session(session, fallback_model=None)
        assert (await chat.say(session, "Go.")).error.code == "provider_unavailable"
    await assert_same(path, 6)


async def test_what_was_not_even_sent_fails_as_it_did(path):
    """A provider that is left alone for a while is not asked; the attempt is on record all the same."""
    async with chatting(path, busy=says(BUSY), breaker_failures=1) as chat:
        session = (await chat.create_session(model="scripted/busy")).id
        errors = [(await chat.say(session, "Go.")).error for _ in range(2)]
    assert [error.code for error in errors] == ["provider_unavailable", "provider_circuit_open"]
    await assert_same(path, 2)


async def test_a_turn_that_was_cut_off_is_cut_off_there(path):
    """Cancelled in an answer, before one, between tries, in a tool, and at a shutdown."""
    slow = {"fail": {"code": "provider_unavailable", "retry_after_s": 60}}
    script = {"hang": says("Wait", {"hang": True}), "mute": says({"hang": True}), "slow": says(slow)}
    script["calls"] = [{"steps": [call("hangs", "a"), call(call_id="b"), call("hangs", "d")]}]
    async with chatting(path, **script, tools=(hangs,), max_attempts=2, drain_s=0, retry_for_s=600) as chat:
        session = (await chat.create_session(model="scripted/hang")).id
        for model, frames in (("hang", 3), ("mute", 1), ("slow", 2), ("calls", 10)):
            options = {"tools": ["hangs", "timestamp"]} if model == "calls" else {}
            turn = await begin(chat, session, "Go.", model=f"scripted/{model}", **options)
            await shown(chat, turn, frames)
            await asyncio.sleep(0.05)
            assert (await chat.cancel(turn)).status == "cancelled"
        turn = await begin(chat, session, "Go.")
        await shown(chat, turn, 3)
    results = await assert_same(path, 5)
    async with engine.open_beside(path) as beside:
        assert (await beside.turn(results[-1].turn_id)).status == "interrupted"


async def test_a_turn_whose_server_died_ends_there(path, tmp_path):
    """What was journalled came, and no more."""
    steps = (BlockStarted(0, "text"), Delta(0, "Half "), Delta(0, "a"), asyncio.Event().wait)
    async with chatting(path, providers=(Dictated(*steps),), drain_s=0) as chat:
        session = (await chat.create_session(model="dictated/model")).id
        turn = await begin(chat, session, "Go.")
        await shown(chat, turn, 4)
        snapshot(path, tmp_path / "dead.db")
        await chat.cancel(turn)
    async with chatting(tmp_path / "dead.db", unwitnessed=True) as chat:
        assert (await chat.turn(turn)).status == "interrupted"
        await chat.say(session, "Still there?", model=ECHO)
    await assert_same(tmp_path / "dead.db", 2)


async def test_what_people_decided_is_decided_again(path):
    """Approved, refused, in pauses that follow each other, and cancelled while it waited."""
    first = [call("unlock", "a", door="red"), call("unlock", "b", door="blue"), call(call_id="d")]
    script = [{"steps": first}, {"steps": [call("unlock", "a", door="red")]}, {"steps": [{"text": "Done."}]}]
    async with chatting(path, main=script, tools=(unlock,)) as chat:
        for ends in ("completed", "cancelled"):
            session = (await chat.create_session(model="scripted/main")).id
            turn = await begin(chat, session, "Go.", tools=["unlock", "timestamp"])
            await until(lambda turn=turn: _waits(chat, turn, 2))
            await chat.decide(turn, "b", approve=False, reason="not that one")
            if ends == "completed":
                await chat.decide(turn, "a", approve=True)
                await until(lambda turn=turn: _waits(chat, turn, 1))
                await chat.decide(turn, "a", approve=False)
            else:
                await chat.cancel(turn)
            assert (await chat.ended(turn)).status == ends
    await assert_same(path, 2)


async def _waits(chat, turn, count):
    return len(awaited(await chat.turn(turn))) == count


async def test_limits_that_ended_a_turn_end_it_again(path):
    """The rounds of a turn, the size of an answer, and a budget that what must be sent outgrows."""
    loop = [{"steps": [call()]}]
    long = says({"text": "word " * 200, "chunk_chars": 50})
    much_asked = [{"steps": [call("much")]}]
    async with chatting(
        path, loop=loop, long=long, much=much_asked, tools=(much,), max_rounds=3, max_answer_bytes=500
    ) as chat:
        session = (await chat.create_session(model="scripted/loop")).id
        failed = [
            await chat.say(session, "Go.", tools=["timestamp"]),
            await chat.say(session, "Go.", model="scripted/long"),
            await chat.say(session, "Go.", model="scripted/much", tools=["much"], budget_tokens=150),
        ]
    codes = ["turn_limit_reached", "provider_too_large", "budget_too_small"]
    assert [turn.error.code for turn in failed] == codes
    await assert_same(path, 3)


async def test_windows_are_chosen_as_they_were(path):
    """Of a long session with small budgets: pinned far back, superseded, empty; in any order of turns."""
    async with chatting(path, bad=says("Half", TRUNCATE)) as chat:
        session = (await chat.create_session(model=ECHO, system="Be brief.")).id
        for start in range(3):
            texts = [f"number {start * 100 + number} of many" for number in range(100)]
            await chat.append_messages(session, [engine.MessageIn(text) for text in texts])
        await chat.pin(session, 4)
        turns = []
        for number in range(6):
            if number == 3:
                await chat.unpin(session, 4)
                await chat.pin(session, 50)
            model = "scripted/bad" if number % 2 else ECHO
            turns.append(
                (await chat.say(session, "Go.", model=model, budget_tokens=60 + 30 * number, max_output_tokens=5)).id
            )
        turns.append((await chat.ended(await begin(chat, session, budget_tokens=80))).id)
    await assert_same(path, 7)
    results = await replayed(path, turns=[turns[place] for place in (6, 0, 5, 1, 4, 2, 3)])
    assert [each.verdict for each in results] == ["same"] * 7


async def test_what_was_learnt_since_is_no_difference(path):
    """A model's factor moves with what its vendor reports; each attempt has the one of its day on record."""
    usage = {"usage": {"input_tokens": 9000, "output_tokens": 4}}
    script = [{"steps": [{"text": "word " * 300}, usage]}]

    class Slow(Dictated):
        name = "slow"

        def model(self, name):
            return engine.ModelInfo(name, family="claude")

    chunks = (BlockStarted(0, "text"), Delta(0, "word " * 300), BlockStopped(0))
    reported = UsageReported(engine.Usage(input_tokens=9000, output_tokens=4))
    provider = Slow(*chunks, reported, Ended("end_turn"))
    async with chatting(path, providers=(provider,), main=script) as chat:
        session = (await chat.create_session(model="slow/model", budget_tokens=20_000)).id
        for _ in range(12):
            await chat.say(session, "word " * 300)
        events = (await chat.events(session, types=("attempt.started",))).items
    assert len({json.loads(bytes(event.facts))["factor_permille"] for event in events}) > 1
    await assert_same(path, 12)


@pytest.mark.parametrize("old", sorted(GOLDEN.glob("*-000[1-7].db.gz")), ids=lambda file: file.name)
async def test_what_older_versions_have_done_is_done_again(path, old):
    """From their databases: the same, or skipped for a reason that is told."""
    path.write_bytes(gzip.decompress(old.read_bytes()))
    async with engine.open(path):
        """It is migrated."""
    results = await replayed(path)
    assert results
    for each in results:
        assert each.verdict in {"same", "skipped"}, each
        assert each.same or each.reason


# --- only some turns --------------------------------------------------------------------------------------------------


async def test_a_late_turn_needs_little_of_its_history(path):
    """As much as its window could have taken, however long the session is."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO, budget_tokens=100)).id
        for _ in range(10):
            await chat.append_messages(session, [engine.MessageIn("some words of a message")] * 100)
        turn = (await chat.say(session, "Go.")).id
    async with open_reading(path, engine.Settings(), meaning_of) as store:
        history = await store.read(
            lambda connection: history_then(connection, read_recorded_turn(connection, "default", turn))
        )
    assert 0 < len(history.events) < 60
    assert not history.whole
    assert (await only(path, turns=[turn])).same


async def test_the_record_is_only_read(path):
    """Nothing is written, and no vendor is asked: the same file works where it cannot be written."""
    async with chatting(path, main=says("Yes.")) as chat:
        turn = (await chat.say((await chat.create_session(model="scripted/main")).id, "Go.")).id
        asked = len(chat.script.requests)
        before = dump(path)
        results = recorded_results(chat._parts.store, chat.providers, SystemClock(), tenant="default", turns=[turn])
        assert [each.verdict async for each in results] == ["same"]
        assert len(chat.script.requests) == asked
        assert dump(path) == before


# --- what is left out -------------------------------------------------------------------------------------------------


async def test_a_turn_that_runs_is_refused_by_name(path):
    """Asked for by name it is an error that names it, before anything is done; with its session it is left out."""
    async with chatting(path, hang=says("Wait", {"hang": True})) as chat:
        session = (await chat.create_session(model=ECHO)).id
        done = (await chat.say(session, "Go.")).id
        turn = await begin(chat, session, "Go.", model="scripted/hang")
        with pytest.raises(TurnAlreadyOpen, match=str(turn)):
            await replayed(path, turns=[done, turn])
        nobody = engine.new_id()
        with pytest.raises(TurnNotFound, match=str(nobody)):
            await replayed(path, turns=[done, nobody])
        results = await replayed(path, sessions=[session])
        await chat.cancel(turn)
    assert [each.verdict for each in results] == ["same", "skipped"]
    assert str(turn) in results[1].reason


async def test_what_is_erased_is_left_out(path):
    """With the positions that are gone; turns that did not hold them are done again."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO)).id
        turns = [await chat.say(session, text) for text in ("One.", "Two.", "Three.")]
        await chat.erase(session, "x", versions=[turns[1].message.version])
        await chat.say(session, "Four.")
        position = turns[1].message.position
    results = await replayed(path)
    assert [each.verdict for each in results] == ["same", "skipped", "skipped", "same"]
    assert results[1].reason == f"its words are erased: those of {position}"
    assert results[2].reason.startswith("its words are erased: those of ")


async def test_what_is_damaged_is_left_out(path):
    """With the position; it is not taken for a difference of ours."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO)).id
        for text in ("One.", "Two."):
            await chat.say(session, text)
    attack(path, ("UPDATE bodies SET bytes = CAST(bytes || ' ' AS BLOB) WHERE position = ?", (2,)))
    results = await replayed(path, sessions=[session])
    assert [each.verdict for each in results] == ["skipped"] * 2
    assert {each.reason for each in results} == {"its words are damaged: those of 2"}


async def test_a_renderer_that_is_not_there_is_named(path):
    """One of somebody's own cannot be used where it is not configured."""
    provider = Dictated(BlockStarted(0, "text"), Delta(0, "Yes."), BlockStopped(0), Ended("end_turn"))
    provider.renderer, provider.renderers = "own/1", {"own/1": lambda prompt: b"\xff" + prompt.model.encode()}
    async with chatting(path, providers=(provider,)) as chat:
        session = (await chat.create_session(model="dictated/model")).id
        await chat.say(session, "Go.")
    result = await only(path)
    assert result.verdict == "skipped"
    assert "own/1" in result.reason
    assert (await only(path, providers=Providers([provider]))).same


# --- what differs -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def conversation(path):
    """Three turns of one session."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO, system="Be brief.")).id
        for text in ("One.", "Two.", "Three."):
            await chat.say(session, text)
    return session


async def test_a_changed_renderer_is_found(path, conversation, monkeypatch):
    """Under its own name: what was sent cannot be made any more, and the commitments differ from the first turn on."""
    changed = lambda prompt: echo.render_plain(prompt).replace(b"One", b"Won")  # noqa: E731
    monkeypatch.setitem(renderers.RENDERERS, echo.RENDERER, changed)
    results = await replayed(path)
    assert [each.verdict for each in results] == ["different"] * 3
    first = results[0].first_difference
    assert (first.layer, first.path) == ("request", "request")
    assert first.recorded != first.now
    assert echo.RENDERER in results[0].reason
    assert (results[0].layers.request, results[0].layers.frames) == (False, True)


async def test_a_newer_renderer_is_compared_where_it_is_asked_for(path, conversation, monkeypatch):
    """The recorded one is kept and used; with ``current`` the first message that it would say otherwise is named."""
    name = echo.RENDERER.replace("/1", "/2")
    changed = lambda prompt: echo.render_plain(prompt).replace(b"Two", b"Too")  # noqa: E731
    monkeypatch.setitem(renderers.RENDERERS, name, changed)
    await assert_same(path, 3)
    results = await replayed(path, renderer="current")
    assert [each.verdict for each in results] == ["same", "different", "different"]
    place = results[1].first_difference
    assert place.path.startswith("messages[3].")
    assert (place.recorded[:2], place.now[:2]) == ("wo", "oo")
    assert results[1].reason == "our prompt changed, at message 3"
    assert [
        each.verdict
        for each in await replayed(
            path, renderer="current", providers=Providers([echo.EchoProvider(tokens.count_text)])
        )
    ] == ["same"] * 3


async def test_a_changed_policy_is_found(path, conversation, monkeypatch):
    """It leaves out the oldest message: the first that stands elsewhere is named."""

    def forgets(newest_first, last_user, pinned, measure):
        return window.choose(list(newest_first)[:3], last_user, pinned, measure)

    monkeypatch.setitem(window.POLICIES, window.POLICY, forgets)
    results = await replayed(path)
    assert [each.verdict for each in results] == ["same", "same", "different"]
    assert results[2].first_difference.layer == "request"
    assert results[2].first_difference.path.startswith("messages[1].")
    assert results[2].reason == "our prompt changed, at message 1"


async def test_a_tampered_message_is_found(path, conversation):
    """Somebody has computed every hash anew, and not the commitment of the request that it was sent in."""
    attack(path, ("UPDATE bodies SET bytes = CAST(replace(bytes, 'Two', 'Too') AS BLOB) WHERE position = 8", ()))
    rehash(path)
    results = await replayed(path, sessions=[conversation])
    assert [each.verdict for each in results] == ["same", "different", "different"]
    assert results[1].first_difference.path == "request"


async def test_an_answer_that_is_left_unused_is_found(path, monkeypatch):
    """A turn that stops before its next round has not used what is on record."""
    script = [{"steps": [call()]}, {"steps": [{"text": "Done."}]}]
    async with chatting(path, main=script) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        await chat.say(session, "Go.", tools=["timestamp"])
    monkeypatch.setattr(RunningTurn, "_goes_on", lambda *_: False)
    result = await only(path)
    assert result.verdict == "different"
    assert (result.first_difference.layer, result.first_difference.path) == ("request", "attempts[1]")
    assert result.reason == "an answer on record is left unused"


@pytest.mark.usefixtures("conversation")
async def test_an_answer_that_is_missing_is_found(path, monkeypatch):
    """A turn that asks once more than was asked finds nothing on record."""
    monkeypatch.setattr(RunningTurn, "_goes_on", lambda *_: True)
    results = await replayed(path)
    assert [each.verdict for each in results] == ["different"] * 3
    assert {each.first_difference.path for each in results} == {"attempts[1]"}
    assert {each.reason for each in results} == {"a request was sent for which no answer is on record"}


@pytest.mark.parametrize("rounds", [1, 2])
async def test_a_call_that_is_not_made_any_more_is_found(path, monkeypatch, rounds):
    """Its result is left unused; or, where there is a next request, that lacks it."""
    script = [{"steps": [call(call_id="a"), call(call_id="b")]}, {"steps": [{"text": "Done."}]}]
    async with chatting(path, main=script, max_rounds=rounds) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        await chat.say(session, "Go.", tools=["timestamp"])
    made = turn_decisions.calls_in
    monkeypatch.setattr(turn_decisions, "calls_in", lambda content: made(content)[:1])
    result = await only(path)
    assert result.verdict == "different"
    place = result.first_difference
    if rounds == 1:
        assert (place.layer, place.path, place.recorded) == ("tool_calls", "calls[b]", "b")
        assert result.reason == "a result on record is left unused"
    else:
        assert (place.layer, place.path, place.now) == ("request", "attempts[1].messages[3]", None)
        assert result.reason == "our prompt changed, at message 3"


async def test_other_frames_are_found(path, conversation, monkeypatch):
    """The place in the frame is named, and what stands there then and now."""
    completed = turn_decisions._turn_ended
    monkeypatch.setattr(
        turn_decisions,
        "_turn_ended",
        lambda turn, end, frame: completed(turn, msgspec.structs.replace(end, stop_reason="max_tokens"), frame),
    )
    result = (await replayed(path))[0]
    assert result.verdict == "different"
    place = result.first_difference
    assert (place.layer, place.path) == ("frames", "frames[5].data.stop_reason[0]")
    assert (place.recorded, place.now) == ("end_turn", "max_tokens")
    assert (result.layers.request, result.layers.frames) == (True, False)


async def test_a_turn_that_cannot_be_started_any_more_has_failed(path, conversation, monkeypatch):
    """Code that refuses it, or breaks, is what is looked for."""

    def broken(*_):
        raise ValueError

    monkeypatch.setitem(window.POLICIES, window.POLICY, broken)
    results = await replayed(path)
    assert [each.verdict for each in results] == ["failed"] * 3
    assert results[0].reason == "it could not be done again: ValueError"
    assert results[0].first_difference.path == "attempts[0]"
