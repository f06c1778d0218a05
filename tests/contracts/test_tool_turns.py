"""Turns with tools: rounds of model and calls, each call on record before it runs and its result after, within bounds.

Every file is audited, and its projections are derived again, when its test is over.
"""

import asyncio
import json
import re
import sys
import threading
import time
from contextlib import suppress
from typing import Annotated

import msgspec
import pytest
from msgspec import UNSET, Meta

from manent import engine
from manent.engine.errors import BudgetTooSmall, Invalid, ProviderUnavailable, ToolResultsMissing, TurnAlreadyOpen
from manent.engine.providers.anthropic.render import MESSAGES, RENDERERS
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended
from manent.engine.tools import runner
from manent.engine.turns import turn as turns
from tests.support import (
    Dictated,
    assert_rebuilds,
    audit,
    begin,
    call_ids,
    chatting,
    explained,
    frames_of,
    query,
    says,
    shown,
    snapshot,
    text_of,
    texts_of,
    told,
    until,
)


@pytest.fixture
def path(tmp_path):
    """A file that holds together when the test is over."""
    path = tmp_path / "chat.db"
    yield path
    audit(path)
    assert_rebuilds(path, tmp_path / "copy.db")


def rounds(*answers):
    """A model that says one of these after the other, one for each answer of its own that it is sent."""
    return [answer for steps in answers for answer in says(*steps)]


def call(name, number="a", /, **given):
    return {"tool": {"id": number, "name": name, "input": given}}


def data(frame):
    return json.loads(frame.data)


def facts(event):
    return json.loads(bytes(event.facts))


async def session_of(chat, model="main", **fields):
    return (await chat.create_session(model=f"scripted/{model}", **fields)).id


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


async def assert_told_again(chat, turn, live):
    """The frames are numbered densely, and from every cursor what follows is what it was live."""
    assert [frame.number for frame in live] == [*range(1, len(live) + 1)]
    for after in range(len(live) + 1):
        assert await frames_of(chat, turn, after) == live[after:]


async def assert_can_go_on(chat, session, model="scripted/other"):
    """The next turn needs nothing but a word."""
    assert (await chat.session(session)).open_turn_id is None
    assert (await chat.say(session, "And now?", model=model)).status == "completed"


# --- tools of these tests ---------------------------------------------------------------------------------------------


@engine.tool
async def add(one: int, other: Annotated[int, Meta(ge=0)] = 1) -> int:
    """One and another, added."""
    return one + other


@engine.tool
def raises() -> str:
    """Raises."""
    raise FileNotFoundError(__file__)


@engine.tool
async def refuses() -> str:
    """Says itself what is wrong."""
    raise engine.ToolError("there is no such town")


@engine.tool(timeout_s=0.05)
async def hangs() -> str:
    """Hangs."""
    await asyncio.Event().wait()


@engine.tool
def exits() -> str:
    """Ends the program, or so it thinks."""
    sys.exit(3)


@engine.tool
def floods() -> str:
    """Gives back 10 MB."""
    return "é" * (5 << 20)


@engine.tool
def structured() -> dict[str, list[int]]:
    """Gives back a structure."""
    return {"numbers": [1, 2]}


@engine.tool
def shapeless() -> object:
    """Gives back what has no form."""
    return object()


@engine.tool
def silent() -> None:
    """Gives back nothing."""


@engine.tool
def empty() -> str:
    """Gives back an empty text."""
    return ""


@engine.tool
def strange() -> str:
    """Gives back what cannot be kept."""
    return "a\0b\ud800c"


TOOLS = (add, raises, refuses, hangs, exits, floods, structured, shapeless, silent, empty, strange)
NAMES = tuple(tool.name for tool in TOOLS)


# --- a round ----------------------------------------------------------------------------------------------------------

ROUND = ["block.started", "delta", "message.appended", "tool.called", "tool.returned", "message.appended"]
ANSWER = ["block.started", "delta", "message.appended", "turn.completed"]


async def test_a_call_is_made_and_its_result_goes_back_to_the_model(path):
    """The frames of a turn with one call, what is on record of it, and what the model is sent."""
    async with chatting(path, tools=TOOLS, main=rounds([call("add", one=2, other=3)], ["Five."])) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "2 + 3?", tools=("add",))
        live = await frames_of(chat, turn)
        assert told(live) == [*enumerate(["turn.started", *ROUND, *ANSWER], 1)]
        assert data(live[4]) == {
            "tool_use_id": "a",
            "name": "add",
            "message_id": data(live[3])["id"],
            "runner": "server",
        }
        returned = data(live[5])
        assert returned.pop("duration_ms") >= 0
        assert returned == {"tool_use_id": "a", "name": "add", "outcome": "completed", "is_error": False}
        assert data(live[6])["role"] == "tool"
        view = await chat.turn(turn)
        assert (view.status, view.stop_reason, text_of(view.message)) == ("completed", "end_turn", "Five.")
        assert [message.role for message in view.messages] == ["assistant", "tool", "assistant"]
        assert results(view) == [("a", "5", False)]
        assert [(each.round, each.attempt, each.outcome) for each in view.attempts] == [
            (1, 1, "completed"),
            (2, 1, "completed"),
        ]
        assert [asked(chat, number) for number in range(2)] == [
            [("user", "2 + 3?")],
            [("user", "2 + 3?"), ("assistant", ""), ("tool", "5")],
        ]
        events = await events_of(chat, session)
        assert [event.type for event in events[1:]] == [
            *("message.appended", "turn.started"),
            *("attempt.started", "attempt.ended", "message.appended", "tool.called"),
            *("tool.returned", "message.appended"),
            *("attempt.started", "attempt.ended", "message.appended", "turn.completed"),
        ]
        assert facts(events[6])["message"] == events[5].position
        assert facts(events[7])["message"] == events[8].position
        assert facts(events[7])["output_bytes"] == 1
        assert {event.actor for event in events[3:]} == {f"turn:{turn}"}
        await assert_told_again(chat, turn, live)


