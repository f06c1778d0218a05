"""Suites on a server, over its API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote
from uuid import UUID

import msgspec

from ....engine import Replay, Result, Suite, SuiteItem
from ..chat.remote import ServerRefused
from ..replay.remote import RemoteReplays
from .client import RecordedTurn


class _Results(msgspec.Struct):
    results: list[Result]
    next_cursor: str | None


class ServerRecord(RemoteReplays):
    """See ``client.Record``."""

    def suites(self) -> Iterator[Suite]:
        yield from self.listed("/api/suites", Suite)

    def suite(self, name: str) -> Suite | None:
        try:
            return self.decoded("GET", _place(name), Suite)
        except ServerRefused as refused:
            if refused.extra.get("problem") == "suite_not_found":
                return None
            raise

    def create(self, name: str, items: Sequence[SuiteItem]) -> Suite:
        return self.decoded("POST", "/api/suites", Suite, {"name": name, "items": items})

    def change(self, suite: Suite, items: Sequence[SuiteItem]) -> Suite:
        expected = {"if-match": f'"{suite.version}"'}
        return self.decoded("PUT", _place(suite.name), Suite, {"items": items}, expected)

    def turns_of(self, session: str) -> list[RecordedTurn]:
        return list(self.listed(f"/api/sessions/{self.find(session).id}/turns", RecordedTurn))

    def replays(self) -> Iterator[Replay]:
        yield from self.listed("/api/replays", Replay)

    def replay_state(self, replay: UUID) -> Replay:
        return self.decoded("GET", f"/api/replays/{replay}?limit=1", Replay)

    def results(self, replay: UUID) -> Iterator[Result]:
        cursor: str | None = ""
        while cursor is not None:
            page = self.decoded("GET", f"/api/replays/{replay}{_query(cursor)}", _Results)
            yield from page.results
            cursor = page.next_cursor

    def accept(self, replay: UUID, turn: UUID) -> None:
        self.decoded("POST", f"/api/replays/{replay}/accept", msgspec.Raw, {"results": [turn]})


def _place(name: str) -> str:
    return f"/api/suites/{quote(name, safe='')}"


def _query(cursor: str) -> str:
    return f"?cursor={cursor}" if cursor else ""
