"""Drop-in routes in the document. Their bodies and answers are their vendors'; what is said of a field here is what the
route's own table does with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from ..compat import ai_sdk_forms, chat_forms, conversation_forms, managed_forms, messages_forms, response_forms
from ..compat.fields import Field, Table
from ..http.dialects import ANTHROPIC, ROOT, dialect_of
from ..http.errors import JSON
from . import streams
from .tables.base import ANSWER, QUESTION
from .tables.operations import (
    ASKING,
    BODY,
    FAILED,
    OF_SESSION,
    WORDS,
    Operation,
)

UI_ROOT = "/v1/ai-sdk/"
REF = "#/components/schemas/"
USES = {
    "honoured": "Honoured: it means what the vendor says.",
    "kept": "Taken, and no part of what the model is asked.",
    "refused": "Refused by name",
}
CODES: tuple[str, ...] = (*BODY, *WORDS, *ASKING, *FAILED, *OF_SESSION, "invalid_json", "invalid_type", "empty_message")
CODES += ("tool_call_not_found", "tool_results_missing", "session_archived", "session_expired", "session_full")


class Vendors(NamedTuple):
    """A route's request. ``table``: what is done with each field, and ``where`` that table stands; ``streams``: the
    answer is a stream if it is asked for; ``codes``: what it refuses beside what all of them do.
    """

    protocol: str
    table: Table
    where: str
    body: Mapping[str, Any]
    answer: Mapping[str, Any]
    streams: bool = False
    codes: tuple[str, ...] = ()


CHAT = {"model": "echo/echo", "messages": [{"role": "user", "content": QUESTION}]}
COMPLETION = {
    "id": "chatcmpl-01a22e5561807dd7919cd02c6a732706",
    "object": "chat.completion",
    "model": "echo/echo",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
}
MESSAGE = {
    "id": "msg_01a22e5561997c3eb1d40f9e8d7c6b5a",
    "type": "message",
    "role": "assistant",
    "model": "echo/echo",
    "content": [{"type": "text", "text": ANSWER}],
    "stop_reason": "end_turn",
}
UI_CHAT = {
    "id": "a-chat",
    "messages": [{"id": "a-message", "role": "user", "parts": [{"type": "text", "text": QUESTION}]}],
    "trigger": "submit-message",
}
RESPONSE_FORMS, CONVERSATION_FORMS = "api/compat/response_forms.py", "api/compat/conversation_forms.py"
ASKED = {"model": "echo/echo", "input": QUESTION}
RESPONSE = {
    "id": "resp_01a22e5561807dd7919cd02c6a732706",
    "object": "response",
    "status": "completed",
    "model": "echo/echo",
}
ITEM = {"type": "message", "role": "user", "content": QUESTION}
CONVERSATION = {"id": "conv_01a22e5561807dd7919cd02c6a732706", "object": "conversation", "metadata": {}}
MISSING = ("resource_not_found",)
MANAGED, MANAGED_FORMS = "Anthropic's Managed Agents", "api/compat/managed_forms.py"
MANAGED_SESSION = {"id": "sesn_01a22e5561807dd7919cd02c6a732706", "type": "session", "status": "idle", "metadata": {}}
SAID = {"type": "user.message", "content": [{"type": "text", "text": QUESTION}]}
ROUTES: Mapping[str, Vendors] = {
    "create_chat_completion": Vendors(
        "OpenAI's Chat Completions", chat_forms.FIELDS, "api/compat/chat_forms.py", CHAT, COMPLETION, streams=True
    ),
    "create_message": Vendors(
        "Anthropic's Messages",
        messages_forms.FIELDS,
        "api/compat/messages_forms.py",
        CHAT | {"max_tokens": 1024},
        MESSAGE,
        streams=True,
    ),
    "count_message_tokens": Vendors(
        "Anthropic's count of tokens", messages_forms.COUNTED, "api/compat/messages_forms.py", CHAT, {"input_tokens": 7}
    ),
    "create_response": Vendors(
        "OpenAI's Responses", response_forms.FIELDS, RESPONSE_FORMS, ASKED, RESPONSE, streams=True
    ),
    "count_response_tokens": Vendors(
        "OpenAI's count of tokens",
        response_forms.COUNTED,
        RESPONSE_FORMS,
        ASKED,
        {"object": "response.input_tokens", "input_tokens": 7},
    ),
    "create_conversation": Vendors(
        "OpenAI's Conversations", conversation_forms.CREATED, CONVERSATION_FORMS, {"items": [ITEM]}, CONVERSATION
    ),
    "update_conversation": Vendors(
        "OpenAI's Conversations",
        conversation_forms.UPDATED,
        CONVERSATION_FORMS,
        {"metadata": {"topic": "the sea"}},
        CONVERSATION,
    ),
    "add_conversation_items": Vendors(
        "OpenAI's Conversations",
        conversation_forms.ADDED,
        CONVERSATION_FORMS,
        {"items": [ITEM]},
        {"object": "list", "data": [ITEM], "has_more": False},
    ),
    "create_managed_session": Vendors(
        MANAGED, managed_forms.CREATED, MANAGED_FORMS, {"agent": "echo/echo"}, MANAGED_SESSION, codes=MISSING
    ),
    "update_managed_session": Vendors(
        MANAGED, managed_forms.UPDATED, MANAGED_FORMS, {"metadata": {"topic": "the sea"}}, MANAGED_SESSION
    ),
    "send_managed_events": Vendors(
        MANAGED,
        managed_forms.SENT,
        MANAGED_FORMS,
        {"events": [SAID]},
        {"data": [{"id": "sevt_01a22e5561807dd7919cd02c6a732706"} | SAID]},
        codes=("array_above_max_length", "no_decision_awaited"),
    ),
    "stream_ui_message": Vendors(
        "the Vercel AI SDK's UI messages",
        ai_sdk_forms.FIELDS,
        "api/compat/ai_sdk_forms.py",
        UI_CHAT,
        {},
        codes=("unknown_part", "approval_not_found", "approval_missing", "no_decision_awaited"),
    ),
}
WITHOUT_BODY = frozenset({"archive_managed_session", "cancel_response"})


def operation(path: str, name: str) -> Operation:
    """What is said of a drop-in route that no table names, and of those whose tables are their own."""
    known = ROUTES.get(name)
    protocol = known.protocol if known else _protocol_of(path)
    where = f" What is done with each field of the request stands below, and in `{known.where}`." if known else ""
    codes = CODES + (known.codes if known else ())
    return Operation("Drop-in", codes, f"The protocol is {protocol}.{where}")


def complete_operation(path: str, method: str, operation: dict[str, Any]) -> None:
    """A body and an answer are as their vendor describes them. Answers that the code types stay as they are."""
    known = ROUTES.get(operation["operationId"])
    if method == "post" and operation["operationId"] not in WITHOUT_BODY:
        operation["requestBody"] = {"required": known is not None, "content": {JSON: _body(path, known)}}
    elif not _is_untyped(operation):
        return
    content: dict[str, Any] = {JSON: _answer(path, known)}
    if known is not None and known.streams:
        content |= streams.content(streams.Stream(streams.VENDOR_ORDER))
    operation["responses"]["200"] = {"description": "The answer, in the vendor's form.", "content": content}


def _is_untyped(operation: dict[str, Any]) -> bool:
    """True where the code says nothing of the answer."""
    contents = operation["responses"].get("200", {}).get("content", {})
    return bool(contents) and not all(content["schema"] for content in contents.values())


def schemas_only_theirs(document: dict[str, Any]) -> dict[str, str]:
    """The schemas that drop-in routes alone refer to, each with the protocol that it is of."""
    schemas = document["components"]["schemas"]
    theirs: dict[str, str] = {}
    ours: set[str] = set()
    for path, operations in document["paths"].items():
        found = set(_reached(operations, schemas, set()))
        if path.startswith(ROOT):
            theirs |= dict.fromkeys(found - theirs.keys(), _protocol_of(path))
        else:
            ours |= found
    return {name: protocol for name, protocol in theirs.items() if name not in ours}


def _reached(value: Any, schemas: dict[str, Any], seen: set[str]) -> Iterator[str]:
    if isinstance(value, dict):
        name = str(value.get("$ref", "")).removeprefix(REF)
        if name in schemas and name not in seen:
            seen.add(name)
            yield name
            yield from _reached(schemas[name], schemas, seen)
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _reached(each, schemas, seen)


def describe_theirs(document: dict[str, Any], known: Collection[str]) -> None:
    """Say of what is a vendor's own that it is: of schemas that no table names (``known``), their fields, and
    parameters without words.
    """
    for name, protocol in schemas_only_theirs(document).items():
        schema = document["components"]["schemas"][name]
        if name not in known:
            schema.setdefault("description", f"An object of {protocol}, in its shape.")
            for field, part in schema.get("properties", {}).items():
                part.setdefault("description", f"`{field}` of {protocol}, as it has it.")
    for path, operations in document["paths"].items():
        for operation in operations.values() if path.startswith(ROOT) else ():
            for parameter in operation.get("parameters", []):
                said = parameter.get("description")
                parameter["description"] = said or f"`{parameter['name']}` of {_protocol_of(path)}, as it has it."


def _body(path: str, known: Vendors | None) -> dict[str, Any]:
    if known is None:
        return {"schema": {"type": "object", "description": f"A request of {_protocol_of(path)}."}}
    properties = {name: {"description": _use(field)} for name, field in sorted(known.table.items())}
    told = f"A request of {known.protocol}. Its fields are the vendor's; here is said what is done with each."
    schema = {"type": "object", "description": told, "properties": properties, "examples": [known.body]}
    return {"schema": schema, "examples": {"A question": {"value": known.body}}}


def _answer(path: str, known: Vendors | None) -> dict[str, Any]:
    protocol = known.protocol if known else _protocol_of(path)
    schema: dict[str, Any] = {"type": "object", "description": f"An answer of {protocol}."}
    return {"schema": schema | ({"examples": [known.answer]} if known else {})}


def _use(field: Field) -> str:
    if field.use != "refused":
        return USES[field.use]
    only = " and ".join(f"`{msgspec.json.encode(each).decode()}`" for each in field.only)
    return f"{USES['refused']}{f', but for {only}' if only else ''}, and null."


def _protocol_of(path: str) -> str:
    if path.startswith(UI_ROOT):
        return "the Vercel AI SDK"
    return "Anthropic's API" if dialect_of(path, {}) is ANTHROPIC else "OpenAI's API"
