"""``manent retain``: what is old is erased, of whom it was asked, and a dry run erases nothing."""

import asyncio
import json

import pytest

from manent import engine
from tests.support import chatting, query

WORD = b"Schibboleth"


@pytest.fixture
def database(tmp_path):
    """A file with three sessions: two of them tagged, one of these under legal hold."""

    async def write():
        async with chatting(tmp_path / "manent.db") as chat:
            for metadata in ({"plan": "free"}, {"plan": "free"}, {"plan": "paid"}):
                session = await chat.create_session(model="echo/echo", metadata=metadata)
                await chat.append_message(session.id, WORD.decode())
                if metadata["plan"] == "free":
                    held = session.id
            await chat.update_session(held, legal_hold=True)

    asyncio.run(write())
    return tmp_path / "manent.db"


def erased(database):
    return query(database, "SELECT count(*) FROM erasures")[0][0]


def test_a_dry_run_says_what_would_go(call, database):
    """It names each session and changes nothing."""
    result = call("retain", "--days", "0", "--dry-run")
    assert result.returncode == 0
    assert sorted(line.split(": ")[1] for line in result.stdout.splitlines()) == [
        "kept, legal_hold",
        "would erase 2 event(s)",
        "would erase 2 event(s)",
    ]
    assert "4 event(s) of 2 session(s) would be erased" in result.stderr
    assert erased(database) == 0


def test_only_what_is_tagged_and_old_goes(call, database):
    """With a tag only its sessions; with more days than the file has, nothing."""
    assert call("retain", "--days", "1").stdout == ""
    result = call("retain", "--days", "0", "--tag", "plan=paid", "--json")
    (line,) = result.stdout.splitlines()
    assert json.loads(line)["versions"] == [1, 2]
    assert "1 session(s) erased" in result.stderr
    assert erased(database) == 2
    assert call("retain", "--days", "0").returncode == 0
    assert erased(database) == 4
    assert WORD in database.read_bytes(), "what is held stays"


def test_wrong_use_is_told(call, run, database):
    """A tag without a value, no days, a file that is not there: exit code 2, or 1 for what could not be done."""
    assert call("retain", "--days", "0", "--tag", "plan").returncode == 2
    assert call("retain").returncode == 2
    missing = call("retain", "--days", "0", "--database", "missing.db")
    assert missing.returncode == 1
    assert not database.with_name("missing.db").exists()


def test_a_server_that_has_the_file_is_named(call, database):
    """Beside a running server nothing is erased."""

    async def beside():
        async with engine.open(str(database)):
            return await asyncio.to_thread(call, "retain", "--days", "0")

    result = asyncio.run(beside())
    assert result.returncode == 1
    assert "another server" in result.stderr
    assert erased(database) == 0


def test_what_has_expired_goes_whole(call, tmp_path):
    """And nothing of the others, however old."""

    async def write():
        async with chatting(tmp_path / "manent.db") as chat:
            for expires_at in ("2020-01-01T00:00:00Z", None):
                session = await chat.create_session(model="echo/echo", expires_at=expires_at, title="kept")
            return session.id

    kept = str(asyncio.run(write()))
    result = call("retain", "--days", "30", "--expired", "--json")
    (line,) = map(json.loads, result.stdout.splitlines())
    assert (line["versions"], line["session_id"] != kept) == ([1], True)
    assert call("retain", "--days", "30", "--expired").stdout == ""
