"""What a turn promises when an answer fails before anything of it was shown: it is asked for again, within bounds, each
time on record before it is sent; then another model is asked, if there is one; and who keeps failing is left alone.

Raw upstreams on loopback, for both vendors' protocols, before a real engine on a real file.
"""

import asyncio
import hashlib
import json
import logging
from base64 import b64decode
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import formatdate
from itertools import pairwise

import pytest

from manent import engine
from manent.engine.clock import SystemClock
from tests.support import assert_rebuilds, audit, begin, frames_of, query, shown, snapshot, text_of, texts_of, until
from tests.upstream import (
    CLOSE,
    HANG,
    KEY,
    LAST,
    MEANWHILE,
    RESET,
    WIRES,
    Chat,
    asking,
    attempts_of,
    head,
    nobody,
    page,
    part,
    says_nothing_of,
    upstream,
)

CHAT, RESPONSES, CLAUDE = WIRES
OTHERS = {"chat": CLAUDE, "responses": CLAUDE, "claude": CHAT}
NOW_S = 1_900_000_000
AT_ONCE = {"retry_base_ms": 1, "retry_cap_s": 0.001}
TWICE = {"max_attempts": 2, **AT_ONCE}
PATIENCE_S = 20

every_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


@pytest.fixture(autouse=True)
def the_record_is_sound(path, caplog):
    """Whatever was tried: the record holds together, and no key is in it or in a log."""
    caplog.set_level(logging.DEBUG)
    yield
    if path.exists():
        audit(path)
        assert says_nothing_of(KEY, path, caplog.text)


class Dice(SystemClock):
    """The machine's clock, whose wall time is a fixed one, whose chance is what a test says (0 to 255), and that a test
    puts forward.
    """

    def __init__(self, jitter=0, now_s=NOW_S):
        super().__init__()
        self.jitter = jitter
        self.now_s = now_s
        self.ahead_s = 0

    def monotonic_s(self):
        return super().monotonic_s() + self.ahead_s

    def now_us(self):
        return round(self.now_s * 1e6)

    def salts(self, count):
        return [bytes([self.jitter]) + salt[1:] for salt in super().salts(count)]


@asynccontextmanager
async def house(path, wire, *plays, clock=None, **settings):
    """An engine, and the upstream that it asks, on these plays."""
    async with upstream(wire, *plays) as up, asking(path, (wire, up.address), clock=clock, **settings) as chat:
        yield chat, up


@asynccontextmanager
async def two_houses(path, wire, *plays, clock=None, **settings):
    """As ``house``, and another vendor's upstream that answers well: ``(chat, up, other, the other's wire)``."""
    spare = OTHERS[wire.name]
    async with (
        upstream(wire, *plays) as up,
        upstream(spare) as other,
        asking(path, (wire, up.address), (spare, other.address), clock=clock, **settings) as chat,
    ):
        yield chat, up, other, spare


class Gate:
    """A step that waits until a test lets it go on."""

    def __init__(self):
        self._open = asyncio.Event()
        self.open = self._open.set

    async def wait(self, _):
        await self._open.wait()


class Pair:
    """An engine, the upstream that it asks, and another vendor's that stands by."""

    def __init__(self, chat, wire, up, spare, other):
        self.chat = chat
        self.wire = wire
        self.up = up
        self.spare = spare
        self.other = other

    def will(self, *plays):
        """What the one does next; the other answers well."""
        self.up.will(*plays)
        self.other.will(self.spare.answer("Fine."))

    async def turn(self, **session):
        """A turn in a new session, to its end: itself, its frames, its attempts as recorded."""
        made = await self.chat.create_session(model=self.wire.model, **session)
        async with asyncio.timeout(PATIENCE_S):
            turn = await begin(self.chat, made.id, "Go.")
            frames = await frames_of(self.chat, turn)
        assert await frames_of(self.chat, turn) == frames
        assert [frame.number for frame in frames] == [*range(1, len(frames) + 1)]
        return await self.chat.turn(turn), frames, await attempts_of(self.chat, made.id)


@pytest.fixture(scope="module", params=WIRES, ids=lambda wire: wire.name)
async def pair(request, anyio_backend, tmp_path_factory):
    """One for all tests that need no settings of their own: two attempts for each model, without a wait."""
    path = tmp_path_factory.mktemp("pair") / "chat.db"
    async with two_houses(path, request.param, breaker_failures=10_000, **TWICE) as (chat, up, other, spare):
        yield Pair(chat, request.param, up, spare, other)
    audit(path)
    assert_rebuilds(path, path.with_suffix(".copy"))
    assert says_nothing_of(KEY, path)


async def asked(chat, model, content="Go.", **session):
    """A turn in a new session, to its end."""
    made = await chat.create_session(model=model, **session)
    async with asyncio.timeout(PATIENCE_S):
        return await chat.say(made.id, content)


def numbers(turn):
    """(round, attempt, outcome) of each attempt."""
    return [(each.round, each.attempt, each.outcome) for each in turn.attempts]


