"""Overwriting what SQLite leaves behind in a database file's pages: bytes that belong to no row any more.

``secure_delete`` overwrites a row where it was deleted. But when a b-tree is balanced, rows move to other pages, and
where a page is rebuilt from scratch (``rebuildPage`` in SQLite's ``btree.c``) the copies that they leave between its
cell pointers and its first cell stay until something else is written there. Measured: of a thousand rows erased in a
busy file, three could still be read from such gaps. Nothing in SQL reaches them but a VACUUM, which writes the whole
file twice; here it is read once, and only what is not zero in such a gap is written.

A gap is nobody's: SQLite never reads it, so a write that is cut short by a crash does no harm. File format:
https://www.sqlite.org/fileformat2.html, sections 1.3 (header), 1.5 (freelist) and 1.6 (b-tree pages).
"""

from __future__ import annotations

import os
import struct

from ...errors import StoreCorrupt

HEADER_BYTES = 100
READ_PAGES = 4096
ZEROS = bytes(1 << 16)
MOST_PAGES = 1 << 25
"""From this page number on, the first byte of an overflow page (its successor's number) can look like a b-tree's."""

_INTERIOR, _LEAF = frozenset({2, 5}), frozenset({10, 13})
_MAGIC = b"SQLite format 3\x00"
_PAGE_HEADER = struct.Struct(">BHHH")  # type, first freeblock, number of cells, start of the cells
_FREEBLOCK = struct.Struct(">HH")  # next, size


def scrub(descriptor: int) -> int:
    """Zero every gap of a database file that is open for reading and writing; how many there were.

    The caller makes sure that nobody writes the file meanwhile, that its write-ahead log is empty, and that no
    connection that will write later has pages of it in its cache. ``descriptor`` must not be closed while this process
    has connections to the file: the system would drop their locks.
    """
    page_bytes, pages = _measure(descriptor)
    scrubbed = 0
    for first in range(0, pages, READ_PAGES):
        chunk = os.pread(descriptor, page_bytes * min(READ_PAGES, pages - first), page_bytes * first)
        for start in range(0, len(chunk) - page_bytes + 1, page_bytes):
            header = start + (HEADER_BYTES if first == start == 0 else 0)
            for at, size in _gaps(chunk, start, header, page_bytes):
                if not chunk.startswith(ZEROS[:size], at):
                    os.pwrite(descriptor, bytes(size), page_bytes * first + at)
                    scrubbed += 1
    os.fsync(descriptor)
    return scrubbed


def _measure(descriptor: int) -> tuple[int, int]:
    """Bytes of a page, and number of pages."""
    header = os.pread(descriptor, HEADER_BYTES, 0)
    if header[:16] != _MAGIC:
        raise StoreCorrupt("the file has no SQLite header")
    page_bytes = int.from_bytes(header[16:18], "big")
    page_bytes = 1 << 16 if page_bytes == 1 else page_bytes
    pages = os.fstat(descriptor).st_size // page_bytes
    if pages >= MOST_PAGES:
        raise StoreCorrupt("the file is too large to be scrubbed", pages=pages)
    return page_bytes, pages


def _gaps(chunk: bytes, start: int, header: int, page_bytes: int) -> list[tuple[int, int]]:
    """(place in the chunk, size) of what belongs to no cell in the page at ``start``; none if it is no b-tree's."""
    kind = chunk[header]
    if kind not in _LEAF and kind not in _INTERIOR:
        return []
    _, freeblock, cells, content = _PAGE_HEADER.unpack_from(chunk, header)
    content = content or 1 << 16
    pointers_end = header + (12 if kind in _INTERIOR else 8) + 2 * cells
    if not pointers_end <= start + content <= start + page_bytes:
        return []  # damaged: a scrubber does not make it worse
    gaps = [(pointers_end, start + content - pointers_end)]
    while freeblock and freeblock + 4 <= page_bytes:
        following, size = _FREEBLOCK.unpack_from(chunk, start + freeblock)
        if freeblock + size > page_bytes or 0 < following <= freeblock:
            return []
        gaps.append((start + freeblock + 4, size - 4))
        freeblock = following
    return gaps
