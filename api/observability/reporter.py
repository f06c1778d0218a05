"""The reporter: hears what happens in the engine and at the edge, counts it, and logs what an operator must know."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from ...engine import EndedAttempt, EndedTurn, Engine, Observer, StoreError
from .log_lines import event
from .metrics import OTHER, Metrics

log = logging.getLogger("manent.server")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SERVER_ERROR = 500
NO_FAILURE = frozenset({"completed", "cancelled", "shutdown", "server_lost"})
"""Outcomes of attempts that did not fail, or were stopped with their turn, which says so."""

_TYPE = re.compile(r":\w+\}")


class Answered(msgspec.Struct, frozen=True):
    """A request that was answered. ``template``: its route's path, as it is registered; ``code``: why it was refused,
    or failed.
    """

    method: str
    template: str | None
    status: int
    seconds: float
    request_id: str
    principal: str | None = None
    code: str | None = None
    failed: bool = False


class Reporter(Observer):
    """Metrics and log lines of one server."""

    def __init__(self) -> None:
        self._metrics = Metrics()

    async def metrics(self, chat: Engine) -> str:
        """All metrics as Prometheus reads them. A database that cannot be read takes away its own only."""
        try:
            standing = await chat.serving.standing()
        except StoreError:
            standing = None
        return "\n".join(self._metrics.lines(chat.serving.load, standing)) + "\n"

    # --- at the edge ------------------------------------------------------------------------------------------------

    def answered(self, request: Answered) -> None:
        """A request was answered, or its client has left."""
        route = OTHER if request.template is None else route_of(request.template)
        self._metrics.requests.add(route, str(request.status))
        event(
            log,
            logging.WARNING if request.failed or request.status >= SERVER_ERROR else logging.INFO,
            "request",
            method=request.method if request.method in METHODS else OTHER,
            route=route,
            status=request.status,
            ms=round(request.seconds * 1000, 1),
            request_id=request.request_id,
            principal=request.principal,
            code=request.code,
        )

    # --- in the engine ----------------------------------------------------------------------------------------------

    def opened(self, models: Iterable[str], providers: Iterable[str]) -> None:
        self._metrics.know(models, providers)

    def attempt_ended(self, attempt: EndedAttempt) -> None:
        self._metrics.attempt_ended(attempt)
        if attempt.outcome not in NO_FAILURE:
            provider, model = self._metrics.names(attempt.provider, attempt.model)
            event(
                log,
                logging.WARNING,
                "attempt_failed",
                turn_id=str(attempt.turn_id),
                request_id=attempt.request_id,
                provider=provider,
                model=model,
                attempt=attempt.attempt,
                code=attempt.outcome,
                status=attempt.status,
                ms=attempt.duration_ms,
            )

    def turn_ended(self, turn: EndedTurn) -> None:
        self._metrics.turn_ended(turn)
        provider, model = self._metrics.names(turn.provider, turn.model)
        level = logging.WARNING if turn.outcome in {"failed", "interrupted"} else logging.DEBUG
        event(
            log,
            level,
            f"turn_{turn.outcome}",
            turn_id=str(turn.turn_id),
            request_id=turn.request_id,
            provider=provider,
            model=model,
            code=turn.code,
            ms=turn.duration_ms,
        )

    def append_took(self, seconds: float) -> None:
        self._metrics.append.observe(seconds)

    def flush_took(self, seconds: float) -> None:
        self._metrics.flush.observe(seconds)

    def breaker_changed(self, provider: str, *, is_open: bool) -> None:
        level = logging.WARNING if is_open else logging.INFO
        event(log, level, "breaker_opened" if is_open else "breaker_closed", provider=provider)

    def damage_found(self, tenant: str, position: int) -> None:
        event(log, logging.ERROR, "record_damaged", tenant=tenant, position=position)

    def checkpoint_signed(self, tenant: str, size: int) -> None:
        event(log, logging.INFO, "checkpoint", tenant=tenant, size=size)


@lru_cache
def route_of(template: str) -> str:
    """A route's path as the OpenAPI document has it: without the types of its parameters."""
    return _TYPE.sub("}", template)
