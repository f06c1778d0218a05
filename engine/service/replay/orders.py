"""The order of a replay: which turns, in which mode, with which tools, within which bounds; and the checks that are
made before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Literal, TypedDict, get_args
from uuid import UUID

import msgspec

from ...errors import Invalid, NotFound, SessionNotFound, TooLarge, TurnAlreadyOpen, TurnNotFound
from ...events.replay_types import RecordedMode, SearchWords, ToolMode
from ...log.base import Connection
from ...log.codec import MAX_SAFE_INTEGER
from ...log.sql import reads
from ...sessions import queries
from ...sessions.lineage import list_turns
from ...sessions.listing import Which, list_sessions
from ...sessions.replays import suite_named
from ...sessions.state import SessionState, SessionStatus
from ...sessions.turn_state import TurnState
from ...settings import Settings
from ..ids import Id, session_id, turn_id
from ..moments import Time, microseconds

TURNS_AT_ONCE = 200
MAX_REPEAT = 20
MODES: tuple[RecordedMode, ...] = get_args(RecordedMode)


class SuiteNotFound(NotFound):
    """No suite has this name."""

    code = "suite_not_found"


class NothingToReplay(Invalid):
    """No turn is found by what was asked for."""

    code = "nothing_to_replay"


class ReplayWhere(msgspec.Struct, frozen=True):
    """Conditions by which sessions are found, as lists of sessions take them; of these, the turns that started at or
    after ``since`` and before ``until``.
    """

    model: str | None = None
    status: SessionStatus | None = None
    since: Time | None = None
    until: Time | None = None
    title_contains: str | None = None


class ReplayQuery(msgspec.Struct, frozen=True):
    """The turns to do again: all of some ``sessions``, some ``turns``, those of a ``suite``, or of the sessions
    ``where`` so much is true. One of the four is given.
    """

    sessions: Sequence[Id] = ()
    turns: Sequence[Id] = ()
    suite: str | None = None
    where: ReplayWhere | None = None


class LiveTools(TypedDict):
    """The tools that run while turns are done again; all other calls are answered from the record."""

    live: Sequence[str]


ToolsGiven = Literal["recorded", "refuse"] | LiveTools


class ReplayOptions(TypedDict, total=False):
    """Options of a replay. ``mode``: ``recorded``, ``forced`` or ``free``; left out: forced where a ``model`` is named,
    else recorded. ``model`` left out: each turn's own. ``repeat``: how often the recorded model is asked before, to
    know how much it differs from itself. ``tools``: ``recorded``, ``refuse``, or ``{"live": [names]}``. ``jobs``: most
    turns at once; ``max_turns``: more are refused; ``max_cost_micros``: no further turn is asked once so much is spent.
    """

    mode: RecordedMode | None
    model: str | None
    repeat: int
    tools: ToolsGiven
    jobs: int | None
    max_turns: int | None
    max_cost_micros: int | None


class Order(msgspec.Struct, frozen=True):
    """A replay as it was asked for, checked as far as can be without the record."""

    query: ReplayQuery
    mode: RecordedMode
    model: str | None
    repeat: int
    tools: ToolMode
    live: tuple[str, ...]
    jobs: int
    max_turns: int
    max_cost_micros: int | None


class Found(msgspec.Struct, frozen=True):
    """The turns that are done again, by the positions of their starts, and how they were found."""

    turns: tuple[int, ...]
    sessions: tuple[UUID, ...] = ()
    suite: UUID | None = None
    where: SearchWords | None = None


def read_order(query: ReplayQuery | Id | Sequence[Id], options: ReplayOptions, settings: Settings) -> Order:
    """What a caller asks for. Raises Invalid, which names the field, and TypeError for an option that there is not."""
    for name in options:
        if name not in ReplayOptions.__annotations__:
            known = ", ".join(ReplayOptions.__annotations__)
            raise TypeError(f"{name!r} is not an option of a replay; there is {known}")
    model, repeat, jobs = options.get("model"), options.get("repeat", 0), options.get("jobs")
    mode: RecordedMode = options.get("mode") or ("recorded" if model is None else "forced")
    if mode not in MODES:
        raise Invalid("mode", f"must be one of {', '.join(MODES)}")
    if mode == "recorded" and model is not None:
        raise Invalid("model", "goes without the mode recorded: there the log answers")
    if not 0 <= repeat <= MAX_REPEAT or (repeat and mode != "forced"):
        raise Invalid("repeat", f"must be from 0 to {MAX_REPEAT}, and goes with the mode forced")
    if jobs is None:
        jobs = min(settings.replay_jobs, settings.max_replay_jobs)
    _in_range("jobs", jobs, "max_replay_jobs", settings.max_replay_jobs)
    most = options.get("max_turns") or min(settings.replay_turns, settings.max_replay_turns)
    _in_range("max_turns", most, "max_replay_turns", settings.max_replay_turns)
    cost = options.get("max_cost_micros")
    if cost is not None and cost <= 0:
        raise Invalid("max_cost_micros", "must be above 0")
    tools, live = _tools(options.get("tools", "recorded"))
    return Order(_query(query), mode, model, repeat, tools, live, jobs, most, cost)


def _in_range(field: str, value: int, limit: str, maximum: int) -> None:
    if not 1 <= value <= maximum:
        raise Invalid(field, f"must be from 1 to {limit}, which is {maximum}")


def _tools(given: Any) -> tuple[ToolMode, tuple[str, ...]]:
    if given in ("recorded", "refuse"):
        return given, ()
    names = given.get("live") if isinstance(given, dict) and len(given) == 1 else None
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise Invalid("tools", 'must be "recorded", "refuse", or {"live": [names of tools]}')
    return "live", tuple(names)


def _query(given: ReplayQuery | Id | Sequence[Id]) -> ReplayQuery:
    if isinstance(given, UUID | str):
        given = ReplayQuery((given,))
    elif not isinstance(given, ReplayQuery):
        given = ReplayQuery(tuple(given))
    ways = [bool(given.sessions), bool(given.turns), given.suite is not None, given.where is not None]
    if sum(ways) != 1:
        raise Invalid("sessions", "one of sessions, turns, suite and where must be given")
    return given


# --- finding the turns ------------------------------------------------------------------------------------------------


def find_turns(connection: Connection, tenant: str, order: Order) -> Found:
    """The turns that are asked for, in order. Raises SessionNotFound, TurnNotFound, TurnAlreadyOpen, SuiteNotFound,
    NothingToReplay, TooLarge for more than ``max_turns``, and Invalid for a time that cannot be.
    """
    query = order.query
    if query.suite is not None:
        suite = suite_named(connection, tenant, query.suite)
        if suite is None:
            raise SuiteNotFound(f"there is no suite {query.suite!r}", field="suite")
        return _bounded(Found(suite.turns, suite=suite.id), order)
    if query.turns:
        return _bounded(Found(tuple(_named(connection, tenant, turn_id(each)) for each in query.turns)), order)
    if query.where is not None:
        return _bounded(_found_where(connection, tenant, query.where, order.max_turns), order)
    sessions = tuple(session_id(each) for each in query.sessions)
    turns: dict[int, None] = {}
    for session in sessions:
        state = queries.session_state(connection, tenant, session)
        if state is None:
            raise SessionNotFound(f"there is no session {session}", session_id=str(session))
        turns |= dict.fromkeys(_starts(connection, tenant, state, order.max_turns + 1))
    return _bounded(Found(tuple(turns), sessions), order)


def _bounded(found: Found, order: Order) -> Found:
    if not found.turns:
        raise NothingToReplay("sessions", "there is no turn in what was asked for")
    if len(found.turns) > order.max_turns:
        detail = f"these are more than {order.max_turns} turns, which max_turns allows"
        raise TooLarge(detail, field="max_turns", limit="max_turns", maximum=order.max_turns)
    return found


def _named(connection: Connection, tenant: str, turn: UUID) -> int:
    """The position of the start of a turn that was named outright."""
    state = queries.turn_state(connection, tenant, turn)
    if state is None:
        raise TurnNotFound(f"there is no turn {turn}", turn_id=str(turn))
    if state.end_version is None:
        raise TurnAlreadyOpen(f"turn {turn} has not ended: it cannot be replayed yet", turn_id=str(turn))
    return position_of(connection, tenant, turn)


def position_of(connection: Connection, tenant: str, turn: UUID) -> int:
    """The position of the start of a turn that is there."""
    event = reads.event_by_id(connection, tenant, turn)
    assert event is not None, "a turn has a start"
    return event.position


def turns_of_session(connection: Connection, tenant: str, state: SessionState) -> Iterator[TurnState]:
    """The turns of a session's history, oldest first."""
    after = 0
    while True:
        page = list_turns(connection, tenant, state, after=after, limit=TURNS_AT_ONCE)
        yield from page
        if len(page) < TURNS_AT_ONCE:
            return
        after = page[-1].version


