"""Usage of attempts, prices and costs, as they stand among facts, and their arithmetic.

Money is integer micro-units and a currency.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

Micros = Annotated[int, Meta(ge=0, le=10**12)]


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one or more attempts. ``input_tokens`` is the total and the cache classes are parts of it;
    ``output_tokens`` includes reasoning; None is *not reported*; ``estimated``: counted here, not by the vendor.
    """

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: bool = False


class Rates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Micro-units for a million tokens. A cache class that has no rate of its own costs what input costs."""

    input: Micros
    cache_read: Micros | None = None
    cache_write: Micros | None = None
    output: Micros


class Tier(Rates, frozen=True, kw_only=True):
    """The rates of all tokens of a request that has more input tokens than this."""

    above_input_tokens: Annotated[int, Meta(ge=1)]


class Price(Rates, frozen=True, kw_only=True, rename={"since": "from"}):
    """Rates in a currency, from a day on (UTC); without a day, for as long as the model has been there."""

    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")]
    since: date | None = None
    tier: Tier | None = None


class Cost(msgspec.Struct, frozen=True, omit_defaults=True):
    """``micros``: millionths of the currency. ``estimated``: of tokens that were counted here, not by the vendor."""

    currency: str
    micros: int
    estimated: bool = False


class Costs(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sum: one cost for each currency, in order of its name. ``unknown``: how many attempts are missing in it,
    because their price or their usage is not known.
    """

    known: tuple[Cost, ...] = ()
    unknown: int = 0

    def __add__(self, other: Costs) -> Costs:
        sums: dict[str, Cost] = {}
        for each in self.known + other.known:
            so_far = sums.get(each.currency, Cost(each.currency, 0))
            sums[each.currency] = Cost(each.currency, so_far.micros + each.micros, so_far.estimated or each.estimated)
        return Costs(tuple(sums[currency] for currency in sorted(sums)), self.unknown + other.unknown)


TOKENS_PER_PRICE = 1_000_000


def cost(usage: Usage | None, price: Price | None) -> Cost | None:
    """The cost of one attempt; None if there is no price, or if input or output is not reported.

    A cache class that is not reported is taken for none. Classes that exceed the input are charged as they stand.
    """
    if usage is None or price is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    tokens_in = max(0, usage.input_tokens)
    read, written = max(0, usage.cache_read_tokens or 0), max(0, usage.cache_write_tokens or 0)
    rates = _rates(price, tokens_in)
    exact = (
        max(0, tokens_in - read - written) * rates.input
        + read * (rates.input if rates.cache_read is None else rates.cache_read)
        + written * (rates.input if rates.cache_write is None else rates.cache_write)
        + max(0, usage.output_tokens) * rates.output
    )
    return Cost(price.currency, (exact + TOKENS_PER_PRICE // 2) // TOKENS_PER_PRICE, usage.estimated)


def total(costs: Iterable[Cost | None]) -> Costs:
    """The sum of the costs of attempts; None is one that is not known."""
    return sum((Costs(unknown=1) if each is None else Costs((each,)) for each in costs), Costs())


def _rates(price: Price, input_tokens: int) -> Rates:
    tier = price.tier
    return tier if tier is not None and input_tokens > tier.above_input_tokens else price
