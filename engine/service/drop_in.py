"""Turns of clients that keep their own history and send it whole, in a vendor's protocol: their conversations become
sessions like any other (DESIGN section 11).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from functools import partial

import msgspec
from msgspec.structs import replace

from ..context.whole import recorded_contents
from ..errors import Invalid, TooLarge, TurnAlreadyOpen, VersionConflict
from ..events.blocks import Content, raw_blocks
from ..events.turn_types import ClientFacts
from ..events.types import NewMessage
from ..log.base import Connection, RequestKey
from ..providers.registry import resolve
from ..sessions import queries
from ..sessions.canonical import hashes, origin
from ..sessions.envelope import Caller
from ..sessions.history import state_at
from ..sessions.recognition import Recognised, Said
from ..sessions.retries import turn_of_request
from ..sessions.unstored import asks_to_forget, has_words
from ..settings import Settings
from ..turns.client_start import ClientPlan, ClientStarter, ClientTurn, NewConversation
from ..turns.start import Started
from . import inputs
from .answers import check_copied
from .client_counting import asked_model, count_prompt, prompt_of_client
from .client_places import place_of
from .client_request import ClientRequest, Retry
from .counting import TokenCount
from .session_fields import SessionFields
from .sessions import Sessions
from .turns import Turns

OWN = ("redacted_thinking", "reasoning")
"""Types of blocks of an assistant's that nobody can read, and that go back to their vendor as they came."""
MAX_TRIES = 5
"""Most plans of one turn, where sessions move on meanwhile."""

ATTACHABLE = frozenset({"running", "completed"})
"""States of a turn that answers a retry."""


