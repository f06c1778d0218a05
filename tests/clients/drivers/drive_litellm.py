"""LiteLLM's client, through one door after the other."""

import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # read at its import; without, it asks the Internet for one

import litellm
from litellm import completion
from pydantic import BaseModel
from steps import KEY, LINE, PNG, URL, look, play, refused

AT = {"openai": "", "anthropic": ", by the other door"}
"""What tells the conversations of the doors apart on record."""
DOORS = {"openai": f"{URL}/v1", "anthropic": URL}
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks at the sky.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Sum(BaseModel):
    answer: int


def ask(door, model, *said, **options):
    given = {"api_base": DOORS[door], "api_key": KEY, "num_retries": 0, "messages": list(said)} | options
    return completion(model=f"{door}/{model}", **given)


def user(words):
    return {"role": "user", "content": words}


def same(found):
    """What all doors give alike."""
    first, *others = found
    assert all(each == first for each in others), found
    return first


def text():
    messages = [user("one")]
    first = eval(LINE).choices[0].message
    messages += [first.model_dump(), user("two")]
    second = eval(LINE).choices[0].message.content
    said = [user(f"one{AT['anthropic']}")]
    said += [ask("anthropic", "echo/echo", *said).choices[0].message.model_dump(), user("two")]
    assert ask("anthropic", "echo/echo", *said).choices[0].message.content == "two"
    return [first.content, second]


def stream():
    def pieces(door):
        chunks = ask(door, "echo/paced", user(f"Once more, in pieces{AT[door]}."), stream=True)
        return [words for chunk in chunks if (words := chunk.choices[0].delta.content)]

    assert len(pieces("anthropic")) > 2
    return pieces("openai")


def tools():
    def round_trip(door):
        said = [user(f"Is it dry{AT[door]}?")]
        message = ask(door, "scripted/tools", *said, tools=[LOOK]).choices[0].message
        (call,) = message.tool_calls
        arguments = json.loads(call.function.arguments)
        result = {"role": "tool", "tool_call_id": call.id, "content": look(**arguments)}
        answer = ask(door, "scripted/tools", *said, message.model_dump(), result, tools=[LOOK])
        return [arguments, answer.choices[0].message.content]

    return same([round_trip(door) for door in DOORS])


def image():
    shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    message = user([{"type": "text", "text": "What is it?"}, shown])
    behind = {"openai": "claude-json", "anthropic": "openai/gpt-test"}  # each vendor's model behind the other's door
    answers = [ask(door, model, message).choices[0].message.content for door, model in behind.items()]
    assert all(answers)
    return answers[1]


def edited():
    said = [user("Edit me.")]
    said.append(ask("openai", "echo/echo", *said).choices[0].message.model_dump())
    asked = zip(DOORS, ("as it was", "as it is now"), strict=True)  # and by another door
    return [ask(door, "echo/echo", *said, user(words)).choices[0].message.content for door, words in asked]


def structured():
    answer = ask("openai", "openai/json", user("2 + 2?"), response_format=Sum)
    return Sum.model_validate_json(answer.choices[0].message.content).model_dump()


def error():
    found = [refused(litellm.NotFoundError, lambda door=door: ask(door, "nothing", user("x"))) for door in DOORS]
    assert {each["status"] for each in found} == {404}, found
    return found[0]


play(text=text, stream=stream, tools=tools, structured=structured, image=image, edited=edited, error=error)
