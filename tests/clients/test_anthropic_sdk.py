"""Anthropic's own Python client, unmodified, against a server: what it is told, and what gets on record of it."""

import base64
import json
import time
from pathlib import Path

import anthropic
import httpx
import pytest

from manent import engine
from tests.api import claude_upstream
from tests.api.claude_upstream import failure, said
from tests.api.conftest import SCRIPT
from tests.api.harness import Process
from tests.clients.wire import wire

pytestmark = pytest.mark.clients

README = Path(__file__).parents[2] / "README.md"
CLAUDE = "claude-sonnet-4-6"
README = Path(__file__).parents[2] / "README.md"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nnot really").decode()
LOOK = {
    "name": "look",
    "description": "Looks at the sky.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
SIGNATURE = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds+/u/3w=="


def user(*content):
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else [*content]}


def text(words, **more):
    return {"type": "text", "text": words} | more


def assistant(message):
    """An answer as it is sent again."""
    return {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in message.content]}


@pytest.fixture(scope="module")
def upstream():
    """Claude, as far as anybody can tell."""
    with claude_upstream.upstream() as server:
        yield server


def process(folder, **environment):
    script = folder / "script.json"
    script.write_text(json.dumps({"models": SCRIPT}), encoding="utf-8")
    return Process(folder / "manent.db", MANENT_SCRIPT=str(script), MANENT_BREAKER_FAILURES="1000", **environment)


@pytest.fixture(scope="module")
def server(tmp_path_factory, upstream):
    """A server whose Claude is the upstream; when all is done its log is verified and folded again."""
    vendor = {"MANENT_ANTHROPIC_BASE_URL": upstream.address, "ANTHROPIC_API_KEY": "sk-theirs"}
    with process(tmp_path_factory.mktemp("anthropic"), **vendor) as server:
        yield server
        assert server.stop() == 0
    assert engine.verify_database(str(server.database)).problem is None
    assert engine.rebuild_projections(str(server.database)).differed == ()


def until(condition):
    """Wait for what comes soon."""
    until_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.01)


@pytest.fixture
def client(server):
    with anthropic.Anthropic(base_url=server.url, api_key="sk-ours", max_retries=0) as client:
        yield client


def ask(client, *messages, model="echo/echo", max_tokens=100, **options):
    """An answer, with the session and the turn that it is on record in."""
    given = {"model": model, "max_tokens": max_tokens, "messages": messages}
    raw = client.messages.with_raw_response.create(**given, **options)
    return raw.parse(), raw.headers["x-manent-session"], raw.headers["x-manent-turn"]


def prompt(server, turn):
    """The prompt of a turn, derived again from the log: to the byte what was sent."""
    with server.client() as http:
        found = http.get(f"/api/turns/{turn}/prompt").json()
    assert found["matches"], found
    return found["request"]


def get(server, path):
    with server.client() as http:
        return http.get(path).json()


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_text_is_answered_and_on_record(client, server):
    """The answer has the protocol's form, its id is the message's, and the session holds both messages."""
    answer, session, turn = ask(client, user("Is this on record?"), system="Be brief.")
    assert answer.content[0].text == "Is this on record?"
    assert (answer.stop_reason, answer.role, answer.model) == ("end_turn", "assistant", "echo/echo")
    messages = get(server, f"/api/sessions/{session}/messages")["items"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert answer.id == "msg_" + messages[1]["id"].replace("-", "")
    assert get(server, f"/api/sessions/{session}")["system"] == "Be brief."
    assert prompt(server, turn)["messages"]


def test_the_line_of_the_readme(server):
    """It is all that a client must change."""
    lines = README.read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if line.startswith("| `anthropic` (Python)"))
    line = row.split("`")[3].replace("http://127.0.0.1:8000", server.url)
    with eval(line, {"Anthropic": anthropic.Anthropic}) as client:
        assert ask(client, user("Hello."))[0].content[0].text == "Hello."


def test_a_conversation_goes_on_in_its_session(client, server):
    """What the client sends again is recognised, and only what is new is appended."""
    first, session, _ = ask(client, user("one"))
    history = [user("one"), assistant(first), user("two")]
    second, again, turn = ask(client, *history)
    assert again == session
    history += [assistant(second), user("three")]
    assert ask(client, *history)[1] == session
    assert get(server, f"/api/sessions/{session}")["message_count"] == 6
    prompt(server, turn)


