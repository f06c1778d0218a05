"""The Merkle tree over a log's leaf hashes: RFC 6962 section 2.1, proofs checked as RFC 9162 section 2.1 says. Pure.

Leaves are numbered from 0: the event at position p is leaf p - 1. A *node* is the root of a complete subtree:
``node(level, index)`` covers the 2^level leaves from ``index * 2^level`` on, and level 0 are the leaf hashes. Whoever
asks for a path brings a function that knows the nodes; it is asked for nodes inside the tree only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import msgspec

HASH_BYTES = 32
SIZE_BYTES = 8

EMPTY_ROOT: bytes = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""

Node = Callable[[int, int], bytes]


def node_hash(left: bytes, right: bytes) -> bytes:
    """``SHA-256(0x01 || left || right)``."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier(msgspec.Struct, frozen=True):
    """All that a tree must remember to grow: its size, and the roots of the complete subtrees that it is made of, the
    largest first. There is one for each bit that is set in the size.
    """

    size: int = 0
    roots: tuple[bytes, ...] = ()

    def append(self, leaf_hash: bytes) -> Frontier:
        return self.extend((leaf_hash,))

    def extend(self, leaf_hashes: Iterable[bytes]) -> Frontier:
        """The frontier after many more leaves, without one in between for each."""
        size, roots = self.size, list(self.roots)
        sha256 = hashlib.sha256
        for leaf_hash in leaf_hashes:
            right, rest = leaf_hash, size
            while rest & 1:
                right = sha256(b"\x01" + roots.pop() + right).digest()
                rest >>= 1
            roots.append(right)
            size += 1
        return Frontier(size, tuple(roots))

    def root(self) -> bytes:
        return _folded(self.roots) if self.roots else EMPTY_ROOT

    def to_bytes(self) -> bytes:
        """The size in 8 bytes, big-endian, and the roots."""
        return self.size.to_bytes(SIZE_BYTES, "big") + b"".join(self.roots)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ValueError for bytes that no frontier has."""
        size, hashes = int.from_bytes(data[:SIZE_BYTES], "big"), data[SIZE_BYTES:]
        if len(data) < SIZE_BYTES or len(hashes) != size.bit_count() * HASH_BYTES:
            raise ValueError(f"{len(data)} bytes are no frontier of {size} leaves")
        return cls(size, tuple(hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)))


def subtree(hashes: Sequence[bytes]) -> list[bytes]:
    """All nodes above the leaves of a complete subtree, level by level, its root last. The number of ``hashes`` is a
    power of two.
    """
    nodes: list[bytes] = []
    sha256, level = hashlib.sha256, hashes
    while len(level) > 1:
        pairs = iter(level)
        level = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
        nodes += level
    return nodes


def inclusion_path(index: int, size: int, node: Node) -> list[bytes]:
    """The audit path of leaf ``index`` in the tree of ``size`` leaves, from the leaf up (RFC 6962 section 2.1.1).

    Raises ValueError unless ``0 <= index < size``.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size} leaves")
    begin, end, path = 0, size, []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(range_root(middle, end, node))
            end = middle
        else:
            path.append(range_root(begin, middle, node))
            begin = middle
    path.reverse()
    return path


def consistency_path(old: int, new: int, node: Node) -> list[bytes]:
    """The proof that the tree of ``new`` leaves begins with the tree of ``old`` leaves (RFC 6962 section 2.1.2); empty
    where one of them is empty or both are the same.

    Raises ValueError unless ``0 <= old <= new``.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves does not begin with one of {old}")
    if old in {0, new}:
        return []
    begin, end, path, whole = 0, new, [], True
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(range_root(middle, end, node))
            end = middle
        else:
            path.append(range_root(begin, middle, node))
            begin, whole = middle, False
    if not whole:  # else the subtree is the old tree itself, whose root the verifier has
        path.append(range_root(begin, end, node))
    path.reverse()
    return path


def verify_inclusion(leaf_hash: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """True if ``path`` proves that ``leaf_hash`` is leaf ``index`` of the tree of ``size`` leaves with that root
    (RFC 9162 section 2.1.3.2).
    """
    if not 0 <= index < size or not _hashes(leaf_hash, root, *path):
        return False
    place, last, found = index, size - 1, leaf_hash
    for sibling in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """True if ``path`` proves that the tree of ``new`` leaves begins with that of ``old`` leaves (RFC 9162 section
    2.1.4.2). The empty tree begins every tree, and needs no proof.
    """
    if not 0 <= old <= new or not _hashes(old_root, new_root, *path):
        return False
    if old == new:
        return not path and old_root == new_root
    if old == 0:
        return not path and old_root == EMPTY_ROOT
    hashes = list(path) if old & (old - 1) else [old_root, *path]
    if not hashes:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    found_old = found_new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            found_old, found_new = node_hash(sibling, found_old), node_hash(sibling, found_new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found_new = node_hash(found_new, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and found_old == old_root and found_new == new_root


def range_root(begin: int, end: int, node: Node) -> bytes:
    """The root of the leaves ``begin`` to ``end`` (excluded), where ``begin`` is 0 or a multiple of a power of two that
    is not smaller than their number.
    """
    if begin == end:
        return EMPTY_ROOT
    roots, rest = [], end - begin
    while rest:
        level = rest.bit_length() - 1
        roots.append(node(level, begin >> level))
        begin, rest = begin + (1 << level), rest - (1 << level)
    return _folded(roots)


def _hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)


def _folded(roots: Sequence[bytes]) -> bytes:
    right = roots[-1]
    for left in reversed(roots[:-1]):
        right = node_hash(left, right)
    return right


def _split(count: int) -> int:
    """The largest power of two below ``count``."""
    return 1 << ((count - 1).bit_length() - 1)
