"""Every renderer that there ever was is kept, and makes the same bytes for ever.

The golden requests are written anew with ``GOLDEN=write pytest tests/unit/test_renderers.py``; that adds those of new
renderers, and never changes one that is there.
"""

import json
import os
from pathlib import Path

import msgspec
import pytest

from manent.engine.errors import Invalid
from manent.engine.events.blocks import (
    Base64Source,
    ImageBlock,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolSchema,
    ToolUseBlock,
    UrlSource,
)
from manent.engine.events.turn_types import CacheMarks
from manent.engine.providers.base import Parameters, Prompt, PromptMessage, Reasoning, ResponseFormat
from manent.engine.providers.renderers import RENDERERS

GOLDEN = Path(__file__).parent.parent / "golden" / "requests.json"
CLAUDES = b'{"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}'
OPENAIS = b'{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"c2ln"}'

MESSAGES = (
    PromptMessage("system", (TextBlock("Before all others."),)),
    PromptMessage("user", (TextBlock("Grüße \u2028 \U0001f30d"), ImageBlock(UrlSource("https://example.org/a.png")))),
    PromptMessage("user", (TextBlock("Again."), OtherBlock("document", b'{"type":"document", "source":{}}'))),
    PromptMessage(
        "assistant",
        (
            ThinkingBlock("Hm.", CLAUDES),
            ThinkingBlock("Hm.", OPENAIS),
            TextBlock("Let me "),
            TextBlock("look."),
            ToolUseBlock("call_1", "look", {"b": 1, "a": 2.5}, '{"b": 1, "a": 2.50}'),
            ToolUseBlock("call:2", "look", None, "{broken"),
            OtherBlock("redacted_thinking", b'{"type":"redacted_thinking", "data":"c2ln"}'),
            TextBlock("There."),
        ),
    ),
    PromptMessage("tool", (ToolResultBlock("call_1", "Dry."),)),
    PromptMessage(
        "tool",
        (ToolResultBlock("call:2", (TextBlock("No."), ImageBlock(Base64Source("image/png", "AAAA"))), is_error=True),),
    ),
    PromptMessage("system", (TextBlock("Be kind."),)),
    PromptMessage("assistant", (TextBlock("It is dry. "),)),
    PromptMessage("user", (TextBlock("And now?"),)),
)
TOOLS = (ToolSchema("look", "Looks.", {"type": "object", "properties": {"b": {"type": "integer"}, "a": {}}}),)
PROMPTS = {
    "plain": Prompt("claude-sonnet-4-6", (PromptMessage("user", (TextBlock("Hi."),)),)),
    "everything": Prompt(
        "o3", MESSAGES, "Be brief.", TOOLS, Parameters(max_output_tokens=9, temperature=0.3, tool_choice="look")
    ),
    "any tool": Prompt("gpt-4o", MESSAGES[1:], None, TOOLS, Parameters(temperature=1.0, tool_choice="any")),
    "ends with the assistant": Prompt("claude-opus-5-5", MESSAGES[:-1], "Be brief."),
    "stops": Prompt("m", MESSAGES, parameters=Parameters(stop=("END", " ", "\n\n"))),
}
SCHEMA = msgspec.Raw(b'{"type": "object","properties":{"x":{"minimum":1.50}}}')
ANSWER = ResponseFormat("json_schema", "answer", SCHEMA, strict=True)
GIVEN = {
    "top_p": {"top_p": 0.1},
    "top_k": {"top_k": 40},
    "seed": {"seed": -(2**63)},
    "presence penalty": {"presence_penalty": -0.5},
    "frequency penalty": {"frequency_penalty": 1.0},
    "biases": {"logit_bias": {"15": -100.0, "7": 0.25}},
    "text": {"response_format": ResponseFormat("text")},
    "a JSON object": {"response_format": ResponseFormat("json_object")},
    "a schema": {"response_format": ANSWER},
    "a schema without a name": {"response_format": ResponseFormat("json_schema", schema=SCHEMA)},
    "a schema with a description": {"response_format": msgspec.structs.replace(ANSWER, description="An x.")},
    "an effort": {"reasoning": Reasoning("high"), "response_format": ANSWER},
    "minimal effort": {"reasoning": Reasoning("minimal")},
    "no reasoning": {"reasoning": Reasoning("none"), "temperature": 0.5},
    "a budget": {"reasoning": Reasoning(budget_tokens=2048)},
    "a budget over the limit": {"reasoning": Reasoning(budget_tokens=2048), "max_output_tokens": 2048},
    "one call at a time": {"parallel_tool_calls": False},
    "several calls of a tool": {"parallel_tool_calls": True, "tool_choice": "look"},
    "one call at a time, and none": {"parallel_tool_calls": False, "tool_choice": "none"},
}
HI = (PromptMessage("user", (TextBlock("Hi."),)),)
PROMPTS |= {what: Prompt("m", HI, None, TOOLS, Parameters(**given)) for what, given in GIVEN.items()}
PROMPTS["calls without tools"] = Prompt("m", HI, parameters=Parameters(parallel_tool_calls=True))
PROMPTS["strict tools"] = Prompt(
    "m",
    HI,
    None,
    (
        *TOOLS,
        *(msgspec.structs.replace(TOOLS[0], name=f"{is_strict}", strict=is_strict) for is_strict in (True, False)),
    ),
)
MARK, HOUR = msgspec.Raw(b'{"type": "ephemeral"}'), msgspec.Raw(b'{"type":"ephemeral","ttl":"1h"}')
MARKED = CacheMarks(system=((0, 3, msgspec.Raw(b"null")), (5, 14, HOUR)), tools=((0, MARK),))
PROMPTS["a client's cache marks"] = Prompt(
    "claude-sonnet-4-6",
    (*(msgspec.structs.replace(each, marks=((0, MARK),)) for each in MESSAGES), *HI),
    "Be.\n\nBe brief.",
    TOOLS,
    marks=MARKED,
)
PROMPTS["a cache mark for all"] = Prompt("claude-sonnet-4-6", HI, "Be.", TOOLS, marks=CacheMarks(whole=MARK))


def rendered(name):
    """What a renderer makes of each prompt; of one that it refuses, what it says."""
    found = {}
    for what, prompt in PROMPTS.items():
        try:
            found[what] = RENDERERS[name](prompt).decode()
        except Invalid as refusal:
            found[what] = {"refused": refusal.detail}
    return found


def golden():
    known = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    if os.environ.get("GOLDEN") == "write":
        known |= {name: rendered(name) | known.get(name, {}) for name in RENDERERS}
        GOLDEN.write_text(json.dumps(known, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return known


def test_no_renderer_is_ever_taken_away():
    """Each that has golden requests is there, and each that is there has some."""
    assert golden().keys() == RENDERERS.keys()


@pytest.mark.parametrize("name", RENDERERS)
def test_a_renderer_makes_what_it_made(name):
    """To the byte: a request on record is derived again by it."""
    assert rendered(name) == golden()[name]
