"""A page of a list is no larger than the setting says, and no more than a page is read for it."""

import tracemalloc

import pytest

from tests.api.conftest import settings_on
from tests.api.harness import in_thread, pages

MOST = 20_000
LARGE = 6000


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A client of a server with small pages, and a session with much that is small and some that is large."""
    folder = tmp_path_factory.mktemp("pages")
    with in_thread(settings_on(folder, max_page_bytes=MOST)) as server, server.client() as client:
        for number in range(60):
            fields = {"title": f"{number}", "allowed_tools": [f"tool_{name}" for name in range(60)]}
            client.post("/api/sessions", json=fields | {"system": "x" * LARGE * (number % 3 == 0)}).raise_for_status()
        path = client.post("/api/sessions", json={}).headers["location"]
        for number in range(60):
            client.post(f"{path}/messages", json={"content": f"{number}"}).raise_for_status()
            words = "x" * LARGE if number % 4 == 0 else "y"
            client.post(f"{path}/turns", json={"content": words}).raise_for_status()
        yield client, path


LISTS = {
    "sessions": "/api/sessions?order=created",
    "sessions by activity": "/api/sessions",
    "messages": "{}/messages",
    "messages backwards": "{}/messages?order=desc",
    "turns": "{}/turns",
    "turns backwards": "{}/turns?order=desc",
    "events": "{}/events",
    "events of a type": "{}/events?types=message.appended,turn.completed",
    "the log": "/api/events",
}


@pytest.mark.parametrize("path", ["/api/models", "/api/tools"])
def test_what_there_is_comes_in_pages_too(tmp_path, path):
    """One item at the least, and all of them in the end."""
    with in_thread(settings_on(tmp_path, max_page_bytes=500)) as server, server.client() as client:
        items, count = pages(client, path)
        assert count > 1
        names = [item["name"] for item in items]
        assert len(names) == len(set(names)) > 1
    with in_thread(settings_on(tmp_path)) as server, server.client() as client:
        assert client.get(path).json() == {"items": items, "next_cursor": None}


@pytest.mark.parametrize("limit", [7, 1000])
@pytest.mark.parametrize("path", LISTS.values(), ids=LISTS)
def test_no_page_is_larger(filled, path, limit):
    """In bytes of the answer itself, unless it holds one item only; all pages together hold everything, once."""
    client, session = filled
    url = path.format(session)
    base, _, query = url.partition("?")
    fixed = dict(pair.split("=") for pair in query.split("&") if pair)
    found, sizes = [], []
    cursor = {}
    while True:
        answer = client.get(base, params={"limit": limit} | fixed | cursor)
        page = answer.json()
        found += [item["id"] for item in page["items"]]
        sizes.append(len(answer.content))
        assert len(answer.content) <= MOST + 200 or len(page["items"]) == 1
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(found) == len(set(found))
    everything = {"sessions": 61, "messages": 180, "turns": 60}
    name = next(name for name in LISTS if LISTS[name] == path).split(" ")[0]
    assert len(found) == everything.get(name, len(found))
    if limit == 1000:
        assert max(sizes[:-1]) > MOST // 2, "pages are as full as they may be"


MEGABYTES = 30


@pytest.fixture(scope="module")
def suddenly_large(tmp_path_factory):
    """A client of a server whose pages have two megabytes, and a session that is small at first and then is not;
    and large sessions.
    """
    folder = tmp_path_factory.mktemp("large")
    settings = settings_on(folder, max_page_bytes=2 << 20, max_body_bytes=64 << 20)
    with in_thread(settings) as server, server.client() as client:
        path = client.post("/api/sessions", json={}).headers["location"]
        for content in ("x", "x" * 1_000_000):
            count = 40 if content == "x" else MEGABYTES
            messages = [{"role": "assistant", "content": content}] * count
            client.post(f"{path}/messages", json={"messages": messages}).raise_for_status()
        for _ in range(MEGABYTES):
            client.post("/api/sessions", json={"system": "x" * 1_000_000}).raise_for_status()
        yield client, path


@pytest.mark.parametrize(
    "below", ["/messages", "/events", "/events?types=message.appended", "/api/events", "/api/sessions"]
)
def test_no_more_is_read_than_a_page(suddenly_large, below):
    """A list that is small where it begins does not make the server read all that follows into memory."""
    client, path = suddenly_large
    url = below if below.startswith("/api") else path + below
    client.get(url, params={"limit": 1})
    tracemalloc.start()
    try:
        page = client.get(url, params={"limit": 1000})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert page.json()["next_cursor"] is not None
    assert 1_000_000 < len(page.content) < 2 << 20
    assert peak < MEGABYTES * 1_000_000 / 2
