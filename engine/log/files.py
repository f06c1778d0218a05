"""Files beside the database that must be whole after a loss of power: written, synced, and named by a synced folder."""

from __future__ import annotations

import os
from pathlib import Path

PRIVATE = 0o600


def write_new(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Write a file whole or not at all: beside its place first, then moved there. Raises OSError."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: without it a new file can be gone after a loss of power, however well its
    contents were synced. Raises OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
