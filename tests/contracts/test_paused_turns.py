"""Databases of earlier revisions, as a server left them: a paused turn, calls that are the caller's, keyed decisions,
schemas of tools, and words that were erased. Whatever has changed since, their turns can be ended.
"""

import gzip
from pathlib import Path

import pytest

from manent import engine
from tests.support import audit, awaited, chatting, offered, says

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = sorted(GOLDEN.glob("paused-*.db.gz"))
SECRET = f"manent-secret/1 {'11' * 32}\n"
"""Of those files that name a secret, from revision 0008 on."""
CLERK = [
    {"match": "rain", "steps": [{"text": "unused"}]},
    {"match": "rain", "steps": [{"text": "Take an umbrella."}]},
    {"match": "doors", "steps": [{"text": "unused"}]},
    {"match": "doors", "steps": [{"text": "Come in."}]},
]


def laid(file, folder):
    """A golden file as a database, with its secret beside it."""
    path = folder / "old.db"
    path.write_bytes(gzip.decompress(file.read_bytes()))
    if file.name > "paused-0007.db.gz":
        Path(f"{path}.secret").write_text(SECRET)
        Path(f"{path}.secret").chmod(0o600)
    return path


@pytest.fixture(params=FILES, ids=lambda file: file.name)
def path(tmp_path, request):
    return laid(request.param, tmp_path)


@pytest.fixture
def of_0007(tmp_path):
    return laid(GOLDEN / "paused-0007.db.gz", tmp_path)


@engine.tool(approval=True)
def house_unlock(door: str) -> str:
    """Unlocks a door."""
    return f"the {door} door is open"


async def titled(chat, title):
    return next(each for each in (await chat.sessions()).items if each.title == title)


async def test_a_paused_turn_goes_on(path):
    """One call of two was decided before; with the other decision both run, and the turn ends."""
    async with chatting(path, tools=[house_unlock], unwitnessed=True, clerk=CLERK) as chat:
        session = await titled(chat, "doors")
        (turn,) = (await chat.turns(session.id)).items
        assert (turn.status, awaited(turn)) == ("requires_action", ("door_2",))
        await chat.decide(turn.id, "door_2", approve=False, reason="one is enough")
        ended = await chat.ended(turn.id)
        results = [block for message in ended.messages if message.role == "tool" for block in message.blocks()]
    assert (ended.status, ended.text) == ("completed", "Come in.")
    assert [(block.tool_use_id, block.is_error) for block in results] == [("door_1", False), ("door_2", True)]
    audit(path)
    assert engine.verify_database(path).problem is None


async def test_open_calls_are_answered(path):
    """Results of the caller's tools are the input of the next turn; without them there is none."""
    async with chatting(path, unwitnessed=True, clerk=CLERK) as chat:
        session = await titled(chat, "rain")
        with pytest.raises(engine.ToolResultsMissing):
            await chat.say(session.id, "Never mind.")
        results = tuple(engine.ToolResultBlock(call, "Rain all week.") for call in ("rain_1", "rain_2"))
        turn = await chat.say(session.id, engine.MessageIn(results, "tool"))
    assert (turn.status, turn.text) == ("completed", "Take an umbrella.")
    audit(path)
    assert engine.verify_database(path).problem is None


async def test_old_names_in_facts_are_told_by_doctor(of_0007):
    """What older versions took into facts no erasure reaches: doctor says how many events have such names, and where;
    what is written today adds none.
    """
    async with chatting(of_0007, clerk=CLERK):
        """Opening it migrates it."""

    def told():
        return next(each for each in engine.examine_database(str(of_0007)) if each.name == "words in facts")

    before = told()
    assert (before.state, before.value.split(":")[0]) == ("warning", "default")
    asks = says("Hm.", {"tool": {"id": "call_secret", "name": "invented", "input": {}}})
    async with chatting(of_0007, asks=asks) as chat:
        session = await chat.create_session(model="scripted/asks")
        await chat.say(session.id, "Go.", client_tools=offered("invented"))
    assert told() == before


async def test_a_new_log_has_no_names_in_facts(tmp_path):
    """Doctor finds none there."""
    async with chatting(tmp_path / "new.db", main=says("Hello.")) as chat:
        await chat.say((await chat.create_session(model="scripted/main")).id, "Hi.")
    found = engine.examine_database(str(tmp_path / "new.db"))
    assert next(each for each in found if each.name == "words in facts").state == "ok"
