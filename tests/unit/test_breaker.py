"""The guards before a provider: backoff, breaker, slots."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from manent.engine.errors import (
    Overloaded,
    ProviderMalformed,
    ProviderRejected,
    ProviderTimedOut,
    ProviderTooLarge,
    ProviderTruncated,
    ProviderUnavailable,
)
from manent.engine.providers.resilience import CircuitBreaker, Permit, Slots, backoff_s, counts_as_fault, next_delay_s
from manent.engine.providers.wire.failures import failure_from_response, failure_in_stream

ANY_SECONDS = st.floats(0, 10**6)
JITTER = st.floats(0, 1, exclude_max=True)

# --- trying again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attempt", "longest"), [(1, 0.5), (2, 1.0), (3, 2.0), (5, 8.0), (6, 8.0), (10**9, 8.0)])
def test_the_backoff_doubles_up_to_its_cap(attempt, longest):
    """Half of the jitter is half of the longest wait."""
    assert backoff_s(attempt, 0.5, 8.0, 0.5) == longest / 2
    assert backoff_s(attempt, 0.5, 8.0, 0.0) == 0


@given(st.integers(1, 10**6), ANY_SECONDS, ANY_SECONDS, JITTER)
def test_the_backoff_is_full_jitter(attempt, base_s, cap_s, jitter):
    """Anything from nothing to the lesser of the cap and the doubled base, in proportion to the jitter."""
    longest = cap_s if attempt > 60 and base_s > 1 else min(cap_s, base_s * 2.0 ** min(attempt - 1, 64))
    assert backoff_s(attempt, base_s, cap_s, jitter) == pytest.approx(jitter * longest)


@given(st.integers(1, 100), JITTER, st.none() | ANY_SECONDS, ANY_SECONDS)
def test_a_retry_waits_as_long_as_asked_and_fits_into_what_is_left(attempt, jitter, retry_after_s, left_s):
    """Never before the provider's own word, never with no time left to ask; the latter is a None."""
    delay_s = next_delay_s(attempt, base_s=0.5, cap_s=8, jitter=jitter, left_s=left_s, retry_after_s=retry_after_s)
    if delay_s is None:
        assert (retry_after_s or 0) + 8 >= left_s
    else:
        assert (retry_after_s or 0) <= delay_s < left_s


@pytest.mark.parametrize(
    ("retry_after_s", "left_s", "delay_s"),
    [(None, 60, 0.25), (0, 60, 0.25), (20, 60, 20.25), (60, 60, None), (3600, 60, None), (None, 0.25, None)],
)
def test_retry_after_is_the_least(retry_after_s, left_s, delay_s):
    """The backoff comes on top, and a wait beyond the time that is left is no retry."""
    waited = next_delay_s(1, base_s=0.5, cap_s=8, jitter=0.5, left_s=left_s, retry_after_s=retry_after_s)
    assert waited == delay_s


# --- what counts ------------------------------------------------------------------------------------------------------


def response(status, **headers):
    return failure_from_response("openai", status, headers, b"{}", now_s=0)


@pytest.mark.parametrize(
    "error",
    [
        response(500),
        response(502),
        response(503, **{"x-should-retry": "false"}),
        response(529),
        ProviderUnavailable("could not be reached"),
        ProviderTimedOut("no first chunk"),
        ProviderTruncated("broke off"),
        failure_in_stream("anthropic", b'{"type":"error","error":{"type":"overloaded_error","message":""}}'),
        failure_in_stream("openai", b'{"error":{"code":"server_error","message":""}}'),
        failure_in_stream("openai", b'{"error":{"code":503,"message":""}}'),
    ],
    ids=lambda error: f"{error.code}-{error.status}-{error.vendor_code}",
)
def test_a_fault_of_the_providers_counts(error):
    """5xx in all forms, no connection, no answer in time, a stream that broke off."""
    assert counts_as_fault(error)


@pytest.mark.parametrize(
    "error",
    [
        *map(response, (400, 401, 403, 404, 408, 409, 413, 422, 429)),
        ProviderMalformed("HTML"),
        ProviderTooLarge("a line without end"),
        ProviderRejected("content"),
        failure_in_stream("anthropic", b'{"type":"error","error":{"type":"rate_limit_error","message":""}}'),
        failure_in_stream("openai", b'{"error":{"code":"insufficient_quota","message":""}}'),
        failure_in_stream("openai", b'{"error":{"code":429,"message":""}}'),
    ],
    ids=lambda error: f"{error.code}-{error.status}-{error.vendor_code}",
)
def test_what_is_about_the_caller_does_not_count(error):
    """No 4xx, 429 and 408 included, however it is said."""
    assert not counts_as_fault(error)


