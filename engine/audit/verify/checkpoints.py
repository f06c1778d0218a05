"""Everything that was signed for a log: the checkpoints kept in the database and those outside, held against the keys,
the log's names, and each other.

A database can be made up as a whole, its keys with it. So the newest checkpoint must be signed by a key that whoever
verifies trusts. One of another key that is on record may stand before it: what it covered, the trusted key has signed
for since.

Which roots they state, for ``audit.walk`` to hold the events against, is the outcome. A checkpoint whose size lies
behind a break that was accepted speaks of what was given up, and states nothing; but only where the file outside has
a later one under the log's new name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import msgspec

from ...errors import Broken, ProofInvalid
from ...log.base import Connection
from ...log.sql.checkpoints import (
    SignedRow,
    WitnessRow,
    all_checkpoints,
    all_cosignatures,
    all_keys,
    log_names,
    public_keys,
)
from ..checkpoint_file import Kept, OutsideFile, tenant_of
from ..keys import Trusted
from ..notes import ED25519, Checkpoint, Note, Signature, Verifier, parse_checkpoint, parse_note
from .leaves import Names, Stated

NOBODY = 0


class Evidence(msgspec.Struct):
    """``stated``: roots by size. ``witnessed``: how many events the last good checkpoint outside covers; ``trusted``:
    the last one by a trusted key; ``other``: the last one by another, and what to say of it. ``problem``: the first
    checkpoint that is none, if there is one.
    """

    stated: dict[int, list[Stated]]
    witnessed: int = NOBODY
    trusted: int | None = None
    other: tuple[int, str] = (-1, "")
    checkpoints: int = 0
    remarks: tuple[str, ...] = ()
    problem: Broken | None = None

    def state(self, checkpoint: Checkpoint, by: str) -> None:
        there = self.stated.setdefault(checkpoint.size, [])
        if all(each.root != checkpoint.root for each in there):
            there.append(Stated(checkpoint.root, by))

    def sign(self, size: int, by: str, key: Verifier, trusted: Trusted | None) -> None:
        """A good checkpoint is signed by a key, whose it may be."""
        self.checkpoints += 1
        if trusted is not None and key.public in trusted.publics:
            self.trusted = max(self.trusted or 0, size)
        elif size >= self.other[0]:
            self.other = size, f"{by} is signed by {key}"

    def complain(self, detail: str, tenant: str, position: int) -> None:
        if self.problem is None or position < (self.problem.position or 0):
            self.problem = Broken(detail, tenant=tenant, position=position)


class _Names:
    """A log's names, and up to which size each may be signed for."""

    def __init__(self, connection: Connection, tenant: str, names: Names, trusted: Trusted | None) -> None:
        ends = [first - 1 for first, _ in names[1:]]
        self.current = names[-1][1] if names else None
        self.limits = dict(zip((name for _, name in names), [*ends, None], strict=False))
        self._connection = connection
        self._tenant = tenant
        self.trusted = trusted
        self.signed_for: set[str] = set()
        self.since: dict[tuple[str, bytes], int] = {}
        self.gave_up = False
        self._verifiers: dict[str, list[Verifier]] = {}

    def key_of(self, note: Note, origin: str) -> Verifier | None:
        """The key of the log that signed a note."""
        return next((key for key in self._keys(origin) if key.signed(note)), None)

    def lost_key_of(self, note: Note, origin: str) -> bool:
        """The key that a note names and that is not on record."""
        return {key.key_id for key in self._keys(origin)}.isdisjoint(each.key_id for each in note.signatures)

    def _keys(self, origin: str) -> list[Verifier]:
        if origin not in self._verifiers:
            mine = sorted(self.trusted.publics) if self.trusted else []
            kept = [key for key in public_keys(self._connection, self._tenant, origin) if key not in mine]
            self._verifiers[origin] = [Verifier(origin, ED25519, public) for public in (*mine, *kept)]
        return self._verifiers[origin]

    def given_up(self, checkpoint: Checkpoint) -> bool:
        """True if a checkpoint of an earlier name covers events that the log went on without."""
        limit = self.limits[checkpoint.origin]
        return limit is not None and checkpoint.size > limit


def last_break(connection: Connection, tenants: Iterable[str], outside: OutsideFile) -> int:
    """Number of the last note outside with which a log took a new name at a break; 0 if there was none. Only there
    does a log get another name, or is a log of no events signed for.
    """
    first: dict[str, Kept] = {}
    with suppress(ProofInvalid):  # which is said where the log is looked at
        for each in outside.read():
            first.setdefault(each.checkpoint.origin, each)
    last = 0
    for tenant in tenants:
        names = log_names(connection, tenant)
        note = first.get(names[-1][1]) if names else None
        if note is not None and (len(names) > 1 or note.checkpoint.size == 0):
            last = max(last, note.number)
    return last


def gather(
    connection: Connection, tenant: str, names: Names, outside: OutsideFile, trusted: Trusted | None, break_at: int
) -> Evidence:
    """All evidence about a log. ``trusted`` None: nobody says whose key is right. ``break_at``: as ``last_break``."""
    evidence, known = Evidence({}), _Names(connection, tenant, names, trusted)
    for row in all_checkpoints(connection, tenant):
        _take_kept(evidence, known, row)
    _check_breaks(evidence, known, tenant)
    _check_keys(evidence, known.since, all_keys(connection, tenant), tenant)
    for witness in all_cosignatures(connection, tenant):
        _take_witness(evidence, witness)
    try:
        _take_outside(evidence, known, tenant, [each for each in outside.read() if each.tenant == tenant], break_at)
    except ProofInvalid as error:
        evidence.complain(error.detail, tenant, 1)
    if trusted is not None:
        _check_trust(evidence, known, trusted, tenant)
    return evidence


