"""Tokens of a text or of blocks for a model: by the vendor's own count where there is one, else by an estimate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from msgspec import Raw

from ..context.content import check_message
from ..errors import EmptyMessage
from ..events.blocks import Block, ImageBlock, TextBlock
from ..log.base import Connection
from ..log.store import Store
from ..providers import tokens
from ..providers.base import Counting, Prompt, PromptMessage
from ..providers.registry import Providers, ResolvedModel, resolve
from ..sessions import queries
from ..sessions.envelope import Caller
from ..sessions.views import View
from ..settings import Settings
from . import inputs


class TokenCount(View, frozen=True):
    """Tokens of one message. ``counter`` names who counted: a provider, or our own rules; ``exact``: the vendor did."""

    model: str
    tokens: int
    counter: str
    exact: bool


class Counts:
    """Counts of what is not on record."""

    def __init__(self, store: Store, providers: Providers, settings: Settings) -> None:
        self._store = store
        self._providers = providers
        self._settings = settings

    async def count(self, caller: Caller, name: str, given: str | Sequence[Block | Raw | bytes]) -> TokenCount:
        """Count a message of a user's with this content."""
        model = resolve(self._providers, name)
        message = await inputs.new_message(inputs.MessageIn(given), self._settings)
        if not message.tokens:
            raise EmptyMessage("content: must hold something", field="content")
        check_message(message.content, model)
        provider = model.provider
        # A vendor counts whole requests only: a call without its result, or a result alone, is none.
        if isinstance(provider, Counting) and all(isinstance(each, TextBlock | ImageBlock) for each in message.content):
            prompt = Prompt(model.info.name, (PromptMessage("user", message.content),))
            counted = await provider.count_tokens(provider.renderers[provider.renderer](prompt))
            return TokenCount(model.name, counted, provider.name, exact=True)
        figure = await self._store.read(partial(_estimate, tenant=caller.tenant, model=model, base=message.tokens))
        return TokenCount(model.name, figure, tokens.COUNTER, exact=False)


def _estimate(connection: Connection, *, tenant: str, model: ResolvedModel, base: int) -> int:
    """The estimate, by the factor that the tenant's attempts have shown."""
    family = tokens.family(model.info.family)
    samples, sent, messages, reported = queries.calibration(connection, tenant, model.recorded)
    factor_permille = tokens.calibrate(family, sent, messages, reported, samples)
    return tokens.figure(base, 1, factor_permille, family.overhead)
