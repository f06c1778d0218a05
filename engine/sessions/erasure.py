"""Erased words leave the projections in the erasure's own transaction, and to the same bytes that folding the log
again would give.

Two projections hold words: a session's own, with the beginning of what was said in it, and what a turn keeps of its
events (``TurnState``). One more knows of older copies what their metadata said (``copies``), and another which attempts
name a document, so that it goes with the last of them (``document_uses``). What else an erasure changes follows from
the facts of its event (``state``, ``projector``). Snapshots hold no words (``snapshots``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from uuid import UUID

from ..clock import id_of
from ..events.session_types import SessionForked, SessionStarted, SessionUpdated
from ..events.turn_types import AttemptStarted, TurnCompleted, TurnFailed, TurnStarted
from ..events.types import MessageAppended
from ..events.upcasts import Stored, facts_of
from ..log.base import Connection
from ..log.erasure import Trace
from ..log.sql import reads
from ..log.sql.documents import SALTED_SINCE, drop_uses
from . import queries
from .aliases import forget_alias
from .copies import forget_source
from .lineage import stretches
from .prefixes import CHAINED, forget_prefixes
from .retries import forget_turn
from .state import SessionState
from .turn_state import forget
from .unstored import forget_unstored
from .words import ShownWords, words_after

SETTING_WORDS = tuple(kind.event_type for kind in (SessionStarted, SessionForked, SessionUpdated))
TOLD_BY_TURNS = tuple(kind.event_type for kind in (TurnStarted, AttemptStarted, TurnCompleted, TurnFailed))


def forget_words(
    connection: Connection, tenant: str, session: UUID, own: Sequence[Trace], shown: Sequence[Trace] = ()
) -> None:
    """Take the words of these events out of a session's projections: of its ``own``, and of those ``shown`` that stand
    in a session with which it shares them. Their bodies are gone by now.
    """
    settings, messages = False, set()
    for event in (*own, *shown):
        if event.type == SessionStarted.event_type and event not in shown:
            forget_source(connection, tenant, session, event)
        if event.type in SETTING_WORDS:
            settings = True
        elif event.type in TOLD_BY_TURNS and event not in shown:
            _forget(connection, tenant, event)
        elif event.type == MessageAppended.event_type:
            messages.add(event.position)
    state = queries.session_state(connection, tenant, session)
    assert state is not None
    if settings:
        queries.set_words_of_session(connection, tenant, session, _words_now(connection, tenant, state))
    if shown:
        queries.forget_named(connection, tenant, state, {event.position for event in shown})
    if state.first_user in messages:
        queries.forget_preview(connection, tenant, session)
    gone = [event.version for event in (*own, *shown) if event.type in CHAINED]
    if state.drop_in and gone:
        forget_prefixes(connection, tenant, session, min(gone))


def release_documents(connection: Connection, tenant: str, pieces: Sequence[Iterable[Stored]]) -> list[list[str]]:
    """Forget that these events name documents, for their bodies are about to go; for each piece, the documents that
    nothing names any more and that go with it: the last piece that names them.
    """
    uses = [[use for event in piece for use in _uses_of(event)] for piece in pieces]
    last = {name: number for number, piece in enumerate(uses) for name, _ in piece}
    unused = sorted(drop_uses(connection, tenant, chain.from_iterable(uses)))
    return [[name for name in unused if last[name] == number] for number in range(len(uses))]


def _uses_of(event: Stored) -> list[tuple[str, int]]:
    """The document that an event names, if it can go, and the event's position."""
    if event.type != AttemptStarted.event_type or event.schema < SALTED_SINCE:
        return []
    facts = facts_of(event)
    assert isinstance(facts, AttemptStarted)
    return [] if facts.tools is None else [(facts.tools, event.position)]


def _words_now(connection: Connection, tenant: str, state: SessionState) -> ShownWords:
    words = ShownWords()
    for event in reads.each_event_along(connection, tenant, stretches(connection, tenant, state), SETTING_WORDS):
        words = words_after(words, event, facts_of(event))
    return words


def _forget(connection: Connection, tenant: str, event: Trace) -> None:
    turn_id = getattr(facts_of(event), "turn", None) or id_of(event.raw_id)
    state = queries.turn_state(connection, tenant, turn_id)
    assert state is not None
    forget_turn(connection, tenant, turn_id)
    if event.type == TurnStarted.event_type:
        forget_alias(connection, tenant, event.raw_id)
        forget_unstored(connection, tenant, event.raw_id)
    left = forget(state, event)
    if left != state:
        queries.set_turn_state(connection, tenant, left)
