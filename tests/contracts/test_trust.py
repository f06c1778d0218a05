"""Whose key ``verify`` believes: the one that is given, else the one that lies beside the database; never one that only
the database itself speaks for.
"""

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from manent import engine
from manent.engine.audit.checkpoint_file import OutsideFile
from manent.engine.audit.notes import COSIGNATURE, Checkpoint, Signer, Verifier
from manent.engine.audit.rollback import signed_row
from manent.engine.errors import Invalid
from manent.engine.log.sql.checkpoints import keep_checkpoint, log_end, log_names
from manent.engine.log.sqlite.connection import open_writer
from manent.engine.settings import Settings
from tests.contracts.test_tamper import attack, rehash
from tests.support import ManualClock, chatting, query

OTHER = engine.Caller("other")


@pytest.fixture
def path(tmp_path):
    """A database of two logs, closed, with its key and its checkpoints beside it."""
    path = tmp_path / "chat.db"
    asyncio.run(write(path))
    return path


async def write(path, **settings):
    """A start of the server, in which both logs grow; their keys, the one in use first."""
    async with chatting(path, **settings) as chat:
        for caller in (engine.LOCAL, OTHER):
            await chat.append_message((await chat.create_session(caller=caller)).id, "Agreed.", caller=caller)
        await chat.evidence.checkpoint(new=True)
        return await chat.evidence.keys()


def key_file(path):
    return Path(f"{path}.key")


def use(path, private):
    """Put a key beside the database."""
    key_file(path).write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key_file(path).chmod(0o600)


def made_up(path):
    """Another history under a key that somebody made up: words changed, everything hashed anew, and signed for in the
    database and outside, where no trace of the true key is left; the key, as a verifier reads it.
    """
    signer, outside = Signer(Ed25519PrivateKey.generate()), Path(f"{path}.checkpoints")
    attack(
        path,
        "UPDATE bodies SET bytes = CAST(replace(CAST(bytes AS TEXT), 'Agreed.', 'Denied.') AS BLOB)",
        "UPDATE session_words SET preview = replace(preview, 'Agreed.', 'Denied.')",
        "DELETE FROM checkpoints",
        "DELETE FROM verifiers",
    )
    outside.unlink()
    for tenant in ("default", "other"):
        rehash(path, tenant)
        sign(path, signer, tenant)
    return str(signer.verifier(names(path)[-1]))


def names(path, tenant="default"):
    return [name for (name,) in query(path, f"SELECT origin FROM origins WHERE tenant = '{tenant}' ORDER BY origin")]


def sign(path, signer, tenant="default"):
    """A checkpoint of a log as it is, by any key."""
    database = open_writer(path)
    with database.begin() as connection:
        end = log_end(connection, tenant)
        checkpoint = Checkpoint(log_names(connection, tenant)[-1][1], end.size, end.root)
        note = signer.sign(checkpoint)
        keep_checkpoint(connection, signed_row(tenant, checkpoint, note, ManualClock()), signer.public)
    database.dispose()
    OutsideFile(Path(f"{path}.checkpoints")).append(note)


def verified(path, key=None):
    return engine.verify_database(Settings(database=str(path), verify_key=key))


def test_the_key_file_is_trusted(path):
    """An honest database is signed by the key beside it, and it is said where that is from."""
    found = verified(path)
    assert (found.problem, found.remarks, found.signer) == (None, (), f"in {key_file(path)}")


def test_a_history_under_a_made_up_key_is_found(path):
    """All of it agrees with itself, and the true key lies beside it: the checkpoint of the other key is named."""
    key = made_up(path)
    found = verified(path)
    assert "checkpoint outside of 2 is signed by " in found.problem, found.problem
    assert key in found.problem
    assert str(key_file(path)) in found.problem
    assert (found.tenant, found.position, found.signer) == ("default", 1, None)


def test_without_any_key_the_signer_is_not_checked(path):
    """Where no key is given and none lies there, a made-up history passes, and nobody is told that it was signed."""
    made_up(path)
    key_file(path).unlink()
    found = verified(path)
    assert (found.problem, found.signer) == (None, None)
    assert "anybody's" in found.remarks[0]