BAD_CALLS = {
    "raises": (call("raises"), "tool_failed", "raises failed with FileNotFoundError."),
    "says what is wrong": (call("refuses"), "tool_failed", "refuses failed: there is no such town"),
    "hangs": (call("hangs"), "tool_timed_out", "hangs did not end within 0.05 s"),
    "exits": (call("exits"), "tool_failed", "exits failed"),
    "has no form": (call("shapeless"), "tool_failed", "neither text nor JSON"),
    "is unknown": (call("nothing"), "unknown_tool", "There is no tool 'nothing' here. There are: add"),
    "is not offered": (call("calculator"), "tool_not_allowed", "There is no tool 'calculator' here"),
    "arguments are broken": (
        {"tool": {"id": "a", "name": "add", "input_text": '{"one": 2'}},
        "invalid_arguments",
        "must be a JSON object",
    ),
    "arguments are no object": (
        {"tool": {"id": "a", "name": "add", "input_text": "[2]"}},
        "invalid_arguments",
        "must be a JSON object",
    ),
    "arguments are missing": (call("add"), "invalid_arguments", "one"),
    "an argument is another": (call("add", one="2"), "invalid_arguments", "int"),
    "an argument is out of bounds": (call("add", one=2, other=-1), "invalid_arguments", ">= 0"),
    "an argument is unknown": (call("add", one=2, more=1), "invalid_arguments", "more"),
    "arguments nest too deeply": (
        {"tool": {"id": "a", "name": "add", "input_text": '{"one":' + "[" * 5000 + "]" * 5000 + "}"}},
        "invalid_arguments",
        "",
    ),
}


@pytest.mark.parametrize(("step", "outcome", "words"), BAD_CALLS.values(), ids=BAD_CALLS)
async def test_what_goes_wrong_with_a_call_is_told_to_the_model(path, step, outcome, words):
    """Whatever a tool or a model does: the call has a result that is an error, and the turn goes on to its end."""
    async with chatting(path, tools=TOOLS, main=rounds([step], ["I see."]), other=says("Yes.")) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.", tools=NAMES)
        live = await frames_of(chat, turn)
        view = await chat.turn(turn)
        assert (view.status, view.stop_reason, text_of(view.message)) == ("completed", "end_turn", "I see.")
        ((_, content, is_error),) = results(view)
        assert is_error
        assert words in content
        assert __file__ not in content
        assert await outcomes(chat, session) == [("a", outcome)]
        assert data(live[5])["outcome"] == outcome
        assert asked(chat)[-1] == ("tool", content)
        await assert_told_again(chat, turn, live)
        await assert_can_go_on(chat, session)


OUTPUTS = {
    "a structure": ("structured", "completed", '{"numbers":[1,2]}', 17),
    "nothing": ("silent", "completed", "null", 4),
    "an empty text": ("empty", "completed", "", 0),
    "characters that cannot be kept": ("strange", "completed", "a\ufffdb\ufffdc", 9),
    "10 MB": ("floods", "output_too_large", None, 10 << 20),
}


@pytest.mark.parametrize(("name", "outcome", "content", "size"), OUTPUTS.values(), ids=OUTPUTS)
async def test_whatever_a_tool_gives_back_has_a_form(path, name, outcome, content, size):
    """What is no text becomes JSON, what cannot be kept is replaced, what is too large is cut and says so; the size
    on record is that of the whole.
    """
    limits = {"max_tool_output_bytes": 1000}
    async with chatting(path, tools=TOOLS, main=rounds([call(name)], ["I see."]), **limits) as chat:
        session = await session_of(chat)
        view = await chat.say(session, "Go.", tools=NAMES)
        ((_, given, is_error),) = results(view)
        assert not is_error
        if content is None:
            assert given.startswith("é" * 500 + "\n[cut here: the whole output is 10485760 bytes")
            assert len(given.encode()) < 1200
        else:
            assert given == content
        (returned,) = map(facts, await events_of(chat, session, "tool.returned"))
        assert (returned["outcome"], returned["output_bytes"]) == (outcome, size)
        assert (view.status, text_of(view.message)) == ("completed", "I see.")
        await assert_can_go_on(chat, session, "scripted/main")


async def test_calls_of_one_round_run_side_by_side_and_are_answered_in_order(path):
    """All are under way at once; whichever ends first, the record and the model have them in the order of the calls."""
    together, ended = asyncio.Barrier(3), []

    @engine.tool
    async def meet(name: str, wait_ms: int) -> str:
        """Waits for the others, then ends after a while."""
        await together.wait()
        await asyncio.sleep(wait_ms / 1000)
        ended.append(name)
        return f"{name} was there"

    calls = [call("meet", name, name=name, wait_ms=wait) for name, wait in (("c", 60), ("a", 30), ("b", 0))]
    async with chatting(path, tools=[meet], main=rounds(["Go, all of you.", *calls], ["Done."])) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.", tools=("meet",))
        live = await frames_of(chat, turn)
        assert ended == ["b", "a", "c"]
        named = [(frame.type, data(frame)["tool_use_id"]) for frame in live if frame.type.startswith("tool.")]
        assert named == [("tool.called", each) for each in "cab"] + [("tool.returned", each) for each in "cab"]
        assert results(await chat.turn(turn)) == [(each, f"{each} was there", False) for each in "cab"]
        assert asked(chat)[-3:] == [("tool", f"{each} was there") for each in "cab"]
        await assert_told_again(chat, turn, live)


async def test_only_so_many_calls_run_at_once(path):
    """Beyond ``max_parallel_tools`` a call waits for its turn."""
    running, most = 0, 0

    @engine.tool
    async def work() -> str:
        """Works a little."""
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        return "done"

    calls = [call("work", f"call-{number}") for number in range(7)]
    async with chatting(path, tools=[work], max_parallel_tools=2, main=rounds(calls, ["Done."])) as chat:
        session = await session_of(chat)
        await chat.say(session, "Go.", tools=("work",))
        assert most == 2
        assert await outcomes(chat, session) == [(f"call-{number}", "completed") for number in range(7)]


