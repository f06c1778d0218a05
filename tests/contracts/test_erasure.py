"""Words are erased: nothing that the server ever wrote holds them any more, and the record proves as before."""

import asyncio
import json
import random
import shutil
import sqlite3
from contextlib import closing, contextmanager

import msgspec
import pytest

from manent import engine
from manent.engine.errors import (
    EngineError,
    EventNotFound,
    Invalid,
    LegalHold,
    ProviderUnavailable,
    SessionNotFound,
    TurnAlreadyOpen,
    VersionConflict,
)
from manent.engine.log.base import RequestKey
from manent.engine.log.sqlite import scrub
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended, ModelInfo
from manent.engine.sessions.turn_state import ERASED_DETAIL
from tests.support import (
    Dictated,
    ManualClock,
    assert_rebuilds,
    audit,
    begin,
    chatting,
    execute,
    frames_of,
    offered,
    query,
    says,
    shown,
    text_of,
    told,
)

WORD = "Schibboleth"
ECHO = "echo/echo"
DAY_US = 86_400_000_000


@pytest.fixture
def path(tmp_path):
    (tmp_path / "server").mkdir()
    return tmp_path / "server" / "chat.db"


def files_with(path, word=WORD):
    """Every file beside the database, the database itself included, that holds a word as raw bytes."""
    raws = (word.encode(), word.encode("utf-16-le"), json.dumps(word)[1:-1].encode())
    return sorted(file.name for file in path.parent.iterdir() if any(raw in file.read_bytes() for raw in raws))


