"""``manent verify``, ``proof``, ``checkpoint`` and ``doctor --accept-break``, as they are used."""

import asyncio
import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from manent import engine
from manent.engine.audit.notes import Verifier, parse_checkpoint, parse_note, parse_verifier
from manent.engine.log.merkle import verify_consistency
from manent.engine.log.sqlite.guards import GUARDS
from tests.support import execute, query


@pytest.fixture
def session(database):
    """The id of a session of the file."""
    return query(database, "SELECT lower(hex(session)) FROM sessions WHERE tenant = 'default' LIMIT 1")[0][0]


def change(database, sql):
    """What somebody with a shell does: guards away, a change, guards back."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for name in GUARDS:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(sql)
        for guard in GUARDS.values():
            connection.execute(guard)


def test_a_sound_file_is_verified(call, database):
    """Exit code 0, how much was looked at, and how far it was in tenths."""
    done = call("verify")
    assert done.returncode == 0
    assert done.stdout.endswith("signer not checked\n"), "no key was given, and none lies there"
    events = query(database, "SELECT sum(size) FROM heads")[0][0]
    assert f"verified {events} events (0 erased)" in done.stdout
    report = json.loads(call("verify", "--json").stdout)
    assert (report["ok"], report["events"], report["problem"]) == (True, events, None)


def test_the_key_to_verify_by_is_the_options_the_environments_or_the_files(call, database):
    """In this order; by a key that signed nothing the exit code is 1, and the key that did sign is named."""
    assert call("checkpoint", "--new").returncode == 0
    key, *_ = call("checkpoint", "--keys").stdout.splitlines()
    other = str(Verifier(key.partition("+")[0], 1, Ed25519PrivateKey.generate().public_key().public_bytes_raw()))
    assert call("verify").stdout.endswith("signed by the key in manent.db.key\n")
    assert call("verify", MANENT_VERIFY_KEY=key).stdout.endswith("signed by the key that was given\n")
    done = call("verify", MANENT_VERIFY_KEY=other)
    assert done.returncode == 1
    assert f"+{key.split('+', 2)[2]}; the key that was given has signed none yet" in done.stdout
    assert call("verify", "--key", key, MANENT_VERIFY_KEY=other).returncode == 0
    assert call("verify", "--key", other, MANENT_VERIFY_KEY=key).returncode == 1
    assert call("verify", "--key", other, "--key", key).returncode == 0
    report = json.loads(call("verify", "--json", "--key", key).stdout)
    assert (report["ok"], report["signer"]) == (True, "that was given")
    assert call("verify", "--key", "nonsense").returncode == 2


@pytest.mark.parametrize("position", [1, 5])
def test_a_changed_event_is_named(call, database, position):
    """Exit code 1, the position, and what is wrong with it."""
    change(database, f"UPDATE events SET actor = 'key:x' WHERE tenant = 'default' AND position = {position}")
    done = call("verify")
    assert done.returncode == 1
    assert f"BROKEN: default: position {position} has other columns than were hashed" in done.stdout
    report = json.loads(call("verify", "--json").stdout)
    assert (report["ok"], report["tenant"], report["position"]) == (False, "default", position)


def test_what_cannot_be_begun_with(call, tmp_path, database):
    """No file, a key that is none: exit codes 1 and 2, and nothing is made."""
    assert call("verify", "--database", "nowhere.db").returncode == 1
    assert call("verify", "--signing-key-file", "nowhere.pem").returncode == 2
    assert not (tmp_path / "nowhere.db").exists()


def test_a_proof_is_printed(call, database, session):
    """As a C2SP tlog-proof, and as JSON of the API's shape."""
    text = call("proof", session, "2").stdout
    proof = json.loads(call("proof", session, "2", "--json").stdout)
    assert text.startswith("c2sp.org/tlog-proof@v1\nextra ")
    assert text.endswith(proof["checkpoint"])
    assert [base64.b64decode(line).hex() for line in text.partition("\n\n")[0].split("\n")[3:]] == proof["hashes"]
    assert json.loads(proof["leaf"])["version"] == 2


