"""Hostile text in every place where words show: nothing runs, nothing is loaded, no node comes from words.

That no dialog opens, that nobody else is asked for anything and that the policy is not broken is watched in every test.
"""

import json

import pytest
from playwright.sync_api import expect

from tests.console.harness import EVIL, begin, show

MARKDOWN = f"""# {EVIL}

[a](javascript:alert(5)) [b](data:text/html,x) [c](vbscript:x) [d](//evil.example) [e](\tjavascript:alert(6))
<javascript:x>
![x](https://evil.example/x.png) ![x](data:image/svg+xml,<svg/onload=alert(7)>) [![y](https://evil.example/y)](javascript:z)

| {EVIL} | b |
|-|-|
| <img src=x onerror=alert(8)> | [x](javascript:alert(9)) |

```<img src=x onerror=alert(10)>
</code></pre><script>alert(11)</script>
```

> - {EVIL}

&lt;script&gt;alert(12)&lt;/script&gt; \u202e\u2066reversed {"*" * 2000}{"[" * 2000}{"> " * 300}{"`" * 999}
"""
FROM_WORDS = (
    "main :is(script, iframe, object, embed, style, link, base, meta, form[action], img), main svg:not(.timeline svg)"
)
VIEWS = {
    "sessions": "",
    "conversation": "#/sessions/{session}",
    "fork": "#/sessions/{fork}",
    "settings": "#/sessions/{session}?",
    "turn": "#/turns/{turn}?attempt=1",
    "record": "#/record",
    "message": "#/events/{session}/2",
    "branches": "#/sessions/{session}/branches",
    "compare": "#/compare/{session}/{fork}",
    "keep": "#/sessions/{session}/keep",
    "replay": "#/replays/{replay}",
    "made up": "#/sessions/%3Cimg%20src=x%20onerror=alert(13)%3E",
    "nowhere": "#/<img src=x onerror=alert(14)>",
}


@pytest.fixture(scope="module")
def evil(server):
    """Sessions that say it in titles, prompts, words of people and models, arguments, results and reasons."""
    with server.client() as client:
        fields = {"title": EVIL[:200], "system": EVIL, "metadata": {"<b>": EVIL}}
        session = begin(client, MARKDOWN, model="echo/echo", **fields)
        call = {"type": "tool_use", "id": "i1", "name": "calculator", "input": {"expression": EVIL}}
        result = {"type": "tool_result", "tool_use_id": "i1", "content": EVIL, "is_error": True}
        for message in ({"role": "assistant", "content": [call]}, {"role": "tool", "content": [result]}):
            client.post(f"/api/sessions/{session}/messages", json=message).raise_for_status()
        version = client.get(f"/api/sessions/{session}/messages").json()["items"][0]["version"]
        other = {"content": MARKDOWN[::-1], "from_version": version}
        fork = client.post(f"/api/sessions/{session}/turns", json=other).json()["session_id"]
        turn = client.get(f"/api/sessions/{session}/turns").json()["items"][0]["id"]
        replay = client.post("/api/replays", json={"turns": [turn], "mode": "forced", "model": "scripted/plain"}).json()
        yield {"session": session, "fork": fork, "turn": turn, "replay": replay["id"]}


def has_no_node_of_words(page):
    assert page.locator(FROM_WORDS).count() == 0
    for link in page.locator("main a[href]").all():
        address = link.get_attribute("href")
        assert address.startswith(("#", "/", "http://", "https://", "mailto:", "blob:")), address
    assert (
        page.evaluate("document.querySelectorAll('main [style], main [onerror], main [onload], main [onclick]').length")
        == 0
    )


