"""What a model was sent is explained from the record: its exact bytes, and why each message was in it or not."""

import base64
import gzip
import json
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from manent import engine
from manent.engine.context.derive import LOOKS
from manent.engine.context.window import POLICY
from manent.engine.errors import Erased, Invalid, RecordDamaged, StoreNewer, TurnNotFound, UnknownRenderer
from manent.engine.providers import renderers
from manent.engine.providers.anthropic.render import MESSAGES, RENDERERS
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended
from tests.contracts.test_tamper import attack
from tests.support import Dictated, assert_adds_up, begin, chatting, explained, offered, query, says

GOLDEN = Path(__file__).parents[1] / "golden"
ECHO = "echo/echo"
TRUNCATE = {"truncate": True}
ANSWER = (BlockStarted(0, "text"), Delta(0, "Yes."), BlockStopped(0), Ended("end_turn"))


class Claude(Dictated):
    """Renders as for Claude."""

    renderer = MESSAGES
    renderers = RENDERERS


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


def reasons(prompt):
    """Version -> reason: of what was sent, and of what was not."""
    window = prompt.window
    return {each.version: each.reason for each in window.included}, {
        each.version: each.reason for each in window.omitted.items
    }


# --- the request ------------------------------------------------------------------------------------------------------


async def test_a_request_is_shown_as_it_was_sent(path):
    """Its bytes, what they say, by whom they were made and counted, parameters and tools, and both commitments."""
    provider = Claude(*ANSWER)
    async with chatting(path, providers=(provider,)) as chat:
        session = await chat.create_session(model="dictated/model", system="Be brief.", budget_tokens=500)
        tools = offered("look")
        turn = await chat.say(
            session.id,
            "Go.",
            temperature=0.5,
            stop=("END",),
            max_output_tokens=9,
            client_tools=tools,
            tool_choice="look",
        )
        prompt = await chat.explain(turn.id)
        (event,) = (await chat.events(session.id, types=("attempt.started",))).items
    assert [prompt.request_bytes] == provider.requests
    assert json.loads(bytes(prompt.request)) == json.loads(provider.requests[0])
    assert (prompt.turn_id, prompt.attempt, prompt.model) == (turn.id, 1, "dictated/model")
    assert (prompt.renderer, prompt.counter) == (MESSAGES, "o200k_base/1")
    assert prompt.parameters == engine.Parameters(9, 0.5, ("END",), "look")
    assert prompt.tools == tools
    assert prompt.matches
    assert prompt.commitment == prompt.recorded_commitment == json.loads(bytes(event.facts))["request"]
    assert_adds_up(prompt)
    said = json.loads(msgspec.json.encode(prompt))
    assert base64.b64decode(said["request_bytes_base64"]) == provider.requests[0]
    assert said["request"]["system"] == "Be brief."


async def test_attempts_are_counted_along_the_turn(path):
    """From 1, through all rounds, as the turn lists them; without a number it is the last."""
    call = {"tool": {"id": "c", "name": "timestamp", "input": {}}}
    busy = {"fail": {"code": "provider_unavailable", "retry_after_s": 0.001}}
    script = [{"steps": [call]}, {"steps": [{"text": "Done."}]}]
    async with chatting(path, main=script, busy=says(busy), max_attempts=2, retry_base_ms=1) as chat:
        session = await chat.create_session(model="scripted/busy", fallback_model="scripted/main")
        turn = await chat.say(session.id, "Go.", tools=["timestamp"])
        assert [(each.round, each.attempt) for each in turn.attempts][:3] == [(1, 1), (1, 2), (1, 3)]
        prompts = await explained(chat, session.id)
        assert [prompt.request_bytes for prompt in prompts] == chat.script.requests
        assert [prompt.model for prompt in prompts] == [each.provider + "/" + each.model for each in turn.attempts]
        assert {"scripted/busy", "scripted/main"} == {prompt.model for prompt in prompts}
        assert await chat.explain(turn.id) == prompts[-1]
        for number in (len(prompts) + 1, 10**9):
            with pytest.raises(TurnNotFound, match=f"has {len(prompts)} attempts, and no attempt") as refusal:
                await chat.explain(turn.id, attempt=number)
            assert refusal.value.extra["attempts"] == len(prompts)
        for number in (0, -1):
            with pytest.raises(Invalid, match="attempt"):
                await chat.explain(turn.id, attempt=number)


