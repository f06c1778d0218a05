"""The providers that the settings allow: which members there are, and how each is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..clock import Clock
from ..settings import Settings
from . import tokens
from .anthropic.messages import ANTHROPIC, ClaudeProvider
from .base import Provider
from .catalogue import Catalogue, catalogued
from .echo import EchoProvider
from .local.provider import LocalProvider, local_model_available
from .openai.chat import OpenAIProvider
from .openai.responses import ResponsesProvider
from .openai.vendor import OPENAI
from .registry import Providers
from .scripted import ScriptedProvider, read_script
from .wire.vendor import Endpoint


def make_providers(settings: Settings, clock: Clock) -> Providers:
    """The providers that the settings allow. Raises Invalid, also for a file of models that nobody has need of yet."""
    if settings.models_file:
        Catalogue.load(Path(settings.models_file))
    members: list[Provider] = [EchoProvider(tokens.count_text)]
    if local_model_available():
        members.append(LocalProvider(clock=clock, connect_timeout_s=settings.connect_timeout_s))
    members += _vendors(settings, clock)
    if settings.script:
        members.append(ScriptedProvider(read_script(Path(settings.script))))
    return Providers(members, configured=[] if settings.model is None else [settings.model])


def _vendors(settings: Settings, clock: Clock) -> Iterator[Provider]:
    """Those with a key, or with an address of one's own."""
    timeout_s = settings.connect_timeout_s
    openai = Endpoint(
        clock=clock,
        connect_timeout_s=timeout_s,
        base_url=settings.openai_base_url,
        api_key=settings.openai_api_key,
    )
    if openai.api_key or not openai.is_of(OPENAI):
        yield catalogued(_openai(settings, openai), _catalogue(settings, own=not openai.is_of(OPENAI)))
    claude = Endpoint(
        clock=clock,
        connect_timeout_s=timeout_s,
        base_url=settings.anthropic_base_url,
        api_key=settings.anthropic_api_key,
    )
    if claude.api_key or not claude.is_of(ANTHROPIC):
        version, cached = settings.anthropic_version, settings.anthropic_cache
        made = ClaudeProvider(claude, version=version, cache_breakpoints=cached)
        yield catalogued(made, _catalogue(settings, own=not claude.is_of(ANTHROPIC)))


def _openai(settings: Settings, endpoint: Endpoint) -> Provider:
    """The member that speaks the protocol which the settings name; other servers may know the older limit only."""
    if settings.openai_api == "responses":
        return ResponsesProvider(endpoint)
    return OpenAIProvider(endpoint, legacy_max_tokens=not endpoint.is_of(OPENAI))


def _catalogue(settings: Settings, *, own: bool) -> Catalogue:
    """The catalogue of a provider's models: ``own`` if it is at an address of one's own."""
    file = Path(settings.models_file) if settings.models_file else None
    return Catalogue.of_own_address(file) if own else Catalogue.load(file)
