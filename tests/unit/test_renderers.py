"""Every renderer that there ever was is kept, and makes the same bytes for ever.

The golden requests are written anew with ``GOLDEN=write pytest tests/unit/test_renderers.py``; that adds those of new
renderers, and never changes one that is there.
"""

import json
import os
from pathlib import Path

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
from manent.engine.providers.base import Parameters, Prompt, PromptMessage
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
        known = {name: rendered(name) for name in RENDERERS} | known
        GOLDEN.write_text(json.dumps(known, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return known


def test_no_renderer_is_ever_taken_away():
    """Each that has golden requests is there, and each that is there has some."""
    assert golden().keys() == RENDERERS.keys()


@pytest.mark.parametrize("name", RENDERERS)
def test_a_renderer_makes_what_it_made(name):
    """To the byte: a request on record is derived again by it."""
    assert rendered(name) == golden()[name]
