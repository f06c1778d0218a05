"""A provider whose models are described by a catalogue: sizes, capabilities, prices."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from engine.providers.base import Chunk, Counting, ModelInfo, Provider
from engine.providers.catalogue import Catalogue


def catalogued(provider: Provider, catalogue: Catalogue) -> Provider:
    """The provider, with what the catalogue knows of its models."""
    if isinstance(provider, Counting):
        return _CataloguedCounting(provider, provider, catalogue)
    return Catalogued(provider, catalogue)


class Catalogued:
    """All of it is the provider's own, but for what is known of its models."""

    def __init__(self, provider: Provider, catalogue: Catalogue) -> None:
        self.name = provider.name
        self.renderer = provider.renderer
        self.renderers = provider.renderers
        self._provider = provider
        self._catalogue = catalogue

    def models(self) -> Sequence[ModelInfo]:
        return [entry.info() for entry in self._catalogue.models(self.name)] or self._provider.models()

    def model(self, name: str) -> ModelInfo | None:
        entry = self._catalogue.find(self.name, name)
        return self._provider.model(name) if entry is None else entry.info(name)

    def stream(self, request: bytes) -> AsyncGenerator[Chunk, None]:
        return self._provider.stream(request)

    async def aclose(self) -> None:
        await self._provider.aclose()


class _CataloguedCounting(Catalogued):
    """As it is, and it counts."""

    def __init__(self, provider: Provider, counting: Counting, catalogue: Catalogue) -> None:
        super().__init__(provider, catalogue)
        self._counting = counting

    async def count_tokens(self, request: bytes) -> int:
        return await self._counting.count_tokens(request)
