"""One suite for all providers: every rule of ``engine/providers/base.py``, for each member.

The vendors' protocols answer from the golden streams, over httpx's mock transport; ``local`` is the real model in its
real child process, and is skipped where the extra is not installed. What only the local model has to keep stands at the
end.
"""

import asyncio
import json
import os
import signal
import sys
import textwrap
from contextlib import aclosing
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest
import respx

from manent.engine.clock import SystemClock
from manent.engine.errors import Invalid, ProviderError, ProviderMalformed, ProviderTruncated, ProviderUnavailable
from manent.engine.events.blocks import (
    ImageBlock,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolSchema,
    ToolUseBlock,
    UrlSource,
)
from manent.engine.providers.anthropic.messages import ClaudeProvider
from manent.engine.providers.base import (
    BlockStarted,
    BlockStopped,
    Delta,
    Ended,
    ModelInfo,
    Parameters,
    Prompt,
    PromptMessage,
    ResponseFormat,
    UsageReported,
    VendorBlock,
)
from manent.engine.providers.echo import EchoProvider
from manent.engine.providers.local.provider import LocalProvider, local_model_available
from manent.engine.providers.openai.chat import OpenAIProvider
from manent.engine.providers.openai.responses import ResponsesProvider
from manent.engine.providers.scripted import ScriptedProvider, parse_script
from manent.engine.providers.tokens import FAMILIES, count_text
from manent.engine.providers.wire.vendor import Endpoint

ROOT = Path(__file__).parent.parent.parent
WIRE = ROOT / "tests" / "golden" / "wire"
ADDRESS = "http://upstream.test/v1"
PIECE_BYTES = 50


def prompt(model, text, **parameters):
    return Prompt(model, (PromptMessage("user", (TextBlock(text),)),), parameters=Parameters(**parameters))


def everything(model, stop=("\n",)):
    """A prompt with a block of every type."""
    messages = (
        PromptMessage("user", (TextBlock("hi \U0001f600\u2028"), ImageBlock(UrlSource("https://example.org/a.png")))),
        PromptMessage(
            "assistant",
            (
                ThinkingBlock("hm"),
                TextBlock("ok"),
                ToolUseBlock("c", "f", {"x": 1}, '{"x": 1}'),
                OtherBlock("telepathy", b'{"type":"telepathy"}'),
            ),
        ),
        PromptMessage("tool", (ToolResultBlock("c", (TextBlock("done"),), is_error=True),)),
        PromptMessage("system", (TextBlock("Be kind."),)),
        PromptMessage("user", (TextBlock("and?"),)),
    )
    tools = (ToolSchema("f", "does", {"type": "object", "properties": {"x": {"type": "integer"}}}),)
    parameters = Parameters(max_output_tokens=9, temperature=0.3, stop=stop, tool_choice="auto")
    return Prompt(model, messages, "Be brief.", tools, parameters)


# --- the members ------------------------------------------------------------------------------------------------------


class Wire(httpx.AsyncByteStream):
    """A golden stream in small pieces, which notes that it was closed. ``end`` is where it breaks off."""

    def __init__(self, data):
        self.data = data
        self.closed = False

    async def __aiter__(self):
        for at in range(0, len(self.data), PIECE_BYTES):
            await asyncio.sleep(0)
            yield self.data[at : at + PIECE_BYTES]

    async def aclose(self):
        self.closed = True


class Upstream:
    """Plays the golden stream that the last message names; ``cut`` bytes are missing at its end."""

    def __init__(self, path="/chat/completions"):
        self.address = f"{ADDRESS}{path}"
        self.requests = []
        self.streams = []
        self.cut = 0
        self.router = respx.Router(assert_all_called=False)
        self.router.post(self.address).mock(side_effect=self.answer)

    def answer(self, request):
        self.requests.append(request.content)
        asked = json.loads(request.content)
        said = (asked.get("messages") or asked["input"])[-1]["content"]
        name = said if isinstance(said, str) else said[-1]["text"]
        data = (WIRE / f"{name}.sse").read_bytes()
        self.streams.append(Wire(data[: len(data) - self.cut]))
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=self.streams[-1])


