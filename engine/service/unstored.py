"""Words that clients asked not to store (DESIGN section 11): they are erased when their turn has ended and its readers
have read on, or some time has passed.

Which turns these are is on record, so what was due while no server ran is done by the next one. What the erasures have
left in the file is purged for many at once. A legal hold wins, and so does the setting ``keep_store_false``.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Literal
from uuid import UUID

from ..clock import Clock
from ..errors import EngineError, LegalHold, TurnAlreadyOpen
from ..events.types import ErasureWords
from ..log.base import Connection
from ..log.erasure import traces
from ..log.store import Store
from ..log.transaction import Transaction
from ..sessions import queries
from ..sessions.decisions import existing
from ..sessions.envelope import Caller
from ..sessions.turn_state import TurnState
from ..sessions.unstored import BEFORE_ALL, Place, has_words, unstored_turns
from ..settings import Settings
from .erasure import erase_in
from .reach import Order

log = logging.getLogger("manent.unstored")

Kept = Literal["keep_store_false", "legal_hold"]
"""Why words stay that are not to be stored."""

UNSTORED = ErasureWords("the client asked that it not be stored")
ACTOR = "system"

LOOK_EVERY_S = 1.0
"""How often is looked for what is due, while there is anything to erase."""
HELD_S = 60.0
"""How long is waited where an erasure was refused."""
PAGE = 500


class Unstored:
    """Erases what was asked not to be stored."""

    def __init__(self, store: Store, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._read: set[UUID] = set()
        self._held: dict[UUID, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._purged_at = float("-inf")
        self._stray = False

    async def kept(self, tenant: str, session: UUID) -> Kept | None:
        """Why the words of a session stay that are not to be stored; None: they will be erased."""
        if self._settings.keep_store_false:
            return "keep_store_false"
        held = await self._store.read(partial(is_held, tenant=tenant, session=session))
        return "legal_hold" if held else None

    def begin(self) -> None:
        """Erase from now on what is due, also what was due before. Does nothing where nothing may be erased."""
        if self._settings.keep_store_false or not self._store.can_write:
            return
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def read_on(self, turn: UUID) -> None:
        """Note that a turn's answer was read to its end."""
        if self._task is not None:
            self._read.add(turn)
            self._wake.set()

    async def close(self) -> None:
        """Erase no more; the next server goes on."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                waits = await self._pass()
                await self._purge()
            except EngineError as error:
                log.warning("what was asked not to be stored is not erased yet: %s", error.code)
                waits = True
            except Exception:
                log.exception("what was asked not to be stored is not erased yet")
                waits = True
            if waits or self._stray:
                await asyncio.sleep(LOOK_EVERY_S)
            else:
                await self._wake.wait()

    async def _pass(self) -> bool:
        """Erase what is due now; True if there is anything else to erase later."""
        after, waits = BEFORE_ALL, False
        while page := await self._store.read(partial(unstored_turns, after=after, limit=PAGE)):
            after = page[-1]
            for place in page:
                if await self._is_due(place):
                    await self._erase(place)
                waits = True
        return waits

    async def _is_due(self, place: Place) -> bool:
        tenant, turn = place
        if self._held.get(turn, 0) > asyncio.get_running_loop().time():
            return False
        state = await self._store.read(partial(queries.turn_state, tenant=tenant, turn=turn))
        if state is None or state.ended_at is None:
            return False
        since_us = self._clock.now_us() - self._settings.store_false_erase_after_s * 1_000_000
        return turn in self._read or state.ended_at <= since_us

    async def _erase(self, place: Place) -> None:
        tenant, turn = place
        caller = Caller(tenant=tenant, actor=ACTOR)
        try:
            await self._store.submit(partial(_erase, caller=caller, turn=turn, clock=self._clock))
        except (LegalHold, TurnAlreadyOpen):
            self._held[turn] = asyncio.get_running_loop().time() + HELD_S
        else:
            self._read.discard(turn)
            self._held.pop(turn, None)
            self._stray = True

    async def _purge(self) -> None:
        """Clear the bytes of what was erased out of the file, for all erasures since the last time at once."""
        now = asyncio.get_running_loop().time()
        if self._stray and now >= self._purged_at + self._settings.store_false_purge_every_s:
            self._purged_at = now
            self._stray = not await self._store.purge()


def is_held(connection: Connection, tenant: str, session: UUID) -> bool:
    """True if a session is held, or one whose history it shares: what is said there is of the same conversation."""
    at: UUID | None = session
    while at is not None:
        state = existing(queries.session_state(connection, tenant, at))
        if state.legal_hold:
            return True
        at = state.parent_session
    return False


def _erase(tx: Transaction, *, caller: Caller, turn: UUID, clock: Clock) -> None:
    """Erase all that a turn has added to its session, inside the write transaction."""
    tx.flush()
    tenant = caller.tenant
    state = queries.turn_state(tx.connection, tenant, turn)
    assert state is not None, "it is on record"
    if is_held(tx.connection, tenant, state.session):
        raise LegalHold("the session is held, or one whose history it shares")
    if has_words(tx.connection, tenant, turn):
        erase_in(tx, Order(state.session, _versions(tx.connection, tenant, state)), UNSTORED, caller, clock)


def _versions(connection: Connection, tenant: str, state: TurnState) -> tuple[int, ...]:
    """The session's own events up to the turn's end: it has begun for that turn, and may go on afterwards."""
    own = traces(connection, tenant, state.session, up_to=state.end_version or state.version)
    return tuple(each.version for each in own if each.has_words)
