"""What a client may say, where it has said none of a few words: the error lists it."""

from typing import Annotated, Literal

import msgspec
import pytest

from manent.api.http.choices import MOST_LISTED, with_choices

Colour = Literal["red", "green"]
Many = Literal[tuple(f"v{number}" for number in range(MOST_LISTED + 1))]


class Inner(msgspec.Struct):
    colour: Colour | None = None
    many: Many | None = None


class Body(msgspec.Struct):
    one: Colour | int = 0
    inner: Inner | None = None
    items: tuple[Inner, ...] = ()
    named: dict[str, Annotated[Colour, msgspec.Meta(description="x")]] = {}
    size: Literal[1, 2] = 1


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ('{"one": "blue"}', "must be one of green, red, and not 'blue' - at `$.one`"),
        ('{"inner": {"colour": "blue"}}', "must be one of green, red, and not 'blue' - at `$.inner.colour`"),
        ('{"items": [{}, {"colour": ""}]}', "must be one of green, red, and not '' - at `$.items[1].colour`"),
        ('{"named": {"a": "blue"}}', "must be one of green, red, and not 'blue' - at `$.named[...]`"),
        ('{"size": 3}', "must be one of 1, 2, and not 3 - at `$.size`"),
        ('{"inner": {"many": "x"}}', "Invalid enum value 'x' - at `$.inner.many`"),
        ('{"one": []}', "Expected `int | str`, got `array` - at `$.one`"),
    ],
)
def test_the_words_that_there_are_are_listed(raw, told):
    """Wherever the value stands; a long list, and another error, stay as they are."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(raw, type=Body)
    assert str(with_choices(caught.value, Body)) == told


def test_a_body_that_is_one_word_itself():
    """There is no path then."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode('"blue"', type=Colour)
    assert str(with_choices(caught.value, Colour)) == "must be one of green, red, and not 'blue'"