SCRIPT = {
    "models": {
        "m": [
            {
                "steps": [
                    {"thinking": "Hm.", "chunk_chars": 1},
                    {"vendor": {"type": "thinking", "signature": "s"}, "beside": True},
                    {"text": "Let me \U0001f600 look.", "chunk_chars": 3},
                    {"vendor": {"type": "telepathy"}},
                    {"tool": {"id": "c1", "name": "f", "input": {"x": 1}}},
                    {"tool": {"id": "c2", "name": "f", "input": {}}},
                    {"usage": {"input_tokens": 1, "output_tokens": 2}},
                ]
            }
        ],
        "cut": [{"steps": [{"text": "I brea"}, {"truncate": True}]}],
    }
}


class Subject:
    """A provider under test: prompts that it answers, and what can be asked of it besides."""

    def __init__(self, provider, prompts, *, repeatable=True, unknown=None, upstream=None):
        self.provider = provider
        self.prompts = prompts
        self.repeatable = repeatable
        self.unknown = unknown
        self.upstream = upstream

    def render(self, asked):
        return self.provider.renderers[self.provider.renderer](asked)


def echo():
    prompts = [prompt("echo", text) for text in ("hi", "", "x" * 10_000, "\U0001f600" * 5000, "a\n\u2028\u200f\r\nb")]
    return Subject(EchoProvider(count_text), [*prompts, prompt("paced", "\U0001f600 hello")], unknown="gpt-5")


def scripted():
    script = parse_script(json.dumps(SCRIPT).encode())
    return Subject(ScriptedProvider(script), [prompt("m", "hi"), everything("m")], unknown="n")


def endpoint(router, **options):
    """The address of a mocked upstream."""
    given = {"clock": SystemClock(), "connect_timeout_s": 5, "base_url": ADDRESS} | options
    return Endpoint(**given, transport=httpx.MockTransport(router.async_handler))


def openai():
    upstream = Upstream()
    provider = OpenAIProvider(endpoint(upstream.router))
    names = [path.stem for path in sorted(WIRE.glob("*.sse")) if not path.stem.startswith(("claude_", "responses_"))]
    return Subject(provider, [prompt("gpt-5", name) for name in names], upstream=upstream)


def claude(**options):
    upstream = Upstream("/messages")
    provider = ClaudeProvider(endpoint(upstream.router, base_url=ADDRESS.removesuffix("/v1")), **options)
    names = [path.stem for path in sorted(WIRE.glob("claude_*.sse"))]
    return Subject(provider, [prompt("claude-sonnet-4-6", name) for name in names], upstream=upstream)


def claude_2026():
    return claude(version="2026-10-21", cache_breakpoints=True)


def responses():
    failing = {"responses_error_flat", "responses_error_nested", "responses_failed"}
    names = [path.stem for path in sorted(WIRE.glob("responses_*.sse")) if path.stem not in failing]
    upstream = Upstream("/responses")
    provider = ResponsesProvider(endpoint(upstream.router))
    return Subject(provider, [prompt("gpt-5", name) for name in names], upstream=upstream)


MEMBERS = {
    "echo": echo,
    "scripted": scripted,
    "openai": openai,
    "responses": responses,
    "claude": claude,
    "claude_2026": claude_2026,
}


@pytest.fixture(scope="module")
async def children(anyio_backend):
    """The local model's provider, once a test has asked for it: one child for all, which takes a second to load."""
    children = []
    yield children
    for provider in children:
        await provider.aclose()


@pytest.fixture
async def local_provider(children):
    """The local model, started."""
    return await started(children)


async def started(children):
    if not local_model_available():
        pytest.skip("THE LOCAL MODEL IS NOT TESTED: the extra `local` is not installed")
    if not children:
        children.append(LocalProvider(clock=SystemClock(), connect_timeout_s=5))
    await children[0].start()
    return children[0]


@pytest.fixture(params=[*MEMBERS, pytest.param("local", marks=pytest.mark.local)])
async def subject(request, children):
    """Each member in turn."""
    if request.param != "local":
        return MEMBERS[request.param]()
    asked = prompt("smollm2-135m", "Name some colours.", max_output_tokens=12)
    return Subject(await started(children), [asked], repeatable=False, unknown="gpt-5")


