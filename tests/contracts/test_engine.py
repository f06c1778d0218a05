"""The engine as a library: how it is called, what it gives, and what it refuses."""

import asyncio
import gc
from uuid import UUID

import msgspec
import pytest

from manent import engine
from manent.engine import SessionNotFound, TurnNotFound
from manent.engine.clock import new_id
from tests.support import Dictated, awaited, begin, chatting, says, until

HANG = {"hang": True}
OTHER = engine.Caller("other", "key:2")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


# --- arguments --------------------------------------------------------------------------------------------------------


async def test_a_misspelt_argument_is_an_error(path):
    """It is a TypeError that names it, at once, and nothing is written."""
    async with chatting(path) as chat:
        session = await chat.create_session()
        for wrong in (
            lambda: chat.create_session(titel="x"),
            lambda: chat.update_session(session.id, titel="x"),
            lambda: chat.say(session.id, "x", titel="x"),
            lambda: chat.start_turn(session.id, "x", titel="x"),
            lambda: chat.stream(session.id, "x", titel="x"),
            lambda: chat.say(session.id, "x", message="x"),
            lambda: chat.messages(session.id, OTHER),
        ):
            with pytest.raises(TypeError) as error:
                await wrong()
            assert "titel" in str(error.value) or "message" in str(error.value) or "positional" in str(error.value)
        assert (await chat.session(session.id)).version == 1


async def test_what_is_left_out_stays_and_none_sets_null(path):
    """An update changes the fields that are given and no others; null is a value."""
    async with chatting(path) as chat:
        made = await chat.create_session(title="One", system="Be brief.", budget_tokens=500, allowed_tools=["echo"])
        assert made.allowed_tools == ("echo",)
        changed = await chat.update_session(made.id, title=None, allowed_tools=["calculator"])
        assert (changed.title, changed.system, changed.budget_tokens) == (None, "Be brief.", 500)
        assert changed.allowed_tools == ("calculator",)
        assert (await chat.update_session(made.id, allowed_tools=None)).allowed_tools is None
        held = await chat.update_session(made.id, legal_hold=True)
        assert held.legal_hold
        assert held.system == "Be brief."


FORMS = {"dashed": str, "bare": lambda given: given.hex, "large": lambda given: str(given).upper()}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_ids_may_be_text(path, form):
    """Whatever takes a session's or a turn's id takes its text too, in every form that a UUID has."""
    async with chatting(path, main=says("Hi.")) as chat:
        session = form((await chat.create_session(model="scripted/main")).id)
        turn = await chat.say(session, "Hello.")
        text = form(turn.id)
        assert (await chat.turn(text), await chat.ended(text), await chat.cancel(text)) == (turn, turn, turn)
        assert (await chat.turns(session)).items == [turn]
        assert [frame.type async for batch in chat.frames(text) for frame in batch][-1] == "turn.completed"
        assert await chat.serving.read_to_end(text, 99)
        assert (await chat.append_message(session, "x")).version == (await chat.session(session)).version
        assert len(await chat.append_messages(session, [engine.MessageIn("y")])) == 1
        assert len((await chat.messages(session)).items) == 4
        assert (await chat.window(session)).session_id == UUID(session)
        assert (await chat.update_session(session, title="T")).title == "T"
        assert len(await chat.tools(session=session)) == 3
        assert (await anext(aiter(chat.follow(session, after=0))))[0].version == 1
        assert (await chat.evidence.inclusion(session, 1)).position == 1
        assert [thing async for thing in chat.play_back(session)]
        assert [result async for result in chat.replay(session, mode="free")]
        assert [piece async for piece in chat.export_messages(session, "openai")]
        assert (await chat.erase(session, "x")).session_id == UUID(session)
        assert (await chat.events(session)).items[0].session_id == UUID(session)


