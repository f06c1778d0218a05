"""The files that the evidence depends on, examined for ``manent doctor``: the signing key, the checkpoints outside
the database, and where both lie. Nothing is created or changed by looking.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import EngineError, Invalid
from ..log.base import Connection
from ..log.sql.checkpoints import log_names, log_sizes, newest_checkpoint
from ..log.sql.driver import transaction
from ..log.sqlite.connection import BEGIN_READING, DRIVER_ERRORS, meaning_of
from ..log.sqlite.doctor import Finding, looking
from ..log.sqlite.lock import holder
from ..log.sqlite.schema import newest_revision, revision_of
from .checkpoint_file import Kept, OutsideFile, outside_path
from .keys import read_signer, signing_key_path
from .notes import Signer
from .rollback import problems

KEY, FILE, LAST = "signing key", "checkpoint file", "last checkpoint outside"
PLACE, EVERY = "key and checkpoints", "checkpoint every"
MODE = "0600"
OTHERS = 0o077
AGREES = "agrees with the database"

TOGETHER = (
    "whoever can write the database's folder can write another history, and sign it with what lies there: the record "
    "proves itself to others, and not against them. Let MANENT_SIGNING_KEY_FILE and MANENT_CHECKPOINT_FILE name files "
    "on another disk or account, and have somebody else keep `manent checkpoint --keys`, and now and then `manent "
    "checkpoint`"
)
UNSIGNED = (
    "what was written since the last checkpoint is signed for by nobody: until the next, whoever can write the file "
    "can change it unseen (MANENT_CHECKPOINT_EVERY_S, `manent checkpoint --new`)"
)


def examine_evidence(
    path: Path, key_setting: str | None, outside_setting: str | None, every_s: int
) -> Iterator[Finding]:
    """Examine the key and the checkpoints of an existing database."""
    key, outside = signing_key_path(path, key_setting), outside_path(path, outside_setting)
    signer, found = _key(key, made=key_setting is None)
    yield found
    yield _file(outside)
    yield _place(path, key, outside)
    yield Finding(EVERY, f"{every_s} s", "as long as you can do without", note=UNSIGNED)
    with looking(path, holder(path)) as connection:
        if revision_of(connection) == newest_revision():  # else there may be nothing to look at yet
            yield _last(connection, OutsideFile(outside), signer)


def _key(path: Path, *, made: bool) -> tuple[Signer | None, Finding]:
    """``made``: it is made at the next start, where there is none."""
    if made and not path.exists():
        return None, Finding(KEY, "none", MODE, "warning", f"{path} is made at the next start")
    try:
        signer, mode = read_signer(path), stat.S_IMODE(path.stat().st_mode)
    except Invalid as error:
        return None, Finding(KEY, "none that can be used", MODE, "wrong", f"{path}: {error.detail}")
    if mode & OTHERS:
        note = f"others may read or write {path}, and sign in the log's name: chmod 600, and think of another key"
        return signer, Finding(KEY, f"{mode:04o}", MODE, "wrong", note)
    return signer, Finding(KEY, f"{mode:04o}", MODE)


def _file(path: Path) -> Finding:
    expected = "can be written"
    place = path if path.exists() else path.parent
    if not os.access(place, os.W_OK) or path.is_dir():
        return Finding(FILE, "cannot be written", expected, "wrong", f"no checkpoint can be kept in {path}")
    return Finding(FILE, "can be written" if path.exists() else "none yet", expected)


def _place(path: Path, key: Path, outside: Path) -> Finding:
    """A finding if whoever can write the database's folder has all that proves the database with it."""
    folder = path.resolve().parent
    beside = [name for name, file in (("key", key), ("checkpoints", outside)) if file.resolve().parent == folder]
    if not beside:
        return Finding(PLACE, "elsewhere", "elsewhere")
    return Finding(PLACE, f"{' and '.join(beside)} beside the database", "elsewhere", "warning", TOGETHER)


def _last(connection: Connection, outside: OutsideFile, signer: Signer | None) -> Finding:
    try:
        newest = outside.newest()  # before the snapshot: a server that runs writes it first
        with transaction(connection, BEGIN_READING):
            wrong = [each for each in problems(connection, newest, signer) if each.tenant is not None]
            alone = _without(connection, newest)
    except EngineError as error:
        return Finding(LAST, "cannot be read", AGREES, "wrong", error.detail)
    except DRIVER_ERRORS as error:
        return Finding(LAST, "cannot be compared", AGREES, "wrong", meaning_of(error).detail)
    if wrong:
        return Finding(LAST, "does not agree", AGREES, "wrong", wrong[0].error().detail)
    if alone:
        note = "nothing outside the database tells whether it is the one that it was: is the file the right one?"
        return Finding(LAST, f"none of {', '.join(alone)}", AGREES, "warning", note)
    return Finding(LAST, "agrees" if newest else "none yet", AGREES)


def _without(connection: Connection, newest: dict[str, Kept]) -> list[str]:
    """The tenants whose log was signed for, and has no checkpoint outside."""
    found = []
    for tenant in log_sizes(connection):
        names = log_names(connection, tenant)
        if tenant not in newest and names and newest_checkpoint(connection, tenant, names[-1][1]):
            found.append(tenant)
    return found
