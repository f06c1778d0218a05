"""Words that are not those that were recorded are neither shown nor sent: whoever reads them is told so, with the
position, and all else is read as ever.

Somebody with a shell has changed the file, guards and all, and has left the commitments as they were: what was changed
with them is for ``verify``.
"""

import asyncio
import io
from contextlib import aclosing
from types import SimpleNamespace

import pytest

from manent import engine
from manent.engine.errors import RecordDamaged
from manent.engine.log.rebuild import rebuild_file
from manent.engine.sessions.projector import Catalog
from manent.engine.sessions.tables import PROJECTIONS
from tests.contracts.test_tamper import attack
from tests.support import begin, chatting, copied, frames_of, offered, query, says, until

FALSE = "Denied."
WAYS = {
    "other words": f"UPDATE bodies SET bytes = CAST(replace(CAST(bytes AS TEXT), 'Agreed.', '{FALSE}') AS BLOB)",
    "another salt": "UPDATE bodies SET salt = randomblob(16)",
    "a longer salt": "UPDATE bodies SET salt = CAST(salt || substr(bytes, 1, 1) AS BLOB), bytes = substr(bytes, 2)",
    "no body": "DELETE FROM bodies",
}
SYSTEM = "Say Agreed. to all."


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file with a talk of two turns under a system prompt, and a talk that nothing will happen to."""
    path = tmp_path_factory.mktemp("whole") / "chat.db"

    async def fill():
        async with chatting(path, main=says("Agreed.")) as chat:
            talk = await chat.create_session(model="echo/echo", system=SYSTEM, title="A talk")
            first = await chat.say(talk.id, "Agreed.")
            last = await chat.say(talk.id, "Is it?")
            other = await chat.create_session(model="echo/echo", system=SYSTEM)
            await chat.say(other.id, "Agreed.")
            await chat.evidence.checkpoint(new=True)
            return SimpleNamespace(path=path, talk=talk.id, first=first, last=last, other=other.id)

    return asyncio.run(fill())


@pytest.fixture
def made(whole, tmp_path):
    """A copy of it: its path, and what is in it."""
    return SimpleNamespace(**vars(whole) | {"path": copied(whole.path, tmp_path)})


def damage(path, position, way="other words"):
    attack(path, f"{WAYS[way]} WHERE position = {position}")


def asked(made):
    """The first message of the talk: the user's."""
    return query(made.path, "SELECT min(position) FROM messages")[0][0]


async def listed(items):
    async with aclosing(items):
        return [item async for item in items]


def reads(chat, made):
    """Every way in which the words of the talk's first message are read."""
    talk, turn = made.talk, made.first.id
    return {
        "messages": lambda: chat.messages(talk),
        "the newest messages": lambda: chat.messages(talk, descending=True),
        "all messages": lambda: listed(chat.iter_messages(talk)),
        "events": lambda: chat.events(talk),
        "events of types": lambda: chat.events(talk, types=["message.appended"]),
        "all events": lambda: listed(chat.iter_events(talk)),
        "the log": chat.log_events,
        "the events that are followed": lambda: listed(chat.follow(talk, after=0)),
        "the log that is followed": lambda: listed(chat.follow(None, after=0)),
        "the window": lambda: chat.window(talk),
        "the window as it was": lambda: chat.window(talk, version=made.first.message.version),
        "a turn": lambda: chat.start_turn(talk, "And now?"),
        "a turn of a script": lambda: chat.start_turn(talk, "And now?", model="scripted/main"),
        "the bundle": lambda: chat.export(io.BytesIO(), talk),
        "the bundle of all": lambda: chat.export(io.BytesIO()),
        "messages for others": lambda: listed(chat.export_messages(talk, "openai")),
        "the play-back": lambda: listed(chat.play_back(talk)),
        "the answer's messages": lambda: chat.messages(talk, after=made.first.message.version - 1),
        "the answer's turn": lambda: chat.turn(turn),
        "the answer's frames": lambda: frames_of(chat, turn),
        "turns": lambda: chat.turns(talk),
        "all turns": lambda: listed(chat.iter_turns(talk)),
    }


async def refusal(read):
    """How a read was refused; None if it was not."""
    try:
        await asyncio.wait_for(read(), 5)
    except RecordDamaged as error:
        return error
    return None


async def until_refused(batches):
    """What was given before the damage."""
    found = []
    try:
        async with aclosing(batches):
            async for batch in batches:
                found += batch
    except RecordDamaged:
        return found
    return pytest.fail("it was not refused")


