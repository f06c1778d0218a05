"""Sessions of a server, over its API."""

from __future__ import annotations

import http
import http.client
import shutil
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any, TypeVar, Unpack
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from ....engine import (
    Branches,
    Erasure,
    Event,
    Message,
    Model,
    NewSession,
    SentPrompt,
    Session,
    SessionChanges,
    SessionFilter,
    ToolInfo,
    Turn,
)
from ..chat.remote import RETRIES, RETRY_S, Remote, ServerRefused, read_frames
from ..database import EVERY, ID_DIGITS, only_one, read_prefix
from .base import TranscriptForm

T = TypeVar("T", bound=msgspec.Struct)

PAGE = 1000
CHUNK_BYTES = 1 << 16


class ServerSessions(Remote):
    """See ``base.Sessions``."""

    def list(self, which: SessionFilter) -> Iterator[Session]:
        given = {name: value for name, value in which.items() if value is not None}
        return self.listed(_with("/api/sessions", given), Session)

    def find(self, text: str) -> Session:
        """The newest come first, and ids are in order of creation: those that begin so stand together."""
        prefix = read_prefix(text)
        if len(prefix) == ID_DIGITS:
            return self.decoded("GET", f"/api/sessions/{UUID(prefix)}", Session)
        found: list[Session] = []
        for session in self.listed(_with("/api/sessions", dict(EVERY) | {"order": "created", "limit": PAGE}), Session):
            if session.id.hex[: len(prefix)] < prefix or len(found) > 1:
                break
            found += [session] * session.id.hex.startswith(prefix)
        return only_one(found, text)

    def then(self, session: UUID, *, version: int | None, at: str | None) -> Session:
        return self.decoded("GET", _with(f"/api/sessions/{session}", {"version": version, "at": at}), Session)

    def messages(self, session: UUID, *, version: int | None = None, newest: bool = False) -> Iterator[Message]:
        given = {"version": version, "order": "desc" if newest else None, "limit": None if newest else PAGE}
        return self.listed(_with(f"/api/sessions/{session}/messages", given), Message)

    def events(self, session: UUID, *, after: int = 0) -> Iterator[Event]:
        for raw in self.listed(_with(f"/api/sessions/{session}/events", {"after": after, "limit": PAGE}), msgspec.Raw):
            yield _with_raw(raw, Event, "body")

    def turns(self, session: UUID) -> Iterator[Turn]:
        return self.listed(_with(f"/api/sessions/{session}/turns", {"limit": PAGE}), Turn)

    def turn(self, turn: UUID) -> Turn:
        return self.decoded("GET", f"/api/turns/{turn}", Turn)

    def follow(self, session: UUID | None, after: int | None) -> Iterator[Event]:
        """A connection that breaks is made again, after the last event that came."""
        path, failures = "/api/events" if session is None else f"/api/sessions/{session}/events", 0
        place = after
        while failures <= RETRIES:
            try:
                with self._request("GET", _with(f"{path}/stream", {"after": place})) as response:
                    for frame in read_frames(response):
                        failures, place = 0, frame.number or place
                        if frame.type == "error":
                            raise ServerRefused(_detail(frame.data))
                        yield _with_raw(frame.data, Event, "body")
            except (OSError, http.client.HTTPException):
                pass
            failures += 1
            time.sleep(RETRY_S)
        raise ServerRefused(f"{self.url} keeps breaking off; go on with --after {place or 0}")

    def update(self, session: UUID, **changes: Unpack[SessionChanges]) -> Session:
        return self.decoded("PATCH", f"/api/sessions/{session}", Session, changes)

    def erase(self, session: UUID, reason: str, versions: Sequence[int] | None, *, dry_run: bool) -> Erasure:
        body: dict[str, Any] = {"reason": reason} if versions is None else {"reason": reason, "versions": versions}
        path = _with(f"/api/sessions/{session}/erase", {"dry_run": "true" if dry_run else None})
        return self.decoded("POST", path, Erasure, body)

    def fork(self, session: UUID, version: int | None, fields: NewSession) -> Session:
        body = dict(fields) if version is None else dict(fields) | {"version": version}
        return self.decoded("POST", f"/api/sessions/{session}/fork", Session, body)

    def branches(self, session: UUID, at: str | None) -> Branches:
        return self.decoded("GET", _with(f"/api/sessions/{session}/branches", {"at": at}), Branches)

    def export(self, session: UUID, style: str, file: IO[bytes]) -> None:
        """Write a session's bundle, or its messages for another tool. Raises ServerRefused."""
        try:
            with self._request("GET", _with(f"/api/sessions/{session}/export", {"format": style})) as response:
                shutil.copyfileobj(response, file)
        except (OSError, http.client.HTTPException) as error:
            raise self.unreachable(error) from None

    def text(self, path: str, **given: Any) -> str:
        """An answer that is a text. Raises ServerRefused."""
        try:
            with self._request("GET", _with(path, given)) as response:
                return response.read().decode()
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            raise self.unreachable(error) from None

    def explain(self, turn: UUID, attempt: int | None) -> SentPrompt:
        prompt = self.decoded("GET", _with(f"/api/turns/{turn}/prompt", {"attempt": attempt}), msgspec.Raw)
        return _with_raw(prompt, SentPrompt, "request")

    def transcript(self, session: UUID, form: TranscriptForm, version: int | None) -> Iterator[bytes]:
        path = _with(f"/api/sessions/{session}/transcript", {"format": form, "version": version})
        try:
            with self._request("GET", path) as response:
                while piece := response.read(CHUNK_BYTES):
                    yield piece
        except (OSError, http.client.HTTPException) as error:
            raise self.unreachable(error) from None

    def models(self) -> Sequence[Model]:
        return list(self.listed("/api/models", Model))

    def tools(self) -> Sequence[ToolInfo]:
        return list(self.listed("/api/tools", ToolInfo))


def _with(path: str, given: dict[str, Any]) -> str:
    query = urlencode({name: value for name, value in given.items() if value is not None})
    return f"{path}?{query}" if query else path


def _with_raw(data: msgspec.Raw | bytes, kind: type[T], name: str) -> T:
    """Decode a struct of which one field is any JSON, kept as it is, or null: no decoder takes both. Raises
    ServerRefused.
    """
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        kept, fields[name] = fields[name], msgspec.Raw(b"null")
        value = msgspec.json.decode(msgspec.json.encode(fields), type=kind)
    except (KeyError, msgspec.MsgspecError):
        raise ServerRefused("the server does not answer as this version of Manent does") from None
    return value if bytes(kept) == b"null" else msgspec.structs.replace(value, **{name: kept})


def _detail(data: bytes) -> str:
    said = msgspec.json.decode(data)
    return f"{said.get('detail')} ({said.get('code')})"