def data(frame):
    return json.loads(frame.data)


def waits(up):
    """Seconds between the requests."""
    times = [request.at_s for request in up.requests]
    return [later - earlier for earlier, later in pairwise(times)]


# --- what is tried again ----------------------------------------------------------------------------------------------

PASSING = {
    **{f"{status}": lambda wire, status=status: wire.refusal(status) for status in (408, 409, 429, 500, 502, 503, 529)},
    "an overload in the stream": lambda wire: [*wire.stream(*wire.begins(), wire.fails("overloaded_error")), LAST],
    "reset after the head": lambda wire: [head(), RESET],
    "an answer that ends before it begins": lambda wire: [*wire.stream(*wire.begins()), LAST],
    "html by the name of a stream": lambda wire: [head(), part(b"<html>"), LAST],
}


@pytest.mark.parametrize("play", PASSING.values(), ids=PASSING)
async def test_what_may_pass_is_tried_again(pair, play):
    """The client sees one turn, a word of each failure, and the answer; the record has both attempts."""
    pair.will(play(pair.wire), pair.wire.answer("Hello."))
    view, frames, (first, second) = await pair.turn()
    assert (view.status, view.error, text_of(view.message)) == ("completed", None, "Hello.")
    code = view.attempts[0].outcome
    assert code in {"provider_unavailable", "provider_truncated"}
    assert numbers(view) == [(1, 1, code), (1, 2, "completed")]
    assert [frame.type for frame in frames][:3] == ["turn.started", "attempt.failed", "block.started"]
    assert data(frames[1]) == {"round": 1, "attempt": 1, "code": code}
    assert (first[2]["retryable"], second[2]["outcome"]) == (True, "completed")
    one, other = pair.up.heard
    assert one.body == other.body


@every_wire
@pytest.mark.parametrize("end", [RESET, CLOSE])
async def test_a_connection_lost_before_the_head_is_tried_again(path, wire, end):
    """It was a new one, so that is an attempt, and the next is another."""
    async with house(path, wire, [end], wire.answer("Hello."), **TWICE) as (chat, _):
        view = await asked(chat, wire.model)
    assert numbers(view) == [(1, 1, "provider_unavailable"), (1, 2, "completed")]


LASTING = {
    **{f"{status}": lambda wire, status=status: wire.refusal(status) for status in (400, 401, 403, 404, 413, 422)},
    "a redirect": lambda wire: wire.refusal(307),
    "a vendor that forbids it": lambda wire: wire.refusal(500, "some_error", "x-should-retry: false"),
    "html": lambda wire: page(200, b"<html>", kind="text/html"),
    "a refusal in the stream": lambda wire: [*wire.stream(*wire.begins(), wire.fails("invalid_request_error")), LAST],
    "an event that is none": lambda wire: [*wire.stream(b"data: \xff\n\n"), LAST],
}


@pytest.mark.parametrize("play", LASTING.values(), ids=LASTING)
async def test_what_would_come_again_is_not_tried_again(pair, play):
    """One request, and the turn has failed."""
    pair.will(play(pair.wire))
    view, frames, _ = await pair.turn()
    assert (view.status, view.error.retryable, len(view.attempts)) == ("failed", False, 1)
    assert [frame.type for frame in frames] == ["turn.started", "turn.failed"]
    assert len(pair.up.heard) == 1


AFTER_A_CHUNK = {
    "a reset": lambda wire: [RESET],
    "a cut": lambda wire: [LAST],
    "an overload": lambda wire: [part(wire.fails("overloaded_error")), LAST],
}


@pytest.mark.parametrize("then", AFTER_A_CHUNK.values(), ids=AFTER_A_CHUNK)
async def test_nothing_is_tried_again_once_something_was_shown(pair, then):
    """Nobody is shown two beginnings of one answer; nor is another model asked."""
    wire = pair.wire
    pair.will([*wire.speaking(wire.says("Half")), *then(wire)])
    view, *_ = await pair.turn(fallback_model=pair.spare.model)
    assert (view.status, view.error.retryable, len(view.attempts)) == ("failed", True, 1)
    assert (text_of(view.message), view.message.complete) == ("Half", False)
    assert (len(pair.up.heard), pair.other.heard) == (1, [])


async def test_silence_is_tried_again_before_the_first_chunk_and_not_after_it(path):
    """Each attempt has its own patience."""
    settings = {"first_chunk_timeout_s": 0.5, "idle_timeout_s": 0.3, **TWICE}
    plays = [[HANG], CHAT.answer("Hello."), [*CHAT.speaking(CHAT.says("Half")), HANG]]
    async with house(path, CHAT, *plays, **settings) as (chat, _):
        views = [await asked(chat, CHAT.model) for _ in range(2)]
    assert numbers(views[0]) == [(1, 1, "provider_timed_out"), (1, 2, "completed")]
    assert numbers(views[1]) == [(1, 1, "provider_timed_out")]


