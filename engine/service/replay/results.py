"""The result of doing a recorded turn again: its verdict, and what differs in which layer. Pure values, in the shapes
that API.md fixes.

Verdicts and layers hold no words: they stand in facts. The texts of the first difference are read from the two answers
when they are asked for (``compare``).
"""

from __future__ import annotations

from typing import Any, Literal, get_args
from uuid import UUID

from ...sessions.views import View

Mode = Literal["play", "recorded", "forced", "free"]
Verdict = Literal["same", "different", "skipped", "failed"]
LayerName = Literal["request", "frames", "stop_reason", "tool_calls", "structure", "text", "tokens", "cost", "time"]
LAYERS: tuple[LayerName, ...] = get_args(LayerName)
"""In the order in which they are compared. The last three are measures: they are told, and are no difference."""
MEASURES: frozenset[LayerName] = frozenset({"tokens", "cost", "time"})


class Measure(View, frozen=True):
    """A figure of the recorded answer and of the new one; None: not known. Tokens of the answer, cost in micro-units
    of its currency, or milliseconds.
    """

    recorded: int | None
    now: int | None


class Layers(View, frozen=True):
    """Each layer: True where both say the same, False where they differ, None where it was not compared.

    ``request``: the bytes sent; ``frames``: the frames shown; ``tool_calls``: names, arguments as JSON, and order;
    ``structure``: the kinds of blocks and their order; ``text``: the text that a person reads.
    """

    request: bool | None = None
    frames: bool | None = None
    stop_reason: bool | None = None
    tool_calls: bool | None = None
    structure: bool | None = None
    text: bool | None = None
    tokens: Measure | None = None
    cost: Measure | None = None
    time: Measure | None = None


class FirstDifference(View, frozen=True):
    """Where two answers first differ. ``path`` names the place (``messages[1].content[0].text[17]``); ``recorded``
    and ``now`` show what stands there, None where nothing does or it is erased.
    """

    layer: LayerName
    path: str
    recorded: Any = None
    now: Any = None


class Result(View, frozen=True):
    """A recorded turn, done again. ``reason``: why it was skipped or failed, or what is to be known of it (a window
    chosen anew, noise); ``repeated``: it was asked once more after a restart; ``noise``: the difference is one that the
    recorded model shows against itself; ``diverges``: in the mode free, what follows it answers something else.
    """

    session_id: UUID
    turn_id: UUID
    new_session_id: UUID | None
    new_turn_id: UUID | None
    verdict: Verdict
    first_difference: FirstDifference | None = None
    layers: Layers = Layers()
    reason: str | None = None
    repeated: bool = False
    noise: bool = False
    diverges: bool = False

    @property
    def same(self) -> bool:
        """True if the new answer is the recorded one."""
        return self.verdict == "same"
