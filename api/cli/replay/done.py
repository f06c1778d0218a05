"""The results of a replay, shown and written: lines in a terminal, JSON, JUnit's XML, and what a baseline knows."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import msgspec

from ....engine import FirstDifference, Invalid, Replay, Result
from ..junit import Case, junit
from ..terminal import one_line
from .wanted import STANDARD_OUTPUT

MAX_SHOWN_CHARS = 160
MARKS = {"same": ("same", "green"), "different": ("DIFFERENT", "red"), "skipped": ("skipped", "yellow")}
FAILED = ("FAILED", "red")


class Done(msgspec.Struct, frozen=True):
    """A replay that has ended. ``replay`` None: it is not on record."""

    results: list[Result]
    replay: Replay | None = None
    report: str | None = None

    @property
    def whole(self) -> bool:
        """True if it has done all of its turns."""
        return self.replay is None or self.replay.status == "completed"


class _KnownPlace(msgspec.Struct, frozen=True):
    layer: str
    path: str


class _Known(msgspec.Struct, frozen=True):
    turn_id: UUID
    verdict: str
    first_difference: _KnownPlace | None = None


class _Baseline(msgspec.Struct, frozen=True):
    results: list[_Known]


Baseline = dict[UUID, _Known]


def read_baseline(place: Path | None) -> Baseline:
    """The results that an earlier replay has written with ``--json``. Raises Invalid."""
    if place is None:
        return {}
    try:
        found = msgspec.json.decode(place.read_bytes(), type=_Baseline)
    except OSError as error:
        raise Invalid(str(place), f"cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise Invalid(str(place), f"is not what --json writes: {error}") from None
    return {each.turn_id: each for each in found.results}


def is_finding(result: Result, baseline: Baseline) -> bool:
    """True for a result that is not as recorded: no noise, and not known from the baseline in the same place."""
    if result.verdict in {"same", "skipped"} or result.noise:
        return False
    known, first = baseline.get(result.turn_id), result.first_difference
    if known is None or known.verdict != result.verdict:
        return True
    place = None if first is None else _KnownPlace(first.layer, first.path)
    return known.first_difference != place


def show(result: Result, *, finding: bool, err: bool = False) -> None:
    """One line for a result, and two for its first difference; nothing for one that is as it was. ``err``: to standard
    error.
    """
    if result.verdict == "same":
        return
    mark, colour = MARKS.get(result.verdict, FAILED)
    known = "" if finding or result.verdict == "skipped" else " (noise)" if result.noise else " (in the baseline)"
    click.secho(f"{mark}{known}  turn {result.turn_id} of session {result.session_id}", fg=colour, err=err)
    for line in lines_of(result):
        click.echo(f"    {line}", err=err)


def sum_up(done: Done, findings: int, *, err: bool = False) -> None:
    """The last line."""
    counts = Counter(each.verdict for each in done.results)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("same", "different", "skipped", "failed"))
    click.secho(f"{len(done.results)} turns: {said}; {findings} findings", bold=True, err=err)
    if done.replay is not None and not done.whole:
        why = f": {done.replay.error}" if done.replay.error else ""
        click.secho(f"the replay {done.replay.status}{why}", fg="red", err=err)


def as_json(done: Done) -> bytes:
    """The replay in the shape of ``GET /api/replays/{id}``."""
    said: dict[str, Any] = {} if done.replay is None else msgspec.to_builtins(done.replay)
    return msgspec.json.encode(said | {"results": done.results, "next_cursor": None}) + b"\n"


def as_junit(done: Done, baseline: Baseline) -> bytes:
    """JUnit's XML: a test case for each turn, a suite for each session."""
    return junit(_case(each, baseline) for each in sorted(done.results, key=lambda each: each.session_id))


def write(place: Path, data: bytes) -> None:
    """Write results; ``-`` is standard output. Raises Invalid for a place that cannot be written."""
    try:
        if place == STANDARD_OUTPUT:
            sys.stdout.buffer.write(data)
        else:
            place.write_bytes(data)
    except OSError as error:
        raise Invalid(str(place), f"cannot be written: {error.strerror}") from None


def _case(result: Result, baseline: Baseline) -> Case:
    said = "\n".join(lines_of(result)) or result.verdict
    finding, failed = is_finding(result, baseline), result.verdict == "failed"
    took = result.layers.time
    return Case(
        str(result.session_id),
        str(result.turn_id),
        0.0 if took is None or took.now is None else took.now / 1000,
        failure=said if finding and not failed else None,
        error=said if finding and failed else None,
        skipped=said if result.verdict == "skipped" else None,
    )


def lines_of(result: Result, *, values: bool = True) -> Iterator[str]:
    """What is to be known of a result beside its verdict: the reason, and the first difference, with what stands there
    in both.
    """
    if result.reason is not None:
        yield result.reason
    if result.repeated:
        yield "it was asked once more after a restart"
    if result.first_difference is not None:
        yield f"{result.first_difference.layer} differs at {one_line(result.first_difference.path)}"
        if values:
            yield from _values(result.first_difference)


def _values(first: FirstDifference) -> Iterator[str]:
    for sign, value in (("-", first.recorded), ("+", first.now)):
        if value is not None:
            yield f"{sign} {_short(value)}"


def _short(value: Any) -> str:
    text = one_line(value if isinstance(value, str) else msgspec.json.encode(value).decode())
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"
