"""Time and ids."""

import os
import threading
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manent.engine.clock import SystemClock, new_id, rfc3339, uuid7


@given(st.integers(0, 2**48 * 1_000_000 - 1), st.binary(min_size=8, max_size=16))
def test_ids_are_of_version_7(unix_ns, random):
    """RFC 9562 section 5.7: 48 bits of milliseconds, version 7, variant 10; and section 6.2, method 3: 4096ths of a
    millisecond. The last 62 bits are random, as they were given.
    """
    made = uuid7(unix_ns, random)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == unix_ns // 1_000_000
    assert made.int >> 64 & 0xFFF == unix_ns % 1_000_000 * 4096 // 1_000_000
    mask = 2**62 - 1
    assert made.int & mask == int.from_bytes(random, "big") & mask


@given(st.integers(0, 2**60), st.integers(245, 2**40))
def test_ids_are_in_order_of_time(unix_ns, later_ns):
    """Those made a quarter of a microsecond later sort later, as numbers, as bytes and as text."""
    early, late = uuid7(unix_ns, b"\xff" * 16), uuid7(unix_ns + later_ns, b"\0" * 16)
    assert early < late
    assert early.bytes < late.bytes
    assert str(early) < str(late)


@pytest.mark.parametrize("make", [new_id, SystemClock().new_id], ids=["new_id", "SystemClock"])
def test_ids_are_fresh(make):
    """Two threads, twenty thousand ids, none twice; each says when it was made."""
    made = []
    before = time.time_ns() // 1_000_000
    threads = [threading.Thread(target=lambda: made.extend(make() for _ in range(10_000))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 20_000
    assert all(before <= each.int >> 80 <= time.time_ns() // 1_000_000 for each in made)


def test_a_forked_process_draws_bytes_of_its_own():
    """What its parent has drawn and not given yet is not given twice."""
    clock, (end, child_end) = SystemClock(), os.pipe()
    clock.salts(1)
    child = os.fork()
    if child == 0:
        os.write(child_end, b"".join(clock.salts(255)))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(end, 255 * 16)
    assert not {theirs[at : at + 16] for at in range(0, 255 * 16, 16)} & set(clock.salts(255))
    os.close(end)
    os.close(child_end)


def test_salts_are_fresh():
    """Sixteen random bytes each, however many are asked for at once."""
    clock = SystemClock()
    salts = [salt for count in (0, 1, 3, 300, 1000) for salt in clock.salts(count)]
    assert len(salts) == len(set(salts)) == 1304
    assert {len(salt) for salt in salts} == {16}


def test_the_clock_is_the_machines():
    """Microseconds since the epoch, and seconds that never step back."""
    clock = SystemClock()
    assert abs(clock.now_us() - time.time() * 1e6) < 1e6
    assert clock.monotonic_s() <= clock.monotonic_s()


@given(st.integers(0, 4_102_444_800_000_000))
def test_times_are_written_in_utc_with_six_digits(time_us):
    """RFC 3339, so that text sorts as time does, and nothing is lost."""
    written = rfc3339(time_us)
    assert len(written) == 27
    read = datetime.fromisoformat(written)
    assert read.tzinfo == UTC
    assert (read - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution) == time_us
    assert rfc3339(time_us + 1) > written


def test_times_on_the_second_keep_their_digits():
    """No digit is left out where there are no microseconds."""
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"
    assert rfc3339(1_767_323_045_000_006) == "2026-01-02T03:04:05.000006Z"
