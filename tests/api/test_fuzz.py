"""Any input at all: a success or a whole refusal, never the server's failure; and what was let in can be read again."""

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.conftest import STRANGE
from tests.api.harness import is_refusal, pages

EXAMPLES = 40
ASYNC = {"Prefer": "respond-async"}

text = st.text(st.characters(), max_size=12) | st.sampled_from(
    [STRANGE, "", "\0", "\ud800", "null", "echo/echo", "user"]
)
numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 1, 2**53, 2**53 + 1, 2**63, 2**64, 10**40, 1e-320])
scalars = st.none() | st.booleans() | numbers | text
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=8
)


def objects(**fields):
    """An object in which each field may be missing, fit, or be anything; and sometimes there is one more."""
    optional = {name: fit | values for name, fit in fields.items()}
    return st.builds(
        lambda known, other: other | known,
        st.fixed_dictionaries({}, optional=optional),
        st.just({}) | st.dictionaries(text, values, max_size=1),
    )


source = objects(type=st.sampled_from(["base64", "url"]), media_type=st.just("image/png"), data=text, url=text)
blocks = objects(
    type=st.sampled_from(["text", "image", "tool_use", "tool_result", "thinking", "audio"]),
    text=text,
    source=source,
    id=text,
    name=text,
    input=values,
    tool_use_id=text,
    content=text,
    is_error=st.booleans(),
    input_text=text,
    vendor=values,
)
content = text | st.lists(blocks, max_size=3)
role = st.sampled_from(["user", "assistant", "tool", "system", "robot"])
message = objects(role=role, content=content)
model = st.sampled_from(["echo/echo", "scripted/tools", "scripted/think", "echo", "gpt-5", "", "x/y", None])
session_fields = {
    "model": model,
    "system": text,
    "title": text,
    "metadata": st.dictionaries(text, values, max_size=3),
    "budget_tokens": st.integers(-1, 9000),
    "max_output_tokens": st.integers(-1, 9000),
}
turn_fields = {
    "content": content,
    "message": message,
    "model": model,
    "max_output_tokens": st.integers(-1, 9000),
    "budget_tokens": st.integers(-1, 9000),
    "temperature": st.floats(-1, 3),
    "top_p": st.floats(-1, 2),
    "top_k": numbers,
    "seed": numbers,
    "presence_penalty": st.floats(-3, 3),
    "logit_bias": st.dictionaries(text, st.floats(-200, 200), max_size=3),
    "response_format": objects(
        type=st.sampled_from(["text", "json_object", "json_schema", "xml"]), name=text, schema=values, strict=values
    ),
    "reasoning": objects(effort=st.sampled_from(["none", "low", "huge"]), budget_tokens=numbers),
    "parallel_tool_calls": values,
    "task": text,
    "stop": text | st.lists(text, max_size=3),
    "on_disconnect": st.sampled_from(["continue", "cancel"]),
    "continue": st.booleans(),
    "stream": st.booleans(),
}
BODIES = {
    ("POST", "/api/sessions"): objects(**session_fields),
    ("PATCH", "/api/sessions/{session}"): objects(**session_fields, status=st.sampled_from(["active", "archived"])),
    ("POST", "/api/sessions/{session}/messages"): objects(
        role=role, content=content, messages=st.lists(message, max_size=3)
    ),
    ("POST", "/api/sessions/{session}/turns"): objects(**turn_fields),
    ("POST", "/api/turns/{turn}/cancel"): objects(),
    ("POST", "/api/tokens"): objects(model=model, content=content),
    ("POST", "/api/tickets"): objects(path=text),
    ("POST", "/api/ai/complete"): objects(message=text, model=model),
    ("POST", "/api/ai/chat"): objects(message=text, model=model, session_id=st.just("{session}")),
}
PARAMETERS = [
    "limit",
    "cursor",
    "after",
    "order",
    "status",
    "types",
    "version",
    "budget_tokens",
    "model",
    "attempt",
    "x",
]
READING = [
    "/api/sessions",
    "/api/events",
    "/api/turns/{turn}",
    "/api/turns/{turn}/stream",
    "/api/turns/{turn}/prompt",
    "/healthz",
]
READING += [f"/api/sessions/{{session}}{below}" for below in ("", "/messages", "/window", "/turns", "/events")]
QUERIES = st.dictionaries(st.sampled_from(PARAMETERS), text | numbers.map(str), max_size=3)
HEADERS = ["If-Match", "Idempotency-Key", "Prefer", "Last-Event-ID", "Accept", "x-request-id", "Content-Type", "Range"]


