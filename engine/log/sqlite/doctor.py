"""The settings that durability depends on, read from a database file: what each thing is, and what it should be.

Nothing is created or changed by looking. Where a server has the file, it is read beside it; where nobody has, it is
opened as ``immutable``, because even a reading connection would leave a write-ahead log behind. What is set per
connection (``synchronous`` ...) is set as the writer sets it, and read back.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

from ...errors import StoreForeign, StoreUnavailable
from .connection import APPLICATION_ID, BUSY_TIMEOUT_S, DRIVER_ERRORS, PAGE_BYTES, WRITER_PRAGMAS, meaning_of, run
from .guards import GUARDS
from .lock import holder
from .schema import missing_guards, newest_revision, revision_of

MIN_SQLITE = (3, 37, 0)
"""STRICT tables."""
SAFE_SQLITE = (3, 51, 3)
"""From here on, connections that write or checkpoint at the same moment cannot damage a file."""

CLOCK_SLACK_S = 1
CLOCK = "not ahead of the clock"

LOW_BYTES = 1 << 30
FULL_BYTES = 16 << 20
LARGE_WAL_BYTES = 256 << 20

NETWORK_TYPES = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs"}
    | {"lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs"}
)
MEMORY_TYPES = frozenset({"tmpfs", "ramfs"})

_SYNCHRONOUS = ("off", "normal", "full", "extra")
_WAL_HEADER = slice(18, 20)
"""Write and read version of the file format (SQLite file format, section 1.3.3): 2 and 2 are a write-ahead log."""

State = Literal["ok", "warning", "wrong"]


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at. ``warning``: durable all the same, but somebody should know."""

    name: str
    value: str
    expected: str
    state: State = "ok"
    note: str = ""


def examine(path: Path, tables: Collection[str]) -> list[Finding]:
    """Everything that durability hangs on; ``tables`` names those that the schema has.

    Raises StoreUnavailable where there is no file to look at, StoreForeign for one that is not Manent's.
    """
    pid = holder(existing(path))
    try:
        return [*_on_file(path, pid), *_in_file(path, tables, pid)]
    except DRIVER_ERRORS as error:
        raise meaning_of(error) from error
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be looked at: {error.strerror}") from error


def existing(path: Path) -> Path:
    """A path at which there is something to open. Opening to write would create it. Raises as ``examine``."""
    if not path.is_file():
        raise StoreUnavailable(f"there is no database at {path}")
    if not path.stat().st_size:
        raise StoreForeign(f"{path} is empty, and no database")
    return path


# --- around the file --------------------------------------------------------------------------------------------------


def _on_file(path: Path, pid: str | None) -> Iterator[Finding]:
    yield _library()
    yield Finding("server", f"pid {pid}" if pid else "none", "one at most")
    yield _file_system(path)
    yield _free_space(path)
    yield _permissions(path)
    yield _owner(path)
    yield _log_size(path)


def _library() -> Finding:
    version, wanted = sqlite3.sqlite_version_info, _dotted(MIN_SQLITE)
    if version < MIN_SQLITE:
        return Finding("sqlite", sqlite3.sqlite_version, f"{wanted} or newer", "wrong", "STRICT tables need it")
    note = ""
    if version < SAFE_SQLITE:
        note = (
            f"before {_dotted(SAFE_SQLITE)} a file can be damaged by two connections that write or checkpoint at the "
            "same moment; here one connection does both, so let no other program write the file"
        )
    return Finding("sqlite", sqlite3.sqlite_version, f"{wanted} or newer", "warning" if note else "ok", note)


def _file_system(path: Path) -> Finding:
    kind = file_system_of(path.resolve())
    expected = "local"
    if kind is None:
        return Finding("file system", "unknown", expected, "warning", "this system does not tell")
    if kind in NETWORK_TYPES:
        return Finding(
            "file system", kind, expected, "wrong", "SQLite's locks and memory maps do not hold on a network"
        )
    if kind in MEMORY_TYPES:
        return Finding("file system", kind, expected, "warning", "it is in memory, and gone when the power is")
    if kind.startswith("fuse."):
        return Finding(
            "file system", kind, expected, "warning", "whether it keeps what was synced is up to its program"
        )
    return Finding("file system", kind, expected)


