"""Comparing a recorded answer with a new one: layer by layer, and the exact place of the first difference. Pure.

Compared are the assistant's messages, the first with the first, the second with the second. What tools gave back is not
the model's. The layers, in their order:

* ``request`` and ``frames`` are compared by the caller, who has the bytes; here they are only told.
* ``stop_reason``: that of the turn.
* ``tool_calls``: names, arguments as JSON in the sense of RFC 8785, and order. A vendor's call id is no difference.
* ``structure``: the kinds of blocks and their order. Thinking and vendors' own blocks count here and nowhere else, so
  their words may differ; an image must be the same image.
* ``text``: the text that a person reads. How it is cut into blocks is structure.
* ``tokens`` (of the answer), ``cost`` (micro-units, if both turns cost the same one currency) and ``time``
  (milliseconds) are told and are no difference.

The verdict is ``different`` if any layer is. A turn is ``skipped`` if there is nothing to compare with: the recorded
one did not complete or has no answer, or words of either answer are erased or damaged. It is ``failed`` if the new turn
did not complete. A request or frames that differ outweigh a skip: they are found without any words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from typing import Any, Final, Literal

import msgspec

from ...events.blocks import ImageBlock, TextBlock, ToolUseBlock
from ...sessions.turn_views import Turn
from ...sessions.views import View
from .answers import Answer, answers_of, arguments_of, kind_of, pairs, what_is_gone
from .json_difference import common_prefix, excerpts, json_difference, path_of, shown_pair
from .results import FirstDifference, LayerName, Layers, Measure, Verdict

Reason = Literal[
    "recorded_open",
    "recorded_not_completed",
    "recorded_no_answer",
    "recorded_erased",
    "recorded_damaged",
    "new_open",
    "new_failed",
    "new_cancelled",
    "new_interrupted",
    "new_erased",
    "new_damaged",
]

REASONS: Final[Mapping[Reason, str]] = {
    "recorded_open": "the recorded turn has not ended",
    "recorded_not_completed": "the recorded turn did not complete",
    "recorded_no_answer": "the recorded turn has no answer",
    "recorded_erased": "words of the recorded answer are erased",
    "recorded_damaged": "the recorded answer is damaged",
    "new_open": "the new turn has not ended",
    "new_failed": "the new turn failed",
    "new_cancelled": "the new turn was cancelled",
    "new_interrupted": "the new turn was interrupted",
    "new_erased": "words of the new answer are erased",
    "new_damaged": "the new answer is damaged",
}
"""What each reason says to a person."""

OPEN: Final = frozenset({"running", "requires_action"})


class Comparison(View, frozen=True):
    """A recorded answer and a new one, compared. ``reason``: why it was skipped or failed."""

    verdict: Verdict
    first_difference: FirstDifference | None
    layers: Layers
    reason: Reason | None = None

    @property
    def why(self) -> str | None:
        """The reason in words."""
        return None if self.reason is None else REASONS[self.reason]


def compare(recorded: Turn, now: Turn, *, request: bool | None = None, frames: bool | None = None) -> Comparison:
    """Compare a recorded turn with the one done again. ``request`` and ``frames``: True if they are the recorded ones
    to the byte, None if they were not compared.
    """
    layers = Layers(request=request, frames=frames)
    first = _first_of_the_bytes(request=request, frames=frames)
    skipped = _why_skipped(recorded, now)
    if skipped is not None:
        return Comparison("skipped" if first is None else "different", first, layers, skipped)
    layers = _with_measures(layers, recorded, now)
    failed = _why_failed(now)
    if failed is not None:
        return Comparison("failed", first, layers, failed)
    found = {layer: difference(recorded, now) for layer, difference in _DIFFERENCES.items()}
    layers = msgspec.structs.replace(layers, **{layer: each is None for layer, each in found.items()})
    first = first or next(filter(None, found.values()), None)
    return Comparison("same" if first is None else "different", first, layers)


def difference_in(layer: LayerName, recorded: Turn, now: Turn) -> FirstDifference | None:
    """The first difference of two turns in one layer of the answer. None if there is none, if words of it are erased or
    damaged, or if the layer is not read from the answers.
    """
    if layer not in _DIFFERENCES or what_is_gone(recorded) or what_is_gone(now):
        return None
    return _DIFFERENCES[layer](recorded, now)


def request_difference(recorded: bytes, now: bytes) -> FirstDifference | None:
    """The first difference of two requests, at its place in their JSON (``request.messages[3].content``); None if they
    are equal to the byte. The path is ``request`` alone if they mean the same, or are no JSON.
    """
    if recorded == now:
        return None
    try:
        place = json_difference(msgspec.json.decode(recorded), msgspec.json.decode(now))
    except (msgspec.MsgspecError, RecursionError):
        place = None
    if place is not None:
        return FirstDifference("request", path_of("request", place.steps), *shown_pair(place.recorded, place.now))
    texts = recorded.decode(errors="replace"), now.decode(errors="replace")
    return FirstDifference("request", "request", *shown_pair(*texts))


# --- whether there is something to compare ----------------------------------------------------------------------------


def _first_of_the_bytes(*, request: bool | None, frames: bool | None) -> FirstDifference | None:
    if request is False:
        return FirstDifference("request", "request")
    return FirstDifference("frames", "frames") if frames is False else None


def _why_skipped(recorded: Turn, now: Turn) -> Reason | None:
    gone, gone_since = what_is_gone(recorded), what_is_gone(now)
    if gone is not None:
        return "recorded_erased" if gone == "erased" else "recorded_damaged"
    if recorded.status != "completed":
        return "recorded_open" if recorded.status in OPEN else "recorded_not_completed"
    if not answers_of(recorded):
        return "recorded_no_answer"
    if gone_since is not None:
        return "new_erased" if gone_since == "erased" else "new_damaged"
    return None


def _why_failed(now: Turn) -> Reason | None:
    if now.status == "completed":
        return None
    if now.status in OPEN:
        return "new_open"
    ends: dict[str, Reason] = {"cancelled": "new_cancelled", "interrupted": "new_interrupted"}
    return ends.get(now.status, "new_failed")


# --- the measures -----------------------------------------------------------------------------------------------------


def _with_measures(layers: Layers, recorded: Turn, now: Turn) -> Layers:
    return msgspec.structs.replace(
        layers,
        tokens=_measure(recorded.usage.output_tokens, now.usage.output_tokens),
        cost=cost_measure(recorded, now),
        time=_measure(recorded.duration_ms, now.duration_ms),
    )


def _measure(recorded: int | None, now: int | None) -> Measure | None:
    return None if recorded is None and now is None else Measure(recorded, now)


def cost_measure(recorded: Turn, now: Turn) -> Measure | None:
    """The costs of two turns; None if they are in two currencies, which have no difference, or in several, which have
    no sum.
    """
    if len(recorded.costs) != 1 or len(now.costs) != 1 or recorded.costs[0].currency != now.costs[0].currency:
        return None
    return Measure(recorded.costs[0].micros, now.costs[0].micros)


# --- the layers of the answer -----------------------------------------------------------------------------------------


def _stop_reason(recorded: Turn, now: Turn) -> FirstDifference | None:
    if recorded.stop_reason == now.stop_reason:
        return None
    return FirstDifference("stop_reason", "stop_reason", recorded.stop_reason, now.stop_reason)


def _tool_calls(recorded: Turn, now: Turn) -> FirstDifference | None:
    for message, old, new in pairs(recorded, now):
        calls = zip_longest(old.calls if old else (), new.calls if new else ())
        for index, (call, again) in enumerate(calls):
            difference = _call(f"messages[{message}].tool_calls[{index}]", call, again)
            if difference is not None:
                return difference
    return None


def _call(path: str, recorded: ToolUseBlock | None, now: ToolUseBlock | None) -> FirstDifference | None:
    if recorded is None or now is None:
        return FirstDifference("tool_calls", path, *shown_pair(_plain(recorded), _plain(now)))
    if recorded.name != now.name:
        return FirstDifference("tool_calls", f"{path}.name", *shown_pair(recorded.name, now.name))
    place = json_difference(arguments_of(recorded), arguments_of(now))
    if place is None:
        return None
    shown = shown_pair(place.recorded, place.now)
    return FirstDifference("tool_calls", path_of(f"{path}.input", place.steps), *shown)


def _plain(call: ToolUseBlock | None) -> dict[str, Any] | None:
    return None if call is None else {"name": call.name, "input": arguments_of(call)}


def _structure(recorded: Turn, now: Turn) -> FirstDifference | None:
    for message, old, new in pairs(recorded, now):
        if old is None or new is None:
            return FirstDifference("structure", f"messages[{message}]", _kinds(old), _kinds(new))
        for index, (block, again) in enumerate(zip_longest(old.content, new.content)):
            path, kinds = f"messages[{message}].content[{index}]", (_kind(block), _kind(again))
            if kinds[0] != kinds[1]:
                return FirstDifference("structure", path, *kinds)
            if isinstance(block, ImageBlock) and block != again:
                return FirstDifference("structure", f"{path}.source", *kinds)
    return None


def _kinds(answer: Answer | None) -> Any:
    return None if answer is None else shown_pair([*map(kind_of, answer.content)], None)[0]


def _kind(block: Any) -> str | None:
    return None if block is None else kind_of(block)


def _text(recorded: Turn, now: Turn) -> FirstDifference | None:
    for message, old, new in pairs(recorded, now):
        texts = old.text if old else "", new.text if new else ""
        if texts[0] != texts[1]:
            at = common_prefix(*texts)
            answer = old if old is not None and any(_texts(old)) else new
            index, offset = _place(answer, at) if answer is not None else (0, 0)
            return FirstDifference(
                "text", f"messages[{message}].content[{index}].text[{offset}]", *excerpts(*texts, at)
            )
    return None


def _texts(answer: Answer) -> Iterator[tuple[int, str]]:
    return ((index, block.text) for index, block in enumerate(answer.content) if isinstance(block, TextBlock))


def _place(answer: Answer, at: int) -> tuple[int, int]:
    """The block in which a character of the joined text stands, and its place there; the end of the last text, if the
    text ends before.
    """
    place, before = (0, 0), 0
    for index, text in _texts(answer):
        place = index, at - before
        before += len(text)
        if at < before:
            break
    return place


_DIFFERENCES: Final[dict[LayerName, Callable[[Turn, Turn], FirstDifference | None]]] = {
    "stop_reason": _stop_reason,
    "tool_calls": _tool_calls,
    "structure": _structure,
    "text": _text,
}