# --- the breaker ------------------------------------------------------------------------------------------------------


def breaker(failures=3, window_s=60, open_s=10):
    return CircuitBreaker(failures, window_s, open_s)


def fail(guard, *times):
    for now_s in times:
        guard.failed(guard.admit(now_s), now_s)


def test_it_opens_after_so_many_faults_in_a_row():
    """Until then everything goes through; from then on it says how long to wait."""
    guard = breaker()
    fail(guard, 1, 2)
    assert isinstance(guard.admit(3), Permit)
    fail(guard, 3)
    assert guard.admit(3) == 10
    assert guard.admit(12.5) == 0.5


def test_a_success_between_faults_keeps_it_closed():
    """A row is a row."""
    guard = breaker()
    for now_s in range(20):
        guard.failed(guard.admit(now_s), now_s)
        guard.failed(guard.admit(now_s), now_s)
        guard.succeeded(guard.admit(now_s))
    assert isinstance(guard.admit(20), Permit)


def test_old_faults_are_forgotten():
    """Faults further apart than the window are no outage; within it, to the second, they are."""
    guard = breaker(window_s=60)
    fail(guard, 0, 30, 61, 92)
    assert isinstance(guard.admit(92), Permit)
    fail(guard, 121)
    assert guard.admit(121) == 10


def test_requests_that_say_nothing_change_nothing():
    """A cancelled or refused request neither opens it nor breaks a row of faults."""
    guard = breaker()
    fail(guard, 1, 2)
    for _ in range(10):
        guard.gave_up(guard.admit(2))
    fail(guard, 3)
    assert guard.admit(3) == 10


def test_after_its_time_exactly_one_trial_is_let_through():
    """The others wait until it is decided."""
    guard = breaker(failures=1)
    fail(guard, 0)
    assert guard.admit(9.5) == 0.5
    assert guard.admit(10).trial
    assert guard.admit(10) == 10
    assert guard.admit(1000) == 10


def test_a_trial_that_succeeds_closes_it():
    """And the row of faults begins anew."""
    guard = breaker()
    fail(guard, 0, 0, 0)
    guard.succeeded(guard.admit(10))
    fail(guard, 11, 12)
    assert guard.admit(12) == Permit(guard.admit(12).era, trial=False)


def test_a_trial_that_fails_opens_it_again():
    """For the whole time, from then."""
    guard = breaker()
    fail(guard, 0, 0, 0)
    fail(guard, 15)
    assert guard.admit(16) == 9
    assert guard.admit(25).trial


def test_a_trial_that_is_given_up_lets_the_next_one_try():
    """A cancelled trial does not lock everybody out, and its report counts only once."""
    guard = breaker(failures=1)
    fail(guard, 0)
    first = guard.admit(10)
    guard.gave_up(first)
    second = guard.admit(10)
    assert second.trial
    guard.gave_up(first)
    guard.failed(first, 10)
    assert guard.admit(10) == 10
    guard.succeeded(second)
    assert not guard.admit(10).trial


def test_requests_from_before_the_outage_do_not_decide_it():
    """What was let through while it was closed and ends later neither closes it, nor prolongs it, nor ends a trial."""
    guard = breaker(failures=1)
    late, later = guard.admit(0), guard.admit(0)
    fail(guard, 0)
    guard.succeeded(late)
    guard.failed(later, 5)
    assert guard.admit(5) == 5
    trial = guard.admit(10)
    guard.succeeded(late)
    guard.failed(later, 10)
    assert guard.admit(10) == 10
    guard.succeeded(trial)
    guard.failed(later, 10)
    assert isinstance(guard.admit(10), Permit)


def test_a_success_from_before_an_outage_breaks_no_row_after_it():
    """Whatever was let through before says nothing about how the provider does now."""
    guard = breaker(failures=2)
    late = guard.admit(0)
    fail(guard, 0, 0)
    guard.succeeded(guard.admit(10))
    fail(guard, 11)
    guard.succeeded(late)
    fail(guard, 12)
    assert guard.admit(12) == 10