async def test_nobody_there_is_tried_again(path):
    """Who starts a moment later is found."""
    address = nobody()
    async with asking(path, (CHAT, address), max_attempts=3, **AT_ONCE) as chat:
        view = await asked(chat, CHAT.model)
    assert numbers(view) == [(1, number, "provider_unavailable") for number in (1, 2, 3)]
    assert view.error.code == "provider_unavailable"


# --- on record --------------------------------------------------------------------------------------------------------


@every_wire
async def test_each_attempt_is_on_record_before_it_is_sent(path, wire):
    """With a commitment of its own, which holds for the very bytes that were sent; and each has its end."""
    seen = []

    def play(request):
        seen.append([json.loads(facts) for (facts,) in query(path, STARTS)])
        return wire.refusal(503) if len(seen) < 3 else wire.answer("Hello.")

    async with house(path, wire, play, max_attempts=3, **AT_ONCE) as (chat, up):
        session = await chat.create_session(model=wire.model, system="Be kind.")
        view = await chat.say(session.id, "Go.")
        attempts = await attempts_of(chat, session.id)
        events = (await chat.events(session.id)).items
    assert [len(each) for each in seen] == [1, 2, 3]
    assert len({started["request"] for started, *_ in attempts}) == 3
    for request, (started, words, ended, said) in zip(up.requests, attempts, strict=True):
        salt = b64decode(words["salt"])
        assert hashlib.sha256(salt + request.body).hexdigest() == started["request"]
        assert (started["provider"], f"{wire.provider}/{words['model']}") == (wire.provider, wire.model)
        assert started["positions"] == [events[1].position]
        assert ended["duration_ms"] >= 0
        assert said["request_id"] == "req_7"
    assert [ended.get("status") for _, _, ended, _ in attempts] == [503, 503, None]
    assert [ended.get("frame") for _, _, ended, _ in attempts] == [2, 3, None]
    assert [event.type for event in events[2:]] == [
        "turn.started",
        *["attempt.started", "attempt.ended"] * 3,
        "message.appended",
        "turn.completed",
    ]
    assert (view.usage.input_tokens, view.usage.output_tokens, view.usage.estimated) == (7, 3, False)


STARTS = "SELECT facts FROM events WHERE type = 'attempt.started' ORDER BY position"


@pytest.mark.parametrize("most", [1, 2, 4])
async def test_only_so_many_attempts_are_made(path, most):
    """The last failure is the turn's; of the others readers are told."""
    plays = [CHAT.refusal(status) for status in (500, 502, 503, 529)]
    async with house(path, CHAT, *plays, max_attempts=most, **AT_ONCE) as (chat, up):
        session = await chat.create_session(model=CHAT.model)
        turn = await begin(chat, session.id, "Go.")
        frames = await frames_of(chat, turn)
        view = await chat.turn(turn)
        ends = [ended["status"] for _, _, ended, _ in await attempts_of(chat, session.id)]
    assert len(up.requests) == most
    assert [frame.type for frame in frames] == ["turn.started", *["attempt.failed"] * (most - 1), "turn.failed"]
    assert [data(frame)["attempt"] for frame in frames[1:-1]] == [*range(1, most)]
    assert ends == [500, 502, 503, 529][:most]
    assert str(ends[-1]) in view.error.detail
    assert view.message is None


async def test_a_later_round_is_tried_again_by_itself(path):
    """A tool that has run is not run again."""
    plays = [CHAT.calls("a", "echo", '{"text": "x"}'), CHAT.refusal(503), CHAT.answer("Done.")]
    async with house(path, CHAT, *plays, **TWICE) as (chat, up):
        session = await chat.create_session(model=CHAT.model)
        turn = await begin(chat, session.id, "Go.", tools=("echo",))
        frames = await frames_of(chat, turn)
        view = await chat.turn(turn)
        first, *others = await attempts_of(chat, session.id)
    assert numbers(view) == [(1, 1, "completed"), (2, 1, "provider_unavailable"), (2, 2, "completed")]
    assert text_of(view.message) == "Done."
    assert [frame.type for frame in frames].count("tool.returned") == 1
    assert data(frames[[frame.type for frame in frames].index("attempt.failed")])["round"] == 2
    assert [len(started["positions"]) for started, *_ in (first, *others)] == [1, 3, 3]
    assert up.requests[1].body == up.requests[2].body


async def test_a_dropped_kept_alive_connection_is_one_attempt(path):
    """Nothing was received, so the same bytes went out again, and nobody was asked twice."""
    async with house(path, CHAT, CHAT.answer("One."), [RESET], CHAT.answer("Two.")) as (chat, up):
        await asked(chat, CHAT.model)
        await asyncio.sleep(0.06)  # the connection is drained, and kept
        view = await asked(chat, CHAT.model)
    assert (numbers(view), text_of(view.message)) == ([(1, 1, "completed")], "Two.")
    assert up.connections == 2


