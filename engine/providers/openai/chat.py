"""OpenAI's Chat Completions, streaming: OpenAI itself, and every server that speaks the same protocol.

OpenAI's other protocol is in ``responses.py``. Which of the two a server is spoken to in is a setting, and both members
can render what either was ever sent: the renderer's name is on record with each attempt.

vLLM, Ollama, llama.cpp and the like differ in the base URL, need no key, and may know only the older ``max_tokens``
(``legacy_max_tokens``; it decides the renderer, and the renderer's name is on record with each attempt).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing

import msgspec

from ...clock import Clock
from ..base import Chunk, ModelInfo, Renderer
from ..tokens import family_of
from ..wire.addresses import checked_key, checked_url
from ..wire.http import Client, Head, Transport, drain, make_client, on_record, post_stream
from ..wire.sse import EVENT_LIMIT_BYTES, SseDecoder, SseEvent
from .chat_render import CHAT, CHAT_COMPAT, RENDERERS
from .chat_stream import AnswerStream, ChatStream
from .responses_render import RENDERERS as RESPONSES_RENDERERS

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

    renderers: Mapping[str, Renderer] = {**RENDERERS, **RESPONSES_RENDERERS}

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
        self._base_url = checked_url(base_url, "openai_base_url")
        self._api_key = checked_key(api_key, "openai_api_key")
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


def stream_chat(
    client: Client, base_url: str, api_key: str | None, request: bytes, *, provider: str, clock: Clock
) -> AsyncGenerator[Chunk, None]:
    """The protocol itself: send a rendered request, yield the answer's chunks."""
    url = f"{base_url}/chat/completions"
    return stream_answer(client, url, api_key, request, ChatStream(provider), provider=provider, clock=clock)


async def stream_answer(
    client: Client, url: str, api_key: str | None, request: bytes, answer: AnswerStream, *, provider: str, clock: Clock
) -> AsyncGenerator[Chunk, None]:
    """Send a request and yield what ``answer`` makes of the events that come back."""
    reader = EventReader()

    def note(head: Head) -> None:
        answer.request_id = head.request_id

    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    body = post_stream(client, url, headers, request, provider=provider, clock=clock, on_head=note)
    with on_record(headers, lambda: answer.request_id):
        async with aclosing(body):
            async for data in body:
                for event in reader.feed(data):
                    for chunk in answer.feed(event):
                        yield chunk
                    if answer.failure is not None:
                        raise answer.failure
                    if answer.ended:
                        await drain(body)
                        return
        raise answer.broken_off()


class EventReader:
    """Bytes to events, as ``SseDecoder`` reads them, and in a third of its time where a piece is whole events.

    That is how vendors send them and how most packets come: events between two pieces, each one line of data, with a
    name before it or without. Any other piece is the decoder's.
    """

    def __init__(self) -> None:
        self._decoder = SseDecoder()
        self._between_events = False  # the decoder sees the first piece, which may have a byte order mark

    def feed(self, data: bytes) -> Iterable[SseEvent]:
        """Exhaust it before the next feed. Raises what the decoder raises."""
        if self._between_events and data[-2:] == b"\n\n" and data.find(b"\r") < 0 and len(data) <= EVENT_LIMIT_BYTES:
            try:
                text = data.decode()
            except UnicodeDecodeError:
                return self._decode(data)
            if text[:6] == "data: " and text.find("\n") == len(text) - 2:
                return (SseEvent("message", text[6:-2]),)
            events = _whole_events(text)
            if events is not None:
                return events
        return self._decode(data)

    def _decode(self, data: bytes) -> Iterator[SseEvent]:
        yield from self._decoder.feed(data)
        self._between_events = data[-2:] == b"\n\n"  # an empty line ends an event, whatever was held


def _whole_events(text: str) -> list[SseEvent] | None:
    """The events of a piece that begins and ends between two; None if one of them has another form."""
    events = []
    at, end = 0, len(text)
    while at < end:
        name = "message"
        if text[at : at + 7] == "event: ":
            name_end = text.find("\n", at)
            name, at = text[at + 7 : name_end], name_end + 1
        data_end = text.find("\n", at)
        if text[at : at + 6] != "data: " or text[data_end + 1] != "\n" or not name:
            return None
        events.append(SseEvent(name, text[at + 6 : data_end]))
        at = data_end + 2
    return events
