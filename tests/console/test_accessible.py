"""The console for everybody: axe on every view, the keyboard, narrow pages, and a line for screen readers."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.console.harness import begin, show

OPTIONS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def places(server):
    """A session with most of what there is to see, and the addresses of all views."""
    with server.client() as client:
        session = begin(client, "Go.", model="scripted/markdown", title="To be looked at", system="Be kind.")
        client.post(
            f"/api/sessions/{session}/turns",
            json={"content": "Add.", "model": "scripted/adds", "tools": ["calculator"]},
        )
        client.post(f"/api/sessions/{session}/turns", json={"content": "Break.", "model": "scripted/breaks"})
        begin(client, "Greet.", model="scripted/greets", tools=["tests_greet"], title="Waits")
        first = client.get(f"/api/sessions/{session}/messages").json()["items"][0]["version"]
        body = {"from_version": first, "model": "echo/echo"}
        fork = client.post(f"/api/sessions/{session}/turns", json=body).json()["session_id"]
        turn = client.get(f"/api/sessions/{session}/turns").json()["items"][1]["id"]
        replay = client.post("/api/replays", json={"sessions": [session]}).json()["id"]
        yield {
            "sessions": "",
            "conversation": f"#/sessions/{session}",
            "turn": f"#/turns/{turn}?attempt=1",
            "record": "#/record",
            "event": f"#/events/{session}/2",
            "approvals": "#/approvals",
            "branches": f"#/sessions/{session}/branches",
            "compare": f"#/compare/{session}/{fork}",
            "replays": "#/replays",
            "replay": f"#/replays/{replay}",
            "keep": f"#/sessions/{session}/keep",
        }


def findings(page):
    """What axe finds that is serious, in a few words each. The browser's own tools give its script to the page."""
    found = Axe().run(page, options=OPTIONS).response["violations"]
    serious = [each for each in found if each["impact"] in SERIOUS]
    return [(each["id"], [node["html"][:160] for node in each["nodes"]][:3]) for each in serious]


@pytest.fixture
def audited(watched, server):
    """Pages that axe may put its script into, which the policy would refuse. That it holds is watched elsewhere."""
    return lambda **options: watched(server, bypass_csp=True, **options).page


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(audited, server, places, scheme):
    """On every view, in light and dark."""
    page = audited(color_scheme=scheme)
    found = {}
    for name, path in places.items():
        page.goto("about:blank")
        show(page, server, path)
        page.wait_for_timeout(400)
        found[name] = findings(page)
    assert found == {name: [] for name in places}


@pytest.mark.slow
def test_axe_finds_nothing_serious_in_dialogs(audited, server, places):
    """A new session, and the help with keys."""
    page = audited()
    show(page, server, heading="Sessions")
    page.keyboard.press("n")
    assert findings(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert findings(page) == []


@pytest.mark.slow
def test_nothing_sticks_out_of_a_narrow_page(watched, server, places):
    """At 400 pixels, which is also what a page of 800 has at 200 percent."""
    page = watched(server, viewport={"width": 400, "height": 780}).page
    for name, path in places.items():
        page.goto("about:blank")
        show(page, server, path)
        page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, name
        hidden = page.evaluate(
            "[...document.querySelectorAll('main .page')].some((each) => each.scrollWidth > each.clientWidth)"
        )
        assert not hidden, name


def test_the_keyboard_reaches_the_content_first(page, server, places):
    """A skip link is the first stop; the transcript is no live region, and one line tells of answers."""
    show(page, server, places["conversation"])
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page.locator("[aria-live]")).to_have_count(0)
    expect(page.get_by_role("status")).to_have_count(1)
    for article in page.locator("article").all():
        assert article.get_attribute("aria-label")


@pytest.mark.slow
def test_nothing_moves_for_those_who_wish_so(page, server, client):
    """With reduced motion there is no animation, also while an answer comes."""
    session = begin(client, model="scripted/hang")
    show(page, server, f"#/sessions/{session}")
    page.get_by_role("textbox", name="Message").fill("Begin.")
    page.keyboard.press("Enter")
    expect(page.locator(".writing")).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".writing")).to_have_count(0)
