"""Any model behind any door: each vendor's wire format behind each vendor's protocol, without loss where both have a
word for it, and refused by name where not.
"""

import json

import pytest

from manent import engine
from manent.engine.providers.local.provider import local_model_available
from tests.api import claude_upstream
from tests.api.claude_upstream import said
from tests.api.conftest import settings_on
from tests.api.harness import in_thread, named, parse, problem
from tests.upstream import WIRES, WORDS

GPT, CLAUDE = "openai/gpt-5", "anthropic/claude-sonnet-4-6"
PNG = "iVBORw0KGgpvZiBhIHNvcnQ="
ADDRESS = "https://images.example/cat.png"
SCHEMA = {"type": "object", "properties": {"town": {"type": "string"}}}
RATES = {
    "retry-after": "7",
    "x-ratelimit-remaining-requests": "0",
    "anthropic-ratelimit-requests-remaining": "0",
    "x-should-retry": "true",
}
"""Headers of a vendor, about its own limits on the key that is Manent's."""


class Answer:
    """What a door gave: the words, the calls as (id, name, input), why it ended, the message as it is sent again."""

    def __init__(self, text, calls, stop, message):
        self.text = text
        self.calls = calls
        self.stop = stop
        self.message = message


class ChatDoor:
    """OpenAI's Chat Completions."""

    path = "/v1/chat/completions"
    stops = ("stop", "length", "tool_calls", "content_filter")

    def body(self, model, *messages, **fields):
        return {"model": model, "messages": [*messages]} | fields

    def user(self, text, *images):
        urls = [image if image == ADDRESS else f"data:image/png;base64,{image}" for image in images]
        parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        return {"role": "user", "content": [{"type": "text", "text": text}, *parts]}

    def tools(self):
        return {"tools": [{"type": "function", "function": {"name": "forecast", "parameters": SCHEMA}}]}

    def results(self, **results):
        return [{"role": "tool", "tool_call_id": call, "content": text} for call, text in results.items()]

    def whole(self, body):
        (choice,) = body["choices"]
        message = choice["message"]
        calls = [
            (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls") or ()
        ]
        text = message["content"] or message["refusal"] or ""
        return Answer(text, calls, choice["finish_reason"], message)

    def streamed(self, blocks):
        """The same, as clients join it."""
        assert blocks[-1].data == "[DONE]"
        message, stop = {"role": "assistant", "content": "", "refusal": "", "tool_calls": []}, None
        for block in blocks[:-1]:
            (choice,) = block.json["choices"]
            delta, stop = choice["delta"], choice["finish_reason"] or stop
            message["content"] += delta.get("content") or ""
            for part in delta.get("tool_calls", ()):
                if "id" in part:
                    message["tool_calls"].append({**part, "function": {**part["function"]}})
                else:
                    call = message["tool_calls"][part["index"]]
                    call["function"]["arguments"] += part["function"]["arguments"]
        return self.whole({"choices": [{"message": message, "finish_reason": stop}]})

    def error(self, body):
        return body["error"]["code"], body["error"]["param"]


class MessagesDoor:
    """Anthropic's Messages."""

    path = "/v1/messages"
    stops = ("end_turn", "max_tokens", "tool_use", "refusal")

    def body(self, model, *messages, **fields):
        return {"model": model, "max_tokens": 4000, "messages": [*messages]} | fields

    def user(self, text, *images):
        sources = [
            {"type": "url", "url": image}
            if image == ADDRESS
            else {"type": "base64", "media_type": "image/png", "data": image}
            for image in images
        ]
        return {
            "role": "user",
            "content": [{"type": "text", "text": text}, *({"type": "image", "source": each} for each in sources)],
        }

    def tools(self):
        return {"tools": [{"name": "forecast", "input_schema": SCHEMA}]}

    def results(self, **results):
        blocks = [{"type": "tool_result", "tool_use_id": call, "content": text} for call, text in results.items()]
        return [{"role": "user", "content": blocks}]

    def whole(self, body):
        content = body["content"]
        calls = [(each["id"], each["name"], each["input"]) for each in content if each["type"] == "tool_use"]
        text = "".join(each["text"] for each in content if each["type"] == "text")
        return Answer(text, calls, body["stop_reason"], {"role": "assistant", "content": content})

    def streamed(self, blocks):
        """The same, as clients join it."""
        content, inputs, stop = [], {}, None
        for event in (block.json for block in blocks):
            if event["type"] == "content_block_start":
                content.append({**event["content_block"]})
            elif event["type"] == "content_block_delta":
                block, delta = content[event["index"]], event["delta"]
                if delta["type"] == "input_json_delta":
                    inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
                    continue
                for name, piece in delta.items():
                    if name in {"text", "thinking", "signature"}:
                        block[name] += piece
            elif event["type"] == "message_delta":
                stop = event["delta"]["stop_reason"]
        for index, text in inputs.items():
            content[index]["input"] = json.loads(text or "{}")
        assert blocks[-1].event == "message_stop"
        return self.whole({"content": content, "stop_reason": stop})

    def error(self, body):
        return body["error"]["code"], body["error"].get("param")


CHAT, MESSAGES = ChatDoor(), MessagesDoor()
DOORS = {"chat": CHAT, "messages": MESSAGES}


@pytest.fixture(params=DOORS)
def door(request):
    return DOORS[request.param]


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streamed(request):
    return request.param


@pytest.fixture(scope="module", params=WIRES, ids=[wire.name for wire in WIRES])
def vendor(request, tmp_path_factory):
    """A server whose models are at an upstream that speaks this wire format; its log is verified in the end."""
    folder, wire = tmp_path_factory.mktemp(request.param.name), request.param
    with claude_upstream.upstream() as upstream:
        options = {"max_attempts": 1, "breaker_failures": 1000} | wire.at(upstream.address)
        with in_thread(settings_on(folder, **options)) as server, server.client() as client:
            yield Vendor(wire, upstream, server, client)
    assert engine.verify_database(str(folder / "manent.db")).problem is None
    assert engine.rebuild_projections(str(folder / "manent.db")).differed == ()


class Vendor:
    """An upstream of a wire format, and a client of the server that asks it."""

    def __init__(self, wire, upstream, server, client):
        self.wire = wire
        self.upstream = upstream
        self.server = server
        self.client = client
        self.name = wire.name
        self.model = CLAUDE if wire.name == "claude" else GPT

    def plays(self, *plays):
        """What it answers: texts, or whole streams."""
        self.upstream.plays = [self.says(play) if isinstance(play, str) else play for play in plays]
        self.upstream.headers = {}

    def says(self, text):
        wire = self.wire
        return b"".join([*wire.begins(), *wire.opens(), wire.says(text), *wire.ends()])

    @property
    def sent(self):
        """The newest request that it was sent."""
        return json.loads(self.upstream.asked[-1][1])


def ask(vendor, door, *messages, streamed=False, **fields):
    """As ``spoken``, of the vendor's model."""
    return spoken(vendor.client, door, vendor.model, *messages, streamed=streamed, **fields)


def spoken(client, door, model, *messages, streamed=False, **fields):
    """An answer through a door, whose request is derived again from the log, and its session."""
    body = door.body(model, *messages, **fields)
    response = client.post(door.path, json=body | {"stream": streamed})
    assert response.status_code == 200, response.text
    if streamed:
        answer = door.streamed([block for block in parse(response.content) if block.data and block.event != "ping"])
    else:
        answer = door.whole(response.json())
    turn = response.headers["x-manent-turn"]
    assert client.get(f"/api/turns/{turn}/prompt").json()["matches"] is True
    return answer, response.headers["x-manent-session"]


def refused(vendor, door, status, code, field=None, **fields):
    """A refusal in the door's own envelope, of which nothing is recorded."""
    before = len(vendor.upstream.asked), vendor.server.size()
    response = vendor.client.post(door.path, json=door.body(vendor.model, door.user("x")) | fields)
    assert (response.status_code, *door.error(response.json())) == (status, code, field), response.text
    assert (len(vendor.upstream.asked), vendor.server.size()) == before


# --- what is said -----------------------------------------------------------------------------------------------------


def test_text(vendor, door, streamed):
    """The words, the end, and the system prompt in the vendor's own place; the second message goes on."""
    vendor.plays("Fine.", "Still fine.")
    question = door.user("How are you?")
    first, session = ask(vendor, door, question, streamed=streamed)
    assert (first.text, first.stop) == ("Fine.", door.stops[0])
    second, again = ask(vendor, door, question, first.message, door.user("And now?"), streamed=streamed)
    assert (second.text, again) == ("Still fine.", session)
    assert {"chat": "messages", "responses": "input", "claude": "messages"}[vendor.name] in vendor.sent
    assert "Fine." in json.dumps(vendor.sent)


def test_a_conversation_changes_doors(vendor):
    """What began behind one door goes on behind the other, in the same session."""
    vendor.plays("Fine.", "Still fine.", "For ever.")
    question = {"role": "user", "content": "Through both?"}
    first, session = ask(vendor, CHAT, question)
    history = [question, {"role": "assistant", "content": first.text}, {"role": "user", "content": "Again?"}]
    second, again = ask(vendor, MESSAGES, *history)
    history += [{"role": "assistant", "content": second.text}, {"role": "user", "content": "And again?"}]
    assert ask(vendor, CHAT, *history)[1] == again == session


TOOLS = {"chat": "openai_tools", "responses": "responses_tools", "claude": "claude_tools"}


@pytest.mark.parametrize("is_strict", [True, False, None])
def test_a_strict_tool(vendor, door, is_strict):
    """The vendor is told that calls must keep to the schema, or need not, in its own place; or nothing is said."""
    vendor.plays("Dry.")
    (tool,) = door.tools()["tools"]
    (tool if door is MESSAGES else tool["function"])["strict"] = is_strict
    ask(vendor, door, door.user("Rain?"), tools=[tool])
    (sent,) = vendor.sent["tools"]
    told = sent["function"] if vendor.name == "chat" else sent
    assert told.get("strict") is (bool(is_strict) if vendor.name == "responses" else is_strict)
    assert told.get("parameters", told.get("input_schema")) == SCHEMA


def test_tools_go_round(vendor, door, streamed):
    """Calls come with their ids and arguments; results go back under those ids, in the vendor's form."""
    vendor.plays(said(TOOLS[vendor.name]), "Dry.")
    question = door.user("Rain?")
    asked, session = ask(vendor, door, question, streamed=streamed, **door.tools())
    assert (asked.text, asked.stop) == ("Let me look.", door.stops[2])
    assert [given.get("town") for _, name, given in asked.calls if name == "forecast"] == ["Rome", "Oslo"]
    results = door.results(**{call: f"result {number}" for number, (call, _, _) in enumerate(asked.calls)})
    answer, again = ask(vendor, door, question, asked.message, *results, streamed=streamed, **door.tools())
    assert (answer.text, again) == ("Dry.", session)
    assert [call for call, _ in results_in(vendor)] == [call for call, _, _ in asked.calls]
    assert [text for _, text in results_in(vendor)] == [f"result {number}" for number in range(len(asked.calls))]


def results_in(vendor):
    """The results of tools in the newest request, as (call, text)."""
    sent = vendor.sent
    if vendor.name == "responses":
        return [(i["call_id"], i["output"]) for i in sent["input"] if i.get("type") == "function_call_output"]
    if vendor.name == "chat":
        return [(each["tool_call_id"], each["content"]) for each in sent["messages"] if each["role"] == "tool"]
    blocks = [block for each in sent["messages"] for block in each["content"] if block["type"] == "tool_result"]
    return [(block["tool_use_id"], words(block["content"])) for block in blocks]


def words(content):
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def test_images_reach_the_model(vendor, door):
    """By their bytes, and by their address, in the vendor's form."""
    vendor.plays("A cat.")
    ask(vendor, door, door.user("What is it?", PNG, ADDRESS))
    assert images_in(vendor.sent) == [f"data:image/png;base64,{PNG}", ADDRESS]


def images_in(sent):
    """All images of a request, as addresses."""
    if isinstance(sent, list):
        return [image for each in sent for image in images_in(each)]
    if not isinstance(sent, dict):
        return []
    if sent.get("type") == "image":
        source = sent["source"]
        return [source["url"] if source["type"] == "url" else f"data:{source['media_type']};base64,{source['data']}"]
    if sent.get("type") in {"image_url", "input_image"}:
        url = sent["image_url"]
        return [url if isinstance(url, str) else url["url"]]
    return [image for each in sent.values() for image in images_in(each)]


def test_images_in_results_of_tools(vendor):
    """They are shown also by a vendor whose results of tools are texts: beside those."""
    vendor.plays("A cat.")
    call = {"type": "tool_use", "id": "toolu_1", "name": "forecast", "input": {"town": "Rome"}}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "See."}, image]}
    history = [
        {"role": "user", "content": "What?"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    ask(vendor, MESSAGES, *history, **MESSAGES.tools())
    assert images_in(vendor.sent) == [f"data:image/png;base64,{PNG}"]


# --- thinking ---------------------------------------------------------------------------------------------------------

THINKING = {"chat": "vllm_reasoning", "responses": "responses_reasoning", "claude": "claude_thinking"}


def test_thinking_goes_back_as_it_came(vendor, door, streamed):
    """Whether the client could show it or not: the vendor gets its own form again, if its protocol takes it back."""
    vendor.plays(said(THINKING[vendor.name]), "Sure.")
    question = door.user("Think.")
    thought, session = ask(vendor, door, question, streamed=streamed)
    assert thought.text
    if door is MESSAGES:
        assert "thinking" in {block["type"] for block in thought.message["content"]}
    _, again = ask(vendor, door, question, thought.message, door.user("Sure?"), streamed=streamed)
    assert again == session
    sent = json.dumps(vendor.sent)
    taken_back = {"chat": None, "responses": "encrypted_content", "claude": "signature"}[vendor.name]
    assert taken_back is None or f'"{taken_back}": "' in sent


# --- how it ends ------------------------------------------------------------------------------------------------------

ENDS = {
    "claude_refusal": ("content_filter", "refusal"),
    "claude_pause_turn": ("stop", "pause_turn"),
    "claude_cache": ("stop", "stop_sequence"),
    "responses_incomplete": ("length", "max_tokens"),
    "responses_refusal": ("content_filter", "refusal"),
    "responses_filtered": ("content_filter", "refusal"),
    "openai_filtered": ("content_filter", "refusal"),
    "openai_refusal": ("stop", "refusal"),
}


def test_why_an_answer_ended(vendor, door, streamed, tell):
    """In the door's own word."""
    names = [name for name in ENDS if name.startswith({"chat": "openai"}.get(vendor.name, vendor.name))]
    for name in names:
        vendor.plays(said(name))
        answer, _ = ask(vendor, door, door.user(f"End: {name}, {streamed}."), streamed=streamed)
        assert (name, answer.stop) == (name, ENDS[name][door is MESSAGES])
    tell(f"{len(names)} ends")


# --- failures ---------------------------------------------------------------------------------------------------------


def mid_stream(vendor):
    """The beginning of an answer, and the vendor's error."""
    wire = vendor.wire
    word = {"claude": "overloaded_error"}.get(vendor.name, "server_error")
    return b"".join([*wire.begins(), *wire.opens(), wire.says("I brea"), wire.fails(word)])


def test_a_failure_in_mid_stream(vendor, door):
    """What came is shown, then the door's own error and no more; the vendor's words are in neither."""
    vendor.plays(mid_stream(vendor))
    body = door.body(vendor.model, door.user("Break."), stream=True)
    response = vendor.client.post(door.path, json=body)
    assert response.status_code == 200
    assert "I brea" in response.text
    assert WORDS not in response.text
    last = [block for block in parse(response.content) if block.data][-1]
    assert door.error(last.json)[0] == "provider_unavailable"
    assert last.event == ("error" if door is MESSAGES else None)
    assert "[DONE]" not in response.text
    assert "message_stop" not in response.text
    whole = vendor.client.post(door.path, json=door.body(vendor.model, door.user("Break.")))
    assert (whole.status_code, door.error(whole.json())[0]) == (503 if door is CHAT else 529, "provider_unavailable")
    assert "I brea" not in whole.text


LIMITED = named(
    [
        (429, "rate_limit_error", "provider_unavailable"),
        (529, "overloaded_error", "provider_unavailable"),
        (503, "server_error", "provider_unavailable"),
        (400, "invalid_request_error", "provider_rejected"),
        (401, "authentication_error", "provider_rejected"),
    ]
)


@pytest.mark.parametrize(("status", "word", "code"), LIMITED)
def test_a_vendor_that_refuses(vendor, door, streamed, status, word, code):
    """Is a server's failure, with a status also where a stream was asked for: the vendor's limits, key and words are
    Manent's affair, and none of its headers is passed on.
    """
    vendor.plays((status, vendor.wire.refuses(word)))
    vendor.upstream.headers = RATES
    response = vendor.client.post(door.path, json=door.body(vendor.model, door.user("x"), stream=streamed))
    passing = {CHAT: 503, MESSAGES: 529}[door]
    assert response.status_code == (passing if code == "provider_unavailable" else 502)
    assert door.error(response.json())[0] == code
    assert response.headers.get("x-should-retry") == (None if code == "provider_unavailable" else "false")
    assert not [name for name in response.headers if "ratelimit" in name]
    assert WORDS not in response.text
    assert response.headers.get("retry-after") == ("7" if code == "provider_unavailable" else None)


TOO_LONG = {
    "chat": {"error": {"message": "x", "type": "invalid_request_error", "code": "context_length_exceeded"}},
    "responses": {"error": {"message": "x", "type": "invalid_request_error", "code": "context_length_exceeded"}},
    "claude": {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "prompt is too long: 200001 tokens > 200000 maximum"},
    },
}


def test_a_vendor_that_finds_the_context_too_long(vendor, door, streamed):
    """Where the figures here were too low: the words and the code that clients of the door look for, so that they
    shorten what they send, and do not come again with the same.
    """
    vendor.plays((400, json.dumps(TOO_LONG[vendor.name]).encode()))
    response = vendor.client.post(door.path, json=door.body(vendor.model, door.user("x"), stream=streamed))
    assert (response.status_code, door.error(response.json())[0]) == (400, "context_length_exceeded")
    assert "prompt is too long" in response.json()["error"]["message"]
    assert "200001" not in response.text
    assert response.headers["x-should-retry"] == "false"
    turn = vendor.client.get(f"/api/turns/{response.headers['x-manent-turn']}").json()
    assert (turn["status"], turn["error"]["code"], turn["usage"]["input_tokens"]) == ("failed", "context_too_long", 0)


DELAYS = named(
    [
        ({"retry-after": "30"}, 30),
        ({"retry-after-ms": "1200", "retry-after": "9"}, 2),
        ({"retry-after": "1.01"}, 2),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "1e9"}, 86_400),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ]
)


