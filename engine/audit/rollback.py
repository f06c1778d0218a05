"""Rollbacks: finding that a database is not the one of its checkpoints outside, and going on, on purpose, where it
is not.

It is asked at every start, and costs a few reads for each log: what has been cut off, rolled back or put in the place
of another is seen before anything is added to it. ``audit.verify`` looks at everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from ..clock import Clock
from ..errors import Behind, Broken, StoreCorrupt
from ..log.base import Connection
from ..log.sql.checkpoints import (
    LogEnd,
    SignedRow,
    add_origin,
    count_events,
    keep_checkpoint,
    last_position,
    log_end,
    log_names,
    log_sizes,
    public_keys,
    set_head,
)
from ..log.sql.tree import Tree
from ..log.sqlite.connection import open_writer
from ..log.sqlite.schema import make_guards, missing_guards
from ..log.transaction import new_origin
from .checkpoint_file import Kept, OutsideFile
from .notes import (
    Checkpoint,
    Note,
    Signer,
    Verifier,
    signed_by_any,
)

HOW_TO_GO_ON = "run `manent verify`; `manent doctor --accept-break` records the break and goes on"


class Problem(msgspec.Struct, frozen=True):
    """Why a database may not be written: in whose log (None: in the file), from which position on, and what."""

    tenant: str | None
    position: int | None
    detail: str

    def error(self) -> Behind:
        place = "" if self.tenant is None else f"the log of {self.tenant} "
        return Behind(f"{place}{self.detail}; it is served read-only: {HOW_TO_GO_ON}", position=self.position)


class Accepted(msgspec.Struct, frozen=True):
    """A break that is on record now: what it was, and the log's new name, from a position on."""

    problem: Problem
    origin: str | None
    from_position: int | None


def problems(connection: Connection, newest: Mapping[str, Kept], signer: Signer | None) -> Iterator[Problem]:
    """The problems for which a database cannot be written. ``newest``: the last checkpoint outside of each tenant."""
    gone = missing_guards(connection)
    if gone:
        yield Problem(None, None, f"of the guards that keep the record from being changed, these are gone: {gone}")
    for tenant in sorted({*newest, *log_sizes(connection)}):
        problem = _problem(connection, tenant, newest.get(tenant), signer)
        if problem is not None:
            yield problem


def verifiers(connection: Connection, tenant: str, origin: str, signer: Signer | None) -> list[Verifier]:
    """The keys whose signatures count for a log under a name: the one in use, and those in use before."""
    keys = [signer.public] if signer else []
    keys += [key for key in public_keys(connection, tenant, origin) if key not in keys]
    return [Verifier(origin, 1, key) for key in keys]


def accept_break(path: Path, outside: OutsideFile, signer: Signer, clock: Clock) -> list[Accepted]:
    """Record every break that a database has, and give the logs that have one a new name; empty where it has none.

    The caller holds the file's lock. Raises Broken for a log that cannot be gone on with.
    """
    newest, notes = outside.newest(), []
    engine = open_writer(path, may_change_schema=True)
    try:
        with engine.begin() as connection:
            found = list(problems(connection, newest, signer))
            broken = {problem.tenant for problem in found}
            adopt(connection, {tenant: newest[tenant] for tenant in newest.keys() - broken}, signer, clock)
            accepted = []
            for problem in found:
                origin, position, note = _accept(connection, problem, newest, signer, clock)
                accepted.append(Accepted(problem, origin, position))
                notes += [note] if note else []
    finally:
        engine.dispose()
    # Only now: until the file outside names the log's new name, the break counts as not accepted.
    for note in notes:
        outside.append(note)
    return accepted


def adopt(connection: Connection, newest: Mapping[str, Kept], signer: Signer, clock: Clock) -> None:
    """Write down the last checkpoints outside that the key in use has signed and that nothing in the database tells of:
    a server died before it did, or an older copy has come back. When another key is in use, nobody else knows this one.
    """
    for tenant, last in newest.items():
        stated = last.checkpoint
        if signer.public in public_keys(connection, tenant, stated.origin):
            continue
        if Verifier(stated.origin, 1, signer.public).signed(last.note):
            keep_checkpoint(connection, signed_row(tenant, stated, last.note, clock), signer.public)


