"""How the real process starts and ends: what it says to whom, and that a refused start leaves nothing behind."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing

import pytest

from manent import engine
from manent.engine import Settings, StoreError
from manent.engine.log.sqlite.lock import holder
from tests.api.harness import MANENT, PATIENCE_S, Process, in_thread, opened
from tests.support import execute


def run(folder, *options, **environment):
    """A start that is refused: its exit code, and its one line."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MANENT_")}
    done = subprocess.run(
        [MANENT, "serve", "--database", "manent.db", *options],
        env=inherited | {"MANENT_PORT": "0"} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd=folder,
    )
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return done.returncode, line


def contents(folder):
    """Every file below a folder, with its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- the start --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """What a server without keys says of its start, item by item, and a file that it works on."""
    folder = tmp_path_factory.mktemp("started")
    keys = {"OPENAI_API_KEY": "sk-of-nobody", "ANTHROPIC_API_KEY": ""}
    with Process(str(folder / "manent.db"), **keys) as server:
        server.said("  stop ")
        yield server, dict(re.findall(r"^  (\w+) +(.+)$", "\n".join(server.lines), re.MULTILINE))


def test_the_start_says_what_is_served(started):
    """The version, the file and its size, the model, the tools, who may call, where to look, and how to stop."""
    server, items = started
    assert f"manent {engine.version()}" in server.lines
    assert re.fullmatch(rf"{re.escape(str(server.database))} \([\d.]+ kB\)", items["database"])
    assert items["model"].startswith("echo/echo")
    assert items["tools"] == "echo, calculator, timestamp"
    assert "none" in items["keys"]
    assert "this machine" in items["keys"]
    assert items["browse"] == f"{server.url}/console/"
    assert items["stop"] == "Ctrl-C"


def test_the_start_says_what_would_add_more(started):
    """The providers there are, and for each that is missing what adds it."""
    _, items = started
    there, *missing = items["providers"].split("; ")
    assert {"echo", "openai"} <= set(there.split(", "))
    assert "ANTHROPIC_API_KEY adds anthropic" in missing
    assert not [each for each in missing if "openai" in each]


def test_the_address_that_it_says_leads_somewhere(started):
    """It can be opened in a browser."""
    server, items = started
    with server.client() as client:
        assert client.get(items["browse"]).headers["content-type"].startswith("text/html")


def test_with_keys_the_start_says_how_many(tmp_path):
    """And where they are."""
    subprocess.run([MANENT, "key", "ann", "--file", "keys.json"], check=True, cwd=tmp_path, capture_output=True)
    with Process(str(tmp_path / "manent.db"), MANENT_API_KEYS_FILE="keys.json") as server:
        assert "1 in keys.json" in server.said("  keys ")


# --- a second start ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", ["the same", "another"])
def test_a_second_start_names_the_first(tmp_path, port):
    """By the file, the pid and the address, whichever port it would take; the first one serves on."""
    with Process(str(tmp_path / "manent.db")) as server, server.client() as client:
        code, said = run(tmp_path, "--port", server.url.rpartition(":")[2] if port == "the same" else "0")
        assert code == 1
        for told in ("manent.db", f"(pid {server.popen.pid})", server.url):
            assert told in said
        assert client.get("/readyz").json() == {"status": "ready", "damaged": 0}


def test_the_lock_is_read_by_older_versions(tmp_path):
    """They read 32 bytes, and find the pid alone; the address stands behind them."""
    with Process(str(tmp_path / "manent.db")) as server:
        lock = (tmp_path / "manent.db.lock").read_bytes()
        assert lock[:32].decode().strip() == str(server.popen.pid) == holder(server.database)
        assert lock[32:].decode() == server.url


def test_a_server_that_was_killed_is_not_named(tmp_path):
    """What it wrote into its lock means nothing once it is gone, and the next one writes its own."""
    with Process(str(tmp_path / "manent.db")) as server:
        server.send(signal.SIGKILL)
        server.wait()
    assert holder(server.database) is None
    with Process(str(tmp_path / "manent.db")) as another:
        assert another.url in (tmp_path / "manent.db.lock").read_text()
        assert server.url not in (tmp_path / "manent.db.lock").read_text()


# --- the end ----------------------------------------------------------------------------------------------------------


def test_the_end_says_what_it_waits_for(tmp_path):
    """How many turns and streams, for how long at most, and how to hurry; at once, and not after the wait."""
    with Process(str(tmp_path / "manent.db"), MANENT_DRAIN_S="30") as server, server.client() as client:
        path = client.post("/api/sessions", json={"model": "echo/paced"}).headers["location"]
        asked = {"content": "words " * 200}
        turn = client.post(f"{path}/turns", json=asked, headers={"Prefer": "respond-async"}).json()["id"]
        with opened(client, "GET", f"/api/turns/{turn}/stream") as stream:
            stream.until("delta")
            server.send(signal.SIGINT)
            said = server.said("stopping")
            for told in ("1 turn ", "1 stream,", "at most 30 s", "Ctrl-C again"):
                assert told in said
            assert server.popen.poll() is None
            stream.until("turn.completed")
        assert server.wait() == 0


def test_an_end_with_nothing_to_wait_for_is_short(tmp_path):
    """It says so, waits for nothing, and exits 0."""
    with Process(str(tmp_path / "manent.db"), MANENT_DRAIN_S="30") as server:
        assert server.stop(signal.SIGINT) == 0
        assert "stopping" in server.lines
    assert len(server.output) == 1


# --- a start that is refused ------------------------------------------------------------------------------------------


def refused(settings):
    """What keeps a server from starting."""
    with pytest.raises(engine.EngineError) as refusal, in_thread(settings):
        pass
    return refusal.value


def sqlite_file(path, *statements):
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


FOREIGN = {
    "another program's database": lambda path: sqlite_file(path, "CREATE TABLE t (x)"),
    "one with a write-ahead log": lambda path: sqlite_file(path, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)"),
    "a text": lambda path: path.write_text("Dear Ann,\n" * 1000),
    "a short text": lambda path: path.write_text("Ann"),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_a_database_that_is_refused_leaves_nothing_behind(tmp_path, make):
    """No lock, no log, no key and no checkpoints lie beside what is not Manent's, and no byte of it has changed."""
    make(tmp_path / "manent.db")
    before = contents(tmp_path)
    assert isinstance(refused(Settings(database=str(tmp_path / "manent.db"), port=0)), StoreError)
    assert contents(tmp_path) == before