@pytest.mark.parametrize(("headers", "delay_s"), DELAYS)
def test_the_delay_that_a_vendor_asks_for(vendor, door, streamed, headers, delay_s):
    """Reaches the client in whole seconds, never too short, and is on record with the turn's end."""
    vendor.plays((429, vendor.wire.refuses("rate_limit_error")))
    vendor.upstream.headers = headers
    response = vendor.client.post(door.path, json=door.body(vendor.model, door.user("x"), stream=streamed))
    assert door.error(response.json())[0] == "provider_unavailable"
    assert response.headers.get("retry-after") == (None if delay_s is None else str(delay_s))
    assert "retry-after-ms" not in response.headers
    turn = vendor.client.get(f"/api/turns/{response.headers['x-manent-turn']}").json()
    assert turn["error"].get("retry_after_s") == delay_s
    events = vendor.client.get(f"/api/sessions/{turn['session_id']}/events", params={"types": "turn.failed"}).json()
    assert [event["facts"].get("retry_after_s") for event in events["items"]] == [delay_s]


# --- what a vendor has no word for ------------------------------------------------------------------------------------

NEUTRAL = {"presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {}, "n": 1, "logprobs": False}
BUDGET = {"type": "enabled", "budget_tokens": 2000}
NO_WORD = {
    ("claude", "chat"): [
        ("seed", 1, "seed"),
        ("logit_bias", {"1": 1}, "logit_bias"),
        ("presence_penalty", 0.5, "presence_penalty"),
        ("frequency_penalty", 0.5, "frequency_penalty"),
        ("response_format", {"type": "json_object"}, "response_format.type"),
        ("temperature", 1.01, "temperature"),
        ("stop", ["END", " \n"], "stop[1]"),
    ],
    ("claude", "messages"): [("stop_sequences", ["END", " \n"], "stop_sequences[1]")],
    ("responses", "chat"): [
        ("seed", 1, "seed"),
        ("logit_bias", {"1": 1}, "logit_bias"),
        ("presence_penalty", 0.5, "presence_penalty"),
        ("frequency_penalty", 0.5, "frequency_penalty"),
        ("stop", ["END"], "stop"),
    ],
    ("responses", "messages"): [
        ("top_k", 5, "top_k"),
        ("stop_sequences", ["END"], "stop_sequences"),
        ("thinking", BUDGET, "thinking.budget_tokens"),
    ],
    ("chat", "messages"): [("thinking", BUDGET, "thinking.budget_tokens")],
}
"""By wire format and door: a parameter, and the field that the refusal names."""


def test_what_a_vendor_has_no_word_for_is_refused_by_name(vendor, door):
    """The vendor is not asked, and nothing is recorded. A value that asks for nothing is no reason."""
    vendor.plays("Fine.")
    code = "unsupported_parameter" if door is CHAT else "parameter_not_supported"
    for name, value, field in NO_WORD.get((vendor.name, "chat" if door is CHAT else "messages"), ()):
        refused(vendor, door, 400, code, field, **{name: value})
    if door is CHAT:
        ask(vendor, door, door.user("Nothing asked for."), **NEUTRAL)


def test_the_native_door_refuses_it_too(vendor):
    """A value that only another vendor takes: nothing is recorded. The highest that both take is sent."""
    if vendor.name != "claude":
        pytest.skip("the other vendors take it")
    vendor.plays("Fine.")
    session = vendor.client.post("/api/sessions", json={"model": vendor.model}).json()["id"]
    before = len(vendor.upstream.asked), vendor.server.size()
    for given, field in (({"temperature": 2}, "temperature"), ({"stop": ["\n"]}, "stop[0]")):
        response = vendor.client.post(f"/api/sessions/{session}/turns", json={"content": "x"} | given)
        problem(response, 400, "parameter_not_supported", field)
    assert (len(vendor.upstream.asked), vendor.server.size()) == before
    turn = vendor.client.post(f"/api/sessions/{session}/turns", json={"content": "x", "temperature": 1}).json()
    assert (turn["status"], vendor.sent["temperature"]) == ("completed", 1)


# --- models of this machine -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A server with the models that need no vendor."""
    folder = tmp_path_factory.mktemp("here")
    with in_thread(settings_on(folder)) as server, server.client() as client:
        yield client
    assert engine.verify_database(str(folder / "manent.db")).problem is None


@pytest.mark.parametrize(
    "model",
    [
        "echo/echo",
        pytest.param(
            "local/smollm2-135m",
            marks=[
                pytest.mark.local,
                pytest.mark.skipif(
                    not local_model_available(), reason="THE LOCAL MODEL IS NOT TESTED: no extra `local`"
                ),
            ],
        ),
    ],
)
def test_models_of_this_machine(here, door, streamed, model):
    """They answer behind both, and a conversation goes on in its session."""
    question = door.user("Say yes.")
    short = {"streamed": streamed, "max_tokens": 20}
    first, session = spoken(here, door, model, question, **short)
    assert first.text
    assert first.stop in door.stops[:2]
    _, again = spoken(here, door, model, question, first.message, door.user("Again."), **short)
    assert again == session
