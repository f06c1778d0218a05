"""What a newcomer gets wrong: one line that names it and says what to do, the right exit code, and nothing left behind.

Nothing here needs a process of its own, nor a server: `call` runs the same `main`.
"""

import io
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import query

ANOTHER = "00000000-0000-7000-8000-000000000000"
AWAY = "http://127.0.0.1:1"

WRONG = [
    # --- options and arguments
    (("shew",), 2, "No such command 'shew'"),
    (("sessions", "--limt", "4"), 2, "No such option '--limt'"),
    (("sessions", "--limit", "0"), 2, "'--limit': 0 is not in the range"),
    (("sessions", "--limit", "many"), 2, "'many' is not a valid integer"),
    (("sessions", "--status", "open"), 2, "'--status': 'open' is not one of"),
    (("show",), 2, "Missing argument 'SESSION'"),
    (("erase", "01"), 2, "Missing option '--reason'"),
    (("title", "01"), 2, "Missing argument 'TEXT'"),
    (("export",), 2, "give a session or --log"),
    (("proof", "01"), 2, "give either SESSION and VERSION, or --from"),
    (("tail", "--type", "turn.ended"), 2, "there is no event 'turn.ended'; there is session.started"),
    (("tail", "-n", "3"), 2, "--lines goes with a session"),
    (("chat", "--last", "-c", "01"), 2, "name two sessions"),
    (("ask", "-c", "--session", "01", "hi"), 2, "name two sessions"),
    (("ask", "-c", "-s", "Be brief.", "hi"), 2, "--system goes with a new session only"),
    (("ask",), 2, "there is no question"),
    (("run", "none.yaml"), 2, "none.yaml: cannot be read"),
    (("serve", "--port", "http"), 2, "'--port': 'http' is not a valid integer"),
    (("serve", "--port", "70000"), 2, "'--port': 70000 is not in the range"),
    (("serve", "--log-format", "xml"), 2, "'--log-format': 'xml' is not one of"),
    # --- sessions
    (("show", "hello"), 2, "'hello' is not the id of a session, or the beginning of one"),
    (("show", "0"), 1, "more than one session begins with 0"),
    (("show", "ffff"), 1, "there is no session ffff"),
    (("show", ANOTHER), 1, f"there is no session {ANOTHER}"),
    (("ask", "--session", "ffff", "hi"), 1, "there is no session ffff"),
    (("hold", "ffff"), 1, "there is no session ffff"),
    (("title", "ffff", "Mine"), 1, "there is no session ffff"),
    (("fork", "ffff"), 1, "there is no session ffff"),
    (("erase", "ffff", "--reason", "x"), 1, "there is no session ffff"),
    (("export", "ffff"), 1, "there is no session ffff"),
    (("explain", "ffff"), 1, "there is no turn, and no session, ffff"),
    (("tail", "ffff"), 1, "there is no session ffff"),
    # --- models, tools, attachments
    (("ask", "-m", "gtp-5", "hi"), 2, "no provider here serves gtp-5; there is echo/echo"),
    (("ask", "-m", "echo/nothing", "hi"), 2, "there is echo/echo"),
    (("chat", "-m", "openai/gpt-5"), 2, "there is echo/echo"),
    (("ask", "--tool", "calc", "hi"), 2, "no tool is named 'calc'"),
    (("ask", "-a", "none.png", "hi"), 2, "none.png cannot be read: No such file or directory"),
    (("ask", "-a", ".", "hi"), 2, ". cannot be read: Is a directory"),
    (("ask", "-a", "noise.bin", "hi"), 2, "noise.bin is neither an image (png, jpeg, gif, webp) nor UTF-8 text"),
    (("ask", "-a", "empty.txt", "hi"), 2, "empty.txt is empty"),
    (("ask", "-a", "large.txt", "hi"), 2, "large.txt is larger than 1048576 bytes, which is MANENT_MAX_MESSAGE_BYTES"),
    (("ask", "x" * (1 << 20 | 1)), 1, "1048576"),
    # --- places
    (("sessions", "--database", "none.db"), 1, "there is no database at none.db"),
    (("ask", "--database", "no/folder/chat.db", "hi"), 1, "there is no folder no/folder"),
    (("sessions", "--database", "noise.bin"), 1, "not a Manent database"),
    (("ask", "--database", "noise.bin", "hi"), 1, "not a Manent database"),
    (("sessions", "--database", "mysql://here/chat"), 2, "mysql"),
    (("sessions", "--url", AWAY), 1, f"{AWAY} cannot be reached: Connection refused; manent serve starts a server"),
    (("ask", "--url", AWAY, "hi"), 1, f"{AWAY} cannot be reached"),
    (("models", "--url", "127.0.0.1:8000"), 2, "'127.0.0.1:8000' is no address of a server: it must be like http://"),
    (("tail", "--url", "localhost"), 2, "'localhost' is no address of a server"),
    (("show", "01", "--url", AWAY, "--database", "manent.db"), 2, "give one of them"),
    (("show", "01", "--url", AWAY, "--tenant", "acme"), 2, "--tenant goes with a database file"),
    (("show", "01", "--url", AWAY, "--api-key-file", "none"), 2, "none cannot be read: No such file"),
    (("show", "01", "--url", AWAY, "--api-key-file", "noise.bin"), 2, "noise.bin cannot be read: it is no text"),
    (("show", "01", "--url", AWAY, "--api-key-file", "empty.txt"), 2, "empty.txt holds no key"),
    (("sessions", "--tenant", "No Such"), 2, "tenant"),
    (("export", "--log", "--url", AWAY), 2, "a whole log is exported from its database file"),
    (("export", "--log", "--output", "manent.db"), 1, "manent.db is there already"),
    (("export", "--log", "--output", "no/folder/log.zip"), 2, "cannot be written"),
    (("import", "noise.bin", "--database", "new.db"), 1, "cannot be read"),
    (("import", "none.zip", "--database", "new.db"), 2, "cannot be read"),
    (("key", "a b"), 2, "id"),
]