@pytest.mark.parametrize("way", WAYS)
async def test_a_damaged_message_is_refused_wherever_it_is_read(made, way):
    """Each read that would hold it names its position; the model is sent nothing, and nothing is recorded."""
    position = made.first.message.position
    damage(made.path, position, way)
    before = query(made.path, "SELECT size FROM heads")
    async with chatting(made.path, main=says("Agreed.")) as chat:
        refused = {name: await refusal(read) for name, read in reads(chat, made).items()}
        assert {name: error and error.extra["position"] for name, error in refused.items()} == dict.fromkeys(
            refused, position
        )
        assert FALSE not in repr(refused)
        assert not chat.script.requests
        assert len((await chat.sessions()).items) == 2
    assert query(made.path, "SELECT size FROM heads") == before


async def test_only_what_holds_it_is_refused(made):
    """Other pages, turns, sessions, windows that reach less far: all are read, and the session goes on."""
    position = asked(made)
    damage(made.path, position)
    async with chatting(made.path) as chat:
        assert (await chat.window(made.other)).messages
        assert (await chat.say(made.other, "Go on.")).status == "completed"
        found = await chat.messages(made.talk, after=made.first.message.version - 1)
        assert [message.text for message in found.items] == ["Agreed.", "Is it?", "Is it?"]
        assert (await chat.turn(made.first.id)).text == "Agreed."
        assert [turn.id for turn in (await chat.turns(made.talk, limit=1)).items] == [made.first.id]
        assert (await chat.turn(made.last.id)).text == "Is it?"
        assert await frames_of(chat, made.last.id)
        assert (await chat.session(made.talk)).system == SYSTEM
        assert (await chat.append_message(made.talk, "Noted.")).text == "Noted."
        narrow = await chat.window(made.talk, budget_tokens=24)
        assert position not in [message.position for message in narrow.messages]


async def test_a_page_that_ends_before_the_damage_is_given(made):
    """Of each list, though one item more is read to see whether there are more; the next page is refused."""
    damage(made.path, made.last.message.position, "another salt")
    async with chatting(made.path) as chat:
        for read, count in ((chat.turns, 1), (chat.messages, 3)):
            page = await read(made.talk, limit=count)
            assert len(page.items) == count
            with pytest.raises(RecordDamaged):
                await read(made.talk, limit=count, after=page.next)


@pytest.mark.parametrize("way", WAYS)
async def test_a_damaged_system_prompt_is_not_sent(made, way):
    """It is read from the event that set it: no window, turn or export has it, and the messages are read."""
    position = query(made.path, "SELECT min(position) FROM events")[0][0]
    damage(made.path, position, way)
    async with chatting(made.path, main=says("Agreed.")) as chat:
        for read in (
            lambda: chat.window(made.talk),
            lambda: chat.start_turn(made.talk, "And now?", model="scripted/main"),
            lambda: listed(chat.export_messages(made.talk, "otel")),
            lambda: chat.session(made.talk, version=2),
        ):
            with pytest.raises(RecordDamaged) as refused:
                await read()
            assert refused.value.extra == {"position": position}
        assert not chat.script.requests
        assert len((await chat.messages(made.talk)).items) == 4


async def test_the_system_prompt_is_the_one_that_was_recorded(made):
    """A table that is derived from it may say what it likes: the model is sent what the event says."""
    attack(made.path, f"UPDATE session_words SET system = '{FALSE}'")
    async with chatting(made.path, main=says("Agreed.")) as chat:
        assert (await chat.window(made.talk)).system == SYSTEM
        await chat.say(made.talk, "And now?", model="scripted/main")
        assert FALSE not in repr(chat.script.requests)
        assert SYSTEM in b"".join(await listed(chat.export_messages(made.talk, "openai"))).decode()


async def test_erased_words_are_no_damage(made):
    """They have neither body nor salt, and a row that says so."""
    async with chatting(made.path) as chat:
        await chat.erase(made.talk, "by request", versions=[made.first.message.version])
        assert [bool(message.erased) for message in (await chat.messages(made.talk)).items].count(True) == 1
        assert (await chat.window(made.talk, version=4)).messages is not None
        assert await frames_of(chat, made.first.id)
        assert chat.serving.damaged == 0


async def test_frames_before_the_damage_are_read(made):
    """A turn's stream gives all that comes before the damaged message, and then the refusal."""
    damage(made.path, made.first.message.position)
    async with chatting(made.path) as chat:
        frames = await until_refused(chat.frames(made.first.id))
        assert [frame.type for frame in frames][:1] == ["turn.started"]
        events = await until_refused(chat.follow(made.talk, after=0))
        assert events[-1].position == made.first.message.position - 1


async def test_a_turn_that_meets_damage_fails(made):
    """Between two rounds a message is damaged: the turn ends as failed with this code, without asking again, and the
    session is read and goes on as far as that does not hold the message.
    """
    position = asked(made)

    @engine.tool
    async def strike() -> str:
        """Strike."""
        damage(made.path, position)
        return "Done."

    calls = [{"steps": [{"tool": {"id": "call_1", "name": "strike", "input": {}}}]}]
    async with chatting(made.path, tools=[strike], main=calls, max_attempts=3) as chat:
        turn = await chat.say(made.talk, "Strike.", model="scripted/main", tools=["strike"])
        assert (turn.status, turn.error.code, turn.error.retryable) == ("failed", "record_damaged", False)
        assert str(position) in turn.error.detail
        assert len(chat.script.requests) == 1
        assert (await chat.session(made.talk)).open_turn_id is None
        assert (await chat.turn(turn.id)).error.code == "record_damaged"
        assert (await chat.say(made.talk, "Go on.", budget_tokens=40)).status == "completed"


