"""What reads a record reads it where nothing can be written: on a read-only file system, in another's folder.

The file system is a small one in a name space of its own, into which the files are copied and which is then closed for
writing; where the system lets nobody make one, these tests say that they have shown nothing.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from manent import engine
from tests.support import chatting

MANENT = Path(sys.executable).with_name("manent")
COPIED = 'mount -t tmpfs none "$1" && cp "$2"/* "$1" && mount -o remount,ro "$1" && shift 2 && exec "$@"'
BESIDE = 'mount --bind "$2" "$1" && mount -o remount,bind,ro "$1" && shift 2 && exec "$@"'
IN_A_NAME_SPACE = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c"]
AS_ANYBODY = ["unshare", "--user", "--map-user=1000"] if os.geteuid() == 0 else []
WORDS = "The newest words."


def works(*command):
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture
def media(tmp_path):
    """Puts the files of a folder on a medium, and runs commands there: what is printed, and that nothing is left."""
    medium, home, temporary = tmp_path / "medium", tmp_path / "home", tmp_path / "temporary"
    for folder in (medium, home, temporary):
        folder.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("MANENT_")}

    def run(kind, source, *words):
        if kind != "folder":
            mount = BESIDE if kind == "beside a server" else COPIED
            prefix = [*IN_A_NAME_SPACE, mount, "bash", str(medium), str(source)]
        else:
            shutil.copytree(source, medium, dirs_exist_ok=True)
            medium.chmod(0o555)
            prefix = AS_ANYBODY
        command = [*prefix, str(MANENT), *words, "--database", str(medium / "chat.db")]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                encoding="utf-8",
                cwd=home,
                env=env | {"TMPDIR": str(temporary)},
                check=False,
                timeout=60,
            )
            assert kind != "folder" or {f.name for f in medium.iterdir()} == {f.name for f in source.iterdir()}
        finally:
            medium.chmod(0o755)
        assert list(temporary.iterdir()) == [], "a private copy is left behind"
        return done

    run.home = home
    return run


@pytest.fixture(params=["file system", "folder"])
def kind(request, tmp_path):
    """The two kinds of places in which nothing can be written."""
    return possible(request.param, tmp_path)


def possible(kind, tmp_path):
    """The kind, where such a place can be made here."""
    (tmp_path / "try").mkdir()
    space = [*IN_A_NAME_SPACE, COPIED, "bash", str(tmp_path / "try"), str(Path(__file__).parent)]
    probe = AS_ANYBODY if kind == "folder" else space
    if probe and not works(*probe, "true"):
        pytest.skip(f"NOT SHOWN: reading where nothing can be written ({kind}). No name space can be made here")
    return kind


@pytest.fixture(params=["closed", "killed", "copied"])
def recorded(request, tmp_path):
    """A folder with a database as it is left by a server that was closed, by one that was killed (with its write-ahead
    log and the index of that), and by somebody who copied the file and its log; and the session in it.
    """
    live, source = tmp_path / "live", tmp_path / "source"
    live.mkdir()
    source.mkdir()

    async def write():
        async with chatting(live / "chat.db") as chat:
            session = (await chat.create_session(title="On record")).id
            await chat.append_message(session, WORDS)
            await chat.evidence.checkpoint(new=True)
            key, *_ = await chat.evidence.keys()
            if request.param != "closed":
                copy(live, source)
            return str(session), key

    def copy(*_):
        for file in live.iterdir():
            if not (file.name.endswith(".lock") or (request.param == "copied" and file.name.endswith("-shm"))):
                shutil.copy(file, source)

    session, key = asyncio.run(write())
    if request.param == "closed":
        copy()
    log = source / "chat.db-wal"
    assert (log.exists() and log.stat().st_size > 0) == (request.param != "closed")
    return source, session, key


@pytest.mark.slow
@pytest.mark.timeout(300)  # five processes, on a busy machine
def test_what_reads_the_record_reads_it_there(media, kind, recorded):
    """Verify, sessions, show and export work, see what only the write-ahead log holds, and leave nothing behind."""
    source, session, key = recorded
    verified = media(kind, source, "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "verified 2 events (0 erased), 2 checkpoints" in verified.stdout
    assert "signed by the key in" in verified.stdout
    assert "On record" in media(kind, source, "sessions").stdout
    assert WORDS in media(kind, source, "show", session).stdout
    exported = media(kind, source, "export", session, "--output", "talk.zip")
    assert exported.returncode == 0, exported.stderr
    told = media(kind, source, "export", session, "--format", "openai", "--output", "talk.jsonl")
    assert told.returncode == 0, told.stderr
    assert WORDS in (media.home / "talk.jsonl").read_text("utf-8")
    verifier = Path(engine.__file__).parent / "audit/bundle/verify_bundle.py"
    command = [sys.executable, "-I", verifier, media.home / "talk.zip", "--key", key]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_what_was_changed_is_found_there(media, kind, recorded):
    """A broken record on a read-only medium is exit code 1, as anywhere: the last page that was written is another."""
    source, *_ = recorded
    log, file = source / "chat.db-wal", source / "chat.db"
    damaged = log if log.exists() else file
    data = damaged.read_bytes()
    assert WORDS.encode() in data
    damaged.write_bytes(data.replace(WORDS.encode(), WORDS.upper().encode()))
    assert media(kind, source, "verify").returncode == 1


def test_no_checkpoint_can_be_made_there(media, kind, tmp_path):
    """A bundle of what nobody has signed for is refused with the reason; what must be writable says that it is not."""
    source = tmp_path / "source"
    source.mkdir()

    async def write():
        async with chatting(source / "chat.db", checkpoint_file=str(tmp_path / "no" / "folder")) as chat:
            await chat.create_session()

    asyncio.run(write())
    (source / "chat.db.lock").unlink()
    done = media(kind, source, "export", "--log", "--output", "log.zip")
    assert done.returncode == 1
    assert "none can be made where nothing can be written" in done.stderr
    assert list(media.home.iterdir()) == []
    done = media(kind, source, "checkpoint", "--new")
    assert done.returncode == 1
    assert re.search("folder .* cannot be written", done.stderr)


async def test_a_server_that_writes_is_read_beside_there(media, tmp_path):
    """The medium is a window on a folder in which a server runs: what it has just written is seen, and not a copy."""
    kind, live = possible("beside a server", tmp_path), tmp_path / "live"
    live.mkdir()
    async with chatting(live / "chat.db") as chat:
        session = (await chat.create_session()).id
        for words in ("First.", "Second."):
            await chat.append_message(session, words)
            assert words in (await asyncio.to_thread(media, kind, live, "show", str(session))).stdout


def test_an_export_into_a_place_that_cannot_be_written_is_refused(call, recorded):
    """By the name of the option."""
    source, session, _ = recorded
    done = call("export", session, "--output", "nowhere/talk.zip", "--database", source / "chat.db")
    assert done.returncode == 2
    assert "output: cannot be written" in done.stderr
