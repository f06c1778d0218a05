"""Windows: the messages that a model would be sent of a session, and the vendor's own count of its tokens."""

from __future__ import annotations

from uuid import UUID

import msgspec

from ..context import plan, prompt
from ..context.prompt import Limits
from ..errors import NoExactCount
from ..log.base import Connection
from ..log.store import Store
from ..providers.base import Counting
from ..providers.registry import Providers, resolve
from ..sessions.envelope import Caller
from ..sessions.history import Moment, version_then
from ..sessions.views import Window
from ..settings import Settings
from . import inputs


class Windows:
    """Windows of all sessions, as they are now or were at a moment."""

    def __init__(self, store: Store, providers: Providers, settings: Settings) -> None:
        self._store = store
        self._providers = providers
        self._settings = settings

    async def read(
        self, caller: Caller, session: UUID, budget_tokens: int | None, model: str | None, moment: Moment
    ) -> Window:
        inputs.check_budget(budget_tokens, self._settings, "budget_tokens")

        def look(connection: Connection) -> Window:
            return prompt.window(
                connection,
                tenant=caller.tenant,
                session=session,
                limits=Limits(budget_tokens),
                model=model,
                version=version_then(connection, caller.tenant, session, moment),
                providers=self._providers,
                settings=self._settings,
            )

        return await self._store.read(look)

    async def counted(self, caller: Caller, window: Window, budget_tokens: int | None) -> Window:
        """A window with its tokens as the vendor counts them."""
        model = resolve(self._providers, window.model)
        if not isinstance(model.provider, Counting):
            raise NoExactCount(f"{model.provider.name} does not count the tokens of a request", field="exact")
        planned = await self._store.read(
            lambda connection: plan.plan_at(
                connection,
                tenant=caller.tenant,
                session_id=window.session_id,
                version=window.version,
                model=model,
                limits=Limits(budget_tokens),
                settings=self._settings,
            )
        )
        used = await model.provider.count_tokens(planned.request)
        return msgspec.structs.replace(window, used_tokens=used, exact=True)
