"""Makes checkpoints while an engine runs: on a timer when there is something new, on demand, and at the end.

A checkpoint is read from a committed snapshot, so it never covers what may still be lost. It is written outside first
and in the database second: whatever dies between, the file outside knows no more than the log had.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from ..clock import Clock
from ..errors import AuditError, Behind, Broken, EngineError, ProofInvalid, StoreCorrupt
from ..log.base import Connection
from ..log.sql.checkpoints import LogEnd, SignedRow, keep_checkpoint, log_end, log_sizes, newest_checkpoint
from ..log.sql.tree import Tree
from ..log.store import Store
from ..log.transaction import Transaction
from ..settings import Settings
from .checkpoint_file import OutsideFile, outside_path
from .keys import open_signer
from .notes import Checkpoint, Signer
from .rollback import adopt, problems, signed_row

log = logging.getLogger("manent.audit")

Told = Callable[[str, int], None]

FIRST_S = 2
"""How often a log is looked for that has begun, until one is signed: who has just begun can verify at once."""


class Keeper:
    """Signs the checkpoints of an open store. ``told`` hears of each new one: its log, and the log's size."""

    def __init__(
        self, store: Store, signer: Signer, outside: OutsideFile, clock: Clock, told: Told | None = None
    ) -> None:
        self._told = told
        self._store = store
        self._signer = signer
        self._outside = outside
        self._clock = clock
        self._signed: dict[str, int] = {}
        self._one_at_a_time = asyncio.Lock()

    @property
    def signer(self) -> Signer:
        return self._signer

    async def sign(self, tenant: str) -> None:
        """Make a checkpoint of a log as it is now, unless the last one says the same or it has not begun.

        Raises Broken, and lets nothing more be written, where the log does not follow from its last checkpoint; and
        a StoreError where it cannot be kept.
        """
        async with self._one_at_a_time:
            self._store.check_writable()
            try:
                end, old = await self._store.read(partial(self._look, tenant=tenant))
            except (Broken, StoreCorrupt) as error:
                self._store.freeze(error)
                raise
            if end.origin is None:
                return
            checkpoint = Checkpoint(end.origin, end.size, end.root)
            note = self._signer.sign(checkpoint)
            if old is None or (old.size, old.key_id) != (end.size, note.signatures[0].key_id):
                await asyncio.to_thread(self._outside.append, note)
                row = signed_row(tenant, checkpoint, note, self._clock)
                await self._store.do(partial(_keep, row=row, public=self._signer.public))
                if self._told is not None:
                    self._told(tenant, end.size)
            self._signed[tenant] = end.size

    async def sign_all(self) -> None:
        """Make a checkpoint of every log that has something new. What fails is logged, and tried again next time."""
        for tenant, size in (await self._store.read(log_sizes)).items():
            if self._signed.get(tenant) != size:
                try:
                    await self.sign(tenant)
                except EngineError as error:
                    log.warning("no checkpoint of %s was made: %s", tenant, error.detail)

    async def run(self, every_s: float) -> None:
        while not self._signed:
            await asyncio.sleep(min(every_s, FIRST_S))
            if not self._signed:
                await self._sign_what_is_new()
        while True:
            await asyncio.sleep(every_s)
            await self._sign_what_is_new()

    async def _sign_what_is_new(self) -> None:
        if self._store.frozen is None:
            with suppress(EngineError):
                await self.sign_all()

    def _look(self, connection: Connection, tenant: str) -> tuple[LogEnd, SignedRow | None]:
        """The end of a log, which follows from its last checkpoint. Raises Broken."""
        end, tree = log_end(connection, tenant), Tree(connection, tenant)
        old = newest_checkpoint(connection, tenant, end.origin) if end.origin else None
        if end.size != end.last or tree.root(end.size) != end.root:
            raise Broken(f"the head of {tenant} is not what its events say", tenant=tenant)
        if old is not None and (old.size > end.size or tree.root(old.size) != old.root):
            raise Broken(f"the log of {tenant} does not follow from its checkpoint of {old.size}", tenant=tenant)
        return end, old


@asynccontextmanager
async def keeping(
    store: Store,
    path: Path,
    clock: Clock,
    settings: Settings,
    notice: Callable[[str], None],
    told: Told | None = None,
) -> AsyncIterator[Keeper]:
    """Checkpoints for as long as a store is open; ``told`` hears of each new one. Where the database is not the one
    that its checkpoints outside speak of, the store is frozen, which ``notice`` is told. Raises Invalid for the setting
    of a key.
    """
    signer = await asyncio.to_thread(open_signer, path, settings.signing_key_file)
    outside = OutsideFile(outside_path(path, settings.checkpoint_file))
    problem = await _standing(store, outside, signer, clock)
    if problem is None:
        store.begin_purging()
    else:
        store.freeze(problem)
        notice(f"warning: {problem.detail}")
    keeper = Keeper(store, signer, outside, clock, told)
    timer = asyncio.create_task(keeper.run(settings.checkpoint_every_s))
    try:
        yield keeper
    finally:
        timer.cancel()
        with suppress(asyncio.CancelledError):
            await timer
        if store.frozen is None:
            with suppress(EngineError):
                await keeper.sign_all()


async def _standing(store: Store, outside: OutsideFile, signer: Signer, clock: Clock) -> AuditError | None:
    """The reason why the database cannot be written. Where there is none, the key that signed the last checkpoints
    outside is on record afterwards, if it is the one in use.
    """
    try:
        newest = await asyncio.to_thread(outside.newest)
    except ProofInvalid as error:
        return Behind(f"{error.detail}; the database is served read-only until the file is put right")
    found = await store.read(lambda connection: next(problems(connection, newest, signer), None))
    if found is not None:
        return found.error()
    with suppress(EngineError):  # it is tried again at the next start
        await store.do(lambda tx: adopt(tx.connection, newest, signer, clock))
    return None


def _keep(tx: Transaction, row: SignedRow, public: bytes) -> None:
    keep_checkpoint(tx.connection, row, public)
