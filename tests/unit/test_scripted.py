"""The scripted provider: its file, which answer is played, and what each step gives."""

import asyncio
import json
from contextlib import aclosing

import pytest

from manent.engine import errors
from manent.engine.errors import Invalid, ProviderError, ProviderRejected, ProviderTruncated, ProviderUnavailable
from manent.engine.events.blocks import TextBlock, ToolResultBlock, ToolUseBlock
from manent.engine.events.usage import Usage
from manent.engine.providers import scripted
from manent.engine.providers.base import (
    BlockStarted,
    BlockStopped,
    Delta,
    Ended,
    Prompt,
    PromptMessage,
    UsageReported,
    VendorBlock,
)
from manent.engine.providers.scripted import ScriptedProvider, parse_script, read_script


def user(text):
    return PromptMessage("user", (TextBlock(text),))


def assistant(text="x"):
    return PromptMessage("assistant", (TextBlock(text),))


def provider(*answers):
    """One whose model ``m`` has these answers; a list is an answer's steps."""
    answers = [{"steps": answer} if isinstance(answer, list) else answer for answer in answers]
    return ScriptedProvider(parse_script(json.dumps({"models": {"m": answers}}).encode()))


async def play(provider, *messages, model="m"):
    """The chunks of an answer."""
    request = provider.renderers[provider.renderer](Prompt(model, messages or (user("hi"),)))
    async with aclosing(provider.stream(request)) as chunks:
        return [chunk async for chunk in chunks]


async def text(provider, *messages):
    """The text of an answer."""
    return "".join([chunk.text for chunk in await play(provider, *messages) if isinstance(chunk, Delta)])


# --- steps ------------------------------------------------------------------------------------------------------------


async def test_an_answer_is_its_steps():
    """Thinking, text, a call, a vendor's block, usage, and the end."""
    steps = [
        {"thinking": "Hm."},
        {"vendor": {"type": "thinking", "signature": "s"}, "beside": True},
        {"text": "Let me look."},
        {"tool": {"id": "call_1", "name": "forecast", "input": {"town": "Rome", "days": 2}}},
        {"tool": {"id": "call_2", "name": "forecast", "input_text": '{"broken'}},
        {"vendor": {"type": "telepathy", "waves": [1, 2]}},
        {"usage": {"input_tokens": 9, "output_tokens": 4, "reasoning_tokens": 1}},
    ]
    usage = Usage(input_tokens=9, output_tokens=4, reasoning_tokens=1)
    chunks = await play(provider(steps))
    assert chunks == [
        BlockStarted(0, "thinking"),
        Delta(0, "Hm."),
        VendorBlock(0, "thinking", b'{"type":"thinking","signature":"s"}'),
        BlockStopped(0),
        BlockStarted(1, "text"),
        Delta(1, "Let me look."),
        BlockStopped(1),
        BlockStarted(2, "tool_use", "call_1", "forecast"),
        Delta(2, '{"town":"Rome","days":2}'),
        BlockStopped(2),
        BlockStarted(3, "tool_use", "call_2", "forecast"),
        Delta(3, '{"broken'),
        BlockStopped(3),
        VendorBlock(4, "telepathy", b'{"type":"telepathy","waves":[1,2]}'),
        UsageReported(usage, chunks[-2].raw),
        Ended("tool_use", "tool_use"),
    ]
    assert json.loads(chunks[-2].raw)["input_tokens"] == 9


async def test_text_comes_in_pieces_at_a_pace():
    """Cut between code points, the first piece at once."""
    steps = [{"text": "ab\U0001f600cde", "chunk_chars": 2, "every_ms": 20}]
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    chunks = await play(provider(steps))
    assert [chunk.text for chunk in chunks if isinstance(chunk, Delta)] == ["ab", "\U0001f600c", "de"]
    assert 0.035 < loop.time() - started_s < 5


