"""The plugin of pytest: recorded turns as tests, and an engine for tests.

    @pytest.mark.manent_replay("smoke")
    def test_recorded_turns():
        ...

is a test for each turn of the suite ``smoke``, which is read from the database of ``--manent-database`` or
``MANENT_DATABASE``. The turn is done again in the mode *recorded*, with the log as the model: no network, no key, and
nothing is written; a server may have the file. If it is not as it was recorded the test fails before its body runs; the
body gets the result as the fixture ``manent_result``, if it asks for it. A turn that cannot be done again, because its
words are erased for example, is skipped.

The fixture ``manent_engine`` is an engine (``manent.engine.SyncEngine``) on a temporary file, whose default model plays
the script of the fixture ``manent_script``: override that. ``manent_settings`` are its settings, for
``engine.open(manent_settings)`` in asynchronous tests.

pytest loads this in every run of whoever has the package installed, so it imports nothing until it is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

import pytest

MARK = "manent_replay"
RESULT = "manent_result"
DATABASE = "MANENT_DATABASE"
USE = '@pytest.mark.manent_replay("NAME") takes the name of a suite'

_RECORDS = pytest.StashKey[Any]()
_PROBLEM = pytest.StashKey[str]()


class RecordedTurn(NamedTuple):
    """A turn that is a test: its suite, and its id."""

    suite: str
    turn: str


_WRONG_USE = RecordedTurn("", "")
"""In the place of turns that could not be read."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("manent", "suites of recorded turns")
    group.addoption("--manent-database", metavar="FILE", help=f"read suites from this database  [{DATABASE}]")
    group.addoption("--manent-tenant", metavar="NAME", default="default", help="whose suites  [default]")


def pytest_configure(config: pytest.Config) -> None:
    line = f"{MARK}(name): a test for each turn of this suite, which must be as it was recorded"
    config.addinivalue_line("markers", line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each turn of the suites that are named. What is wrong is told when all is collected, as wrong use."""
    marks = list(metafunc.definition.iter_markers(MARK))
    if not marks:
        return
    if RESULT not in metafunc.fixturenames:
        metafunc.fixturenames.append(RESULT)
    try:
        turns = _turns_of(metafunc.config, marks)
    except pytest.UsageError as error:
        metafunc.config.stash[_PROBLEM] = str(error)
        metafunc.parametrize(RESULT, [_WRONG_USE], ids=["wrong-use"], indirect=True)
        return
    several = len(marks) > 1
    ids = [f"{each.suite}-{each.turn}" if several else each.turn for each in turns]
    metafunc.parametrize(RESULT, turns, ids=ids, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config) -> None:
    """Raises UsageError for what kept tests from being made. In a worker of pytest-xdist, which would die of it, the
    test fails with the same words.
    """
    problem = config.stash.get(_PROBLEM, None)
    if problem is not None and not hasattr(config, "workerinput"):
        raise pytest.UsageError(problem)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Fail or skip a turn's test where the turn is not as it was; else its body runs."""
    turn = _turn_of(pyfuncitem)
    if turn is None:
        return
    if turn == _WRONG_USE:
        pytest.fail(pyfuncitem.config.stash[_PROBLEM], pytrace=False)
    records = _records(pyfuncitem.config)
    result = _result(pyfuncitem, turn)
    if result.verdict == "skipped":
        pytest.skip(result.reason or "it cannot be done again")
    if not result.same:
        pytest.fail(records.told(turn.suite, result), pytrace=False)


@pytest.fixture
def manent_result(request: pytest.FixtureRequest) -> Any:
    """The result of the turn that this test is of: a ``manent.engine.Result``."""
    turn = _turn_of(request.node)
    if turn is None or turn == _WRONG_USE:
        pytest.fail(f"{RESULT} goes with {USE}", pytrace=False)
    return _result(request.node, turn)


@pytest.fixture
def manent_script() -> dict[str, Any]:
    """The script of the model that ``manent_engine`` asks, in the form of ``MANENT_SCRIPT``; its first model is the
    default one.
    """
    return {"models": {"scripted": [{"steps": [{"text": "A scripted answer."}]}]}}


@pytest.fixture
def manent_settings(tmp_path: Any, manent_script: dict[str, Any]) -> Any:
    """The settings of ``manent_engine``: a temporary file, and the scripted model."""
    return _workings().scripted_settings(tmp_path, manent_script)


@pytest.fixture
def manent_engine(manent_settings: Any) -> Iterator[Any]:
    """An engine on a temporary file with a scripted model: a ``manent.engine.SyncEngine``, closed after the test."""
    with _workings().open_engine(manent_settings) as chat:
        yield chat


def _workings() -> Any:
    """Imported only where it is used: the engine takes half a second to import, and others run their tests, too."""
    return import_module(".recorded", __package__)


def _records(config: pytest.Config) -> Any:
    """The database that suites are read from. Raises UsageError where none is named."""
    if _RECORDS not in config.stash:
        database = config.getoption("--manent-database") or os.environ.get(DATABASE)
        if not database:
            raise pytest.UsageError(f"manent: name the database of the suites: --manent-database FILE, or {DATABASE}")
        config.stash[_RECORDS] = _workings().Records(database, config.getoption("--manent-tenant"))
    return config.stash[_RECORDS]


def _result(item: Any, turn: RecordedTurn) -> Any:
    """The result of a turn; all that are collected are done again together, when the first is asked for."""
    wanted = [each.turn for each in map(_turn_of, item.session.items) if each is not None]
    return _records(item.config).result(turn.turn, wanted)


def _turn_of(item: Any) -> RecordedTurn | None:
    callspec = getattr(item, "callspec", None)
    found = None if callspec is None else callspec.params.get(RESULT)
    return found if isinstance(found, RecordedTurn) else None


def _turns_of(config: pytest.Config, marks: list[pytest.Mark]) -> list[RecordedTurn]:
    """The turns of the suites that are named. Raises UsageError where there is no such suite."""
    turns: dict[RecordedTurn, None] = {}
    for mark in reversed(marks):
        name = _name_in(mark)
        turns |= dict.fromkeys(RecordedTurn(name, turn) for turn in _records(config).turns(name))
    return list(turns)


def _name_in(mark: pytest.Mark) -> str:
    """Raises UsageError for a mark without a name."""
    if len(mark.args) != 1 or mark.kwargs or not isinstance(mark.args[0], str):
        raise pytest.UsageError(f"manent: {USE}")
    return mark.args[0]
