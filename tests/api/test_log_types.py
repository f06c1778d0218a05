"""The whole log by types of events: in pages from either end, however rare the types are, and live."""

import threading
import time

import pytest

from tests.api.conftest import settings_on
from tests.api.harness import in_thread, opened, pages

LOG = "/api/events"
ENDS = "turn.completed,turn.failed"
SCANNED = 7


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """A server that looks through few events for one page, with turns among many messages."""
    settings = settings_on(tmp_path_factory.mktemp("log"), max_scanned_events=SCANNED)
    with in_thread(settings) as server, server.client() as client:
        session = client.post("/api/sessions", json={"model": "echo/echo"}).json()["id"]
        for number in range(4):
            messages = [{"content": f"{number} {each}"} for each in range(10)]
            client.post(f"/api/sessions/{session}/messages", json={"messages": messages})
            client.post(f"/api/sessions/{session}/turns", json={"content": f"turn {number}", "stream": False})
        yield client


def everything(client):
    return pages(client, LOG, limit=1000)[0]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 3, 1000])
@pytest.mark.parametrize("types", [ENDS, "session.started", "body.erased", "message.appended", None])
def test_pages_from_either_end_hold_what_is_of_the_types(busy, order, limit, types):
    """Nothing is left out or told twice, though a page may be empty and have a next one."""
    wanted = [event for event in everything(busy) if types is None or event["type"] in types.split(",")]
    found, count = pages(busy, LOG, limit=limit, order=order, **({} if types is None else {"types": types}))
    assert found == (wanted if order == "asc" else wanted[::-1])
    if types == "body.erased":
        assert count > 1


def test_a_page_goes_on_behind_a_position_in_its_order(busy):
    """``after`` is the position before what follows, in either order."""
    first, second, third = everything(busy)[:3]
    assert busy.get(LOG, params={"after": 1, "limit": 1}).json()["items"] == [second]
    assert busy.get(LOG, params={"after": 3, "limit": 5, "order": "desc"}).json()["items"] == [second, first]
    assert busy.get(LOG, params={"after": 1, "order": "desc"}).json() == {"items": [], "next_cursor": None}
    assert busy.get(LOG, params={"after": 4, "limit": 1, "order": "desc"}).json()["items"] == [third]


def test_one_waits_for_a_type(busy):
    """However many events of other types come before it: the answer comes with the first that is wanted."""
    newest = everything(busy)[-1]["position"]
    session = busy.post("/api/sessions", json={"model": "echo/echo"}).json()["id"]

    def talk():
        time.sleep(0.3)
        busy.post(f"/api/sessions/{session}/messages", json={"messages": [{"content": "x"}] * (2 * SCANNED)})
        busy.post(f"/api/sessions/{session}/turns", json={"content": "now", "stream": False})

    talking = threading.Thread(target=talk)
    talking.start()
    page = busy.get(LOG, params={"after": newest, "types": ENDS, "wait": 20}).json()
    talking.join()
    assert [event["type"] for event in page["items"]] == ["turn.completed"]


@pytest.mark.parametrize("path", [LOG, "session"])
def test_a_stream_tells_of_the_types_alone(busy, path):
    """From the first on, and for who comes back what follows; silence says that all was given."""
    everything_now = everything(busy)
    session = everything_now[0]["session_id"]
    number = "position" if path == LOG else "version"
    path = f"{LOG}/stream" if path == LOG else f"/api/sessions/{session}/events/stream"
    wanted = [
        event
        for event in everything_now
        if event["type"] in ENDS and (number == "position" or event["session_id"] == session)
    ]
    for gone in (0, 1):
        after = wanted[gone - 1][number] if gone else 0
        with opened(busy, "GET", f"{path}?types={ENDS}&after={after}") as stream:
            blocks = stream.until(lambda block: block.data is None)
        assert [block.json for block in blocks[:-1]] == wanted[gone:]
        assert [int(block.id) for block in blocks[:-1]] == [event[number] for event in wanted[gone:]]


@pytest.mark.parametrize("path", [LOG, f"{LOG}/stream"])
def test_a_type_that_there_is_not_is_named(busy, path):
    """With those that there are."""
    response = busy.get(path, params={"types": "turn.completd"})
    assert (response.status_code, response.json()["field"]) == (400, "types")
    assert "turn.completed" in str(response.json())


def test_there_is_no_waiting_backwards(busy):
    """What is new comes last there."""
    response = busy.get(LOG, params={"order": "desc", "wait": 1})
    assert (response.status_code, response.json()["field"]) == (400, "wait")