async def test_text_goes_on_after_a_pause_in_the_same_block():
    """A pause is silence and no end."""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    chunks = await play(provider([{"text": "a"}, {"pause_ms": 30}, {"text": "b"}, {"usage": {}}, {"text": "c"}]))
    assert loop.time() - started_s > 0.025
    assert [chunk for chunk in chunks if not isinstance(chunk, UsageReported)] == [
        BlockStarted(0, "text"),
        Delta(0, "a"),
        Delta(0, "b"),
        Delta(0, "c"),
        BlockStopped(0),
        Ended("end_turn", "end_turn"),
    ]


async def test_an_answer_may_be_empty():
    """No blocks, or a block without a word."""
    assert await play(provider([])) == [Ended("end_turn", "end_turn")]
    assert await play(provider([{"text": ""}])) == [
        BlockStarted(0, "text"),
        BlockStopped(0),
        Ended("end_turn", "end_turn"),
    ]


async def test_an_answer_ends_for_the_reason_given():
    """A reason of the script goes before the one that follows from the blocks."""
    call = {"tool": {"id": "c", "name": "f"}}
    assert (await play(provider([call, {"end": "max_tokens"}])))[-1] == Ended("max_tokens", "max_tokens")
    assert (await play(provider([call])))[1] == Delta(0, "{}")


@pytest.mark.parametrize("kind", scripted._FAILURES.values())
async def test_a_failure_is_raised_after_what_came_before(kind):
    """Every kind of failure can be played, with all that is known of one."""
    fail = {"code": kind.code, "detail": "too hot", "status": 529, "vendor_code": "hot", "retry_after_s": 1}
    played = provider([{"text": "so far"}, {"fail": fail}])
    stream = played.stream(played.renderers[played.renderer](Prompt("m", (user("hi"),))))
    assert [await anext(stream), await anext(stream)] == [BlockStarted(0, "text"), Delta(0, "so far")]
    with pytest.raises(kind, match="too hot") as caught:
        await anext(stream)
    assert (caught.value.status, caught.value.vendor_code, caught.value.retry_after_s) == (529, "hot", 1.0)


def test_every_failure_of_a_provider_can_be_played():
    """A new kind of failure is a kind of the script too."""
    assert set(scripted._FAILURES.values()) == set(ProviderError.__subclasses__())
    assert scripted._FAILURES["provider_unavailable"] is errors.ProviderUnavailable


async def test_a_stream_breaks_off_where_the_script_says():
    """What came is kept by who listens; no end is played."""
    with pytest.raises(ProviderTruncated):
        await play(provider([{"text": "I brea"}, {"truncate": True}]))


async def test_a_hanging_answer_hangs_until_it_is_cancelled():
    """Time limits are the caller's."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.03):
            await play(provider([{"text": "a"}, {"hang": True}]))


# --- which answer -----------------------------------------------------------------------------------------------------


async def test_answers_follow_the_conversation_and_the_last_repeats():
    """The assistant messages that were sent say how far it is, so a restart changes nothing."""
    played = provider([{"text": "one"}], [{"text": "two"}])
    assert await text(played, user("a")) == "one"
    assert await text(played, user("a"), assistant(), user("b")) == "two"
    assert await text(played, user("a"), assistant(), user("b"), assistant(), user("c")) == "two"
    assert await text(played, user("z")) == "one"


async def test_a_match_goes_before_the_order_and_counts_rounds():
    """The last user message decides; each new one begins with the first answer that matches."""
    played = provider(
        [{"text": "plain"}],
        {"match": "rain", "steps": [{"tool": {"id": "c", "name": "f"}}]},
        {"match": "rain", "steps": [{"text": "dry"}]},
        {"match": "snow", "steps": [{"text": "white"}]},
    )
    call = PromptMessage("assistant", (ToolUseBlock("c", "f", {}),))
    result = PromptMessage("tool", (ToolResultBlock("c", "snow and rain"),))
    asked = (user("before"), assistant(), user("will it rain?"))
    assert await text(played, *asked) == "{}"
    assert await text(played, *asked, call, result) == "dry"
    assert await text(played, *asked, call, result, assistant(), user("will it snow?")) == "white"
    assert await text(played, user("hello")) == "plain"


async def test_a_request_that_nothing_matches_is_rejected():
    """A gap in the script is not passed over in silence."""
    with pytest.raises(ProviderRejected):
        await play(provider({"match": "rain", "steps": []}), user("snow"))
    with pytest.raises(ProviderRejected) as caught:
        await play(provider([]), model="other")
    assert caught.value.status == 404


def test_the_script_names_the_models():
    """And there are no others."""
    played = provider([])
    assert [info.name for info in played.models()] == ["m"]
    assert played.model("m") is not None
    assert played.model("n") is None


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_example_of_the_manual_is_a_script():
    """What the module's text shows can be played."""
    manual = scripted.__doc__
    example = manual[manual.index('{"models"') : manual.index("\n\n**The answer")]
    assert [answer.match for answer in parse_script(example.encode()).models["weather"]] == ["rain", "rain", None, None]


