"""Turns of clients that keep their own history and send it whole, in a vendor's protocol: their conversations become
sessions like any other (DESIGN section 11).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

import msgspec
from msgspec.structs import replace

from ..errors import Invalid, TooLarge, TurnAlreadyOpen, VersionConflict
from ..events.blocks import Content
from ..events.turn_types import CacheMarks
from ..events.types import NewMessage
from ..log.base import Connection
from ..providers.registry import resolve
from ..sessions import queries
from ..sessions.canonical import hashes, origin
from ..sessions.envelope import Caller
from ..sessions.history import state_at
from ..sessions.recognition import Recognised, Said, recognise
from ..sessions.retries import turn_of_request
from ..sessions.same_content import changed_contents
from ..turns.client_start import ClientStarter, ClientTurn, NewConversation
from ..turns.start import Started
from . import inputs
from .client_counting import asked_model, count_prompt, prompt_of_client
from .counting import TokenCount
from .inputs import MessageIn
from .session_fields import SessionFields
from .sessions import Sessions
from .turns import TurnOptions, Turns

OWN = ("redacted_thinking", "reasoning")
"""Types of blocks of an assistant's that nobody can read, and that go back to their vendor as they came."""
MAX_TRIES = 5
"""Most plans of one turn, where sessions move on meanwhile."""

ATTACHABLE = frozenset({"running", "completed"})
"""States of a turn that answers a retry."""


class ClientRequest(msgspec.Struct, frozen=True):
    """A request in a vendor's protocol. ``messages``: the whole history, the last of them to be answered; ``system``:
    the system prompt, None: there is none. ``end_user``: whom the client speaks for; ``session``: where to go on,
    whatever is recognised. ``verbatim``: what the client says of its own answers is sent as it says it, thinking and
    all; else what is on record stands for it. ``marks``: where the client wants the prompt cached, as vendors say it;
    the places of messages are those in ``messages``.
    """

    messages: tuple[MessageIn, ...]
    options: TurnOptions
    system: str | None = None
    end_user: str | None = None
    session: UUID | None = None
    metadata: dict[str, object] | None = None
    verbatim: bool = False
    marks: CacheMarks | None = None


class Retry(msgspec.Struct, frozen=True):
    """What an automatic retry is known by: the route and the bytes of the request; ``repeated``: it is one."""

    route: str
    body: bytes
    repeated: bool


