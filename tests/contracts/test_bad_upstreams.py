"""What a turn promises when the upstream fails it: it ends within its limits, with the right event, reason and code,
what came is kept, the record knows all that the upstream said, the client none of it, and nobody else notices.

Raw upstreams on loopback, for both vendors' protocols, before a real engine on a real file.
"""

import asyncio
import datetime as dt
import ipaddress
import itertools
import json
import logging
import re
import ssl
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import msgspec
import pytest

from manent.engine.errors import Invalid, ProviderTooLarge
from manent.engine.providers.anthropic.stream import MessageStream
from manent.engine.providers.openai.responses_stream import ResponsesStream
from manent.engine.providers.wire.sse import SseEvent
from tests.support import assert_rebuilds, audit, begin, frames_of, text_of, texts_of, until
from tests.upstream import (
    CLOSE,
    HANG,
    KEY,
    LAST,
    MEANWHILE,
    RESET,
    WIRES,
    WORDS,
    asking,
    attempts_of,
    endlessly,
    gone,
    head,
    nobody,
    page,
    part,
    says_nothing_of,
    sse,
    upstream,
)

WIRE = Path(__file__).parent.parent / "golden" / "wire"
GOLDEN = sorted(WIRE.glob("*.sse"))
PATIENCE_S = 20
ENDS = {"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"}

every_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


class House:
    """An engine, the upstream it asks, and how that speaks."""

    def __init__(self, chat, up, wire, path):
        self.chat = chat
        self.up = up
        self.wire = wire
        self.path = path


@pytest.fixture(scope="module")
async def houses(anyio_backend, tmp_path_factory):
    """One for each protocol, for all tests: what an upstream does to one turn is nothing to the next. The files of all
    that was endured are sound at the end, and hold no key.
    """
    folder = tmp_path_factory.mktemp("houses")
    async with AsyncExitStack() as stack:
        found = {}
        for wire in WIRES:
            path = folder / f"{wire.name}.db"
            up = await stack.enter_async_context(upstream(wire))
            asks = asking(path, (wire, up.address), max_answer_bytes=100_000, max_blocks=100, breaker_failures=10_000)
            found[wire.name] = House(await stack.enter_async_context(asks), up, wire, path)
        yield found
    for each in found.values():
        audit(each.path)
        assert_rebuilds(each.path, each.path.with_suffix(".copy"))
    assert says_nothing_of(KEY, folder / "any.db")


@pytest.fixture(params=[wire.name for wire in WIRES])
def house(request, houses):
    """That of each protocol in turn."""
    return houses[request.param]


@pytest.fixture(autouse=True)
def no_key_is_logged(caplog):
    """Whatever is done, at any level."""
    caplog.set_level(logging.DEBUG)
    yield
    assert KEY not in caplog.text


class Endured:
    """A turn that has ended: as it is seen, as it was shown, and its one attempt as it is recorded."""

    def __init__(self, view, frames, attempt):
        self.view = view
        self.frames = frames
        self.started, _, self.ended, self.words = attempt

    @property
    def text(self):
        """What came; None if nothing did."""
        return None if self.view.message is None else text_of(self.view.message)


async def endures(house, *play):
    """A turn on what the upstream plays, while another session is answered well by the same."""
    house.up.will(play)
    return await turn_beside_another(house.chat, house.wire.model, house.wire.model)


async def turn_beside_another(chat, model, well, content="Go."):
    session, other = await chat.create_session(model=model), await chat.create_session(model=well)
    async with asyncio.timeout(PATIENCE_S):
        turn = await begin(chat, session.id, content)
        assert (await chat.say(other.id, MEANWHILE)).status == "completed"
        frames = await frames_of(chat, turn)
    view = await chat.turn(turn)
    (attempt,) = await attempts_of(chat, session.id)
    assert [frame.number for frame in frames] == [*range(1, len(frames) + 1)]
    assert [frame.type for frame in frames if frame.type in ENDS] == [f"turn.{view.status}"] == [frames[-1].type]
    assert await frames_of(chat, turn) == frames
    shown = b"".join(frame.data for frame in frames) + msgspec.json.encode(view)
    assert WORDS.encode() not in shown
    assert KEY.encode() not in shown
    assert view.attempts[0].outcome == attempt[2]["outcome"]
    assert (await chat.session(session.id)).open_turn_id is None
    return Endured(view, frames, attempt)


