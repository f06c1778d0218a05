"""The reference is whole: words and an example on everything, every error code, every frame; and its examples are true.

The list of error codes in ``api/README.md`` is written anew with: ``GOLDEN=write pytest tests/api/test_reference.py``.
"""

import ast
import asyncio
import json
import os
import re
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator

from manent import engine
from manent.api.http.errors import BY_CODE, HTTP_CODES, STATUS, Problem
from manent.api.openapi import vendors
from manent.api.openapi.describe import TABLE
from manent.api.openapi.streams import FRAMES
from manent.api.openapi.tables import common
from manent.api.openapi.tables.errors import CODES
from manent.api.openapi.tables.operations import OPERATIONS, TAGS
from manent.api.openapi.tables.parameters import PARAMETERS
from tests.api import documented
from tests.support import begin, chatting, frames_of, offered, shown

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "api" / "README.md"


@pytest.fixture(scope="module")
def document(client):
    return client.get("/schema/openapi.json").json()


def operations(document):
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def parts(value, where):
    """All schemas with properties inside of a value, and where they stand."""
    if isinstance(value, dict):
        if isinstance(value.get("properties"), dict):
            yield where, value
        for key, inner in value.items():
            if key not in {"example", "examples"}:
                yield from parts(inner, f"{where}/{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from parts(inner, f"{where}[{number}]")


def is_said(text):
    """A sentence, and not a word or two; with its end."""
    return isinstance(text, str) and len(text) > 3 and text.rstrip()[-1] in ".…"


# --- words and examples -----------------------------------------------------------------------------------------------


def test_every_schema_and_property_is_described(document):
    """Each has a sentence and an example; what is a vendor's own has a sentence that says whose it is."""
    theirs = vendors.schemas_only_theirs(document).keys() - TABLE.keys()
    schemas = document["components"]["schemas"]
    bare = [name for name, schema in schemas.items() if not is_said(schema.get("description"))]
    bare += [f"{name}: no example" for name in schemas.keys() - theirs if "examples" not in schemas[name]]
    for where, schema in parts(document, ""):
        is_vendors = where.startswith("/paths//v1/") or where.rpartition("/")[2] in theirs
        for field, part in schema["properties"].items():
            if not is_said(part.get("description")):
                bare.append(f"{where}.{field}")
            if not is_vendors and "examples" not in part:
                bare.append(f"{where}.{field}: no example")
    assert bare == []


def test_every_parameter_is_described(document):
    """By a sentence and an example, which is of its type."""
    for _, path, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert is_said(parameter.get("description")), (path, parameter["name"])
            if path.startswith("/v1/") and "example" not in parameter:
                continue  # it is the vendor's
            Draft202012Validator(parameter["schema"]).validate(parameter["example"])


def test_every_operation_is_described(document):
    """By a summary, a description and a tag that says its part of the API; each part is described as well."""
    assert {tag["name"]: tag["description"] for tag in document["tags"]} == dict(TAGS)
    for _, path, operation in operations(document):
        assert len(operation["summary"]) > 10, path
        assert is_said(operation["description"]), path
        (tag,) = operation["tags"]
        assert tag in TAGS
    used = {tag for *_, operation in operations(document) for tag in operation["tags"]}
    assert used == set(TAGS)


def test_what_is_a_vendors_own_says_so():
    """A route that speaks a vendor's protocol needs no words of ours: each field says whose it is. A schema that a
    native route gives as well is ours.
    """
    answer = {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Theirs"}}}}}
    ours = {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ours"}}}}}
    theirs = {"type": "object", "properties": {"output": {"$ref": "#/components/schemas/Ours"}, "id": {}}}
    document = {
        "components": {"schemas": {"Theirs": theirs, "Ours": {"type": "object", "properties": {"id": {}}}}},
        "paths": {
            "/v1/messages/batches": {"get": {"responses": answer, "parameters": [{"name": "beta"}]}},
            "/api/things": {"get": {"responses": ours}},
        },
    }
    vendors.describe_theirs(document, ())
    schemas = document["components"]["schemas"]
    assert schemas["Theirs"]["description"] == "An object of Anthropic's API, in its shape."
    assert schemas["Theirs"]["properties"]["id"]["description"] == "`id` of Anthropic's API, as it has it."
    assert "description" not in schemas["Ours"]
    (parameter,) = document["paths"]["/v1/messages/batches"]["get"]["parameters"]
    assert parameter["description"] == "`beta` of Anthropic's API, as it has it."


def test_no_table_names_what_is_not_there(document):
    """A field, schema, parameter or operation that has gone takes its words with it."""
    schemas = document["components"]["schemas"]
    assert TABLE.keys() <= schemas.keys()
    for name, told in TABLE.items():
        assert {*told.fields, *told.without} <= schemas[name].get("properties", {}).keys(), name
    names = {operation["operationId"] for *_, operation in operations(document)}
    assert OPERATIONS.keys() <= names
    assert vendors.ROUTES.keys() <= names
    fields = {field for schema in schemas.values() for field in schema.get("properties", {})}
    assert common.FIELDS.keys() <= fields
    given = {
        each
        for *_, operation in operations(document)
        for parameter in operation.get("parameters", [])
        for each in (parameter["name"], f"{operation['operationId']}.{parameter['name']}")
    }
    assert PARAMETERS.keys() <= given


def test_every_example_is_of_its_schema(document):
    """Of schemas, of their properties, of bodies, and of answers."""
    components = {"components": document["components"]}

    def check(schema, value, where):
        errors = sorted(Draft202012Validator(schema | components).iter_errors(value), key=str)
        assert not errors, f"{where}: {errors[0].message}"

    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            check(schema, example, name)
        for field, part in schema.get("properties", {}).items():
            for example in part.get("examples", ()):
                check(part, example, f"{name}.{field}")
    for _, path, operation in operations(document):
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in (content for each in contents for content in each.get("content", {}).values()):
            for example in content.get("examples", {}).values():
                name = example.get("$ref", "").rpartition("/")[2]
                value = document["components"]["examples"][name]["value"] if name else example["value"]
                check(content["schema"], value, path)


BODIES = [(name, shown) for name, operation in OPERATIONS.items() for shown in operation.bodies]
NEEDS_MORE = {
    ("decide", "Yes"): "409 no_decision_awaited",
    ("decide", "No, and why"): "409 no_decision_awaited",
    ("add_cosignature", "A witness's signature"): "400 proof_invalid",
    ("accept_results", "One turn"): "400 invalid_value",
    ("set_suite", "One turn"): "404 suite_not_found",
}
"""Bodies for what is not there in this test, and how they are answered: they are of their form, too."""


@pytest.fixture(scope="module")
def recorded(client):
    """A session, a turn and a replay, whose ids are put in the place of those of the examples."""
    session = client.post("/api/sessions", json={"model": "echo/echo"}).json()["id"]
    turn = client.post(f"/api/sessions/{session}/turns", json={"content": "x"}).json()["id"]
    replay = client.post("/api/replays", json={"sessions": [session], "mode": "recorded"}).json()["id"]
    return {"session_id": session, "turn_id": turn, "replay_id": replay, "name": "nothing"}


@pytest.mark.parametrize(("name", "shown"), BODIES, ids=[f"{name}-{shown}" for name, shown in BODIES])
def test_a_body_that_is_shown_is_taken(client, document, recorded, name, shown):
    """As it stands, but for the ids: what is to be copied works."""
    method, path, operation = next(each for each in operations(document) if each[2]["operationId"] == name)
    body = operation["requestBody"]["content"]["application/json"]["examples"][shown]["value"]
    text = json.dumps(body)
    for field in ("session_id", "turn_id"):
        text = text.replace(PARAMETERS[field][1], recorded[field])
    names = dict(recorded)
    if "{session_id}" in path:
        names["session_id"] = client.post("/api/sessions", json={"model": "echo/echo", "title": "x"}).json()["id"]
    response = client.request(
        method, path.format(**names), content=text, headers={"Content-Type": "application/json", "Prefer": "wait=5"}
    )
    if (name, shown) in NEEDS_MORE:
        assert f"{response.status_code} {response.json()['code']}" == NEEDS_MORE[name, shown]
    else:
        assert response.is_success, response.text


# --- error codes ------------------------------------------------------------------------------------------------------


PLACES = {"Problem": 1, "problem_of_code": 0, "invalid": 2}
"""Of what is called with a code, its place among the arguments. Others are given it by name."""


def codes_in(path):
    """The error codes that a file of the engine or of the API gives: as an argument, or as a class's own."""
    tree = ast.parse(path.read_text("utf-8"))
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from codes_of_call(node, constants)
        elif isinstance(node, ast.ClassDef):
            yield from codes_of_class(node, constants)


def codes_of_call(node, constants):
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    place = PLACES.get(called)
    if place is not None and len(node.args) > place:
        yield from texts(node.args[place], constants)
    if called != "Kind":  # a vendor's own word for a code
        for keyword in node.keywords:
            yield from texts(keyword.value, constants) if keyword.arg == "code" else ()


def codes_of_class(node, constants):
    for each in node.body:
        target = each.target if isinstance(each, ast.AnnAssign) else getattr(each, "targets", [None])[0]
        if getattr(target, "id", "") == "code" and each.value is not None:
            yield from texts(each.value, constants)


def texts(node, constants):
    """The texts that an expression may be: itself, a constant of the file, or either side of a choice."""
    if isinstance(node, ast.IfExp):
        yield from (*texts(node.body, constants), *texts(node.orelse, constants))
    elif isinstance(node, ast.Name) and node.id in constants:
        yield from texts(constants[node.id], {})
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


NOT_ERRORS = {"verify_bundle.py", "runner.py", "rollback.py"}
"""Files in which ``code`` is source text, or the outcome of a tool; or a ``Problem`` is one of the record."""


def found_codes():
    files = [*ROOT.glob("engine/**/*.py"), *ROOT.glob("api/**/*.py")]
    found = {code for file in files if file.name not in NOT_ERRORS for code in codes_in(file)}
    kinds = {kind.code for kind in BY_CODE.values()}
    made = {"turn_cancelled", "turn_interrupted"}  # f"turn_{status}"
    return found | kinds | made | set(HTTP_CODES.values()) | {"duplicate_field"}


def test_every_error_code_is_listed(document):
    """All that the engine and the API raise, and no other: a new one must be described."""
    assert found_codes() - CODES.keys() == set()
    assert CODES.keys() - found_codes() == set()
    listed = {each["const"] for each in document["components"]["schemas"]["ErrorCode"]["anyOf"] if "const" in each}
    assert listed == CODES.keys()
    assert all(is_said(row.meaning) for row in CODES.values())


def test_a_new_code_is_seen(tmp_path):
    """Wherever it would stand in the code."""
    file = tmp_path / "new.py"
    file.write_text(
        'NEW = "one"\n\nclass A(EngineError):\n    code = "two"\n\nclass B(C):\n    code: str = "three"\n\n\n'
        'def f():\n    raise Problem(400, NEW, "x")\n    raise invalid("f", "d", "four")\n'
        '    raise Invalid("f", "d", code="five")\n    raise Problem(1, "six" if x else "seven", "x")\n'
    )
    assert set(codes_in(file)) == {"one", "two", "three", "four", "five", "six", "seven"}


def test_the_status_of_a_code_is_that_of_its_error():
    """As the table of the edge has it."""
    for code, kind in BY_CODE.items():
        if CODES[code].status:
            assert CODES[code].status == next(status for each, status in STATUS.items() if issubclass(kind, each)), code


def test_every_operation_names_what_it_refuses(document):
    """By status and code, each with a whole example; codes of every route stand under ``default``."""
    examples = document["components"]["examples"]
    everywhere = {code for code, row in CODES.items() if row.everywhere}
    for _, path, operation in operations(document):
        assert everywhere == set(re.findall(r"`([a-z_]+)` \(\d+\)", operation["responses"]["default"]["description"]))
        told = OPERATIONS.get(operation["operationId"])
        shown = {
            code: int(status)
            for status, response in operation["responses"].items()
            for code in re.findall(r"`([a-z_]+)`: ", response["description"])
        }
        if told is not None:
            assert shown.keys() == {*told.codes}, path
        if path.startswith("/api/") and not path.startswith("/api/ai/"):
            for code in shown.keys() - {"unknown_model"}:
                assert examples[code]["value"]["status"] == shown[code]
    assert {code for code, row in CODES.items() if row.status} == examples.keys()


def test_a_refusal_that_is_not_named_is_seen():
    """The tests of the API hold each refusal that they meet against the tables (``documented``)."""
    for code, status in (("legal_hold", 409), ("never_heard_of", 400), ("session_not_found", 400)):
        documented.look("get_session", "/api/sessions/{session_id}", Problem(status, code, ""))
        assert documented.missing
        documented.missing.clear()
    documented.look("get_session", "/api/sessions/{session_id}", Problem(404, "session_not_found", ""))
    assert not documented.missing


def listing():
    """The list of ``api/README.md``."""
    rows = [
        f"| `{code}` | {row.status or ''} | {row.meaning} | {', '.join(f'`{each}`' for each in row.members)} |"
        for code, row in sorted(CODES.items(), key=lambda item: (item[1].status or 999, item[0]))
    ]
    return "\n".join(["| code | status | means | beside it |", "| --- | --- | --- | --- |", *rows])


def test_the_readme_lists_the_same():
    """Word for word."""
    before, begin, rest = README.read_text("utf-8").partition("<!-- codes -->\n")
    inside, end, after = rest.partition("\n<!-- end of codes -->")
    if os.environ.get("GOLDEN") == "write":
        README.write_text(f"{before}{begin}{listing()}{end}{after}", encoding="utf-8")
        return
    assert inside == listing()


# --- streams ----------------------------------------------------------------------------------------------------------

STREAMED = {
    "thinks": [{"steps": [{"thinking": "Hm."}, {"text": "Two."}]}],
    "looks": [{"steps": [{"text": "So."}, {"tool": {"id": "call_1", "name": "look", "input": {"city": "Rome"}}}]}],
    "pays": [
        {"steps": [{"tool": {"id": "call_1", "name": "pay", "input": {"to": "Ann"}}}]},
        {"steps": [{"text": "Done."}]},
    ],
    "retries": [
        {"steps": [{"fail": {"code": "provider_unavailable", "detail": "no"}}]},
        {"steps": [{"text": "Now."}]},
    ],
    "breaks": [{"steps": [{"text": "I b"}, {"fail": {"code": "provider_rejected", "detail": "no"}}]}],
    "hangs": [{"steps": [{"text": "Wait"}, {"hang": True}]}],
}


@engine.tool(approval=True)
async def pay(to: str) -> str:
    """Pays somebody."""
    return f"{to} is paid"


async def turns_of_all_kinds(path):
    """The frames of each, and all events on record."""
    async with chatting(path, tools=[pay], max_attempts=2, **STREAMED) as chat:
        frames = []
        for model in ("thinks", "looks", "retries", "breaks"):
            session = await chat.create_session(model=f"scripted/{model}")
            turn = await begin(chat, session.id, "x", client_tools=offered("look") if model == "looks" else ())
            frames += await frames_of(chat, turn)
        for approve in (True, False):
            session = await chat.create_session(model="scripted/pays")
            turn = await begin(chat, session.id, "x", tools=("pay",))
            await frames_of(chat, turn)  # up to the pause
            await chat.decide(turn, "call_1", approve=approve, reason="why")
            frames += await frames_of(chat, turn)
        session = await chat.create_session(model="scripted/hangs")
        turn = await begin(chat, session.id, "x")
        await shown(chat, turn, 3)
        await chat.cancel(turn)
        frames += await frames_of(chat, turn)
        stopped = await begin(chat, session.id, "x")
        await shown(chat, stopped, 3)
    async with chatting(path, tools=[pay]) as chat:
        frames += await frames_of(chat, stopped)
        return frames, (await chat.log_events(limit=1000)).items


def test_frames_and_events_are_as_they_are_described(document, tmp_path):
    """Each frame of turns of all kinds is of the schema that its type names, and no type is described that is none."""
    frames, events = asyncio.run(turns_of_all_kinds(tmp_path / "chat.db"))
    components = {"components": document["components"]}
    validator = Draft202012Validator({"$ref": "#/components/schemas/TurnFrame"} | components)
    for frame in frames:
        validator.validate({"id": frame.number, "event": frame.type, "data": json.loads(frame.data)})
    assert {frame.type for frame in frames} == FRAMES.keys()
    validator = Draft202012Validator({"$ref": "#/components/schemas/Event"} | components)
    for event in events:
        validator.validate(json.loads(msgspec.json.encode(event)))


def test_blocks_are_a_union(document):
    """Of the blocks of a message one schema is right, which its type names; of another type it is kept."""
    components = document["components"]
    block = components["schemas"]["Block"]
    assert block["discriminator"]["propertyName"] == "type"
    validator = Draft202012Validator({"$ref": "#/components/schemas/Block", "components": components})
    for name in ("TextBlock", "ImageBlock", "ToolUseBlock", "ToolResultBlock", "ThinkingBlock", "OtherBlock"):
        assert {"$ref": f"#/components/schemas/{name}"} in block["oneOf"]
        assert validator.is_valid(components["schemas"][name]["examples"][0]), name
    assert not validator.is_valid({"type": "text"})
    assert not validator.is_valid({"type": "tool_use", "id": "x"})
    assert not validator.is_valid({"text": "x"})


def test_other_media_types_are_described(document):
    """C2SP's proofs and checkpoints, JSON lines, pages, Markdown and streams say what they hold."""
    found = {}
    for _, _, operation in operations(document):
        for media, content in operation["responses"].get("200", {}).get("content", {}).items():
            if media in {"text/plain", "application/jsonl", "text/markdown", "text/event-stream"}:
                assert is_said(content["schema"].get("description")), (operation["operationId"], media)
                found.setdefault(media, set()).add(operation["operationId"])
    assert found["text/plain"] >= {"prove_event", "prove_consistency", "newest_checkpoint", "verifier_keys", "metrics"}
    assert found["application/jsonl"] == {"export_session"}
    assert found["text/markdown"] == {"read_transcript"}
    assert found["text/event-stream"] >= {"start_turn", "stream_turn", "stream_events", "stream_log", "stream_replay"}
