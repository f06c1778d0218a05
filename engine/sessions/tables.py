"""The tables of the projections: sessions, their words and what they were, messages (no content), turns, and what
vendors' usage taught us.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, Table, Text, literal_column

from ..log.sql.tables import (
    Int,
    document_uses,
    metadata,
)

HOUR_US = 3_600_000_000

sessions = Table(
    "sessions",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("session", LargeBinary, primary_key=True),
    Column("status", Text, nullable=False),
    Column("updated_at", Int, nullable=False),
    Column("active_hour", Int, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("model", Text, nullable=False),
    Column("failed", Int, nullable=False),
    Column("waiting", Int, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""``state`` is the JSON of ``projections.session.SessionState``; the other columns are for listing. ``active_hour`` is
``updated_at`` in whole hours, ``failed`` how many turns failed, ``waiting`` 1 while one waits for a person."""

Index("sessions_by_hour", sessions.c.tenant, sessions.c.active_hour)
"""By the hour, so that it changes once an hour for a session and not with each append; a page of the list sorts the
sessions of its hours."""

session_words = Table(
    "session_words",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("session", LargeBinary, primary_key=True),
    Column("title", Text),
    Column("system", Text),
    Column("metadata", LargeBinary),
    Column("user_id", Text),
    Column("agent_id", Text),
    Column("preview", Text),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Apart from ``sessions``, whose row every append rewrites."""


snapshots = Table(
    "snapshots",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("session", LargeBinary, primary_key=True),
    Column("version", Int, primary_key=True, autoincrement=False),
    Column("state", LargeBinary, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The states that a session had at every so many versions, without words: from one on the past is folded."""


def _index_named(name: str, column: Column[str]) -> None:
    """Of those that have it only: most sessions are nobody's."""
    named = column.is_not(None)
    Index(name, session_words.c.tenant, column, sqlite_where=named, postgresql_where=named)


_index_named("sessions_by_user", session_words.c.user_id)
_index_named("sessions_by_agent", session_words.c.agent_id)

messages = Table(
    "messages",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("position", Int, primary_key=True, autoincrement=False),
    Column("session", LargeBinary, nullable=False),
    Column("version", Int, nullable=False),
    Column("role", Text, nullable=False),
    Column("tokens", Int, nullable=False),
    Column("total_tokens", Int, nullable=False),
    Column("unit", Int, nullable=False),
    Column("complete", Int, nullable=False),
    Column("left_out", Int),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""In order of position, so that a commit writes one page for the messages of many sessions; a session's are found
through ``events``. ``total_tokens`` runs along the session, this message included. ``left_out``: the position from
which on windows leave it out, because it is empty or erased."""

marks = Table(
    "marks",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("session", LargeBinary, primary_key=True),
    Column("version", Int, primary_key=True, autoincrement=False),
    Column("position", Int, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The marks that a session made on messages, each at its version: ``pinned``, ``unpinned`` or ``superseded``; or, at
the version of a message of its own, that this holds words of the other: ``copied``."""

COPIED = marks.c.kind == literal_column("'copied'")
Index("marks_copied", marks.c.tenant, marks.c.position, sqlite_where=COPIED, postgresql_where=COPIED)

turns = Table(
    "turns",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("turn", LargeBinary, primary_key=True),
    Column("session", LargeBinary, nullable=False),
    Column("version", Int, nullable=False),
    Column("status", Text, nullable=False),
    Column("state", LargeBinary, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""``state`` is the JSON of ``projections.turn.TurnState``."""

Index("turns_by_session", turns.c.tenant, turns.c.session, turns.c.version)

WAITING = turns.c.status == literal_column("'requires_action'")
"""Turns that wait for a person: few among all. A query has to say it in the words of the index."""
Index("turns_waiting", turns.c.tenant, turns.c.turn, sqlite_where=WAITING, postgresql_where=WAITING)

copies = Table(
    "copies",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("session", LargeBinary, primary_key=True),
    Column("source", LargeBinary),
    Column("cause", LargeBinary),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The sessions that were made from another: an import, or a run done again. ``source``: that session. ``cause``: the id
of its first event, by which older imports are found."""

Index("copies_by_source", copies.c.tenant, copies.c.source)
Index("copies_by_cause", copies.c.tenant, copies.c.cause)

forks = Table(
    "forks",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("session", LargeBinary, primary_key=True),
    Column("root", LargeBinary, nullable=False),
    Column("parent", LargeBinary, nullable=False),
    Column("parent_version", Int, nullable=False),
    Column("position", Int, nullable=False),
    Column("after_message", Int, nullable=False),
    Column("replay", LargeBinary),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The sessions that share the history of ``parent`` up to ``parent_version``. ``root`` is the session that their family
began with; ``position`` that of their first event; ``after_message`` that of the last message that they share, 0 if
there is none; ``replay`` the one that made them."""

Index("forks_by_root", forks.c.tenant, forks.c.root, forks.c.position)
_OF_REPLAY = forks.c.replay.is_not(None)

Index("forks_by_replay", forks.c.tenant, forks.c.replay, sqlite_where=_OF_REPLAY, postgresql_where=_OF_REPLAY)

replays = Table(
    "replays",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("replay", LargeBinary, primary_key=True),
    Column("position", Int, nullable=False),
    Column("mode", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("state", LargeBinary, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""``position``: of their first event, in the order of which they are listed; ``state`` is the JSON of
``replay_state.ReplayState``."""

Index("replays_by_position", replays.c.tenant, replays.c.position)

suites = Table(
    "suites",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("suite", LargeBinary, primary_key=True),
    Column("name", Text),
    Column("state", LargeBinary, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""``name`` is null where it is erased; ``state`` is the JSON of ``replay_state.SuiteState``."""

Index("suites_by_name", suites.c.tenant, suites.c.name, unique=True)

prefixes = Table(
    "prefixes",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("session", LargeBinary, primary_key=True),
    Column("version", Int, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The keyed hash of a session's history up to a version: where it begins, and at each message. Of those only that
clients send again."""

Index("prefixes_by_hash", prefixes.c.tenant, prefixes.c.hash)

retries = Table(
    "retries",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("turn", LargeBinary, nullable=False),
    Column("at", Int, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The turn that each request of a client has started last: scratch, by a keyed hash of the request."""

Index("retries_by_time", retries.c.tenant, retries.c.at)

aliases = Table(
    "aliases",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", LargeBinary, primary_key=True),
    Column("turn", LargeBinary, primary_key=True),
    Column("session", LargeBinary, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The turns that clients asked for under a name of their own for the conversation: ``name`` is a keyed hash of that,
of who gave it and of the protocol. The newest of them says where the conversation is."""

Index("aliases_by_turn", aliases.c.tenant, aliases.c.turn)

answers = Table(
    "answers",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("protocol", Text, primary_key=True),
    Column("turn", LargeBinary, primary_key=True),
    Column("hidden", Int, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The turns whose answers clients of a protocol are served by their ids, in order of these; ``hidden``: no longer."""

unstored = Table(
    "unstored",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("turn", LargeBinary, primary_key=True),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The turns of clients that asked not to store anything, while their words are there."""

calibrations = Table(
    "calibrations",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("samples", Int, nullable=False),
    Column("base_tokens", Int, nullable=False),
    Column("messages", Int, nullable=False),
    Column("input_tokens", Int, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Sums over the attempts whose usage the vendor reported: what we counted, and what it counted."""

PROJECTIONS = (
    *(sessions, session_words, snapshots, messages, marks, turns, forks, copies, replays, suites, calibrations),
    *(prefixes, aliases, answers, unstored, document_uses),
)
KEYED = (prefixes, aliases)
"""Those of them whose rows are made with the database's secret."""
