"""Suites of a database file: read beside a server, changed where none has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar
from uuid import UUID

from .... import engine
from ....engine import (
    Caller,
    Page,
    Replay,
    Result,
    Settings,
    Suite,
    SuiteItem,
    SuiteNotFound,
    SyncEngine,
    Turn,
)
from ..database import ID_DIGITS, first_above, only_one, open_to_write, read_prefix
from .client import RecordedTurn

T = TypeVar("T")


class FileRecord:
    """See ``client.Record``."""

    def __init__(self, settings: Settings, caller: Caller, *, writes: bool) -> None:
        """Raises StoreUnavailable where there is no such file, and for one that ``writes`` StoreLocked."""
        engine.existing_database(settings)
        self._caller = caller
        self._chat = open_to_write(settings) if writes else SyncEngine(lambda: engine.open_beside(settings))

    def suites(self) -> Iterator[Suite]:
        yield from _all(lambda after: self._chat.suites(after=after, caller=self._caller))

    def suite(self, name: str) -> Suite | None:
        try:
            return self._chat.suite(name, caller=self._caller)
        except SuiteNotFound:
            return None

    def create(self, name: str, items: Sequence[SuiteItem]) -> Suite:
        return self._chat.create_suite(name, items, caller=self._caller)

    def change(self, suite: Suite, items: Sequence[SuiteItem]) -> Suite:
        return self._chat.set_suite(suite.name, items, expected=suite.version, caller=self._caller)

    def turns_of(self, session: str) -> list[RecordedTurn]:
        found = self._session(session)
        return [
            RecordedTurn(turn.id, turn.session_id, turn.ended_at)
            for turn in self._chat.iter_turns(found, caller=self._caller)
        ]

    def turn(self, turn: UUID) -> Turn:
        return self._chat.turn(turn, caller=self._caller)

    def replays(self) -> Iterator[Replay]:
        yield from _all(lambda after: self._chat.replays(after=after, caller=self._caller))

    def replay_state(self, replay: UUID) -> Replay:
        return self._chat.replay_state(replay, caller=self._caller)

    def results(self, replay: UUID) -> Iterator[Result]:
        for each in _all(lambda after: self._chat.replay_results(replay, after=after, caller=self._caller)):
            yield each.result

    def accept(self, replay: UUID, turn: UUID) -> None:
        self._chat.accept_results(replay, [turn], caller=self._caller)

    def close(self) -> None:
        self._chat.close()

    def _session(self, text: str) -> UUID:
        prefix = read_prefix(text)
        if len(prefix) == ID_DIGITS:
            return self._chat.session(prefix, caller=self._caller).id
        newest = self._chat.sessions(order="created", after=first_above(prefix), limit=2, caller=self._caller)
        return only_one(newest.items, text).id


def _all(turn_page: Callable[[str | None], Page[T]]) -> Iterator[T]:
    """The items of a list, page by page."""
    page = turn_page(None)
    yield from page.items
    while page.next is not None:
        page = turn_page(page.next)
        yield from page.items