async def test_damage_is_counted_and_told_once(made):
    """Each row once, however often it is read, and no more of them than are told apart."""
    told = []

    class Notes(engine.Observer):
        def damage_found(self, tenant, position):
            told.append((tenant, position))

    positions = [asked(made), made.first.message.position, made.last.message.position]
    for position in positions:
        damage(made.path, position, "another salt")
    async with chatting(made.path, observer=Notes(), max_damaged_rows=2) as chat:
        for _ in range(3):
            with pytest.raises(RecordDamaged):
                await chat.window(made.talk)
        await listed(chat.salvage.messages(made.talk))
        await until(lambda: asyncio.sleep(0, len(told) == 2))
        assert chat.serving.damaged == 2
    assert {tenant for tenant, _ in told} == {"default"}
    assert {position for _, position in told} < set(positions)


@pytest.mark.parametrize("way", WAYS)
async def test_the_rest_is_given(made, way):
    """All messages and events in their order; the damaged one without its words, and named as damaged."""
    position = asked(made)
    damage(made.path, position, way)
    async with chatting(made.path) as chat:
        messages = await listed(chat.salvage.messages(made.talk))
        events = await listed(chat.salvage.events(made.talk))
    assert [message.position for message in messages if message.damaged is True] == [position]
    assert [event.position for event in events if event.damaged is True] == [position]
    (one,) = (message for message in messages if message.position == position)
    assert (one.content, one.erased, one.role) == ((), None, "user")
    assert [message.text for message in messages[1:]] == ["Agreed.", "Is it?", "Is it?"]
    assert [event.version for event in events] == list(range(1, len(events) + 1))


def test_what_is_derived_can_be_rebuilt(made):
    """Damaged words are left out of it: a file with damage can be migrated, and the rest of it served."""
    first = query(made.path, "SELECT min(position) FROM events")[0][0]
    damage(made.path, first)
    rebuild_file(made.path, Catalog(), PROJECTIONS, lambda *_: None)
    words = query(made.path, "SELECT title, system FROM session_words ORDER BY session")
    assert words == [(None, None), (None, SYSTEM)]


async def test_a_paused_turn_whose_words_are_damaged(made):
    """It cannot be resumed on them, and can be cancelled: the session is free again."""

    @engine.tool(approval=True)
    def ask() -> str:
        """Ask."""
        return "Yes."

    calls = [{"steps": [{"text": "Agreed."}, {"tool": {"id": "call_1", "name": "ask", "input": {}}}]}]
    async with chatting(made.path, tools=[ask], main=calls) as chat:
        turn = await chat.say(made.other, "Ask.", model="scripted/main", tools=["ask"])
        assert turn.status == "requires_action"
        damage(made.path, turn.message.position)
        with pytest.raises(RecordDamaged):
            await chat.decide(turn.id, "call_1", approve=True)
        with pytest.raises(RecordDamaged):
            await chat.cancel(turn.id)
        assert (await chat.session(made.other)).open_turn_id is None


async def test_tools_of_the_caller(made):
    """The call that a result answers may be damaged: the next turn is refused."""
    calls = [{"steps": [{"text": "Agreed."}, {"tool": {"id": "call_1", "name": "look", "input": {}}}]}]
    async with chatting(made.path, main=calls) as chat:
        ended = await chat.ended(
            await begin(chat, made.other, "Look.", model="scripted/main", client_tools=offered("look"))
        )
        damage(made.path, ended.message.position)
        result = engine.MessageIn((b'{"type":"tool_result","tool_use_id":"call_1","content":"Dry."}',), "tool")
        with pytest.raises(RecordDamaged):
            await chat.start_turn(made.other, result, model="scripted/main")


async def test_damage_keeps_no_erasure_up(made):
    """What a provider said of an attempt is damaged: the session can be erased all the same, and that with it."""
    talks = [{"steps": [{"text": "Agreed."}, {"usage": {"input_tokens": 3, "output_tokens": 1}}]}]
    async with chatting(made.path, talks=talks) as chat:
        await chat.say(made.other, "Go.", model="scripted/talks")
        (ended,) = (await chat.events(made.other, types=("attempt.ended",))).items[-1:]
        assert ended.body is not None
        damage(made.path, ended.position, "another salt")
        erasure = await chat.erase(made.other, "they asked")
        assert ended.version in erasure.versions
