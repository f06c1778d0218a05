"""Conversation files, run on a real engine on a file: answers, tools and faults go the way that every turn goes."""

from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from manent import engine
from manent.engine import ConversationRun, InvalidConversation, UnknownModel, read_conversation
from tests.support import audit

EXAMPLES = sorted((Path(__file__).parents[2] / "scripts/examples/conversations").glob("*.yaml"))


def settings(path, **more):
    given = {"model": "echo/echo", "retry_base_ms": 1, "drain_s": 1} | more
    return engine.Settings(database=str(path / "run.db"), **given)


@asynccontextmanager
async def running(path, text, *, model=None, **more):
    """A run of a file, and an engine that is opened for it."""
    file = read_conversation(text.encode() if isinstance(text, str) else text, "talk.yaml")
    run = ConversationRun(file, settings(path, **more), model=model)
    async with engine.open(settings(path, **more), providers=run.providers, tools=run.tools) as chat:
        yield run, chat


async def checks(path, text, **more):
    """The checks of all turns; what is on record holds together."""
    async with running(path, text, **more) as (run, chat):
        found = [check async for check in run.turns(chat)]
    audit(path / "run.db")
    return found


def told(check):
    """What is not as expected: (line, expectation, expected, came)."""
    came = [(each.line, each.expectation, each.expected, each.came) for each in check.unmet]
    return came or check.failure


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
async def test_the_examples_hold(tmp_path, example):
    """Every turn of every example meets what it expects."""
    found = await checks(tmp_path, example.read_bytes())
    assert [told(check) for check in found if not check.passed] == []
    assert len(found) > 1


async def test_the_engine_records_it_as_any_conversation(tmp_path):
    """The system prompt, the tools offered, the calls and their results are on record, and the title is the file's."""
    text = """
system: Be brief.
tools: [calculator, {name: weather, description: The weather., returns: {rain: true}}]
turns:
  - user: What is 6 times 7, and will it rain?
    answers:
      - - {text: Let me see.}
        - {tool: {name: calculator, input: {expression: 6 * 7}}}
        - {tool: {name: weather, id: rain_1, input: {city: Rome}}}
      - - {text: "42 and "}
        - {pause_ms: 1}
        - {text: rain., chunk_chars: 2}
        - {usage: {output_tokens: 9}}
        - {end: stop_sequence}
    expect:
      equals: [something, 42 and rain.]
      tool_called: [calculator, {name: weather, with: {city: Rome}}]
      stop_reason: [end_turn, stop_sequence]
      max_tokens: 9
"""
    async with running(tmp_path, text) as (run, chat):
        (check,) = [check async for check in run.turns(chat)]
        assert told(check) is None
        session = await chat.session(check.session_id)
        assert (session.title, session.system, session.version) == ("talk", "Be brief.", 16)
        results = [message.content for message in check.turn.messages if message.role == "tool"]
        assert b'"42"' in msgspec.json.encode(results)
        assert b'rain_1","content":"{\\"rain\\":true}' in msgspec.json.encode(results)
        prompt = await chat.explain(check.turn.id, attempt=1)
        assert [tool.name for tool in prompt.tools] == ["calculator", "weather"]
        assert prompt.matches


async def test_what_does_not_hold_is_told(tmp_path):
    """Each expectation in vain, with its line, what was expected and what came; the turns after it run all the same."""
    text = """
tools: [{name: t, returns: x}]
turns:
  - user: '{"a": [1, true], "b": null}'
    expect:
      equals: [x, y]
      contains: ['"a"', z]
      matches: ['^z', 'b']
      json: {'$.a[0]': 1, '$.a[1]': 1, $.c: null, $.b: 0}
      tool_called: {name: t, with: {a: 1}}
      stop_reason: max_tokens
      max_tokens: 0
      error: provider_rejected
  - user: no JSON
    expect: {json: {$: 1}}
  - user: fine
"""
    first, second, third = await checks(tmp_path, text)
    said = '{"a": [1, true], "b": null}'
    tokens = first.turn.usage.output_tokens
    assert told(first) == [
        (6, "equals", ["x", "y"], said),
        (7, "contains", "z", said),
        (8, "matches", "^z", said),
        (9, "json $.a[1]", 1, True),
        (9, "json $.c", None, msgspec.UNSET),
        (9, "json $.b", 0, None),
        (10, "tool_called", {"t": {"a": 1}}, msgspec.UNSET),
        (11, "stop_reason", "max_tokens", "end_turn"),
        (12, "max_tokens", 0, tokens),
        (13, "error", "provider_rejected", "completed"),
    ]
    assert told(second) == [(15, "json", {"$": 1}, "no JSON")]
    assert third.passed
    assert tokens > 0


