"""OpenAI's Responses API, streaming: OpenAI itself, and other servers that speak it.

The same models as in Chat Completions, at the same base URL, which ends before ``/responses``. What it has beyond the
older protocol is that a model's reasoning can be given back to it; what it lacks are stop sequences. Its member goes by
the same name, so that a setting decides which of the two is spoken, and sessions and models are named the same.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from ...clock import Clock
from ..base import Chunk
from ..wire.http import Transport
from .chat import VENDOR_URL, OpenAIProvider, stream_answer
from .responses_render import RESPONSES
from .responses_stream import ResponsesStream


class ResponsesProvider(OpenAIProvider):
    """A provider of the Responses API at one base URL."""

    def __init__(
        self,
        *,
        clock: Clock,
        connect_timeout_s: float,
        base_url: str = VENDOR_URL,
        api_key: str | None = None,
        name: str = "openai",
        transport: Transport | None = None,
    ) -> None:
        """Raises Invalid for a base URL or a key that can be none."""
        super().__init__(
            clock=clock,
            connect_timeout_s=connect_timeout_s,
            base_url=base_url,
            api_key=api_key,
            name=name,
            transport=transport,
        )
        self.renderer = RESPONSES

    def stream(self, request: bytes) -> AsyncGenerator[Chunk, None]:
        return stream_answer(
            self._client,
            f"{self._base_url}/responses",
            self._api_key,
            request,
            ResponsesStream(self.name),
            provider=self.name,
            clock=self._clock,
        )
