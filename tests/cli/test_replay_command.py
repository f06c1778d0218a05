"""``manent replay``: on a file and over a server's API, its output files, and its exit codes."""

import asyncio
import json
from xml.etree import ElementTree as ET

import pytest

from tests.support import chatting, query, says, until

OTHER = {"models": {"other": [{"steps": [{"text": "Is this on record?"}]}, {"steps": [{"text": "Some \x1b[31melse"}]}]}}


@pytest.fixture
def script(tmp_path):
    """A model that differs in its second answer."""
    (tmp_path / "script.json").write_text(json.dumps(OTHER), "utf-8")
    return {"MANENT_SCRIPT": "script.json"}


def test_the_same_answers_end_in_0(call, recorded, database):
    """Each turn is asked again on the recorded history; the replay is on record, and named."""
    done = call("replay", recorded.talked, "--mode", "forced")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 turns: 2 same, 0 different, 0 skipped, 0 failed; 0 findings\n"
    ((kind, count),) = query(database, "SELECT type, count(*) FROM events WHERE type = 'replay.completed'")
    assert (kind, count) == ("replay.completed", 1)
    assert "manent replay --resume" in done.stderr


def test_a_difference_ends_in_1_and_is_shown(call, recorded, database, script):
    """The default with a model is forced; what differs is printed with its place, safe for a terminal."""
    done = call("replay", str(recorded.talked)[:-2], "--model", "scripted/other", **script)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("DIFFERENT  turn ")
    assert lines[1] == "    text differs at messages[0].content[0].text[0]"
    assert lines[2:4] == ["    - Grüße, 世界 🌍 second line", "    + Some ␛[31melse"]
    assert lines[-1] == "2 turns: 1 same, 1 different, 0 skipped, 0 failed; 1 findings"


