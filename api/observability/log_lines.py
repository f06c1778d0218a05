"""Log lines: one line an event on standard error, as text or as JSON. No line holds a word of a message or a key.

An event is logged with ``event``: a name, and fields that are ids, codes and figures. Exceptions are told by their
types and places, without their messages, which may quote what they choked on. Of what other libraries log, the text is
told that they wrote, without what they would put into it.

A thread of its own writes the lines. Whoever reads the log may be slow, or stop: that must not hold up the server, so
lines that find no room are dropped, and counted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import re
import select
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from ...engine import rfc3339

OURS = "manent"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FIELDS = "manent_fields"
"""Where a record carries the fields of its event."""

MOST_WAITING = 10_000
LINES_AT_ONCE = 1000
GATHER_S = 0.02
"""How long a line waits for others to be written with it: each write takes the interpreter's lock from the server."""
CLOSE_S = 2.0
"""How long the end of a server waits for a reader of its log."""

Format = Literal["text", "json"]
Fields = dict[str, Any]

_BARE = re.compile(r"[\w./:@+{},%-]+")


def event(log: logging.Logger, level: int, name: str, **fields: Any) -> None:
    """Log an event. Fields are ids, codes and figures; what is None is left out."""
    if log.isEnabledFor(level):
        told = {key: value for key, value in fields.items() if value is not None}
        log.log(level, name, extra={FIELDS: told}, stacklevel=2)


class Lines(logging.Handler):
    """Writes records to a file, from its own thread, in the order in which they came."""

    def __init__(self, descriptor: int, form: Format) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._format = as_json if form == "json" else as_text
        self._queue: queue.SimpleQueue[logging.LogRecord | threading.Event | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="manent-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._queue.qsize() >= MOST_WAITING:
            self._dropped += 1
        else:
            self._queue.put(record)

    def flush(self) -> None:
        """Wait until all that was logged is written, unless nobody takes it."""
        written = threading.Event()
        self._queue.put(written)
        if self._thread.is_alive():
            written.wait(CLOSE_S)

    def close(self) -> None:
        """Write what waits, unless nobody takes it."""
        self._queue.put(None)
        self._thread.join(CLOSE_S)
        super().close()

    def _run(self) -> None:
        is_open = True
        while is_open:
            items = [self._queue.get()]
            if isinstance(items[0], logging.LogRecord):
                time.sleep(GATHER_S)
            with suppress(queue.Empty):
                while len(items) < LINES_AT_ONCE:
                    items.append(self._queue.get_nowait())
            is_open = None not in items
            self._write("".join(self._format(item) for item in items if isinstance(item, logging.LogRecord)))
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()
            if self._dropped:
                lost = {"count": self._take_dropped()}
                self._write(self._format(_record("log_lines_dropped", logging.WARNING, lost)))

    def _take_dropped(self) -> int:
        self.acquire()
        dropped, self._dropped = self._dropped, 0
        self.release()
        return dropped

    def _write(self, text: str) -> None:
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError:  # nobody reads it any more
                return


@contextmanager
def logging_to_stderr(form: Format, level: str) -> Iterator[Lines]:
    """Write log lines as long as this is open: our own from a level on, those of libraries from ``warning`` on."""
    root, ours = logging.getLogger(), logging.getLogger(OURS)
    handler = Lines(sys.stderr.fileno(), form)
    root.addHandler(handler)
    root.setLevel(max(logging.WARNING, LEVELS[level]))
    ours.setLevel(LEVELS[level])
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        handler.close()


def loop_failed(_: asyncio.AbstractEventLoop, context: Fields) -> None:
    """An event loop's exception handler: a task or a callback failed, and nobody waits for it. The loop's own would
    show what it held.
    """
    error = context.get("exception")
    logging.getLogger(OURS).error("a task in the background failed", exc_info=error)


def as_text(record: logging.LogRecord) -> str:
    """``2026-12-01T10:00:00.123456Z INFO request method=GET status=200``."""
    name, fields = _told(record)
    told = "".join(f" {key}={_value(value)}" for key, value in fields.items())
    return f"{_time(record)} {record.levelname} {name}{told}\n"


def as_json(record: logging.LogRecord) -> str:
    """An object with ``time``, ``level``, ``event``, and the event's fields."""
    name, fields = _told(record)
    line = {"time": _time(record), "level": record.levelname.lower(), "event": name} | fields
    return msgspec.json.encode(line, enc_hook=str).decode() + "\n"


def _told(record: logging.LogRecord) -> tuple[str, Fields]:
    """A record's event and fields. Of a library's message only the text that stands in its source is told."""
    fields: Fields | None = getattr(record, FIELDS, None)
    name = record.msg
    if fields is None:
        is_ours = record.name.partition(".")[0] == OURS
        message = record.getMessage() if is_ours else str(record.msg)
        name, fields = "message", {"logger": record.name, "message": " ".join(message.split("\n", 1)[0].split())}
    if record.exc_info and record.exc_info[1] is not None:
        fields = fields | {"exception": describe(record.exc_info[1])}
    return str(name), fields


def describe(error: BaseException) -> str:
    """Types and places of an exception and its causes, innermost first; never its message."""
    told: list[str] = []
    current: BaseException | None = error
    while current is not None and len(told) < 8:
        frames = traceback.extract_tb(current.__traceback__)[-6:]
        places = " < ".join(f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in reversed(frames))
        told.append(f"{type(current).__name__} at {places or 'no place'}")
        current = current.__cause__ or current.__context__
    return "; after ".join(told)


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-3:])


def _time(record: logging.LogRecord) -> str:
    return rfc3339(int(record.created * 1_000_000))


def _value(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if _BARE.fullmatch(text) else msgspec.json.encode(text).decode()


def _record(name: str, level: int, fields: Fields) -> logging.LogRecord:
    record = logging.LogRecord(OURS, level, "", 0, name, None, None)
    setattr(record, FIELDS, fields)
    return record