def _problem(connection: Connection, tenant: str, last: Kept | None, signer: Signer | None) -> Problem | None:
    try:
        end, tree = log_end(connection, tenant), Tree(connection, tenant)
        if end.size != end.last:
            return Problem(tenant, min(end.size, end.last) + 1, _of_another_size(end))
        if tree.root(end.size) != end.root:
            return Problem(tenant, None, f"has {end.size} events, whose tree is not the one that its head states")
        return None if last is None else _against(connection, end, tree, last, signer)
    except StoreCorrupt as error:
        return Problem(tenant, None, f"is damaged: {error.detail}")


def _of_another_size(end: LogEnd) -> str:
    return f"should end at position {end.size}, and ends at {end.last}"


def _against(connection: Connection, end: LogEnd, tree: Tree, last: Kept, signer: Signer | None) -> Problem | None:
    """The problem of a log that is sound in itself but does not fit the last checkpoint outside."""
    stated = last.checkpoint
    if not signed_by_any(last.note, verifiers(connection, end.tenant, stated.origin, signer)):
        return Problem(end.tenant, None, "has a last checkpoint outside that none of its keys has signed")
    if stated.origin != end.origin:
        name = f"is named {end.origin}" if end.origin else "has not begun"
        return Problem(end.tenant, end.size + 1, f"{name}, and its last checkpoint outside names {stated.origin}")
    if stated.size > end.size:
        return Problem(
            end.tenant,
            end.size + 1,
            f"ends at position {end.size}, behind its last checkpoint outside, which covers {stated.size}",
        )
    if tree.root(stated.size) != stated.root:
        return Problem(
            end.tenant, None, f"is not the one that its checkpoint of the first {stated.size} positions was made of"
        )
    return None


def _accept(
    connection: Connection, problem: Problem, newest: Mapping[str, Kept], signer: Signer, clock: Clock
) -> tuple[str | None, int | None, Note | None]:
    tenant = problem.tenant
    if tenant is None:
        make_guards(connection)
        return None, None, None
    end = _sound_end(connection, tenant)
    last, told = (log_names(connection, tenant) or [(0, "")])[-1], newest.get(tenant)
    if last[0] == end.size + 1 and (told is None or told.checkpoint.origin != last[1]):
        origin = last[1]  # accepted before, but not told outside
    else:
        origin = new_origin(tenant, clock)
        add_origin(connection, tenant, end.size + 1, origin)
    checkpoint = Checkpoint(origin, end.size, end.root)
    note = signer.sign(checkpoint)
    keep_checkpoint(connection, signed_row(tenant, checkpoint, note, clock), signer.public)
    return origin, end.size + 1, note


def _sound_end(connection: Connection, tenant: str) -> LogEnd:
    """The end of a log, its head set right. Raises Broken where events are missing or the tree cannot be read."""
    last = last_position(connection, tenant)
    if count_events(connection, tenant) != last:
        raise Broken(f"events of {tenant} are missing: it cannot be gone on with", tenant=tenant)
    try:
        frontier = Tree(connection, tenant).frontier(last)
    except StoreCorrupt as error:
        raise Broken(f"the tree of {tenant} cannot be gone on with: {error.detail}", tenant=tenant) from error
    set_head(connection, tenant, frontier)
    return log_end(connection, tenant)


def signed_row(tenant: str, checkpoint: Checkpoint, note: Note, clock: Clock) -> SignedRow:
    """A checkpoint of ours, as it is kept."""
    return SignedRow(
        tenant=tenant,
        origin=checkpoint.origin,
        size=checkpoint.size,
        key_id=note.signatures[0].key_id,
        root=checkpoint.root,
        made_at=clock.now_us(),
        note=str(note).encode(),
    )
