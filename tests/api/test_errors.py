"""What the server itself does wrong, or cannot do: told without a word too many, and every error has its status."""

import json

import pytest

from manent import engine
from manent.api.http.errors import problem_of
from manent.engine import EngineError, Frame
from manent.engine.errors import (
    BudgetTooSmall,
    IdempotencyMismatch,
    Invalid,
    Overloaded,
    ProviderTimedOut,
    ProviderUnavailable,
    RecordDamaged,
    SessionArchived,
    SessionNotFound,
    ShuttingDown,
    StoreCorrupt,
    StoreFull,
    TooLarge,
    ToolResultsMissing,
    TurnAlreadyOpen,
    VersionConflict,
)
from tests.api.harness import opened, problem

SECRET = "sk-secret in /srv/manent.db"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (SessionNotFound("x"), 404, "session_not_found"),
        (Invalid("title", "x"), 400, "invalid_value"),
        (SessionArchived("x"), 409, "session_archived"),
        (ToolResultsMissing("x"), 409, "tool_results_missing"),
        (TurnAlreadyOpen("x"), 409, "turn_already_open"),
        (VersionConflict("x", current_version=3), 412, "version_conflict"),
        (TooLarge("x"), 413, "too_large"),
        (BudgetTooSmall("x"), 422, "budget_too_small"),
        (IdempotencyMismatch("x"), 422, "idempotency_mismatch"),
        (Overloaded("x", retry_after_s=5), 503, "overloaded"),
        (ShuttingDown("x", retry_after_s=5), 503, "shutting_down"),
        (ProviderUnavailable("x"), 503, "provider_unavailable"),
        (ProviderTimedOut("x"), 504, "provider_timed_out"),
        (StoreFull("x"), 507, "store_full"),
        (StoreCorrupt("x"), 503, "store_corrupt"),
        (RecordDamaged.at(7), 500, "record_damaged"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, EngineError) else None,
)
def test_errors_of_the_engine(error, status, code):
    """Each has the status that the contract gives it."""
    told = problem_of(error)
    assert (told.status, told.code, told.detail) == (status, code, error.detail)
    assert told.headers.get("retry-after") == ("5" if isinstance(error, Overloaded) else None)


def test_no_error_of_the_engine_is_the_servers_mistake():
    """Every class of the tree below its root has a row. Damage is no mistake either, and is 500: asking again changes
    nothing, as 503 would promise.
    """
    kinds = [kind for kind in vars(engine.errors).values() if isinstance(kind, type) and issubclass(kind, EngineError)]
    assert len(kinds) > 25
    for kind in set(kinds) - {EngineError, RecordDamaged}:
        error = kind.__new__(kind)
        error.detail, error.extra = "x", {}
        assert problem_of(error).status != 500, kind


@pytest.fixture
def broken(server, monkeypatch):
    """Makes a call to the engine fail."""

    def make(name, error):
        async def call(*_, **__):
            raise error

        monkeypatch.setattr(server.chat, name, call)

    return make


@pytest.mark.parametrize(
    "error", [RuntimeError(SECRET), KeyError(SECRET), RecursionError(), MemoryError(), TimeoutError()]
)
def test_what_nobody_foresaw(client, session, broken, error):
    """500 and no more; the guide's in its envelope."""
    broken("session", error)
    broken("create_session", error)
    response = client.get(f"/api/sessions/{session}")
    assert problem(response, 500, "internal_error")["detail"] == "the server made a mistake"
    assert SECRET not in response.text
    response = client.post("/api/ai/chat", json={"message": "x"})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert SECRET not in response.text
    assert "Traceback" not in response.text


def test_a_full_disk(client, session, broken):
    """507 with its code; reads go on."""
    broken("append_messages", StoreFull("no room on the disk"))
    problem(client.post(f"/api/sessions/{session}/messages", json={"content": "x"}), 507, "store_full")
    assert client.get(f"/api/sessions/{session}").status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(StoreFull("no room"), 507, "store_full"), (RuntimeError(SECRET), 500, "internal_error")],
)
@pytest.mark.parametrize("name", ["frames", "follow"])
def test_a_stream_that_breaks(server, client, session, monkeypatch, name, error, status, code):
    """What was read stays; then an event tells what happened, as a problem, and the stream ends."""

    async def batches(*_, **__):
        if name == "frames":
            yield [Frame(1, "turn.started", b"{}")]
        raise error

    turn = client.post(f"/api/sessions/{session}/turns", json={"content": "x"}).json()["id"]
    monkeypatch.setattr(server.chat, name, batches)
    path = f"/api/turns/{turn}/stream" if name == "frames" else f"/api/sessions/{session}/events/stream"
    with opened(client, "GET", path, headers={"x-request-id": "broken"}) as stream:
        *before, last = list(stream)
    assert [block.id for block in before] == (["1"] if name == "frames" else [])
    assert (last.event, last.id) == ("error", None)
    document = last.json
    assert (document["status"], document["code"], document["request_id"]) == (status, code, "broken")
    assert SECRET not in json.dumps(document)


def test_a_turn_whose_end_cannot_be_recorded(server, client, session, monkeypatch):
    """The engine's word for it, which is no frame of the record, is told as a problem too; and as the guide's error."""

    async def batches(*_, **__):
        yield [Frame(1, "turn.started", b"{}"), Frame(0, "error", b'{"code":"store_full","detail":"no room"}')]

    turn = client.post(f"/api/sessions/{session}/turns", json={"content": "x"}).json()["id"]
    monkeypatch.setattr(server.chat, "frames", batches)
    with opened(client, "GET", f"/api/turns/{turn}/stream") as stream:
        _, last = list(stream)
    assert (last.event, last.json["status"], last.json["code"], last.json["detail"]) == (
        "error",
        507,
        "store_full",
        "no room",
    )
    with opened(client, "GET", "/api/ai/stream?q=x") as stream:
        *_, last = list(stream)
    assert last.json == {"error": "no room"}


def test_a_gate_that_breaks(client, monkeypatch):
    """Even then it is a problem document with a request id."""
    monkeypatch.setattr("manent.api.http.middleware._check_media_type", lambda *_: 1 / 0)
    problem(client.get("/healthz"), 500, "internal_error")
