"""``manent chat``: on a file and over the API, through pipes and in a terminal."""

import json
import re
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from manent.api.cli.chat import remote
from tests.cli.conftest import MANENT, TIMEOUT_S

MCP_SERVER = Path(__file__).parents[1] / "mcp_server.py"
LINES = "Hello\nGrüße, 世界 🌍 \u2028 \u200f.\n"
INTRODUCTION = re.compile(r"session (?P<id>[0-9a-f-]{36}); go on later with: manent (?P<resume>chat .*)\n")


@pytest.fixture(params=["file", "api"])
def where(request, tmp_path, serve):
    """The options that lead to a conversation: on a file of one's own, or over a server's API."""
    if request.param == "file":
        yield ("--database", "manent.db")
        return
    with serve(tmp_path / "manent.db") as server:
        yield ("--url", server.url)


def test_answers_come_through_a_pipe_and_nothing_else(run, call, where):
    """Lines in, answers out, byte for byte, with no prompts; standard error names the session and how to go on."""
    done = run("chat", *where, "--model", "echo/echo", given=LINES)
    assert (done.returncode, done.stdout) == (0, LINES), done.stderr
    introduction = INTRODUCTION.search(done.stderr)
    again = run(*shlex.split(introduction["resume"]), given="More\n")
    assert (again.returncode, again.stdout) == (0, "More\n"), again.stderr
    shown = json.loads(call("show", introduction["id"], "--json").stdout)
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant"] * 3
    assert shown["session"]["id"] == introduction["id"]


def test_a_new_session_begins_within_the_chat(run, call):
    """/new begins another session with the same system prompt, /quit leaves at once, and empty lines are not sent."""
    done = run("chat", "--system", "Be brief.", given="one\n\n  \n/new\ntwo\n/quit\nthree\n")
    assert (done.returncode, done.stdout) == (0, "one\ntwo\n"), done.stderr
    sessions = json.loads(call("sessions", "--json").stdout)
    assert [(session["system"], session["message_count"]) for session in sessions] == [("Be brief.", 2)] * 2
    assert [match["id"] for match in INTRODUCTION.finditer(done.stderr)] == [s["id"] for s in reversed(sessions)]


def test_a_turn_that_fails_is_told_and_the_chat_goes_on(run, tmp_path):
    """What went wrong stands on standard error, what came before it on output, and the next line is answered."""
    fail = {"fail": {"code": "provider_rejected", "detail": "the model was \x1b[31mrude"}}
    answers = [{"steps": [{"text": "So far"}, fail]}, {"steps": [{"text": "so good"}]}]
    (tmp_path / "script.json").write_text(json.dumps({"models": {"moody": answers}}))
    done = run("chat", "--model", "scripted/moody", given="one\na\0b\ntwo\n", MANENT_SCRIPT="script.json")
    assert (done.returncode, done.stdout) == (1, "So far\nso good\n"), done.stderr
    assert "the turn failed: scripted failed: the model was ␛[31mrude (provider_rejected)" in done.stderr
    assert "holds a NUL character" in done.stderr


def test_a_line_that_is_not_utf8_is_not_sent(tmp_path, environment):
    """Bytes that are no text are refused, never guessed at; the exit code says so."""
    done = subprocess.run(
        [MANENT, "chat"], input=b"\xff\xfe\nfine\n", capture_output=True, cwd=tmp_path, env=environment, check=False
    )
    assert (done.returncode, done.stdout) == (1, b"fine\n")
    assert b"not UTF-8, and was not sent" in done.stderr


def test_ctrl_c_cancels_the_answer_and_not_the_chat(start, call, where):
    """SIGINT in mid-answer cancels the turn on record, keeps what was said, and the next line is answered."""
    with start("chat", *where, "--model", "echo/paced") as chat:
        chat.stdin.write("x" * 4000 + "\n")
        chat.stdin.flush()
        introduction = next(filter(None, map(INTRODUCTION.search, iter(chat.stderr.readline, ""))))
        said = chat.stdout.read(8)
        chat.send_signal(signal.SIGINT)
        said += chat.stdout.readline()
        assert "cancelled" in chat.stderr.readline()
        rest, _ = chat.communicate("bye\n", timeout=TIMEOUT_S)
        assert (chat.returncode, rest) == (0, "bye\n")
    messages = json.loads(call("show", introduction["id"], "--json").stdout)["messages"]
    assert [(message["role"], message["complete"]) for message in messages][:3] == [
        ("user", True),
        ("assistant", False),
        ("user", True),
    ]
    assert messages[1]["content"][0]["text"] == said.rstrip("\n")
    assert 8 <= len(said) < 4000


