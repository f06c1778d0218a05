"""What usage costs: exact integers, rounded once, by the tier of one request, summed by currency."""

from datetime import date
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manent.engine.events.usage import Cost, Costs, Price, Tier, Usage, cost, total
from manent.engine.log.codec import canonical

SONNET = Price(currency="USD", input=3_000_000, cache_read=300_000, cache_write=3_750_000, output=15_000_000)
TIERED = Price(
    currency="USD",
    input=100_000,
    cache_read=10_000,
    cache_write=125_000,
    output=500_000,
    tier=Tier(above_input_tokens=100_000, input=500_000, cache_read=50_000, cache_write=625_000, output=2_500_000),
)

counts = st.integers(0, 10**12)
rates = st.integers(0, 10**12)
prices = st.builds(
    Price,
    currency=st.just("USD"),
    input=rates,
    cache_read=st.none() | rates,
    cache_write=st.none() | rates,
    output=rates,
)


@st.composite
def usages(draw):
    """As vendors report it: the cache classes are parts of the input."""
    read, written, plain = draw(counts), draw(counts), draw(counts)
    return Usage(read + written + plain, read, written, draw(counts))


def micros(usage, price):
    return cost(usage, price).micros


def exact(usage, price):
    """The same by fractions, as an accountant would write it."""
    parts = [
        (usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens, price.input),
        (usage.cache_read_tokens, price.input if price.cache_read is None else price.cache_read),
        (usage.cache_write_tokens, price.input if price.cache_write is None else price.cache_write),
        (usage.output_tokens, price.output),
    ]
    return sum((Fraction(tokens * rate, 10**6) for tokens, rate in parts), Fraction(0))


def plus(one, other):
    fields = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
    return Usage(*(getattr(one, field) + getattr(other, field) for field in fields))


def test_each_class_costs_its_own_rate():
    """The total input less its cache classes is what costs the rate of input."""
    assert cost(Usage(10_000, 6_000, 3_000, 500), SONNET) == Cost("USD", 3_000 + 1_800 + 11_250 + 7_500)


def test_a_class_without_a_rate_costs_what_input_costs():
    """A vendor that has no price for a cache class charges input for it."""
    price = Price(currency="USD", input=2_000_000, output=8_000_000)
    assert cost(Usage(1_000, 400, 300, 10), price) == cost(Usage(1_000, 0, 0, 10), price) == Cost("USD", 2_080)


def test_a_class_may_be_free():
    """A rate of nothing is not the same as no rate."""
    price = Price(currency="USD", input=2_000_000, cache_read=0, output=0)
    assert micros(Usage(1_000, 1_000, None, 10), price) == 0


def test_reasoning_is_part_of_the_output():
    """Nothing is charged twice."""
    assert cost(Usage(0, 0, 0, 100, reasoning_tokens=90), SONNET) == cost(Usage(0, 0, 0, 100), SONNET)


@pytest.mark.parametrize(
    ("output_tokens", "rate", "rounded"),
    [(1, 499_999, 0), (1, 500_000, 1), (1, 1_499_999, 1), (1, 1_500_000, 2), (3, 500_000, 2), (0, 500_000, 0)],
)
def test_halves_are_rounded_up(output_tokens, rate, rounded):
    """Half a micro-unit counts as one, anything less as none."""
    assert micros(Usage(0, None, None, output_tokens), Price(currency="USD", input=0, output=rate)) == rounded


def test_it_is_rounded_once():
    """Four quarters of a micro-unit are one, not none."""
    price = Price(currency="USD", input=250_000, cache_read=250_000, cache_write=250_000, output=250_000)
    assert micros(Usage(3, 1, 1, 1), price) == 1


@pytest.mark.parametrize(("tokens_in", "expected"), [(100_000, 10_000 + 500), (100_001, 50_001 + 2_500), (0, 500)])
def test_a_tier_is_for_requests_above_it_and_then_for_all_of_their_tokens(tokens_in, expected):
    """At the threshold the lower rates hold; one token more, and the whole request, output too, costs the higher."""
    assert micros(Usage(tokens_in, 0, 0, 1_000), TIERED) == expected


def test_cached_input_counts_towards_the_tier():
    """The tier goes by the total input."""
    assert micros(Usage(200_000, 200_000, 0, 0), TIERED) == 10_000


