"""Completing the document that Litestar writes: strict bodies, blocks, streams, errors, keys, and words."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import msgspec

from ..http.dialects import ROOT
from ..http.errors import GUIDE, JSON
from ..http.middleware import PUBLIC_PATHS
from ..schemas.bodies import Body
from ..schemas.parameters import MAX_NUMBER
from . import blocks, refusals, streams, vendors
from .describe import describe
from .parameters import complete_parameters
from .tables.operations import OPERATIONS, TAGS, Operation

PATH = "/schema"
METHODS = ("get", "post", "patch", "put", "delete")
PLAIN, JSON_LINES, MARKDOWN = "text/plain", "application/jsonl", "text/markdown"
PROOFS = frozenset({"prove_event", "prove_consistency"})
BODY_OPTIONAL = frozenset({"create_session", "start_turn", "cancel_turn", "cancel_replay", "make_checkpoint"})

NO_CONTENT = "204"
_TEXT = {"type": "string"}
FULFILLED = (
    "Request fulfilled, document follows",
    "Document created, URL follows",
    "Request fulfilled, nothing follows",
)
"""Litestar's own words, which say nothing."""

ANSWERS = {
    "200": "Done, with the answer.",
    "201": "Made. `Location` names it, where it has an address of its own.",
    "202": "It goes on. The answer is what it is now, and `Location` names it.",
    "204": "Done: there is nothing to say.",
}
"""What a status of success says, where the code says no more of it."""

PROOF_TEXT = {
    "prove_event": "A C2SP tlog-proof: header, `extra` (the leaf in base64), index, hashes in base64, and the "
    "checkpoint.",
    "prove_consistency": "The body of C2SP tlog-witness's add-checkpoint: the old size, hashes, and the checkpoint.",
}
JSON_LINES_TEXT = (
    'One line of JSON, a session: `{"messages": […]}` for `openai`, OpenTelemetry\'s GenAI form for `otel`.'
)
PLAIN_TEXTS = {
    "newest_checkpoint": "A C2SP tlog-checkpoint: a signed note.",
    "make_checkpoint": "A C2SP tlog-checkpoint: a signed note.",
    "verifier_keys": "Verifier keys, `name+hash+key`, a line each.",
    "metrics": "Prometheus's text format.",
}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The whole document."""
    document = deepcopy(document)
    components = document["components"]
    schemas = components["schemas"]
    schemas |= refusals.SCHEMAS | blocks.schemas()
    schemas |= streams.schemas(schemas)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": KEYS}}
    _tighten(schemas)
    document["security"] = [{"key": []}, {}]
    document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                _complete_operation(path, method, operations[method])
    components["examples"] = refusals.examples()
    whole: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))  # no part of it stands in two places
    blocks.refer(whole)
    describe(whole)
    return whole


KEYS = (
    "An API key of `MANENT_API_KEYS_FILE`, with scopes `chat`, `audit`, `erase` and `operate`. Without any key "
    "the server "
    "serves the loopback address only, openly."
)


def _tighten(schemas: dict[str, Any]) -> None:
    """Say of bodies that they take no other field, and of what Litestar leaves unsaid."""
    for body in Body.kinds():
        if body.__name__ in schemas:
            schemas[body.__name__]["additionalProperties"] = False
            schemas[body.__name__].pop("default", None)
    for schema in schemas.values():
        for each in schema.get("properties", {}).values():
            _without_ellipsis(each.get("items", {}))
    schemas["Readiness"]["additionalProperties"] = _TEXT  # the contract of 0.1 says no more of it
    for each in schemas["EraseIn"]["properties"]["versions"]["oneOf"]:
        if "items" in each:  # Litestar leaves out what bounds the items of a list
            each["items"] |= {"minimum": 1, "maximum": MAX_NUMBER}


def _without_ellipsis(items: dict[str, Any]) -> None:
    """Litestar takes the dots of ``tuple[UUID, ...]`` for another type, if there are bounds on it."""
    if {} in items.get("oneOf", ()):
        (only,) = [each for each in items.pop("oneOf") if each]
        items |= only


def _complete_operation(path: str, method: str, operation: dict[str, Any]) -> None:
    told = OPERATIONS.get(operation["operationId"]) or vendors.operation(path, operation["operationId"])
    _say(operation, told)
    if path.startswith(ROOT):
        vendors.complete_operation(path, method, operation)
    if path in PUBLIC_PATHS:
        operation["security"] = []
    complete_parameters(operation, guide=path.startswith(GUIDE), vendors=path.startswith(ROOT))
    responses = operation["responses"]
    responses.pop("400", None)
    for status, response in responses.items():
        response.pop("headers", None)
        if status == NO_CONTENT:
            response.pop("content", None)
        if response["description"] in {*FULFILLED, ""}:
            response["description"] = ANSWERS[status]
    _complete_body(operation, told)
    _complete_answers(operation)
    responses |= refusals.responses(path, operation["operationId"], told.codes)


def _say(operation: dict[str, Any], told: Operation) -> None:
    """The docstring's first sentence is the summary, the rest and the table's words are the description."""
    text = " ".join(operation.get("description", "").split())
    first, _, rest = text.partition(". ")
    operation["summary"] = first.removesuffix(".")
    operation["description"] = " ".join(filter(None, (rest, told.description))) or f"{operation['summary']}."
    operation["tags"] = [told.tag]


def _complete_body(operation: dict[str, Any], told: Operation) -> None:
    body = operation.get("requestBody")
    if body is None:
        return
    if operation["operationId"] in BODY_OPTIONAL:
        body["required"] = False
    if told.bodies:
        body["content"][JSON]["examples"] = {name: {"value": value} for name, value in told.bodies.items()}


def _complete_answers(operation: dict[str, Any]) -> None:
    """What is answered in other forms than JSON."""
    name, responses = operation["operationId"], operation["responses"]
    if stream := streams.STREAMS.get(name):
        turn = {"$ref": "#/components/schemas/Turn"}
        whole = {JSON: {"schema": turn}} if name == "start_turn" else {}
        responses["200"] = {"description": "Server-sent events.", "content": whole | streams.content(stream)}
        if stream.ends:
            responses["204"] = {"description": "Read to the end already."}
    if name in PROOFS:
        # Of what is no proof in JSON the document of 0.1 says nothing. Here it says text, so that one schema fits.
        responses["200"]["content"][JSON]["schema"]["oneOf"][1] = _TEXT | {"description": "Not in this form."}
        responses["200"]["content"] |= {PLAIN: {"schema": _text(PROOF_TEXT[name])}}
    if name in PLAIN_TEXTS:
        responses["200"]["content"][PLAIN]["schema"] |= _text(PLAIN_TEXTS[name])
    if name == "export_session":
        responses["200"]["content"] |= {JSON_LINES: {"schema": _text(JSON_LINES_TEXT)}}
    if name == "read_transcript":
        responses["200"]["content"] |= {MARKDOWN: {"schema": _text("The transcript as Markdown (CommonMark).")}}


def _text(description: str) -> dict[str, Any]:
    return _TEXT | {"description": description}