def test_consistency_is_printed(call, database):
    """That the log only grew, from a size on."""
    proof = json.loads(call("proof", "--from", "3", "--json").stdout)
    roots = bytes.fromhex(proof["from_root"]), bytes.fromhex(proof["to_root"])
    assert verify_consistency(3, proof["to"], *roots, [bytes.fromhex(each) for each in proof["hashes"]])
    assert call("proof", "--from", "3").stdout.startswith("old 3\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["0123"],
        ["0123", "0"],
        ["0123", "x"],
        ["--from", "-1"],
        ["--from", "9", "--to", "8"],
        ["0123", "1", "--from", "1"],
    ],
)
def test_wrong_use_of_proof(call, database, arguments):
    """Exit code 2."""
    assert call("proof", *arguments).returncode == 2


def test_an_event_that_is_not_there_has_no_proof(call, database, session):
    """Exit code 1."""
    assert call("proof", session, "999").returncode == 1


def test_a_checkpoint_is_printed_and_made(call, database):
    """A signed note, and the keys that verify it; a new one says the same where nothing is new."""
    note = call("checkpoint", "--new").stdout
    key, *_ = call("checkpoint", "--keys").stdout.splitlines()
    assert parse_verifier(key).signed(parse_note(note))
    assert call("checkpoint", "--new").stdout == note
    assert (
        parse_checkpoint(parse_note(note).text).size
        == query(database, "SELECT size FROM heads WHERE tenant = 'default'")[0][0]
    )


def test_a_witness_is_kept(call, database, tmp_path):
    """What a witness signed is below the checkpoint from then on; what it did not sign is refused."""
    note = call("checkpoint", "--new").stdout
    text = parse_note(note).text
    key = Ed25519PrivateKey.generate()
    witness = Verifier("witness.example/w", 4, key.public_key().public_bytes_raw())
    signed = key.sign(b"cosignature/v1\ntime 1700000000\n" + text.encode())
    data = base64.b64encode(witness.key_id + (1_700_000_000).to_bytes(8, "big") + signed).decode()
    line = f"\u2014 {witness.name} {data}\n"
    (tmp_path / "cosigned").write_text(note + line, encoding="utf-8")
    assert call("checkpoint", "--cosigned", "cosigned").returncode == 2
    assert call("checkpoint", "--cosigned", "cosigned", "--witness", str(witness)).stdout == note + line
    assert call("checkpoint").stdout == note + line
    assert call("verify").returncode == 0
    (tmp_path / "cosigned").write_text(note, encoding="utf-8")
    assert call("checkpoint", "--cosigned", "cosigned", "--witness", str(witness)).returncode == 1


def test_a_break_is_accepted_by_a_command_only(call, database):
    """A head that was edited: said at the start, refused to every write, and mended on demand."""
    assert call("doctor", "--accept-break").stdout == "manent.db: there is no break to accept\n"
    execute(database, "UPDATE heads SET size = size - 1 WHERE tenant = 'default'")
    done = call("checkpoint", "--new")
    assert done.returncode == 1
    assert "--accept-break" in done.stderr
    assert call("verify").returncode == 1
    done = call("doctor", "--accept-break")
    assert done.returncode == 0
    assert "accepted: default: the log should end at position" in done.stdout
    assert call("checkpoint", "--new").returncode == 0  # the copy has a key of its own, which signs for both logs now
    assert call("verify").returncode == 0
    assert json.loads(call("doctor", "--accept-break", "--json").stdout)["accepted"] == []


# --- doctor -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def findings(call, database):
    """What ``doctor`` finds out about the key and the checkpoints of a file that has both: state, value and note."""
    assert call("checkpoint", "--new").returncode == 0

    def findings(*options):
        done = call("doctor", "--json", *options)
        report = json.loads(done.stdout)
        assert done.returncode == (0 if report["ok"] else 1)
        return {each["name"]: (each["state"], each["value"], each["note"]) for each in report["findings"]}

    return findings


