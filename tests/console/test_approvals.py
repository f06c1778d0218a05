"""Approvals in the browser: what waits for a person, from every session, decided with a reason, also on a phone."""

import pytest
from playwright.sync_api import expect

from manent.engine.tools.mcp.config import mcp_available
from tests.console.harness import answer, begin, show

pytestmark = pytest.mark.skipif(not mcp_available(), reason="needs the extra `mcp`: a tool that asks first")
PHONE = {"viewport": {"width": 400, "height": 780}, "has_touch": True, "is_mobile": True}


def waiting(client, title):
    return begin(client, "Greet Ann.", model="scripted/greets", title=title, tools=["tests_greet"])


def decisions(client, session):
    """Type, actor and reason of the decisions on record."""
    events = client.get(f"/api/sessions/{session}/events", params={"types": "tool.approved,tool.refused"}).json()
    return [(each["type"], each["actor"], (each["body"] or {}).get("reason")) for each in events["items"]]


def test_a_call_is_approved_on_a_phone(watched, server, client):
    """From the list of all that waits: with name and arguments; the turn goes on and the list forgets it."""
    session = waiting(client, "Approve on a phone")
    page = watched(server, **PHONE).page
    show(page, server, "#/approvals", "Approvals")
    card = page.locator("article.waiting").filter(has_text="Approve on a phone")
    expect(card).to_contain_text("tests_greet")
    expect(card.get_by_role("group", name="Arguments")).to_have_text('{\n  "name": "Ann"\n}')
    card.get_by_label("Reason").fill("it is polite")
    card.get_by_role("button", name="Approve").tap()
    expect(card).to_have_count(0)
    assert decisions(client, session) == [("tool.approved", "local", "it is polite")]
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    show(page, server, f"#/sessions/{session}")
    expect(answer(page)).to_have_text("That is done.")


@pytest.mark.slow
def test_a_call_is_refused_in_its_conversation(page, server, client):
    """It is told between the messages by whom and why, and the model goes on without."""
    session = waiting(client, "Refuse here")
    show(page, server, f"#/sessions/{session}")
    expect(page.locator("nav .badge")).to_be_visible()
    page.get_by_label("Reason").fill("not today")
    page.get_by_role("button", name="Refuse").click()
    expect(page.get_by_role("note").filter(has_text="refused the call")).to_contain_text(
        "local user refused the call: not today"
    )
    expect(answer(page)).to_have_text("That is done.")
    expect(page.locator("section.approval")).to_have_count(0)
    assert decisions(client, session) == [("tool.refused", "local", "not today")]


@pytest.mark.slow
def test_a_turn_that_waits_is_stopped(page, server, client):
    """Stop ends it, and nothing waits any more."""
    session = waiting(client, "Stop instead")
    show(page, server, f"#/sessions/{session}")
    expect(page.locator("section.approval")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("note").filter(has_text="stopped by")).to_be_visible()
    expect(page.locator("section.approval")).to_have_count(0)
    assert client.get(f"/api/sessions/{session}").json()["open_turn_id"] is None
