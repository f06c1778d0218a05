"""The power goes at any moment of a real run: its system calls are recorded, and files made as a disk could be left."""

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.crash.disks import WAYS, Disk
from tests.crash.system_calls import calls_of, recorded, why_not
from tests.crash.test_kill import ROOT, environment
from tests.crash.torture import LIMIT_S, PARTS, TIMES, chance_of, share
from tests.crash.verdicts import found_in
from tests.support import assert_rebuilds, audit, chatting, copy_secret, query

STATES = 500 * TIMES
CONTROL_STATES = 60 * TIMES
STATES_OF_A_RUN = 2500
SAMPLE = 25
"""Every so manieth state is opened by the engine, too, which goes on with it."""

TRACED = Path(__file__).with_name("traced.py")
FILES = ("chat.db", "chat.db-wal", "chat.db-journal")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("power")
    if reason := why_not(folder):
        pytest.skip(f"NOT SHOWN: what a loss of power leaves behind. {reason}")
    return folder


def run(folder, synchronous, number):
    """The calls of a run, and the leaves of its log, as the whole of it has them."""
    home = folder / f"{synchronous}-{number}"
    home.mkdir()
    command = [sys.executable, TRACED, home / "chat.db", synchronous, "2", str(number)]
    done = subprocess.run(
        recorded(folder / "trace", *map(str, command)),
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    calls = calls_of(folder / "trace", [home / name for name in FILES])
    (folder / "trace").unlink()
    return calls, found_in(home / "chat.db").leaves


class Told:
    """What the load had been told when the power went."""

    def __init__(self):
        self.position = 0
        self.frames = {}

    def hear(self, line):
        match line.decode().split():
            case "event", position:
                self.position = max(self.position, int(position))
            case "frame", turn, number:
                self.frames[turn] = int(number)

    def lost(self, found):
        """Of all this, how much is not found."""
        events = max(0, self.position - len(found.leaves))
        frames = [
            turn
            for turn, number in self.frames.items()
            if found.ended.get(turn, {"frame": 0})["frame"] < number and found.open_frames.get(turn, 0) < number
        ]
        return events + len(frames)


def states(calls, count, chance):
    """So many moments of a run, with the files that could be left then: (told, name -> content, way)."""
    after_said = [number for number, call in enumerate(calls) if call.kind == "said"]
    moments = [
        chance.choice(after_said) if chance.random() < 0.5 else chance.randrange(len(calls)) for _ in range(count)
    ]
    due, disk, told = Counter(moments), Disk(), Told()
    for number, call in enumerate(calls):
        disk.do(call)
        if call.kind == "said":
            told.hear(call.data)
        for _ in range(due[number]):
            way = chance.choice([*WAYS, None])
            yield told, disk.left(way, chance), way or "each file its own"


def lay(content, path):
    """Files with this content, and no others, at a path and beside it."""
    for name in FILES:
        file = path.with_name(name)
        file.unlink(missing_ok=True)
        if name in content:
            file.write_bytes(content[name])
    path.with_name("chat.db-shm").unlink(missing_ok=True)


async def go_on(path):
    """The engine takes the file as it is, ends what was open, and records."""
    async with chatting(path, unwitnessed=True) as chat:
        session = await chat.create_session(model="echo/echo")
        assert (await chat.say(session.id, "Is there power again?")).status == "completed"
    assert query(path, "SELECT count(*) FROM runs") == query(path, "SELECT count(*) FROM journal") == [(0,)]
    audit(path)
    assert_rebuilds(path, path.with_name("copy.db"))


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("part", PARTS)
def test_no_loss_of_power_takes_what_was_acknowledged(folder, tmp_path, tell, part):
    """In every state that a loss of power could leave, stock SQLite finds a whole file with a dense beginning of the
    log, and in it each event and each frame that anybody had been told of; and the engine goes on with it.
    """
    chance, path, ways, events = chance_of(f"power {part}"), tmp_path / "chat.db", Counter(), 0
    mine = share(STATES, part)
    for first in range(0, mine, STATES_OF_A_RUN):
        number = f"{part}-{first}"
        calls, leaves = run(folder, "full", number)
        copy_secret(folder / f"full-{number}" / "chat.db", path)  # it is on the disk before the file names it
        for told, content, way in states(calls, min(STATES_OF_A_RUN, mine - first), chance):
            lay(content, path)
            found = found_in(path)
            state = f"state {ways.total()} of run {number}, {way}"
            assert not found.damage, state
            assert found.leaves == leaves[: len(found.leaves)], state
            assert told.lost(found) == 0, state
            if ways.total() % SAMPLE == 0:
                lay(content, path)
                asyncio.run(go_on(path))
            ways[way] += 1
            events += told.position
    tell(f"{ways.total()} states after a loss of power, {events} acknowledged events in them: 0 lost. {dict(ways)}")
    assert ways.total() == mine
    assert events > 10 * mine


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("synchronous", ["normal", "off"])
def test_the_states_are_not_blind(folder, tmp_path, tell, synchronous):
    """The same run and the same states with less syncing: acknowledged events are lost, and without any the file is
    damaged. If not, the test above would see nothing either.
    """
    chance, path, lost, damaged = chance_of("power"), tmp_path / "chat.db", 0, 0
    calls, _ = run(folder, synchronous, 0)
    for told, content, _ in states(calls, CONTROL_STATES, chance):
        lay(content, path)
        found = found_in(path)
        damaged += bool(found.damage)
        lost += not found.damage and told.lost(found) > 0
    tell(
        f"{CONTROL_STATES} states with synchronous={synchronous}: {lost} lost something acknowledged, {damaged} damaged"
    )
    assert lost + damaged > CONTROL_STATES // 10  # of a damaged file nobody asks what else it has lost
    assert (damaged > 0) == (synchronous == "off")
