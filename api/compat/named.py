"""What OpenAI's protocols serve by name: ids, lists and metadata, as they all have them."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar.params import FromQuery, QueryParameter

from ..http.body import Http
from ..http.disconnect import unless_left
from ..http.errors import Problem, invalid
from .common import has_left

MAX_PAIRS, MAX_KEY_CHARS, MAX_VALUE_CHARS = 16, 64, 512
"""OpenAI's limits on metadata."""

DEFAULT_ITEMS, MAX_ITEMS = 20, 100

MAX_NAME_CHARS = 100
"""As much of a name is told in a refusal."""

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_ITEMS, description="The most items on a page.")]
Order = FromQuery[Literal["asc", "desc"]]

OURS = "manent."
"""Keys of a session's metadata that begin so are not OpenAI's clients' to see or to set."""

_HEX = re.compile(r"[0-9a-f]{32}")


class Listed(msgspec.Struct, frozen=True):
    """A page of a list. ``first_id`` and ``last_id`` are those of its items."""

    data: Sequence[msgspec.Raw]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


def listed(items: Sequence[Mapping[str, object]], *, has_more: bool) -> Listed:
    """A page of these items, each of which has an id."""
    ids = [str(item["id"]) for item in items]
    data = [msgspec.Raw(msgspec.json.encode(item)) for item in items]
    return Listed(data, ids[0] if ids else None, ids[-1] if ids else None, has_more)


async def read_page(request: Http, items: AsyncGenerator[dict[str, Any], None], limit: int, most_bytes: int) -> Listed:
    """A page of what is read one by one: one item at the least, however large it is. Raises Problem."""
    page = await unless_left(request, _read_page(items, limit, most_bytes))
    if page is None:
        raise has_left()
    return page


async def _read_page(items: AsyncGenerator[dict[str, Any], None], limit: int, most_bytes: int) -> Listed:
    found: list[dict[str, Any]] = []
    size = 0
    async with aclosing(items):
        async for item in items:
            size += len(msgspec.json.encode(item))
            if found and (size > most_bytes or len(found) == limit):
                return listed(found, has_more=True)
            found.append(item)
    return listed(found, has_more=False)


def uuid_of(name: str, prefix: str) -> UUID | None:
    """The id in a name of this kind; None: it is not one."""
    rest = name.removeprefix(prefix)
    return UUID(rest) if rest != name and _HEX.fullmatch(rest) else None


def no_conversation(name: str, field: str) -> Problem:
    """The refusal of a conversation that there is not, in OpenAI's own words: clients look for them, as it has no code
    for it.
    """
    detail = f"Conversation with id {name[:MAX_NAME_CHARS]!r} not found."
    return Problem(404, "conversation_not_found", detail, field=field)


def conversation_locked(field: str) -> Problem:
    """The refusal while a response runs in a conversation, with OpenAI's code and status."""
    detail = f"{field}: a response is running in this conversation; try again when it has ended"
    return Problem(400, "conversation_locked", detail, field=field)


def needing_results(problem: Problem, field: str) -> Problem:
    """The problem with the name of the field in which results of tools were to come, if it is that they did not."""
    if problem.code == "tool_results_missing":
        problem.extra = {**problem.extra, "field": field}
    return problem


def of_client(metadata: Mapping[str, Any] | None, *, ours: bool = False) -> dict[str, Any]:
    """A session's metadata that are a client's, or (``ours``) that are not."""
    return {key: value for key, value in (metadata or {}).items() if key.startswith(OURS) is ours}


def check_metadata(metadata: Mapping[str, Any] | None, field: str = "metadata") -> None:
    """Raises Problem for more than OpenAI takes, and for keys that are Manent's own."""
    for key, value in (metadata or {}).items():
        if key.startswith(OURS):
            raise invalid(f"{field}.{key}"[:MAX_NAME_CHARS], f"keys that begin with {OURS} are not for clients to set")
        if len(key) > MAX_KEY_CHARS:
            raise invalid(field, f"a key may have {MAX_KEY_CHARS} characters, and one has {len(key)}")
        if not isinstance(value, str):
            raise invalid(f"{field}.{key}", "must be text", "invalid_type")
        if len(value) > MAX_VALUE_CHARS:
            raise invalid(f"{field}.{key}", f"has {len(value)} characters, and a value may have {MAX_VALUE_CHARS}")
    if len(metadata or {}) > MAX_PAIRS:
        raise invalid(field, f"may hold {MAX_PAIRS} pairs, and holds {len(metadata or {})}")
