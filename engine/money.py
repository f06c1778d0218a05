"""What usage costs: integer micro-units of a currency, from a dated price.

Pure. A price is micro-units for a million tokens; a cost is exact in integers and rounded once, half up, at its end.
Tiers go by the input of one request, so each attempt is costed by itself and the costs are summed, never the usage.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.usage import Cost as Cost  # noqa: PLC0414 - what this module is about, for those who only use it
from engine.usage import Costs as Costs  # noqa: PLC0414
from engine.usage import Price as Price  # noqa: PLC0414
from engine.usage import Rates as Rates  # noqa: PLC0414
from engine.usage import Tier as Tier  # noqa: PLC0414
from engine.usage import Usage

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
