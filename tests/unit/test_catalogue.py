"""The catalogue: the shipped data, how names are found, which price held on a day, and what may be laid over it."""

import json
import re
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manent.engine.clock import SystemClock
from manent.engine.errors import Invalid
from manent.engine.providers import catalogue
from manent.engine.providers.assemble import make_providers
from manent.engine.providers.catalogue import DATA, Catalogue
from manent.engine.providers.tokens import UNKNOWN
from manent.engine.settings import Settings

SHIPPED = Catalogue.load()
TODAY = date(2026, 11, 22)


def every_entry():
    return [*SHIPPED.models("anthropic"), *SHIPPED.models("openai")]


def file(*models, **header):
    return json.dumps({"as_of": "2027-01-02", "models": models} | header).encode()


def model(name="m", *, provider="p", **fields):
    return {"provider": provider, "name": name} | fields


def price(day=None, *, input=1, output=2, **rates):  # noqa: A002 - the field's name
    return ({"from": day} if day else {}) | {"input": input, "output": output} | rates


def read(*models, **header):
    return Catalogue.read(("models.json", file(*models, **header)))


def names(provider):
    return [entry.name for entry in SHIPPED.models(provider)]


# --- what is shipped --------------------------------------------------------------------------------------------------


def test_the_shipped_file_is_dated_and_says_where_it_is_from():
    """Its day, its currency and its sources stand in its header."""
    header = json.loads(Path(catalogue.__file__).with_name(DATA).read_bytes())
    assert SHIPPED.as_of == date.fromisoformat(header["as_of"])
    assert header["currency"] == "USD"
    assert len(SHIPPED.sources) >= 3


@pytest.mark.parametrize("entry", every_entry(), ids=lambda entry: entry.name)
def test_each_shipped_model_is_complete(entry):
    """Sizes, capabilities, and a price that holds today; a family that its tokens are counted by."""
    assert 0 < entry.max_output_tokens <= entry.context_tokens
    assert "text" in entry.capabilities
    assert entry.info().price_at(TODAY) is not None
    assert entry.info().family != UNKNOWN.name
    assert all(each.since is None or each.since <= SHIPPED.as_of for each in entry.prices)


@pytest.mark.parametrize("entry", every_entry(), ids=lambda entry: entry.name)
def test_shipped_prices_are_plausible(entry):
    """What is read from a cache is no dearer than input, what is written about a quarter dearer, output costs more than
    input, a tier more than what is below it: a slip of a digit breaks one of these.
    """
    for each in [*entry.prices, *(each.tier for each in entry.prices if each.tier)]:
        assert each.output > each.input > 0
        assert each.cache_read is None or 40 * each.cache_read >= each.input >= each.cache_read
        assert each.cache_write is None or 1.2 <= each.cache_write / each.input <= 1.25
    for each in entry.prices:
        assert each.tier is None or (each.tier.input > each.input and each.tier.output > each.output)


@pytest.mark.parametrize(
    ("provider", "name", "rates"),
    [
        ("anthropic", "claude-sonnet-4-6", (3_000_000, 300_000, 3_750_000, 15_000_000)),
        ("anthropic", "claude-haiku-4-5", (1_000_000, 100_000, 1_250_000, 5_000_000)),
        ("anthropic", "claude-opus-5-5", (4_000_000, 200_000, 5_000_000, 20_000_000)),
        ("openai", "gpt-4o", (2_500_000, 1_250_000, None, 10_000_000)),
        ("openai", "gpt-5", (1_250_000, 125_000, None, 10_000_000)),
        ("openai", "gpt-6-luna", (100_000, 10_000, 125_000, 500_000)),
    ],
)
def test_a_model_costs_what_its_vendor_says(provider, name, rates):
    """Input, cache read, cache write, output: micro-units of a dollar for a million tokens."""
    found = SHIPPED.find(provider, name).info().price_at(TODAY)
    assert (found.input, found.cache_read, found.cache_write, found.output) == rates
    assert found.currency == "USD"


