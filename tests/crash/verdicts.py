"""What stock SQLite finds in files that a crash has left behind."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from uuid import UUID


@dataclass
class Found:
    """The default log of a file: leaf hashes in order of position, last frame of each turn that is open, state of
    each turn that has ended. ``damage``: what is wrong with the file.
    """

    leaves: list = field(default_factory=list)
    open_frames: Mapping[str, int] = field(default_factory=dict)
    ended: Mapping[str, dict] = field(default_factory=dict)
    damage: str = ""


def found_in(path, *, whole=True):
    """Open a file as anybody would, look at it, and close it; nothing is synced. ``whole``: check every page, too."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA synchronous = off")
            return _found(connection, whole=whole)
    except (sqlite3.DatabaseError, TypeError, ValueError) as error:  # the latter of values that no writer has written
        return Found(damage=f"{type(error).__name__}: {error}")


def _found(connection, *, whole):
    found = Found()
    if whole:
        found.damage = "; ".join(row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok")
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'journal'").fetchone():
        return found
    rows = connection.execute("SELECT position, leaf_hash FROM events WHERE tenant = 'default' ORDER BY position")
    positions = count(1)
    for position, leaf in rows:
        if position != next(positions):
            found.damage += f"; position {len(found.leaves) + 1} is missing"
        found.leaves.append(leaf)
    for table, wanted in {"bodies": "count(*)", "heads": "coalesce(sum(size), 0)"}.items():
        (counted,) = connection.execute(f"SELECT {wanted} FROM {table}").fetchone()
        if counted != len(found.leaves):
            found.damage += f"; {table} speak of {counted} events, and there are {len(found.leaves)}"
    frames = "SELECT turn, coalesce(max(frame), 1) FROM runs LEFT JOIN journal USING (tenant, turn) GROUP BY turn"
    found.open_frames = {UUID(bytes=turn).hex: frame for turn, frame in connection.execute(frames)}
    ended = "SELECT turn, state FROM turns WHERE status <> 'running'"
    found.ended = {UUID(bytes=turn).hex: json.loads(state) for turn, state in connection.execute(ended)}
    return found
