"""The values there are, where one of a body is none of a few: msgspec says only which one is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

MOST_LISTED = 20

_REFUSED = re.compile(r"Invalid enum value (?P<value>.*?)(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(?P<field>[^.\[\]]+)|\[[^\]]*\]")


def with_choices(error: msgspec.ValidationError, kind: Any) -> msgspec.ValidationError:
    """The same error, with the values that there are for what it refuses; ``kind``: the type that was decoded."""
    match = _REFUSED.fullmatch(str(error))
    if match is None:
        return error
    found = [inspect.type_info(kind)]
    for step in _STEP.finditer(match["path"] or ""):
        found = [inner for outer in found for inner in _inside(outer, step["field"])]
    values = sorted({str(value) for each in found for value in _values(each)})
    if not 0 < len(values) <= MOST_LISTED:
        return error
    place = f" - at `${match['path']}`" if match["path"] else ""
    return msgspec.ValidationError(f"must be one of {', '.join(values)}, and not {match['value']}{place}")


def _inside(kind: inspect.Type, field: str | None) -> Iterator[inspect.Type]:
    """The types of a field, or of the items where no field is named."""
    for each in _each(kind):
        if field is not None and isinstance(each, inspect.StructType):
            yield from (known.type for known in each.fields if known.encode_name == field)
        elif isinstance(each, inspect.ListType | inspect.VarTupleType | inspect.SetType):
            yield each.item_type
        elif isinstance(each, inspect.DictType):
            yield each.value_type


def _values(kind: inspect.Type) -> Iterator[Any]:
    for each in _each(kind):
        if isinstance(each, inspect.LiteralType):
            yield from each.values
        elif isinstance(each, inspect.EnumType):
            yield from (member.value for member in each.cls)


def _each(kind: inspect.Type) -> Iterator[inspect.Type]:
    """The types that a value may have."""
    if isinstance(kind, inspect.Metadata):
        yield from _each(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for each in kind.types:
            yield from _each(each)
    else:
        yield kind
