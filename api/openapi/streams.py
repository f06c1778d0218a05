"""Streams of server-sent events: which frames there are, what they hold, and in which order they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

from ..http.errors import ID_FORM

EVENT_STREAM = "text/event-stream"
TURN, EVENT, REPLAY, UI = "TurnFrame", "EventFrame", "ReplayFrame", "UiPart"

ALL = (
    " A comment (`: keep-alive`) breaks every silence of 15 seconds. A failure of the stream itself is `event: "
    "error` with "
    "a Problem and without an id. With `Last-Event-ID`, or `?after=`, what follows that frame is sent, nothing twice."
)
TURN_ORDER = (
    "First `turn.started`. For each block of an answer `block.started` and any number of `delta`, then "
    "`message.appended`. "
    "For each tool call `tool.called`, and `tool.returned` with a `message.appended` of its result. "
    "`attempt.failed` before "
    "a retry. `turn.paused` where a person must decide: the stream closes, and what follows is numbered on. At the end "
    "exactly one of `turn.completed`, `turn.failed`, `turn.cancelled` and `turn.interrupted`, and the stream "
    "closes. `id` is "
    "the frame's number in the turn, dense from 1; ids, order and text are the same live and from the record, "
    "at any age. "
    "After an erasure the deltas are gone, and the other frames keep their ids." + ALL
)
EVENT_ORDER = (
    "Each event as it is committed, in order. `event` is its type and `data` the Event. `id` is its version, "
    "or of the whole "
    "log its position. The comment `: caught-up` says that all there was has been sent; the stream has no end but the "
    "server's." + ALL
)
REPLAY_ORDER = (
    "`replay.compared` with each Result as it comes, and at the end exactly one of `replay.completed`, "
    "`replay.failed` and "
    "`replay.cancelled` with the Replay. `id` is the result's number: it increases." + ALL
)
GUIDE_ORDER = (
    "Text deltas as `data:` without an event's name; a newline in one becomes another `data:` line. `data: "
    "[DONE]` at the "
    'end, `data: {"error": …}` where it failed. `id` is a turn and a place in it.'
)
UI_ORDER = (
    "The parts of one UI message, each as `data:` without an event's name and without an id. First `start`, which "
    "names the message; for each answer `start-step`, its texts, its reasoning and its calls in pieces, and "
    "`finish-step`; at the end `finish`, `error` or `abort`, and `data: [DONE]`. Where a person must decide, "
    "`tool-approval-request` comes before the end. It is told from the beginning to everybody who comes."
)
VENDOR_ORDER = "Chunks or events of the vendor's protocol, in its order."

SAMPLES = {
    TURN: (
        'id: 1\nevent: turn.started\ndata: {"id":"01a22e55-6180-7dd7-919c-d02c6a732706","status":"running",…}\n\n'
        "id: 2\nevent: block.started\ndata: "
        '{"message_id":"01a22e55-6199-7c3e-b1d4-0f9e8d7c6b5a","block":0,"type":"text"}\n\n'
        'id: 3\nevent: delta\ndata: {"message_id":"01a22e55-6199-7c3e-b1d4-0f9e8d7c6b5a","block":0,"type":"text",'
        '"text":"Clause 4 limits "}\n\n'
        'id: 4\nevent: message.appended\ndata: {"id":"01a22e55-6199-7c3e-b1d4-0f9e8d7c6b5a","role":"assistant",…}\n\n'
        'id: 5\nevent: turn.completed\ndata: {"id":"01a22e55-6180-7dd7-919c-d02c6a732706","status":"completed",…}\n\n'
    ),
    EVENT: 'id: 42\nevent: message.appended\ndata: {"position":42,"type":"message.appended",…}\n\n: caught-up\n\n',
    REPLAY: (
        'id: 2\nevent: replay.compared\ndata: {"verdict":"same",…}\n\n'
        'id: 3\nevent: replay.completed\ndata: {"status":"completed",…}\n\n'
    ),
    UI: (
        'data: {"type":"start","messageId":"msg_01a22e5561807dd7919cd02c6a732706",…}\n\n'
        'data: {"type":"text-delta","id":"text-1-0","delta":"Clause 4 limits "}\n\n'
        "data: [DONE]\n\n"
    ),
    "": "id: 01a22e55-6180-7dd7-919c-d02c6a732706:3\ndata: Clause 4 limits \n\ndata: [DONE]\n\n",
}

FRAMES: Mapping[str, tuple[str, str]] = {
    "turn.started": ("FrameTurn", "The turn begins."),
    "block.started": ("BlockStarted", "A block of the answer begins."),
    "delta": ("Delta", "A piece of a block."),
    "message.appended": ("Message", "A message is on record: an answer, or a tool's result."),
    "tool.called": ("ToolCalled", "The model calls a tool."),
    "tool.returned": ("ToolReturned", "A tool that ran here has returned."),
    "tool.approved": ("Decision", "A person said yes to a call."),
    "tool.refused": ("Decision", "A person said no to a call."),
    "attempt.failed": ("AttemptFailed", "The provider failed, and another attempt follows."),
    "turn.paused": ("FrameTurn", "The turn waits for a person; the stream closes."),
    "turn.resumed": ("FrameTurn", "Everything is decided, and the turn goes on."),
    "turn.completed": ("FrameTurn", "The end: the turn completed."),
    "turn.failed": ("FrameTurn", "The end: the turn failed; `error` says why."),
    "turn.cancelled": ("FrameTurn", "The end: the turn was cancelled."),
    "turn.interrupted": ("FrameTurn", "The end: the server stopped under the turn."),
}
REPLAY_FRAMES: Mapping[str, tuple[str, str]] = {
    "replay.compared": ("Result", "A turn was done again and compared."),
    "replay.completed": ("Replay", "The end: all turns are done."),
    "replay.failed": ("Replay", "The end: it could not go on; `error` says why."),
    "replay.cancelled": ("Replay", "The end: it was cancelled."),
}


class Stream(NamedTuple):
    """A stream. ``item``: the schema of its frames, if ours; ``ends``: 204 where it was read to its end."""

    order: str
    item: str = ""
    ends: bool = False


STREAMS: Mapping[str, Stream] = {
    "start_turn": Stream(TURN_ORDER, TURN),
    "stream_turn": Stream(TURN_ORDER, TURN, ends=True),
    "stream_events": Stream(EVENT_ORDER, EVENT),
    "stream_log": Stream(EVENT_ORDER, EVENT),
    "stream_replay": Stream(REPLAY_ORDER, REPLAY, ends=True),
    "stream": Stream(GUIDE_ORDER, "", ends=True),
    "stream_ui_message": Stream(UI_ORDER, UI),
    "resume_ui_stream": Stream(UI_ORDER, UI, ends=True),
}


def content(stream: Stream) -> dict[str, Any]:
    """The content of an answer that is a stream. OpenAPI 3.1 has no word for its items: 3.2 calls them itemSchema."""
    told: dict[str, Any] = {
        "schema": {"type": "string", "description": stream.order, "examples": [SAMPLES[stream.item]]}
    }
    if stream.item not in {"", UI}:
        told["x-item-schema"] = {"$ref": f"#/components/schemas/{stream.item}"}
    return {EVENT_STREAM: told}


def schemas(known: Mapping[str, Any]) -> dict[str, Any]:
    """The frames, and what they hold that nothing else does."""
    turn = deepcopy(known["Turn"])
    for name in ("messages", "message"):
        del turn["properties"][name]
        turn["required"] = [each for each in turn["required"] if each != name]
    turn["properties"]["message_ids"] = {"type": "array", "items": {"type": "string", "format": "uuid"}}
    turn["required"].append("message_ids")
    return deepcopy(_DATA) | {
        "FrameTurn": turn,
        TURN: {"oneOf": list(_frames(FRAMES))},
        REPLAY: {"oneOf": list(_frames(REPLAY_FRAMES))},
        EVENT: _frame(None, "Event", "An event was committed."),
    }


def _frames(frames: Mapping[str, tuple[str, str]]) -> Iterator[dict[str, Any]]:
    return (_frame(event, data, sentence) for event, (data, sentence) in frames.items())


def _frame(event: str | None, data: str, sentence: str) -> dict[str, Any]:
    name: dict[str, Any] = {"type": "string"} if event is None else {"const": event}
    name["examples"] = [event or "message.appended"]
    return {
        "title": event or "event",
        "description": sentence,
        "type": "object",
        "properties": {
            "id": {"type": "integer", "minimum": 1, "description": "The line `id:`.", "examples": [3]},
            "event": name | {"description": "The line `event:`."},
            "data": {"$ref": f"#/components/schemas/{data}", "description": "The line `data:`, as JSON."},
        },
        "required": ["id", "event", "data"],
    }


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split()}


_TEXT, _TEXT_OR_NULL = {"type": "string"}, {"oneOf": [{"type": "string"}, {"type": "null"}]}
_ID, _PLACE = {"type": "string", "format": "uuid", "pattern": f"^{ID_FORM}$"}, {"type": "integer", "minimum": 0}
_COUNT = {"type": "integer", "minimum": 1}
_DATA: dict[str, Any] = {
    "BlockStarted": _object(
        "message_id block type", message_id=_ID, block=_PLACE, type=_TEXT, id=_TEXT_OR_NULL, name=_TEXT_OR_NULL
    ),
    "Delta": _object(
        "message_id block type text",
        message_id=_ID,
        block=_PLACE,
        type={"type": "string", "enum": ["text", "thinking", "tool_input"]},
        text=_TEXT,
    ),
    "ToolCalled": _object(
        "tool_use_id name message_id runner",
        tool_use_id=_TEXT_OR_NULL,
        name=_TEXT_OR_NULL,
        message_id=_ID,
        runner={"type": "string", "enum": ["client", "server"]},
    ),
    "ToolReturned": _object(
        "tool_use_id name outcome is_error duration_ms",
        tool_use_id=_TEXT_OR_NULL,
        name=_TEXT_OR_NULL,
        outcome=_TEXT,
        is_error={"type": "boolean"},
        duration_ms={"oneOf": [{"type": "integer"}, {"type": "null"}]},
    ),
    "Decision": _object(
        "tool_use_id approve reason actor",
        tool_use_id=_TEXT_OR_NULL,
        approve={"type": "boolean"},
        reason=_TEXT_OR_NULL,
        actor=_TEXT,
    ),
    "AttemptFailed": _object("round attempt code", round=_COUNT, attempt=_COUNT, code=_TEXT),
}
