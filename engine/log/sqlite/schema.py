"""The schema of a database file: what revision it is at, bringing it to the newest, and whether its guards stand.

Alembic keeps the history, in ``migrations/``. A file from a newer version is refused, never guessed at.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from ...errors import StoreNewer, StoreOlder
from .connection import DRIVER_ERRORS, meaning_of, open_reader, open_writer, run
from .guards import GUARDS, guarded_table

MIGRATIONS = Path(__file__).parents[3] / "migrations"
"""Found by its place beside the engine, never by name: somebody else's ``migrations`` may be importable too."""

Progress = Callable[[int, int], None]
"""Told how many events are done, and how many there are."""


def migrate(
    path: Path,
    progress: Progress | None = None,
    secret: Callable[[], Any] | None = None,
    derive: Callable[[Connection], object] | None = None,
) -> tuple[str | None, str]:
    """Bring a database file to the newest revision, creating it if need be: all of it or nothing. The caller holds the
    file's lock. ``progress`` is told how many events are taken in, where a revision takes in all there are; ``secret``
    gives the database's secret to one that hashes with it; ``derive`` makes anew what an older file has derived.

    Returns the revision it was at (None: new) and the one it is at. Raises StoreNewer or StoreForeign, and has
    then changed nothing.
    """
    engine = open_writer(path, may_change_schema=True)
    try:
        with engine.begin() as connection:
            before, newest = revision_of(connection), newest_revision()
            if before != newest:
                _refuse_newer(before)
                config = _config()
                config.attributes.update(connection=connection, progress=progress, secret=secret)
                command.upgrade(config, "head")
                if before is not None and derive is not None:
                    derive(connection)
            return before, newest
    except DRIVER_ERRORS as error:
        raise meaning_of(error) from error
    finally:
        engine.dispose()


def check_revision(path: Path) -> None:
    """Raises StoreNewer or StoreOlder unless the file is at the revision that this version reads."""
    engine = open_reader(path)
    try:
        with engine.begin() as connection:
            revision = revision_of(connection)
    except DRIVER_ERRORS as error:
        raise meaning_of(error) from error
    finally:
        engine.dispose()
    if revision != newest_revision():
        _refuse_newer(revision)
        raise StoreOlder("the database is of an older version: run `manent migrate` first", revision=revision)


def revision_of(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def newest_revision() -> str:
    revision = _scripts().get_current_head()
    assert revision is not None
    return revision


def make_guards(connection: Connection) -> None:
    """Create every guard anew whose table exists. A migration ends with it: SQLite drops the triggers of a table that
    is rebuilt.
    """
    tables = {row[0] for row in run(connection, "SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for name, statement in GUARDS.items():
        if guarded_table(statement) in tables:
            run(connection, f"DROP TRIGGER IF EXISTS {name}")
            run(connection, statement)


def missing_guards(connection: Connection) -> list[str]:
    """Names of guards that are gone or are not what they should be."""
    rows = run(connection, "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
    found: dict[str, str] = {row[0]: row[1] for row in rows}
    return [name for name, statement in GUARDS.items() if found.get(name) != statement]


def _refuse_newer(revision: str | None) -> None:
    known = {script.revision for script in _scripts().walk_revisions()}
    if revision is not None and revision not in known:
        raise StoreNewer(f"the database is at revision {revision}, of a newer version of Manent", revision=revision)


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
