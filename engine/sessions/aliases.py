"""Names that clients give their conversations themselves: each leads to the turns that were asked for under it, by a
keyed hash of the name, of who gave it and of the protocol. The newest turn says where the conversation is.
"""

from __future__ import annotations

import hmac
from uuid import UUID

import msgspec
from sqlalchemy import Connection, delete, insert, select

from ..clock import id_of
from ..events.turn_types import ClientFacts, Protocol, TurnWords
from ..events.upcasts import words_left
from ..log.base import RecordedEvent
from ..log.sql.clauses import limited, same
from ..log.sql.driver import Prepared, PreparedRows
from ..log.sql.tables import runs
from .tables import aliases

PURPOSE = "alias/1"

insert_aliases = PreparedRows(insert(aliases))
_under = select(aliases.c.session, aliases.c.turn).where(*same(aliases, "tenant", "name"))
_newest = Prepared(limited(_under.order_by(aliases.c.turn.desc())))
_running = Prepared(
    limited(
        _under.join(runs, (runs.c.tenant == aliases.c.tenant) & (runs.c.turn == aliases.c.turn)).order_by(
            aliases.c.turn.desc()
        )
    )
)
_named = Prepared(_under.where(*same(aliases, "turn")))
_forget = Prepared(delete(aliases).where(*same(aliases, "tenant", "turn")))


class Alias(msgspec.Struct, frozen=True):
    """A turn under a name, and its session."""

    session: UUID
    turn: UUID


def alias_row(key: bytes, event: RecordedEvent, client: ClientFacts) -> tuple[object, ...] | None:
    """The row of a turn's start; None: the client gave no name, or it is erased."""
    words = words_left(event)
    if not isinstance(words, TurnWords) or words.alias is None:
        return None
    name = _hash(key, (event.tenant, event.actor), client.protocol, words.alias)
    return event.tenant, name, event.id.bytes, event.session.bytes


def find_alias(
    connection: Connection,
    key: bytes,
    tenant: str,
    principal: str,
    protocol: Protocol,
    name: str,
    *,
    turn: UUID | None = None,
    running: bool = False,
) -> Alias | None:
    """Where a conversation is that a caller has a name for; None: it is not known. ``turn``: this one of its turns;
    ``running``: the newest that runs, which one that waits for a person does not.
    """
    under = tenant, _hash(key, (tenant, principal), protocol, name)
    if turn is not None:
        row = _named(connection, *under, turn.bytes).fetchone()
    else:
        row = (_running if running else _newest)(connection, *under, 1).fetchone()
    return None if row is None else Alias(id_of(row[0]), id_of(row[1]))


def forget_alias(connection: Connection, tenant: str, turn: bytes) -> None:
    """Let a turn be found under its client's name no longer."""
    _forget(connection, tenant, turn)


def _hash(key: bytes, who: tuple[str, str], protocol: Protocol, name: str) -> bytes:
    return hmac.digest(key, msgspec.json.encode([PURPOSE, *who, protocol, name]), "sha256")