def test_the_vendors_families_are_covered():
    """From Claude 3.5 and GPT-4o to the newest."""
    assert {"claude-3-5-haiku", "claude-sonnet-4-5", "claude-opus-4-7", "claude-sonnet-5-5"} <= set(names("anthropic"))
    assert {"gpt-4o-mini", "gpt-4.1", "o3", "o4-mini", "gpt-5-nano", "gpt-5.4", "gpt-6-sol"} <= set(names("openai"))
    assert SHIPPED.models("nobody") == ()


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "asked", "name"),
    [
        ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("anthropic", "claude-3-5-haiku-20241022", "claude-3-5-haiku"),
        ("anthropic", "claude-3-5-haiku-latest", "claude-3-5-haiku"),
        ("anthropic", "claude-opus-4-20250514", "claude-opus-4"),
        ("anthropic", "claude-opus-4-0", "claude-opus-4"),
        ("anthropic", "claude-opus-4-1-20250805", "claude-opus-4-1"),
        ("openai", "gpt-5-2025-08-07", "gpt-5"),
        ("openai", "gpt-5.6", "gpt-5.6-sol"),
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
    ],
)
def test_a_snapshot_or_an_alias_is_its_model(provider, asked, name):
    """The date is taken off, unless the snapshot has an entry of its own."""
    assert SHIPPED.find(provider, asked).name == name


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("anthropic", "gpt-5"),
        ("openai", "gpt-5-2025-08"),
        ("openai", "gpt-5-99999999"),
        ("openai", "gpt-5-20250807-x"),
        ("openai", "gpt-55"),
        ("openai", "-2025-08-07"),
        ("openai", ""),
    ],
)
def test_what_is_not_known_is_not_guessed(provider, name):
    """Neither another provider's model, nor a name that merely begins like one, nor half a date."""
    assert SHIPPED.find(provider, name) is None


def test_a_model_is_described_by_the_name_that_was_asked_for():
    """A snapshot is sent to the vendor as a snapshot."""
    entry = SHIPPED.find("anthropic", "claude-sonnet-4-5-20250929")
    info = entry.info("claude-sonnet-4-5-20250929")
    assert (info.name, info.family, info.context_tokens, info.max_output_tokens) == (
        "claude-sonnet-4-5-20250929",
        "claude",
        200_000,
        64_000,
    )
    assert entry.info().name == "claude-sonnet-4-5"


# --- days -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "cache_read"),
    [("2026-09-27", None), ("2026-09-28", 200_000), ("2026-10-06", 200_000), ("2026-10-07", 100_000)],
)
def test_the_newest_price_of_the_day_holds(day, cache_read):
    """A price holds from its own day until the next one's; before the first, none is known."""
    found = SHIPPED.find("anthropic", "claude-sonnet-5-5").info().price_at(date.fromisoformat(day))
    assert (found and found.cache_read) == cache_read


def test_a_price_without_a_day_holds_from_the_beginning():
    """It is the oldest, wherever it stands in the file."""
    entry = read(model(prices=[price("2026-03-01", input=2), price(input=1)])).find("p", "m")
    assert [entry.info().price_at(day).input for day in (date.min, date(2026, 2, 28), date(2026, 3, 1))] == [1, 1, 2]


def test_a_model_without_prices_has_none():
    """Not known is None, and so are sizes and capabilities."""
    entry = read(model()).find("p", "m")
    assert entry.info().price_at(date.max) is None
    assert (entry.context_tokens, entry.max_output_tokens, entry.capabilities) == (None, None, None)


@given(st.sets(st.dates(), min_size=1), st.dates(), st.randoms())
def test_the_order_in_the_file_does_not_matter(days, asked, chance):
    """Among the days not after the one asked for, the last one wins."""
    prices = [price(day.isoformat(), input=number) for number, day in enumerate(sorted(days))]
    chance.shuffle(prices)
    found = read(model(prices=prices)).find("p", "m").info().price_at(asked)
    assert (found and found.since) == max((day for day in days if day <= asked), default=None)


# --- laid over --------------------------------------------------------------------------------------------------------


def overridden(tmp_path, *models, **header):
    path = tmp_path / "mine.json"
    path.write_bytes(file(*models, **header))
    return Catalogue.load(path)


def test_an_override_changes_what_it_names(tmp_path):
    """A field that it gives is replaced, as a whole; the others stay, and so do the other models."""
    mine = overridden(tmp_path, model("gpt-5", provider="openai", prices=[price("2026-01-01", input=7)]))
    entry, shipped = mine.find("openai", "gpt-5"), SHIPPED.find("openai", "gpt-5")
    assert entry.info().price_at(TODAY).input == 7
    assert entry.info().price_at(date(2026, 1, 1) - timedelta(days=1)) is None
    assert (entry.context_tokens, entry.capabilities) == (shipped.context_tokens, shipped.capabilities)
    assert mine.find("openai", "gpt-5-mini") == SHIPPED.find("openai", "gpt-5-mini")
    assert [each.name for each in mine.models("openai")] == names("openai")


