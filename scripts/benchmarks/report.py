"""What the benches measure, as figures beside their targets, and the table in which they are printed."""

from __future__ import annotations

import math
import os
import platform
import sqlite3
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped] # it ships no types

NO_FIGURE = "-"


@dataclass(frozen=True)
class Spread:
    """One thing measured several times. The median is the figure; the quartiles are the machine's noise."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Figure:
    """One line of the table. ``at_most`` or ``at_least`` is what the specification asks; without, the figure is there
    to explain another.
    """

    what: str
    value: Spread | None
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f">= {_number(self.at_least)}"
        return f"<= {_number(self.at_most)}" if self.at_most is not None else ""

    @property
    def verdict(self) -> str:
        """Whether the median keeps to the target."""
        if not self.target or self.value is None:
            return ""
        short = self.at_least is not None and self.value.median < self.at_least
        long = self.at_most is not None and self.value.median > self.at_most
        return "OVER" if short or long else "ok"


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles; of fewer than four values the extremes."""
    if len(values) < 4:
        return Spread(statistics.median(values), min(values), max(values))
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratios(over: Sequence[float], under: Sequence[float]) -> Spread:
    """Ratios round by round: what slows a whole round down, slows both."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def table(title: str, figures: Sequence[Figure]) -> str:
    """The figures of one part, aligned."""
    rows = [("", "figure", "target", "", "quartiles", "")]
    rows += [
        (
            figure.what,
            _with_unit(figure.value.median, figure.unit) if figure.value else NO_FIGURE,
            figure.target,
            figure.verdict,
            f"{_number(figure.value.low)} .. {_number(figure.value.high)}" if figure.value else "",
            figure.note,
        )
        for figure in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join([f"== {title}", *lines])


def machine(folder: Path) -> str:
    """Where this was measured: figures of two machines, or of a busy one, do not compare."""
    cpus, load = os.cpu_count() or 1, os.getloadavg()[0]
    busy = " (BUSY: expect noise)" if load > cpus / 2 else ""
    return (
        f"{platform.system()} {platform.machine()}, {cpus} CPUs, load {load:.1f}{busy}; "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}; {_file_system(folder)} at {folder}"
    )


def _file_system(folder: Path) -> str:
    """Of the database files. On one in memory a sync costs nothing, and the figures mean little."""
    found = [mount for mount in psutil.disk_partitions(all=True) if folder.is_relative_to(mount.mountpoint)]
    kind = max(found, key=lambda mount: len(mount.mountpoint)).fstype if found else "unknown file system"
    return f"{kind} (IN MEMORY: give --folder on a disk)" if kind in {"tmpfs", "ramfs"} else str(kind)


def _with_unit(value: float, unit: str) -> str:
    return f"{_number(value)} {unit}".rstrip()


def _number(value: float) -> str:
    """Three digits are more than the noise leaves."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 3)}f}"
