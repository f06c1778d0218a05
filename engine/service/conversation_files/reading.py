"""A conversation file read and checked: what is wrong with it is refused by line and column before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, ClassVar, NoReturn

import msgspec
from msgspec import UNSET
from msgspec import inspect as types

from .base import (
    MAX_FILE_BYTES,
    SCRIPTED,
    CalledTool,
    ConversationSpec,
    Expectations,
    InvalidConversation,
    Place,
    ToolSpec,
    listed,
)
from .paths import read_path
from .tree import Node, Path, read_tree

_AT = re.compile(r"(.*?)(?: - at `\$?(.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([\w-]+)|\[(\d+)\]")
_NAMES = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "empty",
}


class ConversationFile:
    """A conversation that was read from a file: what is said to a model, and what is expected of it."""

    MAX_BYTES: ClassVar[int] = MAX_FILE_BYTES
    """The most that a file may have."""

    def __init__(self, name: str, spec: ConversationSpec, tree: Node) -> None:
        self.name = name
        self._spec = spec
        self._tree = tree

    @property
    def turn_count(self) -> int:
        return len(self._spec.turns)

    def place(self, *path: str | int) -> Place:
        """Line and column of a value."""
        return self._tree.at(path).place

    def key_place(self, *path: str | int) -> Place:
        """Line and column of the key that a path ends with."""
        return self._tree.key(path)

    def value(self, *path: str | int) -> Any:
        """A value as it stands in the file."""
        return self._tree.at(path).value

    def refuse(self, place: Place, detail: str, **extra: object) -> NoReturn:
        """Raises InvalidConversation."""
        raise InvalidConversation(self.name, place, detail, **extra)


def read_conversation(data: bytes, name: str) -> ConversationFile:
    """Read a conversation file (YAML, in UTF-8); ``name`` stands in errors.

    Raises InvalidConversation, which says by ``file``, ``line`` and ``column`` where it is wrong.
    """
    tree = read_tree(data, name)
    try:
        spec = msgspec.convert(tree.value, ConversationSpec)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), tree, name) from None
    file = ConversationFile(name, spec, tree)
    _check_answers(file, spec)
    _check_tools(file, spec)
    for number, turn in enumerate(spec.turns):
        _check_expectations(file, turn.expect, ("turns", number, "expect"), spec.tool_names)
    _check_faults(file, spec)
    return file


def spec_of(file: ConversationFile) -> ConversationSpec:
    """What stands in the file."""
    return file._spec  # noqa: SLF001 - of this folder, and no part of the public class


def nearest(name: str, known: Iterator[str] | tuple[str, ...]) -> str:
    """``; did you mean …?``, or nothing where no known name is near."""
    found = get_close_matches(name, list(known), 1)
    return f"; did you mean `{found[0]}`?" if found else ""


# --- what msgspec refuses ---------------------------------------------------------------------------------------------


def _refusal(message: str, tree: Node, file: str) -> InvalidConversation:
    """The error of a value that does not fit, at its line and column and in plain words."""
    found = _AT.fullmatch(message)
    assert found is not None
    said, path = found[1], _path(found[2] or "")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", said, re.DOTALL)
    if unknown is None:
        return InvalidConversation(file, tree.at(path).place, _in_words(said, path))
    name, known = unknown[1], tuple(_fields_at(path))
    there = f"; there is {', '.join(known)}" if known else ""
    detail = f"there is no key `{name}`{_of(path)}{nearest(name, known) or there}"
    return InvalidConversation(file, tree.key((*path, name)), detail)


def _path(text: str) -> Path:
    """The steps of msgspec's path, as far as they name one value."""
    parts = _STEP.finditer(text.partition("[...]")[0])
    return tuple(part[1] if part[1] is not None else int(part[2]) for part in parts)


def _of(path: Path) -> str:
    names = [step for step in path if isinstance(step, str)]
    return f" in `{names[-1]}`" if names else " in a conversation file"


def _in_words(said: str, path: Path) -> str:
    missing = re.fullmatch(r"Object missing required field `(.*)`", said)
    if missing is not None:
        return f"`{missing[1]}` is missing{_of(path)}"
    wrong = re.fullmatch(r"Expected (.*?)(?:, got (.*))?", said, re.DOTALL)
    name = next((f"`{step}` " for step in reversed(path) if isinstance(step, str)), "this ")
    if wrong is None:
        return f"{name}- {said}" if path else said
    came = f", and is {_kinds(wrong[2])}" if wrong[2] else ""
    return f"{name}must be {_kinds(wrong[1])}{came}"


