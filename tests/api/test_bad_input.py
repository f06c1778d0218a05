"""Bad input: each gets the right refusal, whole, with a stable code and the name of what was wrong; nothing changes."""

from urllib.parse import unquote

import pytest

from manent.engine import EVENT_TYPES
from tests.api.harness import check_problem, named, opened, problem

NOBODY = "01890000-0000-7000-8000-000000000000"
MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("unchanged")


@pytest.fixture(scope="session")
def world(client):
    """One of each kind of thing that can be in the way: {name: id}."""

    def create(**fields):
        return client.post("/api/sessions", json=fields).json()["id"]

    def turn(session, **fields):
        return client.post(f"/api/sessions/{session}/turns", json=fields, headers={"Prefer": "wait=30"}).json()

    made = {name: create() for name in ("plain", "empty", "archived")}
    made["turn"] = turn(made["plain"], content="hello")["id"]
    client.patch(f"/api/sessions/{made['archived']}", json={"status": "archived"})
    made["calls"] = create(model="scripted/tools")
    assert turn(made["calls"], content="weather?", client_tools=[{"name": "look"}])["stop_reason"] == "tool_use"
    made["busy"] = create(model="scripted/hang")
    with opened(client, "POST", f"/api/sessions/{made['busy']}/turns", json={"content": "x", "stream": True}) as stream:
        made["running"] = stream.until("delta")[0].json["id"]
    yield made
    client.post(f"/api/turns/{made['running']}/cancel")


def at(path, world):
    """A path with the names of things in it."""
    return path.format(**world, nobody=NOBODY)


# --- what a body says -------------------------------------------------------------------------------------------------

SESSIONS, SESSION = "/api/sessions", "/api/sessions/{plain}"
MESSAGES, TURNS = "/api/sessions/{plain}/messages", "/api/sessions/{plain}/turns"
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
CALL = {"type": "tool_use", "id": "a", "name": "f"}

