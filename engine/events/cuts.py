"""How a streamed message came in: its cuts, packed to a few bytes a delta.

A cut is (block, length, milliseconds since the last). With the blocks' texts it gives back the same frames, with
the same numbers, order and pace, when the journal is gone. Packed form: three LEB128 varints a cut. Lengths count
Unicode code points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec


class Cut(msgspec.Struct, frozen=True, gc=False):
    """One delta: ``length`` code points of ``block``, ``pause_ms`` after the one before."""

    block: int
    length: int
    pause_ms: int


def pack_cuts(cuts: Iterable[Cut]) -> bytes:
    """Cuts as varints. Raises ValueError for a negative number."""
    packed = bytearray()
    for cut in cuts:
        for number in (cut.block, cut.length, cut.pause_ms):
            _put(packed, number)
    return bytes(packed)


def unpack_cuts(packed: bytes) -> Iterator[Cut]:
    """The cuts, in order. Raises ValueError if the bytes break off."""
    numbers = _numbers(packed)
    for block in numbers:
        try:
            yield Cut(block, next(numbers), next(numbers))
        except StopIteration:
            raise ValueError("packed cuts break off") from None


def _put(packed: bytearray, number: int) -> None:
    if number < 0:
        raise ValueError("a cut has no negative numbers")
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)


def _numbers(packed: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
    if shift:
        raise ValueError("packed cuts break off")