def _check_trust(evidence: Evidence, known: _Names, trusted: Trusted, tenant: str) -> None:
    """The last word is that of a trusted key, under a name that the key is for."""
    other, said = evidence.other
    signed = -1 if evidence.trusted is None else evidence.trusted
    for name in trusted.names:
        if tenant_of(name) == tenant and name not in known.limits:
            evidence.complain(f"the key that was given is for {name}, and this log was never named so", tenant, 1)
    if other > signed:
        since = "since" if signed > 0 else "yet"
        evidence.complain(f"{said}; the key {trusted.source} has signed none {since}", tenant, max(signed, 0) + 1)
    elif evidence.trusted is None and known.limits:
        evidence.remarks += (f"{tenant}: the key {trusted.source} has signed no checkpoint of this log yet",)


def _take_kept(evidence: Evidence, known: _Names, row: SignedRow) -> None:
    try:
        note = parse_note(row.note.decode())
        stated = parse_checkpoint(note.text)
    except (ProofInvalid, UnicodeDecodeError):
        evidence.complain(f"the kept checkpoint of {row.size} is none", row.tenant, row.size)
        return
    key = known.key_of(note, stated.origin) if stated.origin in known.limits else None
    columns = (row.origin, row.size, row.root, row.key_id)
    if columns != (stated.origin, stated.size, stated.root, note.signatures[0].key_id):
        evidence.complain(f"the kept checkpoint of {row.size} states something else", row.tenant, row.size)
    elif stated.origin not in known.limits:
        evidence.complain(f"the kept checkpoint of {row.size} is of another log", row.tenant, row.size)
    elif key is None:
        evidence.complain(f"the kept checkpoint of {row.size} is not signed by a key of the log", row.tenant, row.size)
    else:
        known.signed_for.add(stated.origin)
        known.since.setdefault((stated.origin, key.public), stated.size)
        if known.given_up(stated):
            evidence.checkpoints += 1
            known.gave_up = True
        else:
            evidence.sign(stated.size, by := f"the kept checkpoint of {stated.size}", key, known.trusted)
            evidence.state(stated, by)


def _check_breaks(evidence: Evidence, known: _Names, tenant: str) -> None:
    """Check that an accepted break was signed by somebody who has the key: they signed for the log's new name."""
    limits = [limit for limit in known.limits.values() if limit is not None]
    if known.gave_up and known.current not in known.signed_for:
        detail = "the log goes on under another name, and nobody signed for that"
        evidence.complain(detail, tenant, max(limits) + 1)


def _check_keys(
    evidence: Evidence, signed: Mapping[tuple[str, bytes], int], kept: Mapping[tuple[str, bytes], int], tenant: str
) -> None:
    """The keys on record are those that signed the checkpoints on record, each from its first one on."""
    wrong = {size for key, size in (*signed.items(), *kept.items()) if signed.get(key) != kept.get(key)}
    if wrong and evidence.problem is None:
        detail = f"of the keys on record, the one since {min(wrong)} is not what the checkpoints say"
        evidence.complain(detail, tenant, min(wrong))


def _take_witness(evidence: Evidence, row: WitnessRow) -> None:
    verifier = Verifier(row.name, row.public[0], row.public[1:])
    texts = [Checkpoint(row.origin, row.size, each.root).text() for each in evidence.stated.get(row.size, ())]
    signature = Signature(row.name, row.key_id, row.signature)
    if not any(verifier.signed(Note(text, (signature,))) for text in texts):
        evidence.complain(
            f"the signature of {row.name} under the checkpoint of {row.size} is bad", row.tenant, row.size
        )


def _take_outside(evidence: Evidence, known: _Names, tenant: str, kept: Sequence[Kept], break_at: int) -> None:
    """A database that goes on from an older copy has lost the keys that came after it, and what they signed before the
    break is given up: what was signed at the break or since speaks for all that was kept.
    """
    given_up = 0
    last = max((each.number for each in kept if each.checkpoint.origin == known.current), default=0)
    for each in kept:
        stated, place = each.checkpoint, f"note {each.number} of the checkpoint file"
        if each.number < break_at and known.lost_key_of(each.note, stated.origin):
            given_up += 1
        elif (key := known.key_of(each.note, stated.origin)) is None:
            evidence.complain(f"{place} is not signed by a key of the log", tenant, stated.size)
        elif stated.origin not in known.limits or known.given_up(stated):
            given_up += 1
            if each.number > last:
                detail = f"{place} covers {stated.size} positions of {stated.origin}, which this log is not"
                evidence.complain(detail, tenant, stated.size)
        else:
            evidence.sign(stated.size, by := f"the checkpoint outside of {stated.size}", key, known.trusted)
            evidence.witnessed = max(evidence.witnessed, stated.size)
            evidence.state(stated, by)
    if given_up and not evidence.problem:
        evidence.remarks += (
            f"{tenant}: {given_up} checkpoint(s) outside are of what was given up at a break on record",
        )
    if not kept and evidence.checkpoints:
        evidence.remarks += (f"{tenant}: there is no checkpoint outside the database, and there was one",)
