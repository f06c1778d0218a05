"""Replay: played back as it came, run again, and what differs."""

import json
import time

import pytest

from manent import engine
from manent.engine.tools.from_record import NOT_ON_RECORD
from tests.support import begin, chatting, frames_of, offered, says, shown, text_of

RESULT = '{"type":"tool_result","tool_use_id":"%s","content":"%s"}'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


async def again(chat, session, model):
    return [result async for result in chat.replay(session.id, mode="free", model=model)]


async def give_results(chat, session, *results):
    """Answer calls, and let the model go on."""
    raws = tuple((RESULT % result).encode() for result in results)
    return await chat.say(session.id, engine.MessageIn(raws, "tool"))


def asks(*calls):
    """A step for each call: (id, name)."""
    return [{"tool": {"id": call, "name": name, "input": {"of": name}}} for call, name in calls]


# --- playing back -----------------------------------------------------------------------------------------------------


async def test_what_is_played_back_is_what_was_shown(path):
    """Appended messages come whole, and every frame of a turn with the number, type and bytes it had live."""
    async with chatting(path) as chat:
        session = await chat.create_session(model="echo/paced")
        turn = await begin(chat, session.id, "Grüße 🌍, one two three")
        live = await frames_of(chat, turn)
        await chat.append_message(session.id, "For the record.")
        played = [thing async for thing in chat.play_back(session.id)]
    assert [text_of(played[0]), text_of(played[-1])] == ["Grüße 🌍, one two three", "For the record."]
    assert played[1:-1] == live


async def test_pauses_are_those_of_the_record_at_the_pace_asked_for(path):
    """At 4x a reply takes a quarter of the time it took, at 1x as long as it took, and at 0 next to none."""
    async with chatting(path) as chat:
        session = await chat.create_session(model="echo/paced")
        await chat.say(session.id, "x" * 120)
        took = {}
        for pace in (1.0, 4.0, 0.0):
            begun = time.monotonic()
            deltas = [1 async for thing in chat.play_back(session.id, pace=pace) if is_delta(thing)]
            took[pace] = time.monotonic() - begun
    assert len(deltas) == 30
    assert 2.5 < took[1.0] / took[4.0] < 5
    assert took[0.0] < took[4.0] / 2


def is_delta(thing):
    return isinstance(thing, engine.Frame) and thing.type == "delta"


async def test_a_turn_that_broke_off_is_played_back_as_far_as_it_came(path):
    """A cancelled turn ends as it ended, with the deltas that were on record."""
    async with chatting(path, slow=says({"text": "Half."}, {"hang": True})) as chat:
        session = await chat.create_session(model="scripted/slow")
        turn = await begin(chat, session.id, "Tell me.")
        await shown(chat, turn, 3)
        await chat.cancel(turn)
        played = [thing.type async for thing in chat.play_back(session.id) if isinstance(thing, engine.Frame)]
    assert played == ["turn.started", "block.started", "delta", "message.appended", "turn.cancelled"]


async def test_playing_back_needs_a_session(path):
    """A session that is not there is not found."""
    async with chatting(path) as chat:
        with pytest.raises(engine.SessionNotFound):
            await anext(chat.play_back(engine.new_id()))


@pytest.mark.parametrize(("text", "pace"), [("1x", 1), ("4x", 4), ("0.5x", 0.5), ("0", 0), ("2", 2), ("0x", 0)])
def test_a_pace_is_read(text, pace):
    """A factor with or without its x; 0 is without pauses."""
    assert engine.read_pace(text) == pace


@pytest.mark.parametrize("text", ["", "x", "-1x", "fast", "1e3", "nan", "1xx", "99999x", " 1x"])
def test_what_is_no_pace_is_refused(text):
    """Anything else is refused, by name."""
    with pytest.raises(engine.Invalid, match="pace: "):
        engine.read_pace(text)


# --- running again ----------------------------------------------------------------------------------------------------


async def text_of_turn(chat, turn):
    return (await chat.turn(turn)).text


