"""A client of the AI SDK's stream protocol, as small as may be: it folds the parts of a stream into UI messages, sends
the chat as a whole, and answers what it is asked.
"""

import copy
import json
import sys
from pathlib import Path

import pytest

from manent.engine.tools.mcp.config import mcp_available
from tests.api.conftest import SCRIPT
from tests.api.harness import opened

CHAT = "/v1/ai-sdk/chat"
MCP_SERVER = Path(__file__).parents[1] / "mcp_server.py"

needs_mcp = pytest.mark.skipif(not mcp_available(), reason="APPROVALS ARE NOT TESTED: no extra `mcp`")


def call(number, name, given=None, **more):
    return {"tool": {"id": f"call_{number}", "name": name, "input": given or {}, **more}}


def then(*steps):
    return [{"steps": list(steps)}, {"steps": [{"text": "Done."}]}]


MODELS = SCRIPT | {
    "sum": [
        {"steps": [{"text": "Let me see."}, call(1, "calculator", {"expression": "6*7"})]},
        {"steps": [{"text": "It is 42."}]},
    ],
    "zero": then(call(1, "calculator", {"expression": "1/0"})),
    "broken": then(call(1, "look", input=None, input_text='{"city": "half')),
    "mixed": then(call(1, "look", {"city": "Rome"}), call(2, "calculator", {"expression": "1+1"})),
    "greet": then(call(1, "house_greet", {"name": "Ann"}), call(2, "house_greet", {"name": "Bob"})),
    "pieces": then(call(1, "house_pieces")),
    "rounds": [
        {"steps": [call(1, "look", {"city": "Rome"})]},
        {"steps": [call(2, "look", {"city": "Oslo"})]},
        {"steps": [{"text": "abcdefghijklmnopqrstuvwxyz" * 2, "chunk_chars": 2, "every_ms": 20}]},
    ],
    "pair": [
        {"steps": [call(1, "look", {"a": 1}), call(2, "look", {"a": 2})]},
        {"steps": [{"text": "Both dry."}]},
    ],
    "mute": [{"steps": [{"hang": True}]}],
    "half": [
        {"steps": [{"text": "Let me."}, call(1, "look", input=None, input_text='{"city": "Rome'), {"hang": True}]},
        {"steps": [{"text": "Done."}]},
    ],
    "long": [{"steps": [{"text": "x" * 40}, {"end": "max_tokens"}]}],
}


def options_in(folder):
    """A server with the script and, where they can be had, an MCP server's tools, which need a person's yes."""
    script = folder / "models.json"
    script.write_text(json.dumps({"models": MODELS}), encoding="utf-8")
    options = {"script": str(script)}
    if mcp_available():
        house = {"command": sys.executable, "args": [str(MCP_SERVER)], "approval": True}
        (folder / "mcp.json").write_text(json.dumps({"mcpServers": {"house": house}}), encoding="utf-8")
        options["mcp_servers_file"] = str(folder / "mcp.json")
    return options


def text(words, number=1):
    """A message of the user's."""
    return {"id": f"user-{number}", "role": "user", "parts": [{"type": "text", "text": words}]}


def parts_of(blocks):
    """The parts of a stream, which ends with its marker."""
    said = [block for block in blocks if block.data is not None]
    assert all(block.id is None and block.event is None for block in said)
    assert said[-1].data == "[DONE]"
    return [block.json for block in said[:-1]]


def fold(parts, message=None):
    """The UI message that parts make; ``message``: what the client has of it."""
    message = copy.deepcopy(message) or {"id": None, "role": "assistant", "parts": []}
    found, texts = message["parts"], {}
    for part in parts:
        rest = {name: value for name, value in part.items() if name != "type"}
        match part["type"]:
            case "start":
                message["id"] = part["messageId"]
            case "start-step":
                found.append({"type": "step-start"})
            case "text-start" | "reasoning-start":
                texts[part["id"]] = {"type": part["type"].removesuffix("-start"), "text": ""}
                found.append(texts[part["id"]])
            case "text-delta" | "reasoning-delta":
                texts[part["id"]]["text"] += part["delta"]
            case "tool-input-start":
                named = {"type": f"tool-{part['toolName']}", "toolCallId": part["toolCallId"]}
                found.append(named | {"state": "input-streaming"})
            case "source-url":
                found.append(part)
            case kind if kind.startswith("tool-"):
                _call(found, kind, rest)
    return message


