"""Putting the words of the tables on schemas: a description and an example on each, and on each of its properties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .tables import common, others, records, sessions, turns
from .tables.base import Field, Told
from .vendors import describe_theirs

GROUPS = (sessions.GROUP, turns.GROUP, records.GROUP, others.GROUP)
TABLE: Mapping[str, Told] = {name: told for group in GROUPS for name, told in group.items()}
REF = "#/components/schemas/"


def describe(document: dict[str, Any]) -> None:
    """Describe every schema that a table names. What none names stays without words, and a test says so."""
    schemas = document["components"]["schemas"]
    describe_theirs(document, TABLE)
    describer = _Describer(schemas)
    for name in schemas:
        describer.describe(name)
    for operations in document["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                _list_answers(response)


def _list_answers(response: dict[str, Any]) -> None:
    """Of an answer that is one of several schemas, nothing is to be added: they are described by themselves."""
    for content in response.get("content", {}).values():
        content["schema"].pop("title", None)


class _Describer:
    """Describes schemas, those first whose examples others need."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self._schemas = schemas
        self._examples: dict[str, Any] = {}

    def describe(self, name: str) -> Any:
        """Describe a schema; its example."""
        if name in self._examples:
            return self._examples[name]
        told, schema = TABLE.get(name), self._schemas[name]
        self._examples[name] = None  # one that refers to itself has none inside of itself
        found = {
            field: self._property(part, _told_of(told, name, field, self._schemas))
            for field, part in schema.get("properties", {}).items()
        }
        if told is None:  # its words stand where it is written
            self._examples[name] = schema.get("examples", [None])[0]
            return self._examples[name]
        schema["description"] = told.description
        shown = {field: value for field, value in found.items() if field not in told.without}
        self._examples[name] = shown if told.example is None else told.example
        if "oneOf" in schema and told.example is None:
            self._examples[name] = self._first_of(schema)
        schema["examples"] = [self._examples[name]]
        return self._examples[name]

    def _first_of(self, schema: dict[str, Any]) -> Any:
        """The example of a union's first member, from its own fields."""
        first = schema["oneOf"][0]
        if "properties" not in first:
            return self._derived(first)
        for each in schema["oneOf"]:
            for part in each["properties"].values():
                part.setdefault("examples", [self._derived(part)])
        return {name: part["examples"][0] for name, part in first["properties"].items()}

    def _property(self, part: dict[str, Any], told: Field | None) -> Any:
        if told is None:
            if "description" in part:  # said where the schema is written
                part.setdefault("examples", [self._derived(part)])
                example: Any = part["examples"][0]
                return example
            return None
        part["description"], example = (told, self._derived(part)) if isinstance(told, str) else told
        part["examples"] = [example]
        return example

    def _derived(self, part: dict[str, Any]) -> Any:
        """The example that follows from a type."""
        for key in ("const", "default"):
            if key in part:
                return part[key]
        if "enum" in part:
            return part["enum"][0]
        if ref := part.get("$ref"):
            return self.describe(ref.removeprefix(REF))
        if part.get("type") == "array":
            example = self._derived(part["items"])
            return [] if example is None else [example]
        choices = [each for each in part.get("oneOf", ()) if each.get("type") != "null"]
        if choices:
            return self._derived(choices[0])
        return {"boolean": True, "string": "", "integer": 1, "object": {}}.get(part.get("type", ""))


def _told_of(told: Told | None, name: str, field: str, schemas: Mapping[str, Any]) -> Field | None:
    """What is said of a field: by its schema's table, by that of the schema it is a form of, or of all of its name."""
    if told is not None and field in told.fields:
        return told.fields[field]
    if name == "FrameTurn" and field in TABLE["Turn"].fields:
        return TABLE["Turn"].fields[field]
    if "description" in schemas[name]["properties"][field]:
        return None
    return common.FIELDS.get(field)
