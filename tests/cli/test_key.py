"""``manent key``: making API keys."""

import hashlib
import json
import re
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

KEY = re.compile(r"manent_[A-Za-z0-9_-]{43}\n")


def sha256(key):
    return hashlib.sha256(key.strip().encode()).hexdigest()


def test_a_key_is_printed_once_and_its_hash_kept(run, tmp_path):
    """The key alone is on standard output; the file, for its owner only, holds its hash, tenant and scopes."""
    done = run("key", "alice", "--file", "keys.json", "--tenant", "acme", "--scope", "chat", "--scope", "audit")
    assert done.returncode == 0, done.stderr
    assert KEY.fullmatch(done.stdout)
    path = tmp_path / "keys.json"
    entry = {"id": "alice", "sha256": sha256(done.stdout), "tenant": "acme", "scopes": ["audit", "chat"]}
    assert json.loads(path.read_text()) == [entry]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert done.stdout.strip() not in path.read_text() + done.stderr


def test_a_key_opens_a_server(run, call, serve, tmp_path):
    """A server that reads the file answers who has the key, and nobody else."""
    key = call("key", "alice", "--file", "keys.json").stdout
    (tmp_path / "key").write_text(key)
    with serve(tmp_path / "manent.db", "--api-keys-file", "keys.json") as server:
        answered = run("chat", "--url", server.url, "--api-key-file", "key", given="Hello\n")
        also = run("chat", "--url", server.url, given="Hello\n", MANENT_API_KEY=key.strip())
        refused = call("chat", "--url", server.url)
    assert answered.stdout == also.stdout == "Hello\n"
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "(unauthorized)" in refused.stderr


def test_without_a_file_the_entry_is_shown(call):
    """Where no file is named, the entry is printed beside the key, ready to be put into one."""
    done = call("key", "bob")
    entry = json.loads(done.stderr.splitlines()[-1])
    assert entry == {"id": "bob", "sha256": sha256(done.stdout), "tenant": "default", "scopes": ["chat"]}


def test_the_file_is_the_one_that_the_server_reads(call, tmp_path):
    """MANENT_API_KEYS_FILE names the file where --file does not."""
    call("key", "alice", MANENT_API_KEYS_FILE="ours.json")
    assert json.loads((tmp_path / "ours.json").read_text())[0]["id"] == "alice"


def test_keys_made_at_once_are_all_kept(run, tmp_path):
    """No key is lost where several are added at the same time."""
    names = [f"key{number}" for number in range(3)]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda name: run("key", name, "--file", "keys.json"), names))
    entries = {entry["id"]: entry["sha256"] for entry in json.loads((tmp_path / "keys.json").read_text())}
    assert entries == {name: sha256(each.stdout) for name, each in zip(names, done, strict=True)}


@pytest.mark.parametrize(
    ("command", "before"),
    [
        (("alice",), '[{"id": "alice", "sha256": "%s"}]' % ("0" * 64)),
        (("bob",), '{"no": "list"}'),
        (("bob",), "\x00"),
        (("bob smith",), "[]"),
        (("bob@example.org",), "[]"),
        (("bob", "--tenant", "No Such"), "[]"),
        (("bob", "--scope", "everything"), "[]"),
        ((), "[]"),
    ],
)
def test_what_cannot_be_added_changes_nothing(call, tmp_path, command, before):
    """A taken or malformed id, an unknown scope, a file of something else: exit code 2, no key, the file as it was."""
    path = tmp_path / "keys.json"
    path.write_text(before)
    done = call("key", *command, "--file", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert path.read_text() == before
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("before", ["[]", "", "\n"])
def test_an_empty_file_takes_its_first_key(call, tmp_path, before):
    """A list of nothing, or nothing, is a file of keys to be."""
    path = tmp_path / "keys.json"
    path.write_text(before)
    assert call("key", "alice", "--file", path).returncode == 0
    assert [entry["id"] for entry in json.loads(path.read_text())] == ["alice"]


def test_a_folder_that_is_not_there_is_named(call):
    """A file that cannot be written ends in a sentence, and no key is printed."""
    done = call("key", "alice", "--file", "none/keys.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be written: No such file or directory" in done.stderr
