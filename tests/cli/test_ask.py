"""``manent ask``: one question, from arguments, pipes and files, and one answer."""

import asyncio
import base64
import json
import signal

import pytest

from manent.api.cli.attachments import image_kind
from tests.upstream import Chat, upstream

PNG = b"\x89PNG\r\n\x1a\n" + bytes(32)


def test_the_question_is_argument_pipe_and_file(run, call, tmp_path):
    """Words, what comes through a pipe and a text file are one message, in the order file, words, pipe; -c goes on."""
    (tmp_path / "notes.txt").write_text("Noted.\n", "utf-8")
    assert run("ask", "One", "question.").stdout == "One question.\n"
    assert run("ask", given="From a pipe.\n").stdout == "From a pipe.\n"
    done = run("ask", "-c", "-a", "notes.txt", "What is this?", given="piped\n\nmore\n")
    assert (done.returncode, done.stderr) == (0, "")
    newest, oldest = json.loads(call("sessions", "--json").stdout)
    assert (newest["message_count"], oldest["message_count"]) == (4, 2)
    asked = json.loads(call("show", newest["id"], "--json").stdout)["messages"][2]["content"]
    assert [block["text"] for block in asked] == ["notes.txt:\n\nNoted.\n", "What is this?\n\npiped\n\nmore"]


def test_a_server_is_asked(run, serve, tmp_path):
    """Over --url as on a file; -s is the new session's prompt, and a session is found by the beginning of its id."""
    with serve(tmp_path / "served.db") as server:
        done = run("ask", "--url", server.url, "-s", "Be brief.", "-m", "echo/echo", "Hello.")
        assert (done.returncode, done.stdout, done.stderr) == (0, "Hello.\n", "")
        (session,) = json.loads(run("sessions", "--json", "--url", server.url).stdout)
        assert session["system"] == "Be brief."
        again = run("ask", "--url", server.url, "--session", session["id"][:13], "--json", "And again.")
        turn = json.loads(again.stdout)
        refused = run("ask", "--url", server.url, "-m", "echo/nothing", "Hello.")
        tool = run("ask", "--url", server.url, "--tool", "nonsense", "Hello.")
        assert len(json.loads(run("sessions", "--json", "--url", server.url).stdout)) == 1
    assert (turn["status"], turn["session_id"]) == ("completed", session["id"])
    assert turn["message"]["content"] == [{"type": "text", "text": "And again."}]
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "(unknown_model)" in refused.stderr
    assert (tool.returncode, "no tool is named 'nonsense' there; there is echo" in tool.stderr) == (2, True)


def test_what_a_server_refuses_is_not_gone_on_with(run, serve, tmp_path):
    """A picture for a model that takes none: the session that had begun for it is put away."""
    (tmp_path / "scan.png").write_bytes(PNG)
    with serve(tmp_path / "served.db") as server:
        run("ask", "--url", server.url, "-m", "echo/echo", "Hello.")
        refused = run("ask", "--url", server.url, "-m", "echo/echo", "-a", "scan.png", "What is this?")
        assert (refused.returncode, "(content_not_supported)" in refused.stderr) == (1, True)
        sessions = json.loads(run("sessions", "--json", "--url", server.url).stdout)
        assert [session["status"] for session in sessions if not session["message_count"]] == ["archived"]
        again = run("ask", "--url", server.url, "-c", "--json", "And again.")
        assert json.loads(again.stdout)["session_id"] == sessions[-1]["id"]


def test_a_turn_that_fails_is_told(run, call, tmp_path):
    """What came stands on standard output, why it ended on standard error, and the exit code says so; --json has it."""
    fail = {"fail": {"code": "provider_rejected", "detail": "not today"}}
    (tmp_path / "script.json").write_text(json.dumps({"models": {"moody": [{"steps": [{"text": "So far"}, fail]}]}}))
    done = run("ask", "-m", "scripted/moody", "Well?", MANENT_SCRIPT="script.json")
    assert (done.returncode, done.stdout) == (1, "So far\n")
    assert "the turn failed: scripted failed: not today (provider_rejected)" in done.stderr
    told = run("ask", "-m", "scripted/moody", "--json", "Well?", MANENT_SCRIPT="script.json")
    assert (told.returncode, json.loads(told.stdout)["status"]) == (1, "failed")
    (*_, session) = json.loads(call("sessions", "--json").stdout)
    shown = call("show", session["id"]).stdout
    assert "[the turn failed: scripted failed: not today (provider_rejected)]" in shown
    assert "[incomplete: failed, provider_rejected]" in shown
    assert "active, 1 failed" in call("sessions").stdout


def test_a_picture_is_sent(run, tmp_path):
    """As a block of its own before the words; a model that takes none is not asked, and nothing is recorded."""
    (tmp_path / "scan.png").write_bytes(PNG)

    async def ask():
        async with upstream(Chat(), Chat().answer("A picture.")) as seen:
            names = {"OPENAI_API_KEY": "sk-1", "MANENT_OPENAI_BASE_URL": f"{seen.address}/v1"}
            done = await asyncio.to_thread(run, "ask", "-m", "openai/gpt-5", "-a", "scan.png", "What is this?", **names)
            return done, seen.requests

    done, requests = asyncio.run(ask())
    assert (done.returncode, done.stdout) == (0, "A picture.\n"), done.stderr
    (request,) = requests
    picture, words = request.json()["messages"][-1]["content"]
    assert picture["image_url"]["url"] == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert words["text"] == "What is this?"
    refused = run("ask", "--database", "other.db", "-a", "scan.png", "What is this?")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "echo/echo takes text only" in refused.stderr
    assert not (tmp_path / "other.db").exists()


def test_ctrl_c_cancels_the_turn(start, call):
    """SIGINT ends the question with 130; what was said is on record, and that it was cancelled."""
    with start("ask", "-m", "echo/paced", "word " * 1000) as process:
        process.stdin.close()
        said = process.stdout.read(8)
        process.send_signal(signal.SIGINT)
        said += process.stdout.read()
        assert process.wait(60) == 130
        assert "cancelled; what came is on record" in process.stderr.read()
    (session,) = json.loads(call("sessions", "--json").stdout)
    answer = json.loads(call("show", session["id"], "--json").stdout)["messages"][-1]
    assert (answer["complete"], answer["content"][0]["text"]) == (False, said.rstrip("\n"))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"GIF89a", "gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", None),
        (b"", None),
        (b"words", None),
    ],
)
def test_a_picture_is_known_by_how_it_begins(data, kind):
    """The name of a file says nothing of what it is."""
    assert image_kind(data) == kind
