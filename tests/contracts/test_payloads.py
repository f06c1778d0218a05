"""What views tell beside the words: whose answer it is, why it stopped, who erased it, what a window's sum is of."""

import json

import msgspec
import pytest

from manent import engine
from tests.support import awaited, begin, chatting, frames_of, offered, says


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


FAILS = {"fail": {"code": "provider_unavailable", "detail": "no"}}


async def test_each_answer_says_whose_it_is_and_why_it_stopped(path):
    """In lists, windows, turns and frames alike: of several rounds each its own, of a fallback its own name, of an
    answer that broke off no reason; of what no turn has made neither.
    """

    @engine.tool
    def look() -> str:
        """Look."""
        return "Dry."

    calls = [{"steps": [{"tool": {"id": "a", "name": "look", "input": {}}}]}, {"steps": [{"text": "Dry."}]}]
    async with chatting(path, tools=[look], main=calls, down=says(FAILS), breaks=says("Half", FAILS)) as chat:
        session = (await chat.create_session(model="scripted/main", fallback_model="echo/echo")).id
        await chat.append_message(session, "Said before.", role="assistant")
        turns = [await chat.say(session, "Look.", tools=["look"])]
        turns += [await chat.say(session, "And?", model=f"scripted/{name}") for name in ("down", "breaks")]
        shown = [(m.role, m.model, m.stop_reason) for m in (await chat.messages(session)).items if m.role != "user"]
        assert shown == [
            ("assistant", None, None),
            ("assistant", "scripted/main", "tool_use"),
            ("tool", None, None),
            ("assistant", "scripted/main", "end_turn"),
            ("assistant", "echo/echo", "end_turn"),
            ("assistant", "scripted/breaks", None),
        ]
        of_turns = [(m.role, m.model, m.stop_reason) for turn in turns for m in turn.messages]
        assert of_turns == shown[1:]
        windowed = [(m.role, m.model, m.stop_reason) for m in (await chat.window(session)).messages]
        assert [each for each in windowed if each[0] != "user"] == shown[1:]  # it begins with a user message
        for turn in turns:
            frames = [json.loads(frame.data) for frame in await frames_of(chat, turn.id) if "appended" in frame.type]
            assert [(each["model"], each["stop_reason"]) for each in frames] == [
                (message.model, message.stop_reason) for message in turn.messages
            ]


@pytest.mark.parametrize("system", [None, "Be brief, and be right."])
async def test_the_sum_of_a_window_adds_up(path, system):
    """By what it tells: the messages' tokens and the system prompt's, the factor, and the overhead of each message."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model="echo/echo", system=system, max_output_tokens=77)).id
        for number in range(5):
            await chat.say(session, f"word {number} " * 9)
        window = await chat.window(session)
        base = sum(message.token_count for message in window.messages) + window.system_tokens
        counted = len(window.messages) + (system is not None)
        assert window.used_tokens == -(-base * window.factor_permille // 1000) + window.overhead * counted
        assert (window.reserve_tokens, window.exact, bool(window.system_tokens)) == (77, False, system is not None)


async def test_what_is_erased_says_by_whom_and_why(path):
    """In lists of messages and events, in turns and in frames, each with the erasure that took its own words."""
    ann = engine.Caller("default", "key:ann")
    async with chatting(path) as chat:
        session = (await chat.create_session(model="echo/echo")).id
        turns = [await chat.say(session, f"word {number}") for number in range(2)]
        for turn, caller in zip(turns, (engine.LOCAL, ann), strict=True):
            await chat.erase(session, f"for {caller.actor}", versions=[turn.message.version], caller=caller)
        events = (await chat.events(session)).items
        told = [event for event in events if event.type == "body.erased"]
        expected = [
            engine.ErasureInfo(event.position, event.actor, event.recorded_at, f"for {event.actor}") for event in told
        ]
        assert [event.actor for event in told] == ["local", "key:ann"]
        messages = (await chat.messages(session)).items
        assert [message.erased for message in messages] == [None, expected[0], None, expected[1]]
        assert [event.erased for event in events if event.type == "message.appended"] == [
            message.erased for message in messages
        ]
        for turn, erasure in zip(turns, expected, strict=True):
            assert (await chat.turn(turn.id)).message.erased == erasure
            appended = [frame for frame in await frames_of(chat, turn.id) if frame.type == "message.appended"]
            assert json.loads(appended[-1].data)["erased"] == msgspec.to_builtins(erasure)


async def test_a_paused_turn_says_what_is_to_be_called_with_what(path):
    """The name, the arguments and the message of each call; of what is no JSON object, none."""

    @engine.tool(approval=True)
    def send(to: str) -> str:
        """Send."""
        return f"sent to {to}"

    asks = says({"tool": {"id": "a", "name": "send", "input": {"to": "Ann"}}})
    async with chatting(path, tools=[send], main=asks) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        turn = await chat.say(session, "Send it.", tools=["send"])
        (call,) = turn.pending_approvals
        assert awaited(turn) == ("a",)
        assert (call.name, call.input, call.message_id) == ("send", {"to": "Ann"}, turn.message.id)
        frames = await frames_of(chat, turn.id)
        assert json.loads(frames[-1].data)["pending_approvals"] == [msgspec.to_builtins(call)]
        await chat.cancel(turn.id)
        assert (await chat.turn(turn.id)).pending_approvals == ()


async def test_a_turn_in_a_frame_names_its_messages(path):
    """By their ids: the frames before have shown them."""
    async with chatting(path, main=says({"tool": {"id": "a", "name": "look", "input": {}}})) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        turn = await begin(chat, session, "Look.", client_tools=offered("look"))
        frames = [json.loads(frame.data) for frame in await frames_of(chat, turn)]
        view = json.loads(msgspec.json.encode(await chat.turn(turn)))
    first, last = frames[0], frames[-1]
    assert (first["message_ids"], last["message_ids"]) == ([], [message["id"] for message in view["messages"]])
    assert {*view, "message_ids"} - {"messages", "message"} == last.keys() == first.keys()