def _call(found, kind, part):
    states = {
        "tool-input-available": "input-available",
        "tool-input-error": "output-error",
        "tool-output-available": "output-available",
        "tool-output-error": "output-error",
        "tool-output-denied": "output-denied",
        "tool-approval-request": "approval-requested",
        "tool-approval-response": "approval-responded",
    }
    if kind not in states:
        return
    if kind == "tool-approval-response":
        call = next(each for each in found if each.get("approval", {}).get("id") == part["approvalId"])
        call["approval"] |= {name: value for name, value in part.items() if name != "approvalId"}
    else:
        call = next(each for each in reversed(found) if each.get("toolCallId") == part["toolCallId"])
    call["state"] = states[kind]
    if kind == "tool-approval-request":
        call["approval"] = {"id": part["approvalId"]}
    elif kind == "tool-input-error":
        call |= {"rawInput": part["input"], "errorText": part["errorText"]}
    else:
        call |= {name: part[name] for name in ("input", "output", "errorText") if name in part}


class Ui:
    """A chat of one client."""

    def __init__(self, client, name, **body):
        self.client = client
        self.name = name
        self.body = body
        self.messages = []
        self.parts = []
        self.headers = {}

    @property
    def last(self):
        return self.messages[-1]

    @property
    def said(self):
        """The text of the last message."""
        return "".join(part["text"] for part in self.last["parts"] if part["type"] == "text")

    @property
    def calls(self):
        """The calls in the last message."""
        return [part for part in self.last["parts"] if "toolCallId" in part]

    @property
    def session(self):
        return self.headers["x-manent-session"]

    @property
    def turn(self):
        return self.headers["x-manent-turn"]

    def request(self, trigger="submit-message", **more):
        body = {"id": self.name, "messages": self.messages, "trigger": trigger, **self.body, **more}
        return json.loads(json.dumps(body))

    def send(self, words=None, **more):
        """Send a message, or what was done to the last one."""
        if words is not None:
            self.messages.append(words if isinstance(words, dict) else text(words, len(self.messages) + 1))
        return self._posted(**more)

    def regenerate(self, **more):
        gone = self.messages.pop()
        assert gone["role"] == "assistant"
        return self._posted(trigger="regenerate-message", messageId=gone["id"], **more)

    def edit(self, number, words, **more):
        """Edit one of the user's messages, and send it again."""
        name = self.messages[number]["id"]
        self.messages = [*self.messages[:number], text(words) | {"id": name}]
        return self._posted(messageId=name, **more)

    def output(self, **fields):
        """Give the last call its result."""
        self.calls[-1].update(fields)

    def decide(self, *decisions):
        """Decide on the calls that wait, in order: yes, or the reason why not."""
        waiting = [call for call in self.calls if call["state"] == "approval-requested"]
        for call, decision in zip(waiting, decisions, strict=True):
            call["state"] = "approval-responded"
            yes = decision is True
            call["approval"] |= {"approved": yes} | ({} if yes else {"reason": decision})

    def resume(self):
        """What is told of the message that is being given; the client forgets what it had of it."""
        with opened(self.client, "GET", f"{CHAT}/{self.name}/stream") as stream:
            self.headers = stream.response.headers
            self._folded(parts_of(list(stream)), None)
        return self

    def stop(self, **body):
        response = self.client.post(f"{CHAT}/{self.name}/stop", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def _posted(self, **more):
        before = self.last if self.last["role"] == "assistant" else None
        with opened(self.client, "POST", CHAT, json=self.request(**more)) as stream:
            self.headers = stream.response.headers
            self._folded(parts_of(list(stream)), before)
        return self

    def _folded(self, parts, before):
        self.parts = parts
        message = fold(parts, before)
        if self.last["id"] == message["id"]:
            self.messages[-1] = message
        else:
            self.messages.append(message)
