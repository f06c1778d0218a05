"""The events of turns: their attempts, their tool calls, their pauses and their ends. ``types`` has all others."""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from .base import Facts, Words
from .usage import Price, Usage

RunnerOfTool = Literal["client", "server"]

STOP_REASONS: frozenset[str] = frozenset(
    {"end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal", "pause_turn"}
)
"""Why a model stops, as far as facts say it."""

VENDOR_STOP_REASONS: frozenset[str] = STOP_REASONS | {
    "completed",
    "content_filter",
    "function_call",
    "length",
    "max_output_tokens",
    "model_context_window_exceeded",
    "stop",
    "tool_calls",
}
"""The vendors' known words for it; any other stands in the body."""

RouteReason = Literal[
    "task", "images", "tools", "json", "reasoning", "long", "plain", "cheapest", "next", "breaker", "able"
]
"""Why a route chose a model: its task (named, or seen in the request), its price, or its turn in a round; ``breaker``:
others are left alone now; ``able``: those before it cannot do what is asked.
"""

OTHER = "other"
"""In facts: a stop reason, or the name of a model, that stands on no list of ours. The body has it."""


class TurnWords(Words, frozen=True):
    """``model``: its name, where facts cannot hold it. ``client_tools``: those of its tools that the caller runs. Of a
    client's turn, ``told``: what its protocol gives back of the request, in the protocol's JSON; ``alias``: the
    client's own name of the conversation.
    """

    model: str | None = None
    client_tools: tuple[str, ...] = ()
    told: msgspec.Raw | UnsetType = UNSET
    alias: str | None = None


Protocol = Literal["chat_completions", "messages", "responses", "ai_sdk"]
"""The vendors' protocols in which clients ask for turns."""


class ClientFacts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The client's side of a turn. ``inputs``: how many messages were appended with it, right before its start;
    ``stored``: its answer is served by the turn's id; ``previous``: the turn whose answer it goes on from;
    ``summary``: its answer is to stand for what was said before.
    """

    protocol: Protocol
    inputs: int = 0
    stored: bool = False
    previous: UUID | None = None
    summary: bool = False


class TurnStarted(Facts, frozen=True):
    """The turn's id is the id of this event. ``continues``: a partial message of the turn before is sent along;
    ``supersedes``: the position of one that is left out from now on, because this turn answers anew. ``one_round``: it
    ends with the first answer, and all that the model asks for is the caller's to do. ``client``: it was asked for in a
    vendor's protocol.
    """

    event_type: ClassVar[str] = "turn.started"
    schema: ClassVar[int] = 2
    words: ClassVar[type[Words] | None] = TurnWords

    model: str
    provider: str
    frame: int = 1
    continues: bool = False
    supersedes: int | None = None
    on_disconnect: Literal["continue", "cancel"] = "continue"
    client_tools: tuple[str, ...] = ()
    one_round: bool = False
    client: ClientFacts | None = None


class AnswerDeleted(Facts, frozen=True):
    """A client has deleted the answer of a turn, which started at ``version``: it is served by the turn's id no longer.
    What of it is erased, another event says.
    """

    event_type: ClassVar[str] = "answer.deleted"

    turn: UUID
    protocol: Protocol
    version: int


class AnswerWords(Words, frozen=True):
    """The JSON Schema that an answer must be of, as it was sent, and the words beside it."""

    schema: msgspec.Raw | UnsetType = UNSET
    name: str | None = None
    strict: bool | None = None
    description: str | None = None


class SaidContent(msgspec.Struct, frozen=True, array_like=True):
    """The content of a message as a client says it, where that is not as it was recorded: of the one at the place
    ``at`` among those sent.
    """

    at: int
    content: tuple[msgspec.Raw, ...]


class CacheMarks(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a client wants its prompt to be cached, each mark in the vendor's JSON. ``whole``: for the request.
    ``system``: the parts of the system prompt, each as the characters where it starts and ends, and its mark or null.
    ``tools``: by number. ``messages``: by place among those sent, and the block that it follows.
    """

    whole: msgspec.Raw | UnsetType = UNSET
    system: tuple[tuple[int, int, msgspec.Raw], ...] = ()
    tools: tuple[tuple[int, msgspec.Raw], ...] = ()
    messages: tuple[tuple[int, int, msgspec.Raw], ...] = ()

    def of_message(self, number: int) -> tuple[tuple[int, msgspec.Raw], ...]:
        """The marks of one of the messages sent, by the block that they follow."""
        return tuple((block, control) for at, block, control in self.messages if at == number)


class AttemptWords(Words, frozen=True):
    """``salt`` of the request's commitment, and the words among its parameters. ``model``, ``tool_choice``: names that
    facts cannot hold. ``contents``: messages that the client says otherwise than they are on record. ``logit_bias``
    names tokens, and so is words; ``answer``: what there is to a JSON Schema. ``marks``: a client's for the cache.
    """

    salt: bytes
    stop: tuple[str, ...] = ()
    model: str | None = None
    tool_choice: str | None = None
    contents: tuple[SaidContent, ...] = ()
    logit_bias: dict[str, float] | None = None
    answer: AnswerWords | None = None
    marks: CacheMarks | None = None


