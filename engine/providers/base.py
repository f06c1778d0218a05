"""The contract of a provider: it renders a prompt to bytes, sends those bytes, and yields chunks.

Rules that every member keeps, and ``tests/contracts/test_provider.py`` checks:

* ``render`` is pure: the same prompt gives the same bytes, for ever, under the same renderer name. A change of shape is
  a new renderer name, and the old one stays in ``renderers``, so that a request recorded once can be derived again. A
  parameter that the protocol cannot say is refused by name (``parameters.not_supported``), never left out.
* ``stream`` sends exactly the bytes it is given and yields chunks as they come. It ends after one ``Ended``, which it
  yields only when the upstream has said that the stream is over; anything else raises a ``ProviderError``
  (``ProviderTruncated`` when the stream broke off). It never raises anything else but ``CancelledError``.
* Text in chunks is valid Unicode, without half surrogates (held over to the next chunk, then U+FFFD). A block's text
  *is* the join of its deltas. An empty delta is not yielded.
* Blocks are numbered from 0 in the order they start within the answer; every started block is stopped before ``Ended``.
* Closing the iterator closes the upstream connection.

Time limits (first chunk, between chunks, whole turn) and retries are the caller's task.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import date
from typing import Literal, Protocol, runtime_checkable

import msgspec
from msgspec import UNSET, UnsetType

from ..events.blocks import Content, ToolSchema
from ..events.turn_types import CacheMarks
from ..events.types import Role
from ..events.usage import Price, Usage

BlockType = Literal["text", "thinking", "tool_use"]


FormatType = Literal["text", "json_object", "json_schema"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ResponseFormat(msgspec.Struct, frozen=True, omit_defaults=True):
    """The form of an answer: text, any JSON object, or JSON of a schema. ``schema`` is the JSON Schema as it is sent,
    to the byte; it, ``name``, ``description`` and ``strict`` go with ``json_schema`` alone.
    """

    type: FormatType
    name: str | None = None
    schema: msgspec.Raw | UnsetType = UNSET
    strict: bool | None = None
    description: str | None = None


class Reasoning(msgspec.Struct, frozen=True, omit_defaults=True):
    """The reasoning that a model is asked for: an effort, or a budget in tokens; one of the two."""

    effort: Effort | None = None
    budget_tokens: int | None = None


class Parameters(msgspec.Struct, frozen=True):
    """The parameters of a request. ``tool_choice``: ``auto``, ``any``, ``none``, or the name of a tool; ``logit_bias``:
    -100 to 100 by the number of a token. None is *not given*, and then nothing is sent.
    """

    max_output_tokens: int | None = None
    temperature: float | None = None
    stop: tuple[str, ...] = ()
    tool_choice: str | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    response_format: ResponseFormat | None = None
    reasoning: Reasoning | None = None
    parallel_tool_calls: bool | None = None


class PromptMessage(msgspec.Struct, frozen=True):
    """A message of a prompt. ``marks``: a client's for the prompt cache, by the block that they follow."""

    role: Role
    content: Content
    marks: tuple[tuple[int, msgspec.Raw], ...] = ()


class Prompt(msgspec.Struct, frozen=True):
    """A prompt in the common form. ``model`` is the provider's own name for it (no prefix). ``marks``: where a client
    wants it cached, which is a hint: a provider that has no such thing passes it over. Its messages have their own.
    """

    model: str
    messages: tuple[PromptMessage, ...]
    system: str | None = None
    tools: tuple[ToolSchema, ...] = ()
    parameters: Parameters = Parameters()
    marks: CacheMarks | None = None


class BlockStarted(msgspec.Struct, frozen=True):
    """The beginning of a block. ``id`` and ``name`` are a tool call's."""

    block: int
    type: BlockType
    id: str | None = None
    name: str | None = None


class Delta(msgspec.Struct, frozen=True, gc=False):
    """A piece of a block: text, thinking, or raw JSON of a tool's input."""

    block: int
    text: str


class VendorBlock(msgspec.Struct, frozen=True):
    """A block in the vendor's own JSON, byte for byte: beside the common form if ``block`` was started (the signature
    of a thinking block), instead of it if it was not (a block of an unknown type).
    """

    block: int
    type: str
    raw: bytes


class BlockStopped(msgspec.Struct, frozen=True):
    block: int


class UsageReported(msgspec.Struct, frozen=True):
    """The attempt's usage so far; the last one wins. ``raw`` is the vendor's object as it came."""

    usage: Usage
    raw: bytes = b"{}"


class Ended(msgspec.Struct, frozen=True):
    """The end of the answer, as the upstream said. ``stop_reason``: ``end_turn max_tokens stop_sequence tool_use
    refusal``, open-ended; ``vendor_stop_reason``: the vendor's word for it; ``stop_sequence``: the one at which it
    stopped, where the vendor says which.
    """

    stop_reason: str
    vendor_stop_reason: str | None = None
    response_id: str | None = None
    request_id: str | None = None
    stop_sequence: str | None = None


Chunk = BlockStarted | Delta | VendorBlock | BlockStopped | UsageReported | Ended


class ModelInfo(msgspec.Struct, frozen=True):
    """A model. ``family`` names how its tokens are counted (``engine.providers.tokens``); ``context_tokens`` is input
    and output together; ``prices`` are in order of their days; None is *not known*. A model of unknown ``capabilities``
    is sent whatever its provider's renderer can express. ``listed``: the name stands in the catalogue or in the
    configuration, so that facts may hold it.
    """

    name: str
    family: str
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    capabilities: tuple[str, ...] | None = None
    prices: tuple[Price, ...] = ()
    listed: bool = True

    def can(self, capability: str) -> bool:
        """True if it has this capability, as far as is known."""
        return self.capabilities is None or capability in self.capabilities

    def price_at(self, day: date) -> Price | None:
        """The newest price that held on this day (UTC); None if none is known."""
        return next((price for price in reversed(self.prices) if price.since is None or price.since <= day), None)


class Figures(msgspec.Struct, frozen=True):
    """The figures that a window was chosen by, and the policy that chose it, as an attempt has them on record."""

    policy: str
    factor_permille: int
    overhead: int
    budget_tokens: int
    reserve_tokens: int


Renderer = Callable[[Prompt], bytes]


class Provider(Protocol):
    """One vendor, protocol or fake. ``name`` is the prefix of its models (``openai`` in ``openai/gpt-5``)."""

    name: str
    renderer: str
    """Name and version of the renderer now in use, a key of ``renderers``."""
    renderers: Mapping[str, Renderer]

    def models(self) -> Sequence[ModelInfo]:
        """The models that it is known to serve; it may serve others."""
        ...

    def model(self, name: str) -> ModelInfo | None:
        """One of its models; None if it certainly does not serve it."""
        ...

    def stream(self, request: bytes) -> AsyncGenerator[Chunk, None]:
        """Send ``request`` (bytes that a renderer of this provider made) and yield the answer.

        Raises ProviderError and its kin; see the module's rules.
        """
        ...

    async def aclose(self) -> None:
        """Release connections and child processes."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A provider that counts the tokens of a request."""

    async def count_tokens(self, request: bytes) -> int:
        """The vendor's own count of the input tokens of a rendered request. Raises ProviderError and its kin."""
        ...
