"""``manent verify``: verifies a whole database: its rows by their hashes, every checkpoint kept, and those outside.

What is looked at: each log by ``walk``; its head and its sessions' versions; its erasures; every checkpoint and
cosignature, in the database and outside; documents; the projections; the guards; the checksums of rows that no hash
covers; and what SQLite says of the file. All is read in one snapshot, so it can run beside a server. Nothing is
believed that was not signed or hashed, and what follows the last checkpoint outside was signed for by nobody yet:
*unwitnessed*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ...errors import Broken, ProofInvalid, StoreCorrupt
from ...log.base import Connection, Projector
from ...log.compare import differences
from ...log.merkle import Frontier
from ...log.sql import scan
from ...log.sql.checkpoints import log_names, log_sizes
from ...log.sql.checksums import damaged
from ...log.sql.session_index import placed
from ...log.sql.tree import TILE_HASHES
from ...log.sqlite.connection import DRIVER_ERRORS, meaning_of, open_reader
from ...log.sqlite.doctor import damage
from ...log.sqlite.schema import Progress, missing_guards
from ..checkpoint_file import OutsideFile, tenant_of
from ..keys import Trusted
from .checkpoints import Evidence, gather, last_break
from .documents import check_document_rows, check_documents, told_in
from .forks import check_forks
from .leaves import UNREADABLE, Names, Walked, walk

ANYBODYS = "no key was given, and no key file lies beside the database: its checkpoints may be anybody's"


class Unwitnessed(msgspec.Struct, frozen=True):
    """Of a log, no checkpoint outside covers what stands from ``since`` on."""

    tenant: str
    since: int
    size: int


class Verified(msgspec.Struct, frozen=True):
    """The result of a verification: what was looked at, and what is wrong; ``problem`` None means that nothing is.
    ``remarks``: good to know. ``signer``: where the key is from that signed for every log, in words; None: whose key
    it is was not checked.
    """

    events: int
    erased: int
    checkpoints: int
    unwitnessed: tuple[Unwitnessed, ...]
    remarks: tuple[str, ...]
    problem: str | None
    tenant: str | None
    position: int | None
    signer: str | None


class _Sums(msgspec.Struct):
    events: int = 0
    erased: int = 0
    checkpoints: int = 0
    signed: int = 0
    unsigned: int = 0
    unwitnessed: tuple[Unwitnessed, ...] = ()
    remarks: tuple[str, ...] = ()


def verify_file(
    path: Path,
    projector: Projector,
    tables: Sequence[Any],
    outside: OutsideFile,
    trusted: Trusted | None,
    progress: Progress,
) -> Verified:
    """Verify a database file; ``trusted`` None: by the keys that the database itself names, which may be anybody's.
    Raises a StoreError for a file that is no database of ours.
    """
    engine, sums = open_reader(path), _Sums(remarks=() if trusted else (ANYBODYS,))
    try:
        with engine.begin() as connection:
            broken = _verify(connection, projector, tables, outside, trusted, progress, sums)
    except DRIVER_ERRORS as error:
        broken = Broken(f"the file cannot be read: {meaning_of(error).detail}")
    finally:
        engine.dispose()
    return Verified(
        events=sums.events,
        erased=sums.erased,
        checkpoints=sums.checkpoints,
        unwitnessed=sums.unwitnessed,
        remarks=sums.remarks,
        problem=broken.detail if broken else None,
        tenant=broken.tenant if broken else None,
        position=broken.position if broken else None,
        signer=trusted.source if trusted and sums.signed and not (broken or sums.unsigned) else None,
    )


def _verify(
    connection: Connection,
    projector: Projector,
    tables: Sequence[Any],
    outside: OutsideFile,
    trusted: Trusted | None,
    progress: Progress,
    sums: _Sums,
) -> Broken | None:
    """The first thing that is wrong. Damage that hinders reading is named by its page."""
    try:
        total = 2 * sum(log_sizes(connection).values())
        tenants = sorted({*_tenants(connection, outside), *map(tenant_of, trusted.names if trusted else ())})
        find = partial(gather, outside=outside, trusted=trusted, break_at=last_break(connection, tenants, outside))
        for tenant in tenants:
            _verify_log(connection, tenant, find, lambda done: progress(sums.events + done, total), sums)
        _check_file(connection)
        _check_projections(connection, projector, tables, lambda done, _: progress(sums.events + done, total))
    except Broken as broken:
        return broken
    except DRIVER_ERRORS as error:
        return Broken(f"the file is damaged: {_damage(connection) or meaning_of(error).detail}")
    except (StoreCorrupt, ProofInvalid) as error:
        return Broken(error.detail)
    except UNREADABLE as error:
        return Broken(f"the file is damaged: {_damage(connection) or f'a row cannot be read ({error})'}")
    return None


def _damage(connection: Connection) -> str | None:
    try:
        return damage(connection)
    except DRIVER_ERRORS:
        return None


def _tenants(connection: Connection, outside: OutsideFile) -> list[str]:
    return sorted({*scan.all_tenants(connection), *outside.newest()})


def _verify_log(
    connection: Connection,
    tenant: str,
    find: Callable[[Connection, str, Names], Evidence],
    progress: Callable[[int], None],
    sums: _Sums,
) -> None:
    """Raises Broken with the first position of the log that is wrong."""
    names = log_names(connection, tenant)
    evidence = find(connection, tenant, names)
    walked = walk(connection, tenant, names, evidence.stated, progress)
    _check_end(tenant, walked, scan.head(connection, tenant), evidence)
    _check_counts(connection, tenant, walked)
    _check_versions(connection, tenant, walked.events)
    check_forks(connection, tenant)
    check_documents(connection, tenant, walked.documents)
    sums.erased += _check_erasures(connection, tenant)
    if evidence.problem:
        raise evidence.problem
    sums.events += walked.events
    sums.checkpoints += evidence.checkpoints
    sums.signed += evidence.trusted is not None
    sums.unsigned += evidence.trusted is None
    sums.remarks += evidence.remarks
    if evidence.witnessed < walked.events:
        sums.unwitnessed += (Unwitnessed(tenant, evidence.witnessed + 1, walked.events),)


def _check_end(tenant: str, walked: Walked, head: scan.Head | None, evidence: Evidence) -> None:
    size = head.size if head else 0
    beyond = max((each for each in evidence.stated if each > walked.events), default=0)
    if walked.events < max(size, beyond):
        by = evidence.stated[beyond][0].by if beyond > walked.events else "its head"
        what = f"the log ends at position {walked.events}, and {by} covers {max(size, beyond)}"
        raise Broken(what, tenant=tenant, position=walked.events + 1)
    if head is None:
        if walked.events:
            raise Broken("the log has events and no head", tenant=tenant, position=1)
        return
    if size < walked.events:
        raise Broken(f"position {size + 1} stands behind the end of the log", tenant=tenant, position=size + 1)
    if head.frontier != walked.frontier.to_bytes() or head.recorded_at != walked.recorded_at:
        raise Broken("the head of the log is not what its events say", tenant=tenant, position=size)
    for each in evidence.stated.get(0, ()):
        if each.root != Frontier().root():
            raise Broken(f"{each.by} covers nothing, and states a root of something", tenant=tenant, position=1)


def _check_counts(connection: Connection, tenant: str, walked: Walked) -> None:
    bodies, erasures, tiles = scan.counts(connection, tenant)
    if (bodies, bodies + erasures) != (walked.bodies, walked.events):
        position = scan.stray(connection, tenant)
        raise Broken(f"position {position} has words or an erasure, and no event", tenant=tenant, position=position)
    if tiles != walked.tiles:
        first = walked.events - walked.events % TILE_HASHES + 1
        raise Broken("there are tiles that no events are under", tenant=tenant, position=first)


def _check_versions(connection: Connection, tenant: str, size: int) -> None:
    """Versions are dense from 1 in each session, in the order of positions; one that is forked begins later. Each event
    that should have one has its row in ``places``.
    """
    last_session, last_version, last_position = b"", 0, 0
    with closing(scan.found_places(connection, tenant)) as places:
        for event in scan.versions(connection, tenant):
            session, version, position = event
            if session != last_session:
                last_session, last_position = session, 0
                forked = version > 1 and scan.type_at(connection, tenant, position) == scan.FORKED
                last_version = version - 1 if forked else 0
            if version != last_version + 1 or position <= last_position:
                what = f"position {position} has version {version}, and the one before it in its session {last_version}"
                raise Broken(what, tenant=tenant, position=position)
            last_version, last_position = version, position
            if position <= placed(size):
                _check_place(tenant, next(places, None), event)
        _check_place(tenant, next(places, None), None)


def _check_place(tenant: str, found: scan.Event | None, event: scan.Event | None) -> None:
    """Check that an event is found through ``places`` where it stands."""
    if found != event:
        _, version, position = event or found or (b"", 0, 0)
        what = f"version {version} of a session is not found where it stands; `manent rebuild` mends it"
        raise Broken(what, tenant=tenant, position=position)


def _check_erasures(connection: Connection, tenant: str) -> int:
    """How many positions are erased, each by an event that says so."""
    number = 0
    for position, by_position, kind, facts in scan.erased(connection, tenant):
        number += 1
        if kind != scan.ERASED or position not in told_in(facts, "targets"):
            what = f"position {position} is erased, and position {by_position}, which should say so, does not"
            raise Broken(what, tenant=tenant, position=position)
    return number


def _check_projections(connection: Connection, projector: Projector, tables: Sequence[Any], progress: Progress) -> None:
    for each in differences(connection, projector, tables, progress):
        what = f"the projection {each.table} is not what the log says: {each.detail}; `manent rebuild` mends it"
        raise Broken(what, tenant=each.tenant, position=each.position)


def _check_file(connection: Connection) -> None:
    for table, tenant, key in damaged(connection):
        raise Broken(f"the row {key} of {table} is damaged", tenant=tenant)
    for tenant, position in scan.stray_purges(connection):
        raise Broken("a purge is due for an erasure that there is not", tenant=tenant, position=position)
    check_document_rows(connection)
    gone = missing_guards(connection)
    if gone:
        raise Broken(f"of the guards that keep the record from being changed, these are gone: {', '.join(gone)}")
    damaged_page = damage(connection)
    if damaged_page:
        raise Broken(f"the file is damaged: {damaged_page}")
