"""Reading a database file where nothing can be written: on a read-only medium, in a folder of somebody else's.

SQLite makes two files beside a database before it reads it, and cannot there. A file that was closed and lies on a
read-only file system is opened as one that never changes. A write-ahead log that still holds something is never passed
over: both files are copied to a private folder, and read there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ...errors import StoreUnavailable
from .lock import holder

ATTEMPTS = 3
"""How often a file is copied that changes meanwhile."""


@contextmanager
def readable(path: Path) -> Iterator[Path]:
    """A path at which a database file can be read for as long as this lasts: in its place, or as a private copy.
    Raises StoreUnavailable where a copy is needed and cannot be made.
    """
    if os.access(path.parent, os.W_OK) or never_changes(path) or _held(path):
        yield path
        return
    with TemporaryDirectory(prefix="manent-") as folder:
        copy = Path(folder) / path.name
        try:
            _copy(path, copy)
        except OSError as error:
            raise StoreUnavailable(f"a private copy to read could not be made: {error.strerror}") from error
        yield copy


def never_changes(path: Path) -> bool:
    """True if a file lies on a read-only file system, and was closed: all it holds is in it, and nobody has it open."""
    return _on_read_only_file_system(path) and not _size(_log_of(path)) and not _held(path)


def _held(path: Path) -> bool:
    """True if a server may have the file: it does, or its lock is hidden from us. Then it is read beside it, or not."""
    try:
        return holder(path) is not None
    except StoreUnavailable:
        return True


def _on_read_only_file_system(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:  # there is no file: whoever opens it says so
        return False


def _log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _copy(path: Path, copy: Path) -> None:
    """Both files, as they were at one moment. Raises OSError, or StoreUnavailable where they do not keep still."""
    for _ in range(ATTEMPTS):
        before = _state(path)
        shutil.copyfile(path, copy)
        _log_of(copy).unlink(missing_ok=True)
        if _size(_log_of(path)):
            shutil.copyfile(_log_of(path), _log_of(copy))
        if _state(path) == before:
            return
    raise StoreUnavailable("the database is being written while it is copied, and nobody holds its lock")


def _state(path: Path) -> list[tuple[int, int, int]]:
    """The state of a file and its write-ahead log, which a write changes."""
    there = [file.stat() for file in (path, _log_of(path)) if file.exists()]
    return [(each.st_ino, each.st_size, each.st_mtime_ns) for each in there]
