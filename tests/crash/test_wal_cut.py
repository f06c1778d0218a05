"""The write-ahead log is cut off anywhere: the events are exactly those whose commit lies before the cut."""

import asyncio
import os
import struct
import subprocess
import sys
from bisect import bisect_right
from itertools import pairwise
from pathlib import Path

import pytest

from tests.crash.test_kill import ROOT, environment
from tests.crash.test_power_loss import go_on
from tests.crash.torture import LIMIT_S, TIMES, chance_of
from tests.crash.verdicts import found_in
from tests.support import copy_secret, query

COMMITTED = Path(__file__).with_name("committed.py")
HEADER, FRAME_HEADER, PAGE = 32, 24, 4096
FRAME = FRAME_HEADER + PAGE
"""SQLite file format, section 4.1."""
RANDOM_CUTS = 300
SAMPLE = 40
"""Every so manieth file is opened by the engine, too."""


def run(folder, seed):
    """A file as it was before its log, the log, and the commits in it: where each ends, and how many events there are
    with it.
    """
    path = folder / f"run-{seed}.db"
    command = [sys.executable, COMMITTED, path, seed]
    done = subprocess.run(command, cwd=ROOT, env=environment(folder), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    said = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    commits = [(0, 0), *(second for first, second in pairwise([(0, 0), *said]) if second[0] > first[0])]
    wal = path.with_name(f"{path.name}-wal").read_bytes()
    assert [size for size, _ in commits[1:]] == [end for end in edges(wal) if is_commit(wal, end)]
    return path.read_bytes(), wal, commits


def edges(wal):
    """The ends of all frames."""
    return range(HEADER + FRAME, len(wal) + 1, FRAME)


def is_commit(wal, end):
    """Whether the frame that ends here is a transaction's last: it says how large the database is then."""
    return struct.unpack_from(">I", wal, end - FRAME + 4) != (0,)


def cuts(wal, chance):
    """Where it is cut, and what stands there instead of the rest."""
    yield from ((edge, b"") for edge in (0, HEADER, *edges(wal)))
    for _ in range(RANDOM_CUTS):
        at, length = chance.randrange(len(wal)), chance.randrange(3 * FRAME)
        yield at, chance.choice([b"", bytes(length), os.urandom(length), wal[:length], wal[at - FRAME :][:length]])


def alike(one, other):
    """How many bytes two texts begin with in common."""
    length = min(len(one), len(other))
    return next((at for at in range(length) if one[at] != other[at]), length)


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
def test_a_log_that_is_cut_has_what_was_committed_before_the_cut(tmp_path, tell):
    """At every edge of a frame and at random places, with nothing, zeros, noise or older frames after it: the events
    are those of the commits before the cut, all of them and no other, and the file is whole.
    """
    chance, path, tried = chance_of("cuts"), tmp_path / "chat.db", 0
    wal_path = path.with_name("chat.db-wal")
    for seed in range(TIMES):
        database, wal, commits = run(tmp_path, str(seed))
        copy_secret(tmp_path / f"run-{seed}.db", path)
        path.write_bytes(database)
        wal_path.write_bytes(wal)
        whole = found_in(path).leaves
        assert len(whole) == commits[-1][1]
        for at, rest in cuts(wal, chance):
            path.write_bytes(database)
            wal_path.write_bytes(wal[:at] + rest)
            found = found_in(path, whole=tried % 5 == 0)
            same = at + alike(wal[at : at + len(rest)], rest)  # what was put there may be what stood there
            _, expected = commits[bisect_right(commits, same, key=lambda commit: commit[0]) - 1]
            assert not found.damage, f"cut {at} of run {seed}"
            assert found.leaves == whole[:expected], f"cut {at} of run {seed}"
            if tried % SAMPLE == 0:
                path.write_bytes(database)
                wal_path.write_bytes(wal[:at] + rest)
                asyncio.run(go_on(path))
                assert query(path, "SELECT count(*) FROM events")[0][0] > expected
            tried += 1
    tell(f"{tried} cuts of write-ahead logs, the last with {len(commits) - 1} commits in {len(wal)} bytes: each exact")
