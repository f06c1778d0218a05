"""Limits on requests and tokens over HTTP: per key and per provider, refused with a time to come again and nothing on
record, or waited for.
"""

import hashlib
import json
import time

import pytest

from tests.api.conftest import settings_on
from tests.api.harness import in_thread, opened, problem

PEOPLE = {"alice": "default", "bob": "default", "carol": "elsewhere"}
SCRIPT = {
    "dear": [{"steps": [{"text": "Yes."}, {"usage": {"input_tokens": 10, "output_tokens": 110}}]}],
    "rounds": [
        {
            "steps": [
                {"tool": {"id": "a", "name": "echo", "input": {"text": "x"}}},
                {"usage": {"input_tokens": 150, "output_tokens": 100}},
            ]
        },
        {"steps": [{"text": "Done."}]},
    ],
    "unavailable": [{"steps": [{"fail": {"code": "provider_unavailable", "status": 503}}]}],
    "hang": [{"steps": [{"text": "Wait"}, {"hang": True}]}],
}


@pytest.fixture
def serving(tmp_path):
    """A server with these limits, and keys for people where they are asked for."""

    def serve(*, keys=False, **limits):
        settings = settings_on(tmp_path, max_attempts=1, **limits)
        (tmp_path / "script.json").write_text(json.dumps({"models": SCRIPT}), encoding="utf-8")
        if not keys:
            return in_thread(settings)
        file = tmp_path / "keys.json"
        entries = [
            {"id": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "tenant": tenant}
            for name, tenant in PEOPLE.items()
        ]
        file.write_text(json.dumps(entries), encoding="utf-8")
        return in_thread(settings_on(tmp_path, api_keys_file=str(file), **limits))

    return serve


def as_(name):
    return {"Authorization": f"Bearer {name}"}


def begin(client, model="echo/echo", **options):
    return client.post("/api/sessions", json={"model": model}, **options).headers["location"]


def ask(client, path, content="x", **options):
    return client.post(f"{path}/turns", json={"content": content, **options.pop("body", {})}, **options)


def done(response):
    assert response.status_code == 200, response.text
    assert response.json()["status"] == "completed"


def refused(response, limit, maximum):
    """Over a limit, which is named, with the seconds after which one may come again."""
    body = problem(response, 429, "rate_limited")
    assert (body["limit"], body["maximum"]) == (limit, maximum)
    assert 1 <= body["retry_after_s"] == int(response.headers["retry-after"]) <= 60
    return body["retry_after_s"]


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_starts_so_many_turns_a_minute(serving):
    """The next one is refused, streamed or not, with nothing on record; others are not, nor is what starts no turn."""
    with serving(keys=True, key_requests_per_min=2) as server, server.client() as client:
        paths = {name: begin(client, headers=as_(name)) for name in PEOPLE}
        done(ask(client, paths["alice"], headers=as_("alice")))
        done(ask(client, paths["alice"], headers=as_("alice")))
        before = server.size()
        for body in ({}, {"stream": True}):
            answer = ask(client, paths["alice"], body=body, headers=as_("alice"))
            assert 29 <= refused(answer, "key_requests_per_min", 2) <= 30
        assert server.size() == before
        done(ask(client, paths["alice"], headers=as_("bob")))
        done(ask(client, paths["carol"], headers=as_("carol")))
        message = {"content": "For the record."}
        assert client.post(f"{paths['alice']}/messages", json=message, headers=as_("alice")).status_code == 201
        assert client.get(f"{paths['alice']}/turns", headers=as_("alice")).status_code == 200


def test_only_turns_that_start_count(serving):
    """What is refused for another reason does not, and a repetition under its key is answered again, however often."""
    with serving(key_requests_per_min=2) as server, server.client() as client:
        path = begin(client)
        for body in ({"model": "x/y"}, {"content": ""}, {"tools": ["none"]}):
            assert client.post(f"{path}/turns", json={"content": "x"} | body).status_code == 400
        hanging = begin(client, "scripted/hang")
        keyed = {"headers": {"Idempotency-Key": "once", "Prefer": "respond-async"}}
        first = ask(client, hanging, **keyed)
        assert first.status_code == 202
        for _ in range(3):
            assert ask(client, hanging, **keyed).json()["id"] == first.json()["id"]
            problem(ask(client, hanging), 409, "turn_already_open")
        client.post(f"/api/turns/{first.json()['id']}/cancel")
        assert ask(client, hanging, **keyed).json()["status"] == "cancelled"
        done(ask(client, path))
        refused(ask(client, path), "key_requests_per_min", 2)


def test_a_key_uses_so_many_tokens_a_minute(serving):
    """Counted is what a turn used, also beyond what was planned: the next one waits for it. Without keys everybody here
    is one.
    """
    with serving(key_tokens_per_min=100) as server, server.client() as client:
        path = begin(client, "scripted/dear")
        done(ask(client, path))
        before = server.size()
        assert 10 <= refused(ask(client, path), "key_tokens_per_min", 100) <= 20
        assert server.size() == before
        too_much = ask(client, begin(client), "word " * 500)
        body = problem(too_much, 413, "too_large")
        assert (body["limit"], body["maximum"]) == ("key_tokens_per_min", 100)


