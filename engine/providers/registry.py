"""Which provider serves a model: the registry, and the rules by which a name is read.

A model is named ``provider/model``. A bare name is routed by its prefix, and an unknown one is refused with a list of
what there is, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from ..errors import UnknownModel
from .base import ModelInfo, Provider

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
_PREFIXES = {
    "claude-": "anthropic",
    "gpt-": "openai",
    "chatgpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
}


class Providers:
    """The providers there are, by name. It owns them: ``aclose`` closes all."""

    def __init__(self, providers: Iterable[Provider] = ()) -> None:
        self._by_name: dict[str, Provider] = {}
        for provider in providers:
            self.add(provider)

    def add(self, provider: Provider) -> None:
        assert provider.name not in self._by_name, provider.name
        self._by_name[provider.name] = provider

    def get(self, name: str) -> Provider | None:
        """A provider by its own name, to render again what it was once sent."""
        return self._by_name.get(name)

    def resolve(self, model: str) -> tuple[Provider, ModelInfo]:
        """Raises UnknownModel, which lists what there is."""
        if not _NAME.fullmatch(model):
            raise self._unknown("that is not a model's name")
        prefix, slash, rest = model.partition("/")
        provider, name = self._by_name.get(prefix if slash else _route(model)), rest if slash else model
        info = provider.model(name) if provider and name else None
        if provider is None or info is None:
            raise self._unknown(f"no provider here serves {model}")
        return provider, info

    def names(self) -> list[str]:
        """The providers' own names."""
        return list(self._by_name)

    def canonical(self, model: str) -> str:
        """``provider/model``, whatever way it was named. Raises UnknownModel."""
        provider, info = self.resolve(model)
        return f"{provider.name}/{info.name}"

    def known(self) -> list[tuple[str, ModelInfo]]:
        """All models that are known to be served, by their full names; a provider may serve others."""
        return [(f"{name}/{info.name}", info) for name, provider in self._by_name.items() for info in provider.models()]

    def available(self) -> list[str]:
        """Full names of all models that are known to be served; a provider may serve others."""
        return [name for name, _ in self.known()]

    async def aclose(self) -> None:
        for provider in self._by_name.values():
            await provider.aclose()

    def _unknown(self, detail: str) -> UnknownModel:
        return UnknownModel(detail, field="model", available=self.available())


def _route(bare: str) -> str:
    """The provider that a bare name belongs to, or nothing."""
    return next((provider for prefix, provider in _PREFIXES.items() if bare.startswith(prefix)), "")


class Model(msgspec.Struct, frozen=True):
    """A resolved model: its full name, who serves it, what is known of it."""

    name: str
    provider: Provider
    info: ModelInfo


def resolve(providers: Providers, name: str) -> Model:
    """The model of this name. Raises UnknownModel, which lists what there is."""
    provider, info = providers.resolve(name)
    return Model(f"{provider.name}/{info.name}", provider, info)


def resolve_if_there(providers: Providers, name: str | None) -> Model | None:
    """As ``resolve``; None for no name, or one that is not served, which may have been when it was set."""
    try:
        return None if name is None else resolve(providers, name)
    except UnknownModel:
        return None
