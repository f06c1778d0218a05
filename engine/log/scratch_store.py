"""A store that is not kept: a log in memory, for work whose record nobody wants.

It keeps the contract of a store but for durability. Every read and every write is done at once, on the thread of the
event loop: there is no disk to wait for, and handing work to a thread costs more than the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from ..clock import Clock
from ..errors import EngineError
from ..settings import Settings
from . import append
from .base import DECODER, Append, Appended, Decoder, Projector
from .sql.damage import DAMAGE, Damage
from .sql.driver import transaction
from .sql.tables import metadata
from .sqlite.connection import BEGIN_READING, BEGIN_WRITING
from .sqlite.scratch import scratch_database
from .store import Bells, Store
from .transaction import Heads, Transaction
from .writer import Took, Work

T = TypeVar("T")


class ScratchStore(Store):
    """See the module. It belongs to one event loop."""

    def __init__(
        self, connection: Connection, projector: Projector, clock: Clock, settings: Settings, damage: Damage
    ) -> None:
        self.damage = damage
        self.bells = Bells()
        self.frozen = None
        self._request_key = b""
        self._writer = None
        self._connection = connection
        self._projector = projector
        self.clock = clock
        self._heads = Heads(settings.cached_sessions)

    def check_writable(self) -> None:
        """Nothing: it is."""

    @property
    def writable(self) -> bool:
        return True

    def append(self, work: Append, *, urgent: bool = False) -> asyncio.Future[Appended]:
        return self.submit(partial(append.append, work=work), urgent=urgent)

    def submit(
        self, work: Work, *, urgent: bool = False, ahead: bool = False, took: Took | None = None
    ) -> asyncio.Future[Any]:
        """As of ``Store``; it is done when this returns, whatever is ``urgent`` or ``ahead``."""
        del urgent, ahead, took
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            done.set_result(self._transact(work))
        except Exception as error:  # noqa: BLE001 - whatever it was, somebody waits for it
            if not isinstance(error, EngineError):
                self._heads.drop()
                self._projector.forget()
            done.set_exception(error)
        return done

    def _transact(self, work: Work) -> Any:
        refusal: EngineError | None = None
        result: Any = None
        with transaction(self._connection, BEGIN_WRITING):
            tx = Transaction(self._connection, self._heads, self._projector, self.clock)
            try:
                result = work(tx)
            except EngineError as error:
                refusal = error
            tx.flush()
        self._heads.trim()
        if refusal is not None:
            raise refusal
        self.bells.ring(tx.changed)
        return result

    async def read(self, function: Callable[[Connection], T]) -> T:
        with transaction(self._connection, BEGIN_READING):
            return function(self._connection)

    async def close(self) -> None:
        """Nothing: the database is gone when its ``scratch_store`` ends."""


@contextmanager
def scratch_store(
    projector: Projector, clock: Clock, settings: Settings, decode: Decoder | None = None
) -> Iterator[ScratchStore]:
    """A store with every table, empty, and gone at the end."""
    with scratch_database(list(metadata.tables.values()), rolls_back=True) as connection:
        connection.commit()
        damage = Damage(settings.max_damaged_rows, _ignore)
        connection.info.update({DECODER: decode, DAMAGE: damage})
        yield ScratchStore(connection, projector, clock, settings, damage)


def _ignore(_: str, __: int) -> None:
    """A damaged row of a database in memory is nobody's."""
