"""The outline of a comparison: what of it may stand in facts, without a word of any answer, and the way back. Pure.

Facts are never erased, so they hold figures and names of our own only. A path keeps its way to the message, the block
and the character, or to the call; it ends before the arguments, whose member names are a model's words. The texts at
the first difference are read from the two turns again, as far as they are still there.
"""

from __future__ import annotations

import re

from ...sessions.turn_views import Turn
from ...sessions.views import View
from .compare import Comparison, Reason, difference_in
from .results import FirstDifference, LayerName, Layers, Verdict

_WORD_FREE = re.compile(
    r"stop_reason|frames"
    r"|request(\.(messages|input)\[\d+\])?"
    r"|messages\[\d+\](\.content\[\d+\](\.source|\.text\[\d+\])?|\.tool_calls\[\d+\](\.name|\.input)?)?",
    re.ASCII,
)


class Outline(View, frozen=True):
    """A comparison without words. ``layer`` and ``path``: the first difference; both None if there is none."""

    verdict: Verdict
    layers: Layers
    layer: LayerName | None = None
    path: str | None = None
    reason: Reason | None = None


def outline(comparison: Comparison) -> Outline:
    """The part of a comparison that holds no words."""
    first = comparison.first_difference
    layer, path = (None, None) if first is None else (first.layer, word_free(first.path))
    return Outline(comparison.verdict, comparison.layers, layer, path, comparison.reason)


def word_free(path: str) -> str:
    """A path as far as it holds no words; empty if it is none of ours."""
    match = _WORD_FREE.match(path)
    return "" if match is None else match[0]


def comparison_of(outlined: Outline, recorded: Turn | None = None, now: Turn | None = None) -> Comparison:
    """The comparison that was outlined. Its first difference is read from the two turns; where they are not given, or
    their words are gone, it is the outlined place alone.
    """
    first = _first(outlined, recorded, now)
    return Comparison(outlined.verdict, first, outlined.layers, outlined.reason)


def _first(outlined: Outline, recorded: Turn | None, now: Turn | None) -> FirstDifference | None:
    if outlined.layer is None:
        return None
    place = FirstDifference(outlined.layer, outlined.path or "")
    if recorded is None or now is None:
        return place
    return difference_in(outlined.layer, recorded, now) or place
