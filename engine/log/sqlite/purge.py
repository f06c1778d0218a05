"""The purge: after an erasure, no file of the database holds the words any more, not even as stray bytes.

Three things are left when an erasing transaction is committed. The write-ahead log has pages from before it, until it
is truncated. Pages of the file have copies of rows that were moved when a b-tree was balanced (``store.scrub``). And
the connection that writes has such pages in its cache, so it is opened anew. All three are cleared on the writer's
thread, between two batches; while a reader's snapshot still needs the log that cannot be done, and is tried again. A
row in ``purges``, written with the erasure, says that it is due: so the next start does it, if nobody did before.
"""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Connection

from .connection import BUSY_TIMEOUT_S, run
from .scrub import scrub

PATIENCE_MS = 250
"""How long a purge waits for readers to let go of the write-ahead log; the writer's callers wait as long."""

RETRY_S = 1.0
"""How long until a purge that could not be done is tried again."""


class Purger:
    """Clears one database file. ``due``: there is something to clear."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self.due = False

    def look(self, connection: Connection) -> None:
        """See in the file whether a purge is due."""
        self.due = run(connection, "SELECT 1 FROM purges LIMIT 1").fetchone() is not None

    def truncate_log(self, connection: Connection) -> bool:
        """Move the write-ahead log into the file and cut it to nothing; False: a reader still needs it."""
        run(connection, f"PRAGMA busy_timeout = {PATIENCE_MS}")
        try:
            busy, _, _ = run(connection, "PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            run(connection, f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        return not busy

    def scrub(self) -> None:
        """Overwrite what lies in the file's gaps. The writing connection is closed, and the log empty."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        scrub(self._descriptor)

    def done(self, connection: Connection) -> None:
        """Note that nothing is due any more."""
        run(connection, "DELETE FROM purges")
        self.due = False

    def close(self) -> None:
        """Let go of the file; only when all connections to it are closed (see ``store.scrub``)."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
