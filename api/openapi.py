"""The API's description: the OpenAPI document, and a page made from it that loads nothing from anywhere.

Litestar writes the document from the handlers; ``complete`` adds what it cannot know. The page is plain HTML without
a script: it works behind a firewall, and tells nobody that it was read.
"""

from __future__ import annotations

from copy import deepcopy
from html import escape
from typing import Any

import msgspec
from litestar import Request, Router
from litestar.enums import MediaType
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.plugins import OpenAPISchemaPlugin

from ..engine import EVENT_TYPES, version
from .http.dialects import ROOT
from .http.errors import GUIDE, ID_FORM, JSON, PROBLEM_JSON
from .http.middleware import PUBLIC_PATHS
from .schemas.bodies import Body
from .schemas.parameters import MAX_NUMBER

PATH = "/schema"
METHODS = ("get", "post", "patch", "put", "delete")
EVENT_STREAM, PLAIN, JSON_LINES = "text/event-stream", "text/plain", "application/jsonl"
PROOFS = frozenset({"prove_event", "prove_consistency"})
BODY_OPTIONAL = frozenset(
    {"create_session", "start_turn", "cancel_turn", "cancel_replay", "make_checkpoint", "stop_ui_message"}
)

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

_TEXT = {"type": "string"}
_REQUEST_ID = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}
_PROBLEM = {
    "title": "Problem",
    "description": "RFC 9457. `code` is stable; `field` and others stand beside it where they help.",
    "type": "object",
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "code": {"type": "string", "pattern": "^[a-z0-9_]+$"},
        "request_id": _REQUEST_ID,
        "field": _TEXT,
    },
    "required": ["type", "title", "status", "detail", "code", "request_id"],
}
_GUIDE_ERROR = {
    "title": "GuideError",
    "description": "The error envelope of the guide's routes, in its toolkit's words; `details.code` is Manent's own.",
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string", "pattern": "^[A-Z_]+$"},
                "message": _TEXT,
                "category": _TEXT,
                "type": _TEXT,
                "details": {"type": "object", "properties": {"code": _TEXT}, "required": ["code"]},
            },
            "required": ["code", "message", "category", "type", "details"],
        },
        "request_id": _REQUEST_ID,
    },
    "required": ["error", "request_id"],
}

