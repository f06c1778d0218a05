"""Recorded turns are done again, on the record or on another model, and what comes of it is on record itself.

Every file is audited, verified, and its projections derived again, when its test is over.
"""

import asyncio
import io
import json
from itertools import count
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from manent import engine
from manent.engine.errors import (
    IdempotencyMismatch,
    Invalid,
    SessionNotFound,
    StoreUnavailable,
    TooLarge,
    TurnAlreadyOpen,
    TurnNotFound,
    UnknownModel,
)
from manent.engine.events.replay_types import Compared, SuiteChanged, SuiteWords
from manent.engine.events.types import Draft
from manent.engine.events.usage import Usage
from manent.engine.log.base import Append, NoStream, RequestKey
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended, ModelInfo, UsageReported
from manent.engine.service.replay.told import IN_WORDS
from manent.engine.sessions.envelope import seal
from manent.engine.sessions.replays import NameCheck, SuiteExists
from manent.engine.tools.from_record import NOT_ON_RECORD, REFUSED
from tests.contracts.test_damage import damage
from tests.support import (
    Dictated,
    assert_rebuilds,
    audit,
    awaited,
    chatting,
    copied,
    explained,
    offered,
    query,
    says,
    until,
)

ECHO = "echo/echo"
OTHER = says("Something else.")


@pytest.fixture
def path(tmp_path):
    """A file that holds together when the test is over."""
    path = tmp_path / "chat.db"
    yield path
    audit(path)
    assert_rebuilds(path, tmp_path / "again.db")
    assert engine.verify_database(str(path)).problem is None


async def talked(chat, *words, model=ECHO, **fields):
    """A session in which this was said, and answered; its id."""
    session = await chat.create_session(model=model, **fields)
    for each in words or ("one", "two", "three"):
        await chat.say(session.id, each)
    return session.id


async def replayed(chat, query, **options):
    """All results, in the order of their turns."""
    return sorted([each async for each in chat.replay(query, **options)], key=lambda each: each.turn_id)


async def stream_of(chat, replay):
    """The events of a replay as (type, facts, body)."""
    found = [event for event in (await chat.log_events(limit=1000)).items if event.session_id == replay]
    return [(event.type, json.loads(bytes(event.facts)), event.body) for event in found]


async def newest(chat):
    """The newest replay."""
    return (await chat.replays(limit=1)).items[0]


def verdicts(results):
    return [each.verdict for each in results]


class Small(Dictated):
    """A model of little context, which says one thing."""

    name = "small"

    def model(self, name):
        return ModelInfo(name, family="echo", context_tokens=60)


def a_word(text):
    """Chunks that say this."""
    return (BlockStarted(0, "text"), Delta(0, text), BlockStopped(0), Ended("end_turn"))


class Dear(Dictated):
    """A model whose every answer costs ten micro-units."""

    name = "dear"

    def __init__(self):
        super().__init__(*a_word("gold")[:-1], UsageReported(Usage(0, output_tokens=10), b"{}"), Ended("end_turn"))

    def model(self, name):
        price = engine.Price(currency="EUR", input=0, output=1_000_000)
        return ModelInfo(name, family="echo", prices=(price,))


class Gate:
    """A model that answers when it is let, and counts what it was asked."""

    name = "gate"

    def __init__(self, *, opened=False):
        self.inner = Dictated(self.wait, *a_word("through"))
        self.renderer, self.renderers = self.inner.renderer, self.inner.renderers
        self.opened, self.asked = asyncio.Event(), 0
        if opened:
            self.opened.set()

    def models(self):
        return [ModelInfo("model", family="echo")]

    def model(self, name):
        return ModelInfo(name, family="echo")

    async def wait(self):
        self.asked += 1
        await self.opened.wait()

    def stream(self, request):
        return self.inner.stream(request)

    async def aclose(self):
        """There is nothing to release."""


# --- forced -----------------------------------------------------------------------------------------------------------


async def test_a_forced_replay_asks_each_turn_on_the_recorded_history(path):
    """For each turn there is a fork that names the replay and the turn, and was sent the very request of the record."""
    async with chatting(path) as chat:
        session = await talked(chat, system="Be brief.")
        results = await replayed(chat, session, mode="forced")
        assert verdicts(results) == ["same"] * 3
        replay = await newest(chat)
        turns = (await chat.turns(session)).items
        assert [each.turn_id for each in results] == [turn.id for turn in turns]
        for turn, result in zip(turns, results, strict=True):
            (fork,) = (await chat.events(result.new_session_id, types=("session.forked",))).items
            facts = json.loads(bytes(fork.facts))
            assert (facts["replay"], facts["of_turn"]) == (str(replay.id), str(turn.id))
            recorded, now = [await chat.explain(each) for each in (turn.id, result.new_turn_id)]
            assert now.request_bytes == recorded.request_bytes
            assert [each.position for each in now.window.included] == [
                each.position for each in recorded.window.included
            ]
        await explained(chat, results[-1].new_session_id)


