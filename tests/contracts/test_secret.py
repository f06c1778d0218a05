"""The secret of a database: made once, named by the database, and what keyed hashes hang on."""

import gzip
import hashlib
import json
import stat
from pathlib import Path

import pytest

from manent import engine
from manent.engine import EngineError, RequestKey, Settings
from manent.engine.audit.secret import Secret
from tests.support import chatting, dump, query, says

GOLDEN = Path(__file__).parents[1] / "golden" / "paused-0007.db.gz"

ERASED = (
    {"content": "A secret word: abracadabra."},
    {"tool_use_id": "gate_1", "approve": False, "reason": "Not for this secret reason."},
    {"content": "Open the gate.", "tools": ["house_unlock"]},
    {"model": "echo/echo", "message": "Guide me, hocus pocus."},
    {"title": "gate", "model": "scripted/clerk"},
)
"""Bodies of keyed requests in the golden file whose words were erased there, as their client sent them."""


def secret_of(path):
    return Path(f"{path}.secret")


def key_of(name="k", body=b"{}"):
    return RequestKey("local", "POST /x", name, body)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


@pytest.fixture
def old(tmp_path):
    """A file of revision 0007, which keeps idempotency keys as they came."""
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress(GOLDEN.read_bytes()))
    return path


async def test_it_is_made_at_the_first_start_for_its_owner_alone(path):
    """The file lies beside the database with mode 0600; the next start takes it as it is."""
    async with engine.open(path):
        pass
    made = secret_of(path).read_text("ascii")
    assert stat.S_IMODE(secret_of(path).stat().st_mode) == 0o600
    async with engine.open(path):
        pass
    assert secret_of(path).read_text("ascii") == made
    assert bytes.fromhex(made.split()[1]) not in path.read_bytes()


async def test_it_can_be_kept_elsewhere(path, tmp_path):
    """The setting names the file, and nothing is made beside the database."""
    kept = tmp_path / "elsewhere.secret"
    async with engine.open(Settings(database=str(path), secret_file=str(kept))):
        pass
    assert kept.exists()
    assert not secret_of(path).exists()


def test_its_keys_tell_nothing_of_each_other():
    """A key for each purpose, and a representation that shows none of it."""
    secret = Secret(bytes(range(32)))
    assert len({secret.key("a"), secret.key("b"), secret.value}) == 3
    assert secret.value.hex() not in repr(secret)


@pytest.mark.parametrize("what", ["missing", "another", "broken", "short"])
async def test_a_database_is_not_served_with_another_secret(path, tmp_path, what):
    """The error says which file, and what to do; nothing is changed, and the right file is served again."""
    async with engine.open(path) as chat:
        await chat.create_session(request=key_of())
    right, before = secret_of(path).read_bytes(), dump(path)
    secret_of(path).unlink()
    if what == "another":
        async with engine.open(tmp_path / "other.db"):
            pass
        secret_of(tmp_path / "other.db").rename(secret_of(path))
    elif what != "missing":
        secret_of(path).write_text("x" if what == "broken" else "manent-secret/1 00ff")
    with pytest.raises(EngineError, match=r"chat\.db\.secret") as refused:
        async with engine.open(path):
            pass
    assert refused.value.code == ("invalid_value" if what in {"broken", "short"} else "secret_mismatch")
    if what == "missing":
        assert not secret_of(path).exists()
    secret_of(path).write_bytes(right)
    assert dump(path) == before
    async with engine.open(path) as chat:
        assert (await chat.create_session(request=key_of())).version == 1
        assert len((await chat.sessions()).items) == 1


async def test_a_key_is_not_in_the_file(path):
    """Clients make keys of what they send: the database has a hash that only the secret can make again."""
    async with engine.open(path) as chat:
        first = await chat.create_session(request=key_of("a-very-telling-key"))
        assert (await chat.create_session(request=key_of("a-very-telling-key"))).id == first.id
    assert b"a-very-telling-key" not in path.read_bytes()
    ((kept,),) = query(path, "SELECT key FROM requests")
    assert kept != hashlib.sha256(b"a-very-telling-key").hexdigest()


async def test_keys_of_old_files_are_hashed_and_still_known(old):
    """A request that came before the migration is answered as then; its key's text has left the file."""
    (before,) = query(old, "SELECT count(*) FROM requests")[0]
    body = b'{"content":"For the record."}'
    async with engine.open(old) as chat:
        session = next(each for each in (await chat.sessions()).items if each.title == "sums")
        route = f"POST /api/sessions/{session.id}/messages"
        (again,) = await chat.append_messages(
            session.id, [engine.MessageIn("For the record.")], request=RequestKey("local", route, "note-sums", body)
        )
        assert again.version == 14
        assert (await chat.session(session.id)).version == session.version
        assert await chat.purge()
    assert query(old, "SELECT count(*) FROM requests")[0] == (before,)
    assert b"note-sums" not in old.read_bytes()
    assert b"decision-door-1" not in old.read_bytes()


async def test_erased_words_are_confirmed_by_no_guess(path):
    """Whatever was erased: no fingerprint of a request and no commitment in the file is that of a guess, by any salt
    that is left.
    """
    words = {"title": "telling", "system": "Secret system.", "metadata": {"who": "Ann"}}
    async with chatting(path, main=says("A secret answer.")) as chat:
        body = json.dumps(words).encode()
        session = await chat.create_session(model="scripted/main", request=key_of("s", body), **words)
        await chat.append_messages(session.id, [engine.MessageIn("said")], request=key_of("m", b'{"content":"said"}'))
        await chat.say(session.id, "Asked.", request=key_of("t", b'{"content":"Asked."}'))
        await chat.update_session(session.id, title="other", request=key_of("p", b'{"title":"other"}'))
        await chat.erase(session.id, "they asked for it")
    guesses = [body, b'{"content":"said"}', b'{"content":"Asked."}', b'{"title":"other"}']
    assert not confirmed(path, guesses)


def confirmed(path, guesses):
    """The guesses that some fingerprint or commitment confirms."""
    salts = {salt for (salt,) in query(path, "SELECT salt FROM requests WHERE salt IS NOT NULL")}
    salts |= {salt for (salt,) in query(path, "SELECT salt FROM bodies")}
    told = {row[0] for row in query(path, "SELECT fingerprint FROM requests")}
    told |= {row[0] for row in query(path, "SELECT commitment FROM events")}
    return [guess for guess in guesses for salt in salts if hashlib.sha256(salt + guess).digest() in told]


async def test_what_an_older_version_erased_is_confirmed_no_more(old):
    """A file in which decisions, guides' and sessions' requests kept the salts of erased words loses them."""
    guesses = [json.dumps(body, **form).encode() for body in ERASED for form in ({}, {"separators": (",", ":")})]
    assert confirmed(old, guesses)
    async with engine.open(old) as chat:
        assert await chat.purge()
    assert not confirmed(old, guesses)