async def test_text_that_is_no_id_is_not_found(path):
    """It names nothing: the error is that of an id that is not there, and says which argument it was."""
    async with chatting(path) as chat:
        for attempt in (chat.session, chat.messages, chat.turns, chat.events, chat.window):
            for session in ("", "x", "0" * 31, str(new_id()) + "0", "../etc"):
                with pytest.raises(SessionNotFound) as error:
                    await attempt(session)
                assert error.value.extra["field"] == "session_id"
        for attempt in (chat.turn, chat.ended, chat.cancel):
            with pytest.raises(TurnNotFound) as error:
                await attempt("x")
            assert error.value.extra["field"] == "turn_id"
        with pytest.raises(TypeError):
            await chat.session(await chat.create_session())


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_iterators_give_everything_once(path):
    """Whatever a page holds: each item once, in order, after a place where one is given; nothing where nothing is."""
    async with chatting(path, main=says("Hi."), max_page_bytes=300) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        others = [(await chat.create_session()).id for _ in range(4)]
        for number in range(4):
            await chat.say(session, f"{number}")
        messages = (await chat._parts.messages.page(engine.LOCAL, session, None, 1000, descending=False)).items
        versions = [message.version async for message in chat.iter_messages(session)]
        assert len(versions) == 8
        assert versions[: len(messages)] == [message.version for message in messages]
        assert [each.version async for each in chat.iter_messages(session, descending=True)] == versions[::-1]
        assert [each.version async for each in chat.iter_messages(session, after=versions[2])] == versions[3:]
        events = [event async for event in chat.iter_events(session)]
        assert [event.version for event in events] == [*range(1, len(events) + 1)]
        assert [event async for event in chat.iter_events(session, types=["turn.completed"])] == [
            event for event in events if event.type == "turn.completed"
        ]
        assert len([turn async for turn in chat.iter_turns(session)]) == 4
        created = [each.id async for each in chat.iter_sessions(order="created")]
        assert created == [*others[::-1], session]
        assert {each.id async for each in chat.iter_sessions()} == {*created}
        assert [each async for each in chat.iter_sessions(caller=OTHER)] == []
        for attempt in (chat.iter_messages, chat.iter_events, chat.iter_turns):
            with pytest.raises(SessionNotFound):
                await anext(attempt(new_id()))


async def test_a_list_in_memory_is_cut_into_pages():
    """Pages of any size hold each item once, and only the last has no next; other lists' cursors are refused."""
    items = [*range(10)]
    for limit in (1, 3, 10, 11):
        found, after, more = [], None, True
        while more:
            page = engine.Page.of(items, limit=limit, after=after)
            found += page.items
            after, more = page.next, page.next is not None
        assert found == items
    for wrong in ({"limit": 0}, {"limit": 1001}, {"after": "x"}, {"after": -1}, {"after": 1 << 60}):
        with pytest.raises(engine.Invalid):
            engine.Page.of(items, **wrong)


async def test_a_session_can_stand_for_its_place_in_the_order_of_creation(path):
    """The sessions created before it follow; in the order of activity an id says nothing, and is refused."""
    async with chatting(path) as chat:
        made = [(await chat.create_session()).id for _ in range(3)]
        page = await chat.sessions(order="created", after=made[2])
        assert [session.id for session in page.items] == [made[1], made[0]]
        with pytest.raises(engine.Invalid):
            await chat.sessions(after=made[2])


# --- text and blocks --------------------------------------------------------------------------------------------------


async def test_messages_and_turns_say_their_text(path):
    """What a person reads: the text of all text blocks; of a turn, that of its last answer. JSON does not have it."""
    steps = ({"thinking": "Hm."}, "It is ", "so.")
    async with chatting(path, main=says(*steps), bad=says({"fail": {"code": "provider_rejected"}})) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        turn = await chat.say(session, "Is it so?")
        assert (turn.text, turn.message.text, turn.messages[0].text) == ("It is so.",) * 3
        assert (await chat.messages(session)).items[0].text == "Is it so?"
        failed = await chat.say(session, "And now?", model="scripted/bad")
        assert (failed.status, failed.message, failed.text) == ("failed", None, "")
        for view in (turn, turn.message):
            assert "text" not in msgspec.json.decode(msgspec.json.encode(view))


