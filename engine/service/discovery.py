"""The models and tools that a caller can name."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import UUID

from ..clock import Clock, utc_day
from ..events.blocks import ToolSchema
from ..events.usage import Price
from ..log.sql.documents import read_document
from ..log.store import Store
from ..providers.base import ModelInfo
from ..providers.registry import Providers, resolve
from ..sessions.envelope import Caller
from ..sessions.history import state_at
from ..sessions.views import View
from ..tools.base import Tool
from ..tools.registry import Tools, read_schemas


class Model(View, frozen=True):
    """A model that can be asked; None is *not known*. ``price``: in force today, per million tokens."""

    name: str
    provider: str
    context_tokens: int | None
    max_output_tokens: int | None
    capabilities: tuple[str, ...] | None
    price: Price | None


class ToolInfo(View, frozen=True):
    """A registered tool. ``approval``: a person must say yes to each call."""

    name: str
    description: str
    parameters: dict[str, Any]
    approval: bool


class Discovery:
    """Models and tools that can be named, and the tools that models were told of."""

    def __init__(self, store: Store, providers: Providers, tools: Tools, clock: Clock) -> None:
        self._store = store
        self._providers = providers
        self._tools = tools
        self._clock = clock

    def models(self) -> list[Model]:
        day = utc_day(self._clock.now_us())
        return [_model_view(name, info, day) for name, info in self._providers.known()]

    def model(self, name: str) -> Model:
        found = resolve(self._providers, name)
        return _model_view(found.name, found.info, utc_day(self._clock.now_us()))

    async def tools(self, caller: Caller, session: UUID | None) -> list[ToolInfo]:
        """All registered tools; those that a session may use, if one is named."""
        allowed = None
        if session is not None:
            state = await self._store.read(lambda connection: state_at(connection, caller.tenant, session))
            allowed = state.setting("allowed_tools")
        return [_tool_view(self._tools.get(name)) for name in self._tools.allowed(None, allowed)]

    async def schemas(self, caller: Caller, digest: str) -> tuple[ToolSchema, ...]:
        document = await self._store.read(lambda connection: read_document(connection, caller.tenant, digest))
        return read_schemas(document)


def _model_view(name: str, info: ModelInfo, day: date) -> Model:
    return Model(
        name=name,
        provider=name.partition("/")[0],
        context_tokens=info.context_tokens,
        max_output_tokens=info.max_output_tokens,
        capabilities=info.capabilities,
        price=info.price_at(day),
    )


def _tool_view(tool: Tool | None) -> ToolInfo:
    assert tool is not None, "it was listed"
    return ToolInfo(tool.name, tool.description, tool.parameters, tool.approval)