def assert_failed(endured, code, *, text=None, retryable=None, **facts):
    """The turn has failed with this code, and so has its attempt; ``facts`` are of its end, and the vendor's code is of
    its words.
    """
    view, ended = endured.view, endured.ended
    assert "vendor_code" not in ended
    assert (view.status, view.error.code, ended["outcome"]) == ("failed", code, code)
    assert view.stop_reason is None
    assert view.error.retryable is ended.get("retryable", False)
    assert retryable is None or view.error.retryable is retryable
    recorded = {"vendor_code": (endured.words or {}).get("vendor_code")} | ended
    assert {name: recorded.get(name) for name in facts} == facts
    assert ended["duration_ms"] >= 0
    assert endured.text == text
    assert view.message is None or not view.message.complete
    assert texts_of(endured.frames) == ({0: text} if text else {})


# --- statuses ---------------------------------------------------------------------------------------------------------

STATUSES = {
    "provider_rejected": (302, 307, 400, 401, 402, 403, 404, 413, 422),
    "provider_unavailable": (408, 409, 429, 500, 502, 503, 504, 529),
}


@pytest.mark.parametrize(("status", "code"), [(each, code) for code, all_ in STATUSES.items() for each in all_])
async def test_a_status_is_on_record(house, status, code):
    """The attempt says status, vendor's code, request id, and what the upstream said without the key that it showed."""
    endured = await endures(house, *house.wire.refusal(status))
    facts = {"status": status, "vendor_code": "some_error", "first_chunk_ms": None}
    assert_failed(endured, code, retryable=code == "provider_unavailable", **facts)
    assert endured.words["request_id"] == "req_7"
    assert f"{WORDS}, [secret]" in endured.words["upstream"]
    assert str(status) in endured.view.error.detail


@pytest.mark.parametrize("forms", [["retry-after: 7"], ["retry-after: Wed, 21 Oct 2099 07:28:00 GMT"]])
async def test_a_limit_of_the_vendors_is_told_as_one(house, forms):
    """429 in each form; who is not to try again is not kept waiting."""
    endured = await endures(house, *house.wire.refusal(429, "rate_limit_error", *forms, "retry-after-ms: 7000"))
    assert_failed(endured, "provider_unavailable", status=429, vendor_code="rate_limit_error", retryable=True)