def file_system_of(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The type of the file system that a path is on, as the kernel names it; None where it does not tell."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    best, found = -1, None
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4]))
        if path.is_relative_to(point) and len(point.parts) >= best:  # of two on one place, the later lies on top
            best, found = len(point.parts), after.split()[0]
    return found


def _free_space(path: Path) -> Finding:
    free = shutil.disk_usage(path.parent).free
    expected = f"{_size(LOW_BYTES)} or more"
    if free < FULL_BYTES:
        return Finding("free space", _size(free), expected, "wrong", "writes are about to fail")
    return Finding("free space", _size(free), expected, "ok" if free >= LOW_BYTES else "warning")


def _permissions(path: Path) -> Finding:
    """Of the file and what lies beside it: the log holds every word too."""
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in _files(path)}
    value = " ".join(f"{mode:04o}" for mode in dict.fromkeys(modes.values()))
    if any(mode & 0o022 for mode in modes.values()):
        others = ", ".join(name for name, mode in modes.items() if mode & 0o022)
        return Finding("permissions", value, "0600", "wrong", f"others may write {others}")
    if any(mode & 0o044 for mode in modes.values()):
        others = ", ".join(name for name, mode in modes.items() if mode & 0o044)
        return Finding("permissions", value, "0600", "warning", f"others may read {others}")
    return Finding("permissions", value, "0600")


def _owner(path: Path) -> Finding:
    """A command run as somebody else can leave files that the server may not open."""
    owner, expected = path.stat().st_uid, "one user for all files"
    strange = [file.name for file in _files(path) if file.stat().st_uid != owner]
    if strange:
        return Finding("owner", f"uid {owner}", expected, "wrong", f"{', '.join(strange)}: of another user")
    return Finding("owner", f"uid {owner}", expected)


