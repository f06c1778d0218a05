"""Suites: named lists of recorded turns, to be replayed again and again. They refer to turns, and copy nothing.

Each is a stream of its own in the log. There is no end of one: it is emptied, and its name may be filled again.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from uuid import UUID

import msgspec

from ..clock import Clock, rfc3339
from ..errors import Invalid, TooLarge, TurnAlreadyOpen, TurnNotFound, VersionConflict
from ..events.upcasts import facts_of
from ..log.base import Connection, Reference, RequestKey
from ..log.sql import reads
from ..log.sql.idempotency import find_request, remember_request
from ..log.store import Store
from ..log.transaction import Transaction
from ..sessions import queries
from ..sessions.envelope import Caller, seal
from ..sessions.lineage import find_event
from ..sessions.replay_decisions import change_suite
from ..sessions.replay_state import StreamState, SuiteState, evolve_stream
from ..sessions.replays import SuiteExists, list_suites, suite_named
from ..sessions.views import View
from ..settings import Settings
from .ids import Id, turn_id
from .inputs import check_name
from .paging import Bounds, Page, check_limit, fill, name_after, write_cursor
from .replay.orders import SuiteNotFound

MAX_TOLD = 20
"""So many unknown turns are named."""


class SuiteItem(View, frozen=True):
    """A turn of a suite. ``session_id``: where it stands; given, the session itself or a fork that shares it."""

    session_id: UUID
    turn_id: UUID


class Suite(View, frozen=True):
    """A suite as it is now, its turns in order. ``version`` increases with each change."""

    id: UUID
    name: str
    items: tuple[SuiteItem, ...]
    version: int
    created_at: str
    updated_at: str


ItemGiven = SuiteItem | Id
"""A turn, by its id alone or with its session."""


class SuiteChange(msgspec.Struct, frozen=True):
    """What a suite is to hold. ``new``: it must not be there, but for one that is empty; else it must be.
    ``expected``: its version until now.
    """

    name: str
    items: Sequence[ItemGiven]
    new: bool
    expected: int | None = None


class Suites:
    """The suites of all tenants."""

    def __init__(self, store: Store, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings

    async def page(self, caller: Caller, limit: int, after: str | None) -> Page[Suite]:
        """The suites in order of their names."""
        check_limit(limit)
        start = "" if after is None else name_after(after)
        bounds = Bounds(limit, self._settings.max_page_bytes)

        def look(connection: Connection) -> tuple[list[Suite], bool]:
            return fill(_each(connection, caller.tenant, start, limit + 1), _told_bytes, bounds)

        found, more = await self._store.read(look)
        return Page(found, write_cursor((found[-1].name,)) if more else None)

    async def read(self, caller: Caller, name: str) -> Suite:
        return await self._store.read(partial(_read, tenant=caller.tenant, name=name))

    async def change(self, caller: Caller, change: SuiteChange, request: RequestKey | None = None) -> Suite:
        """Let a suite hold other turns; a ``request`` that came before gives what it made then."""
        check_suite_name(change.name, self._settings)
        most = self._settings.max_replay_turns
        if len(change.items) > most:
            detail = f"items: at most {most} turns, which max_replay_turns allows"
            raise TooLarge(detail, field="items", limit="max_replay_turns", maximum=most)
        keyed = self._store.keyed(caller.tenant, request)
        work = partial(_change, caller=caller, change=change, request=keyed, clock=self._clock)
        suite: Suite = await self._store.submit(work)
        return suite


def check_suite_name(name: str, settings: Settings) -> None:
    """A name that can stand in an address and on one line. Raises Invalid and TooLarge."""
    check_name(name, settings, "name")
    if name != name.strip() or not name.isprintable() or "/" in name or name in {".", ".."}:
        raise Invalid("name", "must be printable text on one line, without a slash and without blanks at its ends")


# --- reading ----------------------------------------------------------------------------------------------------------


def _each(connection: Connection, tenant: str, after: str, limit: int) -> Generator[Suite, None, None]:
    for state in list_suites(connection, tenant, after, limit):
        yield _view(connection, tenant, state)


def _read(connection: Connection, *, tenant: str, name: str) -> Suite:
    state = suite_named(connection, tenant, name)
    if state is None:
        raise SuiteNotFound(f"there is no suite {name!r}", name=name)
    return _view(connection, tenant, state)


def _view(connection: Connection, tenant: str, state: SuiteState) -> Suite:
    events = {each.position: each for each in reads.events_at_positions(connection, tenant, sorted(state.turns))}
    found = (events[position] for position in state.turns)
    return Suite(
        id=state.id,
        name=state.name or "",
        items=tuple([SuiteItem(event.session, event.id) for event in found]),
        version=state.version,
        created_at=rfc3339(state.created_at),
        updated_at=rfc3339(state.updated_at),
    )


def _told_bytes(suite: Suite) -> int:
    return len(msgspec.json.encode(suite))


def _state_then(connection: Connection, tenant: str, made: Reference) -> SuiteState:
    """A suite as it was when a request had made it."""
    state: StreamState | None = None
    for event in reads.session_events(connection, tenant, made.id, up_to=made.version):
        state = evolve_stream(state, event, facts_of(event))
    assert isinstance(state, SuiteState)
    return state


# --- changing ---------------------------------------------------------------------------------------------------------


def _change(tx: Transaction, *, caller: Caller, change: SuiteChange, request: RequestKey | None, clock: Clock) -> Suite:
    """Check and change a suite, in the write transaction."""
    tenant = caller.tenant
    tx.flush()
    first = find_request(tx.connection, tenant, request)
    if first is not None:
        return _view(tx.connection, tenant, _state_then(tx.connection, tenant, first))
    state = suite_named(tx.connection, tenant, change.name)
    _check_there(state, change)
    turns = tuple(dict.fromkeys(_positions(tx.connection, tenant, change.items)))
    drafts = change_suite(state, change.name, turns)
    suite = clock.new_id() if state is None else state.id
    if drafts:
        _, state = tx.record(tenant, suite, seal(drafts, caller, clock), state)
        tx.flush()
    assert isinstance(state, SuiteState), "a new one is an event"
    if request is not None:
        remember_request(tx.connection, tenant, request, Reference("suite", suite, state.version), tx.salt())
    return _view(tx.connection, tenant, state)


def _check_there(state: SuiteState | None, change: SuiteChange) -> None:
    """Raises SuiteExists, SuiteNotFound, and VersionConflict."""
    if change.new and state is not None and state.turns:
        raise SuiteExists(f"a suite {change.name!r} exists", name=change.name)
    if not change.new and state is None:
        raise SuiteNotFound(f"there is no suite {change.name!r}", name=change.name)
    version = 0 if state is None else state.version
    if change.expected is not None and change.expected != version:
        detail = f"the suite was expected to be at version {change.expected}, and is at {version}"
        raise VersionConflict(detail, current_version=version)


def _positions(connection: Connection, tenant: str, items: Sequence[ItemGiven]) -> list[int]:
    """The positions of the starts of the turns. Raises TurnNotFound, which names those that are not there, and
    TurnAlreadyOpen.
    """
    found = [_position(connection, tenant, item) for item in items]
    unknown = [str(_turn_of(item)) for item, position in zip(items, found, strict=True) if position is None]
    if unknown:
        more = f", and {len(unknown) - MAX_TOLD} more" if len(unknown) > MAX_TOLD else ""
        detail = f"items: there is no turn {', '.join(unknown[:MAX_TOLD])}{more}"
        raise TurnNotFound(detail, field="items", turn_ids=unknown[:MAX_TOLD])
    return [position for position in found if position is not None]


def _position(connection: Connection, tenant: str, item: ItemGiven) -> int | None:
    try:
        turn = turn_id(_turn_of(item))
    except TurnNotFound:  # text that is no id names nothing
        return None
    state = queries.turn_state(connection, tenant, turn)
    event = None if state is None else reads.event_by_id(connection, tenant, turn)
    if state is None or event is None:
        return None
    if isinstance(item, SuiteItem) and find_event(connection, tenant, item.session_id, event.version) != event:
        return None
    if state.end_version is None:
        raise TurnAlreadyOpen(f"turn {turn} has not ended: no suite can hold it yet", turn_id=str(turn))
    return event.position


def _turn_of(item: ItemGiven) -> Id:
    return item.turn_id if isinstance(item, SuiteItem) else item