async def test_a_call_is_on_record_before_it_runs_and_its_return_before_the_next_request(path):
    """A tool that looks into the file sees its own call committed and not yet returned, and what came before whole."""
    seen = []

    @engine.tool
    def look(context: engine.ToolContext) -> str:
        """Looks into the file."""
        sql = "SELECT type, facts FROM events WHERE session = ? ORDER BY version"
        rows = query(path, sql, (context.session.bytes,))
        seen.append([(kind, json.loads(found).get("call")) for kind, found in rows if kind.startswith("tool.")])
        return "seen"

    class Watching(Dictated):
        """Looks, too, when it is asked."""

        async def stream(self, request):
            seen.append([kind for (kind,) in query(path, "SELECT type FROM events ORDER BY position DESC LIMIT 2")])
            self.requests.append(request)
            if len(self.requests) <= 2:
                for number in range(3 - len(self.requests)):
                    yield BlockStarted(number, "tool_use", f"{len(self.requests)}-{number}", "look")
                    yield BlockStopped(number)
            yield Ended("end_turn")

    async with chatting(path, tools=[look], providers=(Watching(),), max_parallel_tools=1) as chat:
        session = (await chat.create_session(model="dictated/model")).id
        assert (await chat.say(session, "Go.", tools=("look",))).status == "completed"
    called, returned = "tool.called", "tool.returned"
    first = [(called, "c1"), (called, "c2")]
    assert seen == [
        ["attempt.started", "turn.started"],
        first,
        seen[2],
        ["attempt.started", "message.appended"],
        [*first, (returned, "c1"), (returned, "c2"), (called, "c3")],
        ["attempt.started", "message.appended"],
    ]
    assert seen[2] in (first, [*first, (returned, "c1")])


async def test_rounds_follow_each_other(path):
    """Thoughts, texts and calls over several rounds: one turn, frames without a gap, the usage of all of them."""
    usage = {"usage": {"input_tokens": 10, "output_tokens": 3}}
    answers = [
        [{"thinking": "Hm. "}, "First.", call("add", "a", one=1), usage],
        [call("add", "b", one=2), call("add", "c", one=3), usage],
        ["Then.", call("raises", "d"), usage],
        [{"text": "That is all.", "chunk_chars": 3, "every_ms": 1}, usage],
    ]
    async with chatting(path, tools=TOOLS, main=rounds(*answers)) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.", tools=NAMES)
        live = await frames_of(chat, turn)
        view = await chat.turn(turn)
        assert [each.round for each in view.attempts] == [1, 2, 3, 4]
        assert (view.usage.input_tokens, view.usage.output_tokens, view.usage.estimated) == (40, 12, False)
        assert (await chat.session(session)).usage == view.usage
        assert [result[0] for result in results(view)] == ["a", "b", "c", "d"]
        assert texts_of(live[-9:]) == {0: text_of(view.message)} == {0: "That is all."}
        assert "".join(role[0] for role, _ in asked(chat)) == "uatattat"
        await assert_told_again(chat, turn, live)
    async with chatting(path) as chat:
        await assert_told_again(chat, turn, live)


async def test_the_same_id_in_another_round_is_another_call(path):
    """A model that names each of its calls alike gets the result of each."""
    answers = [[call("add", "a", one=number)] for number in range(3)]
    async with chatting(path, tools=TOOLS, main=rounds(*answers, ["Done."])) as chat:
        session = await session_of(chat)
        view = await chat.say(session, "Go.", tools=NAMES)
        assert results(view) == [("a", str(number + 1), False) for number in range(3)]
        await assert_can_go_on(chat, session, "scripted/main")


async def test_two_calls_of_one_id_are_no_answer(path):
    """A result names its call by the id: of an answer that uses one twice nothing is made, and the turn fails."""
    steps = [call("add", "a", one=1), call("add", "a", one=2)]
    async with chatting(path, tools=TOOLS, main=rounds(steps), other=says("Yes.")) as chat:
        session = await session_of(chat)
        view = await chat.say(session, "Go.", tools=NAMES)
        assert (view.status, view.error.code, results(view)) == ("failed", "provider_malformed", [])
        await assert_can_go_on(chat, session)


@pytest.mark.parametrize("steps", [[], [""], [{"thinking": "Hm."}]], ids=["nothing", "an empty text", "a thought"])
async def test_an_empty_answer_after_a_tool_ends_the_turn(path, steps):
    """A model that has nothing to say when it has its results completes its turn, and the session goes on."""
    async with chatting(path, tools=TOOLS, main=rounds([call("add", one=1)], steps), other=says("Yes.")) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.", tools=NAMES)
        live = await frames_of(chat, turn)
        view = await chat.turn(turn)
        assert (view.status, view.stop_reason, text_of(view.message)) == ("completed", "end_turn", "")
        await assert_told_again(chat, turn, live)
        await assert_can_go_on(chat, session)


async def test_a_paused_upstream_is_asked_again_with_what_it_said(path):
    """After ``pause_turn`` the turn goes on with another round, though nothing was called."""
    answers = [["Let me think", {"end": "pause_turn"}], [" a little", {"end": "pause_turn"}], [" more."]]
    async with chatting(path, main=rounds(*answers)) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.")
        live = await frames_of(chat, turn)
        view = await chat.turn(turn)
        assert (view.status, view.stop_reason) == ("completed", "end_turn")
        assert [text_of(message) for message in view.messages] == ["Let me think", " a little", " more."]
        assert asked(chat) == [("user", "Go."), ("assistant", "Let me think"), ("assistant", " a little")]
        await assert_told_again(chat, turn, live)


@pytest.mark.parametrize("reason", ["max_tokens", "refusal"])
async def test_a_call_in_an_answer_that_was_cut_is_not_made(path, reason):
    """What may be half a call is not run: its result says so, and the turn ends with the model's reason."""
    made = []

    @engine.tool
    async def note(text: str) -> str:
        """Takes a note."""
        made.append(text)
        return "noted"

    answers = [["I write", call("note", text="x"), {"tool": {"id": "b", "name": "note", "input_text": '{"te'}}]]
    answers[0].append({"end": reason})
    async with chatting(path, tools=[note], main=rounds(*answers), other=says("Yes.")) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.", tools=("note",))
        live = await frames_of(chat, turn)
        view = await chat.turn(turn)
        assert (view.status, view.stop_reason, made) == ("completed", reason, [])
        assert await outcomes(chat, session) == [("a", "not_run"), ("b", "not_run")]
        assert {is_error for _, _, is_error in results(view)} == {True}
        assert len(chat.script.requests) == 1
        await assert_told_again(chat, turn, live)
        await assert_can_go_on(chat, session)


