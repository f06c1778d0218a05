"""Threads that read, each with a connection of its own. No read transaction outlives its function.

A thread pool of the standard library takes longer over a call than most reads take: it makes a future for threads and
another for the event loop, with a lock in each. Here a read is one object. The thread that was idle last is woken
first, because its connection has the pages that are wanted; all that decides which one is done on the event loop.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from ..errors import StoreUnavailable
from .base import Decoder
from .sql.damage import Damage
from .sql.driver import transaction
from .sqlite.connection import BEGIN_READING, DRIVER_ERRORS, meaning_of, open_reader

T = TypeVar("T")
Function = Callable[[Connection], Any]
Read = tuple[Function, asyncio.Future[Any]]


class Readers:
    """See the module. All methods belong to one event loop."""

    def __init__(self, path: Path, threads: int, decode: Decoder | None = None, damage: Damage | None = None) -> None:
        self._engine = open_reader(path, decode=decode, damage=damage)
        self._threads = threads
        self._all: list[_Reader] = []
        self._idle: list[_Reader] = []
        self._waiting: deque[Read] = deque()
        self._closed = False

    async def read(self, function: Callable[[Connection], T]) -> T:
        """The result of ``function``, read in one snapshot."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._idle:
            self._idle.pop().work.put((function, future))
        elif len(self._all) < self._threads:
            reader = _Reader(self._engine.connect, self._settle)
            self._all.append(reader)
            reader.work.put((function, future))
        else:
            self._waiting.append((function, future))
        return await future

    def close(self) -> None:
        """Finish what is being read and what waits, and take no more."""
        self._closed = True
        for reader in cycle(self._all):
            if not self._waiting:
                break
            reader.work.put(self._waiting.popleft())
        for reader in self._all:
            reader.work.put(None)
        for reader in self._all:
            reader.join()
        self._engine.dispose()

    def _settle(self, reader: _Reader, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        """When a reader is done: it goes on with what has waited longest, and its answer is given."""
        while self._waiting:
            read = self._waiting.popleft()
            if not read[1].done():  # else nobody waits for it any more
                reader.work.put(read)
                break
        else:
            self._idle.append(reader)
        _answer(future, result, error)


class _Reader:
    """One thread. ``settle`` is called on the event loop after each read."""

    def __init__(self, connect: Callable[[], Connection], settle: Callable[..., None]) -> None:
        self.work: queue.SimpleQueue[Read | None] = queue.SimpleQueue()
        self._connect = connect
        self._settle = settle
        self._thread = threading.Thread(target=self._run, name="manent-reader", daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        connection: Connection | None = None
        while (read := self.work.get()) is not None:
            function, future = read
            result: Any = None
            error: BaseException | None = None
            try:
                if connection is None:
                    connection = self._connect()
                with transaction(connection, BEGIN_READING):
                    result = function(connection)
            except DRIVER_ERRORS as failure:
                error = _told(failure)
            except BaseException as failure:  # noqa: BLE001 - whatever it was, somebody waits for it
                error = failure
            with suppress(RuntimeError):  # the loop is gone, and with it everybody who waited
                future.get_loop().call_soon_threadsafe(self._settle, self, future, result, error)
            del read, function, future, result, error  # the next may come late
        if connection is not None:
            connection.close()


def _told(failure: Exception) -> Exception:
    """The error that a failure of the database means, with it as the cause."""
    meaning = meaning_of(failure)
    meaning.__cause__ = failure
    return meaning


def _answer(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
