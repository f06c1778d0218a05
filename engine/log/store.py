"""The store on SQLite: the writer, a few reading threads, and bells that ring when a session has changed.

``open_store`` is the only way in. It takes the file's lock; reading beside a running server goes through
``open_reading``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from ..clock import Clock
from ..errors import EngineError, StoreUnavailable
from ..settings import Settings
from . import append
from .base import Append, Appended, Decoder, Projector, RequestKey
from .readers import Readers
from .sql.damage import Damage, Found
from .sql.idempotency import keyed_request
from .transaction import StateKey
from .writer import Took, Work, Writer

T = TypeVar("T")


class Bells:
    """Wakes whoever waits for a session, or for anything in a tenant's log (``session`` None), to change."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, int | None], set[asyncio.Event]] = {}

    @contextmanager
    def listen(self, tenant: str, session: UUID | None) -> Iterator[asyncio.Event]:
        """An event that is set at every change from now on; clear it before each look."""
        bell = asyncio.Event()
        key = (tenant, None if session is None else session.int)
        waiting = self._waiting.setdefault(key, set())
        waiting.add(bell)
        try:
            yield bell
        finally:
            waiting.discard(bell)
            if not waiting:
                self._waiting.pop(key, None)

    def ring(self, changed: set[StateKey]) -> None:
        if not self._waiting:
            return
        for tenant, session in changed:
            for key in ((tenant, session), (tenant, None)):
                for bell in self._waiting.get(key, ()):
                    bell.set()


class Store:
    """An open store. ``writer`` is None where it was opened for reading only. ``damage``: the damaged rows that were
    read. ``append_took`` is told how long each append took.
    """

    def __init__(
        self,
        readers: Readers,
        writer: Writer | None,
        bells: Bells,
        damage: Damage,
        request_key: bytes = b"",
        append_took: Took | None = None,
    ) -> None:
        self._readers = readers
        self.damage = damage
        self._request_key = request_key
        self._writer = writer
        self._append_took = append_took
        self.bells = bells
        self.frozen: EngineError | None = None

    def freeze(self, reason: EngineError) -> None:
        """Let nothing more be written, for a reason that every write is refused with from now on."""
        self.frozen = reason

    def check_writable(self) -> None:
        """Raises what the store is frozen with, or StoreUnavailable where it was opened for reading only."""
        if self.frozen is not None:
            raise self.frozen
        if self._writer is None:
            raise StoreUnavailable("the database is open for reading only")

    @property
    def writable(self) -> bool:
        return self._writer is not None

    @property
    def can_write(self) -> bool:
        """True where ``check_writable`` raises nothing."""
        return self.frozen is None and self.writable

    def keyed(self, tenant: str, request: RequestKey | None) -> RequestKey | None:
        """The request as it is kept: its idempotency key, which may be made of anybody's words, as a keyed hash."""
        return None if request is None else keyed_request(self._request_key, tenant, request)

    @property
    def waiting_writes(self) -> int:
        """How many writes wait for the disk."""
        return 0 if self._writer is None else self._writer.waiting

    def append(self, work: Append, *, urgent: bool = False) -> asyncio.Future[Appended]:
        """Record events. See ``store.base`` for what is promised and refused."""
        return self.submit(partial(append.append, work=work), urgent=urgent, took=self._append_took)

    async def do(self, work: Work) -> Any:
        """Have the writer do a work, and wait until it is durable."""
        return await self.submit(work)

    def submit(
        self, work: Work, *, urgent: bool = False, ahead: bool = False, took: Took | None = None
    ) -> asyncio.Future[Any]:
        """Have the writer do a work; the future is done when it is durable. ``urgent``, ``ahead``, ``took``: see
        ``Writer.submit``.
        """
        self.check_writable()
        assert self._writer is not None
        return self._writer.submit(work, urgent=urgent, ahead=ahead, took=took)

    def begin_purging(self) -> None:
        """Purge what an earlier process has left to be purged. Not before the file is known to be the right one."""
        if self._writer is not None:
            self._writer.begin_purging()

    async def purge(self) -> bool:
        """Clear the bytes of what was erased out of the file. False: not yet; see ``Writer.purge``."""
        if self._writer is None:
            raise StoreUnavailable("the database is open for reading only")
        return await self._writer.purge()

    async def read(self, function: Callable[[Connection], T]) -> T:
        """The result of ``function``, read in one snapshot on a reading thread."""
        return await self._readers.read(function)

    async def close(self) -> None:
        self._readers.close()
        if self._writer is not None:
            await self._writer.close()


@asynccontextmanager
async def open_store(
    path: Path,
    projector: Projector,
    clock: Clock,
    settings: Settings,
    decode: Decoder | None = None,
    request_key: bytes = b"",
    append_took: Took | None = None,
    damage_found: Found | None = None,
) -> AsyncIterator[Store]:
    """The store of a migrated database file, for writing. The caller holds the file's lock. ``decode``: see
    ``log.base``; ``request_key``: what idempotency keys are hashed with; ``append_took`` is told how long each append
    took, ``damage_found`` of each damaged row.
    """
    bells, damage = Bells(), _register(settings, damage_found)
    writer = Writer(path, projector, clock, decode=decode, damage=damage, changed=bells.ring, settings=settings)
    readers = Readers(path, settings.reader_threads, decode, damage)
    store = Store(readers, writer, bells, damage, request_key, append_took)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_reading(path: Path, settings: Settings, decode: Decoder | None = None) -> AsyncIterator[Store]:
    """The store of a database file, for reading beside a server that writes it."""
    damage = _register(settings, None)
    store = Store(Readers(path, settings.reader_threads, decode, damage), None, Bells(), damage)
    try:
        yield store
    finally:
        await store.close()


def _register(settings: Settings, found: Found | None) -> Damage:
    """A register of damage that tells of it on the event loop."""
    loop = asyncio.get_running_loop()

    def tell(tenant: str, position: int) -> None:
        with suppress(RuntimeError):  # the loop is gone, and with it everybody who is told
            loop.call_soon_threadsafe(found or _ignore, tenant, position)

    return Damage(settings.max_damaged_rows, tell)


def _ignore(_: str, __: int) -> None:
    return None