async def test_a_tool_knows_for_whom_it_runs(path):
    """The context names tenant, session, turn and call."""
    contexts = []

    @engine.tool
    async def note(context: engine.ToolContext) -> str:
        """Notes for whom it runs."""
        contexts.append((context.tenant, context.session, context.turn, context.call))
        return ""

    caller = engine.Caller("acme", "key:7")
    async with chatting(path, tools=[note], main=rounds([call("note", "x")], ["Done."])) as chat:
        session = await chat.create_session(caller=caller, model="scripted/main")
        view = await chat.say(session.id, "Go.", caller=caller, tools=("note",))
    assert contexts == [("acme", session.id, view.id, "x")]


# --- tools of the caller's --------------------------------------------------------------------------------------------

LOOKUP = engine.ToolSchema("lookup", "Looks something up.", {"type": "object", "properties": {}})


async def give(chat, session, *given, **options):
    """The results of calls as the next turn's input: (call, text); the ended turn."""
    blocks = [{"type": "tool_result", "tool_use_id": number, "content": text} for number, text in given]
    raws = tuple(msgspec.Raw(json.dumps(block).encode()) for block in blocks)
    message = engine.MessageIn(raws, "tool")
    started = await chat.start_turn(session, message, **options)
    return await chat.ended(started.turn)


async def test_a_callers_tools_end_the_turn_and_their_results_begin_the_next(path):
    """Where all calls are the caller's the turn completes with ``tool_use``; nothing runs here."""
    answers = [["Let me look.", call("lookup", "a"), call("lookup", "b")], ["Thank you."]]
    async with chatting(path, main=rounds(*answers)) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.", client_tools=(LOOKUP,))
        live = await frames_of(chat, turn)
        view = await chat.turn(turn)
        assert (view.status, view.stop_reason, results(view)) == ("completed", "tool_use", [])
        assert [data(frame)["runner"] for frame in live if frame.type == "tool.called"] == ["client"] * 2
        with pytest.raises(ToolResultsMissing) as refused:
            await chat.say(session, "Never mind.")
        assert refused.value.extra["tool_use_ids"] == ["a", "b"]
        view = await give(chat, session, ("a", "one"), ("b", "two"), client_tools=(LOOKUP,))
        assert (view.stop_reason, text_of(view.message)) == ("end_turn", "Thank you.")
        assert asked(chat)[-1] == ("tool", "onetwo")
        await assert_told_again(chat, turn, live)


async def test_the_servers_calls_are_made_before_the_caller_makes_theirs(path):
    """Of an answer that asks for both, the server's calls have run when the turn completes with ``tool_use``; only the
    caller's are waited for.
    """
    answers = [[call("lookup", "a"), call("add", "b", one=1), call("lookup", "c")], ["Thank you."]]
    async with chatting(path, tools=TOOLS, main=rounds(*answers)) as chat:
        session = await session_of(chat)
        options = {"tools": ("add",), "client_tools": (LOOKUP,)}
        turn = await begin(chat, session, "Go.", **options)
        live = await frames_of(chat, turn)
        view = await chat.turn(turn)
        assert (view.status, view.stop_reason, view.vendor_stop_reason) == ("completed", "tool_use", "tool_use")
        assert results(view) == [("b", "2", False)]
        runners = [data(frame)["runner"] for frame in live if frame.type == "tool.called"]
        assert runners == ["client", "server", "client"]
        assert len(chat.script.requests) == 1
        with pytest.raises(ToolResultsMissing) as refused:
            await chat.say(session, "Never mind.")
        assert refused.value.extra["tool_use_ids"] == ["a", "c"]
        view = await give(chat, session, ("c", "three"), ("a", "one"), **options)
        assert text_of(view.message) == "Thank you."
        assert [role for role, _ in asked(chat)] == ["user", "assistant", "tool", "tool"]
        await assert_told_again(chat, turn, live)


@pytest.mark.parametrize("reason", ["max_tokens", "refusal"])
async def test_nobody_is_asked_to_make_a_call_that_was_cut(path, reason):
    """The caller's call in an answer that was cut short is not waited for either."""
    answers = [[call("lookup"), {"end": reason}]]
    async with chatting(path, main=rounds(*answers), other=says("Yes.")) as chat:
        session = await session_of(chat)
        view = await chat.say(session, "Go.", client_tools=(LOOKUP,))
        assert (view.status, view.stop_reason) == ("completed", reason)
        await assert_can_go_on(chat, session)


# --- which tools ------------------------------------------------------------------------------------------------------


async def test_a_choice_is_for_the_first_round(path):
    """A model that had to call a tool may answer when it has the result; a choice that leaves it free is kept."""
    for choice, later in (("any", "auto"), ("add", "auto"), ("auto", "auto"), ("none", "none"), (None, None)):
        async with chatting(path, tools=TOOLS, main=rounds([call("add", one=1)], ["Done."])) as chat:
            session = await session_of(chat)
            await chat.say(session, "Go.", tools=NAMES, tool_choice=choice)
            started = map(facts, await events_of(chat, session, "attempt.started"))
            assert [each.get("tool_choice") for each in started] == [choice, later]


REFUSALS = {
    "a choice of no tool": ({"tools": ("add",), "tool_choice": "raises"}, "tool_choice", {}),
    "a tool that is not": ({"tools": ("add", "nothing")}, "tools", {"available": ["echo", "calculator", "timestamp"]}),
    "one name for two": (
        {"tools": ("add",), "client_tools": (engine.ToolSchema("add", "", {"type": "object"}),)},
        "client_tools",
        {},
    ),
    "a name that is none": ({"client_tools": (engine.ToolSchema("a b", "", {}),)}, "client_tools[0].name", {}),
    "parameters that are none": (
        {"client_tools": (engine.ToolSchema("a", "", {"type": "string"}),)},
        "client_tools[0].parameters",
        {},
    ),
}