async def answer(subject, asked):
    """All chunks of an answer."""
    async with aclosing(subject.provider.stream(subject.render(asked))) as chunks:
        return [chunk async for chunk in chunks]


# --- the rules --------------------------------------------------------------------------------------------------------


def test_rendering_is_pure(subject):
    """The same prompt gives the same bytes, and every renderer that ever was can still be asked. What its protocol
    cannot say is refused by name.
    """
    provider, model = subject.provider, subject.prompts[0].model
    assert provider.renderer in provider.renderers
    for asked in (*subject.prompts, everything(model), everything(model, stop=())):
        for name, render in provider.renderers.items():
            assert "/" in name
            if name == "openai-responses/1" and asked.parameters.stop:
                with pytest.raises(Invalid, match="stop"):
                    render(asked)
                continue
            assert render(asked) == render(asked)
            assert isinstance(render(asked), bytes)


def test_its_models_are_known(subject):
    """Each that it lists can be asked for; what it certainly does not serve is None; families can be counted."""
    provider = subject.provider
    for info in (*provider.models(), *(provider.model(asked.model) for asked in subject.prompts)):
        assert isinstance(info, ModelInfo)
        assert provider.model(info.name) == info
        assert info.family in FAMILIES
    if subject.unknown:
        assert provider.model(subject.unknown) is None


async def test_an_answer_ends_once_and_last(subject):
    """``Ended`` is the last chunk, and there is no other."""
    for asked in subject.prompts:
        *before, last = await answer(subject, asked)
        assert isinstance(last, Ended)
        assert last.stop_reason
        assert not any(isinstance(chunk, Ended) for chunk in before)


async def test_blocks_are_numbered_begun_and_stopped(subject):
    """From 0 in order, each once; a delta belongs to one that is under way; none is left open."""
    for asked in subject.prompts:
        begun, under_way = [], set()
        for chunk in await answer(subject, asked):
            match chunk:
                case BlockStarted(block, kind, call, name):
                    begun.append(block)
                    under_way.add(block)
                    assert (kind == "tool_use") == bool(call and name)
                case Delta(block, text):
                    assert block in under_way
                    assert text
                case VendorBlock(block, _, raw):
                    assert json.loads(raw)
                    if block not in under_way:
                        begun.append(block)
                case BlockStopped(block):
                    under_way.remove(block)
        assert begun == list(range(len(begun)))
        assert not under_way


async def test_text_is_valid_unicode(subject):
    """No delta holds half a character, so that any of them can be stored and sent alone."""
    for asked in subject.prompts:
        for chunk in await answer(subject, asked):
            if isinstance(chunk, Delta):
                chunk.text.encode()


async def test_a_calls_input_is_in_its_deltas(subject):
    """Joined, they are the arguments as the model wrote them."""
    for asked in subject.prompts:
        calls = {}
        for chunk in await answer(subject, asked):
            if isinstance(chunk, BlockStarted) and chunk.type == "tool_use":
                calls[chunk.block] = ""
            elif isinstance(chunk, Delta) and chunk.block in calls:
                calls[chunk.block] += chunk.text
        assert all(isinstance(json.loads(text), dict) for text in calls.values())


async def test_usage_is_whole_numbers(subject):
    """Counted, or not reported; the vendor's object is JSON."""
    for asked in subject.prompts:
        for chunk in await answer(subject, asked):
            if isinstance(chunk, UsageReported):
                figures = (chunk.usage.input_tokens, chunk.usage.output_tokens)
                assert all(figure is None or figure >= 0 for figure in figures)
                assert isinstance(json.loads(chunk.raw), dict)


async def test_the_same_bytes_get_the_same_answer(subject):
    """Of a fake, and of a recorded stream."""
    if not subject.repeatable:
        pytest.skip("a real model answers as it likes")
    for asked in subject.prompts:
        assert await answer(subject, asked) == await answer(subject, asked)


