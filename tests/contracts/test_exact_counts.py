"""An exact count of tokens: the vendor's own, of the very bytes it would be sent."""

import httpx
import msgspec
import pytest
import respx

from manent.engine.clock import SystemClock
from manent.engine.errors import NoExactCount, ProviderRejected, ProviderUnavailable
from manent.engine.events.usage import Usage
from manent.engine.providers.anthropic.messages import ClaudeProvider
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended, ModelInfo, UsageReported
from manent.engine.providers.catalogue import Catalogue, catalogued
from manent.engine.providers.tokens import COUNTER
from manent.engine.providers.wire.vendor import Endpoint
from tests.support import Dictated, chatting, query

ADDRESS = "https://claude.test"


@pytest.fixture
def router():
    router = respx.Router()
    yield router
    router.assert_all_called()


def claude(router):
    transport = httpx.MockTransport(router.async_handler)
    endpoint = Endpoint(clock=SystemClock(), connect_timeout_s=1, base_url=ADDRESS, transport=transport)
    provider = ClaudeProvider(endpoint)
    return catalogued(provider, Catalogue.load())


async def test_the_vendor_counts_what_it_would_be_sent(tmp_path, router):
    """The window's tokens are the vendor's figure, and it was asked about the window's messages and system prompt."""
    route = router.post(f"{ADDRESS}/v1/messages/count_tokens").respond(200, json={"input_tokens": 4321})
    async with chatting(tmp_path / "a.db", providers=(claude(router),)) as chat:
        session = await chat.create_session(model="claude-sonnet-4-6", system="Be brief.")
        await chat.append_message(session.id, "Is this counted?")
        window = await chat.window(session.id, exact=True)
        assert (window.used_tokens, window.exact) == (4321, True)
        estimated = await chat.window(session.id)
        assert not estimated.exact
        assert estimated.used_tokens < 4321
    asked = msgspec.json.decode(route.calls.last.request.content)
    assert asked["messages"][0]["role"] == "user"
    assert "Be brief." in msgspec.json.encode(asked["system"]).decode()
    assert asked.keys() <= {"model", "messages", "system", "tools", "tool_choice", "thinking"}


async def test_a_failed_count_is_the_providers_failure(tmp_path, router):
    """Nothing is estimated in its place."""
    router.post(f"{ADDRESS}/v1/messages/count_tokens").respond(401, json={"error": {"type": "authentication_error"}})
    async with chatting(tmp_path / "a.db", providers=(claude(router),)) as chat:
        session = await chat.create_session(model="claude-sonnet-4-6")
        await chat.append_message(session.id, "x")
        with pytest.raises(ProviderRejected):
            await chat.window(session.id, exact=True)


async def test_who_does_not_count_says_so(tmp_path):
    """An estimate is never given out as exact."""
    async with chatting(tmp_path / "a.db") as chat:
        session = await chat.create_session(model="echo/echo")
        await chat.append_message(session.id, "x")
        with pytest.raises(NoExactCount):
            await chat.window(session.id, exact=True)


async def test_the_vendor_counts_a_text_or_blocks(tmp_path, router):
    """Of a user's message of these, and nothing else; the answer names who counted."""
    route = router.post(f"{ADDRESS}/v1/messages/count_tokens").respond(200, json={"input_tokens": 4321})
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    async with chatting(tmp_path / "a.db", providers=(claude(router),)) as chat:
        for content in ("Is this counted?", (msgspec.Raw(msgspec.json.encode(image)),)):
            count = await chat.count_tokens("claude-sonnet-4-6", content)
            assert (count.model, count.tokens) == ("anthropic/claude-sonnet-4-6", 4321)
            assert (count.counter, count.exact) == ("anthropic", True)
    assert [msgspec.json.decode(call.request.content)["messages"] for call in route.calls] == [
        [{"role": "user", "content": [{"type": "text", "text": "Is this counted?"}]}],
        [{"role": "user", "content": [image]}],
    ]


async def test_a_result_alone_is_no_request_that_a_vendor_counts(tmp_path):
    """It is estimated, and says so; the vendor is not asked."""
    result = msgspec.Raw(b'{"type":"tool_result","tool_use_id":"a","content":"Rain."}')
    async with chatting(tmp_path / "a.db", providers=(claude(respx.Router()),)) as chat:
        count = await chat.count_tokens("claude-sonnet-4-6", (result,))
        assert (count.counter, count.exact) == (COUNTER, False)
        assert count.tokens > 10


async def test_a_count_of_a_text_that_fails_is_the_providers_failure(tmp_path, router):
    """Nothing is estimated in its place, here neither."""
    router.post(f"{ADDRESS}/v1/messages/count_tokens").respond(529, json={"error": {"type": "overloaded_error"}})
    async with chatting(tmp_path / "a.db", providers=(claude(router),)) as chat:
        with pytest.raises(ProviderUnavailable):
            await chat.count_tokens("claude-sonnet-4-6", "x")


class Unlisted:
    """A server of one's own: it serves models that nobody lists, and counts many tokens."""

    name = "dictated"
    renderer, renderers = Dictated.renderer, Dictated.renderers

    def models(self):
        return []

    def model(self, name):
        return ModelInfo(name, family="echo", listed=False)

    async def stream(self, request):
        yield BlockStarted(0, "text")
        yield Delta(0, "Fine.")
        yield BlockStopped(0)
        yield UsageReported(Usage(input_tokens=1000, output_tokens=2))
        yield Ended("end_turn")

    async def aclose(self):
        """There is nothing to release."""


async def test_what_one_unlisted_model_counts_is_not_said_of_another(tmp_path):
    """They have one name in facts, and each its own way to count: none of them is calibrated."""
    async with chatting(tmp_path / "a.db", providers=(Unlisted(),)) as chat:
        session = await chat.create_session(model="dictated/one")
        for number in range(12):
            assert (await chat.say(session.id, f"Question {number}")).usage.input_tokens == 1000
        window = await chat.window(session.id, model="dictated/two")
        fresh = await chat.create_session(model="dictated/two")
        await chat.append_message(fresh.id, "x")
        assert window.factor_permille == (await chat.window(fresh.id)).factor_permille == 1000
    assert query(tmp_path / "a.db", "SELECT count(*) FROM calibrations") == [(0,)]
