"""Breakpoints of the prompt cache in requests of Anthropic's Messages API: those that a client has set, each in its own
words, else the ends of what is sent again in any case. Pure, as the renderers that they belong to.

A client's breakpoints stand in the place of ours, since the vendor takes four at most. One at the end of a block that
is not sent (an empty text, thinking) is left out with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ...events.turn_types import CacheMarks
from ..base import Prompt

Wire = dict[str, Any] | msgspec.Raw

_OURS = {"type": "ephemeral"}
_NONE = b"null"
_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def ours(wire: dict[str, Any]) -> dict[str, Any]:
    """A block or a tool with a breakpoint of ours."""
    return {**wire, "cache_control": _OURS}


def mark_end(blocks: list[Wire]) -> None:
    """Mark the last block that we have rendered: one that is passed on stays as it came."""
    for place in reversed(range(len(blocks))):
        block = blocks[place]
        if isinstance(block, dict):
            blocks[place] = ours(block)
            return


def clients(wire: Wire, control: msgspec.Raw | None) -> Wire:
    """A block or a tool with a client's breakpoint, if it has one."""
    if control is None:
        return wire
    fields: dict[str, Any] = {**_read_fields(wire)} if isinstance(wire, msgspec.Raw) else wire
    return {**fields, "cache_control": control}


def marked_tools(tools: list[dict[str, Any]], prompt: Prompt, *, cached: bool) -> list[Wire]:
    """The tools with their breakpoints. ``cached``: we set one where the client sets none."""
    if prompt.marks is None:
        return [*tools[:-1], ours(tools[-1])] if cached else [*tools]
    controls = dict(prompt.marks.tools)
    return [clients(tool, controls.get(number)) for number, tool in enumerate(tools)]


def marked_system(system: str, prompt: Prompt, *, cached: bool) -> str | list[Wire]:
    """The system prompt with its breakpoints, in the parts in which a client gives it; what comes after them is the
    last part.
    """
    if prompt.marks is None or not prompt.marks.system:
        return [ours(_text(system))] if cached and prompt.marks is None else system
    parts = [
        clients(_text(system[start:end]), None if bytes(control) == _NONE else control)
        for start, end, control in prompt.marks.system
        if system[start:end].strip()
    ]
    rest = system[prompt.marks.system[-1][1] :].lstrip("\n")
    return [*parts, _text(rest)] if rest.strip() else parts


def has_marks(prompt: Prompt) -> bool:
    """True if the client has set a breakpoint, or said that it wants none of ours."""
    return prompt.marks is not None


def whole_request(marks: CacheMarks | None) -> dict[str, Any]:
    """The field by which a client lets the vendor choose the breakpoint."""
    whole = None if marks is None else marks.whole
    return {"cache_control": whole} if isinstance(whole, msgspec.Raw) else {}


def control_at(marks: Iterable[tuple[int, msgspec.Raw]], block: int) -> msgspec.Raw | None:
    """The breakpoint at the end of a block; None: there is none."""
    return next((control for number, control in marks if number == block), None)


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
