"""Erased words leave the projections in the erasure's own transaction, and to the same bytes that folding the log
again would give.

Two projections hold words: a session's own, with the beginning of what was said in it, and the detail of a failed
turn. One more knows of older copies what their metadata said (``copies``). What else an erasure changes follows from
the facts of its event (``state``, ``projector``).
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import msgspec

from ..events.session_types import SessionStarted, SessionUpdated
from ..events.types import AttemptStarted, MessageAppended, TurnFailed
from ..events.upcasts import Stored, facts_of
from ..log.base import Connection
from ..log.erasure import Trace, erased_by
from ..log.sql import reads
from . import queries
from .copies import forget_source
from .turn_state import ERASED_DETAIL
from .words import ShownWords, words_after

SETTING_WORDS = (SessionStarted.event_type, SessionUpdated.event_type)
MOST_SETTINGS = 1 << 30


def forget_words(connection: Connection, tenant: str, session: UUID, erased: Iterable[Trace]) -> None:
    """Take the words of these events of a session out of its projections. Their bodies are gone by now."""
    settings, messages = False, set()
    for event in erased:
        if event.type == SessionStarted.event_type:
            forget_source(connection, tenant, session, event)
        if event.type in SETTING_WORDS:
            settings = True
        elif event.type == TurnFailed.event_type:
            _forget_detail(connection, tenant, event)
        elif event.type == MessageAppended.event_type:
            messages.add(event.position)
    if settings:
        queries.set_words_of_session(connection, tenant, session, _words_now(connection, tenant, session))
    state = queries.session_state(connection, tenant, session) if messages else None
    if state is not None and state.first_user in messages:
        queries.forget_preview(connection, tenant, session)


def erased_of_prompt(connection: Connection, tenant: str, attempt: Stored) -> tuple[int, ...]:
    """Positions of what an ``attempt.started`` was sent and is erased since, its own among them: where there is any,
    the request cannot be derived again. Empty: it can.
    """
    facts = facts_of(attempt)
    assert isinstance(facts, AttemptStarted)
    sent = {attempt.position, *facts.positions, *([] if facts.system is None else [facts.system])}
    return tuple(position for position in sorted(sent) if erased_by(connection, tenant, position) is not None)


def _words_now(connection: Connection, tenant: str, session: UUID) -> ShownWords:
    words = ShownWords()
    events = reads.session_events_of_types(connection, tenant, session, SETTING_WORDS, after=0, limit=MOST_SETTINGS)
    for event in events:
        words = words_after(words, event, facts_of(event))
    return words


def _forget_detail(connection: Connection, tenant: str, event: Stored) -> None:
    facts = facts_of(event)
    assert isinstance(facts, TurnFailed)
    state = queries.turn_state(connection, tenant, facts.turn)
    assert state is not None
    queries.set_turn_state(connection, tenant, msgspec.structs.replace(state, error_detail=ERASED_DETAIL))
