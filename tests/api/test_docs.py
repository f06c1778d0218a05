"""The API's description: complete, true, the same as the golden one, and readable without loading anything.

The golden document is written anew with: ``GOLDEN=write pytest tests/api/test_docs.py -k golden``.
"""

import base64
import hashlib
import itertools
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from manent.api.app import NATIVE_ROUTES, VENDOR_ROUTES
from manent.api.compat import plumego
from manent.api.openapi.vendors import WITHOUT_BODY
from manent.api.schemas.bodies import Body

GOLDEN = Path(__file__).parent.parent / "golden" / "openapi.json"
CONTRACT_OF_0_1 = GOLDEN.with_name("openapi-0.1.json")
"""Never written anew: what clients of 0.1 rely on."""

CHANGED = {
    "erased": "true and false are an object, which says by whom and why, and null",
    "pending_approvals": "ids of calls are objects, which say what is called with what",
}
"""Fields that are another since 0.1, and how. Each is in the changelog."""


WIDENED = {  # what is empty is absent in the guide's language: its routes take that, too, and all that they took
    "/paths//api/ai/complete/post/requestBody/content/application/json/schema/properties/model/minLength",
    "/paths//api/ai/chat/post/requestBody/content/application/json/schema/properties/model/minLength",
    "/paths//api/ai/chat/post/requestBody/content/application/json/schema/properties/session_id/oneOf[0]",
    "/paths//api/ai/stream/get/parameters[1]",
    "/paths//api/ai/stream/get/parameters[2]",
}
"""The bounds of 0.1 that have gone: each was a request's."""


@pytest.fixture(scope="module")
def document(client):
    response = client.get("/schema/openapi.json")
    assert response.status_code == 200
    return response.json()


def operations(document):
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_it_is_the_golden_one(document):
    """A change of the contract is seen as such."""
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


PROSE = {"description", "summary", "title", "tags", "example", "examples", "anyOf"}
"""Keys of a document that are words for people; the choices of ``anyOf`` are those of error codes, which may grow."""


