"""A session's events as those of Anthropic's Managed Agents. Pure, but for what an instance remembers.

One event of the log is several of the protocol's, or none: their ids are the id of that event and a number. A call is
named by its ordinal along the session, so that what answers it, or waits for it, can name it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

import msgspec

from ...engine import Event, Usage
from .managed_forms import EVENT, fresh_input

TYPES = frozenset(
    {
        *("user.message", "user.interrupt", "user.tool_confirmation", "user.custom_tool_result"),
        *("agent.message", "agent.thinking", "agent.tool_use", "agent.custom_tool_use", "agent.tool_result"),
        *("session.status_running", "session.status_idle", "session.error", "session.deleted"),
        *("span.model_request_start", "span.model_request_end", "system.message"),
    }
)
"""The types of events that there are."""

REFUSALS = frozenset({"refusal", "content_filter"})
NO_MODEL = "the turn was interrupted: the server stopped"

_decode = msgspec.json.Decoder().decode
Told = dict[str, Any]


class Tools(msgspec.Struct, frozen=True):
    """Which tools run here (``registered``), which of them a person must say yes to (``asking``), and which are the
    client's own (``custom``).
    """

    registered: frozenset[str]
    asking: frozenset[str]
    custom: frozenset[str]

    def is_custom(self, name: str) -> bool:
        """True for a tool that the client runs."""
        return name in self.custom or name not in self.registered


class Events:
    """Tells a session's events, one after the other in their order. ``session``: by whose name calls are named."""

    def __init__(self, session: UUID, tools: Tools) -> None:
        self._session = session.hex
        self._tools = tools
        self._calls: dict[str, str] = {}
        self._open: set[str] = set()
        self._say: Mapping[str, Callable[[Event, Told], Iterator[Told]]] = {
            "message.appended": self._message,
            "turn.started": self._runs,
            "turn.resumed": self._runs,
            "turn.paused": self._pauses,
            "turn.completed": self._completes,
            "turn.failed": self._fails,
            "turn.interrupted": self._fails,
            "turn.cancelled": self._cancelled,
            "attempt.started": self._asks,
            "attempt.ended": self._answered,
            "tool.approved": self._decided,
            "tool.refused": self._decided,
            "conversation.deleted": self._deleted,
        }

    @property
    def calls(self) -> Mapping[str, str]:
        """The calls that were told: the vendor's ids, by the ids of their events."""
        return self._calls

    @property
    def has_open_calls(self) -> bool:
        """True while a call of the last answer is not answered."""
        return bool(self._open)

    def told(self, event: Event) -> list[Told]:
        """The protocol's events that one of the log is."""
        say = self._say.get(event.type)
        if say is None:
            return []
        found = list(say(event, _decode(event.facts)))
        for number, each in enumerate(found):
            each.setdefault("id", f"{EVENT}_{event.id.hex}" if number == 0 else f"{EVENT}_{event.id.hex}_{number}")
            each.setdefault("processed_at", event.recorded_at)
        return found

    def _call(self, ordinal: str) -> str:
        return f"{EVENT}_{self._session}_{ordinal}"

    # --- messages -----------------------------------------------------------------------------------------------------

    def _message(self, event: Event, facts: Told) -> Iterator[Told]:
        content = None if event.body is None else _decode(event.body)["content"]
        match facts["role"]:
            case "assistant":
                yield from self._answer(content, facts)
            case "tool":
                yield from self._results(content or [], facts)
            case "user":
                yield {"type": "user.message", "content": _redacted() if content is None else _blocks(content)}
            case "system":
                yield {"type": "system.message", "content": _redacted() if content is None else _blocks(content)}

    def _answer(self, content: list[Told] | None, facts: Told) -> Iterator[Told]:
        """An answer: its thoughts, its texts and its calls, in their order."""
        self._open = set()
        if content is None:
            yield {"type": "agent.message", "content": _redacted()}
            return
        texts: list[Told] = []
        ordinals = iter(facts.get("calls", ()))
        for block in content:
            if block["type"] == "text":
                texts += _blocks([block])
                continue
            if texts:
                yield {"type": "agent.message", "content": texts}
                texts = []
            if block["type"] == "thinking":
                yield {"type": "agent.thinking"}
            elif block["type"] == "tool_use" and facts["complete"]:
                yield self._use(block, next(ordinals))
        if texts:
            yield {"type": "agent.message", "content": texts}

    def _use(self, block: Told, ordinal: str) -> Told:
        name = self._call(ordinal)
        self._calls[name] = block["id"]
        self._open.add(name)
        told = {"id": name, "name": block["name"], "input": block.get("input") or {}}
        if self._tools.is_custom(block["name"]):
            return told | {"type": "agent.custom_tool_use"}
        asked = "ask" if block["name"] in self._tools.asking else "allow"
        return told | {"type": "agent.tool_use", "evaluated_permission": asked}

    def _results(self, content: list[Told], facts: Told) -> Iterator[Told]:
        """The results of calls: those that a turn has got are the server's, the others the client's."""
        for number, ordinal in enumerate(facts.get("results", ())):
            name = self._call(ordinal)
            self._open.discard(name)
            block = content[number] if number < len(content) else {}
            told = {"content": _result(block), "is_error": bool(block.get("is_error"))}
            if facts.get("turn") is None:
                yield told | {"type": "user.custom_tool_result", "custom_tool_use_id": name}
            else:
                yield told | {"type": "agent.tool_result", "tool_use_id": name}

    # --- turns --------------------------------------------------------------------------------------------------------

    def _runs(self, event: Event, facts: Told) -> Iterator[Told]:  # noqa: ARG002
        yield {"type": "session.status_running"}

    def _pauses(self, event: Event, facts: Told) -> Iterator[Told]:  # noqa: ARG002
        yield _idle(_requires([self._call(each) for each in facts["calls"]]))

    def _completes(self, event: Event, facts: Told) -> Iterator[Told]:  # noqa: ARG002
        if facts["stop_reason"] == "tool_use" and self._open:
            yield _idle(_requires([name for name in self._calls if name in self._open]))
        elif facts["stop_reason"] in REFUSALS:
            yield _idle({"type": "refusal"}) | {"stop_details": None}
        else:
            yield _idle({"type": "end_turn"})

    def _fails(self, event: Event, facts: Told) -> Iterator[Told]:
        self._open = set()
        detail = (_decode(event.body) if event.body is not None else {}).get("detail")
        message = detail or facts.get("code") or NO_MODEL
        error = {"type": "unknown_error", "message": message, "retry_status": {"type": "exhausted"}}
        yield {"type": "session.error", "error": error}
        yield _idle({"type": "retries_exhausted"})

    def _cancelled(self, event: Event, facts: Told) -> Iterator[Told]:  # noqa: ARG002
        self._open = set()
        yield {"type": "user.interrupt"}
        yield _idle({"type": "end_turn"})

    def _decided(self, event: Event, facts: Told) -> Iterator[Told]:
        reason = None if event.body is None else _decode(event.body).get("reason")
        result = "allow" if event.type == "tool.approved" else "deny"
        told = {"type": "user.tool_confirmation", "tool_use_id": self._call(facts["call"]), "result": result}
        yield told | ({"deny_message": reason} if reason and result == "deny" else {})

    def _deleted(self, event: Event, facts: Told) -> Iterator[Told]:  # noqa: ARG002
        yield {"type": "session.deleted"}

    # --- requests to a model ------------------------------------------------------------------------------------------

    def _asks(self, event: Event, facts: Told) -> Iterator[Told]:  # noqa: ARG002
        yield {"type": "span.model_request_start", "id": _request(facts)}

    def _answered(self, event: Event, facts: Told) -> Iterator[Told]:  # noqa: ARG002
        usage = msgspec.convert(facts.get("usage") or {}, Usage)
        figures = {
            "input_tokens": fresh_input(usage) or 0,
            "output_tokens": usage.output_tokens or 0,
            "cache_read_input_tokens": usage.cache_read_tokens or 0,
            "cache_creation_input_tokens": usage.cache_write_tokens or 0,
        }
        yield {
            "type": "span.model_request_end",
            "model_request_start_id": _request(facts),
            "is_error": facts["outcome"] != "completed",
            "model_usage": figures,
        }


def _request(facts: Told) -> str:
    """The name of a request to a model."""
    return f"{EVENT}_{UUID(facts['turn']).hex}_r{facts['round']}a{facts['attempt']}"


def _idle(reason: Told) -> Told:
    return {"type": "session.status_idle", "stop_reason": reason}


def _requires(names: list[str]) -> Told:
    return {"type": "requires_action", "event_ids": names}


def _redacted() -> list[Told]:
    """In the place of words that are erased."""
    return [{"type": "redacted"}]


def _blocks(content: list[Told]) -> list[Told]:
    """The texts and images of a message."""
    return [told for block in content if (told := _block(block)) is not None]


def _block(block: Told) -> Told | None:
    if block["type"] == "text":
        return {"type": "text", "text": block["text"]}
    if block["type"] == "image":
        return {"type": "image", "source": block["source"]}
    return None


def _result(block: Told) -> list[Told]:
    content = block.get("content", ())
    return [{"type": "text", "text": content}] if isinstance(content, str) else _blocks(list(content))
