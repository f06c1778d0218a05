"""OpenAI's Chat Completions, streaming: OpenAI itself, and every server that speaks the same protocol.

vLLM, Ollama, llama.cpp and the like differ in the base URL, need no key, and may know only the older ``max_tokens``
(``legacy_max_tokens``; it decides the renderer, and the renderer's name is on record with each attempt).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from urllib.parse import urlsplit

import msgspec

from engine.clock import Clock
from engine.errors import Invalid
from engine.providers.base import Chunk, ModelInfo
from engine.providers.http import Client, Head, Transport, drain, make_client, post_stream
from engine.providers.openai_render import CHAT, CHAT_COMPAT, RENDERERS
from engine.providers.openai_stream import ChatStream
from engine.providers.sse import SseDecoder
from engine.tokens import family_of

VENDOR_URL = "https://api.openai.com/v1"

_CONTEXT_AND_OUTPUT = {
    "gpt-5": (400_000, 128_000),
    "gpt-5-mini": (400_000, 128_000),
    "gpt-5-nano": (400_000, 128_000),
    "gpt-4.1": (1_047_576, 32_768),
    "gpt-4.1-mini": (1_047_576, 32_768),
    "gpt-4.1-nano": (1_047_576, 32_768),
    "gpt-4o": (128_000, 16_384),
    "gpt-4o-mini": (128_000, 16_384),
    "o3": (200_000, 100_000),
    "o4-mini": (200_000, 100_000),
}
VENDOR_MODELS = tuple(
    ModelInfo(name, family_of(name), context_tokens, max_output_tokens)
    for name, (context_tokens, max_output_tokens) in _CONTEXT_AND_OUTPUT.items()
)

_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")


class OpenAIProvider:
    """A provider of the Chat Completions protocol at one base URL, which ends before ``/chat/completions``."""

    renderers = RENDERERS

    def __init__(
        self,
        *,
        clock: Clock,
        connect_timeout_s: float,
        base_url: str = VENDOR_URL,
        api_key: str | None = None,
        name: str = "openai",
        legacy_max_tokens: bool = False,
        transport: Transport | None = None,
    ) -> None:
        """Raises Invalid for a base URL or a key that can be none."""
        self.name = name
        self.renderer = CHAT_COMPAT if legacy_max_tokens else CHAT
        self._base_url = _checked_url(base_url)
        self._api_key = _checked_key(api_key)
        self._known = VENDOR_MODELS if self._base_url == VENDOR_URL else ()
        self._clock = clock
        self._client = make_client(connect_timeout_s, transport)

    def models(self) -> Sequence[ModelInfo]:
        return self._known

    def model(self, name: str) -> ModelInfo | None:
        """Any name may be served; a dated one is known by the name without its date."""
        plain = _DATE.sub("", name)
        for info in self._known:
            if info.name == plain:
                return msgspec.structs.replace(info, name=name)
        return ModelInfo(name, family_of(name))

    def stream(self, request: bytes) -> AsyncGenerator[Chunk, None]:
        return stream_chat(self._client, self._base_url, self._api_key, request, provider=self.name, clock=self._clock)

    async def aclose(self) -> None:
        await self._client.aclose()


async def stream_chat(
    client: Client, base_url: str, api_key: str | None, request: bytes, *, provider: str, clock: Clock
) -> AsyncGenerator[Chunk, None]:
    """The protocol itself: send a rendered request, yield the answer's chunks."""
    decoder, answer = SseDecoder(), ChatStream(provider)

    def note(head: Head) -> None:
        answer.request_id = head.request_id

    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    body = post_stream(
        client, f"{base_url}/chat/completions", headers, request, provider=provider, clock=clock, on_head=note
    )
    async with aclosing(body):
        async for data in body:
            for event in decoder.feed(data):
                for chunk in answer.feed(event):
                    yield chunk
                if answer.ended:
                    await drain(body)
                    return
    raise answer.broken_off()


def _checked_url(base_url: str) -> str:
    """Keys stand in headers: in an address they would get into logs."""
    try:
        parts = urlsplit(base_url)
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(sign in base_url for sign in "@?#"):
        raise Invalid("openai_base_url", "must be an http or https address without user, query or fragment")
    return base_url.rstrip("/")


def _checked_key(api_key: str | None) -> str | None:
    if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        raise Invalid("openai_api_key", "must be printable ASCII without blanks")
    return api_key or None
