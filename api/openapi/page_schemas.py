"""Schemas on the page: types with links between them, fields with their bounds and examples, and the error codes."""

from __future__ import annotations

import re
from html import escape
from typing import Any

import msgspec

REF = "#/components/schemas/"
MAX_EXAMPLE_CHARS = 120
_CODE = re.compile(r"`([^`]*)`")


def prose(text: str) -> str:
    """A sentence as HTML; what stands between backticks is code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def kind(schema: dict[str, Any]) -> str:
    """The type of a schema as HTML, with links to those that it refers to."""
    if ref := schema.get("$ref"):
        name = escape(ref.removeprefix(REF))
        return f'<a href="#schema-{name}">{name}</a>'
    if "const" in schema:
        return f"<code>{_json(schema['const'])}</code>"
    if "enum" in schema:
        return " | ".join(f"<code>{_json(value)}</code>" for value in schema["enum"])
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        return " or ".join(dict.fromkeys(kind(each) for each in choices if each))
    name = schema.get("type", "any")
    name = " or ".join(name) if isinstance(name, list) else name
    if name == "array":
        return f"list of {kind(schema.get('items', {}))}"
    form = schema.get("format")
    return f"{name} ({form})" if form else str(name)


def bounds(schema: dict[str, Any]) -> str:
    """The bounds and the default of a field, in words."""
    parts = [schema, *(each for each in schema.get("oneOf", ()) if each.get("type") != "null")]
    told = []
    for part in parts:
        low, high = part.get("minimum"), part.get("maximum")
        if low is not None and high is not None and high < 1 << 53:
            told.append(f"{low} to {high}")
        elif low:
            told.append(f"at least {low}")
        told += [*_size(part, "Length", "characters"), *_size(part, "Items", "items")]
    if "default" in schema:
        told.append(f"default {_json(schema['default'])}")
    return "; ".join(told)


def _size(part: dict[str, Any], key: str, unit: str) -> list[str]:
    least, most = part.get(f"min{key}"), part.get(f"max{key}")
    if most is not None:
        return [f"{least or 0:,} to {most:,} {unit}"]
    return [f"at least {least} {unit}"] if least else []


def fields(schema: dict[str, Any], *, body: bool) -> str:
    """The properties of a schema, as a list. ``body``: it is sent, and may be short; answers seldom are."""
    required = set(schema.get("required", ()))
    remarks = {True: "required", False: ""} if body else {True: "", False: "not always there"}
    rows = (_field(name, part, remarks[name in required]) for name, part in schema["properties"].items())
    return f'<dl class="fields">{"".join(rows)}</dl>'


def _field(name: str, part: dict[str, Any], remark: str) -> str:
    bound = bounds(part)
    example = part.get("examples", [None])[0]
    shown = _json(example)
    such_as = ""
    if example is not None and "$ref" not in part and len(shown) <= MAX_EXAMPLE_CHARS and example not in ([], {}):
        such_as = f' <span class="kind">Such as <code>{shown}</code>.</span>'
    return (
        f'<div><dt><code>{escape(name)}</code> <span class="kind">{kind(part)}{f"; {bound}" if bound else ""}</span>'
        f"{f'<span class=needed> {remark}</span>' if remark else ''}</dt>"
        f"<dd>{prose(part.get('description', ''))}{such_as}</dd></div>"
    )


def schema_section(name: str, schema: dict[str, Any]) -> str:
    """One schema, closed until it is wanted."""
    sent = name.endswith("In") or schema.get("additionalProperties") is False
    inside = fields(schema, body=sent) if schema.get("properties") else ""
    if "oneOf" in schema:
        inside = _choices(schema["oneOf"])
    if name == "ErrorCode":
        inside = '<p><a href="#error-codes">The list.</a></p>'
    example = schema.get("examples", [None])[0]
    shown = "" if example is None or name == "ErrorCode" else f"<pre>{_pretty(example)}</pre>"
    return (
        f'<article class="schema" id="schema-{escape(name)}"><h3><code>{escape(name)}</code></h3>'
        f"<p>{prose(schema.get('description', ''))}</p>{inside}"
        f"{f'<details><summary>Example</summary>{shown}</details>' if shown else ''}</article>"
    )


def _choices(choices: list[dict[str, Any]]) -> str:
    """The members of a union: named ones as links, frames with what they hold."""
    if all("$ref" in each for each in choices):
        return f"<p>One of {', '.join(map(kind, choices))}.</p>"
    rows = "".join(
        f"<div><dt><code>{escape(each.get('title', ''))}</code> "
        f'<span class="kind">{kind(each["properties"]["data"])}</span></dt><dd>{prose(each["description"])}</dd></div>'
        for each in choices
    )
    return f'<dl class="fields">{rows}</dl>'


def code_list(schema: dict[str, Any]) -> str:
    """All error codes, by status."""
    rows = sorted(
        (each for each in schema["anyOf"] if "const" in each),
        key=lambda each: each["description"].replace("0.", "999.", 1)[:3],
    )
    told = "".join(
        f'<div id="code-{each["const"]}"><dt><code>{each["const"]}</code> '
        f'<span class="kind">{_status(each["description"])}</span></dt>'
        f"<dd>{prose(each['description'].partition('. ')[2])}</dd></div>"
        for each in rows
    )
    return f'<p>{prose(schema["description"])}</p><dl class="fields codes">{told}</dl>'


def _status(description: str) -> str:
    status = description.partition(".")[0]
    return status if status != "0" else "not an answer's"


def _json(value: Any) -> str:
    return escape(msgspec.json.encode(value).decode())


def _pretty(value: Any) -> str:
    return escape(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