@pytest.mark.parametrize(("options", "field", "extra"), REFUSALS.values(), ids=REFUSALS)
async def test_tools_that_cannot_be_offered_are_refused(path, options, field, extra):
    """Before the turn starts, with the name of the field; nothing is written."""
    async with chatting(path, tools=TOOLS, main=says("Hi.")) as chat:
        session = await session_of(chat)
        with pytest.raises(Invalid) as refused:
            await begin(chat, session, "Go.", **options)
        assert refused.value.extra["field"] == field
        for name, value in extra.items():
            assert refused.value.extra[name][: len(value)] == value
        assert (await chat.session(session)).version == 1


async def test_an_allow_list_holds_for_listing_and_for_execution(path):
    """A session's list decides what is listed, what may be offered, and what is made, whatever the model asks for."""
    made = []

    @engine.tool
    async def delete() -> str:
        """Deletes everything."""
        made.append("delete")
        return "deleted"

    answers = [[call("delete", "a"), call("add", "b", one=1), call("echo", "c", text="x")], ["Done."]]
    async with chatting(path, tools=[*TOOLS, delete], main=rounds(*answers)) as chat:
        session = await session_of(chat, allowed_tools=("add", "echo", "not-there-yet"))
        assert [each.name for each in await chat.tools(session=session)] == ["echo", "add"]
        with pytest.raises(Invalid) as refused:
            await begin(chat, session, "Go.", tools=("add", "delete"))
        assert (refused.value.code, refused.value.extra["available"]) == ("unknown_tool", ["echo", "add"])
        view = await chat.say(session, "Go.", tools=("add",))
        assert await outcomes(chat, session) == [
            ("a", "tool_not_allowed"),
            ("b", "completed"),
            ("c", "tool_not_allowed"),
        ]
        assert "delete" not in results(view)[0][1].partition("There are")[2]
        assert made == []
        await chat.update_session(session, allowed_tools=[])
        assert await chat.tools(session=session) == []
        with pytest.raises(Invalid):
            await begin(chat, session, "Go.", tools=("add",))
        await chat.update_session(session, allowed_tools=None)
        assert {"delete", "add"} <= {each.name for each in await chat.tools(session=session)}


async def test_an_allow_list_does_not_change_under_a_turn(path):
    """While a turn runs it is refused, as is whatever the turn was asked with."""
    async with chatting(path, tools=TOOLS, main=rounds([call("hangs")])) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.", tools=NAMES)
        with pytest.raises(TurnAlreadyOpen):
            await chat.update_session(session, allowed_tools=[])
        await chat.cancel(turn)


# --- bounds -----------------------------------------------------------------------------------------------------------


@engine.tool
async def sleeps() -> str:
    """Sleeps, and can be woken."""
    await asyncio.Event().wait()


OVER = threading.Event()


@engine.tool
def blocks() -> str:
    """Blocks a thread."""
    OVER.wait(60)
    return "too late"


@engine.tool
async def stubborn() -> str:
    """Will not be cancelled."""
    while not OVER.is_set():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.02)
    return "too late"


@pytest.fixture
def let_go():
    """What will not be cancelled ends with the test."""
    OVER.clear()
    yield OVER.set
    OVER.set()


@pytest.fixture
def impatient(monkeypatch):
    """What is waited for a second elsewhere is waited for a moment here."""
    monkeypatch.setattr(turns, "END_RETRY_S", 0.05)
    monkeypatch.setattr(runner, "GRACE_S", 0.05)


ENDLESS = [[call("add", "a", one=1), {"usage": {"input_tokens": 60, "output_tokens": 40}}]]
LIMITS = {
    "rounds": (ENDLESS, {"max_rounds": 3}, [("a", "completed")] * 3),
    "rounds of a paused upstream": ([["Hm.", {"end": "pause_turn"}]], {"max_rounds": 3}, []),
    "tokens": (ENDLESS, {"max_turn_tokens": 150}, [("a", "completed")] * 2),
    "seconds of a tool": ([[call("sleeps")]], {"turn_timeout_s": 0.1}, [("a", "interrupted")]),
    "seconds of a thread": ([[call("blocks")]], {"turn_timeout_s": 0.1}, [("a", "interrupted")]),
    "seconds of many": (
        [[call("sleeps", "a"), call("blocks", "b"), call("sleeps", "c")]],
        {"turn_timeout_s": 0.1, "max_parallel_tools": 1},
        [("a", "interrupted"), ("b", "interrupted"), ("c", "interrupted")],
    ),
    "seconds of many rounds": (
        [[call("naps")]],
        {"turn_timeout_s": 0.1, "max_rounds": 10_000},
        None,
    ),
}


@engine.tool
async def naps() -> str:
    """Sleeps a little."""
    await asyncio.sleep(0.03)
    return "rested"


@pytest.mark.parametrize(("answers", "limits", "returned"), LIMITS.values(), ids=LIMITS)
async def test_a_turn_has_only_so_many_rounds_tokens_and_seconds(path, let_go, answers, limits, returned):
    """At a limit the turn fails and says which (whole seconds, but for a test), each call has its result, and the
    session goes on.
    """
    tools = [*TOOLS, sleeps, blocks, naps]
    async with chatting(path, tools=tools, main=rounds(*answers), other=says("Yes."), **limits) as chat:
        session = await session_of(chat)
        begun = time.monotonic()
        turn = await begin(chat, session, "Go.", tools=tuple(tool.name for tool in tools))
        live = await frames_of(chat, turn)
        assert time.monotonic() - begun < 3
        view = await chat.turn(turn)
        assert (view.status, view.error.code, view.error.retryable) == ("failed", "turn_limit_reached", False)
        assert view.error.limit in limits
        assert view.error.maximum == (limits[view.error.limit] if view.error.limit != "turn_timeout_s" else UNSET)
        assert (live[-1].type, data(live[-1])["error"]["code"]) == ("turn.failed", "turn_limit_reached")
        assert data(live[-1])["error"]["limit"] == view.error.limit
        if returned is None:
            assert {outcome for _, outcome in await outcomes(chat, session)} <= {"completed", "interrupted"}
        else:
            assert await outcomes(chat, session) == returned
        await assert_told_again(chat, turn, live)
        await assert_can_go_on(chat, session)


