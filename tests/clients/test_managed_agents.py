"""Anthropic's own client of Managed Agents, unmodified, against a server: sessions, events, and its runner of tools."""

import anthropic
import pytest

from manent import engine
from tests.api.conftest import settings_on
from tests.api.harness import in_thread
from tests.api.ui_messages import needs_mcp, options_in

pytestmark = pytest.mark.clients

TOOL = {
    "type": "custom",
    "name": "look",
    "description": "Looks at the sky.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agents")
    with in_thread(settings_on(folder, **options_in(folder))) as server:
        yield server
    assert engine.verify_database(str(server.database)).problem is None
    assert engine.rebuild_projections(str(server.database)).differed == ()


@pytest.fixture
def sessions(server):
    with anthropic.Anthropic(base_url=server.url, api_key="sk-ours", max_retries=0) as client:
        yield client.beta.sessions


def said(text):
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def until_idle(stream):
    """The events up to where the session rests."""
    found = []
    for event in stream:
        found.append(event)
        if event.type == "session.status_idle":
            return found
    raise AssertionError("the stream ended")


def test_a_talk(sessions):
    """As in Anthropic's examples: a stream is opened, messages are sent, and events read until the session rests."""
    session = sessions.create(agent="echo/echo", environment_id="env_1", title="A talk", metadata={"topic": "sea"})
    assert (session.status, session.environment_id, session.agent.model.id) == ("idle", "env_1", "echo/echo")
    with sessions.events.stream(session.id, event_deltas=["agent.message"]) as stream:
        sent = sessions.events.send(session.id, events=[said("Hello."), said("Again.")])
        seen = until_idle(stream)
    assert [event.id for event in sent.data] == [event.id for event in seen[:2]]
    (answer,) = [event for event in seen if event.type == "agent.message"]
    assert answer.content[0].text == "Again."
    assert seen[-1].stop_reason.type == "end_turn"
    assert [*sessions.events.list(session.id, limit=2)] == seen
    assert [*sessions.events.list(session.id, limit=2, order="desc")] == seen[::-1]
    assert [*sessions.events.list(session.id, types=["agent.message"], created_at_gt="2020-01-01T00:00:00Z")] == [
        answer
    ]
    assert sessions.retrieve(session.id).usage.output_tokens == 2


def test_sessions(sessions):
    """Are updated, listed, archived and deleted."""
    made = [sessions.create(agent="echo/echo", environment_id="e").id for _ in range(3)]
    changed = sessions.update(made[0], title="Other", metadata={"a": "b"})
    assert (changed.title, changed.metadata) == ("Other", {"a": "b"})
    assert sessions.update(made[0], metadata={"a": None}).metadata == {}
    assert [session.id for session in sessions.list(limit=1)][:3] == made[::-1]
    assert sessions.archive(made[1]).archived_at is not None
    assert made[1] not in [session.id for session in sessions.list(statuses=["idle"])]
    assert made[1] in [session.id for session in sessions.list(include_archived=True)]
    assert sessions.delete(made[2]).type == "session_deleted"
    with pytest.raises(anthropic.NotFoundError):
        sessions.retrieve(made[2])


def test_what_there_is_not(sessions):
    """Is the client's own error for it."""
    with pytest.raises(anthropic.NotFoundError, match="there are no agents here"):
        sessions.create(agent={"type": "agent", "id": "agent_1"}, environment_id="e")
    with pytest.raises(anthropic.BadRequestError, match="vault_ids"):
        sessions.create(agent="echo/echo", environment_id="e", vault_ids=["vlt_1"])
    session = sessions.create(agent="echo/echo", environment_id="e").id
    with pytest.raises(anthropic.NotFoundError):
        sessions.resources.list(session)
    with pytest.raises(anthropic.NotFoundError):
        sessions.threads.list(session)


def test_an_interrupt(sessions):
    """Stops what runs, and the session goes on."""
    session = sessions.create(agent="scripted/hang", environment_id="e").id
    sessions.events.send(session, events=[said("Go.")])
    assert sessions.retrieve(session).status == "running"
    with pytest.raises(anthropic.ConflictError):
        sessions.events.send(session, events=[said("More.")])
    sent = sessions.events.send(session, events=[{"type": "user.interrupt"}])
    assert sent.data[0].type == "user.interrupt"
    assert sessions.retrieve(session).status == "idle"


async def test_the_runner_of_tools(server, sessions):
    """Finds the calls that wait, runs the client's tools, and gives their results; two calls are answered together."""
    asked = []

    @anthropic.beta_async_tool
    async def look(a: int) -> str:
        """Looks."""
        asked.append(a)
        return f"dry in {a}"

    session = sessions.create(agent={"model": "scripted/pair", "tools": [TOOL]}, environment_id="e").id
    sessions.events.send(session, events=[said("Both?")])
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="sk-ours", max_retries=0) as client:
        runner = client.beta.sessions.events.tool_runner(session, tools=[look], max_idle=0.5)
        calls = [each async for each in runner]
    assert sorted(asked) == [1, 2]
    assert [(each.name, each.posted, each.is_error) for each in calls] == [("look", True, False)] * 2
    found = [*sessions.events.list(session)]
    assert [event.content[0].text for event in found if event.type == "agent.message"] == ["Both dry."]
    results = [event.custom_tool_use_id for event in found if event.type == "user.custom_tool_result"]
    assert sorted(results) == sorted(each.tool_use_id for each in calls)
    assert found[-1].stop_reason.type == "end_turn"


@needs_mcp
def test_confirmations(sessions):
    """A turn waits for a person, and goes on with what they say."""
    agent = {"model": "scripted/greet", "tools": ["house_greet"]}
    session = sessions.create(agent=agent, environment_id="e").id
    with sessions.events.stream(session) as stream:
        sessions.events.send(session, events=[said("Greet them.")])
        asked = until_idle(stream)[-1].stop_reason
        yes, no = ({"type": "user.tool_confirmation", "tool_use_id": name} for name in asked.event_ids)
        sessions.events.send(session, events=[yes | {"result": "allow"}, no | {"result": "deny", "deny_message": "no"}])
        results = [event for event in until_idle(stream) if event.type == "agent.tool_result"]
    assert results[0].content[0].text == "hello Ann"
    assert [each.is_error for each in results] == [False, True]
