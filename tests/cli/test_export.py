"""``manent export`` and ``manent import``: bundles that verify elsewhere, messages for other tools, and back again."""

import asyncio
import json
import subprocess
import sys
import zipfile

import pytest

from tests.support import audit, chatting, query


def verified(file, cwd, *options):
    """What the verifier that is in a bundle says of it."""
    with zipfile.ZipFile(file) as archive:
        (cwd / "verify_bundle.py").write_bytes(archive.read("verify_bundle.py"))
    command = [sys.executable, "-I", "verify_bundle.py", str(file), *options]
    return subprocess.run(command, capture_output=True, encoding="utf-8", cwd=cwd, check=False)


def test_a_session_is_exported_and_verified(run, recorded, database, tmp_path):
    """The file is named by the session, and verifies under the key that the export tells how to get; a letter changed,
    and it does not.
    """
    result = run("export", str(recorded.talked)[:13])
    assert result.returncode == 0, result.stderr
    assert "`manent checkpoint --keys`" in result.stderr
    keys = run("checkpoint", "--keys").stdout.splitlines()
    file = tmp_path / f"{recorded.talked}.zip"
    # The copy that the fixture gives has a key of its own, and another before it.
    ((key, said),) = [(key, said) for key in keys if not (said := verified(file, tmp_path, "--key", key)).returncode]
    first, second = said.stdout.splitlines()
    assert first == f"consistent, signed by {key}"
    assert second.startswith(f"session {recorded.talked} of default, ")
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data.replace(b"Is this on record", b"Is that on record"))
    said = verified(file, tmp_path)
    assert said.returncode == 1
    assert said.stdout.startswith("BROKEN: position 2: ")


def test_a_fork_goes_out_and_in_again(call, recorded, database, tmp_path):
    """Its bundle holds what it shares, and is taken in as one session."""

    async def fork():
        async with chatting(database) as chat:
            fork = await chat.fork(recorded.talked)
            await chat.append_message(fork.id, "The fork's own.")
            return fork.id, (await chat.session(fork.id)).message_count

    session, count = asyncio.run(fork())
    assert call("export", session, "--output", "fork.zip").returncode == 0
    said = verified(tmp_path / "fork.zip", tmp_path)
    assert said.returncode == 0
    assert f"which shares the history of session {recorded.talked} up to version " in said.stdout
    result = call("import", "fork.zip", "--database", "other.db")
    assert result.returncode == 0, result.stderr
    assert query(tmp_path / "other.db", "SELECT count(DISTINCT session), count(*) FROM messages") == [(1, count)]
    assert call("export", session, "--format", "openai", "--output", "fork.jsonl").returncode == 0
    assert "The fork's own." in (tmp_path / "fork.jsonl").read_text("utf-8")


def test_a_log_goes_out_and_in_again(call, database, tmp_path):
    """Whole, with the same hashes, into a database that is made for it."""
    assert call("export", "--log", "--output", "log.zip").returncode == 0
    assert verified(tmp_path / "log.zip", tmp_path).returncode == 0
    result = call("import", "log.zip", "--database", "other.db")
    assert result.returncode == 0, result.stderr
    size = audit(tmp_path / "other.db")
    assert result.stdout == f"log of default: {size} event(s) into other.db\n"
    assert "took in" in result.stderr
    hashes = "SELECT leaf_hash FROM events WHERE tenant = 'default' ORDER BY position"
    assert query(tmp_path / "other.db", hashes) == query(database, hashes)
    again = call("import", "log.zip", "--database", "other.db")
    assert again.returncode == 1
    assert "has begun" in again.stderr


def test_a_session_comes_in_as_another(call, recorded, database, tmp_path):
    """Beside what there is."""
    assert call("export", recorded.talked, "--output", "one.zip").returncode == 0
    result = call("import", "one.zip")
    assert result.returncode == 0, result.stderr
    session = result.stdout.split()[1].rstrip(":")
    shown = call("show", session)
    assert "Is this on record?" in shown.stdout
    assert session != str(recorded.talked)


@pytest.mark.parametrize("style", ["openai", "otel"])
def test_messages_for_other_tools(call, recorded, database, tmp_path, style):
    """One line of JSON for a session, or one for each of the log."""
    assert call("export", recorded.tools, "--format", style, "--output", "one").returncode == 0
    (line,) = (tmp_path / "one").read_text("utf-8").splitlines()
    assert "Rain all week." in line
    json.loads(line)
    assert call("export", "--log", "--format", style).returncode == 0
    lines = (tmp_path / f"default.{style}.jsonl").read_text("utf-8").splitlines()
    assert len([json.loads(line) for line in lines]) == 4


def test_beside_a_server(serve, run, recorded, database, tmp_path):
    """What its checkpoints cover is exported while it runs; the import of it is not for a file that it has."""
    with serve(database):
        result = run("export", str(recorded.talked))
        assert result.returncode == 0, result.stderr
        assert run("import", f"{recorded.talked}.zip").returncode == 1
    assert verified(tmp_path / f"{recorded.talked}.zip", tmp_path).returncode == 0


def test_wrong_use_is_told(call, recorded, database, tmp_path):
    """Neither a session nor --log, both, a file that is there, a session that is not, a database that is not."""
    assert call("export").returncode == 2
    assert call("export", recorded.talked, "--log").returncode == 2
    (tmp_path / "there.zip").write_bytes(b"x")
    assert call("export", "--log", "--output", "there.zip").returncode == 1
    assert (tmp_path / "there.zip").read_bytes() == b"x"
    assert call("export", "0" * 32).returncode == 1
    assert call("export", "--log", "--database", "missing.db").returncode == 1
    assert call("import", "missing.zip").returncode == 2
    (tmp_path / "no.zip").write_bytes(b"nonsense")
    broken = call("import", "no.zip")
    assert broken.returncode == 1
    assert "cannot be read" in broken.stderr
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".part")] == []