FIRST = {"conversation"}
"""The other views are CI's."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in FIRST)) for name in VIEWS])
def test_words_are_only_words(page, server, evil, name):
    """In no view does text become a node that runs or loads, and everything that is folded is opened."""
    page.goto(f"{server.url}/console/{VIEWS[name].format(**evil)}")
    expect(page.locator("h1")).to_be_attached()
    if name == "settings":
        page.get_by_role("button", name="Settings").click()
        expect(page.get_by_role("dialog").get_by_label("System prompt")).to_have_value(EVIL)
    else:
        page.wait_for_timeout(300)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        page.wait_for_timeout(100)
    has_no_node_of_words(page)


def test_it_is_shown_as_it_was_written(page, server, evil):
    """Markup is text that one reads; what is no address is no link."""
    show(page, server, f"#/sessions/{evil['session']}")
    first = page.locator("article .words").first
    expect(first).to_contain_text("<script>alert(1)</script>")
    expect(first).to_contain_text("<img src=x onerror=alert(8)>")
    expect(first.locator("a[href*=javascript]")).to_have_count(0)
    expect(first.get_by_role("link", name="image: x").first).to_have_attribute("href", "https://evil.example/x.png")


def test_what_a_vendor_says_of_a_failure_is_only_words(page, server, client):
    """Markup in the message of a failed turn is text, below the answer and where the turn is explained."""
    session = begin(client, "Go.", model="scripted/evil")
    turn = client.get(f"/api/sessions/{session}/turns").json()["items"][0]
    assert "<script>" in turn["error"]["detail"]
    show(page, server, f"#/sessions/{session}")
    expect(page.get_by_role("note")).to_contain_text("<script>alert(1)</script><img src=x onerror=alert(2)>")
    has_no_node_of_words(page)
    show(page, server, f"#/turns/{turn['id']}", "What the model saw")
    expect(page.locator(".facts").first).to_contain_text("<iframe src=javascript:alert(4)></iframe>")
    has_no_node_of_words(page)


@pytest.mark.slow
def test_hostile_deltas(page, server, client):
    """While it comes in, three characters at a time, and at the end: the same."""
    session = begin(client, model="echo/paced")
    show(page, server, f"#/sessions/{session}")
    page.get_by_role("textbox", name="Message").fill(MARKDOWN[:600])
    page.get_by_role("textbox", name="Message").press("Enter")
    expect(page.locator("article.assistant footer")).to_be_visible()
    has_no_node_of_words(page)


@pytest.mark.slow
def test_what_is_unknown_is_shown_raw(page, server, client):
    """Blocks and events of types that nobody knows yet: shown as they came, and nothing else breaks."""
    session = begin(client, "Known words.", model="scripted/plain")

    def strange(route):
        answer = route.fetch()
        told = answer.json()
        if "/messages" in route.request.url:
            told["items"][0]["content"].append({"type": f"hologram {EVIL}", "data": EVIL})
        else:
            for event in told["items"][:1]:
                event.update(type="moon.landed", facts={"what": EVIL}, body={"where": EVIL})
        route.fulfill(response=answer, body=json.dumps(told))

    page.route("**/messages?*", strange)
    page.route("**/events?*", strange)
    show(page, server, f"#/sessions/{session}")
    page.locator("details.raw summary").click()
    expect(page.locator("details.raw")).to_contain_text("hologram <script>")
    show(page, server, f"#/sessions/{session}/record", "Record of a session")
    expect(page.locator(".events .type").last).to_have_text("moon.landed")
    has_no_node_of_words(page)


@pytest.mark.slow
def test_a_message_of_a_megabyte(page, server, client):
    """It is shown, and the page still answers."""
    session = begin(client, model="echo/echo")
    text = "\n\n".join(f"Paragraph {number} of a *long* text with `code` and words." for number in range(16_000))
    sent = client.post(f"/api/sessions/{session}/messages", json={"content": text[:1_000_000]})
    assert sent.status_code == 201, sent.text
    show(page, server, f"#/sessions/{session}")
    expect(page.locator("article .words p").first).to_contain_text("Paragraph 0")
    page.get_by_role("textbox", name="Message").fill("still here")
    has_no_node_of_words(page)