# --- waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("jitter", "least"), [(0, [0, 0, 0]), (128, [0.025, 0.05, 0.1]), (255, [0.049, 0.099, 0.199])])
async def test_the_wait_doubles_and_is_jittered(path, jitter, least):
    """Anything from nothing to the doubled base."""
    settings = {"max_attempts": 4, "retry_base_ms": 50}
    async with house(path, CHAT, CHAT.refusal(503), clock=Dice(jitter), **settings) as (chat, up):
        await asked(chat, CHAT.model)
    assert len(up.requests) == 4
    assert all(waited >= wanted for waited, wanted in zip(waits(up), least, strict=True))
    assert sum(waits(up)) < sum(least) + 2


async def test_a_wait_has_its_cap(path):
    """However long the base."""
    settings = {"max_attempts": 3, "retry_base_ms": 50_000, "retry_cap_s": 0.1}
    async with house(path, CHAT, CHAT.refusal(503), clock=Dice(255), **settings) as (chat, up):
        await asked(chat, CHAT.model)
    assert all(0.099 <= waited < 5 for waited in waits(up))


@pytest.mark.parametrize(
    "headers",
    [
        ["retry-after: 0.2"],
        [f"retry-after: {formatdate(NOW_S + 1, usegmt=True)}"],
        ["retry-after-ms: 200"],
        ["retry-after: 3600", "retry-after-ms: 200"],
    ],
    ids=["seconds", "date", "milliseconds", "both"],
)
async def test_retry_after_is_honoured(path, headers):
    """In each of its forms: not earlier, and the backoff comes on top."""
    clock = Dice(255, NOW_S + 0.8)
    settings = {"max_attempts": 2, "retry_base_ms": 50}
    plays = [CHAT.refusal(429, "some_error", *headers), CHAT.answer("Hello.")]
    async with house(path, CHAT, *plays, clock=clock, **settings) as (chat, up):
        view = await asked(chat, CHAT.model)
    assert view.status == "completed"
    assert 0.24 <= waits(up)[0] < 5


@pytest.mark.parametrize(
    "header",
    [
        "retry-after: 3600",
        "retry-after-ms: 60000",
        f"retry-after: {formatdate(NOW_S + 100)}",
        "retry-after: 1e300",
    ],
)
async def test_who_asks_for_more_patience_than_there_is_gets_no_retry(path, header):
    """Nobody is kept waiting for nothing: the turn fails at once, and says that it may be tried again."""
    plays = [CHAT.refusal(429, "some_error", header)]
    async with house(path, CHAT, *plays, clock=Dice(0), max_attempts=3) as (chat, up):
        view = await asked(chat, CHAT.model)
    assert (view.error.code, view.error.retryable, len(up.requests)) == ("provider_unavailable", True, 1)


@pytest.mark.parametrize("bound", ["retry_for_s", "turn_timeout_s"])
async def test_attempts_are_bounded_in_time(path, bound):
    """A wait that would end later is not begun."""
    settings = {"max_attempts": 100, "retry_base_ms": 100, "retry_cap_s": 0.1, bound: 0.3}
    async with house(path, CHAT, CHAT.refusal(503), clock=Dice(255), **settings) as (chat, up):
        view = await asked(chat, CHAT.model)
    assert 1 <= len(up.requests) <= 3
    # The turn's own time may run out while the last attempt is recorded or made.
    assert view.error.code in {"provider_unavailable", "turn_limit_reached", "provider_timed_out"}
    assert view.error.code == "provider_unavailable" or bound == "turn_timeout_s"


@every_wire
async def test_a_turn_can_be_cancelled_while_it_waits(path, wire):
    """At once, by whom it was, and no further request goes out."""
    plays = [wire.refusal(503, "some_error", "retry-after: 30")]
    caller = engine.Caller("default", "key:9")
    async with house(path, wire, *plays, max_attempts=3) as (chat, up):
        session = await chat.create_session(model=wire.model)
        turn = await begin(chat, session.id, "Go.")
        frames = await shown(chat, turn, 2)
        assert frames[-1].type == "attempt.failed"
        async with asyncio.timeout(10):
            view = await chat.cancel(turn, caller=caller)
        assert (await chat.events(session.id)).items[-1].actor == "key:9"
        assert (await chat.say(session.id, MEANWHILE)).status == "completed"
    assert (view.status, numbers(view)) == ("cancelled", [(1, 1, "provider_unavailable")])
    assert len(up.requests) == 1


async def test_a_shutdown_does_not_wait_for_a_retry(path):
    """The turn is interrupted, and can be asked anew."""
    plays = [CHAT.refusal(503, "some_error", "retry-after: 30")]
    async with house(path, CHAT, *plays, max_attempts=3, drain_s=0) as (chat, _):
        session = await chat.create_session(model=CHAT.model)
        turn = await begin(chat, session.id, "Go.")
        await shown(chat, turn, 2)
        async with asyncio.timeout(10):
            await chat.serving.drain()
        view = await chat.turn(turn)
    assert (view.status, numbers(view)) == ("interrupted", [(1, 1, "provider_unavailable")])