async def test_another_model_is_told_where_it_differs(path):
    """The default where a model is named is forced; each result has its layers and the first difference."""
    async with chatting(path, other=OTHER) as chat:
        session = await talked(chat, "one", "Something else.")
        one, two = await replayed(chat, session, model="scripted/other")
        assert (one.verdict, two.verdict) == ("different", "same")
        assert one.first_difference == engine.FirstDifference(
            "text", "messages[0].content[0].text[0]", "one", "Something else."
        )
        assert (one.layers.stop_reason, one.layers.tool_calls, one.layers.structure, one.layers.text) == (
            *(True, True, True),
            False,
        )
        assert (one.layers.tokens.recorded, one.same, two.same) == (1, False, True)
        replay = await newest(chat)
        assert (replay.mode, replay.model, replay.status) == ("forced", "scripted/other", "completed")
        assert replay.counts == engine.ReplayCounts(same=1, different=1)
        assert replay.findings == 1


async def test_a_replay_is_on_record_without_a_word(path):
    """Its events are in the log and tell positions, verdicts and places; no result has a body."""
    async with chatting(path, other=OTHER) as chat:
        session = await talked(chat, "a secret", "two")
        results = await replayed(chat, session, model="scripted/other", jobs=1)
        events = await stream_of(chat, (await newest(chat)).id)
        assert [kind for kind, *_ in events] == ["replay.started", *["replay.compared"] * 2, "replay.completed"]
        assert all(body is None for _, _, body in events[1:])
        started, first = events[0][1], events[1][1]
        starts = {event.id: event.position for event in (await chat.events(session)).items}
        assert started["turns"] == [starts[each.turn_id] for each in results]
        assert started["sessions"] == [str(session)]
        answers = {message.id: message.position for message in (await chat.messages(session)).items}
        assert first["answer"] in answers.values()
        assert (first["verdict"], first["layer"], first["path"]) == (
            "different",
            "text",
            "messages[0].content[0].text[0]",
        )
        assert "secret" not in json.dumps([facts for _, facts, _ in events])
        assert events[3][1] == {"different": 2}


async def test_what_was_erased_since_is_not_told_any_more(path):
    """The difference is read from the answers when it is asked for: of erased ones only its place is left."""
    async with chatting(path, other=OTHER) as chat:
        session = await talked(chat, "one")
        (before,) = await replayed(chat, session, model="scripted/other")
        await chat.erase(before.new_session_id, reason="asked for")
        (after,) = (await chat.replay_results((await newest(chat)).id)).items
        assert before.first_difference.now == "Something else."
        assert after.result.first_difference == engine.FirstDifference("text", "messages[0].content[0].text[0]")
        assert after.result.verdict == "different"


async def test_a_window_is_chosen_anew_where_the_recorded_one_does_not_fit(path):
    """A model of less context is sent what fits, and the result says so."""
    async with chatting(path, providers=[Small(*a_word("hm"))]) as chat:
        session = await talked(chat, "one", *[f"word {number} " * 5 for number in range(3)])
        results = await replayed(chat, session, model="small/model", jobs=2)
        assert "a window was chosen anew" in results[-1].reason
        assert results[0].reason is None
        sent = [await chat.explain(each.new_turn_id) for each in (results[0], results[-1])]
        recorded = await chat.explain(results[-1].turn_id)
        assert len(sent[1].window.included) < len(recorded.window.included)
        for each in results:
            await explained(chat, each.new_session_id)


async def test_a_continued_and_a_repeated_turn_are_asked_as_they_were(path):
    """A turn that goes on with a partial answer does so again; one that answers anew leaves it out."""
    half = [{"steps": [{"text": "Half"}, {"truncate": True}]}, {"steps": [{"text": " and half."}]}]
    async with chatting(path, half=half) as chat:
        session = await talked(chat, "go", model="scripted/half")
        await chat.ended((await chat.start_turn(session, continues=True)).turn)
        results = await replayed(chat, session, mode="forced")
        assert verdicts(results) == ["skipped", "same"]
        assert results[0].reason == "the recorded turn did not complete"
        prompts = [await chat.explain(each) for each in (results[1].turn_id, results[1].new_turn_id)]
        assert prompts[0].request_bytes == prompts[1].request_bytes


# --- tools ------------------------------------------------------------------------------------------------------------


def call(name, number, /, **given):
    return {"tool": {"id": number, "name": name, "input": given}}


def rounds(*answers):
    return [answer for steps in answers for answer in says(*steps)]


def clock_tool():
    """A tool that counts its runs, and gives another answer each time."""
    runs = count(1)

    @engine.tool
    async def look(at: str) -> str:
        """Looks."""
        return f"{at} {next(runs)}"

    return look, runs


async def results_in(chat, session):
    """The results of tools in a session's own messages."""
    messages = (await chat.messages(session, limit=1000)).items
    blocks = [block for message in messages if message.role == "tool" for block in message.blocks()]
    return [(block.content, block.is_error) for block in blocks]


