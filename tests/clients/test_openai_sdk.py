"""OpenAI's Python library, unmodified, against a real server process: only its base URL is another."""

import asyncio
import base64
import json
import time
from pathlib import Path

import httpx
import openai
import pytest
from pydantic import BaseModel

from manent import engine
from tests.api.chat_upstream import upstream
from tests.api.conftest import SCRIPT
from tests.api.harness import Process
from tests.clients.wire import wire

pytestmark = pytest.mark.clients

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n of a sort").decode()
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": True,
    },
}
PATIENCE_S = 30
README = Path(__file__).parents[2] / "README.md"


def process(database, vendor, **environment):
    script = Path(database).with_name("script.json")
    script.write_text(json.dumps({"models": SCRIPT}), encoding="utf-8")
    environment |= {"MANENT_SCRIPT": str(script), "MANENT_OPENAI_BASE_URL": f"http://127.0.0.1:{vendor.server_port}/v1"}
    return Process(database, **environment)


@pytest.fixture(scope="module")
def vendor():
    with upstream() as vendor:
        yield vendor


@pytest.fixture(scope="module")
def server(tmp_path_factory, vendor):
    folder = tmp_path_factory.mktemp("openai")
    with process(folder / "manent.db", vendor, MANENT_DISCONNECT_GRACE_S="1") as server:
        yield server


@pytest.fixture
def sdk(server):
    """The library's client. It asks once, if it does not say otherwise."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as sdk:
        yield sdk


def say(sdk, *messages, model="echo/echo", **fields):
    """A completion, and the session and turn in which it is on record."""
    raw = sdk.chat.completions.with_raw_response.create(model=model, messages=list(messages), **fields)
    return raw.parse(), raw.headers["x-manent-session"], raw.headers["x-manent-turn"]


def user(text):
    return {"role": "user", "content": text}


def native(server, path):
    return httpx.get(f"{server.url}{path}").raise_for_status().json()


def until(holds):
    until_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until_s, "it never came to hold"
        time.sleep(0.02)


def test_text(server, sdk):
    """An answer, with its usage; the conversation goes on in its session, and the prompt is derived again."""
    system = {"role": "developer", "content": "Be brief."}
    first, session, _ = say(sdk, system, user("Hello."), user="someone", metadata={"ticket": "7"})
    assert first.choices[0].message.content == "Hello."
    assert first.choices[0].finish_reason == "stop"
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens
    second, same, turn = say(sdk, system, user("Hello."), first.choices[0].message, user("Again."), user="someone")
    assert (second.choices[0].message.content, same) == ("Again.", session)
    assert native(server, f"/api/turns/{turn}/prompt")["matches"] is True
    assert native(server, f"/api/sessions/{session}")["metadata"] == {"ticket": "7"}


def test_the_line_of_the_readme(server):
    """It is all that a client must change."""
    row = next(
        line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| `openai` (Python)")
    )
    line = row.split("`")[3].replace("http://127.0.0.1:8000", server.url)
    with eval(line, {"OpenAI": openai.OpenAI}) as sdk:
        assert say(sdk, user("Hello."))[0].choices[0].message.content == "Hello."


def test_stream(sdk):
    """Chunk by chunk, and with the library's own accumulator."""
    stream = sdk.chat.completions.create(
        model="echo/paced", messages=[user("One two three.")], stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "One two three."
    assert len(chunks) > 4
    assert chunks[-1].usage.completion_tokens > 0
    with sdk.chat.completions.stream(model="echo/paced", messages=[user("One two three.")]) as events:
        assert [event.type for event in events][-1] == "content.done"
        assert events.get_final_completion().choices[0].message.content == "One two three."


def test_async(server):
    """The asynchronous client does the same."""

    async def main():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as sdk:
            stream = await sdk.chat.completions.create(model="echo/echo", messages=[user("x")], stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(main()) == "x"


def test_tools(server, sdk):
    """The call, its result, and the answer stand in one session; also where the call was streamed."""
    fields = {"model": "scripted/tools", "tools": [LOOK]}
    called, session, _ = say(sdk, user("Is it dry?"), tool_choice="auto", **fields)
    message = called.choices[0].message
    assert called.choices[0].finish_reason == "tool_calls"
    assert json.loads(message.tool_calls[0].function.arguments) == {"city": "Rome"}
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "dry"}
    answer, same, _ = say(sdk, user("Is it dry?"), message, result, **fields)
    assert (answer.choices[0].message.content, same) == ("Dry.", session)
    with sdk.chat.completions.stream(messages=[user("Is it dry now?")], **fields) as events:
        streamed = events.get_final_completion().choices[0].message
    answer, again, turn = say(sdk, user("Is it dry now?"), streamed, result, **fields)
    assert answer.choices[0].message.content == "Dry."
    assert native(server, f"/api/turns/{turn}/prompt")["matches"] is True
    roles = [message["role"] for message in native(server, f"/api/sessions/{again}/messages")["items"]]
    assert roles == ["user", "assistant", "tool", "assistant"]


def test_images(vendor, sdk):
    """By their bytes, and by their address: the model is sent both."""
    images = [f"data:image/png;base64,{PNG}", "https://images.example/cat.png"]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in images]
    answer, _, _ = say(sdk, user([{"type": "text", "text": "Which?"}, *parts]), model="openai/gpt-test")
    assert answer.choices[0].message.content == "Yes."
    sent = vendor.bodies[-1]["messages"][-1]["content"]
    assert [part["image_url"]["url"] for part in sent if part["type"] == "image_url"] == images