@contextmanager
def snapshot_of(path):
    """Somebody reads, and needs the write-ahead log as it is."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM bodies").fetchall()
        yield


def types_of(events):
    return [event.type for event in events]


async def all_events(chat, session):
    return (await chat.events(session, limit=1000)).items


def settle(path):
    """All that a closed file must still keep."""
    audit(path)
    assert_rebuilds(path, path.parent.with_suffix(".copy"))
    assert query(path, "SELECT count(*) FROM purges") == [(0,)]
    assert engine.verify_database(str(path)).problem is None


# --- what goes, and what stays ----------------------------------------------------------------------------------------


async def test_an_erased_word_is_in_no_file_that_the_server_wrote(path):
    """Title, system prompt, metadata, question, answer, thinking, deltas, a tool's input, an idempotent request, a
    failure's detail and what the provider said: after the erasure, while the server runs and after it ended, no file
    holds the word as raw bytes.
    """
    talk = says({"thinking": f"Hm, {WORD}. " * 9, "chunk_chars": 3}, {"text": f"Say {WORD}! " * 500, "chunk_chars": 70})
    fails = says({"text": f"I {WORD}"}, {"fail": {"code": "provider_rejected", "detail": f"no {WORD}"}})
    asks = says({"tool": {"id": "call_1", "name": "look", "input": {"what": WORD}}})
    async with chatting(path, talk=talk, fails=fails, asks=asks, checkpoint_pages=2) as chat:
        key = RequestKey("local", "POST /api/sessions", "k", f'{{"title":"{WORD}"}}'.encode())
        session = await chat.create_session(
            model=ECHO, title=WORD, system=f"Mind {WORD}", metadata={WORD: [WORD]}, request=key
        )
        for model in ("scripted/talk", "scripted/fails", "scripted/asks"):
            await chat.say(session.id, f"What is {WORD}?", model=model)
        await chat.update_session(session.id, title=f"{WORD} again")
        assert files_with(path)
        erasure = await chat.erase(session.id, "they asked")
        assert erasure.purged
        assert files_with(path) == []
        assert WORD not in repr([await chat.session(session.id), await chat.messages(session.id)])
        assert WORD not in repr([await chat.turns(session.id), await all_events(chat, session.id)])
    assert files_with(path) == []
    settle(path)


class Inventive:
    """A vendor that has a word of its own for everything, and serves models that nobody lists."""

    name = "dictated"
    renderer, renderers = Dictated.renderer, Dictated.renderers

    def models(self):
        return []

    def model(self, name):
        return ModelInfo(name, family="echo", listed=False)

    async def stream(self, request):
        if b"fails" in request:
            raise ProviderUnavailable("gone", status=400, vendor_code=f"{WORD}_code", request_id=f"{WORD}-id")
        yield BlockStarted(0, "tool_use", f"call_{WORD}", f"{WORD}_tool")
        yield BlockStopped(0)
        if b"stops" not in request:
            yield BlockStarted(1, "tool_use", "call_2", f"{WORD}_invented")
            yield BlockStopped(1)
        yield Ended(f"{WORD}_reason", f"{WORD}_vendor")

    async def aclose(self):
        """There is nothing to release."""


async def test_names_that_others_gave_are_words_too(path):
    """Call ids, names of invented tools, of clients' tools and of models that nobody lists, stop reasons and error
    codes, who the user is: no fact holds one, and after the erasure no file does.
    """
    async with chatting(path, providers=(Inventive(),), max_attempts=1) as chat:
        names = {"user_id": f"u-{WORD}", "agent_id": f"a-{WORD}", "allowed_tools": [f"{WORD}_later"]}
        model = f"dictated/{WORD}"
        session = await chat.create_session(model=model, fallback_model=f"dictated/{WORD}2", **names)
        tool = offered(f"{WORD}_tool")
        turn = await chat.say(session.id, "stops", client_tools=tool, tool_choice=f"{WORD}_tool")
        assert (turn.model, turn.stop_reason, turn.vendor_stop_reason) == (model, "other", f"{WORD}_vendor")
        block = b'{"type":"tool_result","tool_use_id":"call_%s","content":"x"}' % WORD.encode()
        await chat.append_messages(session.id, [engine.MessageIn((block,), "tool")])
        await chat.say(session.id, "fails", model=model)
        await chat.say(session.id, "Both.", client_tools=tool)
        facts = query(path, "SELECT facts FROM events")
        assert not [each for (each,) in facts if WORD.encode() in each]
        assert files_with(path)
        assert (await chat.erase(session.id, "they asked")).purged
        assert files_with(path) == []
        shown = await chat.session(session.id)
        assert (shown.model, shown.fallback_model, shown.user_id) == ("dictated/other", None, None)
        assert WORD not in repr([shown, await chat.turns(session.id), await all_events(chat, session.id)])
        with pytest.raises(engine.UnknownModel):
            await chat.say(session.id, "Again.")
        assert (await chat.say(session.id, "Again.", model=ECHO)).status == "completed"
    assert files_with(path) == []
    settle(path)


async def test_a_patch_that_changed_nothing_confirms_no_guess(path):
    """It made no event; its salt goes all the same with the words that it told of, and the key is still known."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO, metadata={"diagnosis": WORD})
        await chat.update_session(session.id, budget_tokens=4000)
        patch = {"diagnosis": WORD}
        key = RequestKey("local", "PATCH /metadata", "k1", json.dumps(patch).encode())
        assert (await chat.update_metadata(session.id, patch, request=key)).version == 2
        assert query(path, "SELECT count(*) FROM requests WHERE salt IS NOT NULL") == [(1,)]
        await chat.erase(session.id, "x", versions=[1])
        assert query(path, "SELECT count(*) FROM requests WHERE salt IS NOT NULL") == [(0,)]
        for guess in (b"{}", key.body):
            again = RequestKey(key.principal, key.route, key.key, guess)
            assert (await chat.update_metadata(session.id, patch, request=again)).version == 2
    settle(path)