async def test_recorded_results_go_to_the_same_calls(path):
    """A call of the same name and arguments, whatever its id, is given the recorded result; no tool runs."""
    look, runs = clock_tool()
    old = rounds([call("look", "a", at="x"), call("look", "b", at="y")], ["done"])
    new = rounds([call("look", "q", at="x"), call("look", "r", at="y")], ["done"])
    async with chatting(path, tools=[look], old=old, new=new) as chat:
        session = (await chat.create_session(model="scripted/old")).id
        await chat.say(session, "go", tools=["look"])
        (result,) = await replayed(chat, session, model="scripted/new")
        assert result.verdict == "same"
        assert next(runs) == 3
        assert await results_in(chat, result.new_session_id) == [("x 1", False), ("y 2", False)]


async def test_a_call_that_is_not_on_record_gets_an_error_and_differs(path):
    """Other arguments are another call: an error is its result, and the answer differs at its tool calls."""
    look, runs = clock_tool()
    old, new = rounds([call("look", "a", at="x")], ["done"]), rounds([call("look", "a", at="z")], ["done"])
    async with chatting(path, tools=[look], old=old, new=new) as chat:
        session = (await chat.create_session(model="scripted/old")).id
        await chat.say(session, "go", tools=["look"])
        (result,) = await replayed(chat, session, model="scripted/new")
        assert (result.verdict, result.first_difference.layer) == ("different", "tool_calls")
        assert result.first_difference.path == "messages[0].tool_calls[0].input.at"
        assert await results_in(chat, result.new_session_id) == [(NOT_ON_RECORD, True)]
        assert next(runs) == 2


async def test_tools_are_refused_or_live_as_it_is_said(path):
    """Refused, each call gets an error; live, those named run, and the others are answered from the record."""
    look, runs = clock_tool()

    @engine.tool
    async def other(at: str) -> str:
        """Looks elsewhere."""
        return f"other {at}"

    maker = rounds([call("look", "a", at="x"), call("other", "b", at="x")], ["done"])
    async with chatting(path, tools=[look, other], maker=maker) as chat:
        session = (await chat.create_session(model="scripted/maker")).id
        await chat.say(session, "go", tools=["look", "other"])
        (refused,) = await replayed(chat, session, mode="forced", tools="refuse")
        (live,) = await replayed(chat, session, mode="forced", tools={"live": ["look"]})
        assert await results_in(chat, refused.new_session_id) == [(REFUSED, True)] * 2
        assert await results_in(chat, live.new_session_id) == [("x 2", False), ("other x", False)]
        assert next(runs) == 3
        started = [facts for kind, facts, _ in await stream_of(chat, (await newest(chat)).id) if kind[-7:] == "started"]
        assert (started[0]["tools"], started[0]["live"]) == ("live", ["look"])


@pytest.mark.parametrize("approve", [True, False])
async def test_a_live_call_that_needs_approval_takes_the_recorded_decision(path, approve):
    """Nobody is asked again: what was approved runs, what was refused, or never decided on, does not."""
    runs = count(1)

    @engine.tool(approval=True)
    async def careful(at: str) -> str:
        """Needs a person."""
        return f"{at} {next(runs)}"

    old, new = rounds([call("careful", "a", at="x")], ["done"]), rounds([call("careful", "a", at="z")], ["done"])
    async with chatting(path, tools=[careful], old=old, new=new) as chat:
        session = (await chat.create_session(model="scripted/old")).id
        turn = await chat.say(session, "go", tools=["careful"])
        await chat.decide(turn.id, awaited(turn)[0], approve=approve)
        await chat.ended(turn.id)
        (same,) = await replayed(chat, session, mode="forced", tools={"live": ["careful"]})
        (other,) = await replayed(chat, session, model="scripted/new", tools={"live": ["careful"]})
        (recorded,) = await replayed(chat, session, mode="forced")
        ((_, failed),) = await results_in(chat, same.new_session_id)
        ((_, refused),) = await results_in(chat, other.new_session_id)
        assert (failed, refused, next(runs)) == (not approve, True, 3 if approve else 1)
        assert await results_in(chat, recorded.new_session_id) == await results_in(chat, session)


async def test_a_callers_tools_stay_the_callers(path):
    """A turn that ends with calls for the caller does so again; the next one stands on the recorded results."""
    clerk = [*says({"tool": {"id": "call_1", "name": "look", "input": {}}}), *says("seen")]
    result = engine.MessageIn([engine.ToolResultBlock("call_1", [engine.TextBlock("it is there")])], "tool")
    async with chatting(path, clerk=clerk) as chat:
        session = (await chat.create_session(model="scripted/clerk")).id
        await chat.say(session, "look", client_tools=offered("look"))
        await chat.say(session, result, client_tools=offered("look"))
        assert verdicts(await replayed(chat, session, mode="forced")) == ["same", "same"]


async def test_a_tool_that_is_not_registered_any_more_is_answered_from_the_record(path):
    """What no registry names is a word, and no fact holds it."""
    look, _ = clock_tool()
    maker = rounds([call("look", "a", at="x")], ["done"])
    async with chatting(path, tools=[look], maker=maker) as chat:
        session = (await chat.create_session(model="scripted/maker")).id
        await chat.say(session, "go", tools=["look"])
    async with chatting(path, maker=maker) as chat:
        (result,) = await replayed(chat, session, mode="forced")
        assert result.verdict == "same"
        (called,) = (await chat.events(result.new_session_id, types=("tool.called",))).items
        assert json.loads(bytes(called.facts))["name"] is None


