"""OpenAI's Responses as tests ask for them: requests, and what every answer and every stream must be."""

import json

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.api.harness import read

RESPONSES = "/v1/responses"
KEYS = {
    *("id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id"),
    *("instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p"),
    *("presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "usage"),
    *("max_output_tokens", "max_tool_calls", "store", "background", "service_tier", "metadata"),
    *("safety_identifier", "prompt_cache_key"),
}
TERMINAL = {"response.completed", "response.incomplete", "response.failed"}
TOOL = {
    "type": "function",
    "name": "look",
    "description": None,
    "parameters": {"type": "object", "properties": {}},
    "strict": None,
}

_event = TypeAdapter(ResponseStreamEvent)


def user(text):
    return {"role": "user", "content": text}


def body(given, model="echo/echo", **fields):
    return {"model": model, "input": given, **fields}


def post(client, given, headers=None, **fields):
    return client.post(RESPONSES, json=body(given, **fields), headers=headers)


def ask(client, given, **fields):
    """A whole answer, once it is seen to have every key, and to be what the vendor's library reads."""
    response = post(client, given, **fields)
    assert response.status_code == 200, response.text
    return whole(response.json())


def whole(answer):
    """An answer that has every key, that the vendor's library reads, and whose items say which of them is not whole."""
    assert answer.keys() - {"user", "conversation"} == KEYS
    assert len(KEYS) == 31
    Response.model_validate(answer, strict=False)
    check_statuses(answer)
    return answer


def check_statuses(answer):
    """In an answer that was cut, the item that was being said is not whole; in one that was not, each is."""
    statuses = [item.get("status") for item in answer["output"]]
    if answer["status"] == "completed":
        assert {*statuses} <= {"completed", None}
    elif statuses:
        assert statuses[-1] in {"incomplete", None}
        assert answer["output"][-1]["type"] == "reasoning" or statuses[-1] == "incomplete"


def text(answer):
    return "".join(part["text"] for item in answer["output"] if item["type"] == "message" for part in item["content"])


def checked(blocks):
    """The events of a stream: numbered from the first on, named by their type, read by the vendor's library, with one
    end, and the marker after it.
    """
    blocks = [block for block in blocks if block.data]
    assert blocks[-1].raw == b"data: [DONE]"
    assert all(block.id is None for block in blocks)
    events = [block.json for block in blocks[:-1]]
    assert [block.event for block in blocks[:-1]] == [event["type"] for event in events]
    first = events[0]["sequence_number"] if events else 0
    assert [event["sequence_number"] for event in events] == list(range(first, first + len(events)))
    for event in events:
        read_event = _event.validate_python(event)
        assert read_event.type == event["type"]
        if "response" in event:
            whole(event["response"])
    if events and events[-1]["type"] != "error":
        assert [event["type"] for event in events if event["type"] in TERMINAL] == [events[-1]["type"]]
    return events


def stream(client, given, **fields):
    """The events of a streamed answer, which say what its last one says."""
    events = checked(read(client, RESPONSES, "POST", json=body(given, stream=True, **fields)))
    assert events[0]["sequence_number"] == 0
    check_story(events)
    return events


def again(client, answer, **query):
    """The events of an answer that is read again."""
    return checked(read(client, f"{RESPONSES}/{answer}", params={"stream": "true", **query}))


def check_story(events):
    """What the events say one by one is what the last of them says at once: places, ids, texts, arguments."""
    output = events[-1]["response"]["output"]
    added = [event for event in events if event["type"] == "response.output_item.added"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in added] == list(range(len(output)))
    assert sorted(event["output_index"] for event in done) == list(range(len(output)))
    for event in (*added, *done):
        assert event["item"]["id"] == output[event["output_index"]]["id"]
    for event in done:
        assert event["item"] == output[event["output_index"]]
    for index, item in enumerate(output):
        said = [event for event in events if event.get("output_index") == index]
        deltas = [event["delta"] for event in said if event["type"].endswith(".delta")]
        if item["type"] == "message":
            assert "".join(deltas) == "".join(part.get("text") or part["refusal"] for part in item["content"])
        elif item["type"] == "function_call":
            assert "".join(deltas) == item["arguments"]
            if item["status"] == "completed":
                json.loads(item["arguments"])
        else:
            assert "".join(deltas) == "".join(part["text"] for part in item["summary"])
        assert {event["item_id"] for event in said if "item_id" in event} <= {item["id"]}


def refused(response, status, code, param=None):
    """The error of a refusal, once it is seen to be a whole one in OpenAI's form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"error"}
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param), error
    assert error["message"]
    return error
