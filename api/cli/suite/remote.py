"""Suites on a server, over its API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar
from urllib.parse import quote
from uuid import UUID

import msgspec

from ....engine import Invalid, Replay, Result, Suite, SuiteItem, Turn
from ..chat.remote import ServerRefused
from ..database import ID_DIGITS, read_prefix
from ..replay.remote import RemoteReplays
from .client import RecordedTurn

T = TypeVar("T")


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]
    next_cursor: str | None


class _Results(msgspec.Struct):
    results: list[Result]
    next_cursor: str | None


class ServerRecord(RemoteReplays):
    """See ``client.Record``."""

    def suites(self) -> Iterator[Suite]:
        yield from self._listed("/api/suites", Suite)

    def suite(self, name: str) -> Suite | None:
        try:
            return self._decoded("GET", _place(name), Suite)
        except ServerRefused as refused:
            if refused.extra.get("problem") == "suite_not_found":
                return None
            raise

    def create(self, name: str, items: Sequence[SuiteItem]) -> Suite:
        return self._decoded("POST", "/api/suites", Suite, {"name": name, "items": items})

    def change(self, suite: Suite, items: Sequence[SuiteItem]) -> Suite:
        expected = {"if-match": f'"{suite.version}"'}
        return self._decoded("PUT", _place(suite.name), Suite, {"items": items}, expected)

    def turns(self, session: str) -> list[RecordedTurn]:
        digits = read_prefix(session)
        if len(digits) != ID_DIGITS:
            raise Invalid("session", "over the API, the whole id is needed")
        return list(self._listed(f"/api/sessions/{UUID(digits)}/turns", RecordedTurn))

    def turn(self, turn: UUID) -> Turn:
        return self._decoded("GET", f"/api/turns/{turn}", Turn)

    def replays(self) -> Iterator[Replay]:
        yield from self._listed("/api/replays", Replay)

    def replay_state(self, replay: UUID) -> Replay:
        return self._decoded("GET", f"/api/replays/{replay}?limit=1", Replay)

    def results(self, replay: UUID) -> Iterator[Result]:
        cursor: str | None = ""
        while cursor is not None:
            page = self._decoded("GET", f"/api/replays/{replay}{_query(cursor)}", _Results)
            yield from page.results
            cursor = page.next_cursor

    def accept(self, replay: UUID, turn: UUID) -> None:
        self._decoded("POST", f"/api/replays/{replay}/accept", msgspec.Raw, {"results": [turn]})

    def _listed(self, path: str, kind: type[T]) -> Iterator[T]:
        cursor: str | None = ""
        while cursor is not None:
            page = self._decoded("GET", f"{path}{_query(cursor)}", _Page)
            for item in page.items:
                yield msgspec.json.decode(item, type=kind)
            cursor = page.next_cursor


def _place(name: str) -> str:
    return f"/api/suites/{quote(name, safe='')}"


def _query(cursor: str) -> str:
    return f"?cursor={cursor}" if cursor else ""
