"""OpenAI's Responses API, streaming: OpenAI itself, and other servers that speak it.

It serves the same models as Chat Completions, at the same base URL. Unlike the older protocol it can give a model's
reasoning back to it; it has no stop sequences. The provider has the same name, so that a setting decides which protocol
is spoken, and sessions and models are named the same.
"""

from __future__ import annotations

from ..wire.vendor import AnswerStream, Endpoint
from .responses_render import RESPONSES
from .responses_stream import ResponsesStream
from .vendor import OpenAIVendor


class ResponsesProvider(OpenAIVendor):
    """A provider of the Responses API at one base URL."""

    path = "/responses"

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises Invalid for a base URL or a key that can be none."""
        super().__init__(endpoint, RESPONSES)

    def read_answer(self) -> AnswerStream:
        return ResponsesStream(self.name)