@pytest.mark.parametrize("turn", ["x", "00000000-0000-7000-8000-000000000000"])
async def test_an_unknown_turn_is_not_found(path, turn):
    """Neither what is no id, nor an id of nobody's."""
    async with chatting(path) as chat:
        with pytest.raises(TurnNotFound):
            await chat.explain(turn)


async def test_another_tenants_turn_is_not_found(path):
    """Every look-up is by tenant and id."""
    async with chatting(path) as chat:
        turn = await chat.say((await chat.create_session(model=ECHO)).id, "Mine.")
        with pytest.raises(TurnNotFound):
            await chat.explain(turn.id, caller=engine.Caller("other"))


async def test_a_turn_that_runs_is_explained(path):
    """What it has just been sent is on record before it was sent."""
    async with chatting(path, hang=says("Wait", {"hang": True})) as chat:
        turn = await begin(chat, (await chat.create_session(model="scripted/hang")).id, "Go.")
        prompt = await chat.explain(turn)
        assert prompt.matches
        await chat.cancel(turn)
        assert await chat.explain(turn) == prompt


async def test_a_name_that_facts_cannot_hold_is_told(path):
    """It is words: of a model that is on no list."""

    class Unlisted(Claude):
        def model(self, name):
            return engine.ModelInfo(name, family="claude", listed=False)

    provider = Unlisted(*ANSWER)
    async with chatting(path, providers=(provider,)) as chat:
        turn = await chat.say((await chat.create_session(model="dictated/my-own")).id, "Go.")
        prompt = await chat.explain(turn.id)
    assert prompt.model == "dictated/my-own"
    assert [prompt.request_bytes] == provider.requests


async def test_the_provider_need_not_be_configured(path):
    """Renderers are kept by name and need no key: also beside a server, and through the synchronous door."""
    provider = Claude(*ANSWER)
    async with chatting(path, providers=(provider,)) as chat:
        turn = await chat.say((await chat.create_session(model="dictated/model")).id, "Go.")
        prompt = await chat.explain(turn.id)
        async with engine.open_beside(path) as beside:
            assert await beside.explain(turn.id) == prompt
    async with chatting(path) as chat:
        assert chat.providers.get("dictated") is None
        assert await chat.explain(turn.id) == prompt
    with engine.open_sync(path) as chat:
        assert chat.explain(turn.id, attempt=1) == prompt


@pytest.mark.parametrize("old", sorted(GOLDEN.glob("*-000[1-7].db.gz")), ids=lambda file: file.name)
async def test_what_older_versions_have_sent_is_derived_again(path, old):
    """From their databases, whatever has changed since; what was erased there is named."""
    path.write_bytes(gzip.decompress(old.read_bytes()))
    derived = 0
    async with engine.open(path) as chat:
        async for session in chat.iter_sessions():
            async for turn in chat.iter_turns(session.id):
                for number in range(1, len(turn.attempts) + 1):
                    with suppress(Erased):
                        prompt = await chat.explain(turn.id, attempt=number)
                        assert prompt.matches
                        assert_adds_up(prompt)
                        derived += 1
    assert derived


async def test_a_renderer_of_ones_own_is_used_where_it_is_configured(path):
    """And named with those that there are, where it is not."""
    provider = Dictated(*ANSWER)
    provider.renderer, provider.renderers = "own/1", {"own/1": lambda prompt: b"\xff" + prompt.model.encode()}
    async with chatting(path, providers=(provider,)) as chat:
        turn = await chat.say((await chat.create_session(model="dictated/model")).id, "Go.")
        prompt = await chat.explain(turn.id)
        assert (prompt.request, prompt.request_bytes, prompt.matches) == (None, b"\xffmodel", True)
    async with chatting(path) as chat:
        with pytest.raises(UnknownRenderer, match="own/1 of the provider dictated") as refusal:
            await chat.explain(turn.id)
    assert refusal.value.extra["available"] == sorted(renderers.RENDERERS)


