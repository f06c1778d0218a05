"""A database that clients' turns were recorded in, of a revision that was released: it serves what it served."""

import gzip
from pathlib import Path
from uuid import UUID

import pytest

from manent.engine import ClientRequest, MessageIn
from manent.engine.errors import SessionNotFound, TurnNotFound
from tests.support import chatting, query, settle, until

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = sorted(GOLDEN.glob("clients-*.db.gz"))
SECRET = f"manent-secret/1 {'11' * 32}\n"
FIRST, SECOND, GONE = (
    UUID("01a22ebc-5cc8-7c7f-9ae0-4d18f5271bc4"),
    UUID("01a22ebc-5cda-7983-a152-e9231967b90c"),
    UUID("01a22ebc-5d02-7f1b-99ce-e88f6d710dd2"),
)


@pytest.fixture(params=FILES, ids=lambda file: file.name)
def path(tmp_path, request):
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress(request.param.read_bytes()))
    secret = Path(f"{path}.secret")
    secret.write_text(SECRET)
    secret.chmod(0o600)
    return path


async def test_answers_are_served_and_gone_on_from(path):
    """By their ids, with what the client was told; one that was deleted stays so."""
    async with chatting(path, unwitnessed=True) as chat:
        answer = await chat.client_answer(FIRST, "responses")
        assert (answer.turn.text, answer.told) == ("first", b'{"user":"u-7"}')
        with pytest.raises(TurnNotFound):
            await chat.client_answer(GONE, "responses")
        asked = ClientRequest((MessageIn("more"),), {"model": "echo/echo"}, protocol="responses", previous=SECOND)
        started = await chat.answer_client(asked)
        await chat.ended(started.turn)
        said = [message.text for message in (await chat.messages(started.session)).items]
        assert said == ["first", "first", "second", "second", "more", "more"]
    settle(path)


async def test_names_and_conversations_lead_where_they_led(path):
    """A chat is found under the client's own name; of two conversations one was deleted."""
    async with chatting(path, unwitnessed=True) as chat:
        found = await chat.find_alias("chat 7", "ai_sdk")
        assert found is not None
        assert (await chat.turn(found.turn)).text == "a chat"
        sessions = {each.title: each.id for each in (await chat.sessions(branches="all")).items}
        assert (await chat.client_session(sessions["conversation"])).message_count == 2
        with pytest.raises(SessionNotFound):
            await chat.client_session(sessions["hidden"])
    settle(path)


async def test_words_that_were_not_to_be_stored_go_at_the_next_start(path):
    """They were due while no server ran."""
    assert query(path, "SELECT count(*) FROM bodies WHERE instr(bytes, 'unstored words') > 0") != [(0,)]

    async def gone():
        return query(path, "SELECT count(*) FROM bodies WHERE instr(bytes, 'unstored words') > 0") == [(0,)]

    async with chatting(path, unwitnessed=True) as chat:
        chat.serving.forget_unstored()
        await until(gone, timeout_s=10)
    settle(path)
