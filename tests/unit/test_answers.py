"""An answer as it grows, and how it is told again: cuts, answers, transcripts."""

import json

import msgspec
import pytest

from manent.engine.clock import new_id
from manent.engine.events.blocks import OtherBlock, TextBlock, ThinkingBlock, ToolUseBlock
from manent.engine.events.cuts import Cut, pack_cuts, unpack_cuts
from manent.engine.events.session_types import SessionStarted
from manent.engine.events.turn_types import AttemptStarted, TurnStarted
from manent.engine.log.base import Erasure
from manent.engine.log.journal import JournalRow
from manent.engine.sessions.turn_commands import AttemptResult, TurnEnd, TurnPlace
from manent.engine.sessions.turn_decisions import end_turn
from manent.engine.streams.frames import Opening
from manent.engine.streams.transcript import Transcript
from manent.engine.turns.answer import Answer, parse_input
from tests.support import folded, recorded, told

TURN, MESSAGE = new_id(), new_id()
GONE = Erasure(99, 1, "local", 0, b'{"reason":"by request"}')
STARTED = TurnStarted("a/b", "a", client_tools=("f",))
ATTEMPT = AttemptStarted(TURN, 1, 1, "a", "b", "r/1", (1,), "00", "c", 1500, 4, 77, 500, 50, "p")


def rows(*items):
    """Journal rows numbered from 2: (block, kind, id, name) opens a block, (block, text[, ms]) is a delta."""
    made = []
    for frame, (block, text, *rest) in enumerate(items, 2):
        opening = text in {"text", "thinking", "tool_use"}
        data = msgspec.json.encode(Opening(text, *rest)) if opening else text.encode()
        elapsed_ms = 0 if opening else (rest or [0])[0]
        made.append(
            JournalRow("default", TURN, frame, MESSAGE, block, "start" if opening else "delta", elapsed_ms, data)
        )
    return made


def answer(*items):
    grown = Answer(MESSAGE)
    for row in rows(*items):
        grown.apply(row)
    return grown


MIXED = [
    (0, "thinking"),
    (0, "Hm"),
    (1, "text"),
    (1, "He"),
    (1, "llo é", 7),
    (2, "tool_use", "a", "f"),
    (2, '{"x":'),
    (2, "1}"),
]


# --- cuts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cuts", "packed"),
    [
        ([], ""),
        ([Cut(0, 0, 0)], "000000"),
        ([Cut(1, 127, 128)], "017f8001"),
        ([Cut(0, 300, 16384)], "00ac02808001"),
        ([Cut(2, 1, 1), Cut(0, 2, 3)], "020101000203"),
    ],
)
def test_cuts_are_packed_as_varints(cuts, packed):
    """Three LEB128 varints a cut: what is stored is read for ever."""
    assert pack_cuts(cuts).hex() == packed
    assert [*unpack_cuts(bytes.fromhex(packed))] == cuts


@pytest.mark.parametrize("packed", ["00", "0001", "000180", "80", "000102ff"])
def test_cuts_that_break_off_are_an_error(packed):
    """Bytes that end within a cut are not guessed at."""
    with pytest.raises(ValueError, match="break off"):
        [*unpack_cuts(bytes.fromhex(packed))]


def test_no_cut_is_negative():
    """A negative number cannot be packed."""
    with pytest.raises(ValueError, match="negative"):
        pack_cuts([Cut(0, 1, -1)])


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_is_the_join_of_its_deltas():
    """Blocks in the order they began, each with its deltas joined; a call's input is parsed beside its text."""
    grown = answer(*MIXED)
    assert grown.content() == (
        ThinkingBlock("Hm"),
        TextBlock("Hello é"),
        ToolUseBlock("a", "f", {"x": 1}, '{"x":1}'),
    )
    assert [(start.frame, start.block, start.type) for start in grown.starts] == [
        (2, 0, "thinking"),
        (4, 1, "text"),
        (7, 2, "tool_use"),
    ]
    assert [*unpack_cuts(grown.cuts())] == [Cut(0, 2, 0), Cut(1, 2, 0), Cut(1, 5, 7), Cut(2, 5, 0), Cut(2, 2, 0)]


def test_an_answer_in_which_nothing_began_is_empty():
    """Nothing shown, nothing kept."""
    assert not Answer(MESSAGE).begun
    assert Answer(MESSAGE).content() == ()
    assert answer((0, "text")).begun


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("", {}),
        ("{}", {}),
        ('{"a":[1,2.5,null]}', {"a": [1, 2.5, None]}),
        ("{", None),
        ("[]", None),
        ("1", None),
        ('"x"', None),
        ("null", None),
        ('{"a":1} x', None),
    ],
)
def test_the_input_of_a_call_is_an_object_or_nothing(text, parsed):
    """What does not parse to an object is kept as text, with no parse; no text is no arguments."""
    assert parse_input(text) == parsed


