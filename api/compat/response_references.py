"""Recorded messages that a client's items stand for: by the id of an item, or by a signed reference to a summary."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import UUID

import msgspec

from ...engine import Caller, Engine, Invalid, Message, TooLarge
from ..http.errors import problem_of
from .fields import renamed
from .response_input import Messages, compactions, named_items


async def read_references(
    chat: Engine, caller: Caller, raws: str | Sequence[msgspec.Raw] | None, where: str = "input"
) -> Messages:
    """The messages that these items name. Raises Problem for a reference that was not made here."""
    names = named_items(raws, where)
    found: dict[UUID | str, Message] = {}
    if names:
        try:
            found.update((await chat.client_messages({name.message for name in names}, caller=caller)).items())
        except TooLarge as error:
            raise renamed(problem_of(error), partial(_always, where)) from None
    for reference, path in compactions(raws, where).items():
        try:
            found[reference] = await chat.signed_message(reference, caller=caller)
        except Invalid as error:
            raise renamed(problem_of(error), partial(_always, path)) from None
    return found


def _always(path: str, field: str) -> str:  # noqa: ARG001 - whatever the engine calls it
    return path
