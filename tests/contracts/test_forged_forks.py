"""A fork of what is not there is seen in a database, by somebody who can hash all of it anew and has no key."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest

from manent import engine
from manent.engine.audit.checkpoint_file import OutsideFile
from manent.engine.audit.verify.database import verify_file
from manent.engine.errors import EngineError
from manent.engine.sessions.projector import Catalog
from manent.engine.sessions.tables import PROJECTIONS
from tests.contracts.test_tamper import attack, rehash
from tests.support import chatting, forget_outside, query

ECHO = "echo/echo"


@pytest.fixture
def made(tmp_path):
    """A file with a session, its fork and a fork of that, and a session of another tenant; nothing outside it tells of
    it, and no checkpoint in it.
    """
    path, other = tmp_path / "chat.db", engine.Caller("other")

    async def record():
        async with chatting(path) as chat:
            stranger = await chat.create_session(model=ECHO, caller=other)
            await chat.say(stranger.id, "elsewhere", caller=other)
            root = await chat.create_session(model=ECHO)
            await chat.say(root.id, "one")
            fork = await chat.fork(root.id, version=2)
            await chat.say(fork.id, "two")
            leaf = await chat.fork(fork.id)
            await chat.say(leaf.id, "three")
            await chat.say(root.id, "later")
            return SimpleNamespace(path=path, stranger=stranger, root=root, fork=fork, leaf=leaf)

    made = asyncio.run(record())
    forget_outside(path)
    attack(path, "DELETE FROM checkpoints", "DELETE FROM verifiers")
    assert verified(path).problem is None
    return made


def verified(path):
    return verify_file(path, Catalog(), PROJECTIONS, OutsideFile(Path(f"{path}.checkpoints")), None, lambda *_: None)


def forked_at(made, session):
    sql = "SELECT position, facts FROM events WHERE tenant = 'default' AND session = ? AND type = 'session.forked'"
    ((position, facts),) = query(made.path, sql, (session.id.bytes,))
    return position, json.loads(facts)


def forge(made, session, by=0, **facts):
    """Change what a fork says of its parent, and all its versions by as much, and hash everything anew."""
    position, told = forked_at(made, session)
    data = json.dumps(told | facts, separators=(",", ":"), sort_keys=True).encode()
    moves = [
        (f"UPDATE events SET version = version + {far} WHERE session = ?", (session.id.bytes,))
        for far in (1000, by - 1000)
    ]
    attack(
        made.path, *moves, ("UPDATE events SET facts = ? WHERE tenant = 'default' AND position = ?", (data, position))
    )
    with suppress(EngineError):  # projections cannot be made of it
        rehash(made.path)
    return position


def forgeries(made):
    version = made.leaf.parent.version
    last = query(made.path, "SELECT max(version) FROM events WHERE session = ?", (made.root.id.bytes,))[0][0]
    return {
        "beyond its end": (made.leaf, 1, {"parent_version": version + 1}),
        "before its beginning": (made.leaf, 1 - version, {"parent_version": 1}),
        "zero": (made.leaf, -version, {"parent_version": 0}),
        "later": (made.fork, last - 2, {"parent_version": last}),
        "nobody": (made.leaf, 0, {"parent": str(UUID(int=7))}),
        "itself": (made.leaf, 0, {"parent": str(made.leaf.id)}),
        "another log": (made.leaf, 2 - version, {"parent": str(made.stranger.id), "parent_version": 2}),
        "not where it goes on": (made.leaf, 0, {"parent_version": version - 1}),
        "no version": (made.leaf, 0, {"parent_version": "2"}),
        "no session": (made.leaf, 0, {"parent": "root"}),
        "too large": (made.leaf, 0, {"parent_version": 1 << 60}),
    }


@pytest.mark.parametrize(
    "name",
    [
        *("beyond its end", "before its beginning", "zero", "later", "nobody", "itself", "another log"),
        *("not where it goes on", "no version", "no session", "too large"),
    ],
)
def test_a_fork_of_a_version_that_is_not_there_is_found(made, name):
    """Its parent has the version, at an earlier position of the same log; if not, the fork's position is named."""
    session, by, facts = forgeries(made)[name]
    position = forge(made, session, by, **facts)
    found = verified(made.path)
    assert found.problem is not None
    assert (found.tenant, found.position) == ("default", position), found.problem
    assert "does not stand before it" in found.problem or "does not say what it forks" in found.problem


def test_a_fork_in_the_middle_of_a_session_is_found(made):
    """A session forks once, as it begins."""
    _, told = forked_at(made, made.leaf)
    sql = "SELECT max(position), max(version) FROM events WHERE tenant = 'default' AND session = ?"
    ((position, version),) = query(made.path, sql, (made.fork.id.bytes,))
    facts = json.dumps(told | {"parent_version": version - 1}, separators=(",", ":"), sort_keys=True).encode()
    sql = "UPDATE events SET type = 'session.forked', facts = ? WHERE tenant = 'default' AND position = ?"
    attack(made.path, (sql, (facts, position)))
    with suppress(EngineError):
        rehash(made.path)
    assert verified(made.path).position == position


def test_an_honest_fork_that_was_hashed_anew_is_sound(made):
    """The forger of these tests changes nothing else."""
    forge(made, made.leaf)
    assert verified(made.path).problem is None