# --- transcripts ------------------------------------------------------------------------------------------------------

WHOLE = AttemptResult("completed", 5, answer(*MIXED).received())


def recorded_turn(result, frame=9):
    """The events of a turn, recorded."""
    turn = folded(SessionStarted("a/b"), (STARTED, TURN), ATTEMPT).turn
    history = [(STARTED, TURN), (ATTEMPT, new_id())]
    drafts = end_turn(turn, TurnPlace(frame, position=4), TurnEnd.with_attempt(result))
    history += [(draft.facts, draft.id or new_id(), draft.words) for draft in drafts]
    return [recorded(facts, number, *more) for number, (facts, *more) in enumerate(history, 2)]


def test_a_turn_is_told_with_its_deltas():
    """The frames of the record are those of the journal: same numbers, same blocks, same text."""
    transcript, frames = Transcript(TURN), []
    for event in recorded_turn(WHOLE):
        frames += transcript.add(event, deltas_after=0)
    kinds_of = ["block.started", "delta", "block.started", "delta", "delta", "block.started", "delta", "delta"]
    assert told(frames) == [
        *enumerate(["turn.started", *kinds_of, "message.appended", "tool.called", "turn.completed"], 1)
    ]
    deltas = [json.loads(frame.data) for frame in frames if frame.type == "delta"]
    assert [(delta["block"], delta["text"]) for delta in deltas] == [
        (0, "Hm"),
        (1, "He"),
        (1, "llo é"),
        (2, '{"x":'),
        (2, "1}"),
    ]


@pytest.mark.parametrize("after", range(10))
def test_deltas_are_told_from_a_number_on(after):
    """Only those above it."""
    events = recorded_turn(WHOLE)
    transcript = Transcript(TURN)
    found = [frame for event in events for frame in transcript.add(event, deltas_after=after)]
    numbers = [frame.number for frame in found if frame.type in {"delta", "block.started"}]
    assert numbers == [*range(max(2, after + 1), 10)]


def test_a_transcript_without_deltas_is_its_events():
    """Told live, the deltas have been shown already."""
    transcript = Transcript(TURN)
    frames = [frame for event in recorded_turn(WHOLE) for frame in transcript.add(event)]
    assert told(frames) == [(1, "turn.started"), (10, "message.appended"), (11, "tool.called"), (12, "turn.completed")]
    assert [message.id for message in transcript.view().messages] == [MESSAGE]


def test_after_an_erasure_the_other_frames_keep_their_numbers():
    """A message whose words are erased has no deltas; where its blocks began is still told, and all that follows."""
    transcript, frames = Transcript(TURN), []
    for event in recorded_turn(WHOLE):
        erased = event.type == "message.appended"
        frames += transcript.add(
            msgspec.structs.replace(event, body=None, erased=True, erasure=GONE) if erased else event, deltas_after=0
        )
    assert told(frames) == [
        (1, "turn.started"),
        (2, "block.started"),
        (4, "block.started"),
        (7, "block.started"),
        (10, "message.appended"),
        (11, "tool.called"),
        (12, "turn.completed"),
    ]
    assert json.loads(frames[4].data)["erased"]["reason"] == "by request"


def test_a_story_passes_over_what_is_not_its_turns():
    """Other turns, and what happens to the session meanwhile, are not told."""
    transcript, other = Transcript(TURN), new_id()
    events = recorded_turn(AttemptResult("completed", 5, answer((0, "text"), (0, "x")).received()), frame=3)
    strangers = [recorded(TurnStarted("a/b", "a"), 30, other), recorded(SessionStarted("a/b"), 31)]
    frames = [
        frame
        for event in [*strangers, events[0], *strangers, *events[1:]]
        for frame in transcript.add(event, deltas_after=0)
    ]
    assert [frame.number for frame in frames] == [1, 2, 3, 4, 5]


def test_a_vendors_block_stands_between_the_others():
    """Blocks are numbered by their place in the content, also where one was never shown."""
    grown = answer((0, "text"), (0, "a"), (2, "text"), (2, "b"))
    own = OtherBlock("x", b'{"type": "x"}')
    grown.vendor[1] = own
    frames = []
    transcript = Transcript(TURN)
    for event in recorded_turn(AttemptResult("completed", 5, grown.received()), frame=5):
        frames += transcript.add(event, deltas_after=0)
    assert grown.content() == (TextBlock("a"), own, TextBlock("b"))
    assert [(json.loads(f.data)["block"], json.loads(f.data)["text"]) for f in frames if f.type == "delta"] == [
        (0, "a"),
        (2, "b"),
    ]