async def test_a_server_may_die_while_a_turn_waits(path, tmp_path):
    """The next one ends the turn; the attempt keeps the end that it had."""
    plays = [CHAT.refusal(503, "some_error", "retry-after: 30")]
    async with house(path, CHAT, *plays, max_attempts=3, drain_s=0) as (chat, _):
        session = await chat.create_session(model=CHAT.model)
        turn = await begin(chat, session.id, "Go.")
        frames = await shown(chat, turn, 2)
        dead = snapshot(path, tmp_path / "dead.db")
        await chat.cancel(turn)
    async with house(dead, CHAT) as (chat, _):
        view = await chat.turn(turn)
        again = await frames_of(chat, turn)
        assert (await chat.say(session.id, "Again.")).status == "completed"
    assert (view.status, numbers(view)) == ("interrupted", [(1, 1, "provider_unavailable")])
    assert again[:2] == frames
    assert [frame.type for frame in again[2:]] == ["turn.interrupted"]
    audit(dead)


# --- another model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 529])
async def test_another_model_answers_where_the_first_cannot(pair, status):
    """After the attempts of the first, at once; the record says which model said what, on which bytes."""
    wire, spare = pair.wire, pair.spare
    pair.will(wire.refusal(status))
    view, frames, attempts = await pair.turn(fallback_model=spare.model, system="Be kind.")
    *failed, (started, words, ended, _) = attempts
    tries = 1 if status in {401, 403, 404} else 2
    assert (len(pair.up.heard), len(pair.other.heard)) == (tries, 1)
    assert (view.status, text_of(view.message), view.model) == ("completed", "Fine.", wire.model)
    assert [f"{each.provider}/{each.model}" for each in view.attempts] == [wire.model] * tries + [spare.model]
    assert [each.attempt for each in view.attempts] == [*range(1, tries + 2)]
    types = [frame.type for frame in frames]
    assert types[: tries + 2] == ["turn.started", *["attempt.failed"] * tries, "block.started"]
    assert {f"{each['provider']}/{said['model']}" for each, said, *_ in failed} == {wire.model}
    assert {each["model"] for each, *_ in attempts} == {"other"}  # neither stands in the catalogue
    assert started["renderer"].startswith(spare.provider)
    assert started["renderer"] != failed[0][0]["renderer"]
    (request,) = pair.other.heard
    assert hashlib.sha256(b64decode(words["salt"]) + request.body).hexdigest() == started["request"]
    assert request.json()["model"] == spare.model.partition("/")[2]
    assert ("system" in request.json()) is (spare.provider == "anthropic")
    assert ended["outcome"] == "completed"


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_another_model_is_not_asked_what_the_first_did_not_understand(pair, status):
    """It would hardly like it better."""
    pair.will(pair.wire.refusal(status))
    view, *_ = await pair.turn(fallback_model=pair.spare.model)
    assert (view.status, view.error.code, pair.other.heard) == ("failed", "provider_rejected", [])


@pytest.mark.parametrize(
    "play", [[RESET], [HANG], page(200, b"<html>", kind="text/html")], ids=["reset", "hang", "html"]
)
async def test_another_model_answers_for_one_that_is_not_well(path, play):
    """Whatever ails it."""
    settings = {"first_chunk_timeout_s": 0.5}
    async with two_houses(path, CHAT, play, **settings) as (chat, _, __, spare):
        view = await asked(chat, CHAT.model, fallback_model=spare.model)
    assert [each.provider for each in view.attempts] == ["openai", "anthropic"]
    assert view.status == "completed"


async def test_another_model_may_fail_too(path):
    """It is tried as often as the first, and then its failure is the turn's."""
    async with two_houses(path, CHAT, CHAT.refusal(500), **TWICE) as (chat, up, other, spare):
        other.will(spare.refusal(529))
        view = await asked(chat, CHAT.model, fallback_model=spare.model)
    assert (len(up.requests), len(other.requests)) == (2, 2)
    assert [each.provider for each in view.attempts] == ["openai", "openai", "anthropic", "anthropic"]
    assert [each.attempt for each in view.attempts] == [1, 2, 3, 4]
    assert "529" in view.error.detail


async def test_the_first_model_is_asked_first_in_the_next_turn(path):
    """What failed once may be well again."""
    async with two_houses(path, CHAT, CHAT.refusal(500), CHAT.answer("Well.")) as (chat, _, __, spare):
        session = await chat.create_session(model=CHAT.model, fallback_model=spare.model)
        assert text_of((await chat.say(session.id, "Go.")).message) == "Fine."
        assert text_of((await chat.say(session.id, "And now?")).message) == "Well."


