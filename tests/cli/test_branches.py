"""``manent fork``, ``manent branches``, and families in ``manent sessions``."""

import asyncio
import json

import pytest

from manent.api.cli import branches as command
from tests.support import chatting


@pytest.fixture
def fork(call, recorded, database):
    """Forks the recorded talk, and gives the id."""

    def fork(*options):
        done = call("fork", recorded.talked, *options)
        assert done.returncode == 0, done.stderr
        assert "shares" in done.stderr
        return done.stdout.strip()

    return fork


def test_a_session_is_forked(call, recorded, fork):
    """At a version or at the end, with what differs; what the new one shares stays where it is."""
    made = json.loads(call("fork", recorded.talked, "--version", "2", "--title", "Mine", "--json").stdout)
    assert (made["title"], made["model"], made["message_count"]) == ("Mine", "echo/echo", 1)
    assert made["parent"] == {"session_id": str(recorded.talked), "version": 2}
    last = fork("--model", "echo/paced")
    shown = json.loads(call("show", last, "--json").stdout)
    assert (shown["session"]["model"], shown["session"]["title"]) == ("echo/paced", "A talk")
    assert [message["session_id"] for message in shown["messages"]] == [str(recorded.talked)] * 4


def test_what_cannot_be_forked_says_why(call, recorded, database):
    """An archived session, a version that there is not, a model of nobody, a session that there is not."""
    for status, said, arguments in (
        (1, "is archived", (recorded.archived,)),
        (1, "the session has no version 99: its last is ", (recorded.talked, "--version", "99")),
        (1, "the session has no version 0", (recorded.talked, "--version", "0")),
        (2, "nobody/none", (recorded.talked, "--model", "nobody/none")),
        (1, "there is no session 00000000-", ("00000000-0000-7000-8000-000000000000",)),
        (1, f"there is no session {recorded.talked}", (recorded.talked, "--tenant", "acme")),
    ):
        done = call("fork", *arguments)
        assert (done.returncode, done.stdout) == (status, "")
        assert said in done.stderr


def test_a_family_is_drawn(call, recorded, fork):
    """Each below its parent, with versions, title and the beginning of what was said; the asked one is marked."""
    first, second = fork("--version", "2", "--title", "Mine"), fork("--title", "Yours")
    third = call("fork", first, "--title", "Deeper\x1b[31m").stdout.strip()
    lines = call("branches", first).stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        [short(recorded.talked, lines), "13"],
        ["├─", short(first, lines)],
        ["│", "└─"],
        ["└─", short(second, lines)],
    ]
    assert lines[2].split()[2:5] == ["*", "2", "3"]
    assert "Mine  Is this on record?" in lines[2]
    assert short(third, lines) in lines[3]
    assert "Deeper␛[31m" in lines[3]
    tree = json.loads(call("branches", third, "--json").stdout)
    assert [node["session_id"] for node in tree["nodes"]] == [str(recorded.talked), first, second, third]


def short(session, lines):
    """The beginning of an id that is shown."""
    (found,) = {word for line in lines[1:] for word in line.split() if len(word) >= 8 and str(session).startswith(word)}
    return found


def test_a_family_of_one_and_of_the_past(call, recorded, database):
    """It is a table of one line; before it began there is none."""
    assert len(call("branches", recorded.tools).stdout.splitlines()) == 2
    done = call("branches", recorded.tools, "--at", "2020-01-01T00:00:00Z")
    assert (done.returncode, done.stdout) == (1, "")
    assert "had not begun" in done.stderr
    assert call("branches", recorded.tools, "--at", "now").returncode == 2
    assert call("branches", "zz").returncode == 2


def test_lists_show_families(call, recorded, fork):
    """Of each the last active, with its size; every one, where that is asked for; a fork is found by its beginning."""
    made = fork()
    listed = json.loads(call("sessions", "--json").stdout)
    assert str(recorded.talked) not in [session["id"] for session in listed]
    (mine,) = [session for session in listed if session["id"] == made]
    assert mine["family"] == {"root": str(recorded.talked), "size": 2}
    everything = json.loads(call("sessions", "--json", "--branches", "all", "--kind", "any").stdout)
    assert len(everything) == len(listed) + 1
    assert json.loads(call("sessions", "--json", "--kind", "replay").stdout) == []
    assert call("show", recorded.talked.hex[:-1]).returncode == 0
    assert call("sessions", "--kind", "both").returncode == 2


def test_a_very_deep_family_is_drawn_flat(tmp_path):
    """What lies deeper than can be indented says how deep it is."""

    async def chain():
        async with chatting(tmp_path / "chat.db") as chat:
            session = (await chat.create_session(model="echo/echo")).id
            for _ in range(40):
                session = (await chat.fork(session)).id
            return await chat.branches(session)

    family = asyncio.run(chain())
    drawn = list(command._drawn(family.nodes))
    assert [node for _, node in drawn] == [*family.nodes]
    assert max(len(indent) for indent, _ in drawn) < 100
    assert drawn[-1][0].endswith("… 40 deep: ")


def test_a_family_is_read_beside_a_server_and_forked_without(call, serve, recorded, fork, database):
    """While another process has the file, branches reads, and fork says who has it."""
    fork()
    with serve(database):
        assert len(call("branches", recorded.talked).stdout.splitlines()) == 3
        done = call("fork", recorded.talked)
        assert done.returncode == 1
        assert "manent: " in done.stderr