async def test_blocks_may_be_typed(path):
    """A message is appended from typed blocks as from their JSON, and refused for the same reasons."""
    image = engine.ImageBlock(engine.UrlSource("https://example.org/a.png"))
    async with chatting(path) as chat:
        session = (await chat.create_session()).id
        (made,) = await chat.append_messages(
            session, [engine.MessageIn([engine.TextBlock("Look: "), image, engine.TextBlock("there.")])]
        )
        assert made.blocks() == (engine.TextBlock("Look: "), image, engine.TextBlock("there."))
        assert made.text == "Look: there."
        for block in (
            engine.TextBlock("a\ud800"),
            engine.TextBlock("a\0"),
            engine.ImageBlock(engine.UrlSource("file:///etc")),
            engine.ToolResultBlock("call_1", "x"),
            engine.OtherBlock("x", b'{"type":"x","n":1}'),
        ):
            with pytest.raises(engine.Refused):
                await chat.append_messages(session, [engine.MessageIn([block])])
        plain = (await chat.create_session()).id
        turn = await chat.say(plain, engine.MessageIn([engine.TextBlock("Say it.")]), model="echo/echo")
        assert turn.text == "Say it."


# --- streams of text --------------------------------------------------------------------------------------------------


async def read_into(deltas, stream):
    """Read a stream to its end; what came before an error counts."""
    async for delta in stream:
        deltas.append(delta)


async def test_a_stream_is_the_text_of_the_answer(path):
    """Joined, its deltas are the answer; they come while the turn runs, and the ended turn is at hand afterwards."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model="echo/paced")).id
        stream = chat.stream(session, "Grüße 🌍, one two three")
        for unknown in (lambda: stream.turn_id, lambda: stream.turn):
            with pytest.raises(RuntimeError):
                unknown()
        assert (await chat.session(session)).version == 1
        deltas = [await anext(stream)]
        assert (await chat.turn(stream.turn_id)).status == "running"
        with pytest.raises(RuntimeError):
            assert stream.turn
        await read_into(deltas, stream)
        assert len(deltas) > 3
        assert "".join(deltas) == stream.turn.text == "Grüße 🌍, one two three"
        assert stream.turn == await chat.turn(stream.turn_id)
        assert [delta async for delta in stream] == []


async def test_a_stream_gives_the_text_of_every_round_and_nothing_else(path):
    """Thinking and the input of tools are no text; what is said before a tool runs is."""
    asks = {"tool": {"id": "a", "name": "echo", "input": {"text": "x"}}}
    first = [{"thinking": "Hm."}, {"text": "Wait. "}, asks]
    rounds = [{"match": "Go", "steps": first}, {"match": "Go", "steps": [{"text": "Done."}]}]
    async with chatting(path, main=rounds) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        stream = chat.stream(session, "Go.", tools=["echo"])
        assert "".join([delta async for delta in stream]) == "Wait. Done."
        assert stream.turn.text == "Done."


async def test_a_turn_that_failed_raises_its_error_at_the_end(path):
    """What came is given first; then the error comes as the class that its code is of, with the turn's id."""
    failing = (engine.ProviderUnavailable, engine.ProviderRejected, engine.ProviderTimedOut, engine.ProviderMalformed)
    scripts = {kind.code: says("Half", {"fail": {"code": kind.code}}) for kind in failing}
    scripts[engine.ProviderTruncated.code] = says("Half", {"truncate": True})
    async with chatting(path, **scripts) as chat:
        for kind in (*failing, engine.ProviderTruncated):
            session = (await chat.create_session(model=f"scripted/{kind.code}")).id
            stream, deltas = chat.stream(session, "Go."), []
            with pytest.raises(kind) as raised:
                await read_into(deltas, stream)
            assert type(raised.value) is kind
            assert deltas == ["Half"]
            assert stream.turn.status == "failed"
            error = stream.turn.error
            assert (raised.value.code, raised.value.detail) == (error.code, error.detail)
            assert raised.value.extra["turn_id"] == str(stream.turn_id)


