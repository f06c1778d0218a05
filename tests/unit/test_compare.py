"""Comparing a recorded answer with a new one: each layer, the first difference, its outline, and the noise floor."""

import json

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from manent.engine.events.usage import Cost, Usage
from manent.engine.service.replay.answers import UNREADABLE, answers_of, kind_of
from manent.engine.service.replay.compare import REASONS, Comparison, compare, difference_in, request_difference
from manent.engine.service.replay.json_difference import (
    MAX_PATH_CHARS,
    MAX_SHOWN_CHARS,
    MISSING,
    json_difference,
    path_of,
)
from manent.engine.service.replay.noise import NoiseFloor, findings, is_noise, noise_floor, together
from manent.engine.service.replay.outline import Outline, comparison_of, outline, word_free
from manent.engine.service.replay.results import FirstDifference, Layers, Measure
from manent.engine.sessions.turn_views import Failure
from tests.made_turns import ERASED, call, message, text, turn
from tests.support import chatting, offered, says


def first(recorded, now):
    """The first difference as (layer, path, recorded, now)."""
    found = compare(recorded, now).first_difference
    return found and (found.layer, found.path, found.recorded, found.now)


# --- layer by layer ---------------------------------------------------------------------------------------------------


def test_request_and_frames_are_told_first():
    """What the caller found of requests and frames is the first difference, before all that the answer says."""
    found = compare(turn("a"), turn("b"), request=False, frames=False)
    assert (found.verdict, found.first_difference.path) == ("different", "request")
    assert (found.layers.request, found.layers.frames, found.layers.text) == (False, False, False)
    assert compare(turn("a"), turn("a"), frames=False).first_difference.path == "frames"
    assert compare(turn("a"), turn("a"), request=True).layers.request is True


def test_stop_reasons_differ():
    """A turn that stopped for another reason differs at its stop reason, before its text."""
    found = compare(turn("a b"), turn("a", stop_reason="max_tokens"))
    assert found.first_difference == FirstDifference("stop_reason", "stop_reason", "end_turn", "max_tokens")
    assert found.layers.stop_reason is False
    assert found.layers.text is False


def test_call_ids_are_no_difference():
    """The same calls under other ids, and with members in another order, are the same."""
    found = compare(
        turn(message(call("f", {"a": 1, "b": [1.0, {"c": None}]}))),
        turn(message(call("f", {"b": [1, {"c": None}], "a": 1e0}))),
    )
    assert (found.verdict, found.layers.tool_calls) == ("same", True)


@pytest.mark.parametrize(
    ("recorded", "now", "path", "shown"),
    [
        ([call("f", {"city": "Rome"})], [call("f", {"city": "Paris"})], "[0].input.city", ("Rome", "Paris")),
        ([call("f"), call("g")], [call("f"), call("h")], "[1].name", ("g", "h")),
        ([call("f", {"a": [1, 2]})], [call("f", {"a": [1]})], "[0].input.a[1]", (2, None)),
        ([call("f", {"a": None})], [call("f", {})], "[0].input.a", (None, None)),
        ([call("f", {"a": True})], [call("f", {"a": 1})], "[0].input.a", (True, 1)),
        ([call("f", {"odd key": 1})], [call("f", {"odd key": 2})], '[0].input["odd key"]', (1, 2)),
        ([call("f", {"id": 2**53 + 1})], [call("f", {"id": 2**53})], "[0].input.id", (2**53 + 1, 2**53)),
        ([call("f", {"a": 1})], [], "[0]", ({"name": "f", "input": {"a": 1}}, None)),
        ([call("f"), call("g")], [call("g"), call("f")], "[0].name", ("f", "g")),
        ([call("f", input_text="{oh")], [call("f", input_text="{no")], "[0].input", ("{oh", "{no")),
        ([call("f", {"a": 1})], [call("f", input_text="[1]")], "[0].input", ({"a": 1}, [1])),
    ],
)  # fmt: skip
def test_calls_differ_at_an_exact_place(recorded, now, path, shown):
    """Names, arguments and order of calls are compared, and the path leads to the argument."""
    assert first(turn(message(*recorded)), turn(message(*now))) == (
        "tool_calls",
        f"messages[0].tool_calls{path}",
        *shown,
    )


