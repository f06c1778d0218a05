"""Everything that was signed for a log: the checkpoints kept in the database and those outside, held against the keys,
the log's names, and each other.

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
from ...log.sql.checkpoints import SignedRow, WitnessRow, all_checkpoints, all_cosignatures, all_keys, log_names
from ..checkpoint_file import Kept, OutsideFile
from ..notes import Checkpoint, Note, Signature, Signer, Verifier, parse_checkpoint, parse_note
from ..rollback import verifiers
from .leaves import Names, Stated

NOBODY = 0


class Evidence(msgspec.Struct):
    """``stated``: roots by size. ``witnessed``: how many events the last good checkpoint outside covers. ``problem``:
    the first checkpoint that is none, if there is one.
    """

    stated: dict[int, list[Stated]]
    witnessed: int = NOBODY
    checkpoints: int = 0
    remarks: tuple[str, ...] = ()
    problem: Broken | None = None

    def state(self, checkpoint: Checkpoint, by: str) -> None:
        there = self.stated.setdefault(checkpoint.size, [])
        if all(each.root != checkpoint.root for each in there):
            there.append(Stated(checkpoint.root, by))

    def complain(self, detail: str, tenant: str, position: int) -> None:
        if self.problem is None or position < (self.problem.position or 0):
            self.problem = Broken(detail, tenant=tenant, position=position)


class _Names:
    """A log's names, and up to which size each may be signed for."""

    def __init__(self, connection: Connection, tenant: str, names: Names, signer: Signer | None) -> None:
        ends = [first - 1 for first, _ in names[1:]]
        self.current = names[-1][1] if names else None
        self.limits = dict(zip((name for _, name in names), [*ends, None], strict=False))
        self._connection = connection
        self._tenant = tenant
        self._signer = signer
        self.signed_for: set[str] = set()
        self.since: dict[tuple[str, bytes], int] = {}
        self.gave_up = False
        self._verifiers: dict[str, list[Verifier]] = {}

    def key_of(self, note: Note, origin: str) -> bytes | None:
        """The key of the log that signed a note."""
        return next((key.public for key in self._keys(origin) if key.signed(note)), None)

    def lost_key_of(self, note: Note, origin: str) -> bool:
        """Whether a note names none of the keys that are on record."""
        return {key.key_id for key in self._keys(origin)}.isdisjoint(each.key_id for each in note.signatures)

    def _keys(self, origin: str) -> list[Verifier]:
        if origin not in self._verifiers:
            self._verifiers[origin] = verifiers(self._connection, self._tenant, origin, self._signer)
        return self._verifiers[origin]

    def given_up(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint of an earlier name covers what the log went on without."""
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
    connection: Connection, tenant: str, names: Names, outside: OutsideFile, signer: Signer | None, break_at: int
) -> Evidence:
    """All evidence about a log. ``break_at``: as ``last_break`` says."""
    evidence, known = Evidence({}), _Names(connection, tenant, names, signer)
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
    return evidence


def _take_kept(evidence: Evidence, known: _Names, row: SignedRow) -> None:
    try:
        note = parse_note(row.note.decode())
        stated = parse_checkpoint(note.text)
    except (ProofInvalid, UnicodeDecodeError):
        evidence.complain(f"the kept checkpoint of {row.size} is none", row.tenant, row.size)
        return
    public = known.key_of(note, stated.origin) if stated.origin in known.limits else None
    columns = (row.origin, row.size, row.root, row.key_id)
    if columns != (stated.origin, stated.size, stated.root, note.signatures[0].key_id):
        evidence.complain(f"the kept checkpoint of {row.size} states something else", row.tenant, row.size)
    elif stated.origin not in known.limits:
        evidence.complain(f"the kept checkpoint of {row.size} is of another log", row.tenant, row.size)
    elif public is None:
        evidence.complain(f"the kept checkpoint of {row.size} is not signed by a key of the log", row.tenant, row.size)
    else:
        evidence.checkpoints += 1
        known.signed_for.add(stated.origin)
        known.since.setdefault((stated.origin, public), stated.size)
        if known.given_up(stated):
            known.gave_up = True
        else:
            evidence.state(stated, f"the kept checkpoint of {stated.size}")


def _check_breaks(evidence: Evidence, known: _Names, tenant: str) -> None:
    """What was given up was given up by somebody who has the key: they signed for the log's new name."""
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
        elif known.key_of(each.note, stated.origin) is None:
            evidence.complain(f"{place} is not signed by a key of the log", tenant, stated.size)
        elif stated.origin not in known.limits or known.given_up(stated):
            given_up += 1
            if each.number > last:
                detail = f"{place} covers {stated.size} positions of {stated.origin}, which this log is not"
                evidence.complain(detail, tenant, stated.size)
        else:
            evidence.checkpoints += 1
            evidence.witnessed = max(evidence.witnessed, stated.size)
            evidence.state(stated, f"the checkpoint outside of {stated.size}")
    if given_up and not evidence.problem:
        evidence.remarks += (
            f"{tenant}: {given_up} checkpoint(s) outside are of what was given up at a break on record",
        )
    if not kept and evidence.checkpoints:
        evidence.remarks += (f"{tenant}: there is no checkpoint outside the database, and there was one",)
