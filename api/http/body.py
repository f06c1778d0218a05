"""Reading what a request brings: the strict JSON that a body must be.

Litestar would read ``"7"`` where a number is due, and lets pass what two readers may read in two ways. What gets on
record here has one meaning: UTF-8, the declared types and no others, no field twice, no nesting that a later reader
cannot follow.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import msgspec
from litestar import Request
from litestar.datastructures import State

from .choices import with_choices
from .errors import Problem, invalid, unread
from .meaning import meaning_of_json, meaning_of_query

MAX_DEPTH = 100
"""Deepest nesting of a body; what is read here must be readable with less stack left."""

LARGE_BYTES = 1 << 16
"""A body from this size on is read in a thread, so that nobody waits for it."""

_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]')


class Http(Request[Any, Any, State]):
    """A request whose JSON is strictly what its handler declares as ``data``."""

    async def json(self) -> Any:
        field = self.route_handler.parsed_data_field
        assert field is not None, "only bodies that are declared are read"
        raw = await self.body()
        if len(raw) < LARGE_BYTES:
            return read_json(raw, field.annotation)
        return await asyncio.to_thread(read_json, raw, field.annotation)

    async def meaning(self) -> bytes:
        """The meaning of a request, however it is written: its body, or its query where it has none."""
        raw = await self.body()
        if not raw:
            return meaning_of_query(self.scope["query_string"])
        if len(raw) < LARGE_BYTES:
            return meaning_of_json(raw)
        return await asyncio.to_thread(meaning_of_json, raw)


def read_json(raw: bytes, kind: Any) -> Any:
    """A value of this type from JSON. Raises Problem, or a MsgspecError for what is not of the type."""
    try:
        text = raw.decode()
        value = msgspec.json.decode(raw, type=kind)
        check_depth(raw)
        json.loads(text, object_pairs_hook=_once_each)
    except UnicodeDecodeError:
        raise unread("body", Problem(400, "malformed_json", "the body is not UTF-8")) from None
    except RecursionError:
        raise _too_deep() from None
    except msgspec.ValidationError as error:
        raise with_choices(error, kind) from None
    except msgspec.MsgspecError:
        raise
    except ValueError:  # a number of thousands of digits
        raise unread("body", Problem(400, "malformed_json", "the body holds a number that is too long")) from None
    return value


def check_depth(raw: bytes) -> None:
    """Raises Problem for JSON that is nested deeper than MAX_DEPTH."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(raw):
        token = match[0]
        if token in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep()
        elif token in b"]}":
            depth -= 1


def _too_deep() -> Problem:
    return unread("body", Problem(400, "nested_too_deeply", f"the body is nested deeper than {MAX_DEPTH} levels"))


def _once_each(pairs: list[tuple[str, Any]]) -> None:
    """Refuses an object that names a field twice: readers differ on which of them counts."""
    if len(pairs) > 1 and len({name for name, _ in pairs}) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise unread("body", invalid(twice, "is given twice", "duplicate_field"))
