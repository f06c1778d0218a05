"""``manent erase``: the words of a session go, its copies are named, and a dry run erases nothing."""

import asyncio
import json

import pytest

from tests.support import chatting, query

WORD = b"Schibboleth"


@pytest.fixture
def made(tmp_path):
    """A file with a session and a run of it done again: their ids."""

    async def write():
        async with chatting(tmp_path / "manent.db") as chat:
            session = await chat.create_session(model="echo/echo")
            await chat.say(session.id, WORD.decode())
            (again,) = [each async for each in chat.replay(session.id, mode="free")]
            return session.id, again.new_session_id

    return asyncio.run(write())


def erased(tmp_path):
    return query(tmp_path / "manent.db", "SELECT count(*) FROM erasures")[0][0]


def test_a_dry_run_says_what_would_go_and_who_keeps_it(call, tmp_path, made):
    """It names the session, its copy, and what is out of reach; nothing is changed."""
    session, copy = made
    result = call("erase", str(session), "--reason", "asked to", "--dry-run")
    assert result.returncode == 0
    first, second = result.stdout.splitlines()
    assert first.startswith(f"{session}: would erase ")
    assert second.startswith(f"{copy}: a copy that keeps the words of ")
    assert "backups, earlier exports, the copies" in result.stderr
    assert erased(tmp_path) == 0


def test_words_go_and_one_version_can_be_named(call, tmp_path, made):
    """One event first, found by the beginning of the session's id; then the rest."""
    session, _ = made
    result = call("erase", session.hex, "--reason", "asked to", "--version", "2", "--json")
    answer = json.loads(result.stdout)
    assert 2 in answer["erased"]
    before = erased(tmp_path)
    assert before == len(answer["erased"])
    assert call("erase", str(session), "--reason", "asked to").returncode == 0
    assert erased(tmp_path) > before
    assert call("erase", str(session), "--reason", "asked to", "--version", "99").returncode == 1
    assert call("erase", str(session)).returncode == 2
