"""A page of a list is bounded in items and in bytes, and whoever goes on where it ended sees all, once and in order."""

import msgspec
import pytest

from manent import engine
from tests.support import chatting, says

LARGE = 5000


async def all_pages(read, most_items):
    """Every page of a list, as ``read(place)`` gives it."""
    pages, start = [], {}
    while True:
        items, more, place = await read(start)
        assert len(items) <= most_items
        assert items or not more
        pages.append(items)
        if not more:
            return pages
        start = place


def lists(chat, session, limit):
    """Each list: reads a page from a place on, and tells the place where the next begins."""

    async def sessions(start):
        items, more = await chat.sessions(limit=limit, **start)
        return items, more is not None, {"before": more}

    async def messages(start, **order):
        items, more = await chat.messages(session, limit=limit, **order, **start)
        return items, more, {"after": items[-1].version if items else None}

    async def turns(start):
        items, more = await chat.turns(session, limit=limit, **start)
        return items, more is not None, {"after": more}

    async def events(start, **types):
        items, more = await chat.events(session, limit=limit, **types, **start)
        return items, more, {"after": items[-1].version if items else None}

    async def log(start):
        items, more = await chat.log_events(limit=limit, **start)
        return items, more, {"after": items[-1].position if items else None}

    return {
        "sessions": sessions,
        "messages": messages,
        "messages backwards": lambda start: messages(start, descending=True),
        "turns": turns,
        "events": events,
        "events of a type": lambda start: events(start, types=["message.appended"]),
        "log": log,
    }


@pytest.fixture
async def filled(tmp_path):
    """An engine whose file has much that is small, then some that is large, then small again; and a session of it."""
    async with chatting(tmp_path / "chat.db", main=says("x" * LARGE), max_page_bytes=2 * LARGE + 4000) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        for _ in range(3):
            await chat.create_session(system="x" * LARGE, title="large")
        for number in range(30):
            await chat.append_message(session, f"{number}")
        for _ in range(5):
            await chat.say(session, "Go.")
        for number in range(30):
            await chat.append_message(session, f"{number}")
        yield chat, session


@pytest.mark.parametrize("limit", [1, 7, 1000])
async def test_pages_of_large_items_end_early(filled, limit):
    """Of each list: a page holds no more items than asked for and no more bytes than the setting says, and all pages
    together are what one boundless page would be.
    """
    chat, session = filled
    bound = chat.settings.max_page_bytes
    for name, read in lists(chat, session, limit).items():
        pages = await all_pages(read, limit)
        sizes = [sum(msgspec.json.encode(item).count(b"x") for item in page) for page in pages]
        assert max(sizes) <= bound, name
        if limit == 1000:
            assert max(sizes) >= 2 * LARGE, name
            assert len(pages) > 1, name
        found = [item.id for page in pages for item in page]
        assert len(found) == len(set(found)), name
        expected = {"sessions": 4, "turns": 5, "messages": 70, "messages backwards": 70, "events of a type": 70}
        assert len(found) == expected.get(name, len(found)), name


async def test_an_item_that_is_larger_than_a_page_is_a_page(tmp_path):
    """At least one item is given at once, however large it is; the last page says that it is the last."""
    async with chatting(tmp_path / "chat.db", max_page_bytes=10) as chat:
        session = (await chat.create_session()).id
        for number in range(3):
            await chat.append_message(session, f"{number}" * LARGE)
        pages = await all_pages(lists(chat, session, 100)["messages"], 100)
        assert [[engine.text_of(message.blocks())[0] for message in page] for page in pages] == [["0"], ["1"], ["2"]]