def test_thinking_and_vendors_blocks_count_as_structure_only():
    """Other thoughts are no difference; no thoughts, or a vendor's block of another type, are one."""
    thoughtful = turn(message({"type": "thinking", "text": "hm"}, {"type": "x_search", "q": "1"}, text("a")))
    other = turn(message({"type": "thinking", "text": "so"}, {"type": "x_search", "q": "2"}, text("a")))
    assert compare(thoughtful, other).verdict == "same"
    hasty = turn(message(text("a")))
    assert first(thoughtful, hasty) == ("structure", "messages[0].content[0]", "thinking", "text")
    assert compare(thoughtful, hasty).layers.text is True


def test_a_message_more_is_structure():
    """An answer that the other turn has not is told with the kinds of its blocks, even if it is empty."""
    assert first(turn("a"), turn("a", message())) == ("structure", "messages[1]", None, [])
    assert first(turn("a", "b"), turn("a")) == ("structure", "messages[1]", ["text"], None)


def test_another_image_is_structure():
    """An image must be the same image."""
    one, other = ({"type": "image", "source": {"type": "url", "url": f"https://a.example/{n}"}} for n in "12")
    assert first(turn(message(one)), turn(message(other))) == (
        "structure", "messages[0].content[0].source", "image", "image",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("recorded", "now", "path"),
    [
        ([text("Dry in Rome.")], [text("Dry in Paris.")], "[0].text[7]"),
        ([text("abc"), call("f"), text("def")], [text("abc"), call("f"), text("dxf")], "[2].text[1]"),
        ([text("ab"), text("cd")], [text("ab"), text("xd")], "[1].text[0]"),
        ([text("ab")], [text("abc")], "[0].text[2]"),
        ([text("abc")], [text("ab")], "[0].text[2]"),
        (
            [{"type": "thinking", "text": "t"}, text("🌍a")],
            [{"type": "thinking", "text": "t"}, text("🌍b")],
            "[1].text[1]",
        ),
    ],
)
def test_texts_differ_at_a_character(recorded, now, path):
    """The path leads to the block and the character at which the texts part."""
    assert first(turn(message(*recorded)), turn(message(*now)))[:2] == ("text", f"messages[0].content{path}")


def test_a_text_cut_otherwise_is_the_same_text():
    """The same text in two blocks differs in structure and not in text; where only one has text, its place is told."""
    found = compare(turn(message(text("ab"))), turn(message(text("a"), text("b"))))
    assert (found.verdict, found.layers.structure, found.layers.text) == ("different", False, True)
    silent = turn(message({"type": "thinking", "text": "t"}))
    assert difference_in("text", silent, turn("a")).path == "messages[0].content[0].text[0]"


def test_messages_of_tools_are_counted_and_not_compared():
    """What a tool gave back is no answer of the model; its message has a place in the path all the same."""
    result = {"type": "tool_result", "tool_use_id": "1", "content": "now"}
    later = result | {"content": "later"}
    one = turn(message(call("f")), message(result, role="tool"), "so")
    other = turn(message(call("f")), message(later, role="tool"), "so?")
    assert first(one, other) == ("text", "messages[2].content[0].text[2]", "so", "so?")
    assert compare(one, turn(message(call("f")), message(later, role="tool"), "so")).verdict == "same"


def test_measures_are_told_and_are_no_difference():
    """Tokens, cost and time stand beside the recorded ones; a cost in another currency is not compared."""
    dear = turn("a", usage=Usage(output_tokens=9), duration_ms=None, costs=(Cost("EUR", 12),))
    found = compare(turn("a", costs=(Cost("EUR", 10),)), dear)
    assert found.verdict == "same"
    assert (found.layers.tokens, found.layers.cost, found.layers.time) == (
        Measure(7, 9), Measure(10, 12), Measure(50, None),
    )  # fmt: skip
    assert compare(turn("a", costs=(Cost("USD", 10),)), dear).layers.cost is None
    assert compare(turn("a", usage=Usage()), turn("a", usage=Usage())).layers.tokens is None


