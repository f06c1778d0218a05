"""What attempts use and what that costs: the figures that stand among facts. Their arithmetic is in ``money``.

Money is integer micro-units and a currency.
"""

from __future__ import annotations

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