BODIES = {
    "html": b"<html><body>" + WORDS.encode() + b"</body></html>",
    "JSON cut in the middle": b'{"error": {"message": "' + WORDS.encode(),
    "invalid UTF-8": b"\xff\xfe" + WORDS.encode() + b"\x80",
    "nothing": b"",
    "the key alone": KEY.encode(),
    "a key at the end of what is kept": b"x" * ((16 << 10) - 9) + KEY.encode() * 3,
    "a megabyte": WORDS.encode() * 50_000,
    "a code that is the key": json.dumps({"error": {"code": KEY, "type": KEY}}).encode(),
    "strange JSON": b"[" * 20_000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_failures_body_may_be_anything(house, body):
    """It goes on record, bounded and without the key, and decides nothing."""
    status = 401 if len(body) % 2 else 502
    endured = await endures(house, *page(status, body, kind="text/html"))
    assert_failed(endured, STATUS_CODES[status], status=status, vendor_code=None)
    kept = endured.words.get("upstream", "") if endured.words else ""
    assert len(kept.encode()) <= 16 << 10
    assert (WORDS in kept) is (WORDS.encode() in body)
    assert KEY[:8] not in kept


STATUS_CODES = {status: code for code, statuses in STATUSES.items() for status in statuses}


# --- answers that are none --------------------------------------------------------------------------------------------

HTML = f"<html>{WORDS} {KEY}</html>".encode()
WHOLE = json.dumps({"id": "1", "choices": [{"message": {"content": WORDS}}]}).encode()

NOT_A_STREAM = {
    "html": (lambda wire: page(200, HTML, kind="text/html; charset=utf-8"), "provider_malformed"),
    "an answer in one piece": (lambda wire: page(200, WHOLE), "provider_malformed"),
    "an error in a 200": (lambda wire: wire.refusal(200), "provider_malformed"),
    "html by the name of a stream": (lambda wire: [head(), part(HTML), LAST], "provider_truncated"),
    "nothing": (lambda wire: [head(), LAST], "provider_truncated"),
    "no content": (lambda wire: [b"HTTP/1.1 204 X\r\n\r\n"], "provider_truncated"),
    "another protocol": (lambda wire: [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", CLOSE], "provider_malformed"),
    "headers that are none": (lambda wire: [b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", CLOSE], "provider_malformed"),
    "bytes that do not decompress": (
        lambda wire: [head(200, "content-encoding: gzip"), part(HTML), LAST],
        "provider_malformed",
    ),
}


@pytest.mark.parametrize(("play", "code"), NOT_A_STREAM.values(), ids=NOT_A_STREAM)
async def test_an_answer_that_is_no_stream_is_a_failure(house, play, code):
    """A login page, a server that does not stream, another kind of server."""
    assert_failed(await endures(house, *play(house.wire)), code, vendor_code=None)


def event_of(wire, data):
    """An event of these bytes, whatever they are, that a stream could hold."""
    return b"event: content_block_delta\ndata: " + data + b"\n\n"


HUGE = 10 << 20
BAD_EVENTS = {
    "JSON cut in the middle": lambda wire: [part(event_of(wire, b'{"type": "content_block_del'))],
    "no JSON": lambda wire: [part(event_of(wire, WORDS.encode()))],
    "JSON of another form": lambda wire: [part(event_of(wire, b'["words of the upstream"]'))],
    "deep JSON": lambda wire: [part(event_of(wire, b"[" * 100_000))],
    "invalid UTF-8": lambda wire: [part(event_of(wire, b'{"type":"x","delta":"\xff\xfe"}'))],
}
TOO_LARGE = {
    "a line of 10 MB": lambda wire: [part(b"data: " + b"x" * HUGE), part(b"\n\n")],
    "a line of 10 MB in pieces": lambda wire: [part(b"data: "), *[part(b"x" * (64 << 10))] * (HUGE >> 16), LAST],
    "an event of 10 MB": lambda wire: [part(b"data: " + b"x" * (1 << 20) + b"\n")] * 10 + [part(b"\n")],
}


@pytest.mark.parametrize("said", ["", "Half an an"], ids=["at once", "after text"])
@pytest.mark.parametrize("events", BAD_EVENTS.values(), ids=BAD_EVENTS)
async def test_an_event_that_is_none_is_malformed(house, events, said):
    """What came before it is kept, and whose request it was is known."""
    wire = house.wire
    before = wire.speaking(wire.says(said)) if said else wire.stream(*wire.begins())
    endured = await endures(house, *before, *events(wire), LAST)
    assert_failed(endured, "provider_malformed", text=said or None, retryable=False)


@pytest.mark.parametrize("said", ["", "Half an an"], ids=["at once", "after text"])
@pytest.mark.parametrize("events", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_an_event_without_end_is_too_large(house, events, said):
    """It is told apart from one that is none, and not asked for again."""
    wire = house.wire
    before = wire.speaking(wire.says(said)) if said else wire.stream(*wire.begins())
    endured = await endures(house, *before, *events(wire), LAST)
    assert_failed(endured, "provider_too_large", text=said or None, retryable=False)
    assert endured.words["request_id"] == "req_7"


@pytest.mark.parametrize("said", ["", "Half an an"], ids=["at once", "after text"])
@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("overloaded_error", "provider_unavailable"),
        ("rate_limit_exceeded", "provider_unavailable"),
        ("invalid_request_error", "provider_rejected"),
        ("529", "provider_unavailable"),
    ],
)
async def test_an_error_in_the_stream_is_on_record(house, word, code, said):
    """Before text and after it: its code is the vendor's, its words stay in the record, without the key."""
    wire = house.wire
    before = wire.speaking(wire.says(said)) if said else wire.stream(*wire.begins())
    endured = await endures(house, *before, part(wire.fails(word)), HANG)
    assert_failed(endured, code, text=said or None, vendor_code=word)
    assert endured.words["request_id"] == "req_7"
    assert f"{WORDS}, [secret]" in endured.words["upstream"]
    await gone(house.up)


async def test_a_code_in_the_stream_that_is_the_key_is_none(house):
    """Facts are hashed for ever."""
    endured = await endures(house, *house.wire.stream(house.wire.fails(KEY)), LAST)
    assert_failed(endured, "provider_unavailable", vendor_code=None)


@pytest.mark.parametrize("said", ["", "Half an an"], ids=["at once", "after text"])
@pytest.mark.parametrize("error", ["flat", "nested", "failed"])
async def test_every_shape_of_a_responses_error_is_an_error(houses, error, said):
    """Vendors differ from themselves."""
    house = houses["responses"]
    wire, told = house.wire, {"code": "server_error", "message": f"{WORDS}, {KEY}"}
    event = {
        "flat": sse({"type": "error", **told}, "error"),
        "nested": sse({"type": "error", "error": told}, "error"),
        "failed": sse({"type": "response.failed", "response": {"id": "resp_1", "error": told}}, "response.failed"),
    }[error]
    before = wire.speaking(wire.says(said)) if said else wire.stream(*wire.begins())
    endured = await endures(house, *before, part(event), LAST)
    assert_failed(endured, "provider_unavailable", text=said or None, vendor_code="server_error")


# --- connections ------------------------------------------------------------------------------------------------------

BREAKS = {
    "reset before the head": ([RESET], "provider_unavailable", None),
    "closed before the head": ([CLOSE], "provider_unavailable", None),
    "closed in the head": ([b"HTTP/1.1 200 OK\r\ncontent-ty", CLOSE], "provider_unavailable", None),
    "reset after the head": ([head(), RESET], "provider_truncated", None),
    "closed after the head": ([head(), CLOSE], "provider_truncated", None),
}


@pytest.mark.parametrize(("play", "code", "text"), BREAKS.values(), ids=BREAKS)
async def test_a_lost_connection_ends_the_turn(house, play, code, text):
    """Before anything came."""
    assert_failed(await endures(house, *play), code, text=text, retryable=True)


BROKEN_BODIES = {
    "reset": [RESET],
    "closed": [CLOSE],
    "closed in mid-chunk": [b"7f\r\ndata: {", CLOSE],
    "reset in mid-chunk": [b"7f\r\ndata: {", RESET],
    "a chunk that is none": [0.05, b"zz\r\n", HANG],  # not in one packet with what came before
    "ended in an event": [part(b'data: {"type": "cont'), LAST],
    "ended between events": [LAST],
    "ended in a comment": [part(b": so long"), LAST],
}


@pytest.mark.parametrize("play", BROKEN_BODIES.values(), ids=BROKEN_BODIES)
async def test_an_answer_that_breaks_off_keeps_what_came(house, play):
    """However it ends: without the end marker it is truncated, and is counted here."""
    endured = await endures(house, *house.wire.speaking(house.wire.says("Half "), house.wire.says("an an")), *play)
    assert_failed(endured, "provider_truncated", text="Half an an", retryable=True)
    assert endured.words["request_id"] == "req_7"
    usage = endured.view.usage
    assert usage.estimated
    assert min(usage.input_tokens, usage.output_tokens) > 0


@every_wire
async def test_a_refused_connection_ends_the_turn(tmp_path, wire):
    """Nobody is there; another provider goes on, and nothing was used."""
    async with asking(tmp_path / "chat.db", (wire, nobody())) as chat:
        endured = await turn_beside_another(chat, wire.model, "echo/echo")
    assert_failed(endured, "provider_unavailable", retryable=True, status=None)


STALLS = {
    "before the first byte": (lambda wire: [HANG], None),
    "in the head": (lambda wire: [b"HTTP/1.1 200 OK\r\ncon", HANG], None),
    "after the head": (lambda wire: [head(), HANG], None),
    "before the first chunk": (lambda wire: [*wire.stream(*wire.begins()), HANG], None),
    "between chunks": (lambda wire: [*wire.speaking(wire.says("Half")), HANG], "Half"),
    "in an event": (lambda wire: [*wire.speaking(wire.says("Half")), part(b'data: {"'), HANG], "Half"),
    "with only signs of life": (lambda wire: [head(), *[part(b": still here\n\n"), 0.05] * 100], None),
    "after text, but for signs of life": (
        lambda wire: [*wire.speaking(wire.says("Half")), *[part(sse({"type": "ping"}, "ping")), 0.05] * 100],
        "Half",
    ),
}


@every_wire
async def test_upstreams_that_stall_are_left_in_time(tmp_path, wire):
    """Each turn ends when its patience does, what came is kept, the connection is closed; all at once, and beside
    others that are answered well.
    """
    plays = {name: play(wire) for name, (play, _) in STALLS.items()}
    limits = {"first_chunk_timeout_s": 0.7, "idle_timeout_s": 0.7, "breaker_failures": 1000}

    def play(request):
        return next(steps for name, steps in plays.items() if name.encode() + b"!" in request.body)

    async with upstream(wire, play) as up, asking(tmp_path / "chat.db", (wire, up.address), **limits) as chat:
        turns = [turn_beside_another(chat, wire.model, "echo/echo", f"{name}!") for name in plays]
        ended = await asyncio.gather(*turns)
        await until(lambda: nobody_runs(up))
    for endured, (name, (_, text)) in zip(ended, STALLS.items(), strict=True):
        assert 700 <= endured.ended["duration_ms"] < 5000, name
        assert_failed(endured, "provider_timed_out", text=text, retryable=True)


async def nobody_runs(up):
    return up.running == 0


async def test_a_turn_has_only_so_much_time(tmp_path):
    """However lively the upstream is."""
    wire = WIRES[0]
    path, slowly = tmp_path / "chat.db", [part(wire.says("x")), 0.05] * 100
    async with upstream(wire) as up, asking(path, (wire, up.address), turn_timeout_s=0.3) as chat:
        endured = await endures(House(chat, up, wire, path), *wire.speaking(), *slowly)
        await gone(up)
    assert set(endured.text) == {"x"}
    assert_failed(endured, "provider_timed_out", text=endured.text, retryable=True)


# --- without end ------------------------------------------------------------------------------------------------------


def block_of(wire, number):
    """An event that begins a block, small and whole."""
    call = {"index": number, "function": {"name": "f"}}
    return {
        "chat": {"choices": [{"delta": {"tool_calls": [call]}}]},
        "responses": {
            "type": "response.output_item.done",
            "output_index": number,
            "item": {"type": "telepathy", "id": f"t_{number}"},
        },
        "claude": {
            "type": "content_block_start",
            "index": number,
            "content_block": {"type": "text", "text": ""},
        },
    }[wire.name]


def many(event_of_number):
    """A step that says one event after another."""

    async def step(writer):
        for number in itertools.count():
            writer.write(part(sse(event_of_number(number))))
            await writer.drain()

    return step


ENDLESS = {
    "text": lambda wire: [*wire.speaking(), endlessly(part(wire.says("x" * 1000)))],
    "blocks": lambda wire: [*wire.stream(*wire.begins()), many(partial(block_of, wire))],
    "headers": lambda wire: [b"HTTP/1.1 200 OK\r\n", endlessly(b"x-more: and more\r\n")],
    "a header": lambda wire: [b"HTTP/1.1 200 OK\r\nx-more: ", endlessly(b"and more")],
    "a line": lambda wire: [*wire.stream(), endlessly(part(b"x" * (64 << 10)))],
}


@pytest.mark.parametrize("play", ENDLESS.values(), ids=ENDLESS)
async def test_an_endless_answer_is_cut(house, play):
    """The turn fails at a named limit, what was shown is recorded, and the upstream is left."""
    endured = await endures(house, *play(house.wire))
    assert (endured.view.status, endured.view.error.code) == ("failed", "provider_too_large")
    shown = texts_of(endured.frames)
    assert sum(map(len, shown.values())) < 200_000
    assert len(endured.frames) < 3000
    if endured.text:
        assert shown == {0: endured.text}
    await gone(house.up)


def test_blocks_that_nobody_is_shown_are_bounded_too():
    """What is kept back until a block stops, or says something, cannot grow for ever."""
    unknown = {"type": "content_block_start", "content_block": {"type": "telepathy", "x": "x" * 1000}}
    begun = {"type": "content_block_start", "index": 0, "content_block": {"type": "server_tool_use", "id": "a"}}
    more = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": "x" * 1000},
    }
    item = {"type": "response.output_item.added", "item": {"type": "message"}}
    endless = (
        (MessageStream("x"), (unknown | {"index": number} for number in itertools.count())),
        (MessageStream("x"), itertools.chain([begun], itertools.repeat(more))),
        (ResponsesStream("x"), (item | {"output_index": number} for number in itertools.count())),
    )
    for stream, events in endless:
        given = (stream.feed(SseEvent(event["type"], json.dumps(event))) for event in events)
        with pytest.raises(ProviderTooLarge, match="without end"):
            assert not any(given)


async def test_an_endless_failure_is_cut(house):
    """16 KiB of what it says are enough."""
    endured = await endures(house, head(500, kind="text/html"), endlessly(part(WORDS.encode() * 100)))
    assert_failed(endured, "provider_unavailable", status=500)
    assert len(endured.words["upstream"]) == 16 << 10
    await gone(house.up)


# --- odd, but an answer -----------------------------------------------------------------------------------------------


async def test_an_answer_without_usage_is_counted_here(house):
    """And the figures say so."""
    endured = await endures(house, *house.wire.answer("Hello, ", "world.", usage=False))
    assert (endured.view.status, endured.text) == ("completed", "Hello, world.")
    usage = endured.view.usage
    assert usage.estimated
    assert min(usage.input_tokens, usage.output_tokens) > 0
    assert endured.ended["usage"] == msgspec.to_builtins(usage)


async def test_figures_that_are_none_are_counted_here(house):
    """A usage of nothing is as good as no usage."""
    events = house.wire.ends()
    nothing = [re.sub(rb'"usage": \{[^}]*\}', b'"usage": {"input_tokens": "many"}', event) for event in events]
    endured = await endures(house, *house.wire.speaking(house.wire.says("Hello."), *nothing), LAST)
    assert endured.view.status == "completed"
    assert endured.view.usage.estimated
    assert min(endured.view.usage.input_tokens, endured.view.usage.output_tokens) > 0


async def test_what_is_missing_of_a_broken_answers_figures_is_counted_here(houses):
    """Anthropic says at the beginning what was sent, and at the end what came."""
    house = houses["claude"]
    usage = {"input_tokens": 20, "cache_read_input_tokens": 5, "output_tokens": 1}
    begun = sse({"type": "message_start", "message": {"id": "msg_1", "usage": usage}}, "message_start")
    endured = await endures(house, *house.wire.stream(begun, *house.wire.opens(), house.wire.says("Half")), LAST)
    assert_failed(endured, "provider_truncated", text="Half")
    told = endured.view.usage
    assert (told.input_tokens, told.cache_read_tokens, told.estimated) == (25, 5, True)
    assert 1 <= told.output_tokens < 10


async def test_a_vendors_usage_is_taken(house):
    """As it says."""
    usage = (await endures(house, *house.wire.answer("Hello."))).view.usage
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (7, 3, False)


@pytest.mark.parametrize("status", [401, 429, 500])
async def test_a_request_that_was_refused_used_nothing(house, status):
    """No answer was begun, so none is charged."""
    usage = (await endures(house, *house.wire.refusal(status))).view.usage
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (0, 0, False)


@pytest.mark.parametrize("usage", [True, False])
async def test_a_model_may_answer_with_nothing(house, usage):
    """That is an answer: a complete message without content."""
    endured = await endures(house, *house.wire.answer(usage=usage))
    view = endured.view
    assert (view.status, view.stop_reason, view.error) == ("completed", "end_turn", None)
    assert (view.message.complete, view.message.content) == (True, ())
    assert [frame.type for frame in endured.frames] == ["turn.started", "message.appended", "turn.completed"]


AFTERWARDS = {
    "reset": [RESET],
    "nonsense": [part(b"data: \xff\n\n"), LAST],
    "silence": [HANG],
    "signs of life": [endlessly(part(b": x\n\n"))],
}


@pytest.mark.parametrize("after", AFTERWARDS.values(), ids=AFTERWARDS)
async def test_what_comes_after_the_end_changes_nothing(house, after):
    """The wire has said that it is over."""
    endured = await endures(house, *house.wire.answer("Done.")[:-1], *after)
    assert (endured.view.status, endured.text) == ("completed", "Done.")


# --- cut at every boundary --------------------------------------------------------------------------------------------

END_MARKS = re.compile(
    rb'data: \[DONE\]|"type": ?"message_stop"|"type": ?"response\.(completed|incomplete|failed)"|^event: error',
    re.MULTILINE,
)


PROTOCOLS = {"claude": "claude", "responses": "responses"}


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.stem)
async def test_a_stream_cut_at_any_event_is_truncated(houses, golden):
    """A stream has ended only when the wire says so: before that, wherever it stops, the turn fails, and what came is
    what the whole stream began with.
    """
    house = houses[PROTOCOLS.get(golden.stem.partition("_")[0], "chat")]
    chat, wire = house.chat, house.wire
    events = [event + b"\n\n" for event in golden.read_bytes().replace(b"\r\n", b"\n").split(b"\n\n") if event.strip()]
    last = next(number for number, event in enumerate(events) if END_MARKS.search(event))

    def play(request):
        count = int(re.findall(rb"Say ([0-9]+) events", request.body)[-1])
        return [*wire.stream(*events[:count]), LAST]

    house.up.will(play)
    sessions = [await chat.create_session(model=wire.model) for _ in range(last + 2)]
    asked = [chat.say(session.id, f"Say {count} events.") for count, session in enumerate(sessions)]
    *cut, whole = await asyncio.gather(*asked)
    deltas = [texts_of(await frames_of(chat, turn.id)) for turn in cut]
    entire = texts_of(await frames_of(chat, whole.id))
    assert whole.error is None or whole.error.code != "provider_truncated"
    assert {turn.status for turn in cut} == {"failed"}
    assert {turn.error.code for turn in cut} == {"provider_truncated"}
    assert all(turn.message is None or not turn.message.complete for turn in cut)
    for turn, shown in zip(cut, deltas, strict=True):
        assert all(entire[block].startswith(text) for block, text in shown.items())
        assert streamed(turn.message) == shown
    sizes = [sum(map(len, shown.values())) for shown in deltas]
    assert sizes == sorted(sizes)


def streamed(message):
    """Block -> the text that was streamed of it."""
    if message is None:
        return {}
    texts = {
        number: block.input_text if hasattr(block, "input_text") else getattr(block, "text", "")
        for number, block in enumerate(message.blocks())
    }
    return {number: text for number, text in texts.items() if text}


# --- whom a key is shown ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(house, status):
    """A key goes where it was meant to go, and nowhere else."""
    async with upstream(house.wire) as other:
        endured = await endures(house, *house.wire.refusal(status, "moved", f"location: {other.address}/v1/elsewhere"))
        assert other.connections == 0
    assert_failed(endured, "provider_rejected", status=status)
    assert len(house.up.heard) == 1


@every_wire
@pytest.mark.filterwarnings(
    "ignore:.*deprecated.*proxy_headers:DeprecationWarning"
)  # httpx-aiohttp uses what aiohttp 4
@pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning")  # will not have
async def test_the_environments_proxy_is_used(tmp_path, monkeypatch, wire):
    """With the password that it wants, which is as secret as a key."""
    path = tmp_path / "chat.db"
    async with upstream(wire) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address.replace("://", f"://me:{KEY}@"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with asking(path, (wire, "http://vendor.invalid")) as chat:
            session = await chat.create_session(model=wire.model)
            assert (await chat.say(session.id, "Go.")).status == "completed"
            proxy.will([CLOSE])
            failed = await chat.say(session.id, "Go.")
        assert failed.error.code == "provider_unavailable"
    assert proxy.requests[0].head.startswith(b"POST http://vendor.invalid/v1/")
    assert b"\r\nproxy-authorization: basic " in proxy.requests[0].head.lower()
    assert says_nothing_of(KEY, path)


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that nobody knows, for the loopback address: (its file, the context to serve with)."""
    x509 = pytest.importorskip("cryptography.x509", reason="comes with the extra `mcp`")
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = dt.datetime.now(dt.UTC)
    usage = dict.fromkeys(
        (
            *("digital_signature", "key_cert_sign", "crl_sign"),
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("encipher_only", "decipher_only"),
        ),
        False,
    ) | {"digital_signature": True, "key_cert_sign": True}
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return folder / "certificate.pem", context


@every_wire
async def test_a_certificate_that_nobody_knows_is_not_trusted(tmp_path, certificate, wire):
    """No request, and so no key, goes to a server that cannot say who it is."""
    async with upstream(wire, tls=certificate[1]) as up, asking(tmp_path / "chat.db", (wire, up.address)) as chat:
        endured = await turn_beside_another(chat, wire.model, "echo/echo")
    assert up.requests == []
    assert_failed(endured, "provider_unavailable", retryable=True)


@every_wire
async def test_certificates_of_the_environment_are_trusted(tmp_path, monkeypatch, certificate, wire):
    """``SSL_CERT_FILE`` says whom to trust."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    async with upstream(wire, tls=certificate[1]) as up, asking(tmp_path / "chat.db", (wire, up.address)) as chat:
        session = await chat.create_session(model=wire.model)
        assert (await chat.say(session.id, "Go.")).status == "completed"
        up.will([*wire.speaking(wire.says("Half")), CLOSE])
        cut = await chat.say(session.id, "Go.")
    assert (cut.error.code, text_of(cut.message)) == ("provider_truncated", "Half")


async def test_a_server_that_does_not_speak_tls_is_not_available(tmp_path):
    """It gets no request."""
    wire = WIRES[0]
    async with upstream(wire) as up:
        address = up.address.replace("http://", "https://")
        async with asking(tmp_path / "chat.db", (wire, address), connect_timeout_s=0.2) as chat:
            endured = await turn_beside_another(chat, wire.model, "echo/echo")
        assert up.requests == []
    assert endured.view.error.code in {"provider_unavailable", "provider_timed_out"}


async def test_certificates_that_cannot_be_read_stop_the_start(tmp_path, monkeypatch):
    """Rather than trusting whom nobody named."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing-here.pem"))
    with pytest.raises(Invalid, match="SSL_CERT_FILE"):
        async with asking(tmp_path / "chat.db", (WIRES[0], nobody())):
            pass
