"""Anthropic's Messages API, streaming: Claude, and every server that speaks the same protocol.

A provider has one ``anthropic-version`` and one renderer, which belong together (``claude_render.VERSIONS``): what it
renders is sent with the version it was rendered for.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec

from ...clock import Clock
from ...errors import Invalid, ProviderMalformed, ProviderRejected
from ..base import Chunk, ModelInfo
from ..tokens import family_of
from ..wire.addresses import checked_key, checked_url
from ..wire.http import Head, Transport, drain, make_client, on_record, post_stream
from ..wire.sse import SseDecoder
from .render import RENDERERS, VERSIONS, Version, renderer_for
from .stream import MessageStream

VENDOR_URL = "https://api.anthropic.com"

_CONTEXT_AND_OUTPUT = {
    "claude-fable-5-2": (1_000_000, 128_000),
    "claude-opus-5-5": (1_000_000, 128_000),
    "claude-sonnet-5-5": (1_000_000, 128_000),
    "claude-haiku-5-5": (1_000_000, 128_000),
    "claude-opus-4-8": (1_000_000, 128_000),
    "claude-sonnet-4-6": (1_000_000, 64_000),
    "claude-haiku-4-5": (200_000, 64_000),
}
VENDOR_MODELS = tuple(
    ModelInfo(name, family_of(name), context_tokens, max_output_tokens)
    for name, (context_tokens, max_output_tokens) in _CONTEXT_AND_OUTPUT.items()
)

_PREFIX = "claude-"
_DATE = re.compile(r"-\d{8}$")
_COUNTED = ("model", "messages", "system", "tools", "tool_choice", "thinking")
"""What of a request the counting of its tokens accepts."""
_COUNT_BYTES = 64 << 10


class _Count(msgspec.Struct):
    input_tokens: int


class ClaudeProvider:
    """A provider of the Messages API at one base URL, which ends before ``/v1/messages``."""

    renderers = RENDERERS

    def __init__(
        self,
        *,
        clock: Clock,
        connect_timeout_s: float,
        base_url: str = VENDOR_URL,
        api_key: str | None = None,
        version: Version = "2023-06-01",
        cache_breakpoints: bool = False,
        name: str = "anthropic",
        transport: Transport | None = None,
    ) -> None:
        """Raises Invalid for a base URL, a key or a version that can be none."""
        if version not in VERSIONS.values():
            raise Invalid("anthropic_version", f"must be one of {', '.join(sorted({*VERSIONS.values()}))}")
        self.name = name
        self.renderer = renderer_for(version, cache_breakpoints=cache_breakpoints)
        self._base_url = checked_url(base_url, "anthropic_base_url")
        self._headers: dict[str, str] = {"anthropic-version": VERSIONS[self.renderer]}
        key = checked_key(api_key, "anthropic_api_key")
        if key:
            self._headers["x-api-key"] = key
        self._is_vendor = self._base_url == VENDOR_URL
        self._clock = clock
        self._client = make_client(connect_timeout_s, transport)

    def models(self) -> Sequence[ModelInfo]:
        return VENDOR_MODELS if self._is_vendor else ()

    def model(self, name: str) -> ModelInfo | None:
        """The vendor may serve any name of Claude, and another server any name; a dated one is known by the name
        without its date.
        """
        if self._is_vendor and not name.startswith(_PREFIX):
            return None
        plain = _DATE.sub("", name)
        for info in VENDOR_MODELS:
            if info.name == plain:
                return msgspec.structs.replace(info, name=name)
        return ModelInfo(name, family_of(name))

    async def stream(self, request: bytes) -> AsyncGenerator[Chunk, None]:
        decoder, answer = SseDecoder(), MessageStream(self.name)

        def note(head: Head) -> None:
            answer.request_id = head.request_id

        body = post_stream(
            self._client,
            f"{self._base_url}/v1/messages",
            self._headers,
            request,
            provider=self.name,
            clock=self._clock,
            on_head=note,
        )
        with on_record(self._headers, lambda: answer.request_id):
            async with aclosing(body):
                async for data in body:
                    for event in decoder.feed(data):
                        for chunk in answer.feed(event):
                            yield chunk
                        if answer.ended:
                            await drain(body)
                            return
            raise answer.broken_off()

    async def count_tokens(self, request: bytes) -> int:
        """The vendor's own count of the input tokens of a rendered request. Raises ProviderError and its kin."""
        body = post_stream(
            self._client,
            f"{self._base_url}/v1/messages/count_tokens",
            self._headers,
            self._countable(request),
            provider=self.name,
            clock=self._clock,
            expect="application/json",
        )
        answer = bytearray()
        async with aclosing(body):
            async for data in body:
                answer += data
                if len(answer) > _COUNT_BYTES:
                    break
        try:
            count = msgspec.json.decode(answer, type=_Count).input_tokens
        except (msgspec.MsgspecError, RecursionError):
            count = -1
        if count < 0:
            raise ProviderMalformed(f"{self.name} answered something that is not a count of tokens")
        return count

    async def aclose(self) -> None:
        await self._client.aclose()

    def _countable(self, request: bytes) -> bytes:
        try:
            fields = msgspec.json.decode(request, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, RecursionError):
            raise ProviderRejected(f"{self.name} cannot count what is not a request") from None
        return msgspec.json.encode({name: fields[name] for name in _COUNTED if name in fields})
