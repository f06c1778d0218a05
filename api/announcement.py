"""Announcements of ``manent serve``: at its start, what it serves, to whom and where; at its end, what it waits for."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ..engine import Engine, Load, Settings, database_path, version
from .http.key_ring import KeyRing
from .observability.log_lines import event

log = logging.getLogger("manent.server")

Say = Callable[[str], None]

BROWSER_PATH = "/console/"
MORE = {
    "local": "pip install 'manent[local]'",
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
}
"""Provider -> what adds it."""
KILOBYTE = 1000


class Start(msgspec.Struct, frozen=True):
    """The facts of a server that starts. ``keys`` is None where none is needed."""

    version: str
    database: str
    size_bytes: int
    model: str
    providers: Sequence[str]
    tools: Sequence[str]
    keys: int | None
    address: str


async def start_of(chat: Engine, ring: KeyRing, address: str) -> Start:
    """The start of a server that listens."""
    path = database_path(chat.settings.database).absolute()
    return Start(
        version=version(),
        database=str(path),
        size_bytes=sum(file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.exists()),
        model=chat.default_model,
        providers=chat.providers.names(),
        tools=[tool.name for tool in await chat.tools()],
        keys=None if ring.open else len(ring),
        address=address,
    )


class Announcer:
    """Speaks for a server: to a person on standard error, and to programs that read its log in log lines. ``say``
    writes for the person, ``listens`` the one line on standard output.
    """

    def __init__(self, settings: Settings, say: Say, listens: Say) -> None:
        self._settings = settings
        self._say = say
        self.listens = listens
        self._to_people = settings.log_format == "text"
        self._to_programs = not (self._to_people and sys.stderr.isatty())

    def notice(self, text: str) -> None:
        """A remark on the way."""
        if self._to_people:
            self._say(text)
        else:
            event(log, logging.INFO, "notice", message=text)

    def start(self, start: Start) -> None:
        if self._to_programs:
            keys = "open" if start.keys is None else start.keys
            event(log, logging.INFO, "start", **(msgspec.structs.asdict(start) | {"keys": keys}))
        if self._to_people:
            self._say(describe_start(start, self._settings))

    def shutdown(self, load: Load) -> None:
        """The server was asked to end, and waits for what runs."""
        if self._to_programs:
            waits = {"turns": load.open_turns, "streams": load.readers, "drain_s": self._settings.drain_s}
            event(log, logging.INFO, "shutdown", **waits)
        if self._to_people:
            self._say(describe_shutdown(load, self._settings))

    def end(self) -> None:
        if self._to_programs:
            event(log, logging.INFO, "stopped")


def describe_start(start: Start, settings: Settings) -> str:
    """The start for a person, an item a line."""
    more = [f"{how} adds {name}" for name, how in MORE.items() if name not in start.providers]
    keys = "none: anybody on this machine may call, and nobody else (`manent key` makes keys)"
    if start.keys is not None:
        keys = f"{start.keys} in {settings.api_keys_file}, which is read again when it changes"
    items = {
        "database": f"{start.database} ({_size(start.size_bytes)})",
        "model": f"{start.model}, where a session names none",
        "providers": "; ".join([", ".join(start.providers), *more]),
        "tools": ", ".join(start.tools) or "none",
        "keys": keys,
        "browse": start.address + BROWSER_PATH,
        "stop": "Ctrl-C",
    }
    return "\n".join([f"manent {start.version}", *(f"  {name:<10} {item}" for name, item in items.items())])


def describe_shutdown(load: Load, settings: Settings) -> str:
    """Describe to a person what a shutdown waits for."""
    counts = {"turn": load.open_turns, "stream": load.readers}
    waits = " and ".join(_count(count, noun) for noun, count in counts.items() if count)
    if not waits:
        return "stopping"
    return f"stopping: waiting for {waits}, at most {settings.drain_s} s; Ctrl-C again stops at once"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _size(size_bytes: int) -> str:
    size, units = float(size_bytes), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= KILOBYTE and len(units) > 1:
        size, units = size / KILOBYTE, units[1:]
    return f"{size:.3g} {units[0]}"