# --- what cannot be compared ------------------------------------------------------------------------------------------


def test_a_new_turn_that_did_not_complete_has_failed():
    """Failed, cancelled, interrupted and open new turns are failures, each with its reason and its measures."""
    reasons = {}
    for status in ("failed", "cancelled", "interrupted", "running", "requires_action"):
        broken = turn("a", status=status, error=Failure("provider_unavailable", "oh", retryable=True))
        found = compare(turn("a"), broken, request=True)
        assert (found.verdict, found.layers.text, found.layers.request) == ("failed", None, True)
        assert found.layers.tokens == Measure(7, 7)
        reasons[status] = found.why
    assert len(set(reasons.values())) == 4
    assert reasons["failed"] == "the new turn failed"


@pytest.mark.parametrize(
    ("recorded", "now", "reason"),
    [
        (turn(), turn("a"), "recorded_no_answer"),
        (turn(message(role="tool")), turn("a"), "recorded_no_answer"),
        (turn("a", status="failed"), turn("a"), "recorded_not_completed"),
        (turn("a", status="running"), turn("a"), "recorded_open"),
        (turn(message(erased=ERASED)), turn("a"), "recorded_erased"),
        (turn("a", message(damaged=True)), turn("a", "b"), "recorded_damaged"),
        (turn("a"), turn(message(erased=ERASED)), "new_erased"),
        (turn("a"), turn(message(damaged=True)), "new_damaged"),
        (turn("a", status="failed"), turn("a", status="failed"), "recorded_not_completed"),
    ],
)
def test_a_turn_with_nothing_to_compare_is_skipped(recorded, now, reason):
    """Without a whole answer on record, or with words that are gone, nothing is judged, and the reason is told."""
    found = compare(recorded, now, request=True)
    assert found == Comparison("skipped", None, Layers(request=True), reason)
    assert found.why == REASONS[reason]
    assert compare(recorded, now, request=False).verdict == "different"


def test_odd_content_does_not_stop_it():
    """Blocks of no shape, of no JSON, too deep or empty are compared as what they are: unreadable."""
    odd = [b'{"type":"text"}', b"no json", b"{}", b"[]", b"", b"\xff", b'{"type":"tool_use","id":1}', b"[" * 100_000]
    broken = turn(message(*odd), message())
    assert compare(broken, broken).verdict == "same"
    assert {kind_of(block) for block in answers_of(broken)[0].content} == {UNREADABLE}
    assert first(broken, turn("a"))[0] == "structure"
    deep = json.loads("[" * 500 + "1" + "]" * 500)
    deeper = json.loads("[" * 500 + "2" + "]" * 500)
    found = first(turn(message(call("f", {"a": deep}))), turn(message(call("f", {"a": deeper}))))
    assert found[1].endswith("…")
    assert len(found[1]) == MAX_PATH_CHARS


def test_what_is_shown_is_short():
    """Excerpts of long texts, arguments and calls are bounded, and show what differs."""
    long = "x" * 100_000
    _, path, recorded, now = first(turn(f"{long}old{long}"), turn(f"{long}new{long}"))
    assert path == "messages[0].content[0].text[100000]"
    assert "xold" in recorded
    assert "xnew" in now
    assert max(len(recorded), len(now)) <= MAX_SHOWN_CHARS + 2
    one, other = ({"a": {str(n): tail for n in range(1000)}} for tail in ("p", "q"))
    assert first(turn(message(call("f", one))), turn(message(call("f", other))))[2:] == ("p", "q")
    gone = first(turn(message(call("f", one))), turn(message()))
    assert len(gone[2]) <= MAX_SHOWN_CHARS + 2