# --- faults -----------------------------------------------------------------------------------------------------------

ECHO = """
turns:
  - user: 0123456789
    expect: {EXPECT}
  - user: and then
    expect: {equals: and then}
faults: [{turn: 1, FAULT}]
""".replace("0123456789", "'0123456789'")


def failing(fault, expect):
    return ECHO.replace("FAULT", fault).replace("EXPECT", expect)


async def test_an_attempt_that_fails_is_made_again(tmp_path):
    """A fault of the first attempt costs one attempt, and the turn completes."""
    fault = "attempt: 1, fail: {code: provider_unavailable, status: 529, detail: asked to fail}"
    first, second = await checks(tmp_path, failing(fault, "equals: '0123456789'"))
    assert (told(first), told(second)) == (None, None)
    assert [attempt.outcome for attempt in first.turn.attempts] == ["provider_unavailable", "completed"]


async def test_all_attempts_fail_without_a_number(tmp_path):
    """A fault of the whole turn fails it after so many attempts; expected, it is none, and the next turn goes on."""
    fault = "fail: provider_unavailable"
    first, second = await checks(tmp_path, failing(fault, "error: provider_unavailable"), max_attempts=2)
    assert (first.turn.status, len(first.turn.attempts)) == ("failed", 2)
    assert (told(first), told(second)) == (None, None)


async def test_a_failure_that_nobody_expected_is_told(tmp_path):
    """With its code and its words; another code than the expected one is an expectation in vain."""
    fault = "fail: {code: provider_rejected, detail: asked to fail}"
    first, second = await checks(tmp_path, failing(fault, ""))
    assert told(first) == "the turn failed: scripted failed: asked to fail (provider_rejected)"
    assert second.passed
    (tmp_path / "run.db.checkpoints").unlink()
    (tmp_path / "run.db").unlink()
    first, _ = await checks(tmp_path, failing(fault, "error: [provider_malformed, provider_truncated]"))
    assert told(first) == [(4, "error", ["provider_malformed", "provider_truncated"], "provider_rejected")]


@pytest.mark.parametrize(("after", "came"), [(0, ""), (1, "0"), (4, "0123"), (10, "0123456789"), (99, "0123456789")])
async def test_a_stream_is_cut_after_so_many_characters(tmp_path, after, came):
    """What came before the cut is on record, incomplete; an answer that is shorter is cut at its end."""
    fault = f"attempt: 1, truncate: true, after_chars: {after}"
    expect = f"error: provider_truncated, equals: '{came}'" if after else "equals: '0123456789'"  # tried again
    first, second = await checks(tmp_path, failing(fault, expect))
    assert (told(first), told(second)) == (None, None)
    if after:
        assert first.turn.message.complete is False


async def test_a_model_that_hangs_runs_into_its_time_limit(tmp_path):
    """Before the first character and in the middle: as long as the settings let it."""
    limits = {"first_chunk_timeout_s": 1, "idle_timeout_s": 1, "max_attempts": 1}
    first, second = await checks(tmp_path, failing("hang: true, after_chars: 2", "error: provider_timed_out"), **limits)
    assert (told(first), told(second), first.turn.text) == (None, None, "01")


async def test_a_pause_only_takes_time(tmp_path):
    """The answer comes whole, and so much later."""
    first, _ = await checks(tmp_path, failing("pause_ms: 60, after_chars: 3", "equals: '0123456789'"))
    assert told(first) is None
    assert first.turn.duration_ms >= 60
    assert first.seconds >= 0.06


async def test_a_fault_that_never_happens_is_told(tmp_path):
    """There was no third attempt, so nothing was tried that the file is about."""
    first, second = await checks(tmp_path, failing("attempt: 3, hang: true", ""))
    assert told(first) == [(7, "fault", {"turn": 1, "attempt": 3, "hang": True}, msgspec.UNSET)]
    assert second.passed


async def test_the_scripted_model_fails_as_any_other(tmp_path):
    """Its answers do not shift by attempts that failed, nor by turns that did; rounds count as attempts."""
    text = """
tools: [{name: t, results: [x]}]
turns:
  - {user: one, answers: [{tool: {name: t}}, first], expect: {equals: first}}
  - {user: two, answers: [second], expect: {error: provider_rejected}}
  - {user: three, answers: [third, never said], expect: {equals: third}}
faults:
  - {turn: 1, attempt: 2, fail: provider_unavailable}
  - {turn: 2, fail: provider_rejected}
"""
    found = await checks(tmp_path, text)
    assert [told(check) for check in found] == [None, None, None]
    assert [attempt.outcome for attempt in found[0].turn.attempts] == ["completed", "provider_unavailable", "completed"]


