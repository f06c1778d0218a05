"""The fields of a request in a vendor's protocol: each is in the protocol's table, or on the list of those that named
clients send beside it, or is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar, cast

import msgspec

from ..http.body import read_json
from ..http.choices import with_choices
from ..http.errors import Problem, field_problem

T = TypeVar("T")

NOT_HERE = "parameter_not_supported"
"""The engine's code for a parameter that cannot be honoured."""

_LIMITS = {"max_blocks": "drop_in_max_messages", "max_message_bytes": "drop_in_max_block_bytes"}
"""Settings of the native routes, and those that stand for them here (``engine.service.drop_in.drop_in_limits``)."""


class Field(NamedTuple):
    """A field of a protocol. ``use``: ``honoured``; ``kept``: taken, and no part of what the model is asked; or
    ``refused``, but for null and the values ``only``, with which it says no more than without them.
    """

    use: Literal["honoured", "kept", "refused"]
    only: tuple[Any, ...] = ()


Table = Mapping[str, Field]

HONOURED, KEPT, REFUSED = Field("honoured"), Field("kept"), Field("refused")


def check_fields(given: Mapping[str, Any], table: Table, extras: Collection[str] = (), where: str = "") -> None:
    """Raises Problem for a field that is in no table, or that cannot be honoured. ``extras``: fields beside the
    protocol's that named clients send; ``where``: what of the body this is of, with a full stop at the end.
    """
    for name, value in given.items():
        field = table.get(name)
        if field is None and name not in extras:
            raise Problem(400, "unknown_parameter", f"{where}{name}: there is no such parameter", field=where + name)
        if field is not None and field.use == "refused":
            _check_neutral(where + name, value, field.only)


def _check_neutral(name: str, value: Any, only: tuple[Any, ...]) -> None:
    if value is None or any(type(value) is type(each) and value == each for each in only):
        return
    raise not_here(
        name, f", but for {' and '.join(msgspec.json.encode(each).decode() for each in only)}" if only else ""
    )


def not_here(name: str, but: str = "") -> Problem:
    """The refusal of a parameter that cannot be honoured."""
    return Problem(400, NOT_HERE, f"{name}: is not supported here{but}", field=name)


def read_body(raw: bytes, kind: type[T], table: Table, extras: Collection[str] = ()) -> T:
    """The body of a request. Raises Problem for what is not JSON, twice there, in no table, refused, or of another
    type than it must be.
    """
    try:
        given: dict[str, msgspec.Raw] = read_json(raw, dict[str, msgspec.Raw])
        check_fields(_judged(given, table), table, extras)
        body: T = decoder_of(cast("Any", kind)).decode(raw)
    except msgspec.ValidationError as error:
        raise typed(field_problem(str(with_choices(error, kind)), "")) from None
    except msgspec.MsgspecError as error:
        raise Problem(400, "invalid_json", f"the body is not JSON: {error}", field="body") from None
    return body


def _judged(given: Mapping[str, msgspec.Raw], table: Table) -> dict[str, Any]:
    """The fields of a body; with their values where these decide whether they are refused."""
    refused = {name for name, field in table.items() if field.use == "refused"}
    return {name: msgspec.json.decode(raw) if name in refused else None for name, raw in given.items()}


@cache
def decoder_of(kind: Any) -> msgspec.json.Decoder[Any]:
    """The decoder of a type: making one takes longer than decoding a message."""
    return msgspec.json.Decoder(kind)


def read_parts(raws: msgspec.Raw, kind: Any, where: str) -> tuple[Any, ...]:
    """A list in a body that stands at ``where``. Raises Problem, which names the item."""
    try:
        found: tuple[Any, ...] = decoder_of(tuple[kind, ...]).decode(raws)
    except msgspec.ValidationError:
        each = read_part(raws, tuple[msgspec.Raw, ...], where)
        return tuple(read_part(raw, kind, f"{where}[{number}]") for number, raw in enumerate(each))
    return found


def read_part(raw: msgspec.Raw, kind: Any, where: str) -> Any:
    """A part of a body that stands at ``where``. Raises Problem, which names the field from the body's top."""
    try:
        return decoder_of(kind).decode(raw)
    except msgspec.ValidationError as error:
        problem = typed(field_problem(str(with_choices(error, kind)), ""))
    field = str(problem.extra["field"])
    path = where if field == "body" else f"{where}.{field}".replace(".[", "[")
    raise renamed(problem, lambda _: path) from None


def typed(problem: Problem) -> Problem:
    """A problem with the code for a wrong type where it is one; a value of the right type may be out of bounds."""
    if problem.code == "invalid_value" and ": Expected" in problem.detail and ", got `" in problem.detail:
        return Problem(problem.status, "invalid_type", problem.detail, problem.headers, **problem.extra)
    return problem


def renamed(problem: Problem, name: Callable[[str], str]) -> Problem:
    """The same problem with the client's name of the field, where it has one of the engine's, and with the setting that
    bounds these routes.
    """
    problem = _bounded_here(problem)
    field = problem.extra.get("field")
    if not isinstance(field, str) or name(field) == field:
        return problem
    theirs = name(field)
    detail = problem.detail
    if detail.startswith(f"{field}:"):
        detail = theirs + detail.removeprefix(field)
    return Problem(problem.status, problem.code, detail, problem.headers, **problem.extra | {"field": theirs})


def _bounded_here(problem: Problem) -> Problem:
    """The same problem with the name of the setting that stands here for a native route's."""
    limit = str(problem.extra.get("limit"))
    ours = _LIMITS.get(limit)
    if ours is None:
        return problem
    detail = problem.detail.replace(limit, ours)
    return Problem(problem.status, problem.code, detail, problem.headers, **problem.extra | {"limit": ours})