def _kinds(said: str) -> str:
    """``a text or a list`` of `` `str | array` ``."""

    def named(found: re.Match[str]) -> str:
        return " or ".join(_NAMES.get(kind, kind) for kind in found[1].split(" | "))

    return re.sub(r"`([^`]*)`", named, said)


def _fields_at(path: Path) -> Iterator[str]:
    """The keys that a mapping at this path may have."""
    kinds = [types.type_info(ConversationSpec)]
    for step in path:
        kinds = [inner for kind in kinds for inner in _inside(kind, step)]
    for kind in kinds:
        for each in _options(kind):
            if isinstance(each, types.StructType):
                yield from (field.encode_name for field in each.fields)


def _inside(kind: types.Type, step: str | int) -> Iterator[types.Type]:
    for each in _options(kind):
        if isinstance(each, types.StructType):
            yield from (field.type for field in each.fields if field.encode_name == step)
        elif isinstance(each, types.VarTupleType | types.ListType) and isinstance(step, int):
            yield each.item_type


def _options(kind: types.Type) -> Iterator[types.Type]:
    """The types that a value may have, without what is written about them."""
    if isinstance(kind, types.Metadata):
        yield from _options(kind.type)
    elif isinstance(kind, types.UnionType):
        for each in kind.types:
            yield from _options(each)
    else:
        yield kind


# --- what fits, and cannot be -----------------------------------------------------------------------------------------


def _check_answers(file: ConversationFile, spec: ConversationSpec) -> None:
    """The scripted model has an answer to every turn, and no other model is given some."""
    if not spec.has_answers:
        if spec.model == SCRIPTED:
            file.refuse(file.place("model"), "the model is `scripted`, and no turn has `answers`")
        return
    for number, turn in enumerate(spec.turns):
        if spec.model not in {UNSET, SCRIPTED} and turn.answers is not UNSET:
            place = file.key_place("turns", number, "answers")
            file.refuse(place, f"there are answers only where the model is `scripted`; here it is {spec.model}")
        if turn.answers is UNSET:
            file.refuse(file.place("turns", number), "this turn has no `answers`, and others have")


def _check_tools(file: ConversationFile, spec: ConversationSpec) -> None:
    for number, name in enumerate(spec.tool_names):
        if name in spec.tool_names[:number]:
            file.refuse(file.place("tools", number), f"there are two tools named `{name}`")
        tool = spec.tools[number]
        if isinstance(tool, ToolSpec):
            place = file.place("tools", number, "parameters")
            if tool.parameters.get("type") != "object":
                file.refuse(place, '`parameters` is a JSON Schema of type "object"')
            if not isinstance(tool.parameters.get("properties", {}), dict):
                file.refuse(file.place("tools", number, "parameters", "properties"), "`properties` is a mapping")


def _check_expectations(file: ConversationFile, expect: Expectations, where: Path, tools: tuple[str, ...]) -> None:
    for number, pattern in enumerate(listed(expect.matches)):
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            file.refuse(file.place(*where, "matches", number), f"the regular expression cannot be read: {error}")
    for path in expect.json if isinstance(expect.json, dict) else ():
        try:
            read_path(path)
        except ValueError as error:
            file.refuse(file.key_place(*where, "json", path), str(error))
    for number, called in enumerate(listed(expect.tool_called)):
        name = called.name if isinstance(called, CalledTool) else called
        if name not in tools:
            place = file.place(*where, "tool_called", number)
            file.refuse(place, f"no tool of this file is named `{name}`{nearest(name, tools)}")


def _check_faults(file: ConversationFile, spec: ConversationSpec) -> None:
    seen: set[tuple[object, object]] = set()
    for number, fault in enumerate(spec.faults):
        if fault.turn > len(spec.turns):
            file.refuse(file.place("faults", number, "turn"), f"there is no turn {fault.turn}, but {len(spec.turns)}")
        if (fault.turn, fault.attempt) in seen:
            file.refuse(file.place("faults", number), "there is another fault for this turn and attempt")
        seen.add((fault.turn, fault.attempt))


def given(value: Any, default: Any = None) -> Any:
    """A value, or the default where it was left out."""
    return default if value is UNSET else value
