"""Routes: names that stand for several models, of which one is chosen for each turn. ``routes_file`` reads them.

* ``task``: first the models whose ``tasks`` name the turn's task, then those without ``tasks``, then the others; each
  in the file's order. A turn's task is the one that its caller names, else ``images`` if its message has some, else
  ``tools`` if it offers some, else ``json`` if the answer must be JSON, else ``reasoning`` if that is asked for, else
  ``long`` if its message has ``LONG_TOKENS`` base tokens or more, else ``plain``.
* ``cost``: the lowest price first, of a million tokens in and a million out; models without a known price come last.
* ``balance``: the one that was chosen longest ago first.

Whatever the rule, providers whose circuit breaker is open come last, and of the models in this order the first is
chosen that can do what is asked: that takes the parameters and the images, and has room. A turn stays with its model.
"""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Literal

import msgspec

from ..clock import Clock, utc_day
from ..errors import ProviderRejected
from ..events.turn_types import RouteReason
from ..events.usage import Price
from .base import Chunk, ModelInfo, Renderer
from .registry import Providers, ResolvedModel, resolve

ROUTE = "route"
LONG_TOKENS = 2000

Rule = Literal["task", "cost", "balance"]

TASK = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model in a list, with the tasks that it is for."""

    model: str
    tasks: tuple[str, ...] = ()


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

    def __init__(self, name: str, rule: Rule, models: Sequence[Listed]) -> None:
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
