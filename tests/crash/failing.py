"""A disk that fails when told to: SQLite's own file system in this process, with some of its functions replaced.

SQLite lets a program bring its own file system (sqlite.org/vfs.html). This one is the platform's, copied; a few of the
copy's pointers lead here first. So it works without a compiler, on any SQLite whose symbols can be found.

A sync that fails does what it does on Linux: what was to be synced counts as synced from then on and is not tried
again, although it may be nowhere; and reading gives it back as if it were there (Rebello and others, "Can Applications
Recover from fsync Failures?", 2020). ``FailingDisk.disk`` knows what is really there.
"""

import _sqlite3
import ctypes
import sqlite3
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_int64, c_void_p, memmove, pointer, string_at
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.crash.disks import Disk
from tests.crash.system_calls import Call

# Of a file to open, the pointer to its name: SQLite keeps it, and a copy that Python made would be gone.
OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
DELETE = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
CLOSE = CFUNCTYPE(c_int, c_void_p)
WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
CUT = CFUNCTYPE(c_int, c_void_p, c_int64)
SYNC = CFUNCTYPE(c_int, c_void_p, c_int)

IOERR_WRITE, IOERR_FSYNC = 10 | 3 << 8, 10 | 4 << 8


class FileSystem(Structure):
    """``sqlite3_vfs``."""

    _fields_ = [
        *((name, c_int) for name in ("version", "file_size", "longest_path")),
        *((name, c_void_p) for name in ("next", "name", "data")),
        *(("open", OPEN), ("delete", DELETE), ("others", c_void_p * 14)),
    ]


class Methods(Structure):
    """``sqlite3_io_methods``."""

    _fields_ = [
        *(("version", c_int), ("close", CLOSE), ("read", c_void_p), ("write", WRITE)),
        *(("cut", CUT), ("sync", SYNC), ("others", c_void_p * 13)),
    ]


class OpenFile(Structure):
    """``sqlite3_file``."""

    _fields_ = [("methods", POINTER(Methods))]


class Fault(NamedTuple):
    """The ``nth`` call of a ``kind`` (write, which cutting is too, or sync) fails with ``code``; ``for_good``: and all
    that come after it. Of a write that fails, the first ``half`` may have been done.
    """

    kind: str
    nth: int
    code: int
    for_good: bool = False
    half: bool = False


@dataclass
class Handle:
    """An open file and the functions that it had. ``distrusted``: a sync has failed since it was opened."""

    name: str
    methods: Methods
    distrusted: bool = False


