"""The list of sessions in the browser: what it tells, finding, renaming, archiving, the keyboard, and a long list."""

import re

import pytest
from playwright.sync_api import expect

from tests.console.harness import begin, show


def row(page, title):
    return page.locator("li.row").filter(has_text=title)


def test_a_session_is_told_in_a_line(page, server, client):
    """Title or first words, model, turns, tokens, failures; a family is one line."""
    begin(client, "First words of mine.", model="scripted/plain")
    begin(client, "Go.", model="scripted/breaks", title="It breaks")
    root = begin(client, "Root.", model="scripted/plain", title="A family")
    client.post(f"/api/sessions/{root}/fork", json={"title": "Its fork"}).raise_for_status()
    show(page, server, heading="Sessions")
    first = row(page, "First words of mine.").first
    expect(first).to_contain_text("scripted/plain")
    expect(first).to_contain_text(re.compile(r"1 turn\s*17 tokens"))
    expect(row(page, "It breaks").first).to_contain_text("1 failure")
    expect(row(page, "Its fork")).to_contain_text("2 branches")
    expect(row(page, "A family")).to_have_count(0)


def test_sessions_are_found(page, server, client):
    """By a part of the title, by what failed, by model; the address keeps what was asked."""
    begin(client, "Hi.", model="scripted/plain", title="Needle in hay")
    begin(client, "Hi.", model="scripted/breaks", title="Needle that broke")
    show(page, server, heading="Sessions")
    page.keyboard.press("/")
    page.keyboard.type("needle")
    expect(page.locator("li.row")).to_have_count(2)
    page.get_by_label("failed").check()
    expect(page.locator("li.row")).to_have_count(1)
    expect(row(page, "Needle that broke")).to_be_visible()
    page.reload()
    expect(page.get_by_label("failed")).to_be_checked()
    expect(page.locator("li.row")).to_have_count(1)
    page.get_by_label("failed").uncheck()
    page.get_by_label("Title").fill("no such title anywhere")
    expect(page.get_by_text("No session here.")).to_be_visible()


@pytest.mark.slow
def test_a_session_is_renamed_archived_and_restored(page, server, client):
    """From its line, which says so; archived ones are another list."""
    session = begin(client, model="scripted/plain", title="Before it")
    show(page, server, "#/sessions?title_contains=it&status=all", heading="Sessions")
    line = row(page, "Before it")
    line.hover()
    line.get_by_role("button", name="Rename").click()
    page.get_by_role("dialog").get_by_label("Title").fill("After it")
    page.get_by_role("button", name="Save").click()
    line = row(page, "After it")
    line.hover()
    line.get_by_role("button", name="Archive").click()
    expect(line.locator(".flag")).to_have_text("archived")
    assert client.get(f"/api/sessions/{session}").json()["status"] == "archived"
    page.get_by_label("Which sessions").select_option("active")
    expect(line).to_have_count(0)
    page.get_by_label("Which sessions").select_option("archived")
    line.hover()
    line.get_by_role("button", name="Restore").click()
    expect(line).to_have_count(0)
    assert client.get(f"/api/sessions/{session}").json()["status"] == "active"


@pytest.mark.slow
def test_the_keyboard_goes_everywhere(page, server, client):
    """From the list into a session and to other views; help names the keys."""
    begin(client, "Hi.", model="scripted/plain", title="By keyboard")
    show(page, server, heading="Sessions")
    expect(row(page, "By keyboard")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("By keyboard")
    page.keyboard.press("g")
    page.keyboard.press("a")
    expect(page.locator("h1")).to_have_text("Approvals")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_contain_text("a new session")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("g")
    page.keyboard.press("s")
    expect(page.locator("h1")).to_have_text("Sessions")


@pytest.mark.slow
def test_a_long_list_is_read_on_while_one_scrolls(page, server, client):
    """Every session is reached, and only those near the eye stand on the page."""
    for number in range(350):
        client.post("/api/sessions", json={"model": "echo/echo", "title": f"Long list {number}."})
    show(page, server, "#/sessions?title_contains=Long%20list", heading="Sessions")
    expect(row(page, "Long list 349.")).to_be_visible()
    page.locator(".scroller").hover()
    for _ in range(60):
        page.mouse.wheel(0, 900)
        page.wait_for_timeout(50)
        assert page.locator("li.row").count() < 120
        if row(page, "Long list 0.").count():
            break
    expect(row(page, "Long list 0.")).to_be_visible()
