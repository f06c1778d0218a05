"""Every event that a session can hold: its facts, its words, and the content blocks that messages are made of.

An event type is a ``Facts`` struct. Its class names the type, its schema version, and the struct of its words (the
*body*), if it has any. Facts are hashed for ever and never erased, so no text of anybody stands in them; words can be
erased. Both are public API: a field, once written, stays readable for ever (``upcasts.py`` carries old shapes over).

Facts that have a default are left out of the stored JSON when they have it. Floats do not occur in facts.
"""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from .base import Facts, Words
from .blocks import Content
from .session_types import (
    MessagePinned,
    MessageUnpinned,
    SessionArchived,
    SessionRestored,
    SessionStarted,
    SessionUpdated,
)
from .usage import Price, Usage

Role = Literal["user", "assistant", "tool", "system"]
RunnerOfTool = Literal["client", "server"]


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
    """``tokens``: base count of all blocks by ``counter``. ``calls``: ids of the tools it asks for; ``results``:
    ids of the calls it answers. ``frame``: its number among the turn's frames; ``blocks``: where its streamed
    blocks began.
    """

    event_type: ClassVar[str] = "message.appended"
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


class TurnStarted(Facts, frozen=True):
    """The turn's id is the id of this event. ``continues``: a partial message of the turn before is sent along;
    ``supersedes``: the position of one that is left out from now on, because this turn answers anew.
    ``client_tools``: those of its tools that the caller runs.
    """

    event_type: ClassVar[str] = "turn.started"

    model: str
    provider: str
    frame: int = 1
    continues: bool = False
    supersedes: int | None = None
    on_disconnect: Literal["continue", "cancel"] = "continue"
    client_tools: tuple[str, ...] = ()


class AttemptWords(Words, frozen=True):
    """``salt`` of the request's commitment, and the words among its parameters."""

    salt: bytes
    stop: tuple[str, ...] = ()


class AttemptStarted(Facts, frozen=True):
    """All that decides the bytes of a request. ``positions``: the messages sent, in order. ``request``: hex
    SHA-256 over salt and the request's bytes. ``factor_permille`` times base tokens plus ``overhead`` a message is
    the model's count; ``base_tokens`` sums system, messages and tool schemas. ``tools`` is the SHA-256 of the tools'
    schemas, which are kept once as a document. ``temperature`` is a decimal in text: floats are not hashed. ``price``
    is what the model cost that day.
    """

    event_type: ClassVar[str] = "attempt.started"
    words: ClassVar[type[Words] | None] = AttemptWords

    turn: UUID
    round: int
    attempt: int
    provider: str
    model: str
    renderer: str
    positions: tuple[int, ...]
    request: str
    counter: str
    factor_permille: int
    overhead: int
    base_tokens: int
    budget_tokens: int
    reserve_tokens: int
    policy: str
    system: int | None = None
    tools: str | None = None
    max_output_tokens: int | None = None
    temperature: str | None = None
    tool_choice: str | None = None
    price: Price | None = None


class AttemptEndedWords(Words, frozen=True):
    """The vendor's words, bounded: its usage object as it came, its ids, and the body of a failure."""

    usage: msgspec.Raw | UnsetType = UNSET
    response_id: str | None = None
    request_id: str | None = None
    upstream: str | None = None


class AttemptEnded(Facts, frozen=True):
    """``outcome`` is ``completed``, or the code of what ended it (``provider_truncated``, ``cancelled`` …). Its
    times are not known where the server died under it.
    """

    event_type: ClassVar[str] = "attempt.ended"
    words: ClassVar[type[Words] | None] = AttemptEndedWords

    turn: UUID
    round: int
    attempt: int
    outcome: str
    duration_ms: int | None = None
    first_chunk_ms: int | None = None
    stop_reason: str | None = None
    vendor_stop_reason: str | None = None
    status: int | None = None
    vendor_code: str | None = None
    retryable: bool = False
    usage: Usage | None = None
    frame: int | None = None


