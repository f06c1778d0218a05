"""The workings of the plugin: suites read from a database, their turns done again, and an engine for tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from ... import engine
from ...engine import Caller, EngineError, ReplayQuery, Result, Settings, SuiteNotFound, SyncEngine
from ..cli.replay.done import lines_of
from ..cli.terminal import one_line

T = TypeVar("T")
MAX_LINES = 12
MAX_LINE_CHARS = 200


class Records:
    """A database, read as long as it takes and no longer: a server may have it, and it may be read-only."""

    def __init__(self, database: str, tenant: str) -> None:
        self._database = database
        self._caller = Caller(tenant)
        self._turns: dict[str, list[str]] = {}
        self._results: dict[str, Result] = {}

    def turns(self, suite: str) -> list[str]:
        """The ids of a suite's turns. Raises UsageError where there is no such suite, or no database to be read."""
        if suite not in self._turns:
            self._turns[suite] = self._read(lambda chat: self._turns_of(chat, suite))
        return self._turns[suite]

    def result(self, turn: str, wanted: Sequence[str]) -> Result:
        """The result of a turn. Where it is not known yet, all that are ``wanted`` are done again."""
        if turn not in self._results:
            turns = list(dict.fromkeys([*wanted, turn]))
            self._results |= self._read(lambda chat: self._again(chat, turns))
        return self._results[turn]

    def told(self, suite: str, result: Result) -> str:
        """What is wrong with a turn, in a few lines."""
        said = "is not as it was recorded" if result.verdict == "different" else "could not be done again"
        lines = [
            f"turn {result.turn_id} {said}",
            f"suite {suite}, session {result.session_id}",
            *lines_of(result),
        ]
        return "\n".join(_short(line) for line in lines[:MAX_LINES])

    def _turns_of(self, chat: SyncEngine, suite: str) -> list[str]:
        try:
            return [str(item.turn_id) for item in chat.suite(suite, caller=self._caller).items]
        except SuiteNotFound as missing:
            names = ", ".join(each.name for each in chat.suites(caller=self._caller).items)
            raise SuiteNotFound(f"{missing.detail}; there is {names or 'none'}") from None

    def _again(self, chat: SyncEngine, turns: list[str]) -> dict[str, Result]:
        found = chat.replay(ReplayQuery(turns=turns), mode="recorded", max_turns=len(turns), caller=self._caller)
        return {str(result.turn_id): result for result in found}

    def _read(self, work: Callable[[SyncEngine], T]) -> T:
        """Do some work on the open database. Raises UsageError, which names the file."""
        try:
            engine.check_tenant(self._caller.tenant)
            settings = engine.from_mapping(os.environ, database=self._database)
            engine.existing_database(settings)
            with closing(SyncEngine(lambda: engine.open_beside(settings))) as chat:
                return work(chat)
        except EngineError as error:
            raise pytest.UsageError(f"manent: {self._database}: {error.detail}") from None


def scripted_settings(folder: Path, script: dict[str, Any]) -> Settings:
    """Settings of an engine on a file in a folder, whose default model plays a script. Raises UsageError for one
    without models.
    """
    models = script.get("models")
    if not isinstance(models, dict) or not models:
        raise pytest.UsageError('manent: manent_script must be like {"models": {"NAME": [answers]}}')
    file = folder / "manent-script.json"
    file.write_bytes(msgspec.json.encode(script))
    model = f"scripted/{next(iter(models))}"
    return Settings(database=str(folder / "manent.db"), script=str(file), model=model)


def open_engine(settings: Settings) -> SyncEngine:
    """Raises Invalid for a script that is none."""
    return engine.open_sync(settings)


def _short(line: str) -> str:
    text = one_line(line)
    return text if len(text) <= MAX_LINE_CHARS else f"{text[:MAX_LINE_CHARS]}…"
