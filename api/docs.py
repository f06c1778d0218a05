"""The API's description: the OpenAPI document, and a page made from it that loads nothing from anywhere.

The page is plain HTML without a script: it works behind a firewall, and tells nobody that it was read.
"""

from __future__ import annotations

from html import escape
from typing import Any

import msgspec
from litestar import Request
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin

from engine import version

PATH = "/schema"

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.6rem}h2{font-size:1rem;margin:2rem 0 .3rem;border-top:1px solid #ddd;padding-top:1rem}
code,pre{font:14px/1.4 ui-monospace,monospace}b{display:inline-block;min-width:4.5rem;color:#0a5}
table{border-collapse:collapse;margin:.5rem 0}td{padding:.15rem .8rem .15rem 0;vertical-align:top}
pre{background:#f6f6f6;padding:.8rem;overflow:auto}summary{cursor:pointer;color:#555}
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}h2{border-color:#333}pre{background:#222}b{color:#5c9}}
"""


class JsonDocument(OpenAPIRenderPlugin):
    """``/schema/openapi.json``."""

    def __init__(self) -> None:
        super().__init__(path="/openapi.json", media_type="application/json")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return msgspec.json.encode(complete(openapi_schema))


class Page(OpenAPIRenderPlugin):
    """``/schema``."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type="text/html")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return page(complete(openapi_schema)).encode()


def config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Manent",
        version=version(),
        description="An auditable chat backend: every message is an immutable event.",
        path=PATH,
        render_plugins=[Page(), JsonDocument()],
        use_handler_docstrings=True,
    )


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The document with what Litestar leaves out: request bodies refuse unknown fields."""
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        if name.endswith(("In", "Patch", "OneMessage")):
            schema["additionalProperties"] = False
    return document


def page(document: dict[str, Any]) -> str:
    """The document for people."""
    routes = [
        _route(method, path, operation)
        for path, methods in sorted(document["paths"].items())
        for method, operation in methods.items()
        if isinstance(operation, dict)
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
        f"<tr><td><code>{escape(each['name'])}</code><td>{escape(each['in'])}"
        for each in operation.get("parameters", [])
    )
    parameters = f"<table>{rows}</table>" if rows else ""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    shown = f"<pre>{escape(_pretty(body))}</pre>" if body else ""
    text = escape(operation.get("description") or operation.get("summary") or "")
    return f"<h2><b>{method.upper()}</b><code>{escape(path)}</code></h2><p>{text}</p>{parameters}{shown}"


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
