"""Verdicts and differences in plain words, for reports and terminals. Pure."""

from __future__ import annotations

import re
from typing import Final

from .results import FirstDifference, LayerName, Result, Verdict

LAYER_NAMES: Final[dict[LayerName, str]] = {
    "request": "request",
    "frames": "frames",
    "stop_reason": "stop reason",
    "tool_calls": "tool calls",
    "structure": "structure",
    "text": "text",
    "tokens": "tokens",
    "cost": "cost",
    "time": "time",
}
"""What a person calls each layer."""

_WORST_FIRST: Final[tuple[Verdict, ...]] = ("failed", "different", "skipped", "same")

_PROMPT = re.compile(r"request\.(?:messages|input)\[([0-9]+)\]")
_CALL = re.compile(r"messages\[[0-9]+\]\.tool_calls\[([0-9]+)\](.*)", re.DOTALL)
_CHARACTER = re.compile(r"messages\[[0-9]+\]\.content\[[0-9]+\]\.text\[([0-9]+)\]")


def badness(result: Result) -> tuple[int, bool, int]:
    """A sort key: failed turns first, then different ones by the layer of their first difference, those within the
    noise after the others, then the skipped and last the same.
    """
    first = result.first_difference
    layer = 0 if first is None else [*LAYER_NAMES].index(first.layer)
    return _WORST_FIRST.index(result.verdict), result.noise, layer


def in_words(difference: FirstDifference) -> str:
    """The difference as a sentence without its full stop. It holds none of the words that differ. Messages, calls and
    characters are counted from 1.
    """
    if difference.layer == "request":
        match = _PROMPT.match(difference.path)
        return "Our prompt changed" if match is None else f"Our prompt changed, at message {int(match[1]) + 1}"
    if difference.layer == "tool_calls":
        return _call_in_words(difference)
    if difference.layer == "text":
        match = _CHARACTER.fullmatch(difference.path)
        return "The text differs" if match is None else f"The text differs from character {int(match[1]) + 1:,} on"
    sentences = {
        "frames": "The frames that readers are shown differ",
        "stop_reason": "The answer stopped for another reason",
        "structure": "The answer is made of other blocks",
    }
    return sentences.get(difference.layer, f"The {LAYER_NAMES[difference.layer]} differs")


def _call_in_words(difference: FirstDifference) -> str:
    match = _CALL.fullmatch(difference.path)
    if match is None:
        return "The tool calls differ"
    number = int(match[1]) + 1
    if match[2] == ".name":
        return f"Tool call {number} is of another tool"
    if match[2]:
        return f"Tool call {number} has other arguments"
    if difference.recorded is None and difference.now is not None:
        return f"Tool call {number} is new"
    if difference.now is None and difference.recorded is not None:
        return f"Tool call {number} is missing"
    return f"Tool call {number} differs"