async def test_what_cannot_be_started_raises_before_the_first_delta(path):
    """As ``say`` does, and nothing is recorded."""
    async with chatting(path) as chat:
        session = (await chat.create_session()).id
        for options, kind in (
            ({"model": "nobody/x"}, engine.UnknownModel),
            ({"expected": 7}, engine.VersionConflict),
            ({"temperature": 9}, engine.Invalid),
            ({"caller": OTHER}, SessionNotFound),
        ):
            with pytest.raises(kind):
                await anext(chat.stream(session, "x", **options))
        assert (await chat.session(session)).version == 1


@pytest.mark.parametrize("leave", ["aclose", "break"])
async def test_who_leaves_a_stream_leaves_the_turn_running(path, leave):
    """It goes on without a reader, unless it was started to end with its last one; no reader stays behind."""
    async with chatting(path, main=says("Half", HANG)) as chat:
        for on_disconnect, status in (("continue", "running"), ("cancel", "cancelled")):
            session = (await chat.create_session(model="scripted/main")).id
            stream = chat.stream(session, "Go.", on_disconnect=on_disconnect)
            async for delta in stream:
                assert delta == "Half"
                break
            turn = stream.turn_id
            if leave == "aclose":
                await stream.aclose()
            del stream

            async def is_let_go():
                return not chat._parts.follower._readers

            await until(is_let_go)

            async def is_so(turn=turn, status=status):
                return (await chat.turn(turn)).status == status

            await until(is_so)
            await asyncio.sleep(0.05)
            assert (await chat.turn(turn)).status == status
            await chat.cancel(turn)


async def test_a_stream_that_nobody_began_starts_nothing(path):
    """Neither a turn nor a reader."""
    async with chatting(path) as chat:
        session = (await chat.create_session()).id
        stream = chat.stream(session, "x")
        await stream.aclose()
        del stream
        gc.collect()
        assert (await chat.session(session)).version == 1


async def test_a_stream_ends_where_a_decision_is_awaited(path):
    """The turn is paused, not over; the stream says so by its turn."""

    @engine.tool(approval=True)
    def careful() -> str:
        """Needs a yes."""
        return "done"

    asks = {"tool": {"id": "a", "name": "careful", "input": {}}}
    rounds = [{"match": "Go", "steps": [{"text": "May I?"}, asks]}, {"match": "Go", "steps": [{"text": "Done."}]}]
    async with chatting(path, main=rounds, tools=[careful]) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        stream = chat.stream(session, "Go.", tools=["careful"])
        assert [delta async for delta in stream] == ["May I?"]
        assert (stream.turn.status, awaited(stream.turn)) == ("requires_action", ("a",))
        await chat.decide(stream.turn.id, "a", approve=True)
        assert (await chat.ended(stream.turn.id)).text == "Done."


async def test_a_turn_whose_end_cannot_be_recorded_raises_what_is_in_the_way(path):
    """Readers of frames are told so; a stream of text raises it, as the class that its code is of."""
    async with chatting(path, providers=(Dictated(),)) as chat:
        session = (await chat.create_session(model="echo/paced")).id
        stream = chat.stream(session, "x" * 400)
        await anext(stream)
        data = b'{"code":"store_full","detail":"no room"}'
        chat._parts.supervisor.find(stream.turn_id).tail.close(engine.Frame(0, "error", data))
        with pytest.raises(engine.StoreFull, match="no room"):
            await read_into([], stream)


# --- reading beside a server ------------------------------------------------------------------------------------------


async def test_an_engine_that_only_reads_is_an_engine(path):
    """It has every method; what would write raises StoreUnavailable, and the rest works beside the server."""
    async with chatting(path) as chat, engine.open_beside(path) as beside:
        session = await chat.create_session()
        assert type(beside) is type(chat) is engine.Engine
        assert await beside.session(session.id) == session
        for attempt in (
            beside.create_session(),
            beside.update_session(session.id, title="x"),
            beside.append_message(session.id, "x"),
            beside.say(session.id, "x"),
            beside.erase(session.id, "x"),
            beside.purge(),
        ):
            with pytest.raises(engine.StoreError):
                await attempt
        turn = await begin(chat, session.id, "x", model="echo/echo")
        assert (await beside.ended(turn)).text == "x"