async def test_answers_do_not_mix(subject):
    """Streams at the same time know nothing of each other."""
    together = await asyncio.gather(*(answer(subject, asked) for asked in subject.prompts * 3))
    assert all(isinstance(chunks[-1], Ended) for chunks in together)
    if subject.repeatable:
        assert together == [await answer(subject, asked) for asked in subject.prompts * 3]


async def test_an_answer_can_be_left(subject):
    """Closing the iterator early ends it at once, and the next answer is whole."""
    for asked in subject.prompts:
        chunks = subject.provider.stream(subject.render(asked))
        await anext(chunks)
        async with asyncio.timeout(5):
            await chunks.aclose()
        assert isinstance((await answer(subject, asked))[-1], Ended)


async def test_waiting_for_an_answer_can_be_cancelled(subject):
    """And nothing but the cancellation comes out, unless the answer was there at once."""
    task = asyncio.create_task(answer(subject, subject.prompts[-1]))
    await asyncio.sleep(0)
    cancelled = task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == cancelled


async def test_bytes_that_are_no_request_are_a_providers_failure(subject):
    """Nothing else is ever raised."""
    if subject.upstream:
        subject.upstream.router.post(subject.upstream.address).respond(400, json={"error": {"code": "bad"}})
    with pytest.raises(ProviderError) as caught:
        async for _ in subject.provider.stream(b"\xff not a request"):
            pass
    assert caught.value.status == 400 or subject.provider.name == "local"


@pytest.mark.parametrize("member", MEMBERS)
async def test_closing_may_be_done_twice(member):
    """A shutdown that is interrupted begins again."""
    subject = MEMBERS[member]()
    await answer(subject, subject.prompts[0])
    await subject.provider.aclose()
    await subject.provider.aclose()


# --- rules that need a certain upstream -------------------------------------------------------------------------------


async def test_an_upstream_gets_exactly_the_bytes_that_were_rendered():
    """What is on record is what was sent."""
    subject = openai()
    asked = prompt("gpt-5", "openai_text", max_output_tokens=7)
    await answer(subject, asked)
    assert subject.upstream.requests == [subject.render(asked)]


@pytest.mark.parametrize("cut", [1, 16, 17, 200, 700, 10_000])
async def test_a_stream_without_its_end_is_truncated(cut):
    """Whatever is missing: the end marker is, and no end is made up."""
    subject = openai()
    subject.upstream.cut = cut
    with pytest.raises(ProviderTruncated):
        await answer(subject, prompt("gpt-5", "openai_text"))


async def test_a_scripted_stream_without_its_end_is_truncated():
    """The fake keeps the same rule."""
    with pytest.raises(ProviderTruncated):
        await answer(scripted(), prompt("cut", "hi"))


async def test_leaving_closes_the_upstream():
    """Early, at the end, and after a failure."""
    subject = openai()
    chunks = subject.provider.stream(subject.render(prompt("gpt-5", "openai_text")))
    await anext(chunks)
    await chunks.aclose()
    await answer(subject, prompt("gpt-5", "openai_text"))
    subject.upstream.cut = 300
    with pytest.raises(ProviderTruncated):
        await answer(subject, prompt("gpt-5", "openai_text"))
    assert [stream.closed for stream in subject.upstream.streams] == [True, True, True]


async def test_a_failure_after_the_end_is_none():
    """The wire has said that it is over; what becomes of the connection changes nothing."""

    class Failing(Wire):
        async def __aiter__(self):
            async for piece in super().__aiter__():
                yield piece
            raise httpx.ReadError("gone")

    data = (WIRE / "openai_text.sse").read_bytes()
    respond = {"headers": {"content-type": "text/event-stream", "x-request-id": "req_1"}, "stream": Failing(data)}
    router = respx.Router()
    router.post(f"{ADDRESS}/chat/completions").respond(200, **respond)
    provider = OpenAIProvider(endpoint(router, api_key="sk-secret"))
    *_, ended = await answer(Subject(provider, []), prompt("gpt-5", "hi"))
    assert (ended.stop_reason, ended.request_id) == ("end_turn", "req_1")
    assert router.calls.last.request.headers["authorization"] == "Bearer sk-secret"