@pytest.mark.parametrize(
    ("usage", "price"),
    [
        (None, SONNET),
        (Usage(), SONNET),
        (Usage(input_tokens=5), SONNET),
        (Usage(output_tokens=5), SONNET),
        (Usage(5, 0, 0, 5), None),
    ],
)
def test_what_is_not_reported_has_no_cost(usage, price):
    """Not known is None, and never zero."""
    assert cost(usage, price) is None


def test_an_estimate_stays_one():
    """The cost of an estimated usage says so, and so does any sum that it is in."""
    guess = cost(Usage(10, output_tokens=10, estimated=True), SONNET)
    assert guess.estimated
    assert total([cost(Usage(10, 0, 0, 10), SONNET), guess]).known == (Cost("USD", 360, estimated=True),)


@pytest.mark.parametrize("usage", [Usage(5, 10, 10, 0), Usage(-5, -5, -5, -5), Usage(0, 7, None, 0)])
def test_nonsense_never_gives_money_back(usage):
    """Classes beyond the total, and negative counts, make no negative part."""
    assert micros(usage, SONNET) >= 0


@given(usages(), prices)
def test_the_cost_is_exact_to_half_a_micro_unit(usage, price):
    """Also for counts and rates far beyond any real one."""
    assert micros(usage, price) == int(exact(usage, price) + Fraction(1, 2))


@given(usages(), usages(), prices)
def test_two_requests_cost_what_they_cost_together(one, other, price):
    """Splitting changes the sum by no more than the rounding of the parts."""
    assert abs(micros(plus(one, other), price) - micros(one, price) - micros(other, price)) <= 1


@given(usages(), st.integers(0, 10**6), prices, st.sampled_from(["input_tokens", "output_tokens"]))
def test_more_never_costs_less(usage, more, price, field):
    """More input or output is never cheaper."""
    larger = msgspec.structs.replace(usage, **{field: getattr(usage, field) + more})
    assert micros(larger, price) >= micros(usage, price) >= 0


@given(st.integers(0, 200_000), st.integers(0, 200_000), st.integers(0, 1000))
def test_a_higher_tier_never_costs_less(tokens_in, more, tokens_out):
    """Nor across the threshold of a tier."""
    assert micros(Usage(tokens_in + more, 0, 0, tokens_out), TIERED) >= micros(
        Usage(tokens_in, 0, 0, tokens_out), TIERED
    )


def test_currencies_are_summed_apart():
    """One sum for each currency, in order; what is not known is counted."""
    summed = total([Cost("USD", 5), Cost("EUR", 7), None, Cost("USD", 1), None])
    assert summed == Costs((Cost("EUR", 7), Cost("USD", 6)), unknown=2)


def test_nothing_costs_nothing():
    """An empty sum has no currency."""
    assert total([]) == Costs()


one_cost = st.none() | st.builds(Cost, st.sampled_from(["USD", "EUR", "CHF"]), counts, st.booleans())


@given(st.lists(one_cost), st.lists(one_cost), st.randoms())
def test_sums_may_be_made_in_any_order(some, others, chance):
    """A session's sum is the sum of its turns' sums."""
    shuffled = [*some, *others]
    chance.shuffle(shuffled)
    assert total(some) + total(others) == total(others) + total(some) == total(shuffled)


@given(prices)
def test_a_price_can_be_a_fact(price):
    """It has a canonical form and comes back from it the same."""
    dated = msgspec.structs.replace(price, since=date(2026, 10, 7), tier=TIERED.tier)
    assert msgspec.json.decode(canonical(dated), type=Price) == dated
    assert b'"from":"2026-10-07"' in canonical(dated)


@pytest.mark.parametrize(
    "text",
    [
        '{"currency": "USD", "input": -1, "output": 1}',
        '{"currency": "USD", "input": 0.5, "output": 1}',
        '{"currency": "dollars", "input": 1, "output": 1}',
        '{"currency": "USD", "input": 1}',
        '{"currency": "USD", "input": 1, "output": 1, "cached": 1}',
        '{"currency": "USD", "input": 1, "output": 1, "tier": {"above_input_tokens": 0, "input": 1, "output": 1}}',
    ],
)
def test_a_price_is_whole_and_complete(text):
    """No fractions, no negative rates, no unknown fields, and both input and output."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Price)