class ToolCalled(Facts, frozen=True):
    """The model asks for a tool; its input stands in the message at ``message`` (a position)."""

    event_type: ClassVar[str] = "tool.called"

    turn: UUID
    call: str
    name: str
    message: int
    frame: int
    runner: RunnerOfTool = "client"


class ToolReturned(Facts, frozen=True):
    """A tool that ran here has answered; what it said stands in the message at ``message`` (a position). ``outcome``
    is ``completed`` or the code of what went wrong (``engine.tools.runner``; ``interrupted``, ``cancelled``,
    ``refused``, ``not_run`` where it did not run to its end, also for a call of the caller's that nobody is to make any
    more). ``output_bytes``: the size of what it gave, before any cut.
    """

    event_type: ClassVar[str] = "tool.returned"

    turn: UUID
    call: str
    name: str
    message: int
    frame: int
    outcome: str
    is_error: bool = False
    duration_ms: int | None = None
    output_bytes: int | None = None


class DecisionWords(Words, frozen=True):
    """Why somebody decided as they did."""

    reason: str


class ToolApproved(Facts, frozen=True):
    """A person said yes to a call; who it was is the envelope's actor."""

    event_type: ClassVar[str] = "tool.approved"
    words: ClassVar[type[Words] | None] = DecisionWords

    turn: UUID
    call: str
    frame: int


class ToolRefused(Facts, frozen=True):
    """A person said no to a call."""

    event_type: ClassVar[str] = "tool.refused"
    words: ClassVar[type[Words] | None] = DecisionWords

    turn: UUID
    call: str
    frame: int


class TurnPaused(Facts, frozen=True):
    """The turn waits until a person has decided on each of these calls."""

    event_type: ClassVar[str] = "turn.paused"

    turn: UUID
    frame: int
    calls: tuple[str, ...]


class TurnResumed(Facts, frozen=True):
    """Everything is decided, and the turn goes on."""

    event_type: ClassVar[str] = "turn.resumed"

    turn: UUID
    frame: int


class TurnCompleted(Facts, frozen=True):
    event_type: ClassVar[str] = "turn.completed"

    turn: UUID
    frame: int
    stop_reason: str
    vendor_stop_reason: str | None = None


class FailureWords(Words, frozen=True):
    detail: str


class TurnFailed(Facts, frozen=True):
    event_type: ClassVar[str] = "turn.failed"
    words: ClassVar[type[Words] | None] = FailureWords

    turn: UUID
    frame: int
    code: str
    retryable: bool = False
    limit: str | None = None
    maximum: int | None = None


class TurnCancelled(Facts, frozen=True):
    """The turn was cancelled; the envelope's actor says by whom."""

    event_type: ClassVar[str] = "turn.cancelled"

    turn: UUID
    frame: int


class TurnInterrupted(Facts, frozen=True):
    """The server stopped under it; ``reason`` is ``shutdown`` or ``server_lost``."""

    event_type: ClassVar[str] = "turn.interrupted"

    turn: UUID
    frame: int
    reason: Literal["shutdown", "server_lost"]


class ErasureWords(Words, frozen=True):
    """Why words were erased. Who did it is the envelope's actor."""

    reason: str


class BodyErased(Facts, frozen=True):
    """The bodies of these events are gone. ``targets``: their positions, all in this event's session; ``closes``: ids
    of open calls that nobody need answer any more, because the message that asked is among them.
    """

    event_type: ClassVar[str] = "body.erased"
    words: ClassVar[type[Words] | None] = ErasureWords

    targets: tuple[int, ...]
    closes: tuple[str, ...] = ()


EVENT_TYPES: dict[str, type[Facts]] = {
    facts.event_type: facts
    for facts in (
        SessionStarted,
        SessionUpdated,
        SessionArchived,
        SessionRestored,
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
        BodyErased,
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
    """A message that somebody wants appended; ``tokens`` is its base count by ``counter``."""

    role: Role
    content: Content
    tokens: int
    counter: str
    id: UUID | None = None
