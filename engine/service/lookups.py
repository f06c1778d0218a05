"""The methods of ``Engine`` that record nothing: what a model would be sent and what it was sent, how many tokens that
is, and which models and tools there are.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw

from ..events.blocks import Block, ToolSchema
from ..sessions.envelope import LOCAL, Caller
from ..sessions.prompt_views import SentPrompt
from ..sessions.views import Window
from .counting import TokenCount
from .discovery import Model, ToolInfo
from .ids import Id, session_id, turn_id
from .moments import Time, moment
from .parts import Parts


class Lookups:
    """Windows, prompts, tokens, models and tools."""

    _parts: Parts

    async def window(
        self,
        session: Id,
        *,
        budget_tokens: int | None = None,
        model: str | None = None,
        version: int | None = None,
        at: Time | None = None,
        exact: bool = False,
        caller: Caller = LOCAL,
    ) -> Window:
        """Show what a model would be sent now, or at a version or time, counted as it is now. ``exact``: the vendor
        counts its tokens.

        Raises SessionNotFound, NotYet, UnknownModel, Invalid, and for ``exact`` NoExactCount and ProviderError.
        """
        then = moment(version, at)
        window = await self._parts.windows.read(caller, session_id(session), budget_tokens, model, then)
        return await self._parts.windows.counted(caller, window, budget_tokens) if exact else window

    async def explain(self, turn: Id, *, attempt: int | None = None, caller: Caller = LOCAL) -> SentPrompt:
        """Derive the exact request that an attempt of a turn sent from the record again, and explain its window.
        ``attempt`` counts the turn's attempts from 1, along all its rounds, as ``Turn.attempts`` lists them; None: the
        last.

        Raises TurnNotFound, also where the turn has no such attempt, Invalid for a number that cannot be, Erased where
        words that it held are gone, and UnknownRenderer.
        """
        return await self._parts.prompts.read(caller, turn_id(turn), attempt)

    def models(self) -> list[Model]:
        """List the models that are known to be served, and what is known of them. Raises nothing."""
        return self._parts.discovery.models()

    def model(self, name: str) -> Model:
        """Show one model that is served, and what is known of it. Raises UnknownModel."""
        return self._parts.discovery.model(name)

    async def count_tokens(
        self, model: str, content: str | Sequence[Block | Raw | bytes], *, caller: Caller = LOCAL
    ) -> TokenCount:
        """Count the tokens of a user's message for a model: as the vendor does, where it counts, else by an estimate.

        Raises UnknownModel, EmptyMessage, Invalid, TooLarge, ContentNotSupported, and ProviderError where the vendor's
        count fails.
        """
        return await self._parts.counts.count(caller, model, content)

    async def tools(self, *, session: Id | None = None, caller: Caller = LOCAL) -> list[ToolInfo]:
        """List the registered tools, or those that a session may use. Raises SessionNotFound."""
        return await self._parts.discovery.tools(caller, None if session is None else session_id(session))

    async def schemas(self, digest: str, *, caller: Caller = LOCAL) -> tuple[ToolSchema, ...]:
        """Read the tools that a model was told of, by the digest in its ``attempt.started``. Raises Erased, and
        StoreCorrupt where they are not on record.
        """
        return await self._parts.discovery.schemas(caller, digest)
