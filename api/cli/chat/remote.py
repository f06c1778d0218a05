"""Talking to a server over its HTTP API, with nothing but the standard library: what any client would do."""

from __future__ import annotations

import http
import http.client
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

import msgspec

from ....engine import EngineError, Frame, Invalid
from ..database import ID_DIGITS, read_prefix
from .client import LAST_FRAMES, Awaited, Wishes

TIMEOUT_S = 60
"""The server breaks every silence after some seconds; who hears nothing for so long is cut off."""
RETRIES = 5
RETRY_S = 1.0


class ServerRefused(EngineError):
    """The server refused, or did not answer. ``problem``: the code of its refusal."""

    code = "server_refused"


class _Answer(msgspec.Struct):
    """The fields of a session or a turn that are used."""

    id: UUID
    open_turn_id: UUID | None = None


class Remote:
    """See ``base.Talk``. Raises Invalid for what is no http URL."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self.address = f"--url {url}"
        self._url = _split(url)
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}

    def resume(self, session: str) -> UUID:
        digits = read_prefix(session)
        if len(digits) != ID_DIGITS:
            raise Invalid("session", "over the API, the whole id is needed")
        return self._json("GET", f"/api/sessions/{UUID(digits)}").id

    def begin(self, model: str | None, system: str | None) -> UUID:
        return self._json("POST", "/api/sessions", {"model": model, "system": system}).id

    def start(self, session: UUID, text: str, wishes: Wishes) -> UUID:
        body = {"content": text, "model": wishes.model, "tools": wishes.tools}
        return self._json("POST", f"/api/sessions/{session}/turns", body, {"prefer": "respond-async"}).id

    def frames(self, turn: UUID, after: int) -> Iterator[Frame]:
        """A connection that breaks is made again, after the last frame that came: nothing is lost, or told twice."""
        failures, awaited = 0, Awaited()
        while failures <= RETRIES:
            try:
                with self._request("GET", f"/api/turns/{turn}/stream?after={after}") as response:
                    if response.status == http.HTTPStatus.NO_CONTENT:
                        return
                    for frame in read_frames(response):
                        failures, after = 0, frame.number or after
                        awaited.see(frame)
                        yield frame
                        if frame.type in LAST_FRAMES:
                            return
                    if awaited.calls:
                        return
            except (OSError, http.client.HTTPException):
                pass
            failures += 1
            time.sleep(RETRY_S)
        raise ServerRefused("the stream keeps breaking off; the turn goes on, and is on record")

    def open_turn(self, session: UUID) -> UUID | None:
        return self._json("GET", f"/api/sessions/{session}").open_turn_id

    def decide(self, turn: UUID, call: str, *, approve: bool) -> None:
        self._json("POST", f"/api/turns/{turn}/decisions", {"tool_use_id": call, "approve": approve})

    def cancel(self, session: UUID) -> None:
        turn = self.open_turn(session)
        if turn is not None:
            self._json("POST", f"/api/turns/{turn}/cancel")

    def close(self) -> None:
        """Nothing is kept open."""

    def _json(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> _Answer:
        try:
            with self._request(method, path, body, headers) as response:
                return msgspec.json.decode(response.read(), type=_Answer)
        except (OSError, http.client.HTTPException) as error:
            raise ServerRefused(
                f"{self._url.geturl()} cannot be reached: {str(error) or type(error).__name__}"
            ) from None
        except msgspec.MsgspecError:
            raise ServerRefused(f"{self._url.geturl()} does not answer as Manent does") from None

    @contextmanager
    def _request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer, good until the connection is closed after it. Raises ServerRefused for a problem document."""
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        given = self._headers | (headers or {})
        data = None
        if body is not None:
            data, given["content-type"] = msgspec.json.encode(body), "application/json"
        with closing(kind(self._url.hostname or "", self._url.port, timeout=TIMEOUT_S)) as connection:
            connection.request(method, self._url.path.rstrip("/") + path, data, given)
            response = connection.getresponse()
            if response.status >= http.HTTPStatus.BAD_REQUEST:
                raise _refusal(response)
            yield response


def _split(url: str) -> SplitResult:
    """Raises Invalid."""
    try:
        parts = urlsplit(url)
        extra = parts.query or parts.fragment or parts.username
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and not extra:
            return parts
    except ValueError:
        pass
    raise Invalid("url", "must be like http://127.0.0.1:8000")


def _refusal(response: http.client.HTTPResponse) -> ServerRefused:
    """The detail of a problem document."""
    try:
        problem = msgspec.json.decode(response.read())
        return ServerRefused(f"{problem['detail']} ({problem['code']})", problem=problem["code"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return ServerRefused(f"the server answered {response.status} {response.reason}")


def read_frames(response: http.client.HTTPResponse) -> Iterator[Frame]:
    """Whole frames; comments keep the connection, and what has no blank line after it is no frame yet."""
    number, kind, data = 0, "message", b""
    for line in response:
        name, _, value = line.rstrip(b"\r\n").partition(b":")
        value = value.removeprefix(b" ")
        if name == b"id":
            number = int(value)
        elif name == b"event":
            kind = value.decode()
        elif name == b"data":
            data += value
        elif not name and not value:
            if data:
                yield Frame(number, kind, data)
            number, kind, data = 0, "message", b""
