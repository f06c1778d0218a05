"""The names of models and tools in a session's settings: which of them facts may hold, and which are words."""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import UnknownModel
from ..events.turn_types import OTHER
from ..providers.registry import Providers, ResolvedModel, resolve, resolve_if_there
from ..tools.registry import Tools


class NamedSettings(msgspec.Struct, frozen=True):
    """Settings that name models and tools: their ``values``, what facts hold of them (``recorded``), and those among
    the values that are ``words``, because facts cannot hold them.
    """

    values: dict[str, Any]
    recorded: dict[str, Any]
    words: dict[str, Any]


class Names:
    """The names that this server knows. ``default_model`` is that of a session that names none."""

    def __init__(self, providers: Providers, tools: Tools, default_model: str) -> None:
        self._providers = providers
        self._tools = tools
        self._default_model = default_model

    def sorted_out(self, given: dict[str, Any]) -> NamedSettings:
        """Sort out the settings among ``NAMED`` that a caller gives. Raises UnknownModel, which names its field."""
        values = dict(given)
        if "model" in given:
            values["model"] = resolve(self._providers, given["model"] or self._default_model).name
        if given.get("fallback_model") is not None:
            values["fallback_model"] = self._fallback(given["fallback_model"]).name
        return self.of_others(values)

    def of_others(self, values: dict[str, Any]) -> NamedSettings:
        """The same for settings that were made elsewhere: they may name models that nobody here serves."""
        recorded = dict(values)
        if values.get("model") is not None:
            recorded["model"] = self._recorded(values["model"])
        if values.get("fallback_model") is not None:
            named = self._recorded(values["fallback_model"])
            recorded["fallback_model"] = named if named == values["fallback_model"] else None
        if values.get("allowed_tools") is not None:
            registered = self._tools.names()
            recorded["allowed_tools"] = tuple(name for name in values["allowed_tools"] if name in registered)
        words = {name: value for name, value in values.items() if value != recorded[name]}
        return NamedSettings(values, recorded, words)

    def _recorded(self, name: str) -> str:
        """A model's full name as facts have it."""
        model = resolve_if_there(self._providers, name)
        if model is not None:
            return model.recorded
        provider = name.partition("/")[0]
        return f"{provider if provider in self._providers.names() else OTHER}/{OTHER}"

    def _fallback(self, name: str) -> ResolvedModel:
        try:
            return resolve(self._providers, name)
        except UnknownModel as error:
            raise UnknownModel(error.detail, **error.extra | {"field": "fallback_model"}) from None
