"""Manent as a contestant in appends, without what makes its record provable: neither salts nor commitments, leaves nor
tree. Everything else is as it is; so what a provable record costs is the difference to ``bench_manent``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import bench_manent
import uvloop

from engine.audit.keeper import Keeper
from engine.audit.merkle import Frontier
from engine.clock import SystemClock
from engine.store import transaction, tree
from engine.store.base import NewEvent, RecordedEvent

NOTHING = b""


def leave_out_proofs() -> None:
    """Change the engine of this process. Nothing but appends works any more."""
    targets: Sequence[tuple[Any, str, Any]] = (
        (SystemClock, "salts", _no_salts),
        (transaction, "_recorded", _recorded),
        (tree, "store_tiles", _no_tiles),
        (Frontier, "extend", _not_grown),
        (Keeper, "sign_all", _no_checkpoint),
    )
    for owner, name, instead in targets:
        if not hasattr(owner, name):
            raise RuntimeError(f"{owner} has no {name} any more: this no longer leaves out what it should")
        setattr(owner, name, instead)


def _no_salts(_: SystemClock, count: int) -> list[bytes]:
    return [NOTHING] * count


def _recorded(
    new: NewEvent, _: bytes, tenant: str, session: UUID, head: transaction.Head, version: int, now: int
) -> RecordedEvent:
    return RecordedEvent(
        tenant=tenant,
        position=head.size,
        session=session,
        version=version,
        id=new.id,
        type=new.type,
        schema=new.schema,
        actor=new.actor,
        recorded_at=now,
        causation=new.causation,
        correlation=new.correlation,
        facts=new.facts,
        length=len(new.body),
        commitment=NOTHING,
        leaf_hash=NOTHING,
        body=new.body,
    )


def _no_tiles(*_: object) -> None:
    """Nothing is written."""


def _not_grown(frontier: Frontier, leaves: Iterable[bytes]) -> Frontier:
    return Frontier(frontier.size + sum(1 for _ in leaves), frontier.roots)


async def _no_checkpoint(_: Keeper) -> None:
    """The log would not be found to follow from it."""


if __name__ == "__main__":
    leave_out_proofs()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bench_manent.main(Path(sys.argv[1])))
