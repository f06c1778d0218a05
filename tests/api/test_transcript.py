"""Transcripts over HTTP: what a person reads of a session, on a page or in Markdown, and that no word in it is more
than text.
"""

import asyncio
import hashlib
import json
import re
import tracemalloc
from base64 import b64decode
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from manent import engine
from manent.engine import MessageIn, Settings, open_sync, transcript_policy
from manent.engine.service.transcript.hidden import written_out
from manent.engine.service.transcript.markdown import fenced, span
from tests.api.conftest import settings_on
from tests.api.harness import in_thread, problem
from tests.api.test_access import KEYS, keys_file
from tests.contracts.test_damage import damage
from tests.support import begin, chatting, frames_of, says

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)> [a](javascript:b) **bold** `tick` ```` \n```\n# Head\n~~~\n"
    "<!-- --> &amp; \u202eback\u202c \x1b[31mred \u200bhidden \U000e0041tag\r\n---\n</div></main>"
)
LONG = 3_000
WIDE_BYTES = 24 << 20


ALWAYS = {
    "looks": [{"steps": [{"tool": {"id": "call_1", "name": "look", "input": {"city": "Rome"}}}]}],
    "hangs": [{"steps": [{"text": "Wait"}, {"hang": True}]}],
    "breaks": [{"steps": [{"text": "I brea"}, {"fail": {"code": "provider_unavailable", "detail": "no"}}]}],
}
"""Models that always do the same."""

PAYS = {"steps": [{"tool": {"id": "call_1", "name": "pay", "input": {"to": "Ann"}}}]}


class Page(HTMLParser):
    """The tags of a page, its attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.ids, self.said = set(), [], set(), []
        self.feed(text)
        self.text = "".join(self.said)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes
        self.ids |= {value for name, value in attributes if name == "id"}

    def handle_data(self, data):
        self.said.append(data)


def say(client, session, content, **options):
    response = client.post(f"/api/sessions/{session}/turns", json={"content": content, **options})
    assert response.status_code == 200, response.text
    return response.json()


def transcript(client, session, form="html", **parameters):
    response = client.get(f"/api/sessions/{session}/transcript", params={"format": form, **parameters})
    assert response.status_code == 200, response.text
    return response.text


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transcripts")
    script = folder / "always.json"
    script.write_text(json.dumps({"models": ALWAYS}), encoding="utf-8")
    with (
        in_thread(msgspec.structs.replace(settings_on(folder, max_attempts=1), script=str(script))) as server,
        server.client() as client,
    ):
        yield client


@pytest.fixture
def told(client, session):
    """A session with an answer, an erased question, a tool, a cancelled turn and a failed one."""
    client.patch(f"/api/sessions/{session}", json={"title": "Clause 4", "system": "Be brief.", "user_id": "u-7"})
    say(client, session, "What does it limit?")
    secret = say(client, session, "My number is 0170 1234567.")
    at = client.get(f"/api/sessions/{session}/messages").json()["items"][2]["version"]
    reach = {"reason": "Art. 17 request", "versions": [at, secret["message"]["version"]]}
    assert client.post(f"/api/sessions/{session}/erase", json=reach).status_code == 200
    asked = say(client, session, "Is it dry?", model="scripted/looks", client_tools=[{"name": "look"}])
    answer = {"type": "tool_result", "tool_use_id": "call_1", "content": '{"sky": "clear"}'}
    assert asked["stop_reason"] == "tool_use"
    client.post(f"/api/sessions/{session}/messages", json={"role": "tool", "content": [answer]})
    hanging = client.post(
        f"/api/sessions/{session}/turns",
        json={"content": "Go on.", "model": "scripted/hangs"},
        headers={"Prefer": "respond-async"},
    ).json()
    client.post(f"/api/turns/{hanging['id']}/cancel")
    say(client, session, "And now?", model="scripted/breaks")
    return session


@pytest.mark.parametrize("form", ["html", "md"])
def test_it_tells_what_happened(client, told, form):
    """Who said what, which model answered, when, how each turn ended, and what was erased by whom and why."""
    text = transcript(client, told, form)
    shown = Page(text).text if form == "html" else text
    for expected in (
        *("Clause 4", "Be brief.", "u-7", told, "What does it limit?", "local", "echo/echo", "scripted/looks"),
        *("end_turn", "A tool was called.", "look", "call_1", '"sky": "clear"'),
        *("The turn was cancelled.", "The turn failed.", "provider_unavailable"),
        *("Words were erased", "Art. 17 request", "Erased by local on 20"),
    ):
        assert expected in shown, expected
    assert "0170" not in text
    assert re.search(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", shown)


@pytest.mark.parametrize("form", ["html", "md"])
def test_it_names_its_proof(client, told, form):
    """The checkpoint that covers the last event: origin, size, root and the id of the key, which is the log's own."""
    text = transcript(client, told, form)
    shown = Page(text).text if form == "html" else text
    version = client.get(f"/api/sessions/{told}").json()["version"]
    proof = client.get(f"/api/sessions/{told}/events/{version}/proof").json()
    name, key_id, _ = client.get("/api/log/key").text.split("\n")[0].split("+", 2)
    size = int(re.search(r"covered \(size\)\D*([\d,]+)", shown)[1].replace(",", ""))
    assert size >= proof["position"]
    for expected in (
        proof["origin"],
        proof["leaf_hash"],
        f"{name}, key id {key_id}",
        "verify_bundle.py",
        "manent verify",
    ):
        assert expected in shown, expected


@pytest.mark.parametrize("form", ["html", "md"])
def test_hostile_words_are_text(client, session, form):
    """Wherever they stand: in a message, a title, a system prompt, a reason, a name; hidden characters are written
    out.
    """
    line = " ".join(HOSTILE.split())
    client.patch(f"/api/sessions/{session}", json={"title": line, "system": HOSTILE, "metadata": {HOSTILE: HOSTILE}})
    say(client, session, HOSTILE)
    client.post(f"/api/sessions/{session}/erase", json={"reason": line, "versions": [3]})
    text = transcript(client, session, form)
    assert not set("\u202e\u202c\x1b\u200b\U000e0041\r") & set(text)
    assert "\\u202e" in re.sub("<[^>]*>", "", text)
    if form == "html":
        page = Page(text)
        assert page.tags.isdisjoint({"script", "img", "iframe", "link", "form", "object", "base"})
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert all(value.startswith("#") for name, value in page.attributes if name == "href")
        assert "<script>alert(1)</script>" in page.text
    else:
        assert_is_text(text)


def assert_is_text(markdown):
    """A reader of Markdown sees no markup in it but ours: headings, lists, rules, bold, and code as it stands."""
    tokens = MarkdownIt("commonmark").parse(markdown)
    blocks = {token.type for token in tokens}
    kinds = {"heading", "paragraph", "bullet_list", "ordered_list", "list_item"}
    ours = {f"{kind}_{end}" for kind in kinds for end in ("open", "close")} | {"hr", "fence", "inline"}
    assert blocks <= ours
    inline = {child.type for token in tokens for child in token.children or ()}
    assert inline <= {"text", "code_inline", "softbreak", "strong_open", "strong_close"}


texts = st.text(st.sampled_from(" `~\n\t#*_[]()<>&!-|\\ab\r\x00\u202e") | st.characters(codec="utf-8"), max_size=60)