async def test_the_window_is_the_other_models(path, tmp_path):
    """Planned for what it can hold and for how it counts."""
    file = tmp_path / "models.json"
    model = {"provider": "anthropic", "name": "claude-x", "context_tokens": 400, "max_output_tokens": 50}
    file.write_text(json.dumps({"as_of": "2026-11-22", "models": [model]}))
    settings = {"models_file": str(file)}
    async with two_houses(path, CHAT, CHAT.refusal(401), **settings) as (chat, up, other, spare):
        session = await chat.create_session(model=CHAT.model, fallback_model=spare.model)
        for number in range(8):
            await chat.append_messages(session.id, [engine.MessageIn(f"{number} " + "word " * 60)])
        view = await chat.say(session.id, "And now?")
        first, second = [started for started, *_ in await attempts_of(chat, session.id)]
    assert view.status == "completed"
    assert len(first["positions"]) == 9
    assert 1 <= len(second["positions"]) < 6
    assert second["positions"] == first["positions"][-len(second["positions"]) :]
    assert (first["budget_tokens"], second["budget_tokens"]) == (8192, 400)
    assert second["factor_permille"] > first["factor_permille"]
    assert "0 word" in up.requests[0].body.decode()
    assert "0 word" not in other.requests[0].body.decode()


CANNOT = {
    "what its protocol cannot say": {"stop": ("x",)},
    "what it has no room for": {"budget_tokens": 300},
}


@pytest.mark.parametrize("ask", CANNOT.values(), ids=CANNOT)
async def test_a_model_that_cannot_be_asked_does_not_answer(path, tmp_path, ask):
    """The first one's failure stands: the turn ends with it, and no reader is told of an attempt that never comes."""
    file = tmp_path / "models.json"
    model = {"provider": "openai", "name": "gpt-x", "context_tokens": 20}
    file.write_text(json.dumps({"as_of": "2026-11-22", "models": [model] if "budget_tokens" in ask else []}))
    async with (
        upstream(CLAUDE, CLAUDE.refusal(529)) as up,
        upstream(RESPONSES) as other,
        asking(path, (CLAUDE, up.address), (RESPONSES, other.address), models_file=str(file)) as chat,
    ):
        session = await chat.create_session(model=CLAUDE.model, fallback_model=RESPONSES.model)
        turn = await begin(chat, session.id, "word " * 40, **ask)
        frames = await frames_of(chat, turn)
        view = await chat.turn(turn)
    assert (view.status, view.error.code, view.error.retryable) == ("failed", "provider_unavailable", True)
    assert "529" in view.error.detail
    assert [frame.type for frame in frames] == ["turn.started", "turn.failed"]
    assert numbers(view) == [(1, 1, "provider_unavailable")]
    assert other.requests == []


async def test_another_model_may_be_the_same_vendors(path):
    """A name of its own is enough."""
    async with house(path, CHAT, CHAT.refusal(404), CHAT.answer("Hello.")) as (chat, up):
        view = await asked(chat, CHAT.model, fallback_model="openai/gpt-y")
    assert [request.json()["model"] for request in up.requests] == ["gpt-x", "gpt-y"]
    assert view.status == "completed"


@pytest.mark.parametrize("play", ["answers", "fails"])
async def test_a_fallback_that_is_not_served_any_more_is_no_obstacle(path, play):
    """A session whose fallback model has gone from the settings goes on with its own; where that fails, the failure
    says why nobody else was asked.
    """
    async with upstream(CHAT) as up, asking(path, (CHAT, up.address), (CLAUDE, up.address)) as chat:
        session = (await chat.create_session(model=CHAT.model, fallback_model=CLAUDE.model)).id
    plays = CHAT.answer("Hello.") if play == "answers" else CHAT.refusal(404)
    async with upstream(CHAT, plays) as up, asking(path, (CHAT, up.address)) as chat:
        view = await chat.say(session, "Hi.")
        assert (await chat.session(session)).fallback_model == CLAUDE.model
    if play == "answers":
        assert view.status == "completed"
    else:
        assert (view.status, view.error.code) == ("failed", "provider_rejected")
        assert view.error.detail.endswith(f"; the fallback model {CLAUDE.model} is not served any more")
    assert len(up.requests) == 1


# --- who keeps failing ------------------------------------------------------------------------------------------------

FAULTS = {
    "a fault": lambda wire: wire.refusal(500),
    "an overload": lambda wire: wire.refusal(529),
    "an overload in the stream": lambda wire: [*wire.stream(*wire.begins(), wire.fails("overloaded_error")), LAST],
    "a reset": lambda wire: [RESET],
    "silence": lambda wire: [HANG],
    "a cut before the first chunk": lambda wire: [*wire.stream(*wire.begins()), LAST],
    "a cut after the first chunk": lambda wire: [*wire.speaking(wire.says("Half")), LAST],
    "silence after the first chunk": lambda wire: [*wire.speaking(wire.says("Half")), HANG],
}


