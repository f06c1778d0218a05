"""Where a client's turn goes on: after the history that is recognised, after an answer that the client names, at the
end of a conversation that it names, or in a session that begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import msgspec

from ..errors import Invalid, NotFound, TurnNotFound
from ..events.blocks import Content
from ..log.base import Connection
from ..log.sql.damage import erased_by
from ..log.sql.session_index import Stretch
from ..sessions.decisions import existing
from ..sessions.history import state_at
from ..sessions.lineage import stretches
from ..sessions.queries import session_state
from ..sessions.recognition import Recognised, Said, can_go_on, ends_at, recognise
from ..sessions.same_content import changed_contents
from .answers import served, visible
from .client_request import ClientRequest

BEGINNING = 1
"""The version of a session's first event, in all its forks too."""

Hashed = Callable[[], list[bytes]]
"""The hashes of a history up to each of its messages."""


class PreviousNotFound(NotFound):
    """There is no such answer to go on from: it is unknown, another's, erased or deleted."""

    code = "previous_response_not_found"


class PreviousNotCompleted(Invalid):
    """The answer to go on from is not whole: its turn runs, or has failed or been cancelled."""

    code = "previous_response_not_completed"


class Place(msgspec.Struct, frozen=True):
    """Where a turn goes on; ``at`` None: in a session that begins. ``changed``: by version, contents of what is on
    record there that the client says otherwise.
    """

    at: Recognised | None = None
    changed: Mapping[int, Content] = {}

    @property
    def count(self) -> int:
        """How many of the client's messages are on record there."""
        return 0 if self.at is None else self.at.count


def place_of(
    connection: Connection,
    tenant: str,
    request: ClientRequest,
    said: Sequence[Said],
    hashed: Hashed,
    now_us: int,
    *,
    fork: bool,
) -> Place:
    """Find where a request goes on. ``fork``: not in the session itself, unless it is a conversation. Raises
    SessionNotFound, PreviousNotFound and PreviousNotCompleted.
    """
    fork = fork or request.apart
    if request.conversation is not None:
        return Place(_conversation(connection, tenant, request.conversation, fork=request.apart))
    if request.previous is not None:
        return Place(_after(connection, tenant, request, now_us, fork=fork))
    if request.apart and request.session is None:
        return Place()  # what it says is to go as a whole, so it shares nothing
    family = request.session or request.family
    at = recognise(connection, tenant, said, hashed(), now_us, fork=fork, rather=family)
    if at is None and request.edited:
        return Place(_before(connection, tenant, family, now_us))
    elsewhere = request.session is not None and (at is None or at.session != request.session)
    if request.session is not None and elsewhere and not request.edited:
        return Place(_named(connection, tenant, request.session, said, fork=fork))
    if at is None:
        return Place()
    if not request.verbatim:
        return Place(at)
    state = state_at(connection, tenant, at.session, at.version)
    return Place(at, changed_contents(connection, tenant, state, said[: at.count]))


def _conversation(connection: Connection, tenant: str, session: UUID, *, fork: bool) -> Recognised:
    """The end of a conversation; an open turn there is refused later."""
    state = visible(session_state(connection, tenant, session))
    return Recognised(session, state.last.version if state.last else state.version, 0, goes_on=not fork)


def _after(connection: Connection, tenant: str, request: ClientRequest, now_us: int, *, fork: bool) -> Recognised:
    """The end of an answer, in its session while that has not moved on, and was not deleted as a conversation."""
    assert request.previous is not None
    try:
        turn = served(connection, tenant, request.protocol, request.previous)
    except TurnNotFound:
        raise _no_previous() from None
    if turn.status != "completed":
        raise PreviousNotCompleted("previous", f"that answer is not whole: its turn is {turn.status}")
    now = state_at(connection, tenant, turn.session)
    then = now if now.version == turn.end_version else state_at(connection, tenant, turn.session, turn.end_version)
    version = then.last.version if then.last else then.version
    if then.last is None or erased_by(connection, tenant, then.last.position) is not None:
        raise _no_previous()
    if any(_was_cut(connection, tenant, stretch) for stretch in stretches(connection, tenant, now, 0, version)):
        detail = "previous: an answer that it goes on from was deleted"
        raise PreviousNotFound(detail, field="previous")
    goes_on = not (fork or now.hidden) and can_go_on(now, now_us) and ends_at(now, version)
    return Recognised(turn.session, version, 0, goes_on)


def _was_cut(connection: Connection, tenant: str, stretch: Stretch) -> bool:
    """True if an answer in a stretch of a history was deleted: what is said after it lacks its words."""
    state = session_state(connection, tenant, stretch.session)
    return state is not None and state.deleted_from is not None and state.deleted_from <= stretch.up_to


def _no_previous() -> PreviousNotFound:
    return PreviousNotFound("previous: there is no such answer to go on from", field="previous")


def _named(connection: Connection, tenant: str, session: UUID, said: Sequence[Said], *, fork: bool) -> Recognised:
    """The session that a client names: it goes on there with what follows the last answer of its history. Raises
    SessionNotFound.
    """
    state = state_at(connection, tenant, session)
    count = next((number for number in range(len(said) - 1, 0, -1) if said[number - 1][0] == "assistant"), 0)
    return Recognised(session, state.last.version if state.last else state.version, count, goes_on=not fork)


def _before(connection: Connection, tenant: str, session: UUID | None, now_us: int) -> Recognised | None:
    """The place before the first message of a session, to be forked; None: it cannot be. Raises SessionNotFound."""
    state = None if session is None else existing(session_state(connection, tenant, session))
    if state is None or not can_go_on(state, now_us):
        return None
    return Recognised(state.id, BEGINNING, 0, goes_on=False)