async def test_what_a_patch_brought_goes_with_it(path):
    """A merge patch is recorded as it came: what an earlier one brought is not in a later one, and the rest stays."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO, metadata={"kept": 1})
        await chat.update_metadata(session.id, {"phone": WORD, "kept": 2})
        await chat.update_metadata(session.id, {"language": "en", "none": None})
        before = await chat.session(session.id)
        assert before.metadata == {"kept": 2, "phone": WORD, "language": "en"}
        assert (await chat.erase(session.id, "x", versions=[2])).purged
        assert (await chat.session(session.id)).metadata == {"kept": 1, "language": "en"}
        assert (await chat.session(session.id, version=3)).metadata == {"kept": 1, "language": "en"}
        assert files_with(path) == []
    settle(path)


async def test_only_what_was_chosen_goes(path):
    """One message is erased: it says so and holds nothing, its neighbours are as they were, and so are all hashes."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO, title="kept")
        before = [await chat.append_message(session.id, text) for text in ("one", WORD, "three")]
        events = await all_events(chat, session.id)
        erasure = await chat.erase(session.id, "by mistake", versions=[3])
        assert (erasure.versions, erasure.version) == ((3,), 5)
        one, two, three = (await chat.messages(session.id)).items
        assert (one, three) == (before[0], before[2])
        assert (two.content, two.token_count) == ((), before[1].token_count)
        *after, last = await all_events(chat, session.id)
        assert two.erased == engine.ErasureInfo(last.position, "local", last.recorded_at, "by mistake")
        assert [event.leaf_hash for event in after] == [event.leaf_hash for event in events]
        assert [event.erased for event in after] == [None, None, two.erased, None]
        assert last.type == "body.erased"
        assert json.loads(bytes(last.facts)) == {"targets": [3]}
        assert json.loads(bytes(last.body)) == {"reason": "by mistake"}
        assert (await chat.session(session.id)).title == "kept"
    assert files_with(path) == []
    settle(path)


async def test_who_erased_is_on_record(path):
    """The event's actor is who asked, its correlation their request."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        await chat.append_message(session.id, WORD)
        await chat.erase(session.id, "x", caller=engine.Caller("default", "key:dpo", "request-7"))
        last = (await all_events(chat, session.id))[-1]
        assert (last.actor, last.correlation_id) == ("key:dpo", "request-7")


async def test_erasing_again_does_nothing(path):
    """What is erased stays erased: no second event, and the reason of the first stays even when all is erased."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        await chat.append_message(session.id, WORD)
        first = await chat.erase(session.id, "first", versions=[2])
        again = await chat.erase(session.id, "second")
        assert (first.versions, again.versions, again.version) == ((2,), (), 3)
        await chat.append_message(session.id, "more")
        assert (await chat.erase(session.id, "third")).versions == (4,)
        reasons = [bytes(event.body) for event in await all_events(chat, session.id) if event.type == "body.erased"]
        assert reasons == [b'{"reason":"first"}', b'{"reason":"third"}']
        named = await chat.erase(session.id, "the reason named somebody", versions=[3])
        assert named.versions == (3,)
    settle(path)


async def test_an_idempotent_erasure_gives_the_first_answer_again(path):
    """The same key erases once, and tells the same versions for ever; its own salt goes with its own words."""
    key = RequestKey("local", "POST erase", "k", b'{"reason":"x"}')
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO, title=WORD)
        await chat.append_message(session.id, WORD)
        first = await chat.erase(session.id, "x", request=key)
        await chat.append_message(session.id, "later")
        assert await chat.erase(session.id, "x", request=key) == first
        with pytest.raises(engine.EngineError) as refused:
            await chat.erase(session.id, "y", request=RequestKey("local", "POST erase", "k", b"another"))
        assert refused.value.code == "idempotency_mismatch"
        await chat.erase(session.id, "z", versions=[3])
    assert query(path, "SELECT salt FROM requests") == [(None,)]


async def test_a_long_session_is_erased_by_several_events(path, monkeypatch):
    """A leaf stays small: many targets are named by several events of one transaction, each body by one of them."""
    monkeypatch.setattr("manent.engine.service.erasure.TARGETS_PER_EVENT", 4)
    key = RequestKey("local", "POST erase", "k", b"{}")
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        for number in range(10):
            await chat.append_message(session.id, f"{WORD} {number}")
        erasure = await chat.erase(session.id, "x", request=key)
        assert erasure.versions == tuple(range(2, 12))
        events = (await all_events(chat, session.id))[11:]
        targets = [json.loads(bytes(event.facts))["targets"] for event in events]
        assert [len(each) for each in targets] == [4, 4, 2]
        assert await chat.erase(session.id, "x", request=key) == erasure
    found = dict(query(path, "SELECT position, by_position FROM erasures"))
    assert found == {position: event.position for event, each in zip(events, targets, strict=True) for position in each}
    settle(path)


# --- what is refused --------------------------------------------------------------------------------------------------