async def test_the_same_model_gives_the_same_answers(path):
    """Run again on echo, each exchange is answered as it was, in a new session that names the old one."""
    async with chatting(path) as chat:
        old = await chat.create_session(model="echo/echo", system="Be brief.", title="A talk", budget_tokens=500)
        for text in ("one", "two\nlines", "three"):
            await chat.say(old.id, text)
        results = await again(chat, old, "echo/paced")
        new = await chat.session(results[0].new_session_id)
        old_after = await chat.session(old.id)
    assert [each.verdict for each in results] == ["same"] * 3
    assert (new.system, new.title, new.budget_tokens, new.model) == ("Be brief.", "A talk", 500, "echo/paced")
    assert new.metadata == {"replay_of": str(old.id)}
    assert (new.message_count, old_after.message_count) == (6, 6)


async def test_another_model_goes_on_from_its_own_words(path):
    """The new run's own answers are what it goes on from."""
    async with chatting(path, other=[*says("First."), *says("Second.")]) as chat:
        old = await chat.create_session(model="echo/echo")
        await chat.say(old.id, "one")
        await chat.say(old.id, "two")
        results = await again(chat, old, "scripted/other")
        seen = json.loads(chat.script.requests[-1])["messages"]
        assert [await text_of_turn(chat, each.new_turn_id) for each in results] == ["First.", "Second."]
    assert [message["text"] for message in seen] == ["one", "First.", "two"]


async def test_what_callers_appended_is_taken_as_recorded(path):
    """Messages of any role that no turn made come along in their order; what was never answered does not."""
    async with chatting(path) as chat:
        old = await chat.create_session(model="echo/echo")
        for role, text in (("user", "Say A."), ("assistant", "A."), ("system", "In English.")):
            await chat.append_message(old.id, text, role=role)
        await chat.say(old.id, "Say B.")
        await chat.append_message(old.id, "Never answered.")
        (result,) = await again(chat, old, "echo/echo")
        messages = (await chat.messages(result.new_session_id)).items
    assert [(message.role, text_of(message)) for message in messages] == [
        ("user", "Say A."),
        ("assistant", "A."),
        ("system", "In English."),
        ("user", "Say B."),
        ("assistant", "Say B."),
    ]


async def test_a_turn_that_was_tried_again_is_one_exchange(path):
    """The recorded answer is the last one given; the failure before it is skipped, and asked of nobody."""
    async with chatting(path, moody=says("I brea", {"truncate": True}), whole=says("Whole.")) as chat:
        old = await chat.create_session(model="scripted/moody")
        await chat.say(old.id, "Go.")
        await chat.ended(await begin(chat, old.id, model="scripted/whole"))
        first, second = await again(chat, old, "echo/echo")
    assert (first.verdict, first.reason) == ("skipped", "the recorded turn did not complete")
    assert (second.first_difference.recorded, second.first_difference.now) == ("Whole.", "Go.")


async def test_an_answer_that_was_continued_is_one_answer(path):
    """What went on with a partial answer continues its text, and the new run says all of it at once."""
    broken = [{"steps": [{"text": "I brea"}, {"truncate": True}]}, {"steps": [{"text": "k off."}]}]
    async with chatting(path, moody=broken, whole=says("I break off.")) as chat:
        old = await chat.create_session(model="scripted/moody")
        await chat.say(old.id, "Go.")
        await chat.ended(await begin(chat, old.id, continues=True))
        first, second = await again(chat, old, "scripted/whole")
    assert (first.verdict, second.verdict) == ("skipped", "same")


async def test_a_new_turn_that_fails_is_told_and_the_rest_is_run(path):
    """A failure is a result like any other, and the next exchange is asked."""
    moody = [{"steps": [{"fail": {"code": "provider_rejected"}}], "match": "one"}, {"steps": [{"text": "fine"}]}]
    async with chatting(path, moody=moody) as chat:
        old = await chat.create_session(model="echo/echo")
        await chat.say(old.id, "one")
        await chat.say(old.id, "two")
        first, second = await again(chat, old, "scripted/moody")
        assert (first.verdict, first.reason) == ("failed", "the new turn failed")
        assert await text_of_turn(chat, second.new_turn_id) == "fine"