def test_an_answer_is_taken_up_again_where_the_connection_broke(monkeypatch, capsys):
    """A stream that breaks off is read on after its last frame: nothing is lost, and nothing told twice."""
    parts = {
        "after=0": b"id: 1\nevent: turn.started\ndata: {}\n\n: keep-alive\n\n"
        b"id: 2\nevent: delta\ndata: {}\n\nid: 3\nda",
        "after=2": b"id: 3\nevent: delta\ndata: {}\n\nid: 4\nevent: turn.completed\ndata: {}\n\n",
    }

    @contextmanager
    def request(self, method, path):
        yield Response(parts[path.partition("?")[2]].splitlines(keepends=True))

    class Response(list):
        status = 200

    monkeypatch.setattr(remote.Remote, "_request", request)
    monkeypatch.setattr(remote, "RETRY_S", 0)
    frames = remote.Remote("http://127.0.0.1:1", None).frames("turn", 0)
    assert [(frame.number, frame.type) for frame in frames] == [
        (1, "turn.started"),
        (2, "delta"),
        (3, "delta"),
        (4, "turn.completed"),
    ]


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--model", "echo/nothing"), 2, "there is echo/echo, echo/paced"),
        (("--model", "nonsense"), 2, "no provider here serves nonsense"),
        (("--session", "zzz"), 2, "'zzz' is not the id of a session"),
        (("--session", "01"), 1, "there is no session 01"),
        (("--last",), 1, "there is no session to go on with"),
        (("--last", "--session", "01"), 2, "give one of them"),
        (("--tool", "nonsense"), 2, "no tool is named 'nonsense'"),
        (("--session", "01", "--system", "x"), 2, "a new session only"),
        (("--url", "ftp://127.0.0.1"), 2, "must be like http://127.0.0.1:8000"),
        (("--url", "http://127.0.0.1:99999"), 2, "must be like"),
        (("--url", "http://127.0.0.1:1/?q=1"), 2, "must be like"),
        (("--url", "http://127.0.0.1:1"), 1, "http://127.0.0.1:1 cannot be reached: "),
        (("--url", "http://127.0.0.1:1", "--tenant", "acme"), 2, "--tenant goes with a database file"),
        (("--url", "http://127.0.0.1:1", "--database", "x.db"), 2, "give one of them"),
        (("--url", "http://127.0.0.1:1", "--api-key-file", "none"), 2, "cannot be read"),
        (("--tenant", "No Such"), 2, "tenant: "),
    ],
)
def test_who_cannot_begin_is_told_why(call, tmp_path, options, code, sentence):
    """Each slip ends in one sentence and its exit code, before anything is read; no file is left behind."""
    done = call("chat", *options)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_refuses_is_quoted(call, serve, tmp_path):
    """What a server's problem document says is the sentence that the user reads."""
    with serve(tmp_path / "manent.db") as server:
        missing = call("chat", "--url", server.url, "--session", "00000000-0000-7000-8000-000000000000")
        unknown = call("chat", "--url", server.url, "--model", "echo/nothing")
    assert missing.returncode == unknown.returncode == 1
    assert "(session_not_found)" in missing.stderr
    assert "(unknown_model)" in unknown.stderr


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (200, b'{"hello": "world"}', "does not answer as Manent does"),
        (200, b"<html>", "does not answer as Manent does"),
        (502, b"<html>", "the server answered 502 Bad Gateway"),
        (409, b"[]", "the server answered 409 Conflict"),
    ],
)
def test_another_server_is_found_out(call, status, body, sentence):
    """What is not Manent's answer ends in a sentence."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        answering = Thread(target=server.handle_request)
        answering.start()
        done = call("chat", "--url", f"http://127.0.0.1:{server.server_port}")
        answering.join()
    assert done.returncode == 1
    assert sentence in done.stderr


def test_the_address_may_stand_in_the_environment(run, call, serve, tmp_path):
    """MANENT_URL leads to the server; --database on the command line comes before it."""
    with serve(tmp_path / "served.db") as server:
        assert run("chat", given="over there\n", MANENT_URL=server.url).stdout == "over there\n"
        assert run("chat", "--database", "own.db", given="here\n", MANENT_URL=server.url).stdout == "here\n"
    for name in ("served.db", "own.db"):
        assert len(json.loads(call("sessions", "--json", "--database", name).stdout)) == 1


# --- a person's yes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def asking(tmp_path, environment, monkeypatch):
    """A model that greets by a tool, twice at once, which a person must approve."""
    server = {"command": sys.executable, "args": [str(MCP_SERVER)], "approval": True}
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"house": server}}))
    calls = [
        {"tool": {"id": f"call_{name}", "name": "house_greet", "input": {"name": name}}} for name in ("Ada", "Bob")
    ]
    answers = [{"match": "Greet", "steps": calls}, {"match": "Greet", "steps": [{"text": "Done."}]}]
    (tmp_path / "script.json").write_text(json.dumps({"models": {"polite": answers}}))
    names = {"SCRIPT": "script.json", "MCP_SERVERS_FILE": "mcp.json", "MODEL": "scripted/polite"}
    for name, value in names.items():
        monkeypatch.setitem(environment, f"MANENT_{name}", value)


@pytest.mark.usefixtures("asking")
def test_a_person_is_asked_and_answers(run, where):
    """Each call that waits is shown and asked about, and asked again after what is no answer; then the turn goes on."""
    done = run("chat", *where, "--tool", "house_greet", given="Greet.\ny\nperhaps\nN\n")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("shall call_Ada run? y or n") == 1
    assert done.stderr.count("shall call_Bob run? y or n") == 2
    told = ["asks for house_greet", "approves call_Ada", "refuses call_Bob", "hello Ada", "a person refused", "Done."]
    places = [done.stdout.find(each) for each in told]
    assert -1 not in places, done.stdout
    assert places == sorted(places)
    assert "hello Bob" not in done.stdout


@pytest.mark.usefixtures("asking")
def test_a_turn_that_waits_is_asked_about_again(run, where):
    """Who leaves at a question finds it when they go on with the session: only what is not decided yet is asked."""
    left = run("chat", *where, "--tool", "house_greet", given="Greet.\nyes\n")
    assert (left.returncode, "Done." in left.stdout) == (0, False), left.stderr
    assert "the turn waits on" in left.stderr
    resume = shlex.split(INTRODUCTION.search(left.stderr)["resume"])
    done = run(*resume, "--tool", "house_greet", given="y\nGreet.\nn\nn\n")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("shall call_Ada run?") == 1
    assert done.stderr.count("shall call_Bob run?") == 2
    assert (done.stdout.count("hello Ada"), done.stdout.count("hello Bob"), done.stdout.count("Done.")) == (1, 1, 2)
