"""The evidence about a log: checkpoints, proofs, tiles, keys, and witnesses' signatures.

All of it is hashes and signatures, but for the leaf of the event that a proof is for.
"""

from __future__ import annotations

from functools import partial

from ..audit import proof
from ..audit.checkpointer import Keeper
from ..audit.notes import COSIGNATURE, Verifier, parse_checkpoint, parse_note, parse_verifier
from ..audit.proof import Consistency, Inclusion
from ..audit.rollback import verifiers
from ..errors import CheckpointNotFound, EventNotFound, Invalid, NotFound, ProofInvalid
from ..log.base import Connection
from ..log.codec import MAX_SAFE_INTEGER
from ..log.sql import reads
from ..log.sql.checkpoints import (
    SignedRow,
    WitnessRow,
    keep_cosignature,
    log_end,
    log_names,
    newest_checkpoint,
    newest_origin,
)
from ..log.store import Store
from ..log.transaction import Transaction
from ..sessions.envelope import LOCAL, Caller
from ..sessions.lineage import find_event
from .ids import Id, session_id

MAX_TILE_LEVEL = 63


class Evidence:
    """Reads and makes evidence. Where the database is only read, no checkpoint can be made."""

    def __init__(self, store: Store, keeper: Keeper | None) -> None:
        self._store = store
        self._keeper = keeper

    async def checkpoint(self, *, new: bool = False, caller: Caller = LOCAL) -> str:
        """Read the newest checkpoint of the log, with what witnesses signed of it; ``new``: sign one of the log as it
        is now.

        Raises CheckpointNotFound where there is none, and a StoreError or an AuditError where none can be made.
        """
        if new:
            await self._sign(caller)
        signed = await self._signed(caller, 0)
        return await self._store.read(partial(proof.with_witnesses, signed=signed))

    async def keys(self, *, caller: Caller = LOCAL) -> list[str]:
        """List the verifier keys of the log, the one in use first. Raises NotFound where the log has not begun."""

        def read(connection: Connection) -> list[Verifier]:
            origin = _origin(connection, caller)
            known = verifiers(connection, caller.tenant, origin, self._keeper.signer if self._keeper else None)
            newest = None if self._keeper else newest_checkpoint(connection, caller.tenant, origin)
            return sorted(known, key=lambda verifier: newest is not None and verifier.key_id != newest.key_id)

        return [str(verifier) for verifier in await self._store.read(read)]

    async def inclusion(self, session: Id, version: int, *, caller: Caller = LOCAL) -> Inclusion:
        """Prove that an event is on record, against the newest checkpoint; one is made if none covers it yet.

        Raises SessionNotFound for text that is no id, EventNotFound, or CheckpointNotFound where no checkpoint covers
        the event and none can be made.
        """
        named, known = session_id(session), 0 < version <= MAX_SAFE_INTEGER
        event = await self._store.read(
            lambda connection: find_event(connection, caller.tenant, named, version) if known else None
        )
        if event is None:
            raise EventNotFound(f"session {named} has no event of version {version}")
        signed = await self._signed(caller, event.position)
        return await self._store.read(lambda connection: proof.inclusion(connection, event, signed))

    async def consistency(self, old: int, new: int | None = None, *, caller: Caller = LOCAL) -> Consistency:
        """Prove that the log of ``new`` events (None: of the newest checkpoint) begins with that of ``old``.

        Raises Invalid for sizes that the log did not have in this order.
        """
        newest = await self._signed(caller, 0) if new is None else None

        def read(connection: Connection) -> Consistency:
            end, origin = log_end(connection, caller.tenant), _origin(connection, caller)
            size = newest.size if newest else new or 0
            if size > end.size:
                raise Invalid("to", f"the log has {end.size} events")
            if not 0 <= old <= size:
                raise Invalid("from", f"must be at least 0 and at most {size}")
            signed = newest or newest_checkpoint(connection, caller.tenant, origin, exactly=size)
            return proof.consistency(connection, caller.tenant, origin, old, size, signed)

        return await self._store.read(read)

    async def tile(self, level: int, number: int, width: int, *, caller: Caller = LOCAL) -> bytes:
        """Read the first ``width`` hashes of a tile. Raises NotFound where there are not so many."""

        def read(connection: Connection) -> bytes | None:
            size = reads.log_size(connection, caller.tenant)
            return proof.tile(connection, caller.tenant, level, number, size, width)

        found = await self._store.read(read) if 0 <= level <= MAX_TILE_LEVEL else None
        if found is None:
            raise NotFound("there is no such tile")
        return found

    async def cosign(self, note: str, key: str, *, caller: Caller = LOCAL) -> None:
        """Keep what a witness signed of one of our checkpoints; ``key`` is the witness's verifier key.

        Raises ProofInvalid for a note, key or signature that is not what it claims to be, and CheckpointNotFound.
        """
        signed, verifier = parse_note(note), parse_verifier(key)
        stated = parse_checkpoint(signed.text)
        if verifier.kind != COSIGNATURE:
            raise ProofInvalid("a witness's key is one of type 4, for cosignatures")
        if not verifier.signed(signed):
            raise ProofInvalid("the note has no good signature by this key")
        kept = await self._store.read(
            lambda connection: newest_checkpoint(connection, caller.tenant, stated.origin, exactly=stated.size)
        )
        if kept is None or parse_note(kept.note.decode()).text != signed.text:
            raise CheckpointNotFound("this is none of the checkpoints of this log")
        row = WitnessRow(
            tenant=caller.tenant,
            origin=stated.origin,
            size=stated.size,
            name=verifier.name,
            key_id=verifier.key_id,
            signature=next(each.data for each in signed.signatures if each.key_id == verifier.key_id),
            public=bytes([verifier.kind]) + verifier.public,
        )
        await self._store.submit(partial(_keep, row=row))

    async def _signed(self, caller: Caller, at_least: int) -> SignedRow:
        """The newest checkpoint, if it covers so many events; else one made now."""
        signed = await self._store.read(partial(_newest, caller=caller, at_least=at_least))
        if signed is None and self._keeper is not None:
            await self._sign(caller)
            signed = await self._store.read(partial(_newest, caller=caller, at_least=at_least))
        if signed is None:
            raise CheckpointNotFound("there is no checkpoint that covers this; `manent checkpoint` makes one")
        return signed

    async def _sign(self, caller: Caller) -> None:
        self._store.check_writable()
        if self._keeper is not None:
            await self._keeper.sign(caller.tenant)


def _newest(connection: Connection, caller: Caller, at_least: int) -> SignedRow | None:
    names = log_names(connection, caller.tenant)
    return newest_checkpoint(connection, caller.tenant, names[-1][1], at_least=at_least) if names else None


def _origin(connection: Connection, caller: Caller) -> str:
    origin = newest_origin(connection, caller.tenant)
    if origin is None:
        raise NotFound("the log has not begun")
    return origin


def _keep(tx: Transaction, row: WitnessRow) -> None:
    keep_cosignature(tx.connection, row)
