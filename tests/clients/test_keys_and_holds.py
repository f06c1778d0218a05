"""Keys, tenants, limits, erasures, holds and disconnects, as the vendors' own clients meet them."""

import hashlib
import json

import anthropic
import openai
import pytest

from manent import engine
from tests.api.conftest import SCRIPT
from tests.api.harness import Process, problem

pytestmark = [pytest.mark.clients, pytest.mark.slow]

KEYS = {
    "ann": ("default", ["chat"]),
    "bob": ("default", ["chat"]),
    "eve": ("elsewhere", ["chat"]),
    "dpo": ("default", ["chat", "audit", "erase", "operate"]),
}
LONG = [{"steps": [{"text": "Slowly but surely.", "chunk_chars": 1, "every_ms": 150}]}]
"""It takes longer than the grace."""
OPTIONS = {"max_retries": 0}


class OpenAi:
    """OpenAI's client."""

    limited, refused = openai.RateLimitError, openai.AuthenticationError
    conflict, bad = openai.ConflictError, openai.BadRequestError
    missing = openai.NotFoundError
    left_header = "x-ratelimit-remaining-requests"

    def client(self, url, key):
        return openai.OpenAI(base_url=f"{url}/v1", api_key=f"sk-{key}", **OPTIONS)

    def ask(self, client, *messages, model="echo/echo", **options):
        """The answer's message as it is sent again, its words, and its session."""
        raw = client.chat.completions.with_raw_response.create(model=model, messages=messages, **options)
        message = raw.parse().choices[0].message
        return message, message.content, raw.headers["x-manent-session"]

    def opened(self, client, *messages, model):
        """A stream of which the first piece has come; close it to leave."""
        raw = client.chat.completions.with_raw_response.create(model=model, messages=messages, stream=True)
        stream = raw.parse()
        next(iter(stream))
        return stream, raw.headers["x-manent-session"], raw.headers["x-manent-turn"]


class Anthropic:
    """Anthropic's client."""

    limited, refused = anthropic.RateLimitError, anthropic.AuthenticationError
    conflict, bad = anthropic.ConflictError, anthropic.BadRequestError
    missing = anthropic.NotFoundError
    left_header = "anthropic-ratelimit-requests-remaining"

    def client(self, url, key):
        return anthropic.Anthropic(base_url=url, api_key=f"sk-{key}", **OPTIONS)

    def ask(self, client, *messages, model="echo/echo", **options):
        """As of the other."""
        raw = client.messages.with_raw_response.create(model=model, max_tokens=100, messages=messages, **options)
        content = raw.parse().content
        message = {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in content]}
        return message, content[0].text, raw.headers["x-manent-session"]

    def opened(self, client, *messages, model):
        """As of the other."""
        raw = client.messages.with_raw_response.create(model=model, max_tokens=100, messages=messages, stream=True)
        stream = raw.parse()
        next(iter(stream))
        return stream, raw.headers["x-manent-session"], raw.headers["x-manent-turn"]


@pytest.fixture(params=[OpenAi(), Anthropic()], ids=["openai", "anthropic"])
def sdk(request):
    return request.param


def process(folder, **environment):
    keys = [
        {"id": name, "sha256": hashlib.sha256(f"sk-{name}".encode()).hexdigest(), "tenant": tenant, "scopes": scopes}
        for name, (tenant, scopes) in KEYS.items()
    ]
    (folder / "keys.json").write_text(json.dumps(keys), encoding="utf-8")
    (folder / "script.json").write_text(json.dumps({"models": SCRIPT | {"long": LONG}}), encoding="utf-8")
    files = {"MANENT_API_KEYS_FILE": str(folder / "keys.json"), "MANENT_SCRIPT": str(folder / "script.json")}
    return Process(folder / "manent.db", MANENT_DRAIN_S="1", **files, **environment)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with keys; when all is done its log is verified and folded again."""
    folder = tmp_path_factory.mktemp("keys")
    with process(folder, MANENT_DISCONNECT_GRACE_S="1") as server:
        yield server
        assert server.stop() == 0
    assert engine.verify_database(str(server.database)).problem is None
    assert engine.rebuild_projections(str(server.database)).differed == ()


@pytest.fixture
def http(server):
    """Manent's own routes, for whoever may erase."""
    with server.client(headers={"authorization": "Bearer sk-dpo"}) as client:
        yield client