def structure(document):
    """A document without its prose: no description, summary, title, tag or example, and what a component is instead of
    its name.
    """
    schemas = document["components"]["schemas"]

    def bare(value, within=()):
        if isinstance(value, list):
            return [bare(each, within) for each in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            name = value["$ref"].rpartition("/")[2]
            return "itself" if name in within else bare(schemas[name], (*within, name))
        # In ``properties`` these words are the names of fields.
        return {
            key: {name: bare(each, within) for name, each in part.items()}
            if key == "properties"
            else bare(part, within)
            for key, part in value.items()
            if key not in PROSE
        }

    components = {key: part for key, part in document["components"].items() if key not in {"schemas", "examples"}}
    return bare({**document, "components": components})


def test_it_holds_the_contract_of_0_1(document):
    """But for descriptions, summaries and the names of components all that was in it still is: operations, fields,
    codes; but for the form of those ``CHANGED``. What has been added is in the golden document.
    """
    old = structure(json.loads(CONTRACT_OF_0_1.read_text(encoding="utf-8")))
    assert {*missing(without(CHANGED, old), structure(document))} == WIDENED


def without(names, value):
    """A structure that says of fields of these names only that they are there."""
    if isinstance(value, list):
        return [without(names, each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: {name: {} if name in names else without(names, each) for name, each in part.items()}
        if key == "properties"
        else without(names, part)
        for key, part in value.items()
    }


def missing(old, new, where=""):
    """The places where something of an old structure is gone, or is another."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, part in old.items():
            if key in new:
                yield from missing(part, new[key], f"{where}/{key}")
            else:
                yield f"{where}/{key}"
    elif isinstance(old, list) and isinstance(new, list):
        for number, part in enumerate(old):
            if not any(not list(missing(part, each)) for each in new):
                yield f"{where}[{number}]"
    elif old != new:
        yield f"{where}: {old!r} is {new!r}"


def test_only_prose_may_differ(document):
    """Other words and other names of components are the same contract; another field, bound, code or route is not."""
    text = json.dumps(document)
    same = text.replace("/schemas/Session", "/schemas/Talk").replace('"Session', '"Talk').replace("Begin a", "Start a")
    assert same != text
    assert structure(json.loads(same)) == structure(document)
    for old, new in (
        ('"message_count"', '"messages_count"'),
        ('"maximum": 1000', '"maximum": 999'),
        ('"/api/models"', '"/api/model"'),
        ('"201"', '"200"'),
        ('"operationId": "list_tools"', '"operationId": "tools"'),
        ('"vendor_stop_reason"', '"stopped_for"'),
    ):
        assert old in text
        assert structure(json.loads(text.replace(old, new))) != structure(document), old


def test_it_stays_the_same(client, document):
    """However often it is asked for."""
    assert client.get("/schema/openapi.json").json() == document


def test_every_route_is_there(document):
    """All that is served, under the paths of the contract, with a name and a sentence."""
    routes = {
        (method, re.sub(r":\w+\}", "}", path))
        for handler in [*NATIVE_ROUTES, *plumego.ROUTES, *VENDOR_ROUTES]
        for path in handler.paths
        for method in handler.http_methods
    }
    assert operations(document).keys() == routes
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(names)) == len(names)
    assert all(len(operation["summary"]) > 10 for operation in operations(document).values())


CONTRACT = """
POST /api/sessions
GET /api/sessions
GET /api/sessions/{session_id}
PATCH /api/sessions/{session_id}
POST /api/sessions/{session_id}/messages
GET /api/sessions/{session_id}/messages
GET /api/sessions/{session_id}/window
POST /api/sessions/{session_id}/turns
GET /api/sessions/{session_id}/turns
GET /api/turns/{turn_id}
GET /api/turns/{turn_id}/stream
GET /api/turns/{turn_id}/prompt
POST /api/turns/{turn_id}/cancel
GET /api/sessions/{session_id}/events
GET /api/sessions/{session_id}/events/stream
POST /api/sessions/{session_id}/erase
GET /api/sessions/{session_id}/export
GET /api/events
GET /api/events/stream
POST /api/ai/complete
POST /api/ai/chat
GET /api/ai/stream
GET /healthz
GET /readyz
"""


def test_the_contract_is_kept(document):
    """No route that others count on gets lost."""
    assert {tuple(line.split()) for line in CONTRACT.split("\n") if line} <= operations(document).keys()


def test_bodies_refuse_unknown_fields(document):
    """And say so; those of the guide take what its clients send."""
    schemas = document["components"]["schemas"]
    kinds = [kind.__name__ for kind in Body.kinds() if not kind.__subclasses__()]
    assert {schemas[kind]["additionalProperties"] for kind in kinds} == {False}
    for (method, path), operation in operations(document).items():
        takes = method in {"POST", "PATCH"} or operation["operationId"] == "set_suite"
        takes = takes and operation["operationId"] not in WITHOUT_BODY  # the vendors' have none
        assert ("requestBody" in operation) == takes, path


def references(value):
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_reference_leads_somewhere(document):
    """And no schema is there for nobody."""
    components = document["components"]
    named = {f"#/components/{kind}/{name}" for kind in ("schemas", "examples") for name in components[kind]}
    unused = named - set(references(document))
    assert set(references(document)) <= named
    assert all(name.startswith("#/components/examples/") for name in unused), unused


def test_answers_are_described(document):
    """By schema and media type; refusals as the documents they are; recorded JSON as objects."""
    for (_, path), operation in operations(document).items():
        for status, response in operation["responses"].items():
            assert response["description"]
            contents = response.get("content", {})
            assert contents or status == "204", (path, status)
            assert all(content["schema"] for content in contents.values()), (path, status)
        error = "application/json" if path.startswith(("/api/ai/", "/v1/")) else "application/problem+json"
        assert list(operation["responses"]["default"]["content"]) == [error]
        refusals = [status for status in operation["responses"] if status >= "400" and status != "default"]
        if operation["operationId"] != "readyz":
            assert {*itertools.chain(*(operation["responses"][each]["content"] for each in refusals))} <= {error}
    schemas = document["components"]["schemas"]
    blocks = {"type": "array", "items": {"$ref": "#/components/schemas/Block"}}
    assert blocks.items() <= schemas["Message"]["properties"]["content"].items()
    assert blocks in schemas["OneMessage"]["properties"]["content"]["oneOf"]
    assert schemas["Event"]["properties"]["facts"]["type"] == "object"
    assert {"type": "object"} in schemas["Event"]["properties"]["body"]["oneOf"]
    assert schemas["SessionList"]["properties"]["items"]["items"] == {"$ref": "#/components/schemas/Session"}


def test_headers_are_described(document):
    """Those that change what is done."""
    headers = {
        route: {each["name"] for each in operation.get("parameters", []) if each["in"] == "header"}
        for route, operation in operations(document).items()
    }
    turns = "/api/sessions/{session_id}/turns"
    assert headers["POST", turns] == {"If-Match", "Idempotency-Key", "Prefer", "Last-Event-ID"}
    assert headers["POST", "/api/sessions"] == {"Idempotency-Key"}
    assert headers["GET", "/api/turns/{turn_id}/stream"] == {"Last-Event-ID"}


def test_limits_are_described(document):
    """As they are enforced."""
    parameters = operations(document)["GET", "/api/sessions"]["parameters"]
    limit = next(each["schema"] for each in parameters if each["name"] == "limit")
    assert limit == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}


class _Loads(HTMLParser):
    """Collects what a page would load or lead to."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.tags = set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        names = ("src", "href", "srcset", "action", "data", "poster", "style", "content")
        self.found += [(tag, name, value) for name, value in attributes if name in names or name.startswith("on")]


def test_the_page_loads_nothing(client, document):
    """One answer of plain HTML: no script, no frame, no style from anywhere, no link out of the house, and a policy
    that forbids all of it.
    """
    response = client.get("/schema")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    page = _Loads()
    page.feed(response.text)
    assert page.tags.isdisjoint({"script", "iframe", "link", "img", "object", "embed", "base", "form"})
    assert {name for _, name, _ in page.found} <= {"href", "content"}
    links = {value for _, name, value in page.found if name == "href"}
    assert {link for link in links if not link.startswith("#")} == {"/schema/openapi.json"}
    assert "@import" not in response.text
    policy = next(value for _, name, value in page.found if name == "content" and "default-src" in value)
    style = response.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")


def test_the_page_shows_every_route(client, document):
    """With its parameters, bodies and answers, under its part, and a link from the contents; and every schema and error
    code, to which others lead.
    """
    text = client.get("/schema").text
    page = _Loads()
    page.feed(text)
    for (method, _), operation in operations(document).items():
        assert f'<article id="{operation["operationId"]}">' in text
        assert f'<a href="#{operation["operationId"]}"><b class="{method.lower()}">{method}</b>' in text
    for name in document["components"]["schemas"]:
        assert f'id="schema-{name}"' in text
    links = {value[1:] for _, name, value in page.found if name == "href" and value.startswith("#")}
    ids = re.findall(r' id="([^"]+)"', text)
    assert links <= set(ids)
    assert len(ids) == len(set(ids))
    assert client.get("/schema/").text == text


def test_the_golden_document_is_json():
    """And names no machine."""
    golden = msgspec.json.decode(GOLDEN.read_bytes())
    assert golden["openapi"].startswith("3.1")
    assert golden["info"]["title"] == "Manent"
