"""What ``manent replay`` is asked for: which turns, how, and where the results go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from ....engine import Invalid, ReplayOptions, ReplayQuery, ReplayWhere

Mode = Literal["play", "recorded", "forced", "free"]
CONDITIONS = ("model", "status", "since", "until", "title_contains")
LIVE = "live:"


class Wanted(msgspec.Struct, frozen=True):
    """``sessions`` as they were given: ids, or beginnings of ids. ``resume``: the id of a replay to go on with."""

    sessions: tuple[str, ...] = ()
    suite: str | None = None
    where: tuple[str, ...] = ()
    mode: Mode = "recorded"
    model: str | None = None
    repeat: int = 0
    tools: str = "recorded"
    jobs: int | None = None
    max_turns: int | None = None
    max_cost_micros: int | None = None
    resume: str | None = None

    def check(self) -> None:
        """Raises Invalid for what does not say which turns, or says it twice, and for what cannot be read."""
        ways = [bool(self.sessions), self.suite is not None, bool(self.where), self.resume is not None]
        if sum(ways) != 1:
            raise Invalid("session", "give sessions, or one of --suite, --where and --resume")
        read_where(self.where)
        read_tools(self.tools)

    def query(self, sessions: Sequence[Any]) -> ReplayQuery:
        """The turns to do again; ``sessions``: the ids of those that were given."""
        return ReplayQuery(tuple(sessions), suite=self.suite, where=read_where(self.where))

    def options(self) -> ReplayOptions:
        """The options of the replay."""
        assert self.mode != "play", "nothing is asked there"
        return {
            "mode": self.mode,
            "model": self.model,
            "repeat": self.repeat,
            "tools": read_tools(self.tools),
            "jobs": self.jobs,
            "max_turns": self.max_turns,
            "max_cost_micros": self.max_cost_micros,
        }


STANDARD_OUTPUT = Path("-")


class Places(msgspec.Struct, frozen=True):
    """The files that the results are written to, and the one that they are held against."""

    report: Path | None = None
    junit: Path | None = None
    json: Path | None = None
    baseline: Path | None = None

    @property
    def outputs(self) -> list[Path]:
        """Those that are written."""
        return [place for place in (self.report, self.junit, self.json) if place is not None]

    @property
    def on_output(self) -> bool:
        """True if results go to standard output, and what is told meanwhile to standard error."""
        return STANDARD_OUTPUT in self.outputs

    def check(self) -> None:
        """Raises Invalid for a file that cannot be written, before anything is done."""
        if self.outputs.count(STANDARD_OUTPUT) > 1:
            raise Invalid("-", "only one of the results can go to standard output")
        for place in self.outputs:
            if place != STANDARD_OUTPUT and (place.is_dir() or not place.parent.is_dir()):
                raise Invalid(str(place), "cannot be written: it is a folder, or there is no such folder")


def read_where(given: Sequence[str]) -> ReplayWhere | None:
    """Conditions like ``status=active``. Raises Invalid for a name that there is not, or that comes twice."""
    values: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if name not in CONDITIONS or not equals or not value or name in values:
            raise Invalid("where", f"must be NAME=VALUE, each name once; there is {', '.join(CONDITIONS)}")
        values[name] = value
    return ReplayWhere(**values) if values else None


def read_tools(given: str) -> Any:
    """``recorded``, ``refuse``, or ``live:NAME,NAME``. Raises Invalid."""
    if given in {"recorded", "refuse"}:
        return given
    names = [name.strip() for name in given.removeprefix(LIVE).split(",")]
    if not given.startswith(LIVE) or not all(names):
        raise Invalid("tools", "must be recorded, refuse, or live:NAME,NAME")
    return {"live": names}