def user(words):
    return {"role": "user", "content": words}


def said(http, session):
    """The roles and words of a session; None for words that are erased."""
    items = http.get(f"/api/sessions/{session}/messages").raise_for_status().json()["items"]
    return [(each["role"], None if each["erased"] else each["content"][0]["text"]) for each in items]


def ended(http, session, turn, status):
    """Wait for the event of a turn's end: who asks for the turn itself again and again counts as a reader of it."""
    path = f"/api/sessions/{session}/events"
    ends = http.get(path, params={"types": f"turn.{status}", "wait": 20}).json()["items"]
    assert [each["facts"]["turn"] for each in ends] == [turn]


# --- keys and tenants -------------------------------------------------------------------------------------------------


def test_a_wrong_key_is_the_clients_own_error(server, sdk):
    """And so is none of the right scope."""
    with sdk.client(server.url, "nobody") as client, pytest.raises(sdk.refused):
        sdk.ask(client, user("x"))


def test_keys_do_not_see_each_others_histories(server, http, sdk):
    """Whoever sends the history of another key begins a session of its own, in which no model has said it."""
    question = user(f"Is this ours, {sdk.__doc__}?")
    with sdk.client(server.url, "ann") as ann, sdk.client(server.url, "bob") as bob:
        answer, _, session = sdk.ask(ann, question)
        _, _, other = sdk.ask(bob, question, answer, user("And now?"))
        _, _, again = sdk.ask(ann, question, answer, user("And now?"))
    assert again == session != other
    messages = http.get(f"/api/sessions/{other}/messages").json()["items"]
    assert (messages[1]["model"], messages[1]["actor"]) == (None, messages[0]["actor"])
    assert "bob" in messages[1]["actor"]


def test_a_tenant_is_told_of_no_others_session(server, sdk):
    """Neither by its history, nor by its name."""
    question = user(f"Whose is it, {sdk.__doc__}?")
    with sdk.client(server.url, "ann") as ann, sdk.client(server.url, "eve") as eve:
        answer, _, session = sdk.ask(ann, question)
        assert sdk.ask(eve, question, answer, user("Mine?"))[2] != session
        with pytest.raises(sdk.missing):
            sdk.ask(eve, user("Mine?"), extra_headers={"x-manent-session": session})


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_keys_limit_is_the_clients_own_error(tmp_path, sdk):
    """With the time to come again, and what is left, in the protocol's headers; another key has its own."""
    with process(tmp_path, MANENT_KEY_REQUESTS_PER_MIN="2") as server:
        with sdk.client(server.url, "ann") as ann, sdk.client(server.url, "bob") as bob:
            for number in range(2):
                sdk.ask(ann, user(f"{number}"))
            with pytest.raises(sdk.limited) as caught:
                sdk.ask(ann, user("one too many"))
            sdk.ask(bob, user("mine"))
        assert 0 < int(caught.value.response.headers["retry-after"]) <= 60
        assert caught.value.response.headers[sdk.left_header] == "0"


# --- erasures and holds -----------------------------------------------------------------------------------------------


def test_an_erased_conversation_goes_on_elsewhere(server, http, sdk):
    """The client still has the words and sends them: they are recorded anew, as its own, and the old ones stay gone."""
    question = user(f"Forget it, {sdk.__doc__}.")
    with sdk.client(server.url, "ann") as client:
        answer, _, session = sdk.ask(client, question)
        erased = http.post(f"/api/sessions/{session}/erase", json={"reason": "asked to"})
        assert erased.status_code == 200, erased.text
        _, words, other = sdk.ask(client, question, answer, user("Go on."))
    assert words == "Go on."
    assert other != session
    assert said(http, session) == [("user", None), ("assistant", None)]
    assert [role for role, _ in said(http, other)] == ["user", "assistant"] * 2
    assert http.get(f"/api/sessions/{other}/messages").json()["items"][1]["model"] is None