class AttemptStarted(Facts, frozen=True):
    """All that decides the bytes of a request. ``positions``: the messages sent, in order. ``request``: hex SHA-256
    over salt and the request's bytes. ``factor_permille`` times base tokens plus ``overhead`` a message is the model's
    count; ``base_tokens`` sums system, messages and schemas. ``tools``: the document of the tools', named by
    SHA-256 over a salt and its bytes (at schema 1: its bytes). ``price``: of that day. ``tool_choice``: ``auto``,
    ``any``, ``none``, or a registered tool. Numbers with a fraction, and the seed, are decimal text. ``route``: the
    configured one that chose the model, at its place ``route_index`` (from 0), for this reason.
    """

    event_type: ClassVar[str] = "attempt.started"
    schema: ClassVar[int] = 2
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
    top_p: str | None = None
    top_k: int | None = None
    seed: str | None = None
    presence_penalty: str | None = None
    frequency_penalty: str | None = None
    response_format: Literal["text", "json_object", "json_schema"] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    reasoning_budget_tokens: int | None = None
    parallel_tool_calls: bool | None = None
    route: str | None = None
    route_index: int | None = None
    route_reason: RouteReason | None = None


class AttemptEndedWords(Words, frozen=True):
    """The vendor's words, bounded: its usage object as it came, its ids, why it stopped (where facts do not say it),
    at which of the stop sequences, and the code and the body of a failure.
    """

    usage: msgspec.Raw | UnsetType = UNSET
    response_id: str | None = None
    request_id: str | None = None
    upstream: str | None = None
    vendor_stop_reason: str | None = None
    vendor_code: str | None = None
    stop_sequence: str | None = None


class AttemptEnded(Facts, frozen=True):
    """``outcome`` is ``completed``, or the code of what ended it (``provider_truncated``, ``cancelled`` …). Its
    times are not known where the server died under it. ``stop_reason`` is one of ``STOP_REASONS``, or ``other``.
    """

    event_type: ClassVar[str] = "attempt.ended"
    schema: ClassVar[int] = 2
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
    """The model asks for a tool. The vendor's id of the call, the tool's name and its input stand in the message at
    ``message`` (a position), in the tool_use block ``index`` (from 0; absent in schema 1). ``name``: of a tool that is
    registered here.
    """

    event_type: ClassVar[str] = "tool.called"
    schema: ClassVar[int] = 2

    turn: UUID
    call: str
    name: str | None
    message: int
    frame: int
    runner: RunnerOfTool = "client"
    index: int | None = None


class ToolReturned(Facts, frozen=True):
    """A tool that ran here has answered; what it said stands in the message at ``message`` (a position). ``outcome``
    is ``completed`` or the code of what went wrong (``engine.tools.runner``; ``interrupted``, ``cancelled``,
    ``refused``, ``not_run`` where it did not run to its end, also for a call of the caller's that nobody is to make any
    more). ``output_bytes``: the size of what it gave, before any cut.
    """

    event_type: ClassVar[str] = "tool.returned"
    schema: ClassVar[int] = 2

    turn: UUID
    call: str
    name: str | None
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
    schema: ClassVar[int] = 2
    words: ClassVar[type[Words] | None] = DecisionWords

    turn: UUID
    call: str
    frame: int


class ToolRefused(Facts, frozen=True):
    """A person said no to a call."""

    event_type: ClassVar[str] = "tool.refused"
    schema: ClassVar[int] = 2
    words: ClassVar[type[Words] | None] = DecisionWords

    turn: UUID
    call: str
    frame: int


class TurnPaused(Facts, frozen=True):
    """The turn waits until a person has decided on each of these calls."""

    event_type: ClassVar[str] = "turn.paused"
    schema: ClassVar[int] = 2

    turn: UUID
    frame: int
    calls: tuple[str, ...]


class TurnResumed(Facts, frozen=True):
    """Everything is decided, and the turn goes on."""

    event_type: ClassVar[str] = "turn.resumed"

    turn: UUID
    frame: int


class CompletionWords(Words, frozen=True):
    """The vendor's word for why the model stopped, where it is not a known one."""

    vendor_stop_reason: str


class TurnCompleted(Facts, frozen=True):
    """``stop_reason`` is one of ``STOP_REASONS``, or ``other``."""

    event_type: ClassVar[str] = "turn.completed"
    schema: ClassVar[int] = 2
    words: ClassVar[type[Words] | None] = CompletionWords

    turn: UUID
    frame: int
    stop_reason: str
    vendor_stop_reason: str | None = None


class FailureWords(Words, frozen=True):
    detail: str


class TurnFailed(Facts, frozen=True):
    """``retry_after_s``: the seconds after which whoever refused may be asked again, where it said so."""

    event_type: ClassVar[str] = "turn.failed"
    words: ClassVar[type[Words] | None] = FailureWords

    turn: UUID
    frame: int
    code: str
    retryable: bool = False
    limit: str | None = None
    maximum: int | None = None
    retry_after_s: int | None = None


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
