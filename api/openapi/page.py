"""The document as a page for people: by parts, with types, defaults, links between schemas, bodies and answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from ...engine import page_policy
from ..http.errors import JSON
from .page_schemas import REF, anchor, code_list, fields, kind, prose, schema_section

METHODS = ("get", "post", "put", "patch", "delete")
FIRST = ("Problem", "ErrorCode")
STREAM = "text/event-stream"


@cache
def style() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def page(document: dict[str, Any]) -> str:
    """The page."""
    return "".join(_pieces(document))


def _pieces(document: dict[str, Any]) -> Iterator[str]:
    info, parts, schemas = document["info"], _parts(document), document["components"]["schemas"]
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{page_policy(style())}">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<title>{escape(info['title'])} API</title><style>{style()}</style></head><body>"
    yield f"<header><h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
    yield f'<p>{escape(info["description"])} The same as <a href="/schema/openapi.json">OpenAPI</a>.</p></header>'
    yield from _contents(document["tags"], parts, schemas)
    yield f"<main>{_everywhere(document)}"
    for tag in document["tags"]:
        yield f'<section><h2 id="{anchor(tag["name"])}">{escape(tag["name"])}</h2><p>{prose(tag["description"])}</p>'
        yield from (_operation(document, *each) for each in parts[tag["name"]])
        yield "</section>"
    yield from _schemas(schemas)
    yield "</main></body></html>"


def _parts(document: dict[str, Any]) -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
    """Method, path and operation of each route, by the tag that they have."""
    parts: dict[str, list[tuple[str, str, dict[str, Any]]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                parts[operations[method]["tags"][0]].append((method, path, operations[method]))
    return parts


def _contents(
    tags: list[dict[str, Any]], parts: dict[str, list[tuple[str, str, dict[str, Any]]]], schemas: dict[str, Any]
) -> Iterator[str]:
    yield '<nav aria-label="Contents"><h2>Contents</h2><ul><li><a href="#every-route">Every route</a></li>'
    for tag in tags:
        name = tag["name"]
        yield f'<li><details><summary><a href="#{anchor(name)}">{escape(name)}</a> '
        yield f'<span class="count">{len(parts[name])}</span></summary><ul>'
        for method, path, operation in parts[name]:
            yield f'<li><a href="#{operation["operationId"]}"><b class="{method}">{method.upper()}</b>'
            yield f"{_path(path)}</a></li>"
        yield "</ul></details></li>"
    yield '<li><a href="#error-codes">Error codes</a></li><li><details><summary><a href="#schemas">Schemas</a> '
    yield f'<span class="count">{len(schemas)}</span></summary><ul>'
    yield from (f'<li><a href="#schema-{escape(name)}">{escape(name)}</a></li>' for name in sorted(schemas))
    yield "</ul></details></li></ul></nav>"


def _everywhere(document: dict[str, Any]) -> str:
    """What holds for all routes, said once."""
    keys = document["components"]["securitySchemes"]["key"]["description"]
    return (
        '<section><h2 id="every-route">Every route</h2><dl class="facts">'
        f"<div><dt>Keys</dt><dd><code>Authorization: Bearer KEY</code>. {prose(keys)}</dd></div>"
        "<div><dt>Errors</dt><dd>RFC 9457 <code>application/problem+json</code>, a "
        '<a href="#schema-Problem">Problem</a> with a stable <code>code</code>: see <a href="#error-codes">the '
        "list</a>."
        "</dd></div>"
        "<div><dt>Unknown names</dt><dd>A parameter or field that there is not is refused with its name.</dd></div>"
        "<div><dt>Lists</dt><dd><code>items</code> and <code>next_cursor</code>, which as <code>cursor</code> "
        "gives the "
        "next page; null: this is the last.</dd></div>"
        "<div><dt>Writing twice</dt><dd><code>Idempotency-Key</code>: the same key with the same body gets the first "
        "answer again, for ever. <code>If-Match</code> with a version: refused if the session has moved on.</dd></div>"
        "<div><dt>Times and ids</dt><dd>RFC 3339 in UTC with microseconds; UUIDv7 in canonical text.</dd></div>"
        "<div><dt>Headers</dt><dd><code>x-request-id</code> on every answer, and in every event written for "
        "it.</dd></div>"
        "</dl></section>"
    )


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    name = operation["operationId"]
    said = operation["description"] if operation["description"] != f"{operation['summary']}." else ""
    return "".join(
        (
            (
                f'<article id="{name}"><h3><a class="route" href="#{name}"><b class="{method}">{method.upper()}</b>'
                f"<code>{_path(path)}</code></a></h3>"
            ),
            f'<p class="summary">{prose(operation["summary"])}.</p>{f"<p>{prose(said)}</p>" if said else ""}',
            _parameters(operation.get("parameters", [])),
            _body(document, operation),
            _answers(document, operation["responses"]),
            "</article>",
        )
    )


def _path(path: str) -> str:
    """A path that may be broken after each slash."""
    return re.sub(r"(?<=.)/", "<wbr>/", escape(path))


def _parameters(parameters: list[dict[str, Any]]) -> str:
    rows = "".join(
        f'<div><dt><code>{escape(each["name"])}</code> <span class="kind">{kind(each["schema"])}, {each["in"]}</span>'
        f"{'<span class=needed> required</span>' if each.get('required') else ''}</dt>"
        f"<dd>{prose(each.get('description', ''))}{_default(each['schema'])}{_such_as(each)}</dd></div>"
        for each in parameters
    )
    return f'<h4>Parameters</h4><dl class="fields">{rows}</dl>' if rows else ""


def _default(schema: dict[str, Any]) -> str:
    return f' <span class="kind">Default <code>{_json(schema["default"])}</code>.</span>' if "default" in schema else ""


def _such_as(parameter: dict[str, Any]) -> str:
    example = parameter.get("example")
    shown = example if isinstance(example, str) else _json(example)
    return "" if example is None else f' <span class="kind">Such as <code>{escape(str(shown))}</code>.</span>'


def _body(document: dict[str, Any], operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get(JSON)
    if content is None:
        return ""
    needed = "" if operation["requestBody"].get("required") else " <span class=kind>may be left out</span>"
    shown = "".join(
        f"<details{' open' * (not number)}><summary>{escape(name)}</summary>"
        f"<pre>{_pretty(example['value'])}</pre></details>"
        for number, (name, example) in enumerate(content.get("examples", {}).items())
    )
    schema = content["schema"]
    schema = document["components"]["schemas"].get(schema.get("$ref", "").removeprefix(REF), schema)
    own = f"<details><summary>Fields</summary>{fields(schema, body=True)}</details>" if schema.get("properties") else ""
    return f"<h4>Body{needed}</h4><p>{kind(content['schema'])}</p>{shown}{own}"


def _answers(document: dict[str, Any], responses: dict[str, Any]) -> str:
    rows = []
    for status, response in sorted(responses.items()):
        if status == "default":
            continue
        content = response.get("content", {})
        told = prose(response["description"])
        if status >= "400":
            told = _refused(response)
        forms = "".join(_form(document, media, each) for media, each in content.items()) if status < "400" else ""
        rows.append(f'<div><dt class="s{status[0]}">{status}</dt><dd>{told}{forms}</dd></div>')
    return f'<h4>Answers</h4><dl class="answers">{"".join(rows)}</dl>'


def _refused(response: dict[str, Any]) -> str:
    """The codes of a status, each with a link to what it means."""
    codes = re.findall(r"`([a-z0-9_]+)`: ", response["description"])
    return " ".join(f'<a href="#code-{code}"><code>{code}</code></a>' for code in codes)


def _form(document: dict[str, Any], media: str, content: dict[str, Any]) -> str:
    schema = content["schema"]
    item = content.get("x-item-schema")
    named = f"of {kind(item)}" if item else kind(schema)
    sample = ""
    if media == STREAM:
        sample = (
            f'<p class="order">{prose(schema["description"])}</p><pre>{escape(schema["examples"][0].strip())}</pre>'
        )
    elif schema.get("description") and "$ref" not in schema:
        sample = f'<p class="order">{prose(schema["description"])}</p>'
    elif "$ref" in schema:
        example = document["components"]["schemas"][schema["$ref"].removeprefix(REF)].get("examples")
        sample = f"<details><summary>Example</summary><pre>{_pretty(example[0])}</pre></details>" if example else ""
    return f'<div class="form"><code>{escape(media)}</code> <span class="kind">{named}</span>{sample}</div>'


def _schemas(schemas: dict[str, Any]) -> Iterator[str]:
    yield f'<section><h2 id="error-codes">Error codes</h2>{code_list(schemas["ErrorCode"])}</section>'
    yield '<section><h2 id="schemas">Schemas</h2>'
    names = chain(FIRST, (name for name in sorted(schemas) if name not in FIRST))
    yield from (schema_section(name, schemas[name]) for name in names)
    yield "</section>"


def _json(value: Any) -> str:
    return escape(msgspec.json.encode(value).decode())


def _pretty(value: Any) -> str:
    return escape(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
