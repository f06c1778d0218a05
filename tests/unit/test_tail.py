"""The tail of a running turn: what is on disk, in memory, for those who read along."""

import asyncio

import pytest

from engine.tail import Tail
from engine.views import Frame


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
    assert numbers(tail.after(cursor)) == found
    assert tail.last == 5


def test_an_empty_tail_has_nothing():
    """Before the first frame there is nothing after any cursor."""
    assert Tail(3).after(0) == []


def test_more_at_once_than_it_holds():
    """A batch larger than the tail leaves its newest frames."""
    tail = Tail(2)
    tail.publish(frames(1, 2, 3, 4))
    tail.publish([])
    assert numbers(tail.after(2)) == [3, 4]
    assert tail.after(1) is None


async def test_readers_are_woken_by_frames_and_by_the_end():
    """Who waits wakes for what comes after the cursor, and only for that; at the end everybody does."""
    tail = Tail(10)
    tail.publish(frames(1))
    await tail.wait(0)
    first, second = (asyncio.ensure_future(tail.wait(cursor)) for cursor in (1, 2))
    await asyncio.sleep(0)
    tail.publish(frames(2))
    await asyncio.sleep(0.01)
    assert (first.done(), second.done()) == (True, False)
    error = Frame(0, "error", b"{}")
    tail.close(error)
    await asyncio.sleep(0.01)
    assert second.done()
    assert (tail.closed, tail.error) == (True, error)
    await tail.wait(99)
