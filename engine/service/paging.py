"""A page of a list: bounded in items and in bytes, from one snapshot. How large items are is known only when they are
read, so they are read one at a time, until there are enough.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import closing
from itertools import accumulate
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from ..errors import Invalid, RecordDamaged

T = TypeVar("T")
P = TypeVar("P")
A = TypeVar("A")

LIMIT = 100
EACH_LIMIT = 500
"""Items of a page where one page after the other is read."""
MAX_LIMIT = 1000
MAX_PLACE = 1 << 53

Place = Annotated[int, Meta(ge=0, le=MAX_PLACE)]
SessionPlace = tuple[int, UUID]
"""(updated_at in microseconds, id): where a session stands in a list."""

After = int | str | None
"""Where a page begins: after a version (or position), or after the page whose ``next`` this is."""


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A page of a list. ``next`` is what ``after`` takes to give the page that follows; None: this is the last."""

    items: list[T]
    next: str | None = None

    @classmethod
    def of(
        cls, items: Sequence[T], *, limit: int = LIMIT, after: After = None, most_bytes: int | None = None
    ) -> Page[T]:
        """Cut a page from a list that is all in memory: one item at the least, and no more than ``most_bytes`` as JSON.
        Raises Invalid for a limit or an ``after`` that cannot be.
        """
        check_limit(limit)
        start = number_after(after) or 0
        end = start + limit
        if most_bytes is not None:
            sizes = accumulate(len(msgspec.json.encode(item)) for item in items[start:end])
            end = start + max(1, sum(size <= most_bytes for size in sizes))
        return Page(list(items[start:end]), write_cursor((end,)) if end < len(items) else None)


class Bounds(msgspec.Struct, frozen=True):
    """The most that a page holds. One item is given however large it is."""

    limit: int
    most_bytes: int


def check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid("limit", f"must be from 1 to {MAX_LIMIT}")


def number_after(after: After) -> int | None:
    """The version, position or index after which a page begins; None: at the list's beginning."""
    if isinstance(after, str):
        return int(_read_cursor(after, tuple[Place])[0])
    if after is not None and not 0 <= after <= MAX_PLACE:
        raise Invalid("after", f"must be from 0 to {MAX_PLACE}")
    return after


def name_after(after: str) -> str:
    """The name after which a page begins."""
    return str(_read_cursor(after, tuple[str])[0])


def id_after(after: str | None) -> UUID | None:
    """The id after which a page begins; None: at the list's beginning."""
    return None if after is None else UUID(str(_read_cursor(after, tuple[UUID])[0]))


def session_after(after: UUID | str | None, *, by_creation: bool) -> SessionPlace | None:
    """The session after which a page begins. An id says where that is only in the order of creation."""
    if isinstance(after, UUID):
        if not by_creation:
            raise Invalid("after", "an id goes with the order `created` only")
        return (0, after)
    if after is None:
        return None
    place: SessionPlace = _read_cursor(after, tuple[Place, UUID])
    return place


def write_cursor(place: tuple[object, ...]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _read_cursor(raw: str, kind: Any) -> Any:
    try:
        padded = raw + "=" * (-len(raw) % 4)
        return msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise Invalid("cursor", "is not one that a page has given", code="invalid_cursor") from None


def fill(items: Generator[T, None, None], weigh: Callable[[T], int], bounds: Bounds) -> tuple[list[T], bool]:
    """The items of a page, and whether there are more. ``items`` are read as they are asked for, one more than a page
    holds at the most; ``weigh`` tells the bytes that an item is told in.
    """
    found: list[T] = []
    size = 0
    with closing(items):
        try:
            for item in items:
                size += weigh(item)
                if found and (size > bounds.most_bytes or len(found) == bounds.limit):
                    return found, True
                found.append(item)
        except RecordDamaged:
            if len(found) < bounds.limit:
                raise
            return found, True  # the page is full: it is the next that is refused
    return found, False


async def each_item(turn_page: Callable[[A | str], Awaitable[Page[T]]], after: A) -> AsyncGenerator[T, None]:
    """The items of a list, page by page. ``turn_page`` gives the page that follows a place or a ``next``."""
    page = await turn_page(after)
    while True:
        for item in page.items:
            yield item
        if page.next is None:
            return
        page = await turn_page(page.next)