async def test_the_last_round_that_is_allowed_may_be_the_last_that_is_needed(path):
    """A turn that needs as many rounds as it may have completes."""
    async with chatting(path, tools=TOOLS, max_rounds=2, main=rounds([call("add", one=1)], ["Done."])) as chat:
        assert (await chat.say(await session_of(chat), "Go.", tools=NAMES)).status == "completed"


async def test_a_later_round_that_does_not_fit_fails_the_turn(path):
    """Results that are larger than the budget end the turn with what they would have needed; they are on record, and
    with room enough the same question is answered.
    """

    @engine.tool
    def talks() -> str:
        """Talks much."""
        return " ".join(f"word{number}" for number in range(400))

    answers = [[call("talks")], ["Done."]]
    async with chatting(path, tools=[talks], main=rounds(*answers)) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.", tools=("talks",), budget_tokens=500, max_output_tokens=50)
        live = await frames_of(chat, turn)
        view = await chat.turn(turn)
        assert (view.status, view.error.code) == ("failed", "budget_too_small")
        assert re.search(r"need \d+ tokens; 450 are available", view.error.detail)
        assert [each.outcome for each in view.attempts] == ["completed"]
        assert await outcomes(chat, session) == [("a", "completed")]
        await assert_told_again(chat, turn, live)
        with pytest.raises(BudgetTooSmall):
            await begin(chat, session, budget_tokens=500, max_output_tokens=50)
        view = await chat.ended(await begin(chat, session))
        assert (view.status, text_of(view.message)) == ("completed", "Done.")


# --- stopping ---------------------------------------------------------------------------------------------------------


async def called(chat, session, count=1):
    """Wait until so many calls are on record."""

    async def there():
        return len(await events_of(chat, session, "tool.called")) >= count

    await until(there)


STOPPED = {
    "a tool": [call("sleeps")],
    "a thread": [call("blocks")],
    "one that will not": [call("stubborn")],
    "several": [call("sleeps", "a"), call("blocks", "b"), call("sleeps", "c")],
    "the caller's beside it": [call("lookup", "a"), call("sleeps", "b")],
}


def all_of(steps):
    return [step["tool"]["id"] for step in steps]


@pytest.mark.parametrize("steps", STOPPED.values(), ids=STOPPED)
async def test_a_turn_is_cancelled_during_a_tool(path, let_go, impatient, steps):
    """Whatever runs is given up: each call has the result ``cancelled``, the end says who did it, and the session goes
    on, with nothing waited for.
    """
    caller = engine.Caller("default", "key:9")
    tools = (sleeps, blocks, stubborn)
    async with chatting(path, tools=tools, main=rounds(steps), other=says("Yes.")) as chat:
        session = await session_of(chat)
        offered = {"tools": ("sleeps", "blocks", "stubborn"), "client_tools": (LOOKUP,)}
        turn = await begin(chat, session, "Go.", **offered)
        reading_along = asyncio.ensure_future(frames_of(chat, turn))
        await called(chat, session, len(steps))
        async with asyncio.timeout(4):
            view = await chat.cancel(turn, caller=caller)
            live = await reading_along
        assert view.status == "cancelled"
        assert sorted(await outcomes(chat, session)) == [(each, "cancelled") for each in all_of(steps)]
        assert all(is_error and "cancelled" in content for _, content, is_error in results(view))
        end = (await events_of(chat, session))[-1]
        assert (end.type, end.actor) == ("turn.cancelled", "key:9")
        assert view.attempts[-1].outcome == "completed"
        await assert_told_again(chat, turn, live)
        await assert_can_go_on(chat, session)
        let_go()


async def test_a_cancelled_tool_is_told(path):
    """It may clean up before the turn ends."""
    told_so = []

    @engine.tool
    async def careful() -> str:
        """Cleans up."""
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.02)
            told_so.append("cleaned up")

    async with chatting(path, tools=[careful], main=rounds([call("careful")])) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.", tools=("careful",))
        await called(chat, session)
        await chat.cancel(turn)
        assert told_so == ["cleaned up"]


async def test_a_tool_that_has_returned_is_not_said_to_be_cancelled(path):
    """What a call came to before the turn was stopped is on record, though another before it had not ended."""
    done = asyncio.Event()

    @engine.tool
    async def pays() -> str:
        """Pays, once."""
        done.set()
        return "paid"

    steps = [call("sleeps", "a"), call("pays", "b")]
    async with chatting(path, tools=[sleeps, pays], main=rounds(steps), other=says("Yes.")) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.", tools=("sleeps", "pays"))
        reading_along = asyncio.ensure_future(frames_of(chat, turn))
        await done.wait()
        await asyncio.sleep(0.02)
        view = await chat.cancel(turn)
        assert dict(await outcomes(chat, session)) == {"a": "cancelled", "b": "completed"}
        assert ("b", "paid", False) in results(view)
        await assert_told_again(chat, turn, await reading_along)
        await assert_can_go_on(chat, session)


@pytest.mark.parametrize("steps", STOPPED.values(), ids=STOPPED)
async def test_a_shutdown_during_a_tool_interrupts_the_turn(path, let_go, steps):
    """Each call has the result ``interrupted`` when the engine is closed, and after a start the session goes on."""
    tools = (sleeps, blocks, stubborn)
    begun = time.monotonic()
    async with chatting(path, tools=tools, drain_s=0, main=rounds(steps)) as chat:
        session = await session_of(chat)
        offered = {"tools": ("sleeps", "blocks", "stubborn"), "client_tools": (LOOKUP,)}
        turn = await begin(chat, session, "Go.", **offered)
        reading_along = asyncio.ensure_future(frames_of(chat, turn))
        await called(chat, session, len(steps))
    let_go()
    live = await reading_along
    assert time.monotonic() - begun < 5
    assert live[-1].type == "turn.interrupted"
    async with chatting(path, other=says("Yes.")) as chat:
        view = await chat.turn(turn)
        assert view.status == "interrupted"
        assert facts((await events_of(chat, session))[-1])["reason"] == "shutdown"
        assert sorted(await outcomes(chat, session)) == [(each, "interrupted") for each in all_of(steps)]
        await assert_told_again(chat, turn, live)
        await assert_can_go_on(chat, session)


