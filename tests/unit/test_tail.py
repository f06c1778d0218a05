"""The tail of a running turn: what is on disk, in memory, for those who read along."""

import asyncio

import pytest

from manent.engine.streams.frames import Frame
from manent.engine.streams.tail import Tail


def frames(*numbers):
    return [Frame(number, "delta", b"{}") for number in numbers]


def numbers(found):
    return None if found is None else [frame.number for frame in found]


@pytest.mark.parametrize(
    ("cursor", "found"),
    [(0, None), (1, None), (2, [3, 4, 5]), (3, [4, 5]), (4, [5]), (5, []), (6, []), (99, [])],
)
def test_a_tail_gives_what_follows_or_says_that_it_cannot(cursor, found):
    """What follows a cursor, if all of it is still there; None, if some of it is not."""
    tail = Tail(3)
    for number in range(1, 6):
        tail.publish(frames(number))
    assert numbers(tail.after(cursor, 99)) == found
    assert tail.last == 5


def test_an_empty_tail_has_nothing():
    """Before the first frame there is nothing after any cursor."""
    assert Tail(3).after(0, 99) == []


def test_more_at_once_than_it_holds():
    """A batch larger than the tail leaves its newest frames."""
    tail = Tail(2)
    tail.publish(frames(1, 2, 3, 4))
    tail.publish([])
    assert numbers(tail.after(2, 99)) == [3, 4]
    assert tail.after(1, 99) is None


@pytest.mark.parametrize(
    ("cursor", "limit", "found"), [(2, 1, [3]), (2, 2, [3, 4]), (4, 2, [5]), (5, 1, []), (1, 1, None)]
)
def test_only_so_many_at_once(cursor, limit, found):
    """From the cursor on, in order; the rest is for the next time."""
    tail = Tail(3)
    tail.publish(frames(1, 2, 3, 4, 5))
    assert numbers(tail.after(cursor, limit)) == found


async def test_readers_are_woken_by_frames_and_by_the_end():
    """Who listens for the bell wakes for news and for the end; who waits for the end only for that."""
    tail = Tail(10)
    first, second = asyncio.ensure_future(tail.next_ring()), asyncio.ensure_future(tail.end())
    await asyncio.sleep(0)
    tail.publish(frames(1))
    await asyncio.sleep(0.01)
    assert (first.done(), second.done()) == (True, False)
    error = Frame(0, "error", b"{}")
    tail.close(error)
    await asyncio.sleep(0.01)
    assert second.done()
    assert (tail.closed, tail.error) == (True, error)
    await tail.end()
