"""Content blocks as a union: the schemas of the structs that read them, by their ``type``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ...engine import ImageBlock, TextBlock, ThinkingBlock, ToolResultBlock, ToolUseBlock

TEMPLATE = "#/components/schemas/{name}"
BLOCK = {"$ref": TEMPLATE.format(name="Block")}
KINDS = (TextBlock, ImageBlock, ToolUseBlock, ToolResultBlock, ThinkingBlock)
HELD = ("Message", "OneMessage", "MessagesIn", "TurnIn", "TokensIn")
"""Schemas whose field ``content`` holds blocks."""


def schemas() -> dict[str, Any]:
    """The blocks, where images are, and their union."""
    _, found = msgspec.json.schema_components(KINDS, ref_template=TEMPLATE)
    for schema in found.values():
        _plain(schema)
    types = {kind.__struct_config__.tag: TEMPLATE.format(name=kind.__name__) for kind in KINDS}
    other = {"type": "string", "not": {"enum": sorted(map(str, types))}}
    refs = [{"$ref": ref} for ref in types.values()] + [{"$ref": TEMPLATE.format(name="OtherBlock")}]
    return found | {
        "OtherBlock": {"type": "object", "properties": {"type": other}, "required": ["type"]},
        "Block": {"type": "object", "oneOf": refs, "discriminator": {"propertyName": "type", "mapping": types}},
    }


def _plain(schema: dict[str, Any]) -> None:
    """As Litestar writes schemas: no title, and one word for a choice."""
    schema.pop("title", None)
    for each in schema["properties"].values():
        if "anyOf" in each:
            each["oneOf"] = each.pop("anyOf")
        if each.get("default", 0) is None:
            del each["default"]
        if "enum" in each and len(each["enum"]) == 1:
            each |= {"type": "string"}


def refer(document: dict[str, Any]) -> None:
    """Let the fields that hold blocks say so."""
    found = document["components"]["schemas"]
    for name in HELD:
        for each in _lists(found[name]["properties"]["content"]):
            each["items"] = dict(BLOCK)


def _lists(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if schema.get("type") == "array":
        yield schema
    for each in schema.get("oneOf", ()):
        yield from _lists(each)