@pytest.fixture(scope="module")
def names(client):
    """A session and a turn for all that is sent."""
    session = client.post("/api/sessions").json()["id"]
    turn = client.post(f"/api/sessions/{session}/turns", json={"content": "x"}).json()["id"]
    yield {"session": session, "turn": turn}
    everything_can_be_read(client)


def everything_can_be_read(client):
    """Nothing that got on record is a stone in a reader's way."""
    for session in pages(client, "/api/sessions", order="created")[0]:
        path = f"/api/sessions/{session['id']}"
        assert client.get(path).json() == session
        for below in ("messages", "turns", "events"):
            pages(client, f"{path}/{below}")
        assert client.get(f"{path}/window").status_code in {200, 422}
        assert client.get(path, params={"version": 1}).status_code == 200


def fine(response):
    assert response.is_success or is_refusal(response)


@pytest.mark.parametrize(("method", "path"), BODIES)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_any_object(client, names, method, path, data):
    """Fields of every kind, fitting or not; on a session that nothing was refused on before."""
    if "{session}" in path:
        names = names | {"session": client.post("/api/sessions").json()["id"]}
    body = json.dumps(data.draw(BODIES[method, path])).replace("{session}", names["session"]).encode()
    headers = ASYNC | {"Content-Type": "application/json"}
    fine(client.request(method, path.format(**names), content=body, headers=headers))


@settings(max_examples=EXAMPLES)
@given(
    route=st.sampled_from(list(BODIES)),
    body=st.binary(max_size=40) | st.text('[]{}",:\\ua0d8123eE-.tnfrl \n', max_size=40).map(str.encode),
    value=values,
    cut=st.integers(0, 60),
)
def test_any_bytes(client, names, route, body, value, cut):
    """Bytes that are no JSON, JSON that is no object, and JSON with bytes in its midst."""
    method, path = route
    whole = json.dumps({"content": value, "message": value, "title": value}).encode()
    for sent in (body, json.dumps(value).encode(), whole[:cut] + body + whole[cut:]):
        headers = ASYNC | {"Content-Type": "application/json"}
        fine(client.request(method, path.format(**names), content=sent, headers=headers))


@settings(max_examples=EXAMPLES)
@given(
    path=st.sampled_from(READING),
    query=QUERIES,
)
def test_any_parameters(client, names, path, query):
    """Of any name and value."""
    encoded = urlencode(query, errors="surrogatepass")
    fine(client.get(f"{path.format(**names)}?{encoded}"))


@settings(max_examples=EXAMPLES)
@given(
    path=st.sampled_from(["/api/sessions", "/api/sessions/{session}/messages", "/api/sessions/{session}/turns"]),
    headers=st.dictionaries(st.sampled_from(HEADERS), st.text(st.characters(min_codepoint=32, max_codepoint=255))),
)
def test_any_headers(client, names, path, headers):
    """Of any value that HTTP lets through."""
    sent = {"Prefer": "respond-async", "Content-Type": "application/json"} | headers
    encoded = {name: value.strip().encode("latin-1") for name, value in sent.items()}
    fine(client.post(path.format(**names), content=b'{"title": "x"}', headers=encoded))


@settings(max_examples=EXAMPLES)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"]),
    path=st.lists(st.sampled_from(["api", "sessions", "turns", "events", "ai", "stream", "schema"]) | text).map(
        "/".join
    ),
)
def test_any_path(client, method, path):
    """Whatever it leads to."""
    if method == "GET" and path.endswith("stream"):
        return  # it may be one, without an end
    if not path.strip("/"):
        return  # it leads to the console
    encoded = urlencode({"": f"/{path.lstrip('/')}"}, errors="surrogatepass", safe="/")[1:]
    fine(client.request(method, encoded))