def test_a_trial_can_be_good_before_its_end():
    """Reported with its first chunk, it lets the others in, and what becomes of its stream no longer counts."""
    guard = breaker(failures=1)
    fail(guard, 0)
    trial = guard.admit(10)
    guard.succeeded(trial)
    guard.failed(trial, 11)
    assert isinstance(guard.admit(11), Permit)


class BreakerMachine(RuleBasedStateMachine):
    """Any number of requests at once, ending in any order, against what the breaker promises."""

    failures, window_s, open_s = 3, 20, 10

    def __init__(self):
        super().__init__()
        self.guard = CircuitBreaker(self.failures, self.window_s, self.open_s)
        self.now_s = 0
        self.running = []  # permits not yet reported, each with the number of openings and closings before it
        self.turns = 0
        self.row = []  # times of the faults in a row
        self.opened_s = None
        self.trial = None

    @rule(seconds=st.integers(0, 25))
    def wait(self, seconds):
        self.now_s += seconds

    @rule()
    def ask(self):
        given = self.guard.admit(self.now_s)
        if self.opened_s is None:
            assert not given.trial
        elif self.now_s < self.opened_s + self.open_s:
            assert given == self.opened_s + self.open_s - self.now_s
        elif self.trial is not None:
            assert given == self.open_s
        else:
            assert given.trial
            self.trial = given
        if isinstance(given, Permit):
            self.running.append((given, self.turns))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(["succeeded", "failed", "gave_up"]))
    def end(self, data, outcome):
        permit, turns = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        getattr(self.guard, outcome)(permit, *([self.now_s] if outcome == "failed" else []))
        if permit.trial:
            self.end_trial(outcome)
        elif turns == self.turns and self.opened_s is None:
            self.end_ordinary(outcome)

    def end_trial(self, outcome):
        self.trial = None
        if outcome != "gave_up":
            self.turns += 1
            self.opened_s = self.now_s if outcome == "failed" else None

    def end_ordinary(self, outcome):
        if outcome == "succeeded":
            self.row = []
        elif outcome == "failed":
            self.row = [*self.row, self.now_s][-self.failures :]
            if len(self.row) == self.failures and self.now_s - self.row[0] <= self.window_s:
                self.turns += 1
                self.opened_s, self.row = self.now_s, []

    @invariant()
    def there_is_one_trial_at_most(self):
        assert sum(permit.trial for permit, _ in self.running) == (self.trial is not None)


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


# --- slots ------------------------------------------------------------------------------------------------------------


async def settle():
    """Let every task run until it waits for another."""
    for _ in range(10):
        await asyncio.sleep(0)


async def hold(slots, log, name, done):
    async with slots.slot():
        log.append(name)
        await done.wait()


async def test_no_more_than_the_limit_run_and_the_rest_wait_their_turn():
    """First come, first served."""
    slots, log, done = Slots(2, 10, 60), [], [asyncio.Event() for _ in range(5)]
    async with asyncio.TaskGroup() as group:
        for name in range(5):
            group.create_task(hold(slots, log, name, done[name]))
        await settle()
        assert log == [0, 1]
        done[1].set()
        await settle()
        assert log == [0, 1, 2]
        for event in done:
            event.set()
    assert log == [0, 1, 2, 3, 4]


async def test_nobody_overtakes_those_who_wait():
    """Who comes while a slot is being handed over waits behind those who were there."""
    slots, log, done, first = Slots(1, 10, 60), [], asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(slots, log, "first", first))
        group.create_task(hold(slots, log, "second", done))
        await settle()
        done.set()
        first.set()
        await asyncio.sleep(0)
        group.create_task(hold(slots, log, "third", done))
    assert log == ["first", "second", "third"]


async def test_too_many_that_wait_are_refused():
    """At once, with the name of the limit."""
    slots, done = Slots(1, 1, 60), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(slots, [], 0, done))
        group.create_task(hold(slots, [], 1, done))
        await settle()
        with pytest.raises(Overloaded) as refused:
            await hold(slots, [], 2, done)
        assert refused.value.extra["limit"] == "max_provider_waiting"
        done.set()


async def test_no_queue_is_a_queue_too():
    """With none allowed to wait, whoever finds no slot is refused."""
    slots = Slots(1, 0, 60)
    async with slots.slot():
        with pytest.raises(Overloaded):
            await hold(slots, [], 0, asyncio.Event())
    async with slots.slot():
        pass


