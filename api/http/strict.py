"""Parameters in one form each: what could be read in two ways, or was meant for another parameter, is refused by name.

Python would take ``1_0``, ``+5`` and Arabic digits for numbers, and an id in braces, without dashes or in capitals for
the same id. Who compares them as text, in a log or a cache, would not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

from litestar import Request
from litestar.params import QueryParameter

from .errors import Problem, check_id, check_number, invalid

NO_VALUES = frozenset({"", "null"})
"""Litestar would read these as if the parameter were not there, and begin a list anew."""

BRACKETED = "bracketed"
"""A handler's option: names of parameters that it reads itself, in whatever brackets (`metadata[key]`, `include[]`)."""

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")

Check = Callable[[str], None]


async def check_parameters(request: Request[Any, Any, Any]) -> None:
    """Refuse a misspelt parameter, which is no default, one without a value, and any of another form than its own."""
    checks = _checks(request.route_handler)
    bracketed = request.route_handler.opt.get(BRACKETED, ())
    for name in request.query_params:
        if name.partition("[")[0] in bracketed:
            continue
        if name not in checks:
            raise Problem(400, "unknown_parameter", f"{name}: there is no such parameter", field=name)
        if any(value.lower() in NO_VALUES for value in request.query_params.getall(name)):
            raise invalid(name, "has no value")
    await check_forms(request)


async def check_forms(request: Request[Any, Any, Any]) -> None:
    """Refuse a parameter of another form than its own, and one that comes twice; what nobody knows is passed over."""
    for name, text in _parts(request.scope["path_template"], request.scope["path"]):
        _check(name, type(request.path_params[name]), text)
    for name, check in _checks(request.route_handler).items():
        values = request.query_params.getall(name, [])
        if len(values) > 1 and name not in _lists(request.route_handler):
            raise invalid(name, "is given twice")
        if values and values[0]:
            check(values[0])


def _parts(template: str, path: str) -> Iterator[tuple[str, str]]:
    """The parameters in a path, as they are written there. Litestar reads over slashes that are doubled."""
    for part, text in zip(filter(None, template.split("/")), filter(None, path.split("/")), strict=False):
        if match := _PARAMETER.fullmatch(part):
            yield match[1], text


@cache
def _checks(handler: Any) -> Mapping[str, Check]:
    """A check for each of a handler's query parameters."""
    found = {}
    for name, field in handler.parsed_fn_signature.parameters.items():
        parameter = field.kwarg_definition
        if isinstance(parameter, QueryParameter):
            public = parameter.name or name
            found[public] = partial(_check, public, _kind(field.annotation))
    return found


@cache
def _lists(handler: Any) -> frozenset[str]:
    """The query parameters of a handler that may come more than once."""
    found = set()
    for name, field in handler.parsed_fn_signature.parameters.items():
        parameter = field.kwarg_definition
        if isinstance(parameter, QueryParameter) and get_origin(_kind(field.annotation)) is list:
            found.add(parameter.name or name)
    return frozenset(found)


def _kind(annotation: Any) -> Any:
    """A type without ``None``."""
    if get_origin(annotation) in {Union, UnionType}:
        return next(each for each in get_args(annotation) if each is not type(None))
    return annotation


def _check(name: str, kind: Any, value: str) -> None:
    if kind is int:
        check_number(name, value)
    elif kind is UUID:
        check_id(name, value)
    elif get_origin(kind) is Literal and value not in get_args(kind):
        raise not_one_of(name, get_args(kind))


def not_one_of(name: str, available: tuple[str, ...]) -> Problem:
    """A word that is not one of a few."""
    detail = f"{name}: must be one of {', '.join(available)}"
    return Problem(400, "invalid_value", detail, field=name, available=available)
