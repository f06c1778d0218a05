"""``manent transcript``: the page or the Markdown of a session, from the file or from a server."""

import httpx
import pytest


def test_it_writes_a_file_named_by_the_session(call, recorded, database, tmp_path):
    """The beginning of an id will do; what is there already stays, and nothing half done is left."""
    result = call("transcript", str(recorded.talked)[:13])
    assert result.returncode == 0, result.stderr
    path = tmp_path / f"{recorded.talked}.html"
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")
    for expected in ("A talk", "Is this on record?", "second line", "echo/echo"):
        assert expected in page
    assert f"{path.name}: written" in result.stderr
    again = call("transcript", recorded.talked)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("form", ["html", "md"])
def test_it_writes_to_standard_output(run, recorded, database, tmp_path, form):
    """With ``-``: that and nothing else; no control character of anybody's reaches a terminal."""
    result = run("transcript", recorded.broken, "--format", form, "-o", "-")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    assert "The turn was cancelled." in result.stdout
    assert "Half of it." in result.stdout
    assert not list(tmp_path.glob("*.html"))


def test_it_ends_at_a_version(call, recorded, database):
    """And what came later is not in it."""
    result = call("transcript", recorded.talked, "--format", "md", "-o", "-", "--version", "2")
    assert "Is this on record?" in result.stdout
    assert "second line" not in result.stdout


def test_it_asks_a_server(serve, run, recorded, database, tmp_path):
    """The same over the API, where a checkpoint that covers all of it can be signed."""
    with serve(database) as server:
        result = run("transcript", recorded.tools, "--url", server.url, "-o", "tools.html")
        assert result.returncode == 0, result.stderr
        unknown = run("transcript", recorded.other, "--url", server.url, "-o", "other.html")
    page = (tmp_path / "tools.html").read_text(encoding="utf-8")
    for expected in ("weather", "Rain all week.", "Signature by", "key id"):
        assert expected in page
    assert unknown.returncode == 1
    assert "session_not_found" in unknown.stderr
    assert {path.name for path in tmp_path.glob("*.html*")} == {"tools.html"}


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["ffffffff"], 1, "there is no session ffffffff"),
        (["not-an-id"], 2, "is not the id of a session"),
        (["0", "--format", "pdf"], 2, "'pdf' is not one of"),
        (["0", "--version", "0"], 2, "--version"),
        (["TALKED", "-o", "no/such/folder/x.html"], 2, "output: cannot be written: No such file or directory"),
        (["TALKED", "--version", "99"], 1, "has no version 99"),
        (["0", "--url", "http://127.0.0.1:1", "--database", "x.db"], 2, "give one of them"),
    ],
)
def test_wrong_use_is_named(call, recorded, database, tmp_path, given, code, said):
    """In one line, with the exit code that goes with it; and no file is left."""
    result = call("transcript", *(str(recorded.talked) if each == "TALKED" else each for each in given))
    assert result.returncode == code
    assert said in result.stderr
    assert not list(tmp_path.glob("*.html*"))


def test_beside_a_server_it_says_what_no_checkpoint_covers(serve, run, database):
    """Nothing can be signed there: the transcript is written, and says what is missing and how to check the rest."""
    with serve(database, "--checkpoint-every-s", "3600") as server:
        with httpx.Client(base_url=server.url) as client:
            client.post("/api/sessions", json={})
            client.post("/api/log/checkpoint", json={})
            session = client.post("/api/sessions", json={"title": "New"}).json()["id"]
        result = run("transcript", session, "--format", "md", "-o", "-", "--database", database)
    assert result.returncode == 0, result.stderr
    assert "No checkpoint covers this yet" in result.stdout
    assert "manent verify" in result.stdout
