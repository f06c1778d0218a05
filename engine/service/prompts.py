"""Prompts as they were sent: the requests of recorded attempts, derived again and explained."""

from __future__ import annotations

from uuid import UUID

from ..context.explain import explain
from ..errors import Invalid
from ..log.store import Store
from ..providers.registry import Providers
from ..sessions.envelope import Caller
from ..sessions.prompt_views import SentPrompt


class Prompts:
    """The prompts of all turns."""

    def __init__(self, store: Store, providers: Providers) -> None:
        self._store = store
        self._providers = providers

    async def read(self, caller: Caller, turn: UUID, attempt: int | None) -> SentPrompt:
        if attempt is not None and attempt < 1:
            raise Invalid("attempt", "must be 1 or more")
        return await self._store.read(
            lambda connection: explain(
                connection, tenant=caller.tenant, turn_id=turn, attempt=attempt, providers=self._providers
            )
        )
