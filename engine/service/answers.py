"""Answers that clients of a vendor's protocol are served by their ids: reading, listing and deleting them (DESIGN
section 11).

A deleted answer is hidden for ever, and the words of its turn's own messages are erased in every branch that shows
them, in one transaction. A deleted conversation is hidden only.
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from functools import partial
from uuid import UUID

import msgspec

from ..clock import Clock
from ..errors import SessionNotFound, TooLarge, TurnNotFound
from ..events.session_types import ConversationDeleted
from ..events.turn_types import AnswerDeleted, ClientFacts, Protocol, TurnWords
from ..events.types import Draft, ErasureWords, MessageAppended
from ..events.upcasts import words_left
from ..log.append import append
from ..log.base import AnyVersion, Append, Connection
from ..log.codec import MAX_SAFE_INTEGER
from ..log.erasure import Trace, traces
from ..log.sql import reads
from ..log.store import Store
from ..log.transaction import Transaction
from ..sessions import queries
from ..sessions.aliases import Alias, find_alias
from ..sessions.answers import is_served, served_turns
from ..sessions.decisions import existing
from ..sessions.envelope import Caller, seal
from ..sessions.erasure import SETTING_WORDS
from ..sessions.family import family_then
from ..sessions.history import NOW, session_at
from ..sessions.listing import Listed
from ..sessions.state import SessionState
from ..sessions.turn_state import TurnState, inputs_of
from ..sessions.turn_views import Turn
from ..sessions.views import Message, Session, message_view, session_view
from ..settings import Settings
from ..streams.backlog import turn_of
from .asked import AskedMessage, asked_page
from .erasure import erase_in
from .paging import Bounds, Page, check_limit, fill, number_after
from .reach import Order

DELETED = ErasureWords("deleted by the client")


class ClientAnswer(msgspec.Struct, frozen=True):
    """A turn that was asked for in a vendor's protocol. ``inputs``: the messages that it was asked with; ``told``: what
    the protocol gives back of the request, in its own JSON; None: it is erased, or there was nothing.
    """

    turn: Turn
    inputs: tuple[Message, ...]
    client: ClientFacts
    told: bytes | None

    @property
    def is_erased(self) -> bool:
        """True if words of the answer are gone."""
        return any(message.erased for message in self.turn.messages)


class Answers:
    """The stored answers of clients. ``key``: of the hashes of their own names of conversations."""

    def __init__(self, store: Store, clock: Clock, settings: Settings, key: bytes) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._key = key

    async def read(self, caller: Caller, protocol: Protocol, turn: UUID) -> ClientAnswer:
        """Raises TurnNotFound, also for one that is hidden."""

        def look(connection: Connection) -> ClientAnswer:
            return answer_of(connection, caller.tenant, served(connection, caller.tenant, protocol, turn))

        answer: ClientAnswer = await self._store.read(look)
        return answer

    async def asked(
        self, caller: Caller, protocol: Protocol, turn: UUID, after: int | None, limit: int, *, descending: bool
    ) -> Page[AskedMessage]:
        """Raises TurnNotFound, also for one that is hidden, and Invalid."""
        check_limit(limit)
        start, bounds = number_after(after), Bounds(limit, self._settings.max_page_bytes)

        def look(connection: Connection) -> tuple[list[AskedMessage], bool]:
            state = served(connection, caller.tenant, protocol, turn)
            return asked_page(connection, caller.tenant, state, start, bounds, descending=descending)

        found, more = await self._store.read(look)
        return Page(found, str(found[-1].place) if more else None)

    async def page(
        self, caller: Caller, protocol: Protocol, after: UUID | None, limit: int, *, descending: bool
    ) -> Page[ClientAnswer]:
        check_limit(limit)
        bounds = Bounds(limit, self._settings.max_page_bytes)

        def look(connection: Connection) -> tuple[list[ClientAnswer], bool]:
            tenant = caller.tenant
            turns = served_turns(connection, tenant, protocol, after, limit + 1, descending=descending)
            return fill(_answers(connection, tenant, turns), _told_bytes, bounds)

        found, more = await self._store.read(look)
        return Page(found, str(found[-1].turn.id) if more else None)

    async def delete(self, caller: Caller, protocol: Protocol, turn: UUID) -> None:
        """Raises TurnNotFound, LegalHold and TurnAlreadyOpen."""
        await self._store.submit(partial(_delete, caller=caller, protocol=protocol, turn=turn, clock=self._clock))
        await self._store.purge()

    async def hide(self, caller: Caller, session: UUID) -> None:
        """Raises SessionNotFound, also for one that is hidden."""
        work = Append(caller.tenant, session, AnyVersion(), ())
        await self._store.submit(partial(_hide, work=work, caller=caller, clock=self._clock))

    async def session(self, caller: Caller, session: UUID) -> Session:
        """Raises SessionNotFound, also for one that is hidden."""

        def look(connection: Connection) -> Listed:
            state = visible(queries.session_state(connection, caller.tenant, session))
            _, words = session_at(connection, caller.tenant, session, None)
            return state, words, family_then(connection, caller.tenant, state, NOW)

        return session_view(*await self._store.read(look))

    async def named(
        self, caller: Caller, protocol: Protocol, name: str, turn: UUID | None = None, *, running: bool = False
    ) -> Alias | None:
        look = partial(
            find_alias,
            key=self._key,
            tenant=caller.tenant,
            principal=caller.actor,
            protocol=protocol,
            name=name,
            turn=turn,
            running=running,
        )
        found: Alias | None = await self._store.read(look)
        return found


def served(connection: Connection, tenant: str, protocol: Protocol, turn: UUID) -> TurnState:
    """The state of a turn whose answer the clients of a protocol are served. Raises TurnNotFound."""
    state = queries.turn_state(connection, tenant, turn) if is_served(connection, tenant, protocol, turn) else None
    if state is None:
        raise TurnNotFound("there is no such answer", turn_id=str(turn))
    return state


def answer_of(connection: Connection, tenant: str, state: TurnState) -> ClientAnswer:
    """A client's turn, as it is now."""
    assert state.client is not None, "only turns of clients are served"
    inputs = inputs_of(state)
    events = reads.session_events(connection, tenant, state.session, after=inputs.start - 1, up_to=state.version)
    *asked, started = events
    words = words_left(started)
    told = bytes(words.told) if isinstance(words, TurnWords) and isinstance(words.told, msgspec.Raw) else None
    return ClientAnswer(
        turn_of(connection, tenant, state), tuple(message_view(event) for event in asked), state.client, told
    )