async def test_a_held_session_refuses_erasure(path):
    """Under legal hold nothing goes, archived or not; once it is lifted it goes."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        await chat.append_message(session.id, WORD)
        await chat.update_session(session.id, status="archived")
        assert (await chat.update_session(session.id, legal_hold=True)).legal_hold
        with pytest.raises(LegalHold):
            await chat.erase(session.id, "x")
        assert [each async for each in chat.retain(0)] == [engine.Retained(session.id, kept="legal_hold")]
        assert not (await chat.update_session(session.id, legal_hold=False)).legal_hold
        assert (await chat.erase(session.id, "x")).versions == (2,)
    settle(path)


async def test_while_a_turn_runs_nothing_of_its_session_is_erased(path):
    """Words that are still on their way cannot be erased; those of another session can."""
    async with chatting(path, main=says("Half", {"hang": True})) as chat:
        session, other = [await chat.create_session(model="scripted/main") for _ in range(2)]
        await chat.append_message(other.id, WORD)
        turn = await begin(chat, session.id, WORD)
        await shown(chat, turn, 3)
        with pytest.raises(TurnAlreadyOpen) as refused:
            await chat.erase(session.id, "x")
        assert refused.value.extra["turn_id"] == str(turn)
        assert (await chat.erase(other.id, "x")).purged
        await chat.cancel(turn)
        assert (await chat.erase(session.id, "x")).purged
        assert files_with(path) == []
    settle(path)


@pytest.mark.parametrize(
    ("versions", "error"),
    [([9], EventNotFound), ([0], EventNotFound), ([2, 9], EventNotFound), ([3], Invalid)],
    ids=["beyond the end", "before the beginning", "one of two", "without words"],
)
async def test_a_version_without_words_is_refused(path, versions, error):
    """A version that is not there, or that never held a word, is named, and nothing is erased."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        await chat.append_message(session.id, WORD)
        await chat.update_session(session.id, status="archived")
        with pytest.raises(error) as refused:
            await chat.erase(session.id, "x", versions=versions)
        assert refused.value.extra["version"] == versions[-1]
        assert (await chat.session(session.id)).version == 3


async def test_other_refusals(path):
    """No session, another tenant's session, another version, no reason: nothing is erased."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        await chat.append_message(session.id, WORD)
        with pytest.raises(SessionNotFound):
            await chat.erase(engine.new_id(), "x")
        with pytest.raises(SessionNotFound):
            await chat.erase(session.id, "x", caller=engine.Caller("acme"))
        with pytest.raises(VersionConflict):
            await chat.erase(session.id, "x", expected=1)
        for reason in ("", "  ", "x" * 1001, "a\0b"):
            with pytest.raises(Invalid):
                await chat.erase(session.id, reason)
        assert (await chat.session(session.id)).version == 2
    assert files_with(path)


# --- what was derived from the words ----------------------------------------------------------------------------------


async def test_no_salt_is_left_of_a_request_that_held_the_words(path):
    """Idempotent requests that came with an erased message are still answered, and their fingerprints can no longer
    be guessed at; those of other messages keep their salts.
    """

    def key(name):
        return RequestKey("local", "POST /messages", name, f"body of {name}".encode())

    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO, request=key("session"))
        several = [engine.MessageIn(text) for text in ("a", WORD, "c")]
        made = await chat.append_messages(session.id, several, request=key("erased"))
        await chat.append_messages(session.id, [engine.MessageIn("d")], request=key("kept"))
        turn = await chat.start_turn(session.id, WORD, request=key("turn"))
        await chat.ended(turn.turn)
        await chat.erase(session.id, "x", versions=[3, 6])
        salts = dict(query(path, "SELECT key, salt IS NULL FROM requests"))
        found = {name: salts[chat._parts.store.keyed("default", key(name)).key] for name in ("erased", "kept", "turn")}
        assert found == {"erased": 1, "kept": 0, "turn": 1}
        again = await chat.append_messages(session.id, several, request=key("erased"))
        assert [message.id for message in again] == [message.id for message in made]
        assert (await chat.start_turn(session.id, WORD, request=key("turn"))).replayed
    settle(path)


async def test_a_prompt_that_held_erased_words_is_gone_with_its_salt(path):
    """The attempts that sent an erased message lose their salts, so that nobody can try guesses against what they were
    sent; they say which words are missing. Attempts that did not send it can still be derived.
    """
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO, system="Be brief.")
        first = await chat.say(session.id, "before")
        second = await chat.say(session.id, WORD)
        events = await all_events(chat, session.id)
        attempts = [event for event in events if event.type == "attempt.started"]
        named = next(event for event in events if event.body and WORD.encode() in bytes(event.body))
        erasure = await chat.erase(session.id, "x", versions=[named.version])
        assert erasure.versions == (named.version, attempts[1].version)

        assert (await chat.explain(first.id)).matches
        assert await erased_of(chat, second.id) == [named.position, attempts[1].position]
        await chat.erase(session.id, "the system prompt", versions=[1])
        assert [len(await erased_of(chat, turn.id)) for turn in (first, second)] == [2, 3]
        assert (await chat.turn(first.id)).status == (await chat.turn(second.id)).status == "completed"
    settle(path)


async def erased_of(chat, turn):
    """The positions that a turn's prompt misses."""
    with pytest.raises(engine.Erased) as refusal:
        await chat.explain(turn)
    return refusal.value.extra["positions"]


