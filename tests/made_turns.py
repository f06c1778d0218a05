"""Turns as callers see them, made by hand: for what is compared and reported, and need not have been run."""

import json
from itertools import count

import msgspec

from manent import engine
from manent.engine.events.usage import Usage
from manent.engine.sessions.turn_views import Turn, with_messages
from manent.engine.sessions.views import ErasureInfo, Message

ERASED = ErasureInfo(9, "ann", "2026-01-01T00:00:00.000000Z", "asked <b>for</b>")

_NUMBERS = count(1)


def text(words):
    return {"type": "text", "text": words}


def call(name, arguments=None, **more):
    """A tool call. Its id is another one each time."""
    return {"type": "tool_use", "id": f"id{next(_NUMBERS)}", "name": name, "input": arguments, **more}


def message(*blocks, role="assistant", **more):
    """A message; blocks are JSON, or bytes as they are."""
    raws = tuple(msgspec.Raw(each if isinstance(each, bytes) else json.dumps(each).encode()) for each in blocks)
    given = {
        "token_count": 1,
        "complete": True,
        "erased": None,
        "turn_id": None,
        "actor": "a",
        "created_at": "t",
    } | more
    places = {"id": engine.new_id(), "session_id": engine.new_id(), "version": 1, "position": 1}
    return Message(role=role, content=raws, **places, **given)


def turn(*messages, **more):
    """A completed turn with these messages; a text stands for an answer."""
    made = [message(text(each)) if isinstance(each, str) else each for each in messages]
    given = {
        "status": "completed", "model": "echo/echo", "provider": "echo", "started_at": "t", "ended_at": "t",
        "first_chunk_ms": 5, "duration_ms": 50, "stop_reason": "end_turn", "vendor_stop_reason": None,
        "usage": Usage(output_tokens=7), "attempts": (), "error": None, "costs": (), "pending_approvals": (),
    } | more  # fmt: skip
    return with_messages(Turn(id=engine.new_id(), session_id=engine.new_id(), messages=(), message=None, **given), made)
