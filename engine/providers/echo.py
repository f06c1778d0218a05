"""The echo provider: it answers with what it was told. For first steps without a key, for demonstrations and for tests.

``echo/echo`` answers with the last user message's text at once, in deltas of at most ``PIECE_CHARS``; ``echo/paced``
the same, ``PACED_CHARS`` characters every ``PACED_MS`` milliseconds. Without a user's text the answer is an empty
block. Only texts are sent (tool results count as text), and no parameter changes the answer: not even
``max_output_tokens``, so that an echo is always whole. The parameters that came later than the renderer stand in the
request, so that it says what was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import msgspec

from ..errors import ProviderRejected
from ..events.blocks import Content, TextBlock, ToolResultBlock
from ..events.usage import Usage
from .base import (
    BlockStarted,
    BlockStopped,
    Chunk,
    Delta,
    Ended,
    ModelInfo,
    Parameters,
    Prompt,
    Renderer,
    UsageReported,
)

RENDERER = "echo/1"
PIECE_CHARS = 4096
PACED_CHARS = 4
PACED_MS = 20

CAPABILITIES = ("text", "sampling", "effort", "thinking_budget", "json_schema")
"""All that its renderer says of a prompt: texts, and any parameter."""
_FIRST_PARAMETERS = frozenset({"max_output_tokens", "temperature", "stop", "tool_choice"})
"""Parameters that this renderer never said."""

_MODELS = {name: ModelInfo(name, family="echo", capabilities=CAPABILITIES) for name in ("echo", "paced")}


class PlainMessage(msgspec.Struct, frozen=True):
    """``text`` joins the texts of all blocks."""

    role: str
    text: str


class PlainRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The request of the fake providers: the texts of a prompt, and those of its parameters that came later."""

    model: str
    messages: tuple[PlainMessage, ...]
    parameters: dict[str, Any] = {}

    @property
    def last_user_text(self) -> str:
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "")


_decode = msgspec.json.Decoder(PlainRequest).decode


def render_plain(prompt: Prompt) -> bytes:
    """``echo/1``."""
    messages = [PlainMessage(message.role, _text(message.content)) for message in prompt.messages]
    if prompt.system is not None:
        messages.insert(0, PlainMessage("system", prompt.system))
    return msgspec.json.encode(PlainRequest(prompt.model, tuple(messages), _later(prompt.parameters)))


def _later(parameters: Parameters) -> dict[str, Any]:
    """The parameters that are said: numbers as Python writes them, whose shortest form is fixed."""
    given = {name: getattr(parameters, name) for name in parameters.__struct_fields__ if name not in _FIRST_PARAMETERS}
    return {name: _plain(value) for name, value in given.items() if value is not None}


def _plain(value: object) -> object:
    if isinstance(value, float):
        return msgspec.Raw(repr(value).encode())
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, dict) else value


def read_plain(request: bytes, provider: str) -> PlainRequest:
    """Read a rendered request. Raises ProviderRejected for anything else, as a real vendor would."""
    try:
        return _decode(request)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ProviderRejected(f"{provider} refused the request: it is malformed", status=400) from None


RENDERERS: Mapping[str, Renderer] = {RENDERER: render_plain}


class EchoProvider:
    """``count`` counts the tokens of a text, so that usage is reported as a vendor would."""

    renderer = RENDERER
    renderers = RENDERERS

    def __init__(self, count: Callable[[str], int]) -> None:
        self.name = "echo"
        self._count = count

    def models(self) -> Sequence[ModelInfo]:
        return tuple(_MODELS.values())

    def model(self, name: str) -> ModelInfo | None:
        return _MODELS.get(name)

    async def stream(self, request: bytes) -> AsyncGenerator[Chunk, None]:
        asked = read_plain(request, self.name)
        answer = asked.last_user_text
        yield BlockStarted(0, "text")
        paced = asked.model == "paced"
        async for piece in in_pieces(answer, PACED_CHARS if paced else PIECE_CHARS, PACED_MS if paced else 0):
            yield Delta(0, piece)
        yield BlockStopped(0)
        yield UsageReported(self._usage(asked, answer))
        yield Ended("end_turn")

    def _usage(self, asked: PlainRequest, answer: str) -> Usage:
        input_tokens = sum(self._count(message.text) for message in asked.messages)
        return Usage(input_tokens=input_tokens, output_tokens=self._count(answer))

    async def aclose(self) -> None:
        """There is nothing to release."""


async def in_pieces(text: str, piece_chars: int, every_ms: int) -> AsyncGenerator[str, None]:
    """A text in pieces, cut between code points: the first at once, then one every ``every_ms``; 0: without waiting."""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    for number, start in enumerate(range(0, len(text), piece_chars)):
        if every_ms and number:  # by the clock: errors of pauses would add up
            await asyncio.sleep(started_s + number * every_ms / 1000 - loop.time())
        yield text[start : start + piece_chars]


def _text(content: Content) -> str:
    return "".join(map(_block_text, content))


def _block_text(block: object) -> str:
    if isinstance(block, TextBlock):
        return block.text
    if isinstance(block, ToolResultBlock):
        return block.content if isinstance(block.content, str) else _text(block.content)
    return ""
