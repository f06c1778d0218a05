"""Clients of OpenAI's Responses, unmodified, against a real server process."""

import json
import os
import signal
import subprocess
import time

import httpx
import openai
import pytest
from pydantic import BaseModel

from manent import engine
from tests.api import chat_upstream
from tests.api.conftest import SCRIPT
from tests.api.harness import Process
from tests.clients.environments import HERE, python_with

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]  # the first run installs them

LOOK = {
    "type": "function",
    "name": "look",
    "description": "Look at the weather.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
DRIVE_S = 120
PATIENCE_S = 30


class Sum(BaseModel):
    answer: int


@pytest.fixture(scope="module")
def vendor():
    with chat_upstream.upstream() as vendor:
        yield vendor


def process(folder, vendor):
    script = folder / "script.json"
    script.write_text(json.dumps({"models": SCRIPT}), encoding="utf-8")
    url = f"http://127.0.0.1:{vendor.server_port}/v1"
    return Process(folder / "manent.db", MANENT_SCRIPT=str(script), MANENT_OPENAI_BASE_URL=url)


@pytest.fixture(scope="module")
def server(tmp_path_factory, vendor):
    """A server, whose log is verified when all is done."""
    with process(tmp_path_factory.mktemp("responses"), vendor) as server:
        yield server
        assert server.stop() == 0
    assert engine.verify_database(str(server.database)).problem is None
    assert engine.rebuild_projections(str(server.database)).differed == ()


def client_of(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def sdk(server):
    with client_of(server) as sdk:
        yield sdk


def say(sdk, given, model="echo/echo", **fields):
    return sdk.responses.create(model=model, input=given, **fields)


def until_done(sdk, response):
    until_s = time.monotonic() + PATIENCE_S
    while response.status in {"queued", "in_progress"}:
        assert time.monotonic() < until_s
        time.sleep(0.05)
        response = sdk.responses.retrieve(response.id)
    return response


def test_text(sdk):
    """An answer with its usage, which is retrieved as the same object."""
    answer = say(sdk, "Hello.", instructions="Be brief.", metadata={"a": "b"})
    assert (answer.output_text, answer.status, answer.metadata) == ("Hello.", "completed", {"a": "b"})
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    found = sdk.responses.retrieve(answer.id, include=["reasoning.encrypted_content"])
    assert found.to_dict() == answer.to_dict()


def test_stream(sdk):
    """Event by event, and with the library's own accumulator; a stored one again from its first event."""
    events = list(say(sdk, "One two three.", model="echo/paced", stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "One two three."
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "One two three."
    again = list(sdk.responses.retrieve(last.response.id, stream=True))
    assert [event.to_dict() for event in again] == [event.to_dict() for event in events]
    with sdk.responses.stream(model="scripted/think", input="two?") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert "response.reasoning_summary_text.delta" in kinds
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert final.output_text == "Two."


def test_tools(sdk):
    """The call, its result by the response's id, and the answer; also where the client keeps all itself."""
    fields = {"model": "scripted/tools", "tools": [LOOK]}
    first = say(sdk, "Is it dry?", **fields)
    call = first.output[-1]
    assert json.loads(call.arguments) == {"city": "Rome"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "dry"}
    assert say(sdk, [result], previous_response_id=first.id, **fields).output_text == "Dry."
    with sdk.responses.stream(input="Is it dry now?", **fields) as stream:
        streamed = stream.get_final_response()
    history = [{"role": "user", "content": "Is it dry now?"}, *streamed.output, result]
    assert say(sdk, history, store=False, **fields).output_text == "Dry."


def test_structured_output(sdk):
    """The library reads its own model from the answer."""
    answer = sdk.responses.parse(model="openai/json", input="2 + 2?", text_format=Sum)
    assert answer.output_parsed == Sum(answer=4)


def test_items_and_tokens(sdk):
    """What an answer was asked with, page by page, and how much it would be."""
    given = [{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "input_text", "text": "b"}]}]
    answer = say(sdk, given)
    items = list(sdk.responses.input_items.list(answer.id, limit=1, order="asc"))
    assert [item.content[0].text for item in items] == ["a", "b"]
    counted = sdk.responses.input_tokens.count(model="echo/echo", input="four", previous_response_id=answer.id)
    assert counted.input_tokens > 3


def test_forks_and_deletes(sdk):
    """Two answers go on from one; what came after a deleted one is read, and not gone on from."""
    first = say(sdk, "A")
    second = say(sdk, "B", previous_response_id=first.id)
    third = say(sdk, "C", previous_response_id=first.id)
    assert (second.previous_response_id, third.previous_response_id) == (first.id, first.id)
    sdk.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(first.id)
    for previous in (first.id, second.id):
        with pytest.raises(openai.NotFoundError) as refusal:
            say(sdk, "D", previous_response_id=previous)
        assert (refusal.value.code, refusal.value.param) == ("previous_response_not_found", "previous_response_id")
    assert sdk.responses.retrieve(second.id).output_text == "B"


def test_compaction(sdk):
    """One item stands for what came before it."""
    first = say(sdk, "A")
    compacted = sdk.responses.compact(model="echo/echo", previous_response_id=first.id)
    (item,) = compacted.output
    assert item.type == "compaction"
    assert say(sdk, [item, {"role": "user", "content": "go on"}]).output_text == "go on"


def test_background(sdk):
    """Polled to its end, and cancelled, twice."""
    begun = say(sdk, "x", model="scripted/slow", background=True)
    assert begun.status == "queued"
    assert until_done(sdk, begun).output_text == "abcdefghijklmnopqrstuvwxyz" * 2
    begun = say(sdk, "x", model="scripted/hang", background=True)
    assert sdk.responses.cancel(begun.id).status == "cancelled"
    assert sdk.responses.cancel(begun.id).status == "cancelled"


def test_a_socket_that_is_cut_is_resumed(sdk):
    """After the last number that came, with nothing lost and nothing twice."""
    stream = say(sdk, "x", model="scripted/slow", background=True, stream=True)
    events = [next(stream) for _ in range(8)]
    stream.close()
    response = events[0].response.id
    events += sdk.responses.retrieve(response, stream=True, starting_after=events[-1].sequence_number)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == "abcdefghijklmnopqrstuvwxyz" * 2


def test_a_failure_is_the_librarys_own(sdk):
    """With its status and its code; a failure in a stream is the response's."""
    with pytest.raises(openai.InternalServerError) as failure:
        say(sdk, "x", model="scripted/fails")
    assert failure.value.code == "provider_unavailable"
    events = list(say(sdk, "y", model="scripted/fails", stream=True))
    assert events[-1].type == "response.failed"
    with pytest.raises(openai.BadRequestError) as refusal:
        say(sdk, "x", tools=[{"type": "web_search"}])
    assert refusal.value.param == "tools[0].type"


def test_state_survives_a_kill(tmp_path, vendor):
    """A response goes on from one that a server gave which was killed."""
    with process(tmp_path, vendor) as server, client_of(server) as sdk:
        first = say(sdk, "A")
        server.popen.send_signal(signal.SIGKILL)
        server.popen.wait()
    with process(tmp_path, vendor) as server, client_of(server) as sdk:
        assert sdk.responses.retrieve(first.id).to_dict() == first.to_dict()
        second = say(sdk, "B", previous_response_id=first.id)
        assert second.output_text == "B"
        said = httpx.get(f"{server.url}/api/sessions").json()["items"]
        assert [session["message_count"] for session in said] == [4]


# --- other projects' clients ------------------------------------------------------------------------------------------


def driven(server, client):
    """What the client's driver tells of its steps."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_"))}
    own.pop("PYTHONPATH", None)  # the project's modules are not the client's
    driver = HERE / "drivers" / f"drive_{client.replace('-', '_')}_responses.py"
    command = [python_with(client), driver, server.url, ""]
    ran = subprocess.run(command, env=own, capture_output=True, text=True, timeout=DRIVE_S, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("client", ["openai-agents", "langchain-openai"])
def test_other_clients(server, client):
    """Text, streams, tools and structured answers, with state kept here and with state kept by the client."""
    told = driven(server, client)
    assert told == {
        "text": ["one", "two"],
        "kept": ["one", "two"],
        "stream": "Once more, in pieces.",
        "tools": [{"city": "Rome"}, "Dry."],
        "structured": 4,
    }
