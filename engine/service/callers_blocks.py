"""Blocks as callers give them: of the types that there are, and no others.

A block of another type that a model gave is kept and given back to it. From a caller it would be kept too, and left out
of what a model is sent, without a word.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from ..errors import Invalid
from ..events.blocks import KNOWN_TYPES, RESULT_TYPES, Block, OtherBlock, read_block


class _Outline(msgspec.Struct):
    """What decides which types a block and those inside it are of."""

    type: str
    content: str | list[_Outline] = ""


_outline = msgspec.json.Decoder(_Outline)


def read_callers_block(raw: msgspec.Raw | bytes, field: str, own: Collection[str] = ()) -> Block:
    """Read one block. ``own``: other types that are taken as they come. Raises Invalid, which names the field, and the
    types there are where it is of none of them.
    """
    try:
        block = read_block(raw, field)
    except Invalid:
        _refuse_unknown_inside(raw, field)
        raise
    if isinstance(block, OtherBlock) and block.type not in own:
        raise _unknown(field, (*KNOWN_TYPES, *own))
    return block


def _refuse_unknown_inside(raw: msgspec.Raw | bytes, field: str) -> None:
    """Say of a result that cannot be read which of its blocks is of no type that a result may hold."""
    try:
        outline = _outline.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return
    if outline.type == "tool_result" and not isinstance(outline.content, str):
        for number, inner in enumerate(outline.content):
            if inner.type not in RESULT_TYPES:
                raise _unknown(f"{field}.content[{number}]", RESULT_TYPES)


def _unknown(field: str, types: Sequence[str]) -> Invalid:
    detail = f"there is no block of this type here; there are {', '.join(types)}"
    return Invalid(field, detail, code="unknown_block", available=list(types))