@given(texts)
def test_a_fence_is_not_left(text):
    """Whatever a text holds, a block of it is one block, and holds all of it."""
    (fence,) = MarkdownIt("commonmark").parse(fenced(text))
    assert fence.type == "fence"
    assert fence.content == f"{written_out(text)}\n"


@given(texts)
def test_a_span_is_not_left(text):
    """Whatever a text holds, a span of it is one span of code."""
    (_, inline, _) = MarkdownIt("commonmark").parse(f"x {span(text)} y")
    assert [child.type for child in inline.children] == ["text", "code_inline", "text"]


def test_the_page_can_run_nothing(client, session):
    """It is sent under a policy without scripts, which it also carries; and both forms say their type."""
    response = client.get(f"/api/sessions/{session}/transcript")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"] == transcript_policy()
    assert "default-src 'none'" in transcript_policy()
    assert "script" not in transcript_policy()
    assert transcript_policy().startswith(re.search('Policy" content="([^"]*)"', response.text)[1])
    assert response.headers["x-content-type-options"] == "nosniff"
    markdown = client.get(f"/api/sessions/{session}/transcript?format=md")
    assert markdown.headers["content-type"] == "text/markdown; charset=utf-8"


def test_erasures_lead_to_what_they_erased(client, told):
    """On the page each event has its place, to which the erasure that names it is a link."""
    page = Page(transcript(client, told))
    targets = {value[1:] for name, value in page.attributes if name == "href"}
    assert targets <= page.ids
    assert {"p1", "proof"} <= page.ids | {"p1"}


@pytest.mark.parametrize("form", ["html", "md"])
def test_a_fork_says_where_its_history_comes_from(client, session, form):
    """At the top and at the place where its own begins; what is shared is told as well."""
    say(client, session, "Shared words.")
    fork = client.post(f"/api/sessions/{session}/fork", json={}).json()
    say(client, fork["id"], "Own words.")
    text = transcript(client, fork["id"], form)
    shown = Page(text).text if form == "html" else text
    assert shown.count(f"the history of session {session}") == 2
    begins = shown.index("The fork begins here.")
    assert shown.index("Shared words.") < begins < shown.index("Own words.")
    assert "Own words." not in transcript(client, session, form)


def test_it_can_end_at_a_version(client, session):
    """What came later is not told, and what was erased since is not shown."""
    first = say(client, session, "First words.")
    say(client, session, "Later words.")
    version = first["message"]["version"]
    text = transcript(client, session, "md", version=version)
    assert "First words." in text
    assert "Later words." not in text
    assert f"1 to {version} of " in text
    client.post(f"/api/sessions/{session}/erase", json={"reason": "r"})
    assert "First words." not in transcript(client, session, "md", version=version)


