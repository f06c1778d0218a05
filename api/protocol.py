"""HTTP on the socket: uvicorn's protocol, with a bound on all that is not a body.

uvicorn's parser would collect a request line, headers, and the trailers of a chunked body without end. And what it
cannot read as a request is answered with a problem document here, as everything else.
"""

from __future__ import annotations

from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.errors import PROBLEM_JSON, Problem, document
from api.gate import head_too_large
from engine import new_id

LINGER_S = 1.0


class BoundedHead(HttpToolsProtocol):
    """Refuses a head, or what stands around the pieces of a body, that grows beyond ``max_head_bytes``."""

    max_head_bytes = 32 << 10

    def connection_made(self, transport: Any) -> None:
        self._loose_bytes = 0
        self._refused = False
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Count what has come since the last thing that was complete: it is what the parser still holds."""
        if self._refused:
            return
        self._loose_bytes += len(data)
        super().data_received(data)
        if self._loose_bytes > self.max_head_bytes:
            self._refuse(head_too_large(self.max_head_bytes))

    def on_headers_complete(self) -> None:
        self._loose_bytes = 0  # the gate looks at the size of a head that is complete
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._loose_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._loose_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not told
        self._refuse(Problem(400, "bad_request", "this is not an HTTP request"))

    def _refuse(self, problem: Problem) -> None:
        """Answer and close, a moment later: closing on unread data would take the answer away again."""
        if self._refused:
            return
        self._refused = True
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self._write(problem)
        elif not cycle.response_started:  # a request whose body cannot be read: what waits for it is told, and mute
            cycle.disconnected = True
            cycle.message_event.set()
            self._write(problem)
        self.loop.call_later(LINGER_S, self.transport.close)

    def _write(self, problem: Problem) -> None:
        request_id = str(new_id())
        body = document(problem, request_id)
        head = (
            f"HTTP/1.1 {problem.status} {msgspec.json.decode(body)['title']}\r\n"
            f"content-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