def test_an_edited_history_is_a_fork(client, server):
    """What was said stays; the fork shares what is the same."""
    first, session, _ = ask(client, user("fork me"))
    ask(client, user("fork me"), assistant(first), user("as it was"))
    _, fork, turn = ask(client, user("fork me"), assistant(first), user("as it is now"))
    assert fork != session
    assert get(server, f"/api/sessions/{fork}")["parent"]["session_id"] == session
    prompt(server, turn)


def test_what_no_model_said_here_is_the_keys(client, server):
    """An assistant's message that the client asserts has no model and no turn."""
    history = [user("a"), {"role": "assistant", "content": [text("never said here")]}, user("b")]
    _, session, turn = ask(client, *history)
    asserted = get(server, f"/api/sessions/{session}/messages")["items"][1]
    assert (asserted["model"], asserted["turn_id"], asserted["role"]) == (None, None, "assistant")
    prompt(server, turn)


def test_a_stream_says_what_the_whole_answer_says(client):
    """The client builds the same message from the events."""
    with client.messages.stream(model="scripted/think", max_tokens=100, messages=[user("two?")]) as stream:
        kinds = [event.type for event in stream]
        built = stream.get_final_message()
    whole, _, _ = ask(client, user("two?"), model="scripted/think")
    assert [block.to_dict() for block in built.content] == [block.to_dict() for block in whole.content]
    assert (built.stop_reason, built.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


def test_a_beta_is_taken(client):
    """Unknown betas in headers, and ``?beta=true``: Claude Code asks like this."""
    answer = client.beta.messages.create(
        model="echo/echo",
        max_tokens=10,
        messages=[user("beta")],
        betas=["claude-code-20250219", "from-the-future-2027-01-01"],
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    )
    assert answer.content[0].text == "beta"


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21", "2099-01-01", None])
def test_any_version_is_taken(server, version):
    """Also none at all."""
    headers = {} if version is None else {"anthropic-version": version}
    body = {"model": "echo/echo", "max_tokens": 10, "messages": [user("version")]}
    answer = httpx.post(f"{server.url}/v1/messages", json=body, headers=headers)
    assert answer.json()["content"] == [{"type": "text", "text": "version", "citations": None}]
    assert answer.headers["request-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("sent", [{"api_key": "sk-ours"}, {"auth_token": "sk-ours"}])
def test_the_client_sends_a_key_either_way(server, sent):
    """Without keys any text will do."""
    with anthropic.Anthropic(base_url=server.url, **sent) as client:
        assert ask(client, user("Key."))[0].content[0].text == "Key."


# --- tools ------------------------------------------------------------------------------------------------------------


def test_tools_go_round(client, server):
    """The model calls, the client answers beside other words, the model goes on; all in one session."""
    first, session, _ = ask(client, user("Rome?"), model="scripted/tools", tools=[LOOK])
    assert first.stop_reason == "tool_use"
    call = first.content[1]
    assert (call.name, call.input, call.caller.type) == ("look", {"city": "Rome"}, "direct")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [text("No rain.")]}
    history = [user("Rome?"), assistant(first), user(result, text("So?"))]
    second, again, turn = ask(client, *history, model="scripted/tools", tools=[LOOK])
    assert (second.content[0].text, again) == ("Dry.", session)
    roles = [message["role"] for message in get(server, f"/api/sessions/{session}/messages")["items"]]
    assert roles == ["user", "assistant", "tool", "user", "assistant"]
    prompt(server, turn)


def test_a_stream_of_a_call(client, upstream):
    """The pieces of the input are those that Claude gave."""
    upstream.plays = [said("claude_tools")]
    with client.messages.stream(model=CLAUDE, max_tokens=100, messages=[user("Rome?")], tools=[LOOK]) as stream:
        built = stream.get_final_message()
    whole, _, _ = ask(client, user("Rome?"), model=CLAUDE, tools=[LOOK])
    assert built.stop_reason == whole.stop_reason == "tool_use"
    assert [block.to_dict() for block in built.content] == [block.to_dict() for block in whole.content]


def test_a_foreign_history_with_calls(client, server):
    """A conversation that began elsewhere comes whole, calls and results too."""
    call = {"type": "tool_use", "id": "toolu_9", "name": "look", "input": {"city": "Oslo"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_9", "content": "Snow.", "is_error": True}
    history = [user("Oslo?"), {"role": "assistant", "content": [call]}, user(result)]
    answer, session, turn = ask(client, *history, model="scripted/late", tools=[LOOK])
    assert answer.content[0].text == "late"
    assert get(server, f"/api/sessions/{session}")["message_count"] == 4
    prompt(server, turn)


# --- Claude -----------------------------------------------------------------------------------------------------------


def test_thinking_goes_back_to_the_byte(client, server, upstream):
    """Signed and redacted thoughts come as Claude gave them, and Claude gets them back, in the same session."""
    upstream.plays = [said("claude_thinking"), said("claude_text")]
    question = user("Rain?")
    options = {"model": CLAUDE, "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2000}}
    first, session, _ = ask(client, question, **options)
    assert [block.type for block in first.content] == ["thinking", "redacted_thinking", "thinking", "text"]
    assert first.content[0].signature == SIGNATURE
    _, again, turn = ask(client, question, assistant(first), user("Sure?"), **options)
    assert again == session
    sent = json.loads(upstream.asked[-1][1])
    assert sent["messages"][1]["content"] == [block.to_dict(exclude_unset=True) for block in first.content[:3]] + [
        text("No.")
    ]
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    assert prompt(server, turn) == sent


def test_a_stream_signs_each_thought_before_the_next_block(client, upstream):
    """In the order in which Claude itself sends them, redacted blocks in their place."""
    upstream.plays = [said("claude_thinking")]
    ours = []
    with client.messages.stream(model=CLAUDE, max_tokens=100, messages=[user("Rain?")]) as stream:
        ours = [event for event in stream if event.type.startswith(("content_block", "message"))]
        built = stream.get_final_message()
    with httpx.Client() as http:
        raw = http.post(f"{upstream.address}/v1/messages", json={}).text
    theirs = [json.loads(line[6:]) for line in raw.split("\n") if line.startswith("data: ")]
    wanted = [(each["type"], each.get("index")) for each in theirs if each["type"] != "ping"]
    assert [(event.type, getattr(event, "index", None)) for event in ours] == wanted
    assert [block.type for block in built.content] == ["thinking", "redacted_thinking", "thinking", "text"]
    assert built.content[0].signature == SIGNATURE
    assert built.usage.output_tokens == 287


def test_thinking_that_the_client_leaves_out_is_left_out(client, server, upstream):
    """The request is the client's, though the record has more; it is derived again all the same."""
    upstream.plays = [said("claude_thinking"), said("claude_text")]
    first, session, _ = ask(client, user("Snow?"), model=CLAUDE)
    plain = {"role": "assistant", "content": first.content[-1].text}
    _, again, turn = ask(client, user("Snow?"), plain, user("Sure?"), model=CLAUDE)
    assert again == session
    sent = json.loads(upstream.asked[-1][1])
    assert sent["messages"][1]["content"] == [text("No.")]
    assert prompt(server, turn) == sent


def test_citations_come_and_go_back(client, server, upstream):
    """They stand beside their text, streamed or not."""
    upstream.plays = [said("claude_citations"), said("claude_citations"), said("claude_text")]
    with client.messages.stream(model=CLAUDE, max_tokens=100, messages=[user("Summers?")]) as stream:
        built = stream.get_final_message()
    first, session, _ = ask(client, user("Summers?"), model=CLAUDE)
    assert built.content[1].citations == first.content[1].citations
    assert len(first.content[1].citations) == 2
    _, again, turn = ask(client, user("Summers?"), assistant(first), user("Sure?"), model=CLAUDE)
    assert again == session
    sent = json.loads(upstream.asked[-1][1])
    assert len(sent["messages"][1]["content"][1]["citations"]) == 2
    assert prompt(server, turn) == sent


def test_cache_marks_reach_claude(client, server, upstream):
    """On the system prompt, tools, messages of the past and new ones, each as the client sets it."""
    upstream.plays = [said("claude_cache")]
    five, hour = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
    system = [text("You are Claude Code."), text("Be brief.", cache_control=hour)]
    tools = [LOOK | {"cache_control": five}]
    history = [user(text("long", cache_control=five), text("question"))]
    first, session, _ = ask(client, *history, model=CLAUDE, system=system, tools=tools)
    assert (first.usage.cache_read_input_tokens, first.usage.cache_creation_input_tokens) == (188087, 456)
    assert first.usage.input_tokens == 21
    history = [user(text("long"), text("question")), assistant(first), user(text("more", cache_control=five))]
    _, again, turn = ask(client, *history, model=CLAUDE, system=system, tools=tools)
    assert again == session
    sent = json.loads(upstream.asked[-1][1])
    assert sent["system"] == system
    assert sent["tools"] == tools
    assert sent["messages"][0]["content"] == [text("long"), text("question")]
    assert sent["messages"][2]["content"] == [text("more", cache_control=five)]
    assert prompt(server, turn) == sent


def test_images_reach_claude(client, server, upstream):
    """By their bytes, by their address, and in a result of a tool."""
    upstream.plays = [said("claude_text")]
    one = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    two = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    call = {"type": "tool_use", "id": "toolu_8", "name": "look", "input": {"city": "Oslo"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_8", "content": [text("See."), one]}
    history = [user(one, two, text("What is it?")), {"role": "assistant", "content": [call]}, user(result)]
    _, _, turn = ask(client, *history, model=CLAUDE, tools=[LOOK])
    sent = json.loads(upstream.asked[-1][1])
    assert sent["messages"][0]["content"] == [one, two, text("What is it?")]
    assert sent["messages"][2]["content"] == [result]
    assert prompt(server, turn) == sent


def test_parameters_reach_claude(client, upstream):
    """Sampling, stop sequences, the choice of tools, structured output and the user."""
    upstream.plays = [said("claude_text")]
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "additionalProperties": False}
    ask(
        client,
        user("All of it."),
        model=CLAUDE,
        extra_body={"temperature": 0.5, "top_k": 5},  # the newest client has no words for them
        stop_sequences=["END"],
        tools=[LOOK],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        output_config={"format": {"type": "json_schema", "schema": schema}},
        metadata={"user_id": "user-7"},
    )
    sent = json.loads(upstream.asked[-1][1])
    assert (sent["temperature"], sent["top_k"], sent["max_tokens"]) == (0.5, 5, 100)
    assert sent["stop_sequences"] == ["END"]
    assert sent["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert sent["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert "metadata" not in sent


def test_a_stop_sequence_is_told(client, upstream):
    """The one that was asked for."""
    upstream.plays = [said("claude_cache")]
    answer, _, _ = ask(client, user("Count."), model=CLAUDE, stop_sequences=["two"])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "two")


# --- counts -----------------------------------------------------------------------------------------------------------


def test_claude_counts(client, server, upstream):
    """With the system prompt and the tools; nothing is recorded."""
    before = server.size()
    counted = client.messages.count_tokens(model=CLAUDE, messages=[user("Hi.")], system="Be brief.", tools=[LOOK])
    assert counted.input_tokens == claude_upstream.COUNT
    sent = json.loads(upstream.counted[-1][1])
    assert (sent["system"], sent["tools"][0]["name"]) == ("Be brief.", "look")
    assert server.size() == before


def test_an_estimate_is_marked_and_never_too_low(client):
    """System and tools count; it is no less than what the turn uses then."""
    plain = client.messages.with_raw_response.count_tokens(model="echo/echo", messages=[user("Hi.")])
    assert plain.headers["x-manent-estimate"] == "true"
    whole = client.messages.count_tokens(
        model="echo/echo", messages=[user("Hi.")], system="Be brief.", tools=[LOOK]
    ).input_tokens
    assert whole > plain.parse().input_tokens
    answer, _, _ = ask(client, user("Hi."), system="Be brief.")
    assert whole >= answer.usage.input_tokens


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("play", "error", "kind"),
    [
        (failure(529, "overloaded_error"), anthropic.InternalServerError, "overloaded_error"),
        (failure(500, "api_error"), anthropic.InternalServerError, "overloaded_error"),
        (failure(400, "invalid_request_error"), anthropic.InternalServerError, "api_error"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_failing_upstream_is_an_error_of_the_clients(client, upstream, play, error, kind, streamed):
    """Before anything is shown it is a status, streamed or not; nothing of the upstream's words is in it."""
    upstream.plays = [play]
    with pytest.raises(error) as caught:
        ask(client, user("Fail."), model=CLAUDE, stream=streamed)
    assert caught.value.type == kind
    assert "words of the upstream" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "field"),
    [
        ({"model": "no-such-model"}, anthropic.NotFoundError, "model"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "max_tokens"),
        ({"extra_body": {"bogus": 1}}, anthropic.BadRequestError, "bogus"),
        (
            {"messages": [user("a"), {"role": "assistant", "content": "b"}]},
            anthropic.BadRequestError,
            "messages[1].role",
        ),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            anthropic.BadRequestError,
            "tools[0].type",
        ),
        ({"model": "echo/echo", "service_tier": "standard_only"}, anthropic.BadRequestError, "service_tier"),
    ],
)
def test_a_refusal_names_the_field(client, server, options, error, field):
    """In the envelope that the client reads; nothing is recorded."""
    before = server.size()
    given = {"model": "echo/echo", "max_tokens": 10, "messages": [user("Hi.")]} | options
    with pytest.raises(error) as caught:
        client.messages.create(**given)
    assert caught.value.body["error"]["param"] == field
    assert caught.value.request_id == caught.value.body["request_id"]
    assert server.size() == before


def test_a_stream_that_breaks_off_raises(client):
    """What came before is shown, then the protocol's error; it is no success."""
    shown = []
    with (
        client.messages.stream(model="scripted/fails", max_tokens=10, messages=[user("Go.")]) as stream,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        shown.extend(stream.text_stream)
    assert "".join(shown) == "I brea"
    assert caught.value.type == "overloaded_error"


def _final(client, given):
    with client.messages.stream(**given) as stream:
        return stream.get_final_message()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_retry_after_a_cut_gets_the_answer_that_was_given(server, upstream, streamed):
    """The client repeats the request by itself; the model is asked once."""
    upstream.plays = [said("claude_text")]
    asked = len(upstream.asked)
    given = {"model": CLAUDE, "max_tokens": 10, "messages": [user(f"Once, {streamed}.")]}
    with wire(server.host) as cut, anthropic.Anthropic(base_url=cut.url, api_key="x", max_retries=2) as client:
        cut.cuts = 1
        cut.before_cut = lambda: until(lambda: len(upstream.asked) > asked)
        answer = _final(client, given) if streamed else client.messages.create(**given)
    assert answer.content[0].text
    assert len(upstream.asked) == asked + 1


# --- other models -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    """A server whose GPT is an upstream that speaks OpenAI's Responses."""
    with claude_upstream.upstream() as vendor:
        address = {"MANENT_OPENAI_BASE_URL": f"{vendor.address}/v1", "OPENAI_API_KEY": "sk-theirs"}
        with process(tmp_path_factory.mktemp("gpt"), MANENT_OPENAI_API="responses", **address) as server:
            server.upstream = vendor
            yield server


def test_gpts_reasoning_comes_and_goes_back_whole(gpt):
    """Under the signature of a thought, as OpenAI gave it."""
    gpt.upstream.plays = [said("responses_reasoning"), said("responses_text")]
    with anthropic.Anthropic(base_url=gpt.url, api_key="x", max_retries=0) as client:
        with client.messages.stream(model="gpt-5", max_tokens=100, messages=[user("Why?")]) as stream:
            first = stream.get_final_message()
        thoughts = [block for block in first.content if block.type == "thinking"]
        assert thoughts
        assert all(thought.signature.startswith("manent.") for thought in thoughts)
        _, _, turn = ask(client, user("Why?"), assistant(first), user("Sure?"), model="gpt-5")
    sent = json.loads(gpt.upstream.asked[-1][1])
    assert [item for item in sent["input"] if item.get("type") == "reasoning"]
    assert prompt(gpt, turn) == sent


def test_what_gpt_cannot_be_told_is_refused_by_name(gpt):
    """A budget of thinking, for one."""
    with anthropic.Anthropic(base_url=gpt.url, api_key="x", max_retries=0) as client:
        before = gpt.size()
        with pytest.raises(anthropic.BadRequestError) as caught:
            ask(
                client, user("Hi."), model="gpt-5", max_tokens=4000, thinking={"type": "enabled", "budget_tokens": 2000}
            )
        assert caught.value.body["error"]["param"] == "thinking.budget_tokens"
        assert gpt.size() == before
