"""One pass over a log: every leaf from its columns and its body, the tree that grows from them, and whatever states a
root on the way.

``walk`` stops at the first position at which something is wrong, and memory does not grow with the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ...clock import id_of
from ...errors import Broken
from ...log import codec
from ...log.base import Connection
from ...log.merkle import Frontier
from ...log.sql import scan
from ...log.sql.documents import NAMING, SALTED_SINCE, named_by
from ...log.sql.rows import session_id
from ...log.sql.tree import TILE_HASHES, TILE_LEVELS, Growing
from ...log.sqlite.connection import DRIVER_ERRORS, meaning_of

PLAIN = 0
TOLD_EVERY = 1000
UNREADABLE = (ValueError, TypeError, AttributeError, msgspec.MsgspecError)
"""What reading a row raises whose values are of other types than were written: damage, or somebody's doing."""

Names = Sequence[tuple[int, str]]


class Stated(msgspec.Struct, frozen=True):
    """A root that somebody stated for a size of the log; ``by`` says who."""

    root: bytes
    by: str


class Named(msgspec.Struct):
    """A document that events name: at which positions. ``kept``: it must be there, because one of them has its words,
    or names it without a salt.
    """

    first: int
    last: int
    salted: bool
    kept: bool = False


class Walked(msgspec.Struct):
    """The findings of a pass over a log. ``documents``: those that its events name."""

    events: int = 0
    bodies: int = 0
    tiles: int = 0
    recorded_at: int = 0
    frontier: Frontier = Frontier()
    documents: dict[str, Named] = {}


def walk(
    connection: Connection,
    tenant: str,
    names: Names,
    stated: Mapping[int, Sequence[Stated]],
    progress: Callable[[int], None],
) -> Walked:
    """Everything about a log that can be seen in order. ``stated``: the roots to hold it against, by size.

    Raises Broken at the first position where something is wrong.
    """
    tree, walked = Growing(), Walked()
    read = _Reader(tenant, names)
    good = 0
    for position, row in _rows(connection, tenant, tree):
        tree.append(read.leaf_hash(position, row))
        walked.bodies += row[14] is not None
        if position % TILE_HASHES == 0:
            walked.tiles += _check_tiles(connection, tenant, tree)
            if position % TOLD_EVERY < TILE_HASHES:
                progress(position)
        if position in stated:
            _check_stated(tenant, tree, stated[position], good)
            good = position
    walked.events, walked.recorded_at, walked.frontier = tree.size, read.recorded_at, tree.frontier()
    walked.documents = read.documents
    progress(tree.size)
    return walked


def _rows(connection: Connection, tenant: str, tree: Growing) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The rows with the positions they should have. Raises Broken where one cannot be read."""
    rows = scan.rows(connection, tenant)
    while True:
        position = tree.size + 1
        try:
            row = next(rows, None)
        except DRIVER_ERRORS as error:
            detail = f"position {position} cannot be read: {meaning_of(error).detail}"
            raise Broken(detail, tenant=tenant, position=position) from error
        if row is None:
            return
        yield position, row


class _Reader:
    """Turns a row into its leaf hash, or says what is wrong with it."""

    def __init__(self, tenant: str, names: Names) -> None:
        self.recorded_at = 0
        self.documents: dict[str, Named] = {}
        self._tenant = tenant
        self._names = dict(names)
        self._origin = ""

    def leaf_hash(self, expected: int, row: tuple[Any, ...]) -> bytes:
        """Raises Broken; the reader's state is then of no use any more."""
        try:
            return self._checked(expected, row)
        except UNREADABLE:
            raise self._broken(expected, "has columns that no event can have") from None

    def _checked(self, expected: int, row: tuple[Any, ...]) -> bytes:
        position = row[0]
        if position != expected:
            raise self._broken(expected, f"is missing: the next one there is {position}")
        self._origin = self._names.get(position, self._origin)
        found = codec.leaf_hash(self._leaf(row))
        if found != row[13]:
            raise self._broken(position, "has other columns than were hashed, or another hash")
        self._check_body(position, row)
        if row[4] == NAMING and (digest := named_by(row[4], msgspec.json.decode(row[10]))):
            self._note_document(digest, position, salted=row[5] >= SALTED_SINCE, has_words=row[14] is not None)
        if row[7] < self.recorded_at:
            raise self._broken(position, "was recorded before the one before it")
        self.recorded_at = row[7]
        return found

    def _note_document(self, digest: str, position: int, *, salted: bool, has_words: bool) -> None:
        named = self.documents.setdefault(digest, Named(position, position, salted))
        named.last = position
        named.kept |= has_words or not salted

    def _leaf(self, row: tuple[Any, ...]) -> bytes:
        position, session, version, event_id, kind, schema, actor, recorded_at, causation, *rest = row[:13]
        caused_by = None if causation is None else id_of(causation)
        place = (self._tenant, position, session_id(session), version, id_of(event_id))
        return codec.leaf_bytes(self._origin, (*place, kind, schema, actor, recorded_at, caused_by, *rest))

    def _check_body(self, position: int, row: tuple[Any, ...]) -> None:
        length, commitment, (salt, encoding, body, by_position) = row[11], row[12], row[14:]
        if salt is None:
            if by_position is None:
                raise self._broken(position, "has lost its words, and no erasure says so")
        elif by_position is not None:
            raise self._broken(position, "is erased, and its words are still there")
        elif encoding != PLAIN:
            raise self._broken(position, f"has words stored in a way that is not known: {encoding}")
        elif len(body) != length or codec.commitment(salt, body) != commitment:
            raise self._broken(position, "has other words than were committed to")

    def _broken(self, position: int, what: str) -> Broken:
        return Broken(f"position {position} {what}", tenant=self._tenant, position=position)


def _check_stated(tenant: str, tree: Growing, stated: Sequence[Stated], good: int) -> None:
    root = tree.frontier().root()
    for each in stated:
        if each.root != root:
            place = (
                f"position {good + 1}" if good + 1 == tree.size else f"of the positions {good + 1} to {tree.size} one"
            )
            raise Broken(
                f"{place} is not what {each.by} covers: all was hashed anew since", tenant=tenant, position=good + 1
            )


def _check_tiles(connection: Connection, tenant: str, tree: Growing) -> int:
    """Hold the tiles that are complete now against those stored; how many they are."""
    tiles = tree.completed()
    for tile in tiles:
        found = scan.tile(connection, tenant, tile.level, tile.number)
        if found != (tile.root, tile.inner):
            first = tree.size - (TILE_HASHES << TILE_LEVELS * tile.level) + 1
            what = "is missing" if found is None else "is not what the events say"
            where = f"positions {first} to {tree.size}"
            raise Broken(f"the tile of the {where} {what}", tenant=tenant, position=first)
    return len(tiles)