async def test_what_a_provider_said_of_an_erased_prompt_goes_with_it(path):
    """A provider that refuses a prompt may quote it: its answer goes with the prompt, the attempt's figures stay."""
    refusal = engine.ProviderError("refused", status=400, upstream=f"bad input: {WORD}")
    async with chatting(path, providers=(Dictated(refusal),)) as chat:
        session = await chat.create_session(model="dictated/model")
        turn = await chat.say(session.id, WORD)
        assert turn.status == "failed"
        await chat.erase(session.id, "x", versions=[2])
        assert files_with(path) == []
        events = {event.type: event for event in await all_events(chat, session.id)}
        assert events["attempt.ended"].erased
        assert not events["turn.failed"].erased
        assert (await chat.turn(turn.id)).error.code == turn.error.code
    settle(path)


async def test_the_sequence_at_which_an_answer_stopped_goes_with_its_prompt(path):
    """It is the caller's words, as the other stop sequences are: gone from the file, and from the turn."""
    ended = Ended("stop_sequence", "stop_sequence", stop_sequence=WORD)
    async with chatting(path, providers=(Dictated(BlockStarted(0, "text"), BlockStopped(0), ended),)) as chat:
        session = await chat.create_session(model="dictated/model")
        turn = await chat.say(session.id, "Go.", stop=["x", WORD])
        assert (turn.stop_reason, turn.stop_sequence) == ("stop_sequence", WORD)
        assert (await chat.turns(session.id)).items[0].stop_sequence == WORD
        assert WORD.encode() in (await frames_of(chat, turn.id))[-1].data
        await chat.erase(session.id, "x", versions=[2])
        assert (await chat.turn(turn.id)).stop_sequence is msgspec.UNSET
        assert WORD.encode() not in b"".join(frame.data for frame in await frames_of(chat, turn.id))
    assert files_with(path) == []
    settle(path)


async def test_the_detail_of_a_failure_can_be_erased(path):
    """Then the turn says so, in its view and in its frames."""
    fails = says({"fail": {"code": "provider_rejected", "detail": f"no {WORD}"}})
    async with chatting(path, fails=fails) as chat:
        session = await chat.create_session(model="scripted/fails")
        turn = await chat.say(session.id, "Go.")
        assert WORD in turn.error.detail
        last = (await all_events(chat, session.id))[-1]
        await chat.erase(session.id, "x", versions=[last.version])
        assert (await chat.turn(turn.id)).error.detail == ERASED_DETAIL
        assert (await chat.turns(session.id)).items[0].error.detail == ERASED_DETAIL
        assert WORD.encode() not in b"".join(frame.data for frame in await frames_of(chat, turn.id))
    assert files_with(path) == []
    settle(path)


async def test_frames_keep_their_numbers_without_the_deltas(path):
    """After an erasure a turn's other frames are told with the numbers that they had."""
    steps = (BlockStarted(0, "text"), Delta(0, WORD), Delta(0, "!"), BlockStopped(0), Ended("end_turn"))
    async with chatting(path, providers=(Dictated(*steps),)) as chat:
        session = await chat.create_session(model="dictated/model")
        turn = await chat.say(session.id, "Go.")
        frames = await frames_of(chat, turn.id)
        await chat.erase(session.id, "x", versions=[turn.message.version])
        after = await frames_of(chat, turn.id)
        assert told(after) == [(number, kind) for number, kind in told(frames) if kind != "delta"]
        assert WORD.encode() not in b"".join(frame.data for frame in after)