async def test_what_came_before_a_failure_is_given():
    """Also if both were in one packet."""

    class Whole(Wire):
        async def __aiter__(self):
            yield self.data

    data = b'data: {"choices":[{"index":0,"delta":{"content":"so far"}}]}\n\ndata: \xff\n\n'
    router = respx.Router()
    router.post(f"{ADDRESS}/chat/completions").respond(200, stream=Whole(data))
    provider = OpenAIProvider(endpoint(router))
    chunks = provider.stream(b"{}")
    assert [await anext(chunks), await anext(chunks)] == [BlockStarted(0, "text"), Delta(0, "so far")]
    with pytest.raises(ProviderMalformed):
        await anext(chunks)


# --- the echo ---------------------------------------------------------------------------------------------------------


async def test_the_echo_says_what_it_was_told():
    """The last user message, whole, in deltas of at most 4096 characters, with real counts."""
    subject, text = echo(), "\U0001f600ab" * 3000
    asked = Prompt("echo", (PromptMessage("user", (TextBlock("no"),)), *prompt("echo", text).messages), "Be brief.")
    chunks = await answer(subject, asked)
    deltas = [chunk.text for chunk in chunks if isinstance(chunk, Delta)]
    assert "".join(deltas) == text
    assert [len(delta) for delta in deltas] == [4096, 4096, 808]
    usage = next(chunk.usage for chunk in chunks if isinstance(chunk, UsageReported))
    assert usage.output_tokens == count_text(text)
    assert usage.input_tokens == count_text("Be brief.") + count_text("no") + count_text(text)


async def test_the_paced_echo_says_four_characters_every_twenty_milliseconds():
    """The first four at once."""
    loop, subject = asyncio.get_running_loop(), echo()
    chunks = subject.provider.stream(subject.render(prompt("paced", "\U0001f600bcdefgh, and so on")))
    times = [(chunk.text, loop.time()) async for chunk in chunks if isinstance(chunk, Delta)]
    assert [text for text, _ in times] == ["\U0001f600bcd", "efgh", ", an", "d so", " on"]
    assert 0.07 < times[-1][1] - times[0][1] < 5


# --- the local model --------------------------------------------------------------------------------------------------


async def until_dead(pid):
    """A zombie is dead: who should have buried it was killed."""
    for _ in range(250):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        await asyncio.sleep(0.02)
    pytest.fail("it is still alive")


LOCAL = prompt("smollm2-135m", "Hi.", max_output_tokens=2)


@pytest.mark.local
async def test_the_local_model_starts_again_when_it_has_died(local_provider):
    """Requests at that very moment get a new child, and all of them the same."""
    subject = Subject(local_provider, [LOCAL])
    before = local_provider._child.process.pid
    os.kill(before, signal.SIGKILL)
    answers = await asyncio.gather(*(answer(subject, LOCAL) for _ in range(3)))
    assert all(isinstance(chunks[-1], Ended) for chunks in answers)
    assert local_provider._child.process.pid != before
    await until_dead(before)


@pytest.mark.local
async def test_the_local_model_serves_nobody_else(local_provider):
    """Other users of the machine reach its port, and are turned away without the key."""
    child = local_provider._child
    async with httpx.AsyncClient() as client:
        for headers in ({}, {"authorization": "Bearer guess"}):
            answered = await client.post(f"{child.base_url}/chat/completions", json={}, headers=headers)
            assert answered.status_code == 401
    process = psutil.Process(child.process.pid)
    assert child.api_key not in f"{process.cmdline()} {process.environ()}"


@pytest.mark.local
async def test_the_local_model_is_beyond_the_terminals_interrupt(local_provider):
    """A Ctrl-C goes to the session of the server: the child is in another, until the turns are drained."""
    assert os.getsid(local_provider._child.process.pid) != os.getsid(0)


@pytest.mark.local
async def test_a_prompt_beyond_the_local_models_context_is_refused(local_provider):
    """By the server, as a failure of the request."""
    with pytest.raises(ProviderError) as caught:
        await answer(Subject(local_provider, []), prompt("smollm2-135m", "word " * 6000))
    assert (caught.value.retryable, caught.value.status) == (False, 400)


