"""HTTP on the socket: uvicorn's protocol, with a bound on all that is not a body, and on how long a client may take.

uvicorn's parser would collect a request line, headers, and the trailers of a chunked body without end, and wait for
ever for a client that neither sends nor reads. What it cannot read as a request is answered with a problem document
here, as everything else.
"""

from __future__ import annotations

import asyncio
import http
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ...engine import new_id
from .dialects import id_headers
from .errors import Problem, refusal_of
from .middleware import REFUSED, head_too_large

LINGER_S = 1.0
LAST_WORDS = "last_words"
"""In a request's state: what its client is told, in a stream, when it has stalled and is dropped."""


class BoundedHttp(HttpToolsProtocol):
    """Refuses a head, or what stands around the pieces of a body, that grows beyond ``max_head_bytes``; a client that
    sends nothing of its request, or takes nothing of its answer, for ``stall_s``; and more than ``max_connections``.
    """

    max_head_bytes = 32 << 10
    max_connections = 5000
    stall_s: float = 30.0

    def refused(self, problem: Problem, request_id: str) -> None:
        """Told of what was answered here, and reached no application."""

    def connection_made(self, transport: Any) -> None:
        self._loose_bytes = 0
        self._head_is_complete = False
        self._refused = False
        self._serving: RequestResponseCycle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            detail = "too many connections are open"
            headers = {"retry-after": "5"}
            self._refuse(Problem(503, "overloaded", detail, headers, limit="max_connections", retry_after_s=5))
        else:
            self._expect_more()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        self._reader_is_fine()
        super().connection_lost(exc)
        # uvicorn tells the newest request; where several came at once, another is being answered.
        if self._serving is not None:
            _end(self._serving)

    def data_received(self, data: bytes) -> None:
        """Count what has come since the last thing that was complete: it is what the parser still holds."""
        if self._refused:
            return
        self._loose_bytes += len(data)
        super().data_received(data)
        if self._loose_bytes > self.max_head_bytes:
            self._refuse(head_too_large(self.max_head_bytes))
        elif self._loose_bytes and self._sending is None:
            self._expect_more()

    def on_message_begin(self) -> None:
        self._head_is_complete = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head. Those of a chunked body's trailer are passed over: they must not be taken for headers,
        which were checked before (RFC 9112, section 7.1.2).
        """
        if not self._head_is_complete:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_is_complete = True
        self._loose_bytes = 0  # the gate looks at the size of a head that is complete
        self._expect_more()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._loose_bytes = 0
        self._expect_more()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._loose_bytes = 0
        self._expect_nothing()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not told
        """Refuse what is no request. Garbage that follows a complete one does not take that one's answer away, or its
        client would send it again. The connection closes after it.
        """
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.more_body and not cycle.response_started:
            self._refused = True
            self._expect_nothing()
            cycle.keep_alive = False
        else:
            self._refuse(Problem(400, "bad_request", "this is not an HTTP request"))

    # --- clients that stall -------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """More waits to be sent than the connection should hold: the client is slow."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        self._reader_is_fine()
        super().resume_writing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._serving = cycle
        super()._start_asgi_task(cycle, _unframed(app, cycle) if cycle.scope["http_version"] == "1.0" else app)

    def _expect_more(self) -> None:
        """A part of a request is here, and the rest is due."""
        self._expect_nothing()
        self._sending = self.loop.call_later(self.stall_s, self._sends_nothing)

    def _expect_nothing(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _sends_nothing(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if self.flow.read_paused:  # what it sent waits to be read by us
            self._expect_more()
        elif cycle is None and not self._loose_bytes:  # it has not begun a request, and is told nothing
            self.transport.close()
        else:
            self._refuse(Problem(408, "request_timeout", f"nothing came of the request for {self.stall_s:g} s"))

    def _watch_reader(self) -> None:
        self._reader_is_fine()
        waiting = self.transport.get_write_buffer_size()
        self._reading = self.loop.call_later(self.stall_s, self._reads_slowly, waiting)

    def _reader_is_fine(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _reads_slowly(self, waiting: int) -> None:
        """It has not taken all that waited; as long as it takes some of it, it may go on."""
        if self.transport.get_write_buffer_size() < waiting:
            self._watch_reader()
        else:
            self._drop()

    def _drop(self) -> None:
        """Drop a client that takes nothing. A stream stays whole: if its client reads on before the connection is
        aborted, the last that it reads is why there is no more. Any other answer is freed at once: it can be large, and
        is of no use in part.
        """
        self._refused = True
        cycle = self._serving
        last_words = cycle.scope.get("state", {}).get(LAST_WORDS) if cycle is not None else None
        if last_words is None:
            self.transport.abort()
            return
        if cycle is not None and not cycle.response_complete:
            if last_words and cycle.chunked_encoding:
                last_words = b"%x\r\n%b\r\n0\r\n\r\n" % (len(last_words), last_words)
            self.transport.write(last_words)
            _end(cycle)
        self.flow.resume_writing()  # whoever waits to write goes on, and sees that nobody is there
        self.transport.close()
        self.loop.call_later(self.stall_s, self.transport.abort)

    # --- refusals -----------------------------------------------------------------------------------------------------

    def _refuse(self, problem: Problem) -> None:
        """Answer and close, a moment later: closing on unread data would take the answer away again."""
        if self._refused:
            return
        self._refused = True
        self._expect_nothing()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self.refused(problem, self._write(problem))
        elif not cycle.response_started:  # a request whose body cannot be read: what waits for it is told, and mute
            cycle.scope.setdefault("state", {})[REFUSED] = problem
            _end(cycle)
            self._write(problem)
        self.loop.call_later(LINGER_S, self.transport.close)

    def _write(self, problem: Problem) -> str:
        """Write an answer; its request id."""
        request_id = str(new_id())
        path, headers = self._asked()
        told = refusal_of(problem, path, headers, request_id)
        more = problem.headers | id_headers(path, headers, request_id)
        head = (
            f"HTTP/1.1 {told.status} {http.HTTPStatus(told.status).phrase}\r\n"
            f"content-type: {told.media_type}\r\ncontent-length: {len(told.body)}\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in more.items())
            + "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + told.body)
        return request_id

    def _asked(self) -> tuple[str, dict[str, str]]:
        """The path and headers of a request, as far as they have come."""
        url = getattr(self, "url", None) or b""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers or ()}
        return url.decode("latin-1").partition("?")[0], headers


def _unframed(app: Any, cycle: RequestResponseCycle) -> Any:
    """The application for a client of HTTP/1.0, which knows no chunks: an answer of unknown length ends with the
    connection (RFC 9112, section 6.1). uvicorn would send chunks, or miss a length.
    """
    cycle.chunked_encoding = False

    async def run(scope: Any, receive: Any, send: Any) -> None:
        async def plain(message: Any) -> None:
            if message["type"] == "http.response.body":
                cycle.expected_content_length = len(message.get("body", b"")) + bool(message.get("more_body", False))
            await send(message)

        await app(scope, receive, plain)

    return run


def _end(cycle: RequestResponseCycle) -> None:
    """Whoever answers this request is told that its client has gone."""
    if not cycle.response_complete:
        cycle.disconnected = True
    cycle.message_event.set()