async def test_a_shutdown_waits_for_tools_that_end_in_time(path):
    """A turn with tools that ends within ``drain_s`` completes."""
    async with chatting(path, tools=[naps], drain_s=5, main=rounds([call("naps")], ["Done."])) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.", tools=("naps",))
        await called(chat, session)
        await chat.serving.drain()
        assert (await chat.turn(turn)).status == "completed"


async def test_a_failed_round_leaves_no_call_open(path):
    """A model that fails after a round of tools fails the turn; the results stay, and the session goes on."""
    answers = [[call("add", one=1)], ["Half", {"truncate": True}]]
    async with chatting(path, tools=TOOLS, main=rounds(*answers), other=says("Yes.")) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.", tools=NAMES)
        live = await frames_of(chat, turn)
        view = await chat.turn(turn)
        assert (view.status, view.error.code) == ("failed", "provider_truncated")
        assert [(message.role, message.complete) for message in view.messages] == [
            ("assistant", True),
            ("tool", True),
            ("assistant", False),
        ]
        await assert_told_again(chat, turn, live)
        assert (await chat.ended(await begin(chat, session, model="scripted/other"))).status == "completed"
        assert asked(chat) == [("user", "Go."), ("assistant", ""), ("tool", "2")]


# --- a full disk ------------------------------------------------------------------------------------------------------


async def pages(chat, most=None):
    """The file may grow to so many pages; without a number to as many as it has."""

    def limit(tx):
        now = tx.connection.exec_driver_sql("PRAGMA page_count").scalar()
        tx.connection.exec_driver_sql(f"PRAGMA max_page_count = {most or now}")

    await chat._parts.store.do(limit)


async def test_a_disk_that_is_full_when_a_tool_returns_fails_the_turn(path, impatient):
    """What a tool gave cannot be written: readers are let go, the turn fails when there is room, and then the session
    goes on.
    """
    chats = []

    @engine.tool
    async def fills() -> str:
        """Fills the disk."""
        await pages(chats[0])
        return "\n".join(str(number) for number in range(12_000))

    async with chatting(path, tools=[fills], main=rounds([call("fills")]), other=says("Yes.")) as chat:
        chats.append(chat)
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.", tools=("fills",))
        async with asyncio.timeout(5):
            live = await frames_of(chat, turn)
        assert live[-1].type in {"turn.failed", "error"}
        assert "store_full" in live[-1].data.decode()
        await pages(chat, 1 << 20)

        async def ended():
            return (await chat.session(session)).open_turn_id is None

        await until(ended)
        view = await chat.turn(turn)
        assert (view.status, view.error.code) == ("failed", "store_full")
        assert await outcomes(chat, session) == [("a", "interrupted")]
        recorded = await frames_of(chat, turn)
        assert [frame for frame in live if frame.number] == recorded[: len([f for f in live if f.number])]
        await assert_told_again(chat, turn, recorded)
        await assert_can_go_on(chat, session)


async def test_a_disk_that_is_full_at_a_rounds_end_fails_the_turn(path, impatient):
    """The answer cannot be written, and no call of it is made: none was on record."""
    made = []

    @engine.tool
    async def note(text: str) -> str:
        """Takes a note."""
        made.append(text)
        return "noted"

    class Filling(Dictated):
        async def stream(self, request):
            yield BlockStarted(0, "tool_use", "a", "note")
            yield Delta(0, json.dumps({"text": "x" * 50_000}))
            yield BlockStopped(0)
            while len(shown_so_far) < 3:  # noqa: ASYNC110 - until all of it is journalled
                await asyncio.sleep(0.005)
            await pages(chat)
            yield Ended("tool_use")

    shown_so_far = []
    async with chatting(path, tools=[note], providers=(Filling(),), other=says("Yes.")) as chat:
        session = (await chat.create_session(model="dictated/model")).id
        turn = await begin(chat, session, "Go.", tools=("note",))
        async with asyncio.timeout(5):
            async for batch in chat.frames(turn):
                shown_so_far += batch
        assert "store_full" in shown_so_far[-1].data.decode()
        await pages(chat, 1 << 20)

        async def ended():
            return (await chat.session(session)).open_turn_id is None

        await until(ended)
        view = await chat.turn(turn)
        assert (view.status, view.error.code, made) == ("failed", "store_full", [])
        await assert_told_again(chat, turn, await frames_of(chat, turn))
        await assert_can_go_on(chat, session)


# --- frames and requests, again ---------------------------------------------------------------------------------------


class Rounds(Dictated):
    """Says one of its answers after the other, an error among them raised. Rendered as for Claude, so that tools and
    parameters are in the bytes.
    """

    renderer = MESSAGES
    renderers = RENDERERS

    async def stream(self, request):
        self.requests.append(request)
        for step in self.steps[min(len(self.requests), len(self.steps)) - 1]:
            if isinstance(step, BaseException):
                raise step
            await asyncio.sleep(0)
            yield step


def says_text(text, block=0):
    pieces = [Delta(block, text[start : start + 7]) for start in range(0, len(text), 7)]
    return (BlockStarted(block, "text"), *pieces, BlockStopped(block))


def says_call(block, number, name, given):
    return (BlockStarted(block, "tool_use", number, name), Delta(block, given), BlockStopped(block))


BUSY = ProviderUnavailable("busy", status=529, retry_after_s=0.001)
EVENTFUL = (
    (BUSY,),
    (*says_text("Let me see what there is."), *says_call(1, "a", "add", '{"one":1}'), Ended("tool_use")),
    (BUSY,),
    (BUSY,),
    (*says_call(0, "b", "add", '{"one":2}'), *says_call(1, "c", "raises", ""), Ended("tool_use")),
    (*says_text("Wait"), Ended("pause_turn", "pause_turn")),
    (*says_text("That is what there is: 漢字 😀."), Ended("end_turn")),
)


