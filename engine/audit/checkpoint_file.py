"""Checkpoints outside the database: a file of signed notes, one below the other, each followed by an empty line.

It is what tells whether a database is the one that it was. One file is for one database; it is only appended to, and
best lies on another disk. All its logs stand in it: the tenant is the last part of an origin.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..errors import ProofInvalid, StoreFull, StoreUnavailable, is_full
from ..log.files import sync_folder
from .notes import MAX_NOTE_CHARS, Checkpoint, Note, parse_checkpoint, parse_note

END = b"\n\n"
DASH = "\u2014 ".encode()
NOTE_LINES = 5
TAIL_BYTES = 2 * MAX_NOTE_CHARS


def outside_path(database: Path, setting: str | None) -> Path:
    return Path(f"{database}.checkpoints") if setting is None else Path(setting)


class Kept(msgspec.Struct, frozen=True):
    """A checkpoint of the file: the note, what it states, and the number of the note in the file (from 1)."""

    number: int
    note: Note
    checkpoint: Checkpoint

    @property
    def tenant(self) -> str:
        return tenant_of(self.checkpoint.origin)


def tenant_of(origin: str) -> str:
    """Whose log an origin names: ``manent/<id>/<tenant>``."""
    return origin.rpartition("/")[2]


class OutsideFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Iterator[Kept]:
        """Every checkpoint, oldest first. A note that was cut off while it was written, at the end, is passed over.

        Raises ProofInvalid for anything else that is no checkpoint, and StoreUnavailable where the file cannot be read.
        """
        for number, data in enumerate(self._records(), 1):
            yield _kept(number, data)

    def newest(self) -> dict[str, Kept]:
        """The last checkpoint of each tenant. Raises as ``read``."""
        last: dict[str, tuple[int, bytes]] = {}
        for number, data in enumerate(self._records(), 1):
            last[tenant_of(data.partition(b"\n")[0].decode("utf-8", "replace"))] = number, data
        return {tenant: _kept(number, data) for tenant, (number, data) in last.items()}

    def append(self, note: Note) -> None:
        """Add a note; it is on the disk when this returns. Raises StoreFull or StoreUnavailable where it cannot."""
        try:
            is_new = not self._path.exists()
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                end = self._end(descriptor)
                os.ftruncate(descriptor, end)
                _write_all(descriptor, str(note).encode() + b"\n", end)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                sync_folder(self._path.parent)
        except OSError as error:
            kind = StoreFull if is_full(error) else StoreUnavailable
            raise kind(f"the checkpoint file cannot be written: {error.strerror}") from error

    def _records(self) -> Iterator[bytes]:
        try:
            with self._path.open("rb") as file:
                lines: list[bytes] = []
                for line in file:
                    if line == b"\n" and lines and lines[-1].startswith(DASH):
                        yield b"".join(lines)
                        lines = []
                    else:
                        lines.append(line)
                if not _is_torn(lines):
                    yield b"".join(lines)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreUnavailable(f"the checkpoint file cannot be read: {error.strerror}") from error

    def _end(self, descriptor: int) -> int:
        """The end of the last whole note: what follows it was never acknowledged to anybody."""
        size = os.fstat(descriptor).st_size
        begin = max(0, size - TAIL_BYTES)
        found = _last_end(os.pread(descriptor, TAIL_BYTES, begin))
        if found < 0 and begin:
            raise StoreUnavailable("the checkpoint file cannot be written: what stands at its end is no checkpoint")
        return begin + max(found, 0)


def _kept(number: int, data: bytes) -> Kept:
    try:
        note = parse_note(data.decode())
        return Kept(number, note, parse_checkpoint(note.text))
    except (ProofInvalid, UnicodeDecodeError) as error:
        raise ProofInvalid(f"note {number} of the checkpoint file is none: {error}") from None


def _is_torn(lines: list[bytes]) -> bool:
    """True if lines at the end of the file can be the beginning of a note of ours: three lines, an empty one, and
    a signature, without the empty line that ends it. Anything else was whole once.
    """
    return len(lines) <= NOTE_LINES and b"\n" not in lines[:3] and lines[3:4] in ([], [b"\n"])


def _last_end(block: bytes) -> int:
    """The end of the last note in a block of the file: after an empty line that follows signatures; -1 if nowhere."""
    at = len(block)
    while (at := block.rfind(END, 0, at)) >= 0:
        line = block[block.rfind(b"\n", 0, at) + 1 : at]
        if line.startswith(DASH):
            return at + len(END)
    return -1


def _write_all(descriptor: int, data: bytes, at: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, at)
        data, at = data[written:], at + written
