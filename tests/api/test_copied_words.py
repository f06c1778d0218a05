"""Words that a client has the server copy: an item that is named instead of sent, and a summary. An erasure of what
they were copied from names where they are kept.
"""

from uuid import UUID

import pytest

from manent import engine
from tests.api.conftest import settings_on
from tests.api.harness import in_thread
from tests.api.responses_wire import RESPONSES, ask
from tests.api.test_responses_state import session_of

WORD = "Schibboleth"


@pytest.fixture
def database(tmp_path):
    """Where the server's database is. At the end its log is whole, and its tables can be made again from that."""
    path = tmp_path / "chat.db"
    yield path
    assert engine.verify_database(str(path)).problem is None
    assert engine.rebuild_projections(str(path)).differed == ()


@pytest.fixture
def client(tmp_path, database):
    with in_thread(settings_on(tmp_path, database=str(database))) as server, server.client() as client:
        yield client


def holders(client, session, versions=None, **query):
    """Where an erasure says that the words are kept: (session, version, words of that)."""
    order = {"reason": "asked to"} | ({} if versions is None else {"versions": versions})
    told = client.post(f"/api/sessions/{session}/erase", json=order, params=query).json()
    found = [each for each in told["sessions"] if each["relation"] == "copy"]
    return {each["session_id"]: each["versions"] for each in found}


def messages(client, session):
    """The texts of a session's messages, by their versions."""
    items = client.get(f"/api/sessions/{session}/messages?limit=1000").json()["items"]
    return {item["version"]: "".join(block.get("text", "") for block in item["content"] or []) for item in items}


def version_of(client, session, text):
    return next(version for version, said in messages(client, session).items() if text in said)


def test_an_item_that_was_named_is_a_copy(client):
    """Its message is told by the session in which it is now, with the attempt that sent it; before and after."""
    source = ask(client, WORD)
    home = session_of(client, source["id"])
    copied = ask(
        client, [{"type": "item_reference", "id": source["output"][0]["id"]}, {"role": "user", "content": "?"}]
    )
    away = session_of(client, copied["id"])
    answered = version_of(client, home, WORD) + 4
    assert messages(client, home)[answered] == WORD
    held = version_of(client, away, WORD)
    would = holders(client, home, [answered], dry_run="true")
    assert held in would[away]
    assert would.keys() == {away}
    assert holders(client, home, [answered]) == would
    assert holders(client, home, [answered], dry_run="true") == would
    assert WORD in messages(client, away).values()
    holders(client, away, [held])
    assert holders(client, home, [answered], dry_run="true") == {}


def test_a_copy_in_the_same_conversation_is_named(client):
    """Also there it is another message; where that is erased, too, nothing is left to be named."""
    source = ask(client, WORD)
    home = session_of(client, source["id"])
    named = [{"type": "item_reference", "id": source["output"][0]["id"]}]
    ask(client, [*named, {"role": "user", "content": "?"}], previous_response_id=source["id"])
    asked, answered, held = [version for version, said in messages(client, home).items() if said == WORD]
    named = holders(client, home, [answered], dry_run="true")
    assert held in named[home]
    assert asked not in named[home]
    assert home not in holders(client, home, dry_run="true")


def test_items_of_a_conversation_are_copies_too(client):
    """Each item is a message of its own, and names the one that it is from: copies of copies are found."""
    source = ask(client, WORD)
    home = session_of(client, source["id"])
    named = [{"type": "item_reference", "id": source["output"][0]["id"]}]
    other = {"type": "message", "role": "user", "content": "else"}
    first = client.post("/v1/conversations", json={"items": [other, *named, other]}).json()["id"]
    items = client.get(f"/v1/conversations/{first}/items?order=asc").json()["data"]
    second = client.post("/v1/conversations", json={}).json()["id"]
    again = [{"type": "item_reference", "id": items[1]["id"]}]
    assert client.post(f"/v1/conversations/{second}/items", json={"items": again}).status_code == 200
    answered = [version for version, said in messages(client, home).items() if said == WORD][1]
    near, far = native_id(first), native_id(second)
    assert holders(client, home, [answered], dry_run="true") == {
        near: [version_of(client, near, WORD)],
        far: [version_of(client, far, WORD)],
    }
    holders(client, near)
    assert [*holders(client, home, [answered], dry_run="true")] == [far]


def test_a_summary_is_a_copy_and_so_is_where_it_stands(client):
    """Of what was said up to it: the answer that sums it up, and each message that holds this."""
    source = ask(client, WORD)
    home = session_of(client, source["id"])
    compacted = client.post(f"{RESPONSES}/compact", json={"model": "echo/echo", "previous_response_id": source["id"]})
    summary, (item,) = compacted.headers["x-manent-session"], compacted.json()["output"]
    after = ask(client, [item, {"role": "user", "content": "Go on."}])
    away = session_of(client, after["id"])
    held = holders(client, home, [version_of(client, home, WORD)], dry_run="true")
    assert held.keys() == {summary, away}
    assert max(messages(client, summary)) in held[summary]
    assert min(messages(client, away)) in held[away]


def native_id(conversation):
    return str(UUID(conversation.removeprefix("conv_")))