_VENDOR_ERROR = {
    "title": "VendorError",
    "description": "An error as OpenAI's protocol tells it, or Anthropic's: that of the path. `code` is stable.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": ["error"]},
        "error": {
            "type": "object",
            "properties": {"message": _TEXT, "type": _TEXT, "code": _TEXT, "param": {"type": ["string", "null"]}},
            "required": ["message", "type", "code"],
        },
        "request_id": _REQUEST_ID,
    },
    "required": ["error"],
}
_VENDORS_BODY = {"type": "object", "description": "As the vendor's own API has it."}
VENDOR_STREAMS = frozenset({"create_chat_completion", "create_message"})
"""Operations of drop-in routes that answer with a stream if they are asked to."""

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.6rem}h2{font-size:1rem;margin:2rem 0 .3rem;border-top:1px solid #ddd;padding-top:1rem}
code,pre{font:14px/1.4 ui-monospace,monospace}b{display:inline-block;min-width:4.5rem;color:#0a5}
table{border-collapse:collapse;margin:.5rem 0}td{padding:.15rem .8rem .15rem 0;vertical-align:top}
pre{background:#f6f6f6;padding:.8rem;overflow:auto}summary{cursor:pointer;color:#555}
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}h2{border-color:#333}pre{background:#222}b{color:#5c9}}
"""


class RawSchema(OpenAPISchemaPlugin):
    """``msgspec.Raw`` is JSON as it was recorded, and always an object: a content block, an event's facts or body."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        return value is msgspec.Raw

    def to_openapi_schema(self, field_definition: Any, schema_creator: Any) -> Schema:  # noqa: ARG002 - Litestar's
        return Schema(type=OpenAPIType.OBJECT)


class JsonDocument(OpenAPIRenderPlugin):
    """``/schema/openapi.json``."""

    def __init__(self) -> None:
        super().__init__(path="/openapi.json", media_type=MediaType.JSON)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        return msgspec.json.encode(complete(openapi_schema))


class Page(OpenAPIRenderPlugin):
    """``/schema``."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        return page(complete(openapi_schema)).encode()


class Routes(Router):
    """Litestar's, without its page of HTML for all other paths below: those lead nowhere, as everywhere else."""

    def register(self, value: Any) -> Any:
        return [] if "/{path:str}" in getattr(value, "paths", ()) else super().register(value)


def config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Manent",
        version=version(),
        description="An auditable chat backend: every message is an immutable event.",
        openapi_router=Routes(PATH, route_handlers=[], include_in_schema=False),
        render_plugins=[Page(), JsonDocument()],
        operation_id_creator=lambda handler, *_: handler.handler_name,
        use_handler_docstrings=True,
    )


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The document with what Litestar leaves out: strict bodies, errors, streams, keys."""
    document = deepcopy(document)
    components = document["components"]
    components["schemas"] |= {
        "Problem": _PROBLEM,
        "GuideError": _GUIDE_ERROR,
        "VendorError": _VENDOR_ERROR,
    }
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    _bound_items(components["schemas"]["EraseIn"]["properties"]["versions"])
    for body in Body.kinds():
        if body.__name__ in components["schemas"]:
            components["schemas"][body.__name__]["additionalProperties"] = False
            components["schemas"][body.__name__].pop("default", None)
    components["schemas"]["Readiness"]["additionalProperties"] = _TEXT  # the contract of 0.1 says no more of it
    document["security"] = [{"key": []}, {}]
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                if path.startswith(ROOT) and method == "post":
                    _complete_vendors(operations[method])
                _complete_operation(path, operations[method])
    return document


def _bound_items(versions: dict[str, Any]) -> None:
    """Litestar leaves out what bounds the items of a list."""
    for each in versions["oneOf"]:
        if "items" in each:
            each["items"] |= {"minimum": 1, "maximum": MAX_NUMBER}


def _complete_parameters(parameters: list[dict[str, Any]], *, guide: bool) -> None:
    for parameter in parameters:
        _complete_parameter(parameter, PATTERNS | (GUIDE_PATTERNS if guide else {}))
        if guide and parameter["name"] in MAY_BE_EMPTY:
            _may_be_empty(parameter["schema"])


def _may_be_empty(schema: dict[str, Any]) -> None:
    schema.pop("minLength", None)
    if schema.pop("format", None) == "uuid":
        schema["pattern"] = f"^({ID_FORM})?$"


def _complete_operation(path: str, operation: dict[str, Any]) -> None:
    summary, _, rest = operation.get("description", "").partition("\n\n")
    operation["summary"] = " ".join(summary.split()).removesuffix(".")
    operation["description"] = " ".join(rest.split())
    if path in PUBLIC_PATHS:
        operation["security"] = []
    _complete_parameters(operation.get("parameters", []), guide=path.startswith(GUIDE))
    name, media_type = _error_of(path)
    responses = operation["responses"]
    responses.pop("400", None)
    refused = {media_type: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    responses["default"] = {"description": "Refused, or failed", "content": refused}
    for response in responses.values():
        response.pop("headers", None)
    if operation["operationId"] in BODY_OPTIONAL:
        operation["requestBody"]["required"] = False
    if "stream" in operation["operationId"]:
        content = {EVENT_STREAM: {"schema": _TEXT}}
        responses["200"] = {"description": "Server-sent events", "content": content}
    if operation["operationId"] in PROOFS:
        # Of what is no proof in JSON the document of 0.1 says nothing. Here it says text, so that one schema fits.
        responses["200"]["content"][JSON]["schema"]["oneOf"][1] = _TEXT
        responses["200"]["content"] |= {PLAIN: {"schema": _TEXT}}
    if operation["operationId"] == "export_session":
        responses["200"]["content"] |= {JSON_LINES: {"schema": _TEXT}}
    if operation["operationId"] == "start_turn":
        turn = {"$ref": "#/components/schemas/Turn"}
        responses["200"]["content"] = {JSON: {"schema": turn}, EVENT_STREAM: {"schema": _TEXT}}
    if operation["operationId"] in {"stream_turn", "stream_replay", "stream", "resume_ui_stream"}:
        responses["204"] = {"description": "Read to the end already"}


def _error_of(path: str) -> tuple[str, str]:
    """The schema of a refusal, and its media type."""
    if path.startswith(ROOT):
        return "VendorError", JSON
    return ("GuideError", JSON) if path.startswith(GUIDE) else ("Problem", PROBLEM_JSON)


def _complete_vendors(operation: dict[str, Any]) -> None:
    """A body and an answer are as their vendor describes them."""
    operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _VENDORS_BODY}}}
    content: dict[str, Any] = {JSON: {"schema": _VENDORS_BODY}}
    if operation["operationId"] in VENDOR_STREAMS:
        content[EVENT_STREAM] = {"schema": _TEXT}
    operation["responses"]["200"] = {"description": "Request fulfilled, document follows", "content": content}


def _complete_parameter(parameter: dict[str, Any], patterns: dict[str, str]) -> None:
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


def page(document: dict[str, Any]) -> str:
    """The document for people."""
    routes = [
        _route(method, path, operations[method])
        for path, operations in sorted(document["paths"].items())
        for method in METHODS
        if method in operations
    ]
    schemas = "".join(
        f"<details><summary><code>{escape(name)}</code></summary><pre>{escape(_pretty(schema))}</pre></details>"
        for name, schema in document["components"]["schemas"].items()
    )
    info = document["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])} API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])} "
        f'The same as <a href="{PATH}/openapi.json">OpenAPI</a>.</p>{"".join(routes)}<h2>Schemas</h2>{schemas}</html>'
    )


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code><td>{escape(each['in'])}<td>{escape(each.get('description', ''))}"
        for each in operation.get("parameters", [])
    )
    parameters = f"<table>{rows}</table>" if rows else ""
    body = operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("schema")
    shown = f"<pre>{escape(_pretty(body))}</pre>" if body else ""
    text = f"{operation['summary']}. {operation['description']}".strip()
    return f"<h2><b>{method.upper()}</b><code>{escape(path)}</code></h2><p>{escape(text)}</p>{parameters}{shown}"


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