BODIES = [  # method, path, body, status, code, field
    # wrong types
    ("POST", SESSIONS, {"title": 5}, 400, "invalid_value", "title"),
    ("POST", SESSIONS, {"budget_tokens": "100"}, 400, "invalid_value", "budget_tokens"),
    ("POST", SESSIONS, {"budget_tokens": True}, 400, "invalid_value", "budget_tokens"),
    ("POST", SESSIONS, {"budget_tokens": 1.5}, 400, "invalid_value", "budget_tokens"),
    ("POST", SESSIONS, {"metadata": []}, 400, "invalid_value", "metadata"),
    ("PATCH", SESSION, {"status": None}, 400, "invalid_value", "status"),
    ("PATCH", SESSION, {"status": "gone"}, 400, "invalid_value", "status"),
    ("POST", MESSAGES, {"content": 5}, 400, "invalid_value", "content"),
    ("POST", MESSAGES, {"content": None}, 400, "invalid_value", "content"),
    ("POST", MESSAGES, {"content": {"type": "text", "text": "x"}}, 400, "invalid_value", "content"),
    ("POST", MESSAGES, {"content": ["x"]}, 400, "invalid_value", "content[0]"),
    ("POST", MESSAGES, {"content": [{}]}, 400, "invalid_value", "content[0]"),
    ("POST", MESSAGES, {"content": [{"type": "text", "text": 1}]}, 400, "invalid_value", "content[0]"),
    ("POST", MESSAGES, {"content": [{"type": "text", "text": "x", "y": 1}]}, 400, "invalid_value", "content[0]"),
    ("POST", MESSAGES, {"content": [{"type": ""}]}, 400, "invalid_value", "content[0].type"),
    ("POST", MESSAGES, {"messages": "x"}, 400, "invalid_value", "messages"),
    ("POST", TURNS, {"content": "x", "temperature": "1"}, 400, "invalid_value", "temperature"),
    ("POST", TURNS, {"content": "x", "top_p": "1"}, 400, "invalid_value", "top_p"),
    ("POST", TURNS, {"content": "x", "seed": 1.5}, 400, "invalid_value", "seed"),
    ("POST", TURNS, {"content": "x", "logit_bias": [1]}, 400, "invalid_value", "logit_bias"),
    ("POST", TURNS, {"content": "x", "response_format": "json"}, 400, "invalid_value", "response_format"),
    ("POST", TURNS, {"content": "x", "response_format": {"type": "xml"}}, 400, "invalid_value", "response_format.type"),
    ("POST", TURNS, {"content": "x", "response_format": {"x": 1}}, 400, "unknown_field", "response_format.x"),
    ("POST", TURNS, {"content": "x", "reasoning": {"effort": "huge"}}, 400, "invalid_value", "reasoning.effort"),
    ("POST", TURNS, {"content": "x", "reasoning": {}}, 400, "invalid_value", "reasoning"),
    ("POST", TURNS, {"content": "x", "parallel_tool_calls": 1}, 400, "invalid_value", "parallel_tool_calls"),
    ("POST", TURNS, {"content": "x", "stop": [1]}, 400, "invalid_value", "stop[0]"),
    ("POST", TURNS, {"content": "x", "stream": 1}, 400, "invalid_value", "stream"),
    ("POST", TURNS, {"content": "x", "on_disconnect": "stop"}, 400, "invalid_value", "on_disconnect"),
    ("POST", TURNS, {"content": "x", "continue": "yes"}, 400, "invalid_value", "continue"),
    # unknown and missing fields
    ("POST", SESSIONS, {"titel": "x"}, 400, "unknown_field", "titel"),
    ("PATCH", SESSION, {"id": NOBODY}, 400, "unknown_field", "id"),
    ("POST", MESSAGES, {"content": "x", "complete": True}, 400, "unknown_field", "complete"),
    ("POST", MESSAGES, {"messages": [{"content": "x", "y": 1}]}, 400, "unknown_field", "messages[0].y"),
    ("POST", TURNS, {"content": "x", "continues": True}, 400, "unknown_field", "continues"),
    ("POST", TURNS, {"message": {"content": "x", "y": 1}}, 400, "unknown_field", "message.y"),
    ("POST", "/api/turns/{turn}/cancel", {"why": "x"}, 400, "unknown_field", "why"),
    ("POST", MESSAGES, {}, 400, "missing_field", "content"),
    ("POST", MESSAGES, {"messages": [{"role": "user"}]}, 400, "missing_field", "messages[0].content"),
    ("POST", TURNS, {"message": {}}, 400, "missing_field", "message.content"),
    # fields that exclude each other
    ("POST", MESSAGES, {"content": "x", "messages": [{"content": "x"}]}, 400, "invalid_value", "messages"),
    ("POST", MESSAGES, {"role": "user", "messages": [{"content": "x"}]}, 400, "invalid_value", "messages"),
    ("POST", TURNS, {"content": "x", "message": {"content": "x"}}, 400, "invalid_value", "message"),
    ("POST", TURNS, {"content": "x", "continue": True}, 400, "invalid_value", "continue"),
    # nothing in it
    ("POST", MESSAGES, {"content": ""}, 400, "empty_message", "content"),
    ("POST", MESSAGES, {"content": []}, 400, "empty_message", "content"),
    ("POST", MESSAGES, {"content": [{"type": "text", "text": ""}]}, 400, "empty_message", "content"),
    ("POST", MESSAGES, {"messages": []}, 400, "invalid_value", "messages"),
    ("POST", TURNS, {"content": ""}, 400, "empty_message", "content"),
    ("POST", SESSIONS, {"model": ""}, 400, "invalid_value", "model"),
    # unknown names
    ("POST", MESSAGES, {"content": "x", "role": "robot"}, 400, "unknown_role", "role"),
    ("POST", MESSAGES, {"content": "x", "role": ""}, 400, "unknown_role", "role"),
    ("POST", TURNS, {"message": {"content": "x", "role": "robot"}}, 400, "unknown_role", "role"),
    ("POST", SESSIONS, {"model": "echo/ohce"}, 400, "unknown_model", "model"),
    ("PATCH", SESSION, {"model": "nobody/echo"}, 400, "unknown_model", "model"),
    ("POST", TURNS, {"content": "x", "model": "echo"}, 400, "unknown_model", "model"),
    ("POST", TURNS, {"content": "x", "model": "echo/\U0001f600"}, 400, "unknown_model", "model"),
    # too large
    ("POST", MESSAGES, {"content": "x" * (MIB + 1)}, 413, "too_large", "content"),
    ("POST", MESSAGES, {"content": [{"type": "text", "text": "x" * MIB}]}, 413, "too_large", "content"),
    ("POST", MESSAGES, {"content": [{"type": "text", "text": "x"}] * 1001}, 413, "too_large", "content"),
    ("POST", MESSAGES, {"messages": [{"content": "x"}] * 101}, 413, "too_large", "messages"),
    ("POST", TURNS, {"content": "x" * (MIB + 1)}, 413, "too_large", "content"),
    ("POST", SESSIONS, {"title": "x" * 501}, 413, "too_large", "title"),
    ("POST", SESSIONS, {"system": "x" * (MIB + 1)}, 413, "too_large", "system"),
    ("PATCH", SESSION, {"metadata": {"x": "x" * (16 << 10)}}, 413, "too_large", "metadata"),
    # out of range
    ("POST", SESSIONS, {"budget_tokens": 0}, 400, "invalid_value", "budget_tokens"),
    ("POST", SESSIONS, {"budget_tokens": -1}, 400, "invalid_value", "budget_tokens"),
    ("POST", SESSIONS, {"budget_tokens": 10_000_001}, 400, "invalid_value", "budget_tokens"),
    ("POST", SESSIONS, {"budget_tokens": 10**30}, 400, "invalid_value", "budget_tokens"),
    ("PATCH", SESSION, {"max_output_tokens": 0}, 400, "invalid_value", "max_output_tokens"),
    ("POST", TURNS, {"content": "x", "max_output_tokens": 0}, 400, "invalid_value", "max_output_tokens"),
    ("POST", TURNS, {"content": "x", "temperature": -0.1}, 400, "invalid_value", "temperature"),
    ("POST", TURNS, {"content": "x", "temperature": 2.1}, 400, "invalid_value", "temperature"),
    ("POST", TURNS, {"content": "x", "top_p": 1.1}, 400, "invalid_value", "top_p"),
    ("POST", TURNS, {"content": "x", "top_k": 0}, 400, "invalid_value", "top_k"),
    ("POST", TURNS, {"content": "x", "seed": 2**63}, 400, "invalid_value", "seed"),
    ("POST", TURNS, {"content": "x", "presence_penalty": -2.1}, 400, "invalid_value", "presence_penalty"),
    ("POST", TURNS, {"content": "x", "frequency_penalty": 2.1}, 400, "invalid_value", "frequency_penalty"),
    ("POST", TURNS, {"content": "x", "logit_bias": {"7": 101}}, 400, "invalid_value", "logit_bias.7"),
    ("POST", TURNS, {"content": "x", "stop": ["x"] * 17}, 400, "invalid_value", "stop"),
    ("POST", TURNS, {"content": "x", "stop": ""}, 400, "invalid_value", "stop[0]"),
    ("POST", TURNS, {"content": "x y z", "budget_tokens": 1}, 422, "budget_too_small", None),
    ("POST", TURNS, {"content": "long " * 9000, "budget_tokens": 4000}, 422, "budget_too_small", None),
    # NUL
    ("POST", SESSIONS, {"title": "a\0b"}, 400, "nul_character", "title"),
    ("POST", SESSIONS, {"system": "a\0b"}, 400, "nul_character", "system"),
    ("POST", SESSIONS, {"metadata": {"a": ["b", {"c\0": 1}]}}, 400, "nul_character", None),
    ("POST", SESSIONS, {"metadata": {"a": [1, "\0"]}}, 400, "nul_character", "metadata.a[1]"),
    ("PATCH", SESSION, {"title": "\0"}, 400, "nul_character", "title"),
    ("POST", MESSAGES, {"content": "a\0b"}, 400, "nul_character", "content"),
    ("POST", MESSAGES, {"content": [{"type": "text", "text": "\0"}]}, 400, "nul_character", "content[0].text"),
    ("POST", MESSAGES, {"role": "assistant", "content": [CALL | {"input": {"\0": 1}}]}, 400, "nul_character", None),
    ("POST", MESSAGES, {"content": [{"type": "x", "y": 1}]}, 400, "unknown_block", "content[0]"),
    ("POST", TURNS, {"content": "a\0b"}, 400, "nul_character", "content"),
    ("POST", TURNS, {"content": "x", "stop": ["\0"]}, 400, "nul_character", "stop[0]"),
    ("POST", TURNS, {"content": "x", "model": "echo/\0"}, 400, "unknown_model", "model"),
    # blocks that are not of their kind, or not at their place
    (
        "POST",
        MESSAGES,
        {"content": [IMAGE | {"source": IMAGE["source"] | {"data": "A"}}]},
        400,
        "invalid_value",
        "content[0].source.data",
    ),
    (
        "POST",
        MESSAGES,
        {"content": [{"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}}]},
        400,
        "invalid_value",
        "content[0].source.url",
    ),
    (
        "POST",
        MESSAGES,
        {"content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}}]},
        400,
        "invalid_value",
        "content[0]",
    ),
    (
        "POST",
        MESSAGES,
        {"content": [{"type": "tool_result", "tool_use_id": "a", "content": "b"}]},
        400,
        "invalid_value",
        "content[0]",
    ),
    ("POST", MESSAGES, {"role": "tool", "content": "x"}, 400, "invalid_value", "content[0]"),
    ("POST", TURNS, {"message": {"role": "assistant", "content": "x"}}, 400, "invalid_value", "message.role"),
    # a tool result without its call; other input while results are missing
    (
        "POST",
        MESSAGES,
        {"role": "tool", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "b"}]},
        400,
        "tool_call_not_found",
        "content",
    ),
    (
        "POST",
        "/api/sessions/{calls}/turns",
        {"message": {"role": "tool", "content": [{"type": "tool_result", "tool_use_id": "call_2", "content": "b"}]}},
        400,
        "tool_call_not_found",
        "content",
    ),
    ("POST", "/api/sessions/{calls}/turns", {"content": "x"}, 409, "tool_results_missing", None),
    ("POST", "/api/sessions/{calls}/turns", {}, 409, "tool_results_missing", None),
    ("POST", "/api/sessions/{calls}/messages", {"content": "x"}, 409, "tool_results_missing", None),
    # nothing to answer, or nothing to go on with
    ("POST", TURNS, {}, 409, "nothing_to_answer", "content"),
    ("POST", "/api/sessions/{empty}/turns", {}, 409, "nothing_to_answer", "content"),
    ("POST", "/api/sessions/{empty}/turns", {"continue": True}, 409, "nothing_to_answer", "content"),
    # a closed session
    ("POST", "/api/sessions/{archived}/messages", {"content": "x"}, 409, "session_archived", None),
    ("POST", "/api/sessions/{archived}/turns", {"content": "x"}, 409, "session_archived", None),
    ("PATCH", "/api/sessions/{archived}", {"title": "x"}, 409, "session_archived", None),
    # a turn is open
    ("POST", "/api/sessions/{busy}/messages", {"content": "x"}, 409, "turn_already_open", None),
    ("POST", "/api/sessions/{busy}/turns", {"content": "x"}, 409, "turn_already_open", None),
    ("POST", "/api/sessions/{busy}/turns", {}, 409, "turn_already_open", None),
    ("PATCH", "/api/sessions/{busy}", {"model": "echo/echo"}, 409, "turn_already_open", None),
    ("PATCH", "/api/sessions/{busy}", {"system": "x"}, 409, "turn_already_open", None),
    ("PATCH", "/api/sessions/{busy}", {"budget_tokens": 100}, 409, "turn_already_open", None),
    ("PATCH", "/api/sessions/{busy}", {"status": "archived"}, 409, "turn_already_open", None),
    # nobody there
    ("PATCH", "/api/sessions/{nobody}", {"title": "x"}, 404, "session_not_found", None),
    ("POST", "/api/sessions/{nobody}/messages", {"content": "x"}, 404, "session_not_found", None),
    ("POST", "/api/sessions/{nobody}/turns", {"content": "x"}, 404, "session_not_found", None),
    ("POST", "/api/turns/{nobody}/cancel", {}, 404, "turn_not_found", None),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "code", "field"), named(BODIES))
def test_a_body_that_says_what_cannot_be(client, world, method, path, body, status, code, field):
    """Refused with the field's name."""
    problem(client.request(method, at(path, world), json=body), status, code, field)


def test_a_refusal_gives_the_figures(client, world):
    """What a client needs to do better stands in the document: limits, versions, ids, what there is."""

    def refused(path, body):
        return client.post(at(path, world), json=body).json()

    assert refused("/api/sessions/{busy}/turns", {"content": "x"})["turn_id"] == world["running"]
    assert refused("/api/sessions/{busy}/messages", {"content": "x"})["turn_id"] == world["running"]
    assert refused("/api/sessions/{calls}/turns", {"content": "x"})["tool_use_ids"] == ["call_1"]
    assert "echo/echo" in refused(SESSIONS, {"model": "x/y"})["available"]
    small = refused(TURNS, {"content": "x " * 900, "budget_tokens": 100})
    assert small["required_tokens"] > small["available_tokens"]
    for path, body, limit, maximum in (
        (MESSAGES, {"content": "x" * (MIB + 1)}, "max_message_bytes", MIB),
        (MESSAGES, {"content": [{"type": "text", "text": "x"}] * 1001}, "max_blocks", 1000),
        (MESSAGES, {"messages": [{"content": "x"}] * 101}, "max_messages", 100),
        (SESSIONS, {"title": "x" * 501}, "max_title_chars", 500),
        (SESSIONS, {"metadata": {"x": "x" * (16 << 10)}}, "max_metadata_bytes", 16 << 10),
    ):
        large = refused(path, body)
        assert (large["status"], large["limit"], large["maximum"]) == (413, limit, maximum)


# --- what is no such body ---------------------------------------------------------------------------------------------

NOT_JSON = [  # body, code, field
    (b"{", "malformed_json", None),
    (b"{]", "malformed_json", None),
    (b"{'content': 'x'}", "malformed_json", None),
    (b'{"content": "x",}', "malformed_json", None),
    (b'{"content": "x"} {}', "malformed_json", None),
    (b'{"content": NaN}', "malformed_json", None),
    (b"\xef\xbb\xbf{}", "malformed_json", None),
    ('{"content": "x"}'.encode("utf-16"), "malformed_json", None),
    (b'{"content": "\xff"}', "malformed_json", None),
    (b'{"content": [{"type": "x", "y": "\xc3("}]}', "malformed_json", None),
    (b'{"content": "\xed\xa0\x80"}', "malformed_json", None),
    (b'{"content": "\\ud800"}', "malformed_json", None),
    (b'{"content": "\\udc00\\ud800"}', "malformed_json", None),
    (b'{"content": [{"type": "x", "\\ud800": 1}]}', "malformed_json", None),
    (b'{"content": "a\x00b"}', "malformed_json", None),
    (b'{"content": "a\nb"}', "malformed_json", None),
    (b'{"content": [{"type": "x", "y": ' + b"9" * 5000 + b"}]}", "malformed_json", None),
    (b"[" * 100_000, "invalid_value", "body"),
    (b'{"content": [{"type": "x", "y": ' + b"[" * 200_000 + b"]" * 200_000 + b"}]}", "nested_too_deeply", None),
    (b'{"content": [{"type": "x", "y": ' + b'{"a":' * 98 + b"1" + b"}" * 98 + b"}]}", "nested_too_deeply", None),
    (b'{"content": "x", "content": "y"}', "duplicate_field", "content"),
    (b'{"content": [{"type": "text", "text": "x", "text": "y"}]}', "duplicate_field", "text"),
    (b'{"content": [{"type": "x", "y": [{"z": 1, "\\u007a": 2}]}]}', "duplicate_field", "z"),
    (b"[]", "invalid_value", "body"),
    (b'[{"content": "x"}]', "invalid_value", "body"),
    (b'"content"', "invalid_value", "body"),
    (b"7", "invalid_value", "body"),
    (b"null", "invalid_value", "body"),
]
JSON_TYPE = {"Content-Type": "application/json"}


@pytest.mark.parametrize("path", [SESSION, MESSAGES, TURNS])
@pytest.mark.parametrize(("body", "code", "field"), named(NOT_JSON))
def test_a_body_that_is_no_object_of_json(client, world, path, body, code, field):
    """Refused as what it is, whichever route it is sent to."""
    method = "PATCH" if path == SESSION else "POST"
    if (b"content" in body and path == SESSION) or (b"temperature" in body and path != TURNS):
        return  # there it is an unknown field, first
    problem(client.request(method, at(path, world), content=body, headers=JSON_TYPE), 400, code, field)


@pytest.mark.parametrize("path", [MESSAGES, "/api/ai/chat", "/api/ai/complete"])
def test_a_body_is_missing(client, world, path):
    """Where one is needed, its absence is named."""
    response = client.post(at(path, world))
    assert response.status_code == 400
    assert "missing_body" in response.text


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
@pytest.mark.parametrize(("method", "path"), [("POST", SESSIONS), ("PATCH", SESSION), ("POST", TURNS)])
def test_a_body_of_another_media_type(client, world, method, path, media_type):
    """Nothing but application/json is read: a form of a page from elsewhere is not."""
    response = client.request(method, at(path, world), content=b"{}", headers={"Content-Type": media_type})
    problem(response, 415, "unsupported_media_type", "Content-Type")


def test_parameters_of_the_media_type_do_not_matter(client, world):
    """``application/json; charset=utf-8`` is JSON as well."""
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    response = client.post(at(MESSAGES, world), content=b'{"content": 5}', headers=headers)
    problem(response, 400, "invalid_value", "content")


def test_a_body_over_the_limit(client, world):
    """Refused with 413 whether its length is announced or not."""
    body = b'{"content": "' + b"x" * (8 * MIB) + b'"}'
    pieces = [body[start : start + MIB] for start in range(0, len(body), MIB)]
    for content in (body, iter(pieces)):
        refused = client.post(at(MESSAGES, world), content=content, headers=JSON_TYPE)
        told = problem(refused, 413, "body_too_large")
        assert (told["limit"], told["maximum"]) == ("max_body_bytes", 8 * MIB)


# --- parameters, headers, paths ---------------------------------------------------------------------------------------

LISTS = [SESSIONS, MESSAGES, TURNS, "/api/sessions/{plain}/events", "/api/events"]
QUERIES = [  # path, query, status, code, field
    *((path, "limit=0", 400, "invalid_value", "limit") for path in LISTS),
    *((path, "limit=-1", 400, "invalid_value", "limit") for path in LISTS),
    *((path, "limit=1001", 400, "invalid_value", "limit") for path in LISTS),
    *((path, "limit=" + "9" * 400, 400, "invalid_value", "limit") for path in LISTS),
    *((path, "limit=ten", 400, "invalid_value", "limit") for path in LISTS),
    *((path, "limit=", 400, "invalid_value", "limit") for path in LISTS),
    *((path, "limit=1&limit=2", 400, "invalid_value", "limit") for path in LISTS),
    *((path, "offset=3", 400, "unknown_parameter", "offset") for path in LISTS),
    *((path, "cursor=", 400, "invalid_value", "cursor") for path in LISTS),
    *((path, "cursor=null", 400, "invalid_value", "cursor") for path in LISTS),
    *((path, "cursor=x", 400, "invalid_cursor", "cursor") for path in LISTS),
    *((path, "cursor=%00%ff", 400, "invalid_cursor", "cursor") for path in LISTS),
    *((path, "cursor=WzEsMiwzXQ", 400, "invalid_cursor", "cursor") for path in LISTS),  # [1,2,3]
    *((path, "cursor=Wy0xXQ", 400, "invalid_cursor", "cursor") for path in LISTS),  # [-1]
    *((path, "cursor=WzFlMzBd", 400, "invalid_cursor", "cursor") for path in LISTS),  # [1e30]
    *((path, "cursor=Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5XQ", 400, "invalid_cursor", "cursor") for path in LISTS),
    *((path, "after=-1", 400, "invalid_value", "after") for path in LISTS[1:]),
    *((path, "after=x", 400, "invalid_value", "after") for path in LISTS[1:]),
    *((path, "after=9007199254740993", 400, "invalid_value", "after") for path in LISTS[1:]),
    (SESSIONS, "order=oldest", 400, "invalid_value", "order"),
    (SESSIONS, "status=gone", 400, "invalid_value", "status"),
    (SESSIONS, "request=x", 400, "unknown_parameter", "request"),
    (SESSIONS, "conversation=x", 400, "unknown_parameter", "conversation"),
    (MESSAGES, "order=up", 400, "invalid_value", "order"),
    (SESSION, "version=x", 400, "invalid_value", "version"),
    (SESSION, "version=-1", 400, "invalid_value", "version"),
    (SESSION, "version=0", 404, "session_not_found", "version"),
    (SESSION, "version=99999", 404, "session_not_found", "version"),
    (SESSION, "session_id=" + NOBODY, 400, "unknown_parameter", "session_id"),
    ("/api/sessions/{plain}/window", "budget_tokens=0", 400, "invalid_value", "budget_tokens"),
    ("/api/sessions/{plain}/window", "budget_tokens=1", 422, "budget_too_small", None),
    ("/api/sessions/{plain}/window", "model=nobody", 400, "unknown_model", "model"),
    ("/api/sessions/{plain}/window", "model=", 400, "invalid_value", "model"),
    ("/api/sessions/{plain}/window", "version=99999", 404, "session_not_found", "version"),
    ("/api/turns/{turn}/prompt", "attempt=0", 400, "invalid_value", "attempt"),
    ("/api/turns/{turn}/prompt", "attempt=x", 400, "invalid_value", "attempt"),
    ("/api/turns/{turn}/prompt", "attempt=99", 404, "turn_not_found", "attempt"),
    ("/api/turns/{turn}/prompt", "version=1", 400, "unknown_parameter", "version"),
    ("/api/turns/{turn}/stream", "after=x", 400, "invalid_value", "after"),
    ("/api/turns/{turn}/stream", "last=1", 400, "unknown_parameter", "last"),
    ("/api/sessions/{plain}/events/stream", "after=-1", 400, "invalid_value", "after"),
    ("/api/events/stream", "after=1.5", 400, "invalid_value", "after"),
    ("/healthz", "x=1", 400, "unknown_parameter", "x"),
]


@pytest.mark.parametrize(("path", "query", "status", "code", "field"), named(QUERIES))
def test_parameters_that_cannot_be(client, world, path, query, status, code, field):
    """Refused with the parameter's name: none is guessed, cut to size or passed over."""
    problem(client.get(f"{at(path, world)}?{query}"), status, code, field)


HEADERS = [  # method, path, headers, field
    *(
        (method, path, {"If-Match": value}, "If-Match")
        for method, path in (("PATCH", SESSION), ("POST", MESSAGES), ("POST", TURNS))
        for value in ("1", '"x"', '"-1"', "", '"1", "2"', '"' + "9" * 40 + '"', '"01"', '"1_0"', '"+1"', '" 1"')
    ),
    *(
        ("POST", path, {"Idempotency-Key": value}, "Idempotency-Key")
        for path in (SESSIONS, MESSAGES, TURNS)
        for value in ("", '""', "x" * 257, b"\xe4", "a\tb")
    ),
    *(
        ("GET", path, {"Last-Event-ID": value}, "Last-Event-ID")
        for path in ("/api/turns/{turn}/stream", "/api/sessions/{plain}/events/stream", "/api/events/stream")
        for value in ("x", "-1", "1.5", "9" * 17, "9" * 5000, b"\xb2", "1_0", "+5", "01", "1e3", "\u0661".encode())
    ),
]


@pytest.mark.parametrize(("method", "path", "headers", "field"), named(HEADERS))
def test_headers_of_the_wrong_form(client, world, method, path, headers, field):
    """Refused with the header's name."""
    body = {"title": "x"} if path in {SESSION, SESSIONS} else {"content": "x"}
    options = {} if method == "GET" else {"json": body}
    problem(client.request(method, at(path, world), headers=headers, **options), 400, "invalid_value", field)


@pytest.mark.parametrize("version", ["0", "1", "99999"])
@pytest.mark.parametrize(("method", "path"), [("PATCH", SESSION), ("POST", MESSAGES), ("POST", TURNS)])
def test_a_version_that_has_passed(client, world, method, path, version):
    """412, with the version that the session is at."""
    now = client.get(at(SESSION, world)).json()["version"]
    body = {"title": "x"} if method == "PATCH" else {"content": "x"}
    response = client.request(method, at(path, world), json=body, headers={"If-Match": f'"{version}"'})
    assert problem(response, 412, "version_conflict")["current_version"] == now


BELOW_SESSION = ["", "/messages", "/window", "/turns", "/events", "/events/stream"]
NO_IDS = ["abc", "1", "%00", "%ff", NOBODY[:-1], f"{NOBODY}0", "..%2f..", "x" * 900, "a%0Ab"]
"""Not the form of an id at all."""
OTHER_FORMS = ["{}", "%7B{}%7D", "urn:uuid:{}", "%20{}", "{}%20", "{}%0A"]


@pytest.mark.parametrize("below", BELOW_SESSION)
def test_a_session_that_is_not_there(client, below):
    """A 404 for an id that nothing has."""
    problem(client.get(f"/api/sessions/{NOBODY}{below}"), 404, "session_not_found")


@pytest.mark.parametrize("session", NO_IDS)
@pytest.mark.parametrize("below", BELOW_SESSION)
def test_what_is_no_id(client, session, below):
    """Refused as such, with the name of the field, wherever it stands."""
    problem(client.get(f"/api/sessions/{session}{below}"), 400, "invalid_id", "session_id")


def other_forms(text):
    """An id as other systems write it, and as no system does."""
    return [
        text.upper(),
        text.replace("-", ""),
        text[:8] + text[8:].upper(),
        *(form.format(text) for form in OTHER_FORMS[1:]),
        text.replace("0", "%D9%A0"),  # an Arabic digit
    ]


def test_an_id_in_another_form(client, world):
    """One id has one form: braces, URNs, capitals and missing dashes are refused, though they might be read."""
    for path, field in (
        ("/api/sessions/{}", "session_id"),
        ("/api/sessions/{}/messages", "session_id"),
        ("/api/sessions/{}/events/1/proof", "session_id"),
        ("/api/tools?session_id={}", "session_id"),
        ("/api/turns/{}", "turn_id"),
        ("/api/turns/{}/stream", "turn_id"),
    ):
        right = world["turn" if field == "turn_id" else "plain"]
        assert client.get(path.format(right)).is_success
        for wrong in other_forms(right):
            problem(client.get(path.format(wrong)), 400, "invalid_id", field)
    for wrong in other_forms(world["plain"]):
        problem(client.patch(f"/api/sessions/{wrong}", json={"title": "x"}), 400, "invalid_id", "session_id")
        problem(client.post(f"/api/turns/{wrong}/cancel"), 400, "invalid_id", "turn_id")
        guide = client.get(f"/api/ai/stream?q=x&session_id={wrong}")
        assert (guide.status_code, guide.json()["error"]["details"]["code"]) == (400, "invalid_id")
        guide = client.get("/api/ai/stream?q=x", headers={"Last-Event-ID": f"{wrong}:1".replace("%", "")})
        assert (guide.status_code, guide.json()["error"]["details"]["code"]) == (400, "invalid_value")


@pytest.mark.parametrize("below", ["", "/stream", "/cancel"])
@pytest.mark.parametrize("turn", [NOBODY, "{plain}"])
def test_a_turn_that_is_not_there(client, world, turn, below):
    """A 404 for an id that no turn has; a session's is none."""
    method = "POST" if below == "/cancel" else "GET"
    problem(client.request(method, f"/api/turns/{at(turn, world)}{below}"), 404, "turn_not_found")
    problem(client.request(method, f"/api/turns/abc{below}"), 400, "invalid_id", "turn_id")


NUMBERS = ["1_0", "%2B5", "+5", "%205", "5%20", "%D9%A1", "%EF%BC%91", "1e3", "1.0", "0x10", "01", "-0", "00", "%C2%B2"]
"""What one reader or other would take for a number."""


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_in_another_form(client, world, number):
    """A whole number is its decimal digits: nothing else is guessed to be one, in a query, a path or a header."""
    session = f"/api/sessions/{world['plain']}"
    for path, field in (
        ("/api/sessions?limit={}", "limit"),
        ("/api/models?limit={}", "limit"),
        (session + "?version={}", "version"),
        (session + "/messages?after={}", "after"),
        (session + "/events?wait={}", "wait"),
        (session + "/window?budget_tokens={}", "budget_tokens"),
        (session + "/events/{}/proof", "version"),
        ("/api/log/consistency?from={}", "from"),
        ("/api/log/consistency?from=0&to={}", "to"),
        (f"/api/turns/{world['turn']}/stream?after={{}}", "after"),
    ):
        problem(client.get(path.format(number)), 400, "invalid_value", field)
    text = unquote(number).encode()
    matched = client.patch(session, json={"title": "x"}, headers={"If-Match": b'"%b"' % text})
    problem(matched, 400, "invalid_value", "If-Match")
    if text == text.strip():  # blanks around a header are no part of it
        stream = client.get(session + "/events/stream", headers={"Last-Event-ID": text})
        problem(stream, 400, "invalid_value", "Last-Event-ID")
    problem(client.get(f"/api/log/tile/0/{number}"), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "field", "available"),
    [
        ("/api/sessions?order=newest", "order", ["activity", "created"]),
        ("/api/sessions?order=ACTIVITY", "order", ["activity", "created"]),
        ("/api/sessions?status=gone", "status", ["active", "archived"]),
        ("/api/sessions/{plain}/messages?order=up", "order", ["asc", "desc"]),
        ("/api/sessions/{plain}/turns?order=up", "order", ["asc", "desc"]),
        ("/api/sessions/{plain}/export?format=pdf", "format", ["bundle", "openai", "otel"]),
        ("/api/sessions/{plain}/events?types=nosuch", "types", list(EVENT_TYPES)),
        ("/api/sessions/{plain}/events?types=message.appended,nosuch", "types", list(EVENT_TYPES)),
        ("/api/sessions/{plain}/events?types=,", "types", list(EVENT_TYPES)),
        ("/api/sessions/{plain}/events?types=message.appended,", "types", list(EVENT_TYPES)),
        ("/api/sessions/{plain}/events?types=Message.Appended", "types", list(EVENT_TYPES)),
    ],
)
def test_a_word_that_is_none_of_a_few(client, world, path, field, available):
    """The refusal says what there is."""
    refused = problem(client.get(at(path, world)), 400, "invalid_value", field)
    assert refused["available"] == available
    assert all(word in refused["detail"] for word in available)


