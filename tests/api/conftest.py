"""One server for most tests, on a real file; each test has sessions of its own."""

import json

import pytest

from manent.engine import Settings
from tests.api import chat_upstream, documented
from tests.api.harness import in_thread

STRANGE = (
    "line\nline\r\nreturn\rtab\tform\fbell\x07escape\x1b[0m \x7f"
    "emoji \N{FAMILY}\N{ZERO WIDTH JOINER}\N{WOMAN} \U0001f1ee\U0001f1f9 "
    "rtl \u202eabc\u202c \u05d0\u200f lines\u2028\u2029\u0085 "
    "quotes \"'\\ data: x id: 7\n\ndata: y : \ufeff\ufffd\ue000 e\u0301 [DONE]"
)
"""Everything that has ever come to harm on its way through JSON or a stream of lines."""

SCRIPT = {
    "hang": [{"steps": [{"text": "Wait"}, {"hang": True}]}],
    "slow": [{"steps": [{"text": "abcdefghijklmnopqrstuvwxyz" * 2, "chunk_chars": 2, "every_ms": 20}]}],
    "silent": [{"steps": [{"text": "before"}, {"pause_ms": 1300}, {"text": " after"}]}],
    "late": [{"steps": [{"pause_ms": 300}, {"text": "late"}]}],
    "tools": [
        {"steps": [{"text": "Let me look."}, {"tool": {"id": "call_1", "name": "look", "input": {"city": "Rome"}}}]},
        {"steps": [{"text": "Dry."}]},
    ],
    "think": [{"steps": [{"thinking": "Hm, two."}, {"text": "Two.", "chunk_chars": 1}]}],
    "fails": [
        {"steps": [{"text": "I brea"}, {"fail": {"code": "provider_unavailable", "detail": "no"}}]},
        {"steps": [{"text": "Now."}]},
    ],
    "busy": [{"steps": [{"fail": {"code": "provider_unavailable", "detail": "no", "retry_after_s": 5000}}]}],
    "strange": [{"steps": [{"text": STRANGE, "chunk_chars": 1}]}],
    "markers": [
        {
            "steps": [
                {"text": "say "},
                {"text": "[DONE]", "chunk_chars": 6},
                {"text": '{"error": "no"}\n [DONE]\n{{"error":1}'},
                {"text": "\r\nend"},
            ]
        }
    ],
}


documented.watch()


@pytest.fixture(autouse=True)
def documented_refusals():
    """Every refusal that a test meets is in the reference, at its operation."""
    documented.missing.clear()
    yield
    assert documented.missing == []


def settings_on(folder, **options):
    """Settings of a server with the script, on a database in a folder."""
    script = folder / "script.json"
    script.write_text(json.dumps({"models": SCRIPT}), encoding="utf-8")
    return Settings(
        **{
            "database": str(folder / "manent.db"),
            "port": 0,
            "model": "echo/echo",
            "script": str(script),
            "keepalive_s": 1,
            "drain_s": 1,
        }
        | options
    )


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """An open server, shared."""
    with in_thread(settings_on(tmp_path_factory.mktemp("server"))) as server:
        yield server


@pytest.fixture(scope="session")
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture
def session(client):
    """A new session's id."""
    return client.post("/api/sessions", json={}).json()["id"]


@pytest.fixture
def unchanged(server, request):
    """Nothing gets on record during the test but its session."""
    if "session" in request.fixturenames:
        request.getfixturevalue("session")
    before = server.size()
    yield
    assert server.size() == before


@pytest.fixture(scope="module")
def upstream():
    """An upstream, with the names of the models that it was asked for."""
    with chat_upstream.upstream() as server:
        yield server