@pytest.fixture
def place(database, tmp_path):
    """A folder with a database, and with files that are none of what they should be."""
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)) * 64)
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "large.txt").write_bytes(b"x" * (1 << 20 | 1))
    return tmp_path


@pytest.fixture
def typed(monkeypatch, tmp_path):
    """Puts bytes on standard input, as a file does."""
    with ExitStack() as stack:

        def typed(data):
            (tmp_path / ".typed").write_bytes(data)
            opened = stack.enter_context((tmp_path / ".typed").open("rb"))
            monkeypatch.setattr(sys, "stdin", stack.enter_context(io.TextIOWrapper(opened)))

        yield typed


def contents(folder):
    """The files, but for those that lie beside the database, with what they hold; and the events on record."""
    files = {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith("manent.db")}
    return files, query(folder / "manent.db", "SELECT count(*) FROM events")


@pytest.mark.parametrize(("command", "code", "said"), WRONG, ids=[" ".join(each[0])[:60] for each in WRONG])
def test_one_line_says_what_was_wrong(call, typed, place, command, code, said):
    """It names what was wrong; the exit code is that of wrong use, or of what could not be done; nothing changes."""
    typed(b"")
    before = contents(place)
    done = call(*command)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("manent: ")
    assert contents(place) == before


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("ask", "-m", "gtp-5", "hi"), "no provider here serves gtp-5"),
        (("ask", "-a", "none.png", "hi"), "none.png cannot be read"),
        (("ask", "x" * (1 << 20 | 1)), "1048576"),
        (("ask", "-c", "hi"), "there is no session to go on with"),
        (("ask", "--session", "01", "hi"), "there is no session 01"),
        (("chat", "--last"), "there is no session to go on with"),
        (("sessions",), "there is no database at manent.db"),
        (("hold", "01"), "there is no database at manent.db"),
        (("retain", "--days", "1"), "there is no database at manent.db"),
    ],
)
def test_an_empty_folder_stays_empty(call, typed, tmp_path, command, said):
    """What is refused makes no database."""
    typed(b"")
    done = call(*command)
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == [".typed"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xfe\x00", "question: is not UTF-8"),
        (b"a\0b", "NUL"),
        (b"x" * (8 << 20 | 1), "larger than 8388608 bytes, which is MANENT_MAX_BODY_BYTES"),
        (b" \n\n", "there is no question"),
    ],
)
def test_a_pipe_that_holds_no_question_is_refused(call, typed, tmp_path, data, said):
    """Bytes that are no text, or no question, are not sent."""
    typed(data)
    done = call("ask")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == [".typed"]


def test_a_server_that_has_the_file_is_named(call, typed, serve, recorded, database):
    """What writes is refused beside a server, with its pid and its address, and with how to ask it; what only reads, or
    tries, is not.
    """
    session = str(recorded.talked)
    typed(b"")
    with serve(database) as server:
        for command in (
            ("ask", "hi"),
            ("title", session, "Mine"),
            ("hold", session),
            ("fork", session),
            ("erase", session, "--reason", "x"),
        ):
            done = call(*command)
            assert (done.returncode, done.stdout) == (1, ""), command
            assert f"(pid {server.pid}) at {server.url}" in done.stderr
            assert f"--url {server.url} works there" in done.stderr
        for command in (("retain", "--days", "0", "--dry-run"), ("erase", session, "--reason", "x", "--dry-run")):
            done = call(*command)
            assert done.returncode == 0, done.stderr
            assert "would" in done.stdout


def test_a_reader_that_leaves_is_no_error(run, recorded, database):
    """A pipe that is closed at the other end, and a full disk, end a command without a traceback."""
    if Path("/dev/full").exists():
        done = run("-c", 'exec manent show "$0" > /dev/full', recorded.talked, program=("bash",), PATH=_path())
        assert (done.returncode, done.stderr) == (1, "manent: standard output: No space left on device\n")
    done = run("-c", 'manent show "$0" --events | head -1', recorded.talked, program=("bash",), PATH=_path())
    assert "Traceback" not in done.stderr


def _path():
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
