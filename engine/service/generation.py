"""Checks of the parameters that a caller gives a model: types, bounds, sizes. Every refusal names its field.

Bounds are those of the vendor that allows most. What a model cannot be told at all is refused when its request is
planned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from msgspec import UNSET

from ..errors import Invalid, TooLarge
from ..providers.base import Effort, FormatType, Parameters, Reasoning, ResponseFormat
from ..providers.routes import TASK
from ..settings import Settings
from .inputs import check_no_nul, check_stop, check_temperature, check_text

MAX_BIASES = 1024
MAX_SEED = 2**63 - 1
MAX_TOP_K = 2**31 - 1

PARAMETERS = frozenset(Parameters.__struct_fields__) - {"max_output_tokens", "tool_choice"}
"""Options of a turn that are parameters of its requests, and checked here."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOKEN = re.compile(r"[0-9]{1,9}")
_OF_SCHEMAS = ("name", "schema", "strict", "description")


def read_parameters(given: Mapping[str, Any], settings: Settings) -> Parameters:
    """The parameters among a turn's options. Raises Invalid or TooLarge, which name the field."""
    check_temperature(given.get("temperature"))
    stop = given.get("stop", ())
    stop = (stop,) if isinstance(stop, str) else tuple(stop)
    check_stop(stop)
    return Parameters(
        temperature=given.get("temperature"),
        stop=stop,
        top_p=_fraction(given, "top_p", 0, 1),
        top_k=_whole(given.get("top_k"), "top_k", 1, MAX_TOP_K),
        seed=_whole(given.get("seed"), "seed", -MAX_SEED - 1, MAX_SEED),
        presence_penalty=_fraction(given, "presence_penalty", -2, 2),
        frequency_penalty=_fraction(given, "frequency_penalty", -2, 2),
        logit_bias=_logit_bias(given.get("logit_bias")),
        response_format=_response_format(given.get("response_format"), settings),
        reasoning=_reasoning(given.get("reasoning"), settings),
        parallel_tool_calls=_truth(given.get("parallel_tool_calls"), "parallel_tool_calls"),
    )


def check_task(task: str | None) -> None:
    """The task by which a route chooses."""
    if task is not None and not TASK.fullmatch(task):
        raise Invalid("task", "must be 1 to 64 characters of A-Z a-z 0-9 _ . -")


def _fraction(given: Mapping[str, Any], field: str, least: int, most: int) -> float | None:
    value = given.get(field)
    return None if value is None else _bounded(value, field, least, most)


def _bounded(value: object, field: str, least: int, most: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise Invalid(field, f"must be a number from {least} to {most}")
    return float(value)


def _whole(value: object, field: str, least: int, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Invalid(field, f"must be a whole number from {least} to {most}")
    return value


def _truth(value: object, field: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise Invalid(field, "must be true or false")
    return value


def _logit_bias(given: object) -> dict[str, float] | None:
    if given is None:
        return None
    if not isinstance(given, Mapping) or len(given) > MAX_BIASES:
        raise Invalid("logit_bias", f"must be an object of at most {MAX_BIASES} biases by token")
    for token in given:
        if not (isinstance(token, str) and _TOKEN.fullmatch(token)):
            raise Invalid("logit_bias", "must name tokens by their numbers, 1 to 9 digits each")
    return {token: _bounded(bias, f"logit_bias.{token}", -100, 100) for token, bias in given.items()}


def _response_format(given: object, settings: Settings) -> ResponseFormat | None:
    if given is None:
        return None
    if isinstance(given, ResponseFormat):
        given = {name: getattr(given, name) for name in given.__struct_fields__}
    fields = _fields(given, "response_format", ("type", *_OF_SCHEMAS))
    kind = _one_of(fields.get("type"), "response_format.type", get_args(FormatType))
    if kind != "json_schema":
        _refuse_beside(fields, kind)
        return ResponseFormat(kind)
    name, description = fields.get("name"), fields.get("description")
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise Invalid("response_format.name", "must be 1 to 64 characters of A-Z a-z 0-9 _ -")
    _check_description(description, settings)
    strict = _truth(fields.get("strict"), "response_format.strict")
    return ResponseFormat("json_schema", name, _schema(fields.get("schema"), settings), strict, description)


def _refuse_beside(fields: Mapping[str, Any], kind: str) -> None:
    """Refuse what goes with a schema alone."""
    for name in _OF_SCHEMAS:
        given = fields.get(name)
        if given is not None and given is not UNSET:
            raise Invalid(f"response_format.{name}", f"goes with json_schema, and not with {kind}")


def _schema(given: object, settings: Settings) -> msgspec.Raw:
    """A JSON Schema as the text that is sent and recorded."""
    field = "response_format.schema"
    if isinstance(given, msgspec.Raw | bytes):
        given = _decoded(given, field)
    if not isinstance(given, dict):
        raise Invalid(field, "must be a JSON Schema, an object")
    try:
        raw = msgspec.json.encode(given)
        check_no_nul(given, field)
    except Invalid:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Invalid(field, f"is not JSON: {error}") from None
    _check_most(len(raw), settings, field)
    return msgspec.Raw(raw)


def _decoded(raw: bytes | msgspec.Raw, field: str) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Invalid(field, "is not JSON") from None


def _check_description(description: object, settings: Settings) -> None:
    field = "response_format.description"
    if description is None:
        return
    if not isinstance(description, str):
        raise Invalid(field, "must be text")
    check_text(description, field)
    _check_most(len(description.encode()), settings, field)


def _check_most(size: int, settings: Settings, field: str) -> None:
    most = settings.max_schema_bytes
    if size > most:
        detail = f"{field}: {size} bytes, and max_schema_bytes allows {most}"
        raise TooLarge(detail, field=field, limit="max_schema_bytes", maximum=most)


def _reasoning(given: object, settings: Settings) -> Reasoning | None:
    if given is None:
        return None
    if isinstance(given, Reasoning):
        given = {"effort": given.effort, "budget_tokens": given.budget_tokens}
    fields = _fields(given, "reasoning", ("effort", "budget_tokens"))
    effort, budget = fields.get("effort"), fields.get("budget_tokens")
    if (effort is None) == (budget is None):
        raise Invalid("reasoning", "must have effort or budget_tokens, and not both")
    if effort is not None:
        return Reasoning(_one_of(effort, "reasoning.effort", get_args(Effort)))
    return Reasoning(budget_tokens=_whole(budget, "reasoning.budget_tokens", 1, settings.max_budget_tokens))


def _fields(given: object, field: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    """The fields of an object, none of them unknown."""
    if not isinstance(given, Mapping):
        raise Invalid(field, "must be an object")
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise Invalid(f"{field}.{unknown}", f"is not known; there is {', '.join(known)}", code="unknown_field")
    return given


def _one_of(value: object, field: str, words: tuple[Any, ...]) -> Any:
    if value not in words:
        raise Invalid(field, f"must be one of {', '.join(words)}")
    return value
