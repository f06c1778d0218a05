"""A log's Merkle tree as it is stored, and read.

It is stored by *tiles*, as C2SP tlog-tiles cuts it: tile ``number`` of ``level`` spans 8 levels of the tree above 256
hashes. Those of level 0 stand on leaf hashes, which are in ``events`` already; those of level n + 1 on the roots of
256 tiles of level n. A row holds the root and, level by level, the 254 nodes between. It is written once, by the
append that completes it; so 255 appends of 256 write nothing of the tree but the frontier in the head's row, and
a proof reads one row for eight of its hashes. What stands above a tile's worth of hashes that is not complete yet is
computed, from at most 255 of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple, Self

from sqlalchemy import Connection, bindparam, insert, select

from ...errors import StoreCorrupt
from ..merkle import HASH_BYTES, Frontier, node_hash, range_root, subtree
from .clauses import same
from .driver import Prepared
from .tables import events, heads, tiles

TILE_LEVELS = 8
TILE_HASHES = 1 << TILE_LEVELS

_insert_tile = Prepared(insert(tiles))
_inner = Prepared(select(tiles.c.inner).where(*same(tiles, "tenant", "level", "number")))
_frontier = Prepared(select(heads.c.frontier).where(*same(heads, "tenant")))
# tenant, first, end
_leaf_hashes = Prepared(
    select(events.c.leaf_hash)
    .where(
        events.c.tenant == bindparam("tenant_"),
        events.c.position > bindparam("first_"),
        events.c.position <= bindparam("end_"),
    )
    .order_by(events.c.position)
)
# tenant, level, first, end
_roots = Prepared(
    select(tiles.c.root)
    .where(
        *same(tiles, "tenant", "level"),
        tiles.c.number >= bindparam("first_"),
        tiles.c.number < bindparam("end_"),
    )
    .order_by(tiles.c.number)
)


class Tile(NamedTuple):
    """A complete tile, as its row is."""

    level: int
    number: int
    root: bytes
    inner: bytes


class Growing:
    """A tree that grows by a leaf at a time, and keeps the nodes of the tiles that are open."""

    def __init__(self, frontier: Frontier = Frontier()) -> None:  # noqa: B008 - a frozen value
        self.size = frontier.size
        self._roots = list(frontier.roots)
        self._nodes: list[list[bytes]] = [[] for _ in range(TILE_LEVELS * TILE_LEVELS + 1)]

    @classmethod
    def resume(cls, connection: Connection, tenant: str, frontier: Frontier) -> Self:
        """The stored tree of this frontier. Raises StoreCorrupt where it cannot be had."""
        tree = cls(frontier)
        level, end = 0, frontier.size
        while end:
            nodes = hashes(connection, tenant, level, end - end % TILE_HASHES, end)
            for above in range(1, TILE_LEVELS):
                nodes = [node_hash(left, right) for left, right in zip(nodes[::2], nodes[1::2], strict=False)]
                tree._nodes[TILE_LEVELS * level + above] = nodes
            level, end = level + 1, end // TILE_HASHES
        return tree

    def append(self, leaf_hash: bytes) -> None:
        sha256, roots, nodes = hashlib.sha256, self._roots, self._nodes
        right, rest, level = leaf_hash, self.size, 0
        while rest & 1:
            right = sha256(b"\x01" + roots.pop() + right).digest()
            rest >>= 1
            level += 1
            nodes[level].append(right)
        roots.append(right)
        self.size += 1

    def frontier(self) -> Frontier:
        return Frontier(self.size, tuple(self._roots))

    def completed(self) -> list[Tile]:
        """The tiles that the last leaf has made complete; to be asked for after each leaf that does."""
        tiles, number = list[Tile](), self.size
        while number and number % TILE_HASHES == 0:
            number //= TILE_HASHES
            first = TILE_LEVELS * len(tiles) + 1
            *inner, (root,) = self._nodes[first : first + TILE_LEVELS]
            tiles.append(Tile(len(tiles), number - 1, root, b"".join(chain.from_iterable(inner))))
            self._nodes[first : first + TILE_LEVELS] = [[] for _ in range(TILE_LEVELS)]
        return tiles


def grow(connection: Connection, tenant: str, tree: Growing, leaf_hashes: Iterable[bytes]) -> None:
    """Let a log's tree grow by leaves whose events are written, and write the tiles that they complete."""
    for leaf_hash in leaf_hashes:
        tree.append(leaf_hash)
        if tree.size % TILE_HASHES == 0:
            for tile in tree.completed():
                _insert_tile(connection, tenant, *tile)


def hashes(connection: Connection, tenant: str, level: int, first: int, end: int) -> list[bytes]:
    """The hashes ``first`` to ``end`` (excluded) on which tiles of a level stand.

    Raises StoreCorrupt where one of them is missing.
    """
    if level == 0:
        rows = _leaf_hashes(connection, tenant, first, end)
    else:
        rows = _roots(connection, tenant, level - 1, first, end)
    found = [row[0] for row in rows]
    if len(found) != end - first:
        raise StoreCorrupt(f"of the hashes {first} to {end - 1} of level {level}, {end - first - len(found)} are gone")
    return found


class Tree:
    """The stored tree of a log, as one snapshot has it: a ``Node`` for ``audit.merkle``.

    What was read is kept, so make a new one for each proof.
    """

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant
        self._tiles: dict[tuple[int, int], bytes | None] = {}
        self._hashes: dict[tuple[int, int], bytes] = {}

    def __call__(self, level: int, index: int) -> bytes:
        """The root of the complete subtree ``index`` of 2^level leaves. Raises StoreCorrupt where it cannot be had."""
        tile_level, above = divmod(level, TILE_LEVELS)
        if above == 0:
            return self._hash(tile_level, index)
        inner = self._tile(tile_level, index >> (TILE_LEVELS - above))
        if inner is None:
            first = index << above
            return subtree(hashes(self._connection, self._tenant, tile_level, first, first + (1 << above)))[-1]
        place = TILE_HASHES - (TILE_HASHES >> (above - 1)) + (index & ((1 << (TILE_LEVELS - above)) - 1))
        return inner[place * HASH_BYTES : (place + 1) * HASH_BYTES]

    def root(self, size: int) -> bytes:
        """The root of the first ``size`` leaves."""
        return range_root(0, size, self)

    def frontier(self, size: int) -> Frontier:
        """The frontier of the first ``size`` leaves."""
        roots, begin = [], 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                roots.append(self(level, begin >> level))
                begin += 1 << level
        return Frontier(size, tuple(roots))

    def _hash(self, tile_level: int, index: int) -> bytes:
        key = (tile_level, index)
        if key not in self._hashes:
            self._hashes[key] = hashes(self._connection, self._tenant, tile_level, index, index + 1)[0]
        return self._hashes[key]

    def _tile(self, tile_level: int, number: int) -> bytes | None:
        key = (tile_level, number)
        if key not in self._tiles:
            row = _inner(self._connection, self._tenant, tile_level, number).fetchone()
            self._tiles[key] = None if row is None else row[0]
        return self._tiles[key]


def stored_frontier(connection: Connection, tenant: str) -> Frontier:
    """The frontier in the head's row; empty for a log that has not begun. Raises StoreCorrupt for what is none."""
    row = _frontier(connection, tenant).fetchone()
    try:
        return Frontier() if row is None else Frontier.from_bytes(row[0])
    except ValueError as error:
        raise StoreCorrupt(f"the head of {tenant} is damaged: {error}") from error
