"""Token buckets and the queue before a provider: never more than the rate for the time, and one bucket full."""

import asyncio
import math
import selectors
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manent.engine.access.bucket import Bucket
from manent.engine.access.limits import RateLimits
from manent.engine.access.queue import Limited, Queue
from manent.engine.errors import Overloaded, RateLimited, TooLarge
from manent.engine.settings import Settings
from tests.support import ManualClock

MINUTE_US = 60_000_000
per_min = st.integers(1, 10**7)
steps = st.lists(st.tuples(st.integers(0, 2 * MINUTE_US), st.integers(1, 2000)), max_size=40)


@given(per_min, steps, st.integers(-(10**12), 10**12))
def test_a_bucket_gives_no_more_than_its_rate_and_its_size(rate, wanted, start):
    """Between any two moments, whoever asks for how much and when."""
    bucket, now, given_out = Bucket(rate, start), start, []
    for pause_us, amount in wanted:
        now += pause_us
        if bucket.wait_us(amount, now) == 0:
            bucket.take(amount, now)
            given_out.append((now, amount))
    for first, (begin, _) in enumerate(given_out):
        total = 0
        for end, amount in given_out[first:]:
            total += amount
            assert total <= rate + Fraction(rate * (end - begin), MINUTE_US)


@given(per_min, steps, st.data())
def test_a_wait_is_as_long_as_it_must_be(rate, taken, data):
    """After it there is enough, and a microsecond earlier there is not; also where more was taken than was there."""
    bucket, now = Bucket(rate, 0), 0
    for pause_us, amount in taken:
        now += pause_us
        bucket.take(amount, now)
    amount = data.draw(st.integers(1, rate))
    wait_us = bucket.wait_us(amount, now)
    if wait_us:
        assert bucket.wait_us(amount, now + wait_us - 1) == 1
    assert bucket.wait_us(amount, now + wait_us) == 0


@given(per_min, st.lists(st.integers(0, 3 * 10**7), max_size=10), st.integers(0, 2 * MINUTE_US))
def test_what_is_left_can_be_taken_and_the_rest_comes_when_it_is_said(rate, taken, pause_us):
    """What a bucket says it holds it gives at once, and it is full after the time that it says, and not before."""
    bucket = Bucket(rate, 0)
    for amount in taken:
        bucket.take(amount, 0)
    left = bucket.left(pause_us)
    assert 0 <= left <= rate
    assert left == 0 or bucket.wait_us(left, pause_us) == 0
    full_at = pause_us + bucket.full_in_us(pause_us)
    assert full_at == pause_us or not bucket.is_full(full_at - 1)
    assert bucket.is_full(full_at)
    assert bucket.left(full_at) == rate


@given(per_min, st.lists(st.tuples(st.integers(0, MINUTE_US), st.integers(0, 5000), st.booleans()), max_size=40))
def test_what_is_given_back_is_no_more_than_there_is_room_for(rate, changes):
    """A bucket that is full stays full, and its next sum of more than that is waited for."""
    bucket, now = Bucket(rate, 0), 0
    for pause_us, amount, is_back in changes:
        now += pause_us
        (bucket.give_back if is_back else bucket.take)(amount, now)
        assert bucket.wait_us(rate + 1, now) > 0
        assert bucket.is_full(now) == (bucket.wait_us(rate, now) == 0)