def _starts(connection: Connection, tenant: str, state: SessionState, most: int) -> Iterator[int]:
    for number, turn in enumerate(turns_of_session(connection, tenant, state)):
        if number >= most:
            return
        yield position_of(connection, tenant, turn.id)


def _found_where(connection: Connection, tenant: str, where: ReplayWhere, most: int) -> Found:
    """The turns of conversations, and not of the branches that replays made."""
    if where.status not in {None, "active", "archived"}:
        raise Invalid("where.status", "must be active or archived")
    since = 0 if where.since is None else microseconds(where.since, "where.since")
    until = None if where.until is None else microseconds(where.until, "where.until")
    which = Which(status=where.status, model=where.model, title_contains=where.title_contains, branches="all")
    turns: dict[int, None] = {}
    found = list_sessions(connection, tenant, order="created", which=which, before=None, limit=MAX_SAFE_INTEGER)
    with closing(found) as sessions:
        for state, *_ in sessions:
            if state.held_by is not None or state.updated_at < since:
                continue
            for turn in turns_of_session(connection, tenant, state):
                if turn.started_at >= since and (until is None or turn.started_at < until):
                    turns.setdefault(position_of(connection, tenant, turn.id))
            if len(turns) > most:
                break
    return Found(tuple(sorted(turns)), where=_words(where))


def _words(where: ReplayWhere) -> SearchWords:
    since, until = (None if time is None else str(time) for time in (where.since, where.until))
    return SearchWords(where.model, where.status, since, until, where.title_contains)
