"""SQLite's connections: how they are opened, the settings of durability, and what an error means.

SQLite only, so far. One process writes a file and holds ``FILE.lock``; others read beside it. Before 3.51.3 SQLite
can corrupt a file when two connections write or checkpoint at the same moment (see its release notes), so exactly
one connection does both.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from ...errors import EngineError, Invalid, StoreCorrupt, StoreForeign, StoreFull, StoreUnavailable
from ..base import DECODER, Decoder
from ..sql.damage import DAMAGE, Damage
from ..sql.driver import driver_connection
from .read_only import never_changes

APPLICATION_ID = 0x4D414E54
"""``MANT``: how a file says what it is (SQLite file format, section 1.3.13)."""

PAGE_BYTES = 4096
BEGIN_READING, BEGIN_WRITING = "BEGIN", "BEGIN IMMEDIATE"
BUSY_TIMEOUT_S = 30

WRITER_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "full",
    "fullfsync": "on",
    "checkpoint_fullfsync": "on",
    "secure_delete": "on",
    "foreign_keys": "on",
    "wal_autocheckpoint": "0",
    "cache_size": "-16000",
    "temp_store": "memory",
}
"""``fullfsync`` matters on macOS, where a plain sync stops at the drive's cache. Checkpoints are ours to do, between
batches. The write-ahead log is never truncated while in use: a file that grows makes every sync dearer than one that is
written over."""

_REFUSED = frozenset(
    {
        *(sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_ALTER_TABLE, sqlite3.SQLITE_DROP_TABLE),
        *(sqlite3.SQLITE_DROP_INDEX, sqlite3.SQLITE_DROP_TRIGGER, sqlite3.SQLITE_DROP_VIEW),
        *(sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_CREATE_TEMP_TRIGGER, sqlite3.SQLITE_CREATE_TABLE),
        *(sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_CREATE_VTABLE),
        *(sqlite3.SQLITE_DROP_VTABLE, sqlite3.SQLITE_DROP_TEMP_TABLE, sqlite3.SQLITE_DROP_TEMP_TRIGGER),
    }
)
_REFUSED_PRAGMAS = frozenset({"writable_schema", "recursive_triggers", "ignore_check_constraints"})
"""What the service's own connections may not do (see sqlite3_set_authorizer)."""

_MEANING: dict[int, tuple[type[EngineError], str]] = {
    sqlite3.SQLITE_FULL: (StoreFull, "the disk of the database is full"),
    sqlite3.SQLITE_CORRUPT: (StoreCorrupt, "the database file is damaged"),
    sqlite3.SQLITE_NOTADB: (StoreForeign, "the file is not a Manent database"),
}


def database_path(url: str) -> Path:
    """The file that a ``database`` setting names: a path, or a ``sqlite:`` URL.

    Raises Invalid for any other database.
    """
    if "://" not in url:
        return _file(url)
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Invalid("database", "is neither a file path nor a SQLAlchemy URL") from None
    if parsed.get_backend_name() != "sqlite":
        raise Invalid("database", f"{parsed.get_backend_name()} is not supported; give a file path or a sqlite URL")
    return _file(parsed.database)


def _file(name: str | None) -> Path:
    """The path of a file. Raises Invalid for a name under which SQLite would keep a database in memory."""
    path = Path(name or "")
    if not name or str(path).startswith((":memory:", "file::memory:")):
        raise Invalid("database", "must be a file: an in-memory database keeps no record")
    return path


def open_writer(
    path: Path, *, decode: Decoder | None = None, damage: Damage | None = None, may_change_schema: bool = False
) -> Engine:
    """An engine whose single connection writes and checkpoints. Creates the file, readable by its owner only. What
    stands in the file's schema, its guards above all, is changed by migrations only. ``decode``: see ``log.base``;
    ``damage``: where damaged rows that are read are noted.
    """
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = _engine(
        lambda: sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, record: Any) -> None:
        record.info |= {DECODER: decode, DAMAGE: damage}
        _refuse_foreign(connection)
        for name, value in WRITER_PRAGMAS.items():
            connection.execute(f"PRAGMA {name} = {value}")
        if not may_change_schema:
            connection.set_authorizer(_authorize)

    _begin_with(engine, BEGIN_WRITING)
    return engine


def open_reader(path: Path, *, decode: Decoder | None = None, damage: Damage | None = None) -> Engine:
    """An engine that can only read, and sees one snapshot for each transaction. Where nothing can be written, see
    ``read_only``. ``decode``, ``damage``: as of ``open_writer``.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if never_changes(path) else ''}"
    engine = _engine(
        lambda: sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, record: Any) -> None:
        record.info |= {DECODER: decode, DAMAGE: damage}
        _refuse_foreign(connection)
        connection.execute("PRAGMA query_only = on")
        connection.execute("PRAGMA cache_size = -16000")
        connection.set_authorizer(_authorize)

    _begin_with(engine, BEGIN_READING)
    return engine


def _engine(connect: Any) -> Engine:
    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def _authorize(action: int, argument: str | None, *_: str | None) -> int:
    """SQLite asks once for each thing that a statement does, when it is prepared."""
    if action in _REFUSED or (action == sqlite3.SQLITE_PRAGMA and argument in _REFUSED_PRAGMAS):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _begin_with(engine: Engine, statement: str) -> None:
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # The driver's own transactions open DEFERRED, and a read followed by a write then fails at once with BUSY.
        raw: Any = connection.connection.dbapi_connection
        if not raw.in_transaction:  # else it was begun by ``driver.transaction``
            raw.execute(statement)


def _refuse_foreign(connection: sqlite3.Connection) -> None:
    """Raise StoreForeign unless the file is empty or ours."""
    try:
        empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    except DRIVER_ERRORS as error:
        raise meaning_of(error) from error
    if not empty and application_id != APPLICATION_ID:
        raise StoreForeign("the file is a SQLite database, but not one of Manent's")


def run(connection: Connection, text: str) -> Any:
    """The driver's cursor after a statement that only SQLite has."""
    return driver_connection(connection).execute(text)


def checkpoint(connection: Connection) -> None:
    """Move what pages can be moved from the write-ahead log into the file, without waiting for anybody."""
    # Closed, and not left to be collected: while it is open, SQLite refuses the next commit.
    run(connection, "PRAGMA wal_checkpoint(PASSIVE)").close()


def _itself(value: Any) -> Any:
    return value


# The driver looks in three places for an adapter of each value that is not a number or a text, and finds none: it takes
# half the time to find one in the first that does nothing. Thirteen values of an append are bytes or null.
sqlite3.register_adapter(bytes, _itself)
sqlite3.register_adapter(type(None), _itself)

DRIVER_ERRORS = (DBAPIError, sqlite3.Error, UnicodeDecodeError)
"""What a statement can raise: through SQLAlchemy, or from the driver itself, which cannot always read what SQLite says
of a damaged schema.
"""


def meaning_of(error: Exception) -> EngineError:
    """The error that a database error stands for."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, UnicodeDecodeError):
        return StoreCorrupt("the database file is damaged", reason="text that is not UTF-8")
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    kind, sentence = _MEANING.get(code, (StoreUnavailable, "the database could not do it"))
    return kind(sentence, reason=getattr(cause, "sqlite_errorname", type(cause).__name__))


def needs_reopening(error: Exception) -> bool:
    """True if the connection cannot be trusted after this error: a failed write or sync leaves the cache unknown."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return (getattr(cause, "sqlite_errorcode", 0) & 0xFF) in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT}
