"""Meters: counters and histograms, and the text in which Prometheus reads them (exposition format 0.0.4).

They belong to one event loop and need no locks: to count is to add to a number. A client library would add a registry
for the whole process and a lock for each count, to save these few lines.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4"
"""Without the charset, UTF-8, which the response adds."""

Kind = Literal["counter", "gauge", "histogram"]
Number = int | float

_VALUE_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Counter:
    """A number for each combination of its labels' values, which only grows. Who counts keeps the values few."""

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = labels
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, *values: str, by: int = 1) -> None:
        """Count; the values are those of the labels, in their order."""
        assert len(values) == len(self._labels), (self._name, values)
        self._counts[values] = self._counts.get(values, 0) + by

    def lines(self) -> Iterator[str]:
        counts = sorted(self._counts.items())
        samples = ((dict(zip(self._labels, values, strict=True)), count) for values, count in counts)
        return family(self._name, "counter", self._meaning, samples)


class Histogram:
    """How many values were at most as large as each of the bounds, and the sum of all."""

    def __init__(self, name: str, meaning: str, bounds: tuple[float, ...]) -> None:
        assert list(bounds) == sorted(set(bounds)), bounds
        self._name = name
        self._meaning = meaning
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self) -> Iterator[str]:
        yield from _head(self._name, "histogram", self._meaning)
        total = 0
        for bound, total in zip([*map(_figure, self._bounds), "+Inf"], accumulate(self._counts), strict=True):
            yield f'{self._name}_bucket{{le="{bound}"}} {total}'
        yield f"{self._name}_sum {_figure(self._sum)}"
        yield f"{self._name}_count {total}"


def gauge(name: str, meaning: str, value: Number) -> Iterator[str]:
    """A number that goes up and down."""
    return family(name, "gauge", meaning, [({}, value)])


def family(name: str, kind: Kind, meaning: str, samples: Iterable[tuple[Mapping[str, str], Number]]) -> Iterator[str]:
    """A metric's lines: what it means, and its samples, each with its labels."""
    yield from _head(name, kind, meaning)
    for labels, value in samples:
        inner = ",".join(f'{label}="{text.translate(_VALUE_ESCAPES)}"' for label, text in labels.items())
        yield f"{name}{{{inner}}} {_figure(value)}" if inner else f"{name} {_figure(value)}"


def _head(name: str, kind: Kind, meaning: str) -> Iterator[str]:
    yield f"# HELP {name} {meaning.translate(_HELP_ESCAPES)}"
    yield f"# TYPE {name} {kind}"


def _figure(value: Number) -> str:
    return str(value) if isinstance(value, int) else repr(value)
