"""Talking to a server over its HTTP API, with nothing but the standard library: what any client would do."""

from __future__ import annotations

import http
import http.client
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urlsplit
from uuid import UUID

import msgspec

from ....engine import EngineError, Frame, Invalid, Model, ToolInfo
from .client import LAST_FRAMES, Awaited, Question, Wishes

T = TypeVar("T")

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


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]
    next_cursor: str | None


class Remote:
    """See ``client.Talk``. Raises Invalid for what is no http URL."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self.address = f"--url {url} "
        self._url = _split(url)
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}

    @property
    def default_model(self) -> str | None:
        return None

    @property
    def url(self) -> str:
        return self._url.geturl()

    # --- conversations ------------------------------------------------------------------------------------------------

    def check(self, question: Question | None, wishes: Wishes, session: UUID | None) -> None:  # noqa: ARG002
        """A server checks a question when it is asked. Which models and tools there are it says before."""
        models = [model.name for model in self.listed("/api/models", Model)]
        if wishes.model is not None and "/" in wishes.model and wishes.model not in models:
            self.decoded("GET", f"/api/models/{quote(wishes.model)}", msgspec.Raw)
        elif wishes.model is not None and wishes.model in {name.partition("/")[0] for name in models}:
            raise Invalid("model", f"{wishes.model} is a provider: name one of its models", available=models)
        if wishes.tools:
            there = [tool.name for tool in self.listed("/api/tools", ToolInfo)]
            for name in wishes.tools:
                if name not in there:
                    raise Invalid("tools", f"no tool is named {name!r} there", available=there)

    def begin(self, wishes: Wishes) -> UUID:
        return self.decoded("POST", "/api/sessions", _Answer, {"model": wishes.model, "system": wishes.system}).id

    def start(self, session: UUID, question: Question, wishes: Wishes) -> UUID:
        content = question if isinstance(question, str) else [msgspec.Raw(block) for block in question]
        body = {"content": content, "model": wishes.model, "tools": wishes.tools}
        return self.decoded("POST", f"/api/sessions/{session}/turns", _Answer, body, {"prefer": "respond-async"}).id

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
        seen = "what came is on record: manent show has it when the server is back"
        raise ServerRefused(f"{self.url} keeps breaking off; {seen}")

    def open_turn(self, session: UUID) -> UUID | None:
        return self.decoded("GET", f"/api/sessions/{session}", _Answer).open_turn_id

    def decide(self, turn: UUID, call: str, *, approve: bool) -> None:
        self.decoded("POST", f"/api/turns/{turn}/decisions", _Answer, {"tool_use_id": call, "approve": approve})

    def cancel(self, session: UUID) -> None:
        turn = self.open_turn(session)
        if turn is not None:
            self.decoded("POST", f"/api/turns/{turn}/cancel", _Answer)

    def close(self) -> None:
        """Nothing is kept open."""

    # --- requests -----------------------------------------------------------------------------------------------------

    def decoded(
        self, method: str, path: str, kind: type[T], body: Any = None, headers: dict[str, str] | None = None
    ) -> T:
        """The answer to a request. Raises ServerRefused."""
        try:
            with self._request(method, path, body, headers) as response:
                return msgspec.json.decode(response.read(), type=kind)
        except (OSError, http.client.HTTPException) as error:
            raise self.unreachable(error) from None
        except msgspec.MsgspecError:
            raise ServerRefused(f"{self.url} does not answer as Manent does: see the address") from None

    def listed(self, path: str, kind: type[T]) -> Iterator[T]:
        """The items of a list, page by page. Raises ServerRefused."""
        cursor: str | None = ""
        while cursor is not None:
            joined = f"{path}{'&' if '?' in path else '?'}cursor={quote(cursor)}" if cursor else path
            page = self.decoded("GET", joined, _Page)
            try:
                items = [msgspec.json.decode(item, type=kind) for item in page.items]
            except msgspec.MsgspecError:
                raise ServerRefused(f"{self.url} does not answer as this version of Manent does") from None
            yield from items
            cursor = page.next_cursor

    def unreachable(self, error: Exception) -> ServerRefused:
        """The error for a server that does not answer."""
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ServerRefused(f"{self.url} cannot be reached: {reason}; manent serve starts a server")

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
        plain = url.isascii() and url.isprintable() and " " not in url
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and plain and not extra:
            return parts
    except ValueError:
        pass
    raise Invalid("url", f"{url!r} is no address of a server: it must be like http://127.0.0.1:8000")


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