# --- noise, bounds, limits --------------------------------------------------------------------------------------------


class Changing(Dictated):
    """A model that never says the same twice."""

    name = "changing"

    def __init__(self):
        super().__init__()
        self.number = count(1)

    async def stream(self, request):
        self.requests.append(request)
        for chunk in a_word(f"answer {next(self.number)}"):
            yield chunk


async def test_differences_below_the_models_own_noise_are_no_finding(path):
    """The recorded model is asked first, so often; where it differs from itself, another's difference is noise."""
    changing = Changing()
    async with chatting(path, providers=[changing], other=OTHER) as chat:
        noisy = await talked(chat, "one", model="changing/model")
        quiet = await talked(chat, "one")
        (first,) = await replayed(chat, noisy, model="scripted/other", repeat=2)
        assert (first.verdict, first.noise) == ("different", True)
        assert (await newest(chat)).findings == 0
        assert len(changing.requests) == 3
        (second,) = await replayed(chat, quiet, model="scripted/other", repeat=2)
        assert (second.verdict, second.noise) == ("different", False)
        assert (await newest(chat)).findings == 1
        ((_, facts, _),) = [each for each in await stream_of(chat, (await newest(chat)).id) if "compared" in each[0]]
        assert facts["floor"] == {"repeats": 2}


async def test_no_more_turns_are_asked_at_once_than_jobs(path):
    """So many are under way, and no more, whatever waits."""
    gate = Gate()
    async with chatting(path, providers=[gate]) as chat:
        session = await talked(chat, *"abcdef")
        replay = await chat.start_replay(session, model="gate/model", jobs=2)

        async def two():
            return gate.asked == 2

        await until(two)
        await asyncio.sleep(0.05)
        assert gate.asked == 2
        gate.opened.set()
        found = [each async for batch in chat.follow_replay(replay.id) for each in batch]
        assert (len(found), gate.asked) == (6, 6)
        assert [each.number for each in found] == sorted(each.number for each in found)


async def test_a_limit_of_requests_makes_a_replay_wait(path):
    """The limits of keys and providers hold for a replay as for anybody, and it goes on when there is room."""
    async with chatting(path, max_open_turns=1) as chat:
        session = await talked(chat, "one", "two")
        blocking = await chat.create_session(model="echo/paced")
        turn = (await chat.start_turn(blocking.id, "x" * 100)).turn
        replaying = asyncio.create_task(replayed(chat, session, mode="forced", jobs=1))
        await asyncio.sleep(0.05)
        assert not replaying.done()
        await chat.cancel(turn)
        assert verdicts(await replaying) == ["same", "same"]


async def test_a_replay_ends_when_it_has_cost_as_much_as_it_may(path):
    """No further turn is asked, what was done is on record, and the replay says why it ended."""
    async with chatting(path, providers=[Dear()]) as chat:
        session = await talked(chat, *"abcdef")
        results = await replayed(chat, session, model="dear/model", jobs=1, max_cost_micros=25)
        replay = await newest(chat)
        assert (len(results), replay.status, replay.error) == (3, "failed", "max_cost_micros")
        assert {each.layers.cost for each in results} == {None}
        assert replay.counts == engine.ReplayCounts(different=3)


# --- what cannot be replayed ------------------------------------------------------------------------------------------


async def test_what_cannot_be_asked_is_refused_before_anything_is_written(path):
    """An unknown model, a missing tool, an open turn that is named, too many turns, nothing at all: each by name."""
    async with chatting(path) as chat:
        session = await talked(chat)
        empty = (await chat.create_session(model=ECHO)).id
        open_session = (await chat.create_session(model="echo/paced")).id
        running = (await chat.start_turn(open_session, "x" * 400)).turn
        size = (await chat.log_events(limit=1000)).items[-1].position
        with pytest.raises(UnknownModel):
            await chat.start_replay(session, model="nobody/none")
        with pytest.raises(Invalid) as missing:
            await chat.start_replay(session, model=ECHO, tools={"live": ["nothing"]})
        assert (missing.value.code, "nothing" in missing.value.detail) == ("unknown_tool", True)
        with pytest.raises(TurnAlreadyOpen) as still:
            await chat.start_replay(engine.ReplayQuery(turns=[running]), mode="forced")
        assert still.value.extra["turn_id"] == str(running)
        with pytest.raises(TooLarge) as many:
            await chat.start_replay(session, mode="forced", max_turns=2)
        assert many.value.extra["limit"] == "max_turns"
        for wrong, error in (
            (engine.new_id(), SessionNotFound),
            (engine.ReplayQuery(turns=[engine.new_id()]), TurnNotFound),
            (engine.ReplayQuery(suite="nightly"), engine.SuiteNotFound),
            (empty, engine.NothingToReplay),
            (engine.ReplayQuery(where=engine.ReplayWhere(model="echo/none")), engine.NothingToReplay),
            (engine.ReplayQuery(), Invalid),
            (engine.ReplayQuery(sessions=[session], suite="nightly"), Invalid),
            (engine.ReplayQuery(where=engine.ReplayWhere(since="yesterday")), Invalid),
        ):
            with pytest.raises(error):
                await chat.start_replay(wrong, mode="forced")
        for field, options in (
            ("mode", {"mode": "loose"}),
            ("model", {"mode": "recorded", "model": ECHO}),
            ("repeat", {"mode": "free", "repeat": 1}),
            ("jobs", {"mode": "forced", "jobs": 0}),
            ("jobs", {"mode": "forced", "jobs": 65}),
            ("max_turns", {"mode": "forced", "max_turns": 20_000}),
            ("tools", {"mode": "forced", "tools": "all"}),
            ("tools", {"mode": "forced", "tools": {"live": []}}),
        ):
            with pytest.raises(Invalid) as invalid:
                await chat.start_replay(session, **options)
            assert invalid.value.extra["field"] == field
        with pytest.raises(TypeError, match="speed"):
            await chat.start_replay(session, mode="forced", speed=3)
        assert [each.type for each in (await chat.log_events(after=size)).items if "replay" in each.type] == []
        await chat.cancel(running)
    assert query(path, "SELECT count(*) FROM events WHERE type LIKE 'replay.%'") == [(0,)]


