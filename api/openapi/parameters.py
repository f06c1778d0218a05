"""Parameters as they are: bounds and forms that Litestar cannot tell, and words on each."""

from __future__ import annotations

from typing import Any

from ...engine import EVENT_TYPES
from ..http.errors import ID_FORM
from ..schemas.parameters import MAX_NUMBER
from .tables.parameters import PARAMETERS

MAY_BE_EMPTY = frozenset({"session_id", "model", "system"})
"""Parameters of the guide's that are absent if they are empty."""

_TYPE = "|".join(name.replace(".", r"\.") for name in EVENT_TYPES)
_NUMBER = "(0|[1-9][0-9]{0,15})"
PATTERNS = {
    "cursor": "^[A-Za-z0-9_-]+$",
    "types": f"^({_TYPE})(,({_TYPE}))*$",
    "Idempotency-Key": '^("[ -~]{1,256}"|(?!"[ -~]*"$)[!-~]([ -~]{0,254}[!-~])?)$',
    "If-Match": f'^(\\*|(W/)?"{_NUMBER}")$',
    "Last-Event-ID": f"^{_NUMBER}$",
}
GUIDE_PATTERNS = {"Last-Event-ID": rf"^{ID_FORM}:{_NUMBER}(\.[1-9][0-9]{{0,15}})?$"}


def complete_parameters(operation: dict[str, Any], *, guide: bool, vendors: bool) -> None:
    """Complete all of an operation's. ``guide``: it is one of the guide's routes; ``vendors``: a drop-in route, whose
    parameters mean what the vendor says.
    """
    for parameter in operation.get("parameters", []):
        _complete(parameter, PATTERNS | (GUIDE_PATTERNS if guide else {}))
        if guide and parameter["name"] in MAY_BE_EMPTY:
            _may_be_empty(parameter["schema"])
        if not vendors or parameter["in"] == "header":
            _say(parameter, operation["operationId"])


def _say(parameter: dict[str, Any], operation: str) -> None:
    name = parameter["name"]
    told = PARAMETERS.get(f"{operation}.{name}") or PARAMETERS.get(name)
    if told is not None:
        description, example = told
        own = f"{operation}.{name}" in PARAMETERS
        parameter["description"] = description if own else parameter.get("description") or description
        parameter["example"] = example


def _may_be_empty(schema: dict[str, Any]) -> None:
    schema.pop("minLength", None)
    if schema.pop("format", None) == "uuid":
        schema["pattern"] = f"^({ID_FORM})?$"


def _complete(parameter: dict[str, Any], patterns: dict[str, str]) -> None:
    """Litestar's words for "optional" would allow the value null, and it leaves a minimum of 0 out. ``patterns``: the
    forms of parameters by their names.
    """
    schema = parameter["schema"]
    schema |= next((each for each in schema.pop("oneOf", []) if each["type"] != "null"), {})
    schema.pop("description", None)
    if isinstance(schema["type"], list):
        schema["type"] = "string"
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    if schema["type"] == "integer":
        schema |= {"minimum": int(schema.get("minimum", 0)), "maximum": int(schema.get("maximum", MAX_NUMBER))}
    elif schema.get("format") == "uuid":
        schema["pattern"] = f"^{ID_FORM}$"
    elif "enum" not in schema:
        schema["minLength"] = 1
        if pattern := patterns.get(parameter["name"]):
            schema["pattern"] = pattern
    for flag in ("deprecated", "allowEmptyValue", "allowReserved"):
        parameter.pop(flag, None)
