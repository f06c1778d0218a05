"""Branches in the browser: writing a message anew, answering again, going between them, and two side by side."""

import re

import pytest
from playwright.sync_api import expect

from tests.console.harness import answer, begin, recorded, session_of, show


def test_a_message_is_written_anew_in_a_branch(page, server, client):
    """The branch says 2/2 where they part, the arrows go there and back, and the first stays as it was."""
    session = begin(client, "The first way.", model="scripted/plain")
    show(page, server, f"#/sessions/{session}")
    page.locator("article.user").hover()
    page.get_by_role("button", name="Edit").click()
    box = page.get_by_role("textbox", name="Message")
    expect(box).to_have_value("The first way.")
    box.fill("Another way.")
    box.press("Enter")
    expect(page.locator("article.user .siblings")).to_have_text(re.compile("2/2"))
    fork = session_of(page)
    assert fork != session
    expect(answer(page)).to_have_text("Hello from the script.")
    assert recorded(client, fork) == ["Another way.", "Hello from the script."]
    page.get_by_role("link", name="Branch before").click()
    expect(page.locator("article.user .words")).to_have_text("The first way.")
    assert session_of(page) == session
    expect(page.locator("article.user .siblings")).to_have_text(re.compile("1/2"))
    page.get_by_role("link", name="Next branch").click()
    expect(page.locator("article.user .words")).to_have_text("Another way.")


@pytest.mark.slow
def test_an_answer_is_given_again(page, server, client):
    """In a branch from the same question; both answers are counted beside each other without a reload."""
    session = begin(client, "What?", model="scripted/plain")
    show(page, server, f"#/sessions/{session}")
    page.locator("article.assistant").hover()
    page.get_by_role("button", name="Answer again").click()
    expect(page.locator("article.assistant .siblings")).to_have_text(re.compile("2/2"))
    assert session_of(page) != session
    assert recorded(client, session_of(page)) == ["What?", "Hello from the script."]


@pytest.mark.slow
def test_a_family_is_a_tree_and_two_are_compared(page, server, client):
    """The tree names all; of two that are chosen the shared is counted, and the rest stands side by side."""
    session = begin(client, "Shared question.", model="scripted/plain", title="The root")
    version = client.get(f"/api/sessions/{session}/messages").json()["items"][0]["version"]
    body = {"from_version": version, "model": "echo/echo"}
    fork = client.post(f"/api/sessions/{session}/turns", json=body).json()["session_id"]
    client.patch(f"/api/sessions/{fork}", json={"title": "The fork"}).raise_for_status()
    show(page, server, f"#/sessions/{session}")
    page.get_by_role("link", name="Branches").click()
    expect(page.locator("ol.tree li")).to_have_count(2)
    expect(page.locator("ol.tree li.depth1")).to_contain_text("The fork")
    page.get_by_label("Compare The root").check()
    page.get_by_label("Compare The fork").check()
    page.get_by_role("button", name="Compare two").click()
    expect(page.locator("h1")).to_have_text("Side by side")
    expect(page.get_by_text("1 shared message")).to_be_visible()
    sides = page.locator(".side > section")
    expect(sides.nth(0).locator("article .words")).to_have_text("Hello from the script.")
    expect(sides.nth(1).locator("article .words")).to_have_text("Shared question.")
