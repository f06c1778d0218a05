"""Telling a session's events as the entries of a transcript: each says who did what, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ...clock import rfc3339
from ...errors import EngineError
from ...events import session_types as of_sessions
from ...events import turn_types as of_turns
from ...events.base import Facts, Words
from ...events.session_types import SessionWords
from ...events.types import BodyErased, ErasureWords, MessageAppended, MessageWords
from ...events.upcasts import facts_of, words_left
from ...log.base import RecordedEvent
from ...sessions.views import erased_view
from .base import Entry, Kind, Pairs, Passage
from .blocks import calls_in, passages_of

OTHER = "other"
SERVER = "server"
"""The name of the one who records what becomes of a turn."""
SPEAKERS: dict[str, str] = {"user": "User", "system": "System", "tool": "Tool", "assistant": "Assistant"}
SETTINGS = (
    *("model", "fallback_model", "budget_tokens", "max_output_tokens", "allowed_tools", "max_messages", "max_tokens"),
    *("expires_at", "legal_hold"),
)
"""Fields of a session that facts hold, in the order in which they are told."""


class Teller:
    """Tells events one by one, in order. It remembers the turn that runs: its model, and the names of its calls. The
    other methods each tell events of one type (``TELLERS``).
    """

    def __init__(self) -> None:
        self._model = ""
        self._ended: of_turns.AttemptEnded | None = None
        self._why: str | None = None
        self._calls: dict[str, str] = {}
        self._named: list[str] = []

    def tell(self, event: RecordedEvent) -> Entry | None:
        """The entry of an event; None where others say all of it. What cannot be read is told as it is named."""
        try:
            facts = facts_of(event)
            tell = TELLERS.get(type(facts))
            return _other(event) if tell is None else tell(self, event, facts, words_left(event))
        except EngineError as error:
            return _other(event, ("Cannot be read", error.detail))

    # --- messages -----------------------------------------------------------------------------------------------------

    def message(self, event: RecordedEvent, facts: MessageAppended, words: Words | None) -> Entry:
        content = words.content if isinstance(words, MessageWords) else ()
        by_model = facts.role == "assistant" and facts.turn is not None
        model = (facts.model if facts.model != OTHER else None) or self._model
        details: list[tuple[str, str]] = []
        if by_model:
            self._named = calls_in(content)
            details.append(("Stop reason", self._stop_reason(facts)))
        if not facts.complete:
            details.append(("Cut off", "yes: this is the part that had come when it ended"))
        says = f"{SPEAKERS[facts.role]}."
        if by_model:
            says = "Assistant, answer of a model."
        elif facts.role == "assistant":
            says = "Assistant, in the caller's words: no model answered this here."
        who = model if by_model else ""
        told = _entry(event, facts.role, says, tuple(details), who)
        return msgspec.structs.replace(told, passages=tuple(passages_of(content)))

    def _stop_reason(self, facts: MessageAppended) -> str:
        ended = self._ended
        reason = facts.stop_reason or (ended.stop_reason if ended else None)
        if reason == OTHER and self._why is not None:
            return f"{OTHER} ({self._why})"
        return reason or (ended.outcome if ended else "") or "none"

    # --- turns --------------------------------------------------------------------------------------------------------

    def turn(self, event: RecordedEvent, facts: of_turns.TurnStarted, words: Words | None) -> Entry:
        named = words.model if isinstance(words, of_turns.TurnWords) else None
        self._model, self._ended, self._why, self._calls = named or facts.model, None, None, {}
        details = [("Turn", str(event.id)), ("Model", self._model), ("Provider", facts.provider)]
        if facts.continues:
            details.append(("Goes on", "from the partial answer of the turn before"))
        if facts.supersedes is not None:
            details.append(("Answers anew", f"the answer at position {facts.supersedes:,} is left out from now on"))
        return _entry(event, "turn", "Asked the model.", tuple(details))

    def attempt(self, event: RecordedEvent, facts: of_turns.AttemptStarted, words: Words | None) -> None:
        del event
        named = words.model if isinstance(words, of_turns.AttemptWords) else None
        self._model, self._ended = f"{facts.provider}/{named or facts.model}", None

    def attempt_ended(self, event: RecordedEvent, facts: of_turns.AttemptEnded, words: Words | None) -> Entry | None:
        said = words if isinstance(words, of_turns.AttemptEndedWords) else None
        self._ended, self._why = facts, said.vendor_stop_reason if said else None
        if facts.outcome == "completed":
            return None
        details = (("Outcome", facts.outcome), ("Model", self._model), ("Attempt", f"{facts.attempt}"))
        return _entry(event, "failed", "An attempt did not come to its end.", details)

    def completed(self, event: RecordedEvent, facts: of_turns.TurnCompleted, words: Words | None) -> Entry:
        said = words.vendor_stop_reason if isinstance(words, of_turns.CompletionWords) else None
        vendors = said or facts.vendor_stop_reason
        told = [("Stop reason", facts.stop_reason)]
        if vendors and vendors != facts.stop_reason:
            told.append(("The vendor's word", vendors))
        return _entry(event, "turn", "The turn completed.", tuple(told))

    def failed(self, event: RecordedEvent, facts: of_turns.TurnFailed, words: Words | None) -> Entry:
        detail = words.detail if isinstance(words, of_turns.FailureWords) else ""
        limit = "" if facts.limit is None else f"{facts.limit} = {facts.maximum}"
        told = (("Code", facts.code), ("Detail", detail), ("Limit", limit))
        return _entry(event, "failed", "The turn failed.", told)

    def cancelled(self, event: RecordedEvent, facts: of_turns.TurnCancelled, words: Words | None) -> Entry:
        del facts, words
        return _entry(event, "failed", "The turn was cancelled.")

    def interrupted(self, event: RecordedEvent, facts: of_turns.TurnInterrupted, words: Words | None) -> Entry:
        del words
        why = "the server was stopped" if facts.reason == "shutdown" else "the server was lost"
        return _entry(event, "failed", "The turn was interrupted.", (("Why", why),))

    # --- tools --------------------------------------------------------------------------------------------------------

    def called(self, event: RecordedEvent, facts: of_turns.ToolCalled, words: Words | None) -> Entry:
        del words
        in_words = self._named[facts.index] if facts.index is not None and facts.index < len(self._named) else ""
        name = self._calls[facts.call] = facts.name or in_words or facts.call
        runner = "this server" if facts.runner == "server" else "the caller"
        return _entry(event, "tool", "A tool was called.", (("Tool", name), ("Run by", runner)), self._model)

    def returned(self, event: RecordedEvent, facts: of_turns.ToolReturned, words: Words | None) -> Entry:
        del words
        details = [("Tool", self._name(facts.call, facts.name)), ("Outcome", facts.outcome)]
        if facts.is_error:
            details.append(("Error", "yes"))
        if facts.duration_ms is not None:
            details.append(("Took", f"{facts.duration_ms:,} ms"))
        return _entry(event, "tool", "The tool returned.", tuple(details))

    def _name(self, call: str, name: str | None = None) -> str:
        return name or self._calls.get(call, call)

    def decision(
        self, event: RecordedEvent, facts: of_turns.ToolApproved | of_turns.ToolRefused, words: Words | None
    ) -> Entry:
        yes = isinstance(facts, of_turns.ToolApproved)
        told = _entry(event, "tool", f"The call was {'approved' if yes else 'refused'}.")
        reason = words.reason if isinstance(words, of_turns.DecisionWords) else ""
        return msgspec.structs.replace(told, details=(("Tool", self._name(facts.call)),), passages=_reason(reason))

    def paused(self, event: RecordedEvent, facts: of_turns.TurnPaused, words: Words | None) -> Entry:
        del words
        names = ", ".join(map(self._name, facts.calls))
        return _entry(event, "turn", "The turn waits for a person's decision.", (("Tools", names),))

    def resumed(self, event: RecordedEvent, facts: of_turns.TurnResumed, words: Words | None) -> Entry:
        del facts, words
        return _entry(event, "turn", "The turn goes on.")

    # --- the session, marks and erasures ------------------------------------------------------------------------------

    def began(self, event: RecordedEvent, facts: of_sessions.SessionStarted, words: Words | None) -> Entry:
        given = {name: value for name in SETTINGS if (value := getattr(facts, name, None)) not in (None, False)}
        told = _told_session(event, "The session began.", given, words)
        source = facts.source
        if source is None:
            return told
        copied = f"session {source.session} of the log {source.origin}, when that had {source.size:,} events"
        return msgspec.structs.replace(told, details=(*told.details, ("Copied from", copied)))

    def updated(self, event: RecordedEvent, facts: of_sessions.SessionUpdated, words: Words | None) -> Entry:
        return _told_session(event, "The session was changed.", _changed(facts), words, facts.changed)

    def forked(self, event: RecordedEvent, facts: of_sessions.SessionForked, words: Words | None) -> Entry:
        told = _told_session(event, "The session was forked.", _changed(facts), words, facts.changed)
        parent = ("From", f"session {facts.parent}, version {facts.parent_version:,}")
        made = () if facts.replay is None else (("Made by", f"replay {facts.replay}"),)
        return msgspec.structs.replace(told, details=(parent, *made, *told.details))

    def marked(self, event: RecordedEvent, facts: Any, words: Words | None) -> Entry:
        del words
        says = SENTENCES[type(facts)]
        at = getattr(facts, "message", None)
        return _entry(event, "session", says, () if at is None else (("Message", f"position {at:,}"),))

    def erased(self, event: RecordedEvent, facts: BodyErased, words: Words | None) -> Entry:
        told = _entry(event, "erasure", f"Words were erased: those of {len(facts.targets):,} event(s).")
        reason = words.reason if isinstance(words, ErasureWords) else ""
        return msgspec.structs.replace(told, targets=facts.targets, passages=_reason(reason))


def _entry(event: RecordedEvent, kind: Kind, says: str, details: Pairs = (), who: str = "") -> Entry:
    return Entry(
        kind=kind,
        position=event.position,
        version=event.version,
        at=rfc3339(event.recorded_at),
        who=who or (SERVER if event.actor.startswith("turn:") else event.actor),
        says=says,
        details=tuple((name, value) for name, value in details if value),
        gone=erased_view(event.erasure),
        damaged=event.damaged,
    )


def _other(event: RecordedEvent, *details: tuple[str, str]) -> Entry:
    return _entry(event, "session", "An event of another kind.", (("Type", event.type), *details))


def _reason(text: str) -> tuple[Passage, ...]:
    return (Passage("Reason", text),) if text else ()


def _changed(facts: of_sessions.SessionUpdated | of_sessions.SessionForked) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in SETTINGS if name in facts.changed}


def _told_session(
    event: RecordedEvent, says: str, given: dict[str, Any], words: Words | None, changed: Iterable[str] | None = None
) -> Entry:
    """An event that sets fields of the session: short ones as details, the system prompt and metadata as passages."""
    said = words if isinstance(words, SessionWords) else SessionWords()
    for name in ("model", "fallback_model", "allowed_tools"):
        if name in given and getattr(said, name) is not None:
            given[name] = getattr(said, name)
    shown = {name: _value(name, value) for name, value in given.items()}
    for name in ("title", "user_id", "agent_id", "system", "metadata"):
        value = getattr(said, name)
        if name in {"system", "metadata"} and value is not None:
            continue
        if value is not None or (changed is not None and name in changed and not event.erasure):
            shown[name] = "none" if value is None else str(value)
    passages = [] if said.system is None else [Passage("System prompt", said.system)]
    if said.metadata is not None:
        pretty = msgspec.json.format(msgspec.json.encode(said.metadata), indent=2).decode()
        passages.append(Passage("Metadata", pretty, code=True))
    names = tuple((name.replace("_", " ").capitalize(), value) for name, value in shown.items())
    return msgspec.structs.replace(_entry(event, "session", says, names), passages=tuple(passages))


def _value(name: str, value: Any) -> str:
    if value is None:
        return "none"
    if name == "expires_at":
        return rfc3339(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none at all"
    return str(value)


SENTENCES: dict[type[Facts], str] = {
    of_sessions.SessionArchived: "The session was archived.",
    of_sessions.SessionRestored: "The session was taken up again.",
    of_sessions.MessagePinned: "A message was pinned: the model is always shown it.",
    of_sessions.MessageUnpinned: "A message is pinned no longer.",
}
Tell = Callable[[Teller, RecordedEvent, Any, "Words | None"], "Entry | None"]
TELLERS: dict[type[Facts], Tell] = {
    MessageAppended: Teller.message,
    of_turns.TurnStarted: Teller.turn,
    of_turns.AttemptStarted: Teller.attempt,
    of_turns.AttemptEnded: Teller.attempt_ended,
    of_turns.TurnCompleted: Teller.completed,
    of_turns.TurnFailed: Teller.failed,
    of_turns.TurnCancelled: Teller.cancelled,
    of_turns.TurnInterrupted: Teller.interrupted,
    of_turns.ToolCalled: Teller.called,
    of_turns.ToolReturned: Teller.returned,
    of_turns.ToolApproved: Teller.decision,
    of_turns.ToolRefused: Teller.decision,
    of_turns.TurnPaused: Teller.paused,
    of_turns.TurnResumed: Teller.resumed,
    of_sessions.SessionStarted: Teller.began,
    of_sessions.SessionUpdated: Teller.updated,
    of_sessions.SessionForked: Teller.forked,
    BodyErased: Teller.erased,
    **dict.fromkeys(SENTENCES, Teller.marked),
}
"""How the events of each type are told."""