async def test_words_of_a_session_are_those_that_are_left(path):
    """A title that was set again stays when the first is erased, and is null when the second is: then and now."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO, title=WORD, system=WORD, metadata={"a": 1})
        await chat.update_session(session.id, title="second", metadata={"b": 2})
        await chat.erase(session.id, "x", versions=[1])
        now = await chat.session(session.id)
        assert (now.title, now.system, now.metadata) == ("second", None, {"b": 2})
        assert (await chat.session(session.id, version=1)).title is None
        await chat.update_session(session.id, metadata={"c": 3})
        await chat.erase(session.id, "x", versions=[2])
        now = await chat.session(session.id)
        assert (now.title, now.metadata) == (None, {"c": 3})
        listed = (await chat.sessions()).items
        assert listed == [now]
    settle(path)


# --- what is sent on --------------------------------------------------------------------------------------------------


async def test_windows_leave_erased_messages_out(path):
    """Now and at any version before: what is gone is not sent, and the window begins where a model can begin."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        for number in range(3):
            await chat.say(session.id, f"question {number}")
        asked = [message for message in (await chat.messages(session.id)).items if message.role == "user"]
        await chat.erase(session.id, "x", versions=[asked[2].version])
        for version in (None, asked[2].version + 1):
            window = await chat.window(session.id, version=version)
            assert asked[2].version not in [message.version for message in window.messages]
            assert window.messages[0].role == "user"
        await chat.erase(session.id, "x", versions=[message.version for message in asked])
        window = await chat.window(session.id, version=asked[2].version)
        assert {message.role for message in window.messages} == {"assistant"}
        assert (await chat.say(session.id, "again")).status == "completed"
    settle(path)


async def test_an_erased_question_is_not_answered(path):
    """A turn without new content has nothing to answer where the last message is erased, nor to go on with."""
    async with chatting(path, slow=says("Half", {"hang": True})) as chat:
        session = await chat.create_session(model=ECHO)
        message = await chat.append_message(session.id, WORD)
        await chat.erase(session.id, "x", versions=[message.version])
        with pytest.raises(engine.EngineError) as refused:
            await begin(chat, session.id)
        assert refused.value.code == "nothing_to_answer"
        turn = await begin(chat, session.id, "Go.", model="scripted/slow")
        await shown(chat, turn, 3)
        partial = (await chat.cancel(turn)).message
        await chat.erase(session.id, "x", versions=[partial.version])
        with pytest.raises(engine.EngineError) as refused:
            await begin(chat, session.id, continues=True)
        assert refused.value.code in {"nothing_to_answer", "invalid_value"}
        assert (await chat.say(session.id, "Something else.")).status == "completed"
    settle(path)


async def test_calls_of_an_erased_message_need_no_answer(path):
    """An erased message asks for nothing: the session goes on without the results it waited for."""
    asks = says({"text": WORD}, {"tool": {"id": "call_1", "name": "look", "input": {}}})
    async with chatting(path, asks=asks) as chat:
        session = await chat.create_session(model="scripted/asks")
        turn = await chat.say(session.id, "Go.", client_tools=offered("look"))
        with pytest.raises(engine.EngineError) as refused:
            await chat.append_message(session.id, "No.")
        assert refused.value.code == "tool_results_missing"
        await chat.erase(session.id, "x", versions=[turn.message.version])
        assert (await chat.say(session.id, "Go on.", model=ECHO)).status == "completed"
    settle(path)


async def test_a_unit_with_an_erased_result_is_left_out_whole(path):
    """A call whose result is erased is not sent on without it."""
    asks = says({"text": "Look."}, {"tool": {"id": "call_1", "name": "look", "input": {}}})
    async with chatting(path, asks=asks) as chat:
        session = await chat.create_session(model="scripted/asks")
        await chat.say(session.id, "Go.", client_tools=offered("look"))
        block = b'{"type":"tool_result","tool_use_id":"call_1","content":"%s"}' % WORD.encode()
        (result,) = await chat.append_messages(session.id, [engine.MessageIn((block,), "tool")])
        await chat.erase(session.id, "x", versions=[result.version])
        assert [message.role for message in (await chat.window(session.id)).messages] == ["user"]
    settle(path)