def _log_size(path: Path) -> Finding:
    wal = Path(f"{path}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    expected = f"under {_size(LARGE_WAL_BYTES)}"
    if size >= LARGE_WAL_BYTES:
        return Finding(
            "write-ahead log", _size(size), expected, "warning", "a reader may be keeping it from being emptied"
        )
    return Finding("write-ahead log", _size(size), expected)


def _files(path: Path) -> list[Path]:
    return [file for suffix in ("", "-wal", "-shm", ".lock") if (file := Path(f"{path}{suffix}")).exists()]


# --- in the file ------------------------------------------------------------------------------------------------------


def _in_file(path: Path, tables: Collection[str], pid: str | None) -> Iterator[Finding]:
    # Never while a server may have the file in this process: closing a descriptor of it drops SQLite's own locks.
    mode = None if _beside(path, pid) else _mode_in_header(path)
    with looking(path, pid) as connection:
        yield _application(connection)
        yield _revision(connection)
        yield _journal_mode(mode or _pragma(connection, "journal_mode"))
        yield from _as_writer(connection)
        yield _page_size(connection)
        yield _guards(connection)
        yield _strict(connection, tables)
        yield from _times(connection)


@contextmanager
def looking(path: Path, pid: str | None) -> Iterator[Connection]:
    """A connection that leaves nothing behind; ``pid`` is the file's holder."""
    engine = _open(path, immutable=not _beside(path, pid))
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _beside(path: Path, pid: str | None) -> bool:
    """True if the file is to be read beside its writer, or what a writer left."""
    return pid is not None or _has_log(path)


def _has_log(path: Path) -> bool:
    wal = Path(f"{path}-wal")
    return wal.exists() and wal.stat().st_size > 0


def _mode_in_header(path: Path) -> str:
    """The journal mode that the file's header states: an immutable connection does not tell."""
    with path.open("rb") as file:
        return "wal" if file.read(100)[_WAL_HEADER] == b"\x02\x02" else "delete"


def _open(path: Path, *, immutable: bool) -> Engine:
    """Without transactions, within which nothing can be set."""
    uri = f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' * immutable}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)

    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def _application(connection: Connection) -> Finding:
    found = int(_pragma(connection, "application_id"))
    if found != APPLICATION_ID:
        raise StoreForeign("the file is a SQLite database, but not one of Manent's")
    return Finding("application id", f"{found:#x}", f"{APPLICATION_ID:#x}")


def _revision(connection: Connection) -> Finding:
    found, newest = revision_of(connection) or "none", newest_revision()
    note = "" if found == newest else "run `manent migrate`, or a version of Manent that knows it"
    return Finding("schema revision", found, newest, "wrong" if note else "ok", note)


def _journal_mode(found: str) -> Finding:
    return Finding("journal_mode", found, "wal", "ok" if found == "wal" else "wrong")


def _as_writer(connection: Connection) -> Iterator[Finding]:
    """The settings of a connection, after setting them as the writer does."""
    for name, value in WRITER_PRAGMAS.items():
        if name != "journal_mode":  # a property of the file, and setting it would change the file
            run(connection, f"PRAGMA {name} = {value}")
    level = int(_pragma(connection, "synchronous"))
    note = "set by the writer for its own connection"
    yield Finding("synchronous", _SYNCHRONOUS[level], "full", "ok" if level >= 2 else "wrong", note)
    for name, expected in (("secure_delete", "on"), ("wal_autocheckpoint", "0")):
        found = _pragma(connection, name)
        found = ("off", "on", "fast")[int(found)] if expected == "on" else found
        yield Finding(name, found, expected, "ok" if found == expected else "wrong", note)
    if sys.platform == "darwin":
        found = int(_pragma(connection, "fullfsync"))
        yield Finding(
            "fullfsync", str(found), "1", "ok" if found else "warning", "without it macOS syncs to the drive's cache"
        )


def _page_size(connection: Connection) -> Finding:
    found = int(_pragma(connection, "page_size"))
    return Finding("page size", str(found), str(PAGE_BYTES), "ok" if found == PAGE_BYTES else "warning")


def _guards(connection: Connection) -> Finding:
    missing = missing_guards(connection)
    if missing:
        return Finding(
            "guards", f"{len(GUARDS) - len(missing)} of {len(GUARDS)}", "all", "wrong", f"missing: {', '.join(missing)}"
        )
    return Finding("guards", f"{len(GUARDS)} of {len(GUARDS)}", "all")


def _strict(connection: Connection, tables: Collection[str]) -> Finding:
    rows = run(connection, "SELECT name, strict FROM pragma_table_list WHERE schema = 'main'")
    strict = {name: bool(flag) for name, flag in rows}
    gone = sorted(name for name in tables if name not in strict)
    loose = sorted(name for name in tables if not strict.get(name, True))
    good = f"{len(tables) - len(gone) - len(loose)} of {len(tables)}"
    if gone or loose:
        notes = [f"missing: {', '.join(gone)}"] * bool(gone) + [f"not STRICT: {', '.join(loose)}"] * bool(loose)
        return Finding("strict tables", good, "all", "wrong", "; ".join(notes))
    return Finding("strict tables", good, "all")


def damage(connection: Connection) -> str | None:
    """The damage that SQLite itself finds in the file, naming the page; None if there is none."""
    line: str = run(connection, "PRAGMA integrity_check(1)").fetchone()[0]
    return None if line == "ok" else " ".join(line.split())


def _times(connection: Connection) -> Iterator[Finding]:
    """No event is recorded before the one in front of it: after the clock was set back, time stands still in a log."""
    if run(connection, "SELECT 1 FROM pragma_table_list WHERE name = 'heads'").fetchone() is None:
        return
    newest = run(connection, "SELECT max(recorded_at) FROM heads").fetchone()[0] or 0
    ahead_s = newest / 1e6 - time.time()
    if ahead_s <= CLOCK_SLACK_S:
        yield Finding("recorded times", "not ahead", CLOCK)
        return
    note = (
        "the clock was set back since, or the file is from a machine whose clock is ahead; until this clock has caught "
        "up, all that is recorded gets the same time (order, versions and proofs do not hang on it)"
    )
    yield Finding("recorded times", f"{ahead_s:.0f} s ahead", CLOCK, "warning", note)


def _pragma(connection: Connection, name: str) -> str:
    return str(run(connection, f"PRAGMA {name}").fetchone()[0])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _size(size: int) -> str:
    for unit, factor in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