async def test_who_waits_too_long_is_refused():
    """And leaves the queue: the slot goes to the next when it comes free."""
    slots, log, done = Slots(1, 5, 0.01), [], asyncio.Event()
    async with slots.slot():
        with pytest.raises(Overloaded) as refused:
            await hold(slots, log, "late", done)
        assert refused.value.extra == {"limit": "max_provider_requests", "retry_after_s": 1}
    done.set()
    await hold(slots, log, "next", done)
    assert log == ["next"]


async def test_a_slot_that_comes_with_the_cancellation_goes_on():
    """Cancelled in the very step in which a slot is handed to it, a waiter passes it to the next."""
    slots, log, done, first = Slots(1, 5, 60), [], asyncio.Event(), asyncio.Event()
    holder = asyncio.create_task(hold(slots, log, "holder", first))
    waiter = asyncio.create_task(hold(slots, log, "waiter", done))
    after = asyncio.create_task(hold(slots, log, "after", done))
    await settle()
    first.set()
    await asyncio.sleep(0)  # the holder ends
    waiter.cancel()
    await settle()
    assert holder.done()
    assert waiter.cancelled()
    assert log == ["holder", "after"]
    done.set()
    await after


async def test_a_failure_gives_its_slot_back():
    """Whatever ends the work."""
    slots = Slots(1, 0, 60)
    for _ in range(3):
        with pytest.raises(KeyError):
            async with slots.slot():
                raise KeyError
    async with slots.slot():
        pass


class SlotsMachine(RuleBasedStateMachine):
    """Requests come, end and are cancelled in any order: no slot is ever lost, and none is given twice."""

    limit, max_waiting = 2, 3

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.slots = Slots(self.limit, self.max_waiting, 3600)
        self.log = []
        self.holding, self.waiting = [], []  # the names that should, in order
        self.work = {}
        self.names = 0

    def step(self):
        self.loop.run_until_complete(settle())

    def hand_over(self):
        while self.waiting and len(self.holding) < self.limit:
            self.holding.append(self.waiting.pop(0))

    @rule()
    def come(self):
        done = asyncio.Event()
        task = self.loop.create_task(hold(self.slots, self.log, self.names, done))
        self.step()
        if len(self.holding) < self.limit:
            self.holding.append(self.names)
        elif len(self.waiting) < self.max_waiting:
            self.waiting.append(self.names)
        else:
            assert isinstance(task.exception(), Overloaded)
        if not task.done():
            self.work[self.names] = task, done
        self.names += 1

    @precondition(lambda self: self.work)
    @rule(data=st.data(), ends=st.lists(st.booleans(), min_size=1, max_size=5))
    def leave(self, data, ends):
        """Several at once: each ends its work (if it has a slot) or is cancelled, in one step of the loop."""
        for is_end in ends[: len(self.work)]:
            name = data.draw(st.sampled_from(sorted(self.work)))
            task, done = self.work.pop(name)
            if is_end and name in self.holding:
                done.set()
            else:
                task.cancel()
            (self.holding if name in self.holding else self.waiting).remove(name)
        self.step()
        self.hand_over()

    @precondition(lambda self: self.waiting)
    @rule()
    def hand_over_and_cancel(self):
        """The slot that comes free is on its way to a waiter who is cancelled before he has it."""
        _, done = self.work.pop(self.holding.pop(0))
        name = self.waiting.pop(0)
        waiter, _ = self.work.pop(name)

        async def race():
            done.set()
            await asyncio.sleep(0)  # the holder ends
            waiter.cancel()

        self.loop.run_until_complete(race())
        self.step()
        assert name not in self.log
        self.hand_over()

    @invariant()
    def those_who_should_hold_a_slot_do(self):
        running = {name for name in self.log if name in self.work}
        assert running == set(self.holding)
        assert set(self.work) == {*self.holding, *self.waiting}
        assert self.log == sorted(self.log)
        assert not any(task.done() for task, _ in self.work.values())

    def teardown(self):
        for task, _ in self.work.values():
            task.cancel()
        self.step()
        for _ in range(self.limit):
            done = asyncio.Event()
            self.work[self.names] = self.loop.create_task(hold(self.slots, self.log, self.names, done)), done
            self.names += 1
        self.step()
        assert self.log[-self.limit :] == list(range(self.names - self.limit, self.names))
        for _, done in self.work.values():
            done.set()
        self.step()
        self.loop.close()


TestSlotsMachine = SlotsMachine.TestCase
TestSlotsMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
