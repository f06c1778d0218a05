"""Every event that a log can hold: its facts, its words, and the content blocks that messages are made of.

An event type is a ``Facts`` struct. Its class names the type, its schema version, and the struct of its words (the
*body*), if it has any. Facts are hashed for ever and never erased, so no text of anybody stands in them; words can be
erased. Both are public API: a field, once written, stays readable for ever (``upcasts.py`` carries old shapes over).

Facts that have a default are left out of the stored JSON when they have it. Floats do not occur in facts.

From schema 2 on facts hold only what was made here or stands on a list that is closed: the ordinal of a call along the
session (``c17``) and not the vendor's id, a registered tool, a known stop reason, a model of the catalogue or of the
configuration. What a model, a vendor or a client has named otherwise is words. Schema 1 had such names in facts, and
those strings are read from their place.
"""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

import msgspec

from .base import Facts, Words
from .blocks import Content
from .replay_types import ReplayCancelled, ReplayCompared, ReplayCompleted, ReplayStarted, SuiteAccepted, SuiteChanged
from .session_types import (
    ConversationDeleted,
    MessagePinned,
    MessageUnpinned,
    SessionArchived,
    SessionForked,
    SessionRestored,
    SessionStarted,
    SessionUpdated,
)
from .turn_types import (
    AnswerDeleted,
    AttemptEnded,
    AttemptStarted,
    ToolApproved,
    ToolCalled,
    ToolRefused,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnInterrupted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)

Role = Literal["user", "assistant", "tool", "system"]


class BlockStart(msgspec.Struct, frozen=True, array_like=True):
    """The begin of a block in a streamed message: its frame in the turn, its place in the content, its type."""

    frame: int
    block: int
    type: str


class MessageWords(Words, frozen=True):
    """``content``: the blocks as JSON. ``cuts``: how a streamed message came in, packed (``engine.events.cuts``)."""

    content: tuple[msgspec.Raw, ...]
    cuts: bytes = b""


class MessageAppended(Facts, frozen=True):
    """``tokens``: base count of all blocks by ``counter``. ``calls``: ordinals of the calls it makes, one for each
    tool_use block; ``results``: ordinals of the calls it answers. ``frame``: its number among the turn's frames;
    ``blocks``: where its streamed blocks began. ``model`` gave the answer and stopped for ``stop_reason``: where they
    are absent (schema 1, or a model that facts cannot name) the attempt's events have them. ``copied_from``: the
    positions of the messages whose words it holds because its client named them. ``developer``: its client calls the
    system that says it so.
    """

    event_type: ClassVar[str] = "message.appended"
    schema: ClassVar[int] = 2
    words: ClassVar[type[Words] | None] = MessageWords

    role: Role
    tokens: int
    counter: str
    complete: bool
    turn: UUID | None
    calls: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    frame: int | None = None
    blocks: tuple[BlockStart, ...] = ()
    model: str | None = None
    stop_reason: str | None = None
    copied_from: tuple[int, ...] = ()
    developer: bool = False


class ErasureWords(Words, frozen=True):
    """Why words were erased. Who did it is the envelope's actor."""

    reason: str


class BodyErased(Facts, frozen=True):
    """The bodies at ``targets``, positions of this session, are gone. ``closes``: ordinals of open calls that nobody
    need answer any more, for they are asked among them; ``documents``: those gone with them, for nothing else names
    them.
    """

    event_type: ClassVar[str] = "body.erased"
    schema: ClassVar[int] = 2
    words: ClassVar[type[Words] | None] = ErasureWords

    targets: tuple[int, ...]
    closes: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()


EVENT_TYPES: dict[str, type[Facts]] = {
    facts.event_type: facts
    for facts in (
        SessionStarted,
        SessionForked,
        SessionUpdated,
        SessionArchived,
        SessionRestored,
        ConversationDeleted,
        MessageAppended,
        MessagePinned,
        MessageUnpinned,
        TurnStarted,
        AttemptStarted,
        AttemptEnded,
        ToolCalled,
        ToolReturned,
        ToolApproved,
        ToolRefused,
        TurnPaused,
        TurnResumed,
        TurnCompleted,
        TurnFailed,
        TurnCancelled,
        TurnInterrupted,
        AnswerDeleted,
        BodyErased,
        ReplayStarted,
        ReplayCompared,
        ReplayCompleted,
        ReplayCancelled,
        SuiteChanged,
        SuiteAccepted,
    )
}

TURN_ENDS: frozenset[str] = frozenset({"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"})


class Draft(msgspec.Struct, frozen=True, gc=False):
    """An event that somebody wants written. ``id`` is given only where the caller must know it before the commit;
    ``causation`` is the id of the event or turn that led to it.
    """

    facts: Facts
    words: Words | None = None
    id: UUID | None = None
    causation: UUID | None = None
    actor: str | None = None


class NewMessage(msgspec.Struct, frozen=True, gc=False):
    """A message that somebody wants appended; ``tokens`` is its base count by ``counter``, ``copied_from`` the
    positions of the messages whose words it holds; ``developer``: its client calls the system that says it so.
    """

    role: Role
    content: Content
    tokens: int
    counter: str
    id: UUID | None = None
    copied_from: tuple[int, ...] = ()
    developer: bool = False