async def test_what_cannot_be_done_again_is_skipped_loudly_and_counted(path):
    """Erased words, a turn that failed, one that runs, an archived session: each has a result that says why."""
    async with chatting(path, broken=says({"fail": {"code": "provider_rejected"}})) as chat:
        erased = await talked(chat, "one", "two")
        await chat.erase(erased, versions=[2], reason="asked for")
        failed = await talked(chat, "one", model="scripted/broken")
        archived = await talked(chat, "one")
        await chat.update_session(archived, status="archived")
        running = (await chat.create_session(model="echo/paced")).id
        turn = (await chat.start_turn(running, "x" * 400)).turn
        results = await replayed(chat, [erased, failed, archived, running], mode="forced")
        assert verdicts(results) == ["skipped"] * 5
        assert [each.reason for each in results] == [
            "words of what was asked are erased",
            "words of what was asked are erased",
            "the recorded turn did not complete",
            "the session is archived",
            "the recorded turn has not ended",
        ]
        assert (await newest(chat)).counts == engine.ReplayCounts(skipped=5)
        await chat.cancel(turn)


@pytest.mark.parametrize("mode", ["forced", "free"])
async def test_damaged_words_are_skipped_loudly(path, tmp_path, mode):
    """A turn whose input or answer is damaged is not done again; the others are."""
    copy = tmp_path / "damaged.db"
    async with chatting(path) as chat:
        session = await talked(chat, "one", "two", "three")
        said = (await chat.messages(session)).items
    copied(path, tmp_path, copy.name)
    damage(copy, said[3].position, "another salt")
    async with chatting(copy, unwitnessed=True) as chat:
        results = await replayed(chat, session, mode=mode)
        assert verdicts(results) == ["same", "skipped", "skipped"]
        assert results[1].reason == "the recorded answer is damaged"
        assert results[2].reason == "what was asked is damaged"
        assert (await newest(chat)).status == "completed"


def test_every_reason_has_its_words():
    """A code that facts can hold says something to a person."""
    assert {*get_args(Compared)} == {*IN_WORDS}


async def test_a_model_that_fails_is_a_failed_result(path):
    """The new turn's failure is told as such, and the replay goes on."""
    async with chatting(path, broken=says({"fail": {"code": "provider_rejected"}})) as chat:
        session = await talked(chat, "one", "two")
        results = await replayed(chat, session, model="scripted/broken")
        assert [(each.verdict, each.reason) for each in results] == [("failed", "the new turn failed")] * 2


# --- the stream of its own --------------------------------------------------------------------------------------------


async def test_a_replay_is_no_session(path):
    """It is in no list of sessions, is none to whatever takes a session but to erase its words, and its events are in
    the log.
    """
    async with chatting(path) as chat:
        session = await talked(chat, "one")
        await replayed(chat, session, mode="forced")
        replay = (await newest(chat)).id
        assert replay not in [each.id async for each in chat.iter_sessions()]
        for attempt in (
            lambda: chat.session(replay),
            lambda: chat.events(replay),
            lambda: chat.messages(replay),
            lambda: chat.append_message(replay, "x"),
            lambda: chat.start_turn(replay, "x"),
            lambda: chat.update_session(replay, title="x"),
            lambda: chat.fork(replay),
            lambda: chat.pin(replay, 1),
            lambda: chat.export(io.BytesIO(), replay),
        ):
            with pytest.raises(SessionNotFound):
                await attempt()
        with pytest.raises(engine.ReplayNotFound):
            await chat.replay_state(session)
        with pytest.raises(engine.ReplayNotFound):
            await chat.replay_state("nothing")
        assert len(await stream_of(chat, replay)) == 3


