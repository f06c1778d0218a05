"""The methods of ``Engine`` for clients that keep their own history, in whatever protocol."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from ..events.turn_types import Protocol
from ..log.base import RequestKey
from ..sessions.aliases import Alias
from ..sessions.envelope import LOCAL, Caller
from ..sessions.views import Message, Session
from ..turns.start import Started
from .answers import ClientAnswer, messages_by_id
from .asked import AskedMessage
from .client_counting import input_estimate
from .client_request import ClientRequest, Retry
from .counting import TokenCount
from .ids import Id, session_id, turn_id
from .inputs import MessageIn
from .paging import LIMIT, Page
from .parts import Parts
from .vendor_forms import forms_so_far


class Clients:
    """Turns of clients that speak a vendor's protocol, and the answers that they are served."""

    _parts: Parts

    async def answer_client(
        self,
        request: ClientRequest,
        *,
        retry: Retry | None = None,
        grace_s: int | None = None,
        idempotency: RequestKey | None = None,
        caller: Caller = LOCAL,
    ) -> Started:
        """Start a turn on the history that a client sends: in the session in which it is on record, in a fork of that,
        or in a new one. ``retry``: what an automatic retry of the request is known by; ``grace_s``: the turn is
        cancelled so long after its last reader disconnected; ``idempotency``: the same key gives the same turn again.

        Raises what ``start_turn`` raises, and PreviousNotFound and PreviousNotCompleted for an answer that cannot be
        gone on from. Nothing of a request that is refused is recorded.
        """
        started = await self._parts.drop_in.start(caller, request, retry, grace_s, idempotency)
        if request.protocol == "responses" and not request.stored:
            self._parts.unstored.begin()
        return started

    async def count_client_tokens(self, request: ClientRequest, *, caller: Caller = LOCAL) -> TokenCount:
        """Count the input tokens of a client's request, with its system prompt and its tools: as the vendor does, where
        it counts, else by an estimate that is rather too high than too low. What is on record where it goes on by name
        counts, too. Nothing is recorded.

        Raises UnknownModel, Invalid, TooLarge, ContentNotSupported, and ProviderError where the vendor's count fails.
        """
        return await self._parts.drop_in.count(caller, request)

    async def input_estimate(self, turn: Id, *, caller: Caller = LOCAL) -> int:
        """Estimate the input tokens of what a turn's model is sent, while the vendor has not said how many they are:
        rather too high than too low.

        Raises TurnNotFound.
        """
        read = partial(input_estimate, tenant=caller.tenant, turn=turn_id(turn))
        estimate: int = await self._parts.store.read(read)
        return estimate

    async def vendor_forms(self, turn: Id, message: UUID, *, caller: Caller = LOCAL) -> Mapping[int, bytes]:
        """Read the blocks of an answer as its vendor gave them, by their number, as far as they have come: the JSON of
        those that have a form of their own. A turn's frames do not show it.

        Raises TurnNotFound.
        """
        read = partial(forms_so_far, tenant=caller.tenant, turn=turn_id(turn), message=message)
        forms: Mapping[int, bytes] = await self._parts.store.read(read)
        return forms

    async def client_answer(self, turn: Id, protocol: Protocol, *, caller: Caller = LOCAL) -> ClientAnswer:
        """Read a stored answer of a client. Raises TurnNotFound, also for one that was deleted, or not stored."""
        return await self._parts.answers.read(caller, protocol, turn_id(turn))

    async def client_answers(
        self,
        protocol: Protocol,
        *,
        after: Id | None = None,
        limit: int = LIMIT,
        descending: bool = False,
        caller: Caller = LOCAL,
    ) -> Page[ClientAnswer]:
        """Read a page of the stored answers of a protocol's clients, in the order in which their turns started.
        ``after``: the turn after which it begins; the page's ``next`` is one. Raises Invalid.
        """
        start = None if after is None else turn_id(after)
        return await self._parts.answers.page(caller, protocol, start, limit, descending=descending)

    async def asked_messages(
        self,
        turn: Id,
        protocol: Protocol,
        *,
        after: int | None = None,
        limit: int = LIMIT,
        descending: bool = False,
        caller: Caller = LOCAL,
    ) -> Page[AskedMessage]:
        """Read a page of the messages that the model was sent for a stored answer, in their order or back. ``after``:
        the place after which it begins; the page's ``next`` is one. Raises TurnNotFound, Invalid and RecordDamaged.
        """
        return await self._parts.answers.asked(caller, protocol, turn_id(turn), after, limit, descending=descending)

    async def delete_client_answer(self, turn: Id, protocol: Protocol, *, caller: Caller = LOCAL) -> None:
        """Delete a stored answer: it is served no longer, and the words of its turn's own messages are erased, in all
        branches that show them. Raises TurnNotFound, LegalHold and TurnAlreadyOpen.
        """
        await self._parts.answers.delete(caller, protocol, turn_id(turn))

    async def create_conversation(
        self,
        messages: Sequence[MessageIn] = (),
        *,
        metadata: dict[str, Any] | None = None,
        request: RequestKey | None = None,
        caller: Caller = LOCAL,
    ) -> Session:
        """Begin a session for a client that keeps its conversation here, with these messages, in one append. A
        ``request`` that came before gives its session as it was. Raises EmptyMessage, TooLarge, Invalid,
        ToolResultsMissing, ToolCallNotFound and IdempotencyMismatch.
        """
        return await self._parts.conversations.create(caller, messages, metadata, request)

    async def add_to_conversation(
        self,
        session: Id,
        messages: Sequence[MessageIn],
        *,
        request: RequestKey | None = None,
        caller: Caller = LOCAL,
    ) -> list[Message]:
        """Append messages to a conversation that was not deleted: all of them or none. Raises what ``append_messages``
        raises.
        """
        return await self._parts.conversations.add(caller, session_id(session), messages, request)

    async def describe_conversation(
        self,
        session: Id,
        metadata: dict[str, Any] | None,
        *,
        request: RequestKey | None = None,
        caller: Caller = LOCAL,
    ) -> Session:
        """Set the metadata of a conversation that was not deleted. Raises SessionNotFound, SessionArchived, TooLarge,
        Invalid and IdempotencyMismatch.
        """
        return await self._parts.conversations.describe(caller, session_id(session), metadata, request)

    async def delete_conversation(self, session: Id, *, caller: Caller = LOCAL) -> None:
        """Delete a conversation for the clients that keep theirs here: it is served no longer, and what was said stays.
        Raises SessionNotFound.
        """
        await self._parts.answers.hide(caller, session_id(session))

    async def client_session(self, session: Id, *, caller: Caller = LOCAL) -> Session:
        """Read a conversation that clients are served. Raises SessionNotFound, also for one that was hidden."""
        return await self._parts.answers.session(caller, session_id(session))

    async def client_messages(self, messages: Collection[UUID], *, caller: Caller = LOCAL) -> Mapping[UUID, Message]:
        """Read recorded messages by their ids, as they are now; one that there is not is left out. Raises TooLarge for
        more bytes than a client may send.
        """
        most = self._parts.settings.drop_in_max_body_bytes
        found: Mapping[UUID, Message] = await self._parts.store.read(
            partial(messages_by_id, tenant=caller.tenant, ids=frozenset(messages), most_bytes=most)
        )
        return found

    def sign_message(self, message: UUID, *, caller: Caller = LOCAL) -> str:
        """Make a reference to a message of the caller's tenant that nobody else can make. Raises nothing."""
        return self._parts.signed.reference(caller, message)

    async def signed_message(self, reference: str, *, caller: Caller = LOCAL) -> Message:
        """Read the message to which a reference leads. Raises Invalid for one that was not made here for the caller's
        tenant, or whose words are erased.
        """
        return await self._parts.signed.message(caller, reference)

    async def find_alias(
        self,
        name: str,
        protocol: Protocol,
        *,
        turn: Id | None = None,
        running: bool = False,
        caller: Caller = LOCAL,
    ) -> Alias | None:
        """Find a turn by the caller's own name of its conversation: the newest; None: there is none. ``turn``: this
        one, if it was asked for under the name; ``running``: the newest that runs, which one that waits for a person
        does not. Raises TurnNotFound for a ``turn`` that is no id.
        """
        found = None if turn is None else turn_id(turn)
        return await self._parts.answers.named(caller, protocol, name, found, running=running)
