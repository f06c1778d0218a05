"""Reading sessions and their events for clients of Anthropic's Managed Agents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import msgspec

from ...engine import Caller, Engine, EngineError, Session, SessionNotFound
from ..http.body import Http
from ..http.errors import Problem, invalid, problem_of
from .fields import not_here, renamed
from .managed_events import Events, Told, Tools
from .managed_forms import kept_of, no_session, session_of

T = TypeVar("T")

REMEMBERED = 1000
"""So many events before a place are read, so that what follows them can be told: more than a round of a turn has."""

STRIDE = 500
"""So many events are read at once, backwards."""

MAX_LOOKED_AT = 10_000
"""So many events are looked at for one page, whatever is asked for; the next page goes on there."""

SINCE: Mapping[str, Callable[[datetime, datetime], bool]] = {
    "created_at[gt]": lambda at, bound: at > bound,
    "created_at[gte]": lambda at, bound: at >= bound,
    "created_at[lt]": lambda at, bound: at < bound,
    "created_at[lte]": lambda at, bound: at <= bound,
}


class Place(NamedTuple):
    """An event of the protocol: the version of the log's event that it is of, and its number among those."""

    version: int
    number: int


Placed = tuple[Place, Told]


async def refused(work: Awaitable[T], name: str = "", names: Callable[[str], str] = str) -> T:
    """The result of a work on the session of this name. Raises Problem, with the client's names of fields."""
    try:
        return await work
    except SessionNotFound:
        raise no_session(name) from None
    except EngineError as error:
        raise renamed(problem_of(error), names) from None


async def read_session(chat: Engine, caller: Caller, name: str) -> Session:
    """A session that is not deleted. Raises Problem."""
    return await refused(chat.client_session(session_of(name), caller=caller), name)


async def status_of(chat: Engine, session: Session, caller: Caller) -> str:
    """The status of a session: one that waits for a person is idle."""
    if session.open_turn_id is None:
        return "idle"
    turn = await chat.turn(session.open_turn_id, caller=caller)
    return "running" if turn.status == "running" else "idle"


# --- events -----------------------------------------------------------------------------------------------------------


async def events_from(
    chat: Engine, session: Session, version: int, caller: Caller, *, remembered: int = REMEMBERED
) -> Events:
    """What tells a session's events after a version: it remembers so many before, which are read."""
    tools = await chat.tools(caller=caller)
    events = Events(
        session.id,
        Tools(
            frozenset(tool.name for tool in tools),
            frozenset(tool.name for tool in tools if tool.approval),
            frozenset(tool.name for tool in kept_of(session).tools),
        ),
    )
    if not remembered:
        return events
    start = max(0, version - remembered)
    async with aclosing(chat.iter_events(session.id, after=start, caller=caller)) as read:
        async for event in read:
            if event.version > version:
                break
            events.told(event)
    return events


async def told_after(chat: Engine, session: Session, version: int, caller: Caller) -> AsyncGenerator[Placed, None]:
    """A session's events after a version, in their order."""
    events = await events_from(chat, session, version, caller)
    async with aclosing(chat.iter_events(session.id, after=version, caller=caller)) as read:
        async for event in read:
            for number, each in enumerate(events.told(event)):
                yield Place(event.version, number), each


async def told_before(chat: Engine, session: Session, place: Place, caller: Caller) -> AsyncGenerator[Placed, None]:
    """A session's events before a place, the last first."""
    high = place.version
    while high > 0:
        low = max(0, high - STRIDE)
        found: list[Placed] = []
        async with aclosing(told_after(chat, session, low, caller)) as read:
            async for at, each in read:
                if at.version > high or at >= place:
                    break
                found.append((at, each))
        for one in reversed(found):
            yield one
        high = low


# --- pages ------------------------------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """What is asked for of a list: these types (None: all), at these times."""

    types: frozenset[str] | None
    since: tuple[tuple[str, datetime], ...]

    def has(self, kind: str, at: str) -> bool:
        """True for something of a type, from a time."""
        time = datetime.fromisoformat(at)
        return (self.types is None or kind in self.types) and all(
            SINCE[name](time, bound) for name, bound in self.since
        )


async def page_of(
    items: AsyncGenerator[Placed, None], wanted: Wanted, limit: int, most_bytes: int
) -> tuple[list[Told], Place | None]:
    """A page of events, and the place of the last that was looked at, where there may be more."""
    found: list[Told] = []
    size, looked, last = 0, 0, None
    async with aclosing(items):
        async for at, each in items:
            if looked == MAX_LOOKED_AT:
                return found, last
            if wanted.has(each["type"], each["processed_at"]):
                size += len(msgspec.json.encode(each))
                if found and (size > most_bytes or len(found) == limit):
                    return found, last
                found.append(each)
            looked, last = looked + 1, at
    return found, None


def write_place(place: Place | None, order: str) -> str | None:
    """The cursor of a place, after which a page begins."""
    return None if place is None else f"{order}-{place.version}-{place.number}"


def read_place(page: str | None, order: str) -> Place | None:
    """The place in a cursor. Raises Problem."""
    if page is None:
        return None
    parts = page.split("-")
    if len(parts) != len(Place._fields) + 1 or parts[0] != order or not all(_is_number(part) for part in parts[1:]):
        raise invalid("page", "must be the next_page of a list in the same order")
    return Place(int(parts[1]), int(parts[2]))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 15


# --- parameters -------------------------------------------------------------------------------------------------------


def read_query(request: Http, lists: Mapping[str, frozenset[str]], refused_names: frozenset[str]) -> Wanted:
    """The parameters that come in brackets: times, and a list of words. ``lists``: the words that there are, by the
    parameter; ``refused_names``: parameters that cannot be honoured. Raises Problem.
    """
    words: dict[str, set[str]] = {}
    since: dict[str, datetime] = {}
    for given, value in request.query_params.multi_items():
        name = given.removesuffix("[]")
        if name in refused_names:
            raise not_here(name)
        if name in lists:
            words.setdefault(name, set()).add(_word(name, value, lists[name]))
        elif given in SINCE:
            if given in since:
                raise invalid(given, "is given twice")
            since[given] = _time(given, value)
        elif "[" in given or given == "created_at":
            raise Problem(400, "unknown_parameter", f"{given[:100]}: there is no such parameter", field=given[:100])
    found = next(iter(words.values()), None)
    return Wanted(None if found is None else frozenset(found), tuple(since.items()))


def _word(name: str, value: str, known: frozenset[str]) -> str:
    if value not in known:
        detail = f"{name}: must be one of {', '.join(sorted(known))}"
        raise Problem(400, "invalid_value", detail, field=name, available=sorted(known))
    return value


def _time(name: str, value: str) -> datetime:
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise invalid(name, "must be a time, like 2026-11-30T12:00:00Z") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def told_page(items: list[Any], next_page: str | None) -> dict[str, Any]:
    """A page of a list, in the protocol's shape."""
    return {"data": items, "next_page": next_page}