@pytest.mark.parametrize(
    "path", ["/api", "/api/", "/api/nothing", "/apis/sessions", "/schema/nothing", "/%2e%2e/", "/é"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"])
def test_a_path_that_leads_nowhere(client, method, path):
    """A 404 with a problem document, whatever the method."""
    problem(client.request(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", SESSIONS, {"GET", "HEAD", "POST", "OPTIONS"}),
        ("DELETE", SESSION, {"GET", "HEAD", "PATCH", "OPTIONS"}),
        ("POST", SESSION, {"GET", "HEAD", "PATCH", "OPTIONS"}),
        ("GET", "/api/turns/{turn}/cancel", {"POST", "OPTIONS"}),
        ("HEAD", "/api/turns/{turn}/cancel", {"POST", "OPTIONS"}),
        ("PATCH", "/healthz", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_method_that_a_path_does_not_know(client, world, method, path, allow):
    """A 405 that says which it knows."""
    response = client.request(method, at(path, world))
    assert response.status_code == 405
    assert {name.strip() for name in response.headers["allow"].split(",")} == allow
    if method != "HEAD":
        assert problem(response, 405, "method_not_allowed")


# --- the guide's routes -----------------------------------------------------------------------------------------------

GUIDE = [  # method, path, options, status, the toolkit's code, the engine's
    ("POST", "/api/ai/chat", {"json": {"message": ""}}, 400, "REQUIRED_FIELD_MISSING", "empty_message"),
    ("POST", "/api/ai/chat", {"json": {"message": 5}}, 400, "INVALID_JSON", "invalid_value"),
    ("POST", "/api/ai/chat", {"json": {}}, 400, "REQUIRED_FIELD_MISSING", "missing_field"),
    ("POST", "/api/ai/chat", {"json": []}, 400, "INVALID_JSON", "invalid_value"),
    ("POST", "/api/ai/chat", {"json": {"message": "x", "model": "x/y"}}, 400, "VALIDATION_ERROR", "unknown_model"),
    ("POST", "/api/ai/chat", {"json": {"message": "x", "model": 5}}, 400, "INVALID_JSON", "invalid_value"),
    ("POST", "/api/ai/chat", {"json": {"message": "a\0b"}}, 400, "VALIDATION_ERROR", "nul_character"),
    ("POST", "/api/ai/chat", {"json": {"message": "x", "system": "\0"}}, 400, "VALIDATION_ERROR", "nul_character"),
    ("POST", "/api/ai/chat", {"json": {"message": "x", "session_id": "x"}}, 400, "VALIDATION_ERROR", "invalid_id"),
    (
        *("POST", "/api/ai/chat", {"json": {"message": "x", "session_id": NOBODY}}),
        *(404, "RESOURCE_NOT_FOUND", "session_not_found"),
    ),
    ("POST", "/api/ai/chat", {"json": {"message": "x" * (MIB + 1)}}, 413, "REQUEST_BODY_TOO_LARGE", "too_large"),
    ("POST", "/api/ai/chat", {"json": {"message": "word " * 5000}}, 422, "INVALID_REQUEST", "budget_too_small"),
    ("POST", "/api/ai/chat", {"content": b"{", "headers": JSON_TYPE}, 400, "INVALID_JSON", "malformed_json"),
    ("POST", "/api/ai/chat", {"content": b'"\xff"', "headers": JSON_TYPE}, 400, "INVALID_JSON", "malformed_json"),
    (
        *("POST", "/api/ai/chat", {"content": b'{"message": "x", "message": "y"}', "headers": JSON_TYPE}),
        *(400, "INVALID_JSON", "duplicate_field"),
    ),
    (
        *("POST", "/api/ai/chat", {"content": b"x" * (9 * MIB), "headers": JSON_TYPE}),
        *(413, "REQUEST_BODY_TOO_LARGE", "body_too_large"),
    ),
    ("POST", "/api/ai/chat", {"content": b"message=x"}, 415, "INVALID_FORMAT", "unsupported_media_type"),
    ("POST", "/api/ai/complete", {"json": {"message": ""}}, 400, "REQUIRED_FIELD_MISSING", "empty_message"),
    ("POST", "/api/ai/complete", {"json": {"message": "x", "model": "x/y"}}, 400, "VALIDATION_ERROR", "unknown_model"),
    ("GET", "/api/ai/chat", {}, 405, "METHOD_NOT_ALLOWED", "method_not_allowed"),
    ("GET", "/api/ai/nothing", {}, 404, "RESOURCE_NOT_FOUND", "not_found"),
    ("GET", "/api/ai/stream", {}, 400, "REQUIRED_FIELD_MISSING", "empty_message"),
    ("GET", "/api/ai/stream?q=", {}, 400, "REQUIRED_FIELD_MISSING", "empty_message"),
    ("GET", "/api/ai/stream?q=%00", {}, 400, "VALIDATION_ERROR", "nul_character"),
    ("GET", "/api/ai/stream?q=x&model=x/y", {}, 400, "VALIDATION_ERROR", "unknown_model"),
    ("GET", "/api/ai/stream?q=x&session_id=x", {}, 400, "VALIDATION_ERROR", "invalid_id"),
    ("GET", f"/api/ai/stream?q=x&session_id={NOBODY}", {}, 404, "RESOURCE_NOT_FOUND", "session_not_found"),
    ("GET", "/api/ai/stream?q=x", {"headers": {"Last-Event-ID": "x"}}, 400, "VALIDATION_ERROR", "invalid_value"),
    ("GET", "/api/ai/stream?q=x", {"headers": {"Last-Event-ID": "7"}}, 400, "VALIDATION_ERROR", "invalid_value"),
    *(
        (
            *("GET", "/api/ai/stream?q=x", {"headers": {"Last-Event-ID": f"{NOBODY}:{place}"}}),
            *(400, "VALIDATION_ERROR", "invalid_value"),
        )
        for place in ("-1", "+1", "1_0", "1.", "1.0", "1.-1", "1.1_0", "0.1", ".1", " 1", "1.1.1")
    ),
    (
        *("GET", "/api/ai/stream?q=x", {"headers": {"Last-Event-ID": f"{NOBODY}:{'9' * 99}"}}),
        *(400, "VALIDATION_ERROR", "invalid_value"),
    ),
    (
        *("GET", "/api/ai/stream?q=x", {"headers": {"Last-Event-ID": f"{NOBODY}:1"}}),
        *(404, "RESOURCE_NOT_FOUND", "turn_not_found"),
    ),
    (
        *("GET", "/api/ai/stream?q=x", {"headers": {"Origin": "https://elsewhere.example"}}),
        *(403, "FORBIDDEN", "foreign_origin"),
    ),
]
KINDS = {  # the toolkit's own pairs
    "REQUIRED_FIELD_MISSING": ("validation_error", "required_field_missing"),
    "INVALID_JSON": ("validation_error", "validation_failure"),
    "VALIDATION_ERROR": ("validation_error", "validation_failure"),
    "INVALID_FORMAT": ("validation_error", "invalid_format"),
    "FORBIDDEN": ("auth_error", "forbidden_request"),
    "RESOURCE_NOT_FOUND": ("client_error", "resource_not_found"),
    "METHOD_NOT_ALLOWED": ("client_error", "method_not_allowed"),
    "REQUEST_BODY_TOO_LARGE": ("client_error", "payload_too_large"),
    "INVALID_REQUEST": ("client_error", "invalid_request"),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("method", "path", "options", "status", "code", "reason"), named(GUIDE))
def test_the_guides_routes_refuse_in_their_own_envelope(client, method, path, options, status, code, reason):
    """Plumego's envelope and words, also for what is refused before the route is reached; the reason is in its details,
    and nothing gets on record.
    """
    response = client.request(method, path, **options)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error", "request_id"}
    assert body["error"].keys() == {"code", "message", "category", "type", "details"}
    assert (body["error"]["code"], body["error"]["details"]["code"]) == (code, reason)
    assert (body["error"]["category"], body["error"]["type"]) == KINDS[code]
    assert body["error"]["message"]
    assert body["request_id"] == response.headers["x-request-id"]


def test_every_refusal_here_is_a_whole_one(client):
    """``type``, ``title``, ``status``, ``detail``, ``code`` and ``request_id``, and nothing of them empty."""
    response = client.get("/api/sessions/x", headers={"x-request-id": "asked-for.1"})
    body = response.json()
    assert list(body)[:6] == ["type", "title", "status", "detail", "code", "request_id"]
    assert body["request_id"] == "asked-for.1"
    check_problem(response, body)
