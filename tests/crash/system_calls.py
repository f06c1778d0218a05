"""What a process did to the files of a folder, and what it said meanwhile: read from a record that strace made."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

TRACED = "openat,write,pwrite64,ftruncate,fsync,fdatasync,unlink"
"""What SQLite changes files with on Linux."""
STRAYS = "pwritev,pwritev2,writev,fallocate,copy_file_range,truncate,rename,renameat,renameat2,unlinkat,link,linkat"
"""What it could, too, and does not: a record that has one of these on a file is not understood."""
KINDS = {b"pwrite64": "write", b"ftruncate": "cut", b"fsync": "sync", b"fdatasync": "sync", b"openat": "make"}

_UNFINISHED = b" <unfinished ...>"
_RESUMED = re.compile(rb"<\.\.\. \w+ resumed>")
_CALL = re.compile(rb"(\w+)\((.*)\) += (\d+)(?:<.*>)?$")
_DESCRIPTOR = re.compile(rb"(\d+)<([^>]*)>")
_TEXT = re.compile(rb'"([^"]*)"')


class Call(NamedTuple):
    """``kind``: make, write, cut (to a size), sync, unlink of the file ``name``; or said, which has no file. The
    folder's own name is empty. ``at``: offset or size.
    """

    kind: str
    name: str = ""
    at: int = 0
    data: bytes = b""


def why_not(folder):
    """Why strace cannot record here; nothing if it can."""
    if shutil.which("strace") is None:
        return "there is no strace: apt-get install strace"
    tried = subprocess.run(recorded(folder / "tried", "true"), capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"strace may not trace: {tried.stderr.strip()}"


def recorded(trace, *command):
    """A command, with its system calls written to the file ``trace``, every text whole and hexadecimal."""
    calls = ["-e", f"trace={TRACED},{STRAYS}", "-e", "signal=none"]
    return ["strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", str(1 << 24), *calls, "-o", str(trace), *command]


def calls_of(trace, files):
    """The calls that changed one of these files or synced their folder, and what was said, in order.

    A call counts from when it returned; what is said, from when it was begun to be said: the stricter way, both.
    """
    names = {str(file): file.name for file in files} | {str(files[0].parent): ""}
    begun, calls = {}, []
    for line in Path(trace).read_bytes().split(b"\n"):
        thread, _, text = line.partition(b" ")
        text = text.strip()
        if text.endswith(_UNFINISHED):
            begun[thread] = text = text.removesuffix(_UNFINISHED)
            if text.startswith(b"write(1<"):
                calls.append(_said(text))
        elif resumed := _RESUMED.match(text):
            text = begun.pop(thread) + text[resumed.end() :]
            if not text.startswith(b"write(1<"):
                calls += _calls(text, names)
        else:
            calls += _calls(text, names)
    return calls


def _calls(text, names):
    if text.startswith(b"write(1<"):
        return [_said(text)]
    found = _CALL.match(text)
    if found is None:  # it failed, or is no call
        return []
    name, arguments, result = found.groups()
    if name in {b"openat", b"unlink"}:
        file = names.get(_plain(_TEXT.search(arguments)[1]).decode())
        wanted = name == b"unlink" or b"O_CREAT" in arguments
        return [Call(KINDS.get(name, "unlink"), file)] if wanted and file is not None else []
    descriptor = _DESCRIPTOR.match(arguments)
    file = names.get(_plain(descriptor[2]).decode()) if descriptor else None
    if file is None:
        return []
    assert name in KINDS, f"a {name.decode()} of {file}: add it to TRACED"
    if name == b"pwrite64":
        data = _plain(_TEXT.search(arguments)[1])
        return [Call("write", file, int(arguments.rpartition(b", ")[2]), data[: int(result)])]
    return [Call(KINDS[name], file, int(arguments.rpartition(b", ")[2]) if name == b"ftruncate" else 0)]


def _said(text):
    return Call("said", data=_plain(_TEXT.search(text)[1]).strip())


def _plain(text):
    """Bytes from strace's hexadecimal."""
    return bytes.fromhex(text.replace(b"\\x", b"").decode())