def test_structured_output(vendor, sdk):
    """A schema goes to the model, and the answer comes back as the caller's type."""

    class Sum(BaseModel):
        answer: int

    parsed = sdk.chat.completions.parse(model="openai/json", messages=[user("2 + 2?")], response_format=Sum)
    assert parsed.choices[0].message.parsed == Sum(answer=4)
    assert vendor.bodies[-1]["response_format"]["json_schema"]["schema"]["properties"].keys() == {"answer"}


def test_models(sdk):
    """Listed, and one by one."""
    names = [model.id for model in sdk.models.list()]
    assert {"echo/echo", "scripted/tools"} <= set(names)
    assert sdk.models.retrieve("echo/echo").owned_by == "echo"
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.models.retrieve("nothing")
    assert caught.value.code == "model_not_found"


def test_errors(sdk):
    """Are the library's own, with their codes, and the id of the request."""
    with pytest.raises(openai.NotFoundError) as caught:
        say(sdk, user("x"), model="nothing")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.request_id
    with pytest.raises(openai.BadRequestError) as caught:
        say(sdk, user("x"), max_tokens=10_000_000)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as caught:
        say(sdk, user("x"), extra_body={"mirostat": 2})
    assert (caught.value.code, caught.value.param) == ("unknown_parameter", "mirostat")
    with pytest.raises(openai.InternalServerError) as caught:
        say(sdk, user("x"), model="openai/broken")
    assert caught.value.code == "provider_unavailable"


def test_an_error_in_mid_stream(sdk):
    """Raises the library's error after the text that had come."""
    text = ""
    stream = sdk.chat.completions.create(model="scripted/fails", messages=[user("x")], stream=True)
    try:
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    except openai.APIError as error:
        code = error.code
    assert (text, code) == ("I brea", "provider_unavailable")


def test_an_edited_history_forks(server, sdk):
    """What was said before stays, and the fork names it."""
    first, session, _ = say(sdk, user("one"))
    before = [user("one"), first.choices[0].message]
    say(sdk, *before, user("two"))
    _, fork, _ = say(sdk, *before, user("other"))
    assert fork != session
    assert native(server, f"/api/sessions/{fork}")["parent"]["session_id"] == session
    kept = [message["content"][0]["text"] for message in native(server, f"/api/sessions/{session}/messages")["items"]]
    assert kept == ["one", "one", "two", "two"]


