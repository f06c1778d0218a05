"""No false alarms: whatever is done through the engine, ``verify`` finds nothing wrong with it.

``HONEST_HISTORIES`` says how many histories are tried; a thousand, when there is time.
"""

import asyncio
import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manent import engine
from tests.support import chatting

HISTORIES = int(os.environ.get("HONEST_HISTORIES", "25"))
TENANTS = (engine.LOCAL, engine.Caller("other"))

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 90)),
        st.tuples(
            st.sampled_from(["session", "say", "update", "erase", "checkpoint", "rotate", "roll_back"]), st.just(0)
        ),
    ),
    max_size=14,
)


class History:
    """Does steps on a file, which it opens and closes."""

    def __init__(self, path):
        self.path = path
        self.copy = None

    async def run(self, steps, choose):
        for kind, count in steps:
            caller = choose(st.sampled_from(TENANTS))
            if kind in {"rotate", "roll_back"}:
                getattr(self, kind)()
            else:
                async with chatting(self.path) as chat:
                    await self.step(chat, caller, kind, count, choose)

    async def step(self, chat, caller, kind, count, choose):
        mine = [session.id for session in (await chat.sessions(caller=caller, order="created")).items]
        if kind == "session" or not mine:
            await chat.create_session(caller=caller, title="a title", system="Be brief.")
            return
        session = choose(st.sampled_from(mine))
        match kind:
            case "append":
                await chat.append_messages(session, [engine.MessageIn(f"word {count}")] * count, caller=caller)
            case "say":
                await chat.say(session, "Is this on record?", caller=caller, model="echo/echo")
            case "update":
                await chat.update_session(session, title=None, metadata={"a": 1}, caller=caller)
            case "erase":
                await chat.erase(session, "by request", caller=caller)
            case "checkpoint":
                await chat.evidence.checkpoint(caller=caller, new=True)
                self.copy = await asyncio.to_thread(self.path.read_bytes)

    def rotate(self):
        self.path.with_name(f"{self.path.name}.key").unlink(missing_ok=True)

    def roll_back(self):
        """An older copy comes back, and somebody says that this is so."""
        if self.copy is not None:
            self.path.write_bytes(self.copy)
            engine.accept_break(self.path)
            self.copy = None


@settings(
    max_examples=HISTORIES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(st.data())
def test_an_honest_history_is_verified(tmp_path_factory, data):
    """Appends, turns, updates, erasures, checkpoints, restarts, new keys, and breaks that were accepted."""
    path = tmp_path_factory.mktemp("honest") / "log.db"
    steps = data.draw(STEPS)
    asyncio.run(History(path).run([("session", 0), *steps], data.draw))
    found = engine.verify_database(path)
    assert found.problem is None
    assert found.unwitnessed == ()
