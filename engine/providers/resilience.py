"""Resilience towards a provider: retry delays, a circuit breaker, and a limit of concurrent requests.

Time and randomness come from the caller, so all of it except ``Slots`` is arithmetic.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

import msgspec

from ..clock import Clock
from ..errors import CircuitOpen, Overloaded, ProviderError, ProviderTimedOut, ProviderTruncated, ProviderUnavailable
from ..settings import Settings
from .wire.failures import LASTING

# Rate limits of one caller, in the vendors' words: an error object in a stream has them without a status.
_LIMITS = frozenset({"insufficient_quota", "rate_limit_error", "rate_limit_exceeded"})
_MOST_DOUBLINGS = 64


# --- retries ----------------------------------------------------------------------------------------------------------


def backoff_s(attempt: int, base_s: float, cap_s: float, jitter: float) -> float:
    """The delay after the ``attempt``-th failure (from 1): a random part, given by ``jitter`` (0 to 1), of ``base_s``
    doubled with each failure, at most ``cap_s``. This is *full jitter* of "Exponential Backoff And Jitter" (AWS
    Architecture Blog): callers that failed together do not retry together.
    """
    return jitter * min(cap_s, math.ldexp(base_s, min(max(attempt, 1) - 1, _MOST_DOUBLINGS)))


def next_delay_s(
    attempt: int, *, base_s: float, cap_s: float, jitter: float, left_s: float, retry_after_s: float | None = None
) -> float | None:
    """The delay before the next attempt; None if it would not begin within ``left_s`` seconds.

    It is never shorter than the provider asked for. The backoff is added to that, because all refused callers were told
    the same delay.
    """
    delay_s = (retry_after_s or 0.0) + backoff_s(attempt, base_s, cap_s, jitter)
    return delay_s if delay_s < left_s else None


# --- the circuit breaker ----------------------------------------------------------------------------------------------


def counts_as_fault(error: ProviderError) -> bool:
    """True if a failure counts against the provider: it was not reached, took too long, broke off, or failed on its
    side (5xx, 529). A 4xx, also 429, is about one caller or one request, and so is a 5xx that blames the request; an
    answer that breaks the protocol is about the address.
    """
    if error.status is not None and error.status < 500:
        return False
    if isinstance(error, ProviderTimedOut | ProviderTruncated):
        return True
    if error.status is not None:
        return error.vendor_code not in LASTING
    return isinstance(error, ProviderUnavailable) and error.vendor_code not in _LIMITS


class Permit(msgspec.Struct, frozen=True):
    """Permission for one request. ``trial``: the request that finds out if the provider has recovered."""

    era: int
    trial: bool = False


class CircuitBreaker:
    """A circuit breaker: it stops requests to a provider that keeps failing.

    *Closed*, it lets all requests through, until ``failures`` faults come in a row within ``window_s`` seconds. *Open*,
    it refuses for ``open_s`` seconds. Then, *half open*, it lets one trial through: if that succeeds the breaker is
    closed, if it fails it is open again, and if it is abandoned the next request is the trial.

    Every permit must be reported: ``succeeded`` for an answer, ``failed`` for what ``counts_as_fault``, ``gave_up`` for
    the rest (a 4xx, a client's cancel). A trial may be reported as succeeded with its first chunk, so that others need
    not wait for its end. A report counts only until the breaker changes its state: a request from before an outage
    neither ends it nor decides a trial. ``changed`` is told when it leaves the closed state, and when it comes back to
    it.
    """

    def __init__(
        self, failures: int, window_s: float, open_s: float, changed: Callable[[bool], None] | None = None
    ) -> None:
        assert failures >= 1, failures
        self._changed = changed
        self._window_s = window_s
        self._open_s = open_s
        self._faults: deque[float] = deque(maxlen=failures)
        self._era = 0
        self._open_until_s: float | None = None
        self._on_trial = False

    @property
    def is_open(self) -> bool:
        """True if it is not closed: half open counts as open."""
        return self._open_until_s is not None

    def refuses(self, now_s: float) -> bool:
        """True if it would let no request through now, not even a trial."""
        return self._open_until_s is not None and (now_s < self._open_until_s or self._on_trial)

    def admit(self, now_s: float) -> Permit | float:
        """A permit, or the seconds to wait before the next request; while a trial runs that is a guess."""
        if self._open_until_s is None:
            return Permit(self._era)
        if now_s < self._open_until_s:
            return self._open_until_s - now_s
        if self._on_trial:
            return self._open_s
        self._on_trial = True
        return Permit(self._era, trial=True)

    def succeeded(self, permit: Permit) -> None:
        """The provider answered."""
        if permit.era != self._era:
            return
        self._faults.clear()
        if permit.trial:
            self._turn(None)

    def failed(self, permit: Permit, now_s: float) -> None:
        """The provider failed."""
        if permit.era != self._era:
            return
        self._faults.append(now_s)
        is_full = len(self._faults) == self._faults.maxlen
        if permit.trial or (is_full and now_s - self._faults[0] <= self._window_s):
            self._turn(now_s + self._open_s)

    def gave_up(self, permit: Permit) -> None:
        """The request ended without an answer about the provider's health."""
        if permit.era == self._era and permit.trial:
            self._turn(self._open_until_s)

    def _turn(self, open_until_s: float | None) -> None:
        was_open = self.is_open
        self._era += 1
        self._open_until_s = open_until_s
        self._on_trial = False
        if self._changed is not None and self.is_open != was_open:
            self._changed(self.is_open)


# --- concurrency ------------------------------------------------------------------------------------------------------


class Slots:
    """Slots for concurrent requests: at most ``limit`` at once, the rest in a queue, first come first served; at most
    ``max_waiting`` wait, and none longer than ``max_wait_s``. asyncio guarantees fairness, and that a cancelled request
    keeps no slot.
    """

    def __init__(self, limit: int, max_waiting: int, max_wait_s: float) -> None:
        assert limit >= 1, limit
        self._free = asyncio.Semaphore(limit)
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._waiting = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot. Raises Overloaded if too many wait already, or if none is free in time."""
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()  # does not suspend
        try:
            yield
        finally:
            self._free.release()

    async def _wait(self) -> None:
        if self._waiting >= self._max_waiting:
            raise self._overloaded("too many requests wait for this provider", "max_provider_waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._max_wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise self._overloaded("too many requests run at this provider", "max_provider_requests") from None
        finally:
            self._waiting -= 1

    def _overloaded(self, detail: str, limit: str) -> Overloaded:
        return Overloaded(detail, limit=limit, retry_after_s=math.ceil(self._max_wait_s))


class Changed(Protocol):
    """Told when a provider's breaker opens, and when it closes."""

    def __call__(self, provider: str, /, *, is_open: bool) -> None: ...


class Guards:
    """A breaker and slots for each provider, made when it is first asked. ``changed`` hears of the breakers."""

    def __init__(self, settings: Settings, clock: Clock, changed: Changed | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._changed = changed
        self._by_name: dict[str, tuple[CircuitBreaker, Slots]] = {}

    def open_breakers(self) -> frozenset[str]:
        """The providers that are left alone now."""
        return frozenset(name for name, (breaker, _) in self._by_name.items() if breaker.is_open)

    def left_alone(self) -> frozenset[str]:
        """The providers that would refuse a request now. May be called from any thread."""
        now_s = self._clock.monotonic_s()
        return frozenset(name for name, (breaker, _) in [*self._by_name.items()] if breaker.refuses(now_s))

    @asynccontextmanager
    async def request(self, provider: str) -> AsyncIterator[Callable[[], None]]:
        """Permission to send one request. It yields a function to call with the answer's first chunk, which closes the
        breaker after an outage; otherwise the provider's health is known at the answer's end.

        Raises Overloaded if too many requests run or wait, and CircuitOpen while the breaker is open. The exception of
        the body decides how the request counts.
        """
        breaker, slots = self._guards_of(provider)
        async with slots.slot():
            permit = breaker.admit(self._clock.monotonic_s())
            if not isinstance(permit, Permit):
                raise CircuitOpen(
                    f"{provider} has failed too often: its circuit breaker is open", retry_after_s=math.ceil(permit)
                )
            answered = partial(breaker.succeeded, permit) if permit.trial else _nothing
            try:
                yield answered
            except ProviderError as error:
                if counts_as_fault(error):
                    breaker.failed(permit, self._clock.monotonic_s())
                else:
                    breaker.gave_up(permit)
                raise
            except BaseException:
                breaker.gave_up(permit)
                raise
            else:
                breaker.succeeded(permit)

    def _guards_of(self, provider: str) -> tuple[CircuitBreaker, Slots]:
        if provider not in self._by_name:
            wanted = self._settings
            self._by_name[provider] = (
                CircuitBreaker(
                    wanted.breaker_failures, wanted.breaker_window_s, wanted.breaker_open_s, self._told_of(provider)
                ),
                Slots(wanted.max_provider_requests, wanted.max_provider_waiting, wanted.provider_wait_s),
            )
        return self._by_name[provider]

    def _told_of(self, provider: str) -> Callable[[bool], None]:
        def changed(is_open: bool) -> None:  # noqa: FBT001 - the breaker's only news
            if self._changed is not None:
                self._changed(provider, is_open=is_open)

        return changed


def _nothing() -> None:
    """Nothing: only a trial is decided by its first chunk."""