@pytest.mark.parametrize(
    ("play", "wire", "patience_s"),
    [
        pytest.param(play, wire, 0.2 if "silence" in name else 60, id=f"{name}-{wire.name}")
        for name, play in FAULTS.items()
        for wire in (WIRES if "stream" in name else (CHAT,))
    ],
)
async def test_who_keeps_failing_is_left_alone(path, wire, play, patience_s):
    """After so many faults and time-outs in a row no request goes out; another provider is asked as ever."""
    settings = {"breaker_failures": 2, "first_chunk_timeout_s": patience_s, "idle_timeout_s": patience_s}
    async with two_houses(path, wire, play(wire), **settings) as (chat, up, _, spare):
        for _ in range(2):
            assert (await asked(chat, wire.model)).error.code != "provider_circuit_open"
        asked_before = len(up.requests)
        session = await chat.create_session(model=wire.model)
        refused = await chat.say(session.id, "Go.")
        assert (await asked(chat, spare.model)).attempts[0].outcome != "provider_circuit_open"
        ((started, _, ended, _),) = await attempts_of(chat, session.id)
    assert (refused.status, refused.error.code) == ("failed", "provider_circuit_open")
    assert refused.error.retryable
    assert (ended["outcome"], ended["usage"]["input_tokens"]) == ("provider_circuit_open", 0)
    assert started["provider"] == wire.provider
    assert len(up.requests) == asked_before


HARMLESS = {
    **{f"{status}": lambda wire, status=status: wire.refusal(status) for status in (400, 401, 403, 404, 413, 422, 429)},
    "408 and 409": lambda wire: wire.refusal(409),
    "a limit in the stream": lambda wire: [*wire.stream(*wire.begins(), wire.fails("rate_limit_error")), LAST],
    "html": lambda wire: page(200, b"<html>", kind="text/html"),
}


@every_wire
async def test_what_is_about_one_caller_leaves_nobody_alone(path, wire):
    """A 4xx says nothing about the provider."""
    plays = [play(wire) for play in HARMLESS.values()]
    async with house(path, wire, *plays, wire.answer("Fine."), breaker_failures=1) as (chat, up):
        for _ in plays:
            assert (await asked(chat, wire.model)).error.code in CALLERS_OWN
        assert (await asked(chat, wire.model)).status == "completed"
    assert len(up.requests) == len(plays) + 1


CALLERS_OWN = {"provider_rejected", "provider_unavailable", "provider_malformed"}


@every_wire
async def test_a_cancel_leaves_nobody_alone(path, wire):
    """A client that leaves says nothing about the provider."""
    async with house(path, wire, [HANG], breaker_failures=1) as (chat, up):
        for _ in range(3):
            session = await chat.create_session(model=wire.model)
            turn = await begin(chat, session.id, "Go.")
            up.asked.clear()
            await asyncio.wait_for(up.asked.wait(), 5)
            assert (await chat.cancel(turn)).status == "cancelled"
        up.will(wire.answer("Fine."))
        assert (await asked(chat, wire.model)).status == "completed"


async def test_who_is_well_again_is_asked_again(path):
    """After a while one is let through, then all; if it fails, the wait begins anew."""
    plays = [CHAT.refusal(503), CHAT.refusal(503), CHAT.answer("Well.")]
    settings, clock = {"breaker_failures": 1, "breaker_open_s": 1000}, Dice()
    async with house(path, CHAT, *plays, clock=clock, **settings) as (chat, up):
        outcomes = []
        for pause_s in (0, 0, 1001, 0, 1001, 0):
            clock.ahead_s += pause_s
            view = await asked(chat, CHAT.model)
            outcomes.append(view.attempts[0].outcome)
    down, left_alone = "provider_unavailable", "provider_circuit_open"
    assert outcomes == [down, left_alone, down, left_alone, "completed", "completed"]
    assert len(up.requests) == 4


async def test_one_is_let_through_and_not_two(path):
    """While it is found out whether the provider is well, the others are told to come again."""
    gate, clock = Gate(), Dice()
    plays = [CHAT.refusal(503), [gate.wait, *CHAT.answer("Well.")], CHAT.answer("Well.")]
    settings = {"breaker_failures": 1, "breaker_open_s": 1000}
    async with house(path, CHAT, *plays, clock=clock, **settings) as (chat, up):
        await asked(chat, CHAT.model)
        clock.ahead_s += 1001
        up.asked.clear()
        trial = asyncio.create_task(asked(chat, CHAT.model))
        await asyncio.wait_for(up.asked.wait(), 5)
        assert (await asked(chat, CHAT.model)).error.code == "provider_circuit_open"
        gate.open()
        assert (await trial).status == "completed"
        assert (await asked(chat, CHAT.model)).status == "completed"


async def test_who_is_left_alone_is_waited_for_if_that_is_not_long(path):
    """A turn that finds it so tries again when it may."""
    plays = [CHAT.refusal(503), CHAT.answer("Well.")]
    settings = {"breaker_failures": 1, "breaker_open_s": 0.3, "max_attempts": 3, "retry_base_ms": 1}
    async with house(path, CHAT, *plays, **settings) as (chat, up):
        view = await asked(chat, CHAT.model)
    assert [each.outcome for each in view.attempts] == ["provider_unavailable", "provider_circuit_open", "completed"]
    assert len(up.requests) == 2