async def test_replays_are_listed_and_read_page_by_page(path):
    """The newest first; results in the order in which they came; another tenant sees none."""
    async with chatting(path) as chat:
        session = await talked(chat)
        made = []
        for _ in range(3):
            await replayed(chat, session, mode="forced")
            made.append((await newest(chat)).id)
        first = await chat.replays(limit=2)
        assert [each.id for each in first.items] == made[:0:-1]
        assert [each.id for each in (await chat.replays(limit=2, after=first.next)).items] == made[:1]
        page = await chat.replay_results(made[0], limit=2)
        rest = await chat.replay_results(made[0], limit=2, after=page.next)
        assert (len(page.items), len(rest.items), rest.next) == (2, 1, None)
        stranger = engine.Caller("other")
        assert (await chat.replays(caller=stranger)).items == []
        with pytest.raises(engine.ReplayNotFound):
            await chat.replay_results(made[0], caller=stranger)


async def test_a_whole_log_with_replays_is_exported_and_taken_in(path, tmp_path):
    """A bundle of the log holds them, verifies, and gives the same projections elsewhere."""
    async with chatting(path, other=OTHER) as chat:
        session = await talked(chat)
        await replayed(chat, session, mode="free", model="scripted/other")
        with (tmp_path / "log.zip").open("wb") as file:
            await chat.export(file)
        expected = (await newest(chat)).id
    elsewhere = tmp_path / "there.db"
    engine.import_bundle(str(elsewhere), Path(tmp_path / "log.zip"))
    async with engine.open_beside(str(elsewhere)) as there:
        assert (await newest(there)).id == expected
        assert verdicts([each.result for each in (await there.replay_results(expected)).items]) == ["different"] * 3
    assert_rebuilds(elsewhere, tmp_path / "scratch.db")


async def test_a_replay_under_an_idempotency_key_is_made_once(path):
    """The same request again gives the same replay; another under its key is refused."""
    async with chatting(path) as chat:
        session = await talked(chat)
        key = RequestKey("local", "replays", "k1", b"body")
        made = [await chat.start_replay(session, mode="forced", request=key) for _ in range(2)]
        assert made[0].id == made[1].id
        with pytest.raises(IdempotencyMismatch):
            await chat.start_replay(session, mode="forced", request=msgspec.structs.replace(key, body=b"other"))
        _ = [each async for each in chat.follow_replay(made[0].id)]
    assert query(path, "SELECT count(*) FROM events WHERE type = 'replay.started'") == [(1,)]


async def test_sessions_are_found_by_conditions(path):
    """Those that replays made are not among them; times choose the turns; the conditions are words."""
    async with chatting(path) as chat:
        await talked(chat, "one", title="A talk of cats")
        await talked(chat, "two", "three", title="A talk of dogs")
        dogs = engine.ReplayQuery(where=engine.ReplayWhere(title_contains="DOGS", since="2020-01-01T00:00:00Z"))
        assert verdicts(await replayed(chat, dogs, mode="forced")) == ["same"] * 2
        await replayed(chat, dogs, mode="free")
        every = engine.ReplayQuery(where=engine.ReplayWhere(model=ECHO))
        assert len(await replayed(chat, every, mode="forced")) == 3
        ((_, facts, body), *_) = await stream_of(chat, (await newest(chat)).id)
        assert (facts.get("sessions"), json.loads(bytes(body))) == (None, {"where": {"model": ECHO}})
        late = engine.ReplayQuery(where=engine.ReplayWhere(since="2100-01-01T00:00:00Z"))
        with pytest.raises(engine.NothingToReplay):
            await replayed(chat, late, mode="forced")


async def test_answers_of_a_replay_become_a_suites_reference(path):
    """A suite is replayed by its name; what is accepted takes the old turn's place, once; and it is no session."""
    async with chatting(path, other=OTHER) as chat:
        session = await talked(chat, "one", "two")
        starts = [event.position for event in (await chat.events(session, types=("turn.started",))).items]
        suite = await keep_suite(chat, "smoke", starts)
        results = await replayed(chat, engine.ReplayQuery(suite="smoke"), model="scripted/other")
        assert verdicts(results) == ["different", "different"]
        replay = await newest(chat)
        await chat.accept_results(replay.id, [results[0].turn_id])
        with pytest.raises(Invalid, match="does not hold this turn"):
            await chat.accept_results(replay.id, [results[0].turn_id])
        with pytest.raises(Invalid, match="no new answer"):
            await chat.accept_results(replay.id, [engine.new_id()])
        again = await replayed(chat, engine.ReplayQuery(suite="smoke"), model="scripted/other")
        assert {each.turn_id for each in again} == {results[0].new_turn_id, results[1].turn_id}
        assert sorted(verdicts(again)) == ["different", "same"]
        with pytest.raises(SessionNotFound):
            await chat.session(suite)
        with pytest.raises(SuiteExists):
            await keep_suite(chat, "smoke", starts)


