"""The requests that wait for a provider's limits, first come first served.

A request has its place in the queue before its turn is recorded, so that one that would wait too long is refused while
nothing is on record. What comes back unused lets the next one go earlier.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from ..clock import Clock
from ..errors import Overloaded, RateLimited, TooLarge
from .bucket import Bucket

SLACK_S = 1.0
"""By how much a wait may be longer than was foreseen: those ahead may use more than they were planned with."""


class Limited(msgspec.Struct, frozen=True):
    """A bucket, and the setting that it stands for. ``counts_tokens``: else it counts requests."""

    setting: str
    bucket: Bucket
    counts_tokens: bool

    def amount(self, tokens: int) -> int:
        """What a request of so many tokens takes out of it."""
        return tokens if self.counts_tokens else 1


def now_us(clock: Clock) -> int:
    """The time by which buckets are filled."""
    return int(clock.monotonic_s() * 1_000_000)


def check_size(limits: Sequence[Limited], tokens: int) -> None:
    """Raises TooLarge for a request that would wait for ever."""
    for limit in limits:
        maximum = limit.bucket.per_min
        if limit.amount(tokens) > maximum:
            detail = f"the request is {tokens} tokens, and {limit.setting} allows {maximum}"
            raise TooLarge(detail, limit=limit.setting, maximum=maximum)


def check_wait(limits: Sequence[Limited], tokens: Sequence[int], now_us: int, most_wait_s: float) -> None:
    """Raises RateLimited where requests of so many tokens each would wait longer than they may for the last of them."""
    waits = [(limit.bucket.wait_us(sum(map(limit.amount, tokens)), now_us), limit) for limit in limits]
    wait_us, longest = max(waits, key=lambda each: each[0], default=(0, None))
    if longest is not None and wait_us > most_wait_s * 1_000_000:
        raise over(longest, wait_us / 1_000_000)


def over(limit: Limited, wait_s: float) -> RateLimited:
    """The refusal of a request that is over a limit, with the seconds after which it would not be."""
    maximum = limit.bucket.per_min
    what = "tokens" if limit.counts_tokens else "requests"
    detail = f"more {what} a minute were asked for than {limit.setting} allows ({maximum})"
    return RateLimited(detail, limit=limit.setting, maximum=maximum, retry_after_s=max(1, math.ceil(wait_s)))


class Place:
    """One request's place in a queue: to be held while it is sent, then settled, or left."""

    def __init__(self, queue: Queue, tokens: int) -> None:
        self.tokens = tokens
        self.granted = asyncio.get_running_loop().create_future()
        self._queue = queue
        self._is_over = False

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Wait until the request may be sent. Raises RateLimited if that takes too long. What refuses to send it after
        all gives its place back.
        """
        try:
            await self._queue.wait(self)
        except BaseException:
            self.leave()
            raise
        try:
            yield
        except Overloaded:
            self.leave()
            raise

    def leave(self) -> None:
        """Give up a request that was not sent: it counts nowhere."""
        if not self._is_over:
            self._is_over = True
            self._queue.remove(self)

    def settle(self, used_tokens: int) -> None:
        """Count what the request used in place of what it was planned with."""
        if not self._is_over:
            self._is_over = True
            self._queue.correct(self.tokens - used_tokens)


class Queue:
    """The queue before one provider. At most ``max_waiting`` wait in it, and none longer than ``most_wait_s``."""

    def __init__(self, limits: Sequence[Limited], clock: Clock, max_waiting: int, most_wait_s: float) -> None:
        self._limits = limits
        self._clock = clock
        self._max_waiting = max_waiting
        self._most_wait_s = most_wait_s
        self._waiting: deque[Place] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def check(self, tokens: int) -> None:
        """Raises what ``join`` does; nothing is taken."""
        check_size(self._limits, tokens)
        ahead = [place.tokens for place in self._waiting]
        check_wait(self._limits, [*ahead, tokens], now_us(self._clock), self._most_wait_s)
        if len(ahead) >= self._max_waiting:
            wait_s = math.ceil(self._most_wait_s)
            detail = "too many requests wait for this provider"
            raise Overloaded(detail, limit="max_provider_waiting", retry_after_s=wait_s)

    def join(self, tokens: int) -> Place:
        """A place for a request of so many tokens. Raises TooLarge, Overloaded, or RateLimited if it would wait longer
        than it may.
        """
        self.check(tokens)
        place = Place(self, tokens)
        self._waiting.append(place)
        self._advance()
        return place

    async def wait(self, place: Place) -> None:
        """Until the place is granted."""
        try:
            async with asyncio.timeout(self._most_wait_s + SLACK_S):
                await asyncio.shield(place.granted)
        except TimeoutError:
            now = now_us(self._clock)
            limit = max(self._limits, key=lambda each: each.bucket.wait_us(each.amount(place.tokens), now))
            raise over(limit, limit.bucket.wait_us(limit.amount(place.tokens), now) / 1_000_000) from None

    def remove(self, place: Place) -> None:
        """Take a request out that was not sent."""
        if place.granted.done():
            for limit in self._limits:
                limit.bucket.give_back(limit.amount(place.tokens), now_us(self._clock))
        else:
            self._waiting.remove(place)
        self._advance()

    def correct(self, unused_tokens: int) -> None:
        """Give back tokens that a request did not use; fewer than none were used beyond its plan."""
        for limit in self._limits:
            if limit.counts_tokens and unused_tokens > 0:
                limit.bucket.give_back(unused_tokens, now_us(self._clock))
            elif limit.counts_tokens:
                limit.bucket.take(-unused_tokens, now_us(self._clock))
        self._advance()

    def _advance(self) -> None:
        """Let go who may, and come back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            now, tokens = now_us(self._clock), self._waiting[0].tokens
            wait_us = max(limit.bucket.wait_us(limit.amount(tokens), now) for limit in self._limits)
            if wait_us:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(wait_us / 1_000_000, self._advance)
                return
            for limit in self._limits:
                limit.bucket.take(limit.amount(tokens), now)
            self._waiting.popleft().granted.set_result(None)
