"""The words of the benches, the same for every contestant. Imports nothing but the standard library, for it also runs
in a peer's own environment.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import cycle

MESSAGE_BYTES = 300
DIFFERENT = 2000

_WORDS = """
about after again answer because before between could does every first found from great have house just know large
last light line little long made make many most much name never number only other over people place point question
right same sentence should small sound spell still such take tell than that their them there these they thing think
this three through time turn under very water week well what where which while with word work world would write year
your
""".split()  # noqa: SIM905 - a list would take a hundred lines


def messages(seed: int = 0) -> Iterator[str]:
    """Endless messages of 300 bytes of something like English, made beforehand: making one costs as much as a tenth of
    an append.
    """
    chance = random.Random(seed)  # noqa: S311 - the same words in every run is the point
    return cycle([_message(chance) for _ in range(DIFFERENT)])


def _message(chance: random.Random) -> str:
    text = " ".join(chance.choices(_WORDS, k=MESSAGE_BYTES // 3))
    return f"{text[: MESSAGE_BYTES - 1]}."


def delta(tag: str, number: int) -> str:
    """A streamed piece that says which stream it is of and where it belongs, with a sign of several bytes in it."""
    return f"{tag}.{number}é "


def answer(tag: str, count: int) -> str:
    """What the deltas of one stream make together."""
    return "".join(delta(tag, number) for number in range(count))