def test_the_results_are_written(call, recorded, database, script, tmp_path):
    """As JSON in the shape of the API, as JUnit's XML, and as a page that needs no script."""
    files = ("--json", "out.json", "--junit", "out.xml", "--report", "out.html")
    done = call("replay", recorded.talked, "--model", "scripted/other", "--jobs", "1", *files, **script)
    assert done.returncode == 1
    told = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert (told["status"], told["mode"], told["counts"]["different"]) == ("completed", "forced", 1)
    assert [each["verdict"] for each in told["results"]] == ["same", "different"]
    root = ET.fromstring((tmp_path / "out.xml").read_text("utf-8"))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "1", "0")
    assert {case.get("classname") for case in root.iter("testcase")} == {str(recorded.talked)}
    page = (tmp_path / "out.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert "<script" not in page


def test_results_on_standard_output_are_alone_there(call, recorded, database):
    """`-` is standard output: what is told besides goes to standard error, and leaves no file of that name."""
    done = call("replay", recorded.talked, "--json", "-")
    assert done.returncode == 0, done.stderr
    assert [each["verdict"] for each in json.loads(done.stdout)["results"]] == ["same", "same"]
    assert "2 turns: 2 same" in done.stderr


def test_a_replay_of_which_nothing_is_left_ends_in_1(call, recorded, database):
    """Where the words of every turn are erased nothing was compared, and it is not taken for the same."""
    assert call("erase", recorded.talked, "--reason", "asked").returncode == 0
    done = call("replay", recorded.talked)
    assert done.returncode == 1, done.stdout
    assert "nothing was compared: every turn was skipped" in done.stderr


def test_what_a_baseline_knows_is_no_finding(call, recorded, database, script):
    """The differences of an earlier run, in the same places, do not fail it; new ones do."""
    call("replay", recorded.talked, "--model", "scripted/other", "--json", "known.json", **script)
    again = call("replay", recorded.talked, "--model", "scripted/other", "--baseline", "known.json", **script)
    assert again.returncode == 0, again.stdout
    assert "DIFFERENT (in the baseline)" in again.stdout
    call("replay", recorded.talked, "--mode", "forced", "--json", "other.json")
    new = call("replay", recorded.talked, "--model", "scripted/other", "--baseline", "other.json", **script)
    assert new.returncode == 1


def test_a_session_is_played_back(call, recorded, database):
    """Nothing is asked, and nothing is written."""
    before = query(database, "SELECT count(*) FROM events")
    done = call("replay", recorded.talked, "--mode", "play", "--pace", "0")
    assert (done.returncode, done.stdout.count("Is this on record?")) == (0, 2)
    assert query(database, "SELECT count(*) FROM events") == before


def test_a_free_replay_marks_where_it_diverges(call, recorded, database, script):
    """The first answer that differs is told as such."""
    done = call("replay", recorded.talked, "--mode", "free", "--model", "scripted/other", **script)
    assert done.returncode == 1
    assert "the first answer that differs: what follows in this session answers something else" in done.stdout


def test_sessions_are_found_by_conditions(call, recorded, database):
    """Each condition is a name and a value."""
    done = call("replay", "--where", "title_contains=a talk", "--where", "model=echo/echo", "--mode", "forced")
    assert (done.returncode, done.stdout[:14]) == (0, "2 turns: 2 sam")


def test_a_replay_that_was_cut_off_is_gone_on_with(call, recorded, database, script):
    """By its id; the turns that were under way are asked once more, and told so."""

    async def cut_off():
        async with chatting(database, drain_s=0, unwitnessed=True, other=says({"hang": True})) as chat:
            replay = await chat.start_replay(recorded.talked, model="scripted/other")

            async def under_way():
                return len(chat.script.requests) == 2

            await until(under_way)
            return replay.id

    replay = asyncio.run(cut_off())
    done = call("replay", "--resume", replay, **script)
    assert done.returncode == 1
    assert "it was asked once more after a restart" in done.stdout
    assert done.stdout.endswith("2 turns: 1 same, 1 different, 0 skipped, 0 failed; 1 findings\n")
    ended = call("replay", "--resume", replay, **script)
    assert (ended.returncode, "the replay is completed" in ended.stderr) == (1, True)


def test_beside_a_server_it_replays_over_its_api(call, serve, recorded, database, script, tmp_path):
    """On the file it is refused with the server's address; with --url the server does it, and the report comes too."""
    with serve(database, "--script", str(tmp_path / "script.json")) as server:
        refused = call("replay", recorded.talked, "--model", "scripted/other", **script)
        files = ("--report", "out.html", "--json", "out.json")
        done = call("replay", recorded.talked, "--model", "scripted/other", "--url", server.url, *files)
        short = call("replay", str(recorded.talked)[:-2], "--mode", "forced", "--url", server.url)
        wrong = call("replay", recorded.talked, "--model", "echo/nothing", "--url", server.url)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"--url {server.url}" in refused.stderr
    assert done.returncode == 1, done.stderr
    assert done.stdout.endswith("2 turns: 1 same, 1 different, 0 skipped, 0 failed; 1 findings\n")
    assert json.loads((tmp_path / "out.json").read_text("utf-8"))["status"] == "completed"
    assert "<!doctype html>" in (tmp_path / "out.html").read_text("utf-8")
    assert short.returncode == 0, short.stderr
    assert (wrong.returncode, "unknown_model" in wrong.stderr) == (1, True)


@pytest.mark.parametrize(
    ("command", "code", "named"),
    [
        ((), 2, "--suite"),
        (("00", "--where", "status=active"), 2, "--where"),
        (("--where", "colour=red"), 2, "title_contains"),
        (("--where", "status=odd", "--mode", "forced"), 2, "status"),
        (("00", "--mode", "loose"), 2, "loose"),
        (("00", "--tools", "all"), 2, "live:NAME"),
        (("ffff",), 1, "ffff"),
        (("ffff", "--database", "missing.db"), 1, "missing.db"),
        (("00", "--json", "nowhere/out.json"), 2, "nowhere"),
        (("00", "--baseline", "missing.json"), 2, "missing.json"),
        (("--suite", "nightly", "--mode", "forced"), 1, "suite"),
        (("--resume", "01890a5d-ac96-774b-bcce-b302099a8057"), 1, "replay"),
    ],
)
def test_slips_end_in_a_sentence_and_their_exit_code(call, database, command, code, named):
    """Wrong use is 2, what is not there is 1; each says what was wrong."""
    done = call("replay", *command)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
