"""Messages and windows: what is appended is kept to the byte, and what a model would be sent can be asked for."""

import pytest

from tests.api.conftest import STRANGE
from tests.api.harness import pages, problem

FIELDS = [
    "id",
    "session_id",
    "version",
    "position",
    "role",
    "content",
    "token_count",
    "complete",
    "erased",
    "turn_id",
    "actor",
    "created_at",
    "model",
    "stop_reason",
    "pinned",
]


def append(client, session, **body):
    response = client.post(f"/api/sessions/{session}/messages", json=body)
    assert response.status_code == 201, response.text
    return response.json()


def test_a_message_of_text(client, session):
    """201, as a block of text, with its place in the session and in the log."""
    response = client.post(f"/api/sessions/{session}/messages", json={"content": "hello"})
    message = response.json()
    assert list(message) == FIELDS
    assert message["content"] == [{"type": "text", "text": "hello"}]
    assert (message["session_id"], message["version"], message["role"]) == (session, 2, "user")
    assert (message["complete"], message["erased"], message["turn_id"], message["actor"]) == (
        True,
        None,
        None,
        "local",
    )
    assert response.headers["etag"] == '"2"'
    assert client.get(f"/api/sessions/{session}/messages").json() == {"items": [message], "next_cursor": None}


@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_text_is_kept_to_the_byte(client, session, role):
    """Whatever characters it has, in every role, in every view."""
    alone = [character for character in STRANGE if not character.isalnum()]
    for text in (STRANGE, *alone, " \n ", "a" * 100_000, "\U0010ffff" * 999):
        message = append(client, session, role=role, content=text)
        assert message["content"] == [{"type": "text", "text": text}]
        after = {"after": message["version"] - 1}
        assert client.get(f"/api/sessions/{session}/messages", params=after).json()["items"] == [message]
        event = client.get(f"/api/sessions/{session}/events", params=after).json()["items"][0]
        assert event["body"] == {"content": message["content"]}


def test_blocks_come_back_as_they_came(client, session):
    """In their order, to the byte."""
    text, image = (
        b'{"type":"text","text":"see"}',
        b'{"type":"image","source":{"type":"url","url":"https://a.example/x"}}',
    )
    body = b'{"content":[%b,%b]}' % (text, image)
    headers = {"Content-Type": "application/json"}
    response = client.post(f"/api/sessions/{session}/messages", content=body, headers=headers)
    assert response.status_code == 201
    for answer in (response, *(client.get(f"/api/sessions/{session}/{path}") for path in ("messages", "events"))):
        assert b'"content":[%b,%b]' % (text, image) in answer.content