def test_an_answer_that_a_caller_gives_is_no_models(client, session):
    """A message of the role assistant that no model answered here says so, and names who appended it."""
    client.post(f"/api/sessions/{session}/messages", json={"role": "assistant", "content": "Made up."})
    text = transcript(client, session, "md")
    assert "Assistant, in the caller's words: no model answered this here." in text
    assert "answer of a model" not in text


def test_what_is_not_there_is_refused(client, session):
    """As everywhere: another session, another format, another version."""
    problem(client.get(f"/api/sessions/{'0' * 8}-0000-7000-8000-{'0' * 12}/transcript"), 404, "session_not_found")
    problem(client.get(f"/api/sessions/{session}/transcript?format=pdf"), 400, "invalid_value", "format")
    problem(client.get(f"/api/sessions/{session}/transcript?version=999"), 404, "session_not_found", "version")
    problem(client.get(f"/api/sessions/{session}/transcript?formt=md"), 400, "unknown_parameter", "formt")


def test_images_are_named_by_their_digest(client, session):
    """A page that loads nothing shows none; the digest is that of the image's bytes."""
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYPhfDwAChAGA60e6kgAAAABJRU5ErkJggg=="
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": pixel}}
    client.post(f"/api/sessions/{session}/messages", json={"content": [image]})
    text = transcript(client, session)
    assert f"SHA-256 {hashlib.sha256(b64decode(pixel)).hexdigest()}" in text
    assert pixel not in text


def test_a_damaged_row_is_named_and_not_shown(tmp_path):
    """The rest is told; the words that are not those that were recorded are not."""
    settings = settings_on(tmp_path)
    with in_thread(settings) as server, server.client() as client:
        session = client.post("/api/sessions", json={}).json()["id"]
        answer = say(client, session, "Agreed.")["message"]
        say(client, session, "Is it?")
        damage(settings.database, answer["position"], "other words")
        text = transcript(client, session, "md")
    assert "Damaged: the words are not those that were recorded" in text
    assert "other words" not in text
    assert "Is it?" in text


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keyed")
    with in_thread(settings_on(folder, api_keys_file=keys_file(folder))) as server:
        yield server


def test_scopes_tenants_and_tickets(keyed):
    """A key with the scope chat or audit reads it, one without either or of another tenant does not; a ticket opens it
    in a browser.
    """

    def client_of(name):
        key = next(key for key, row in KEYS.items() if row[0] == name)
        return keyed.client(headers={"Authorization": f"Bearer {key}"})

    with client_of("alice") as alice, keyed.client() as browser:
        session = alice.post("/api/sessions", json={"title": "Mine"}).json()["id"]
        path = f"/api/sessions/{session}/transcript"
        for name, (_, tenant, scopes) in ((row[0], row) for row in KEYS.values()):
            with client_of(name) as other:
                found = other.get(path).status_code
            allowed = {"chat", "audit"} & set(scopes)
            expected = 403 if not allowed else 200 if tenant == KEYS["alice-secret"][1] else 404
            assert found == expected, (name, tenant, scopes)
        assert browser.get(path).status_code == 401
        ticket = alice.post("/api/tickets", json={"path": path}).json()["ticket"]
        assert "Mine" in browser.get(path, params={"ticket": ticket, "format": "md"}).text


def test_a_long_session_is_told_in_pieces(tmp_path):
    """What is held is a page of events, not the transcript: here a few MiB of a page of many."""
    settings = Settings(database=str(tmp_path / "long.db"), model="echo/echo")
    with open_sync(settings) as chat:
        session = chat.create_session()
        text = "word " * (WIDE_BYTES // LONG // 5)
        for _ in range(LONG // 100):
            chat.append_messages(session.id, [_message(text) for _ in range(100)])
        tracemalloc.start()
        size = sum(len(piece) for piece in chat.transcript(session.id))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert size > WIDE_BYTES
    assert peak < WIDE_BYTES // 2, f"{peak >> 20} MiB at the most, for a page of {size >> 20} MiB"


def _message(text):
    block = json.dumps({"type": "text", "text": text}).encode()
    return MessageIn((block,), "user")


def test_a_decision_names_the_person(tmp_path):
    """Who approved a call and why, which tool it was, and what it said; the server's own entries are the server's."""

    @engine.tool(approval=True)
    async def pay(to: str) -> str:
        """Pays somebody."""
        return f"{to} is paid"

    async def write():
        async with chatting(tmp_path / "chat.db", tools=[pay], pays=[PAYS, *says("Done.")]) as chat:
            session = await chat.create_session(model="scripted/pays")
            turn = await begin(chat, session.id, "Pay Ann.", tools=("pay",))
            await frames_of(chat, turn)
            await chat.decide(turn, "call_1", approve=True, reason="She asked.", caller=engine.Caller(actor="key:bob"))
            await frames_of(chat, turn)
            return "".join([piece async for piece in chat.transcript(session.id, "md")])

    text = asyncio.run(write())
    for expected in (
        *(
            "`key:bob`",
            "The call was approved.",
            "She asked.",
            "The turn waits for a person's decision.",
            "- Tool: `pay`",
        ),
        *("Ann is paid", "- Run by: `this server`", "- Outcome: `completed`"),
    ):
        assert expected in text, expected
    assert "`turn:" not in text
