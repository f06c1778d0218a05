"""One serving process per database file, by a lock on a file beside it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import StoreLocked, StoreUnavailable

PID_BYTES = 32
"""The file begins with the holder's pid, which older versions read with so many bytes; its address follows."""
ADDRESS_BYTES = 256


class FileLock:
    """One serving process per database file, by ``flock`` on a file beside it.

    Beside it, because closing any descriptor of the database file itself would drop SQLite's own POSIX locks.
    """

    def __init__(self, path: Path) -> None:
        self._database = path
        self._path = _beside(path)
        self._descriptor: int | None = None
        self._made = False

    def acquire(self) -> None:
        """Raises StoreLocked with the holder's pid, and with its address if it has told one."""
        while self._descriptor is None:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                refusal = _locked(self._database, descriptor)
                os.close(descriptor)
                raise refusal from None
            if _is_at(self._path, descriptor):
                self._descriptor = descriptor
            else:  # somebody has taken the file away between opening and locking it
                os.close(descriptor)
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def take_away(self) -> None:
        """Release it, and leave no file if there was none before."""
        if self._descriptor is not None and self._made:
            with suppress(OSError):
                self._path.unlink()
        self.release()

    def _open(self) -> int:
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
        try:
            try:
                descriptor = os.open(self._path, flags | os.O_EXCL, 0o600)
            except FileExistsError:
                self._made = False
                return os.open(self._path, flags, 0o600)
        except OSError as error:
            folder = self._path.parent
            raise StoreUnavailable(f"the database's folder {folder} cannot be written: {error.strerror}") from error
        self._made = True
        return descriptor


def holder(path: Path) -> str | None:
    """The pid of the process that has the database file; None if nobody has.

    The lock is asked for, shared and without waiting, and let go of at once.
    """
    refusal = _refusal(path)
    return None if refusal is None else str(refusal.extra["pid"])


def check_unlocked(path: Path) -> None:
    """Raises StoreLocked if a server has the database file. Changes nothing."""
    refusal = _refusal(path)
    if refusal is not None:
        raise refusal


def tell_address(path: Path, address: str) -> None:
    """Write down, for those who come second to a database, where this process serves it. It has the lock."""
    descriptor = os.open(_beside(path), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, f"{os.getpid()}\n".ljust(PID_BYTES).encode() + address.encode()[:ADDRESS_BYTES], 0)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the database file's lock. Raises StoreLocked with the pid of whoever holds it. If what is done meanwhile
    fails, no lock file is left where there was none.
    """
    lock = FileLock(path)
    lock.acquire()
    try:
        yield
    except BaseException:
        lock.take_away()
        raise
    finally:
        lock.release()


def _beside(path: Path) -> Path:
    return Path(f"{path}.lock")


def _refusal(path: Path) -> StoreLocked | None:
    try:
        descriptor = os.open(_beside(path), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreUnavailable(f"{_beside(path)} cannot be looked at: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _locked(path, descriptor)
    finally:
        os.close(descriptor)
    return None


def _locked(database: Path, descriptor: int) -> StoreLocked:
    """The error for a process that comes second."""
    told = os.pread(descriptor, PID_BYTES + ADDRESS_BYTES, 0)
    pid = told[:PID_BYTES].decode("ascii", "replace").strip() or "unknown"
    address = told[PID_BYTES:].decode("ascii", "replace").strip()
    where = f" at {address}" if address else ""
    extra = {"address": address} if address else {}
    return StoreLocked(f"another server (pid {pid}){where} is using the database {database}", pid=pid, **extra)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
