"""A page of a list is bounded in items and in bytes, and whoever goes on where it ended sees all, once and in order."""

import msgspec
import pytest

from tests.support import chatting, says

LARGE = 5000


async def all_pages(read, most_items):
    """Every page of a list, as ``read(after)`` gives it."""
    pages, after = [], None
    while True:
        page = await read(after)
        assert len(page.items) <= most_items
        assert page.items or page.next is None
        pages.append(page.items)
        after = page.next
        if after is None:
            return pages


def lists(chat, session, limit):
    """Each list: reads the page that follows a place."""
    return {
        "sessions": lambda after: chat.sessions(limit=limit, after=after),
        "messages": lambda after: chat.messages(session, limit=limit, after=after),
        "messages backwards": lambda after: chat.messages(session, limit=limit, after=after, descending=True),
        "turns": lambda after: chat.turns(session, limit=limit, after=after),
        "events": lambda after: chat.events(session, limit=limit, after=after),
        "events of a type": lambda after: chat.events(session, limit=limit, after=after, types=["message.appended"]),
        "log": lambda after: chat.log_events(limit=limit, after=after),
    }


@pytest.fixture
async def filled(tmp_path):
    """An engine whose file has much that is small, then some that is large, then small again; and a session of it."""
    async with chatting(tmp_path / "chat.db", main=says("x" * LARGE), max_page_bytes=2 * LARGE + 9000) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        for _ in range(6):
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
        expected = {"sessions": 7, "turns": 5, "messages": 70, "messages backwards": 70, "events of a type": 70}
        assert len(found) == expected.get(name, len(found)), name


async def test_an_item_that_is_larger_than_a_page_is_a_page(tmp_path):
    """At least one item is given at once, however large it is; the last page says that it is the last."""
    async with chatting(tmp_path / "chat.db", max_page_bytes=10) as chat:
        session = (await chat.create_session()).id
        for number in range(3):
            await chat.append_message(session, f"{number}" * LARGE)
        pages = await all_pages(lists(chat, session, 100)["messages"], 100)
        assert [[message.text[0] for message in page] for page in pages] == [["0"], ["1"], ["2"]]
