"""The methods of ``Engine`` that record nothing: which sessions there are and what was said in them, what a model would
be sent and what it was sent, how many tokens that is, and which models and tools there are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Unpack
from uuid import UUID

from msgspec import Raw

from ..events.blocks import Block, ToolSchema
from ..sessions.envelope import LOCAL, Caller
from ..sessions.listing import Order
from ..sessions.prompt_views import SentPrompt
from ..sessions.views import Session, Window
from .counting import TokenCount
from .discovery import Model, ToolInfo
from .ids import Id, session_id, turn_id
from .inputs import MessageIn
from .moments import Time, moment
from .paging import LIMIT, Page, each_item
from .parts import Parts
from .session_fields import SessionFilter, read_filter
from .transcript.reading import TranscriptFormat
from .turns import TurnOptions


class Lookups:
    """Lists of sessions, windows, prompts, tokens, models and tools."""

    _parts: Parts

    async def sessions(
        self,
        *,
        order: Order = "activity",
        after: UUID | str | None = None,
        limit: int = LIMIT,
        caller: Caller = LOCAL,
        **which: Unpack[SessionFilter],
    ) -> Page[Session]:
        """Read a page of sessions, the newest first; of a family the member that was active last, where ``branches``
        is not ``all``. ``after``: a page's ``next``; or, in the order ``created``, the id of a session (a UUID).

        Raises Invalid for a limit or an ``after`` that cannot be.
        """
        return await self._parts.sessions.page(caller, order, read_filter(which), limit, after)

    def iter_sessions(
        self, *, order: Order = "activity", caller: Caller = LOCAL, **which: Unpack[SessionFilter]
    ) -> AsyncGenerator[Session, None]:
        """Iterate over sessions, or those of which so much is true, as ``sessions`` lists them. Raises nothing of its
        own.
        """
        turn_page = partial(self._parts.sessions.page, caller, order, read_filter(which), LIMIT)
        return each_item(turn_page, None)

    async def check_turn(
        self,
        content: str | MessageIn,
        session: Id | None = None,
        *,
        system: str | None = None,
        caller: Caller = LOCAL,
        **options: Unpack[TurnOptions],
    ) -> None:
        """Check that a turn could start; ``session`` None: in one that would be begun for it, with this system prompt.
        Starts and records nothing. Raises what ``start_turn`` raises.
        """
        await self._parts.serving.check_turn(content, session, system=system, caller=caller, **options)

    def transcript(
        self,
        session: Id,
        form: TranscriptFormat = "html",
        *,
        version: int | None = None,
        at: Time | None = None,
        caller: Caller = LOCAL,
    ) -> AsyncGenerator[str, None]:
        """Write a session for people, in pieces: who said what and when, how each turn ended, what was erased by whom
        and why, and the checkpoint that proves it. ``form`` is ``html`` (one page) or ``md``; ``version`` and ``at``:
        up to there, without the words erased since. A checkpoint is signed if none covers it and one can be.

        Raises SessionNotFound, NotYet for a time before it began, and Invalid.
        """
        return self._parts.transcripts.read(caller, session_id(session), form, moment(version, at))

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
