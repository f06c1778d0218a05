"""``manent suite`` and ``manent review``: on a file, beside a server, and over its API."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx
import pytest

from manent import engine
from tests.support import query

OTHER = {
    "models": {
        "other": [{"steps": [{"text": "Is that on record?"}]}, {"steps": [{"text": "Some \x1b[31melse"}]}],
        "hang": [{"steps": [{"hang": True}]}],
    }
}


@pytest.fixture
def script(tmp_path):
    """A model that says something else."""
    (tmp_path / "script.json").write_text(json.dumps(OTHER), "utf-8")
    return {"MANENT_SCRIPT": "script.json"}


@pytest.fixture
def answer(call, monkeypatch, tmp_path):
    """Runs a command that reads lines from a pipe."""

    def answer(given, *command, **names):
        file = tmp_path / "given"
        file.write_text(given, "utf-8")
        with file.open(encoding="utf-8") as lines:
            monkeypatch.setattr("sys.stdin", lines)
            return call(*command, **names)

    return answer


def held(call, *place):
    """The turns of the suite ``smoke``."""
    return [item["turn_id"] for item in json.loads(call("suite", "show", "smoke", "--json", *place).stdout)["items"]]


def test_turns_are_added_shown_and_removed(call, recorded, database):
    """By session, or one of its turns by number; each is in the suite once, and erasing them leaves them there."""
    assert call("suite", "list", "--json").stdout == "[]\n"
    added = call("suite", "add", "smoke", str(recorded.talked)[:-2], "--turn", "2")
    assert (added.returncode, added.stdout) == (0, "suite smoke: 1 turns added, 1 in it\n"), added.stderr
    both = call("suite", "add", "smoke", recorded.talked, recorded.tools)
    assert both.stdout == "suite smoke: 2 turns added, 3 in it\n"
    with engine.open_sync(database) as chat:
        turns = [str(turn.id) for session in (recorded.talked, recorded.tools) for turn in chat.turns(session).items]
    assert held(call) == [turns[1], turns[0], turns[2]]
    shown = call("suite", "show", "smoke").stdout.splitlines()
    assert shown[0].split()[:2] == ["turn", "session"]
    assert "Grüße, 世界 🌍 second line" in shown[1]
    call("erase", recorded.talked, "--reason", "asked")
    assert call("suite", "show", "smoke").stdout.count("[erased]") == 2
    assert [suite["name"] for suite in json.loads(call("suite", "list", "--json").stdout)] == ["smoke"]
    assert call("suite", "list").stdout.splitlines()[1].split()[:2] == ["smoke", "3"]
    assert call("suite", "remove", "smoke").stdout == "suite smoke: 3 turns removed\n"
    assert held(call) == []


def test_a_suite_is_run_by_its_name(call, recorded, database, script, tmp_path):
    """In the mode recorded, or on a model; what differs ends in 1, and the results are written."""
    call("suite", "add", "smoke", recorded.talked)
    done = call("suite", "run", "smoke")
    assert (done.returncode, done.stdout[:16]) == (0, "2 turns: 2 same,"), done.stderr
    files = ("--json", "out.json", "--junit", "out.xml", "--report", "out.html")
    other = call("suite", "run", "smoke", "--model", "scripted/other", "--jobs", "1", *files, **script)
    assert (other.returncode, "2 findings" in other.stdout) == (1, True)
    told = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert (told["mode"], told["suite"], told["counts"]["different"]) == ("forced", "smoke", 2)
    assert ET.fromstring((tmp_path / "out.xml").read_text("utf-8")).get("failures") == "2"
    assert "<!doctype html>" in (tmp_path / "out.html").read_text("utf-8")
    known = call("suite", "run", "smoke", "--model", "scripted/other", "--baseline", "out.json", **script)
    assert known.returncode == 0


def test_differences_are_reviewed_one_by_one(call, answer, recorded, database, script):
    """Word by word, safe for a terminal; what is accepted is the reference, a rejected one ends in 1, and a skipped one
    comes again.
    """
    call("suite", "add", "smoke", recorded.talked)
    before = held(call)
    call("suite", "run", "smoke", "--model", "scripted/other", "--jobs", "1", **script)
    skipped = answer("s\nwhat?\nreject\n", "review", "smoke")
    assert skipped.returncode == 1
    assert skipped.stdout.endswith("0 accepted, 1 rejected, 1 left\n")
    assert skipped.stderr.count("a: accept, r: reject, s: skip, q: quit") == 3
    assert "Is [-this-]{+that+} on record?" in skipped.stdout
    assert "{+Some ␛[31melse+}" in skipped.stdout
    assert "text differs at messages[0].content[0].text[5]" in skipped.stdout
    assert query(database, "SELECT count(*) FROM events WHERE type = 'suite.accepted'") == [(0,)]
    accepted = answer("a\nq\n", "review")
    assert (accepted.returncode, accepted.stdout.splitlines()[-1]) == (0, "1 accepted, 0 rejected, 1 left")
    after = held(call)
    assert (after[0] != before[0], after[1]) == (True, before[1])
    again = call("suite", "run", "smoke", "--model", "scripted/other", **script)
    assert "1 same, 1 different" in again.stdout
    assert answer("", "review").stdout.endswith("0 accepted, 0 rejected, 1 left\n")
    assert call("review", "--accept-all").stdout.endswith("1 accepted, 0 rejected, 0 left\n")
    assert call("suite", "run", "smoke", "--model", "scripted/other", **script).returncode == 0
    assert call("suite", "run", "smoke").returncode == 0


def test_over_the_api_and_beside_a_server(call, answer, serve, recorded, database, script, tmp_path):
    """All of it works with --url; on the file, reading works beside the server, and writing names its address."""
    with serve(database, "--script", str(tmp_path / "script.json")) as server:
        url = ("--url", server.url)
        added = call("suite", "add", "smoke", recorded.talked, *url)
        assert (added.returncode, added.stdout) == (0, "suite smoke: 2 turns added, 2 in it\n"), added.stderr
        assert call("suite", "add", "smoke", recorded.talked, *url).stdout == "suite smoke: 0 turns added, 2 in it\n"
        assert call("suite", "add", "smoke", recorded.tools, *url).stdout == "suite smoke: 1 turns added, 3 in it\n"
        assert held(call, *url) == held(call, "--database", database)
        assert "Grüße" in call("suite", "show", "smoke", *url).stdout
        refused = call("suite", "remove", "smoke", "--database", database)
        assert (refused.returncode, f"--url {server.url}" in refused.stderr) == (1, True)
        assert "3 same" in call("suite", "run", "smoke", "--database", database).stdout
        run = call("suite", "run", "smoke", "--model", "scripted/other", *url)
        assert (run.returncode, "3 findings" in run.stdout) == (1, True), run.stderr
        reviewed = answer("a\nq\n", "review", "smoke", *url)
        assert (reviewed.returncode, reviewed.stdout.splitlines()[-1]) == (0, "1 accepted, 0 rejected, 2 left")
        missing = call("suite", "show", "smok", *url)
        assert (missing.returncode, "there is smoke" in missing.stderr) == (1, True)
        assert call("suite", "remove", "smoke", *url).stdout == "suite smoke: 3 turns removed\n"
        assert call("suite", "list", *url).stdout.splitlines()[1].split()[1] == "0"


def test_suites_go_along_with_the_whole_log(call, recorded, database, script):
    """A bundle of the log has them: taken in elsewhere, they are there, and what was accepted is."""
    call("suite", "add", "smoke", recorded.talked)
    call("suite", "run", "smoke", "--model", "scripted/other", **script)
    call("review", "--accept-all")
    exported = call("export", "--log", "--output", "log.zip")
    assert exported.returncode == 0, exported.stderr
    taken = call("import", "log.zip", "--database", "other.db")
    assert taken.returncode == 0, taken.stderr
    assert held(call, "--database", "other.db") == held(call)
    assert call("suite", "run", "smoke", "--database", "other.db").returncode == 0


def test_turns_that_have_not_ended_are_left_out(call, serve, database, script, tmp_path):
    """A turn that runs is said, and not added; asked for by its number, it is refused."""
    with serve(database, "--script", str(tmp_path / "script.json")) as server, httpx.Client(base_url=server.url) as api:
        session = api.post("/api/sessions", json={"model": "scripted/hang"}).json()["id"]
        path = f"/api/sessions/{session}/turns"
        turn = api.post(path, json={"content": "x"}, headers={"Prefer": "respond-async"}).json()["id"]
        added = call("suite", "add", "smoke", session, "--url", server.url)
        numbered = call("suite", "add", "smoke", session, "--turn", "1", "--url", server.url)
        api.post(f"/api/turns/{turn}/cancel")
    assert added.stdout == "suite smoke: 0 turns added, 0 in it\n"
    assert f"turn {turn} has not ended, and is left out" in added.stderr
    assert (numbered.returncode, "turn 1 of session" in numbered.stderr) == (2, True)


@pytest.mark.parametrize(
    ("command", "code", "named"),
    [
        (("suite", "add", "smoke"), 2, "SESSION"),
        (("suite", "add", "a/b", "{talked}"), 2, "name"),
        (("suite", "add", "smoke", "ffff"), 1, "ffff"),
        (("suite", "add", "smoke", "{talked}", "--turn", "9"), 2, "has 2 turns, and none of number 9"),
        (("suite", "add", "smoke", "{talked}", "{tools}", "--turn", "1"), 2, "--turn"),
        (("suite", "show", "smok"), 1, "there is no suite 'smok'"),
        (("suite", "remove", "smok"), 1, "there is no suite 'smok'"),
        (("suite", "run", "smok"), 1, "smok"),
        (("suite", "run", "smok", "--mode", "loose"), 2, "loose"),
        (("suite", "list", "--database", "missing.db"), 1, "missing.db"),
        (("suite", "list", "--database", "x.db", "--url", "http://127.0.0.1:1"), 2, "two places"),
        (("review",), 1, "manent suite run"),
        (("review", "smok"), 1, "smok"),
        (("review", "01890a5d-ac96-774b-bcce-b302099a8057"), 1, "replay"),
    ],
)
def test_slips_end_in_a_sentence_and_their_exit_code(call, recorded, database, command, code, named):
    """Wrong use is 2, what is not there is 1; each says what was wrong, and no file is made."""
    words = [word.format(talked=recorded.talked, tools=recorded.tools) for word in command]
    done = call(*words)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path(database).with_name("missing.db").exists()


def test_nothing_is_accepted_of_what_is_no_suites(call, recorded, database, script):
    """A replay of sessions has no reference to change, and one in the mode recorded no new answer."""
    call("replay", recorded.talked, "--model", "scripted/other", **script)
    with engine.open_sync(database) as chat:
        replay = chat.replays().items[0].id
    refused = call("review", str(replay))
    assert (refused.returncode, "is of no suite" in refused.stderr) == (2, True)
    call("suite", "add", "smoke", recorded.talked)
    call("suite", "run", "smoke")
    with engine.open_sync(database) as chat:
        replay = chat.replays().items[0].id
    refused = call("review", str(replay))
    assert (refused.returncode, "mode recorded" in refused.stderr) == (2, True)