async def test_a_model_that_asks_on_gets_no_answer_twice(tmp_path):
    """Where a tool's call is the only answer, the next round is refused, and does not begin again."""
    text = "tools: [{name: t, returns: x}]\nturns: [{user: go, answers: [{tool: {name: t}}]}]"
    (check,) = await checks(tmp_path, text)
    assert "the file has no further answer to this turn (provider_rejected)" in told(check)
    assert len(check.turn.attempts) == 2


# --- models and tools -------------------------------------------------------------------------------------------------


async def test_another_model_can_be_asked(tmp_path):
    """A given model comes before the file's, whose answers are not used then; ``scripted`` comes back to them."""
    text = "turns: [{user: hello, answers: [hi], expect: {equals: hi}}]"
    (check,) = await checks(tmp_path, text, model="echo/echo")
    assert told(check) == [(1, "equals", "hi", "hello")]
    (check,) = await checks(tmp_path, text, model="scripted")
    assert check.passed
    (check,) = await checks(tmp_path, "turns: [{user: hello}]")
    assert check.turn.model == "echo/echo"


async def test_the_settings_script_stays(tmp_path):
    """A file's own answers and the models of the settings' script are both there."""
    script = tmp_path / "script.json"
    script.write_text('{"models": {"clerk": [{"steps": [{"text": "from the settings"}]}]}}', "utf-8")
    text = "turns: [{user: hello, answers: [hi]}]"
    async with running(tmp_path, text, script=str(script)) as (_, chat):
        assert {"scripted/clerk", "scripted/turn-1"} <= set(chat.providers.available())
    (check,) = await checks(tmp_path, "model: scripted/clerk\nturns: [{user: x}]", script=str(script))
    assert check.turn.text == "from the settings"


async def test_a_turn_that_waits_for_a_person_is_a_failure(tmp_path):
    """It is cancelled, so that the next can begin."""

    @engine.tool(approval=True)
    async def unlock() -> str:
        """Unlocks the door."""
        return "open"

    text = "tools: [unlock]\nturns: [{user: go, answers: [{tool: {name: unlock}}]}, {user: on, answers: [done]}]"
    run = ConversationRun(read_conversation(text.encode(), "f"), settings(tmp_path), tools=[unlock])
    async with engine.open(settings(tmp_path), providers=run.providers, tools=run.tools) as chat:
        first, second = [check async for check in run.turns(chat)]
        assert told(first) == "the turn waits for a person: call_1_1_1 (unlock)"
        assert (await chat.turn(first.turn.id)).status == "cancelled"
    assert second.passed


async def test_a_turn_that_cannot_start_is_a_failure(tmp_path):
    """Its refusal is told, or expected by its code; nothing of it is on record, and the next turn begins."""
    long = "word " * 3000
    text = f"turns:\n- user: {long}\n- {{user: {long}, expect: {{error: budget_too_small}}}}\n- user: hello\n"
    first, second, third = await checks(tmp_path, text, budget_tokens=100)
    assert first.turn is None
    assert told(first).startswith("the turn was not started: ")
    assert told(first).endswith("(budget_too_small)")
    assert (told(second), told(third)) == (None, None)


async def test_what_cannot_be_run_is_refused_before_anything_runs(tmp_path):
    """A model that nobody serves, a name of a built-in tool, and a tool that is not registered, by line and column."""
    turns = "turns: [{user: x}]\n"

    def refused(text, **more):
        with pytest.raises(InvalidConversation) as caught:
            ConversationRun(read_conversation(text.encode(), "f"), settings(tmp_path), **more)
        return caught.value

    error = refused(turns + "model: ecco/echo")
    assert error.detail == "f:2:8: no provider here serves ecco/echo"
    assert "echo/echo" in error.extra["available"]
    error = refused(turns + "tools: [{returns: x, name: calculator}]")
    assert error.detail == "f:2:28: `calculator` is the name of a tool that is registered"
    error = refused(turns + "tools: [calculator, calkulator2]")
    assert error.detail == "f:2:21: no tool is named `calkulator2` here; did you mean `calculator`?"
    with pytest.raises(UnknownModel):
        ConversationRun(read_conversation(turns.encode(), "f"), settings(tmp_path), model="ecco/echo")
    text, other_path = turns + "tools: [{name: door, returns: x}]", tmp_path / "other"
    other_path.mkdir()
    async with running(tmp_path, text) as (run, _), engine.open(settings(other_path)) as other:
        with pytest.raises(InvalidConversation) as caught:
            await anext(run.turns(other))  # an engine that was opened without the run's tools
        assert caught.value.detail == "talk.yaml:2:16: no tool is named `door` here"
        assert (await other.sessions()).items == []