def steps_of(*steps):
    """A script of one answer."""
    return {"models": {"m": [{"steps": list(steps)}]}}


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("{", "truncated"),
        ("[]", "object"),
        ({"modells": {}}, "modells"),
        ({"models": {"m": []}}, "length >= 1"),
        ({"models": {"a b": [{"steps": []}]}}, "matching regex"),
        ({"models": {"m": [{"steps": [], "match": ""}]}}, "$.models[...][0].match"),
        (steps_of({}), "exactly one of text, thinking"),
        (steps_of({"text": "a", "thinking": "b"}), "exactly one of text, thinking"),
        (steps_of({"text": "a"}, {"txt": "a"}), "`txt` - at `$.models[...][0].steps[1]"),
        (steps_of({"text": 7}), "steps[0].text"),
        (steps_of({"text": "a", "chunk_chars": 0}), "chunk_chars"),
        (steps_of({"text": "a", "every_ms": -1}), "every_ms"),
        (steps_of({"pause_ms": -1}), "pause_ms"),
        (steps_of({"tool": {"id": "c"}}), "name"),
        (steps_of({"tool": {"id": "c d", "name": "f"}}), "tool.id"),
        (steps_of({"fail": {"code": "boom"}}), "provider_unavailable"),
        (steps_of({"usage": {"input_token": 1}}), "input_token"),
        (steps_of({"vendor": {"kind": "x"}}), "`vendor` has a `type`"),
        (steps_of({"vendor": {"type": "x"}, "beside": True}), "directly after"),
        (steps_of({"truncate": False}), "true or absent"),
        (steps_of({"end": "words of mine"}), "end"),
        (steps_of({"end": "end_turn"}, {"text": "more"}), "nothing may follow"),
        (steps_of({"hang": True}, {"text": "more"}), "nothing may follow"),
        ('{"models":{"m":[{"steps":[{"text":"\\ud83d"}]}]}}', "surrogate"),
    ],
)
def test_what_is_wrong_with_a_script_is_said(script, says):
    """And where, and by which setting."""
    data = script if isinstance(script, str) else json.dumps(script)
    with pytest.raises(Invalid) as caught:
        parse_script(data.encode())
    assert says in caught.value.detail
    assert caught.value.extra["field"] == "script"


def test_a_file_that_cannot_be_read_is_said_without_its_path(tmp_path):
    """Paths of the server are no client's business."""
    with pytest.raises(Invalid, match="FileNotFoundError") as caught:
        read_script(tmp_path / "nothing.json")
    assert "nothing.json" not in caught.value.detail


def test_a_file_is_read(tmp_path):
    """UTF-8, as JSON is."""
    path = tmp_path / "script.json"
    path.write_text(json.dumps(steps_of({"text": "è"}), ensure_ascii=False), "utf-8")
    assert read_script(path).models["m"][0].steps[0].text == "è"


async def test_an_overloaded_vendor_asks_to_be_left_alone():
    """The example of the manual's `fail`."""
    fail = {"code": "provider_unavailable", "status": 529, "retry_after_s": 1}
    with pytest.raises(ProviderUnavailable) as caught:
        await play(provider([{"fail": fail}]))
    assert (caught.value.retryable, caught.value.retry_after_s) == (True, 1)