class DropIn:
    """Recognises histories, and starts turns on them. ``keys``: of the hashes of histories, and of requests."""

    def __init__(self, starter: ClientStarter, sessions: Sessions, turns: Turns, keys: tuple[bytes, bytes]) -> None:
        self._starter = starter
        self._sessions = sessions
        self._turns = turns
        self._prefix_key, self._retry_key = keys
        runtime = starter.runtime
        self._store, self._clock, self._settings = runtime.store, runtime.clock, runtime.settings
        self._limits = replace(
            self._settings,
            max_message_bytes=self._settings.drop_in_max_block_bytes,
            max_blocks=self._settings.drop_in_max_messages,
        )

    async def start(self, caller: Caller, request: ClientRequest, retry: Retry | None, grace_s: int | None) -> Started:
        """Start a turn on a client's history, in the session in which it is on record, in a fork of it, or in a new
        one; or give the turn that the same request has started before. Nothing is recorded of what is refused.
        """
        key = None if retry is None else self._key_of(caller, retry)
        before = await self._attached(caller, key) if retry is not None and retry.repeated else None
        if before is not None:
            return before
        said = self._checked(request)
        ask = await self._turns.ask(None, request.options)
        begins = await self._begins(request)
        hashed = partial(self._hashes, caller, request, said)
        for tried in range(MAX_TRIES):
            find = partial(self._find, caller=caller, request=request, said=said, hashed=hashed, fork=tried > 0)
            place, changed = await self._store.read(find)
            news = await self._news(said, 0 if place is None else place.count)
            system_tokens = begins.facts.system_tokens
            turn = ClientTurn(
                ask,
                news,
                begins,
                place,
                changed,
                request.system,
                system_tokens,
                grace_s,
                key,
                request.marks,
                request.metadata,
            )
            try:
                return await self._starter.start_client(caller, turn)
            except (VersionConflict, TurnAlreadyOpen):
                if tried == MAX_TRIES - 1:
                    raise
        raise AssertionError("a loop that returns or raises")

    async def count(self, caller: Caller, request: ClientRequest) -> TokenCount:
        """Count the tokens of a request, of which nothing is recorded."""
        said = self._checked(request)
        ask = await self._turns.ask(None, request.options)
        inputs.check_system(request.system, self._limits)
        model = asked_model(resolve(self._starter.runtime.providers, ask.model or ""), ask)
        return await count_prompt(self._store, caller, model, prompt_of_client(said, request.system, ask, model))

    async def place_of(self, caller: Caller, request: ClientRequest) -> Recognised | None:
        """Where a history is on record; None: it is not. Raises Invalid and TooLarge."""
        said = self._checked(request)
        hashed = partial(self._hashes, caller, request, said)
        find = partial(self._find, caller=caller, request=request, said=said, hashed=hashed, fork=False)
        place, _ = await self._store.read(find)
        return place

    def _checked(self, request: ClientRequest) -> list[Said]:
        """The contents of the messages. Raises Invalid and TooLarge, which name the message."""
        most = self._settings.drop_in_max_messages
        if not request.messages:
            raise Invalid("messages", "must hold at least one message")
        if len(request.messages) > most:
            detail = f"messages: {len(request.messages)}, and drop_in_max_messages allows {most}"
            raise TooLarge(detail, field="messages", limit="drop_in_max_messages", maximum=most)
        said: list[Said] = []
        for number, message in enumerate(request.messages):
            role = inputs.check_role(message.role, f"messages[{number}].role")
            field, own = f"messages[{number}].content", _own(role)
            said.append((role, inputs.check_content(message.content, self._limits, field, own)))
        return said

    def _hashes(self, caller: Caller, request: ClientRequest, said: Sequence[Said]) -> list[bytes]:
        first = origin(self._prefix_key, caller.tenant, caller.actor, request.end_user)
        return hashes(self._prefix_key, first, said)

    def _find(
        self,
        connection: Connection,
        *,
        caller: Caller,
        request: ClientRequest,
        said: Sequence[Said],
        hashed: Callable[[], list[bytes]],
        fork: bool,
    ) -> tuple[Recognised | None, dict[int, Content]]:
        """Where the history is on record, and what the client says otherwise of it."""
        tenant, now_us = caller.tenant, self._clock.now_us()
        place = recognise(connection, tenant, said, hashed(), now_us, fork=fork)
        if request.session is not None and (place is None or place.session != request.session):
            return _named(connection, tenant, request.session, said, fork=fork), {}
        if place is None or not request.verbatim:
            return place, {}
        state = state_at(connection, tenant, place.session, place.version)
        return place, changed_contents(connection, tenant, state, said[: place.count])

    async def _news(self, said: Sequence[Said], known: int) -> tuple[NewMessage, ...]:
        """The messages that are not on record, with their tokens."""
        return tuple(
            [
                await inputs.new_message(MessageIn(content, role), self._limits, own=_own(role))
                for role, content in said[known:]
            ]
        )

    async def _begins(self, request: ClientRequest) -> NewConversation:
        fields = SessionFields(
            model=request.options.get("model"),
            system=request.system,
            user_id=request.end_user or msgspec.UNSET,
            metadata=request.metadata if request.metadata is not None else msgspec.UNSET,
        )
        facts, words = await self._sessions.first_event(fields, self._limits)
        return NewConversation(replace(facts, drop_in=True), words)

    def _key_of(self, caller: Caller, retry: Retry) -> bytes:
        said = f"{caller.tenant}\0{caller.actor}\0{retry.route}\0".encode() + retry.body
        return hmac.digest(self._retry_key, said, "sha256")

    async def _attached(self, caller: Caller, key: bytes | None) -> Started | None:
        """The turn that this request has started before, if it runs, or has given an answer not long ago. One that
        has failed is not what its client comes again for.
        """

        def look(connection: Connection) -> Started | None:
            turn = None if key is None else turn_of_request(connection, caller.tenant, key)
            state = None if turn is None else queries.turn_state(connection, caller.tenant, turn)
            if state is None:
                return None
            since_us = self._clock.now_us() - self._settings.retry_attach_s * 1_000_000
            if state.status not in ATTACHABLE or (state.ended_at is not None and state.ended_at < since_us):
                return None
            return Started(state.session, state.id, replayed=True)

        found: Started | None = await self._store.read(look)
        return found


def _own(role: str) -> tuple[str, ...]:
    return OWN if role == "assistant" else ()


def _named(connection: Connection, tenant: str, session: UUID, said: Sequence[Said], *, fork: bool) -> Recognised:
    """The session that a client names: it goes on there with what follows the last answer of its history. Raises
    SessionNotFound.
    """
    state = state_at(connection, tenant, session)
    count = next((number for number in range(len(said) - 1, 0, -1) if said[number - 1][0] == "assistant"), 0)
    return Recognised(session, state.last.version if state.last else state.version, count, goes_on=not fork)