async def test_a_suite_that_refers_to_what_is_no_turn_ends_its_replay(path):
    """The replay fails with a code, and is not gone on with for ever."""
    async with chatting(path) as chat:
        await talked(chat, "one")
        await keep_suite(chat, "broken", [1])
        with pytest.raises(TurnNotFound):
            await replayed(chat, engine.ReplayQuery(suite="broken"), mode="forced")
        assert await replayed(chat, engine.ReplayQuery(suite="broken"), model=ECHO) == []
        assert ((await newest(chat)).status, (await newest(chat)).error) == ("failed", "store_corrupt")


async def keep_suite(chat, name, starts):
    """Put a suite on record; its id."""
    suite = engine.new_id()
    check = NameCheck("default", suite, name)
    news = seal([Draft(SuiteChanged(tuple(starts)), SuiteWords(name))], engine.LOCAL, chat._parts.clock)
    await chat._parts.store.append(Append("default", suite, NoStream(), news, scratch=(check,)))
    return suite


# --- cancelling, and going on -----------------------------------------------------------------------------------------


async def test_a_cancelled_replay_cancels_what_is_under_way(path):
    """Its turns end as cancelled, nothing more is asked, and cancelling again changes nothing."""
    gate = Gate()
    async with chatting(path, providers=[gate]) as chat:
        session = await talked(chat, *"abcdef")
        replay = await chat.start_replay(session, model="gate/model", jobs=2)

        async def two():
            return gate.asked == 2

        await until(two)
        cancelled = await chat.cancel_replay(replay.id)
        assert cancelled.status == "cancelled"
        assert (await chat.cancel_replay(replay.id)).ended_at == cancelled.ended_at
        assert [each async for batch in chat.follow_replay(replay.id) for each in batch] == []
        with pytest.raises(engine.ReplayEnded):
            await chat.resume_replay(replay.id)

        async def ended():
            return query(path, "SELECT count(*) FROM turns WHERE status = 'cancelled'") == [(2,)]

        await until(ended)
        assert gate.asked == 2


async def test_who_leaves_the_results_cancels_the_replay(path):
    """An iterator that is closed early leaves nothing running."""
    gate = Gate(opened=True)
    async with chatting(path, providers=[gate]) as chat:
        session = await talked(chat, *"abcdefgh")
        results = chat.replay(session, model="gate/model", jobs=1)
        await anext(results)
        await results.aclose()
        assert (await newest(chat)).status in {"cancelled", "completed"}


async def test_a_replay_goes_on_where_it_was_cut_off(path):
    """After a restart no turn with an answer is asked again; those under way are asked once more, and marked so."""
    first, second = Gate(), Gate(opened=True)
    words = [f"number {number}" for number in range(8)]
    async with chatting(path, providers=[Gate(opened=True)]) as chat:
        session = await talked(chat, *words)
    async with chatting(path, providers=[first], drain_s=0) as chat:
        replay = await chat.start_replay(session, model="gate/model", jobs=3)
        first.opened.set()

        async def some():
            return len((await chat.replay_results(replay.id)).items) >= 2

        await until(some)
        first.opened.clear()
        done = len((await chat.replay_results(replay.id)).items)
        assert done < 8 or first.asked == 8
    async with chatting(path, providers=[second]) as chat:
        assert (await chat.replay_state(replay.id)).status == "running"
        await chat.resume_replay(replay.id)
        found = [each.result async for batch in chat.follow_replay(replay.id) for each in batch]
        assert len(found) == len({each.turn_id for each in found}) == 8
        assert first.asked + second.asked <= 8 + 3
        assert sum(each.repeated for each in found) == first.asked + second.asked - 8
        assert (await chat.replay_state(replay.id)).status == "completed"


async def test_a_server_goes_on_with_all_of_them(path):
    """What runs on record, and not here, is gone on with at a start; what has ended is not."""
    gate = Gate()
    async with chatting(path, providers=[gate], drain_s=0) as chat:
        session = await talked(chat, "one", "two")
        await replayed(chat, session, mode="forced")
        replay = await chat.start_replay(session, model="gate/model", jobs=1)

        async def asked():
            return gate.asked == 1

        await until(asked)
    async with chatting(path, providers=[Gate(opened=True)]) as chat:
        assert await chat.serving.resume_replays() == 1
        found = [each.result async for batch in chat.follow_replay(replay.id) for each in batch]
        assert sorted(each.repeated for each in found) == [False, True]
        assert await chat.serving.resume_replays() == 0


async def test_beside_a_server_nothing_is_started(path):
    """What would write is refused where the file is only read."""
    async with chatting(path) as chat:
        session = await talked(chat, "one")
        async with engine.open_beside(str(path)) as beside:
            with pytest.raises(StoreUnavailable):
                await beside.start_replay(session, mode="forced")


# --- free -------------------------------------------------------------------------------------------------------------


async def test_a_free_replay_holds_the_conversation_again(path):
    """In a new session, which names its source and shares nothing; each answer stands on the new history."""
    async with chatting(path) as chat:
        session = await talked(chat, "one", "two", system="Be brief.", title="A talk")
        results = await replayed(chat, session, mode="free", model="echo/paced")
        assert verdicts(results) == ["same", "same"]
        (new,) = {each.new_session_id for each in results}
        told = await chat.session(new)
        assert (told.model, told.system, told.title, told.parent) == ("echo/paced", "Be brief.", "A talk", None)
        (started,) = (await chat.events(new, types=("session.started",))).items
        assert json.loads(bytes(started.facts))["source"]["session"] == str(session)