# --- the purge --------------------------------------------------------------------------------------------------------


async def test_a_reader_holds_the_purge_up_and_it_is_done_later(path):
    """While somebody reads an old snapshot the words are still in the log: the answer says so, and the purge is made up
    for as soon as the reader has gone.
    """
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        await chat.append_message(session.id, WORD)
        with snapshot_of(path):
            assert not (await chat.erase(session.id, "x")).purged
            assert files_with(path)
        async with asyncio.timeout(10):
            while files_with(path):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.1)
        assert await chat.purge()
    settle(path)


async def test_a_purge_resumes_at_start(path, tmp_path):
    """A server that dies between erasing and purging leaves the words in its files; the next one clears them before it
    does anything else.
    """
    dead = tmp_path / "dead"
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        await chat.append_message(session.id, WORD)
        with snapshot_of(path):
            assert not (await chat.erase(session.id, "x")).purged
            shutil.copytree(path.parent, dead)
    copy = dead / path.name
    assert files_with(copy)
    async with chatting(copy) as chat:
        assert await chat.purge()
        assert files_with(copy) == []
        assert (await chat.messages(session.id)).items[0].erased
    settle(copy)


async def test_a_file_that_is_not_the_right_one_is_not_purged(path, tmp_path):
    """Where the database is older than its checkpoints outside, it is served and not changed; what is due stays due."""
    older = tmp_path / "older"
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        await chat.append_message(session.id, WORD)
        with snapshot_of(path):
            assert not (await chat.erase(session.id, "x")).purged
            shutil.copytree(path.parent, older)
        await chat.append_message(session.id, "later")
        await chat.evidence.checkpoint(new=True)
    copy = older / path.name
    shutil.copy(f"{path}.checkpoints", f"{copy}.checkpoints")
    async with chatting(copy) as chat:
        with pytest.raises(EngineError, match="read-only"):
            await chat.append_message(session.id, "more")
    assert query(copy, "SELECT count(*) FROM purges") != [(0,)]


async def test_a_purge_that_fails_is_told_and_tried_again(path, monkeypatch):
    """A disk that fails under the purge harms nothing: the erasure stands, says that it is not purged, and is tried
    again.
    """

    def broken(_):
        raise OSError(5, "Input/output error")

    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        await chat.append_message(session.id, WORD)
        with monkeypatch.context() as patched:
            patched.setattr("manent.engine.log.sqlite.purge.scrub", broken)
            assert not (await chat.erase(session.id, "x")).purged
        await chat.append_message(session.id, "goes on")
        assert await chat.purge()
    settle(path)