async def test_a_request_that_is_another_does_not_match(path, monkeypatch):
    """If a renderer has changed under its name, both commitments are told, and that they differ."""
    async with chatting(path) as chat:
        turn = await chat.say((await chat.create_session(model=ECHO)).id, "Go.")
        true = await chat.explain(turn.id)
        provider = chat.providers.get("echo")
        monkeypatch.setattr(provider, "renderers", {provider.renderer: lambda prompt: b"{}"}, raising=False)
        prompt = await chat.explain(turn.id)
    assert not prompt.matches
    assert prompt.recorded_commitment == true.commitment != prompt.commitment


# --- what is gone -----------------------------------------------------------------------------------------------------


async def test_what_is_erased_is_named(path):
    """The request cannot be shown any more, and all of its events whose words are gone are named."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO, system="Be brief.")
        first = await chat.say(session.id, "One.")
        second = await chat.say(session.id, "Two.")
        await chat.erase(session.id, "x", versions=[second.message.version])
        assert (await chat.explain(second.id)).matches, "its answer was no part of it"
        third = await chat.say(session.id, "Three.")
        prompt = await chat.explain(third.id)
        erased = {each.version: each.reason for each in prompt.window.omitted.items}
        assert erased == {second.message.version: "erased"}
        await chat.erase(session.id, "all")
        for turn in (first, second, third):
            with pytest.raises(Erased, match="1, 2") as refusal:
                await chat.explain(turn.id)
            sent = json.loads(query(path, "SELECT facts FROM events WHERE type = 'attempt.started'")[0][0])["positions"]
            assert {1, *sent} < {*refusal.value.extra["positions"]}


@pytest.mark.parametrize("position", [1, 2, 4])
async def test_what_is_damaged_is_not_shown(path, position):
    """The system prompt, a message, the attempt's own words: refused with the position."""
    async with chatting(path) as chat:
        turn = await chat.say((await chat.create_session(model=ECHO, system="Be brief.")).id, "Go.")
    attack(path, ("UPDATE bodies SET bytes = CAST(bytes || ' ' AS BLOB) WHERE position = ?", (position,)))
    async with chatting(path, unwitnessed=True) as chat:
        with pytest.raises(RecordDamaged) as refusal:
            await chat.explain(turn.id)
        assert refusal.value.extra["position"] == position


# --- the window -------------------------------------------------------------------------------------------------------


async def test_each_message_has_its_reason(path):
    """Pinned, the last user message, the last unit, the newest that fit; the rest is beyond the budget."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO, system="Be brief.")).id
        texts = [f"number {number}" for number in range(40)]
        await chat.append_messages(session, [engine.MessageIn(text, "user") for text in texts])
        await chat.pin(session, 4)
        turn = await chat.say(session, "Go.", budget_tokens=40, max_output_tokens=5)
        prompt = await chat.explain(turn.id)
        included, omitted = reasons(prompt)
        asked = max(included)
        assert_adds_up(prompt)
        assert (included.pop(1), included.pop(4), included.pop(asked)) == ("system", "pinned", "last_user")
        assert set(included.values()) == {"newest_that_fits"}
        assert sorted(included) == list(range(min(included), 42))
        assert set(omitted.values()) == {"budget"}
        assert list(omitted) == sorted(omitted, reverse=True)
        left = prompt.window.omitted
        assert (left.count, left.by_reason["budget"].count) == (len(omitted), len(omitted))
        await chat.append_messages(
            session, [engine.MessageIn("Indeed.", "assistant"), engine.MessageIn("So.", "system")]
        )
        await chat.unpin(session, 4)
        again = await chat.say(session, "And?", budget_tokens=40, max_output_tokens=5)
        assert 4 in reasons(await chat.explain(again.id))[1], "it is not pinned any more"
        assert reasons(await chat.explain(turn.id))[0][4] == "pinned", "then it was"


async def test_a_round_of_tools_is_the_last_unit(path):
    """After a call the newest unit is the call with its result; the user's message has opened the exchange."""
    call = {"tool": {"id": "c", "name": "timestamp", "input": {}}}
    async with chatting(path, main=[{"steps": [call]}, {"steps": [{"text": "Done."}]}]) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        turn = await chat.say(session, "Go.", tools=["timestamp"])
        first, second = await explained(chat, session)
    assert list(reasons(first)[0].values()) == ["last_user"]
    assert list(reasons(second)[0].values()) == ["last_user", "last_unit", "last_unit"]
    assert [each.role for each in second.window.included] == ["user", "assistant", "tool"]
    assert turn.text == "Done."


