"""The method of ``Engine`` for clients that keep their own history, in whatever protocol."""

from __future__ import annotations

from ..sessions.envelope import LOCAL, Caller
from ..turns.start import Started
from .drop_in import ClientRequest, Retry
from .parts import Parts


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
