"""The registry of providers, and the rules by which a model's name is resolved.

A model is named ``provider/model``. A bare name is routed by its prefix. An unknown name is refused with a list of the
known ones, and never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date

import msgspec

from ..errors import UnknownModel
from ..events.turn_types import OTHER
from .base import Figures, ModelInfo, Provider

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
_DAY = re.compile(r"-(\d{4})-?(\d\d)-?(\d\d)$")
FIRST_YEAR, LAST_YEAR = 2020, 2049
_PREFIXES = {
    "claude-": "anthropic",
    "gpt-": "openai",
    "chatgpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
}


class Providers:
    """The providers, by name. The registry owns them: ``aclose`` closes all. ``figures`` gives those of the next window
    where a turn on record is done again; None: they are found when a window is chosen.
    """

    def __init__(self, providers: Iterable[Provider] = (), configured: Iterable[str] = ()) -> None:
        self.figures: Callable[[], Figures] | None = None
        self.keys: tuple[str, ...] = ()
        """Keys of providers that stand in no setting: nothing that is recorded may hold them."""
        self._by_name: dict[str, Provider] = {}
        self._configured = frozenset(configured)
        for provider in providers:
            self.add(provider)

    def add(self, provider: Provider) -> None:
        assert provider.name not in self._by_name, provider.name
        self._by_name[provider.name] = provider

    def add_configured(self, names: Iterable[str]) -> None:
        """Add models that the configuration names, so that facts may hold their names."""
        self._configured |= frozenset(names)

    def resolve(self, model: str) -> tuple[Provider, ModelInfo]:
        """The provider and the model of a name. Raises UnknownModel, which lists the known ones."""
        if not _NAME.fullmatch(model):
            raise self._unknown("that is not a model's name")
        prefix, slash, rest = model.partition("/")
        provider, name = self._by_name.get(prefix if slash else _route(model)), rest if slash else model
        info = provider.model(name) if provider and name else None
        if provider is None or info is None:
            raise self._unknown(f"no provider here serves {model}")
        if name == OTHER and not info.listed:
            raise self._unknown(f"{model} stands for a name that was erased")
        configured = bool({model, f"{provider.name}/{info.name}"} & self._configured)
        return provider, msgspec.structs.replace(info, listed=configured or (info.listed and not _is_no_day(info.name)))

    def get(self, name: str) -> Provider | None:
        """The provider of this name; None if it is not configured."""
        return self._by_name.get(name)

    def names(self) -> list[str]:
        """The providers' own names."""
        return list(self._by_name)

    def canonical(self, model: str) -> str:
        """The full name, ``provider/model``, of a model however it is named. Raises UnknownModel."""
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


def _is_no_day(name: str) -> bool:
    """True if a name ends in digits like those of a snapshot's date, and they are no day of this age: then they may say
    anything.
    """
    found = _DAY.search(name)
    if found is None:
        return False
    try:
        return not FIRST_YEAR <= date(*map(int, found.groups())).year <= LAST_YEAR
    except ValueError:
        return True


def _route(bare: str) -> str:
    """The provider of a bare name, or an empty text."""
    return next((provider for prefix, provider in _PREFIXES.items() if bare.startswith(prefix)), "")


class ResolvedModel(msgspec.Struct, frozen=True):
    """A resolved model: its full name, its provider, and its description. ``figures``: see ``Providers``."""

    name: str
    provider: Provider
    info: ModelInfo
    figures: Callable[[], Figures] | None = None

    @property
    def recorded(self) -> str:
        """The full name as facts have it."""
        return self.name if self.info.listed else f"{self.provider.name}/{OTHER}"

    @property
    def words(self) -> str | None:
        """The full name, if it is words; None if facts have it."""
        return None if self.info.listed else self.name


def resolve(providers: Providers, name: str) -> ResolvedModel:
    """The model of this name. Raises UnknownModel, which lists the known ones."""
    provider, info = providers.resolve(name)
    return ResolvedModel(f"{provider.name}/{info.name}", provider, info, providers.figures)


def resolve_if_there(providers: Providers, name: str | None) -> ResolvedModel | None:
    """As ``resolve``; None without a name, or if the model is not served (it may have been served when it was set)."""
    try:
        return None if name is None else resolve(providers, name)
    except UnknownModel:
        return None