async def test_a_newer_database_is_refused_and_left_as_it_was(tmp_path):
    """No key is made where the one that it had is gone."""
    path = tmp_path / "manent.db"
    async with engine.open(path) as chat:
        await chat.create_session()
    execute(path, "UPDATE alembic_version SET version_num = '9999'")
    for beside in tmp_path.glob("manent.db.*"):
        beside.unlink()
    before = contents(tmp_path)
    assert "newer version" in refused(Settings(database=str(path), port=0)).detail
    assert contents(tmp_path) == before


def test_a_port_that_is_taken_makes_no_database(tmp_path):
    """Nor anything else; exit code 2, and one line that names the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = run(tmp_path, "--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "cannot listen on 127.0.0.1:" in said
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": "no/such"}, "no provider here serves no/such"),
        ({"script": "none.json"}, "script"),
        ({"models_file": "none.json", "openai_api_key": "sk-nobodys"}, "models_file"),
        ({"api_keys_file": "none.json"}, "api_keys_file"),
        ({"host": "0.0.0.0"}, "MANENT_API_KEYS_FILE"),
        ({"cors_origins": "*"}, "cors_origins"),
    ],
)
def test_settings_that_are_refused_make_no_database(tmp_path, settings, told):
    """Each is named."""
    assert told in refused(Settings(database=str(tmp_path / "manent.db"), port=0, **settings)).detail
    assert contents(tmp_path) == {}


def test_a_folder_that_is_not_there_is_named(tmp_path):
    """And not made."""
    assert str(tmp_path / "none") in refused(Settings(database=str(tmp_path / "none" / "manent.db"), port=0)).detail
    assert list(tmp_path.iterdir()) == []