@given(per_min, st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_a_clock_that_steps_back_fills_nothing(rate, times):
    """What has flowed in once does not flow in again."""
    bucket = Bucket(rate, 0)
    bucket.take(rate, 0)
    newest = 0
    for now in times:
        newest = max(newest, now)
        left = Fraction(min(newest, MINUTE_US) * rate, MINUTE_US)
        assert (bucket.wait_us(1, now) == 0) == (left >= 1)


# --- the queue before a provider --------------------------------------------------------------------------------------


class Jumping(selectors.SelectSelector):
    """Waits for nothing: the time that would pass has passed."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock

    def select(self, timeout=None):
        self._clock.monotonic += timeout or 0
        return super().select(0)


def run(clock, work):
    """Run a coroutine on a loop whose time is the clock's, and jumps."""
    loop = asyncio.SelectorEventLoop(Jumping(clock))
    loop.time = clock.monotonic_s
    try:
        return loop.run_until_complete(asyncio.wait_for(work, 10**7))
    finally:
        loop.close()


def queue(clock, *, requests=None, tokens=None, waiting=1000, wait_s=10**6):
    wanted = {"provider_requests_per_min": (requests, False), "provider_tokens_per_min": (tokens, True)}
    limits = [
        Limited(name, Bucket(rate, int(clock.monotonic * 1e6)), counts)
        for name, (rate, counts) in wanted.items()
        if rate is not None
    ]
    return Queue(limits, clock, waiting, wait_s)


asked = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 600), st.integers(0, 600)), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(600, 6000), asked)
def test_a_provider_is_asked_no_more_than_it_may_be_and_in_order(requests, tokens, requested):
    """Each request goes when both buckets allow it, first come first served; what one has not used lets others go
    earlier, and never more in all than rate and size.
    """
    clock, sent = ManualClock(), []
    line = queue(clock, requests=requests, tokens=tokens)

    async def one(number, planned, used):
        async with (place := line.join(planned)).held():
            sent.append((number, clock.monotonic, max(planned, used)))
        place.settle(max(planned, used))

    async def all_of_them():
        tasks = []
        for number, (pause_s, planned, used) in enumerate(requested):
            await asyncio.sleep(pause_s)
            tasks.append(asyncio.create_task(one(number, planned, used)))
        await asyncio.gather(*tasks)

    run(clock, all_of_them())
    assert [number for number, _, _ in sent] == list(range(len(requested)))
    debt = max((max(0, used - planned) for _, planned, used in requested), default=0)
    for first, (_, begin, _) in enumerate(sent):
        total = 0
        for count, (_, end, size) in enumerate(sent[first:], 1):
            total += size
            minutes = (end - begin) / 60 + 1e-6
            assert count <= requests + requests * minutes
            assert total <= tokens + tokens * minutes + debt * count


def test_what_is_not_used_lets_the_next_go_earlier():
    """It does not wait for time to bring what is there already."""
    clock = ManualClock()

    async def work():
        line = queue(clock, tokens=100)
        first = line.join(100)
        async with first.held():
            second = line.join(50)
            assert not second.granted.done()
            first.settle(20)
            assert second.granted.done()

    run(clock, work())
    assert clock.monotonic == ManualClock().monotonic


@pytest.mark.parametrize("refusal", [Overloaded("busy"), RateLimited("no")])
def test_a_request_that_was_not_sent_counts_nowhere(refusal):
    """Neither as a request nor with its tokens; one that was sent and failed does."""
    clock = ManualClock()

    async def work():
        line = queue(clock, requests=2, tokens=100)
        for error, left in ((refusal, 2), (KeyError(), 1)):
            with pytest.raises(type(error)):
                async with line.join(100).held():
                    raise error
            line.correct(100)
            assert [limit.bucket.wait_us(left, int(clock.monotonic * 1e6)) for limit in line._limits] == [0, 0]
        assert line._limits[0].bucket.wait_us(2, int(clock.monotonic * 1e6)) > 0

    run(clock, work())


def test_who_leaves_the_queue_is_waited_for_no_more():
    """Cancelled while it waits, it takes nothing, and the next one has its time."""
    clock, times = ManualClock(), []

    async def one(line, tokens):
        async with line.join(tokens).held():
            times.append(clock.monotonic - ManualClock().monotonic)

    async def work():
        line = queue(clock, tokens=60)
        await one(line, 60)
        waiting = asyncio.create_task(one(line, 60))
        await asyncio.sleep(1)
        after = asyncio.create_task(one(line, 30))
        await asyncio.sleep(1)
        waiting.cancel()
        await after

    run(clock, work())
    assert times == [0, pytest.approx(30, abs=0.01)]


def test_who_would_wait_too_long_is_refused_at_once():
    """With the seconds after which it would not be over the limit; those who wait already go on."""
    clock = ManualClock()

    async def work():
        line = queue(clock, tokens=60, wait_s=30)
        async with line.join(60).held():
            waiting = line.join(30)
            with pytest.raises(RateLimited) as refused:
                line.join(1)
            extra = {"limit": "provider_tokens_per_min", "maximum": 60, "retry_after_s": 31}
            assert refused.value.extra == extra
        async with waiting.held():
            assert clock.monotonic - ManualClock().monotonic == pytest.approx(30, abs=0.01)

    run(clock, work())


