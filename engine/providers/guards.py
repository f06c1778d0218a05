"""What stands before each provider: a limit on requests at once, and a breaker. One set for all turns of a process."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from engine.clock import Clock
from engine.errors import CircuitOpen, ProviderError
from engine.providers.breaker import Breaker, Permit, Slots, counts_as_fault
from engine.settings import Settings


class Guards:
    """A breaker and slots for each provider, made when it is first asked."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._by_name: dict[str, tuple[Breaker, Slots]] = {}

    @asynccontextmanager
    async def request(self, provider: str) -> AsyncIterator[Callable[[], None]]:
        """Leave to send one request; what it gives is to be called with the answer's first chunk, which lets the others
        in after an outage. That the provider is well is known at the answer's end.

        Raises Overloaded where too many ask at once, and CircuitOpen while the provider is left alone. What the body
        raises decides what is thought of the provider.
        """
        breaker, slots = self._guards_of(provider)
        async with slots.slot():
            permit = breaker.admit(self._clock.monotonic_s())
            if not isinstance(permit, Permit):
                raise CircuitOpen(f"{provider} has failed too often lately", retry_after_s=math.ceil(permit))
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

    def _guards_of(self, provider: str) -> tuple[Breaker, Slots]:
        if provider not in self._by_name:
            wanted = self._settings
            self._by_name[provider] = (
                Breaker(wanted.breaker_failures, wanted.breaker_window_s, wanted.breaker_open_s),
                Slots(wanted.max_provider_requests, wanted.max_provider_waiting, wanted.provider_wait_s),
            )
        return self._by_name[provider]


def _nothing() -> None:
    """A first chunk decides a trial, and nothing else."""
