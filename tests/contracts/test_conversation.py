"""The service that routes and scripts call: sessions, messages, windows and events, now and as they were."""

import asyncio
import json

import pytest

from manent import engine
from manent.engine.clock import new_id
from manent.engine.errors import (
    EmptyMessage,
    IdempotencyMismatch,
    Invalid,
    SessionNotFound,
    TooLarge,
    TurnNotFound,
    UnknownModel,
    VersionConflict,
)
from tests.support import ManualClock, audit, begin, chatting, dump, frames_of, query, says, text_of

OTHER = engine.Caller("other", "key:2")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


def key(body=b"{}", name="k"):
    return engine.RequestKey("local", "POST", name, body)


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_a_session_is_what_it_was_made_of(path):
    """Its fields, its status and its times, from the answer, from a look, and after a restart."""
    fields = {"model": "echo/paced", "title": "Ünï", "system": "Be brief.", "metadata": {"a": [1, 2.5, None]}}
    async with chatting(path, clock=ManualClock()) as chat:
        made = await chat.create_session(**fields, budget_tokens=500, max_output_tokens=50)
        assert {name: getattr(made, name) for name in fields} == fields
        assert (made.budget_tokens, made.max_output_tokens, made.status, made.version) == (500, 50, "active", 1)
        assert (made.message_count, made.token_count, made.open_turn_id, made.parent) == (0, 0, None, None)
        assert made.created_at == made.updated_at == "2027-01-15T08:00:00.000000Z"
        assert await chat.session(made.id) == made
        plain = await chat.create_session()
        assert (plain.model, plain.title, plain.system, plain.metadata) == (chat.default_model, None, None, None)
    async with chatting(path) as chat:
        assert await chat.session(made.id) == made


async def test_a_session_is_seen_as_it_was(path):
    """At each of its versions, whatever has happened since; at no other."""
    async with chatting(path, main=says("Hi.")) as chat:
        session = (await chat.create_session(model="scripted/main", title="One")).id
        seen = []

        async def look():
            seen.append(await chat.session(session))

        await look()
        await chat.append_message(session, "Hello.")
        await look()
        await chat.update_session(session, title="Two", budget_tokens=99, system="x", metadata={"a": 1})
        await look()
        await chat.say(session, "Go on.")
        await look()
        await chat.update_session(session, status="archived", title=None)
        await look()
        for then in seen:
            assert await chat.session(session, version=then.version) == then
        for version in (0, -1, seen[-1].version + 1, 2**60):
            with pytest.raises(SessionNotFound):
                await chat.session(session, version=version)


async def test_updates_are_refused_whole(path):
    """A value that cannot be, an unknown model or another version changes nothing."""
    async with chatting(path) as chat:
        session = await chat.create_session()
        before = dump(path)
        for changes, error in [
            ({"title": "ok", "budget_tokens": 0}, Invalid),
            ({"title": "x" * 501}, TooLarge),
            ({"title": "ok", "model": "nobody/x"}, UnknownModel),
            ({"status": "gone"}, Invalid),
            ({"metadata": {"a": "\0"}}, Invalid),
        ]:
            with pytest.raises(error):
                await chat.update_session(session.id, **changes)
        with pytest.raises(VersionConflict) as conflict:
            await chat.update_session(session.id, title="late", expected=7)
        assert conflict.value.current_version == 1
        for missing, caller in ((new_id(), engine.LOCAL), (session.id, OTHER)):
            for expected in (None, 1):
                with pytest.raises(SessionNotFound):
                    await chat.update_session(missing, title="x", caller=caller, expected=expected)
        assert dump(path) == before
        assert (await chat.update_session(session.id)).version == 1


async def test_sessions_are_listed_in_pages(path):
    """Newest activity first, or newest first; in pages of any size each once; by status; each tenant its own."""
    clock = ManualClock()
    async with chatting(path, clock=clock) as chat:
        made = []
        for number in range(7):
            clock.time_us += 1000
            made.append((await chat.create_session(title=f"{number}")).id)
        await chat.create_session(caller=OTHER)
        clock.time_us += 1000
        await chat.append_message(made[2], "Hello.")
        await chat.update_session(made[4], status="archived")
        active = [made[n] for n in (4, 2, 6, 5, 3, 1, 0)]
        orders = {"activity": active, "created": made[::-1]}
        same_time = {made[2], made[4]}
        for order, expected in orders.items():
            for limit in (1, 2, 3, 7, 100):
                found = await paged(chat, order=order, limit=limit)
                assert found[2:] == expected[2:] if order == "activity" else found == expected
                assert set(found[:2]) == same_time or order == "created"
        assert await paged(chat, status="archived") == [made[4]]
        assert len(await paged(chat, status="active", limit=2)) == 6
        for limit in (0, -1, 1001):
            with pytest.raises(Invalid):
                await chat.sessions(limit=limit)


