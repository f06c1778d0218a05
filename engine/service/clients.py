"""The methods of ``Engine`` for clients that keep their own history, in whatever protocol."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from uuid import UUID

from ..sessions.envelope import LOCAL, Caller
from ..turns.start import Started
from .client_counting import input_estimate
from .counting import TokenCount
from .drop_in import ClientRequest, Retry
from .ids import Id, turn_id
from .parts import Parts
from .vendor_forms import forms_so_far


class Clients:
    """Turns of clients that send their history with every request."""

    _parts: Parts

    async def answer_client(
        self,
        request: ClientRequest,
        *,
        retry: Retry | None = None,
        grace_s: int | None = None,
        caller: Caller = LOCAL,
    ) -> Started:
        """Start a turn on the history that a client sends: in the session in which it is on record, in a fork of that,
        or in a new one. ``retry``: what an automatic retry of the request is known by; ``grace_s``: the turn is
        cancelled so long after its last reader disconnected.

        Raises what ``start_turn`` raises. Nothing of a request that is refused is recorded.
        """
        return await self._parts.drop_in.start(caller, request, retry, grace_s)

    async def count_client_tokens(self, request: ClientRequest, *, caller: Caller = LOCAL) -> TokenCount:
        """Count the input tokens of a client's request, with its system prompt and its tools: as the vendor does, where
        it counts, else by an estimate that is rather too high than too low. Nothing is recorded.

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
