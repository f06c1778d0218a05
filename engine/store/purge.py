"""The purge: after an erasure, no file of the database holds the words any more, not even as stray bytes.

Three things are left when an erasing transaction is committed. The write-ahead log has pages from before it, until it
is truncated. Pages of the file have copies of rows that were moved when a b-tree was balanced (``store.scrub``). And
the connection that writes has such pages in its cache. ``Purger`` clears all three, on the writer's thread between two
batches; while a reader's snapshot still needs the log it cannot, and is asked again later. A row in ``purges``, written
with the erasure, says that it is due: so it is done at the next start, if it was not before.
"""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Connection, delete, select

from engine.store import driver
from engine.store.scrub import scrub
from engine.store.tables import purges

PATIENCE_MS = 250
"""How long a purge waits for readers to let go of the write-ahead log; the writer's callers wait as long."""

RETRY_S = 1.0
"""How long until a purge that could not be done is tried again."""


def is_due(connection: Connection) -> bool:
    """Whether words that were erased may still be in the file."""
    found = connection.exec_driver_sql(str(select(purges.c.position).limit(1).compile(dialect=connection.dialect)))
    return found.first() is not None