# --- of all turns -----------------------------------------------------------------------------------------------------

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(
    SCALARS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.sampled_from(["wordone", "wordtwo", "wörd three", "word\nfour"])
ARGUMENTS = st.dictionaries(
    WORDS, st.recursive(WORDS | st.integers(0, 2), lambda inner: st.dictionaries(WORDS, inner)), max_size=2
)
BLOCKS = st.one_of(
    st.builds(text, WORDS),
    st.builds(call, st.sampled_from(["wordf", "wordg"]), ARGUMENTS),
    st.builds(lambda words: {"type": "thinking", "text": words}, WORDS),
    st.builds(lambda words: {"type": words, "more": words}, st.sampled_from(["wordy", "wordz"])),
)
MESSAGES = st.builds(lambda blocks: message(*blocks), st.lists(BLOCKS, max_size=3))
TURNS = st.builds(
    lambda messages, stop: turn(*messages, stop_reason=stop),
    st.lists(MESSAGES, min_size=1, max_size=3),
    st.sampled_from(["end_turn", "tool_use"]),
)


def follow(value, steps):
    """What stands at the end of a path; MISSING where its last step leads nowhere."""
    for step in steps:
        there = step in value if isinstance(value, dict) else step < len(value)
        value = value[step] if there else MISSING
    return value


@given(TURNS)
def test_a_turn_is_the_same_as_itself(one):
    """No layer of a turn differs from its own."""
    found = compare(one, one, request=True, frames=True)
    assert (found.verdict, found.first_difference) == ("same", None)
    assert found.layers == Layers(*[True] * 6, Measure(7, 7), None, Measure(50, 50))


@given(TURNS, TURNS)
def test_verdicts_do_not_depend_on_the_side(one, other):
    """Which of two turns is the recorded one changes neither the verdict nor a layer, and the first difference is in
    the first layer that differs.
    """
    there, back = compare(one, other), compare(other, one)
    assert (there.verdict, there.layers) == (back.verdict, back.layers)
    differing = [layer for layer in Layers.__struct_fields__ if getattr(there.layers, layer) is False]
    assert there.verdict == ("different" if differing else "same")
    assert (there.first_difference and there.first_difference.layer) == (differing[0] if differing else None)


@given(JSON, JSON)
def test_json_is_compared_as_rfc_8785_writes_it(one, other):
    """Two values are equal exactly if their canonical bytes are."""
    assert (json_difference(one, other) is None) == (rfc8785.dumps(one) == rfc8785.dumps(other))


@given(JSON, JSON)
def test_steps_lead_to_the_difference(one, other):
    """Following the steps of a difference from the top finds the values that it shows."""
    place = json_difference(one, other)
    if place is not None:
        assert (follow(one, place.steps), follow(other, place.steps)) == (place.recorded, place.now)


def test_paths_can_be_told_apart():
    """Names that are none are quoted, so that no name reads like two steps."""
    assert path_of("x", ("a.b", 'c"d', 0, "e")) == 'x["a.b"]["c\\"d"][0].e'


# --- requests ---------------------------------------------------------------------------------------------------------


def test_requests_differ_at_a_message():
    """The path of a request's difference leads through its JSON, and its outline stops at the message."""
    old = b'{"messages":[{"role":"user","content":"Hi"},{"role":"user","content":"old words"}]}'
    found = request_difference(old, old.replace(b"old", b"new"))
    assert found == FirstDifference("request", "request.messages[1].content", "old words", "new words")
    assert word_free(found.path) == "request.messages[1]"
    assert request_difference(old, old) is None


def test_requests_that_mean_the_same_differ_all_the_same():
    """Requests must be equal to the byte: another blank is a difference, and so are bytes that are no JSON."""
    assert request_difference(b'{"a": 1}', b'{"a":1}') == FirstDifference("request", "request", '{"a": 1}', '{"a":1}')
    assert request_difference(b"\xff", b"\xfe").path == "request"
    assert request_difference(b"[" * 100_000, b"[").path == "request"


# --- outlines ---------------------------------------------------------------------------------------------------------


@given(TURNS, TURNS)
def test_an_outline_holds_no_words(one, other):
    """No text, no name and no member of an argument stands in an outline, and it goes through JSON and back."""
    outlined = outline(compare(one, other))
    encoded = msgspec.json.encode(outlined)
    assert b"word" not in encoded.lower()
    assert "wörd" not in encoded.decode()
    assert msgspec.json.decode(encoded, type=Outline) == outlined


@given(TURNS, TURNS)
def test_a_comparison_comes_back_from_its_outline(one, other):
    """With both turns at hand, the comparison that is read again is the one that was made."""
    made = compare(one, other, request=True)
    assert comparison_of(outline(made), one, other) == made


def test_an_outline_outlives_the_words():
    """Once words are erased, or without the turns, verdict, layers and place are still told, and no texts."""
    made = compare(turn("old"), turn("new"))
    place = FirstDifference("text", "messages[0].content[0].text[0]")
    for gone in ((), (turn(message(erased=ERASED)), turn("new")), (turn("old"), None)):
        read = comparison_of(outline(made), *gone)
        assert (read.verdict, read.layers, read.first_difference) == ("different", made.layers, place)


@pytest.mark.parametrize(
    ("path", "free"),
    [
        ("messages[0].tool_calls[2].input.city", "messages[0].tool_calls[2].input"),
        ("messages[0].tool_calls[2].input.messages[3].text[1]", "messages[0].tool_calls[2].input"),
        ("messages[0].tool_calls[2].name", "messages[0].tool_calls[2].name"),
        ("messages[1].content[0].text[17]", "messages[1].content[0].text[17]"),
        ('request["stop reason"]', "request"),
        ("request.tools[0].parameters.city", "request"),
        ("stop_reason", "stop_reason"),
        ("city", ""),
    ],
)
def test_paths_end_before_words(path, free):
    """A path keeps its way through what is ours, and ends before the first name that a model gave."""
    assert word_free(path) == free


# --- noise ------------------------------------------------------------------------------------------------------------


def test_the_floor_counts_the_repeats_that_differ():
    """Each layer has the number of repeats that differ in it; failures are counted apart, and skips nowhere."""
    recorded = turn("a", stop_reason="end_turn")
    repeats = [
        turn("a"),
        turn("b"),
        turn("c", stop_reason="max_tokens"),
        turn("d", status="failed"),
        turn(message(erased=ERASED)),
    ]
    floor = noise_floor([compare(recorded, each) for each in repeats])
    assert floor == NoiseFloor(repeats=3, failed=1, stop_reason=1, text=2)
    assert together([floor, floor]) == NoiseFloor(repeats=6, failed=2, stop_reason=2, text=4)


def test_differences_below_the_floor_are_noise():
    """A difference is noise only if the recorded model shows it, in every layer, against itself."""
    recorded = turn("a")
    floor = noise_floor([compare(recorded, turn("b")), compare(recorded, turn("a"))])
    worded, cut = compare(recorded, turn("c")), compare(recorded, turn("c", stop_reason="max_tokens"))
    assert is_noise(worded, floor)
    assert not is_noise(cut, floor)
    assert findings(cut, floor) == ("stop_reason",)
    assert not is_noise(worded, noise_floor([]))
    assert not is_noise(compare(recorded, recorded), floor)


def test_requests_and_frames_are_never_noise():
    """What our own code makes differs for a reason, also where it differed in a repeat."""
    floor = noise_floor([compare(turn("a"), turn("b"), request=False)])
    assert findings(compare(turn("a"), turn("b"), request=False), floor) == ("request",)


# --- real turns -------------------------------------------------------------------------------------------------------


async def test_recorded_turns_are_compared(tmp_path):
    """Turns that an engine ran are compared: the same again, with another argument, and after an erasure."""
    models = {
        name: says({"thinking": "Hm."}, "I look.", {"tool": {"id": call_id, "name": "find", "input": {"city": city}}})
        for name, call_id, city in (("a", "1", "Rome"), ("again", "2", "Rome"), ("other", "3", "Paris"))
    }
    async with chatting(tmp_path / "chat.db", **models) as chat:
        turns = []
        for model in models:
            session = await chat.create_session(model=f"scripted/{model}")
            turns.append(await chat.say(session.id, "Will it rain?", client_tools=offered("find")))
        assert compare(turns[0], turns[1]).verdict == "same"
        found = compare(turns[0], turns[2]).first_difference
        await chat.erase(turns[0].session_id, reason="asked for")
        gone = await chat.turn(turns[0].id)
    assert found == FirstDifference("tool_calls", "messages[0].tool_calls[0].input.city", "Rome", "Paris")
    assert compare(gone, turns[1]).reason == "recorded_erased"