async def said(provider, **parameters):
    """The text of an answer, sampled at a high temperature."""
    asked = prompt("smollm2-135m", "Name a colour, and tell its story.", temperature=1.5, **parameters)
    return "".join(chunk.text for chunk in await answer(Subject(provider, []), asked) if isinstance(chunk, Delta))


@pytest.mark.local
async def test_the_local_model_keeps_to_a_seed(local_provider):
    """The same seed gives the same answer, another seed another, and the most likely tokens alone need no seed."""
    first = await said(local_provider, seed=7, max_output_tokens=16)
    assert await said(local_provider, seed=7, max_output_tokens=16) == first
    assert await said(local_provider, seed=8, max_output_tokens=16) != first
    likely = [await said(local_provider, seed=seed, top_k=1, max_output_tokens=16) for seed in (1, 2)]
    assert likely[0] == likely[1]


@pytest.mark.local
async def test_the_local_model_keeps_to_a_schema(local_provider):
    """An answer of a schema is JSON of that schema; without one it is any JSON object."""
    colour = b'{"type":"object","properties":{"colour":{"enum":["red","blue"]},"n":{"type":"integer","maximum":9}},'
    form = ResponseFormat("json_schema", "colour", msgspec.Raw(colour + b'"required":["colour","n"]}'))
    found = json.loads(await said(local_provider, response_format=form, max_output_tokens=60))
    assert found.keys() == {"colour", "n"}
    assert found["colour"] in {"red", "blue"}
    assert (await said(local_provider, response_format=ResponseFormat("json_object"), max_output_tokens=40))[0] == "{"


@pytest.mark.local
async def test_the_local_model_keeps_to_a_bias(local_provider):
    """A token that is forbidden is not said."""
    first = await said(local_provider, top_k=1, max_output_tokens=1)
    tokens = {str(token): -100.0 for token in range(1000)}
    assert await said(local_provider, top_k=1, max_output_tokens=1, logit_bias=tokens) != first


@pytest.mark.local
@pytest.mark.skipif(not local_model_available(), reason="THE LOCAL MODEL IS NOT TESTED: no extra `local`")
async def test_the_local_model_dies_with_its_server():
    """Also if that is killed in a way that it cannot see."""
    script = textwrap.dedent("""
        import asyncio, time
        from manent.engine.clock import SystemClock
        from manent.engine.providers.local.provider import LocalProvider

        async def main():
            provider = LocalProvider(clock=SystemClock(), connect_timeout_s=5)
            await provider.start()
            print(provider._child.process.pid, flush=True)
            time.sleep(60)

        asyncio.run(main())
    """)
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}
    )
    pid = int(await server.stdout.readline())
    assert psutil.pid_exists(pid)
    server.kill()
    await server.wait()
    await until_dead(pid)


@pytest.mark.local
@pytest.mark.skipif(not local_model_available(), reason="THE LOCAL MODEL IS NOT TESTED: no extra `local`")
async def test_closing_ends_the_local_model_for_good():
    """Its child is gone, and no request starts another."""
    provider = LocalProvider(clock=SystemClock(), connect_timeout_s=5)
    await provider.start()
    pid = provider._child.process.pid
    await provider.aclose()
    assert not psutil.pid_exists(pid)
    with pytest.raises(ProviderUnavailable):
        await provider.start()


@pytest.mark.parametrize("weights", [None, "not a model"])
async def test_a_local_model_that_cannot_start_is_unavailable(monkeypatch, tmp_path, weights):
    """Not installed, or broken: the failure says which, and no path."""
    path = tmp_path / "broken.gguf"
    path.write_text(weights or "")
    monkeypatch.setattr("manent.engine.providers.local.provider._weights", lambda: path if weights else None)
    provider = LocalProvider(clock=SystemClock(), connect_timeout_s=5)
    with pytest.raises(ProviderUnavailable, match="extra `local`" if weights is None else "could not load") as caught:
        await provider.start()
    assert str(tmp_path) not in caught.value.detail
    await provider.aclose()
