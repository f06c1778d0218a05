"""Views of the models and tools that a caller can name."""

from __future__ import annotations

from datetime import date
from typing import Any

from ..events.usage import Price
from ..providers.base import ModelInfo
from ..sessions.views import View
from ..tools.base import Tool


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


def model_view(name: str, info: ModelInfo, day: date) -> Model:
    return Model(
        name=name,
        provider=name.partition("/")[0],
        context_tokens=info.context_tokens,
        max_output_tokens=info.max_output_tokens,
        capabilities=info.capabilities,
        price=info.price_at(day),
    )


def tool_view(tool: Tool | None) -> ToolInfo:
    assert tool is not None, "it was listed"
    return ToolInfo(tool.name, tool.description, tool.parameters, tool.approval)
