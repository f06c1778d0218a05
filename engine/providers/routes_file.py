"""The file of routes (setting ``MANENT_ROUTES_FILE``), and of endpoints that they may name.

    {"routes": {
        "chat": {"by": "task", "models": [
            {"model": "anthropic/claude-opus-5-5", "tasks": ["reasoning", "law"]},
            {"model": "openai/gpt-4o", "tasks": ["images"]},
            "openai/gpt-4o-mini"]},
        "cheap": {"by": "cost", "models": ["openai/gpt-5-nano", "anthropic/claude-haiku-4-5"]},
        "spread": {"by": "balance", "models": ["here/llama-3", "there/llama-3"]}},
     "endpoints": {
        "here": {"api": "chat", "base_url": "http://10.0.0.1:8000/v1"},
        "there": {"api": "chat", "base_url": "http://10.0.0.2:8000/v1", "api_key_file": "there.key"}}}

``route/NAME`` is then a model (``routes`` says how one is chosen), and so is ``ENDPOINT/MODEL``: an endpoint is a
provider at an address of its own, which speaks OpenAI's ``chat`` or ``responses`` or Anthropic's ``messages``. What is
known of its models stands in the models file. A route in a list stands for the models in it. A mistake is named with
its place when the file is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ..clock import Clock
from ..errors import Invalid, UnknownModel
from ..settings import Secret, Settings
from .anthropic.messages import ClaudeProvider
from .base import Provider
from .catalogue import Catalogue, catalogued, read_file
from .openai.chat import OpenAIProvider
from .openai.responses import ResponsesProvider
from .openai.vendor import OPENAI
from .registry import Providers
from .routes import ROUTE, TASK, Listed, Route, RouteProvider, Rule
from .wire.vendor import Endpoint

SETTING = "routes_file"
MAX_FILE_BYTES = 1 << 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FORM = "must be 1 to 64 characters of A-Z a-z 0-9 . _ -"


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    by: Rule
    models: Annotated[tuple[str | Listed, ...], Meta(max_length=1000)]


class _Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    api: Literal["chat", "responses", "messages"]
    base_url: str
    api_key_file: str | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    routes: dict[str, _Written] = {}
    endpoints: dict[str, _Endpoint] = {}


def add_routes(providers: Providers, settings: Settings, clock: Clock) -> None:
    """Add the endpoints and routes of the file that the settings name. Raises Invalid, which names the place in it."""
    if settings.routes_file is None or providers.get(ROUTE) is not None:
        return
    path = Path(settings.routes_file)
    written = _decoded(path.name, read_file(path, SETTING, MAX_FILE_BYTES))
    for name, endpoint in written.endpoints.items():
        place = f"{path.name}: endpoints.{name}"
        _check_endpoint_name(place, name, providers)
        key = _key(place, path, endpoint)
        providers.add(_member(place, name, endpoint, key, settings, clock))
        providers.keys += (key,) if key else ()
    routes = _routes(path.name, written, providers)
    if routes:
        providers.add_configured(each.model for route in routes for each in route.models)
        providers.add(RouteProvider(routes, providers, clock))


def read_routes(file: str, data: bytes, providers: Providers) -> list[Route]:
    """Read the routes of a file. Raises Invalid, which names the place in the file."""
    return _routes(file, _decoded(file, data), providers)


def _decoded(file: str, data: bytes) -> _File:
    try:
        return msgspec.json.decode(data, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(SETTING, f"{file}: {error}") from None


# --- endpoints --------------------------------------------------------------------------------------------------------


def _check_endpoint_name(place: str, name: str, providers: Providers) -> None:
    if not _NAME.fullmatch(name):
        raise Invalid(SETTING, f"{place}: its name {_FORM}")
    if providers.get(name) is not None or name == ROUTE:
        raise Invalid(SETTING, f"{place}: there is another provider of this name")


def _key(place: str, path: Path, endpoint: _Endpoint) -> Secret | None:
    """The key of an endpoint; its file is looked for beside the file of routes."""
    if endpoint.api_key_file is None:
        return None
    try:
        return Secret(path.parent.joinpath(endpoint.api_key_file).read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(SETTING, f"{place}.api_key_file: cannot be read: {error.__class__.__name__}") from None


def _member(place: str, name: str, given: _Endpoint, key: Secret | None, settings: Settings, clock: Clock) -> Provider:
    endpoint = Endpoint(
        clock=clock,
        connect_timeout_s=settings.connect_timeout_s,
        base_url=given.base_url,
        api_key=key,
        name=name,
    )
    made: Provider
    try:
        if given.api == "messages":
            made = ClaudeProvider(endpoint, version=settings.anthropic_version)
        elif given.api == "responses":
            made = ResponsesProvider(endpoint)
        else:
            made = OpenAIProvider(endpoint, legacy_max_tokens=not endpoint.is_of(OPENAI))
    except Invalid as error:
        raise Invalid(SETTING, f"{place}: {error.detail}") from None
    return catalogued(made, Catalogue.of_own_address(Path(settings.models_file) if settings.models_file else None))


# --- routes -----------------------------------------------------------------------------------------------------------


def _routes(file: str, written: _File, providers: Providers) -> list[Route]:
    routes = []
    for name, route in written.routes.items():
        if not _NAME.fullmatch(name):
            raise Invalid(SETTING, f"{file}: routes: {name!r} {_FORM}")
        routes.append(Route(name, route.by, [*_models(file, written.routes, name, (), providers)]))
    return routes


def _models(
    file: str, written: Mapping[str, _Written], name: str, within: tuple[str, ...], providers: Providers
) -> Iterator[Listed]:
    """The models of a route by their full names, those of other routes in it in their place."""
    route, path = written[name], (*within, name)
    if not route.models:
        raise Invalid(SETTING, f"{file}: routes.{name}.models: is empty")
    for number, given in enumerate(route.models):
        place = f"{file}: routes.{name}.models[{number}]"
        each = Listed(given) if isinstance(given, str) else given
        _check_tasks(place, each, route.by)
        prefix, _, inner = each.model.partition("/")
        if prefix != ROUTE:
            yield Listed(_full_name(place, each.model, providers), each.tasks)
            continue
        if inner not in written:
            raise Invalid(SETTING, f"{place}: there is no route {inner}")
        if inner in path:
            raise Invalid(SETTING, f"{place}: leads back to itself: {' -> '.join((*path, inner))}")
        for found in _models(file, written, inner, path, providers):
            yield Listed(found.model, each.tasks)


def _check_tasks(place: str, listed: Listed, rule: Rule) -> None:
    if listed.tasks and rule != "task":
        raise Invalid(SETTING, f"{place}: tasks: go with a route by task")
    wrong = next((task for task in listed.tasks if not TASK.fullmatch(task)), None)
    if wrong is not None:
        raise Invalid(SETTING, f"{place}: tasks: {wrong!r} must be 1 to 64 characters of A-Z a-z 0-9 _ . -")


def _full_name(place: str, name: str, providers: Providers) -> str:
    try:
        return providers.canonical(name)
    except UnknownModel as error:
        raise Invalid(SETTING, f"{place}: {error.detail}", available=error.extra.get("available")) from None
