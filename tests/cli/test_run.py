"""``manent run``: conversations from files, as continuous integration and people run them."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from manent.api.cli.junit import Case, junit
from tests.support import audit, query

EXAMPLES = Path(__file__).parents[2] / "scripts/examples/conversations"

GOOD = "turns:\n  - user: hello\n    expect: {equals: hello}\n"
FAILING = "turns:\n  - user: hello\n    expect: {equals: bye, contains: ell}\n  - user: fine\n"
FAULTY = "turns:\n  - user: hello\nfaults:\n  - {turn: 1, fail: provider_rejected}\n"


@pytest.fixture
def file(tmp_path):
    """Writes a conversation file; its name."""

    def file(text, name="talk.yaml"):
        (tmp_path / name).write_text(text, "utf-8")
        return name

    return file


def test_the_examples_hold(run, tmp_path):
    """As a process of its own, with all files at once: one line for each turn, and nothing is left behind."""
    done = run("run", *sorted(EXAMPLES.glob("*.yaml")), "--retry-base-ms", "1")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert [line for line in lines if line.startswith("ok")] == [
        "ok   turn 1: Are you there?",
        "ok   turn 2: Tell me all of it.",
        "ok   turn 3: Go on.",
        "ok   turn 1: Will it rain in Rome?",
        "ok   turn 2: And in Atlantis? As JSON, please.",
    ]
    assert lines[-1] == "5 turns, 0 failed"
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_hold_is_printed(call, file):
    """What was expected and what came, at its place in the file; exit code 1, and every turn was run."""
    done = call("run", file(FAILING))
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        "talk.yaml on echo/echo",
        "  FAIL turn 1: hello",
        '       talk.yaml:3:22: equals: expected "bye", came "hello"',
        "  ok   turn 2: fine",
        "2 turns, 1 failed",
    ]


def test_a_turn_that_fails_is_printed(call, file):
    """Its error, at the turn's line; exit code 1."""
    done = call("run", file(FAULTY))
    assert done.returncode == 1
    said = "talk.yaml:2: the turn failed: scripted failed: the script says so (provider_rejected)"
    assert said in done.stdout


def test_long_and_strange_texts_are_shown_short_and_safe(call, file):
    """One line for each, whatever came."""
    said = "a\x1b[31m\n" + "long " * 100
    turn = {"user": said, "expect": {"equals": "x\x1b"}}
    done = call("run", file(json.dumps({"turns": [turn]})))
    assert done.returncode == 1
    _, turn, complaint, _ = done.stdout.splitlines()
    assert "\x1b" not in done.stdout
    assert len(turn) < 220
    assert complaint.endswith("characters)")


