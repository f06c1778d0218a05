"""The key ring: the API keys of a running server, as their file says now.

The file is looked at twice a second, in a thread. What it holds then counts for every request from then on, and an
empty list lets nobody in. An event stream, or a request that waits, ends when its key was taken out or changed, or has
expired. A file that is gone, or that cannot be read as keys, changes nothing and is logged. Whether a server needs keys
at all is decided at its start.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..observability.log_lines import event
from .auth import LOCAL_IDENTITY, Identity, Key, Keys, KeysFileError, parse_keys, read_keys

log = logging.getLogger("manent.server")

LOOK_S = 0.5
SETTLED_S = 2.0
"""A file that was written so lately may be written again without a new time."""
VISIT = "visit"
"""In a request's state: its visit, if a key let it in."""

Stamp = tuple[int, int, int]


class Visit:
    """A request that is being answered under a key. ``ended``: the key holds no more; whoever waits on the client's
    behalf is told through ``on_end``.
    """

    __slots__ = ("ended", "key", "on_end")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.ended = False
        self.on_end: Callable[[], object] | None = None

    def end(self) -> None:
        self.ended = True
        if self.on_end is not None:
            self.on_end()


class KeyRing:
    """See the module. Without a file there are no keys, and everybody on this machine may call."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path is not None else None
        self._stamp, self._settled = None if self._path is None else _stamp(self._path), False
        self._refused: tuple[Stamp | None, str] | None = None
        self._keys = Keys(()) if path is None else read_keys(path)
        self._visits: set[Visit] = set()

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def open(self) -> bool:
        """True if no key is needed."""
        return self._path is None

    def identify(self, authorization: str | None) -> Identity:
        """The identity behind an ``Authorization`` header. Raises Problem 401."""
        return LOCAL_IDENTITY if self.open else self._keys.identify(authorization, time.time())

    def named(self, name: str) -> Key | None:
        """The key of this id, if it is valid now."""
        return self._keys.named(name, time.time())

    @contextmanager
    def visiting(self, state: dict[str, Any]) -> Iterator[None]:
        """Keep watch over a request as long as it is answered, if a key let it in."""
        identity: Identity | None = state.get("identity")
        if identity is None or identity.key is None:
            yield
            return
        visit = state[VISIT] = Visit(identity.key)
        self._visits.add(visit)
        try:
            yield
        finally:
            self._visits.discard(visit)

    async def follow(self) -> None:
        """Look at the file again and again."""
        while self._path is not None:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look(self._path)
            except Exception:  # the keys that there are go on to count
                log.exception("the file of API keys could not be looked at")

    async def _look(self, path: Path) -> None:
        keys = await asyncio.to_thread(self._changed, path)
        if keys is not None:
            self._take(keys)
        now_s = time.time()
        for visit in list(self._visits):
            if not visit.ended and not self._keys.holds(visit.key, now_s):
                visit.end()

    def _changed(self, path: Path) -> Keys | None:
        """The keys of the file if it is another one than before; in a thread."""
        stamp = _stamp(path)
        if stamp == self._stamp and self._settled:
            return None
        self._stamp, self._settled = stamp, stamp is None or time.time() - stamp[0] / 1e9 > SETTLED_S
        try:
            keys = parse_keys(path)
        except KeysFileError as error:
            self._refuse(stamp, error.reason)
            return None
        self._refused = None
        return keys

    def _refuse(self, stamp: Stamp | None, reason: str) -> None:
        """Say it once of each state of the file."""
        if self._refused != (stamp, reason):
            self._refused = (stamp, reason)
            event(log, logging.ERROR, "api_keys_refused", reason=reason, keys=len(self._keys))

    def _take(self, keys: Keys) -> None:
        added, gone = keys.ids() - self._keys.ids(), self._keys.ids() - keys.ids()
        if keys != self._keys:
            level = logging.INFO if len(keys) else logging.WARNING
            event(log, level, "api_keys_read", keys=len(keys), added=sorted(added), gone=sorted(gone))
            self._keys = keys


def tell_of_end(state: dict[str, Any], call: Callable[[], object]) -> None:
    """Have a function called when the key that let a request in is no longer valid; at once, if that has been so."""
    visit: Visit | None = state.get(VISIT)
    if visit is not None:
        visit.on_end = call
        if visit.ended:
            call()


def has_ended(state: dict[str, Any]) -> bool:
    """True if the key that let a request in is no longer valid."""
    visit: Visit | None = state.get(VISIT)
    return visit is not None and visit.ended


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