def test_all_kinds_of_blocks(client, session):
    """In the common form, with tool calls before their results."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0K"}}
    calls = [{"type": "tool_use", "id": f"c{number}", "name": "look", "input": {"n": number}} for number in (1, 2)]
    results = [
        {"type": "tool_result", "tool_use_id": "c2", "content": "two", "is_error": True},
        {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "one"}, image]},
    ]
    for role, content in (
        ("user", [{"type": "text", "text": "see"}, image]),
        ("assistant", [{"type": "thinking", "text": "hm"}, {"type": "text", "text": "wait"}, *calls]),
        ("tool", results[:1]),
        ("tool", results[1:]),
    ):
        message = append(client, session, role=role, content=content)
        assert message["content"] == content
    problem(
        client.post(f"/api/sessions/{session}/messages", json={"role": "tool", "content": results[:1]}),
        400,
        "tool_call_not_found",
        "content",
    )


def test_several_messages_at_once(client, session):
    """All of them, in order."""
    given = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"content": "c"}]
    page = append(client, session, messages=given)
    assert [(each["role"], each["content"][0]["text"]) for each in page["items"]] == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
    ]
    assert [each["version"] for each in page["items"]] == [2, 3, 4]


def test_several_messages_or_none(client, session, server):
    """One that is refused keeps all of them out."""
    before = server.size()
    given = [{"content": "a"}, {"content": ""}]
    problem(client.post(f"/api/sessions/{session}/messages", json={"messages": given}), 400, "empty_message")
    assert server.size() == before


@pytest.fixture(scope="module")
def long(client):
    """A session of 25 messages."""
    session = client.post("/api/sessions").json()["id"]
    append(client, session, messages=[{"content": f"number {number}"} for number in range(25)])
    return session


@pytest.mark.parametrize("limit", [1, 7, 25, 1000])
def test_a_list_to_its_end(client, long, limit):
    """In both orders, nothing twice."""
    path = f"/api/sessions/{long}/messages"
    up, count = pages(client, path, limit=limit)
    assert [each["content"][0]["text"] for each in up] == [f"number {number}" for number in range(25)]
    assert count == -(-25 // limit)
    assert pages(client, path, limit=limit, order="desc")[0] == up[::-1]


def test_a_list_after_a_version(client, long):
    """In the order that is asked for."""
    path = f"/api/sessions/{long}/messages"
    assert [each["version"] for each in client.get(f"{path}?after=24").json()["items"]] == [25, 26]
    assert [each["version"] for each in client.get(f"{path}?after=4&order=desc").json()["items"]] == [3, 2]
    assert client.get(f"{path}?after=9007199254740992").json() == {"items": [], "next_cursor": None}


# --- windows ----------------------------------------------------------------------------------------------------------


def test_a_window_of_everything(client, long):
    """What a model would be sent now."""
    window = client.get(f"/api/sessions/{long}/window").json()
    assert list(window) == (
        [
            "session_id",
            "version",
            "model",
            "budget_tokens",
            "used_tokens",
            "counter",
            "policy",
            "system",
            "messages",
            "omitted",
            "factor_permille",
            "overhead",
            "reserve_tokens",
            "system_tokens",
            "exact",
        ]
    )
    assert (window["session_id"], window["version"], window["model"]) == (long, 26, "echo/echo")
    assert len(window["messages"]) == 25
    assert window["omitted"] == {"count": 0, "tokens": 0}
    assert 0 < window["used_tokens"] <= window["budget_tokens"]


def test_a_window_of_a_budget(client, long):
    """The newest that fit, and what is left out."""
    window = client.get(f"/api/sessions/{long}/window?budget_tokens=20").json()
    texts = [each["content"][0]["text"] for each in window["messages"]]
    assert texts == [f"number {number}" for number in range(25 - len(texts), 25)]
    assert 0 < len(texts) < 25
    assert window["omitted"]["count"] == 25 - len(texts)
    assert window["budget_tokens"] == 20


def test_a_window_of_another_model_and_version(client, long):
    """As it would have been then."""
    window = client.get(f"/api/sessions/{long}/window?model=echo/paced&version=5").json()
    assert (window["model"], window["version"]) == ("echo/paced", 5)
    assert [each["version"] for each in window["messages"]] == [2, 3, 4, 5]


def test_a_window_of_nothing(client, session):
    """An empty session has an empty window or a refusal, and no failure."""
    response = client.get(f"/api/sessions/{session}/window")
    assert response.status_code == 200
    assert response.json()["messages"] == []


# --- pins -------------------------------------------------------------------------------------------------------------


def test_a_pinned_message_stands_in_every_window(client, session):
    """Once pinned it is sent however far back it is, and says so wherever it is shown; no longer pinned, it is not."""
    first = append(client, session, content="Remember: 7.")
    for number in range(20):
        append(client, session, content=f"word {number} " * 20)
    path = f"/api/sessions/{session}/messages/{first['version']}/pin"
    window = {"budget_tokens": 400}

    def sent():
        answer = client.get(f"/api/sessions/{session}/window", params=window).json()
        return [each["version"] for each in answer["messages"]]

    assert first["version"] not in sent()
    pinned = client.put(path)
    assert pinned.json() == first | {"pinned": True}
    assert client.put(path).json() == pinned.json()
    assert sent()[0] == first["version"]
    assert client.get(f"/api/sessions/{session}/messages", params={"limit": 1}).json()["items"] == [pinned.json()]
    assert client.delete(path).json() == first
    assert client.delete(path).json() == first
    assert first["version"] not in sent()
    kinds = [event["type"] for event in client.get(f"/api/sessions/{session}/events").json()["items"]]
    assert kinds[-3:] == ["message.appended", "message.pinned", "message.unpinned"]


def test_what_cannot_be_pinned(client, session):
    """What is no message, is erased, or is not there is named; with If-Match the session must be where it is."""
    message = append(client, session, content="x")
    path = f"/api/sessions/{session}/messages"
    for method in (client.put, client.delete):
        for version in (0, 1, 99, 1 << 80):
            problem(method(f"{path}/{version}/pin"), 404, "event_not_found")
        problem(method(f"{path}/+2/pin"), 400, "invalid_value")
        problem(method(f"/api/sessions/{message['id']}/messages/2/pin"), 404, "session_not_found")
        problem(method(f"{path}/2/pin", headers={"if-match": '"1"'}), 412, "version_conflict")
    client.post(f"/api/sessions/{session}/erase", json={"reason": "x", "versions": [2]}).raise_for_status()
    problem(client.put(f"{path}/2/pin"), 410, "erased")
