"""What revisions share, frozen with them: a revision must do the same for ever, whatever the engine has become since.

The guards are not among it. They are the newest version's, and ``env.py`` makes them when all revisions have run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from sqlalchemy import Connection

Progress = Callable[[int, int], None]
"""Told how many events are done, and how many there are."""

APPLICATION_ID = 0x4D414E54
LAYOUT = "STRICT, WITHOUT ROWID"

TILE_LEVELS = 8
TILE_HASHES = 1 << TILE_LEVELS


def mark(connection: Connection) -> None:
    """Say in the file's header whose it is."""
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


class MerkleTree:
    """An RFC 6962 tree that grows by a leaf at a time, and gives its tiles as revision 0003 stores them: 8 levels above
    256 hashes, the root beside the 254 nodes between.
    """

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []
        self._nodes: list[list[bytes]] = [[] for _ in range(TILE_LEVELS * TILE_LEVELS + 1)]

    def append(self, leaf_hash: bytes) -> Iterator[tuple[int, int, bytes, bytes]]:
        """Add a leaf; gives (level, number, root, inner nodes) of the tiles that it completes."""
        right, rest, level = leaf_hash, self.size, 0
        while rest & 1:
            right = hashlib.sha256(b"\x01" + self._roots.pop() + right).digest()
            rest >>= 1
            level += 1
            self._nodes[level].append(right)
        self._roots.append(right)
        self.size += 1
        yield from self._completed()

    def frontier(self) -> bytes:
        """The size in 8 bytes, big-endian, and the roots of the complete subtrees, the largest first."""
        return self.size.to_bytes(8, "big") + b"".join(self._roots)

    def _completed(self) -> Iterator[tuple[int, int, bytes, bytes]]:
        number, level = self.size, 0
        while number and number % TILE_HASHES == 0:
            number //= TILE_HASHES
            first = TILE_LEVELS * level + 1
            *inner, (root,) = self._nodes[first : first + TILE_LEVELS]
            yield level, number - 1, root, b"".join(chain.from_iterable(inner))
            self._nodes[first : first + TILE_LEVELS] = [[] for _ in range(TILE_LEVELS)]
            level += 1


def grow(connection: Connection, tenant: str, tree: MerkleTree, leaf_hashes: Sequence[bytes]) -> None:
    """Let a log's tree grow, and write the tiles that are complete."""
    for leaf_hash in leaf_hashes:
        for tile in tree.append(leaf_hash):
            connection.exec_driver_sql("INSERT INTO tiles VALUES (?, ?, ?, ?, ?)", (tenant, *tile))
