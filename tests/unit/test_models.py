"""The registry of providers: names of models, how they are routed, and what is said of unknown ones."""

import httpx
import pytest

from manent.engine.clock import SystemClock
from manent.engine.errors import Invalid, UnknownModel
from manent.engine.providers.echo import EchoProvider
from manent.engine.providers.openai.chat import OpenAIProvider
from manent.engine.providers.openai.vendor import OPENAI
from manent.engine.providers.registry import Providers
from manent.engine.providers.wire.vendor import Endpoint


class Named:
    """A provider that serves whatever it is asked for, under a name."""

    renderer = "named/1"

    def __init__(self, name):
        self.name = name
        self.renderers = {}
        self.closed = 0

    def models(self):
        return ()

    def model(self, name):
        return EchoProvider(len).model("echo") if name == "echo" else openai().model(name)

    def stream(self, request):
        raise NotImplementedError

    async def aclose(self):
        self.closed += 1


def openai(**options):
    """One that is never asked."""
    legacy = {"legacy_max_tokens": options.pop("legacy_max_tokens", False)}
    where = {"clock": SystemClock(), "connect_timeout_s": 5, "transport": httpx.AsyncBaseTransport()}
    return OpenAIProvider(Endpoint(**where, **options), **legacy)


@pytest.fixture
def providers():
    return Providers([openai(), EchoProvider(len), Named("anthropic")])


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("echo/echo", "echo/echo"),
        ("echo/paced", "echo/paced"),
        ("openai/gpt-5", "openai/gpt-5"),
        ("openai/meta-llama/Llama-3.1:8b@q4+x_y", "openai/meta-llama/Llama-3.1:8b@q4+x_y"),
        ("anthropic/claude-sonnet-4-6", "anthropic/claude-sonnet-4-6"),
        ("claude-sonnet-4-6", "anthropic/claude-sonnet-4-6"),
        ("gpt-5", "openai/gpt-5"),
        ("gpt-4o-2024-08-06", "openai/gpt-4o-2024-08-06"),
        ("chatgpt-4o-latest", "openai/chatgpt-4o-latest"),
        ("o1", "openai/o1"),
        ("o3-mini", "openai/o3-mini"),
        ("o4-mini", "openai/o4-mini"),
    ],
)
def test_a_model_is_found_by_its_full_name_or_its_prefix(providers, name, full):
    """Both ways lead to the same provider and the same full name."""
    provider, info = providers.resolve(name)
    assert f"{provider.name}/{info.name}" == full
    assert providers.canonical(name) == providers.canonical(full) == full


@pytest.mark.parametrize(
    "name",
    [
        "echo/other",
        "nobody/gpt-5",
        "gpt",
        "llama3",
        "echo",
        "echo/",
        "openai/",
        "/gpt-5",
        "o1/mini",
        "gpt-5/x",
        "o2",
        "",
        " gpt-5",
        "gpt-5\n",
        "openai/gpt 5",
        "openai/gpt-5?",
        "openai/" + "x" * 122,
        "ōpenai/gpt-5",
        "-gpt",
    ],
)
def test_an_unknown_model_is_refused_with_what_there_is(providers, name):
    """Never a guess, and never a name that could not be one."""
    with pytest.raises(UnknownModel) as caught:
        providers.resolve(name)
    assert caught.value.extra["field"] == "model"
    assert caught.value.extra["available"] == providers.available()
    assert "echo/echo" in providers.available()


def test_what_is_no_name_is_not_said_back(providers):
    """A detail holds no text of anybody's."""
    with pytest.raises(UnknownModel) as caught:
        providers.resolve("<script>")
    assert "script" not in caught.value.detail


def test_a_bare_name_whose_provider_is_missing_is_unknown():
    """It is not given to another."""
    with pytest.raises(UnknownModel):
        Providers([EchoProvider(len)]).resolve("gpt-5")


async def test_closing_closes_all():
    """The registry owns its providers."""
    members = [Named("a"), Named("b")]
    await Providers(members).aclose()
    assert [member.closed for member in members] == [1, 1]


def test_two_providers_of_one_name_are_a_mistake():
    """A name on record stands for one."""
    with pytest.raises(AssertionError, match="echo"):
        Providers([EchoProvider(len), EchoProvider(len)])


# --- what OpenAI's adapter knows of models ----------------------------------------------------------------------------


def test_known_models_have_their_sizes_and_any_may_be_served():
    """A dated name is known by the name without its date."""
    vendor = openai()
    assert vendor.model("gpt-4o-2024-08-06").context_tokens == vendor.model("gpt-4o").context_tokens == 128_000
    assert vendor.model("gpt-99").context_tokens is None
    assert {info.family for info in vendor.models()} == {"o200k"}


def test_another_server_has_other_models():
    """Nothing is claimed of what it serves."""
    other = openai(base_url="http://127.0.0.1:11434/v1/", legacy_max_tokens=True)
    assert list(other.models()) == []
    assert other.model("gpt-4o").context_tokens is None
    assert other.renderer == "openai-chat-compat/1"
    assert openai(base_url=OPENAI.url + "/").models()


@pytest.mark.parametrize(
    "base_url",
    [
        "api.openai.com/v1",
        "ftp://x/v1",
        "http://",
        "http://user:secret@x/v1",
        "http://x/v1?key=secret",
        "http://x/v1#secret",
        "http://x:port/v1",
        "http://[/v1",
        "",
    ],
)
def test_a_base_url_that_can_be_none_is_refused(base_url):
    """The setting is named, and what stood in it is not: it may have held a key."""
    with pytest.raises(Invalid, match="openai_base_url") as caught:
        openai(base_url=base_url)
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize("key", ["sk-\n", "sk secret", "sk-sécret", "sk-\x00"])
def test_a_key_that_can_be_none_is_refused(key):
    """Before it breaks a request, and without showing it."""
    with pytest.raises(Invalid, match="openai_api_key") as caught:
        openai(api_key=key)
    assert "sk" not in caught.value.detail


@pytest.mark.parametrize(
    ("name", "listed"),
    [("gpt-5", True), ("gpt-5-2025-08-07", True), ("gpt-5-1985-03-12", False), ("gpt-5-2025-13-45", False)],
)
def test_a_snapshot_is_listed_by_a_day_of_this_age(providers, name, listed):
    """Other digits may be anybody's birthday: such a name is words."""
    assert providers.resolve(f"openai/{name}")[1].listed is listed