def churn(connection, random_, erased, live):
    """Rows of all sizes come and go, as in a busy file."""
    connection.execute("BEGIN")
    for _ in range(random_.randint(1, 10)):
        number = len(live) + len(erased) + 1
        word = b"<%d>" % number
        body = word * (random_.choice([0, 1, 200, 900, 3000, 9000]) // len(word) + 1)
        key = (random_.choice("abc"), number)
        connection.execute("INSERT INTO bodies VALUES (?, ?, x'00', 0, ?)", (*key, body))
        live[key] = word
    for key in random_.sample(sorted(live), len(live) // 12 if random_.random() < 0.2 else 0):
        connection.execute("INSERT INTO erasures VALUES (?, ?, 1)", key)
        connection.execute("DELETE FROM bodies WHERE tenant = ? AND position = ?", key)
        erased.add(live.pop(key))
    connection.execute("COMMIT")


@pytest.mark.parametrize("seed", range(3))
def test_no_stray_copy_of_a_deleted_row_stays_in_the_file(tmp_path, seed):
    """Rows that SQLite moved about leave copies that ``secure_delete`` does not reach; scrubbing does, and changes
    nothing else.
    """
    path, random_ = tmp_path / "busy.db", random.Random(seed)
    engine.migrate_database(path)
    erased, live = set(), {}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = on")
        connection.execute("PRAGMA synchronous = off")
        while len(erased) < 400:
            churn(connection, random_, erased, live)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        rows = connection.execute("SELECT * FROM bodies").fetchall()
    data = path.read_bytes()
    stray = {word for word in erased if word in data}
    with path.open("r+b") as file:
        assert scrub.scrub(file.fileno()) > 0
        assert scrub.scrub(file.fileno()) == 0
    data = path.read_bytes()
    assert stray, "without stray copies this shows nothing"
    assert not {word for word in erased if word in data}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT * FROM bodies").fetchall() == rows


# --- retention --------------------------------------------------------------------------------------------------------


async def test_a_policy_erases_what_is_old(path):
    """What was recorded before so many days goes; a session's own words go with the last of the rest; a dry run tells
    the same and changes nothing; a second run has nothing to do.
    """
    clock = ManualClock()
    async with chatting(path, clock) as chat:
        old = await chat.create_session(model=ECHO, title=WORD)
        both = await chat.create_session(model=ECHO, title="kept")
        for session in (old, both):
            await chat.append_message(session.id, WORD)
        clock.time_us += 31 * DAY_US
        await chat.append_message(both.id, "new")
        dry = [each async for each in chat.retain(30, dry_run=True)]
        assert files_with(path)
        done = [each async for each in chat.retain(30)]
        assert await chat.purge()
        assert dry == done == [engine.Retained(old.id, (1, 2)), engine.Retained(both.id, (2,))]
        assert files_with(path) == []
        assert [each async for each in chat.retain(30)] == []
        assert (await chat.session(both.id)).title == "kept"
        assert (await chat.session(old.id)).title is None
        last = (await all_events(chat, old.id))[-1]
        assert bytes(last.body) == b'{"reason":"retention: recorded more than 30 days ago"}'
        clock.time_us += 31 * DAY_US
        assert [each.versions async for each in chat.retain(30)] == [(1, 3)]
    settle(path)


async def test_a_policy_can_be_for_one_tag(path):
    """Only sessions whose metadata has the key with the value: text as it is, other values as JSON."""
    async with chatting(path) as chat:
        tagged = {}
        for name, metadata in {
            "text": {"plan": "free"},
            "other": {"plan": "paid"},
            "number": {"plan": 7},
            "truth": {"plan": True},
            "none": None,
        }.items():
            tagged[name] = (await chat.create_session(model=ECHO, metadata=metadata)).id
            await chat.append_message(tagged[name], WORD)
        for value, name in (("free", "text"), ("7", "number"), ("true", "truth"), ("null", None)):
            found = [each.session_id async for each in chat.retain(0, tag=("plan", value), dry_run=True)]
            assert found == [tagged[each] for each in tagged if each == name]
        await anext(chat.retain(0, tag=("plan", "free")))
        erased = {name: bool((await chat.messages(session)).items[0].erased) for name, session in tagged.items()}
        assert erased == {name: name == "text" for name in tagged}


async def test_a_policy_passes_over_other_tenants(path):
    """One log's policy is none of another's."""
    acme = engine.Caller("acme")
    async with chatting(path) as chat:
        session = await chat.create_session(caller=acme, model=ECHO)
        await chat.append_message(session.id, WORD, caller=acme)
        assert [each async for each in chat.retain(0)] == []
        assert len([each async for each in chat.retain(0, caller=acme)]) == 1
    settle(path)


# --- the file ---------------------------------------------------------------------------------------------------------


async def test_a_file_that_was_erased_in_still_refuses_every_other_deletion(path):
    """Only bodies that an erasure names were let go."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        for text in (WORD, "kept"):
            await chat.append_message(session.id, text)
        await chat.erase(session.id, "x", versions=[2])
    with pytest.raises(sqlite3.IntegrityError):
        execute(path, "DELETE FROM bodies WHERE position = 3")
    with pytest.raises(sqlite3.IntegrityError):
        execute(path, "DELETE FROM erasures")
    assert text_of((await _reopened(path, session.id))[1]) == "kept"


async def _reopened(path, session):
    async with chatting(path) as chat:
        return (await chat.messages(session)).items
