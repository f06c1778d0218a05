"""OpenAI as a vendor, and what its two protocols have in common."""

from __future__ import annotations

from collections.abc import Mapping

from ..base import Renderer
from ..wire.vendor import HttpProvider, Vendor, known_models
from .chat_render import RENDERERS as CHAT_RENDERERS
from .responses_render import RENDERERS as RESPONSES_RENDERERS

OPENAI = Vendor(
    name="openai",
    url="https://api.openai.com/v1",
    models=known_models(
        {
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
    ),
    dated=r"-\d{4}-\d{2}-\d{2}$",
)


class OpenAIVendor(HttpProvider):
    """A provider of one of OpenAI's protocols. A setting decides which of the two a server is spoken to in; both
    members can render the requests of both, because the renderer's name is on record with each attempt.
    """

    vendor = OPENAI
    renderers: Mapping[str, Renderer] = {**CHAT_RENDERERS, **RESPONSES_RENDERERS}

    def headers(self, api_key: str | None) -> dict[str, str]:
        return bearer(api_key)


def bearer(api_key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {api_key}"} if api_key else {}
