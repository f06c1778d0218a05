"""Checksums of rows: written once, they are looked at for ever, and no flipped bit escapes them."""

import pytest

from manent.engine.log.sql.checksums import checked, checksum, is_sound

ROW = ("default", b"\x00\xff", None, 1, 300, -1, 2**53 - 1, "ü" * 40)


def test_a_checksum_is_the_same_for_ever():
    """The CRC-32 of the row as MessagePack, whatever version of which library packs it."""
    assert checksum(ROW) == 2645538873


@pytest.mark.parametrize("place", range(len(ROW)))
def test_a_changed_value_is_found(place):
    """Any value changed in any of its bits; a row as it was written is sound."""
    assert is_sound(checked(ROW))
    for bit in range(8):
        row = [*checked(ROW)]
        row[place] = flipped(row[place], bit)
        assert not is_sound(row)


def flipped(value, bit):
    if value is None:
        return bit
    if isinstance(value, int):
        return value ^ 1 << bit
    return type(value)(bytes([value[0] ^ 1 << bit]) + value[1:]) if isinstance(value, bytes) else f"{value}{bit}"