def messages_by_id(
    connection: Connection, tenant: str, ids: Collection[UUID], most_bytes: int = MAX_SAFE_INTEGER
) -> dict[UUID, Message]:
    """The messages among these events, as they are now. Raises TooLarge for more than a client may send."""
    found: dict[UUID, Message] = {}
    size = 0
    for each in ids:
        event = reads.event_by_id(connection, tenant, each)
        if event is not None and event.type == MessageAppended.event_type:
            size += len(event.body or b"")
            check_copied(size, most_bytes)
            found[event.id] = message_view(event)
    return found


def check_copied(size: int, most_bytes: int) -> None:
    """Raises TooLarge for words that a client names, and of which it may send no more than so many bytes."""
    if size > most_bytes:
        detail = f"messages: what they name has {size} bytes at least, and drop_in_max_body_bytes allows {most_bytes}"
        raise TooLarge(detail, field="messages", limit="drop_in_max_body_bytes", maximum=most_bytes)


def visible(state: SessionState | None) -> SessionState:
    """The state of a conversation that clients are served. Raises SessionNotFound."""
    state = existing(state)
    if state.hidden:
        raise SessionNotFound("there is no such session")
    return state


def _answers(connection: Connection, tenant: str, turns: list[UUID]) -> Generator[ClientAnswer, None, None]:
    for turn in turns:
        state = queries.turn_state(connection, tenant, turn)
        assert state is not None, "a turn that is served is on record"
        yield answer_of(connection, tenant, state)


def _told_bytes(answer: ClientAnswer) -> int:
    return len(msgspec.json.encode(answer.turn)) + len(answer.told or b"")


def _delete(tx: Transaction, *, caller: Caller, protocol: Protocol, turn: UUID, clock: Clock) -> None:
    """Hide an answer, and erase the words of its turn, inside the write transaction."""
    tx.flush()
    tenant = caller.tenant
    state = served(tx.connection, tenant, protocol, turn)
    erase_in(tx, Order(state.session, _versions(tx.connection, tenant, state)), DELETED, caller, clock)
    hidden = seal([Draft(AnswerDeleted(turn, protocol, state.version), causation=turn)], caller, clock)
    tx.record(tenant, state.session, hidden, tx.state(tenant, state.session))


def _versions(connection: Connection, tenant: str, state: TurnState) -> tuple[int, ...]:
    """The versions of a turn's own events that hold words: what it was asked with, also as the session's instructions
    and metadata, and all up to its end.
    """
    first, last = inputs_of(state).start, state.end_version or state.version
    history = traces(connection, tenant, state.session, after=first - 2, up_to=last)
    asked = next(each for each in history if each.version == first)
    return tuple(each.version for each in history if each.has_words and _is_own(each, asked))


def _is_own(event: Trace, asked: Trace) -> bool:
    """True for what was recorded with the turn's first message or after it, which is all of the turn."""
    of_one_append = (event.recorded_at, event.correlation) == (asked.recorded_at, asked.correlation)
    return event.version >= asked.version or (event.type in SETTING_WORDS and of_one_append)


def _hide(tx: Transaction, *, work: Append, caller: Caller, clock: Clock) -> None:
    visible(tx.state(work.tenant, work.session))
    append(tx, msgspec.structs.replace(work, events=seal([Draft(ConversationDeleted())], caller, clock)))
