"""Manent as a contestant in appends, without what makes its record provable: neither salts nor commitments, leaves nor
tree. Everything else is as it is; so what a provable record costs is the difference to ``appender``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import uvloop

import appender
from manent.engine.audit.checkpointer import Keeper
from manent.engine.clock import SystemClock
from manent.engine.log import transaction
from manent.engine.log.base import Connection, NewEvent, RecordedEvent
from manent.engine.log.sql.tree import Growing

NOTHING = b""


def leave_out_proofs() -> None:
    """Change the engine of this process. Nothing but appends works any more."""
    targets: Sequence[tuple[Any, str, Any]] = (
        (SystemClock, "salts", _no_salts),
        (transaction, "_recorded", _recorded),
        (transaction, "grow", _not_grown),
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
        tenant,
        head.size,
        session,
        version,
        new.id,
        new.type,
        new.schema,
        new.actor,
        now,
        new.causation,
        new.correlation,
        new.facts,
        len(new.body),
        NOTHING,
        NOTHING,
        new.body,
        meaning=new.meaning,
    )


def _not_grown(_: Connection, __: str, tree: Growing, leaves: Sequence[bytes]) -> None:
    """The log's size is counted, and nothing written."""
    tree.size += len(leaves)


async def _no_checkpoint(_: Keeper) -> None:
    """The log would not be found to follow from it."""


if __name__ == "__main__":
    leave_out_proofs()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(appender.main(Path(sys.argv[1])))
