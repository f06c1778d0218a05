"""The reading half of a store: threads that read one snapshot each, and never more of them than there may be."""

import asyncio
import threading
from contextlib import contextmanager

import pytest

from manent.engine.errors import StoreError, StoreUnavailable
from manent.engine.log.readers import Readers
from manent.engine.log.sqlite.schema import migrate


@pytest.fixture
def path(tmp_path):
    migrate(tmp_path / "log.db")
    return tmp_path / "log.db"


@contextmanager
def readers(path, threads=2):
    made = Readers(path, threads)
    try:
        yield made
    finally:
        made.close()


class Held:
    """A read that goes on until it is let go."""

    def __init__(self):
        self.entered, self.release = threading.Event(), threading.Event()

    def __call__(self, _):
        self.entered.set()
        assert self.release.wait(30)
        return threading.get_ident()


async def entered(held):
    assert await asyncio.to_thread(held.entered.wait, 30)


async def test_as_many_read_at_once_as_there_are_threads(path):
    """What comes when all are busy waits, and is read in the order in which it came."""
    first, second, told = Held(), Held(), []
    with readers(path) as reading:
        busy = [asyncio.create_task(reading.read(held)) for held in (first, second)]
        await asyncio.gather(entered(first), entered(second))
        waiting = [asyncio.create_task(reading.read(lambda _, n=n: told.append(n))) for n in range(20)]
        await asyncio.sleep(0.05)
        assert told == []
        first.release.set()
        await asyncio.gather(*waiting)
        assert told == [*range(20)]
        second.release.set()
        assert len(set(await asyncio.gather(*busy))) == 2


async def test_the_thread_that_was_busy_last_reads_next(path):
    """One reader at a time needs one thread and its one connection, however many there may be."""
    with readers(path, threads=4) as reading:
        seen = {await reading.read(lambda connection: (threading.get_ident(), id(connection))) for _ in range(50)}
    assert len(seen) == 1


async def test_a_read_that_nobody_waits_for_is_not_done(path):
    """Who gives up while waiting is not read for, and those behind are."""
    held, told = Held(), []
    with readers(path, threads=1) as reading:
        busy = asyncio.create_task(reading.read(held))
        await entered(held)
        given_up = asyncio.create_task(reading.read(lambda _: told.append("given up")))
        behind = asyncio.create_task(reading.read(lambda _: told.append("behind")))
        await asyncio.sleep(0)
        given_up.cancel()
        held.release.set()
        await behind
        await busy
    assert told == ["behind"]


async def test_who_gives_up_in_the_middle_of_a_read_does_no_harm(path):
    """The thread goes on with what comes next."""
    held = Held()
    with readers(path, threads=1) as reading:
        busy = asyncio.create_task(reading.read(held))
        await entered(held)
        busy.cancel()
        held.release.set()
        assert await reading.read(lambda _: "next") == "next"


async def test_an_error_is_told_to_who_asked(path):
    """One of the database means something, any other is as it was raised; the thread reads on."""
    with readers(path, threads=1) as reading:
        with pytest.raises(StoreError):
            await reading.read(lambda connection: connection.exec_driver_sql("SELECT * FROM nowhere"))
        with pytest.raises(ZeroDivisionError):
            await reading.read(lambda _: 1 / 0)
        assert await reading.read(lambda connection: connection.exec_driver_sql("SELECT 7").scalar()) == 7


async def test_closing_finishes_what_was_asked_for(path):
    """Nobody is left waiting, and nothing is read afterwards."""
    held = [Held(), Held()]
    reading = Readers(path, 2)
    busy = [asyncio.create_task(reading.read(each)) for each in held]
    await asyncio.gather(*map(entered, held))
    waiting = [asyncio.create_task(reading.read(lambda _, n=n: n)) for n in range(5)]
    await asyncio.sleep(0)
    for each in held:
        threading.Timer(0.1, each.release.set).start()
    reading.close()
    assert len(set(await asyncio.gather(*busy))) == 2
    assert await asyncio.gather(*waiting) == [*range(5)]
    with pytest.raises(StoreUnavailable):
        await reading.read(lambda _: "too late")
