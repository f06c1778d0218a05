"""Two bodies have one canonical form if and only if they say the same, however each is written."""

import json
from decimal import Decimal
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from manent.api.http.errors import Problem
from manent.api.http.meaning import meaning_of_json, meaning_of_query
from tests.api.conftest import STRANGE

EXAMPLES = 60

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    [STRANGE, "", "1", "1e0", "null", "true", "\0", "\u2028", "é", "e\u0301", "a\\u0062", '"', "😀"]
)
numbers = st.builds(
    lambda coefficient, exponent: Decimal(coefficient).scaleb(exponent),
    st.integers(-(10**30), 10**30) | st.integers(-12, 12),
    st.integers(-400, 400) | st.integers(-3, 3),
)
scalars = st.none() | st.booleans() | texts | numbers
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
objects = st.dictionaries(texts, values, max_size=4)


def write(value, draw):
    """JSON for a value, in whatever way."""
    gap = draw(st.text(" \t\r\n", max_size=2))
    if isinstance(value, dict):
        names = draw(st.permutations(list(value)))
        fields = (f"{write(name, draw)}:{write(value[name], draw)}" for name in names)
        return f"{gap}{{{gap}{','.join(fields)}}}{gap}"
    if isinstance(value, list):
        return f"{gap}[{','.join(write(each, draw) for each in value)}{gap}]"
    if isinstance(value, Decimal):
        return gap + write_number(value, draw) + gap
    if isinstance(value, str):
        return f'{gap}"{"".join(write_letter(letter, draw) for letter in value)}"'
    return gap + json.dumps(value) + gap


def write_number(value, draw):
    """Its digits with the point anywhere, zeros behind it, and the exponent that then belongs to it."""
    sign, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits)) + "0" * draw(st.integers(0, 3))
    exponent -= len(text) - len(digits)
    point = draw(st.integers(1, len(text)))
    whole, part = text[:point].lstrip("0") or "0", text[point:]
    exponent += len(part)
    e = draw(st.sampled_from("eE")) + draw(st.sampled_from(["", "+"] if exponent >= 0 else [""]))
    power = f"{e}{exponent}" if exponent or draw(st.booleans()) else ""
    return "-" * sign + whole + ("." * bool(part)) + part + power


def write_letter(letter, draw):
    """As it is, or escaped in one of the ways that there are."""
    escaped = json.dumps(letter)[1:-1]
    plain = [letter] if letter >= " " and letter not in '"\\' else []
    if len(letter.encode("utf-16-le")) == 2:
        plain.append(f"\\u{ord(letter):04X}")
    return draw(st.sampled_from([escaped, *plain]))


def same(one, other):
    """Whether two values mean the same; true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@settings(max_examples=EXAMPLES)
@given(value=objects, data=st.data())
def test_the_same_written_anew(value, data):
    """Blanks, the order of fields, escapes and the forms of numbers do not matter."""
    forms = [write(value, data.draw) for _ in range(3)]
    assert len({meaning_of_json(form.encode()) for form in forms}) == 1


@settings(max_examples=EXAMPLES)
@given(one=values, other=values, data=st.data())
def test_another_meaning(one, other, data):
    """What does not mean the same has another form; absent, null, empty, zero, false and their texts are all apart."""
    assume(not same(one, other))
    assert meaning_of_json(write(one, data.draw).encode()) != meaning_of_json(write(other, data.draw).encode())


@st.composite
def changed(draw, value):
    """A value with one thing in it changed: never to what means the same."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        name = draw(st.sampled_from(list(value)))
        rest = {each: value[each] for each in value if each != name}
        return draw(st.sampled_from([rest, value | {name: draw(changed(value[name]))}]))
    if isinstance(value, list) and value and draw(st.booleans()):
        number = draw(st.integers(0, len(value) - 1))
        return [*value[:number], draw(changed(value[number])), *value[number + 1 :]]
    return draw(scalars.filter(lambda other: not same(value, other)))


@settings(max_examples=EXAMPLES)
@given(value=objects, data=st.data())
def test_any_change_is_seen(value, data):
    """A field less, or one value changed at any depth, is another body."""
    other = data.draw(changed(value))
    assert meaning_of_json(write(value, data.draw).encode()) != meaning_of_json(write(other, data.draw).encode())


@settings(max_examples=EXAMPLES)
@given(value=objects, data=st.data())
def test_the_form_is_json_of_the_same_meaning(value, data):
    """And its own form: what an earlier version has kept of its bytes is found again."""
    form = meaning_of_json(write(value, data.draw).encode())
    assert meaning_of_json(form) == form
    assert same(json.loads(form, parse_int=Decimal, parse_float=Decimal), value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("1", "1e0"),
        ("100", "1E+2"),
        ("0.5", "50e-2"),
        ("0", "-0.0"),
        ("0", "0e999"),
        ("12345678901234567890", "1.2345678901234567890e19"),
        ("1e000000000000000000000000000000007", "10000000"),
        ("1e-007", "0.0000001"),
    ],
)
def test_numbers_count_by_value(one, other):
    """However they are written."""
    assert meaning_of_json(one.encode()) == meaning_of_json(other.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("9007199254740993", "9007199254740992"),
        ("0.1", "0.1000000000000000055511151231257827"),
        ("1e400", "1e401"),
        ("1e-400", "0"),
        ("1", "true"),
        ("1", '"1"'),
        ("-1", "1"),
        ("10", "1"),
    ],
)
def test_numbers_are_exact(one, other):
    """No two are taken for one because a machine's number could not hold them apart."""
    assert meaning_of_json(one.encode()) != meaning_of_json(other.encode())


def test_a_number_beyond_all_bounds():
    """One with an endless exponent is refused in no time; one with many digits is not."""
    for exponent in ("9" * 19, "-" + "9" * 19, "+1" + "0" * 100_000):
        with pytest.raises(Problem):
            meaning_of_json(f"[1e{exponent}]".encode())
    for form in ("9" * 100_000, "0." + "0" * 100_000 + "1", "1e" + "0" * 100_000 + "1", "1e" + "9" * 18):
        assert meaning_of_json(form.encode())


pairs = st.lists(st.tuples(texts, texts), max_size=5)


@settings(max_examples=EXAMPLES)
@given(one=pairs, other=pairs, data=st.data())
def test_a_querys_parameters_have_no_order(one, other, data):
    """Those of one name do; and how a letter is escaped does not matter."""

    def written(pairs):
        by = data.draw(st.sampled_from([quote, quote_plus]))
        return "&".join(f"{by(name)}={by(value)}" for name, value in pairs).encode()

    def said(pairs):
        return {name: [value for each, value in pairs if each == name] for name, _ in pairs}

    mixed = data.draw(st.permutations(one)) if len({name for name, _ in one}) == len(one) else one
    assert meaning_of_query(written(one)) == meaning_of_query(written(mixed))
    assert (meaning_of_query(written(one)) == meaning_of_query(written(other))) == (said(one) == said(other))


def test_bytes_that_are_no_text_are_told_apart():
    """A query may hold any; none is taken for another."""
    assert len({meaning_of_query(each) for each in (b"a=%ff", b"a=%fe", b"a=%ef%bf%bd", b"a", b"b=&a=", b"")}) == 6
