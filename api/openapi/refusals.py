"""Errors in the document: their schemas, the list of all codes, and what each operation may refuse."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ..http.dialects import ROOT, dialect_of
from ..http.errors import GUIDE, JSON, PROBLEM_JSON, Problem, refusal_of
from .tables.errors import CODES

CODE_FORM = "^[a-z0-9_]+$"
EXAMPLE_ID = "01a22e55-61aa-7000-8000-4b2f6d9c1e37"
MODEL_IN_PATH = frozenset({"get_model", "get_vendor_model"})
"""Operations whose path names a model: an unknown one is not there."""

_TEXT = {"type": "string"}
_REQUEST_ID = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}
_CODE = {"$ref": "#/components/schemas/ErrorCode"}


def _told(code: str) -> dict[str, str]:
    row = CODES[code]
    members = f" Beside it: {', '.join(f'`{name}`' for name in row.members)}." if row.members else ""
    return {"const": code, "description": f"{row.status}. {row.meaning}{members}"}


SCHEMAS: dict[str, Any] = {
    "ErrorCode": {
        "description": "Every code that there is, with the status of the answer on native routes. A code keeps its "
        "meaning "
        "for ever; later versions may have more.",
        "type": "string",
        "pattern": CODE_FORM,
        "anyOf": [*map(_told, CODES), {"type": "string", "description": "A code of a later version."}],
        "examples": ["session_not_found"],
    },
    "Problem": {
        "title": "Problem",
        "type": "object",
        "properties": {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "code": _CODE,
            "request_id": _REQUEST_ID,
            "field": _TEXT,
        },
        "required": ["type", "title", "status", "detail", "code", "request_id"],
    },
    "GuideError": {
        "title": "GuideError",
        "type": "object",
        "properties": {"error": {"$ref": "#/components/schemas/GuideErrorInside"}, "request_id": _REQUEST_ID},
        "required": ["error", "request_id"],
    },
    "GuideErrorInside": {
        "type": "object",
        "properties": {
            "code": {"type": "string", "pattern": "^[A-Z_]+$"},
            "message": _TEXT,
            "category": _TEXT,
            "type": _TEXT,
            "details": {"$ref": "#/components/schemas/GuideErrorDetails"},
        },
        "required": ["code", "message", "category", "type", "details"],
    },
    "GuideErrorDetails": {"type": "object", "properties": {"code": _CODE}, "required": ["code"]},
    "VendorError": {
        "title": "VendorError",
        "type": "object",
        "properties": {
            "type": {"type": "string", "enum": ["error"]},
            "error": {"$ref": "#/components/schemas/VendorErrorInside"},
            "request_id": _REQUEST_ID,
        },
        "required": ["error"],
    },
    "VendorErrorInside": {
        "type": "object",
        "properties": {"message": _TEXT, "type": _TEXT, "code": _TEXT, "param": {"type": ["string", "null"]}},
        "required": ["message", "type", "code"],
    },
}


def error_of(path: str) -> tuple[str, str]:
    """The schema of a refusal, and its media type."""
    if path.startswith(ROOT):
        return "VendorError", JSON
    return ("GuideError", JSON) if path.startswith(GUIDE) else ("Problem", PROBLEM_JSON)


def status_of(path: str, operation: str, code: str) -> int:
    """The status with which an operation answers a code."""
    row = CODES[code]
    if code == "unknown_model" and operation in MODEL_IN_PATH:
        return 404
    if path.startswith(GUIDE) and code.startswith("provider_"):
        return 503  # the guide has one word for whatever goes wrong at a provider
    dialect = dialect_of(path, {})
    return row.status if dialect is None else dialect.refusal(row.status, code, "", {}, "").status


def responses(path: str, operation: str, codes: Iterable[str]) -> dict[str, Any]:
    """The refusals of an operation, by status, and under ``default`` those of every route."""
    name, media_type = error_of(path)
    by_status: dict[int, list[str]] = {}
    for code in codes:
        known = by_status.setdefault(status_of(path, operation, code), [])
        known += [code] * (code not in known)
    found = {str(status): _response(path, name, media_type, by_status[status]) for status in sorted(by_status)}
    everywhere = [f"`{code}` ({status_of(path, operation, code)})" for code, row in CODES.items() if row.everywhere]
    told = f"Refused, or failed. Every route may answer: {', '.join(everywhere)}."
    found["default"] = {"description": told, "content": {media_type: {"schema": _ref(name)}}}
    return found


def _response(path: str, name: str, media_type: str, codes: list[str]) -> dict[str, Any]:
    description = " ".join(f"`{code}`: {CODES[code].meaning}" for code in codes)
    shown: dict[str, Any] = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
    if name != "Problem":
        shown = {codes[0]: {"value": _body(path, codes[0])}}
    return {"description": description, "content": {media_type: {"schema": _ref(name), "examples": shown}}}


def examples() -> dict[str, Any]:
    """A problem document of each code, as native routes answer it."""
    return {code: {"summary": row.meaning, "value": _body("/api/", code)} for code, row in CODES.items() if row.status}


def _body(path: str, code: str) -> Any:
    row = CODES[code]
    extra = {"field": "content"} if "field" in row.members else {}
    problem = Problem(row.status, code, row.meaning, None, **extra)
    return msgspec.json.decode(refusal_of(problem, path, {}, EXAMPLE_ID).body)


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
