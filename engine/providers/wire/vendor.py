"""A vendor's protocol over HTTP, as far as it is the same for all vendors: configuration, requests as bytes, answers as
events.

A member says what differs: its vendor, its renderers, the path and the headers of a request, and how an answer is read.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import ClassVar

import msgspec

from ...clock import Clock
from ...errors import ProviderError, ProviderMalformed, ProviderTooLarge, ProviderTruncated
from ..base import Chunk, ModelInfo, Renderer
from ..tokens import family_of
from .addresses import checked_key, checked_url
from .failures import failure_in_stream
from .http import AnswerHead, Client, drain, make_client, on_record, post_stream
from .sse import EventReader, SseEvent
from .transport import Transport

JSON = "application/json"


class Vendor(msgspec.Struct, frozen=True):
    """A vendor: the name of its provider and of its settings, its own address, the models that it is known to serve.
    ``dated`` matches the date at the end of a model's name, ``serves`` the names of models that it may serve.
    """

    name: str
    url: str
    models: tuple[ModelInfo, ...]
    dated: str
    serves: str = ""

    def model(self, name: str) -> ModelInfo | None:
        """The model of this name, if it may be served; a dated one is known by the name without its date."""
        if not re.match(self.serves, name):
            return None
        plain = re.sub(self.dated, "", name)
        known = (info for info in self.models if info.name == plain)
        return next((msgspec.structs.replace(info, name=name) for info in known), unknown_model(name))


def known_models(context_and_output: Mapping[str, tuple[int, int]]) -> tuple[ModelInfo, ...]:
    """Models by their sizes: tokens of context, most tokens of output."""
    return tuple(ModelInfo(name, family_of(name), *sizes) for name, sizes in context_and_output.items())


def unknown_model(name: str) -> ModelInfo:
    return ModelInfo(name, family_of(name), listed=False)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoint that a provider is configured with. ``base_url`` None: the vendor's own. ``transport``: in place of
    HTTP's own, for tests. ``name``: of the provider, by default the vendor's.
    """

    clock: Clock
    connect_timeout_s: float
    base_url: str | None = None
    api_key: str | None = None
    transport: Transport | None = None
    name: str | None = None

    def is_of(self, vendor: Vendor) -> bool:
        """True if it is the vendor's own address."""
        return self.base_url is None or self.base_url.rstrip("/") == vendor.url


class Upstream(msgspec.Struct, frozen=True):
    """An address that requests are sent to, with what they are sent: the ``headers`` hold the key. ``provider`` is the
    name by which failures call it.
    """

    client: Client
    base_url: str
    headers: Mapping[str, str]
    provider: str
    clock: Clock


class AnswerStream(ABC):
    """An answer on its way, from events to chunks. Synchronous and pure: it never waits.

    Feed it every event. It is over when ``ended``; it has failed if there is a ``failure``, to be raised after the
    chunks that came with it; and it is ``broken_off`` if the events end before either.
    """

    def __init__(self, provider: str) -> None:
        self.ended = False
        self.failure: ProviderError | None = None
        self.request_id: str | None = None
        self._provider = provider
        self._response_id: str | None = None

    @abstractmethod
    def feed(self, event: SseEvent) -> list[Chunk]:
        """The chunks of one event. Raises ProviderMalformed, or what an error in the stream means."""

    def broken_off(self) -> ProviderTruncated:
        """The failure of a stream whose events end before the answer does."""
        return ProviderTruncated(
            f"the stream of {self._provider} ended without its end marker", request_id=self.request_id
        )

    def malformed(self, what: str) -> ProviderMalformed:
        return ProviderMalformed(f"{self._provider} sent {what}", request_id=self.request_id)

    def too_large(self, what: str) -> ProviderTooLarge:
        return ProviderTooLarge(f"{self._provider} sent {what}", request_id=self.request_id)

    def failed(self, said: bytes) -> ProviderError:
        """The failure that the vendor's error object means."""
        return failure_in_stream(self._provider, said, request_id=self.request_id)


class HttpProvider(ABC):
    """A provider of one protocol at one base URL, which ends before ``path``."""

    vendor: ClassVar[Vendor]
    renderers: Mapping[str, Renderer]
    path: ClassVar[str]

    def __init__(self, endpoint: Endpoint, renderer: str) -> None:
        """Raises Invalid for a base URL or a key that can be none."""
        vendor = self.vendor
        self.name = endpoint.name or vendor.name
        self.renderer = renderer
        given = vendor.url if endpoint.base_url is None else endpoint.base_url
        base_url = checked_url(given, f"{vendor.name}_base_url")
        headers = self.headers(checked_key(endpoint.api_key, f"{vendor.name}_api_key"))
        client = make_client(endpoint.connect_timeout_s, endpoint.transport)
        self.upstream = Upstream(client, base_url, headers, self.name, endpoint.clock)
        self._is_vendors = base_url == vendor.url

    @abstractmethod
    def headers(self, api_key: str | None) -> dict[str, str]:
        """The headers of every request."""

    def upstream_for(self, request: bytes) -> Upstream:  # noqa: ARG002 - a member's headers may hang on it
        """The upstream with the headers that this request is sent with."""
        return self.upstream

    @abstractmethod
    def read_answer(self) -> AnswerStream:
        """A reader for one answer."""

    def models(self) -> Sequence[ModelInfo]:
        return self.vendor.models if self._is_vendors else ()

    def model(self, name: str) -> ModelInfo | None:
        """The model, as the vendor describes it. Another server may serve any name, and nothing is
        known of its models.
        """
        return self.vendor.model(name) if self._is_vendors else unknown_model(name)

    def stream(self, request: bytes) -> AsyncGenerator[Chunk, None]:
        return stream_answer(self.upstream_for(request), self.path, request, self.read_answer())

    async def aclose(self) -> None:
        await self.upstream.client.aclose()


async def stream_answer(
    upstream: Upstream, path: str, request: bytes, answer: AnswerStream
) -> AsyncGenerator[Chunk, None]:
    """Send a rendered request and yield what ``answer`` makes of the events that come back."""
    reader = EventReader()

    def note(head: AnswerHead) -> None:
        answer.request_id = head.request_id

    body = post_stream(
        upstream.client,
        upstream.base_url + path,
        upstream.headers,
        request,
        provider=upstream.provider,
        clock=upstream.clock,
        on_head=note,
    )
    with on_record(upstream.headers, lambda: answer.request_id):
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


async def post_json(upstream: Upstream, path: str, request: bytes, most_bytes: int) -> bytes:
    """Send a request and collect its answer, no further than a little beyond ``most_bytes``."""
    body = post_stream(
        upstream.client,
        upstream.base_url + path,
        upstream.headers,
        request,
        provider=upstream.provider,
        clock=upstream.clock,
        expect=JSON,
    )
    answer = bytearray()
    async with aclosing(body):
        async for data in body:
            answer += data
            if len(answer) > most_bytes:
                break
    return bytes(answer)
