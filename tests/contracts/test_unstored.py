"""Answers that a client asked not to store: their words go, unless they must be kept, also after a restart."""

import asyncio
import time

import pytest

from manent.engine import ClientRequest, MessageIn, TurnNotFound
from tests.support import chatting, query, settle

ECHO = "echo/echo"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


async def asked(chat, text, **more):
    request = {"protocol": "responses", "apart": True} | more
    started = await chat.answer_client(ClientRequest((MessageIn(text),), {"model": ECHO}, **request))
    return await chat.ended(started.turn)


async def until(condition):
    until_s = time.monotonic() + 20
    while not await condition():
        assert time.monotonic() < until_s
        await asyncio.sleep(0.05)


async def is_erased(chat, turn):
    return all(message.erased for message in (await chat.turn(turn)).messages)


def waiting(path):
    return len(query(path, "SELECT * FROM unstored"))


async def test_words_go_some_time_after_the_end(path):
    """The answer's and what it was asked with, the system prompt among it; what it went on from stays."""
    async with chatting(path, store_false_erase_after_s=1, store_false_purge_every_s=1) as chat:
        first = await asked(chat, "stays here", apart=False, stored=True)
        turn = await asked(
            chat, "private words", previous=first.id, system="private prompt", told=b'{"user":"private"}'
        )
        assert turn.text == "private words"
        await until(lambda: is_erased(chat, turn.id))
        assert waiting(path) == 0
        assert (await chat.session(turn.session_id)).system is None
        texts = [message.text for message in (await chat.messages(turn.session_id)).items]
        assert texts == ["stays here", "stays here", "", ""]

        async def is_gone():
            return b"private" not in path.read_bytes()

        await until(is_gone)
    settle(path)


async def test_words_go_at_once_when_they_were_read(path):
    """Nobody asks for them again."""
    async with chatting(path) as chat:
        turn = await asked(chat, "private")
        assert not await is_erased(chat, turn.id)
        chat.serving.read_on(turn.id)
        await until(lambda: is_erased(chat, turn.id))
        with pytest.raises(TurnNotFound):
            await chat.client_answer(turn.id, "responses")
    settle(path)


async def test_what_was_due_is_done_after_a_restart(path):
    """Which turns these are is on record."""
    async with chatting(path) as chat:
        turn = await asked(chat, "private")
    assert waiting(path) == 1
    async with chatting(path, store_false_erase_after_s=0) as chat:
        chat.serving.forget_unstored()
        await until(lambda: is_erased(chat, turn.id))
    assert waiting(path) == 0
    settle(path)


async def test_a_hold_and_the_setting_win(path):
    """They are erased when the hold is let go, and with the setting never."""
    async with chatting(path, store_false_erase_after_s=1) as chat:
        turn = await asked(chat, "held")
        await chat.update_session(turn.session_id, legal_hold=True)
        await asyncio.sleep(2.5)
        assert not await is_erased(chat, turn.id)
    async with chatting(path, keep_store_false=True, store_false_erase_after_s=0) as chat:
        kept = await asked(chat, "kept")
        await chat.update_session(turn.session_id, legal_hold=False)
        chat.serving.forget_unstored()
        chat.serving.read_on(kept.id)
        await asyncio.sleep(0.5)
        assert not await is_erased(chat, kept.id)
    assert waiting(path) == 2
    settle(path)


async def test_only_what_was_asked_in_responses_goes(path):
    """In Chat Completions it means only that the answer is not served again."""
    async with chatting(path) as chat:
        await asked(chat, "a", protocol="chat_completions", apart=False)
        await asked(chat, "b", stored=True, apart=False)
    assert waiting(path) == 0


async def test_what_goes_is_recognised_nowhere(path):
    """A history that is stored shares nothing with one that is not."""
    async with chatting(path) as chat:
        first = await asked(chat, "same")
        history = (MessageIn("same"), MessageIn("same", "assistant"), MessageIn("next"))
        request = ClientRequest(history, {"model": ECHO}, protocol="responses", stored=True)
        started = await chat.answer_client(request)
        session = await chat.session(started.session)
        assert (started.session, session.parent) != (first.session_id, None) or session.parent is None
        assert session.id != first.session_id
        assert session.parent is None
        await chat.ended(started.turn)