class DropIn:
    """Recognises histories, and starts turns on them. ``keys``: of the hashes of histories, and of requests."""

    def __init__(self, starter: ClientStarter, sessions: Sessions, turns: Turns, keys: tuple[bytes, bytes]) -> None:
        self._starter = starter
        self._sessions = sessions
        self._turns = turns
        self._prefix_key, self._retry_key = keys
        runtime = starter.runtime
        self._store, self._clock, self._settings = runtime.store, runtime.clock, runtime.settings
        self._limits = drop_in_limits(self._settings)

    async def start(
        self,
        caller: Caller,
        request: ClientRequest,
        retry: Retry | None,
        grace_s: int | None,
        idempotency: RequestKey | None = None,
    ) -> Started:
        """Start a turn on a client's history, in the session in which it is on record, in a fork of it, or in a new
        one; or give the turn that the same request has started before. Nothing is recorded of what is refused.
        """
        key = None if retry is None else self._key_of(caller, retry)
        before = await self._attached(caller, key) if retry is not None and retry.repeated else None
        kept = self._store.keyed(caller.tenant, idempotency)
        before = before or await self._starter.first_answer(caller, kept)
        if before is not None:
            return before
        said = self._checked(request)
        turn = replace(await self._turn(request, grace_s, key), request=kept)
        for tried in range(MAX_TRIES):
            planned = await self._plan(caller, request, turn, said, fork=tried > 0)
            try:
                return await self._starter.start_client(caller, *planned)
            except (VersionConflict, TurnAlreadyOpen) as refusal:
                waits = isinstance(refusal, TurnAlreadyOpen) and request.conversation is not None
                if waits or tried == MAX_TRIES - 1:
                    raise
        raise AssertionError("a loop that returns or raises")

    async def _turn(self, request: ClientRequest, grace_s: int | None, key: bytes | None) -> ClientTurn:
        """What is known of the turn before anything is read: all but its place, and the messages that are new."""
        begins = await self._begins(request)
        client = ClientFacts(
            request.protocol, stored=request.stored, previous=request.previous, summary=request.summary
        )
        # The start of a turn that is to be erased has words: when these go, so has the turn.
        told = request.told or (b"{}" if asks_to_forget(client) else None)
        return ClientTurn(
            ask=await self._turns.ask(None, request.options),
            news=(),
            begins=begins,
            system=request.system,
            system_tokens=begins.facts.system_tokens,
            grace_s=grace_s,
            key=key,
            marks=request.marks,
            metadata=None if request.conversation else request.metadata,  # which has its own
            client=client,
            told=told,
            alias=request.alias,
            trims=request.trims,
        )

    async def _plan(
        self, caller: Caller, request: ClientRequest, turn: ClientTurn, said: Sequence[Said], *, fork: bool
    ) -> tuple[ClientTurn, ClientPlan]:
        """The turn at its place, and its plan. Most histories are recognised up to their last answer: then one read
        does both.
        """
        known = _after_last_answer(request, said)
        news = await self._news(request, said, known)
        hashed = partial(self._hashes, caller, request, said)

        def look(connection: Connection) -> tuple[ClientTurn, ClientPlan | None]:
            now_us = self._clock.now_us()
            place = place_of(connection, caller.tenant, request, said, hashed, now_us, fork=fork)
            placed = replace(turn, place=place.at, changed=place.changed, news=news)
            found = place.count == known
            return placed, self._starter.plan_client(connection, caller, placed) if found else None

        placed, plan = await self._store.read(look)
        if plan is not None:
            return placed, plan
        count = 0 if placed.place is None else placed.place.count
        placed = replace(placed, news=await self._news(request, said, count))
        return placed, await self._store.read(partial(self._starter.plan_client, caller=caller, turn=placed))

    async def count(self, caller: Caller, request: ClientRequest) -> TokenCount:
        """Count the tokens of a request, of which nothing is recorded."""
        said = self._checked(request)
        ask = await self._turns.ask(None, request.options)
        inputs.check_system(request.system, self._limits)
        model = asked_model(resolve(self._starter.runtime.providers, ask.model or ""), ask)
        before = await self._before(caller, request)
        prompt = prompt_of_client([*before, *said], request.system, ask, model, len(before))
        return await count_prompt(self._store, caller, model, prompt)

    async def _before(self, caller: Caller, request: ClientRequest) -> list[Said]:
        """What is on record where a client goes on by name. Raises as ``start``."""
        if request.previous is None and request.conversation is None:
            return []

        def look(connection: Connection) -> list[Said]:
            place = place_of(connection, caller.tenant, request, (), list, self._clock.now_us(), fork=False).at
            assert place is not None, "it is named"
            state = state_at(connection, caller.tenant, place.session, place.version)
            return recorded_contents(connection, caller.tenant, state)

        found: list[Said] = await self._store.read(look)
        return found

    async def place_of(self, caller: Caller, request: ClientRequest) -> Recognised | None:
        """Where a history is on record; None: it is not. Raises Invalid and TooLarge."""
        said = self._checked(request)
        hashed = partial(self._hashes, caller, request, said)

        def look(connection: Connection) -> Recognised | None:
            return place_of(connection, caller.tenant, request, said, hashed, self._clock.now_us(), fork=False).at

        place: Recognised | None = await self._store.read(look)
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
            field, own = f"messages[{number}].content", own_blocks(role)
            said.append((role, inputs.check_content(message.content, self._limits, field, own, each=True)))
        copied = (content for (_, content), message in zip(said, request.messages, strict=True) if message.copied_from)
        check_copied(bytes_of(copied), self._settings.drop_in_max_body_bytes)
        return said

    def _hashes(self, caller: Caller, request: ClientRequest, said: Sequence[Said]) -> list[bytes]:
        first = origin(self._prefix_key, caller.tenant, caller.actor, request.end_user)
        return hashes(self._prefix_key, first, said)

    async def _news(self, request: ClientRequest, said: Sequence[Said], known: int) -> tuple[NewMessage, ...]:
        """The messages that are not on record, with their tokens."""
        return tuple(
            [
                await inputs.new_message(
                    replace(message, content=content), self._limits, own=own_blocks(role), each=True
                )
                for (role, content), message in zip(said[known:], request.messages[known:], strict=True)
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
        return NewConversation(replace(facts, drop_in=not request.apart), words)

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
            of = (caller.tenant, state.id)
            if state.client is not None and asks_to_forget(state.client) and not has_words(connection, *of):
                return None
            if state.status not in ATTACHABLE or (state.ended_at is not None and state.ended_at < since_us):
                return None
            return Started(state.session, state.id, replayed=True)

        found: Started | None = await self._store.read(look)
        return found


def bytes_of(contents: Iterable[Content]) -> int:
    """The size of contents as they are recorded."""
    return sum(len(bytes(raw)) for content in contents for raw in raw_blocks(content))


def own_blocks(role: str) -> tuple[str, ...]:
    """Types of blocks that nobody knows here, and that a message with this role may hold all the same."""
    return OWN if role == "assistant" else ()


def drop_in_limits(settings: Settings) -> Settings:
    """The settings with the limits on messages that come by a drop-in route."""
    return replace(
        settings, max_message_bytes=settings.drop_in_max_block_bytes, max_blocks=settings.drop_in_max_messages
    )


def _after_last_answer(request: ClientRequest, said: Sequence[Said]) -> int:
    """How many of the client's messages come up to its last answer, which is as far as they may be on record."""
    if request.previous is not None or request.conversation is not None:
        return 0
    return next((number for number in range(len(said) - 1, 0, -1) if said[number - 1][0] == "assistant"), 0)
