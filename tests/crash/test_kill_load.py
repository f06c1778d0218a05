"""The server is killed with SIGKILL under a load of 32 sessions, started again, and killed again."""

import shutil
import threading
import time
from collections import Counter

import pytest

from tests.crash.test_kill import Talker, forking, text_of
from tests.crash.torture import LIMIT_S, SEED, TIMES, chance_of
from tests.support import assert_rebuilds, audit, query

KILLS = 50 * TIMES
KILLS_OF_A_FILE = 10
"""Then comes a new one: what is looked at after each kill grows with the file."""
SESSIONS = 32


class Load:
    """Talkers on one file, and all that they were told."""

    def __init__(self, path, seed):
        self.path = path
        self.talkers = [Talker(f"{seed}/{number}/{SEED}") for number in range(SESSIONS)]

    def together(self, work):
        """Each does this at once, in a thread of its own; raises what one of them raised."""
        failures = []

        def run(talker):
            try:
                work(talker)
            except BaseException as error:  # noqa: BLE001 - raised below
                failures.append(error)

        threads = [threading.Thread(target=run, args=(talker,)) for talker in self.talkers]
        for thread in threads:
            thread.start()

        def join():
            for thread in threads:
                thread.join()
            if failures:
                raise failures[0]

        return join

    def received(self):
        """Bytes of answers that were received and are not checked yet."""
        return sum(len(text_of(frames).encode()) for talker in self.talkers for frames in talker.streams.values())

    def check_dead(self, folder):
        """The file as the kill has left it: all that was acknowledged, densely, and projections that follow from it."""
        dead = folder / "dead.db"
        for end in ("", "-wal", "-shm"):
            dead.with_name(dead.name + end).unlink(missing_ok=True)
        for end in ("", "-wal"):  # a copy: whoever opens and closes the file itself cleans up after the server
            if (file := self.path.with_name(self.path.name + end)).exists():
                shutil.copy(file, dead.with_name(dead.name + end))
        events = audit(dead) if query(dead, "SELECT count(*) FROM heads") != [(0,)] else 0
        assert_rebuilds(dead, folder / "copy.db")
        rows = query(
            dead, "SELECT position, version, lower(hex(id)), bytes FROM events JOIN bodies USING (tenant, position)"
        )
        found = {(position, version, raw): body for position, version, raw, body in rows}
        for talker in self.talkers:
            for position, version, name, content in talker.appended:
                assert content.encode() in found[position, version, name.replace("-", "")]
        return events


@pytest.fixture
def servers(tmp_path):
    with forking(tmp_path) as servers:
        yield servers


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
def test_kills_under_load_lose_nothing(tmp_path, servers, tell):
    """After each kill: every acknowledged append is in the file, positions are dense and every leaf is right, the
    projections are what the log gives; and after the start no turn is open, and each turn's stream begins with every
    byte that was received of it.
    """
    start, kill = servers
    chance, totals = chance_of("kills"), Counter()
    for first in range(0, KILLS, KILLS_OF_A_FILE):
        load = Load(tmp_path / f"{first}.db", first)
        for number in range(min(KILLS_OF_A_FILE, KILLS - first) + 1):
            pid, client = start("--database", str(load.path))
            runs = "SELECT count(*) FROM runs"
            assert query(load.path, runs) == query(load.path, "SELECT count(*) FROM journal") == [(0,)], number
            load.together(lambda talker, client=client: talker.check(client))()
            if number == KILLS_OF_A_FILE:
                kill(pid)
                break
            join = load.together(lambda talker, client=client: talker.talk(client))
            time.sleep(chance.uniform(0.05, 0.6))
            kill(pid)
            join()
            totals.update({"kills": 1, "bytes": load.received()})
            events = load.check_dead(tmp_path)
        totals.update({"events": events, "appends": sum(len(talker.appended) for talker in load.talkers)})
        load.path.unlink()
    tell(
        f"{totals['kills']} kills under {SESSIONS} sessions: {totals['events']} events, {totals['appends']} appends "
        f"acknowledged and {totals['bytes']} bytes of answers received, 0 lost"
    )
    assert totals["kills"] == KILLS
    assert totals["appends"] > KILLS
    assert totals["bytes"] > 100 * KILLS
