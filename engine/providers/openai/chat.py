"""OpenAI's Chat Completions, streaming: OpenAI itself, and every server that speaks the same protocol.

OpenAI's other protocol is in ``responses.py``.

vLLM, Ollama, llama.cpp and the like differ in the base URL, need no key, and may know only the older ``max_tokens``
(``legacy_max_tokens``; it decides the renderer, and the renderer's name is on record with each attempt).
"""

from __future__ import annotations

from ..wire.vendor import AnswerStream, Endpoint
from .chat_render import CHAT, CHAT_COMPAT
from .chat_stream import ChatStream
from .vendor import OpenAIVendor

PATH = "/chat/completions"


class OpenAIProvider(OpenAIVendor):
    """A provider of the Chat Completions protocol at one base URL."""

    path = PATH

    def __init__(self, endpoint: Endpoint, *, legacy_max_tokens: bool = False) -> None:
        """Raises Invalid for a base URL or a key that can be none."""
        super().__init__(endpoint, CHAT_COMPAT if legacy_max_tokens else CHAT)

    def read_answer(self) -> AnswerStream:
        return ChatStream(self.name)