class FailingDisk:
    """Fails as ``arm`` says. ``counts``: calls of each kind since then; ``failed``: how many of them failed; ``sins``:
    writes through handles that were open when a sync failed.
    """

    def __init__(self, path):
        self.disk = Disk()
        self.sins = []
        self._names = {str(path) + end: path.name + end for end in ("", "-wal", "-journal")}
        self._handles = {}
        self._tables = {}
        self._paths = {name: Path(place) for place, name in self._names.items()}
        self._room = None
        self.arm(None)

    def leave(self, room):
        """From now on files grow by so many bytes together, and no further: the disk is full then. None: by any."""
        self._room = room

    def arm(self, fault):
        self._fault = fault
        self.counts = {"write": 0, "sync": 0}
        self.failed = 0

    def take(self, path):
        """A file that is there from the beginning."""
        self._make(path.name)
        self.disk.do(Call("write", path.name, 0, path.read_bytes()))
        self.disk.do(Call("sync", path.name))

    def _make(self, name):
        self.disk.do(Call("make", name))
        self.disk.do(Call("sync"))  # names are not what is tried here

    def _strikes(self, kind):
        """The code that this call must fail with, or 0."""
        self.counts[kind] += 1
        fault = self._fault
        if fault is None or kind != fault.kind:
            return 0
        count = self.counts[kind]
        if count != fault.nth and not (fault.for_good and count > fault.nth):
            return 0
        self.failed += 1
        return fault.code

    # --- what SQLite calls --------------------------------------------------------------------------------------------

    def mount(self, platform):
        """The platform's file system, with this in front."""
        mounted = FileSystem()
        memmove(byref(mounted), byref(platform), ctypes.sizeof(FileSystem))

        def opened(_, path, file, flags, flags_out):
            code = platform.open(ctypes.addressof(platform), path, file, flags, flags_out)
            if code == 0 and path and (name := self._names.get(string_at(path).decode())):
                self._make(name)
                self._watch(file, name)
            return code

        def delete(_, path, sync):
            code = platform.delete(ctypes.addressof(platform), path, sync)
            if code == 0 and (name := self._names.get(path.decode())):
                self.disk.do(Call("unlink", name))
                self.disk.do(Call("sync"))
            return code

        self._kept = ctypes.create_string_buffer(b"failing")
        mounted.name = ctypes.addressof(self._kept)
        mounted.open, mounted.delete = OPEN(opened), DELETE(delete)
        return mounted

    def _watch(self, address, name):
        file = OpenFile.from_address(address)
        original = ctypes.addressof(file.methods.contents)
        if original not in self._tables:
            watched = Methods()
            memmove(byref(watched), original, ctypes.sizeof(Methods))
            watched.close, watched.write = CLOSE(self._close), WRITE(self._write)
            watched.cut, watched.sync = CUT(self._cut), SYNC(self._sync)
            self._tables[original] = watched
        self._handles[address] = Handle(name, Methods.from_address(original))
        file.methods = pointer(self._tables[original])

    def _close(self, file):
        return self._handles.pop(file).methods.close(file)

    def _write(self, file, data, size, at):
        handle = self._handles[file]
        self._note(handle)
        code = self._strikes("write")
        if code:
            size = size // 2 if self._fault.half else 0
        elif self._room is not None:
            grows = max(0, at + size - self._paths[handle.name].stat().st_size)
            if grows > self._room:
                code, size, grows = sqlite3.SQLITE_FULL, size - grows + self._room, self._room
            self._room -= grows
        if size:
            code = handle.methods.write(file, data, size, at) or code
            self.disk.do(Call("write", handle.name, at, string_at(data, size)))
        return code

    def _cut(self, file, size):
        handle = self._handles[file]
        self._note(handle)
        code = self._strikes("write") or handle.methods.cut(file, size)
        if code == 0:
            self.disk.do(Call("cut", handle.name, size))
        return code

    def _sync(self, file, flags):
        handle = self._handles[file]
        code = self._strikes("sync") or handle.methods.sync(file, flags)
        if code == 0:
            self.disk.do(Call("sync", handle.name))
            return 0
        self.disk.forget(handle.name)
        for each in self._handles.values():
            each.distrusted = True
        return code

    def _note(self, handle):
        if handle.distrusted:
            self.sins.append(handle.name)


def sqlite():
    """SQLite's own functions. Raises OSError or AttributeError where they cannot be reached."""
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    library.sqlite3_vfs_find.restype = POINTER(FileSystem)
    library.sqlite3_vfs_find.argtypes = [c_char_p]
    for name in ("sqlite3_vfs_register", "sqlite3_vfs_unregister"):
        getattr(library, name).argtypes = [POINTER(FileSystem), c_int][: 2 if name.endswith("_register") else 1]
    library.sqlite3_libversion.restype = c_char_p
    assert library.sqlite3_libversion().decode() == sqlite3.sqlite_version
    return library


@contextmanager
def failing_disk(path):
    """Whatever opens ``path`` in this process until the end has it on a disk that can fail; all must be closed then."""
    library, disk = sqlite(), FailingDisk(Path(path).absolute())
    platform = library.sqlite3_vfs_find(None)
    mounted = disk.mount(platform.contents)
    library.sqlite3_vfs_register(byref(mounted), 1)
    try:
        yield disk
    finally:
        library.sqlite3_vfs_register(platform, 1)
        library.sqlite3_vfs_unregister(byref(mounted))
    assert not disk._handles, "a file is open still"