async def paged(chat, **options):
    found, after = [], None
    while True:
        page = await chat.sessions(after=after, **options)
        found += [session.id for session in page.items]
        after = page.next
        if after is None:
            return found


async def test_one_key_makes_one_session(path):
    """The same request gives the same session as it was then; another body is refused; also at once."""
    async with chatting(path) as chat:
        made = await asyncio.gather(*(chat.create_session(request=key(), title="One") for _ in range(5)))
        assert len({session.id for session in made}) == 1
        await chat.update_session(made[0].id, title="Two")
        assert await chat.create_session(request=key(), title="One") == made[0]
        with pytest.raises(IdempotencyMismatch):
            await chat.create_session(request=key(b"other"), title="Other")
    assert audit(path) == 2


async def test_tenants_do_not_see_each_other(path):
    """Another tenant's session, messages, turns, window and events are not found, whatever is asked."""
    async with chatting(path, main=says("Hi.")) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        turn = (await chat.say(session, "Hello.")).id
        before = dump(path)
        for attempt in (
            chat.session(session, caller=OTHER),
            chat.messages(session, caller=OTHER),
            chat.turns(session, caller=OTHER),
            chat.window(session, caller=OTHER),
            chat.events(session, caller=OTHER),
            chat.append_message(session, "x", caller=OTHER),
            chat.append_messages(session, [engine.MessageIn("x")], caller=OTHER, expected=1),
            chat.update_session(session, title="x", caller=OTHER),
            anext(chat.follow(session, caller=OTHER)),
        ):
            with pytest.raises(SessionNotFound):
                await attempt
        for attempt in (
            chat.turn(turn, caller=OTHER),
            frames_of(chat, turn, caller=OTHER),
            chat.cancel(turn, caller=OTHER),
        ):
            with pytest.raises(TurnNotFound):
                await attempt
        assert await chat.sessions(caller=OTHER) == engine.Page([])
        assert await chat.log_events(caller=OTHER) == engine.Page([])
        assert dump(path) == before


# --- messages ---------------------------------------------------------------------------------------------------------


async def test_messages_are_read_in_pages(path):
    """In order of version, up or down, after one of them, in pages of any size; among other events."""
    async with chatting(path) as chat:
        session = (await chat.create_session()).id
        for number in range(5):
            await chat.append_message(session, f"{number}")
            await chat.update_session(session, title=f"{number}")
        versions = [message.version for message in (await chat.messages(session)).items]
        assert versions == [2, 4, 6, 8, 10]
        for descending, expected in ((False, versions), (True, versions[::-1])):
            for limit in range(1, 7):
                found, after, more = [], None, True
                while more:
                    page = await chat.messages(session, after=after, limit=limit, descending=descending)
                    found += [message.version for message in page.items]
                    after, more = found[-1], page.next is not None
                assert found == expected
                every = chat.iter_messages(session, descending=descending)
                assert [message.version async for message in every] == expected
        assert [m.version for m in (await chat.messages(session, after=5)).items] == [6, 8, 10]
        assert await chat.messages(session, after=10) == engine.Page([])


async def test_messages_are_appended_all_or_none(path):
    """One that cannot be takes the others with it; too many and none are refused."""
    async with chatting(path, max_messages=3) as chat:
        session = (await chat.create_session()).id
        before = dump(path)
        good = engine.MessageIn("x")
        for messages, error in [
            ([good, engine.MessageIn("")], EmptyMessage),
            ([good, engine.MessageIn("x", "robot")], Invalid),
            ([good, engine.MessageIn("a\0b")], Invalid),
            ([good] * 4, TooLarge),
            ([], Invalid),
        ]:
            with pytest.raises(error):
                await chat.append_messages(session, messages)
        assert dump(path) == before
        made = await chat.append_messages(session, [good, engine.MessageIn("y", "assistant"), good], expected=1)
        assert [(message.version, message.role, text_of(message)) for message in made] == [
            (2, "user", "x"),
            (3, "assistant", "y"),
            (4, "user", "x"),
        ]
        assert made == (await chat.messages(session)).items


async def test_a_repeated_append_is_answered_as_it_was(path):
    """The same key gives the same messages, though others have been appended since."""
    async with chatting(path) as chat:
        session = (await chat.create_session()).id
        pair = [engine.MessageIn("x"), engine.MessageIn("y")]
        first = await chat.append_messages(session, pair, request=key())
        await chat.append_message(session, "z")
        assert await chat.append_messages(session, pair, request=key(), expected=1) == first
    async with chatting(path) as chat:
        assert await chat.append_messages(session, pair, request=key()) == first