async def assert_derivable(chat, session, requests):
    """Every attempt of a session, explained, is what was sent, and what was committed to."""
    assert [prompt.request_bytes for prompt in await explained(chat, session)] == requests


async def test_frames_are_the_same_live_later_and_after_a_restart(path, tmp_path):
    """Over rounds with tools, failed attempts and a paused upstream: from every cursor the same ids, order, text and
    types, also from a copy of the file that was made in mid-turn.
    """
    provider = Rounds(*EVENTFUL)
    limits = {"max_attempts": 3, "retry_base_ms": 1, "tail_frames": 5}
    copies = []
    async with chatting(path, tools=TOOLS, providers=(provider,), **limits) as chat:
        session = (await chat.create_session(model="dictated/model")).id
        turn = await begin(chat, session, "Go.", tools=NAMES)
        live = []
        async for batch in chat.frames(turn):
            live += batch
            if len(copies) < len(live) / 8:
                copies.append((snapshot(path, tmp_path / f"{len(copies)}.db"), len(live)))
        kinds = [frame.type for frame in live]
        assert kinds.count("attempt.failed") == 3
        assert kinds.count("tool.returned") == 3
        assert kinds.count("message.appended") == 7
        assert [(each.round, each.attempt) for each in (await chat.turn(turn)).attempts] == [
            *((1, 1), (1, 2)),
            *((2, 1), (2, 2), (2, 3)),
            *((3, 1), (4, 1)),
        ]
        await assert_told_again(chat, turn, live)
    async with chatting(path) as chat:
        await assert_told_again(chat, turn, live)
    assert len(copies) > 3
    for copy, count in copies:
        async with chatting(copy) as chat:
            after = await frames_of(chat, turn)
            assert after[:count] == live[:count]
            await assert_told_again(chat, turn, after)
        audit(copy)


async def test_readers_that_come_at_any_time_read_the_same(path):
    """Of many readers, each of whom begins at another moment and at another cursor, every one gets what follows it."""
    answers = [[{"text": "abcdef" * 4, "chunk_chars": 2, "every_ms": 1}, call("naps")]] * 2
    async with chatting(path, tools=[naps], tail_frames=4, main=rounds(*answers, ["Done."])) as chat:
        session = await session_of(chat)
        turn = await begin(chat, session, "Go.", tools=("naps",))
        reading_along = [asyncio.ensure_future(frames_of(chat, turn))]
        for after in range(0, 30, 2):
            await shown(chat, turn, after)
            reading_along.append(asyncio.ensure_future(frames_of(chat, turn, after)))
        live, *others = await asyncio.gather(*reading_along)
        for after, frames in zip(range(0, 30, 2), others, strict=True):
            assert frames == live[after:]


async def test_every_request_can_be_derived_from_the_record(path):
    """Rendering what is on record gives the bytes that were sent, in every round and attempt: with tools, choices,
    parameters, the caller's tools, results, windows that leave things out, and after a restart.
    """
    provider = Rounds(*EVENTFUL)
    limits = {"max_attempts": 3, "retry_base_ms": 1}
    lookup = engine.ToolSchema("lookup", "Schlägt nach.", {"type": "object", "properties": {"z": {}, "a": {}}})
    async with chatting(path, tools=TOOLS, providers=(provider,), **limits) as chat:
        session = (
            await chat.create_session(model="dictated/model", system="Be brief. \u2028", max_output_tokens=99)
        ).id
        options = {"tools": NAMES, "client_tools": (lookup,), "temperature": 0.7, "stop": ("END",)}
        await chat.say(session, "Go.", tool_choice="any", **options)
        assert len(provider.requests) == len(EVENTFUL)
        bodies = [json.loads(request) for request in provider.requests]
        assert [body["tool_choice"]["type"] for body in bodies] == ["any"] * 2 + ["auto"] * 5
        assert {len(body["tools"]) for body in bodies} == {len(NAMES) + 1}
        await chat.update_session(session, system="Be kind.", allowed_tools=["add"])
        await chat.say(session, "And without tools?")
        await chat.say(session, "A small window.", budget_tokens=140, max_output_tokens=20, tools=("add",))
        requests = list(provider.requests)
        assert len(requests) == len(EVENTFUL) + 2
        await assert_derivable(chat, session, requests)
    async with chatting(path, providers=(Rounds(*EVENTFUL),)) as chat:
        await assert_derivable(chat, session, requests)


async def test_a_turn_that_was_paused_asks_as_it_was_asked(path):
    """After a decision in another process the same tools and parameters are sent; a choice that was forced is free."""

    @engine.tool(approval=True)
    async def pays(amount: int) -> str:
        """Pays."""
        return "paid"

    tools, lookup = [*TOOLS, pays], engine.ToolSchema("lookup", "Looks.", {"type": "object", "properties": {}})
    options = {"tools": ("add", "pays"), "client_tools": (lookup,), "temperature": 0.3, "stop": ("END",)}
    first = Rounds((*says_call(0, "a", "pays", '{"amount":5}'), Ended("tool_use")))
    async with chatting(path, tools=tools, providers=(first,)) as chat:
        session = (await chat.create_session(model="dictated/model", system="Be brief.")).id
        turn = await begin(
            chat, session, "Go.", tool_choice="pays", budget_tokens=5000, max_output_tokens=77, **options
        )
        assert (await chat.ended(turn)).status == "requires_action"
    second = Rounds((*says_text("Done."), Ended("end_turn")))
    async with chatting(path, tools=tools, providers=(second,)) as chat:
        await chat.decide(turn, "a", approve=True)
        assert (await chat.ended(turn)).status == "completed"
        await assert_derivable(chat, session, first.requests + second.requests)
    one, other = json.loads(first.requests[0]), json.loads(second.requests[0])
    assert one.pop("tool_choice") == {"type": "tool", "name": "pays"}
    assert other.pop("tool_choice") == {"type": "auto"}
    assert other.pop("messages")[:1] == one.pop("messages")
    assert one == other
