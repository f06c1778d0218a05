"""YAML read into plain values, with the line and column of each.

The forms of plain values are those of YAML 1.2's core schema, which are JSON's and few more: ``no`` and ``on`` are
texts. Tags, merge keys, keys that are no texts, and keys given twice are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import isfinite
from typing import Any, NoReturn

import msgspec
import yaml

from .base import MAX_DEPTH, MAX_FILE_BYTES, MAX_NODES, InvalidConversation, Place

_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_JSON = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, Any] = {"": None, "~": None} | {
    form: value
    for word, value in {"null": None, "true": True, "false": False}.items()
    for form in (word, word.capitalize(), word.upper())
}
_UNREADABLE = re.compile("[\0\ud800-\udfff]")
_LINE_BREAKS = re.compile("[\x85\u2028\u2029]")
"""Ends of lines to PyYAML, which reads YAML 1.1, and to nobody else."""
MAX_DIGITS = 400
"""Most digits of a number."""
MIN_INTEGER, MAX_INTEGER = -(1 << 63), (1 << 64) - 1

Path = tuple[str | int, ...]


class Node(msgspec.Struct, frozen=True):
    """A value and its place; ``inside`` are the nodes of a list or of a mapping's values, ``keys`` the places of its
    keys. ``size`` counts the values, this one too.
    """

    value: Any
    place: Place
    inside: dict[str | int, Node] = {}
    keys: dict[str, Place] = {}
    size: int = 1

    def at(self, path: Path) -> Node:
        """The node at a path, or the last one on the way that there is."""
        node = self
        for step in path:
            if step not in node.inside:
                break
            node = node.inside[step]
        return node

    def key(self, path: Path) -> Place:
        """The place of the key that a path ends with."""
        *before, name = path
        parent = self.at(tuple(before))
        return parent.keys.get(str(name), parent.at((name,)).place)


def read_tree(data: bytes, file: str) -> Node:
    """Read a file of one document. Raises InvalidConversation."""
    if len(data) > MAX_FILE_BYTES:
        raise InvalidConversation(file, (1, 1), f"the file has more than {MAX_FILE_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        raise InvalidConversation(file, _end_of(before), "is not UTF-8") from None
    if found := _LINE_BREAKS.search(text):
        detail = f'the character U+{ord(found[0]):04X} cannot stand here; write "\\u{ord(found[0]):04x}"'
        raise InvalidConversation(file, _end_of(text[: found.start()]), detail)
    try:
        return _Reader(text, file).read()
    except yaml.reader.ReaderError as error:
        detail = f"the character U+{error.character:04X} cannot stand here"
        raise InvalidConversation(file, _end_of(text[: error.position]), detail) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
        context = f" ({error.context})" if error.context else ""
        raise InvalidConversation(file, place, f"{error.problem or 'is no YAML'}{context}") from None


def _end_of(text: str) -> Place:
    lines = text.split("\n")
    return len(lines), len(lines[-1]) + 1


class _Reader:
    """Builds nodes from the parser's events."""

    def __init__(self, text: str, file: str) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self._file = file
        self._anchors: dict[str, Node | None] = {}
        self._count = 0

    def read(self) -> Node:
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise InvalidConversation(self._file, (1, 1), "the file is empty")
        node = self._node(next(self._events), 1)
        next(self._events)
        if not isinstance(more := next(self._events), yaml.StreamEndEvent):
            self._refuse(more, "a file holds one document")
        return node

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            node = self._alias(event)
        else:
            self._check(event, depth)
            if event.anchor is not None:
                self._anchors[event.anchor] = None
            node = self._builder(event)(event, depth)
            if event.anchor is not None:
                self._anchors[event.anchor] = node
        self._count += node.size if isinstance(event, yaml.AliasEvent) else 1
        if self._count > MAX_NODES:
            self._refuse(event, f"the file holds more than {MAX_NODES} values")
        return node

    def _builder(self, event: Any) -> Callable[[Any, int], Node]:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar
        return self._list if isinstance(event, yaml.SequenceStartEvent) else self._mapping

    def _check(self, event: Any, depth: int) -> None:
        if depth > MAX_DEPTH:
            self._refuse(event, f"is nested more than {MAX_DEPTH} deep")
        if event.tag is not None:
            self._refuse(event, f"the tag {event.tag} is not known here; values have no tags")

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self._anchors:
            self._refuse(event, f"there is no anchor `{event.anchor}` before this alias")
        node = self._anchors[event.anchor]
        if node is None:
            self._refuse(event, f"the alias `{event.anchor}` stands inside of what it names")
        return node

    def _scalar(self, event: Any, _: int) -> Node:
        text: str = event.value
        if _UNREADABLE.search(text):  # JSON escapes a character as a pair of halves
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if _UNREADABLE.search(text):
            self._refuse(event, "holds a NUL character, or half of a surrogate pair")
        return Node(text if event.style else self._plain(event), _place(event))

    def _plain(self, event: Any) -> Any:
        """The value of a text without quotes."""
        text: str = event.value
        if text in _WORDS:
            return _WORDS[text]
        if _NO_JSON.fullmatch(text):
            self._refuse(event, f"{text} is no number that JSON has; quote it if it is a text")
        if len(text) > MAX_DIGITS and (_NUMBER.fullmatch(text) or _BASED.fullmatch(text)):
            self._refuse(event, f"a number has at most {MAX_DIGITS} digits; quote it if it is a text")
        if _INTEGER.fullmatch(text):
            return self._bounded(event, int(text))
        if _BASED.fullmatch(text):
            return self._bounded(event, int(text, 0))
        return self._bounded(event, float(text)) if _NUMBER.fullmatch(text) else text

    def _bounded(self, event: Any, value: float) -> float:
        """A number that JSON can carry: whole ones in 64 bits."""
        if not (MIN_INTEGER <= value <= MAX_INTEGER if isinstance(value, int) else isfinite(value)):
            self._refuse(event, f"{event.value} is too large for a number; quote it if it is a text")
        return value

    def _list(self, event: Any, depth: int) -> Node:
        nodes: list[Node] = []
        while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
            nodes.append(self._node(item, depth + 1))
        inside: dict[str | int, Node] = dict(enumerate(nodes))
        return Node([node.value for node in nodes], _place(event), inside, size=1 + sum(node.size for node in nodes))

    def _mapping(self, event: Any, depth: int) -> Node:
        inside: dict[str | int, Node] = {}
        keys: dict[str, Place] = {}
        while not isinstance(item := next(self._events), yaml.MappingEndEvent):
            key = self._key(item, depth + 1)
            if key in keys:
                self._refuse(item, f"the key `{key}` stands here twice; first in line {keys[key][0]}")
            keys[key] = _place(item)
            inside[key] = self._node(next(self._events), depth + 1)
        values = {str(key): node.value for key, node in inside.items()}
        size = 1 + len(keys) + sum(node.size for node in inside.values())
        return Node(values, _place(event), inside, keys, size)

    def _key(self, event: Any, depth: int) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._refuse(event, "a key is a text")
        node = self._node(event, depth)
        if not isinstance(node.value, str):
            self._refuse(event, f"a key is a text; quote it: '{event.value}'")
        if node.value == "<<" and not event.style:
            self._refuse(event, "there are no merge keys here")
        return node.value

    def _refuse(self, event: Any, detail: str) -> NoReturn:
        raise InvalidConversation(self._file, _place(event), detail)


def _place(event: Any) -> Place:
    return event.start_mark.line + 1, event.start_mark.column + 1