async def test_a_key_that_is_given_comes_before_the_file(path):
    """The file that lies there is not even looked at; where the key is another's, the database is broken."""
    key, *_ = await write(path)
    key_file(path).write_text("no key")
    found = await asyncio.to_thread(verified, path, key)
    assert (found.problem, found.signer) == (None, "that was given")
    forged = await asyncio.to_thread(made_up, path)
    assert (await asyncio.to_thread(verified, path, key)).position == 1
    found = await asyncio.to_thread(verified, path, forged)
    assert (found.problem, found.signer) == (None, "that was given")


async def test_keys_that_were_followed_by_another_on_record_are_right(path):
    """Three keys, one after the other: the one in use answers for those before it; one that was in use before answers
    for nothing that came after, until it is in use again.
    """
    keys = {}
    private = [Ed25519PrivateKey.from_private_bytes(bytes(31) + bytes([number])) for number in range(3)]
    for number in (0, 1, 2):
        use(path, private[number])
        keys[number], *_ = await write(path)
        assert (await asyncio.to_thread(verified, path)).problem is None
    assert (await asyncio.to_thread(verified, path, keys[2])).problem is None
    assert (await asyncio.to_thread(verified, path, " ".join(keys.values()))).problem is None
    for number in (0, 1):
        found = await asyncio.to_thread(verified, path, keys[number])
        assert keys[2] in found.problem
        assert found.problem.endswith("has signed none since")
    use(path, private[0])
    await write(path)
    found = await asyncio.to_thread(verified, path, keys[0])
    assert (found.problem, found.signer) == (None, "that was given")


async def test_a_key_file_that_was_changed_answers_from_its_first_checkpoint_on(path):
    """Another key lies there, and no server has started with it: the newest checkpoint is not its own, which is said;
    after a start, it is.
    """
    use(path, Ed25519PrivateKey.generate())
    found = await asyncio.to_thread(verified, path)
    assert "has signed none yet" in found.problem
    await write(path)
    assert (await asyncio.to_thread(verified, path)).problem is None


async def test_a_key_is_for_a_log(path, tmp_path):
    """Another database under the same key is not the log that the key was given for; nor is a log that is not there."""
    private = Ed25519PrivateKey.generate()
    elsewhere = tmp_path / "elsewhere.db"
    for each in (path, elsewhere):
        use(each, private)
    key, _ = await write(path), await write(elsewhere)
    found = await asyncio.to_thread(verified, elsewhere, key[0])
    assert "was never named so" in found.problem
    name = key[0].partition("+")[0]
    public = Signer(private).public
    missing = str(Verifier(f"{name.rpartition('/')[0]}/nobody", 1, public))
    found = await asyncio.to_thread(verified, path, missing)
    assert (found.tenant, found.position) == ("nobody", 1)
    assert "was never named so" in found.problem


async def test_a_key_given_for_a_name_before_a_break_still_answers(path):
    """The log goes on under another name and the same key, and the key is the log's under both."""
    key, *_ = await write(path)
    copy = path.read_bytes()
    await write(path)
    path.write_bytes(copy)
    await asyncio.to_thread(engine.accept_break, path)
    await write(path)
    assert len(names(path)) == 2
    found = await asyncio.to_thread(verified, path, key)
    assert (found.problem, found.signer) == (None, "that was given")


def test_a_log_that_nobody_signed_for_is_not_signed(path):
    """A server that died before its first checkpoint: nothing is wrong, and the signer is not checked."""
    attack(path, "DELETE FROM checkpoints", "DELETE FROM verifiers")
    Path(f"{path}.checkpoints").unlink()
    found = verified(path)
    assert (found.problem, found.signer) == (None, None)
    assert f"default: the key in {key_file(path)} has signed no checkpoint of this log yet" in found.remarks
    assert found.unwitnessed[0].since == 1


@pytest.mark.parametrize("key", ["", "nonsense", "a+00000000+AQ==", str(Verifier("w", COSIGNATURE, bytes(32)))])
def test_what_is_no_key_of_a_log_is_refused(path, key):
    """By the name of the setting."""
    with pytest.raises(Invalid) as refused:
        verified(path, key)
    assert refused.value.extra["field"] == "verify_key"
