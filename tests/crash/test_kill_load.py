"""The server is killed with SIGKILL under a load of 32 sessions, started again, and killed again."""

import shutil
import threading
import time
from collections import Counter
from contextlib import suppress

import pytest

from manent import engine
from manent.engine.log.merkle import Frontier
from tests.crash.test_kill import GONE, Talker, forking, text_of
from tests.crash.torture import LIMIT_S, PARTS, SEED, TIMES, chance_of, share
from tests.support import assert_rebuilds, audit, query
from tests.witness import Witness

KILLS = 50 * TIMES
KILLS_OF_A_FILE = 10
"""Then comes a new one: what is looked at after each kill grows with the file."""
SESSIONS = 32
CHECKPOINT_EVERY_S = 0.03


class Load:
    """Talkers on one file, and all that they were told."""

    def __init__(self, path, seed):
        self.path = path
        self.talkers = [Talker(f"{seed}/{number}/{SEED}") for number in range(SESSIONS)]
        self.doubter = Doubter()

    def together(self, work):
        """Each does this at once, in a thread of its own, the doubter too; raises what one of them raised."""
        failures = []

        def run(talker):
            try:
                work(talker)
            except BaseException as error:  # noqa: BLE001 - raised below
                failures.append(error)

        threads = [threading.Thread(target=run, args=(talker,)) for talker in (*self.talkers, self.doubter)]
        for thread in threads:
            thread.start()

        def join():
            for thread in threads:
                thread.join()
            if failures:
                raise failures[0]

        return join

    def remember(self):
        """What was acknowledged since the last start shall be proved after the next."""
        for talker in self.talkers:
            proved, talker.proved = talker.proved, len(talker.appended)
            self.doubter.told += [(talker.session, version, name) for _, version, name, _ in talker.appended[proved:]]

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
        self.doubter.check_dead(dead)
        rows = query(
            dead, "SELECT position, version, lower(hex(id)), bytes FROM events JOIN bodies USING (tenant, position)"
        )
        found = {(position, version, raw): body for position, version, raw, body in rows}
        for talker in self.talkers:
            for position, version, name, content in talker.appended:
                assert content.encode() in found[position, version, name.replace("-", "")]
        return events


class Doubter:
    """One who asks for checkpoints all the time while the others talk, and for proofs of all that they were told."""

    def __init__(self):
        self.witness = Witness()
        self.told = []
        self.session = None

    def talk(self, client):
        with suppress(*GONE):
            self.session = self.session or client.begin(title="doubts")
            while True:
                with client.answer("POST", "/api/log/checkpoint", {}) as response:
                    note = response.read().decode()
                    assert response.status == 200, note
                self.witness.see(note, keys_of(client))
                time.sleep(CHECKPOINT_EVERY_S)

    def check(self, client):
        """Each checkpoint that was ever seen is one of this log, and what was told since the last time is on record."""
        if not self.witness.roots:
            return
        keys = keys_of(client)
        with client.answer("GET", "/api/log/checkpoint") as response:
            newest = self.witness.see(response.read().decode(), keys)
        assert newest >= max(self.witness.roots)
        for size in self.witness.roots:
            self.witness.extend(client.call("GET", f"/api/log/consistency?from={size}&to={newest}"))
        for session, version, name in self.told:
            leaf = self.witness.include(client.call("GET", f"/api/sessions/{session}/events/{version}/proof"), keys)
            assert leaf["id"] == name
        self.told = []

    def check_dead(self, path):
        """The file as a kill has left it holds the log of each checkpoint that was seen."""
        leaves = [leaf for (leaf,) in query(path, "SELECT leaf_hash FROM events ORDER BY position")]
        frontier = Frontier()
        for size, root in sorted(self.witness.roots.items()):
            frontier = frontier.extend(leaves[frontier.size : size])
            assert (frontier.size, frontier.root()) == (size, root)


def keys_of(client):
    """The log's verifier keys, as it hands them out."""
    with client.answer("GET", "/api/log/key") as response:
        return response.read().decode().split()


@pytest.fixture
def servers(tmp_path):
    with forking(tmp_path) as servers:
        yield servers


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("part", PARTS)
def test_kills_under_load_lose_nothing(tmp_path, servers, tell, part):
    """After each kill: every acknowledged append is in the file, positions are dense and every leaf is right, the
    projections are what the log gives, and each checkpoint that was seen is one of this log. After the start: no turn
    is open, each turn's stream begins with every byte that was received of it, the log is proved to begin with that of
    each checkpoint seen, and each acknowledged append to be in it. At the end the file verifies.
    """
    totals, mine = Counter(), share(KILLS, part)
    for first in range(0, mine, KILLS_OF_A_FILE):
        load = Load(tmp_path / f"{part}-{first}.db", f"{part}/{first}")
        kill_often(load, servers, min(KILLS_OF_A_FILE, mine - first), totals)
    tell(
        f"{totals['kills']} kills under {SESSIONS} sessions: {totals['events']} events, {totals['appends']} appends "
        f"acknowledged and {totals['bytes']} bytes of answers received, 0 lost; {totals['checkpoints']} checkpoints "
        f"seen, {totals['inclusions']} proofs of inclusion and {totals['consistencies']} of consistency checked; "
        f"{totals['verified']} events verified in {totals['files']} files"
    )
    assert totals["kills"] == mine
    assert totals["verified"] >= totals["events"]
    for name, least in {"appends": 1, "bytes": 100, "inclusions": 1, "consistencies": 1}.items():
        assert totals[name] > least * mine, name


def kill_often(load, servers, kills, totals):
    """So many kills on one file, and a last start that finds all in order."""
    start, kill = servers
    chance = chance_of(f"kills of {load.path.name}")
    for number in range(kills + 1):
        pid, client = start("--database", str(load.path))
        runs = "SELECT count(*) FROM runs"
        assert query(load.path, runs) == query(load.path, "SELECT count(*) FROM journal") == [(0,)], number
        load.together(lambda talker, client=client: talker.check(client))()
        if number == kills:
            kill(pid)
            break
        join = load.together(lambda talker, client=client: talker.talk(client))
        time.sleep(chance.uniform(0.05, 0.6))
        kill(pid)
        join()
        load.remember()
        totals.update({"kills": 1, "bytes": load.received()})
        events = load.check_dead(load.path.parent)
    verified = engine.verify_database(str(load.path))
    assert verified.problem is None, verified
    totals.update(load.doubter.witness.checked)
    totals.update({"events": events, "appends": sum(len(talker.appended) for talker in load.talkers)})
    totals.update({"verified": verified.events, "files": 1})
    load.path.unlink()
