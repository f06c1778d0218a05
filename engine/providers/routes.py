"""Routes: names that stand for several models, of which one is chosen for each turn.

The file (setting ``MANENT_ROUTES_FILE``) maps names to rules; ``route/NAME`` is then a model:

    {"routes": {
        "chat": {"by": "task", "models": [
            {"model": "anthropic/claude-opus-5-5", "tasks": ["reasoning", "law"]},
            {"model": "openai/gpt-4o", "tasks": ["images"]},
            "openai/gpt-4o-mini"]},
        "cheap": {"by": "cost", "models": ["openai/gpt-5-nano", "anthropic/claude-haiku-4-5"]},
        "spread": {"by": "balance", "models": ["here/llama-3", "there/llama-3"]}}}

* ``task``: first the models whose ``tasks`` name the turn's task, then those without ``tasks``, then the others; each
  in the file's order. A turn's task is the one that its caller names, else ``images`` if its message has some, else
  ``tools`` if it offers some, else ``json`` if the answer must be JSON, else ``reasoning`` if that is asked for, else
  ``long`` if its message has ``LONG_TOKENS`` base tokens or more, else ``plain``.
* ``cost``: the lowest price first, of a million tokens in and a million out; models without a known price come last.
* ``balance``: the one that was chosen longest ago first.

Whatever the rule, providers whose circuit breaker is open come last, and of the models in this order the first is
chosen that can do what is asked: that takes the parameters and the images, and has room. A turn stays with its model.
A route in a list stands for the models in it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ..clock import Clock, utc_day
from ..errors import Invalid, ProviderRejected, UnknownModel
from ..events.turn_types import RouteReason
from ..events.usage import Price
from .base import Chunk, ModelInfo, Renderer
from .registry import Providers, ResolvedModel, resolve

ROUTE = "route"
SETTING = "routes_file"
MAX_FILE_BYTES = 1 << 20
LONG_TOKENS = 2000

Rule = Literal["task", "cost", "balance"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TASK = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class _Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model in a list, with the tasks that it is for."""

    model: str
    tasks: tuple[str, ...] = ()


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    by: Rule
    models: Annotated[tuple[str | _Listed, ...], Meta(max_length=1000)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    routes: dict[str, _Written]


class Asked(msgspec.Struct, frozen=True):
    """What a turn asks for, as far as a route looks at it. ``task``: the one that its caller names."""

    task: str | None = None
    images: bool = False
    tools: bool = False
    json: bool = False
    reasoning: bool = False
    tokens: int = 0

    @property
    def kind(self) -> RouteReason:
        """The reason by which a model is looked for."""
        given: tuple[tuple[RouteReason, bool], ...] = (
            ("task", self.task is not None),
            ("images", self.images),
            ("tools", self.tools),
            ("json", self.json),
            ("reasoning", self.reasoning),
            ("long", self.tokens >= LONG_TOKENS),
        )
        return next((kind for kind, is_so in given if is_so), "plain")


class Route:
    """One route. ``models`` are full names, no routes among them. The choice of the least recent is the only state."""

    def __init__(self, name: str, rule: Rule, models: Sequence[_Listed]) -> None:
        self.name = name
        self.rule = rule
        self.models = tuple(models)
        self._chosen = [0] * len(models)
        self._ticks = count(1)
        self._lock = threading.Lock()

    def order(self, asked: Asked, prices: Sequence[Price | None]) -> list[tuple[int, RouteReason]]:
        """The places of its models in the order of its rule, each with the reason. ``prices``: of today."""
        places = range(len(self.models))
        if self.rule == "balance":
            return [(place, "next") for place in sorted(places, key=lambda place: self._chosen[place])]
        if self.rule == "cost":
            costs = _costs(prices)
            return [(place, "cheapest") for place in sorted(places, key=lambda place: costs[place])]
        wanted = asked.task or asked.kind
        ranks = [0 if wanted in each.tasks else 2 if each.tasks else 1 for each in self.models]
        reasons: tuple[RouteReason, RouteReason, RouteReason] = (asked.kind, "plain", "plain")
        return [(place, reasons[ranks[place]]) for place in sorted(places, key=lambda place: ranks[place])]

    def take(self, place: int) -> None:
        """Note that a model was chosen."""
        with self._lock:
            self._chosen[place] = next(self._ticks)

    def give_back(self, place: int) -> None:
        """Note that a choice came to nothing: the model is the next again."""
        with self._lock:
            self._chosen[place] = 0


class Candidate(msgspec.Struct, frozen=True):
    """A model that a route would choose; ``index``: its place in the route, ``reason``: why it stands where it does."""

    route: Route
    index: int
    model: ResolvedModel
    reason: RouteReason


def _costs(prices: Sequence[Price | None]) -> list[float]:
    """What a million tokens in and a million out cost, in the currency of the first; infinite where it is not known."""
    currency = next((price.currency for price in prices if price is not None), None)
    return [
        float("inf") if price is None or price.currency != currency else price.input + price.output for price in prices
    ]


class RouteProvider:
    """The routes as a provider, so that ``route/NAME`` is a model wherever one is named. A turn is planned on the model
    that is chosen, so a route itself is never sent anything.
    """

    name = ROUTE

    def __init__(self, routes: Sequence[Route], providers: Providers, clock: Clock) -> None:
        self._routes = {route.name: route for route in routes}
        self._providers = providers
        self._clock = clock
        first = resolve(providers, routes[0].models[0].model).provider
        self.renderer = first.renderer
        self.renderers: Mapping[str, Renderer] = first.renderers
        self.left_alone: Callable[[], frozenset[str]] = frozenset
        """The providers that are not to be asked now."""

    def models(self) -> Sequence[ModelInfo]:
        return [self._info(route) for route in self._routes.values()]

    def model(self, name: str) -> ModelInfo | None:
        route = self._routes.get(name)
        return None if route is None else self._info(route)

    def candidates(self, name: str, asked: Asked) -> Iterator[Candidate]:
        """The models of a route in the order in which they are tried."""
        route = self._routes[name]
        models = [resolve(self._providers, each.model) for each in route.models]
        day, alone = utc_day(self._clock.now_us()), self.left_alone()
        ordered = route.order(asked, [model.info.price_at(day) for model in models])
        tried = sorted(ordered, key=lambda found: models[found[0]].provider.name in alone)
        for number, (place, reason) in enumerate(tried):
            passed_over = number == 0 and place != ordered[0][0]
            why: RouteReason = "breaker" if passed_over else reason if number == 0 else "able"
            yield Candidate(route, place, models[place], why)

    def stream(self, request: bytes) -> AsyncGenerator[Chunk, None]:  # noqa: ARG002 - nothing is sent
        """Raises ProviderRejected: requests go to the models of a route."""
        raise ProviderRejected("a route is no model of its own")

    async def aclose(self) -> None:
        """Release nothing: the models are other providers'."""

    def _info(self, route: Route) -> ModelInfo:
        """A route as it is listed: counted as its first model, until one is chosen."""
        first = resolve(self._providers, route.models[0].model).info
        return ModelInfo(route.name, first.family)


# --- the file ---------------------------------------------------------------------------------------------------------


def add_routes(providers: Providers, file: str | None, clock: Clock) -> None:
    """Add the routes of a file to the providers. Raises Invalid, which names the place in the file."""
    if file is None or providers.get(ROUTE) is not None:
        return
    path = Path(file)
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Invalid(SETTING, f"{path.name} cannot be read: {error.__class__.__name__}") from None
    if len(data) > MAX_FILE_BYTES:
        raise Invalid(SETTING, f"{path.name} is larger than {MAX_FILE_BYTES} bytes")
    routes = read_routes(path.name, data, providers)
    if routes:
        providers.add_configured(each.model for route in routes for each in route.models)
        providers.add(RouteProvider(routes, providers, clock))


def read_routes(file: str, data: bytes, providers: Providers) -> list[Route]:
    """Read the routes of a file. Raises Invalid, which names the place in the file."""
    try:
        written = msgspec.json.decode(data, type=_File).routes
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(SETTING, f"{file}: {error}") from None
    routes = []
    for name, route in written.items():
        if not _NAME.fullmatch(name):
            raise Invalid(SETTING, f"{file}: routes: {name!r} must be 1 to 64 characters of A-Z a-z 0-9 . _ -")
        routes.append(Route(name, route.by, [*_models(file, written, name, (), providers)]))
    return routes


def _models(
    file: str, written: Mapping[str, _Written], name: str, within: tuple[str, ...], providers: Providers
) -> Iterator[_Listed]:
    """The models of a route by their full names, those of other routes in it in their place."""
    route, path = written[name], (*within, name)
    if not route.models:
        raise Invalid(SETTING, f"{file}: routes.{name}.models: is empty")
    for number, given in enumerate(route.models):
        place = f"{file}: routes.{name}.models[{number}]"
        each = _Listed(given) if isinstance(given, str) else given
        _check_tasks(place, each, route.by)
        prefix, _, inner = each.model.partition("/")
        if prefix != ROUTE:
            yield _Listed(_full_name(place, each.model, providers), each.tasks)
            continue
        if inner not in written:
            raise Invalid(SETTING, f"{place}: there is no route {inner}")
        if inner in path:
            raise Invalid(SETTING, f"{place}: leads back to itself: {' -> '.join((*path, inner))}")
        for found in _models(file, written, inner, path, providers):
            yield _Listed(found.model, each.tasks)


def _check_tasks(place: str, listed: _Listed, rule: Rule) -> None:
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