def test_who_leaves_pays_no_longer(server, sdk):
    """The turn of a stream that is closed is cancelled when the grace is over."""
    raw = sdk.chat.completions.with_raw_response.create(model="scripted/hang", messages=[user("x")], stream=True)
    events = f"/api/sessions/{raw.headers['x-manent-session']}/events?types=turn.cancelled"
    stream = raw.parse()
    next(iter(stream))
    assert native(server, events)["items"] == []
    stream.close()
    until(lambda: native(server, events)["items"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_connection(vendor, server, stream):
    """The library asks again by itself, and is given the turn that its first request started: it is paid once."""
    with wire(_address(server)) as cable:
        asked = len(vendor.asked)
        cable.cuts, cable.before_cut = 1, lambda: until(lambda: len(vendor.asked) > asked)
        with openai.OpenAI(base_url=f"{cable.url}/v1", api_key="none", max_retries=2) as sdk:
            fields = {"model": "openai/gpt-test", "messages": [user(f"Once, {stream}?")], "stream": stream}
            raw = sdk.chat.completions.with_raw_response.create(**fields)
            assert raw.retries_taken == 1
            assert _text(raw.parse(), stream=stream) == "Yes."
    assert len(vendor.asked) == asked + 1


def test_a_cut_connection_and_a_restart(tmp_path, vendor):
    """The record knows the request also when the server that took it is gone."""
    database = tmp_path / "manent.db"
    asked = len(vendor.asked)
    with process(database, vendor, MANENT_DRAIN_S="1") as first, wire(_address(first)) as cable:
        restarted = []

        def restart():
            until(lambda: _completed(first))
            first.stop()
            restarted.append(process(database, vendor))
            cable.target = _address(restarted[0])

        cable.cuts, cable.before_cut = 1, restart
        with openai.OpenAI(base_url=f"{cable.url}/v1", api_key="none", max_retries=2) as sdk:
            answer, session, turn = say(sdk, user("Once?"), model="openai/gpt-test")
        with restarted[0] as second:
            assert answer.choices[0].message.content == "Yes."
            assert len(native(second, f"/api/sessions/{session}/turns")["items"]) == 1
            assert native(second, f"/api/turns/{turn}/prompt")["matches"] is True
            second.stop()
    assert len(vendor.asked) == asked + 1
    assert engine.verify_database(str(database)).problem is None


def _completed(server):
    events = native(server, "/api/events?limit=1000")["items"]
    return any(event["type"] == "turn.completed" for event in events)


def _address(server):
    url = httpx.URL(server.url)
    return url.host, url.port


def _text(answer, *, stream):
    if stream:
        return "".join(chunk.choices[0].delta.content or "" for chunk in answer)
    return answer.choices[0].message.content


def test_stored_completions(server, sdk):
    """Served by their ids and listed, page by page, with the messages that they were asked with; deleted for ever."""
    metadata = {"suite": "stored"}
    first, session, _ = say(sdk, user("Keep this."), store=True, metadata=metadata)
    with sdk.chat.completions.stream(
        model="echo/paced", messages=[user("And this.")], store=True, metadata=metadata
    ) as events:
        second = events.get_final_completion()
    names = [first.id, second.id]
    served = sdk.chat.completions.retrieve(first.id)
    assert (served.choices, served.usage, served.metadata) == (first.choices, first.usage, metadata)
    assert [each.id for each in sdk.chat.completions.list(metadata=metadata, limit=1)] == names
    assert [each.id for each in sdk.chat.completions.list(metadata=metadata, model="echo/echo")] == names[:1]
    assert [each.id for each in sdk.chat.completions.list(metadata=metadata, order="desc")] == names[::-1]
    said = [user("Keep this."), first.choices[0].message, user("And more.")]
    third, same, _ = say(sdk, {"role": "system", "content": "Be brief."}, *said, store=True)
    told = list(sdk.chat.completions.messages.list(third.id, limit=2))
    assert same == session
    assert [each.content for each in told] == ["Be brief.", "Keep this.", "Keep this.", "And more."]
    deleted = sdk.chat.completions.delete(first.id)
    assert (deleted.id, deleted.deleted) == (first.id, True)
    with pytest.raises(openai.NotFoundError) as refusal:
        sdk.chat.completions.retrieve(first.id)
    assert (refusal.value.code, refusal.value.param) == ("completion_not_found", "completion_id")
    assert [each.content for each in sdk.chat.completions.messages.list(third.id)][1:] == [None, None, "And more."]
    assert [message["erased"] is None for message in native(server, f"/api/sessions/{session}/messages")["items"]] == [
        *(False, False, True, True)
    ]