async def test_strange_text_comes_back_as_it_was(path):
    """Control characters, marks of direction, separators, signs of every plane: to the byte, also after a restart."""
    text = "".join(map(chr, range(1, 256))) + "\u2028\u2029\u202e\u200d\ufeff\uffff 👩‍👩‍👧 \U0010ffff e\u0301"
    async with chatting(path) as chat:
        session = (await chat.create_session(title=text[:400], system=text, metadata={"k": text})).id
        await chat.append_message(session, text)
    async with chatting(path) as chat:
        view = await chat.session(session)
        assert (view.title, view.system, view.metadata) == (text[:400], text, {"k": text})
        (message,) = (await chat.messages(session)).items
        assert text_of(message) == text


# --- windows ----------------------------------------------------------------------------------------------------------


async def test_a_window_is_what_a_turn_would_send(path):
    """What is shown is what the model is then asked: the same messages, and the same figures in the record."""
    async with chatting(path, main=says("Hi.")) as chat:
        session = (await chat.create_session(model="scripted/main", system="Be brief.", budget_tokens=200)).id
        for number in range(30):
            await chat.append_message(
                session, f"This is message number {number}.", role=("user", "assistant")[number % 2]
            )
        await chat.append_message(session, "The last.")
        window = await chat.window(session)
        assert 0 < window.used_tokens <= window.budget_tokens == 200
        assert window.omitted.count + len(window.messages) == 31
        await chat.ended(await begin(chat, session))
        sent = [message["text"] for message in json.loads(chat.script.requests[-1])["messages"]]
        assert sent == ["Be brief.", *(text_of(message) for message in window.messages)]
        (event,) = (await chat.events(session, types=("attempt.started",))).items
        assert json.loads(bytes(event.facts))["positions"] == [message.position for message in window.messages]


async def test_a_window_can_be_seen_as_it_was(path):
    """At a version, a window is what it was then: what was left out later is still in it."""
    async with chatting(path, bad=says("Half", {"truncate": True}), good=says("Whole.")) as chat:
        session = (await chat.create_session(model="scripted/bad")).id
        seen = [await chat.window(session)]
        await chat.append_message(session, "One.")
        seen.append(await chat.window(session))
        await chat.say(session, "Two.")
        seen.append(await chat.window(session))
        await chat.ended(await begin(chat, session, model="scripted/good"))
        for then in seen:
            assert await chat.window(session, version=then.version) == then


async def test_the_default_budget_is_the_settings(path):
    """Asked for, else the session's, else the setting; a model may be tried out without being set."""
    async with chatting(path, budget_tokens=300) as chat:
        session = (await chat.create_session()).id
        assert (await chat.window(session)).budget_tokens == 300
        await chat.update_session(session, budget_tokens=200)
        assert (await chat.window(session)).budget_tokens == 200
        window = await chat.window(session, budget_tokens=100, model="echo/paced")
        assert (window.budget_tokens, window.model) == (100, "echo/paced")
        assert window.messages == ()


# --- events -----------------------------------------------------------------------------------------------------------


async def test_events_are_read_in_pages_and_by_type(path):
    """By session and version, by log and position, all or some types; each is what is in the file."""
    async with chatting(path, main=says("Hi.")) as chat:
        one, other = [(await chat.create_session(model="scripted/main")).id for _ in range(2)]
        await chat.say(one, "Hello.")
        await chat.append_message(other, "Elsewhere.")
        log = (await chat.log_events(limit=1000)).items
        assert [event.position for event in log] == [*range(1, len(log) + 1)]
        mine = [event for event in log if event.session_id == one]
        for limit in range(1, 9):
            found, after, more = [], 0, True
            while more:
                page = await chat.events(one, after=after, limit=limit)
                found += page.items
                after, more = page.next, page.next is not None
            assert found == mine
        types = ("message.appended", "turn.completed")
        assert (await chat.events(one, types=types)).items == [event for event in mine if event.type in types]
        assert (await chat.events(one, types=("no.such",))) == engine.Page([])
    columns = "facts, bytes, commitment, leaf_hash"
    rows = query(path, f"SELECT {columns} FROM events JOIN bodies USING (tenant, position) ORDER BY position")
    assert [
        (bytes(e.facts), bytes(e.body or b""), bytes.fromhex(e.commitment), bytes.fromhex(e.leaf_hash)) for e in log
    ] == rows


async def test_results_that_come_twice_at_once_get_one_answer(tmp_path):
    """The same message by its id, again and again at the same moment: it is recorded once, and nobody is refused."""
    asks = engine.MessageIn((engine.ToolUseBlock("a", "look", {}, "{}"),), "assistant")
    async with chatting(tmp_path / "chat.db") as chat:
        session = await chat.create_session(model="echo/echo")
        for _ in range(20):
            await chat.append_messages(session.id, [asks])
            result = engine.MessageIn((engine.ToolResultBlock("a", "r"),), "tool", engine.new_id())
            answers = await asyncio.gather(*(chat.append_messages(session.id, [result]) for _ in range(6)))
            assert len({answer[0].version for answer in answers}) == 1