async def test_what_was_passed_over_has_its_reason(path):
    """Superseded, erased, empty; and what would have begun an exchange in its middle. Partial answers that are gone on
    with are sent.
    """
    models = {"bad": says("Half", TRUNCATE), "good": says("Whole.")}
    silent = Dictated(BlockStarted(0, "text"), BlockStopped(0), Ended("end_turn"))
    async with chatting(path, providers=(silent,), **models) as chat:
        session = (await chat.create_session(model="scripted/good")).id
        await chat.append_message(session, "Welcome.", role="assistant")
        await chat.say(session, "One.", model="scripted/bad")
        await chat.ended(await begin(chat, session))
        await chat.say(session, "Two.")
        empty = (await chat.say(session, "Nothing?", model="dictated/model")).message
        half = (await chat.say(session, "Three.", model="scripted/bad")).message
        await chat.ended(await begin(chat, session, continues=True))
        erased = (await chat.messages(session)).items[-6]
        await chat.erase(session, "x", versions=[erased.version])
        turn = await chat.say(session, "Four.")
        prompt = await chat.explain(turn.id)
        included, omitted = reasons(prompt)
        assert_adds_up(prompt)
        assert included[half.version] == "newest_that_fits"
        assert set(omitted.values()) == {"incomplete", "superseded", "erased", "empty"}
        assert (omitted[2], omitted[erased.version], omitted[empty.version]) == ("incomplete", "erased", "empty")
        await chat.erase(session, "later", versions=[2])
        assert reasons(await chat.explain(turn.id)) == (included, omitted), "what is erased since was not erased then"


async def test_the_nearest_hundred_are_listed(path):
    """And all are counted, however many there are."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO)).id
        for _ in range(6):
            await chat.append_messages(session, [engine.MessageIn("x " * 20)] * 100)
        turn = await chat.say(session, "Go.", budget_tokens=100, max_output_tokens=5)
        later = await chat.say(session, "On.", budget_tokens=100, max_output_tokens=5)
        for _ in range(8):
            await chat.append_messages(session, [engine.MessageIn("x " * 20)] * 100)
        for each, before in ((turn, 601), (later, 603)):
            prompt = await chat.explain(each.id)
            assert_adds_up(prompt)
            left = prompt.window.omitted
            assert left.count + len(prompt.window.included) == before
            assert left.by_reason.keys() == {"budget"}
            assert left.items[0].version == prompt.window.included[0].version - 1
            assert [one.version - other.version for one, other in zip(left.items, left.items[1:], strict=False)] == [
                1
            ] * 99


async def test_a_policy_that_is_not_known_is_named(path, monkeypatch):
    """What was chosen by the rules of a newer version cannot be explained by those of this one."""
    async with chatting(path) as chat:
        turn = await chat.say((await chat.create_session(model=ECHO)).id, "Go.")
        monkeypatch.delitem(LOOKS, POLICY)
        with pytest.raises(StoreNewer, match=POLICY):
            await chat.explain(turn.id)
