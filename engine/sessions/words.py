"""The words of a session as they are shown: what it was given in its settings, and the beginning of what was said."""

from __future__ import annotations

from typing import Any

import msgspec

from ..events.blocks import read_blocks, text_of
from ..events.session_types import SessionForked, SessionStarted, SessionUpdated, SessionWords
from ..events.types import MessageWords
from ..events.upcasts import Stored, words_left

WORD_FIELDS = ("title", "system", "metadata", "user_id", "agent_id")
"""Those that a session shows as they stand; others are settings."""
PREVIEW_CHARS = 200
"""Part of what is derived from events: another number would be another projection."""


class ShownWords(msgspec.Struct, frozen=True, gc=False):
    """Those of ``WORD_FIELDS``. ``preview``: the beginning of the first user message; null if erased, or no text."""

    title: str | None = None
    system: str | None = None
    metadata: dict[str, Any] | None = None
    user_id: str | None = None
    agent_id: str | None = None
    preview: str | None = None

    @classmethod
    def first(cls, words: SessionWords) -> ShownWords:
        """Those of a session that has just begun."""
        return cls(*[getattr(words, name) for name in WORD_FIELDS])


def words_after(words: ShownWords, event: Stored, facts: object) -> ShownWords:
    """A session's words after one more event of its settings; those erased or damaged are None."""
    changed = changed_words(facts)
    if not changed:
        return words
    new = words_left(event) or SessionWords()
    assert isinstance(new, SessionWords)
    values = {name: getattr(new, name) for name in changed}
    if isinstance(facts, SessionUpdated) and facts.merges:
        values["metadata"] = merged(words.metadata, new.metadata) if new.metadata else words.metadata
    return msgspec.structs.replace(words, **values)


def merged(target: Any, patch: Any) -> Any:
    """What a merge patch (RFC 7396) makes of a value."""
    if not isinstance(patch, dict):
        return patch
    result = {**target} if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def changed_words(facts: object) -> tuple[str, ...]:
    """The fields that an event sets, in their order."""
    if isinstance(facts, SessionStarted):
        return WORD_FIELDS
    if isinstance(facts, SessionUpdated | SessionForked):
        return tuple(name for name in WORD_FIELDS if name in facts.changed)
    return ()


def preview_of(message: Stored) -> str | None:
    """The beginning of a message's text."""
    words = words_left(message)
    if not isinstance(words, MessageWords):
        return None
    return text_of(read_blocks(words.content))[:PREVIEW_CHARS] or None
