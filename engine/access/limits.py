"""Limits on requests and tokens, for each key and each provider: token buckets that are settled by what was used.

A key that is over its limit is refused at once, with the time after which it is not: its client knows best what to do
meanwhile. A provider's limit is shared by all, so there requests wait their turn, as they do for a provider that is
busy, and are refused only where that would take too long. Either way nothing is on record of what is refused.

A turn counts as one request of its key, and each attempt as one of its provider. Tokens are taken by what is planned to
be sent, and corrected by the usage that comes back: what goes beyond the plan, the answer above all, delays the next. A
turn that has begun goes on, whatever its key has left.

All of it is in this process's memory: a start begins with full buckets, and processes do not know of each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from ..clock import Clock
from ..settings import Settings
from .bucket import Bucket
from .queue import Limited, Place, Queue, check_size, check_wait, now_us

MAX_IDLE_KEYS = 10_000
"""Beyond so many keys, those are forgotten whose buckets are full."""

Key = tuple[str, str]
"""Whose requests are counted together: tenant and actor."""


class KeyLimit(msgspec.Struct, frozen=True):
    """A limit of a key as it stands now: the ``setting``, how much it allows in a minute, what is left of that, and
    after how many seconds all of it is there again. ``counts_tokens``: else it counts requests.
    """

    setting: str
    per_min: int
    left: int
    full_in_s: float
    counts_tokens: bool


class Charge:
    """What a turn takes out of its key's buckets."""

    def __init__(self, limits: tuple[Limited, ...], clock: Clock, tokens: int) -> None:
        self._limits = limits
        self._clock = clock
        self._taken = tokens

    def settle(self, used_tokens: int, *, is_final: bool = False) -> None:
        """Count the tokens that the turn has used so far; what was taken beforehand and is left comes back at last."""
        self._correct(used_tokens if is_final else max(used_tokens, self._taken))

    def cancel(self) -> None:
        """Count nothing: the turn never began."""
        self._correct(0)
        for limit in self._limits:
            if not limit.counts_tokens:
                limit.bucket.give_back(1, now_us(self._clock))

    def _correct(self, tokens: int) -> None:
        for limit in self._limits:
            if limit.counts_tokens and tokens > self._taken:
                limit.bucket.take(tokens - self._taken, now_us(self._clock))
            elif limit.counts_tokens:
                limit.bucket.give_back(self._taken - tokens, now_us(self._clock))
        self._taken = tokens


class Admission:
    """Leave to start a turn: its charge, and the place of its first attempt where the provider has limits."""

    def __init__(self, charge: Charge, place: Place | None) -> None:
        self.charge = charge
        self.place = place
        self.is_used = False


class RateLimits:
    """The limits of one process. Without a setting there is none, and nothing is counted."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._keys: dict[Key, tuple[Limited, ...]] = {}
        self._queues: dict[str, Queue] = {}

    @contextmanager
    def admitted(self, key: Key, provider: str, tokens: int) -> Iterator[Admission]:
        """Leave to start a turn whose first request is planned to be so many tokens; what is not used counts nowhere.

        Raises RateLimited, TooLarge for a request that is larger than a whole minute's tokens, and Overloaded where too
        many wait for the provider.
        """
        limits, now = self._limits_of(key), now_us(self._clock)
        check_size(limits, tokens)
        check_wait(limits, [tokens], now, 0)
        place = self.join(provider, tokens)
        for limit in limits:
            limit.bucket.take(limit.amount(tokens), now)
        admission = Admission(Charge(limits, self._clock, tokens), place)
        try:
            yield admission
        finally:
            if not admission.is_used:
                admission.charge.cancel()
                if place is not None:
                    place.leave()

    def resumed(self, key: Key, used_tokens: int) -> Charge:
        """The account of a turn that goes on, and has used so many tokens before."""
        return Charge(self._limits_of(key), self._clock, used_tokens)

    def standing(self, key: Key) -> tuple[KeyLimit, ...]:
        """The limits of a key, and what is left of them."""
        now = now_us(self._clock)
        return tuple(
            KeyLimit(
                limit.setting,
                limit.bucket.per_min,
                limit.bucket.left(now),
                limit.bucket.full_in_us(now) / 1_000_000,
                limit.counts_tokens,
            )
            for limit in self._limits_of(key)
        )

    def join(self, provider: str, tokens: int) -> Place | None:
        """A place in the provider's queue; None where it has no limits. Raises as ``Queue.join``."""
        queue = self._queue_of(provider)
        return None if queue is None else queue.join(tokens)

    def _limits_of(self, key: Key) -> tuple[Limited, ...]:
        settings = self._settings
        if settings.key_requests_per_min is None and settings.key_tokens_per_min is None:
            return ()
        if key not in self._keys:
            self._forget_idle_keys()
            self._keys[key] = self._make("key")
        return self._keys[key]

    def _queue_of(self, provider: str) -> Queue | None:
        settings = self._settings
        if settings.provider_requests_per_min is None and settings.provider_tokens_per_min is None:
            return None
        if provider not in self._queues:
            waiting, wait_s = settings.max_provider_waiting, settings.provider_wait_s
            self._queues[provider] = Queue(self._make("provider"), self._clock, waiting, wait_s)
        return self._queues[provider]

    def _make(self, whose: str) -> tuple[Limited, ...]:
        """Full buckets for those of two settings that are set."""
        now = now_us(self._clock)
        named = {f"{whose}_requests_per_min": False, f"{whose}_tokens_per_min": True}
        per_min = {setting: getattr(self._settings, setting) for setting in named}
        return tuple(
            Limited(setting, Bucket(per_min[setting], now), counts_tokens)
            for setting, counts_tokens in named.items()
            if per_min[setting] is not None
        )

    def _forget_idle_keys(self) -> None:
        if len(self._keys) >= MAX_IDLE_KEYS:
            now = now_us(self._clock)
            is_idle = {key: all(limit.bucket.is_full(now) for limit in limits) for key, limits in self._keys.items()}
            self._keys = {key: limits for key, limits in self._keys.items() if not is_idle[key]}