def test_doctor_looks_at_the_evidence(findings):
    """A key of one's own, a file that can be written, a last checkpoint that agrees: nothing is wrong."""
    found = findings()
    assert found["signing key"] == ("ok", "0600", "")
    assert found["checkpoint file"] == ("ok", "can be written", "")
    assert found["last checkpoint outside"] == ("ok", "agrees", "")


def test_doctor_says_where_key_and_checkpoints_lie(findings, database, tmp_path):
    """In the database's folder they prove nothing against whoever can write there, which is a warning that says what to
    do; each that lies elsewhere is left out of it.
    """
    state, value, note = findings()["key and checkpoints"]
    assert (state, value) == ("warning", "key and checkpoints beside the database")
    assert "MANENT_SIGNING_KEY_FILE" in note
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("key", "checkpoints"):
        (elsewhere / name).write_bytes(Path(f"{database}.{name}").read_bytes())
    away = {
        "key": ("--signing-key-file", elsewhere / "key"),
        "checkpoints": ("--checkpoint-file", elsewhere / "checkpoints"),
    }
    assert findings(*away["key"])["key and checkpoints"][1] == "checkpoints beside the database"
    assert findings(*away["checkpoints"])["key and checkpoints"][1] == "key beside the database"
    assert findings(*away["key"], *away["checkpoints"])["key and checkpoints"] == ("ok", "elsewhere", "")


def test_doctor_says_what_the_time_between_checkpoints_means(findings):
    """How long it is, and that nobody has signed for what came since the last."""
    state, value, note = findings()["checkpoint every"]
    assert (state, value) == ("ok", "60 s")
    assert "signed for by nobody" in note


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660])
def test_a_key_that_others_may_use_is_wrong(findings, database, mode):
    """Who reads it signs in the log's name."""
    key = Path(f"{database}.key")
    key.chmod(mode)
    state, value, note = findings()["signing key"]
    assert (state, value) == ("wrong", f"{mode:04o}")
    assert key.name in note


def test_a_key_that_cannot_be_used_is_wrong(findings, database):
    """No key at all, or a file that a setting names and that is not there; one that is still to be made is none."""
    assert findings("--signing-key-file", "missing")["signing key"][0] == "wrong"
    key = Path(f"{database}.key")
    key.write_text("no key")
    assert findings()["signing key"][0] == "wrong"
    key.unlink()
    assert findings()["signing key"][:2] == ("warning", "none")


def test_a_checkpoint_file_that_cannot_be_written_is_wrong(findings, tmp_path):
    """In a folder that is not there, or a folder itself."""
    (tmp_path / "folder").mkdir()
    for place in ("nowhere/checkpoints", "folder"):
        assert findings("--checkpoint-file", place)["checkpoint file"][0] == "wrong"


async def begin_session(database):
    async with engine.open(database) as chat:
        await chat.create_session()


def test_checkpoints_outside_that_do_not_agree_are_wrong(findings, database):
    """Of a database that was rolled back; and a file of them that is none, or is gone, is told."""
    before, outside = database.read_bytes(), Path(f"{database}.checkpoints")
    asyncio.run(begin_session(database))
    assert findings()["last checkpoint outside"][0] == "ok"
    now = database.read_bytes()
    database.write_bytes(before)
    state, _, note = findings()["last checkpoint outside"]
    assert state == "wrong"
    assert "behind its last checkpoint outside" in note
    database.write_bytes(now)
    notes = outside.read_bytes()
    outside.write_bytes(notes + b"no note\n\n\n\n\n\n\n")
    assert findings()["last checkpoint outside"][0] == "wrong"
    outside.unlink()
    assert findings()["last checkpoint outside"][:2] == ("warning", "none of acme, default")


def test_doctor_looks_at_the_evidence_beside_a_server(findings, serve, database):
    """What the server is writing does not disturb it."""
    with serve(database):
        assert findings()["last checkpoint outside"] == ("ok", "agrees", "")