async def test_an_unknown_model_writes_nothing(path):
    """A slip in the model's name is refused before a session is made."""
    async with chatting(path) as chat:
        old = await chat.create_session(model="echo/echo")
        await chat.say(old.id, "one")
        with pytest.raises(engine.UnknownModel):
            await again(chat, old, "echo/nothing")
        sessions = (await chat.sessions()).items
    assert len(sessions) == 1


# --- tools ------------------------------------------------------------------------------------------------------------

OLD = [{"steps": asks(("old_1", "weather"), ("old_2", "news"))}, {"steps": [{"text": "Rain and rest."}]}]
RAIN, REST = ("old_1", "Rain."), ("old_2", "Rest.")


async def record_tools(chat, results=(RAIN, REST)):
    session = await chat.create_session(model="scripted/old")
    await chat.say(session.id, "How is the world?", client_tools=offered("weather", "news", "stocks"))
    await give_results(chat, session, *results)
    await chat.say(session.id, "Thanks.")
    return session


async def results_in(chat, session):
    """Every result given in a session: (call, content, is_error)."""
    messages = (await chat.messages(session)).items
    blocks = [block for message in messages if message.role == "tool" for block in message.blocks()]
    return [(block.tool_use_id, block.content, block.is_error) for block in blocks]


async def test_recorded_results_go_to_the_new_runs_calls(path):
    """Each result goes to the call of the same tool, whatever its id and place."""
    new = [{"steps": asks(("new_1", "news"), ("new_2", "weather"))}, {"steps": [{"text": "Rain and rest."}]}]
    async with chatting(path, old=OLD, new=new) as chat:
        session = await record_tools(chat)
        results = await again(chat, session, "scripted/new")
        given = await results_in(chat, results[0].new_session_id)
    assert given == [("new_1", "Rest.", False), ("new_2", "Rain.", False)]
    assert [each.verdict for each in results] == ["different", "same", "same"]
    assert results[0].first_difference.path == "messages[0].tool_calls[0].name"


async def test_a_call_without_a_recorded_result_gets_an_error(path):
    """Where the new run asks for more than was recorded, it is told that there is nothing, and goes on."""
    new = [{"steps": asks(("new_1", "weather"), ("new_2", "stocks"))}, {"steps": [{"text": "Rain."}]}]
    async with chatting(path, old=OLD, new=new) as chat:
        session = await record_tools(chat)
        results = await again(chat, session, "scripted/new")
        given = await results_in(chat, results[0].new_session_id)
    assert given == [("new_1", "Rain.", False), ("new_2", NOT_ON_RECORD, True)]


async def test_results_that_nobody_asked_for_are_left_out(path):
    """A new run without calls is not given results; the exchange says so, and the next one is run."""
    async with chatting(path, old=OLD) as chat:
        session = await record_tools(chat)
        first, second, third = await again(chat, session, "echo/echo")
        given = await results_in(chat, first.new_session_id)
        assert await text_of_turn(chat, third.new_turn_id) == "Thanks."
    assert (second.verdict, second.new_turn_id) == ("skipped", None)
    assert second.reason == "the new run did not ask for these tools"
    assert given == []


async def test_calls_of_the_new_run_alone_do_not_end_it(path):
    """Calls of what the recorded run was not told of get an error each, and the new model goes on."""
    new = [{"steps": asks(("new_1", "stocks"))}, {"steps": [{"text": "Fine."}]}]
    async with chatting(path, new=new) as chat:
        session = await chat.create_session(model="echo/echo")
        await chat.say(session.id, "one")
        await chat.say(session.id, "two")
        first, _ = await again(chat, session, "scripted/new")
        messages = (await chat.messages(first.new_session_id)).items
        given = await results_in(chat, first.new_session_id)
    assert given == [("new_1", NOT_ON_RECORD, True)]
    assert [message.role for message in messages] == ["user", "assistant", "tool", "assistant", "user", "assistant"]
