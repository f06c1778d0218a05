"""What the model was sent, over HTTP: exact, explained, in pieces however large it is, and gone where it is erased."""

import base64
import hashlib
import json

import msgspec
import pytest

from manent import engine
from manent.api.http.pieces import SLICE_BYTES, in_slices
from tests.api.harness import problem

FIELDS = (
    *("turn_id", "attempt", "request", "request_bytes_base64", "renderer", "counter", "model", "parameters", "tools"),
    *("commitment", "recorded_commitment", "matches", "window"),
)
FIELDS_OF_WINDOW = (
    *("policy", "budget_tokens", "reserve_tokens", "base_tokens", "tool_tokens", "factor_permille", "overhead"),
    *("used_tokens", "included", "omitted"),
)


@pytest.fixture
def spoken(client, session):
    """A session with a system prompt, and the turn of a message."""
    path = f"/api/sessions/{session}"
    client.patch(path, json={"system": "Be brief."}).raise_for_status()
    return path, client.post(f"{path}/turns", json={"content": "Go.", "temperature": 0.5}).json()["id"]


def test_a_prompt_has_the_fields_of_the_contract(client, spoken):
    """All of them, and its figures add up."""
    _, turn = spoken
    answer = client.get(f"/api/turns/{turn}/prompt")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    prompt = answer.json()
    assert list(prompt) == [
        "turn_id",
        "attempt",
        "request",
        "request_bytes_base64",
        "renderer",
        "counter",
        "model",
        "parameters",
        "tools",
        "commitment",
        "recorded_commitment",
        "matches",
        "window",
    ]
    assert (prompt["turn_id"], prompt["attempt"], prompt["model"]) == (turn, 1, "echo/echo")
    assert json.loads(base64.b64decode(prompt["request_bytes_base64"])) == prompt["request"]
    assert prompt["request"]["messages"][0] == {"role": "system", "text": "Be brief."}
    assert prompt["parameters"] == dict.fromkeys(engine.Parameters.__struct_fields__) | {
        "temperature": 0.5,
        "stop": [],
    }
    window = prompt["window"]
    assert list(window) == [
        "policy",
        "budget_tokens",
        "reserve_tokens",
        "base_tokens",
        "tool_tokens",
        "factor_permille",
        "overhead",
        "used_tokens",
        "included",
        "omitted",
    ]
    assert [each["reason"] for each in window["included"]] == ["system", "last_user"]
    assert list(window["included"][0]) == ["position", "version", "role", "tokens", "reason"]
    assert sum(each["tokens"] for each in window["included"]) == window["base_tokens"] == window["used_tokens"]
    assert window["omitted"] == {"count": 0, "tokens": 0, "by_reason": {}, "items": []}


def test_its_commitment_can_be_recomputed(client, spoken):
    """With the salt of its event, by anybody."""
    path, turn = spoken
    prompt = client.get(f"/api/turns/{turn}/prompt").json()
    (event,) = client.get(f"{path}/events?types=attempt.started").json()["items"]
    salted = base64.b64decode(event["body"]["salt"]) + base64.b64decode(prompt["request_bytes_base64"])
    assert hashlib.sha256(salted).hexdigest() == prompt["commitment"] == event["facts"]["request"]
    assert prompt["matches"] is True


def test_an_attempt_is_named_by_its_number(client, spoken):
    """Out of range it is a 404 that says how many there are; what is no number is refused."""
    _, turn = spoken
    first = client.get(f"/api/turns/{turn}/prompt?attempt=1")
    assert first.json() == client.get(f"/api/turns/{turn}/prompt").json()
    refusal = problem(client.get(f"/api/turns/{turn}/prompt?attempt=2"), 404, "turn_not_found", "attempt")
    assert refusal["attempts"] == 1
    for text in ("0", "-1", "x", "1.5"):
        problem(client.get(f"/api/turns/{turn}/prompt?attempt={text}"), 400, "invalid_value", "attempt")


def test_what_is_erased_is_a_410(client, spoken):
    """Which names the positions of what is missing."""
    path, turn = spoken
    prompt = client.get(f"/api/turns/{turn}/prompt").json()
    said = prompt["window"]["included"][1]
    client.post(f"{path}/erase", json={"reason": "asked to", "versions": [said["version"]]}).raise_for_status()
    gone = problem(client.get(f"/api/turns/{turn}/prompt"), 410, "erased")
    assert said["position"] in gone["positions"]
    assert "Go." not in json.dumps(gone)


@pytest.mark.parametrize("size", [1, 48 << 10, (48 << 10) + 1, 3_000_000])
def test_a_large_one_comes_in_pieces(client, session, size):
    """And is the same, to the byte."""
    words = "é" + "x" * (size - 1)
    asked = client.post(f"/api/sessions/{session}/turns", json={"content": words, "budget_tokens": 10_000_000})
    if asked.status_code == 413:
        words = words[: 1 << 19]
        asked = client.post(f"/api/sessions/{session}/turns", json={"content": words, "budget_tokens": 10_000_000})
    with client.stream("GET", f"/api/turns/{asked.json()['id']}/prompt") as answer:
        pieces = list(answer.iter_raw())
    prompt = json.loads(b"".join(pieces))
    assert prompt["request"]["messages"][-1]["text"] == words
    assert json.loads(base64.b64decode(prompt["request_bytes_base64"], validate=True)) == prompt["request"]


class Large(msgspec.Struct):
    raw: msgspec.Raw
    data: bytes = msgspec.field(name="data_base64")
    rest: dict[str, int]


@pytest.mark.parametrize("size", [0, 1, SLICE_BYTES - 1, SLICE_BYTES, SLICE_BYTES + 1, 10 * SLICE_BYTES + 2])
async def test_pieces_join_to_the_json_of_all(size):
    """None is much larger than a slice, however large a field is."""
    value = Large(msgspec.Raw(b'"%b"' % (b"x" * size)), b"\xff" * size, {"a": 1})
    async with in_slices(value)._opened as pieces:
        found = [piece async for piece in pieces]
    assert b"".join(found) == msgspec.json.encode(value)
    assert max(map(len, found)) < 3 * SLICE_BYTES
    assert len(found) > size // SLICE_BYTES