async def test_the_first_answer_that_differs_is_marked(path):
    """From there on the user's words answer something else; the ones after it are not marked."""
    model = [*says("one"), *says("not two"), *says("not three")]
    async with chatting(path, other=model) as chat:
        session = await talked(chat)
        results = await replayed(chat, session, mode="free", model="scripted/other")
        assert [(each.verdict, each.diverges) for each in results] == [
            ("same", False),
            ("different", True),
            ("different", False),
        ]


async def test_in_a_free_replay_results_go_to_the_new_runs_calls(path):
    """Results that the caller gave are given to the same calls; where none was made, the exchange is skipped."""
    clerk = [*says({"tool": {"id": "old", "name": "look", "input": {"at": 1}}}), *says("seen"), *says("bye")]
    like = [*says({"tool": {"id": "new", "name": "look", "input": {"at": 1.0}}}), *says("seen"), *says("bye")]
    unlike = [*says("no"), *says("bye")]
    result = engine.MessageIn([engine.ToolResultBlock("old", [engine.TextBlock("it is there")])], "tool")
    async with chatting(path, clerk=clerk, like=like, unlike=unlike) as chat:
        session = (await chat.create_session(model="scripted/clerk")).id
        for content in ("look", result, "thanks"):
            await chat.say(session, content, client_tools=offered("look"))
        results = await replayed(chat, session, mode="free", model="scripted/like")
        assert verdicts(results) == ["same"] * 3
        others = await replayed(chat, session, mode="free", model="scripted/unlike")
        assert verdicts(others) == ["different", "skipped", "same"]
        assert others[1].reason == "the new run did not ask for these tools"


async def test_a_free_replay_goes_on_where_it_was_cut_off(path):
    """In the same new session; the turn that was under way is asked once more, with the message that stands there."""
    first, second = Gate(), Gate(opened=True)
    async with chatting(path, providers=[first], drain_s=0) as chat:
        session = await talked(chat)
        replay = await chat.start_replay(session, mode="free", model="gate/model")

        async def asked():
            return first.asked == 1

        await until(asked)
    async with chatting(path, providers=[second]) as chat:
        await chat.resume_replay(replay.id)
        found = [each.result async for batch in chat.follow_replay(replay.id) for each in batch]
        assert [each.repeated for each in found] == [True, False, False]
        (new,) = {each.new_session_id for each in found}
        said = [message.text for message in (await chat.messages(new)).items if message.role == "user"]
        assert said == ["one", "two", "three"]
        assert second.asked == 3


# --- recorded ---------------------------------------------------------------------------------------------------------


async def test_a_recorded_replay_asks_nobody_and_records_its_start_and_end(path):
    """The default without a model; its results are told while the process lives, and only counted on record."""
    async with chatting(path, other=OTHER) as chat:
        session = await talked(chat, "one", model="scripted/other")
        asked = len(chat.script.requests)
        results = await replayed(chat, session)
        assert verdicts(results) == ["same"]
        assert (results[0].layers.request, results[0].layers.frames) == (True, True)
        assert len(chat.script.requests) == asked
        replay = await newest(chat)
        assert (replay.mode, replay.counts) == ("recorded", engine.ReplayCounts(same=1))
        assert [each.result for each in (await chat.replay_results(replay.id)).items] == results
        events = await stream_of(chat, replay.id)
        assert [kind for kind, *_ in events] == ["replay.started", "replay.completed"]
    async with chatting(path, other=OTHER) as chat:
        assert (await chat.replay_state(replay.id)).counts == engine.ReplayCounts(same=1)
        assert (await chat.replay_results(replay.id)).items == []


async def test_where_nothing_can_be_written_a_recorded_replay_is_not_on_record(path):
    """Beside a server, or on a read-only medium, it does what it does anywhere, and writes nothing."""
    async with chatting(path) as chat:
        session = await talked(chat)
        before = query(path, "SELECT count(*) FROM events")
        async with engine.open_beside(str(path)) as beside:
            assert verdicts(await replayed(beside, session)) == ["same"] * 3
            with pytest.raises(StoreUnavailable):
                await replayed(beside, session, mode="forced")
        assert query(path, "SELECT count(*) FROM events") == before


async def test_a_recorded_replay_of_forks_and_of_an_open_turn(path):
    """Turns of a branch are done again on their lineage; one that runs is skipped."""
    async with chatting(path) as chat:
        session = await talked(chat, "one", "two", system="Be brief.")
        fork = await chat.fork(session, version=4, system="Be long.")
        await chat.say(fork.id, "three")
        assert verdicts(await replayed(chat, fork.id)) == ["same", "same"]
        running = (await chat.create_session(model="echo/paced")).id
        turn = (await chat.start_turn(running, "x" * 400)).turn
        (result,) = await replayed(chat, running)
        assert (result.verdict, result.reason) == ("skipped", "the recorded turn has not ended")
        await chat.cancel(turn)
