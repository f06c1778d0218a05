"""Anthropic's Messages API, streaming: Claude, and every server that speaks the same protocol.

A provider has one ``anthropic-version`` and one renderer, which belong together (``render.VERSIONS``). A request is
sent with that version, or with the newest that takes sampling parameters if it has some: its bytes decide.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from ...errors import Invalid, ProviderMalformed, ProviderRejected
from ..base import ModelInfo
from ..wire.vendor import AnswerStream, Endpoint, HttpProvider, Upstream, Vendor, known_models, post_json
from .render import RENDERERS, VERSIONS, Version, renderer_for, version_of
from .stream import MessageStream

ANTHROPIC = Vendor(
    name="anthropic",
    url="https://api.anthropic.com",
    models=known_models(
        {
            "claude-fable-5-2": (1_000_000, 128_000),
            "claude-opus-5-5": (1_000_000, 128_000),
            "claude-sonnet-5-5": (1_000_000, 128_000),
            "claude-haiku-5-5": (1_000_000, 128_000),
            "claude-opus-4-8": (1_000_000, 128_000),
            "claude-sonnet-4-6": (1_000_000, 64_000),
            "claude-haiku-4-5": (200_000, 64_000),
        }
    ),
    dated=r"-\d{8}$",
    serves="claude-",
)

_COUNTED = ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config")
"""The fields of a request that the token counting accepts."""
_COUNT_BYTES = 64 << 10


class _Count(msgspec.Struct):
    input_tokens: int


class ClaudeProvider(HttpProvider):
    """A provider of the Messages API at one base URL."""

    vendor = ANTHROPIC
    renderers = RENDERERS
    path = "/v1/messages"

    def __init__(self, endpoint: Endpoint, *, version: Version = "2023-06-01", cache_breakpoints: bool = False) -> None:
        """Raises Invalid for a base URL, a key or a version that can be none."""
        if version not in VERSIONS.values():
            raise Invalid("anthropic_version", f"must be one of {', '.join(sorted({*VERSIONS.values()}))}")
        super().__init__(endpoint, renderer_for(version, cache_breakpoints=cache_breakpoints))

    def headers(self, api_key: str | None) -> dict[str, str]:
        return {"anthropic-version": VERSIONS[self.renderer], **({"x-api-key": api_key} if api_key else {})}

    def upstream_for(self, request: bytes) -> Upstream:
        version = version_of(self.renderer, request)
        if version == VERSIONS[self.renderer]:
            return self.upstream
        return replace(self.upstream, headers={**self.upstream.headers, "anthropic-version": version})

    def read_answer(self) -> AnswerStream:
        return MessageStream(self.name)

    def model(self, name: str) -> ModelInfo | None:
        """Another server may serve models of any name; Claude's own names mean the same there."""
        return self.vendor.model(name) or super().model(name)

    async def count_tokens(self, request: bytes) -> int:
        """The vendor's own count of the input tokens of a rendered request. Raises ProviderError and its kin."""
        answer = await post_json(self.upstream, f"{self.path}/count_tokens", self._countable(request), _COUNT_BYTES)
        try:
            count = msgspec.json.decode(answer, type=_Count).input_tokens
        except (msgspec.MsgspecError, RecursionError):
            count = -1
        if count < 0:
            raise ProviderMalformed(f"{self.name} answered something that is not a count of tokens")
        return count

    def _countable(self, request: bytes) -> bytes:
        try:
            fields = msgspec.json.decode(request, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, RecursionError):
            raise ProviderRejected(f"{self.name} cannot count what is not a request") from None
        return msgspec.json.encode({name: fields[name] for name in _COUNTED if name in fields})
