"""The noise floor: the differences that the recorded model shows against itself. Pure.

A model that is asked twice rarely says the same twice. Before another model is judged, the recorded one answers the
same turn again, a few times (the *repeats*), and each repeat is compared with the record. For each layer the floor
counts how many of the repeats differ there.

A difference of the new model is *noise* if every layer in which it differs is one in which at least one repeat differed
too. If it differs in one layer more, it is a finding, whatever the other layers do. Repeats are few, so a count is
evidence that a layer can differ, and not a rate to be compared with another rate. Three things follow:

* Floors belong to one turn. Some turns have one answer and others have many, so the repeats of one say nothing of
  another. ``together`` adds floors up for a summary, and decides nothing.
* Requests and frames are made by our code, which leaves nothing to chance: they are never noise. The measures (tokens,
  cost, time) are no differences at all.
* Repeats that were skipped count nowhere, and those that failed are counted apart. Without a repeat that could be
  compared there is no floor, and every difference is a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ...sessions.views import View
from .compare import Comparison
from .results import LAYERS, MEASURES, LayerName, Layers

NOISY: Final[tuple[LayerName, ...]] = ("stop_reason", "tool_calls", "structure", "text")
"""The layers that a model decides."""


class NoiseFloor(View, frozen=True):
    """How many of the compared ``repeats`` differ in each layer. ``failed``: repeats that gave no answer."""

    repeats: int = 0
    failed: int = 0
    stop_reason: int = 0
    tool_calls: int = 0
    structure: int = 0
    text: int = 0

    def count(self, layer: LayerName) -> int:
        """How many repeats differ in a layer; none in one that is never noise."""
        return int(getattr(self, layer)) if layer in NOISY else 0


def noise_floor(repeats: Sequence[Comparison]) -> NoiseFloor:
    """The floor of one turn, from its repeats by the recorded model, each compared with the record."""
    compared = [each.layers for each in repeats if each.verdict in {"same", "different"} and each.reason is None]
    return NoiseFloor(
        repeats=len(compared),
        failed=sum(each.verdict == "failed" for each in repeats),
        **{layer: sum(getattr(layers, layer) is False for layers in compared) for layer in NOISY},
    )


def together(floors: Iterable[NoiseFloor]) -> NoiseFloor:
    """The sum of the floors of several turns, for a summary."""
    names = NoiseFloor.__struct_fields__
    sums = dict.fromkeys(names, 0)
    for floor in floors:
        for name in names:
            sums[name] += getattr(floor, name)
    return NoiseFloor(**sums)


def differing(layers: Layers) -> tuple[LayerName, ...]:
    """The layers that differ, in their order."""
    return tuple([layer for layer in LAYERS if layer not in MEASURES and getattr(layers, layer) is False])


def findings(comparison: Comparison, floor: NoiseFloor) -> tuple[LayerName, ...]:
    """The layers that differ, and in which no repeat did."""
    return tuple([layer for layer in differing(comparison.layers) if not floor.count(layer)])


def is_noise(comparison: Comparison, floor: NoiseFloor) -> bool:
    """True for a difference that the recorded model shows against itself."""
    return comparison.verdict == "different" and not findings(comparison, floor)