def test_a_queue_has_an_end():
    """No more wait than may."""
    clock = ManualClock()

    async def work():
        line = queue(clock, requests=1, waiting=2)
        places = [line.join(0) for _ in range(3)]
        with pytest.raises(Overloaded) as refused:
            line.join(0)
        assert refused.value.extra["limit"] == "max_provider_waiting"
        places[1].leave()
        line.join(0)

    run(clock, work())


# --- keys -------------------------------------------------------------------------------------------------------------

ALICE, BOB = ("default", "key:alice"), ("default", "key:bob")


def admit(limits, key, tokens=1, *, used=None):
    """Start a turn and, if it is said what it used, end it."""
    with limits.admitted(key, "openai", tokens) as admission:
        admission.is_used = True
    if used is not None:
        admission.charge.settle(used, is_final=True)
    return admission


def limits_of(clock, **given):
    return RateLimits(Settings(**given), clock)


def test_a_key_is_refused_at_once_and_no_other():
    """With the seconds until it may; a turn that could not be started counts nowhere."""
    clock = ManualClock()
    limits = limits_of(clock, key_requests_per_min=2)
    for _ in range(3):
        with pytest.raises(KeyError), limits.admitted(ALICE, "openai", 1):
            raise KeyError
    admit(limits, ALICE)
    admit(limits, ALICE)
    with pytest.raises(RateLimited) as refused:
        admit(limits, ALICE)
    assert refused.value.extra == {"limit": "key_requests_per_min", "maximum": 2, "retry_after_s": 30}
    admit(limits, BOB)
    clock.monotonic += 30
    admit(limits, ALICE)


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 300)), max_size=30))
def test_a_keys_tokens_are_those_that_were_used(turns):
    """What was planned is taken, and corrected by the usage: the next wait is what all usage together asks for."""
    clock = ManualClock()
    limits = limits_of(clock, key_tokens_per_min=100)
    spent = 0
    for planned, used in turns:
        wait_s = max(0, Fraction(spent + planned - 100, 100) * 60)
        if wait_s:
            with pytest.raises(RateLimited) as refused:
                admit(limits, ALICE, planned)
            assert refused.value.extra["retry_after_s"] == max(1, math.ceil(wait_s))
        else:
            admit(limits, ALICE, planned, used=used)
            spent += used


def test_a_turn_that_goes_beyond_its_plan_goes_on():
    """What it uses is counted while it runs, and gives back at its end only what it never used."""
    clock = ManualClock()
    limits = limits_of(clock, key_tokens_per_min=100)
    admission = admit(limits, ALICE, 40)
    admission.charge.settle(10)
    admit(limits, ALICE, 60, used=60)
    admission.charge.settle(160)
    with pytest.raises(RateLimited) as refused:
        admit(limits, ALICE, 10)
    assert refused.value.extra["retry_after_s"] == 78
    admission.charge.settle(160, is_final=True)
    with pytest.raises(RateLimited) as refused:
        admit(limits, ALICE, 10)
    assert refused.value.extra["retry_after_s"] == 78


def test_a_request_larger_than_a_minute_allows_is_no_matter_of_time():
    """It is refused as too large: who waits would wait for ever."""
    limits = limits_of(ManualClock(), key_tokens_per_min=100)
    with pytest.raises(TooLarge) as refused:
        admit(limits, ALICE, 101)
    assert refused.value.extra == {"limit": "key_tokens_per_min", "maximum": 100}


def test_without_settings_nothing_is_counted():
    """No bucket is made, and nobody is refused."""
    limits = limits_of(ManualClock())
    for _ in range(1000):
        assert admit(limits, ALICE, 10**9).place is None
    assert (limits._keys, limits._queues) == ({}, {})


def test_keys_that_are_idle_are_forgotten(monkeypatch):
    """When there are very many; one that is in use is not."""
    monkeypatch.setattr("manent.engine.access.limits.MAX_IDLE_KEYS", 3)
    clock = ManualClock()
    limits = limits_of(clock, key_requests_per_min=1)
    for number in range(3):
        admit(limits, ("default", f"key:{number}"))
    clock.monotonic += 60
    admit(limits, ALICE)
    assert [*limits._keys] == [ALICE]
    with pytest.raises(RateLimited):
        admit(limits, ALICE)
