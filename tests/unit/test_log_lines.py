"""Log lines: one line an event, in two forms, with no word that was not meant to be told."""

import json
import logging
import os
import threading
import time

import pytest

from manent.api.observability import log_lines
from manent.api.observability.log_lines import Lines, as_json, as_text, describe, event, loop_failed

SECRET = "words that nobody but their reader may see"
OURS = logging.getLogger("manent.test")


class Kept(logging.Handler):
    """Keeps records."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def kept():
    """The records of everybody, while the test runs."""
    handler, root, ours = Kept(), logging.getLogger(), logging.getLogger("manent")
    root.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    yield handler.records
    root.removeHandler(handler)
    ours.setLevel(logging.NOTSET)


# --- forms ------------------------------------------------------------------------------------------------------------


def test_an_event_is_one_line_in_either_form(kept):
    """With its time, level, name and fields; a field that is None is left out."""
    event(OURS, logging.WARNING, "turn_failed", code="store_full", ms=12, model="a/b", nothing=None, of=["x", "y"])
    text, parsed = as_text(kept[0]), json.loads(as_json(kept[0]))
    time_, _, rest = text.partition(" ")
    assert rest == "WARNING turn_failed code=store_full ms=12 model=a/b of=x,y\n"
    assert parsed.pop("time") == time_
    assert time_.endswith("Z")
    assert parsed == {
        "level": "warning",
        "event": "turn_failed",
        "code": "store_full",
        "ms": 12,
        "model": "a/b",
        "of": ["x", "y"],
    }


@pytest.mark.parametrize("value", ["a b", 'a"b', "a\nb=c", "", "a\x1b[31m", "\u2028", "é=1"])
def test_a_strange_value_does_not_break_the_line(kept, value):
    """It is quoted, so that a line stays one line, and cannot look like another field or colour a terminal."""
    event(OURS, logging.INFO, "start", path=value, port=1)
    for line in (as_text(kept[0]), as_json(kept[0])):
        assert line.count("\n") == 1
        assert "\x1b" not in line
    quoted = as_text(kept[0]).partition("path=")[2].removesuffix(" port=1\n")
    assert (json.loads(quoted) if quoted.startswith('"') else quoted) == value
    assert json.loads(as_json(kept[0]))["path"] == value


def test_an_event_below_the_level_costs_nothing(kept):
    """It is not even made."""
    logging.getLogger("manent").setLevel(logging.ERROR)
    event(OURS, logging.INFO, "request")
    assert kept == []


# --- what is not told -------------------------------------------------------------------------------------------------


def failing():
    try:
        int(SECRET)
    except ValueError as error:
        raise KeyError(SECRET) from error


def test_an_exception_is_told_by_type_and_place(kept):
    """Its message may quote what it choked on, and its cause's too: neither is told."""
    try:
        failing()
    except KeyError:
        OURS.exception("a turn failed")
    for line in (as_text(kept[0]), as_json(kept[0])):
        assert SECRET not in line
        assert line.count("\n") == 1
    told = json.loads(as_json(kept[0]))
    assert told["message"] == "a turn failed"
    assert "KeyError at tests/unit/test_log_lines.py:" in told["exception"]
    assert "; after ValueError at tests/unit/test_log_lines.py:" in told["exception"]


def test_a_chain_of_exceptions_has_an_end():
    """However long it is, and where it leads back to itself."""
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert describe(first).count("ValueError") <= 8


def test_what_a_library_logs_is_told_without_its_values(kept):
    """The text in its source says what happened; what it would put into it may be anybody's words."""
    logging.getLogger("some.library").warning("could not parse %s\nfor %r", SECRET, SECRET)
    told = json.loads(as_json(kept[0]))
    assert (told["event"], told["logger"], told["message"]) == ("message", "some.library", "could not parse %s")
    assert SECRET not in as_text(kept[0])


def test_a_failed_task_is_told_without_what_it_held(kept):
    """The event loop's own words show the arguments of a callback, and the message of its exception."""
    error = ValueError(SECRET)
    loop_failed(None, {"message": f"Exception in callback {SECRET}", "exception": error, "handle": SECRET})
    loop_failed(None, {"message": SECRET})
    assert len(kept) == 2
    for record in kept:
        assert SECRET not in as_text(record) + as_json(record)
    assert "ValueError" in as_text(kept[0])


# --- the thread that writes -------------------------------------------------------------------------------------------


@pytest.fixture
def pipe():
    """Both ends."""
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue


def log_to(lines, count, start=0):
    for number in range(start, start + count):
        lines.handle(log_lines._record("line", logging.INFO, {"number": number}))


def test_lines_are_written_in_the_order_in_which_they_came(pipe):
    """All of them, before the end."""
    reading, writing = pipe
    lines = Lines(writing, "json")
    log_to(lines, 300)
    lines.close()
    os.close(writing)
    with open(reading, encoding="utf-8", closefd=False) as file:
        assert [json.loads(line)["number"] for line in file] == list(range(300))


def test_a_reader_of_the_log_that_stalls_holds_up_nobody(pipe, monkeypatch):
    """Who logs goes on at once; beyond a bound lines are dropped, and how many is told when there is room again."""
    monkeypatch.setattr(log_lines, "MOST_WAITING", 5000)
    reading, writing = pipe
    lines = Lines(writing, "json")
    begun_s = time.monotonic()
    log_to(lines, 20_000)
    assert time.monotonic() - begun_s < 10
    read = []
    thread = threading.Thread(target=lambda: read.extend(iter(lambda: os.read(reading, 1 << 20), b"")))
    thread.start()
    lines.close()
    os.close(writing)
    thread.join()
    told = [json.loads(line) for line in b"".join(read).splitlines()]
    dropped = sum(line["count"] for line in told if line["event"] == "log_lines_dropped")
    assert dropped > 0
    assert dropped + sum(line["event"] == "line" for line in told) == 20_000


def test_a_log_that_nobody_reads_does_not_keep_a_server_from_ending(pipe, monkeypatch):
    """The end waits for it for a moment only."""
    monkeypatch.setattr(log_lines, "CLOSE_S", 0.2)
    lines = Lines(pipe[1], "text")
    log_to(lines, 5000)
    begun_s = time.monotonic()
    lines.close()
    assert time.monotonic() - begun_s < 5


def test_a_log_whose_reader_has_gone_is_passed_over(pipe):
    """A pipe that is closed at the other end is no reason to stop."""
    reading, writing = pipe
    os.close(reading)
    lines = Lines(writing, "text")
    log_to(lines, 10)
    lines.close()
    assert not lines._thread.is_alive()