async def test_another_model_answers_while_the_first_is_left_alone(path):
    """At once: nobody waits for the one while there is the other."""
    settings = {"breaker_failures": 1, "breaker_open_s": 20, "max_attempts": 3}
    async with two_houses(path, CHAT, CHAT.refusal(503, "x", "retry-after: 99"), **settings) as (chat, up, _, spare):
        await asked(chat, CHAT.model)
        async with asyncio.timeout(5):
            view = await asked(chat, CHAT.model, fallback_model=spare.model)
    assert [each.outcome for each in view.attempts] == ["provider_circuit_open", "completed"]
    assert len(up.requests) == 1


# --- how many at once -------------------------------------------------------------------------------------------------


@every_wire
async def test_only_so_many_ask_one_provider_at_once(path, wire):
    """The rest wait their turn; another provider is asked meanwhile."""
    gate = Gate()
    plays = [[gate.wait, *wire.answer("Fine.")]]
    async with two_houses(path, wire, *plays, max_provider_requests=2) as (chat, up, _, spare):
        turns = [asyncio.create_task(asked(chat, wire.model)) for _ in range(6)]

        async def two_ask():
            return len(up.requests) == 2

        await until(two_ask)
        assert (await asked(chat, spare.model)).status == "completed"
        assert len(up.requests) == 2
        gate.open()
        assert {(await turn).status for turn in turns} == {"completed"}
    assert (len(up.requests), up.most_running) == (6, 2)


async def test_who_waits_too_long_is_told_to_come_again(path):
    """The wait is bounded, and so are those who wait; the one who was first goes on."""
    settings = {"max_provider_requests": 1, "max_provider_waiting": 1, "provider_wait_s": 0.2}
    gate = Gate()
    plays = [[*CHAT.speaking(CHAT.says("Half")), gate.wait, *map(part, CHAT.ends()), LAST]]
    async with house(path, CHAT, *plays, **settings) as (chat, up):
        first = asyncio.create_task(asked(chat, CHAT.model))
        await asyncio.wait_for(up.asked.wait(), 5)
        others = await asyncio.gather(*(asked(chat, CHAT.model) for _ in range(3)))
        gate.open()
        assert (await first).status == "completed"
    assert {(turn.status, turn.error.code, turn.error.retryable) for turn in others} == {("failed", "overloaded", True)}
    assert {turn.attempts[0].outcome for turn in others} == {"overloaded"}
    assert sum(turn.usage.input_tokens for turn in others) == 0
    assert len(up.requests) == 1


async def test_who_waits_for_a_slot_can_be_cancelled(path):
    """And takes none with it."""
    gate = Gate()
    plays = [[*CHAT.speaking(CHAT.says("Half")), gate.wait, *map(part, CHAT.ends()), LAST], CHAT.answer("Fine.")]
    async with house(path, CHAT, *plays, max_provider_requests=1) as (chat, up):
        first = asyncio.create_task(asked(chat, CHAT.model))
        await asyncio.wait_for(up.asked.wait(), 5)
        session = await chat.create_session(model=CHAT.model)
        turn = await begin(chat, session.id, "Go.")
        assert (await chat.cancel(turn)).status == "cancelled"
        gate.open()
        assert (await first).status == "completed"
        assert (await asked(chat, CHAT.model)).status == "completed"
    assert len(up.requests) == 2


async def test_a_turn_that_waits_to_try_again_keeps_nobody_waiting(path):
    """It holds no slot."""
    plays = [CHAT.refusal(503, "some_error", "retry-after: 30"), CHAT.answer("Fine.")]
    async with house(path, CHAT, *plays, max_provider_requests=1, max_attempts=2) as (chat, _):
        session = await chat.create_session(model=CHAT.model)
        turn = await begin(chat, session.id, "Go.")
        await shown(chat, turn, 2)
        async with asyncio.timeout(10):
            assert (await asked(chat, CHAT.model)).status == "completed"
        await chat.cancel(turn)


# --- many -------------------------------------------------------------------------------------------------------------


async def test_many_turns_try_again_side_by_side(path):
    """Each has its own attempts, and none gets another's answer."""

    class Said(Chat):
        """Fails the first request of every conversation, and says back what the second asked."""

        def __init__(self):
            self.seen = set()

        def play(self, request):
            content = request.json()["messages"][-1]["content"]
            text = content if isinstance(content, str) else content[-1]["text"]
            if text in self.seen:
                return self.answer(f"You said {text}")
            self.seen.add(text)
            return self.refusal(503)

    wire = Said()
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(upstream(wire, wire.play))
        settings = {"breaker_failures": 1000, **TWICE}
        chat = await stack.enter_async_context(asking(path, (wire, up.address), **settings))
        turns = await asyncio.gather(*(asked(chat, wire.model, f"number {number}.") for number in range(40)))
        frames = [texts_of(await frames_of(chat, turn.id)) for turn in turns]
    assert [text_of(turn.message) for turn in turns] == [f"You said number {number}." for number in range(40)]
    assert frames == [{0: f"You said number {number}."} for number in range(40)]
    assert {len(turn.attempts) for turn in turns} == {2}
