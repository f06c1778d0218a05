"""A disk that forgets what was not synced: calls are done on it, and it can be lost at any moment.

The model is POSIX's, and harsher than file systems of today: what was written since a file's last sync may be there or
not, in any order, in parts; a name may be new, old or gone until its folder was synced. Of hardware it asks what SQLite
does: a sector of 512 bytes is written or not, and a byte that is not written stays as it is.
"""

from itertools import pairwise

SECTOR, PAGE = 512, 4096
WAYS = ("kept", "lost", "reordered", "torn at sectors", "torn at pages", "cut short", "only grown")
"""What may have become of the writes since a file's last sync. In one state each file goes its own way, or all the
same.
"""


class File:
    """``synced`` is on the disk for good, ``since`` are writes (offset, bytes) and cuts (size, None) after that."""

    def __init__(self):
        self.synced = bytearray()
        self.since = []

    def sync(self):
        for at, data in self.since:
            put(self.synced, at, data)
        self.since = []

    def left(self, way, chance):
        """What could be found of it."""
        content = bytearray(self.synced)
        for at, data in self._survivors(way, chance):
            put(content, at, data)
        return bytes(content)

    def _survivors(self, way, chance):
        if way == "kept":
            return self.since
        if way == "lost":
            return []
        if way == "cut short":
            *whole, (at, data) = self.since[: chance.randint(1, len(self.since))] or [(0, b"")]
            return [*whole, (at, data and data[: chance.randrange(len(data)) // SECTOR * SECTOR])]
        some = [each for each in self.since if chance.random() < 0.5]
        if way == "only grown":  # the size was written, the content not yet
            return [(at, data and (data if chance.random() < 0.5 else bytes(len(data)))) for at, data in self.since]
        if way == "reordered":
            return chance.sample(some, len(some))
        return [part for at, data in self.since for part in parts(at, data, way, chance)]


def parts(at, data, way, chance):
    """Some of the sectors, or pages, of a write; a cut is done or not."""
    if data is None:
        return [(at, data)] * chance.randint(0, 1)
    size = SECTOR if way == "torn at sectors" else PAGE
    edges = [at, *range(at - at % size + size, at + len(data), size), at + len(data)]
    pieces = [(start, data[start - at : end - at]) for start, end in pairwise(edges)]
    return [piece for piece in pieces if chance.random() < 0.5]


def put(content, at, data):
    """Write, or cut if ``data`` is None. A hole is zeros."""
    if data is None:
        del content[at:]
        content.extend(bytes(at - len(content)))
        return
    content.extend(bytes(max(0, at - len(content))))
    content[at : at + len(data)] = data


class Disk:
    """A folder of files. ``do`` plays a call; ``left`` gives what could be found if the power went now."""

    def __init__(self):
        self._names = {}
        self._synced_names = {}
        self._renamed = []

    def do(self, call):
        match call.kind:
            case "make" if call.name not in self._names:
                self._name(call.name, File())
            case "unlink":
                self._name(call.name, None)
            case "write":
                self._names[call.name].since.append((call.at, call.data))
            case "cut":
                self._names[call.name].since.append((call.at, None))
            case "sync" if call.name:
                self._names[call.name].sync()
            case "sync":
                self._synced_names, self._renamed = dict(self._names), []

    def forget(self, name):
        """A sync of it has failed: what it should have synced is not on the disk, and will not be tried again."""
        self._names[name].since.clear()

    def _name(self, name, file):
        self._renamed.append((name, file))
        self._names[name] = file
        if file is None:
            del self._names[name]

    def left(self, way, chance):
        """Name -> content. ``way`` None: each file its own."""
        own = way or chance.choice(WAYS)
        names = self._synced_names | dict(
            each for each in self._renamed if own == "kept" or (own != "lost" and chance.random() < 0.5)
        )
        return {
            name: file.left(way or chance.choice(WAYS), chance) if file.since else bytes(file.synced)
            for name, file in sorted(names.items())
            if file is not None
        }