def test_a_conversation_that_is_erased_in_part(server, http, sdk):
    """From the erased message on there is nothing to be recognised by; what stood before is still shared."""
    first = user(f"Keep this, {sdk.__doc__}.")
    with sdk.client(server.url, "ann") as client:
        one, _, session = sdk.ask(client, first)
        second = [first, one, user("Not this.")]
        two, _, same = sdk.ask(client, *second)
        assert same == session
        versions = [each["version"] for each in http.get(f"/api/sessions/{session}/messages").json()["items"]]
        http.post(f"/api/sessions/{session}/erase", json={"versions": versions[2:], "reason": "asked to"})
        _, _, other = sdk.ask(client, *second, two, user("Go on."))
    assert other != session
    assert [words is None for _, words in said(http, session)] == [False, False, True, True]
    assert http.get(f"/api/sessions/{other}").json()["parent"]["session_id"] == session


def test_a_session_under_a_hold_goes_on_and_keeps_its_words(server, http, sdk):
    """A hold forbids erasing, and nothing else."""
    question = user(f"Hold this, {sdk.__doc__}.")
    with sdk.client(server.url, "ann") as client:
        answer, _, session = sdk.ask(client, question)
        assert http.patch(f"/api/sessions/{session}", json={"legal_hold": True}).status_code == 200
        _, _, again = sdk.ask(client, question, answer, user("Go on."))
        _, _, fork = sdk.ask(client, question, answer, user("Or otherwise."))
    assert again == session != fork
    problem(http.post(f"/api/sessions/{session}/erase", json={"reason": "asked to"}), 409, "legal_hold")
    assert None not in [words for _, words in said(http, session)]


def test_an_archived_session_that_is_named(server, http, sdk):
    """Is the client's own error; a history that stands there goes on in a fork or is refused, and never lost."""
    question = user(f"Archive this, {sdk.__doc__}.")
    with sdk.client(server.url, "ann") as client:
        answer, _, session = sdk.ask(client, question)
        assert http.patch(f"/api/sessions/{session}", json={"status": "archived"}).status_code == 200
        with pytest.raises(sdk.bad):
            sdk.ask(client, user("Go on."), extra_headers={"x-manent-session": session})
        _, words, other = sdk.ask(client, question, answer, user("Go on."))
    assert (words, other == session) == ("Go on.", False)


# --- disconnects ------------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_is_waited_for(server, http, sdk):
    """And then no longer: its turn is cancelled, and what came is on record."""
    with sdk.client(server.url, "ann") as client:
        stream, place, turn = sdk.opened(client, user("Wait."), model="scripted/hang")
        stream.close()
    assert http.get(f"/api/turns/{turn}").json()["status"] == "running"
    ended(http, place, turn, "cancelled")
    assert http.get(f"/api/turns/{turn}").json()["message"]["content"][0]["text"] == "Wait"


def test_whoever_reads_on_keeps_a_turn_going(server, http, sdk):
    """A turn is cancelled only after its last reader has left: another may read it by Manent's own route."""
    with sdk.client(server.url, "ann") as client:
        stream, place, turn = sdk.opened(client, user("Slowly."), model="scripted/long")
        with http.stream("GET", f"/api/turns/{turn}/stream") as reader:
            stream.close()
            reader.read()
    ended(http, place, turn, "completed")


def test_a_session_that_waits_for_its_client_goes_on_in_a_fork(server, http, sdk):
    """While a turn runs, the same history with other words is a fork and no conflict."""
    question = user(f"Meanwhile, {sdk.__doc__}.")
    with sdk.client(server.url, "ann") as client:
        answer, _, session = sdk.ask(client, question)
        stream, place, turn = sdk.opened(client, question, answer, user("Wait."), model="scripted/hang")
        _, words, fork = sdk.ask(client, question, answer, user("Not I."))
        stream.close()
    assert (words, fork == session) == ("Not I.", False)
    ended(http, place, turn, "cancelled")