def test_an_override_adds_models_and_providers(tmp_path):
    """New ones come after the known ones."""
    mine = overridden(tmp_path, model("gpt-9", provider="openai"), model("llama", provider="house", aliases=["big"]))
    assert mine.models("openai")[-1].name == "gpt-9"
    assert mine.find("house", "big-2027-01-01").name == "llama"


def test_an_override_has_its_own_day_currency_and_sources(tmp_path):
    """Its currency is that of its own prices; the catalogue is as new as its newest file."""
    mine = overridden(tmp_path, model("gpt-5", provider="openai", prices=[price()]), currency="EUR", sources=["us"])
    assert mine.find("openai", "gpt-5").info().price_at(TODAY).currency == "EUR"
    assert mine.find("openai", "gpt-4o").info().price_at(TODAY).currency == "USD"
    assert mine.as_of == date(2027, 1, 2)
    assert mine.sources == (*SHIPPED.sources, "us")


def test_an_override_can_forget_what_is_known(tmp_path):
    """Null is *not known*, and no prices are no prices."""
    mine = overridden(tmp_path, model("gpt-5", provider="openai", context_tokens=None, prices=[]))
    assert mine.find("openai", "gpt-5").context_tokens is None
    assert mine.find("openai", "gpt-5").info().price_at(TODAY) is None


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([{"name": "m"}], "models[0] needs provider and name"),
        ([model(), model()], "p/m: is listed twice"),
        ([model(context_tokens="many")], "p/m: Expected `int | null`, got `str` - at `$.context_tokens`"),
        ([model(max_output_tokens=0)], "p/m: Expected `int` >= 1 - at `$.max_output_tokens`"),
        ([model(colour="red")], "p/m: Object contains unknown field `colour`"),
        ([model(capabilities=["flight"])], "p/m: Invalid enum value 'flight' - at `$.capabilities[0]`"),
        ([model(prices=[price(), 5])], "p/m: Expected `object`, got `int` - at `$.prices[1]`"),
        ([model(prices=[price(input=0.5)])], "p/m: Expected `int`, got `float` - at `$.prices[0].input`"),
        ([model(prices=[price("soon")])], "p/m: Invalid RFC3339 encoded date - at `$.prices[0].from`"),
        (
            [model(prices=[price(tier={"above_input_tokens": 5})])],
            "missing required field `input` - at `$.prices[0].tier`",
        ),
        ([model(prices=[price("2026-01-01"), price("2026-01-01")])], "p/m: prices: two are from the same day"),
        ([model(), model("n", aliases=["m"])], "p/n: aliases: m is also m's"),
        ([model("gpt-9", provider="openai", aliases=["gpt-5"])], "openai/gpt-9: aliases: gpt-5 is also gpt-5's"),
    ],
)
def test_a_slip_is_named_by_file_model_and_field(tmp_path, models, said):
    """Whoever wrote the file finds the place."""
    with pytest.raises(Invalid, match=re.escape(said)) as refused:
        overridden(tmp_path, *models)
    assert refused.value.detail.startswith("models_file: mine.json: ")
    assert refused.value.extra["field"] == "models_file"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"models": []}', b'{"as_of": "2026-13-01", "models": []}', b"\xff", b'{"as_of": 5}']
)
def test_what_is_no_catalogue_is_refused(tmp_path, data):
    """Broken JSON, another shape, no day."""
    path = tmp_path / "mine.json"
    path.write_bytes(data)
    with pytest.raises(Invalid, match=r"^models_file: mine\.json: "):
        Catalogue.load(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    """By its name, without its folder."""
    with pytest.raises(Invalid, match=r"^models_file: none\.json cannot be read: FileNotFoundError$"):
        Catalogue.load(tmp_path / "none.json")
    (tmp_path / "huge.json").write_bytes(b" " * (4 << 20) + b" ")
    with pytest.raises(Invalid, match=r"huge\.json is larger than"):
        Catalogue.load(tmp_path / "huge.json")


def test_a_file_of_models_is_read_also_where_no_vendor_needs_it_yet(tmp_path):
    """One that is missing is refused at the start, and not when the first key comes."""
    settings = Settings(models_file=str(tmp_path / "nowhere.json"))
    with pytest.raises(Invalid, match="models_file"):
        make_providers(settings, SystemClock())
