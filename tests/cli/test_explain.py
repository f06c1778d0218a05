"""``manent explain``: what a model was sent in a turn, from the record."""

import base64
import json

import pytest

from tests.support import query


@pytest.fixture
def turn(call, recorded, database):
    """The last turn of a talk."""
    messages = json.loads(call("show", recorded.talked, "--json").stdout)["messages"]
    return messages[-1]["turn_id"]


def test_a_turn_is_explained(call, turn):
    """Who was asked, in which form, whether it is what was recorded, the window with its sum, and the request."""
    done = call("explain", turn)
    assert done.returncode == 0, done.stderr
    for expected in (
        f"turn {turn}, attempt 1",
        "echo/echo, request by echo/1",
        "is the recorded one",
        "parameters: none",
        "x 1000 / 1000 + 0 x 4 = ",
        "last_user",
        "newest_that_fits",
        "left out: 0 messages, 0 base tokens",
        '"text": "Is this on record?"',
    ):
        assert expected in done.stdout


def test_it_is_shown_as_json(call, turn):
    """In the shape of the API."""
    said = json.loads(call("explain", turn, "--attempt", "1", "--json").stdout)
    assert json.loads(base64.b64decode(said["request_bytes_base64"])) == said["request"]
    assert (said["turn_id"], said["attempt"], said["matches"]) == (turn, 1, True)
    assert [each["reason"] for each in said["window"]["included"]] == [
        "system",
        "newest_that_fits",
        "newest_that_fits",
        "last_user",
    ]


def test_what_cannot_be_explained_says_why(call, turn, recorded, database):
    """An attempt that there is not, an unknown turn, another tenant's, and words that are erased: exit code 1."""
    done = call("explain", turn, "--attempt", "7")
    assert (done.returncode, done.stderr) == (1, "manent: the turn has 1 attempt, and no attempt 7\n")
    for arguments in (("00000000-0000-7000-8000-000000000000",), (turn, "--tenant", "acme")):
        done = call("explain", *arguments)
        assert done.returncode == 1
        assert f"there is no turn, and no session, {arguments[0]}" in done.stderr
    assert "turn: 'x' is not the id of a turn or a session" in call("explain", "x").stderr
    assert call("explain", turn, "--attempt", "0").returncode == 2
    call("erase", recorded.talked, "--reason", "asked to", "--version", "2")
    done = call("explain", turn)
    assert done.returncode == 1
    position = query(database, "SELECT min(position) FROM erasures")[0][0]
    assert f"the request held words that are erased: those of {position}" in done.stderr


def test_it_works_beside_a_server(call, serve, turn, database):
    """While another process has the file."""
    with serve(database):
        assert "is the recorded one" in call("explain", turn).stdout