def test_a_wrong_file_is_told_by_line_and_column(call, file):
    """Exit code 2, on standard error, and no file was run: not even those that are good."""
    file(GOOD)
    wrong = file("turns:\n  - usr: hello\n", "wrong.yaml")
    done = call("run", "talk.yaml", wrong, "--json", "out.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "manent: wrong.yaml:2:5: there is no key `usr` in `turns`; did you mean `user`?\n"
    assert not Path("out.json").exists()
    done = call("run", "talk.yaml", file("tools: [calculater]\n" + GOOD, "tool.yaml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "manent: tool.yaml:1:9: no tool is named `calculater` here; did you mean `calculator`?"
    )
    done = call("run", "talk.yaml", file("model: ecco/echo\n" + GOOD, "model.yaml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("manent: model.yaml:1:8: no provider here serves ecco/echo; there is echo/echo")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'FILE…'"),
        (("missing.yaml",), "missing.yaml: cannot be read: No such file or directory"),
        ((".",), ".: cannot be read: Is a directory"),
        (("talk.yaml", "--model", "ecco/echo"), "no provider here serves ecco/echo"),
        (("talk.yaml", "--junit", "no/such/out.xml"), "no/such/out.xml: cannot be written: there is no such folder"),
        (("talk.yaml", "--json", "."), ".: cannot be written: it is a folder"),
        (("talk.yaml", "--max-attempts", "0"), "'--max-attempts': 0 is not in the range"),
        (("talk.yaml", "--tenant", "A B"), "tenant"),
    ],
)
def test_wrong_use_is_exit_code_2(call, file, arguments, said):
    """With what is wrong in one line, and nothing done."""
    file(GOOD)
    done = call("run", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_given_model_answers(call, file):
    """In place of the file's, and on the command line only if it is served."""
    text = "turns: [{user: hello, answers: [hi], expect: {equals: hi}}]"
    assert call("run", file(text)).returncode == 0
    done = call("run", "talk.yaml", "--model", "echo/echo")
    assert done.returncode == 1
    assert 'expected "hi", came "hello"' in done.stdout


def test_a_named_database_keeps_the_sessions(call, file, tmp_path):
    """Both files' sessions are on record, readable by the other commands; without its name, nothing is written."""
    elsewhere = {"MANENT_DATABASE": "theirs.db", "MANENT_CHECKPOINT_FILE": "theirs.checkpoints"}
    assert call("run", file(GOOD), **elsewhere).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.yaml"]
    done = call("run", "talk.yaml", file(FAILING, "other.yaml"), "--database", "kept.db")
    assert done.returncode == 1
    sessions = json.loads(call("sessions", "--database", "kept.db", "--json").stdout)
    assert sorted(session["title"] for session in sessions) == ["other", "talk"]
    assert all(f"session {session['id']}" in done.stdout for session in sessions)
    assert audit(tmp_path / "kept.db") == query(tmp_path / "kept.db", "SELECT count(*) FROM events")[0][0]


def test_the_results_are_written_as_json(call, file, tmp_path):
    """To a file, or to standard output with nothing beside it."""
    done = call("run", file(FAILING), file(FAULTY, "faulty.yaml"), "--json", "-")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert "2 turns" not in done.stdout
    assert "3 turns, 2 failed" in done.stderr
    assert (said["passed"], said["failed"]) == (1, 2)
    (first, second), (failed,) = (each["turns"] for each in said["files"])
    assert [each["file"] for each in said["files"]] == ["talk.yaml", "faulty.yaml"]
    assert first["unmet"] == [{"expectation": "equals", "line": 3, "column": 22, "expected": "bye", "came": "hello"}]
    assert (first["passed"], second["passed"], failed["passed"]) == (False, True, False)
    assert first["turn"]["message"]["content"] == [{"type": "text", "text": "hello"}]
    assert "provider_rejected" in failed["failure"]
    call("run", "talk.yaml", "--json", "out.json")
    assert json.loads((tmp_path / "out.json").read_bytes())["failed"] == 1


def test_the_results_are_written_for_continuous_integration(call, file, tmp_path):
    """JUnit's XML: a suite for each file, a case for each turn, failures apart from errors."""
    done = call("run", file(FAILING), file(FAULTY, "faulty.yaml"), "--junit", "out.xml")
    assert done.returncode == 1
    root = ET.parse(tmp_path / "out.xml").getroot()
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
        "skipped": "0",
    }
    assert [suite.get("name") for suite in root] == ["talk.yaml", "faulty.yaml"]
    first, second, failed = root.iter("testcase")
    assert (first.get("classname"), first.get("name")) == ("talk.yaml", "turn 1: hello")
    assert first.find("failure").get("message") == 'talk.yaml:3:22: equals: expected "bye", came "hello"'
    assert len(second) == 0
    assert "provider_rejected" in failed.find("error").text
    assert float(first.get("time")) > 0


def test_any_text_can_stand_in_junit():
    """What no XML can hold is replaced, all else comes back; counts and times are sums."""
    strange = "a\0b\x1b<&>\"'\ud800\uffff\n\tü🌍"
    cases = [
        Case("one", strange, 0.5, failure=strange),
        Case("one", "second", 0.25, skipped="not today"),
        Case("two", "third", 1, error="first line\nsecond"),
        Case("one", "fourth", 0),
    ]
    root = ET.fromstring(junit(cases))
    assert [(suite.get("name"), suite.get("tests"), suite.get("time")) for suite in root] == [
        ("one", "2", "0.750"),
        ("two", "1", "1.000"),
        ("one", "1", "0.000"),
    ]
    assert (root.get("tests"), root.get("time"), root.get("skipped")) == ("4", "1.750", "1")
    clean = "a�b�<&>\"'��\n\tü🌍"
    first, second, third, fourth = root.iter("testcase")
    assert first.get("name") == clean
    assert first.find("failure").text == clean
    assert second.find("skipped").get("message") == "not today"
    assert third.find("error").get("message") == "first line"
    assert len(fourth) == 0
    assert ET.fromstring(junit([])).get("tests") == "0"