def test_a_turn_that_runs_goes_on(serving):
    """Its later rounds are counted, and not refused."""
    with serving(key_tokens_per_min=200) as server, server.client() as client:
        path = begin(client, "scripted/rounds")
        turn = ask(client, path, body={"tools": ["echo"]}).json()
        assert (turn["status"], len(turn["attempts"])) == ("completed", 2)
        assert turn["usage"]["input_tokens"] + turn["usage"]["output_tokens"] > 250
        refused(ask(client, path), "key_tokens_per_min", 200)


def test_tokens_come_with_time(serving):
    """Who comes again after as many seconds as were named is answered."""
    with serving(key_requests_per_min=60) as server, server.client() as client:
        path = begin(client)
        while (answer := ask(client, path)).status_code == 200:
            pass
        time.sleep(refused(answer, "key_requests_per_min", 60))
        done(ask(client, path))


@pytest.mark.parametrize("route", ["complete", "chat", "stream"])
def test_the_guides_calls_count(serving, route):
    """In that toolkit's words; no session is begun for what is refused."""
    with serving(key_requests_per_min=1) as server, server.client() as client:

        def call():
            if route == "stream":
                return client.get("/api/ai/stream", params={"q": "x"})
            return client.post(f"/api/ai/{route}", json={"message": "x"})

        assert call().status_code == 200
        before = server.size()
        answer = call()
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) == answer.json()["error"]["details"]["retry_after_s"]
        assert server.size() == before


# --- providers --------------------------------------------------------------------------------------------------------


def test_a_providers_requests_wait(serving):
    """A turn over the limit starts, and is answered when its time has come; another provider's does not wait."""
    with serving(provider_requests_per_min=30) as server, server.client() as client:
        path, begun = begin(client), time.monotonic()
        for _ in range(30):
            done(ask(client, path))
        with opened(client, "POST", f"{path}/turns", json={"content": "x", "stream": True}) as stream:
            assert next(iter(stream)).event == "turn.started"
            done(ask(client, begin(client, "scripted/dear")))
            stream.until("turn.completed")
        done(ask(client, path))
        assert time.monotonic() - begun > 3.9  # two beyond the limit, one every two seconds


def test_a_providers_limit_that_would_be_waited_for_too_long(serving):
    """It is refused at once, with nothing on record, and which limit it was."""
    with serving(provider_requests_per_min=1, provider_wait_s=5) as server, server.client() as client:
        path = begin(client)
        done(ask(client, path))
        before = server.size()
        refused(ask(client, path), "provider_requests_per_min", 1)
        answer = client.post("/api/ai/chat", json={"message": "x"})
        assert (answer.status_code, answer.json()["error"]["details"]["limit"]) == (429, "provider_requests_per_min")
        assert server.size() == before
        done(ask(client, begin(client, "scripted/dear")))


def test_a_providers_tokens(serving):
    """Counted by what the provider says was used."""
    with serving(provider_tokens_per_min=100, provider_wait_s=1) as server, server.client() as client:
        path = begin(client, "scripted/dear")
        done(ask(client, path))
        refused(ask(client, path), "provider_tokens_per_min", 100)
        done(ask(client, begin(client)))


def test_each_attempt_counts_for_its_provider(serving):
    """A later round that would wait too long fails its turn, which names the limit; its calls have their results."""
    with serving(provider_requests_per_min=1, provider_wait_s=1) as server, server.client() as client:
        path = begin(client, "scripted/rounds")
        turn = ask(client, path, body={"tools": ["echo"]}).json()
        assert (turn["status"], turn["error"]["code"], turn["error"]["retryable"]) == ("failed", "rate_limited", True)
        assert (turn["error"]["limit"], turn["error"]["maximum"]) == ("provider_requests_per_min", 1)
        assert [message["role"] for message in turn["messages"]] == ["assistant", "tool"]
        done(ask(client, path, body={"model": "echo/echo"}))


def test_a_fallback_answers_for_a_provider_that_is_at_its_limit(serving):
    """Nobody waits for it in the midst of a turn while there is another."""
    with serving(provider_requests_per_min=1, provider_wait_s=1) as server, server.client() as client:
        fields = {"model": "scripted/rounds", "fallback_model": "echo/echo"}
        path = client.post("/api/sessions", json=fields).headers["location"]
        turn = ask(client, path, "Hello.", body={"tools": ["echo"]}).json()
        assert (turn["status"], turn["message"]["content"][0]["text"]) == ("completed", "Hello.")
        assert [each["outcome"] for each in turn["attempts"]] == ["completed", "rate_limited", "completed"]


def test_a_turn_that_waits_can_be_cancelled(serving):
    """It ends at once, and its place is free for the next."""
    with serving(provider_requests_per_min=6, provider_wait_s=30) as server, server.client() as client:
        path, other = begin(client), begin(client)
        for _ in range(6):
            done(ask(client, path))
        waits = ask(client, path, headers={"Prefer": "respond-async"}).json()
        assert waits["status"] == "running"
        assert client.post(f"/api/turns/{waits['id']}/cancel").json()["status"] == "cancelled"
        begun = time.monotonic()
        done(ask(client, other))
        assert time.monotonic() - begun < 12


def test_a_failed_request_uses_no_tokens(serving):
    """A provider that did not answer gives its tokens back; the request was made."""
    limits = {"key_tokens_per_min": 10, "provider_tokens_per_min": 10, "provider_wait_s": 1}
    with serving(**limits) as server, server.client() as client:
        for _ in range(6):
            turn = ask(client, begin(client, "scripted/unavailable"), "a b c d").json()
            assert turn["error"]["code"] == "provider_unavailable"
        done(ask(client, begin(client), "a b c d"))
